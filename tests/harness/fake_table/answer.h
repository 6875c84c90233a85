/* answer.h - what goes back: heads, faults, rows as JSON. */
#ifndef FAKE_TABLE_ANSWER_H
#define FAKE_TABLE_ANSWER_H

/* System */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* Parts below this one */
#include "tests/harness/fake_table/rows.h"

enum { ANSWER_BYTES = 8 * 1024 * 1024 };

static void write_date(struct out *o)
{
    static time_t last;
    static char text[64];
    time_t now = time(NULL);
    if (now != last) {
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        last = now;
    }
    outf(o, "Date: %s\r\n", text);
}

static void write_request_id(struct out *o)
{
    outf(o, "00000000-0000-4000-8000-%012" PRIx64, stats.requests);
}

static void write_head(struct out *o, int status)
{
    outf(o, "HTTP/1.1 %d %s\r\n", status, reason_of(status));
    write_date(o);
    out_add(o, LIT("Server: fake_table\r\nx-ms-version: 2019-02-02\r\nx-ms-request-id: "));
    write_request_id(o);
    out_add(o, LIT("\r\n"));
}

static void write_body(struct out *o, const char *type, const struct out *body)
{
    outf(o, "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n", type, body->n);
    out_add(o, (struct text){body->p, body->n});
    o->full = o->full || body->full;
}

#define JSON_TYPE "application/json;odata=minimalmetadata;streaming=true;charset=utf-8"

/* index: the operation of a batch, or -1. */
static void fault_json(struct out *o, const struct fault *fault, int index)
{
    outf(o, "{\"odata.error\":{\"code\":\"%s\",\"message\":{\"lang\":\"en-US\",\"value\":\"", fault->code);
    if (index >= 0)
        outf(o, "%d:", index);
    outf(o, "%s\\nRequestId:", fault->message);
    write_request_id(o);
    outf(o, "\\nTime:%s\"}}}", stamp_of(next_ticks(), ":").text);
}

static void answer_fault(struct out *o, const struct fault *fault)
{
    struct out body = {.limit = ANSWER_BYTES};
    stats.refused++;
    fault_json(&body, fault, -1);
    write_head(o, fault->status);
    write_body(o, JSON_TYPE, &body);
    free(body.p);
}

/* select: "" for all, else the wanted names with commas around each. */
static bool selected(const char *select, struct text name)
{
    char word[PROPERTY_NAME_BYTES + 3];
    snprintf(word, sizeof word, ",%.*s,", (int)name.n, name.p);
    return !select[0] || strstr(select, word);
}

static void member(struct out *o, bool *first, struct text name)
{
    out_add(o, *first ? LIT("{") : LIT(","));
    *first = false;
    out_json(o, name);
    out_add(o, LIT(":"));
}

static void row_json(struct out *o, const struct row *row, const char *select, bool metadata)
{
    bool first = true;
    if (metadata) {
        struct stamp etag = etag_of(row->ticks);
        member(o, &first, LIT("odata.etag"));
        out_json(o, text_of(etag.text));
    }
    struct stamp time = stamp_of(row->ticks, ":");
    const struct property system[] = {{LIT("PartitionKey"), row->key.partition, STRING, TEXT},
                                      {LIT("RowKey"), row->key.row, STRING, TEXT},
                                      {LIT("Timestamp"), text_of(time.text), STRING, TEXT}};
    for (size_t i = 0; i < 3; i++) {
        if (selected(select, system[i].name)) {
            member(o, &first, system[i].name);
            out_json(o, system[i].value);
        }
    }
    struct text packed = row->packed;
    struct property p;
    while (take_property(&packed, &p)) {
        if (!selected(select, p.name))
            continue;
        if (metadata && EDM[p.type].annotated) {
            char name[PROPERTY_NAME_BYTES + 16];
            int n = snprintf(name, sizeof name, "%.*s@odata.type", (int)p.name.n, p.name.p);
            member(o, &first, (struct text){name, (size_t)n});
            out_json(o, EDM[p.type].name);
        }
        member(o, &first, p.name);
        if (EDM[p.type].quoted)
            out_json(o, p.value);
        else
            out_add(o, p.value);
    }
    out_add(o, first ? LIT("{}") : LIT("}"));
}

#endif
