/* lib/mail/smtp against a server in this process that says what it is told. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handler/config.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/mail/transport.h"
#include "lib/net/http.h"
#include "tests/unit/freed.h"
#include "tests/unit/smtp_server.h"
#include "tests/unit/stored.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MESSAGE      "Subject: x\r\n\r\nHello\r\n.dot\r\n..two\r\n"
#define USER         "leads"
#define PASSWORD     "s3cr3t"

enum {
    SHORT_WAIT_MS = 1000, /* of the client, where the server hangs */
    LONG_WAIT_MS = 60000  /* of the client, where it does not */
};

static const char *name_of(enum mail_outcome outcome)
{
    static const char *const names[] = {"accepted", "transient", "permanent", "configuration", "ambiguous"};
    return names[outcome];
}

static struct mail_transport *transport_to(unsigned int port, const struct mail_settings *more)
{
    char url[64];
    struct mail_settings settings = *more;
    struct mail_transport *transport = NULL;
    struct fail why;
    (void)snprintf(url, sizeof url, "smtp://127.0.0.1:%u", port);
    settings.url = span_of(url);
    settings.hello = SPAN_LIT("leads.example.com");
    if (!settings.reply_wait_ms)
        settings.reply_wait_ms = LONG_WAIT_MS;
    if (mail_transport_new(&settings, &transport, &why) != ST_OK)
        fail_msg("no transport: %s", why.text);
    return transport;
}

/* --- one message ---------------------------------------------------------------------------------------- */

#define NO_AUTH    "250-test\r\n250 SIZE 1000000\r\n"
#define LOGIN_ONLY "250-test\r\n250 AUTH LOGIN\r\n"
#define PLAIN_ONLY "250-test\r\n250 AUTH PLAIN\r\n"
#define DUPLICATE                                                                                            \
    "554 5.2.0 STOREDRV.Submission.Exception:StoragePermanentException."                                     \
    "MapiExceptionDuplicateDelivery; Failed to process\r\n"

