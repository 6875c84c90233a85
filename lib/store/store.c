#include "lib/store/store.h"

/* System */
#include <string.h>

/* L0 */
#include "lib/base/clock.h"

/* L6 */
#include "lib/store/store_internal.h"

void store_close(struct store *store)
{
    if (store)
        store->functions->close(store);
}

bool store_joins_partitions(const struct store *store)
{
    return store->functions->joins_partitions;
}

enum status store_transact(struct store *store, enum table_id table, const struct operation *operations,
                           size_t count, int64_t deadline_ms, size_t *failed, struct fail *why)
{
    return store->functions->transact(store, table, operations, count, deadline_ms, failed, why);
}

enum status store_get_many(struct store *store, enum table_id table, struct span partition_key,
                           const struct span *row_keys, size_t count, const char *select, int64_t deadline_ms,
                           struct arena *arena, struct entity **rows, struct fail *why)
{
    return store->functions->get_many(store, table, partition_key, row_keys, count, select, deadline_ms,
                                      arena, rows, why);
}

enum status store_query(struct store *store, const struct query *query, int64_t deadline_ms,
                        struct arena *arena, struct page *page, struct fail *why)
{
    return store->functions->query(store, query, deadline_ms, arena, page, why);
}

enum status store_turn_page(struct query *query, const struct page *page, struct arena *arena, bool *more,
                            struct fail *why)
{
    char next[LIMIT_CONTINUATION_BYTES];
    const size_t len = page->next.len;
    *more = false;
    if (len > sizeof next)
        return fail_set(why, ST_TOO_LARGE, 0, "the store's mark of the next page is too long");
    if (len)
        memcpy(next, page->next.ptr, len);
    arena_reset(arena);
    query->next = span_empty();
    if (len && !arena_copy(arena, (struct span){next, len}, &query->next))
        return fail_set(why, ST_NOMEM, 0, "no memory to read the next page");
    *more = len > 0;
    return ST_OK;
}

enum status store_walk(struct store *store, struct query *query, int64_t page_wait_ms, store_ask_page *ask,
                       store_visit *visit, void *context, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    enum status status = ST_OK;
    for (bool more = true; status == ST_OK && more;) {
        struct page page;
        status = ask(store, query, page_wait_ms, &arena, &page, why);
        for (size_t i = 0; status == ST_OK && i < page.count; i++)
            status = visit(context, &page.rows[i], why);
        if (status == ST_OK)
            status = store_turn_page(query, &page, &arena, &more, why);
    }
    query->next = span_empty();
    arena_release(&arena);
    return status;
}

static enum status ask_once(struct store *store, const struct query *query, int64_t wait_ms,
                            struct arena *arena, struct page *page, struct fail *why)
{
    return store_query(store, query, clock_monotonic_ms() + wait_ms, arena, page, why);
}

enum status store_each(struct store *store, struct query *query, int64_t page_wait_ms, store_visit *visit,
                       void *context, struct fail *why)
{
    return store_walk(store, query, page_wait_ms, ask_once, visit, context, why);
}

#define PROBE_KEY "probe" /* partition and row */

static enum status try_write(struct store *store, enum table_id table, enum operation_kind kind,
                             int64_t deadline_ms, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct operation operation = {.kind = kind};
    size_t failed;
    enum status status = ST_OK;
    if (entity_init(&operation.entity, SPAN_LIT(PROBE_KEY), SPAN_LIT(PROBE_KEY), &arena)) {
        operation.entity.etag = SPAN_LIT("*");
        entity_add_time(&operation.entity, "ProbedTime", clock_wall_ms());
        status = store_transact(store, table, &operation, 1, deadline_ms, &failed, why);
    } else {
        status = fail_set(why, ST_NOMEM, 0, "no memory to try the store");
    }
    arena_release(&arena);
    return status;
}

enum status store_probe(struct store *store, int64_t deadline_ms, struct fail *why)
{
    /* Among the leads there is no such row and none is made: what counts is that the attempt is allowed. */
    enum status status = try_write(store, TABLE_LEADS, OPERATION_MERGE, deadline_ms, why);
    if (status != ST_OK && status != ST_NOT_FOUND)
        return status;
    status = try_write(store, TABLE_OPS, OPERATION_MERGE, deadline_ms, why);
    if (status == ST_NOT_FOUND) /* for the first time */
        status = try_write(store, TABLE_OPS, OPERATION_INSERT, deadline_ms, why);
    return status == ST_EXISTS ? ST_OK : status; /* another process has just made it */
}

enum status store_wipe(struct store *store, int64_t deadline_ms, struct fail *why)
{
    return store->functions->wipe ? store->functions->wipe(store, deadline_ms, why) : ST_OK;
}

struct table_ends store_ends(struct store *store)
{
    return store->functions->ends ? store->functions->ends(store) : (struct table_ends){0};
}

int64_t store_now_ms(const struct store *store)
{
    return store->functions->now_ms(store);
}
