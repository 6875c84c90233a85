/* backoff.h - how long to wait after a failure that may pass.
 *
 * Jitter keeps those who failed together from coming back together.  Threads: safe.
 */
#ifndef LEAD_BACKOFF_H
#define LEAD_BACKOFF_H

#include <stdint.h>

/* A random number for backoff_move_ms; always the same when there is no randomness. */
uint32_t backoff_jitter(void);

/* wait_ms (0 to 100 days) moved by up to a fifth either way by jitter (any number). */
int64_t backoff_move_ms(int64_t wait_ms, uint32_t jitter);

/* After so many failures (>= 1): first_ms, doubled with each further one up to
 * most_ms, then moved by jitter of its own. */
int64_t backoff_ms(unsigned int failures, int64_t first_ms, int64_t most_ms);

/* The longer of wait_ms and what a service asked for in Retry-After, of which ten minutes count at most. */
int64_t backoff_or_asked_ms(int64_t wait_ms, int retry_after_s);

#endif
