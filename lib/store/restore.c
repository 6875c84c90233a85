/* First it is tried to insert all of a transaction, which is right when a store is filled; only when a row turns out
 * to be there all are looked for.  The row of the offer is written first: leads of an offer that the directory does
 * not have would be found by nobody.
 */
#include "lib/store/restore.h"

/* System */
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"

/* L6 */
#include "lib/store/offers.h"
#include "lib/store/sweep.h"

/* Of the rows of one transaction, as they lie in memory; as JSON they are at most twice as much, below the limit of all
 * services.  A single row may be as large as it can be. */
enum { BATCH_BYTES = 512 * 1024, ROUNDS_MAX = 5 };

/* Of the rows of all transactions together, before the largest of them is written. */
enum { GATHERED_BYTES = 8 * 1024 * 1024 };

/* The next transaction of an offer. */
struct restore_batch {
    struct arena arena;
    size_t leads;
    size_t count; /* 0: of no offer yet */
    struct operation operations[LIMIT_BATCH_OPERATIONS];
};

void restore_begin(struct restore *restore, struct store *store, const struct lead_rules *mails)
{
    *restore = (struct restore){.store = store, .mails = mails};
    if (mails && mails->routes)
        restore->routes = route_book_hold(mails->routes);
}

void restore_end(struct restore *restore)
{
    if (restore->routes)
        route_book_let_go(restore->mails->routes, restore->routes);
    restore->routes = NULL;
    for (size_t i = 0; i < LIMIT_RESTORE_OFFERS; i++) {
        if (restore->batches[i])
            arena_release(&restore->batches[i]->arena);
        free(restore->batches[i]);
        restore->batches[i] = NULL;
    }
}

/* --- one row ------------------------------------------------------------------------------------------------- */

static size_t size_of(const struct entity *row)
{
    size_t size = 0;
    for (size_t i = 0; i < row->count; i++)
        size += sizeof row->properties[i] + row->properties[i].name.len + row->properties[i].text.len;
    return size;
}

static struct operation *next_operation(struct restore_batch *b)
{
    struct operation *operation = &b->operations[b->count++];
    *operation = (struct operation){.kind = OPERATION_INSERT};
    return operation;
}

/* row: the copy. */
static bool add_mails(struct restore_batch *b, const struct entity *row, const struct span *recipients,
                      size_t count)
{
    struct lead *lead = arena_alloc(&b->arena, sizeof *lead);
    struct deliveries deliveries = row_deliveries(row);
    struct delivery delivery = {.lead = lead, .received_ms = deliveries.first_ms};
    if (!lead)
        return false;
    lead_of_row(row, lead);
    memcpy(delivery.id, deliveries.first_id.ptr, LEAD_DELIVERY_TEXT);
    for (size_t i = 0; i < count; i++) {
        if (!row_of_mail(&next_operation(b)->entity, &delivery, recipients[i], (unsigned int)i + 1, false,
                         &b->arena))
            return false;
    }
    return true;
}

static size_t recipients_of(const struct restore *r, const struct entity *row, const struct span **recipients)
{
    struct lead lead;
    if (!r->mails || entity_number(row, COLUMN_NOTIFIED_TIME, 0))
        return 0;
    lead_of_row(row, &lead);
    return lead_recipients(r->mails, r->routes, &lead, recipients);
}

enum status restore_check(const struct entity *row, struct fail *why)
{
    struct span id = entity_text(row, COLUMN_DELIVERY_ID);
    char digits[LEAD_DELIVERY_TEXT + 1];
    if (!is_lead_key(row->row_key))
        return fail_set(why, ST_INVALID, 0, "the row's key is not that of a lead");
    if (id.len != LEAD_DELIVERY_TEXT || delivery_id_given(id, digits, NULL) != ST_OK)
        return fail_set(why, ST_INVALID, 0, "the row has no " COLUMN_DELIVERY_ID);
    if (!entity_number(row, COLUMN_RECEIVED_TIME, 0))
        return fail_set(why, ST_INVALID, 0, "the row has no " COLUMN_RECEIVED_TIME);
    enum status status = entity_check(row, why);
    for (size_t i = 0; i < row->count && status == ST_OK; i++) {
        if (row->properties[i].type == EDM_OTHER)
            status = fail_set(why, ST_INVALID, 0,
                              "the value of property '%.*s' is of a type that leadhook does not know",
                              SPAN_FMT(row->properties[i].name));
    }
    return status;
}

