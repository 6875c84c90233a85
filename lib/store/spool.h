/* spool.h - leads that the Table service could not take, durable on this host until the drain has copied them.
 *
 * One per host, shared by all its processes: SQLite databases, "generations",
 * at PATH, PATH.2, PATH.3, ...; the highest is current.  A damaged one is never
 * renamed or repaired under other processes: the next one begins, every write
 * checks afterwards that its generation is still current (else it writes again),
 * and the drain visits all of them.
 *
 * In a generation: a row per spooled lead (its table row as computed on arrival,
 * with a checksum), quarantined payloads and alarms that the table could not
 * take, and the breaker.  PATH.ledger beside them notes every arrival and every
 * departure with its id, so that what damage destroys is known and reported.
 *
 * A write is acknowledged when the commit and the ledger's record are on the
 * disk.  Every wait for others is bounded by the deadline.
 * Threads: a struct spool may be shared; its calls take turns.
 */
#ifndef LEAD_SPOOL_H
#define LEAD_SPOOL_H

#include "lib/store/alarms.h"
#include "lib/store/leads.h"

struct spool;

struct spool_options {
    const char *path;   /* copied */
    uint64_t max_bytes; /* of all generations, logs and the ledger */
};

/* Opens the current generation, or makes the first. */
MUST_CHECK enum status spool_open(const struct spool_options *options, struct spool **spool,
                                  struct fail *why);
void spool_close(struct spool *spool);

/* --- writing: request threads' side -------------------------------------------------------------------------- */

/* Stores the leads durably; is_spooled, status and why of each are set.  A lead
 * whose status was ST_UNKNOWN before is marked as perhaps written.
 * ST_REFUSED: this one is no row that a store could ever take (quarantine it);
 * the others go on.  ST_AGAIN: busy, or full (max_bytes, or the disk); ST_IO: the
 * disk.  At most LIMIT_BATCH_OPERATIONS. */
void spool_put_leads(struct spool *spool, struct lead_write *const *leads, size_t count, int64_t deadline_ms);

MUST_CHECK enum status spool_put_quarantined(struct spool *spool, const struct quarantined *item,
                                             unsigned int per_day, int64_t deadline_ms, struct fail *why);

/* alarm_raise in the current generation, for what the table cannot take. */
MUST_CHECK enum status spool_raise(struct spool *spool, enum alarm alarm, const char *text,
                                   int64_t deadline_ms, struct fail *why);

/* Whether a lead could be spooled durably now: writes, syncs, and looks at the room. */
MUST_CHECK enum status spool_probe(struct spool *spool, int64_t deadline_ms, struct fail *why);

/* --- the breaker: whether to ask the table at all ------------------------------------------------------------ */

enum breaker_way {
    BREAKER_CLOSED, /* ask the table */
    BREAKER_PROBE,  /* it was down; the caller is the one of this host who tries it now */
    BREAKER_OPEN    /* do not ask: it is known to be down */
};

/* Reads the spool at most ten times a second while the breaker is closed; one that cannot be
 * read, or not be written when the probe is due, is closed. */
enum breaker_way breaker_way(struct spool *spool);

/* The same without a claim to be the one who probes. */
bool breaker_is_open(struct spool *spool);

/* The table failed with *why on the way that was given: opens the breaker, or
 * keeps it open for longer after a probe: 1 s doubling to 30 s with jitter, at
 * least what the service asked for (Retry-After, at most 10 min).
 * true: it was closed before. */
bool breaker_failed(struct spool *spool, enum breaker_way way, const struct fail *why);
/* The table took a write: closes it.  true: it was open before. */
bool breaker_worked(struct spool *spool);

/* --- reading: the drain's side, one process at a time (the relay) -------------------------------------------- */

/* Rows of the spool are in one hand at a time, from being read to being removed, copied or not: in the drain's, or
 * in that of who erases a person.  Whoever waits comes before whoever has just had them.  Kept until given back or
 * the process ends.  false: not to be had until the deadline. */
