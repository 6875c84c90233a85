/* Values are compared with a copy of the file in lower case, and leads with one
 * of each of their texts that any rule asks for, made once for all rules: so a
 * comparison is one of bytes.  Rules are tried one after the other, as people
 * read them; a few hundred take less time than the row that is written then.
 */
#include "lib/mail/routes.h"

/* System */
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/file.h"
#include "lib/base/live.h"
#include "lib/base/text.h"

/* L5 */
#include "lib/mail/address.h"

enum { SHOWN_BYTES = 40 }; /* of the file in a mistake */

#define ARROW SPAN_LIT("->")

/* What is compared. */
enum field { FIELD_OFFER, FIELD_TITLE, FIELD_ACTION, FIELD_COUNTRY, FIELD_CAMPAIGN, FIELD_TEST };
enum { FIELD_COUNT = FIELD_TEST + 1 };

static const struct name {
    const char *text;
    enum field field; /* of an offer the key; its title is looked at as well */
} NAMES[] = {
    {"offer", FIELD_OFFER},       {"action", FIELD_ACTION}, {"country", FIELD_COUNTRY},
    {"campaign", FIELD_CAMPAIGN}, {"test", FIELD_TEST},
};
enum { NAME_COUNT = sizeof NAMES / sizeof NAMES[0] };

struct value {
    struct span text; /* in lower case */
    size_t fixed;     /* how much of it stands before the first '*' */
};

struct condition {
    enum field field;
    const struct value *values;
    size_t value_count;
};

struct rule {
    struct route route; /* the first */
    struct condition conditions[NAME_COUNT];
    size_t condition_count; /* 0: default */
};

struct routes {
    struct live_part part; /* the first */
    struct arena arena;
    struct span text; /* of the file */
    const char *lower;
    const struct route *first;
    struct rule *last;
    size_t count;
    bool has_default;
    bool is_asked[FIELD_COUNT]; /* by a rule */
};

/* --- reading a line ------------------------------------------------------------------------------------------ */

/* The first word, or its beginning; of an address that stands in a wrong place not its domain. */
static struct span shown(struct span text)
{
    size_t len = 0;
    while (len < text.len && !memchr(" \t@", text.ptr[len], 3))
        len++;
    return utf8_cut_bytes(span_cut(text, 0, len), SHOWN_BYTES);
}

/* What looks like a blank and is none: White_Space of Unicode but for the controls, U+0020 and U+2028 f. */
static bool is_strange_blank(uint32_t code)
{
    return code == 0xA0 || code == 0x1680 || (code >= 0x2000 && code <= 0x200A) || code == 0x202F ||
           code == 0x205F || code == 0x3000;
}

/* What nobody sees, as it comes along from a web page or a word processor, would become part of a value, and the rule
 * would match nothing.  In double quotes it is meant. */
static enum status check_characters(struct span line, struct fail *why)
{
    bool is_quoted = false;
    while (line.len) {
        uint32_t code;
        size_t len = utf8_decode(line, &code);
        if (len == 0 || (code < 0x20 && code != '\t') || code == 0x7F)
            return fail_set(why, ST_INVALID, 0, "holds a control character, or what is not UTF-8");
        if (!is_quoted && (is_invisible_code(code) || is_strange_blank(code)))
            return fail_set(why, ST_INVALID, 0,
                            "holds U+%04X, which cannot be seen or looks like a blank: remove it, or write "
                            "it in double quotes",
                            (unsigned int)code);
        is_quoted = is_quoted != (code == '"');
        line = span_from(line, len);
    }
    return ST_OK;
}

static enum status no_memory(struct fail *why)
{
    return fail_set(why, ST_NOMEM, 0, "no memory for mail routes");
}

/* Where the arrow stands outside of quotes. */
static enum status find_arrow(struct span line, size_t *at, struct fail *why)
{
    bool is_quoted = false;
    for (size_t i = 0; i < line.len; i++) {
        if (line.ptr[i] == '"')
            is_quoted = !is_quoted;
        if (!is_quoted && span_starts(span_from(line, i), ARROW)) {
            *at = i;
            return ST_OK;
        }
    }
    if (is_quoted)
        return fail_set(why, ST_INVALID, 0, "a double quote is not closed");
    return fail_set(why, ST_INVALID, 0, "not of the form 'CONDITIONS -> ADDRESSES' or 'CONDITIONS -> off'");
}