/* --- a transaction ------------------------------------------------------------------------------------------- */

static enum status include_offer(const struct restore *r, const struct restore_batch *b, struct fail *why)
{
    const struct entity *first = &b->operations[0].entity;
    struct offer offer = {.partition = first->partition_key, .title = entity_text(first, "OfferDisplayName")};
    for (size_t i = 0; i < b->count; i++) {
        const struct entity *row = &b->operations[i].entity;
        if (!is_lead_key(row->row_key))
            continue;
        struct deliveries d = row_deliveries(row);
        struct lead lead;
        lead_of_row(row, &lead);
        if (!offers_counts(&lead, entity_text(row, COLUMN_ORIGIN)))
            continue;
        offer.first_ms = offer.first_ms && offer.first_ms < d.first_ms ? offer.first_ms : d.first_ms;
        offer.last_ms = offer.last_ms > d.last_ms ? offer.last_ms : d.last_ms;
    }
    if (b->count > b->leads) /* there are mails: every host's mailer looks there, however this ends */
        offer.active_ms = store_now_ms(r->store);
    return offers_include(r->store, &offer, why);
}

/* Whether the operation is about the lead of this key, or one of its mails. */
static bool is_of(const struct operation *operation, struct span lead_key)
{
    struct span key = operation->entity.row_key, prefix = SPAN_LIT(MAIL_KEY_FIRST);
    return span_eq(key, lead_key) ||
           (span_starts(key, prefix) && span_starts(span_from(key, prefix.len), lead_key));
}

static void leave_out(struct restore *r, struct restore_batch *b, struct span lead_key)
{
    size_t kept = 0;
    for (size_t i = 0; i < b->count; i++) {
        if (!is_of(&b->operations[i], lead_key))
            b->operations[kept++] = b->operations[i];
    }
    b->count = kept;
    b->leads--;
    r->present++;
}

/* A mail that is there although its lead was not, as of one that was removed since: it is not made again. */
static void leave_out_mail(struct restore_batch *b, struct span key)
{
    size_t kept = 0;
    for (size_t i = 0; i < b->count; i++) {
        if (!span_eq(b->operations[i].entity.row_key, key))
            b->operations[kept++] = b->operations[i];
    }
    b->count = kept;
}

/* Takes out what is there. */
static enum status look_again(struct restore *r, struct restore_batch *b, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct span keys[LIMIT_BATCH_OPERATIONS] = {{0}};
    struct entity *found[LIMIT_BATCH_OPERATIONS];
    const size_t count = b->count;
    for (size_t i = 0; i < count; i++)
        keys[i] = b->operations[i].entity.row_key;
    enum status status = sweep_get_many(r->store, TABLE_LEADS, b->operations[0].entity.partition_key, keys,
                                        count, "PartitionKey,RowKey,Timestamp", &arena, found, why);
    for (size_t i = 0; i < count && status == ST_OK; i++) {
        if (found[i] && is_lead_key(keys[i]))
            leave_out(r, b, keys[i]);
        else if (found[i])
            leave_out_mail(b, keys[i]);
    }
    arena_release(&arena);
    return status;
}

static enum status write_rows(struct restore *r, struct restore_batch *b, struct fail *why)
{
    size_t failed;
    enum status status = ST_EXISTS;
    for (int round = 0; round < ROUNDS_MAX && status == ST_EXISTS && b->count > 0; round++) {
        status = sweep_transact(r->store, TABLE_LEADS, b->operations, b->count, &failed, why);
        enum status looked = status == ST_EXISTS ? look_again(r, b, why) : ST_OK;
        if (looked != ST_OK)
            return looked;
    }
    if (b->count == 0)
        return ST_OK;
    return status == ST_EXISTS ? fail_set(why, ST_AGAIN, 0, "others are writing the same rows") : status;
}

