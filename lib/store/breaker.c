/* The breaker: whether to ask the Table service at all.  One row in the spool, which all
 * processes of the host share; it is changed under its ETag only, so that one of them
 * opens it, one at a time probes, and one closes it.
 */
#include "lib/store/spool.h"

/* L0 */
#include "lib/base/backoff.h"
#include "lib/base/clock.h"

/* L6 */
#include "lib/store/spool_internal.h"

enum {
    READ_EVERY_MS = 100, /* how long another process's news may take while it is closed */
    TURN_WAIT_MS = 1000, /* for another thread that is writing to the spool */
    CLAIM_MS = 5000,     /* when who probes has not come back, another one does */
    FIRST_MS = 1000,
    MOST_MS = 30000
};

/* The breaker as read just now. */
struct view {
    struct arena arena;
    struct entity *row; /* NULL: it was never opened */
    struct breaker breaker;
};

static enum status read_row(struct spool *s, void *context, int64_t deadline_ms, struct fail *why)
{
    struct view *v = context;
    const struct span key = SPAN_LIT(BREAKER_KEY);
    return store_get_many(s->store, TABLE_OPS, SPAN_LIT(BREAKER_PARTITION), &key, 1, NULL, deadline_ms,
                          &v->arena, &v->row, why);
}

static void remember(struct spool *s, int32_t failures)
{
    s->failures = failures;
    s->breaker_read_ms = clock_monotonic_ms();
}

/* false: it cannot be read, and so is closed. */
static bool look(struct spool *s, struct view *v)
{
    enum status status = spool_work(s, read_row, v, clock_monotonic_ms() + WAIT_SQLITE_BUSY_MS, NULL);
    if (status == ST_OK && v->row)
        v->breaker = breaker_of_row(v->row);
    remember(s, v->breaker.failures);
    return status == ST_OK;
}

/* The same, where what was read last may be too old.  false: closed. */
static bool look_if_open(struct spool *s, struct view *v)
{
    bool is_old = s->breaker_read_ms == 0 || clock_monotonic_ms() - s->breaker_read_ms >= READ_EVERY_MS;
    if (s->failures == 0 && !is_old)
        return false;
    return look(s, v) && v->breaker.failures > 0;
}

/* ST_EXISTS, ST_CHANGED: somebody else has written it since it was read. */
static enum status change(struct spool *s, struct view *v, const struct breaker *to)
{
    struct operation operation = {.kind = v->row ? OPERATION_MERGE : OPERATION_INSERT};
    size_t failed;
    if (!row_of_breaker(&operation.entity, to, &v->arena))
        return ST_NOMEM;
    if (v->row)
        operation.entity.etag = v->row->etag;
    enum status status = store_transact(s->store, TABLE_OPS, &operation, 1,
                                        clock_monotonic_ms() + WAIT_SQLITE_BUSY_MS, &failed, NULL);
    if (status == ST_OK)
        remember(s, to->failures);
    return status;
}

static bool begin(struct spool *s, struct view *v)
{
    *v = (struct view){.arena = ARENA_INIT(LIMIT_REQUEST_ARENA)};
    return spool_lock(s, clock_monotonic_ms() + TURN_WAIT_MS);
}

static void end(struct spool *s, struct view *v)
{
    spool_unlock(s);
    arena_release(&v->arena);
}

/* A time before that of the last change means that the clock was set back: then nobody knows how long to wait. */
static bool is_probe_due(const struct view *v)
{
    int64_t now = clock_wall_ms();
    return now >= v->breaker.probe_ms || now < v->row->timestamp_ms;
}

enum breaker_way breaker_way(struct spool *spool)
{
    struct view v;
    enum breaker_way way = BREAKER_CLOSED;
    if (!begin(spool, &v))
        return way;
    if (look_if_open(spool, &v)) {
        struct breaker claimed = v.breaker;
        claimed.probe_ms = clock_wall_ms() + CLAIM_MS;
        enum status status = is_probe_due(&v) ? change(spool, &v, &claimed) : ST_AGAIN;
        if (status == ST_OK)
            way = BREAKER_PROBE;
        else if (status != ST_IO) /* on a full disk nobody could ever claim the probe, or close it */
            way = BREAKER_OPEN;
    }
    end(spool, &v);
    return way;
}

bool breaker_is_open(struct spool *spool)
{
    struct view v;
    if (!begin(spool, &v))
        return false;
    bool is_open = look_if_open(spool, &v);
    end(spool, &v);
    return is_open;
}

bool breaker_failed(struct spool *spool, enum breaker_way way, const struct fail *why)
{
    struct view v;
    bool opened = false;
    if (!begin(spool, &v))
        return false;
    if (look(spool, &v)) {
        int64_t now = clock_wall_ms();
        struct breaker b = v.breaker;
        opened = b.failures == 0;
        if (opened)
            b.since_ms = now;
        /* Several requests fail of one cause: the one that opens it counts, and later the one that probes. */
        if (opened || way == BREAKER_PROBE) {
            b.failures += b.failures < INT32_MAX ? 1 : 0;
            int64_t wait_ms = backoff_ms((unsigned int)b.failures, FIRST_MS, MOST_MS);
            b.probe_ms = now + backoff_or_asked_ms(wait_ms, why->retry_after_s);
            b.reason = span_of(why->text);
            opened = change(spool, &v, &b) == ST_OK && opened;
        }
    }
    end(spool, &v);
    return opened;
}

bool breaker_worked(struct spool *spool)
{
    struct view v;
    bool closed = false;
    if (!begin(spool, &v))
        return false;
    if (spool->failures > 0 && look(spool, &v) && v.breaker.failures > 0)
        closed = change(spool, &v, &(struct breaker){0}) == ST_OK;
    end(spool, &v);
    return closed;
}
