/* spool_internal.h - what spool.c, breaker.c and salvage.c share. */
#ifndef LEAD_SPOOL_INTERNAL_H
#define LEAD_SPOOL_INTERNAL_H

#include <pthread.h>

#include "lib/store/ledger.h"
#include "lib/store/spool.h"
#include "lib/store/store_internal.h"

struct spool {
    char *path;
    uint64_t max_bytes;
    /* The turn is a lock that can be waited for with a bound; the mutex is of is_taken only. */
    pthread_mutex_t mutex;
    pthread_cond_t given_back;
    bool is_taken;
    /* Of who has the turn: */
    struct store *store;     /* NULL: to be opened */
    unsigned int generation; /* of store */
    int ledger;
    int64_t reclaimed_ms;
    /* The breaker as last read. */
    int64_t breaker_read_ms; /* 0: never */
    int32_t failures;
};

/* Takes the spool's turn.  false: not to be had in time. */
bool spool_lock(struct spool *s, int64_t deadline_ms);
void spool_unlock(struct spool *s);

/* Does work in the current generation, the turn being ours: opens it, and goes on to
 * the next one where it is damaged, or where work says ST_CHANGED: it was left meanwhile. */
MUST_CHECK enum status spool_work(struct spool *s,
                                  enum status (*work)(struct spool *s, void *context, int64_t deadline_ms,
                                                      struct fail *why),
                                  void *context, int64_t deadline_ms, struct fail *why);

/* Opens a generation as a connection of the caller's own. */
MUST_CHECK enum status spool_open_generation(const struct spool *s, unsigned int generation,
                                             struct store **store, struct fail *why);

/* Inserts rows, at most LIMIT_BATCH_OPERATIONS; those that are there already stay as they are.
 * *failed, on ST_INVALID and ST_TOO_LARGE: the row that can never be written. */
MUST_CHECK enum status spool_insert(struct store *store, enum table_id table,
                                    const struct operation *operations, size_t count, int64_t deadline_ms,
                                    uint64_t *inserted, size_t *failed, struct fail *why);

#endif
