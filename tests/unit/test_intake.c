/* The sequence of one request, where it ends before the store is asked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "handler/intake.h"
#include "tests/unit/no_memory.h"

#define KEY       "0123456789abcdef"
#define OTHER_KEY "abcdef0123456789"
#define KEY_FILE  "market " KEY "\n- " OTHER_KEY "\n"

struct fixture {
    struct config config;
    struct intake_shared shared;
    struct reply reply;
    void *intake;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char path[] = "/tmp/intake-keys-XXXXXX";
    struct buf mistakes = BUF_INIT(1024);
    struct keys *keys;
    struct fail why;
    int fd = mkstemp(path); /* mode 0600 */
    if (!f || fd < 0 || write(fd, KEY_FILE, sizeof KEY_FILE - 1) != sizeof KEY_FILE - 1 || close(fd) != 0)
        return -1;
    enum status status = keys_read(path, 0, &keys, &mistakes, &why);
    if (status == ST_OK)
        status = key_ring_new(keys, &f->shared.keys, &why);
    (void)unlink(path);
    buf_release(&mistakes);
    enum status is_shared = metrics_open(NULL, &f->shared.metrics, NULL);
    (void)is_shared; /* this process's own will do */
    f->shared.config = &f->config;
    f->reply = REPLY_INIT;
    f->intake = status == ST_OK ? intake_begin(&f->shared) : NULL;
    *state = f;
    return f->intake ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    intake_end(f->intake);
    key_ring_free(f->shared.keys);
    reply_release(&f->reply);
    free(f);
    return 0;
}

static void on_answered(void *whose)
{
    *(bool *)whose = true;
}

static int code_for(struct fixture *f, struct span query)
{
    struct request request = {.method = SPAN_LIT("POST"),
                              .path = SPAN_LIT("/leads"),
                              .query = query,
                              .request_id = SPAN_LIT("r-1")};
    reply_reset(&f->reply);
    bool is_answered = false;
    intake_handle(f->intake, &request, &f->reply, on_answered, &is_answered);
    assert_true(is_answered);
    return f->reply.code;
}

/* A sender whose key cannot be looked at is asked to come again, not told that it is wrong. */
static void test_key_without_memory(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(code_for(f, SPAN_LIT("key=wrong-wrong-wrong")), 401);
    assert_int_equal(code_for(f, SPAN_LIT("key=" KEY)), 400); /* an empty body: the key was good */
    out_of_memory = true;
    int good = code_for(f, SPAN_LIT("key=" KEY));
    int retry_after_s = f->reply.retry_after_s;
    int wrong = code_for(f, SPAN_LIT("key=wrong-wrong-wrong"));
    out_of_memory = false;
    assert_int_equal(good, 503);
    assert_int_equal(retry_after_s, RETRY_AFTER_S);
    assert_int_equal(wrong, 503);
    assert_int_equal(code_for(f, SPAN_LIT("key=" KEY)), 400);
}

/* What is refused of somebody with a good key is logged in any case, also if the log shows its name as nobody's. */
static void test_refusals_counted(void **state)
{
    struct fixture *f = *state;
    struct log_budget strangers = {0};
    f->shared.strangers = &strangers;
    assert_int_equal(code_for(f, SPAN_LIT("key=" KEY)), 400);
    assert_int_equal(code_for(f, SPAN_LIT("key=" OTHER_KEY)), 400);
    assert_int_equal(strangers.used, 0);
    assert_int_equal(code_for(f, SPAN_LIT("key=wrong-wrong-wrong")), 401);
    assert_int_equal(strangers.used, 1);
}

/* The variables of a request whose key is wrong; context is what nginx says of its location. */
static struct span variable(const void *context, const char *name)
{
    static const struct {
        const char *name;
        struct span value;
    } given[] = {
        {"REQUEST_METHOD", SPAN_LIT("POST")},
        {"SCRIPT_NAME", SPAN_LIT("/leads")},
        {"QUERY_STRING", SPAN_LIT("key=wrong-wrong-wrong")},
    };
    for (size_t i = 0; i < sizeof given / sizeof given[0]; i++) {
        if (strcmp(given[i].name, name) == 0)
            return given[i].value;
    }
    return strcmp(name, "DENIED_LOCATION") == 0 ? *(const struct span *)context : span_empty();
}

/* A wrong key is answered by nginx's location, if that is one; whatever else is said there gets into no header. */
static void test_denied_location(void **state)
{
    struct fixture *f = *state;
#define NAME_63 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_0123456789"
    static const struct {
        struct span said;
        bool good;
    } cases[] = {
        {SPAN_LIT("@leadhook_denied"), true},
        {SPAN_LIT("@a-9"), true},
        {SPAN_LIT("@" NAME_63), true},
        {SPAN_LIT("@" NAME_63 "x"), false},
        {SPAN_LIT(""), false},
        {SPAN_LIT("@"), false},
        {SPAN_LIT("/internal"), false},
        {SPAN_LIT("@a\r\nX-Other: b"), false},
        {SPAN_LIT("@a b"), false},
        {SPAN_LIT("@a/b"), false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct request request;
        bool is_answered = false;
        request_fill(&request, variable, &cases[i].said);
        intake_handle(f->intake, &request, &f->reply, on_answered, &is_answered);
        assert_true(is_answered);
        assert_int_equal(f->reply.code, 401);
        if (!span_eq(f->reply.location, cases[i].good ? cases[i].said : span_empty()))
            fail_msg("'%.*s': got '%.*s'", SPAN_FMT(cases[i].said), SPAN_FMT(f->reply.location));
        request.method = SPAN_LIT("GET");
        intake_handle(f->intake, &request, &f->reply, on_answered, &is_answered);
        assert_int_equal(f->reply.code, 405);
        assert_int_equal(f->reply.location.len, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_denied_location, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_key_without_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals_counted, set_up, tear_down),
    };
    if (!watch_memory())
        return 1;
    return cmocka_run_group_tests_name("intake", tests, NULL, NULL);
}
