/* committer.h - group commit: request threads hand over, a few threads write.
 *
 * Each committer thread owns one connection to the store.  It sends whatever
 * waits (with the Table service: for the same partition as the oldest lead) as
 * one transaction, so a lone lead waits for nobody and a crowd shares round
 * trips and fsyncs.
 *
 * Waits are bounded: what no committer has taken within deadline_ms is given
 * back untried; what was taken is settled within another deadline_ms / 2 at the
 * latest.
 * Threads: the calls that hand over work may come from any thread and block it.
 */
#ifndef LEAD_COMMITTER_H
#define LEAD_COMMITTER_H

#include "lib/store/leads.h"

struct committer;

struct committer_options {
    /* Opens one connection; called once per committer thread, by committer_new. */
    enum status (*open)(void *context, struct store **store, struct fail *why);
    void *context;
    struct lead_rules rules;         /* borrowed until committer_free */
    int64_t deadline_ms;             /* for one piece of work, from the moment it is handed over */
    unsigned int quarantine_per_day; /* of a key, see quarantine_put */
    unsigned int connections;        /* 0: one for a store that joins partitions, else four */
    /* Told of every transaction, for metrics; may be NULL. */
    void (*on_commit)(void *context, size_t leads, enum status status);
};

MUST_CHECK enum status committer_new(const struct committer_options *options, struct committer **committer,
                                     struct fail *why);

/* Settles what was handed over, brings the offers directory up to date and ends the threads. */
void committer_free(struct committer *committer);

/* Stores one lead.  lead->delivery is filled in; the result is set as leads_commit sets it. */
void committer_store(struct committer *committer, struct lead_write *lead);

/* Stores what could not be taken as a lead. */
MUST_CHECK enum status committer_quarantine(struct committer *committer, const struct quarantined *item,
                                            struct fail *why);

/* Whether a lead could be accepted durably now. */
MUST_CHECK enum status committer_probe(struct committer *committer, struct fail *why);

#endif
