/* From a request's body to a lead and its keys.  Whole bodies as they are sent are in tests/golden; here is
 * each rule by itself, and what is too large or too odd for a file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/text.h"
#include "lib/lead/lead.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define JSON_TYPE    "application/json"
#define FORM_TYPE    "application/x-www-form-urlencoded"

struct fixture {
    struct arena arena;
    struct buf body;
    struct payload payload;
    struct lead lead;
    size_t offset;
    struct fail why;
};

static const unsigned char RANDOM[LEAD_RANDOM_BYTES] = {0xAA, [LEAD_RANDOM_BYTES / 2] = 0xBB};
#define RANDOM_CONTACT "aa000000000000000000000000000000"
#define RANDOM_CONTENT "bb000000000000000000000000000000"

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    f->arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    f->body = BUF_INIT(2 * LIMIT_BODY_BYTES);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    arena_release(&f->arena);
    buf_release(&f->body);
    free(f);
    return 0;
}

static void same(const char *row, struct span got, struct span want)
{
    if (!span_eq(got, want))
        fail_msg("%s: got '%.*s', want '%.*s'", row, SPAN_FMT(got), SPAN_FMT(want));
}

static void same_text(const char *row, const char *got, const char *want)
{
    same(row, span_of(got), span_of(want));
}

static void same_number(const char *row, long long got, long long want)
{
    if (got != want)
        fail_msg("%s: got %lld, want %lld", row, got, want);
}

static enum status read_span(struct fixture *f, struct span body, const char *type)
{
    arena_reset(&f->arena);
    f->offset = SPAN_NONE;
    f->why.text[0] = '\0';
    return lead_read(body, span_of(type), &f->arena, &f->payload, &f->offset, &f->why);
}

static enum status read_text(struct fixture *f, const char *body, const char *type)
{
    return read_span(f, span_of(body), type);
}

/* The body that f->body holds. */
static enum status read_built(struct fixture *f, const char *type)
{
    assert_int_equal(f->body.error, ST_OK);
    return read_span(f, buf_span(&f->body), type);
}

static void normalize(struct fixture *f, const char *withhold)
{
    assert_int_equal(
        lead_normalize(&f->payload, SPAN_LIT("the body"), span_of(withhold), &f->arena, &f->lead, &f->why),
        ST_OK);
}

static void identify(struct fixture *f)
{
    assert_int_equal(lead_identify(&f->lead, SPAN_LIT("the body"), RANDOM, &f->why), ST_OK);
}

/* --- read: which kind of body -------------------------------------------------------------------------------- */

static void test_kind_of_body(void **state)
{
    struct fixture *f = *state;
    static const char json[] = "{\"OfferTitle\":\"x\"}", form[] = "title=x", any_form[] = "a=b";
    static const struct {
        const char *body, *type;
        enum status status;
    } rows[] = {
        {json, JSON_TYPE, ST_OK},
        {json, JSON_TYPE "; charset=utf-8", ST_OK},
        {json, FORM_TYPE, ST_OK},
        {json, "text/plain", ST_OK},
        {json, "", ST_OK},
        {json, NULL, ST_OK},
        {" \t\r\n{\"OfferTitle\":\"x\"}\n", "", ST_OK},
        {"\xEF\xBB\xBF{\"OfferTitle\":\"x\"}", "", ST_OK},
        {"\xEF\xBB\xBF \n{\"OfferTitle\":\"x\"}", "", ST_OK},
        {" \xEF\xBB\xBF{\"OfferTitle\":\"x\"}", "", ST_REFUSED}, /* a mark inside is none */
        {form, FORM_TYPE, ST_OK},
        {form, "APPLICATION/X-WWW-FORM-URLENCODED; charset=UTF-8", ST_OK},
        {form, JSON_TYPE, ST_OK},
        {form, "", ST_OK},
        {"\xEF\xBB\xBF"
         "title=x",
         "", ST_OK},
        {" title=x\r\n", "", ST_OK},
        {any_form, FORM_TYPE, ST_NOT_FOUND},
        {any_form, "", ST_REFUSED},
        {any_form, JSON_TYPE, ST_INVALID},
        {"a=b&TITLE=x", "", ST_OK},
        {"title", "", ST_REFUSED}, /* a name without a value says nothing */
        {"title", FORM_TYPE, ST_REFUSED},
        {"title=", "", ST_NOT_FOUND},
        {"my title=x", "", ST_REFUSED},
        {"hello", "", ST_REFUSED},
        {"hello", FORM_TYPE, ST_REFUSED},
        {"hello", JSON_TYPE, ST_INVALID},
        {"<a title=\"x\"/>", "text/xml", ST_REFUSED},
        {"{title=x&email=y", FORM_TYPE, ST_INVALID}, /* begins as JSON does */
        {"{", "", ST_INVALID},
        {"[]", "", ST_INVALID},
        {"[{\"OfferTitle\":\"x\"}]", JSON_TYPE, ST_INVALID},
        {"\"x\"", "", ST_INVALID},
        {"1", JSON_TYPE, ST_INVALID},
        {"1", "", ST_REFUSED},
        {"null", JSON_TYPE, ST_INVALID},
        {"", JSON_TYPE, ST_INVALID},
        {" \r\n\t", "", ST_INVALID},
        {"\xEF\xBB\xBF", "", ST_INVALID},
        {"{}", "", ST_NOT_FOUND},
        {"{\"UserDetails\":null}", "", ST_NOT_FOUND},
        {"{\"UserDetails\":{}}", "", ST_NOT_FOUND},
        {"{\"a\":{\"OfferTitle\":\"x\"}}", "", ST_NOT_FOUND}, /* not where it belongs */
        {"{\"Email\":\"a@example.com\"}", "", ST_NOT_FOUND},
        {"{\"UserDetails\":{\"OfferTitle\":\"x\"}}", "", ST_NOT_FOUND},
    };
    for (size_t i = 0; i < COUNT(rows); i++)
        same_number(rows[i].body, read_text(f, rows[i].body, rows[i].type), rows[i].status);
    assert_int_equal(read_span(f, (struct span){0}, ""), ST_INVALID);
    assert_string_equal(f->why.text, "empty body");
    assert_int_equal(f->offset, 0);
}

/* A payload that could not be read leaves the caller's untouched. */
static void test_failure_writes_nothing(void **state)
{
    struct fixture *f = *state;
    static const char *const bodies[] = {"{\"OfferTitle\":\"x\"", "{}", "?", "title=x&email=%FF"};
    for (size_t i = 0; i < COUNT(bodies); i++) {
        f->payload = (struct payload){.offer_title = SPAN_LIT("before")};
        assert_int_not_equal(read_text(f, bodies[i], ""), ST_OK);
        same(bodies[i], f->payload.offer_title, SPAN_LIT("before"));
        assert_int_equal(f->payload.customer.title.len, 0);
    }
}

/* --- read: JSON ---------------------------------------------------------------------------------------------- */

