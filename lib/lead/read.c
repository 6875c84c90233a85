/* From bytes to named values.
 *
 * The sender documents neither Content-Type nor the case of its names: the
 * published samples disagree on both.  So names match without regard to ASCII
 * case, and what the bytes look like counts more than what the header says.
 * Where a name comes twice the first value that is not blank wins.
 */
#include "lib/lead/lead.h"

/* System */
#include <string.h>

/* L0 */
#include "lib/base/encode.h"
#include "lib/base/json_read.h"
#include "lib/base/text.h"

/* In JSON the customer is an object of its own; a form is flat. */
enum place { IN_LEAD, IN_CUSTOMER };

struct field {
    size_t offset; /* in struct payload */
    enum place place;
    const char *json;
    const char *form; /* Salesforce Web-to-Lead */
};

#define AT(member) offsetof(struct payload, member)

/* OfferDisplayName and ProductId, like CustomerInfo below, are columns of Microsoft's own table writer: a row
 * of that table posted here is a lead too. */
static const struct field FIELDS[] = {
    {AT(customer.first_name), IN_CUSTOMER, "FirstName", "first_name"},
    {AT(customer.last_name), IN_CUSTOMER, "LastName", "last_name"},
    {AT(customer.email), IN_CUSTOMER, "Email", "email"},
    {AT(customer.phone), IN_CUSTOMER, "Phone", "phone"},
    {AT(customer.country), IN_CUSTOMER, "Country", "country"},
    {AT(customer.company), IN_CUSTOMER, "Company", "company"},
    {AT(customer.title), IN_CUSTOMER, "Title", "title"},
    {AT(lead_source), IN_LEAD, "LeadSource", "lead_source"},
    {AT(action_code), IN_LEAD, "ActionCode", "action_code"},
    {AT(offer_title), IN_LEAD, "OfferTitle", "offer_title"},
    {AT(offer_title), IN_LEAD, "OfferDisplayName", "offer_title"},
    {AT(description), IN_LEAD, "Description", "description"},
    {AT(product_id), IN_LEAD, "ProductId", "product_id"},
};
enum { FIELD_COUNT = sizeof FIELDS / sizeof FIELDS[0] };

static struct span *value_of(struct payload *payload, const struct field *field)
{
    return (struct span *)(void *)((char *)payload + field->offset);
}

/* Gives the value to the field unless it has one.  A value of nothing but white space counts as absent. */
static void offer_value(struct payload *payload, const struct field *field, struct span value)
{
    struct span *place = value_of(payload, field);
    if (place->len == 0 && span_trim(value).len)
        *place = value;
}

static bool has_any_value(struct payload *payload)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (value_of(payload, &FIELDS[i])->len)
            return true;
    }
    return false;
}

/* --- JSON ---------------------------------------------------------------------------------------------------- */

static const struct json_limits LEAD_JSON = {.depth = LIMIT_JSON_DEPTH, .values = LIMIT_JSON_VALUES};

/* Scalars of other types become their text; what has members is not a text and stays in the raw body. */
static struct span text_of(const struct json *value)
{
    switch (value->kind) {
    case JSON_STRING:
    case JSON_NUMBER:
        return value->text;
    case JSON_TRUE:
        return SPAN_LIT("true");
    case JSON_FALSE:
        return SPAN_LIT("false");
    case JSON_NULL:
    case JSON_OBJECT:
    case JSON_ARRAY:
        break;
    }
    return (struct span){0};
}

static void take_members(struct payload *payload, enum place place, const struct json *object)
{
    for (const struct json *m = object->first; m; m = m->next) {
        for (size_t i = 0; i < FIELD_COUNT; i++) {
            if (FIELDS[i].place == place && span_eq_nocase(m->name, span_of(FIELDS[i].json)))
                offer_value(payload, &FIELDS[i], text_of(m));
        }
    }
}

/* The customer is an object, or a string that holds one (as in the column CustomerInfo). */
static enum status take_customer(struct payload *payload, const struct json *details, struct arena *arena,
                                 struct fail *why)
{
    if (details->kind == JSON_STRING) {
        const struct json *inner;
        enum status status = json_read(details->text, &LEAD_JSON, arena, &inner, NULL, NULL);
        if (status == ST_NOMEM)
            return fail_set(why, ST_NOMEM, 0, "no memory for a customer");
        if (status != ST_OK)
            return ST_OK; /* some other text: it stays in the raw body */
        details = inner;
    }
    if (details->kind == JSON_OBJECT)
        take_members(payload, IN_CUSTOMER, details);
    return ST_OK;
}

static enum status read_json(struct span text, struct arena *arena, struct payload *payload, size_t *offset,
                             struct fail *why)
{
    const struct json *top;
    enum status status = json_read(text, &LEAD_JSON, arena, &top, offset, why);
    if (status != ST_OK)
        return status;
    take_members(payload, IN_LEAD, top);
    size_t texts = 0; /* what is more than they may be stays in the raw body */
    for (const struct json *m = top->first; m && status == ST_OK; m = m->next) {
        bool is_customer = span_eq_nocase(m->name, SPAN_LIT("UserDetails")) ||
                           span_eq_nocase(m->name, SPAN_LIT("CustomerInfo"));
        if (is_customer && (m->kind != JSON_STRING || texts++ < LIMIT_LEAD_CUSTOMERS))
            status = take_customer(payload, m, arena, why);
    }
    return status;
}

