/* What leadctl check reads of nginx's configuration, and the advice it gives. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "handler/ctl/check/check.h"
#include "handler/ctl/check/nginx_config.h"

static enum status read_text(const char *text, struct arena *arena, const struct nginx_directive **top,
                             struct fail *why)
{
    *arena = ARENA_INIT(LIMIT_NGINX_ARENA);
    return nginx_config_read(span_of(text), arena, top, why);
}

#define assert_span(s, text)                                                                                 \
    do {                                                                                                     \
        struct span got_ = (s);                                                                              \
        assert_int_equal(got_.len, strlen(text));                                                            \
        assert_memory_equal(got_.len ? got_.ptr : "", text, got_.len);                                       \
    } while (0)

static void test_words(void **state)
{
    struct arena arena;
    const struct nginx_directive *top;
    struct fail why;
    (void)state;
    assert_int_equal(read_text("nginx: talk\n# configuration file /etc/nginx/nginx.conf:\n"
                               "# a comment; with { signs\n"
                               "a b  c;d 'e f' \"g\\\"h\" i\\ j ''; # more\n"
                               "map ${x}y $z { default 'x;{}'; \"~^(/[a-z]*)\" $1; }\n"
                               "last a#b",
                               &arena, &top, &why),
                     ST_INVALID); /* the last directive does not end */
    arena_release(&arena);
    assert_int_equal(read_text("# configuration file /etc/nginx/nginx.conf:\n"
                               "a b  c;d 'e f' \"g\\\"h\" i\\ j ''; # more\n"
                               "map ${x}y $z { default 'x;{}'; \"~^(/[a-z]*)\" $1; }\n"
                               "last a#b;\n",
                               &arena, &top, &why),
                     ST_OK);
    const struct nginx_directive *d = nginx_find(top, "d", NULL);
    assert_span(nginx_word(nginx_find(top, "a", NULL), 1), "c");
    assert_span(nginx_word(d, 0), "e f");
    assert_span(nginx_word(d, 1), "g\"h");
    assert_span(nginx_word(d, 2), "i j");
    assert_span(nginx_word(d, 3), "");
    assert_int_equal(d->word_count, 5);
    const struct nginx_directive *map = nginx_find(top, "map", NULL);
    assert_span(nginx_word(map, 0), "${x}y");
    assert_span(nginx_word(nginx_find(map, "default", NULL), 0), "x;{}");
    assert_span(nginx_word(nginx_find(top, "last", NULL), 0), "a#b");
    assert_null(nginx_find(top, "nosuch", NULL));
    assert_true(nginx_has_word(d, "e f"));
    assert_false(nginx_has_word(d, "d"));
    arena_release(&arena);
}

static void test_includes(void **state)
{
    struct arena arena;
    const struct nginx_directive *top;
    struct fail why;
    (void)state;
    assert_int_equal(read_text("# configuration file /etc/nginx/nginx.conf:\n"
                               "http { size 1; include sites/*.conf; include /opt/x.conf; end; }\n"
                               "# configuration file /etc/nginx/sites/b.conf:\n"
                               "server { name b; include snippets/in.conf; }\n"
                               "# configuration file /etc/nginx/snippets/in.conf:\n"
                               "size 2;\n"
                               "# configuration file /etc/nginx/sites/below/c.conf:\n"
                               "server { name never; }\n"
                               "# configuration file /opt/x.conf:\n"
                               "server { name x; location /a { } }\n",
                               &arena, &top, &why),
                     ST_OK);
    const struct nginx_directive *http = nginx_find(top, "http", NULL);
    const struct nginx_directive *b = nginx_find(http, "server", NULL);
    const struct nginx_directive *x = nginx_find(http, "server", b);
    assert_span(nginx_word(nginx_find(b, "name", NULL), 0), "b");
    assert_span(nginx_word(nginx_find(x, "name", NULL), 0), "x");
    assert_null(nginx_find(http, "server", x));
    assert_non_null(nginx_find(http, "end", NULL));
    /* In force is the nearest one. */
    assert_span(nginx_word(nginx_in_force(b, "size"), 0), "2");
    assert_span(nginx_word(nginx_in_force(nginx_find(x, "location", NULL), "size"), 0), "1");
    assert_null(nginx_in_force(x, "nosuch"));
    arena_release(&arena);
}

/* "x { x { ... } }", so many deep. */
static char *nested(size_t depth)
{
    struct buf text = BUF_INIT(1 << 20);
    buf_add_text(&text, "# configuration file /x:\n");
    for (size_t i = 0; i < depth; i++)
        buf_add_text(&text, "x {");
    for (size_t i = 0; i < depth; i++)
        buf_add_char(&text, '}');
    return text.data;
}

