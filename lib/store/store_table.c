/* The Table service as a store: a thin coat over lib/table/client. */
#include "lib/store/store.h"

/* System */
#include <stdlib.h>

/* L6 */
#include "lib/store/store_internal.h"

struct table_store {
    struct store base;
    struct table_client *client;
};

static struct table_client *client_of(struct store *store)
{
    return ((struct table_store *)store)->client;
}

static void table_store_close(struct store *store)
{
    table_client_free(client_of(store));
    free(store);
}

static enum status transact(struct store *store, enum table_id table, const struct operation *operations,
                            size_t count, int64_t deadline_ms, size_t *failed, struct fail *why)
{
    return table_transact(client_of(store), table, operations, count, deadline_ms, failed, why);
}

static enum status get_many(struct store *store, enum table_id table, struct span partition_key,
                            const struct span *row_keys, size_t count, const char *select,
                            int64_t deadline_ms, struct arena *arena, struct entity **rows, struct fail *why)
{
    return table_get_many(client_of(store), table, partition_key, row_keys, count, select, deadline_ms, arena,
                          rows, why);
}

static enum status query(struct store *store, const struct query *wanted, int64_t deadline_ms,
                         struct arena *arena, struct page *page, struct fail *why)
{
    return table_query(client_of(store), wanted, deadline_ms, arena, page, why);
}

static enum status probe(struct store *store, int64_t deadline_ms, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct span row_key = SPAN_LIT("probe");
    struct entity *row;
    enum status status = table_get_many(client_of(store), TABLE_OPS, SPAN_LIT("probe"), &row_key, 1,
                                        "PartitionKey", deadline_ms, &arena, &row, why);
    arena_release(&arena);
    return status;
}

static int64_t now_ms(const struct store *store)
{
    return table_now_ms(((const struct table_store *)store)->client);
}

static const struct store_functions FUNCTIONS = {
    .joins_partitions = false,
    .close = table_store_close,
    .transact = transact,
    .get_many = get_many,
    .query = query,
    .probe = probe,
    .now_ms = now_ms,
};

enum status store_open_table(const struct table_options *options, struct store **store, struct fail *why)
{
    struct table_store *s = calloc(1, sizeof *s);
    if (!s)
        return fail_set(why, ST_NOMEM, 0, "no memory for a store");
    s->base.functions = &FUNCTIONS;
    enum status status = table_client_new(options, &s->client, why);
    if (status != ST_OK) {
        free(s);
        return status;
    }
    *store = &s->base;
    return ST_OK;
}
