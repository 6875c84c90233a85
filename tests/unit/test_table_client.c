/* lib/table/client against a scripted server: what is sent, and what becomes of
 * every kind of answer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>

#include "lib/base/clock.h"
#include "lib/net/http.h"
#include "lib/table/client.h"
#include "tests/unit/scripted_server.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* --- answers -------------------------------------------------------------------------------------------- */

#define BATCH_HEAD                                                                                           \
    "HTTP/1.1 202 Accepted\r\nContent-Type: multipart/mixed; boundary=b_1\r\nRetry-After: 5\r\n"             \
    "Connection: close\r\n\r\n--b_1\r\nContent-Type: multipart/mixed; boundary=c_1\r\n\r\n"
#define BATCH_PART "--c_1\r\nContent-Type: application/http\r\n\r\n"
#define BATCH_TAIL "--c_1--\r\n--b_1--\r\n"
#define CREATED    BATCH_PART "HTTP/1.1 204 No Content\r\n\r\n\r\n"
#define DONE                                                                                                 \
    {                                                                                                        \
        ANSWER_AND_CLOSE, SPAN_LIT(BATCH_HEAD CREATED CREATED BATCH_TAIL)                                    \
    }
#define FAILED(status, code, text)                                                                           \
    {                                                                                                        \
        ANSWER_AND_CLOSE,                                                                                    \
            SPAN_LIT(BATCH_HEAD BATCH_PART "HTTP/1.1 " status "\r\n\r\n{\"odata.error\":{\"code\":\"" code   \
                                           "\",\"message\":{\"value\":\"" text "\"}}}\r\n" BATCH_TAIL)       \
    }
#define PLAIN(status, lines, body)                                                                           \
    {                                                                                                        \
        ANSWER_AND_CLOSE, SPAN_LIT("HTTP/1.1 " status "\r\n" lines "Connection: close\r\n\r\n" body)         \
    }
#define ERROR(status, code, lines) PLAIN(status, lines, "{\"odata.error\":{\"code\":\"" code "\"}}")

#define NO_TABLE      FAILED("404 Not Found", "TableNotFound", "0:The table specified does not exist.")
#define TABLE_CREATED PLAIN("201 Created", "", "{}")

/* --- the client ----------------------------------------------------------------------------------------- */

struct fixture {
    struct table_client *client;
    struct arena arena;
    struct operation operations[2];
};

static void set_up(struct fixture *f, const struct step *steps, size_t count)
{
    char connection[200];
    struct table_options options = {.table_name = SPAN_LIT("Leads")};
    struct fail why;
    (void)snprintf(connection, sizeof connection,
                   "AccountName=acct;AccountKey=YmFy;TableEndpoint=http://127.0.0.1:%u/acct",
                   server.connections.port);
    options.connection = span_of(connection);
    f->arena = ARENA_INIT(64u << 20);
    assert_int_equal(table_client_new(&options, &f->client, &why), ST_OK);
    for (size_t i = 0; i < 2; i++) {
        struct operation *o = &f->operations[i];
        o->kind = OPERATION_INSERT;
        assert_true(entity_init(&o->entity, SPAN_LIT("p"), i ? SPAN_LIT("2") : SPAN_LIT("1"), &f->arena));
    }
    play(steps, count);
}

static void tear_down(struct fixture *f)
{
    table_client_free(f->client);
    arena_release(&f->arena);
    wait_for_server(0);
}

static int64_t soon(void)
{
    return clock_monotonic_ms() + 5000;
}

