/* Counters: shared between threads and processes, surviving both, and as Prometheus reads them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "handler/metrics.h"
#include "lib/base/clock.h"
#include "lib/base/limits.h"
#include "lib/base/text.h"
#include "lib/lead/lead.h"

enum { THREADS = 4, PROCESSES = 4, ROUNDS = 20000, RACES = 400, PATIENCE_MS = 10000 };
#define NOW_S  1800000000LL
#define LAST_S 253402300799LL /* the longest time */

struct fixture {
    char directory[64];
    char path[96];
    struct metrics *metrics;
    struct buf text;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    *state = f;
    const char *base = getenv("TMPDIR");
    (void)snprintf(f->directory, sizeof f->directory, "%s/metrics-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(f->directory))
        return -1;
    (void)snprintf(f->path, sizeof f->path, "%s/m", f->directory);
    f->text = BUF_INIT(LIMIT_REPLY_BODY_BYTES);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    metrics_close(f->metrics);
    buf_release(&f->text);
    (void)unlink(f->path);
    (void)rmdir(f->directory);
    free(f);
    return 0;
}

/* The value that stands behind `name ` at the beginning of a line. */
static long long value_of(struct fixture *f, const struct metrics *metrics, const char *name)
{
    buf_reset(&f->text);
    metrics_write(&f->text, metrics, NOW_S);
    struct span rest = buf_span(&f->text), line;
    while (span_next(&rest, '\n', &line)) {
        uint64_t value;
        if (span_starts(line, span_of(name)) && line.len > strlen(name) && line.ptr[strlen(name)] == ' ' &&
            span_to_u64(span_from(line, strlen(name) + 1), INT64_MAX, &value))
            return (long long)value;
    }
    fail_msg("no line for %s in:\n%s", name, f->text.data);
    return -1;
}

static void open_shared(struct fixture *f, struct metrics **metrics)
{
    struct fail why = {0};
    if (metrics_open(f->path, metrics, &why) != ST_OK)
        fail_msg("open: %s", why.text);
}

static void *count_thread(void *metrics)
{
    for (int i = 0; i < ROUNDS; i++) {
        metrics_add(metrics, METRIC_COMMIT_FAILURES, 1);
        metrics_add(metrics, METRIC_SPOOL_DRAINED, 3);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[THREADS];
    open_shared(f, &f->metrics);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_thread, f->metrics), 0);
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(value_of(f, f->metrics, "leadhook_commit_failures_total"), THREADS * ROUNDS);
    assert_int_equal(value_of(f, f->metrics, "leadhook_spool_drained_total"), 3 * THREADS * ROUNDS);
}

/* Processes map the file themselves, count, and die without any tidying up. */
static void test_processes(void **state)
{
    struct fixture *f = *state;
    pid_t children[PROCESSES];
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        if (children[i] == 0) {
            struct metrics *metrics;
            if (metrics_open(f->path, &metrics, NULL) != ST_OK)
                _exit(1);
            (void)count_thread(metrics);
            (void)raise(SIGKILL);
            _exit(2);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        int end;
        assert_int_equal(waitpid(children[i], &end, 0), children[i]);
        assert_true(WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL);
    }
    open_shared(f, &f->metrics);
    assert_int_equal(value_of(f, f->metrics, "leadhook_commit_failures_total"), PROCESSES * ROUNDS);
}

