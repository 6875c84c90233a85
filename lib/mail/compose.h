/* compose.h - the messages that leadhook sends, for one recipient each, as bytes:
 * the notification about a lead, the operator's alarm, and a report about many leads.
 *
 * Deterministic: the same input gives the same message (Date, Message-ID and
 * boundary come from the delivery or the alarm), so that every attempt of any
 * host sends the same bytes.  The result is pure 7-bit with CRLF line ends, no line over 78
 * characters in headers and 76 in bodies, no line that begins with a dot.  (Only
 * the line of an address or Message-ID is longer when those alone are.)
 * Specifications: RFC 5322, 2045-2047, 3834.
 * Nothing of the lead reaches a header but the cleaned, encoded subject and a
 * Reply-To that passes mail_address_is_safe.
 */
#ifndef LEAD_COMPOSE_H
#define LEAD_COMPOSE_H

#include "lib/lead/lead.h"
#include "lib/mail/address.h"

enum mail_detail { MAIL_FULL, MAIL_SUMMARY /* no personal data, only what to look up */ };
enum mail_reason { MAIL_NEW_LEAD, MAIL_CAME_BACK };

/* An earlier lead of the same person in the same offer, newest first. */
struct earlier_lead {
    int64_t received_ms;
    struct span action;
    struct span description;
    struct span delivery_id;
};

struct notification {
    const struct lead *lead; /* partition says which offer when there is no title */
    enum mail_reason reason;
    enum mail_detail detail;
    struct span delivery_id; /* 32 hexadecimal digits of the delivery that is told of */
    struct span request_id;  /* the web server's name for it; blank, or of another form: not told */
    int64_t received_ms;     /* of that delivery; the message's Date */
    int64_t first_received_ms;
    int32_t deliveries;
    unsigned int recipient_number;
    const struct mail_address *from;
    struct span to; /* checked by mail_address_parse when configured */
    const struct earlier_lead *earlier;
    size_t earlier_count; /* at most LIMIT_MAIL_HISTORY */
};

/* Appends the message.  ST_INVALID: an address or the delivery's id must not be
 * in a header.  ST_TOO_LARGE, ST_NOMEM: the buffer's; with LIMIT_MAIL_BYTES the
 * longest fields fit, because each is cut where the reader is told so. */
MUST_CHECK enum status mail_compose(struct buf *out, const struct notification *n, struct fail *why);

/* Something that a person has to know.  No text in it is personal data. */
struct alarm_notice {
    struct span event;    /* a word of lower-case letters, digits and '-' */
    struct span day;      /* "2026-11-21", or more digits: with event and recipient it makes the Message-ID */
    int64_t received_ms;  /* since when; the message's Date */
    struct span title;    /* for the subject; the time is put behind it unless lasts */
    struct span happened; /* what happened, as the raiser told it; may have several lines */
    struct span meaning;
    struct span action; /* what to do */
    bool lasts;         /* as alarm_words says */
    bool is_trial;      /* nothing has happened: somebody tries whether mail arrives */
    struct span host;
    unsigned int recipient_number;
    const struct mail_address *from;
    struct span to; /* checked by mail_address_parse when configured */
};

/* Appends the alarm as plain text.  ST_INVALID: an address, the event or the day
 * must not be in a header.  ST_TOO_LARGE, ST_NOMEM: the buffer's. */
MUST_CHECK enum status mail_compose_alarm(struct buf *out, const struct alarm_notice *n, struct fail *why);

/* A page about leads, which goes along as a file. */
struct report_notice {
    struct span
        id; /* letters, digits and '-': with the recipient it makes the Message-ID and, with ".html" behind
                            it, the file's name */
    int64_t made_ms;     /* the message's Date */
    struct span subject; /* our own words */
    struct span text;    /* the same; lines end in \n */
    struct span page;    /* HTML */
    unsigned int recipient_number;
    const struct mail_address *from;
    struct span to; /* checked by mail_address_parse when configured */
};

/* Appends the message.  ST_INVALID: an address or the id must not be in a header.  ST_TOO_LARGE, ST_NOMEM: the
 * buffer's; LIMIT_REPORT_MAIL_BYTES are enough for LIMIT_REPORT_BYTES of page. */
MUST_CHECK enum status mail_compose_report(struct buf *out, const struct report_notice *n, struct fail *why);

#endif
