#include "lib/store/quarantine.h"

/* System */
#include <time.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"

enum {
    ROUNDS_MAX = 200,  /* more often than that nobody is overtaken before the deadline */
    ATTEMPTS_LOST = 3, /* writes without an answer before we give up */
    PAUSE_FIRST_MS = 4,
    PAUSE_MAX_MS = 64,
    QUOTA_DAYS_KEPT = 2,
    OLD_COUNTERS_AT_ONCE = 50,
    LIST_WAIT_MS = 60000,
    DROP_WAIT_MS = 30000
};

#define COLUMNS_OF_LIST                                                                                      \
    "PartitionKey,RowKey,Timestamp,ReceivedTime,KeyName,ContentType,Reason,BodyBytes,DeliveryId"

/* --- putting ------------------------------------------------------------------------------------------------- */

struct put {
    struct store *store;
    const struct quarantined *item;
    unsigned int per_day;
    int64_t day; /* of the receipt, since 1970 */
    int64_t deadline_ms;
    struct arena arena;
    struct operation operations[2]; /* the item; its key's counter */
};

static enum status no_memory(struct fail *why)
{
    return fail_set(why, ST_NOMEM, 0, "no memory for quarantine");
}

static enum status over_quota(const struct put *p, struct fail *why)
{
    int64_t left_ms = CLOCK_DAY_MS - p->item->received_ms % CLOCK_DAY_MS;
    struct fail result;
    (void)fail_set(&result, ST_OVER_QUOTA, 0, "the key's quarantine is full for today (%u payloads)",
                   p->per_day);
    result.retry_after_s = (int)((left_ms + 999) / 1000);
    if (why)
        *why = result;
    return ST_OVER_QUOTA;
}

/* Reads how much was used and makes the operation that counts one more.
 * ST_EXISTS: the item is there already. */
static enum status read_counter(struct put *p, struct fail *why)
{
    struct operation *counter = &p->operations[1];
    struct entity *found[2];
    if (!row_of_quota(&counter->entity, p->item->key_name, p->day, 1, &p->arena))
        return no_memory(why);
    struct span keys[2] = {p->operations[0].entity.row_key, counter->entity.row_key};
    enum status status =
        store_get_many(p->store, TABLE_OPS, SPAN_LIT(QUARANTINE_PARTITION), keys, 2,
                       "PartitionKey,RowKey,Timestamp,Used", p->deadline_ms, &p->arena, found, why);
    if (status != ST_OK)
        return status;
    if (found[0])
        return fail_set(why, ST_EXISTS, 0, "the payload is in quarantine already");
    counter->kind = OPERATION_INSERT;
    if (!found[1])
        return ST_OK;
    int32_t used = quota_used(found[1]);
    if (used < 0 || (unsigned int)used >= p->per_day)
        return over_quota(p, why);
    if (!row_of_quota(&counter->entity, p->item->key_name, p->day, used + 1, &p->arena))
        return no_memory(why);
    counter->kind = OPERATION_MERGE;
    counter->entity.etag = found[1]->etag;
    return ST_OK;
}

/* ST_EXISTS: the item is there. ST_CHANGED: others have counted meanwhile. */
static enum status attempt(struct put *p, struct fail *why)
{
    size_t count = 1, failed = NO_INDEX;
    if (p->per_day != QUARANTINE_NO_QUOTA) {
        enum status status = read_counter(p, why);
        if (status != ST_OK)
            return status;
        count = 2;
    }
    enum status status =
        store_transact(p->store, TABLE_OPS, p->operations, count, p->deadline_ms, &failed, why);
    bool is_conflict = status == ST_EXISTS || status == ST_CHANGED || status == ST_NOT_FOUND;
    if (is_conflict && count == 2 && failed != 0)
        return fail_set(why, ST_CHANGED, 0, "others count at the same time");
    return status;
}

/* Those who collide step aside for different times. */
static void step_aside(unsigned int conflicts)
{
    unsigned char byte = 0;
    enum status status = crypto_random(&byte, 1, NULL);
    (void)status; /* without randomness the pause is short */
    int64_t most_ms = conflicts > 4 ? PAUSE_MAX_MS : PAUSE_FIRST_MS << conflicts;
    struct timespec pause = {.tv_nsec = (long)(most_ms * 1000000 / 256 * byte)};
    (void)nanosleep(&pause, NULL);
}

