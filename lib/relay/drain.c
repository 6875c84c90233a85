#include "lib/relay/drain.h"

/* System */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* L0 */
#include "lib/base/backoff.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"

/* L6 */
#include "lib/store/offers.h"
#include "lib/store/quarantine.h"

/* L7 */
#include "lib/relay/relay_socket.h"

enum {
    PAGE_ROWS = LIMIT_BATCH_OPERATIONS,
    TABLE_WAIT_MS = 30000, /* for one transaction and what it takes to settle it: the service's own limit */
    SPOOL_WAIT_MS = 10000,
    ALARM_WAIT_MS = 10000,
    POSTPONED_FIRST_MS = 1000,
    POSTPONED_LEAD_MS = 600000,     /* at most: nothing waits for a single row */
    POSTPONED_PARTITION_MS = 30000, /* at most, or what the service asks for */
    SALVAGE_RETRY_MS = 10000,
    SALVAGE_TRIES = 30 /* before what cannot be read counts as destroyed */
};

/* A row (by its key) or a partition that failed while the table works: it is left alone for a while. */
struct postponed {
    char name[LIMIT_PARTITION_KEY_BYTES + 1]; /* "": unused */
    unsigned int tries;
    int64_t due_ms;
};

struct drain {
    struct drain_options options;
    struct store *table;
    struct offers *offers;
    struct spool *spool;
    struct store *current; /* the spool's current generation */
    unsigned int generation;
    bool is_salvaged; /* all that was in older generations is in it, or known to be lost */
    int64_t salvaged_ms;
    int salvage_tries;
    int hint_fd;
    bool was_spooling; /* since the spool was empty for the last time */
    bool audited;      /* the spool is empty, and its ledger too */
    struct alarm_days alarm_days;
    struct postponed postponed[LIMIT_POSTPONED];
};

/* One page of spooled leads in work. */
struct page_work {
    struct drain *drain;
    enum breaker_way way;
    struct arena arena;
    struct page page;
    struct lead leads[PAGE_ROWS];
    struct lead_write writes[PAGE_ROWS];
    bool taken[PAGE_ROWS];      /* handled in this pass, one way or the other */
    bool is_refused[PAGE_ROWS]; /* for good, by a table that works */
    bool tried;                 /* something was sent to the table */
    bool table_failed;          /* no use in going on */
};

static bool stopping(const struct drain *d)
{
    return d->options.stop && atomic_load(d->options.stop);
}

/* Once a day; in the table or, with spool, there. */
static void raise_alarm(struct drain *d, struct spool *spool, enum alarm alarm, const char *text)
{
    struct fail why;
    if (!d->options.raises_alarms || !alarm_day_take(&d->alarm_days, alarm, store_now_ms(d->table)))
        return;
    int64_t deadline_ms = clock_monotonic_ms() + ALARM_WAIT_MS;
    enum status status = spool ? spool_raise(spool, alarm, text, deadline_ms, &why)
                               : alarm_raise(d->table, alarm, text, deadline_ms, &why);
    if (status != ST_OK && status != ST_EXISTS) {
        alarm_day_give_back(&d->alarm_days, alarm);
        log_failure(LOG_LEVEL_ERROR, "alarm-not-raised", &why, "alarm=%s", alarm_name(alarm));
    }
}

/* --- what is left alone for a while --------------------------------------------------------------------------- */

static struct postponed *find_postponed(struct drain *d, struct span name)
{
    for (size_t i = 0; i < LIMIT_POSTPONED; i++) {
        if (name.len && span_eq(span_of(d->postponed[i].name), name))
            return &d->postponed[i];
    }
    return NULL;
}

static bool is_postponed(struct drain *d, struct span name)
{
    const struct postponed *p = find_postponed(d, name);
    return p && clock_monotonic_ms() < p->due_ms;
}

static void forget_postponed(struct drain *d, struct span name)
{
    struct postponed *p = find_postponed(d, name);
    if (p)
        *p = (struct postponed){0};
}

/* The entry for the name; where there is none, a free one, or that of what is due first. */
static struct postponed *entry_for(struct drain *d, struct span name)
{
    struct postponed *entry = find_postponed(d, name);
    if (entry)
        return entry;
    entry = &d->postponed[0];
    for (size_t i = 1; i < LIMIT_POSTPONED && entry->name[0]; i++) {
        if (!d->postponed[i].name[0] || d->postponed[i].due_ms < entry->due_ms)
            entry = &d->postponed[i];
    }
    *entry = (struct postponed){0};
    if (name.len < sizeof entry->name)
        memcpy(entry->name, name.ptr, name.len);
    return entry;
}

