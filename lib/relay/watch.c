#include "lib/relay/watch.h"

/* System */
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/backoff.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"

/* L6 */
#include "lib/store/alarms.h"

/* L7 */
#include "lib/relay/retry.h"

enum {
    ROWS_MAX = 200,        /* looked at in a pass; there are ALARM_COUNT events a day at most */
    STORE_WAIT_MS = 10000, /* then the alarm is mailed from the spool */
    SENT_MAX = 64          /* mails remembered: more than can be tried in two days */
};
#define COLUMNS_OF_ALARM                                                                                     \
    "PartitionKey,RowKey,Timestamp,Title,Text,Host,ReceivedTime,State,Owner,Tries,Ambiguous,NextTime,SentTo,Error"
#define DAY_MS         (24 * 60 * 60 * 1000LL)
#define TRIED_FOR_MS   (2 * DAY_MS)
#define ALARMS_KEPT_MS (LIMIT_ALARM_DAYS * DAY_MS)

/* What this process has sent of an alarm, whether or not it could be recorded. */
struct sent {
    char row_key[LIMIT_ROW_KEY_BYTES + 1];
    bool to[LIMIT_RECIPIENTS];
};

struct watch {
    struct watch_options options;
    struct mail_transport *transport; /* NULL without recipients */
    struct sent sent[SENT_MAX];       /* a ring */
    size_t sent_next;
    int64_t delete_ms; /* monotonic: when to look for old rows */
    int64_t due_ms;    /* monotonic */
};

struct rows {
    struct entity rows[ROWS_MAX];
    size_t count;
};

/* One alarm in work. */
struct attempt {
    struct watch *watch;
    struct store *store; /* where its row is */
    struct arena *arena;
    struct entity row; /* as last read; its etag is what the next change needs */
    struct alarm_row alarm;
};

static int64_t store_deadline(void)
{
    return clock_monotonic_ms() + STORE_WAIT_MS;
}

static bool stopping(const struct watch *w)
{
    return w->options.stop && atomic_load(w->options.stop);
}

static void note_due(struct watch *w, int64_t in_ms)
{
    int64_t at = clock_monotonic_ms() + (in_ms > 0 ? in_ms : 0);
    if (at < w->due_ms)
        w->due_ms = at;
}

int64_t watch_due_in_ms(const struct watch *watch)
{
    if (watch->due_ms == INT64_MAX)
        return INT64_MAX;
    int64_t left = watch->due_ms - clock_monotonic_ms();
    return left > 0 ? left : 0;
}

static void log_alarm(const struct alarm_row *alarm, enum log_level level, const char *event,
                      const struct fail *why)
{
    log_failure(level, event, why, "alarm=%.*s day=%.*s tries=%d", SPAN_FMT(alarm->event),
                SPAN_FMT(alarm->day), (int)alarm->tries);
}

/* --- whom it has reached ------------------------------------------------------------------------------------- */

static struct sent *sent_of(struct watch *w, struct span row_key)
{
    for (size_t i = 0; i < SENT_MAX; i++) {
        if (span_eq(span_of(w->sent[i].row_key), row_key))
            return &w->sent[i];
    }
    return NULL;
}

static void remember(struct watch *w, struct span row_key, size_t recipient)
{
    struct sent *sent = sent_of(w, row_key);
    if (!sent) {
        sent = &w->sent[w->sent_next];
        w->sent_next = (w->sent_next + 1) % SENT_MAX;
        *sent = (struct sent){0};
        memcpy(sent->row_key, row_key.ptr, row_key.len); /* alarm_of_row has bounded it */
    }
    sent->to[recipient] = true;
}

static bool is_listed(struct span list, struct span address)
{
    struct span part;
    while (span_next(&list, ',', &part)) {
        if (span_eq(part, address))
            return true;
    }
    return false;
}

static bool has_reached(const struct attempt *a, size_t recipient)
{
    const struct sent *sent = sent_of(a->watch, a->row.row_key);
    return (sent && sent->to[recipient]) ||
           is_listed(a->alarm.sent_to, a->watch->options.recipients[recipient]);
}

