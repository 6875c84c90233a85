/* Quarantine and its quota, on SQLite and, when TABLE_CONNECTION names a Table
 * service, on that too.  A store in front of the real one makes faults: answers
 * that get lost before or behind the write, and others who come between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>

#include "lib/net/http.h"
#include "lib/store/quarantine.h"
#include "tests/unit/front.h"
#include "tests/unit/stored.h"

#define DAY      CLOCK_DAY_MS
#define START_MS (20000 * DAY + 9 * 60 * 60 * 1000LL) /* 2024-10-04 09:00 */

#define QUOTA(number) (&(const struct quarantine_quota){.per_day = (number), .max_bytes = UINT64_MAX})

/* What happens to a transaction. */
enum loss {
    LOSS_NONE,
    LOSS_BEFORE, /* not written, and nobody knows */
    LOSS_BEHIND, /* written, and nobody knows */
    LOSS_LATE,   /* written when the rows are read the next time, between two of them */
    LOSS_BUSY    /* not written, and the service says when to come back */
};

struct fixture {
    struct front front; /* with faults */
    struct stored db;   /* the real one */

    const enum loss *losses; /* of the next transactions */
    size_t loss_count;
    struct operation late[3]; /* LOSS_LATE's */
    size_t late_count;
    void (*between)(struct fixture *f); /* before every transaction */
    size_t transactions;
    uint64_t max_bytes;       /* of all items */
    int64_t want_deadline_ms; /* of every call, but the inner store gets more time; 0: any */
};

/* The deadline for the inner store. */
static int64_t inner_deadline(const struct fixture *f, int64_t deadline_ms)
{
    if (f->want_deadline_ms == 0)
        return deadline_ms;
    assert_int_equal(deadline_ms, f->want_deadline_ms);
    return soon();
}

static enum status faulty_transact(struct store *store, enum table_id table,
                                   const struct operation *operations, size_t count, int64_t deadline_ms,
                                   size_t *failed, struct fail *why)
{
    struct fixture *f = (struct fixture *)store;
    enum loss loss = LOSS_NONE;
    f->transactions++;
    if (f->between)
        f->between(f);
    if (f->loss_count > 0) {
        loss = *f->losses++;
        f->loss_count--;
    }
    if (loss == LOSS_BUSY) {
        (void)fail_set(why, ST_AGAIN, 0, "the service is busy");
        why->retry_after_s = 300;
        return ST_AGAIN;
    }
    if (loss == LOSS_LATE) {
        assert_true(count <= sizeof f->late / sizeof f->late[0]);
        memcpy(f->late, operations, count * sizeof operations[0]);
        f->late_count = count;
    }
    if (loss == LOSS_NONE || loss == LOSS_BEHIND) {
        enum status status = store_transact(f->db.store, table, operations, count,
                                            inner_deadline(f, deadline_ms), failed, why);
        if (loss == LOSS_NONE || status != ST_OK)
            return status;
    }
    return fail_set(why, ST_UNKNOWN, 0, "the answer was lost");
}

static enum status faulty_get_many(struct store *store, enum table_id table, struct span partition_key,
                                   const struct span *row_keys, size_t count, const char *select,
                                   int64_t deadline_ms, struct arena *arena, struct entity **rows,
                                   struct fail *why)
{
    struct fixture *f = (struct fixture *)store;
    enum status status = ST_OK;
    deadline_ms = inner_deadline(f, deadline_ms);
    for (size_t i = 0; i < count && status == ST_OK; i++) {
        status = store_get_many(f->db.store, table, partition_key, &row_keys[i], 1, select, deadline_ms,
                                arena, &rows[i], why);
        if (f->late_count > 0 && status == ST_OK) {
            size_t failed;
            status = store_transact(f->db.store, table, f->late, f->late_count, deadline_ms, &failed, why);
            f->late_count = 0;
        }
    }
    return status;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char table[40] = "Q"; /* a table of its own, because all items are in one partition */
    random_hex(table + 1, 16);
    if (!f || !stored_open(&f->db, table))
        return -1;
    front_place(&f->front, f->db.store);
    f->front.functions.transact = faulty_transact;
    f->front.functions.get_many = faulty_get_many;
    f->max_bytes = UINT64_MAX;
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    int rc = stored_close(&f->db);
    free(f);
    return rc;
}

