#include "lib/relay/tries.h"

/* System */
#include <inttypes.h>
#include <stdio.h>

/* L0 */
#include "lib/base/clock.h"

enum { STORE_WAIT_MS = 10000 };

static struct tries_mark *mark(struct tries *t, size_t number)
{
    return &t->marks[(t->oldest + number) % TRIES_MARKS];
}

static void set_mark(struct tries *t, uint64_t total, int64_t now_ms)
{
    if (t->count == TRIES_MARKS) {
        t->oldest = (t->oldest + 1) % TRIES_MARKS;
        t->count--;
    }
    *mark(t, t->count++) = (struct tries_mark){now_ms, total};
}

static enum status raise_alarm(struct tries *t, uint64_t many, int64_t within_ms, struct store *store,
                               struct fail *why)
{
    char since[CLOCK_TEXT_BYTES], text[LIMIT_ALARM_TEXT_BYTES];
    int64_t now = store_now_ms(store);
    if (!alarm_day_take(&t->days, ALARM_WRONG_KEYS, now))
        return ST_OK;
    clock_iso_time(now - within_ms, since);
    (void)snprintf(text, sizeof text,
                   "%" PRIu64 " requests with a wrong key, or none, have come to this host since %s.", many,
                   since);
    enum status status =
        alarm_raise(store, ALARM_WRONG_KEYS, text, clock_monotonic_ms() + STORE_WAIT_MS, why);
    if (status == ST_OK || status == ST_EXISTS)
        return ST_OK;
    alarm_day_give_back(&t->days, ALARM_WRONG_KEYS);
    return status;
}

enum status tries_look(struct tries *tries, uint64_t total, int64_t now_ms, struct store *store,
                       struct fail *why)
{
    struct tries *t = tries;
    const int64_t step_ms = clock_long_wait_ms(TRIES_STEP_MS), old_ms = TRIES_MARKS * step_ms + step_ms;
    enum status status = ST_OK;
    if (t->count && total < mark(t, t->count - 1)->total)
        t->count = 0; /* the counters have begun anew */
    while (t->count && now_ms - mark(t, 0)->at_ms > old_ms) {
        t->oldest = (t->oldest + 1) % TRIES_MARKS; /* nobody has looked for a while */
        t->count--;
    }
    if (t->count && total - mark(t, 0)->total >= TRIES_MANY)
        status = raise_alarm(t, total - mark(t, 0)->total, now_ms - mark(t, 0)->at_ms, store, why);
    if (t->count == 0 || now_ms - mark(t, t->count - 1)->at_ms >= step_ms)
        set_mark(t, total, now_ms);
    return status;
}