static const struct {
    const char *name;
    struct rule rules[RULES_MAX];
    bool has_user, tls, hangs;
    bool again; /* an earlier attempt may have been accepted */
    enum mail_outcome want;
    int peer;
    const char *text;     /* part of the reason */
    const char *commands; /* what the server saw */
} cases[] = {
    {.name = "accepted", .want = MAIL_ACCEPTED, .commands = "CONNECT EHLO MAIL RCPT DATA . QUIT"},
    {.name = "accepted, several lines",
     .rules = {{".", "250-ok\r\n250-still\r\n250 queued\r\n"}},
     .want = MAIL_ACCEPTED},
    {.name = "251 at the dot", .rules = {{".", "251 forwarded\r\n"}}, .want = MAIL_ACCEPTED},
    {.name = "252 at the dot", .rules = {{".", "252 well\r\n"}}, .want = MAIL_ACCEPTED},
    {.name = "accepted, then dropped", .rules = {{"QUIT", DROP}}, .want = MAIL_ACCEPTED},
    {.name = "accepted, QUIT without an answer", .rules = {{"QUIT", HANG}}, .want = MAIL_ACCEPTED},

    {.name = "logged in, PLAIN",
     .has_user = true,
     .rules = {{"EHLO", PLAIN_ONLY}},
     .want = MAIL_ACCEPTED,
     .commands = "CONNECT EHLO AUTH LOGIN MAIL RCPT DATA . QUIT"},
    {.name = "logged in, LOGIN",
     .has_user = true,
     .rules = {{"EHLO", LOGIN_ONLY}},
     .want = MAIL_ACCEPTED,
     .commands = "CONNECT EHLO AUTH LOGIN LOGIN MAIL RCPT DATA . QUIT"},
    {.name = "no login on offer",
     .has_user = true,
     .rules = {{"EHLO", NO_AUTH}},
     .want = MAIL_CONFIGURATION,
     .text = "offers no login"},
    {.name = "login offered in lower case",
     .has_user = true,
     .rules = {{"EHLO", "250-test\r\n250 auth plain\r\n"}},
     .want = MAIL_CONFIGURATION,
     .text = "offers no login"},
    {.name = "only other ways to log in",
     .has_user = true,
     .rules = {{"EHLO", "250-test\r\n250 AUTH XOAUTH2 CRAM-MD5\r\n"}},
     .want = MAIL_CONFIGURATION,
     .text = "neither PLAIN nor LOGIN"},
    {.name = "login refused",
     .has_user = true,
     .rules = {{"LOGIN", "535 5.7.8 wrong\r\n"}},
     .want = MAIL_CONFIGURATION,
     .peer = 535,
     .text = "mail_password): 535 5.7.8 wrong"},
    {.name = "the password is repeated",
     .has_user = true,
     .rules = {{"LOGIN", "535-5.7.8 wrong\r\n535 leads/" PASSWORD " is unknown\r\n"}},
     .want = MAIL_CONFIGURATION,
     .text = "mail_password): 535, in words that hold the password"},
    {.name = "the command with the password is repeated",
     .has_user = true,
     .rules = {{"RCPT", "550 what is 'AGxlYWRzAHMzY3IzdA=='?\r\n"}},
     .want = MAIL_PERMANENT,
     .text = "answered: 550, in words that hold the password"},
    {.name = "the line with the password is repeated",
     .has_user = true,
     .rules = {{"MAIL", "451 what is 'czNjcjN0'?\r\n"}},
     .want = MAIL_TRANSIENT,
     .text = "answered: 451, in words that hold the password"},
    {.name = "login not possible now",
     .has_user = true,
     .rules = {{"LOGIN", "454 4.7.0 later\r\n"}},
     .want = MAIL_TRANSIENT,
     .peer = 454},
    {.name = "login challenged again",
     .has_user = true,
     .rules = {{"EHLO", PLAIN_ONLY}, {"LOGIN", "334 e30=\r\n"}},
     .want = MAIL_CONFIGURATION},
    {.name = "login without an answer", .has_user = true, .rules = {{"LOGIN", DROP}}, .want = MAIL_TRANSIENT},
    {.name = "login accepted with another code",
     .has_user = true,
     .rules = {{"LOGIN", "250 ok\r\n"}},
     .want = MAIL_CONFIGURATION},
    {.name = "login demanded",
     .rules = {{"MAIL", "530 5.7.0 Authentication required\r\n"}},
     .want = MAIL_CONFIGURATION,
     .peer = 530},

    {.name = "no STARTTLS",
     .tls = true,
     .want = MAIL_CONFIGURATION,
     .text = "offers no STARTTLS",
     .commands = "CONNECT EHLO"},
    {.name = "STARTTLS in lower case",
     .tls = true,
     .rules = {{"EHLO", "250-test\r\n250 starttls\r\n"}},
     .want = MAIL_CONFIGURATION,
     .text = "offers no STARTTLS"},
    {.name = "STARTTLS refused",
     .tls = true,
     .rules = {{"EHLO", "250-test\r\n250 STARTTLS\r\n"}, {"?", "454 not now\r\n"}},
     .want = MAIL_CONFIGURATION},

    {.name = "greeting 554",
     .rules = {{"CONNECT", "554 5.7.1 no service here\r\n"}},
     .want = MAIL_TRANSIENT,
     .peer = 554},
    {.name = "greeting 421", .rules = {{"CONNECT", "421 busy\r\n"}}, .want = MAIL_TRANSIENT, .peer = 421},
    {.name = "EHLO and HELO refused",
     .rules = {{"EHLO", "502 no\r\n"}, {"HELO", "550 no\r\n"}},
     .want = MAIL_TRANSIENT},
    {.name = "sender refused for now",
     .rules = {{"MAIL", "451 4.3.0 later\r\n"}},
     .want = MAIL_TRANSIENT,
     .peer = 451,
     .text = "451 4.3.0 later"},
    {.name = "sender refused", .rules = {{"MAIL", "550 5.1.8 no\r\n"}}, .want = MAIL_PERMANENT, .peer = 550},
    {.name = "recipient refused for now",
     .rules = {{"RCPT", "450 greylisted\r\n"}},
     .want = MAIL_TRANSIENT,
     .peer = 450},
    {.name = "recipient refused, in many words",
     .rules =
         {{"RCPT",
           "550-5.1.1 <to@example.com>: to%40example.com unknown, ask\r\n550-5.1.1 postmaster@example.com or <\"o d d\"@x>\r\n"
           "550 5.1.1 at once\r\n"}},
     .want = MAIL_PERMANENT,
     .peer = 550,
     .text = "550-5.1.1 <...>: <...> unknown, ask 550-5.1.1 <...> or <...> 550 5.1.1 at once"},
    {.name = "552 at the recipient",
     .rules = {{"RCPT", "552 too many\r\n"}},
     .want = MAIL_TRANSIENT,
     .peer = 552},
    {.name = "basic login retired",
     .rules = {{"RCPT", "550 5.7.30 Basic authentication is not supported\r\n"}},
     .want = MAIL_CONFIGURATION,
     .peer = 550},
    {.name = "DATA refused for now",
     .rules = {{"DATA", "451 later\r\n"}},
     .want = MAIL_TRANSIENT,
     .peer = 451},
    {.name = "DATA refused", .rules = {{"DATA", "554 no\r\n"}}, .want = MAIL_PERMANENT, .peer = 554},
    {.name = "message refused for now",
     .rules = {{".", "450 4.2.0 later\r\n"}},
     .want = MAIL_TRANSIENT,
     .peer = 450,
     .text = "450 4.2.0 later"},
    {.name = "message refused",
     .rules = {{".", "554 5.7.1 spam\r\n"}},
     .want = MAIL_PERMANENT,
     .peer = 554,
     .text = "554 5.7.1 spam"},
    {.name = "Exchange has it already, from an attempt without an answer",
     .again = true,
     .rules = {{".", DUPLICATE}},
     .want = MAIL_ACCEPTED},
    {.name = "Exchange has it already, and we know of no other attempt",
     .rules = {{".", DUPLICATE}},
     .want = MAIL_PERMANENT},
    {.name = "Exchange has it already, but says so too early",
     .again = true,
     .rules = {{"MAIL", DUPLICATE}},
     .want = MAIL_PERMANENT},

    {.name = "dropped at the greeting", .rules = {{"CONNECT", DROP}}, .want = MAIL_TRANSIENT},
    {.name = "dropped at EHLO", .rules = {{"EHLO", DROP}}, .want = MAIL_TRANSIENT},
    {.name = "dropped at MAIL", .rules = {{"MAIL", DROP}}, .want = MAIL_TRANSIENT},
    {.name = "dropped at RCPT", .rules = {{"RCPT", DROP}}, .want = MAIL_TRANSIENT},
    {.name = "dropped at DATA", .rules = {{"DATA", DROP}}, .want = MAIL_TRANSIENT},
    {.name = "dropped after the dot",
     .rules = {{".", DROP}},
     .want = MAIL_AMBIGUOUS,
     .peer = 354,
     .text = "may have been"},
    {.name = "the beginning of a reply, then dropped",
     .rules = {{".", "25"}, {"GONE", DROP}},
     .want = MAIL_AMBIGUOUS},
    {.name = "a reply without its last line, then dropped",
     .rules = {{".", "250-ok\r\n"}, {"GONE", DROP}},
     .want = MAIL_AMBIGUOUS},
    {.name = "nonsense after the dot", .rules = {{".", "hello\r\n"}}, .hangs = true, .want = MAIL_AMBIGUOUS},

    {.name = "hangs at the greeting", .rules = {{"CONNECT", HANG}}, .hangs = true, .want = MAIL_TRANSIENT},
    {.name = "hangs at EHLO", .rules = {{"EHLO", HANG}}, .hangs = true, .want = MAIL_TRANSIENT},
    {.name = "hangs at the login",
     .rules = {{"AUTH", HANG}},
     .has_user = true,
     .hangs = true,
     .want = MAIL_TRANSIENT},
    {.name = "hangs at MAIL", .rules = {{"MAIL", HANG}}, .hangs = true, .want = MAIL_TRANSIENT},
    {.name = "hangs at DATA", .rules = {{"DATA", HANG}}, .hangs = true, .want = MAIL_TRANSIENT},
    {.name = "hangs after the dot",
     .rules = {{".", HANG}},
     .hangs = true,
     .want = MAIL_AMBIGUOUS,
     .text = "no answer"},
};

