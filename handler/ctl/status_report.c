/* The rules are the table RULES: read it from the top, the worst comes first. */
#include "handler/ctl/status.h"

/* System */
#include <inttypes.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/json_write.h"
#include "lib/base/text.h"

enum { SPOOL_FULL_PERCENT = 90, LABEL_COLUMNS = 12, REASON_LINES = 3, DETAIL_BYTES = 4096 };
#define MINUTE_MS    (60 * 1000LL)
#define TOO_OLD_MS   (10 * MINUTE_MS) /* in the spool; the drain takes seconds when the table answers */
#define MAIL_LATE_MS (30 * MINUTE_MS) /* behind its time; a burst may take a while at mail_per_minute */

/* --- words --------------------------------------------------------------------------------------------------- */

void status_add_age(struct buf *out, int64_t ms)
{
    int64_t seconds = ms > 0 ? ms / 1000 : 0;
    if (seconds < 60)
        buf_addf(out, "%" PRId64 " s", seconds);
    else if (seconds < 60 * 60)
        buf_addf(out, "%" PRId64 " min", seconds / 60);
    else if (seconds < 48 * 60 * 60)
        buf_addf(out, "%" PRId64 " h", seconds / (60 * 60));
    else
        buf_addf(out, "%" PRId64 " days", seconds / (24 * 60 * 60));
}

