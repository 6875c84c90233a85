/* fake_table - the part of the Azure Table service that leadhook uses, fast and, when told to, durable or broken.
 *
 * For measuring speed and for tests with faults.  It judges what the client
 * sends, so it shares no code with leadhook: signatures, headers, keys, types,
 * sizes and transactions are checked here as the service's documentation
 * describes them, and where Azurite is laxer this is not.
 *
 *   fake_table [--port N] [--latency-ms N] [--scan-rows N] [--journal FILE] [--account NAME --key BASE64]
 *
 * Prints "listening PORT" (port 0, the default: the kernel's choice) and serves
 * http://127.0.0.1:PORT/ACCOUNT/ until SIGTERM.  Every answer is held back for
 * the latency, which blocks no other request; the effect is at once.  A query
 * looks at scan-rows rows at most and then answers with a continuation, also
 * when it found nothing: the service does that, and clients get it wrong.
 *
 * Rows are kept in memory, and with --journal in FILE too: before the answer, so
 * that after SIGKILL the next process with that file has all that was answered.
 *
 * Not signed, for tests:
 *   GET, POST /_fault                what it is to do wrong: see fake_table/rules.h
 *   GET /_count?table=T[&prefix=P]   rows of T whose RowKey begins with P: {"count":N}
 *   GET /_stats                      {"requests":N,"batches":N,"operations":N,"refused":N}
 *
 * Missing: queries inside a batch, listing tables, SAS, ranges of
 * OData beyond comparisons joined by "and", "or" and parentheses.
 */

/* System */
#include <getopt.h>
#include <inttypes.h>

/* Its parts hold static functions only: every program of this folder is built from one source file. */
#include "tests/harness/fake_table/batch.h"
#include "tests/harness/fake_table/query.h"
#include "tests/harness/fake_table/server.h"

static const struct fault *create_table(struct text json, struct text *name)
{
    static struct entity object;
    static struct out room = {.limit = 2 * BODY_BYTES};
    room.n = 0;
    const struct fault *fault = object_read(json, &room, &object);
    if (fault)
        return fault;
    if (!take_text(&object, "TableName", name))
        return &MISSING_VALUE;
    if (name->n < 3 || name->n > TABLE_NAME_BYTES || !is_identifier(*name) || memchr(name->p, '_', name->n) ||
        utf16_units(*name) != name->n || (name->n == 6 && strncasecmp(name->p, "tables", 6) == 0))
        return &BAD_RESOURCE;
    if (table_named(*name))
        return &TABLE_EXISTS;
    struct table *table = table_add(*name);
    if (!table)
        return &STORE_FULL;
    journal_note(JOURNAL_TABLE, table, (struct key){0}, NULL);
    journal_commit();
    return NULL;
}

/* DELETE /ACCOUNT/Tables('NAME') */
static void answer_table_gone(struct out *o, struct text name)
{
    struct table *table =
        take(&name, LIT("Tables('")) ? table_named((struct text){name.p, find(name, LIT("')"))}) : NULL;
    if (!table) {
        answer_fault(o, &NO_TABLE);
        return;
    }
    journal_note(JOURNAL_TABLE_GONE, table, (struct key){0}, NULL);
    journal_commit();
    table_remove(table);
    write_head(o, 204);
    out_add(o, LIT("Content-Length: 0\r\n\r\n"));
}

static void answer_tables(struct out *o, const struct request *q)
{
    struct text name;
    const struct fault *fault = !same(q->method, LIT("POST")) ? &NO_METHOD
                                : !header_has(q, "Content-Type", "application/json")
                                    ? &MISSING_VALUE
                                    : create_table(q->body, &name);
    if (fault) {
        answer_fault(o, fault);
    } else if (header_has(q, "Prefer", "return-no-content")) {
        write_head(o, 204);
        out_add(o, LIT("Preference-Applied: return-no-content\r\nContent-Length: 0\r\n\r\n"));
    } else {
        struct out body = {.limit = ANSWER_BYTES};
        out_add(&body, LIT("{\"TableName\":"));
        out_json(&body, name);
        out_add(&body, LIT("}"));
        write_head(o, 201);
        write_body(o, JSON_TYPE, &body);
        free(body.p);
    }
}

