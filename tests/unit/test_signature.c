/* Signatures of the Standard Webhooks: the published vector, hostile headers, and whose secrets count. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/auth/keys.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"
#include "lib/base/limits.h"
#include "tests/unit/freed.h"
#include "tests/unit/no_memory.h"

/* The vector of the reference libraries (their test "sign function works"). */
#define ID        "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define SENT      "1614265330"
#define SENT_MS   1614265330000
#define BODY      "{\"test\": 2432232314}"
#define SECRET    "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define SIGNATURE "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
/* One of their wrong ones. */
#define WRONG "Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="

#define OTHER_SECRET "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
#define KEY          "0123456789abcdef"

#define ID_MISTAKE        "the webhook-id must be 1 to 255 visible ASCII characters without '.'"
#define TIME_MISTAKE      "the webhook-timestamp must be seconds since 1970, digits only"
#define SIGNATURE_MISTAKE "the webhook-signature holds no signature of version v1"
#define TOO_OLD           "the webhook-timestamp is more than 5 minutes old"
#define TOO_NEW           "the webhook-timestamp is more than 5 minutes ahead"
#define WRONG_SIGNATURE   "the signature is wrong"

#define X16  "xxxxxxxxxxxxxxxx"
#define X255 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 X16 "xxxxxxxxxxxxxxx"

struct fixture {
    struct keys *keys;
    struct arena arena;
};

static struct keys *read_keys(const char *content, int64_t now_ms)
{
    struct buf mistakes = BUF_INIT(LIMIT_KEY_FILE_BYTES);
    struct keys *keys = NULL;
    struct fail why;
    if (keys_parse(span_of(content), "keys", now_ms, &keys, &mistakes, &why) != ST_OK)
        fail_msg("%s", why.text);
    buf_release(&mistakes);
    return keys;
}

static int set_up(void **state)
{
    static struct fixture f;
    f = (struct fixture){.arena = ARENA_INIT(LIMIT_REQUEST_ARENA)};
    *state = &f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    keys_free(f->keys);
    arena_release(&f->arena);
    return 0;
}

static const struct signed_request GOOD = {SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE),
                                           SPAN_LIT(BODY)};

static void test_published_vector(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    const char *name = NULL;
    f->keys = read_keys("sender " SECRET "\n", SENT_MS);
    struct span text = signature_text(&GOOD, &f->arena);
    assert_true(span_eq(text, SPAN_LIT(ID "." SENT "." BODY)));
    assert_int_equal(keys_verify(f->keys, &GOOD, NULL, SENT_MS, &f->arena, &name, &why), ST_OK);
    assert_string_equal(name, "sender");
}

