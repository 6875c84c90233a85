/* bytes.h - borrowed bytes, and growing bounded ones. */
#ifndef FAKE_TABLE_BYTES_H
#define FAKE_TABLE_BYTES_H

/* System */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "fake_table: %s: %s\n", what, strerror(errno));
    exit(1);
}

struct text {
    const char *p;
    size_t n;
};
#define LIT(s)                                                                                               \
    (struct text)                                                                                            \
    {                                                                                                        \
        s, sizeof s - 1                                                                                      \
    }

static struct text text_of(const char *s)
{
    return (struct text){s, strlen(s)};
}

static bool same(struct text a, struct text b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static bool starts(struct text t, struct text prefix)
{
    return t.n >= prefix.n && memcmp(t.p, prefix.p, prefix.n) == 0;
}

static int compare(struct text a, struct text b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n ? memcmp(a.p, b.p, n) : 0;
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

static struct text skip(struct text t, size_t n)
{
    return (struct text){t.p + n, t.n - n};
}

/* Where needle begins in t, or t.n. */
static size_t find(struct text t, struct text needle)
{
    const char *at = t.n ? memmem(t.p, t.n, needle.p, needle.n) : NULL;
    return at ? (size_t)(at - t.p) : t.n;
}

static struct text trim(struct text t)
{
    while (t.n && (t.p[0] == ' ' || t.p[0] == '\t'))
        t = skip(t, 1);
    while (t.n && (t.p[t.n - 1] == ' ' || t.p[t.n - 1] == '\t'))
        t.n--;
    return t;
}

/* Cuts off what is before the separator; the whole rest where there is none. */
static struct text cut(struct text *rest, struct text separator)
{
    size_t n = find(*rest, separator);
    struct text first = {rest->p, n};
    *rest = skip(*rest, n < rest->n ? n + separator.n : n);
    return first;
}

static bool number_of(struct text t, size_t max, size_t *number)
{
    size_t n = 0;
    for (size_t i = 0; i < t.n; i++) {
        if (t.p[i] < '0' || t.p[i] > '9' || n > max)
            return false;
        n = n * 10 + (size_t)(t.p[i] - '0');
    }
    *number = n;
    return t.n > 0 && n <= max;
}

/* What does not fit is dropped and full set; the answer then is an error. */
struct out {
    char *p;
    size_t n, room, limit;
    bool full;
};

static char *out_reserve(struct out *o, size_t n)
{
    if (o->full || n > o->limit - o->n) {
        o->full = true;
        return NULL;
    }
    if (n > o->room - o->n) {
        size_t room = o->room ? o->room : 4096;
        while (room < o->n + n)
            room *= 2;
        o->p = realloc(o->p, room);
        if (!o->p)
            die("memory");
        o->room = room;
    }
    return o->p + o->n;
}

static void out_add(struct out *o, struct text t)
{
    char *to = out_reserve(o, t.n);
    if (to && t.n) {
        memcpy(to, t.p, t.n);
        o->n += t.n;
    }
}

static __attribute__((format(printf, 2, 3))) void outf(struct out *o, const char *format, ...)
{
    char line[2048];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (n < 0 || (size_t)n >= sizeof line)
        o->full = true;
    else
        out_add(o, (struct text){line, (size_t)n});
}

static void out_json(struct out *o, struct text t)
{
    out_add(o, LIT("\""));
    size_t plain = 0;
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        out_add(o, (struct text){t.p + plain, i - plain});
        outf(o, "\\u%04x", c);
        plain = i + 1;
    }
    out_add(o, skip(t, plain));
    out_add(o, LIT("\""));
}

static int hex(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, c | 0x20) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Percent decoding into room bytes; false: broken or too long. */
static bool url_decode(struct text t, bool plus_is_space, char *to, size_t room, struct text *decoded)
{
    size_t n = 0;
    for (size_t i = 0; i < t.n; i++, n++) {
        if (n == room)
            return false;
        to[n] = t.p[i];
        if (t.p[i] == '+' && plus_is_space)
            to[n] = ' ';
        if (t.p[i] != '%')
            continue;
        if (t.n - i < 3 || hex(t.p[i + 1]) < 0 || hex(t.p[i + 2]) < 0)
            return false;
        to[n] = (char)(hex(t.p[i + 1]) * 16 + hex(t.p[i + 2]));
        i += 2;
    }
    *decoded = (struct text){to, n};
    return true;
}

#endif
