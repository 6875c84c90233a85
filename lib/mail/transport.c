#include "lib/mail/transport.h"

/* System */
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/buf.h"

/* L5 */
#include "lib/mail/address.h"
#include "lib/mail/transport_internal.h"

enum { WIRE_LINE_BYTES = 998 };

struct mail_transport {
    struct mail_settings settings; /* its texts point into copy */
    struct buf copy;
    unsigned int version; /* of the password, where it may be replaced */
    struct smtp *smtp;    /* NULL: a Maildir */
    const char *maildir;
};

/* Copies a text and its NUL into one buffer; the buffer has room for all, so earlier copies do not move. */
static struct span keep(struct buf *copy, struct span text)
{
    size_t at = copy->len;
    buf_add(copy, text);
    buf_add_char(copy, '\0');
    return (struct span){copy->data ? copy->data + at : NULL, text.len};
}

/* The texts go to C interfaces, which would see only what is before a NUL. */
static bool has_nul(const struct mail_settings *s)
{
    return span_find(s->url, '\0') != SPAN_NONE || span_find(s->user, '\0') != SPAN_NONE ||
           span_find(s->password, '\0') != SPAN_NONE || span_find(s->hello, '\0') != SPAN_NONE ||
           span_find(s->ca_file, '\0') != SPAN_NONE;
}

/* On success the texts kept before are still there, for the caller to release. */
static enum status keep_texts(struct mail_transport *t, const struct mail_settings *s, struct fail *why)
{
    if (has_nul(s))
        return fail_set(why, ST_INVALID, 0, "a mail setting holds a NUL character");
    size_t bytes = s->url.len + s->user.len + s->password.len + s->hello.len + s->ca_file.len + 5;
    t->copy = BUF_INIT(bytes);
    if (!buf_reserve(&t->copy, bytes))
        return buf_status(&t->copy, "the mail settings", why);
    t->settings = *s;
    t->settings.url = keep(&t->copy, s->url);
    t->settings.user = keep(&t->copy, s->user);
    t->settings.password = keep(&t->copy, s->password);
    t->settings.hello = keep(&t->copy, s->hello);
    t->settings.ca_file = keep(&t->copy, s->ca_file);
    return buf_status(&t->copy, "the mail settings", why);
}

static enum status keep_settings(struct mail_transport *t, const struct mail_settings *settings,
                                 struct fail *why)
{
    struct mail_settings s = *settings;
    struct buf password = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    enum status status = ST_OK;
    if (s.live) {
        status = secret_copy(s.live, &password, &t->version, why);
        s.password = buf_span(&password);
    }
    if (status == ST_OK)
        status = keep_texts(t, &s, why);
    buf_release_secret(&password);
    return status;
}

bool mail_has_new_password(const struct mail_transport *transport)
{
    return transport->smtp && transport->settings.live &&
           secret_version(transport->settings.live) != transport->version;
}

/* Without memory the password stays as it is. */
static void renew_password(struct mail_transport *t)
{
    struct mail_settings settings = t->settings;
    struct buf copy = t->copy;
    if (!mail_has_new_password(t))
        return;
    unsigned int version = t->version;
    if (keep_settings(t, &settings, NULL) == ST_OK) {
        buf_release_secret(&copy);
    } else {
        t->settings = settings;
        t->copy = copy;
        t->version = version;
    }
}

enum status mail_transport_new(const struct mail_settings *settings, struct mail_transport **transport,
                               struct fail *why)
{
    struct span maildir = SPAN_LIT("maildir:");
    struct mail_transport *t = calloc(1, sizeof *t);
    if (!t)
        return fail_set(why, ST_NOMEM, 0, "no memory for mail");
    enum status status = keep_settings(t, settings, why);
    if (status == ST_OK && span_starts(settings->url, maildir)) {
        t->maildir = t->settings.url.ptr + maildir.len;
        if (t->maildir[0] != '/')
            status = fail_set(why, ST_INVALID, 0, "maildir: must be followed by an absolute path");
    } else if (status == ST_OK) {
        status = smtp_new(&t->settings, &t->smtp, why);
    }
    if (status != ST_OK) {
        mail_transport_free(t);
        return status;
    }
    *transport = t;
    return ST_OK;
}

