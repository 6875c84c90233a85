#include "lib/relay/drain.h"

/* System */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* L0 */
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
    PASSED_OVER_MAX = 32 /* partitions that failed in this pass; with more the pass ends */
};

struct drain {
    struct drain_options options;
    struct store *table;
    struct offers *offers;
    struct spool *spool;
    struct store *current; /* the spool's current generation */
    unsigned int generation;
    int hint_fd;
    bool was_spooling; /* since the spool was empty for the last time */
    bool audited;      /* the spool is empty, and its ledger was compared with it */
};

/* One page of spooled leads in work. */
struct page_work {
    struct drain *drain;
    enum breaker_way way;
    struct arena arena;
    struct page page;
    struct lead leads[PAGE_ROWS];
    struct lead_write writes[PAGE_ROWS];
    bool taken[PAGE_ROWS]; /* handled in this pass, one way or the other */
    size_t stored;         /* left the spool */
    bool table_failed;     /* no use in going on */
    char passed_over[PASSED_OVER_MAX][LIMIT_PARTITION_KEY_BYTES + 1];
    size_t passed_over_count;
};

static bool stopping(const struct drain *d)
{
    return d->options.stop && atomic_load(d->options.stop);
}

static void raise_alarm(struct drain *d, struct store *store, enum alarm alarm, const char *text)
{
    struct fail why;
    if (!d->options.raises_alarms)
        return;
    enum status status = alarm_raise(store, alarm, text, clock_monotonic_ms() + ALARM_WAIT_MS, &why);
    if (status != ST_OK && status != ST_EXISTS)
        log_failure(LOG_LEVEL_ERROR, "alarm-not-raised", &why, "alarm=%s", alarm_name(alarm));
}

/* --- damage -------------------------------------------------------------------------------------------------- */

static void report_lost(void *context, uint64_t lost)
{
    struct drain *d = context;
    char text[LIMIT_ALARM_TEXT_BYTES];
    log_event(LOG_LEVEL_ERROR, "leads-lost", "count=%llu", (unsigned long long)lost);
    (void)snprintf(
        text, sizeof text,
        "Damage to the spool has destroyed %llu leads that were answered 202. `leadctl spool` lists them "
        "by time and id; their senders have to be asked.",
        (unsigned long long)lost);
    raise_alarm(d, d->current, ALARM_LEADS_LOST, text);
    if (d->options.on_lost)
        d->options.on_lost(d->options.context, lost);
}

/* Makes sure that `current` is the current generation, and that those before it were gone through. */
static enum status open_current(struct drain *d, struct fail *why)
{
    if (d->current && spool_is_current(d->spool, d->generation))
        return ST_OK;
    store_close(d->current);
    d->current = NULL;
    d->audited = false;
    enum status status = spool_open_current(d->spool, &d->current, &d->generation, why);
    if (status != ST_OK)
        return status;
    uint64_t rescued = 0;
    const struct spool_report report = {report_lost, d};
    status = spool_salvage(d->spool, d->current, d->generation, &rescued, &report, why);
    if (rescued > 0)
        log_event(LOG_LEVEL_WARNING, "spool-salvaged", "rescued=%llu", (unsigned long long)rescued);
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
    struct quarantined item = {
        .received_ms = delivery->received_ms,
        .key_name = delivery->key_name,
        .reason = span_of(w->writes[index].why.text),
        .body = delivery->lead->payload,
    };
    memcpy(item.id, delivery->id, sizeof item.id);
    enum status status = ST_OK;
    if (!item.body.len) {
        status = entity_write(&row, &w->page.rows[index], why);
        item.body = buf_span(&row);
        item.content_type = SPAN_LIT("application/json");
    }
    if (status == ST_OK)
        status =
            quarantine_put(d->table, &item, QUARANTINE_NO_QUOTA, clock_monotonic_ms() + TABLE_WAIT_MS, why);
    buf_release(&row);
    if (status == ST_OK) {
        log_failure(LOG_LEVEL_ERROR, "quarantined", &w->writes[index].why, "id=%s", delivery->id);
        (void)snprintf(
            text, sizeof text,
            "The table refuses a spooled lead for good (%s); it is kept. `leadctl quarantine list` shows "
            "it.",
            w->writes[index].why.text);
        raise_alarm(d, d->table, ALARM_QUARANTINED, text);
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
        status = offers_ensure(d->offers, d->table, &leads[i]->delivery, deadline_ms, &why);
    if (status == ST_OK)
        leads_commit(d->table, &d->options.rules, leads, count, deadline_ms, &arena);
    for (size_t i = 0; i < count && status != ST_OK; i++) {
        leads[i]->status = status;
        leads[i]->why = why;
    }
    arena_release(&arena);
}

static const struct lead_write *first_failed(struct lead_write *const *leads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (leads[i]->status != ST_OK && !is_permanent(leads[i]->status))
            return leads[i];
    }
    return NULL;
}

