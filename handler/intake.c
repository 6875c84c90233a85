#include "handler/intake.h"

/* System */
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"
#include "lib/base/log.h"
#include "lib/base/text.h"

/* L6 */
#include "lib/store/quarantine.h"

/* L7 */
#include "lib/relay/relay_socket.h"

enum { REQUEST_ID_BYTES = 16 };

/* The name of the key as long as it is not known. */
static const struct span NOBODY = {"-", 1};

struct intake {
    const struct intake_shared *shared;
    struct arena arena;
    char hint[LIMIT_PARTITION_KEY_BYTES + 1]; /* the partition to tell the mailer of; blank: none */
    char made_id[2 * REQUEST_ID_BYTES + 1];

    /* Of the request in work. */
    const struct request *request;
    struct reply *reply;
    void (*on_answered)(void *whose);
    void *whose;
    struct span request_id;
    struct span key_name;
    struct span webhook_id; /* verified; blank: the sender has not named the delivery */
    struct holder holder;
    int64_t begun_ms;
    struct {
        unsigned char for_id[LEAD_DELIVERY_TEXT / 2];
        unsigned char for_lead[LEAD_RANDOM_BYTES];
    } random; /* asked for at once */
    struct lead lead;
    struct lead_write write;
    struct job job;

    /* Why it is quarantined. */
    struct fail reason;
    size_t offset; /* where the body went wrong */
    bool has_offset;
    struct quarantined item;
};

/* Whether the answer is there, or will come when a job is settled; then nothing of the request may be touched. */
enum progress { ANSWERED, HANDED_OVER };

void *intake_begin(void *shared)
{
    struct intake *in = calloc(1, sizeof *in);
    if (!in)
        return NULL;
    in->shared = shared;
    in->arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    return in;
}

void intake_end(void *intake)
{
    struct intake *in = intake;
    arena_release(&in->arena);
    free(in);
}

static void end(struct intake *in, enum progress progress)
{
    if (progress == ANSWERED)
        in->on_answered(in->whose);
}

static enum progress hand_over(struct intake *in, enum job_kind kind, void (*on_settled)(void *intake))
{
    in->job = (struct job){
        .kind = kind, .lead = &in->write, .item = &in->item, .on_settled = on_settled, .context = in};
    committer_submit(in->shared->committer, &in->job);
    return HANDED_OVER;
}

/* --- answers ------------------------------------------------------------------------------------------------- */

static void log_answer(const struct intake *in, enum log_level level, const char *event, const char *id,
                       const struct fail *why)
{
    long long ms = (long long)(clock_monotonic_ms() - in->begun_ms);
    if (why)
        log_failure(level, event, why, "code=%d id=%s request=%.*s key=%.*s bytes=%zu ms=%lld",
                    in->reply->code, id && *id ? id : "-", SPAN_FMT(in->request_id), SPAN_FMT(in->key_name),
                    in->request->body.len, ms);
    else
        log_event(level, event, "code=%d id=%s request=%.*s key=%.*s bytes=%zu ms=%lld", in->reply->code,
                  id && *id ? id : "-", SPAN_FMT(in->request_id), SPAN_FMT(in->key_name),
                  in->request->body.len, ms);
}

/* A stranger must not fill the log; one line a second then says how many there were. */
static bool may_log_refusal(const struct intake *in)
{
    struct log_budget *budget = in->shared->strangers;
    bool is_stranger = in->key_name.ptr == NOBODY.ptr; /* not by its bytes: a key may have that name */
    return !budget || !is_stranger || log_budget_take(budget, LIMIT_STRANGER_LINES, clock_monotonic_ms());
}

static enum progress refuse(struct intake *in, struct problem problem)
{
    struct fail why = {0};
    problem.request_id = in->request_id;
    if (problem.code == 401)
        problem.location = in->request->denied; /* where nginx slows down who tries keys */
    reply_problem(in->reply, &problem);
    (void)fail_set(&why, problem.code == 401 ? ST_DENIED : ST_INVALID, 0, "%s", problem.detail);
    if (may_log_refusal(in))
        log_answer(in, LOG_LEVEL_WARNING, "refused", NULL, &why);
    return ANSWERED;
}

/* Our trouble or the store's: the sender shall come again. */
static enum progress unavailable(struct intake *in, const struct fail *why)
{
    reply_problem(in->reply,
                  &(struct problem){.code = 503,
                                    .detail = "the lead could not be stored now; please send it again",
                                    .request_id = in->request_id,
                                    .retry_after_s = why->retry_after_s});
    log_answer(in, LOG_LEVEL_ERROR, "not-stored", in->write.delivery.id, why);
    return ANSWERED;
}

/* --- quarantine ---------------------------------------------------------------------------------------------- */

