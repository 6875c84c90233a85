#include "handler/metrics.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* Changes with the list of counters, also where their number stays the same. */
#define METRICS_MAGIC 0x4C454144484B3032u /* "LEADHK02" */

enum { LOCK_TRIES = 200, LOCK_PAUSE_MS = 5, REPLACE_TRIES = 5 };

struct metrics {
    uint64_t magic;
    uint64_t count;
    _Atomic uint64_t values[METRIC_COUNT];
};

/* A lock in the mapped memory would be one process's alone. */
_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2 && sizeof(uint64_t) == sizeof(long long), "counters are shared");

static const struct {
    const char *family;
    const char *labels;
    const char *help; /* with the first of a family */
    bool is_gauge;
} NAMES[METRIC_COUNT] = {
    [METRIC_REQUESTS_200] = {"leadhook_requests_total", "{code=\"200\"}",
                             "Requests by status code of the answer."},
    [METRIC_REQUESTS_202] = {"leadhook_requests_total", "{code=\"202\"}", NULL},
    [METRIC_REQUESTS_400] = {"leadhook_requests_total", "{code=\"400\"}", NULL},
    [METRIC_REQUESTS_401] = {"leadhook_requests_total", "{code=\"401\"}", NULL},
    [METRIC_REQUESTS_405] = {"leadhook_requests_total", "{code=\"405\"}", NULL},
    [METRIC_REQUESTS_413] = {"leadhook_requests_total", "{code=\"413\"}", NULL},
    [METRIC_REQUESTS_415] = {"leadhook_requests_total", "{code=\"415\"}", NULL},
    [METRIC_REQUESTS_422] = {"leadhook_requests_total", "{code=\"422\"}", NULL},
    [METRIC_REQUESTS_429] = {"leadhook_requests_total", "{code=\"429\"}", NULL},
    [METRIC_REQUESTS_503] = {"leadhook_requests_total", "{code=\"503\"}", NULL},
    [METRIC_REQUESTS_OTHER] = {"leadhook_requests_total", "{code=\"other\"}", NULL},
    [METRIC_REQUESTS_CUT_OFF] = {"leadhook_requests_cut_off_total", "",
                                 "Requests that ended before they were whole."},
    [METRIC_REPLIES_LOST] = {"leadhook_replies_lost_total", "", "Answers that could not be written."},
    [METRIC_LEADS_STORED] = {"leadhook_leads_total", "{outcome=\"stored\"}", "Leads by what became of them."},
    [METRIC_LEADS_REPEAT] = {"leadhook_leads_total", "{outcome=\"repeat\"}", NULL},
    [METRIC_LEADS_QUARANTINED] = {"leadhook_leads_total", "{outcome=\"quarantined\"}", NULL},
    [METRIC_LEADS_SPOOLED] = {"leadhook_leads_total", "{outcome=\"spooled\"}", NULL},
    [METRIC_SPOOL_DRAINED] = {"leadhook_spool_drained_total", "",
                              "Leads copied from the spool into the table."},
    [METRIC_SPOOL_LOST] = {"leadhook_spool_lost_total", "", "Leads in the spool that damage destroyed."},
    [METRIC_BREAKER_OPENED] = {"leadhook_breaker_openings_total", "", "Times that the table was found down."},
    [METRIC_ALARMS_RAISED] = {"leadhook_alarms_total", "{event=\"raised\"}", "Alarms for the operator."},
    [METRIC_ALARMS_MAILED] = {"leadhook_alarms_total", "{event=\"mailed\"}", NULL},
    [METRIC_COMMITS] = {"leadhook_commits_total", "", "Transactions written to the store."},
    [METRIC_COMMIT_LEADS] = {"leadhook_commit_leads_total", "", "Leads in these transactions."},
    [METRIC_COMMIT_FAILURES] = {"leadhook_commit_failures_total", "", "Transactions that failed."},
    [METRIC_MAILS_ACCEPTED] = {"leadhook_mails_total", "{outcome=\"accepted\"}",
                               "Attempts to send a mail by outcome."},
    [METRIC_MAILS_TRANSIENT] = {"leadhook_mails_total", "{outcome=\"transient\"}", NULL},
    [METRIC_MAILS_PERMANENT] = {"leadhook_mails_total", "{outcome=\"permanent\"}", NULL},
    [METRIC_MAILS_CONFIGURATION] = {"leadhook_mails_total", "{outcome=\"configuration\"}", NULL},
    [METRIC_MAILS_AMBIGUOUS] = {"leadhook_mails_total", "{outcome=\"ambiguous\"}", NULL},
    [METRIC_SPOOL_LEADS] = {"leadhook_spool_leads", "", "Leads that wait in this host's spool.", true},
    [METRIC_SPOOL_BYTES] = {"leadhook_spool_bytes", "", "Bytes that the spool takes on the disk.", true},
};

/* For when nothing can be shared, also when there is no memory at all. */
static struct metrics private_metrics = {.magic = METRICS_MAGIC, .count = METRIC_COUNT};

static bool is_current(const struct metrics *m)
{
    return m->magic == METRICS_MAGIC && m->count == METRIC_COUNT;
}

/* Others hold the lock for an instant only; one that is stopped in it must not hold us up. */
static bool lock(int fd)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000L};
    for (int tries = 0; tries < LOCK_TRIES; tries++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return true;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        (void)nanosleep(&pause, NULL);
    }
    return false;
}

