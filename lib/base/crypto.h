/* crypto.h - the only file that knows OpenSSL: SHA-256, HMAC, random, compare.
 *
 * Threads: all functions may be called from any thread.
 */
#ifndef LEAD_CRYPTO_H
#define LEAD_CRYPTO_H

#include "lib/base/span.h"
#include "lib/base/status.h"

enum { SHA256_BYTES = 32 };

/* Finds what the rest needs, once; the others do it too when it was not done.  ST_NOMEM, for good: OpenSSL must not
 * be used by anybody in this process then. */
MUST_CHECK enum status crypto_init(struct fail *why);

/* The same for TLS, whoever uses it; at the start of a process that lives on, before any thread.  It takes a millisecond
 * and 0.4 MB, which the first connection would take otherwise.  ST_NOMEM, for good. */
MUST_CHECK enum status crypto_init_tls(struct fail *why);

/* A failure here is libcrypto without memory; ST_NOMEM. */
MUST_CHECK enum status crypto_sha256(struct span data, unsigned char digest[SHA256_BYTES], struct fail *why);
MUST_CHECK enum status crypto_hmac_sha256(struct span key, struct span data, unsigned char mac[SHA256_BYTES],
                                          struct fail *why);

/* Cryptographically strong random bytes; ST_IO when the generator fails. */
MUST_CHECK enum status crypto_random(unsigned char *bytes, size_t len, struct fail *why);

/* Takes the same time wherever two inputs of len bytes differ. */
bool crypto_equal(const unsigned char *a, const unsigned char *b, size_t len);

/* Overwrites memory in a way that the compiler keeps. */
void crypto_wipe(void *memory, size_t len);

#endif
