/* keys.h - who may send leads: named keys, compared in constant time.
 *
 * The key file has one `name key` per line; lines that begin with `#` are
 * comments.  Two keys may be live per name, so that a key can be replaced
 * without losing a request.
 * Only SHA-256 digests are kept.  A struct keys does not change after it was
 * read; threads may share it.
 */
#ifndef LEAD_KEYS_H
#define LEAD_KEYS_H

#include "lib/base/buf.h"

struct keys;

/* Reads the file, which must not be accessible to others.  On ST_INVALID each
 * mistake is a line "FILE:LINE: what is wrong" in *mistakes; *why has the first
 * one or what kept the file from being read. */
MUST_CHECK enum status keys_read(const char *path, struct keys **keys, struct buf *mistakes,
                                 struct fail *why);
void keys_free(struct keys *keys);

size_t keys_count(const struct keys *keys);

/* The name of the key, or NULL.  The time does not depend on which key it is or
 * whether it is one; the name lives as long as keys. */
const char *keys_match(const struct keys *keys, struct span presented);

#endif