/* Takes a value off the rest, and the blanks behind it. */
static enum status next_value(struct span *rest, const char *name, struct span *value, struct fail *why)
{
    if (rest->len && rest->ptr[0] == '"') {
        size_t end = span_find(span_from(*rest, 1), '"'); /* it is there: find_arrow has seen it */
        *value = span_cut(*rest, 1, end);
        *rest = span_from(*rest, end + 2);
    } else {
        size_t len = 0;
        while (len < rest->len && !memchr(" \t,\"=", rest->ptr[len], 5))
            len++;
        *value = span_cut(*rest, 0, len);
        *rest = span_from(*rest, len);
        if (len == 0)
            return fail_set(why, ST_INVALID, 0, "a value of '%s' is missing; \"\" stands for nothing said",
                            name);
    }
    *rest = span_trim(*rest);
    if (rest->len && rest->ptr[0] == '=')
        return fail_set(
            why, ST_INVALID, 0,
            "'%.*s=': conditions are separated by blanks, and a value with '=' needs double quotes",
            SPAN_FMT(shown(*value)));
    if (value->len > LIMIT_ROUTE_VALUE_BYTES)
        return fail_set(why, ST_INVALID, 0, "a value has more than %u bytes", LIMIT_ROUTE_VALUE_BYTES);
    return ST_OK;
}

/* The same bytes in the copy in lower case. */
static struct span lower_case(const struct routes *r, struct span text)
{
    return (struct span){r->lower + (text.ptr - r->text.ptr), text.len};
}

static enum status read_values(struct routes *r, const struct name *name, struct condition *condition,
                               struct span *rest, struct fail *why)
{
    struct value values[LIMIT_ROUTE_VALUES];
    size_t count = 0;
    bool is_more = true;
    while (is_more) {
        struct span text;
        enum status status = next_value(rest, name->text, &text, why);
        if (status != ST_OK)
            return status;
        if (count == LIMIT_ROUTE_VALUES)
            return fail_set(why, ST_INVALID, 0, "'%s' has more than %u values", name->text,
                            LIMIT_ROUTE_VALUES);
        text = lower_case(r, text);
        size_t star = span_find(text, '*');
        values[count++] = (struct value){text, star == SPAN_NONE ? text.len : star};
        if (name->field == FIELD_TEST && !span_eq(text, SPAN_LIT("yes")) && !span_eq(text, SPAN_LIT("no")))
            return fail_set(why, ST_INVALID, 0, "'test' is yes or no");
        is_more = rest->len && rest->ptr[0] == ',';
        if (is_more)
            *rest = span_trim(span_from(*rest, 1));
    }
    struct value *kept = arena_array(&r->arena, count, sizeof *kept);
    if (!kept)
        return no_memory(why);
    memcpy(kept, values, count * sizeof *kept);
    *condition = (struct condition){name->field, kept, count};
    return ST_OK;
}

static const struct name *find_name(struct span text)
{
    for (size_t i = 0; i < NAME_COUNT; i++) {
        if (span_eq_nocase(text, span_of(NAMES[i].text)))
            return &NAMES[i];
    }
    return NULL;
}

/* Takes one condition off the rest. */
static enum status read_condition(struct routes *r, struct rule *rule, struct span *rest, struct fail *why)
{
    size_t equals = span_find(*rest, '=');
    struct span text = span_trim(span_cut(*rest, 0, equals));
    const struct name *name = find_name(text);
    if (equals == SPAN_NONE || (!name && span_find(text, ' ') != SPAN_NONE))
        return fail_set(why, ST_INVALID, 0, "'%.*s' is no condition: these are of the form NAME=VALUE",
                        SPAN_FMT(shown(text)));
    if (!name)
        return fail_set(why, ST_INVALID, 0,
                        "'%.*s' is no condition: there are offer, action, country, campaign and test",
                        SPAN_FMT(shown(text)));
    for (size_t i = 0; i < rule->condition_count; i++) {
        if (rule->conditions[i].field == name->field)
            return fail_set(why, ST_INVALID, 0,
                            "'%s' stands there twice: all its values belong behind one '='", name->text);
    }
    *rest = span_trim(span_from(*rest, equals + 1));
    enum status status = read_values(r, name, &rule->conditions[rule->condition_count], rest, why);
    if (status == ST_OK)
        rule->condition_count++;
    return status;
}

static enum status read_conditions(struct routes *r, struct rule *rule, struct span text, struct fail *why)
{
    struct span rest = text;
    enum status status = ST_OK;
    rule->route.conditions = text;
    if (text.len == 0)
        return fail_set(why, ST_INVALID, 0,
                        "no condition stands before '->'; 'default' is for all other leads");
    if (span_eq_nocase(text, SPAN_LIT("default"))) {
        r->has_default = true;
        return ST_OK;
    }
    while (status == ST_OK && rest.len)
        status = read_condition(r, rule, &rest, why);
    return status;
}

