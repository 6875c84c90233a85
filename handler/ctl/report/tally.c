/* Rows come in the order of their keys, offer by offer.  A customer may have leads
 * in several offers, so whose lead is the first is known only at the end: a table
 * remembers for each customer the day of it.
 */
#include "handler/ctl/report/tally.h"

/* System */
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/encode.h"
#include "lib/base/text.h"

/* L6 */
#include "lib/store/rows.h"

const int64_t TALLY_SPEED_MS[TALLY_SPEEDS - 1] = {10 * 1000LL, 60 * 1000LL, 5 * 60 * 1000LL, 60 * 60 * 1000LL,
                                                  CLOCK_DAY_MS};

enum {
    CONTACT_DIGITS = 16, /* of the hash in a lead's key: of a million customers no two agree in them */
    CONTACTS_AT_FIRST = 1024,
    BEFORE = -1 /* the day of a first lead from before the days of the report */
};

struct contact {
    uint64_t hash; /* 0: a free place */
    int32_t first_day;
    uint32_t leads; /* in the days of the report */
};

struct tally {
    struct tally_result result;
    struct arena arena; /* of keys and titles */
    struct contact *contacts;
    size_t contact_room; /* a power of two, twice as much as needed */
    size_t contact_count;
};

enum status tally_new(const struct tally_options *options, struct tally **tally, struct fail *why)
{
    struct tally *t = calloc(1, sizeof *t);
    bool whole = t != NULL;
    if (t) {
        struct tally_result *r = &t->result;
        r->options = *options;
        t->arena = ARENA_INIT(LIMIT_REPORT_ARENA);
        t->contact_room = CONTACTS_AT_FIRST;
        t->contacts = calloc(t->contact_room, sizeof *t->contacts);
        r->days = calloc(options->days, sizeof *r->days);
        r->newest = calloc(options->newest, sizeof(struct tally_lead *));
        whole = t->contacts && r->days && r->newest;
        for (size_t i = 0; whole && i < options->newest; i++) {
            r->newest[i] = malloc(sizeof **r->newest);
            whole = r->newest[i] != NULL;
        }
        for (size_t i = 0; whole && i < TALLY_GROUPS; i++) {
            r->groups[i].counts = calloc(LIMIT_REPORT_KEYS, sizeof *r->groups[i].counts);
            whole = r->groups[i].counts != NULL;
        }
    }
    if (!whole) {
        tally_free(t);
        return fail_set(why, ST_NOMEM, 0, "no memory for the report");
    }
    *tally = t;
    return ST_OK;
}

void tally_free(struct tally *t)
{
    if (!t)
        return;
    struct tally_result *r = &t->result;
    for (size_t i = 0; i < TALLY_GROUPS; i++)
        free(r->groups[i].counts);
    for (size_t i = 0; r->newest && i < r->options.newest; i++)
        free(r->newest[i]);
    free(r->newest);
    free(r->days);
    free(t->contacts);
    arena_release(&t->arena);
    free(t);
}

/* --- customers ----------------------------------------------------------------------------------------------- */

/* The place of a customer, or the free one where it belongs; there always is one. */
static struct contact *place_of(struct contact *contacts, size_t room, uint64_t hash)
{
    size_t at = (size_t)hash & (room - 1);
    while (contacts[at].hash != 0 && contacts[at].hash != hash)
        at = (at + 1) & (room - 1);
    return &contacts[at];
}

static bool make_room(struct tally *t)
{
    size_t room = 2 * t->contact_room;
    struct contact *contacts = calloc(room, sizeof *contacts);
    if (!contacts)
        return false;
    for (size_t i = 0; i < t->contact_room; i++) {
        if (t->contacts[i].hash != 0)
            *place_of(contacts, room, t->contacts[i].hash) = t->contacts[i];
    }
    free(t->contacts);
    t->contacts = contacts;
    t->contact_room = room;
    return true;
}