/* Headers, each with the body and the clock of the vector.  NULL: good. */
static const struct {
    const char *name;
    struct span id, timestamp, signature;
    const char *want;
} HEADERS[] = {
    {"as published", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE), NULL},
    {"several, one of them good", SPAN_LIT(ID), SPAN_LIT(SENT),
     SPAN_LIT("v1," WRONG " v2," WRONG " v1," SIGNATURE " v1," WRONG), NULL},
    {"the good one last, behind an asymmetric one", SPAN_LIT(ID), SPAN_LIT(SENT),
     SPAN_LIT("v1a,hnO3f9T8Ytu9HwrXslvumlUpqtNVqkhqw/enGzPCXe5BdqzCInXqYXFymVJaA7AZdpXwVLPo3mNl8EM+m7TBAg== "
              "v1," SIGNATURE),
     NULL},
    {"blanks around and between", SPAN_LIT(ID), SPAN_LIT(SENT),
     SPAN_LIT("  v1," WRONG "   v1," SIGNATURE " "), NULL},
    {"the same twice", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE " v1," SIGNATURE), NULL},
    /* nginx 1.23 and later joins headers of the same name with ", ". */
    {"two headers joined, the second good", SPAN_LIT(ID), SPAN_LIT(SENT),
     SPAN_LIT("v1," WRONG ", v1," SIGNATURE), NULL},
    {"two headers joined, the first good", SPAN_LIT(ID), SPAN_LIT(SENT),
     SPAN_LIT("v1," SIGNATURE ", v1," WRONG), WRONG_SIGNATURE},
    {"two ids joined", SPAN_LIT(ID ", " ID), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE), ID_MISTAKE},
    {"two times joined", SPAN_LIT(ID), SPAN_LIT(SENT ", " SENT), SPAN_LIT("v1," SIGNATURE), TIME_MISTAKE},

    {"a wrong signature", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1," WRONG), WRONG_SIGNATURE},
    {"no signature", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT(""), SIGNATURE_MISTAKE},
    {"blanks alone", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("   "), SIGNATURE_MISTAKE},
    {"a version alone", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1,"), SIGNATURE_MISTAKE},
    {"a part of one", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1,g0hM9"), SIGNATURE_MISTAKE},
    {"an unknown version", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v2," SIGNATURE), SIGNATURE_MISTAKE},
    {"an asymmetric one of the right length", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1a," SIGNATURE),
     SIGNATURE_MISTAKE},
    {"no version", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT(SIGNATURE), SIGNATURE_MISTAKE},
    {"the version in upper case", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("V1," SIGNATURE), SIGNATURE_MISTAKE},
    {"v1=", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1=" SIGNATURE), SIGNATURE_MISTAKE},
    {"a tab between", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1," WRONG "\tv1," SIGNATURE),
     SIGNATURE_MISTAKE},
    {"NUL behind it", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE "\0"), SIGNATURE_MISTAKE},
    {"NUL in it", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1O\0="),
     WRONG_SIGNATURE},
    {"without padding", SPAN_LIT(ID), SPAN_LIT(SENT),
     SPAN_LIT("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE"), SIGNATURE_MISTAKE},
    {"more padding", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE "="), SIGNATURE_MISTAKE},
    {"base64url", SPAN_LIT(ID), SPAN_LIT(SENT), SPAN_LIT("v1,g0hM9SsE-OTPJTGt_tmIKtSyZlE3uFJELVlNIOLJ1OE="),
     WRONG_SIGNATURE},
    /* "OE=" and "OF=" decode to the same bytes. */
    {"another spelling of the same bytes", SPAN_LIT(ID), SPAN_LIT(SENT),
     SPAN_LIT("v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF="), WRONG_SIGNATURE},
    {"hexadecimal", SPAN_LIT(ID), SPAN_LIT(SENT),
     SPAN_LIT("v1,83484cf52b04f8e4cf2531adfed98828d4b2665137b85244"), SIGNATURE_MISTAKE},
    {"the other case", SPAN_LIT(ID), SPAN_LIT(SENT),
     SPAN_LIT("v1,G0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="), WRONG_SIGNATURE},

    {"another id", SPAN_LIT(ID "x"), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE), WRONG_SIGNATURE},
    {"no id", SPAN_LIT(""), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE), ID_MISTAKE},
    {"a dot in the id", SPAN_LIT("msg.1"), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE), ID_MISTAKE},
    {"CR and LF in the id", SPAN_LIT(ID "\r\nX-Lead-Key: x"), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE),
     ID_MISTAKE},
    {"NUL in the id", SPAN_LIT(ID "\0"), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE), ID_MISTAKE},
    {"a blank in the id", SPAN_LIT("msg 1"), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE), ID_MISTAKE},
    {"DEL in the id", SPAN_LIT("msg\x7F"), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE), ID_MISTAKE},
    {"an id beyond ASCII", SPAN_LIT("msg\xC3\xA9"), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE), ID_MISTAKE},
    {"the longest id", SPAN_LIT(X255), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE), WRONG_SIGNATURE},
    {"an id too long", SPAN_LIT(X255 "x"), SPAN_LIT(SENT), SPAN_LIT("v1," SIGNATURE), ID_MISTAKE},

    {"another time", SPAN_LIT(ID), SPAN_LIT("1614265331"), SPAN_LIT("v1," SIGNATURE), WRONG_SIGNATURE},
    {"no time", SPAN_LIT(ID), SPAN_LIT(""), SPAN_LIT("v1," SIGNATURE), TIME_MISTAKE},
    {"a negative time", SPAN_LIT(ID), SPAN_LIT("-" SENT), SPAN_LIT("v1," SIGNATURE), TIME_MISTAKE},
    {"a plus sign", SPAN_LIT(ID), SPAN_LIT("+" SENT), SPAN_LIT("v1," SIGNATURE), TIME_MISTAKE},
    {"a blank before it", SPAN_LIT(ID), SPAN_LIT(" " SENT), SPAN_LIT("v1," SIGNATURE), TIME_MISTAKE},
    {"a fraction", SPAN_LIT(ID), SPAN_LIT(SENT ".0"), SPAN_LIT("v1," SIGNATURE), TIME_MISTAKE},
    {"an exponent", SPAN_LIT(ID), SPAN_LIT("1614265330e0"), SPAN_LIT("v1," SIGNATURE), TIME_MISTAKE},
    {"NUL behind the time", SPAN_LIT(ID), SPAN_LIT(SENT "\0"), SPAN_LIT("v1," SIGNATURE), TIME_MISTAKE},
    {"milliseconds", SPAN_LIT(ID), SPAN_LIT(SENT "000"), SPAN_LIT("v1," SIGNATURE), TOO_NEW},
    /* What was signed is the header as it stands. */
    {"a leading zero", SPAN_LIT(ID), SPAN_LIT("0" SENT), SPAN_LIT("v1," SIGNATURE), WRONG_SIGNATURE},
    {"zeros up to the bound", SPAN_LIT(ID), SPAN_LIT("0000000000" SENT), SPAN_LIT("v1," SIGNATURE),
     WRONG_SIGNATURE},
    {"zeros over the bound", SPAN_LIT(ID), SPAN_LIT("00000000000" SENT), SPAN_LIT("v1," SIGNATURE),
     TIME_MISTAKE},
    {"2^63 / 2", SPAN_LIT(ID), SPAN_LIT("4611686018427387904"), SPAN_LIT("v1," SIGNATURE), TIME_MISTAKE},
    {"2^64 + now", SPAN_LIT(ID), SPAN_LIT("18446744075323816946"), SPAN_LIT("v1," SIGNATURE), TIME_MISTAKE},
    {"2^32 + now", SPAN_LIT(ID), SPAN_LIT("5909232626"), SPAN_LIT("v1," SIGNATURE), TOO_NEW},
    {"1970", SPAN_LIT(ID), SPAN_LIT("0"), SPAN_LIT("v1," SIGNATURE), TOO_OLD},
};