static void write_file(const struct fixture *f, const void *bytes, size_t len)
{
    FILE *file = fopen(f->path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* Who has mapped the file does not keep others out, and who holds its lock does so for a moment only. */
static void test_lock(void **state)
{
    struct fixture *f = *state;
    struct metrics *second;
    struct fail why = {0};
    open_shared(f, &f->metrics);
    open_shared(f, &second);
    metrics_add(f->metrics, METRIC_COMMIT_FAILURES, 4);
    metrics_add(second, METRIC_COMMIT_FAILURES, 3);
    assert_int_equal(value_of(f, f->metrics, "leadhook_commit_failures_total"), 7);
    assert_int_equal(value_of(f, second, "leadhook_commit_failures_total"), 7);
    metrics_close(second);

    int fd = open(f->path, O_RDWR | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    int64_t begun_ms = clock_monotonic_ms();
    assert_int_equal(metrics_open(f->path, &second, &why), ST_IO);
    assert_in_range(clock_monotonic_ms() - begun_ms, 0, PATIENCE_MS);
    assert_non_null(second);
    assert_ptr_not_equal(second, f->metrics);
    metrics_close(second);
    (void)close(fd);
    open_shared(f, &second);
    metrics_close(second);
}

/* A file that is kept, and files that are none of ours and begun anew. */
static void test_file(void **state)
{
    struct fixture *f = *state;
    static const unsigned char other[64 * 1024] = "something else";
    static const size_t lengths[] = {0, 1, 8, 16, sizeof other};
    struct stat info;

    open_shared(f, &f->metrics);
    metrics_add(f->metrics, METRIC_COMMIT_FAILURES, 5);
    metrics_close(f->metrics);
    open_shared(f, &f->metrics);
    assert_int_equal(value_of(f, f->metrics, "leadhook_commit_failures_total"), 5);
    assert_int_equal(stat(f->path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    metrics_close(f->metrics);
    f->metrics = NULL;

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        write_file(f, other, lengths[i]);
        open_shared(f, &f->metrics);
        long long got = value_of(f, f->metrics, "leadhook_commit_failures_total");
        if (got != 0)
            fail_msg("a foreign file of %zu bytes: got %lld, want 0", lengths[i], got);
        metrics_add(f->metrics, METRIC_COMMIT_FAILURES, 1);
        metrics_close(f->metrics);
        f->metrics = NULL;
    }
    /* The right mark with another number of counters is another version.  Who has it mapped keeps it. */
    struct metrics *older;
    unsigned char head[16];
    open_shared(f, &older);
    metrics_add(older, METRIC_COMMIT_FAILURES, 7);
    FILE *file = fopen(f->path, "r+");
    assert_non_null(file);
    assert_int_equal(fread(head, 1, sizeof head, file), sizeof head);
    head[8]++;
    assert_int_equal(fseek(file, 0, SEEK_SET), 0);
    assert_int_equal(fwrite(head, 1, sizeof head, file), sizeof head);
    assert_int_equal(fclose(file), 0);
    open_shared(f, &f->metrics);
    metrics_add(older, METRIC_COMMIT_FAILURES, 1);
    assert_int_equal(value_of(f, f->metrics, "leadhook_commit_failures_total"), 0);
    assert_int_equal(value_of(f, older, "leadhook_commit_failures_total"), 9);
    metrics_close(older);
}

/* A gauge holds what was set last, for all who look. */
/* Whose file it is may shorten it, which would end us by SIGBUS: it is removed, and ours begins.  As root, who can make
 * such a file and look after it. */
static void test_file_of_another_user(void **state)
{
    enum { NOBODY = 65534 };
    struct fixture *f = *state;
    struct stat info;
    open_shared(f, &f->metrics);
    assert_int_equal(chmod(f->path, 0666), 0);
    assert_int_equal(chmod(f->directory, 0777), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct metrics *ours;
        if (chdir(f->directory) != 0 || (geteuid() == 0 && setuid(NOBODY) != 0))
            _exit(2);
        _exit(metrics_open("m", &ours, NULL) == ST_OK ? 0 : 1);
    }
    int end;
    assert_int_equal(waitpid(child, &end, 0), child);
    assert_int_equal(end, 0);
    assert_int_equal(stat(f->path, &info), 0);
    assert_int_equal(info.st_uid, geteuid() == 0 ? NOBODY : geteuid());
    struct metrics *roots;
    open_shared(f, &roots); /* and root leaves it */
    metrics_close(roots);
    assert_int_equal(stat(f->path, &info), 0);
    assert_int_equal(info.st_uid, geteuid() == 0 ? NOBODY : geteuid());
}

static void test_gauge(void **state)
{
    struct fixture *f = *state;
    struct metrics *second;
    open_shared(f, &f->metrics);
    open_shared(f, &second);
    metrics_set(f->metrics, METRIC_SPOOL_LEADS, 12);
    metrics_set(f->metrics, METRIC_SPOOL_LEADS, 7);
    assert_int_equal(value_of(f, second, "leadhook_spool_leads"), 7);
    metrics_close(second);
}

/* --- leads, histograms, ages, offers ---------------------------------------------------------------------------- */

/* Every combination has a counter of its own. */
static void test_leads(void **state)
{
    struct fixture *f = *state;
    char name[128];
    open_shared(f, &f->metrics);
    for (size_t source = 0; source < LEAD_SOURCE_LABELS; source++) {
        for (size_t action = 0; action < LEAD_ACTION_LABELS; action++) {
            for (size_t i = 0; i < 10 * source + action; i++)
                metrics_count_lead(f->metrics, source, action);
        }
    }
    for (size_t source = 0; source < LEAD_SOURCE_LABELS; source++) {
        for (size_t action = 0; action < LEAD_ACTION_LABELS; action++) {
            (void)snprintf(name, sizeof name, "leadhook_leads_taken_total{source=\"%s\",action=\"%s\"}",
                           lead_source_label(source), lead_action_label(action));
            assert_int_equal(value_of(f, f->metrics, name), 10 * source + action);
        }
    }
}

static bool has_line(struct fixture *f, const char *wanted)
{
    buf_reset(&f->text);
    metrics_write(&f->text, f->metrics, NOW_S);
    struct span rest = buf_span(&f->text), line;
    while (span_next(&rest, '\n', &line)) {
        if (span_eq(line, span_of(wanted)))
            return true;
    }
    return false;
}

/* A value that is a bound belongs to it; buckets hold what is below them too. */
static void test_histograms(void **state)
{
    struct fixture *f = *state;
    static const uint64_t times_us[] = {0, 999, 1000, 1001, 10000000, 10000001, 250000};
    static const char *const lines[] = {
        "leadhook_commit_seconds_bucket{le=\"0.001\"} 3",
        "leadhook_commit_seconds_bucket{le=\"0.0025\"} 4",
        "leadhook_commit_seconds_bucket{le=\"0.1\"} 4",
        "leadhook_commit_seconds_bucket{le=\"0.25\"} 5",
        "leadhook_commit_seconds_bucket{le=\"5\"} 5",
        "leadhook_commit_seconds_bucket{le=\"10\"} 6",
        "leadhook_commit_seconds_bucket{le=\"+Inf\"} 7",
        "leadhook_commit_seconds_count 7",
        "leadhook_commit_seconds_sum 20.253001",
        "leadhook_table_seconds_count 0",
        "leadhook_batch_leads_bucket{le=\"1\"} 1",
        "leadhook_batch_leads_bucket{le=\"50\"} 1",
        "leadhook_batch_leads_bucket{le=\"100\"} 2",
        "leadhook_batch_leads_bucket{le=\"+Inf\"} 2",
        "leadhook_batch_leads_sum 101",
        "leadhook_batch_leads_count 2",
    };
    open_shared(f, &f->metrics);
    for (size_t i = 0; i < sizeof times_us / sizeof times_us[0]; i++)
        metrics_observe(f->metrics, HISTOGRAM_COMMIT_US, times_us[i]);
    metrics_observe(f->metrics, HISTOGRAM_BATCH_LEADS, 1);
    metrics_observe(f->metrics, HISTOGRAM_BATCH_LEADS, LIMIT_BATCH_OPERATIONS);
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        if (!has_line(f, lines[i]))
            fail_msg("no line '%s' in:\n%s", lines[i], f->text.data);
    }
}

/* Kept as a time, so that it grows also when nobody looks any more. */
static void test_ages(void **state)
{
    struct fixture *f = *state;
    open_shared(f, &f->metrics);
    assert_true(has_line(f, "leadhook_spool_oldest_age_seconds 0"));
    assert_null(strstr(f->text.data, "leadhook_relay_look_age_seconds")); /* there is no relay */
    metrics_set(f->metrics, METRIC_SPOOL_OLDEST_S, NOW_S - 90);
    metrics_set(f->metrics, METRIC_MAILS_OLDEST_S, NOW_S + 5); /* clocks differ */
    metrics_set(f->metrics, METRIC_RELAY_LOOKED_S, NOW_S - 7);
    assert_true(has_line(f, "leadhook_spool_oldest_age_seconds 90"));
    assert_true(has_line(f, "leadhook_mails_oldest_age_seconds 0"));
    assert_true(has_line(f, "leadhook_relay_look_age_seconds 7"));
}

static void set_offers(struct metrics *metrics, const char *const *names, const int64_t *times, size_t count)
{
    struct offer_time offers[LIMIT_OFFERS_SHOWN];
    for (size_t i = 0; i < count; i++)
        offers[i] = (struct offer_time){span_of(names[i]), times[i]};
    metrics_set_offers(metrics, offers, count);
}

/* What was set last is all there is; names that are none, and times, do not get into the text. */
static void test_offers(void **state)
{
    struct fixture *f = *state;
    static const char *const first[] = {"contoso.app", "contoso.other", "unknown"};
    static const char *const second[] = {"contoso.other", "a\"} 1\nforged 2", "", "contoso.late"};
    static const int64_t first_times[] = {1000, 2000, 3000}, second_times[] = {2001, 5, 6, INT64_MAX};
    open_shared(f, &f->metrics);
    assert_false(has_line(f, "# TYPE leadhook_offer_last_lead_timestamp_seconds gauge"));
    set_offers(f->metrics, first, first_times, 3);
    assert_true(has_line(f, "leadhook_offer_last_lead_timestamp_seconds{offer=\"contoso.app\"} 1000"));
    assert_true(has_line(f, "leadhook_offer_last_lead_timestamp_seconds{offer=\"unknown\"} 3000"));
    set_offers(f->metrics, second, second_times, 4);
    assert_true(has_line(f, "leadhook_offer_last_lead_timestamp_seconds{offer=\"contoso.other\"} 2001"));
    assert_true(has_line(f, "leadhook_offer_last_lead_timestamp_seconds{offer=\"contoso.late\"} 0"));
    assert_null(strstr(f->text.data, "forged"));
    assert_null(strstr(f->text.data, "contoso.app"));
    assert_null(strstr(f->text.data, "\"unknown\""));
}

/* Others than us can write to the file, with a hash that fits: what they call an offer does not get into the text. */
static void test_offers_hostile(void **state)
{
    static const char hostile[] = "a\"} 1\nforged 2";
    static const char *const name[] = {"contoso.app.on"};
    static const int64_t time[] = {1000};
    struct fixture *f = *state;
    struct stat info;
    open_shared(f, &f->metrics);
    set_offers(f->metrics, name, time, 1);
    assert_int_equal(stat(f->path, &info), 0);
    FILE *file = fopen(f->path, "r+");
    assert_non_null(file);
    char *bytes = malloc((size_t)info.st_size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)info.st_size, file), info.st_size);
    char *at = memmem(bytes, (size_t)info.st_size, name[0], strlen(name[0]));
    assert_non_null(at);
    assert_int_equal(strlen(hostile), strlen(name[0]));
    uint64_t hash = text_hash(TEXT_HASH_BEGIN, hostile);
    memcpy(at, hostile, sizeof hostile - 1);
    memcpy(at - sizeof hash, &hash, sizeof hash);
    assert_int_equal(fseek(file, 0, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, (size_t)info.st_size, file), info.st_size);
    assert_int_equal(fclose(file), 0);
    free(bytes);
    metrics_write(&f->text, f->metrics, NOW_S);
    assert_null(strstr(f->text.data, "forged"));
}

/* --- by key -------------------------------------------------------------------------------------------------- */

static void count_key(struct metrics *metrics, const char *name, int64_t now_s)
{
    metrics_count_key(metrics, span_of(name), now_s);
}

static void check_use(const struct metrics *metrics, const char *name, uint64_t requests, int64_t last_s)
{
    struct key_use use = {0};
    if (!metrics_key_use(metrics, span_of(name), &use))
        fail_msg("'%s' is not known", name);
    if (use.requests != requests || use.last_s != last_s)
        fail_msg("'%s': got %llu at %lld, want %llu at %lld", name, (unsigned long long)use.requests,
                 (long long)use.last_s, (unsigned long long)requests, (long long)last_s);
}

static void test_keys(void **state)
{
    struct fixture *f = *state;
    struct metrics *second;
    struct key_use use;
    static const char longest[] = "abcdefghijklmnopqrstuvwxyz-abcdefghijklmnopqrstuvwxyz-0123456789";
    assert_int_equal(sizeof longest - 1, LIMIT_KEY_NAME_BYTES);
    open_shared(f, &f->metrics);
    open_shared(f, &second);
    count_key(f->metrics, "market", 1000);
    count_key(second, "market", 1001);
    count_key(f->metrics, "market-2", 1002);
    count_key(f->metrics, longest, 1003);
    check_use(second, "market", 2, 1001);
    check_use(second, "market-2", 1, 1002);
    check_use(second, longest, 1, 1003);
    assert_false(metrics_key_use(second, SPAN_LIT("marke"), &use));
    metrics_close(second);
    assert_int_equal(value_of(f, f->metrics, "leadhook_key_requests_total{key=\"market\"}"), 2);
    assert_int_equal(value_of(f, f->metrics, "leadhook_key_last_use_timestamp_seconds{key=\"market\"}"),
                     1001);
    assert_int_equal(value_of(f, f->metrics, "leadhook_key_requests_unnamed_total"), 0);
}

static void name_key(char name[16], int number)
{
    (void)snprintf(name, 16, "key-%d", number);
}

struct racer {
    struct metrics *metrics;
    pthread_barrier_t *start;
    unsigned int number;
};

/* All come at the same moment with the same names, each in another order, so that different names meet at free slots. */
static void *take_slots(void *context)
{
    const struct racer *racer = context;
    char name[16];
    (void)pthread_barrier_wait(racer->start);
    for (unsigned int i = 0; i < LIMIT_KEYS; i++) {
        name_key(name, (int)((i + racer->number * LIMIT_KEYS / THREADS) % LIMIT_KEYS));
        count_key(racer->metrics, name, 7);
    }
    return NULL;
}

static void test_keys_at_once(void **state)
{
    struct fixture *f = *state;
    pthread_barrier_t start;
    assert_int_equal(pthread_barrier_init(&start, NULL, THREADS), 0);
    for (int i = 0; i < RACES; i++) {
        pthread_t threads[THREADS];
        struct racer racers[THREADS];
        metrics_close(f->metrics);
        (void)unlink(f->path);
        open_shared(f, &f->metrics);
        for (unsigned int thread = 0; thread < THREADS; thread++) {
            racers[thread] = (struct racer){f->metrics, &start, thread};
            assert_int_equal(pthread_create(&threads[thread], NULL, take_slots, &racers[thread]), 0);
        }
        for (int thread = 0; thread < THREADS; thread++)
            assert_int_equal(pthread_join(threads[thread], NULL), 0);
        for (int number = 0; number < (int)LIMIT_KEYS; number++) {
            char name[16];
            name_key(name, number);
            check_use(f->metrics, name, THREADS, 7);
        }
        assert_int_equal(metrics_get(f->metrics, METRIC_KEYS_UNNAMED), 0);
    }

    assert_int_equal(pthread_barrier_destroy(&start), 0);

    /* The table is full now: those in it go on, others are counted together. */
    struct key_use use;
    count_key(f->metrics, "another", 8);
    count_key(f->metrics, "and-another", 8);
    count_key(f->metrics, "key-0", 9);
    assert_false(metrics_key_use(f->metrics, SPAN_LIT("another"), &use));
    assert_int_equal(metrics_get(f->metrics, METRIC_KEYS_UNNAMED), 2);
    check_use(f->metrics, "key-0", THREADS + 1, 9);
}

/* A process that was killed has left its counts, and no slot that others cannot use. */
static void test_keys_of_the_dead(void **state)
{
    struct fixture *f = *state;
    int end;
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct metrics *metrics;
        if (metrics_open(f->path, &metrics, NULL) == ST_OK)
            count_key(metrics, "market", 7);
        (void)raise(SIGKILL);
    }
    assert_int_equal(waitpid(child, &end, 0), child);
    open_shared(f, &f->metrics);
    count_key(f->metrics, "market", 8);
    check_use(f->metrics, "market", 2, 8);
}

