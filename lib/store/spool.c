#include "lib/store/spool.h"

/* System */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/condition.h"

/* L6 */
#include "lib/store/generations.h"
#include "lib/store/quarantine.h"
#include "lib/store/spool_internal.h"

enum {
    DAMAGED_MAX = 4,         /* generations in one piece of work */
    RECLAIM_EVERY_MS = 1000, /* between attempts to make room */
    STATE_WAIT_MS = 2000,
    ROW_PAGES = 2,    /* of a row, in part: the rest of its text and its place in the index */
    COMMIT_PAGES = 16 /* of a transaction besides its rows: inner nodes, free list, head */
};
#define PAGE_BYTES 4096u
/* Of max_bytes, for the log: what is deleted is overwritten, and goes through it too. */
#define LOG_SHARE       4
#define LOG_MOST        (16u * 1024 * 1024)
#define DISK_RESERVE    (1024u * 1024)   /* left free on the disk, or nothing could be taken out any more */
#define PROBE_ROW_BYTES LIMIT_BODY_BYTES /* a large lead */

static uint64_t log_share(const struct spool *s)
{
    uint64_t share = s->max_bytes / LOG_SHARE;
    return share < LOG_MOST ? share : LOG_MOST;
}

/* --- generations --------------------------------------------------------------------------------------------- */

static bool is_current(const struct spool *s, unsigned int generation)
{
    struct generations found;
    return generations_find(s->path, &found, NULL) == ST_OK && generations_current(&found) == generation;
}

bool spool_is_current(const struct spool *spool, struct store *current, unsigned int generation)
{
    return is_current(spool, generation) && !sqlite_store_has_moved(current);
}

enum status spool_open_generation(const struct spool *s, unsigned int generation, struct store **store,
                                  struct fail *why)
{
    struct buf name = BUF_INIT(LIMIT_PATH_BYTES);
    struct store *opened = NULL;
    enum status status = generation_path(s->path, generation, "", &name, why);
    if (status == ST_OK)
        status = store_open_sqlite(name.data, &opened, why);
    buf_release(&name);
    if (status == ST_OK)
        status = sqlite_store_limit_log(opened, log_share(s), why);
    if (status == ST_OK)
        *store = opened;
    else
        store_close(opened);
    return status;
}

static void close_store(struct spool *s)
{
    store_close(s->store);
    s->store = NULL;
}

static enum status begin_generation(const struct spool *s, unsigned int generation, struct fail *why)
{
    struct store *store;
    struct generations found;
    char text[LIMIT_ALARM_TEXT_BYTES];
    enum status status = generations_find(s->path, &found, why);
    if (status == ST_OK && found.count == LIMIT_GENERATIONS)
        return fail_set(
            why, ST_IO, 0,
            "the spool was damaged %d times: look at the disk, then move the old generations away",
            LIMIT_GENERATIONS);
    if (status == ST_OK)
        status = spool_open_generation(s, generation, &store, why);
    if (status != ST_OK)
        return status;
    (void)snprintf(
        text, sizeof text,
        "The spool file of generation %u is damaged. Leads go into a new one, '%s.%u'; what can be "
        "read of the old one is copied. Look at the disk and at the system's log.",
        generation - 1, s->path, generation);
    /* The one who began it matters, not whether it could be told: the log has it too. */
    enum status told =
        alarm_raise(store, ALARM_SPOOL_DAMAGED, text, clock_monotonic_ms() + WAIT_SQLITE_BUSY_MS, NULL);
    (void)told;
    store_close(store);
    return ST_OK;
}

enum status spool_leave_generation(struct spool *spool, unsigned int generation, struct fail *why)
{
    if (!is_current(spool, generation))
        return ST_OK;
    return begin_generation(spool, generation + 1, why);
}

