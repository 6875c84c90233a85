/* Writes go through $batch, also a single one: the service decodes the keys in a
 * URL twice but not those in a batch, and there is one way to write to test.
 * Reads are point queries and ranges within a partition.
 */
#include "lib/table/client.h"

/* System */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"
#include "lib/base/json_write.h"

/* L3 */
#include "lib/net/http.h"

/* L4 */
#include "lib/table/account.h"
#include "lib/table/batch.h"
#include "lib/table/error.h"
#include "lib/table/sign.h"

#define VERSION_LINE "x-ms-version: 2019-02-02" /* what all SDKs of this service send */
#define ACCEPT_LINE  "Accept: application/json;odata=minimalmetadata"
#define OPS_SUFFIX   "Ops"

enum {
    TABLE_NAME_BYTES_MIN = 3,
    TABLE_NAME_BYTES_MAX = 63,
    LINE_BYTES_MAX = 512,
    BODY_KEPT_BYTES = 256 * 1024, /* for the next batch: a full one of ordinary leads */
    HEADER_LINES = 7,
};

struct table_client {
    struct table_account account;
    struct secret *live;  /* where the account came from, or NULL, */
    unsigned int version; /* and in which version */
    struct http_client *http;
    void (*on_exchange)(void *context, int64_t took_us);
    void *context;
    char names[2][TABLE_NAME_BYTES_MAX + 1]; /* by enum table_id */
    struct buf body;                         /* of a transaction; kept for the next one */
    int64_t date_ms;                         /* the service's time in its last answer, or 0, */
    int64_t date_at_ms;                      /* and when that came, monotonic */
};

/* --- life ----------------------------------------------------------------------------------------------- */

