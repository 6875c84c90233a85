/* restore.h - rows of leads put back into a store, as from an export.
 *
 * A row that is there already stays as it is, so the same rows may be given any
 * number of times.  Rows of one offer share a transaction, also where rows of
 * others lie between them: LIMIT_RESTORE_OFFERS are gathered side by side.  So
 * rows are not written in the order in which they come, but those of one key are.
 * The store is asked with patience (lib/store/sweep.h); after a failure what was
 * written is, and whoever begins anew goes on.
 * Memory: bounded, whatever the number of rows.
 */
#ifndef LEAD_RESTORE_H
#define LEAD_RESTORE_H

#include "lib/store/leads.h"
#include "lib/store/store.h"

struct restore {
    struct store *store;
    const struct lead_rules *mails; /* whom to mail about leads nobody was told of yet; NULL: nobody */
    struct routes *routes;          /* of mails, held */
    uint64_t added;
    uint64_t present;                                    /* were there already */
    uint64_t mailed;                                     /* mails that were made for those added */
    struct restore_batch *batches[LIMIT_RESTORE_OFFERS]; /* the next transactions; NULL: not needed yet */
};

/* mails is borrowed until restore_end. */
void restore_begin(struct restore *restore, struct store *store, const struct lead_rules *mails);
/* Whether it is the row of a lead, and one that a store takes.  ST_INVALID, ST_TOO_LARGE. */
MUST_CHECK enum status restore_check(const struct entity *row, struct fail *why);
/* A row that was checked; it is copied.  A failure is that of the store, which gets a transaction when it is full, or
 * when there is no room for another offer: ST_AGAIN: it did not answer. */
MUST_CHECK enum status restore_add(struct restore *restore, const struct entity *row, struct fail *why);
/* Writes what was added and is not written yet. */
MUST_CHECK enum status restore_flush(struct restore *restore, struct fail *why);
void restore_end(struct restore *restore);

#endif
