#include "lib/store/spool.h"

/* System */
#include <dirent.h>
#include <errno.h>
#include <libgen.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"

/* L6 */
#include "lib/store/ledger.h"
#include "lib/store/quarantine.h"
#include "lib/store/store_internal.h"

enum {
    GENERATIONS_MAX = 64,    /* kept side by side; more damage than that needs a person */
    PUT_ATTEMPTS = 4,        /* a generation left at this very moment, a row that is there already */
    BREAKER_READ_MS = 100,   /* how long another process's news may take */
    BREAKER_CLAIM_MS = 5000, /* when who probes has not come back, another one does */
    BREAKER_FIRST_MS = 1000,
    BREAKER_MOST_MS = 30000,
    BREAKER_ASKED_MOST_S = 600,
    RECLAIM_EVERY_MS = 1000,
    STATE_WAIT_MS = 2000,
    SALVAGE_ROWS = 100,
    SALVAGE_WAIT_MS = 10000,
    AUDIT_KEYS = 500
};
/* A row is written to the log and later to the database, each time with the pages around it. */
#define COST_FACTOR 3u
#define SHRINK_OVER (1024u * 1024) /* free pages below this are kept for the next outage */

struct spool {
    char *path;
    uint64_t max_bytes;
    pthread_mutex_t mutex;
    struct store *store;     /* NULL: to be opened */
    unsigned int generation; /* of store */
    int ledger;
    int64_t reclaimed_ms;
    /* The breaker as last read. */
    int64_t breaker_read_ms; /* 0: never */
    int32_t failures;
    int64_t probe_ms;
};

/* --- generations --------------------------------------------------------------------------------------------- */

static enum status generation_path(const char *path, unsigned int generation, struct buf *out,
                                   struct fail *why)
{
    buf_reset(out);
    if (generation == 1)
        buf_add_text(out, path);
    else
        buf_addf(out, "%s.%u", path, generation);
    return buf_status(out, "the spool's path", why);
}

static bool generation_exists(const char *path, unsigned int generation)
{
    struct buf name = BUF_INIT(4096);
    struct stat info;
    bool exists = generation_path(path, generation, &name, NULL) == ST_OK && stat(name.data, &info) == 0;
    buf_release(&name);
    return exists;
}

/* The number of a file that is a generation: base or base.N; 0 for all others. */
static unsigned int number_of(const char *name, const char *base)
{
    size_t len = strlen(base);
    uint64_t number = 0;
    if (strncmp(name, base, len) != 0)
        return 0;
    if (name[len] == '\0')
        return 1;
    if (name[len] != '.' || !span_to_u64(span_of(name + len + 1), 999999, &number) || number < 2)
        return 0;
    return (unsigned int)number;
}

static enum status find_generations(const char *path, unsigned int *lowest, unsigned int *current,
                                    struct fail *why)
{
    char *for_folder = strdup(path), *for_base = strdup(path); /* dirname and basename change theirs */
    DIR *folder = for_folder ? opendir(dirname(for_folder)) : NULL;
    enum status status = ST_OK;
    *lowest = *current = 0;
    if (!for_folder || !for_base)
        status = fail_set(why, ST_NOMEM, 0, "no memory for the spool");
    else if (!folder)
        status = fail_set(why, ST_IO, errno, "cannot look into the folder of the spool '%s'", path);
    if (status == ST_OK) {
        const char *base = basename(for_base);
        for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
            unsigned int number = number_of(entry->d_name, base);
            if (number > *current)
                *current = number;
            if (number && (*lowest == 0 || number < *lowest))
                *lowest = number;
        }
    }
    if (folder)
        (void)closedir(folder);
    free(for_folder);
    free(for_base);
    return status;
}

/* Without the one after it, and still there itself. */
static bool is_current(const char *path, unsigned int generation)
{
    return !generation_exists(path, generation + 1) && generation_exists(path, generation);
}

bool spool_is_current(const struct spool *spool, unsigned int generation)
{
    return is_current(spool->path, generation);
}

