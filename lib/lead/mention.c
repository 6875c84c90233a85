#include "lib/lead/mention.h"

/* L0 */
#include "lib/base/encode.h"
#include "lib/base/text.h"

enum { NOTATIONS_MAX = 4 /* one within the other: a form that holds JSON that holds a URL, and one more */ };

/* What an address can go on with, before it or behind it; not '+', which is a blank in forms. */
static bool is_word(char c)
{
    return char_is_alnum(c) || c == '_' || c == '-' || (unsigned char)c >= 0x80;
}

/* A sentence may end behind an address: its full stop is not followed by more of a domain. */
static bool ends_at(struct span bytes, size_t end)
{
    if (end < bytes.len && bytes.ptr[end] == '.')
        end++;
    return end >= bytes.len || !is_word(bytes.ptr[end]);
}

static bool begins_at(struct span bytes, size_t begin)
{
    if (begin > 0 && bytes.ptr[begin - 1] == '.')
        begin--;
    return begin == 0 || !is_word(bytes.ptr[begin - 1]);
}

static bool has_address(struct span bytes, struct span address)
{
    for (size_t i = 0; i + address.len <= bytes.len; i++) {
        if (char_lower(bytes.ptr[i]) == char_lower(address.ptr[0]) &&
            span_eq_nocase(span_cut(bytes, i, address.len), address) && begins_at(bytes, i) &&
            ends_at(bytes, i + address.len))
            return true;
    }
    return false;
}

/* Appends what stands at the beginning of s; gives how many bytes that took. */
static size_t add_decoded(struct buf *out, struct span s)
{
    char next = s.len > 1 ? s.ptr[1] : '\0';
    bool is_percent = s.ptr[0] == '%', is_escape = s.ptr[0] == '\\' && next == 'u';
    long code = is_percent ? hex_number(span_from(s, 1), 2) : is_escape ? hex_number(span_from(s, 2), 4) : -1;
    if (s.ptr[0] == '\0') /* of UTF-16 */
        return 1;
    if (is_percent && code >= 0) {
        buf_add_char(out, (char)(unsigned char)code);
        return 3;
    }
    if (is_escape && code >= 0) {
        utf8_add(out, code >= 0xD800 && code < 0xE000 ? 0xFFFD : (uint32_t)code);
        return 6;
    }
    if (s.ptr[0] == '\\' && span_find(SPAN_LIT("bfnrt"), next) != SPAN_NONE) {
        buf_add_char(out, ' ');
        return 2;
    }
    if (s.ptr[0] == '\\' && span_find(SPAN_LIT("\\/\""), next) != SPAN_NONE) {
        buf_add_char(out, next);
        return 2;
    }
    buf_add_char(out, s.ptr[0]);
    return 1;
}

enum status mention_find(struct span bytes, struct span address, bool *found, struct fail *why)
{
    struct buf decoded[2] = {BUF_INIT(bytes.len),
                             BUF_INIT(bytes.len)}; /* no notation is shorter than what it means */
    enum status status = ST_OK;
    bool is_there = has_address(bytes, address);
    bool is_new = true;
    for (size_t i = 0; i < NOTATIONS_MAX && status == ST_OK && !is_there && is_new; i++) {
        struct buf *out = &decoded[i % 2];
        size_t before = bytes.len;
        buf_reset(out);
        while (bytes.len)
            bytes = span_from(bytes, add_decoded(out, bytes));
        status = buf_status(out, "a decoded payload", why);
        bytes = buf_span(out);
        is_new = bytes.len < before;
        is_there = status == ST_OK && is_new && has_address(bytes, address);
    }
    buf_release(&decoded[0]);
    buf_release(&decoded[1]);
    if (status == ST_OK)
        *found = is_there;
    return status;
}
