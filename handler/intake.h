/* intake.h - the way of a lead through the program: the sequence of one request.
 *
 * authorize, read, normalize, identify, commit, reply; then, when the answer has
 * left, the hint to the host's mailer.  Nothing of it waits: what has to is a job
 * of the committer's, and its settling goes on with the sequence.  Everything it
 * calls can be tested without FastCGI.
 */
#ifndef LEAD_INTAKE_H
#define LEAD_INTAKE_H

#include "handler/config.h"
#include "handler/metrics.h"
#include "handler/reply.h"
#include "handler/request.h"
#include "lib/auth/keys.h"
#include "lib/base/log.h"
#include "lib/store/committer.h"

/* Of all requests; while they are served only the keys in the ring change. */
struct intake_shared {
    const struct config *config;
    struct key_ring *keys;
    struct committer *committer;
    struct metrics *metrics;
    struct log_budget *strangers; /* for the lines about requests without a good key; NULL: no bound */
    int hint_fd;                  /* relay_hint_open's; -1: no hints, mails wait for the relay's next pass */
};

/* The parts of a struct request_handler (handler/request.h): leads, health, metrics. */
void *intake_begin(void *shared);
void intake_handle(void *intake, const struct request *request, struct reply *reply,
                   void (*on_answered)(void *whose), void *whose);
void intake_after(void *intake);
bool intake_tick(void *shared);
void intake_end(void *intake);

#endif