static struct quarantined new_item(const char *key_name, int64_t received_ms)
{
    struct quarantined item = {
        .received_ms = received_ms,
        .key_name = span_of(key_name),
        .content_type = SPAN_LIT("application/json"),
        .reason = SPAN_LIT("not JSON"),
        .body = SPAN_LIT("{\"UserDetails\":"),
    };
    random_hex(item.id, LEAD_DELIVERY_TEXT);
    return item;
}

static enum status put(struct fixture *f, const struct quarantined *item, unsigned int per_day,
                       struct fail *why)
{
    const struct quarantine_quota quota = {.per_day = per_day, .max_bytes = f->max_bytes};
    *why = (struct fail){0};
    enum status status = quarantine_put(&f->front.base, item, &quota, soon(), why);
    if (status != ST_OK && status != ST_OVER_QUOTA)
        print_error("%s\n", why->text);
    return status;
}

/* Puts a new item. */
static enum status put_new(struct fixture *f, const char *key_name, int64_t received_ms, unsigned int per_day)
{
    struct fail why;
    struct quarantined item = new_item(key_name, received_ms);
    return put(f, &item, per_day, &why);
}

static struct page in_quarantine(struct fixture *f, const char *from, const char *to)
{
    return rows_between(f->db.store, &f->db.arena, TABLE_OPS, QUARANTINE_PARTITION, from, to);
}

static struct page all_items(struct fixture *f)
{
    return in_quarantine(f, QUARANTINE_KEY_FIRST, QUARANTINE_KEY_END);
}

static struct page counters(struct fixture *f)
{
    return in_quarantine(f, QUOTA_KEY_FIRST, QUARANTINE_TOTAL_KEY);
}

static size_t item_count(struct fixture *f)
{
    return all_items(f).count;
}

/* The one counter's value; 0: there is none. */
static int used(struct fixture *f)
{
    struct page page = counters(f);
    assert_true(page.count <= 1);
    return page.count ? quota_used(&page.rows[0]) : 0;
}

static void assert_counted(struct fixture *f, size_t items)
{
    assert_int_equal(item_count(f), items);
    assert_int_equal(used(f), items);
}

static void test_item(void **state)
{
    struct fixture *f = *state;
    struct quarantine_entry entry;
    struct fail why;
    static char body[200 * 1024];
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)(i * 7 + i / 256);
    struct quarantined item = new_item("market", START_MS);
    item.body = (struct span){body, sizeof body};
    item.webhook_id = SPAN_LIT("msg_1");
    assert_int_equal(put(f, &item, 5, &why), ST_OK);
    assert_int_equal(quarantine_find(&f->front.base, span_of(item.id), &f->db.arena, &entry, &why), ST_OK);
    assert_string_equal(entry.item.id, item.id);
    assert_int_equal(entry.item.received_ms, START_MS);
    assert_true(span_eq(entry.item.key_name, SPAN_LIT("market")));
    assert_true(span_eq(entry.item.webhook_id, SPAN_LIT("msg_1")));
    assert_true(span_eq(entry.item.content_type, SPAN_LIT("application/json")));
    assert_true(span_eq(entry.item.reason, SPAN_LIT("not JSON")));
    assert_int_equal(entry.body_bytes, sizeof body);
    assert_int_equal(entry.item.body.len, sizeof body);
    assert_memory_equal(entry.item.body.ptr, body, sizeof body);
    assert_counted(f, 1);

    struct quarantined empty = new_item("market", START_MS); /* as it may come from elsewhere */
    empty.body = empty.content_type = empty.reason = span_empty();
    assert_int_equal(put(f, &empty, 5, &why), ST_OK);
    assert_int_equal(quarantine_find(&f->front.base, span_of(empty.id), &f->db.arena, &entry, &why), ST_OK);
    assert_int_equal(entry.item.body.len, 0);
}

