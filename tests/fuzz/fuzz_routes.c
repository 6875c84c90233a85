/* Mail routes: what is taken means what it says, and what is not is told in one line for each mistake.
 *
 * A second reader and matcher, made for files that are known to be good, says which rule a lead matches; both must
 * agree.  The rules as they are shown, written into a file again, are the same rules.
 *
 * Input: how often the file is repeated, the file, and the texts of a lead, each ended by PART_END.
 */
#include "tests/fuzz/fuzz.h"

#include "lib/mail/address.h"
#include "lib/mail/routes.h"

CHECKS_BEGIN

#define FILE_PATH "/etc/leadhook/routes"

enum { MISTAKES_BYTES = 1024 * 1024 };

static struct buf mistakes = BUF_INIT(MISTAKES_BYTES);
static struct buf shown = BUF_INIT(2 * LIMIT_ROUTES_FILE_BYTES);

/* --- the second reader --------------------------------------------------------------------------------------- */

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c + 32) : c;
}

static bool is_same(struct span a, const char *b)
{
    size_t i = 0;
    for (; i < a.len && b[i]; i++) {
        if (lower(a.ptr[i]) != lower(b[i]))
            return false;
    }
    return i == a.len && !b[i];
}

/* Which beginnings of the pattern match which beginnings of the text, from the shortest on. */
static bool matches(struct span pattern, struct span text)
{
    static bool fits[LIMIT_ROUTE_VALUE_BYTES + 1];
    CHECK(pattern.len <= LIMIT_ROUTE_VALUE_BYTES);
    text = span_cut(span_trim(text), 0, LIMIT_ROUTE_VALUE_BYTES);
    for (size_t t = 0; t <= text.len; t++)
        fits[t] = t == 0;
    for (size_t p = 0; p < pattern.len; p++) {
        bool is_star = pattern.ptr[p] == '*', before = fits[0];
        fits[0] = fits[0] && is_star;
        for (size_t t = 1; t <= text.len; t++) {
            bool here = fits[t];
            fits[t] =
                is_star ? here || fits[t - 1] : before && lower(pattern.ptr[p]) == lower(text.ptr[t - 1]);
            before = here;
        }
    }
    return fits[text.len];
}

static void skip_blanks(struct span *rest)
{
    while (rest->len && (rest->ptr[0] == ' ' || rest->ptr[0] == '\t'))
        *rest = span_from(*rest, 1);
}

/* Takes what stands before one of the bytes. */
static struct span take_until(struct span *rest, const char *ends)
{
    size_t len = 0;
    while (len < rest->len && !strchr(ends, rest->ptr[len]))
        len++;
    struct span taken = span_cut(*rest, 0, len);
    *rest = span_from(*rest, len);
    return taken;
}

static struct span take_value(struct span *rest)
{
    skip_blanks(rest);
    bool is_quoted = rest->len && rest->ptr[0] == '"';
    if (is_quoted)
        *rest = span_from(*rest, 1);
    struct span value = take_until(rest, is_quoted ? "\"" : " \t,");
    if (is_quoted)
        *rest = span_from(*rest, 1);
    skip_blanks(rest);
    return value;
}

static bool value_fits(struct span name, struct span value, const struct lead *lead)
{
    if (is_same(name, "offer"))
        return matches(value, span_of(lead->partition)) || matches(value, lead->offer_title);
    if (is_same(name, "action"))
        return matches(value, lead->action);
    if (is_same(name, "country"))
        return matches(value, lead->customer.country);
    if (is_same(name, "campaign"))
        return matches(value, lead->campaign);
    CHECK(is_same(name, "test"));
    return is_same(value, lead->is_test ? "yes" : "no");
}

static bool rule_fits(struct span conditions, const struct lead *lead)
{
    if (is_same(conditions, "default"))
        return true;
    bool all = true;
    CHECK(conditions.len > 0);
    while (conditions.len) {
        struct span name = span_trim(take_until(&conditions, "="));
        bool any = false, is_more = true;
        conditions = span_from(conditions, 1);
        while (is_more) {
            any = value_fits(name, take_value(&conditions), lead) || any;
            is_more = conditions.len && conditions.ptr[0] == ',';
            if (is_more)
                conditions = span_from(conditions, 1);
        }
        all = all && any;
    }
    return all;
}

/* --- the checks ---------------------------------------------------------------------------------------------- */

static void check_route(const struct route *route, struct span file)
{
    CHECK(route->recipient_count <= LIMIT_RECIPIENTS);
    CHECK(route->conditions.len > 0 && fuzz_has(file, route->conditions));
    for (size_t i = 0; i < route->recipient_count; i++) {
        struct mail_address address;
        CHECK(mail_address_parse(route->recipients[i], &address, NULL) == ST_OK);
        CHECK(span_eq(address.address, route->recipients[i]) && address.name.len == 0);
        CHECK(fuzz_has(file, route->recipients[i]));
    }
}

