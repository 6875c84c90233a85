/* Names and numbers are those of the specification's section 8. */
#include "handler/exchange.h"

/* System */
#include <string.h>

/* L0 */
#include "lib/base/crypto.h"

enum { VERSION_1 = 1, MANAGEMENT = 0 /* the request id of records that belong to none */ };
enum record_type {
    BEGIN_REQUEST = 1,
    ABORT_REQUEST = 2,
    END_REQUEST = 3,
    PARAMS = 4,
    STDIN = 5,
    STDOUT = 6,
    GET_VALUES = 9,
    GET_VALUES_RESULT = 10,
    UNKNOWN_TYPE = 11
};
enum { ROLE_RESPONDER = 1, KEEP_CONN = 1 };
enum protocol_status { REQUEST_COMPLETE = 0, CANT_MPX_CONN = 1, UNKNOWN_ROLE = 3 };
enum { BODY_OF_8_BYTES = 8 }; /* of BEGIN_REQUEST, END_REQUEST and UNKNOWN_TYPE */

enum { KEPT_BYTES = 16 * 1024 }; /* of a buffer for the next request: ordinary leads are much shorter */

/* --- records out --------------------------------------------------------------------------------------------- */

static void write_head(char *to, enum record_type type, unsigned int id, size_t content_len)
{
    const unsigned char head[RECORD_HEAD_BYTES] = {VERSION_1,
                                                   (unsigned char)type,
                                                   (unsigned char)(id >> 8),
                                                   (unsigned char)id,
                                                   (unsigned char)(content_len >> 8),
                                                   (unsigned char)content_len};
    memcpy(to, head, sizeof head);
}

static void add_record(struct buf *out, enum record_type type, unsigned int id, struct span content)
{
    char *head = buf_reserve(out, RECORD_HEAD_BYTES);
    if (!head)
        return;
    write_head(head, type, id, content.len);
    buf_advance(out, RECORD_HEAD_BYTES);
    buf_add(out, content);
}

/* Makes records of what stands behind the place of one head; nearly always it is one. */
static void divide(struct buf *out, size_t begin, enum record_type type, unsigned int id)
{
    size_t len = out->len - begin - RECORD_HEAD_BYTES;
    size_t more = len > 0 ? (len - 1) / RECORD_CONTENT_BYTES : 0;
    if (!buf_reserve(out, more * RECORD_HEAD_BYTES))
        return;
    buf_advance(out, more * RECORD_HEAD_BYTES);
    for (size_t i = more;; i--) { /* from the last: each makes room for those before it */
        size_t before = i * (size_t)RECORD_CONTENT_BYTES;
        char *head = out->data + begin + before + i * RECORD_HEAD_BYTES;
        if (i > 0)
            memmove(head + RECORD_HEAD_BYTES, out->data + begin + RECORD_HEAD_BYTES + before, len - before);
        write_head(head, type, id, len - before);
        if (i == 0)
            break;
        len = before;
    }
}

static void add_end(struct buf *out, unsigned int id, unsigned char app_status, enum protocol_status status)
{
    const char body[BODY_OF_8_BYTES] = {0, 0, 0, (char)app_status, (char)status};
    add_record(out, END_REQUEST, id, (struct span){body, sizeof body});
}

/* The protocol has no word for "close this connection", and who closes one that nginx may just be about to use loses a
 * request.  But nginx keeps a connection only when nothing follows the end of the request in what it has read
 * (ngx_http_fastcgi_input_filter), and bytes that were sent at once are read at once.  So one more record makes it
 * close: a management record, which any other web server leaves out. */
static void add_farewell(struct buf *out)
{
    const char type[BODY_OF_8_BYTES] = {UNKNOWN_TYPE};
    add_record(out, UNKNOWN_TYPE, MANAGEMENT, (struct span){type, sizeof type});
}

void exchange_answer(struct exchange *x, const struct reply *reply, enum exchange_future future)
{
    struct buf *out = &x->out;
    size_t begin = out->len;
    add_record(out, STDOUT, x->request_id, span_empty());
    reply_write(out, reply);
    if (out->error == ST_OK)
        divide(out, begin, STDOUT, x->request_id);
    add_record(out, STDOUT, x->request_id, span_empty()); /* the end of the stream */
    add_end(out, x->request_id, 0, REQUEST_COMPLETE);
    if (x->keeps && future == EXCHANGE_SHALL_END)
        add_farewell(out);
    x->has_request = false;
    x->state = EXCHANGE_OVER;
}

/* --- parameters ---------------------------------------------------------------------------------------------- */

/* A length of one byte or, with the highest bit set, of four (3.4).  false: it is cut off. */
static bool take_length(struct span *rest, size_t *len)
{
    const unsigned char *b = (const unsigned char *)rest->ptr;
    if (rest->len == 0)
        return false;
    if (b[0] < 0x80) {
        *len = b[0];
        *rest = span_from(*rest, 1);
        return true;
    }
    if (rest->len < 4)
        return false;
    *len = (size_t)(b[0] & 0x7F) << 24 | (size_t)b[1] << 16 | (size_t)b[2] << 8 | b[3];
    *rest = span_from(*rest, 4);
    return true;
}

