/* What an attempt came to is decided once (struct mail_verdict) and then recorded; if
 * the store does not take the record, the memory keeps it, and the row is only
 * recorded from then on and never sent again by this process.
 *
 * Whatever takes a mail's row away or adds one also writes the lead's row, under
 * its ETag: so two hosts that send the last two mails of a lead at once do not
 * both think that one is left.
 */
#include "lib/relay/mailer.h"

/* System */
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* L0 */
#include "lib/base/backoff.h"
#include "lib/base/clock.h"
#include "lib/base/log.h"

/* L6 */
#include "lib/store/alarms.h"

/* L7 */
#include "lib/relay/notification.h"
#include "lib/relay/retry.h"

enum {
    PAGE_ROWS = 50,                   /* read as one; their memory counts */
    STORE_WAIT_MS = 30000,            /* for one operation of the mailer: the service's own limit */
    STORE_WAIT_AT_THE_STOP_MS = 5000, /* several attempts fit into the time to stop */
    ALARM_WAIT_MS = 10000,
    SETTLE_PAUSE_MS = 250,
    ROUNDS_MAX = 8 /* a row that keeps changing is left for later */
};
#define AFTER_FENCE_FAILED_MS (60 * 1000LL)
#define COLUMNS_OF_MAIL                                                                                      \
    "PartitionKey,RowKey,Timestamp,Recipient,RequestId,State,CameBack,ReceivedTime,Owner,Tries,Ambiguous,"   \
    "NextTime,Error"
#define COLUMNS_OF_TOUCH "PartitionKey,RowKey,Timestamp,DeliveryId"

struct mailer {
    struct mailer_options options;
    struct store *store;
    struct mail_transport *transport;
    struct mail_memory *memory;
    struct mail_memory *own_memory; /* when the options bring none */
    int64_t due_ms;                 /* monotonic; the earliest thing seen to wait */
    struct log_repeat invalid;
};

/* One mail in work. */
struct attempt {
    struct mailer *mailer;
    struct arena arena;
    struct entity row; /* as last read; its etag is what the next change needs */
    struct mail_row mail;
    struct entity *lead_row; /* NULL when the lead was erased */
    bool has_others;         /* other mails of this lead wait; as old as lead_row or newer */
    bool has_looked;         /* lead_row and has_others were read */
    enum status fence;       /* how the mark before the final bytes went */
    struct buf message;
};

static bool stopping(const struct mailer *m)
{
    return m->options.stop && atomic_load(m->options.stop);
}

static int64_t store_deadline(const struct mailer *m)
{
    return clock_monotonic_ms() + (stopping(m) ? STORE_WAIT_AT_THE_STOP_MS : STORE_WAIT_MS);
}

/* Whether the store refuses this one row for good: no reason to leave the others waiting. */
static bool concerns_one_row(enum status status)
{
    return status == ST_INVALID || status == ST_TOO_LARGE || status == ST_REFUSED;
}

static void note_due(struct mailer *m, int64_t in_ms)
{
    int64_t at = clock_monotonic_ms() + (in_ms > 0 ? in_ms : 0);
    if (at < m->due_ms)
        m->due_ms = at;
}

int64_t mailer_due_in_ms(const struct mailer *mailer)
{
    if (mailer->due_ms == INT64_MAX)
        return INT64_MAX;
    int64_t left = mailer->due_ms - clock_monotonic_ms();
    return left > 0 ? left : 0;
}

void mailer_forget_due(struct mailer *mailer)
{
    mailer->due_ms = INT64_MAX;
}

void mailer_resume(struct mailer *mailer)
{
    mail_memory_resume(mailer->memory);
}

/* How long the rate limit and a pause keep the next mail. */
static int64_t rest_ms(struct mailer *m)
{
    if (mail_has_new_password(m->transport))
        mail_memory_resume(m->memory); /* the pause may have been for the old one */
    return mail_memory_wait_ms(m->memory, m->options.per_minute);
}

bool mailer_rests(struct mailer *mailer)
{
    int64_t wait_ms = rest_ms(mailer);
    if (wait_ms > 0)
        note_due(mailer, wait_ms);
    return wait_ms > 0;
}

