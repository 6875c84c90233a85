/* exchange.h - the FastCGI protocol on one connection (FastCGI Specification 1.0, 29 April 1996): records in, a request
 * out; an answer in, records out.
 *
 * Bytes only: whoever owns the connection reads them, hands them on and writes
 * what is in out.  All is bounded: parameters by LIMIT_PARAMETERS_BYTES, the body
 * by body_max, what is to be written by LIMIT_REPLY_BYTES and the largest answer.
 *
 * We are a Responder (6.2).  One request at a time: a second one is refused with
 * FCGI_CANT_MPX_CONN.  Records of requests that are not there are left out (3.3).
 * Management records are answered (4).
 * Threads: one owner at a time.
 */
#ifndef LEAD_EXCHANGE_H
#define LEAD_EXCHANGE_H

#include "handler/reply.h"
#include "handler/request.h"
#include "lib/base/buf.h"

enum {
    RECORD_HEAD_BYTES = 8,       /* 3.3 */
    RECORD_CONTENT_BYTES = 65535 /* the longest */
};

enum exchange_state {
    EXCHANGE_READING, /* goes on with the next bytes */
    EXCHANGE_WHOLE,   /* there is a request; exchange_answer comes next */
    EXCHANGE_OVER,    /* nothing more than writing out */
    EXCHANGE_BROKEN   /* the peer does not keep to the protocol, or to our limits */
};

struct exchange {
    struct buf out; /* to be written */

    /* The exchange's own. */
    size_t body_max;
    unsigned int requests_max; /* what FCGI_GET_VALUES tells */
    enum exchange_state state;
    bool keeps;          /* the peer wants to use the connection again (FCGI_KEEP_CONN) */
    bool has_request;    /* between FCGI_BEGIN_REQUEST and the answer (2.2: active) */
    bool has_parameters; /* FCGI_PARAMS has ended */
    unsigned int request_id;
    struct buf parameters;
    enum body_state body_state;
    size_t body_len; /* what CONTENT_LENGTH says */
    struct buf body;

    /* The record that is being read. */
    unsigned char head[RECORD_HEAD_BYTES];
    size_t head_len;
    size_t content_left;
    size_t padding_left;
    unsigned char control[LIMIT_CONTROL_BYTES]; /* the content of records that are no streams */
    size_t control_len;
};

void exchange_init(struct exchange *x, size_t body_max, unsigned int requests_max);
void exchange_release(struct exchange *x);

/* For the next request on the connection; keeps memory of ordinary size. */
void exchange_next(struct exchange *x);
/* For the next connection. */
void exchange_reset(struct exchange *x);

/* Takes all the bytes. */
enum exchange_state exchange_take(struct exchange *x, struct span bytes);

/* The request of EXCHANGE_WHOLE.  Borrowed until exchange_next. */
void exchange_request(const struct exchange *x, struct request *request);

/* What the answer says of the connection to a peer that keeps it. */
enum exchange_future { EXCHANGE_STAYS, EXCHANGE_SHALL_END };

/* Appends the answer and the end of the request (5.5) to out; out->error: it did not fit. */
void exchange_answer(struct exchange *x, const struct reply *reply, enum exchange_future future);

#endif