/* Opens the current generation and the ledger, where that has not been done. */
static enum status ensure_open(struct spool *s, struct fail *why)
{
    struct generations found;
    enum status status = generations_find(s->path, &found, why);
    unsigned int current = generations_current(&found);
    if (status == ST_OK && s->ledger >= 0 && ledger_is_gone(s->ledger)) {
        (void)close(s->ledger);
        s->ledger = -1;
    }
    /* The ledger first: opening a database syncs the folder of both. */
    if (status == ST_OK && s->ledger < 0) {
        close_store(s);
        status = ledger_open(s->path, &s->ledger, why);
    }
    if (status != ST_OK || (s->store && s->generation == current && !sqlite_store_has_moved(s->store)))
        return status;
    close_store(s);
    s->generation = current ? current : 1;
    generation_unmark_salvaged(s->path, s->generation);
    return spool_open_generation(s, s->generation, &s->store, why);
}

enum status spool_work(struct spool *s,
                       enum status (*work)(struct spool *s, void *context, int64_t deadline_ms,
                                           struct fail *why),
                       void *context, int64_t deadline_ms, struct fail *why)
{
    enum status status = ST_OK;
    for (int damaged = 0; damaged < DAMAGED_MAX;) {
        status = ensure_open(s, why);
        if (status == ST_OK)
            status = work(s, context, deadline_ms, why);
        if (status == ST_DAMAGED) {
            damaged++;
            close_store(s);
            enum status left = spool_leave_generation(s, s->generation, why);
            if (left != ST_OK && left != ST_DAMAGED) /* another process's new one can be damaged by now */
                return left;
        } else if (status != ST_CHANGED || clock_monotonic_ms() >= deadline_ms) {
            break;
        }
    }
    if (status == ST_DAMAGED)
        return fail_set(why, ST_IO, 0, "one generation of the spool after the other is damaged");
    if (status == ST_CHANGED)
        return fail_set(why, ST_AGAIN, 0, "the spool's generation is left time and again");
    /* After a failure of the disk a new connection reads its log anew and believes only what matches. */
    if (status == ST_IO)
        close_store(s);
    return status;
}

bool spool_lock(struct spool *s, int64_t deadline_ms)
{
    bool in_time = true;
    (void)pthread_mutex_lock(&s->mutex);
    while (s->is_taken && in_time)
        in_time = condition_wait(&s->given_back, &s->mutex, deadline_ms);
    bool ours = !s->is_taken;
    s->is_taken = true;
    (void)pthread_mutex_unlock(&s->mutex);
    return ours;
}

void spool_unlock(struct spool *s)
{
    (void)pthread_mutex_lock(&s->mutex);
    s->is_taken = false;
    (void)pthread_cond_signal(&s->given_back);
    (void)pthread_mutex_unlock(&s->mutex);
}

/* --- room ---------------------------------------------------------------------------------------------------- */

/* What a transaction that is about to commit adds. */
struct demand {
    struct spool *spool;
    uint64_t bytes;
    size_t rows;
};

/* Whether there is room for it; asked while no other process can write. */
static enum status admit(void *context, struct fail *why)
{
    const struct demand *d = context;
    const struct spool *s = d->spool;
    const uint64_t share = log_share(s);
    struct generations found;
    struct statvfs disk;
    uint64_t size, unused;
    enum status status = sqlite_store_size(s->store, &size, &unused, why);
    if (status == ST_OK)
        status = generations_find(s->path, &found, why);
    if (status != ST_OK)
        return status;
    uint64_t cost = d->bytes + PAGE_BYTES * (ROW_PAGES * d->rows + COMMIT_PAGES);
    uint64_t file = generation_bytes(s->path, s->generation, "");
    uint64_t log = generation_bytes(s->path, s->generation, "-wal");
    uint64_t others = found.bytes - (file + log < found.bytes ? file + log : found.bytes);
    others += found.ledger_bytes;          /* for the departures */
    uint64_t grown = size - unused + cost; /* once the log is carried over */
    uint64_t used = others + (grown > file ? grown : file) + (log + cost > share ? log + cost : share);
    if (used > s->max_bytes)
        return fail_set(why, ST_AGAIN, 0,
                        "the spool is full: %llu bytes of %llu (spool_max_bytes) are in use",
                        (unsigned long long)found.bytes, (unsigned long long)s->max_bytes);
    if (statvfs(s->path, &disk) == 0 && disk.f_bavail * disk.f_frsize < 2 * cost + DISK_RESERVE)
        return fail_set(why, ST_AGAIN, 0, "the disk of the spool is full");
    return ST_OK;
}

