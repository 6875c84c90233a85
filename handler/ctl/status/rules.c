/* What follows from the facts: the table RULES, read from the top, as the worst comes first. */
#include "handler/ctl/status/words.h"

/* System */
#include <inttypes.h>
#include <string.h>

enum { FULL_PERCENT = 90 };
#define MINUTE_MS    (60 * 1000LL)
#define TOO_OLD_MS   (10 * MINUTE_MS) /* in the spool; the drain takes seconds when the table answers */
#define MAIL_LATE_MS (30 * MINUTE_MS) /* behind its time; a burst may take a while at mail_per_minute */

static uint64_t spool_used(const struct status_facts *f)
{
    if (f->spool_use != SPOOL_KNOWN)
        return 0;
    return f->spool.bytes < f->spool_max_bytes ? f->spool.bytes : f->spool_max_bytes;
}

static int64_t mail_is_late_by_ms(const struct status_facts *f)
{
    return f->mails_known && f->mails_due_ms ? f->now_ms - f->mails_due_ms : 0;
}

/* --- the rules ----------------------------------------------------------------------------------------------- */

static bool refuses_leads(const struct status_facts *f)
{
    return !f->store_answers && !status_spool_takes_leads(f);
}
static void say_refuses(const struct status_facts *f, struct buf *out)
{
    if (f->spool_use != SPOOL_OFF)
        buf_add_text(out, "leads are refused: neither table nor spool works");
    else
        buf_addf(out, "leads are refused: the %s does not answer", f->store_is_table ? "table" : "database");
}

static bool has_lost_leads(const struct status_facts *f)
{
    return f->spool_use == SPOOL_KNOWN && f->spool.lost > 0;
}
static void say_lost(const struct status_facts *f, struct buf *out)
{
    status_add_counted(out, (struct tally){.count = f->spool.lost}, "lead", "leads");
    buf_add_text(out, " lost by damage");
}

static bool is_spool_full(const struct status_facts *f)
{
    return spool_used(f) * 100 > f->spool_max_bytes * FULL_PERCENT;
}
static void say_full(const struct status_facts *f, struct buf *out)
{
    buf_addf(out, "the spool is %" PRIu64 " %% full", spool_used(f) * 100 / f->spool_max_bytes);
}

static bool is_spooling(const struct status_facts *f)
{
    return f->spool_use == SPOOL_KNOWN &&
           (f->spool.table_is_down || (f->spool.leads > 0 && f->local_ms - f->spool.oldest_ms > TOO_OLD_MS));
}
static void say_spooling(const struct status_facts *f, struct buf *out)
{
    if (f->spool.leads == 0) {
        buf_add_text(out, "the table is down since ");
        status_add_age(out, f->local_ms - f->spool.down_since_ms);
        return;
    }
    status_add_counted(out, status_waiting_in_spool(f), "lead waits", "leads wait");
    buf_add_text(out, " in the spool, oldest ");
    status_add_age(out, f->local_ms - f->spool.oldest_ms);
}

/* Where the breaker is open the rule above has said so. */
static bool is_table_silent(const struct status_facts *f)
{
    return !f->store_answers && status_spool_takes_leads(f) && !is_spooling(f);
}
static void say_silent(const struct status_facts *f, struct buf *out)
{
    buf_add_text(out, f->troubles[TROUBLE_TABLE_REFUSED].count ? "no access to the table"
                                                               : "the table does not answer");
}

static bool is_spool_broken(const struct status_facts *f)
{
    return f->spool_use != SPOOL_OFF && f->store_answers && !status_spool_takes_leads(f);
}
static void say_broken(const struct status_facts *f, struct buf *out)
{
    (void)f;
    buf_add_text(out, "the spool cannot take leads");
}

static bool is_spool_damaged(const struct status_facts *f)
{
    return f->spool_use == SPOOL_DAMAGED;
}
static void say_damaged(const struct status_facts *f, struct buf *out)
{
    (void)f;
    buf_add_text(out, "the spool is damaged");
}

static bool has_parked(const struct status_facts *f)
{
    return f->mails_known && f->mails[MAIL_STATE_PARKED].count > 0;
}
static void say_parked(const struct status_facts *f, struct buf *out)
{
    status_add_counted(out, f->mails[MAIL_STATE_PARKED], "mail", "mails");
    buf_add_text(out, " parked");
}

static bool is_mail_paused(const struct status_facts *f)
{
    return f->troubles[TROUBLE_MAIL_PAUSED].count > 0;
}
static void say_paused(const struct status_facts *f, struct buf *out)
{
    if (f->mails[MAIL_STATE_WAITING].count == 0) {
        buf_add_text(out, "the mail server refuses us");
        return;
    }
    status_add_counted(out, f->mails[MAIL_STATE_WAITING], "mail", "mails");
    buf_add_text(out, " paused");
}

static bool is_mail_late(const struct status_facts *f)
{
    return !is_mail_paused(f) && mail_is_late_by_ms(f) > MAIL_LATE_MS;
}
static void say_late(const struct status_facts *f, struct buf *out)
{
    buf_add_text(out, "mail is late by ");
    status_add_age(out, mail_is_late_by_ms(f));
}

static bool has_quarantined(const struct status_facts *f)
{
    return status_in_quarantine(f).count > 0;
}
static void say_quarantined(const struct status_facts *f, struct buf *out)
{
    status_add_count(out, status_in_quarantine(f));
    buf_add_text(out, " in quarantine");
    if (f->quarantine_max_bytes > 0 && f->quarantine_bytes * 100 >= f->quarantine_max_bytes * FULL_PERCENT)
        buf_addf(out, ", which is %" PRIu64 " %% full", f->quarantine_bytes * 100 / f->quarantine_max_bytes);
}