static void pass_over(struct page_work *w, const char *partition)
{
    if (w->passed_over_count == PASSED_OVER_MAX) {
        w->table_failed = true;
        return;
    }
    char *name = w->passed_over[w->passed_over_count++];
    memcpy(name, partition, strlen(partition) + 1);
}

static bool is_passed_over(const struct page_work *w, const char *partition)
{
    for (size_t i = 0; i < w->passed_over_count; i++) {
        if (strcmp(w->passed_over[i], partition) == 0)
            return true;
    }
    return false;
}

/* Halves a transaction that failed although the table works, until what makes it fail is alone. */
static void commit_or_halve(struct page_work *w, struct lead_write **leads, size_t count)
{
    struct drain *d = w->drain;
    struct fail why;
    commit(w, leads, count);
    const struct lead_write *failed = first_failed(leads, count);
    if (!failed || stopping(d))
        return;
    why = failed->why;
    bool works = failed->status == ST_UNKNOWN && why.retry_after_s == 0 &&
                 store_probe(d->table, clock_monotonic_ms() + TABLE_WAIT_MS, NULL) == ST_OK;
    if (works && count > 1) {
        commit_or_halve(w, leads, count / 2);
        if (!w->table_failed)
            commit_or_halve(w, leads + count / 2, count - count / 2);
        return;
    }
    log_failure(LOG_LEVEL_WARNING, "not-drained", &why, "id=%s", failed->delivery.id);
    if (works)
        return; /* this one alone; the next pass tries it again */
    if (why.retry_after_s > 0 || failed->status == ST_AGAIN)
        works = store_probe(d->table, clock_monotonic_ms() + TABLE_WAIT_MS, NULL) == ST_OK;
    if (works) { /* one partition is throttled, or its rows keep changing */
        pass_over(w, failed->delivery.lead->partition);
    } else {
        (void)breaker_failed(d->spool, w->way, &why);
        w->table_failed = true;
    }
}

/* Takes what was settled out of the spool. */
static enum status remove_settled(struct page_work *w, const size_t *indexes, size_t count, struct fail *why)
{
    struct drain *d = w->drain;
    struct entity rows[PAGE_ROWS];
    size_t gone = 0;
    for (size_t i = 0; i < count; i++) {
        const struct lead_write *lead = &w->writes[indexes[i]];
        struct fail refused;
        if (lead->status == ST_OK ||
            (is_permanent(lead->status) && quarantine(w, indexes[i], &refused) == ST_OK))
            rows[gone++] = w->page.rows[indexes[i]];
    }
    if (gone == 0)
        return ST_OK;
    enum status status = spool_remove(d->spool, d->current, TABLE_LEADS, rows, gone,
                                      clock_monotonic_ms() + SPOOL_WAIT_MS, why);
    if (status != ST_OK)
        return status;
    w->stored += gone;
    if (d->options.on_drained)
        d->options.on_drained(d->options.context, gone);
    return ST_OK;
}

