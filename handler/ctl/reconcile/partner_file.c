/* Names of columns are those of three documents of Microsoft's: "Referral insights download - Data definitions"
 * (Leads download), "Bulk operations for Co-sell opportunities using CSV files", whose file Leads shares its
 * template with, and "Referral resources" (the API's names), besides the fields of the webhook and of the table.
 */
#include "handler/ctl/reconcile/partner_file.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/csv_read.h"
#include "lib/base/json_write.h"
#include "lib/base/limits.h"

enum { NAMES_MAX = 12, NAME_BYTES = 128 };

/* Ours first; behind it what else it may be called, the likelier first: of two such columns in one file the likelier
 * one counts.  Compared without blanks and punctuation. */
static const struct {
    bool is_wanted; /* without one of these nothing can be compared */
    const char *names[NAMES_MAX];
} COLUMNS[PARTNER_COLUMNS] = {
    [PARTNER_ID] = {.names = {"ReferralId", "Lead Id", "Id"}},
    [PARTNER_CREATED] = {.names = {"Created", "Creation Date", "Created Date", "Created DateTime",
                                   "Created Time", "Created On", "Date Created", "Creation Time", "Lead Date",
                                   "Date", "ReceivedTime"}},
    [PARTNER_EMAIL] = {.is_wanted = true,
                       .names = {"Email", "Customer Contact Email Address", "Customer Contact Email",
                                 "Contact Email Address", "Contact Email", "Email Address", "Customer Email",
                                 "Customer Email Address", "Lead Email"}},
    [PARTNER_FIRST_NAME] = {.names = {"FirstName", "Customer Contact First Name", "Contact First Name",
                                      "Customer First Name", "Given Name"}},
    [PARTNER_LAST_NAME] = {.names = {"LastName", "Customer Contact Last Name", "Contact Last Name",
                                     "Customer Last Name", "Surname", "Family Name"}},
    [PARTNER_NAME] = {.is_wanted = true,
                      .names = {"FullName", "Customer Contact Name", "Contact Name", "Customer Contact",
                                "Contact"}},
    [PARTNER_PHONE] = {.names = {"Phone", "Customer Contact Phone Number", "Customer Contact Phone",
                                 "Contact Phone Number", "Contact Phone", "Phone Number", "Customer Phone",
                                 "Telephone"}},
    [PARTNER_COUNTRY] = {.names = {"Country", "Customer Country", "Customer Country/Region", "Country/Region",
                                   "Customer Country Code", "Country Code"}},
    [PARTNER_COMPANY] = {.is_wanted = true,
                         .names = {"Company", "Customer Name", "Company Name", "Customer Company",
                                   "Customer Company Name", "Organization", "Organization Name",
                                   "Account Name"}},
    [PARTNER_TITLE] = {.names = {"Title", "Customer Contact Title", "Contact Title", "Job Title"}},
    [PARTNER_OFFER_ID] = {.names = {"OfferId", "Offer Ids", "Product Id"}},
    [PARTNER_OFFER] = {.names = {"Offer", "Offer Name", "Offer Names", "Offer Title", "Offer Display Name",
                                 "Product Name", "Solution Name", "Product"}},
    [PARTNER_SOURCE] = {.names = {"Source", "Lead Source", "Referral Source"}},
    [PARTNER_ACTION] = {.names = {"Action", "Call To Action", "Action Code", "CTA"}},
    [PARTNER_TYPE] = {.names = {"Type", "Lead Type"}},
    [PARTNER_DESCRIPTION] = {.names = {"Description", "Notes", "Customer Notes", "Comments", "Message"}},
};

#define ABSENT SIZE_MAX

struct partner_file {
    int fd;
    struct stat stat; /* as it was opened */
    struct csv_reader *reader;
    size_t width;                 /* of the line of names */
    size_t at[PARTNER_COLUMNS];   /* of the column, or ABSENT */
    size_t rank[PARTNER_COLUMNS]; /* of the name by which it was found; 0 is best, and --map */
    struct buf their_names[PARTNER_COLUMNS];
    enum date_order order;
    uint64_t order_line;
    uint64_t rows;
};

const char *partner_column_name(enum partner_column column)
{
    return COLUMNS[column].names[0];
}

/* --- names ---------------------------------------------------------------------------------------------------- */

