/* request.h - one request as the pipeline sees it, whatever brought it, and who serves it.
 *
 * Spans are borrowed until the reply was sent.  fastcgi and cgi fill it in with
 * the two functions below and have bounded every part; a request that was cut
 * off never gets to the pipeline.
 */
#ifndef LEAD_REQUEST_H
#define LEAD_REQUEST_H

#include "lib/base/limits.h"
#include "lib/base/span.h"

/* What is known about the body before anybody looks at it. */
enum body_state {
    BODY_COMPLETE,  /* body has CONTENT_LENGTH bytes (0 when there was none) */
    BODY_TOO_LARGE, /* CONTENT_LENGTH is over body_max_bytes; nothing was read */
    BODY_BAD_LENGTH /* CONTENT_LENGTH is not a number; nothing was read */
};

struct request {
    struct span method;
    struct span path;  /* SCRIPT_NAME */
    struct span query; /* QUERY_STRING, still encoded */
    struct span content_type;
    struct span lead_key;      /* X-Lead-Key */
    struct span authorization; /* Authorization */
    struct span webhook_id;    /* these three as they came: lib/auth/signature.h bounds them */
    struct span webhook_timestamp;
    struct span webhook_signature;
    struct span request_id; /* nginx's, or blank */
    struct span denied;     /* nginx's location that answers 401 for us, with its "@"; or blank */
    enum body_state body_state;
    struct span body;
};

/* The value of a CGI variable; ptr is NULL where there is none. */
typedef struct span request_variable(const void *from, const char *name);

/* Fills in everything but the body.  What is over its limit is left blank: a
 * blank method or path is refused, a blank key opens nothing.  A signature that
 * is too long must not look like none, so it stays. */
void request_fill(struct request *request, request_variable *variable, const void *from);

/* What CONTENT_LENGTH says, read strictly; *len is the number of bytes to read,
 * 0 unless the result is BODY_COMPLETE. */
enum body_state request_body_length(struct span content_length, size_t max, size_t *len);

struct reply;

/* Who serves requests.  A context is for one request at a time. */
struct request_handler {
    void *(*begin)(void *shared); /* a context; NULL: no memory */
    /* Calls on_answered once, when *reply is filled in with one of the builders of
     * reply.h: before it returns, or later from another thread.  Request and reply
     * stay until then.  Must not block. */
    void (*handle)(void *context, const struct request *request, struct reply *reply,
                   void (*on_answered)(void *whose), void *whose);
    void (*after)(void *context); /* the answer has left; nobody waits any more */
    /* Now and then while requests are being handled; true: once more also when there are none. */
    bool (*tick)(void *shared);
    void (*end)(void *context);
    void *shared;
};

#endif
