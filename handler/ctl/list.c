/* Rows have no order in time, so the newest are found by looking at all leads of
 * all offers and keeping the best; memory is that of one page and the result.
 */
#include "handler/ctl/ctl.h"

/* System */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/json_write.h"
#include "lib/base/text.h"

/* L6 */
#include "lib/store/offers.h"

enum {
    LIST_DEFAULT = 20,
    LIST_MAX = 1000,
    PAGE_ROWS = 500,
    LIST_WAIT_MS = 60000,
    RESULT_BYTES = 64 * 1024 * 1024
};

#define LIST_COLUMNS                                                                                             \
    "PartitionKey,RowKey,Timestamp,ReceivedTime,LastReceivedTime,Deliveries,DeliveryId,Action,Source,FirstName," \
    "LastName,Email,Phone,Company,Title,Country,OfferDisplayName,Description,Campaign,IsTest,DoNotContact,"      \
    "PersonalDataWithheld,NotifiedTime,KeyName"

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

/* --- collecting ---------------------------------------------------------------------------------------------- */

/* A copy that outlives the page.  What falls off the list later stays in the arena; the arena is bounded. */
static bool copy_row(struct arena *arena, const struct entity *from, struct entity *to)
{
    *to = (struct entity){.timestamp_ms = from->timestamp_ms, .room = from->count, .count = from->count};
    to->properties = arena_array(arena, from->count, sizeof *to->properties);
    if (!to->properties || !arena_copy(arena, from->partition_key, &to->partition_key) ||
        !arena_copy(arena, from->row_key, &to->row_key))
        return false;
    for (size_t i = 0; i < from->count; i++) {
        to->properties[i] = from->properties[i];
        if (!arena_copy(arena, from->properties[i].name, &to->properties[i].name) ||
            !arena_copy(arena, from->properties[i].text, &to->properties[i].text))
            return false;
    }
    return true;
}

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

static bool offer_row(struct list *list, struct entity *row)
{
    int64_t received_ms = entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms);
    size_t at = list->count;
    while (at > 0 && list->leads[at - 1].received_ms < received_ms)
        at--;
    if (at == list->max)
        return true;
    struct listed entry = {.received_ms = received_ms};
    drop_payload(row);
    if (!copy_row(&list->arena, row, &entry.row))
        return false;
    if (list->count < list->max)
        list->count++;
    memmove(&list->leads[at + 1], &list->leads[at], (list->count - 1 - at) * sizeof list->leads[0]);
    list->leads[at] = entry;
    return true;
}

struct collection {
    struct store *store;
    struct list *list;
};

static enum status visit_lead(void *context, struct entity *row, struct fail *why)
{
    struct collection *c = context;
    return offer_row(c->list, row) ? ST_OK : fail_set(why, ST_NOMEM, 0, "no memory for the list");
}

static enum status visit_offer(void *context, struct span partition, struct fail *why)
{
    struct collection *c = context;
    struct query q = {
        .table = TABLE_LEADS,
        .partition_key = partition,
        .from = SPAN_LIT("0"), /* keys of leads begin with a hexadecimal digit, others with '~' */
        .to = SPAN_LIT("~"),
        .select = LIST_COLUMNS,
        .limit = PAGE_ROWS,
    };
    return store_each(c->store, &q, LIST_WAIT_MS, visit_lead, c, why);
}

static enum status collect(struct store *store, struct list *list, struct fail *why)
{
    struct collection c = {.store = store, .list = list};
    return offers_each(store, LIST_WAIT_MS, visit_offer, &c, why);
}

/* --- printing ------------------------------------------------------------------------------------------------ */

/* A cell of so many characters; what is longer ends in "...". */
static void add_cell(struct buf *line, struct span text, size_t width)
{
    struct buf clean = BUF_INIT(64 * 1024);
    text_add_line(&clean, utf8_cut_bytes(span_trim(text), 4 * width));
    size_t shown = 0;
    struct span rest = buf_span(&clean);
    size_t total = 0;
    for (size_t i = 0; i < rest.len; i++)
        total += ((unsigned char)rest.ptr[i] & 0xC0) != 0x80;
    size_t keep = total > width ? width - 3 : total;
    while (rest.len && shown < keep) {
        uint32_t code;
        size_t len = utf8_decode(rest, &code);
        buf_add(line, span_cut(rest, 0, len ? len : 1));
        rest = span_from(rest, len ? len : 1);
        shown++;
    }
    for (; total > width && shown < width; shown++)
        buf_add_char(line, '.');
    for (; shown < width; shown++)
        buf_add_char(line, ' ');
    buf_add_text(line, "  ");
    buf_release(&clean);
}

static struct span notes_of(const struct entity *row)
{
    bool test = entity_number(row, "IsTest", 0) != 0, dnc = entity_number(row, "DoNotContact", 0) != 0;
    return test && dnc ? SPAN_LIT("test, do not contact")
           : test      ? SPAN_LIT("test")
           : dnc       ? SPAN_LIT("do not contact")
                       : span_empty();
}