/* The key has used up its quarantine: this is the one case in which what came with a good key is not kept. */
static enum progress over_quota(struct intake *in)
{
    struct fail why;
    (void)fail_set(&why, ST_OVER_QUOTA, 0, "%s; not kept: %s", in->reason.text, in->job.why.text);
    reply_problem(in->reply, &(struct problem){.code = reply_code_of(ST_OVER_QUOTA),
                                               .detail = why.text,
                                               .request_id = in->request_id,
                                               .retry_after_s = in->job.why.retry_after_s});
    log_answer(in, LOG_LEVEL_ERROR, "quarantine-full", NULL, &why);
    return ANSWERED;
}

static enum progress tell_quarantined(struct intake *in)
{
    if (in->job.status == ST_OVER_QUOTA)
        return over_quota(in);
    if (in->job.status != ST_OK) {
        fail_prefix(&in->job.why, "quarantine");
        return unavailable(in, &in->job.why);
    }
    metrics_add(in->shared->metrics, METRIC_LEADS_QUARANTINED, 1);
    if (in->write.status == ST_REFUSED)
        reply_accepted(in->reply, 202, "quarantined", in->item.id); /* a good lead */
    else
        reply_problem(in->reply, &(struct problem){.code = reply_code_of(in->reason.code),
                                                   .detail = in->reason.text,
                                                   .request_id = in->request_id,
                                                   .has_offset = in->has_offset,
                                                   .offset = in->offset,
                                                   .id = in->item.id});
    log_answer(in, LOG_LEVEL_ERROR, "quarantined", in->item.id, &in->reason);
    return ANSWERED;
}

static void on_quarantined(void *intake)
{
    end(intake, tell_quarantined(intake));
}

/* Of a lead that is withheld, no more than its row would have held; everything else as it came.  false: no memory. */
static bool choose_body(struct intake *in)
{
    struct buf row = BUF_INIT(LIMIT_ENTITY_JSON_BYTES);
    if (in->write.status != ST_REFUSED || !in->lead.withheld)
        return true;
    bool is_made = quarantined_of_lead(&in->write.delivery, &row, &in->item, NULL) == ST_OK &&
                   arena_copy(&in->arena, in->item.body, &in->item.body);
    buf_release(&row);
    return is_made;
}

/* Keeps the raw body of what came with a good key and could not be taken; only
 * then the answer is that of the failure, or 202 for a good lead that the store
 * refuses for good. */
static enum progress quarantine(struct intake *in)
{
    struct buf type = BUF_INIT(4 * LIMIT_CONTENT_TYPE_BYTES);
    text_add_line(&type, in->request->content_type); /* a header may hold any bytes, a column only UTF-8 */
    in->item = (struct quarantined){
        .received_ms = in->write.delivery.received_ms,
        .key_name = in->key_name,
        .webhook_id = in->webhook_id,
        .request_id = in->request_id,
        .body = in->request->body,
    };
    memcpy(in->item.id, in->write.delivery.id, sizeof in->item.id);
    bool is_copied = arena_copy(&in->arena, buf_span(&type), &in->item.content_type) && choose_body(in);
    in->item.reason = span_of(in->reason.text);
    buf_release(&type);
    if (!is_copied) {
        struct fail why;
        (void)fail_set(&why, ST_NOMEM, 0, "no memory for the quarantine");
        return unavailable(in, &why);
    }
    return hand_over(in, JOB_QUARANTINE, on_quarantined);
}

/* --- steps --------------------------------------------------------------------------------------------------- */

/* The key as it was sent: in the query (then it is decoded), in X-Lead-Key, or as a bearer token; blank when there is
 * none. */
static enum status presented_key(const struct request *r, struct buf *decoded, struct span *key,
                                 struct fail *why)
{
    struct span rest = r->query, pair, bearer = SPAN_LIT("Bearer ");
    *key = (struct span){0};
    while (span_next(&rest, '&', &pair)) {
        if (span_starts(pair, SPAN_LIT("key="))) {
            (void)buf_reserve(decoded,
                              pair.len); /* a buffer that grew would leave copies of the key behind */
            percent_decode(decoded, span_from(pair, 4), PLUS_STAYS);
            *key = buf_span(decoded);
            return decoded->error != ST_NOMEM ? ST_OK
                                              : fail_set(why, ST_NOMEM, 0, "no memory to read the key");
        }
    }
    if (r->lead_key.len)
        *key = span_trim(r->lead_key);
    else if (span_starts_nocase(r->authorization, bearer))
        *key = span_trim(span_from(r->authorization, bearer.len));
    return ST_OK;
}

