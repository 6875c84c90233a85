/* For machines: the same facts as one JSON object. */
#include "handler/ctl/status/words.h"

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/json_write.h"

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
    json_add_bool(w, SPAN_LIT("takes_leads"), status_spool_takes_leads(f));
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

/* By the names of their alarms. */
static void json_troubles(struct json_writer *w, const struct status_facts *f)
{
    json_open(w, SPAN_LIT("troubles"));
    json_add_bool(w, SPAN_LIT("known"), f->troubles_known);
    for (size_t kind = 0; kind < TROUBLE_KINDS; kind++) {
        json_open(w, span_of(trouble_name((enum trouble_kind)kind)));
        for (size_t i = 0; i < f->listed_count; i++) {
            if (f->listed[i].kind == kind)
                json_add_bool(w, span_of(f->listed[i].title), true);
        }
        json_close(w);
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
    char memory[STATUS_DETAIL_BYTES + 1];
    struct buf line = BUF_FIXED(memory);
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
    json_tally(&w, "waiting", status_in_quarantine(f));
    json_time(&w, "newest", f->quarantined_last_ms);
    json_add_number(&w, SPAN_LIT("bytes"), (int64_t)f->quarantine_bytes);
    json_add_number(&w, SPAN_LIT("max_bytes"), (int64_t)f->quarantine_max_bytes);
    json_close(&w);
    json_open(&w, SPAN_LIT("alarms"));
    json_add_bool(&w, SPAN_LIT("known"), f->alarms_known);
    json_alarms(&w, f, "today", true);
    json_alarms(&w, f, "yesterday", false);
    json_close(&w);
    json_troubles(&w, f);
    json_leads(&w, f);
    return json_end(&w, "the status", why);
}