static enum status open_generation(const struct spool *s, unsigned int generation, struct store **store,
                                   struct fail *why)
{
    struct buf name = BUF_INIT(4096);
    enum status status = generation_path(s->path, generation, &name, why);
    if (status == ST_OK)
        status = store_open_sqlite(name.data, store, why);
    buf_release(&name);
    if (status == ST_OK) {
        status = sqlite_store_limit_log(*store, s->max_bytes / 4, why);
        if (status != ST_OK)
            store_close(*store);
    }
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
    unsigned int lowest, current;
    char text[LIMIT_ALARM_TEXT_BYTES];
    enum status status = find_generations(s->path, &lowest, &current, why);
    if (status == ST_OK && current - lowest >= GENERATIONS_MAX)
        return fail_set(
            why, ST_IO, 0,
            "the spool was damaged %d times: look at the disk, then move the old generations away",
            GENERATIONS_MAX);
    if (status == ST_OK)
        status = open_generation(s, generation, &store, why);
    if (status != ST_OK)
        return status;
    (void)snprintf(
        text, sizeof text,
        "The spool file of generation %u is damaged. Leads go into a new one, '%s.%u'; what can be "
        "read of the old one is copied. Look at the disk and at the system's log.",
        generation - 1, s->path, generation);
    /* The one who began it matters, not whether it could be told: the log has it too. */
    status = alarm_raise(store, ALARM_SPOOL_DAMAGED, text, clock_monotonic_ms() + WAIT_SQLITE_BUSY_MS, NULL);
    store_close(store);
    return ST_OK;
}

enum status spool_leave_generation(struct spool *spool, unsigned int generation, struct fail *why)
{
    if (!is_current(spool->path, generation))
        return ST_OK;
    return begin_generation(spool, generation + 1, why);
}

/* Opens the current generation, and the one after it when it is damaged. */
static enum status ensure_open(struct spool *s, struct fail *why)
{
    if (s->store && is_current(s->path, s->generation))
        return ST_OK;
    close_store(s);
    enum status status = ST_OK;
    for (int attempt = 0; attempt < PUT_ATTEMPTS && !s->store && status == ST_OK; attempt++) {
        unsigned int lowest, current;
        status = find_generations(s->path, &lowest, &current, why);
        if (status != ST_OK)
            break;
        s->generation = current ? current : 1;
        status = open_generation(s, s->generation, &s->store, why);
        if (status == ST_DAMAGED)
            status = spool_leave_generation(s, s->generation, why);
    }
    if (status == ST_OK && !s->store)
        status = fail_set(why, ST_IO, 0, "one generation of the spool after the other is damaged");
    return status;
}

/* --- room ---------------------------------------------------------------------------------------------------- */

static uint64_t size_of(const char *path, const char *suffix)
{
    struct buf name = BUF_INIT(4096);
    struct stat info;
    uint64_t size = 0;
    buf_addf(&name, "%s%s", path, suffix);
    if (buf_status(&name, "a path", NULL) == ST_OK && stat(name.data, &info) == 0)
        size = (uint64_t)info.st_size;
    buf_release(&name);
    return size;
}

static uint64_t bytes_on_disk(const char *path)
{
    unsigned int lowest, current;
    uint64_t bytes = size_of(path, ".ledger");
    if (find_generations(path, &lowest, &current, NULL) != ST_OK)
        return bytes;
    for (unsigned int g = lowest; g && g <= current; g++) {
        struct buf name = BUF_INIT(4096);
        if (generation_path(path, g, &name, NULL) == ST_OK)
            bytes += size_of(name.data, "") + size_of(name.data, "-wal") + size_of(name.data, "-shm");
        buf_release(&name);
    }
    return bytes;
}

/* Whether so many bytes of rows may still come. */
static enum status check_room(struct spool *s, uint64_t bytes, int64_t deadline_ms, struct fail *why)
{
    for (int attempt = 0;; attempt++) {
        uint64_t unused;
        enum status status = sqlite_store_free_bytes(s->store, &unused, why);
        if (status != ST_OK)
            return status;
        uint64_t used = bytes_on_disk(s->path);
        used -= unused < used ? unused : used;
        if (used + COST_FACTOR * bytes <= s->max_bytes)
            return ST_OK;
        int64_t now = clock_monotonic_ms();
        if (attempt > 0 || now - s->reclaimed_ms < RECLAIM_EVERY_MS)
            break;
        s->reclaimed_ms = now;
        sqlite_store_shrink(s->store, false, deadline_ms); /* the log may hold what is long in the database */
    }
    return fail_set(why, ST_AGAIN, 0, "the spool is full: %llu bytes of %llu (spool_max_bytes) are in use",
                    (unsigned long long)bytes_on_disk(s->path), (unsigned long long)s->max_bytes);
}

/* --- writing ------------------------------------------------------------------------------------------------- */

static uint64_t bytes_of(const struct operation *operations, size_t count)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < count; i++) {
        const struct entity *e = &operations[i].entity;
        for (size_t k = 0; k < e->count; k++)
            bytes += e->properties[k].name.len + e->properties[k].text.len + 16;
    }
    return bytes;
}

