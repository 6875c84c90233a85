/* Errors of the Table service, as JSON or XML: what is read of them, and what is made of it. */
#include "tests/fuzz/fuzz.h"

#include "lib/base/json_write.h"
#include "lib/base/text.h"
#include "lib/table/error.h"

CHECKS_BEGIN

enum { BODY_BYTES = 64 * 1024 };

static struct buf text = BUF_INIT(BODY_BYTES);

static bool is_word(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_'))
            return false;
    }
    return s.len > 0 && s.len < ERROR_CODE_BYTES;
}

static struct table_error read_error(struct span body, unsigned int flags)
{
    static const int codes[] = {400, 401, 403, 404, 405, 408, 409, 412,
                                413, 429, 500, 501, 502, 503, 307, 599};
    struct table_error error = {.http_code = codes[flags % COUNT(codes)], .index = NO_INDEX};
    error.is_member = flags & 16;
    error.has_sas = flags & 32;
    error.clock_ahead_ms = flags & 64 ? -3600000 : flags & 128 ? INT64_MAX / 2 : 0;
    table_error_read(&error, body);
    return error;
}

static void check(const struct table_error *error)
{
    struct fail why = {0};
    size_t len = strnlen(error->code, sizeof error->code);
    CHECK(len == 0 || is_word((struct span){error->code, len}));
    CHECK(error->index == NO_INDEX || error->index <= LIMIT_BATCH_OPERATIONS);
    enum status status = table_error_status(error, &why);
    fuzz_check_fail(&why, status);
    CHECK(why.peer == error->http_code);
    CHECK(len == 0 || fuzz_has(span_of(why.text), span_of(error->code)));
    CHECK(status == ST_DENIED || status == ST_EXISTS || status == ST_NOT_FOUND || status == ST_CHANGED ||
          status == ST_INVALID || status == ST_TOO_LARGE || status == ST_AGAIN || status == ST_UNKNOWN);
}

static bool is_same(const struct table_error *a, const struct table_error *b)
{
    return strcmp(a->code, b->code) == 0 && a->index == b->index;
}

/* The same error in the service's forms. */
static void check_written(unsigned int flags, struct span rest)
{
    struct span code = fuzz_part(&rest), number = fuzz_part(&rest), words = fuzz_part(&rest);
    struct table_error want = {.index = NO_INDEX};
    struct json_writer w;
    uint64_t index;
    char message[256];
    if (!utf8_is_valid(code, NULL) || span_find(code, '\0') != SPAN_NONE ||
        span_find(number, ':') != SPAN_NONE)
        return;
    int len = snprintf(message, sizeof message, "%.*s:%.*s", SPAN_FMT(number), SPAN_FMT(words));
    if (len < 0 || (size_t)len >= sizeof message || strlen(message) != number.len + 1 + words.len ||
        !utf8_is_valid(span_of(message), NULL))
        return;
    table_error_take_code(&want, code);
    if (span_to_u64(number, LIMIT_BATCH_OPERATIONS, &index))
        want.index = index;
    CHECK((want.code[0] != '\0') == is_word(code));
    buf_reset(&text);
    json_begin(&w, &text);
    json_open(&w, SPAN_LIT("odata.error"));
    json_add_text(&w, SPAN_LIT("code"), code);
    json_open(&w, SPAN_LIT("message"));
    json_add_text(&w, SPAN_LIT("lang"), SPAN_LIT("en-US"));
    json_add_text(&w, SPAN_LIT("value"), span_of(message));
    json_close(&w);
    json_close(&w);
    CHECK(json_end(&w, "an error", NULL) == ST_OK);
    struct table_error error = read_error(buf_span(&text), flags);
    CHECK(is_same(&error, &want));
    check(&error);
    if (!is_word(code))
        return;
    buf_reset(&text);
    buf_addf(&text, "<?xml version=\"1.0\"?>\n<m:error><m:code>%.*s</m:code><m:message/></m:error>",
             SPAN_FMT(code));
    error = read_error(buf_span(&text), flags);
    want.index = NO_INDEX;
    CHECK(is_same(&error, &want));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = {(const char *)data, size};
    unsigned int flags = fuzz_byte(&rest);
    struct table_error error = read_error(rest, flags), again = read_error(rest, flags);
    CHECK(is_same(&error, &again));
    check(&error);
    check_written(flags, rest);
    return 0;
}

CHECKS_END
