/* shown.h - the answer of the tests' own handlers: the request as it came to them.
 *
 * For unit tests only.
 */
#ifndef LEAD_TEST_SHOWN_H
#define LEAD_TEST_SHOWN_H

#include "handler/reply.h"
#include "handler/request.h"
#include "lib/base/buf.h"

static void show_request(const struct request *r, struct reply *reply)
{
    static const char *const states[] = {"complete", "too-large", "bad-length"};
    struct buf text = BUF_INIT(64 * 1024);
    buf_addf(&text, "%.*s %.*s?%.*s [%.*s] [%.*s] [%.*s] [%.*s] %s ", SPAN_FMT(r->method), SPAN_FMT(r->path),
             SPAN_FMT(r->query), SPAN_FMT(r->content_type), SPAN_FMT(r->lead_key), SPAN_FMT(r->authorization),
             SPAN_FMT(r->request_id), states[r->body_state]);
    buf_add(&text, r->body);
    if (r->webhook_id.len || r->webhook_timestamp.len || r->webhook_signature.len)
        buf_addf(&text, " signed [%.*s] [%.*s] [%.*s]", SPAN_FMT(r->webhook_id),
                 SPAN_FMT(r->webhook_timestamp), SPAN_FMT(r->webhook_signature));
    reply_text(reply, 200, "text/plain", buf_span(&text));
    buf_release(&text);
}

#endif
