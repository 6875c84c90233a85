/* rows.h - the tables: a skip list of rows each, in the order of their keys. */
#ifndef FAKE_TABLE_ROWS_H
#define FAKE_TABLE_ROWS_H

/* System */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* Parts below this one */
#include "tests/harness/fake_table/entity.h"
#include "tests/harness/fake_table/stamp.h"

enum { TABLES = 16, TABLE_NAME_BYTES = 63, LEVELS = 20, PARTITIONS = 4096 };
static const size_t STORE_BYTES = (size_t)4 * 1024 * 1024 * 1024; /* all rows; then 503 */

/* What a search looks at stands together at the end: with many rows its time is that of the memory. */
struct row {
    uint64_t ticks;
    struct text packed; /* the properties, see row_make */
    size_t bytes;
    int height;
    struct key key;
    uint64_t begin[2]; /* of the RowKey, see begin_of */
    struct row *next[];
};

struct table {
    char name[TABLE_NAME_BYTES + 1];
    size_t count;
    struct row *first[LEVELS];
};
static struct table tables[TABLES];
static size_t table_count;
static size_t store_bytes;

/* Names of tables are not case-sensitive. */
static struct table *table_named(struct text name)
{
    for (size_t i = 0; i < table_count; i++) {
        if (strlen(tables[i].name) == name.n && strncasecmp(tables[i].name, name.p, name.n) == 0)
            return &tables[i];
    }
    return NULL;
}

/* NULL: there are too many. */
static struct table *table_add(struct text name)
{
    if (table_count == TABLES)
        return NULL;
    struct table *table = &tables[table_count++];
    *table = (struct table){.count = 0};
    memcpy(table->name, name.p, name.n);
    return table;
}

static int key_compare(struct key a, struct key b)
{
    int order = compare(a.partition, b.partition);
    return order ? order : compare(a.row, b.row);
}

/* The partition keys that there have been, each once, so that rows of one partition are seen to be by the address. */
static struct text partitions[PARTITIONS];
static size_t partition_count;

/* The one that is kept, or, with too many of them, the text as it came. */
static struct text partition_kept(struct text partition)
{
    uint64_t hash = 0xCBF29CE484222325u; /* FNV-1a */
    for (size_t i = 0; i < partition.n; i++)
        hash = (hash ^ (unsigned char)partition.p[i]) * 0x100000001B3u;
    size_t place = hash % PARTITIONS;
    while (partitions[place].p && !same(partitions[place], partition))
        place = (place + 1) % PARTITIONS;
    if (!partitions[place].p && partition_count < PARTITIONS / 2) {
        char *copy = malloc(partition.n + 1);
        if (!copy)
            die("memory");
        memcpy(copy, partition.p, partition.n);
        partitions[place] = (struct text){copy, partition.n};
        partition_count++;
    }
    return partitions[place].p ? partitions[place] : partition;
}

/* The first sixteen bytes as numbers that compare as the text does. */
static void begin_of(struct text t, uint64_t begin[2])
{
    begin[0] = begin[1] = 0;
    for (size_t i = 0; i < 16 && i < t.n; i++)
        begin[i / 8] |= (uint64_t)(unsigned char)t.p[i] << (56 - 8 * (i % 8));
}

/* Whether the row comes before the key, whose partition is kept. */
static bool is_before(const struct row *row, struct key key, const uint64_t begin[2])
{
    if (row->key.partition.p != key.partition.p) {
        int order = compare(row->key.partition, key.partition);
        if (order)
            return order < 0;
    }
    for (size_t i = 0; i < 2; i++) {
        if (row->begin[i] != begin[i])
            return row->begin[i] < begin[i];
    }
    return compare(row->key.row, key.row) < 0;
}

/* The first row at or behind the key; links, unless NULL, gets the pointers that lead there. */
static struct row *row_seek(struct table *t, struct key key, struct row ***links)
{
    struct row **next = t->first;
    uint64_t begin[2];
    key.partition = partition_kept(key.partition);
    begin_of(key.row, begin);
    for (int level = LEVELS - 1; level >= 0; level--) {
        while (next[level] && is_before(next[level], key, begin))
            next = next[level]->next;
        if (links)
            links[level] = &next[level];
    }
    return next[0];
}

