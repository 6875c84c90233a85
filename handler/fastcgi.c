/* A connection has one owner at a time, who alone looks at it: the event thread while bytes are to be read or could not
 * be written at once; the handler from the moment it gets the request; whichever thread calls on_answered then, which
 * writes the answer.  So nothing of a connection is locked.  Its descriptor comes into the epoll set when there is first
 * something to wait for, and is armed for one event each time: mostly the request is there when the connection is
 * accepted, and the socket takes the answer whole.
 */
#include "handler/fastcgi.h"

/* System */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/condition.h"
#include "lib/base/crypto.h"
#include "lib/base/log.h"
#include "lib/base/thread.h"

/* Ours */
#include "handler/exchange.h"

enum {
    THREAD_STACK_BYTES = 256 * 1024,
    READ_BYTES = 64 * 1024,
    READS = 8,    /* from one connection, before others get their turn: the largest request */
    EVENTS = 64,  /* taken at once */
    ACCEPTS = 64, /* the same: whatever comes, those that are there get their turn */
    TICK_MS = 20  /* how often times are looked at, and the committer, while there are requests */
};

enum phase {
    PHASE_FREE,
    PHASE_IDLE,    /* the event thread's: kept by its peer after an answer */
    PHASE_READING, /* the event thread's */
    PHASE_HANDLED, /* somebody else's */
    PHASE_WRITING  /* the event thread's again */
};

struct connection {
    struct fastcgi *fastcgi;
    struct connection *next_free;
    void *context; /* the handler's */
    _Atomic enum phase phase;
    int fd;
    bool is_kept;        /* counted in idle: it may be used again */
    bool is_in_set;      /* of epoll's descriptors */
    int64_t accepted_ms; /* monotonic */
    int64_t moved_ms;    /* since when the peer has neither sent nor taken anything */
    struct exchange exchange;
    struct request request;
    struct reply reply;
    size_t written; /* of what is to be written */
};

struct fastcgi {
    struct fastcgi_options options;
    int epoll_fd;
    int wake_fd; /* an eventfd: there is a free connection again, or it is time to stop */
    pthread_t thread;
    _Atomic bool stop;

    /* The event thread's. */
    bool is_listening; /* the listener is in the epoll set */
    bool is_refused;   /* accept has failed, and that was logged */
    bool is_drained;   /* after the stop: there is nothing more to accept */
    int64_t now_ms;
    int64_t ticked_ms;
    bool wants_tick; /* also when there are no requests */
    char *bytes;     /* what was just read, READ_BYTES */

    pthread_mutex_t lock;
    struct connection *free;
    size_t in_use;
    size_t idle;  /* those of them that are kept, or will be when their answer has left */
    bool is_full; /* the event thread wants to be told of a free connection */
    bool has_ended;
    pthread_cond_t ended;
    size_t count;
    struct connection connections[];
};

/* --- connections --------------------------------------------------------------------------------------------- */

static void wake(const struct fastcgi *f)
{
    (void)eventfd_write(f->wake_fd, 1); /* does not fail before 2^64 - 1 of them */
}

/* NULL: there are as many as there may be. */
static struct connection *take_free(struct fastcgi *f)
{
    (void)pthread_mutex_lock(&f->lock);
    struct connection *c = f->free;
    if (c) {
        f->free = c->next_free;
        f->in_use++;
    }
    f->is_full = !c;
    (void)pthread_mutex_unlock(&f->lock);
    return c;
}

static void give_back(struct connection *c)
{
    struct fastcgi *f = c->fastcgi;
    exchange_reset(&c->exchange);
    c->written = 0;
    atomic_store(&c->phase, PHASE_FREE);
    (void)pthread_mutex_lock(&f->lock);
    c->next_free = f->free;
    f->free = c;
    f->in_use--;
    f->idle -= c->is_kept ? 1 : 0;
    c->is_kept = false;
    bool is_awaited = f->is_full || (f->in_use == 0 && atomic_load(&f->stop));
    f->is_full = false;
    if (is_awaited)
        wake(f); /* under the lock: behind it, with the last connection given back, f may be freed */
    (void)pthread_mutex_unlock(&f->lock);
}

/* Whether the peer may keep its connection: half of the places stay free of those who only may come again. */
static bool keep(struct connection *c)
{
    struct fastcgi *f = c->fastcgi;
    if (!c->exchange.keeps || atomic_load(&f->stop))
        return false;
    (void)pthread_mutex_lock(&f->lock);
    c->is_kept = f->idle < f->count / 2;
    f->idle += c->is_kept ? 1 : 0;
    (void)pthread_mutex_unlock(&f->lock);
    return c->is_kept;
}

