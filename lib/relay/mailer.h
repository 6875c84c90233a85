/* mailer.h - sends the mails that wait in the store: the life of a mail row.
 *
 *   waiting   inserted in the lead's own transaction
 *   claimed   by If-Match, with the finished message stored in the row, so that
 *             every attempt of any host sends the same bytes; nothing was sent
 *   sending   by If-Match, immediately before the final bytes; a failure here
 *             means that someone else took over: the dialogue is broken off
 *   gone      one transaction deletes the row after the 250 and, with the last
 *             of a lead's mails, sets the lead's NotifiedTime
 *   parked    given up; nothing deletes it but a person
 *
 * A claim expires by the row's timestamp against the store's own clock, never by
 * host clocks, and later than the longest SMTP dialogue.  Claimed and expired
 * was certainly not sent; sending and expired is ambiguous.  A row claimed by
 * this host is our dead predecessor's, because the relay lock is ours.
 *
 * How an attempt ended is known before it is recorded.  What the store does not
 * take is kept in the memory: every pass begins by recording it, nothing else is
 * sent before, and the row itself is not sent again while the memory lives.
 *
 * A mail that is given up raises ALARM_MAIL_PARKED, once a day, which delays or
 * fails no mail.  Of a configuration error the memory knows; lookout.h tells it.
 *
 * Threads: a mailer belongs to one thread, which holds the relay lock.
 */
#ifndef LEAD_MAILER_H
#define LEAD_MAILER_H

#include <stdatomic.h>

#include "lib/mail/compose.h"
#include "lib/mail/transport.h"
#include "lib/relay/memory.h"
#include "lib/store/rows.h"
#include "lib/store/store.h"

struct mailer_options {
    struct mail_settings transport;
    struct mail_address from;
    enum mail_detail detail;
    unsigned int per_minute; /* 1 to MAILS_PER_MINUTE_MAX */
    struct span owner;       /* names this host's relay */
    struct mail_memory
        *memory; /* of the mailers of this process before; NULL: it begins and ends with this one */
    const _Atomic bool *stop;
    /* For metrics; each may be NULL: how an attempt ended, and that a mail was given up. */
    void (*on_outcome)(void *context, enum mail_outcome outcome);
    void (*on_parked)(void *context);
    void *context;
};

struct mailer;

/* Keeps options' spans, memory and the store until mailer_free. */
MUST_CHECK enum status mailer_new(const struct mailer_options *options, struct store *store,
                                  struct mailer **mailer, struct fail *why);
void mailer_free(struct mailer *mailer);

/* Sends what is due in one partition.  Failures of single mails are noted in
 * their rows and logged; the status is that of the store. */
MUST_CHECK enum status mailer_pass(struct mailer *mailer, struct span partition, struct fail *why);

/* Tries until deadline_ms (monotonic clock), and once in any case, to record how
 * mails ended that could not be recorded.  For the end of the process: what is
 * unrecorded then is ambiguous to the next one. */
MUST_CHECK enum status mailer_settle(struct mailer *mailer, int64_t deadline_ms, struct fail *why);

/* Forgets a pause after configuration errors: somebody says that they are put right. */
void mailer_resume(struct mailer *mailer);

/* Whether the rate limit or a pause lets no mail go out now; then something is due
 * when that is over.  A pass would find out, too, but reads rows for it. */
bool mailer_rests(struct mailer *mailer);

/* Milliseconds until something that was seen to wait is due (rate limit and
 * pauses included), since mailer_forget_due; INT64_MAX when nothing waits. */
int64_t mailer_due_in_ms(const struct mailer *mailer);
void mailer_forget_due(struct mailer *mailer);

#endif