/* Inserts rows and notes their arrival in the generation that is open. */
static enum status insert_rows(struct spool *s, struct operation *operations, size_t count,
                               int64_t deadline_ms, struct fail *why)
{
    struct span keys[LIMIT_BATCH_OPERATIONS];
    size_t left = count, failed = NO_INDEX;
    enum status status = check_room(s, bytes_of(operations, count), deadline_ms, why);
    for (size_t i = 0; i < count; i++)
        keys[i] = operations[i].entity.row_key;
    bool held = ledger_hold(s->ledger, deadline_ms);
    while (status == ST_OK && left > 0) {
        status = store_transact(s->store, TABLE_LEADS, operations, left, deadline_ms, &failed, why);
        if (status != ST_EXISTS || failed >= left)
            break;
        /* The salvage of the generation that we have just left was quicker. */
        operations[failed] = operations[--left];
        status = ST_OK;
    }
    /* In a generation that was left meanwhile the rows may have come too late for the salvage: they are written
     * again, and only that is an arrival. */
    if (status == ST_OK && is_current(s->path, s->generation))
        status = ledger_note(s->ledger, LEDGER_ARRIVED, LEDGER_LEAD, keys, count, why);
    if (held)
        ledger_release(s->ledger);
    return status;
}

static enum status insert_quarantined(struct spool *s, const struct quarantined *item, unsigned int per_day,
                                      int64_t deadline_ms, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_SECRET_FILE_BYTES);
    struct span key = row_key_of_time(item->received_ms, item->id, &arena);
    enum status status = key.len ? check_room(s, 2 * item->body.len, deadline_ms, why)
                                 : fail_set(why, ST_NOMEM, 0, "no memory for quarantine");
    bool held = ledger_hold(s->ledger, deadline_ms);
    if (status == ST_OK)
        status = quarantine_put(s->store, item, per_day, deadline_ms, why);
    if (status == ST_OK && is_current(s->path, s->generation))
        status = ledger_note(s->ledger, LEDGER_ARRIVED, LEDGER_QUARANTINED, &key, 1, why);
    if (held)
        ledger_release(s->ledger);
    arena_release(&arena);
    return status;
}

/* What is written: rows of leads, or one quarantined payload. */
struct put {
    struct operation *operations;
    size_t count;
    const struct quarantined *item;
    unsigned int per_day;
};

static enum status put(struct spool *s, const struct put *p, int64_t deadline_ms, struct fail *why)
{
    enum status status = ST_OK;
    (void)pthread_mutex_lock(&s->mutex);
    for (int attempt = 0; attempt < PUT_ATTEMPTS; attempt++) {
        status = ensure_open(s, why);
        if (status != ST_OK)
            break;
        status = p->item ? insert_quarantined(s, p->item, p->per_day, deadline_ms, why)
                         : insert_rows(s, p->operations, p->count, deadline_ms, why);
        if (status == ST_DAMAGED) {
            close_store(s);
            status = spool_leave_generation(s, s->generation, why);
            if (status != ST_OK)
                break;
            status = fail_set(why, ST_DAMAGED, 0, "the spool is damaged, time and again");
        } else if (status != ST_OK || is_current(s->path, s->generation)) {
            break;
        }
    }
    /* After a failure of the disk a new connection reads its log anew and believes only what matches. */
    if (status == ST_IO)
        close_store(s);
    (void)pthread_mutex_unlock(&s->mutex);
    return status;
}

void spool_put_leads(struct spool *spool, struct lead_write *const *leads, size_t count, int64_t deadline_ms)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct operation operations[LIMIT_BATCH_OPERATIONS];
    struct fail why;
    enum status status = count <= LIMIT_BATCH_OPERATIONS
                             ? ST_OK
                             : fail_set(&why, ST_BUG, 0, "more leads at once than the spool takes");
    for (size_t i = 0; i < count && status == ST_OK; i++) {
        struct delivery *delivery = &leads[i]->delivery;
        delivery->may_be_written = leads[i]->status == ST_UNKNOWN;
        operations[i].kind = OPERATION_INSERT;
        if (!row_of_spooled(&operations[i].entity, delivery, &arena))
            status = fail_set(&why, ST_NOMEM, 0, "no memory to spool leads");
    }
    if (status == ST_OK)
        status = put(spool, &(struct put){.operations = operations, .count = count}, deadline_ms, &why);
    if (status != ST_OK)
        fail_prefix(&why, "spool");
    for (size_t i = 0; i < count; i++) {
        leads[i]->status = status;
        leads[i]->is_spooled = status == ST_OK;
        if (status != ST_OK)
            leads[i]->why = why;
    }
    arena_release(&arena);
}

