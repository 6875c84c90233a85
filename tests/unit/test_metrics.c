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

enum { THREADS = 4, PROCESSES = 4, ROUNDS = 20000, PATIENCE_MS = 10000 };

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
    const char *base = getenv("TMPDIR");
    (void)snprintf(f->directory, sizeof f->directory, "%s/metrics-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(f->directory))
        return -1;
    (void)snprintf(f->path, sizeof f->path, "%s/m", f->directory);
    f->text = BUF_INIT(64 * 1024);
    *state = f;
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
    metrics_write(&f->text, metrics);
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
        metrics_add(metrics, METRIC_COMMITS, 1);
        metrics_add(metrics, METRIC_COMMIT_LEADS, 3);
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
    assert_int_equal(value_of(f, f->metrics, "leadhook_commits_total"), THREADS * ROUNDS);
    assert_int_equal(value_of(f, f->metrics, "leadhook_commit_leads_total"), 3 * THREADS * ROUNDS);
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
    assert_int_equal(value_of(f, f->metrics, "leadhook_commits_total"), PROCESSES * ROUNDS);
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
    metrics_add(f->metrics, METRIC_COMMITS, 4);
    metrics_add(second, METRIC_COMMITS, 3);
    assert_int_equal(value_of(f, f->metrics, "leadhook_commits_total"), 7);
    assert_int_equal(value_of(f, second, "leadhook_commits_total"), 7);
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
    metrics_add(f->metrics, METRIC_COMMITS, 5);
    metrics_close(f->metrics);
    open_shared(f, &f->metrics);
    assert_int_equal(value_of(f, f->metrics, "leadhook_commits_total"), 5);
    assert_int_equal(stat(f->path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0600);
    metrics_close(f->metrics);
    f->metrics = NULL;

    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        write_file(f, other, lengths[i]);
        open_shared(f, &f->metrics);
        long long got = value_of(f, f->metrics, "leadhook_commits_total");
        if (got != 0)
            fail_msg("a foreign file of %zu bytes: got %lld, want 0", lengths[i], got);
        metrics_add(f->metrics, METRIC_COMMITS, 1);
        metrics_close(f->metrics);
        f->metrics = NULL;
    }
    /* The right mark with another number of counters is another version.  Who has it mapped keeps it. */
    struct metrics *older;
    unsigned char head[16];
    open_shared(f, &older);
    metrics_add(older, METRIC_COMMITS, 7);
    FILE *file = fopen(f->path, "r+");
    assert_non_null(file);
    assert_int_equal(fread(head, 1, sizeof head, file), sizeof head);
    head[8]++;
    assert_int_equal(fseek(file, 0, SEEK_SET), 0);
    assert_int_equal(fwrite(head, 1, sizeof head, file), sizeof head);
    assert_int_equal(fclose(file), 0);
    open_shared(f, &f->metrics);
    metrics_add(older, METRIC_COMMITS, 1);
    assert_int_equal(value_of(f, f->metrics, "leadhook_commits_total"), 0);
    assert_int_equal(value_of(f, older, "leadhook_commits_total"), 9);
    metrics_close(older);
}

/* A gauge holds what was set last, for all who look. */
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

/* Every sample stands under the HELP and TYPE lines of its family; each of both is there once. */
static void test_format(void **state)
{
    struct fixture *f = *state;
    struct span seen[3 * METRIC_COUNT], rest, line, family = {0};
    size_t samples = 0, names = 0;
    open_shared(f, &f->metrics);
    for (int i = 0; i < METRIC_COUNT; i++)
        metrics_add(f->metrics, (enum metric)i, (uint64_t)i + 100);
    metrics_write(&f->text, f->metrics);
    assert_int_equal(f->text.error, ST_OK);
    rest = buf_span(&f->text);
    while (span_next(&rest, '\n', &line)) {
        struct span word = line;
        if (span_starts(line, SPAN_LIT("# HELP "))) {
            struct span help = span_from(line, 7);
            family = span_cut(help, 0, span_find(help, ' '));
            assert_true(help.len > family.len + 1);
            assert_true(span_next(&rest, '\n', &line));
            assert_true(span_starts(line, SPAN_LIT("# TYPE ")));
            assert_true(span_starts(span_from(line, 7), family));
            bool is_counter =
                family.len > 6 && span_eq(span_from(family, family.len - 6), SPAN_LIT("_total"));
            assert_true(span_eq(span_from(line, 7 + family.len),
                                is_counter ? SPAN_LIT(" counter") : SPAN_LIT(" gauge")));
            word = family;
        } else if (line.len) {
            uint64_t value;
            word = span_cut(line, 0, span_find_last(line, ' '));
            assert_true(span_to_u64(span_from(line, word.len + 1), UINT64_MAX, &value));
            assert_int_equal(value, 100 + samples++);
            if (!span_starts(word, family) || (word.len > family.len && word.ptr[family.len] != '{'))
                fail_msg("'%.*s' stands under '%.*s'", SPAN_FMT(word), SPAN_FMT(family));
            if (span_eq(word, family))
                continue; /* a sample without labels is called as its family */
        } else {
            assert_int_equal(rest.len, 0); /* the end */
            continue;
        }
        for (size_t i = 0; i < names; i++) {
            if (span_eq(seen[i], word))
                fail_msg("'%.*s' is there twice", SPAN_FMT(word));
        }
        seen[names++] = word;
    }
    assert_int_equal(samples, METRIC_COUNT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_threads, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_processes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_lock, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_gauge, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_private, set_up, tear_down),
        cmocka_unit_test(test_names),
        cmocka_unit_test_setup_teardown(test_format, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("metrics", tests, NULL, NULL);
}
