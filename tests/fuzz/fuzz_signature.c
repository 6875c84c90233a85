/* The headers of a signed request: what verifies has the form of the specification and was signed with the secret.
 *
 * The test signs by itself.  Parts of an input: what to do, id, timestamp, signatures, body.
 */
#include "tests/fuzz/fuzz.h"

#include "lib/auth/keys.h"
#include "lib/base/encode.h"

CHECKS_BEGIN

#define NOW_MS 1795255200000 /* 2026-11-21T10:00:00Z */
/* The bytes are 24 times 'k'. */
#define SECRET "kkkkkkkkkkkkkkkkkkkkkkkk"
#define FILE_TEXT                                                                                            \
    "signer whsec_a2tra2tra2tra2tra2tra2tra2tra2tr\nother whsec_b29vb29vb29vb29vb29vb29vb29vb29v\n"

/* What to do with the signatures of an input. */
enum { AS_THEY_COME, ADD_OURS_BEHIND, ADD_OURS_BEFORE, PLAN_COUNT };

static bool is_good_id(struct span id)
{
    if (id.len < 1 || id.len > 255)
        return false;
    for (size_t i = 0; i < id.len; i++) {
        if (id.ptr[i] <= ' ' || id.ptr[i] > '~' || id.ptr[i] == '.')
            return false;
    }
    return true;
}

/* Whether it is of now, read by hand: 0 to 20 digits. */
static bool is_good_time(struct span text)
{
    int64_t seconds = 0;
    if (text.len == 0 || text.len > 20)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9')
            return false;
        if (seconds < INT64_C(1000000000000))
            seconds = seconds * 10 + (text.ptr[i] - '0');
    }
    int64_t apart = seconds - NOW_MS / 1000;
    return apart >= -SIGNATURE_TOLERANCE_S && apart <= SIGNATURE_TOLERANCE_S;
}

static struct span sign(const struct signed_request *r, struct arena *arena)
{
    struct buf text = BUF_INIT(LIMIT_BODY_BYTES), token = BUF_INIT(64);
    unsigned char mac[SHA256_BYTES];
    struct span result;
    buf_add(&text, r->id);
    buf_add_char(&text, '.');
    buf_add(&text, r->timestamp);
    buf_add_char(&text, '.');
    buf_add(&text, r->body);
    CHECK(crypto_hmac_sha256(SPAN_LIT(SECRET), buf_span(&text), mac, NULL) == ST_OK);
    buf_add_text(&token, "v1,");
    base64_add(&token, (struct span){(const char *)mac, sizeof mac});
    CHECK(arena_copy(arena, buf_span(&token), &result));
    buf_release(&text);
    buf_release(&token);
    return result;
}

/* The signatures of the input, with ours among them where the plan says so. */
static struct span signatures(unsigned int plan, struct span given, struct span ours, struct arena *arena)
{
    struct buf list = BUF_INIT(LIMIT_QUERY_BYTES);
    struct span result = given;
    if (plan != AS_THEY_COME) {
        buf_add(&list, plan == ADD_OURS_BEHIND ? given : ours);
        buf_add_char(&list, ' ');
        buf_add(&list, plan == ADD_OURS_BEHIND ? ours : given);
        CHECK(arena_copy(arena, buf_span(&list), &result));
    }
    buf_release(&list);
    return result;
}

static bool has_word(struct span list, struct span word)
{
    struct span part;
    while (span_next(&list, ' ', &part)) {
        if (span_eq(part, word))
            return true;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct keys *keys;
    static struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct span rest = {(const char *)data, size};
    struct buf mistakes = BUF_INIT(1024);
    struct fail why;
    const char *name = NULL, *of_name = NULL;
    if (!keys)
        CHECK(keys_parse(SPAN_LIT(FILE_TEXT), "keys", NOW_MS, &keys, &mistakes, &why) == ST_OK);
    buf_release(&mistakes);
    arena_reset(&arena);
    unsigned int plan = fuzz_byte(&rest) % PLAN_COUNT;
    struct signed_request r = {.id = fuzz_part(&rest), .timestamp = fuzz_part(&rest)};
    struct span given = fuzz_part(&rest);
    r.body = rest;
    struct span ours = sign(&r, &arena);
    r.signature = signatures(plan, given, ours, &arena);

    bool is_good = is_good_id(r.id) && is_good_time(r.timestamp) &&
                   r.signature.len <= LIMIT_WEBHOOK_SIGNATURE_BYTES && has_word(r.signature, ours);
    enum status status = keys_verify(keys, &r, NULL, NOW_MS, &arena, &name, &why);
    CHECK(status == (is_good ? ST_OK : ST_DENIED));
    if (status == ST_OK)
        CHECK(strcmp(name, "signer") == 0);
    else
        fuzz_check_fail(&why, status);
    CHECK(keys_verify(keys, &r, "other", NOW_MS, &arena, &of_name, &why) == ST_DENIED);
    CHECK(keys_verify(keys, &r, NULL, NOW_MS + 2 * 1000 * SIGNATURE_TOLERANCE_S + 1000, &arena, &of_name,
                      &why) == ST_DENIED ||
          !is_good);
    return 0;
}

CHECKS_END
