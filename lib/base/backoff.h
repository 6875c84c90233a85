/* backoff.h - how long to wait after a failure that may pass.
 *
 * Threads: safe.
 */
#ifndef LEAD_BACKOFF_H
#define LEAD_BACKOFF_H

#include <stdint.h>

/* After so many failures (>= 1): first_ms, doubled with each further one up to
 * most_ms, then moved by up to a fifth either way at random. */
int64_t backoff_ms(unsigned int failures, int64_t first_ms, int64_t most_ms);

/* What a service asked for in Retry-After, but ten minutes at most. */
int64_t backoff_asked_ms(int retry_after_s);

#endif
