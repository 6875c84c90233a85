/* address.h - mail addresses: what may stand in an envelope and in a header.
 *
 * libcurl 7.88.1 puts CR and LF in addresses on the wire as they are; so nothing
 * reaches it that did not pass here.  Pure functions.
 */
#ifndef LEAD_ADDRESS_H
#define LEAD_ADDRESS_H

#include "lib/base/span.h"
#include "lib/base/status.h"

struct mail_address {
    struct span name;    /* display name, may be blank */
    struct span address; /* local@domain */
};

/* Reads "a@b" or "Name <a@b>" from a setting.  ST_INVALID says what is wrong. */
MUST_CHECK enum status mail_address_parse(struct span text, struct mail_address *address, struct fail *why);

/* Reads a list of such addresses, with commas between them, for envelopes: at least one and at most LIMIT_RECIPIENTS,
 * which borrow from the text, and none twice.  ST_INVALID says what is wrong, and names nobody.  Nothing is written to
 * *count then. */
MUST_CHECK enum status mail_recipients_parse(struct span text, struct span list[], size_t *count,
                                             struct fail *why);

/* The strict form that may be used as Reply-To: ASCII, dot-atom local part of at
 * most 64 characters without '%' and '!', a domain of letters, digits and
 * hyphens with at least one dot, at most LIMIT_MAIL_ADDRESS_BYTES; no "=?" and
 * no "xn--", which mail programs may show as something else. */
bool mail_address_is_safe(struct span address);

/* The part behind the last '@'; blank when there is none. */
struct span mail_address_domain(struct span address);

#endif