static enum status read_recipients(struct routes *r, struct route *route, struct span text, struct fail *why)
{
    struct span list[LIMIT_RECIPIENTS] = {{0}};
    size_t count = 0;
    if (text.len == 0)
        return fail_set(why, ST_INVALID, 0, "nobody stands behind '->'; 'off' is for no mail");
    if (span_eq_nocase(text, SPAN_LIT("off")))
        return ST_OK;
    enum status status = mail_recipients_parse(text, list, &count, why);
    if (status != ST_OK)
        return status;
    struct span *kept = arena_array(&r->arena, count, sizeof *kept);
    if (!kept)
        return no_memory(why);
    memcpy(kept, list, count * sizeof *kept);
    route->recipients = kept;
    route->recipient_count = count;
    return ST_OK;
}

static void append(struct routes *r, struct rule *rule)
{
    if (r->last)
        r->last->route.next = &rule->route;
    else
        r->first = &rule->route;
    r->last = rule;
    r->count++;
    for (size_t i = 0; i < rule->condition_count; i++)
        r->is_asked[rule->conditions[i].field] = true;
    r->is_asked[FIELD_TITLE] = r->is_asked[FIELD_OFFER];
}

static enum status add_line(struct routes *r, struct span line, size_t number, struct fail *why)
{
    size_t arrow = 0;
    line = span_trim(line);
    if (line.len == 0 || line.ptr[0] == '#')
        return ST_OK;
    enum status status = check_characters(line, why);
    if (status == ST_OK)
        status = find_arrow(line, &arrow, why);
    if (status != ST_OK)
        return status;
    if (r->has_default)
        return fail_set(why, ST_INVALID, 0, "stands behind 'default', which leaves no lead for it");
    if (r->count == LIMIT_ROUTES)
        return fail_set(why, ST_INVALID, 0, "more than %u rules", LIMIT_ROUTES);
    struct rule *rule = arena_alloc(&r->arena, sizeof *rule);
    if (!rule)
        return no_memory(why);
    rule->route.line = number;
    status = read_conditions(r, rule, span_trim(span_cut(line, 0, arrow)), why);
    if (status == ST_OK)
        status = read_recipients(r, &rule->route, span_trim(span_from(line, arrow + ARROW.len)), why);
    if (status == ST_OK)
        append(r, rule);
    return status;
}

/* --- reading a file ------------------------------------------------------------------------------------------ */

static enum status add_lines(struct routes *r, const char *path, struct buf *mistakes, struct fail *why)
{
    struct span rest = r->text, line;
    enum status result = ST_OK;
    for (size_t number = 1; span_next(&rest, '\n', &line); number++) {
        struct fail mistake;
        enum status status = add_line(r, line, number, &mistake);
        if (status == ST_OK)
            continue;
        if (status != ST_INVALID) {
            *why = mistake;
            return status;
        }
        buf_addf(mistakes, "%s:%zu: %s\n", path, number, mistake.text);
        if (result == ST_OK)
            result = fail_set(why, ST_INVALID, 0, "%s:%zu: %s", path, number, mistake.text);
    }
    return result;
}

static enum status keep_text(struct routes *r, struct span text, struct fail *why)
{
    char *lower = arena_alloc(&r->arena, text.len + 1);
    if (!lower || !arena_copy(&r->arena, text, &r->text))
        return no_memory(why);
    for (size_t i = 0; i < text.len; i++)
        lower[i] = char_lower(text.ptr[i]);
    r->lower = lower;
    return ST_OK;
}

enum status routes_parse(struct span text, const char *path, struct routes **routes, struct buf *mistakes,
                         struct fail *why)
{
    struct routes *r = calloc(1, sizeof *r);
    if (!r)
        return no_memory(why);
    r->arena = ARENA_INIT(LIMIT_ROUTES_ARENA);
    enum status status = keep_text(r, text, why);
    if (status == ST_OK)
        status = add_lines(r, path, mistakes, why);
    if (status == ST_OK)
        *routes = r;
    else
        routes_free(r);
    return status;
}

enum status routes_read(const char *path, struct routes **routes, struct buf *mistakes, struct fail *why)
{
    struct buf text = BUF_INIT(LIMIT_ROUTES_FILE_BYTES);
    enum status status = path ? file_read(path, FILE_GUARDED, &text, why) : ST_OK;
    if (status == ST_OK)
        status = routes_parse(buf_span(&text), path, routes, mistakes, why);
    buf_release(&text);
    return status;
}

