/* The base layer: spans, buffers, arena, text, encodings, clock, JSON. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/encode.h"
#include "lib/base/json_read.h"
#include "lib/base/json_write.h"
#include "lib/base/limits.h"
#include "lib/base/log.h"
#include "lib/base/secret.h"
#include "lib/base/text.h"
#include "lib/base/when.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define TEXT_MAX     (64u * 1024)

/* So that a row of a table that differs names itself. */
static void same(const char *row, struct span got, struct span want)
{
    if (!span_eq(got, want))
        fail_msg("%s: got '%.*s', want '%.*s'", row, SPAN_FMT(got), SPAN_FMT(want));
}

static void same_number(const char *row, long long got, long long want)
{
    if (got != want)
        fail_msg("%s: got %lld, want %lld", row, got, want);
}

/* --- span ---------------------------------------------------------------------------------------------------- */

static void test_span_compares(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool eq, eq_nocase, starts, starts_nocase, ends_nocase, has_nocase;
        int order;
    } rows[] = {
        {"", "", true, true, true, true, true, true, 0},
        {"a", "", false, false, true, true, true, true, 1},
        {"", "a", false, false, false, false, false, false, -1},
        {"abc", "ABC", false, true, false, true, true, true, 1},
        {"abc", "ab", false, false, true, true, false, true, 1},
        {"abc", "Bc", false, false, false, false, true, true, 1},
        {"xaBcx", "AbC", false, false, false, false, false, true, 1},
        {"ab", "abc", false, false, false, false, false, false, -1},
        {"[", "{", false, false, false, false, false, false, -1},              /* not letters, 32 apart */
        {"\xC3\xA4", "\xC3\x84", false, false, false, false, false, false, 1}, /* only ASCII folds */
        {"\x7F", "\x80", false, false, false, false, false, false, -1},        /* bytes are unsigned */
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct span a = span_of(rows[i].a), b = span_of(rows[i].b);
        int order = span_compare(a, b);
        same_number(rows[i].a, span_eq(a, b), rows[i].eq);
        same_number(rows[i].a, span_eq_nocase(a, b), rows[i].eq_nocase);
        same_number(rows[i].a, span_starts(a, b), rows[i].starts);
        same_number(rows[i].a, span_starts_nocase(a, b), rows[i].starts_nocase);
        same_number(rows[i].a, span_ends_nocase(a, b), rows[i].ends_nocase);
        same_number(rows[i].a, span_has_nocase(a, b), rows[i].has_nocase);
        same_number(rows[i].a, (order > 0) - (order < 0), rows[i].order);
    }
    assert_true(span_eq(SPAN_LIT("a\0b"), ((struct span){"a\0b", 3})));
    assert_false(span_eq(SPAN_LIT("a\0b"), SPAN_LIT("a\0c")));
    assert_true(span_eq((struct span){0}, SPAN_LIT("")));
}

static void test_span_parts(void **state)
{
    (void)state;
    struct span s = SPAN_LIT("a.b.c");
    assert_int_equal(span_find(s, '.'), 1);
    assert_int_equal(span_find_last(s, '.'), 3);
    assert_true(span_find(s, 'x') == SPAN_NONE && span_find_last(s, 'x') == SPAN_NONE);
    assert_true(span_find((struct span){0}, '.') == SPAN_NONE);
    same("cut", span_cut(s, 2, 1), SPAN_LIT("b"));
    same("cut past the end", span_cut(s, 4, SIZE_MAX), SPAN_LIT("c"));
    same("cut behind the end", span_cut(s, 9, 1), SPAN_LIT(""));
    same("from", span_from(s, 4), SPAN_LIT("c"));
    same("from behind the end", span_from(s, 6), SPAN_LIT(""));
    same("trim", span_trim(SPAN_LIT(" \t\r\na b\n\r\t ")), SPAN_LIT("a b"));
    same("trim all", span_trim(SPAN_LIT(" \t\r\n")), SPAN_LIT(""));
    same("trim leaves other white space", span_trim(SPAN_LIT("\v\xC2\xA0")), SPAN_LIT("\v\xC2\xA0"));
    assert_int_equal(span_of(NULL).len, 0);
}

static void test_span_next(void **state)
{
    (void)state;
    static const struct {
        const char *text, *parts; /* each part in brackets */
    } rows[] = {
        {"", "[]"}, {"a", "[a]"}, {"a,b", "[a][b]"}, {",", "[][]"}, {"a,,b,", "[a][][b][]"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf got = BUF_INIT(64);
        struct span rest = span_of(rows[i].text), part;
        while (span_next(&rest, ',', &part))
            buf_addf(&got, "[%.*s]", SPAN_FMT(part));
        assert_false(span_next(&rest, ',', &part));
        same(rows[i].text, buf_span(&got), span_of(rows[i].parts));
        buf_release(&got);
    }
}

static void test_span_to_u64(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint64_t max;
        bool ok;
        uint64_t value;
    } rows[] = {
        {"0", 0, true, 0},
        {"007", 7, true, 7},
        {"99", 100, true, 99},
        {"100", 100, true, 100},
        {"101", 100, false, 0},
        {"18446744073709551615", UINT64_MAX, true, UINT64_MAX},
        {"18446744073709551616", UINT64_MAX, false, 0},
        {"99999999999999999999", UINT64_MAX, false, 0},
        {"", 9, false, 0},
        {"-1", 9, false, 0},
        {"+1", 9, false, 0},
        {" 1", 9, false, 0},
        {"1 ", 9, false, 0},
        {"0x1", 99, false, 0},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        uint64_t value = 0;
        same_number(rows[i].text, span_to_u64(span_of(rows[i].text), rows[i].max, &value), rows[i].ok);
        assert_true(value == rows[i].value);
    }
}

/* --- buf ----------------------------------------------------------------------------------------------------- */

static void test_buf_limit(void **state)
{
    (void)state;
    for (size_t len = 999; len <= 1001; len++) {
        struct buf b = BUF_INIT(1000);
        struct fail why;
        for (size_t i = 0; i < len; i++)
            buf_add_char(&b, 'x');
        same_number("length", (long long)b.len, len > 1000 ? 1000 : (long long)len);
        assert_int_equal(b.data[b.len], '\0');
        assert_int_equal(buf_status(&b, "the text", &why), len > 1000 ? ST_TOO_LARGE : ST_OK);
        if (len > 1000)
            assert_string_equal(why.text, "the text is longer than 1000 bytes");
        buf_release(&b);
    }
}

static void test_buf_recycled(void **state)
{
    (void)state;
    static const char text[2000] = "";
    struct buf b = BUF_INIT(1500);
    for (size_t len = 0; len <= 2000; len += 250) {
        buf_add(&b, (struct span){text, len});
        size_t room = b.room;
        buf_recycle(&b, 1024);
        assert_int_equal(b.len, 0);
        assert_int_equal(b.error, ST_OK);
        assert_int_equal(b.limit, 1500);
        assert_int_equal(b.room, room > 1024 ? 0 : room);
    }
    buf_release(&b);
}

static void test_buf_error_sticks(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(4);
    buf_add_text(&b, "abc");
    buf_addf(&b, "%d", 10); /* one too long: nothing of it is added */
    buf_add_char(&b, 'd');
    buf_add(&b, (struct span){0});
    assert_null(buf_reserve(&b, 0));
    same("kept", buf_span(&b), SPAN_LIT("abc"));
    assert_int_equal(b.error, ST_TOO_LARGE);
    buf_reset(&b);
    buf_addf(&b, "%s", "abcd");
    assert_int_equal(b.error, ST_OK);
    same("after reset", buf_span(&b), SPAN_LIT("abcd"));
    buf_release_secret(&b);
    assert_null(b.data);
    buf_add_text(&b, "abcd"); /* the limit survives */
    buf_add_text(&b, "e");
    assert_int_equal(b.error, ST_TOO_LARGE);
    buf_release(&b);
    buf_release(&b);
}

