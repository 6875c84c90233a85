/* A call of leads_commit works on rows, not on leads: leads with equal keys are
 * one row (two in one transaction would be refused whole).  Each round takes as
 * many open rows as fit, turns them into operations and sends them.  A round
 * that fails says what to do next: read and try again, leave one row out, take
 * fewer, or give up.  Every attempt may be repeated: a row that an attempt
 * without an answer has written is recognised by its delivery id.
 */
#include "lib/store/leads.h"

/* System */
#include <string.h>

/* L0 */
#include "lib/base/clock.h"

enum {
    ROUNDS_MAX = 12,        /* enough to bisect a full transaction, with some conflicts on the way */
    ATTEMPTS_LOST = 3,      /* transactions without an answer before we give up */
    BYTES_PER_LEAD = 4096,  /* of a small lead on the wire, mail rows and MIME included */
    BYTES_PER_BODY_BYTE = 4 /* stored as payload and again as columns, quotes escaped twice */
};

struct row {
    struct lead_write **leads; /* in order of arrival */
    size_t lead_count;
    const char *partition;
    const struct span *recipients; /* of its mails */
    size_t recipient_count;
    size_t used; /* how many of them the last operations stand for */
    struct span key;
    const struct entity *found; /* what the store has; NULL: not there as far as we know */
    bool done;
    const struct lead_write *mailed; /* whose mails an earlier attempt has written; NULL: nobody's */
    size_t first_operation;
    size_t operation_count;
    size_t mail_lead; /* index of the lead that has mail in the last operations, or NO_INDEX */
};

struct commit {
    struct store *store;
    const struct lead_rules *rules;
    const struct routes *routes; /* the same for all of a call; NULL: none */
    struct arena *arena;
    int64_t deadline_ms;
    struct row *rows;
    size_t row_count;
    struct operation *operations;
    size_t operation_count;
};

static void settle(struct lead_write *lead, enum status status, const struct fail *why)
{
    lead->status = status;
    if (status != ST_OK)
        lead->why = *why;
}

static void settle_row(struct row *row, enum status status, const struct fail *why)
{
    for (size_t i = 0; i < row->lead_count; i++)
        settle(row->leads[i], status, why);
    row->done = true;
}

static void settle_open(struct commit *c, enum status status, const struct fail *why)
{
    for (size_t i = 0; i < c->row_count; i++) {
        if (!c->rows[i].done)
            settle_row(&c->rows[i], status, why);
    }
}

size_t lead_recipients(const struct lead_rules *rules, const struct routes *routes, const struct lead *lead,
                       const struct span **recipients)
{
    const struct route *route = routes ? routes_find(routes, lead) : NULL;
    *recipients = route ? route->recipients : rules->recipients;
    return route ? route->recipient_count : rules->recipient_count;
}

/* Whoever is told of one lead of a row is told of all: their bodies are the same, or their sender says that they are
 * the same delivery, of which only the first is mailed. */
static struct row new_row(const struct commit *c, const struct lead *lead, struct span key)
{
    struct row row = {.key = key, .partition = lead->partition};
    row.recipient_count = lead_recipients(c->rules, c->routes, lead, &row.recipients);
    return row;
}

/* Puts leads with equal partition and key into one row. count is at most a few hundred. */
static bool group(struct commit *c, struct lead_write *const *leads, size_t count)
{
    c->rows = arena_array(c->arena, count, sizeof *c->rows);
    struct lead_write **members = arena_array(c->arena, count, sizeof(struct lead_write *));
    struct span *keys = arena_array(c->arena, count, sizeof *keys);
    size_t *row_of = arena_array(c->arena, count, sizeof *row_of);
    if (!c->rows || !members || !keys || !row_of)
        return false;
    for (size_t i = 0; i < count; i++) {
        const struct lead *lead = leads[i]->delivery.lead;
        keys[i] = row_key_of_lead(lead, c->arena);
        if (!keys[i].len)
            return false;
        size_t r = 0;
        for (; r < c->row_count; r++) {
            const struct row *row = &c->rows[r];
            if (span_eq(row->key, keys[i]) && strcmp(row->partition, lead->partition) == 0)
                break;
        }
        if (r == c->row_count)
            c->rows[c->row_count++] = new_row(c, lead, keys[i]);
        row_of[i] = r;
        c->rows[r].lead_count++;
    }
    for (size_t r = 0; r < c->row_count; r++) {
        c->rows[r].leads = members;
        members += c->rows[r].lead_count;
        c->rows[r].lead_count = 0;
    }
    for (size_t i = 0; i < count; i++) {
        struct row *row = &c->rows[row_of[i]];
        row->leads[row->lead_count++] = leads[i];
    }
    return true;
}

