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

#include <sqlite3.h>

#include "lib/store/ledger.h"
#include "lib/store/offers.h"
#include "lib/store/spool_internal.h"
#include "tests/unit/spooled.h"
#include "tests/unit/syncs.h"

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
    watch_syncs(NULL, 0); /* also after a failure */
    int rc = place_remove(*state);
    free(*state);
    return rc;
}

/* --- what tests do ------------------------------------------------------------------------------------------- */

static void run(const struct place *p, const char *commands)
{
    char line[400];
    (void)snprintf(line, sizeof line, "cd %s && %s", p->directory, commands);
    assert_int_equal(system(line), 0);
}

/* Leads of one offer, received one millisecond after the other. */
static void make_leads(struct place *p, struct lead_write **leads, int count)
{
    for (int i = 0; i < count; i++)
        leads[i] = make_lead(&p->arena, "contoso.a", START_MS + i);
}

static void put_lead(struct place *p, struct spool *spool, int64_t received_ms)
{
    struct lead_write *lead = make_lead(&p->arena, "contoso.a", received_ms);
    assert_int_equal(put_leads(spool, &lead, 1), ST_OK);
}

static void assert_ok(enum status status, const struct fail *why)
{
    if (status != ST_OK)
        print_error("%s\n", why->text);
    assert_int_equal(status, ST_OK);
}

static void leave(struct spool *spool, unsigned int generation)
{
    struct fail why = {0};
    assert_ok(spool_leave_generation(spool, generation, &why), &why);
}

/* The generation that is the current one by now. */
static struct store *reopen(struct spool *spool, struct store *store, unsigned int *generation)
{
    store_close(store);
    return open_current(spool, generation);
}

static struct salvage salvage(struct spool *spool, struct store *store, unsigned int generation)
{
    struct salvage result;
    struct fail why = {0};
    assert_ok(spool_salvage(spool, store, generation, false, &result, &why), &why);
    return result;
}

static struct salvage audit(struct spool *spool, struct store *store, unsigned int generation)
{
    struct salvage result;
    struct fail why = {0};
    assert_ok(spool_audit(spool, store, generation, false, &result, &why), &why);
    return result;
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
    make_leads(p, leads, 5);
    assert_int_equal(put_leads(spool, &leads[1], 2), ST_OK);
    assert_int_equal(put_leads(spool, leads, 5), ST_OK);
    assert_int_equal(spooled_count(spool), 5);
    spool_close(spool);
}

static bool directory_has(struct store *table, const struct lead_write *lead, struct arena *arena)
{
    const struct span key = span_of(lead->delivery.lead->partition);
    struct entity *row = NULL;
    assert_int_equal(store_get_many(table, TABLE_OPS, SPAN_LIT(OFFERS_PARTITION), &key, 1, NULL, soon(),
                                    arena, &row, NULL),
                     ST_OK);
    return row != NULL;
}

/* A process that lives for one request need not write the offer that another one wrote today. */
static void test_offers_are_remembered(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    struct lead_write *lead = make_lead(&p->arena, "contoso.a", START_MS);
    char path[128];
    for (int process = 0; process < 3; process++) {
        struct store *table;
        struct offers *offers;
        /* A table of its own: what is found in it was written by this process. */
        (void)snprintf(path, sizeof path, "%s/table%d.db", p->directory, process);
        assert_int_equal(store_open_sqlite(path, &table, NULL), ST_OK);
        assert_int_equal(offers_new(&offers, NULL), ST_OK);
        assert_int_equal(
            offers_ensure(offers, table, process < 2 ? spool : NULL, &lead->delivery, soon(), NULL), ST_OK);
        assert_int_equal(directory_has(table, lead, &p->arena), process != 1);
        offers_free(offers);
        store_close(table);
    }
    spool_close(spool);
}

/* That another one wrote of a test does not stand for a customer's lead. */
static void test_tests_are_remembered_as_such(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    char path[128];
    for (int process = 0; process < 3; process++) {
        struct lead_write *write = make_lead(&p->arena, "contoso.a", START_MS);
        struct lead lead = *write->delivery.lead;
        struct store *table;
        struct offers *offers;
        lead.is_test = process == 0;
        write->delivery.lead = &lead;
        (void)snprintf(path, sizeof path, "%s/table%d.db", p->directory, process);
        assert_int_equal(store_open_sqlite(path, &table, NULL), ST_OK);
        assert_int_equal(offers_new(&offers, NULL), ST_OK);
        assert_int_equal(offers_ensure(offers, table, spool, &write->delivery, soon(), NULL), ST_OK);
        assert_int_equal(directory_has(table, write, &p->arena), process < 2);
        offers_free(offers);
        store_close(table);
    }
    spool_close(spool);
}

/* One lead that no store could take does not keep the others out. */
static void test_refused_lead(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    struct lead_write *leads[4];
    make_leads(p, leads, 4);
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

/* What departed is gone; what has changed since it was read stays. */
static void test_remove(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    struct lead_write *leads[3];
    unsigned int generation;
    struct salvage result;
    size_t failed;
    make_leads(p, leads, 3);
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
    assert_int_equal(salvage(spool, store, generation).lost, 0);
    result = audit(spool, store, generation);
    assert_true(result.complete);
    assert_int_equal(result.lost, 0);
    store_close(store);
    spool_close(spool);
}

/* What is acknowledged was synced, each of its files by itself, and what cannot be synced is not acknowledged. */
static void test_synced(void **state)
{
    static const char *const files[] = {"spool.db-wal", "spool.db.ledger"};
    struct place *p = *state;
    unsigned int generation;
    watch_syncs(p->directory, EIO);
    assert_null(try_to_open_spool(p, &(struct fail){0}));
    assert_true(sync_count > 0);
    watch_syncs(NULL, 0);
    struct spool *spool = open_spool(p);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct lead_write *leads[3];
        make_leads(p, leads, 3);
        watch_syncs(files[i], 0);
        assert_int_equal(put_leads(spool, &leads[0], 1), ST_OK);
        assert_true(sync_count > 0);
        watch_syncs(files[i], EIO);
        spool_put_leads(spool, &leads[1], 1, soon());
        assert_int_equal(leads[1]->status, ST_IO);
        watch_syncs(NULL, 0);
        assert_int_equal(put_leads(spool, &leads[2], 1), ST_OK);
    }
    struct store *store = open_current(spool, &generation);
    struct page page = rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION);
    assert_true(page.count >= 4);
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        watch_syncs(files[i], EIO);
        assert_int_equal(spool_remove(spool, store, TABLE_LEADS, page.rows, page.count, soon(), NULL), ST_IO);
        watch_syncs(NULL, 0);
        /* A new connection: this one's view of its log is that of the failure. */
        store = reopen(spool, store, &generation);
        assert_int_equal(rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION).count, page.count);
    }
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
    assert_true(audit(spool, store, generation).complete);
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
    size_t leads_each;                                /* puts of each writer; 0: until stop */
    _Atomic size_t allowed;                           /* leads in all by now; 0: any number */
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
        while (atomic_load(&crowd->allowed) && atomic_load(&crowd->count) >= atomic_load(&crowd->allowed) &&
               !atomic_load(&crowd->stop))
            (void)usleep(200);
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
            status = spool_salvage(spool, store, v.generation, false, &result, &why);
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
            if (page.next.len)
                memcpy(next, page.next.ptr, page.next.len);
            q.next = (struct span){next, page.next.len};
            arena_release(&rows);
            if (!q.next.len)
                break;
        }
        done = status == ST_OK && result.complete;
        if (status == ST_DAMAGED)
            leave(spool, v.generation);
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
    struct salvage again = salvage(spool, store, v.generation);
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
        run(p, "rm spool.db*");
    }
}

