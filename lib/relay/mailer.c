#include "lib/relay/mailer.h"

/* System */
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/log.h"

/* L7 */
#include "lib/relay/retry.h"

enum {
    PAGE_ROWS = 100,
    HISTORY_PAGES = 10,    /* a person with more than a thousand leads is shown some of them */
    STORE_WAIT_MS = 30000, /* for one operation of the mailer: the service's own limit */
    FINISH_ATTEMPTS = 6,   /* to record that a mail was sent, over about half a minute */
    PER_MINUTE_MAX = 6000
};
#define MINUTE_MS (60 * 1000LL)
#define COLUMNS_OF_MAIL                                                                                      \
    "PartitionKey,RowKey,Timestamp,Recipient,State,CameBack,ReceivedTime,Owner,Tries,Ambiguous,NextTime,Error"
#define COLUMNS_OF_HISTORY                                                                                   \
    "PartitionKey,RowKey,Timestamp,ReceivedTime,LastReceivedTime,Action,Description,DeliveryId"

struct mailer {
    struct mailer_options options;
    struct store *store;
    struct mail_transport *transport;
    int64_t *sent_ms; /* monotonic times of the last per_minute sends, a ring */
    size_t sent_next;
    int32_t config_errors;   /* in a row */
    int64_t paused_until_ms; /* monotonic */
    int64_t due_ms;          /* monotonic; the earliest thing seen to wait */
};

/* One mail in work. */
struct attempt {
    struct mailer *mailer;
    struct arena arena;
    struct entity row; /* as last read; its etag is what the next change needs */
    struct mail_row mail;
    struct entity *lead_row; /* NULL when the lead was erased */
    struct buf message;
};

static int64_t store_deadline(void)
{
    return clock_monotonic_ms() + STORE_WAIT_MS;
}

