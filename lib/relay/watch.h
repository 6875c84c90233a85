/* watch.h - mails the alarms that wait (lib/store/alarms.h), by a way of its own.
 *
 * Its transport is its own, and it heeds neither the mailer's rate limit nor its
 * pauses: mails about leads that are stuck do not hold up an alarm.
 *
 * One mail per event, day and recipient over all hosts: a row is claimed under
 * its etag, and marked when all recipients have it.  What is mailed again after
 * all has the same Message-ID; that happens when
 *   - the process dies, or the store fails, between a mail and its record and
 *     another process goes on (this one remembers what it has sent), or
 *   - several hosts have the alarm in their spools while the table does not
 *     answer, because they cannot know of one another.
 *
 * An alarm in the spool is copied into the store of record when that answers,
 * for one host to mail it from there; when it does not answer, this host mails
 * it from the spool.  The spool's row stays, so that the same event on the same
 * day is not raised anew there: "settled" when there is nothing left to do.
 *
 * Whatever fails is tried again after 1, 5, 15, 30 min, 1, 2, then every 4 h,
 * for two days.  Ambiguous attempts wait and count as in retry.h, and then as
 * sent.  A claim expires as the mailer's do; one by the same owner is our dead
 * predecessor's.
 *
 * Threads: a watch belongs to one thread, in the process that holds the relay
 * lock.
 */
#ifndef LEAD_WATCH_H
#define LEAD_WATCH_H

#include <stdatomic.h>

#include "lib/mail/compose.h"
#include "lib/mail/transport.h"
#include "lib/store/store.h"

struct watch_options {
    struct mail_settings transport;
    struct mail_address from;
    const struct span *recipients; /* bare addresses */
    size_t
        recipient_count; /* at most LIMIT_RECIPIENTS; 0: nothing is mailed, and transport is not looked at */
    struct span owner;   /* names this host's relay */
    const _Atomic bool *stop;         /* may be NULL */
    void (*on_mailed)(void *context); /* an alarm has reached all recipients; may be NULL */
    void *context;
};

struct watch;

/* Keeps what the options point to until watch_free. */
MUST_CHECK enum status watch_new(const struct watch_options *options, struct watch **watch, struct fail *why);
void watch_free(struct watch *watch);

/* Looks once into the alarms of the store of record and of local (the spool's
 * current generation; NULL: none), mails what is due, and deletes rows of more
 * than 30 days ago.  Failures of mails are noted in their rows and logged; the
 * status is that of the stores.  Takes as long as its mails do. */
MUST_CHECK enum status watch_pass(struct watch *watch, struct store *store, struct store *local,
                                  struct fail *why);

/* Milliseconds until something that the last pass saw is due; INT64_MAX: nothing waits. */
int64_t watch_due_in_ms(const struct watch *watch);

#endif