/* The greatest number in all of it. */
static void fill_numbers(struct fixture *f)
{
    for (int i = 0; i < METRIC_COUNT; i++)
        metrics_set(f->metrics, (enum metric)i, UINT64_MAX);
    metrics_set(f->metrics, METRIC_RELAY_LOOKED_S, 1);
    for (size_t i = 0; i < (size_t)HISTOGRAM_COUNT; i++)
        metrics_observe(f->metrics, (enum histogram)i, UINT64_MAX);
}

static size_t count_lines(struct span text, const char *beginning)
{
    struct span line;
    size_t count = 0;
    while (span_next(&text, '\n', &line))
        count += span_starts(line, span_of(beginning)) ? 1 : 0;
    return count;
}

/* All names there may be, as long as they may be, with the longest numbers: the answer has room for all of it. */
static void test_limits(void **state)
{
    struct fixture *f = *state;
    char name[LIMIT_KEY_NAME_BYTES + 1];
    char partitions[LIMIT_OFFERS_SHOWN][LIMIT_PARTITION_KEY_BYTES + 1];
    struct offer_time offers[LIMIT_OFFERS_SHOWN];
    open_shared(f, &f->metrics);
    for (unsigned int i = 0; i < LIMIT_KEYS; i++) {
        (void)snprintf(name, sizeof name, "%064u", i);
        count_key(f->metrics, name, LAST_S);
    }
    for (unsigned int i = 0; i < LIMIT_OFFERS_SHOWN; i++) {
        (void)snprintf(partitions[i], sizeof partitions[i], "%0255u", i);
        offers[i] = (struct offer_time){span_of(partitions[i]), LAST_S};
    }
    metrics_set_offers(f->metrics, offers, LIMIT_OFFERS_SHOWN);
    fill_numbers(f);
    metrics_write(&f->text, f->metrics, LAST_S);
    assert_int_equal(f->text.error, ST_OK);
    assert_int_equal(count_lines(buf_span(&f->text), "leadhook_key_requests_total{"), LIMIT_KEYS);
    assert_int_equal(count_lines(buf_span(&f->text), "leadhook_key_last_use_timestamp_seconds{"), LIMIT_KEYS);
    assert_int_equal(count_lines(buf_span(&f->text), "leadhook_offer_last_lead_timestamp_seconds{"),
                     LIMIT_OFFERS_SHOWN);
    assert_non_null(strstr(f->text.data, "} 18446744073709551615\n"));
    /* Of keys, sources and buckets the counts have one digit here, and may have nineteen more. */
    size_t short_counts = LIMIT_KEYS + LEAD_SOURCE_LABELS * LEAD_ACTION_LABELS + 16 * (size_t)HISTOGRAM_COUNT;
    assert_in_range(f->text.len + 19 * short_counts, LIMIT_REPLY_BODY_BYTES - 8 * 1024,
                    LIMIT_REPLY_BODY_BYTES);
}

