/* Dates: regular expressions for the forms that are documented, and the C library's calendar, say the same. */
#include "tests/fuzz/fuzz.h"

#include <regex.h>
#include <strings.h>
#include <time.h>

#include "lib/base/date_read.h"

CHECKS_BEGIN

enum { TEXT_BYTES = 128, GROUPS = 24 };
#define YEAR_10000 253402300800LL /* in seconds since 1970 */

#define WEEKDAY                                                                                              \
    "((mon|monday|tue|tuesday|wed|wednesday|thu|thursday|fri|friday|sat|saturday|sun|sunday),? +)?"
#define MONTH                                                                                                \
    "(jan|january|feb|february|mar|march|apr|april|may|jun|june|jul|july|aug|august|sep|september|oct|"      \
    "october|nov|november|dec|december)"
#define TIME                                                                                                 \
    "(,?( +|T)([0-9]{1,2}):([0-9]{2})(:([0-9]{2}))?([.]([0-9]+))?( *(am|pm))?( *(z|utc|gmt|([+-])([0-9]{2})" \
    "(:?([0-9]{2}))?))?)? *$"
#define TWO "([0-9]{1,2})"

/* Groups 1 and 2 are the weekday; which of the next are year, month and day; how many there are before the time. */
static const struct form {
    const char *pattern;
    int year, month, day, before_time;
    unsigned int orders;
} FORMS[] = {
    {"^ *" WEEKDAY "([0-9]{4})([-/.])" TWO "\\4" TWO TIME, 3, 5, 6, 6,
     DATE_IS_ISO | DATE_IS_DMY | DATE_IS_MDY},
    {"^ *" WEEKDAY TWO "[.]" TWO "[.]([0-9]{4})" TIME, 5, 4, 3, 5, DATE_IS_ISO | DATE_IS_DMY},
    {"^ *" WEEKDAY TWO "([-/])" TWO "\\4([0-9]{4})" TIME, 6, 5, 3, 6, DATE_IS_DMY},
    {"^ *" WEEKDAY TWO "([-/])" TWO "\\4([0-9]{4})" TIME, 6, 3, 5, 6, DATE_IS_MDY},
    {"^ *" WEEKDAY TWO " +" MONTH " +([0-9]{4})" TIME, 5, 4, 3, 5, DATE_IS_ISO | DATE_IS_DMY | DATE_IS_MDY},
    {"^ *" WEEKDAY TWO "-" MONTH "-([0-9]{4})" TIME, 5, 4, 3, 5, DATE_IS_ISO | DATE_IS_DMY | DATE_IS_MDY},
    {"^ *" WEEKDAY MONTH " +" TWO "(, *| +)([0-9]{4})" TIME, 6, 3, 4, 6,
     DATE_IS_ISO | DATE_IS_DMY | DATE_IS_MDY},
};

static int number(const char *text, regmatch_t group)
{
    int value = 0;
    for (regoff_t i = group.rm_so; group.rm_so >= 0 && i < group.rm_eo; i++)
        value = value * 10 + (text[i] - '0');
    return value;
}

static int month_of(const char *text, regmatch_t group)
{
    static const char names[] = "jan feb mar apr may jun jul aug sep oct nov dec ";
    for (int i = 0; i < 12; i++) {
        if (strncasecmp(text + group.rm_so, names + 4 * i, 3) == 0)
            return i + 1;
    }
    return number(text, group);
}

/* The first three digits behind the point. */
static int thousandths(const char *text, regmatch_t group)
{
    int ms = 0;
    for (int i = 0; i < 3; i++) {
        bool has = group.rm_so >= 0 && group.rm_so + i < group.rm_eo;
        ms = ms * 10 + (has ? text[group.rm_so + i] - '0' : 0);
    }
    return ms;
}

/* What the form makes of the text; false: no such time. */
static bool date_of(const struct form *form, const char *text, const regmatch_t *groups, struct date *date)
{
    const regmatch_t *t = groups + form->before_time; /* t[1] is all of the time */
    int year = number(text, groups[form->year]), month = month_of(text, groups[form->month]);
    int day = number(text, groups[form->day]), hour = number(text, t[3]), minute = number(text, t[4]);
    int second = number(text, t[6]), zone = number(text, t[14]) * 60 + number(text, t[16]);
    if (t[10].rm_so >= 0) {
        if (hour < 1 || hour > 12)
            return false;
        hour = hour % 12 + (text[t[10].rm_so] == 'p' || text[t[10].rm_so] == 'P' ? 12 : 0);
    }
    struct tm tm = {.tm_year = year - 1900, .tm_mon = month - 1, .tm_mday = day};
    time_t midnight = timegm(&tm);
    if (year < 1970 || month < 1 || month > 12 || tm.tm_mday != day || tm.tm_mon != month - 1 || hour > 23 ||
        minute > 59 || second > 60 || number(text, t[14]) > 14 || number(text, t[16]) > 59)
        return false;
    int64_t local = (int64_t)midnight + hour * 3600 + minute * 60 + second;
    if (local >= YEAR_10000) /* only a leap second gets there */
        return false;
    bool is_west = t[13].rm_so >= 0 && text[t[13].rm_so] == '-';
    date->ms = (local + (is_west ? zone : -zone) * 60) * 1000 + thousandths(text, t[8]);
    date->has_time = t[1].rm_so >= 0;
    return true;
}

/* All blanks are one kind; false: it is no text of which a date can be made. */
static bool copy_text(struct span s, char text[TEXT_BYTES])
{
    size_t len = 0;
    while (s.len && len + 1 < TEXT_BYTES) {
        struct span nbsp = SPAN_LIT("\xC2\xA0"), narrow = SPAN_LIT("\xE2\x80\xAF");
        size_t blank = span_starts(s, nbsp)     ? nbsp.len
                       : span_starts(s, narrow) ? narrow.len
                       : s.ptr[0] == '\t'       ? 1
                                                : 0;
        text[len++] = blank ? ' ' : s.ptr[0];
        s = span_from(s, blank ? blank : 1);
    }
    text[len] = '\0';
    return strlen(text) == len && s.len == 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static regex_t compiled[COUNT(FORMS)];
    static bool is_compiled;
    struct span s = {(const char *)data, size < TEXT_BYTES - 1 ? size : TEXT_BYTES - 1};
    struct date want[DATE_MDY + 1], got;
    char text[TEXT_BYTES];
    unsigned int orders = 0;
    for (size_t i = 0; i < COUNT(FORMS) && !is_compiled; i++)
        CHECK(regcomp(&compiled[i], FORMS[i].pattern, REG_EXTENDED | REG_ICASE) == 0);
    is_compiled = true;
    bool is_text = copy_text(s, text);
    for (size_t i = 0; i < COUNT(FORMS) && is_text; i++) {
        regmatch_t groups[GROUPS];
        struct date date;
        if (regexec(&compiled[i], text, GROUPS, groups, 0) != 0 || !date_of(&FORMS[i], text, groups, &date))
            continue;
        CHECK((orders & FORMS[i].orders) == 0); /* no two forms are the same text */
        orders |= FORMS[i].orders;
        for (enum date_order order = DATE_ISO; order <= DATE_MDY; order++) {
            if (FORMS[i].orders & 1u << order)
                want[order] = date;
        }
    }
    CHECK(date_orders(s) == orders);
    for (enum date_order order = DATE_ISO; order <= DATE_MDY; order++) {
        bool taken = date_read(s, order, &got);
        CHECK(taken == ((orders & 1u << order) != 0));
        CHECK(!taken || (got.ms == want[order].ms && got.has_time == want[order].has_time));
    }
    return 0;
}

CHECKS_END