/* Brings the list of addresses up to what is remembered. */
static bool list_reached(struct attempt *a)
{
    struct buf list = BUF_INIT(LIMIT_PROPERTY_UTF16);
    struct span copy = {0};
    buf_add(&list, a->alarm.sent_to);
    for (size_t i = 0; i < a->watch->options.recipient_count; i++) {
        struct span address = a->watch->options.recipients[i];
        if (has_reached(a, i) && !is_listed(buf_span(&list), address))
            buf_addf(&list, "%s%.*s", list.len ? "," : "", SPAN_FMT(address));
    }
    bool ok = list.error == ST_OK && arena_copy(a->arena, buf_span(&list), &copy);
    if (ok)
        a->alarm.sent_to = copy;
    buf_release(&list);
    return ok;
}

static bool has_reached_all(const struct attempt *a)
{
    size_t i = 0;
    while (i < a->watch->options.recipient_count && has_reached(a, i))
        i++;
    return i == a->watch->options.recipient_count;
}

/* --- rows ---------------------------------------------------------------------------------------------------- */

/* The rows with from <= key < to, the first ROWS_MAX of them. */
static enum status read_rows(struct store *store, struct span from, struct span to, struct arena *arena,
                             struct rows *rows, struct fail *why)
{
    struct query q = {.table = TABLE_OPS,
                      .partition_key = SPAN_LIT(ALARMS_PARTITION),
                      .from = from,
                      .to = to,
                      .select = COLUMNS_OF_ALARM,
                      .limit = ROWS_MAX};
    int64_t deadline_ms = store_deadline();
    rows->count = 0;
    do {
        struct page page;
        enum status status = store_query(store, &q, deadline_ms, arena, &page, why);
        if (status != ST_OK)
            return status;
        for (size_t i = 0; i < page.count && rows->count < ROWS_MAX; i++)
            rows->rows[rows->count++] = page.rows[i];
        q.next = page.next;
    } while (q.next.len && rows->count < ROWS_MAX);
    return ST_OK;
}

static enum status write_row(struct store *store, enum operation_kind kind, const struct entity *row,
                             struct fail *why)
{
    struct operation operation = {.kind = kind, .entity = *row};
    size_t failed;
    return store_transact(store, TABLE_OPS, &operation, 1, store_deadline(), &failed, why);
}

/* Writes the alarm's state under the etag; after it the row's etag is used up. */
static enum status change(struct attempt *a, enum alarm_state state, struct span etag, struct fail *why)
{
    struct entity changed;
    a->alarm.state = state;
    if (!row_of_alarm_state(&changed, &a->row, &a->alarm, a->arena))
        return fail_set(why, ST_NOMEM, 0, "no memory for an alarm's row");
    changed.etag = etag;
    return write_row(a->store, OPERATION_MERGE, &changed, why);
}

/* ST_NOT_FOUND: it is gone. */
static enum status reread(struct attempt *a, struct fail *why)
{
    struct entity *found;
    struct span key = a->row.row_key;
    enum status status = store_get_many(a->store, TABLE_OPS, a->row.partition_key, &key, 1, NULL,
                                        store_deadline(), a->arena, &found, why);
    if (status != ST_OK)
        return status;
    if (!found)
        return fail_set(why, ST_NOT_FOUND, 0, "the alarm's row is gone");
    a->row = *found;
    return alarm_of_row(&a->row, &a->alarm, why);
}

/* --- mailing one alarm --------------------------------------------------------------------------------------- */

/* Claims the row, or renews our claim, and notes whom it has reached. */
static enum status claim(struct attempt *a, struct fail *why)
{
    if (!list_reached(a))
        return fail_set(why, ST_NOMEM, 0, "no memory for an alarm's row");
    a->alarm.owner = a->watch->options.owner;
    enum status status = change(a, ALARM_STATE_CLAIMED, a->row.etag, why);
    if (status == ST_OK)
        status = reread(a, why); /* for the etag that the next change needs */
    if (status == ST_OK &&
        (a->alarm.state != ALARM_STATE_CLAIMED || !span_eq(a->alarm.owner, a->watch->options.owner)))
        status = fail_set(why, ST_CHANGED, 0, "another host has taken this alarm");
    return status;
}

