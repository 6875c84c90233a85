/* page.h - a report as one HTML page that needs nothing else: no network, no script. */
#ifndef LEAD_CTL_REPORT_PAGE_H
#define LEAD_CTL_REPORT_PAGE_H

#include "handler/ctl/report/tally.h"
#include "lib/base/buf.h"

/* Appends the page.  made_ms: when the leads were counted.  ST_TOO_LARGE, ST_NOMEM: the
 * buffer's; LIMIT_REPORT_BYTES are enough for every tally. */
MUST_CHECK enum status report_page(struct buf *out, const struct tally_result *r, int64_t made_ms,
                                   struct fail *why);

/* Appends "Customer leads, 23 Oct 2026 to 21 Nov 2026". */
void report_title(struct buf *out, const struct tally_result *r);

/* Appends what it says in a few lines of plain text. */
void report_words(struct buf *out, const struct tally_result *r);

/* The style sheet, in style.c.  Its hash stands in the page's policy: no other style is taken. */
extern const char REPORT_STYLE[];

#endif