/* The day's first item of a key takes away counters that nobody needs any more.
 * What fails here is tried again with the next counter.  A host whose clock is
 * ahead must not remove those of today, so the store's clock has a say. */
static void remove_old_counters(struct put *p)
{
    struct operation operations[OLD_COUNTERS_AT_ONCE];
    int64_t store_day = store_now_ms(p->store) / CLOCK_DAY_MS;
    int64_t day = p->day < store_day ? p->day : store_day;
    struct query q = {
        .table = TABLE_OPS,
        .partition_key = SPAN_LIT(QUARANTINE_PARTITION),
        .from = SPAN_LIT(QUOTA_KEY_FIRST),
        .to = quota_prefix_of_day(day - QUOTA_DAYS_KEPT, &p->arena),
        .select = "PartitionKey,RowKey,Timestamp",
        .limit = OLD_COUNTERS_AT_ONCE,
    };
    struct page page;
    size_t failed;
    if (!q.to.len || store_query(p->store, &q, p->deadline_ms, &p->arena, &page, NULL) != ST_OK ||
        page.count == 0)
        return;
    for (size_t i = 0; i < page.count; i++)
        operations[i] = (struct operation){.kind = OPERATION_DELETE, .entity = page.rows[i]};
    enum status status =
        store_transact(p->store, TABLE_OPS, operations, page.count, p->deadline_ms, &failed, NULL);
    (void)status;
}

/* Tries until the outcome is known. */
static enum status put_item(struct put *p, struct fail *why)
{
    enum status status = ST_OK;
    unsigned int conflicts = 0, lost = 0;
    bool maybe_written = false, looked_again = false;
    int64_t begun_ms = clock_monotonic_ms(), slowest_ms = 0;
    for (size_t round = 0; round < ROUNDS_MAX; round++) {
        status = attempt(p, why);
        int64_t took_ms = clock_monotonic_ms() - begun_ms;
        slowest_ms = took_ms > slowest_ms ? took_ms : slowest_ms;
        if (status == ST_CHANGED) {
            step_aside(conflicts++);
        } else if (status == ST_OVER_QUOTA && maybe_written && !looked_again) {
            /* The write without an answer may have taken the last place between our two reads. */
            looked_again = true;
        } else if (status == ST_UNKNOWN || status == ST_AGAIN) {
            maybe_written = maybe_written || status == ST_UNKNOWN;
            if (why->retry_after_s > 0 || ++lost == ATTEMPTS_LOST)
                break;
        } else {
            break;
        }
        /* An attempt that the deadline cuts off looks like a store that does not answer. */
        begun_ms = clock_monotonic_ms();
        if (begun_ms + slowest_ms >= p->deadline_ms)
            break;
    }
    if (status == ST_CHANGED)
        (void)fail_set(why, ST_CHANGED, 0, "too many payloads come into quarantine at the same time");
    if (status == ST_EXISTS) /* its key holds a random id: an earlier attempt has written it */
        return ST_OK;
    if (status != ST_OK && status != ST_OVER_QUOTA && maybe_written)
        why->code = status = ST_UNKNOWN;
    if (status == ST_OK && p->per_day != QUARANTINE_NO_QUOTA && p->operations[1].kind == OPERATION_INSERT)
        remove_old_counters(p);
    return status;
}

enum status quarantine_put(struct store *store, const struct quarantined *item, unsigned int per_day,
                           int64_t deadline_ms, struct fail *why)
{
    struct fail reason = {0};
    struct put p = {
        .store = store,
        .item = item,
        .per_day = per_day,
        .day = item->received_ms / CLOCK_DAY_MS,
        .deadline_ms = deadline_ms,
        .arena = ARENA_INIT(LIMIT_REQUEST_ARENA),
        .operations = {{.kind = OPERATION_INSERT}},
    };
    enum status status = row_of_quarantined(&p.operations[0].entity, item, &p.arena) ? put_item(&p, &reason)
                                                                                     : no_memory(&reason);
    arena_release(&p.arena);
    if (status != ST_OK && why)
        *why = reason;
    return status;
}

/* --- looking ------------------------------------------------------------------------------------------------- */

struct listing {
    enum status (*visit)(void *context, const struct quarantine_entry *entry, struct fail *why);
    void *context;
};