static void test_quota(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    for (int i = 0; i < 3; i++)
        assert_int_equal(put_new(f, "market", START_MS + i, 3), ST_OK);
    struct quarantined item = new_item("market", START_MS + 999);
    assert_int_equal(put(f, &item, 3, &why), ST_OVER_QUOTA);
    assert_int_equal(why.code, ST_OVER_QUOTA);
    assert_string_equal(why.text, "the key's quarantine is full for today (3 payloads)");
    assert_int_equal(why.retry_after_s, 15 * 60 * 60); /* what is left of the day, rounded up */
    assert_counted(f, 3);
    item.received_ms = 20000 * DAY; /* the day's first and last instants */
    assert_int_equal(put(f, &item, 3, &why), ST_OVER_QUOTA);
    assert_int_equal(why.retry_after_s, 24 * 60 * 60);
    item.received_ms = 20001 * DAY - 1;
    assert_int_equal(put(f, &item, 3, &why), ST_OVER_QUOTA);
    assert_int_equal(why.retry_after_s, 1);
    item.received_ms = 20001 * DAY;
    assert_int_equal(put(f, &item, 3, &why), ST_OK);
    assert_int_equal(put_new(f, "market", START_MS, 4), ST_OK); /* the setting was raised */
    assert_int_equal(put_new(f, "market", START_MS, 3), ST_OVER_QUOTA);
    assert_int_equal(put_new(f, "market", START_MS, 0), ST_OK);
    assert_int_equal(item_count(f), 6);
}

/* Every name is a name of its own, and may be part of a key. */
static void test_key_names(void **state)
{
    static const char *const names[] = {
        "market",   "Market",
        "a/b",      "a=2Fb",
        "a%2Fb",    "#?\\ ",
        "\xC3\xBC", "",
        "-",        "0123456789012345678901234567890123456789012345678901234567890123"};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (put_new(f, names[i], START_MS, 1) != ST_OK || put_new(f, names[i], START_MS, 1) != ST_OVER_QUOTA)
            fail_msg("name '%s'", names[i]);
    }
    assert_int_equal(counters(f).count, sizeof names / sizeof names[0]);
}

static void test_same_item_again(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    struct quarantined item = new_item("market", START_MS);
    for (int i = 0; i < 3; i++)
        assert_int_equal(put(f, &item, 1, &why), ST_OK);
    assert_counted(f, 1);
    assert_int_equal(put(f, &item, 0, &why), ST_OK);
    assert_counted(f, 1);
}

/* Nobody knows whether the write took effect: it is there once and counts once, also when it took the last place. */
static void test_lost_answers(void **state)
{
    static const struct {
        const char *name;
        enum loss losses[3];
        size_t count;
        enum status want;
        size_t items;
    } cases[] = {
        {"written", {LOSS_BEHIND}, 1, ST_OK, 1},
        {"not written", {LOSS_BEFORE}, 1, ST_OK, 1},
        {"not written twice", {LOSS_BEFORE, LOSS_BEFORE}, 2, ST_OK, 1},
        {"not written, then written", {LOSS_BEFORE, LOSS_BEHIND}, 2, ST_OK, 1},
        {"written late", {LOSS_LATE}, 1, ST_OK, 1},
        {"never an answer", {LOSS_BEFORE, LOSS_BEFORE, LOSS_BEFORE}, 3, ST_UNKNOWN, 0},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        for (unsigned int others = 0; others < 2; others++) {
            char name[16];
            (void)snprintf(name, sizeof name, "k%zu-%u", i, others);
            if (others)
                assert_int_equal(put_new(f, name, START_MS, 1), ST_OK);
            size_t before = item_count(f);
            f->losses = cases[i].losses;
            f->loss_count = cases[i].count;
            struct quarantined item = new_item(name, START_MS);
            struct fail why = {0};
            enum status got = quarantine_put(&f->front.base, &item, QUOTA(1 + others), soon(), &why);
            size_t items = item_count(f) - before;
            /* It was the last place, whoever has it. */
            enum status next = put_new(f, name, START_MS, 1 + others);
            if (got != cases[i].want || items != cases[i].items ||
                next != (cases[i].items ? ST_OVER_QUOTA : ST_OK))
                fail_msg("%s, after %u: got %s (%s), %zu items, next %s", cases[i].name, others,
                         status_name(got), why.text, items, status_name(next));
        }
    }
}

