#include "handler/ctl/lead_text.h"

/* System */
#include <stdio.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/csv_write.h"
#include "lib/base/text.h"

/* The commands' words */
#include "handler/ctl/print.h"

enum {
    TIME_TEXT = 16,        /* "2026-11-21 09:30" */
    NAME_PART_BYTES = 100, /* more is not shown */
    TEXT_BYTES = 512,
    LINE_BYTES = 4096,
    /* Each byte may need a second one, and a control character three; with sqlite the row has its payload too. */
    CSV_BYTES = 4 * LIMIT_ENTITY_STORED_BYTES,
};

/* --- a table ------------------------------------------------------------------------------------------------- */

enum cell {
    CELL_TIME,
    CELL_ID,
    CELL_OFFER,
    CELL_ACTION,
    CELL_NAME,
    CELL_COMPANY,
    CELL_EMAIL,
    CELL_MAIL,
    CELL_NOTES
};

void lead_table_init(struct column columns[LEAD_TABLE_COLUMNS])
{
    static const struct column all[LEAD_TABLE_COLUMNS] = {
        [CELL_TIME] = {.title = "RECEIVED (UTC)", .least = TIME_TEXT, .most = TIME_TEXT},
        [CELL_ID] = {.title = "ID", .least = DELIVERY_ID_MIN, .most = DELIVERY_ID_MIN},
        [CELL_OFFER] = {.title = "OFFER", .least = 8, .most = 28},
        [CELL_ACTION] = {.title = "ACTION", .least = 6, .most = 14},
        [CELL_NAME] = {.title = "NAME", .least = 8, .most = 22},
        [CELL_COMPANY] = {.title = "COMPANY", .least = 7, .most = 20},
        [CELL_EMAIL] = {.title = "E-MAIL", .least = 8, .most = 28},
        [CELL_MAIL] = {.title = "MAIL", .least = 4, .most = 4},
        [CELL_NOTES] = {.title = "NOTES", .least = 4, .most = 20},
    };
    for (size_t i = 0; i < LEAD_TABLE_COLUMNS; i++) {
        columns[i] = all[i];
        column_measure(&columns[i], span_empty());
    }
}

void lead_table_assume(struct column columns[LEAD_TABLE_COLUMNS])
{
    lead_table_init(columns);
    for (size_t i = 0; i < LEAD_TABLE_COLUMNS; i++)
        columns[i].width = columns[i].most;
}

static struct span notes_of(const struct entity *row)
{
    bool test = entity_number(row, "IsTest", 0) != 0, dnc = entity_number(row, "DoNotContact", 0) != 0;
    return test && dnc ? SPAN_LIT("test, do not contact")
           : test      ? SPAN_LIT("test")
           : dnc       ? SPAN_LIT("do not contact")
                       : span_empty();
}

/* The text of a cell; what has to be put together is in *text. */
static struct span cell_of(const struct entity *row, enum cell cell, struct buf *text)
{
    buf_reset(text);
    switch (cell) {
    case CELL_TIME:
        ctl_add_time(text, find_received_ms(row));
        return span_cut(buf_span(text), 0, TIME_TEXT);
    case CELL_ID:
        return span_cut(entity_text(row, COLUMN_DELIVERY_ID), 0, DELIVERY_ID_MIN);
    case CELL_OFFER:
        return row->partition_key;
    case CELL_ACTION:
        return entity_text(row, "Action");
    case CELL_NAME:
        buf_add(text, utf8_cut_bytes(entity_text(row, "FirstName"), NAME_PART_BYTES));
        buf_add_char(text, ' ');
        buf_add(text, utf8_cut_bytes(entity_text(row, "LastName"), NAME_PART_BYTES));
        return buf_span(text);
    case CELL_COMPANY:
        return entity_text(row, "Company");
    case CELL_EMAIL:
        return entity_text(row, "Email");
    case CELL_MAIL:
        return entity_number(row, COLUMN_NOTIFIED_TIME, 0) ? SPAN_LIT("sent") : SPAN_LIT("-");
    case CELL_NOTES:
        return notes_of(row);
    }
    return span_empty();
}

void lead_table_measure(struct column columns[LEAD_TABLE_COLUMNS], const struct entity *row)
{
    char memory[TEXT_BYTES];
    struct buf text = BUF_FIXED(memory);
    for (size_t i = 0; i < LEAD_TABLE_COLUMNS; i++)
        column_measure(&columns[i], cell_of(row, (enum cell)i, &text));
}

void lead_table_print(const struct screen *screen, const struct column columns[LEAD_TABLE_COLUMNS],
                      const struct entity *row)
{
    char memory[TEXT_BYTES], line_memory[LINE_BYTES];
    struct buf text = BUF_FIXED(memory), line = BUF_FIXED(line_memory);
    for (size_t i = 0; i < LEAD_TABLE_COLUMNS; i++)
        column_add(&line, &columns[i], cell_of(row, (enum cell)i, &text));
    screen_print_line(screen,
                      entity_number(row, "DoNotContact", 0) ? STYLE_WARNING
                      : entity_number(row, "IsTest", 0)     ? STYLE_FAINT
                                                            : STYLE_NORMAL,
                      buf_span(&line));
}