static void test_transactions(void **state)
{
    static const struct {
        const char *label;
        struct step steps[3];
        size_t step_count;
        enum status want;
        size_t failed;
        int retry_after_s;
        const char *words;
    } cases[] = {
        {"done", {DONE}, 1, ST_OK, 77, 0, NULL},
        {"exists",
         {FAILED("409 Conflict", "EntityAlreadyExists", "1:x")},
         1,
         ST_EXISTS,
         1,
         5,
         "exists already"},
        {"changed",
         {FAILED("412 Precondition Failed", "UpdateConditionNotSatisfied", "0:x")},
         1,
         ST_CHANGED,
         0,
         5,
         "changed"},
        {"not found",
         {FAILED("404 Not Found", "ResourceNotFound", "1:x")},
         1,
         ST_NOT_FOUND,
         1,
         5,
         "not there"},
        {"no index",
         {FAILED("409 Conflict", "EntityAlreadyExists", "x")},
         1,
         ST_EXISTS,
         NO_INDEX,
         5,
         "exists"},
        {"index beyond",
         {FAILED("409 Conflict", "EntityAlreadyExists", "2:x")},
         1,
         ST_EXISTS,
         NO_INDEX,
         5,
         "exists"},
        {"bad member",
         {FAILED("400 Bad Request", "PropertyValueTooLarge", "1:x")},
         1,
         ST_TOO_LARGE,
         1,
         5,
         "refused"},
        {"busy member", {FAILED("503 Busy", "ServerBusy", "0:x")}, 1, ST_AGAIN, 0, 5, "busy"},
        {"timed out member", {FAILED("500 Error", "OperationTimedOut", "0:x")}, 1, ST_UNKNOWN, 0, 5, "time"},
        {"half an answer",
         {{ANSWER_AND_CLOSE, SPAN_LIT(BATCH_HEAD CREATED)}},
         1,
         ST_UNKNOWN,
         NO_INDEX,
         0,
         "not understood"},
        {"another answer",
         {PLAIN("202 Accepted", "Content-Type: text/html\r\n", "<html>")},
         1,
         ST_UNKNOWN,
         NO_INDEX,
         0,
         "not understood"},
        {"another success", {PLAIN("200 OK", "", "{}")}, 1, ST_UNKNOWN, NO_INDEX, 0, "not understood"},
        {"no answer", {{DROP, {0}}}, 1, ST_UNKNOWN, NO_INDEX, 0, "no answer"},
        {"busy", {ERROR("503 Busy", "ServerBusy", "Retry-After: 7\r\n")}, 1, ST_AGAIN, NO_INDEX, 7, "busy"},
        {"throttled",
         {PLAIN("429 Too Many", "x-ms-retry-after-ms: 1500\r\n", "")},
         1,
         ST_AGAIN,
         NO_INDEX,
         2,
         "throttles"},
        {"a gateway's 503", {PLAIN("503 Unavailable", "", "<html>")}, 1, ST_UNKNOWN, NO_INDEX, 0, "failed"},
        {"timed out", {ERROR("500 Error", "OperationTimedOut", "")}, 1, ST_UNKNOWN, NO_INDEX, 0, "time"},
        {"wrong key",
         {ERROR("403 Forbidden", "AuthenticationFailed", "")},
         1,
         ST_DENIED,
         NO_INDEX,
         0,
         "account key"},
        {"wrong clock",
         {ERROR("403 Forbidden", "AuthenticationFailed", "Date: Sun, 11 Oct 2009 19:52:39 GMT\r\n")},
         1,
         ST_DENIED,
         NO_INDEX,
         0,
         "clock"},
        {"code in a header only",
         {PLAIN("403 Forbidden", "x-ms-error-code: AccountIsDisabled\r\n", "")},
         1,
         ST_DENIED,
         NO_INDEX,
         0,
         "disabled"},
        {"no account",
         {ERROR("404 Not Found", "ResourceNotFound", "")},
         1,
         ST_DENIED,
         NO_INDEX,
         0,
         "endpoint"},
        {"redirected",
         {PLAIN("302 Found", "Location: https://login.example/\r\n", "")},
         1,
         ST_DENIED,
         NO_INDEX,
         0,
         "endpoint"},
        {"malformed as a whole",
         {ERROR("400 Bad Request", "InvalidHeaderValue", "")},
         1,
         ST_DENIED,
         NO_INDEX,
         0,
         "endpoint"},
        {"too large as a whole",
         {ERROR("413 Too Large", "RequestBodyTooLarge", "")},
         1,
         ST_TOO_LARGE,
         NO_INDEX,
         0,
         "refused"},
        {"412 as a whole", {PLAIN("412 Precondition Failed", "", "")}, 1, ST_UNKNOWN, NO_INDEX, 0, "changed"},
        /* the table is created, once */
        {"no table", {NO_TABLE, TABLE_CREATED, DONE}, 3, ST_OK, 77, 0, NULL},
        {"no table, said by the whole",
         {ERROR("404 Not Found", "TableNotFound", ""), TABLE_CREATED, DONE},
         3,
         ST_OK,
         77,
         0,
         NULL},
        {"created by another",
         {NO_TABLE, ERROR("409 Conflict", "TableAlreadyExists", ""), DONE},
         3,
         ST_OK,
         77,
         0,
         NULL},
        {"still no table", {NO_TABLE, TABLE_CREATED, NO_TABLE}, 3, ST_AGAIN, 0, 5, "table"},
        {"may not create",
         {NO_TABLE, ERROR("403 Forbidden", "AuthorizationPermissionMismatch", "")},
         2,
         ST_DENIED,
         0,
         0,
         "creating table 'Leads'"},
        {"being deleted",
         {NO_TABLE, ERROR("409 Conflict", "TableBeingDeleted", "")},
         2,
         ST_AGAIN,
         0,
         0,
         "deleted"},
        {"created in the dark", {NO_TABLE, {DROP, {0}}}, 2, ST_AGAIN, 0, 0, "no answer"},
        {"lost after creating",
         {NO_TABLE, TABLE_CREATED, {DROP, {0}}},
         3,
         ST_UNKNOWN,
         NO_INDEX,
         0,
         "no answer"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct fixture f;
        struct fail why = {.text = "untouched"};
        size_t failed = 77;
        set_up(&f, cases[i].steps, cases[i].step_count);
        enum status status = table_transact(f.client, TABLE_LEADS, f.operations, 2, soon(), &failed, &why);
        if (status != cases[i].want || failed != cases[i].failed)
            fail_msg("%s: got %s at %zu (%s), want %s at %zu", cases[i].label, status_name(status), failed,
                     why.text, status_name(cases[i].want), cases[i].failed);
        if (status == ST_OK)
            assert_string_equal(why.text, "untouched");
        else if (why.code != status || why.retry_after_s != cases[i].retry_after_s ||
                 !strstr(why.text, cases[i].words))
            fail_msg("%s: got %s, after %d s, \"%s\"; want after %d s, \"%s\"", cases[i].label,
                     status_name(why.code), why.retry_after_s, why.text, cases[i].retry_after_s,
                     cases[i].words);
        tear_down(&f);
        assert_int_equal(server.requests, cases[i].step_count);
    }
}

/* The rules of a transaction are checked before anything is sent. */
static void test_refused_before_sending(void **state)
{
    struct fixture f;
    struct fail why;
    size_t failed = 77;
    (void)state;
    set_up(&f, NULL, 0);
    struct operation *o = f.operations;
    assert_int_equal(table_transact(f.client, TABLE_LEADS, o, 0, soon(), &failed, &why), ST_BUG);
    assert_int_equal(table_transact(f.client, TABLE_LEADS, o, 101, soon(), &failed, &why), ST_BUG);
    o[1].entity.row_key = SPAN_LIT("1");
    assert_int_equal(table_transact(f.client, TABLE_LEADS, o, 2, soon(), &failed, &why), ST_BUG);
    o[1].entity.row_key = SPAN_LIT("2");
    o[1].entity.partition_key = SPAN_LIT("q");
    assert_int_equal(table_transact(f.client, TABLE_LEADS, o, 2, soon(), &failed, &why), ST_BUG);
    o[1].entity.partition_key = SPAN_LIT("p");
    o[1].kind = OPERATION_MERGE; /* without an etag it would be an upsert */
    assert_int_equal(table_transact(f.client, TABLE_LEADS, o, 2, soon(), &failed, &why), ST_BUG);
    o[1].kind = OPERATION_INSERT;
    assert_int_equal(failed, 1);
    o[1].entity.row_key = SPAN_LIT("a/b");
    assert_int_equal(table_transact(f.client, TABLE_LEADS, o, 2, soon(), &failed, &why), ST_INVALID);
    assert_int_equal(failed, 1);
    tear_down(&f);
    assert_int_equal(server.requests, 0);
}

static void has_text(const char *text)
{
    if (!strstr(server.last_request.data, text))
        fail_msg("want \"%s\" in:\n%s", text, server.last_request.data);
}

static void test_what_is_sent(void **state)
{
    static const struct step steps[] = {
        DONE, PLAIN("200 OK", "", "{\"value\":[]}"),
        PLAIN("200 OK", "ETag: W/\"1\"\r\n", "{\"PartitionKey\":\"p\",\"RowKey\":\"it's\",\"A\":1}"),
        TABLE_CREATED};
    struct fixture f;
    struct fail why;
    struct page page;
    struct entity *row;
    struct span key = SPAN_LIT("it's");
    size_t failed;
    (void)state;
    set_up(&f, steps, COUNT(steps));
    assert_int_equal(table_transact(f.client, TABLE_OPS, f.operations, 2, soon(), &failed, &why), ST_OK);
    wait_for_server(1);
    has_text("POST /acct/$batch HTTP/1.1\r\n");
    has_text("\r\nx-ms-version: 2019-02-02\r\n");
    has_text("\r\nDataServiceVersion: 3.0\r\n");
    has_text("\r\nMaxDataServiceVersion: 3.0;NetFx\r\n");
    has_text("\r\nAccept: application/json;odata=minimalmetadata\r\n");
    has_text("\r\nx-ms-date: ");
    has_text("\r\nAuthorization: SharedKeyLite acct:");
    has_text("\r\nContent-Type: multipart/mixed; boundary=batch_");
    has_text("\r\nContent-Length: ");
    has_text("/acct/LeadsOps HTTP/1.1\r\n");
    assert_null(strstr(server.last_request.data, "\r\nDate: "));

    struct query query = {.table = TABLE_LEADS,
                          .partition_key = SPAN_LIT("o'hara & co"),
                          .from = SPAN_LIT("~mail-"),
                          .to = SPAN_LIT("~mail."),
                          .since_column = "ReceivedTime",
                          .since_ms = 1255290759123,
                          .until_ms = 1255290759124,
                          .text_column = "DeliveryId",
                          .text = SPAN_LIT("0a9"),
                          .select = "A, RowKey,B",
                          .limit = 7,
                          .next = SPAN_LIT("&NextPartitionKey=x")};
    assert_int_equal(table_query(f.client, &query, soon(), &f.arena, &page, &why), ST_OK);
    wait_for_server(2);
    has_text("GET /acct/Leads()?$top=7&$filter=PartitionKey%20eq%20'o%27%27hara%20%26%20co'"
             "%20and%20RowKey%20ge%20'~mail-'%20and%20RowKey%20lt%20'~mail.'"
             "%20and%20ReceivedTime%20ge%20datetime'2009-10-11T19%3A52%3A39.123Z'"
             "%20and%20ReceivedTime%20lt%20datetime'2009-10-11T19%3A52%3A39.124Z'"
             "%20and%20DeliveryId%20ge%20'0a9'%20and%20DeliveryId%20lt%20'0a%3A'"
             "&$select=PartitionKey,RowKey,Timestamp,A,B&NextPartitionKey=x HTTP/1.1\r\n");
    assert_null(strstr(server.last_request.data, "Content-Type"));

    assert_int_equal(
        table_get_many(f.client, TABLE_LEADS, SPAN_LIT("p"), &key, 1, NULL, soon(), &f.arena, &row, &why),
        ST_OK);
    wait_for_server(3);
    has_text("GET /acct/Leads(PartitionKey='p',RowKey='it%27%27s') HTTP/1.1\r\n");
    assert_true(span_eq(row->etag, SPAN_LIT("W/\"1\""))); /* from the header: the body had none */

    assert_int_equal(table_create(f.client, TABLE_OPS, soon(), &why), ST_OK);
    wait_for_server(4);
    has_text("POST /acct/Tables HTTP/1.1\r\n");
    has_text("\r\n\r\n{\"TableName\":\"LeadsOps\"}");
    tear_down(&f);
}

static void test_sas(void **state)
{
    static const struct step steps[] = {DONE, PLAIN("200 OK", "", "{\"value\":[]}"), {DROP, {0}}};
    struct fixture f;
    struct fail why;
    struct page page;
    struct query query = {.partition_key = SPAN_LIT("p"), .limit = 1};
    char connection[200];
    size_t failed;
    (void)state;
    set_up(&f, steps, COUNT(steps));
    table_client_free(f.client);
    (void)snprintf(connection, sizeof connection,
                   "SharedAccessSignature=?sv=1&sig=s3cr3t%%3D;TableEndpoint=http://127.0.0.1:%u/acct",
                   server.connections.port);
    struct table_options options = {.connection = span_of(connection), .table_name = SPAN_LIT("Leads")};
    assert_int_equal(table_client_new(&options, &f.client, &why), ST_OK);
    assert_int_equal(table_transact(f.client, TABLE_LEADS, f.operations, 2, soon(), &failed, &why), ST_OK);
    wait_for_server(1);
    has_text("POST /acct/$batch?sv=1&sig=s3cr3t%3D HTTP/1.1\r\n");
    assert_null(strstr(server.last_request.data, "Authorization"));
    assert_null(strstr(strstr(server.last_request.data, "\r\n\r\n"), "s3cr3t")); /* not in the body */
    assert_int_equal(table_query(f.client, &query, soon(), &f.arena, &page, &why), ST_OK);
    wait_for_server(2);
    has_text("'p'&sv=1&sig=s3cr3t%3D HTTP/1.1\r\n");
    assert_int_equal(table_query(f.client, &query, soon(), &f.arena, &page, &why), ST_UNKNOWN);
    assert_null(strstr(why.text, "s3cr3t"));
    tear_down(&f);
}

static void test_queries(void **state)
{
    static const struct {
        const char *label;
        struct step step;
        enum status want;
        size_t count;
        const char *next;
    } cases[] = {
        {"a row", PLAIN("200 OK", "", "{\"value\":[{\"PartitionKey\":\"p\",\"RowKey\":\"1\"}]}"), ST_OK, 1,
         ""},
        {"nothing, and more",
         PLAIN(
             "200 OK",
             "x-ms-continuation-NextPartitionKey: 1!8!U21pdGg-\r\nX-MS-CONTINUATION-NEXTROWKEY: 1!4!a+/=\r\n",
             "{\"value\":[]}"),
         ST_OK, 0, "&NextPartitionKey=1%218%21U21pdGg-&NextRowKey=1%214%21a%2B%2F%3D"},
        {"more without a row key",
         PLAIN("200 OK", "x-ms-continuation-NextPartitionKey: x\r\n", "{\"value\":[]}"), ST_OK, 0,
         "&NextPartitionKey=x"},
        {"no table", ERROR("404 Not Found", "TableNotFound", ""), ST_OK, 0, ""},
        {"no account", ERROR("404 Not Found", "ResourceNotFound", ""), ST_DENIED, 0, ""},
        {"a gateway's 404", PLAIN("404 Not Found", "", "<html>"), ST_DENIED, 0, ""},
        {"no JSON", PLAIN("200 OK", "", "<html>"), ST_UNKNOWN, 0, ""},
        {"nothing", PLAIN("200 OK", "", ""), ST_UNKNOWN, 0, ""},
        {"half", PLAIN("200 OK", "", "{\"value\":["), ST_UNKNOWN, 0, ""},
        {"no rows", PLAIN("200 OK", "", "{}"), ST_UNKNOWN, 0, ""},
        {"rows that are none", PLAIN("200 OK", "", "{\"value\":7}"), ST_UNKNOWN, 0, ""},
        {"a bad row", PLAIN("200 OK", "", "{\"value\":[{\"Timestamp\":\"x\"}]}"), ST_UNKNOWN, 0, ""},
        {"busy", ERROR("503 Busy", "ServerBusy", ""), ST_AGAIN, 0, ""},
        {"denied", ERROR("403 Forbidden", "AuthorizationFailure", ""), ST_DENIED, 0, ""},
    };
    struct query query = {.partition_key = SPAN_LIT("p"), .limit = 1000};
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct fixture f;
        struct fail why = {.text = "untouched"};
        struct page page = {0};
        set_up(&f, &cases[i].step, 1);
        enum status status = table_query(f.client, &query, soon(), &f.arena, &page, &why);
        if (status != cases[i].want || page.count != cases[i].count ||
            !span_eq(page.next, span_of(cases[i].next)))
            fail_msg("%s: got %s, %zu rows, next \"%.*s\" (%s)", cases[i].label, status_name(status),
                     page.count, SPAN_FMT(page.next), why.text);
        if (status == ST_OK)
            assert_string_equal(why.text, "untouched");
        else
            assert_int_equal(why.code, status);
        tear_down(&f);
    }
}