/* A service that says when to come back is not asked again before. */
static void test_busy(void **state)
{
    static const enum loss busy[] = {LOSS_BUSY};
    struct fixture *f = *state;
    struct quarantined item = new_item("market", START_MS);
    struct fail why;
    f->losses = busy;
    f->loss_count = 1;
    assert_int_equal(quarantine_put(&f->front.base, &item, QUOTA(3), soon(), &why), ST_AGAIN);
    assert_int_equal(why.retry_after_s, 300);
    assert_int_equal(f->transactions, 1);
    assert_counted(f, 0);
}

static void put_by_another(struct fixture *f)
{
    struct fail why;
    struct quarantined item = new_item("market", START_MS);
    f->between = NULL;
    assert_int_equal(quarantine_put(f->db.store, &item, QUOTA(3), soon(), &why), ST_OK);
}

/* Another host comes between the reading and the writing. */
static void test_conflicts(void **state)
{
    struct fixture *f = *state;
    f->between = put_by_another; /* makes the counter */
    assert_int_equal(put_new(f, "market", START_MS, 3), ST_OK);
    assert_counted(f, 2);
    f->between = put_by_another; /* takes the last place */
    assert_int_equal(put_new(f, "market", START_MS, 3), ST_OVER_QUOTA);
    assert_counted(f, 3);
}

static void put_by_another_always(struct fixture *f)
{
    struct fail why;
    struct quarantined item = new_item("market", START_MS);
    assert_int_equal(quarantine_put(f->db.store, &item, QUOTA(100000), soon(), &why), ST_OK);
}

static void test_endless_conflict(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    struct quarantined item = new_item("market", START_MS);
    f->between = put_by_another_always;
    f->want_deadline_ms = clock_monotonic_ms() + 3000;
    assert_int_equal(quarantine_put(&f->front.base, &item, QUOTA(100000), f->want_deadline_ms, &why),
                     ST_CHANGED);
    assert_string_equal(why.text, "too many payloads come into quarantine at the same time");
    assert_true(f->transactions > 1);
    assert_counted(f, f->transactions); /* the others' */
}

static void remove_counter(struct fixture *f)
{
    struct page page = counters(f);
    struct operation operation = {.kind = OPERATION_DELETE, .entity = page.rows[0]};
    size_t failed;
    struct fail why;
    f->between = NULL;
    assert_int_equal(page.count, 1);
    assert_int_equal(store_transact(f->db.store, TABLE_OPS, &operation, 1, soon(), &failed, &why), ST_OK);
}

/* Someone has removed the counter meanwhile: the item is kept all the same. */
static void test_counter_removed(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(put_new(f, "market", START_MS, 3), ST_OK);
    f->between = remove_counter;
    assert_int_equal(put_new(f, "market", START_MS, 3), ST_OK);
    assert_int_equal(item_count(f), 2);
    assert_int_equal(used(f), 1);
}

struct crowd {
    struct fixture *fixture;
    _Atomic int kept;
    _Atomic int refused;
    _Atomic int other;
};

enum { CROWD = 6, EACH = 8, PLACES = 30 };

static void *put_some(void *context)
{
    struct crowd *crowd = context;
    struct store *store;
    struct fail why;
    if (open_store(&crowd->fixture->db, &store, &why) != ST_OK) {
        crowd->other += EACH;
        return NULL;
    }
    for (int i = 0; i < EACH; i++) {
        struct quarantined item = {.received_ms = START_MS, .key_name = SPAN_LIT("market")};
        random_hex(item.id, LEAD_DELIVERY_TEXT);
        enum status status = quarantine_put(store, &item, QUOTA(PLACES), clock_monotonic_ms() + 60000, &why);
        if (status == ST_OK)
            crowd->kept++;
        else if (status == ST_OVER_QUOTA)
            crowd->refused++;
        else
            crowd->other++;
    }
    store_close(store);
    return NULL;
}

