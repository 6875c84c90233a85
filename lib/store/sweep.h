/* sweep.h - going through many rows and changing many of them, with patience.
 *
 * For work that no sender waits for.  A store that is busy (429, 503) or does
 * not answer is asked again: after what it asked for (Retry-After, ten minutes
 * count at most), else after half a second, doubling.  After six failures in a
 * row it is ST_AGAIN.  What was deleted until then stays deleted; whoever begins
 * anew finds the rest.
 * Memory: bounded, whatever the number of rows.
 */
#ifndef LEAD_SWEEP_H
#define LEAD_SWEEP_H

#include "lib/store/store.h"

/* Whether to do something again of which this came; waits before if so.  *failures begins with 0. */
MUST_CHECK bool sweep_tries_again(enum status status, unsigned int *failures, const struct fail *why);

/* store_each, with patience. */
MUST_CHECK enum status sweep_each(struct store *store, struct query *query, store_visit *visit, void *context,
                                  struct fail *why);

/* store_get_many, with patience. */
MUST_CHECK enum status sweep_get_many(struct store *store, enum table_id table, struct span partition_key,
                                      const struct span *row_keys, size_t count, const char *select,
                                      struct arena *arena, struct entity **rows, struct fail *why);

/* The same of one row. */
MUST_CHECK enum status sweep_get(struct store *store, enum table_id table, struct span partition_key,
                                 struct span row_key, const char *select, struct arena *arena,
                                 struct entity **row, struct fail *why);

/* store_transact, with patience: for what may be done again, because an attempt that got no answer may have taken
 * effect.  *failed is that of store_transact. */
MUST_CHECK enum status sweep_transact(struct store *store, enum table_id table,
                                      const struct operation *operations, size_t count, size_t *failed,
                                      struct fail *why);

/* Rows to be deleted, a transaction full at a time. */
struct sweep {
    struct store *store;
    enum table_id table;
    uint64_t deleted;
    uint64_t changed; /* are not as they were read, and stay */
    /* The next transaction: */
    struct arena arena;
    struct span partition_key;
    size_t count;
    struct operation operations[LIMIT_BATCH_OPERATIONS];
};

void sweep_begin(struct sweep *sweep, struct store *store, enum table_id table);
/* The row as it was read; with "*" for its etag, however it may be by now. */
MUST_CHECK enum status sweep_add(struct sweep *sweep, const struct entity *row, struct fail *why);
/* Deletes what was added and is not deleted yet. */
MUST_CHECK enum status sweep_flush(struct sweep *sweep, struct fail *why);
void sweep_end(struct sweep *sweep);

#endif