/* A page over LIMIT_ANSWER_BYTES is asked for again with fewer rows. */
static void test_large_page(void **state)
{
    struct buf large = BUF_INIT(2 * LIMIT_ANSWER_BYTES);
    struct fixture f;
    struct fail why = {0};
    struct page page;
    struct query query = {.partition_key = SPAN_LIT("p"), .limit = 1000};
    (void)state;
    buf_add_text(&large, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{\"value\":[");
    char *rows = buf_reserve(&large, LIMIT_ANSWER_BYTES);
    assert_non_null(rows);
    memset(rows, ' ', LIMIT_ANSWER_BYTES);
    buf_advance(&large, LIMIT_ANSWER_BYTES);
    buf_add_text(&large, "]}");
    struct step steps[] = {{ANSWER_AND_CLOSE, buf_span(&large)}, PLAIN("200 OK", "", "{\"value\":[]}")};
    set_up(&f, steps, 2);
    assert_int_equal(table_query(f.client, &query, soon(), &f.arena, &page, &why), ST_OK);
    wait_for_server(2);
    has_text("?$top=250&");
    struct step single[] = {steps[0]};
    play(single, 1);
    query.limit = 1; /* fewer there are not */
    assert_int_equal(table_query(f.client, &query, soon(), &f.arena, &page, &why), ST_TOO_LARGE);
    tear_down(&f);
    buf_release(&large);
}

static void test_point_reads(void **state)
{
    static const struct {
        const char *label;
        struct step step;
        enum status want;
        bool found;
    } cases[] = {
        {"a row", PLAIN("200 OK", "", "{\"PartitionKey\":\"p\",\"RowKey\":\"1\",\"odata.etag\":\"e\"}"),
         ST_OK, true},
        {"no row", ERROR("404 Not Found", "ResourceNotFound", ""), ST_OK, false},
        {"no row, other code", ERROR("404 Not Found", "EntityNotFound", ""), ST_OK, false},
        {"no table", ERROR("404 Not Found", "TableNotFound", ""), ST_OK, false},
        {"a gateway's 404", PLAIN("404 Not Found", "", "<html>"), ST_DENIED, false},
        {"no JSON", PLAIN("200 OK", "", "<html>"), ST_UNKNOWN, false},
        {"busy", ERROR("503 Busy", "ServerBusy", ""), ST_AGAIN, false},
        {"no answer", {DROP, {0}}, ST_UNKNOWN, false},
    };
    struct span key = SPAN_LIT("1");
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct fixture f;
        struct fail why = {.text = "untouched"};
        struct entity *row = NULL;
        set_up(&f, &cases[i].step, 1);
        enum status status =
            table_get_many(f.client, TABLE_LEADS, SPAN_LIT("p"), &key, 1, "A", soon(), &f.arena, &row, &why);
        if (status != cases[i].want || (row != NULL) != cases[i].found)
            fail_msg("%s: got %s, row %d (%s)", cases[i].label, status_name(status), row != NULL, why.text);
        if (status == ST_OK)
            assert_string_equal(why.text, "untouched");
        tear_down(&f);
    }
    struct fixture f;
    struct fail why;
    set_up(&f, NULL, 0);
    assert_int_equal(
        table_get_many(f.client, TABLE_LEADS, SPAN_LIT("p"), NULL, 0, NULL, soon(), &f.arena, NULL, &why),
        ST_OK);
    tear_down(&f);
}

