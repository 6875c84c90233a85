#include "handler/ctl/ctl.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/text.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/find.h"
#include "handler/ctl/print.h"
#include "handler/ctl/screen.h"

enum {
    NAMES_MOST = 1024, /* of one kind; others are counted together */
    NAME_BYTES = 96,
    NAMES_SHOWN = 20,
    LINE_BYTES = 1024,
    NUMBER_TEXT = 24
};
#define STATS_COLUMNS FIND_COLUMNS ",Source,DoNotContact,Deliveries,NotifiedTime"

/* How many came when. */
enum span_of_time { SPAN_ALL, SPAN_DAY, SPAN_WEEK, SPAN_MONTH, SPAN_COUNT };
static const char *const SPAN_TITLES[] = {"ALL", "24 HOURS", "7 DAYS", "30 DAYS"};
static const char *const SPAN_NAMES[] = {"all", "day", "week", "month"};
static const int64_t SPAN_MS[] = {INT64_MAX, CLOCK_DAY_MS, 7 * CLOCK_DAY_MS, 30 * CLOCK_DAY_MS};

struct counts {
    uint64_t of[SPAN_COUNT];
};

struct named {
    char name[NAME_BYTES];
    struct counts counts;
};

/* The names of one kind; from outside, so their number has a bound. */
struct names {
    const char *title;
    const char *column; /* NULL: the offer */
    struct named *named;
    size_t count;
    struct counts others;
};

enum total { TOTAL_LEADS, TOTAL_TESTS, TOTAL_DNC, TOTAL_REPEATED, TOTAL_MAILED, TOTAL_COUNT };
static const char *const TOTAL_TITLES[] = {"leads", "tests", "do not contact", "delivered again", "mailed"};
static const char *const TOTAL_NAMES[] = {"leads", "tests", "do_not_contact", "delivered_again", "mailed"};

enum kind { KIND_OFFER, KIND_ACTION, KIND_SOURCE, KIND_COUNTRY, KIND_COUNT };
static const char *const KIND_NAMES[] = {"by_offer", "by_action", "by_source", "by_country"};

struct stats {
    int64_t now_ms;
    struct counts totals[TOTAL_COUNT];
    struct names names[KIND_COUNT];
};

/* --- counting ------------------------------------------------------------------------------------------------ */

static void count(struct counts *c, int64_t age_ms)
{
    for (size_t i = 0; i < SPAN_COUNT; i++)
        c->of[i] += age_ms < SPAN_MS[i] ? 1 : 0;
}

static struct counts *counts_of(struct names *names, struct span text)
{
    char memory[NAME_BYTES];
    struct buf name = BUF_FIXED(memory);
    text_add_line(&name, utf8_cut_bytes(span_trim(text), NAME_BYTES / 3));
    if (name.len == 0)
        buf_add_text(&name, "(none)");
    for (size_t i = 0; i < names->count; i++) {
        if (span_eq_nocase(span_of(names->named[i].name), buf_span(&name)))
            return &names->named[i].counts;
    }
    if (names->count == NAMES_MOST)
        return &names->others;
    struct named *fresh = &names->named[names->count++];
    memcpy(fresh->name, name.data, name.len + 1);
    return &fresh->counts;
}

static enum status visit(void *context, struct entity *row, struct fail *why)
{
    struct stats *s = context;
    int64_t age_ms = s->now_ms - find_received_ms(row);
    const bool has[TOTAL_COUNT] = {
        [TOTAL_LEADS] = true,
        [TOTAL_TESTS] = entity_number(row, "IsTest", 0) != 0,
        [TOTAL_DNC] = entity_number(row, "DoNotContact", 0) != 0,
        [TOTAL_REPEATED] = entity_number(row, COLUMN_DELIVERIES, 1) > 1,
        [TOTAL_MAILED] = entity_number(row, COLUMN_NOTIFIED_TIME, 0) != 0,
    };
    (void)why;
    for (size_t i = 0; i < TOTAL_COUNT; i++) {
        if (has[i])
            count(&s->totals[i], age_ms);
    }
    for (size_t i = 0; i < KIND_COUNT; i++) {
        struct names *n = &s->names[i];
        count(counts_of(n, n->column ? entity_text(row, n->column) : row->partition_key), age_ms);
    }
    return ST_OK;
}

static int compare(const void *left, const void *right)
{
    const struct named *a = left, *b = right;
    uint64_t x = a->counts.of[SPAN_ALL], y = b->counts.of[SPAN_ALL];
    return x != y ? (x < y ? 1 : -1) : strcmp(a->name, b->name);
}

/* --- printing ------------------------------------------------------------------------------------------------ */

static void measure(struct column *columns, const char *name)
{
    column_measure(&columns[0], span_of(name));
}

static void print_counts(const struct screen *screen, const struct column *columns, const char *name,
                         const struct counts *counts)
{
    char memory[LINE_BYTES], number[NUMBER_TEXT];
    struct buf line = BUF_FIXED(memory);
    column_add(&line, &columns[0], span_of(name));
    for (size_t i = 0; i < SPAN_COUNT; i++) {
        (void)snprintf(number, sizeof number, "%" PRIu64, counts->of[i]);
        column_add(&line, &columns[i + 1], span_of(number));
    }
    screen_print_line(screen, STYLE_NORMAL, buf_span(&line));
}

static void add(struct counts *to, const struct counts *more)
{
    for (size_t i = 0; i < SPAN_COUNT; i++)
        to->of[i] += more->of[i];
}

