/* generations.h - the files of a spool: databases PATH, PATH.2, PATH.3, ... ("generations"), and what lies beside them.
 *
 * A generation may have a log ("-wal", "-shm") and the mark "-salvaged": it was
 * gone through.  PATH.ledger belongs to all of them.
 */
#ifndef LEAD_GENERATIONS_H
#define LEAD_GENERATIONS_H

#include "lib/base/buf.h"
#include "lib/base/limits.h"
#include "lib/base/status.h"

struct generations {
    unsigned int numbers[LIMIT_GENERATIONS]; /* rising; with more than fit, the highest */
    size_t count;
    uint64_t bytes; /* on the disk: all of it */
    uint64_t ledger_bytes;
};

/* Looks into the folder.  ST_IO: it cannot be read. */
MUST_CHECK enum status generations_find(const char *path, struct generations *found, struct fail *why);

/* The highest; 0: there is none. */
unsigned int generations_current(const struct generations *found);

/* The path of a generation and what its name goes on with ("", "-wal", ...). */
MUST_CHECK enum status generation_path(const char *path, unsigned int number, const char *suffix,
                                       struct buf *out, struct fail *why);

/* The size of such a file; 0: there is none. */
uint64_t generation_bytes(const char *path, unsigned int number, const char *suffix);

/* The mark, which is durable. */
bool generation_is_salvaged(const char *path, unsigned int number);
MUST_CHECK enum status generation_mark_salvaged(const char *path, unsigned int number, struct fail *why);
/* For a generation that is current: the mark was left behind by another of that number. */
void generation_unmark_salvaged(const char *path, unsigned int number);

/* Removes a generation that is not current, with all that lies beside it.  Who still has it open looks
 * before every write whether it is current. */
MUST_CHECK enum status generation_remove(const char *path, unsigned int number, struct fail *why);

#endif
