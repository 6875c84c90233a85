/* One request as a CGI program: a child process with its environment, input and output. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "handler/cgi.h"
#include "lib/base/clock.h"
#include "tests/unit/shown.h"

enum { BODY_MAX = 1000, PATIENCE_MS = 10000 };

/* How the child ends: how often it was handled and told afterwards, and with which status. */
enum { END_HANDLED = 64, END_AFTER = 128 };
static int seen;

static void *on_begin(void *shared)
{
    return shared;
}

static void on_handle(void *context, const struct request *r, struct reply *reply,
                      void (*on_answered)(void *whose), void *whose)
{
    (void)context;
    show_request(r, reply);
    seen |= END_HANDLED;
    on_answered(whose);
}

static void on_after(void *context)
{
    (void)context;
    seen |= END_AFTER;
}

static void on_end(void *context)
{
    (void)context;
}

struct conversation {
    const char *name;
    const char *variables[12]; /* NAME, value, NAME, value, NULL */
    struct span input;
    bool closed_output;
    int end; /* the flags and the status */
    const char *body;
};

#define POST "REQUEST_METHOD", "POST", "SCRIPT_NAME", "/leads"
#define DONE (END_HANDLED | END_AFTER | ST_OK)
#define LONG_256                                                                                             \
    "/123456789abcdef/123456789abcdef/123456789abcdef/123456789abcdef/123456789abcdef/123456789abcdef"       \
    "/123456789abcdef/123456789abcdef/123456789abcdef/123456789abcdef/123456789abcdef/123456789abcdef"       \
    "/123456789abcdef/123456789abcdef/123456789abcdef/123456789abcdef"

static const struct conversation CONVERSATIONS[] = {
    {"no body", {POST}, {0}, false, DONE, "POST /leads? [] [] [] [] complete "},
    {"body",
     {POST, "CONTENT_LENGTH", "3"},
     SPAN_LIT("abc"),
     false,
     DONE,
     "POST /leads? [] [] [] [] complete abc"},
    {"body is not read further than announced",
     {POST, "CONTENT_LENGTH", "2"},
     SPAN_LIT("abc"),
     false,
     DONE,
     "POST /leads? [] [] [] [] complete ab"},
    {"all variables",
     {POST, "QUERY_STRING", "key=k", "CONTENT_TYPE", "a/b"},
     {0},
     false,
     DONE,
     "POST /leads?key=k [a/b] [] [] [] complete "},
    {"keys in headers",
     {POST, "HTTP_X_LEAD_KEY", "k1", "HTTP_AUTHORIZATION", "Bearer k2"},
     {0},
     false,
     DONE,
     "POST /leads? [] [k1] [Bearer k2] [] complete "},
    {"signature",
     {POST, "HTTP_WEBHOOK_ID", "msg_1", "HTTP_WEBHOOK_TIMESTAMP", "12", "HTTP_WEBHOOK_SIGNATURE",
      "v1,a v1,b"},
     {0},
     false,
     DONE,
     "POST /leads? [] [] [] [] complete  signed [msg_1] [12] [v1,a v1,b]"},
    {"request id", {POST, "REQUEST_ID", "r-1"}, {0}, false, DONE, "POST /leads? [] [] [] [r-1] complete "},
    {"a type at its limit",
     {POST, "CONTENT_TYPE", LONG_256},
     {0},
     false,
     DONE,
     "POST /leads? [" LONG_256 "] [] [] [] complete "},
    {"a type over its limit",
     {POST, "CONTENT_TYPE", LONG_256 "x"},
     {0},
     false,
     DONE,
     "POST /leads? [] [] [] [] complete "},
    {"no path", {"REQUEST_METHOD", "GET"}, {0}, false, DONE, "GET ? [] [] [] [] complete "},
    {"body over the limit",
     {POST, "CONTENT_LENGTH", "1001"},
     SPAN_LIT("abc"),
     false,
     DONE,
     "POST /leads? [] [] [] [] too-large "},
    {"length over 64 bits",
     {POST, "CONTENT_LENGTH", "99999999999999999999"},
     {0},
     false,
     DONE,
     "POST /leads? [] [] [] [] too-large "},
    {"length is no number",
     {POST, "CONTENT_LENGTH", "3 "},
     SPAN_LIT("abc"),
     false,
     DONE,
     "POST /leads? [] [] [] [] bad-length "},
    {"body cut off", {POST, "CONTENT_LENGTH", "4"}, SPAN_LIT("abc"), false, ST_IO, NULL},
    {"nobody reads the answer", {POST}, {0}, true, DONE | ST_IO, NULL},
};