static void test_buf_reserve(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(8);
    char *at = buf_reserve(&b, 8);
    assert_non_null(at);
    memcpy(at, "12345678", 8);
    buf_advance(&b, 3); /* fewer than were asked for */
    same("advance", buf_span(&b), SPAN_LIT("123"));
    assert_null(buf_reserve(&b, SIZE_MAX));
    assert_int_equal(b.error, ST_TOO_LARGE);
    buf_release(&b);
}

/* --- arena --------------------------------------------------------------------------------------------------- */

static void test_arena_limit(void **state)
{
    (void)state;
    enum { UNIT = alignof(max_align_t), LIMIT = 64 * UNIT };
    struct arena a = ARENA_INIT(LIMIT);
    assert_non_null(arena_alloc(&a, LIMIT - UNIT));
    assert_null(arena_alloc(&a, UNIT + 1));
    assert_non_null(arena_alloc(&a, UNIT));
    assert_int_equal(a.used, LIMIT);
    assert_null(arena_alloc(&a, 1));
    arena_reset(&a);
    assert_non_null(arena_alloc(&a, LIMIT));
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_array(&a, SIZE_MAX / 2, 4));
    arena_release(&a);
    assert_null(a.blocks);
    assert_null(arena_alloc(&a, LIMIT + 1));
    arena_release(&a);
}

static void test_arena_memory(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(1024 * 1024);
    struct span copy;
    for (int round = 0; round < 3; round++) { /* small, larger than a block, again from kept blocks */
        for (size_t size = 1; size < 100000; size = size * 3 + 1) {
            char *memory = arena_alloc(&a, size);
            assert_non_null(memory);
            assert_int_equal((uintptr_t)memory % alignof(max_align_t), 0);
            for (size_t i = 0; i < size; i++)
                assert_int_equal(memory[i], 0);
            memset(memory, 'x', size);
        }
        arena_reset(&a);
    }
    assert_true(arena_copy(&a, SPAN_LIT("a\0b"), &copy));
    same("copy", copy, SPAN_LIT("a\0b"));
    assert_int_equal(copy.ptr[copy.len], '\0');
    assert_true(arena_copy(&a, (struct span){0}, &copy));
    assert_non_null(copy.ptr);
    assert_int_equal(copy.len, 0);
    arena_release(&a);
}

/* --- text ---------------------------------------------------------------------------------------------------- */

static void test_utf8(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t fault; /* SPAN_NONE: well-formed */
    } rows[] = {
        {"", SPAN_NONE},
        {"a", SPAN_NONE},
        {"\x7F\xC2\x80\xDF\xBF", SPAN_NONE},
        {"\xE0\xA0\x80\xED\x9F\xBF\xEE\x80\x80\xEF\xBF\xBF", SPAN_NONE},
        {"\xF0\x90\x80\x80\xF4\x8F\xBF\xBF", SPAN_NONE},
        {"\x80", 0},                 /* a continuation alone */
        {"a\xBF", 1},                /* the same later */
        {"ab\xC2", 2},               /* cut off */
        {"\xE2\x82", 0},             /* cut off */
        {"\xF0\x9F\x98", 0},         /* cut off */
        {"\xC2\x41", 0},             /* no continuation */
        {"\xE2\x82\x41", 0},         /* no continuation */
        {"\xC0\x80", 0},             /* overlong U+0000 */
        {"\xC1\xBF", 0},             /* overlong */
        {"\xE0\x9F\xBF", 0},         /* overlong */
        {"\xF0\x8F\xBF\xBF", 0},     /* overlong */
        {"\xED\xA0\x80", 0},         /* U+D800 */
        {"\xED\xBF\xBF", 0},         /* U+DFFF */
        {"\xF4\x90\x80\x80", 0},     /* U+110000 */
        {"\xF7\xBF\xBF\xBF", 0},     /* above */
        {"\xF8\x88\x80\x80\x80", 0}, /* five bytes */
        {"\xFE", 0},
        {"ok \xF0\x9F\x98\x80 \xFF", 8},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t offset = SPAN_NONE;
        bool valid = utf8_is_valid(span_of(rows[i].text), &offset);
        same_number(rows[i].text, valid, rows[i].fault == SPAN_NONE);
        assert_true(offset == rows[i].fault);
    }
    assert_true(utf8_is_valid(SPAN_LIT("a\0b"), NULL));
    assert_false(utf8_is_valid(SPAN_LIT("\xFF"), NULL));
}

/* Every scalar value is written and read back; all else is refused by the reader. */
static void test_utf8_all_codes(void **state)
{
    (void)state;
    struct buf b = BUF_INIT(8);
    for (uint32_t code = 0; code <= 0x10FFFF; code++) {
        uint32_t back = code + 1;
        bool is_surrogate = code >= 0xD800 && code <= 0xDFFF;
        buf_reset(&b);
        utf8_add(&b, code);
        size_t len = utf8_decode(buf_span(&b), &back);
        if (is_surrogate ? len != 0 : len != b.len || back != code)
            fail_msg("U+%04X: got U+%04X in %zu bytes", (unsigned int)code, (unsigned int)back, len);
        if (!is_surrogate && utf16_units(buf_span(&b)) != (code > 0xFFFF ? 2 : 1))
            fail_msg("U+%04X: wrong number of UTF-16 units", (unsigned int)code);
    }
    buf_release(&b);
}

static void test_utf8_cut(void **state)
{
    (void)state;
    /* 1, 2, 3 and 4 bytes; 1, 1, 1 and 2 units */
    struct span s = SPAN_LIT("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80");
    static const size_t by_bytes[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 10};
    static const size_t by_units[] = {0, 1, 3, 6, 6, 10, 10};
    assert_int_equal(utf16_units(s), 5);
    for (size_t i = 0; i < COUNT(by_bytes); i++)
        same_number("bytes", (long long)utf8_cut_bytes(s, i).len, (long long)by_bytes[i]);
    for (size_t i = 0; i < COUNT(by_units); i++)
        same_number("units", (long long)utf8_cut_units(s, i).len, (long long)by_units[i]);
}

/* Around the ends of a range, and what is only blank, or only looks like nothing in some fonts. */
static void test_invisible_codes(void **state)
{
    (void)state;
    static const uint32_t seen[] = {0x00,   0xAC,   0xAE,   0x200A, 0x2010, 0x2029, 0x202F,  0x205F,
                                    0x2070, 0x3000, 0xFDFF, 0xFE10, 0xFFEF, 0xFFFC, 0xDFFFF, 0xE1000};
    static const uint32_t unseen[] = {0xAD,   0x34F,   0x61C,   0x115F,  0x3164,  0x200B,
                                      0x200F, 0x202A,  0x202E,  0x2060,  0x2069,  0xFE00,
                                      0xFE0F, 0x1D17A, 0xE0000, 0xE0041, 0xE01EF, 0xE0FFF};
    for (size_t i = 0; i < COUNT(seen); i++)
        same_number("seen", is_invisible_code(seen[i]), false);
    for (size_t i = 0; i < COUNT(unseen); i++)
        same_number("unseen", is_invisible_code(unseen[i]), true);
}