/* Lower case, without what is no letter or digit in ASCII: "Customer Country/Region" becomes customercountryregion.
 * Letters of other scripts stay.  Blank where it is too long to be one of ours. */
static struct span plain_name(struct span name, char memory[NAME_BYTES])
{
    struct buf plain = {.data = memory, .room = NAME_BYTES, .limit = NAME_BYTES - 1};
    for (size_t i = 0; i < name.len; i++) {
        if (char_is_alnum(name.ptr[i]) || (unsigned char)name.ptr[i] >= 0x80)
            buf_add_char(&plain, char_lower(name.ptr[i]));
    }
    return plain.error == ST_OK ? buf_span(&plain) : span_empty();
}

static bool is_same_name(struct span a, struct span b)
{
    char a_memory[NAME_BYTES], b_memory[NAME_BYTES];
    struct span a_plain = plain_name(a, a_memory), b_plain = plain_name(b, b_memory);
    return a_plain.len && span_eq(a_plain, b_plain);
}

/* Which of the column's names that is; NAMES_MAX: none. */
static size_t rank_of(enum partner_column column, struct span theirs)
{
    for (size_t i = 0; i < NAMES_MAX && COLUMNS[column].names[i]; i++) {
        if (is_same_name(theirs, span_of(COLUMNS[column].names[i])))
            return i;
    }
    return NAMES_MAX;
}

static enum status take_column(struct partner_file *f, enum partner_column column, size_t rank, size_t at,
                               struct span name, struct fail *why)
{
    if (f->at[column] != ABSENT && f->rank[column] < rank)
        return ST_OK;
    if (f->at[column] != ABSENT && f->rank[column] == rank)
        return fail_set(why, ST_INVALID, 0,
                        "two columns, number %zu and %zu, are both called what '%s' is called: remove one",
                        f->at[column] + 1, at + 1, partner_column_name(column));
    f->at[column] = at;
    f->rank[column] = rank;
    buf_reset(&f->their_names[column]);
    buf_add(&f->their_names[column], span_cut(name, 0, NAME_BYTES));
    return buf_status(&f->their_names[column], "the name of a column", why);
}

/* "Their name=Ours": the last '=' separates, as a name may hold one. */
static enum status take_map(struct partner_file *f, const struct csv_row *header, const char *map,
                            struct fail *why)
{
    struct span text = span_of(map);
    size_t equals = span_find_last(text, '='), found = ABSENT;
    struct span theirs = span_trim(span_cut(text, 0, equals)), ours = span_from(text, equals + 1);
    enum partner_column column = 0;
    while (equals != SPAN_NONE && column < PARTNER_COLUMNS &&
           !is_same_name(ours, span_of(partner_column_name(column))))
        column++;
    if (equals == SPAN_NONE || column == PARTNER_COLUMNS)
        return fail_set(why, ST_INVALID, 0,
                        "--map is 'Their name=Ours'; ours are Email, Created, Company, OfferId ..., "
                        "see leadctl reconcile --help");
    for (size_t i = 0; i < header->count; i++) {
        if (span_eq(span_trim(header->fields[i]), theirs) ||
            (found == ABSENT && is_same_name(header->fields[i], theirs)))
            found = i;
    }
    if (found == ABSENT)
        return fail_set(why, ST_INVALID, 0, "--map: the file has no column of the name given for '%s'",
                        partner_column_name(column));
    for (enum partner_column c = 0; c < PARTNER_COLUMNS; c++) {
        if (c == column || f->at[c] == found)
            f->at[c] = ABSENT; /* it is that one, and not what its name would say */
    }
    return take_column(f, column, 0, found, header->fields[found], why);
}