static void test_json_values(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *value, *want;
    } rows[] = {
        {"\"x\"", "x"},
        {"\" x \"", " x "}, /* kept as sent */
        {"\"\\u00a0\"", "\xC2\xA0"},
        {"\"\"", ""},
        {"\" \\t\\r\\n\"", ""},
        {"null", ""},
        {"true", "true"},
        {"false", "false"},
        {"0", "0"},
        {"-0.0", "-0.0"},
        {"1e400", "1e400"},
        {"123456789012345678901234567890", "123456789012345678901234567890"},
        {"{}", ""},
        {"{\"x\":\"y\"}", ""},
        {"[]", ""},
        {"[\"x\"]", ""},
    };
    static const char *const names[] = {"OfferTitle", "offertitle", "OFFERTITLE", "offer\\u0054itle"};
    for (size_t i = 0; i < COUNT(rows) * COUNT(names); i++) {
        const char *value = rows[i / COUNT(names)].value;
        buf_reset(&f->body);
        buf_addf(&f->body, "{\"ActionCode\":\"x\",\"%s\":%s}", names[i % COUNT(names)], value);
        same_number(value, read_built(f, JSON_TYPE), ST_OK);
        same(value, f->payload.offer_title, span_of(rows[i / COUNT(names)].want));
    }
}

static void test_json_customer(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *body, *email, *title;
    } rows[] = {
        {"{\"UserDetails\":{\"Email\":\"a\",\"Title\":\"t\"},\"OfferTitle\":\"x\"}", "a", "t"},
        {"{\"OfferTitle\":\"x\",\"USERDETAILS\":{\"EMAIL\":\"a\"}}", "a", ""},
        {"{\"OfferTitle\":\"x\",\"UserDetails\":\"{\\\"email\\\":\\\"a\\\"}\"}", "a", ""},
        {"{\"OfferTitle\":\"x\",\"UserDetails\":\" {\\\"email\\\":\\\"a\\\"} \\n\"}", "a", ""},
        {"{\"OfferTitle\":\"x\",\"CustomerInfo\":\"{\\\"Email\\\":\\\"a\\\"}\"}", "a", ""},
        {"{\"OfferTitle\":\"x\",\"CustomerInfo\":{\"Email\":\"a\"}}", "a", ""},
        {"{\"OfferTitle\":\"x\",\"UserDetails\":\"{\\\"email\\\":\\\"a\\\"\"}", "", ""}, /* broken inside */
        {"{\"OfferTitle\":\"x\",\"UserDetails\":\"{\\\"email\\\":\\\"\\\\u0000\\\"}\"}", "", ""},
        {"{\"OfferTitle\":\"x\",\"UserDetails\":\"[]\"}", "", ""},
        {"{\"OfferTitle\":\"x\",\"UserDetails\":\"\"}", "", ""},
        {"{\"OfferTitle\":\"x\",\"UserDetails\":\"a@example.com\"}", "", ""},
        {"{\"OfferTitle\":\"x\",\"UserDetails\":[{\"Email\":\"a\"}]}", "", ""},
        {"{\"OfferTitle\":\"x\",\"UserDetails\":7}", "", ""},
        {"{\"OfferTitle\":\"x\",\"UserDetails\":{\"UserDetails\":{\"Email\":\"a\"}}}", "", ""},
        /* of several values the first that is not blank, also across several objects */
        {"{\"UserDetails\":{\"Email\":\"a\",\"email\":\"b\"}}", "a", ""},
        {"{\"UserDetails\":{\"Email\":\" \",\"email\":\"b\",\"EMAIL\":\"c\"}}", "b", ""},
        {"{\"UserDetails\":{\"Email\":{},\"Email\":\"b\"}}", "b", ""},
        {"{\"UserDetails\":null,\"userDetails\":{\"Email\":\"b\"}}", "b", ""},
        {"{\"UserDetails\":{\"Email\":\"a\"},\"userDetails\":{\"Email\":\"b\",\"Title\":\"t\"}}", "a", "t"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        same_number(rows[i].body, read_text(f, rows[i].body, JSON_TYPE), ST_OK);
        same(rows[i].body, f->payload.customer.email, span_of(rows[i].email));
        same(rows[i].body, f->payload.customer.title, span_of(rows[i].title));
    }
}

static void test_json_fault_counts_from_the_body(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *body;
        size_t offset;
    } rows[] = {
        {"{\"a\":1 \"b\":2}", 7},
        {"\n\n{\"a\":1 \"b\":2}", 9},
        {"\xEF\xBB\xBF{\"a\":1 \"b\":2}", 10},
        {"\xEF\xBB\xBF\n{\"a\":\"\xFF\"}", 10},
        {"\xEF\xBB\xBF{\"a\":\"\\ud800\"}", 9},
        {"\xEF\xBB\xBF{\"a\":", 8},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char at[32];
        same_number(rows[i].body, read_text(f, rows[i].body, JSON_TYPE), ST_INVALID);
        same_number(rows[i].body, (long long)f->offset, (long long)rows[i].offset);
        (void)snprintf(at, sizeof at, "at byte %zu", rows[i].offset);
        assert_non_null(strstr(f->why.text, at)); /* the message says the same */
    }
}

/* An object of so many members has one value more: itself. */
static void test_json_limits(void **state)
{
    struct fixture *f = *state;
    for (size_t values = LIMIT_JSON_VALUES - 1; values <= LIMIT_JSON_VALUES + 1; values++) {
        buf_reset(&f->body);
        buf_add_text(&f->body, "{\"OfferTitle\":\"x\"");
        for (size_t i = 2; i < values; i++)
            buf_add_text(&f->body, ",\"\":0");
        buf_add_text(&f->body, "}");
        same_number("values", read_built(f, JSON_TYPE), values > LIMIT_JSON_VALUES ? ST_TOO_LARGE : ST_OK);
    }
    for (size_t depth = LIMIT_JSON_DEPTH - 1; depth <= LIMIT_JSON_DEPTH + 1; depth++) {
        buf_reset(&f->body);
        buf_add_text(&f->body, "{\"OfferTitle\":\"x\",\"y\":");
        for (size_t i = 1; i < depth; i++)
            buf_add_char(&f->body, '[');
        for (size_t i = 1; i < depth; i++)
            buf_add_char(&f->body, ']');
        buf_add_text(&f->body, "}");
        same_number("depth", read_built(f, JSON_TYPE), depth > LIMIT_JSON_DEPTH ? ST_TOO_LARGE : ST_OK);
    }
}

/* --- read: forms --------------------------------------------------------------------------------------------- */

static void test_form_values(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *body, *want; /* of company */
    } rows[] = {
        {"company=x", "x"},
        {"COMPANY=x", "x"},
        {"c%6Fmp%61ny=x", "x"},
        {"company=a=b", "a=b"},
        {"company=a+b%2Bc%20d", "a b+c d"},
        {"company=%C3%A9%f0%9f%98%80", "\xC3\xA9\xF0\x9F\x98\x80"},
        {"company=%0D%0Ax", "\r\nx"},
        {"company=100%", "100%"},
        {"company=%4", "%4"},
        {"company=%zz", "%zz"},
        {"company=%26amp;", "&amp;"},
        {"company=&company=second", "second"},
        {"company=+%09&company=second", "second"},
        {"company=first&company=second", "first"},
        {"&&company=x&", "x"},
        {"company&company=x&=y", "x"},
        {"company=x;email=y", "x;email=y"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        same_number(rows[i].body, read_text(f, rows[i].body, FORM_TYPE), ST_OK);
        same(rows[i].body, f->payload.customer.company, span_of(rows[i].want));
    }
}

