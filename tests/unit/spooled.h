/* spooled.h - what the tests of the spool and of the drain share: a folder of their own, leads, processes.
 *
 * Include behind <cmocka.h>.
 */
#ifndef LEAD_TEST_SPOOLED_H
#define LEAD_TEST_SPOOLED_H

#include <sys/mman.h>
#include <sys/wait.h>

#include "lib/store/spool.h"
#include "lib/store/store_internal.h"
#include "tests/unit/stored.h"

#define MIB      (1024u * 1024)
#define START_MS 1763700000000LL

struct place {
    char directory[64];
    char spool[96];
    uint64_t max_bytes;
    struct arena arena;
};

static void place_make(struct place *p)
{
    /* Where fsync costs nothing, if there is such a place: what survives a power cut is no matter here. */
    (void)snprintf(p->directory, sizeof p->directory, "%s/leadhook-spool-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(p->directory));
    (void)snprintf(p->spool, sizeof p->spool, "%s/spool.db", p->directory);
    p->max_bytes = 64 * MIB;
    p->arena = ARENA_INIT(256 * MIB);
}

static int place_remove(struct place *p)
{
    arena_release(&p->arena);
    return remove_folder(p->directory);
}

/* Also for processes of their own, where an assertion has no way back. */
static struct spool *try_to_open_spool(const struct place *p, struct fail *why)
{
    const struct spool_options options = {.path = p->spool, .max_bytes = p->max_bytes};
    struct spool *spool = NULL;
    return spool_open(&options, &spool, why) == ST_OK ? spool : NULL;
}

static struct spool *open_spool(const struct place *p)
{
    struct fail why = {0};
    struct spool *spool = try_to_open_spool(p, &why);
    if (!spool)
        print_error("%s\n", why.text);
    assert_non_null(spool);
    return spool;
}

static enum status put_leads(struct spool *spool, struct lead_write **leads, size_t count)
{
    spool_put_leads(spool, leads, count, soon());
    if (leads[0]->status != ST_OK)
        print_error("%s\n", leads[0]->why.text);
    return leads[0]->status;
}

/* The current generation, as the drain sees it. */
static inline struct store *open_current(struct spool *spool, unsigned int *generation)
{
    struct store *store = NULL;
    struct fail why = {0};
    enum status status = spool_open_current(spool, &store, generation, &why);
    if (status != ST_OK)
        print_error("%s\n", why.text);
    assert_int_equal(status, ST_OK);
    return store;
}

/* All rows of a partition below "~", in key order. */
static inline struct page rows_of(struct store *store, struct arena *arena, enum table_id table,
                                  const char *partition)
{
    struct page all = {.rows = arena_array(arena, 20000, sizeof *all.rows)};
    struct query q = {
        .table = table, .partition_key = span_of(partition), .to = SPAN_LIT("~"), .limit = 1000};
    struct fail why = {0};
    struct page page;
    assert_non_null(all.rows);
    do {
        enum status status = store_query(store, &q, soon(), arena, &page, &why);
        if (status != ST_OK)
            print_error("%s\n", why.text);
        assert_int_equal(status, ST_OK);
        assert_true(all.count + page.count <= 20000);
        memcpy(all.rows + all.count, page.rows, page.count * sizeof *page.rows);
        all.count += page.count;
        q.next = page.next;
    } while (q.next.len);
    return all;
}

static inline size_t spooled_count(struct spool *spool)
{
    struct arena arena = ARENA_INIT(256 * MIB);
    unsigned int generation;
    struct store *store = open_current(spool, &generation);
    size_t count = rows_of(store, &arena, TABLE_LEADS, SPOOL_PARTITION).count;
    store_close(store);
    arena_release(&arena);
    return count;
}

/* --- the breaker --------------------------------------------------------------------------------------------- */

/* The breaker's row, blank where there is none. */
static struct breaker read_breaker(struct spool *spool, struct arena *arena)
{
    const struct span key = SPAN_LIT(BREAKER_KEY);
    unsigned int generation;
    struct entity *row;
    struct store *store = open_current(spool, &generation);
    assert_int_equal(store_get_many(store, TABLE_OPS, SPAN_LIT(BREAKER_PARTITION), &key, 1, NULL, soon(),
                                    arena, &row, NULL),
                     ST_OK);
    store_close(store);
    return row ? breaker_of_row(row) : (struct breaker){0};
}

static void write_breaker(struct spool *spool, struct arena *arena, const struct breaker *breaker)
{
    struct operation operation = {.kind = OPERATION_MERGE};
    unsigned int generation;
    size_t failed;
    struct store *store = open_current(spool, &generation);
    assert_true(row_of_breaker(&operation.entity, breaker, arena));
    operation.entity.etag = SPAN_LIT("*");
    assert_int_equal(store_transact(store, TABLE_OPS, &operation, 1, soon(), &failed, NULL), ST_OK);
    store_close(store);
}

/* As if the time until the next probe had passed. */
static inline void make_probe_due(struct spool *spool)
{
    struct arena arena = ARENA_INIT(MIB);
    struct breaker breaker = read_breaker(spool, &arena);
    breaker.probe_ms = clock_wall_ms() - 1;
    write_breaker(spool, &arena, &breaker);
    arena_release(&arena);
}

/* --- processes ----------------------------------------------------------------------------------------------- */

static inline void *share(size_t bytes)
{
    void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(memory != MAP_FAILED);
    return memory;
}

/* Runs work in a process of its own; what it gives is the exit status. */
static inline pid_t begin_process(int (*work)(void *context), void *context)
{
    (void)fflush(NULL);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0)
        _exit(work(context));
    return pid;
}

/* 128 and the signal for one that was killed. */
static inline int end_of_process(pid_t pid)
{
    int state;
    assert_int_equal(waitpid(pid, &state, 0), pid);
    return WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
}

#endif
