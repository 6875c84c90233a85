/* quarantine.h - payloads that came with a good key and could not be taken: kept raw, within a quota, for a person.
 *
 * An item and the count of its key's items of the day (UTC) are written in one
 * transaction, so the quota holds for all processes and hosts together.
 * Quarantine has one partition, whose items lie in order of time; the counters
 * lie behind them and are removed after two days.
 */
#ifndef LEAD_QUARANTINE_H
#define LEAD_QUARANTINE_H

#include "lib/store/rows.h"
#include "lib/store/store.h"

/* For quarantine_put: kept in any case and not counted, as it was when it was accepted. */
#define QUARANTINE_NO_QUOTA 0u

/* Keeps the item durably and counts it against per_day, the quota of its key on
 * the day on which it was received.  The same item (id and time) again is
 * ST_OK and counts once, also when nobody knows whether the first write took
 * effect.  ST_OVER_QUOTA: nothing was kept; why->retry_after_s is what was left
 * of the day at its receipt.  ST_CHANGED: not kept, because so many others are
 * counting that the deadline passed; that says nothing against the store. */
MUST_CHECK enum status quarantine_put(struct store *store, const struct quarantined *item,
                                      unsigned int per_day, int64_t deadline_ms, struct fail *why);

/* An item as it lies there; its body is blank but in quarantine_find. */
struct quarantine_entry {
    struct quarantined item;
    size_t body_bytes;
    struct span row_key;
    struct span etag;
};

/* Calls visit with every item, oldest first and page by page, without the
 * bodies; the entry lives until visit returns.  Ends with the first status of
 * visit that is not ST_OK. */
MUST_CHECK enum status
quarantine_list(struct store *store,
                enum status (*visit)(void *context, const struct quarantine_entry *entry, struct fail *why),
                void *context, struct fail *why);

/* The item whose id was given (see delivery_id_given), with its body; in the
 * arena.  ST_NOT_FOUND; ST_INVALID: not an id; ST_EXISTS: the ids of several
 * begin so. */
MUST_CHECK enum status quarantine_find(struct store *store, struct span id, struct arena *arena,
                                       struct quarantine_entry *entry, struct fail *why);

/* Deletes the item as it was read.  ST_NOT_FOUND: it is gone already. */
MUST_CHECK enum status quarantine_drop(struct store *store, const struct quarantine_entry *entry,
                                       struct fail *why);

#endif
