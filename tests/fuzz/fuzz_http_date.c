/* Times: HTTP dates and RFC 3339, read and written, against the C library and libcurl. */
#include "tests/fuzz/fuzz.h"

#include <curl/curl.h>
#include <time.h>

#include "lib/base/clock.h"

CHECKS_BEGIN

#define FIRST_MS (-11644473600000) /* 1601-01-01T00:00:00Z */
#define LAST_MS  253402300799999   /* 9999-12-31T23:59:59.999Z */

static const char HTTP_FORM[] = "Aaa, 00 Aaa 0000 00:00:00 GMT";

static bool has_form(struct span text, const char *form)
{
    bool good = text.len == strlen(form);
    for (size_t i = 0; good && form[i]; i++) {
        char c = text.ptr[i];
        if (form[i] == '0')
            good = c >= '0' && c <= '9';
        else if (form[i] != 'A' && form[i] != 'a')
            good = c == form[i];
    }
    return good;
}

static int digits(const char *text, size_t len)
{
    int value = 0;
    for (size_t i = 0; i < len; i++)
        value = value * 10 + text[i] - '0';
    return value;
}

static bool is_leap_second(const char *seconds)
{
    return seconds[0] == '6' && seconds[1] == '0';
}

/* What the C library says of the fields; false: there is no such time. */
static bool join(int year, int month, int day, const char *clock, int64_t *ms)
{
    struct tm tm = {.tm_year = year - 1900,
                    .tm_mon = month,
                    .tm_mday = day,
                    .tm_hour = digits(clock, 2),
                    .tm_min = digits(clock + 3, 2)};
    struct tm given = tm;
    time_t minute = timegm(&tm);
    if (month < 0 || month > 11 || tm.tm_mon != given.tm_mon || tm.tm_mday != day || given.tm_hour > 23 ||
        given.tm_min > 59 || digits(clock + 6, 2) > 60 || year < 1601)
        return false;
    *ms = ((int64_t)minute + digits(clock + 6, 2)) * 1000;
    return *ms <= LAST_MS;
}

static void check_http(struct span text)
{
    static const char months[] = "JanFebMarAprMayJunJulAugSepOctNovDec";
    char copy[CLOCK_TEXT_BYTES], again[CLOCK_TEXT_BYTES];
    int64_t ms = 0, want = 0, read_again;
    bool taken = clock_parse_http_date(text, &ms);
    CHECK(!taken || has_form(text, HTTP_FORM));
    if (!has_form(text, HTTP_FORM))
        return;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    char month[4] = {copy[8], copy[9], copy[10], '\0'};
    const char *found = strlen(month) == 3 ? strstr(months, month) : NULL;
    bool good = found && (found - months) % 3 == 0 &&
                join(digits(copy + 12, 4), (int)(found - months) / 3, digits(copy + 5, 2), copy + 17, &want);
    CHECK(taken == good);
    if (!good)
        return;
    CHECK(ms == want);
    clock_http_date(ms, again);
    CHECK(clock_parse_http_date(span_of(again), &read_again) && read_again == ms);
    if (ms > 0 && !is_leap_second(copy + 23)) {
        CHECK(memcmp(copy + 4, again + 4, text.len - 4) == 0);
        CHECK((int64_t)curl_getdate(again, NULL) * 1000 == ms);
    }
}

static void check_iso(struct span text)
{
    static const char form[] = "0000-00-00T00:00:00";
    char again[CLOCK_TEXT_BYTES];
    int64_t ms = 0, want = 0, read_again;
    bool taken = clock_parse_iso_time(text, &ms);
    struct span rest = span_from(text, sizeof form - 1);
    const char *p = text.ptr;
    bool good = has_form(span_cut(text, 0, sizeof form - 1), form) && rest.len &&
                rest.ptr[rest.len - 1] == 'Z' &&
                join(digits(p, 4), digits(p + 5, 2) - 1, digits(p + 8, 2), p + 11, &want);
    if (good && rest.len > 1) { /* a fraction, of which milliseconds count */
        good = rest.ptr[0] == '.' && rest.len >= 3 && rest.len <= 9;
        for (size_t i = 1; good && i + 1 < rest.len; i++) {
            good = rest.ptr[i] >= '0' && rest.ptr[i] <= '9';
            want += i == 1   ? (rest.ptr[i] - '0') * 100
                    : i == 2 ? (rest.ptr[i] - '0') * 10
                    : i == 3 ? rest.ptr[i] - '0'
                             : 0;
        }
    }
    CHECK(taken == good);
    if (!good)
        return;
    CHECK(ms == want);
    clock_iso_time(ms, again);
    CHECK(clock_parse_iso_time(span_of(again), &read_again) && read_again == ms);
}

/* Any time at all is written in its form. */
static void check_written(int64_t ms)
{
    char http[CLOCK_TEXT_BYTES], mail[CLOCK_TEXT_BYTES], iso[CLOCK_TEXT_BYTES];
    int64_t read;
    clock_http_date(ms, http);
    clock_mail_date(ms, mail);
    clock_iso_time(ms, iso);
    CHECK(strlen(http) < CLOCK_TEXT_BYTES && strlen(mail) < CLOCK_TEXT_BYTES);
    CHECK(has_form(span_of(iso), "0000-00-00T00:00:00.000Z"));
    if (ms < FIRST_MS || ms > LAST_MS)
        return;
    CHECK(clock_parse_iso_time(span_of(iso), &read) && read == ms);
    CHECK(clock_parse_http_date(span_of(http), &read) && read <= ms && read > ms - 1000);
    CHECK(has_form(span_of(mail), "Aaa, 00 Aaa 0000 00:00:00 +0000") && memcmp(http, mail, 25) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int64_t ms = 0;
    check_http((struct span){(const char *)data, size});
    check_iso((struct span){(const char *)data, size});
    memcpy(&ms, data, size < sizeof ms ? size : sizeof ms);
    check_written(ms);
    check_written(ms % (LAST_MS + 1));
    return 0;
}

CHECKS_END
