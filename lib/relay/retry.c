#include "lib/relay/retry.h"

/* L0 */
#include "lib/base/backoff.h"

#define MINUTE_MS (60 * 1000LL)

static const int64_t FIRST_WAITS_MIN[] = {1, 5, 15, 30, 60, 120};
enum { FIRST_WAITS = sizeof FIRST_WAITS_MIN / sizeof FIRST_WAITS_MIN[0] };
#define LATER_WAIT_MIN 240
#define GIVE_UP_MIN    (5 * 24 * 60)

/* failures comes from a row, which anybody may have edited. */
static int64_t wait_min(int32_t failures)
{
    if (failures < 1)
        return FIRST_WAITS_MIN[0];
    return failures <= FIRST_WAITS ? FIRST_WAITS_MIN[failures - 1] : LATER_WAIT_MIN;
}

int64_t retry_wait_ms(int32_t failures, uint32_t jitter)
{
    return backoff_move_ms(wait_min(failures) * MINUTE_MS, jitter);
}

bool retry_is_over(int32_t failures)
{
    int64_t waited_min = 0;
    for (int32_t i = 1; i < failures; i++) {
        waited_min += wait_min(i);
        if (waited_min >= GIVE_UP_MIN)
            return true;
    }
    return false;
}

int64_t retry_pause_ms(int32_t errors)
{
    int64_t minutes = 1;
    for (int32_t i = 1; i < errors && minutes < 15; i++)
        minutes *= 2;
    return (minutes < 15 ? minutes : 15) * MINUTE_MS;
}
