/* tries.h - telling the operator that many requests come with a wrong key.
 *
 * A request with a wrong key adds one to a counter of the host and touches
 * nothing else.  The relay, which is one process of the host, looks at that
 * counter now and then and raises ALARM_WRONG_KEYS when it has grown by
 * TRIES_MANY within the last hour or so: strangers cannot make us write to the
 * store more than once a day.
 * Threads: one at a time.
 */
#ifndef LEAD_TRIES_H
#define LEAD_TRIES_H

#include "lib/store/alarms.h"

enum {
    TRIES_MANY = 100, /* a person or a scanner tries a few; what goes on and on tries this many */
    TRIES_MARKS = 12
};
#define TRIES_STEP_MS (5 * 60 * 1000LL) /* between two marks: together they are an hour */

/* Zero bytes: nothing is known yet. */
struct tries {
    struct tries_mark {
        int64_t at_ms;
        uint64_t total;
    } marks[TRIES_MARKS]; /* a ring */
    size_t count;
    size_t oldest;
    struct alarm_days days;
};

/* total: how many requests with a wrong key there have been; now_ms: monotonic.
 * Raises the alarm if there were many and it has not done so today; a failure is
 * the store's, and the next look tries again. */
MUST_CHECK enum status tries_look(struct tries *tries, uint64_t total, int64_t now_ms, struct store *store,
                                  struct fail *why);

#endif