static bool add_mails(struct commit *c, const struct row *row, const struct delivery *delivery,
                      bool came_back)
{
    for (size_t i = 0; i < row->recipient_count; i++) {
        struct operation *operation = &c->operations[c->operation_count];
        operation->kind = OPERATION_INSERT;
        if (!row_of_mail(&operation->entity, delivery, row->recipients[i], (unsigned int)i + 1, came_back,
                         c->arena))
            return false;
        c->operation_count++;
    }
    return true;
}

static int64_t distance(int64_t a, int64_t b)
{
    return a > b ? a - b : b - a;
}

/* Whether the row as found is already the work of this delivery. */
static bool is_ours(const struct deliveries *d, const struct delivery *delivery)
{
    return span_eq(d->first_id, span_of(delivery->id)) || span_eq(d->last_id, span_of(delivery->id));
}

/* Counts one more delivery of a row. */
static void count_delivery(struct deliveries *d, const struct delivery *delivery)
{
    if (d->count < INT32_MAX)
        d->count++;
    if (delivery->received_ms < d->first_ms)
        d->first_ms = delivery->received_ms;
    if (delivery->received_ms > d->last_ms)
        d->last_ms = delivery->received_ms;
    d->last_id = span_of(delivery->id);
}

/* Turns an open row into operations: an insert, or a merge under the ETag found,
 * and the mails of at most one delivery; a further one that needs mails waits
 * for the next round.  A row that needs no operation is done.  false: no memory. */
static bool add_row(struct commit *c, struct row *row)
{
    struct deliveries d = {0};
    const struct delivery *changed_by = NULL;
    bool insert = !row->found;
    bool came_back = false;

    row->first_operation = c->operation_count;
    row->operation_count = 0;
    row->mail_lead = NO_INDEX;
    row->used = row->lead_count;
    if (row->found)
        d = row_deliveries(row->found);
    const struct deliveries found = d;
    for (size_t i = 0; i < row->lead_count; i++) {
        struct lead_write *lead = row->leads[i];
        const struct delivery *delivery = &lead->delivery;
        bool needs_mail = false;
        lead->has_mail = false;
        if (insert && i == 0) {
            struct span id = span_of(delivery->id);
            d = (struct deliveries){1, delivery->received_ms, delivery->received_ms, id, id};
            needs_mail = true;
        } else if (!insert && is_ours(&found, delivery)) {
            lead->is_repeat = !span_eq(found.first_id, span_of(delivery->id));
            lead->has_mail = row->recipient_count > 0; /* that attempt wrote it, and nobody was told */
            continue;
        } else if (delivery->origin.len) {
            lead->is_repeat = true; /* it was read out of a file twice: its sender sent it once */
            continue;
        } else {
            /* Older than what the row knows and perhaps counted before: its mail may be out already, and that of the
             * later delivery is for sure. */
            bool told = delivery->may_be_written && delivery->received_ms <= d.last_ms;
            /* The sender's name for it says that it is the same one: nobody came back. */
            told = told || delivery->webhook_id.len > 0;
            needs_mail = !told && distance(delivery->received_ms, d.last_ms) > c->rules->repeat_window_ms;
            if (needs_mail && row->mail_lead != NO_INDEX) {
                row->used = i;
                break;
            }
            came_back = needs_mail || came_back;
            lead->is_repeat = true;
            count_delivery(&d, delivery);
        }
        changed_by = delivery;
        if (needs_mail)
            row->mail_lead = i;
    }
    if (!changed_by) {
        settle_row(row, ST_OK, NULL);
        return true;
    }

    struct operation *operation = &c->operations[c->operation_count++];
    if (insert) {
        operation->kind = OPERATION_INSERT;
        const struct delivery *first = &row->leads[0]->delivery;
        if (!row_of_lead(&operation->entity, first, &d, c->arena))
            return false;
        if (changed_by != first) /* it came twice at once */
            entity_add_text(&operation->entity, COLUMN_LAST_REQUEST_ID, changed_by->request_id);
    } else {
        operation->kind = OPERATION_MERGE;
        if (!row_of_repeat(&operation->entity, changed_by, &d, c->arena))
            return false;
        operation->entity.etag = row->found->etag;
    }
    if (row->mail_lead != NO_INDEX && row->leads[row->mail_lead] != row->mailed &&
        !add_mails(c, row, &row->leads[row->mail_lead]->delivery, came_back))
        return false;
    row->operation_count = c->operation_count - row->first_operation;
    return true;
}

