/* Form posts: read, and the same values as JSON and as a form of our own give the same lead. */
#include "tests/fuzz/fuzz.h"

#include "lib/base/encode.h"
#include "lib/base/json_write.h"
#include "lib/base/text.h"
#include "lib/lead/lead.h"

CHECKS_BEGIN

#define FORM SPAN_LIT("application/x-www-form-urlencoded")

static const struct {
    size_t offset; /* in struct payload */
    const char *form;
    const char *json; /* of the lead, or ... */
    const char *customer;
} FIELDS[] = {
    {offsetof(struct payload, customer.first_name), "first_name", NULL, "FirstName"},
    {offsetof(struct payload, customer.last_name), "last_name", NULL, "LastName"},
    {offsetof(struct payload, customer.email), "email", NULL, "Email"},
    {offsetof(struct payload, customer.phone), "phone", NULL, "Phone"},
    {offsetof(struct payload, customer.country), "country", NULL, "Country"},
    {offsetof(struct payload, customer.company), "company", NULL, "Company"},
    {offsetof(struct payload, customer.title), "title", NULL, "Title"},
    {offsetof(struct payload, lead_source), "lead_source", "LeadSource", NULL},
    {offsetof(struct payload, action_code), "action_code", "ActionCode", NULL},
    {offsetof(struct payload, offer_title), "offer_title", "OfferTitle", NULL},
    {offsetof(struct payload, description), "description", "Description", NULL},
    {offsetof(struct payload, product_id), "product_id", "ProductId", NULL},
};

static struct arena arena = {.limit = LIMIT_REQUEST_ARENA};
static struct buf text = BUF_INIT(LIMIT_BODY_BYTES * 6), decoded = BUF_INIT(LIMIT_BODY_BYTES);

static struct span value_of(const struct payload *payload, size_t field)
{
    return *(const struct span *)(const void *)((const char *)payload + FIELDS[field].offset);
}

static bool is_same(const struct payload *a, const struct payload *b)
{
    for (size_t i = 0; i < COUNT(FIELDS); i++) {
        if (!span_eq(value_of(a, i), value_of(b, i)))
            return false;
    }
    return true;
}

static void write_json(const struct payload *payload)
{
    struct json_writer w;
    json_begin(&w, &text);
    for (size_t i = 0; i < COUNT(FIELDS); i++) {
        if (FIELDS[i].json)
            json_add_text(&w, span_of(FIELDS[i].json), value_of(payload, i));
    }
    json_open(&w, SPAN_LIT("UserDetails"));
    for (size_t i = 0; i < COUNT(FIELDS); i++) {
        if (FIELDS[i].customer)
            json_add_text(&w, span_of(FIELDS[i].customer), value_of(payload, i));
    }
    json_close(&w);
    CHECK(json_end(&w, "a body", NULL) == ST_OK);
}

static void write_form(const struct payload *payload)
{
    for (size_t i = 0; i < COUNT(FIELDS); i++) {
        buf_addf(&text, "%s%s=", i ? "&" : "", FIELDS[i].form);
        percent_add(&text, value_of(payload, i));
    }
}

/* The first value of the field that is not blank, found again from the specification. */
static struct span find(struct span body, const char *name)
{
    struct span rest = span_trim(body), pair;
    while (span_next(&rest, '&', &pair)) {
        size_t equals = span_find(pair, '=');
        buf_reset(&decoded);
        percent_decode(&decoded, span_cut(pair, 0, equals), PLUS_IS_SPACE);
        if (!span_eq_nocase(buf_span(&decoded), span_of(name)) || equals == SPAN_NONE)
            continue;
        buf_reset(&decoded);
        for (size_t i = equals + 1; i < pair.len; i++) {
            char digits[3] = {i + 1 < pair.len ? pair.ptr[i + 1] : '\0',
                              i + 2 < pair.len ? pair.ptr[i + 2] : '\0', '\0'};
            bool is_code = pair.ptr[i] == '%' && strspn(digits, "0123456789abcdefABCDEF") == 2;
            buf_add_char(&decoded, is_code              ? (char)strtoul(digits, NULL, 16)
                                   : pair.ptr[i] == '+' ? ' '
                                                        : pair.ptr[i]);
            i += is_code ? 2 : 0;
        }
        if (span_trim(buf_span(&decoded)).len)
            return buf_span(&decoded);
    }
    return (struct span){0};
}

static void check_lead(struct span body, const struct payload *payload, const struct payload *other)
{
    struct lead a, b;
    struct fail why;
    CHECK(lead_normalize(payload, body, SPAN_LIT(".edu"), &arena, &a, &why) == ST_OK);
    CHECK(lead_normalize(other, body, SPAN_LIT(".edu"), &arena, &b, &why) == ST_OK);
    CHECK(span_eq(a.source, b.source) && span_eq(a.action, b.action) && span_eq(a.offer_id, b.offer_id) &&
          span_eq(a.publisher_id, b.publisher_id) && span_eq(a.campaign, b.campaign) &&
          a.is_test == b.is_test && a.do_not_contact == b.do_not_contact && a.withheld == b.withheld);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span body = {(const char *)data, size};
    struct payload payload, other;
    size_t offset = SPAN_NONE, none;
    struct fail why;
    arena_reset(&arena);
    enum status status = lead_read(body, FORM, &arena, &payload, &offset, &why);
    CHECK(arena.used <= arena.limit && offset <= size);
    CHECK(status == ST_OK || status == ST_INVALID || status == ST_TOO_LARGE || status == ST_REFUSED ||
          status == ST_NOT_FOUND);
    if (status != ST_OK) {
        fuzz_check_fail(&why, status);
        CHECK(offset == 0 || status == ST_INVALID || status == ST_TOO_LARGE);
        return 0;
    }
    CHECK(offset == 0);
    struct span content = span_trim(body);
    if (content.ptr[0] == '{' || span_starts(body, SPAN_LIT("\xEF\xBB\xBF")))
        return 0; /* JSON, which has a target of its own */
    for (size_t i = 0; i < COUNT(FIELDS); i++) {
        struct span value = value_of(&payload, i);
        CHECK(utf8_is_valid(value, NULL) && span_find(value, '\0') == SPAN_NONE);
        CHECK(span_eq(value, find(body, FIELDS[i].form)));
    }
    buf_reset(&text);
    write_json(&payload);
    CHECK(lead_read(buf_span(&text), FORM, &arena, &other, &none, &why) == ST_OK);
    CHECK(is_same(&payload, &other));
    check_lead(body, &payload, &other);
    buf_reset(&text);
    write_form(&payload);
    CHECK(lead_read(buf_span(&text), span_empty(), &arena, &other, &none, &why) == ST_OK);
    CHECK(is_same(&payload, &other));
    return 0;
}

CHECKS_END