/* Gives room back where the log holds what is long in the database.  false: not now. */
static bool reclaim(struct spool *s, int64_t deadline_ms)
{
    int64_t now = clock_monotonic_ms();
    if (now - s->reclaimed_ms < RECLAIM_EVERY_MS)
        return false;
    s->reclaimed_ms = now;
    sqlite_store_shrink(s->store, false, deadline_ms);
    return true;
}

/* --- writing ------------------------------------------------------------------------------------------------- */

/* As it lies in the database. */
static uint64_t bytes_of(const struct entity *row)
{
    struct buf json = BUF_INIT(LIMIT_ENTITY_JSON_BYTES);
    uint64_t bytes = entity_write(&json, row, NULL) == ST_OK ? json.len : LIMIT_ENTITY_JSON_BYTES;
    buf_release(&json);
    return bytes;
}

enum status spool_insert(struct store *store, enum table_id table, const struct operation *operations,
                         size_t count, int64_t deadline_ms, uint64_t *inserted, size_t *failed,
                         struct fail *why)
{
    struct operation left[LIMIT_BATCH_OPERATIONS];
    size_t index[LIMIT_BATCH_OPERATIONS];
    enum status status = ST_OK;
    for (size_t i = 0; i < count; i++) {
        left[i] = operations[i];
        index[i] = i;
    }
    while (status == ST_OK && count > 0) {
        size_t at = NO_INDEX;
        status = store_transact(store, table, left, count, deadline_ms, &at, why);
        if (status == ST_OK)
            break;
        *failed = at < count ? index[at] : NO_INDEX;
        if (status == ST_EXISTS && at < count) {
            count--;
            memmove(left + at, left + at + 1, (count - at) * sizeof left[0]);
            memmove(index + at, index + at + 1, (count - at) * sizeof index[0]);
            status = ST_OK;
        }
    }
    *inserted = count;
    return status;
}

/* What is written: rows of leads, or one quarantined payload. */
struct put {
    struct demand demand;
    const struct operation *operations;
    size_t count;
    size_t failed; /* the row that can never be written, or NO_INDEX */
    const struct quarantined *item;
    unsigned int per_day;
};

static enum status insert_rows(struct spool *s, struct put *p, int64_t deadline_ms, struct fail *why)
{
    uint64_t inserted;
    /* Some may be there: the salvage of the generation that we have just left was quicker. */
    return spool_insert(s->store, TABLE_LEADS, p->operations, p->count, deadline_ms, &inserted, &p->failed,
                        why);
}

static enum status insert_quarantined(struct spool *s, struct put *p, int64_t deadline_ms, struct fail *why)
{
    /* spool_max_bytes bounds them all. */
    const struct quarantine_quota quota = {.per_day = p->per_day};
    enum status status = quarantine_put(s->store, p->item, &quota, deadline_ms, why);
    /* In this module that word means something else. */
    return status == ST_CHANGED ? fail_set(why, ST_AGAIN, 0, "too much goes into quarantine at once")
                                : status;
}

static enum status insert(struct spool *s, struct put *p, int64_t deadline_ms, struct fail *why)
{
    p->demand.spool = s;
    sqlite_store_guard(s->store, admit, &p->demand);
    enum status status =
        p->item ? insert_quarantined(s, p, deadline_ms, why) : insert_rows(s, p, deadline_ms, why);
    sqlite_store_guard(s->store, NULL, NULL);
    return status;
}