struct fence {
    size_t calls;
    bool answer;
    _Atomic bool *stop;
};

static bool fence(void *context)
{
    struct fence *f = context;
    f->calls++;
    if (f->stop)
        atomic_store(f->stop, true);
    return f->answer;
}

static enum mail_outcome send_text(struct mail_transport *transport, struct span message, struct fence *f,
                                   struct fail *why)
{
    *why = (struct fail){0};
    return mail_send(transport, SPAN_LIT("from@example.com"), SPAN_LIT("to@example.com"), message,
                     f ? fence : NULL, f, why);
}

static enum mail_outcome send_text_again(struct mail_transport *transport, struct span message,
                                         struct fence *f, struct fail *why)
{
    *why = (struct fail){0};
    return mail_send_again(transport, SPAN_LIT("from@example.com"), SPAN_LIT("to@example.com"), message,
                           fence, f, why);
}

static bool has(const struct buf *text, const char *needle)
{
    return text->len && memmem(text->data, text->len, needle, strlen(needle)) != NULL;
}

static void run_case(size_t i)
{
    struct server server;
    struct fail why;
    struct fence f = {.answer = true};
    struct mail_settings settings = {.tls_off = !cases[i].tls,
                                     .reply_wait_ms = cases[i].hangs ? SHORT_WAIT_MS : LONG_WAIT_MS};
    if (cases[i].has_user) {
        settings.user = SPAN_LIT(USER);
        settings.password = SPAN_LIT(PASSWORD);
    }
    server_start(&server, cases[i].rules);
    struct mail_transport *transport = transport_to(server.port, &settings);
    int64_t begin = clock_monotonic_ms();
    enum mail_outcome got =
        (cases[i].again ? send_text_again : send_text)(transport, SPAN_LIT(MESSAGE), &f, &why);
    mail_transport_free(transport);
    server_stop(&server);

    if (got != cases[i].want)
        fail_msg("%s: got %s (%d, %s), want %s", cases[i].name, name_of(got), why.peer, why.text,
                 name_of(cases[i].want));
    if (cases[i].peer && why.peer != cases[i].peer)
        fail_msg("%s: got reply %d, want %d", cases[i].name, why.peer, cases[i].peer);
    if (cases[i].text && !strstr(why.text, cases[i].text))
        fail_msg("%s: got reason '%s', want '%s' in it", cases[i].name, why.text, cases[i].text);
    if (cases[i].commands && strcmp(server.commands.data, cases[i].commands) != 0)
        fail_msg("%s: got '%s', want '%s'", cases[i].name, server.commands.data, cases[i].commands);
    if (got != MAIL_ACCEPTED && why.text[0] == '\0')
        fail_msg("%s: no reason", cases[i].name);
    if (strchr(why.text, '@') || strstr(why.text, PASSWORD))
        fail_msg("%s: the reason quotes what it must not: %s", cases[i].name, why.text);
    if (clock_monotonic_ms() - begin > LONG_WAIT_MS / 4)
        fail_msg("%s: took %lld ms", cases[i].name, (long long)(clock_monotonic_ms() - begin));
    /* Complete on the server and the fence passed mean the same; accepted is only what is complete, and what
     * every message would run into is noticed before. */
    bool may_be_complete = got != MAIL_CONFIGURATION, must_be = got == MAIL_ACCEPTED || got == MAIL_AMBIGUOUS;
    if (server.complete != (f.calls == 1) || (must_be && !server.complete) ||
        (!may_be_complete && server.complete))
        fail_msg("%s: %s, complete %d, fence called %zu times", cases[i].name, name_of(got), server.complete,
                 f.calls);
    if (server.complete && !span_eq(buf_span(&server.body), SPAN_LIT(MESSAGE)))
        fail_msg("%s: the server got '%s'", cases[i].name, server.body.data);
    server_release(&server);
}

