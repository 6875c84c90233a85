#include "lib/store/person.h"

/* System */
#include <stdio.h>

/* L0 */
#include "lib/base/clock.h"

/* L1 */
#include "lib/lead/mention.h"

/* L6 */
#include "lib/store/generations.h"
#include "lib/store/offers.h"
#include "lib/store/quarantine.h"
#include "lib/store/spool_internal.h"
#include "lib/store/sweep.h"

enum {
    PAGE_ROWS = 32, /* whole rows, bodies and finished messages with them */
    ROUNDS_MAX = 5, /* a person who comes in faster than that has to be erased later */
    SPOOL_WAIT_MS = 10000,
    DRAIN_WAIT_MS = 120000, /* a page of the drain's while the table answers slowly */
    PREFIX_BYTES = 512
};

enum status person_of(struct span address, struct person *person, struct fail *why)
{
    struct person result = {.address = span_trim(address)};
    size_t at = span_find_last(result.address, '@');
    bool good = at != SPAN_NONE && at > 0 && at + 1 < result.address.len &&
                result.address.len <= LIMIT_MAIL_ADDRESS_BYTES;
    for (size_t i = 0; i < result.address.len; i++)
        good = good && (unsigned char)result.address.ptr[i] > ' ';
    if (!good)
        return fail_set(why, ST_INVALID, 0, "that is not an e-mail address");
    enum status status = lead_contact_of_email(result.address, result.contact, why);
    if (status == ST_OK)
        *person = result;
    return status;
}

/* --- whether a row is the person's ---------------------------------------------------------------------------- */

static bool is_contact(const struct person *p, struct span lead_key)
{
    return span_starts(lead_key, span_of(p->contact)) && span_cut(lead_key, LEAD_HASH_TEXT, 1).len == 1 &&
           lead_key.ptr[LEAD_HASH_TEXT] == '-';
}

/* Whether a text of the row names the person; one that goes on in further columns is put together. */
static enum status mentions(const struct person *p, const struct entity *row, const char *long_value,
                            bool *found, struct fail *why)
{
    struct buf value = BUF_INIT(LIMIT_ENTITY_STORED_BYTES);
    enum status status =
        entity_find(row, long_value) ? entity_long_value(row, long_value, &value, why) : ST_OK;
    *found = false;
    if (status == ST_OK)
        status = mention_find(buf_span(&value), p->address, found, why);
    for (size_t i = 0; i < row->count && status == ST_OK && !*found; i++) {
        if (row->properties[i].type == EDM_STRING)
            status = mention_find(row->properties[i].text, p->address, found, why);
    }
    buf_release(&value);
    return status;
}

/* lead_key: what the row's key is, or will be, among the leads. */
static enum status is_persons_lead(const struct person *p, const struct entity *row, struct span lead_key,
                                   bool *found, struct fail *why)
{
    *found = is_contact(p, lead_key);
    return *found || !p->is_thorough ? ST_OK : mentions(p, row, "Payload", found, why);
}

/* --- the store ------------------------------------------------------------------------------------------------ */

struct search {
    struct store *store;
    const struct person *person;
    enum person_place place;
    store_visit *visit;
    void *context;
};

static enum status visit_item(void *context, struct entity *row, struct fail *why)
{
    const struct search *s = context;
    bool found;
    enum status status = mentions(s->person, row, "Body", &found, why);
    return status == ST_OK && found ? s->visit(s->context, row, why) : status;
}

static enum status visit_lead(void *context, struct entity *row, struct fail *why)
{
    const struct search *s = context;
    bool found;
    enum status status = is_persons_lead(s->person, row, row->row_key, &found, why);
    return status == ST_OK && found ? s->visit(s->context, row, why) : status;
}

/* Those whose keys begin so. */
static enum status each_mail(struct search *s, struct span partition, struct span prefix, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_SECRET_FILE_BYTES);
    struct query q = {.table = TABLE_LEADS,
                      .partition_key = partition,
                      .from = prefix,
                      .to = key_after_prefix(prefix, &arena),
                      .limit = PAGE_ROWS};
    enum status status = q.to.len ? sweep_each(s->store, &q, s->visit, s->context, why)
                                  : fail_set(why, ST_NOMEM, 0, "no memory to look for a person");
    arena_release(&arena);
    return status;
}

/* The mails of a lead that was found by its text and has another contact. */
static enum status visit_lead_for_mails(void *context, struct entity *row, struct fail *why)
{
    struct search *s = context;
    struct arena arena = ARENA_INIT(LIMIT_SECRET_FILE_BYTES);
    bool found = false;
    enum status status =
        is_contact(s->person, row->row_key) ? ST_OK : mentions(s->person, row, "Payload", &found, why);
    if (status == ST_OK && found) {
        struct span prefix = mail_prefix_of_lead(row->row_key, &arena);
        status = prefix.len ? each_mail(s, row->partition_key, prefix, why)
                            : fail_set(why, ST_NOMEM, 0, "no memory to look for a person");
    }
    arena_release(&arena);
    return status;
}