/* Leads that name nobody have keys of their own each, as if they were of as many customers. */
static bool names_somebody(const struct entity *row)
{
    struct span phone = entity_text(row, "Phone");
    bool has_digit = false;
    for (size_t i = 0; i < phone.len; i++)
        has_digit = has_digit || (phone.ptr[i] >= '0' && phone.ptr[i] <= '9');
    return has_digit || entity_text(row, "Email").len || entity_text(row, "FirstName").len ||
           entity_text(row, "LastName").len || entity_text(row, "Company").len;
}

/* The customer as the lead's key has it; 0: nobody. */
static uint64_t contact_of(const struct entity *row)
{
    unsigned char bytes[CONTACT_DIGITS / 2];
    uint64_t hash = 0;
    if (!names_somebody(row) || !hex_read(span_cut(row->row_key, 0, CONTACT_DIGITS), bytes, sizeof bytes))
        return 0;
    memcpy(&hash, bytes, sizeof hash);
    return hash ? hash : 1;
}

/* Remembers a customer's lead of a day, or BEFORE.  *known: whether the customer can be told from others. */
static enum status note_customer(struct tally *t, uint64_t hash, int32_t day, bool *known, struct fail *why)
{
    *known = false;
    if (hash == 0)
        return ST_OK;
    if (2 * (t->contact_count + 1) > t->contact_room && t->contact_count < LIMIT_REPORT_CUSTOMERS &&
        !make_room(t))
        return fail_set(why, ST_NOMEM, 0, "no memory for the customers of the report");
    struct contact *c = place_of(t->contacts, t->contact_room, hash);
    if (c->hash == 0 && t->contact_count == LIMIT_REPORT_CUSTOMERS) {
        t->result.has_more_customers = true;
        return ST_OK;
    }
    if (c->hash == 0) {
        *c = (struct contact){.hash = hash, .first_day = day};
        t->contact_count++;
    }
    if (day < c->first_day)
        c->first_day = day;
    if (day != BEFORE)
        c->leads++;
    *known = true;
    return ST_OK;
}

static void sum_up_customers(struct tally *t)
{
    struct tally_result *r = &t->result;
    for (size_t i = 0; i < t->contact_room; i++) {
        const struct contact *c = &t->contacts[i];
        if (c->hash == 0 || c->leads == 0)
            continue;
        if (c->first_day == BEFORE) {
            r->returning_customers++;
        } else {
            r->new_customers++;
            r->days[c->first_day].first++;
            r->days[c->first_day].further--;
        }
    }
}

/* --- groups -------------------------------------------------------------------------------------------------- */

/* The key's index in the group, which is in the order of keys while leads are added, or where it belongs. */
static size_t index_of(const struct tally_group *g, struct span key, bool *found)
{
    size_t from = 0, to = g->count;
    *found = false;
    while (from < to && !*found) {
        size_t middle = from + (to - from) / 2;
        int order = span_compare(g->counts[middle].key, key);
        if (order < 0)
            from = middle + 1;
        else
            to = middle;
        *found = order == 0;
    }
    return to;
}

/* Counts a lead.  *count: where; NULL: its key found no room.  false: no memory. */
static bool count_lead(struct tally *t, enum tally_by by, struct span text, struct tally_count **count)
{
    struct tally_group *g = &t->result.groups[by];
    struct tally_count fresh = {0};
    bool found;
    struct span key = utf8_cut_bytes(span_trim(text), TALLY_KEY_BYTES);
    size_t at = index_of(g, key, &found);
    *count = NULL;
    if (!found && g->count == LIMIT_REPORT_KEYS) {
        g->others++;
        return true;
    }
    if (!found) {
        if (!arena_copy(&t->arena, key, &fresh.key))
            return false;
        memmove(&g->counts[at + 1], &g->counts[at], (g->count - at) * sizeof g->counts[0]);
        g->counts[at] = fresh;
        g->count++;
    }
    g->counts[at].leads++;
    *count = &g->counts[at];
    return true;
}