static struct spool *leaver;
static enum status left; /* no assertion in the middle of SQLite's work */

static void leave_generation(void)
{
    left = spool_leave_generation(leaver, 1, NULL);
}

/* A write is in the middle of its commit when the generation is left, whose salvage may have gone through it by then:
 * it is not acknowledged before it is in the new one. */
static void test_left_in_a_write(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    struct lead_write *lead = make_lead(&p->arena, "contoso.a", START_MS);
    unsigned int generation;
    leaver = open_spool(p);
    watch_syncs("spool.db-wal", 0);
    sync_hook = leave_generation;
    enum status status = put_leads(spool, &lead, 1);
    watch_syncs(NULL, 0);
    assert_int_equal(left, ST_OK);
    assert_int_equal(status, ST_OK);
    struct store *store = open_current(spool, &generation);
    assert_int_equal(generation, 2); /* so it was left */
    assert_int_equal(rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION).count, 1);
    store_close(store);
    spool_close(leaver);
    spool_close(spool);
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

/* Begins new generations under the others' feet, goes through the old ones and destroys them then: what is
 * written there too late must not count. */
static int leave_generations(void *context)
{
    struct crowd *crowd = context;
    struct fail why = {0};
    wait_for_go(crowd);
    struct spool *spool = try_to_open_spool(crowd->place, &why);
    for (unsigned int generation = 1, now; spool && generation <= 12; generation++) {
        struct store *store = NULL;
        struct salvage result;
        size_t before = atomic_load(&crowd->count);
        int64_t end = soon();
        atomic_store(&crowd->allowed, before + 60);
        while (atomic_load(&crowd->count) < before + 20 && clock_monotonic_ms() < end)
            (void)usleep(200);
        if (spool_leave_generation(spool, generation, &why) != ST_OK ||
            spool_open_current(spool, &store, &now, &why) != ST_OK ||
            spool_salvage(spool, store, now, false, &result, &why) != ST_OK || !result.complete ||
            result.lost > 0) {
            print_error("%s\n", why.text);
            return 3;
        }
        store_close(store);
        damage_file(crowd->place, generation, "", DAMAGE_GARBAGE);
        damage_file(crowd->place, generation, "-wal", DAMAGE_GARBAGE);
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
        p->max_bytes = 1024 * MIB; /* every generation has a copy of the one before it */
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
        run(p, "rm spool.db*");
    }
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
    run(p, "rm spool.db*");
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

/* --- the breaker --------------------------------------------------------------------------------------------- */

static const struct fail down = {.code = ST_AGAIN, .text = "down"};

/* Opened by one, and by one only. */
static void test_breaker(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p), *other = open_spool(p);
    assert_int_equal(breaker_way(spool), BREAKER_CLOSED);
    assert_false(breaker_worked(spool));
    int64_t before = clock_wall_ms();
    assert_true(breaker_failed(spool, BREAKER_CLOSED, &down));
    assert_false(breaker_failed(other, BREAKER_CLOSED, &down));
    struct breaker b = read_breaker(spool, &p->arena);
    assert_int_equal(b.failures, 1);
    assert_true(b.since_ms >= before);
    assert_true(span_eq(b.reason, SPAN_LIT("down")));
    assert_int_equal(breaker_way(spool), BREAKER_OPEN);
    assert_int_equal(breaker_way(other), BREAKER_OPEN);
    make_probe_due(spool);
    assert_int_equal(breaker_way(other), BREAKER_PROBE);
    assert_int_equal(breaker_way(spool), BREAKER_OPEN);
    /* Who probes has died: after some seconds it is another one's turn. */
    b = read_breaker(spool, &p->arena);
    assert_in_range(b.probe_ms - clock_wall_ms(), 1000, 5000);
    make_probe_due(spool);
    assert_int_equal(breaker_way(spool), BREAKER_PROBE);
    assert_true(breaker_worked(spool));
    assert_false(breaker_worked(spool));
    assert_int_equal(breaker_way(spool), BREAKER_CLOSED);
    spool_close(other);
    spool_close(spool);
}

/* Twice as long after every probe that failed, with jitter, up to a bound. */
static void test_breaker_waits(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    int64_t expected = 1000, waits[2] = {0};
    assert_true(breaker_failed(spool, BREAKER_CLOSED, &down));
    for (int i = 0; i < 40; i++) {
        int64_t wait = read_breaker(spool, &p->arena).probe_ms - clock_wall_ms();
        assert_in_range(wait, expected * 8 / 10 - 500, expected * 12 / 10);
        waits[i % 2] = wait;
        make_probe_due(spool);
        assert_int_equal(breaker_way(spool), BREAKER_PROBE);
        assert_false(breaker_failed(spool, BREAKER_PROBE, &down));
        expected = 2 * expected < 30000 ? 2 * expected : 30000;
    }
    assert_true(waits[0] != waits[1]);
    assert_int_equal(read_breaker(spool, &p->arena).failures, 41);
    /* What the service asks for, within reason. */
    struct fail asks = {.code = ST_AGAIN, .retry_after_s = 120};
    make_probe_due(spool);
    assert_int_equal(breaker_way(spool), BREAKER_PROBE);
    assert_false(breaker_failed(spool, BREAKER_PROBE, &asks));
    assert_in_range(read_breaker(spool, &p->arena).probe_ms - clock_wall_ms(), 119000, 120000);
    asks.retry_after_s = INT32_MAX;
    make_probe_due(spool);
    assert_int_equal(breaker_way(spool), BREAKER_PROBE);
    assert_false(breaker_failed(spool, BREAKER_PROBE, &asks));
    assert_in_range(read_breaker(spool, &p->arena).probe_ms - clock_wall_ms(), 599000, 600000);
    spool_close(spool);
}

static void run_sql_in(const struct place *p, unsigned int generation, const char *sql)
{
    char path[128];
    sqlite3 *db;
    (void)snprintf(path, sizeof path, generation > 1 ? "%s.%u" : "%s", p->spool, generation);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_busy_timeout(db, 5000), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    (void)sqlite3_close(db);
}

static void run_sql(const struct place *p, const char *sql)
{
    run_sql_in(p, 1, sql);
}

/* All that was written lies an hour ahead: the clock was set back. */
static void test_breaker_and_the_clock(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    assert_true(breaker_failed(spool, BREAKER_CLOSED, &down));
    struct breaker b = read_breaker(spool, &p->arena);
    b.probe_ms += HOUR_MS;
    write_breaker(spool, &p->arena, &b);
    assert_int_equal(breaker_way(spool), BREAKER_OPEN); /* the service may have asked for it */
    run_sql(
        p,
        "UPDATE entity SET written_ms = written_ms + 3600000, version = 1 WHERE partition_key = 'breaker'");
    assert_int_equal(breaker_way(spool), BREAKER_PROBE);
    spool_close(spool);
}

