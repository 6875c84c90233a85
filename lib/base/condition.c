#include "lib/base/condition.h"

/* System */
#include <errno.h>
#include <time.h>

void condition_init(pthread_cond_t *condition)
{
    /* None of these calls fails on Linux with valid arguments. */
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(condition, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
}

bool condition_wait_us(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t deadline_us)
{
    struct timespec until = {.tv_sec = (time_t)(deadline_us / 1000000),
                             .tv_nsec = (long)(deadline_us % 1000000) * 1000L};
    return pthread_cond_timedwait(condition, mutex, &until) != ETIMEDOUT;
}

bool condition_wait(pthread_cond_t *condition, pthread_mutex_t *mutex, int64_t deadline_ms)
{
    return condition_wait_us(condition, mutex, deadline_ms * 1000);
}
