/* Conversations with fastcgi.c, record by record (FastCGI 1.0, sections 3 and 5), over a unix socket. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "handler/fastcgi.h"
#include "lib/base/clock.h"
#include "tests/unit/shown.h"

enum {
    BEGIN = 1,
    ABORT,
    END,
    PARAMS,
    STDIN,
    STDOUT,
    STDERR,
    DATA,
    GET_VALUES,
    GET_VALUES_RESULT,
    UNKNOWN_TYPE
};
enum { RESPONDER = 1, AUTHORIZER = 2, MANAGEMENT = 0, COMPLETE = 0, CANT_MPX_CONN = 1, UNKNOWN_ROLE = 3 };
enum { KEEP_CONN = 1, ID = 1, BODY_MAX = 1000, PATIENCE_MS = 10000, CONVERSATION_BYTES = 64 * 1024 };

/* --- the handler --------------------------------------------------------------------------------------- */

enum { PENDING_MAX = 8 };

/* Answers with what it has got; a request for /wait is answered when it is let go. */
struct shared {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned int begun, handled, afters, ended, waiting, ticks;
    unsigned int ticks_wanted;    /* so many, also when there are no requests */
    unsigned int refuse_begin;    /* the begin of this number, from 1, has no memory */
    void (*on_flood)(void *peer); /* called while a request for /flood is handled */
    void *peer;
    bool go;
    struct pending {
        const struct request *request;
        struct reply *reply;
        void (*on_answered)(void *whose);
        void *whose;
    } pending[PENDING_MAX];
};

static void add(struct shared *s, unsigned int *counter)
{
    (void)pthread_mutex_lock(&s->lock);
    (*counter)++;
    (void)pthread_cond_broadcast(&s->changed);
    (void)pthread_mutex_unlock(&s->lock);
}

static unsigned int read_counter(struct shared *s, const unsigned int *counter)
{
    (void)pthread_mutex_lock(&s->lock);
    unsigned int value = *counter;
    (void)pthread_mutex_unlock(&s->lock);
    return value;
}

static void *on_begin(void *shared)
{
    struct shared *s = shared;
    add(s, &s->begun);
    return s->begun == s->refuse_begin ? NULL : s;
}

static void answer(struct shared *s, struct pending p)
{
    show_request(p.request, p.reply);
    add(s, &s->handled);
    p.on_answered(p.whose);
}

static void on_handle(void *context, const struct request *r, struct reply *reply,
                      void (*on_answered)(void *whose), void *whose)
{
    struct shared *s = context;
    struct pending p = {r, reply, on_answered, whose};
    if (span_eq(r->path, SPAN_LIT("/wait"))) {
        (void)pthread_mutex_lock(&s->lock);
        bool go = s->go;
        if (!go)
            s->pending[s->waiting++] = p;
        (void)pthread_cond_broadcast(&s->changed);
        (void)pthread_mutex_unlock(&s->lock);
        if (!go)
            return;
    }
    if (span_eq(r->path, SPAN_LIT("/flood")))
        s->on_flood(s->peer);
    answer(s, p);
}

static void on_after(void *context)
{
    struct shared *s = context;
    add(s, &s->afters);
}

static bool on_tick(void *context)
{
    struct shared *s = context;
    add(s, &s->ticks);
    return read_counter(s, &s->ticks) < s->ticks_wanted;
}

static void on_end(void *context)
{
    struct shared *s = context;
    add(s, &s->ended);
}

/* A socket of which a peer takes nothing is hard to have: answers are short.  So what fastcgi.c sends may be cut here. */
static _Atomic int cut_sends;    /* so many calls of other threads send one byte, the next one nothing */
static _Atomic bool takes_drips; /* every other call sends one byte, the others nothing, and time goes by */
static _Atomic int drips_taken;
static pthread_t test_thread;

/* The monotonic clock goes on by so much at once. */
static _Atomic int64_t skipped_ms;
enum { GAP_MS = 8000, DRIPS = 8 };

ssize_t send(int fd, const void *bytes, size_t len, int flags)
{
    if (cut_sends > 0 && !pthread_equal(pthread_self(), test_thread)) {
        if (--cut_sends == 0) {
            errno = EAGAIN;
            return -1;
        }
        len = 1;
    } else if (takes_drips && !pthread_equal(pthread_self(), test_thread)) {
        skipped_ms += GAP_MS / 2;
        if (++drips_taken % 2 == 0) {
            errno = EAGAIN;
            return -1;
        }
        len = 1;
    }
    return sendto(fd, bytes, len, flags, NULL, 0);
}

/* What comes at the very moment in which a peer is given up. */
static _Atomic int late_fd = -1; /* the peer */
static struct buf late_bytes = BUF_INIT(1000);

/* A peer that never stops sending: what it has sent last is there again and again. */
static _Atomic int endless_fd = -1; /* fastcgi.c's */

ssize_t recv(int fd, void *bytes, size_t len, int flags)
{
    static const unsigned char record[1024] = {1, STDIN, 0, ID, (1024 - 8) >> 8, (1024 - 8) & 0xFF};
    if (!pthread_equal(pthread_self(), test_thread) && fd == endless_fd) {
        for (size_t at = 0; at < len; at += sizeof record)
            memcpy((char *)bytes + at, record, sizeof record);
        return (ssize_t)len;
    }
    ssize_t got = recvfrom(fd, bytes, len, flags, NULL, NULL);
    if (got > 0 && memmem(bytes, (size_t)got, "/endless", 8))
        endless_fd = fd;
    return got;
}

int clock_gettime(clockid_t id, struct timespec *now)
{
    int result = (int)syscall(SYS_clock_gettime, id, now);
    if (id == CLOCK_MONOTONIC)
        now->tv_sec += skipped_ms / 1000;
    return result;
}

int shutdown(int fd, int how)
{
    if (fd == endless_fd)
        endless_fd = -1;
    int late = pthread_equal(pthread_self(), test_thread) ? -1 : atomic_exchange(&late_fd, -1);
    if (late >= 0)
        (void)sendto(late, late_bytes.data, late_bytes.len, 0, NULL, 0);
    return (int)syscall(SYS_shutdown, fd, how);
}

/* The scheduler may stop a thread anywhere, also when it is about to wake the event thread. */
static _Atomic bool is_wake_slow; /* the next wake-up from another thread */
static _Atomic bool is_wake_ahead;

int eventfd_write(int fd, eventfd_t value)
{
    bool is_slow = !pthread_equal(pthread_self(), test_thread) && atomic_exchange(&is_wake_slow, false);
    if (is_slow) {
        is_wake_ahead = true;
        (void)usleep(300 * 1000); /* the event thread comes by itself every 100 ms */
    }
    bool is_written = write(fd, &value, sizeof value) == (ssize_t)sizeof value;
    if (is_slow)
        is_wake_ahead = false;
    return is_written ? 0 : -1;
}

/* --- fixture -------------------------------------------------------------------------------------------- */