/* Several hosts at once keep exactly as many as there are places. */
static void test_crowd(void **state)
{
    struct fixture *f = *state;
    struct crowd crowd = {.fixture = f};
    pthread_t threads[CROWD];
    for (size_t i = 0; i < CROWD; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, put_some, &crowd), 0);
    for (size_t i = 0; i < CROWD; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(crowd.other, 0);
    assert_int_equal(crowd.kept, PLACES);
    assert_int_equal(crowd.refused, CROWD * EACH - PLACES);
    assert_counted(f, PLACES);
    uint64_t bytes = 0;
    struct fail why;
    assert_int_equal(quarantine_used(&f->front.base, soon(), &bytes, &why), ST_OK);
    assert_int_equal(bytes, PLACES * 1024); /* their bodies are blank */
}

/* Counters of more than two days ago go when a new one begins. */
static void test_old_counters(void **state)
{
    static const int days[] = {-60, -4, -3, -2, -1};
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof days / sizeof days[0]; i++) {
        struct operation operation = {.kind = OPERATION_INSERT};
        size_t failed;
        struct fail why;
        assert_true(
            row_of_quota(&operation.entity, SPAN_LIT("other"), START_MS / DAY + days[i], 7, &f->db.arena));
        assert_int_equal(store_transact(f->db.store, TABLE_OPS, &operation, 1, soon(), &failed, &why), ST_OK);
    }
    assert_int_equal(put_new(f, "market", START_MS, 3), ST_OK);
    struct page page = counters(f);
    assert_int_equal(page.count, 3);
    assert_true(span_eq(page.rows[0].row_key, SPAN_LIT("~quota-2024-10-02-other")));
    assert_true(span_eq(page.rows[1].row_key, SPAN_LIT("~quota-2024-10-03-other")));
    assert_true(span_eq(page.rows[2].row_key, SPAN_LIT("~quota-2024-10-04-market")));

    /* A host whose clock is years ahead leaves today's in place. */
    int64_t now = clock_wall_ms();
    assert_int_equal(put_new(f, "market", now, 3), ST_OK);
    assert_int_equal(put_new(f, "market", now + 1000 * DAY, 3), ST_OK);
    page = counters(f);
    assert_int_equal(page.count, 2);
}

struct seen {
    size_t count;
    int64_t last_ms;
};

static enum status look(void *context, const struct quarantine_entry *entry, struct fail *why)
{
    struct seen *seen = context;
    (void)why;
    assert_true(entry->item.received_ms >= seen->last_ms);
    assert_int_equal(entry->body_bytes, 15);
    assert_int_equal(entry->item.body.len, 0);
    assert_true(span_eq(entry->item.key_name, SPAN_LIT("market")));
    assert_int_equal(strlen(entry->item.id), LEAD_DELIVERY_TEXT);
    seen->last_ms = entry->item.received_ms;
    seen->count++;
    return ST_OK;
}

static enum status look_at_two(void *context, const struct quarantine_entry *entry, struct fail *why)
{
    (void)entry;
    size_t *count = context;
    return ++*count == 2 ? fail_set(why, ST_REFUSED, 0, "enough") : ST_OK;
}

/* In order of time, over several pages; a row that is no item is passed over. */
static void test_list(void **state)
{
    struct fixture *f = *state;
    struct seen seen = {0};
    struct fail why;
    size_t count = 0, failed;
    struct operation strange = {.kind = OPERATION_INSERT};
    for (int i = 0; i < 70; i++)
        assert_int_equal(put_new(f, "market", START_MS + (i * 37) % 70, 100), ST_OK);
    assert_true(
        entity_init(&strange.entity, SPAN_LIT(QUARANTINE_PARTITION), SPAN_LIT("1-strange"), &f->db.arena));
    assert_int_equal(store_transact(f->db.store, TABLE_OPS, &strange, 1, soon(), &failed, &why), ST_OK);
    assert_int_equal(quarantine_list(&f->front.base, look, &seen, &why), ST_OK);
    assert_int_equal(seen.count, 70);
    assert_int_equal(seen.last_ms, START_MS + 69);
    assert_int_equal(quarantine_list(&f->front.base, look_at_two, &count, &why), ST_REFUSED);
    assert_int_equal(count, 2);
}

