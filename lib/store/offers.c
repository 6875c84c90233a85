#include "lib/store/offers.h"

/* System */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/text.h"

/* L6 */
#include "lib/store/spool_internal.h"
#include "lib/store/sweep.h"

enum {
    SLOTS = 2048, /* a power of two, a third more than are used */
    OFFER_ARENA_BYTES = 64 * 1024,
    OFFERS_PER_PAGE = 500,
    SPOOL_WAIT_MS = 1000,
    PATIENT_WAIT_MS = 60000,
    ROUNDS_MAX = 4,
    APART_MS = 60000 /* who finds a time that is not older leaves it: many processes begin the same day */
};
#define TIMES "PartitionKey,RowKey,Timestamp,FirstLeadTime,LastLeadTime," OFFER_ACTIVE_TIME

/* How long the spool is believed: it does not know of which table its rows tell, or that somebody removed one. */
#define REMEMBERED_MS (60 * 60 * 1000LL)

struct slot {
    char *partition; /* NULL: free */
    int64_t day;     /* on which the row was written, in days since 1970 */
    struct times {
        int64_t last_ms, active_ms; /* as in struct offer */
    } seen, written;                /* written: what the directory has */
};

struct offers {
    pthread_mutex_t mutex;
    uint64_t seed; /* names come from outside: nobody shall choose colliding ones */
    size_t used;
    struct slot slots[SLOTS];
};

enum status offers_new(struct offers **offers, struct fail *why)
{
    struct offers *o = calloc(1, sizeof *o);
    if (!o)
        return fail_set(why, ST_NOMEM, 0, "no memory for the offers directory");
    unsigned char seed[sizeof o->seed];
    enum status status = crypto_random(seed, sizeof seed, why);
    if (status != ST_OK) {
        free(o);
        return status;
    }
    memcpy(&o->seed, seed, sizeof seed);
    (void)pthread_mutex_init(&o->mutex, NULL); /* does not fail for a default mutex on Linux */
    *offers = o;
    return ST_OK;
}

static void forget_all(struct offers *o)
{
    for (size_t i = 0; i < SLOTS; i++)
        free(o->slots[i].partition);
    memset(o->slots, 0, sizeof o->slots);
    o->used = 0;
}

void offers_free(struct offers *offers)
{
    if (!offers)
        return;
    forget_all(offers);
    (void)pthread_mutex_destroy(&offers->mutex);
    free(offers);
}

static size_t hash_of(const struct offers *o, const char *partition)
{
    return (size_t)(text_hash(TEXT_HASH_BEGIN ^ o->seed, partition) >> 20) & (SLOTS - 1);
}

/* The slot of the partition, or a free one. */
static struct slot *find(struct offers *o, const char *partition)
{
    size_t at = hash_of(o, partition);
    while (o->slots[at].partition && strcmp(o->slots[at].partition, partition) != 0)
        at = (at + 1) & (SLOTS - 1);
    return &o->slots[at];
}

static void note(struct times *times, struct times later)
{
    times->last_ms = later.last_ms > times->last_ms ? later.last_ms : times->last_ms;
    times->active_ms = later.active_ms > times->active_ms ? later.active_ms : times->active_ms;
}

static bool is_known(struct offers *o, const char *partition, struct times times)
{
    (void)pthread_mutex_lock(&o->mutex);
    struct slot *slot = find(o, partition);
    bool known = slot->partition && slot->day == times.active_ms / CLOCK_DAY_MS;
    if (known)
        note(&slot->seen, times);
    (void)pthread_mutex_unlock(&o->mutex);
    return known;
}

/* Without memory the offer is just written again the next time. */
static void remember(struct offers *o, const char *partition, struct times times)
{
    (void)pthread_mutex_lock(&o->mutex);
    struct slot *slot = find(o, partition);
    if (!slot->partition && o->used == LIMIT_OFFERS_KNOWN) {
        forget_all(o);
        slot = find(o, partition);
    }
    if (!slot->partition) {
        slot->partition = strdup(partition);
        o->used += slot->partition ? 1 : 0;
    }
    if (slot->partition) {
        slot->day = times.active_ms / CLOCK_DAY_MS;
        note(&slot->seen, times);
        note(&slot->written, times);
    }
    (void)pthread_mutex_unlock(&o->mutex);
}

/* --- a row --------------------------------------------------------------------------------------------------- */

static bool covers(const struct offer *known, const struct offer *offer, int64_t apart_ms)
{
    return (offer->first_ms == 0 || (known->first_ms && known->first_ms <= offer->first_ms)) &&
           known->last_ms + apart_ms >= offer->last_ms && known->active_ms + apart_ms >= offer->active_ms;
}