/* Takes one name-value pair.  false: there is no whole one. */
static bool take_pair(struct span *rest, struct span *name, struct span *value)
{
    size_t name_len, value_len;
    if (!take_length(rest, &name_len) || !take_length(rest, &value_len) || name_len > rest->len ||
        value_len > rest->len - name_len)
        return false;
    *name = span_cut(*rest, 0, name_len);
    *value = span_cut(*rest, name_len, value_len);
    *rest = span_from(*rest, name_len + value_len);
    return true;
}

static struct span parameter(const void *from, const char *wanted)
{
    const struct exchange *x = from;
    struct span rest = buf_span(&x->parameters), name, value, want = span_of(wanted);
    while (take_pair(&rest, &name, &value)) {
        if (span_eq(name, want))
            return value;
    }
    return span_empty();
}

/* Whether they are whole pairs, and those of a request. */
static bool are_good(const struct exchange *x)
{
    struct span rest = buf_span(&x->parameters), name, value;
    while (rest.len > 0) {
        if (!take_pair(&rest, &name, &value))
            return false;
    }
    return parameter(x, "REQUEST_METHOD").ptr && parameter(x, "SCRIPT_NAME").ptr;
}

void exchange_request(const struct exchange *x, struct request *request)
{
    request_fill(request, parameter, x);
    request->body_state = x->body_state;
    request->body = buf_span(&x->body);
}

/* --- records in ---------------------------------------------------------------------------------------------- */

static void add_pair(struct buf *out, struct span name, unsigned int number)
{
    struct buf text = BUF_INIT(16);
    buf_addf(&text, "%u", number);
    buf_add_char(out, (char)name.len);
    buf_add_char(out, (char)text.len);
    buf_add(out, name);
    buf_add(out, buf_span(&text));
    buf_release(&text);
}

/* FCGI_GET_VALUES (4.1): what is not known is left out of the answer. */
static void tell_values(struct exchange *x)
{
    struct span rest = {(const char *)x->control, x->control_len}, name, value;
    struct buf values = BUF_INIT(LIMIT_CONTROL_BYTES * 2);
    while (take_pair(&rest, &name, &value)) {
        if (span_eq(name, SPAN_LIT("FCGI_MAX_CONNS")) || span_eq(name, SPAN_LIT("FCGI_MAX_REQS")))
            add_pair(&values, name, x->requests_max);
        else if (span_eq(name, SPAN_LIT("FCGI_MPXS_CONNS")))
            add_pair(&values, name, 0);
    }
    if (values.error == ST_OK)
        add_record(&x->out, GET_VALUES_RESULT, MANAGEMENT, buf_span(&values));
    buf_release(&values);
}

static enum exchange_state end_management(struct exchange *x, enum record_type type)
{
    const char unknown[BODY_OF_8_BYTES] = {(char)type};
    if (type == GET_VALUES)
        tell_values(x);
    else
        add_record(&x->out, UNKNOWN_TYPE, MANAGEMENT, (struct span){unknown, sizeof unknown}); /* 4.2 */
    return x->state;
}

static enum exchange_state begin_request(struct exchange *x, unsigned int id)
{
    if (x->control_len < BODY_OF_8_BYTES || (x->has_request && id == x->request_id))
        return EXCHANGE_BROKEN;
    if (x->has_request) {
        add_end(&x->out, id, 0, CANT_MPX_CONN);
        return x->state;
    }
    x->request_id = id;
    if ((x->control[0] << 8 | x->control[1]) != ROLE_RESPONDER) {
        add_end(&x->out, id, 0, UNKNOWN_ROLE);
        return EXCHANGE_OVER;
    }
    x->has_request = true;
    x->keeps = (x->control[2] & KEEP_CONN) != 0;
    return EXCHANGE_READING;
}

static enum exchange_state end_parameters(struct exchange *x)
{
    if (!are_good(x))
        return EXCHANGE_BROKEN;
    x->has_parameters = true;
    x->body_state = request_body_length(parameter(x, "CONTENT_LENGTH"), x->body_max, &x->body_len);
    return buf_reserve(&x->body, x->body_len) ? EXCHANGE_READING : EXCHANGE_BROKEN;
}