struct fixture {
    char directory[64];
    char path[96];
    char metrics_path[96];
    struct shared shared;
    struct request_handler handler;
    struct listener listener;
    struct metrics *metrics;
    struct fastcgi *fastcgi;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct fail why;
    if (!f)
        return -1;
    const char *base = getenv("TMPDIR");
    (void)snprintf(f->directory, sizeof f->directory, "%s/fcgi-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(f->directory))
        return -1;
    (void)snprintf(f->path, sizeof f->path, "%s/s", f->directory);
    (void)snprintf(f->metrics_path, sizeof f->metrics_path, "%s/m", f->directory);
    (void)pthread_mutex_init(&f->shared.lock, NULL);
    (void)pthread_cond_init(&f->shared.changed, NULL);
    f->handler = (struct request_handler){on_begin, on_handle, on_after, on_tick, on_end, &f->shared};
    *state = f;
    if (metrics_open(f->metrics_path, &f->metrics, &why) != ST_OK)
        return -1;
    return listener_make(f->path, 0600, NULL, &f->listener, &why) == ST_OK ? 0 : -1;
}

static void let_go(struct fixture *f)
{
    (void)pthread_mutex_lock(&f->shared.lock);
    unsigned int count = f->shared.go ? 0 : f->shared.waiting;
    f->shared.go = true;
    (void)pthread_mutex_unlock(&f->shared.lock);
    for (unsigned int i = 0; i < count; i++)
        answer(&f->shared, f->shared.pending[i]);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    endless_fd = -1;
    skipped_ms = 0;
    let_go(f);
    if (f->fastcgi && !fastcgi_stop(f->fastcgi, PATIENCE_MS))
        return -1;
    listener_close(&f->listener);
    metrics_close(f->metrics);
    (void)pthread_cond_destroy(&f->shared.changed);
    (void)pthread_mutex_destroy(&f->shared.lock);
    (void)unlink(f->metrics_path);
    (void)rmdir(f->directory);
    free(f);
    return 0;
}

static void start(struct fixture *f, unsigned int connections)
{
    struct fail why = {0};
    struct fastcgi_options options = {.listener = &f->listener,
                                      .handler = &f->handler,
                                      .metrics = f->metrics,
                                      .connections = connections,
                                      .body_max_bytes = BODY_MAX};
    if (fastcgi_start(&options, &f->fastcgi, &why) != ST_OK)
        fail_msg("start: %s", why.text);
}

static void stop(struct fixture *f)
{
    struct fastcgi *fastcgi = f->fastcgi;
    f->fastcgi = NULL;
    assert_true(fastcgi_stop(fastcgi, PATIENCE_MS));
}

static void wait_for(struct fixture *f, const unsigned int *counter, unsigned int want)
{
    struct timespec until;
    int error = 0;
    (void)clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += PATIENCE_MS / 1000;
    (void)pthread_mutex_lock(&f->shared.lock);
    while (*counter < want && error == 0)
        error = pthread_cond_timedwait(&f->shared.changed, &f->shared.lock, &until);
    unsigned int got = *counter;
    (void)pthread_mutex_unlock(&f->shared.lock);
    assert_int_equal(got, want);
}

static void expect_counter(struct fixture *f, const char *line)
{
    struct buf text = BUF_INIT(CONVERSATION_BYTES);
    metrics_write(&text, f->metrics, 0);
    if (!strstr(text.data, line))
        fail_msg("no '%s' in:\n%s", line, text.data);
    buf_release(&text);
}

/* --- a web server's side -------------------------------------------------------------------------------- */

static int try_connect(const struct fixture *f)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
    memcpy(address.sun_path, f->path, strlen(f->path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience) != 0 ||
        connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        (void)close(fd);
        return -1;
    }
    return fd;
}

static int connect_to(const struct fixture *f)
{
    int fd = try_connect(f);
    assert_true(fd >= 0);
    return fd;
}

static void add_record_of(struct buf *out, int type, int id, struct span content)
{
    unsigned char head[8] = {1,
                             (unsigned char)type,
                             (unsigned char)(id >> 8),
                             (unsigned char)id,
                             (unsigned char)(content.len >> 8),
                             (unsigned char)content.len};
    buf_add(out, (struct span){(const char *)head, sizeof head});
    buf_add(out, content);
}

static void add_record(struct buf *out, int type, struct span content)
{
    add_record_of(out, type, ID, content);
}

static void add_begin_of(struct buf *out, int id, int role, int flags)
{
    char body[8] = {0, (char)role, (char)flags};
    add_record_of(out, BEGIN, id, (struct span){body, sizeof body});
}

static void add_begin(struct buf *out, int flags)
{
    add_begin_of(out, ID, RESPONDER, flags);
}

static void add_length(struct buf *out, size_t len)
{
    if (len < 128) {
        buf_add_char(out, (char)len);
    } else {
        unsigned char bytes[4] = {(unsigned char)(0x80 | len >> 24), (unsigned char)(len >> 16),
                                  (unsigned char)(len >> 8), (unsigned char)len};
        buf_add(out, (struct span){(const char *)bytes, sizeof bytes});
    }
}

/* pairs is "NAME=value\nNAME=value..." */
static void add_params(struct buf *out, struct span pairs)
{
    struct buf params = BUF_INIT(CONVERSATION_BYTES);
    struct span pair;
    while (span_next(&pairs, '\n', &pair)) {
        size_t equals = span_find(pair, '=');
        assert_true(equals != SPAN_NONE);
        struct span value = span_from(pair, equals + 1);
        add_length(&params, equals);
        add_length(&params, value.len);
        buf_add(&params, span_cut(pair, 0, equals));
        buf_add(&params, value);
    }
    add_record(out, PARAMS, buf_span(&params));
    buf_release(&params);
}

#define POST    "REQUEST_METHOD=POST\nSCRIPT_NAME=/leads\n"
#define NOTHING ((struct span){"", 0})

/* A whole request. */
static void add_request(struct buf *out, int flags, const char *pairs, struct span body)
{
    add_begin(out, flags);
    add_params(out, span_of(pairs));
    add_record(out, PARAMS, NOTHING);
    if (body.len)
        add_record(out, STDIN, body);
    add_record(out, STDIN, NOTHING);
}

static bool write_all(int fd, struct span bytes)
{
    while (bytes.len) {
        ssize_t put = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (put <= 0)
            return false;
        bytes = span_from(bytes, (size_t)put);
    }
    return true;
}

static bool read_exactly(int fd, void *bytes, size_t len)
{
    for (size_t got = 0; got < len;) {
        ssize_t n = recv(fd, (char *)bytes + got, len - got, 0);
        if (n <= 0)
            return false;
        got += (size_t)n;
    }
    return true;
}

/* Collects what comes on STDOUT until the end of the request.  false: the connection ended before. */
static bool read_answer(int fd, struct buf *out)
{
    unsigned char head[8], content[65536 + 256];
    while (read_exactly(fd, head, sizeof head)) {
        size_t len = (size_t)head[4] << 8 | head[5];
        if (!read_exactly(fd, content, len + head[6]))
            return false;
        if (head[1] == STDOUT)
            buf_add(out, (struct span){(const char *)content, len});
        if (head[1] == END)
            return len == 8 && content[4] == 0 /* FCGI_REQUEST_COMPLETE */;
    }
    return false;
}

static bool is_at_end(int fd)
{
    char byte;
    return recv(fd, &byte, 1, 0) == 0;
}

/* The body of the answer that must come. */
static void expect_answer(const char *name, int fd, const char *want)
{
    struct buf answer = BUF_INIT(CONVERSATION_BYTES);
    bool whole = read_answer(fd, &answer);
    const char *body = answer.data ? strstr(answer.data, "\r\n\r\n") : NULL;
    if (!whole || !body || strcmp(body + 4, want) != 0)
        fail_msg("%s: got %s answer '%s', want '%s'", name, whole ? "whole" : "broken", body ? body + 4 : "",
                 want);
    buf_release(&answer);
}

static void send_request(int fd, int flags, const char *pairs, struct span body)
{
    struct buf bytes = BUF_INIT(CONVERSATION_BYTES);
    add_request(&bytes, flags, pairs, body);
    assert_true(write_all(fd, buf_span(&bytes)));
    buf_release(&bytes);
}

/* Puts the fixture's socket on file descriptor 0, as one that others have too. */
static struct listener share_socket(struct fixture *f, int *saved)
{
    struct listener own = f->listener;
    struct fail why;
    *saved = dup(STDIN_FILENO);
    assert_true(dup2(own.fd, STDIN_FILENO) == STDIN_FILENO);
    assert_int_equal(listener_adopt(&f->listener, &why), ST_OK);
    return own;
}