static bool is_relay_missing(const struct status_facts *f)
{
    return f->relay == RELAY_NOBODY;
}
static void say_relay_missing(const struct status_facts *f, struct buf *out)
{
    (void)f;
    buf_add_text(out, "no relay runs");
}

static bool is_silent(const struct status_facts *f)
{
    return f->troubles[TROUBLE_SILENCE].count > 0;
}
static void say_no_leads(const struct status_facts *f, struct buf *out)
{
    buf_add_text(out, "no leads for ");
    status_add_counted(out, f->troubles[TROUBLE_SILENCE], "offer", "offers");
}

static bool is_key_retiring(const struct status_facts *f)
{
    return f->troubles[TROUBLE_KEY_RETIRING].count > 0;
}
static void say_key_retiring(const struct status_facts *f, struct buf *out)
{
    status_add_counted(out, f->troubles[TROUBLE_KEY_RETIRING], "key ends soon", "keys end soon");
}

static bool is_sas_ending(const struct status_facts *f)
{
    return f->troubles[TROUBLE_SAS_ENDING].count > 0;
}
static void say_sas_ending(const struct status_facts *f, struct buf *out)
{
    (void)f;
    buf_add_text(out, "the SAS ends soon");
}

static bool is_certificate_ending(const struct status_facts *f)
{
    return f->troubles[TROUBLE_CERTIFICATE_ENDING].count > 0;
}
static void say_certificate_ending(const struct status_facts *f, struct buf *out)
{
    status_add_counted(out, f->troubles[TROUBLE_CERTIFICATE_ENDING], "certificate ends soon",
                       "certificates end soon");
}

/* A store that does not answer at all has a rule of its own. */
static bool is_half_known(const struct status_facts *f)
{
    return f->store_answers &&
           !(f->mails_known && f->quarantine_known && f->alarms_known && f->troubles_known && f->leads_known);
}
static void say_half_known(const struct status_facts *f, struct buf *out)
{
    (void)f;
    buf_add_text(out, "not everything could be read");
}

static bool is_relay_unknown(const struct status_facts *f)
{
    return f->relay == RELAY_UNKNOWN;
}
static void say_relay_unknown(const struct status_facts *f, struct buf *out)
{
    (void)f;
    buf_add_text(out, "the relay lock cannot be read");
}

static const struct rule {
    enum verdict verdict;
    bool (*applies)(const struct status_facts *facts);
    void (*say)(const struct status_facts *facts, struct buf *out);
} RULES[] = {
    {VERDICT_CRITICAL, refuses_leads, say_refuses},
    {VERDICT_CRITICAL, has_lost_leads, say_lost},
    {VERDICT_CRITICAL, is_spool_full, say_full},
    {VERDICT_WARNING, is_spooling, say_spooling},
    {VERDICT_WARNING, is_table_silent, say_silent},
    {VERDICT_WARNING, is_spool_broken, say_broken},
    {VERDICT_WARNING, is_spool_damaged, say_damaged},
    {VERDICT_WARNING, has_parked, say_parked},
    {VERDICT_WARNING, is_mail_paused, say_paused},
    {VERDICT_WARNING, is_mail_late, say_late},
    {VERDICT_WARNING, has_quarantined, say_quarantined},
    {VERDICT_WARNING, is_relay_missing, say_relay_missing},
    {VERDICT_WARNING, is_sas_ending, say_sas_ending},
    {VERDICT_WARNING, is_certificate_ending, say_certificate_ending},
    {VERDICT_WARNING, is_key_retiring, say_key_retiring},
    {VERDICT_WARNING, is_silent, say_no_leads},
    {VERDICT_UNKNOWN, is_half_known, say_half_known},
    {VERDICT_UNKNOWN, is_relay_unknown, say_relay_unknown},
};
enum { RULE_COUNT = sizeof RULES / sizeof RULES[0] };

const char *verdict_name(enum verdict verdict)
{
    static const char *const names[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};
    return names[verdict];
}

static void say_ok(const struct status_facts *f, struct buf *out)
{
    if (f->lead_last_ms == 0) {
        buf_add_text(out, "no lead yet");
        return;
    }
    buf_add_text(out, "last lead ");
    status_add_age(out, f->now_ms - f->lead_last_ms);
    buf_add_text(out, " ago, ");
    status_add_count(out, f->leads_today);
    buf_add_text(out, " today");
}

/* Whether one more clause fits the line, and behind it how many are left out if it is not the last. */
static bool fits(const struct buf *line, const struct buf *clause, bool is_last)
{
    size_t columns = line->len + strlen("; ") + clause->len + (is_last ? 0 : strlen("; +99 more"));
    return columns <= STATUS_COLUMNS;
}

enum verdict status_judge(const struct status_facts *facts, struct buf *line)
{
    const struct rule *applying[RULE_COUNT] = {NULL};
    size_t count = 0, said = 0;
    for (size_t i = 0; i < RULE_COUNT; i++) {
        if (RULES[i].applies(facts))
            applying[count++] = &RULES[i];
    }
    enum verdict verdict = count ? applying[0]->verdict : VERDICT_OK;
    buf_addf(line, "LEADHOOK %s: ", verdict_name(verdict));
    if (count == 0)
        say_ok(facts, line);
    for (bool room = true; said < count && room; said += room ? 1 : 0) {
        char memory[STATUS_DETAIL_BYTES + 1];
        struct buf clause = BUF_FIXED(memory);
        applying[said]->say(facts, &clause);
        room = said == 0 || fits(line, &clause, said + 1 == count);
        if (room) {
            buf_add_text(line, said ? "; " : "");
            buf_add(line, buf_span(&clause));
        }
    }
    if (said < count)
        buf_addf(line, "; +%zu more", count - said);
    return verdict;
}
