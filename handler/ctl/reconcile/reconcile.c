/* The file is read three times: for its columns and dates, into memory as hashes, and once more for what is said of
 * its leads; the table once.  So the memory does not grow with what is in the fields.
 */
#include "handler/ctl/reconcile/reconcile.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/encode.h"
#include "lib/base/when.h"

/* L6 */
#include "lib/store/spool.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/ctl.h"
#include "handler/ctl/print.h"

enum { EXIT_DIFFERS = 1, FIRST_ROOM = 1024 };

#define TOLERANCE_MS CLOCK_DAY_MS /* a date says no more, and Partner Center's may be of another time zone */

#define RECONCILE_COLUMNS                                                                                    \
    FIND_COLUMNS ",LastReceivedTime,Deliveries,DeliveryId,FirstName,LastName,Email,Phone,Company,Title,"     \
                 "OfferDisplayName,ProductId,OfferId,Source,PersonalDataWithheld," COLUMN_ORIGIN

/* --- arguments ------------------------------------------------------------------------------------------------ */

static enum status read_order(struct span word, struct partner_options *file, struct fail *why)
{
    static const char *const words[] = {[DATE_ISO] = "iso", [DATE_DMY] = "dmy", [DATE_MDY] = "mdy"};
    for (enum date_order order = DATE_ISO; order <= DATE_MDY; order++) {
        if (span_eq_nocase(word, span_of(words[order]))) {
            file->order = order;
            file->has_order = true;
            return ST_OK;
        }
    }
    return fail_set(why, ST_INVALID, 0, "--dates is dmy, mdy or iso");
}

static enum status read_tolerance(struct span word, int64_t *tolerance_ms, struct fail *why)
{
    int64_t now_ms = clock_true_ms(), ms = 0;
    bool is_age = span_ends_nocase(word, SPAN_LIT("h")) || span_ends_nocase(word, SPAN_LIT("d")) ||
                  span_ends_nocase(word, SPAN_LIT("w"));
    if (!is_age || when_given(word, now_ms, &ms, NULL) != ST_OK)
        return fail_set(why, ST_INVALID, 0, "--within is an age: hours, days or weeks (2h, 3d)");
    *tolerance_ms = now_ms - ms;
    return ST_OK;
}

static enum status read_time(struct span word, const char *option, int64_t *ms, struct fail *why)
{
    enum status status = when_given(word, clock_true_ms(), ms, why);
    if (status != ST_OK)
        fail_prefix(why, "--%s", option);
    return status;
}

/* The option's value, in the same word or the next one; blank: it is another option, or has none. */
static struct span take_value(const char *name, int argc, char **argv, int *at)
{
    struct span word = span_of(argv[*at]), option = span_of(name), rest = span_from(word, option.len);
    if (!span_starts(word, option) || (rest.len && rest.ptr[0] != '='))
        return span_empty();
    return rest.len ? span_from(rest, 1) : *at + 1 < argc ? span_of(argv[++*at]) : span_empty();
}

static enum status take_option(struct reconcile_options *o, int argc, char **argv, int *at, struct fail *why)
{
    const struct {
        const char *name;
        bool *is_set;
    } flags[] = {
        {"--import", &o->imports}, {"--mail", &o->mails}, {"--all", &o->shows_all}, {"--json", &o->is_json}};
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(argv[*at], flags[i].name) == 0) {
            *flags[i].is_set = true;
            return ST_OK;
        }
    }
    struct span value = take_value("--map", argc, argv, at);
    if (value.len && o->file.map_count == RECONCILE_MAPS)
        return fail_set(why, ST_INVALID, 0, "more than %d columns are mapped", RECONCILE_MAPS);
    if (value.len) {
        o->maps[o->file.map_count++] = value.ptr;
        return ST_OK;
    }
    if ((value = take_value("--dates", argc, argv, at)).len)
        return read_order(value, &o->file, why);
    if ((value = take_value("--within", argc, argv, at)).len)
        return read_tolerance(value, &o->tolerance_ms, why);
    if ((value = take_value("--since", argc, argv, at)).len)
        return read_time(value, "since", &o->filter.since_ms, why);
    if ((value = take_value("--until", argc, argv, at)).len)
        return read_time(value, "until", &o->filter.until_ms, why);
    if (argv[*at][0] == '-' && argv[*at][1])
        return fail_set(why, ST_INVALID, 0, "there is no option '%s', or it needs a value", argv[*at]);
    if (o->file.path)
        return fail_set(why, ST_INVALID, 0, "one file at a time");
    o->file.path = argv[*at];
    return ST_OK;
}