/* The next request of a kept connection begins. */
static void begin_again(struct connection *c)
{
    struct fastcgi *f = c->fastcgi;
    (void)pthread_mutex_lock(&f->lock);
    f->idle -= c->is_kept ? 1 : 0;
    (void)pthread_mutex_unlock(&f->lock);
    c->is_kept = false;
    c->accepted_ms = f->now_ms;
}

static void drop(struct connection *c)
{
    (void)close(c->fd); /* which takes it out of the epoll set */
    give_back(c);
}

/* The request will not be served.  Nothing may be stored, and there is nobody to answer. */
static void cut_off(struct connection *c)
{
    if (c->exchange.has_request)
        metrics_add(c->fastcgi->options.metrics, METRIC_REQUESTS_CUT_OFF, 1);
    drop(c);
}

/* The connection is the event thread's when the event comes, and is not to be touched before.  false: no memory. */
static bool wait_for(struct connection *c, uint32_t event, enum phase phase)
{
    struct epoll_event wanted = {.events = event | EPOLLONESHOT, .data.ptr = c};
    int how = c->is_in_set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    c->is_in_set = true;
    c->moved_ms = clock_monotonic_ms();
    atomic_store(&c->phase, phase);
    /* Under the lock, so that the event thread goes on only when this one is through with the descriptor. */
    (void)pthread_mutex_lock(&c->fastcgi->lock);
    bool is_done = epoll_ctl(c->fastcgi->epoll_fd, how, c->fd, &wanted) == 0;
    (void)pthread_mutex_unlock(&c->fastcgi->lock);
    return is_done;
}

/* --- writing ------------------------------------------------------------------------------------------------- */

enum written { WRITTEN_ALL, WRITTEN_PART, WRITTEN_NEVER };

static enum written write_out(struct connection *c)
{
    struct span rest = span_from(buf_span(&c->exchange.out), c->written);
    if (c->exchange.out.error != ST_OK)
        return WRITTEN_NEVER;
    while (rest.len > 0) {
        ssize_t put = send(c->fd, rest.ptr, rest.len, MSG_NOSIGNAL);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0)
            return errno == EAGAIN ? WRITTEN_PART : WRITTEN_NEVER;
        rest = span_from(rest, (size_t)put);
        c->written += (size_t)put;
    }
    return WRITTEN_ALL;
}

/* The last of an answer: it has left, or never will. */
static void finish(struct connection *c, bool is_written)
{
    struct fastcgi *f = c->fastcgi;
    bool is_answer = c->reply.code != 0;
    if (is_answer && !is_written)
        metrics_add(f->options.metrics, METRIC_REPLIES_LOST, 1);
    bool stays = is_answer && is_written && c->exchange.keeps; /* its peer closes it */
    if (!stays)
        (void)close(c->fd);
    if (is_answer) {
        reply_reset(&c->reply); /* nobody's answer stays for the next one */
        f->options.handler->after(c->context);
    }
    if (!stays) {
        give_back(c);
        return;
    }
    exchange_next(&c->exchange);
    c->written = 0;
    if (!wait_for(c, EPOLLIN, PHASE_IDLE))
        drop(c);
}

static void write_last(struct connection *c)
{
    enum written written = write_out(c);
    if (written != WRITTEN_PART || !wait_for(c, EPOLLOUT, PHASE_WRITING))
        finish(c, written == WRITTEN_ALL);
}

/* In any thread. */
static void on_answered(void *whose)
{
    struct connection *c = whose;
    metrics_add(c->fastcgi->options.metrics, metric_of_code(c->reply.code), 1);
    exchange_answer(&c->exchange, &c->reply, keep(c) ? EXCHANGE_STAYS : EXCHANGE_SHALL_END);
    write_last(c);
}

/* --- reading ------------------------------------------------------------------------------------------------- */

static void handle(struct connection *c)
{
    const struct request_handler *handler = c->fastcgi->options.handler;
    exchange_request(&c->exchange, &c->request);
    atomic_store(&c->phase, PHASE_HANDLED);
    handler->handle(c->context, &c->request, &c->reply, on_answered, c);
}

/* Goes on with what has arrived.  false: the connection is not the event thread's any more. */
static bool take(struct connection *c, size_t len)
{
    switch (exchange_take(&c->exchange, (struct span){c->fastcgi->bytes, len})) {
    case EXCHANGE_READING:
        if (write_out(c) !=
            WRITTEN_NEVER) /* answers to management records; what is left goes with the next */
            return true;
        cut_off(c);
        break;
    case EXCHANGE_WHOLE:
        handle(c);
        break;
    case EXCHANGE_OVER:
        write_last(c);
        break;
    case EXCHANGE_BROKEN:
        cut_off(c);
        break;
    }
    return false;
}