static enum mail_outcome send_to(const struct attempt *a, size_t recipient, struct fail *reason)
{
    const struct watch_options *o = &a->watch->options;
    struct alarm_words words = alarm_words(a->alarm.event);
    struct alarm_notice notice = {
        .event = a->alarm.event,
        .day = a->alarm.day,
        .received_ms = a->alarm.received_ms,
        .title = a->alarm.title.len ? a->alarm.title : span_of(words.title),
        .happened = a->alarm.text,
        .meaning = span_of(words.meaning),
        .action = span_of(words.action),
        .lasts = words.lasts,
        .host = a->alarm.host,
        .recipient_number = (unsigned int)recipient,
        .from = &o->from,
        .to = o->recipients[recipient],
    };
    struct buf message = BUF_INIT(LIMIT_MAIL_BYTES);
    enum mail_outcome outcome = MAIL_PERMANENT;
    if (mail_compose_alarm(&message, &notice, reason) == ST_OK)
        /* A dead process, or a host that we cannot know of, may have sent it before. */
        outcome = mail_send_again(a->watch->transport, o->from.address, o->recipients[recipient],
                                  buf_span(&message), NULL, NULL, reason);
    buf_release(&message);
    return outcome;
}

struct outcomes {
    bool ambiguous;
    bool failed;
    struct fail reason; /* of the last one */
};

/* Sends to everybody it has not reached.  The claim is renewed for each, because it only outlasts one dialogue. */
static enum status send_to_all(struct attempt *a, struct outcomes *outcomes, struct fail *why)
{
    bool first = true;
    for (size_t i = 0; i < a->watch->options.recipient_count && !stopping(a->watch); i++) {
        if (has_reached(a, i))
            continue;
        enum status status = first ? ST_OK : claim(a, why);
        if (status != ST_OK)
            return status;
        first = false;
        switch (send_to(a, i, &outcomes->reason)) {
        case MAIL_ACCEPTED:
            remember(a->watch, a->row.row_key, i);
            break;
        case MAIL_AMBIGUOUS:
            outcomes->ambiguous = true;
            if (a->alarm.ambiguous >= RETRY_AMBIGUOUS_MAX)
                remember(a->watch, a->row.row_key, i); /* once more would help nobody */
            break;
        case MAIL_TRANSIENT:
        case MAIL_PERMANENT:
        case MAIL_CONFIGURATION:
            outcomes->failed = true;
            break;
        }
    }
    return ST_OK;
}

/* How long to wait after this attempt; counts what failed. */
static int64_t count_failures(struct attempt *a, const struct outcomes *outcomes)
{
    if (outcomes->ambiguous) {
        a->alarm.ambiguous++;
        return clock_long_wait_ms(RETRY_AMBIGUOUS_WAIT_MS);
    }
    if (outcomes->failed && !stopping(a->watch)) { /* what we have broken off is no failure */
        a->alarm.tries++;
        return clock_long_wait_ms(retry_wait_ms(a->alarm.tries, backoff_jitter()));
    }
    return 0;
}

/* Records what the attempt has brought. */
static enum status finish(struct attempt *a, const struct outcomes *outcomes, struct fail *why)
{
    int64_t wait_ms = count_failures(a, outcomes);
    a->alarm.owner = span_empty();
    a->alarm.error = span_of(outcomes->reason.text);
    a->alarm.next_ms = store_now_ms(a->store) + wait_ms;
    if (!list_reached(a))
        return fail_set(why, ST_NOMEM, 0, "no memory for an alarm's row");
    if (has_reached_all(a)) {
        log_event(LOG_LEVEL_INFO, "alarm-sent", "alarm=%.*s day=%.*s ambiguous=%d", SPAN_FMT(a->alarm.event),
                  SPAN_FMT(a->alarm.day), (int)a->alarm.ambiguous);
        if (a->watch->options.on_mailed)
            a->watch->options.on_mailed(a->watch->options.context);
        /* Whoever took it over meanwhile need not send it. */
        return change(a, ALARM_STATE_SENT, SPAN_LIT("*"), why);
    }
    bool over = a->alarm.next_ms > a->alarm.received_ms + clock_long_wait_ms(TRIED_FOR_MS);
    if (wait_ms > 0)
        log_alarm(&a->alarm, LOG_LEVEL_ERROR, over ? "alarm-given-up" : "alarm-deferred", &outcomes->reason);
    if (!over)
        note_due(a->watch, wait_ms);
    return change(a, ALARM_STATE_WAITING, a->row.etag, why);
}