static struct row *row_find(struct table *t, struct key key)
{
    struct row *row = row_seek(t, key, NULL);
    return row && key_compare(row->key, key) == 0 ? row : NULL;
}

static void row_free(struct row *row)
{
    if (row)
        store_bytes -= row->bytes;
    free(row);
}

/* Takes `old` out of the table and frees it, puts `made` in; either may be NULL. */
static void row_change(struct table *t, struct row *old, struct row *made)
{
    struct row **links[LEVELS];
    row_seek(t, old ? old->key : made->key, links);
    if (old) {
        for (int level = 0; level < old->height; level++)
            *links[level] = old->next[level];
        t->count--;
    }
    if (made) {
        for (int level = 0; level < made->height; level++) {
            made->next[level] = *links[level];
            *links[level] = made;
        }
        t->count++;
    }
    row_free(old);
}

static void table_remove(struct table *t)
{
    while (t->first[0])
        row_change(t, t->first[0], NULL);
    *t = tables[--table_count];
}

static int random_height(void)
{
    static uint64_t state = 0x9E3779B97F4A7C15u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    int height =
        1 + __builtin_ctzll(state | 1ull << 38) / 2; /* a quarter of the rows of each level goes up */
    return height < LEVELS ? height : LEVELS;
}

struct packed_head {
    uint32_t value_bytes;
    uint8_t name_bytes;
    uint8_t type;
};

static char *put(char *to, struct text t)
{
    if (t.n)
        memcpy(to, t.p, t.n);
    return to + t.n;
}

/* A row with its keys in one block with room for its properties; NULL: the store is full. */
static struct row *row_new(struct key key, size_t packed, uint64_t ticks)
{
    int height = random_height();
    size_t head = sizeof(struct row) + (size_t)height * sizeof(struct row *);
    size_t bytes = head + key.partition.n + key.row.n + packed;
    if (bytes > STORE_BYTES - store_bytes)
        return NULL;
    struct row *row = malloc(bytes);
    if (!row)
        return NULL;
    store_bytes += bytes;
    char *p = (char *)row + head;
    *row = (struct row){.ticks = ticks, .bytes = bytes, .height = height};
    begin_of(key.row, row->begin);
    row->key.partition = partition_kept(key.partition);
    if (row->key.partition.p == key.partition.p) { /* not kept */
        row->key.partition.p = p;
        p = put(p, key.partition);
    }
    row->key.row = (struct text){p, key.row.n};
    p = put(p, key.row);
    row->packed = (struct text){p, packed};
    return row;
}

static struct row *row_make(const struct entity *e)
{
    size_t packed = 0;
    for (size_t i = 0; i < e->count; i++)
        packed += sizeof(struct packed_head) + e->properties[i].name.n + e->properties[i].value.n;
    struct row *row = row_new(e->key, packed, next_ticks());
    if (!row)
        return NULL;
    char *p = (char *)(uintptr_t)row->packed.p; /* its own room */
    for (size_t i = 0; i < e->count; i++) {
        const struct property *property = &e->properties[i];
        struct packed_head h = {(uint32_t)property->value.n, (uint8_t)property->name.n,
                                (uint8_t)property->type};
        p = put(p, (struct text){(const char *)&h, sizeof h});
        p = put(put(p, property->name), property->value);
    }
    return row;
}

/* Cuts the next property off a row's packed ones. */
static bool take_property(struct text *packed, struct property *p)
{
    struct packed_head h;
    if (packed->n == 0)
        return false;
    memcpy(&h, packed->p, sizeof h);
    *packed = skip(*packed, sizeof h);
    p->name = (struct text){packed->p, h.name_bytes};
    p->value = (struct text){packed->p + h.name_bytes, h.value_bytes};
    p->type = (enum edm)h.type;
    *packed = skip(*packed, (size_t)h.name_bytes + h.value_bytes);
    return true;
}

/* Adds to e the properties of the row that e does not name. */
static const struct fault *entity_merge(struct entity *e, const struct row *row)
{
    struct text packed = row->packed;
    struct property p;
    while (take_property(&packed, &p)) {
        if (property_named(e, p.name))
            continue;
        if (e->count == PROPERTY_COUNT)
            return &TOO_MANY_PROPERTIES;
        e->properties[e->count++] = p;
    }
    return NULL;
}

#endif