static void test_headers(void **state)
{
    struct fixture *f = *state;
    f->keys = read_keys("sender " SECRET "\n", SENT_MS);
    for (size_t i = 0; i < sizeof HEADERS / sizeof HEADERS[0]; i++) {
        struct signed_request r = {HEADERS[i].id, HEADERS[i].timestamp, HEADERS[i].signature, SPAN_LIT(BODY)};
        struct fail why = {0};
        const char *name = NULL;
        enum status status = keys_verify(f->keys, &r, NULL, SENT_MS, &f->arena, &name, &why);
        const char *want = HEADERS[i].want ? HEADERS[i].want : "";
        if (status != (HEADERS[i].want ? ST_DENIED : ST_OK) || strcmp(why.text, want) != 0)
            fail_msg("%s: got %s '%s', want '%s'", HEADERS[i].name, status_name(status), why.text, want);
        if ((status == ST_OK) != (name != NULL))
            fail_msg("%s: a name of %s", HEADERS[i].name, name ? name : "nobody");
    }
}

/* While a sender changes its secret it signs with both, and both are in the file. */
static void test_two_that_match(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    const char *name = NULL;
    char list[128];
    unsigned char mac[SHA256_BYTES];
    char other[64];
    struct key_line line;
    f->keys = read_keys("a " OTHER_SECRET "\nb " SECRET "\n", SENT_MS);
    assert_int_equal(key_line_parse(SPAN_LIT("a " OTHER_SECRET), &line, &why), ST_OK);
    assert_int_equal(crypto_hmac_sha256((struct span){(const char *)line.bytes, line.byte_count},
                                        signature_text(&GOOD, &f->arena), mac, &why),
                     ST_OK);
    base64_write(mac, sizeof mac, other);
    for (int i = 0; i < 2; i++) {
        struct signed_request r = GOOD;
        (void)snprintf(list, sizeof list, "v1,%s v1,%s", i ? other : SIGNATURE, i ? SIGNATURE : other);
        r.signature = span_of(list);
        assert_int_equal(keys_verify(f->keys, &r, NULL, SENT_MS, &f->arena, &name, &why), ST_OK);
        assert_string_equal(name, "a"); /* the first in the file, whatever the order of the list */
    }
}

