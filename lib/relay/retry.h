/* retry.h - when a mail is tried again, and when it is given up.
 *
 * RFC 5321 4.5.4.1 asks for retries over four to five days.  Only definite,
 * transient failures count; configuration errors pause the queue instead.
 * All waits are plain milliseconds: callers hand them to clock_long_wait_ms.
 */
#ifndef LEAD_RETRY_H
#define LEAD_RETRY_H

#include <stdbool.h>
#include <stdint.h>

/* Milliseconds to wait after so many failures (>= 1): 1, 5, 15, 30 min, 1 h,
 * 2 h, then 4 h each, moved by jitter as in backoff_move_ms. */
int64_t retry_wait_ms(int32_t failures, uint32_t jitter);

/* No wait of this schedule is longer. */
#define RETRY_LONGEST_WAIT_MS (288 * 60 * 1000LL)

/* Whether so many failures mean that five days have been tried. */
bool retry_is_over(int32_t failures);

/* A mail whose outcome is not known is sent again after this, at most so often. */
#define RETRY_AMBIGUOUS_WAIT_MS (30 * 60 * 1000LL)
#define RETRY_AMBIGUOUS_MAX     2

/* A claim expires after this, later than the longest dialogue: connecting, every
 * reply of the server and the ten minutes after the dot. */
#define RETRY_CLAIM_EXPIRES_MS (20 * 60 * 1000LL)

/* How long the queue rests after the n-th configuration error in a row (>= 1): 1 min doubling to 15 min. */
int64_t retry_pause_ms(int32_t errors);

#endif
