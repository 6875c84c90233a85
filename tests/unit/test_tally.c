/* What a report counts, and the small things of which its page is made.  Rows are made here; that the numbers are
 * those of real stores is tests/system/report.test.js.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "handler/ctl/report/html.h"
#include "handler/ctl/report/page.h"
#include "handler/ctl/report/plot.h"
#include "handler/ctl/report/tally.h"
#include "lib/base/clock.h"
#include "lib/base/text.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define HOUR_MS      (60 * 60 * 1000LL)
#define SINCE_MS     (20000 * CLOCK_DAY_MS) /* 2024-10-04 */

enum { DAYS = 10, NEWEST = 3 };

struct fixture {
    struct tally *tally;
    struct arena arena;
    unsigned int rows; /* made so far */
    struct buf out;
};

static int set_up(void **state)
{
    static const struct tally_options options = {
        .since_ms = SINCE_MS, .days = DAYS, .repeat_window_ms = HOUR_MS, .newest = NEWEST};
    struct fixture *f = calloc(1, sizeof *f);
    if (!f || tally_new(&options, &f->tally, NULL) != ST_OK)
        return -1;
    f->arena = ARENA_INIT(LIMIT_LIST_BYTES);
    f->out = BUF_INIT(LIMIT_REPORT_BYTES);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    tally_free(f->tally);
    arena_release(&f->arena);
    buf_release(&f->out);
    free(f);
    return 0;
}

/* A lead of the customer with this number; 0: of nobody. */
static struct entity *lead_of(struct fixture *f, unsigned int customer, int64_t received_ms)
{
    struct entity *row = arena_alloc(&f->arena, sizeof *row);
    char *key = arena_alloc(&f->arena, LEAD_ROW_KEY_TEXT + 1);
    if (!row || !key)
        abort();
    /* Spread as the hashes in real keys are. */
    (void)snprintf(key, LEAD_ROW_KEY_TEXT + 1, "%08x%024x-%032x",
                   (customer ? customer : 0xF0000000U + f->rows) * 2654435761U, 7U, f->rows);
    f->rows++;
    if (!entity_init(row, SPAN_LIT("contoso.app"), span_of(key), &f->arena))
        abort();
    entity_add_time(row, "ReceivedTime", received_ms);
    if (customer)
        entity_add_text(row, "Email", SPAN_LIT("somebody@example.com"));
    return row;
}

static void add(struct fixture *f, const struct entity *row)
{
    struct fail why;
    if (tally_add(f->tally, row, &why) != ST_OK)
        fail_msg("%s", why.text);
}

static int64_t on_day(int day)
{
    return SINCE_MS + day * CLOCK_DAY_MS + 9 * HOUR_MS;
}

/* --- quantiles ----------------------------------------------------------------------------------------------- */

static int compare_times(const void *left, const void *right)
{
    const int64_t *a = left, *b = right;
    return *a < *b ? -1 : *a > *b;
}

static void test_quantiles(void **state)
{
    static struct quantiles q;
    static int64_t times[5000];
    uint64_t number = 42;
    (void)state;
    assert_int_equal(quantile_of(&q, 50), 0);
    for (size_t i = 0; i < COUNT(times); i++) {
        number = number * 6364136223846793005U + 1442695040888963407U;
        times[i] = (int64_t)(number >> 33 >> (number >> 28) % 31); /* of all sizes */
        quantile_add(&q, times[i]);
    }
    qsort(times, COUNT(times), sizeof times[0], compare_times);
    for (unsigned int percent = 1; percent <= 100; percent++) {
        int64_t want = times[COUNT(times) / 100 * percent - 1], got = quantile_of(&q, percent);
        if (got < want || got > want + want / 1000 || (want < QUANTILE_EXACT_MS && got != want))
            fail_msg("%u %%: got %lld, want %lld", percent, (long long)got, (long long)want);
    }
    assert_int_equal(quantile_of(&q, 100), times[COUNT(times) - 1]);
}

