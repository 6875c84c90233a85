/* The header of an answer of the Table service (continuation, times, ids) and the page of rows in its body.
 *
 * With the source of the client, whose readers are its own.
 */
#include "tests/fuzz/fuzz.h"

#include "lib/table/client.c"

CHECKS_BEGIN

enum { DAY_S = 24 * 60 * 60 };

static struct arena arena = {.limit = 256 * 1024};
static struct buf decoded = BUF_INIT(LIMIT_HEADER_BYTES);

/* "&NextPartitionKey=...&NextRowKey=...": nothing in it ends the parameter or the line, and it means the header. */
static void check_next(const struct http_exchange *http)
{
    static const struct span names[] = {SPAN_LIT("NextPartitionKey"), SPAN_LIT("NextRowKey")};
    struct span next = {0}, rest, part;
    size_t i = 0;
    if (!take_next(http, &arena, &next)) {
        struct span a = http_header(http, "x-ms-continuation-NextPartitionKey");
        struct span b = http_header(http, "x-ms-continuation-NextRowKey");
        CHECK(3 * (a.len + b.len) + 64 > LIMIT_CONTINUATION_BYTES);
        return;
    }
    CHECK(next.len <= LIMIT_CONTINUATION_BYTES);
    for (size_t k = 0; k < next.len; k++)
        CHECK(next.ptr[k] > ' ' && next.ptr[k] <= '~' && !strchr("#'\"<>\\?", next.ptr[k]));
    rest = span_from(next, 1);
    CHECK(next.len == 0 || next.ptr[0] == '&');
    for (; next.len && span_next(&rest, '&', &part); i++) {
        size_t equals = span_find(part, '=');
        if (i == 0 && !span_eq(span_cut(part, 0, equals), names[0]))
            i++;
        CHECK(i < COUNT(names) && span_eq(span_cut(part, 0, equals), names[i]));
        buf_reset(&decoded);
        percent_decode(&decoded, span_from(part, equals + 1), PLUS_STAYS);
        CHECK(span_eq(buf_span(&decoded), http_header(http, i ? "X-MS-Continuation-NextRowKey"
                                                              : "X-MS-Continuation-NextPartitionKey")));
    }
}

static void check_header(const struct http_exchange *http)
{
    const struct table_client client = {0};
    int wait_s = http_retry_after_s(http);
    int64_t date_ms = http_date_ms(http);
    CHECK(wait_s >= 0 && wait_s <= DAY_S);
    CHECK(date_ms == 0 || date_ms >= -11644473600000);
    struct table_error error = error_of(&client, http);
    size_t len = strnlen(error.request_id, sizeof error.request_id);
    CHECK(len < sizeof error.request_id);
    for (size_t i = 0; i < len; i++)
        CHECK(error.request_id[i] > ' ' && error.request_id[i] <= '~');
}

static void check_page(const struct http_exchange *http)
{
    struct page page = {0};
    struct fail why;
    enum status status = take_page(http, &arena, &page, &why);
    CHECK(status == ST_OK || status == ST_UNKNOWN || status == ST_NOMEM);
    if (status != ST_OK) {
        fuzz_check_fail(&why, status);
        return;
    }
    for (size_t i = 0; i < page.count; i++) {
        const struct entity *e = &page.rows[i];
        CHECK(e->count <= e->room);
        for (size_t k = 0; k < e->count; k++)
            CHECK(e->properties[k].type != EDM_BOOLEAN || e->properties[k].number <= 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = {(const char *)data, size};
    static struct http_exchange http = {.answer = BUF_INIT(LIMIT_ANSWER_BYTES),
                                        .answer_lines = BUF_INIT(LIMIT_HEADER_BYTES)};
    arena_reset(&arena);
    buf_reset(&http.answer);
    buf_reset(&http.answer_lines);
    buf_add(&http.answer_lines, fuzz_part(&rest));
    buf_add(&http.answer, rest);
    http.code = 200;
    check_next(&http);
    check_header(&http);
    if (rest.len)
        check_page(&http);
    return 0;
}

CHECKS_END