static void test_text_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"", ""},
        {"plain \xC3\xA9 \xF0\x9F\x98\x80", "plain \xC3\xA9 \xF0\x9F\x98\x80"},
        {"a\r\nb\tc", "a  b c"},
        {"\x1B[2J\x07\x7F", "\xEF\xBF\xBD[2J\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xC2\x9B", "\xEF\xBF\xBD"},     /* C1: the other way to begin a terminal sequence */
        {"\xE2\x80\xA8", "\xEF\xBF\xBD"}, /* line separator */
        {"\xE2\x80\xAE"
         "b",
         "\xEF\xBF\xBD"
         "b"}, /* right-to-left override */
        {"\xE2\x81\xA6\xE2\x80\x8B", "\xEF\xBF\xBD\xEF\xBF\xBD"},
        {"\xEF\xBB\xBF", "\xEF\xBF\xBD"},
        {"\xF3\xA0\x81\x81\xEF\xB8\x8F", "\xEF\xBF\xBD\xEF\xBF\xBD"}, /* a tag, a variation selector */
        {"a\xFF\xC3", "a\xEF\xBF\xBD\xEF\xBF\xBD"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf out = BUF_INIT(TEXT_MAX);
        text_add_line(&out, span_of(rows[i].text));
        same(rows[i].text, buf_span(&out), span_of(rows[i].want));
        buf_release(&out);
    }
}

/* --- encode -------------------------------------------------------------------------------------------------- */

static void test_hex(void **state)
{
    (void)state;
    char text[9];
    hex_write((const unsigned char *)"\x00\x9F\xA0\xFF", 4, text);
    assert_string_equal(text, "009fa0ff");
    unsigned char bytes[4];
    assert_true(hex_read(SPAN_LIT("009fa0ff"), bytes, 4));
    assert_memory_equal(bytes, "\x00\x9F\xA0\xFF", 4);
    assert_false(hex_read(SPAN_LIT("009fa0f"), bytes, 4));
    assert_false(hex_read(SPAN_LIT("009fa0"), bytes, 4));
    assert_false(hex_read(SPAN_LIT("009fa0ff00"), bytes, 4));
    assert_false(hex_read(SPAN_LIT("009FA0FF"), bytes, 4));
    assert_false(hex_read(SPAN_LIT("009fa0fg"), bytes, 4));
    assert_false(hex_read(SPAN_LIT("009fa0f\0"), bytes, 4));
    assert_int_equal(hex_number(SPAN_LIT("d83Dx"), 4), 0xD83D);
    assert_int_equal(hex_number(SPAN_LIT("09"), 2), 9);
    assert_int_equal(hex_number(SPAN_LIT("0"), 2), -1);
    assert_int_equal(hex_number(SPAN_LIT("0g"), 2), -1);
    assert_int_equal(hex_number(SPAN_LIT("/0"), 2), -1);
    assert_int_equal(hex_number(SPAN_LIT(":0"), 2), -1);
    assert_int_equal(hex_number(SPAN_LIT("`0"), 2), -1);
    hex_write(NULL, 0, text);
    assert_string_equal(text, "");
}

