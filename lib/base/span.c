#include "lib/base/span.h"

/* System */
#include <assert.h>
#include <string.h>

struct span span_of(const char *text)
{
    return (struct span){text, text ? strlen(text) : 0};
}

bool span_eq(struct span a, struct span b)
{
    if (a.len != b.len)
        return false;
    assert(a.len == 0 || (a.ptr && b.ptr));
    return a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0;
}

char char_lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

bool char_is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

bool span_has_only(struct span s, const char *others)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!char_is_alnum(s.ptr[i]) && span_find(span_of(others), s.ptr[i]) == SPAN_NONE)
            return false;
    }
    return true;
}

bool span_eq_nocase(struct span a, struct span b)
{
    if (a.len != b.len)
        return false;
    assert(a.len == 0 || (a.ptr && b.ptr));
    for (size_t i = 0; i < a.len; i++) {
        if (char_lower(a.ptr[i]) != char_lower(b.ptr[i]))
            return false;
    }
    return true;
}

bool span_starts(struct span s, struct span prefix)
{
    return s.len >= prefix.len && span_eq(span_cut(s, 0, prefix.len), prefix);
}

bool span_starts_nocase(struct span s, struct span prefix)
{
    return s.len >= prefix.len && span_eq_nocase(span_cut(s, 0, prefix.len), prefix);
}

bool span_ends_nocase(struct span s, struct span suffix)
{
    return s.len >= suffix.len && span_eq_nocase(span_from(s, s.len - suffix.len), suffix);
}

bool span_has_nocase(struct span s, struct span needle)
{
    for (size_t i = 0; i + needle.len <= s.len; i++) {
        if (span_eq_nocase(span_cut(s, i, needle.len), needle))
            return true;
    }
    return false;
}

int span_compare(struct span a, struct span b)
{
    size_t common = a.len < b.len ? a.len : b.len;
    int order = common ? memcmp(a.ptr, b.ptr, common) : 0;
    if (order == 0 && a.len != b.len)
        order = a.len < b.len ? -1 : 1;
    return order;
}

size_t span_find(struct span s, char c)
{
    const char *at = s.len ? memchr(s.ptr, c, s.len) : NULL;
    return at ? (size_t)(at - s.ptr) : SPAN_NONE;
}

size_t span_find_last(struct span s, char c)
{
    const char *at = s.len ? memrchr(s.ptr, c, s.len) : NULL;
    return at ? (size_t)(at - s.ptr) : SPAN_NONE;
}

struct span span_cut(struct span s, size_t from, size_t len)
{
    s = span_from(s, from);
    if (len < s.len)
        s.len = len;
    return s;
}

struct span span_from(struct span s, size_t from)
{
    if (from > s.len)
        from = s.len;
    return (struct span){s.ptr ? s.ptr + from : NULL, s.len - from};
}

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

struct span span_trim(struct span s)
{
    size_t from = 0, to = s.len;
    assert(s.len == 0 || s.ptr);
    while (from < to && is_blank(s.ptr[from]))
        from++;
    while (to > from && is_blank(s.ptr[to - 1]))
        to--;
    return span_cut(s, from, to - from);
}

bool span_next(struct span *rest, char c, struct span *part)
{
    if (!rest->ptr)
        return false;
    size_t at = span_find(*rest, c);
    if (at == SPAN_NONE) {
        *part = *rest;
        *rest = (struct span){0};
    } else {
        *part = span_cut(*rest, 0, at);
        *rest = span_from(*rest, at + 1);
    }
    return true;
}

bool span_to_u64(struct span s, uint64_t max, uint64_t *value)
{
    if (s.len == 0)
        return false;
    assert(s.ptr);
    uint64_t sum = 0;
    for (size_t i = 0; i < s.len; i++) {
        if (s.ptr[i] < '0' || s.ptr[i] > '9')
            return false;
        if (__builtin_mul_overflow(sum, 10U, &sum) ||
            __builtin_add_overflow(sum, (uint64_t)(s.ptr[i] - '0'), &sum) || sum > max)
            return false;
    }
    *value = sum;
    return true;
}
