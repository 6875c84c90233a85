/* find.h - how leadctl's commands look for leads: one set of filters, and a walk through what they leave.
 *
 * The options are the same for every command that has them.  What the store can
 * answer goes into its query (the offer, the time of receipt, the person); the
 * rest is compared here.  "Received" is ReceivedTime, the first receipt: a
 * repeat does not make a lead newer.
 * Memory: that of one page of rows, whatever the number of leads.
 * Leads that wait in a spool are not in the store and not found.
 */
#ifndef LEAD_CTL_FIND_H
#define LEAD_CTL_FIND_H

#include "lib/store/rows.h"
#include "lib/store/store.h"

enum find_tests { FIND_ALL, FIND_TESTS_ONLY, FIND_NO_TESTS };

/* Zero: every lead.  Texts are the caller's. */
struct find_filter {
    int64_t since_ms;                          /* received at or after; 0: no bound */
    int64_t until_ms;                          /* received before; 0: no bound */
    char offer[LIMIT_PARTITION_KEY_BYTES + 1]; /* its name in the directory; "": all */
    char contact[LEAD_HASH_TEXT + 1];          /* of a person's e-mail address; "": everybody */
    struct span action;                        /* in any case of ASCII letters; blank: all */
    struct span country;                       /* the same */
    enum find_tests tests;
    /* No options, but set by commands: */
    char id[LEAD_DELIVERY_TEXT + 1]; /* with which the id of its first or last delivery begins; "": any */
    int64_t written_ms; /* its row was written at or after, by the store's clock; 0: no bound.  Offers that
                                        had no lead since the day before are passed over */
};

/* The options in a line of usage, and what they mean, a line each. */
#define FIND_USAGE                                                                                           \
    "[--since WHEN] [--until WHEN] [--offer OFFER] [--action ACTION] [--country COUNTRY] [--contact "        \
    "ADDRESS] [--test | --no-test]"
#define FIND_HELP                                                                                            \
    "  --since WHEN        received at or after: 12h, 7d, 26w, 2026-05-01T10:30 (UTC)\n"                     \
    "  --until WHEN        received before\n"                                                                \
    "  --offer OFFER       of this offer, as `leadctl offers` names it\n"                                    \
    "  --action ACTION     INS, PLT, DNC, Create, StartTestDrive ...\n"                                      \
    "  --country COUNTRY   as the sender wrote it: US, DE ...\n"                                             \
    "  --contact ADDRESS   from this e-mail address; -: standard input\n"                                    \
    "  --test, --no-test   test leads only, or none\n"

/* Takes the option at argv[*at], if it is one of these, and moves *at to its last word; "--since=12h" is one word.
 * ST_NOT_FOUND: it is none.  ST_INVALID: something is wrong with it.  ST_NOMEM. */
MUST_CHECK enum status find_take_option(struct find_filter *filter, int argc, char **argv, int *at,
                                        struct fail *why);

/* Behind the last option.  ST_INVALID: nothing can be before --until and not before --since. */
MUST_CHECK enum status find_check(const struct find_filter *filter, struct fail *why);

/* Columns that a walk needs, to begin a select list with. */
#define FIND_COLUMNS                                                                                         \
    "PartitionKey,RowKey,Timestamp,ReceivedTime,Action,Country,IsTest,DeliveryId,LastDeliveryId"

struct find {
    struct store *store;
    const struct find_filter *filter;
    const char *select;      /* NULL: whole rows; else a list that begins with FIND_COLUMNS */
    struct span after_offer; /* where a walk that was cut off ended: begin behind this lead ... */
    struct span after_key;   /* ... of this offer; blank: at the beginning */
    bool is_patient;         /* a store that is busy or silent is asked again for half a minute, as in
                           lib/store/sweep.h: for long work.  Otherwise its first failure ends the walk */
};

/* Calls visit with every lead that the filter leaves, offer by offer in the order of their names, in each offer in
 * the order of keys, which says nothing about time.  The row lives until visit returns; visit may use the store.
 * Ends with the first status of visit that is not ST_OK.  ST_NOT_FOUND: there is no such offer. */
MUST_CHECK enum status find_each(const struct find *find, store_visit *visit, void *context,
                                 struct fail *why);

/* When a lead was first received. */
int64_t find_received_ms(const struct entity *row);

#endif