static enum status entry_of_row(const struct entity *row, struct quarantine_entry *entry, struct fail *why)
{
    *entry = (struct quarantine_entry){.row_key = row->row_key, .etag = row->etag};
    return quarantined_of_row(row, &entry->item, &entry->body_bytes, why);
}

static enum status visit_row(void *context, struct entity *row, struct fail *why)
{
    const struct listing *listing = context;
    struct quarantine_entry entry;
    /* A row that someone else put there must not hide the others. */
    return entry_of_row(row, &entry, NULL) == ST_OK ? listing->visit(listing->context, &entry, why) : ST_OK;
}

enum status quarantine_list(struct store *store,
                            enum status (*visit)(void *context, const struct quarantine_entry *entry,
                                                 struct fail *why),
                            void *context, struct fail *why)
{
    struct listing listing = {visit, context};
    struct query q = {
        .table = TABLE_OPS,
        .partition_key = SPAN_LIT(QUARANTINE_PARTITION),
        .from = SPAN_LIT(QUARANTINE_KEY_FIRST),
        .to = SPAN_LIT(QUARANTINE_KEY_END),
        .select = COLUMNS_OF_LIST,
        .limit = store_joins_partitions(store) ? 32 : 500, /* sqlite gives the bodies as well */
    };
    return store_each(store, &q, LIST_WAIT_MS, visit_row, &listing, why);
}

struct search {
    struct span digits; /* lower case */
    struct arena *arena;
    struct span row_key; /* of the one found; blank: none yet */
};

static enum status compare(void *context, const struct quarantine_entry *entry, struct fail *why)
{
    struct search *s = context;
    if (!span_starts(span_of(entry->item.id), s->digits))
        return ST_OK;
    if (s->row_key.len)
        return fail_set(why, ST_EXISTS, 0, "several ids in quarantine begin with '%.*s': give more digits",
                        SPAN_FMT(s->digits));
    return arena_copy(s->arena, entry->row_key, &s->row_key) ? ST_OK : no_memory(why);
}

enum status quarantine_find(struct store *store, struct span id, struct arena *arena,
                            struct quarantine_entry *entry, struct fail *why)
{
    char digits[LEAD_DELIVERY_TEXT + 1];
    enum status status = delivery_id_given(id, digits, why);
    struct search s = {.digits = span_of(status == ST_OK ? digits : NULL), .arena = arena};
    if (status == ST_OK)
        status = quarantine_list(store, compare, &s, why);
    struct entity *row = NULL;
    if (status == ST_OK && s.row_key.len)
        status = store_get_many(store, TABLE_OPS, SPAN_LIT(QUARANTINE_PARTITION), &s.row_key, 1, NULL,
                                clock_monotonic_ms() + LIST_WAIT_MS, arena, &row, why);
    if (status != ST_OK)
        return status;
    if (!row)
        return fail_set(why, ST_NOT_FOUND, 0, "there is nothing in quarantine whose id begins with '%s'",
                        digits);
    struct buf body = BUF_INIT(LIMIT_ENTITY_STORED_BYTES);
    status = entry_of_row(row, entry, why);
    if (status == ST_OK)
        status = quarantined_body(row, &body, why);
    if (status == ST_OK && !arena_copy(arena, buf_span(&body), &entry->item.body))
        status = no_memory(why);
    buf_release(&body);
    return status;
}

enum status quarantine_drop(struct store *store, const struct quarantine_entry *entry, struct fail *why)
{
    struct operation operation = {
        .kind = OPERATION_DELETE,
        .entity = {.partition_key = SPAN_LIT(QUARANTINE_PARTITION),
                   .row_key = entry->row_key,
                   .etag = entry->etag},
    };
    enum status status = ST_AGAIN;
    bool maybe_done = false;
    for (unsigned int lost = 0; lost < ATTEMPTS_LOST && (status == ST_AGAIN || status == ST_UNKNOWN);
         lost++) {
        size_t failed;
        status = store_transact(store, TABLE_OPS, &operation, 1, clock_monotonic_ms() + DROP_WAIT_MS, &failed,
                                why);
        if (status == ST_NOT_FOUND && maybe_done)
            return ST_OK;
        maybe_done = maybe_done || status == ST_UNKNOWN;
    }
    return status;
}