/* What the row has to say, of which both know something. */
static struct offer join(const struct offer *known, const struct offer *offer)
{
    struct offer whole = *offer;
    if (offer->last_ms < known->last_ms)
        whole.title = span_empty(); /* the newest lead's stays */
    if (known->first_ms && (whole.first_ms == 0 || known->first_ms < whole.first_ms))
        whole.first_ms = known->first_ms;
    if (known->last_ms > whole.last_ms)
        whole.last_ms = known->last_ms;
    if (known->active_ms > whole.active_ms)
        whole.active_ms = known->active_ms;
    return whole;
}

/* Somebody has written the row, or removed it, between the look and the write. */
static bool was_too_late(enum status status)
{
    return status == ST_EXISTS || status == ST_CHANGED || status == ST_NOT_FOUND;
}

/* One look at the row, and one write where it has to say more. */
static enum status try_to_bring(struct store *store, const struct offer *offer, int64_t apart_ms,
                                int64_t deadline_ms, struct arena *arena, struct fail *why)
{
    struct operation operation = {.kind = OPERATION_INSERT};
    struct offer whole = *offer;
    struct entity *row = NULL;
    size_t failed;
    enum status status = store_get_many(store, TABLE_OPS, SPAN_LIT(OFFERS_PARTITION), &offer->partition, 1,
                                        TIMES, deadline_ms, arena, &row, why);
    if (status != ST_OK)
        return status;
    if (row) {
        struct offer known = offer_of_row(row);
        if (covers(&known, offer, apart_ms))
            return ST_OK;
        operation.kind = OPERATION_MERGE;
        whole = join(&known, offer);
    }
    if (!row_of_offer(&operation.entity, &whole, arena))
        return fail_set(why, ST_NOMEM, 0, "no memory");
    operation.entity.etag = row ? row->etag : span_empty();
    return store_transact(store, TABLE_OPS, &operation, 1, deadline_ms, &failed, why);
}

/* Brings the directory up to what the offer says, but for so much. */
static enum status bring(struct store *store, const struct offer *offer, int64_t apart_ms,
                         int64_t deadline_ms, struct fail *why)
{
    enum status status = ST_CHANGED;
    for (int round = 0; round < ROUNDS_MAX && was_too_late(status); round++) {
        struct arena arena = ARENA_INIT(OFFER_ARENA_BYTES + 2 * LIMIT_BODY_BYTES);
        status = try_to_bring(store, offer, apart_ms, deadline_ms, &arena, why);
        arena_release(&arena);
    }
    if (status == ST_OK)
        return ST_OK;
    if (was_too_late(status))
        status = fail_set(why, ST_AGAIN, 0, "others are writing the same row");
    if (status == ST_UNKNOWN) { /* it may be done again */
        status = ST_AGAIN;
        if (why)
            why->code = ST_AGAIN;
    }
    fail_prefix(why, "offers directory");
    return status;
}

/* --- what the spool knows, for processes that live for one request -------------------------------------------- */

struct spooled_offer {
    const struct offer *offer;
    bool is_known;
};

static enum status read_spooled(struct spool *spool, void *context, int64_t deadline_ms, struct fail *why)
{
    struct spooled_offer *known = context;
    struct arena arena = ARENA_INIT(OFFER_ARENA_BYTES);
    struct entity *row = NULL;
    enum status status = store_get_many(spool->store, TABLE_OPS, SPAN_LIT(OFFERS_PARTITION),
                                        &known->offer->partition, 1, NULL, deadline_ms, &arena, &row, why);
    struct offer there = row ? offer_of_row(row) : (struct offer){0};
    known->is_known = status == ST_OK && known->offer->active_ms - there.active_ms < REMEMBERED_MS &&
                      known->offer->last_ms - there.last_ms < REMEMBERED_MS;
    arena_release(&arena);
    return status;
}

static enum status write_spooled(struct spool *spool, void *context, int64_t deadline_ms, struct fail *why)
{
    const struct spooled_offer *known = context;
    return bring(spool->store, known->offer, 0, deadline_ms, why);
}

/* Either way a failure only costs one more write of the directory. */
static bool spool_does(struct spool *spool,
                       enum status (*work)(struct spool *, void *, int64_t, struct fail *),
                       struct spooled_offer *known)
{
    int64_t deadline_ms = clock_monotonic_ms() + SPOOL_WAIT_MS;
    if (!spool || !spool_lock(spool, deadline_ms))
        return false;
    bool done = spool_work(spool, work, known, deadline_ms, NULL) == ST_OK;
    spool_unlock(spool);
    return done;
}

bool offers_counts(const struct lead *lead, struct span origin)
{
    return !lead->is_test && origin.len == 0;
}

