/* screen.h - what is different on a terminal: a pager, colours, and tables that fit.
 *
 * Where the standard output is no terminal none of it is there: what goes into a
 * file or a pipe is the same wherever leadctl runs.
 */
#ifndef LEAD_CTL_SCREEN_H
#define LEAD_CTL_SCREEN_H

#include <sys/types.h>

#include "lib/base/buf.h"

struct screen {
    bool is_terminal;
    bool has_colours; /* a terminal that knows them, and NO_COLOR is not set or empty */
    size_t columns;   /* of the terminal; 0: no bound */
    pid_t pager;      /* 0: none */
};

enum screen_use { SCREEN_PLAIN, SCREEN_PAGED };

/* Before the first output.  SCREEN_PAGED: on a terminal the standard output goes to
 * $PAGER, or `less -FRX`, which shows what fits the screen and ends; where that
 * cannot be run, or $PAGER is empty or `cat`, to the terminal. */
void screen_open(struct screen *screen, enum screen_use use);
/* Writes what is left and waits for the pager.  A reader who has seen enough is no
 * failure.  ST_IO: what ("the list") could not be written. */
MUST_CHECK enum status screen_close(struct screen *screen, const char *what, struct fail *why);
/* Whether more output is of use to anybody. */
bool screen_is_read(void);

/* The escape sequence, or nothing where there are no colours. */
enum screen_style { STYLE_NORMAL, STYLE_HEAD, STYLE_FAINT, STYLE_WARNING, STYLE_GOOD };
const char *screen_style(const struct screen *screen, enum screen_style style);

/* --- tables -------------------------------------------------------------------------------------------------- */

/* A column of text; numbers go to the right. */
struct column {
    const char *title;
    size_t least; /* characters that are left of it at least where there is too little room */
    size_t most;  /* what is longer is cut and ends in "..." */
    bool is_number;
    size_t width; /* as wide as what was measured so far */
};

/* To be called with all that will stand in the column, from the title on. */
void column_measure(struct column *column, struct span text);
/* Makes the columns, two blanks between them, fit the screen, the widest first. */
void columns_fit(struct column *columns, size_t count, const struct screen *screen);
/* Appends text as a safe cell, and two blanks. */
void column_add(struct buf *line, const struct column *column, struct span text);
/* Prints the line without blanks at its end. */
void screen_print_line(const struct screen *screen, enum screen_style style, struct span line);
/* The titles. */
void columns_print_head(const struct screen *screen, const struct column *columns, size_t count);

#endif
