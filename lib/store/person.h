/* person.h - everything that is kept of one person, told by an e-mail address: to be handed over, or erased.
 *
 * Leads and mails are found by the hash of the address with which their keys
 * begin, in every offer of the directory; what is in quarantine, by a search of
 * the raw payloads (lib/lead/mention.h).  A lead without an e-mail address, or
 * with another one, is not found by its key, also where its text names this
 * one; is_thorough reads every lead for that.
 *
 * The store of record comes from one connection; a spool is this host's, and
 * other hosts have their own.  To erase, the spool comes first: from then on
 * nobody can copy out of it what the store is then searched for.
 */
#ifndef LEAD_PERSON_H
#define LEAD_PERSON_H

#include "lib/store/rows.h"
#include "lib/store/spool.h"
#include "lib/store/store.h"

struct person {
    struct span address; /* without blanks at its ends; the caller's */
    char contact[LEAD_HASH_TEXT + 1];
    bool is_thorough; /* to be set by the caller */
};

/* ST_INVALID: not an address.  ST_NOMEM. */
MUST_CHECK enum status person_of(struct span address, struct person *person, struct fail *why);

enum person_place { PERSON_LEADS, PERSON_MAILS, PERSON_QUARANTINED };

/* Calls visit with every row of a place in the store, as sweep_each does. */
MUST_CHECK enum status person_each(struct store *store, const struct person *person, enum person_place place,
                                   store_visit *visit, void *context, struct fail *why);

struct person_tally {
    uint64_t rows[PERSON_QUARANTINED + 1];
    uint64_t unread; /* of a spool: damaged generations, or parts of them, that could not be searched */
};

MUST_CHECK enum status person_count(struct store *store, const struct person *person,
                                    struct person_tally *tally, struct fail *why);

/* Deletes them, whatever their state, until a search finds none: a mailer that
 * has one of the mails in work finds its row gone and sends nothing, unless the
 * final bytes are out.  ST_AGAIN: the store does not answer, or more kept
 * coming; what is deleted is. */
MUST_CHECK enum status person_erase(struct store *store, const struct person *person,
                                    struct person_tally *erased, struct fail *why);

/* --- in this host's spool: all generations; a spooled lead has no mails yet ----------------------------------- */

MUST_CHECK enum status person_each_spooled(struct spool *spool, const struct person *person,
                                           enum person_place place, store_visit *visit, void *context,
                                           uint64_t *unread, struct fail *why);

MUST_CHECK enum status person_count_spooled(struct spool *spool, const struct person *person,
                                            struct person_tally *tally, struct fail *why);

/* The same while the drain has no row in its hands, and so that nothing of it is
 * left in the files.  ST_AGAIN: the drain did not finish its page, or others are
 * reading. */
MUST_CHECK enum status person_erase_spooled(struct spool *spool, const struct person *person,
                                            struct person_tally *erased, struct fail *why);

#endif