static void end_sharing(struct fixture *f, struct listener own, int saved)
{
    f->listener = own;
    if (saved >= 0)
        assert_true(dup2(saved, STDIN_FILENO) == STDIN_FILENO);
    else
        (void)close(STDIN_FILENO);
    (void)close(saved);
}

/* One that is known to be good. */
static void converse(const struct fixture *f)
{
    int fd = connect_to(f);
    send_request(fd, 0, POST "CONTENT_LENGTH=2", SPAN_LIT("ok"));
    expect_answer("good request", fd, "POST /leads? [] [] [] [] complete ok");
    (void)close(fd);
}

/* --- whole requests ------------------------------------------------------------------------------------- */

static void test_good(void **state)
{
    struct fixture *f = *state;
    struct buf bytes = BUF_INIT(CONVERSATION_BYTES), answer = BUF_INIT(CONVERSATION_BYTES);
    start(f, 1);
    add_request(&bytes, 0,
                POST "QUERY_STRING=key=a%20b&x\nCONTENT_TYPE=application/json\nHTTP_X_LEAD_KEY=k1\n"
                     "HTTP_AUTHORIZATION=Bearer k2\nREQUEST_ID=r-1\nHTTP_PROXY=evil\nCONTENT_LENGTH=7\n"
                     "HTTP_WEBHOOK_ID=msg_1\nHTTP_WEBHOOK_TIMESTAMP=12\nHTTP_WEBHOOK_SIGNATURE=v1,a v1,b",
                SPAN_LIT("{\"a\":1}"));
    int fd = connect_to(f);
    assert_true(write_all(fd, buf_span(&bytes)));
    assert_true(read_answer(fd, &answer));
    assert_string_equal(
        answer.data,
        "Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 114\r\nCache-Control: no-store\r\n"
        "X-Content-Type-Options: nosniff\r\n\r\n"
        "POST /leads?key=a%20b&x [application/json] [k1] [Bearer k2] [r-1] complete {\"a\":1} "
        "signed [msg_1] [12] [v1,a v1,b]");
    assert_true(is_at_end(fd));
    (void)close(fd);
    stop(f);
    assert_int_equal(f->shared.handled, 1);
    assert_int_equal(f->shared.afters, 1);
    assert_int_equal(f->shared.begun, 1);
    assert_int_equal(f->shared.ended, 1);
    expect_counter(f, "leadhook_requests_total{code=\"200\"} 1\n");
    expect_counter(f, "leadhook_requests_cut_off_total 0\n");
    expect_counter(f, "leadhook_replies_lost_total 0\n");
    buf_release(&bytes);
    buf_release(&answer);
}

static const struct {
    const char *name;
    const char *length; /* behind the other pairs */
    size_t sent;        /* bytes of body */
    const char *state;
    size_t got;
} BODIES[] = {
    {"no length", "", 0, "complete", 0},
    {"blank length", "\nCONTENT_LENGTH=", 0, "complete", 0},
    {"no length but a body", "", 5, "complete", 0},
    {"0", "\nCONTENT_LENGTH=0", 0, "complete", 0},
    {"1", "\nCONTENT_LENGTH=1", 1, "complete", 1},
    {"leading zeros", "\nCONTENT_LENGTH=0003", 3, "complete", 3},
    {"one below the limit", "\nCONTENT_LENGTH=999", 999, "complete", 999},
    {"the limit", "\nCONTENT_LENGTH=1000", 1000, "complete", 1000},
    {"one above the limit", "\nCONTENT_LENGTH=1001", 1001, "too-large", 0},
    {"much above the limit", "\nCONTENT_LENGTH=60000", 60000, "too-large", 0},
    {"announced only", "\nCONTENT_LENGTH=999999999", 0, "too-large", 0},
    {"over 64 bits", "\nCONTENT_LENGTH=18446744073709551617", 1, "too-large", 0},
    {"longer than announced", "\nCONTENT_LENGTH=10", 20, "complete", 10},
    {"sign", "\nCONTENT_LENGTH=-1", 1, "bad-length", 0},
    {"plus", "\nCONTENT_LENGTH=+1", 1, "bad-length", 0},
    {"blank before", "\nCONTENT_LENGTH= 1", 1, "bad-length", 0},
    {"letters", "\nCONTENT_LENGTH=1a", 1, "bad-length", 0},
    {"hexadecimal", "\nCONTENT_LENGTH=0x10", 16, "bad-length", 0},
};

static void test_bodies(void **state)
{
    struct fixture *f = *state;
    char body[60000];
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)('a' + i % 26);
    start(f, 1);
    for (size_t i = 0; i < sizeof BODIES / sizeof BODIES[0]; i++) {
        char pairs[256], want[2048];
        (void)snprintf(pairs, sizeof pairs, "REQUEST_METHOD=POST\nSCRIPT_NAME=/leads%s", BODIES[i].length);
        (void)snprintf(want, sizeof want, "POST /leads? [] [] [] [] %s %.*s", BODIES[i].state,
                       (int)BODIES[i].got, body);
        int fd = connect_to(f);
        send_request(fd, 0, pairs, (struct span){body, BODIES[i].sent});
        expect_answer(BODIES[i].name, fd, want);
        (void)close(fd);
    }
    stop(f);
    assert_int_equal(f->shared.handled, sizeof BODIES / sizeof BODIES[0]);
    expect_counter(f, "leadhook_requests_cut_off_total 0\n");
}

/* Each parameter at its limit, and one byte over it: then it is left out. */
static void test_parameter_limits(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name;
        size_t limit;
        const char *format; /* of the answer's body, around the value */
    } cases[] = {
        {"QUERY_STRING", LIMIT_QUERY_BYTES, "POST /leads?%s [] [] [] [] complete "},
        {"CONTENT_TYPE", LIMIT_CONTENT_TYPE_BYTES, "POST /leads? [%s] [] [] [] complete "},
        {"HTTP_X_LEAD_KEY", LIMIT_QUERY_BYTES, "POST /leads? [] [%s] [] [] complete "},
        {"HTTP_AUTHORIZATION", LIMIT_QUERY_BYTES, "POST /leads? [] [] [%s] [] complete "},
        {"REQUEST_ID", LIMIT_REQUEST_ID_BYTES, "POST /leads? [] [] [] [%s] complete "},
        {"SCRIPT_NAME", LIMIT_QUERY_BYTES, "POST %s? [] [] [] [] complete "},
        {"REQUEST_METHOD", LIMIT_METHOD_BYTES, "%s /leads? [] [] [] [] complete "},
    };
    static char value[LIMIT_QUERY_BYTES + 2], pairs[2 * LIMIT_QUERY_BYTES], want[2 * LIMIT_QUERY_BYTES];
    start(f, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (size_t over = 0; over < 2; over++) {
            memset(value, 'v', cases[i].limit + over);
            value[cases[i].limit + over] = '\0';
            (void)snprintf(pairs, sizeof pairs, "%s%s%s=%s",
                           strcmp(cases[i].name, "REQUEST_METHOD") == 0 ? "" : "REQUEST_METHOD=POST\n",
                           strcmp(cases[i].name, "SCRIPT_NAME") == 0 ? "" : "SCRIPT_NAME=/leads\n",
                           cases[i].name, value);
            const char *mark = strstr(cases[i].format, "%s");
            (void)snprintf(want, sizeof want, "%.*s%s%s", (int)(mark - cases[i].format), cases[i].format,
                           over ? "" : value, mark + 2);
            int fd = connect_to(f);
            send_request(fd, 0, pairs, NOTHING);
            expect_answer(cases[i].name, fd, want);
            (void)close(fd);
        }
    }
}