static void test_find(void **state)
{
    static const struct {
        const char *id;
        enum status want;
        const char *found;
    } cases[] = {
        {"0123456789abcdef0123456789abcdef", ST_OK, "0123456789abcdef0123456789abcdef"},
        {"0123456789ABCDEF0123456789abcdef", ST_OK, "0123456789abcdef0123456789abcdef"},
        {"0123456789a", ST_OK, "0123456789abcdef0123456789abcdef"},
        {"0123456789b", ST_OK, "0123456789b000000000000000000000"},
        {"01234567", ST_EXISTS, NULL},
        {"0123456789", ST_EXISTS, NULL},
        {"fedcba98", ST_OK, "fedcba98765432100123456789abcdef"},
        {"fedcba99", ST_NOT_FOUND, NULL},
        {"fedcba9", ST_INVALID, NULL},
        {"", ST_INVALID, NULL},
        {"fedcba9g", ST_INVALID, NULL},
        {"fedcba98'", ST_INVALID, NULL},
        {"0123456789abcdef0123456789abcdef0", ST_INVALID, NULL},
    };
    static const char *const ids[] = {"0123456789abcdef0123456789abcdef", "0123456789b000000000000000000000",
                                      "fedcba98765432100123456789abcdef"};
    struct fixture *f = *state;
    struct fail why;
    for (size_t i = 0; i < 3; i++) {
        struct quarantined item = new_item("market", START_MS);
        memcpy(item.id, ids[i], sizeof item.id);
        assert_int_equal(put(f, &item, 10, &why), ST_OK);
    }
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct quarantine_entry entry;
        enum status got = quarantine_find(&f->front.base, span_of(cases[i].id), &f->db.arena, &entry, &why);
        if (got != cases[i].want || (cases[i].found && strcmp(entry.item.id, cases[i].found) != 0))
            fail_msg("'%s': got %s, want %s", cases[i].id, status_name(got), status_name(cases[i].want));
    }
}

static void change_item(struct fixture *f)
{
    struct page page = all_items(f);
    struct operation operation = {.kind = OPERATION_MERGE};
    size_t failed;
    struct fail why;
    f->between = NULL;
    assert_int_equal(page.count, 1);
    assert_true(
        entity_init(&operation.entity, page.rows[0].partition_key, page.rows[0].row_key, &f->db.arena));
    entity_add_text(&operation.entity, "Note", SPAN_LIT("seen"));
    operation.entity.etag = page.rows[0].etag;
    assert_int_equal(store_transact(f->db.store, TABLE_OPS, &operation, 1, soon(), &failed, &why), ST_OK);
}

static void test_drop(void **state)
{
    static const enum loss behind = LOSS_BEHIND, before = LOSS_BEFORE;
    struct fixture *f = *state;
    struct quarantine_entry entry;
    struct fail why;
    const enum loss *losses[] = {NULL, &behind, &before};
    for (size_t i = 0; i < 3; i++) {
        struct quarantined item = new_item("market", START_MS);
        assert_int_equal(put(f, &item, 10, &why), ST_OK);
        assert_int_equal(quarantine_find(&f->front.base, span_of(item.id), &f->db.arena, &entry, &why),
                         ST_OK);
        f->losses = losses[i];
        f->loss_count = losses[i] ? 1 : 0;
        assert_int_equal(quarantine_drop(&f->front.base, &entry, &why), ST_OK);
        assert_int_equal(item_count(f), 0);
        assert_int_equal(quarantine_drop(&f->front.base, &entry, &why), ST_NOT_FOUND);
    }
    assert_int_equal(used(f), 3); /* what was dropped has used up its place */

    struct quarantined item = new_item("market", START_MS);
    assert_int_equal(put(f, &item, 10, &why), ST_OK);
    assert_int_equal(quarantine_find(&f->front.base, span_of(item.id), &f->db.arena, &entry, &why), ST_OK);
    f->between = change_item;
    assert_int_equal(quarantine_drop(&f->front.base, &entry, &why), ST_CHANGED);
    assert_int_equal(item_count(f), 1);
}