void mail_transport_free(struct mail_transport *transport)
{
    if (!transport)
        return;
    smtp_free(transport->smtp);
    buf_release_secret(&transport->copy);
    free(transport);
}

/* Only 7-bit text with CRLF line ends may go on the wire: a bare line feed before a dot could end the message
 * early.  RFC 5321 4.5.3.1.6: at most 998 characters in a line. */
static bool is_wire_safe(struct span message)
{
    size_t column = 0;
    for (size_t i = 0; i < message.len; i++) {
        unsigned char c = (unsigned char)message.ptr[i];
        bool cr_before = i > 0 && message.ptr[i - 1] == '\r';
        bool lf_after = i + 1 < message.len && message.ptr[i + 1] == '\n';
        if (c == 0 || c > 0x7E || (c == '\n' && !cr_before) || (c == '\r' && !lf_after))
            return false;
        column = c == '\r' || c == '\n' ? 0 : column + 1;
        if (column > WIRE_LINE_BYTES)
            return false;
    }
    return message.len >= 2 && message.ptr[message.len - 1] == '\n';
}

/* "<address>" for the envelope; libcurl would hand on whatever it gets. */
static bool copy_address(struct span address, char text[LIMIT_MAIL_ADDRESS_BYTES + 3])
{
    struct mail_address parsed;
    if (mail_address_parse(address, &parsed, NULL) != ST_OK || parsed.address.len != address.len)
        return false;
    text[0] = '<';
    memcpy(text + 1, address.ptr, address.len);
    text[address.len + 1] = '>';
    text[address.len + 2] = '\0';
    return true;
}

static enum mail_outcome send_message(struct mail_transport *transport, struct span from, struct span to,
                                      struct span message, bool again, mail_fence *fence, void *context,
                                      struct fail *why)
{
    char sender[LIMIT_MAIL_ADDRESS_BYTES + 3], recipient[LIMIT_MAIL_ADDRESS_BYTES + 3];
    if (!is_wire_safe(message)) {
        (void)fail_set(why, ST_INVALID, 0, "the message is not 7-bit text in short lines that end in CRLF");
        return MAIL_PERMANENT;
    }
    if (!copy_address(from, sender) || !copy_address(to, recipient)) {
        (void)fail_set(why, ST_INVALID, 0, "the sender or recipient is not a mail address");
        return MAIL_PERMANENT;
    }
    renew_password(transport);
    if (!transport->smtp)
        return maildir_send(transport->maildir, message, fence, context, why);
    return smtp_send(transport->smtp, sender, recipient, message, again, fence, context, why);
}

enum status mail_outcome_status(enum mail_outcome outcome)
{
    switch (outcome) {
    case MAIL_ACCEPTED:
        return ST_OK;
    case MAIL_TRANSIENT:
        return ST_AGAIN;
    case MAIL_PERMANENT:
        return ST_REFUSED;
    case MAIL_CONFIGURATION:
        return ST_DENIED;
    case MAIL_AMBIGUOUS:
        return ST_UNKNOWN;
    }
    return ST_BUG;
}

enum mail_outcome mail_send(struct mail_transport *transport, struct span from, struct span to,
                            struct span message, mail_fence *fence, void *context, struct fail *why)
{
    return send_message(transport, from, to, message, false, fence, context, why);
}

enum mail_outcome mail_send_again(struct mail_transport *transport, struct span from, struct span to,
                                  struct span message, mail_fence *fence, void *context, struct fail *why)
{
    return send_message(transport, from, to, message, true, fence, context, why);
}

int64_t mail_certificate_end_ms(const struct mail_transport *transport)
{
    return transport->smtp ? smtp_certificate_end_ms(transport->smtp) : 0;
}

enum mail_outcome mail_probe(struct mail_transport *transport, struct fail *why)
{
    renew_password(transport);
    return transport->smtp ? smtp_probe(transport->smtp, why) : maildir_probe(transport->maildir, why);
}