static enum status note_arrival(const struct spool *s, const struct put *p, struct fail *why)
{
    struct span keys[LIMIT_BATCH_OPERATIONS];
    struct arena arena = ARENA_INIT(LIMIT_SECRET_FILE_BYTES);
    for (size_t i = 0; i < p->count; i++)
        keys[i] = p->operations[i].entity.row_key;
    if (p->item)
        keys[0] = row_key_of_time(p->item->received_ms, p->item->id, &arena);
    enum status status = ledger_note(s->ledger, LEDGER_ARRIVED, p->item ? LEDGER_QUARANTINED : LEDGER_LEAD,
                                     keys, p->item ? 1 : p->count, why);
    arena_release(&arena);
    return status;
}

/* ST_CHANGED: into a generation that was left meanwhile, perhaps too late for its salvage. */
static enum status put_once(struct spool *s, void *context, int64_t deadline_ms, struct fail *why)
{
    struct put *p = context;
    bool held = ledger_hold(s->ledger, deadline_ms);
    enum status status = insert(s, p, deadline_ms, why);
    if (status == ST_AGAIN && reclaim(s, deadline_ms))
        status = insert(s, p, deadline_ms, why);
    if (status == ST_OK && !spool_is_current(s, s->store, s->generation))
        status = fail_set(why, ST_CHANGED, 0, "the spool's generation was left");
    if (status == ST_OK)
        status = note_arrival(s, p, why);
    if (held)
        ledger_release(s->ledger);
    return status;
}

static enum status put(struct spool *s, struct put *p, int64_t deadline_ms, struct fail *why)
{
    p->failed = NO_INDEX;
    if (!spool_lock(s, deadline_ms))
        return fail_set(why, ST_AGAIN, 0, "the spool is too busy");
    enum status status = spool_work(s, put_once, p, deadline_ms, why);
    spool_unlock(s);
    return status;
}

static void settle(struct lead_write *lead, enum status status, const struct fail *why)
{
    lead->status = status;
    lead->is_spooled = status == ST_OK;
    if (status != ST_OK)
        lead->why = *why;
}

/* Leaves out the lead that no store could take.  Gives how many are left. */
static size_t refuse(struct lead_write **leads, struct operation *operations, size_t count, size_t at,
                     struct fail *why)
{
    fail_prefix(why, "a store would refuse this lead");
    why->code = ST_REFUSED;
    settle(leads[at], ST_REFUSED, why);
    count--;
    memmove(leads + at, leads + at + 1, (count - at) * sizeof(struct lead_write *));
    memmove(operations + at, operations + at + 1, (count - at) * sizeof operations[0]);
    return count;
}

void spool_put_leads(struct spool *spool, struct lead_write *const *leads, size_t count, int64_t deadline_ms)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct operation operations[LIMIT_BATCH_OPERATIONS];
    struct lead_write *left[LIMIT_BATCH_OPERATIONS];
    struct put p = {.operations = operations};
    struct fail why;
    enum status status = ST_OK;
    if (count > LIMIT_BATCH_OPERATIONS)
        count = LIMIT_BATCH_OPERATIONS;
    for (size_t i = 0; i < count; i++) {
        struct delivery *delivery = &leads[i]->delivery;
        left[i] = leads[i];
        delivery->may_be_written = leads[i]->status == ST_UNKNOWN;
        operations[i].kind = OPERATION_INSERT;
        if (row_of_spooled(&operations[i].entity, delivery, &arena))
            p.demand.bytes += bytes_of(&operations[i].entity);
        else
            status = fail_set(&why, ST_NOMEM, 0, "no memory to spool leads");
    }
    p.demand.rows = count;
    while (status == ST_OK && count > 0) {
        p.count = count;
        status = put(spool, &p, deadline_ms, &why);
        if ((status != ST_INVALID && status != ST_TOO_LARGE) || p.failed >= count)
            break;
        count = refuse(left, operations, count, p.failed, &why);
        status = ST_OK;
    }
    if (status != ST_OK)
        fail_prefix(&why, "spool");
    for (size_t i = 0; i < count; i++)
        settle(left[i], status, &why);
    arena_release(&arena);
}

