/* Rows put back, on SQLite and, when TABLE_CONNECTION names a Table service, on that too.  A store in front of the
 * real one loses answers and counts transactions.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/net/http.h"
#include "lib/store/offers.h"
#include "lib/store/restore.h"
#include "tests/unit/front.h"
#include "tests/unit/stored.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define START_MS     (20000 * CLOCK_DAY_MS + 9 * HOUR_MS) /* 2024-10-04 09:00 */

static const struct span recipients[] = {{"a@example.com", 13}, {"b@example.com", 13}};
static const struct lead_rules rules = {
    .repeat_window_ms = HOUR_MS, .recipients = recipients, .recipient_count = COUNT(recipients)};

struct fixture {
    struct front front; /* with faults */
    struct stored db;   /* the real one */
    char offer[48];
    size_t transactions; /* of leads */
    size_t losses;       /* of the answers to the next transactions of leads */
};

static enum status faulty_transact(struct store *store, enum table_id table,
                                   const struct operation *operations, size_t count, int64_t deadline_ms,
                                   size_t *failed, struct fail *why)
{
    struct fixture *f = (struct fixture *)store;
    enum status status = store_transact(f->db.store, table, operations, count, deadline_ms, failed, why);
    f->transactions += table == TABLE_LEADS ? 1 : 0;
    if (table == TABLE_LEADS && f->losses > 0) {
        f->losses--;
        return fail_set(why, ST_UNKNOWN, 0, "no answer");
    }
    return status;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char table[40] = "Restore";
    if (!f)
        return -1;
    random_hex(table + 7, 16);
    if (!stored_open(&f->db, table))
        return -1;
    front_place(&f->front, f->db.store);
    f->front.functions.transact = faulty_transact;
    (void)snprintf(f->offer, sizeof f->offer, "contoso.app");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    int result = stored_close(&f->db);
    free(f);
    return result;
}

/* The row of a lead as an export has it. */
static struct entity row_at(struct fixture *f, const char *offer, int64_t received_ms)
{
    struct lead_write *write = make_lead(&f->db.arena, offer, received_ms);
    struct span id = span_of(write->delivery.id);
    const struct deliveries once = {1, received_ms, received_ms, id, id};
    struct entity row;
    assert_true(row_of_lead(&row, &write->delivery, &once, &f->db.arena));
    return row;
}

static void add(struct restore *r, const struct entity *row)
{
    struct fail why = {0};
    if (restore_check(row, &why) != ST_OK || restore_add(r, row, &why) != ST_OK)
        fail_msg("%s", why.text);
}

static void flush(struct restore *r)
{
    struct fail why = {0};
    if (restore_flush(r, &why) != ST_OK)
        fail_msg("%s", why.text);
}

static size_t rows_in(struct fixture *f, const char *offer, const char *from, const char *to)
{
    return rows_between(f->db.store, &f->db.arena, TABLE_LEADS, offer, from, to).count;
}

static struct offer offer_in_directory(struct fixture *f, const char *name)
{
    struct span key = span_of(name);
    struct entity *row = NULL;
    struct fail why;
    assert_int_equal(store_get_many(f->db.store, TABLE_OPS, SPAN_LIT(OFFERS_PARTITION), &key, 1, NULL, soon(),
                                    &f->db.arena, &row, &why),
                     ST_OK);
    assert_non_null(row);
    return offer_of_row(row);
}