static void add_bytes(struct buf *out, uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    uint64_t tenths = bytes * 10;
    for (; tenths >= 10240 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        tenths /= 1024;
    if (unit == 0 || tenths % 10 == 0)
        buf_addf(out, "%" PRIu64 " %s", tenths / 10, units[unit]);
    else
        buf_addf(out, "%" PRIu64 ".%" PRIu64 " %s", tenths / 10, tenths % 10, units[unit]);
}

static void add_count(struct buf *out, struct tally t)
{
    buf_addf(out, "%" PRIu64 "%s", t.count, t.more ? "+" : "");
}

/* "1 lead waits", "12 leads wait", "1000+ leads wait". */
static void add_counted(struct buf *out, struct tally t, const char *one, const char *many)
{
    add_count(out, t);
    buf_addf(out, " %s", t.count == 1 && !t.more ? one : many);
}

void status_add_line(struct buf *out, struct span text)
{
    struct buf clean = BUF_INIT(4 * DETAIL_BYTES);
    text_add_line(&clean, text);
    struct span rest = buf_span(&clean);
    size_t columns = 0, keep = 0; /* bytes of the first characters, as many as fit with "..." behind them */
    for (size_t at = 0; at < rest.len; columns++) {
        uint32_t code;
        size_t len = utf8_decode(span_from(rest, at), &code);
        at += len ? len : 1;
        if (columns + 1 == STATUS_COLUMNS - 3)
            keep = at;
    }
    if (columns <= STATUS_COLUMNS) {
        buf_add(out, rest);
    } else {
        buf_add(out, span_cut(rest, 0, keep));
        buf_add_text(out, "...");
    }
    buf_add_char(out, '\n');
    buf_release(&clean);
}

/* --- what the rules ask -------------------------------------------------------------------------------------- */

static struct tally waiting_in_spool(const struct status_facts *f)
{
    return (struct tally){.count = f->spool.leads};
}

static uint64_t spool_used(const struct status_facts *f)
{
    if (f->spool_use != SPOOL_KNOWN)
        return 0;
    return f->spool.bytes < f->spool_max_bytes ? f->spool.bytes : f->spool_max_bytes;
}

static bool spool_takes_leads(const struct status_facts *f)
{
    switch (f->spool_use) {
    case SPOOL_KNOWN:
    case SPOOL_NOT_MADE:
    case SPOOL_DAMAGED:
        return f->spool_is_writable;
    case SPOOL_OFF:
    case SPOOL_UNREADABLE:
        break;
    }
    return false;
}

static struct tally in_quarantine(const struct status_facts *f)
{
    struct tally t = f->quarantined;
    t.count += f->spool_use == SPOOL_KNOWN ? f->spool.quarantined : 0;
    return t;
}

static bool has_alarm(const struct status_facts *f, enum alarm alarm)
{
    for (size_t i = 0; i < f->alarm_count; i++) {
        if (f->alarms[i].is_today && strcmp(f->alarms[i].name, alarm_name(alarm)) == 0)
            return true;
    }
    return false;
}

static int64_t mail_is_late_by_ms(const struct status_facts *f)
{
    return f->mails_known && f->mails_due_ms ? f->now_ms - f->mails_due_ms : 0;
}

/* --- the rules ----------------------------------------------------------------------------------------------- */

static bool refuses_leads(const struct status_facts *f)
{
    return !f->store_answers && !spool_takes_leads(f);
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
    add_counted(out, (struct tally){.count = f->spool.lost}, "lead", "leads");
    buf_add_text(out, " lost by damage");
}

static bool is_spool_full(const struct status_facts *f)
{
    return spool_used(f) * 100 > f->spool_max_bytes * SPOOL_FULL_PERCENT;
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
    add_counted(out, waiting_in_spool(f), "lead waits", "leads wait");
    buf_add_text(out, " in the spool, oldest ");
    status_add_age(out, f->local_ms - f->spool.oldest_ms);
}

/* Where the breaker is open the rule above has said so. */
static bool is_table_silent(const struct status_facts *f)
{
    return !f->store_answers && spool_takes_leads(f) && !is_spooling(f);
}
static void say_silent(const struct status_facts *f, struct buf *out)
{
    (void)f;
    buf_add_text(out, "the table does not answer");
}

static bool is_spool_broken(const struct status_facts *f)
{
    return f->spool_use != SPOOL_OFF && f->store_answers && !spool_takes_leads(f);
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
    add_counted(out, f->mails[MAIL_STATE_PARKED], "mail", "mails");
    buf_add_text(out, " parked");
}

/* The alarm stays until the day ends; mail that waits behind its time is what tells that the pause lasts. */
static bool is_mail_paused(const struct status_facts *f)
{
    return has_alarm(f, ALARM_MAIL_PAUSED) && mail_is_late_by_ms(f) > 0;
}
static void say_paused(const struct status_facts *f, struct buf *out)
{
    add_counted(out, f->mails[MAIL_STATE_WAITING], "mail", "mails");
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
    return in_quarantine(f).count > 0;
}
static void say_quarantined(const struct status_facts *f, struct buf *out)
{
    add_count(out, in_quarantine(f));
    buf_add_text(out, " in quarantine");
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

/* A store that does not answer at all has a rule of its own. */
static bool is_half_known(const struct status_facts *f)
{
    return f->store_answers && !(f->mails_known && f->quarantine_known && f->alarms_known && f->leads_known);
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
    add_count(out, f->leads_today);
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
        struct buf clause = BUF_INIT(DETAIL_BYTES);
        applying[said]->say(facts, &clause);
        room = said == 0 || fits(line, &clause, said + 1 == count);
        if (room) {
            buf_add_text(line, said ? "; " : "");
            buf_add(line, buf_span(&clause));
        }
        buf_release(&clause);
    }
    if (said < count)
        buf_addf(line, "; +%zu more", count - said);
    return verdict;
}

/* --- the screen ---------------------------------------------------------------------------------------------- */

static void begin_row(struct buf *row, const char *label)
{
    buf_reset(row);
    buf_addf(row, "%-*s", LABEL_COLUMNS, label);
}

static void end_row(struct buf *out, struct buf *row)
{
    status_add_line(out, buf_span(row));
}

/* A reason below its row, broken at spaces into a few lines; most tell at their end what to do. */
static void show_reason(struct buf *out, const char *reason)
{
    struct buf clean = BUF_INIT(DETAIL_BYTES), row = BUF_INIT(DETAIL_BYTES);
    text_add_line(&clean, span_of(reason));
    struct span rest = buf_span(&clean);
    for (int lines = 1; rest.len; lines++) {
        struct span part = utf8_cut_bytes(rest, STATUS_COLUMNS - LABEL_COLUMNS);
        size_t space = span_find_last(part, ' ');
        if (lines == REASON_LINES)
            part = rest; /* cut to the screen's width with all other rows */
        else if (part.len < rest.len && space != SPAN_NONE && space > 0)
            part = span_cut(part, 0, space);
        begin_row(&row, "");
        buf_add(&row, part);
        end_row(out, &row);
        rest = span_trim(span_from(rest, part.len));
    }
    buf_release(&row);
    buf_release(&clean);
}

static void show_store(const struct status_facts *f, struct buf *row)
{
    begin_row(row, "store");
    buf_addf(row, "%s %s", f->store_name, f->store_answers ? "answers" : "does not answer:");
}

static void show_spool(const struct status_facts *f, struct buf *row)
{
    begin_row(row, "spool");
    switch (f->spool_use) {
    case SPOOL_OFF:
        buf_add_text(row, f->store_is_table ? "off: while the table is down leads are answered 503"
                                            : "not used: the store is on this machine");
        return;
    case SPOOL_NOT_MADE:
        buf_add_text(row, f->spool_is_writable ? "not made yet" : f->spool_why);
        return;
    case SPOOL_DAMAGED:
        buf_add_text(row, "damaged: the next lead begins a new one beside it");
        return;
    case SPOOL_UNREADABLE:
        buf_addf(row, "cannot be read: %s", f->spool_why);
        return;
    case SPOOL_KNOWN:
        break;
    }
    add_counted(row, waiting_in_spool(f), "lead waits", "leads wait");
    if (f->spool.leads) {
        buf_add_text(row, ", oldest ");
        status_add_age(row, f->local_ms - f->spool.oldest_ms);
    }
    buf_add_text(row, "; ");
    add_bytes(row, f->spool.bytes);
    buf_add_text(row, " of ");
    add_bytes(row, f->spool_max_bytes);
    buf_addf(row, "; %u generation%s", f->spool.generations, f->spool.generations == 1 ? "" : "s");
}

static void show_breaker(const struct status_facts *f, struct buf *row)
{
    begin_row(row, "breaker");
    if (!f->spool.table_is_down) {
        buf_add_text(row, "closed: leads go to the table");
        return;
    }
    buf_add_text(row, "open for ");
    status_add_age(row, f->local_ms - f->spool.down_since_ms);
    buf_add_text(row, ", next try in ");
    status_add_age(row, f->spool.next_probe_ms - f->local_ms);
    buf_add_text(row, f->spool.reason[0] ? ":" : "");
}

static void show_lost(const struct status_facts *f, struct buf *row)
{
    begin_row(row, "damage");
    if (f->spool.lost == 0) {
        buf_add_text(row, "no lead lost");
        return;
    }
    add_counted(row, (struct tally){.count = f->spool.lost}, "lead", "leads");
    buf_add_text(row, " lost: `leadctl spool` says which");
}

static void show_relay(const struct status_facts *f, struct buf *row)
{
    begin_row(row, "relay");
    switch (f->relay) {
    case RELAY_NOT_NEEDED:
        buf_add_text(row, "not needed: there is nothing to send");
        return;
    case RELAY_NOBODY:
        buf_add_text(row, "nobody holds the lock: start leadhook, or `leadctl relay --once`");
        return;
    case RELAY_PROCESS:
        buf_addf(row, "process %ld holds the lock", f->relay_pid);
        return;
    case RELAY_UNSEEN:
        buf_add_text(row, "a process that cannot be seen from here holds the lock");
        return;
    case RELAY_UNKNOWN:
        buf_add_text(row, f->relay_why);
        return;
    }
}

static void show_mails(const struct status_facts *f, struct buf *row)
{
    begin_row(row, "mails");
    if (!f->mails_known) {
        buf_add_text(row, "not known");
        return;
    }
    if (!f->mail_is_on && f->mails[MAIL_STATE_WAITING].count == 0 && f->mails[MAIL_STATE_PARKED].count == 0) {
        buf_add_text(row, "off: nobody is told of leads");
        return;
    }
    add_count(row, f->mails[MAIL_STATE_WAITING]);
    buf_add_text(row, f->mails[MAIL_STATE_WAITING].count == 1 ? " waits" : " wait");
    if (f->mails_due_ms) {
        bool is_due = f->mails_due_ms <= f->now_ms;
        buf_add_text(row, is_due ? ", oldest due " : ", next due in ");
        status_add_age(row, is_due ? f->now_ms - f->mails_due_ms : f->mails_due_ms - f->now_ms);
        buf_add_text(row, is_due ? " ago" : "");
    }
    buf_add_text(row, "; ");
    add_count(row, f->mails[MAIL_STATE_CLAIMED]);
    buf_add_text(row, " claimed, ");
    add_count(row, f->mails[MAIL_STATE_SENDING]);
    buf_add_text(row, " sending; ");
    add_count(row, f->mails[MAIL_STATE_PARKED]);
    buf_add_text(row, " parked");
}

static void show_quarantine(const struct status_facts *f, struct buf *row)
{
    begin_row(row, "quarantine");
    if (!f->quarantine_known) {
        buf_add_text(row, "not known");
        return;
    }
    struct tally t = in_quarantine(f);
    if (t.count == 0) {
        buf_add_text(row, "empty");
        return;
    }
    add_counted(row, t, "item waits", "items wait");
    buf_add_text(row, " for a person");
    if (f->quarantined_last_ms) {
        buf_add_text(row, ", newest ");
        status_add_age(row, f->now_ms - f->quarantined_last_ms);
        buf_add_text(row, " ago");
    }
}

static void add_alarms(const struct status_facts *f, bool today, struct buf *row)
{
    size_t shown = 0;
    for (size_t i = 0; i < f->alarm_count; i++) {
        if (f->alarms[i].is_today == today)
            buf_addf(row, "%s%s", shown++ ? ", " : "", f->alarms[i].name);
    }
    buf_add_text(row, shown ? "" : "none");
}

static void show_alarms(const struct status_facts *f, struct buf *row)
{
    begin_row(row, "alarms");
    if (!f->alarms_are_on) {
        buf_add_text(row, "off: nobody is told of trouble (alarm_to)");
        return;
    }
    if (!f->alarms_known) {
        buf_add_text(row, "not known");
        return;
    }
    buf_add_text(row, "today: ");
    add_alarms(f, true, row);
    buf_add_text(row, "; yesterday: ");
    add_alarms(f, false, row);
}

static void show_leads(const struct status_facts *f, struct buf *row)
{
    begin_row(row, "leads");
    if (!f->leads_known) {
        buf_add_text(row, "not known");
        return;
    }
    if (f->lead_last_ms) {
        buf_add_text(row, "last ");
        status_add_age(row, f->now_ms - f->lead_last_ms);
        buf_add_text(row, " ago; ");
    } else {
        buf_add_text(row, "none yet; ");
    }
    add_count(row, f->leads_today);
    buf_add_text(row, " today (UTC)");
}

static size_t lines_of(const struct buf *out)
{
    size_t lines = 0;
    for (size_t i = 0; i < out->len; i++)
        lines += out->data[i] == '\n';
    return lines;
}

/* As many as there are lines left, the last one for those that are not shown. */
static void show_offers(const struct status_facts *f, struct buf *out, struct buf *row)
{
    size_t room = STATUS_LINES - 2 - lines_of(out);
    size_t most = room < STATUS_OFFERS ? room : STATUS_OFFERS;
    size_t shown = f->offers_today.count < most ? (size_t)f->offers_today.count : most;
    for (size_t i = 0; i < shown; i++) {
        const struct offer_today *offer = &f->offers[i];
        begin_row(row, "");
        /* A long name is cut so that the numbers behind it stay on the screen. */
        struct span name = utf8_cut_bytes(span_of(offer->name), 44);
        buf_addf(row, "%.*s%s  ", SPAN_FMT(name), name.len < strlen(offer->name) ? "..." : "");
        add_count(row, offer->leads);
        buf_add_text(row, ", last ");
        status_add_age(row, f->now_ms - offer->last_ms);
        buf_add_text(row, " ago");
        end_row(out, row);
    }
    if (f->offers_today.count > shown || f->offers_today.more) {
        begin_row(row, "");
        buf_addf(row, "and %" PRIu64 "%s more", f->offers_today.count - shown,
                 f->offers_today.more ? "+" : "");
        end_row(out, row);
    }
}

void status_screen(const struct status_facts *facts, struct buf *out)
{
    const struct status_facts *f = facts;
    struct buf row = BUF_INIT(DETAIL_BYTES);
    show_store(f, &row);
    end_row(out, &row);
    show_reason(out, f->store_answers ? "" : f->store_why);
    show_spool(f, &row);
    end_row(out, &row);
    show_reason(out, f->spool_use == SPOOL_KNOWN && !f->spool_is_writable ? f->spool_why : "");
    if (f->spool_use == SPOOL_KNOWN) {
        show_breaker(f, &row);
        end_row(out, &row);
        show_reason(out, f->spool.table_is_down ? f->spool.reason : "");
        show_lost(f, &row);
        end_row(out, &row);
    }
    show_relay(f, &row);
    end_row(out, &row);
    show_mails(f, &row);
    end_row(out, &row);
    show_quarantine(f, &row);
    end_row(out, &row);
    show_alarms(f, &row);
    end_row(out, &row);
    show_leads(f, &row);
    end_row(out, &row);
    show_reason(out, f->unknown_why);
    show_offers(f, out, &row);
    buf_release(&row);
}

/* --- for machines -------------------------------------------------------------------------------------------- */

static void json_tally(struct json_writer *w, const char *name, struct tally t)
{
    json_open(w, span_of(name));
    json_add_number(w, SPAN_LIT("count"), (int64_t)t.count);
    json_add_bool(w, SPAN_LIT("more"), t.more);
    json_close(w);
}

/* Nothing where there is no time. */
static void json_time(struct json_writer *w, const char *name, int64_t ms)
{
    char text[CLOCK_TEXT_BYTES];
    if (ms == 0)
        return;
    clock_iso_time(ms, text);
    json_add_text(w, span_of(name), span_of(text));
}

static void json_spool(struct json_writer *w, const struct status_facts *f)
{
    static const char *const uses[] = {"off", "not made", "known", "damaged", "unreadable"};
    json_open(w, SPAN_LIT("spool"));
    json_add_text(w, SPAN_LIT("use"), span_of(uses[f->spool_use]));
    json_add_text(w, SPAN_LIT("reason"), span_of(f->spool_why));
    json_add_bool(w, SPAN_LIT("takes_leads"), spool_takes_leads(f));
    if (f->spool_use == SPOOL_KNOWN) {
        json_add_number(w, SPAN_LIT("leads"), (int64_t)f->spool.leads);
        json_add_number(w, SPAN_LIT("quarantined"), (int64_t)f->spool.quarantined);
        json_time(w, "oldest", f->spool.oldest_ms);
        json_add_number(w, SPAN_LIT("bytes"), (int64_t)f->spool.bytes);
        json_add_number(w, SPAN_LIT("max_bytes"), (int64_t)f->spool_max_bytes);
        json_add_number(w, SPAN_LIT("generations"), (int64_t)f->spool.generations);
        json_add_number(w, SPAN_LIT("lost"), (int64_t)f->spool.lost);
        json_add_bool(w, SPAN_LIT("table_is_down"), f->spool.table_is_down);
        json_time(w, "down_since", f->spool.table_is_down ? f->spool.down_since_ms : 0);
        json_time(w, "next_probe", f->spool.table_is_down ? f->spool.next_probe_ms : 0);
        json_add_text(w, SPAN_LIT("down_reason"), span_of(f->spool.reason));
    }
    json_close(w);
}

static void json_relay(struct json_writer *w, const struct status_facts *f)
{
    static const char *const holders[] = {"not needed", "nobody", "process", "out of sight", "unknown"};
    json_open(w, SPAN_LIT("relay"));
    json_add_text(w, SPAN_LIT("holder"), span_of(holders[f->relay]));
    if (f->relay == RELAY_PROCESS)
        json_add_number(w, SPAN_LIT("pid"), f->relay_pid);
    json_close(w);
}

static void json_mails(struct json_writer *w, const struct status_facts *f)
{
    json_open(w, SPAN_LIT("mails"));
    json_add_bool(w, SPAN_LIT("known"), f->mails_known);
    if (f->mails_known) {
        json_tally(w, "waiting", f->mails[MAIL_STATE_WAITING]);
        json_tally(w, "claimed", f->mails[MAIL_STATE_CLAIMED]);
        json_tally(w, "sending", f->mails[MAIL_STATE_SENDING]);
        json_tally(w, "parked", f->mails[MAIL_STATE_PARKED]);
        json_time(w, "due", f->mails_due_ms);
    }
    json_close(w);
}

static void json_alarms(struct json_writer *w, const struct status_facts *f, const char *name, bool today)
{
    json_open(w, span_of(name));
    for (size_t i = 0; i < f->alarm_count; i++) {
        if (f->alarms[i].is_today == today)
            json_add_bool(w, span_of(f->alarms[i].name), true);
    }
    json_close(w);
}

static void json_leads(struct json_writer *w, const struct status_facts *f)
{
    size_t shown = f->offers_today.count < STATUS_OFFERS ? (size_t)f->offers_today.count : STATUS_OFFERS;
    json_open(w, SPAN_LIT("leads"));
    json_add_bool(w, SPAN_LIT("known"), f->leads_known);
    json_time(w, "last", f->lead_last_ms);
    json_tally(w, "today", f->leads_today);
    json_tally(w, "offers_today", f->offers_today);
    json_open(w, SPAN_LIT("by_offer"));
    for (size_t i = 0; i < shown; i++)
        json_tally(w, f->offers[i].name, f->offers[i].leads);
    json_close(w);
    json_close(w);
}

enum status status_json(const struct status_facts *facts, struct buf *out, struct fail *why)
{
    const struct status_facts *f = facts;
    struct buf line = BUF_INIT(DETAIL_BYTES);
    struct json_writer w;
    enum verdict verdict = status_judge(f, &line);
    json_begin(&w, out);
    json_add_number(&w, SPAN_LIT("code"), (int64_t)verdict);
    json_add_text(&w, SPAN_LIT("state"), span_of(verdict_name(verdict)));
    json_add_text(&w, SPAN_LIT("summary"), buf_span(&line));
    json_time(&w, "time", f->now_ms);
    json_open(&w, SPAN_LIT("store"));
    json_add_text(&w, SPAN_LIT("kind"), f->store_is_table ? SPAN_LIT("table") : SPAN_LIT("sqlite"));
    json_add_bool(&w, SPAN_LIT("answers"), f->store_answers);
    json_add_text(&w, SPAN_LIT("reason"), span_of(f->store_why));
    json_close(&w);
    json_spool(&w, f);
    json_relay(&w, f);
    json_mails(&w, f);
    json_open(&w, SPAN_LIT("quarantine"));
    json_add_bool(&w, SPAN_LIT("known"), f->quarantine_known);
    json_tally(&w, "waiting", in_quarantine(f));
    json_time(&w, "newest", f->quarantined_last_ms);
    json_close(&w);
    json_open(&w, SPAN_LIT("alarms"));
    json_add_bool(&w, SPAN_LIT("known"), f->alarms_known);
    json_alarms(&w, f, "today", true);
    json_alarms(&w, f, "yesterday", false);
    json_close(&w);
    json_leads(&w, f);
    buf_release(&line);
    return json_end(&w, "the status", why);
}