static void print_names(const struct screen *screen, struct column *columns, const struct names *names)
{
    struct counts others = names->others;
    size_t shown = names->count < NAMES_SHOWN ? names->count : NAMES_SHOWN;
    for (size_t i = shown; i < names->count; i++)
        add(&others, &names->named[i].counts);
    columns[0].title = names->title;
    (void)printf("\n");
    columns_print_head(screen, columns, SPAN_COUNT + 1);
    for (size_t i = 0; i < shown; i++)
        print_counts(screen, columns, names->named[i].name, &names->named[i].counts);
    if (others.of[SPAN_ALL])
        print_counts(screen, columns, "(others)", &others);
}

static void print_table(const struct stats *s, const struct screen *screen)
{
    struct column columns[SPAN_COUNT + 1] = {{.title = "LEADS", .least = 15, .most = 44}};
    for (size_t i = 0; i < SPAN_COUNT; i++) {
        columns[i + 1] =
            (struct column){.title = SPAN_TITLES[i], .least = 9, .most = 12, .is_number = true, .width = 9};
        column_measure(&columns[i + 1], span_empty());
    }
    for (size_t i = 0; i < TOTAL_COUNT; i++)
        measure(columns, TOTAL_TITLES[i]);
    for (size_t k = 0; k < KIND_COUNT; k++) {
        for (size_t i = 0; i < s->names[k].count && i < NAMES_SHOWN; i++)
            measure(columns, s->names[k].named[i].name);
    }
    columns_fit(columns, SPAN_COUNT + 1, screen);
    columns_print_head(screen, columns, SPAN_COUNT + 1);
    for (size_t i = 0; i < TOTAL_COUNT; i++)
        print_counts(screen, columns, TOTAL_TITLES[i], &s->totals[i]);
    for (size_t k = 0; k < KIND_COUNT && s->totals[TOTAL_LEADS].of[SPAN_ALL]; k++)
        print_names(screen, columns, &s->names[k]);
}

static void add_counts(struct json_writer *w, const char *name, const struct counts *counts)
{
    json_open(w, span_of(name));
    for (size_t i = 0; i < SPAN_COUNT; i++)
        json_add_number(w, span_of(SPAN_NAMES[i]), (int64_t)counts->of[i]);
    json_close(w);
}

static enum status print_json(const struct stats *s, struct fail *why)
{
    struct buf line = BUF_INIT(LIMIT_ENTITY_JSON_BYTES);
    struct json_writer w;
    json_begin(&w, &line);
    for (size_t i = 0; i < TOTAL_COUNT; i++)
        add_counts(&w, TOTAL_NAMES[i], &s->totals[i]);
    for (size_t k = 0; k < KIND_COUNT; k++) {
        json_open(&w, span_of(KIND_NAMES[k]));
        for (size_t i = 0; i < s->names[k].count; i++)
            add_counts(&w, s->names[k].named[i].name, &s->names[k].named[i].counts);
        if (s->names[k].others.of[SPAN_ALL])
            add_counts(&w, "(others)", &s->names[k].others);
        json_close(&w);
    }
    enum status status = json_end(&w, "the counts", why);
    buf_add_char(&line, '\n');
    if (status == ST_OK)
        ctl_print_json(buf_span(&line));
    buf_release(&line);
    return status;
}

/* --- the command --------------------------------------------------------------------------------------------- */

static enum status print(struct stats *s, bool json, struct fail *why)
{
    struct screen screen;
    enum status status = ST_OK;
    for (size_t k = 0; k < KIND_COUNT; k++)
        qsort(s->names[k].named, s->names[k].count, sizeof(struct named), compare);
    screen_open(&screen, json ? SCREEN_PLAIN : SCREEN_PAGED);
    if (json)
        status = print_json(s, why);
    else
        print_table(s, &screen);
    struct fail closing;
    enum status closed = screen_close(&screen, "the counts", status == ST_OK ? why : &closing);
    return status == ST_OK ? closed : status;
}

static enum status read_options(int argc, char **argv, struct find_filter *filter, bool *json,
                                struct fail *why)
{
    enum status status = ST_OK;
    for (int i = 1; i < argc && status == ST_OK; i++) {
        if (strcmp(argv[i], "--json") == 0)
            *json = true;
        else
            status = find_take_option(filter, argc, argv, &i, why);
    }
    return status == ST_OK ? find_check(filter, why) : status;
}

int ctl_stats(struct service *service, int argc, char **argv)
{
    struct find_filter filter = {0};
    struct find find = {.filter = &filter, .select = STATS_COLUMNS, .is_patient = true};
    struct stats stats = {.now_ms = clock_true_ms(),
                          .names = {[KIND_OFFER] = {.title = "BY OFFER"},
                                    [KIND_ACTION] = {.title = "BY ACTION", .column = "Action"},
                                    [KIND_SOURCE] = {.title = "BY SOURCE", .column = "Source"},
                                    [KIND_COUNTRY] = {.title = "BY COUNTRY", .column = "Country"}}};
    bool json = false;
    struct fail why;
    if (read_options(argc, argv, &filter, &json, &why) != ST_OK)
        return command_misused("stats", argc, argv, &why);
    struct named *memory = calloc(KIND_COUNT * NAMES_MOST, sizeof *memory);
    enum status status = memory ? service_open_store(service, &find.store, &why)
                                : fail_set(&why, ST_NOMEM, 0, "no memory for the counts");
    for (size_t k = 0; k < KIND_COUNT && memory; k++)
        stats.names[k].named = memory + k * NAMES_MOST;
    if (status == ST_OK)
        status = find_each(&find, visit, &stats, &why);
    if (status == ST_OK)
        status = print(&stats, json, &why);
    store_close(find.store);
    free(memory);
    return status == ST_OK ? 0 : ctl_failed(status, &why);
}
