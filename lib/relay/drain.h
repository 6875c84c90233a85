/* drain.h - copies spooled leads into the Table service, in order of receipt.
 *
 * Leads go through the same rules as at their arrival (lib/store/leads.h), with
 * the times at which they were received; what an attempt without an answer has
 * written is recognised by its DeliveryId.  A row leaves the spool only after
 * the store of record has it, and only if it has not changed since it was read.
 * A lead that the service refuses for good goes into quarantine, and what fails
 * for another reason is passed over until the next pass: neither stops the
 * leads behind it.
 *
 * Threads: a drain belongs to one thread of the process that holds the relay lock.
 */
#ifndef LEAD_DRAIN_H
#define LEAD_DRAIN_H

#include <stdatomic.h>

#include "lib/store/leads.h"
#include "lib/store/spool.h"

/* What waits after a pass. */
struct drain_state {
    uint64_t rows;     /* leads and quarantined payloads */
    uint64_t bytes;    /* that the spool takes on the disk */
    int64_t oldest_ms; /* receipt of the oldest; 0: none waits */
    bool is_open;      /* the breaker: leads go into the spool without asking the table */
};

struct drain_options {
    struct spool_options spool;
    struct lead_rules rules; /* borrowed */
    bool raises_alarms;
    const _Atomic bool *stop; /* may be NULL */
    const char *relay_socket; /* where the mailer is told of new mail; NULL: nowhere */
    /* For metrics; each may be NULL. */
    /* This process has opened or closed the breaker; *why when it is open. */
    void (*on_breaker)(void *context, bool is_open, const struct fail *why);
    void (*on_drained)(void *context, size_t rows);
    void (*on_lost)(void *context, uint64_t rows);
    void (*on_state)(void *context, const struct drain_state *state); /* after every pass */
    void *context;
};

struct drain;

/* table: the store of record, kept until drain_free. */
MUST_CHECK enum status drain_new(const struct drain_options *options, struct store *table,
                                 struct drain **drain, struct fail *why);
void drain_free(struct drain *drain);

/* One pass: gone through damaged generations, copied what can be copied now.
 * *left: rows that stay for a later pass.  ST_OK also when the table does not
 * take leads (the breaker says so); otherwise the status is that of the spool. */
MUST_CHECK enum status drain_pass(struct drain *drain, uint64_t *left, struct fail *why);

#endif
