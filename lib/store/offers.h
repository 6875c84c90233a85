/* offers.h - the directory of offers, kept by every process that stores leads.
 *
 * A row tells two things apart.  When a lead of a customer came, first and last:
 * for people, and for who watches that leads go on coming.  Test leads and what
 * was imported do not count, and what has waited (in a spool, in quarantine)
 * counts by its receipt.  And when there last was something new for a mailer to
 * find, of whatever kind: by the store's clock, when it was written.
 *
 * A process writes an offer's row before the first lead of that offer that it
 * sees in a day, so that the mailer of every host knows where to look; later
 * times are written by offers_flush, off the request path.  Times only grow,
 * whoever writes: what is there is read first.  A fixed table remembers what was
 * written; when it is full it starts anew, which costs writes but loses nothing.
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
 * (NULL: there is none) remembers for a process that lives for one request; then times
 * may be late by an hour.  Statuses: the store's, but never ST_UNKNOWN. */
MUST_CHECK enum status offers_ensure(struct offers *offers, struct store *store, struct spool *spool,
                                     const struct delivery *delivery, int64_t deadline_ms, struct fail *why);

/* Writes the times that were noted since the last call.  Stops at the first
 * failure; what is left is tried the next time. */
MUST_CHECK enum status offers_flush(struct offers *offers, struct store *store, int64_t deadline_ms,
                                    struct fail *why);

/* Makes sure that the directory has the offer, and that its times reach from first_ms to last_ms and to active_ms:
 * for leads that came at other times than now.  With patience, as in lib/store/sweep.h. */
MUST_CHECK enum status offers_include(struct store *store, const struct offer *offer, struct fail *why);

/* Makes the mailers of all hosts look into this offer at every pass again, as after a
 * lead: they leave out those that had none for days.  ST_NOT_FOUND: no such offer. */
MUST_CHECK enum status offers_touch(struct store *store, struct span partition, int64_t deadline_ms,
                                    struct fail *why);

/* Whether a lead in the table is one that a customer's sender has brought: no test, and not imported. */
bool offers_counts(const struct lead *lead, struct span origin);

/* The query for all rows of the directory, for who reads them by pages (offer_of_row). */
struct query offers_query(void);
/* The same without titles; with since_ms, of those offers alone that have had something new since then. */
struct query offers_times_query(int64_t since_ms);

/* Calls visit with the partition of every offer; ends as store_each does. */
MUST_CHECK enum status offers_each(struct store *store, int64_t page_wait_ms,
                                   enum status (*visit)(void *context, struct span partition,
                                                        struct fail *why),
                                   void *context, struct fail *why);

#endif