/* A breaker that cannot be read is closed, and damage makes a new generation. */
static void test_damaged_breaker(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    unsigned int generation;
    assert_true(breaker_failed(spool, BREAKER_CLOSED, &down));
    run_sql(p, "UPDATE entity SET properties = '{' WHERE partition_key = 'breaker'");
    assert_int_equal(breaker_way(spool), BREAKER_CLOSED);
    store_close(open_current(spool, &generation));
    assert_int_equal(generation, 2);
    assert_true(breaker_failed(spool, BREAKER_CLOSED, &down));
    assert_int_equal(breaker_way(spool), BREAKER_OPEN);
    spool_close(spool);
}

/* A call that many processes make at the same moment, and how many of them were the one. */
struct race {
    const struct place *place;
    bool (*call)(struct spool *spool);
    _Atomic size_t ready, winners;
    _Atomic bool go;
};

static int run_race(void *context)
{
    struct race *race = context;
    struct spool *spool = try_to_open_spool(race->place, NULL);
    if (!spool)
        return 2;
    (void)breaker_is_open(spool);
    (void)atomic_fetch_add(&race->ready, 1);
    while (!atomic_load(&race->go))
        ;
    if (race->call(spool))
        (void)atomic_fetch_add(&race->winners, 1);
    spool_close(spool);
    return 0;
}

static size_t winners(const struct place *p, bool (*call)(struct spool *spool))
{
    struct race *race = share(sizeof *race);
    pid_t pids[6];
    race->place = p;
    race->call = call;
    for (size_t i = 0; i < 6; i++)
        pids[i] = begin_process(run_race, race);
    while (atomic_load(&race->ready) < 6)
        (void)usleep(100);
    atomic_store(&race->go, true);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(end_of_process(pids[i]), 0);
    size_t count = race->winners;
    (void)munmap(race, sizeof *race);
    return count;
}

static bool opens(struct spool *spool)
{
    return breaker_failed(spool, BREAKER_CLOSED, &down);
}

static bool probes(struct spool *spool)
{
    return breaker_way(spool) == BREAKER_PROBE;
}

static void test_breaker_of_many(void **state)
{
    struct place *p = *state;
    for (int i = 0; i < 5; i++) {
        assert_int_equal(winners(p, opens), 1);
        struct spool *spool = open_spool(p);
        assert_int_equal(read_breaker(spool, &p->arena).failures, 1);
        make_probe_due(spool);
        assert_int_equal(winners(p, probes), 1);
        assert_int_equal(winners(p, breaker_worked), 1);
        assert_int_equal(read_breaker(spool, &p->arena).failures, 0);
        spool_close(spool);
    }
}

/* --- the ledger ---------------------------------------------------------------------------------------------- */

static void key_number(char key[LEDGER_KEY_TEXT + 1], unsigned int number)
{
    (void)snprintf(key, LEDGER_KEY_TEXT + 1, "%013lld-%032x", START_MS, number);
}

static int open_ledger(const struct place *p)
{
    int fd;
    assert_int_equal(ledger_open(p->spool, &fd, NULL), ST_OK);
    return fd;
}

static enum status note(int fd, enum ledger_event event, unsigned int number)
{
    char key[LEDGER_KEY_TEXT + 1];
    key_number(key, number);
    const struct span keys[] = {span_of(key)};
    return ledger_note(fd, event, LEDGER_LEAD, keys, 1, NULL);
}

/* The ledger's word on a row; 0: it does not know it. */
static char word_on(int fd, unsigned int number)
{
    char key[LEDGER_KEY_TEXT + 1];
    struct ledger_rows rows;
    key_number(key, number);
    assert_int_equal(ledger_read(fd, &rows, NULL), ST_OK);
    char word = '\0';
    for (size_t i = 0; i < rows.count; i++) {
        if (memcmp(rows.all[i].key, key, LEDGER_KEY_TEXT) == 0)
            word = rows.all[i].event;
    }
    ledger_rows_release(&rows);
    return word;
}

static void test_ledger(void **state)
{
    struct place *p = *state;
    int fd = open_ledger(p);
    assert_int_equal(word_on(fd, 1), 0);
    static const enum ledger_event events[][3] = {
        {LEDGER_ARRIVED, LEDGER_ARRIVED, LEDGER_ARRIVED},  {LEDGER_ARRIVED, LEDGER_DEPARTED, LEDGER_ARRIVED},
        {LEDGER_DEPARTED, LEDGER_ARRIVED, LEDGER_ARRIVED}, {LEDGER_ARRIVED, LEDGER_ARRIVED, LEDGER_LOST},
        {LEDGER_LOST, LEDGER_ARRIVED, LEDGER_DEPARTED},
    };
    for (int k = 0; k < 3; k++) {
        for (unsigned int i = 0; i < 5; i++)
            assert_int_equal(note(fd, events[i][k], i), ST_OK);
    }
    assert_int_equal(word_on(fd, 0), LEDGER_ARRIVED);
    assert_int_equal(word_on(fd, 1), LEDGER_DEPARTED);
    assert_int_equal(word_on(fd, 2), LEDGER_DEPARTED);
    assert_int_equal(word_on(fd, 3), LEDGER_LOST);
    assert_int_equal(word_on(fd, 4), LEDGER_DEPARTED);
    const struct span bad = SPAN_LIT("short");
    assert_int_equal(ledger_note(fd, LEDGER_ARRIVED, LEDGER_LEAD, &bad, 1, NULL), ST_BUG);
    (void)close(fd);
}

static void append(int fd, const void *bytes, size_t count)
{
    assert_int_equal(write(fd, bytes, count), count);
}

/* What does not match is passed over, and spoils nothing before or behind it. */
static void test_ledger_damage(void **state)
{
    struct place *p = *state;
    int fd = open_ledger(p);
    struct stat info;
    char *long_line = malloc(200000);
    unsigned char garbage[3000];
    assert_non_null(long_line);
    assert_int_equal(note(fd, LEDGER_ARRIVED, 0), ST_OK);
    assert_int_equal(fstat(fd, &info), 0);
    off_t line = info.st_size;
    /* Cut off anywhere. */
    for (unsigned int i = 1; i < 70; i++) {
        off_t before = lseek(fd, 0, SEEK_END);
        assert_int_equal(note(fd, LEDGER_ARRIVED, 1000 + i), ST_OK);
        assert_int_equal(ftruncate(fd, before + (off_t)(i % (unsigned int)line)), 0);
        assert_int_equal(note(fd, LEDGER_ARRIVED, i), ST_OK);
    }
    for (size_t i = 0; i < sizeof garbage; i++)
        garbage[i] = (unsigned char)rand();
    append(fd, garbage, sizeof garbage);
    assert_int_equal(note(fd, LEDGER_ARRIVED, 70), ST_OK);
    memset(long_line, 'x', 200000);
    append(fd, long_line, 200000);
    assert_int_equal(note(fd, LEDGER_ARRIVED, 71), ST_OK);
    /* One bit. */
    off_t at = lseek(fd, 0, SEEK_END);
    assert_int_equal(note(fd, LEDGER_ARRIVED, 72), ST_OK);
    int other = open_ledger(p);
    assert_int_equal(fcntl(other, F_SETFL, 0), 0); /* not O_APPEND */
    assert_int_equal(pwrite(other, "D", 1, at + 1), 1);
    (void)close(other);
    for (unsigned int i = 0; i < 72; i++)
        assert_int_equal(word_on(fd, i), LEDGER_ARRIVED);
    assert_int_equal(word_on(fd, 72), 0);
    free(long_line);
    (void)close(fd);
}