static void test_length_of_list(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    const char *name;
    struct buf list = BUF_INIT(LIMIT_WEBHOOK_SIGNATURE_BYTES + 1);
    f->keys = read_keys("sender " SECRET "\n", SENT_MS);
    buf_add_text(&list, "v1," SIGNATURE);
    while (list.len < LIMIT_WEBHOOK_SIGNATURE_BYTES)
        buf_add_char(&list, ' ');
    struct signed_request r = GOOD;
    r.signature = buf_span(&list);
    assert_int_equal(keys_verify(f->keys, &r, NULL, SENT_MS, &f->arena, &name, &why), ST_OK);
    buf_add_char(&list, ' ');
    r.signature = buf_span(&list);
    assert_int_equal(keys_verify(f->keys, &r, NULL, SENT_MS, &f->arena, &name, &why), ST_DENIED);
    assert_string_equal(why.text, SIGNATURE_MISTAKE);
    buf_release(&list);
}

static void test_tolerance(void **state)
{
    struct fixture *f = *state;
    static const struct {
        int64_t now_ms;
        const char *want;
    } TIMES[] = {
        {SENT_MS + 300999, NULL},
        {SENT_MS + 301000, TOO_OLD},
        {SENT_MS - 300000, NULL},
        {SENT_MS - 300001, TOO_NEW},
        {0, TOO_NEW},
        {INT64_MAX, TOO_OLD},
    };
    f->keys = read_keys("sender " SECRET "\n", SENT_MS);
    for (size_t i = 0; i < sizeof TIMES / sizeof TIMES[0]; i++) {
        struct fail why = {0};
        const char *name;
        enum status status = keys_verify(f->keys, &GOOD, NULL, TIMES[i].now_ms, &f->arena, &name, &why);
        const char *want = TIMES[i].want ? TIMES[i].want : "";
        if (status != (TIMES[i].want ? ST_DENIED : ST_OK) || strcmp(why.text, want) != 0)
            fail_msg("%zu: got %s '%s', want '%s'", i, status_name(status), why.text, want);
    }
}

static void test_body(void **state)
{
    struct fixture *f = *state;
    static const struct span bodies[] = {
        SPAN_LIT(""), {NULL, 0}, SPAN_LIT(BODY " "), SPAN_LIT(BODY "\0"), SPAN_LIT("{\"test\":2432232314}")};
    f->keys = read_keys("sender " SECRET "\n", SENT_MS);
    for (size_t i = 0; i < sizeof bodies / sizeof bodies[0]; i++) {
        struct signed_request r = GOOD;
        struct fail why;
        const char *name;
        r.body = bodies[i];
        assert_int_equal(keys_verify(f->keys, &r, NULL, SENT_MS, &f->arena, &name, &why), ST_DENIED);
        assert_string_equal(why.text, WRONG_SIGNATURE);
    }
}