/* "tables" is the service's own. */
bool table_name_is_valid(struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        if (!letter && !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return name.len >= TABLE_NAME_BYTES_MIN && name.len + sizeof OPS_SUFFIX - 1 <= TABLE_NAME_BYTES_MAX &&
           !span_eq_nocase(name, SPAN_LIT("tables"));
}

/* From the options' secret in its version of now. */
static enum status read_live_account(struct secret *live, struct table_account *account,
                                     unsigned int *version, struct fail *why)
{
    struct buf text = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    enum status status = secret_copy(live, &text, version, why);
    if (status == ST_OK)
        status = table_account_parse(buf_span(&text), account, why);
    buf_release_secret(&text);
    return status;
}

void table_client_renew(struct table_client *client)
{
    struct table_account account;
    if (!client->live || secret_version(client->live) == client->version ||
        read_live_account(client->live, &account, &client->version, NULL) != ST_OK)
        return;
    if (table_account_is_same(&account, &client->account)) {
        struct table_account old = client->account;
        client->account = account;
        account = old;
    }
    table_account_release(&account);
}

enum status table_client_new(const struct table_options *options, struct table_client **client,
                             struct fail *why)
{
    if (!table_name_is_valid(options->table_name))
        return fail_set(why, ST_INVALID, 0,
                        "the table name is not 3 to 60 letters and digits, a letter first");
    struct table_client *c = calloc(1, sizeof *c);
    if (!c)
        return fail_set(why, ST_NOMEM, 0, "no memory for a Table client");
    memcpy(c->names[TABLE_LEADS], options->table_name.ptr, options->table_name.len);
    memcpy(c->names[TABLE_OPS], options->table_name.ptr, options->table_name.len);
    memcpy(c->names[TABLE_OPS] + options->table_name.len, OPS_SUFFIX, sizeof OPS_SUFFIX);
    c->live = options->live;
    c->on_exchange = options->on_exchange;
    c->context = options->context;
    enum status status = c->live ? read_live_account(c->live, &c->account, &c->version, why)
                                 : table_account_parse(options->connection, &c->account, why);
    if (status == ST_OK) {
        struct http_options http = {.ca_file = options->ca_file, .is_plain = c->account.is_plain};
        c->body = BUF_INIT(c->account.is_cosmos ? LIMIT_COSMOS_BATCH_BYTES : LIMIT_BATCH_BYTES);
        status = http_client_new(&http, &c->http, why);
    }
    if (status != ST_OK) {
        table_client_free(c);
        return status;
    }
    *client = c;
    return ST_OK;
}

void table_client_free(struct table_client *client)
{
    if (!client)
        return;
    http_client_free(client->http);
    table_account_release(&client->account);
    buf_release(&client->body);
    free(client);
}

struct table_ends table_ends(const struct table_client *client)
{
    return (struct table_ends){
        .sas_ms = table_account_sas_end_ms(&client->account),
        .certificate_ms = http_certificate_end_ms(client->http),
    };
}

int64_t table_now_ms(const struct table_client *client)
{
    if (!client->date_ms)
        return clock_wall_ms();
    return client->date_ms + (clock_monotonic_ms() - client->date_at_ms);
}

/* --- one call ------------------------------------------------------------------------------------------- */

struct call {
    struct http_exchange http;
    struct buf url;  /* holds the SAS, if there is one */
    struct buf date; /* header lines */
    struct buf authorization;
    struct buf content_type;
    const char *lines[HEADER_LINES + 1];
};

static void call_release(struct call *call)
{
    http_exchange_release(&call->http);
    buf_release_secret(&call->url);
    buf_release(&call->date);
    buf_release(&call->authorization);
    buf_release(&call->content_type);
}

/* Begins the URL; the caller appends the path behind the endpoint, and the query. */
static void call_init(struct call *call, const struct table_client *client)
{
    *call = (struct call){.url = BUF_INIT(LIMIT_URL_BYTES),
                          .date = BUF_INIT(LINE_BYTES_MAX),
                          .authorization = BUF_INIT(LINE_BYTES_MAX),
                          .content_type = BUF_INIT(LINE_BYTES_MAX)};
    buf_add(&call->url, buf_span(&client->account.endpoint));
    buf_add_char(&call->url, '/');
}

/* The path and query of "https://host/path?query". */
static struct span target_of(struct span url)
{
    struct span rest = span_from(url, span_find(url, ':') + sizeof "://" - 1);
    return span_from(rest, span_find(rest, '/'));
}

static enum status authorize(struct call *call, const struct table_client *client, struct span date,
                             struct fail *why)
{
    if (client->account.sas.len) {
        buf_add_char(&call->url, span_find(buf_span(&call->url), '?') == SPAN_NONE ? '?' : '&');
        buf_add(&call->url, buf_span(&client->account.sas));
        return ST_OK;
    }
    struct buf text = BUF_INIT(LIMIT_URL_BYTES);
    struct sign_request request = {.date = date, .target = target_of(buf_span(&call->url))};
    sign_text(&text, SIGN_SHARED_KEY_LITE, buf_span(&client->account.name), &request);
    enum status status = buf_status(&text, "the text to sign", why);
    buf_add_text(&call->authorization, "Authorization: ");
    if (status == ST_OK)
        status =
            sign_header(&call->authorization, SIGN_SHARED_KEY_LITE, &client->account, buf_span(&text), why);
    buf_release(&text);
    return status;
}

/* Completes a call that is to be sent now: the signature holds for 15 minutes.  With a clock that is further off the
 * first call of a process is refused, and tells the time for those that follow.
 * body with a NULL ptr: a GET. */
static enum status call_finish(struct call *call, const struct table_client *client, const char *content_type,
                               struct span body, size_t answer_max_bytes, struct fail *why)
{
    char date[CLOCK_TEXT_BYTES];
    size_t count = 0;
    clock_http_date(clock_true_ms(), date);
    buf_addf(&call->date, "x-ms-date: %s", date);
    if (body.ptr)
        buf_addf(&call->content_type, "Content-Type: %s", content_type);
    enum status status = authorize(call, client, span_of(date), why);
    if (status == ST_OK)
        status = buf_status(&call->url, "a URL", why);
    if (status == ST_OK)
        status = buf_status(&call->date, "a header", why);
    if (status == ST_OK)
        status = buf_status(&call->content_type, "a header", why);
    if (status != ST_OK)
        return status;
    call->lines[count++] = VERSION_LINE;
    call->lines[count++] = "DataServiceVersion: 3.0";
    call->lines[count++] = "MaxDataServiceVersion: 3.0;NetFx";
    call->lines[count++] = ACCEPT_LINE;
    call->lines[count++] = call->date.data;
    if (call->authorization.len)
        call->lines[count++] = call->authorization.data;
    if (body.ptr)
        call->lines[count++] = call->content_type.data;
    call->http.url = call->url.data;
    call->http.headers = call->lines;
    call->http.body = body;
    call->http.answer_max_bytes = answer_max_bytes;
    return ST_OK;
}

static void note_clock(struct table_client *client, const struct http_exchange *http)
{
    int64_t date_ms = http->status == ST_OK ? http_date_ms(http) : 0;
    if (date_ms) {
        client->date_ms = date_ms;
        client->date_at_ms = clock_monotonic_ms();
        clock_note_true_ms(date_ms);
    }
}

/* Why no answer came. */
static enum status no_answer(const struct http_exchange *http, struct fail *why)
{
    if (why)
        *why = http->why;
    fail_prefix(why, "Azure Table");
    return http->status;
}

/* What the header of an answer tells about an error. */
static struct table_error error_of(const struct table_client *client, const struct http_exchange *http)
{
    struct table_error error = {
        .http_code = http->code, .index = NO_INDEX, .has_sas = client->account.sas.len > 0};
    struct span id = http_header(http, "x-ms-request-id");
    int64_t date_ms = http_date_ms(http);
    if (date_ms)
        error.clock_ahead_ms = clock_wall_ms() - date_ms;
    table_error_take_request_id(&error, id);
    return error;
}

static enum status refused(const struct table_error *error, const struct http_exchange *http,
                           struct fail *why)
{
    enum status status = table_error_status(error, why);
    if (why)
        why->retry_after_s = http_retry_after_s(http);
    return status;
}

static void read_error(struct table_error *error, const struct http_exchange *http)
{
    table_error_read(error, buf_span(&http->answer));
    if (!error->code[0])
        table_error_take_code(error, http_header(http, "x-ms-error-code"));
}

/* The same for a request as a whole: three of the statuses speak of a row and then cannot be meant. */
static enum status request_refused(const struct table_error *error, const struct http_exchange *http,
                                   struct fail *why)
{
    enum status status = refused(error, http, why);
    if (status == ST_EXISTS || status == ST_CHANGED)
        status = ST_UNKNOWN;
    else if (status == ST_NOT_FOUND && !table_error_is(error, "TableNotFound"))
        status = fail_set(why, ST_DENIED, 0, "Azure Table (%d %s): no such account: check the table endpoint",
                          error->http_code, error->code);
    if (why) {
        why->code = status;
        why->peer = error->http_code;
    }
    return status;
}

static void run(struct table_client *client, struct http_exchange *const *exchanges, size_t count,
                int64_t deadline_ms)
{
    http_run(client->http, exchanges, count, deadline_ms);
    for (size_t i = 0; i < count && client->on_exchange; i++) {
        if (exchanges[i]->took_us > 0)
            client->on_exchange(client->context, exchanges[i]->took_us);
    }
}

static void run_one(struct table_client *client, struct call *call, int64_t deadline_ms)
{
    struct http_exchange *exchange = &call->http;
    run(client, &exchange, 1, deadline_ms);
    note_clock(client, exchange);
}

/* --- tables --------------------------------------------------------------------------------------------- */

enum status table_create(struct table_client *client, enum table_id table, int64_t deadline_ms,
                         struct fail *why)
{
    struct call call;
    struct buf body = BUF_INIT(LINE_BYTES_MAX);
    struct json_writer w;
    call_init(&call, client);
    buf_add_text(&call.url, "Tables");
    json_begin(&w, &body);
    json_add_text(&w, SPAN_LIT("TableName"), span_of(client->names[table]));
    enum status status = json_end(&w, "a table's name", why);
    if (status == ST_OK)
        status =
            call_finish(&call, client, "application/json", buf_span(&body), LIMIT_CALL_ANSWER_BYTES, why);
    if (status != ST_OK)
        goto out;
    run_one(client, &call, deadline_ms);
    if (call.http.status != ST_OK) {
        status = no_answer(&call.http, why);
    } else if (call.http.code / 100 != 2) {
        struct table_error error = error_of(client, &call.http);
        read_error(&error, &call.http);
        if (!table_error_is(&error, "TableAlreadyExists")) {
            status = request_refused(&error, &call.http, why);
            fail_prefix(why, "creating table '%s'", client->names[table]);
        }
    }
out:
    buf_release(&body);
    call_release(&call);
    return status;
}

/* --- transactions --------------------------------------------------------------------------------------- */

/* What the service would refuse, and Azurite would not. */
static enum status check_operations(const struct operation *operations, size_t count, size_t *failed,
                                    struct fail *why)
{
    if (count == 0 || count > LIMIT_BATCH_OPERATIONS)
        return fail_set(why, ST_BUG, 0, "a transaction of %zu operations", count);
    for (size_t i = 0; i < count; i++) {
        const struct entity *e = &operations[i].entity;
        enum status status = entity_check(e, why);
        if (status != ST_OK) {
            *failed = i;
            return status;
        }
        if (!span_eq(e->partition_key, operations[0].entity.partition_key))
            return fail_set(why, ST_BUG, 0, "a transaction over two partitions");
        for (size_t k = 0; k < i; k++) {
            if (span_eq(e->row_key, operations[k].entity.row_key))
                return fail_set(why, ST_BUG, 0, "a transaction with two operations on one row");
        }
    }
    return ST_OK;
}

/* A random UUID, version 4. */
static enum status make_id(char id[BATCH_ID_BYTES], struct fail *why)
{
    unsigned char bytes[16];
    char digits[2 * sizeof bytes + 1];
    enum status status = crypto_random(bytes, sizeof bytes, why);
    if (status != ST_OK)
        return status;
    bytes[6] = (unsigned char)((bytes[6] & 0x0F) | 0x40);
    bytes[8] = (unsigned char)((bytes[8] & 0x3F) | 0x80);
    hex_write(bytes, sizeof bytes, digits);
    (void)snprintf(id, BATCH_ID_BYTES, "%.8s-%.4s-%.4s-%.4s-%.12s", digits, digits + 8, digits + 12,
                   digits + 16, digits + 20);
    return ST_OK;
}

/* The answer to a transaction: *error is set unless it was carried out or nobody can tell. */
static enum status read_outcome(const struct table_client *client, const struct http_exchange *http,
                                size_t count, struct table_error *error, struct fail *why)
{
    struct batch_answer answer;
    *error = error_of(client, http);
    if (http->code == 202) {
        batch_read(http_header(http, "Content-Type"), buf_span(&http->answer), count, &answer);
        if (answer.outcome == BATCH_DONE)
            return ST_OK;
        if (answer.outcome == BATCH_UNCLEAR)
            return fail_set(why, ST_UNKNOWN, 0, "Azure Table: the answer to a transaction is not understood");
        error->is_member = true;
        error->http_code = answer.code;
        table_error_read(error, answer.error);
        return refused(error, http, why);
    }
    if (http->code / 100 == 2)
        return fail_set(why, ST_UNKNOWN, 0, "Azure Table: the answer to a transaction is not understood");
    read_error(error, http);
    return request_refused(error, http, why);
}

static enum status send_batch(struct table_client *client, const char *id, size_t count, int64_t deadline_ms,
                              struct table_error *error, struct fail *why)
{
    struct call call;
    char content_type[BATCH_ID_BYTES + 64];
    (void)snprintf(content_type, sizeof content_type, "multipart/mixed; boundary=batch_%s", id);
    call_init(&call, client);
    buf_add_text(&call.url, "$batch");
    *error = (struct table_error){.index = NO_INDEX};
    enum status status =
        call_finish(&call, client, content_type, buf_span(&client->body), LIMIT_CALL_ANSWER_BYTES, why);
    if (status == ST_OK) {
        run_one(client, &call, deadline_ms);
        status = call.http.status == ST_OK ? read_outcome(client, &call.http, count, error, why)
                                           : no_answer(&call.http, why);
    }
    call_release(&call);
    return status;
}

/* Sends the transaction in client->body, and once more when the table had to be created first. */
static enum status send_with_table(struct table_client *client, enum table_id table,
                                   const struct batch *batch, int64_t deadline_ms, struct table_error *error,
                                   struct fail *why)
{
    enum status status = send_batch(client, batch->id, batch->count, deadline_ms, error, why);
    if (!table_error_is(error, "TableNotFound"))
        return status;
    status = table_create(client, table, deadline_ms, why);
    if (status == ST_UNKNOWN)
        return ST_AGAIN; /* the table may be there now; the transaction was not carried out */
    if (status == ST_OK)
        status = send_batch(client, batch->id, batch->count, deadline_ms, error, why);
    if (status == ST_NOT_FOUND && table_error_is(error, "TableNotFound"))
        return ST_AGAIN; /* created, and not yet seen everywhere */
    return status;
}

enum status table_transact(struct table_client *client, enum table_id table,
                           const struct operation *operations, size_t count, int64_t deadline_ms,
                           size_t *failed, struct fail *why)
{
    struct batch batch = {.posts_merge = client->account.is_cosmos, .operations = operations, .count = count};
    struct buf table_url = BUF_INIT(LIMIT_URL_BYTES);
    struct table_error error;
    struct fail reason = {0}; /* a failure that was overcome is not the caller's */
    enum status status = check_operations(operations, count, failed, why);
    if (status == ST_OK)
        status = make_id(batch.id, why);
    if (status != ST_OK)
        goto out;
    buf_add(&table_url, buf_span(&client->account.endpoint));
    buf_addf(&table_url, "/%s", client->names[table]);
    status = buf_status(&table_url, "a URL", why);
    if (status != ST_OK)
        goto out;
    batch.table_url = buf_span(&table_url);
    buf_reset(&client->body);
    status = batch_write(&client->body, &batch, failed, why);
    if (status != ST_OK)
        goto out;
    status = send_with_table(client, table, &batch, deadline_ms, &error, &reason);
    if (status != ST_OK) {
        reason.code = status;
        if (why)
            *why = reason;
        *failed = error.index < count ? error.index : NO_INDEX;
    }
out:
    buf_recycle(&client->body, BODY_KEPT_BYTES);
    buf_release(&table_url);
    return status;
}

/* --- reading -------------------------------------------------------------------------------------------- */

/* Columns that an entity always has; the service leaves out what is not selected. */
static const char *const SYSTEM_COLUMNS[] = {"PartitionKey", "RowKey", "Timestamp"};
enum { SYSTEM_COLUMN_COUNT = sizeof SYSTEM_COLUMNS / sizeof SYSTEM_COLUMNS[0] };

static bool is_system_column(struct span name)
{
    for (size_t i = 0; i < SYSTEM_COLUMN_COUNT; i++) {
        if (span_eq(name, span_of(SYSTEM_COLUMNS[i])))
            return true;
    }
    return false;
}

/* Each column once: a doubled one is an error to the service. */
static void add_select(struct buf *url, char separator, const char *select)
{
    struct span rest = span_of(select), name;
    if (!select)
        return;
    buf_addf(url, "%c$select=%s,%s,%s", separator, SYSTEM_COLUMNS[0], SYSTEM_COLUMNS[1], SYSTEM_COLUMNS[2]);
    while (span_next(&rest, ',', &name)) {
        name = span_trim(name);
        if (name.len && !is_system_column(name)) {
            buf_add_char(url, ',');
            percent_add(url, name);
        }
    }
}

/* Whatever the rows are not, the answer could not be understood. */
static enum status not_understood(enum status status, struct fail *why)
{
    if (status == ST_OK || status == ST_NOMEM)
        return status;
    fail_prefix(why, "Azure Table: the answer to a read is not understood");
    if (why)
        why->code = ST_UNKNOWN;
    return ST_UNKNOWN;
}

static enum status read_json(const struct http_exchange *http, struct arena *arena, const struct json **top,
                             struct fail *why)
{
    static const struct json_limits limits = {.depth = LIMIT_JSON_DEPTH, .values = LIMIT_JSON_ANSWER_VALUES};
    struct span text; /* the tree points into it */
    if (!arena_copy(arena, buf_span(&http->answer), &text))
        return fail_set(why, ST_NOMEM, 0, "no memory for rows");
    return not_understood(json_read(text, &limits, arena, top, NULL, why), why);
}

/* A 404 with none of these codes is not about a row: a wrong endpoint, say. */
static bool is_missing(const struct table_error *error)
{
    return error->http_code == 404 &&
           (table_error_is(error, "ResourceNotFound") || table_error_is(error, "EntityNotFound") ||
            table_error_is(error, "TableNotFound"));
}

/* One answer of table_get_many. */
static enum status take_row(const struct table_client *client, const struct http_exchange *http,
                            struct arena *arena, struct entity **row, struct fail *why)
{
    const struct json *top;
    *row = NULL;
    if (http->status != ST_OK)
        return no_answer(http, why);
    if (http->code != 200) {
        struct table_error error = error_of(client, http);
        read_error(&error, http);
        return is_missing(&error) ? ST_OK : request_refused(&error, http, why);
    }
    enum status status = read_json(http, arena, &top, why);
    if (status != ST_OK)
        return status;
    struct entity *e = arena_alloc(arena, sizeof *e);
    if (!e)
        return fail_set(why, ST_NOMEM, 0, "no memory for a row");
    status = not_understood(entity_read(top, arena, e, why), why);
    if (status == ST_OK && !e->etag.len && !arena_copy(arena, http_header(http, "ETag"), &e->etag))
        status = fail_set(why, ST_NOMEM, 0, "no memory for a row");
    if (status == ST_OK)
        *row = e;
    return status;
}

enum status table_get_many(struct table_client *client, enum table_id table, struct span partition_key,
                           const struct span *row_keys, size_t count, const char *select, int64_t deadline_ms,
                           struct arena *arena, struct entity **rows, struct fail *why)
{
    struct call *calls = calloc(count ? count : 1, sizeof *calls);
    struct http_exchange **exchanges = calloc(count ? count : 1, sizeof(struct http_exchange *));
    enum status status = ST_OK;
    size_t made = 0;
    if (!calls || !exchanges) {
        status = fail_set(why, ST_NOMEM, 0, "no memory to read rows");
        goto out;
    }
    for (; made < count && status == ST_OK; made++) {
        struct call *call = &calls[made];
        exchanges[made] = &call->http;
        call_init(call, client);
        buf_add_text(&call->url, client->names[table]);
        entity_add_address(&call->url, partition_key, row_keys[made]);
        add_select(&call->url, '?', select);
        status = call_finish(call, client, NULL, (struct span){0}, LIMIT_ENTITY_JSON_BYTES, why);
    }
    if (status != ST_OK)
        goto out;
    run(client, exchanges, count, deadline_ms);
    for (size_t i = 0; i < count && status == ST_OK; i++) {
        note_clock(client, exchanges[i]);
        status = take_row(client, exchanges[i], arena, &rows[i], why);
    }
out:
    for (size_t i = 0; i < made; i++)
        call_release(&calls[i]);
    free(calls);
    free(exchanges);
    return status;
}

static void add_condition(struct buf *url, const char *comparison, struct span text)
{
    percent_add(url, span_of(comparison));
    buf_add_text(url, "%20");
    entity_add_literal(url, text);
}

static const char AND[] = "%20and%20";

/* Up to where the value begins. */
static void begin_condition(struct buf *url, const char *column, const char *comparison)
{
    buf_add_text(url, AND);
    buf_add_text(url, column);
    buf_addf(url, "%%20%s%%20", comparison);
}

static void add_time(struct buf *url, const char *column, const char *comparison, int64_t ms)
{
    char time[CLOCK_TEXT_BYTES];
    clock_iso_time(ms, time);
    begin_condition(url, column, comparison);
    buf_add_text(url, "datetime");
    entity_add_literal(url, span_of(time));
}

/* There is no operator for that: from the prefix to the first text behind all that begin with it. */
static void add_prefix(struct buf *url, const char *column, struct span prefix)
{
    struct buf end = BUF_INIT(LIMIT_PROPERTY_NAME);
    buf_add(&end, prefix);
    if (end.len)
        end.data[end.len - 1]++;
    begin_condition(url, column, "ge");
    entity_add_literal(url, prefix);
    begin_condition(url, column, "lt");
    entity_add_literal(url, buf_span(&end));
    if (end.error != ST_OK)
        url->error = end.error;
    buf_release(&end);
}

static void add_filter(struct buf *url, const struct query *query)
{
    buf_add_text(url, "&$filter=");
    add_condition(url, "PartitionKey eq", query->partition_key);
    if (query->from.len) {
        buf_add_text(url, AND);
        add_condition(url, "RowKey ge", query->from);
    }
    if (query->to.len) {
        buf_add_text(url, AND);
        add_condition(url, "RowKey lt", query->to);
    }
    if (query->since_column)
        add_time(url, query->since_column, "ge", query->since_ms);
    if (query->since_column && query->until_ms)
        add_time(url, query->since_column, "lt", query->until_ms);
    if (query->text_column)
        add_prefix(url, query->text_column, query->text);
}

/* The page's place is kept as the part of the next URL that names it. */
static bool take_next(const struct http_exchange *http, struct arena *arena, struct span *next)
{
    static const char *const names[] = {"NextPartitionKey", "NextRowKey"};
    struct buf text = BUF_INIT(LIMIT_CONTINUATION_BYTES);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char header[64];
        (void)snprintf(header, sizeof header, "x-ms-continuation-%s", names[i]);
        struct span value = http_header(http, header);
        if (value.len) {
            buf_addf(&text, "&%s=", names[i]);
            percent_add(&text, value);
        }
    }
    bool taken = text.error == ST_OK && (text.len == 0 || arena_copy(arena, buf_span(&text), next));
    buf_release(&text);
    return taken;
}

