/* log.h - one line per event on standard error, in logfmt or as a JSON object.
 *
 *   t=2026-11-21T06:00:00.123Z level=info event=stored id=... ms=3
 *   {"t":"2026-11-21T06:00:00.123Z","level":"info","event":"stored","id":"...","ms":3}
 *
 * In JSON a value is a number where the format says so ("ms=%d"), else a string.
 * A line is written with one write(2), so lines of several threads and
 * processes do not mix.  Values are escaped; whoever calls answers for their
 * content: no secrets, no personal data.  The library does not log: it returns
 * reasons; handler and relay log each failure once, where it is decided.
 * A reader of standard error that stands still is waited for a second; lines are
 * lost after that, until it goes on.
 * Threads: safe.
 */
#ifndef LEAD_LOG_H
#define LEAD_LOG_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/status.h"

enum log_format { LOG_LOGFMT, LOG_JSON };
/* Before there are threads; it is logfmt until then. */
void log_set_format(enum log_format format);

enum log_level { LOG_LEVEL_INFO, LOG_LEVEL_WARNING, LOG_LEVEL_ERROR };

/* event is a constant word; format gives the further "name=value" pairs, whose
 * values contain no blanks or quotes (numbers, ids, constant words), or NULL. */
void log_event(enum log_level level, const char *event, const char *format, ...) PRINTF_LIKE(3, 4);

/* The same with reason="why->text", status, peer and errno as pairs. */
void log_failure(enum log_level level, const char *event, const struct fail *why, const char *format, ...)
    PRINTF_LIKE(4, 5);

/* A failure that comes again and again: what was logged of it last.  Zeroed at first. */
struct log_repeat {
    int64_t logged_ms; /* monotonic; 0: never */
    struct fail why;
};

/* Whether the same reason was logged in the last ten minutes; else notes that it is logged now. */
bool log_is_repeat(struct log_repeat *last, const struct fail *why);

/* Lines that anybody can cause: some in a second are written, the others counted.  Zeroed at first; one thread's. */
struct log_budget {
    int64_t since_ms; /* monotonic: when this second began */
    unsigned int used;
    unsigned long long left_out; /* and not told of yet */
};

/* Whether one more line may be written now; false: it was counted as left out. */
bool log_budget_take(struct log_budget *budget, unsigned int per_second, int64_t now_ms);
/* How many were left out before this second, once; 0: none. */
unsigned long long log_budget_left_out(struct log_budget *budget, int64_t now_ms);

#endif