static void postpone(struct drain *d, struct span name, int64_t most_ms, int retry_after_s)
{
    struct postponed *entry = entry_for(d, name);
    entry->tries++;
    int64_t wait_ms = clock_long_wait_ms(backoff_ms(entry->tries, POSTPONED_FIRST_MS, most_ms));
    entry->due_ms = clock_monotonic_ms() + backoff_or_asked_ms(wait_ms, retry_after_s);
}

static void report_lost(struct drain *d, uint64_t lost)
{
    if (lost == 0)
        return;
    log_event(LOG_LEVEL_ERROR, "leads-lost", "count=%llu", (unsigned long long)lost);
    if (d->options.on_lost)
        d->options.on_lost(d->options.context, lost);
}

/* --- the breaker --------------------------------------------------------------------------------------------- */

static void table_failed(const struct page_work *w, const struct fail *why)
{
    struct drain *d = w->drain;
    char text[LIMIT_ALARM_TEXT_BYTES];
    if (!breaker_failed(d->spool, w->way, why))
        return;
    alarm_text_of_outage(why, text);
    raise_alarm(d, d->spool, ALARM_SPOOLING, text);
    if (d->options.on_breaker)
        d->options.on_breaker(d->options.context, true, why);
}

static void table_worked(struct drain *d)
{
    if (breaker_worked(d->spool) && d->options.on_breaker)
        d->options.on_breaker(d->options.context, false, NULL);
}

/* --- damage -------------------------------------------------------------------------------------------------- */

/* Makes sure that `current` is the current generation, and that those before it were gone through. */
static enum status open_current(struct drain *d, struct fail *why)
{
    struct salvage result = {0};
    enum status status = ST_OK;
    if (!d->current || !spool_is_current(d->spool, d->current, d->generation)) {
        store_close(d->current);
        d->current = NULL;
        d->audited = false;
        d->is_salvaged = false;
        d->salvaged_ms = 0;
        d->salvage_tries = 0;
        status = spool_open_current(d->spool, &d->current, &d->generation, why);
    }
    if (status != ST_OK || d->is_salvaged ||
        (d->salvaged_ms && clock_monotonic_ms() - d->salvaged_ms < clock_long_wait_ms(SALVAGE_RETRY_MS)))
        return status;
    d->salvage_tries++;
    status =
        spool_salvage(d->spool, d->current, d->generation, d->salvage_tries >= SALVAGE_TRIES, &result, why);
    d->is_salvaged = status == ST_OK && result.complete;
    d->salvaged_ms = clock_monotonic_ms();
    if (result.rescued > 0)
        log_event(LOG_LEVEL_WARNING, "spool-salvaged", "rescued=%llu", (unsigned long long)result.rescued);
    if (status == ST_OK && !result.complete)
        log_event(LOG_LEVEL_WARNING, "spool-not-salvaged", "note=an-old-generation-cannot-be-read-now");
    report_lost(d, result.lost);
    return status;
}

/* The spool's own failure: a damaged generation is left, and everything begins anew with the next pass. */
static enum status spool_failed(struct drain *d, enum status status, struct fail *why)
{
    struct fail left;
    if (status == ST_DAMAGED) {
        log_failure(LOG_LEVEL_ERROR, "spool-damaged", why, "generation=%u", d->generation);
        if (spool_leave_generation(d->spool, d->generation, &left) != ST_OK)
            *why = left;
    }
    store_close(d->current);
    d->current = NULL;
    return status;
}

/* --- leads --------------------------------------------------------------------------------------------------- */

static bool is_permanent(enum status status)
{
    return status == ST_REFUSED || status == ST_INVALID || status == ST_TOO_LARGE || status == ST_BUG;
}

