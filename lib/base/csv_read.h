/* csv_read.h - the only reader of CSV: one row after the other, in bounded memory.
 *
 * RFC 4180, and what Excel writes besides: a byte order mark, UTF-16 with one,
 * ';', tabs or '|' between the fields, a first line "sep=;", and lines that end
 * in CRLF, LF or CR.  A field that begins with a quote ends with one; two quotes
 * within it are one.  What breaks that rule is refused and not guessed at: a file
 * that was cut off, or written by somebody who does not quote, would give rows
 * with values in the wrong columns.  A line with nothing in it is no row.  Rows
 * may have different numbers of fields: what that means is the caller's to say.
 *
 * Text is strict UTF-8 without U+0000, whatever the file is in.  Every bound is one
 * of limits.h or a smaller one of the caller's.  After a failure every call gives
 * the same one again.
 * Memory: bounded by the row and 64 KiB.  Threads: one owner at a time.
 */
#ifndef LEAD_CSV_READ_H
#define LEAD_CSV_READ_H

#include "lib/base/span.h"
#include "lib/base/status.h"

struct csv_reader;

struct csv_options {
    /* Gives the next bytes of the file, at most room; *got is 0 at its end only.  What it says instead of ST_OK
     * becomes the reader's failure. */
    enum status (*read)(void *context, char *to, size_t room, size_t *got, struct fail *why);
    void *context;
    /* 0: the one of , ; tab | that stands most often in the first line, outside of quotes; a comma in doubt, and
     * where there is none. */
    char separator;
    /* 0: LIMIT_CSV_... */
    size_t columns;
    size_t field_bytes; /* as UTF-8, without its quotes */
    size_t row_bytes;   /* of all its fields */
    uint64_t file_bytes;
};

struct csv_row {
    const struct span *fields; /* as they are, blanks included; until the next call */
    size_t count;              /* one or more */
    uint64_t line;             /* on which it begins, from 1; a field may have line breaks */
};

/* A place in the file: what an editor shows. */
struct csv_place {
    uint64_t line;   /* from 1 */
    uint64_t column; /* from 1, in characters; a byte order mark is none */
};

/* Reads nothing yet.  ST_NOMEM. */
MUST_CHECK enum status csv_new(const struct csv_options *options, struct csv_reader **reader,
                               struct fail *why);
void csv_free(struct csv_reader *reader);

/* The next row.  ST_NOT_FOUND: there is no more.  ST_INVALID: quotes, UTF-8 or
 * UTF-16 are broken, or U+0000 is there; ST_TOO_LARGE: a limit; the text begins
 * with the place and quotes nothing of the file.  ST_NOMEM; what read said. */
MUST_CHECK enum status csv_next(struct csv_reader *reader, struct csv_row *row, struct fail *why);

/* Where the failure is that the last call gave: the first character that cannot stand there or is too much; of a
 * quote that is never closed, the quote. */
struct csv_place csv_place(const struct csv_reader *reader);

/* What separates the fields; 0 before the first row is read. */
char csv_separator(const struct csv_reader *reader);

#endif