static enum status read_arguments(int argc, char **argv, struct reconcile_options *o, struct fail *why)
{
    enum status status = ST_OK;
    *o = (struct reconcile_options){.tolerance_ms = TOLERANCE_MS};
    o->file.maps = o->maps;
    for (int i = 1; i < argc && status == ST_OK; i++)
        status = take_option(o, argc, argv, &i, why);
    if (status == ST_OK)
        status = find_check(&o->filter, why);
    if (status == ST_OK && !o->file.path)
        status = fail_set(why, ST_INVALID, 0, "which file?");
    if (status == ST_OK && o->mails && !o->imports)
        status = fail_set(why, ST_INVALID, 0, "--mail is for what --import adds");
    return status;
}

/* --- the file's leads ----------------------------------------------------------------------------------------- */

static bool is_wanted_time(const struct find_filter *f, const struct date *date)
{
    int64_t end_ms = date->ms + (date->has_time ? 1 : CLOCK_DAY_MS);
    return end_ms > f->since_ms && (!f->until_ms || date->ms < f->until_ms);
}

/* A day that is still to come was read in the wrong order, or is a slip: as a lead it would be the newest for long.
 * Tomorrow may have begun where the file was written. */
static bool has_usable_date(const struct partner_row *row)
{
    return row->has_date && row->created.ms < clock_true_ms() + CLOCK_DAY_MS;
}

/* Sets all that is known of the row's lead. */
static enum status read_lead(struct reconcile *r, const struct partner_row *row, struct arena *arena,
                             struct match_file_lead *lead, struct fail *why)
{
    struct lead understood;
    lead->line = row->line;
    lead->state = !row->is_of_marketplace ? MATCH_OTHER_KIND
                  : has_usable_date(row)  ? MATCH_OPEN
                                          : MATCH_UNREADABLE;
    if (lead->state != MATCH_OPEN)
        return ST_OK;
    lead->ms = row->created.ms;
    lead->width_ms = row->created.has_time ? 0 : CLOCK_DAY_MS;
    enum status status =
        import_understand(row, span_of(r->service->config.withhold_domains), arena, &understood, why);
    if (status == ST_NOMEM || status == ST_IO)
        return status;
    if (status != ST_OK) {
        lead->state = MATCH_UNREADABLE;
        return ST_OK;
    }
    lead->key = match_key_of(&understood);
    match_traits_of(&understood, &lead->traits);
    if (!hex_read(span_of(understood.content), lead->content, sizeof lead->content))
        return fail_set(why, ST_BUG, 0, "a lead has no content hash");
    if (understood.withheld)
        lead->state = MATCH_WITHHELD;
    else if (lead->key.kind == MATCH_BY_NOTHING)
        lead->state = MATCH_UNREADABLE;
    return ST_OK;
}

/* From when until when the file is about. */
static void widen(struct reconcile *r, const struct match_file_lead *lead)
{
    int64_t end_ms = lead->ms + (lead->width_ms ? lead->width_ms : 1);
    if (r->from_ms == r->to_ms || lead->ms < r->from_ms)
        r->from_ms = lead->ms;
    if (end_ms > r->to_ms)
        r->to_ms = end_ms;
}

static enum status read_leads(struct reconcile *r, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct partner_row row;
    size_t rows = (size_t)partner_rows(r->file);
    enum status status;
    uint32_t number = 0;
    r->leads = calloc(rows ? rows : 1, sizeof *r->leads);
    r->place = calloc(rows ? rows : 1, sizeof *r->place);
    if (!r->leads || !r->place)
        return fail_set(why, ST_NOMEM, 0, "no memory for the file's leads");
    while ((status = partner_next(r->file, &row, why)) == ST_OK && number < rows) {
        struct match_file_lead *lead = &r->leads[r->lead_count];
        lead->number = number++;
        arena_reset(&arena);
        status = read_lead(r, &row, &arena, lead, why);
        if (status != ST_OK)
            break;
        if (lead->state == MATCH_OPEN && !is_wanted_time(&r->options->filter, &row.created)) {
            r->tally.outside++;
            r->place[lead->number] = MATCH_NO_PARTNER;
            *lead = (struct match_file_lead){0};
            continue;
        }
        if (lead->state == MATCH_OPEN || lead->state == MATCH_WITHHELD)
            widen(r, lead);
        r->lead_count++;
    }
    arena_release(&arena);
    return status == ST_NOT_FOUND ? ST_OK : status;
}

