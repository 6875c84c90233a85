/* purge.h - retention: what was received for the last time before a day goes from the store of record.
 *
 * A lead goes with its mails, whatever their state; a payload in quarantine goes
 * by the time of its receipt.  Rows are deleted as they were read (If-Match), so
 * a lead that has just come back stays.  The lead goes first: cut off behind it,
 * the next run finds its mails by their age and that their lead is gone, as the
 * mailer does.  Offers stay in the directory; nothing in it is about a person.
 * Leads that wait in a spool are not of the store yet and are not looked at.
 */
#ifndef LEAD_PURGE_H
#define LEAD_PURGE_H

#include "lib/store/rows.h"
#include "lib/store/store.h"

enum purge_action { PURGE_COUNT, PURGE_DELETE };

/* What would go, or has gone. */
struct purge_tally {
    uint64_t leads;
    uint64_t mails;
    uint64_t quarantined;
    uint64_t changed; /* of those, came back or were changed meanwhile, and stay */
    int64_t oldest_ms;
    int64_t newest_ms; /* of the last receipts; 0: none */
};

/* Calls on_part with the tally of every offer, and with a blank offer for
 * quarantine, if there is anything.  ST_AGAIN: the store does not answer (see
 * sweep.h); what is done is done. */
MUST_CHECK enum status purge_run(struct store *store, int64_t before_ms, enum purge_action action,
                                 void (*on_part)(void *context, struct span offer,
                                                 const struct purge_tally *tally),
                                 void *context, struct fail *why);

/* The time that is meant by "180d", "26w" or "12h" before now, or by "2026-05-01"
 * (its beginning, UTC).  Now is by the store's clock, which is asked: this
 * host's may be years wrong.  ST_INVALID: none of these, or not in the past. */
MUST_CHECK enum status purge_time_given(struct store *store, struct span given, int64_t *before_ms,
                                        struct fail *why);

#endif