static bool stopping(const struct mailer *m)
{
    return m->options.stop && atomic_load(m->options.stop);
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

/* --- what may be sent now ------------------------------------------------------------------------------------ */

/* Milliseconds until the rate limit and a pause allow the next mail. */
static int64_t wait_before_send(struct mailer *m)
{
    if (mail_has_new_password(m->transport))
        m->paused_until_ms = 0; /* the pause may have been for the old one */
    int64_t now = clock_monotonic_ms();
    int64_t oldest = m->sent_ms[m->sent_next];
    int64_t wait = oldest ? oldest + clock_long_wait_ms(MINUTE_MS) - now : 0;
    if (m->paused_until_ms - now > wait)
        wait = m->paused_until_ms - now;
    return wait > 0 ? wait : 0;
}

static void count_send(struct mailer *m)
{
    m->sent_ms[m->sent_next] = clock_monotonic_ms();
    m->sent_next = (m->sent_next + 1) % m->options.per_minute;
}

/* --- the row's life ------------------------------------------------------------------------------------------ */

/* Writes the mail's state under the row's etag; after it the row's etag is used up. */
static enum status change(struct attempt *a, enum mail_state state, struct span message, struct span etag,
                          struct fail *why)
{
    struct operation operation = {.kind = OPERATION_MERGE};
    size_t failed;
    a->mail.state = state;
    if (!row_of_mail_state(&operation.entity, &a->row, &a->mail, message, &a->arena))
        return fail_set(why, ST_NOMEM, 0, "no memory for a mail's row");
    operation.entity.etag = etag;
    return store_transact(a->mailer->store, TABLE_LEADS, &operation, 1, store_deadline(), &failed, why);
}

/* Reads the row anew, with its message and its etag. */
static enum status reread(struct attempt *a, struct fail *why)
{
    struct entity *found;
    struct span key = a->row.row_key;
    enum status status = store_get_many(a->mailer->store, TABLE_LEADS, a->row.partition_key, &key, 1, NULL,
                                        store_deadline(), &a->arena, &found, why);
    if (status != ST_OK)
        return status;
    if (!found)
        return fail_set(why, ST_NOT_FOUND, 0, "the mail's row is gone");
    a->row = *found;
    return mail_of_row(&a->row, &a->mail, why);
}

static enum status read_lead(struct attempt *a, struct fail *why)
{
    return store_get_many(a->mailer->store, TABLE_LEADS, a->row.partition_key, &a->mail.lead_row_key, 1, NULL,
                          store_deadline(), &a->arena, &a->lead_row, why);
}

static enum status delete_row(struct attempt *a, struct fail *why)
{
    struct operation operation = {.kind = OPERATION_DELETE, .entity = a->row};
    size_t failed;
    operation.entity.etag = SPAN_LIT("*");
    enum status status =
        store_transact(a->mailer->store, TABLE_LEADS, &operation, 1, store_deadline(), &failed, why);
    return status == ST_NOT_FOUND ? ST_OK : status;
}

/* --- composing ----------------------------------------------------------------------------------------------- */

/* Keeps the newest LIMIT_MAIL_HISTORY, newest first. */
static void add_earlier(struct earlier_lead *list, size_t *count, struct earlier_lead lead)
{
    size_t at = *count;
    while (at > 0 && list[at - 1].received_ms < lead.received_ms)
        at--;
    if (at == LIMIT_MAIL_HISTORY)
        return;
    if (*count < LIMIT_MAIL_HISTORY)
        (*count)++;
    memmove(&list[at + 1], &list[at], (*count - 1 - at) * sizeof list[0]);
    list[at] = lead;
}

/* The person's other leads in this offer: their keys begin with the same contact. */
static enum status read_history(struct attempt *a, struct earlier_lead *list, size_t *count, struct fail *why)
{
    struct span contact = span_cut(a->mail.lead_row_key, 0, LEAD_HASH_TEXT + 1); /* with its '-' */
    struct query q = {
        .table = TABLE_LEADS,
        .partition_key = a->row.partition_key,
        .from = contact,
        .to = key_after_prefix(contact, &a->arena),
        .select = COLUMNS_OF_HISTORY,
        .limit = PAGE_ROWS,
    };
    *count = 0;
    for (size_t pages = 0; pages < HISTORY_PAGES; pages++) {
        struct page page;
        enum status status = store_query(a->mailer->store, &q, store_deadline(), &a->arena, &page, why);
        if (status != ST_OK)
            return status;
        for (size_t i = 0; i < page.count; i++) {
            const struct entity *row = &page.rows[i];
            if (span_eq(row->row_key, a->mail.lead_row_key))
                continue;
            add_earlier(list, count,
                        (struct earlier_lead){
                            .received_ms = entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms),
                            .action = entity_text(row, "Action"),
                            .description = entity_text(row, "Description"),
                            .delivery_id = entity_text(row, COLUMN_DELIVERY_ID),
                        });
        }
        if (!page.next.len)
            break;
        q.next = page.next;
    }
    return ST_OK;
}

static enum status compose(struct attempt *a, struct fail *why)
{
    struct lead lead;
    struct earlier_lead earlier[LIMIT_MAIL_HISTORY];
    struct deliveries d = row_deliveries(a->lead_row);
    uint64_t number = 0;
    struct notification n = {
        .lead = &lead,
        .reason = a->mail.came_back ? MAIL_CAME_BACK : MAIL_NEW_LEAD,
        .detail = a->mailer->options.detail,
        .delivery_id = a->mail.delivery_id,
        .received_ms = a->mail.received_ms,
        .first_received_ms = d.first_ms,
        .deliveries = d.count,
        .from = &a->mailer->options.from,
        .to = a->mail.recipient,
        .earlier = earlier,
    };
    lead_of_row(a->lead_row, &lead);
    if (!span_to_u64(a->mail.recipient_number, LIMIT_RECIPIENTS, &number))
        return fail_set(why, ST_INVALID, 0, "a mail's row has no recipient number");
    n.recipient_number = (unsigned int)number;
    enum status status = read_history(a, earlier, &n.earlier_count, why);
    if (status == ST_OK)
        status = mail_compose(&a->message, &n, why);
    return status;
}

/* --- after the attempt --------------------------------------------------------------------------------------- */

