/* yajl 2.1.0 is used through its callbacks and never through its tree, which
 * recurses over the input, cuts strings at U+0000 and accepts comments.  The
 * whole bounded text goes in with one call.
 *
 * yajl checks UTF-8 only for structure and decodes lone surrogate escapes to
 * invalid bytes or to "?"; so the raw text is checked for UTF-8 before, and for
 * surrogate escapes and \u0000 in a pass of our own over the escapes.
 */
#include "lib/base/json_read.h"

/* System */
#include <string.h>

/* Libraries */
#include <yajl/yajl_parse.h>

/* L0 */
#include "lib/base/limits.h"
#include "lib/base/text.h"

struct reader {
    yajl_handle yajl;
    struct arena *arena;
    const struct json_limits *limits;
    size_t values;
    size_t depth;
    struct json *top;
    struct json *open[LIMIT_JSON_DEPTH];  /* containers entered and not left */
    struct json **link[LIMIT_JSON_DEPTH]; /* where the next member of each is hung */
    struct span name;                     /* of the member that comes next */
    size_t end;                           /* of the last name, scalar or bracket that was taken */
    enum status status;
    const char *reason;
};

static int refuse(struct reader *r, enum status status, const char *reason)
{
    r->status = status;
    r->reason = reason;
    return 0; /* yajl stops */
}

static int take(struct reader *r)
{
    r->end = yajl_get_bytes_consumed(r->yajl); /* in a callback: the end of its token */
    return 1;
}

/* Hangs a new value below the innermost open container. */
static struct json *add(struct reader *r, enum json_kind kind)
{
    if (r->depth == 0 && (r->top || kind != JSON_OBJECT)) {
        (void)refuse(r, ST_INVALID, "not a JSON object");
        return NULL;
    }
    if (++r->values > r->limits->values) {
        (void)refuse(r, ST_TOO_LARGE, "too many values");
        return NULL;
    }
    struct json *value = arena_alloc(r->arena, sizeof *value);
    if (!value) {
        (void)refuse(r, ST_NOMEM, "too large");
        return NULL;
    }
    value->kind = kind;
    value->name = r->name;
    r->name = (struct span){0};
    if (r->depth == 0) {
        r->top = value;
    } else {
        *r->link[r->depth - 1] = value;
        r->link[r->depth - 1] = &value->next;
    }
    return value;
}

static int on_scalar(struct reader *r, enum json_kind kind, struct span text)
{
    struct json *value = add(r, kind);
    if (!value)
        return 0;
    /* Copied: yajl decodes escapes into a buffer that it uses again. */
    if (!arena_copy(r->arena, text, &value->text))
        return refuse(r, ST_NOMEM, "too large");
    return take(r);
}

static int on_null(void *ctx)
{
    return on_scalar(ctx, JSON_NULL, (struct span){0});
}

static int on_boolean(void *ctx, int value)
{
    return on_scalar(ctx, value ? JSON_TRUE : JSON_FALSE, (struct span){0});
}

static int on_number(void *ctx, const char *text, size_t len)
{
    return on_scalar(ctx, JSON_NUMBER, (struct span){text, len});
}

static int on_string(void *ctx, const unsigned char *text, size_t len)
{
    return on_scalar(ctx, JSON_STRING, (struct span){(const char *)text, len});
}

static int on_name(void *ctx, const unsigned char *text, size_t len)
{
    struct reader *r = ctx;
    if (!arena_copy(r->arena, (struct span){(const char *)text, len}, &r->name))
        return refuse(r, ST_NOMEM, "too large");
    return take(r);
}

static int on_open(struct reader *r, enum json_kind kind)
{
    if (r->depth == r->limits->depth)
        return refuse(r, ST_TOO_LARGE, "nested too deeply");
    struct json *value = add(r, kind);
    if (!value)
        return 0;
    r->open[r->depth] = value;
    r->link[r->depth] = &value->first;
    r->depth++;
    return take(r);
}

static int on_open_object(void *ctx)
{
    return on_open(ctx, JSON_OBJECT);
}

static int on_open_array(void *ctx)
{
    return on_open(ctx, JSON_ARRAY);
}

static int on_close(void *ctx)
{
    struct reader *r = ctx;
    r->depth--;
    return take(r);
}

static const yajl_callbacks CALLBACKS = {
    .yajl_null = on_null,
    .yajl_boolean = on_boolean,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_open_object,
    .yajl_map_key = on_name,
    .yajl_end_map = on_close,
    .yajl_start_array = on_open_array,
    .yajl_end_array = on_close,
};

/* The four digits of a \u escape at text[at], or -1. */
static long escape_code(struct span text, size_t at)
{
    if (at + 6 > text.len || text.ptr[at] != '\\' || text.ptr[at + 1] != 'u')
        return -1;
    long code = 0;
    for (size_t i = at + 2; i < at + 6; i++) {
        char c = text.ptr[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0)
            return -1; /* yajl reports it with the others */
        code = code * 16 + digit;
    }
    return code;
}

/* Backslashes have a meaning only inside strings, and outside them yajl refuses
 * the text anyway; so one pass over all of them needs no knowledge of strings. */
