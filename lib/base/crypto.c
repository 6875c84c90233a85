#include "lib/base/crypto.h"

/* System */
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sys/random.h>

/* Libraries */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { RANDOM_BYTES_WHOLE = 256 };

/* Looked up once: OpenSSL 3 otherwise searches its providers for every digest, which takes longer than the digest of
 * a lead.  Kept until the process ends. */
static EVP_MD *sha256;
static pthread_once_t sha256_once = PTHREAD_ONCE_INIT;

static void fetch_sha256(void)
{
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
}

enum status crypto_sha256(struct span data, unsigned char digest[SHA256_BYTES], struct fail *why)
{
    (void)pthread_once(&sha256_once, fetch_sha256);
    if (!sha256 || !EVP_Digest(data.ptr, data.len, digest, NULL, sha256, NULL))
        return fail_set(why, ST_NOMEM, 0, "cannot compute SHA-256");
    return ST_OK;
}

enum status crypto_hmac_sha256(struct span key, struct span data, unsigned char mac[SHA256_BYTES],
                               struct fail *why)
{
    unsigned int len = SHA256_BYTES;
    if (key.len > INT_MAX ||
        !HMAC(EVP_sha256(), key.ptr, (int)key.len, (const unsigned char *)data.ptr, data.len, mac, &len))
        return fail_set(why, ST_NOMEM, 0, "cannot compute HMAC-SHA-256");
    return ST_OK;
}

enum status crypto_random(unsigned char *bytes, size_t len, struct fail *why)
{
    /* The kernel's generator: up to 256 bytes come whole, and it costs a fifth of OpenSSL's. */
    for (size_t at = 0; at < len;) {
        size_t most = len - at < RANDOM_BYTES_WHOLE ? len - at : RANDOM_BYTES_WHOLE;
        ssize_t got = getrandom(bytes + at, most, 0);
        if (got < 0 && errno != EINTR)
            return fail_set(why, ST_IO, errno, "the random number generator failed");
        at += got > 0 ? (size_t)got : 0;
    }
    return ST_OK;
}

bool crypto_equal(const unsigned char *a, const unsigned char *b, size_t len)
{
    return CRYPTO_memcmp(a, b, len) == 0;
}

void crypto_wipe(void *memory, size_t len)
{
    OPENSSL_cleanse(memory, len);
}