/* --- the table's leads ---------------------------------------------------------------------------------------- */

/* The offer's number; the walk goes through one after the other. */
static bool note_offer(struct reconcile *r, struct span partition, uint32_t *number)
{
    if (r->offer_count == 0 || !span_eq(r->offers[r->offer_count - 1], partition)) {
        if (r->offer_count == r->offer_room) {
            uint32_t room = r->offer_room ? 2 * r->offer_room : FIRST_ROOM;
            struct span *offers = realloc(r->offers, room * sizeof *offers);
            if (!offers)
                return false;
            r->offers = offers;
            r->offer_room = room;
        }
        if (!arena_copy(&r->names, partition, &r->offers[r->offer_count]))
            return false;
        r->offer_count++;
    }
    *number = r->offer_count - 1;
    return true;
}

static struct match_table_lead *more_room(struct reconcile *r, struct fail *why)
{
    if (r->found_count == LIMIT_RECONCILE_LEADS) {
        (void)fail_set(why, ST_TOO_LARGE, 0,
                       "the table has more than %u leads in the time of the file: compare a part of it, with "
                       "--since and --until",
                       LIMIT_RECONCILE_LEADS);
        return NULL;
    }
    if (r->found_count == r->found_room) {
        size_t room = r->found_room ? 2 * r->found_room : FIRST_ROOM;
        struct match_table_lead *found = realloc(r->found, room * sizeof *found);
        if (!found) {
            (void)fail_set(why, ST_NOMEM, 0, "no memory for the table's leads");
            return NULL;
        }
        r->found = found;
        r->found_room = room;
    }
    struct match_table_lead *lead = &r->found[r->found_count];
    *lead = (struct match_table_lead){0};
    return lead;
}

bool reconcile_is_in_time(const struct reconcile *r, int64_t ms)
{
    const struct find_filter *f = &r->options->filter;
    return ms >= r->from_ms && ms < r->to_ms && ms >= f->since_ms && (!f->until_ms || ms < f->until_ms);
}

/* By the first of its keys that the file knows. */
static struct match_key choose_key(const struct reconcile *r, const struct lead *lead)
{
    struct match_key keys[MATCH_BY_NOTHING];
    match_keys_of(lead, keys);
    for (enum match_person kind = 0; kind < MATCH_BY_NOTHING; kind++) {
        if (keys[kind].kind != MATCH_BY_NOTHING && match_has_key(r->leads, r->lead_count, keys[kind]))
            return keys[kind];
    }
    return (struct match_key){.kind = MATCH_BY_NOTHING};
}

static enum status visit_lead(void *context, struct entity *row, struct fail *why)
{
    struct reconcile *r = context;
    struct deliveries deliveries = row_deliveries(row);
    struct lead lead;
    lead_of_row(row, &lead);
    if (lead.withheld) {
        r->tally.table_withheld += reconcile_is_in_time(r, deliveries.first_ms);
        return ST_OK;
    }
    struct match_key key = choose_key(r, &lead);
    if (key.kind == MATCH_BY_NOTHING && !reconcile_is_in_time(r, deliveries.first_ms)) {
        r->tally.outside++;
        return ST_OK;
    }
    struct match_table_lead *found = more_room(r, why);
    if (!found)
        return why->code;
    if (!note_offer(r, row->partition_key, &found->offer))
        return fail_set(why, ST_NOMEM, 0, "no memory for the names of offers");
    found->key = key;
    match_traits_of(&lead, &found->traits);
    /* Somebody may have made rows with other keys and ids: they have no content of ours, and no id to show. */
    (void)!hex_read(span_of(lead.content), found->content, sizeof found->content);
    (void)!hex_read(deliveries.first_id, found->id, sizeof found->id);
    found->first_ms = deliveries.first_ms;
    found->last_ms = deliveries.last_ms;
    found->deliveries = deliveries.count > 0 ? (uint32_t)deliveries.count : 1;
    found->is_test = lead.is_test;
    found->is_imported = span_eq(entity_text(row, COLUMN_ORIGIN), SPAN_LIT(ORIGIN_IMPORT));
    r->found_count++;
    return ST_OK;
}

