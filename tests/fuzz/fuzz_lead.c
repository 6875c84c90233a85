/* From values to a lead, its keys and its row: LeadSource and all the rest.
 *
 * Whatever the values are, the lead gets keys that the store takes, the same ones
 * each time, and comes back from its row, and from a row of the spool, as it was.
 */
#include "tests/fuzz/fuzz.h"

#include "lib/base/json_read.h"
#include "lib/base/text.h"
#include "lib/lead/lead.h"
#include "lib/store/rows.h"

CHECKS_BEGIN

enum { BODY_BYTES = 100000 }; /* of a payload that needs several columns */

static struct arena arena = {.limit = LIMIT_REQUEST_ARENA};
static struct buf json = BUF_INIT(LIMIT_ENTITY_JSON_BYTES);

static const unsigned char RANDOM[LEAD_RANDOM_BYTES] = {1, 2, 3};
#define RANDOM_CONTACT "01020300000000000000000000000000"
#define RANDOM_CONTENT "00000000000000000000000000000000"

static bool is_hash(const char *text)
{
    return strspn(text, "0123456789abcdef") == LEAD_HASH_TEXT && text[LEAD_HASH_TEXT] == '\0';
}

static bool is_same_customer(const struct customer *a, const struct customer *b)
{
    return span_eq(a->first_name, b->first_name) && span_eq(a->last_name, b->last_name) &&
           span_eq(a->email, b->email) && span_eq(a->phone, b->phone) && span_eq(a->country, b->country) &&
           span_eq(a->company, b->company) && span_eq(a->title, b->title);
}

static bool is_same(const struct lead *a, const struct lead *b)
{
    return is_same_customer(&a->customer, &b->customer) && span_eq(a->lead_source, b->lead_source) &&
           span_eq(a->action_code, b->action_code) && span_eq(a->offer_title, b->offer_title) &&
           span_eq(a->description, b->description) && span_eq(a->product_id, b->product_id) &&
           span_eq(a->source, b->source) && span_eq(a->action, b->action) &&
           span_eq(a->publisher_id, b->publisher_id) && span_eq(a->offer_id, b->offer_id) &&
           span_eq(a->campaign, b->campaign) && a->is_test == b->is_test &&
           a->do_not_contact == b->do_not_contact && a->withheld == b->withheld &&
           strcmp(a->partition, b->partition) == 0 && strcmp(a->contact, b->contact) == 0 &&
           strcmp(a->content, b->content) == 0;
}

/* Of a lead that is withheld: no text that may hold an address, whichever at-sign it has. */
static bool is_kept_or_left_out(struct span kept, struct span given)
{
    bool has_at = span_find(given, '@') != SPAN_NONE || span_has_nocase(given, SPAN_LIT("\uFF20")) ||
                  span_has_nocase(given, SPAN_LIT("%40"));
    return has_at ? kept.len == 0 : span_eq(kept, given);
}

static void check_lead(const struct payload *p, const struct lead *lead, struct span body)
{
    const struct span trimmed[] = {lead->source, lead->action, lead->publisher_id, lead->offer_id,
                                   lead->campaign};
    for (size_t i = 0; i < COUNT(trimmed); i++)
        CHECK(span_eq(trimmed[i], span_trim(trimmed[i])));
    CHECK(lead->do_not_contact == span_eq(lead->action, SPAN_LIT("DNC")));
    CHECK((lead->publisher_id.len > 0) == (lead->offer_id.len > 0));
    CHECK(span_find(lead->publisher_id, '.') == SPAN_NONE);
    CHECK(is_hash(lead->contact) && is_hash(lead->content) && lead->partition[0]);
    if (lead->withheld) {
        const struct customer nobody = {.country = lead->customer.country};
        CHECK(is_same_customer(&lead->customer, &nobody) && lead->description.len == 0 &&
              lead->payload.len == 0);
        CHECK(is_kept_or_left_out(lead->customer.country, p->customer.country));
        CHECK(is_kept_or_left_out(lead->lead_source, p->lead_source));
        CHECK(strcmp(lead->contact, RANDOM_CONTACT) == 0 && strcmp(lead->content, RANDOM_CONTENT) == 0);
    } else {
        CHECK(is_same_customer(&lead->customer, &p->customer) && span_eq(lead->payload, body));
        CHECK(span_eq(lead->lead_source, p->lead_source));
        CHECK(!span_ends_nocase(p->customer.email, SPAN_LIT("@example.edu")));
    }
    /* Two ids are the key of the partition, if they fit; the case of their letters tells no two apart. */
    struct span key = span_of(lead->partition);
    if (lead->publisher_id.len &&
        lead->publisher_id.len + 1 + lead->offer_id.len <= LIMIT_PARTITION_KEY_BYTES) {
        CHECK(key.len == lead->publisher_id.len + 1 + lead->offer_id.len);
        CHECK(span_starts_nocase(key, lead->publisher_id) && span_ends_nocase(key, lead->offer_id));
    }
    for (size_t i = 0; i < key.len; i++)
        CHECK(strchr("abcdefghijklmnopqrstuvwxyz0123456789.-_", key.ptr[i]));
}

