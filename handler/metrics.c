#include "handler/metrics.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

/* Changes with the list of counters; another program's file is begun anew. */
#define METRICS_MAGIC 0x4C454144484B3031u /* "LEADHK01" */

enum { LOCK_TRIES = 200, LOCK_PAUSE_MS = 5 };

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
    [METRIC_COMMITS] = {"leadhook_commits_total", "", "Transactions written to the store."},
    [METRIC_COMMIT_LEADS] = {"leadhook_commit_leads_total", "", "Leads in these transactions."},
    [METRIC_COMMIT_FAILURES] = {"leadhook_commit_failures_total", "", "Transactions that failed."},
    [METRIC_MAILS_ACCEPTED] = {"leadhook_mails_total", "{outcome=\"accepted\"}",
                               "Attempts to send a mail by outcome."},
    [METRIC_MAILS_TRANSIENT] = {"leadhook_mails_total", "{outcome=\"transient\"}", NULL},
    [METRIC_MAILS_PERMANENT] = {"leadhook_mails_total", "{outcome=\"permanent\"}", NULL},
    [METRIC_MAILS_CONFIGURATION] = {"leadhook_mails_total", "{outcome=\"configuration\"}", NULL},
    [METRIC_MAILS_AMBIGUOUS] = {"leadhook_mails_total", "{outcome=\"ambiguous\"}", NULL},
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

/* Under the file's lock: brings it to the right size and content.  NULL: *error is the errno. */
static struct metrics *map(int fd, int *error)
{
    if (!lock(fd)) {
        *error = errno;
        return NULL;
    }
    /* The blocks have to be there: on a full disk, writing to a hole of a mapped file ends the process. */
    *error = posix_fallocate(fd, 0, sizeof(struct metrics));
    if (*error != 0)
        return NULL;
    struct metrics *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (m == MAP_FAILED) {
        *error = errno;
        return NULL;
    }
    if (!is_current(m)) {
        memset((void *)m, 0, sizeof *m);
        m->count = METRIC_COUNT;
        m->magic = METRICS_MAGIC;
    }
    return m;
}

enum status metrics_open(const char *path, struct metrics **metrics, struct fail *why)
{
    *metrics = &private_metrics;
    if (!path)
        return fail_set(why, ST_NOT_FOUND, 0, "no path for shared counters");
    /* O_NONBLOCK: a FIFO in place of the file must not hang us. */
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0600);
    if (fd < 0)
        return fail_set(why, ST_IO, errno, "cannot open '%s'", path);
    int error = 0;
    struct metrics *m = map(fd, &error);
    /* Closing alone would not: the mapping keeps the open file, and with it the lock. */
    (void)flock(fd, LOCK_UN);
    (void)close(fd);
    if (!m)
        return fail_set(why, ST_IO, error, "cannot map '%s'", path);
    *metrics = m;
    return ST_OK;
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
            buf_addf(out, "# HELP %s %s\n# TYPE %s counter\n", NAMES[i].family, NAMES[i].help,
                     NAMES[i].family);
        uint64_t value = atomic_load_explicit(&metrics->values[i], memory_order_relaxed);
        buf_addf(out, "%s%s %llu\n", NAMES[i].family, NAMES[i].labels, (unsigned long long)value);
    }
}