/* Keeps a lead that the table refuses for good: the raw body, or where there is none what we know of it. */
static enum status quarantine(struct page_work *w, size_t index, struct fail *why)
{
    struct drain *d = w->drain;
    const struct delivery *delivery = &w->writes[index].delivery;
    char text[LIMIT_ALARM_TEXT_BYTES];
    struct buf row = BUF_INIT(LIMIT_ENTITY_JSON_BYTES);
    struct quarantined item;
    enum status status = quarantined_of_lead(delivery, &row, &item, why);
    item.reason = span_of(w->writes[index].why.text);
    if (status == ST_OK)
        status = quarantine_put(d->table, &item, &QUARANTINE_IN_ANY_CASE,
                                clock_monotonic_ms() + TABLE_WAIT_MS, why);
    buf_release(&row);
    if (status == ST_OK) {
        log_failure(LOG_LEVEL_ERROR, "quarantined", &w->writes[index].why, "id=%s", delivery->id);
        (void)snprintf(
            text, sizeof text,
            "The table refuses a spooled lead for good (%s); it is kept. `leadctl quarantine list` shows "
            "it.",
            w->writes[index].why.text);
        raise_alarm(d, NULL, ALARM_QUARANTINED, text);
    }
    return status;
}

/* Commits so many leads of one partition; those that stay have their failure in them. */
static void commit(struct page_work *w, struct lead_write **leads, size_t count)
{
    struct drain *d = w->drain;
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct fail why;
    int64_t deadline_ms = clock_monotonic_ms() + TABLE_WAIT_MS;
    enum status status = ST_OK;
    for (size_t i = 0; i < count && status == ST_OK; i++)
        status = offers_ensure(d->offers, d->table, NULL, &leads[i]->delivery, deadline_ms, &why);
    if (status == ST_OK)
        leads_commit(d->table, &d->options.rules, leads, count, deadline_ms, &arena);
    for (size_t i = 0; i < count && status != ST_OK; i++) {
        leads[i]->status = status;
        leads[i]->why = why;
    }
    arena_release(&arena);
}

/* Moves those that are not stored yet to the front, in their order; gives how many. */
static size_t keep_open(struct lead_write **leads, size_t count)
{
    size_t open = 0;
    for (size_t i = 0; i < count; i++) {
        if (leads[i]->status != ST_OK)
            leads[open++] = leads[i];
    }
    return open;
}

static const struct lead_write *first_failed(struct lead_write *const *leads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!is_permanent(leads[i]->status))
            return leads[i];
    }
    return NULL;
}

static bool table_works(struct drain *d)
{
    return store_probe(d->table, clock_monotonic_ms() + TABLE_WAIT_MS, NULL) == ST_OK;
}

static struct span partition_of(const struct lead_write *lead)
{
    return span_of(lead->delivery.lead->partition);
}

static struct span row_key_of(const struct page_work *w, const struct lead_write *lead)
{
    return w->page.rows[lead - w->writes].row_key;
}

/* Commits leads of one partition.  What fails although the table works is halved until
 * the lead that makes it fail is alone; or the partition is left alone for a while. */
/* NOLINTNEXTLINE(misc-no-recursion): seven deep at most, as a page has a hundred leads */
static void commit_or_halve(struct page_work *w, struct lead_write **leads, size_t count)
{
    struct drain *d = w->drain;
    commit(w, leads, count);
    count = keep_open(leads, count);
    if (count == 0 || stopping(d))
        return;
    const struct lead_write *failed = first_failed(leads, count);
    bool is_refused = !failed;
    failed = failed ? failed : leads[0];
    struct fail why = failed->why;
    /* Refused as a whole, or without an answer: it may be the fault of one. */
    bool may_be_one = is_refused || ((failed->status == ST_UNKNOWN || failed->status == ST_DENIED) &&
                                     why.retry_after_s == 0);
    if (!table_works(d)) {
        log_failure(LOG_LEVEL_WARNING, "not-drained", &why, "id=%s", failed->delivery.id);
        table_failed(w, &why);
        w->table_failed = true;
    } else if (may_be_one && count > 1) {
        commit_or_halve(w, leads, count / 2);
        if (!w->table_failed && !is_postponed(d, partition_of(failed)))
            commit_or_halve(w, leads + count / 2, count - count / 2);
    } else if (!is_refused) {
        log_failure(LOG_LEVEL_WARNING, "not-drained", &why, "id=%s", failed->delivery.id);
        if (may_be_one)
            postpone(d, row_key_of(w, failed), POSTPONED_LEAD_MS, 0);
        else /* it is throttled, or its rows keep changing */
            postpone(d, partition_of(failed), POSTPONED_PARTITION_MS, why.retry_after_s);
    } else {
        w->is_refused[failed - w->writes] = true;
    }
}