/* Where id, time and body end can be read in one way only: else one signature would be good for two requests. */
static void test_no_shift(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    const char *name;
    unsigned char mac[SHA256_BYTES];
    char list[64] = "v1,";
    f->keys = read_keys("sender " SECRET "\n", SENT_MS);
    struct span text = SPAN_LIT("a." SENT "." SENT ".x=1");
    struct key_line line;
    assert_int_equal(key_line_parse(SPAN_LIT("sender " SECRET), &line, &why), ST_OK);
    struct span secret = {(const char *)line.bytes, line.byte_count};
    assert_int_equal(crypto_hmac_sha256(secret, text, mac, &why), ST_OK);
    base64_write(mac, sizeof mac, list + 3);
    struct signed_request meant = {SPAN_LIT("a"), SPAN_LIT(SENT), span_of(list), SPAN_LIT(SENT ".x=1")};
    assert_int_equal(keys_verify(f->keys, &meant, NULL, SENT_MS, &f->arena, &name, &why), ST_OK);
    struct signed_request shifted = {SPAN_LIT("a." SENT), SPAN_LIT(SENT), span_of(list), SPAN_LIT("x=1")};
    assert_int_equal(keys_verify(f->keys, &shifted, NULL, SENT_MS, &f->arena, &name, &why), ST_DENIED);
    assert_string_equal(why.text, ID_MISTAKE);
}

/* Keys of all lengths: RFC 4231, test case 6, and OpenSSL's own value for no key and no text.  The key before it, which
 * is longer than a block, must not show through. */
static void test_hmac_keys(void **state)
{
    char key[131];
    unsigned char mac[SHA256_BYTES];
    char hex[2 * SHA256_BYTES + 1] = "";
    struct fail why = {0};
    (void)state;
    memset(key, 0xaa, sizeof key);
    struct span text = SPAN_LIT("Test Using Larger Than Block-Size Key - Hash Key First");
    assert_int_equal(crypto_hmac_sha256((struct span){key, sizeof key}, text, mac, &why), ST_OK);
    hex_write(mac, sizeof mac, hex);
    assert_string_equal(hex, "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
    assert_int_equal(crypto_hmac_sha256((struct span){0}, (struct span){0}, mac, &why), ST_OK);
    hex_write(mac, sizeof mac, hex);
    assert_string_equal(hex, "b613679a0814d9ec772f95d778c35fc5ff1697c493715653c6c712144292c5ad");
}

/* --- whose secrets ------------------------------------------------------------------------------------------- */

#define PAST   " retire=2021-02-25T15:02:10Z"
#define FUTURE " retire=2021-02-25T15:02:10.001Z"

static const struct {
    const char *name;
    const char *file;
    const char *want; /* the holder; NULL: nobody */
} FILES[] = {
    {"the first of a name", "a " SECRET "\na " OTHER_SECRET "\n", "a"},
    {"the second of a name", "a " OTHER_SECRET "\na " SECRET "\n", "a"},
    {"one of another name", "a " OTHER_SECRET "\nb " SECRET "\n", "b"},
    {"another secret", "a " OTHER_SECRET "\n", NULL},
    {"a key alone", "a " KEY "\n", NULL},
    {"retired at this instant", "a " SECRET PAST "\n", NULL},
    {"a millisecond before it", "a " SECRET FUTURE "\n", "a"},
};

static void test_secrets(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        struct fail why = {0};
        const char *name = NULL;
        f->keys = read_keys(FILES[i].file, SENT_MS);
        enum status status = keys_verify(f->keys, &GOOD, NULL, SENT_MS, &f->arena, &name, &why);
        if (status != (FILES[i].want ? ST_OK : ST_DENIED) || !span_eq(span_of(name), span_of(FILES[i].want)))
            fail_msg("%s: got %s %s", FILES[i].name, status_name(status), name ? name : "nobody");
        keys_free(f->keys);
        f->keys = NULL;
    }
}