static void test_rows_come_back(void **state)
{
    enum { ROWS = 250 };
    struct fixture *f = *state;
    struct entity rows[ROWS];
    struct restore r;
    for (size_t i = 0; i < ROWS; i++)
        rows[i] = row_at(f, f->offer, START_MS + (int64_t)i);
    for (int round = 0; round < 2; round++) {
        f->transactions = 0;
        restore_begin(&r, &f->front.base, NULL);
        for (size_t i = 0; i < ROWS; i++)
            add(&r, &rows[i]);
        flush(&r);
        assert_int_equal(r.added, round == 0 ? ROWS : 0);
        assert_int_equal(r.present, round == 0 ? 0 : ROWS);
        assert_int_equal(f->transactions, 3); /* 100 in each; the second time, one that says they are there */
        restore_end(&r);
        assert_int_equal(rows_in(f, f->offer, "0", "~"), ROWS);
    }
    assert_int_equal(rows_in(f, f->offer, "~", ""), 0); /* no mails */
    struct offer offer = offer_in_directory(f, f->offer);
    assert_int_equal(offer.first_ms, START_MS);
    assert_int_equal(offer.last_ms, START_MS + ROWS - 1);
    assert_true(span_eq(offer.title, SPAN_LIT("Example Offer")));

    /* Each as it was. */
    struct span key = rows[7].row_key;
    struct entity *got = NULL;
    struct fail why;
    struct buf want_json = BUF_INIT(LIMIT_ENTITY_JSON_BYTES), got_json = BUF_INIT(LIMIT_ENTITY_JSON_BYTES);
    assert_int_equal(store_get_many(f->db.store, TABLE_LEADS, span_of(f->offer), &key, 1, NULL, soon(),
                                    &f->db.arena, &got, &why),
                     ST_OK);
    assert_non_null(got);
    for (size_t i = 0; i < rows[7].count; i++) { /* in any order */
        const struct property *p = &rows[7].properties[i];
        struct entity one = {.properties = &rows[7].properties[i], .count = 1, .room = 1}, other = one;
        char name[64];
        (void)snprintf(name, sizeof name, "%.*s", SPAN_FMT(p->name));
        const struct property *found = entity_find(got, name);
        assert_non_null(found);
        struct property copy = *found;
        other.properties = &copy;
        buf_reset(&want_json);
        buf_reset(&got_json);
        assert_int_equal(entity_write(&want_json, &one, &why), ST_OK);
        assert_int_equal(entity_write(&got_json, &other, &why), ST_OK);
        assert_string_equal(got_json.data, want_json.data);
    }
    buf_release(&want_json);
    buf_release(&got_json);
}

/* What happened to a lead since the export stays. */
static void test_present_stays(void **state)
{
    struct fixture *f = *state;
    struct entity row = row_at(f, "contoso.stays", START_MS);
    struct operation merge = {.kind = OPERATION_MERGE};
    struct restore r;
    struct fail why;
    size_t failed;
    restore_begin(&r, &f->front.base, NULL);
    add(&r, &row);
    flush(&r);
    assert_true(entity_init(&merge.entity, row.partition_key, row.row_key, &f->db.arena));
    merge.entity.etag = SPAN_LIT("*");
    entity_add_int(&merge.entity, COLUMN_DELIVERIES, 5);
    assert_int_equal(store_transact(f->db.store, TABLE_LEADS, &merge, 1, soon(), &failed, &why), ST_OK);
    struct entity fresh = row_at(f, "contoso.stays", START_MS - 1000);
    add(&r, &fresh);
    add(&r, &row);
    flush(&r);
    assert_int_equal(r.added, 2);
    assert_int_equal(r.present, 1);
    restore_end(&r);
    struct page page = rows_between(f->db.store, &f->db.arena, TABLE_LEADS, "contoso.stays", "0", "~");
    assert_int_equal(page.count, 2);
    int64_t deliveries = 0;
    for (size_t i = 0; i < page.count; i++)
        deliveries += entity_number(&page.rows[i], COLUMN_DELIVERIES, 0);
    assert_int_equal(deliveries, 6);
    assert_int_equal(offer_in_directory(f, "contoso.stays").first_ms, START_MS - 1000);
    assert_int_equal(offer_in_directory(f, "contoso.stays").last_ms, START_MS);
}

static void test_mails(void **state)
{
    struct fixture *f = *state;
    const char *offer = "contoso.mailed";
    struct entity fresh = row_at(f, offer, START_MS), told = row_at(f, offer, START_MS);
    struct restore r;
    entity_add_time(&told, COLUMN_NOTIFIED_TIME, START_MS);
    for (int round = 0; round < 2; round++) {
        restore_begin(&r, &f->front.base, &rules);
        add(&r, &fresh);
        add(&r, &told);
        flush(&r);
        assert_int_equal(r.mailed, round == 0 ? COUNT(recipients) : 0);
        restore_end(&r);
        struct page mails =
            rows_between(f->db.store, &f->db.arena, TABLE_LEADS, offer, MAIL_KEY_FIRST, MAIL_KEY_END);
        assert_int_equal(mails.count, COUNT(recipients));
        for (size_t i = 0; i < mails.count; i++) {
            struct mail_row mail;
            assert_int_equal(mail_of_row(&mails.rows[i], &mail, NULL), ST_OK);
            assert_true(span_eq(mail.lead_row_key, fresh.row_key));
            assert_true(span_eq(mail.recipient, recipients[i]));
        }
    }
    /* Every host's mailer looks there, although the lead is old. */
    assert_true(offer_in_directory(f, offer).active_ms > START_MS + 100 * CLOCK_DAY_MS);
    assert_int_equal(offer_in_directory(f, offer).last_ms, START_MS);
}

