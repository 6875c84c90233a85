/* JSON: the body of a request, and the reader of JSON below it.
 *
 * A second reader, written from RFC 8259 and the contract in json_read.h, says
 * whether the text is good, and which byte is the first that is not; yajl's own
 * tree says what is in it; the writer writes it, and it is read again.
 */
#include "tests/fuzz/fuzz.h"

#include <yajl/yajl_tree.h>

#include "lib/base/json_read.h"
#include "lib/base/json_write.h"
#include "lib/lead/lead.h"

CHECKS_BEGIN

/* --- the second reader ----------------------------------------------------------------------------------- */

enum { DEPTH = 5, VALUES = 24, TREE_ERROR_BYTES = 64 };

static const struct json_limits LIMITS = {.depth = DEPTH, .values = VALUES};

struct grammar {
    struct span text;
    size_t at;
    char open[DEPTH];
    size_t depth;
    size_t values;
    bool has_control_space; /* VT or FF, which are told of when all else is good */
    size_t control_space_at;
};

struct verdict {
    enum status status;
    size_t offset;
};

#define GOOD         ((struct verdict){ST_OK, 0})
#define BAD(offset)  ((struct verdict){ST_INVALID, (offset)})
#define CUT(grammar) BAD((grammar)->text.len)

static int peek(const struct grammar *g, size_t at)
{
    return at < g->text.len ? (unsigned char)g->text.ptr[at] : -1;
}

static void skip(struct grammar *g)
{
    for (int c; (c = peek(g, g->at)) >= 0 && strchr(" \t\r\n\v\f", c) && c != 0; g->at++) {
        if ((c == '\v' || c == '\f') &&
            (!g->has_control_space || (c == '\v' && peek(g, g->control_space_at) == '\f'))) {
            g->has_control_space = true;
            g->control_space_at = g->at;
        }
    }
}

static bool is_digit(int c)
{
    return c >= '0' && c <= '9';
}

