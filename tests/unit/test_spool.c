/* The spool, its ledger and the breaker: many processes, damage, full disks. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "lib/store/ledger.h"
#include "tests/unit/spooled.h"

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    if (!p)
        return -1;
    place_make(p);
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    int rc = place_remove(*state);
    free(*state);
    return rc;
}

/* --- rows ---------------------------------------------------------------------------------------------------- */

/* What is spooled comes back as it was, in order of receipt. */
static void test_round_trip(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    struct lead_write *leads[3];
    unsigned int generation;
    for (int i = 0; i < 3; i++)
        leads[i] = make_lead(&p->arena, "contoso.a", START_MS + 1000 * (2 - i));
    leads[1]->status = ST_UNKNOWN;
    assert_int_equal(put_leads(spool, leads, 3), ST_OK);
    struct store *store = open_current(spool, &generation);
    assert_int_equal(generation, 1);
    struct page page = rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION);
    assert_int_equal(page.count, 3);
    for (size_t i = 0; i < 3; i++) {
        const struct lead_write *expected = leads[2 - i];
        struct lead lead;
        struct delivery delivery;
        assert_int_equal(expected->status, ST_OK);
        assert_true(expected->is_spooled);
        assert_int_equal(spooled_of_row(&page.rows[i], &lead, &delivery, &p->arena, NULL), ST_OK);
        assert_string_equal(delivery.id, expected->delivery.id);
        assert_int_equal(delivery.received_ms, expected->delivery.received_ms);
        assert_int_equal(delivery.may_be_written, i == 1);
        assert_string_equal(lead.contact, expected->delivery.lead->contact);
        assert_true(span_eq(lead.payload, expected->delivery.lead->payload));
    }
    store_close(store);
    spool_close(spool);
}

/* Rows that are there already are no fault: their arrival is noted, and the others are written. */
static void test_rows_that_are_there(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    struct lead_write *leads[5];
    for (int i = 0; i < 5; i++)
        leads[i] = make_lead(&p->arena, "contoso.a", START_MS + i);
    assert_int_equal(put_leads(spool, &leads[1], 2), ST_OK);
    assert_int_equal(put_leads(spool, leads, 5), ST_OK);
    assert_int_equal(spooled_count(spool), 5);
    spool_close(spool);
}

/* One lead that no store could take does not keep the others out. */
static void test_refused_lead(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    struct lead_write *leads[4];
    for (int i = 0; i < 4; i++)
        leads[i] = make_lead(&p->arena, "contoso.a", START_MS + i);
    struct lead *large = (struct lead *)(uintptr_t)leads[1]->delivery.lead;
    char *text = arena_alloc(&p->arena, 600000);
    memset(text, 'x', 600000);
    large->payload = (struct span){text, 600000};
    leads[3]->delivery.key_name = SPAN_LIT("a\nkey");
    struct lead *odd = (struct lead *)(uintptr_t)leads[3]->delivery.lead;
    (void)snprintf(odd->partition, sizeof odd->partition, "contoso.b");
    spool_put_leads(spool, leads, 4, soon());
    assert_int_equal(leads[0]->status, ST_OK);
    assert_int_equal(leads[1]->status, ST_REFUSED);
    assert_int_equal(leads[1]->why.code, ST_REFUSED);
    assert_false(leads[1]->is_spooled);
    assert_int_equal(leads[2]->status, ST_OK);
    assert_int_equal(leads[3]->status, ST_OK);
    assert_int_equal(spooled_count(spool), 3);
    spool_close(spool);
}

static enum status salvage(struct spool *spool, struct store *store, unsigned int generation,
                           struct salvage *result)
{
    struct fail why = {0};
    enum status status = spool_salvage(spool, store, generation, result, &why);
    if (status != ST_OK)
        print_error("%s\n", why.text);
    return status;
}