/* An attempt without an answer: should the next one find that others have written since, it must know. */
static void mark_uncertain(struct page_work *w, const size_t *indexes, size_t count)
{
    struct drain *d = w->drain;
    struct operation operations[PAGE_ROWS];
    struct fail why;
    size_t failed, marked = 0;
    bool enough = true;
    for (size_t i = 0; i < count; i++) {
        struct lead_write *lead = &w->writes[indexes[i]];
        if (lead->status != ST_UNKNOWN || lead->delivery.may_be_written)
            continue;
        lead->delivery.may_be_written = true;
        struct operation *operation = &operations[marked++];
        operation->kind = OPERATION_MERGE;
        enough = enough && row_of_spooled(&operation->entity, &lead->delivery, &w->arena);
        operation->entity.etag = w->page.rows[indexes[i]].etag;
    }
    if (marked > 0 && enough &&
        store_transact(d->current, TABLE_LEADS, operations, marked, clock_monotonic_ms() + SPOOL_WAIT_MS,
                       &failed, &why) != ST_OK)
        log_failure(LOG_LEVEL_WARNING, "not-marked", &why, "rows=%zu", marked);
}

/* Whether the store of record has the row now, or will never take it and quarantine has it. */
static bool is_settled(struct page_work *w, size_t index)
{
    struct drain *d = w->drain;
    struct fail why;
    if (w->writes[index].status == ST_OK)
        return true;
    if (!w->is_refused[index])
        return false;
    if (quarantine(w, index, &why) == ST_OK)
        return true;
    log_failure(LOG_LEVEL_WARNING, "not-quarantined", &why, "id=%s", w->writes[index].delivery.id);
    postpone(d, w->page.rows[index].row_key, POSTPONED_LEAD_MS, why.retry_after_s);
    return false;
}

static enum status remove_settled(struct page_work *w, const size_t *indexes, size_t count, struct fail *why)
{
    struct drain *d = w->drain;
    struct entity rows[PAGE_ROWS];
    size_t gone = 0;
    for (size_t i = 0; i < count; i++) {
        if (is_settled(w, indexes[i]))
            rows[gone++] = w->page.rows[indexes[i]];
    }
    if (gone == 0)
        return ST_OK;
    enum status status = spool_remove(d->spool, d->current, TABLE_LEADS, rows, gone,
                                      clock_monotonic_ms() + SPOOL_WAIT_MS, why);
    for (size_t i = 0; i < gone; i++)
        forget_postponed(d, rows[i].row_key);
    if (status == ST_OK && d->options.on_drained)
        d->options.on_drained(d->options.context, gone);
    return status;
}

/* What the table has said: it works, and there may be mail. */
static void tell(struct page_work *w, const char *partition, const size_t *indexes, size_t count)
{
    struct drain *d = w->drain;
    bool any = false, mail = false;
    for (size_t i = 0; i < count; i++) {
        const struct lead_write *lead = &w->writes[indexes[i]];
        any = any || lead->status == ST_OK;
        mail = mail || (lead->status == ST_OK && lead->has_mail);
    }
    if (!any)
        return;
    table_worked(d);
    w->way = BREAKER_CLOSED;
    if (!is_postponed(d, span_of(partition)))
        forget_postponed(d, span_of(partition));
    if (mail && d->hint_fd >= 0)
        relay_hint(d->hint_fd, d->options.relay_socket, partition);
}

/* The leads of the page that share a partition with the first one not taken yet. */
static enum status drain_partition(struct page_work *w, size_t first, struct fail *why)
{
    struct drain *d = w->drain;
    struct lead_write *leads[PAGE_ROWS];
    size_t indexes[PAGE_ROWS], count = 0;
    const char *partition = w->leads[first].partition;
    bool postponed = is_postponed(d, span_of(partition));
    for (size_t i = first; i < w->page.count; i++) {
        if (w->taken[i] || strcmp(w->leads[i].partition, partition) != 0)
            continue;
        w->taken[i] = true;
        if (postponed || is_postponed(d, w->page.rows[i].row_key))
            continue;
        indexes[count] = i;
        leads[count++] = &w->writes[i];
    }
    if (count == 0)
        return ST_OK;
    w->tried = true;
    commit_or_halve(w, leads, count);
    tell(w, partition, indexes, count);
    mark_uncertain(w, indexes, count);
    return remove_settled(w, indexes, count, why);
}

