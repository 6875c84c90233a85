/* Answers byte for byte, and which failure becomes which status code. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "handler/reply.h"

#define ID "0123456789abcdef0123456789abcdef"

/* The answer as it goes out. */
static void expect(const char *name, const struct reply *reply, const char *head, const char *body)
{
    struct buf got = BUF_INIT(128 * 1024), want = BUF_INIT(128 * 1024);
    reply_write(&got, reply);
    buf_addf(&want, "%s\r\n%s", head, body);
    assert_int_equal(got.error, ST_OK);
    if (!span_eq(buf_span(&got), buf_span(&want)))
        fail_msg("%s:\n--- got\n%s\n--- want\n%s", name, got.data, want.data);
    buf_release(&got);
    buf_release(&want);
}

#define HEAD(status, type, length)                                                                           \
    "Status: " status "\r\nContent-Type: " type "\r\nContent-Length: " length "\r\n"                         \
    "Cache-Control: no-store\r\nX-Content-Type-Options: nosniff\r\n"
#define PROBLEM "application/problem+json"

static void test_accepted(void **state)
{
    (void)state;
    struct reply reply = REPLY_INIT;
    reply_accepted(&reply, 200, "stored", ID);
    expect("stored", &reply, HEAD("200 OK", "application/json", "59"),
           "{\"status\":\"stored\",\"id\":\"" ID "\"}");
    reply_accepted(&reply, 200, "repeat", ID);
    expect("repeat", &reply, HEAD("200 OK", "application/json", "59"),
           "{\"status\":\"repeat\",\"id\":\"" ID "\"}");
    reply_accepted(&reply, 202, "quarantined", ID);
    expect("quarantined", &reply, HEAD("202 Accepted", "application/json", "64"),
           "{\"status\":\"quarantined\",\"id\":\"" ID "\"}");
    reply_release(&reply);
}

static const struct {
    const char *name;
    struct problem problem;
    const char *head;
    const char *body;
} PROBLEMS[] = {
    {"400 with an offset and an id",
     {.code = 400,
      .detail = "not JSON",
      .request_id = SPAN_LIT("r-1"),
      .has_offset = true,
      .offset = 17,
      .id = ID},
     HEAD("400 Bad Request", PROBLEM, "148"),
     "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,"
     "\"detail\":\"not JSON\",\"offset\":17,"
     "\"id\":\"" ID "\",\"request_id\":\"r-1\"}"},
    {"offset 0 is an offset",
     {.code = 400, .detail = "x", .has_offset = true},
     HEAD("400 Bad Request", PROBLEM, "81"),
     "{\"type\":\"about:blank\",\"title\":\"Bad Request\",\"status\":400,\"detail\":\"x\",\"offset\":0}"},
    {"401 with a challenge",
     {.code = 401, .detail = "x"},
     HEAD("401 Unauthorized", PROBLEM, "71") "WWW-Authenticate: Bearer\r\n",
     "{\"type\":\"about:blank\",\"title\":\"Unauthorized\",\"status\":401,\"detail\":\"x\"}"},
    {"404",
     {.code = 404, .detail = "x"},
     HEAD("404 Not Found", PROBLEM, "68"),
     "{\"type\":\"about:blank\",\"title\":\"Not Found\",\"status\":404,\"detail\":\"x\"}"},
    {"405 with Allow",
     {.code = 405, .detail = "x", .allow = "POST"},
     HEAD("405 Method Not Allowed", PROBLEM, "77") "Allow: POST\r\n",
     "{\"type\":\"about:blank\",\"title\":\"Method Not Allowed\",\"status\":405,\"detail\":\"x\"}"},
    {"413",
     {.code = 413, .detail = "x"},
     HEAD("413 Content Too Large", PROBLEM, "76"),
     "{\"type\":\"about:blank\",\"title\":\"Content Too Large\",\"status\":413,\"detail\":\"x\"}"},
    {"415",
     {.code = 415, .detail = "x"},
     HEAD("415 Unsupported Media Type", PROBLEM, "81"),
     "{\"type\":\"about:blank\",\"title\":\"Unsupported Media Type\",\"status\":415,\"detail\":\"x\"}"},
    {"422",
     {.code = 422, .detail = "x"},
     HEAD("422 Unprocessable Content", PROBLEM, "80"),
     "{\"type\":\"about:blank\",\"title\":\"Unprocessable Content\",\"status\":422,\"detail\":\"x\"}"},
    {"503 asks for the usual pause",
     {.code = 503, .detail = "x"},
     HEAD("503 Service Unavailable", PROBLEM, "78") "Retry-After: 30\r\n",
     "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"x\"}"},
    {"503 asks for what the store has asked for",
     {.code = 503, .detail = "x", .retry_after_s = 120},
     HEAD("503 Service Unavailable", PROBLEM, "78") "Retry-After: 120\r\n",
     "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,\"detail\":\"x\"}"},
    {"429 asks to wait until the quota begins anew",
     {.code = 429, .detail = "x", .retry_after_s = 3601},
     HEAD("429 Too Many Requests", PROBLEM, "76") "Retry-After: 3601\r\n",
     "{\"type\":\"about:blank\",\"title\":\"Too Many Requests\",\"status\":429,\"detail\":\"x\"}"},
    {"no Retry-After but with 429 and 503",
     {.code = 422, .detail = "x", .retry_after_s = 120},
     HEAD("422 Unprocessable Content", PROBLEM, "80"),
     "{\"type\":\"about:blank\",\"title\":\"Unprocessable Content\",\"status\":422,\"detail\":\"x\"}"},
    {"the detail is escaped",
     {.code = 500, .detail = "a \"b\" \n\\"},
     HEAD("500 Internal Server Error", PROBLEM, "91"),
     "{\"type\":\"about:blank\",\"title\":\"Internal Server Error\",\"status\":500,\"detail\":"
     "\"a \\\"b\\\" \\n\\\\\"}"},
    {"a detail that is not UTF-8 leaves the status code",
     {.code = 400, .detail = "\xC3("},
     HEAD("400 Bad Request", PROBLEM, "0"),
     ""},
};