/* Whether other mails of this lead still wait. */
static enum status is_last_mail(struct attempt *a, bool *last, struct fail *why)
{
    struct span prefix = mail_prefix_of_lead(a->mail.lead_row_key, &a->arena);
    struct query q = {
        .table = TABLE_LEADS,
        .partition_key = a->row.partition_key,
        .from = prefix,
        .to = key_after_prefix(prefix, &a->arena),
        .select = "PartitionKey,RowKey,Timestamp",
        .limit = 2,
    };
    struct page page;
    enum status status = store_query(a->mailer->store, &q, store_deadline(), &a->arena, &page, why);
    if (status == ST_OK)
        *last = page.count <= 1 && !page.next.len;
    return status;
}

/* One transaction: the mail's row goes, and with a lead's last mail the lead is marked as told. */
static enum status record_sent(struct attempt *a, struct fail *why)
{
    struct operation operations[2] = {{.kind = OPERATION_DELETE, .entity = a->row},
                                      {.kind = OPERATION_MERGE}};
    size_t failed = NO_INDEX;
    bool last = false;
    operations[0].entity.etag = SPAN_LIT("*");
    enum status status = is_last_mail(a, &last, why);
    if (status == ST_OK && last)
        status = read_lead(a, why); /* for its etag: a merge without one would recreate an erased lead */
    if (status != ST_OK)
        return status;
    if (!last || !a->lead_row)
        return delete_row(a, why);
    if (!entity_init(&operations[1].entity, a->lead_row->partition_key, a->lead_row->row_key, &a->arena))
        return fail_set(why, ST_NOMEM, 0, "no memory for a lead's row");
    entity_add_time(&operations[1].entity, COLUMN_NOTIFIED_TIME, store_now_ms(a->mailer->store));
    operations[1].entity.etag = a->lead_row->etag;
    status = store_transact(a->mailer->store, TABLE_LEADS, operations, 2, store_deadline(), &failed, why);
    /* Row 0 is gone already when an earlier attempt was recorded without an answer. */
    return status == ST_NOT_FOUND && failed == 0 ? ST_OK : status;
}

static void pause_ms(int64_t ms)
{
    struct timespec wait = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000L};
    (void)nanosleep(&wait, NULL);
}

/* The mail is out, so this is tried hard: what cannot be recorded would be sent again. */
static enum status finish(struct attempt *a, struct fail *why)
{
    enum status status = ST_OK;
    for (int64_t tries = 0; tries < FINISH_ATTEMPTS; tries++) {
        status = record_sent(a, why);
        if (status == ST_OK || status == ST_DENIED || stopping(a->mailer))
            break;
        pause_ms(status == ST_CHANGED || status == ST_NOT_FOUND ? 10 : 500 << tries);
    }
    return status;
}

static void log_attempt(const struct attempt *a, enum log_level level, const char *event,
                        const struct fail *why)
{
    log_failure(level, event, why, "id=%.*s recipient=%.*s tries=%d", SPAN_FMT(a->mail.delivery_id),
                SPAN_FMT(a->mail.recipient_number), (int)a->mail.tries);
}

/* Puts the row back with what the attempt has taught. */
static enum status put_back(struct attempt *a, enum mail_state state, int64_t wait_ms,
                            const struct fail *reason, struct fail *why)
{
    a->mail.owner = (struct span){0};
    a->mail.next_ms = store_now_ms(a->mailer->store) + wait_ms;
    a->mail.error = span_of(reason->text);
    if (state == MAIL_STATE_WAITING)
        note_due(a->mailer, wait_ms);
    enum status status = change(a, state, (struct span){0}, SPAN_LIT("*"), why);
    return status == ST_NOT_FOUND ? ST_OK : status; /* erased meanwhile */
}

static enum status after_ambiguous(struct attempt *a, const struct fail *reason, struct fail *why)
{
    a->mail.ambiguous++;
    bool park = a->mail.ambiguous > RETRY_AMBIGUOUS_MAX;
    log_attempt(a, LOG_LEVEL_ERROR, park ? "mail-parked" : "mail-ambiguous", reason);
    return put_back(a, park ? MAIL_STATE_PARKED : MAIL_STATE_WAITING,
                    clock_long_wait_ms(RETRY_AMBIGUOUS_WAIT_MS), reason, why);
}