/* What departed is gone; what has changed since it was read stays. */
static void test_remove(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    struct lead_write *leads[3];
    unsigned int generation;
    struct salvage result;
    size_t failed;
    for (int i = 0; i < 3; i++)
        leads[i] = make_lead(&p->arena, "contoso.a", START_MS + i);
    assert_int_equal(put_leads(spool, leads, 3), ST_OK);
    struct store *store = open_current(spool, &generation);
    struct page page = rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION);
    struct operation change = {.kind = OPERATION_MERGE};
    leads[1]->delivery.may_be_written = true;
    assert_true(row_of_spooled(&change.entity, &leads[1]->delivery, &p->arena));
    change.entity.etag = page.rows[1].etag;
    assert_int_equal(store_transact(store, TABLE_LEADS, &change, 1, soon(), &failed, NULL), ST_OK);
    assert_int_equal(spool_remove(spool, store, TABLE_LEADS, page.rows, 3, soon(), NULL), ST_OK);
    page = rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION);
    assert_int_equal(page.count, 1);
    struct lead lead;
    struct delivery delivery;
    assert_int_equal(spooled_of_row(&page.rows[0], &lead, &delivery, &p->arena, NULL), ST_OK);
    assert_string_equal(delivery.id, leads[1]->delivery.id);
    assert_true(delivery.may_be_written);
    assert_int_equal(spool_remove(spool, store, TABLE_LEADS, page.rows, 1, soon(), NULL), ST_OK);
    assert_int_equal(salvage(spool, store, generation, &result), ST_OK);
    assert_int_equal(result.lost, 0);
    assert_int_equal(spool_audit(spool, store, generation, &result, NULL), ST_OK);
    assert_true(result.complete);
    assert_int_equal(result.lost, 0);
    store_close(store);
    spool_close(spool);
}

/* --- room ---------------------------------------------------------------------------------------------------- */

static uint64_t bytes_on_disk(const struct place *p)
{
    uint64_t bytes = 0;
    DIR *folder = opendir(p->directory);
    assert_non_null(folder);
    for (const struct dirent *entry = readdir(folder); entry; entry = readdir(folder)) {
        struct stat info;
        if (strncmp(entry->d_name, "spool.db", 8) == 0 &&
            fstatat(dirfd(folder), entry->d_name, &info, 0) == 0)
            bytes += (uint64_t)info.st_size;
    }
    (void)closedir(folder);
    return bytes;
}

struct lead_shape {
    size_t bytes;
    size_t at_once;
};

static void check_room(const struct place *p, const char *when)
{
    uint64_t bytes = bytes_on_disk(p);
    if (bytes > p->max_bytes)
        print_error("%s: %llu bytes of %llu\n", when, (unsigned long long)bytes,
                    (unsigned long long)p->max_bytes);
    assert_true(bytes <= p->max_bytes);
}

/* Fills the spool up and takes everything out again, looking at the disk all the time. */
static void fill_and_empty(struct place *p, const struct lead_shape *shape, size_t *accepted)
{
    struct spool *spool = open_spool(p);
    unsigned int generation;
    struct salvage result;
    char *text = malloc(shape->bytes);
    assert_non_null(text);
    memset(text, 'x', shape->bytes);
    *accepted = 0;
    for (;;) {
        struct arena arena = ARENA_INIT(256 * MIB);
        struct lead_write *leads[LIMIT_BATCH_OPERATIONS];
        for (size_t i = 0; i < shape->at_once; i++) {
            leads[i] = make_lead(&arena, "contoso.a", START_MS + (int64_t)(*accepted + i));
            ((struct lead *)(uintptr_t)leads[i]->delivery.lead)->payload = (struct span){text, shape->bytes};
        }
        spool_put_leads(spool, leads, shape->at_once, soon());
        enum status status = leads[0]->status;
        arena_release(&arena);
        check_room(p, "filling");
        if (status != ST_OK) {
            assert_int_equal(status, ST_AGAIN);
            break;
        }
        *accepted += shape->at_once;
    }
    struct store *store = open_current(spool, &generation);
    for (;;) {
        struct arena arena = ARENA_INIT(256 * MIB);
        struct query q = {.table = TABLE_LEADS, .partition_key = SPAN_LIT(SPOOL_PARTITION), .limit = 100};
        struct page page;
        assert_int_equal(store_query(store, &q, soon(), &arena, &page, NULL), ST_OK);
        size_t count = page.count;
        if (count > 0)
            assert_int_equal(spool_remove(spool, store, TABLE_LEADS, page.rows, count, soon(), NULL), ST_OK);
        arena_release(&arena);
        check_room(p, "emptying");
        if (count == 0)
            break;
    }
    assert_int_equal(spool_audit(spool, store, generation, &result, NULL), ST_OK);
    assert_true(result.complete);
    assert_true(bytes_on_disk(p) < MIB + MIB / 2); /* a MiB is kept for the next outage */
    store_close(store);
    spool_close(spool);
    free(text);
}