static void print_table(const struct list *list)
{
    (void)printf("%-16s  %-8s  %-28s  %-14s  %-22s  %-20s  %-28s  %-7s  %s\n", "RECEIVED (UTC)", "ID",
                 "OFFER", "ACTION", "NAME", "COMPANY", "E-MAIL", "MAIL", "NOTES");
    for (size_t i = 0; i < list->count; i++) {
        const struct entity *row = &list->leads[i].row;
        struct buf line = BUF_INIT(64 * 1024), name = BUF_INIT(256 * 1024);
        char time[CLOCK_TEXT_BYTES];
        clock_iso_time(list->leads[i].received_ms, time);
        time[10] = ' ';
        add_cell(&line, span_cut(span_of(time), 0, 16), 16);
        add_cell(&line, span_cut(entity_text(row, COLUMN_DELIVERY_ID), 0, DELIVERY_ID_MIN), DELIVERY_ID_MIN);
        add_cell(&line, row->partition_key, 28);
        add_cell(&line, entity_text(row, "Action"), 14);
        buf_add(&name, entity_text(row, "FirstName"));
        buf_add_char(&name, ' ');
        buf_add(&name, entity_text(row, "LastName"));
        add_cell(&line, buf_span(&name), 22);
        add_cell(&line, entity_text(row, "Company"), 20);
        add_cell(&line, entity_text(row, "Email"), 28);
        add_cell(&line, entity_number(row, COLUMN_NOTIFIED_TIME, 0) ? SPAN_LIT("sent") : SPAN_LIT("-"), 7);
        add_cell(&line, notes_of(row), 20);
        (void)printf("%.*s\n", SPAN_FMT(span_trim(buf_span(&line))));
        buf_release(&name);
        buf_release(&line);
    }
    if (list->count == 0)
        (void)printf("no leads yet\n");
}

static enum status print_json(const struct list *list, struct fail *why)
{
    for (size_t i = 0; i < list->count; i++) {
        const struct entity *row = &list->leads[i].row;
        struct buf line = BUF_INIT(LIMIT_ENTITY_JSON_BYTES);
        struct json_writer w;
        char time[CLOCK_TEXT_BYTES];
        json_begin(&w, &line);
        json_add_text(&w, SPAN_LIT("Offer"), row->partition_key);
        json_add_text(&w, SPAN_LIT("RowKey"), row->row_key);
        for (size_t k = 0; k < row->count; k++) {
            const struct property *p = &row->properties[k];
            switch (p->type) {
            case EDM_BOOLEAN:
                json_add_bool(&w, p->name, p->number != 0);
                break;
            case EDM_INT32:
                json_add_number(&w, p->name, p->number);
                break;
            case EDM_DATETIME:
                clock_iso_time(p->number, time);
                json_add_text(&w, p->name, span_of(time));
                break;
            case EDM_STRING:
            case EDM_OTHER:
                json_add_text(&w, p->name, p->text);
                break;
            case EDM_BINARY:
                break;
            }
        }
        enum status status = json_end(&w, "a lead", why);
        if (status == ST_OK)
            (void)printf("%s\n", line.data);
        buf_release(&line);
        if (status != ST_OK)
            return status;
    }
    return ST_OK;
}

/* --- the command --------------------------------------------------------------------------------------------- */

static bool read_options(int argc, char **argv, size_t *max, bool *json)
{
    for (int i = 1; i < argc; i++) {
        uint64_t number;
        if (strcmp(argv[i], "--json") == 0) {
            *json = true;
        } else if (strcmp(argv[i], "-n") == 0 && i + 1 < argc &&
                   span_to_u64(span_of(argv[i + 1]), LIST_MAX, &number) && number > 0) {
            *max = (size_t)number;
            i++;
        } else {
            return false;
        }
    }
    return true;
}

int ctl_list(struct service *service, int argc, char **argv)
{
    struct list list = {.arena = ARENA_INIT(RESULT_BYTES), .max = LIST_DEFAULT};
    struct store *store = NULL;
    struct fail why;
    bool json = false;
    if (!read_options(argc, argv, &list.max, &json)) {
        (void)fprintf(stderr, "usage: leadctl list [-n COUNT] [--json]   (COUNT is 1 to %d)\n", LIST_MAX);
        return EX_USAGE;
    }
    list.leads = calloc(list.max, sizeof *list.leads);
    enum status status = list.leads ? service_open_store(service, &store, &why)
                                    : fail_set(&why, ST_NOMEM, 0, "no memory for the list");
    if (status == ST_OK)
        status = collect(store, &list, &why);
    if (status == ST_OK && json)
        status = print_json(&list, &why);
    else if (status == ST_OK)
        print_table(&list);
    if (status == ST_OK && (fflush(stdout) != 0 || ferror(stdout)))
        status = fail_set(&why, ST_IO, 0, "cannot write the list");
    if (status != ST_OK)
        (void)fprintf(stderr, "leadctl: %s\n", why.text);
    store_close(store);
    free(list.leads);
    arena_release(&list.arena);
    return status == ST_OK ? 0 : EX_UNAVAILABLE;
}
