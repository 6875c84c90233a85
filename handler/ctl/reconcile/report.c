#include "handler/ctl/reconcile/reconcile.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/encode.h"
#include "lib/base/text.h"

/* The commands' words */
#include "handler/ctl/print.h"

enum { SHOWN_LINES = 40, LINE_BYTES = 4096, OFFER_COLUMN = 40 };

/* --- what it comes to ----------------------------------------------------------------------------------------- */

static bool is_extra(const struct reconcile *r, const struct match_table_lead *lead)
{
    return lead->partners == 0 && reconcile_is_in_time(r, lead->first_ms);
}

static void count(struct reconcile *r)
{
    struct reconcile_tally *t = &r->tally;
    for (size_t i = 0; i < r->lead_count; i++) {
        const struct match_file_lead *lead = &r->leads[i];
        t->agree += lead->state == MATCH_AGREES && !lead->differs;
        t->differ += lead->state == MATCH_AGREES && lead->differs;
        t->unsure += lead->state == MATCH_AGREES && lead->key.kind != MATCH_BY_EMAIL;
        t->missing += lead->state == MATCH_MISSING;
        t->unreadable += lead->state == MATCH_UNREADABLE;
        t->duplicates += lead->state == MATCH_DUPLICATE;
        t->other_kind += lead->state == MATCH_OTHER_KIND;
        t->withheld += lead->state == MATCH_WITHHELD;
    }
    for (size_t i = 0; i < r->found_count; i++) {
        const struct match_table_lead *lead = &r->found[i];
        t->extra += is_extra(r, lead) && !lead->is_test;
        t->test_extra += is_extra(r, lead) && lead->is_test;
        t->outside += lead->partners == 0 && !reconcile_is_in_time(r, lead->first_ms);
    }
}

static void print_count(uint64_t number, bool always, const char *words)
{
    if (number > 0 || always)
        (void)printf("%10" PRIu64 "  %s\n", number, words);
}

static void print_head(const struct reconcile *r)
{
    static const char *const orders[] = {
        [DATE_ISO] = "year first", [DATE_DMY] = "day first", [DATE_MDY] = "month first"};
    char memory[LINE_BYTES];
    struct buf line = BUF_FIXED(memory);
    uint64_t seen_on, rows = partner_rows(r->file);
    enum date_order order = partner_order(r->file, &seen_on);
    text_add_line(&line, span_of(r->options->file.path));
    buf_addf(&line, ": %" PRIu64 " line%s", rows, rows == 1 ? "" : "s");
    if (r->from_ms < r->to_ms) {
        buf_add_text(&line, ", created ");
        ctl_add_time(&line, r->from_ms);
        buf_add_text(&line, " to ");
        ctl_add_time(&line, r->to_ms - 1);
        buf_addf(&line, " UTC (dates: %s", orders[order]);
        if (seen_on)
            buf_addf(&line, ", as line %" PRIu64 " shows", seen_on);
        buf_add_char(&line, ')');
    }
    (void)printf("%.*s\n", SPAN_FMT(buf_span(&line)));
    if (!partner_their_name(r->file, PARTNER_EMAIL).len)
        (void)printf(
            "It has no column with e-mail addresses: its leads are told by company or name, which is less "
            "sure.\n");
    if (!partner_their_name(r->file, PARTNER_OFFER).len && !partner_their_name(r->file, PARTNER_OFFER_ID).len)
        (void)printf(
            "It has no column with offers: leads of one person are told apart by their time only.\n");
}

static void print_tally(const struct reconcile_tally *t)
{
    print_count(t->agree, true, "here, and the same");
    print_count(t->differ, true, "here, with fields that differ");
    print_count(t->missing, true, "missing here: in the file, not in the table");
    print_count(t->extra, true, "extra here: in the table, not in the file");
    print_count(t->unreadable, false,
                "not comparable: no date that can be read, one that is still to come, or nobody named");
    print_count(t->unsure, false, "of these here told by company or name only");
    print_count(t->duplicates, false, "again in the file, and counted once");
    print_count(t->other_kind, false, "not of the marketplace (qualified, profile): not compared");
    print_count(t->withheld, false, "of a domain of withhold_domains: not compared");
    print_count(t->table_withheld, false, "here and withheld: not compared");
    print_count(t->test_extra, false, "here and not in the file, but test leads");
    print_count(t->outside, false, "outside of the time that is compared");
}