static int note_many(void *context)
{
    const struct place *p = context;
    int fd;
    if (ledger_open(p->spool, &fd, NULL) != ST_OK)
        return 2;
    for (unsigned int round = 0; round < 50; round++) {
        char keys[20][LEDGER_KEY_TEXT + 1];
        struct span spans[20];
        for (unsigned int i = 0; i < 20; i++) {
            (void)snprintf(keys[i], sizeof keys[i], "%013lld-", START_MS);
            random_hex(keys[i] + 14, 32);
            spans[i] = span_of(keys[i]);
        }
        if (ledger_note(fd, LEDGER_ARRIVED, LEDGER_LEAD, spans, 20, NULL) != ST_OK)
            return 3;
    }
    return 0;
}

static void test_ledger_of_many(void **state)
{
    struct place *p = *state;
    pid_t pids[4];
    struct ledger_rows rows;
    for (size_t i = 0; i < 4; i++)
        pids[i] = begin_process(note_many, p);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(end_of_process(pids[i]), 0);
    int fd = open_ledger(p);
    assert_int_equal(ledger_read(fd, &rows, NULL), ST_OK);
    assert_int_equal(rows.count, 4 * 50 * 20);
    ledger_rows_release(&rows);
    (void)close(fd);
}

static bool yes(void *context)
{
    (void)context;
    return true;
}

static bool no(void *context)
{
    (void)context;
    return false;
}

/* Emptied only while nobody is between a commit and its note, and if the spool is empty. */
static void test_ledger_clear(void **state)
{
    struct place *p = *state;
    int fd = open_ledger(p), other = open_ledger(p), third = open_ledger(p);
    assert_int_equal(note(fd, LEDGER_ARRIVED, 1), ST_OK);
    assert_true(ledger_hold(other, soon()));
    assert_true(ledger_hold(third, soon()));
    assert_false(ledger_clear(fd, yes, NULL));
    ledger_release(other);
    assert_false(ledger_clear(fd, yes, NULL));
    ledger_release(third);
    assert_false(ledger_clear(fd, no, NULL));
    assert_int_equal(word_on(fd, 1), LEDGER_ARRIVED);
    assert_true(ledger_clear(fd, yes, NULL));
    assert_int_equal(word_on(fd, 1), 0);
    assert_int_equal(note(other, LEDGER_ARRIVED, 2), ST_OK);
    assert_int_equal(word_on(fd, 2), LEDGER_ARRIVED);
    /* Who empties it has been stopped: nobody waits for ever. */
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_false(ledger_hold(other, clock_monotonic_ms() + 20));
    (void)close(fd);
    assert_true(ledger_hold(other, soon()));
    assert_false(ledger_is_gone(other));
    char path[128];
    (void)snprintf(path, sizeof path, "%s.ledger", p->spool);
    assert_int_equal(unlink(path), 0);
    assert_true(ledger_is_gone(other));
    (void)close(other);
    (void)close(third);
}

/* --- threads ------------------------------------------------------------------------------------------------- */

enum { THREADS = 4, PUTS_OF_THREAD = 40 };

static void *put_and_ask(void *context)
{
    struct spool *spool = context;
    size_t refused = 0;
    for (int i = 0; i < PUTS_OF_THREAD; i++) {
        struct arena arena = ARENA_INIT(MIB);
        struct lead_write *lead = make_lead(&arena, "contoso.a", START_MS + i);
        spool_put_leads(spool, &lead, 1, soon());
        refused += lead->status != ST_OK;
        if (breaker_way(spool) == BREAKER_CLOSED)
            (void)breaker_failed(spool, BREAKER_CLOSED, &down);
        else
            (void)breaker_worked(spool);
        arena_release(&arena);
    }
    return refused ? spool : NULL;
}

/* The threads of a process take turns; who does not get his in time says so. */
static void test_turns(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    pthread_t threads[THREADS];
    struct fail why;
    for (size_t i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_and_ask, spool), 0);
    for (size_t i = 0; i < THREADS; i++) {
        void *failed;
        assert_int_equal(pthread_join(threads[i], &failed), 0);
        assert_null(failed);
    }
    assert_int_equal(spooled_count(spool), THREADS * PUTS_OF_THREAD);
    assert_true(spool_lock(spool, soon()));
    assert_false(spool_lock(spool, clock_monotonic_ms() + 20));
    struct lead_write *lead = make_lead(&p->arena, "contoso.a", START_MS);
    spool_put_leads(spool, &lead, 1, clock_monotonic_ms() + 20);
    assert_int_equal(lead->status, ST_AGAIN);
    assert_int_equal(spool_probe(spool, clock_monotonic_ms() + 20, &why), ST_AGAIN);
    spool_unlock(spool);
    assert_int_equal(put_leads(spool, &lead, 1), ST_OK);
    spool_close(spool);
}

/* --- what operators do --------------------------------------------------------------------------------------- */

/* The files are removed or moved away while processes have them open: they go on in new ones. */
static void test_files_removed(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p), *other = open_spool(p);
    unsigned int generation;
    put_lead(p, spool, START_MS);
    run(p, "rm -f spool.db spool.db-wal spool.db-shm");
    put_lead(p, other, START_MS + 1); /* makes the new file */
    put_lead(p, spool, START_MS + 2); /* had the old one open */
    assert_int_equal(spooled_count(spool), 2);
    struct store *store = open_current(other, &generation);
    assert_int_equal(generation, 1);
    assert_true(spool_is_current(other, store, 1));
    assert_int_equal(salvage(other, store, generation).lost, 1); /* what was in the file that is no more */
    run(p, "rm -f spool.db spool.db-wal spool.db-shm spool.db.ledger");
    assert_false(spool_is_current(other, store, 1));
    store_close(store);
    put_lead(p, spool, START_MS + 3);
    store = open_current(other, &generation);
    run_sql(p, "DELETE FROM entity WHERE partition_key = 'spool'");
    assert_int_equal(salvage(other, store, generation).lost, 1); /* so it was noted in the new ledger */
    store_close(store);
    spool_close(spool);
    spool_close(other);
}