enum status spool_put_quarantined(struct spool *spool, const struct quarantined *item, unsigned int per_day,
                                  int64_t deadline_ms, struct fail *why)
{
    struct put p = {.item = item, .per_day = per_day};
    p.demand.bytes = 2 * item->body.len;
    p.demand.rows = 2;
    enum status status = put(spool, &p, deadline_ms, why);
    if (status != ST_OK)
        fail_prefix(why, "spool");
    return status;
}

struct raise {
    enum alarm alarm;
    const char *text;
};

static enum status raise_once(struct spool *s, void *context, int64_t deadline_ms, struct fail *why)
{
    const struct raise *r = context;
    return alarm_raise(s->store, r->alarm, r->text, deadline_ms, why);
}

enum status spool_raise(struct spool *spool, enum alarm alarm, const char *text, int64_t deadline_ms,
                        struct fail *why)
{
    struct raise r = {alarm, text};
    if (!spool_lock(spool, deadline_ms))
        return fail_set(why, ST_AGAIN, 0, "the spool is too busy");
    enum status status = spool_work(spool, raise_once, &r, deadline_ms, why);
    spool_unlock(spool);
    return status;
}

static enum status probe_once(struct spool *s, void *context, int64_t deadline_ms, struct fail *why)
{
    sqlite_store_guard(s->store, admit, context);
    enum status status = store_probe(s->store, deadline_ms, why);
    sqlite_store_guard(s->store, NULL, NULL);
    return status;
}

enum status spool_probe(struct spool *spool, int64_t deadline_ms, struct fail *why)
{
    struct demand d = {.spool = spool, .bytes = PROBE_ROW_BYTES, .rows = 1};
    if (!spool_lock(spool, deadline_ms))
        return fail_set(why, ST_AGAIN, 0, "the spool is too busy");
    enum status status = spool_work(spool, probe_once, &d, deadline_ms, why);
    spool_unlock(spool);
    return status;
}

/* --- taking out ---------------------------------------------------------------------------------------------- */

enum status spool_open_current(struct spool *spool, struct store **store, unsigned int *generation,
                               struct fail *why)
{
    if (!spool_lock(spool, clock_monotonic_ms() + WAIT_SPOOL_MS))
        return fail_set(why, ST_AGAIN, 0, "the spool is too busy");
    enum status status = ensure_open(spool, why);
    *generation = spool->generation;
    spool_unlock(spool);
    return status == ST_OK ? spool_open_generation(spool, *generation, store, why) : status;
}

enum status spool_read_quarantined(const struct entity *row, struct quarantined *item, struct buf *body,
                                   struct fail *why)
{
    size_t bytes;
    enum status status =
        row->row_key.len == LEDGER_KEY_TEXT ? quarantined_of_row(row, item, &bytes, why) : ST_INVALID;
    if (status == ST_OK)
        status = quarantined_body(row, body, why);
    if (status == ST_OK && body->len != bytes)
        status = ST_INVALID;
    if (status != ST_OK && status != ST_NOMEM)
        return fail_set(why, ST_DAMAGED, 0, "a quarantined row of the spool is damaged");
    item->body = buf_span(body);
    return status;
}

