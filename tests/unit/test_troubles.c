/* Troubles that last: who is told of them and when, with two hosts on one store and a clock that the test moves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/store/troubles.h"
#include "tests/unit/stored.h"

#include "tests/unit/clocked.h"

#define MINUTE (60 * 1000LL)
#define HOUR   (60 * MINUTE)
#define DAY    (24 * HOUR)

struct host {
    struct clocked store;
    const char *name;
    struct sighting sighting;
};

struct fixture {
    struct stored db;
    struct host hosts[2];
    size_t lasting[TROUBLE_KINDS];
};

/* The host has looked for all kinds and sees none. */
static void look(struct host *host)
{
    host->sighting.host = span_of(host->name);
    host->sighting.tells = true;
    host->sighting.count = 0;
    for (size_t i = 0; i < TROUBLE_KINDS; i++) {
        host->sighting.looked[i] = LOOK_DONE;
        host->sighting.more[i] = false;
    }
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f || !stored_open(&f->db, NULL))
        return -1;
    *state = f;
    for (size_t i = 0; i < 2; i++) {
        struct host *host = &f->hosts[i];
        host->name = i ? "22222222222222222222222222222222" : "11111111111111111111111111111111";
        host->store = clocked_of(f->db.store);
        host->sighting.seen = calloc(LIMIT_TROUBLES_SEEN, sizeof *host->sighting.seen);
        if (!host->sighting.seen)
            return -1;
        look(host);
    }
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < 2; i++)
        free(f->hosts[i].sighting.seen);
    int rc = stored_close(&f->db);
    free(f);
    return rc;
}

static void see(struct host *host, enum trouble_kind kind, const char *subject)
{
    struct trouble *t = sighting_add(&host->sighting, kind);
    assert_non_null(t);
    (void)snprintf(t->subject, sizeof t->subject, "%s", subject);
    (void)snprintf(t->title, sizeof t->title, "No lead for %s", subject);
    (void)snprintf(t->detail, sizeof t->detail, "The last lead for the offer %s came long ago.", subject);
    t->since_ms = NOON_MS - 15 * DAY;
}

/* The host sees exactly this, or nothing. */
static void see_only(struct host *host, enum trouble_kind kind, const char *subject)
{
    look(host);
    if (subject)
        see(host, kind, subject);
}

static void settle(struct fixture *f, struct host *host)
{
    struct fail why;
    if (troubles_settle(&host->store.base, &host->sighting, soon(), f->lasting, &why) != ST_OK)
        fail_msg("%s", why.text);
}

static void move_clock(struct fixture *f, int64_t ms)
{
    f->hosts[0].store.now_ms += ms;
    f->hosts[1].store.now_ms += ms;
}

static size_t rows(struct fixture *f)
{
    return rows_between(f->db.store, &f->db.arena, TABLE_OPS, ALARMS_PARTITION, TROUBLE_KEY_FIRST,
                        TROUBLE_KEY_END)
        .count;
}

/* How many alarms of the event there are, of all days. */
static size_t alarms(struct fixture *f, enum alarm event)
{
    struct page page = rows_between(f->db.store, &f->db.arena, TABLE_OPS, ALARMS_PARTITION, "", "~");
    size_t count = 0;
    for (size_t i = 0; i < page.count; i++) {
        struct alarm_row alarm;
        assert_int_equal(alarm_of_row(&page.rows[i], &alarm, NULL), ST_OK);
        count += span_eq(alarm.event, span_of(alarm_name(event)));
    }
    return count;
}

/* The newest of them. */
static struct alarm_row alarm_told(struct fixture *f, enum alarm event)
{
    struct page page = rows_between(f->db.store, &f->db.arena, TABLE_OPS, ALARMS_PARTITION, "", "~");
    struct alarm_row alarm, found = {0};
    for (size_t i = 0; i < page.count; i++) {
        assert_int_equal(alarm_of_row(&page.rows[i], &alarm, NULL), ST_OK);
        if (span_eq(alarm.event, span_of(alarm_name(event))))
            found = alarm;
    }
    assert_true(found.event.len > 0);
    return found;
}

static void assert_text(struct span got, const char *want)
{
    if (!span_eq(got, span_of(want)))
        fail_msg("got '%.*s', want '%s'", SPAN_FMT(got), want);
}

static bool has(struct span text, const char *what)
{
    return span_has_nocase(text, span_of(what));
}

/* --- once over all hosts ------------------------------------------------------------------------------------- */