/* --- the total ----------------------------------------------------------------------------------------------- */

static uint64_t used_bytes(struct fixture *f)
{
    struct fail why;
    uint64_t bytes = 0;
    assert_int_equal(quarantine_used(&f->front.base, soon(), &bytes, &why), ST_OK);
    return bytes;
}

static void drop_first(struct fixture *f)
{
    struct quarantine_entry entry;
    struct fail why;
    struct page page = all_items(f);
    size_t dash = span_find(page.rows[0].row_key, '-');
    assert_int_equal(quarantine_find(&f->front.base, span_from(page.rows[0].row_key, dash + 1), &f->db.arena,
                                     &entry, &why),
                     ST_OK);
    assert_int_equal(quarantine_drop(&f->front.base, &entry, &why), ST_OK);
}

static void test_size_of_item(void **state)
{
    (void)state;
    assert_int_equal(quarantined_kib(0), 1);
    assert_int_equal(quarantined_kib(1), 2);
    assert_int_equal(quarantined_kib(768), 2); /* 1 KiB in base64 */
    assert_int_equal(quarantined_kib(769), 3);
    assert_int_equal(quarantined_kib(LIMIT_BODY_BYTES), 343);
}

/* Items of two keys, 2 KiB each: what is one byte below, at and above the bound. */
static void test_total(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    struct quarantined item = new_item("other", START_MS);
    assert_int_equal(used_bytes(f), 0);
    f->max_bytes = 6 * 1024;
    assert_int_equal(put_new(f, "market", START_MS, 100), ST_OK);
    assert_int_equal(put_new(f, "other", START_MS + DAY, 100), ST_OK);
    assert_int_equal(used_bytes(f), 4 * 1024);
    f->max_bytes = 6 * 1024 - 1;
    assert_int_equal(put(f, &item, 100, &why), ST_OVER_QUOTA);
    assert_string_equal(why.text, "quarantine is full (6143 bytes)");
    assert_int_equal(why.retry_after_s, 3600);
    assert_int_equal(used_bytes(f), 4 * 1024);
    f->max_bytes = 6 * 1024;
    assert_int_equal(put(f, &item, 100, &why), ST_OK);
    assert_int_equal(put(f, &item, 100, &why), ST_OK); /* the same again: there is nothing to count */
    assert_int_equal(put_new(f, "other", START_MS, 100), ST_OVER_QUOTA);
    assert_int_equal(item_count(f), 3);
    f->max_bytes = UINT64_MAX; /* in any case: kept, and counted */
    assert_int_equal(put_new(f, "market", START_MS, 0), ST_OK);
    assert_int_equal(used_bytes(f), 8 * 1024);
}

/* As in a spool, which has a bound of its own. */
static void test_total_not_counted(void **state)
{
    struct fixture *f = *state;
    f->max_bytes = 0;
    assert_int_equal(put_new(f, "market", START_MS, 3), ST_OK);
    assert_counted(f, 1);
    assert_int_equal(in_quarantine(f, QUARANTINE_TOTAL_KEY, "").count, 0);
}

static void test_drop_gives_room(void **state)
{
    static const enum loss behind = LOSS_BEHIND, before = LOSS_BEFORE;
    static const enum loss *const losses[] = {NULL, &behind, &before};
    struct fixture *f = *state;
    f->max_bytes = 4 * 1024;
    assert_int_equal(put_new(f, "market", START_MS, 100), ST_OK);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(put_new(f, "market", START_MS, 100), ST_OK);
        assert_int_equal(put_new(f, "market", START_MS, 100), ST_OVER_QUOTA);
        f->losses = losses[i];
        f->loss_count = losses[i] ? 1 : 0;
        drop_first(f);
        assert_int_equal(used_bytes(f), 2 * 1024);
    }
}