/* Generations moved away from the bottom and from the middle. */
static void test_generations_removed(void **state)
{
    struct place *p = *state;
    struct spool *idle = open_spool(p), *spool = open_spool(p);
    unsigned int generation;
    for (unsigned int i = 1; i < 4; i++)
        leave(spool, i);
    run(p, "rm -f spool.db.2* spool.db.3*");
    /* Has generation 1 open, and 2 is not there. */
    put_lead(p, idle, START_MS);
    struct store *store = open_current(spool, &generation);
    assert_int_equal(generation, 4);
    assert_int_equal(rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION).count, 1);
    run(p, "rm -f spool.db spool.db-wal spool.db-shm");
    put_lead(p, idle, START_MS + 1);
    assert_int_equal(spooled_count(spool), 2);
    struct salvage result = salvage(spool, store, generation);
    assert_int_equal(result.lost, 0);
    assert_true(result.complete);
    store_close(store);
    spool_close(spool);
    spool_close(idle);
    /* What only looks like a generation is none. */
    run(p, "touch spool.db.bak spool.db.20261121 spool.db.007 spool.db.1 spool.db.9x spool.db.9-wal");
    spool = open_spool(p);
    store_close(open_current(spool, &generation));
    assert_int_equal(generation, 4);
    spool_close(spool);
}

/* --- salvage ------------------------------------------------------------------------------------------------- */

/* What has left the spool does not come back, neither out of old generations nor with an older state of the file. */
static void test_departed_stays_away(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    struct lead_write *leads[6];
    struct salvage result;
    unsigned int generation;
    make_leads(p, leads, 6);
    assert_int_equal(put_leads(spool, leads, 6), ST_OK);
    leave(spool, 1);
    struct store *store = open_current(spool, &generation);
    assert_int_equal(generation, 2);
    assert_int_equal(salvage(spool, store, generation).rescued, 6);
    struct page page = rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION);
    assert_int_equal(spool_remove(spool, store, TABLE_LEADS, page.rows, 4, soon(), NULL), ST_OK);
    /* Out of generation 1, where they still are: */
    leave(spool, 2);
    store = reopen(spool, store, &generation);
    result = salvage(spool, store, generation);
    assert_int_equal(result.rescued, 2);
    assert_int_equal(result.lost, 0);
    page = rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION);
    assert_int_equal(page.count, 2);
    assert_int_equal(spool_remove(spool, store, TABLE_LEADS, page.rows, 2, soon(), NULL), ST_OK);
    /* And when the ledger knows nothing of them any more: */
    assert_true(audit(spool, store, generation).complete);
    leave(spool, 3);
    store = reopen(spool, store, &generation);
    assert_int_equal(salvage(spool, store, generation).rescued, 0);
    assert_int_equal(rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION).count, 0);
    /* A row that departed and is there again. */
    assert_int_equal(put_leads(spool, leads, 1), ST_OK);
    page = rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION);
    struct operation back = {.kind = OPERATION_INSERT, .entity = page.rows[0]};
    size_t failed;
    assert_int_equal(spool_remove(spool, store, TABLE_LEADS, page.rows, 1, soon(), NULL), ST_OK);
    assert_int_equal(store_transact(store, TABLE_LEADS, &back, 1, soon(), &failed, NULL), ST_OK);
    (void)salvage(spool, store, generation);
    assert_int_equal(rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION).count, 0);
    store_close(store);
    spool_close(spool);
}

static bool is_there(const struct place *p, const char *name)
{
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", p->directory, name);
    return access(path, F_OK) == 0;
}

/* Old generations go when nothing is to be had of them any more; not while what they have lost is on the list. */
static void test_old_generations_go(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p), *idle = open_spool(p);
    unsigned int generation;
    put_lead(p, spool, START_MS);
    damage_file(p, 1, "-wal", DAMAGE_GARBAGE);
    damage_file(p, 1, "", DAMAGE_GARBAGE);
    leave(spool, 1);
    struct store *store = open_current(spool, &generation);
    assert_int_equal(salvage(spool, store, generation).lost, 1);
    assert_true(audit(spool, store, generation).complete);
    assert_true(is_there(p, "spool.db"));
    /* `leadctl spool acknowledge` */
    struct page page = rows_of(store, &p->arena, TABLE_OPS, LOST_PARTITION);
    struct operation acknowledge = {.kind = OPERATION_DELETE, .entity = page.rows[0]};
    size_t failed;
    assert_int_equal(page.count, 1);
    assert_int_equal(store_transact(store, TABLE_OPS, &acknowledge, 1, soon(), &failed, NULL), ST_OK);
    (void)audit(spool, store, generation);
    assert_false(is_there(p, "spool.db"));
    assert_false(is_there(p, "spool.db-wal"));
    assert_false(is_there(p, "spool.db-shm"));
    assert_false(is_there(p, "spool.db-salvaged"));
    /* Who had it open goes on in the current one. */
    put_lead(p, idle, START_MS + 1);
    assert_int_equal(rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION).count, 1);
    /* Not while a row in the current one is to be compared. */
    leave(spool, 2);
    store = reopen(spool, store, &generation);
    assert_int_equal(generation, 3);
    (void)salvage(spool, store, generation);
    assert_false(audit(spool, store, generation).complete);
    assert_true(is_there(p, "spool.db.2"));
    store_close(store);
    spool_close(idle);
    spool_close(spool);
}

/* What has arrived in a generation that began just now is neither lost nor forgotten by who looks at the one before. */
static void test_audit_of_left_generation(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p), *other = open_spool(p);
    struct salvage result;
    unsigned int generation;
    struct fail why;
    struct store *store = open_current(spool, &generation);
    leave(other, 1);
    put_lead(p, other, START_MS);
    assert_int_equal(spool_audit(spool, store, generation, false, &result, &why), ST_AGAIN);
    assert_int_equal(spool_salvage(spool, store, generation, false, &result, &why), ST_AGAIN);
    store = reopen(spool, store, &generation);
    run_sql_in(p, generation, "DELETE FROM entity WHERE partition_key = 'spool'");
    assert_int_equal(salvage(spool, store, generation).lost, 1); /* the ledger has it */
    store_close(store);
    spool_close(other);
    spool_close(spool);
}

/* A row rescued out of a generation and destroyed in the next is still found in the first. */
static void test_salvage_of_salvage(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    struct salvage result;
    unsigned int generation;
    put_lead(p, spool, START_MS);
    leave(spool, 1);
    struct store *store = open_current(spool, &generation);
    assert_int_equal(salvage(spool, store, generation).rescued, 1);
    store_close(store);
    leave(spool, 2);
    damage_file(p, 2, "", DAMAGE_EMPTY);
    damage_file(p, 2, "-wal", DAMAGE_EMPTY);
    store = open_current(spool, &generation);
    result = salvage(spool, store, generation);
    assert_int_equal(result.rescued, 1);
    assert_int_equal(result.lost, 0);
    store_close(store);
    spool_close(spool);
}

/* --- damage that SQLite does not notice -------------------------------------------------------------------------- */

enum { PAGE_SIZE = 4096, MANY = 60, INDEX_LEAF = 0x0A, TABLE_LEAF = 0x0D };