/* Whether the row may be worked on now; notes when it may be later. */
static bool is_ready(const struct attempt *a)
{
    struct watch *w = a->watch;
    int64_t now = store_now_ms(a->store);
    int64_t expires_ms = a->row.timestamp_ms + clock_long_wait_ms(RETRY_CLAIM_EXPIRES_MS);
    if (a->alarm.state == ALARM_STATE_SENT || a->alarm.state == ALARM_STATE_SETTLED ||
        now > a->alarm.received_ms + clock_long_wait_ms(TRIED_FOR_MS) || w->options.recipient_count == 0)
        return false;
    if (a->alarm.state == ALARM_STATE_CLAIMED && !span_eq(a->alarm.owner, w->options.owner) &&
        now < expires_ms) {
        note_due(w, expires_ms - now);
        return false;
    }
    if (a->alarm.next_ms > now) {
        note_due(w, a->alarm.next_ms - now);
        return false;
    }
    return true;
}

static enum status work_on(struct attempt *a, struct fail *why)
{
    struct outcomes outcomes = {0};
    if (!is_ready(a))
        return ST_OK;
    enum status status = claim(a, why);
    if (status == ST_OK)
        status = send_to_all(a, &outcomes, why);
    if (status == ST_OK)
        status = finish(a, &outcomes, why);
    return status == ST_CHANGED || status == ST_NOT_FOUND ? ST_OK
                                                          : status; /* someone else's now, or deleted */
}

/* --- the spool's alarms -------------------------------------------------------------------------------------- */

/* The store has the event already.  *settled: nothing is left to do for our row. */
static enum status compare(const struct attempt *ours, struct store *store, bool *settled, struct fail *why)
{
    struct attempt theirs = *ours;
    theirs.store = store;
    enum status status = reread(&theirs, why);
    if (status == ST_NOT_FOUND)
        return ST_OK; /* deleted in this moment: inserted at the next pass */
    if (status != ST_OK)
        return status;
    *settled = theirs.alarm.state == ALARM_STATE_SENT;
    if (ours->alarm.state != ALARM_STATE_SENT || *settled)
        return ST_OK;
    /* We have told the operator already.  A host that is about to do so is not stopped. */
    *settled = true;
    theirs.alarm.sent_to = ours->alarm.sent_to;
    theirs.alarm.owner = span_empty();
    status = change(&theirs, ALARM_STATE_SENT, theirs.row.etag, why);
    return status == ST_CHANGED || status == ST_NOT_FOUND ? ST_OK : status;
}

/* Makes the store of record know of the spool's alarm; the status is the store's. */
static enum status bring_to_store(const struct attempt *ours, struct store *store, bool *settled,
                                  struct fail *why)
{
    struct alarm_row copy = ours->alarm;
    struct entity row;
    bool sent = copy.state == ALARM_STATE_SENT;
    /* Times of the host's clock say nothing by the store's. */
    copy.state = sent ? ALARM_STATE_SENT : ALARM_STATE_WAITING;
    copy.owner = span_empty();
    copy.next_ms = 0;
    *settled = false;
    if (!row_of_alarm(&row, &copy, ours->arena))
        return fail_set(why, ST_NOMEM, 0, "no memory for an alarm's row");
    enum status status = write_row(store, OPERATION_INSERT, &row, why);
    if (status == ST_EXISTS)
        return compare(ours, store, settled, why);
    *settled = status == ST_OK && sent;
    return status;
}

/* The store did not answer, and not just to this row. */
static bool is_down(enum status status)
{
    return status != ST_OK && status != ST_INVALID && status != ST_TOO_LARGE && status != ST_NOMEM;
}

static enum status settle(struct attempt *a, struct fail *why)
{
    enum status status = change(a, ALARM_STATE_SETTLED, a->row.etag, why);
    return status == ST_CHANGED || status == ST_NOT_FOUND ? ST_OK : status;
}

/* An alarm in the spool.  *table: how the store of record has answered in this pass. */
static enum status work_on_local(struct attempt *a, struct store *store, struct fail *table, struct fail *why)
{
    bool settled;
    if (a->alarm.state == ALARM_STATE_SETTLED)
        return ST_OK;
    if (table->code == ST_OK) {
        struct fail failure = {0};
        enum status status = bring_to_store(a, store, &settled, &failure);
        if (status == ST_OK) /* from now on the store's row is the one that is mailed */
            return settled ? settle(a, why) : ST_OK;
        if (is_down(status))
            *table = failure;
        else
            log_alarm(&a->alarm, LOG_LEVEL_ERROR, "alarm-not-copied", &failure);
    }
    return work_on(a, why);
}