/* What a request presents: a key, a signature, both. */
static const struct {
    const char *name;
    const char *file;
    struct span key;
    struct span signature;
    const char *want; /* the holder; NULL: nobody */
    bool is_signed;
} REQUESTS[] = {
    {"nothing", "a " KEY "\na " SECRET "\n", {NULL, 0}, {NULL, 0}, NULL, false},
    {"a key", "a " KEY "\na " SECRET "\n", SPAN_LIT(KEY), {NULL, 0}, "a", false},
    {"a signature", "a " KEY "\na " SECRET "\n", {NULL, 0}, SPAN_LIT("v1," SIGNATURE), "a", true},
    {"a wrong signature", "a " KEY "\na " SECRET "\n", {NULL, 0}, SPAN_LIT("v1," WRONG), NULL, false},
    {"a list without v1", "a " KEY "\na " SECRET "\n", {NULL, 0}, SPAN_LIT("v2," SIGNATURE), NULL, false},
    {"both", "a " KEY "\na " SECRET "\n", SPAN_LIT(KEY), SPAN_LIT("v1," SIGNATURE), "a", true},
    {"both, the key wrong", "a " KEY "\na " SECRET "\n", SPAN_LIT(KEY "x"), SPAN_LIT("v1," SIGNATURE), NULL,
     false},
    {"both, the signature wrong", "a " KEY "\na " SECRET "\n", SPAN_LIT(KEY), SPAN_LIT("v1," WRONG), NULL,
     false},
    {"both, of two names", "a " KEY "\na " OTHER_SECRET "\nb " SECRET "\n", SPAN_LIT(KEY),
     SPAN_LIT("v1," SIGNATURE), NULL, false},
    {"a name without a secret signs", "a " KEY "\nb " SECRET "\n", SPAN_LIT(KEY), SPAN_LIT("v1," SIGNATURE),
     "a", false},
    {"a name without a secret signs otherwise", "a " KEY "\nb " SECRET "\n", SPAN_LIT(KEY), SPAN_LIT("x"),
     "a", false},
    {"a name whose secret has retired signs", "a " KEY "\na " SECRET PAST "\n", SPAN_LIT(KEY),
     SPAN_LIT("v1," SIGNATURE), "a", false},
    {"the secret as a key", "a " KEY "\na " SECRET "\n", SPAN_LIT(SECRET), {NULL, 0}, NULL, false},
};

static enum status authorize(struct fixture *f, struct span key, struct span signature, const char *file,
                             struct holder *holder, struct fail *why)
{
    struct key_ring *ring;
    struct credentials c = {.key = key, .signed_request = GOOD};
    c.signed_request.signature = signature;
    assert_int_equal(key_ring_new(read_keys(file, SENT_MS), &ring, why), ST_OK);
    enum status status = key_ring_authorize(ring, &c, SENT_MS, &f->arena, holder, why);
    key_ring_free(ring);
    return status;
}

static void test_what_is_presented(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof REQUESTS / sizeof REQUESTS[0]; i++) {
        struct holder holder = {0};
        struct fail why;
        enum status status =
            authorize(f, REQUESTS[i].key, REQUESTS[i].signature, REQUESTS[i].file, &holder, &why);
        if (status != (REQUESTS[i].want ? ST_OK : ST_DENIED) ||
            strcmp(holder.name, REQUESTS[i].want ? REQUESTS[i].want : "") != 0 ||
            holder.is_signed != REQUESTS[i].is_signed)
            fail_msg("%s: got %s '%s' %s", REQUESTS[i].name, status_name(status), holder.name,
                     holder.is_signed ? "signed" : "not signed");
    }
}

