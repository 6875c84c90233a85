/* Answers as records (FastCGI 1.0, 3.3): however long one is, its records hold it whole. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "handler/exchange.h"

enum { STDOUT = 6, END = 3, ID = 7 };

static const char REQUEST[] = "\1\1\0\7\0\10\0\0"
                              "\0\1\0\0\0\0\0\0" /* begin, as a responder */
                              "\1\4\0\7\0\42\0\0"
                              "\16\3REQUEST_METHODGET\13\2SCRIPT_NAME/m"
                              "\1\4\0\7\0\0\0\0"
                              "\1\5\0\7\0\0\0\0";

/* Any content that repeats with a length no power of two fits. */
static void fill(struct buf *body, size_t len)
{
    buf_reset(body);
    for (size_t i = 0; i < len; i++)
        buf_add_char(body, (char)('a' + i % 23));
    assert_int_equal(body->error, ST_OK);
}

/* Takes the content of one record; the answer's goes to text. */
static unsigned int take_record(struct span *rest, struct buf *text)
{
    const unsigned char *head = (const unsigned char *)rest->ptr;
    assert_true(rest->len >= RECORD_HEAD_BYTES && head[0] == 1 && head[3] == ID && head[6] == 0);
    size_t len = (size_t)head[4] << 8 | head[5];
    assert_true(rest->len - RECORD_HEAD_BYTES >= len);
    if (head[1] == STDOUT)
        buf_add(text, span_cut(*rest, RECORD_HEAD_BYTES, len));
    *rest = span_from(*rest, RECORD_HEAD_BYTES + len);
    return head[1] == STDOUT && len == 0 ? 0 : head[1];
}

static void check_answer(struct exchange *x, struct reply *reply, size_t body_len)
{
    struct buf want = BUF_INIT(LIMIT_REPLY_BODY_BYTES + LIMIT_REPLY_BYTES);
    struct buf got = BUF_INIT(LIMIT_REPLY_BODY_BYTES + LIMIT_REPLY_BYTES);
    assert_int_equal(exchange_take(x, (struct span){REQUEST, sizeof REQUEST - 1}), EXCHANGE_WHOLE);
    reply_text(reply, 200, "text/plain", span_empty());
    fill(&reply->body, body_len);
    reply_write(&want, reply);
    exchange_answer(x, reply, EXCHANGE_SHALL_END);
    assert_int_equal(x->out.error, ST_OK);
    struct span rest = buf_span(&x->out);
    unsigned int type;
    while ((type = take_record(&rest, &got)) == STDOUT)
        ;
    assert_int_equal(type, 0); /* the end of the stream */
    assert_int_equal(take_record(&rest, &got), END);
    assert_int_equal(rest.len, 0);
    if (!span_eq(buf_span(&got), buf_span(&want)))
        fail_msg("a body of %zu bytes: %zu bytes have arrived, not %zu or others", body_len, got.len,
                 want.len);
    exchange_next(x);
    buf_release(&want);
    buf_release(&got);
}

static void test_lengths(void **state)
{
    (void)state;
    struct exchange x;
    struct reply reply = REPLY_INIT;
    struct buf head = BUF_INIT(LIMIT_REPLY_BYTES);
    exchange_init(&x, 1000, 8);
    reply_text(&reply, 200, "text/plain", span_empty());
    reply_write(&head, &reply);
    size_t head_len = head.len + 4; /* the length of the body gets five digits */
    const size_t lengths[] = {0,
                              1,
                              RECORD_CONTENT_BYTES - head_len - 1,
                              RECORD_CONTENT_BYTES - head_len,
                              RECORD_CONTENT_BYTES - head_len + 1,
                              LIMIT_REPLY_BODY_BYTES};
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        check_answer(&x, &reply, lengths[i]);
    /* What was long once is not kept for ever. */
    reply_reset(&reply);
    assert_in_range(reply.body.room, 0, 16 * 1024);
    assert_in_range(x.out.room, 0, 16 * 1024);
    buf_release(&head);
    reply_release(&reply);
    exchange_release(&x);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lengths)};
    return cmocka_run_group_tests_name("exchange", tests, NULL, NULL);
}
