/* Lines of a pipe, in bounded memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/lines.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
enum { MOST = 8 };

/* A file with that content, at its beginning. */
static int file_of(struct span content)
{
    char path[] = "/tmp/leadhook-lines-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    (void)unlink(path);
    assert_int_equal(write(fd, content.ptr, content.len), (ssize_t)content.len);
    assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
    return fd;
}

/* The lines, each ended by '|', with '!' for one that is too long, and the status that ended them. */
static void test_lines(void **state)
{
    static const struct {
        const char *content;
        const char *want;
        enum status ends;
        const char *rest; /* ST_INVALID: the line without an end */
    } rows[] = {
        {"", "", ST_NOT_FOUND, ""},
        {"a\nbc\n", "a|bc|", ST_NOT_FOUND, ""},
        {"\n\na\n", "||a|", ST_NOT_FOUND, ""},
        {"a\nbc", "a|", ST_INVALID, "bc"},
        {"12345678\na\n", "12345678|a|", ST_NOT_FOUND, ""},
        {"a\n123456789\n", "a|!", ST_NOT_FOUND, ""},
        {"a\n123456789", "a|!", ST_NOT_FOUND, ""},
        {"123456789\n\n1234567890\nab\nc", "!|!ab|", ST_INVALID, "c"},
        {"a\n12345678", "a|", ST_INVALID, "12345678"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct lines lines;
        struct span line = {0};
        struct fail why;
        char memory[64] = "";
        struct buf got = BUF_FIXED(memory);
        enum status status;
        int fd = file_of(span_of(rows[i].content));
        lines_begin(&lines, fd, MOST);
        while ((status = lines_next(&lines, &line, &why)) == ST_OK || status == ST_TOO_LARGE) {
            if (status == ST_OK)
                buf_add(&got, line);
            buf_add_char(&got, status == ST_OK ? '|' : '!');
        }
        if (strcmp(memory, rows[i].want) != 0 || status != rows[i].ends ||
            (status == ST_INVALID && !span_eq(line, span_of(rows[i].rest))))
            fail_msg("%s: got %s and %s", rows[i].content, memory, status_name(status));
        lines_release(&lines);
        (void)close(fd);
    }
}

/* Many more than are read at once: each as it was, counted, and no more memory than for a few. */
static void test_many(void **state)
{
    enum { LINES = 100000 };
    struct buf content = BUF_INIT(2 * 1000 * 1000);
    struct lines lines;
    struct span line;
    struct fail why;
    (void)state;
    for (int i = 0; i < LINES; i++)
        buf_addf(&content, "%d\n", i);
    int fd = file_of(buf_span(&content));
    lines_begin(&lines, fd, MOST);
    for (int i = 0; i < LINES; i++) {
        char want[16];
        (void)snprintf(want, sizeof want, "%d", i);
        assert_int_equal(lines_next(&lines, &line, &why), ST_OK);
        assert_true(span_eq(line, span_of(want)));
        assert_int_equal(lines.number, i + 1);
    }
    assert_int_equal(lines_next(&lines, &line, &why), ST_NOT_FOUND);
    assert_int_equal(lines.bytes, content.len);
    assert_true(lines.memory.room <= 256 * 1024);
    lines_release(&lines);
    buf_release(&content);
    (void)close(fd);
}

/* However long it is. */
static void test_very_long(void **state)
{
    enum { BYTES = 10 * 1000 * 1000 };
    struct buf content = BUF_INIT(BYTES + 10);
    struct lines lines;
    struct span line;
    struct fail why;
    (void)state;
    for (int i = 0; i < BYTES; i++)
        buf_add_char(&content, 'x');
    buf_add_text(&content, "\nb\n");
    int fd = file_of(buf_span(&content));
    lines_begin(&lines, fd, MOST);
    assert_int_equal(lines_next(&lines, &line, &why), ST_TOO_LARGE);
    assert_int_equal(lines.number, 1);
    assert_int_equal(lines_next(&lines, &line, &why), ST_OK);
    assert_true(span_eq(line, SPAN_LIT("b")));
    assert_int_equal(lines.number, 2);
    assert_int_equal(lines.bytes, content.len);
    assert_true(lines.memory.room <= 256 * 1024);
    lines_release(&lines);
    buf_release(&content);
    (void)close(fd);
}

static void test_unreadable(void **state)
{
    struct lines lines;
    struct span line;
    struct fail why;
    (void)state;
    lines_begin(&lines, -1, MOST);
    assert_int_equal(lines_next(&lines, &line, &why), ST_IO);
    lines_release(&lines);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_very_long),
        cmocka_unit_test(test_unreadable),
    };
    return cmocka_run_group_tests_name("lines", tests, NULL, NULL);
}
