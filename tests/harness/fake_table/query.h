/* query.h - reading: one row by its key, or pages of rows that match a filter. */
#ifndef FAKE_TABLE_QUERY_H
#define FAKE_TABLE_QUERY_H

/* System */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Parts below this one */
#include "tests/harness/fake_table/answer.h"
#include "tests/harness/fake_table/request.h"

enum { PAGE_ROWS = 1000, PAGE_BYTES = 4 * 1024 * 1024, FILTER_NODES = 64, FILTER_COMPARISONS = 15 };

static size_t scan_rows = 100000; /* looked at for one page */

enum relation { EQ, NE, GT, GE, LT, LE };

/* A comparison, or two nodes joined. */
struct node {
    enum { COMPARE, AND, OR } kind;
    struct node *left, *right;
    struct text column;
    enum relation relation;
    enum edm type;
    struct text value;
};

struct filter {
    struct node nodes[FILTER_NODES];
    size_t used;
    size_t comparisons;
    int depth;
    struct text rest;
    struct node *root; /* NULL: every row */
};

static struct node *new_node(struct filter *f, struct node node)
{
    if (f->used == FILTER_NODES)
        return NULL;
    f->nodes[f->used] = node;
    return &f->nodes[f->used++];
}

static void skip_spaces(struct filter *f)
{
    while (take(&f->rest, LIT(" ")))
        ;
}

static struct text take_word(struct filter *f)
{
    size_t n = 0;
    skip_spaces(f);
    while (n < f->rest.n && f->rest.p[n] != ' ' && f->rest.p[n] != '(' && f->rest.p[n] != ')' &&
           f->rest.p[n] != '\'')
        n++;
    struct text word = {f->rest.p, n};
    f->rest = skip(f->rest, n);
    return word;
}

static bool take_keyword(struct filter *f, struct text word)
{
    struct filter ahead = {.rest = f->rest};
    if (!same(take_word(&ahead), word))
        return false;
    f->rest = ahead.rest;
    return true;
}

static struct node *parse_comparison(struct filter *f)
{
    static const struct text relations[] = {[EQ] = LIT("eq"), [NE] = LIT("ne"), [GT] = LIT("gt"),
                                            [GE] = LIT("ge"), [LT] = LIT("lt"), [LE] = LIT("le")};
    struct node node = {.kind = COMPARE, .column = take_word(f)};
    struct text relation = take_word(f);
    while (node.relation <= LE && !same(relations[node.relation], relation))
        node.relation++;
    struct text word = take_word(f);
    bool quoted = f->rest.n && f->rest.p[0] == '\'';
    if (node.relation > LE || !is_identifier(node.column) || ++f->comparisons > FILTER_COMPARISONS ||
        (quoted && !take_quoted(&f->rest, &node.value)))
        return NULL;
    if (quoted) {
        node.type = same(word, LIT("datetime")) ? DATETIME : same(word, LIT("guid")) ? GUID : STRING;
        bool good = node.type != STRING || word.n == 0;
        return good && (node.type != DATETIME || is_time(node.value)) ? new_node(f, node) : NULL;
    }
    node.value = word;
    node.type = same(word, LIT("true")) || same(word, LIT("false")) ? BOOLEAN
                : is_integer(word, INT32_MAX)                       ? INT32
                                                                    : UNTYPED;
    return node.type != UNTYPED ? new_node(f, node) : NULL;
}

static struct node *parse_or(struct filter *f);

static struct node *parse_term(struct filter *f)
{
    skip_spaces(f);
    if (!take(&f->rest, LIT("(")))
        return parse_comparison(f);
    if (++f->depth > FILTER_NODES)
        return NULL;
    struct node *inner = parse_or(f);
    skip_spaces(f);
    return take(&f->rest, LIT(")")) ? inner : NULL;
}

static struct node *parse_and(struct filter *f)
{
    struct node *left = parse_term(f);
    while (left && take_keyword(f, LIT("and"))) {
        struct node *right = parse_term(f);
        left = right ? new_node(f, (struct node){.kind = AND, .left = left, .right = right}) : NULL;
    }
    return left;
}

