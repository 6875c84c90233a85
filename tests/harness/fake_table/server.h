/* server.h - connections: one thread; answers held back in a queue for the latency, or spoiled by a rule. */
#ifndef FAKE_TABLE_SERVER_H
#define FAKE_TABLE_SERVER_H

/* System */
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

/* Parts below this one */
#include "tests/harness/fake_table/answer.h"
#include "tests/harness/fake_table/request.h"
#include "tests/harness/fake_table/rules.h"
#include "tests/harness/listen.h"

enum { CONNECTIONS = 1024 };

static int64_t latency_ns;

/* The service itself: answers a request. */
static void answer(struct out *o, const struct request *q);
/* The refusal of one operation as the answer to a batch. */
static void answer_member_fault(struct out *o, const struct fault *fault, size_t index);

struct connection {
    int fd;       /* 0: this place is free */
    bool closing; /* after this answer */
    bool queued;
    bool hanging;    /* its request is never answered */
    bool late;       /* not watched: its request is answered when it is due, whatever the client does */
    int64_t hold_ns; /* before its answer is sent, or its late request is answered */
    int64_t due_ns;
    struct out in;
    struct out out;
    size_t sent;
    struct connection *before, *behind; /* in the queue, which is in the order of due_ns */
};
static int poller;
static struct connection connections[CONNECTIONS];
static struct {
    struct connection *first, *last;
} queue;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void queue_remove(struct connection *c)
{
    if (!c->queued)
        return;
    *(c->before ? &c->before->behind : &queue.first) = c->behind;
    *(c->behind ? &c->behind->before : &queue.last) = c->before;
    c->before = c->behind = NULL;
    c->queued = false;
}

static void queue_add(struct connection *c)
{
    struct connection *before = queue.last;
    c->due_ns = now_ns() + c->hold_ns;
    c->queued = true;
    while (before && before->due_ns > c->due_ns)
        before = before->before;
    c->before = before;
    c->behind = before ? before->behind : queue.first;
    *(c->behind ? &c->behind->before : &queue.last) = c;
    *(before ? &before->behind : &queue.first) = c;
}

static void connection_close(struct connection *c)
{
    queue_remove(c);
    close(c->fd);
    free(c->in.p);
    free(c->out.p);
    *c = (struct connection){0};
}

static void wait_for(struct connection *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event) != 0)
        die("epoll_ctl");
}

enum turn {
    TURN_MORE,   /* the request is not whole yet */
    TURN_ANSWER, /* c->out is to be sent after c->hold_ns */
    TURN_LATE,   /* the same request is to be answered after c->hold_ns */
    TURN_HANG,
    TURN_CLOSE
};

/* Ends the answer after so many bytes of its body. */
static void cut_answer(struct out *o, const struct rule *rule)
{
    struct text all = {o->p, o->n};
    size_t head = find(all, LIT("\r\n\r\n")) + 4;
    if (head > o->n || rule->bytes >= o->n - head)
        return;
    o->n = head + rule->bytes;
    if (!rule->length)
        return;
    struct out whole = {.limit = o->limit};
    struct text rest = {o->p, head - 2};
    while (rest.n) {
        struct text line = cut(&rest, LIT("\r\n"));
        if (starts(line, LIT("Content-Length:")))
            continue;
        out_add(&whole, line);
        out_add(&whole, LIT("\r\n"));
    }
    outf(&whole, "Content-Length: %zu\r\n\r\n", rule->bytes);
    out_add(&whole, (struct text){o->p + head, rule->bytes});
    free(o->p);
    *o = whole;
}

static void write_refusal(struct out *o, const struct rule *rule)
{
    struct fault fault = {(int)rule->status, rule->code, "As the test wants it."};
    struct out body = {.limit = ANSWER_BYTES};
    fault_json(&body, &fault, -1);
    write_head(o, fault.status);
    if (rule->retry_after)
        outf(o, "Retry-After: %zu\r\n", rule->retry_after);
    write_body(o, JSON_TYPE, &body);
    free(body.p);
}

