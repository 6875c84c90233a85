/* smtp_server.h - a mail server in a test's own process that says what it is told.
 *
 * A thread that takes one connection after the other and answers each command
 * with the rule of the connection's script for it, else as a friendly server
 * would.  It speaks without TLS, which lib/mail allows on this machine only.
 * For unit tests only; include it after cmocka.h.
 */
#ifndef LEAD_SMTP_SERVER_H
#define LEAD_SMTP_SERVER_H

#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "lib/base/buf.h"
#include "tests/unit/connections.h"

#define DROP NULL /* the server closes the connection instead of answering */
#define HANG ""   /* the server says nothing until the client goes away */

enum {
    RULES_MAX = 4,
    MAILS_MAX = 64,
    SERVER_WAIT_MS = 20000, /* the server's own end, should the client never come or go */
    RECEIVED_MAX = 1 << 20
};

/* What the server says to a command: CONNECT EHLO HELO AUTH LOGIN (each line of credentials) MAIL RCPT DATA .
 * NOOP QUIT, ? for any other.  GONE with DROP: it closes the connection after the reply to the dot. */
struct rule {
    const char *command;
    const char *reply;
};

struct server {
    int listener;
    unsigned int port;
    pthread_t thread;
    const struct rule *const *scripts; /* of the first connections */
    size_t script_count;
    const struct rule *rules;   /* of the present one, and of those without a script; may be NULL */
    _Atomic bool *stop_at_hang; /* set when the server hangs */
    struct buf commands;        /* the verbs, separated by blanks */
    struct buf lines;           /* all command lines */
    struct buf body;            /* unstuffed */
    bool complete;              /* the final dot came */
    _Atomic size_t mails;       /* how often it came; may be read at any time, the others after server_stop */
    size_t mail_ends[MAILS_MAX]; /* in body */
};

struct client {
    int fd;
    char data[4096];
    size_t at, len;
};

static inline bool read_line(struct client *c, struct buf *line)
{
    buf_reset(line);
    for (;;) {
        if (c->at == c->len) {
            struct pollfd wait = {.fd = c->fd, .events = POLLIN};
            if (poll(&wait, 1, SERVER_WAIT_MS) <= 0)
                return false;
            ssize_t got = recv(c->fd, c->data, sizeof c->data, 0);
            if (got <= 0)
                return false;
            c->at = 0;
            c->len = (size_t)got;
        }
        char byte = c->data[c->at++];
        buf_add_char(line, byte);
        if (byte == '\n')
            return line->error == ST_OK;
    }
}

static inline const char *reply_of(const struct server *s, const char *command, const char *otherwise)
{
    for (size_t i = 0; i < RULES_MAX && s->rules && s->rules[i].command; i++) {
        if (strcmp(s->rules[i].command, command) == 0)
            return s->rules[i].reply;
    }
    return otherwise;
}

/* false: the dialogue is over. */
static inline bool answer(struct server *s, struct client *c, const char *command, const char *otherwise)
{
    const char *reply = reply_of(s, command, otherwise);
    struct buf rest = BUF_INIT(RECEIVED_MAX);
    buf_addf(&s->commands, "%s%s", s->commands.len ? " " : "", command);
    if (reply && reply[0] == '\0') {
        if (s->stop_at_hang)
            atomic_store(s->stop_at_hang, true);
        while (read_line(c, &rest))
            ;
        reply = DROP;
    }
    buf_release(&rest);
    return reply && send(c->fd, reply, strlen(reply), MSG_NOSIGNAL) == (ssize_t)strlen(reply);
}

/* Takes the message up to its final dot. */
static inline bool take_body(struct server *s, struct client *c, struct buf *line)
{
    while (read_line(c, line)) {
        struct span text = buf_span(line);
        if (span_eq(text, SPAN_LIT(".\r\n"))) {
            size_t number = atomic_load(&s->mails);
            s->complete = true;
            if (number < MAILS_MAX)
                s->mail_ends[number] = s->body.len;
            atomic_store(&s->mails, number + 1);
            return true;
        }
        buf_add(&s->body, text.ptr[0] == '.' ? span_from(text, 1) : text);
    }
    return false;
}

