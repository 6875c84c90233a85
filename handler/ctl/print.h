/* print.h - what several commands of leadctl print, and read, alike. */
#ifndef LEAD_CTL_PRINT_H
#define LEAD_CTL_PRINT_H

#include "lib/base/json_write.h"
#include "lib/table/entity.h"

/* The exit status for a failure of the store, or of what was given to find something in it. */
int ctl_exit_of(enum status status);

/* Prints why, and what to do next about a store that does not work; gives the exit status. */
int ctl_failed(enum status status, const struct fail *why);

/* An e-mail address as it was given; for "-" one line from standard input, which nobody else on this host sees, unlike
 * an argument. */
enum { CTL_ADDRESS_LINE = LIMIT_MAIL_ADDRESS_BYTES + 3 /* with the line's end */ };
struct span ctl_read_address(struct span given, char line[CTL_ADDRESS_LINE]);

/* "2026-11-21 09:30:12" */
void ctl_add_time(struct buf *line, int64_t wall_ms);

/* A text of several lines: what a terminal would obey or not show becomes \xNN, byte by byte. */
void ctl_print_text(struct span body);

/* JSON as it was written, with what a terminal would obey or not show as \uNNNN: it means the same. */
void ctl_print_json(struct span json);

/* A column as a member.  Bytes are left out. */
void ctl_add_property(struct json_writer *w, const struct property *p);
/* Offer, RowKey and all columns. */
void ctl_add_row(struct json_writer *w, const struct entity *row);

#endif
