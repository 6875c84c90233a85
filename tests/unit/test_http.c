/* lib/net/http against a scripted server. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/limits.h"
#include "lib/net/certificate.h"
#include "lib/net/http.h"
#include "lib/net/loopback.h"
#include "tests/unit/scripted_server.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define SECRET       "s3cr3t"

/* --- the client ----------------------------------------------------------------------------------------- */

static const char *const no_headers[] = {NULL};

static struct http_client *new_client(bool is_plain, const char *ca_file)
{
    struct http_options options = {.is_plain = is_plain, .ca_file = ca_file};
    struct http_client *client;
    struct fail why;
    assert_int_equal(http_client_new(&options, &client, &why), ST_OK);
    return client;
}

static struct http_exchange new_exchange(char url[128], const char *scheme, const char *path)
{
    (void)snprintf(url, 128, "%s://127.0.0.1:%u%s", scheme, server.connections.port, path);
    return (struct http_exchange){.url = url, .headers = no_headers, .answer_max_bytes = 1000};
}

static void run(struct http_client *client, struct http_exchange *exchange, int64_t wait_ms)
{
    struct http_exchange *exchanges[] = {exchange};
    http_run(client, exchanges, 1, clock_monotonic_ms() + wait_ms);
    wait_for_server(0);
    if (exchange->status != ST_OK) {
        assert_int_equal(exchange->why.code, exchange->status);
        if (strstr(exchange->why.text, SECRET))
            fail_msg("a secret in \"%s\"", exchange->why.text);
    }
}

static void expect(const char *label, const struct http_exchange *exchange, enum status want)
{
    if (exchange->status != want)
        fail_msg("%s: got %s (%s), want %s", label, status_name(exchange->status),
                 exchange->status == ST_OK ? "" : exchange->why.text, status_name(want));
}

#define OK_ANSWER "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

static void test_request(void **state)
{
    static const struct step steps[] = {{ANSWER, SPAN_LIT(OK_ANSWER)},
                                        {ANSWER, SPAN_LIT(OK_ANSWER)},
                                        {ANSWER, SPAN_LIT(OK_ANSWER)},
                                        {ANSWER, SPAN_LIT(OK_ANSWER)}};
    static const char *const headers[] = {"Accept: application/json", "Content-Type: text/x", NULL};
    struct http_client *client = new_client(true, NULL);
    char url[128], want[400];
    (void)state;
    play(steps, COUNT(steps));

    struct http_exchange get = new_exchange(url, "http", "/a/../b(PartitionKey='p%27',RowKey='.')?$top=1");
    get.headers = headers;
    run(client, &get, 5000);
    expect("get", &get, ST_OK);
    (void)snprintf(want, sizeof want,
                   "GET /a/../b(PartitionKey='p%%27',RowKey='.')?$top=1 HTTP/1.1\r\nHost: 127.0.0.1:%u\r\n"
                   "User-Agent: leadhook\r\nAccept: application/json\r\nContent-Type: text/x\r\n\r\n",
                   server.connections.port);
    assert_string_equal(server.last_request.data, want);
    http_exchange_release(&get);

    struct http_exchange post = new_exchange(url, "http", "/$batch");
    post.headers = headers;
    post.body = (struct span){"a\0b", 3};
    run(client, &post, 5000);
    expect("post", &post, ST_OK);
    (void)snprintf(want, sizeof want,
                   "POST /$batch HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUser-Agent: leadhook\r\n"
                   "Accept: application/json\r\nContent-Type: text/x\r\nContent-Length: 3\r\n\r\n",
                   server.connections.port);
    assert_int_equal(server.last_request.len, strlen(want) + 3);
    assert_memory_equal(server.last_request.data, want, strlen(want));
    assert_memory_equal(server.last_request.data + strlen(want), "a\0b", 3);
    http_exchange_release(&post);

    struct http_exchange empty = new_exchange(url, "http", "/");
    empty.body = SPAN_LIT("");
    run(client, &empty, 5000);
    expect("empty post", &empty, ST_OK);
    assert_memory_equal(server.last_request.data, "POST / ", 7);
    assert_non_null(strstr(server.last_request.data, "\r\nContent-Length: 0\r\n"));
    http_exchange_release(&empty);

    /* libcurl asks for permission before it sends a body over 1 MiB unless that is suppressed. */
    struct http_exchange large = new_exchange(url, "http", "/");
    char *body = calloc(1, 3 * 1024 * 1024);
    assert_non_null(body);
    large.body = (struct span){body, 3 * 1024 * 1024};
    run(client, &large, 5000);
    expect("large post", &large, ST_OK);
    assert_null(strstr(server.last_request.data, "Expect"));
    assert_true(server.last_request.len > large.body.len);
    free(body);
    http_exchange_release(&large);
    assert_int_equal(server.connections.count, 1); /* kept for all four */
    http_client_free(client);
}