MUST_CHECK bool spool_take_rows(struct spool *spool, int64_t deadline_ms);
void spool_give_rows_back(struct spool *spool);

/* The current generation as a connection of the caller's own.  *generation is its number. */
MUST_CHECK enum status spool_open_current(struct spool *spool, struct store **store, unsigned int *generation,
                                          struct fail *why);

/* Whether the generation is still the one that leads go to, and current its file. */
bool spool_is_current(const struct spool *spool, struct store *current, unsigned int generation);

/* Begins the generation after this one, which is damaged; without effect when it has begun already. */
MUST_CHECK enum status spool_leave_generation(struct spool *spool, unsigned int generation, struct fail *why);

/* Bytes on the disk: all generations, logs and the ledger. */
uint64_t spool_bytes(const struct spool *spool);

/* How many rows wait in it, leads and quarantined payloads, and when the oldest was received; 0: none waits. */
MUST_CHECK enum status spool_count(struct store *current, uint64_t *rows, int64_t *oldest_ms,
                                   struct fail *why);
/* How many leads wait in it, and the key of the oldest, which begins with the milliseconds of its receipt; blank: none
 * waits. */
MUST_CHECK enum status spool_waiting(struct store *current, uint64_t *leads, struct arena *arena,
                                     struct span *oldest, struct fail *why);

/* A quarantined payload with its body, which is added to the buffer.  ST_DAMAGED: the row is not what was written. */
MUST_CHECK enum status spool_read_quarantined(const struct entity *row, struct quarantined *item,
                                              struct buf *body, struct fail *why);

/* Takes rows out after they were stored elsewhere: notes the departures, then
 * deletes what has not changed since it was read.  In several transactions where
 * the rows are large, so that the log stays small. */
MUST_CHECK enum status spool_remove(struct spool *spool, struct store *current, enum table_id table,
                                    const struct entity *rows, size_t count, int64_t deadline_ms,
                                    struct fail *why);

struct salvage {
    uint64_t rescued; /* rows copied out of earlier generations */
    uint64_t lost;    /* rows that are nowhere: noted in the partition LOST_PARTITION, and an alarm raised */
    bool complete;    /* false: something could not be read just now, or others were at work: call again */
};

/* Checks all of `current` (ST_DAMAGED: it is to be left), goes through the
 * generations before it that were not gone through yet and copies what can be
 * read into it; then compares it with the ledger.  A row that has departed and
 * came back is deleted.  One that must be there is looked for in every
 * generation before it counts as lost.  Takes as long as it takes to read the
 * files.  is_last_try: what cannot be read now is not waited for any longer. */
MUST_CHECK enum status spool_salvage(struct spool *spool, struct store *current, unsigned int generation,
                                     bool is_last_try, struct salvage *result, struct fail *why);

/* The check and the comparison alone, for a spool that has become empty; then clears the ledger and shrinks the files.
 * Older generations are removed then, but while lost rows are listed: somebody may want to look into them. */
MUST_CHECK enum status spool_audit(struct spool *spool, struct store *current, unsigned int generation,
                                   bool is_last_try, struct salvage *result, struct fail *why);

/* What `leadctl status` and `leadctl spool` show. */
struct spool_state {
    uint64_t bytes; /* on the disk, all of it */
    unsigned int generations;
    uint64_t leads;       /* waiting */
    uint64_t quarantined; /* waiting */
    int64_t oldest_ms;    /* receipt of the oldest lead waiting; 0: none */
    uint64_t lost;        /* destroyed by damage so far */
    bool table_is_down;   /* the breaker */
    int64_t down_since_ms;
    int64_t next_probe_ms;
    char reason[256]; /* why it is open; "" */
};

/* ST_NOT_FOUND: there is no spool yet.  Opens and closes connections of its own. */
MUST_CHECK enum status spool_inspect(const char *path, struct spool_state *state, struct fail *why);

#endif
