/* The reader of CSV: what it takes, what it refuses and where, and its limits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "lib/base/buf.h"
#include "lib/base/csv_read.h"
#include "lib/base/limits.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

/* A file in memory, given in pieces. */
struct source {
    struct span rest;
    size_t piece;
    enum status fails; /* instead of the end */
};

static enum status read_source(void *context, char *to, size_t room, size_t *got, struct fail *why)
{
    struct source *s = context;
    struct span piece = span_cut(s->rest, 0, s->piece && s->piece < room ? s->piece : room);
    if (piece.len == 0 && s->fails != ST_OK)
        return fail_set(why, s->fails, 0, "the disk is gone");
    if (piece.len)
        memcpy(to, piece.ptr, piece.len);
    s->rest = span_from(s->rest, piece.len);
    *got = piece.len;
    return ST_OK;
}

/* Writes the rows as "1[a][b]2[c]", numbers being lines, and behind them what ended it. */
static void read_all(struct source *source, struct csv_options options, struct buf *out)
{
    struct csv_reader *reader;
    struct csv_row row;
    struct fail why = {0};
    enum status status;
    options.read = read_source;
    options.context = source;
    assert_int_equal(csv_new(&options, &reader, &why), ST_OK);
    while ((status = csv_next(reader, &row, &why)) == ST_OK) {
        buf_addf(out, "%d", (int)row.line);
        for (size_t i = 0; i < row.count; i++) {
            buf_add_char(out, '[');
            buf_add(out, row.fields[i]);
            buf_add_char(out, ']');
        }
    }
    assert_int_equal(why.code, status);
    if (status != ST_NOT_FOUND) {
        struct csv_place place = csv_place(reader);
        char memory[80];
        struct buf start = BUF_FIXED(memory);
        buf_addf(&start, "line %d, column %d: ", (int)place.line, (int)place.column);
        buf_addf(out, "!%s %d:%d", status_name(status), (int)place.line, (int)place.column);
        if (status != ST_IO && !span_starts(span_of(why.text), buf_span(&start)))
            fail_msg("'%s' does not begin with '%s'", why.text, memory);
    }
    struct fail again;
    assert_int_equal(csv_next(reader, &row, &again), status);
    assert_string_equal(again.text, why.text);
    csv_free(reader);
}

static void check(struct span text, struct csv_options options, const char *want)
{
    static const size_t pieces[] = {0, 1, 2, 3, 7};
    for (size_t i = 0; i < COUNT(pieces); i++) {
        struct source source = {.rest = text, .piece = pieces[i]};
        struct buf out = BUF_INIT(4096);
        read_all(&source, options, &out);
        if (!span_eq(buf_span(&out), span_of(want)))
            fail_msg("'%.*s' in pieces of %zu: got '%.*s', want '%s'", SPAN_FMT(text), pieces[i],
                     SPAN_FMT(buf_span(&out)), want);
        buf_release(&out);
    }
}

static void test_rows(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"", ""},
        {"a", "1[a]"},
        {"a,b\r\nc,d\r\n", "1[a][b]2[c][d]"},
        {"a,b\nc,d", "1[a][b]2[c][d]"},
        {"a,b\rc,d\r", "1[a][b]2[c][d]"},
        {"a\r\rb\n\n\r\nc", "1[a]3[b]6[c]"}, /* lines with nothing in them */
        {",\n", "1[][]"},
        {"a,", "1[a][]"},
        {"\"\"", "1[]"},
        {"\"\"\n\"\"", "1[]2[]"},
        {" a , b ", "1[ a ][ b ]"},
        {"\"a,b\",c", "1[a,b][c]"},
        {"\"a\"\"b\",\"\"\"\"", "1[a\"b][\"]"},
        {"\"a\r\nb\rc\nd\",e\nf", "1[a\r\nb\rc\nd][e]5[f]"},
        {"\n\n a\n", "3[ a]"},
        {"=1+1,@x,-2", "1[=1+1][@x][-2]"},
        /* separators */
        {"a;b\nc;d,e", "1[a][b]2[c][d,e]"},
        {"a\tb\nc\td", "1[a][b]2[c][d]"},
        {"a|b", "1[a][b]"},
        {"a;b,c", "1[a;b][c]"}, /* as many of each: a comma */
        {"a;b;c,d", "1[a][b][c,d]"},
        {"\"x,y,z\";b", "1[x,y,z][b]"}, /* those in quotes do not count */
        {"a\nb;c", "1[a]2[b;c]"},       /* nor do those of other lines */
        {"sep=;\r\na,b;c\r\n", "2[a,b][c]"},
        {"SEP=,\na;b,c", "2[a;b][c]"},
        {"sep=\t\na\tb", "2[a][b]"},
        {"sep=x\na,b", "1[sep=x]2[a][b]"},
        {"sep=;a\nb;c", "1[sep=][a]2[b][c]"},
        {"sep=;", "1[sep=][]"},
        /* encodings */
        {"\xEF\xBB\xBF\"a\",\xC3\xA4", "1[a][\xC3\xA4]"},
        {"a\xEF\xBB\xBF", "1[a\xEF\xBB\xBF]"}, /* only at the beginning */
        {"\xF0\x9F\x98\x80,x", "1[\xF0\x9F\x98\x80][x]"},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        check(span_of(rows[i].text), (struct csv_options){0}, rows[i].want);
    check(SPAN_LIT("a;b,c"), (struct csv_options){.separator = ';'}, "1[a][b,c]");
    check(SPAN_LIT("sep=;\na;b"), (struct csv_options){.separator = ';'}, "1[sep=][]2[a][b]");
}