/* Whether the locked file is still the one at path; another process may have replaced it before we had the lock. */
static bool is_at(int fd, const char *path)
{
    struct stat ours, there;
    return fstat(fd, &ours) == 0 && lstat(path, &there) == 0 && ours.st_dev == there.st_dev &&
           ours.st_ino == there.st_ino;
}

enum page { PAGE_READY, PAGE_FOREIGN, PAGE_FAILED };

/* Under the file's lock: maps a file of this version, or makes an empty one to one. */
static enum page map(int fd, struct metrics **page, int *error)
{
    struct stat info;
    if (fstat(fd, &info) != 0) {
        *error = errno;
        return PAGE_FAILED;
    }
    if (info.st_size != 0 && (size_t)info.st_size != sizeof(struct metrics))
        return PAGE_FOREIGN;
    /* The blocks have to be there: on a full disk, writing to a hole of a mapped file ends the process. */
    *error = posix_fallocate(fd, 0, sizeof(struct metrics));
    if (*error != 0)
        return PAGE_FAILED;
    struct metrics *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (m == MAP_FAILED) {
        *error = errno;
        return PAGE_FAILED;
    }
    if (info.st_size == 0) {
        m->count = METRIC_COUNT;
        m->magic = METRICS_MAGIC;
    }
    if (!is_current(m)) {
        (void)munmap(m, sizeof *m);
        return PAGE_FOREIGN;
    }
    *page = m;
    return PAGE_READY;
}

/* Opens the file at path and maps it.  PAGE_FOREIGN: it is gone now; the next call makes a new one. */
static enum page open_page(const char *path, struct metrics **page, int *error)
{
    /* O_NONBLOCK: a FIFO in place of the file must not hang us. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    enum page result = PAGE_FAILED;
    if (fd < 0 || !lock(fd))
        *error = errno;
    else if (!is_at(fd, path))
        result = PAGE_FOREIGN;
    else
        result = map(fd, page, error);
    if (result == PAGE_FOREIGN && is_at(fd, path) && unlink(path) != 0) {
        *error = errno;
        result = PAGE_FAILED;
    }
    if (fd >= 0) {
        /* Closing alone would not: the mapping keeps the open file, and with it the lock. */
        (void)flock(fd, LOCK_UN);
        (void)close(fd);
    }
    return result;
}

enum status metrics_open(const char *path, struct metrics **metrics, struct fail *why)
{
    *metrics = &private_metrics;
    if (!path)
        return fail_set(why, ST_NOT_FOUND, 0, "no path for shared counters");
    int error = EBUSY;
    enum page result = PAGE_FOREIGN;
    for (int tries = 0; tries < REPLACE_TRIES && result == PAGE_FOREIGN; tries++)
        result = open_page(path, metrics, &error);
    return result == PAGE_READY ? ST_OK : fail_set(why, ST_IO, error, "cannot map '%s'", path);
}

void metrics_close(struct metrics *metrics)
{
    if (metrics && metrics != &private_metrics)
        (void)munmap(metrics, sizeof *metrics);
}

void metrics_add(struct metrics *metrics, enum metric metric, uint64_t amount)
{
    (void)atomic_fetch_add_explicit(&metrics->values[metric], amount, memory_order_relaxed);
}

void metrics_set(struct metrics *metrics, enum metric gauge, uint64_t value)
{
    atomic_store_explicit(&metrics->values[gauge], value, memory_order_relaxed);
}

enum metric metric_of_code(int code)
{
    switch (code) {
    case 200:
        return METRIC_REQUESTS_200;
    case 202:
        return METRIC_REQUESTS_202;
    case 400:
        return METRIC_REQUESTS_400;
    case 401:
        return METRIC_REQUESTS_401;
    case 405:
        return METRIC_REQUESTS_405;
    case 413:
        return METRIC_REQUESTS_413;
    case 415:
        return METRIC_REQUESTS_415;
    case 422:
        return METRIC_REQUESTS_422;
    case 429:
        return METRIC_REQUESTS_429;
    case 503:
        return METRIC_REQUESTS_503;
    default:
        return METRIC_REQUESTS_OTHER;
    }
}

enum metric metric_of_outcome(enum mail_outcome outcome)
{
    switch (outcome) {
    case MAIL_ACCEPTED:
        return METRIC_MAILS_ACCEPTED;
    case MAIL_TRANSIENT:
        return METRIC_MAILS_TRANSIENT;
    case MAIL_PERMANENT:
        return METRIC_MAILS_PERMANENT;
    case MAIL_CONFIGURATION:
        return METRIC_MAILS_CONFIGURATION;
    case MAIL_AMBIGUOUS:
        return METRIC_MAILS_AMBIGUOUS;
    }
    return METRIC_MAILS_TRANSIENT;
}

void metrics_write(struct buf *out, const struct metrics *metrics)
{
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        if (NAMES[i].help)
            buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", NAMES[i].family, NAMES[i].help, NAMES[i].family,
                     NAMES[i].is_gauge ? "gauge" : "counter");
        uint64_t value = atomic_load_explicit(&metrics->values[i], memory_order_relaxed);
        buf_addf(out, "%s%s %llu\n", NAMES[i].family, NAMES[i].labels, (unsigned long long)value);
    }
}