static void test_dialogues(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++)
        run_case(i);
}

static void test_commands(void **state)
{
    (void)state;
    struct server server;
    struct fail why;
    struct mail_settings settings = {.tls_off = true, .user = SPAN_LIT(USER), .password = SPAN_LIT(PASSWORD)};
    server_start(&server, NULL);
    struct mail_transport *transport = transport_to(server.port, &settings);
    assert_int_equal(send_text(transport, SPAN_LIT(MESSAGE), NULL, &why), MAIL_ACCEPTED);
    mail_transport_free(transport);
    server_stop(&server);
    /* base64 of "\0leads\0s3cr3t" */
    assert_string_equal(server.lines.data, "EHLO leads.example.com\r\nAUTH PLAIN\r\nAGxlYWRzAHMzY3IzdA==\r\n"
                                           "MAIL FROM:<from@example.com> SIZE=34\r\n"
                                           "RCPT TO:<to@example.com>\r\nDATA\r\nQUIT\r\n");
    server_release(&server);
}

/* --- sizes ---------------------------------------------------------------------------------------------- */

/* A message of exactly so many bytes, with dots at the beginnings of lines. */
static void fill(struct buf *message, size_t len)
{
    buf_add_text(message, "Subject: x\r\n\r\n");
    while (message->len < len) {
        size_t left = len - message->len;
        size_t text = left >= 2 * 76 ? 74 : left - 2;
        if (text > 300)
            text = 74;
        for (size_t i = 0; i < text; i++)
            buf_add_char(message, i < 2 ? '.' : (char)('a' + i % 26));
        buf_add_text(message, "\r\n");
    }
    assert_int_equal(message->len, len);
}

