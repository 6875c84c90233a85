/* server.h - connections: one thread, answers held back in a queue for the latency. */
#ifndef FAKE_TABLE_SERVER_H
#define FAKE_TABLE_SERVER_H

/* System */
#include <arpa/inet.h>
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

enum { CONNECTIONS = 1024 };

static int64_t latency_ns;

/* The service itself: answers a request. */
static void answer(struct out *o, const struct request *q);

struct connection {
    int fd;       /* 0: this place is free */
    bool closing; /* after this answer */
    bool queued;
    int64_t due_ns;
    struct out in;
    struct out out;
    size_t sent;
    struct connection *before, *behind; /* in the queue: the latency is the same for all, so it is in order */
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
    c->due_ns = now_ns() + latency_ns;
    c->queued = true;
    c->before = queue.last;
    *(queue.last ? &queue.last->behind : &queue.first) = c;
    queue.last = c;
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

/* Cuts the next whole request off what was read. 1: answered into c->out; 0: more has to come. */
static int answer_next(struct connection *c)
{
    struct text rest = {c->in.p, c->in.n};
    struct request q = {0};
    size_t head = find(rest, LIT("\r\n\r\n"));
    if (head == rest.n)
        return 0;
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
        return 1;
    }
    size_t whole = head + 4 + body;
    if (c->in.n < whole)
        return 0;
    q.body = (struct text){c->in.p + head + 4, body};
    answer(&c->out, &q);
    if (c->out.full) {
        c->out.n = 0;
        c->out.full = false;
        answer_fault(&c->out, &STORE_FULL);
    }
    memmove(c->in.p, c->in.p + whole, c->in.n - whole);
    c->in.n -= whole;
    return 1;
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
        if (!answer_next(c))
            return true;
        if (latency_ns) {
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

static void connection_ready(struct connection *c, uint32_t events)
{
    bool alive = !(events & (EPOLLHUP | EPOLLERR));
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
        queue_remove(c);
        wait_for(c, EPOLLIN);
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

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof address;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        die("listening socket");
    printf("listening %u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

#endif
