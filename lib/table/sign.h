/* sign.h - authorization for the Table service with the account's key.
 *
 * Two pure steps, so that tests compare each with published vectors: the text
 * that is signed, and the header made from it.  No clock, no I/O.
 * Specification: "Authorize with Shared Key", the parts on the Table service.
 * The date is the one sent as x-ms-date; sign again for every attempt, the
 * service refuses dates more than 15 minutes off.
 * SharedKeyLite is what the client sends.  SharedKey signs the verb and the
 * type besides, which TLS protects anyway; it is here for services that insist.
 * Memory: appends to the caller's buffers, which carry overflow.
 */
#ifndef LEAD_SIGN_H
#define LEAD_SIGN_H

#include "lib/table/account.h"

enum sign_scheme { SIGN_SHARED_KEY_LITE, SIGN_SHARED_KEY };

struct sign_request {
    struct span method;       /* in upper case */
    struct span content_type; /* as sent; blank when none is sent */
    struct span date;         /* the value of x-ms-date */
    struct span target;       /* path of the URL, '?' and query, exactly as they are sent */
};

void sign_text(struct buf *text, enum sign_scheme scheme, struct span account_name,
               const struct sign_request *request);

/* Appends "SharedKeyLite account:signature", the value of the Authorization header.  ST_NOMEM. */
MUST_CHECK enum status sign_header(struct buf *header, enum sign_scheme scheme,
                                   const struct table_account *account, struct span text, struct fail *why);

#endif
