/* html.h - the small things that a page of HTML is made of.
 *
 * Everything that comes from outside goes through html_add_text, which leaves
 * nothing in it that means something to a browser or cannot be seen.  All append
 * to the caller's buffer, which carries the error.
 */
#ifndef LEAD_CTL_HTML_H
#define LEAD_CTL_HTML_H

#include "lib/base/buf.h"

enum { HTML_TEXT_BYTES = 256 }; /* of a text that html_add_text shows */

/* One safe line, escaped: as text_add_line has it.  Cut to HTML_TEXT_BYTES. */
void html_add_text(struct buf *out, struct span text);

/* The same for a text from outside: set apart, so that one that runs from right to
 * left does not turn around what is beside it. */
void html_add_outside(struct buf *out, struct span text);

/* "12,345" */
void html_add_count(struct buf *out, uint64_t count);
/* "1 lead", "12,345 leads"; what: the word without its s. */
void html_add_counted(struct buf *out, uint64_t count, const char *what);
/* "37 %", "<1 %"; of: not 0. */
void html_add_share(struct buf *out, uint64_t part, uint64_t of);

/* "21 Nov", "21 Nov 2026", "Sat, 21 Nov 2026", "21 Nov 2026 09:30"; UTC. */
enum html_day { DAY_SHORT, DAY_WHOLE, DAY_OF_WEEK, DAY_AND_MINUTE };
void html_add_day(struct buf *out, int64_t wall_ms, enum html_day how);

/* "0.4 s", "2 min 5 s", "3 h 12 min", "2 d 3 h": rounded to the nearest; what is negative is "0.0 s". */
void html_add_duration(struct buf *out, int64_t ms);

#endif
