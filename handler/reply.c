#include "handler/reply.h"

/* L0 */
#include "lib/base/json_write.h"

enum { KEPT_BYTES = 16 * 1024 }; /* of a body's memory: only /metrics is longer */

void reply_reset(struct reply *reply)
{
    struct buf body = reply->body;
    buf_recycle(&body, KEPT_BYTES);
    *reply = (struct reply){.body = body};
}

void reply_release(struct reply *reply)
{
    buf_release(&reply->body);
}

bool reply_reserve(struct reply *reply)
{
    reply_reset(reply);
    if (buf_reserve(&reply->body, LIMIT_REPLY_JSON_BYTES))
        return true;
    reply_text(reply, 503, "text/plain", span_empty());
    reply->retry_after_s = RETRY_AFTER_S;
    return false;
}

static const char *title_of(int code)
{
    switch (code) {
    case 200:
        return "OK";
    case 202:
        return "Accepted";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Content Too Large";
    case 415:
        return "Unsupported Media Type";
    case 422:
        return "Unprocessable Content";
    case 429:
        return "Too Many Requests";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    default:
        return "Error";
    }
}

static void end_body(struct reply *reply, struct json_writer *w)
{
    /* The texts are ours and short; if this fails all the same, the status code has to do. */
    if (json_end(w, "an answer", NULL) != ST_OK)
        buf_reset(&reply->body);
}

void reply_accepted(struct reply *reply, int code, const char *status, const char *id)
{
    struct json_writer w;
    reply_reset(reply);
    reply->code = code;
    reply->content_type = "application/json";
    json_begin(&w, &reply->body);
    json_add_text(&w, SPAN_LIT("status"), span_of(status));
    json_add_text(&w, SPAN_LIT("id"), span_of(id));
    end_body(reply, &w);
}

void reply_problem(struct reply *reply, const struct problem *p)
{
    struct json_writer w;
    reply_reset(reply);
    reply->code = p->code;
    reply->content_type = "application/problem+json";
    reply->allow = p->allow;
    reply->location = p->location;
    reply->authenticate = p->code == 401 ? "Bearer" : NULL; /* RFC 9110 15.5.2 asks for a challenge */
    if (p->code == 503)
        reply->retry_after_s = p->retry_after_s > RETRY_AFTER_S ? p->retry_after_s : RETRY_AFTER_S;
    else if (p->code == 429)
        reply->retry_after_s = p->retry_after_s;
    json_begin(&w, &reply->body);
    json_add_text(&w, SPAN_LIT("type"), SPAN_LIT("about:blank"));
    json_add_text(&w, SPAN_LIT("title"), span_of(title_of(p->code)));
    json_add_number(&w, SPAN_LIT("status"), p->code);
    json_add_text(&w, SPAN_LIT("detail"), span_of(p->detail));
    if (p->has_offset)
        json_add_number(&w, SPAN_LIT("offset"), (int64_t)p->offset);
    if (p->id)
        json_add_text(&w, SPAN_LIT("id"), span_of(p->id));
    if (p->request_id.len)
        json_add_text(&w, SPAN_LIT("request_id"), p->request_id);
    end_body(reply, &w);
}

void reply_text(struct reply *reply, int code, const char *content_type, struct span text)
{
    reply_reset(reply);
    reply->code = code;
    reply->content_type = content_type;
    buf_add(&reply->body, text);
}

int reply_code_of(enum status status)
{
    switch (status) {
    case ST_OK:
        return 200;
    case ST_INVALID:
    case ST_TOO_LARGE:
        return 400;
    case ST_REFUSED:
        return 415;
    case ST_NOT_FOUND:
        return 422;
    case ST_OVER_QUOTA:
        return 429;
    /* Everything that is our trouble or the store's: the sender shall come again. */
    case ST_DENIED:
    case ST_EXISTS:
    case ST_CHANGED:
    case ST_AGAIN:
    case ST_UNKNOWN:
    case ST_NOMEM:
    case ST_IO:
    case ST_DAMAGED:
    case ST_BUG:
        return 503;
    }
    return 503;
}

void reply_write(struct buf *out, const struct reply *reply)
{
    /* nginx would take over some of the other header lines, and no body: that has a line of its own. */
    if (reply->location.len) {
        buf_addf(out, "Status: %d %s\r\nX-Accel-Redirect: %.*s\r\nX-Problem: ", reply->code,
                 title_of(reply->code), SPAN_FMT(reply->location));
        buf_add(out, buf_span(&reply->body)); /* JSON has no line ends */
        buf_add_text(out, "\r\n\r\n");
        return;
    }
    buf_addf(out,
             "Status: %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
             "X-Content-Type-Options: nosniff\r\n",
             reply->code, title_of(reply->code), reply->content_type, reply->body.len);
    if (reply->allow)
        buf_addf(out, "Allow: %s\r\n", reply->allow);
    if (reply->authenticate)
        buf_addf(out, "WWW-Authenticate: %s\r\n", reply->authenticate);
    if (reply->retry_after_s)
        buf_addf(out, "Retry-After: %d\r\n", reply->retry_after_s);
    buf_add_text(out, "\r\n");
    buf_add(out, buf_span(&reply->body));
}