/* MANY leads, in a file that nobody has open, and what the file holds. */
static unsigned char *fill_spool(struct place *p, size_t *size)
{
    struct spool *spool = open_spool(p);
    struct lead_write *leads[MANY];
    struct stat info;
    make_leads(p, leads, MANY);
    assert_int_equal(put_leads(spool, leads, MANY), ST_OK);
    spool_close(spool);
    run_sql(p, "PRAGMA wal_checkpoint(TRUNCATE)");
    int fd = open(p->spool, O_RDONLY | O_CLOEXEC);
    assert_int_equal(fstat(fd, &info), 0);
    *size = (size_t)info.st_size;
    unsigned char *file = arena_alloc(&p->arena, *size);
    assert_non_null(file);
    assert_int_equal(read(fd, file, *size), info.st_size);
    (void)close(fd);
    return file;
}

static void write_file(const struct place *p, const unsigned char *file, size_t size)
{
    int fd = open(p->spool, O_WRONLY | O_CLOEXEC);
    assert_int_equal(write(fd, file, size), size);
    (void)close(fd);
}

/* The lead's key on a page of that type. */
static unsigned char *key_on_page(unsigned char *file, size_t size, int type, int lead)
{
    char time[24];
    (void)snprintf(time, sizeof time, "%013lld-", START_MS + lead);
    for (size_t at = PAGE_SIZE; at < size; at += PAGE_SIZE) {
        unsigned char *key = memmem(file + at, PAGE_SIZE, time, strlen(time));
        if (file[at] == type && key)
            return key;
    }
    fail_msg("lead %d is on no page of type %d", lead, type);
    return NULL;
}

/* The page of its row; how many rows were on it. */
static size_t destroy_page_of(unsigned char *file, size_t size, int lead)
{
    unsigned char *page =
        file + (size_t)(key_on_page(file, size, TABLE_LEAF, lead) - file) / PAGE_SIZE * PAGE_SIZE;
    size_t rows = (size_t)(page[3] << 8 | page[4]);
    memset(page, 0, PAGE_SIZE);
    return rows;
}

/* Plays the drain: how many leads are there or listed as lost in the end, none of them both. */
static void go_through(struct place *p, size_t *present, size_t *lost)
{
    struct spool *spool = open_spool(p);
    struct store *store = NULL;
    struct salvage result = {0};
    unsigned int generation;
    struct fail why;
    enum status status = ST_DAMAGED;
    for (int i = 0; i < 4 && status == ST_DAMAGED; i++) {
        store = reopen(spool, store, &generation);
        status = spool_salvage(spool, store, generation, false, &result, &why);
        if (status == ST_DAMAGED)
            leave(spool, generation);
    }
    assert_ok(status, &why);
    assert_true(result.complete);
    struct page there = rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION);
    struct page listed = rows_of(store, &p->arena, TABLE_OPS, LOST_PARTITION);
    for (size_t i = 0; i < there.count; i++) {
        for (size_t k = 0; k < listed.count; k++)
            assert_false(span_eq(there.rows[i].row_key, listed.rows[k].row_key));
    }
    assert_int_equal(listed.count, result.lost);
    *present = there.count;
    *lost = listed.count;
    store_close(store);
    spool_close(spool);
}

/* A search for the lead goes astray in the index; the table has it. */
static void test_damaged_index(void **state)
{
    struct place *p = *state;
    size_t size, present, lost;
    unsigned char *file = fill_spool(p, &size);
    key_on_page(file, size, INDEX_LEAF, 20)[LEDGER_KEY_TEXT - 1] = '~';
    write_file(p, file, size);
    go_through(p, &present, &lost);
    assert_int_equal(present, MANY);
    assert_int_equal(lost, 0);
}

/* Searches for some leads lead to the rows of others, as entries beside theirs are out of order, and the way through the
 * rows is cut off on both sides: none of them may count as found. */
static void test_mistaken_index(void **state)
{
    struct place *p = *state;
    size_t size, present, lost;
    unsigned char *file = fill_spool(p, &size);
    size_t destroyed = 0;
    static const int ends[] = {0, MANY - 1}, damaged[] = {20, 25, 30, 35};
    for (size_t i = 0; i < 4; i++)
        key_on_page(file, size, INDEX_LEAF, damaged[i])[-1] = 'z'; /* the partition's end */
    for (size_t i = 0; i < 2; i++)
        destroyed += destroy_page_of(file, size, ends[i]);
    write_file(p, file, size);
    go_through(p, &present, &lost);
    assert_int_equal(present + lost, MANY);
    assert_true(lost >= destroyed + 4);
}

/* One page in the middle costs what was on it. */
static void test_damaged_page(void **state)
{
    struct place *p = *state;
    size_t size, present, lost;
    unsigned char *file = fill_spool(p, &size);
    size_t destroyed = destroy_page_of(file, size, 30);
    write_file(p, file, size);
    run(p, "truncate -s 0 spool.db.ledger"); /* so that nothing is looked up */
    go_through(p, &present, &lost);
    assert_int_equal(present, MANY - destroyed);
    assert_int_equal(lost, 0);
}

/* A table that is not ours any more, and a row that could not have been written. */
static void test_damaged_meaning(void **state)
{
    struct place *p = *state;
    size_t size, present, lost;
    (void)fill_spool(p, &size);
    run_sql(p, "UPDATE entity SET properties = json_set(properties, '$.MayBeWritten', 0.5)"
               " WHERE row_key LIKE '1763700000030-%'");
    struct spool *spool = open_spool(p);
    unsigned int generation;
    struct lead lead;
    struct delivery delivery;
    struct store *store = open_current(spool, &generation);
    struct page page = rows_of(store, &p->arena, TABLE_LEADS, SPOOL_PARTITION);
    assert_int_equal(page.count, MANY);
    assert_int_equal(spooled_of_row(&page.rows[30], &lead, &delivery, &p->arena, NULL), ST_DAMAGED);
    store_close(store);
    leave(spool, 1); /* as the drain does then */
    spool_close(spool);
    go_through(p, &present, &lost);
    assert_int_equal(present, MANY - 1);
    assert_int_equal(lost, 1);
    run_sql_in(p, 2,
               "PRAGMA writable_schema = on;"
               "UPDATE sqlite_schema SET sql = replace(sql, 'version', 'versiom') WHERE name = 'entity'");
    go_through(p, &present, &lost);
    assert_int_equal(present, MANY - 1);
    assert_int_equal(lost, 0); /* the list went with the file; it was told before */
}

/* Generation 1 cannot be opened: a directory is in its place, which fails for root too. */
static void hide_first_generation(const struct place *p)
{
    run(p, "mkdir away && mv spool.db spool.db-wal away && mkdir spool.db");
}

static void show_first_generation(const struct place *p)
{
    run(p, "rmdir spool.db && rm -f spool.db-shm && mv away/* . && rmdir away");
}

/* An old generation that cannot be opened just now (too many files, no right) is not a damaged one. */
static void test_unreadable_for_now(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    struct salvage result;
    unsigned int generation;
    put_lead(p, spool, START_MS);
    leave(spool, 1);
    struct store *store = open_current(spool, &generation);
    hide_first_generation(p);
    result = salvage(spool, store, generation);
    assert_false(result.complete);
    assert_int_equal(result.lost, 0);
    result = audit(spool, store, generation);
    assert_false(result.complete);
    assert_int_equal(result.lost, 0);
    show_first_generation(p);
    result = salvage(spool, store, generation);
    assert_true(result.complete);
    assert_int_equal(result.rescued, 1);
    store_close(store);
    spool_close(spool);
}

