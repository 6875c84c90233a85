/* Under which keys a lead is stored.
 *
 * Hashes are the first 128 bits of SHA-256.  What goes into the contact hash is
 * labelled and separated by U+0000, which no value contains, so that different
 * people never give the same text.  The same goes for the name that a sender gave
 * to a delivery.
 */
#include "lib/lead/lead.h"

/* System */
#include <stdio.h>

/* L0 */
#include "lib/base/crypto.h"
#include "lib/base/encode.h"

enum { SHORT_HASH_DIGITS = 8 };
enum { NAMED_BYTES = LIMIT_KEY_NAME_BYTES + LIMIT_WEBHOOK_ID_BYTES + 16 };

static void add_lower(struct buf *out, struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        buf_add_char(out, char_lower(s.ptr[i]));
}

static enum status hash(struct span data, size_t digits, char *text, struct fail *why)
{
    unsigned char digest[SHA256_BYTES];
    enum status status = crypto_sha256(data, digest, why);
    if (status == ST_OK)
        hex_write(digest, digits / 2, text);
    return status;
}

/* --- partition ----------------------------------------------------------------------------------------------- */

static bool is_slug_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
}

/* What a key cannot show becomes one '-'.  Gives whether more than blanks and dashes was lost by that. */
static bool add_slug(struct buf *out, struct span lower_case)
{
    bool is_lossy = false, is_gap = false;
    for (size_t i = 0; i < lower_case.len; i++) {
        char c = lower_case.ptr[i];
        if (is_slug_char(c)) {
            if (is_gap && out->len)
                buf_add_char(out, '-');
            buf_add_char(out, c);
            is_gap = false;
        } else {
            is_gap = true;
            is_lossy = is_lossy || (c != ' ' && c != '-');
        }
    }
    return is_lossy;
}

/* Two offers must not share a key because it cannot show how they differ: then a hash of the name does. */
static enum status write_partition(struct lead *lead, struct span key, struct span name, bool is_lossy,
                                   struct fail *why)
{
    char text[SHORT_HASH_DIGITS + 1];
    if (!is_lossy && key.len > 0 && key.len <= LIMIT_PARTITION_KEY_BYTES) {
        (void)snprintf(lead->partition, sizeof lead->partition, "%.*s", SPAN_FMT(key));
        return ST_OK;
    }
    enum status status = hash(name, SHORT_HASH_DIGITS, text, why);
    if (status != ST_OK)
        return status;
    if (key.len == 0)
        key = SPAN_LIT("offer");
    key = span_cut(key, 0, LIMIT_PARTITION_KEY_BYTES - SHORT_HASH_DIGITS - 1);
    (void)snprintf(lead->partition, sizeof lead->partition, "%.*s-%s", SPAN_FMT(key), text);
    return ST_OK;
}

static enum status identify_partition(struct lead *lead, struct fail *why)
{
    struct buf name = BUF_INIT(LIMIT_BODY_BYTES), key = BUF_INIT(LIMIT_BODY_BYTES);
    struct span title = span_trim(lead->offer_title);
    bool is_lossy = false;
    if (lead->publisher_id.len) {
        add_lower(&name, lead->publisher_id);
        buf_add_char(&name, '.');
        add_lower(&name, lead->offer_id);
        buf_add(&key, buf_span(&name)); /* ids have no other characters than keys */
    } else if (title.len) {
        add_lower(&name, title);
        is_lossy = add_slug(&key, buf_span(&name));
    } else {
        buf_add_text(&key, "unknown");
    }
    enum status status = buf_status(&name, "the offer's name", why);
    if (status == ST_OK)
        status = buf_status(&key, "the offer's key", why);
    if (status == ST_OK)
        status = write_partition(lead, buf_span(&key), buf_span(&name), is_lossy, why);
    buf_release(&key);
    buf_release(&name);
    return status;
}

/* --- contact and content ------------------------------------------------------------------------------------- */

/* Digits and '+' of a telephone number: people write the same one in many ways.
 * Gives whether there was a digit. */
static bool add_digits(struct buf *out, struct span phone)
{
    bool found = false;
    for (size_t i = 0; i < phone.len; i++) {
        bool is_digit = phone.ptr[i] >= '0' && phone.ptr[i] <= '9';
        if (is_digit || phone.ptr[i] == '+')
            buf_add_char(out, phone.ptr[i]);
        found = found || is_digit;
    }
    return found;
}