static void test_form_names(void **state)
{
    struct fixture *f = *state;
    const struct payload *p = &f->payload;
    assert_int_equal(read_text(f,
                               "oid=0&encoding=UTF-8&encoding=UTF-8&first_name=1&last_name=2&email=3&phone=4&"
                               "country=5&company=6&title=7&lead_source=8&action_code=9&offer_title=10&"
                               "description=11&product_id=12&retURL=x&00N=y",
                               ""),
                     ST_OK);
    const struct span got[] = {p->customer.first_name, p->customer.last_name, p->customer.email,
                               p->customer.phone,      p->customer.country,   p->customer.company,
                               p->customer.title,      p->lead_source,        p->action_code,
                               p->offer_title,         p->description,        p->product_id};
    for (size_t i = 0; i < COUNT(got); i++) {
        char want[8];
        (void)snprintf(want, sizeof want, "%zu", i + 1);
        same(want, got[i], span_of(want));
    }
}

static void test_form_malformed(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *body;
        size_t offset;
    } rows[] = {
        {"title=%FF", 0},
        {"a=b&title=%C3%28", 4},
        {"title=x&unknown=%C0%80", 8},
        {"title=x&%FF=y", 8},
        {"title=x&%FF", 8},
        {"title=x&y=%ED%A0%80", 8},
        {"title=x&y=\xFF", 8},
        {"title=x&y=a%00b", 8},
        {"title=x&a%00b=y", 8},
        {" \n title=x&y=%FF", 11},
        {"\xEF\xBB\xBF"
         "title=%FF",
         3},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        same_number(rows[i].body, read_text(f, rows[i].body, FORM_TYPE), ST_INVALID);
        same_number(rows[i].body, (long long)f->offset, (long long)rows[i].offset);
    }
    assert_int_equal(read_span(f, SPAN_LIT("title=a\0b"), FORM_TYPE), ST_INVALID);
}

static void test_form_limit(void **state)
{
    struct fixture *f = *state;
    for (size_t fields = LIMIT_FORM_FIELDS - 1; fields <= LIMIT_FORM_FIELDS + 1; fields++) {
        buf_reset(&f->body);
        for (size_t i = 1; i < fields; i++)
            buf_add_text(&f->body, "a=b&");
        buf_add_text(&f->body, "title=x");
        same_number("fields", read_built(f, FORM_TYPE), fields > LIMIT_FORM_FIELDS ? ST_TOO_LARGE : ST_OK);
        same_number("offset", (long long)f->offset,
                    fields > LIMIT_FORM_FIELDS ? 4 * (long long)LIMIT_FORM_FIELDS : 0);
        /* without a type only so many are looked at */
        same_number("by content", read_built(f, ""), fields > LIMIT_FORM_FIELDS ? ST_REFUSED : ST_OK);
    }
}

/* --- read: large and odd ------------------------------------------------------------------------------------- */

/* One long text of whole bodies at their limit; none may take long or much memory. */
static void test_large_bodies(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *begin, *unit, *end, *type;
        enum status status;
    } rows[] = {
        {"{\"OfferTitle\":\"", "x", "\"}", JSON_TYPE, ST_OK},
        {"{\"OfferTitle\":\"", "\\\"", "\"}", JSON_TYPE, ST_OK},
        {"{\"OfferTitle\":\"", "\\u00e9", "\"}", JSON_TYPE, ST_OK},
        {"{\"OfferTitle\":\"x\",\"UserDetails\":\"", "{", "\"}", JSON_TYPE, ST_OK},
        {"{\"OfferTitle\":\"x\",\"UserDetails\":\"{\\\"Email\\\":\\\"", "\\\\\\\"", "\\\"}\"}", JSON_TYPE,
         ST_OK},
        {"{\"OfferTitle\":\"x\",\"", "n", "\":0}", JSON_TYPE, ST_OK},
        {"{\"OfferTitle\":", "9", "}", JSON_TYPE, ST_OK},
        {"{\"OfferTitle\":\"x\"}", " ", "", JSON_TYPE, ST_OK},
        {"{\"OfferTitle\":\"x\",\"y\":", "[", "", JSON_TYPE, ST_TOO_LARGE},
        {"{\"OfferTitle\":\"x\",\"y\":[", "0,", "0]}", JSON_TYPE, ST_TOO_LARGE},
        {"{\"OfferTitle\":\"", "x", "", JSON_TYPE, ST_INVALID},
        {"title=", "%41", "", FORM_TYPE, ST_OK},
        {"title=x", "+", "y", FORM_TYPE, ST_OK},
        {"title=x", "&", "", FORM_TYPE, ST_TOO_LARGE},
        {"", "&", "title=x", "", ST_REFUSED},
        {"", "\xFF", "", "", ST_REFUSED},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        size_t fixed = strlen(rows[i].begin) + strlen(rows[i].end);
        buf_reset(&f->body);
        buf_add_text(&f->body, rows[i].begin);
        for (size_t left = LIMIT_BODY_BYTES - fixed; left >= strlen(rows[i].unit);
             left -= strlen(rows[i].unit))
            buf_add_text(&f->body, rows[i].unit);
        buf_add_text(&f->body, rows[i].end);
        same_number(rows[i].unit, read_built(f, rows[i].type), rows[i].status);
        if (rows[i].status == ST_OK) {
            normalize(f, ".edu");
            identify(f);
            assert_true(strlen(f->lead.partition) <= LIMIT_PARTITION_KEY_BYTES);
        }
    }
}

/* A long name arrives byte by byte as it was sent. */
static void test_long_name(void **state)
{
    struct fixture *f = *state;
    struct buf name = BUF_INIT(LIMIT_BODY_BYTES);
    for (uint32_t code = 1; name.len < 32u * 1024; code = (code + 977) % 0x10FFFF + 1) {
        if (code < 0xD800 || code > 0xDFFF)
            utf8_add(&name, code);
    }
    buf_reset(&f->body);
    buf_add_text(&f->body, "first_name=");
    for (size_t i = 0; i < name.len; i++)
        buf_addf(&f->body, "%%%02x", (unsigned int)(unsigned char)name.data[i]);
    enum status status = read_built(f, FORM_TYPE);
    bool is_same = span_eq(f->payload.customer.first_name, buf_span(&name));
    buf_release(&name);
    assert_int_equal(status, ST_OK);
    assert_true(is_same);
}