static size_t bytes_of(const struct row *row)
{
    return BYTES_PER_LEAD + BYTES_PER_BODY_BYTE * row->leads[0]->delivery.lead->payload.len;
}

/* Takes open rows until the transaction is full; at most width of them.  Gives how many; 0 when all are done. */
static bool take_rows(struct commit *c, size_t width, struct row **taken, size_t *taken_count)
{
    size_t bytes = 0;
    c->operation_count = 0;
    *taken_count = 0;
    for (size_t i = 0; i < c->row_count && *taken_count < width; i++) {
        struct row *row = &c->rows[i];
        if (row->done)
            continue;
        bytes += bytes_of(row);
        if (c->operation_count + 1 + row->recipient_count > LIMIT_BATCH_OPERATIONS ||
            (*taken_count > 0 && bytes > LIMIT_BATCH_BYTES))
            break;
        if (!add_row(c, row))
            return false;
        if (!row->done)
            taken[(*taken_count)++] = row;
    }
    return true;
}

/* The transaction was committed: the leads it stands for are durable. */
static void rows_committed(struct row **taken, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct row *row = taken[i];
        for (size_t k = 0; k < row->used; k++) {
            settle(row->leads[k], ST_OK, NULL);
            if (k == row->mail_lead)
                row->leads[k]->has_mail = row->operation_count > 1 || row->leads[k] == row->mailed;
        }
        row->leads += row->used;
        row->lead_count -= row->used;
        row->done = row->lead_count == 0;
    }
}

/* Reads what the store has of these rows, all at once. */
static enum status read_rows(struct commit *c, struct row **rows, size_t count, struct fail *why)
{
    struct span *keys = arena_array(c->arena, count, sizeof *keys);
    struct entity **found = arena_array(c->arena, count, sizeof(struct entity *));
    if (!keys || !found)
        return fail_set(why, ST_NOMEM, 0, "no memory to read rows");
    size_t done = 0;
    while (done < count) {
        /* One read per partition; with the Table service there is only one. */
        const char *partition = rows[done]->partition;
        size_t n = 0;
        while (done + n < count && strcmp(rows[done + n]->partition, partition) == 0) {
            keys[n] = rows[done + n]->key;
            n++;
        }
        enum status status = store_get_many(c->store, TABLE_LEADS, span_of(partition), keys, n,
                                            COLUMNS_OF_REPEAT, c->deadline_ms, c->arena, found, why);
        if (status != ST_OK)
            return status;
        for (size_t i = 0; i < n; i++)
            rows[done + i]->found = found[i];
        done += n;
    }
    return ST_OK;
}

static size_t row_of_operation(struct row **taken, size_t count, size_t operation)
{
    for (size_t i = 0; i < count; i++) {
        if (operation >= taken[i]->first_operation &&
            operation < taken[i]->first_operation + taken[i]->operation_count)
            return i;
    }
    return NO_INDEX;
}

/* Whether the mail that an operation was to insert is there: an attempt without an answer wrote it, and its
 * delivery's id has since been replaced by that of another repeat. */
static enum status read_mail(struct commit *c, struct row *row, size_t operation, struct fail *why)
{
    const struct entity *mail = &c->operations[operation].entity;
    struct entity *found;
    enum status status = store_get_many(c->store, TABLE_LEADS, mail->partition_key, &mail->row_key, 1,
                                        "PartitionKey,RowKey", c->deadline_ms, c->arena, &found, why);
    if (status == ST_OK)
        row->mailed = found ? row->leads[row->mail_lead] : NULL;
    return status;
}