static void add_part(struct buf *out, const char *label, struct span value)
{
    buf_add_text(out, label);
    buf_add_char(out, '\0');
    add_lower(out, span_trim(value));
    buf_add_char(out, '\0');
}

/* The text whose hash names a person by e-mail address. */
static void add_email(struct buf *out, struct span email)
{
    add_part(out, "email", email);
}

/* The text whose hash names the person; empty when nothing does. */
static void add_contact(struct buf *out, const struct customer *c)
{
    if (c->email.len) {
        add_email(out, c->email);
        return;
    }
    add_part(out, "first", c->first_name);
    add_part(out, "last", c->last_name);
    add_part(out, "company", c->company);
    if (!add_digits(out, c->phone) && !c->first_name.len && !c->last_name.len && !c->company.len)
        buf_reset(out);
}

static bool has_customer(const struct customer *c)
{
    return c->first_name.len || c->last_name.len || c->email.len || c->phone.len || c->country.len ||
           c->company.len || c->title.len;
}

/* Writes the hash of data, or for blank data what random bytes the caller gave. */
static enum status hash_or_random(struct span data, const unsigned char *random,
                                  char text[LEAD_HASH_TEXT + 1], struct fail *why)
{
    if (data.len)
        return hash(data, LEAD_HASH_TEXT, text, why);
    hex_write(random, LEAD_HASH_TEXT / 2, text);
    return ST_OK;
}

enum status lead_identify(struct lead *lead, struct span body, const unsigned char random[LEAD_RANDOM_BYTES],
                          struct fail *why)
{
    struct buf contact = BUF_INIT(2 * LIMIT_BODY_BYTES);
    bool may_merge = !lead->withheld && has_customer(&lead->customer);
    if (may_merge)
        add_contact(&contact, &lead->customer);
    enum status status = buf_status(&contact, "the contact", why);
    if (status == ST_OK)
        status = identify_partition(lead, why);
    if (status == ST_OK)
        status = hash_or_random(buf_span(&contact), random, lead->contact, why);
    if (status == ST_OK)
        status =
            hash_or_random(may_merge ? body : span_empty(), random + LEAD_HASH_TEXT / 2, lead->content, why);
    buf_release(&contact);
    return status;
}

enum status lead_bytes_of_name(struct span key_name, struct span name, unsigned char bytes[LEAD_RANDOM_BYTES],
                               struct fail *why)
{
    _Static_assert((int)LEAD_RANDOM_BYTES == (int)SHA256_BYTES, "a digest stands in for random bytes");
    struct buf text = BUF_INIT(NAMED_BYTES);
    /* No body that is a lead holds U+0000, so none has the hash of this text. */
    const struct span parts[] = {SPAN_LIT("delivery"), key_name, name};
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        buf_add(&text, parts[i]);
        buf_add_char(&text, '\0');
    }
    enum status status = buf_status(&text, "the delivery's name", why);
    if (status == ST_OK)
        status = crypto_sha256(buf_span(&text), bytes, why);
    buf_release(&text);
    return status;
}

enum status lead_contact_of_email(struct span email, char contact[LEAD_HASH_TEXT + 1], struct fail *why)
{
    struct buf text = BUF_INIT(2 * LIMIT_BODY_BYTES);
    add_email(&text, email);
    enum status status = buf_status(&text, "the contact", why);
    if (status == ST_OK)
        status = hash(buf_span(&text), LEAD_HASH_TEXT, contact, why);
    buf_release(&text);
    return status;
}

enum status lead_understand(struct span body, struct span content_type, struct span withhold_domains,
                            enum lead_identity identity, const unsigned char random[LEAD_RANDOM_BYTES],
                            struct arena *arena, struct lead *lead, size_t *offset, struct fail *why)
{
    struct payload payload;
    enum status status = lead_read(body, content_type, arena, &payload, offset, why);
    if (status == ST_OK)
        status = lead_normalize(&payload, body, withhold_domains, arena, lead, why);
    if (status == ST_OK)
        status = lead_identify(lead, identity == LEAD_BY_BODY ? body : span_empty(), random, why);
    return status;
}