/* Wherever memory runs out the answer says so; nothing is lost silently. */
static void test_no_memory(void **state)
{
    (void)state;
    static const struct {
        const char *body, *campaign;
    } rows[] = {
        {"{\"UserDetails\":{\"Email\":\"a@example.com\"},\"Description\":\"{\\\"mktcmpid\\\":\\\"x\\\"}\"}",
         "x"},
        {"{\"CustomerInfo\":\"{\\\"Email\\\":\\\"a@example.com\\\"}\",\"Description\":\"x\"}", ""},
        {"\xEF\xBB\xBF"
         "email=a%40example.com&description={\"mktcmpid\":1}",
         "1"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct span body = span_of(rows[i].body);
        enum status status = ST_NOMEM;
        size_t limit = 0;
        for (; status == ST_NOMEM; limit += 8) {
            struct arena a = ARENA_INIT(limit);
            struct payload payload;
            struct lead lead;
            struct fail why = {0};
            size_t offset;
            status = lead_read(body, (struct span){0}, &a, &payload, &offset, &why);
            if (status == ST_OK)
                status = lead_normalize(&payload, body, (struct span){0}, &a, &lead, &why);
            if (status == ST_OK) {
                same(rows[i].body, lead.customer.email, SPAN_LIT("a@example.com"));
                same(rows[i].body, lead.campaign, span_of(rows[i].campaign));
            } else {
                assert_int_equal(why.code, ST_NOMEM);
            }
            arena_release(&a);
            assert_true(limit < 64u * 1024);
        }
        assert_int_equal(status, ST_OK);
        assert_true(limit > 100);
    }
}

/* --- normalize ----------------------------------------------------------------------------------------------- */

#define TICKS "MSFT_TEST_638000000000000000"

static void test_lead_source(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text, *source, *action, *publisher, *offer, *title;
    } rows[] = {
        {"", "", "", "", "", ""},
        {"AzureMarketplace", "AzureMarketplace", "", "", "", ""},
        {"AzurePortal", "AzurePortal", "", "", "", ""},
        {"TestDrive", "TestDrive", "", "", "", ""},
        {"SPZA", "AppSource", "", "", "", ""},
        {"AppSource", "AppSource", "", "", "", ""},
        {"AppSource (SPZA)", "AppSource", "", "", "", ""},
        {" spza ", "AppSource", "", "", "", ""},
        {"AzureMarketplace-INS|p.o", "AzureMarketplace", "INS", "p", "o", ""},
        {"AppSource (SPZA)-PLT|p.o", "AppSource", "PLT", "p", "o", ""},
        {"azureportal-CREATE | p.o ", "AzurePortal", "Create", "p", "o", ""},
        {"AzureMarketplace-INS|p.o-with-dashes.and.dots_1", "AzureMarketplace", "INS", "p",
         "o-with-dashes.and.dots_1", ""},
        {"SPZA-DNC|p.0f0f0f0f-1111-2222-3333-444444444444", "AppSource", "DNC", "p",
         "0f0f0f0f-1111-2222-3333-444444444444", ""},
        {"A-B-C|p.o", "A-B", "C", "p", "o", ""},
        {"Other|p.o", "Other", "", "p", "o", ""},
        {TICKS "-" TICKS "|Example Offer", TICKS, TICKS, "", "", "Example Offer"},
        {"SPZA-PLT| Offer | with - all. ", "AppSource", "PLT", "", "", "Offer | with - all."},
        {"SPZA-PLT|\xEC\x98\x88", "AppSource", "PLT", "", "", "\xEC\x98\x88"},
        {"SPZA-PLT|p.o x", "AppSource", "PLT", "", "", "p.o x"},
        {"SPZA-PLT|P.o", "AppSource", "PLT", "", "", "P.o"}, /* a title of one dotted word */
        {"SPZA-PLT|offer", "AppSource", "PLT", "", "", "offer"},
        {"SPZA-PLT|.o", "AppSource", "PLT", "", "", ".o"},
        {"SPZA-PLT|p.", "AppSource", "PLT", "", "", "p."},
        {"SPZA-PLT|p/q.o", "AppSource", "PLT", "", "", "p/q.o"},
        {"|", "", "", "", "", ""},
        {"-", "", "", "", "", ""},
        {"--|", "-", "", "", "", ""},
        {"-INS", "", "INS", "", "", ""},
        {"SPZA-|p.o", "AppSource", "", "p", "o", ""},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        f->payload = (struct payload){.lead_source = span_of(rows[i].text)};
        normalize(f, "");
        same(rows[i].text, f->lead.source, span_of(rows[i].source));
        same(rows[i].text, f->lead.action, span_of(rows[i].action));
        same(rows[i].text, f->lead.publisher_id, span_of(rows[i].publisher));
        same(rows[i].text, f->lead.offer_id, span_of(rows[i].offer));
        same(rows[i].text, f->lead.offer_title, span_of(rows[i].title));
        same(rows[i].text, f->lead.lead_source, span_of(rows[i].text));
    }
}

/* With its title known, a dotted word with capitals is ids; ProductId helps where LeadSource says nothing. */
static void test_offer_ids(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *lead_source, *offer_title, *product_id, *publisher, *offer, *title;
    } rows[] = {
        {"SPZA-PLT|P.o", "Title", "", "P", "o", "Title"},
        {"SPZA-PLT|Some Title", "Title", "", "", "", "Title"},
        {"SPZA-PLT|p.o", "Title", "q.r", "p", "o", "Title"},
        {"SPZA", "Title", " Q.r ", "Q", "r", "Title"},
        {"SPZA", "", "q.r", "q", "r", ""},
        {"SPZA", "", "not an id", "", "", ""},
        {"SPZA", "", "12345", "", "", ""},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        f->payload = (struct payload){.lead_source = span_of(rows[i].lead_source),
                                      .offer_title = span_of(rows[i].offer_title),
                                      .product_id = span_of(rows[i].product_id)};
        normalize(f, "");
        same(rows[i].lead_source, f->lead.publisher_id, span_of(rows[i].publisher));
        same(rows[i].lead_source, f->lead.offer_id, span_of(rows[i].offer));
        same(rows[i].lead_source, f->lead.offer_title, span_of(rows[i].title));
    }
}

static void test_action(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *lead_source, *code, *action_code, *action;
        bool do_not_contact;
    } rows[] = {
        {"", "INS", "INS", "INS", false},
        {"", "PLT", "PLT", "PLT", false},
        {"", "DNC", "DNC", "DNC", true},
        {"", "Create", "Create", "Create", false},
        {"", "StartTestDrive", "StartTestDrive", "StartTestDrive", false},
        {"", " dnc ", " dnc ", "DNC", true},
        {"", "STARTTESTDRIVE", "STARTTESTDRIVE", "StartTestDrive", false},
        {"", "New code", "New code", "New code", false},
        {"", "DNCX", "DNCX", "DNCX", false},
        {"", TICKS, TICKS, TICKS, false},
        {"SPZA-PLT|p.o", "INS", "INS", "INS", false},
        {"SPZA-DNC|p.o", "INS", "INS", "INS", false},
        {"SPZA-INS|p.o", "DNC", "DNC", "DNC", true},
        {"SPZA-dnc|p.o", "", "dnc", "DNC", true},
        {"DNC", "", "", "", false}, /* a source of that name */
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        f->payload = (struct payload){.lead_source = span_of(rows[i].lead_source),
                                      .action_code = span_of(rows[i].code)};
        normalize(f, "");
        same(rows[i].code, f->lead.action_code, span_of(rows[i].action_code));
        same(rows[i].code, f->lead.action, span_of(rows[i].action));
        same_number(rows[i].code, f->lead.do_not_contact, rows[i].do_not_contact);
    }
}

