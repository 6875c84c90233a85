/* From bytes to named values.
 *
 * The sender documents neither Content-Type nor the case of its names: the
 * published samples disagree on both.  So names match without regard to ASCII
 * case, and what the bytes look like counts more than what the header says.
 * Where a name comes twice the first value that is not blank wins.
 */
#include "lib/lead/lead.h"

/* L0 */
#include "lib/base/encode.h"
#include "lib/base/json_read.h"
#include "lib/base/text.h"

/* Where a named value goes, and what it is called in each of the two forms (NULL: nowhere). */
struct field {
    size_t offset;
    const char *json;
    const char *form; /* Salesforce Web-to-Lead */
};

#define AT(member) offsetof(struct payload, member)

static const struct field CUSTOMER_FIELDS[] = {
    {AT(customer.first_name), "FirstName", "first_name"},
    {AT(customer.last_name), "LastName", "last_name"},
    {AT(customer.email), "Email", "email"},
    {AT(customer.phone), "Phone", "phone"},
    {AT(customer.country), "Country", "country"},
    {AT(customer.company), "Company", "company"},
    {AT(customer.title), "Title", "title"},
};
static const struct field LEAD_FIELDS[] = {
    {AT(lead_source), "LeadSource", "lead_source"}, {AT(action_code), "ActionCode", "action_code"},
    {AT(offer_title), "OfferTitle", "offer_title"}, {AT(description), "Description", "description"},
    {AT(product_id), "ProductId", "product_id"},
};
enum {
    CUSTOMER_COUNT = sizeof CUSTOMER_FIELDS / sizeof CUSTOMER_FIELDS[0],
    LEAD_COUNT = sizeof LEAD_FIELDS / sizeof LEAD_FIELDS[0]
};

static struct span *value_of(struct payload *payload, const struct field *field)
{
    return (struct span *)(void *)((char *)payload + field->offset);
}

static bool is_blank(struct span s)
{
    return span_trim(s).len == 0;
}

/* Gives the value to the field unless it has one.  Blank values of any length count as absent. */
static void offer_value(struct payload *payload, const struct field *field, struct span value)
{
    struct span *place = value_of(payload, field);
    if (place->len == 0 && !is_blank(value))
        *place = value;
}

static bool has_any_value(struct payload *payload)
{
    for (size_t i = 0; i < CUSTOMER_COUNT; i++) {
        if (value_of(payload, &CUSTOMER_FIELDS[i])->len)
            return true;
    }
    for (size_t i = 0; i < LEAD_COUNT; i++) {
        if (value_of(payload, &LEAD_FIELDS[i])->len)
            return true;
    }
    return false;
}