static void test_utf16(void **state)
{
    (void)state;
    check(SPAN_LIT("\xFF\xFE"
                   "a\0;\0\"\0\xE4\0\"\0\r\0\n\0\x3D\xD8\0\xDE"),
          (struct csv_options){0}, "1[a][\xC3\xA4]2[\xF0\x9F\x98\x80]");
    check(SPAN_LIT("\xFE\xFF"
                   "\0a\0;\0b\0\n\xD8\x3D\xDE\0"),
          (struct csv_options){0}, "1[a][b]2[\xF0\x9F\x98\x80]");
    check(SPAN_LIT("\xFF\xFEs\0e\0p\0=\0,\0\n\0a\0,\0b\0"), (struct csv_options){0}, "2[a][b]");
    check(SPAN_LIT("\xFF\xFE"), (struct csv_options){0}, "");
    check(SPAN_LIT("\xFF\xFE"
                   "a\0b"),
          (struct csv_options){0}, "!invalid 1:2");
    check(SPAN_LIT("\xFF\xFE"
                   "a\0\0\xDE"),
          (struct csv_options){0}, "!invalid 1:2"); /* a low surrogate alone */
    check(SPAN_LIT("\xFF\xFE\x3D\xD8"
                   "a\0"),
          (struct csv_options){0}, "!invalid 1:1");
    check(SPAN_LIT("\xFF\xFE\x3D\xD8"), (struct csv_options){0}, "!invalid 1:1");
    check(SPAN_LIT("\xFF\xFE\0\0"
                   "a\0\0\0"),
          (struct csv_options){0}, "!invalid 1:1"); /* UTF-32 */
}

static void test_refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"a,b\nc\"d,e", "1[a][b]!invalid 2:2"},
        {"a \"b\"", "!invalid 1:3"},
        {"\"a\"b", "!invalid 1:4"},
        {"\"a\" ,b", "!invalid 1:4"},
        {"a\n\xC3\xA4,\"\xC3\xA4\"x", "1[a]!invalid 2:6"}, /* characters, not bytes */
        {"x\ny,\"a\nb", "1[x]!invalid 2:3"},               /* where it was opened */
        {"\"", "!invalid 1:1"},
        {"\"a\"\"", "!invalid 1:1"},
        {"a\r\n\"b\r\nc\"d", "1[a]!invalid 3:3"},
        {"a,\xFF", "!invalid 1:3"},
        {"a\n,\xC3", "1[a]!invalid 2:2"}, /* cut off within a character */
        {"\xED\xA0\x80", "!invalid 1:1"}, /* a surrogate */
        {"J\xFCrgen", "!invalid 1:2"},    /* Windows-1252 */
        {"\n\r\n\"\"\"", "!invalid 3:1"},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        check(span_of(rows[i].text), (struct csv_options){0}, rows[i].want);
    check(SPAN_LIT("a\0b"), (struct csv_options){0}, "!invalid 1:2");
}