/* A damaged table is counted in all the same, and what it says of names is not believed. */
static void test_keys_damaged(void **state)
{
    struct fixture *f = *state;
    struct stat info;
    open_shared(f, &f->metrics);
    count_key(f->metrics, "market", 5);
    count_key(f->metrics, "other", 5);
    assert_int_equal(stat(f->path, &info), 0);
    FILE *file = fopen(f->path, "r+");
    assert_non_null(file);
    char *bytes = malloc((size_t)info.st_size);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, (size_t)info.st_size, file), info.st_size);
    char *name = memmem(bytes, (size_t)info.st_size, "market", 6);
    assert_non_null(name);
    assert_int_equal(fseek(file, name - bytes, SEEK_SET), 0);
    assert_int_equal(fwrite("\"}\n", 1, 3, file), 3);
    assert_int_equal(fclose(file), 0);
    metrics_write(&f->text, f->metrics, NOW_S);
    assert_null(strstr(f->text.data, "ket\"}")); /* what is left of the name */
    assert_non_null(strstr(f->text.data, "{key=\"other\"}"));
    count_key(f->metrics, "market", 6); /* it writes its name anew */
    assert_int_equal(value_of(f, f->metrics, "leadhook_key_requests_total{key=\"market\"}"), 2);

    /* Every byte of the table, so that no slot is free or a name's. */
    const size_t from = 2 * sizeof(uint64_t) + METRIC_COUNT * sizeof(uint64_t);
    file = fopen(f->path, "r+");
    assert_non_null(file);
    memset(bytes, 0xA5, (size_t)info.st_size);
    assert_int_equal(fseek(file, (long)from, SEEK_SET), 0);
    assert_int_equal(fwrite(bytes, 1, (size_t)info.st_size - from, file), (size_t)info.st_size - from);
    assert_int_equal(fclose(file), 0);
    free(bytes);
    struct metrics *second;
    open_shared(f, &second);
    count_key(second, "market", 7);
    buf_reset(&f->text);
    metrics_write(&f->text, second, NOW_S);
    assert_int_equal(f->text.error, ST_OK);
    assert_null(strstr(f->text.data, "leadhook_key_requests_total"));
    metrics_close(second);
}