static void test_answer(void **state)
{
    static const struct step steps[] = {
        {ANSWER, SPAN_LIT("HTTP/1.1 100 Continue\r\nETag: wrong\r\n\r\n"
                          "HTTP/1.1 404 Not Found\r\nDate: Sun, 11 Oct 2009 19:52:39 GMT\r\n"
                          "X-MS-Continuation-NextPartitionKey:  1!8!U21pdGg- \r\nETAG: W/\"x\"\r\n"
                          "ETagX: no\r\nEmpty:\r\nContent-Length: 5\r\n\r\na\0b\r\n")},
        {ANSWER,
         SPAN_LIT("HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n"
                  "Date: Sun, 11 Oct 2009 19:52:39 GMT\r\n\r\n")},
        {ANSWER, SPAN_LIT("HTTP/1.1 204 No Content\r\n\r\n")},
        {ANSWER,
         SPAN_LIT("HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")},
        {ANSWER_AND_CLOSE, SPAN_LIT("HTTP/1.1 200 OK\r\n\r\nup to the end")}};
    struct http_client *client = new_client(true, NULL);
    char url[128];
    (void)state;
    play(steps, COUNT(steps));
    struct http_exchange e = new_exchange(url, "http", "/");
    run(client, &e, 5000);
    expect("404", &e, ST_OK);
    assert_int_equal(e.code, 404);
    assert_int_equal(e.answer.len, 5);
    assert_memory_equal(e.answer.data, "a\0b\r\n", 5);
    assert_true(span_eq(http_header(&e, "x-ms-continuation-nextpartitionkey"), SPAN_LIT("1!8!U21pdGg-")));
    assert_true(span_eq(http_header(&e, "ETag"), SPAN_LIT("W/\"x\"")));
    assert_int_equal(http_header(&e, "Empty").len, 0);
    assert_int_equal(http_header(&e, "Absent").len, 0);
    assert_int_equal(http_header(&e, "HTTP/1.1 404 Not Found\r\nDate").len, 0);
    assert_true(http_date_ms(&e) == 1255290759000);
    http_exchange_release(&e);

    static const struct {
        int code;
        const char *body;
    } want[] = {{202, "abcde"}, {204, ""}, {302, ""}, {200, "up to the end"}};
    for (size_t i = 0; i < COUNT(want); i++) {
        e = new_exchange(url, "http", "/");
        run(client, &e, 5000);
        expect(want[i].body, &e, ST_OK);
        assert_int_equal(e.code, want[i].code);
        assert_true(span_eq(buf_span(&e.answer), span_of(want[i].body)));
        assert_true(http_date_ms(&e) == 0);
        http_exchange_release(&e);
    }
    assert_int_equal(server.requests, 5); /* the redirect was not followed */
    http_client_free(client);
}