static void read_some(struct connection *c)
{
    struct fastcgi *f = c->fastcgi;
    ssize_t got;
    int reads = 0;
    do {
        got = recv(c->fd, f->bytes, READ_BYTES, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            break;
        if (got <= 0) {
            cut_off(c);
            return;
        }
        bool goes_on = take(c, (size_t)got);
        crypto_wipe(f->bytes, (size_t)got); /* among them is the sender's key */
        if (!goes_on)
            return;
    } while (got == READ_BYTES && ++reads < READS);
    if (!wait_for(c, EPOLLIN, PHASE_READING))
        cut_off(c);
}

/* --- accepting ----------------------------------------------------------------------------------------------- */

/* Whether the listener is looked at. */
static void set_listening(struct fastcgi *f, bool is_wanted)
{
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = f};
    if (is_wanted != f->is_listening && epoll_ctl(f->epoll_fd, is_wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL,
                                                  f->options.listener->fd, &wanted) == 0)
        f->is_listening = is_wanted;
}

static void begin(struct connection *c, int fd)
{
    c->fd = fd;
    c->is_in_set = false;
    c->accepted_ms = c->fastcgi->now_ms;
    read_some(c);
}

/* Takes what waits, as far as there is room.  While there is none the listener is not looked at: then another process
 * that shares it is woken. */
static void accept_all(struct fastcgi *f)
{
    bool stop = atomic_load(&f->stop);
    if (stop && !f->options.listener->is_own) { /* what waits is left to the others */
        f->is_drained = true;
        set_listening(f, false);
        return;
    }
    struct connection *c;
    int accepted = 0;
    listener_unblock(f->options.listener);
    while ((c = take_free(f)) != NULL) {
        int fd = accept4(f->options.listener->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        int error = errno;
        if (fd >= 0) {
            begin(c, fd);
            if (++accepted < ACCEPTS)
                continue;
            wake(f); /* goes on after what else there is to do */
            break;
        }
        give_back(c);
        if (error == EINTR || error == ECONNABORTED)
            continue;
        f->is_drained = stop && (error == EAGAIN || error == EINVAL);
        /* Else out of descriptors or memory, mostly; the next tick tries again, others may have given some back. */
        if (error != EAGAIN && !stop && !f->is_refused)
            log_event(LOG_LEVEL_ERROR, "accept-failed", "errno=%d", error);
        f->is_refused = error != EAGAIN;
        break;
    }
    set_listening(f, c && !f->is_refused && !stop);
}

/* --- the event thread ---------------------------------------------------------------------------------------- */

/* How long a peer may take for a whole request: nginx has it before it connects.  Who takes longer is no nginx, and
 * must not keep others waiting. */
static int64_t request_wait_ms(const struct fastcgi *f, bool is_crowded)
{
    if (is_crowded)
        return WAIT_CROWDED_MS;
    return atomic_load(&f->stop) ? WAIT_LAST_BYTES_MS : WAIT_REQUEST_MS;
}

/* Of a connection that is free or with a handler nothing else may be looked at. */
static bool has_waited_enough(const struct connection *c, bool is_crowded)
{
    const struct fastcgi *f = c->fastcgi;
    switch (atomic_load(&c->phase)) {
    case PHASE_FREE:
    case PHASE_HANDLED:
        break;
    case PHASE_IDLE:
        return f->now_ms - c->moved_ms >= (c->is_kept ? WAIT_PEER_MS : WAIT_FAREWELL_MS);
    case PHASE_READING:
        return f->now_ms - c->moved_ms >= WAIT_PEER_MS ||
               f->now_ms - c->accepted_ms >= request_wait_ms(f, is_crowded);
    case PHASE_WRITING:
        return f->now_ms - c->moved_ms >= WAIT_PEER_MS || f->now_ms - c->accepted_ms >= WAIT_ANSWER_MS;
    }
    return false;
}

/* A peer that hangs is hung up: the event that this makes ends the connection.  What it has just sent is read all the
 * same, so the answer must still be able to leave. */
static void hang_up(const struct connection *c)
{
    (void)shutdown(c->fd, atomic_load(&c->phase) == PHASE_WRITING ? SHUT_RDWR : SHUT_RD);
}

static void tick(struct fastcgi *f)
{
    f->ticked_ms = f->now_ms;
    (void)pthread_mutex_lock(&f->lock);
    bool is_crowded = f->is_full;
    (void)pthread_mutex_unlock(&f->lock);
    for (size_t i = 0; i < f->count; i++) {
        const struct connection *c = &f->connections[i];
        if (has_waited_enough(c, is_crowded))
            hang_up(c);
    }
    f->wants_tick = f->options.handler->tick(f->options.handler->shared);
}

static void on_event(struct connection *c)
{
    (void)pthread_mutex_lock(&c->fastcgi->lock);
    enum phase phase = atomic_load(&c->phase);
    (void)pthread_mutex_unlock(&c->fastcgi->lock);
    if (phase == PHASE_IDLE)
        begin_again(c);
    if (phase == PHASE_WRITING)
        write_last(c);
    else
        read_some(c);
}

static void wait_for_events(struct fastcgi *f, bool is_idle)
{
    struct epoll_event events[EVENTS];
    bool is_awaited = !f->is_listening;
    bool is_quiet = is_idle && f->is_listening && !f->wants_tick;
    int count = epoll_wait(f->epoll_fd, events, EVENTS, is_quiet ? -1 : TICK_MS);
    f->now_ms = clock_monotonic_ms();
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr != f)
            on_event(events[i].data.ptr);
        else
            is_awaited = true;
    }
    if (is_awaited) {
        eventfd_t value;
        (void)eventfd_read(f->wake_fd, &value); /* does not block */
        accept_all(f);
    }
    if (f->now_ms - f->ticked_ms >= TICK_MS)
        tick(f);
}