/* What is not known counts as one, however many there are; what the normalizer makes of an alias is known. */
static void test_labels(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        const char *source;
        const char *action;
    } cases[] = {
        {"", "none", "none"},
        {"AzureMarketplace", "AzureMarketplace", "other"},
        {"AzurePortal", "AzurePortal", "other"},
        {"TestDrive", "TestDrive", "other"},
        {"AppSource", "AppSource", "other"},
        {"INS", "other", "INS"},
        {"PLT", "other", "PLT"},
        {"DNC", "other", "DNC"},
        {"Create", "other", "Create"},
        {"StartTestDrive", "other", "StartTestDrive"},
        {"other", "other", "other"},
        {"none", "other", "other"},
        {"ana@example.com", "other", "other"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t source = lead_source_index(span_of(cases[i].name));
        size_t action = lead_action_index(span_of(cases[i].name));
        assert_true(source < LEAD_SOURCE_LABELS && action < LEAD_ACTION_LABELS);
        assert_string_equal(lead_source_label(source), cases[i].source);
        assert_string_equal(lead_action_label(action), cases[i].action);
    }
}

static void test_action_words(void **state)
{
    (void)state;
    same_text("INS", lead_action_words(SPAN_LIT("INS")).ptr, "Get it now");
    same_text("create", lead_action_words(SPAN_LIT(" create")).ptr, "Created in Azure portal");
    same("unknown", lead_action_words(SPAN_LIT("INSX")), span_empty());
    same("blank", lead_action_words(span_empty()), span_empty());
}

static void test_description(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        bool is_kept;
        const char *campaign;
    } rows[] = {
        {"", false, ""},
        {" ", false, ""},
        {"Campaigns: ", false, ""},
        {"Campaigns:", false, ""},
        {" campaigns:\r\n", false, ""},
        {"Campaigns: spring", true, ""},
        {"Campaigns", true, ""},
        {" Please call. \r\n", true, ""},
        {"{\"mktcmpid\":\"x\"}", true, "x"},
        {" {\"MKTCMPID\":\" x \"} ", true, "x"},
        {"{\"src\":\"a\",\"mktcmpid\":12}", true, "12"},
        {"{\"mktcmpid\":null,\"MktCmpId\":\"x\",\"mktcmpid\":\"y\"}", true, "x"},
        {"{\"mktcmpid\":{\"mktcmpid\":\"x\"}}", true, ""},
        {"{\"mktcmpid\":[[\"too deep\"]]}", true, ""},
        {"{\"mktcmpid\":\"<b>\\\"\\u0007\"}", true, "<b>\"\x07"},
        {"{\"mktcmpid\":\"x\"", true, ""},
        {"{\"mktcmpid\":\"x\"} trailing", true, ""},
        {"[\"mktcmpid\"]", true, ""},
        {"{}", true, ""},
        {"mktcmpid=x", true, ""},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        f->payload = (struct payload){.description = span_of(rows[i].text)};
        normalize(f, "");
        same(rows[i].text, f->lead.description, span_of(rows[i].is_kept ? rows[i].text : ""));
        same(rows[i].text, f->lead.campaign, span_of(rows[i].campaign));
    }
}

/* The parameters count as in json_read: the object is a value too. */
static void test_description_limit(void **state)
{
    struct fixture *f = *state;
    for (size_t values = 63; values <= 65; values++) {
        buf_reset(&f->body);
        buf_add_text(&f->body, "{\"mktcmpid\":\"x\"");
        for (size_t i = 2; i < values; i++)
            buf_add_text(&f->body, ",\"\":0");
        buf_add_text(&f->body, "}");
        f->payload = (struct payload){.description = buf_span(&f->body)};
        normalize(f, "");
        same("campaign", f->lead.campaign, span_of(values > 64 ? "" : "x"));
        assert_int_equal(f->lead.description.len, f->body.len);
    }
}

static void test_marker_in_any_field(void **state)
{
    struct fixture *f = *state;
    struct payload *p = &f->payload;
    struct span *const fields[] = {&p->customer.first_name, &p->customer.last_name, &p->customer.email,
                                   &p->customer.phone,      &p->customer.country,   &p->customer.company,
                                   &p->customer.title,      &p->lead_source,        &p->action_code,
                                   &p->offer_title,         &p->description,        &p->product_id};
    static const struct {
        const char *text;
        bool is_test;
    } rows[] = {
        {TICKS, true},        {"msft_test", true},    {"x Msft_Test_1 y", true}, {"MSFT_TES", false},
        {"MSFT TEST", false}, {"MSFT-TEST_1", false}, {"test", false},
    };
    for (size_t i = 0; i < COUNT(fields) * COUNT(rows); i++) {
        *p = (struct payload){0};
        *fields[i % COUNT(fields)] = span_of(rows[i / COUNT(fields)].text);
        normalize(f, "");
        same_number(rows[i / COUNT(fields)].text, f->lead.is_test, rows[i / COUNT(fields)].is_test);
    }
}

static void test_withheld_domains(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *email, *domains;
        bool withheld;
    } rows[] = {
        {"a@school.edu", ".edu", true},
        {"A@CS.School.EDU", ".edu", true},
        {"a@school.edu", ".EDU", true},
        {" a@school.edu\n", ".edu", true},
        {"a@school.edu.", ".edu", true},
        {"a@sch\xC3\xB6le.edu", ".edu", true},
        {"a@ school.edu", ".edu", true},
        {"Ana <a@school.edu>", ".edu", true},
        {"a@x.com, a@school.edu", ".edu", true},
        {"a@school.edu;a@x.com", ".edu", true},
        {"a@b@school.edu", ".edu", true},
        {"\"a@x.com\"@school.edu", ".edu", true},
        {"a@school.edu", " x.org , , .edu ", true},
        {"a@example.org", "example.org", true},
        {"a@mail.example.org", "example.org", true},
        {"a@myexample.org", "example.org", false},
        {"a@example.org.uk", "example.org", false},
        {"a@schooledu", ".edu", false},
        {"a@school.edu.au", ".edu", false},
        {"a@edu", ".edu", false},
        {"school.edu", ".edu", false},
        {"school.edu@x.com", ".edu", false},
        {"a@x.com", ".edu", false},
        {"a@", ".edu", false},
        {"@", ".edu", false},
        {"", ".edu", false},
        {"a@school.edu", "", false},
        {"a@school.edu", NULL, false},
        {"a@school.edu", " , ,", false},
        {"a\xEF\xBC\xA0school.edu", ".edu", true}, /* an at-sign of full width */
        {"a@x.com \xEF\xBC\xA0 school.edu", ".edu", true},
        {"a@xn--schle-lua.edu", ".edu", true},
        {"a@xn--schle-lua.org", "xn--schle-lua.org", true},
        {"a\xEF\xBC\xA1school.edu", ".edu", false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        f->payload = (struct payload){.customer.email = span_of(rows[i].email)};
        normalize(f, rows[i].domains);
        same_number(rows[i].email, f->lead.withheld, rows[i].withheld);
        same(rows[i].email, f->lead.customer.email, span_of(rows[i].withheld ? "" : rows[i].email));
    }
}

/* Each address is compared with each domain, and both come in any number: so many addresses are looked at, and more
 * than that could hide one. */
static void test_withheld_addresses(void **state)
{
    struct fixture *f = *state;
    for (size_t count = LIMIT_LEAD_ADDRESSES - 1; count <= LIMIT_LEAD_ADDRESSES + 1; count++) {
        for (int last = 0; last < 2; last++) {
            buf_reset(&f->body);
            for (size_t i = 0; i < count; i++)
                buf_addf(&f->body, "a@x.%s ", last && i + 1 == count ? "edu" : "org");
            assert_int_equal(f->body.error, ST_OK);
            f->payload = (struct payload){.customer.email = buf_span(&f->body)};
            normalize(f, "z.example,.edu");
            same_number("withheld", f->lead.withheld, last || count > LIMIT_LEAD_ADDRESSES);
            normalize(f, " ");
            same_number("no domains", f->lead.withheld, 0);
        }
    }
}

