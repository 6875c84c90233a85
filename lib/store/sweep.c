#include "lib/store/sweep.h"

/* System */
#include <time.h>

/* L0 */
#include "lib/base/backoff.h"
#include "lib/base/clock.h"

/* L6 */
#include "lib/store/store_internal.h"

enum {
    CALL_WAIT_MS = 60000, /* for one call of the store: twice the service's own limit */
    FAILURES_MAX = 6,
    PAUSE_FIRST_MS = 500,
    PAUSE_MAX_MS = 30000,
    KEYS_BYTES = 128 * 1024 /* of a transaction's rows, with their etags */
};

static int64_t soon(void)
{
    return clock_monotonic_ms() + CALL_WAIT_MS;
}

bool sweep_tries_again(enum status status, unsigned int *failures, const struct fail *why)
{
    if ((status != ST_AGAIN && status != ST_UNKNOWN) || ++*failures >= FAILURES_MAX)
        return false;
    int64_t ms = backoff_or_asked_ms(backoff_ms(*failures, PAUSE_FIRST_MS, PAUSE_MAX_MS), why->retry_after_s);
    ms = clock_long_wait_ms(ms);
    struct timespec pause = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000L};
    (void)nanosleep(&pause, NULL);
    return true;
}

/* Everything here may be done again, so what may have taken effect and what has not are the same. */
static enum status given_up(enum status status, struct fail *why)
{
    if (status == ST_UNKNOWN && why)
        why->code = ST_AGAIN;
    return status == ST_UNKNOWN ? ST_AGAIN : status;
}

static enum status ask_patiently(struct store *store, const struct query *query, int64_t wait_ms,
                                 struct arena *arena, struct page *page, struct fail *why)
{
    unsigned int failures = 0;
    struct fail failed = {0};
    enum status status;
    do {
        status = store_query(store, query, clock_monotonic_ms() + wait_ms, arena, page, &failed);
    } while (sweep_tries_again(status, &failures, &failed));
    if (status != ST_OK)
        *why = failed;
    return given_up(status, why);
}

enum status sweep_each(struct store *store, struct query *query, store_visit *visit, void *context,
                       struct fail *why)
{
    return store_walk(store, query, CALL_WAIT_MS, ask_patiently, visit, context, why);
}

enum status sweep_get_many(struct store *store, enum table_id table, struct span partition_key,
                           const struct span *row_keys, size_t count, const char *select, struct arena *arena,
                           struct entity **rows, struct fail *why)
{
    unsigned int failures = 0;
    enum status status;
    do {
        status =
            store_get_many(store, table, partition_key, row_keys, count, select, soon(), arena, rows, why);
    } while (sweep_tries_again(status, &failures, why));
    return given_up(status, why);
}

enum status sweep_get(struct store *store, enum table_id table, struct span partition_key,
                      struct span row_key, const char *select, struct arena *arena, struct entity **row,
                      struct fail *why)
{
    return sweep_get_many(store, table, partition_key, &row_key, 1, select, arena, row, why);
}

enum status sweep_transact(struct store *store, enum table_id table, const struct operation *operations,
                           size_t count, size_t *failed, struct fail *why)
{
    unsigned int failures = 0;
    enum status status;
    do {
        *failed = NO_INDEX;
        status = store_transact(store, table, operations, count, soon(), failed, why);
    } while (sweep_tries_again(status, &failures, why));
    return given_up(status, why);
}

/* --- deleting ------------------------------------------------------------------------------------------------ */

void sweep_begin(struct sweep *sweep, struct store *store, enum table_id table)
{
    *sweep = (struct sweep){.store = store, .table = table, .arena = ARENA_INIT(KEYS_BYTES)};
}

void sweep_end(struct sweep *sweep)
{
    arena_release(&sweep->arena);
}

static void leave_out(struct sweep *s, size_t index)
{
    s->operations[index] = s->operations[--s->count];
}

/* A row is not as it was read: all are looked at, and only those stay in the transaction that are. */
static enum status look_again(struct sweep *s, bool maybe_done, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct span keys[LIMIT_BATCH_OPERATIONS];
    struct entity *found[LIMIT_BATCH_OPERATIONS];
    for (size_t i = 0; i < s->count; i++)
        keys[i] = s->operations[i].entity.row_key;
    enum status status = store_get_many(s->store, s->table, s->partition_key, keys, s->count,
                                        "PartitionKey,RowKey,Timestamp", soon(), &arena, found, why);
    for (size_t i = s->count; status == ST_OK && i-- > 0;) {
        struct span etag = s->operations[i].entity.etag;
        if (!found[i]) {
            s->deleted += maybe_done ? 1 : 0;
            leave_out(s, i);
        } else if (!span_eq(etag, SPAN_LIT("*")) && !span_eq(etag, found[i]->etag)) {
            s->changed++;
            leave_out(s, i);
        }
    }
    arena_release(&arena);
    return status;
}

enum status sweep_flush(struct sweep *sweep, struct fail *why)
{
    struct sweep *s = sweep;
    enum status status = ST_OK;
    unsigned int failures = 0;
    bool maybe_done = false, again = true;
    while (s->count > 0 && again) {
        size_t failed = NO_INDEX, before = s->count;
        status = store_transact(s->store, s->table, s->operations, s->count, soon(), &failed, why);
        if (status == ST_OK) {
            s->deleted += s->count;
            s->count = 0;
        } else if (status == ST_CHANGED || status == ST_NOT_FOUND) {
            status = look_again(s, maybe_done, why);
            if (status == ST_OK && s->count == before) /* they change faster than we look */
                status = fail_set(why, ST_AGAIN, 0, "rows kept changing while they were being deleted");
            again = status == ST_OK || sweep_tries_again(status, &failures, why);
        } else {
            maybe_done = maybe_done || status == ST_UNKNOWN;
            again = sweep_tries_again(status, &failures, why);
        }
    }
    if (s->count > 0)
        return given_up(status, why);
    arena_reset(&s->arena);
    return ST_OK;
}

enum status sweep_add(struct sweep *sweep, const struct entity *row, struct fail *why)
{
    struct sweep *s = sweep;
    enum status status = ST_OK;
    if (s->count == LIMIT_BATCH_OPERATIONS ||
        (s->count > 0 && !span_eq(s->partition_key, row->partition_key)))
        status = sweep_flush(s, why);
    if (status != ST_OK)
        return status;
    struct operation operation = {.kind = OPERATION_DELETE};
    struct entity *e = &operation.entity;
    if (!arena_copy(&s->arena, row->partition_key, &e->partition_key) ||
        !arena_copy(&s->arena, row->row_key, &e->row_key) || !arena_copy(&s->arena, row->etag, &e->etag))
        return fail_set(why, ST_NOMEM, 0, "no memory to delete rows");
    s->partition_key = e->partition_key;
    s->operations[s->count++] = operation;
    return ST_OK;
}