static void test_base64(void **state)
{
    (void)state;
    static const struct {
        const char *plain, *coded;
    } rows[] = {
        /* RFC 4648 section 10 */
        {"", ""},
        {"f", "Zg=="},
        {"fo", "Zm8="},
        {"foo", "Zm9v"},
        {"foob", "Zm9vYg=="},
        {"fooba", "Zm9vYmE="},
        {"foobar", "Zm9vYmFy"},
        {"\xFB\xFF\xFE", "+//+"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf out = BUF_INIT(TEXT_MAX);
        base64_add(&out, span_of(rows[i].plain));
        same(rows[i].plain, buf_span(&out), span_of(rows[i].coded));
        buf_reset(&out);
        assert_int_equal(base64_decode(&out, span_of(rows[i].coded), NULL), ST_OK);
        same(rows[i].coded, buf_span(&out), span_of(rows[i].plain));
        buf_release(&out);
    }
}

static void test_base64_refuses(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum status status;
        const char *want; /* decoded, or the message */
    } rows[] = {
        {"Zg", ST_OK, "f"},
        {"Zm8", ST_OK, "fo"},
        {"Z", ST_INVALID, "not base64: wrong length"},
        {"Zm9vY", ST_INVALID, "not base64: wrong length"},
        {"Zg=", ST_INVALID, "not base64: wrong length"},
        {"Zm9v=", ST_INVALID, "not base64: wrong length"},
        {"=", ST_INVALID, "not base64: wrong length"},
        {"====", ST_INVALID, "not base64: bad character at offset 0"},
        {"Zg==Zg==", ST_INVALID, "not base64: bad character at offset 2"},
        {"Zm 9", ST_INVALID, "not base64: bad character at offset 2"},
        {"Zm-_", ST_INVALID, "not base64: bad character at offset 2"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf out = BUF_INIT(TEXT_MAX);
        struct fail why = {0};
        same_number(rows[i].text, base64_decode(&out, span_of(rows[i].text), &why), rows[i].status);
        same(rows[i].text, rows[i].status == ST_OK ? buf_span(&out) : span_of(why.text),
             span_of(rows[i].want));
        buf_release(&out);
    }
}

static void test_percent(void **state)
{
    (void)state;
    static const struct {
        const char *text, *stays, *space;
    } rows[] = {
        {"", "", ""},
        {"a+b", "a+b", "a b"},
        {"%41%7e%2B", "A~+", "A~+"},
        {"%e2%82%AC", "\xE2\x82\xAC", "\xE2\x82\xAC"},
        {"100%", "100%", "100%"},
        {"%4", "%4", "%4"},
        {"%zz%4g", "%zz%4g", "%zz%4g"},
        {"%%41", "%A", "%A"},
        {"%2541", "%41", "%41"}, /* once only */
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct buf out = BUF_INIT(TEXT_MAX);
        percent_decode(&out, span_of(rows[i].text), PLUS_STAYS);
        same(rows[i].text, buf_span(&out), span_of(rows[i].stays));
        buf_reset(&out);
        percent_decode(&out, span_of(rows[i].text), PLUS_IS_SPACE);
        same(rows[i].text, buf_span(&out), span_of(rows[i].space));
        buf_release(&out);
    }
    struct buf out = BUF_INIT(TEXT_MAX), back = BUF_INIT(TEXT_MAX);
    percent_add(&out, SPAN_LIT("aZ09-._~ /%+\xFF\0"));
    same("encode", buf_span(&out), SPAN_LIT("aZ09-._~%20%2F%25%2B%FF%00"));
    percent_decode(&back, buf_span(&out), PLUS_STAYS);
    same("and back", buf_span(&back), SPAN_LIT("aZ09-._~ /%+\xFF\0"));
    buf_release(&out);
    buf_release(&back);
}

static void test_html(void **state)
{
    static const char text[] = "a<b>&amp; \"c\" 'd' \xC3\xB6\xED\x95\x9C<";
    struct buf out = BUF_INIT(1024);
    (void)state;
    html_add(&out, span_of(text));
    assert_string_equal(out.data, "a&lt;b&gt;&amp;amp; &quot;c&quot; &#39;d&#39; \xC3\xB6\xED\x95\x9C&lt;");
    buf_reset(&out);
    html_add(&out, span_empty());
    assert_int_equal(out.len, 0);
    for (uint32_t code = 0; code < 256; code++)
        assert_int_equal(html_entity(code) != NULL, span_find(SPAN_LIT("<>&\"'"), (char)code) != SPAN_NONE);
    buf_release(&out);
}

/* --- clock --------------------------------------------------------------------------------------------------- */

static void test_clock_formats(void **state)
{
    (void)state;
    static const struct {
        int64_t wall_ms;
        const char *http, *iso;
    } rows[] = {
        {1255290759123, "Sun, 11 Oct 2009 19:52:39 GMT", "2009-10-11T19:52:39.123Z"},
        {0, "Thu, 01 Jan 1970 00:00:00 GMT", "1970-01-01T00:00:00.000Z"},
        {-1, "Wed, 31 Dec 1969 23:59:59 GMT", "1969-12-31T23:59:59.999Z"},
        {951782400000, "Tue, 29 Feb 2000 00:00:00 GMT", "2000-02-29T00:00:00.000Z"},
        {-11644473600000, "Mon, 01 Jan 1601 00:00:00 GMT", "1601-01-01T00:00:00.000Z"},
        {253402300799999, "Fri, 31 Dec 9999 23:59:59 GMT", "9999-12-31T23:59:59.999Z"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[CLOCK_TEXT_BYTES];
        int64_t back = 0;
        clock_http_date(rows[i].wall_ms, text);
        assert_string_equal(text, rows[i].http);
        assert_true(clock_parse_http_date(span_of(text), &back));
        same_number(rows[i].http, back, rows[i].wall_ms - ((rows[i].wall_ms % 1000 + 1000) % 1000));
        clock_iso_time(rows[i].wall_ms, text);
        assert_string_equal(text, rows[i].iso);
        assert_true(clock_parse_iso_time(span_of(text), &back));
        same_number(rows[i].iso, back, rows[i].wall_ms);
    }
    char text[CLOCK_TEXT_BYTES];
    clock_mail_date(1255290759123, text);
    assert_string_equal(text, "Sun, 11 Oct 2009 19:52:39 +0000");
    clock_minute_words(1255290759123, text);
    assert_string_equal(text, "2009-10-11 19:52 UTC");
    clock_iso_time(INT64_MAX, text); /* out of range: some text, no overrun */
    assert_true(strlen(text) < CLOCK_TEXT_BYTES);
}

static void test_clock_parse(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool http, iso;
        int64_t wall_ms;
    } rows[] = {
        {"2009-10-11T19:52:39Z", false, true, 1255290759000},
        {"2009-10-11T19:52:39.1Z", false, true, 1255290759100},
        {"2009-10-11T19:52:39.1234567Z", false, true, 1255290759123},
        {"2000-02-29T00:00:00Z", false, true, 951782400000},
        {"2016-12-31T23:59:60Z", false, true, 1483228800000}, /* a leap second is the next one */
        {"Sat, 31 Dec 2016 23:59:60 GMT", true, false, 1483228800000},
        {"Fri, 31 Dec 9999 23:59:59 GMT", true, false, 253402300799000},
        {"Fri, 31 Dec 9999 23:59:60 GMT", false, false, 0},
        {"2009-12-32T00:00:00Z", false, false, 0},
        {"2009-12-99T00:00:00Z", false, false, 0},
        {"2009-10-11T19:52:39.12345678Z", false, false, 0},
        {"2009-10-11T19:52:39.Z", false, false, 0},
        {"2009-10-11T19:52:39", false, false, 0},
        {"2009-10-11T19:52:39+00:00", false, false, 0},
        {"2009-10-11 19:52:39Z", false, false, 0},
        {"2009-10-11T19:52:39Zx", false, false, 0},
        {"2009-02-29T00:00:00Z", false, false, 0},
        {"2009-04-31T00:00:00Z", false, false, 0},
        {"2009-00-01T00:00:00Z", false, false, 0},
        {"2009-13-01T00:00:00Z", false, false, 0},
        {"2009-01-00T00:00:00Z", false, false, 0},
        {"2009-01-01T24:00:00Z", false, false, 0},
        {"2009-01-01T00:60:00Z", false, false, 0},
        {"9999-12-31T23:59:59.999Z", false, true, 253402300799999},
        {"9999-12-31T23:59:60Z", false, false, 0},
        {"2009-01-01T00:00:61Z", false, false, 0},
        {"1600-12-31T23:59:59Z", false, false, 0},
        {"+009-01-01T00:00:00Z", false, false, 0},
        {"20091-01-01T00:00:00Z", false, false, 0},
        {"Sun, 11 Oct 2009 19:52:39 GMT", true, false, 1255290759000},
        {"Sun, 11 Oct 2009 19:52:39 UTC", false, false, 0},
        {"Sun, 11 oct 2009 19:52:39 GMT", false, false, 0},
        {"Sun, 31 Feb 2009 19:52:39 GMT", false, false, 0},
        {"Sun, 11 Oct 2009 19:52:39 GMT ", false, false, 0},
        {"Sunday, 11-Oct-09 19:52:39 GMT", false, false, 0},
        {"Sun Oct 11 19:52:39 2009", false, false, 0},
        {"", false, false, 0},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        int64_t wall_ms = 0;
        same_number(rows[i].text, clock_parse_http_date(span_of(rows[i].text), &wall_ms), rows[i].http);
        same_number(rows[i].text, clock_parse_iso_time(span_of(rows[i].text), &wall_ms), rows[i].iso);
        same_number(rows[i].text, wall_ms, rows[i].wall_ms);
    }
}

static void test_clock_runs(void **state)
{
    (void)state;
    int64_t before = clock_monotonic_ms();
    assert_true(clock_monotonic_ms() >= before);
    assert_true(clock_wall_ms() > 1700000000000); /* the program is younger than 2023 */
}

/* A clock that is right enough is not touched, a wrong one is put right until it is right by itself. */
static void test_clock_is_put_right(void **state)
{
    (void)state;
    static const int64_t off_ms[] = {0, 59000, -59000, 1800000, -1800000, 0};
    for (size_t i = 0; i < sizeof off_ms / sizeof off_ms[0]; i++) {
        bool trusted = off_ms[i] < CLOCK_TRUSTED_MS && off_ms[i] > -CLOCK_TRUSTED_MS;
        int64_t wanted = clock_wall_ms() + (trusted ? 0 : off_ms[i]);
        clock_note_true_ms(clock_wall_ms() + off_ms[i]);
        assert_in_range(clock_true_ms(), wanted, wanted + 900);
    }
}

/* --- reading JSON -------------------------------------------------------------------------------------------- */

static const struct json_limits SMALL = {.depth = 3, .values = 10};

static void test_json_read(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(TEXT_MAX);
    const struct json *top;
    struct span text =
        SPAN_LIT(" {\"s\":\"a\\n\\u00e9\\ud83d\\ude00\\/\\\"\",\"n\":-0.50e+400,\"t\":true,\"f\":false,"
                 "\"z\":null,\"o\":{\"x\":1},\"e\":\"\",\"s\":\"second\"}\r\n");
    assert_int_equal(json_read(text, &SMALL, &a, &top, NULL, NULL), ST_OK);
    assert_int_equal(top->kind, JSON_OBJECT);
    same("escapes", json_text(top, "s"), SPAN_LIT("a\n\xC3\xA9\xF0\x9F\x98\x80/\""));
    same("a number keeps its text", json_text(top, "n"), SPAN_LIT("-0.50e+400"));
    assert_int_equal(json_member(top, "t")->kind, JSON_TRUE);
    assert_int_equal(json_member(top, "f")->kind, JSON_FALSE);
    assert_int_equal(json_member(top, "z")->kind, JSON_NULL);
    same("not a text", json_text(top, "t"), SPAN_LIT(""));
    same("inner", json_text(json_member(top, "o"), "x"), SPAN_LIT("1"));
    assert_int_equal(json_member(top, "e")->kind, JSON_STRING);
    assert_null(json_member(top, "S")); /* exact names */
    assert_null(json_member(NULL, "s"));
    same("nothing", json_text(NULL, "s"), SPAN_LIT(""));
    size_t count = 0; /* both members of one name are there */
    for (const struct json *m = top->first; m; m = m->next)
        count += span_eq(m->name, SPAN_LIT("s"));
    assert_int_equal(count, 2);
    arena_release(&a);
}

/* The parser's own memory is bounded by the text's length: a text that is one string, all escapes, must fit. */
static void test_json_read_long_string(void **state)
{
    (void)state;
    enum { ESCAPES = 700 * 1000 };
    static char text[2 * ESCAPES + 16];
    struct arena a = ARENA_INIT(TEXT_MAX + ESCAPES);
    const struct json *top;
    memcpy(text, "{\"s\":\"", 6);
    for (size_t i = 0; i < ESCAPES; i++)
        memcpy(text + 6 + 2 * i, "\\n", 2);
    memcpy(text + 6 + 2 * ESCAPES, "\"}", 2);
    assert_int_equal(json_read((struct span){text, 2 * ESCAPES + 8}, &SMALL, &a, &top, NULL, NULL), ST_OK);
    assert_int_equal(json_text(top, "s").len, ESCAPES);
    arena_release(&a);
}

static void test_json_read_nesting(void **state)
{
    (void)state;
    struct arena a = ARENA_INIT(TEXT_MAX);
    const struct json *top;
    assert_int_equal(json_read(SPAN_LIT("{\"\":[{},[],\"x\"],\"b\":2}"), &SMALL, &a, &top, NULL, NULL),
                     ST_OK);
    const struct json *list = top->first;
    same("the empty name", list->name, SPAN_LIT(""));
    assert_int_equal(list->kind, JSON_ARRAY);
    assert_int_equal(list->first->kind, JSON_OBJECT);
    assert_null(list->first->first);
    assert_int_equal(list->first->next->kind, JSON_ARRAY);
    same("element", list->first->next->next->text, SPAN_LIT("x"));
    assert_null(list->first->next->next->next);
    same("after it", list->next->name, SPAN_LIT("b"));
    arena_release(&a);
}

#define SYNTAX  "syntax error"
#define EARLY   "ends too early"
#define NO_OBJ  "not a JSON object"
#define LONE    "lone surrogate in a string"
#define NUL     "U+0000 in a string"
#define NO_UTF8 NULL

static void test_json_refuses(void **state)
{
    (void)state;
    static const struct {
        struct span text;
        enum status status;
        size_t offset;
        const char *reason;
    } rows[] = {
#define ROW(text, status, offset, reason) {{(text), sizeof(text) - 1}, (status), (offset), (reason)}
        ROW("", ST_INVALID, 0, EARLY),
        ROW(" \n", ST_INVALID, 2, EARLY),
        ROW("{", ST_INVALID, 1, EARLY),
        ROW("{\"a", ST_INVALID, 3, EARLY),
        ROW("{\"a\"", ST_INVALID, 4, EARLY),
        ROW("{\"a\":", ST_INVALID, 5, EARLY),
        ROW("{\"a\":1", ST_INVALID, 6, EARLY),
        ROW("{\"a\":tru", ST_INVALID, 8, EARLY),
        ROW("{\"a\":1,", ST_INVALID, 7, EARLY),
        ROW("{\"a\":[1", ST_INVALID, 7, EARLY),
        ROW("{\"a\":\"x\\", ST_INVALID, 8, EARLY),
        ROW("{\"a\":1 \"b\":2}", ST_INVALID, 7, SYNTAX), /* missing comma: where the next name begins */
        ROW("{\"a\":\"x\"\n  \"bcdef\":2}", ST_INVALID, 11, SYNTAX),
        ROW("{\"a\":\"x\" \"\":2}", ST_INVALID, 9, SYNTAX),
        ROW("{\"a\":\"\\n\" \"\\n\":2}", ST_INVALID, 10, SYNTAX),
        ROW("{\"a\":{} {}}", ST_INVALID, 8, SYNTAX),
        ROW("{\"a\" 1}", ST_INVALID, 5, SYNTAX),
        ROW("{\"a\",1}", ST_INVALID, 4, SYNTAX),
        ROW("{\"a\":,}", ST_INVALID, 5, SYNTAX),
        ROW("{\"a\"::1}", ST_INVALID, 5, SYNTAX),
        ROW("{\"a\":1:2}", ST_INVALID, 6, SYNTAX),
        ROW("{\"a\":1,}", ST_INVALID, 7, SYNTAX),
        ROW("{\"a\":1,,\"b\":2}", ST_INVALID, 7, SYNTAX),
        ROW("{,\"a\":1}", ST_INVALID, 1, SYNTAX),
        ROW("{1:2}", ST_INVALID, 1, SYNTAX),
        ROW("{\"a\":[,1]}", ST_INVALID, 6, SYNTAX),
        ROW("{\"a\":[1}}", ST_INVALID, 7, SYNTAX),
        ROW("{\"a\":1]", ST_INVALID, 6, SYNTAX),
        ROW("{'a':1}", ST_INVALID, 1, SYNTAX),
        ROW("{a:1}", ST_INVALID, 1, SYNTAX),
        ROW("{\"a\":01}", ST_INVALID, 6, SYNTAX),
        ROW("{\"a\":1.}", ST_INVALID, 5, SYNTAX),
        ROW("{\"a\":+1}", ST_INVALID, 5, SYNTAX),
        ROW("{\"a\":NaN}", ST_INVALID, 5, SYNTAX),
        ROW("{\"a\":True}", ST_INVALID, 5, SYNTAX),
        ROW("{\"a\":truefalse}", ST_INVALID, 9, SYNTAX),
        ROW("{/**/\"a\":1}", ST_INVALID, 1, SYNTAX),
        ROW("{\"a\":1}//", ST_INVALID, 7, SYNTAX),
        ROW("{} {}", ST_INVALID, 3, SYNTAX),
        ROW("{},", ST_INVALID, 2, SYNTAX),
        ROW("{}\0", ST_INVALID, 2, SYNTAX),
        ROW("{} \"", ST_INVALID, 3, SYNTAX),
        ROW("{} \"\\q\"", ST_INVALID, 3, SYNTAX), /* what cannot stand there is not looked into */
        ROW("{\"a\":1 \"b\\q\":2}", ST_INVALID, 7, SYNTAX),
        ROW("{\"a\":1 \"b", ST_INVALID, 7, SYNTAX),
        ROW("{\"a\" tru", ST_INVALID, 5, SYNTAX),
        ROW("{tru", ST_INVALID, 1, SYNTAX),
        ROW("{\"a\":1,tru", ST_INVALID, 7, SYNTAX),
        ROW("{\"a\":1,\"b\":2", ST_INVALID, 12, EARLY),
        ROW("{\"a\":\"x\"}\"}", ST_INVALID, 9, SYNTAX), /* as an unescaped quote leaves it */
        ROW("{}t", ST_INVALID, 2, SYNTAX),
        ROW("{\v}", ST_INVALID, 1, SYNTAX),
        ROW("{}\f", ST_INVALID, 2, SYNTAX),
        ROW("\xEF\xBB\xBF{}", ST_INVALID, 0, SYNTAX),
        ROW("{\"a\":\"x\ny\"}", ST_INVALID, 7, SYNTAX),
        ROW("{\"a\":\"x\0y\"}", ST_INVALID, 7, SYNTAX),
        ROW("{\"a\":\"\\\"\\qy\"}", ST_INVALID, 8, SYNTAX),
        ROW("{\"a\":\"x\\u12G4\"}", ST_INVALID, 7, SYNTAX),
        ROW("{\"a\":\"x\\u12\"}", ST_INVALID, 7, SYNTAX),
        ROW("{\"a\tb\":1}", ST_INVALID, 3, SYNTAX),
        ROW("[]", ST_INVALID, 0, NO_OBJ),
        ROW("[{\"a\":1}]", ST_INVALID, 0, NO_OBJ),
        ROW("\"a\"", ST_INVALID, 0, NO_OBJ),
        ROW("12", ST_INVALID, 0, NO_OBJ),
        ROW("12 ", ST_INVALID, 0, NO_OBJ),
        ROW("null", ST_INVALID, 0, NO_OBJ),
        ROW("{\"a\":\"\\u0000\"}", ST_INVALID, 6, NUL),
        ROW("{\"a\\u0000\":1}", ST_INVALID, 3, NUL),
        ROW("{\"a\":\"\\ud800\"}", ST_INVALID, 6, LONE),
        ROW("{\"a\":\"\\uDFFF\"}", ST_INVALID, 6, LONE),
        ROW("{\"a\":\"\\ud800x\"}", ST_INVALID, 6, LONE),
        ROW("{\"a\":\"\\ud800\\u0041\"}", ST_INVALID, 6, LONE),
        ROW("{\"a\":\"\\ud800\\ud800\\udc00\"}", ST_INVALID, 6, LONE),
        ROW("{\"a\":\"\\udbff\\ue000\"}", ST_INVALID, 6, LONE),
        ROW("{\"a\":\"\\udc00\\ud800\"}", ST_INVALID, 6, LONE),
        ROW("{\"\\ud800\":1}", ST_INVALID, 2, LONE),
        ROW("{\"a\":\"\\\\\\ud800\"}", ST_INVALID, 8, LONE),
        ROW("{\"a\":\"\xC0\xAF\"}", ST_INVALID, 6, NO_UTF8),
        ROW("{\"a\":\"\xED\xA0\x80\"}", ST_INVALID, 6, NO_UTF8),
        ROW("{\"a\":\"\xF4\x90\x80\x80\"}", ST_INVALID, 6, NO_UTF8),
        ROW("{\"\xFF\":1}", ST_INVALID, 2, NO_UTF8),
        ROW("{\"a\":[[[]]]}", ST_TOO_LARGE, 7, "nested too deeply"),
        ROW("{\"a\":{\"b\":{\"c\":{}}}}", ST_TOO_LARGE, 15, "nested too deeply"),
#undef ROW
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct arena a = ARENA_INIT(TEXT_MAX);
        const struct json *top;
        struct fail why = {0};
        size_t offset = SPAN_NONE;
        char want[sizeof why.text];
        same_number(rows[i].text.ptr, json_read(rows[i].text, &SMALL, &a, &top, &offset, &why),
                    rows[i].status);
        same_number(rows[i].text.ptr, (long long)offset, (long long)rows[i].offset);
        if (rows[i].reason)
            (void)snprintf(want, sizeof want, "invalid JSON: %s at byte %zu", rows[i].reason, offset);
        else
            (void)snprintf(want, sizeof want, "invalid UTF-8 at byte %zu", offset);
        same(rows[i].text.ptr, span_of(why.text), span_of(want));
        arena_release(&a);
    }
}

static void test_json_escapes_that_are_fine(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"{\"a\":\"\\\\u0000\"}", "\\u0000"}, /* an escaped backslash, then text */
        {"{\"a\":\"\\\\ud800\"}", "\\ud800"},
        {"{\"a\":\"\\\\\\\\ud800\"}", "\\\\ud800"},
        {"{\"a\":\"\\ud7ff\\ue000\"}", "\xED\x9F\xBF\xEE\x80\x80"}, /* the neighbours of the surrogates */
        {"{\"a\":\"\\uD800\\uDC00\"}", "\xF0\x90\x80\x80"},
        {"{\"a\":\"\\uDBFF\\udfff\"}", "\xF4\x8F\xBF\xBF"},
        {"{\"a\":\"\\u0001\\b\\f\\r\\t\"}", "\x01\b\f\r\t"},
        {"{\"a\":\"\x7F\"}", "\x7F"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct arena a = ARENA_INIT(TEXT_MAX);
        const struct json *top;
        assert_int_equal(json_read(span_of(rows[i].text), &SMALL, &a, &top, NULL, NULL), ST_OK);
        same(rows[i].text, json_text(top, "a"), span_of(rows[i].want));
        arena_release(&a);
    }
}