/* A signature that is too long must not look like none: it comes whole, and is refused by who judges it. */
static void test_long_signature(void **state)
{
    struct fixture *f = *state;
    static char value[2 * LIMIT_WEBHOOK_SIGNATURE_BYTES + 1], pairs[4 * LIMIT_WEBHOOK_SIGNATURE_BYTES],
        want[4 * LIMIT_WEBHOOK_SIGNATURE_BYTES];
    memset(value, 'v', sizeof value - 1);
    (void)snprintf(pairs, sizeof pairs, "REQUEST_METHOD=POST\nSCRIPT_NAME=/leads\nHTTP_WEBHOOK_SIGNATURE=%s",
                   value);
    (void)snprintf(want, sizeof want, "POST /leads? [] [] [] [] complete  signed [] [] [%s]", value);
    start(f, 1);
    int fd = connect_to(f);
    send_request(fd, 0, pairs, NOTHING);
    expect_answer("a long signature", fd, want);
    (void)close(fd);
}

/* --- requests that are not whole ------------------------------------------------------------------------ */

enum { F_BEGIN = 1, F_PARAMS = 2, F_PARAMS_END = 4, F_STDIN = 8, F_STDIN_END = 16, F_ABORT = 32 };
#define F_PARAMS_WHOLE (F_BEGIN | F_PARAMS | F_PARAMS_END)

static const struct {
    const char *name;
    const char *pairs;
    int parts;
    size_t cut;         /* so many bytes are missing at the end */
    struct span before; /* sent instead of a BEGIN record */
} CUT_OFF[] = {
    {"nothing at all", "", 0, 0, {0}},
    {"half a header", "", F_BEGIN, 12, {0}},
    {"BEGIN alone", "", F_BEGIN, 0, {0}},
    {"half the parameters", POST "CONTENT_LENGTH=3", F_BEGIN | F_PARAMS, 8, {0}},
    {"half a name-value pair's length", POST "CONTENT_LENGTH=0", F_BEGIN | F_PARAMS, 34, {0}},
    {"parameters without their end", POST "CONTENT_LENGTH=3", F_BEGIN | F_PARAMS, 0, {0}},
    {"parameters cut off between two", "REQUEST_METHOD=POST\nSCRIPT_NAME=/leads", F_BEGIN | F_PARAMS, 0, {0}},
    {"no body", POST "CONTENT_LENGTH=3", F_PARAMS_WHOLE, 0, {0}},
    {"half a body record", POST "CONTENT_LENGTH=3", F_PARAMS_WHOLE | F_STDIN, 1, {0}},
    {"short body, clean end", POST "CONTENT_LENGTH=4", F_PARAMS_WHOLE | F_STDIN | F_STDIN_END, 0, {0}},
    {"short body, hang-up", POST "CONTENT_LENGTH=4", F_PARAMS_WHOLE | F_STDIN, 0, {0}},
    {"aborted in the body", POST "CONTENT_LENGTH=4", F_PARAMS_WHOLE | F_STDIN | F_ABORT, 0, {0}},
    {"no method", "SCRIPT_NAME=/leads\nCONTENT_LENGTH=3", F_PARAMS_WHOLE | F_STDIN | F_STDIN_END, 0, {0}},
    {"no path", "REQUEST_METHOD=POST\nCONTENT_LENGTH=3", F_PARAMS_WHOLE | F_STDIN | F_STDIN_END, 0, {0}},
    {"another protocol", "", 0, 0, SPAN_LIT("GET /leads HTTP/1.1\r\nHost: localhost\r\n\r\n")},
    {"another version", "", 0, 0,
     SPAN_LIT("\x02\x01\x00\x01\x00\x08\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00")},
};

static void test_cut_off(void **state)
{
    struct fixture *f = *state;
    start(f, 1);
    for (size_t i = 0; i < sizeof CUT_OFF / sizeof CUT_OFF[0]; i++) {
        struct buf bytes = BUF_INIT(CONVERSATION_BYTES), answer = BUF_INIT(CONVERSATION_BYTES);
        int parts = CUT_OFF[i].parts;
        buf_add(&bytes, CUT_OFF[i].before);
        if (parts & F_BEGIN)
            add_begin(&bytes, 0);
        if (parts & F_PARAMS)
            add_params(&bytes, span_of(CUT_OFF[i].pairs));
        if (parts & F_PARAMS_END)
            add_record(&bytes, PARAMS, NOTHING);
        if (parts & F_STDIN)
            add_record(&bytes, STDIN, SPAN_LIT("abc"));
        if (parts & F_STDIN_END)
            add_record(&bytes, STDIN, NOTHING);
        if (parts & F_ABORT)
            add_record(&bytes, ABORT, NOTHING);
        int fd = connect_to(f);
        assert_true(write_all(fd, span_cut(buf_span(&bytes), 0, bytes.len - CUT_OFF[i].cut)));
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        bool has_ended =
            read_answer(fd, &answer); /* as the specification wants it for an abort alone (5.4) */
        if (has_ended != ((parts & F_ABORT) != 0) || answer.len)
            fail_msg("%s: got an answer '%s'", CUT_OFF[i].name, answer.len ? answer.data : "");
        (void)close(fd);
        converse(f); /* in the same place, so that the one before is over */
        unsigned int handled = read_counter(&f->shared, &f->shared.handled);
        if (handled != i + 1)
            fail_msg("%s: was handed on", CUT_OFF[i].name);
        buf_release(&bytes);
        buf_release(&answer);
    }
    stop(f);
    assert_int_equal(f->shared.afters, f->shared.handled);
}

/* --- the protocol ---------------------------------------------------------------------------------------- */

static void expect_record(const char *name, int fd, int type, int id, struct span content)
{
    unsigned char head[8], got[1024];
    bool whole = read_exactly(fd, head, sizeof head);
    size_t len = whole ? (size_t)head[4] << 8 | head[5] : 0;
    whole = whole && len <= sizeof got && read_exactly(fd, got, len);
    if (!whole || head[1] != type || (head[2] << 8 | head[3]) != id)
        fail_msg("%s: got record %d of %d, want %d of %d", name, whole ? head[1] : -1,
                 whole ? head[2] << 8 | head[3] : -1, type, id);
    assert_int_equal(len, content.len);
    assert_memory_equal(got, content.ptr, len);
}

/* Section 4: what a web server may ask at any time. */
static void test_management_records(void **state)
{
    struct fixture *f = *state;
    struct buf bytes = BUF_INIT(CONVERSATION_BYTES), values = BUF_INIT(100), want = BUF_INIT(100);
    static const char unknown[8] = {77};
    start(f, 3);
    buf_add_text(&values, "\x0e");
    buf_add_char(&values, '\0');
    buf_add_text(&values, "FCGI_MAX_CONNS\x0f");
    buf_add_char(&values, '\0');
    buf_add_text(&values, "FCGI_MPXS_CONNS\x05");
    buf_add_char(&values, '\0');
    buf_add_text(&values, "OTHER");
    buf_add_text(&want, "\x0e\x01"
                        "FCGI_MAX_CONNS3"
                        "\x0f\x01"
                        "FCGI_MPXS_CONNS0");
    add_record_of(&bytes, GET_VALUES, MANAGEMENT, buf_span(&values));
    add_begin(&bytes, 0);
    add_record_of(&bytes, 77, MANAGEMENT, SPAN_LIT("what is this?"));
    add_params(&bytes, SPAN_LIT(POST "CONTENT_LENGTH=2"));
    add_record(&bytes, PARAMS, NOTHING);
    int fd = connect_to(f);
    assert_true(write_all(fd, buf_span(&bytes)));
    expect_record("values", fd, GET_VALUES_RESULT, MANAGEMENT, buf_span(&want));
    expect_record("unknown", fd, UNKNOWN_TYPE, MANAGEMENT, (struct span){unknown, sizeof unknown});
    buf_reset(&bytes);
    add_record(&bytes, STDIN, SPAN_LIT("ok"));
    add_record(&bytes, STDIN, NOTHING);
    assert_true(write_all(fd, buf_span(&bytes)));
    expect_answer("after that", fd, "POST /leads? [] [] [] [] complete ok");
    (void)close(fd);
    buf_release(&bytes);
    buf_release(&values);
    buf_release(&want);
}

