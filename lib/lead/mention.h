/* mention.h - whether bytes that nobody has understood hold an e-mail address.
 *
 * For payloads that are kept raw.  An address is found as it is and in the
 * notations of JSON strings (\u0040), URLs and forms (%40), also where one is
 * written within the other, and in UTF-16; ASCII letters of either case are
 * the same.  It is not found within a longer address (ana@example.com in
 * joana@example.com or ana@example.com.au), nor where it is compressed,
 * encrypted or in base64: this is a search, and no proof of absence.  Behind a
 * plus sign it is found, as forms write a blank so: joe+ana@example.com is taken
 * for ana@example.com.
 * Threads: no shared state.
 */
#ifndef LEAD_MENTION_H
#define LEAD_MENTION_H

#include "lib/base/buf.h"

/* address: without blanks at its ends, and not blank.  ST_NOMEM only. */
MUST_CHECK enum status mention_find(struct span bytes, struct span address, bool *found, struct fail *why);

#endif