static int run_child(const struct conversation *c, int input, int output)
{
    static const struct request_handler handler = {
        .begin = on_begin, .handle = on_handle, .after = on_after, .end = on_end, .shared = &seen};
    struct metrics *metrics;
    struct fail why;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)clearenv();
    for (size_t i = 0; c->variables[i]; i += 2)
        (void)setenv(c->variables[i], c->variables[i + 1], 1);
    if (dup2(input, STDIN_FILENO) < 0 || dup2(output, STDOUT_FILENO) < 0 || !cgi_is_request())
        return 255;
    (void)metrics_open(NULL, &metrics, NULL);
    int status = (int)cgi_serve(&handler, metrics, BODY_MAX, &why);
    return seen | status;
}

static void converse(const struct conversation *c)
{
    int in[2], out[2], end;
    char answer[4096];
    size_t got = 0;
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    int64_t begun_ms = clock_monotonic_ms();
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        (void)close(in[1]);
        (void)close(out[0]);
        if (c->closed_output) { /* closed on the other side too, before anything is written */
            char byte;
            if (read(in[0], &byte, 1) != 0)
                _exit(254);
        }
        _exit(run_child(c, in[0], out[1]));
    }
    (void)close(in[0]);
    (void)close(out[1]);
    if (c->closed_output) {
        (void)close(out[0]);
        (void)close(in[1]);
    } else {
        if (c->input.len)
            assert_int_equal(write(in[1], c->input.ptr, c->input.len), c->input.len);
        (void)close(in[1]);
        for (ssize_t n; (n = read(out[0], answer + got, sizeof answer - 1 - got)) > 0;)
            got += (size_t)n;
        (void)close(out[0]);
    }
    answer[got] = '\0';
    assert_int_equal(waitpid(child, &end, 0), child);
    assert_in_range(clock_monotonic_ms() - begun_ms, 0, PATIENCE_MS);
    const char *body = strstr(answer, "\r\n\r\n");
    if (!WIFEXITED(end) || WEXITSTATUS(end) != c->end)
        fail_msg("%s: got end %d, want %d", c->name, WIFEXITED(end) ? WEXITSTATUS(end) : -1, c->end);
    if (!c->body && got)
        fail_msg("%s: got an answer '%s'", c->name, answer);
    if (c->body &&
        (!body || strcmp(body + 4, c->body) != 0 || strncmp(answer, "Status: 200 OK\r\n", 16) != 0))
        fail_msg("%s: got '%s', want '%s'", c->name, answer, c->body);
}

static void test_conversations(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof CONVERSATIONS / sizeof CONVERSATIONS[0]; i++)
        converse(&CONVERSATIONS[i]);
}

static void test_lengths(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t max;
        enum body_state want;
        size_t len;
    } cases[] = {
        {"", 10, BODY_COMPLETE, 0},
        {"0", 0, BODY_COMPLETE, 0},
        {"1", 0, BODY_TOO_LARGE, 0},
        {"10", 10, BODY_COMPLETE, 10},
        {"11", 10, BODY_TOO_LARGE, 0},
        {"18446744073709551615", SIZE_MAX, BODY_COMPLETE, SIZE_MAX},
        {"18446744073709551616", SIZE_MAX, BODY_TOO_LARGE, 0},
        {"1 ", 10, BODY_BAD_LENGTH, 0},
        {"99999999999999999999x", 10, BODY_BAD_LENGTH, 0},
        {"-0", 10, BODY_BAD_LENGTH, 0},
        {"1,1", 10, BODY_BAD_LENGTH, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t len = 77;
        enum body_state got = request_body_length(span_of(cases[i].text), cases[i].max, &len);
        if (got != cases[i].want || len != cases[i].len)
            fail_msg("'%s' of %zu: got %d, %zu; want %d, %zu", cases[i].text, cases[i].max, (int)got, len,
                     (int)cases[i].want, cases[i].len);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_conversations),
        cmocka_unit_test(test_lengths),
    };
    return cmocka_run_group_tests_name("cgi", tests, NULL, NULL);
}
