#include "lib/base/backoff.h"

/* L0 */
#include "lib/base/crypto.h"
#include "lib/base/limits.h"

uint32_t backoff_jitter(void)
{
    unsigned char bytes[4] = {0};
    enum status status = crypto_random(bytes, sizeof bytes, NULL);
    (void)status; /* without randomness there is no jitter */
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

int64_t backoff_move_ms(int64_t wait_ms, uint32_t jitter)
{
    int64_t fifth_ms = wait_ms / 5;
    return wait_ms - fifth_ms + (int64_t)(jitter % (uint32_t)(2 * fifth_ms + 1));
}

int64_t backoff_ms(unsigned int failures, int64_t first_ms, int64_t most_ms)
{
    int64_t wait_ms = first_ms;
    for (unsigned int i = 1; i < failures && wait_ms < most_ms; i++)
        wait_ms *= 2;
    return backoff_move_ms(wait_ms < most_ms ? wait_ms : most_ms, backoff_jitter());
}

int64_t backoff_or_asked_ms(int64_t wait_ms, int retry_after_s)
{
    int64_t asked_ms = 1000LL * (retry_after_s < LIMIT_ASKED_WAIT_S ? retry_after_s : LIMIT_ASKED_WAIT_S);
    return wait_ms > asked_ms ? wait_ms : asked_ms;
}