static enum status each_lead(struct search *s, struct span partition, store_visit *visit, struct fail *why)
{
    char from[LEAD_HASH_TEXT + 2], to[LEAD_HASH_TEXT + 2];
    (void)snprintf(from, sizeof from, "%s-", s->person->contact);
    (void)snprintf(to, sizeof to, "%s.", s->person->contact); /* behind '-' */
    struct query q = {.table = TABLE_LEADS, .partition_key = partition, .limit = PAGE_ROWS};
    q.from = s->person->is_thorough ? span_empty() : span_of(from);
    q.to = s->person->is_thorough ? SPAN_LIT("~") : span_of(to);
    return sweep_each(s->store, &q, visit, s, why);
}

static enum status visit_offer(void *context, struct entity *row, struct fail *why)
{
    struct search *s = context;
    char prefix[PREFIX_BYTES];
    if (s->place == PERSON_LEADS)
        return each_lead(s, row->row_key, visit_lead, why);
    (void)snprintf(prefix, sizeof prefix, MAIL_KEY_FIRST "%s-", s->person->contact);
    enum status status = each_mail(s, row->row_key, span_of(prefix), why);
    if (status == ST_OK && s->person->is_thorough)
        status = each_lead(s, row->row_key, visit_lead_for_mails, why);
    return status;
}

enum status person_each(struct store *store, const struct person *person, enum person_place place,
                        store_visit *visit, void *context, struct fail *why)
{
    struct search s = {store, person, place, visit, context};
    if (place == PERSON_QUARANTINED) {
        struct query q = {.table = TABLE_OPS,
                          .partition_key = SPAN_LIT(QUARANTINE_PARTITION),
                          .from = SPAN_LIT(QUARANTINE_KEY_FIRST),
                          .to = SPAN_LIT(QUARANTINE_KEY_END),
                          .limit = PAGE_ROWS};
        return sweep_each(store, &q, visit_item, &s, why);
    }
    struct query q = offers_query();
    return sweep_each(store, &q, visit_offer, &s, why);
}

static enum status count_row(void *context, struct entity *row, struct fail *why)
{
    (void)row;
    (void)why;
    ++*(uint64_t *)context;
    return ST_OK;
}

static bool is_none(const struct person_tally *t)
{
    return t->rows[PERSON_LEADS] + t->rows[PERSON_MAILS] + t->rows[PERSON_QUARANTINED] == 0;
}

enum status person_count(struct store *store, const struct person *person, struct person_tally *tally,
                         struct fail *why)
{
    enum status status = ST_OK;
    *tally = (struct person_tally){0};
    for (enum person_place place = PERSON_LEADS; place <= PERSON_QUARANTINED && status == ST_OK; place++)
        status = person_each(store, person, place, count_row, &tally->rows[place], why);
    return status;
}

static enum status erase_row(void *context, struct entity *row, struct fail *why)
{
    row->etag = SPAN_LIT("*"); /* whatever it has become, it is the person's */
    return sweep_add(context, row, why);
}

/* A lead's mails go before it: without the lead, those of one that was found by its text are not found. */
static enum status erase_once(struct store *store, const struct person *person, struct person_tally *erased,
                              struct fail *why)
{
    static const enum person_place order[] = {PERSON_MAILS, PERSON_LEADS, PERSON_QUARANTINED};
    enum status status = ST_OK;
    for (size_t i = 0; i < sizeof order / sizeof order[0] && status == ST_OK; i++) {
        struct sweep sweep;
        sweep_begin(&sweep, store, order[i] == PERSON_QUARANTINED ? TABLE_OPS : TABLE_LEADS);
        status = person_each(store, person, order[i], erase_row, &sweep, why);
        if (status == ST_OK)
            status = sweep_flush(&sweep, why);
        erased->rows[order[i]] += sweep.deleted;
        sweep_end(&sweep);
    }
    return status;
}

enum status person_erase(struct store *store, const struct person *person, struct person_tally *erased,
                         struct fail *why)
{
    struct person_tally left;
    *erased = (struct person_tally){0};
    for (int round = 0; round < ROUNDS_MAX; round++) {
        enum status status = erase_once(store, person, erased, why);
        if (status == ST_OK)
            status = person_count(store, person, &left, why);
        if (status == ST_OK && is_none(&left) && erased->rows[PERSON_QUARANTINED] > 0)
            quarantine_recount(store);
        if (status == ST_OK && is_none(&left))
            return store_wipe(store, clock_monotonic_ms() + SPOOL_WAIT_MS, why);
        if (status != ST_OK)
            return status;
    }
    return fail_set(why, ST_AGAIN, 0, "leads of this person keep coming in");
}