static inline bool log_in(struct server *s, struct client *c, struct buf *line)
{
    bool plain = span_starts_nocase(buf_span(line), SPAN_LIT("AUTH PLAIN"));
    if (!answer(s, c, "AUTH", plain ? "334 \r\n" : "334 VXNlcm5hbWU6\r\n"))
        return false;
    for (size_t lines = plain ? 1 : 2; lines > 0; lines--) {
        if (reply_of(s, "AUTH", "334")[0] != '3')
            return true; /* refused at once */
        if (!read_line(c, line))
            return false;
        buf_add(&s->lines, buf_span(line));
        if (!answer(s, c, "LOGIN", lines == 2 ? "334 UGFzc3dvcmQ6\r\n" : "235 2.7.0 welcome\r\n"))
            return false;
    }
    return true;
}

static inline void converse(struct server *s, struct client *c)
{
    struct buf line = BUF_INIT(RECEIVED_MAX);
    bool goes_on = answer(s, c, "CONNECT", "220 test\r\n");
    while (goes_on && read_line(c, &line)) {
        struct span text = buf_span(&line);
        buf_add(&s->lines, text);
        if (span_starts(text, SPAN_LIT("EHLO ")))
            goes_on = answer(s, c, "EHLO", "250-test\r\n250-AUTH PLAIN LOGIN\r\n250 SIZE 1000000\r\n");
        else if (span_starts(text, SPAN_LIT("HELO ")))
            goes_on = answer(s, c, "HELO", "250 test\r\n");
        else if (span_starts(text, SPAN_LIT("AUTH ")))
            goes_on = log_in(s, c, &line);
        else if (span_starts(text, SPAN_LIT("MAIL ")))
            goes_on = answer(s, c, "MAIL", "250 ok\r\n");
        else if (span_starts(text, SPAN_LIT("RCPT ")))
            goes_on = answer(s, c, "RCPT", "250 ok\r\n");
        else if (span_starts(text, SPAN_LIT("NOOP")))
            goes_on = answer(s, c, "NOOP", "250 ok\r\n");
        else if (span_starts(text, SPAN_LIT("QUIT")))
            goes_on = answer(s, c, "QUIT", "221 bye\r\n") && false;
        else if (span_starts(text, SPAN_LIT("DATA")))
            goes_on = answer(s, c, "DATA", "354 go on\r\n") &&
                      (reply_of(s, "DATA", "354")[0] != '3' ||
                       (take_body(s, c, &line) && answer(s, c, ".", "250 2.0.0 queued as 1\r\n") &&
                        reply_of(s, "GONE", "")));
        else
            goes_on = answer(s, c, "?", "500 what?\r\n");
    }
    buf_release(&line);
}

static inline void *serve(void *context)
{
    struct server *s = context;
    const struct rule *otherwise = s->rules;
    struct pollfd wait = {.fd = s->listener, .events = POLLIN};
    for (size_t i = 0; poll(&wait, 1, SERVER_WAIT_MS) == 1; i++) {
        struct client c = {.fd = accept(s->listener, NULL, NULL)};
        if (c.fd < 0)
            break;
        s->rules = i < s->script_count ? s->scripts[i] : otherwise;
        converse(s, &c);
        (void)close(c.fd);
    }
    return NULL;
}

/* scripts: the rules of the first connections, one after the other; rules: those of all later ones. */
static inline void server_start_scripts(struct server *s, const struct rule *const *scripts,
                                        size_t script_count, const struct rule *rules)
{
    *s = (struct server){.scripts = scripts,
                         .script_count = script_count,
                         .rules = rules,
                         .commands = BUF_INIT(RECEIVED_MAX),
                         .lines = BUF_INIT(RECEIVED_MAX),
                         .body = BUF_INIT(RECEIVED_MAX)};
    assert_true(listen_here(&s->listener, &s->port));
    assert_int_equal(pthread_create(&s->thread, NULL, serve, s), 0);
}

static inline void server_start(struct server *s, const struct rule *rules)
{
    server_start_scripts(s, NULL, 0, rules);
}

/* After it the server's records may be read. */
static inline void server_stop(struct server *s)
{
    (void)shutdown(s->listener, SHUT_RDWR); /* ends the wait for a client that never came */
    assert_int_equal(pthread_join(s->thread, NULL), 0);
    assert_int_equal(close(s->listener), 0);
}

static inline void server_release(struct server *s)
{
    buf_release(&s->commands);
    buf_release(&s->lines);
    buf_release(&s->body);
}

/* The i-th message as the server got it. */
static inline struct span server_mail(const struct server *s, size_t i)
{
    size_t from = i ? s->mail_ends[i - 1] : 0;
    return span_cut(buf_span(&s->body), from, s->mail_ends[i] - from);
}

#endif
