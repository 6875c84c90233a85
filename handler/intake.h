/* intake.h - the way of a lead through the program: the sequence of one request.
 *
 * authorize, read, normalize, identify, commit, reply; then, when the answer has
 * left, the hint to the host's mailer.  Everything it calls can be tested without
 * FastCGI.
 */
#ifndef LEAD_INTAKE_H
#define LEAD_INTAKE_H

#include "handler/config.h"
#include "handler/metrics.h"
#include "handler/reply.h"
#include "handler/request.h"
#include "lib/auth/keys.h"
#include "lib/store/committer.h"

/* Shared by all threads; while they run only the keys in the ring change. */
struct intake_shared {
    const struct config *config;
    struct key_ring *keys;
    struct committer *committer;
    struct metrics *metrics;
};

struct intake;

/* One thread's part.  NULL: no memory. */
void *intake_begin(void *shared);
void intake_end(void *intake);

/* Serves one request: leads, health, metrics. */
void intake_handle(void *intake, const struct request *request, struct reply *reply);

/* After the answer has left: hints the mailer. */
void intake_after(void *intake);

#endif