/* --- form post ----------------------------------------------------------------------------------------------- */

static const struct field *form_field(struct span name)
{
    for (size_t i = 0; i < FIELD_COUNT; i++) {
        if (span_eq_nocase(name, span_of(FIELDS[i].form)))
            return &FIELDS[i];
    }
    return NULL;
}

/* "name=value", still encoded; without '=' all of it is the name. */
static void split_pair(struct span pair, struct span *name, struct span *value)
{
    size_t equals = span_find(pair, '=');
    *name = span_cut(pair, 0, equals);
    *value = equals == SPAN_NONE ? span_empty() : span_from(pair, equals + 1);
}

/* Decodes into the arena.  ST_INVALID for what is then not UTF-8 or holds U+0000; ST_NOMEM. */
static enum status decode(struct span raw, struct arena *arena, struct span *text, struct fail *why)
{
    struct buf decoded = BUF_INIT(raw.len); /* decoding never makes a text longer */
    enum status status = ST_OK;
    percent_decode(&decoded, raw, PLUS_IS_SPACE);
    if (decoded.error != ST_OK || !arena_copy(arena, buf_span(&decoded), text))
        status = fail_set(why, ST_NOMEM, 0, "no memory for a form");
    else if (!utf8_is_valid(*text, NULL))
        status = fail_set(why, ST_INVALID, 0, "invalid form: not UTF-8");
    else if (span_find(*text, '\0') != SPAN_NONE)
        status = fail_set(why, ST_INVALID, 0, "invalid form: U+0000 in a field");
    buf_release(&decoded);
    return status;
}

static enum status read_form(struct span text, struct arena *arena, struct payload *payload, size_t *offset,
                             struct fail *why)
{
    struct span rest = span_trim(text), pair;
    for (size_t count = 0; span_next(&rest, '&', &pair); count++) {
        struct span name, value;
        *offset = (size_t)(pair.ptr - text.ptr);
        if (count == LIMIT_FORM_FIELDS)
            return fail_set(why, ST_TOO_LARGE, 0, "invalid form: more than %u fields", LIMIT_FORM_FIELDS);
        split_pair(pair, &name, &value);
        enum status status = decode(name, arena, &name, why);
        if (status == ST_OK)
            status = decode(value, arena, &value, why);
        if (status != ST_OK)
            return status;
        const struct field *field = form_field(name);
        if (field)
            offer_value(payload, field, value);
    }
    return ST_OK;
}

/* Whether the body is pairs with a name of ours among them.  Those names need no encoding. */
static bool looks_like_form(struct span text)
{
    struct span rest = text, pair, name, value;
    for (size_t count = 0; count < LIMIT_FORM_FIELDS && span_next(&rest, '&', &pair); count++) {
        split_pair(pair, &name, &value);
        if (value.ptr && form_field(name))
            return true;
    }
    return false;
}

/* --- either -------------------------------------------------------------------------------------------------- */

/* The body, blanks in place of a byte order mark (it is not JSON): so offsets still count from its start. */
static enum status without_mark(struct span body, struct arena *arena, struct span *text, struct fail *why)
{
    struct span mark = SPAN_LIT("\xEF\xBB\xBF");
    *text = body;
    if (!span_starts(body, mark))
        return ST_OK;
    char *copy = arena_alloc(arena, body.len);
    if (!copy)
        return fail_set(why, ST_NOMEM, 0, "no memory for the body");
    memset(copy, ' ', mark.len);
    memcpy(copy + mark.len, body.ptr + mark.len, body.len - mark.len);
    *text = (struct span){copy, body.len};
    return ST_OK;
}

enum status lead_read(struct span body, struct span content_type, struct arena *arena,
                      struct payload *payload, size_t *offset, struct fail *why)
{
    struct payload result = {0};
    struct span text;
    *offset = 0;
    enum status status = without_mark(body, arena, &text, why);
    if (status != ST_OK)
        return status;
    struct span content = span_trim(text);
    if (content.len == 0)
        return fail_set(why, ST_INVALID, 0, "empty body");
    bool is_json = memchr("{[\"", content.ptr[0], 3);
    bool is_form = !is_json && (looks_like_form(content) ||
                                (span_has_nocase(content_type, SPAN_LIT("x-www-form-urlencoded")) &&
                                 span_find(content, '=') != SPAN_NONE));
    if (is_form)
        status = read_form(text, arena, &result, offset, why);
    else if (is_json || span_has_nocase(content_type, SPAN_LIT("json")))
        status = read_json(text, arena, &result, offset, why);
    else
        status = fail_set(why, ST_REFUSED, 0, "the body is neither JSON nor a form");
    if (status != ST_OK)
        return status;
    *offset = 0;
    if (!has_any_value(&result))
        return fail_set(why, ST_NOT_FOUND, 0, "no field of a lead has a value");
    *payload = result;
    return ST_OK;
}