static void write_garbage(struct out *o, const struct rule *rule, const struct request *q)
{
    struct out body = {.limit = ANSWER_BYTES};
    if (rule->raw) {
        out_add(o, LIT("\x16\x03\x01 this is not HTTP\r\n\r\n\r\n"));
        return;
    }
    out_add(&body,
            is_batch(q) ? LIT("--batchresponse_fake\r\n\r\nnonsense") : LIT("{\"value\":[{\"odata.etag\""));
    write_head(o, is_batch(q) ? 202 : same(q->method, LIT("GET")) ? 200 : 201);
    write_body(o, is_batch(q) ? "multipart/mixed; boundary=batchresponse_fake" : JSON_TYPE, &body);
    free(body.p);
}

/* Answers the request as the rule says. */
static enum turn answer_by_rule(struct connection *c, const struct request *q, const struct rule *rule)
{
    struct fault fault = {(int)rule->status, rule->code, "As the test wants it."};
    c->hold_ns = (int64_t)rule->ms * 1000000;
    if (rule->act == ACT_LATE)
        return TURN_LATE;
    stats.refused += rule->act < ACT_CUT;
    if (rule->done || rule->act == ACT_CUT || rule->act == ACT_SLOW)
        answer(&c->out, q);
    if (rule->act < ACT_CUT)
        c->out.n = 0; /* the effect is there, the answer is another */
    switch (rule->act) {
    case ACT_ANSWER:
        write_refusal(&c->out, rule);
        break;
    case ACT_INNER:
        answer_member_fault(&c->out, &fault, rule->index);
        break;
    case ACT_GARBAGE:
        write_garbage(&c->out, rule, q);
        c->closing = rule->raw;
        break;
    case ACT_CUT:
        cut_answer(&c->out, rule);
        c->closing = true;
        break;
    case ACT_DROP:
        return TURN_CLOSE;
    case ACT_HANG:
        return TURN_HANG;
    case ACT_SLOW:
    case ACT_LATE:
        break;
    }
    c->hold_ns += latency_ns;
    return TURN_ANSWER;
}

/* Cuts the next whole request off what was read and answers it into c->out. */
static enum turn answer_next(struct connection *c)
{
    struct text rest = {c->in.p, c->in.n};
    struct request q = {0};
    c->hold_ns = latency_ns;
    size_t head = find(rest, LIT("\r\n\r\n"));
    if (head == rest.n)
        return TURN_MORE;
    rest.n = head + 2;
    struct text line = cut(&rest, LIT("\r\n"));
    q.head = rest;
    const struct fault *fault = !request_line(line, &q) ? &BAD_INPUT : NULL;
    struct text length = header(&q, "Content-Length");
    size_t body = 0;
    if (!fault && header(&q, "Transfer-Encoding").p)
        fault = &NO_LENGTH;
    if (!fault && length.p && !number_of(length, BODY_BYTES, &body))
        fault = &BODY_TOO_LARGE;
    c->closing = fault || same(header(&q, "Connection"), LIT("close"));
    if (fault) {
        answer_fault(&c->out, fault);
        return TURN_ANSWER;
    }
    size_t whole = head + 4 + body;
    if (c->in.n < whole)
        return TURN_MORE;
    q.body = (struct text){c->in.p + head + 4, body};
    const struct rule *rule = c->late || starts(q.path, LIT("/_")) ? NULL : rule_for(&q);
    enum turn turn = TURN_ANSWER;
    if (rule)
        turn = answer_by_rule(c, &q, rule);
    else
        answer(&c->out, &q);
    if (turn == TURN_LATE)
        return turn;
    if (c->out.full) {
        c->out.n = 0;
        c->out.full = false;
        answer_fault(&c->out, &STORE_FULL);
    }
    memmove(c->in.p, c->in.p + whole, c->in.n - whole);
    c->in.n -= whole;
    return turn;
}