enum status spool_put_quarantined(struct spool *spool, const struct quarantined *item, unsigned int per_day,
                                  int64_t deadline_ms, struct fail *why)
{
    enum status status = put(spool, &(struct put){.item = item, .per_day = per_day}, deadline_ms, why);
    if (status != ST_OK)
        fail_prefix(why, "spool");
    return status;
}

enum status spool_raise(struct spool *spool, enum alarm alarm, const char *text, int64_t deadline_ms,
                        struct fail *why)
{
    (void)pthread_mutex_lock(&spool->mutex);
    enum status status = ensure_open(spool, why);
    if (status == ST_OK)
        status = alarm_raise(spool->store, alarm, text, deadline_ms, why);
    (void)pthread_mutex_unlock(&spool->mutex);
    return status;
}

enum status spool_probe(struct spool *spool, int64_t deadline_ms, struct fail *why)
{
    (void)pthread_mutex_lock(&spool->mutex);
    enum status status = ensure_open(spool, why);
    if (status == ST_OK)
        status = check_room(spool, LIMIT_BODY_BYTES, deadline_ms, why);
    if (status == ST_OK)
        status = store_probe(spool->store, deadline_ms, why);
    if (status == ST_IO || status == ST_DAMAGED)
        close_store(spool);
    (void)pthread_mutex_unlock(&spool->mutex);
    return status;
}

/* --- the breaker --------------------------------------------------------------------------------------------- */

/* Reads the breaker; *row is NULL when it was never opened. */
static enum status read_breaker(struct spool *s, struct arena *arena, struct entity **row)
{
    const struct span key = SPAN_LIT(BREAKER_KEY);
    enum status status = ensure_open(s, NULL);
    if (status == ST_OK)
        status = store_get_many(s->store, TABLE_OPS, SPAN_LIT(BREAKER_PARTITION), &key, 1, NULL,
                                clock_monotonic_ms() + WAIT_SQLITE_BUSY_MS, arena, row, NULL);
    struct breaker b = {0};
    if (status == ST_OK && *row)
        b = breaker_of_row(*row);
    s->failures = b.failures;
    s->probe_ms = b.probe_ms;
    s->breaker_read_ms = clock_monotonic_ms();
    return status;
}

/* ST_EXISTS, ST_CHANGED: somebody else has written it since it was read. */
static enum status write_breaker(struct spool *s, const struct entity *old, const struct breaker *b,
                                 struct arena *arena)
{
    struct operation operation = {.kind = old ? OPERATION_MERGE : OPERATION_INSERT};
    size_t failed;
    if (!row_of_breaker(&operation.entity, b, arena))
        return ST_NOMEM;
    if (old)
        operation.entity.etag = old->etag;
    enum status status = store_transact(s->store, TABLE_OPS, &operation, 1,
                                        clock_monotonic_ms() + WAIT_SQLITE_BUSY_MS, &failed, NULL);
    if (status == ST_OK) {
        s->failures = b->failures;
        s->probe_ms = b->probe_ms;
        s->breaker_read_ms = clock_monotonic_ms();
    }
    return status;
}

/* A host clock that was set back must not keep the breaker open for longer than it can ever be. */
static bool is_probe_due(const struct spool *s)
{
    int64_t left = s->probe_ms - clock_wall_ms();
    return left <= 0 || left > 2 * BREAKER_ASKED_MOST_S * 1000LL;
}

/* Brings what is known of the breaker up to date.  *row: as read just now, or NULL. */
static void refresh_breaker(struct spool *s, struct arena *arena, struct entity **row)
{
    int64_t age = clock_monotonic_ms() - s->breaker_read_ms;
    *row = NULL;
    if ((s->breaker_read_ms == 0 || age >= BREAKER_READ_MS || s->failures > 0) &&
        read_breaker(s, arena, row) != ST_OK)
        s->failures = 0;
}

