/* committer.h - group commit: requests hand over work, a few threads do it.
 *
 * Each committer thread owns one connection to the store.  It sends whatever
 * waits (with the Table service: for the same partition as the oldest lead) as
 * one transaction, so a lone lead waits for nobody and a crowd shares round
 * trips and fsyncs.  Where others under way make it worth while a lead waits a
 * moment for more to join it: 8 ms at most, or 20 ms at a store that is crowded.
 *
 * With a spool, what the store has not taken within deadline_ms, or what comes
 * while the breaker is open, goes there.
 *
 * Waits are bounded: what no committer has taken within deadline_ms (and
 * WAIT_SPOOL_MS, with a spool) is given back untried by committer_expire; what
 * was taken is settled within another deadline_ms / 2, or with a spool
 * WAIT_SPOOL_MS, at the latest.
 * Threads: all calls but new and free may come from any thread; none blocks.
 */
#ifndef LEAD_COMMITTER_H
#define LEAD_COMMITTER_H

#include "lib/store/leads.h"
#include "lib/store/quarantine.h"
#include "lib/store/spool.h"

struct committer;

struct committer_options {
    /* Opens one connection; called once per committer thread: for the first by committer_new, for
     * others when all that are there are busy, under the committer's lock and in any thread.  Except
     * for the first it must not block, or committer_submit does. */
    enum status (*open)(void *context, struct store **store, struct fail *why);
    void *context;
    struct lead_rules rules;    /* borrowed until committer_free */
    int64_t deadline_ms;        /* for one piece of work, from the moment it is handed over */
    unsigned int connections;   /* 0: one for a store that joins partitions, else up to 32 */
    struct spool_options spool; /* path NULL: none */
    struct quarantine_quota quarantine;
    bool raises_alarms; /* somebody is mailed about them */
    /* For metrics and the log; each may be NULL: told of every commit and how long it took, of
     * every alarm that this process has raised, and when this process has opened or closed the breaker. */
    void (*on_commit)(void *context, size_t leads, int64_t took_us, enum status status);
    void (*on_alarm)(void *context, enum alarm alarm);
    void (*on_breaker)(void *context, bool is_open, const struct fail *why);
};

MUST_CHECK enum status committer_new(const struct committer_options *options, struct committer **committer,
                                     struct fail *why);

/* Settles what was handed over, brings the offers directory up to date and ends the threads. */
void committer_free(struct committer *committer);

enum job_kind { JOB_LEAD, JOB_QUARANTINE, JOB_PROBE };

/* One piece of work.  Stays where it is, with all it refers to, from
 * committer_submit until on_settled is called. */
struct job {
    enum job_kind kind;
    struct lead_write *lead; /* JOB_LEAD: its delivery is filled in; the result as leads_commit sets it */
    const struct quarantined *item; /* JOB_QUARANTINE: what could not be taken as a lead */
    /* Called once, when the results are there: in a committer's thread or in that of committer_expire.
     * It may submit the job anew and should not block: others wait behind it. */
    void (*on_settled)(void *context);
    void *context;
    /* The result of JOB_QUARANTINE (ST_OVER_QUOTA: it is not kept) and of JOB_PROBE (ST_OK: a lead could be
     * accepted durably now). */
    enum status status;
    struct fail why;

    /* The committer's own. */
    struct job *next;
    int64_t since_us;    /* monotonic, when it was handed over */
    int64_t deadline_ms; /* for the store; the spool has WAIT_SPOOL_MS more */
};

/* Hands a job over; nothing of it may be touched any more, it may be settled already. */
void committer_submit(struct committer *committer, struct job *job);

/* Settles jobs that no committer has taken in time, and sees to it that one
 * comes for the others.  To be called now and then while jobs are under way. */
void committer_expire(struct committer *committer);

#endif
