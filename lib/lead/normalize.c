/* What the values mean.
 *
 * LeadSource is documented as "Source-Action|Offer", and as a bare source in the
 * samples of the same documentation; the offer is "publisher.offer" or, in form
 * posts, its title.  Lists of sources and actions are open: what is not known is
 * kept as it came.
 */
#include "lib/lead/lead.h"

/* L0 */
#include "lib/base/json_read.h"
#include "lib/base/json_write.h"

struct name_of_code {
    const char *code;
    const char *name;
};

/* SPZA is Microsoft's acronym for AppSource; one version of the documentation prints both. */
static const struct name_of_code SOURCES[] = {
    {"AzureMarketplace", "AzureMarketplace"},
    {"AzurePortal", "AzurePortal"},
    {"TestDrive", "TestDrive"},
    {"SPZA", "AppSource"},
    {"AppSource", "AppSource"},
    {"AppSource (SPZA)", "AppSource"},
};
static const struct name_of_code ACTIONS[] = {
    {"INS", "INS"},
    {"PLT", "PLT"},
    {"DNC", "DNC"},
    {"Create", "Create"},
    {"StartTestDrive", "StartTestDrive"},
};

static const char *name_of(const struct name_of_code *table, size_t count, struct span code)
{
    for (size_t i = 0; i < count; i++) {
        if (span_eq_nocase(span_trim(code), span_of(table[i].code)))
            return table[i].name;
    }
    return NULL;
}

static const char *source_name(struct span code)
{
    return name_of(SOURCES, sizeof SOURCES / sizeof SOURCES[0], code);
}

/* The documentation's spelling where the code is known, else as it came. */
static struct span spelling(const char *known, struct span code)
{
    return known ? span_of(known) : span_trim(code);
}

/* Ids are lower-case letters, digits, '-', '_' and '.'; anything else is a title. */
static bool is_offer_id(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
              c == '_' || c == '.'))
            return false;
    }
    size_t dot = span_find(s, '.');
    return dot != SPAN_NONE && dot > 0 && dot + 1 < s.len;
}

static void split_offer(struct lead *lead, struct span offer)
{
    offer = span_trim(offer);
    if (is_offer_id(offer)) {
        size_t dot = span_find(offer, '.');
        lead->publisher_id = span_cut(offer, 0, dot);
        lead->offer_id = span_from(offer, dot + 1);
    } else if (lead->offer_title.len == 0) {
        lead->offer_title = offer;
    }
}

/* Source, action and offer out of the LeadSource. */
static void split_source(struct lead *lead)
{
    struct span left = lead->lead_source;
    size_t bar = span_find(left, '|');
    if (bar != SPAN_NONE) {
        split_offer(lead, span_from(left, bar + 1));
        left = span_cut(left, 0, bar);
    }
    struct span action = {0};
    size_t dash = span_find_last(left, '-');
    if (dash != SPAN_NONE && !source_name(left)) {
        action = span_from(left, dash + 1);
        left = span_cut(left, 0, dash);
    }
    lead->source = spelling(source_name(left), left);
    if (lead->action_code.len == 0)
        lead->action_code = span_trim(action);
}

/* Labels without a value, as seen on the wire, say nothing. */
static struct span meaning_of_description(struct span description)
{
    struct span trimmed = span_trim(description);
    return trimmed.len == 0 || span_eq_nocase(trimmed, SPAN_LIT("Campaigns:")) ? (struct span){0}
                                                                               : description;
}

/* AppSource passes on the parameters of its page's URL as a JSON object in a string. */
static struct span campaign_of(struct span description, struct arena *arena)
{
    static const struct json_limits limits = {.depth = 2, .values = 64};
    struct span text = span_trim(description);
    const struct json *top;
    if (text.len < 2 || text.ptr[0] != '{' || json_read(text, &limits, arena, &top, NULL, NULL) != ST_OK)
        return (struct span){0};
    for (const struct json *m = top->first; m; m = m->next) {
        if (span_eq_nocase(m->name, SPAN_LIT("mktcmpid")) && m->kind == JSON_STRING)
            return span_trim(m->text);
    }
    return (struct span){0};
}

/* Microsoft's test leads carry MSFT_TEST_<number> in every text; which fields there are depends on the form. */
static bool is_test(const struct payload *p)
{
    const struct span fields[] = {p->customer.first_name, p->customer.last_name, p->customer.email,
                                  p->customer.company,    p->customer.title,     p->lead_source,
                                  p->action_code,         p->offer_title,        p->description};
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (span_has_nocase(fields[i], SPAN_LIT("MSFT_TEST")))
            return true;
    }
    return false;
}

/* ".edu" matches every domain with that ending; "example.org" that domain and those below it. */
static bool domain_matches(struct span domain, struct span rule)
{
    if (rule.len == 0 || !span_ends_nocase(domain, rule))
        return false;
    return rule.ptr[0] == '.' || domain.len == rule.len || domain.ptr[domain.len - rule.len - 1] == '.';
}

static bool is_withheld(struct span email, struct span rules)
{
    struct span rest = rules, rule;
    struct span address = span_trim(email);
    size_t at = span_find_last(address, '@');
    if (at == SPAN_NONE)
        return false;
    while (span_next(&rest, ',', &rule)) {
        if (domain_matches(span_from(address, at + 1), span_trim(rule)))
            return true;
    }
    return false;
}

/* What stays says which offer wins customers where, and nothing about the person. */
static void withhold(struct lead *lead)
{
    struct span country = lead->customer.country;
    lead->customer = (struct customer){.country = country};
    lead->description = (struct span){0};
    lead->payload = (struct span){0};
    lead->withheld = true;
}

enum status lead_normalize(const struct payload *payload, struct span body, struct span withhold_domains,
                           struct arena *arena, struct lead *lead, struct fail *why)
{
    (void)why; /* nothing here can fail; what does not fit the grammar is kept as it came */
    *lead = (struct lead){
        .customer = payload->customer,
        .lead_source = payload->lead_source,
        .action_code = span_trim(payload->action_code),
        .offer_title = payload->offer_title,
        .description = meaning_of_description(payload->description),
        .product_id = payload->product_id,
        .is_test = is_test(payload),
        .payload = body,
    };
    split_source(lead);
    if (!lead->publisher_id.len && is_offer_id(span_trim(lead->product_id)))
        split_offer(lead, lead->product_id);
    lead->action =
        spelling(name_of(ACTIONS, sizeof ACTIONS / sizeof ACTIONS[0], lead->action_code), lead->action_code);
    lead->do_not_contact = span_eq(lead->action, SPAN_LIT("DNC"));
    lead->campaign = campaign_of(lead->description, arena);
    if (is_withheld(lead->customer.email, withhold_domains))
        withhold(lead);
    return ST_OK;
}

enum status lead_customer_info(struct buf *out, const struct customer *c, struct fail *why)
{
    struct json_writer w;
    json_begin(&w, out);
    json_add_text(&w, SPAN_LIT("FirstName"), c->first_name);
    json_add_text(&w, SPAN_LIT("LastName"), c->last_name);
    json_add_text(&w, SPAN_LIT("Email"), c->email);
    json_add_text(&w, SPAN_LIT("Phone"), c->phone);
    json_add_text(&w, SPAN_LIT("Country"), c->country);
    json_add_text(&w, SPAN_LIT("Company"), c->company);
    json_add_text(&w, SPAN_LIT("Title"), c->title);
    return json_end(&w, "CustomerInfo", why);
}
