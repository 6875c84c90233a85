#include "lib/base/clock.h"

/* System */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char DAYS[7][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
static const char MONTHS[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                   "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

#define LAST_SECOND INT64_C(253402300799) /* of the year 9999 */

static int64_t now_us(clockid_t id)
{
    struct timespec now;
    (void)clock_gettime(id, &now); /* cannot fail for these two clocks */
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

#ifdef LEADHOOK_TEST_CLOCK
static int64_t test_number(const char *name, int64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoll(text, NULL, 10) : otherwise;
}
#else
static int64_t test_number(const char *name, int64_t otherwise)
{
    (void)name;
    return otherwise;
}
#endif

int64_t clock_wall_ms(void)
{
    return now_us(CLOCK_REALTIME) / 1000 + test_number("LEADHOOK_TEST_CLOCK_OFFSET_MS", 0);
}

/* What is added to the wall clock to have the right time. */
static _Atomic int64_t wrong_by_ms;

void clock_note_true_ms(int64_t true_ms)
{
    int64_t by_ms = true_ms - clock_wall_ms();
    bool is_wrong = by_ms > CLOCK_TRUSTED_MS || by_ms < -CLOCK_TRUSTED_MS;
    atomic_store(&wrong_by_ms, is_wrong ? by_ms : 0);
}

int64_t clock_true_ms(void)
{
    return clock_wall_ms() + atomic_load(&wrong_by_ms);
}

int64_t clock_long_wait_ms(int64_t ms)
{
    int64_t hurry = test_number("LEADHOOK_TEST_HURRY", 1);
    return hurry > 1 ? ms / hurry : ms;
}

int64_t clock_monotonic_ms(void)
{
    return now_us(CLOCK_MONOTONIC) / 1000;
}

int64_t clock_monotonic_us(void)
{
    return now_us(CLOCK_MONOTONIC);
}

/* Splits into UTC fields; gives the milliseconds within the second. */
static int split(int64_t wall_ms, struct tm *tm)
{
    int64_t ms = wall_ms % 1000;
    time_t seconds = (time_t)(wall_ms / 1000);
    if (ms < 0) {
        ms += 1000;
        seconds--;
    }
    if (!gmtime_r(&seconds, tm)) {
        seconds = 0;
        (void)gmtime_r(&seconds, tm);
    }
    return (int)ms;
}

static void date_with_zone(int64_t wall_ms, const char *zone, char text[CLOCK_TEXT_BYTES])
{
    struct tm tm;
    (void)split(wall_ms, &tm);
    (void)snprintf(text, CLOCK_TEXT_BYTES, "%s, %02d %s %04d %02d:%02d:%02d %s", DAYS[tm.tm_wday], tm.tm_mday,
                   MONTHS[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec, zone);
}

void clock_http_date(int64_t wall_ms, char text[CLOCK_TEXT_BYTES])
{
    date_with_zone(wall_ms, "GMT", text);
}

void clock_mail_date(int64_t wall_ms, char text[CLOCK_TEXT_BYTES])
{
    date_with_zone(wall_ms, "+0000", text);
}

void clock_iso_time(int64_t wall_ms, char text[CLOCK_TEXT_BYTES])
{
    struct tm tm;
    int ms = split(wall_ms, &tm);
    /* Six of these are written for a lead: snprintf would take a twentieth of its whole time. */
    const int year = tm.tm_year + 1900;
    const struct {
        int value;
        size_t digits;
        char behind;
    } parts[] = {{year >= 0 && year <= 9999 ? year : 0, 4, '-'},
                 {tm.tm_mon + 1, 2, '-'},
                 {tm.tm_mday, 2, 'T'},
                 {tm.tm_hour, 2, ':'},
                 {tm.tm_min, 2, ':'},
                 {tm.tm_sec, 2, '.'},
                 {ms, 3, 'Z'}};
    char *at = text;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        int value = parts[i].value;
        for (size_t k = parts[i].digits; k > 0; k--, value /= 10)
            at[k - 1] = (char)('0' + value % 10);
        at[parts[i].digits] = parts[i].behind;
        at += parts[i].digits + 1;
    }
    *at = '\0';
}

void clock_minute_words(int64_t wall_ms, char text[CLOCK_TEXT_BYTES])
{
    char iso[CLOCK_TEXT_BYTES];
    clock_iso_time(wall_ms, iso);
    (void)snprintf(text, CLOCK_TEXT_BYTES, "%.10s %.5s UTC", iso, iso + 11);
}

/* Reads len digits at *at and moves on; false when there are none. */
static bool digits(struct span text, size_t *at, size_t len, int *value)
{
    uint64_t number;
    if (*at + len > text.len || !span_to_u64(span_cut(text, *at, len), 9999, &number))
        return false;
    *at += len;
    *value = (int)number;
    return true;
}

static bool literal(struct span text, size_t *at, const char *expected)
{
    struct span want = span_of(expected);
    if (!span_starts(span_from(text, *at), want))
        return false;
    *at += want.len;
    return true;
}

/* Joins checked fields; false for a date that does not exist. */
static bool join(const struct tm *tm, int64_t *wall_ms)
{
    if (tm->tm_hour > 23 || tm->tm_min > 59 || tm->tm_sec > 60 || tm->tm_year < 1601 - 1900)
        return false;
    struct tm copy = *tm;
    copy.tm_sec = 0; /* added below: a leap second would move the day */
    time_t minute = timegm(&copy);
    /* timegm normalizes 31 February to March: then the months no longer agree. */
    if (copy.tm_mon != tm->tm_mon)
        return false;
    int64_t second = (int64_t)minute + tm->tm_sec;
    if (second > LAST_SECOND)
        return false; /* a leap second behind the last year that can be written */
    *wall_ms = second * 1000;
    return true;
}

bool clock_parse_http_date(struct span text, int64_t *wall_ms)
{
    struct tm tm = {0};
    size_t at = 5; /* the day's name says nothing that the date does not */
    if (text.len != 29 || text.ptr[3] != ',' || text.ptr[4] != ' ' || !digits(text, &at, 2, &tm.tm_mday) ||
        !literal(text, &at, " "))
        return false;
    for (tm.tm_mon = 0; tm.tm_mon < 12; tm.tm_mon++) {
        if (span_eq(span_cut(text, at, 3), span_of(MONTHS[tm.tm_mon])))
            break;
    }
    at += 3;
    if (tm.tm_mon == 12 || !literal(text, &at, " ") || !digits(text, &at, 4, &tm.tm_year) ||
        !literal(text, &at, " ") || !digits(text, &at, 2, &tm.tm_hour) || !literal(text, &at, ":") ||
        !digits(text, &at, 2, &tm.tm_min) || !literal(text, &at, ":") || !digits(text, &at, 2, &tm.tm_sec) ||
        !literal(text, &at, " GMT"))
        return false;
    tm.tm_year -= 1900;
    return join(&tm, wall_ms);
}

bool clock_parse_iso_time(struct span text, int64_t *wall_ms)
{
    struct tm tm = {0};
    size_t at = 0;
    if (!digits(text, &at, 4, &tm.tm_year) || !literal(text, &at, "-") || !digits(text, &at, 2, &tm.tm_mon) ||
        !literal(text, &at, "-") || !digits(text, &at, 2, &tm.tm_mday) || !literal(text, &at, "T") ||
        !digits(text, &at, 2, &tm.tm_hour) || !literal(text, &at, ":") || !digits(text, &at, 2, &tm.tm_min) ||
        !literal(text, &at, ":") || !digits(text, &at, 2, &tm.tm_sec))
        return false;
    int ms = 0;
    if (literal(text, &at, ".")) {
        int weight = 100, count = 0, digit;
        for (; digits(text, &at, 1, &digit); count++) {
            ms += digit * weight;
            weight /= 10;
        }
        if (count == 0 || count > 7)
            return false;
    }
    if (!literal(text, &at, "Z") || at != text.len || tm.tm_mon < 1 || tm.tm_mon > 12)
        return false;
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    if (!join(&tm, wall_ms))
        return false;
    *wall_ms += ms;
    return true;
}