static void test_quota(void **state)
{
    static const struct lead_shape shapes[] = {{100, 1},   {3000, 1},   {3000, 10},
                                               {60000, 1}, {100000, 4}, {1000, 100}};
    struct place *p = *state;
    for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
        size_t first, second;
        p->max_bytes = shapes[i].at_once > 10 || shapes[i].bytes > 60000 ? 8 * MIB : MIB;
        fill_and_empty(p, &shapes[i], &first);
        fill_and_empty(p, &shapes[i], &second); /* the room is there again */
        assert_true(first * (shapes[i].bytes + 1000) > p->max_bytes / 8);
        assert_true(second + shapes[i].at_once >= first);
    }
}

/* --- many processes ------------------------------------------------------------------------------------------ */

enum { ACKNOWLEDGED_MAX = 100000 };

/* What processes have been told, shared by all of them. */
struct crowd {
    const struct place *place;
    _Atomic bool stop;
    _Atomic size_t ready; /* processes that wait for go */
    _Atomic bool go;
    _Atomic size_t refused; /* puts that failed */
    _Atomic size_t attempts;
    size_t writers, leads_each;                       /* puts of each writer; 0: until stop */
    char refusal[256];                                /* of one of them */
    _Atomic size_t count;                             /* places taken in keys */
    char keys[ACKNOWLEDGED_MAX][LEDGER_KEY_TEXT + 1]; /* acknowledged; blank: not yet */
};

static struct crowd *new_crowd(const struct place *p)
{
    struct crowd *crowd = share(sizeof *crowd);
    crowd->place = p;
    return crowd;
}

static void free_crowd(struct crowd *crowd)
{
    (void)munmap(crowd, sizeof *crowd);
}

static void wait_for_go(struct crowd *crowd)
{
    (void)atomic_fetch_add(&crowd->ready, 1);
    while (!atomic_load(&crowd->go))
        (void)usleep(100);
}

static void let_go(struct crowd *crowd, size_t processes)
{
    while (atomic_load(&crowd->ready) < processes)
        (void)usleep(100);
    atomic_store(&crowd->go, true);
}

static void acknowledge(struct crowd *crowd, const struct lead_write *lead)
{
    size_t at = atomic_fetch_add(&crowd->count, 1);
    if (at >= ACKNOWLEDGED_MAX)
        abort();
    (void)snprintf(crowd->keys[at], sizeof crowd->keys[at], "%013lld-%s",
                   (long long)lead->delivery.received_ms, lead->delivery.id);
}

/* Puts one to eight leads at once, time and again. */
static int write_leads(void *context)
{
    struct crowd *crowd = context;
    struct fail why = {0};
    wait_for_go(crowd);
    struct spool *spool = try_to_open_spool(crowd->place, &why);
    if (!spool) {
        memcpy(crowd->refusal, why.text, sizeof crowd->refusal);
        return 2;
    }
    for (size_t round = 0; !atomic_load(&crowd->stop) && (!crowd->leads_each || round < crowd->leads_each);
         round++) {
        struct arena arena = ARENA_INIT(64 * MIB);
        struct lead_write *leads[8];
        size_t count = 1 + round % 8;
        for (size_t i = 0; i < count; i++)
            leads[i] = make_lead(&arena, "contoso.a", clock_wall_ms());
        spool_put_leads(spool, leads, count, clock_monotonic_ms() + WAIT_SPOOL_MS);
        (void)atomic_fetch_add(&crowd->attempts, 1);
        for (size_t i = 0; i < count && leads[i]->status == ST_OK; i++)
            acknowledge(crowd, leads[i]);
        if (leads[0]->status != ST_OK) {
            memcpy(crowd->refusal, leads[0]->why.text, sizeof crowd->refusal);
            (void)atomic_fetch_add(&crowd->refused, 1);
        }
        arena_release(&arena);
    }
    spool_close(spool);
    return 0;
}

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* A sorted list of keys. */
struct keys {
    char **all;
    size_t count;
};