/* Deletes what is still there as it was read. */
static enum status delete_rows(struct store *current, enum table_id table, const struct entity *rows,
                               size_t count, int64_t deadline_ms, struct fail *why)
{
    struct operation operations[LIMIT_BATCH_OPERATIONS];
    enum status status = ST_OK;
    for (size_t i = 0; i < count; i++)
        operations[i] = (struct operation){.kind = OPERATION_DELETE, .entity = rows[i]};
    while (status == ST_OK && count > 0) {
        size_t failed = NO_INDEX;
        status = store_transact(current, table, operations, count, deadline_ms, &failed, why);
        if ((status != ST_CHANGED && status != ST_NOT_FOUND) || failed >= count)
            break;
        operations[failed] = operations[--count]; /* it stays as it is now, or is gone; the others go */
        status = ST_OK;
    }
    return status;
}

enum status spool_remove(struct spool *spool, struct store *current, enum table_id table,
                         const struct entity *rows, size_t count, int64_t deadline_ms, struct fail *why)
{
    struct span keys[LIMIT_BATCH_OPERATIONS];
    if (count == 0 || count > LIMIT_BATCH_OPERATIONS)
        return fail_set(why, ST_BUG, 0, "no rows, or more at once than the spool takes");
    for (size_t i = 0; i < count; i++)
        keys[i] = rows[i].row_key;
    enum status status =
        ledger_note(spool->ledger, LEDGER_DEPARTED, table == TABLE_LEADS ? LEDGER_LEAD : LEDGER_QUARANTINED,
                    keys, count, why);
    for (size_t done = 0, some; status == ST_OK && done < count; done += some) {
        uint64_t bytes = bytes_of(&rows[done]);
        for (some = 1; done + some < count; some++) {
            bytes += bytes_of(&rows[done + some]) + PAGE_BYTES / 4;
            if (bytes > log_share(spool) / 2)
                break;
        }
        status = delete_rows(current, table, rows + done, some, deadline_ms, why);
    }
    return status;
}

enum status spool_waiting(struct store *current, uint64_t *leads, struct arena *arena, struct span *oldest,
                          struct fail *why)
{
    return sqlite_store_tally(current, TABLE_LEADS, SPAN_LIT(SPOOL_PARTITION), arena, leads, oldest, why);
}

uint64_t spool_bytes(const struct spool *spool)
{
    struct generations found;
    return generations_find(spool->path, &found, NULL) == ST_OK ? found.bytes : 0;
}

/* --- state --------------------------------------------------------------------------------------------------- */

static enum status tally(struct store *store, enum table_id table, const char *partition, struct arena *arena,
                         uint64_t *rows, int64_t *oldest_ms, struct fail *why)
{
    uint64_t count = 0, ms = 0;
    struct span first;
    enum status status = sqlite_store_tally(store, table, span_of(partition), arena, &count, &first, why);
    if (status != ST_OK)
        return status;
    *rows += count;
    if (oldest_ms && span_to_u64(span_cut(first, 0, 13), INT64_MAX, &ms) &&
        (*oldest_ms == 0 || (int64_t)ms < *oldest_ms))
        *oldest_ms = (int64_t)ms;
    return ST_OK;
}

enum status spool_count(struct store *current, uint64_t *rows, int64_t *oldest_ms, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_SECRET_FILE_BYTES);
    uint64_t count = 0;
    int64_t ms = 0;
    enum status status = tally(current, TABLE_LEADS, SPOOL_PARTITION, &arena, &count, &ms, why);
    if (status == ST_OK)
        status = tally(current, TABLE_OPS, QUARANTINE_PARTITION, &arena, &count, &ms, why);
    if (status == ST_OK) {
        *rows = count;
        *oldest_ms = ms;
    }
    arena_release(&arena);
    return status;
}

