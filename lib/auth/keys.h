/* keys.h - who may send leads: named keys and signing secrets, compared in constant time.
 *
 * The key file has one of these per line; lines that begin with `#` are comments.
 *
 *     name key                 a key as it is presented
 *     name sha256:HEX          the SHA-256 of a key, 64 lower-case hexadecimal digits
 *     name whsec_BASE64        a signing secret of the Standard Webhooks, 24 to 64 bytes
 *
 * After any of the three `created=TIME` and `retire=TIME` may stand, in RFC 3339
 * and UTC (2026-11-21T10:00:00Z).  created is for people.  From the instant of
 * retire on what stands there opens nothing, without a reload.
 * Two keys and two signing secrets may be live per name, so that each can be
 * replaced without losing a request; lines that have retired do not count.
 *
 * Of keys only SHA-256 digests are kept; of signing secrets the bytes, until they
 * are wiped.  A struct keys does not change after it was read; threads may share
 * it.  A struct key_ring holds the keys of now, which may be replaced while
 * threads match with them.  All times are milliseconds since 1970 (clock.h).
 */
#ifndef LEAD_KEYS_H
#define LEAD_KEYS_H

#include "lib/auth/signature.h"
#include "lib/base/buf.h"
#include "lib/base/crypto.h"
#include "lib/base/limits.h"

/* --- one line ------------------------------------------------------------------------------------------- */

enum key_kind {
    KEY_NOTHING, /* a blank line or a comment */
    KEY_PLAIN,
    KEY_HASHED,
    KEY_SIGNING
};

#define KEY_NEVER INT64_MAX

struct key_line {
    enum key_kind kind;
    struct span name;    /* spans lie in the line */
    struct span key;     /* the second word, as it stands there */
    struct span created; /* the TIME of created=; blank: not said */
    int64_t created_ms;  /* 0: not said */
    int64_t retire_ms;   /* KEY_NEVER: not said */
    unsigned char
        bytes[LIMIT_SIGNING_SECRET_BYTES]; /* of a key its SHA-256; of a signing secret the secret */
    size_t byte_count;
};

/* Reads one line, without its end.  ST_INVALID: why->text says what is wrong and
 * shows nothing of the key; ST_NOMEM.  Whoever is done with *parsed wipes it
 * (crypto_wipe); on a failure there is nothing in it. */
MUST_CHECK enum status key_line_parse(struct span line, struct key_line *parsed, struct fail *why);

/* --- a file ---------------------------------------------------------------------------------------------- */

struct keys;

/* Reads the file, which must not be accessible to others.  On ST_INVALID each
 * mistake is a line "FILE:LINE: what is wrong" in *mistakes; *why has the first
 * one or what kept the file from being read.  now_ms says what has retired. */
MUST_CHECK enum status keys_read(const char *path, int64_t now_ms, struct keys **keys, struct buf *mistakes,
                                 struct fail *why);

/* As keys_read, with the content that the file at path has or shall have. */
MUST_CHECK enum status keys_parse(struct span text, const char *path, int64_t now_ms, struct keys **keys,
                                  struct buf *mistakes, struct fail *why);

void keys_free(struct keys *keys);

/* How many keys and signing secrets are live then. */
size_t keys_count(const struct keys *keys, int64_t now_ms);

/* A key or signing secret that has an end before it. */
struct key_end {
    const char *name; /* lives as long as keys */
    bool is_signing;
    int64_t retire_ms;
    bool has_other; /* the name has another live one of its kind, which ends later or never */
};

/* Gives those that are live then and have an end, one with each call; *index is 0 at first.  false: no more. */
bool keys_next_end(const struct keys *keys, int64_t now_ms, size_t *index, struct key_end *end);

/* *name becomes the name of the key and lives as long as keys.  ST_DENIED: it is
 * nobody's, or has retired; ST_NOMEM: that could not be found out.  The time does
 * not depend on which key it is or whether it is one. */
MUST_CHECK enum status keys_match(const struct keys *keys, struct span presented, int64_t now_ms,
                                  const char **name, struct fail *why);

/* As keys_match, for a signed request: the name of the live signing secret that
 * made one of its signatures.  of: only secrets of that name; NULL: of any.
 * ST_DENIED too where the headers have not the form, or are not of now; why says
 * which.  The arena gets a copy of the body. */
MUST_CHECK enum status keys_verify(const struct keys *keys, const struct signed_request *request,
                                   const char *of, int64_t now_ms, struct arena *arena, const char **name,
                                   struct fail *why);

/* What a request presents; what is blank it does not. */
struct credentials {
    struct span key;
    struct signed_request signed_request; /* signature says whether it carries one */
};

/* Who sent it. */
struct holder {
    char name[LIMIT_KEY_NAME_BYTES + 1];
    bool is_signed; /* a signature was verified, and with it id and body */
};

/* --- keys that are replaced ------------------------------------------------------------------------------ */

struct key_ring;

/* Takes the keys over, also when it fails. */
MUST_CHECK enum status key_ring_new(struct keys *keys, struct key_ring **ring, struct fail *why);
void key_ring_free(struct key_ring *ring); /* nobody uses it any more */

/* From here on these keys are good and no others.  Takes them over; those before
 * are wiped when the last match with them is done. */
void key_ring_replace(struct key_ring *ring, struct keys *keys);

/* Judges a request by the keys of now.  A key must be good.  A signature alone
 * must be that of any live secret; one that comes with a key must be that of a
 * live secret of the key's name, or, where that name has none, is not looked at.
 * Statuses as keys_match and keys_verify. */
MUST_CHECK enum status key_ring_authorize(struct key_ring *ring, const struct credentials *credentials,
                                          int64_t now_ms, struct arena *arena, struct holder *holder,
                                          struct fail *why);

#endif
