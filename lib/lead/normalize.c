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

static const struct name_of_code ACTION_WORDS[] = {
    {"INS", "Get it now"},
    {"PLT", "Contact me request"},
    {"DNC", "Asked another partner"},
    {"Create", "Created in Azure portal"},
    {"StartTestDrive", "Test drive started"},
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

static const char *action_name(struct span code)
{
    return name_of(ACTIONS, sizeof ACTIONS / sizeof ACTIONS[0], code);
}

/* As in the tables above, each once. */
static const char *const SOURCE_LABELS[LEAD_SOURCE_LABELS] = {"AzureMarketplace", "AzurePortal", "TestDrive",
                                                              "AppSource",        "none",        "other"};
static const char *const ACTION_LABELS[LEAD_ACTION_LABELS] = {
    "INS", "PLT", "DNC", "Create", "StartTestDrive", "none", "other"};

/* The last two labels are for what has no name, and for what has another one. */
static size_t label_index(const char *const *labels, size_t count, struct span name)
{
    size_t index = 0;
    if (name.len == 0)
        return count - 2;
    while (index < count - 2 && !span_eq(name, span_of(labels[index])))
        index++;
    return index < count - 2 ? index : count - 1;
}

size_t lead_source_index(struct span source)
{
    return label_index(SOURCE_LABELS, LEAD_SOURCE_LABELS, source);
}

size_t lead_action_index(struct span action)
{
    return label_index(ACTION_LABELS, LEAD_ACTION_LABELS, action);
}

const char *lead_source_label(size_t index)
{
    return SOURCE_LABELS[index];
}

const char *lead_action_label(size_t index)
{
    return ACTION_LABELS[index];
}

struct span lead_action_words(struct span action)
{
    return span_of(name_of(ACTION_WORDS, sizeof ACTION_WORDS / sizeof ACTION_WORDS[0], action));
}

/* The documentation's spelling where the code is known, else as it came. */
static struct span spelling(const char *known, struct span code)
{
    return known ? span_of(known) : span_trim(code);
}

/* Capital letters do not tell ids from a title: older publisher ids have them, and so has a title of one
 * dotted word ("Node.js"). */
enum capitals { CAPITALS_MEAN_TITLE, CAPITALS_ALLOWED };

/* Ids are letters, digits, '-', '_' and '.', with a part before and after the first '.'. */
static bool is_offer_id(struct span s, enum capitals capitals)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        bool is_capital = c >= 'A' && c <= 'Z';
        if (is_capital && capitals == CAPITALS_MEAN_TITLE)
            return false;
        if (!is_capital && !(c >= 'a' && c <= 'z') && !(c >= '0' && c <= '9') && c != '-' && c != '_' &&
            c != '.')
            return false;
    }
    size_t dot = span_find(s, '.');
    return dot != SPAN_NONE && dot > 0 && dot + 1 < s.len;
}

static void take_offer_id(struct lead *lead, struct span id)
{
    size_t dot = span_find(id, '.');
    lead->publisher_id = span_cut(id, 0, dot);
    lead->offer_id = span_from(id, dot + 1);
}

/* The part behind the '|': ids, or (in form posts, which have no field for it) the offer's title. */
static void take_offer(struct lead *lead, struct span offer)
{
    bool has_title = lead->offer_title.len > 0;
    offer = span_trim(offer);
    if (is_offer_id(offer, has_title ? CAPITALS_ALLOWED : CAPITALS_MEAN_TITLE))
        take_offer_id(lead, offer);
    else if (!has_title)
        lead->offer_title = offer;
}