static void test_limits(void **state)
{
    struct arena arena;
    const struct nginx_directive *top;
    struct fail why;
    (void)state;
    for (size_t over = 0; over < 2; over++) {
        char *text = nested(LIMIT_NGINX_DEPTH + over);
        assert_int_equal(read_text(text, &arena, &top, &why), over ? ST_TOO_LARGE : ST_OK);
        arena_release(&arena);
        free(text);
        struct buf many = BUF_INIT(16 * LIMIT_NGINX_DIRECTIVES);
        buf_add_text(&many, "# configuration file /x:\n");
        for (size_t i = 0; i < LIMIT_NGINX_DIRECTIVES + over; i++)
            buf_add_text(&many, "x;");
        assert_int_equal(read_text(many.data, &arena, &top, &why), over ? ST_TOO_LARGE : ST_OK);
        arena_release(&arena);
        buf_release(&many);
    }
    struct buf words = BUF_INIT(1 << 16);
    buf_add_text(&words, "# configuration file /x:\nx");
    for (size_t i = 0; i < 2 * NGINX_WORDS; i++)
        buf_add_text(&words, " y");
    buf_add_text(&words, ";\n");
    assert_int_equal(read_text(words.data, &arena, &top, &why), ST_OK);
    assert_int_equal(nginx_find(top, "x", NULL)->word_count, NGINX_WORDS);
    arena_release(&arena);
    buf_release(&words);
    /* No memory is no configuration, wherever it ends. */
    for (size_t room = 0; room < 4096; room += 16) {
        arena = ARENA_INIT(room);
        enum status status = nginx_config_read(SPAN_LIT("# configuration file /x:\ninclude y; a { b c; }\n"
                                                        "# configuration file /y:\nz 'w';\n"),
                                               &arena, &top, &why);
        assert_true(status == ST_OK || status == ST_NOMEM);
        arena_release(&arena);
    }
}

static void test_broken(void **state)
{
    static const char *const broken[] = {"",
                                         "server { }",
                                         "# configuration file :\nx;",
                                         "# configuration file /x:\nx {",
                                         "# configuration file /x:\n}",
                                         "# configuration file /x:\n{ }",
                                         "# configuration file /x:\nx 'y; }",
                                         "# configuration file /x:\nx \"y\\\"; }",
                                         "# configuration file /x:\nx y",
                                         "# configuration file /x:\na { x y }"};
    struct arena arena;
    const struct nginx_directive *top;
    struct fail why;
    (void)state;
    for (size_t i = 0; i < sizeof broken / sizeof broken[0]; i++) {
        assert_int_equal(read_text(broken[i], &arena, &top, &why), ST_INVALID);
        arena_release(&arena);
    }
    assert_int_equal(read_text("# configuration file /x:\ninclude /x;", &arena, &top, &why), ST_TOO_LARGE);
    arena_release(&arena);
}

/* What is more particular must not be hidden by what stands before it. */
static void test_advice(void **state)
{
    static const struct {
        enum check_area area;
        const char *text, *cure;
    } cases[] = {
        {CHECK_AREA_TABLE, "Azure Table (403 KeyBasedAuthenticationNotPermitted): x",
         "allow-shared-key-access"},
        {CHECK_AREA_TABLE, "Azure Table (403 AuthenticationFailed): the SAS is wrong, expired or withdrawn",
         "generate-sas"},
        {CHECK_AREA_TABLE, "Azure Table (403 AuthenticationFailed): the account key is wrong",
         "show-connection-string"},
        {CHECK_AREA_TABLE,
         "Azure Table (403 AuthenticationFailed): this host's clock is 20 minutes fast: set it right",
         "timedatectl"},
        {CHECK_AREA_TABLE, "Azure Table: no answer to a request that was sent: Operation timed out",
         "status page"},
        {CHECK_AREA_TABLE, "something new", "portal"},
        {CHECK_AREA_MAIL, "550 5.7.30 Basic authentication is not supported", "administrator"},
        {CHECK_AREA_MAIL, "535 5.7.139 SmtpClientAuthentication is disabled", "Set-CASMailbox"},
        {CHECK_AREA_MAIL, "535 5.7.3 Authentication unsuccessful", "outlook.office.com"},
        {CHECK_AREA_MAIL, "something new", "these words"},
        {CHECK_AREA_SQLITE, "cannot write: the disk is full", "make room"},
        {CHECK_AREA_NETWORK, "SSL certificate problem: certificate has expired", "last day"},
        {CHECK_AREA_NETWORK, "something new", "telnet"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct check_advice *advice = check_advice_for(cases[i].area, cases[i].text);
        assert_non_null(advice);
        assert_non_null(strstr(advice->cure ? advice->cure : "", cases[i].cure));
    }
    assert_non_null(check_advice_for(CHECK_AREA_SQLITE, "something new"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),  cmocka_unit_test(test_includes), cmocka_unit_test(test_limits),
        cmocka_unit_test(test_broken), cmocka_unit_test(test_advice),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