/* --- the spool ------------------------------------------------------------------------------------------------ */

static enum status visit_spooled(void *context, struct entity *row, struct fail *why)
{
    const struct search *s = context;
    bool found;
    enum status status = s->place == PERSON_LEADS
                             ? is_persons_lead(s->person, row, entity_text(row, "LeadRowKey"), &found, why)
                             : mentions(s->person, row, "Body", &found, why);
    return status == ST_OK && found ? s->visit(s->context, row, why) : status;
}

static enum status each_in_generation(struct search *s, struct fail *why)
{
    struct query q = {.table = s->place == PERSON_LEADS ? TABLE_LEADS : TABLE_OPS,
                      .partition_key = s->place == PERSON_LEADS ? SPAN_LIT(SPOOL_PARTITION)
                                                                : SPAN_LIT(QUARANTINE_PARTITION),
                      .to = SPAN_LIT("~"), /* behind it is the quarantine's quota */
                      .limit = PAGE_ROWS};
    return store_each(s->store, &q, SPOOL_WAIT_MS, visit_spooled, s, why);
}

/* Does work in every generation; what is damaged there is only counted. */
static enum status each_generation(struct spool *spool,
                                   enum status (*work)(void *context, struct store *store, struct fail *why),
                                   void *context, uint64_t *unread, struct fail *why)
{
    struct generations found;
    enum status status = generations_find(spool->path, &found, why);
    for (size_t i = 0; status == ST_OK && i < found.count; i++) {
        struct store *store = NULL;
        status = spool_open_generation(spool, found.numbers[i], &store, why);
        if (status == ST_OK)
            status = work(context, store, why);
        if (status == ST_DAMAGED) {
            ++*unread;
            status = ST_OK;
        }
        store_close(store);
    }
    return status;
}

static enum status search_generation(void *context, struct store *store, struct fail *why)
{
    struct search *s = context;
    s->store = store;
    return each_in_generation(s, why);
}

enum status person_each_spooled(struct spool *spool, const struct person *person, enum person_place place,
                                store_visit *visit, void *context, uint64_t *unread, struct fail *why)
{
    struct search s = {NULL, person, place, visit, context};
    return each_generation(spool, search_generation, &s, unread, why);
}

static const enum person_place SPOOLED[] = {PERSON_LEADS, PERSON_QUARANTINED};
enum { SPOOLED_COUNT = sizeof SPOOLED / sizeof SPOOLED[0] };

enum status person_count_spooled(struct spool *spool, const struct person *person, struct person_tally *tally,
                                 struct fail *why)
{
    enum status status = ST_OK;
    *tally = (struct person_tally){0};
    for (size_t i = 0; i < SPOOLED_COUNT && status == ST_OK; i++) {
        tally->unread = 0; /* the same generations each time */
        status = person_each_spooled(spool, person, SPOOLED[i], count_row, &tally->rows[SPOOLED[i]],
                                     &tally->unread, why);
    }
    return status;
}

struct erasure {
    struct spool *spool;
    struct search search;
    struct person_tally *erased;
};

static enum status erase_spooled_row(void *context, struct entity *row, struct fail *why)
{
    struct erasure *e = context;
    enum status status =
        spool_remove(e->spool, e->search.store, e->search.place == PERSON_LEADS ? TABLE_LEADS : TABLE_OPS,
                     row, 1, clock_monotonic_ms() + SPOOL_WAIT_MS, why);
    e->erased->rows[e->search.place] += status == ST_OK ? 1 : 0;
    return status;
}

static enum status erase_in_generation(void *context, struct store *store, struct fail *why)
{
    struct erasure *e = context;
    enum status status = ST_OK;
    e->search.store = store;
    for (size_t i = 0; i < SPOOLED_COUNT && status == ST_OK; i++) {
        e->search.place = SPOOLED[i];
        status = each_in_generation(&e->search, why);
    }
    return status == ST_OK ? store_wipe(store, clock_monotonic_ms() + SPOOL_WAIT_MS, why) : status;
}

enum status person_erase_spooled(struct spool *spool, const struct person *person,
                                 struct person_tally *erased, struct fail *why)
{
    struct erasure e = {
        .spool = spool, .search = {.person = person, .visit = erase_spooled_row}, .erased = erased};
    e.search.context = &e;
    *erased = (struct person_tally){0};
    if (!spool_take_rows(spool, clock_monotonic_ms() + DRAIN_WAIT_MS))
        return fail_set(why, ST_AGAIN, 0, "the drain of the spool is in the middle of its work");
    enum status status = each_generation(spool, erase_in_generation, &e, &erased->unread, why);
    spool_give_rows_back(spool);
    return status;
}