/* --- one by one ----------------------------------------------------------------------------------------------- */

static const char *const WHY_MISSING[] = {
    [MATCH_NOBODY] = "no lead of this person",
    [MATCH_OTHER_OFFER] = "leads of this person, but of other offers",
    [MATCH_OTHER_TIME] = "of this person and offer, but at another time",
    [MATCH_TAKEN] = "fewer of this person, offer and time than in the file",
};
static const char *const WHY_CODES[] = {
    [MATCH_NOBODY] = "nobody",
    [MATCH_OTHER_OFFER] = "other-offer",
    [MATCH_OTHER_TIME] = "other-time",
    [MATCH_TAKEN] = "taken",
};

static const char *name_of(enum match_state state)
{
    switch (state) {
    case MATCH_AGREES:
        return "differs";
    case MATCH_MISSING:
        return "missing";
    case MATCH_UNREADABLE:
        return "unreadable";
    case MATCH_DUPLICATE:
        return "duplicate";
    case MATCH_OPEN:
    case MATCH_WITHHELD:
    case MATCH_OTHER_KIND:
        break;
    }
    return NULL; /* nothing is said of the single ones */
}

static void add_fields(struct buf *out, unsigned int differs)
{
    bool any = false;
    for (unsigned int i = 0; i < MATCH_FIELDS; i++) {
        if (!(differs & 1u << i))
            continue;
        buf_add_text(out, any ? ", " : "");
        buf_add_text(out, match_field_name(i));
        any = true;
    }
}

static void id_of(const struct match_table_lead *lead, char text[LEAD_DELIVERY_TEXT + 1])
{
    hex_write(lead->id, sizeof lead->id, text);
}

/* Ends in blanks up to the width; a character that is wider than a byte makes it a little short. */
static void add_cell(struct buf *line, struct span text, size_t width)
{
    size_t end = line->len + width;
    text_add_line(line, utf8_cut_bytes(text, width));
    while (line->len < end + 2 && line->error == ST_OK)
        buf_add_char(line, ' ');
}

static struct span offer_of(const struct partner_row *row)
{
    return row->value[PARTNER_OFFER_ID].len ? row->value[PARTNER_OFFER_ID] : row->value[PARTNER_OFFER];
}

/* Whether one more line of its kind is shown. */
static bool is_shown(struct reconcile *r, uint64_t *shown)
{
    bool is = *shown < SHOWN_LINES || r->options->shows_all;
    *shown += is;
    r->hidden += !is;
    return is;
}

static void show_file_lead(struct reconcile *r, const struct match_file_lead *lead,
                           const struct partner_row *row)
{
    char memory[LINE_BYTES], number[24], id[LEAD_DELIVERY_TEXT + 1];
    struct buf line = BUF_FIXED(memory), digits = BUF_FIXED(number);
    if (!is_shown(r, &r->shown))
        return;
    if (r->shown == 1)
        (void)printf("\n%8s  %-10s  %-19s  %-*s  %s\n", "LINE", "WHAT", "CREATED (UTC)", OFFER_COLUMN,
                     "OFFER", "WHY");
    buf_addf(&digits, "%8" PRIu64, lead->line);
    add_cell(&line, buf_span(&digits), 8);
    add_cell(&line, span_of(name_of(lead->state)), 10);
    if (lead->ms)
        ctl_add_time(&line, lead->ms);
    else
        add_cell(&line, span_empty(), 17);
    buf_add_text(&line, "  ");
    add_cell(&line, offer_of(row), OFFER_COLUMN);
    if (lead->state == MATCH_MISSING) {
        buf_add_text(&line, WHY_MISSING[lead->near]);
    } else if (lead->state == MATCH_AGREES) {
        id_of(&r->found[lead->partner], id);
        buf_addf(&line, "lead %.*s: ", DELIVERY_ID_MIN, id);
        add_fields(&line, lead->differs);
    }
    while (line.len > 0 && memory[line.len - 1] == ' ')
        line.len--;
    (void)printf("%.*s\n", SPAN_FMT(buf_span(&line)));
}