static void test_withheld_lead(void **state)
{
    struct fixture *f = *state;
    const struct lead *l = &f->lead;
    f->payload = (struct payload){.customer = {.first_name = SPAN_LIT("Ana"),
                                               .last_name = SPAN_LIT("Test"),
                                               .email = SPAN_LIT("ana@school.edu"),
                                               .phone = SPAN_LIT("1"),
                                               .country = SPAN_LIT("US"),
                                               .company = SPAN_LIT("School"),
                                               .title = SPAN_LIT("Dr")},
                                  .lead_source = SPAN_LIT("SPZA-DNC|p.o"),
                                  .offer_title = SPAN_LIT("Offer"),
                                  .description = SPAN_LIT("{\"mktcmpid\":\"x\",\"name\":\"Ana\"}"),
                                  .product_id = SPAN_LIT("p.o")};
    normalize(f, ".edu");
    const struct span gone[] = {
        l->customer.first_name, l->customer.last_name, l->customer.email, l->customer.phone,
        l->customer.company,    l->customer.title,     l->description,    l->payload};
    for (size_t i = 0; i < COUNT(gone); i++)
        assert_int_equal(gone[i].len, 0);
    same("country", l->customer.country, SPAN_LIT("US"));
    same("source", l->source, SPAN_LIT("AppSource"));
    same("offer", l->offer_id, SPAN_LIT("o"));
    same("title", l->offer_title, SPAN_LIT("Offer"));
    same("campaign", l->campaign, SPAN_LIT("x"));
    assert_true(l->do_not_contact);
    identify(f);
    same_text("contact", l->contact, RANDOM_CONTACT);
    same_text("content", l->content, RANDOM_CONTENT);
    same_text("partition", l->partition, "p.o");
}

/* An address in another field of the customer counts as much. */
static void test_withheld_for_any_field(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof(struct customer) / sizeof(struct span); i++) {
        struct span fields[sizeof(struct customer) / sizeof(struct span)] = {{0}};
        fields[i] = SPAN_LIT("write to ana@school.edu");
        f->payload = (struct payload){0};
        memcpy(&f->payload.customer, fields, sizeof f->payload.customer);
        normalize(f, ".edu");
        assert_true(f->lead.withheld);
        assert_int_equal(f->lead.customer.country.len, 0);
    }
    f->payload = (struct payload){.description = SPAN_LIT("my student is ana@school.edu")};
    normalize(f, ".edu");
    assert_false(f->lead.withheld);
}

/* Nothing that is kept of a withheld lead, nor its partition, holds an address. */
static void test_withheld_lead_has_no_address(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {"ana@school.edu", "X-INS|ana@school.edu", "ana%40school.edu",
                                        "ana\xEF\xBC\xA0school.edu"};
    for (size_t i = 0; i < COUNT(texts); i++) {
        char description[120];
        (void)snprintf(description, sizeof description, "{\"mktcmpid\":\"%s\"}", texts[i]);
        struct span text = span_of(texts[i]);
        f->payload = (struct payload){.customer = {.email = SPAN_LIT("ana@school.edu"), .country = text},
                                      .lead_source = text,
                                      .action_code = text,
                                      .offer_title = text,
                                      .product_id = text,
                                      .description = span_of(description)};
        normalize(f, ".edu");
        identify(f);
        const struct lead *l = &f->lead;
        const struct span kept[] = {l->customer.country,  l->lead_source, l->action_code, l->offer_title,
                                    l->product_id,        l->description, l->source,      l->action,
                                    l->publisher_id,      l->offer_id,    l->campaign,    l->payload,
                                    span_of(l->partition)};
        for (size_t k = 0; k < COUNT(kept); k++)
            assert_false(span_has_nocase(kept[k], SPAN_LIT("school")));
    }
}

static void test_payload_is_the_body(void **state)
{
    struct fixture *f = *state;
    f->payload = (struct payload){.offer_title = SPAN_LIT("x")};
    normalize(f, ".edu");
    same("payload", f->lead.payload, SPAN_LIT("the body"));
    assert_false(f->lead.withheld);
}

/* --- identify ------------------------------------------------------------------------------------------------ */

static void test_partition(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *publisher, *offer, *title, *want;
    } rows[] = {
        {"contoso", "app", "Title", "contoso.app"},
        {"Contoso", "My-App_1.x", "", "contoso.my-app_1.x"},
        {"", "", "Example Offer", "example-offer"},
        {"", "", " EXAMPLE - - offer ", "example-offer"},
        {"", "", "Offer_2.0", "offer_2.0"},
        {"", "", "unknown", "unknown"},
        {"", "", "", "unknown"},
        {"", "", " \r\n", "unknown"},
        {"", "", "-- -", "offer-6b1a58dd"},
        {"", "", "C", "c"},
        {"", "", "C#", "c-951a4d36"},
        {"", "", "C++", "c-cedb1bac"},
        {"", "", "c++", "c-cedb1bac"},
        {"", "", "A/B\\C#D?E%F", "a-b-c-d-e-f-1780f26f"},
        {"", "", "a\tb", "a-b-894891f8"},
        {"", "", "\xEC\x98\x88\xEC\x8B\x9C", "offer-fc21b1af"},
        {"", "", "\xE6\x97\xA5\xE6\x9C\xAC 365", "365-f923593c"},
        {"", "", "'; DROP TABLE x;--", "drop-table-x-3ed5e0f0"},
        {"", "", "~mail", "mail-f7349111"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        f->lead = (struct lead){.publisher_id = span_of(rows[i].publisher),
                                .offer_id = span_of(rows[i].offer),
                                .offer_title = span_of(rows[i].title)};
        identify(f);
        same_text(rows[i].title, f->lead.partition, rows[i].want);
    }
}

static void check_partition(const struct fixture *f, size_t len)
{
    same_number("length", (long long)strlen(f->lead.partition), (long long)len);
    for (const char *p = f->lead.partition; *p; p++) {
        if (!strchr("abcdefghijklmnopqrstuvwxyz0123456789.-_", *p))
            fail_msg("character 0x%02x in a partition key", (unsigned int)(unsigned char)*p);
    }
}

/* Up to the limit the key is the name; above it is cut and told apart by a hash of eight digits. */
static void check_cut(const struct fixture *f, struct span name)
{
    struct span key = span_of(f->lead.partition);
    if (name.len <= LIMIT_PARTITION_KEY_BYTES) {
        same("key", key, name);
        return;
    }
    check_partition(f, LIMIT_PARTITION_KEY_BYTES);
    size_t kept = LIMIT_PARTITION_KEY_BYTES - 9;
    same("kept", span_cut(key, 0, kept), span_cut(name, 0, kept));
    same("then", span_cut(key, kept, 1), SPAN_LIT("-"));
    assert_int_equal(strspn(f->lead.partition + kept + 1, "0123456789abcdef"), 8);
}

