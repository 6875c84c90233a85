/* Under which keys a lead is stored.
 *
 * Hashes are the first 128 bits of SHA-256.  What goes into the contact hash is
 * labelled and separated by U+0000, which no value contains, so that different
 * people never give the same text.
 */
#include "lib/lead/lead.h"

/* System */
#include <string.h>

/* L0 */
#include "lib/base/crypto.h"
#include "lib/base/encode.h"

enum { SHORT_HASH_DIGITS = 8 };

static char lower(char c)
{
    return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static void add_lower(struct buf *out, struct span s)
{
    for (size_t i = 0; i < s.len; i++)
        buf_add_char(out, lower(s.ptr[i]));
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

enum { KEY_BEFORE_HASH = LIMIT_PARTITION_KEY_BYTES - SHORT_HASH_DIGITS - 1 };

static bool is_key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
}

/* Runs of what a key cannot show become one '-'.  Gives whether more than blanks and dashes was lost by that. */
static bool add_slug(struct buf *out, struct span title)
{
    bool lost = false, gap = false;
    for (size_t i = 0; i < title.len; i++) {
        char c = lower(title.ptr[i]);
        if (!is_key_char(c)) {
            gap = true;
            lost = lost || (c != ' ' && c != '-');
            continue;
        }
        if (gap && out->len)
            buf_add_char(out, '-');
        buf_add_char(out, c);
        gap = false;
    }
    return lost;
}

/* Two offers must not share a key only because it cannot show the difference: a hash of the name then does. */
static enum status add_distinction(struct buf *key, struct span name, struct fail *why)
{
    char text[SHORT_HASH_DIGITS + 1];
    struct buf lowered = BUF_INIT(name.len);
    add_lower(&lowered, name);
    enum status status = buf_status(&lowered, "the offer's name", why);
    if (status == ST_OK)
        status = hash(buf_span(&lowered), SHORT_HASH_DIGITS, text, why);
    buf_release(&lowered);
    if (status != ST_OK)
        return status;
    if (key->len == 0)
        buf_add_text(key, "offer");
    buf_cut(key, KEY_BEFORE_HASH);
    buf_add_char(key, '-');
    buf_add_text(key, text);
    return ST_OK;
}

static enum status identify_partition(struct lead *lead, struct fail *why)
{
    struct span title = span_trim(lead->offer_title);
    struct buf key = BUF_INIT(LIMIT_BODY_BYTES);
    enum status status = ST_OK;
    if (lead->publisher_id.len) {
        add_lower(&key, lead->publisher_id);
        buf_add_char(&key, '.');
        add_lower(&key, lead->offer_id);
    }
    XXX
}

/* --- contact and content ------------------------------------------------------------------------------------- */

/* Digits and '+' of a telephone number: people write the same one in many ways. */
static void add_digits(struct buf *out, struct span phone)
{
    for (size_t i = 0; i < phone.len; i++) {
        if ((phone.ptr[i] >= '0' && phone.ptr[i] <= '9') || phone.ptr[i] == '+')
            buf_add_char(out, phone.ptr[i]);
    }
}

static void add_part(struct buf *out, const char *label, struct span value)
{
    buf_add_text(out, label);
    buf_add_char(out, '\0');
    add_lower(out, span_trim(value));
    buf_add_char(out, '\0');
}

/* The text whose hash names the person; empty when nothing does. */
static void add_contact(struct buf *out, const struct customer *c)
{
    if (span_trim(c->email).len) {
        add_part(out, "email", c->email);
    } else if (span_trim(c->first_name).len || span_trim(c->last_name).len || span_trim(c->company).len ||
               span_trim(c->phone).len) {
        add_part(out, "first", c->first_name);
        add_part(out, "last", c->last_name);
        add_part(out, "company", c->company);
        add_digits(out, c->phone);
    }
}

static bool has_customer(const struct customer *c)
{
    return c->first_name.len || c->last_name.len || c->email.len || c->phone.len || c->country.len ||
           c->company.len || c->title.len;
}

enum status lead_identify(struct lead *lead, struct span body, const unsigned char random[LEAD_RANDOM_BYTES],
                          struct fail *why)
{
    struct buf contact = BUF_INIT(4 * LIMIT_BODY_BYTES);
    enum status status = identify_partition(lead, why);
    if (!lead->withheld)
        add_contact(&contact, &lead->customer);
    if (status == ST_OK)
        status = buf_status(&contact, "the contact", why);
    if (status == ST_OK && contact.len)
        status = hash(buf_span(&contact), LEAD_HASH_TEXT, lead->contact, why);
    else
        hex_write(random, LEAD_HASH_TEXT / 2, lead->contact);
    if (status == ST_OK && has_customer(&lead->customer) && !lead->withheld)
        status = hash(body, LEAD_HASH_TEXT, lead->content, why);
    else
        hex_write(random + LEAD_HASH_TEXT / 2, LEAD_HASH_TEXT / 2, lead->content);
    buf_release(&contact);
    return status;
}
