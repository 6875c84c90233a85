/* condition.h - condition variables whose deadlines are on the monotonic clock.
 *
 * The default is the wall clock: set back, it would make every wait too long.
 */
#ifndef LEAD_CONDITION_H
#define LEAD_CONDITION_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* To be ended with pthread_cond_destroy. */
void condition_init(pthread_cond_t *condition);

/* pthread_cond_timedwait until clock_monotonic_ms is deadline_ms; false when it has passed. */
bool condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t deadline_ms);
/* The same for waits below a millisecond: until clock_monotonic_us is deadline_us. */
bool condition_wait_us(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t deadline_us);

#endif