/* {"a":[1,1,...]}: the object, the array and its elements count. */
static enum status read_values(size_t values, size_t *offset)
{
    struct arena a = ARENA_INIT(TEXT_MAX);
    struct buf text = BUF_INIT(TEXT_MAX);
    const struct json *top;
    buf_add_text(&text, "{\"a\":[");
    for (size_t i = 2; i < values; i++)
        buf_add_text(&text, i == 2 ? "1" : ",1");
    buf_add_text(&text, "]}");
    enum status status = json_read(buf_span(&text), &SMALL, &a, &top, offset, NULL);
    buf_release(&text);
    arena_release(&a);
    return status;
}

static enum status read_depth(size_t depth, size_t limit)
{
    struct arena a = ARENA_INIT(TEXT_MAX);
    struct buf text = BUF_INIT(TEXT_MAX);
    const struct json_limits limits = {.depth = limit, .values = 1000};
    const struct json *top;
    buf_add_text(&text, "{\"a\":");
    for (size_t i = 1; i < depth; i++)
        buf_add_char(&text, '[');
    buf_add_text(&text, depth == 1 ? "1" : "");
    for (size_t i = 1; i < depth; i++)
        buf_add_char(&text, ']');
    buf_add_char(&text, '}');
    enum status status = json_read(buf_span(&text), &limits, &a, &top, NULL, NULL);
    buf_release(&text);
    arena_release(&a);
    return status;
}

