#include "handler/metrics.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/text.h"

/* Ours */
#include "handler/metrics_internal.h"

#define METRICS_MAGIC (0x4C454144484B3030u + METRICS_LAYOUT) /* "LEADHK00" and the digit of the layout */

enum { LOCK_WAIT_MS = 1000, REPLACE_TRIES = 5 };

/* For when nothing can be shared, also when there is no memory at all. */
static struct metrics private_metrics = {.magic = METRICS_MAGIC, .count = METRIC_COUNT};

static bool is_current(const struct metrics *m)
{
    return m->magic == METRICS_MAGIC && m->count == METRIC_COUNT;
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
    /* Another user could shorten it, which ends all who count in it.  Root may look after leadhook's own. */
    if (info.st_uid != geteuid() && geteuid() != 0)
        return PAGE_FOREIGN;
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
    /* Others hold the lock for an instant only; one that is stopped in it must not hold us up. */
    if (fd < 0 || !file_lock(fd, LOCK_EX, clock_monotonic_ms() + LOCK_WAIT_MS))
        *error = errno;
    else if (!file_is_at(fd, AT_FDCWD, path))
        result = PAGE_FOREIGN;
    else
        result = map(fd, page, error);
    if (result == PAGE_FOREIGN && file_is_at(fd, AT_FDCWD, path) && unlink(path) != 0) {
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

/* Copied and not mapped: leadctl may be root's, and whoever owns the file could shorten it under its feet. */
enum status metrics_view(const char *path, struct metrics **metrics, struct fail *why)
{
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return fail_set(why, errno == ENOENT ? ST_NOT_FOUND : ST_IO, errno, "cannot open '%s'", path);
    enum status status = ST_OK;
    struct metrics *m = mmap(NULL, sizeof *m, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ssize_t got = 0;
    if (m == MAP_FAILED)
        status = fail_set(why, ST_NOMEM, errno, "no memory for the counters");
    else if (fstat(fd, &info) != 0)
        status = fail_set(why, ST_IO, errno, "cannot examine '%s'", path);
    else if (S_ISREG(info.st_mode) && (got = pread(fd, m, sizeof *m, 0)) < 0)
        status = fail_set(why, ST_IO, errno, "cannot read '%s'", path);
    else if ((size_t)got != sizeof *m || (size_t)info.st_size != sizeof *m || !is_current(m))
        status = fail_set(why, ST_INVALID, 0, "'%s' is not of this version of leadhook", path);
    (void)close(fd); /* only read from */
    if (status == ST_OK)
        *metrics = m;
    else if (m != MAP_FAILED)
        (void)munmap(m, sizeof *m);
    return status;
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

void metrics_count_lead(struct metrics *metrics, size_t source, size_t action)
{
    (void)atomic_fetch_add_explicit(&metrics->leads[source][action], 1, memory_order_relaxed);
}

/* From the quickest transaction on a local disk to more than a sender waits. */
static const struct bound SECONDS[] = {
    {1000, "0.001"},  {2500, "0.0025"}, {5000, "0.005"},  {10000, "0.01"}, {25000, "0.025"},
    {50000, "0.05"},  {100000, "0.1"},  {250000, "0.25"}, {500000, "0.5"}, {1000000, "1"},
    {2500000, "2.5"}, {5000000, "5"},   {10000000, "10"}, {0, NULL},
};
static const struct bound LEADS[] = {
    {1, "1"},  {2, "2"}, {5, "5"}, {10, "10"}, {20, "20"}, {50, "50"}, {LIMIT_BATCH_OPERATIONS, "100"},
    {0, NULL},
};
_Static_assert(sizeof SECONDS / sizeof SECONDS[0] <= BUCKETS && sizeof LEADS / sizeof LEADS[0] <= BUCKETS,
               "each bound has a bucket, and what is over all of them");
_Static_assert(LIMIT_BATCH_OPERATIONS == 100, "as the label says");

const struct bound *metrics_bounds(enum histogram histogram)
{
    return histogram == HISTOGRAM_BATCH_LEADS ? LEADS : SECONDS;
}

void metrics_observe(struct metrics *metrics, enum histogram histogram, uint64_t value)
{
    struct histogram_counts *h = &metrics->histograms[histogram];
    const struct bound *bounds = metrics_bounds(histogram);
    size_t i = 0;
    while (bounds[i].label && value > bounds[i].value)
        i++;
    (void)atomic_fetch_add_explicit(&h->buckets[i], 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&h->sum, value, memory_order_relaxed);
}

uint64_t metrics_get(const struct metrics *metrics, enum metric metric)
{
    return atomic_load_explicit(&metrics->values[metric], memory_order_relaxed);
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

/* --- names ---------------------------------------------------------------------------------------------------- */

uint64_t metrics_hash(const char *name)
{
    uint64_t hash = text_hash(TEXT_HASH_BEGIN, name);
    return hash ? hash : 1;
}

bool metrics_read_name(const _Atomic uint64_t *hash, const _Atomic uint64_t *words, size_t count,
                       uint64_t *name)
{
    uint64_t wanted = atomic_load_explicit(hash, memory_order_acquire);
    for (size_t i = 0; i < count; i++)
        name[i] = atomic_load_explicit(&words[i], memory_order_relaxed);
    name[count] = 0;
    return wanted != 0 && metrics_hash((const char *)name) == wanted;
}

int64_t metrics_read_time(const _Atomic int64_t *last_s)
{
    int64_t seconds = atomic_load_explicit(last_s, memory_order_acquire);
    return seconds > 0 && seconds <= LAST_S_MAX ? seconds : 0;
}

/* --- by key -------------------------------------------------------------------------------------------------- */

struct key_name {
    union {
        uint64_t words[KEY_WORDS];
        char text[LIMIT_KEY_NAME_BYTES + 1]; /* padded with NULs */
    };
    uint64_t hash;
};

static struct key_name name_of(struct span text)
{
    struct key_name name = {0};
    if (text.len <= LIMIT_KEY_NAME_BYTES)
        memcpy(name.text, text.ptr, text.len);
    name.hash = metrics_hash(name.text);
    return name;
}

/* Which slot the name has or, if it has none, may take; LIMIT_KEYS: all are others'. */
static size_t seek_slot(const struct metrics *metrics, uint64_t hash)
{
    for (size_t i = 0; i < LIMIT_KEYS; i++) {
        size_t at = (hash + i) % LIMIT_KEYS;
        uint64_t there = atomic_load_explicit(&metrics->keys[at].hash, memory_order_relaxed);
        if (there == hash || there == 0)
            return at;
    }
    return LIMIT_KEYS;
}

/* NULL: all slots are others'. */
static struct key_slot *take_slot(struct metrics *metrics, uint64_t hash)
{
    size_t at;
    while ((at = seek_slot(metrics, hash)) < LIMIT_KEYS) {
        struct key_slot *slot = &metrics->keys[at];
        uint64_t there = atomic_load_explicit(&slot->hash, memory_order_relaxed);
        /* Another process may be faster, with the same name or another one: then `there` is its hash. */
        if (there == 0 && atomic_compare_exchange_strong(&slot->hash, &there, hash))
            there = hash;
        if (there == hash)
            return slot;
    }
    return NULL;
}

void metrics_count_key(struct metrics *metrics, struct span text, int64_t now_s)
{
    struct key_name name = name_of(text);
    struct key_slot *slot = take_slot(metrics, name.hash);
    if (!slot) {
        metrics_add(metrics, METRIC_KEYS_UNNAMED, 1);
        return;
    }
    for (size_t i = 0; i < KEY_WORDS; i++) {
        if (atomic_load_explicit(&slot->name[i], memory_order_relaxed) != name.words[i])
            atomic_store_explicit(&slot->name[i], name.words[i], memory_order_relaxed);
    }
    (void)atomic_fetch_add_explicit(&slot->requests, 1, memory_order_relaxed);
    if (atomic_load_explicit(&slot->last_s, memory_order_relaxed) != now_s)
        atomic_store_explicit(&slot->last_s, now_s, memory_order_relaxed);
}

bool metrics_key_use(const struct metrics *metrics, struct span text, struct key_use *use)
{
    struct key_name name = name_of(text);
    size_t at = seek_slot(metrics, name.hash);
    if (at == LIMIT_KEYS || atomic_load_explicit(&metrics->keys[at].hash, memory_order_relaxed) == 0)
        return false;
    use->requests = atomic_load_explicit(&metrics->keys[at].requests, memory_order_relaxed);
    use->last_s = metrics_read_time(&metrics->keys[at].last_s);
    return true;
}

/* --- by offer ------------------------------------------------------------------------------------------------- */

static bool is_offer_name(struct span name)
{
    return name.len > 0 && name.len <= LIMIT_PARTITION_KEY_BYTES && span_has_only(name, "._-");
}

/* Without its hash nobody believes a name.  Who reads a time of ours reads the name after it, and so finds ours. */
static void set_offer(struct offer_slot *slot, const struct offer_time *offer)
{
    uint64_t words[OFFER_WORDS + 1] = {0};
    memcpy(words, offer->name.ptr, offer->name.len);
    uint64_t hash = metrics_hash((const char *)words);
    if (atomic_load_explicit(&slot->hash, memory_order_relaxed) != hash) {
        atomic_store_explicit(&slot->hash, 0, memory_order_seq_cst);
        for (size_t i = 0; i < OFFER_WORDS; i++)
            atomic_store_explicit(&slot->name[i], words[i], memory_order_relaxed);
    }
    atomic_store_explicit(&slot->last_s, offer->last_s, memory_order_release);
    atomic_store_explicit(&slot->hash, hash, memory_order_release);
}

void metrics_set_offers(struct metrics *metrics, const struct offer_time *offers, size_t count)
{
    size_t used = 0;
    for (size_t i = 0; i < count && used < LIMIT_OFFERS_SHOWN; i++) {
        if (is_offer_name(offers[i].name))
            set_offer(&metrics->offers[used++], &offers[i]);
    }
    for (; used < LIMIT_OFFERS_SHOWN; used++)
        atomic_store_explicit(&metrics->offers[used].hash, 0, memory_order_relaxed);
}