/* Claims are judged by the service's clock, which goes on between answers; a wrong clock of ours is put right. */
static void test_clock(void **state)
{
    static const struct step steps[] = {
        PLAIN("200 OK", "Date: Sun, 11 Oct 2009 19:52:39 GMT\r\n", "{\"value\":[]}"),
        PLAIN("200 OK", "Date: nonsense\r\n", "{\"value\":[]}")};
    struct query query = {.partition_key = SPAN_LIT("p"), .limit = 1};
    struct fixture f;
    struct fail why;
    struct page page;
    (void)state;
    set_up(&f, steps, 2);
    assert_in_range(table_now_ms(f.client), clock_wall_ms() - 5000, clock_wall_ms() + 5000);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(table_query(f.client, &query, soon(), &f.arena, &page, &why), ST_OK);
        assert_in_range(table_now_ms(f.client), 1255290759000, 1255290759000 + 10000);
    }
    assert_non_null(
        strstr(server.last_request.data, "x-ms-date: Sun, 11 Oct 2009 19:5")); /* or it would be refused */
    tear_down(&f);
}

static void test_names(void **state)
{
    static const struct {
        const char *name;
        bool good;
    } cases[] = {{"abc", true},
                 {"MarketplaceLeads", true},
                 {"a12", true},
                 {"ab", false},
                 {"", false},
                 {"1abc", false},
                 {"a-bc", false},
                 {"a_bc", false},
                 {"a bc", false},
                 {"tables", false},
                 {"Tables", false},
                 {"a23456789012345678901234567890123456789012345678901234567890", true},
                 {"a234567890123456789012345678901234567890123456789012345678901", false}};
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct table_options options = {.connection = SPAN_LIT("AccountName=acct;AccountKey=YmFy"),
                                        .table_name = span_of(cases[i].name)};
        struct table_client *client = NULL;
        struct fail why;
        enum status status = table_client_new(&options, &client, &why);
        if (status != (cases[i].good ? ST_OK : ST_INVALID))
            fail_msg("\"%s\": got %s", cases[i].name, status_name(status));
        table_client_free(client);
    }
}

#define WITH_SERVER(test) cmocka_unit_test_setup_teardown(test, start_server, stop_server)

int main(void)
{
    static const struct CMUnitTest tests[] = {
        WITH_SERVER(test_transactions), WITH_SERVER(test_refused_before_sending),
        WITH_SERVER(test_what_is_sent), WITH_SERVER(test_sas),
        WITH_SERVER(test_queries),      WITH_SERVER(test_large_page),
        WITH_SERVER(test_point_reads),  WITH_SERVER(test_clock),
        cmocka_unit_test(test_names),
    };
    struct fail why;
    (void)signal(SIGPIPE, SIG_IGN);
    if (http_global_init(&why) != ST_OK)
        return 1;
    return cmocka_run_group_tests_name("table client", tests, NULL, NULL);
}