static void test_json_limits(void **state)
{
    (void)state;
    size_t offset = 0;
    assert_int_equal(read_values(9, &offset), ST_OK);
    assert_int_equal(read_values(10, &offset), ST_OK);
    assert_int_equal(read_values(11, &offset), ST_TOO_LARGE);
    assert_int_equal(offset, 22); /* the ninth element */
    for (size_t limit = 1; limit <= LIMIT_JSON_DEPTH; limit++) {
        if (limit > 1)
            assert_int_equal(read_depth(limit - 1, limit), ST_OK);
        assert_int_equal(read_depth(limit, limit), ST_OK);
        assert_int_equal(read_depth(limit + 1, limit), ST_TOO_LARGE);
    }
    assert_int_equal(read_depth(20000, LIMIT_JSON_DEPTH), ST_TOO_LARGE);
}

/* Wherever the arena runs out, the answer is ST_NOMEM. */
static void test_json_no_memory(void **state)
{
    (void)state;
    struct span text = SPAN_LIT("{\"name\":\"a text\",\"list\":[1,{\"x\":null}]}");
    const struct json *top;
    size_t limit = 0;
    enum status status = ST_NOMEM;
    for (; status == ST_NOMEM; limit += 8) {
        struct arena a = ARENA_INIT(limit);
        status = json_read(text, &SMALL, &a, &top, NULL, NULL);
        arena_release(&a);
        assert_true(limit < TEXT_MAX);
    }
    assert_int_equal(status, ST_OK);
    assert_true(limit > 200);
}

/* --- writing JSON -------------------------------------------------------------------------------------------- */

static void test_json_write(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(TEXT_MAX);
    struct json_writer w;
    buf_add_text(&out, "before ");
    json_begin(&w, &out);
    json_add_text(&w, SPAN_LIT("t\""), SPAN_LIT("a\"\\\b\f\n\r\t\x01\x1F/\x7F\xC3\xA9\xF0\x9F\x98\x80"));
    json_add_text(&w, SPAN_LIT("blank"), (struct span){0});
    json_add_number(&w, SPAN_LIT("n"), INT64_MIN);
    json_add_bool(&w, SPAN_LIT("b"), true);
    json_add_bool(&w, SPAN_LIT("last"), false);
    assert_int_equal(json_end(&w, "the text", NULL), ST_OK);
    same(
        "written", buf_span(&out),
        SPAN_LIT(
            "before {\"t\\\"\":\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\\u001F/\x7F\xC3\xA9\xF0\x9F\x98\x80\",\"blank\":\"\","
            "\"n\":-9223372036854775808,\"b\":true,\"last\":false}"));
    buf_release(&out);
}