/* Others than us can write to the file, too: nothing there may become more than one value, or a time that is none. */
static void test_keys_hostile(void **state)
{
    static const char *const names[] = {"a\"} 1\nforged 2", "b\nforged", "c\\"};
    struct fixture *f = *state;
    struct key_use use;
    open_shared(f, &f->metrics);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        count_key(f->metrics, names[i], 5);
    count_key(f->metrics, "late", INT64_MAX);
    count_key(f->metrics, "early", INT64_MIN);
    metrics_write(&f->text, f->metrics, NOW_S);
    assert_null(strstr(f->text.data, "forged"));
    assert_null(strstr(f->text.data, "{key=\"c"));
    assert_true(metrics_key_use(f->metrics, SPAN_LIT("late"), &use));
    assert_int_equal(use.last_s, 0);
    assert_true(metrics_key_use(f->metrics, SPAN_LIT("early"), &use));
    assert_int_equal(use.last_s, 0);
}

/* Looking at a file neither makes nor changes one, and needs no right to write. */
static void test_view(void **state)
{
    struct fixture *f = *state;
    struct metrics *view = NULL;
    struct fail why = {0};
    assert_int_equal(metrics_view(f->path, &view, &why), ST_NOT_FOUND);
    assert_int_equal(access(f->path, F_OK), -1);
    open_shared(f, &f->metrics);
    assert_int_equal(chmod(f->path, 0400), 0);
    count_key(f->metrics, "market", 5);
    count_key(f->metrics, "market", 6);
    assert_int_equal(metrics_view(f->path, &view, &why), ST_OK);
    check_use(view, "market", 2, 6);
    /* Whoever shortens the file then does not end us. */
    metrics_close(f->metrics);
    f->metrics = NULL;
    assert_int_equal(truncate(f->path, 0), 0);
    check_use(view, "market", 2, 6);
    metrics_close(view);
    assert_int_equal(metrics_view(f->path, &view, &why), ST_INVALID);
    assert_int_equal(unlink(f->path), 0);
    open_shared(f, &f->metrics);
    metrics_close(f->metrics);
    f->metrics = NULL;
    write_file(f, "something else", 14);
    assert_int_equal(metrics_view(f->path, &view, &why), ST_INVALID);
    assert_non_null(strstr(why.text, f->path));
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_int_equal(metrics_view(f->path, &view, &why), ST_INVALID);
}