/* After some time that counts as a loss; should it be readable again, the row is copied all the same. */
static void test_unreadable_for_good(void **state)
{
    struct place *p = *state;
    struct spool *spool = open_spool(p);
    struct salvage result;
    unsigned int generation;
    struct fail why;
    put_lead(p, spool, START_MS);
    leave(spool, 1);
    struct store *store = open_current(spool, &generation);
    hide_first_generation(p);
    assert_int_equal(spool_salvage(spool, store, generation, true, &result, &why), ST_OK);
    assert_true(result.complete);
    assert_int_equal(result.lost, 1);
    assert_int_equal(spool_audit(spool, store, generation, true, &result, &why), ST_OK);
    assert_true(result.complete);
    show_first_generation(p);
    result = salvage(spool, store, generation);
    assert_int_equal(result.rescued, 1);
    assert_int_equal(result.lost, 0);
    store_close(store);
    spool_close(spool);
}

/* Emptying, shrinking and clearing again and again while others put leads and a generation is left now and then. */
static void test_audit_while_writing(void **state)
{
    struct place *p = *state;
    struct crowd *crowd = new_crowd(p);
    pid_t pids[3];
    size_t departed = 0, audits = 0;
    p->max_bytes = 1024 * MIB;
    crowd->allowed = 200;
    begin_writers(crowd, pids, 3);
    struct spool *spool = open_spool(p);
    struct store *store = NULL;
    unsigned int generation = 0;
    for (int64_t end = clock_monotonic_ms() + 20000;
         (audits < 40 || departed < 500) && clock_monotonic_ms() < end;) {
        struct arena arena = ARENA_INIT(64 * MIB);
        struct query q = {.table = TABLE_LEADS, .partition_key = SPAN_LIT(SPOOL_PARTITION), .limit = 100};
        struct salvage result = {.complete = true};
        struct page page = {0};
        struct fail why = {0};
        enum status status = ST_OK;
        if (!store || !spool_is_current(spool, store, generation)) {
            store = reopen(spool, store, &generation);
            status = spool_salvage(spool, store, generation, false, &result, &why);
            assert_true(status == ST_OK || status == ST_AGAIN);
            assert_int_equal(result.lost, 0);
        }
        status = store_query(store, &q, soon(), &arena, &page, &why);
        assert_int_equal(status, ST_OK);
        if (page.count > 0) {
            status = spool_remove(spool, store, TABLE_LEADS, page.rows, page.count, soon(), &why);
            assert_int_equal(status, ST_OK);
            departed += page.count;
            atomic_store(&crowd->allowed, departed + 200);
        }
        status = spool_audit(spool, store, generation, false, &result, &why);
        assert_true(status == ST_OK || status == ST_AGAIN); /* left just now */
        assert_int_equal(result.lost, 0);
        audits++;
        if (audits % 10 == 0)
            leave(spool, generation);
        arena_release(&arena);
    }
    atomic_store(&crowd->stop, true);
    end_writers(crowd, pids, 3);
    if (crowd->refused)
        print_error("%s\n", crowd->refusal);
    assert_int_equal(crowd->refused, 0);
    assert_true(departed >= 500);
    store_close(store);
    spool_close(spool);
    struct verdict v = judge(crowd);
    assert_int_equal(v.lost, 0);
    assert_true(v.present + departed >= v.acknowledged);
    free_crowd(crowd);
}

/* --- the k-th call fails, or kills --------------------------------------------------------------------------- */

/* The same program once more, with tests/harness/preload.c before it, goes through the life of a
 * few leads: put, removed, a generation left, salvage, audit.  It keeps a record in a file. */

enum { RECORDED_MAX = 64 };

struct record {
    _Atomic size_t acknowledged, removing;
    char acknowledged_keys[RECORDED_MAX][LEDGER_KEY_TEXT + 1];
    char removing_keys[RECORDED_MAX][LEDGER_KEY_TEXT + 1];
};

static struct record *map_record(const char *directory)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/record", directory);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, sizeof(struct record)) != 0)
        abort();
    void *memory = mmap(NULL, sizeof(struct record), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED)
        abort();
    (void)close(fd);
    return memory;
}

static void write_down(char keys[][LEDGER_KEY_TEXT + 1], _Atomic size_t *count, struct span key)
{
    size_t at = atomic_load(count);
    if (at >= RECORDED_MAX || key.len != LEDGER_KEY_TEXT)
        abort();
    memcpy(keys[at], key.ptr, key.len);
    atomic_store(count, at + 1);
}

static void put_some(struct spool *spool, struct record *record, size_t count)
{
    struct arena arena = ARENA_INIT(MIB);
    struct lead_write *leads[8];
    for (size_t i = 0; i < count; i++)
        leads[i] = make_lead(&arena, "contoso.a", START_MS);
    spool_put_leads(spool, leads, count, soon());
    for (size_t i = 0; i < count && leads[i]->status == ST_OK; i++)
        write_down(record->acknowledged_keys, &record->acknowledged,
                   row_key_of_time(START_MS, leads[i]->delivery.id, &arena));
    arena_release(&arena);
}

/* Takes out the first rows as the drain does, after it has gone through older generations. */
static void take_some(struct spool *spool, struct record *record, size_t count, bool audits)
{
    struct arena arena = ARENA_INIT(64 * MIB);
    struct query q = {.table = TABLE_LEADS, .partition_key = SPAN_LIT(SPOOL_PARTITION), .limit = count};
    struct store *store = NULL;
    struct salvage result;
    unsigned int generation;
    struct page page = {0};
    enum status status = spool_open_current(spool, &store, &generation, NULL);
    if (status == ST_OK)
        status = spool_salvage(spool, store, generation, false, &result, NULL);
    if (status == ST_OK)
        status = store_query(store, &q, soon(), &arena, &page, NULL);
    for (size_t i = 0; status == ST_OK && i < page.count; i++)
        write_down(record->removing_keys, &record->removing, page.rows[i].row_key);
    if (status == ST_OK && page.count > 0)
        status = spool_remove(spool, store, TABLE_LEADS, page.rows, page.count, soon(), NULL);
    if (status == ST_OK && audits)
        status = spool_audit(spool, store, generation, false, &result, NULL);
    if (status == ST_DAMAGED)
        status = spool_leave_generation(spool, generation, NULL);
    store_close(store);
    arena_release(&arena);
}

static void touch(const char *directory, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0)
        (void)close(fd);
}