static void *run(void *argument)
{
    struct fastcgi *f = argument;
    f->now_ms = clock_monotonic_ms();
    accept_all(f);
    for (bool is_idle = false; !is_idle || !f->is_drained;) {
        wait_for_events(f, is_idle);
        (void)pthread_mutex_lock(&f->lock);
        is_idle = f->in_use == 0;
        (void)pthread_mutex_unlock(&f->lock);
    }
    (void)pthread_mutex_lock(&f->lock);
    f->has_ended = true;
    (void)pthread_cond_signal(&f->ended);
    (void)pthread_mutex_unlock(&f->lock);
    return NULL;
}

/* --- start and stop ------------------------------------------------------------------------------------------ */

static void release(struct fastcgi *f)
{
    for (size_t i = 0; i < f->count; i++) {
        struct connection *c = &f->connections[i];
        f->options.handler->end(c->context);
        reply_release(&c->reply);
        exchange_release(&c->exchange);
    }
    if (f->epoll_fd >= 0)
        (void)close(f->epoll_fd);
    if (f->wake_fd >= 0)
        (void)close(f->wake_fd);
    (void)pthread_cond_destroy(&f->ended);
    (void)pthread_mutex_destroy(&f->lock);
    free(f->bytes);
    free(f);
}

/* All that connections need is there before the first one: one that could not be served would only be missed when
 * requests wait. */
static enum status prepare(struct fastcgi *f, struct fail *why)
{
    struct epoll_event wanted = {.events = EPOLLIN, .data.ptr = f};
    const struct request_handler *handler = f->options.handler;
    f->bytes = malloc(READ_BYTES);
    if (!f->bytes)
        return fail_set(why, ST_NOMEM, 0, "no memory to read requests");
    if (f->epoll_fd < 0 || f->wake_fd < 0 || epoll_ctl(f->epoll_fd, EPOLL_CTL_ADD, f->wake_fd, &wanted) != 0)
        return fail_set(why, ST_IO, errno, "cannot wait for requests");
    for (; f->count < f->options.connections; f->count++) {
        struct connection *c = &f->connections[f->count];
        c->fastcgi = f;
        c->reply = REPLY_INIT;
        exchange_init(&c->exchange, f->options.body_max_bytes, f->options.connections);
        c->context = handler->begin(handler->shared);
        if (!c->context)
            return fail_set(why, ST_NOMEM, 0, "no memory for %u connections", f->options.connections);
        c->next_free = f->free;
        f->free = c;
    }
    return ST_OK;
}

enum status fastcgi_start(const struct fastcgi_options *options, struct fastcgi **fastcgi, struct fail *why)
{
    struct fastcgi *f = calloc(1, sizeof *f + options->connections * sizeof f->connections[0]);
    if (!f)
        return fail_set(why, ST_NOMEM, 0, "no memory for %u connections", options->connections);
    f->options = *options;
    f->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    f->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    condition_init(&f->ended);
    (void)pthread_mutex_init(&f->lock, NULL);
    enum status status = prepare(f, why);
    if (status == ST_OK)
        status = thread_start(&f->thread, THREAD_STACK_BYTES, run, f, "a thread", why);
    if (status == ST_OK)
        *fastcgi = f;
    else
        release(f);
    return status;
}

bool fastcgi_stop(struct fastcgi *fastcgi, int64_t wait_ms)
{
    struct fastcgi *f = fastcgi;
    int64_t until_ms = clock_monotonic_ms() + wait_ms;
    listener_stop(f->options.listener); /* first: what is accepted from then on is the last */
    atomic_store(&f->stop, true);
    wake(f);
    (void)pthread_mutex_lock(&f->lock);
    while (!f->has_ended && condition_wait(&f->ended, &f->lock, until_ms))
        ;
    bool has_ended = f->has_ended;
    (void)pthread_mutex_unlock(&f->lock);
    if (!has_ended)
        return false;
    (void)pthread_join(f->thread, NULL);
    release(f);
    return true;
}
