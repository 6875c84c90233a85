/* metrics.h - what all processes of a host count together, and what its relay has seen.
 *
 * They live in a small file that every process maps, so the sums go on when a
 * process is killed.  Nobody may shorten that file while it is in use; it may be
 * removed, which begins anew with the next process.  Another version has a
 * file of its own: during an upgrade the old version's processes go on counting
 * there, and not in other counters of ours.
 * Threads and processes: counting is one or two atomic additions, without a lock
 * or a call of the system.  Gauges are set by the one process that is the relay,
 * so what they say is as old as its last look, which is one of them.
 */
#ifndef LEAD_METRICS_H
#define LEAD_METRICS_H

#include "lib/base/buf.h"
#include "lib/mail/transport.h"

/* Changes with the list of counters, also where their number stays the same.  It stands in the file and in its name:
 * processes of two versions that start in turn would else replace each other's file, and those of one version would
 * in the end count in several. */
#define METRICS_LAYOUT 4

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
    METRIC_COMMIT_FAILURES,
    METRIC_MAILS_ACCEPTED,
    METRIC_MAILS_TRANSIENT,
    METRIC_MAILS_PERMANENT,
    METRIC_MAILS_CONFIGURATION,
    METRIC_MAILS_AMBIGUOUS,
    METRIC_MAILS_PARKED,
    METRIC_KEYS_UNNAMED,
    METRIC_SPOOL_LEADS, /* gauges from here on: metrics_set */
    METRIC_SPOOL_BYTES,
    METRIC_SPOOL_LIMIT_BYTES,
    METRIC_BREAKER_OPEN,   /* 0 or 1 */
    METRIC_SPOOL_OLDEST_S, /* when it was received, in seconds since 1970; 0: there is none */
    METRIC_MAILS_WAITING,
    METRIC_MAILS_OLDEST_S,   /* the same */
    METRIC_RELAY_LOOKED_S,   /* when the relay has last looked into the store; 0: never */
    METRIC_TROUBLES_SILENCE, /* gauges too: in the order of enum trouble_kind */
    METRIC_TROUBLES_SPOOL_STUCK,
    METRIC_TROUBLES_TABLE_REFUSED,
    METRIC_TROUBLES_MAIL_PAUSED,
    METRIC_TROUBLES_KEY_RETIRING,
    METRIC_TROUBLES_SAS_ENDING,
    METRIC_TROUBLES_CERTIFICATE_ENDING,
    METRIC_COUNT
};

/* Times are observed in microseconds. */
enum histogram {
    HISTOGRAM_LEAD_US,
    HISTOGRAM_COMMIT_US,
    HISTOGRAM_TABLE_US,
    HISTOGRAM_BATCH_LEADS,
    HISTOGRAM_COUNT
};

struct metrics;

/* Maps the counters at path, and makes them when they are not there, of
 * another version or another user's (that file is removed).  NULL path, or any failure: counters of this process alone,
 * and *why says why (ST_OK only for shared ones).  *metrics is always set. */
enum status metrics_open(const char *path, struct metrics **metrics, struct fail *why);
void metrics_close(struct metrics *metrics);

/* The counters at path as they are now; what is counted then goes nowhere.  ST_NOT_FOUND: no leadhook has made them; ST_INVALID: they are
 * another version's or none; ST_IO; ST_NOMEM. */
MUST_CHECK enum status metrics_view(const char *path, struct metrics **metrics, struct fail *why);

void metrics_add(struct metrics *metrics, enum metric metric, uint64_t amount);
/* A gauge: what the configuration says, or what the relay has seen, which is one process of the host. */
void metrics_set(struct metrics *metrics, enum metric gauge, uint64_t value);

void metrics_observe(struct metrics *metrics, enum histogram histogram, uint64_t value);

/* A lead that was taken, by lead_source_index and lead_action_index. */
void metrics_count_lead(struct metrics *metrics, size_t source, size_t action);

uint64_t metrics_get(const struct metrics *metrics, enum metric metric);

/* Counts a request that came with a good key whose name is text (1 to
 * LIMIT_KEY_NAME_BYTES bytes).  A name keeps its place until the file is removed;
 * when LIMIT_KEYS names have one, others are counted in METRIC_KEYS_UNNAMED. */
void metrics_count_key(struct metrics *metrics, struct span text, int64_t now_s);

struct key_use {
    uint64_t requests;
    int64_t last_s; /* seconds since 1970 */
};
/* What the keys of that name have done on this host; false: nothing that is known. */
bool metrics_key_use(const struct metrics *metrics, struct span name, struct key_use *use);

/* When an offer had its last lead. */
struct offer_time {
    struct span name; /* 1 to LIMIT_PARTITION_KEY_BYTES lower-case letters, digits, '.', '_' and '-' */
    int64_t last_s;   /* seconds since 1970 */
};
/* Replaces what is known of offers; the relay's alone.  count is at most LIMIT_OFFERS_SHOWN; names of another form are left out. */
void metrics_set_offers(struct metrics *metrics, const struct offer_time *offers, size_t count);

/* Which counter a status code or a mail's outcome belongs to. */
enum metric metric_of_code(int code);
enum metric metric_of_outcome(enum mail_outcome outcome);

/* Appends everything in Prometheus' text format; ages are those at now_s (seconds since 1970).  At most
 * LIMIT_REPLY_BODY_BYTES, whatever the file holds. */
void metrics_write(struct buf *out, const struct metrics *metrics, int64_t now_s);

#endif