static void check_rules(const struct routes *routes, struct span file)
{
    size_t count = 0, line = 0;
    for (const struct route *r = routes_first(routes); r; r = r->next) {
        CHECK(r->line > line);
        line = r->line;
        count++;
        check_route(r, file);
        CHECK(!is_same(r->conditions, "default") == (r->next || !routes_default(routes)));
    }
    CHECK(count == routes_count(routes) && count <= LIMIT_ROUTES);
    CHECK(!routes_default(routes) || count > 0);
}

/* The rules as a file. */
static void show(const struct routes *routes)
{
    buf_reset(&shown);
    for (const struct route *r = routes_first(routes); r; r = r->next) {
        buf_add(&shown, r->conditions);
        buf_add_text(&shown, r->recipient_count ? " -> " : " -> off");
        for (size_t i = 0; i < r->recipient_count; i++) {
            buf_add_text(&shown, i > 0 ? ", " : "");
            buf_add(&shown, r->recipients[i]);
        }
        buf_add_char(&shown, '\n');
    }
    CHECK(shown.error == ST_OK);
}

static void check_again(const struct routes *routes)
{
    struct routes *again = NULL;
    struct fail why;
    show(routes);
    CHECK(routes_parse(buf_span(&shown), FILE_PATH, &again, &mistakes, &why) == ST_OK);
    CHECK(mistakes.len == 0 && routes_count(again) == routes_count(routes));
    const struct route *a = routes_first(routes), *b = routes_first(again);
    for (; a && b; a = a->next, b = b->next) {
        CHECK(span_eq(a->conditions, b->conditions) && a->recipient_count == b->recipient_count);
        for (size_t i = 0; i < a->recipient_count; i++)
            CHECK(span_eq(a->recipients[i], b->recipients[i]));
    }
    CHECK(!a && !b);
    routes_free(again);
}

static void check_found(const struct routes *routes, const struct lead *lead)
{
    const struct route *want = routes_first(routes);
    while (want && !rule_fits(want->conditions, lead))
        want = want->next;
    CHECK(routes_find(routes, lead) == want);
}

static void check_mistakes(const struct fail *why, size_t lines)
{
    struct span said = buf_span(&mistakes), rest = said, line, prefix = SPAN_LIT(FILE_PATH ":");
    size_t last = 0;
    CHECK(said.len > 0 && said.ptr[said.len - 1] == '\n');
    rest.len--;
    while (span_next(&rest, '\n', &line)) {
        uint64_t number = 0;
        CHECK(span_starts(line, prefix) && !fuzz_has_control(line));
        line = span_from(line, prefix.len);
        size_t colon = span_find(line, ':');
        CHECK(colon != SPAN_NONE && span_to_u64(span_cut(line, 0, colon), lines, &number));
        CHECK(number > last && line.len > colon + 2); /* one for each line, in order */
        last = (size_t)number;
    }
    CHECK(span_starts(said, span_of(why->text)));
}

static struct lead lead_of(struct span *rest)
{
    struct lead lead = {.is_test = fuzz_byte(rest) % 2 == 1};
    struct span key = span_cut(fuzz_part(rest), 0, sizeof lead.partition - 1);
    for (size_t i = 0; i < key.len && key.ptr[i]; i++) /* a key holds no U+0000 */
        lead.partition[i] = key.ptr[i];
    lead.offer_title = fuzz_part(rest);
    lead.action = fuzz_part(rest);
    lead.customer.country = fuzz_part(rest);
    lead.campaign = fuzz_part(rest);
    return lead;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = {(const char *)data, size};
    struct arena arena = ARENA_INIT(1024 * 1024);
    struct routes *routes = NULL;
    struct fail why;
    size_t times = fuzz_byte(&rest);
    struct span file = fuzz_repeat(fuzz_part(&rest), times, LIMIT_ROUTES_FILE_BYTES, &arena);
    struct lead lead = lead_of(&rest);
    lead.campaign = fuzz_repeat(lead.campaign, times, 1024, &arena);
    size_t lines = 1;
    for (size_t i = 0; i < file.len; i++)
        lines += file.ptr[i] == '\n' ? 1 : 0;
    buf_reset(&mistakes);
    enum status status = routes_parse(file, FILE_PATH, &routes, &mistakes, &why);
    CHECK(status == ST_OK || status == ST_INVALID);
    if (status == ST_OK) {
        CHECK(mistakes.len == 0);
        check_rules(routes, file);
        check_found(routes, &lead);
        check_again(routes);
        routes_free(routes);
    } else {
        fuzz_check_fail(&why, status);
        CHECK(!routes);
        check_mistakes(&why, lines);
    }
    arena_release(&arena);
    return 0;
}

CHECKS_END
