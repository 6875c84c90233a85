/* The key of a request: out of the query, decoded as libcurl decodes it, or out of a header.
 *
 * With the source of the intake, whose first step this is.
 */
#include "tests/fuzz/fuzz.h"

#include <curl/curl.h>

#include "handler/intake.c"

CHECKS_BEGIN

/* The value of the first "key=" of a query; ptr is NULL where there is none. */
static struct span find(struct span query)
{
    for (size_t i = 0; i + 4 <= query.len; i++) {
        if (memcmp(query.ptr + i, "key=", 4) == 0 && (i == 0 || query.ptr[i - 1] == '&')) {
            struct span value = span_from(query, i + 4);
            return span_cut(value, 0, span_find(value, '&'));
        }
    }
    return (struct span){0};
}

static void check_key(const struct request *r, struct span key)
{
    struct span value = find(r->query);
    if (value.ptr) {
        int len = 0;
        char *want = curl_easy_unescape(NULL, value.len ? value.ptr : "", (int)value.len, &len);
        CHECK(want && span_eq(key, value.len ? (struct span){want, (size_t)len} : span_empty()));
        curl_free(want);
    } else if (r->lead_key.len) {
        CHECK(span_eq(key, span_trim(r->lead_key)));
    } else if (r->authorization.len >= 7 && strncasecmp(r->authorization.ptr, "bearer ", 7) == 0) {
        CHECK(span_eq(key, span_trim(span_from(r->authorization, 7))));
    } else {
        CHECK(key.len == 0);
    }
}

/* What goes into logs and answers is letters, digits and dashes. */
static void check_id(struct span id)
{
    CHECK(id.len > 0);
    for (size_t i = 0; i < id.len; i++) {
        char c = id.ptr[i];
        CHECK((c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct intake in = {.arena = {.limit = LIMIT_REQUEST_ARENA}};
    struct span rest = {(const char *)data, size}, key, again;
    struct request r = {.query = fuzz_part(&rest)};
    struct fail why;
    r.lead_key = fuzz_part(&rest);
    r.authorization = fuzz_part(&rest);
    r.request_id = fuzz_part(&rest);
    arena_reset(&in.arena);
    in.request = &r;
    struct buf decoded = BUF_INIT(LIMIT_QUERY_BYTES), decoded_again = BUF_INIT(LIMIT_QUERY_BYTES);
    CHECK(presented_key(&r, &decoded, &key, &why) == ST_OK);
    CHECK(presented_key(&r, &decoded_again, &again, &why) == ST_OK && span_eq(key, again));
    check_key(&r, key);
    check_id(request_id_of(&in, r.request_id));
    buf_release(&decoded);
    buf_release(&decoded_again);
    return 0;
}

CHECKS_END