/* Without a file it counts all the same, and says why it is alone. */
static void test_private(void **state)
{
    struct fixture *f = *state;
    struct fail why = {0};
    char path[128];
    (void)snprintf(path, sizeof path, "%s/missing/m", f->directory);
    assert_int_equal(metrics_open(path, &f->metrics, &why), ST_IO);
    assert_non_null(strstr(why.text, path));
    long long before = value_of(f, f->metrics, "leadhook_replies_lost_total");
    metrics_add(f->metrics, METRIC_REPLIES_LOST, 2);
    assert_int_equal(value_of(f, f->metrics, "leadhook_replies_lost_total"), before + 2);
    metrics_close(f->metrics);

    assert_int_equal(metrics_open(NULL, &f->metrics, &why), ST_NOT_FOUND);
    assert_non_null(f->metrics);
    metrics_close(f->metrics);

    assert_int_equal(symlink("elsewhere", f->path), 0);
    assert_int_equal(metrics_open(f->path, &f->metrics, &why), ST_IO);
    assert_int_equal(unlink(f->path), 0);

    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_int_equal(metrics_open(f->path, &f->metrics, &why), ST_IO);
    assert_non_null(f->metrics);
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        int code;
        enum metric want;
    } codes[] = {
        {200, METRIC_REQUESTS_200}, {202, METRIC_REQUESTS_202},   {400, METRIC_REQUESTS_400},
        {401, METRIC_REQUESTS_401}, {405, METRIC_REQUESTS_405},   {413, METRIC_REQUESTS_413},
        {415, METRIC_REQUESTS_415}, {422, METRIC_REQUESTS_422},   {429, METRIC_REQUESTS_429},
        {503, METRIC_REQUESTS_503}, {404, METRIC_REQUESTS_OTHER}, {500, METRIC_REQUESTS_OTHER},
        {0, METRIC_REQUESTS_OTHER}, {-1, METRIC_REQUESTS_OTHER},
    };
    static const struct {
        enum mail_outcome outcome;
        enum metric want;
    } outcomes[] = {
        {MAIL_ACCEPTED, METRIC_MAILS_ACCEPTED},   {MAIL_TRANSIENT, METRIC_MAILS_TRANSIENT},
        {MAIL_PERMANENT, METRIC_MAILS_PERMANENT}, {MAIL_CONFIGURATION, METRIC_MAILS_CONFIGURATION},
        {MAIL_AMBIGUOUS, METRIC_MAILS_AMBIGUOUS},
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        enum metric got = metric_of_code(codes[i].code);
        if (got != codes[i].want)
            fail_msg("code %d: got counter %d, want %d", codes[i].code, (int)got, (int)codes[i].want);
    }
    for (size_t i = 0; i < sizeof outcomes / sizeof outcomes[0]; i++)
        assert_int_equal(metric_of_outcome(outcomes[i].outcome), outcomes[i].want);
}

