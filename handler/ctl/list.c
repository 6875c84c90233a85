/* Rows have no order in time, so the newest are found by looking at all leads
 * that the filters leave and keeping the best; memory is that of one page and
 * the result.  Where all are wanted they go out as they come.
 */
#include "handler/ctl/ctl.h"

/* System */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/csv_write.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/lead_text.h"
#include "handler/ctl/print.h"

enum { LIST_DEFAULT = 20 };

struct request {
    struct find_filter filter;
    enum lead_format format;
    size_t max;
    bool is_all;
    bool has_mark; /* a byte order mark */
};

struct listed {
    int64_t received_ms;
    struct entity row; /* copied */
};

struct list {
    struct arena arena;   /* of the copies */
    struct listed *leads; /* newest first */
    size_t count;
    size_t max;
};

/* --- the newest ---------------------------------------------------------------------------------------------- */

/* The payload is the largest part of a row from sqlite, which gives all columns, and is not shown. */
static void drop_payload(struct entity *row)
{
    size_t kept = 0;
    for (size_t i = 0; i < row->count; i++) {
        if (!span_starts(row->properties[i].name, SPAN_LIT("Payload")))
            row->properties[kept++] = row->properties[i];
    }
    row->count = kept;
}

/* Drops from the arena what has fallen off the list. */
static bool compact(struct list *list)
{
    struct arena fresh = ARENA_INIT(list->arena.limit);
    bool copied = true;
    for (size_t i = 0; i < list->count && copied; i++) {
        struct entity row = list->leads[i].row;
        copied = entity_copy(&row, &fresh, &list->leads[i].row);
    }
    arena_release(&list->arena);
    list->arena = fresh;
    return copied;
}

static enum status keep_newest(void *context, struct entity *row, struct fail *why)
{
    struct list *list = context;
    int64_t received_ms = find_received_ms(row);
    size_t at = list->count;
    while (at > 0 && list->leads[at - 1].received_ms < received_ms)
        at--;
    if (at == list->max)
        return ST_OK;
    struct listed entry = {.received_ms = received_ms};
    if (list->count == list->max)
        list->count--;
    drop_payload(row);
    if (!entity_copy(row, &list->arena, &entry.row) &&
        !(compact(list) && entity_copy(row, &list->arena, &entry.row)))
        return fail_set(why, ST_TOO_LARGE, 0,
                        "the list is too large: ask for fewer leads (-n), or for --all");
    memmove(&list->leads[at + 1], &list->leads[at], (list->count - at) * sizeof list->leads[0]);
    list->leads[at] = entry;
    list->count++;
    return ST_OK;
}

static bool has_filter(const struct find_filter *f)
{
    return f->since_ms || f->until_ms || f->offer[0] || f->contact[0] || f->action.len || f->country.len ||
           f->tests != FIND_ALL;
}

static void print_table(const struct screen *screen, const struct list *list,
                        const struct find_filter *filter)
{
    struct column columns[LEAD_TABLE_COLUMNS];
    if (list->count == 0) {
        (void)printf("%s\n", has_filter(filter) ? "no lead is left by these filters" : "no leads yet");
        return;
    }
    lead_table_init(columns);
    for (size_t i = 0; i < list->count; i++)
        lead_table_measure(columns, &list->leads[i].row);
    columns_fit(columns, LEAD_TABLE_COLUMNS, screen);
    columns_print_head(screen, columns, LEAD_TABLE_COLUMNS);
    for (size_t i = 0; i < list->count; i++)
        lead_table_print(screen, columns, &list->leads[i].row);
}

static enum status print_head(const struct request *request, struct fail *why)
{
    if (request->has_mark)
        (void)fputs(CSV_BYTE_ORDER_MARK, stdout);
    return request->format == LEAD_AS_CSV ? lead_print_csv_head(why) : ST_OK;
}