static void test_quantiles_of_few(void **state)
{
    static struct quantiles q;
    (void)state;
    quantile_add(&q, 1234567);
    assert_int_equal(quantile_of(&q, 1), 1234567); /* the only one is known as it is */
    quantile_add(&q, -5);
    assert_int_equal(quantile_of(&q, 50), 0);
    assert_int_equal(quantile_of(&q, 51), 1234567);
    quantile_add(&q, INT64_MAX);
    assert_int_equal(q.most_ms, (1LL << 40) - 1);
    assert_int_equal(quantile_of(&q, 100), (1LL << 40) - 1);
    assert_int_equal(q.count, 3);
}

/* Each millisecond around every doubling falls into a bucket of its own size. */
static void test_quantile_buckets(void **state)
{
    (void)state;
    for (unsigned int bit = 9; bit < 40; bit++) {
        for (int64_t ms = (1LL << bit) - 2; ms <= (1LL << bit) + 2; ms++) {
            static struct quantiles q;
            memset(&q, 0, sizeof q);
            quantile_add(&q, ms);
            q.most_ms = INT64_MAX;
            int64_t got = quantile_of(&q, 50);
            if (got < ms || got > ms + ms / QUANTILE_STEPS)
                fail_msg("%lld: %lld", (long long)ms, (long long)got);
        }
    }
}

/* --- counting ------------------------------------------------------------------------------------------------ */

static void test_days(void **state)
{
    struct fixture *f = *state;
    add(f, lead_of(f, 1, SINCE_MS - 1));                       /* known before */
    add(f, lead_of(f, 1, SINCE_MS));                           /* the first instant */
    add(f, lead_of(f, 2, SINCE_MS + DAYS * CLOCK_DAY_MS - 1)); /* the last one */
    add(f, lead_of(f, 3, SINCE_MS + DAYS * CLOCK_DAY_MS));     /* behind it */
    add(f, lead_of(f, 0, on_day(4)));
    const struct tally_result *r = tally_finish(f->tally);
    assert_int_equal(r->leads, 3);
    assert_int_equal(r->days[0].further, 1);
    assert_int_equal(r->days[DAYS - 1].first, 1);
    assert_int_equal(r->days[4].nobody, 1);
    assert_int_equal(r->new_customers, 1);
    assert_int_equal(r->returning_customers, 1);
    assert_false(r->has_more_customers);
}

/* 2026-11-16 is a Monday. */
static void test_week(void **state)
{
    const int64_t monday = 1794787200000LL;
    struct tally_options options = {0};
    (void)state;
    for (int64_t day = 0; day < 7; day++) {
        tally_choose_week(&options, monday + day * CLOCK_DAY_MS);
        assert_int_equal(options.since_ms, monday - 7 * CLOCK_DAY_MS);
        tally_choose_week(&options, monday + (day + 1) * CLOCK_DAY_MS - 1);
        assert_int_equal(options.since_ms, monday - 7 * CLOCK_DAY_MS);
        assert_int_equal(options.days, 7);
    }
    tally_choose_week(&options, monday - 1);
    assert_int_equal(options.since_ms, monday - 14 * CLOCK_DAY_MS);
}

static void test_customers(void **state)
{
    struct fixture *f = *state;
    add(f, lead_of(f, 1, on_day(6))); /* the later one comes first */
    add(f, lead_of(f, 1, on_day(2)));
    add(f, lead_of(f, 1, on_day(2) + 1));
    add(f, lead_of(f, 2, on_day(3)));
    add(f, lead_of(f, 2, on_day(-200)));
    add(f, lead_of(f, 3, on_day(-1)));                   /* not seen in these days */
    struct entity *old_test = lead_of(f, 4, on_day(-5)); /* makes nobody known */
    entity_add_bool(old_test, "IsTest", true);
    add(f, old_test);
    add(f, lead_of(f, 4, on_day(8)));
    const struct tally_result *r = tally_finish(f->tally);
    assert_int_equal(r->new_customers, 2);
    assert_int_equal(r->returning_customers, 1);
    assert_int_equal(r->days[2].first, 1);
    assert_int_equal(r->days[2].further, 1);
    assert_int_equal(r->days[6].first, 0);
    assert_int_equal(r->days[6].further, 1);
    assert_int_equal(r->days[3].further, 1);
    assert_int_equal(r->days[8].first, 1);
    assert_int_equal(r->test, 0);
}