static enum status after_send(struct attempt *a, enum mail_outcome outcome, const struct fail *reason,
                              struct fail *why)
{
    struct mailer *m = a->mailer;
    enum status status = ST_OK;
    if (m->options.on_outcome)
        m->options.on_outcome(m->options.context, outcome);
    if (outcome != MAIL_CONFIGURATION)
        m->config_errors = 0;
    switch (outcome) {
    case MAIL_ACCEPTED:
        status = finish(a, why);
        log_event(LOG_LEVEL_INFO, "mail-sent", "id=%.*s recipient=%.*s", SPAN_FMT(a->mail.delivery_id),
                  SPAN_FMT(a->mail.recipient_number));
        break;
    case MAIL_TRANSIENT:
        if (stopping(m)) /* broken off by us: no failure */
            return put_back(a, MAIL_STATE_WAITING, 0, reason, why);
        a->mail.tries++;
        if (retry_is_over(a->mail.tries)) {
            log_attempt(a, LOG_LEVEL_ERROR, "mail-parked", reason);
            status = put_back(a, MAIL_STATE_PARKED, 0, reason, why);
        } else {
            log_attempt(a, LOG_LEVEL_WARNING, "mail-deferred", reason);
            status = put_back(a, MAIL_STATE_WAITING,
                              clock_long_wait_ms(retry_wait_ms(a->mail.tries, retry_jitter())), reason, why);
        }
        break;
    case MAIL_PERMANENT:
        log_attempt(a, LOG_LEVEL_ERROR, "mail-parked", reason);
        status = put_back(a, MAIL_STATE_PARKED, 0, reason, why);
        break;
    case MAIL_CONFIGURATION: {
        int64_t rest_ms = clock_long_wait_ms(retry_pause_ms(++m->config_errors));
        m->paused_until_ms = clock_monotonic_ms() + rest_ms;
        log_attempt(a, LOG_LEVEL_ERROR, "mail-paused", reason);
        status = put_back(a, MAIL_STATE_WAITING, 0, reason, why);
        note_due(m, rest_ms);
        break;
    }
    case MAIL_AMBIGUOUS:
        status = after_ambiguous(a, reason, why);
        break;
    }
    return status;
}

/* The fence: the last thing before the final bytes.  It also renews the claim. */
static bool mark_sending(void *context)
{
    struct attempt *a = context;
    struct fail why;
    enum status status = change(a, MAIL_STATE_SENDING, (struct span){0}, a->row.etag, &why);
    if (status != ST_OK)
        log_attempt(a, LOG_LEVEL_WARNING, "mail-fence-failed", &why);
    return status == ST_OK;
}

/* Claims the row and stores the finished message in it. */
static enum status claim(struct attempt *a, bool has_message, struct fail *why)
{
    a->mail.owner = a->mailer->options.owner;
    enum status status =
        change(a, MAIL_STATE_CLAIMED, has_message ? span_empty() : buf_span(&a->message), a->row.etag, why);
    if (status == ST_OK)
        status = reread(a, why); /* for the etag that the fence needs */
    if (status == ST_OK &&
        (a->mail.state != MAIL_STATE_CLAIMED || !span_eq(a->mail.owner, a->mailer->options.owner)))
        status = fail_set(why, ST_CHANGED, 0, "another host has taken this mail");
    return status;
}

static enum status send_one(struct attempt *a, struct fail *why)
{
    struct fail reason = {0};
    bool has_message = false;
    enum status status = ST_OK;
    if (a->mail.owner.len) { /* it was claimed before, so it may have its message */
        status = reread(a, why);
        if (status == ST_OK)
            status = entity_long_value(&a->row, "Message", &a->message, why);
        has_message = a->message.len > 0;
    }
    if (status == ST_OK && !has_message) {
        status = read_lead(a, why);
        if (status == ST_OK && !a->lead_row)
            return delete_row(a, why); /* the lead was erased: nobody is told of it any more */
        if (status == ST_OK)
            status = compose(a, why);
    }
    if (status == ST_OK)
        status = claim(a, has_message, why);
    if (status == ST_CHANGED || status == ST_NOT_FOUND)
        return ST_OK; /* someone else's now, or erased */
    if (status != ST_OK)
        return status;
    count_send(a->mailer);
    enum mail_outcome outcome = mail_send(a->mailer->transport, a->mailer->options.from.address,
                                          a->mail.recipient, buf_span(&a->message), mark_sending, a, &reason);
    return after_send(a, outcome, &reason, why);
}