/* Names that we do not know are left out of the answer; of more than so many bytes there is none. */
static void test_limit_of_management_records(void **state)
{
    struct fixture *f = *state;
    start(f, 3);
    for (size_t len = LIMIT_CONTROL_BYTES - 1; len <= LIMIT_CONTROL_BYTES + 1; len++) {
        struct buf bytes = BUF_INIT(CONVERSATION_BYTES), values = BUF_INIT(2 * LIMIT_CONTROL_BYTES);
        const size_t head = 5, name = len - head; /* the lengths: four bytes, and one for the value's */
        const char lengths[] = {(char)0x80, 0, (char)(name >> 8), (char)name, 0};
        buf_add(&values, (struct span){lengths, sizeof lengths});
        while (values.len < len)
            buf_add_char(&values, 'N');
        add_record_of(&bytes, GET_VALUES, MANAGEMENT, buf_span(&values));
        int fd = connect_to(f);
        assert_true(write_all(fd, buf_span(&bytes)));
        if (len > LIMIT_CONTROL_BYTES)
            assert_true(is_at_end(fd));
        else
            expect_record("values", fd, GET_VALUES_RESULT, MANAGEMENT, NOTHING);
        (void)close(fd);
        buf_release(&bytes);
        buf_release(&values);
    }
}

/* One request at a time, and ours only. */
static void test_other_requests(void **state)
{
    struct fixture *f = *state;
    struct buf bytes = BUF_INIT(CONVERSATION_BYTES);
    static const char no_multiplexing[8] = {0, 0, 0, 0, CANT_MPX_CONN},
                      no_role[8] = {0, 0, 0, 0, UNKNOWN_ROLE};
    start(f, 1);
    add_record_of(&bytes, STDIN, 9, SPAN_LIT("of no request")); /* 3.3 */
    add_begin(&bytes, KEEP_CONN);
    add_begin_of(&bytes, 258, RESPONDER, KEEP_CONN);
    add_record_of(&bytes, ABORT, 258, NOTHING);
    add_params(&bytes, SPAN_LIT(POST "CONTENT_LENGTH=2"));
    add_record(&bytes, PARAMS, NOTHING);
    add_record(&bytes, STDIN, SPAN_LIT("ok"));
    add_record(&bytes, STDIN, NOTHING);
    int fd = connect_to(f);
    assert_true(write_all(fd, buf_span(&bytes)));
    expect_record("second request", fd, END, 258, (struct span){no_multiplexing, 8});
    expect_answer("first request", fd, "POST /leads? [] [] [] [] complete ok");
    (void)close(fd);

    buf_reset(&bytes);
    add_begin_of(&bytes, 7, AUTHORIZER, 0);
    fd = connect_to(f);
    assert_true(write_all(fd, buf_span(&bytes)));
    expect_record("another role", fd, END, 7, (struct span){no_role, 8});
    assert_true(is_at_end(fd));
    (void)close(fd);
    converse(f);
    buf_release(&bytes);
}

/* All parameters together at their limit, and a byte over it. */
static void test_limit_of_parameters(void **state)
{
    struct fixture *f = *state;
    static char value[LIMIT_PARAMETERS_BYTES];
    const char *pairs = "REQUEST_METHOD=POST\nSCRIPT_NAME=/leads";
    const size_t others = 2 * 2 + 14 + 4 + 11 + 6, head = 1 + 4 + 1; /* lengths, names and values */
    memset(value, 'v', sizeof value);
    start(f, 1);
    for (size_t over = 0; over < 2; over++) {
        struct buf bytes = BUF_INIT(3 * LIMIT_PARAMETERS_BYTES), pair = BUF_INIT(2 * LIMIT_PARAMETERS_BYTES);
        size_t len = LIMIT_PARAMETERS_BYTES - others - head + over;
        add_length(&pair, 1);
        add_length(&pair, len);
        buf_add_char(&pair, 'X');
        buf_add(&pair, (struct span){value, len});
        add_begin(&bytes, 0);
        add_params(&bytes, span_of(pairs));
        for (size_t at = 0; at < pair.len; at += 60000)
            add_record(&bytes, PARAMS, span_cut(buf_span(&pair), at, 60000));
        add_record(&bytes, PARAMS, NOTHING);
        add_record(&bytes, STDIN, NOTHING);
        int fd = connect_to(f);
        bool is_written = write_all(fd, buf_span(&bytes));
        if (over == 0) {
            assert_true(is_written);
            expect_answer("limit", fd, "POST /leads? [] [] [] [] complete ");
        } else {
            char byte;
            assert_true(recv(fd, &byte, 1, 0) <= 0);
        }
        (void)close(fd);
        converse(f);
        buf_release(&bytes);
        buf_release(&pair);
    }
}

/* --- connections ---------------------------------------------------------------------------------------- */

/* A request in many small pieces is as good as one. */
static void test_pieces(void **state)
{
    struct fixture *f = *state;
    struct buf bytes = BUF_INIT(CONVERSATION_BYTES);
    start(f, 1);
    add_begin(&bytes, 0);
    add_params(&bytes, SPAN_LIT("REQUEST_METHOD=POST"));
    add_params(&bytes, SPAN_LIT("SCRIPT_NAME=/leads\nCONTENT_LENGTH=6"));
    add_record(&bytes, PARAMS, NOTHING);
    add_record(&bytes, STDIN, SPAN_LIT("ab"));
    add_record(&bytes, STDIN, SPAN_LIT("c"));
    add_record(&bytes, STDIN, SPAN_LIT("def"));
    add_record(&bytes, STDIN, NOTHING);
    int fd = connect_to(f);
    for (size_t i = 0; i < bytes.len; i++)
        assert_true(write_all(fd, (struct span){bytes.data + i, 1}));
    expect_answer("pieces", fd, "POST /leads? [] [] [] [] complete abcdef");
    (void)close(fd);
    buf_release(&bytes);
}

static const char farewell[8] = {UNKNOWN_TYPE};

/* A peer may use its connection again. */
static void test_kept_connection(void **state)
{
    struct fixture *f = *state;
    start(f, 2);
    int fd = connect_to(f);
    for (int i = 0; i < 5; i++) {
        send_request(fd, KEEP_CONN, POST "CONTENT_LENGTH=3", SPAN_LIT("123"));
        expect_answer("kept", fd, "POST /leads? [] [] [] [] complete 123");
        converse(f);
    }
    send_request(fd, 0, POST "CONTENT_LENGTH=1", SPAN_LIT("1"));
    expect_answer("last", fd, "POST /leads? [] [] [] [] complete 1");
    assert_true(is_at_end(fd));
    (void)close(fd);
}

/* Half of the places stay free: who comes when the other half is idle is told to close its connection. */
static void test_too_many_kept(void **state)
{
    struct fixture *f = *state;
    int fd[4];
    start(f, 4);
    for (size_t i = 0; i < 4; i++) {
        fd[i] = connect_to(f);
        send_request(fd[i], KEEP_CONN, POST "CONTENT_LENGTH=1", SPAN_LIT("1"));
        expect_answer("kept", fd[i], "POST /leads? [] [] [] [] complete 1");
        if (i >= 2)
            expect_record("farewell", fd[i], UNKNOWN_TYPE, MANAGEMENT, (struct span){farewell, 8});
    }
    converse(f); /* waits until those are given up */
    assert_true(is_at_end(fd[2]));
    assert_true(is_at_end(fd[3]));
    for (size_t i = 0; i < 4; i++) {
        if (i < 2) {
            send_request(fd[i], KEEP_CONN, POST "CONTENT_LENGTH=1", SPAN_LIT("2"));
            expect_answer("kept", fd[i], "POST /leads? [] [] [] [] complete 2");
        }
        (void)close(fd[i]);
    }
}

