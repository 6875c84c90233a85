/* clock.h - time: two clocks and the five formats that leave the program.
 *
 * Wall-clock times are milliseconds since 1970 UTC (int64_t, name ends in _ms);
 * waits are measured on the monotonic clock.  Formats use English names of our
 * own: strftime depends on the locale.  Threads: safe.
 */
#ifndef LEAD_CLOCK_H
#define LEAD_CLOCK_H

#include <stdint.h>

#include "lib/base/span.h"

#define CLOCK_DAY_MS (24 * 60 * 60 * 1000LL)

int64_t clock_wall_ms(void);
int64_t clock_monotonic_ms(void);
int64_t clock_monotonic_us(void);

/* The wall clock, put right when the Table service has said that it is wrong by
 * more than CLOCK_TRUSTED_MS: what is signed must be of the last 15 minutes, and
 * the times of receipt at two hosts are compared. */
int64_t clock_true_ms(void);
void clock_note_true_ms(int64_t true_ms); /* the service's time now */
#define CLOCK_TRUSTED_MS (60 * 1000LL)    /* the service tells whole seconds, and its answer took time */

/* The length of a wait of minutes or more.  A build with -DLEADHOOK_TEST_CLOCK
 * (VARIANT=fault) divides it by $LEADHOOK_TEST_HURRY, so that tests of such waits
 * take seconds, and moves the wall clock by $LEADHOOK_TEST_CLOCK_OFFSET_MS; no
 * other build looks at these variables. */
int64_t clock_long_wait_ms(int64_t ms);

enum { CLOCK_TEXT_BYTES = 80 };

/* "Sun, 11 Oct 2009 19:52:39 GMT": RFC 9110 5.6.7, x-ms-date. */
void clock_http_date(int64_t wall_ms, char text[CLOCK_TEXT_BYTES]);
/* "Sun, 11 Oct 2009 19:52:39 +0000": RFC 5322 3.3. */
void clock_mail_date(int64_t wall_ms, char text[CLOCK_TEXT_BYTES]);
/* "2009-10-11T19:52:39.123Z": RFC 3339, Edm.DateTime; the year is 0000 where it has no four digits. */
void clock_iso_time(int64_t wall_ms, char text[CLOCK_TEXT_BYTES]);
/* "2009-10-11 19:52 UTC": for people who read an alarm or a mail. */
void clock_minute_words(int64_t wall_ms, char text[CLOCK_TEXT_BYTES]);

/* Reads the HTTP date or the RFC 3339 form (UTC, up to 7 fraction digits,
 * years 1601 to 9999).  false when the text is neither. */
bool clock_parse_http_date(struct span text, int64_t *wall_ms);
bool clock_parse_iso_time(struct span text, int64_t *wall_ms);

#endif
