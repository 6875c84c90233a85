#include "lib/base/date_read.h"

/* System */
#include <stdio.h>

/* L0 */
#include "lib/base/clock.h"

enum { YEAR_FIRST = 1970, YEAR_LAST = 9999, MINUTE_MS = 60 * 1000 };

static const char *const MONTHS[] = {"January", "February", "March",     "April",   "May",      "June",
                                     "July",    "August",   "September", "October", "November", "December"};
static const char *const DAYS[] = {"Monday", "Tuesday",  "Wednesday", "Thursday",
                                   "Friday", "Saturday", "Sunday"};
enum { SHORT_NAME = 3 };

struct fields {
    unsigned int year, month, day, hour, minute, second, ms;
    int offset_minutes;
    bool has_time;
};

/* --- pieces of the text; each moves *rest behind what it has taken -------------------------------------------- */

/* Blanks of all kinds: newer versions of .NET put U+202F before AM and PM. */
static bool take_blanks(struct span *rest)
{
    static const char *const blanks[] = {" ", "\t", "\xC2\xA0", "\xE2\x80\xAF"};
    size_t before = rest->len;
    for (size_t i = 0; i < sizeof blanks / sizeof blanks[0];) {
        bool is_one = span_starts(*rest, span_of(blanks[i]));
        if (is_one)
            *rest = span_from(*rest, span_of(blanks[i]).len);
        i = is_one ? 0 : i + 1;
    }
    return rest->len < before;
}

static bool take_char(struct span *rest, char c)
{
    if (rest->len == 0 || rest->ptr[0] != c)
        return false;
    *rest = span_from(*rest, 1);
    return true;
}

/* The digits that come next, at least and at most so many; gives how many, 0: other than that. */
static size_t take_number(struct span *rest, size_t least, size_t most, unsigned int *number)
{
    size_t len = 0;
    unsigned int value = 0;
    for (; len < rest->len && rest->ptr[len] >= '0' && rest->ptr[len] <= '9'; len++) {
        if (len == most)
            return 0;
        value = value * 10 + (unsigned int)(rest->ptr[len] - '0');
    }
    if (len < least)
        return 0;
    *number = value;
    *rest = span_from(*rest, len);
    return len;
}

/* One of the names, whole or its first letters; its number from 1, 0: none of them. */
static unsigned int take_name(struct span *rest, const char *const *names, size_t count)
{
    size_t len = 0;
    while (len < rest->len && char_lower(rest->ptr[len]) >= 'a' && char_lower(rest->ptr[len]) <= 'z')
        len++;
    struct span word = span_cut(*rest, 0, len);
    for (size_t i = 0; i < count; i++) {
        struct span name = span_of(names[i]);
        if (span_eq_nocase(word, name) || span_eq_nocase(word, span_cut(name, 0, SHORT_NAME))) {
            *rest = span_from(*rest, len);
            return (unsigned int)i + 1;
        }
    }
    return 0;
}

static bool take_word(struct span *rest, const char *word)
{
    if (!span_starts_nocase(*rest, span_of(word)))
        return false;
    *rest = span_from(*rest, span_of(word).len);
    return true;
}

static unsigned int take_month(struct span *rest)
{
    return take_name(rest, MONTHS, sizeof MONTHS / sizeof MONTHS[0]);
}

/* --- dates ---------------------------------------------------------------------------------------------------- */

/* 2026-11-21: the same separator twice. */
static bool take_year_first(struct span *rest, struct fields *f)
{
    char separator;
    if (!take_number(rest, 4, 4, &f->year) || rest->len == 0)
        return false;
    separator = rest->ptr[0];
    return (separator == '-' || separator == '/' || separator == '.') && take_char(rest, separator) &&
           take_number(rest, 1, 2, &f->month) && take_char(rest, separator) &&
           take_number(rest, 1, 2, &f->day);
}

/* 21.11.2026, 11/21/2026 */
static bool take_year_last(struct span *rest, enum date_order order, struct fields *f)
{
    unsigned int first, second;
    char separator;
    if (!take_number(rest, 1, 2, &first) || rest->len == 0)
        return false;
    separator = rest->ptr[0];
    if ((separator != '-' && separator != '/' && separator != '.') || !take_char(rest, separator) ||
        !take_number(rest, 1, 2, &second) || !take_char(rest, separator) ||
        !take_number(rest, 4, 4, &f->year))
        return false;
    bool day_first = separator == '.' || order == DATE_DMY;
    f->day = day_first ? first : second;
    f->month = day_first ? second : first;
    return separator == '.' ? order != DATE_MDY : order != DATE_ISO;
}

/* 21 Nov 2026, 21-Nov-2026 */
static bool take_day_and_name(struct span *rest, struct fields *f)
{
    if (!take_number(rest, 1, 2, &f->day))
        return false;
    bool dashes = take_char(rest, '-');
    if (!dashes && !take_blanks(rest))
        return false;
    f->month = take_month(rest);
    return f->month && (dashes ? take_char(rest, '-') : take_blanks(rest)) &&
           take_number(rest, 4, 4, &f->year);
}

