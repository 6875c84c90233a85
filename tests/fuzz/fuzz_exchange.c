/* The FastCGI protocol: records in, a request out; an answer in, records out.
 *
 * However the bytes are cut into pieces, the same comes of them; what is kept
 * and answered is bounded and made of whole records; and a request that was
 * written by a second reading of the specification arrives as it was.
 */
#include "tests/fuzz/fuzz.h"

#include "handler/exchange.h"

CHECKS_BEGIN

enum { BODY_MAX = 2048, REQUESTS_MAX = 8, STREAM_BYTES = 256 * 1024 };

static struct exchange whole, pieces;
static struct buf stream = BUF_INIT(STREAM_BYTES), reply_text_bytes = BUF_INIT(STREAM_BYTES);
static struct reply reply = {.body = BUF_INIT(LIMIT_REPLY_BODY_BYTES)};

/* --- records --------------------------------------------------------------------------------------------- */

struct record {
    unsigned int type;
    unsigned int id;
    struct span content;
};

static bool next_record(struct span *rest, struct record *r)
{
    const unsigned char *p = (const unsigned char *)rest->ptr;
    if (rest->len == 0)
        return false;
    CHECK(rest->len >= 8 && p[0] == 1 && p[7] == 0);
    size_t len = (size_t)p[4] << 8 | p[5];
    CHECK(rest->len >= 8 + len + p[6]);
    *r = (struct record){p[1], (unsigned int)p[2] << 8 | p[3], span_cut(*rest, 8, len)};
    *rest = span_from(*rest, 8 + len + p[6]);
    return true;
}

/* What is sent besides answers: ends of requests, and what a web server asked for. */
static void check_records(struct span out)
{
    struct record r;
    while (next_record(&out, &r)) {
        if (r.type == 3) {
            CHECK(r.id != 0 && r.content.len == 8);
        } else {
            CHECK(r.id == 0 && (r.type == 10 || (r.type == 11 && r.content.len == 8)));
        }
    }
}

/* The answer, then the end of its stream and of the request. */
static void check_answer(struct exchange *x)
{
    struct record r;
    bool had_farewell = false;
    buf_reset(&x->out);
    reply_accepted(&reply, 200, "stored", "7f3a9c0e5b1d4c627f3a9c0e5b1d4c62");
    buf_reset(&reply_text_bytes);
    reply_write(&reply_text_bytes, &reply);
    unsigned int id = x->request_id;
    bool keeps = x->keeps;
    exchange_answer(x, &reply, EXCHANGE_SHALL_END);
    CHECK(x->state == EXCHANGE_OVER && x->out.error == ST_OK);
    struct span rest = buf_span(&x->out);
    CHECK(next_record(&rest, &r) && r.type == 6 && r.id == id &&
          span_eq(r.content, buf_span(&reply_text_bytes)));
    CHECK(next_record(&rest, &r) && r.type == 6 && r.id == id && r.content.len == 0);
    CHECK(next_record(&rest, &r) && r.type == 3 && r.id == id && r.content.len == 8 && r.content.ptr[4] == 0);
    had_farewell = next_record(&rest, &r);
    CHECK(had_farewell == keeps && rest.len == 0 && (!had_farewell || (r.type == 11 && r.id == 0)));
}

/* --- what was read --------------------------------------------------------------------------------------- */

static bool is_within(struct span part, const struct buf *b)
{
    return part.len == 0 || (part.ptr >= b->data && part.ptr + part.len <= b->data + b->len);
}

/* 3.4, read again: whole pairs and nothing else. */
static void check_pairs(struct span rest)
{
    while (rest.len) {
        size_t lens[2];
        for (size_t i = 0; i < COUNT(lens); i++) {
            const unsigned char *p = (const unsigned char *)rest.ptr;
            size_t bytes = rest.len && p[0] & 0x80 ? 4 : 1;
            CHECK(rest.len >= bytes);
            lens[i] = p[0] & 0x7F;
            for (size_t k = 1; k < bytes; k++)
                lens[i] = lens[i] << 8 | p[k];
            rest = span_from(rest, bytes);
        }
        CHECK(lens[0] + lens[1] <= rest.len);
        rest = span_from(rest, lens[0] + lens[1]);
    }
}

static void check_state(const struct exchange *x)
{
    struct request r;
    CHECK(x->parameters.len <= LIMIT_PARAMETERS_BYTES && x->body.len <= BODY_MAX);
    CHECK(x->out.len <= x->out.limit && x->body.len <= x->body_len);
    CHECK(x->out.error == ST_OK ? x->state <= EXCHANGE_BROKEN : x->state == EXCHANGE_BROKEN);
    if (x->out.error == ST_OK)
        check_records(buf_span(&x->out));
    if (x->state != EXCHANGE_WHOLE)
        return;
    check_pairs(buf_span(&x->parameters));
    exchange_request(x, &r);
    const struct span parts[] = {r.method,   r.path,          r.query,     r.content_type,
                                 r.lead_key, r.authorization, r.request_id};
    for (size_t i = 0; i < COUNT(parts); i++)
        CHECK(is_within(parts[i], &x->parameters) && parts[i].len <= LIMIT_QUERY_BYTES);
    CHECK(x->has_request && is_within(r.body, &x->body) && r.body.len == x->body_len);
    CHECK(r.body.len == 0 || r.body_state == BODY_COMPLETE);
}

