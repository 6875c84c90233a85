/* yajl 2.1.0 is used through its callbacks and never through its tree, which
 * recurses over the input, cuts strings at U+0000 and accepts comments.  The
 * whole bounded text goes in with one call.
 *
 * yajl checks UTF-8 only for structure and decodes lone surrogate escapes to
 * invalid bytes or to "?"; so the raw text is checked for UTF-8 before, and for
 * surrogate escapes and \u0000 in a pass of our own over the escapes.
 *
 * It looks at no result of its allocations either, and would write through NULL.
 * So its memory is an arena of its own, and where that has none the parser is
 * left with a jump; nothing of it is used again, and the arena is released.
 */
#include "lib/base/json_read.h"

/* System */
#include <setjmp.h>
#include <stdalign.h>
#include <string.h>

/* Libraries */
#include <yajl/yajl_parse.h>

/* L0 */
#include "lib/base/encode.h"
#include "lib/base/limits.h"
#include "lib/base/text.h"

/* What yajl takes for a text: its two buffers double until they hold the longest string, the blocks that they leave
 * are not used again, and the rest is small. */
enum { YAJL_BYTES = 64 * 1024, YAJL_BYTES_PER_BYTE = 8 };

struct reader {
    yajl_handle yajl;
    struct arena yajl_memory;
    jmp_buf no_memory;
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

/* In front of each block stands its size. */
static void *get_memory(void *ctx, size_t size)
{
    struct reader *r = ctx;
    char *block = arena_alloc(&r->yajl_memory, alignof(max_align_t) + size);
    if (!block)
        longjmp(r->no_memory, 1);
    memcpy(block, &size, sizeof size);
    return block + alignof(max_align_t);
}

static void *get_more_memory(void *ctx, void *memory, size_t size)
{
    char *fresh = get_memory(ctx, size);
    size_t had = 0;
    if (memory)
        memcpy(&had, (const char *)memory - alignof(max_align_t), sizeof had);
    if (had)
        memcpy(fresh, memory, had < size ? had : size);
    return fresh;
}

static void give_memory(void *ctx, void *memory)
{
    (void)ctx; /* all of it goes with the arena */
    (void)memory;
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
    if (!span_starts(span_from(text, at), SPAN_LIT("\\u")))
        return -1;
    return hex_number(span_from(text, at + 2), 4); /* yajl reports what is none */
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

/* Where the text stopped making sense: the beginning of what cannot stand there, the byte inside a string, or the end
 * of a text of which yajl would have liked more (is_cut).  Not where yajl stopped: that is behind the token, two bytes
 * into it or at its beginning, depending; and it reads a token to its end before it looks whether one may stand there. */
static size_t fault(const struct reader *r, struct span text, bool is_cut)
{
    size_t at = skip_spaces(text, r->end);
    char between = separator(r);
    bool is_in_object = r->depth > 0 && r->open[r->depth - 1]->kind == JSON_OBJECT;
    if (at < text.len && between) {
        if (text.ptr[at] != between)
            return at;
        at = skip_spaces(text, at + 1);
    }
    bool is_string = at < text.len && text.ptr[at] == '"';
    bool is_behind = r->depth == 0 && r->top;
    if (at < text.len && (is_behind || (is_in_object && !r->name.ptr && !is_string)))
        return at; /* nothing may stand here, or only a name */
    if (is_cut)
        return text.len;
    return is_string ? fault_in_string(text, at) : at;
}

/* A function of its own: what it changes is the caller's and so keeps its value over the jump.  false: no memory. */
static bool parse(struct reader *r, struct span text, yajl_status *parsed, bool *is_cut)
{
    yajl_alloc_funcs memory = {get_memory, get_more_memory, give_memory, r};
    if (setjmp(r->no_memory) != 0)
        return false;
    r->yajl = yajl_alloc(&CALLBACKS, &memory, r);
    *parsed = yajl_parse(r->yajl, (const unsigned char *)text.ptr, text.len);
    *is_cut = *parsed == yajl_status_ok && (!r->top || r->depth > 0); /* good as far as it goes */
    if (*parsed == yajl_status_ok &&
        r->depth == 0) /* a number in a cut text must not be taken for a whole one */
        *parsed = yajl_complete_parse(r->yajl);
    return true;
}

enum status json_read(struct span text, const struct json_limits *limits, struct arena *arena,
                      const struct json **top, size_t *offset, struct fail *why)
{
    size_t where = 0;
    if (!text.ptr)
        text = SPAN_LIT("");
    if (!utf8_is_valid(text, &where)) {
        if (offset)
            *offset = where;
        return fail_set(why, ST_INVALID, 0, "invalid UTF-8 at byte %zu", where);
    }
    struct reader r = {.arena = arena,
                       .limits = limits,
                       .yajl_memory = ARENA_INIT(YAJL_BYTES + YAJL_BYTES_PER_BYTE * text.len)};
    yajl_status parsed;
    bool is_cut;
    bool is_whole = parse(&r, text, &parsed, &is_cut);
    arena_release(&r.yajl_memory);
    if (!is_whole)
        return fail_set(why, ST_NOMEM, 0, "no memory to read JSON");
    where = fault(&r, text, is_cut && r.status == ST_OK);

    enum status status = r.status;
    const char *reason = r.reason;
    if (status == ST_OK && (is_cut || parsed != yajl_status_ok)) {
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
