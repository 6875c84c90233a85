/* csv_write.h - the only writer of CSV: rows for spreadsheets, into a buffer.
 *
 * RFC 4180: cells separated by commas, rows ended by CR LF; a cell is in quotes
 * where it must be, and also where a spreadsheet that separates by semicolons or
 * tabs would cut it.  Cells are words of strangers, and a spreadsheet takes one
 * that begins with = + - @ for a formula, which may send what it sees elsewhere:
 * such a text, and one that begins with a tab or the end of a line, gets an
 * apostrophe before it, which spreadsheets understand as "text".  So a telephone
 * number "+1 617..." reads "'+1 617..." in the file.  The same within a text, behind
 * a semicolon, a tab or the end of a line: where semicolons separate, a spreadsheet
 * does not see our quotes and begins a cell there.
 * Control characters but tab, CR and LF become U+FFFD.
 * Errors stick and are reported by csv_end_row.  Memory: the caller's buffer.
 */
#ifndef LEAD_CSV_WRITE_H
#define LEAD_CSV_WRITE_H

#include "lib/base/buf.h"

/* Before the first row, for programs that would not take the bytes for UTF-8 otherwise. */
#define CSV_BYTE_ORDER_MARK "\xEF\xBB\xBF"

struct csv_writer {
    struct buf *out;
    bool is_first; /* the next cell needs no comma */
};

void csv_begin_row(struct csv_writer *w, struct buf *out);
/* text is valid UTF-8. */
void csv_add_text(struct csv_writer *w, struct span text);
void csv_add_number(struct csv_writer *w, int64_t value);
/* "2026-11-21 09:30:12", in UTC, which spreadsheets read as a time; 0: an empty cell. */
void csv_add_time(struct csv_writer *w, int64_t wall_ms);
/* "true" or "false" */
void csv_add_bool(struct csv_writer *w, bool value);
/* ST_TOO_LARGE, ST_NOMEM: the buffer's. */
MUST_CHECK enum status csv_end_row(struct csv_writer *w, const char *what, struct fail *why);

#endif