/* The leads of the page that share a partition with the first one not taken yet. */
static enum status drain_partition(struct page_work *w, size_t first, struct fail *why)
{
    struct drain *d = w->drain;
    struct lead_write *leads[PAGE_ROWS];
    size_t indexes[PAGE_ROWS], count = 0;
    const char *partition = w->leads[first].partition;
    for (size_t i = first; i < w->page.count; i++) {
        if (w->taken[i] || strcmp(w->leads[i].partition, partition) != 0)
            continue;
        w->taken[i] = true;
        indexes[count] = i;
        leads[count++] = &w->writes[i];
    }
    if (is_passed_over(w, partition))
        return ST_OK;
    commit_or_halve(w, leads, count);
    bool any = false, mail = false;
    for (size_t i = 0; i < count; i++) {
        any = any || leads[i]->status == ST_OK;
        mail = mail || (leads[i]->status == ST_OK && leads[i]->has_mail);
    }
    if (any && breaker_worked(d->spool))
        log_event(LOG_LEVEL_INFO, "table-works-again", NULL);
    if (any)
        w->way = BREAKER_CLOSED;
    if (mail && d->hint_fd >= 0)
        relay_hint(d->hint_fd, d->options.relay_socket, partition);
    return remove_settled(w, indexes, count, why);
}

static enum status drain_page(struct page_work *w, struct fail *why)
{
    enum status status = ST_OK;
    for (size_t i = 0; i < w->page.count && status == ST_OK; i++) {
        w->writes[i] = (struct lead_write){.status = ST_AGAIN};
        w->taken[i] = false;
        status = spooled_of_row(&w->page.rows[i], &w->leads[i], &w->writes[i].delivery, &w->arena, why);
    }
    for (size_t i = 0; i < w->page.count && status == ST_OK && !w->table_failed; i++) {
        if (!w->taken[i] && !stopping(w->drain))
            status = drain_partition(w, i, why);
    }
    return status;
}

/* Everything that is spooled, page by page; a page begins behind the one before it, so what stays blocks nothing. */
static enum status drain_leads(struct page_work *w, struct fail *why)
{
    char next[LIMIT_ROW_KEY_BYTES];
    struct query q = {.table = TABLE_LEADS, .partition_key = SPAN_LIT(SPOOL_PARTITION), .limit = PAGE_ROWS};
    enum status status = ST_OK;
    do {
        status = store_query(w->drain->current, &q, clock_monotonic_ms() + SPOOL_WAIT_MS, &w->arena, &w->page,
                             why);
        if (status == ST_OK)
            status = drain_page(w, why);
        q.next = span_empty();
        if (status == ST_OK && w->page.next.len && w->page.next.len <= sizeof next) {
            memcpy(next, w->page.next.ptr, w->page.next.len);
            q.next = (struct span){next, w->page.next.len};
        }
        arena_reset(&w->arena);
    } while (status == ST_OK && q.next.len && !w->table_failed && !stopping(w->drain));
    return status;
}

/* --- quarantine ---------------------------------------------------------------------------------------------- */

static enum status drain_item(struct page_work *w, const struct entity *row, struct fail *why)
{
    struct drain *d = w->drain;
    struct fail failed;
    struct buf body = BUF_INIT(LIMIT_BODY_BYTES);
    struct quarantined item;
    size_t body_bytes;
    enum status status = quarantined_of_row(row, &item, &body_bytes, why);
    if (status == ST_OK)
        status = quarantined_body(row, &body, why);
    if (status != ST_OK && status != ST_NOMEM)
        status = fail_set(why, ST_DAMAGED, 0, "a quarantined row of the spool is damaged");
    item.body = buf_span(&body);
    if (status == ST_OK) {
        enum status put = quarantine_put(d->table, &item, QUARANTINE_NO_QUOTA,
                                         clock_monotonic_ms() + TABLE_WAIT_MS, &failed);
        if (put == ST_OK) {
            status = spool_remove(d->spool, d->current, TABLE_OPS, row, 1,
                                  clock_monotonic_ms() + SPOOL_WAIT_MS, why);
            w->stored++;
            (void)breaker_worked(d->spool);
        } else {
            log_failure(LOG_LEVEL_WARNING, "not-drained", &failed, "id=%s", item.id);
            w->table_failed = store_probe(d->table, clock_monotonic_ms() + TABLE_WAIT_MS, NULL) != ST_OK;
            if (w->table_failed)
                (void)breaker_failed(d->spool, w->way, &failed);
        }
    }
    buf_release(&body);
    return status;
}