/* --- telling people ------------------------------------------------------------------------------------------ */

static struct span request_id_of(const struct attempt *a)
{
    return a->mail.request_id.len ? a->mail.request_id : SPAN_LIT("-");
}

static void log_attempt(const struct attempt *a, enum log_level level, const char *event,
                        const struct fail *why)
{
    log_failure(level, event, why, "id=%.*s request=%.*s recipient=%.*s tries=%d",
                SPAN_FMT(a->mail.delivery_id), SPAN_FMT(request_id_of(a)), SPAN_FMT(a->mail.recipient_number),
                (int)a->mail.tries);
}

/* Once a day.  What fails here is tried again at the next such event and never stands in a mail's way. */
static void tell_parked(const struct attempt *a, const char *reason)
{
    const enum alarm alarm = ALARM_MAIL_PARKED;
    struct mailer *m = a->mailer;
    struct alarm_days *days = mail_memory_alarm_days(m->memory);
    struct buf text = BUF_INIT(LIMIT_ALARM_TEXT_BYTES);
    struct fail why;
    if (!alarm_day_take(days, alarm, store_now_ms(m->store)))
        return;
    buf_addf(&text, "The mail about lead %.*s to recipient number %.*s: %s", SPAN_FMT(a->mail.delivery_id),
             SPAN_FMT(a->mail.recipient_number), reason);
    enum status status = buf_status(&text, "an alarm", &why);
    if (status == ST_OK)
        status = alarm_raise(m->store, alarm, text.data, clock_monotonic_ms() + ALARM_WAIT_MS, &why);
    if (status != ST_OK && status != ST_EXISTS) {
        alarm_day_give_back(days, alarm);
        log_failure(LOG_LEVEL_ERROR, "alarm-not-raised", &why, "alarm=%s", alarm_name(alarm));
    }
    buf_release(&text);
}

/* --- rows ---------------------------------------------------------------------------------------------------- */

/* Counters may have been edited by hand. */
static enum status read_mail(struct attempt *a, const struct entity *row, struct fail *why)
{
    enum status status = mail_of_row(row, &a->mail, why);
    if (status != ST_OK)
        return status;
    a->row = *row;
    if (a->mail.tries < 0 || a->mail.tries == INT32_MAX)
        a->mail.tries = 0;
    if (a->mail.ambiguous < 0 || a->mail.ambiguous > RETRY_AMBIGUOUS_MAX)
        a->mail.ambiguous = RETRY_AMBIGUOUS_MAX;
    return ST_OK;
}

/* Reads the row anew, with its etag. */
static enum status reread(struct attempt *a, const char *select, struct fail *why)
{
    struct entity *found;
    struct span key = a->row.row_key;
    enum status status = store_get_many(a->mailer->store, TABLE_LEADS, a->row.partition_key, &key, 1, select,
                                        store_deadline(a->mailer), &a->arena, &found, why);
    if (status != ST_OK)
        return status;
    if (!found)
        return fail_set(why, ST_NOT_FOUND, 0, "the mail's row is gone");
    return read_mail(a, found, why);
}

/* What is needed of the lead to record the mail. */
static enum status read_lead(struct attempt *a, struct fail *why)
{
    return store_get_many(a->mailer->store, TABLE_LEADS, a->row.partition_key, &a->mail.lead_row_key, 1,
                          COLUMNS_OF_TOUCH, store_deadline(a->mailer), &a->arena, &a->lead_row, why);
}