static void test_sizes(void **state)
{
    (void)state;
    static const size_t sizes[] = {64,    16383, 16384,  16385,  32768,           65535,
                                   65536, 65537, 131072, 200000, LIMIT_MAIL_BYTES};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct server server;
        struct fail why;
        struct fence f = {.answer = true};
        struct mail_settings settings = {.tls_off = true};
        struct buf message = BUF_INIT(LIMIT_MAIL_BYTES);
        fill(&message, sizes[i]);
        server_start(&server, NULL);
        struct mail_transport *transport = transport_to(server.port, &settings);
        enum mail_outcome got = send_text(transport, buf_span(&message), &f, &why);
        mail_transport_free(transport);
        server_stop(&server);
        if (got != MAIL_ACCEPTED || !span_eq(buf_span(&server.body), buf_span(&message)) || f.calls != 1)
            fail_msg("%zu bytes: %s %s, %zu arrived, fence called %zu times", sizes[i], name_of(got),
                     why.text, server.body.len, f.calls);
        buf_release(&message);
        server_release(&server);
    }
}

/* --- fence and stop ------------------------------------------------------------------------------------- */

static void test_fence_refuses(void **state)
{
    (void)state;
    static const size_t sizes[] = {64, LIMIT_MAIL_BYTES};
    for (size_t i = 0; i < COUNT(sizes); i++) {
        struct server server;
        struct fail why;
        struct fence f = {.answer = false};
        struct mail_settings settings = {.tls_off = true};
        struct buf message = BUF_INIT(LIMIT_MAIL_BYTES);
        fill(&message, sizes[i]);
        server_start(&server, NULL);
        struct mail_transport *transport = transport_to(server.port, &settings);
        assert_int_equal(send_text(transport, buf_span(&message), &f, &why), MAIL_TRANSIENT);
        mail_transport_free(transport);
        server_stop(&server);
        assert_int_equal(f.calls, 1);
        assert_false(server.complete);
        assert_true(server.body.len < sizes[i]);
        buf_release(&message);
        server_release(&server);
    }
}

/* At shutdown what hangs before the final bytes is broken off at once, although the wait is long. */
static void test_stop_before_the_end(void **state)
{
    (void)state;
    static const struct rule hangs[][RULES_MAX] = {{{"CONNECT", HANG}}, {{"RCPT", HANG}}};
    for (size_t i = 0; i < COUNT(hangs); i++) {
        struct server server;
        struct fail why;
        _Atomic bool stopping = false;
        struct mail_settings settings = {.tls_off = true, .stop = &stopping};
        server_start(&server, hangs[i]);
        server.stop_at_hang = &stopping;
        struct mail_transport *transport = transport_to(server.port, &settings);
        int64_t begin = clock_monotonic_ms();
        assert_int_equal(send_text(transport, SPAN_LIT(MESSAGE), NULL, &why), MAIL_TRANSIENT);
        assert_true(clock_monotonic_ms() - begin < LONG_WAIT_MS / 4);
        assert_non_null(strstr(why.text, "ending"));
        mail_transport_free(transport);
        server_stop(&server);
        assert_false(server.complete);
        server_release(&server);
    }
}

/* With all bytes out the reply is waited for. */
static void test_stop_after_the_end(void **state)
{
    (void)state;
    struct server server;
    struct fail why;
    _Atomic bool stopping = false;
    struct fence f = {.answer = true, .stop = &stopping};
    struct mail_settings settings = {.tls_off = true, .stop = &stopping};
    server_start(&server, NULL);
    struct mail_transport *transport = transport_to(server.port, &settings);
    assert_int_equal(send_text(transport, SPAN_LIT(MESSAGE), &f, &why), MAIL_ACCEPTED);
    mail_transport_free(transport);
    server_stop(&server);
    assert_true(server.complete);
    server_release(&server);
}

/* --- what never reaches a server ------------------------------------------------------------------------ */