/* ST_DENIED: neither the key nor the signature of anybody.  Anything else is no judgement on them. */
static enum status authorize(struct intake *in, struct fail *why)
{
    const struct request *r = in->request;
    struct buf decoded = BUF_INIT(LIMIT_QUERY_BYTES);
    int64_t now_ms = clock_true_ms();
    struct credentials c = {
        .signed_request = {r->webhook_id, r->webhook_timestamp, r->webhook_signature, r->body}};
    enum status status = presented_key(r, &decoded, &c.key, why);
    bool is_read = r->body_state == BODY_COMPLETE;
    if (!is_read)
        c.signed_request = (struct signed_request){0};
    /* Over a body that was not read no signature can be judged; such a request is refused whoever sent it. */
    bool is_judged = is_read || c.key.len || !r->webhook_signature.len;
    if (status == ST_OK && is_judged)
        status = key_ring_authorize(in->shared->keys, &c, now_ms, &in->arena, &in->holder, why);
    buf_release_secret(&decoded);
    if (status == ST_OK && is_judged) {
        in->key_name = span_of(in->holder.name);
        in->webhook_id = in->holder.is_signed ? r->webhook_id : span_empty();
        metrics_count_key(in->shared->metrics, in->key_name, now_ms / 1000);
    }
    return status;
}

/* From the body to the lead with its keys. */
static enum status understand(struct intake *in)
{
    in->offset = 0;
    enum status status = lead_understand(
        in->request->body, in->request->content_type, span_of(in->shared->config->withhold_domains),
        in->webhook_id.len ? LEAD_BY_NAME : LEAD_BY_BODY, in->random.for_lead, &in->arena, &in->lead,
        &in->offset, &in->reason);
    in->has_offset = in->request->body.len > 0 && (status == ST_INVALID || status == ST_TOO_LARGE);
    return status;
}

/* Gives the request its time and its public name. */
static enum status begin_delivery(struct intake *in, struct fail *why)
{
    enum status status = crypto_random((unsigned char *)&in->random, sizeof in->random, why);
    in->write = (struct lead_write){.delivery = {.lead = &in->lead, .received_ms = clock_true_ms()}};
    in->write.delivery.key_name = in->key_name;
    in->write.delivery.webhook_id = in->webhook_id;
    in->write.delivery.request_id = in->request_id;
    if (status == ST_OK && in->webhook_id.len)
        status = lead_bytes_of_name(in->key_name, in->webhook_id, in->random.for_lead, why);
    if (status == ST_OK)
        hex_write(in->random.for_id, sizeof in->random.for_id, in->write.delivery.id);
    return status;
}

/* A lead that is durable. */
static void count_taken(const struct intake *in, enum metric outcome)
{
    struct metrics *metrics = in->shared->metrics;
    metrics_add(metrics, outcome, 1);
    metrics_count_lead(metrics, lead_source_index(in->lead.source), lead_action_index(in->lead.action));
}

static enum progress tell_committed(struct intake *in)
{
    const struct lead_write *w = &in->write;
    if (w->status == ST_REFUSED) {
        in->reason = w->why;
        in->has_offset = false;
        return quarantine(in);
    }
    if (w->status != ST_OK)
        return unavailable(in, &w->why);
    if (w->is_spooled) {
        reply_accepted(in->reply, 202, "spooled", w->delivery.id);
        count_taken(in, METRIC_LEADS_SPOOLED);
        log_answer(in, LOG_LEVEL_WARNING, "spooled", w->delivery.id, NULL);
        return ANSWERED;
    }
    reply_accepted(in->reply, 200, w->is_repeat ? "repeat" : "stored", w->delivery.id);
    count_taken(in, w->is_repeat ? METRIC_LEADS_REPEAT : METRIC_LEADS_STORED);
    log_answer(in, LOG_LEVEL_INFO, w->is_repeat ? "repeat" : "stored", w->delivery.id, NULL);
    if (w->has_mail)
        memcpy(in->hint, in->lead.partition, sizeof in->hint);
    return ANSWERED;
}

static void on_committed(void *intake)
{
    struct intake *in = intake;
    enum progress progress = tell_committed(in);
    if (progress == ANSWERED) /* else it is not over yet */
        metrics_observe(in->shared->metrics, HISTOGRAM_LEAD_US,
                        1000 * (uint64_t)(clock_monotonic_ms() - in->begun_ms));
    end(in, progress);
}

/* --- the pipeline -------------------------------------------------------------------------------------------- */

