/* libfcgi 2.4.2 is used with one FCGX_Request per thread and without the accept
 * mutex of its examples: FCGX_Accept_r also reads the parameters, so with a
 * mutex one stuck peer would stop every thread.  What it does not notice is
 * checked here: a request that was cut off is delivered like a whole one, and a
 * short body looks like success.
 */
#include "handler/fastcgi.h"

/* System */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Libraries */
#include <fcgiapp.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/log.h"

enum {
    THREAD_STACK_BYTES = 256 * 1024,
    ACCEPT_PAUSE_MS = 100 /* when the process is out of descriptors or memory */
};

struct worker {
    struct fastcgi *fastcgi;
    pthread_t thread;
};

struct fastcgi {
    struct fastcgi_options options;
    _Atomic bool stop;
    size_t count;
    struct worker workers[];
};

/* --- one request --------------------------------------------------------------------------------------------- */

static struct span parameter(const FCGX_Request *fcgx, const char *name, size_t limit)
{
    struct span value = span_of(FCGX_GetParam(name, fcgx->envp));
    return value.len <= limit ? value : (struct span){0};
}

/* Reads the body as CONTENT_LENGTH announces it.  false: the connection broke. */
static bool read_body(FCGX_Request *fcgx, size_t max, struct buf *body, struct request *request)
{
    struct span announced = span_of(FCGX_GetParam("CONTENT_LENGTH", fcgx->envp));
    uint64_t len = 0;
    buf_reset(body);
    if (announced.len && !span_to_u64(announced, UINT64_MAX / 2, &len)) {
        request->body_state = BODY_BAD_LENGTH;
        return true;
    }
    if (len > max) {
        request->body_state = BODY_TOO_LARGE;
        return true;
    }
    char *to = buf_reserve(body, (size_t)len);
    if (!to)
        return false;
    size_t got = 0;
    while (got < len) {
        int n = FCGX_GetStr(to + got, (int)(len - got), fcgx->in);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    if (got != len || FCGX_GetError(fcgx->in) != 0)
        return false;
    buf_advance(body, got);
    request->body = buf_span(body);
    return true;
}

/* false: the request is not whole and nobody may act on it. */
static bool read_request(FCGX_Request *fcgx, size_t body_max, struct buf *body, struct request *request)
{
    *request = (struct request){
        .method = parameter(fcgx, "REQUEST_METHOD", 32),
        .path = parameter(fcgx, "SCRIPT_NAME", LIMIT_QUERY_BYTES),
        .query = parameter(fcgx, "QUERY_STRING", LIMIT_QUERY_BYTES),
        .content_type = parameter(fcgx, "CONTENT_TYPE", LIMIT_CONTENT_TYPE_BYTES),
        .lead_key = parameter(fcgx, "HTTP_X_LEAD_KEY", LIMIT_QUERY_BYTES),
        .authorization = parameter(fcgx, "HTTP_AUTHORIZATION", LIMIT_QUERY_BYTES),
        .request_id = parameter(fcgx, "REQUEST_ID", LIMIT_REQUEST_ID_BYTES),
    };
    return FCGX_GetError(fcgx->in) == 0 && request->method.len && request->path.len &&
           read_body(fcgx, body_max, body, request);
}

static bool write_reply(FCGX_Request *fcgx, const struct reply *reply, struct buf *out)
{
    buf_reset(out);
    reply_write(out, reply);
    return out->error == ST_OK && FCGX_PutStr(out->data, (int)out->len, fcgx->out) == (int)out->len &&
           FCGX_FFlush(fcgx->out) == 0 && FCGX_GetError(fcgx->out) == 0;
}

/* --- threads ------------------------------------------------------------------------------------------------- */

static void pause_ms(long ms)
{
    struct timespec wait = {.tv_nsec = ms * 1000000L};
    (void)nanosleep(&wait, NULL);
}

/* Waits for a request.  false: time to end. */
static bool accept_one(struct fastcgi *f, FCGX_Request *fcgx)
{
    bool told = false;
    for (;;) {
        /* Our own socket drains what was queued before the stop; an inherited one is left to the others. */
        if (atomic_load(&f->stop) && !f->options.listener->is_own)
            return false;
        int result = FCGX_Accept_r(fcgx);
        if (result == 0)
            return true;
        if (result == -EAGAIN || result == -EINTR || result == -ECONNABORTED)
            continue;
        if (atomic_load(&f->stop))
            return false;
        /* Out of descriptors or memory, mostly: others may give some back. */
        if (!told)
            log_event(LOG_LEVEL_ERROR, "accept-failed", "errno=%d", -result);
        told = true;
        pause_ms(ACCEPT_PAUSE_MS);
    }
}

static void serve_one(struct fastcgi *f, FCGX_Request *fcgx, void *context, struct reply *reply,
                      struct buf *body, struct buf *out)
{
    struct request request;
    if (!read_request(fcgx, f->options.body_max_bytes, body, &request)) {
        metrics_add(f->options.metrics, METRIC_REQUESTS_CUT_OFF, 1);
        /* Nothing may be stored, and there is nobody to answer.  Finish would report success to the peer. */
        FCGX_Free(fcgx, 1);
        return;
    }
    f->options.handler->handle(context, &request, reply);
    metrics_add(f->options.metrics, metric_of_code(reply->code), 1);
    if (!write_reply(fcgx, reply, out))
        metrics_add(f->options.metrics, METRIC_REPLIES_LOST, 1);
    FCGX_Finish_r(fcgx); /* nginx sees the end of the answer only now */
    f->options.handler->after(context);
}

static void *run(void *argument)
{
    struct fastcgi *f = ((struct worker *)argument)->fastcgi;
    FCGX_Request fcgx;
    struct reply reply = REPLY_INIT;
    struct buf body = BUF_INIT(f->options.body_max_bytes);
    struct buf out = BUF_INIT(reply.body.limit + LIMIT_REPLY_BYTES);
    void *context = f->options.handler->begin(f->options.handler->shared);
    if (!context || FCGX_InitRequest(&fcgx, f->options.listener->fd, 0) != 0) {
        log_event(LOG_LEVEL_ERROR, "thread-failed", "reason=no-memory");
    } else {
        while (accept_one(f, &fcgx))
            serve_one(f, &fcgx, context, &reply, &body, &out);
        FCGX_Free(&fcgx, 1);
    }
    if (context)
        f->options.handler->end(context);
    buf_release(&out);
    buf_release(&body);
    reply_release(&reply);
    return NULL;
}

static enum status start_threads(struct fastcgi *f, struct fail *why)
{
    pthread_attr_t attributes;
    int error = 0;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    for (; f->count < f->options.threads && error == 0; f->count += error == 0 ? 1 : 0) {
        struct worker *worker = &f->workers[f->count];
        worker->fastcgi = f;
        error = pthread_create(&worker->thread, &attributes, run, worker);
    }
    (void)pthread_attr_destroy(&attributes);
    return error == 0 ? ST_OK : fail_set(why, ST_IO, error, "cannot start %u threads", f->options.threads);
}

enum status fastcgi_start(const struct fastcgi_options *options, struct fastcgi **fastcgi, struct fail *why)
{
    if (FCGX_Init() != 0)
        return fail_set(why, ST_IO, 0, "cannot initialise FastCGI");
    /* FCGX_Init has put handlers of its own in place, also over SIG_IGN. */
    struct sigaction ignore = {.sa_handler = SIG_IGN}, normal = {.sa_handler = SIG_DFL};
    if (sigaction(SIGPIPE, &ignore, NULL) != 0 || sigaction(SIGTERM, &normal, NULL) != 0 ||
        sigaction(SIGUSR1, &normal, NULL) != 0)
        return fail_set(why, ST_IO, errno, "cannot set signal actions");
    struct fastcgi *f = calloc(1, sizeof *f + options->threads * sizeof f->workers[0]);
    if (!f)
        return fail_set(why, ST_NOMEM, 0, "no memory for %u threads", options->threads);
    f->options = *options;
    enum status status = start_threads(f, why);
    if (status != ST_OK) {
        bool ended = fastcgi_stop(f, WAIT_STOP_MS);
        (void)ended; /* the process ends in any case */
        return status;
    }
    *fastcgi = f;
    return ST_OK;
}

bool fastcgi_stop(struct fastcgi *fastcgi, int64_t wait_ms)
{
    struct timespec until;
    bool all_ended = true;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_ms / 1000);
    atomic_store(&fastcgi->stop, true);
    listener_stop(fastcgi->options.listener);
    for (size_t i = 0; i < fastcgi->count; i++)
        all_ended =
            pthread_clockjoin_np(fastcgi->workers[i].thread, NULL, CLOCK_MONOTONIC, &until) == 0 && all_ended;
    if (all_ended)
        free(fastcgi);
    return all_ended;
}