/* The newest title of an offer, in memory of its own that is used again.  false: no memory. */
static bool note_title(struct tally *t, struct tally_count *offer, struct span title, int64_t received_ms)
{
    title = utf8_cut_bytes(span_trim(title), TALLY_TEXT_BYTES);
    if (title.len == 0 || (offer->title.len && received_ms < offer->title_ms))
        return true;
    if (!offer->title_room)
        offer->title_room = arena_alloc(&t->arena, TALLY_TEXT_BYTES);
    if (!offer->title_room)
        return false;
    memcpy(offer->title_room, title.ptr, title.len);
    offer->title = (struct span){offer->title_room, title.len};
    offer->title_ms = received_ms;
    return true;
}

static bool count_groups(struct tally *t, const struct entity *row, int64_t received_ms)
{
    static const char *const columns[TALLY_GROUPS] = {[TALLY_ACTION] = "Action",
                                                      [TALLY_COUNTRY] = "Country",
                                                      [TALLY_SOURCE] = "Source",
                                                      [TALLY_CAMPAIGN] = "Campaign"};
    struct tally_count *count;
    for (size_t by = 0; by < TALLY_GROUPS; by++) {
        struct span key = by == TALLY_OFFER ? row->partition_key : entity_text(row, columns[by]);
        if (!count_lead(t, (enum tally_by)by, key, &count))
            return false;
        if (by == TALLY_OFFER && count &&
            !note_title(t, count, entity_text(row, "OfferDisplayName"), received_ms))
            return false;
    }
    return true;
}

static int compare_counts(const void *left, const void *right)
{
    const struct tally_count *a = left, *b = right;
    if (a->leads != b->leads)
        return a->leads > b->leads ? -1 : 1;
    return span_compare(a->key, b->key);
}

/* --- mail ---------------------------------------------------------------------------------------------------- */

/* Whether the time of the mail, if any, is that of a mail about a later delivery. */
static bool came_again(const struct tally *t, const struct entity *row, int64_t received_ms)
{
    int64_t last_ms = entity_number(row, COLUMN_LAST_RECEIVED_TIME, received_ms);
    return last_ms - received_ms > t->result.options.repeat_window_ms &&
           entity_number(row, COLUMN_NOTIFIED_TIME, 0) >= last_ms;
}

static void count_mail(struct tally *t, const struct entity *row, int64_t received_ms)
{
    struct tally_mail *mail = &t->result.mail;
    int64_t mailed_ms = entity_number(row, COLUMN_NOTIFIED_TIME, 0);
    if (mailed_ms == 0) {
        mail->waiting++;
    } else if (came_again(t, row, received_ms)) {
        mail->again++;
    } else {
        size_t speed = 0;
        while (speed < TALLY_SPEEDS - 1 && mailed_ms - received_ms > TALLY_SPEED_MS[speed])
            speed++;
        mail->within[speed]++;
        quantile_add(&mail->times, mailed_ms - received_ms);
    }
}

/* --- the newest ---------------------------------------------------------------------------------------------- */

static void keep_fields(struct tally_lead *lead, const struct entity *row, enum tally_details details)
{
    static const char *const columns[TALLY_FIELDS] = {[FIELD_TITLE] = "OfferDisplayName",
                                                      [FIELD_ACTION] = "Action",
                                                      [FIELD_CAMPAIGN] = "Campaign",
                                                      [FIELD_SOURCE] = "Source",
                                                      [FIELD_COUNTRY] = "Country",
                                                      [FIELD_DELIVERY_ID] = COLUMN_DELIVERY_ID,
                                                      [FIELD_FIRST_NAME] = "FirstName",
                                                      [FIELD_LAST_NAME] = "LastName",
                                                      [FIELD_POSITION] = "Title",
                                                      [FIELD_COMPANY] = "Company",
                                                      [FIELD_EMAIL] = "Email",
                                                      [FIELD_PHONE] = "Phone"};
    size_t fields = details == TALLY_NOT_PERSONAL ? FIELD_FIRST_NAME : TALLY_FIELDS;
    char *to = lead->text;
    for (size_t i = 0; i < fields; i++) {
        struct span text = i == FIELD_OFFER ? row->partition_key : entity_text(row, columns[i]);
        text = utf8_cut_bytes(span_trim(text), TALLY_TEXT_BYTES);
        if (text.len)
            memcpy(to, text.ptr, text.len);
        lead->fields[i] = (struct span){to, text.len};
        to += text.len;
    }
}