/* Sends what is due, answers what has come; false: the connection is over. */
static bool connection_go_on(struct connection *c)
{
    for (;;) {
        while (c->sent < c->out.n) {
            ssize_t n = send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL);
            if (n < 0 && errno == EAGAIN) {
                wait_for(c, EPOLLOUT);
                return true;
            }
            if (n <= 0)
                return false;
            c->sent += (size_t)n;
        }
        if (c->out.n && c->closing)
            return false;
        c->out.n = c->sent = 0;
        enum turn turn = answer_next(c);
        c->late = false;
        switch (turn) {
        case TURN_MORE:
            return true;
        case TURN_CLOSE:
            return false;
        case TURN_HANG:
            c->hanging = true;
            wait_for(c, EPOLLRDHUP);
            return true;
        case TURN_LATE:
            c->late = true;
            queue_add(c);
            if (epoll_ctl(poller, EPOLL_CTL_DEL, c->fd, NULL) != 0)
                die("epoll_ctl");
            return true;
        case TURN_ANSWER:
            break;
        }
        if (c->hold_ns) {
            queue_add(c);
            wait_for(c, 0);
            return true;
        }
    }
}

static bool connection_read(struct connection *c)
{
    enum { CHUNK = 64 * 1024 };
    char *to = out_reserve(&c->in, CHUNK);
    if (!to)
        return false;
    ssize_t n = recv(c->fd, to, CHUNK, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    c->in.n += (size_t)n;
    return connection_go_on(c);
}

/* They end as when a network comes back: their own events close them. */
static void end_hanging(void)
{
    for (struct connection *c = connections; c < connections + CONNECTIONS; c++) {
        if (c->fd && c->hanging)
            (void)shutdown(c->fd, SHUT_RDWR);
    }
}

static void connection_ready(struct connection *c, uint32_t events)
{
    bool alive = !(events & (EPOLLHUP | EPOLLERR | EPOLLRDHUP));
    if (alive && events & EPOLLIN) {
        alive = connection_read(c);
    } else if (alive && events & EPOLLOUT) {
        wait_for(c, EPOLLIN);
        alive = connection_go_on(c);
    }
    if (!alive)
        connection_close(c);
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = connections;
        int on = 1;
        while (c < connections + CONNECTIONS && c->fd)
            c++;
        if (c == connections + CONNECTIONS) {
            close(fd);
            continue;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        c->fd = fd;
        c->in.limit = HEAD_BYTES + BODY_BYTES + HEAD_BYTES;
        c->out.limit = ANSWER_BYTES + HEAD_BYTES;
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0)
            die("epoll_ctl");
    }
}

static void send_due(void)
{
    int64_t now = now_ns();
    while (queue.first && queue.first->due_ns <= now) {
        struct connection *c = queue.first;
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        queue_remove(c);
        if (epoll_ctl(poller, c->late ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c->fd, &event) != 0)
            die("epoll_ctl");
        if (!connection_go_on(c))
            connection_close(c);
    }
}

static _Noreturn void serve(int listener)
{
    static char listener_tag, stop_tag;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener_tag};
    struct epoll_event events[64];
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    int stop_fd = signalfd(-1, &stop, SFD_CLOEXEC);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (stop_fd < 0 || poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) != 0)
        die("epoll");
    event.data.ptr = &stop_tag;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, stop_fd, &event) != 0)
        die("epoll");
    for (;;) {
        int64_t wait = queue.first ? queue.first->due_ns - now_ns() : 0;
        struct timespec timeout = {.tv_nsec = wait > 0 ? (long)(wait % 1000000000) : 0,
                                   .tv_sec = wait > 0 ? wait / 1000000000 : 0};
        int n = epoll_pwait2(poller, events, 64, queue.first ? &timeout : NULL, NULL);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &stop_tag)
                exit(0);
            if (events[i].data.ptr == &listener_tag)
                accept_all(listener);
            else
                connection_ready(events[i].data.ptr, events[i].events);
        }
        send_due();
    }
}

#endif