static void test_nobody(void **state)
{
    static const struct {
        const char *column, *text;
        bool somebody;
    } rows[] = {{"Email", "a@example.com", true}, {"FirstName", "A", true}, {"LastName", "A", true},
                {"Company", "A", true},           {"Phone", "+1", true},    {"Phone", "-", false},
                {"Country", "US", false},         {"Title", "CTO", false}};
    struct fixture *f = *state;
    uint64_t nobody = 0;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct entity *row = lead_of(f, 0, on_day(1));
        entity_add_text(row, rows[i].column, span_of(rows[i].text));
        add(f, row);
        nobody += rows[i].somebody ? 0 : 1;
    }
    const struct tally_result *r = tally_finish(f->tally);
    assert_int_equal(r->days[1].nobody, nobody);
    assert_int_equal(r->days[1].first, COUNT(rows) - nobody);
}

static void test_left_out(void **state)
{
    struct fixture *f = *state;
    for (int kind = 0; kind < 4; kind++) {
        for (int day = -1; day <= DAYS; day++) {
            struct entity *row = lead_of(f, 1, on_day(day));
            entity_add_bool(row, "IsTest", kind & 1);
            entity_add_bool(row, "DoNotContact", kind & 2);
            entity_add_time(row, "NotifiedTime", on_day(day));
            add(f, row);
        }
    }
    const struct tally_result *r = tally_finish(f->tally);
    assert_int_equal(r->leads, DAYS);
    assert_int_equal(r->test, 2 * DAYS);
    assert_int_equal(r->do_not_contact, DAYS);
    assert_int_equal(r->groups[TALLY_OFFER].counts[0].leads, DAYS);
    assert_int_equal(r->mail.times.count, DAYS);
    assert_int_equal(r->returning_customers, 1);
}

static void test_groups(void **state)
{
    static const char *const countries[] = {"US", " US ", "us", "", "DE", "US", "DE", "\xED\x95\x9C"};
    static const struct {
        const char *key;
        uint64_t leads;
    } want[] = {{"US", 3}, {"DE", 2}, {"", 1}, {"us", 1}, {"\xED\x95\x9C", 1}};
    struct fixture *f = *state;
    for (size_t i = 0; i < COUNT(countries); i++) {
        struct entity *row = lead_of(f, 1, on_day(1));
        entity_add_text(row, "Country", span_of(countries[i]));
        add(f, row);
    }
    const struct tally_group *g = &tally_finish(f->tally)->groups[TALLY_COUNTRY];
    assert_int_equal(g->count, COUNT(want));
    for (size_t i = 0; i < COUNT(want); i++) {
        assert_true(span_eq(g->counts[i].key, span_of(want[i].key)));
        assert_int_equal(g->counts[i].leads, want[i].leads);
    }
    assert_int_equal(g->others, 0);
}

/* The keys that came first are counted, however many others come. */
static void test_keys_are_bounded(void **state)
{
    struct fixture *f = *state;
    char text[32];
    for (unsigned int i = 0; i < 3 * LIMIT_REPORT_KEYS; i++) {
        struct entity *row = lead_of(f, 0, on_day(1));
        (void)snprintf(text, sizeof text, "%u", i % (2 * LIMIT_REPORT_KEYS));
        struct span copy;
        assert_true(arena_copy(&f->arena, span_of(text), &copy));
        entity_add_text(row, "Campaign", copy);
        add(f, row);
        arena_reset(&f->arena);
    }
    const struct tally_group *g = &tally_finish(f->tally)->groups[TALLY_CAMPAIGN];
    assert_int_equal(g->count, LIMIT_REPORT_KEYS);
    assert_int_equal(g->others, LIMIT_REPORT_KEYS);
    for (size_t i = 0; i < g->count; i++)
        assert_int_equal(g->counts[i].leads, 2);
}

