/* lines.h - the lines of a file or a pipe, one after the other, in bounded memory. */
#ifndef LEAD_LINES_H
#define LEAD_LINES_H

#include "lib/base/buf.h"

struct lines {
    int fd;
    struct buf memory; /* what was read and is not used yet, and the line given last */
    size_t most;
    size_t used;     /* of memory: the lines that were given */
    uint64_t number; /* of the line given last */
    uint64_t bytes;  /* of the input that lines given so far have taken, with their ends */
    bool is_ended;   /* the input */
};

/* fd is the caller's.  No line may be longer than most. */
void lines_begin(struct lines *lines, int fd, size_t most);
void lines_release(struct lines *lines);

/* The next line without its end, until the next call.  ST_NOT_FOUND: there is none.
 * ST_INVALID: the input ends within a line; *line is what there is of it.
 * ST_TOO_LARGE: the line is too long and was passed over; the next call gives the next one.  ST_IO, ST_NOMEM. */
MUST_CHECK enum status lines_next(struct lines *lines, struct span *line, struct fail *why);

#endif