void routes_free(struct routes *routes)
{
    if (routes)
        arena_release(&routes->arena);
    free(routes);
}

const struct route *routes_first(const struct routes *routes)
{
    return routes->first;
}

size_t routes_count(const struct routes *routes)
{
    return routes->count;
}

const struct route *routes_default(const struct routes *routes)
{
    return routes->has_default ? &routes->last->route : NULL;
}

/* --- finding ------------------------------------------------------------------------------------------------- */

/* What the rules compare of one lead, in lower case. */
struct texts {
    struct span of[FIELD_COUNT];
    char memory[FIELD_COUNT][LIMIT_ROUTE_VALUE_BYTES];
};

static void fill(const struct routes *r, const struct lead *lead, struct texts *texts)
{
    const struct span from[FIELD_COUNT] = {
        [FIELD_OFFER] = span_of(lead->partition),
        [FIELD_TITLE] = lead->offer_title,
        [FIELD_ACTION] = lead->action,
        [FIELD_COUNTRY] = lead->customer.country,
        [FIELD_CAMPAIGN] = lead->campaign,
        [FIELD_TEST] = lead->is_test ? SPAN_LIT("yes") : SPAN_LIT("no"),
    };
    for (size_t f = 0; f < FIELD_COUNT; f++) {
        if (!r->is_asked[f])
            continue;
        struct span text = span_cut(span_trim(from[f]), 0, LIMIT_ROUTE_VALUE_BYTES);
        for (size_t i = 0; i < text.len; i++)
            texts->memory[f][i] = char_lower(text.ptr[i]);
        texts->of[f] = (struct span){texts->memory[f], text.len};
    }
}

/* When what follows a '*' does not fit, that '*' takes one character more; those before it need not be tried anew. */
static bool pattern_matches(struct span pattern, struct span text)
{
    size_t p = 0, t = 0, behind_star = SPAN_NONE, taken = 0;
    while (t < text.len) {
        if (p < pattern.len && pattern.ptr[p] == '*') {
            behind_star = ++p;
            taken = t;
        } else if (p < pattern.len && pattern.ptr[p] == text.ptr[t]) {
            p++;
            t++;
        } else if (behind_star != SPAN_NONE) {
            p = behind_star;
            t = ++taken;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*')
        p++;
    return p == pattern.len;
}

/* Most values differ from a text by their length or in the bytes before the first '*'. */
static bool value_matches(const struct value *value, struct span text)
{
    bool is_exact = value->fixed == value->text.len;
    if (is_exact ? text.len != value->fixed : text.len < value->fixed)
        return false;
    if (memcmp(value->text.ptr, text.ptr, value->fixed) != 0)
        return false;
    return is_exact || pattern_matches(span_from(value->text, value->fixed), span_from(text, value->fixed));
}

static bool condition_holds(const struct condition *c, const struct texts *texts)
{
    for (size_t i = 0; i < c->value_count; i++) {
        if (value_matches(&c->values[i], texts->of[c->field]) ||
            (c->field == FIELD_OFFER && value_matches(&c->values[i], texts->of[FIELD_TITLE])))
            return true;
    }
    return false;
}

static bool rule_matches(const struct rule *rule, const struct texts *texts)
{
    for (size_t i = 0; i < rule->condition_count; i++) {
        if (!condition_holds(&rule->conditions[i], texts))
            return false;
    }
    return true;
}

const struct route *routes_find(const struct routes *routes, const struct lead *lead)
{
    struct texts texts;
    const struct route *route = routes->first;
    if (route)
        fill(routes, lead, &texts);
    while (route && !rule_matches((const struct rule *)route, &texts))
        route = route->next;
    return route;
}

/* --- routes that are replaced ----------------------------------------------------------------------------- */

struct route_book {
    struct live routes;
};

static void free_part(struct live_part *part)
{
    routes_free((struct routes *)part);
}

enum status route_book_new(struct routes *routes, struct route_book **book, struct fail *why)
{
    struct route_book *b = calloc(1, sizeof *b);
    if (!b) {
        routes_free(routes);
        return no_memory(why);
    }
    live_init(&b->routes, &routes->part, free_part);
    *book = b;
    return ST_OK;
}

void route_book_free(struct route_book *book)
{
    if (!book)
        return;
    live_release(&book->routes);
    free(book);
}

struct routes *route_book_hold(struct route_book *book)
{
    return (struct routes *)live_hold(&book->routes);
}

void route_book_let_go(struct route_book *book, struct routes *routes)
{
    live_let_go(&book->routes, &routes->part);
}

void route_book_replace(struct route_book *book, struct routes *routes)
{
    live_replace(&book->routes, &routes->part);
}
