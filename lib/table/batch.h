/* batch.h - entity group transactions as text: the body sent to $batch and the
 * answer to it.
 *
 * Specification: "Performing entity group transactions", and what the real
 * service and Azurite were seen to send.  Pure functions: no clock, no
 * randomness, no I/O.
 */
#ifndef LEAD_BATCH_H
#define LEAD_BATCH_H

#include "lib/table/entity.h"

enum { BATCH_ID_BYTES = 37 }; /* a UUID as text */

struct batch {
    char id[BATCH_ID_BYTES]; /* makes the boundaries batch_<id> and changeset_<id> */
    struct span table_url;   /* absolute */
    bool posts_merge;        /* Cosmos DB: POST and X-HTTP-Method instead of MERGE */
    const struct operation *operations;
    size_t count;
};

/* Appends the body.  ST_INVALID and ST_TOO_LARGE with *failed: that operation
 * cannot be written, or does not fit into the buffer although it is alone;
 * NO_INDEX when they do not fit together. */
MUST_CHECK enum status batch_write(struct buf *body, const struct batch *batch, size_t *failed,
                                   struct fail *why);

/* What an answer says.  Only what is beyond doubt is BATCH_DONE or BATCH_FAILED:
 * all of count operations with a 2xx, or one with an error, which means that none took
 * effect.  A truncated, garbled or foreign answer is BATCH_UNCLEAR. */
enum batch_outcome { BATCH_DONE, BATCH_FAILED, BATCH_UNCLEAR };

struct batch_answer {
    enum batch_outcome outcome;
    int code;          /* BATCH_FAILED: the HTTP status of the operation that failed, */
    struct span error; /* and the body that came with it; points into the answer */
};

/* content_type is the header of the answer, which came with 202. */
void batch_read(struct span content_type, struct span body, size_t count, struct batch_answer *answer);

#endif