/* What one writes the other reads, whatever the text. */
static void test_json_round_trip(void **state)
{
    (void)state;
    struct buf text = BUF_INIT(TEXT_MAX), out = BUF_INIT(TEXT_MAX);
    struct arena a = ARENA_INIT(TEXT_MAX);
    struct json_writer w;
    const struct json *top;
    for (uint32_t code = 1; code < 0x300; code++)
        utf8_add(&text, code);
    json_begin(&w, &out);
    json_add_text(&w, buf_span(&text), buf_span(&text));
    assert_int_equal(json_end(&w, "the text", NULL), ST_OK);
    assert_true(span_find(buf_span(&out), '\n') == SPAN_NONE);
    assert_int_equal(json_read(buf_span(&out), &SMALL, &a, &top, NULL, NULL), ST_OK);
    assert_true(span_eq(top->first->name, buf_span(&text)));
    assert_true(span_eq(top->first->text, buf_span(&text)));
    arena_release(&a);
    buf_release(&out);
    buf_release(&text);
}

static void test_json_write_fails(void **state)
{
    (void)state;
    struct fail why = {0};
    struct json_writer w;
    struct buf out = BUF_INIT(TEXT_MAX), small = BUF_INIT(10);
    json_begin(&w, &out);
    json_add_text(&w, SPAN_LIT("a"), SPAN_LIT("\xFF"));
    json_add_text(&w, SPAN_LIT("b"), SPAN_LIT("fine"));
    assert_int_equal(json_end(&w, "the text", &why), ST_INVALID);
    assert_string_equal(why.text, "the text holds text that is not UTF-8");
    json_begin(&w, &small);
    json_add_text(&w, SPAN_LIT("a"), SPAN_LIT("0123456789"));
    assert_int_equal(json_end(&w, "the text", &why), ST_TOO_LARGE);
    buf_release(&out);
    buf_release(&small);
}

/* --- secrets -------------------------------------------------------------------------------------------- */

static void test_secret(void **state)
{
    (void)state;
    struct secret *secret, *next;
    struct fail why;
    struct buf text = BUF_INIT(64), small = BUF_INIT(4);
    unsigned int first, second;
    assert_int_equal(secret_new(SPAN_LIT("first\0part"), &secret, &why), ST_OK);
    assert_int_equal(secret_copy(secret, &text, &first, &why), ST_OK);
    assert_true(span_eq(buf_span(&text), SPAN_LIT("first\0part")));
    assert_int_equal(secret_version(secret), first);
    assert_int_equal(secret_new(SPAN_LIT("second"), &next, &why), ST_OK);
    secret_replace(secret, next);
    assert_int_not_equal(secret_version(secret), first);
    buf_reset(&text);
    assert_int_equal(secret_copy(secret, &text, &second, &why), ST_OK);
    assert_string_equal(text.data, "second");
    assert_int_equal(secret_version(secret), second);
    assert_int_equal(secret_copy(secret, &small, &second, &why), ST_TOO_LARGE);
    assert_int_equal(secret_new(SPAN_LIT(""), &next, &why), ST_OK);
    secret_replace(secret, next);
    buf_reset(&text);
    assert_int_equal(secret_copy(secret, &text, &second, &why), ST_OK);
    assert_int_equal(text.len, 0);
    secret_free(secret);
    secret_free(NULL);
    buf_release(&text);
    buf_release(&small);
}

/* --- log ---------------------------------------------------------------------------------------------------- */

static void test_log_repeats(void **state)
{
    struct log_repeat last = {0};
    struct fail why, other, denied;
    (void)state;
    (void)fail_set(&why, ST_AGAIN, 0, "the table is down");
    (void)fail_set(&other, ST_AGAIN, 0, "the table is still down");
    (void)fail_set(&denied, ST_DENIED, 0, "the table is down");
    assert_false(log_is_repeat(&last, &why));
    assert_true(log_is_repeat(&last, &why));
    assert_false(log_is_repeat(&last, &other));
    assert_true(log_is_repeat(&last, &other));
    assert_false(log_is_repeat(&last, &why));
    assert_false(log_is_repeat(&last, &denied));
    last.logged_ms -= 9 * 60 * 1000;
    assert_true(log_is_repeat(&last, &denied));
    last.logged_ms -= 60 * 1000; /* ten minutes since it was logged, however often it came between */
    assert_false(log_is_repeat(&last, &denied));
    assert_true(log_is_repeat(&last, &denied));
}

/* In the place of libc's: so many times a signal comes before standard error has taken anything. */
static unsigned int interruptions;
ssize_t write(int fd, const void *bytes, size_t len)
{
    if (fd == STDERR_FILENO && interruptions > 0) {
        interruptions--;
        errno = EINTR;
        return -1;
    }
    return syscall(SYS_write, fd, bytes, len);
}