static void test_partition_length(void **state)
{
    struct fixture *f = *state;
    char name[1024], other[1024];
    memset(name, 'o', sizeof name);
    for (size_t len = LIMIT_PARTITION_KEY_BYTES - 1; len <= LIMIT_PARTITION_KEY_BYTES + 1; len++) {
        name[1] = 'o';
        f->lead = (struct lead){.offer_title = {name, len}};
        identify(f);
        check_cut(f, (struct span){name, len});
        name[1] = '.'; /* the same as ids */
        f->lead = (struct lead){.publisher_id = {name, 1}, .offer_id = {name + 2, len - 2}};
        identify(f);
        check_cut(f, (struct span){name, len});
    }
    /* Two that differ only behind the cut. */
    memcpy(other, name, sizeof name);
    other[sizeof other - 1] = 'x';
    f->lead = (struct lead){.offer_title = {name, sizeof name}};
    identify(f);
    struct lead first = f->lead;
    f->lead = (struct lead){.offer_title = {other, sizeof other}};
    identify(f);
    check_partition(f, LIMIT_PARTITION_KEY_BYTES);
    assert_string_not_equal(first.partition, f->lead.partition);
    assert_memory_equal(first.partition, f->lead.partition, 240);
}

/* Whatever one character the title holds, the key holds only what needs no care. */
static void test_partition_characters(void **state)
{
    struct fixture *f = *state;
    struct buf title = BUF_INIT(64);
    for (uint32_t code = 1; code < 0x500; code++) {
        buf_reset(&title);
        buf_add_char(&title, 'x');
        utf8_add(&title, code);
        buf_add_char(&title, 'y');
        f->lead = (struct lead){.offer_title = buf_span(&title)};
        identify(f);
        check_partition(f, strlen(f->lead.partition));
        assert_in_range(strlen(f->lead.partition), 3, 12);
    }
    buf_release(&title);
}

static void contact_of(struct fixture *f, const struct customer *customer, char text[LEAD_HASH_TEXT + 1])
{
    f->lead = (struct lead){.customer = *customer};
    identify(f);
    memcpy(text, f->lead.contact, LEAD_HASH_TEXT + 1);
}

#define MAIL(text)                                                                                           \
    {                                                                                                        \
        .email = SPAN_LIT(text)                                                                              \
    }
#define NAMED(first, last, org, number)                                                                      \
    {                                                                                                        \
        .first_name = SPAN_LIT(first), .last_name = SPAN_LIT(last), .company = SPAN_LIT(org),                \
        .phone = SPAN_LIT(number)                                                                            \
    }

static void test_contact(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name;
        struct customer a, b;
        bool same;
    } rows[] = {
        {"case and blanks of an address", MAIL("ana@example.com"), MAIL(" ANA@Example.com\r\n"), true},
        {"another address", MAIL("ana@example.com"), MAIL("anb@example.com"), false},
        {"only ASCII letters fold", MAIL("\xC3\xA4@x"), MAIL("\xC3\x84@x"), false},
        {"the address alone counts",
         {.email = SPAN_LIT("a@x"), .first_name = SPAN_LIT("Ana")},
         {.email = SPAN_LIT("a@x"), .first_name = SPAN_LIT("Bob"), .phone = SPAN_LIT("1")},
         true},
        {"an address is not a name", MAIL("ana"), NAMED("ana", "", "", ""), false},
        {"case, blanks and writing of a number", NAMED("Ana", "Test", "Org", "+1 (617) 555"),
         NAMED(" ANA", "test ", "ORG", "+1617-555"), true},
        {"the number counts", NAMED("Ana", "Test", "Org", "1"), NAMED("Ana", "Test", "Org", "2"), false},
        {"the plus counts", NAMED("Ana", "Test", "Org", "1"), NAMED("Ana", "Test", "Org", "+1"), false},
        {"the company counts", NAMED("Ana", "Test", "A", ""), NAMED("Ana", "Test", "B", ""), false},
        {"parts do not run together", NAMED("ab", "c", "", ""), NAMED("a", "bc", "", ""), false},
        {"nor into other fields", NAMED("", "x", "", ""), NAMED("", "", "x", ""), false},
        {"nor into the number", NAMED("", "", "x1", ""), NAMED("", "", "x", "1"), false},
        {"labels are no separators", NAMED("last", "", "", ""), NAMED("", "last", "", ""), false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char a[LEAD_HASH_TEXT + 1], b[LEAD_HASH_TEXT + 1];
        contact_of(f, &rows[i].a, a);
        contact_of(f, &rows[i].b, b);
        same_number(rows[i].name, strcmp(a, b) == 0, rows[i].same);
        assert_string_not_equal(a, RANDOM_CONTACT);
        assert_int_equal(strspn(a, "0123456789abcdef"), LEAD_HASH_TEXT);
    }
}

static void test_random_where_nothing_identifies(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name;
        struct customer customer;
        bool contact, content; /* random */
    } rows[] = {
        {"no customer", {.email = {0}}, true, true},
        {"a country", {.country = SPAN_LIT("US")}, true, false},
        {"a title", {.title = SPAN_LIT("CTO")}, true, false},
        {"a number without digits", {.phone = SPAN_LIT("n/a +")}, true, false},
        {"a number", {.phone = SPAN_LIT("1")}, false, false},
        {"a company", {.company = SPAN_LIT("x")}, false, false},
        {"a first name", {.first_name = SPAN_LIT("x")}, false, false},
        {"a last name", {.last_name = SPAN_LIT("x")}, false, false},
        {"an address", {.email = SPAN_LIT("x")}, false, false},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        f->lead = (struct lead){.customer = rows[i].customer};
        identify(f);
        same_number(rows[i].name, strcmp(f->lead.contact, RANDOM_CONTACT) == 0, rows[i].contact);
        same_number(rows[i].name, strcmp(f->lead.content, RANDOM_CONTENT) == 0, rows[i].content);
    }
}

static void test_hashes(void **state)
{
    struct fixture *f = *state;
    f->lead = (struct lead){.customer.email = SPAN_LIT("Ana@Example.com")};
    assert_int_equal(lead_identify(&f->lead, SPAN_LIT("abc"), RANDOM, NULL), ST_OK);
    /* SHA-256 of "abc", FIPS 180-2, appendix B.1; and of email, NUL, the address in lower case, NUL. */
    same_text("content", f->lead.content, "ba7816bf8f01cfea414140de5dae2223");
    same_text("contact", f->lead.contact, "6c65652bc98d72d3146a1480852a5e38");
}

