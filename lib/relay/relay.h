/* relay.h - the host's relay: one process at a time sends the mails of the store.
 *
 * Every leadhook process runs a relay thread; the one that holds the relay lock
 * works, the others look now and then whether it has become free.
 */
#ifndef LEAD_RELAY_H
#define LEAD_RELAY_H

#include "lib/relay/mailer.h"

struct relay_options {
    enum status (*open)(void *context, struct store **store, struct fail *why); /* one connection */
    void *context;
    struct mailer_options mailer; /* owner and stop are filled in here */
    const char *socket_path;
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

/* One pass over all offers in the calling thread, for `leadctl relay --once`.
 * ST_EXISTS: another process is this host's relay.  *waiting: whether something
 * was left for later. */
MUST_CHECK enum status relay_once(const struct relay_options *options, bool *waiting, struct fail *why);

#endif