static enum status write_batch(struct restore *r, struct restore_batch *b, struct fail *why)
{
    if (b->count == 0)
        return ST_OK;
    enum status status = include_offer(r, b, why);
    if (status == ST_OK)
        status = write_rows(r, b, why);
    if (status == ST_OK) {
        r->added += b->leads;
        r->mailed += b->count - b->leads;
    }
    b->leads = b->count = 0;
    arena_reset(&b->arena);
    return status;
}

enum status restore_flush(struct restore *restore, struct fail *why)
{
    enum status status = ST_OK;
    for (size_t i = 0; i < LIMIT_RESTORE_OFFERS && restore->batches[i] && status == ST_OK; i++)
        status = write_batch(restore, restore->batches[i], why);
    return status;
}

/* --- gathering ----------------------------------------------------------------------------------------------- */

static struct restore_batch *batch_of(const struct restore *r, struct span partition)
{
    for (size_t i = 0; i < LIMIT_RESTORE_OFFERS && r->batches[i]; i++) {
        struct restore_batch *b = r->batches[i];
        if (b->count > 0 && span_eq(b->operations[0].entity.partition_key, partition))
            return b;
    }
    return NULL;
}

/* The largest; all: what they hold together.  One at least is there. */
static struct restore_batch *largest(const struct restore *r, size_t *all)
{
    struct restore_batch *found = r->batches[0];
    *all = 0;
    for (size_t i = 0; i < LIMIT_RESTORE_OFFERS && r->batches[i]; i++) {
        *all += r->batches[i]->arena.used;
        if (r->batches[i]->arena.used > found->arena.used)
            found = r->batches[i];
    }
    return found;
}

/* One for another offer: an empty one, or the largest after it was written. */
static enum status free_batch(struct restore *r, struct restore_batch **batch, struct fail *why)
{
    size_t i = 0, all;
    while (i < LIMIT_RESTORE_OFFERS && r->batches[i] && r->batches[i]->count > 0)
        i++;
    if (i == LIMIT_RESTORE_OFFERS) {
        *batch = largest(r, &all);
        return write_batch(r, *batch, why);
    }
    if (!r->batches[i]) {
        r->batches[i] = calloc(1, sizeof *r->batches[i]);
        if (!r->batches[i])
            return fail_set(why, ST_NOMEM, 0, "no memory to put rows back");
        r->batches[i]->arena = ARENA_INIT(BATCH_BYTES + 2 * LIMIT_ENTITY_JSON_BYTES);
    }
    *batch = r->batches[i];
    return ST_OK;
}

/* A key may come once in a transaction. */
static bool fits(const struct restore_batch *b, const struct entity *row, size_t mails)
{
    bool fits = b->count + 1 + mails <= LIMIT_BATCH_OPERATIONS && b->arena.used + size_of(row) < BATCH_BYTES;
    for (size_t i = 0; i < b->count && fits; i++)
        fits = !span_eq(b->operations[i].entity.row_key, row->row_key);
    return fits;
}

enum status restore_add(struct restore *restore, const struct entity *row, struct fail *why)
{
    struct restore *r = restore;
    const struct span *recipients = NULL;
    size_t all, mails = recipients_of(r, row, &recipients);
    struct restore_batch *b = batch_of(r, row->partition_key);
    enum status status = ST_OK;
    if (!b)
        status = free_batch(r, &b, why);
    else if (!fits(b, row, mails))
        status = write_batch(r, b, why);
    if (status != ST_OK)
        return status;
    struct entity *copy = &next_operation(b)->entity;
    if (!entity_copy(row, &b->arena, copy) || !add_mails(b, copy, recipients, mails))
        return fail_set(why, ST_NOMEM, 0, "no memory to put a row back");
    b->leads++;
    b = largest(r, &all);
    return all > GATHERED_BYTES ? write_batch(r, b, why) : ST_OK;
}
