/* For people: the lines below the first one. */
#include "handler/ctl/status/words.h"

/* System */
#include <inttypes.h>
#include <string.h>

/* L0 */
#include "lib/base/text.h"

enum { LABEL_COLUMNS = 12, REASON_LINES = 3 };

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
    char clean_memory[STATUS_DETAIL_BYTES + 1], row_memory[STATUS_DETAIL_BYTES + 1];
    struct buf clean = BUF_FIXED(clean_memory), row = BUF_FIXED(row_memory);
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
    status_add_counted(row, status_waiting_in_spool(f), "lead waits", "leads wait");
    if (f->spool.leads) {
        buf_add_text(row, ", oldest ");
        status_add_age(row, f->local_ms - f->spool.oldest_ms);
    }
    buf_add_text(row, "; ");
    status_add_bytes(row, f->spool.bytes);
    buf_add_text(row, " of ");
    status_add_bytes(row, f->spool_max_bytes);
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
    status_add_counted(row, (struct tally){.count = f->spool.lost}, "lead", "leads");
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
    status_add_count(row, f->mails[MAIL_STATE_WAITING]);
    buf_add_text(row, f->mails[MAIL_STATE_WAITING].count == 1 ? " waits" : " wait");
    if (f->mails_due_ms) {
        bool is_due = f->mails_due_ms <= f->now_ms;
        buf_add_text(row, is_due ? ", oldest due " : ", next due in ");
        status_add_age(row, is_due ? f->now_ms - f->mails_due_ms : f->mails_due_ms - f->now_ms);
        buf_add_text(row, is_due ? " ago" : "");
    }
    buf_add_text(row, "; ");
    status_add_count(row, f->mails[MAIL_STATE_CLAIMED]);
    buf_add_text(row, " claimed, ");
    status_add_count(row, f->mails[MAIL_STATE_SENDING]);
    buf_add_text(row, " sending; ");
    status_add_count(row, f->mails[MAIL_STATE_PARKED]);
    buf_add_text(row, " parked");
}

static void show_quarantine(const struct status_facts *f, struct buf *row)
{
    begin_row(row, "quarantine");
    if (!f->quarantine_known) {
        buf_add_text(row, "not known");
        return;
    }
    struct tally t = status_in_quarantine(f);
    if (t.count == 0) {
        buf_add_text(row, "empty");
        return;
    }
    status_add_counted(row, t, "item waits", "items wait");
    if (f->quarantined_last_ms) {
        buf_add_text(row, ", newest ");
        status_add_age(row, f->now_ms - f->quarantined_last_ms);
        buf_add_text(row, " ago");
    }
    buf_add_text(row, "; ");
    status_add_bytes(row, f->quarantine_bytes);
    buf_add_text(row, " of ");
    status_add_bytes(row, f->quarantine_max_bytes);
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

static size_t lines_of(const struct buf *out)
{
    size_t lines = 0;
    for (size_t i = 0; i < out->len; i++)
        lines += out->data[i] == '\n';
    return lines;
}

/* Half of the lines that leads and their reason leave are for the offers.  The last one is for those that are not shown. */
static void show_troubles(const struct status_facts *f, struct buf *out, struct buf *row)
{
    size_t room = (STATUS_LINES - 1 - lines_of(out) - 1 - REASON_LINES) / 2, count = 0;
    for (size_t i = 0; i < TROUBLE_KINDS; i++)
        count += (size_t)f->troubles[i].count;
    size_t shown = count <= room ? count : room - 1;
    if (shown > f->listed_count)
        shown = f->listed_count;
    begin_row(row, "troubles");
    if (count == 0) {
        buf_add_text(row, f->troubles_known ? "none that last" : "not known");
        end_row(out, row);
        return;
    }
    for (size_t i = 0; i < shown; i++) {
        buf_add_text(row, f->listed[i].title);
        end_row(out, row);
        begin_row(row, "");
    }
    if (shown < count) {
        buf_addf(row, "%zu%s: `leadctl status --json` has all of them", count - shown, shown ? " more" : "");
        end_row(out, row);
    }
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
    status_add_count(row, f->leads_today);
    buf_add_text(row, " today (UTC)");
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
        status_add_count(row, offer->leads);
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
    char memory[STATUS_DETAIL_BYTES + 1];
    struct buf row = BUF_FIXED(memory);
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
    show_troubles(f, out, &row);
    show_leads(f, &row);
    end_row(out, &row);
    show_reason(out, f->unknown_why);
    show_offers(f, out, &row);
}
