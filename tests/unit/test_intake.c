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

#define KEY "0123456789abcdef"

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
    if (!f || fd < 0 || write(fd, "market " KEY, 7 + sizeof KEY - 1) != 7 + sizeof KEY - 1 || close(fd) != 0)
        return -1;
    enum status status = keys_read(path, &keys, &mistakes, &why);
    if (status == ST_OK)
        status = key_ring_new(keys, &f->shared.keys, &why);
    (void)unlink(path);
    buf_release(&mistakes);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_key_without_memory, set_up, tear_down),
    };
    if (!watch_memory())
        return 1;
    return cmocka_run_group_tests_name("intake", tests, NULL, NULL);
}