enum breaker_way breaker_way(struct spool *spool)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct entity *row;
    enum breaker_way way = BREAKER_CLOSED;
    (void)pthread_mutex_lock(&spool->mutex);
    refresh_breaker(spool, &arena, &row);
    if (spool->failures > 0 && row) {
        struct breaker b = breaker_of_row(row);
        way = BREAKER_OPEN;
        b.probe_ms = clock_wall_ms() + BREAKER_CLAIM_MS;
        enum status status = is_probe_due(spool) ? write_breaker(spool, row, &b, &arena) : ST_AGAIN;
        if (status == ST_OK)
            way = BREAKER_PROBE;
        else if (status == ST_IO) /* a full disk: nobody could ever claim the probe, or close it */
            way = BREAKER_CLOSED;
    }
    (void)pthread_mutex_unlock(&spool->mutex);
    arena_release(&arena);
    return way;
}

bool breaker_is_open(struct spool *spool)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct entity *row;
    (void)pthread_mutex_lock(&spool->mutex);
    refresh_breaker(spool, &arena, &row);
    bool is_open = spool->failures > 0;
    (void)pthread_mutex_unlock(&spool->mutex);
    arena_release(&arena);
    return is_open;
}

/* Milliseconds to the next probe after so many failures. */
static int64_t breaker_wait_ms(int32_t failures, int retry_after_s)
{
    unsigned char random = 128;
    enum status status = crypto_random(&random, 1, NULL);
    (void)status; /* without randomness there is no jitter */
    int64_t wait_ms = BREAKER_FIRST_MS;
    for (int32_t i = 1; i < failures && wait_ms < BREAKER_MOST_MS; i++)
        wait_ms *= 2;
    if (wait_ms > BREAKER_MOST_MS)
        wait_ms = BREAKER_MOST_MS;
    wait_ms += wait_ms * (random - 128) / 640; /* a fifth either way */
    int64_t asked_s = retry_after_s < BREAKER_ASKED_MOST_S ? retry_after_s : BREAKER_ASKED_MOST_S;
    return wait_ms > 1000 * asked_s ? wait_ms : 1000 * asked_s;
}

bool breaker_failed(struct spool *spool, enum breaker_way way, const struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct entity *row = NULL;
    bool opened = false;
    (void)pthread_mutex_lock(&spool->mutex);
    if (read_breaker(spool, &arena, &row) == ST_OK) {
        int64_t now = clock_wall_ms();
        struct breaker b = row ? breaker_of_row(row) : (struct breaker){0};
        opened = b.failures == 0;
        if (opened)
            b.since_ms = now;
        /* Several requests fail of one cause: the one that opens it counts, and later the one that probes. */
        if (opened || way == BREAKER_PROBE) {
            b.failures += b.failures < INT32_MAX ? 1 : 0;
            b.probe_ms = now + breaker_wait_ms(b.failures, why->retry_after_s);
            b.reason = span_of(why->text);
            opened = write_breaker(spool, row, &b, &arena) == ST_OK && opened;
        }
    }
    (void)pthread_mutex_unlock(&spool->mutex);
    arena_release(&arena);
    return opened;
}

bool breaker_worked(struct spool *spool)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct entity *row = NULL;
    bool closed = false;
    (void)pthread_mutex_lock(&spool->mutex);
    if (spool->failures > 0 && read_breaker(spool, &arena, &row) == ST_OK && row && spool->failures > 0) {
        struct breaker b = {0};
        closed = write_breaker(spool, row, &b, &arena) == ST_OK;
    }
    (void)pthread_mutex_unlock(&spool->mutex);
    arena_release(&arena);
    return closed;
}

/* --- taking out ---------------------------------------------------------------------------------------------- */

enum status spool_open_current(struct spool *spool, struct store **store, unsigned int *generation,
                               struct fail *why)
{
    (void)pthread_mutex_lock(&spool->mutex);
    enum status status = ensure_open(spool, why);
    *generation = spool->generation;
    (void)pthread_mutex_unlock(&spool->mutex);
    if (status == ST_OK)
        status = open_generation(spool, *generation, store, why);
    return status;
}

enum status spool_remove(struct spool *spool, struct store *current, enum table_id table,
                         const struct entity *rows, size_t count, int64_t deadline_ms, struct fail *why)
{
    struct operation operations[LIMIT_BATCH_OPERATIONS];
    struct span keys[LIMIT_BATCH_OPERATIONS];
    size_t failed = NO_INDEX;
    if (count == 0 || count > LIMIT_BATCH_OPERATIONS)
        return fail_set(why, ST_BUG, 0, "no rows, or more at once than the spool takes");
    for (size_t i = 0; i < count; i++) {
        operations[i] = (struct operation){.kind = OPERATION_DELETE, .entity = rows[i]};
        keys[i] = rows[i].row_key;
    }
    enum status status =
        ledger_note(spool->ledger, LEDGER_DEPARTED, table == TABLE_LEADS ? LEDGER_LEAD : LEDGER_QUARANTINED,
                    keys, count, why);
    while (status == ST_OK && count > 0) {
        status = store_transact(current, table, operations, count, deadline_ms, &failed, why);
        if ((status != ST_CHANGED && status != ST_NOT_FOUND) || failed >= count)
            break;
        operations[failed] = operations[--count]; /* it stays as it is now, or is gone; the others go */
        status = ST_OK;
    }
    return status;
}

