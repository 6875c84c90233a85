/* quantile.h - quantiles of any number of durations, in memory that does not grow.
 *
 * Counts durations in buckets: those below QUANTILE_EXACT_MS have one for each
 * millisecond, longer ones share theirs with what differs by less than a
 * thousandth.  Least and most are kept as they are.
 * Threads: one owner at a time.
 */
#ifndef LEAD_CTL_QUANTILE_H
#define LEAD_CTL_QUANTILE_H

#include <stddef.h>
#include <stdint.h>

enum {
    QUANTILE_STEPS = 1024, /* buckets of each doubling: a value is known to a thousandth */
    QUANTILE_EXACT_MS = 2 * QUANTILE_STEPS,
    QUANTILE_DOUBLINGS = 29, /* up to 2^40 ms: 34 years */
    QUANTILE_BUCKETS = QUANTILE_EXACT_MS + QUANTILE_DOUBLINGS * QUANTILE_STEPS
};

struct quantiles { /* all zero: none yet */
    uint64_t count;
    int64_t most_ms;
    uint64_t buckets[QUANTILE_BUCKETS];
};

/* What is negative counts as 0, what is longer than 34 years as that. */
void quantile_add(struct quantiles *q, int64_t ms);

/* The least duration that at least percent % (1 to 100) of all do not exceed, or
 * up to a thousandth more; 0: there are none. */
int64_t quantile_of(const struct quantiles *q, unsigned int percent);

#endif