static enum status list_newest(const struct find *find, const struct request *request, struct fail *why)
{
    struct list list = {.arena = ARENA_INIT(LIMIT_LIST_BYTES), .max = request->max};
    struct screen screen;
    list.leads = calloc(list.max, sizeof *list.leads);
    enum status status = list.leads ? find_each(find, keep_newest, &list, why)
                                    : fail_set(why, ST_NOMEM, 0, "no memory for the list");
    if (status != ST_OK)
        goto out;
    screen_open(&screen, request->format == LEAD_AS_TABLE ? SCREEN_PAGED : SCREEN_PLAIN);
    if (request->format == LEAD_AS_TABLE)
        print_table(&screen, &list, &request->filter);
    else
        status = print_head(request, why);
    for (size_t i = 0; i < list.count && status == ST_OK && request->format != LEAD_AS_TABLE; i++)
        status = lead_print(&screen, request->format, &list.leads[i].row, why);
    if (status == ST_OK)
        status = screen_close(&screen, "the list", why);
out:
    free(list.leads);
    arena_release(&list.arena);
    return status;
}

/* --- all ----------------------------------------------------------------------------------------------------- */

struct printing {
    const struct request *request;
    struct screen screen;
};

static enum status print_lead(void *context, struct entity *row, struct fail *why)
{
    const struct printing *p = context;
    if (!screen_is_read())
        return fail_set(why, ST_IO, 0, "cannot write the list");
    return lead_print(&p->screen, p->request->format, row, why);
}

static enum status list_all(const struct find *find, const struct request *request, struct fail *why)
{
    struct printing p = {.request = request};
    screen_open(&p.screen, SCREEN_PLAIN);
    enum status status = print_head(request, why);
    if (status == ST_OK)
        status = find_each(find, print_lead, &p, why);
    if (status != ST_OK && screen_is_read())
        return status;
    return screen_close(&p.screen, "the list", why); /* to which a reader who has gone is no failure */
}

/* --- the command --------------------------------------------------------------------------------------------- */

static enum status take_count(struct request *request, const char *text, struct fail *why)
{
    uint64_t number;
    if (!text || !span_to_u64(span_of(text), LIMIT_LIST_ROWS, &number) || number == 0)
        return fail_set(why, ST_INVALID, 0, "-n: a number from 1 to %u; --all has no bound", LIMIT_LIST_ROWS);
    request->max = (size_t)number;
    return ST_OK;
}

static enum status read_options(int argc, char **argv, struct request *request, struct fail *why)
{
    enum status status = ST_OK;
    for (int i = 1; i < argc && status == ST_OK; i++) {
        if (strcmp(argv[i], "--json") == 0)
            request->format = LEAD_AS_JSON;
        else if (strcmp(argv[i], "--csv") == 0)
            request->format = LEAD_AS_CSV;
        else if (strcmp(argv[i], "--bom") == 0)
            request->has_mark = true;
        else if (strcmp(argv[i], "--all") == 0)
            request->is_all = true;
        else if (strcmp(argv[i], "-n") == 0)
            status = take_count(request, i + 1 < argc ? argv[++i] : NULL, why);
        else
            status = find_take_option(&request->filter, argc, argv, &i, why);
    }
    if (status == ST_OK && request->has_mark && request->format != LEAD_AS_CSV)
        return fail_set(why, ST_INVALID, 0, "--bom is for --csv");
    if (status == ST_OK && request->is_all && request->format == LEAD_AS_TABLE)
        return fail_set(why, ST_INVALID, 0, "--all needs --csv or --json");
    return status == ST_OK ? find_check(&request->filter, why) : status;
}

int ctl_list(struct service *service, int argc, char **argv)
{
    struct request request = {.max = LIST_DEFAULT};
    struct find find = {.filter = &request.filter, .select = LEAD_COLUMNS};
    struct fail why;
    if (read_options(argc, argv, &request, &why) != ST_OK)
        return command_misused("list", argc, argv, &why);
    find.is_patient = request.is_all;
    enum status status = service_open_store(service, &find.store, &why);
    if (status == ST_OK)
        status = request.is_all ? list_all(&find, &request, &why) : list_newest(&find, &request, &why);
    store_close(find.store);
    return status == ST_OK ? 0 : ctl_failed(status, &why);
}
