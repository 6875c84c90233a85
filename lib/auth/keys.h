/* keys.h - who may send leads: named keys, compared in constant time.
 *
 * The key file has one `name key` per line; lines that begin with `#` are
 * comments.  Two keys may be live per name, so that a key can be replaced
 * without losing a request.
 * Only SHA-256 digests are kept.  A struct keys does not change after it was
 * read; threads may share it.  A struct key_ring holds the keys of now, which
 * may be replaced while threads match with them.
 */
#ifndef LEAD_KEYS_H
#define LEAD_KEYS_H

#include "lib/base/buf.h"
#include "lib/base/limits.h"

struct keys;

/* Reads the file, which must not be accessible to others.  On ST_INVALID each
 * mistake is a line "FILE:LINE: what is wrong" in *mistakes; *why has the first
 * one or what kept the file from being read. */
MUST_CHECK enum status keys_read(const char *path, struct keys **keys, struct buf *mistakes,
                                 struct fail *why);
void keys_free(struct keys *keys);

size_t keys_count(const struct keys *keys);

/* *name becomes the name of the key and lives as long as keys.  ST_DENIED: it is
 * nobody's; ST_NOMEM: that could not be found out.  The time does not depend on
 * which key it is or whether it is one. */
MUST_CHECK enum status keys_match(const struct keys *keys, struct span presented, const char **name,
                                  struct fail *why);

struct key_ring;

/* Takes the keys over, also when it fails. */
MUST_CHECK enum status key_ring_new(struct keys *keys, struct key_ring **ring, struct fail *why);
void key_ring_free(struct key_ring *ring); /* nobody uses it any more */

/* From here on these keys are good and no others.  Takes them over; those before
 * are wiped when the last match with them is done. */
void key_ring_replace(struct key_ring *ring, struct keys *keys);

/* As keys_match, with the keys of now; the name is copied. */
MUST_CHECK enum status key_ring_match(struct key_ring *ring, struct span presented,
                                      char name[LIMIT_KEY_NAME_BYTES + 1], struct fail *why);

#endif
