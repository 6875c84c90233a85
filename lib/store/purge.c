#include "lib/store/purge.h"

/* L0 */
#include "lib/base/when.h"

/* L6 */
#include "lib/store/offers.h"
#include "lib/store/quarantine.h"
#include "lib/store/sweep.h"

enum { PAGE_ROWS = 500 /* sqlite, which gives whole rows, ends a page by its bytes */ };
#define COLUMNS_OF_AGE  "PartitionKey,RowKey,Timestamp,ReceivedTime,LastReceivedTime"
#define COLUMNS_OF_MAIL "PartitionKey,RowKey,Timestamp,ReceivedTime,State"

struct purge {
    struct store *store;
    int64_t before_ms;
    enum purge_action action;
    void (*on_part)(void *context, struct span offer, const struct purge_tally *tally);
    void *context;
    struct sweep sweep;
    struct purge_tally tally; /* of the offer in work */
};

/* --- one row ------------------------------------------------------------------------------------------------- */

static int64_t last_received(const struct entity *row)
{
    return entity_number(row, COLUMN_LAST_RECEIVED_TIME,
                         entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms));
}

static enum status take(struct purge *p, const struct entity *row, uint64_t *count, int64_t received_ms,
                        struct fail *why)
{
    struct purge_tally *t = &p->tally;
    (*count)++;
    if (t->newest_ms == 0 || received_ms < t->oldest_ms)
        t->oldest_ms = received_ms;
    if (received_ms > t->newest_ms)
        t->newest_ms = received_ms;
    return p->action == PURGE_DELETE ? sweep_add(&p->sweep, row, why) : ST_OK;
}

static enum status visit_lead(void *context, struct entity *row, struct fail *why)
{
    struct purge *p = context;
    int64_t received_ms = last_received(row);
    /* What others have put into the table is theirs, whatever its age. */
    bool is_old = is_lead_key(row->row_key) && received_ms < p->before_ms;
    return is_old ? take(p, row, &p->tally.leads, received_ms, why) : ST_OK;
}

/* A mail goes with its lead: when that is to go or, where leads are being deleted, when it has gone. */
static enum status visit_mail(void *context, struct entity *row, struct fail *why)
{
    struct purge *p = context;
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct entity *lead = NULL;
    struct mail_row mail;
    enum status status = ST_OK;
    int64_t received_ms = entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms);
    bool is_old = received_ms < p->before_ms && mail_of_row(row, &mail, NULL) == ST_OK;
    if (is_old)
        status = sweep_get(p->store, TABLE_LEADS, row->partition_key, mail.lead_row_key, COLUMNS_OF_AGE,
                           &arena, &lead, why);
    bool goes = is_old && (!lead || (p->action == PURGE_COUNT && last_received(lead) < p->before_ms));
    if (status == ST_OK && goes)
        status = take(p, row, &p->tally.mails, received_ms, why);
    arena_release(&arena);
    return status;
}

static enum status visit_item(void *context, struct entity *row, struct fail *why)
{
    struct purge *p = context;
    return take(p, row, &p->tally.quarantined, entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms),
                why);
}

/* --- many rows ----------------------------------------------------------------------------------------------- */

/* Of *count rows that were to go, those that have. */
static enum status go_through(struct purge *p, struct query *query, store_visit *visit, uint64_t *count,
                              struct fail *why)
{
    sweep_begin(&p->sweep, p->store, query->table);
    enum status status = sweep_each(p->store, query, visit, p, why);
    if (status == ST_OK)
        status = sweep_flush(&p->sweep, why);
    if (p->action == PURGE_DELETE)
        *count = p->sweep.deleted;
    p->tally.changed += p->sweep.changed;
    sweep_end(&p->sweep);
    return status;
}

static void begin_part(struct purge *p)
{
    p->tally = (struct purge_tally){0};
}

static void end_part(struct purge *p, struct span offer)
{
    const struct purge_tally *t = &p->tally;
    if (t->leads + t->mails + t->quarantined + t->changed > 0)
        p->on_part(p->context, offer, t);
}

static enum status visit_offer(void *context, struct entity *row, struct fail *why)
{
    struct purge *p = context;
    struct query leads = {.table = TABLE_LEADS,
                          .partition_key = row->row_key,
                          .to = SPAN_LIT("~"), /* behind it are the mails */
                          .select = COLUMNS_OF_AGE,
                          .limit = PAGE_ROWS};
    struct query mails = mails_query(row->row_key, COLUMNS_OF_MAIL, PAGE_ROWS);
    begin_part(p);
    enum status status = go_through(p, &leads, visit_lead, &p->tally.leads, why);
    if (status == ST_OK)
        status = go_through(p, &mails, visit_mail, &p->tally.mails, why);
    end_part(p, row->row_key); /* also what was done before a failure */
    return status;
}

static enum status purge_offers(struct purge *p, struct fail *why)
{
    struct query offers = offers_query();
    return sweep_each(p->store, &offers, visit_offer, p, why);
}

/* Items lie in order of time. */
static enum status purge_quarantine(struct purge *p, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_SECRET_FILE_BYTES);
    struct query items = {.table = TABLE_OPS,
                          .partition_key = SPAN_LIT(QUARANTINE_PARTITION),
                          .from = SPAN_LIT(QUARANTINE_KEY_FIRST),
                          .to = row_key_of_time(p->before_ms, "", &arena),
                          .select = "PartitionKey,RowKey,Timestamp,ReceivedTime",
                          .limit = PAGE_ROWS};
    enum status status = items.to.len ? ST_OK : fail_set(why, ST_NOMEM, 0, "no memory to purge quarantine");
    begin_part(p);
    if (status == ST_OK)
        status = go_through(p, &items, visit_item, &p->tally.quarantined, why);
    if (p->action == PURGE_DELETE && p->tally.quarantined > 0)
        quarantine_recount(p->store);
    end_part(p, span_empty());
    arena_release(&arena);
    return status;
}

enum status purge_run(struct store *store, int64_t before_ms, enum purge_action action,
                      void (*on_part)(void *context, struct span offer, const struct purge_tally *tally),
                      void *context, struct fail *why)
{
    struct purge p = {
        .store = store, .before_ms = before_ms, .action = action, .on_part = on_part, .context = context};
    enum status status = purge_offers(&p, why);
    if (status == ST_OK)
        status = purge_quarantine(&p, why);
    return status;
}

/* --- the time ------------------------------------------------------------------------------------------------ */

/* The clock of a service is known from its answers. */
static enum status read_clock(struct store *store, int64_t *now_ms, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct entity *row;
    enum status status = sweep_get(store, TABLE_OPS, SPAN_LIT(OFFERS_PARTITION), SPAN_LIT("-"),
                                   "PartitionKey,RowKey,Timestamp", &arena, &row, why);
    if (status == ST_OK)
        *now_ms = store_now_ms(store);
    arena_release(&arena);
    return status;
}

enum status purge_time_given(struct store *store, struct span given, int64_t *before_ms, struct fail *why)
{
    int64_t now_ms = 0;
    enum status status = read_clock(store, &now_ms, why);
    if (status != ST_OK)
        return status;
    int64_t time_ms = 0;
    if (when_given(given, now_ms, &time_ms, NULL) != ST_OK)
        return fail_set(why, ST_INVALID, 0,
                        "the age must be hours, days or weeks (12h, 180d, 26w), or a day (2026-05-01)");
    if (time_ms >= now_ms)
        return fail_set(why, ST_INVALID, 0, "that is not in the past: everything would go");
    *before_ms = time_ms;
    return ST_OK;
}
