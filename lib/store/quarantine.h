/* quarantine.h - payloads that came with a good key and could not be taken: kept raw, within bounds, for a person.
 *
 * An item, the count of its key's items of the day (UTC) and the total of what
 * all items take are written in one transaction, and so are its end and the new
 * total: both bounds hold for all processes and hosts together.
 * Quarantine has one partition, whose items lie in order of time; the counters
 * lie behind them.  Those of a day are removed after two days.
 */
#ifndef LEAD_QUARANTINE_H
#define LEAD_QUARANTINE_H

#include "lib/store/rows.h"
#include "lib/store/store.h"

/* What may be kept. */
struct quarantine_quota {
    unsigned int per_day; /* items of a key in a day; 0: any number, and not counted */
    uint64_t max_bytes;   /* of all items, with what their rows take; 0: any, and not counted */
};

/* For what was accepted already: kept in any case, and its bytes count. */
#define QUARANTINE_IN_ANY_CASE ((struct quarantine_quota){.max_bytes = UINT64_MAX})

/* Keeps the item durably and counts it against the quota of its key on the day
 * on which it was received, and against that of all items.  The same item (id
 * and time) again is ST_OK and counts once, also when nobody knows whether the
 * first write took effect.  ST_OVER_QUOTA: nothing was kept, *why says of which
 * quota; why->retry_after_s is what was left of the day at its receipt or, as
 * nobody can know when there is room again, an hour.  ST_CHANGED: not kept,
 * because so many others are counting that the deadline passed; that says
 * nothing against the store. */
MUST_CHECK enum status quarantine_put(struct store *store, const struct quarantined *item,
                                      const struct quarantine_quota *quota, int64_t deadline_ms,
                                      struct fail *why);

/* What all items take, as it is counted. */
MUST_CHECK enum status quarantine_used(struct store *store, int64_t deadline_ms, uint64_t *bytes,
                                       struct fail *why);

/* What is kept of a lead that the store refuses for good: the body as it came or,
 * where that is withheld, the lead's row, which is added to the buffer. */
MUST_CHECK enum status quarantined_of_lead(const struct delivery *delivery, struct buf *row,
                                           struct quarantined *item, struct fail *why);

/* An item as it lies there; its body is blank but in quarantine_find. */
struct quarantine_entry {
    struct quarantined item;
    size_t body_bytes;
    struct span row_key;
    struct span etag;
};

/* Calls visit with every item, oldest first and page by page, without the
 * bodies; the entry lives until visit returns.  Ends with the first status of
 * visit that is not ST_OK.  When all were seen, the total is set right if
 * somebody has removed rows by other means. */
MUST_CHECK enum status
quarantine_list(struct store *store,
                enum status (*visit)(void *context, const struct quarantine_entry *entry, struct fail *why),
                void *context, struct fail *why);

/* For who has removed items otherwise than by quarantine_drop: sets the total right.  Where that fails, the next
 * quarantine_list does it. */
void quarantine_recount(struct store *store);

/* The item whose id was given (see delivery_id_given), with its body; in the
 * arena.  ST_NOT_FOUND; ST_INVALID: not an id; ST_EXISTS: the ids of several
 * begin so. */
MUST_CHECK enum status quarantine_find(struct store *store, struct span id, struct arena *arena,
                                       struct quarantine_entry *entry, struct fail *why);

/* Deletes the item as it was read, and gives its room back.  ST_NOT_FOUND: it is gone already. */
MUST_CHECK enum status quarantine_drop(struct store *store, const struct quarantine_entry *entry,
                                       struct fail *why);

#endif