static bool is_sample_of(struct span name, struct span family, bool is_histogram)
{
    static const char *const parts[] = {"_bucket", "_sum", "_count"};
    struct span rest = span_from(name, family.len);
    if (!span_starts(name, family))
        return false;
    if (!is_histogram)
        return rest.len == 0;
    return span_eq(rest, span_of(parts[0])) || span_eq(rest, span_of(parts[1])) ||
           span_eq(rest, span_of(parts[2]));
}

/* Every sample stands under the HELP and TYPE lines of its family; each is there once. */
static void test_format(void **state)
{
    enum { SEEN = 512 };
    struct fixture *f = *state;
    struct span seen[SEEN], rest, line, family = {0};
    size_t samples = 0, names = 0;
    bool is_histogram = false;
    open_shared(f, &f->metrics);
    for (int i = 0; i < METRIC_RELAY_LOOKED_S; i++)
        metrics_set(f->metrics, (enum metric)i, (uint64_t)i + 100);
    metrics_write(&f->text, f->metrics, 0);
    assert_int_equal(f->text.error, ST_OK);
    rest = buf_span(&f->text);
    while (span_next(&rest, '\n', &line)) {
        struct span word;
        if (span_starts(line, SPAN_LIT("# HELP "))) {
            struct span help = span_from(line, 7);
            family = span_cut(help, 0, span_find(help, ' '));
            assert_true(help.len > family.len + 1);
            assert_true(span_next(&rest, '\n', &line));
            assert_true(span_starts(line, SPAN_LIT("# TYPE ")));
            assert_true(span_starts(span_from(line, 7), family));
            struct span type = span_from(line, 7 + family.len + 1);
            bool is_counter =
                family.len > 6 && span_eq(span_from(family, family.len - 6), SPAN_LIT("_total"));
            is_histogram = span_eq(type, SPAN_LIT("histogram"));
            assert_true(is_histogram || span_eq(type, is_counter ? SPAN_LIT("counter") : SPAN_LIT("gauge")));
            word = help; /* more than a sample's name */
        } else if (line.len) {
            word = span_cut(line, 0, span_find_last(line, ' '));
            size_t brace = span_find(word, '{');
            struct span name = brace == SPAN_NONE ? word : span_cut(word, 0, brace);
            if (!is_sample_of(name, family, is_histogram))
                fail_msg("'%.*s' stands under '%.*s'", SPAN_FMT(word), SPAN_FMT(family));
            samples++;
        } else {
            assert_int_equal(rest.len, 0); /* the end */
            continue;
        }
        for (size_t i = 0; i < names; i++) {
            if (span_eq(seen[i], word))
                fail_msg("'%.*s' is there twice", SPAN_FMT(word));
        }
        assert_true(names < SEEN);
        seen[names++] = word;
    }
    assert_in_range(samples, METRIC_COUNT, SEEN);
    for (int i = 0; i < METRIC_RELAY_LOOKED_S; i++) { /* none was left out; ages are of no time now */
        char value[32];
        bool is_age = i == METRIC_SPOOL_OLDEST_S || i == METRIC_MAILS_OLDEST_S;
        (void)snprintf(value, sizeof value, " %d\n", i + 100);
        if (!is_age && !strstr(f->text.data, value))
            fail_msg("counter %d is not told", i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_processes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lock, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file_of_another_user, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_gauge, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_leads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_histograms, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ages, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_offers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_offers_hostile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys_of_the_dead, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys_damaged, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keys_hostile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_view, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_private, set_up, tear_down),
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup_teardown(test_format, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
