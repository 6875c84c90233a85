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

enum {
    SLOTS = 2048, /* a power of two */
    SLOTS_FULL = SLOTS / 4 * 3,
    OFFER_ARENA_BYTES = 64 * 1024,
    OFFERS_PER_PAGE = 500,
    SPOOL_WAIT_MS = 1000
};

/* How long the spool is believed: it does not know of which table its rows tell, or that somebody removed one. */
#define REMEMBERED_MS (60 * 60 * 1000LL)

struct slot {
    char *partition;    /* NULL: free */
    int64_t day;        /* on which the row was written, in days since 1970 */
    int64_t last_ms;    /* of a lead seen */
    int64_t written_ms; /* the last_ms that the directory has */
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

static bool is_known(struct offers *o, const char *partition, int64_t now_ms)
{
    (void)pthread_mutex_lock(&o->mutex);
    struct slot *slot = find(o, partition);
    bool known = slot->partition && slot->day == now_ms / CLOCK_DAY_MS;
    if (known && now_ms > slot->last_ms)
        slot->last_ms = now_ms;
    (void)pthread_mutex_unlock(&o->mutex);
    return known;
}

/* Without memory the offer is just written again the next time. */
static void remember(struct offers *o, const char *partition, int64_t now_ms)
{
    (void)pthread_mutex_lock(&o->mutex);
    struct slot *slot = find(o, partition);
    if (!slot->partition && o->used == SLOTS_FULL) {
        forget_all(o);
        slot = find(o, partition);
    }
    if (!slot->partition) {
        slot->partition = strdup(partition);
        o->used += slot->partition ? 1 : 0;
    }
    if (slot->partition) {
        slot->day = now_ms / CLOCK_DAY_MS;
        slot->last_ms = now_ms;
        slot->written_ms = now_ms;
    }
    (void)pthread_mutex_unlock(&o->mutex);
}

/* Inserts the offer's row, or brings the one that is there up to date. */
static enum status write_offer(struct store *store, const struct offer *offer, bool may_insert,
                               int64_t deadline_ms, struct fail *why)
{
    struct arena arena = ARENA_INIT(OFFER_ARENA_BYTES + 2 * LIMIT_BODY_BYTES);
    struct operation operation = {.kind = may_insert ? OPERATION_INSERT : OPERATION_MERGE};
    size_t failed;
    enum status status = ST_NOMEM;
    if (!row_of_offer(&operation.entity, offer, &arena)) {
        (void)fail_set(why, ST_NOMEM, 0, "no memory for the offers directory");
        goto out;
    }
    operation.entity.etag = SPAN_LIT("*");
    status = store_transact(store, TABLE_OPS, &operation, 1, deadline_ms, &failed, why);
    if (status == ST_EXISTS) {
        struct offer later = *offer;
        later.first_ms = 0; /* the first time stays */
        operation.kind = OPERATION_MERGE;
        if (!row_of_offer(&operation.entity, &later, &arena)) {
            status = fail_set(why, ST_NOMEM, 0, "no memory for the offers directory");
            goto out;
        }
        operation.entity.etag = SPAN_LIT("*");
        status = store_transact(store, TABLE_OPS, &operation, 1, deadline_ms, &failed, why);
    }
out:
    arena_release(&arena);
    if (status != ST_OK)
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
    known->is_known =
        status == ST_OK && row && known->offer->last_ms - offer_of_row(row).last_ms < REMEMBERED_MS;
    arena_release(&arena);
    return status;
}

static enum status write_spooled(struct spool *spool, void *context, int64_t deadline_ms, struct fail *why)
{
    const struct spooled_offer *known = context;
    return write_offer(spool->store, known->offer, true, deadline_ms, why);
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

enum status offers_ensure(struct offers *offers, struct store *store, struct spool *spool,
                          const struct delivery *delivery, int64_t deadline_ms, struct fail *why)
{
    /* Not the time of receipt: what comes out of a spool after a week has mail to send now. */
    int64_t now_ms = store_now_ms(store);
    const char *partition = delivery->lead->partition;
    if (is_known(offers, partition, now_ms))
        return ST_OK;
    struct offer offer = {
        .partition = span_of(partition),
        .title = delivery->lead->offer_title,
        .first_ms = delivery->received_ms,
        .last_ms = now_ms,
    };
    struct spooled_offer spooled = {.offer = &offer};
    enum status status = ST_OK;
    if (!spool_does(spool, read_spooled, &spooled) || !spooled.is_known) {
        status = write_offer(store, &offer, true, deadline_ms, why);
        if (status == ST_OK)
            (void)spool_does(spool, write_spooled, &spooled);
    }
    if (status == ST_OK)
        remember(offers, partition, now_ms);
    return status;
}

/* Takes one offer whose time is newer than the directory's; false when there is none. */
static bool take_late(struct offers *o, char partition[LIMIT_PARTITION_KEY_BYTES + 1], int64_t *last_ms)
{
    bool found = false;
    (void)pthread_mutex_lock(&o->mutex);
    for (size_t i = 0; i < SLOTS && !found; i++) {
        struct slot *slot = &o->slots[i];
        if (slot->partition && slot->last_ms > slot->written_ms) {
            found = true;
            *last_ms = slot->last_ms;
            slot->written_ms = slot->last_ms;
            memcpy(partition, slot->partition, strlen(slot->partition) + 1);
        }
    }
    (void)pthread_mutex_unlock(&o->mutex);
    return found;
}

/* Nothing more was written than before: the time is tried again at the next flush. */
static void give_back(struct offers *o, const char *partition)
{
    (void)pthread_mutex_lock(&o->mutex);
    struct slot *slot = find(o, partition);
    if (slot->partition)
        slot->written_ms = 0;
    (void)pthread_mutex_unlock(&o->mutex);
}

enum status offers_flush(struct offers *offers, struct store *store, int64_t deadline_ms, struct fail *why)
{
    char partition[LIMIT_PARTITION_KEY_BYTES + 1];
    int64_t last_ms;
    while (take_late(offers, partition, &last_ms)) {
        struct offer offer = {.partition = span_of(partition), .last_ms = last_ms};
        enum status status = write_offer(store, &offer, false, deadline_ms, why);
        /* Someone has removed it: then again without its title, which the next day's first lead brings. */
        if (status == ST_NOT_FOUND)
            status = write_offer(store, &offer, true, deadline_ms, why);
        if (status != ST_OK) {
            give_back(offers, partition);
            return status;
        }
    }
    return ST_OK;
}

enum status offers_touch(struct store *store, struct span partition, int64_t deadline_ms, struct fail *why)
{
    struct offer offer = {.partition = partition, .last_ms = store_now_ms(store)};
    return write_offer(store, &offer, false, deadline_ms, why);
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

enum status offers_each(struct store *store, int64_t page_wait_ms,
                        enum status (*visit)(void *context, struct span partition, struct fail *why),
                        void *context, struct fail *why)
{
    struct offers_walk walk = {visit, context};
    struct query q = {
        .table = TABLE_OPS,
        .partition_key = SPAN_LIT(OFFERS_PARTITION),
        .select = "PartitionKey,RowKey,Timestamp",
        .limit = OFFERS_PER_PAGE,
    };
    return store_each(store, &q, page_wait_ms, visit_row, &walk, why);
}
