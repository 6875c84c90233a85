/* metrics.h - counters that all processes of a host share.
 *
 * They live in a small file that every process maps, so the sums go on when a
 * process is killed.  Nobody may shorten that file while it is in use; it may be
 * removed, which begins anew with the next process.  A file of another version
 * is replaced, not changed: during an upgrade the old version's processes go on
 * counting in theirs, and not in other counters of ours.
 * Threads and processes: counting is one atomic addition.
 */
#ifndef LEAD_METRICS_H
#define LEAD_METRICS_H

#include "lib/base/buf.h"
#include "lib/mail/transport.h"

enum metric {
    METRIC_REQUESTS_200,
    METRIC_REQUESTS_202,
    METRIC_REQUESTS_400,
    METRIC_REQUESTS_401,
    METRIC_REQUESTS_405,
    METRIC_REQUESTS_413,
    METRIC_REQUESTS_415,
    METRIC_REQUESTS_422,
    METRIC_REQUESTS_429,
    METRIC_REQUESTS_503,
    METRIC_REQUESTS_OTHER,
    METRIC_REQUESTS_CUT_OFF,
    METRIC_REPLIES_LOST,
    METRIC_LEADS_STORED,
    METRIC_LEADS_REPEAT,
    METRIC_LEADS_QUARANTINED,
    METRIC_LEADS_SPOOLED,
    METRIC_SPOOL_DRAINED,
    METRIC_SPOOL_LOST,
    METRIC_BREAKER_OPENED,
    METRIC_ALARMS_RAISED,
    METRIC_ALARMS_MAILED,
    METRIC_COMMITS,
    METRIC_COMMIT_LEADS,
    METRIC_COMMIT_FAILURES,
    METRIC_MAILS_ACCEPTED,
    METRIC_MAILS_TRANSIENT,
    METRIC_MAILS_PERMANENT,
    METRIC_MAILS_CONFIGURATION,
    METRIC_MAILS_AMBIGUOUS,
    METRIC_SPOOL_LEADS, /* gauges: metrics_set */
    METRIC_SPOOL_BYTES,
    METRIC_COUNT
};

struct metrics;

/* Maps the counters at path, and makes them when they are not there or of
 * another version (that file is removed).  NULL path, or any failure: counters of this process alone,
 * and *why says why (ST_OK only for shared ones).  *metrics is always set. */
enum status metrics_open(const char *path, struct metrics **metrics, struct fail *why);
void metrics_close(struct metrics *metrics);

void metrics_add(struct metrics *metrics, enum metric metric, uint64_t amount);
/* A gauge is set by the relay alone: one process of the host knows it for all. */
void metrics_set(struct metrics *metrics, enum metric gauge, uint64_t value);

/* Which counter a status code or a mail's outcome belongs to. */
enum metric metric_of_code(int code);
enum metric metric_of_outcome(enum mail_outcome outcome);

/* Appends all counters in Prometheus' text format. */
void metrics_write(struct buf *out, const struct metrics *metrics);

#endif