enum status offers_ensure(struct offers *offers, struct store *store, struct spool *spool,
                          const struct delivery *delivery, int64_t deadline_ms, struct fail *why)
{
    /* Not the time of receipt: what comes out of a spool after a week has mail to send now. */
    struct times times = {.active_ms = store_now_ms(store)};
    /* Not later than now: a host whose clock is ahead would hide silence for as long. */
    if (offers_counts(delivery->lead, delivery->origin))
        times.last_ms = delivery->received_ms < times.active_ms ? delivery->received_ms : times.active_ms;
    const char *partition = delivery->lead->partition;
    if (is_known(offers, partition, times))
        return ST_OK;
    struct offer offer = {
        .partition = span_of(partition),
        .title = delivery->lead->offer_title,
        .first_ms = times.last_ms,
        .last_ms = times.last_ms,
        .active_ms = times.active_ms,
    };
    struct spooled_offer spooled = {.offer = &offer};
    enum status status = ST_OK;
    if (!spool_does(spool, read_spooled, &spooled) || !spooled.is_known) {
        status = bring(store, &offer, APART_MS, deadline_ms, why);
        if (status == ST_OK)
            (void)spool_does(spool, write_spooled, &spooled);
    }
    if (status == ST_OK)
        remember(offers, partition, times);
    return status;
}

/* Takes one offer of which more was seen than the directory has; false when there is none. */
static bool take_late(struct offers *o, char partition[LIMIT_PARTITION_KEY_BYTES + 1], struct times *times)
{
    bool found = false;
    (void)pthread_mutex_lock(&o->mutex);
    for (size_t i = 0; i < SLOTS && !found; i++) {
        struct slot *slot = &o->slots[i];
        if (slot->partition &&
            (slot->seen.last_ms > slot->written.last_ms || slot->seen.active_ms > slot->written.active_ms)) {
            found = true;
            *times = slot->written = slot->seen;
            memcpy(partition, slot->partition, strlen(slot->partition) + 1);
        }
    }
    (void)pthread_mutex_unlock(&o->mutex);
    return found;
}

/* Nothing more was written than before: the times are tried again at the next flush. */
static void give_back(struct offers *o, const char *partition)
{
    (void)pthread_mutex_lock(&o->mutex);
    struct slot *slot = find(o, partition);
    if (slot->partition)
        slot->written = (struct times){0};
    (void)pthread_mutex_unlock(&o->mutex);
}

enum status offers_flush(struct offers *offers, struct store *store, int64_t deadline_ms, struct fail *why)
{
    char partition[LIMIT_PARTITION_KEY_BYTES + 1];
    struct times times;
    while (take_late(offers, partition, &times)) {
        /* Where someone has removed the row: without its title, which a lead of the next day brings. */
        struct offer offer = {
            .partition = span_of(partition), .last_ms = times.last_ms, .active_ms = times.active_ms};
        enum status status = bring(store, &offer, 0, deadline_ms, why);
        if (status != ST_OK) {
            give_back(offers, partition);
            return status;
        }
    }
    return ST_OK;
}

enum status offers_touch(struct store *store, struct span partition, int64_t deadline_ms, struct fail *why)
{
    struct arena arena = ARENA_INIT(OFFER_ARENA_BYTES);
    struct offer offer = {.partition = partition, .active_ms = store_now_ms(store)};
    struct operation operation = {.kind = OPERATION_MERGE};
    size_t failed;
    enum status status = fail_set(why, ST_NOMEM, 0, "no memory");
    if (row_of_offer(&operation.entity, &offer, &arena)) {
        operation.entity.etag = SPAN_LIT("*");
        status = store_transact(store, TABLE_OPS, &operation, 1, deadline_ms, &failed, why);
    }
    arena_release(&arena);
    if (status != ST_OK)
        fail_prefix(why, "offers directory");
    return status;
}

enum status offers_include(struct store *store, const struct offer *offer, struct fail *why)
{
    unsigned int failures = 0;
    enum status status;
    do {
        status = bring(store, offer, 0, clock_monotonic_ms() + PATIENT_WAIT_MS, why);
    } while (sweep_tries_again(status, &failures, why));
    return status;
}

struct offers_walk {
    enum status (*visit)(void *context, struct span partition, struct fail *why);
    void *context;
};

static enum status visit_row(void *context, struct entity *row, struct fail *why)
{
    const struct offers_walk *walk = context;
    return walk->visit(walk->context, row->row_key, why);
}

struct query offers_query(void)
{
    return (struct query){
        .table = TABLE_OPS,
        .partition_key = SPAN_LIT(OFFERS_PARTITION),
        .select = "PartitionKey,RowKey,Timestamp,Title,FirstLeadTime,LastLeadTime",
        .limit = OFFERS_PER_PAGE,
    };
}

struct query offers_times_query(int64_t since_ms)
{
    struct query q = offers_query();
    q.select = TIMES;
    q.since_column = since_ms ? OFFER_ACTIVE_TIME : NULL;
    q.since_ms = since_ms;
    return q;
}

enum status offers_each(struct store *store, int64_t page_wait_ms,
                        enum status (*visit)(void *context, struct span partition, struct fail *why),
                        void *context, struct fail *why)
{
    struct offers_walk walk = {visit, context};
    struct query q = offers_query();
    return store_each(store, &q, page_wait_ms, visit_row, &walk, why);
}