/* Whether the row may be worked on now; notes when it may be later. */
static bool is_ready(struct mailer *m, const struct entity *row, const struct mail_row *mail)
{
    int64_t now = store_now_ms(m->store);
    int64_t expires_ms = row->timestamp_ms + clock_long_wait_ms(RETRY_CLAIM_EXPIRES_MS);
    if (mail->state == MAIL_STATE_PARKED)
        return false;
    if (mail->state != MAIL_STATE_WAITING && !span_eq(mail->owner, m->options.owner) && now < expires_ms) {
        note_due(m, expires_ms - now);
        return false;
    }
    if (mail->next_ms > now) {
        note_due(m, mail->next_ms - now);
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
    enum status status = mail_of_row(row, &a.mail, why);
    if (status == ST_INVALID) {
        log_failure(LOG_LEVEL_ERROR, "mail-row-invalid", why, NULL);
        return ST_OK; /* one strange row must not stop the others */
    }
    if (status == ST_OK && is_ready(m, row, &a.mail)) {
        int64_t wait_ms = wait_before_send(m);
        if (a.mail.state == MAIL_STATE_SENDING) {
            struct fail reason;
            (void)fail_set(&reason, ST_UNKNOWN, 0, "the sender ended before it knew the outcome");
            status = after_ambiguous(&a, &reason, why);
        } else if (wait_ms > 0) {
            note_due(m, wait_ms);
            *keep_going = false;
        } else {
            status = send_one(&a, why);
        }
    }
    if (status == ST_INVALID || status == ST_TOO_LARGE) {
        log_attempt(&a, LOG_LEVEL_ERROR, "mail-parked", why);
        struct fail reason = *why;
        status = put_back(&a, MAIL_STATE_PARKED, 0, &reason, why);
    }
    buf_release(&a.message);
    arena_release(&a.arena);
    return status;
}

enum status mailer_pass(struct mailer *mailer, struct span partition, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct query q = {
        .table = TABLE_LEADS,
        .partition_key = partition,
        .from = SPAN_LIT(MAIL_KEY_FIRST),
        .to = SPAN_LIT(MAIL_KEY_END),
        .select = COLUMNS_OF_MAIL,
        .limit = PAGE_ROWS,
    };
    enum status status = ST_OK;
    bool keep_going = true;
    do {
        struct page page;
        status = store_query(mailer->store, &q, store_deadline(), &arena, &page, why);
        for (size_t i = 0; status == ST_OK && i < page.count && keep_going && !stopping(mailer); i++)
            status = work_on(mailer, &page.rows[i], &keep_going, why);
        char next[LIMIT_CONTINUATION_BYTES];
        if (status != ST_OK || page.next.len == 0 || page.next.len > sizeof next)
            break;
        memcpy(next, page.next.ptr, page.next.len);
        arena_reset(&arena);
        if (!arena_copy(&arena, (struct span){next, page.next.len}, &q.next))
            status = fail_set(why, ST_NOMEM, 0, "no memory to read mails");
    } while (status == ST_OK && keep_going && !stopping(mailer));
    arena_release(&arena);
    return status;
}

enum status mailer_new(const struct mailer_options *options, struct store *store, struct mailer **mailer,
                       struct fail *why)
{
    if (options->per_minute == 0 || options->per_minute > PER_MINUTE_MAX)
        return fail_set(why, ST_INVALID, 0, "mail_per_minute must be 1 to %d", PER_MINUTE_MAX);
    struct mailer *m = calloc(1, sizeof *m);
    int64_t *sent_ms = calloc(options->per_minute, sizeof *sent_ms);
    enum status status = ST_OK;
    if (!m || !sent_ms) {
        status = fail_set(why, ST_NOMEM, 0, "no memory for the mailer");
    } else {
        *m = (struct mailer){.options = *options, .store = store, .sent_ms = sent_ms, .due_ms = INT64_MAX};
        status = mail_transport_new(&options->transport, &m->transport, why);
    }
    if (status != ST_OK) {
        free(sent_ms);
        free(m);
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
    free(mailer->sent_ms);
    free(mailer);
}