/* All kinds of keys as long as they may be, and longer: memory is enough. */
static void test_long_keys(void **state)
{
    static const char *const columns[] = {"Action", "Country", "Source", "Campaign", "OfferDisplayName"};
    struct fixture *f = *state;
    char text[400];
    for (unsigned int i = 0; i < LIMIT_REPORT_KEYS + 1; i++) {
        (void)snprintf(text, sizeof text, "%0255u", i); /* as long as a key is kept */
        memset(text + 255, 'x', sizeof text - 256);
        text[sizeof text - 1] = '\0';
        struct entity *row = lead_of(f, 0, on_day(1));
        row->partition_key = span_cut(span_of(text), 0, 255);
        for (size_t k = 0; k < COUNT(columns); k++)
            entity_add_text(row, columns[k], span_of(text));
        add(f, row);
        arena_reset(&f->arena);
    }
    const struct tally_result *r = tally_finish(f->tally);
    for (size_t i = 0; i < TALLY_GROUPS; i++) {
        assert_int_equal(r->groups[i].count, LIMIT_REPORT_KEYS);
        assert_int_equal(r->groups[i].others, 1);
        assert_int_equal(r->groups[i].counts[0].key.len, TALLY_KEY_BYTES);
    }
}

static void test_titles(void **state)
{
    static const struct {
        int day;
        const char *title;
    } rows[] = {{2, "Old"}, {5, "New"}, {3, "Between"}, {7, ""}, {7, " "}};
    struct fixture *f = *state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct entity *row = lead_of(f, 1, on_day(rows[i].day));
        entity_add_text(row, "OfferDisplayName", span_of(rows[i].title));
        add(f, row);
    }
    const struct tally_result *r = tally_finish(f->tally);
    assert_true(span_eq(r->groups[TALLY_OFFER].counts[0].title, SPAN_LIT("New")));
    assert_true(span_eq(r->groups[TALLY_OFFER].counts[0].key, SPAN_LIT("contoso.app")));
}

static void test_customers_are_bounded(void **state)
{
    struct fixture *f = *state;
    for (unsigned int i = 1; i <= LIMIT_REPORT_CUSTOMERS + 2; i++) {
        add(f, lead_of(f, i, on_day(0)));
        arena_reset(&f->arena);
    }
    add(f, lead_of(f, 5, on_day(1)));
    const struct tally_result *r = tally_finish(f->tally);
    assert_true(r->has_more_customers);
    assert_int_equal(r->new_customers, LIMIT_REPORT_CUSTOMERS);
    assert_int_equal(r->days[0].nobody, 2);
    assert_int_equal(r->days[1].further, 1);
}

/* --- mail ---------------------------------------------------------------------------------------------------- */

static void test_mail(void **state)
{
    static const struct {
        int64_t last_ms, mailed_ms; /* behind the receipt; -1: none */
    } rows[] = {
        {0, 0},
        {0, 10000},
        {0, 10001},
        {0, CLOCK_DAY_MS},
        {0, CLOCK_DAY_MS + 1},
        {0, -1},
        {HOUR_MS, HOUR_MS + 5},     /* within the window it is not mailed again */
        {HOUR_MS + 1, 5},           /* the mail about the later one is still to come */
        {HOUR_MS + 1, HOUR_MS + 5}, /* it was sent: nobody knows of the first one */
        {2 * CLOCK_DAY_MS, 3 * CLOCK_DAY_MS},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct entity *row = lead_of(f, 1, on_day(1));
        entity_add_time(row, "LastReceivedTime", on_day(1) + rows[i].last_ms);
        if (rows[i].mailed_ms >= 0)
            entity_add_time(row, "NotifiedTime", on_day(1) + rows[i].mailed_ms);
        add(f, row);
    }
    const struct tally_mail *mail = &tally_finish(f->tally)->mail;
    assert_int_equal(mail->waiting, 1);
    assert_int_equal(mail->again, 2);
    assert_int_equal(mail->times.count, 7);
    assert_int_equal(mail->times.most_ms, CLOCK_DAY_MS + 1);
    const uint64_t within[TALLY_SPEEDS] = {3, 1, 0, 0, 2, 1};
    assert_memory_equal(mail->within, within, sizeof within);
}

/* --- the newest ---------------------------------------------------------------------------------------------- */

