/* census.h - what waits in the store of record and when leads came last, for metrics.
 *
 * A census looks into the offers directory: into the offers that had a lead in
 * the last six days at every look, and into all of them at the first and once a
 * day (mails wait at most five days).  In each it counts the mails that are still
 * to be sent; parked ones wait for a person and are not counted.
 *
 * Bounded: LIMIT_OFFERS_SHOWN offers are remembered, those with the newest leads,
 * and no more mails are counted than LIMIT_MAILS_COUNTED.
 * Threads: a census belongs to one thread.
 */
#ifndef LEAD_CENSUS_H
#define LEAD_CENSUS_H

#include <stdatomic.h>

#include "lib/store/store.h"

struct census_offer {
    char partition[LIMIT_PARTITION_KEY_BYTES + 1];
    int64_t last_ms; /* of its last lead, by the store's clock */
};

struct census_result {
    uint64_t mails;          /* that wait or are in work */
    int64_t mails_oldest_ms; /* when what the oldest of them tells of was received; 0: none waits */
    const struct census_offer *offers;
    size_t offer_count; /* at most LIMIT_OFFERS_SHOWN */
};

struct census_options {
    bool counts_mails;        /* else none are looked for */
    const _Atomic bool *stop; /* may be NULL */
};

struct census;

MUST_CHECK enum status census_new(const struct census_options *options, struct census **census,
                                  struct fail *why);
void census_free(struct census *census);

/* Looks once.  *result points into the census until the next look; it is whole only when this returns ST_OK and the
 * options' stop is not set. */
MUST_CHECK enum status census_look(struct census *census, struct store *store, struct census_result *result,
                                   struct fail *why);

#endif
