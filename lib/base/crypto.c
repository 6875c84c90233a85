#include "lib/base/crypto.h"

/* System */
#include <errno.h>
#include <pthread.h>
#include <sys/random.h>

/* Libraries */
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/ssl.h>

enum { RANDOM_BYTES_WHOLE = 256 };

/* Looked up once: OpenSSL 3 otherwise searches its providers for every digest, which takes longer than the digest of
 * a lead.  And in time: an algorithm that it cannot load for want of memory it never finds again, so a program that
 * starts to sign in such a moment would refuse every lead from then on.  Kept until the process ends. */
static EVP_MD *sha256;
static EVP_MAC_CTX *hmac; /* with SHA-256 and a key of no meaning, to be copied */
static pthread_once_t once = PTHREAD_ONCE_INIT;

static EVP_MAC_CTX *make_hmac(void)
{
    char digest[] = "SHA256";
    const OSSL_PARAM options[] = {OSSL_PARAM_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, sizeof digest - 1),
                                  OSSL_PARAM_END};
    const unsigned char key[SHA256_BYTES] = {0}; /* without a key it cannot be copied */
    EVP_MAC *algorithm = EVP_MAC_fetch(NULL, "HMAC", NULL);
    EVP_MAC_CTX *context = algorithm ? EVP_MAC_CTX_new(algorithm) : NULL;
    EVP_MAC_free(algorithm); /* the context holds it */
    if (context && !EVP_MAC_init(context, key, sizeof key, options)) {
        EVP_MAC_CTX_free(context);
        context = NULL;
    }
    return context;
}

static void prepare(void)
{
    /* OpenSSL 3.0 goes on with its default context also when that could not be made for want of memory, and crashes. */
    if (!OSSL_LIB_CTX_get0_global_default())
        return;
    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    hmac = make_hmac();
}

enum status crypto_init(struct fail *why)
{
    (void)pthread_once(&once, prepare);
    return sha256 && hmac ? ST_OK : fail_set(why, ST_NOMEM, 0, "OpenSSL cannot be used");
}

/* One algorithm of each kind that a connection needs: those of a kind are loaded together.  And a context, which names
 * all that libssl knows. */
enum status crypto_init_tls(struct fail *why)
{
    enum status status = crypto_init(why);
    if (status != ST_OK)
        return status;
    EVP_CIPHER *cipher = EVP_CIPHER_fetch(NULL, "AES-128-GCM", NULL);
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    EVP_KEYMGMT *management = EVP_KEYMGMT_fetch(NULL, "X25519", NULL);
    EVP_KEYEXCH *exchange = EVP_KEYEXCH_fetch(NULL, "X25519", NULL);
    EVP_SIGNATURE *signature = EVP_SIGNATURE_fetch(NULL, "RSA", NULL);
    EVP_ASYM_CIPHER *encryption = EVP_ASYM_CIPHER_fetch(NULL, "RSA", NULL);
    EVP_RAND *generator = EVP_RAND_fetch(NULL, "CTR-DRBG", NULL);
    OSSL_DECODER *decoder = OSSL_DECODER_fetch(NULL, "RSA", NULL);
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    bool has_all =
        cipher && kdf && management && exchange && signature && encryption && generator && decoder && context;
    EVP_CIPHER_free(cipher);
    EVP_KDF_free(kdf);
    EVP_KEYMGMT_free(management);
    EVP_KEYEXCH_free(exchange);
    EVP_SIGNATURE_free(signature);
    EVP_ASYM_CIPHER_free(encryption);
    EVP_RAND_free(generator);
    OSSL_DECODER_free(decoder);
    SSL_CTX_free(context);
    return has_all ? ST_OK : fail_set(why, ST_NOMEM, 0, "OpenSSL cannot be used for TLS");
}

enum status crypto_sha256(struct span data, unsigned char digest[SHA256_BYTES], struct fail *why)
{
    enum status status = crypto_init(why);
    if (status != ST_OK)
        return status;
    if (!EVP_Digest(data.ptr, data.len, digest, NULL, sha256, NULL))
        return fail_set(why, ST_NOMEM, 0, "cannot compute SHA-256");
    return ST_OK;
}

enum status crypto_hmac_sha256(struct span key, struct span data, unsigned char mac[SHA256_BYTES],
                               struct fail *why)
{
    enum status status = crypto_init(why);
    if (status != ST_OK)
        return status;
    size_t len;
    /* A key of no bytes still needs an address: without one OpenSSL goes on with the key that it has. */
    const void *bytes = key.len > 0 ? key.ptr : "";
    EVP_MAC_CTX *context = EVP_MAC_CTX_dup(hmac);
    bool done = context && EVP_MAC_init(context, bytes, key.len, NULL) &&
                EVP_MAC_update(context, (const unsigned char *)data.ptr, data.len) &&
                EVP_MAC_final(context, mac, &len, SHA256_BYTES);
    EVP_MAC_CTX_free(context);
    return done ? ST_OK : fail_set(why, ST_NOMEM, 0, "cannot compute HMAC-SHA-256");
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