/* A request that was sent before its connection was given up is answered. */
static void test_request_at_last_moment(void **state)
{
    struct fixture *f = *state;
    start(f, 1);
    int fd = connect_to(f);
    send_request(fd, KEEP_CONN, POST "CONTENT_LENGTH=1", SPAN_LIT("1"));
    expect_answer("first", fd, "POST /leads? [] [] [] [] complete 1");
    expect_record("farewell", fd, UNKNOWN_TYPE, MANAGEMENT, (struct span){farewell, 8});
    add_request(&late_bytes, KEEP_CONN, POST "CONTENT_LENGTH=1", SPAN_LIT("2"));
    late_fd = fd;
    expect_answer("late", fd, "POST /leads? [] [] [] [] complete 2");
    stop(f);
    (void)close(fd); /* only now has who sent the late request ended for sure */
    buf_release(&late_bytes);
    expect_counter(f, "leadhook_replies_lost_total 0\n");
}

enum { FLOOD_MS = 3000, FLOOD_LAG = 20 };

/* Connections that come as fast as they are accepted. */
struct flood {
    const struct fixture *fixture;
    int64_t until_ms;
    int waiting[FLOOD_LAG]; /* their answers, until nobody cares */
    size_t count;
};

static void flood(void *peer)
{
    struct flood *flood = peer;
    int fd = clock_monotonic_ms() < flood->until_ms ? try_connect(flood->fixture) : -1;
    struct buf bytes = BUF_INIT(CONVERSATION_BYTES);
    add_request(&bytes, 0, "REQUEST_METHOD=POST\nSCRIPT_NAME=/flood", NOTHING);
    int *place = &flood->waiting[flood->count++ % FLOOD_LAG];
    if (fd >= 0)
        (void)write_all(fd, buf_span(&bytes));
    if (*place >= 0)
        (void)close(*place);
    *place = fd;
    buf_release(&bytes);
}

/* However many connections wait to be accepted: those that are there are served, and a stop is seen. */
static void test_flood_of_connections(void **state)
{
    struct fixture *f = *state;
    struct flood peer = {.fixture = f};
    int saved;
    struct listener own = share_socket(f, &saved);
    for (size_t i = 0; i < FLOOD_LAG; i++)
        peer.waiting[i] = -1;
    f->shared.on_flood = flood;
    f->shared.peer = &peer;
    start(f, 4);
    int fd = connect_to(f);
    send_request(fd, KEEP_CONN, POST "CONTENT_LENGTH=1", SPAN_LIT("1"));
    expect_answer("kept", fd, "POST /leads? [] [] [] [] complete 1");
    peer.until_ms = clock_monotonic_ms() + FLOOD_MS;
    int first = connect_to(f);
    send_request(first, 0, "REQUEST_METHOD=POST\nSCRIPT_NAME=/flood", NOTHING);
    expect_answer("flood", first, "POST /flood? [] [] [] [] complete ");
    send_request(fd, KEEP_CONN, POST "CONTENT_LENGTH=1", SPAN_LIT("2"));
    expect_answer("kept", fd, "POST /leads? [] [] [] [] complete 2");
    (void)close(fd);
    (void)close(first);
    stop(f);
    assert_true(clock_monotonic_ms() < peer.until_ms);
    for (size_t i = 0; i < FLOOD_LAG; i++)
        (void)close(peer.waiting[i]);
    end_sharing(f, own, saved);
}

/* One that sends half a request holds up nobody else, and is served when the rest comes. */
static void test_hanging_peer(void **state)
{
    struct fixture *f = *state;
    static const size_t pieces[] = {4, 20,
                                    40}; /* in a header, in the parameters' header, in the parameters */
    int hanging[3];
    struct buf bytes = BUF_INIT(CONVERSATION_BYTES);
    start(f, 4);
    add_request(&bytes, 0, POST "CONTENT_LENGTH=4", SPAN_LIT("late"));
    for (size_t i = 0; i < 3; i++) {
        hanging[i] = connect_to(f);
        assert_true(write_all(hanging[i], span_cut(buf_span(&bytes), 0, pieces[i])));
    }
    for (int i = 0; i < 20; i++)
        converse(f);
    for (size_t i = 0; i < 3; i++) {
        assert_true(write_all(hanging[i], span_from(buf_span(&bytes), pieces[i])));
        expect_answer("late", hanging[i], "POST /leads? [] [] [] [] complete late");
        (void)close(hanging[i]);
    }
    buf_release(&bytes);
}

static bool is_taken(int fd)
{
    int left = 0;
    int64_t give_up_ms = clock_monotonic_ms() + PATIENCE_MS;
    while (ioctl(fd, SIOCOUTQ, &left) == 0 && left > 0 && clock_monotonic_ms() < give_up_ms)
        (void)usleep(1000);
    return left == 0;
}

/* Each byte comes in time, and the whole request never. */
static void test_dripping_peer(void **state)
{
    struct fixture *f = *state;
    struct buf bytes = BUF_INIT(CONVERSATION_BYTES);
    start(f, 4);
    add_request(&bytes, 0, POST "CONTENT_LENGTH=4", SPAN_LIT("late"));
    int fd = connect_to(f);
    int drips = 0;
    while (drips < DRIPS && write_all(fd, span_cut(buf_span(&bytes), (size_t)drips, 1))) {
        assert_true(is_taken(fd));
        drips++;
        skipped_ms += GAP_MS;
    }
    assert_true(drips > 1 && drips < DRIPS);
    (void)close(fd);
    converse(f);
    stop(f);
    skipped_ms = 0;
    buf_release(&bytes);
}

/* One that never stops sending takes no other's turn, and is given up. */
static void test_endless_peer(void **state)
{
    struct fixture *f = *state;
    struct buf bytes = BUF_INIT(CONVERSATION_BYTES);
    start(f, 4);
    add_request(&bytes, 0, "REQUEST_METHOD=POST\nSCRIPT_NAME=/endless\nCONTENT_LENGTH=4", SPAN_LIT("late"));
    int fd = connect_to(f);
    assert_true(write_all(fd, span_cut(buf_span(&bytes), 0, bytes.len - 20))); /* without the body */
    while (endless_fd < 0)
        (void)usleep(1000);
    assert_true(write_all(fd, SPAN_LIT("x"))); /* so that it is never without something to read */
    for (int i = 0; i < 3; i++)
        converse(f);
    assert_true(endless_fd >= 0);
    skipped_ms = WAIT_REQUEST_MS;
    assert_true(is_at_end(fd));
    (void)close(fd);
    stop(f);
    skipped_ms = 0;
    expect_counter(f, "leadhook_requests_cut_off_total 1\n");
    buf_release(&bytes);
}

/* All places and the queue are taken by those who never send a whole request: an honest one is answered soon. */
static void test_crowd_of_hanging_peers(void **state)
{
    struct fixture *f = *state;
    int hanging[8];
    struct buf bytes = BUF_INIT(CONVERSATION_BYTES);
    start(f, 4);
    add_request(&bytes, 0, POST "CONTENT_LENGTH=4", SPAN_LIT("late"));
    for (size_t i = 0; i < 8; i++) {
        hanging[i] = connect_to(f);
        assert_true(write_all(hanging[i], span_cut(buf_span(&bytes), 0, 40)));
    }
    converse(f);
    for (size_t i = 0; i < 8; i++)
        (void)close(hanging[i]);
    buf_release(&bytes);
}

