#include "lib/store/quarantine.h"

/* System */
#include <string.h>
#include <time.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"

enum {
    ROUNDS_MAX = 200,  /* more often than that nobody is overtaken before the deadline */
    ATTEMPTS_LOST = 3, /* writes without an answer before we give up */
    PAUSE_FIRST_MS = 4,
    PAUSE_MAX_MS = 64,
    OLD_COUNTERS_AT_ONCE = 50,
    RETRY_WHEN_FULL_S = 60 * 60, /* a person has to make room */
    LIST_WAIT_MS = 60000,
    DROP_WAIT_MS = 30000
};

#define COLUMNS_OF_LIST                                                                                      \
    "PartitionKey,RowKey,Timestamp,ReceivedTime,KeyName,ContentType,Reason,BodyBytes,DeliveryId"

/* --- counting ------------------------------------------------------------------------------------------------ */

static enum status no_memory(struct fail *why)
{
    return fail_set(why, ST_NOMEM, 0, "no memory for quarantine");
}

/* Reads rows by their keys: of items and counters only what tells that they are there, and what was counted. */
static enum status read_rows(struct store *store, const struct span *keys, size_t count, int64_t deadline_ms,
                             struct arena *arena, struct entity **found, struct fail *why)
{
    return store_get_many(store, TABLE_OPS, SPAN_LIT(QUARANTINE_PARTITION), keys, count,
                          "PartitionKey,RowKey,Timestamp,Used,UsedKiB", deadline_ms, arena, found, why);
}

static const struct span TOTAL_KEY = {QUARANTINE_TOTAL_KEY, sizeof QUARANTINE_TOTAL_KEY - 1};

/* The operation that makes the total this; old is its row as it was read, or NULL. */
static enum status set_total(struct operation *operation, const struct entity *old, int64_t kib,
                             struct arena *arena, struct fail *why)
{
    int32_t used = kib < 0 ? 0 : kib > INT32_MAX ? INT32_MAX : (int32_t)kib;
    operation->kind = old ? OPERATION_MERGE : OPERATION_INSERT;
    if (!row_of_total(&operation->entity, used, arena))
        return no_memory(why);
    if (old)
        operation->entity.etag = old->etag;
    return ST_OK;
}

enum status quarantine_used(struct store *store, int64_t deadline_ms, uint64_t *bytes, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct entity *total;
    enum status status = read_rows(store, &TOTAL_KEY, 1, deadline_ms, &arena, &total, why);
    if (status == ST_OK)
        *bytes = total ? (uint64_t)total_used_kib(total) * 1024 : 0;
    arena_release(&arena);
    return status;
}

/* --- putting ------------------------------------------------------------------------------------------------- */

enum { OPERATIONS_MAX = 3 }; /* the item, the total, its key's counter */

struct put {
    struct store *store;
    const struct quarantined *item;
    struct quarantine_quota quota;
    int64_t day; /* of the receipt, since 1970 */
    int64_t deadline_ms;
    struct arena arena;
    struct arena round;                          /* of one attempt: there may be many */
    struct operation operations[OPERATIONS_MAX]; /* the item comes first */
    size_t count;
    bool begins_day; /* the last attempt was to make its key's counter */
};

static enum status day_is_full(const struct put *p, struct fail *why)
{
    int64_t left_ms = CLOCK_DAY_MS - p->item->received_ms % CLOCK_DAY_MS;
    (void)fail_set(why, ST_OVER_QUOTA, 0, "the key's quarantine is full for today (%u payloads)",
                   p->quota.per_day);
    why->retry_after_s = (int)((left_ms + 999) / 1000);
    return ST_OVER_QUOTA;
}

static enum status all_is_full(const struct put *p, struct fail *why)
{
    (void)fail_set(why, ST_OVER_QUOTA, 0, "quarantine is full (%llu bytes)",
                   (unsigned long long)p->quota.max_bytes);
    why->retry_after_s = RETRY_WHEN_FULL_S;
    return ST_OVER_QUOTA;
}

/* Adds the operation that counts one more of the key; old is the counter as it was read, or NULL. */
static enum status count_of_day(struct put *p, const struct entity *old, struct fail *why)
{
    struct operation *counter = &p->operations[p->count++];
    int32_t used = old ? quota_used(old) : 0;
    if (used < 0 || (unsigned int)used >= p->quota.per_day)
        return day_is_full(p, why);
    if (!row_of_quota(&counter->entity, p->item->key_name, p->day, used + 1, &p->round))
        return no_memory(why);
    counter->kind = old ? OPERATION_MERGE : OPERATION_INSERT;
    if (old)
        counter->entity.etag = old->etag;
    p->begins_day = !old;
    return ST_OK;
}