/* Reads the lead's mails: this one anew, with its etag, and whether there are others. */
static enum status look(struct attempt *a, struct fail *why)
{
    struct span prefix = mail_prefix_of_lead(a->mail.lead_row_key, &a->arena);
    struct query q = {
        .table = TABLE_LEADS,
        .partition_key = a->row.partition_key,
        .from = prefix,
        .to = key_after_prefix(prefix, &a->arena),
        .select = COLUMNS_OF_MAIL,
        .limit = 2,
    };
    const struct entity *own = NULL;
    size_t seen = 0;
    do {
        struct page page;
        enum status status =
            store_query(a->mailer->store, &q, store_deadline(a->mailer), &a->arena, &page, why);
        if (status != ST_OK)
            return status;
        for (size_t i = 0; i < page.count; i++, seen++) {
            if (span_eq(page.rows[i].row_key, a->row.row_key))
                own = &page.rows[i];
        }
        q.next = page.next;
    } while (q.next.len && seen < q.limit);
    a->has_others = seen > (own ? 1 : 0);
    a->has_looked = true;
    return own ? read_mail(a, own, why) : reread(a, COLUMNS_OF_MAIL, why);
}

/* Writes the mail's state under the row's etag; after it the row's etag is used up. */
static enum status change(struct attempt *a, enum mail_state state, struct span message, struct fail *why)
{
    struct operation operation = {.kind = OPERATION_MERGE};
    size_t failed;
    a->mail.state = state;
    if (!row_of_mail_state(&operation.entity, &a->row, &a->mail, message, &a->arena))
        return fail_set(why, ST_NOMEM, 0, "no memory for a mail's row");
    return store_transact(a->mailer->store, TABLE_LEADS, &operation, 1, store_deadline(a->mailer), &failed,
                          why);
}

static enum status delete_row(struct attempt *a, struct fail *why)
{
    struct operation operation = {.kind = OPERATION_DELETE, .entity = a->row};
    size_t failed;
    operation.entity.etag = SPAN_LIT("*");
    enum status status =
        store_transact(a->mailer->store, TABLE_LEADS, &operation, 1, store_deadline(a->mailer), &failed, why);
    return status == ST_NOT_FOUND ? ST_OK : status;
}

/* --- recording what an attempt came to ----------------------------------------------------------------------- */

/* One transaction: the mail's row goes, and with a lead's last mail the lead is marked as told.  Gives the
 * index of what was not as expected: 0 the mail, 1 the lead. */
static enum status delete_and_touch(struct attempt *a, size_t *failed, struct fail *why)
{
    struct operation operations[2] = {{.kind = OPERATION_DELETE, .entity = a->row},
                                      {.kind = OPERATION_MERGE}};
    struct entity *lead = &operations[1].entity;
    operations[0].entity.etag = SPAN_LIT("*");
    if (!entity_init(lead, a->lead_row->partition_key, a->lead_row->row_key, &a->arena))
        return fail_set(why, ST_NOMEM, 0, "no memory for a lead's row");
    lead->etag = a->lead_row->etag;
    if (a->has_others) /* what it says already: only the row's version shall change */
        entity_add_text(lead, COLUMN_DELIVERY_ID, entity_text(a->lead_row, COLUMN_DELIVERY_ID));
    else
        entity_add_time(lead, COLUMN_NOTIFIED_TIME, store_now_ms(a->mailer->store));
    return store_transact(a->mailer->store, TABLE_LEADS, operations, 2, store_deadline(a->mailer), failed,
                          why);
}

static enum status record_sent(struct attempt *a, struct fail *why)
{
    enum status status = ST_OK;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        if (!a->has_looked) {
            status = read_lead(a, why);
            if (status == ST_OK)
                status = look(a, why);
            if (status == ST_NOT_FOUND)
                return ST_OK; /* an earlier attempt was recorded without an answer */
            if (status != ST_OK)
                return status;
        }
        if (!a->lead_row)
            return delete_row(a, why);
        size_t failed = NO_INDEX;
        status = delete_and_touch(a, &failed, why);
        if (status == ST_NOT_FOUND && failed == 0)
            return ST_OK;
        if (concerns_one_row(status)) /* the lead's row takes no more; the mail's has to go all the same */
            return delete_row(a, why);
        if (status != ST_CHANGED && status != ST_NOT_FOUND)
            return status;
        a->has_looked = false;
    }
    return fail_set(why, ST_AGAIN, 0, "the lead's row kept changing while its mail was recorded");
}