/* Nov 21, 2026 */
static bool take_name_and_day(struct span *rest, struct fields *f)
{
    f->month = take_month(rest);
    if (!f->month || !take_blanks(rest) || !take_number(rest, 1, 2, &f->day))
        return false;
    bool comma = take_char(rest, ',');
    return (take_blanks(rest) || comma) && take_number(rest, 4, 4, &f->year);
}

static bool take_date(struct span *rest, enum date_order order, struct fields *f)
{
    struct span begin = *rest;
    if (take_name(rest, DAYS, sizeof DAYS / sizeof DAYS[0])) {
        (void)take_char(rest, ',');
        if (!take_blanks(rest))
            return false;
        begin = *rest;
    }
    if (take_year_first(rest, f))
        return true;
    *rest = begin;
    if (take_year_last(rest, order, f))
        return true;
    *rest = begin;
    if (take_day_and_name(rest, f))
        return true;
    *rest = begin;
    return take_name_and_day(rest, f);
}

/* --- times ---------------------------------------------------------------------------------------------------- */

static bool take_fraction(struct span *rest, struct fields *f)
{
    unsigned int weight = 100, digit;
    bool any = false;
    while (rest->len && rest->ptr[0] >= '0' && rest->ptr[0] <= '9') {
        digit = (unsigned int)(rest->ptr[0] - '0');
        f->ms += digit * weight;
        weight /= 10;
        any = true;
        *rest = span_from(*rest, 1);
    }
    return any;
}

/* The hours of a day: 12 AM is its first. */
static bool take_half(struct span *rest, struct fields *f)
{
    struct span begin = *rest;
    (void)take_blanks(rest);
    bool is_pm = take_word(rest, "PM");
    if (!is_pm && !take_word(rest, "AM")) {
        *rest = begin;
        return true;
    }
    if (f->hour < 1 || f->hour > 12)
        return false;
    f->hour = f->hour % 12 + (is_pm ? 12 : 0);
    return true;
}

static bool take_zone(struct span *rest, struct fields *f)
{
    unsigned int hours, minutes = 0;
    (void)take_blanks(rest);
    if (rest->len == 0 || take_word(rest, "UTC") || take_word(rest, "GMT") || take_word(rest, "Z"))
        return true;
    bool is_west = take_char(rest, '-');
    if ((!is_west && !take_char(rest, '+')) || rest->len < 2)
        return false;
    struct span two = span_cut(*rest, 0, 2);
    if (!take_number(&two, 2, 2, &hours))
        return false;
    *rest = span_from(*rest, 2);
    bool colon = take_char(rest, ':');
    bool has_digit = rest->len && rest->ptr[0] >= '0' && rest->ptr[0] <= '9';
    if ((colon || has_digit) && !take_number(rest, 2, 2, &minutes))
        return false;
    f->offset_minutes = (int)(hours * 60 + minutes) * (is_west ? -1 : 1);
    return hours <= 14 && minutes < 60;
}

static bool take_time(struct span *rest, struct fields *f)
{
    (void)take_char(rest, ',');
    if (!take_blanks(rest) && !take_word(rest, "T"))
        return false;
    if (!take_number(rest, 1, 2, &f->hour) || !take_char(rest, ':') || !take_number(rest, 2, 2, &f->minute))
        return false;
    if (take_char(rest, ':') && !take_number(rest, 2, 2, &f->second))
        return false;
    if (take_char(rest, '.') && !take_fraction(rest, f))
        return false;
    f->has_time = true;
    return take_half(rest, f) && take_zone(rest, f);
}

bool date_read(struct span text, enum date_order order, struct date *date)
{
    struct fields f = {0};
    struct span rest = text;
    char iso[CLOCK_TEXT_BYTES];
    int64_t ms;
    (void)take_blanks(&rest);
    if (!take_date(&rest, order, &f))
        return false;
    struct span behind = rest;
    (void)take_blanks(&behind);
    if (behind.len && !take_time(&rest, &f))
        return false;
    (void)take_blanks(&rest);
    if (rest.len || f.year < YEAR_FIRST || f.year > YEAR_LAST)
        return false;
    (void)snprintf(iso, sizeof iso, "%04u-%02u-%02uT%02u:%02u:%02u.%03uZ", f.year, f.month, f.day, f.hour,
                   f.minute, f.second, f.ms);
    if (!clock_parse_iso_time(span_of(iso), &ms))
        return false;
    *date = (struct date){ms - (int64_t)f.offset_minutes * MINUTE_MS, f.has_time};
    return true;
}

unsigned int date_orders(struct span text)
{
    unsigned int orders = 0;
    struct date date;
    for (enum date_order order = DATE_ISO; order <= DATE_MDY; order++)
        orders |= date_read(text, order, &date) ? 1u << order : 0;
    return orders;
}