/* --- damage -------------------------------------------------------------------------------------------------- */

/* Copies one row; false when the current generation cannot take it now. */
static enum status rescue(struct store *current, enum table_id table, struct entity row, uint64_t *rescued,
                          struct fail *why)
{
    struct operation operation = {.kind = OPERATION_INSERT, .entity = row};
    size_t failed;
    enum status status =
        store_transact(current, table, &operation, 1, clock_monotonic_ms() + SALVAGE_WAIT_MS, &failed, why);
    if (status == ST_OK)
        (*rescued)++;
    return status == ST_EXISTS ? ST_OK : status;
}

/* Only what is exactly what was written: a row of the quarantine has no checksum, but must still be readable. */
static bool is_whole(enum table_id table, const struct entity *row, struct arena *arena)
{
    struct lead lead;
    struct delivery delivery;
    return table == TABLE_OPS || spooled_of_row(row, &lead, &delivery, arena, NULL) == ST_OK;
}

/* Whether a failure to read an old generation means that there is nothing to be had, and not that it is busy. */
static bool is_unreadable(enum status status)
{
    return status == ST_DAMAGED || status == ST_IO;
}

/* Everything in key order as far as it can be read. */
static enum status rescue_readable(struct store *old, struct store *current, enum table_id table,
                                   struct span partition, uint64_t *rescued, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    char next[LIMIT_ROW_KEY_BYTES];
    struct query q = {.table = table, .partition_key = partition, .to = SPAN_LIT("~"), .limit = SALVAGE_ROWS};
    enum status status = ST_OK;
    do {
        struct page page;
        status = store_query(old, &q, clock_monotonic_ms() + SALVAGE_WAIT_MS, &arena, &page, why);
        if (is_unreadable(status)) {
            status = ST_OK; /* what lies behind is looked up row by row */
            break;
        }
        for (size_t i = 0; status == ST_OK && i < page.count; i++) {
            if (is_whole(table, &page.rows[i], &arena))
                status = rescue(current, table, page.rows[i], rescued, why);
        }
        q.next = span_empty();
        if (status == ST_OK && page.next.len && page.next.len <= sizeof next) {
            memcpy(next, page.next.ptr, page.next.len);
            q.next = (struct span){next, page.next.len};
        }
        arena_reset(&arena);
    } while (status == ST_OK && q.next.len);
    arena_release(&arena);
    return status;
}

static enum table_id table_of(enum ledger_kind kind)
{
    return kind == LEDGER_LEAD ? TABLE_LEADS : TABLE_OPS;
}

static struct span partition_of(enum ledger_kind kind)
{
    return kind == LEDGER_LEAD ? SPAN_LIT(SPOOL_PARTITION) : SPAN_LIT(QUARANTINE_PARTITION);
}

/* Each row that should be there, by its key: a damaged page hides its neighbours only from a walk. */
static enum status rescue_outstanding(struct spool *s, struct store *old, struct store *current,
                                      uint64_t *rescued, struct fail *why)
{
    struct arena list = ARENA_INIT(s->max_bytes), arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct ledger_entry *entries;
    size_t count;
    enum status status = ledger_outstanding(s->ledger, &list, &entries, &count, why);
    for (size_t i = 0; i < count && status == ST_OK; i++) {
        enum table_id table = table_of(entries[i].kind);
        struct entity *row = NULL;
        status = store_get_many(old, table, partition_of(entries[i].kind), &entries[i].key, 1, NULL,
                                clock_monotonic_ms() + SALVAGE_WAIT_MS, &arena, &row, why);
        if (is_unreadable(status))
            status = ST_OK;
        else if (status == ST_OK && row && is_whole(table, row, &arena))
            status = rescue(current, table, *row, rescued, why);
        arena_reset(&arena);
    }
    arena_release(&arena);
    arena_release(&list);
    return status;
}