/* People write their address in capitals or not. */
static void check_same_person(struct payload p, const struct lead *lead, struct span body)
{
    struct lead other;
    char *upper = arena_alloc(&arena, p.customer.email.len + 1);
    CHECK(upper);
    for (size_t i = 0; i < p.customer.email.len; i++) {
        char c = p.customer.email.ptr[i];
        upper[i] = c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    }
    p.customer.email.ptr = upper;
    CHECK(lead_normalize(&p, body, SPAN_LIT("example.edu"), &arena, &other, NULL) == ST_OK);
    CHECK(lead_identify(&other, body, RANDOM, NULL) == ST_OK);
    CHECK(strcmp(other.contact, lead->contact) == 0 && strcmp(other.content, lead->content) == 0);
    CHECK(strcmp(other.partition, lead->partition) == 0);
}

/* The row as the stores keep it, and back; from the spool with its payload and delivery. */
static void check_rows(const struct lead *lead, unsigned int flags)
{
    static const struct json_limits limits = {.depth = 4, .values = 256};
    struct delivery d = {.lead = lead,
                         .id = "7f3a9c0e5b1d4c627f3a9c0e5b1d4c62",
                         .received_ms = 1795223429123},
                    d_back;
    d.key_name = SPAN_LIT("marketplace");
    d.may_be_written = flags & 1;
    const struct deliveries once = {1, d.received_ms, d.received_ms, span_of(d.id), span_of(d.id)};
    bool is_spooled = flags & 2;
    struct entity row, row_back;
    struct lead back;
    const struct json *top;
    struct fail why;
    CHECK(is_spooled ? row_of_spooled(&row, &d, &arena) : row_of_lead(&row, &d, &once, &arena));
    CHECK(entity_check(&row, &why) == ST_OK);
    buf_reset(&json);
    CHECK(entity_write(&json, &row, &why) == ST_OK);
    CHECK(json_read(buf_span(&json), &limits, &arena, &top, NULL, &why) == ST_OK);
    CHECK(entity_read(top, &arena, &row_back, &why) == ST_OK);
    CHECK(row_back.count == row.count);
    if (is_spooled) {
        CHECK(spooled_of_row(&row_back, &back, &d_back, &arena, &why) == ST_OK);
        CHECK(span_eq(back.payload, lead->payload) && strcmp(d_back.id, d.id) == 0);
        CHECK(d_back.received_ms == d.received_ms && d_back.may_be_written == d.may_be_written);
        CHECK(span_eq(d_back.key_name, d.key_name) && d_back.lead == &back);
    } else {
        lead_of_row(&row_back, &back);
        struct deliveries n = row_deliveries(&row_back);
        CHECK(n.count == 1 && n.first_ms == d.received_ms && n.last_ms == d.received_ms);
        CHECK(span_eq(n.first_id, once.first_id) && span_eq(n.last_id, once.last_id));
    }
    CHECK(is_same(lead, &back));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = {(const char *)data, size};
    struct payload p = {0};
    struct span *const fields[] = {
        &p.lead_source,    &p.action_code,         &p.offer_title,        &p.product_id,
        &p.description,    &p.customer.email,      &p.customer.company,   &p.customer.phone,
        &p.customer.title, &p.customer.first_name, &p.customer.last_name, &p.customer.country,
    };
    struct lead lead, again;
    struct fail why;
    unsigned int flags = fuzz_byte(&rest);
    for (size_t i = 0; i < COUNT(fields); i++)
        *fields[i] = fuzz_part(&rest);
    bool has_test = false;
    for (size_t i = 0; i < COUNT(fields); i++) {
        if (!utf8_is_valid(*fields[i], NULL) || span_find(*fields[i], '\0') != SPAN_NONE)
            return 0; /* lead_read lets no such values through */
        if (span_trim(*fields[i]).len == 0)
            *fields[i] = span_empty(); /* and knows these as absent */
        has_test = has_test || span_has_nocase(*fields[i], SPAN_LIT("msft_test"));
    }
    arena_reset(&arena);
    struct span body = fuzz_repeat(p.description, fuzz_byte(&rest) * 16, BODY_BYTES, &arena);
    CHECK(lead_normalize(&p, body, SPAN_LIT("example.edu"), &arena, &lead, &why) == ST_OK);
    CHECK(lead_identify(&lead, body, RANDOM, &why) == ST_OK);
    CHECK(lead.is_test == has_test);
    check_lead(&p, &lead, body);
    CHECK(lead_normalize(&p, body, SPAN_LIT("example.edu"), &arena, &again, &why) == ST_OK);
    CHECK(lead_identify(&again, body, RANDOM, &why) == ST_OK);
    CHECK(is_same(&lead, &again));
    if (flags & 4)
        check_same_person(p, &lead, body);
    check_rows(&lead, flags);
    return 0;
}

CHECKS_END
