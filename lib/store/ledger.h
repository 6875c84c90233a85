/* ledger.h - which spooled rows have come and gone, kept apart from the rows.
 *
 * A text file of one line per event: an arrival is noted after the row's commit
 * and before the answer, a departure before the row is deleted.  So a row that
 * has arrived, has not departed and is not there was destroyed, while a process
 * killed at any point leaves no such row.  Every line carries a checksum; what
 * does not match is passed over.
 *
 * Processes append with single writes.  Who commits rows holds a shared flock
 * from before the commit until the arrival is noted; emptying the file takes an
 * exclusive one, so no row can come and go before its arrival is noted.
 */
#ifndef LEAD_LEDGER_H
#define LEAD_LEDGER_H

#include "lib/base/arena.h"
#include "lib/base/limits.h"
#include "lib/base/status.h"
#include "lib/lead/lead.h"

enum ledger_event {
    LEDGER_ARRIVED = 'A',
    LEDGER_DEPARTED = 'D',
    LEDGER_LOST = 'L' /* destroyed, and reported */
};
enum ledger_kind { LEDGER_LEAD = 'l', LEDGER_QUARANTINED = 'q' };

/* "<13 digits of milliseconds>-<DeliveryId>": the key of a spooled row. */
enum { LEDGER_KEY_TEXT = 13 + 1 + LEAD_DELIVERY_TEXT };

/* Opens or creates the ledger of the spool at path; *fd is the caller's. */
MUST_CHECK enum status ledger_open(const char *spool_path, int *fd, struct fail *why);

/* The shared lock.  false: not to be had in time; going on without it risks no
 * more than the report of a loss that was none. */
bool ledger_hold(int fd, int64_t deadline_ms);
void ledger_release(int fd);

/* Notes an event of every key (each of LEDGER_KEY_TEXT bytes) and syncs the file.
 * Nothing else may be acknowledged when this fails. */
MUST_CHECK enum status ledger_note(int fd, enum ledger_event event, enum ledger_kind kind,
                                   const struct span *keys, size_t count, struct fail *why);

struct ledger_entry {
    enum ledger_kind kind;
    struct span key;
};

/* The rows that have arrived and not departed, in no order; memory in
 * proportion to the file, from the arena. */
MUST_CHECK enum status ledger_outstanding(int fd, struct arena *arena, struct ledger_entry **entries,
                                          size_t *count, struct fail *why);

/* Empties the ledger, if is_empty (asked while nobody can append) says that no
 * row is left.  Without effect while others append. */
void ledger_clear(int fd, bool (*is_empty)(void *context), void *context);

#endif
