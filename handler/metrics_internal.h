/* metrics_internal.h - the shared memory itself, for metrics.c, which counts, and metrics_text.c, which reads.
 *
 * Whoever may write to the file can put anything there: who reads believes no
 * name that does not fit its hash, and no time that is none.
 */
#ifndef LEAD_METRICS_INTERNAL_H
#define LEAD_METRICS_INTERNAL_H

/* System */
#include <stdatomic.h>

#include "handler/metrics.h"
#include "lib/base/limits.h"
#include "lib/lead/lead.h"

enum {
    KEY_WORDS = LIMIT_KEY_NAME_BYTES / sizeof(uint64_t),
    OFFER_BYTES = (LIMIT_PARTITION_KEY_BYTES + 1 + 7) / 8 * 8,
    OFFER_WORDS = OFFER_BYTES / sizeof(uint64_t),
    BUCKETS = 14 /* of a histogram, that of what is over all bounds included */
};

#define LAST_S_MAX 253402300799 /* the end of the year 9999 */

/* What one name of a key has done.  A slot is taken by putting the name's hash
 * into it, for good.  All who come with this name then write the same words, so
 * a process that died before it had written them leaves nothing unfinished, and
 * no lock is needed.  Who reads believes a name only if its hash is there. */
struct key_slot {
    _Atomic uint64_t hash; /* 0: free */
    _Atomic uint64_t name[KEY_WORDS];
    _Atomic uint64_t requests;
    _Atomic int64_t last_s;
};

/* One offer.  One process writes; a reader that meets it in the middle finds that name and hash do not fit. */
struct offer_slot {
    _Atomic uint64_t hash; /* 0: free */
    _Atomic uint64_t name[OFFER_WORDS];
    _Atomic int64_t last_s;
};

struct histogram_counts {
    _Atomic uint64_t buckets[BUCKETS]; /* each for itself; they are summed when they are read */
    _Atomic uint64_t sum;
};

struct metrics {
    uint64_t magic;
    uint64_t count;
    _Atomic uint64_t values[METRIC_COUNT];
    struct key_slot keys[LIMIT_KEYS];
    struct offer_slot offers[LIMIT_OFFERS_SHOWN];
    struct histogram_counts histograms[HISTOGRAM_COUNT];
    _Atomic uint64_t leads[LEAD_SOURCE_LABELS][LEAD_ACTION_LABELS];
};

_Static_assert(LIMIT_KEY_NAME_BYTES % sizeof(uint64_t) == 0, "a name is whole words");

/* A lock in the mapped memory would be one process's alone. */
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && sizeof(uint64_t) == sizeof(long long), "counters are shared");

/* The bounds of a histogram in the unit in which it is observed, and as Prometheus is told them. */
struct bound {
    uint64_t value;
    const char *label;
};
/* BUCKETS - 1 at most; behind the last one value is 0. */
const struct bound *metrics_bounds(enum histogram histogram);

/* Hash of a name; never 0. */
uint64_t metrics_hash(const char *name);

/* Copies a name of so many words and a NUL behind them; false: there is none, it is being written, or the file is damaged. */
bool metrics_read_name(const _Atomic uint64_t *hash, const _Atomic uint64_t *words, size_t count,
                       uint64_t *name);

/* leadctl, which may be root's, reads what leadhook's user could have put there: 0 for what is no time. */
int64_t metrics_read_time(const _Atomic int64_t *last_s);

#endif