/* Of a stream the record without content is the last one (3.3). */
static enum exchange_state end_record(struct exchange *x, enum record_type type, unsigned int id,
                                      bool is_empty)
{
    if (id == MANAGEMENT)
        return end_management(x, type);
    if (type == BEGIN_REQUEST)
        return begin_request(x, id);
    if (!x->has_request || id != x->request_id)
        return x->state;
    if (type == ABORT_REQUEST) {
        add_end(&x->out, id, 1, REQUEST_COMPLETE); /* 5.4 */
        x->has_request = false;
        return EXCHANGE_OVER;
    }
    if (type == PARAMS && !x->has_parameters)
        return is_empty ? end_parameters(x) : x->state;
    if (type == STDIN && x->has_parameters && x->state == EXCHANGE_READING) {
        if (!is_empty)
            return x->state;
        return x->body.len == x->body_len ? EXCHANGE_WHOLE : EXCHANGE_BROKEN;
    }
    return EXCHANGE_BROKEN; /* out of order, or nothing for a responder */
}

/* What comes behind the announced length of the body is not looked at (RFC 3875 4.2). */
static enum exchange_state take_content(struct exchange *x, enum record_type type, unsigned int id,
                                        struct span content)
{
    if (id == MANAGEMENT || type == BEGIN_REQUEST) {
        if (content.len > sizeof x->control - x->control_len)
            return EXCHANGE_BROKEN;
        memcpy(x->control + x->control_len, content.ptr, content.len);
        x->control_len += content.len;
    } else if (x->has_request && id == x->request_id) {
        if (type == PARAMS && !x->has_parameters)
            buf_add(&x->parameters, content);
        else if (type == STDIN && x->has_parameters)
            buf_add(&x->body, span_cut(content, 0, x->body_len - x->body.len));
    }
    return x->parameters.error == ST_OK && x->body.error == ST_OK ? x->state : EXCHANGE_BROKEN;
}

/* Moves up to len of the bytes to the front. */
static struct span take_part(struct span *bytes, size_t len)
{
    struct span part = span_cut(*bytes, 0, len);
    *bytes = span_from(*bytes, part.len);
    return part;
}

static void take_head(struct exchange *x, struct span *bytes)
{
    struct span part = take_part(bytes, RECORD_HEAD_BYTES - x->head_len);
    memcpy(x->head + x->head_len, part.ptr, part.len);
    x->head_len += part.len;
    if (x->head_len < RECORD_HEAD_BYTES)
        return;
    x->content_left = (size_t)x->head[4] << 8 | x->head[5];
    x->padding_left = x->head[6];
    x->control_len = 0;
    if (x->head[0] != VERSION_1)
        x->state = EXCHANGE_BROKEN;
}

/* Takes a head, content or padding, as far as there is some. */
static void take_some(struct exchange *x, struct span *bytes)
{
    if (x->head_len < RECORD_HEAD_BYTES)
        take_head(x, bytes);
    if (x->head_len < RECORD_HEAD_BYTES || x->state == EXCHANGE_BROKEN)
        return;
    enum record_type type = x->head[1];
    unsigned int id = (unsigned int)x->head[2] << 8 | x->head[3];
    if (x->content_left > 0) {
        struct span part = take_part(bytes, x->content_left);
        x->content_left -= part.len;
        x->state = take_content(x, type, id, part);
    }
    if (x->content_left > 0 || x->state == EXCHANGE_BROKEN)
        return;
    x->padding_left -= take_part(bytes, x->padding_left).len;
    if (x->padding_left > 0)
        return;
    x->head_len = 0;
    x->state = end_record(x, type, id, x->head[4] == 0 && x->head[5] == 0);
}

enum exchange_state exchange_take(struct exchange *x, struct span bytes)
{
    while (bytes.len > 0 && x->state != EXCHANGE_BROKEN && x->state != EXCHANGE_OVER)
        take_some(x, &bytes);
    if (x->out.error != ST_OK)
        x->state = EXCHANGE_BROKEN; /* asks, and does not take the answers */
    return x->state;
}

/* --- life ---------------------------------------------------------------------------------------------------- */

void exchange_init(struct exchange *x, size_t body_max, unsigned int requests_max)
{
    *x = (struct exchange){
        .out = BUF_INIT(LIMIT_REPLY_BODY_BYTES + 2 * LIMIT_REPLY_BYTES),
        .body_max = body_max,
        .requests_max = requests_max,
        .parameters = BUF_INIT(LIMIT_PARAMETERS_BYTES),
        .body = BUF_INIT(body_max),
    };
}

void exchange_release(struct exchange *x)
{
    buf_release(&x->out);
    buf_release_secret(&x->parameters); /* among them is the sender's key */
    buf_release(&x->body);
}

void exchange_next(struct exchange *x)
{
    if (x->parameters.data)
        crypto_wipe(x->parameters.data, x->parameters.len); /* among them is the sender's key */
    buf_recycle(&x->out, KEPT_BYTES);
    buf_recycle(&x->parameters, KEPT_BYTES);
    buf_recycle(&x->body, KEPT_BYTES);
    x->state = EXCHANGE_READING;
    x->keeps = false;
    x->has_request = false;
    x->has_parameters = false;
}

void exchange_reset(struct exchange *x)
{
    exchange_next(x);
    x->head_len = 0;
    x->content_left = 0;
    x->padding_left = 0;
}
