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

static bool is_slug_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_';
}

/* Letters and digits stay, everything between becomes one '-'.  *lost: a character other than ASCII was dropped. */
static void add_slug(struct buf *out, struct span title, bool *lost)
{
    bool gap = false;
    for (size_t i = 0; i < title.len; i++) {
        char c = lower(title.ptr[i]);
        if (is_slug_char(c)) {
            if (gap && out->len)
                buf_add_char(out, '-');
            buf_add_char(out, c);
            gap = false;
        } else {
            gap = true;
            *lost = *lost || (unsigned char)c >= 0x80;
        }
    }
}

static enum status partition_of_title(struct buf *out, struct span title, struct fail *why)
{
    bool lost = false;
    struct buf slug = BUF_INIT(LIMIT_BODY_BYTES);
    enum status status;
    add_slug(&slug, title, &lost);
    status = buf_status(&slug, "the offer's key", why);
    if (status != ST_OK)
        goto out;
    size_t room = LIMIT_PARTITION_KEY_BYTES - SHORT_HASH_DIGITS - 1;
    lost = lost || slug.len > room || slug.len == 0;
    buf_add(out, span_cut(buf_span(&slug), 0, room));
    if (lost) { /* two titles must not share a key only because the key cannot show the difference */
        char text[SHORT_HASH_DIGITS + 1];
        status = hash(title, SHORT_HASH_DIGITS, text, why);
        if (status != ST_OK)
            goto out;
        buf_add_text(out, out->len ? "-" : "offer-");
        buf_add_text(out, text);
    }
out:
    buf_release(&slug);
    return status;
}

static enum status identify_partition(struct lead *lead, struct fail *why)
{
    struct buf key = BUF_INIT(LIMIT_BODY_BYTES);
    enum status status = ST_OK;
    if (lead->publisher_id.len) {
        add_lower(&key, lead->publisher_id);
        buf_add_char(&key, '.');
        add_lower(&key, lead->offer_id);
        if (key.len > LIMIT_PARTITION_KEY_BYTES) {
            struct buf cut = BUF_INIT(LIMIT_PARTITION_KEY_BYTES);
            status = partition_of_title(&cut, buf_span(&key), why);
            buf_reset(&key);
            buf_add(&key, buf_span(&cut));
            buf_release(&cut);
        }
    } else if (span_trim(lead->offer_title).len) {
        status = partition_of_title(&key, span_trim(lead->offer_title), why);
    } else {
        buf_add_text(&key, "unknown");
    }
    if (status == ST_OK)
        status = buf_status(&key, "the offer's key", why);
    if (status == ST_OK)
        memcpy(lead->partition, key.data, key.len + 1);
    buf_release(&key);
    return status;
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
