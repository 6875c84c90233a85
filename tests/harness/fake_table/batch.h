/* batch.h - entity group transactions: multipart/mixed with one change set of application/http parts. */
#ifndef FAKE_TABLE_BATCH_H
#define FAKE_TABLE_BATCH_H

/* System */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Parts below this one */
#include "tests/harness/fake_table/operation.h"

enum { BATCH_OPERATIONS = 100 };

/* Cuts off header lines and the empty line behind them. */
static bool take_head(struct text *rest, struct text *head)
{
    *head = (struct text){rest->p, 0};
    if (take(rest, LIT("\r\n")))
        return true;
    size_t n = find(*rest, LIT("\r\n\r\n"));
    if (n == rest->n)
        return false;
    head->n = n + 2;
    *rest = skip(*rest, n + 4);
    return true;
}

static bool boundary_of(struct text type, char *delimiter, size_t room, struct text *text)
{
    size_t at = find(type, LIT("boundary="));
    if (!starts(type, LIT("multipart/mixed")) || at == type.n)
        return false;
    struct text value = skip(type, at + strlen("boundary="));
    value = cut(&value, LIT(";"));
    if (value.n >= 2 && value.p[0] == '"' && value.p[value.n - 1] == '"')
        value = (struct text){value.p + 1, value.n - 2};
    int n = snprintf(delimiter, room, "\r\n--%.*s", (int)value.n, value.p);
    *text = (struct text){delimiter, (size_t)n};
    return value.n > 0 && value.n <= 70 && (size_t)n < room; /* RFC 2046 5.1.1 */
}

/* Cuts the next part off a multipart body. 1: *part is it; 0: that was the last; -1: broken. */
static int take_part(struct text *rest, struct text delimiter, struct text *part)
{
    struct text line = skip(delimiter, 2);
    while (take(rest, LIT("\r\n"))) /* empty lines before a delimiter are harmless */
        ;
    if (!take(rest, line))
        return -1;
    if (take(rest, LIT("--")))
        return 0;
    if (!take(rest, LIT("\r\n")))
        return -1;
    size_t n = find(*rest, delimiter);
    if (n == rest->n)
        return -1;
    *part = (struct text){rest->p, n};
    *rest = skip(*rest, n + 2);
    return 1;
}

/* The request inside a part of a change set. */
static bool part_request(struct text part, struct request *q)
{
    struct request mime = {0};
    *q = (struct request){0};
    if (!take_head(&part, &mime.head) || !header_has(&mime, "Content-Type", "application/http") ||
        !header_has(&mime, "Content-Transfer-Encoding", "binary"))
        return false;
    struct text line = cut(&part, LIT("\r\n"));
    if (find(line, LIT(" http")) == line.n || !request_line(line, q) || !take_head(&part, &q->head))
        return false;
    q->body = part;
    return true;
}

/* Plans the operation at this index and holds it against those before it. */
static const struct fault *plan_member(const struct request *q, struct operation *ops, size_t index)
{
    struct operation *op = &ops[index];
    const struct fault *fault = operation_read(q, op);
    if (!fault)
        fault = operation_plan(op, q->body);
    if (fault)
        return fault;
    if (op->table != ops[0].table)
        return &BAD_INPUT;
    if (!same(op->key.partition, ops[0].key.partition))
        return &DIFFERENT_PARTITIONS;
    for (size_t i = 0; i < index; i++) {
        if (same(op->key.row, ops[i].key.row))
            return &DUPLICATE_ROW;
    }
    return NULL;
}

static void write_part_start(struct out *body)
{
    out_add(body, LIT("--changesetresponse_fake\r\nContent-Type: application/http\r\n"
                      "Content-Transfer-Encoding: binary\r\n\r\n"));
}

static void write_batch_start(struct out *body)
{
    out_add(body, LIT("--batchresponse_fake\r\n"
                      "Content-Type: multipart/mixed; boundary=changesetresponse_fake\r\n\r\n"));
}

static void write_batch(struct out *o, struct out *body)
{
    out_add(body, LIT("--changesetresponse_fake--\r\n--batchresponse_fake--\r\n"));
    write_head(o, 202);
    write_body(o, "multipart/mixed; boundary=batchresponse_fake", body);
}

/* The fault of the operation at this index, instead of the answers of all. */
static void write_member_fault(struct out *body, const struct fault *fault, size_t index)
{
    write_part_start(body);
    outf(body, "HTTP/1.1 %d %s\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n",
         fault->status, reason_of(fault->status));
    out_add(body, LIT("DataServiceVersion: 3.0;\r\nContent-Type: " JSON_TYPE "\r\n\r\n"));
    fault_json(body, fault, (int)index);
    out_add(body, LIT("\r\n"));
}

/* All or nothing: the rows of a batch differ, so each one's success depends on nothing but the state before
 * it, and the plans hold until the last of them is made. */
static void answer_batch(struct out *o, const struct request *q)
{
    static struct operation ops[BATCH_OPERATIONS];
    char outer_room[128], inner_room[128];
    struct text outer, inner, change_set, part, rest = q->body;
    struct request set = {0};
    if (!boundary_of(header(q, "Content-Type"), outer_room, sizeof outer_room, &outer) ||
        take_part(&rest, outer, &change_set) != 1 || take_part(&rest, outer, &part) != 0 ||
        !take_head(&change_set, &set.head) ||
        !boundary_of(header(&set, "Content-Type"), inner_room, sizeof inner_room, &inner)) {
        answer_fault(o, &BAD_INPUT);
        return;
    }

    size_t count = 0;
    size_t failed = 0;
    const struct fault *fault = NULL;
    int more;
    while ((more = take_part(&change_set, inner, &part)) == 1) {
        struct request member_request;
        if (count == BATCH_OPERATIONS) {
            fault = &TOO_MANY_OPERATIONS;
            failed = 0;
            break;
        }
        failed = count;
        ops[count].made = NULL;
        fault = part_request(part, &member_request) ? plan_member(&member_request, ops, count) : &BAD_INPUT;
        count++;
        if (fault)
            break;
    }
    if (!fault && (more != 0 || count == 0)) {
        for (size_t i = 0; i < count; i++)
            row_free(ops[i].made);
        answer_fault(o, &BAD_INPUT);
        return;
    }

    struct out body = {.limit = ANSWER_BYTES};
    write_batch_start(&body);
    stats.batches++;
    stats.refused += fault != NULL;
    if (fault)
        write_member_fault(&body, fault, failed);
    for (size_t i = 0; i < count; i++) {
        if (fault) {
            row_free(ops[i].made);
            continue;
        }
        operation_do(&ops[i]);
        write_part_start(&body);
        write_result(&body, &ops[i], true);
        out_add(&body, LIT("\r\n"));
    }
    journal_commit();
    write_batch(o, &body);
    free(body.p);
}

static void answer_member_fault(struct out *o, const struct fault *fault, size_t index)
{
    struct out body = {.limit = ANSWER_BYTES};
    write_batch_start(&body);
    write_member_fault(&body, fault, index);
    write_batch(o, &body);
    free(body.p);
}

#endif