/* What was sent decides, not how it failed. */
static void test_failures(void **state)
{
    static const struct {
        const char *label;
        struct step step;
        enum status want;
    } cases[] = {
        {"dropped after the request", {DROP, {0}}, ST_UNKNOWN},
        {"dropped within the status line", {ANSWER_AND_CLOSE, SPAN_LIT("HTTP/1.")}, ST_UNKNOWN},
        {"dropped within the header",
         {ANSWER_AND_CLOSE, SPAN_LIT("HTTP/1.1 200 OK\r\nContent-")},
         ST_UNKNOWN},
        {"dropped behind a header line", {ANSWER_AND_CLOSE, SPAN_LIT("HTTP/1.1 200 OK\r\n")}, ST_UNKNOWN},
        {"dropped before the blank line",
         {ANSWER_AND_CLOSE, SPAN_LIT("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n")},
         ST_UNKNOWN},
        {"dropped after 100 Continue",
         {ANSWER_AND_CLOSE, SPAN_LIT("HTTP/1.1 100 Continue\r\n\r\n")},
         ST_UNKNOWN},
        {"dropped within the body",
         {ANSWER_AND_CLOSE, SPAN_LIT("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")},
         ST_UNKNOWN},
        {"dropped within a chunk",
         {ANSWER_AND_CLOSE, SPAN_LIT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n123")},
         ST_UNKNOWN},
        {"dropped between chunks",
         {ANSWER_AND_CLOSE, SPAN_LIT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n123\r\n")},
         ST_UNKNOWN},
        {"not HTTP", {ANSWER_AND_CLOSE, SPAN_LIT("220 mail.example ESMTP\r\n")}, ST_UNKNOWN},
        {"malformed length",
         {ANSWER_AND_CLOSE, SPAN_LIT("HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n")},
         ST_UNKNOWN},
        {"malformed chunk",
         {ANSWER_AND_CLOSE, SPAN_LIT("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n")},
         ST_UNKNOWN},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct http_client *client = new_client(true, NULL);
        char url[128];
        play(&cases[i].step, 1);
        struct http_exchange e = new_exchange(url, "http", "/?sig=" SECRET);
        e.body = SPAN_LIT("body " SECRET);
        run(client, &e, 5000);
        expect(cases[i].label, &e, cases[i].want);
        http_exchange_release(&e);
        http_client_free(client);
    }
}

/* A connection that proves dead when it is used again costs nothing but another one. */
static void test_dead_connections(void **state)
{
    static const struct step steps[] = {{ANSWER_AND_CLOSE, SPAN_LIT(OK_ANSWER)},
                                        {ANSWER, SPAN_LIT(OK_ANSWER)},
                                        {DROP, {0}}, /* on the kept one: sent again by libcurl */
                                        {ANSWER, SPAN_LIT(OK_ANSWER)}};
    struct http_client *client = new_client(true, NULL);
    char url[128];
    (void)state;
    play(steps, COUNT(steps));
    for (size_t i = 0; i < 3; i++) {
        struct http_exchange e = new_exchange(url, "http", "/");
        e.body = SPAN_LIT("x");
        run(client, &e, 5000);
        expect("repeated", &e, ST_OK);
        http_exchange_release(&e);
        if (i == 0) {
            (void)pthread_mutex_lock(&server.mutex);
            while (server.open)
                (void)pthread_cond_wait(&server.changed, &server.mutex);
            (void)pthread_mutex_unlock(&server.mutex);
        }
    }
    assert_int_equal(server.requests, 4);
    assert_int_equal(server.connections.count, 3);
    http_client_free(client);
}

static void test_sizes(void **state)
{
    static const char exactly[] = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n";
    static const char over[] = "HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n";
    static const char chunked[] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n";
    struct http_client *client = new_client(true, NULL);
    struct buf text = BUF_INIT(100000), header = BUF_INIT(100000);
    char url[128];
    (void)state;
    static const struct {
        const char *head;
        size_t len;
        enum status want, error;
    } cases[] = {{exactly, 1000, ST_OK, ST_OK},
                 {over, 1001, ST_UNKNOWN, ST_TOO_LARGE},
                 {chunked, 1001, ST_UNKNOWN, ST_TOO_LARGE}};
    for (size_t i = 0; i < COUNT(cases); i++) {
        buf_reset(&text);
        buf_add_text(&text, cases[i].head);
        for (size_t k = 0; k < cases[i].len; k++)
            buf_add_char(&text, 'x');
        buf_add_text(&text, "\r\n0\r\n\r\n");
        struct step step = {ANSWER_AND_CLOSE, buf_span(&text)};
        play(&step, 1);
        struct http_exchange e = new_exchange(url, "http", "/");
        run(client, &e, 5000);
        expect(cases[i].head, &e, cases[i].want);
        assert_int_equal(e.answer.error, cases[i].error);
        http_exchange_release(&e);
    }
    buf_add_text(&header, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n");
    for (size_t k = 0; k < 1000; k++)
        buf_addf(&header, "X-Filler-%04zu: 123456789 123456789 123456789\r\n", k);
    buf_add_text(&header, "\r\n");
    struct step step = {ANSWER_AND_CLOSE, buf_span(&header)};
    play(&step, 1);
    struct http_exchange e = new_exchange(url, "http", "/");
    run(client, &e, 5000);
    expect("long header", &e, ST_UNKNOWN);
    assert_non_null(strstr(e.why.text, "header is too long"));
    http_exchange_release(&e);
    buf_release(&header);
    buf_release(&text);
    http_client_free(client);
}

static void test_waits(void **state)
{
    char url[128];
    int64_t begin = clock_monotonic_ms();
    (void)state;
    play(NULL, 0);
    struct http_client *client = new_client(true, NULL);
    struct http_exchange silent = new_exchange(url, "http", "/?sig=" SECRET);
    run(client, &silent, 200);
    expect("no answer", &silent, ST_UNKNOWN);
    wait_for_server(1);
    assert_int_equal(server.requests, 1);
    http_exchange_release(&silent);

    struct http_exchange late = new_exchange(url, "http", "/");
    run(client, &late, 0);
    expect("deadline over", &late, ST_AGAIN);
    assert_int_equal(server.requests, 1);
    http_exchange_release(&late);
    http_client_free(client);

    /* TLS with someone who never answers: nothing of the request was sent. */
    client = new_client(false, NULL);
    struct http_exchange tls = new_exchange(url, "https", "/?sig=" SECRET);
    run(client, &tls, 200);
    expect("no TLS", &tls, ST_AGAIN);
    http_exchange_release(&tls);
    http_client_free(client);
    assert_true(clock_monotonic_ms() - begin < 3000);
}

static void test_no_connection(void **state)
{
    char url[128];
    (void)state;
    struct http_client *client = new_client(true, NULL);
    struct http_exchange refused = new_exchange(url, "http", "/?sig=" SECRET);
    (void)stop_server(NULL); /* now nobody listens there */
    run(client, &refused, 5000);
    expect("refused", &refused, ST_AGAIN);
    assert_int_equal(start_server(NULL), 0);
    http_exchange_release(&refused);

    static const struct {
        const char *url;
        bool is_plain;
        enum status want;
    } cases[] = {
        {"http://missing.test/?sig=" SECRET, true, ST_AGAIN}, /* no such name */
        {"https://missing.test/?sig=" SECRET, false, ST_AGAIN},
        {"http://127.0.0.1:1/", false, ST_BUG}, /* an https client never speaks http */
        {"https://127.0.0.1:1/", true, ST_BUG},
        {"file:///etc/hostname", true, ST_BUG},
        {"not a URL?sig=" SECRET, true, ST_BUG},
        {"", true, ST_BUG},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct http_client *other = new_client(cases[i].is_plain, NULL);
        struct http_exchange e = {.url = cases[i].url, .headers = no_headers, .answer_max_bytes = 1000};
        run(other, &e, 5000);
        expect(cases[i].url, &e, cases[i].want);
        http_exchange_release(&e);
        http_client_free(other);
    }
    http_client_free(client);
}

/* Certificates that cannot be read are a matter for a person; nothing is sent without them. */
static void test_certificates(void **state)
{
    char url[128];
    (void)state;
    play(NULL, 0);
    struct http_client *client = new_client(false, "/nonexistent/ca.pem");
    struct http_exchange e = new_exchange(url, "https", "/?sig=" SECRET);
    run(client, &e, 5000);
    expect("no certificates", &e, ST_DENIED);
    assert_int_equal(server.requests, 0);
    http_exchange_release(&e);
    http_client_free(client);
}

static void test_environment(void **state)
{
    static const struct step step = {ANSWER, SPAN_LIT(OK_ANSWER)};
    char url[128];
    (void)state;
    assert_int_equal(setenv("http_proxy", "http://127.0.0.1:1", 1), 0);
    assert_int_equal(setenv("ALL_PROXY", "http://127.0.0.1:1", 1), 0);
    play(&step, 1);
    struct http_client *client = new_client(true, NULL);
    struct http_exchange e = new_exchange(url, "http", "/");
    run(client, &e, 5000);
    expect("proxies of the environment", &e, ST_OK);
    http_exchange_release(&e);
    http_client_free(client);
    assert_int_equal(unsetenv("http_proxy"), 0);
    assert_int_equal(unsetenv("ALL_PROXY"), 0);
}

static void test_retry_after(void **state)
{
    static const struct {
        const char *lines;
        int want;
    } cases[] = {
        {"", 0},
        {"Retry-After: 7\r\n", 7},
        {"retry-after:0\r\n", 0},
        {"Retry-After: 86401\r\n", 86400},
        {"Retry-After: 99999999999999999999\r\n", 0},
        {"Retry-After: -5\r\n", 0},
        {"Retry-After: soon\r\n", 0},
        {"Date: Sun, 11 Oct 2009 19:52:39 GMT\r\nRetry-After: Sun, 11 Oct 2009 19:53:09 GMT\r\n", 30},
        {"Date: Sun, 11 Oct 2009 19:52:39 GMT\r\nRetry-After: Sun, 11 Oct 2009 19:52:09 GMT\r\n", 0},
        {"Date: Sun, 11 Oct 2009 19:52:39 GMT\r\nRetry-After: Tue, 11 Oct 2039 19:52:39 GMT\r\n", 86400},
        {"Retry-After: Sun, 11 Oct 2009 19:52:39 GMT\r\n", 0}, /* by our clock long ago */
        {"x-ms-retry-after-ms: 1\r\n", 1},
        {"x-ms-retry-after-ms: 1000\r\n", 1},
        {"X-MS-Retry-After-MS: 1001\r\nRetry-After: 9\r\n", 2},
        {"retry-after-ms: 2500\r\nRetry-After: 9\r\n", 3},
        {"x-ms-retry-after-ms: 9223372036854775807\r\n", 86400},
    };
    struct http_client *client = new_client(true, NULL);
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        char url[128], text[400];
        (void)snprintf(text, sizeof text, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n%s\r\n", cases[i].lines);
        struct step step = {ANSWER, span_of(text)};
        play(&step, 1);
        struct http_exchange e = new_exchange(url, "http", "/");
        run(client, &e, 5000);
        expect(cases[i].lines, &e, ST_OK);
        if (http_retry_after_s(&e) != cases[i].want)
            fail_msg("%s: got %d, want %d", cases[i].lines, http_retry_after_s(&e), cases[i].want);
        http_exchange_release(&e);
    }
    http_client_free(client);
}

/* The server answers nobody before HTTP_PARALLEL requests are there: fewer at a time would hang. */
static void test_parallel(void **state)
{
    enum { EXCHANGES = 100 };
    static struct step steps[EXCHANGES];
    static struct http_exchange exchanges[EXCHANGES];
    struct http_exchange *list[EXCHANGES];
    char url[128];
    (void)state;
    for (size_t i = 0; i < EXCHANGES; i++) {
        steps[i] = (struct step){i == 50 ? DROP : ANSWER, SPAN_LIT(OK_ANSWER)};
        exchanges[i] = new_exchange(url, "http", "/");
        list[i] = &exchanges[i];
    }
    play(steps, EXCHANGES);
    server.gate = HTTP_PARALLEL;
    struct http_client *client = new_client(true, NULL);
    http_run(client, list, EXCHANGES, clock_monotonic_ms() + 10000);
    wait_for_server(0);
    size_t succeeded = 0;
    for (size_t i = 0; i < EXCHANGES; i++) {
        succeeded += exchanges[i].status == ST_OK && exchanges[i].code == 200;
        http_exchange_release(&exchanges[i]);
    }
    /* The dropped one was on a kept connection and is sent again; then the script is one step short. */
    assert_int_equal(server.requests, EXCHANGES + 1);
    assert_int_equal(succeeded, EXCHANGES - 1);
    assert_true(server.open_most <= HTTP_PARALLEL + 1);
    assert_true(server.connections.count <= HTTP_PARALLEL + 1);
    http_run(client, list, 0, 0); /* nothing to do */
    http_client_free(client);
}

/* --- names ---------------------------------------------------------------------------------------------- */

static pthread_mutex_t resolver_mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t resolver_changed = PTHREAD_COND_INITIALIZER;
static bool resolver_released;
static size_t resolvers_waiting;

/* Stands in for the C library's, which libcurl calls: one name hangs, one does not exist. */
__attribute__((visibility("default"))) int getaddrinfo(const char *restrict name,
                                                       const char *restrict service,
                                                       const struct addrinfo *restrict hints,
                                                       struct addrinfo **restrict result)
{
    if (name && strcmp(name, "missing.test") == 0)
        return EAI_NONAME;
    if (name && strcmp(name, "hangs.test") == 0) {
        (void)pthread_mutex_lock(&resolver_mutex);
        resolvers_waiting++;
        while (!resolver_released)
            (void)pthread_cond_wait(&resolver_changed, &resolver_mutex);
        resolvers_waiting--;
        (void)pthread_cond_broadcast(&resolver_changed);
        (void)pthread_mutex_unlock(&resolver_mutex);
        return EAI_AGAIN;
    }
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    return real(name, service, hints, result);
}

/* A resolver that hangs for longer than the deadline does not hold up the caller. */
static void test_hung_resolver(void **state)
{
    struct http_client *client = new_client(true, NULL);
    struct http_exchange e = {
        .url = "http://hangs.test/?sig=" SECRET, .headers = no_headers, .answer_max_bytes = 1000};
    int64_t begin = clock_monotonic_ms();
    (void)state;
    run(client, &e, 200);
    int64_t took = clock_monotonic_ms() - begin;
    expect("hung resolver", &e, ST_AGAIN);
    http_exchange_release(&e);
    http_client_free(client);
    (void)pthread_mutex_lock(&resolver_mutex);
    assert_int_equal(resolvers_waiting, 1);
    resolver_released = true;
    (void)pthread_cond_broadcast(&resolver_changed);
    while (resolvers_waiting)
        (void)pthread_cond_wait(&resolver_changed, &resolver_mutex);
    (void)pthread_mutex_unlock(&resolver_mutex);
    assert_true(took < 2000);
}

static void test_loopback(void **state)
{
    static const struct {
        struct span host;
        bool is_ip6, want;
    } hosts[] = {
        {SPAN_LIT("localhost"), false, true},
        {SPAN_LIT("LocalHost"), false, true},
        {SPAN_LIT("acct.table.localhost"), false, true},
        {SPAN_LIT("127.0.0.1"), false, true},
        {SPAN_LIT("127.255.255.254"), false, true},
        {SPAN_LIT("::1"), true, true},
        {SPAN_LIT("0:0:0:0:0:0:0:1"), true, true},
        {SPAN_LIT(""), false, false},
        {SPAN_LIT(""), true, false},
        {SPAN_LIT(".localhost"), false, false},
        {SPAN_LIT("localhost."), false, false},
        {SPAN_LIT("localhost.example"), false, false},
        {SPAN_LIT("notlocalhost"), false, false},
        {SPAN_LIT("localhost\0.example"), false, false},
        {SPAN_LIT("127.0.0.1\0.example"), false, false},
        {SPAN_LIT("127.example.com"), false, false},
        {SPAN_LIT("127.0.0.1.example"), false, false},
        {SPAN_LIT("127.0.0.1."), false, false},
        {SPAN_LIT("127.1"), false, false},
        {SPAN_LIT("0127.0.0.1"), false, false},
        {SPAN_LIT("0x7f.0.0.1"), false, false},
        {SPAN_LIT("2130706433"), false, false},
        {SPAN_LIT("128.0.0.1"), false, false},
        {SPAN_LIT("0.0.0.0"), false, false},
        {SPAN_LIT("::1"), false, false},
        {SPAN_LIT("localhost"), true, false},
        {SPAN_LIT("127.0.0.1"), true, false},
        {SPAN_LIT("::"), true, false},
        {SPAN_LIT("::2"), true, false},
        {SPAN_LIT("::1%lo"), true, false},
        {SPAN_LIT("::ffff:127.0.0.1"), true, false},
        {SPAN_LIT("0000:0000:0000:0000:0000:0000:0000:0000:0000:0001"), true, false},
    };
    (void)state;
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        if (host_is_loopback(hosts[i].host, hosts[i].is_ip6) != hosts[i].want)
            fail_msg("%.*s%s: want %d", SPAN_FMT(hosts[i].host), hosts[i].is_ip6 ? " (in brackets)" : "",
                     hosts[i].want);
    }
}

static void test_certificate_times(void **state)
{
    (void)state;
    assert_int_equal(certificate_time_ms("Dec 31 00:00:00 2026 GMT"), 1798675200000);
    assert_int_equal(certificate_time_ms("Nov  1 23:18:09 2026 GMT"), 1793575089000);
    assert_int_equal(certificate_time_ms(""), 0);
    assert_int_equal(certificate_time_ms("never"), 0);
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, start_server, stop_server)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_SERVER(test_request),       WITH_SERVER(test_answer),
        WITH_SERVER(test_failures),      WITH_SERVER(test_dead_connections),
        WITH_SERVER(test_sizes),         WITH_SERVER(test_waits),
        WITH_SERVER(test_no_connection), WITH_SERVER(test_certificates),
        WITH_SERVER(test_environment),   WITH_SERVER(test_retry_after),
        WITH_SERVER(test_parallel),      cmocka_unit_test(test_hung_resolver),
        cmocka_unit_test(test_loopback), cmocka_unit_test(test_certificate_times),
    };
    struct fail why;
    (void)signal(SIGPIPE, SIG_IGN);
    if (http_global_init(&why) != ST_OK)
        return 1;
    return cmocka_run_group_tests_name("http", tests, NULL, NULL);
}