static enum status salvage_one(struct spool *s, unsigned int generation, struct store *current,
                               uint64_t *rescued, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_SECRET_FILE_BYTES);
    struct operation done = {.kind = OPERATION_INSERT};
    struct store *old = NULL;
    struct entity *row = NULL;
    size_t failed;
    enum status status = ST_OK;
    if (!row_of_salvaged(&done.entity, generation, 0, &arena)) {
        status = fail_set(why, ST_NOMEM, 0, "no memory to salvage the spool");
        goto out;
    }
    status = store_get_many(current, TABLE_OPS, SPAN_LIT(SALVAGED_PARTITION), &done.entity.row_key, 1, NULL,
                            clock_monotonic_ms() + SALVAGE_WAIT_MS, &arena, &row, why);
    if (status != ST_OK || row)
        goto out;
    uint64_t before = *rescued;
    if (generation_exists(s->path, generation))
        status = open_generation(s, generation, &old, why);
    if (is_unreadable(status))
        status = ST_OK;
    if (old) {
        status = rescue_readable(old, current, TABLE_LEADS, SPAN_LIT(SPOOL_PARTITION), rescued, why);
        if (status == ST_OK)
            status = rescue_readable(old, current, TABLE_OPS, SPAN_LIT(QUARANTINE_PARTITION), rescued, why);
        if (status == ST_OK)
            status = rescue_outstanding(s, old, current, rescued, why);
    }
    if (status == ST_OK && row_of_salvaged(&done.entity, generation, *rescued - before, &arena))
        status = store_transact(current, TABLE_OPS, &done, 1, clock_monotonic_ms() + SALVAGE_WAIT_MS, &failed,
                                why);
    status = status == ST_EXISTS ? ST_OK : status;
out:
    store_close(old);
    arena_release(&arena);
    return status;
}

/* Lists rows that were destroyed where `leadctl spool` finds them; some may be listed already. */
static enum status list_lost(struct store *current, const struct ledger_entry *entries, size_t count,
                             struct arena *arena, struct fail *why)
{
    struct operation operations[LIMIT_BATCH_OPERATIONS];
    size_t failed = NO_INDEX;
    enum status status = ST_OK;
    for (size_t i = 0; i < count; i++) {
        operations[i] = (struct operation){.kind = OPERATION_INSERT};
        if (!row_of_lost(&operations[i].entity, entries[i].key, entries[i].kind == LEDGER_LEAD, arena))
            return fail_set(why, ST_NOMEM, 0, "no memory to list lost leads");
    }
    while (status == ST_OK && count > 0) {
        status = store_transact(current, TABLE_OPS, operations, count, clock_monotonic_ms() + SALVAGE_WAIT_MS,
                                &failed, why);
        if (status != ST_EXISTS || failed >= count)
            break;
        operations[failed] = operations[--count];
        status = ST_OK;
    }
    return status;
}

/* They are no longer expected. */
static enum status settle_lost(struct spool *s, const struct ledger_entry *entries, size_t count,
                               struct fail *why)
{
    struct span keys[LIMIT_BATCH_OPERATIONS];
    enum status status = ST_OK;
    for (size_t i = 0, same; i < count && status == ST_OK; i += same) {
        for (same = 0;
             same < LIMIT_BATCH_OPERATIONS && i + same < count && entries[i + same].kind == entries[i].kind;
             same++)
            keys[same] = entries[i + same].key;
        status = ledger_note(s->ledger, LEDGER_LOST, entries[i].kind, keys, same, why);
    }
    return status;
}

/* The entries whose rows are not there come first; *lost is their number. */
static enum status sort_out_lost(struct store *current, struct ledger_entry *entries, size_t count,
                                 size_t *lost, struct arena *arena, struct fail *why)
{
    enum status status = ST_OK;
    *lost = 0;
    for (size_t i = 0; i < count && status == ST_OK; i++) {
        struct entity *row = NULL;
        status =
            store_get_many(current, table_of(entries[i].kind), partition_of(entries[i].kind), &entries[i].key,
                           1, NULL, clock_monotonic_ms() + SALVAGE_WAIT_MS, arena, &row, why);
        if (status == ST_OK && !row)
            entries[(*lost)++] = entries[i];
        arena_reset(arena);
    }
    return status;
}

/* Compares the ledger with the current generation.  What is lost is settled only
 * after it was reported: a process that is killed here has another report it. */