static enum status drain_page(struct page_work *w, struct fail *why)
{
    enum status status = ST_OK;
    for (size_t i = 0; i < w->page.count && status == ST_OK; i++) {
        w->writes[i] = (struct lead_write){.status = ST_AGAIN};
        w->taken[i] = w->is_refused[i] = false;
        status = spooled_of_row(&w->page.rows[i], &w->leads[i], &w->writes[i].delivery, &w->arena, why);
    }
    for (size_t i = 0; i < w->page.count && status == ST_OK && !w->table_failed; i++) {
        if (!w->taken[i] && !stopping(w->drain))
            status = drain_partition(w, i, why);
    }
    return status;
}

/* From being read to being removed, rows are in nobody else's hands: who erases a lead here must be sure that we
 * do not copy it into the table behind their back. */
static enum status take_rows(struct drain *d, struct fail *why)
{
    return spool_take_rows(d->spool, clock_monotonic_ms() + SPOOL_WAIT_MS)
               ? ST_OK
               : fail_set(why, ST_AGAIN, 0, "somebody else has the spool's rows in work");
}

/* Does work on everything that is spooled, page by page; a page begins behind the one before it, so what stays
 * blocks nothing. */
static enum status each_page(struct page_work *w, struct query *q,
                             enum status (*work)(struct page_work *w, struct fail *why), struct fail *why)
{
    struct drain *d = w->drain;
    bool more;
    enum status status = ST_OK;
    do {
        status = take_rows(d, why);
        if (status != ST_OK)
            break;
        status = store_query(d->current, q, clock_monotonic_ms() + SPOOL_WAIT_MS, &w->arena, &w->page, why);
        if (status == ST_OK)
            status = work(w, why);
        spool_give_rows_back(d->spool);
        if (status == ST_OK)
            status = store_turn_page(q, &w->page, &w->arena, &more, why);
    } while (status == ST_OK && more && !w->table_failed && !stopping(d));
    return status;
}

static enum status drain_leads(struct page_work *w, struct fail *why)
{
    struct query q = {.table = TABLE_LEADS, .partition_key = SPAN_LIT(SPOOL_PARTITION), .limit = PAGE_ROWS};
    return each_page(w, &q, drain_page, why);
}

/* --- quarantine ---------------------------------------------------------------------------------------------- */

static enum status drain_item(struct page_work *w, const struct entity *row, struct fail *why)
{
    struct drain *d = w->drain;
    struct fail failed;
    struct buf body = BUF_INIT(LIMIT_BODY_BYTES);
    struct quarantined item;
    enum status put = ST_AGAIN;
    enum status status = spool_read_quarantined(row, &item, &body, why);
    if (status == ST_OK) {
        w->tried = true;
        put = quarantine_put(d->table, &item, &QUARANTINE_IN_ANY_CASE, clock_monotonic_ms() + TABLE_WAIT_MS,
                             &failed);
    }
    buf_release(&body);
    if (status != ST_OK)
        return status;
    if (put == ST_OK) {
        table_worked(d);
        forget_postponed(d, row->row_key);
        return spool_remove(d->spool, d->current, TABLE_OPS, row, 1, clock_monotonic_ms() + SPOOL_WAIT_MS,
                            why);
    }
    log_failure(LOG_LEVEL_WARNING, "not-drained", &failed, "id=%s", item.id);
    w->table_failed = !table_works(d);
    if (w->table_failed)
        table_failed(w, &failed);
    else
        postpone(d, row->row_key, POSTPONED_LEAD_MS, failed.retry_after_s);
    return ST_OK;
}

static enum status drain_items(struct page_work *w, struct fail *why)
{
    enum status status = ST_OK;
    for (size_t i = 0; status == ST_OK && i < w->page.count && !w->table_failed && !stopping(w->drain); i++) {
        if (!is_postponed(w->drain, w->page.rows[i].row_key))
            status = drain_item(w, &w->page.rows[i], why);
    }
    return status;
}

static enum status drain_quarantined(struct page_work *w, struct fail *why)
{
    struct query q = {.table = TABLE_OPS,
                      .partition_key = SPAN_LIT(QUARANTINE_PARTITION),
                      .to = SPAN_LIT(QUARANTINE_KEY_END),
                      .limit = PAGE_ROWS};
    return each_page(w, &q, drain_items, why);
}

/* --- the pass ------------------------------------------------------------------------------------------------ */