static void drop_by_another(struct fixture *f)
{
    struct quarantine_entry entry = {0};
    struct fail why;
    struct page page = all_items(f);
    f->between = NULL;
    entry.row_key = page.rows[page.count - 1].row_key;
    entry.etag = page.rows[page.count - 1].etag;
    entry.body_bytes = (size_t)entity_number(&page.rows[page.count - 1], "BodyBytes", 0);
    assert_int_equal(quarantine_drop(f->db.store, &entry, &why), ST_OK);
}

/* Somebody else puts or drops at the same time: the total is that of what is there. */
static void test_total_conflicts(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(put_new(f, "market", START_MS + i, 100), ST_OK);
    f->between = drop_by_another;
    assert_int_equal(put_new(f, "market", START_MS, 100), ST_OK);
    assert_int_equal(item_count(f), 3);
    assert_int_equal(used_bytes(f), 6 * 1024);
    f->between = drop_by_another;
    drop_first(f);
    assert_int_equal(item_count(f), 1);
    assert_int_equal(used_bytes(f), 2 * 1024);
}

static void put_one_more(struct fixture *f)
{
    f->between = NULL;
    put_by_another_always(f);
}

static enum status look_at_all(void *context, const struct quarantine_entry *entry, struct fail *why)
{
    struct fixture *f = context;
    (void)entry;
    (void)why;
    if (f->between)
        f->between(f);
    return ST_OK;
}

static void remove_row(struct fixture *f, struct entity row)
{
    struct operation operation = {.kind = OPERATION_DELETE, .entity = row};
    size_t failed;
    struct fail why;
    assert_int_equal(store_transact(f->db.store, TABLE_OPS, &operation, 1, soon(), &failed, &why), ST_OK);
}

/* Rows that somebody removed by hand count until all are listed; the same when there was no total yet. */
static void test_list_corrects_total(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    for (int i = 0; i < 3; i++)
        assert_int_equal(put_new(f, "market", START_MS + i, 100), ST_OK);
    remove_row(f, all_items(f).rows[1]);
    assert_int_equal(used_bytes(f), 6 * 1024);
    assert_int_equal(quarantine_list(&f->front.base, look_at_all, f, &why), ST_OK);
    assert_int_equal(used_bytes(f), 4 * 1024);
    remove_row(f, in_quarantine(f, QUARANTINE_TOTAL_KEY, "").rows[0]);
    drop_first(f); /* without a total to change; but it has looked for the item among all, which made one */
    assert_int_equal(quarantine_list(&f->front.base, look_at_all, f, &why), ST_OK);
    assert_int_equal(used_bytes(f), 2 * 1024);

    /* What comes while it is listed must not be forgotten. */
    remove_row(f, all_items(f).rows[0]);
    for (int i = 0; i < 2; i++)
        assert_int_equal(put_new(f, "market", START_MS, 100), ST_OK);
    f->between = put_one_more;
    assert_int_equal(quarantine_list(&f->front.base, look_at_all, f, &why), ST_OK);
    assert_int_equal(item_count(f), 2 + 1);
    assert_int_equal(used_bytes(f), 8 * 1024);
    assert_int_equal(quarantine_list(&f->front.base, look_at_all, f, &why), ST_OK);
    assert_int_equal(used_bytes(f), 6 * 1024);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        TEST(test_item),
        TEST(test_quota),
        TEST(test_key_names),
        TEST(test_same_item_again),
        TEST(test_lost_answers),
        TEST(test_busy),
        TEST(test_conflicts),
        TEST(test_endless_conflict),
        TEST(test_counter_removed),
        TEST(test_crowd),
        TEST(test_old_counters),
        TEST(test_list),
        TEST(test_find),
        TEST(test_drop),
        TEST(test_size_of_item),
        TEST(test_total),
        TEST(test_total_not_counted),
        TEST(test_drop_gives_room),
        TEST(test_total_conflicts),
        TEST(test_list_corrects_total),
    };
    struct fail why;
    if (http_global_init(&why) != ST_OK)
        return 1;
    return cmocka_run_group_tests_name(
        getenv("TABLE_CONNECTION") ? "quarantine: table" : "quarantine: sqlite", tests, NULL, NULL);
}
