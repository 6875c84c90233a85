/* offers.h - the directory of offers, kept by every process that stores leads.
 *
 * Times are those of the store's clock when leads were written.
 *
 * A process writes an offer's row before the first lead of that offer that it
 * sees in a day, so that the mailer of every host knows where to look; later
 * times are written by offers_flush, off the request path.  A fixed table
 * remembers what was written; when it is full it starts anew, which costs
 * writes but loses nothing.
 * Threads: a struct offers may be shared by all threads.
 */
#ifndef LEAD_OFFERS_H
#define LEAD_OFFERS_H

#include "lib/store/rows.h"
#include "lib/store/spool.h"

struct offers;

MUST_CHECK enum status offers_new(struct offers **offers, struct fail *why);
void offers_free(struct offers *offers);

/* Makes sure that the directory has the lead's offer, and notes the time.  The spool
 * (NULL: there is none) remembers for a process that lives for one request. */
MUST_CHECK enum status offers_ensure(struct offers *offers, struct store *store, struct spool *spool,
                                     const struct delivery *delivery, int64_t deadline_ms, struct fail *why);

/* Writes the last lead times that were noted since the last call.  Stops at the
 * first failure; what is left is tried the next time. */
MUST_CHECK enum status offers_flush(struct offers *offers, struct store *store, int64_t deadline_ms,
                                    struct fail *why);

/* Makes the mailers of all hosts look into this offer at every pass again, as after a
 * lead: they leave out those that had none for days.  ST_NOT_FOUND: no such offer. */
MUST_CHECK enum status offers_touch(struct store *store, struct span partition, int64_t deadline_ms,
                                    struct fail *why);

/* Calls visit with the partition of every offer; ends as store_each does. */
MUST_CHECK enum status offers_each(struct store *store, int64_t page_wait_ms,
                                   enum status (*visit)(void *context, struct span partition,
                                                        struct fail *why),
                                   void *context, struct fail *why);

#endif