/* Puts the row, as it was read, back with what the attempt has taught. */
static enum status put_back(struct attempt *a, const struct mail_verdict *v, struct fail *why)
{
    struct mailer *m = a->mailer;
    if (v->state == MAIL_STATE_PARKED) /* first: what is parked is not looked at again */
        tell_parked(a, v->error);
    a->mail.owner = span_empty();
    a->mail.tries = v->tries;
    a->mail.ambiguous = v->ambiguous;
    a->mail.next_ms = store_now_ms(m->store) + v->wait_ms;
    a->mail.error = span_of(v->error);
    enum status status = change(a, v->state, span_empty(), why);
    int64_t wait_ms = mail_memory_wait_ms(m->memory, m->options.per_minute);
    if (status == ST_OK && v->state == MAIL_STATE_WAITING)
        note_due(m, v->wait_ms > wait_ms ? v->wait_ms : wait_ms);
    return status;
}

static bool is_ours(const struct attempt *a)
{
    return (a->mail.state == MAIL_STATE_CLAIMED || a->mail.state == MAIL_STATE_SENDING) &&
           span_eq(a->mail.owner, a->mailer->options.owner);
}

/* After a claim: its fence may have changed the row, and another host may have found the claim expired. */
static enum status put_back_claimed(struct attempt *a, const struct mail_verdict *v, struct fail *why)
{
    enum status status = ST_OK;
    for (int round = 0; round < ROUNDS_MAX; round++) {
        status = reread(a, COLUMNS_OF_MAIL, why);
        if (status == ST_OK && !is_ours(a))
            return ST_OK;
        if (status == ST_OK)
            status = put_back(a, v, why);
        if (status == ST_NOT_FOUND)
            return ST_OK; /* erased meanwhile */
        if (status != ST_CHANGED)
            return status;
    }
    return fail_set(why, ST_AGAIN, 0, "the mail's row kept changing while its state was recorded");
}

static enum status record(struct attempt *a, const struct mail_verdict *v, struct fail *why)
{
    return v->sent ? record_sent(a, why) : put_back_claimed(a, v, why);
}

/* Records the verdict now or, if the store does not take it, later. */
static enum status conclude(struct attempt *a, const struct mail_verdict *v, struct fail *why)
{
    enum status status = record(a, v, why);
    if (status == ST_OK)
        return ST_OK;
    mail_memory_keep(a->mailer->memory, &a->row, v);
    log_attempt(a, LOG_LEVEL_ERROR, "mail-not-recorded", why);
    return concerns_one_row(status) ? ST_OK : status;
}

/* Records what the memory keeps.  What the store refuses for good stays there. */
static enum status settle(struct mailer *m, struct fail *why)
{
    enum status status = ST_OK;
    size_t i = 0;
    const struct unrecorded *item;
    while (status == ST_OK && (item = mail_memory_at(m->memory, i)) != NULL) {
        struct attempt a = {.mailer = m, .arena = ARENA_INIT(LIMIT_COMMIT_ARENA)};
        a.row.partition_key = span_of(item->partition);
        a.row.row_key = span_of(item->row_key);
        status = reread(&a, COLUMNS_OF_MAIL, why);
        if (status == ST_OK)
            status = record(&a, &item->verdict, why);
        if (status == ST_OK) {
            log_event(LOG_LEVEL_INFO, "mail-recorded", "id=%.*s recipient=%.*s sent=%d",
                      SPAN_FMT(a.mail.delivery_id), SPAN_FMT(a.mail.recipient_number), item->verdict.sent);
            mail_memory_forget(m->memory, i);
        } else if (status == ST_NOT_FOUND) {
            mail_memory_forget(m->memory, i); /* recorded without an answer, or erased */
            status = ST_OK;
        } else if (concerns_one_row(status)) {
            i++;
            status = ST_OK;
        }
        arena_release(&a.arena);
    }
    return status;
}

static void pause_ms(int64_t ms)
{
    struct timespec wait = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000L};
    (void)nanosleep(&wait, NULL);
}

enum status mailer_settle(struct mailer *mailer, int64_t deadline_ms, struct fail *why)
{
    enum status status = settle(mailer, why);
    while (status != ST_OK && clock_monotonic_ms() + SETTLE_PAUSE_MS < deadline_ms) {
        pause_ms(SETTLE_PAUSE_MS);
        status = settle(mailer, why);
    }
    return status;
}