/* Source, action and offer out of the LeadSource. */
static void split_source(struct lead *lead)
{
    struct span left = lead->lead_source;
    size_t bar = span_find(left, '|');
    if (bar != SPAN_NONE) {
        take_offer(lead, span_from(left, bar + 1));
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
    return trimmed.len == 0 || span_eq_nocase(trimmed, SPAN_LIT("Campaigns:")) ? span_empty() : description;
}

/* AppSource passes on the parameters of its page's URL as a JSON object in a string.  Whoever made the URL
 * chose them, so what does not read as such an object is no failure. */
static enum status take_campaign(struct lead *lead, struct arena *arena, struct fail *why)
{
    static const struct json_limits limits = {.depth = LIMIT_PAGE_DEPTH, .values = LIMIT_PAGE_VALUES};
    const struct json *top;
    enum status status = json_read(lead->description, &limits, arena, &top, NULL, NULL);
    if (status == ST_NOMEM)
        return fail_set(why, ST_NOMEM, 0, "no memory for a campaign");
    if (status != ST_OK)
        return ST_OK; /* the customer's own words */
    for (const struct json *m = top->first; m && !lead->campaign.len; m = m->next) {
        if (span_eq_nocase(m->name, SPAN_LIT("mktcmpid")))
            lead->campaign = span_trim(m->text);
    }
    return ST_OK;
}

/* Microsoft's test leads carry MSFT_TEST_<number> in their texts; in which of them depends on the form. */
static bool is_test(const struct payload *p)
{
    const struct customer *c = &p->customer;
    const struct span fields[] = {c->first_name,  c->last_name,   c->email,       c->phone,
                                  c->country,     c->company,     c->title,       p->lead_source,
                                  p->action_code, p->offer_title, p->description, p->product_id};
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

static bool is_domain_char(char c)
{
    return char_is_alnum(c) || c == '-' || c == '.' || (unsigned char)c >= 0x80;
}

/* The domain with which s begins, without the final dot of a fully qualified one. */
static struct span leading_domain(struct span s)
{
    size_t len = 0;
    while (len < s.len && is_domain_char(s.ptr[len]))
        len++;
    while (len > 0 && s.ptr[len - 1] == '.')
        len--;
    return span_cut(s, 0, len);
}

/* Moves *rest behind its first at-sign, as '@' or in the full width that East Asian keyboards give. */
static bool next_at(struct span *rest)
{
    static const char wide[] = "\xEF\xBC\xA0";
    for (size_t i = 0; i < rest->len; i++) {
        size_t len = rest->ptr[i] == '@'                               ? 1
                     : span_starts(span_from(*rest, i), span_of(wide)) ? sizeof wide - 1
                                                                       : 0;
        if (len) {
            *rest = span_from(*rest, i + len);
            return true;
        }
    }
    return false;
}

/* Whether any address in the text is of one of the domains: people write "Ana <a@x.edu>", "a@x.edu, b@y".  So many
 * that not all are looked at could hide one: then the data is withheld as well. */
static bool has_withheld(struct span text, struct span rules)
{
    for (size_t count = 0; next_at(&text); count++) {
        if (count == LIMIT_LEAD_ADDRESSES)
            return true;
        struct span domain = leading_domain(span_trim(text)), rest = rules, rule;
        while (span_next(&rest, ',', &rule)) {
            if (domain_matches(domain, span_trim(rule)))
                return true;
        }
    }
    return false;
}

/* In whatever field of the customer: people take one for the other. */
static bool is_withheld(const struct customer *c, struct span rules)
{
    const struct span fields[] = {c->email,   c->first_name, c->last_name, c->phone,
                                  c->country, c->company,    c->title};
    if (span_trim(rules).len == 0)
        return false;
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        if (has_withheld(fields[i], rules))
            return true;
    }
    return false;
}

/* What is of the offer has no at-sign; a text that has one, if only as in a URL, may hold an address. */
static struct span without_address(struct span text)
{
    struct span rest = text;
    return next_at(&rest) || span_has_nocase(text, SPAN_LIT("%40")) ? span_empty() : text;
}

/* The country says where an offer finds interest and, alone, nothing about a person; the company may be one
 * person's own or the very institution whose members are protected.  Free text may name anyone. */
static void withhold(struct lead *lead)
{
    lead->customer = (struct customer){.country = without_address(lead->customer.country)};
    lead->description = (struct span){0};
    lead->payload = (struct span){0};
    lead->lead_source = without_address(lead->lead_source);
    lead->action_code = without_address(lead->action_code);
    lead->offer_title = without_address(lead->offer_title);
    lead->product_id = without_address(lead->product_id);
    lead->campaign = without_address(lead->campaign);
    lead->withheld = true;
}

enum status lead_normalize(const struct payload *payload, struct span body, struct span withhold_domains,
                           struct arena *arena, struct lead *lead, struct fail *why)
{
    struct lead result = {
        .customer = payload->customer,
        .lead_source = payload->lead_source,
        .action_code = payload->action_code,
        .offer_title = payload->offer_title,
        .description = meaning_of_description(payload->description),
        .product_id = payload->product_id,
        .is_test = is_test(payload),
        .payload = body,
    };
    enum status status = take_campaign(&result, arena, why);
    if (status != ST_OK)
        return status;
    if (is_withheld(&payload->customer, withhold_domains))
        withhold(&result); /* before anything is made of what it leaves out */
    split_source(&result);
    if (!result.publisher_id.len && is_offer_id(span_trim(result.product_id), CAPITALS_ALLOWED))
        take_offer_id(&result, span_trim(result.product_id));
    result.action = spelling(action_name(result.action_code), result.action_code);
    result.do_not_contact = span_eq(result.action, SPAN_LIT("DNC"));
    *lead = result;
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