static void add_keys(struct keys *keys, struct arena *arena, const struct page *page)
{
    keys->all = realloc(keys->all, (keys->count + page->count + 1) * sizeof(char *));
    assert_non_null(keys->all);
    for (size_t i = 0; i < page->count; i++) {
        struct span copy;
        assert_true(arena_copy(arena, page->rows[i].row_key, &copy));
        keys->all[keys->count++] = (char *)(uintptr_t)copy.ptr;
    }
    qsort(keys->all, keys->count, sizeof(char *), compare_texts);
}

static bool has_key(const struct keys *keys, const char *key)
{
    return keys->count > 0 && bsearch(&key, keys->all, keys->count, sizeof(char *), compare_texts) != NULL;
}

struct verdict {
    size_t acknowledged, present, lost, missing;
    uint64_t reported, rescued;
    unsigned int generation;
};

/* Plays the drain until all generations are gone through, and compares what was
 * acknowledged with what is there and what is reported as lost. */
static struct verdict judge(struct crowd *crowd)
{
    const struct place *p = crowd->place;
    struct verdict v = {.acknowledged = crowd->count};
    struct arena arena = ARENA_INIT(1024 * MIB);
    struct keys present = {0}, lost = {0};
    struct spool *spool = open_spool(p);
    struct store *store = NULL;
    for (bool done = false; !done;) {
        struct salvage result = {0};
        struct fail why = {0};
        unsigned int left = v.generation;
        store_close(store);
        store = NULL;
        enum status status = spool_open_current(spool, &store, &v.generation, &why);
        assert_true(left <= v.generation);
        if (status == ST_OK)
            status = spool_salvage(spool, store, v.generation, &result, &why);
        v.reported += result.lost;
        v.rescued += result.rescued;
        /* What the drain would do with each row. */
        for (struct query q = {.table = TABLE_LEADS,
                              .partition_key = SPAN_LIT(SPOOL_PARTITION),
                              .limit = 100};
             status == ST_OK;) {
            struct arena rows = ARENA_INIT(64 * MIB);
            char next[LIMIT_ROW_KEY_BYTES];
            struct page page = {0};
            struct lead lead;
            struct delivery delivery;
            status = store_query(store, &q, soon(), &rows, &page, &why);
            for (size_t i = 0; i < page.count && status == ST_OK; i++)
                status = spooled_of_row(&page.rows[i], &lead, &delivery, &rows, &why);
            memcpy(next, page.next.ptr, page.next.len);
            q.next = (struct span){next, page.next.len};
            arena_release(&rows);
            if (!q.next.len)
                break;
        }
        done = status == ST_OK && result.complete;
        if (status == ST_DAMAGED)
            assert_int_equal(spool_leave_generation(spool, v.generation, &why), ST_OK);
        else if (status != ST_OK)
            print_error("%s\n", why.text);
        assert_true(status == ST_OK || status == ST_DAMAGED);
    }
    struct page page = rows_of(store, &arena, TABLE_LEADS, SPOOL_PARTITION);
    add_keys(&present, &arena, &page);
    page = rows_of(store, &arena, TABLE_OPS, LOST_PARTITION);
    add_keys(&lost, &arena, &page);
    v.present = present.count;
    v.lost = lost.count;
    for (size_t i = 0; i < crowd->count; i++) {
        const char *key = crowd->keys[i];
        if (!has_key(&present, key) && !has_key(&lost, key))
            v.missing += key[0] != '\0';
        if (has_key(&present, key))
            assert_false(has_key(&lost, key));
    }
    /* Told once. */
    struct salvage again;
    assert_int_equal(salvage(spool, store, v.generation, &again), ST_OK);
    assert_int_equal(again.lost, 0);
    assert_int_equal(again.rescued, 0);
    store_close(store);
    spool_close(spool);
    free(present.all);
    free(lost.all);
    arena_release(&arena);
    return v;
}

