/* json_read.h - the only reader of JSON; yajl is known here and in json_write.
 *
 * Reads one JSON text (RFC 8259) into a tree in the caller's arena.  Depth and
 * number of values are bounded, there is no recursion over the input.  Stricter
 * than yajl 2.1.0 in what it lets through: strict UTF-8 in every decoded name
 * and string, no lone surrogate escapes, no U+0000, the top is an object.
 * Numbers keep their text: nothing is converted, so nothing is lost.
 * Memory: all of it in the arena; spans may also point into the input, which
 * must live as long as the tree.  Threads: no shared state.
 */
#ifndef LEAD_JSON_READ_H
#define LEAD_JSON_READ_H

#include "lib/base/arena.h"
#include "lib/base/status.h"

enum json_kind { JSON_NULL, JSON_TRUE, JSON_FALSE, JSON_NUMBER, JSON_STRING, JSON_OBJECT, JSON_ARRAY };

struct json {
    enum json_kind kind;
    struct span name;   /* in an object: the member's name, decoded */
    struct span text;   /* JSON_STRING: decoded text; JSON_NUMBER: as written */
    struct json *first; /* JSON_OBJECT, JSON_ARRAY: its members in order */
    struct json *next;  /* the next member of the same parent */
};

struct json_limits {
    size_t depth;
    size_t values;
};

/* ST_INVALID: not one well-formed JSON object.  ST_TOO_LARGE: depth (at most
 * LIMIT_JSON_DEPTH) or number of values.  ST_NOMEM: the arena is used up.
 * *offset (may be NULL) is where the first thing that cannot stand there begins
 * (for a missing comma: the next name), the offending byte inside a string, or
 * the length of a text that ends too early.  The message quotes nothing of it. */
MUST_CHECK enum status json_read(struct span text, const struct json_limits *limits, struct arena *arena,
                                 const struct json **top, size_t *offset, struct fail *why);

/* The first member of that exact name, or NULL. object may be NULL. */
const struct json *json_member(const struct json *object, const char *name);

/* The text of a string or number member; empty when missing or of another kind. */
struct span json_text(const struct json *object, const char *name);

#endif
