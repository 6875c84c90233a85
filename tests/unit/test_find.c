/* How leadctl looks for leads: its options, and the walk, on SQLite and, when TABLE_CONNECTION names a Table service,
 * on that too.  A store in front of the real one counts what it is asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "handler/ctl/find.h"
#include "lib/net/http.h"
#include "lib/store/offers.h"
#include "tests/unit/front.h"
#include "tests/unit/stored.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define START_MS     (20000 * CLOCK_DAY_MS + 9 * HOUR_MS) /* 2024-10-04 09:00 */

/* --- options ------------------------------------------------------------------------------------------------- */

/* Reads the words as a command does; *taken is how many were. */
static enum status take(struct find_filter *filter, const char *const *words, size_t count, size_t *taken,
                        struct fail *why)
{
    char *argv[8];
    int argc = 0;
    enum status status = ST_OK;
    *filter = (struct find_filter){0};
    for (size_t i = 0; i < count && words[i]; i++)
        argv[argc++] = strdup(words[i]);
    int at = 0;
    for (; at < argc && status == ST_OK; at++)
        status = find_take_option(filter, argc, argv, &at, why);
    *taken = (size_t)at;
    if (status == ST_OK)
        status = find_check(filter, why);
    /* Texts of the filter point into the words: only whether they are there is looked at behind this. */
    for (int i = 0; i < argc; i++)
        free(argv[i]);
    return status;
}

