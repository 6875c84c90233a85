/* What a look into the store counts: mails that wait, and when offers had their last leads. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/relay/census.h"
#include "tests/unit/stored.h"

struct fixture {
    struct stored db;
    struct census *census;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    *state = f;
    return stored_open(&f->db, NULL) ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    census_free(f->census);
    int rc = stored_close(&f->db);
    free(f);
    return rc;
}

static void transact(struct fixture *f, enum table_id table, const struct operation *operation)
{
    struct fail why;
    size_t failed;
    if (store_transact(f->db.store, table, operation, 1, soon(), &failed, &why) != ST_OK)
        fail_msg("%s", why.text);
}

static void write_offer(struct fixture *f, const char *partition, int64_t last_ms)
{
    struct operation operation = {.kind = OPERATION_INSERT};
    const struct offer offer = {
        .partition = span_of(partition), .first_ms = 1, .last_ms = last_ms, .active_ms = last_ms};
    assert_true(row_of_offer(&operation.entity, &offer, &f->db.arena));
    transact(f, TABLE_OPS, &operation);
}

static void write_mail(struct fixture *f, const char *partition, enum mail_state state, int64_t received_ms)
{
    struct arena *arena = &f->db.arena;
    struct operation operation = {.kind = OPERATION_INSERT};
    struct entity row;
    const struct lead_write *lead = make_lead(arena, partition, received_ms);
    assert_true(row_of_mail(&row, &lead->delivery, SPAN_LIT("sales@example.com"), 1, false, arena));
    operation.entity = row;
    transact(f, TABLE_LEADS, &operation);
    if (state == MAIL_STATE_WAITING)
        return;
    const struct mail_row mail = {.state = state, .owner = SPAN_LIT("us")};
    operation.kind = OPERATION_MERGE;
    row.etag = SPAN_LIT("*");
    assert_true(row_of_mail_state(&operation.entity, &row, &mail, span_empty(), arena));
    transact(f, TABLE_LEADS, &operation);
}

static struct census_result look(struct fixture *f, bool counts_mails)
{
    const struct census_options options = {.counts_mails = counts_mails};
    struct census_result result;
    struct fail why;
    if (!f->census)
        assert_int_equal(census_new(&options, &f->census, &why), ST_OK);
    if (census_look(f->census, f->db.store, &result, &why) != ST_OK)
        fail_msg("%s", why.text);
    return result;
}

static int64_t last_of(const struct census_result *result, const char *partition)
{
    for (size_t i = 0; i < result->offer_count; i++) {
        if (strcmp(result->offers[i].partition, partition) == 0)
            return result->offers[i].last_ms;
    }
    return -1;
}

static void test_counts(void **state)
{
    struct fixture *f = *state;
    int64_t now = clock_wall_ms();
    write_offer(f, "contoso.app", now);
    write_offer(f, "contoso.old", now - 100 * CLOCK_DAY_MS);
    write_mail(f, "contoso.app", MAIL_STATE_WAITING, now - 1000);
    write_mail(f, "contoso.app", MAIL_STATE_CLAIMED, now - 3000);
    write_mail(f, "contoso.app", MAIL_STATE_SENDING, now - 2000);
    write_mail(f, "contoso.app", MAIL_STATE_PARKED, now - 9000);
    write_mail(f, "contoso.old", MAIL_STATE_WAITING, now - 500);
    struct census_result result = look(f, true);
    assert_int_equal(result.mails, 4);
    assert_int_equal(result.mails_oldest_ms, now - 3000);
    assert_int_equal(result.offer_count, 2);
    assert_int_equal(last_of(&result, "contoso.app"), now);
    assert_int_equal(last_of(&result, "contoso.old"), now - 100 * CLOCK_DAY_MS);

    /* The second look is only at recent offers, and the others are not forgotten. */
    write_offer(f, "contoso.new", now);
    result = look(f, true);
    assert_int_equal(result.mails, 3);
    assert_int_equal(result.offer_count, 3);
    assert_int_equal(last_of(&result, "contoso.old"), now - 100 * CLOCK_DAY_MS);
    assert_int_equal(last_of(&result, "contoso.new"), now);
}

/* Test leads have mails, and are no leads of the offer. */
static void test_tests_alone(void **state)
{
    struct fixture *f = *state;
    const struct offer offer = {.partition = SPAN_LIT("leadctl.check"), .active_ms = clock_wall_ms()};
    struct operation operation = {.kind = OPERATION_INSERT};
    assert_true(row_of_offer(&operation.entity, &offer, &f->db.arena));
    transact(f, TABLE_OPS, &operation);
    write_mail(f, "leadctl.check", MAIL_STATE_WAITING, offer.active_ms);
    for (int i = 0; i < 2; i++) {
        struct census_result result = look(f, true);
        assert_int_equal(result.mails, 1);
        assert_int_equal(result.offer_count, 0);
    }
}

static void test_nothing(void **state)
{
    struct fixture *f = *state;
    struct census_result result = look(f, true);
    assert_int_equal(result.mails, 0);
    assert_int_equal(result.mails_oldest_ms, 0);
    assert_int_equal(result.offer_count, 0);
}

static void test_without_mail(void **state)
{
    struct fixture *f = *state;
    write_offer(f, "contoso.app", clock_wall_ms());
    write_mail(f, "contoso.app", MAIL_STATE_WAITING, 1000);
    struct census_result result = look(f, false);
    assert_int_equal(result.mails, 0);
    assert_int_equal(result.offer_count, 1);
}

/* Of more offers than there is room for, those with the newest leads stay, wherever they stand in the directory. */
static void test_many_offers(void **state)
{
    struct fixture *f = *state;
    int64_t now = clock_wall_ms();
    char name[32];
    for (unsigned int i = 0; i < 2 * LIMIT_OFFERS_SHOWN; i++) {
        /* Every other one is old. */
        (void)snprintf(name, sizeof name, "contoso.%04u", i);
        write_offer(f, name, i % 2 ? now - i : now - CLOCK_DAY_MS - i);
    }
    struct census_result result = look(f, false);
    assert_int_equal(result.offer_count, LIMIT_OFFERS_SHOWN);
    for (unsigned int i = 0; i < 2 * LIMIT_OFFERS_SHOWN; i++) {
        (void)snprintf(name, sizeof name, "contoso.%04u", i);
        assert_int_equal(last_of(&result, name), i % 2 ? now - i : -1);
    }
}

static void test_stop(void **state)
{
    struct fixture *f = *state;
    const _Atomic bool stop = true;
    const struct census_options options = {.counts_mails = true, .stop = &stop};
    struct census_result result;
    struct fail why;
    write_offer(f, "contoso.app", clock_wall_ms());
    assert_int_equal(census_new(&options, &f->census, &why), ST_OK);
    assert_int_equal(census_look(f->census, f->db.store, &result, &why), ST_OK);
    assert_int_equal(result.offer_count, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_tests_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_nothing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_mail, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_many_offers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("census", tests, NULL, NULL);
}