/* --- CSV ----------------------------------------------------------------------------------------------------- */

enum csv_kind { CSV_TEXT, CSV_TIME, CSV_NUMBER, CSV_BOOL, CSV_OFFER };

static const struct csv_column {
    const char *name; /* of the column in the store, too */
    enum csv_kind kind;
} CSV_COLUMNS[] = {
    {COLUMN_RECEIVED_TIME, CSV_TIME},
    {"Offer", CSV_OFFER},
    {"OfferDisplayName", CSV_TEXT},
    {"Action", CSV_TEXT},
    {"Source", CSV_TEXT},
    {"FirstName", CSV_TEXT},
    {"LastName", CSV_TEXT},
    {"Email", CSV_TEXT},
    {"Phone", CSV_TEXT},
    {"Company", CSV_TEXT},
    {"Title", CSV_TEXT},
    {"Country", CSV_TEXT},
    {"Description", CSV_TEXT},
    {"Campaign", CSV_TEXT},
    {"IsTest", CSV_BOOL},
    {"DoNotContact", CSV_BOOL},
    {COLUMN_DELIVERIES, CSV_NUMBER},
    {COLUMN_LAST_RECEIVED_TIME, CSV_TIME},
    {COLUMN_NOTIFIED_TIME, CSV_TIME},
    {COLUMN_DELIVERY_ID, CSV_TEXT},
};
enum { CSV_COUNT = sizeof CSV_COLUMNS / sizeof CSV_COLUMNS[0] };

/* What a terminal would obey does not reach it. */
static void add_csv_text(struct csv_writer *w, const struct screen *screen, struct span text)
{
    struct buf clean = BUF_INIT(3 * LIMIT_ENTITY_STORED_BYTES);
    if (screen->is_terminal)
        text_add_line(&clean, text);
    csv_add_text(w, screen->is_terminal ? buf_span(&clean) : text);
    buf_release(&clean);
}

static void add_csv_cell(struct csv_writer *w, const struct screen *screen, const struct csv_column *column,
                         const struct entity *row)
{
    switch (column->kind) {
    case CSV_TEXT:
        add_csv_text(w, screen, entity_text(row, column->name));
        break;
    case CSV_TIME:
        csv_add_time(w, entity_number(row, column->name, 0));
        break;
    case CSV_NUMBER:
        csv_add_number(w, entity_number(row, column->name, 0));
        break;
    case CSV_BOOL:
        csv_add_bool(w, entity_number(row, column->name, 0) != 0);
        break;
    case CSV_OFFER:
        add_csv_text(w, screen, row->partition_key);
        break;
    }
}

static void print_bytes(const struct buf *text)
{
    (void)fwrite(text->data, 1, text->len, stdout);
}

enum status lead_print_csv_head(struct fail *why)
{
    struct buf line = BUF_INIT(LINE_BYTES);
    struct csv_writer w;
    csv_begin_row(&w, &line);
    for (size_t i = 0; i < CSV_COUNT; i++)
        csv_add_text(&w, span_of(CSV_COLUMNS[i].name));
    enum status status = csv_end_row(&w, "the names of the columns", why);
    if (status == ST_OK)
        print_bytes(&line);
    buf_release(&line);
    return status;
}

/* --- one lead ------------------------------------------------------------------------------------------------ */

static enum status add_csv(struct buf *line, const struct screen *screen, const struct entity *row,
                           struct fail *why)
{
    struct csv_writer w;
    csv_begin_row(&w, line);
    for (size_t i = 0; i < CSV_COUNT; i++)
        add_csv_cell(&w, screen, &CSV_COLUMNS[i], row);
    return csv_end_row(&w, "a lead", why);
}

static enum status add_json(struct buf *line, const struct entity *row, struct fail *why)
{
    struct json_writer w;
    json_begin(&w, line);
    ctl_add_row(&w, row);
    enum status status = json_end(&w, "a lead", why);
    buf_add_char(line, '\n');
    return status;
}

/* sqlite gives all columns, also the payload and what is made from the others. */
static struct entity as_selected(const struct entity *row, struct property kept[ENTITY_PROPERTIES])
{
    struct entity result = *row;
    result.properties = kept;
    result.count = 0;
    for (size_t i = 0; i < row->count && result.count < ENTITY_PROPERTIES; i++) {
        struct span rest = SPAN_LIT(LEAD_COLUMNS), name;
        bool is_wanted = false;
        while (!is_wanted && span_next(&rest, ',', &name))
            is_wanted = span_eq(name, row->properties[i].name);
        if (is_wanted)
            kept[result.count++] = row->properties[i];
    }
    return result;
}

enum status lead_print(const struct screen *screen, enum lead_format format, const struct entity *row,
                       struct fail *why)
{
    struct property kept[ENTITY_PROPERTIES];
    struct entity selected = as_selected(row, kept);
    struct buf line = BUF_INIT(CSV_BYTES);
    enum status status =
        format == LEAD_AS_CSV ? add_csv(&line, screen, row, why) : add_json(&line, &selected, why);
    if (status == ST_OK && format == LEAD_AS_CSV)
        print_bytes(&line);
    else if (status == ST_OK)
        ctl_print_json(buf_span(&line));
    buf_release(&line);
    return status;
}