static void begin_writers(struct crowd *crowd, pid_t *pids, size_t count)
{
    for (size_t i = 0; i < count; i++)
        pids[i] = begin_process(write_leads, crowd);
    let_go(crowd, count);
}

static void end_writers(struct crowd *crowd, const pid_t *pids, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int status = end_of_process(pids[i]);
        if (status != 0)
            print_error("%s\n", crowd->refusal);
        assert_int_equal(status, 0);
    }
}

/* All of them open a spool that is not there yet, at the same moment. */
static void test_fresh_spool_of_many(void **state)
{
    struct place *p = *state;
    for (int i = 0; i < 10; i++) {
        struct crowd *crowd = new_crowd(p);
        pid_t pids[8];
        crowd->leads_each = 2;
        begin_writers(crowd, pids, 8);
        end_writers(crowd, pids, 8);
        if (crowd->refused)
            print_error("%s\n", crowd->refusal);
        assert_int_equal(crowd->refused, 0);
        struct verdict v = judge(crowd);
        assert_int_equal(v.present, 8 * (1 + 2));
        assert_int_equal(v.missing, 0);
        assert_int_equal(v.generation, 1);
        free_crowd(crowd);
        char command[160];
        (void)snprintf(command, sizeof command, "rm %s/spool.db*", p->directory);
        assert_int_equal(system(command), 0);
    }
}

/* Begins new generations under the others' feet. */
static int leave_generations(void *context)
{
    struct crowd *crowd = context;
    struct fail why;
    wait_for_go(crowd);
    struct spool *spool = try_to_open_spool(crowd->place, &why);
    if (!spool)
        print_error("%s\n", why.text);
    for (unsigned int generation = 1; spool && generation <= 12; generation++) {
        size_t before = atomic_load(&crowd->count);
        while (atomic_load(&crowd->count) < before + 20 && !atomic_load(&crowd->stop))
            (void)usleep(200);
        if (spool_leave_generation(spool, generation, &why) != ST_OK)
            return 3;
    }
    spool_close(spool);
    atomic_store(&crowd->stop, true);
    return spool ? 0 : 2;
}

static void test_generations_left(void **state)
{
    struct place *p = *state;
    static const size_t writers[] = {2, 4};
    for (size_t i = 0; i < 2; i++) {
        struct crowd *crowd = new_crowd(p);
        pid_t pids[5];
        for (size_t k = 0; k < writers[i]; k++)
            pids[k] = begin_process(write_leads, crowd);
        pids[writers[i]] = begin_process(leave_generations, crowd);
        let_go(crowd, writers[i] + 1);
        end_writers(crowd, pids, writers[i] + 1);
        struct verdict v = judge(crowd);
        if (crowd->refused)
            print_error("%s\n", crowd->refusal);
        assert_int_equal(crowd->refused, 0);
        assert_true(v.acknowledged >= 240);
        assert_int_equal(v.missing, 0);
        assert_int_equal(v.lost, 0);
        assert_int_equal(v.reported, 0);
        assert_true(v.present >= v.acknowledged);
        assert_int_equal(v.generation, 13);
        free_crowd(crowd);
        char command[160];
        (void)snprintf(command, sizeof command, "rm %s/spool.db*", p->directory);
        assert_int_equal(system(command), 0);
    }
}

/* --- damage -------------------------------------------------------------------------------------------------- */

enum damage {
    DAMAGE_PAGES,
    DAMAGE_BYTES,
    DAMAGE_HEAD,
    DAMAGE_GARBAGE, /* the whole file */
    DAMAGE_CUT,     /* somewhere */
    DAMAGE_EMPTY,
    DAMAGE_COUNT
};

static unsigned int seed;

static size_t below(size_t limit)
{
    return limit ? (size_t)rand_r(&seed) % limit : 0;
}

static void scribble(int fd, off_t at, size_t bytes)
{
    unsigned char garbage[4096];
    while (bytes > 0) {
        size_t some = bytes < sizeof garbage ? bytes : sizeof garbage;
        for (size_t i = 0; i < some; i++)
            garbage[i] = (unsigned char)rand_r(&seed);
        assert_int_equal(pwrite(fd, garbage, some, at), some);
        at += (off_t)some;
        bytes -= some;
    }
}

