/* partner_file.h - the lead export of Partner Center: which columns it has, and what its rows say.
 *
 * Partner Center, Referrals > Leads, Download: a CSV file of up to 5,000 leads.  Its
 * columns are not documented as a list, they change, and people rename, reorder
 * and drop them in Excel.  So a column is told by its name without regard to
 * case, blanks and punctuation, by any of the names that Microsoft's documents use
 * for it, or by what the operator says (map).  Columns of other names are passed over.
 *
 * Of the dates' order the whole file is evidence: see partner_open.
 * What is in the file is personal data: messages name columns of ours and
 * lines, never a value.
 * Memory: that of a row.  The file is read anew for every pass, and must not
 * change meanwhile.
 */
#ifndef LEAD_CTL_PARTNER_FILE_H
#define LEAD_CTL_PARTNER_FILE_H

#include "lib/base/buf.h"
#include "lib/base/date_read.h"

enum partner_column {
    PARTNER_ID, /* Referral ID: what tells a lead from others, if the file has it */
    PARTNER_CREATED,
    PARTNER_EMAIL,
    PARTNER_FIRST_NAME,
    PARTNER_LAST_NAME,
    PARTNER_NAME, /* first and last in one */
    PARTNER_PHONE,
    PARTNER_COUNTRY,
    PARTNER_COMPANY,
    PARTNER_TITLE,
    PARTNER_OFFER_ID,
    PARTNER_OFFER,
    PARTNER_SOURCE,
    PARTNER_ACTION,
    PARTNER_TYPE, /* of the lead: only those of an offer come through the marketplace */
    PARTNER_DESCRIPTION,
    PARTNER_COLUMNS
};

/* What --map calls it: "Email", "Created" ... */
const char *partner_column_name(enum partner_column column);

struct partner_options {
    const char *path;        /* "-": standard input, which has to be a file as well */
    const char *const *maps; /* "Their name=Ours", each over what the name would be taken for */
    size_t map_count;
    bool has_order; /* the operator has said so */
    enum date_order order;
};

struct partner_file;

/* Reads the whole file once: whether it is CSV, has the columns without which
 * nothing can be compared (when it was created; an e-mail address, a company or
 * a name) and one order in which its dates are dates.  ST_NOT_FOUND: there is no
 * such file; ST_IO; ST_INVALID, ST_TOO_LARGE: says where and what to do. */
MUST_CHECK enum status partner_open(const struct partner_options *options, struct partner_file **file,
                                    struct fail *why);
void partner_close(struct partner_file *file);

/* How many rows it has, below the names. */
uint64_t partner_rows(const struct partner_file *file);

/* In which order its dates are, and on which line that can be seen; 0: the operator has said so, or no date
 * leaves a doubt. */
enum date_order partner_order(const struct partner_file *file, uint64_t *line);

/* What the column is called in the file; blank: it has none.  The file's words. */
struct span partner_their_name(const struct partner_file *file, enum partner_column column);

struct partner_row {
    uint64_t line;
    struct span value[PARTNER_COLUMNS]; /* without blanks at its ends; until the next call */
    bool has_date;
    struct date created;
    bool is_of_marketplace; /* false: a lead of another kind, as of a seller of Microsoft's */
};

/* The next row; ST_NOT_FOUND behind the last. */
MUST_CHECK enum status partner_next(struct partner_file *file, struct partner_row *row, struct fail *why);

/* Back to the first row.  ST_CHANGED: the file is not what it was. */
MUST_CHECK enum status partner_rewind(struct partner_file *file, struct fail *why);

/* Appends the lead as the marketplace would have posted it, with what the file has
 * besides (ReferralId, CreatedTime): so that one reader understands both. */
MUST_CHECK enum status partner_body(const struct partner_row *row, struct buf *body, struct fail *why);

#endif