static void test_problems(void **state)
{
    (void)state;
    struct reply reply = REPLY_INIT;
    /* One reply for all: nothing of an earlier answer may stay. */
    for (size_t i = 0; i < sizeof PROBLEMS / sizeof PROBLEMS[0]; i++) {
        reply_problem(&reply, &PROBLEMS[i].problem);
        assert_int_equal(reply.code, PROBLEMS[i].problem.code);
        expect(PROBLEMS[i].name, &reply, PROBLEMS[i].head, PROBLEMS[i].body);
    }
    reply_release(&reply);
}

/* An answer that nginx gives in our place has nothing that nginx would mix with its own. */
static void test_location(void **state)
{
    (void)state;
    struct reply reply = REPLY_INIT;
    reply_problem(&reply, &(struct problem){.code = 401, .detail = "x", .location = SPAN_LIT("@denied")});
    expect("location", &reply,
           "Status: 401 Unauthorized\r\nX-Accel-Redirect: @denied\r\nX-Problem: {\"type\":\"about:blank\","
           "\"title\":\"Unauthorized\",\"status\":401,\"detail\":\"x\"}\r\n",
           "");
    reply_problem(&reply, &(struct problem){.code = 404, .detail = "x"});
    assert_int_equal(reply.location.len, 0);
    reply_release(&reply);
}

static void test_text(void **state)
{
    (void)state;
    struct reply reply = REPLY_INIT;
    reply_problem(&reply, &(struct problem){.code = 503, .detail = "x", .allow = "GET"});
    reply_text(&reply, 200, "text/plain", SPAN_LIT("ok\n"));
    expect("text", &reply, HEAD("200 OK", "text/plain", "3"), "ok\n");
    reply_release(&reply);
}

/* A body over the limit is an answer with the status code alone, never half a document. */
static void test_limit(void **state)
{
    (void)state;
    for (size_t spare = 0; spare < 2; spare++) {
        struct reply reply = {.body = BUF_INIT(59 + spare)};
        reply_accepted(&reply, 200, "stored", ID);
        assert_int_equal(reply.body.len, 59);
        reply_release(&reply);
    }
    struct reply reply = {.body = BUF_INIT(58)};
    reply_accepted(&reply, 200, "stored", ID);
    expect("too small", &reply, HEAD("200 OK", "application/json", "0"), "");
    reply_release(&reply);
}

static void test_codes(void **state)
{
    (void)state;
    static const struct {
        enum status status;
        int want;
    } codes[] = {
        {ST_OK, 200},     {ST_INVALID, 400}, {ST_TOO_LARGE, 400}, {ST_REFUSED, 415},    {ST_NOT_FOUND, 422},
        {ST_DENIED, 503}, {ST_EXISTS, 503},  {ST_CHANGED, 503},   {ST_AGAIN, 503},      {ST_UNKNOWN, 503},
        {ST_NOMEM, 503},  {ST_IO, 503},      {ST_DAMAGED, 503},   {ST_OVER_QUOTA, 429}, {ST_BUG, 503},
    };
    assert_int_equal(sizeof codes / sizeof codes[0], ST_BUG + 1);
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        int got = reply_code_of(codes[i].status);
        if (got != codes[i].want)
            fail_msg("%s: got %d, want %d", status_name(codes[i].status), got, codes[i].want);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accepted), cmocka_unit_test(test_problems), cmocka_unit_test(test_text),
        cmocka_unit_test(test_location), cmocka_unit_test(test_limit),    cmocka_unit_test(test_codes),
    };
    return cmocka_run_group_tests_name("reply", tests, NULL, NULL);
}