/* --- what an attempt came to --------------------------------------------------------------------------------- */

static struct mail_verdict verdict_of(const struct attempt *a, enum mail_state state, int64_t wait_ms,
                                      const struct fail *reason)
{
    struct mail_verdict v = {
        .state = state, .tries = a->mail.tries, .ambiguous = a->mail.ambiguous, .wait_ms = wait_ms};
    memcpy(v.error, reason->text, sizeof v.error);
    return v;
}

static struct mail_verdict parked(struct attempt *a, const struct fail *reason)
{
    if (a->mailer->options.on_parked)
        a->mailer->options.on_parked(a->mailer->options.context);
    log_attempt(a, LOG_LEVEL_ERROR, "mail-parked", reason);
    return verdict_of(a, MAIL_STATE_PARKED, 0, reason);
}

static struct mail_verdict ambiguous(struct attempt *a, const struct fail *reason)
{
    if (a->mail.ambiguous++ >= RETRY_AMBIGUOUS_MAX)
        return parked(a, reason);
    log_attempt(a, LOG_LEVEL_ERROR, "mail-ambiguous", reason);
    return verdict_of(a, MAIL_STATE_WAITING, clock_long_wait_ms(RETRY_AMBIGUOUS_WAIT_MS), reason);
}

static struct mail_verdict transient(struct attempt *a, const struct fail *reason)
{
    if (a->fence != ST_OK) /* the store's fault and not the mail's */
        return verdict_of(a, MAIL_STATE_WAITING, clock_long_wait_ms(AFTER_FENCE_FAILED_MS), reason);
    if (stopping(a->mailer)) /* broken off by us: no failure */
        return verdict_of(a, MAIL_STATE_WAITING, 0, reason);
    a->mail.tries++;
    if (retry_is_over(a->mail.tries))
        return parked(a, reason);
    log_attempt(a, LOG_LEVEL_WARNING, "mail-deferred", reason);
    return verdict_of(a, MAIL_STATE_WAITING,
                      clock_long_wait_ms(retry_wait_ms(a->mail.tries, backoff_jitter())), reason);
}

/* Every mail would fail, so the queue rests. */
static struct mail_verdict misconfigured(struct attempt *a, const struct fail *reason)
{
    struct mailer *m = a->mailer;
    (void)mail_memory_pause(m->memory);
    log_attempt(a, LOG_LEVEL_ERROR, "mail-paused", reason);
    return verdict_of(a, MAIL_STATE_WAITING, 0, reason);
}

static struct mail_verdict judge(struct attempt *a, enum mail_outcome outcome, const struct fail *reason)
{
    mail_memory_note_login(a->mailer->memory, outcome, reason);
    if (outcome != MAIL_CONFIGURATION)
        mail_memory_resume(a->mailer->memory);
    switch (outcome) {
    case MAIL_ACCEPTED:
        log_event(LOG_LEVEL_INFO, "mail-sent", "id=%.*s request=%.*s recipient=%.*s",
                  SPAN_FMT(a->mail.delivery_id), SPAN_FMT(request_id_of(a)),
                  SPAN_FMT(a->mail.recipient_number));
        return (struct mail_verdict){.sent = true};
    case MAIL_TRANSIENT:
        return transient(a, reason);
    case MAIL_CONFIGURATION:
        return misconfigured(a, reason);
    case MAIL_AMBIGUOUS:
        return ambiguous(a, reason);
    case MAIL_PERMANENT:
        break;
    }
    return parked(a, reason);
}

/* --- one mail ------------------------------------------------------------------------------------------------ */

/* The finished message: the one that an earlier claim has stored, or a new one.  ST_NOT_FOUND: the mail or its
 * lead is gone.  ST_CHANGED: the mail's row is not as it was listed. */
