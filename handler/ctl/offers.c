#include "handler/ctl/ctl.h"

/* System */
#include <stdio.h>
#include <string.h>

/* L6 */
#include "lib/store/offers.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/print.h"
#include "handler/ctl/screen.h"

enum { PAGE_WAIT_MS = 60000, TIME_TEXT = 16 /* "2026-11-21 09:30" */, LINE_BYTES = 4096 };

enum cell { CELL_OFFER, CELL_TITLE, CELL_FIRST, CELL_LAST, CELL_COUNT };

struct listing {
    struct screen screen;
    struct column columns[CELL_COUNT];
    uint64_t count;
};

/* The text of a cell; what has to be made is in *text. */
static struct span cell_of(const struct offer *offer, enum cell cell, struct buf *text)
{
    buf_reset(text);
    int64_t ms = cell == CELL_FIRST ? offer->first_ms : offer->last_ms;
    switch (cell) {
    case CELL_OFFER:
        return offer->partition;
    case CELL_TITLE:
        return offer->title;
    case CELL_FIRST:
    case CELL_LAST:
        if (!ms)
            return SPAN_LIT("-");
        ctl_add_time(text, ms);
        return span_cut(buf_span(text), 0, TIME_TEXT);
    case CELL_COUNT:
        break;
    }
    return span_empty();
}

static enum status measure_offer(void *context, struct entity *row, struct fail *why)
{
    struct listing *l = context;
    char memory[LINE_BYTES];
    struct buf text = BUF_FIXED(memory);
    struct offer offer = offer_of_row(row);
    (void)why;
    for (enum cell i = CELL_OFFER; i < CELL_COUNT; i++)
        column_measure(&l->columns[i], cell_of(&offer, i, &text));
    l->count++;
    return ST_OK;
}

static enum status print_offer(void *context, struct entity *row, struct fail *why)
{
    const struct listing *l = context;
    char memory[LINE_BYTES], line_memory[LINE_BYTES];
    struct buf text = BUF_FIXED(memory), line = BUF_FIXED(line_memory);
    struct offer offer = offer_of_row(row);
    for (enum cell i = CELL_OFFER; i < CELL_COUNT; i++)
        column_add(&line, &l->columns[i], cell_of(&offer, i, &text));
    screen_print_line(&l->screen, STYLE_NORMAL, buf_span(&line));
    return screen_is_read() ? ST_OK : fail_set(why, ST_IO, 0, "cannot write the offers");
}

static enum status print_json(void *context, struct entity *row, struct fail *why)
{
    struct buf line = BUF_INIT(LIMIT_ENTITY_JSON_BYTES);
    struct json_writer w;
    (void)context;
    json_begin(&w, &line);
    json_add_text(&w, SPAN_LIT("Offer"), row->row_key);
    for (size_t i = 0; i < row->count; i++)
        ctl_add_property(&w, &row->properties[i]);
    enum status status = json_end(&w, "an offer", why);
    buf_add_char(&line, '\n');
    if (status == ST_OK)
        ctl_print_json(buf_span(&line));
    buf_release(&line);
    if (status == ST_OK && !screen_is_read())
        status = fail_set(why, ST_IO, 0, "cannot write the offers");
    return status;
}

/* Twice through the directory: it may be longer than what one would hold to find the widths. */
static enum status print_table(struct store *store, struct listing *l, struct fail *why)
{
    struct query q = offers_query();
    enum status status = store_each(store, &q, PAGE_WAIT_MS, measure_offer, l, why);
    if (status != ST_OK)
        return status;
    screen_open(&l->screen, SCREEN_PAGED);
    if (l->count == 0)
        (void)printf("no offers yet: one is known with its first lead\n");
    columns_fit(l->columns, CELL_COUNT, &l->screen);
    if (l->count > 0)
        columns_print_head(&l->screen, l->columns, CELL_COUNT);
    q = offers_query();
    return l->count > 0 ? store_each(store, &q, PAGE_WAIT_MS, print_offer, l, why) : ST_OK;
}

static enum status print_all(struct store *store, bool json, struct fail *why)
{
    struct listing l = {.columns = {[CELL_OFFER] = {.title = "OFFER", .least = 12, .most = 60},
                                    [CELL_TITLE] = {.title = "TITLE", .least = 12, .most = 40},
                                    [CELL_FIRST] = {.title = "FIRST LEAD (UTC)", .least = 16, .most = 16},
                                    [CELL_LAST] = {.title = "LAST LEAD (UTC)", .least = 16, .most = 16}}};
    struct query q = offers_query();
    if (json)
        screen_open(&l.screen, SCREEN_PLAIN);
    enum status status =
        json ? store_each(store, &q, PAGE_WAIT_MS, print_json, &l, why) : print_table(store, &l, why);
    struct fail closing;
    enum status closed = screen_close(&l.screen, "the offers", status == ST_OK ? why : &closing);
    return status == ST_OK || !screen_is_read() ? closed : status;
}

int ctl_offers(struct service *service, int argc, char **argv)
{
    struct store *store = NULL;
    struct fail why;
    bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !json)
        return command_misused("offers", argc, argv, NULL);
    enum status status = service_open_store(service, &store, &why);
    if (status == ST_OK)
        status = print_all(store, json, &why);
    store_close(store);
    return status == ST_OK ? 0 : ctl_failed(status, &why);
}
