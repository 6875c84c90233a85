#include "lib/base/text.h"

/* System */
#include <string.h>

#define REPLACEMENT 0xFFFDu

size_t utf8_decode(struct span s, uint32_t *code)
{
    if (s.len == 0)
        return 0;
    const unsigned char *p = (const unsigned char *)s.ptr;
    if (p[0] < 0x80) {
        *code = p[0];
        return 1;
    }
    size_t len;
    uint32_t value, least;
    if ((p[0] & 0xE0) == 0xC0) {
        len = 2;
        value = p[0] & 0x1Fu;
        least = 0x80;
    } else if ((p[0] & 0xF0) == 0xE0) {
        len = 3;
        value = p[0] & 0x0Fu;
        least = 0x800;
    } else if ((p[0] & 0xF8) == 0xF0) {
        len = 4;
        value = p[0] & 0x07u;
        least = 0x10000;
    } else {
        return 0;
    }
    if (s.len < len)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xC0) != 0x80)
            return 0;
        value = value << 6 | (p[i] & 0x3Fu);
    }
    if (value < least || value > 0x10FFFF || (value >= 0xD800 && value <= 0xDFFF))
        return 0;
    *code = value;
    return len;
}

/* How many bytes at the beginning are ASCII, in whole words: nearly all text that comes is. */
static size_t ascii_words(struct span s)
{
    uint64_t word;
    size_t at = 0;
    for (; at + sizeof word <= s.len; at += sizeof word) {
        memcpy(&word, s.ptr + at, sizeof word);
        if (word & 0x8080808080808080u)
            break;
    }
    return at;
}

bool utf8_is_valid(struct span s, size_t *offset)
{
    uint32_t code;
    for (size_t at = ascii_words(s); at < s.len;) {
        size_t len = (unsigned char)s.ptr[at] < 0x80 ? 1 : utf8_decode(span_from(s, at), &code);
        if (len == 0) {
            if (offset)
                *offset = at;
            return false;
        }
        at += len;
    }
    return true;
}

void utf8_add(struct buf *out, uint32_t code)
{
    char bytes[4];
    size_t len;
    if (code < 0x80) {
        bytes[0] = (char)code;
        len = 1;
    } else if (code < 0x800) {
        bytes[0] = (char)(0xC0 | code >> 6);
        len = 2;
    } else if (code < 0x10000) {
        bytes[0] = (char)(0xE0 | code >> 12);
        len = 3;
    } else {
        bytes[0] = (char)(0xF0 | code >> 18);
        len = 4;
    }
    for (size_t i = 1; i < len; i++)
        bytes[i] = (char)(0x80 | (code >> 6 * (len - 1 - i) & 0x3F));
    buf_add(out, (struct span){bytes, len});
}

/* In well-formed UTF-8 only a four-byte character takes two units, and continuation bytes take none. */
static size_t units_of_byte(char byte)
{
    unsigned char c = (unsigned char)byte;
    return (c & 0xC0) == 0x80 ? 0 : c >= 0xF0 ? 2 : 1;
}

size_t utf16_units(struct span s)
{
    size_t units = ascii_words(s);
    for (size_t i = units; i < s.len; i++)
        units += units_of_byte(s.ptr[i]);
    return units;
}

struct span utf8_cut_units(struct span s, size_t units)
{
    if (s.len <= units) /* no character has more units than bytes */
        return s;
    for (size_t i = 0; i < s.len; i++) {
        size_t more = units_of_byte(s.ptr[i]);
        if (more > units)
            return span_cut(s, 0, i);
        units -= more;
    }
    return s;
}

struct span utf8_cut_bytes(struct span s, size_t bytes)
{
    if (s.len <= bytes)
        return s;
    while (bytes > 0 && ((unsigned char)s.ptr[bytes] & 0xC0) == 0x80)
        bytes--;
    return span_cut(s, 0, bytes);
}

bool is_control_code(uint32_t code)
{
    return code < 0x20 || (code >= 0x7F && code <= 0x9F) || code == 0x2028 || code == 0x2029;
}

/* Unicode's Default_Ignorable_Code_Point (15.0), and the marks of interlinear annotation.  In their order. */
static const struct code_range {
    uint32_t first, last;
} INVISIBLE[] = {
    {0x00AD, 0x00AD},                       /* soft hyphen */
    {0x034F, 0x034F},                       /* combining grapheme joiner */
    {0x061C, 0x061C},                       /* Arabic letter mark */
    {0x115F, 0x1160},                       /* Hangul fillers */
    {0x17B4, 0x17B5},                       /* Khmer inherent vowels */
    {0x180B, 0x180F},                       /* Mongolian variation selectors and vowel separator */
    {0x200B, 0x200F},                       /* zero-width characters, directional marks */
    {0x202A, 0x202E},                       /* directional embeddings and overrides */
    {0x2060, 0x206F},                       /* word joiner, invisible operators, directional isolates */
    {0x3164, 0x3164},                       /* Hangul filler */
    {0xFE00, 0xFE0F},                       /* variation selectors: whole texts can be hidden in them */
    {0xFEFF, 0xFEFF},                       /* byte order mark */
    {0xFFA0, 0xFFA0},                       /* halfwidth Hangul filler */
    {0xFFF0, 0xFFFB},   {0x1BCA0, 0x1BCA3}, /* shorthand format controls */
    {0x1D173, 0x1D17A},                     /* musical format controls */
    {0xE0000, 0xE0FFF},                     /* tags and more variation selectors */
};

bool is_invisible_code(uint32_t code)
{
    size_t i = 0;
    while (i < sizeof INVISIBLE / sizeof INVISIBLE[0] && code > INVISIBLE[i].last)
        i++;
    return i < sizeof INVISIBLE / sizeof INVISIBLE[0] && code >= INVISIBLE[i].first;
}

uint64_t text_hash(uint64_t hash, const char *text)
{
    for (; *text; text++)
        hash = (hash ^ (unsigned char)*text) * 0x100000001B3u;
    return hash;
}

void text_add_line(struct buf *out, struct span s)
{
    while (s.len) {
        uint32_t code;
        size_t len = 0;
        while (len < s.len && s.ptr[len] >= ' ' && s.ptr[len] <= '~')
            len++;
        buf_add(out, span_cut(s, 0, len));
        s = span_from(s, len);
        if (s.len == 0)
            break;
        len = utf8_decode(s, &code);
        if (len == 0) {
            len = 1;
            code = REPLACEMENT;
        } else if (code == '\n' || code == '\r' || code == '\t') {
            code = ' ';
        } else if (is_control_code(code) || is_invisible_code(code)) {
            code = REPLACEMENT;
        }
        utf8_add(out, code);
        s = span_from(s, len);
    }
}