static enum status prepare(struct attempt *a, bool *is_stored, struct fail *why)
{
    enum status status = ST_OK;
    *is_stored = false;
    if (a->mail.owner.len) { /* it was claimed before, so it may have its message */
        struct span listed = a->row.etag;
        status = reread(a, NULL, why);
        if (status == ST_OK && !span_eq(a->row.etag, listed))
            status = fail_set(why, ST_CHANGED, 0, "another host has taken this mail");
        if (status == ST_OK)
            status = entity_long_value(&a->row, "Message", &a->message, why);
        *is_stored = a->message.len > 0;
    }
    if (status == ST_OK)
        status = *is_stored
                     ? read_lead(a, why)
                     : notification_write(&a->message, a->mailer->store, a->row.partition_key, &a->mail,
                                          &a->mailer->options.from, a->mailer->options.detail,
                                          store_deadline(a->mailer), &a->arena, &a->lead_row, why);
    if (status == ST_OK && !a->lead_row) { /* erased: nobody is told of it any more */
        status = delete_row(a, why);
        return status == ST_OK ? fail_set(why, ST_NOT_FOUND, 0, "the lead was erased") : status;
    }
    return status;
}

/* Claims the row and stores the finished message in it. */
static enum status claim(struct attempt *a, bool is_stored, struct fail *why)
{
    a->mail.owner = a->mailer->options.owner;
    enum status status = change(a, MAIL_STATE_CLAIMED, is_stored ? span_empty() : buf_span(&a->message), why);
    if (status == ST_OK)
        status = look(a, why); /* for the etag that the fence needs */
    if (status == ST_OK && !is_ours(a))
        status = fail_set(why, ST_CHANGED, 0, "another host has taken this mail");
    return status;
}

/* The fence: the last thing before the final bytes.  It also renews the claim. */
static bool mark_sending(void *context)
{
    struct attempt *a = context;
    struct fail why;
    a->fence = change(a, MAIL_STATE_SENDING, span_empty(), &why);
    if (a->fence != ST_OK)
        log_attempt(a, LOG_LEVEL_WARNING, "mail-fence-failed", &why);
    return a->fence == ST_OK;
}

static enum status send_one(struct attempt *a, struct fail *why)
{
    struct mailer *m = a->mailer;
    struct fail reason = {0};
    bool is_stored;
    enum status status = prepare(a, &is_stored, why);
    if (status == ST_OK)
        status = claim(a, is_stored, why);
    if (status == ST_CHANGED || status == ST_NOT_FOUND)
        return ST_OK; /* someone else's now, or erased */
    if (status != ST_OK)
        return status;
    mail_memory_note_send(m->memory);
    enum mail_outcome outcome = (a->mail.ambiguous ? mail_send_again : mail_send)(
        m->transport, m->options.from.address, a->mail.recipient, buf_span(&a->message), mark_sending, a,
        &reason);
    if (a->fence == ST_CHANGED || a->fence == ST_NOT_FOUND)
        return ST_OK; /* someone else took over, or it was erased: nothing was sent, nothing is ours to record */
    if (m->options.on_outcome)
        m->options.on_outcome(m->options.context, outcome);
    struct mail_verdict v = judge(a, outcome, &reason);
    return conclude(a, &v, why);
}

/* Sending and expired, or our dead predecessor's: with the row as it was listed. */
static enum status take_over_sending(struct attempt *a, struct fail *why)
{
    struct fail reason;
    (void)fail_set(&reason, ST_UNKNOWN, 0, "the sender ended before it knew the outcome");
    struct mail_verdict v = ambiguous(a, &reason);
    return put_back(a, &v, why);
}

/* --- passes -------------------------------------------------------------------------------------------------- */