static void test_options(void **state)
{
    static const struct {
        const char *words[4];
        enum status want;
        const char *says;
    } rows[] = {
        {{"--since", "12h"}, ST_OK, ""},
        {{"--since=12h", "--until", "2h"}, ST_OK, ""},
        {{"--since", "2026-05-01", "--until=2026-05-01T10:30"}, ST_OK, ""},
        {{"--offer", "Contoso.App", "--action", "INS"}, ST_OK, ""},
        {{"--country=DE", "--no-test", "--no-test"}, ST_OK, ""},
        {{"--contact", " Ana@example.com", "--test"}, ST_OK, ""},
        {{"--since"}, ST_INVALID, "--since needs a value"},
        {{"--since", "yesterday"}, ST_INVALID, "--since: a time is given as 12h"},
        {{"--since=", "12h"}, ST_INVALID, "--since: a time is given as"},
        {{"--until", "12m"}, ST_INVALID, "--until: a time is given as"},
        {{"--since", "2h", "--until", "3h"}, ST_INVALID, "--since is not before --until"},
        {{"--until", "1d", "--since=2026-05-01"}, ST_OK, ""},
        {{"--offer", ""}, ST_INVALID, "`leadctl offers`"},
        {{"--action", " "}, ST_INVALID, "--action needs a value"},
        {{"--country", ""}, ST_INVALID, "--country needs a value"},
        {{"--contact", "ana"}, ST_INVALID, "--contact: that is not an e-mail address"},
        {{"--test", "--no-test"}, ST_INVALID, "together"},
        {{"--sinces", "12h"}, ST_NOT_FOUND, "no option '--sinces'"},
        {{"ana"}, ST_NOT_FOUND, "no option 'ana'"},
        {{"--test=yes"}, ST_NOT_FOUND, "no option '--test=yes'"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct find_filter filter;
        struct fail why = {0};
        size_t taken;
        enum status status = take(&filter, rows[i].words, COUNT(rows[i].words), &taken, &why);
        if (status != rows[i].want || !strstr(why.text, rows[i].says))
            fail_msg("%s: got %s '%s', want %s '%s'", rows[i].words[0], status_name(status), why.text,
                     status_name(rows[i].want), rows[i].says);
    }
}

static void test_values(void **state)
{
    static const char *const words[] = {"--offer", "Contoso.APP", "--contact=Ana@Example.com", "--until",
                                        "2024-10-04 09:00:00Z"};
    struct find_filter filter;
    struct fail why = {0};
    size_t taken;
    char contact[LEAD_HASH_TEXT + 1];
    (void)state;
    assert_int_equal(take(&filter, words, COUNT(words), &taken, &why), ST_OK);
    assert_int_equal(taken, COUNT(words));
    assert_string_equal(filter.offer, "contoso.app");
    assert_int_equal(lead_contact_of_email(SPAN_LIT("ana@example.com"), contact, &why), ST_OK);
    assert_string_equal(filter.contact, contact);
    assert_int_equal(filter.until_ms, START_MS);
    assert_int_equal(filter.since_ms, 0);
}

/* --- the walk ------------------------------------------------------------------------------------------------ */

struct fixture {
    struct front front; /* counts */
    struct stored db;   /* the real one */
    size_t queries;     /* of leads */
    size_t rows;        /* that they gave */
    size_t failures;    /* of the next queries */
    char offers[3][48];
};

static enum status counting_query(struct store *store, const struct query *query, int64_t deadline_ms,
                                  struct arena *arena, struct page *page, struct fail *why)
{
    struct fixture *f = (struct fixture *)store;
    if (f->failures > 0) {
        f->failures--;
        return fail_set(why, ST_AGAIN, 0, "busy");
    }
    enum status status = store_query(f->db.store, query, deadline_ms, arena, page, why);
    if (query->table == TABLE_LEADS) {
        f->queries++;
        f->rows += status == ST_OK ? page->count : 0;
    }
    return status;
}

/* What a lead is looked for by. */
struct sample {
    size_t offer;
    const char *email;
    const char *action;
    const char *country;
    bool is_test;
    int64_t received_ms;
};

static const struct sample SAMPLES[] = {
    {0, "ana@example.com", "INS", "US", false, START_MS},
    {0, "ana@example.com", "PLT", "US", true, START_MS + HOUR_MS},
    {0, "bob@example.com", "INS", "de", false, START_MS + 2 * HOUR_MS},
    {1, "ana@example.com", "INS", "", false, START_MS + 3 * HOUR_MS},
    {1, "cid@example.com", "StartTestDrive", "DE", false, START_MS + 4 * HOUR_MS},
};

static void put(struct fixture *f, const struct sample *sample)
{
    static const struct lead_rules rules = {.repeat_window_ms = HOUR_MS};
    struct lead *lead = lead_of_somebody(&f->db.arena, f->offers[sample->offer]);
    struct fail why = {0};
    lead->customer.email = span_of(sample->email);
    lead->customer.country = span_of(sample->country);
    lead->action = span_of(sample->action);
    lead->is_test = sample->is_test;
    assert_int_equal(lead_contact_of_email(lead->customer.email, lead->contact, &why), ST_OK);
    struct lead_write *write = make_write(&f->db.arena, lead, sample->received_ms);
    leads_commit(f->db.store, &rules, &write, 1, soon(), &f->db.arena);
    assert_int_equal(write->status, ST_OK);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct fail why;
    struct offers *offers = NULL;
    char table[40] = "Find";
    if (!f)
        return -1;
    random_hex(table + 4, 16);
    if (!stored_open(&f->db, table))
        return -1;
    front_place(&f->front, f->db.store);
    f->front.functions.query = counting_query;
    for (size_t i = 0; i < COUNT(f->offers); i++) {
        struct lead lead = {0};
        (void)snprintf(f->offers[i], sizeof f->offers[i], "contoso.app%zu", i);
        (void)snprintf(lead.partition, sizeof lead.partition, "%s", f->offers[i]);
        const struct delivery delivery = {.lead = &lead, .received_ms = START_MS};
        if (offers_new(&offers, &why) != ST_OK ||
            offers_ensure(offers, f->db.store, NULL, &delivery, soon(), &why) != ST_OK)
            return -1;
        offers_free(offers);
    }
    for (size_t i = 0; i < COUNT(SAMPLES); i++)
        put(f, &SAMPLES[i]);
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

/* The hours behind START_MS at which the leads that were visited came, as digits in order of time. */
struct seen {
    bool at[10];
    size_t count;
    size_t most; /* then it wants no more; 0: all */
};

static enum status visit(void *context, struct entity *row, struct fail *why)
{
    struct seen *seen = context;
    int64_t hour = (find_received_ms(row) - START_MS) / HOUR_MS;
    assert_in_range(hour, 0, 9);
    assert_false(seen->at[hour]); /* each once */
    seen->at[hour] = true;
    seen->count++;
    return seen->count == seen->most ? fail_set(why, ST_EXISTS, 0, "enough") : ST_OK;
}

/* Where a walk is ended after so many. */
struct last {
    struct seen seen;
    size_t left;
    char offer[64];
    char key[LEAD_ROW_KEY_TEXT + 1];
};

static enum status visit_until(void *context, struct entity *row, struct fail *why)
{
    struct last *last = context;
    enum status status = visit(&last->seen, row, why);
    (void)snprintf(last->offer, sizeof last->offer, "%.*s", SPAN_FMT(row->partition_key));
    (void)snprintf(last->key, sizeof last->key, "%.*s", SPAN_FMT(row->row_key));
    return status == ST_OK && --last->left == 0 ? fail_set(why, ST_EXISTS, 0, "cut off") : status;
}

static void text_of(const struct seen *seen, char text[16])
{
    for (size_t i = 0; i < COUNT(seen->at); i++) {
        if (seen->at[i])
            *text++ = (char)('0' + i);
    }
    *text = '\0';
}

static enum status walk(struct fixture *f, const struct find_filter *filter, struct seen *seen,
                        struct fail *why)
{
    struct find find = {.store = &f->front.base, .filter = filter, .select = FIND_COLUMNS};
    f->queries = f->rows = 0;
    return find_each(&find, visit, seen, why);
}

static void test_filters(void **state)
{
    struct fixture *f = *state;
    char ana[LEAD_HASH_TEXT + 1];
    struct fail why = {0};
    assert_int_equal(lead_contact_of_email(SPAN_LIT("ana@example.com"), ana, &why), ST_OK);
    const struct {
        const char *name;
        struct find_filter filter;
        const char *contact;
        const char *want; /* as text_of */
        size_t rows;      /* that the store gave: the rest was left out by it */
        size_t queries;
    } rows[] = {
        {"none", {0}, "", "01234", 5, 3},
        {"since", {.since_ms = START_MS + 2 * HOUR_MS}, "", "234", 3, 3},
        {"until", {.until_ms = START_MS + 2 * HOUR_MS}, "", "01", 2, 3},
        {"both", {.since_ms = START_MS + 1, .until_ms = START_MS + 3 * HOUR_MS + 1}, "", "123", 3, 3},
        {"offer", {.offer = "contoso.app1"}, "", "34", 2, 1},
        {"offer without leads", {.offer = "contoso.app2"}, "", "", 0, 1},
        {"contact", {0}, ana, "013", 3, 3},
        {"contact of an offer", {.offer = "contoso.app0"}, ana, "01", 2, 1},
        {"action", {.action = SPAN_LIT("ins")}, "", "023", 5, 3},
        {"country", {.country = SPAN_LIT("DE")}, "", "24", 5, 3},
        {"tests", {.tests = FIND_TESTS_ONLY}, "", "1", 5, 3},
        {"no tests", {.tests = FIND_NO_TESTS}, "", "0234", 5, 3},
        {"nothing", {.country = SPAN_LIT("FR")}, "", "", 5, 3},
        {"all",
         {.since_ms = START_MS,
          .until_ms = START_MS + HOUR_MS,
          .offer = "contoso.app0",
          .action = SPAN_LIT("INS"),
          .country = SPAN_LIT("us"),
          .tests = FIND_NO_TESTS},
         ana,
         "0",
         1,
         1},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct find_filter filter = rows[i].filter;
        struct seen seen = {0};
        char text[16];
        (void)snprintf(filter.contact, sizeof filter.contact, "%s", rows[i].contact);
        assert_int_equal(walk(f, &filter, &seen, &why), ST_OK);
        text_of(&seen, text);
        if (strcmp(text, rows[i].want) != 0 || f->rows != rows[i].rows || f->queries != rows[i].queries)
            fail_msg("%s: got %s, %zu rows, %zu queries; want %s, %zu, %zu", rows[i].name, text, f->rows,
                     f->queries, rows[i].want, rows[i].rows, rows[i].queries);
    }
}

static void test_unknown_offer(void **state)
{
    struct fixture *f = *state;
    struct find_filter filter = {.offer = "contoso.nothing"};
    struct seen seen = {0};
    struct fail why = {0};
    assert_int_equal(walk(f, &filter, &seen, &why), ST_NOT_FOUND);
    assert_non_null(strstr(why.text, "leadctl offers"));
}

/* What is not a lead of ours is nobody's to show. */
static void test_foreign_rows(void **state)
{
    struct fixture *f = *state;
    struct operation operation = {.kind = OPERATION_INSERT};
    struct find_filter filter = {0};
    struct seen seen = {0};
    struct fail why = {0};
    char text[16];
    size_t failed;
    assert_true(entity_init(&operation.entity, span_of(f->offers[0]), SPAN_LIT("0123-theirs"), &f->db.arena));
    entity_add_time(&operation.entity, COLUMN_RECEIVED_TIME, START_MS + 9 * HOUR_MS);
    assert_int_equal(store_transact(f->db.store, TABLE_LEADS, &operation, 1, soon(), &failed, &why), ST_OK);
    assert_int_equal(walk(f, &filter, &seen, &why), ST_OK);
    text_of(&seen, text);
    assert_string_equal(text, "01234");
    operation.kind = OPERATION_DELETE;
    operation.entity.etag = SPAN_LIT("*");
    assert_int_equal(store_transact(f->db.store, TABLE_LEADS, &operation, 1, soon(), &failed, &why), ST_OK);
}

/* By the id of the first or the last delivery, of which any beginning may be given. */
static void test_ids(void **state)
{
    struct fixture *f = *state;
    struct page page = rows_between(f->db.store, &f->db.arena, TABLE_LEADS, f->offers[1], "0", "~");
    assert_int_equal(page.count, 2);
    struct deliveries d = row_deliveries(&page.rows[0]);
    struct operation merge = {.kind = OPERATION_MERGE};
    struct fail why = {0};
    size_t failed;
    static const char last[] = "feedfeedfeedfeedfeedfeedfeedfeed";
    assert_true(entity_init(&merge.entity, page.rows[0].partition_key, page.rows[0].row_key, &f->db.arena));
    merge.entity.etag = SPAN_LIT("*");
    entity_add_text(&merge.entity, COLUMN_LAST_DELIVERY_ID, span_of(last));
    assert_int_equal(store_transact(f->db.store, TABLE_LEADS, &merge, 1, soon(), &failed, &why), ST_OK);
    const struct {
        struct span id;
        size_t digits;
        size_t want;
    } rows[] = {{d.first_id, 8, 1},
                {d.first_id, 32, 1},
                {span_of(last), 8, 1},
                {span_of(last), 32, 1},
                {SPAN_LIT("feedfeee"), 8, 0}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct find_filter filter = {0};
        struct seen seen = {0};
        (void)snprintf(filter.id, sizeof filter.id, "%.*s",
                       SPAN_FMT(span_cut(rows[i].id, 0, rows[i].digits)));
        assert_int_equal(walk(f, &filter, &seen, &why), ST_OK);
        if (seen.count != rows[i].want || f->rows > 1)
            fail_msg("%s: got %zu of %zu rows", filter.id, seen.count, f->rows);
    }
}

/* A walk goes on behind the lead at which another was cut off, wherever that was. */
static void test_going_on(void **state)
{
    struct fixture *f = *state;
    struct find_filter filter = {0};
    struct fail why = {0};
    for (size_t cut = 1; cut <= COUNT(SAMPLES); cut++) {
        struct last last = {.left = cut};
        struct find find = {.store = &f->front.base, .filter = &filter, .select = FIND_COLUMNS};
        assert_int_equal(find_each(&find, visit_until, &last, &why), ST_EXISTS);
        find.after_offer = span_of(last.offer);
        find.after_key = span_of(last.key);
        assert_int_equal(find_each(&find, visit, &last.seen, &why), ST_OK);
        assert_int_equal(last.seen.count, COUNT(SAMPLES)); /* visit refuses one that it has seen */
    }
}

static void test_visit_ends_the_walk(void **state)
{
    struct fixture *f = *state;
    struct find_filter filter = {0};
    struct seen seen = {.most = 2};
    struct fail why = {0};
    assert_int_equal(walk(f, &filter, &seen, &why), ST_EXISTS);
    assert_int_equal(seen.count, 2);
}

static void test_patience(void **state)
{
    struct fixture *f = *state;
    struct find_filter filter = {0};
    struct fail why = {0};
    for (int patient = 0; patient <= 1; patient++) {
        struct seen seen = {0};
        struct find find = {.store = &f->front.base, .filter = &filter, .is_patient = patient};
        f->failures = 1;
        assert_int_equal(find_each(&find, visit, &seen, &why), patient ? ST_OK : ST_AGAIN);
        assert_int_equal(seen.count, patient ? COUNT(SAMPLES) : 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options),      cmocka_unit_test(test_values),
        cmocka_unit_test(test_filters),      cmocka_unit_test(test_unknown_offer),
        cmocka_unit_test(test_foreign_rows), cmocka_unit_test(test_ids),
        cmocka_unit_test(test_going_on),     cmocka_unit_test(test_visit_ends_the_walk),
        cmocka_unit_test(test_patience),
    };
    struct fail why;
    if (http_global_init(&why) != ST_OK)
        return 1;
    return cmocka_run_group_tests_name("find", tests, set_up, tear_down);
}