static void answer_control(struct out *o, const struct request *q)
{
    struct out body = {.limit = ANSWER_BYTES};
    if (same(q->path, LIT("/_count"))) {
        char name_room[TABLE_NAME_BYTES], prefix_room[KEY_BYTES];
        struct text name = {"", 0};
        struct text prefix = {"", 0};
        (void)parameter(q, "table", name_room, sizeof name_room, &name);
        (void)parameter(q, "prefix", prefix_room, sizeof prefix_room, &prefix);
        struct table *table = table_named(name);
        size_t count = 0;
        struct cursor c;
        for (struct row *row = table ? row_seek(table, (struct key){LIT(""), LIT("")}, &c) : NULL; row;
             row = cursor_next(&c))
            count += starts(row->key.row, prefix);
        outf(&body, "{\"count\":%zu}\n", count);
    } else if (same(q->path, LIT("/_fault"))) {
        if (same(q->method, LIT("POST"))) {
            end_hanging();
            if (!rules_read(q->body)) {
                answer_fault(o, &BAD_INPUT);
                return;
            }
        }
        rules_hits(&body);
    } else {
        outf(&body,
             "{\"requests\":%" PRIu64 ",\"batches\":%" PRIu64 ",\"operations\":%" PRIu64
             ",\"refused\":%" PRIu64 "}\n",
             stats.requests, stats.batches, stats.operations, stats.refused);
    }
    write_head(o, 200);
    write_body(o, "application/json", &body);
    free(body.p);
}

static void answer(struct out *o, const struct request *q)
{
    if (starts(q->path, LIT("/_"))) {
        answer_control(o, q);
        return;
    }
    stats.requests++;
    const struct fault *fault = check_signature(q);
    if (!fault)
        fault = check_headers(q);
    if (fault) {
        answer_fault(o, fault);
        return;
    }
    struct text name = q->path;
    if (take(&name, LIT("/")))
        (void)cut(&name, LIT("/"));
    if (same(name, LIT("Tables")))
        answer_tables(o, q);
    else if (same(q->method, LIT("DELETE")) && starts(name, LIT("Tables(")))
        answer_table_gone(o, name);
    else if (same(name, LIT("$batch")) || same(name, LIT("%24batch")))
        answer_batch(o, q);
    else if (same(q->method, LIT("GET")))
        answer_get(o, q);
    else
        answer_operation(o, q);
}

static _Noreturn void usage(void)
{
    fputs("usage: fake_table [--port N] [--latency-ms N] [--scan-rows N] [--journal FILE] "
          "[--account NAME --key BASE64]\n",
          stderr);
    exit(64);
}

static size_t option_number(const char *text, size_t max)
{
    size_t number;
    if (!number_of(text_of(text), max, &number))
        usage();
    return number;
}

static bool account_key_read(struct text base64)
{
    if (base64.n == 0 || base64.n > sizeof account.key || !is_base64(base64))
        return false;
    int n = EVP_DecodeBlock(account.key, (const unsigned char *)base64.p, (int)base64.n);
    account.key_bytes = (size_t)n; /* it counts the padding too */
    for (size_t i = base64.n; i > 0 && base64.p[i - 1] == '='; i--)
        account.key_bytes--;
    return true;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {{"port", required_argument, NULL, 'p'},
                                            {"latency-ms", required_argument, NULL, 'l'},
                                            {"scan-rows", required_argument, NULL, 's'},
                                            {"account", required_argument, NULL, 'a'},
                                            {"key", required_argument, NULL, 'k'},
                                            {"journal", required_argument, NULL, 'j'},
                                            {NULL, 0, NULL, 0}};
    /* The published account of Microsoft's storage emulator. */
    const char *key =
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
    account.name = "devstoreaccount1";
    const char *journal = NULL;
    uint16_t port = 0;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'p')
            port = (uint16_t)option_number(optarg, UINT16_MAX);
        else if (o == 'l')
            latency_ns = (int64_t)option_number(optarg, 60000) * 1000000;
        else if (o == 's')
            scan_rows = option_number(optarg, SIZE_MAX / 16);
        else if (o == 'j')
            journal = optarg;
        else if (o == 'a')
            account.name = optarg;
        else if (o == 'k')
            key = optarg;
        else
            usage();
    }
    if (optind != argc || !account_key_read(text_of(key)))
        usage();
    if (journal)
        journal_open(journal);
    serve(listen_on(port));
}