/* Not to know whether a signature is good is not the same as a wrong one. */
static void test_without_memory(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    const char *name = NULL;
    f->keys = read_keys("sender " SECRET "\n", SENT_MS);
    out_of_memory = true;
    enum status without_text = keys_verify(f->keys, &GOOD, NULL, SENT_MS, &f->arena, &name, &why);
    out_of_memory = false;
    assert_int_equal(without_text, ST_NOMEM);
    (void)arena_alloc(&f->arena, 1); /* the text has room now, libcrypto has not */
    arena_reset(&f->arena);
    out_of_memory = true;
    enum status without_mac = keys_verify(f->keys, &GOOD, NULL, SENT_MS, &f->arena, &name, &why);
    out_of_memory = false;
    assert_int_equal(without_mac, ST_NOMEM);
    assert_null(name);
    assert_int_equal(keys_verify(f->keys, &GOOD, NULL, SENT_MS, &f->arena, &name, &why), ST_OK);
}

/* --- what stays in memory ------------------------------------------------------------------------------------ */

/* Reads a key file, verifies with it, replaces it, and ends. */
static void use_keys(struct fixture *f)
{
    struct buf mistakes = BUF_INIT(LIMIT_KEY_FILE_BYTES);
    struct keys *keys;
    struct key_ring *ring;
    struct holder holder;
    struct fail why;
    struct credentials c = {.signed_request = GOOD};
    char path[] = "/tmp/signature-keys-XXXXXX";
    static const char text[] = "a " SECRET "\nb " KEY "\n",
                      wrong[] = "a " SECRET "\nb short\n" OTHER_SECRET " x\n";
    int fd = mkstemp(path); /* mode 0600 */
    assert_true(fd >= 0 && write(fd, text, sizeof text - 1) == sizeof text - 1 && close(fd) == 0);
    assert_int_equal(keys_read(path, SENT_MS, &keys, &mistakes, &why), ST_OK);
    assert_int_equal(key_ring_new(keys, &ring, &why), ST_OK);
    assert_int_equal(key_ring_authorize(ring, &c, SENT_MS, &f->arena, &holder, &why), ST_OK);
    assert_int_equal(keys_read(path, SENT_MS, &keys, &mistakes, &why), ST_OK);
    key_ring_replace(ring, keys);
    key_ring_free(ring);
    assert_int_equal(keys_parse(SPAN_LIT(wrong), "keys", SENT_MS, &keys, &mistakes, &why), ST_INVALID);
    assert_int_equal(unlink(path), 0);
    buf_release(&mistakes);
}

static void test_wiped(void **state)
{
    struct fixture *f = *state;
    struct key_line line;
    struct fail why;
    assert_int_equal(key_line_parse(SPAN_LIT("a " SECRET), &line, &why), ST_OK);
    const struct {
        const char *name;
        const void *bytes;
        size_t len;
    } secrets[] = {
        {"the secret's bytes", line.bytes, line.byte_count},
        {"the secret as it stands in the file", SECRET + 6, strlen(SECRET) - 6},
        {"a key as it stands in the file", KEY, strlen(KEY)},
    };
    for (size_t i = 0; freed_is_watched() && i < sizeof secrets / sizeof secrets[0]; i++) {
        watch_freed(secrets[i].bytes, secrets[i].len);
        use_keys(f);
        size_t blocks = freed.blocks, found = freed.found;
        watch_freed(NULL, 0);
        if (blocks == 0 || found > 0)
            fail_msg("%s: in %zu of %zu blocks", secrets[i].name, found, blocks);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_published_vector, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_headers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_two_that_match, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_length_of_list, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tolerance, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_body, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_shift, set_up, tear_down),
        cmocka_unit_test(test_hmac_keys),
        cmocka_unit_test_setup_teardown(test_secrets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_presented, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wiped, set_up, tear_down),
    };
    if (!watch_memory())
        return 1;
    return cmocka_run_group_tests_name("signature", tests, NULL, NULL);
}