static void test_newest(void **state)
{
    static const int days[] = {3, 1, 9, 2, 9, 4, 0, 9};
    struct fixture *f = *state;
    char id[8];
    for (size_t i = 0; i < COUNT(days); i++) {
        struct entity *row = lead_of(f, 1, on_day(days[i]));
        (void)snprintf(id, sizeof id, "id-%zu", i);
        entity_add_text(row, "DeliveryId", span_of(id));
        add(f, row); /* copies */
    }
    const struct tally_result *r = tally_finish(f->tally);
    assert_int_equal(r->newest_count, NEWEST);
    static const char *const want[] = {"id-2", "id-4", "id-7"}; /* of the same time the first one first */
    for (size_t i = 0; i < NEWEST; i++)
        assert_true(span_eq(r->newest[i]->fields[FIELD_DELIVERY_ID], span_of(want[i])));
}

static void test_newest_without_persons(void **state)
{
    static const struct tally_options options = {
        .since_ms = SINCE_MS, .days = DAYS, .newest = NEWEST, .details = TALLY_NOT_PERSONAL};
    static const char *const columns[] = {"FirstName", "LastName", "Title", "Company", "Email", "Phone"};
    struct fixture *f = *state;
    struct fail why;
    tally_free(f->tally);
    assert_int_equal(tally_new(&options, &f->tally, &why), ST_OK);
    struct entity *row = lead_of(f, 0, on_day(1));
    for (size_t i = 0; i < COUNT(columns); i++)
        entity_add_text(row, columns[i], SPAN_LIT("Marked 7"));
    entity_add_text(row, "Country", SPAN_LIT("US"));
    add(f, row);
    const struct tally_result *r = tally_finish(f->tally);
    assert_int_equal(report_page(&f->out, r, on_day(2), &why), ST_OK);
    assert_null(strstr(f->out.data, "Marked"));
    assert_non_null(strstr(f->out.data, "<bdi>US</bdi>"));
    for (size_t i = 0; i < sizeof r->newest[0]->text - 6; i++)
        assert_memory_not_equal(r->newest[0]->text + i, "Marked", 6);
}

/* --- the page ------------------------------------------------------------------------------------------------ */

static void test_scale(void **state)
{
    static const struct {
        uint64_t most;
        unsigned int steps;
        uint64_t step, top;
    } rows[] = {{0, 5, 1, 1},
                {1, 5, 1, 1},
                {5, 5, 1, 5},
                {6, 5, 2, 6},
                {11, 5, 5, 15},
                {26, 5, 10, 30},
                {51, 5, 20, 60},
                {100, 4, 50, 100},
                {41, 4, 20, 60},
                {101, 5, 50, 150},
                {99999, 4, 50000, 100000}};
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct plot_scale got = plot_scale_of(rows[i].most, rows[i].steps);
        if (got.step != rows[i].step || got.top != rows[i].top)
            fail_msg("%u: step %u, top %u", (unsigned int)rows[i].most, (unsigned int)got.step,
                     (unsigned int)got.top);
    }
    for (uint64_t most = 1; most < 5000; most++) {
        struct plot_scale got = plot_scale_of(most, 5);
        assert_true(got.top >= most && got.top <= 5 * got.step && got.top % got.step == 0);
    }
}

static void same(struct fixture *f, const char *want)
{
    assert_string_equal(f->out.data ? f->out.data : "", want);
    buf_reset(&f->out);
}