static const char *check_escapes(struct span text, size_t *offset)
{
    for (size_t at = 0; at < text.len; at++) {
        const char *next = memchr(text.ptr + at, '\\', text.len - at);
        if (!next)
            return NULL;
        at = (size_t)(next - text.ptr);
        *offset = at;
        long code = escape_code(text, at);
        if (code == 0)
            return "U+0000 in a string";
        if (code >= 0xDC00 && code <= 0xDFFF)
            return "lone surrogate in a string";
        if (code >= 0xD800 && code <= 0xDBFF) {
            long low = escape_code(text, at + 6);
            if (low < 0xDC00 || low > 0xDFFF)
                return "lone surrogate in a string";
            at += 6;
        }
        at += code >= 0 ? 5 : 1; /* over the escape, an escaped backslash included */
    }
    return NULL;
}

static size_t skip_spaces(struct span text, size_t at)
{
    while (at < text.len && memchr(" \t\r\n\v\f", text.ptr[at], 6))
        at++;
    return at;
}

/* What yajl takes against RFC 8259: a string that begins behind the object and never ends, and two more
 * characters for white space (in strings it refuses them). */
static const char *check_strictly(const struct reader *r, struct span text, size_t *offset)
{
    size_t at = skip_spaces(text, r->end);
    if (at == text.len)
        at = span_find(text, '\v');
    if (at == SPAN_NONE)
        at = span_find(text, '\f');
    if (at == SPAN_NONE)
        return NULL;
    *offset = at;
    return "syntax error";
}

/* The byte at which the string that begins at text[begin] cannot go on, or begin when it is well-formed. */
static size_t fault_in_string(struct span text, size_t begin)
{
    size_t at = begin + 1;
    for (; at < text.len && (unsigned char)text.ptr[at] >= 0x20; at++) {
        if (text.ptr[at] == '"')
            return begin;
        if (text.ptr[at] != '\\')
            continue;
        bool is_short = at + 1 < text.len && memchr("\"\\/bfnrt", text.ptr[at + 1], 8);
        if (!is_short && escape_code(text, at) < 0)
            break;
        at++; /* the rest of a longer escape is ordinary text */
    }
    return at;
}

/* What may separate the last thing taken from the next one, or NUL. */
static char separator(const struct reader *r)
{
    if (r->name.ptr)
        return ':';
    return r->depth > 0 && r->open[r->depth - 1]->first ? ',' : '\0';
}

/* Where the text stopped making sense: the beginning of what cannot stand there, or the byte inside a string.
 * Not where yajl stopped: that is behind the token, two bytes into it or at its beginning, depending. */
static size_t fault(const struct reader *r, struct span text)
{
    size_t at = skip_spaces(text, r->end);
    char between = separator(r);
    if (between && at < text.len && text.ptr[at] == between)
        at = skip_spaces(text, at + 1);
    return at < text.len && text.ptr[at] == '"' ? fault_in_string(text, at) : at;
}

enum status json_read(struct span text, const struct json_limits *limits, struct arena *arena,
                      const struct json **top, size_t *offset, struct fail *why)
{
    size_t where = 0;
    if (!utf8_is_valid(text, &where)) {
        if (offset)
            *offset = where;
        return fail_set(why, ST_INVALID, 0, "invalid UTF-8 at byte %zu", where);
    }
    struct reader r = {.arena = arena, .limits = limits};
    yajl_handle yajl = yajl_alloc(&CALLBACKS, NULL, &r);
    if (!yajl)
        return fail_set(why, ST_NOMEM, 0, "no memory to read JSON");
    r.yajl = yajl;
    const unsigned char *bytes = (const unsigned char *)(text.ptr ? text.ptr : "");
    yajl_status parsed = yajl_parse(yajl, bytes, text.len);
    bool is_cut = parsed == yajl_status_ok && (!r.top || r.depth > 0); /* good as far as it goes */
    if (parsed == yajl_status_ok)
        parsed = yajl_complete_parse(yajl);
    where = is_cut && r.status == ST_OK ? text.len : fault(&r, text);
    yajl_free(yajl);

    enum status status = r.status;
    const char *reason = r.reason;
    if (status == ST_OK && (parsed != yajl_status_ok || !r.top)) {
        status = ST_INVALID;
        reason = where >= text.len ? "ends too early" : "syntax error";
    }
    if (status == ST_OK)
        reason = check_strictly(&r, text, &where);
    if (status == ST_OK && !reason)
        reason = check_escapes(text, &where);
    if (status == ST_OK && reason)
        status = ST_INVALID;
    if (status != ST_OK) {
        if (offset)
            *offset = where;
        return fail_set(why, status, 0, "invalid JSON: %s at byte %zu", reason, where);
    }
    *top = r.top;
    return ST_OK;
}

const struct json *json_member(const struct json *object, const char *name)
{
    struct span want = span_of(name);
    for (const struct json *m = object ? object->first : NULL; m; m = m->next) {
        if (span_eq(m->name, want))
            return m;
    }
    return NULL;
}

struct span json_text(const struct json *object, const char *name)
{
    const struct json *m = json_member(object, name);
    return m && (m->kind == JSON_STRING || m->kind == JSON_NUMBER) ? m->text : span_empty();
}