static int live(const char *directory)
{
    struct place p = {.max_bytes = 64 * MIB};
    struct record *record = map_record(directory);
    struct fail why;
    (void)snprintf(p.spool, sizeof p.spool, "%s/spool.db", directory);
    touch(directory, "armed");
    struct spool *spool = try_to_open_spool(&p, &why);
    if (!spool) /* it is tried again later, as by the committer */
        spool = try_to_open_spool(&p, &why);
    if (!spool)
        return 0;
    put_some(spool, record, 3);
    put_some(spool, record, 2);
    take_some(spool, record, 2, false);
    if (spool_leave_generation(spool, 1, &why) != ST_OK)
        put_some(spool, record, 1);
    put_some(spool, record, 2);
    take_some(spool, record, 1, false);
    take_some(spool, record, 8, true);
    put_some(spool, record, 2);
    spool_close(spool);
    return 0;
}

static void preload_path(char *path, size_t size)
{
    ssize_t len = readlink("/proc/self/exe", path, size - 1);
    assert_true(len > 0);
    path[len] = '\0';
    for (int up = 0; up < 3; up++) /* tests/unit/test_spool */
        *strrchr(path, '/') = '\0';
    size_t used = strlen(path);
    (void)snprintf(path + used, size - used, "/harness/preload.so");
    if (access(path, R_OK) != 0)
        print_error("%s is not there: make harness\n", path);
    assert_int_equal(access(path, R_OK), 0);
}

struct life {
    const char *directory;
    char preload[512], rule[200];
};

static int exec_live(void *context)
{
    struct life *life = context;
    char arm[128], count[128];
    (void)snprintf(arm, sizeof arm, "%s/armed", life->directory);
    (void)snprintf(count, sizeof count, "%s/count", life->directory);
    (void)setenv("LD_PRELOAD", life->preload, 1);
    (void)setenv("LH_FAULT", life->rule, 1);
    (void)setenv("LH_FAULT_ARM", arm, 1);
    (void)setenv("LH_FAULT_COUNT", count, 1);
    (void)setenv("ASAN_OPTIONS", "verify_asan_link_order=0:detect_leaks=0", 1);
    (void)execl("/proc/self/exe", "test_spool", "--live", life->directory, (char *)NULL);
    return 127;
}

static int64_t calls_counted(const char *directory)
{
    char path[128];
    int64_t count = 0;
    (void)snprintf(path, sizeof path, "%s/count", directory);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        assert_int_equal(read(fd, &count, sizeof count), sizeof count);
        (void)close(fd);
    }
    return count;
}

/* What was acknowledged and not taken out is there, and nothing is reported as lost that was not. */
static void judge_life(const struct place *p, const struct life *life)
{
    struct record *record = map_record(p->directory);
    struct arena arena = ARENA_INIT(64 * MIB);
    struct keys present = {0};
    unsigned int generation;
    struct spool *spool = open_spool(p);
    struct store *store = open_current(spool, &generation);
    struct salvage result = salvage(spool, store, generation);
    assert_true(result.complete);
    struct page page = rows_of(store, &arena, TABLE_LEADS, SPOOL_PARTITION);
    add_keys(&present, &arena, &page);
    size_t lost = rows_of(store, &arena, TABLE_OPS, LOST_PARTITION).count, missing = 0;
    for (size_t i = 0; i < record->acknowledged; i++) {
        bool taken = false;
        for (size_t k = 0; k < record->removing; k++)
            taken = taken || strcmp(record->acknowledged_keys[i], record->removing_keys[k]) == 0;
        missing += !taken && !has_key(&present, record->acknowledged_keys[i]);
    }
    if (missing || lost || result.lost)
        print_error("%s: %zu of %zu missing, %zu reported as lost\n", life->rule, missing,
                    record->acknowledged, lost);
    assert_int_equal(missing, 0);
    assert_int_equal(lost, 0);
    assert_int_equal(result.lost, 0);
    put_some(spool, record, 1);
    store_close(store);
    spool_close(spool);
    free(present.all);
    arena_release(&arena);
    (void)munmap(record, sizeof *record);
}

/* A process takes ten times as long under a sanitizer: there every seventh call has to do. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { CALL_STEP = 7, LIVES_LEAST = 3 };
#else
enum { CALL_STEP = 1, LIVES_LEAST = 20 };
#endif

static void meet_each_call(struct place *p, const char *calls, const char *action, const char *more,
                           int expected)
{
    struct life life = {.directory = p->directory};
    size_t lives = 0;
    preload_path(life.preload, sizeof life.preload);
    for (int k = 1;; k += CALL_STEP, lives++) {
        (void)snprintf(life.rule, sizeof life.rule, "%s:%s:%d%s:spool.db", calls, action, k, more);
        int status = end_of_process(begin_process(exec_live, &life));
        bool met = status != 0 || calls_counted(p->directory) >= k;
        if (status != 0 && status != expected)
            print_error("%s: ended with %d\n", life.rule, status);
        assert_true(status == 0 || status == expected);
        judge_life(p, &life);
        run(p, "rm -f *");
        if (!met)
            break;
    }
    assert_true(lives > LIVES_LEAST);
}

#define WRITING "write|pwrite|fdatasync|fsync|ftruncate|open|openat"

static void test_killed_at_each_call(void **state)
{
    meet_each_call(*state, WRITING, "kill", "", 128 + SIGKILL);
}

static void test_torn_at_each_write(void **state)
{
    meet_each_call(*state, "write|pwrite", "tear", "", 128 + SIGKILL);
}

static void test_error_at_each_call(void **state)
{
    meet_each_call(*state, WRITING, "EIO", "", 0);
}

static void test_full_from_each_call(void **state)
{
    meet_each_call(*state, WRITING, "ENOSPC", "+", 0);
}

static void test_unreadable_at_each_call(void **state)
{
    meet_each_call(*state, "pread|read", "EIO", "", 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "--live") == 0)
        return live(argv[2]);
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),
        TEST(test_rows_that_are_there),
        TEST(test_offers_are_remembered),
        TEST(test_tests_are_remembered_as_such),
        TEST(test_refused_lead),
        TEST(test_remove),
        TEST(test_synced),
        TEST(test_quota),
        TEST(test_fresh_spool_of_many),
        TEST(test_left_in_a_write),
        TEST(test_generations_left),
        TEST(test_damage_while_writing),
        TEST(test_breaker),
        TEST(test_breaker_waits),
        TEST(test_breaker_and_the_clock),
        TEST(test_damaged_breaker),
        TEST(test_breaker_of_many),
        TEST(test_ledger),
        TEST(test_ledger_damage),
        TEST(test_ledger_of_many),
        TEST(test_ledger_clear),
        TEST(test_turns),
        TEST(test_files_removed),
        TEST(test_generations_removed),
        TEST(test_departed_stays_away),
        TEST(test_audit_of_left_generation),
        TEST(test_old_generations_go),
        TEST(test_salvage_of_salvage),
        TEST(test_damaged_index),
        TEST(test_mistaken_index),
        TEST(test_damaged_page),
        TEST(test_damaged_meaning),
        TEST(test_unreadable_for_now),
        TEST(test_unreadable_for_good),
        TEST(test_audit_while_writing),
        TEST(test_killed_at_each_call),
        TEST(test_torn_at_each_write),
        TEST(test_error_at_each_call),
        TEST(test_full_from_each_call),
        TEST(test_unreadable_at_each_call),
    };
    if (getenv("ONLY"))
        cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
