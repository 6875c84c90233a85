/* The answer to a transaction: only what is beyond doubt is done or failed.
 *
 * Reads the input as an answer, and then an answer made from it: what is sent in
 * the service's form is understood, and what is cut off is never taken for more
 * than it says.
 */
#include "tests/fuzz/fuzz.h"

#include "lib/base/buf.h"
#include "lib/table/batch.h"

CHECKS_BEGIN

enum { ANSWER_BYTES = 64 * 1024, MEMBERS = 8 };

static struct buf text = BUF_INIT(ANSWER_BYTES);

/* How often a status line stands at the beginning of a line that has an end. */
static size_t count_statuses(struct span body, char class)
{
    struct span rest = body, line;
    size_t count = 0;
    while (span_find(rest, '\n') != SPAN_NONE && span_next(&rest, '\n', &line))
        count +=
            span_starts(line, SPAN_LIT("HTTP/1.")) && line.len > 9 && (class == 'x' || line.ptr[9] == class);
    return count;
}

static void check(struct span type, struct span body, size_t count)
{
    struct batch_answer answer, again;
    batch_read(type, body, count, &answer);
    switch (answer.outcome) {
    case BATCH_DONE:
        CHECK(count_statuses(body, '2') >= count);
        break;
    case BATCH_FAILED:
        CHECK(answer.code >= 400 && answer.code <= 599 && count_statuses(body, 'x') >= 1);
        CHECK(answer.error.len == 0 ||
              (answer.error.ptr >= body.ptr && answer.error.ptr + answer.error.len <= body.ptr + body.len));
        break;
    case BATCH_UNCLEAR:
        break;
    }
    batch_read(type, body, count, &again);
    CHECK(answer.outcome == again.outcome && answer.code == again.code && span_eq(answer.error, again.error));
}

/* An answer of members with these codes, as the service or Azurite writes it. */
static void write_answer(const unsigned int *codes, size_t count, struct span error, const char *end)
{
    buf_reset(&text);
    buf_addf(&text, "--batchresponse_1%sContent-Type: multipart/mixed; boundary=changesetresponse_2%s%s", end,
             end, end);
    for (size_t i = 0; i < count; i++) {
        buf_addf(
            &text,
            "--changesetresponse_2%sContent-Type: application/http%sContent-Transfer-Encoding: binary%s%s",
            end, end, end, end);
        buf_addf(&text, "HTTP/1.1 %u Reason%sDataServiceVersion: 3.0;%s%s", codes[i], end, end, end);
        if (codes[i] / 100 != 2)
            buf_add(&text, error);
        buf_add_text(&text, end);
    }
    buf_addf(&text, "--changesetresponse_2--%s--batchresponse_1--%s", end, end);
}

static void check_written(unsigned int flags, struct span rest)
{
    unsigned int codes[MEMBERS];
    struct batch_answer answer;
    const struct span type = SPAN_LIT("multipart/mixed; boundary=batchresponse_1");
    size_t count = flags % MEMBERS + 1, failed = 0,
           operations = flags & 64 ? count : flags / MEMBERS % MEMBERS + 1;
    for (size_t i = 0; i < count; i++) {
        unsigned int byte = fuzz_byte(&rest);
        codes[i] = byte < 200 ? 200 + byte % 8 : 300 + byte;
        failed += codes[i] / 100 != 2;
    }
    struct span error = span_trim(fuzz_part(&rest));
    if (fuzz_has(error, SPAN_LIT("--")))
        return; /* might be a boundary */
    write_answer(codes, count, error, flags & 128 ? "\n" : "\r\n");
    CHECK(text.error == ST_OK);
    batch_read(type, buf_span(&text), operations, &answer);
    if (failed == 0 && count == operations) {
        CHECK(answer.outcome == BATCH_DONE);
    } else if (count == 1 && failed == 1) {
        CHECK(answer.outcome == BATCH_FAILED && answer.code == (int)codes[0] && span_eq(answer.error, error));
    } else {
        CHECK(answer.outcome == BATCH_UNCLEAR);
    }
    /* The same, cut off somewhere. */
    struct span cut =
        span_cut(buf_span(&text), 0, (fuzz_byte(&rest) << 8 | fuzz_byte(&rest)) % (text.len + 1));
    batch_read(type, cut, operations, &answer);
    CHECK(answer.outcome != BATCH_DONE || count_statuses(cut, '2') == operations);
    CHECK(answer.outcome != BATCH_FAILED || (failed > 0 && count_statuses(cut, 'x') > 0));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = {(const char *)data, size};
    unsigned int flags = fuzz_byte(&rest);
    struct span whole = rest, type = fuzz_part(&rest);
    check(type, rest, flags % MEMBERS + 1);
    check(SPAN_LIT("multipart/mixed; boundary=batchresponse_1"), whole, flags % MEMBERS + 1);
    check_written(flags, whole);
    return 0;
}

CHECKS_END
