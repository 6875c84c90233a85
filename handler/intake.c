#include "handler/intake.h"

/* System */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"
#include "lib/base/log.h"
#include "lib/base/text.h"

/* L7 */
#include "lib/relay/relay_socket.h"

enum { REQUEST_ID_BYTES = 16 };

struct intake {
    const struct intake_shared *shared;
    struct arena arena;
    int hint_fd;
    char hint[LIMIT_PARTITION_KEY_BYTES + 1]; /* the partition to tell the mailer of; blank: none */
    char made_id[2 * REQUEST_ID_BYTES + 1];

    /* Of the request in work. */
    const struct request *request;
    struct reply *reply;
    struct span request_id;
    struct span key_name;
    char key_text[LIMIT_KEY_NAME_BYTES + 1];
    int64_t begun_ms;
    struct lead lead;
    struct lead_write write;
};

void *intake_begin(void *shared)
{
    struct intake *in = calloc(1, sizeof *in);
    if (!in)
        return NULL;
    in->shared = shared;
    in->arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    in->hint_fd = -1;
    if (in->shared->config->mail_on && relay_hint_open(&in->hint_fd, NULL) != ST_OK)
        in->hint_fd = -1; /* mails wait for the relay's next pass then */
    return in;
}

void intake_end(void *intake)
{
    struct intake *in = intake;
    if (in->hint_fd >= 0)
        (void)close(in->hint_fd);
    arena_release(&in->arena);
    free(in);
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

static void refuse(struct intake *in, struct problem problem)
{
    struct fail why = {0};
    problem.request_id = in->request_id;
    reply_problem(in->reply, &problem);
    (void)fail_set(&why, problem.code == 401 ? ST_DENIED : ST_INVALID, 0, "%s", problem.detail);
    log_answer(in, LOG_LEVEL_WARNING, "refused", NULL, &why);
}

/* Our trouble or the store's: the sender shall come again. */
static void unavailable(struct intake *in, const struct fail *why)
{
    reply_problem(in->reply,
                  &(struct problem){.code = 503,
                                    .detail = "the lead could not be stored now; please send it again",
                                    .request_id = in->request_id,
                                    .retry_after_s = why->retry_after_s});
    log_answer(in, LOG_LEVEL_ERROR, "not-stored", in->write.delivery.id, why);
}

/* The key has used up its quarantine: this is the one case in which what came with a good key is not kept. */
static void over_quota(struct intake *in, const struct fail *reason, const struct fail *quota)
{
    struct fail why;
    (void)fail_set(&why, ST_OVER_QUOTA, 0, "%s; not kept: %s", reason->text, quota->text);
    reply_problem(in->reply, &(struct problem){.code = reply_code_of(ST_OVER_QUOTA),
                                               .detail = why.text,
                                               .request_id = in->request_id,
                                               .retry_after_s = quota->retry_after_s});
    log_answer(in, LOG_LEVEL_ERROR, "quarantine-full", NULL, &why);
}

/* Keeps the raw body of what came with a good key and could not be taken; only
 * then the answer is that of the failure, or 202 for a good lead that the store
 * refuses for good. */
static void quarantine(struct intake *in, const struct fail *reason, size_t offset, bool has_offset,
                       bool is_good)
{
    struct fail why;
    struct buf type = BUF_INIT(4 * LIMIT_CONTENT_TYPE_BYTES);
    text_add_line(&type, in->request->content_type); /* a header may hold any bytes, a column only UTF-8 */
    struct quarantined item = {
        .received_ms = in->write.delivery.received_ms,
        .key_name = in->key_name,
        .content_type = buf_span(&type),
        .reason = span_of(reason->text),
        .body = in->request->body,
    };
    memcpy(item.id, in->write.delivery.id, sizeof item.id);
    enum status status = committer_quarantine(in->shared->committer, &item, &why);
    buf_release(&type);
    if (status == ST_OVER_QUOTA) {
        over_quota(in, reason, &why);
        return;
    }
    if (status != ST_OK) {
        fail_prefix(&why, "quarantine");
        unavailable(in, &why);
        return;
    }
    metrics_add(in->shared->metrics, METRIC_LEADS_QUARANTINED, 1);
    if (is_good)
        reply_accepted(in->reply, 202, "quarantined", item.id);
    else
        reply_problem(in->reply, &(struct problem){.code = reply_code_of(reason->code),
                                                   .detail = reason->text,
                                                   .request_id = in->request_id,
                                                   .has_offset = has_offset,
                                                   .offset = offset,
                                                   .id = item.id});
    log_answer(in, LOG_LEVEL_ERROR, "quarantined", item.id, reason);
}

/* --- steps --------------------------------------------------------------------------------------------------- */

/* The key as it was sent: in the query, in X-Lead-Key, or as a bearer token; blank when there is none. */
static enum status presented_key(struct intake *in, struct span *key, struct fail *why)
{
    const struct request *r = in->request;
    struct span rest = r->query, pair, bearer = SPAN_LIT("Bearer ");
    *key = (struct span){0};
    while (span_next(&rest, '&', &pair)) {
        if (span_starts(pair, SPAN_LIT("key="))) {
            struct buf decoded = BUF_INIT(LIMIT_QUERY_BYTES);
            percent_decode(&decoded, span_from(pair, 4), PLUS_STAYS);
            bool good = decoded.error != ST_NOMEM && arena_copy(&in->arena, buf_span(&decoded), key);
            buf_release_secret(&decoded);
            return good ? ST_OK : fail_set(why, ST_NOMEM, 0, "no memory to read the key");
        }
    }
    if (r->lead_key.len)
        *key = span_trim(r->lead_key);
    else if (span_starts_nocase(r->authorization, bearer))
        *key = span_trim(span_from(r->authorization, bearer.len));
    return ST_OK;
}

/* ST_DENIED: nobody's key.  Anything else is no judgement on the key. */
static enum status authorize(struct intake *in, struct fail *why)
{
    struct span key;
    enum status status = presented_key(in, &key, why);
    if (status == ST_OK)
        status = key_ring_match(in->shared->keys, key, in->key_text, why);
    if (status == ST_OK)
        in->key_name = span_of(in->key_text);
    return status;
}

/* From the body to the lead with its keys; on failure *offset is the byte where the body went wrong. */
static enum status understand(struct intake *in, size_t *offset, bool *has_offset, struct fail *why)
{
    unsigned char random[LEAD_RANDOM_BYTES];
    enum status status = crypto_random(random, sizeof random, why);
    if (status == ST_OK)
        status = lead_understand(in->request->body, in->request->content_type,
                                 span_of(in->shared->config->withhold_domains), random, &in->arena, &in->lead,
                                 offset, why);
    *has_offset = in->request->body.len > 0 && (status == ST_INVALID || status == ST_TOO_LARGE);
    return status;
}

/* Gives the request its time and its public name. */
static enum status begin_delivery(struct intake *in, struct fail *why)
{
    unsigned char bytes[LEAD_DELIVERY_TEXT / 2];
    enum status status = crypto_random(bytes, sizeof bytes, why);
    in->write = (struct lead_write){.delivery = {.lead = &in->lead, .received_ms = clock_true_ms()}};
    in->write.delivery.key_name = in->key_name;
    if (status == ST_OK)
        hex_write(bytes, sizeof bytes, in->write.delivery.id);
    return status;
}

static void commit(struct intake *in)
{
    struct lead_write *w = &in->write;
    committer_store(in->shared->committer, w);
    if (w->status == ST_REFUSED) {
        quarantine(in, &w->why, 0, false, true);
        return;
    }
    if (w->status != ST_OK) {
        unavailable(in, &w->why);
        return;
    }
    if (w->is_spooled) {
        reply_accepted(in->reply, 202, "spooled", w->delivery.id);
        metrics_add(in->shared->metrics, METRIC_LEADS_SPOOLED, 1);
        log_answer(in, LOG_LEVEL_WARNING, "spooled", w->delivery.id, NULL);
        return;
    }
    reply_accepted(in->reply, 200, w->is_repeat ? "repeat" : "stored", w->delivery.id);
    metrics_add(in->shared->metrics, w->is_repeat ? METRIC_LEADS_REPEAT : METRIC_LEADS_STORED, 1);
    log_answer(in, LOG_LEVEL_INFO, w->is_repeat ? "repeat" : "stored", w->delivery.id, NULL);
    if (w->has_mail)
        memcpy(in->hint, in->lead.partition, sizeof in->hint);
}

/* --- the pipeline -------------------------------------------------------------------------------------------- */

static void take_lead(struct intake *in)
{
    struct fail why;
    enum status known = ST_DENIED;
    size_t offset = 0;
    bool has_offset = false;

    if (!span_eq(in->request->method, SPAN_LIT("POST"))) {
        refuse(in, (struct problem){.code = 405, .detail = "leads are sent with POST", .allow = "POST"});
    } else if ((known = authorize(in, &why)) == ST_DENIED) {
        refuse(in, (struct problem){.code = 401, .detail = "the key is missing or wrong"});
    } else if (known != ST_OK) {
        unavailable(in, &why);
    } else if (in->request->body_state == BODY_TOO_LARGE) {
        refuse(in, (struct problem){.code = 413, .detail = "the body is larger than this server takes"});
    } else if (in->request->body_state == BODY_BAD_LENGTH) {
        refuse(in, (struct problem){.code = 400, .detail = "Content-Length is not a number"});
    } else if (begin_delivery(in, &why) != ST_OK) {
        unavailable(in, &why);
    } else if (in->request->body.len == 0) {
        refuse(in, (struct problem){.code = 400, .detail = "empty body"});
    } else if (understand(in, &offset, &has_offset, &why) != ST_OK) {
        if (reply_code_of(why.code) == 503)
            unavailable(in, &why);
        else
            quarantine(in, &why, offset, has_offset, false);
    } else {
        commit(in);
    }
}

/* --- other paths --------------------------------------------------------------------------------------------- */

static void tell_ready(struct intake *in)
{
    struct fail why;
    if (committer_probe(in->shared->committer, &why) == ST_OK) {
        reply_text(in->reply, 200, "text/plain", SPAN_LIT("ready\n"));
        return;
    }
    reply_problem(in->reply, &(struct problem){.code = 503, .detail = "the store does not take leads now"});
    log_answer(in, LOG_LEVEL_ERROR, "not-ready", NULL, &why);
}

static void tell_metrics(struct intake *in)
{
    reply_text(in->reply, 200, "text/plain; version=0.0.4", (struct span){0});
    metrics_write(&in->reply->body, in->shared->metrics);
}

static bool is_read(const struct request *request)
{
    return span_eq(request->method, SPAN_LIT("GET")) || span_eq(request->method, SPAN_LIT("HEAD"));
}

/* nginx's id, or one of ours when that is missing or of another form. */
static struct span request_id_of(struct intake *in, struct span given)
{
    unsigned char bytes[REQUEST_ID_BYTES];
    bool good = given.len > 0;
    for (size_t i = 0; i < given.len && good; i++) {
        char c = given.ptr[i];
        good = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-';
    }
    if (good)
        return given;
    if (crypto_random(bytes, sizeof bytes, NULL) != ST_OK)
        return SPAN_LIT("-");
    hex_write(bytes, sizeof bytes, in->made_id);
    return span_of(in->made_id);
}

void intake_handle(void *intake, const struct request *request, struct reply *reply)
{
    struct intake *in = intake;
    arena_reset(&in->arena);
    in->request = request;
    in->reply = reply;
    in->request_id = request_id_of(in, request->request_id);
    in->key_name = SPAN_LIT("-");
    in->write = (struct lead_write){0};
    in->begun_ms = clock_monotonic_ms();
    in->hint[0] = '\0';

    struct span path = request->path;
    if (span_eq(path, SPAN_LIT("/leads")))
        take_lead(in);
    else if (!is_read(request))
        refuse(in, (struct problem){.code = 405, .detail = "only GET is served here", .allow = "GET, HEAD"});
    else if (span_eq(path, SPAN_LIT("/healthz")))
        reply_text(reply, 200, "text/plain", SPAN_LIT("ok\n"));
    else if (span_eq(path, SPAN_LIT("/readyz")))
        tell_ready(in);
    else if (span_eq(path, SPAN_LIT("/metrics")))
        tell_metrics(in);
    else
        refuse(in, (struct problem){.code = 404, .detail = "there is nothing at this path"});
}

void intake_after(void *intake)
{
    struct intake *in = intake;
    if (in->hint[0] && in->hint_fd >= 0)
        relay_hint(in->hint_fd, in->shared->config->relay_socket, in->hint);
}
