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
    void *context; /* the handler's */
    FCGX_Request fcgx;
    pthread_t thread;
};

struct fastcgi {
    struct fastcgi_options options;
    _Atomic bool stop;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    size_t running; /* threads; under lock */
    size_t count;   /* threads to join */
    struct worker workers[];
};

/* --- one request ---------------------------------------------------------------------------------------- */

static const char *parameter(const void *from, const char *name)
{
    const FCGX_Request *fcgx = from;
    return FCGX_GetParam(name, fcgx->envp);
}

/* Reads the body as CONTENT_LENGTH announces it; what comes behind that is not looked at (RFC 3875 4.2).
 * false: it is shorter. */
static bool read_body(FCGX_Request *fcgx, size_t max, struct buf *body, struct request *request)
{
    size_t len;
    request->body_state = request_body_length(span_of(parameter(fcgx, "CONTENT_LENGTH")), max, &len);
    buf_reset(body);
    char *to = buf_reserve(body, len);
    if (!to)
        return false;
    size_t got = 0;
    while (got < len) {
        int n = FCGX_GetStr(to + got, (int)(len - got), fcgx->in);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    buf_advance(body, got);
    request->body = buf_span(body);
    return got == len;
}

/* false: the request is not whole and nobody may act on it. */
static bool read_request(FCGX_Request *fcgx, size_t body_max, struct buf *body, struct request *request)
{
    request_fill(request, parameter, fcgx);
    /* The error last: it tells of parameters and of a body that were cut off. */
    return parameter(fcgx, "REQUEST_METHOD") && parameter(fcgx, "SCRIPT_NAME") &&
           read_body(fcgx, body_max, body, request) && FCGX_GetError(fcgx->in) == 0;
}

static bool write_reply(FCGX_Request *fcgx, const struct reply *reply, struct buf *out)
{
    buf_reset(out);
    reply_write(out, reply);
    return out->error == ST_OK && FCGX_PutStr(out->data, (int)out->len, fcgx->out) == (int)out->len &&
           FCGX_FFlush(fcgx->out) == 0 && FCGX_GetError(fcgx->out) == 0;
}

/* --- threads -------------------------------------------------------------------------------------------- */

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

static void serve_one(struct worker *worker, struct reply *reply, struct buf *body, struct buf *out)
{
    const struct fastcgi_options *options = &worker->fastcgi->options;
    FCGX_Request *fcgx = &worker->fcgx;
    struct request request;
    if (!read_request(fcgx, options->body_max_bytes, body, &request)) {
        metrics_add(options->metrics, METRIC_REQUESTS_CUT_OFF, 1);
        /* Nothing may be stored, and there is nobody to answer.  Finish would report success to the peer. */
        FCGX_Free(fcgx, 1);
        return;
    }
    options->handler->handle(worker->context, &request, reply);
    metrics_add(options->metrics, metric_of_code(reply->code), 1);
    if (!write_reply(fcgx, reply, out))
        metrics_add(options->metrics, METRIC_REPLIES_LOST, 1);
    FCGX_Finish_r(fcgx); /* nginx sees the end of the answer only now */
    FCGX_Free(fcgx, 1);  /* closes a connection that was to be kept */
    reply_reset(reply);  /* nobody's answer stays for the next one */
    options->handler->after(worker->context);
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    const struct fastcgi_options *options = &worker->fastcgi->options;
    struct reply reply = REPLY_INIT;
    struct buf body = BUF_INIT(options->body_max_bytes);
    struct buf out = BUF_INIT(reply.body.limit + LIMIT_REPLY_BYTES);
    while (accept_one(worker->fastcgi, &worker->fcgx))
        serve_one(worker, &reply, &body, &out);
    FCGX_Free(&worker->fcgx, 1);
    options->handler->end(worker->context);
    buf_release(&out);
    buf_release(&body);
    reply_release(&reply);
    (void)pthread_mutex_lock(&worker->fastcgi->lock);
    worker->fastcgi->running--;
    (void)pthread_cond_signal(&worker->fastcgi->ended);
    (void)pthread_mutex_unlock(&worker->fastcgi->lock);
    return NULL;
}

/* Everything a thread needs is there before the first one starts: one that could not serve would only be
 * missed when requests wait. */
static enum status prepare(struct fastcgi *f, struct worker *worker, struct fail *why)
{
    worker->fastcgi = f;
    if (FCGX_InitRequest(&worker->fcgx, f->options.listener->fd, 0) != 0)
        return fail_set(why, ST_IO, 0, "cannot initialise a FastCGI request");
    worker->context = f->options.handler->begin(f->options.handler->shared);
    return worker->context ? ST_OK
                           : fail_set(why, ST_NOMEM, 0, "no memory for %u threads", f->options.threads);
}

static enum status start_threads(struct fastcgi *f, struct fail *why)
{
    const struct request_handler *handler = f->options.handler;
    enum status status = ST_OK;
    size_t prepared = 0;
    while (prepared < f->options.threads && status == ST_OK) {
        status = prepare(f, &f->workers[prepared], why);
        prepared += status == ST_OK ? 1 : 0;
    }
    pthread_attr_t attributes;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    (void)pthread_mutex_lock(&f->lock); /* a thread that ends at once waits until it was counted */
    while (f->count < f->options.threads && status == ST_OK) {
        struct worker *worker = &f->workers[f->count];
        int error = pthread_create(&worker->thread, &attributes, run, worker);
        if (error != 0)
            status = fail_set(why, ST_IO, error, "cannot start %u threads", f->options.threads);
        else
            f->running = ++f->count;
    }
    (void)pthread_mutex_unlock(&f->lock);
    (void)pthread_attr_destroy(&attributes);
    for (size_t i = f->count; i < prepared; i++)
        handler->end(f->workers[i].context);
    return status;
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
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&f->ended, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&f->lock, NULL);
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
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += (long)(wait_ms % 1000) * 1000000L;
    until.tv_sec += (time_t)(wait_ms / 1000) + until.tv_nsec / 1000000000L;
    until.tv_nsec %= 1000000000L;
    atomic_store(&fastcgi->stop, true);
    listener_stop(fastcgi->options.listener);
    int error = 0;
    (void)pthread_mutex_lock(&fastcgi->lock);
    while (fastcgi->running > 0 && error == 0)
        error = pthread_cond_timedwait(&fastcgi->ended, &fastcgi->lock, &until);
    bool all_ended = fastcgi->running == 0;
    (void)pthread_mutex_unlock(&fastcgi->lock);
    if (!all_ended)
        return false;
    for (size_t i = 0; i < fastcgi->count; i++)
        (void)pthread_join(fastcgi->workers[i].thread, NULL);
    (void)pthread_cond_destroy(&fastcgi->ended);
    (void)pthread_mutex_destroy(&fastcgi->lock);
    free(fastcgi);
    return true;
}