/* Whether the row may be worked on now; notes when it may be later. */
static bool is_ready(const struct attempt *a)
{
    struct mailer *m = a->mailer;
    int64_t now = store_now_ms(m->store);
    int64_t expires_in = a->row.timestamp_ms + clock_long_wait_ms(RETRY_CLAIM_EXPIRES_MS) - now;
    int64_t due_in = a->mail.next_ms - now;
    bool is_claimed = a->mail.state == MAIL_STATE_CLAIMED || a->mail.state == MAIL_STATE_SENDING;
    if (a->mail.state == MAIL_STATE_PARKED || mail_memory_has(m->memory, &a->row))
        return false;
    if (is_claimed && !span_eq(a->mail.owner, m->options.owner) && expires_in > 0) {
        note_due(m, expires_in);
        return false;
    }
    /* No wait is longer: a clock that was wrong wrote it. */
    if (due_in > 0 && due_in <= clock_long_wait_ms(RETRY_LONGEST_WAIT_MS)) {
        note_due(m, due_in);
        return false;
    }
    return true;
}

static enum status work_on(struct mailer *m, const struct entity *row, bool *keep_going, struct fail *why)
{
    struct attempt a = {
        .mailer = m,
        .arena = ARENA_INIT(LIMIT_COMMIT_ARENA),
        .row = *row,
        .message = BUF_INIT(LIMIT_MAIL_BYTES),
    };
    enum status status = read_mail(&a, row, why);
    if (status == ST_INVALID) {
        if (!log_is_repeat(&m->invalid, why))
            log_failure(LOG_LEVEL_ERROR, "mail-row-invalid", why, NULL);
        return ST_OK; /* one strange row must not stop the others */
    }
    if (status == ST_OK && is_ready(&a)) {
        int64_t wait_ms = rest_ms(m);
        if (a.mail.state == MAIL_STATE_SENDING) {
            status = take_over_sending(&a, why);
        } else if (wait_ms > 0) {
            note_due(m, wait_ms);
            *keep_going = false;
        } else if (!mail_memory_has_room(m->memory)) {
            status =
                fail_set(why, ST_AGAIN, 0, "no more mail is sent: the store refuses to record what was sent");
        } else {
            status = send_one(&a, why);
        }
    }
    if (concerns_one_row(status)) {
        struct mail_verdict v = parked(&a, why);
        status = put_back(&a, &v, why);
    }
    if (status == ST_CHANGED || status == ST_NOT_FOUND || concerns_one_row(status))
        status = ST_OK; /* someone else's now, erased, or nothing to be done about it */
    buf_release(&a.message);
    arena_release(&a.arena);
    return status;
}

enum status mailer_pass(struct mailer *mailer, struct span partition, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct query q = mails_query(partition, COLUMNS_OF_MAIL, PAGE_ROWS);
    enum status status = settle(mailer, why);
    bool keep_going = true;
    for (bool more = true; status == ST_OK && more && keep_going && !stopping(mailer);) {
        struct page page;
        status = store_query(mailer->store, &q, store_deadline(mailer), &arena, &page, why);
        for (size_t i = 0; status == ST_OK && i < page.count && keep_going && !stopping(mailer); i++)
            status = work_on(mailer, &page.rows[i], &keep_going, why);
        if (status == ST_OK)
            status = store_turn_page(&q, &page, &arena, &more, why);
    }
    arena_release(&arena);
    return status;
}

enum status mailer_new(const struct mailer_options *options, struct store *store, struct mailer **mailer,
                       struct fail *why)
{
    if (options->per_minute == 0 || options->per_minute > MAILS_PER_MINUTE_MAX)
        return fail_set(why, ST_INVALID, 0, "mail_per_minute must be 1 to %d", MAILS_PER_MINUTE_MAX);
    struct mailer *m = calloc(1, sizeof *m);
    if (!m)
        return fail_set(why, ST_NOMEM, 0, "no memory for the mailer");
    *m = (struct mailer){.options = *options, .store = store, .memory = options->memory, .due_ms = INT64_MAX};
    enum status status = mail_transport_new(&options->transport, &m->transport, why);
    if (status == ST_OK && !m->memory) {
        status = mail_memory_new(&m->own_memory, why);
        m->memory = m->own_memory;
    }
    if (status != ST_OK) {
        mailer_free(m);
        return status;
    }
    *mailer = m;
    return ST_OK;
}

void mailer_free(struct mailer *mailer)
{
    if (!mailer)
        return;
    mail_transport_free(mailer->transport);
    mail_memory_free(mailer->own_memory);
    free(mailer);
}