static enum status find_columns(struct partner_file *f, const struct partner_options *options,
                                const struct csv_row *header, struct fail *why)
{
    enum status status = ST_OK;
    size_t known = 0;
    f->width = header->count;
    for (size_t i = 0; status == ST_OK && i < header->count; i++) {
        for (enum partner_column c = 0; status == ST_OK && c < PARTNER_COLUMNS; c++) {
            size_t rank = rank_of(c, header->fields[i]);
            if (rank < NAMES_MAX)
                status = take_column(f, c, rank, i, header->fields[i], why);
        }
    }
    for (size_t i = 0; status == ST_OK && i < options->map_count; i++)
        status = take_map(f, header, options->maps[i], why);
    bool has_wanted = false;
    for (enum partner_column c = 0; c < PARTNER_COLUMNS; c++) {
        known += f->at[c] != ABSENT;
        has_wanted = has_wanted || (COLUMNS[c].is_wanted && f->at[c] != ABSENT);
    }
    if (status == ST_OK && known == 0)
        return fail_set(
            why, ST_INVALID, 0,
            "none of the %zu names in its first line is one of a lead export: it must begin with the "
            "names of the columns, which --map \"Their name=Email\" can tell",
            header->count);
    if (status == ST_OK && f->at[PARTNER_CREATED] == ABSENT)
        return fail_set(why, ST_INVALID, 0,
                        "no column says when a lead was created: name it with --map \"Their name=Created\"");
    if (status == ST_OK && !has_wanted)
        return fail_set(why, ST_INVALID, 0,
                        "no column has e-mail addresses, companies or names: name one with --map \"Their "
                        "name=Email\"");
    return status;
}

/* --- rows ----------------------------------------------------------------------------------------------------- */

static enum status read_file(void *context, char *to, size_t room, size_t *got, struct fail *why)
{
    const struct partner_file *f = context;
    ssize_t len;
    do
        len = read(f->fd, to, room);
    while (len < 0 && errno == EINTR);
    if (len < 0)
        return fail_set(why, ST_IO, errno, "cannot read it");
    *got = (size_t)len;
    return ST_OK;
}

static struct span value_of(const struct partner_file *f, const struct csv_row *row,
                            enum partner_column column)
{
    size_t at = f->at[column];
    return at < row->count ? span_trim(row->fields[at]) : span_empty();
}

/* Excel leaves out what is blank at the end of a row, so it may be short.  A longer one is out of step. */
static enum status check_width(const struct partner_file *f, const struct csv_row *row, struct fail *why)
{
    for (size_t i = f->width; i < row->count; i++) {
        if (span_trim(row->fields[i]).len)
            return fail_set(why, ST_INVALID, 0,
                            "line %" PRIu64
                            ": %zu fields where the first line has %zu names: is a text with a "
                            "separator in it not in quotes?",
                            row->line, row->count, f->width);
    }
    return ST_OK;
}

static enum status next_row(struct partner_file *f, struct csv_row *row, struct fail *why)
{
    enum status status = csv_next(f->reader, row, why);
    return status == ST_OK ? check_width(f, row, why) : status;
}

/* The analytics' words for where a lead is from are "Offer lead", "Qualified lead" and "Profile lead". */
static bool is_of_marketplace(struct span type)
{
    return !span_has_nocase(type, SPAN_LIT("qualified")) && !span_has_nocase(type, SPAN_LIT("profile"));
}

enum status partner_next(struct partner_file *file, struct partner_row *row, struct fail *why)
{
    struct csv_row csv;
    enum status status = next_row(file, &csv, why);
    if (status != ST_OK)
        return status;
    row->line = csv.line;
    for (enum partner_column c = 0; c < PARTNER_COLUMNS; c++)
        row->value[c] = value_of(file, &csv, c);
    row->has_date = date_read(row->value[PARTNER_CREATED], file->order, &row->created);
    row->is_of_marketplace = is_of_marketplace(row->value[PARTNER_TYPE]);
    return ST_OK;
}

/* Opens the reader at the beginning of the file. */
static enum status begin(struct partner_file *f, struct fail *why)
{
    const struct csv_options options = {.read = read_file, .context = f};
    csv_free(f->reader);
    f->reader = NULL;
    if (lseek(f->fd, 0, SEEK_SET) != 0)
        return fail_set(why, ST_IO, errno, "cannot read it from its beginning");
    return csv_new(&options, &f->reader, why);
}

enum status partner_rewind(struct partner_file *file, struct fail *why)
{
    struct stat now;
    struct csv_row names;
    if (fstat(file->fd, &now) != 0)
        return fail_set(why, ST_IO, errno, "cannot look at it");
    if (now.st_size != file->stat.st_size || now.st_mtim.tv_sec != file->stat.st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != file->stat.st_mtim.tv_nsec)
        return fail_set(why, ST_CHANGED, 0, "the file has changed while it was being read");
    enum status status = begin(file, why);
    return status == ST_OK ? csv_next(file->reader, &names, why) : status;
}

