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

/* The strict form that may be used as Reply-To: ASCII, dot-atom local part of at
 * most 64 characters without '%' and '!', a domain of letters, digits and
 * hyphens with at least one dot, at most LIMIT_MAIL_ADDRESS_BYTES. */
bool mail_address_is_safe(struct span address);

/* The part behind the last '@'; blank when there is none. */
struct span mail_address_domain(struct span address);

#endif