static void test_log_interrupted(void **state)
{
    (void)state;
    char text[LIMIT_LOG_LINE_BYTES];
    int ends[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    interruptions = 3;
    log_event(LOG_LEVEL_INFO, "told", "part=%d", 1);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    ssize_t len = read(ends[0], text, sizeof text);
    assert_int_equal(interruptions, 0);
    assert_true(len > 0 && text[len - 1] == '\n');
    text[len - 1] = '\0';
    assert_non_null(strstr(text, " level=info event=told part=1"));
    (void)close(ends[0]);
    (void)close(ends[1]);
    (void)close(saved);
}

/* What a line says: standard error while tell runs. */
static void hear(void (*tell)(void), char text[LIMIT_LOG_LINE_BYTES + 1])
{
    int ends[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe2(ends, O_CLOEXEC | O_NONBLOCK), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    tell();
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    ssize_t len = read(ends[0], text, LIMIT_LOG_LINE_BYTES);
    text[len > 0 ? len : 0] = '\0';
    (void)close(ends[0]);
    (void)close(ends[1]);
    (void)close(saved);
}

static void tell_nothing_more(void)
{
    log_event(LOG_LEVEL_WARNING, "told", NULL);
}

/* A value may hold blanks, and what looks like a pair; one of digits is a number only where the format says so. */
static void tell_pairs(void)
{
    log_event(LOG_LEVEL_INFO, "told", "id=%s ms=%lld file=%s note=only-a-word count=%zu left=%d", "0123",
              17LL, "/a b=c/\"d\\", (size_t)0, -1);
}

static void tell_failure(void)
{
    struct fail why;
    (void)fail_set(&why, ST_AGAIN, 0, "no \"answer\"\n\xFF");
    why.peer = 503;
    log_failure(LOG_LEVEL_ERROR, "told", &why, "id=%s", "");
}

static void tell_too_much(void)
{
    char text[LIMIT_LOG_LINE_BYTES];
    memset(text, '"', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    log_event(LOG_LEVEL_INFO, "told", "text=%s", text);
}

static void test_log_json(void **state)
{
    (void)state;
    static const struct {
        void (*tell)(void);
        const char *want; /* behind the time */
    } cases[] = {
        {tell_nothing_more, "\"level\":\"warning\",\"event\":\"told\"}\n"},
        {tell_pairs, "\"level\":\"info\",\"event\":\"told\",\"id\":\"0123\",\"ms\":17,\"file\":\"/a "
                     "b=c/\\\"d\\\\\",\"note\":\"only-a-word\",\"count\":0,\"left\":\"-1\"}\n"},
        {tell_failure, "\"level\":\"error\",\"event\":\"told\",\"id\":\"\",\"status\":\"again\",\"peer\":503,"
                       "\"reason\":\"no \\\"answer\\\" \xEF\xBF\xBD\"}\n"},
    };
    char text[LIMIT_LOG_LINE_BYTES + 1];
    log_set_format(LOG_JSON);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        hear(cases[i].tell, text);
        const char *level = strstr(text, "\"level\"");
        assert_true(strncmp(text, "{\"t\":\"2", 7) == 0 && level);
        assert_string_equal(level, cases[i].want);
    }
    hear(tell_too_much, text); /* a whole line, or none */
    assert_true(text[0] == '\0' || text[strlen(text) - 1] == '\n');
    log_set_format(LOG_LOGFMT);
    hear(tell_nothing_more, text);
    assert_non_null(strstr(text, " level=warning event=told\n"));
}

static void test_log_budget(void **state)
{
    (void)state;
    struct log_budget b = {0};
    assert_int_equal(log_budget_left_out(&b, 5000), 0);
    for (int i = 0; i < 3; i++)
        assert_true(log_budget_take(&b, 3, 5000 + i));
    assert_int_equal(log_budget_left_out(&b, 5999), 0);
    for (int i = 0; i < 5; i++)
        assert_false(log_budget_take(&b, 3, 5999));
    assert_int_equal(log_budget_left_out(&b, 5999), 0); /* there may be more of them in this second */
    assert_true(log_budget_take(&b, 3, 6000));
    assert_int_equal(b.left_out, 5);
    assert_int_equal(log_budget_left_out(&b, 6999), 0);
    assert_int_equal(log_budget_left_out(&b, 7000), 5);
    assert_int_equal(log_budget_left_out(&b, 7001), 0);
    for (int i = 0; i < 3; i++)
        assert_true(log_budget_take(&b, 3, 7500));
    assert_false(log_budget_take(&b, 3, 8499));
}

/* Nobody reads standard error: whoever logs goes on, and is heard again when somebody reads. */
static void test_log_without_reader(void **state)
{
    (void)state;
    enum { LINES = 1000, STUCK_MS = 5000 };
    char text[64 * 1024];
    int ends[2], saved = dup(STDERR_FILENO);
    assert_int_equal(pipe2(ends, O_CLOEXEC), 0);
    assert_true(dup2(ends[1], STDERR_FILENO) >= 0);
    int64_t begun_ms = clock_monotonic_ms();
    (void)alarm(4 * STUCK_MS / 1000); /* else the test would wait for ever */
    for (int i = 0; i < LINES; i++)
        log_event(LOG_LEVEL_INFO, "unread", "number=%0100d", i);
    (void)alarm(0);
    int64_t took_ms = clock_monotonic_ms() - begun_ms;
    assert_true(read(ends[0], text, sizeof text) > 0);
    log_event(LOG_LEVEL_INFO, "heard", NULL);
    assert_true(dup2(saved, STDERR_FILENO) >= 0);
    (void)close(saved);
    (void)close(ends[1]);
    bool is_heard = false;
    for (ssize_t got; (got = read(ends[0], text, sizeof text - 1)) > 0;) {
        text[got] = '\0';
        is_heard = strstr(text, "event=heard\n") != NULL;
    }
    (void)close(ends[0]);
    assert_true(took_ms < STUCK_MS);
    assert_true(is_heard);
}

/* What a person may give as a time, with now as 2024-10-04 09:00. */
static void test_when(void **state)
{
    static const int64_t now_ms = 1728032400000, hour_ms = 60 * 60 * 1000LL;
    static const struct {
        const char *text;
        const char *iso; /* NULL: none */
    } rows[] = {
        {"0h", "2024-10-04T09:00:00.000Z"},
        {"12h", "2024-10-03T21:00:00.000Z"},
        {"1d", "2024-10-03T09:00:00.000Z"},
        {"2w", "2024-09-20T09:00:00.000Z"},
        {"2024-05-01", "2024-05-01T00:00:00.000Z"},
        {"2024-05-01T10:30", "2024-05-01T10:30:00.000Z"},
        {"2024-05-01 10:30Z", "2024-05-01T10:30:00.000Z"},
        {"2024-05-01T10:30:15", "2024-05-01T10:30:15.000Z"},
        {"2024-05-01 10:30:15.250Z", "2024-05-01T10:30:15.250Z"},
        {"2999-01-01", "2999-01-01T00:00:00.000Z"},
        {"", NULL},
        {"h", NULL},
        {"12", NULL},
        {"12m", NULL},
        {"12H", NULL},
        {"1.5d", NULL},
        {"-1d", NULL},
        {"1 d", NULL},
        {"999999999999d", NULL},
        {"2024-5-1", NULL},
        {"2024-02-30", NULL},
        {"2024-05-01Z10", NULL},
        {"2024-05-01T", NULL},
        {"2024-05-01T10", NULL},
        {"2024-05-01T10:30:15+02:00", NULL},
        {"2024-05-01T10:30:15.25000000000000000000000000000000000000000000000000000000000000000", NULL},
        {"today", NULL},
    };
    struct fail why = {0};
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        char text[CLOCK_TEXT_BYTES] = "";
        int64_t ms;
        enum status status = when_given(span_of(rows[i].text), now_ms, &ms, &why);
        if (status == ST_OK)
            clock_iso_time(ms, text);
        if (status != (rows[i].iso ? ST_OK : ST_INVALID) || strcmp(text, rows[i].iso ? rows[i].iso : "") != 0)
            fail_msg("'%s': got %s '%s'", rows[i].text, status_name(status), text);
    }
    int64_t since_1970;
    assert_int_equal(when_given(SPAN_LIT("480009h"), now_ms, &since_1970, &why), ST_OK);
    assert_int_equal(since_1970, 0);
    assert_int_equal(when_given(SPAN_LIT("480010h"), now_ms, &since_1970, &why), ST_INVALID);
    assert_int_equal(now_ms / hour_ms, 480009);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_span_compares),
        cmocka_unit_test(test_span_parts),
        cmocka_unit_test(test_span_next),
        cmocka_unit_test(test_span_to_u64),
        cmocka_unit_test(test_buf_limit),
        cmocka_unit_test(test_buf_recycled),
        cmocka_unit_test(test_buf_error_sticks),
        cmocka_unit_test(test_buf_reserve),
        cmocka_unit_test(test_arena_limit),
        cmocka_unit_test(test_arena_memory),
        cmocka_unit_test(test_utf8),
        cmocka_unit_test(test_utf8_all_codes),
        cmocka_unit_test(test_utf8_cut),
        cmocka_unit_test(test_invisible_codes),
        cmocka_unit_test(test_text_line),
        cmocka_unit_test(test_hex),
        cmocka_unit_test(test_base64),
        cmocka_unit_test(test_base64_refuses),
        cmocka_unit_test(test_percent),
        cmocka_unit_test(test_html),
        cmocka_unit_test(test_clock_formats),
        cmocka_unit_test(test_clock_parse),
        cmocka_unit_test(test_clock_runs),
        cmocka_unit_test(test_clock_is_put_right),
        cmocka_unit_test(test_json_read),
        cmocka_unit_test(test_json_read_long_string),
        cmocka_unit_test(test_json_read_nesting),
        cmocka_unit_test(test_json_refuses),
        cmocka_unit_test(test_json_escapes_that_are_fine),
        cmocka_unit_test(test_json_limits),
        cmocka_unit_test(test_json_no_memory),
        cmocka_unit_test(test_json_write),
        cmocka_unit_test(test_json_round_trip),
        cmocka_unit_test(test_json_write_fails),
        cmocka_unit_test(test_secret),
        cmocka_unit_test(test_json_write_fails),
        cmocka_unit_test(test_log_repeats),
        cmocka_unit_test(test_when),
        cmocka_unit_test(test_log_budget),
        cmocka_unit_test(test_log_json),
        cmocka_unit_test(test_log_interrupted),
        cmocka_unit_test(test_log_without_reader),
    };
    return cmocka_run_group_tests_name("base", tests, NULL, NULL);
}