static void test_words(void **state)
{
    static const struct {
        int64_t ms;
        const char *want;
    } times[] = {{-5, "0.0&nbsp;s"},
                 {0, "0.0&nbsp;s"},
                 {49, "0.0&nbsp;s"},
                 {50, "0.1&nbsp;s"},
                 {4149, "4.1&nbsp;s"},
                 {59949, "59.9&nbsp;s"},
                 {59950, "1&nbsp;min 0&nbsp;s"},
                 {125499, "2&nbsp;min 5&nbsp;s"},
                 {3599449, "59&nbsp;min 59&nbsp;s"},
                 {3599500, "1&nbsp;h 0&nbsp;min"},
                 {86369999, "23&nbsp;h 59&nbsp;min"},
                 {86370000, "1&nbsp;d 0&nbsp;h"},
                 {183600000, "2&nbsp;d 3&nbsp;h"}};
    static const struct {
        uint64_t count;
        const char *want;
    } counts[] = {{0, "0"},
                  {7, "7"},
                  {999, "999"},
                  {1000, "1,000"},
                  {1234567, "1,234,567"},
                  {1000001, "1,000,001"},
                  {20050, "20,050"}};
    struct fixture *f = *state;
    for (size_t i = 0; i < COUNT(times); i++) {
        html_add_duration(&f->out, times[i].ms);
        same(f, times[i].want);
    }
    for (size_t i = 0; i < COUNT(counts); i++) {
        html_add_count(&f->out, counts[i].count);
        same(f, counts[i].want);
    }
    html_add_counted(&f->out, 1, "lead");
    same(f, "1 lead");
    html_add_counted(&f->out, 2000, "lead");
    same(f, "2,000 leads");
    html_add_share(&f->out, 1, 3);
    same(f, "33&nbsp;%");
    html_add_share(&f->out, 3, 301); /* 0.997 of a hundredth */
    same(f, "&lt;1&nbsp;%");
    html_add_share(&f->out, 3, 300);
    same(f, "1&nbsp;%");
    html_add_share(&f->out, 2, 3);
    same(f, "67&nbsp;%");
    html_add_share(&f->out, 1, 1000);
    same(f, "&lt;1&nbsp;%");
    html_add_share(&f->out, 0, 5);
    same(f, "0&nbsp;%");
    html_add_day(&f->out, SINCE_MS, DAY_SHORT);
    same(f, "04 Oct");
    html_add_day(&f->out, SINCE_MS, DAY_OF_WEEK);
    same(f, "Fri, 04 Oct 2024");
    html_add_day(&f->out, SINCE_MS + 9 * HOUR_MS, DAY_AND_MINUTE);
    same(f, "04 Oct 2024 09:00");
    html_add_outside(&f->out, SPAN_LIT("<b>\r\n\xE2\x80\xAEx\xFF"));
    same(f, "<bdi>&lt;b&gt;  \xEF\xBF\xBDx\xEF\xBF\xBD</bdi>");
}

/* The longest text takes its room in every place at once. */
static void test_longest_page(void **state)
{
    static const struct tally_options options = {
        .since_ms = SINCE_MS, .days = LIMIT_REPORT_DAYS, .newest = LIMIT_REPORT_NEWEST};
    static const char *const columns[] = {"Action",    "Country",  "Source",  "Campaign", "OfferDisplayName",
                                          "FirstName", "LastName", "Company", "Title",    "Email",
                                          "Phone"};
    struct fixture *f = *state;
    struct fail why;
    char text[256];
    tally_free(f->tally);
    assert_int_equal(tally_new(&options, &f->tally, &why), ST_OK);
    for (unsigned int i = 0; i < 3 * LIMIT_REPORT_DAYS; i++) {
        memset(text, '"', sizeof text - 1); /* "&quot;" is the longest entity */
        (void)snprintf(text, sizeof text, "%u", i % 50);
        text[strlen(text)] = '"';
        text[sizeof text - 1] = '\0';
        struct entity *row = lead_of(f, i % 3, SINCE_MS + i / 3 * CLOCK_DAY_MS);
        row->partition_key = span_of(text);
        for (size_t k = 0; k < COUNT(columns); k++)
            entity_add_text(row, columns[k], span_of(text));
        add(f, row);
        arena_reset(&f->arena);
    }
    assert_int_equal(report_page(&f->out, tally_finish(f->tally), SINCE_MS, &why), ST_OK);
    assert_in_range(f->out.len, LIMIT_REPORT_BYTES / 16, LIMIT_REPORT_BYTES / 2);
}

#define TEST(function) cmocka_unit_test_setup_teardown(function, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_quantiles),
        TEST(test_quantiles_of_few),
        TEST(test_quantile_buckets),
        TEST(test_days),
        TEST(test_week),
        TEST(test_customers),
        TEST(test_nobody),
        TEST(test_left_out),
        TEST(test_groups),
        TEST(test_keys_are_bounded),
        TEST(test_long_keys),
        TEST(test_titles),
        TEST(test_customers_are_bounded),
        TEST(test_mail),
        TEST(test_newest),
        TEST(test_newest_without_persons),
        TEST(test_scale),
        TEST(test_words),
        TEST(test_longest_page),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