static struct node *parse_or(struct filter *f)
{
    struct node *left = parse_and(f);
    while (left && take_keyword(f, LIT("or"))) {
        struct node *right = parse_and(f);
        left = right ? new_node(f, (struct node){.kind = OR, .left = left, .right = right}) : NULL;
    }
    return left;
}

/* Times may have different numbers of digits behind the second. */
static int time_compare(struct text a, struct text b)
{
    int order = memcmp(a.p, b.p, 19);
    for (size_t i = 20; order == 0 && i < 27; i++) {
        char digit_a = i < a.n - 1 ? a.p[i] : '0';
        char digit_b = i < b.n - 1 ? b.p[i] : '0';
        order = digit_a - digit_b;
    }
    return order;
}

/* A row without the column, or with another type in it, matches nothing. */
static bool compare_matches(const struct node *node, const struct row *row)
{
    struct property p = {.type = STRING};
    struct stamp time;
    if (same(node->column, LIT("PartitionKey"))) {
        p.value = row->key.partition;
    } else if (same(node->column, LIT("RowKey"))) {
        p.value = row->key.row;
    } else if (same(node->column, LIT("Timestamp"))) {
        time = stamp_of(row->ticks, ":");
        p = (struct property){.type = DATETIME, .value = text_of(time.text)};
    } else {
        struct text packed = row->packed;
        bool found = false;
        while (!found && take_property(&packed, &p))
            found = same(p.name, node->column);
        if (!found)
            return false;
    }
    if (p.type != node->type)
        return false;
    int order;
    if (p.type == DATETIME) {
        order = time_compare(p.value, node->value);
    } else if (p.type == INT32) {
        int64_t a = int32_of(p.value);
        int64_t b = int32_of(node->value);
        order = (a > b) - (a < b);
    } else {
        order = compare(p.value, node->value);
    }
    switch (node->relation) {
    case EQ:
        return order == 0;
    case NE:
        return order != 0;
    case GT:
        return order > 0;
    case GE:
        return order >= 0;
    case LT:
        return order < 0;
    case LE:
        return order <= 0;
    }
    return false;
}

static bool node_matches(const struct node *node, const struct row *row)
{
    switch (node->kind) {
    case AND:
        return node_matches(node->left, row) && node_matches(node->right, row);
    case OR:
        return node_matches(node->left, row) || node_matches(node->right, row);
    case COMPARE:
        return compare_matches(node, row);
    }
    return false;
}

/* Which keys the comparisons that all rows must meet leave to look at. */
struct range {
    bool one_partition;
    struct key from;
    struct text to; /* the last RowKey in one partition; p is NULL when open */
};

static void narrow(struct range *range, const struct node *node)
{
    if (node->kind == AND) {
        narrow(range, node->left);
        narrow(range, node->right);
    }
    if (node->kind != COMPARE || node->type != STRING)
        return;
    if (node->relation == EQ && same(node->column, LIT("PartitionKey"))) {
        range->one_partition = true;
        range->from.partition = node->value;
    }
    if (!same(node->column, LIT("RowKey")))
        return;
    if (node->relation == EQ || node->relation == GE || node->relation == GT)
        range->from.row = node->value;
    if (node->relation == EQ || node->relation == LE || node->relation == LT)
        range->to = node->value;
}

/* Continuation tokens are opaque: "1!" and the key in hexadecimal. */
static void write_token(struct out *o, const char *name, struct text key)
{
    outf(o, "x-ms-continuation-%s: 1!", name);
    for (size_t i = 0; i < key.n; i++)
        outf(o, "%02x", (unsigned char)key.p[i]);
    out_add(o, LIT("\r\n"));
}

/* 1: *key is its key; 0: not there; -1: broken. */
static int read_token(const struct request *q, const char *name, char *room, struct text *key)
{
    char raw[2 * KEY_BYTES + 2];
    struct text value;
    if (!parameter(q, name, raw, sizeof raw, &value))
        return 0;
    if (!take(&value, LIT("1!")) || value.n % 2)
        return -1;
    for (size_t i = 0; i < value.n; i += 2) {
        if (hex(value.p[i]) < 0 || hex(value.p[i + 1]) < 0)
            return -1;
        room[i / 2] = (char)(hex(value.p[i]) * 16 + hex(value.p[i + 1]));
    }
    *key = (struct text){room, value.n / 2};
    return 1;
}