static void test_two_hosts_one_alarm(void **state)
{
    struct fixture *f = *state;
    for (size_t round = 0; round < 3; round++) {
        for (size_t i = 0; i < 2; i++) {
            see_only(&f->hosts[i], TROUBLE_SILENCE, "contoso.app");
            settle(f, &f->hosts[i]);
            assert_int_equal(f->lasting[TROUBLE_SILENCE], 1);
        }
        move_clock(f, 5 * MINUTE);
    }
    assert_int_equal(rows(f), 1);
    assert_int_equal(alarms(f, ALARM_SILENCE), 1);
    struct alarm_row alarm = alarm_told(f, ALARM_SILENCE);
    assert_text(alarm.title, "No lead for contoso.app since 2026-11-06 12:00 UTC");
    assert_text(alarm.text, "The last lead for the offer contoso.app came long ago.");
    assert_int_equal(alarm.state, ALARM_STATE_WAITING);

    see_only(&f->hosts[0], TROUBLE_SILENCE, NULL); /* the other one has not looked since the lead came */
    settle(f, &f->hosts[0]);
    assert_int_equal(rows(f), 1);
    assert_int_equal(alarms(f, ALARM_SILENCE_OVER), 0);
    for (size_t round = 0; round < 2; round++) {
        for (size_t i = 0; i < 2; i++) {
            see_only(&f->hosts[1 - i], TROUBLE_SILENCE, NULL);
            settle(f, &f->hosts[1 - i]);
        }
    }
    assert_int_equal(rows(f), 0);
    assert_int_equal(alarms(f, ALARM_SILENCE_OVER), 1);
    alarm = alarm_told(f, ALARM_SILENCE_OVER);
    assert_text(alarm.title, "Over: No lead for contoso.app since 2026-11-06 12:00 UTC");
    assert_text(alarm.text, "This was first seen 2026-11-21 12:00 UTC and is over now.");
}

static void other_settles(void *context)
{
    struct fixture *f = context;
    settle(f, &f->hosts[1]);
}

/* The other host does all of its work before any of our operations: there is one alarm, and all is settled at once. */
static void interleave(struct fixture *f, const char *subject, enum alarm event)
{
    for (size_t at = 0; at < 4; at++) {
        size_t before = alarms(f, event);
        for (size_t i = 0; i < 2; i++)
            see_only(&f->hosts[i], TROUBLE_SILENCE, subject ? "contoso.app" : NULL);
        f->hosts[0].store.count = 0;
        f->hosts[0].store.hook_at = at;
        f->hosts[0].store.hook = other_settles;
        f->hosts[0].store.context = f;
        settle(f, &f->hosts[0]);
        if (f->hosts[0].store.hook) { /* there were not so many */
            f->hosts[0].store.hook = NULL;
            other_settles(f);
        }
        assert_int_equal(alarms(f, event), before + 1);
        assert_int_equal(rows(f), subject ? 1 : 0);
        for (size_t i = 0; i < 2; i++) { /* back to the beginning, for another day */
            see_only(&f->hosts[i], TROUBLE_SILENCE, subject ? NULL : "contoso.app");
            settle(f, &f->hosts[i]);
        }
        settle(f, &f->hosts[0]);
        move_clock(f, DAY);
        for (size_t i = 0; i < 2; i++)
            settle(f, &f->hosts[i]);
    }
}

static void test_two_hosts_in_every_order(void **state)
{
    struct fixture *f = *state;
    interleave(f, "contoso.app", ALARM_SILENCE);
}

static void test_two_hosts_in_every_order_at_the_end(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < 2; i++) {
        see_only(&f->hosts[i], TROUBLE_SILENCE, "contoso.app");
        settle(f, &f->hosts[i]);
    }
    interleave(f, NULL, ALARM_SILENCE_OVER);
}

/* The other host begins to see it while we renew our name: neither name is lost. */
static void test_both_names_stay(void **state)
{
    struct fixture *f = *state;
    struct trouble_row row;
    see_only(&f->hosts[0], TROUBLE_SILENCE, "contoso.app");
    see_only(&f->hosts[1], TROUBLE_SILENCE, "contoso.app");
    settle(f, &f->hosts[0]);
    move_clock(f, HOUR);
    f->hosts[0].store.count = 0;
    f->hosts[0].store.hook_at = 1; /* between reading and writing */
    f->hosts[0].store.hook = other_settles;
    f->hosts[0].store.context = f;
    settle(f, &f->hosts[0]);
    struct page page = rows_between(f->db.store, &f->db.arena, TABLE_OPS, ALARMS_PARTITION, TROUBLE_KEY_FIRST,
                                    TROUBLE_KEY_END);
    assert_int_equal(page.count, 1);
    assert_int_equal(trouble_of_row(&page.rows[0], &row, NULL), ST_OK);
    for (size_t i = 0; i < 2; i++)
        assert_true(has(row.hosts, f->hosts[i].name));
}

