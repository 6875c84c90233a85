/* alarms.h - telling the operator: one row per event and day, which one host mails.
 *
 * Raising an alarm inserts the row "<day>-<event>" into the partition `alarms`
 * of the table of operations; the row is the queue, and who raises it second
 * finds it there.  lib/relay/watch.h mails what waits.
 */
#ifndef LEAD_ALARMS_H
#define LEAD_ALARMS_H

#include <stdatomic.h>

#include "lib/store/rows.h"
#include "lib/store/store.h"

enum alarm {
    ALARM_SPOOLING,        /* the table does not take leads: they go to the spool */
    ALARM_SPOOL_DRAINED,   /* the table takes leads again and the spool is empty */
    ALARM_SPOOL_FULL,      /* leads are refused: neither table nor spool takes them */
    ALARM_SPOOL_DAMAGED,   /* a new generation has begun */
    ALARM_LEADS_LOST,      /* what damage destroyed, with numbers */
    ALARM_MAIL_PARKED,     /* a mail was given up */
    ALARM_MAIL_PAUSED,     /* a configuration error stops all mail */
    ALARM_QUARANTINED,     /* something was put into quarantine */
    ALARM_QUARANTINE_FULL, /* a key has used up its quarantine for the day, or all of it is full: 429 */
    ALARM_WRONG_KEYS,      /* many requests with a wrong key */
    /* Troubles that last, and their ends: lib/store/troubles.h raises them, and ALARM_MAIL_PAUSED. */
    ALARM_SILENCE, /* an offer that had leads has none any more */
    ALARM_SILENCE_OVER,
    ALARM_SPOOL_STUCK,   /* leads do not get out of the spool; ALARM_SPOOL_DRAINED tells that they have */
    ALARM_TABLE_REFUSED, /* the table does not take our credentials */
    ALARM_TABLE_REFUSED_OVER,
    ALARM_MAIL_PAUSED_OVER,
    ALARM_KEY_RETIRING, /* the key file says that a key ends soon */
    ALARM_KEY_RETIRING_OVER,
    ALARM_SAS_ENDING,
    ALARM_SAS_ENDING_OVER,
    ALARM_CERTIFICATE_ENDING, /* of the table's or the mail server */
    ALARM_CERTIFICATE_ENDING_OVER,
    ALARM_COUNT
};

/* "spooling", "spool-drained", ...: constant words, for rows, logs and subjects. */
const char *alarm_name(enum alarm alarm);

/* What a person is told about an event, whoever raised it. */
struct alarm_words {
    const char *title; /* one line, for a subject, where the row has none of its own */
    const char *meaning;
    const char *action; /* what to do; one step per line */
    bool lasts; /* told once, then rarely, then when it is over; else once on each day that it happens */
};

/* Of an event by its name; another version's event gets words that fit any. */
struct alarm_words alarm_words(struct span name);

/* An alarm of the day of now_ms as a row to insert: the event, where it happened (this host), and what.  title: for
 * the subject, or blank.  Both are cleaned as alarm_raise says.  false: no memory. */
MUST_CHECK bool alarm_row_to_raise(struct entity *row, enum alarm alarm, struct span title, struct span text,
                                   int64_t now_ms, struct arena *arena);

/* Durably raises the alarm for today (the store's clock).  text says what
 * happened, beyond what alarm_words says of any such event: no secret, no
 * personal data, lines that end in \n; control characters become visible, and
 * what is over LIMIT_ALARM_TEXT_BYTES is cut off.  ST_OK: it was not there
 * before.  ST_EXISTS: it was; nothing is changed then.  Every call is a write
 * to the store, so callers remember in alarm_days what they have raised. */
MUST_CHECK enum status alarm_raise(struct store *store, enum alarm alarm, const char *text,
                                   int64_t deadline_ms, struct fail *why);

/* On which day a process has raised each alarm.  Zero bytes: none yet.  Threads: safe. */
struct alarm_days {
    _Atomic int64_t day[ALARM_COUNT];
};

/* Whether the alarm has yet to be raised on the day of now_ms, which the caller
 * does now.  When that fails it is given back, and the next event tries again. */
bool alarm_day_take(struct alarm_days *days, enum alarm alarm, int64_t now_ms);
void alarm_day_give_back(struct alarm_days *days, enum alarm alarm);

/* What ALARM_SPOOLING says of an outage that began with *why. */
void alarm_text_of_outage(const struct fail *why, char text[LIMIT_ALARM_TEXT_BYTES]);

#endif