static enum status find_lost(struct spool *s, struct store *current, const struct spool_report *report,
                             struct fail *why)
{
    struct arena list = ARENA_INIT(s->max_bytes), arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct ledger_entry *entries;
    size_t count, lost = 0;
    enum status status = ledger_outstanding(s->ledger, &list, &entries, &count, why);
    if (status == ST_OK)
        status = sort_out_lost(current, entries, count, &lost, &arena, why);
    for (size_t i = 0; i < lost && status == ST_OK; i += LIMIT_BATCH_OPERATIONS) {
        size_t left = lost - i;
        status = list_lost(current, entries + i,
                           left < LIMIT_BATCH_OPERATIONS ? left : LIMIT_BATCH_OPERATIONS, &arena, why);
        arena_reset(&arena);
    }
    if (status == ST_OK && lost > 0) {
        report->lost(report->context, lost);
        status = settle_lost(s, entries, lost, why);
    }
    arena_release(&arena);
    arena_release(&list);
    return status;
}

enum status spool_salvage(struct spool *spool, struct store *current, unsigned int generation,
                          uint64_t *rescued, const struct spool_report *report, struct fail *why)
{
    unsigned int lowest, newest;
    enum status status = find_generations(spool->path, &lowest, &newest, why);
    for (unsigned int g = lowest; status == ST_OK && g < generation; g++)
        status = salvage_one(spool, g, current, rescued, why);
    if (status == ST_OK)
        status = find_lost(spool, current, report, why);
    return status;
}

enum status spool_count(struct store *current, uint64_t *rows, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_SECRET_FILE_BYTES);
    uint64_t leads = 0, quarantined = 0;
    struct span first;
    enum status status =
        sqlite_store_tally(current, TABLE_LEADS, SPAN_LIT(SPOOL_PARTITION), &arena, &leads, &first, why);
    if (status == ST_OK)
        status = sqlite_store_tally(current, TABLE_OPS, SPAN_LIT(QUARANTINE_PARTITION), &arena, &quarantined,
                                    &first, why);
    *rows = leads + quarantined;
    arena_release(&arena);
    return status;
}

uint64_t spool_bytes(const struct spool *spool)
{
    return bytes_on_disk(spool->path);
}

static bool is_empty(void *context)
{
    uint64_t rows;
    return spool_count(context, &rows, NULL) == ST_OK && rows == 0;
}

enum status spool_audit(struct spool *spool, struct store *current, const struct spool_report *report,
                        struct fail *why)
{
    uint64_t unused = 0;
    enum status status = find_lost(spool, current, report, why);
    if (status == ST_OK)
        status = sqlite_store_free_bytes(current, &unused, why);
    if (status == ST_OK) {
        ledger_clear(spool->ledger, is_empty, current);
        sqlite_store_shrink(current, unused > SHRINK_OVER, clock_monotonic_ms() + STATE_WAIT_MS);
    }
    return status;
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

enum status spool_inspect(const char *path, struct spool_state *state, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct spool s = {.path = (char *)(uintptr_t)path, .max_bytes = UINT32_MAX, .ledger = -1};
    struct spool_state result = {0};
    struct store *store = NULL;
    unsigned int lowest, current;
    struct span key = SPAN_LIT(BREAKER_KEY);
    struct entity *row = NULL;
    enum status status = find_generations(path, &lowest, &current, why);
    if (status == ST_OK && current == 0)
        status = fail_set(why, ST_NOT_FOUND, 0, "there is no spool at '%s' yet", path);
    if (status == ST_OK)
        status = open_generation(&s, current, &store, why);
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
        result.bytes = bytes_on_disk(path);
        result.generations = current - lowest + 1;
        *state = result;
    }
    store_close(store);
    arena_release(&arena);
    return status;
}

/* --- open and close ------------------------------------------------------------------------------------------ */

enum status spool_open(const struct spool_options *options, struct spool **spool, struct fail *why)
{
    struct spool *s = calloc(1, sizeof *s);
    if (!s)
        return fail_set(why, ST_NOMEM, 0, "no memory for the spool");
    s->ledger = -1;
    s->max_bytes = options->max_bytes;
    s->path = strdup(options->path);
    (void)pthread_mutex_init(&s->mutex, NULL); /* does not fail for a default mutex on Linux */
    /* The ledger first: opening the database syncs the folder of both. */
    enum status status = s->path ? ledger_open(s->path, &s->ledger, why)
                                 : fail_set(why, ST_NOMEM, 0, "no memory for the spool");
    if (status == ST_OK)
        status = ensure_open(s, why);
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
    (void)pthread_mutex_destroy(&spool->mutex);
    free(spool->path);
    free(spool);
}