/* A delivery that its sender has named is told by the name: whatever else the hashes would be made of. */
static void test_named_delivery(void **state)
{
    struct fixture *f = *state;
    static const char nobody[] = "{\"OfferTitle\":\"x\"}",
                      ana[] = "{\"UserDetails\":{\"Email\":\"ana@example.com\"}}",
                      ana_again[] = "{ \"UserDetails\":{\"Email\":\"ANA@example.com\"}}";
    const char *contact_of_ana = "6c65652bc98d72d3146a1480852a5e38";
    unsigned char bytes[LEAD_RANDOM_BYTES];
    assert_int_equal(lead_bytes_of_name(SPAN_LIT("marketplace"), SPAN_LIT("msg_1"), bytes, &f->why), ST_OK);
    const struct {
        const char *name, *body, *withhold;
        enum lead_identity identity;
        const char *contact, *content;
    } rows[] = {
        {"by body", ana, "", LEAD_BY_BODY, contact_of_ana, "60355a7fbbbd5f362783b54d1b2ce500"},
        {"by name", ana, "", LEAD_BY_NAME, contact_of_ana, "05171000d03fdaf335790fbc3681646f"},
        {"by name, other bytes", ana_again, "", LEAD_BY_NAME, contact_of_ana,
         "05171000d03fdaf335790fbc3681646f"},
        {"nobody, by name", nobody, "", LEAD_BY_NAME, "e3a505e574ea4233f62f6f8a7cf4b432",
         "05171000d03fdaf335790fbc3681646f"},
        {"withheld, by name", ana, "example.com", LEAD_BY_NAME, "e3a505e574ea4233f62f6f8a7cf4b432",
         "05171000d03fdaf335790fbc3681646f"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_int_equal(lead_understand(span_of(rows[i].body), SPAN_LIT(JSON_TYPE),
                                         span_of(rows[i].withhold), rows[i].identity, bytes, &f->arena,
                                         &f->lead, &f->offset, &f->why),
                         ST_OK);
        same_text(rows[i].name, f->lead.contact, rows[i].contact);
        same_text(rows[i].name, f->lead.content, rows[i].content);
    }
}

/* Other names, also those of other keys, give other bytes; parts do not run together. */
static void test_names_of_deliveries(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *key_name, *name;
    } rows[] = {{"a", "bc"}, {"ab", "c"}, {"abc", ""}, {"", "abc"}, {"a", "bd"}, {"A", "bc"}};
    unsigned char bytes[COUNT(rows)][LEAD_RANDOM_BYTES], again[LEAD_RANDOM_BYTES];
    for (size_t i = 0; i < COUNT(rows); i++) {
        assert_int_equal(
            lead_bytes_of_name(span_of(rows[i].key_name), span_of(rows[i].name), bytes[i], &f->why), ST_OK);
        assert_int_equal(lead_bytes_of_name(span_of(rows[i].key_name), span_of(rows[i].name), again, &f->why),
                         ST_OK);
        assert_memory_equal(bytes[i], again, sizeof again);
        for (size_t k = 0; k < i; k++)
            assert_memory_not_equal(bytes[i], bytes[k], sizeof again);
    }
    /* The longest there can be. */
    static char longest[LIMIT_WEBHOOK_ID_BYTES];
    memset(longest, 'x', sizeof longest);
    assert_int_equal(lead_bytes_of_name((struct span){longest, LIMIT_KEY_NAME_BYTES},
                                        (struct span){longest, sizeof longest}, again, &f->why),
                     ST_OK);
}

/* No body is a lead and the text of a name at once: so a key's holder cannot take the place of another's delivery. */
static void test_no_body_is_a_name(void **state)
{
    struct fixture *f = *state;
    unsigned char bytes[LEAD_RANDOM_BYTES] = {0};
    assert_int_equal(lead_understand(SPAN_LIT("delivery\0a\0&email=a@x&\0"), SPAN_LIT(FORM_TYPE),
                                     span_empty(), LEAD_BY_BODY, bytes, &f->arena, &f->lead, &f->offset,
                                     &f->why),
                     ST_INVALID);
}

/* Each may have as many values as a lead: so many are read, with the memory that there is for a request. */
static void test_many_customers(void **state)
{
    struct fixture *f = *state;
    for (size_t count = LIMIT_LEAD_CUSTOMERS - 1; count <= LIMIT_LEAD_CUSTOMERS + 1; count++) {
        buf_reset(&f->body);
        buf_add_text(&f->body, "{\"LeadSource\":\"x\"");
        for (size_t i = 0; i < count; i++) {
            bool is_last = i + 1 == count;
            buf_add_text(&f->body, ",\"UserDetails\":\"{");
            for (size_t values = 0; values < LIMIT_JSON_VALUES - 2; values++)
                buf_add_text(&f->body, "\\\"\\\":1,");
            buf_addf(&f->body, "\\\"%s\\\":\\\"a\\\"}\"", is_last ? "Email" : "Other");
        }
        buf_add_text(&f->body, "}");
        assert_int_equal(read_built(f, JSON_TYPE), ST_OK);
        same("the last one", f->payload.customer.email,
             count <= LIMIT_LEAD_CUSTOMERS ? SPAN_LIT("a") : span_empty());
        assert_true(f->arena.used < LIMIT_REQUEST_ARENA / 2);
    }
    buf_reset(&f->body); /* objects are part of the lead: any number of them */
    buf_add_text(&f->body, "{\"LeadSource\":\"x\"");
    for (size_t i = 0; i < 10; i++)
        buf_addf(&f->body, ",\"UserDetails\":{\"%s\":\"a\"}", i == 9 ? "Email" : "Other");
    buf_add_text(&f->body, "}");
    assert_int_equal(read_built(f, JSON_TYPE), ST_OK);
    same("objects", f->payload.customer.email, SPAN_LIT("a"));
}

/* --- CustomerInfo -------------------------------------------------------------------------------------------- */

static void test_customer_info(void **state)
{
    (void)state;
    struct buf out = BUF_INIT(1024), small = BUF_INIT(20);
    const struct customer customer = {
        .first_name = SPAN_LIT("A\"\n"), .email = SPAN_LIT("\xC3\xA9@x"), .title = SPAN_LIT("T")};
    assert_int_equal(lead_customer_info(&out, &customer, NULL), ST_OK);
    same("info", buf_span(&out),
         SPAN_LIT("{\"FirstName\":\"A\\\"\\n\",\"LastName\":\"\",\"Email\":\"\xC3\xA9@x\",\"Phone\":\"\","
                  "\"Country\":\"\",\"Company\":\"\",\"Title\":\"T\"}"));
    assert_int_equal(lead_customer_info(&small, &customer, NULL), ST_TOO_LARGE);
    buf_release(&out);
    buf_release(&small);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_kind_of_body),
        TEST(test_failure_writes_nothing),
        TEST(test_json_values),
        TEST(test_json_customer),
        TEST(test_json_fault_counts_from_the_body),
        TEST(test_json_limits),
        TEST(test_form_values),
        TEST(test_form_names),
        TEST(test_form_malformed),
        TEST(test_form_limit),
        TEST(test_large_bodies),
        TEST(test_long_name),
        TEST(test_no_memory),
        TEST(test_lead_source),
        TEST(test_offer_ids),
        TEST(test_action),
        TEST(test_labels),
        TEST(test_action_words),
        TEST(test_description),
        TEST(test_description_limit),
        TEST(test_marker_in_any_field),
        TEST(test_withheld_domains),
        TEST(test_withheld_addresses),
        TEST(test_many_customers),
        TEST(test_withheld_lead),
        TEST(test_withheld_for_any_field),
        TEST(test_withheld_lead_has_no_address),
        TEST(test_payload_is_the_body),
        TEST(test_partition),
        TEST(test_partition_length),
        TEST(test_partition_characters),
        TEST(test_contact),
        TEST(test_random_where_nothing_identifies),
        TEST(test_hashes),
        TEST(test_named_delivery),
        TEST(test_names_of_deliveries),
        TEST(test_no_body_is_a_name),
        TEST(test_customer_info),
    };
    return cmocka_run_group_tests_name("lead", tests, NULL, NULL);
}
