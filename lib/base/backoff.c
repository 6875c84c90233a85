#include "lib/base/backoff.h"

/* L0 */
#include "lib/base/crypto.h"

enum { ASKED_MOST_S = 600 };

int64_t backoff_ms(unsigned int failures, int64_t first_ms, int64_t most_ms)
{
    unsigned char random = 128;
    enum status status = crypto_random(&random, 1, NULL);
    (void)status; /* without randomness there is no jitter */
    int64_t ms = first_ms;
    for (unsigned int i = 1; i < failures && ms < most_ms; i++)
        ms *= 2;
    ms = ms < most_ms ? ms : most_ms;
    return ms + ms * (random - 128) / 640; /* a fifth either way */
}

int64_t backoff_asked_ms(int retry_after_s)
{
    return 1000LL * (retry_after_s < ASKED_MOST_S ? retry_after_s : ASKED_MOST_S);
}