static bool is_hex(int c)
{
    return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static struct verdict string(struct grammar *g)
{
    for (g->at++;; g->at++) {
        int c = peek(g, g->at);
        if (c < 0)
            return CUT(g);
        if (c < 0x20)
            return BAD(g->at);
        if (c == '"')
            break;
        if (c != '\\')
            continue;
        int kind = peek(g, g->at + 1);
        if (kind < 0)
            return CUT(g);
        if (!strchr("\"\\/bfnrtu", kind) || kind == 0)
            return BAD(g->at);
        for (size_t i = 2; kind == 'u' && i < 6; i++) {
            if (peek(g, g->at + i) < 0)
                return CUT(g);
            if (!is_hex(peek(g, g->at + i)))
                return BAD(g->at);
        }
        g->at += kind == 'u' ? 5 : 1;
    }
    g->at++;
    return GOOD;
}

static struct verdict number(struct grammar *g)
{
    size_t begin = g->at, at = begin;
    if (peek(g, at) == '-')
        at++;
    if (peek(g, at) == '0')
        at++;
    else if (is_digit(peek(g, at)))
        while (is_digit(peek(g, at)))
            at++;
    else
        return peek(g, at) < 0 ? CUT(g) : BAD(begin);
    if (peek(g, at) == '.') {
        at++;
        if (!is_digit(peek(g, at)))
            return peek(g, at) < 0 ? CUT(g) : BAD(begin);
        while (is_digit(peek(g, at)))
            at++;
    }
    if (peek(g, at) == 'e' || peek(g, at) == 'E') {
        at++;
        if (peek(g, at) == '+' || peek(g, at) == '-')
            at++;
        if (!is_digit(peek(g, at)))
            return peek(g, at) < 0 ? CUT(g) : BAD(begin);
        while (is_digit(peek(g, at)))
            at++;
    }
    if (peek(g, at) < 0 && g->depth > 0)
        return CUT(g); /* a digit might follow */
    g->at = at;
    return GOOD;
}

static struct verdict word(struct grammar *g, const char *literal)
{
    for (size_t i = 0; literal[i]; i++) {
        int c = peek(g, g->at + i);
        if (c != literal[i])
            return c < 0 ? CUT(g) : BAD(g->at);
    }
    g->at += strlen(literal);
    return GOOD;
}

/* A scalar or an opening bracket, with what the limits say of it. */
static struct verdict value(struct grammar *g)
{
    size_t begin = g->at;
    int c = peek(g, begin);
    struct verdict v;
    if (c == '{' || c == '[') {
        if (g->depth == DEPTH)
            return (struct verdict){ST_TOO_LARGE, begin};
        v = g->depth == 0 && c == '[' ? BAD(begin) : GOOD;
    } else if (c == '"') {
        v = string(g);
    } else if (c == '-' || is_digit(c)) {
        v = number(g);
    } else if (c == 't' || c == 'f' || c == 'n') {
        v = word(g, c == 't' ? "true" : c == 'f' ? "false" : "null");
    } else {
        return BAD(begin);
    }
    if (v.status == ST_OK && g->depth == 0 && c != '{')
        return BAD(begin);
    if (v.status == ST_OK && ++g->values > VALUES)
        return (struct verdict){ST_TOO_LARGE, begin};
    if (v.status == ST_OK && (c == '{' || c == '[')) {
        g->open[g->depth++] = (char)c;
        g->at++;
    }
    return v;
}

static struct verdict name(struct grammar *g)
{
    if (peek(g, g->at) != '"')
        return BAD(g->at);
    struct verdict v = string(g);
    if (v.status != ST_OK)
        return v;
    skip(g);
    if (peek(g, g->at) < 0)
        return CUT(g);
    if (peek(g, g->at) != ':')
        return BAD(g->at);
    g->at++;
    skip(g);
    return peek(g, g->at) < 0 ? CUT(g) : GOOD;
}

static struct verdict document(struct grammar *g)
{
    bool is_first = true; /* in its container */
    skip(g);
    if (peek(g, g->at) < 0)
        return CUT(g);
    struct verdict v = value(g);
    while (v.status == ST_OK && g->depth > 0) {
        char close = g->open[g->depth - 1] == '{' ? '}' : ']';
        skip(g);
        if (peek(g, g->at) < 0)
            return CUT(g);
        if (peek(g, g->at) == close) {
            g->at++;
            g->depth--;
            is_first = false;
            continue;
        }
        if (!is_first) {
            if (peek(g, g->at) != ',')
                return BAD(g->at);
            g->at++;
            skip(g);
            if (peek(g, g->at) < 0)
                return CUT(g);
        }
        if (close == '}')
            v = name(g);
        size_t depth = g->depth;
        if (v.status == ST_OK)
            v = value(g);
        is_first = g->depth > depth;
    }
    if (v.status != ST_OK)
        return v;
    skip(g);
    if (g->at < g->text.len)
        return BAD(g->at);
    return g->has_control_space ? BAD(g->control_space_at) : GOOD;
}

/* Unicode's table of well-formed byte sequences (3-7). */
static size_t bad_utf8(struct span s)
{
    for (size_t at = 0; at < s.len;) {
        const unsigned char *p = (const unsigned char *)s.ptr + at;
        unsigned char low = 0x80, high = 0xBF;
        size_t more = p[0] < 0x80   ? 0
                      : p[0] < 0xC2 ? 9
                      : p[0] < 0xE0 ? 1
                      : p[0] < 0xF0 ? 2
                      : p[0] < 0xF5 ? 3
                                    : 9;
        if (p[0] == 0xE0)
            low = 0xA0;
        if (p[0] == 0xED)
            high = 0x9F;
        if (p[0] == 0xF0)
            low = 0x90;
        if (p[0] == 0xF4)
            high = 0x8F;
        if (more == 9 || more >= s.len - at)
            return at;
        for (size_t i = 1; i <= more; i++) {
            if (p[i] < low || p[i] > high)
                return at;
            low = 0x80;
            high = 0xBF;
        }
        at += more + 1;
    }
    return SPAN_NONE;
}

static unsigned int hex4(const char *digits)
{
    char text[5] = {digits[0], digits[1], digits[2], digits[3], '\0'};
    return (unsigned int)strtoul(text, NULL, 16);
}

/* In a text of good grammar: U+0000 and lone surrogates. */
static struct verdict escapes(struct span s)
{
    for (size_t at = 0; at < s.len; at++) {
        if (s.ptr[at] != '\\')
            continue;
        if (s.ptr[at + 1] != 'u') {
            at++;
            continue;
        }
        unsigned int code = hex4(s.ptr + at + 2);
        if (code == 0 || (code >= 0xDC00 && code < 0xE000))
            return BAD(at);
        if (code >= 0xD800 && code < 0xDC00) {
            unsigned int low = s.ptr[at + 6] == '\\' && s.ptr[at + 7] == 'u' ? hex4(s.ptr + at + 8) : 0;
            if (low < 0xDC00 || low >= 0xE000)
                return BAD(at);
            at += 6;
        }
        at += 5;
    }
    return GOOD;
}

static struct verdict judge(struct span text)
{
    struct grammar g = {.text = text};
    size_t bad = bad_utf8(text);
    if (bad != SPAN_NONE)
        return BAD(bad);
    struct verdict v = document(&g);
    return v.status == ST_OK ? escapes(text) : v;
}

/* --- the same tree --------------------------------------------------------------------------------------- */

static void check_same(const struct json *ours, yajl_val theirs)
{
    size_t i = 0;
    switch (ours->kind) {
    case JSON_NULL:
        CHECK(YAJL_IS_NULL(theirs));
        break;
    case JSON_TRUE:
        CHECK(YAJL_IS_TRUE(theirs));
        break;
    case JSON_FALSE:
        CHECK(YAJL_IS_FALSE(theirs));
        break;
    case JSON_NUMBER:
        CHECK(YAJL_IS_NUMBER(theirs) && span_eq(ours->text, span_of(YAJL_GET_NUMBER(theirs))));
        break;
    case JSON_STRING:
        CHECK(YAJL_IS_STRING(theirs) && span_eq(ours->text, span_of(YAJL_GET_STRING(theirs))));
        break;
    case JSON_OBJECT:
        CHECK(YAJL_IS_OBJECT(theirs));
        for (const struct json *m = ours->first; m; m = m->next, i++) {
            CHECK(i < theirs->u.object.len);
            CHECK(span_eq(m->name, span_of(theirs->u.object.keys[i])));
            check_same(m, theirs->u.object.values[i]);
        }
        CHECK(i == theirs->u.object.len);
        break;
    case JSON_ARRAY:
        CHECK(YAJL_IS_ARRAY(theirs));
        for (const struct json *m = ours->first; m; m = m->next, i++) {
            CHECK(i < theirs->u.array.len);
            check_same(m, theirs->u.array.values[i]);
        }
        CHECK(i == theirs->u.array.len);
        break;
    }
}

static void check_tree(struct span text, const struct json *top)
{
    char *copy = strndup(text.ptr, text.len), error[TREE_ERROR_BYTES];
    yajl_val tree = yajl_tree_parse(copy, error, sizeof error);
    CHECK(tree);
    check_same(top, tree);
    yajl_tree_free(tree);
    free(copy);
}

/* --- written and read again ------------------------------------------------------------------------------ */

/* What the writer has no words for is left out. */
static bool is_writable(const struct json *m)
{
    return m->kind == JSON_STRING || m->kind == JSON_TRUE || m->kind == JSON_FALSE || m->kind == JSON_OBJECT;
}

static void write_members(struct json_writer *w, const struct json *object)
{
    for (const struct json *m = object->first; m; m = m->next) {
        if (m->kind == JSON_STRING) {
            json_add_text(w, m->name, m->text);
        } else if (m->kind == JSON_TRUE || m->kind == JSON_FALSE) {
            json_add_bool(w, m->name, m->kind == JSON_TRUE);
        } else if (m->kind == JSON_OBJECT) {
            json_open(w, m->name);
            write_members(w, m);
            json_close(w);
        }
    }
}

static void check_again(const struct json *was, const struct json *is)
{
    const struct json *i = is->first;
    for (const struct json *m = was->first; m; m = m->next) {
        if (!is_writable(m))
            continue;
        CHECK(i && i->kind == m->kind && span_eq(i->name, m->name) && span_eq(i->text, m->text));
        if (m->kind == JSON_OBJECT)
            check_again(m, i);
        i = i->next;
    }
    CHECK(!i);
}

static void check_writer(const struct json *top, struct arena *arena)
{
    static struct buf out = BUF_INIT(LIMIT_BODY_BYTES * 6);
    struct json_writer w;
    const struct json *again;
    struct fail why;
    buf_reset(&out);
    json_begin(&w, &out);
    write_members(&w, top);
    CHECK(json_end(&w, "a text", &why) == ST_OK);
    CHECK(json_read(buf_span(&out), &LIMITS, arena, &again, NULL, &why) == ST_OK);
    check_again(top, again);
}

/* --- checks ---------------------------------------------------------------------------------------------- */

static void check_reader(struct span text)
{
    static struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    const struct json *top = NULL, *same = NULL;
    size_t offset = 0;
    struct fail why;
    arena.limit = LIMIT_REQUEST_ARENA;
    enum status status = json_read(text, &LIMITS, &arena, &top, &offset, &why);
    struct verdict want = judge(text);
    CHECK(status == want.status);
    if (status != ST_OK) {
        CHECK(!top && offset == want.offset && offset <= text.len);
        fuzz_check_fail(&why, status);
    } else {
        /* It takes what it needs and no more, each time the same. */
        struct arena enough = ARENA_INIT(arena.used), scarce = ARENA_INIT(arena.used - 1);
        CHECK(json_read(text, &LIMITS, &enough, &same, NULL, &why) == ST_OK && enough.used == arena.used);
        CHECK(json_read(text, &LIMITS, &scarce, &same, NULL, &why) == ST_NOMEM);
        check_tree(text, top);
        check_writer(top, &arena);
        arena_release(&enough);
        arena_release(&scarce);
    }
    arena_reset(&arena);
}

static void check_lead(struct span text)
{
    static const unsigned char random[LEAD_RANDOM_BYTES];
    static struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct lead lead;
    size_t offset = SPAN_NONE;
    struct fail why;
    enum status status = lead_understand(text, SPAN_LIT("application/json"), SPAN_LIT(".edu"), LEAD_BY_BODY,
                                         random, &arena, &lead, &offset, &why);
    CHECK(status == ST_OK || status == ST_INVALID || status == ST_TOO_LARGE || status == ST_NOT_FOUND);
    CHECK(offset <= text.len && (offset == 0 || status == ST_INVALID || status == ST_TOO_LARGE));
    CHECK(arena.used <= arena.limit);
    if (status == ST_OK) {
        CHECK(strlen(lead.partition) > 0 && strlen(lead.partition) <= LIMIT_PARTITION_KEY_BYTES);
        CHECK(strlen(lead.contact) == LEAD_HASH_TEXT && strlen(lead.content) == LEAD_HASH_TEXT);
        CHECK(lead.withheld || span_eq(lead.payload, text));
    } else {
        fuzz_check_fail(&why, status);
    }
    arena_reset(&arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = {(const char *)data, size};
    check_reader(text);
    check_lead(text);
    return 0;
}

CHECKS_END