static enum progress take_lead(struct intake *in)
{
    struct fail why;
    if (!span_eq(in->request->method, SPAN_LIT("POST")))
        return refuse(in,
                      (struct problem){.code = 405, .detail = "leads are sent with POST", .allow = "POST"});
    enum status known = authorize(in, &why);
    if (known == ST_DENIED)
        return refuse(in, (struct problem){.code = 401, .detail = why.text});
    if (known != ST_OK)
        return unavailable(in, &why);
    if (in->request->body_state == BODY_TOO_LARGE)
        return refuse(in,
                      (struct problem){.code = 413, .detail = "the body is larger than this server takes"});
    if (in->request->body_state == BODY_BAD_LENGTH)
        return refuse(in, (struct problem){.code = 400, .detail = "Content-Length is not a number"});
    if (begin_delivery(in, &why) != ST_OK)
        return unavailable(in, &why);
    if (in->request->body.len == 0)
        return refuse(in, (struct problem){.code = 400, .detail = "empty body"});
    if (understand(in) == ST_OK)
        return hand_over(in, JOB_LEAD, on_committed);
    return reply_code_of(in->reason.code) == 503 ? unavailable(in, &in->reason) : quarantine(in);
}

/* --- other paths --------------------------------------------------------------------------------------------- */

static void on_probed(void *intake)
{
    struct intake *in = intake;
    if (in->job.status == ST_OK) {
        reply_text(in->reply, 200, "text/plain", SPAN_LIT("ready\n"));
    } else {
        reply_problem(in->reply,
                      &(struct problem){.code = 503, .detail = "the store does not take leads now"});
        log_answer(in, LOG_LEVEL_ERROR, "not-ready", NULL, &in->job.why);
    }
    end(in, ANSWERED);
}

static enum progress tell_text(struct intake *in, struct span text)
{
    reply_text(in->reply, 200, "text/plain", text);
    return ANSWERED;
}

static enum progress tell_metrics(struct intake *in)
{
    reply_text(in->reply, 200, "text/plain; version=0.0.4", (struct span){0});
    metrics_write(&in->reply->body, in->shared->metrics, clock_wall_ms() / 1000);
    return ANSWERED;
}

static bool is_read(const struct request *request)
{
    return span_eq(request->method, SPAN_LIT("GET")) || span_eq(request->method, SPAN_LIT("HEAD"));
}

/* nginx's id, or one of ours when that is missing or of another form. */
static struct span request_id_of(struct intake *in, struct span given)
{
    unsigned char bytes[REQUEST_ID_BYTES];
    if (given.len && span_has_only(given, "-"))
        return given;
    if (crypto_random(bytes, sizeof bytes, NULL) != ST_OK)
        return SPAN_LIT("-");
    hex_write(bytes, sizeof bytes, in->made_id);
    return span_of(in->made_id);
}

/* Before anything is done that the answer has to tell of. */
static enum progress refuse_without_memory(struct intake *in)
{
    struct fail why;
    (void)fail_set(&why, ST_NOMEM, 0, "no memory for an answer");
    log_answer(in, LOG_LEVEL_ERROR, "not-stored", NULL, &why);
    return ANSWERED;
}

static enum progress serve(struct intake *in)
{
    if (!reply_reserve(in->reply))
        return refuse_without_memory(in);
    struct span path = in->request->path;
    if (span_eq(path, SPAN_LIT("/leads")))
        return take_lead(in);
    if (!is_read(in->request))
        return refuse(
            in, (struct problem){.code = 405, .detail = "only GET is served here", .allow = "GET, HEAD"});
    if (span_eq(path, SPAN_LIT("/healthz")))
        return tell_text(in, SPAN_LIT("ok\n"));
    if (span_eq(path, SPAN_LIT("/readyz")))
        return hand_over(in, JOB_PROBE, on_probed);
    if (span_eq(path, SPAN_LIT("/metrics")))
        return tell_metrics(in);
    return refuse(in, (struct problem){.code = 404, .detail = "there is nothing at this path"});
}

void intake_handle(void *intake, const struct request *request, struct reply *reply,
                   void (*on_answered)(void *whose), void *whose)
{
    struct intake *in = intake;
    arena_reset(&in->arena);
    in->request = request;
    in->reply = reply;
    in->on_answered = on_answered;
    in->whose = whose;
    in->request_id = request_id_of(in, request->request_id);
    in->key_name = NOBODY;
    in->webhook_id = span_empty();
    in->write = (struct lead_write){0};
    in->begun_ms = clock_monotonic_ms();
    in->hint[0] = '\0';
    end(in, serve(in));
}

void intake_after(void *intake)
{
    struct intake *in = intake;
    arena_reset(&in->arena); /* not only with the next request: there are many of us */
    if (in->hint[0] && in->shared->hint_fd >= 0)
        relay_hint(in->shared->hint_fd, in->shared->config->relay_socket, in->hint);
}

bool intake_tick(void *shared)
{
    const struct intake_shared *s = shared;
    committer_expire(s->committer);
    if (!s->strangers)
        return false;
    unsigned long long more = log_budget_left_out(s->strangers, clock_monotonic_ms());
    if (more > 0)
        log_event(LOG_LEVEL_WARNING, "refused-more", "count=%llu", more);
    return s->strangers->left_out > 0;
}
