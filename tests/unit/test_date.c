/* Dates as people and spreadsheets write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base/clock.h"
#include "lib/base/date_read.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

enum { ALL = DATE_IS_ISO | DATE_IS_DMY | DATE_IS_MDY };

/* When the text is a date, in all its orders, and which these are. */
static void test_dates(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned int orders;
        const char *want; /* in the first of its orders: ISO, day first, month first */
        bool has_time;
    } rows[] = {
        {"2026-11-21", ALL, "2026-11-21T00:00:00.000Z", false},
        {" 2026-1-2\t", ALL, "2026-01-02T00:00:00.000Z", false},
        {"2026/11/21", ALL, "2026-11-21T00:00:00.000Z", false},
        {"2026-11-21T10:20:30Z", ALL, "2026-11-21T10:20:30.000Z", true},
        {"2026-11-21T10:20:30.1234567Z", ALL, "2026-11-21T10:20:30.123Z", true},
        {"2026-11-21 10:20", ALL, "2026-11-21T10:20:00.000Z", true},
        {"2026-11-21 10:20:30 +00:00", ALL, "2026-11-21T10:20:30.000Z", true},
        {"2026-11-21T00:20:30+01:00", ALL, "2026-11-20T23:20:30.000Z", true},
        {"2026-12-31 23:20:30 -0130", ALL, "2027-01-01T00:50:30.000Z", true},
        {"2026-11-21T10:20:30+02", ALL, "2026-11-21T08:20:30.000Z", true},
        {"2026-11-21T10:20:30+02 ", ALL, "2026-11-21T08:20:30.000Z", true},
        {"2026-11-21 10:20:30 UTC", ALL, "2026-11-21T10:20:30.000Z", true},
        /* which is the month? */
        {"11/21/2026", DATE_IS_MDY, "2026-11-21T00:00:00.000Z", false},
        {"21/11/2026", DATE_IS_DMY, "2026-11-21T00:00:00.000Z", false},
        {"1/30/2026 2:05:33 PM", DATE_IS_MDY, "2026-01-30T14:05:33.000Z", true},
        {"1/30/2026 2:05:33\xE2\x80\xAFPM", DATE_IS_MDY, "2026-01-30T14:05:33.000Z", true},
        {"1/30/2026 12:05 am", DATE_IS_MDY, "2026-01-30T00:05:00.000Z", true},
        {"1/30/2026 12:05 PM +00:00", DATE_IS_MDY, "2026-01-30T12:05:00.000Z", true},
        {"1/30/2026, 9:05:00 AM", DATE_IS_MDY, "2026-01-30T09:05:00.000Z", true},
        {"3/4/2026", DATE_IS_DMY | DATE_IS_MDY, "2026-04-03T00:00:00.000Z", false},
        {"03-04-2026 07:08", DATE_IS_DMY | DATE_IS_MDY, "2026-04-03T07:08:00.000Z", true},
        {"21.11.2026 10:20", DATE_IS_ISO | DATE_IS_DMY, "2026-11-21T10:20:00.000Z", true},
        {"3.4.2026", DATE_IS_ISO | DATE_IS_DMY, "2026-04-03T00:00:00.000Z", false},
        /* names */
        {"21 Nov 2026", ALL, "2026-11-21T00:00:00.000Z", false},
        {"21-NOV-2026 10:20", ALL, "2026-11-21T10:20:00.000Z", true},
        {"Nov 21, 2026", ALL, "2026-11-21T00:00:00.000Z", false},
        {"november 1 2026 1:02 AM", ALL, "2026-11-01T01:02:00.000Z", true},
        {"Sat, 21 Nov 2026 10:20:30 GMT", ALL, "2026-11-21T10:20:30.000Z", true},
        {"Saturday, November 21, 2026 1:20:30 PM", ALL, "2026-11-21T13:20:30.000Z", true},
        {"29 Feb 2028", ALL, "2028-02-29T00:00:00.000Z", false},
        /* no dates */
        {"", 0, "", false},
        {" ", 0, "", false},
        {"yesterday", 0, "", false},
        {"29 Feb 2026", 0, "", false},
        {"31/31/2026", 0, "", false},
        {"2026-13-01", 0, "", false},
        {"2026-00-01", 0, "", false},
        {"2026-11-00", 0, "", false},
        {"2026-11/21", 0, "", false},
        {"21.11/2026", 0, "", false},
        {"21/11/26", 0, "", false},
        {"1969-12-31", 0, "", false},
        {"12026-11-21", 0, "", false},
        {"2026-11-21x", 0, "", false},
        {"2026-11-21 x", 0, "", false},
        {"2026-11-21T", 0, "", false},
        {"2026-11-21 10", 0, "", false},
        {"2026-11-21 24:00", 0, "", false},
        {"2026-11-21 10:60", 0, "", false},
        {"2026-11-21 10:20:30.", 0, "", false},
        {"2026-11-21 13:20 PM", 0, "", false},
        {"2026-11-21 0:20 PM", 0, "", false},
        {"2026-11-21 10:20 PMx", 0, "", false},
        {"2026-11-21 10:20 CET", 0, "", false},
        {"2026-11-21 10:20 +15:00", 0, "", false},
        {"2026-11-21 10:20 +01:60", 0, "", false},
        {"2026-11-21 10:20 +1", 0, "", false},
        {"2026-11-21 10:20 +01:", 0, "", false},
        {"21 Nove 2026", 0, "", false},
        {"21Nov2026", 0, "", false},
        {"Nov 21,", 0, "", false},
        {"Sat,21 Nov 2026", 0, "", false},
        {"45980", 0, "", false}, /* the number that Excel keeps: it says nothing to a person either */
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        unsigned int orders = date_orders(span_of(rows[i].text));
        if (orders != rows[i].orders)
            fail_msg("'%s': got orders %u, want %u", rows[i].text, orders, rows[i].orders);
        bool is_first = true;
        for (enum date_order order = DATE_ISO; order <= DATE_MDY; order++) {
            struct date date;
            char text[CLOCK_TEXT_BYTES];
            if (!date_read(span_of(rows[i].text), order, &date) || !is_first)
                continue;
            is_first = false;
            clock_iso_time(date.ms, text);
            if (!span_eq(span_of(text), span_of(rows[i].want)) || date.has_time != rows[i].has_time)
                fail_msg("'%s': got %s%s, want %s", rows[i].text, text, date.has_time ? " with a time" : "",
                         rows[i].want);
        }
    }
}

static void test_orders_differ(void **state)
{
    (void)state;
    struct date dmy, mdy;
    assert_true(date_read(SPAN_LIT("03/04/2026"), DATE_DMY, &dmy));
    assert_true(date_read(SPAN_LIT("04/03/2026"), DATE_MDY, &mdy));
    assert_true(dmy.ms == mdy.ms);
    assert_false(date_read(SPAN_LIT("03/03/2026"), DATE_ISO, &mdy));
    assert_false(date_read(SPAN_LIT("03.04.2026"), DATE_MDY, &mdy));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dates),
        cmocka_unit_test(test_orders_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