static enum status take_page(const struct http_exchange *http, struct arena *arena, struct page *page,
                             struct fail *why)
{
    const struct json *top, *value;
    struct page p = {0};
    enum status status = read_json(http, arena, &top, why);
    if (status != ST_OK)
        return status;
    value = json_member(top, "value");
    if (!value || value->kind != JSON_ARRAY)
        return fail_set(why, ST_UNKNOWN, 0, "Azure Table: the answer to a query has no rows");
    size_t count = 0;
    for (const struct json *row = value->first; row; row = row->next)
        count++;
    p.rows = arena_array(arena, count, sizeof *p.rows);
    if (!p.rows || !take_next(http, arena, &p.next))
        return fail_set(why, ST_NOMEM, 0, "no memory for a page of rows");
    for (const struct json *row = value->first; row && status == ST_OK; row = row->next)
        status = not_understood(entity_read(row, arena, &p.rows[p.count++], why), why);
    if (status == ST_OK)
        *page = p;
    return status;
}

static enum status query_page(struct table_client *client, const struct query *query, size_t top,
                              int64_t deadline_ms, struct arena *arena, struct page *page, struct fail *why)
{
    struct call call;
    call_init(&call, client);
    buf_addf(&call.url, "%s()?$top=%zu", client->names[query->table], top);
    add_filter(&call.url, query);
    add_select(&call.url, '&', query->select);
    buf_add(&call.url, query->next);
    enum status status = call_finish(&call, client, NULL, (struct span){0}, LIMIT_ANSWER_BYTES, why);
    if (status != ST_OK)
        goto out;
    run_one(client, &call, deadline_ms);
    if (call.http.status != ST_OK) {
        status = no_answer(&call.http, why);
        if (call.http.answer.error == ST_TOO_LARGE)
            status = ST_TOO_LARGE;
    } else if (call.http.code == 200) {
        status = take_page(&call.http, arena, page, why);
    } else {
        struct table_error error = error_of(client, &call.http);
        read_error(&error, &call.http);
        if (table_error_is(&error, "TableNotFound"))
            *page = (struct page){0};
        else
            status = request_refused(&error, &call.http, why);
    }
out:
    call_release(&call);
    return status;
}

enum status table_query(struct table_client *client, const struct query *query, int64_t deadline_ms,
                        struct arena *arena, struct page *page, struct fail *why)
{
    /* Rows may be large: a page that does not fit is asked for again with fewer of them. */
    for (size_t top = query->limit;;) {
        enum status status = query_page(client, query, top, deadline_ms, arena, page, why);
        if (status != ST_TOO_LARGE || top <= 1)
            return status;
        top = (top + 3) / 4;
    }
}
