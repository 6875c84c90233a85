/* operation.h - one change of one row.
 *
 * First planned, which changes nothing, then done, which cannot fail: so a batch is all or nothing.
 */
#ifndef FAKE_TABLE_OPERATION_H
#define FAKE_TABLE_OPERATION_H

/* System */
#include <stdbool.h>
#include <string.h>

/* Parts below this one */
#include "tests/harness/fake_table/answer.h"
#include "tests/harness/fake_table/journal.h"
#include "tests/harness/fake_table/request.h"

enum verb { INSERT, MERGE, REPLACE, DELETE };

struct operation {
    enum verb verb;
    struct address address;
    struct key key;
    struct text if_match; /* p is NULL when it is not there */
    bool echo;            /* the answer to an insert is the entity */
    bool metadata;
    struct table *table;
    struct row *old;
    struct row *made;
};

static const struct fault *operation_read(const struct request *q, struct operation *op)
{
    struct text method = q->method;
    if (same(method, LIT("POST")) && header(q, "X-HTTP-Method").p)
        method = header(q, "X-HTTP-Method");
    op->old = NULL;
    op->made = NULL;
    op->if_match = header(q, "If-Match");
    op->echo = !header_has(q, "Prefer", "return-no-content");
    op->metadata = !header_has(q, "Accept", "nometadata");
    if (same(method, LIT("POST")))
        op->verb = INSERT;
    else if (same(method, LIT("MERGE")) || same(method, LIT("PATCH")))
        op->verb = MERGE;
    else if (same(method, LIT("PUT")))
        op->verb = REPLACE;
    else if (same(method, LIT("DELETE")))
        op->verb = DELETE;
    else
        return &NO_METHOD;
    const struct fault *fault = address_read(q->path, &op->address);
    if (fault)
        return fault;
    if (op->address.keyed == (op->verb == INSERT))
        return &NO_METHOD;
    if (op->verb != DELETE && !header_has(q, "Content-Type", "application/json"))
        return &MISSING_VALUE;
    return NULL;
}

/* The condition under which a row may be changed. */
static const struct fault *check_match(const struct operation *op)
{
    if (op->verb == INSERT)
        return op->if_match.p ? &BAD_INPUT : op->old ? &ENTITY_EXISTS : NULL;
    if (!op->if_match.p)
        return op->verb == DELETE ? &MISSING_HEADER : NULL;
    if (!op->old)
        return &NO_ENTITY;
    struct stamp etag = etag_of(op->old->ticks);
    bool matches = same(op->if_match, LIT("*")) || same(op->if_match, text_of(etag.text));
    if (!matches && !starts(op->if_match, LIT("W/\"datetime'")))
        return &BAD_INPUT;
    return matches ? NULL : &ENTITY_CHANGED;
}

/* Finds out whether the operation is possible and makes its row; changes nothing. */
static const struct fault *operation_plan(struct operation *op, struct text body)
{
    static struct entity entity;
    static struct out room = {.limit = 2 * BODY_BYTES};
    const struct fault *fault = NULL;
    op->table = table_named(op->address.name);
    op->key = op->address.key;
    if (!op->table)
        return &NO_TABLE;
    if (op->verb != DELETE) {
        room.n = 0;
        room.full = false;
        fault = entity_read(body, &room, &entity);
        if (fault)
            return fault;
        if (op->verb == INSERT)
            op->key = entity.key;
        else if (key_compare(op->key, entity.key) != 0)
            return &BAD_INPUT;
    }
    op->old = row_find(op->table, op->key);
    fault = check_match(op);
    if (fault || op->verb == DELETE)
        return fault;
    if (op->verb == MERGE && op->old)
        fault = entity_merge(&entity, op->old);
    if (fault)
        return fault;
    if (entity.count > PROPERTY_COUNT)
        return &TOO_MANY_PROPERTIES;
    if (stored_bytes(&entity) > ENTITY_BYTES)
        return &ENTITY_TOO_LARGE;
    op->made = row_make(&entity);
    if (!op->made)
        return &STORE_FULL;
    op->key = op->made->key;
    return NULL;
}

/* journal_commit has to follow the last of a transaction's. */
static void operation_do(const struct operation *op)
{
    journal_note(op->made ? JOURNAL_ROW : JOURNAL_ROW_GONE, op->table, op->key, op->made);
    row_change(op->table, op->old, op->made);
    stats.operations++;
}

/* The answer of one operation behind the status line. */
static void write_result(struct out *o, const struct operation *op, bool in_batch)
{
    bool echo = op->verb == INSERT && op->echo;
    struct out body = {.limit = ANSWER_BYTES};
    if (in_batch)
        outf(o, "HTTP/1.1 %d %s\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n",
             echo ? 201 : 204, reason_of(echo ? 201 : 204));
    else
        write_head(o, echo ? 201 : 204);
    if (op->verb == INSERT && !echo)
        out_add(o, LIT("Preference-Applied: return-no-content\r\n"));
    out_add(o, LIT("DataServiceVersion: 3.0;\r\n"));
    if (op->made)
        outf(o, "ETag: %s\r\n", etag_of(op->made->ticks).text);
    if (echo) {
        row_json(&body, op->made, "", op->metadata);
        write_body(o, JSON_TYPE, &body);
    } else {
        out_add(o, in_batch ? LIT("\r\n") : LIT("Content-Length: 0\r\n\r\n"));
    }
    free(body.p);
}

static void answer_operation(struct out *o, const struct request *q)
{
    static struct operation op;
    const struct fault *fault = operation_read(q, &op);
    if (!fault)
        fault = operation_plan(&op, q->body);
    if (fault) {
        answer_fault(o, fault);
        return;
    }
    operation_do(&op);
    journal_commit();
    write_result(o, &op, false);
}

#endif
