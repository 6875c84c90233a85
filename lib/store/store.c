#include "lib/store/store.h"

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

enum status store_probe(struct store *store, int64_t deadline_ms, struct fail *why)
{
    return store->functions->probe(store, deadline_ms, why);
}

int64_t store_now_ms(const struct store *store)
{
    return store->functions->now_ms(store);
}