static void add_json_time(struct json_writer *w, struct span name, int64_t ms)
{
    char time[CLOCK_TEXT_BYTES];
    clock_iso_time(ms, time);
    json_add_text(w, name, span_of(time));
}

static enum status print_json(struct json_writer *w, struct buf *text, struct fail *why)
{
    enum status status = json_end(w, "a line of the answer", why);
    buf_add_char(text, '\n');
    if (status == ST_OK)
        ctl_print_json(buf_span(text));
    buf_release(text);
    return status;
}

static enum status write_file_lead(const struct reconcile *r, const struct match_file_lead *lead,
                                   const struct partner_row *row, struct fail *why)
{
    struct buf text = BUF_INIT(LIMIT_CSV_ROW_BYTES * 6 + LINE_BYTES);
    char id[LEAD_DELIVERY_TEXT + 1], fields_memory[LINE_BYTES];
    struct buf fields = BUF_FIXED(fields_memory);
    struct json_writer w;
    json_begin(&w, &text);
    json_add_text(&w, SPAN_LIT("kind"), span_of(name_of(lead->state)));
    json_add_number(&w, SPAN_LIT("line"), (int64_t)lead->line);
    if (lead->ms)
        add_json_time(&w, SPAN_LIT("created"), lead->ms);
    json_add_text(&w, SPAN_LIT("offer"), offer_of(row));
    if (lead->state == MATCH_MISSING)
        json_add_text(&w, SPAN_LIT("why"), span_of(WHY_CODES[lead->near]));
    if (lead->state == MATCH_AGREES) {
        id_of(&r->found[lead->partner], id);
        add_fields(&fields, lead->differs);
        json_add_text(&w, SPAN_LIT("lead"), span_of(id));
        json_add_text(&w, SPAN_LIT("fields"), buf_span(&fields));
    }
    return print_json(&w, &text, why);
}

/* What is there twice is no difference. */
static bool is_told(const struct reconcile_options *o, const struct match_file_lead *lead)
{
    return name_of(lead->state) && (lead->state != MATCH_AGREES || lead->differs) &&
           (lead->state != MATCH_DUPLICATE || o->is_json || o->shows_all);
}

/* Once more through the file: says what is to be said of its leads, and imports. */
static enum status go_through_file(struct reconcile *r, struct fail *why)
{
    struct partner_row row;
    enum status status = partner_rewind(r->file, why);
    for (uint64_t number = 0; status == ST_OK && number < partner_rows(r->file); number++) {
        status = partner_next(r->file, &row, why);
        uint32_t place = r->place[number];
        if (status != ST_OK || place == MATCH_NO_PARTNER)
            continue;
        const struct match_file_lead *lead = &r->leads[place];
        if (is_told(r->options, lead) && r->options->is_json)
            status = write_file_lead(r, lead, &row, why);
        else if (is_told(r->options, lead))
            show_file_lead(r, lead, &row);
        if (status == ST_OK && r->import && lead->state == MATCH_MISSING)
            status = import_add(r->import, &row, lead->ms, why);
    }
    if (status == ST_OK && r->import)
        status = import_flush(r->import, why);
    return status;
}

static enum status tell_extra(struct reconcile *r, const struct match_table_lead *lead, struct fail *why)
{
    char memory[LINE_BYTES], id[LEAD_DELIVERY_TEXT + 1];
    struct buf line = BUF_FIXED(memory);
    struct span offer = r->offers[lead->offer];
    id_of(lead, id);
    if (r->options->is_json) {
        struct buf text = BUF_INIT(LINE_BYTES);
        struct json_writer w;
        json_begin(&w, &text);
        json_add_text(&w, SPAN_LIT("kind"), SPAN_LIT("extra"));
        json_add_text(&w, SPAN_LIT("lead"), span_of(id));
        add_json_time(&w, SPAN_LIT("received"), lead->first_ms);
        json_add_text(&w, SPAN_LIT("offer"), offer);
        return print_json(&w, &text, why);
    }
    if (r->shown_extra == 1)
        (void)printf("\n%-8s  %-10s  %-19s  %s\n", "LEAD", "WHAT", "RECEIVED (UTC)", "OFFER");
    buf_addf(&line, "%.*s  extra       ", DELIVERY_ID_MIN, id);
    ctl_add_time(&line, lead->first_ms);
    buf_add_text(&line, "  ");
    text_add_line(&line, offer);
    (void)printf("%.*s\n", SPAN_FMT(buf_span(&line)));
    return ST_OK;
}

