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

/* Whether the file was removed since it was opened: what is noted there is read by nobody. */
bool ledger_is_gone(int fd);

/* The shared lock.  false: not to be had in time, as when who empties the ledger has
 * been stopped.  Going on without it is no danger to a row, only to its report should
 * damage destroy it later. */
bool ledger_hold(int fd, int64_t deadline_ms);
void ledger_release(int fd);

/* A turn at the spool's rows, which only one open ledger has at a time; another lock than the one above.  Whoever
 * waits comes before whoever has just had it.  false: not to be had in time. */
bool ledger_take_turn(int fd, int64_t deadline_ms);
void ledger_end_turn(int fd);

/* Notes an event of every key (each of LEDGER_KEY_TEXT bytes) and syncs the file.
 * Nothing else may be acknowledged when this fails. */
MUST_CHECK enum status ledger_note(int fd, enum ledger_event event, enum ledger_kind kind,
                                   const struct span *keys, size_t count, struct fail *why);

/* What the ledger says of a row by now. */
struct ledger_row {
    char key[LEDGER_KEY_TEXT];
    char event; /* enum ledger_event: LEDGER_ARRIVED where it must be there; once departed, always departed */
    char kind;  /* enum ledger_kind */
};

struct ledger_rows {
    struct ledger_row *all; /* by key */
    size_t count;
};

/* Reads all of it; memory in proportion to the file.  To be released in any case. */
MUST_CHECK enum status ledger_read(int fd, struct ledger_rows *rows, struct fail *why);
void ledger_rows_release(struct ledger_rows *rows);

/* Empties the ledger, if is_settled (asked while nobody can append) says that no
 * row is left.  false: it was not, or others are at work. */
bool ledger_clear(int fd, bool (*is_settled)(void *context), void *context);

#endif