/* Neither was brought by a customer's sender: an offer that had others is as silent as before. */
static void test_tests_and_imports_do_not_count(void **state)
{
    struct fixture *f = *state;
    const char *offer = "contoso.counted";
    struct entity old = row_at(f, offer, START_MS), test = row_at(f, offer, START_MS + 1000),
                  imported = row_at(f, offer, START_MS + 2000);
    struct restore r;
    for (size_t i = 0; i < test.count; i++) {
        if (span_eq(test.properties[i].name, SPAN_LIT("IsTest")))
            test.properties[i].number = 1;
    }
    entity_add_text(&imported, COLUMN_ORIGIN, SPAN_LIT(ORIGIN_IMPORT));
    restore_begin(&r, &f->front.base, NULL);
    add(&r, &old);
    add(&r, &test);
    add(&r, &imported);
    flush(&r);
    assert_int_equal(r.added, 3);
    restore_end(&r);
    assert_int_equal(offer_in_directory(f, offer).first_ms, START_MS);
    assert_int_equal(offer_in_directory(f, offer).last_ms, START_MS);
    assert_int_equal(offer_in_directory(f, offer).active_ms, 0);
}

/* A transaction holds a hundred rows, mails with them. */
static void test_mails_fill_transactions(void **state)
{
    enum { ROWS = 67 };
    struct fixture *f = *state;
    struct restore r;
    f->transactions = 0;
    restore_begin(&r, &f->front.base, &rules);
    for (size_t i = 0; i < ROWS; i++) {
        struct entity row = row_at(f, "contoso.many", START_MS);
        add(&r, &row);
    }
    flush(&r);
    assert_int_equal(r.added, ROWS);
    assert_int_equal(r.mailed, ROWS * COUNT(recipients));
    assert_int_equal(f->transactions, 3); /* 33 leads each with two mails, and the last */
    restore_end(&r);
    assert_int_equal(rows_in(f, "contoso.many", MAIL_KEY_FIRST, MAIL_KEY_END), ROWS * COUNT(recipients));
}

/* Written, and nobody knows: it is looked at again. */
static void test_lost_answers(void **state)
{
    struct fixture *f = *state;
    struct entity row = row_at(f, "contoso.lost", START_MS);
    struct restore r;
    restore_begin(&r, &f->front.base, NULL);
    f->losses = 1;
    add(&r, &row);
    flush(&r);
    assert_int_equal(r.added + r.present, 1);
    restore_end(&r);
    assert_int_equal(rows_in(f, "contoso.lost", "0", "~"), 1);
}

static void test_same_key_twice(void **state)
{
    struct fixture *f = *state;
    struct entity row = row_at(f, "contoso.twice", START_MS);
    struct restore r;
    restore_begin(&r, &f->front.base, NULL);
    add(&r, &row);
    add(&r, &row);
    flush(&r);
    assert_int_equal(r.added, 1);
    assert_int_equal(r.present, 1);
    restore_end(&r);
}

/* In no order, as from the table of many partitions or an export that was sorted by time. */
static void test_offers_in_turn(void **state)
{
    enum { ROWS = 30, OFFERS_MOST = LIMIT_RESTORE_OFFERS + 1 };
    static const struct {
        size_t offers, transactions;
    } cases[] = {
        {2, 2},
        {LIMIT_RESTORE_OFFERS, LIMIT_RESTORE_OFFERS},
        {OFFERS_MOST, ROWS * OFFERS_MOST / 2}, /* no room for one of them: less than a transaction per row */
    };
    struct fixture *f = *state;
    for (size_t c = 0; c < COUNT(cases); c++) {
        struct restore r;
        restore_begin(&r, &f->front.base, NULL);
        f->transactions = 0;
        for (size_t i = 0; i < ROWS * cases[c].offers; i++) {
            char offer[48];
            (void)snprintf(offer, sizeof offer, "contoso.turn-%zu-%zu", c, i % cases[c].offers);
            struct entity row = row_at(f, offer, START_MS);
            add(&r, &row);
        }
        flush(&r);
        assert_int_equal(r.added, ROWS * cases[c].offers);
        if (cases[c].offers <= LIMIT_RESTORE_OFFERS)
            assert_int_equal(f->transactions, cases[c].transactions);
        else
            assert_in_range(f->transactions, cases[c].offers, cases[c].transactions);
        restore_end(&r);
        char last[48];
        (void)snprintf(last, sizeof last, "contoso.turn-%zu-%zu", c, cases[c].offers - 1);
        assert_int_equal(rows_in(f, last, "0", "~"), ROWS);
    }
}