/* --- the pass ------------------------------------------------------------------------------------------------ */

/* Works through one store's alarms of the days in which they are tried.  store and *table as in work_on_local
 * when these are the spool's, else store is NULL. */
static enum status pass(struct watch *w, struct store *where, struct store *store, struct fail *table,
                        struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct rows *rows = calloc(1, sizeof *rows);
    struct span from = alarm_day(store_now_ms(where) - TRIED_FOR_MS, &arena);
    enum status status = rows && from.len ? read_rows(where, from, SPAN_LIT(ALARM_KEY_END), &arena, rows, why)
                                          : fail_set(why, ST_NOMEM, 0, "no memory to read alarms");
    for (size_t i = 0; rows && status == ST_OK && i < rows->count && !stopping(w); i++) {
        struct attempt a = {.watch = w, .store = where, .arena = &arena, .row = rows->rows[i]};
        struct fail invalid;
        if (alarm_of_row(&a.row, &a.alarm, &invalid) != ST_OK)
            log_failure(LOG_LEVEL_ERROR, "alarm-row-invalid", &invalid,
                        NULL); /* it must not stop the others */
        else
            status = store ? work_on_local(&a, store, table, why) : work_on(&a, why);
    }
    free(rows);
    arena_release(&arena);
    return status;
}

/* Deletes what nobody asks for any more.  *more: there is more of it. */
static enum status delete_old(const struct watch *w, struct store *store, bool *more, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct rows *rows = calloc(1, sizeof *rows);
    struct span end = alarm_day(store_now_ms(store) - ALARMS_KEPT_MS, &arena);
    enum status status = rows && end.len ? read_rows(store, span_empty(), end, &arena, rows, why)
                                         : fail_set(why, ST_NOMEM, 0, "no memory to read alarms");
    for (size_t i = 0; rows && status == ST_OK && i < rows->count && !stopping(w); i++) {
        rows->rows[i].etag = SPAN_LIT("*");
        status = write_row(store, OPERATION_DELETE, &rows->rows[i], why);
        if (status == ST_NOT_FOUND)
            status = ST_OK; /* another host was faster */
    }
    *more = *more || (rows && rows->count == ROWS_MAX);
    free(rows);
    arena_release(&arena);
    return status;
}

static enum status delete_old_of_all(struct watch *w, struct store *store, struct store *local,
                                     struct fail *why)
{
    bool more = false;
    if (clock_monotonic_ms() < w->delete_ms)
        return ST_OK;
    enum status status = delete_old(w, store, &more, why);
    if (status == ST_OK && local)
        status = delete_old(w, local, &more, why);
    if (status == ST_OK && !more)
        w->delete_ms = clock_monotonic_ms() + DAY_MS;
    return status;
}

enum status watch_pass(struct watch *watch, struct store *store, struct store *local, struct fail *why)
{
    struct fail table = {0}, spool = {0};
    watch->due_ms = INT64_MAX;
    enum status local_status = local ? pass(watch, local, store, &table, &spool) : ST_OK;
    enum status status = table.code; /* it is not waited for again */
    if (status == ST_OK)
        status = pass(watch, store, NULL, NULL, &table);
    if (status == ST_OK && local_status == ST_OK)
        return delete_old_of_all(watch, store, local, why);
    *why = status == ST_OK ? spool : table;
    return status == ST_OK ? local_status : status;
}

enum status watch_new(const struct watch_options *options, struct watch **watch, struct fail *why)
{
    if (options->recipient_count > LIMIT_RECIPIENTS)
        return fail_set(why, ST_INVALID, 0, "alarms have more than %u recipients", LIMIT_RECIPIENTS);
    struct watch *w = calloc(1, sizeof *w);
    if (!w)
        return fail_set(why, ST_NOMEM, 0, "no memory for the watch");
    *w = (struct watch){.options = *options, .due_ms = INT64_MAX};
    w->options.transport.stop = options->stop;
    if (options->recipient_count > 0) {
        enum status status = mail_transport_new(&w->options.transport, &w->transport, why);
        if (status != ST_OK) {
            free(w);
            return status;
        }
    }
    *watch = w;
    return ST_OK;
}

void watch_free(struct watch *watch)
{
    if (!watch)
        return;
    mail_transport_free(watch->transport); /* NULL is allowed */
    free(watch);
}
