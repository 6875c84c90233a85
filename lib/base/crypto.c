#include "lib/base/crypto.h"

/* Libraries */
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

/* System */
#include <limits.h>

enum status crypto_sha256(struct span data, unsigned char digest[SHA256_BYTES], struct fail *why)
{
    if (!EVP_Digest(data.ptr, data.len, digest, NULL, EVP_sha256(), NULL))
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
    if (len > INT_MAX || RAND_bytes(bytes, (int)len) != 1)
        return fail_set(why, ST_IO, 0, "the random number generator failed");
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
