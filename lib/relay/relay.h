/* relay.h - the host's relay: one process at a time sends mails, drains the spool and mails alarms.
 *
 * Every leadhook process runs a relay thread; the one that holds the relay lock
 * works, with a thread and a store connection for each of its roles, so that a
 * slow mail server holds up no lead and no alarm.  The one that mails alarms also
 * looks for troubles that last (lookout.h), whether or not there is somebody to
 * tell; another counts for the metrics (census.h).  The other processes look now
 * and then whether the lock has become free.
 */
#ifndef LEAD_RELAY_H
#define LEAD_RELAY_H

#include "lib/relay/census.h"
#include "lib/relay/drain.h"
#include "lib/relay/lookout.h"
#include "lib/relay/mailer.h"
#include "lib/relay/watch.h"

struct relay_options {
    enum status (*open)(void *context, struct store **store, struct fail *why); /* one connection */
    /* How many requests with a wrong key there have been on this host; NULL: nobody counts them. */
    uint64_t (*wrong_keys)(void *context);
    void *context;
    const char *socket_path;
    bool mails_leads; /* else the mailer's options are not looked at */
    struct mailer_options mailer;
    struct drain_options drain; /* without a path of a spool there is nothing to drain */
    struct watch_options watch; /* without recipients nobody is told of alarms */
    struct lookout_options lookout;
    /* For metrics; may be NULL: what a look into the store has found, every ten seconds or more. */
    void (*on_census)(void *context, const struct census_result *result);
    /* In all of them owner, host, memory, stop and relay_socket are filled in here. */
};

struct relay;

/* Starts the thread.  Keeps what the options point to until relay_stop. */
MUST_CHECK enum status relay_start(const struct relay_options *options, struct relay **relay,
                                   struct fail *why);

/* Breaks off what has not reached its final bytes and waits for the thread, at
 * most wait_ms.  false: a dialogue is past that point and waits for its reply;
 * its row says so, and the process should end without freeing what the options
 * point to.  NULL is allowed. */
MUST_CHECK bool relay_stop(struct relay *relay, int64_t wait_ms);

/* One pass of every role in the calling thread, for `leadctl relay --once`.
 * ST_EXISTS: another process is this host's relay.  *waiting: whether something
 * was left for later. */
MUST_CHECK enum status relay_once(const struct relay_options *options, bool *waiting, struct fail *why);

#endif
