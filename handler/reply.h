/* reply.h - answers: what is sent back, and which failure becomes which status code.
 *
 * Errors are application/problem+json (RFC 9457).  Nothing of the request's body
 * and no name of ours' inner parts gets into an answer.
 */
#ifndef LEAD_REPLY_H
#define LEAD_REPLY_H

#include "lib/base/buf.h"
#include "lib/base/limits.h"

enum { RETRY_AFTER_S = 30 }; /* what we ask a sender to wait unless the store has asked for more */

struct reply {
    int code; /* HTTP status */
    const char *content_type;
    const char *allow;        /* for 405 */
    int retry_after_s;        /* for 503 and 429; 0: no header */
    const char *authenticate; /* for 401 */
    struct span location;     /* nginx's, which sends the body in our place; blank: we do */
    struct buf body;
};

#define REPLY_INIT ((struct reply){.body = BUF_INIT(LIMIT_REPLY_BODY_BYTES)})

void reply_reset(struct reply *reply); /* keeps a body's memory of ordinary size */
void reply_release(struct reply *reply);

/* Makes room for the answer before there is something to tell that must be told:
 * the two below do not fail after it.  Without memory: makes a 503 without a body. */
MUST_CHECK bool reply_reserve(struct reply *reply);

/* 200 or 202 with {"status":...,"id":...}. */
void reply_accepted(struct reply *reply, int code, const char *status, const char *id);

struct problem {
    int code;
    const char *detail;
    struct span request_id; /* blank: left out */
    bool has_offset;
    size_t offset;  /* byte of the body */
    const char *id; /* of what was kept in quarantine, or NULL */
    const char *allow;
    int retry_after_s;
    struct span location; /* as in struct reply; borrowed until the reply is written */
};
void reply_problem(struct reply *reply, const struct problem *problem);

void reply_text(struct reply *reply, int code, const char *content_type, struct span text);

/* Which status code a failure to store is: the one place where this is decided. */
int reply_code_of(enum status status);

/* Appends the answer as a CGI response: header lines, a blank line, the body. */
void reply_write(struct buf *out, const struct reply *reply);

#endif
