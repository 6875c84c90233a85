/* fastcgi.h - the FastCGI side: one thread that accepts connections, reads requests and hands them on.
 *
 * The protocol is in exchange.h; here are sockets and time.  A request is handled
 * in this thread as long as nothing has to be waited for, and answered from
 * whichever thread knows the answer.
 *
 * The socket is a trusted interface all the same: only nginx may be able to open
 * it, because who can may say who sent a request.
 */
#ifndef LEAD_FASTCGI_H
#define LEAD_FASTCGI_H

#include "handler/listener.h"
#include "handler/metrics.h"
#include "handler/request.h"

struct fastcgi_options {
    const struct listener *listener;
    const struct request_handler *handler;
    struct metrics *metrics;
    unsigned int connections; /* at the same time; more wait in the listener's queue */
    size_t body_max_bytes;
};

struct fastcgi;

/* Starts the thread; keeps the listener and the handler until it has ended.  All
 * signals must be blocked in the calling thread.  A peer may keep its connection
 * for more requests; it should close it within less than WAIT_PEER_MS, because one
 * that neither sends nor takes a byte for so long is given up, and so is one whose
 * request is not whole after WAIT_REQUEST_MS, or WAIT_CROWDED_MS while all
 * connections are taken.  At most half of the
 * connections are kept by idle peers; another one is told to close its connection, and
 * has WAIT_FAREWELL_MS for that. */
MUST_CHECK enum status fastcgi_start(const struct fastcgi_options *options, struct fastcgi **fastcgi,
                                     struct fail *why);

/* Accepts no more, finishes what was accepted, at most wait_ms; then frees.  On a
 * kept connection requests are served until its peer closes it, which is what nginx
 * does after its next answer.  A request that is not whole WAIT_LAST_BYTES_MS after its connection was accepted
 * is broken off.  false: there is still one.  Nothing was freed then: call it
 * again, or end the process. */
MUST_CHECK bool fastcgi_stop(struct fastcgi *fastcgi, int64_t wait_ms);

#endif