static bool read_select(const struct request *q, char *select, size_t room)
{
    struct text value;
    char raw[4096];
    select[0] = '\0';
    if (!parameter(q, "$select", raw, sizeof raw, &value) || value.n == 0)
        return true;
    return (size_t)snprintf(select, room, ",%.*s,", (int)value.n, value.p) < room;
}

static void answer_query(struct out *o, const struct request *q, const struct address *address)
{
    static char filter_room[16 * 1024];
    char select[4096 + 8], top_room[16], partition_room[KEY_BYTES], row_room[KEY_BYTES];
    struct table *table = table_named(address->name);
    struct filter filter = {.root = NULL};
    struct range range = {0};
    struct text top;
    size_t limit = PAGE_ROWS;
    bool good = read_select(q, select, sizeof select);
    if (parameter(q, "$top", top_room, sizeof top_room, &top))
        good = good && number_of(top, PAGE_ROWS, &limit) && limit > 0;
    if (parameter(q, "$filter", filter_room, sizeof filter_room, &filter.rest)) {
        filter.root = parse_or(&filter);
        skip_spaces(&filter);
        good = good && filter.root && filter.rest.n == 0;
    }
    if (good && filter.root)
        narrow(&range, filter.root);
    int next_partition = read_token(q, "NextPartitionKey", partition_room, &range.from.partition);
    int next_row = next_partition == 1 ? read_token(q, "NextRowKey", row_room, &range.from.row) : 0;
    if (next_partition == 1 ? next_row == 0 : !range.one_partition)
        range.from.row = LIT(""); /* a bound on RowKey is one inside every partition */
    if (!good || next_partition < 0 || next_row < 0 || !table) {
        answer_fault(o, good && !table ? &NO_TABLE : &BAD_INPUT);
        return;
    }

    bool metadata = !header_has(q, "Accept", "nometadata");
    struct out body = {.limit = ANSWER_BYTES};
    out_add(&body, LIT("{"));
    if (metadata)
        outf(&body, "\"odata.metadata\":\"http://127.0.0.1/%s/$metadata#%s\",", account.name, table->name);
    out_add(&body, LIT("\"value\":["));
    size_t seen = 0;
    size_t found = 0;
    struct text partition = range.from.partition;
    struct cursor cursor;
    struct row *row = row_seek(table, range.from, &cursor);
    while (row && seen < scan_rows && found < limit && body.n < PAGE_BYTES) {
        if (range.one_partition &&
            (!same(row->key.partition, partition) || (range.to.p && compare(row->key.row, range.to) > 0))) {
            row = NULL;
            break;
        }
        if (!filter.root || node_matches(filter.root, row)) {
            if (found++)
                out_add(&body, LIT(","));
            row_json(&body, row, select, metadata);
        }
        seen++;
        row = cursor_next(&cursor);
    }
    out_add(&body, LIT("]}"));
    write_head(o, 200);
    if (row) {
        write_token(o, "NextPartitionKey", row->key.partition);
        write_token(o, "NextRowKey", row->key.row);
    }
    write_body(o, metadata ? JSON_TYPE : "application/json;odata=nometadata;charset=utf-8", &body);
    free(body.p);
}

static void answer_get(struct out *o, const struct request *q)
{
    struct address address;
    char select[4096 + 8];
    const struct fault *fault = address_read(q->path, &address);
    if (!fault && !address.keyed) {
        answer_query(o, q, &address);
        return;
    }
    struct table *table = fault ? NULL : table_named(address.name);
    struct row *row = table ? row_find(table, address.key) : NULL;
    if (!fault)
        fault = !table                                   ? &NO_TABLE
                : !row                                   ? &NO_ENTITY
                : !read_select(q, select, sizeof select) ? &BAD_INPUT
                                                         : NULL;
    if (fault) {
        answer_fault(o, fault);
        return;
    }
    struct out body = {.limit = ANSWER_BYTES};
    row_json(&body, row, select, !header_has(q, "Accept", "nometadata"));
    write_head(o, 200);
    outf(o, "ETag: %s\r\n", etag_of(row->ticks).text);
    write_body(o, JSON_TYPE, &body);
    free(body.p);
}

#endif
