/* json_write.h - the only writer of JSON: one object, compact, into a buffer; objects may be members of it.
 *
 * Calls build the text in order; errors stick and are reported by json_end.
 * One line (Azurite's batch parser needs that), UTF-8 as it is, control
 * characters escaped.  Memory: appends to the caller's buffer.
 */
#ifndef LEAD_JSON_WRITE_H
#define LEAD_JSON_WRITE_H

#include "lib/base/buf.h"

struct json_writer {
    struct buf *out;
    enum status error;
    unsigned int depth; /* open objects within the object */
    bool is_first;      /* the next member needs no comma */
};

/* Begins the object. */
void json_begin(struct json_writer *w, struct buf *out);
void json_add_text(struct json_writer *w, struct span name, struct span value);
void json_add_number(struct json_writer *w, struct span name, int64_t value);
void json_add_bool(struct json_writer *w, struct span name, bool value);
/* Members that follow are of an object of this name, up to json_close. */
void json_open(struct json_writer *w, struct span name);
void json_close(struct json_writer *w);
/* Ends the object.  ST_INVALID: a text was not UTF-8.
 * ST_TOO_LARGE, ST_NOMEM: the buffer's. */
MUST_CHECK enum status json_end(struct json_writer *w, const char *what, struct fail *why);

#endif