/* A host that is gone says nothing any more; what it alone has seen is over then. */
static void test_host_is_gone(void **state)
{
    struct fixture *f = *state;
    see_only(&f->hosts[1], TROUBLE_KEY_RETIRING, "key market");
    settle(f, &f->hosts[1]);
    move_clock(f, 2 * HOUR - MINUTE);
    settle(f, &f->hosts[0]);
    assert_int_equal(rows(f), 1);
    move_clock(f, MINUTE);
    settle(f, &f->hosts[0]);
    assert_int_equal(rows(f), 0);
    assert_int_equal(alarms(f, ALARM_KEY_RETIRING_OVER), 1);
}

/* One that looks now and then keeps its word for so long. */
static void test_host_renews(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < 40; i++) {
        see_only(&f->hosts[1], TROUBLE_KEY_RETIRING, "key market");
        settle(f, &f->hosts[1]);
        settle(f, &f->hosts[0]);
        assert_int_equal(rows(f), 1);
        move_clock(f, 5 * MINUTE);
    }
    assert_int_equal(alarms(f, ALARM_KEY_RETIRING_OVER), 0);
}

/* --- when ---------------------------------------------------------------------------------------------------- */

static void check_rhythm(struct fixture *f, enum trouble_kind kind, enum alarm event, const int *days,
                         size_t count)
{
    size_t next = 0;
    for (int day = 0; day <= 120; day++) {
        see_only(&f->hosts[0], kind, "contoso.app");
        settle(f, &f->hosts[0]);
        if (next < count && day == days[next]) {
            next++;
            assert_int_equal(has(alarm_told(f, event).title, "Still: No lead for"), next > 1);
        }
        if (alarms(f, event) != next)
            fail_msg("day %d: %zu alarms, want %zu", day, alarms(f, event), next);
        move_clock(f, DAY);
    }
}

static void test_rhythm(void **state)
{
    static const int days[] = {0, 7, 28, 56, 84, 112};
    check_rhythm(*state, TROUBLE_SILENCE, ALARM_SILENCE, days, 6);
}

static void test_rhythm_of_what_is_urgent(void **state)
{
    static const int days[] = {0, 1, 7, 28, 56, 84, 112};
    check_rhythm(*state, TROUBLE_SPOOL_STUCK, ALARM_SPOOL_STUCK, days, 7);
}

/* It comes and goes all day: people hear of the first time, and in the end of how things are. */
static void test_comes_and_goes(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < 5; i++) {
        see_only(&f->hosts[0], TROUBLE_MAIL_PAUSED, "web1");
        settle(f, &f->hosts[0]);
        assert_int_equal(rows(f), 1);
        move_clock(f, HOUR);
        see_only(&f->hosts[0], TROUBLE_MAIL_PAUSED, NULL);
        settle(f, &f->hosts[0]);
        assert_int_equal(rows(f), 0);
    }
    assert_int_equal(alarms(f, ALARM_MAIL_PAUSED), 1);
    assert_int_equal(alarms(f, ALARM_MAIL_PAUSED_OVER), 1);
    see_only(&f->hosts[0], TROUBLE_MAIL_PAUSED, "web1");
    settle(f, &f->hosts[0]);
    move_clock(f, DAY);
    settle(f, &f->hosts[0]);
    assert_int_equal(alarms(f, ALARM_MAIL_PAUSED), 2);
}

/* Told yesterday, over and told, begun and told: the end waits for tomorrow, when its alarm is free again. */
static void test_end_waits_for_the_next_day(void **state)
{
    struct fixture *f = *state;
    see_only(&f->hosts[0], TROUBLE_SILENCE, "first");
    settle(f, &f->hosts[0]);
    move_clock(f, DAY);
    see_only(&f->hosts[0], TROUBLE_SILENCE, "second");
    settle(f, &f->hosts[0]); /* first is over, second begins */
    assert_int_equal(alarms(f, ALARM_SILENCE), 2);
    assert_int_equal(alarms(f, ALARM_SILENCE_OVER), 1);
    see_only(&f->hosts[0], TROUBLE_SILENCE, NULL);
    for (size_t i = 0; i < 3; i++) { /* and nobody takes it for one that lasts */
        settle(f, &f->hosts[i % 2]);
        assert_int_equal(f->lasting[TROUBLE_SILENCE], 0);
        assert_int_equal(alarms(f, ALARM_SILENCE_OVER), 1);
        assert_int_equal(rows(f), 1);
    }
    see_only(&f->hosts[1], TROUBLE_SILENCE, "second"); /* unless it comes back */
    settle(f, &f->hosts[1]);
    assert_int_equal(f->lasting[TROUBLE_SILENCE], 1);
    see_only(&f->hosts[1], TROUBLE_SILENCE, NULL);
    settle(f, &f->hosts[1]);
    assert_int_equal(f->lasting[TROUBLE_SILENCE], 0);
    move_clock(f, DAY);
    settle(f, &f->hosts[0]);
    assert_int_equal(alarms(f, ALARM_SILENCE), 2);
    assert_int_equal(alarms(f, ALARM_SILENCE_OVER), 2);
    assert_int_equal(rows(f), 0);
}