static void test_refused_before_connecting(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct span from, to, message;
    } bad[] = {
        {"a bare line feed", SPAN_LIT("a@b.c"), SPAN_LIT("d@e.f"), SPAN_LIT("x\n.\r\n")},
        {"a bare carriage return", SPAN_LIT("a@b.c"), SPAN_LIT("d@e.f"), SPAN_LIT("x\ry\r\n")},
        {"8 bits", SPAN_LIT("a@b.c"), SPAN_LIT("d@e.f"), SPAN_LIT("\xC3\xB6\r\n")},
        {"NUL", SPAN_LIT("a@b.c"), SPAN_LIT("d@e.f"), SPAN_LIT("a\0b\r\n")},
        {"no line end", SPAN_LIT("a@b.c"), SPAN_LIT("d@e.f"), SPAN_LIT("a")},
        {"CR at the end", SPAN_LIT("a@b.c"), SPAN_LIT("d@e.f"), SPAN_LIT("a\r\nb\r")},
        {"empty", SPAN_LIT("a@b.c"), SPAN_LIT("d@e.f"), SPAN_LIT("")},
        {"sender with CR LF", SPAN_LIT("a@b.c>\r\nRCPT TO:<x@y.z"), SPAN_LIT("d@e.f"), SPAN_LIT(MESSAGE)},
        {"recipient with CR LF", SPAN_LIT("a@b.c"), SPAN_LIT("d@e.f>\r\nRCPT TO:<x@y.z"), SPAN_LIT(MESSAGE)},
        {"recipient with LF", SPAN_LIT("a@b.c"), SPAN_LIT("d@e.f\n"), SPAN_LIT(MESSAGE)},
        {"recipient with a blank", SPAN_LIT("a@b.c"), SPAN_LIT("d@e.f SIZE=1"), SPAN_LIT(MESSAGE)},
        {"recipient in brackets", SPAN_LIT("a@b.c"), SPAN_LIT("<d@e.f>"), SPAN_LIT(MESSAGE)},
        {"two recipients", SPAN_LIT("a@b.c"), SPAN_LIT("d@e.f,g@h.i"), SPAN_LIT(MESSAGE)},
        {"recipient outside ASCII", SPAN_LIT("a@b.c"), SPAN_LIT("\xC3\xB6@e.f"), SPAN_LIT(MESSAGE)},
        {"no recipient", SPAN_LIT("a@b.c"), SPAN_LIT(""), SPAN_LIT(MESSAGE)},
        {"no sender", SPAN_LIT(""), SPAN_LIT("d@e.f"), SPAN_LIT(MESSAGE)},
    };
    struct server server;
    struct mail_settings settings = {.tls_off = true};
    server_start(&server, NULL);
    struct mail_transport *transport = transport_to(server.port, &settings);
    for (size_t i = 0; i < COUNT(bad); i++) {
        struct fail why = {0};
        enum mail_outcome got =
            mail_send(transport, bad[i].from, bad[i].to, bad[i].message, NULL, NULL, &why);
        if (got != MAIL_PERMANENT || strchr(why.text, '@'))
            fail_msg("%s: got %s, %s", bad[i].name, name_of(got), why.text);
    }
    mail_transport_free(transport);
    server_stop(&server);
    assert_int_equal(server.commands.len, 0);
    server_release(&server);
}

static void test_line_length(void **state)
{
    (void)state;
    for (size_t len = 998; len <= 999; len++) {
        struct server server;
        struct fail why;
        struct mail_settings settings = {.tls_off = true};
        struct buf message = BUF_INIT(4096);
        for (size_t i = 0; i < len; i++)
            buf_add_char(&message, 'a');
        buf_add_text(&message, "\r\n");
        server_start(&server, NULL);
        struct mail_transport *transport = transport_to(server.port, &settings);
        assert_int_equal(send_text(transport, buf_span(&message), NULL, &why),
                         len == 998 ? MAIL_ACCEPTED : MAIL_PERMANENT);
        mail_transport_free(transport);
        server_stop(&server);
        buf_release(&message);
        server_release(&server);
    }
}

/* --- settings ------------------------------------------------------------------------------------------- */