static void test_limits_of_a_row(void **state)
{
    (void)state;
    const struct csv_options columns = {.columns = 3}, field = {.field_bytes = 4}, row = {.row_bytes = 5},
                             file = {.file_bytes = 6};
    check(SPAN_LIT("a,b,c"), columns, "1[a][b][c]");
    check(SPAN_LIT("a,b,c\na,b,c,d"), columns, "1[a][b][c]!too-large 2:8");
    check(SPAN_LIT("a,b,c,"), columns, "!too-large 1:7");
    check(SPAN_LIT("abcd,\"ab\"\"d\""), field, "1[abcd][ab\"d]");
    check(SPAN_LIT("abcde"), field, "!too-large 1:5");
    check(SPAN_LIT("\xC3\xA4\xC3\xA4,ab\xC3\xA4"), field, "1[\xC3\xA4\xC3\xA4][ab\xC3\xA4]");
    check(SPAN_LIT("abc\xC3\xA4"), field, "!too-large 1:4");
    check(SPAN_LIT("ab,cde"), row, "1[ab][cde]");
    check(SPAN_LIT("ab,cdef\n"), row, "!too-large 1:7");
    check(SPAN_LIT("a,bc\nd"), file, "1[a][bc]2[d]");
    check(SPAN_LIT("a,bc\nde"), file, "!too-large 1:1");
}

static void test_limits(void **state)
{
    (void)state;
    struct buf text = BUF_INIT(2 * LIMIT_CSV_ROW_BYTES), out = BUF_INIT(2 * LIMIT_CSV_ROW_BYTES);
    for (size_t i = 0; i < LIMIT_CSV_FIELD_BYTES; i++)
        buf_add_char(&text, 'x');
    struct source whole = {.rest = buf_span(&text)};
    read_all(&whole, (struct csv_options){0}, &out);
    assert_int_equal(out.len, LIMIT_CSV_FIELD_BYTES + 3);
    buf_add_char(&text, 'x');
    buf_reset(&out);
    whole = (struct source){.rest = buf_span(&text)};
    read_all(&whole, (struct csv_options){0}, &out);
    assert_string_equal(out.data, "!too-large 1:131073");
    buf_reset(&text);
    buf_reset(&out);
    for (size_t i = 1; i < LIMIT_CSV_COLUMNS; i++)
        buf_add_char(&text, ',');
    whole = (struct source){.rest = buf_span(&text)};
    read_all(&whole, (struct csv_options){0}, &out);
    assert_int_equal(out.len, 2 * LIMIT_CSV_COLUMNS + 1);
    buf_add_char(&text, ',');
    buf_reset(&out);
    whole = (struct source){.rest = buf_span(&text)};
    read_all(&whole, (struct csv_options){0}, &out);
    assert_string_equal(out.data, "!too-large 1:1025");
    buf_release(&text);
    buf_release(&out);
}

/* Characters, CR LF and doubled quotes across the end of what is read at once. */
static void test_long_files(void **state)
{
    (void)state;
    static const struct span line = SPAN_LIT("\"\xC3\xA4\"\"\",\xF0\x9F\x98\x80\r\n");
    struct buf text = BUF_INIT(1024 * 1024);
    for (size_t shift = 0; shift < line.len; shift++) {
        buf_reset(&text);
        for (size_t i = 0; i < shift; i++)
            buf_add_char(&text, '\n');
        for (size_t i = 0; i < 20000; i++)
            buf_add(&text, line);
        struct source source = {.rest = buf_span(&text), .piece = 4093};
        const struct csv_options options = {.read = read_source, .context = &source, .separator = ','};
        struct csv_reader *reader;
        struct csv_row row;
        struct fail why;
        assert_int_equal(csv_new(&options, &reader, &why), ST_OK);
        for (size_t i = 0; i < 20000; i++) {
            assert_int_equal(csv_next(reader, &row, &why), ST_OK);
            assert_int_equal(row.line, shift + i + 1);
            assert_int_equal(row.count, 2);
            assert_true(span_eq(row.fields[0], SPAN_LIT("\xC3\xA4\"")));
            assert_true(span_eq(row.fields[1], SPAN_LIT("\xF0\x9F\x98\x80")));
        }
        assert_int_equal(csv_next(reader, &row, &why), ST_NOT_FOUND);
        csv_free(reader);
    }
    buf_release(&text);
}

static void test_source_fails(void **state)
{
    (void)state;
    struct source source = {.rest = SPAN_LIT("a\nb"), .fails = ST_IO};
    struct buf out = BUF_INIT(100);
    read_all(&source, (struct csv_options){0}, &out);
    assert_string_equal(out.data, "!io 0:0");
    buf_release(&out);
    csv_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows),         cmocka_unit_test(test_utf16),
        cmocka_unit_test(test_refusals),     cmocka_unit_test(test_limits_of_a_row),
        cmocka_unit_test(test_limits),       cmocka_unit_test(test_long_files),
        cmocka_unit_test(test_source_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