/* Damages PATH.N or its log; not through SQLite, so descriptors may be closed only by a process without connections. */
static void damage_file(const struct place *p, unsigned int generation, const char *suffix,
                        enum damage damage)
{
    static const char zeros[100];
    char path[128];
    struct stat info;
    if (generation > 1)
        (void)snprintf(path, sizeof path, "%s.%u%s", p->spool, generation, suffix);
    else
        (void)snprintf(path, sizeof path, "%s%s", p->spool, suffix);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    assert_int_equal(fstat(fd, &info), 0);
    size_t size = (size_t)info.st_size;
    if (size > 0) {
        switch (damage) {
        case DAMAGE_PAGES:
            for (int i = 0; i < 3; i++)
                scribble(fd, (off_t)(4096 * below(size / 4096)), 4096 < size ? 4096 : size);
            break;
        case DAMAGE_BYTES:
            for (int i = 0; i < 20; i++)
                scribble(fd, (off_t)below(size), 1);
            break;
        case DAMAGE_HEAD:
            assert_int_equal(pwrite(fd, zeros, sizeof zeros, 0), sizeof zeros);
            break;
        case DAMAGE_GARBAGE:
            scribble(fd, 0, size);
            break;
        case DAMAGE_CUT:
            assert_int_equal(ftruncate(fd, (off_t)below(size)), 0);
            break;
        case DAMAGE_EMPTY:
            assert_int_equal(ftruncate(fd, 0), 0);
            break;
        case DAMAGE_COUNT:
            break;
        }
    }
    (void)close(fd);
}

static unsigned int current_generation(const struct place *p)
{
    unsigned int generation = 1;
    char path[128];
    for (;; generation++) {
        (void)snprintf(path, sizeof path, "%s.%u", p->spool, generation + 1);
        if (access(path, F_OK) != 0)
            return generation;
    }
}

/* While processes write, one file is damaged; what was acknowledged is there or reported as lost. */
static void damage_while_writing(struct place *p, enum damage damage, const char *suffix)
{
    struct crowd *crowd = new_crowd(p);
    pid_t pids[3];
    begin_writers(crowd, pids, 3);
    for (int i = 0; i < 2; i++) {
        size_t before = atomic_load(&crowd->count);
        while (atomic_load(&crowd->count) < before + 60)
            (void)usleep(500);
        damage_file(p, current_generation(p), suffix, damage);
    }
    /* They go on. */
    size_t before = atomic_load(&crowd->count);
    for (int64_t end = soon(); atomic_load(&crowd->count) < before + 60;) {
        assert_true(clock_monotonic_ms() < end);
        (void)usleep(500);
    }
    atomic_store(&crowd->stop, true);
    end_writers(crowd, pids, 3);
    struct verdict v = judge(crowd);
    if (v.missing || v.reported != v.lost || v.present + v.lost < v.acknowledged || crowd->refused > 3)
        print_error("damage %d to '%s', seed %u: %zu acknowledged, %zu there, %zu lost, %llu reported, %zu "
                    "missing, generation %u, %zu refused (%s)\n",
                    (int)damage, suffix, seed, v.acknowledged, v.present, v.lost,
                    (unsigned long long)v.reported, v.missing, v.generation, crowd->refused, crowd->refusal);
    assert_int_equal(v.missing, 0);
    assert_int_equal(v.reported, v.lost);
    free_crowd(crowd);
    char command[160];
    (void)snprintf(command, sizeof command, "rm %s/spool.db*", p->directory);
    assert_int_equal(system(command), 0);
}

static void test_damage_while_writing(void **state)
{
    struct place *p = *state;
    seed = (unsigned int)clock_monotonic_ms();
    for (enum damage damage = DAMAGE_PAGES; damage < DAMAGE_COUNT; damage++) {
        damage_while_writing(p, damage, "");
        damage_while_writing(p, damage, "-wal");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rows_that_are_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused_lead, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_remove, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_quota, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fresh_spool_of_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_generations_left, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_damage_while_writing, set_up, tear_down),
    };
    if (getenv("ONLY"))
        cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
