/* CSV as it is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "lib/base/csv_write.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_texts(void **state)
{
    static const struct {
        const char *text;
        const char *want;
    } rows[] = {
        {"", ""},
        {"plain text", "plain text"},
        {"a,b", "\"a,b\""},
        {"a;b", "\"a;b\""},
        {"a\tb", "\"a\tb\""},
        {"say \"so\"", "\"say \"\"so\"\"\""},
        {"two\r\nlines", "\"two\r\nlines\""},
        {" blank", "\" blank\""},
        {"blank ", "\"blank \""},
        {"=1+1", "'=1+1"},
        {"+1 617", "'+1 617"},
        {"-1", "'-1"},
        {"@SUM(A1)", "'@SUM(A1)"},
        {"\t=1", "\"'\t'=1\""},
        {"\r=1", "\"'\r'=1\""},
        {"\n=1", "\"'\n'=1\""},
        /* As they are read where a semicolon separates. */
        {"a;=1+1;@b;", "\"a;'=1+1;'@b;\""},
        {"a;\xEF\xBC\x9D"
         "1",
         "\"a;'\xEF\xBC\x9D"
         "1\""},
        {"a\r\n=1\n-2\t+3", "\"a\r\n'=1\n'-2\t'+3\""},
        {"a;\"=1+1;", "\"a;\"\"'=1+1;\""},
        {"a;b=1; =1,=1", "\"a;b=1; =1,=1\""},
        {"\xEF\xBC\x9D"
         "1",
         "'\xEF\xBC\x9D"
         "1"}, /* a wide '=' */
        {"=A1,\"x\"", "\"'=A1,\"\"x\"\"\""},
        {"1=1", "1=1"},
        {"ana@example.com", "ana@example.com"},
        {"\x1B[31mred\x07", "\xEF\xBF\xBD[31mred\xEF\xBF\xBD"},
        {"c1 \xC2\x9B", "c1 \xEF\xBF\xBD"},
        {"\xEC\xA3\xBC\xEC\x8B\x9D", "\xEC\xA3\xBC\xEC\x8B\x9D"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf out = BUF_INIT(1000);
        struct csv_writer w;
        struct fail why;
        char want[200];
        csv_begin_row(&w, &out);
        csv_add_text(&w, span_of(rows[i].text));
        csv_add_text(&w, SPAN_LIT("z"));
        assert_int_equal(csv_end_row(&w, "a row", &why), ST_OK);
        (void)snprintf(want, sizeof want, "%s,z\r\n", rows[i].want);
        assert_string_equal(out.data, want);
        buf_release(&out);
    }
}

static void test_nul(void **state)
{
    struct buf out = BUF_INIT(100);
    struct csv_writer w;
    struct fail why;
    (void)state;
    csv_begin_row(&w, &out);
    csv_add_text(&w, SPAN_LIT("a\0b"));
    assert_int_equal(csv_end_row(&w, "a row", &why), ST_OK);
    assert_string_equal(out.data, "a\xEF\xBF\xBD"
                                  "b\r\n");
    buf_release(&out);
}

static void test_values(void **state)
{
    struct buf out = BUF_INIT(200);
    struct csv_writer w;
    struct fail why;
    (void)state;
    csv_begin_row(&w, &out);
    csv_add_time(&w, 1255290759123);
    csv_add_time(&w, 0);
    csv_add_number(&w, -7);
    csv_add_bool(&w, true);
    csv_add_bool(&w, false);
    assert_int_equal(csv_end_row(&w, "a row", &why), ST_OK);
    assert_string_equal(out.data, "2009-10-11 19:52:39,,-7,true,false\r\n");
    csv_begin_row(&w, &out);
    assert_int_equal(csv_end_row(&w, "a row", &why), ST_OK);
    assert_string_equal(out.data, "2009-10-11 19:52:39,,-7,true,false\r\n\r\n");
    buf_release(&out);
}

static void test_limit(void **state)
{
    struct buf out = BUF_INIT(5);
    struct csv_writer w;
    struct fail why;
    (void)state;
    for (int extra = 0; extra <= 1; extra++) {
        buf_reset(&out);
        csv_begin_row(&w, &out);
        csv_add_text(&w, span_cut(SPAN_LIT("abcd"), 0, (size_t)(3 + extra)));
        assert_int_equal(csv_end_row(&w, "a row", &why), extra ? ST_TOO_LARGE : ST_OK);
    }
    assert_non_null(strstr(why.text, "a row"));
    buf_release(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_texts),
        cmocka_unit_test(test_nul),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_limit),
    };
    return cmocka_run_group_tests_name("csv", tests, NULL, NULL);
}