/* --- what was looked for ------------------------------------------------------------------------------------- */

static void test_looks(void **state)
{
    static const struct {
        enum trouble_look look;
        bool more, forgotten, stays, told;
    } cases[] = {
        {LOOK_NONE, false, false, true, false}, {LOOK_DONE, false, false, false, true},
        {LOOK_OFF, false, false, false, false}, {LOOK_DONE, true, false, true, false},
        {LOOK_DONE, false, true, false, false},
    };
    struct fixture *f = *state;
    struct host *host = &f->hosts[0];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        size_t before = alarms(f, ALARM_SILENCE_OVER);
        see_only(host, TROUBLE_SILENCE, "contoso.app");
        settle(f, host);
        look(host);
        host->sighting.looked[TROUBLE_SILENCE] = cases[i].look;
        host->sighting.more[TROUBLE_SILENCE] = cases[i].more;
        if (cases[i].forgotten) {
            see(host, TROUBLE_SILENCE, "contoso.app");
            host->sighting.seen[0].is_forgotten = true;
        }
        settle(f, host);
        assert_int_equal(rows(f), cases[i].stays);
        assert_int_equal(f->lasting[TROUBLE_SILENCE], cases[i].stays);
        assert_int_equal(alarms(f, ALARM_SILENCE_OVER), before + (cases[i].told ? 1 : 0));
        look(host);
        settle(f, host);
        move_clock(f, DAY);
        settle(f, host);
        assert_int_equal(rows(f), 0);
    }
}

/* Whoever switches it off does not end it for a host that goes on. */
static void test_off_at_one_host(void **state)
{
    struct fixture *f = *state;
    see_only(&f->hosts[0], TROUBLE_SILENCE, "contoso.app");
    settle(f, &f->hosts[0]);
    f->hosts[1].sighting.looked[TROUBLE_SILENCE] = LOOK_OFF;
    settle(f, &f->hosts[1]);
    assert_int_equal(rows(f), 1);
    assert_int_equal(alarms(f, ALARM_SILENCE_OVER), 0);
}

/* Without alarm_to there are rows for the status; who is told first when there is one learns of them. */
static void test_nobody_to_tell(void **state)
{
    struct fixture *f = *state;
    struct host *host = &f->hosts[0];
    see_only(host, TROUBLE_SILENCE, "contoso.app");
    host->sighting.tells = false;
    settle(f, host);
    assert_int_equal(rows(f), 1);
    assert_int_equal(alarms(f, ALARM_SILENCE), 0);
    host->sighting.tells = true;
    settle(f, host);
    assert_int_equal(alarms(f, ALARM_SILENCE), 1);
    see_only(host, TROUBLE_KEY_RETIRING, "key");
    host->sighting.tells = false;
    settle(f, host);
    look(host);
    settle(f, host);
    assert_int_equal(rows(f), 0);
    assert_int_equal(alarms(f, ALARM_KEY_RETIRING_OVER), 0); /* nobody knew of it */
}

/* --- many ---------------------------------------------------------------------------------------------------- */

