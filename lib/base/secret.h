/* secret.h - a secret text that may be replaced while threads use it.
 *
 * Who works with the secret keeps a copy and its version, and copies it anew
 * when the version has changed.  Texts that are replaced are wiped.
 * Threads: safe.
 */
#ifndef LEAD_SECRET_H
#define LEAD_SECRET_H

#include "lib/base/buf.h"

struct secret;

MUST_CHECK enum status secret_new(struct span text, struct secret **secret, struct fail *why);
void secret_free(struct secret *secret); /* wipes; NULL is allowed */

/* A number that changes with every replacement. */
unsigned int secret_version(const struct secret *secret);

/* Appends the text of now and tells its version. */
MUST_CHECK enum status secret_copy(struct secret *secret, struct buf *out, unsigned int *version,
                                   struct fail *why);

/* Makes from's text the one of now, and frees from. */
void secret_replace(struct secret *secret, struct secret *from);

#endif
