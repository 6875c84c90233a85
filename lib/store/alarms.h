/* alarms.h - telling the operator: one row per event and day, which one host mails.
 *
 * Raising an alarm inserts the row "<day>-<event>" into the partition `alarms`
 * of the table of operations; the row is the queue, and who raises it second
 * finds it there.  lib/relay/watch.h mails what waits.
 */
#ifndef LEAD_ALARMS_H
#define LEAD_ALARMS_H

#include "lib/store/store.h"

#define ALARMS_PARTITION "alarms"

enum alarm {
    ALARM_SPOOLING,        /* the table does not take leads: they go to the spool */
    ALARM_SPOOL_DRAINED,   /* the table takes leads again and the spool is empty */
    ALARM_SPOOL_FULL,      /* leads are refused: neither table nor spool takes them */
    ALARM_SPOOL_DAMAGED,   /* a new generation has begun */
    ALARM_LEADS_LOST,      /* what damage destroyed, with numbers */
    ALARM_MAIL_PARKED,     /* a mail was given up */
    ALARM_MAIL_PAUSED,     /* a configuration error stops all mail */
    ALARM_QUARANTINED,     /* something was put into quarantine */
    ALARM_QUARANTINE_FULL, /* a key has used up its quarantine for the day: 429 */
    ALARM_COUNT
};

/* "spooling", "spool-drained", ...: constant words, for rows, logs and subjects. */
const char *alarm_name(enum alarm alarm);

/* Durably raises the alarm for today (the store's clock).  text says what
 * happened and what to do: no secret, no personal data, at most
 * LIMIT_ALARM_TEXT_BYTES.  ST_OK: it was not there before.  ST_EXISTS: it was. */
MUST_CHECK enum status alarm_raise(struct store *store, enum alarm alarm, const char *text,
                                   int64_t deadline_ms, struct fail *why);

#endif
