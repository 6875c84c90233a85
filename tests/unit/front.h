/* front.h - a store before another one, to which it hands on everything; a test puts functions of its own in the
 * place of some.
 *
 * The first member of a test's own struct, which its functions get as the store.  Include behind <cmocka.h>.
 */
#ifndef LEAD_TEST_FRONT_H
#define LEAD_TEST_FRONT_H

#include "lib/store/store_internal.h"

struct front {
    struct store base;
    struct store *inner; /* whoever made it closes it */
    struct store_functions functions;
};

static inline struct store *front_inner(const struct store *store)
{
    return ((const struct front *)store)->inner;
}

static inline enum status front_transact(struct store *store, enum table_id table,
                                         const struct operation *operations, size_t count,
                                         int64_t deadline_ms, size_t *failed, struct fail *why)
{
    return store_transact(front_inner(store), table, operations, count, deadline_ms, failed, why);
}

static inline enum status front_get_many(struct store *store, enum table_id table, struct span partition_key,
                                         const struct span *row_keys, size_t count, const char *select,
                                         int64_t deadline_ms, struct arena *arena, struct entity **rows,
                                         struct fail *why)
{
    return store_get_many(front_inner(store), table, partition_key, row_keys, count, select, deadline_ms,
                          arena, rows, why);
}

static inline enum status front_query(struct store *store, const struct query *query, int64_t deadline_ms,
                                      struct arena *arena, struct page *page, struct fail *why)
{
    return store_query(front_inner(store), query, deadline_ms, arena, page, why);
}

static inline enum status front_wipe(struct store *store, int64_t deadline_ms, struct fail *why)
{
    return store_wipe(front_inner(store), deadline_ms, why);
}

static inline int64_t front_now_ms(const struct store *store)
{
    return store_now_ms(front_inner(store));
}

static inline void front_place(struct front *front, struct store *inner)
{
    front->inner = inner;
    front->functions = (struct store_functions){.joins_partitions = inner->functions->joins_partitions,
                                                .transact = front_transact,
                                                .get_many = front_get_many,
                                                .query = front_query,
                                                .wipe = front_wipe,
                                                .now_ms = front_now_ms};
    front->base.functions = &front->functions;
}

#endif