/* --- the order of dates --------------------------------------------------------------------------------------- */

/* What the dates have said so far. */
struct evidence {
    uint64_t only_dmy, only_mdy, either; /* the first line of each kind; 0: none */
};

static void weigh(struct evidence *e, struct span text, uint64_t line)
{
    unsigned int orders = date_orders(text);
    if (orders == 0)
        return; /* no date: of that row alone */
    uint64_t *first = orders & DATE_IS_ISO    ? NULL
                      : orders == DATE_IS_DMY ? &e->only_dmy
                      : orders == DATE_IS_MDY ? &e->only_mdy
                                              : &e->either;
    if (first && *first == 0)
        *first = line;
}

static enum status settle_order(struct partner_file *f, const struct evidence *e, struct fail *why)
{
    if (e->only_dmy && e->only_mdy)
        return fail_set(why, ST_INVALID, 0,
                        "its dates are in two orders: that of line %" PRIu64
                        " begins with the day, that of line "
                        "%" PRIu64 " with the month",
                        e->only_dmy, e->only_mdy);
    if (e->either && !e->only_dmy && !e->only_mdy)
        return fail_set(
            why, ST_INVALID, 0,
            "whether its dates begin with the day or the month cannot be seen (line %" PRIu64 " and "
            "all others may be read either way): say --dates mdy, as Partner Center writes them in "
            "English, or --dates dmy",
            e->either);
    f->order = e->only_dmy ? DATE_DMY : e->only_mdy ? DATE_MDY : DATE_ISO;
    f->order_line = e->only_dmy ? e->only_dmy : e->only_mdy;
    return ST_OK;
}

static enum status read_once(struct partner_file *f, const struct partner_options *options, struct fail *why)
{
    struct evidence evidence = {0};
    struct csv_row row;
    enum status status = begin(f, why);
    if (status == ST_OK)
        status = csv_next(f->reader, &row, why);
    if (status == ST_NOT_FOUND)
        return fail_set(why, ST_INVALID, 0, "it is empty");
    if (status == ST_OK)
        status = find_columns(f, options, &row, why);
    while (status == ST_OK && (status = next_row(f, &row, why)) == ST_OK) {
        weigh(&evidence, value_of(f, &row, PARTNER_CREATED), row.line);
        if (++f->rows > LIMIT_RECONCILE_ROWS)
            return fail_set(why, ST_TOO_LARGE, 0, "it has more than %u rows: divide it",
                            LIMIT_RECONCILE_ROWS);
    }
    if (status != ST_NOT_FOUND)
        return status;
    f->order = options->order;
    return options->has_order ? ST_OK : settle_order(f, &evidence, why);
}

/* --- life ----------------------------------------------------------------------------------------------------- */

static enum status open_file(struct partner_file *f, const char *path, struct fail *why)
{
    bool is_input = strcmp(path, "-") == 0;
    f->fd = is_input ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 0)
                     : open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (f->fd < 0 && errno == EACCES)
        return fail_set(
            why, ST_IO, errno,
            "cannot open it as the user that leadctl has become; give it as: leadctl reconcile - <FILE");
    if (f->fd < 0)
        return fail_set(why, errno == ENOENT ? ST_NOT_FOUND : ST_IO, errno, "cannot open it");
    if (fstat(f->fd, &f->stat) != 0)
        return fail_set(why, ST_IO, errno, "cannot look at it");
    return S_ISREG(f->stat.st_mode)
               ? ST_OK
               : fail_set(why, ST_INVALID, 0, "it is read more than once, so it must be a file");
}

enum status partner_open(const struct partner_options *options, struct partner_file **file, struct fail *why)
{
    struct partner_file *f = calloc(1, sizeof *f);
    if (!f)
        return fail_set(why, ST_NOMEM, 0, "no memory to read a file");
    f->fd = -1;
    for (enum partner_column c = 0; c < PARTNER_COLUMNS; c++) {
        f->at[c] = ABSENT;
        f->their_names[c] = BUF_INIT(NAME_BYTES);
    }
    enum status status = open_file(f, options->path, why);
    if (status == ST_OK)
        status = read_once(f, options, why);
    if (status == ST_OK)
        status = partner_rewind(f, why);
    if (status != ST_OK) {
        fail_prefix(why, "%s", options->path);
        partner_close(f);
        return status;
    }
    *file = f;
    return ST_OK;
}