static enum status found_nothing(struct fail *why)
{
    return fail_set(why, ST_NOT_FOUND, 0, "no field of a lead has a value");
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

static void take_members(struct payload *payload, const struct field *fields, size_t count,
                         const struct json *object)
{
    for (const struct json *m = object->first; m; m = m->next) {
        for (size_t i = 0; i < count; i++) {
            if (span_eq_nocase(m->name, span_of(fields[i].json)))
                offer_value(payload, &fields[i], text_of(m));
        }
    }
}

/* UserDetails is an object; some senders put that object into a string. */
static void take_customer(struct payload *payload, const struct json *details, struct arena *arena)
{
    if (details->kind == JSON_STRING) {
        const struct json *inner;
        if (json_read(span_trim(details->text), &LEAD_JSON, arena, &inner, NULL, NULL) != ST_OK)
            return; /* a text of another kind: it stays in the raw body */
        details = inner;
    }
    if (details->kind == JSON_OBJECT)
        take_members(payload, CUSTOMER_FIELDS, CUSTOMER_COUNT, details);
}

static enum status read_json(struct span body, size_t skipped, struct arena *arena, struct payload *payload,
                             size_t *offset, struct fail *why)
{
    const struct json *top;
    size_t at = 0;
    enum status status = json_read(body, &LEAD_JSON, arena, &top, &at, why);
    if (status != ST_OK) {
        *offset = at + skipped;
        return status;
    }
    for (const struct json *m = top->first; m; m = m->next) {
        if (span_eq_nocase(m->name, SPAN_LIT("UserDetails")) ||
            span_eq_nocase(m->name, SPAN_LIT("CustomerInfo")))
            take_customer(payload, m, arena);
    }
    take_members(payload, LEAD_FIELDS, LEAD_COUNT, top);
    return has_any_value(payload) ? ST_OK : found_nothing(why);
}

/* --- form post ----------------------------------------------------------------------------------------------- */

static const struct field *form_field(struct span name)
{
    for (size_t i = 0; i < CUSTOMER_COUNT; i++) {
        if (span_eq_nocase(name, span_of(CUSTOMER_FIELDS[i].form)))
            return &CUSTOMER_FIELDS[i];
    }
    for (size_t i = 0; i < LEAD_COUNT; i++) {
        if (span_eq_nocase(name, span_of(LEAD_FIELDS[i].form)))
            return &LEAD_FIELDS[i];
    }
    return NULL;
}

/* Decoded into the arena; ST_INVALID for what is not UTF-8 or holds U+0000 after decoding. */
static enum status decode(struct span raw, struct arena *arena, struct span *text, struct fail *why)
{
    struct buf decoded = BUF_INIT(LIMIT_BODY_BYTES);
    enum status status = ST_OK;
    percent_decode(&decoded, raw, PLUS_IS_SPACE);
    if (decoded.error == ST_OK &&
        (!utf8_is_valid(buf_span(&decoded), NULL) || span_find(buf_span(&decoded), '\0') != SPAN_NONE))
        status = fail_set(why, ST_INVALID, 0, "invalid form: a value is not UTF-8 or holds U+0000");
    else if (decoded.error != ST_OK || !arena_copy(arena, buf_span(&decoded), text))
        status = fail_set(why, ST_NOMEM, 0, "no memory for a form");
    buf_release(&decoded);
    return status;
}

static enum status read_form(struct span body, struct arena *arena, struct payload *payload, size_t *offset,
                             struct fail *why)
{
    struct span rest = body, pair;
    size_t count = 0;
    while (span_next(&rest, '&', &pair)) {
        *offset = (size_t)(pair.ptr - body.ptr);
        if (++count > LIMIT_FORM_FIELDS)
            return fail_set(why, ST_TOO_LARGE, 0, "invalid form: more than %u fields", LIMIT_FORM_FIELDS);
        size_t equals = span_find(pair, '=');
        if (equals == SPAN_NONE)
            continue;
        struct span name, value;
        enum status status = decode(span_cut(pair, 0, equals), arena, &name, why);
        if (status == ST_OK)
            status = decode(span_from(pair, equals + 1), arena, &value, why);
        if (status != ST_OK)
            return status;
        const struct field *field = form_field(name);
        if (field)
            offer_value(payload, field, value);
    }
    *offset = 0;
    return has_any_value(payload) ? ST_OK : found_nothing(why);
}

/* Whether a body of an unknown type is name=value pairs with a name of ours. */
static bool looks_like_form(struct span body)
{
    struct span rest = body, pair;
    for (size_t count = 0; count < LIMIT_FORM_FIELDS && span_next(&rest, '&', &pair); count++) {
        size_t equals = span_find(pair, '=');
        if (equals != SPAN_NONE && form_field(span_cut(pair, 0, equals)))
            return true;
    }
    return false;
}

/* --- either -------------------------------------------------------------------------------------------------- */

enum status lead_read(struct span body, struct span content_type, struct arena *arena,
                      struct payload *payload, size_t *offset, struct fail *why)
{
    struct payload result = {0};
    enum status status;
    size_t skipped = span_starts(body, SPAN_LIT("\xEF\xBB\xBF")) ? 3 : 0;
    struct span text = span_from(body, skipped);
    struct span begin = span_trim(text);
    *offset = 0;
    if (begin.len == 0)
        return fail_set(why, ST_INVALID, 0, "empty body");
    if (begin.ptr[0] == '{' || begin.ptr[0] == '[' || span_has_nocase(content_type, SPAN_LIT("json")))
        status = read_json(text, skipped, arena, &result, offset, why);
    else if ((span_has_nocase(content_type, SPAN_LIT("x-www-form-urlencoded")) &&
              span_find(begin, '=') != SPAN_NONE) ||
             looks_like_form(begin))
        status = read_form(begin, arena, &result, offset, why);
    else
        return fail_set(why, ST_REFUSED, 0, "the body is neither JSON nor a form");
    if (status == ST_OK)
        *payload = result;
    return status;
}
