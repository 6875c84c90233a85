/* rows.h - the tables: the partitions in the order of their keys, the rows of each in the order of theirs.
 *
 * A partition's rows stand in blocks, so a search is one among the blocks' first rows and one in a block: with many rows
 * the time is that of the memory, and these two touch little of it.
 */
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

enum { TABLES = 16, TABLE_NAME_BYTES = 63, BLOCK_ROWS = 256 };
static const size_t STORE_BYTES = (size_t)4 * 1024 * 1024 * 1024; /* all rows; then 503 */

struct row {
    uint64_t ticks;
    struct text packed; /* the properties, see row_make */
    size_t bytes;
    struct key key;
};

struct place {
    uint64_t begin[2]; /* of the RowKey, see begin_of */
    struct row *row;
};

struct block {
    size_t count; /* never 0 */
    struct place places[BLOCK_ROWS];
};

struct partition {
    struct text key;
    size_t count, room;
    struct slot {
        struct place first; /* the block's */
        struct block *block;
    } * slots;
};

struct table {
    char name[TABLE_NAME_BYTES + 1];
    size_t count, room;
    struct partition *partitions;
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

/* The first sixteen bytes as numbers that compare as the text does. */
static void begin_of(struct text t, uint64_t begin[2])
{
    begin[0] = begin[1] = 0;
    for (size_t i = 0; i < 16 && i < t.n; i++)
        begin[i / 8] |= (uint64_t)(unsigned char)t.p[i] << (56 - 8 * (i % 8));
}

/* Whether the row at this place comes before the RowKey. */
static bool is_before(const struct place *place, struct text row, const uint64_t begin[2])
{
    for (size_t i = 0; i < 2; i++) {
        if (place->begin[i] != begin[i])
            return place->begin[i] < begin[i];
    }
    return compare(place->row->key.row, row) < 0;
}

/* Makes room for one more among `count` things of this size at *array. */
static void *array_open(void **array, size_t *count, size_t *room, size_t at, size_t size)
{
    if (*count == *room) {
        *room = *room ? 2 * *room : 8;
        *array = realloc(*array, *room * size);
        if (!*array)
            die("memory");
    }
    char *place = (char *)*array + at * size;
    memmove(place + size, place, (*count - at) * size);
    (*count)++;
    return place;
}

/* Where a row is, or would be: behind the last of its block, then. */
struct cursor {
    struct table *table;
    size_t partition, slot, place;
};

static struct row *cursor_row(const struct cursor *c)
{
    if (c->partition == c->table->count)
        return NULL;
    const struct partition *p = &c->table->partitions[c->partition];
    return c->slot < p->count && c->place < p->slots[c->slot].block->count
               ? p->slots[c->slot].block->places[c->place].row
               : NULL;
}

/* To the row at the cursor or, where none is, to the first one behind; NULL: there is none. */
static struct row *cursor_settle(struct cursor *c)
{
    struct row *row;
    while (!(row = cursor_row(c)) && c->partition < c->table->count) {
        c->place = 0;
        if (++c->slot >= c->table->partitions[c->partition].count) {
            c->slot = 0;
            c->partition++;
        }
    }
    return row;
}

static struct row *cursor_next(struct cursor *c)
{
    c->place++;
    return cursor_settle(c);
}

/* The first partition at or behind the key. */
static size_t partition_seek(const struct table *t, struct text key)
{
    size_t low = 0;
    for (size_t high = t->count; low < high;) {
        size_t middle = (low + high) / 2;
        if (compare(t->partitions[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* The place of the key in its partition, or the partition behind. */
static struct cursor seek(struct table *t, struct key key)
{
    struct cursor c = {.table = t, .partition = partition_seek(t, key.partition)};
    if (c.partition == t->count || !same(t->partitions[c.partition].key, key.partition))
        return c;
    const struct partition *p = &t->partitions[c.partition];
    uint64_t begin[2];
    begin_of(key.row, begin);
    size_t low = 0;
    for (size_t high = p->count; low < high;) { /* the first block that begins at or behind the key */
        size_t middle = (low + high) / 2;
        if (is_before(&p->slots[middle].first, key.row, begin))
            low = middle + 1;
        else
            high = middle;
    }
    if (low == 0)
        return c;
    c.slot = low - 1;
    const struct block *block = p->slots[c.slot].block;
    low = 1;
    for (size_t high = block->count; low < high;) {
        size_t middle = (low + high) / 2;
        if (is_before(&block->places[middle], key.row, begin))
            low = middle + 1;
        else
            high = middle;
    }
    c.place = low;
    return c;
}

/* The first row at or behind the key. */
static struct row *row_seek(struct table *t, struct key key, struct cursor *c)
{
    *c = seek(t, key);
    return cursor_settle(c);
}

static struct row *row_find(struct table *t, struct key key)
{
    struct cursor c;
    struct row *row = row_seek(t, key, &c);
    return row && key_compare(row->key, key) == 0 ? row : NULL;
}

static void row_free(struct row *row)
{
    if (row)
        store_bytes -= row->bytes;
    free(row);
}

static void insert(struct table *t, struct row *row)
{
    struct cursor c = seek(t, row->key);
    if (c.partition == t->count || !same(t->partitions[c.partition].key, row->key.partition)) {
        char *copy = malloc(row->key.partition.n + 1);
        if (!copy)
            die("memory");
        memcpy(copy, row->key.partition.p, row->key.partition.n);
        void *partitions = t->partitions;
        struct partition *made = array_open(&partitions, &t->count, &t->room, c.partition, sizeof *made);
        *made = (struct partition){.key = {copy, row->key.partition.n}};
        t->partitions = partitions;
    }
    struct partition *p = &t->partitions[c.partition];
    if (p->count == 0 ||
        p->slots[c.slot].block->count == BLOCK_ROWS) { /* the first block, or a half of a full one */
        struct block *made = malloc(sizeof *made);
        if (!made)
            die("memory");
        void *slots = p->slots;
        struct slot *slot =
            array_open(&slots, &p->count, &p->room, p->count == 0 ? 0 : c.slot + 1, sizeof *slot);
        p->slots = slots;
        slot->block = made;
        made->count = 0;
        if (p->count > 1) {
            struct block *full = slot[-1].block;
            full->count = BLOCK_ROWS / 2;
            made->count = BLOCK_ROWS - full->count;
            memcpy(made->places, full->places + full->count, made->count * sizeof made->places[0]);
            slot->first = made->places[0];
            if (c.place > full->count) {
                c.slot++;
                c.place -= full->count;
            }
        }
    }
    struct slot *slot = &p->slots[c.slot];
    struct place *place = &slot->block->places[c.place];
    memmove(place + 1, place, (slot->block->count - c.place) * sizeof *place);
    slot->block->count++;
    begin_of(row->key.row, place->begin);
    place->row = row;
    slot->first = slot->block->places[0];
}

static void take_out(const struct cursor *c)
{
    struct partition *p = &c->table->partitions[c->partition];
    struct slot *slot = &p->slots[c->slot];
    struct place *place = &slot->block->places[c->place];
    slot->block->count--;
    memmove(place, place + 1, (slot->block->count - c->place) * sizeof *place);
    slot->first = slot->block->places[0];
    if (slot->block->count > 0)
        return;
    free(slot->block);
    p->count--;
    memmove(slot, slot + 1, (p->count - c->slot) * sizeof *slot);
}

/* Takes `old` out of the table and frees it, puts `made` in; either may be NULL; two have the same key. */
static void row_change(struct table *t, struct row *old, struct row *made)
{
    struct cursor c;
    if (old) {
        (void)row_seek(t, old->key, &c);
        struct slot *slot = &t->partitions[c.partition].slots[c.slot];
        if (made) {
            slot->block->places[c.place].row = made;
            slot->first = slot->block->places[0];
        } else {
            take_out(&c);
        }
    } else {
        insert(t, made);
    }
    row_free(old);
}

static void table_remove(struct table *t)
{
    for (size_t i = 0; i < t->count; i++) {
        struct partition *p = &t->partitions[i];
        for (struct cursor last; p->count > 0; take_out(&last)) {
            last = (struct cursor){t, i, p->count - 1, p->slots[p->count - 1].block->count - 1};
            row_free(cursor_row(&last));
        }
        free((char *)(uintptr_t)p->key.p);
        free(p->slots);
    }
    free(t->partitions);
    *t = tables[--table_count];
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
    size_t bytes = sizeof(struct row) + key.partition.n + key.row.n + packed;
    if (bytes > STORE_BYTES - store_bytes)
        return NULL;
    struct row *row = malloc(bytes);
    if (!row)
        return NULL;
    store_bytes += bytes;
    char *p = (char *)(row + 1);
    *row = (struct row){.ticks = ticks, .bytes = bytes};
    row->key.partition = (struct text){p, key.partition.n};
    p = put(p, key.partition);
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