static enum status count_of_all(struct put *p, const struct entity *old, struct fail *why)
{
    int64_t used = (old ? (int64_t)total_used_kib(old) : 0) + quarantined_kib(p->item->body.len);
    if ((uint64_t)used > p->quota.max_bytes / 1024)
        return all_is_full(p, why);
    return set_total(&p->operations[p->count++], old, used, &p->round, why);
}

/* Reads what is counted and makes the operations that count one more.
 * ST_EXISTS: the item is there already. */
static enum status count_one_more(struct put *p, struct fail *why)
{
    struct entity counter, *found[OPERATIONS_MAX];
    struct span keys[OPERATIONS_MAX] = {p->operations[0].entity.row_key, TOTAL_KEY};
    if (!row_of_quota(&counter, p->item->key_name, p->day, 1, &p->round))
        return no_memory(why);
    keys[2] = counter.row_key;
    enum status status = read_rows(p->store, keys, OPERATIONS_MAX, p->deadline_ms, &p->round, found, why);
    if (status == ST_OK && found[0])
        status = fail_set(why, ST_EXISTS, 0, "the payload is in quarantine already");
    if (status == ST_OK && p->quota.per_day > 0)
        status = count_of_day(p, found[2], why);
    if (status == ST_OK && p->quota.max_bytes > 0)
        status = count_of_all(p, found[1], why);
    return status;
}

static bool is_conflict(enum status status)
{
    return status == ST_EXISTS || status == ST_CHANGED || status == ST_NOT_FOUND;
}

/* ST_EXISTS: the item is there. ST_CHANGED: others have counted meanwhile. */
static enum status attempt(struct put *p, struct fail *why)
{
    size_t failed = NO_INDEX;
    arena_reset(&p->round);
    p->count = 1;
    p->begins_day = false;
    enum status status = count_one_more(p, why);
    if (status != ST_OK)
        return status;
    status = store_transact(p->store, TABLE_OPS, p->operations, p->count, p->deadline_ms, &failed, why);
    if (is_conflict(status) && p->count > 1 && failed != 0)
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
        .to = quota_prefix_of_day(day - LIMIT_QUOTA_DAYS, &p->arena),
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
    if (status == ST_OK && p->begins_day)
        remove_old_counters(p);
    return status;
}

enum status quarantine_put(struct store *store, const struct quarantined *item,
                           const struct quarantine_quota *quota, int64_t deadline_ms, struct fail *why)
{
    struct fail reason = {0};
    struct put p = {
        .store = store,
        .item = item,
        .quota = *quota,
        .day = item->received_ms / CLOCK_DAY_MS,
        .deadline_ms = deadline_ms,
        .arena = ARENA_INIT(LIMIT_REQUEST_ARENA),
        .round = ARENA_INIT(LIMIT_REQUEST_ARENA),
        .operations = {{.kind = OPERATION_INSERT}},
    };
    enum status status = row_of_quarantined(&p.operations[0].entity, item, &p.arena) ? put_item(&p, &reason)
                                                                                     : no_memory(&reason);
    arena_release(&p.round);
    arena_release(&p.arena);
    if (status != ST_OK && why)
        *why = reason;
    return status;
}

enum status quarantined_of_lead(const struct delivery *delivery, struct buf *row, struct quarantined *item,
                                struct fail *why)
{
    const struct deliveries once = {1, delivery->received_ms, delivery->received_ms, span_of(delivery->id),
                                    span_of(delivery->id)};
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct entity entity;
    struct quarantined result = {.received_ms = delivery->received_ms,
                                 .key_name = delivery->key_name,
                                 .webhook_id = delivery->webhook_id,
                                 .request_id = delivery->request_id,
                                 .body = delivery->lead->payload};
    enum status status = ST_OK;
    memcpy(result.id, delivery->id, sizeof result.id);
    if (!result.body.len) {
        status =
            row_of_lead(&entity, delivery, &once, &arena) ? entity_write(row, &entity, why) : no_memory(why);
        result.body = buf_span(row);
        result.content_type = SPAN_LIT("application/json");
    }
    if (status == ST_OK)
        *item = result;
    arena_release(&arena);
    return status;
}

/* --- looking ------------------------------------------------------------------------------------------------- */

struct listing {
    enum status (*visit)(void *context, const struct quarantine_entry *entry, struct fail *why);
    void *context;
    int64_t kib; /* of the items seen */
};

static enum status entry_of_row(const struct entity *row, struct quarantine_entry *entry, struct fail *why)
{
    *entry = (struct quarantine_entry){.row_key = row->row_key, .etag = row->etag};
    return quarantined_of_row(row, &entry->item, &entry->body_bytes, why);
}

static enum status visit_row(void *context, struct entity *row, struct fail *why)
{
    struct listing *listing = context;
    struct quarantine_entry entry;
    if (entry_of_row(row, &entry, NULL) != ST_OK)
        return ST_OK; /* a row that someone else put there must not hide the others */
    listing->kib += quarantined_kib(entry.body_bytes);
    return listing->visit(listing->context, &entry, why);
}

