/* lead_text.h - a lead as people and programs read it: a row of a table, of CSV, or an object of JSON. */
#ifndef LEAD_CTL_LEAD_TEXT_H
#define LEAD_CTL_LEAD_TEXT_H

#include "handler/ctl/find.h"
#include "handler/ctl/screen.h"

/* What these read of a row: all but the raw payload and what is made from the other columns. */
#define LEAD_COLUMNS                                                                                         \
    FIND_COLUMNS                                                                                             \
    ",LastReceivedTime,Deliveries,Source,FirstName,LastName,Email,Phone,Company,Title,"                      \
    "OfferDisplayName,Description,Campaign,DoNotContact,PersonalDataWithheld,NotifiedTime,KeyName,"          \
    "WebhookId,RequestId,LastRequestId,Origin"

/* --- a table ------------------------------------------------------------------------------------------------- */

enum { LEAD_TABLE_COLUMNS = 9 };

/* A table of leads, not measured yet. */
void lead_table_init(struct column columns[LEAD_TABLE_COLUMNS]);
void lead_table_measure(struct column columns[LEAD_TABLE_COLUMNS], const struct entity *row);
/* For leads that are not known yet: columns of a usual width. */
void lead_table_assume(struct column columns[LEAD_TABLE_COLUMNS]);
void lead_table_print(const struct screen *screen, const struct column columns[LEAD_TABLE_COLUMNS],
                      const struct entity *row);

/* --- for programs -------------------------------------------------------------------------------------------- */

enum lead_format { LEAD_AS_TABLE, LEAD_AS_JSON, LEAD_AS_CSV };

/* The names of the columns of CSV. */
MUST_CHECK enum status lead_print_csv_head(struct fail *why);
/* One line on the standard output; as CSV a cell may hold line ends, but not where a person reads on a terminal.
 * ST_TOO_LARGE, ST_NOMEM, ST_INVALID: the row's text. */
MUST_CHECK enum status lead_print(const struct screen *screen, enum lead_format format,
                                  const struct entity *row, struct fail *why);

#endif