static enum status compare(struct reconcile *r, struct fail *why)
{
    static const struct find_filter everything;
    const struct find find = {
        .store = r->store, .filter = &everything, .select = RECONCILE_COLUMNS, .is_patient = true};
    match_sort_file(r->leads, r->lead_count);
    enum status status = find_each(&find, visit_lead, r, why);
    if (status == ST_OK)
        status = match_run(r->leads, r->lead_count, r->found, r->found_count, r->options->tolerance_ms, why);
    for (size_t i = 0; i < r->lead_count; i++)
        r->place[r->leads[i].number] = (uint32_t)i;
    return status;
}

/* --- the whole ------------------------------------------------------------------------------------------------ */

/* What waits in a spool is not in the table yet, and would be there twice if it were imported. */
static enum status look_into_spool(const struct reconcile *r, struct fail *why)
{
    const char *path = r->service->config.spool_path;
    struct spool_state state;
    if (!path || spool_inspect(path, &state, NULL) != ST_OK || state.leads == 0)
        return ST_OK;
    if (r->options->imports)
        return fail_set(why, ST_AGAIN, 0,
                        "in this host's spool wait %" PRIu64 " that would be taken for missing: import when "
                        "`leadctl spool` shows that none waits any more",
                        state.leads);
    (void)fprintf(stderr, "leadctl: in this host's spool wait %" PRIu64 ": they look missing\n", state.leads);
    return ST_OK;
}

static enum status begin_import(struct reconcile *r, struct import *import, struct fail *why)
{
    struct lead_rules rules = service_rules(r->service);
    if (!r->options->mails) {
        rules.routes = NULL;
        rules.recipient_count = 0;
    }
    enum status status =
        import_begin(import, r->store, &rules, span_of(r->service->config.withhold_domains), why);
    if (status == ST_OK)
        r->import = import;
    return status;
}

static int exit_of(const struct reconcile *r)
{
    const struct reconcile_tally *t = &r->tally;
    uint64_t imported = r->import ? r->import->added + r->import->present : 0;
    return t->missing > imported || t->extra || t->differ || t->unreadable ? EXIT_DIFFERS : 0;
}

/* The file's own faults are another status than those of the store. */
static int exit_of_file(enum status status, const struct fail *why)
{
    (void)fprintf(stderr, "leadctl: %s\n", why->text);
    return status == ST_NOT_FOUND || status == ST_IO ? EX_NOINPUT
           : status == ST_NOMEM                      ? EX_UNAVAILABLE
                                                     : EX_DATAERR;
}

static int run(struct reconcile *r)
{
    struct import import = {0};
    struct fail why;
    enum status status = partner_open(&r->options->file, &r->file, &why);
    if (status != ST_OK)
        return exit_of_file(status, &why);
    status = look_into_spool(r, &why);
    if (status == ST_OK)
        status = service_open_store(r->service, &r->store, &why);
    if (status == ST_OK)
        status = read_leads(r, &why);
    if (status == ST_OK)
        status = compare(r, &why);
    if (status == ST_OK && r->options->imports)
        status = begin_import(r, &import, &why);
    if (status == ST_OK)
        status = reconcile_tell(r, &why);
    if (import.added && r->options->mails)
        service_hint(r->service, "");
    if (status != ST_OK && import.added) {
        (void)fflush(stdout);
        (void)fprintf(stderr, "leadctl: %" PRIu64 " are imported; run the same command again for the rest\n",
                      import.added);
    }
    int code = status == ST_OK                                  ? exit_of(r)
               : status == ST_CHANGED || status == ST_TOO_LARGE ? exit_of_file(status, &why)
                                                                : ctl_failed(status, &why);
    if (r->import)
        import_end(r->import);
    return code;
}

int ctl_reconcile(struct service *service, int argc, char **argv)
{
    struct reconcile_options options;
    struct fail why;
    if (read_arguments(argc, argv, &options, &why) != ST_OK)
        return command_misused("reconcile", argc, argv, &why);
    if (options.mails && !service->config.mail_on) {
        (void)fprintf(stderr, "leadctl: mail_url is 'off': --mail can send nothing\n");
        return EX_CONFIG;
    }
    int code = options.imports ? service_read_routes(service, "leadctl") : 0;
    if (code != 0)
        return code;
    struct reconcile r = {
        .service = service, .options = &options, .names = ARENA_INIT(LIMIT_RECONCILE_OFFERS)};
    code = run(&r);
    partner_close(r.file);
    store_close(r.store);
    free(r.leads);
    free(r.place);
    free(r.found);
    free(r.offers);
    arena_release(&r.names);
    return code;
}