static void test_settings(void **state)
{
    (void)state;
    static const struct {
        struct span url;
        bool tls_off;
        struct span hello, user, password;
        const char *text; /* of the refusal, or NULL */
    } urls[] = {
        {.url = SPAN_LIT("smtps://mail.example.com:465")},
        {.url = SPAN_LIT("smtp://mail.example.com:587/")},
        {.url = SPAN_LIT("smtp://mail.example.com")},
        {.url = SPAN_LIT("smtps://[2001:db8::1]:465"), .hello = SPAN_LIT("[127.0.0.1]")},
        {.url = SPAN_LIT("smtp://localhost:25"), .tls_off = true},
        {.url = SPAN_LIT("smtp://127.1.2.3:25"), .tls_off = true},
        {.url = SPAN_LIT("smtp://[::1]:25"), .tls_off = true},
        {.url = SPAN_LIT("maildir:/var/mail/leads")},
        {.url = SPAN_LIT("smtp://mail.example.com:25"), .tls_off = true, .text = "on this machine only"},
        {.url = SPAN_LIT("smtp://192.0.2.127:25"), .tls_off = true, .text = "on this machine only"},
        {.url = SPAN_LIT("smtp://127.example.com:25"), .tls_off = true, .text = "on this machine only"},
        {.url = SPAN_LIT("smtp://127.0.0.1.evil:25"), .tls_off = true, .text = "on this machine only"},
        {.url = SPAN_LIT("smtp://localhost.evil:25"), .tls_off = true, .text = "on this machine only"},
        {.url = SPAN_LIT("smtp://::1:25"), .tls_off = true, .text = "on this machine only"},
        {.url = SPAN_LIT("smtp://[127.0.0.1]:25"), .tls_off = true, .text = "on this machine only"},
        {.url = SPAN_LIT("smtp://[::2]:25"), .tls_off = true, .text = "on this machine only"},
        {.url = SPAN_LIT("smtps://localhost:465"), .tls_off = true, .text = "always uses TLS"},
        {.url = SPAN_LIT(""), .text = "must be smtps://"},
        {.url = SPAN_LIT("http://mail.example.com"), .text = "must be smtps://"},
        {.url = SPAN_LIT("smtp://"), .text = "must name a host"},
        {.url = SPAN_LIT("smtp://:587"), .text = "must name a host"},
        {.url = SPAN_LIT("smtp://me:pw@mail.example.com"), .text = "no user, no path"},
        {.url = SPAN_LIT("smtp://mail.example.com:587/x"), .text = "no user, no path"},
        {.url = SPAN_LIT("smtp://mail.example.com:587?x"), .text = "no user, no path"},
        {.url = SPAN_LIT("smtp://mail.example.com\r\n"), .text = "no user, no path"},
        {.url = SPAN_LIT("smtp://mail.example.com:0"), .text = "1 to 65535"},
        {.url = SPAN_LIT("smtp://mail.example.com:65536"), .text = "1 to 65535"},
        {.url = SPAN_LIT("smtp://mail.example.com:"), .text = "1 to 65535"},
        {.url = SPAN_LIT("smtp://mail.example.com\0.evil:587"), .text = "NUL"},
        {.url = SPAN_LIT("smtp://m.example.com:587"), .hello = SPAN_LIT("a b"), .text = "mail_hello"},
        {.url = SPAN_LIT("smtp://m.example.com:587"), .hello = SPAN_LIT("a%0D%0Ab"), .text = "mail_hello"},
        {.url = SPAN_LIT("smtp://m.example.com:587"),
         .password = SPAN_LIT(PASSWORD),
         .text = "needs mail_user"},
        {.url = SPAN_LIT("smtp://m.example.com:587"),
         .user = SPAN_LIT(USER),
         .password = SPAN_LIT("a\0b"),
         .text = "NUL"},
        {.url = SPAN_LIT("maildir:Maildir"), .text = "absolute path"},
        {.url = SPAN_LIT("maildir:"), .text = "absolute path"},
    };
    for (size_t i = 0; i < COUNT(urls); i++) {
        struct mail_settings settings = {.url = urls[i].url,
                                         .tls_off = urls[i].tls_off,
                                         .hello = urls[i].hello,
                                         .user = urls[i].user,
                                         .password = urls[i].password};
        struct mail_transport *transport = NULL;
        struct fail why = {0};
        enum status status = mail_transport_new(&settings, &transport, &why);
        mail_transport_free(transport);
        if ((status == ST_OK) != (urls[i].text == NULL) || (urls[i].text && !strstr(why.text, urls[i].text)))
            fail_msg("'%.*s': got %s '%s', want '%s'", SPAN_FMT(urls[i].url), status_name(status), why.text,
                     urls[i].text ? urls[i].text : "ok");
    }
}

/* --- probing -------------------------------------------------------------------------------------------- */

static void test_probe(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct rule rules[RULES_MAX];
        bool has_user, tls;
        enum mail_outcome want;
        const char *text, *commands;
    } probes[] = {
        {.name = "ok", .want = MAIL_ACCEPTED, .commands = "CONNECT EHLO NOOP QUIT"},
        {.name = "with login",
         .has_user = true,
         .want = MAIL_ACCEPTED,
         .commands = "CONNECT EHLO AUTH LOGIN NOOP QUIT"},
        {.name = "login refused",
         .has_user = true,
         .rules = {{"LOGIN", "535 5.7.8 wrong\r\n"}},
         .want = MAIL_CONFIGURATION,
         .text = "535 5.7.8 wrong"},
        {.name = "no login on offer",
         .has_user = true,
         .rules = {{"EHLO", NO_AUTH}},
         .want = MAIL_CONFIGURATION,
         .text = "offers no login"},
        {.name = "no STARTTLS", .tls = true, .want = MAIL_CONFIGURATION, .text = "offers no STARTTLS"},
        {.name = "dropped", .rules = {{"EHLO", DROP}}, .want = MAIL_TRANSIENT},
    };
    for (size_t i = 0; i < COUNT(probes); i++) {
        struct server server;
        struct fail why = {0};
        struct mail_settings settings = {.tls_off = !probes[i].tls};
        if (probes[i].has_user) {
            settings.user = SPAN_LIT(USER);
            settings.password = SPAN_LIT(PASSWORD);
        }
        server_start(&server, probes[i].rules);
        struct mail_transport *transport = transport_to(server.port, &settings);
        enum mail_outcome got = mail_probe(transport, &why);
        mail_transport_free(transport);
        server_stop(&server);
        if (got != probes[i].want || (probes[i].text && !strstr(why.text, probes[i].text)) ||
            (probes[i].commands && strcmp(server.commands.data, probes[i].commands) != 0))
            fail_msg("%s: got %s '%s' after '%s'", probes[i].name, name_of(got), why.text,
                     server.commands.data);
        assert_false(has(&server.lines, "MAIL FROM"));
        server_release(&server);
    }
}

