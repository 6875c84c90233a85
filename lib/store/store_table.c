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

/* The client for one piece of work, with the credentials of now. */
static struct table_client *client_of(struct store *store)
{
    struct table_client *client = ((struct table_store *)store)->client;
    table_client_renew(client);
    return client;
}

static void table_store_close(struct store *store)
{
    table_client_free(((struct table_store *)store)->client);
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

static int64_t now_ms(const struct store *store)
{
    return table_now_ms(((const struct table_store *)store)->client);
}

static struct table_ends ends(struct store *store)
{
    return table_ends(client_of(store));
}

static const struct store_functions FUNCTIONS = {
    .joins_partitions = false,
    .close = table_store_close,
    .transact = transact,
    .get_many = get_many,
    .query = query,
    .now_ms = now_ms,
    .ends = ends,
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