static void check_same(const struct exchange *a, const struct exchange *b)
{
    CHECK(a->state == b->state && a->has_request == b->has_request && a->has_parameters == b->has_parameters);
    CHECK(span_eq(buf_span(&a->out), buf_span(&b->out)));
    if (a->state == EXCHANGE_BROKEN) /* a part of a record may have been taken already */
        return;
    CHECK(a->head_len == b->head_len && a->content_left == b->content_left &&
          a->padding_left == b->padding_left);
    CHECK(a->request_id == b->request_id || !a->has_request);
    CHECK(span_eq(buf_span(&a->parameters), buf_span(&b->parameters)));
    CHECK(span_eq(buf_span(&a->body), buf_span(&b->body)));
}

static void take_pieces(struct exchange *x, struct span bytes, unsigned int seed)
{
    while (bytes.len) {
        seed = seed * 1103515245 + 12345;
        size_t len = seed >> 16 & 7 ? (seed >> 16 & 31) + 1 : 1;
        (void)exchange_take(x, span_cut(bytes, 0, len));
        bytes = span_from(bytes, len);
    }
}

/* --- a request of our own -------------------------------------------------------------------------------- */

static void write_record(unsigned int type, unsigned int id, struct span content, unsigned int padding)
{
    static const char zeros[256];
    const char head[] = {
        1, (char)type, (char)(id >> 8), (char)id, (char)(content.len >> 8), (char)content.len, (char)padding,
        0};
    buf_add(&stream, (struct span){head, sizeof head});
    buf_add(&stream, content);
    buf_add(&stream, (struct span){zeros, padding});
}

static void write_length(struct buf *out, size_t len, bool wide)
{
    if (len >= 0x80 || wide) {
        buf_add_char(out, (char)(0x80 | len >> 24));
        buf_add_char(out, (char)(len >> 16));
        buf_add_char(out, (char)(len >> 8));
    }
    buf_add_char(out, (char)len);
}

static void write_pair(struct buf *out, const char *name, struct span value, bool wide)
{
    write_length(out, strlen(name), wide);
    write_length(out, value.len, wide);
    buf_add_text(out, name);
    buf_add(out, value);
}

/* As a web server may: streams in records of any size, padded, others' records between them. */
static void write_stream(unsigned int type, unsigned int id, struct span content, unsigned int flags)
{
    size_t step = (flags & 15) * 7 + 1;
    for (; content.len; content = span_from(content, step)) {
        write_record(type, id, span_cut(content, 0, step), flags & 3);
        if (flags & 16)
            write_record(9, 0, span_empty(), 0);
        if (flags & 32)
            write_record(type, id + 1, SPAN_LIT("not ours"), 1);
    }
    write_record(type, id, span_empty(), flags & 7);
}

static bool is_asked(struct span given, struct span got, size_t limit)
{
    return given.len <= limit ? span_eq(given, got) : got.len == 0;
}

static void check_written(struct span rest)
{
    static struct buf parameters = BUF_INIT(STREAM_BYTES);
    static struct exchange x;
    unsigned int flags = fuzz_byte(&rest), id = fuzz_byte(&rest) + 1;
    struct span method = fuzz_part(&rest), path = fuzz_part(&rest), query = fuzz_part(&rest),
                key = fuzz_part(&rest);
    struct span body = rest;
    char length[24];
    struct request r;
    const char begin[8] = {0, 1, (char)(flags & 1)};
    (void)snprintf(length, sizeof length, "%zu", body.len);
    buf_reset(&stream);
    buf_reset(&parameters);
    write_pair(&parameters, "QUERY_STRING", query, flags & 64);
    write_pair(&parameters, "REQUEST_METHOD", method, false);
    write_pair(&parameters, "SCRIPT_NAME", path, flags & 128);
    write_pair(&parameters, "CONTENT_LENGTH", span_of(length), false);
    write_pair(&parameters, "HTTP_X_LEAD_KEY", key, false);
    write_record(1, id, (struct span){begin, sizeof begin}, flags & 7);
    write_stream(4, id, buf_span(&parameters), flags);
    write_stream(5, id, body, flags);
    CHECK(stream.error == ST_OK);
    if (!x.body_max)
        exchange_init(&x, BODY_MAX, REQUESTS_MAX);
    for (int round = 0; round < 2; round++) { /* the second time on the kept connection */
        CHECK(exchange_take(&x, buf_span(&stream)) == EXCHANGE_WHOLE);
        exchange_request(&x, &r);
        CHECK(is_asked(method, r.method, 32) && is_asked(path, r.path, LIMIT_QUERY_BYTES));
        CHECK(is_asked(query, r.query, LIMIT_QUERY_BYTES) && is_asked(key, r.lead_key, LIMIT_QUERY_BYTES));
        CHECK(r.body_state == (body.len <= BODY_MAX ? BODY_COMPLETE : BODY_TOO_LARGE));
        CHECK(span_eq(r.body, r.body_state == BODY_COMPLETE ? body : span_empty()));
        check_answer(&x);
        exchange_next(&x);
    }
    exchange_reset(&x);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span bytes = {(const char *)data, size};
    if (!whole.body_max) {
        exchange_init(&whole, BODY_MAX, REQUESTS_MAX);
        exchange_init(&pieces, BODY_MAX, REQUESTS_MAX);
    }
    (void)exchange_take(&whole, bytes);
    take_pieces(&pieces, bytes, (unsigned int)size);
    check_state(&whole);
    check_same(&whole, &pieces);
    if (whole.state == EXCHANGE_WHOLE)
        check_answer(&whole);
    exchange_reset(&whole);
    exchange_reset(&pieces);
    check_written(bytes);
    return 0;
}

CHECKS_END
