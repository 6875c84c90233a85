/* fastcgi.h - the FastCGI side: threads that accept, read, hand on and answer.
 *
 * libfcgi is known in fastcgi.c alone.  The socket is a trusted interface: only
 * nginx may be able to open it, because libfcgi does not bound what it is sent.
 */
#ifndef LEAD_FASTCGI_H
#define LEAD_FASTCGI_H

#include "handler/listener.h"
#include "handler/metrics.h"
#include "handler/reply.h"
#include "handler/request.h"

/* What a thread does with requests: handle fills *reply with one of the builders
 * of reply.h.  begin is called before the threads start, the others in the thread. */
struct request_handler {
    void *(*begin)(void *shared); /* the thread's own context; NULL: no memory */
    void (*handle)(void *context, const struct request *request, struct reply *reply);
    void (*after)(void *context); /* the answer has left; nobody waits any more */
    void (*end)(void *context);
    void *shared;
};

struct fastcgi_options {
    const struct listener *listener;
    const struct request_handler *handler;
    struct metrics *metrics;
    unsigned int threads;
    size_t body_max_bytes;
};

struct fastcgi;

/* Starts the threads; keeps the listener and the handler until they have ended.
 * All signals must be blocked in the calling thread, SIGPIPE is ignored from
 * here on.  A connection serves one request, also when its peer asks to keep it:
 * an idle peer must not own a thread.  A peer that neither sends nor takes a byte
 * for WAIT_PEER_MS is given up. */
MUST_CHECK enum status fastcgi_start(const struct fastcgi_options *options, struct fastcgi **fastcgi,
                                     struct fail *why);

/* Accepts no more, finishes what was accepted, at most wait_ms; then frees.  A
 * request that is not whole WAIT_LAST_BYTES_MS after its connection was accepted
 * is broken off.  false: a thread is still busy.  Nothing was freed then: call it
 * again, or end the process. */
MUST_CHECK bool fastcgi_stop(struct fastcgi *fastcgi, int64_t wait_ms);

#endif
