#include "handler/ctl/quantile.h"

#define LONGEST_MS ((int64_t)QUANTILE_EXACT_MS * (1LL << QUANTILE_DOUBLINGS) - 1)

/* How often a duration has to be halved until it is below QUANTILE_EXACT_MS. */
static unsigned int halvings(int64_t ms)
{
    unsigned int count = 0;
    for (; ms >= QUANTILE_EXACT_MS; ms /= 2)
        count++;
    return count;
}

void quantile_add(struct quantiles *q, int64_t ms)
{
    if (ms < 0)
        ms = 0;
    if (ms > LONGEST_MS)
        ms = LONGEST_MS;
    unsigned int halved = halvings(ms);
    /* What was halved is at least QUANTILE_STEPS, so its buckets go on where those before it end. */
    q->buckets[(size_t)halved * QUANTILE_STEPS + (size_t)(ms >> halved)]++;
    q->count++;
    if (ms > q->most_ms)
        q->most_ms = ms;
}

/* The longest duration of a bucket. */
static int64_t end_of(size_t bucket)
{
    if (bucket < QUANTILE_EXACT_MS)
        return (int64_t)bucket;
    size_t halved = (bucket - QUANTILE_STEPS) / QUANTILE_STEPS;
    return (int64_t)(((bucket - halved * QUANTILE_STEPS + 1) << halved) - 1);
}

int64_t quantile_of(const struct quantiles *q, unsigned int percent)
{
    uint64_t rank = q->count / 100 * percent + (q->count % 100 * percent + 99) / 100;
    uint64_t below = 0;
    size_t bucket = 0;
    if (q->count == 0)
        return 0;
    while (bucket < QUANTILE_BUCKETS && (below += q->buckets[bucket]) < rank)
        bucket++;
    int64_t end = end_of(bucket);
    return end < q->most_ms ? end : q->most_ms;
}
