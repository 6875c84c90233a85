/* libfcgi 2.4.2 is used with one FCGX_Request per thread and gets connections
 * that were accepted here: FCGX_Accept_r would accept and read the parameters in
 * one call, where nobody can bound the wait for a peer that does not go on, nor
 * end it at the stop.  What libfcgi does not notice is checked here: a request
 * that was cut off is delivered like a whole one, and a short body looks like
 * success.
 */
#include "handler/fastcgi.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

/* Libraries */
#include <fcgiapp.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/condition.h"
#include "lib/base/log.h"

enum {
    THREAD_STACK_BYTES = 256 * 1024,
    ACCEPT_PAUSE_MS = 100, /* when the process is out of descriptors or memory */
    STOP_LOOK_MS = 250     /* how often a stop looks for peers that hang */
};

struct worker {
    struct fastcgi *fastcgi;
    void *context; /* the handler's */
    FCGX_Request fcgx;
    int reading_fd;           /* the connection whose request is not whole yet, or -1; under lock */
    int64_t reading_since_ms; /* monotonic; under lock */
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

/* The streams are closed here, and not flushed before: answer and end of the request go out with one write. */
static bool write_reply(FCGX_Request *fcgx, const struct reply *reply, struct buf *out)
{
    buf_reset(out);
    reply_write(out, reply);
    bool is_written =
        out->error == ST_OK && FCGX_PutStr(out->data, (int)out->len, fcgx->out) == (int)out->len;
    (void)FCGX_FClose(fcgx->err); /* before the other, which ends the request */
    (void)FCGX_FClose(fcgx->out);
    return is_written && FCGX_GetError(fcgx->out) == 0;
}

/* Instead of FCGX_Finish_r, which shuts the connection down and then waits for the peer to close it: two more turns of
 * the processor for each request.  What it does that for is data that the peer has sent and nobody has read: with such
 * data there, close would make an error of the answer. */
static void end_request(FCGX_Request *fcgx, int fd)
{
    char rest[1024];
    while (recv(fd, rest, sizeof rest, MSG_DONTWAIT) == (ssize_t)sizeof rest)
        ;
    FCGX_Free(fcgx, 0);
    fcgx->ipcFd = -1;
    (void)close(fd);
}

/* --- threads -------------------------------------------------------------------------------------------- */

static void pause_ms(long ms)
{
    struct timespec wait = {.tv_nsec = ms * 1000000L};
    (void)nanosleep(&wait, NULL);
}

/* Waits for a connection.  -1: time to end. */
static int accept_one(struct fastcgi *f)
{
    bool told = false;
    for (;;) {
        /* Our own socket drains what was queued before the stop; an inherited one is left to the others. */
        if (atomic_load(&f->stop) && !f->options.listener->is_own)
            return -1;
        int fd = accept4(f->options.listener->fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0)
            return fd;
        if (errno == EAGAIN || errno == EINTR || errno == ECONNABORTED)
            continue;
        if (atomic_load(&f->stop))
            return -1;
        /* Out of descriptors or memory, mostly: others may give some back. */
        if (!told)
            log_event(LOG_LEVEL_ERROR, "accept-failed", "errno=%d", errno);
        told = true;
        pause_ms(ACCEPT_PAUSE_MS);
    }
}

/* From here on a stop may break the reading off.  It needs a descriptor of its own for that: libfcgi closes
 * the other one when it likes, and its number may be a new connection's then. */
static void begin_reading(struct worker *worker, int fd)
{
    struct fastcgi *f = worker->fastcgi;
    int own = fcntl(fd, F_DUPFD_CLOEXEC, 0); /* without one a peer that hangs has its whole time */
    (void)pthread_mutex_lock(&f->lock);
    worker->reading_fd = own;
    worker->reading_since_ms = clock_monotonic_ms();
    (void)pthread_mutex_unlock(&f->lock);
}

static void end_reading(struct worker *worker)
{
    struct fastcgi *f = worker->fastcgi;
    (void)pthread_mutex_lock(&f->lock);
    if (worker->reading_fd >= 0)
        (void)close(worker->reading_fd);
    worker->reading_fd = -1;
    (void)pthread_mutex_unlock(&f->lock);
}

/* Gives the connection to libfcgi, which reads the request up to its body. */
static bool begin_request(struct worker *worker, int fd)
{
    FCGX_Request *fcgx = &worker->fcgx;
    struct timeval wait = {.tv_sec = WAIT_PEER_MS / 1000};
    /* None of these calls fails on a socket that was just accepted. */
    (void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    /* With a connection in place FCGX_Accept_r does not accept; "keep" is what saves it from being closed as
     * that of a request before.  Where the reading fails libfcgi closes it and would wait for another one, but
     * its own listening socket is none. */
    fcgx->ipcFd = fd;
    fcgx->keepConnection = 1;
    return FCGX_Accept_r(fcgx) == 0;
}

static void serve_one(struct worker *worker, int fd, struct reply *reply, struct buf *body, struct buf *out)
{
    const struct fastcgi_options *options = &worker->fastcgi->options;
    FCGX_Request *fcgx = &worker->fcgx;
    struct request request;
    begin_reading(worker, fd);
    bool has_begun = begin_request(worker, fd);
    bool is_whole = has_begun && read_request(fcgx, options->body_max_bytes, body, &request);
    end_reading(worker);
    if (!has_begun)
        return; /* nobody knows that it was to be one */
    if (!is_whole) {
        metrics_add(options->metrics, METRIC_REQUESTS_CUT_OFF, 1);
        /* Nothing may be stored, and there is nobody to answer.  Finish would report success to the peer. */
        FCGX_Free(fcgx, 1);
        return;
    }
    options->handler->handle(worker->context, &request, reply);
    metrics_add(options->metrics, metric_of_code(reply->code), 1);
    if (!write_reply(fcgx, reply, out))
        metrics_add(options->metrics, METRIC_REPLIES_LOST, 1);
    end_request(fcgx, fd); /* also where the peer would keep the connection */
    reply_reset(reply);    /* nobody's answer stays for the next one */
    options->handler->after(worker->context);
}

static void *run(void *argument)
{
    struct worker *worker = argument;
    const struct fastcgi_options *options = &worker->fastcgi->options;
    struct reply reply = REPLY_INIT;
    struct buf body = BUF_INIT(options->body_max_bytes);
    struct buf out = BUF_INIT(reply.body.limit + LIMIT_REPLY_BYTES);
    int fd;
    while ((fd = accept_one(worker->fastcgi)) >= 0)
        serve_one(worker, fd, &reply, &body, &out);
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
    worker->reading_fd = -1;
    if (FCGX_InitRequest(&worker->fcgx, -1, 0) != 0)
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
    condition_init(&f->ended);
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

/* Called with the lock held, after the stop. */
static void break_off_hanging(struct fastcgi *f)
{
    int64_t begun_before_ms = clock_monotonic_ms() - WAIT_LAST_BYTES_MS;
    for (size_t i = 0; i < f->count; i++) {
        const struct worker *worker = &f->workers[i];
        if (worker->reading_fd >= 0 && worker->reading_since_ms <= begun_before_ms)
            (void)shutdown(worker->reading_fd, SHUT_RD);
    }
}

bool fastcgi_stop(struct fastcgi *fastcgi, int64_t wait_ms)
{
    int64_t until_ms = clock_monotonic_ms() + wait_ms;
    atomic_store(&fastcgi->stop, true);
    listener_stop(fastcgi->options.listener);
    (void)pthread_mutex_lock(&fastcgi->lock);
    for (int64_t now_ms; fastcgi->running > 0 && (now_ms = clock_monotonic_ms()) < until_ms;) {
        break_off_hanging(fastcgi);
        int64_t look_ms = now_ms + STOP_LOOK_MS < until_ms ? now_ms + STOP_LOOK_MS : until_ms;
        (void)condition_wait(&fastcgi->ended, &fastcgi->lock, look_ms);
    }
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
