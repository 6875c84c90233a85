/* signature.h - signatures of the Standard Webhooks (https://www.standardwebhooks.com, version 1.0.0).
 *
 * A sender signs "id.timestamp.body" with HMAC-SHA-256 and a secret that both
 * know, and sends three headers: webhook-id, webhook-timestamp (seconds since
 * 1970) and webhook-signature, a list of `v1,BASE64` separated by spaces.  What
 * is of another version in it is passed over.
 * The steps are apart so that what needs no secret is judged first.  Pure, no
 * clock.  Threads: no shared state.
 */
#ifndef LEAD_SIGNATURE_H
#define LEAD_SIGNATURE_H

#include "lib/base/arena.h"
#include "lib/base/status.h"

/* As it came: the headers may be of any length and hold any bytes. */
struct signed_request {
    struct span id;
    struct span timestamp;
    struct span signature;
    struct span body;
};

#define SIGNATURE_TOLERANCE_S 300 /* how far the timestamp may be from our clock, either way */

/* Whether the headers have the form of the specification, hold a signature of
 * version v1, and are of now.  The id must be 1 to 255 visible ASCII characters
 * without '.', so that what was signed can be taken apart in one way only.
 * ST_DENIED: why->text says what is wrong, and shows nothing of it. */
MUST_CHECK enum status signature_check_form(const struct signed_request *request, int64_t now_ms,
                                            struct fail *why);

/* The text that is signed, in the arena; its ptr is NULL without memory. */
struct span signature_text(const struct signed_request *request, struct arena *arena);

/* *matches: whether one of the signatures is that of the text and the secret.
 * Must have the form checked above.  The time does not depend on whether or
 * where one matches.  ST_NOMEM. */
MUST_CHECK enum status signature_compare(struct span signatures, struct span text, struct span secret,
                                         bool *matches, struct fail *why);

#endif
