/* transport.h - handing over a finished message: SMTP submission or a Maildir.
 *
 * One transport is owned by one thread.  Every wait is bounded: with the default
 * settings five and a half minutes up to the final bytes, and from then on the
 * ten minutes that RFC 5321 4.5.3.2.6 asks for; 17 minutes for the whole.
 */
#ifndef LEAD_TRANSPORT_H
#define LEAD_TRANSPORT_H

#include <stdatomic.h>

#include "lib/base/limits.h"
#include "lib/base/secret.h"
#include "lib/base/span.h"
#include "lib/base/status.h"

/* What became of a message; the relay's policy depends on nothing else. */
enum mail_outcome {
    MAIL_ACCEPTED,      /* the server took responsibility */
    MAIL_TRANSIENT,     /* certainly not accepted; try again later */
    MAIL_PERMANENT,     /* refused for good; this message only */
    MAIL_CONFIGURATION, /* login, TLS, certificate: every message would fail; tell a person */
    MAIL_AMBIGUOUS      /* all bytes were handed out and no reply came: it may have been accepted */
};

/* What the outcome is in the words of everything else; ST_DENIED for MAIL_CONFIGURATION. */
enum status mail_outcome_status(enum mail_outcome outcome);

struct mail_settings {
    struct span url;      /* smtps://host:465, smtp://host:587, maildir:PATH */
    struct span user;     /* blank: no login */
    struct span password; /* a secret, copied */
    struct secret
        *live; /* NULL, or where the password comes from instead; borrowed, looked at before each mail */
    struct span hello;        /* EHLO name */
    struct span ca_file;      /* blank: the system's certificates */
    bool tls_off;             /* only for localhost or a loopback address; refused otherwise */
    int64_t reply_wait_ms;    /* for the reply to the message; 0: WAIT_SMTP_REPLY_MS */
    const _Atomic bool *stop; /* may be NULL; set, it breaks off what has not reached its final bytes */
};

struct mail_transport;

/* ST_INVALID says which setting is wrong and how. */
MUST_CHECK enum status mail_transport_new(const struct mail_settings *settings,
                                          struct mail_transport **transport, struct fail *why);
void mail_transport_free(struct mail_transport *transport);

/* Whether the password has been replaced since the last mail. */
bool mail_has_new_password(const struct mail_transport *transport);

/* Called once, when everything but the last bytes of the message has been
 * handed out.  false: stop, nothing was accepted (outcome MAIL_TRANSIENT). */
typedef bool mail_fence(void *context);

/* Sends the message from `from` to the one recipient `to` (bare addresses).
 * message is 7-bit with CRLF line ends and lines of at most 998 characters;
 * anything else is MAIL_PERMANENT.  A Maildir gets it with LF line ends, and
 * once only, however often a message with the same Message-ID is sent.
 * fence may be NULL.  Unless accepted, *why says what happened, with the
 * reply code in why->peer; addresses in the server's words are removed. */
MUST_CHECK enum mail_outcome mail_send(struct mail_transport *transport, struct span from, struct span to,
                                       struct span message, mail_fence *fence, void *context,
                                       struct fail *why);

/* The same for a message whose last attempt was MAIL_AMBIGUOUS: a server that
 * refuses it because it has this Message-ID already has accepted it. */
MUST_CHECK enum mail_outcome mail_send_again(struct mail_transport *transport, struct span from,
                                             struct span to, struct span message, mail_fence *fence,
                                             void *context, struct fail *why);

/* When the server's certificate ends, as the last mail_probe has seen it; 0: not known, or without TLS. */
int64_t mail_certificate_end_ms(const struct mail_transport *transport);

/* Connects, verifies TLS and logs in, sends nothing (Maildir: creates it and
 * tries to write).  For `leadctl check`. */
MUST_CHECK enum mail_outcome mail_probe(struct mail_transport *transport, struct fail *why);

#endif
