#include "handler/cgi.h"

/* System */
#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <stdlib.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"

/* Ours */
#include "handler/listener.h"
#include "handler/reply.h"

bool cgi_is_request(void)
{
    return getenv("REQUEST_METHOD") != NULL && !listener_is_inherited();
}

static struct span variable(const void *from, const char *name)
{
    (void)from;
    return span_of(getenv(name));
}

static enum status read_body(size_t max, struct buf *body, struct request *request, struct fail *why)
{
    size_t len;
    request->body_state = request_body_length(span_of(getenv("CONTENT_LENGTH")), max, &len);
    int64_t deadline = clock_monotonic_ms() + WAIT_CGI_BODY_MS;
    while (body->len < len) {
        struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
        int64_t left = deadline - clock_monotonic_ms();
        char *to = buf_reserve(body, len - body->len);
        if (!to)
            return buf_status(body, "the request's body", why);
        if (left <= 0 || poll(&input, 1, (int)left) == 0)
            return fail_set(why, ST_IO, 0, "the request's body did not arrive in time");
        ssize_t got = read(STDIN_FILENO, to, len - body->len);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return fail_set(why, ST_IO, got < 0 ? errno : 0, "the request's body was cut off");
        buf_advance(body, (size_t)got);
    }
    request->body = buf_span(body);
    return ST_OK;
}

static enum status write_all(struct span text, struct fail *why)
{
    while (text.len) {
        ssize_t put = write(STDOUT_FILENO, text.ptr, text.len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return fail_set(why, ST_IO, errno, "cannot write the answer");
        text = span_from(text, (size_t)put);
    }
    return ST_OK;
}

static void on_answered(void *whose)
{
    (void)sem_post(whose);
}

enum status cgi_serve(const struct request_handler *handler, struct metrics *metrics, size_t body_max_bytes,
                      struct fail *why)
{
    struct buf body = BUF_INIT(body_max_bytes);
    struct reply reply = REPLY_INIT;
    struct buf out = BUF_INIT(reply.body.limit + LIMIT_REPLY_BYTES);
    struct request request;
    request_fill(&request, variable, NULL);
    enum status status = read_body(body_max_bytes, &body, &request, why);
    if (status != ST_OK) {
        metrics_add(metrics, METRIC_REQUESTS_CUT_OFF, 1);
        goto out;
    }
    void *context = handler->begin(handler->shared);
    if (!context) {
        status = fail_set(why, ST_NOMEM, 0, "no memory for a request");
        goto out;
    }
    sem_t answered;
    (void)sem_init(&answered, 0, 0); /* does not fail on Linux with these values */
    handler->handle(context, &request, &reply, on_answered, &answered);
    while (sem_wait(&answered) != 0)
        ; /* interrupted; whoever answers has a deadline */
    (void)sem_destroy(&answered);
    metrics_add(metrics, metric_of_code(reply.code), 1);
    reply_write(&out, &reply);
    status = buf_status(&out, "the answer", why);
    if (status == ST_OK)
        status = write_all(buf_span(&out), why);
    if (status != ST_OK)
        metrics_add(metrics, METRIC_REPLIES_LOST, 1);
    handler->after(context);
    handler->end(context);
out:
    buf_release(&out);
    reply_release(&reply);
    buf_release(&body);
    return status;
}