/* A row is not as we thought.  What comes before the failing one was right, so the rest is read. */
static enum status read_again(struct commit *c, struct row **taken, size_t count, size_t failed,
                              enum status reason, struct fail *why)
{
    size_t at = row_of_operation(taken, count, failed);
    enum status status = ST_OK;
    if (at != NO_INDEX && reason == ST_EXISTS && failed != taken[at]->first_operation)
        status = read_mail(c, taken[at], failed, why);
    if (at == NO_INDEX)
        at = 0;
    return status == ST_OK ? read_rows(c, taken + at, count - at, why) : status;
}

static bool is_member_fault(enum status status)
{
    return status == ST_INVALID || status == ST_TOO_LARGE;
}

/* One lead that the store will never take: it leaves the transaction, the others stay. */
static void refuse_member(struct row **taken, size_t count, size_t failed, size_t *width, struct fail *why)
{
    size_t at = row_of_operation(taken, count, failed);
    if (at == NO_INDEX && count == 1)
        at = 0;
    if (at == NO_INDEX) {
        *width = count / 2; /* not said which one: halve until it is alone */
        return;
    }
    fail_prefix(why, "the store refuses this lead");
    why->code = ST_REFUSED;
    settle_row(taken[at], ST_REFUSED, why);
}

static void commit_all(struct commit *c, struct lead_write *const *leads, size_t count)
{
    struct row *taken[LIMIT_BATCH_OPERATIONS];
    struct fail why = {0};
    size_t width = LIMIT_BATCH_OPERATIONS;
    unsigned int lost = 0;
    bool maybe_written = false;

    c->operations = arena_array(c->arena, LIMIT_BATCH_OPERATIONS, sizeof *c->operations);
    if (!c->operations || !group(c, leads, count)) {
        (void)fail_set(&why, ST_NOMEM, 0, "no memory to store leads");
        for (size_t i = 0; i < count; i++)
            settle(leads[i], ST_NOMEM, &why);
        return;
    }
    /* A round settles a row or learns something; the bound only stops what should not be possible. */
    for (size_t round = 0; round < ROUNDS_MAX + c->row_count; round++) {
        size_t taken_count;
        if (!take_rows(c, width, taken, &taken_count)) {
            (void)fail_set(&why, ST_NOMEM, 0, "no memory to store leads");
            break;
        }
        if (taken_count == 0)
            return;
        size_t failed = NO_INDEX;
        enum status status = store_transact(c->store, TABLE_LEADS, c->operations, c->operation_count,
                                            c->deadline_ms, &failed, &why);
        if (status == ST_OK) {
            rows_committed(taken, taken_count);
            width = LIMIT_BATCH_OPERATIONS;
        } else if (status == ST_EXISTS || status == ST_CHANGED || status == ST_NOT_FOUND) {
            if (read_again(c, taken, taken_count, failed, status, &why) != ST_OK)
                break;
        } else if (is_member_fault(status)) {
            refuse_member(taken, taken_count, failed, &width, &why);
        } else {
            /* After a lost connection the next attempt makes a new one, and may find its own work. */
            maybe_written = maybe_written || status == ST_UNKNOWN;
            if ((status != ST_UNKNOWN && status != ST_AGAIN) || why.retry_after_s > 0 ||
                ++lost == ATTEMPTS_LOST || clock_monotonic_ms() >= c->deadline_ms)
                break;
        }
    }
    if (why.code == ST_OK || why.code == ST_EXISTS || why.code == ST_CHANGED || why.code == ST_NOT_FOUND)
        (void)fail_set(&why, ST_AGAIN, 0, "a lead's row kept changing while it was being written");
    if (maybe_written)
        why.code = ST_UNKNOWN;
    settle_open(c, why.code, &why);
}

void leads_commit(struct store *store, const struct lead_rules *rules, struct lead_write *const *leads,
                  size_t count, int64_t deadline_ms, struct arena *arena)
{
    struct routes *routes = rules->routes ? route_book_hold(rules->routes) : NULL;
    struct commit c = {
        .store = store, .rules = rules, .routes = routes, .arena = arena, .deadline_ms = deadline_ms};
    commit_all(&c, leads, count);
    if (routes)
        route_book_let_go(rules->routes, routes);
}