static void test_many(void **state)
{
    struct fixture *f = *state;
    struct host *host = &f->hosts[0];
    char name[32];
    for (size_t i = 0; i < LIMIT_TROUBLES_SEEN / 2; i++) {
        (void)snprintf(name, sizeof name, "offer-%zu", i);
        see(host, TROUBLE_SILENCE, name);
    }
    assert_null(sighting_add(&host->sighting, TROUBLE_SILENCE));
    assert_true(host->sighting.more[TROUBLE_SILENCE]);
    for (size_t i = 0; i < LIMIT_TROUBLES_SEEN / 2; i++) /* there is room for others */
        assert_non_null(sighting_add(&host->sighting, i ? TROUBLE_KEY_RETIRING : TROUBLE_MAIL_PAUSED));
    assert_null(sighting_add(&host->sighting, TROUBLE_SAS_ENDING));
    host->sighting.count = LIMIT_TROUBLES_SEEN / 2;
    settle(f, host);
    settle(f, host);
    assert_int_equal(rows(f), LIMIT_TROUBLES);
    assert_int_equal(f->lasting[TROUBLE_SILENCE], LIMIT_TROUBLES);
    struct alarm_row alarm = alarm_told(f, ALARM_SILENCE);
    assert_text(alarm.title, "50 offers have no leads any more");
    assert_true(
        has(alarm.text, "\n- No lead for offer-9 since 2026-11-06 12:00 UTC\n- and 40 more: 'leadctl"));
    assert_false(has(alarm.text, "offer-10 "));

    move_clock(f, DAY); /* two are over, of the others it is told that they last */
    look(host);
    for (size_t i = 2; i < LIMIT_TROUBLES; i++) {
        (void)snprintf(name, sizeof name, "offer-%zu", i);
        see(host, TROUBLE_SILENCE, name);
    }
    settle(f, host);
    alarm = alarm_told(f, ALARM_SILENCE_OVER);
    assert_text(alarm.title, "Over: 2 offers have no leads any more");
    assert_true(has(alarm.text, "These are over:\n- No lead for offer-0 since"));
    assert_true(has(alarm.text, "\n\nOf this kind there still is:\n- No lead for offer-"));
    assert_true(has(alarm.text, "- and 38 more:"));
    assert_int_equal(rows(f), LIMIT_TROUBLES - 2);
}

static void test_longest_names(void **state)
{
    struct fixture *f = *state;
    struct host *host = &f->hosts[0];
    char name[LIMIT_PARTITION_KEY_BYTES + 1];
    for (size_t i = 0; i < LIMIT_TROUBLES; i++) {
        memset(name, 'o', sizeof name - 1);
        (void)snprintf(name + sizeof name - 4, 4, "%03zu", i);
        see(host, TROUBLE_SILENCE, name);
    }
    settle(f, host);
    assert_int_equal(rows(f), LIMIT_TROUBLES);
    assert_true(has(alarm_told(f, ALARM_SILENCE).text, "and 40 more"));
}

/* --- rows that others have written --------------------------------------------------------------------------- */

static void test_strange_rows(void **state)
{
    static const struct {
        const char *key, *event, *subject, *hosts;
        int32_t told;
    } cases[] = {
        {"~trouble-", "silence", "contoso.app", "", -1},
        {"~trouble-silence-1", "from-the-future", "x", "a@1", 1},
        {"~trouble-silence-2", "silence", "other", "@,a,a@,@1,a@-1,a@99999999999999999999,,", INT32_MAX},
        {"~trouble-silence-3", "", "", "", 0},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct operation insert = {.kind = OPERATION_INSERT};
        size_t failed;
        assert_true(
            entity_init(&insert.entity, SPAN_LIT(ALARMS_PARTITION), span_of(cases[i].key), &f->db.arena));
        entity_add_text(&insert.entity, "Event", span_of(cases[i].event));
        entity_add_text(&insert.entity, "Subject", span_of(cases[i].subject));
        entity_add_text(&insert.entity, "Hosts", span_of(cases[i].hosts));
        entity_add_int(&insert.entity, "Told", cases[i].told);
        assert_int_equal(store_transact(f->db.store, TABLE_OPS, &insert, 1, soon(), &failed, NULL), ST_OK);
    }
    see_only(&f->hosts[0], TROUBLE_SILENCE, "contoso.app");
    settle(f, &f->hosts[0]);
    assert_int_equal(f->lasting[TROUBLE_SILENCE], 1); /* the row that was there is its row */
    assert_int_equal(alarms(f, ALARM_SILENCE), 1);
    assert_int_equal(rows(f), 3); /* what another version has left is its own */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_two_hosts_one_alarm),
        TEST(test_two_hosts_in_every_order),
        TEST(test_two_hosts_in_every_order_at_the_end),
        TEST(test_both_names_stay),
        TEST(test_host_is_gone),
        TEST(test_host_renews),
        TEST(test_rhythm),
        TEST(test_rhythm_of_what_is_urgent),
        TEST(test_comes_and_goes),
        TEST(test_end_waits_for_the_next_day),
        TEST(test_looks),
        TEST(test_off_at_one_host),
        TEST(test_nobody_to_tell),
        TEST(test_many),
        TEST(test_longest_names),
        TEST(test_strange_rows),
    };
    return cmocka_run_group_tests_name("troubles", tests, NULL, NULL);
}