static void test_nobody_listens(void **state)
{
    (void)state;
    struct server server;
    struct fail why;
    struct mail_settings settings = {.tls_off = true};
    server_start(&server, NULL);
    struct mail_transport *transport = transport_to(server.port, &settings);
    server_stop(&server); /* the port was free a moment ago */
    assert_int_equal(send_text(transport, SPAN_LIT(MESSAGE), NULL, &why), MAIL_TRANSIENT);
    assert_true(why.text[0] != '\0');
    mail_transport_free(transport);
    server_release(&server);
}

/* Ours, and what libcurl has made of it: as it is, and as each kind of login puts it on the line. */
static void test_password_is_wiped(void **state)
{
    (void)state;
    static const struct {
        const char *methods, *secret;
    } rows[] = {
        {PLAIN_ONLY, PASSWORD},
        {PLAIN_ONLY, "AGxlYWRzAHMzY3IzdA=="},
        {LOGIN_ONLY, PASSWORD},
        {LOGIN_ONLY, "czNjcjN0"},
    };
    for (size_t i = 0; freed_is_watched() && i < COUNT(rows); i++) {
        struct server server;
        struct rule rules[RULES_MAX] = {{"EHLO", rows[i].methods}};
        struct mail_settings settings = {
            .tls_off = true, .user = SPAN_LIT(USER), .password = SPAN_LIT(PASSWORD)};
        struct fail why;
        server_start(&server, rules);
        watch_freed(rows[i].secret, strlen(rows[i].secret));
        struct mail_transport *transport = transport_to(server.port, &settings);
        assert_int_equal(send_text(transport, SPAN_LIT(MESSAGE), NULL, &why), MAIL_ACCEPTED);
        mail_transport_free(transport);
        size_t blocks = freed.blocks, found = freed.found;
        watch_freed(NULL, 0);
        server_stop(&server);
        if (blocks == 0 || found > 0)
            fail_msg("'%s' in %zu of %zu blocks", rows[i].secret, found, blocks);
        assert_true(has(&server.lines, rows[i].secret) || strcmp(rows[i].secret, PASSWORD) == 0);
        server_release(&server);
    }
}

/* As the programs do before anything else; libcurl must not be made ready by it, with other memory than ours. */
static bool read_configuration(void)
{
    char folder[] = "/tmp/leadhook-smtp-XXXXXX";
    char keys[64], path[64];
    struct config config;
    struct buf mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    if (!mkdtemp(folder))
        return false;
    (void)snprintf(keys, sizeof keys, "%s/keys", folder);
    (void)snprintf(path, sizeof path, "%s/leadhook.conf", folder);
    FILE *file = fopen(path, "w");
    bool is_read = file &&
                   fprintf(file,
                           "keys_file = %s\nstore = sqlite:%s/leads.db\nmail_url = smtps://localhost\n"
                           "mail_from = a@example.com\nmail_to = b@example.com\n",
                           keys, folder) > 0 &&
                   fclose(file) == 0 && config_read(path, &config, &mistakes) == ST_OK;
    if (is_read)
        config_release(&config);
    else
        (void)fprintf(stderr, "%s\n", mistakes.data ? mistakes.data : "no file");
    buf_release(&mistakes);
    return remove_folder(folder) == 0 && is_read;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dialogues),
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_fence_refuses),
        cmocka_unit_test(test_stop_before_the_end),
        cmocka_unit_test(test_stop_after_the_end),
        cmocka_unit_test(test_refused_before_connecting),
        cmocka_unit_test(test_line_length),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_probe),
        cmocka_unit_test(test_nobody_listens),
        cmocka_unit_test(test_password_is_wiped),
    };
    (void)signal(SIGPIPE, SIG_IGN); /* as the programs do */
    if (!read_configuration() || http_global_init(NULL) != ST_OK)
        return 1;
    int failed = cmocka_run_group_tests_name("smtp", tests, NULL, NULL);
    curl_global_cleanup();
    return failed;
}
