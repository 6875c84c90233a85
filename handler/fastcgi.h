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

/* What a thread does with requests.  All are called in that thread. */
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

/* Starts the threads.  All signals must be blocked in the calling thread. */
MUST_CHECK enum status fastcgi_start(const struct fastcgi_options *options, struct fastcgi **fastcgi,
                                     struct fail *why);

/* Accepts no more, finishes what was accepted, at most wait_ms.  false: a thread
 * is still busy, and the process should end without freeing what it uses. */
MUST_CHECK bool fastcgi_stop(struct fastcgi *fastcgi, int64_t wait_ms);

#endif