/* Rows that were removed by other means than ours still count; and before there was a total nothing did.  Who has just
 * seen all of them says so, unless somebody has counted meanwhile.  Where that fails, the next one tries again. */
static void correct_total(struct store *store, const struct entity *total, int64_t kib, struct arena *arena)
{
    struct operation operation;
    size_t failed;
    int64_t counted = total ? total_used_kib(total) : 0;
    if (counted == kib || set_total(&operation, total, kib, arena, NULL) != ST_OK)
        return;
    enum status status =
        store_transact(store, TABLE_OPS, &operation, 1, clock_monotonic_ms() + DROP_WAIT_MS, &failed, NULL);
    (void)status;
}

enum status quarantine_list(struct store *store,
                            enum status (*visit)(void *context, const struct quarantine_entry *entry,
                                                 struct fail *why),
                            void *context, struct fail *why)
{
    struct listing listing = {.visit = visit, .context = context};
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct entity *total = NULL;
    struct query q = {
        .table = TABLE_OPS,
        .partition_key = SPAN_LIT(QUARANTINE_PARTITION),
        .from = SPAN_LIT(QUARANTINE_KEY_FIRST),
        .to = SPAN_LIT(QUARANTINE_KEY_END),
        .select = COLUMNS_OF_LIST,
        .limit = store_joins_partitions(store) ? 32 : 500, /* sqlite gives the bodies as well */
    };
    enum status status =
        read_rows(store, &TOTAL_KEY, 1, clock_monotonic_ms() + LIST_WAIT_MS, &arena, &total, why);
    if (status == ST_OK)
        status = store_each(store, &q, LIST_WAIT_MS, visit_row, &listing, why);
    if (status == ST_OK)
        correct_total(store, total, listing.kib, &arena);
    arena_release(&arena);
    return status;
}

static enum status pass_over(void *context, const struct quarantine_entry *entry, struct fail *why)
{
    (void)context;
    (void)entry;
    (void)why;
    return ST_OK;
}

void quarantine_recount(struct store *store)
{
    enum status status = quarantine_list(store, pass_over, NULL, NULL);
    (void)status;
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

/* --- dropping ------------------------------------------------------------------------------------------------ */

/* ST_NOT_FOUND: the item is gone. ST_CHANGED with *failed other than 0: others have counted meanwhile. */
static enum status try_drop(struct store *store, const struct quarantine_entry *entry, int64_t deadline_ms,
                            struct arena *arena, size_t *failed, struct fail *why)
{
    const struct span keys[2] = {entry->row_key, TOTAL_KEY};
    struct entity *found[2];
    struct operation operations[2] = {{
        .kind = OPERATION_DELETE,
        .entity = {.partition_key = SPAN_LIT(QUARANTINE_PARTITION),
                   .row_key = entry->row_key,
                   .etag = entry->etag},
    }};
    size_t count = 1;
    *failed = 0;
    enum status status = read_rows(store, keys, 2, deadline_ms, arena, found, why);
    if (status != ST_OK)
        return status == ST_UNKNOWN ? ST_AGAIN : status; /* nothing was changed */
    if (!found[0])
        return fail_set(why, ST_NOT_FOUND, 0, "the row is not there");
    if (found[1]) {
        int64_t left = (int64_t)total_used_kib(found[1]) - quarantined_kib(entry->body_bytes);
        status = set_total(&operations[count++], found[1], left, arena, why);
        if (status != ST_OK)
            return status;
    }
    *failed = NO_INDEX;
    status = store_transact(store, TABLE_OPS, operations, count, deadline_ms, failed, why);
    if (is_conflict(status) && count > 1 && *failed != 0)
        return fail_set(why, ST_CHANGED, 0, "others count at the same time");
    return status;
}

enum status quarantine_drop(struct store *store, const struct quarantine_entry *entry, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    int64_t deadline_ms = clock_monotonic_ms() + DROP_WAIT_MS;
    enum status status = ST_AGAIN;
    unsigned int conflicts = 0, lost = 0;
    bool maybe_done = false;
    for (size_t round = 0; round < ROUNDS_MAX && lost < ATTEMPTS_LOST; round++) {
        size_t failed;
        arena_reset(&arena);
        status = try_drop(store, entry, deadline_ms, &arena, &failed, why);
        if (status == ST_CHANGED && failed != 0 && clock_monotonic_ms() < deadline_ms)
            step_aside(conflicts++);
        else if (status == ST_AGAIN || status == ST_UNKNOWN)
            lost++;
        else
            break;
        maybe_done = maybe_done || status == ST_UNKNOWN;
    }
    arena_release(&arena);
    return status == ST_NOT_FOUND && maybe_done ? ST_OK : status;
}