/* The handler has something to do yet when no requests are left. */
static void test_wanted_ticks(void **state)
{
    struct fixture *f = *state;
    int64_t give_up_ms = clock_monotonic_ms() + PATIENCE_MS;
    f->shared.ticks_wanted = 100;
    start(f, 2);
    converse(f);
    while (read_counter(&f->shared, &f->shared.ticks) < 100 && clock_monotonic_ms() < give_up_ms)
        (void)usleep(1000);
    assert_true(read_counter(&f->shared, &f->shared.ticks) >= 100);
}

/* An answer that the socket does not take at once leaves when it does. */
static void test_answer_in_parts(void **state)
{
    struct fixture *f = *state;
    start(f, 1);
    for (int cuts = 1; cuts < 10; cuts++) {
        cut_sends = cuts;
        converse(f);
        assert_int_equal(cut_sends, 0);
    }
    int fd = connect_to(f);
    cut_sends = 3;
    send_request(fd, 0, "REQUEST_METHOD=POST\nSCRIPT_NAME=/leads", NOTHING);
    expect_answer("in parts", fd, "POST /leads? [] [] [] [] complete ");
    (void)close(fd);
    stop(f);
    assert_int_equal(f->shared.afters, 10);
    expect_counter(f, "leadhook_replies_lost_total 0\n");
}

/* Each byte of the answer is taken in time, and the whole answer never. */
static void test_dripping_taker(void **state)
{
    struct fixture *f = *state;
    struct buf answer = BUF_INIT(CONVERSATION_BYTES);
    start(f, 1);
    int fd = connect_to(f);
    takes_drips = true;
    send_request(fd, 0, POST "CONTENT_LENGTH=0", NOTHING);
    assert_false(read_answer(fd, &answer));
    takes_drips = false;
    assert_true(drips_taken > DRIPS && drips_taken < 2 * (int)(WAIT_ANSWER_MS / GAP_MS) + DRIPS);
    (void)close(fd);
    converse(f);
    stop(f);
    skipped_ms = 0;
    expect_counter(f, "leadhook_replies_lost_total 1\n");
    buf_release(&answer);
}

/* The peer has gone when the answer is ready: that is counted, and the thread goes on. */
static void test_lost_reply(void **state)
{
    struct fixture *f = *state;
    start(f, 1);
    int fd = connect_to(f);
    send_request(fd, 0, "REQUEST_METHOD=POST\nSCRIPT_NAME=/wait", NOTHING);
    wait_for(f, &f->shared.waiting, 1);
    (void)close(fd);
    let_go(f);
    converse(f);
    stop(f);
    assert_int_equal(f->shared.handled, 2);
    assert_int_equal(f->shared.afters, 2);
    expect_counter(f, "leadhook_replies_lost_total 1\n");
    expect_counter(f, "leadhook_requests_total{code=\"200\"} 2\n");
}

enum { CLIENTS = 4, EACH = 25 };

static void *run_client(void *fixture)
{
    const struct fixture *f = fixture;
    size_t good = 0;
    for (unsigned int i = 0; i < EACH; i++) {
        struct buf bytes = BUF_INIT(CONVERSATION_BYTES), answer = BUF_INIT(CONVERSATION_BYTES);
        char body[64], pairs[128], want[128];
        (void)snprintf(body, sizeof body, "%lx-%u", (unsigned long)pthread_self(), i);
        (void)snprintf(pairs, sizeof pairs, POST "REQUEST_ID=%u\nCONTENT_LENGTH=%zu", i, strlen(body));
        (void)snprintf(want, sizeof want, "\r\n\r\nPOST /leads? [] [] [] [%u] complete %s", i, body);
        add_request(&bytes, 0, pairs, span_of(body));
        int fd = try_connect(f);
        if (fd >= 0 && write_all(fd, buf_span(&bytes)) && read_answer(fd, &answer)) {
            const char *at = strstr(answer.data, "\r\n\r\n");
            good += at && strcmp(at, want) == 0 ? 1 : 0;
        }
        (void)close(fd);
        buf_release(&bytes);
        buf_release(&answer);
    }
    return (void *)(uintptr_t)good;
}

static void test_many_at_once(void **state)
{
    struct fixture *f = *state;
    pthread_t clients[CLIENTS];
    start(f, 3);
    for (size_t i = 0; i < CLIENTS; i++)
        assert_int_equal(pthread_create(&clients[i], NULL, run_client, f), 0);
    for (size_t i = 0; i < CLIENTS; i++) {
        void *good;
        assert_int_equal(pthread_join(clients[i], &good), 0);
        assert_int_equal((uintptr_t)good, EACH);
    }
    stop(f);
    assert_int_equal(f->shared.handled, CLIENTS * EACH);
    assert_int_equal(f->shared.afters, CLIENTS * EACH);
}

/* --- start and stop ------------------------------------------------------------------------------------- */

static void test_start_fails(void **state)
{
    struct fixture *f = *state;
    struct fail why = {0};
    struct fastcgi_options options = {.listener = &f->listener,
                                      .handler = &f->handler,
                                      .metrics = f->metrics,
                                      .connections = 4,
                                      .body_max_bytes = BODY_MAX};
    f->shared.refuse_begin = 3;
    assert_int_equal(fastcgi_start(&options, &f->fastcgi, &why), ST_NOMEM);
    assert_null(f->fastcgi);
    assert_int_equal(f->shared.begun, 3);
    assert_int_equal(f->shared.ended, 2);
}

static void test_stop_when_idle(void **state)
{
    struct fixture *f = *state;
    start(f, 4);
    stop(f);
    assert_int_equal(f->shared.ended, 4);
    assert_int_equal(try_connect(f), -1);
}

static void *run_stop(void *fixture)
{
    struct fixture *f = fixture;
    return fastcgi_stop(f->fastcgi, PATIENCE_MS) ? f : NULL;
}

/* A kept connection is served during the stop too, and its peer is the one who closes it. */
static void test_stop_with_kept_connection(void **state)
{
    struct fixture *f = *state;
    pthread_t stopper;
    void *stopped;
    start(f, 2);
    int fd = connect_to(f), late;
    send_request(fd, KEEP_CONN, POST "CONTENT_LENGTH=1", SPAN_LIT("1"));
    expect_answer("kept", fd, "POST /leads? [] [] [] [] complete 1");
    assert_int_equal(pthread_create(&stopper, NULL, run_stop, f), 0);
    while ((late = try_connect(f)) >= 0) /* still before the stop */
        (void)close(late);
    (void)usleep(10000); /* most likely it is known now; the request is answered in any case */
    send_request(fd, KEEP_CONN, POST "CONTENT_LENGTH=1", SPAN_LIT("2"));
    expect_answer("during the stop", fd, "POST /leads? [] [] [] [] complete 2");
    expect_record("farewell", fd, UNKNOWN_TYPE, MANAGEMENT, (struct span){farewell, 8});
    (void)close(fd);
    assert_int_equal(pthread_join(stopper, &stopped), 0);
    assert_ptr_equal(stopped, f);
    f->fastcgi = NULL;
    assert_int_equal(f->shared.handled, 2);
}