enum status spool_inspect(const char *path, struct spool_state *state, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    /* NOLINTNEXTLINE(performance-no-int-to-ptr): it is const for us as well; the spool that owns its path frees it */
    struct spool s = {.path = (char *)(uintptr_t)path, .max_bytes = UINT32_MAX, .ledger = -1};
    struct spool_state result = {0};
    struct store *store = NULL;
    struct generations found;
    struct span key = SPAN_LIT(BREAKER_KEY);
    struct entity *row = NULL;
    enum status status = generations_find(path, &found, why);
    if (status == ST_OK && found.count == 0)
        status = fail_set(why, ST_NOT_FOUND, 0, "there is no spool at '%s' yet", path);
    if (status == ST_OK)
        status = spool_open_generation(&s, generations_current(&found), &store, why);
    if (status == ST_OK)
        status = tally(store, TABLE_LEADS, SPOOL_PARTITION, &arena, &result.leads, &result.oldest_ms, why);
    if (status == ST_OK)
        status = tally(store, TABLE_OPS, QUARANTINE_PARTITION, &arena, &result.quarantined, NULL, why);
    if (status == ST_OK)
        status = tally(store, TABLE_OPS, LOST_PARTITION, &arena, &result.lost, NULL, why);
    if (status == ST_OK)
        status = store_get_many(store, TABLE_OPS, SPAN_LIT(BREAKER_PARTITION), &key, 1, NULL,
                                clock_monotonic_ms() + STATE_WAIT_MS, &arena, &row, why);
    if (status == ST_OK && row) {
        struct breaker b = breaker_of_row(row);
        result.table_is_down = b.failures > 0;
        result.down_since_ms = b.since_ms;
        result.next_probe_ms = b.probe_ms;
        (void)snprintf(result.reason, sizeof result.reason, "%.*s", b.failures ? (int)b.reason.len : 0,
                       b.reason.ptr ? b.reason.ptr : "");
    }
    if (status == ST_OK) {
        result.bytes = found.bytes;
        result.generations = (unsigned int)found.count;
        *state = result;
    }
    store_close(store);
    arena_release(&arena);
    return status;
}

/* --- open and close ------------------------------------------------------------------------------------------ */

/* Nothing: that it is open is enough. */
static enum status look(struct spool *s, void *context, int64_t deadline_ms, struct fail *why)
{
    (void)s;
    (void)context;
    (void)deadline_ms;
    (void)why;
    return ST_OK;
}

/* Should somebody have removed the ledger, everybody goes on with the new one. */
static bool has_ledger(struct spool *s, int64_t deadline_ms)
{
    if (s->ledger >= 0 && !ledger_is_gone(s->ledger))
        return true;
    if (!spool_lock(s, deadline_ms))
        return false;
    enum status status = spool_work(s, look, NULL, deadline_ms, NULL);
    spool_unlock(s);
    return status == ST_OK;
}

bool spool_take_rows(struct spool *spool, int64_t deadline_ms)
{
    return has_ledger(spool, deadline_ms) && ledger_take_turn(spool->ledger, deadline_ms);
}

void spool_give_rows_back(struct spool *spool)
{
    ledger_end_turn(spool->ledger);
}

enum status spool_open(const struct spool_options *options, struct spool **spool, struct fail *why)
{
    struct spool *s = calloc(1, sizeof *s);
    if (!s)
        return fail_set(why, ST_NOMEM, 0, "no memory for the spool");
    s->ledger = -1;
    s->max_bytes = options->max_bytes;
    s->path = strdup(options->path);
    (void)pthread_mutex_init(&s->mutex, NULL);
    condition_init(&s->given_back);
    enum status status =
        s->path ? spool_work(s, look, NULL, 0, why) : fail_set(why, ST_NOMEM, 0, "no memory for the spool");
    if (status != ST_OK) {
        fail_prefix(why, "spool");
        spool_close(s);
        return status;
    }
    *spool = s;
    return ST_OK;
}

void spool_close(struct spool *spool)
{
    if (!spool)
        return;
    store_close(spool->store);
    if (spool->ledger >= 0)
        (void)close(spool->ledger);
    (void)pthread_cond_destroy(&spool->given_back);
    (void)pthread_mutex_destroy(&spool->mutex);
    free(spool->path);
    free(spool);
}