/* How many rows wait; an empty spool is compared with its ledger, once. */
static enum status look_at_rest(struct drain *d, uint64_t *left, int64_t *oldest_ms, struct fail *why)
{
    struct salvage result = {0};
    enum status status = spool_count(d->current, left, oldest_ms, why);
    if (status != ST_OK || *left > 0)
        return status;
    if (!d->audited && d->is_salvaged) {
        status =
            spool_audit(d->spool, d->current, d->generation, d->salvage_tries >= SALVAGE_TRIES, &result, why);
        d->audited = status == ST_OK && result.complete;
        report_lost(d, result.lost);
    }
    if (status == ST_OK && d->was_spooling && !breaker_is_open(d->spool)) {
        d->was_spooling = false;
        log_event(LOG_LEVEL_INFO, "spool-drained", NULL);
        raise_alarm(d, NULL, ALARM_SPOOL_DRAINED,
                    "The table takes leads again, and everything that was spooled on this host is in it.");
    }
    return status;
}

/* An open breaker, and nothing to send: whether the table works has to be asked. */
static void probe_table(struct page_work *w)
{
    struct fail why;
    if (store_probe(w->drain->table, clock_monotonic_ms() + TABLE_WAIT_MS, &why) != ST_OK)
        table_failed(w, &why);
    else
        table_worked(w->drain);
}

static void tell_state(struct drain *d, uint64_t left, int64_t oldest_ms)
{
    if (!d->options.on_state)
        return;
    const struct drain_state state = {
        .rows = left,
        .bytes = spool_bytes(d->spool),
        .oldest_ms = oldest_ms,
        .is_open = breaker_is_open(d->spool),
    };
    d->options.on_state(d->options.context, &state);
}

enum status drain_pass(struct drain *drain, uint64_t *left, struct fail *why)
{
    struct drain *d = drain;
    int64_t oldest_ms;
    enum status status = take_rows(d, why);
    *left = 0;
    if (status == ST_OK) { /* what it salvages goes from one generation to the next */
        status = open_current(d, why);
        spool_give_rows_back(d->spool);
    }
    if (status == ST_OK)
        status = spool_count(d->current, left, &oldest_ms, why);
    if (status == ST_OK && *left > 0) {
        d->was_spooling = true;
        d->audited = false;
    }
    enum breaker_way way = status == ST_OK ? breaker_way(d->spool) : BREAKER_OPEN;
    if (way != BREAKER_CLOSED) {
        d->was_spooling = true;
        d->audited = false; /* what has come meanwhile may be gone before it was seen here */
    }
    if (status == ST_OK && way != BREAKER_OPEN && (*left > 0 || way == BREAKER_PROBE)) {
        struct page_work *w = calloc(1, sizeof *w);
        if (!w)
            return fail_set(why, ST_NOMEM, 0, "no memory to drain the spool");
        w->drain = d;
        w->way = way;
        w->arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
        if (*left > 0)
            status = drain_leads(w, why);
        if (status == ST_OK && *left > 0 && !w->table_failed)
            status = drain_quarantined(w, why);
        if (status == ST_OK && way == BREAKER_PROBE && !w->tried)
            probe_table(w);
        arena_release(&w->arena);
        free(w);
    }
    if (status == ST_OK)
        status = take_rows(d, why);
    if (status == ST_OK) {
        status = look_at_rest(d, left, &oldest_ms, why);
        spool_give_rows_back(d->spool);
    }
    if (status == ST_OK)
        tell_state(d, *left, oldest_ms);
    if (status != ST_OK && status != ST_NOMEM)
        return spool_failed(d, status, why);
    return status;
}

enum status drain_new(const struct drain_options *options, struct store *table, struct drain **drain,
                      struct fail *why)
{
    struct drain *d = calloc(1, sizeof *d);
    if (!d)
        return fail_set(why, ST_NOMEM, 0, "no memory for the drain");
    d->options = *options;
    d->table = table;
    d->hint_fd = -1;
    enum status status = offers_new(&d->offers, why);
    if (status == ST_OK && options->relay_socket)
        status = relay_hint_open(&d->hint_fd, why);
    if (status == ST_OK)
        status = spool_open(&options->spool, &d->spool, why);
    if (status != ST_OK) {
        drain_free(d);
        return status;
    }
    *drain = d;
    return ST_OK;
}

void drain_free(struct drain *drain)
{
    if (!drain)
        return;
    store_close(drain->current);
    spool_close(drain->spool);
    offers_free(drain->offers);
    if (drain->hint_fd >= 0)
        (void)close(drain->hint_fd);
    free(drain);
}
