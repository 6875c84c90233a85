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

void base64_add(struct buf *out, struct span bytes)
{
    char *to = buf_reserve(out, (bytes.len + 2) / 3 * 4);
    if (!to)
        return;
    const unsigned char *p = (const unsigned char *)bytes.ptr;
    size_t len = 0;
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t left = bytes.len - i;
        uint32_t group = (uint32_t)p[i] << 16 | (left > 1 ? (uint32_t)p[i + 1] << 8 : 0) |
                         (left > 2 ? (uint32_t)p[i + 2] : 0);
        to[len++] = BASE64[group >> 18];
        to[len++] = BASE64[group >> 12 & 63];
        to[len++] = left > 1 ? BASE64[group >> 6 & 63] : '=';
        to[len++] = left > 2 ? BASE64[group & 63] : '=';
    }
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
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_' || c == '~';
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

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

void percent_decode(struct buf *out, struct span s, enum percent_plus plus)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '%' && i + 2 < s.len && hex_value(s.ptr[i + 1]) >= 0 && hex_value(s.ptr[i + 2]) >= 0) {
            c = (char)(hex_value(s.ptr[i + 1]) << 4 | hex_value(s.ptr[i + 2]));
            i += 2;
        } else if (c == '+' && plus == PLUS_IS_SPACE) {
            c = ' ';
        }
        buf_add_char(out, c);
    }
}