/* The place of the oldest is used again.  Of leads of the same time the first one added comes first. */
static void keep_if_new(struct tally *t, const struct entity *row, int64_t received_ms)
{
    struct tally_result *r = &t->result;
    size_t at = r->newest_count;
    while (at > 0 && r->newest[at - 1]->received_ms < received_ms)
        at--;
    if (at == r->options.newest)
        return;
    if (r->newest_count < r->options.newest)
        r->newest_count++;
    struct tally_lead *lead = r->newest[r->newest_count - 1];
    memmove(&r->newest[at + 1], &r->newest[at], (r->newest_count - 1 - at) * sizeof(struct tally_lead *));
    r->newest[at] = lead;
    *lead = (struct tally_lead){.received_ms = received_ms,
                                .mailed_ms = entity_number(row, COLUMN_NOTIFIED_TIME, 0),
                                .came_again = came_again(t, row, received_ms),
                                .withheld = entity_number(row, "PersonalDataWithheld", 0) != 0};
    keep_fields(lead, row, r->options.details);
}

/* --- which days ---------------------------------------------------------------------------------------------- */

void tally_choose_week(struct tally_options *options, int64_t now_ms)
{
    int64_t today = now_ms / CLOCK_DAY_MS;
    int64_t days_since_monday = (today + 3) % 7; /* day 0 was a Thursday */
    options->since_ms = (today - days_since_monday - 7) * CLOCK_DAY_MS;
    options->days = 7;
}

/* --- all of it ----------------------------------------------------------------------------------------------- */

enum status tally_add(struct tally *t, const struct entity *row, struct fail *why)
{
    struct tally_result *r = &t->result;
    int64_t received_ms = find_received_ms(row);
    int64_t until_ms = r->options.since_ms + (int64_t)r->options.days * CLOCK_DAY_MS;
    bool known = false, is_test = entity_number(row, "IsTest", 0) != 0;
    bool do_not_contact = entity_number(row, "DoNotContact", 0) != 0;
    if (received_ms >= until_ms)
        return ST_OK;
    bool is_before = received_ms < r->options.since_ms;
    if (is_test || do_not_contact) {
        if (!is_before)
            *(is_test ? &r->test : &r->do_not_contact) += 1;
        return ST_OK;
    }
    int32_t day = is_before ? BEFORE : (int32_t)((received_ms - r->options.since_ms) / CLOCK_DAY_MS);
    enum status status = note_customer(t, contact_of(row), day, &known, why);
    if (status != ST_OK || is_before)
        return status;
    r->leads++;
    *(known ? &r->days[day].further : &r->days[day].nobody) += 1;
    if (!count_groups(t, row, received_ms))
        return fail_set(why, ST_NOMEM, 0, "no memory for the report");
    count_mail(t, row, received_ms);
    keep_if_new(t, row, received_ms);
    return ST_OK;
}

const struct tally_result *tally_finish(struct tally *t)
{
    sum_up_customers(t);
    for (size_t i = 0; i < TALLY_GROUPS; i++)
        qsort(t->result.groups[i].counts, t->result.groups[i].count, sizeof(struct tally_count),
              compare_counts);
    return &t->result;
}
