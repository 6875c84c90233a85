/* date_read.h - dates as people and spreadsheets write them.
 *
 * Read are, with or without a time behind them:
 *
 *   2026-11-21  2026/11/21  2026.11.21     year first
 *   21.11.2026                             points: the day first
 *   11/21/2026  21/11/2026  21-11-2026     the order has to be known
 *   21 Nov 2026  21-Nov-2026  Nov 21, 2026, also with "Sat, " before it, months in English, short or whole
 *
 * The time is 14:05, 14:05:33, 14:05:33.123 or 2:05:33 PM, behind a blank, a "T"
 * or a comma; behind it may stand Z, UTC, GMT or an offset (+01:00, -0530).
 * Without any of these it is UTC.  Years have four digits, 1970 or later.
 * Pure functions.
 */
#ifndef LEAD_DATE_READ_H
#define LEAD_DATE_READ_H

#include "lib/base/span.h"

enum date_order {
    DATE_ISO, /* only what says by itself which number is the month */
    DATE_DMY,
    DATE_MDY
};

struct date {
    int64_t ms;    /* of a date without a time: when the day begins */
    bool has_time; /* false: any time of that day (UTC) */
};

/* false: no date in this order, or one that no calendar has. */
bool date_read(struct span text, enum date_order order, struct date *date);

/* In which orders the text is a date: a sum of these. 03/04/2026 is one in two. */
enum { DATE_IS_ISO = 1 << DATE_ISO, DATE_IS_DMY = 1 << DATE_DMY, DATE_IS_MDY = 1 << DATE_MDY };
unsigned int date_orders(struct span text);

#endif