static enum status drain_quarantined(struct page_work *w, struct fail *why)
{
    char next[LIMIT_ROW_KEY_BYTES];
    struct query q = {.table = TABLE_OPS,
                      .partition_key = SPAN_LIT(QUARANTINE_PARTITION),
                      .to = SPAN_LIT(QUARANTINE_KEY_END),
                      .limit = PAGE_ROWS};
    enum status status = ST_OK;
    do {
        status = store_query(w->drain->current, &q, clock_monotonic_ms() + SPOOL_WAIT_MS, &w->arena, &w->page,
                             why);
        for (size_t i = 0; status == ST_OK && i < w->page.count && !w->table_failed && !stopping(w->drain);
             i++)
            status = drain_item(w, &w->page.rows[i], why);
        q.next = span_empty();
        if (status == ST_OK && w->page.next.len && w->page.next.len <= sizeof next) {
            memcpy(next, w->page.next.ptr, w->page.next.len);
            q.next = (struct span){next, w->page.next.len};
        }
        arena_reset(&w->arena);
    } while (status == ST_OK && q.next.len && !w->table_failed && !stopping(w->drain));
    return status;
}

/* --- the pass ------------------------------------------------------------------------------------------------ */

/* How many rows wait; an empty spool is compared with its ledger, once. */
static enum status look_at_rest(struct drain *d, uint64_t *left, struct fail *why)
{
    const struct spool_report report = {report_lost, d};
    enum status status = spool_count(d->current, left, why);
    if (status != ST_OK || *left > 0)
        return status;
    if (!d->audited) {
        status = spool_audit(d->spool, d->current, &report, why);
        d->audited = status == ST_OK;
    }
    if (status == ST_OK && d->was_spooling && !breaker_is_open(d->spool)) {
        d->was_spooling = false;
        log_event(LOG_LEVEL_INFO, "spool-drained", NULL);
        raise_alarm(d, d->table, ALARM_SPOOL_DRAINED,
                    "The table takes leads again, and everything that was spooled on this host is in it.");
    }
    return status;
}

/* An open breaker without leads behind it: whether the table works has to be asked. */
static void probe_table(struct page_work *w)
{
    struct fail why;
    if (store_probe(w->drain->table, clock_monotonic_ms() + TABLE_WAIT_MS, &why) != ST_OK)
        (void)breaker_failed(w->drain->spool, w->way, &why);
    else if (breaker_worked(w->drain->spool))
        log_event(LOG_LEVEL_INFO, "table-works-again", NULL);
}

enum status drain_pass(struct drain *drain, uint64_t *left, struct fail *why)
{
    struct drain *d = drain;
    enum status status = open_current(d, why);
    *left = 0;
    if (status == ST_OK)
        status = spool_count(d->current, left, why);
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
        if (*left == 0)
            probe_table(w);
        else
            status = drain_leads(w, why);
        if (status == ST_OK && *left > 0 && !w->table_failed)
            status = drain_quarantined(w, why);
        arena_release(&w->arena);
        free(w);
    }
    if (status == ST_OK)
        status = look_at_rest(d, left, why);
    if (status == ST_OK && d->options.on_state)
        d->options.on_state(d->options.context, *left, spool_bytes(d->spool));
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
