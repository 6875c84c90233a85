/* clocked.h - a store with a clock of the test's own, that fails when it is told to and calls the test in between.
 *
 * Include behind <cmocka.h> and stored.h.
 */
#ifndef LEAD_TEST_CLOCKED_H
#define LEAD_TEST_CLOCKED_H

#include "lib/store/store_internal.h"

/* Noon of 2026-11-21. */
#define NOON_MS 1795262400000LL

struct clocked {
    struct store base;
    struct store *inner;
    int64_t now_ms;
    enum status fails_with; /* every operation; ST_OK: none */
    struct table_ends ends;
    size_t count;   /* operations so far */
    size_t hook_at; /* before this one the hook is called, once */
    void (*hook)(void *context);
    void *context;
};

static inline enum status clocked_step(struct store *store, struct fail *why)
{
    struct clocked *c = (struct clocked *)store;
    if (c->count++ == c->hook_at && c->hook) {
        void (*hook)(void *) = c->hook;
        c->hook = NULL;
        hook(c->context);
    }
    return c->fails_with == ST_OK ? ST_OK
                                  : fail_set(why, c->fails_with, 0, "AuthenticationFailed, says the test");
}

static inline enum status clocked_transact(struct store *store, enum table_id table,
                                           const struct operation *operations, size_t count,
                                           int64_t deadline_ms, size_t *failed, struct fail *why)
{
    enum status status = clocked_step(store, why);
    return status == ST_OK ? store_transact(((struct clocked *)store)->inner, table, operations, count,
                                            deadline_ms, failed, why)
                           : status;
}

static inline enum status clocked_get_many(struct store *store, enum table_id table,
                                           struct span partition_key, const struct span *row_keys,
                                           size_t count, const char *select, int64_t deadline_ms,
                                           struct arena *arena, struct entity **rows, struct fail *why)
{
    enum status status = clocked_step(store, why);
    return status == ST_OK ? store_get_many(((struct clocked *)store)->inner, table, partition_key, row_keys,
                                            count, select, deadline_ms, arena, rows, why)
                           : status;
}

static inline enum status clocked_query(struct store *store, const struct query *query, int64_t deadline_ms,
                                        struct arena *arena, struct page *page, struct fail *why)
{
    enum status status = clocked_step(store, why);
    return status == ST_OK
               ? store_query(((struct clocked *)store)->inner, query, deadline_ms, arena, page, why)
               : status;
}

static inline int64_t clocked_now_ms(const struct store *store)
{
    return ((const struct clocked *)store)->now_ms;
}

static inline struct table_ends clocked_ends(struct store *store)
{
    return ((struct clocked *)store)->ends;
}

static const struct store_functions CLOCKED = {
    .joins_partitions = true,
    .transact = clocked_transact,
    .get_many = clocked_get_many,
    .query = clocked_query,
    .now_ms = clocked_now_ms,
    .ends = clocked_ends,
};

static inline struct clocked clocked_of(struct store *inner)
{
    return (struct clocked){.base.functions = &CLOCKED, .inner = inner, .now_ms = NOON_MS};
}

#endif