void partner_close(struct partner_file *file)
{
    if (!file)
        return;
    if (file->fd >= 0)
        (void)close(file->fd);
    csv_free(file->reader);
    for (enum partner_column c = 0; c < PARTNER_COLUMNS; c++)
        buf_release(&file->their_names[c]);
    free(file);
}

uint64_t partner_rows(const struct partner_file *file)
{
    return file->rows;
}

enum date_order partner_order(const struct partner_file *file, uint64_t *line)
{
    *line = file->order_line;
    return file->order;
}

struct span partner_their_name(const struct partner_file *file, enum partner_column column)
{
    return buf_span(&file->their_names[column]);
}

/* --- the lead ------------------------------------------------------------------------------------------------- */

struct word {
    const char *theirs, *ours;
};

/* What the export shows to people, and the codes that the marketplace posts for it. */
static const struct word SOURCES[] = {
    {"Azure Marketplace", "AzureMarketplace"},
    {"Azure Portal", "AzurePortal"},
    {"Test Drive", "TestDrive"},
};
static const struct word ACTIONS[] = {
    {"Contact me", "PLT"},
    {"Get it now", "INS"},
    {"Test drive", "StartTestDrive"},
    {"Start test drive", "StartTestDrive"},
};

static struct span translate(const struct word *words, size_t count, struct span theirs)
{
    for (size_t i = 0; i < count; i++) {
        if (is_same_name(theirs, span_of(words[i].theirs)))
            return span_of(words[i].ours);
    }
    return theirs;
}

/* Only where the file has no columns for them. */
static void split_name(const struct partner_row *row, struct span *first, struct span *last)
{
    *first = row->value[PARTNER_FIRST_NAME];
    *last = row->value[PARTNER_LAST_NAME];
    if (first->len || last->len)
        return;
    struct span name = row->value[PARTNER_NAME];
    size_t blank = span_find_last(name, ' ');
    *last = blank == SPAN_NONE ? name : span_from(name, blank + 1);
    *first = blank == SPAN_NONE ? span_empty() : span_trim(span_cut(name, 0, blank));
}

enum status partner_body(const struct partner_row *row, struct buf *body, struct fail *why)
{
    struct json_writer w;
    struct span first, last;
    split_name(row, &first, &last);
    json_begin(&w, body);
    json_open(&w, SPAN_LIT("UserDetails"));
    json_add_text(&w, SPAN_LIT("FirstName"), first);
    json_add_text(&w, SPAN_LIT("LastName"), last);
    json_add_text(&w, SPAN_LIT("Email"), row->value[PARTNER_EMAIL]);
    json_add_text(&w, SPAN_LIT("Phone"), row->value[PARTNER_PHONE]);
    json_add_text(&w, SPAN_LIT("Country"), row->value[PARTNER_COUNTRY]);
    json_add_text(&w, SPAN_LIT("Company"), row->value[PARTNER_COMPANY]);
    json_add_text(&w, SPAN_LIT("Title"), row->value[PARTNER_TITLE]);
    json_close(&w);
    json_add_text(&w, SPAN_LIT("LeadSource"),
                  translate(SOURCES, sizeof SOURCES / sizeof SOURCES[0], row->value[PARTNER_SOURCE]));
    json_add_text(&w, SPAN_LIT("ActionCode"),
                  translate(ACTIONS, sizeof ACTIONS / sizeof ACTIONS[0], row->value[PARTNER_ACTION]));
    json_add_text(&w, SPAN_LIT("OfferTitle"), row->value[PARTNER_OFFER]);
    json_add_text(&w, SPAN_LIT("Description"), row->value[PARTNER_DESCRIPTION]);
    json_add_text(&w, SPAN_LIT("ProductId"), row->value[PARTNER_OFFER_ID]);
    json_add_text(&w, SPAN_LIT("CreatedTime"), row->value[PARTNER_CREATED]);
    json_add_text(&w, SPAN_LIT("ReferralId"), row->value[PARTNER_ID]);
    return json_end(&w, "the lead", why);
}