/* What is being served and what waits in the queue is answered; who comes later is refused. */
static void test_stop_drains(void **state)
{
    struct fixture *f = *state;
    int queued[5], late;
    pthread_t stopper;
    void *stopped;
    start(f, 1);
    int first = connect_to(f);
    send_request(first, 0, "REQUEST_METHOD=POST\nSCRIPT_NAME=/wait", NOTHING);
    wait_for(f, &f->shared.waiting, 1);
    for (size_t i = 0; i < 5; i++) {
        queued[i] = connect_to(f);
        send_request(queued[i], 0, POST "CONTENT_LENGTH=1", SPAN_LIT("q"));
    }
    assert_int_equal(pthread_create(&stopper, NULL, run_stop, f), 0);
    int64_t give_up_ms = clock_monotonic_ms() + PATIENCE_MS;
    while ((late = try_connect(f)) >= 0) { /* still before the stop */
        (void)close(late);
        assert_true(clock_monotonic_ms() < give_up_ms);
    }
    assert_int_equal(read_counter(&f->shared, &f->shared.handled), 0);
    let_go(f);
    expect_answer("first", first, "POST /wait? [] [] [] [] complete ");
    (void)close(first);
    for (size_t i = 0; i < 5; i++) {
        expect_answer("queued", queued[i], "POST /leads? [] [] [] [] complete q");
        (void)close(queued[i]);
    }
    assert_int_equal(pthread_join(stopper, &stopped), 0);
    assert_ptr_equal(stopped, f);
    f->fastcgi = NULL;
    assert_int_equal(f->shared.handled, 6);
    assert_int_equal(f->shared.ended, 1);
}

static void *run_let_go(void *fixture)
{
    let_go(fixture);
    return NULL;
}

/* The thread that has written the last answer is through with everything before that is freed. */
static void test_stop_waits_for_last_thread(void **state)
{
    struct fixture *f = *state;
    pthread_t stopper, answerer;
    void *stopped;
    int late;
    start(f, 2);
    int fd = connect_to(f);
    send_request(fd, 0, "REQUEST_METHOD=POST\nSCRIPT_NAME=/wait", NOTHING);
    wait_for(f, &f->shared.waiting, 1);
    assert_int_equal(pthread_create(&stopper, NULL, run_stop, f), 0);
    while ((late = try_connect(f)) >= 0) /* still before the stop */
        (void)close(late);
    (void)usleep(10000); /* most likely it is known now: only then the last one wakes the event thread */
    is_wake_slow = true;
    assert_int_equal(pthread_create(&answerer, NULL, run_let_go, f), 0);
    expect_answer("last", fd, "POST /wait? [] [] [] [] complete ");
    (void)close(fd);
    assert_int_equal(pthread_join(stopper, &stopped), 0);
    bool is_ahead = is_wake_ahead;
    assert_int_equal(pthread_join(answerer, NULL), 0);
    f->fastcgi = NULL;
    is_wake_slow = false;
    assert_ptr_equal(stopped, f);
    assert_false(is_ahead);
}

/* A peer that never goes on with its request holds up the end for the time given and not longer. */
static void test_stop_is_bounded(void **state)
{
    struct fixture *f = *state;
    struct buf bytes = BUF_INIT(CONVERSATION_BYTES);
    start(f, 2);
    int fd = connect_to(f);
    add_request(&bytes, 0, POST "CONTENT_LENGTH=4", SPAN_LIT("late"));
    assert_true(write_all(fd, span_cut(buf_span(&bytes), 0, 30)));
    converse(f);
    int64_t begun_ms = clock_monotonic_ms();
    assert_false(fastcgi_stop(f->fastcgi, 100));
    int64_t took_ms = clock_monotonic_ms() - begun_ms;
    assert_in_range(took_ms, 100, PATIENCE_MS);
    (void)close(fd);
    stop(f); /* may be called again */
    assert_int_equal(f->shared.handled, 1);
    assert_int_equal(f->shared.ended, 2);
    buf_release(&bytes);
}

/* Peers that hang anywhere in a request do not hold up the end, and those that wait for their answer get it. */
static void test_stop_with_hanging_peers(void **state)
{
    struct fixture *f = *state;
    static const size_t pieces[] = {0, 4, 20, 40,
                                    81}; /* before a byte, in headers, in parameters, in the body */
    int hanging[(sizeof pieces / sizeof pieces[0])];
    pthread_t stopper;
    void *stopped;
    struct buf bytes = BUF_INIT(CONVERSATION_BYTES);
    start(f, 1 + (sizeof pieces / sizeof pieces[0]));
    add_request(&bytes, 0, POST "CONTENT_LENGTH=4", SPAN_LIT("late"));
    for (size_t i = 0; i < (sizeof pieces / sizeof pieces[0]); i++) {
        hanging[i] = connect_to(f);
        assert_true(write_all(hanging[i], span_cut(buf_span(&bytes), 0, pieces[i])));
    }
    int waiting = connect_to(f);
    send_request(waiting, 0, "REQUEST_METHOD=POST\nSCRIPT_NAME=/wait", NOTHING);
    wait_for(f, &f->shared.waiting, 1);
    assert_int_equal(pthread_create(&stopper, NULL, run_stop, f), 0);
    for (size_t i = 0; i < (sizeof pieces / sizeof pieces[0]); i++) {
        assert_true(is_at_end(hanging[i])); /* given up, while the other one is still in work */
        (void)close(hanging[i]);
    }
    let_go(f);
    expect_answer("waiting", waiting, "POST /wait? [] [] [] [] complete ");
    (void)close(waiting);
    assert_int_equal(pthread_join(stopper, &stopped), 0);
    assert_ptr_equal(stopped, f);
    f->fastcgi = NULL;
    assert_int_equal(f->shared.handled, 1);
    assert_int_equal(f->shared.ended, 1 + (sizeof pieces / sizeof pieces[0]));
    buf_release(&bytes);
}

/* The inherited kind of socket is not ours to end: connections can still be made, for the other processes. */
static void test_stop_inherited(void **state)
{
    struct fixture *f = *state;
    int saved;
    struct listener own = share_socket(f, &saved);
    start(f, 2);
    converse(f);
    stop(f);
    int fd = connect_to(f);
    (void)close(fd);
    end_sharing(f, own, saved);
    assert_int_equal(f->shared.handled, 1);
    assert_int_equal(f->shared.ended, 2);
}

/* Who else has the socket may make it blocking at any time: nobody waits for a connection that does not come. */
static void test_shared_socket_made_blocking(void **state)
{
    struct fixture *f = *state;
    int saved;
    struct listener own = share_socket(f, &saved);
    start(f, 4);
    int fd = connect_to(f);
    for (int i = 0; i < 3; i++) {
        send_request(fd, KEEP_CONN, POST "CONTENT_LENGTH=1", SPAN_LIT("1"));
        expect_answer("kept", fd, "POST /leads? [] [] [] [] complete 1");
        assert_int_equal(fcntl(own.fd, F_SETFL, 0), 0);
        converse(f);
    }
    (void)close(fd);
    stop(f);
    end_sharing(f, own, saved);
    assert_int_equal(f->shared.handled, 6);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_good, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bodies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parameter_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_long_signature, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cut_off, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_management_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit_of_management_records, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_other_requests, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limit_of_parameters, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pieces, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_answer_in_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dripping_taker, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kept_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_many_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_with_kept_connection, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_request_at_last_moment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_flood_of_connections, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hanging_peer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wanted_ticks, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_dripping_peer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_endless_peer, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_crowd_of_hanging_peers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lost_reply, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_start_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_when_idle, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_drains, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_waits_for_last_thread, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_is_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_with_hanging_peers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_inherited, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_shared_socket_made_blocking, set_up, tear_down),
    };
    /* As main does: the threads inherit it.  What a broken test raises itself gets through. */
    sigset_t all;
    (void)sigfillset(&all);
    (void)sigdelset(&all, SIGINT);
    (void)sigdelset(&all, SIGABRT);
    (void)pthread_sigmask(SIG_SETMASK, &all, NULL);
    test_thread = pthread_self();
    return cmocka_run_group_tests_name("fastcgi", tests, NULL, NULL);
}
