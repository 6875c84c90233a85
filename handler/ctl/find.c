#include "handler/ctl/find.h"

/* System */
#include <stdio.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/when.h"

/* L6 */
#include "lib/store/offers.h"
#include "lib/store/person.h"
#include "lib/store/sweep.h"

/* The commands' words */
#include "handler/ctl/print.h"

enum {
    PAGE_WAIT_MS = 60000, /* twice the service's own limit */
    PAGE_ROWS = 500,      /* of some columns; with sqlite, which gives whole rows, a page ends by its bytes */
    PAGE_WHOLE_ROWS = 200 /* payloads included */
};

/* --- options ------------------------------------------------------------------------------------------------- */

static enum status take_offer(struct find_filter *f, struct span value, struct fail *why)
{
    if (value.len == 0 || value.len >= sizeof f->offer)
        return fail_set(why, ST_INVALID, 0, "--offer: `leadctl offers` shows what there are");
    for (size_t i = 0; i < value.len; i++)
        f->offer[i] = char_lower(value.ptr[i]); /* as names in the directory are */
    f->offer[value.len] = '\0';
    return ST_OK;
}

static enum status take_contact(struct find_filter *f, struct span value, struct fail *why)
{
    char line[CTL_ADDRESS_LINE];
    struct person person;
    enum status status = person_of(ctl_read_address(value, line), &person, why);
    if (status == ST_OK)
        memcpy(f->contact, person.contact, sizeof f->contact);
    return status;
}

static enum status take_text(struct span *text, struct span value, const char *option, struct fail *why)
{
    *text = span_trim(value);
    return text->len ? ST_OK : fail_set(why, ST_INVALID, 0, "%s needs a value", option);
}

enum option { OPTION_SINCE, OPTION_UNTIL, OPTION_OFFER, OPTION_ACTION, OPTION_COUNTRY, OPTION_CONTACT };
static const char *const OPTIONS[] = {
    [OPTION_SINCE] = "--since",   [OPTION_UNTIL] = "--until",     [OPTION_OFFER] = "--offer",
    [OPTION_ACTION] = "--action", [OPTION_COUNTRY] = "--country", [OPTION_CONTACT] = "--contact",
};
enum { OPTION_COUNT = sizeof OPTIONS / sizeof OPTIONS[0] };

static enum status take_value(struct find_filter *f, enum option option, struct span value, struct fail *why)
{
    enum status status = ST_BUG;
    switch (option) {
    case OPTION_SINCE:
        status = when_given(value, clock_true_ms(), &f->since_ms, why);
        break;
    case OPTION_UNTIL:
        status = when_given(value, clock_true_ms(), &f->until_ms, why);
        break;
    case OPTION_OFFER:
        return take_offer(f, value, why);
    case OPTION_ACTION:
        return take_text(&f->action, value, OPTIONS[option], why);
    case OPTION_COUNTRY:
        return take_text(&f->country, value, OPTIONS[option], why);
    case OPTION_CONTACT:
        status = take_contact(f, value, why);
        break;
    }
    if (status != ST_OK)
        fail_prefix(why, "%s", OPTIONS[option]);
    return status;
}

static enum status take_tests(struct find_filter *f, enum find_tests tests, struct fail *why)
{
    if (f->tests != FIND_ALL && f->tests != tests)
        return fail_set(why, ST_INVALID, 0, "--test and --no-test together leave nothing");
    f->tests = tests;
    return ST_OK;
}

enum status find_take_option(struct find_filter *filter, int argc, char **argv, int *at, struct fail *why)
{
    struct span word = span_of(argv[*at]);
    if (span_eq(word, SPAN_LIT("--test")))
        return take_tests(filter, FIND_TESTS_ONLY, why);
    if (span_eq(word, SPAN_LIT("--no-test")))
        return take_tests(filter, FIND_NO_TESTS, why);
    for (size_t i = 0; i < OPTION_COUNT; i++) {
        struct span name = span_of(OPTIONS[i]), rest = span_from(word, name.len);
        if (!span_starts(word, name) || (rest.len && rest.ptr[0] != '='))
            continue;
        if (rest.len)
            return take_value(filter, (enum option)i, span_from(rest, 1), why);
        if (*at + 1 >= argc)
            return fail_set(why, ST_INVALID, 0, "%s needs a value", OPTIONS[i]);
        return take_value(filter, (enum option)i, span_of(argv[++*at]), why);
    }
    return fail_set(why, ST_NOT_FOUND, 0, "there is no option '%.*s'", SPAN_FMT(word));
}

enum status find_check(const struct find_filter *filter, struct fail *why)
{
    if (filter->until_ms && filter->since_ms >= filter->until_ms)
        return fail_set(why, ST_INVALID, 0, "--since is not before --until: nothing lies between them");
    return ST_OK;
}

/* --- one lead ------------------------------------------------------------------------------------------------ */

int64_t find_received_ms(const struct entity *row)
{
    return entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms);
}

static bool is_like(struct span wanted, const struct entity *row, const char *column)
{
    return wanted.len == 0 || span_eq_nocase(wanted, span_trim(entity_text(row, column)));
}

static bool has_id(const struct entity *row, const char *column, const char *id)
{
    return span_starts(entity_text(row, column), span_of(id));
}

