#include "lib/base/encode.h"

static const char BASE64[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

void hex_write(const unsigned char *bytes, size_t len, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < len; i++) {
        text[2 * i] = digits[bytes[i] >> 4];
        text[2 * i + 1] = digits[bytes[i] & 15];
    }
    text[2 * len] = '\0';
}

bool hex_read(struct span text, unsigned char *bytes, size_t count)
{
    if (text.len % 2 != 0 || text.len / 2 != count)
        return false;
    for (size_t i = 0; i < text.len; i++) {
        char c = text.ptr[i];
        bool is_letter = c >= 'a' && c <= 'f';
        if (!is_letter && (c < '0' || c > '9'))
            return false;
        unsigned int digit = (unsigned int)(is_letter ? c - 'a' + 10 : c - '0');
        bytes[i / 2] = (unsigned char)(i % 2 ? bytes[i / 2] | digit : digit << 4);
    }
    return true;
}

void base64_write(const unsigned char *bytes, size_t len, char *text)
{
    char *to = text;
    for (size_t i = 0; i < len; i += 3) {
        size_t left = len - i;
        uint32_t group = (uint32_t)bytes[i] << 16 | (left > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) |
                         (left > 2 ? (uint32_t)bytes[i + 2] : 0);
        *to++ = BASE64[group >> 18];
        *to++ = BASE64[group >> 12 & 63];
        *to++ = left > 1 ? BASE64[group >> 6 & 63] : '=';
        *to++ = left > 2 ? BASE64[group & 63] : '=';
    }
    *to = '\0';
}

void base64_add(struct buf *out, struct span bytes)
{
    size_t len = (bytes.len + 2) / 3 * 4;
    char *to = buf_reserve(out, len);
    if (!to)
        return;
    base64_write((const unsigned char *)bytes.ptr, bytes.len, to);
    buf_advance(out, len);
}

/* The value of a base64 digit, or 64. */
static uint32_t base64_value(char c)
{
    if (c >= 'A' && c <= 'Z')
        return (uint32_t)(c - 'A');
    if (c >= 'a' && c <= 'z')
        return (uint32_t)(c - 'a') + 26;
    if (c >= '0' && c <= '9')
        return (uint32_t)(c - '0') + 52;
    return c == '+' ? 62 : c == '/' ? 63 : 64;
}

enum status base64_decode(struct buf *out, struct span text, struct fail *why)
{
    size_t padding = 0;
    while (padding < 2 && text.len && text.ptr[text.len - 1] == '=') {
        text.len--;
        padding++;
    }
    if (text.len % 4 == 1 || (padding && (text.len + padding) % 4 != 0))
        return fail_set(why, ST_INVALID, 0, "not base64: wrong length");
    char *to = buf_reserve(out, text.len / 4 * 3 + 2);
    if (!to)
        return buf_status(out, "decoded base64", why);
    size_t len = 0;
    uint32_t bits = 0;
    unsigned int have = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint32_t value = base64_value(text.ptr[i]);
        if (value == 64)
            return fail_set(why, ST_INVALID, 0, "not base64: bad character at offset %zu", i);
        bits = bits << 6 | value;
        have += 6;
        if (have >= 8) {
            have -= 8;
            to[len++] = (char)(bits >> have & 0xFF);
        }
    }
    buf_advance(out, len);
    return ST_OK;
}

static bool is_unreserved(char c)
{
    return char_is_alnum(c) || c == '-' || c == '.' || c == '_' || c == '~';
}

void percent_add(struct buf *out, struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (is_unreserved(s.ptr[i]))
            buf_add_char(out, s.ptr[i]);
        else
            buf_addf(out, "%%%02X", (unsigned int)(unsigned char)s.ptr[i]);
    }
}

const char *html_entity(uint32_t code)
{
    switch (code) {
    case '&':
        return "&amp;";
    case '<':
        return "&lt;";
    case '>':
        return "&gt;";
    case '"':
        return "&quot;";
    case '\'':
        return "&#39;";
    default:
        return NULL;
    }
}

void html_add(struct buf *out, struct span s)
{
    while (s.len) {
        size_t plain = 0;
        while (plain < s.len && !html_entity((unsigned char)s.ptr[plain]))
            plain++;
        buf_add(out, span_cut(s, 0, plain));
        if (plain < s.len)
            buf_add_text(out, html_entity((unsigned char)s.ptr[plain++]));
        s = span_from(s, plain);
    }
}

long hex_number(struct span s, size_t digits)
{
    long number = 0;
    if (s.len < digits)
        return -1;
    for (size_t i = 0; i < digits; i++) {
        char c = char_lower(s.ptr[i]);
        bool is_letter = c >= 'a' && c <= 'f';
        if (!is_letter && !(c >= '0' && c <= '9'))
            return -1;
        number = number * 16 + (is_letter ? c - 'a' + 10 : c - '0');
    }
    return number;
}

void percent_decode(struct buf *out, struct span s, enum percent_plus plus)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        long code = c == '%' ? hex_number(span_from(s, i + 1), 2) : -1;
        if (code >= 0) {
            c = (char)(unsigned char)code;
            i += 2;
        } else if (c == '+' && plus == PLUS_IS_SPACE) {
            c = ' ';
        }
        buf_add_char(out, c);
    }
}
