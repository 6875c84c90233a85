#include "lib/mail/address.h"

/* L0 */
#include "lib/base/limits.h"

enum { LOCAL_PART_BYTES = 64, DOMAIN_BYTES = 253, LABEL_BYTES = 63 };

/* RFC 5322 3.2.3 atext. */
static bool is_atext(char c)
{
    struct span special = SPAN_LIT("!#$%&'*+/=?^_`{|}~-");
    return char_is_alnum(c) || (c != '\0' && span_find(special, c) != SPAN_NONE);
}

/* Atoms joined by single dots. */
static bool is_dot_atom(struct span s)
{
    if (s.len == 0 || s.len > LOCAL_PART_BYTES || s.ptr[0] == '.' || s.ptr[s.len - 1] == '.')
        return false;
    for (size_t i = 0; i < s.len; i++) {
        bool dot = s.ptr[i] == '.';
        if (!dot && !is_atext(s.ptr[i]))
            return false;
        if (dot && s.ptr[i - 1] == '.')
            return false;
    }
    return true;
}

static bool is_label(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!char_is_alnum(s.ptr[i]) && s.ptr[i] != '-')
            return false;
    }
    return s.len > 0 && s.len <= LABEL_BYTES && s.ptr[0] != '-' && s.ptr[s.len - 1] != '-';
}

static bool is_domain(struct span s, size_t least_labels)
{
    struct span rest = s, label;
    size_t labels = 0;
    if (s.len == 0 || s.len > DOMAIN_BYTES)
        return false;
    while (span_next(&rest, '.', &label)) {
        if (!is_label(label))
            return false;
        labels++;
    }
    return labels >= least_labels;
}

struct span mail_address_domain(struct span address)
{
    size_t at = span_find_last(address, '@');
    return at == SPAN_NONE ? span_empty() : span_from(address, at + 1);
}

static bool is_address(struct span s, size_t least_labels)
{
    size_t at = span_find_last(s, '@');
    return s.len <= LIMIT_MAIL_ADDRESS_BYTES && at != SPAN_NONE && is_dot_atom(span_cut(s, 0, at)) &&
           is_domain(span_from(s, at + 1), least_labels);
}

/* What mail programs and servers read more into than the address that stands there: routes ('%', '!'), encoded
 * words, which some decode wherever they stand, and names in another script, which may be shown as others. */
static bool has_hidden_meaning(struct span address)
{
    return span_find(address, '%') != SPAN_NONE || span_find(address, '!') != SPAN_NONE ||
           span_has_nocase(address, SPAN_LIT("=?")) || span_has_nocase(address, SPAN_LIT("xn--"));
}

bool mail_address_is_safe(struct span address)
{
    return is_address(address, 2) && !has_hidden_meaning(address);
}

static bool has_control(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7F)
            return true;
    }
    return false;
}

enum status mail_address_parse(struct span text, struct mail_address *address, struct fail *why)
{
    struct mail_address result = {.address = span_trim(text)};
    if (has_control(text))
        return fail_set(why, ST_INVALID, 0, "an address holds a control character");
    size_t open = span_find(text, '<');
    if (open != SPAN_NONE) {
        struct span rest = span_trim(span_from(text, open + 1));
        if (rest.len == 0 || rest.ptr[rest.len - 1] != '>')
            return fail_set(why, ST_INVALID, 0, "an address in '<' has no '>' at its end");
        result.address = span_cut(rest, 0, rest.len - 1);
        result.name = span_trim(span_cut(text, 0, open));
        if (result.name.len >= 2 && result.name.ptr[0] == '"' && result.name.ptr[result.name.len - 1] == '"')
            result.name = span_cut(result.name, 1, result.name.len - 2);
        if (span_find(result.name, '"') != SPAN_NONE || span_find(result.name, '\\') != SPAN_NONE)
            return fail_set(why, ST_INVALID, 0, "the name before '<' must not hold quotes or backslashes");
    }
    /* A configured address may be on a host without a dot, such as root@localhost. */
    if (!is_address(result.address, 1))
        return fail_set(why, ST_INVALID, 0, "not a mail address: one of the form name@example.com is needed");
    *address = result;
    return ST_OK;
}

static bool is_among(const struct span list[], size_t count, struct span address)
{
    for (size_t i = 0; i < count; i++) {
        if (span_eq_nocase(list[i], address))
            return true;
    }
    return false;
}

enum status mail_recipients_parse(struct span text, struct span list[], size_t *count, struct fail *why)
{
    struct span rest = text, part;
    size_t found = 0;
    while (span_next(&rest, ',', &part)) {
        struct mail_address address;
        enum status status = mail_address_parse(span_trim(part), &address, why);
        if (status != ST_OK)
            return status;
        if (found == LIMIT_RECIPIENTS)
            return fail_set(why, ST_INVALID, 0, "more than %u recipients", LIMIT_RECIPIENTS);
        if (is_among(list, found, address.address))
            return fail_set(why, ST_INVALID, 0, "an address stands there twice");
        list[found++] = address.address;
    }
    if (found == 0)
        return fail_set(why, ST_INVALID, 0, "there is no address");
    *count = found;
    return ST_OK;
}