/* Whether the filter leaves the lead; its offer and contact are looked at too. */
static bool matches(const struct find_filter *f, const struct entity *row)
{
    int64_t received_ms = find_received_ms(row);
    bool is_test = entity_number(row, "IsTest", 0) != 0;
    return is_lead_key(row->row_key) && (!f->offer[0] || span_eq(span_of(f->offer), row->partition_key)) &&
           span_starts(row->row_key, span_of(f->contact)) && received_ms >= f->since_ms &&
           (!f->until_ms || received_ms < f->until_ms) && is_like(f->action, row, "Action") &&
           is_like(f->country, row, "Country") && (f->tests != FIND_TESTS_ONLY || is_test) &&
           (f->tests != FIND_NO_TESTS || !is_test) && row->timestamp_ms >= f->written_ms &&
           (has_id(row, COLUMN_DELIVERY_ID, f->id) || has_id(row, COLUMN_LAST_DELIVERY_ID, f->id));
}

/* --- many ---------------------------------------------------------------------------------------------------- */

struct walk {
    const struct find *find;
    store_visit *visit;
    void *context;
};

static enum status each_row(const struct find *find, struct query *query, store_visit *visit, void *context,
                            struct fail *why)
{
    return find->is_patient ? sweep_each(find->store, query, visit, context, why)
                            : store_each(find->store, query, PAGE_WAIT_MS, visit, context, why);
}

static enum status visit_lead(void *context, struct entity *row, struct fail *why)
{
    const struct walk *w = context;
    bool is_known =
        span_eq(row->row_key, w->find->after_key) && span_eq(row->partition_key, w->find->after_offer);
    return !is_known && matches(w->find->filter, row) ? w->visit(w->context, row, why) : ST_OK;
}

/* Of those with the id that are not found by that of their first delivery. */
static enum status visit_repeated(void *context, struct entity *row, struct fail *why)
{
    const struct walk *w = context;
    return has_id(row, COLUMN_DELIVERY_ID, w->find->filter->id) ? ST_OK : visit_lead(context, row, why);
}

static enum status walk_offer(struct walk *w, struct span partition, struct fail *why)
{
    const struct find_filter *f = w->find->filter;
    char from[LEAD_HASH_TEXT + 2], to[LEAD_HASH_TEXT + 2];
    struct query q = {
        .table = TABLE_LEADS,
        .partition_key = partition,
        .from = SPAN_LIT(LEAD_KEY_FIRST),
        .to = SPAN_LIT(LEAD_KEY_END),
        .since_column = f->written_ms                ? "Timestamp"
                        : f->since_ms || f->until_ms ? COLUMN_RECEIVED_TIME
                                                     : NULL,
        .since_ms = f->written_ms ? f->written_ms : f->since_ms,
        .until_ms = f->written_ms ? 0 : f->until_ms,
        .select = w->find->select,
        .limit = w->find->select ? PAGE_ROWS : PAGE_WHOLE_ROWS,
    };
    if (f->contact[0]) {
        (void)snprintf(from, sizeof from, "%s-", f->contact);
        (void)snprintf(to, sizeof to, "%s.", f->contact); /* behind '-' */
        q.from = span_of(from);
        q.to = span_of(to);
    }
    int order = span_compare(partition, w->find->after_offer);
    if (order < 0)
        return ST_OK;
    if (order == 0 && span_compare(w->find->after_key, q.from) > 0)
        q.from = w->find->after_key;
    if (!f->id[0])
        return each_row(w->find, &q, visit_lead, w, why);
    q.text = span_of(f->id);
    q.text_column = COLUMN_DELIVERY_ID;
    enum status status = each_row(w->find, &q, visit_lead, w, why);
    q.text_column = COLUMN_LAST_DELIVERY_ID;
    return status == ST_OK ? each_row(w->find, &q, visit_repeated, w, why) : status;
}

static enum status visit_offer(void *context, struct entity *row, struct fail *why)
{
    return walk_offer(context, row->row_key, why);
}

/* Only what is in the directory: a mistake in the name shall not look like an offer without leads. */
static enum status walk_named(struct walk *w, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct span offer = span_of(w->find->filter->offer);
    struct entity *row = NULL;
    enum status status = store_get_many(w->find->store, TABLE_OPS, SPAN_LIT(OFFERS_PARTITION), &offer, 1,
                                        NULL, clock_monotonic_ms() + PAGE_WAIT_MS, &arena, &row, why);
    if (status == ST_OK && !row)
        status = fail_set(why, ST_NOT_FOUND, 0,
                          "no lead ever came for an offer of that name: `leadctl offers` shows all");
    if (status == ST_OK)
        status = walk_offer(w, offer, why);
    arena_release(&arena);
    return status;
}

enum status find_each(const struct find *find, store_visit *visit, void *context, struct fail *why)
{
    struct walk w = {find, visit, context};
    /* The time in the directory is written with the first lead of a day, and now and then. */
    int64_t written_ms = find->filter->written_ms;
    struct query offers = offers_times_query(written_ms > CLOCK_DAY_MS ? written_ms - CLOCK_DAY_MS : 0);
    return find->filter->offer[0] ? walk_named(&w, why) : each_row(find, &offers, visit_offer, &w, why);
}