static int compare_received(const void *a, const void *b)
{
    const struct match_table_lead *x = a, *y = b;
    return (x->first_ms > y->first_ms) - (x->first_ms < y->first_ms);
}

static enum status tell_extras(struct reconcile *r, struct fail *why)
{
    enum status status = ST_OK;
    if (r->found_count) /* partners are not looked for any more */
        qsort(r->found, r->found_count, sizeof *r->found, compare_received);
    for (size_t i = 0; i < r->found_count && status == ST_OK; i++) {
        const struct match_table_lead *lead = &r->found[i];
        if (!is_extra(r, lead) || lead->is_test || (!r->options->is_json && !is_shown(r, &r->shown_extra)))
            continue;
        status = tell_extra(r, lead, why);
    }
    if (r->hidden)
        (void)printf("\nand %" PRIu64 " more: --all shows them\n", r->hidden);
    return status;
}

static enum status write_summary(const struct reconcile *r, struct fail *why)
{
    const struct reconcile_tally *t = &r->tally;
    const struct {
        const char *name;
        uint64_t number;
    } numbers[] = {
        {"lines", partner_rows(r->file)},
        {"agree", t->agree},
        {"differ", t->differ},
        {"missing", t->missing},
        {"extra", t->extra},
        {"unreadable", t->unreadable},
        {"unsure", t->unsure},
        {"duplicates", t->duplicates},
        {"otherKind", t->other_kind},
        {"withheld", t->withheld + t->table_withheld},
        {"testNotInFile", t->test_extra},
        {"outside", t->outside},
        {"imported", r->import ? r->import->added : 0},
        {"importedMeanwhile", r->import ? r->import->present : 0},
        {"notImported", r->import ? r->import->refused : 0},
    };
    struct buf text = BUF_INIT(LINE_BYTES);
    struct json_writer w;
    json_begin(&w, &text);
    json_add_text(&w, SPAN_LIT("kind"), SPAN_LIT("summary"));
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++)
        json_add_number(&w, span_of(numbers[i].name), (int64_t)numbers[i].number);
    if (r->from_ms < r->to_ms) {
        add_json_time(&w, SPAN_LIT("from"), r->from_ms);
        add_json_time(&w, SPAN_LIT("to"), r->to_ms - 1);
    }
    return print_json(&w, &text, why);
}

static void print_end(const struct reconcile *r)
{
    const struct import *i = r->import;
    if (i) {
        (void)printf("\nimported %" PRIu64 " of %" PRIu64 "%s\n", i->added, r->tally.missing,
                     import_mails(i) ? "; mail about them is on its way"
                     : i->added      ? "; no mail goes out about them"
                                     : "");
        if (i->present)
            (void)printf("%" PRIu64 " were added by somebody else meanwhile\n", i->present);
        if (i->refused)
            (void)printf("%" PRIu64 " the store does not take\n", i->refused);
    } else if (r->tally.missing) {
        (void)printf(
            "\nWhat is missing may wait in quarantine (leadctl quarantine list).  --import adds it.\n");
    }
}

enum status reconcile_tell(struct reconcile *r, struct fail *why)
{
    count(r);
    if (!r->options->is_json) {
        print_head(r);
        print_tally(&r->tally);
    }
    enum status status = go_through_file(r, why);
    if (status == ST_OK)
        status = tell_extras(r, why);
    if (status == ST_OK && r->options->is_json)
        status = write_summary(r, why);
    else if (status == ST_OK)
        print_end(r);
    if (status == ST_OK && (fflush(stdout) != 0 || ferror(stdout)))
        status = fail_set(why, ST_IO, 0, "cannot write to the standard output");
    return status;
}