/* Rows that are large are not gathered without end. */
static void test_large_rows(void **state)
{
    enum { ROWS = 40, TEXT_BYTES = 30 * 1000, TEXTS = 13 };
    struct fixture *f = *state;
    struct restore r;
    char text[TEXT_BYTES];
    memset(text, 'x', sizeof text);
    restore_begin(&r, &f->front.base, NULL);
    f->transactions = 0;
    for (size_t i = 0; i < ROWS; i++) {
        char offer[48], name[16];
        (void)snprintf(offer, sizeof offer, "contoso.large-%zu", i);
        struct entity row = row_at(f, offer, START_MS);
        for (unsigned int k = 0; k < TEXTS; k++) {
            struct span kept;
            (void)snprintf(name, sizeof name, "More%u", k);
            assert_true(arena_copy(&f->db.arena, span_of(name), &kept));
            entity_add_text(&row, kept.ptr, (struct span){text, sizeof text});
        }
        add(&r, &row);
    }
    assert_in_range(f->transactions, 15, 25); /* 400 kB each, and 8 MB are kept */
    flush(&r);
    assert_int_equal(r.added, ROWS);
    restore_end(&r);
}

/* A row of mails whose lead was removed: it stays, and the others of the same transaction get theirs. */
static void test_mails_without_lead(void **state)
{
    struct fixture *f = *state;
    struct entity row = row_at(f, "contoso.orphan", START_MS), other = row_at(f, "contoso.orphan", START_MS);
    struct operation erase = {.kind = OPERATION_DELETE};
    struct restore r;
    struct fail why;
    size_t failed;
    restore_begin(&r, &f->front.base, &rules);
    add(&r, &row);
    flush(&r);
    erase.entity =
        (struct entity){.partition_key = row.partition_key, .row_key = row.row_key, .etag = SPAN_LIT("*")};
    assert_int_equal(store_transact(f->db.store, TABLE_LEADS, &erase, 1, soon(), &failed, &why), ST_OK);
    add(&r, &row);
    add(&r, &other);
    flush(&r);
    assert_int_equal(r.added, 3);
    assert_int_equal(r.mailed, 2 * COUNT(recipients));
    restore_end(&r);
    assert_int_equal(rows_in(f, "contoso.orphan", "0", "~"), 2);
    assert_int_equal(rows_in(f, "contoso.orphan", MAIL_KEY_FIRST, MAIL_KEY_END), 2 * COUNT(recipients));
}

static void test_check(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    struct entity good = row_at(f, f->offer, START_MS), bad;
    assert_int_equal(restore_check(&good, &why), ST_OK);
    bad = good;
    bad.row_key = SPAN_LIT("~mail-x");
    assert_int_equal(restore_check(&bad, &why), ST_INVALID);
    bad = good;
    bad.partition_key = SPAN_LIT("a/b");
    assert_int_equal(restore_check(&bad, &why), ST_INVALID);
    bad = good;
    struct property number = {.name = SPAN_LIT("Size"), .type = EDM_OTHER, .text = SPAN_LIT("99999999999")};
    bad.properties = arena_array(&f->db.arena, good.count + 1, sizeof number);
    assert_non_null(bad.properties);
    memcpy(bad.properties, good.properties, good.count * sizeof number);
    bad.properties[bad.count++] = number;
    bad.room = bad.count;
    assert_int_equal(restore_check(&bad, &why), ST_INVALID);
    bad = good;
    bad.count = 0;
    assert_int_equal(restore_check(&bad, &why), ST_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rows_come_back),
        cmocka_unit_test(test_present_stays),
        cmocka_unit_test(test_mails),
        cmocka_unit_test(test_tests_and_imports_do_not_count),
        cmocka_unit_test(test_mails_fill_transactions),
        cmocka_unit_test(test_lost_answers),
        cmocka_unit_test(test_same_key_twice),
        cmocka_unit_test(test_offers_in_turn),
        cmocka_unit_test(test_large_rows),
        cmocka_unit_test(test_mails_without_lead),
        cmocka_unit_test(test_check),
    };
    struct fail why;
    if (http_global_init(&why) != ST_OK)
        return 1;
    return cmocka_run_group_tests_name("restore", tests, set_up, tear_down);
}
