/* smtp_sink - an SMTP server that takes every mail, counts it and throws it away: for measuring speed.
 *
 *   smtp_sink
 *
 * Prints "listening PORT" and serves 127.0.0.1:PORT until SIGTERM, without TLS
 * and login.  A mail counts when its last byte has arrived, just before the
 * reply.  COUNT, a command of its own, is answered "250 N": the mails so far.
 */

/* System */
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "tests/harness/listen.h"

/* A line longer than the room ends its connection; of a message only its end is kept. */
enum { CONNECTIONS = 1024, EVENTS = 64, ROOM = 16 * 1024 };

struct connection {
    int fd; /* 0: this place is free */
    bool in_message;
    size_t used;
    char in[ROOM];
};
static struct connection connections[CONNECTIONS];
static unsigned long mails;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "smtp_sink: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* Replies are short and few are under way: one that does not fit into the socket's buffer ends the connection. */
static bool say(struct connection *c, const char *text)
{
    size_t n = strlen(text);
    return send(c->fd, text, n, MSG_NOSIGNAL) == (ssize_t)n;
}

static void drop_front(struct connection *c, size_t n)
{
    memmove(c->in, c->in + n, c->used - n);
    c->used -= n;
}

static bool is_command(const char *line, const char *name)
{
    return strncasecmp(line, name, strlen(name)) == 0;
}

/* false: the dialogue is over. */
static bool answer_command(struct connection *c, const char *line)
{
    char count[64];
    if (is_command(line, "EHLO"))
        return say(c, "250-smtp.test\r\n250-8BITMIME\r\n250 SIZE 10485760\r\n");
    if (is_command(line, "DATA")) {
        c->in_message = true;
        return say(c, "354 go on\r\n");
    }
    if (is_command(line, "COUNT")) {
        snprintf(count, sizeof count, "250 %lu\r\n", mails);
        return say(c, count);
    }
    if (is_command(line, "QUIT")) {
        (void)say(c, "221 bye\r\n");
        return false;
    }
    return say(c, "250 ok\r\n");
}

/* Takes the message as far as it is there; *more: something behind it may be waiting. */
static bool take_message(struct connection *c, bool *more)
{
    static const char dot[] = "\r\n.\r\n";
    enum { DOT = sizeof dot - 1 };
    char *end = memmem(c->in, c->used, dot, DOT);
    *more = end != NULL;
    if (!end) { /* its end may have begun */
        if (c->used >= DOT)
            drop_front(c, c->used - (DOT - 1));
        return true;
    }
    drop_front(c, (size_t)(end - c->in) + DOT);
    c->in_message = false;
    mails++;
    return say(c, "250 taken\r\n");
}

static bool take_line(struct connection *c, bool *more)
{
    char *end = memchr(c->in, '\n', c->used);
    *more = end != NULL;
    if (!end)
        return c->used < ROOM;
    *end = '\0';
    bool alive = answer_command(c, c->in);
    drop_front(c, (size_t)(end - c->in) + 1);
    return alive;
}

static bool connection_read(struct connection *c)
{
    ssize_t n = recv(c->fd, c->in + c->used, ROOM - c->used, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    /* A client that sends a message in several small pieces would wait for our delayed acknowledgement, 40 ms. */
    int on = 1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
    c->used += (size_t)n;
    bool more = true;
    while (more) {
        if (!(c->in_message ? take_message(c, &more) : take_line(c, &more)))
            return false;
    }
    return true;
}

static void connection_close(struct connection *c)
{
    close(c->fd);
    c->fd = 0;
}

static void accept_all(int poller, int listener)
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
        c->used = 0;
        c->in_message = false;
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0)
            die("epoll_ctl");
        if (!say(c, "220 smtp.test ESMTP\r\n"))
            connection_close(c);
    }
}

int main(void)
{
    int listener = listen_on(0);
    int poller = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) != 0)
        die("epoll");
    for (;;) {
        struct epoll_event events[EVENTS];
        int n = epoll_wait(poller, events, EVENTS, -1);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            if (!events[i].data.ptr)
                accept_all(poller, listener);
            else if (!connection_read(events[i].data.ptr))
                connection_close(events[i].data.ptr);
        }
    }
}
