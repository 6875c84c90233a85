/* entity.h - properties, their types, and entities out of JSON.
 *
 * Stricter than Azurite: names, types, sizes and keys are checked as the documentation has them.
 */
#ifndef FAKE_TABLE_ENTITY_H
#define FAKE_TABLE_ENTITY_H

/* System */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Libraries */
#include <yajl/yajl_parse.h>

/* Parts below this one */
#include "tests/harness/fake_table/bytes.h"
#include "tests/harness/fake_table/fault.h"

enum {
    BODY_BYTES = 4 * 1024 * 1024, /* the service's limit for a batch */
    KEY_UTF16 = 512,
    KEY_BYTES = 3 * KEY_UTF16, /* no UTF-16 unit needs more than three bytes of UTF-8 */
    PROPERTY_COUNT = 252,
    PROPERTY_NAME_BYTES = 255,
    PROPERTY_VALUE_BYTES = 64 * 1024, /* of UTF-16, or of binary */
    ENTITY_BYTES = 1024 * 1024
};

enum edm { STRING, BOOLEAN, INT32, DOUBLE, INT64, DATETIME, GUID, BINARY, UNTYPED };
static const struct {
    struct text name;
    bool quoted;    /* a string in JSON */
    bool annotated; /* its type is told beside it */
} EDM[] = {
    [STRING] = {LIT("Edm.String"), true, false},
    [BOOLEAN] = {LIT("Edm.Boolean"), false, false},
    [INT32] = {LIT("Edm.Int32"), false, false},
    [DOUBLE] = {LIT("Edm.Double"), false, false},
    [INT64] = {LIT("Edm.Int64"), true, true},
    [DATETIME] = {LIT("Edm.DateTime"), true, true},
    [GUID] = {LIT("Edm.Guid"), true, true},
    [BINARY] = {LIT("Edm.Binary"), true, true},
    [UNTYPED] = {LIT("(by the value)"), false, false},
};

/* JSON's kinds of scalars. */
enum scalar { ABSENT, NOTHING, TEXT, NUMBER, TRUTH };

struct property {
    struct text name;
    struct text value; /* decoded */
    enum edm type;
    enum scalar scalar;
};

struct key {
    struct text partition;
    struct text row;
};

struct entity {
    struct key key;
    size_t count;
    struct property properties[PROPERTY_COUNT + 3]; /* with the system's own */
};

/* Length in UTF-16 of text that yajl has checked to be UTF-8. */
static size_t utf16_units(struct text t)
{
    size_t units = 0;
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        units += (c & 0xC0) != 0x80;
        units += c >= 0xF0;
    }
    return units;
}

/* YYYY-MM-DDThh:mm:ss[.1 to 7 digits]Z, not before 1601. */
static bool is_time(struct text t)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd";
    size_t shape_n = sizeof shape - 1;
    if (t.n < shape_n + 1 || t.n > shape_n + 9 || t.p[t.n - 1] != 'Z' || memcmp(t.p, "1601", 4) < 0)
        return false;
    for (size_t i = 0; i < t.n - 1; i++) {
        bool digit = t.p[i] >= '0' && t.p[i] <= '9';
        bool wanted = i >= shape_n ? i > shape_n : shape[i] == 'd';
        if (digit != wanted || (!wanted && t.p[i] != (i == shape_n ? '.' : shape[i])))
            return false;
    }
    return t.n != shape_n + 2;
}

static bool is_base64(struct text t)
{
    size_t n = t.n;
    while (n && t.n - n < 2 && t.p[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++) {
        char c = t.p[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
              c == '/'))
            return false;
    }
    return t.n % 4 == 0;
}

static bool is_integer(struct text t, uint64_t max)
{
    bool negative = t.n && t.p[0] == '-';
    size_t magnitude;
    return number_of(skip(t, negative ? 1 : 0), (size_t)max + (negative ? 1 : 0), &magnitude);
}

static int64_t int32_of(struct text t)
{
    bool negative = t.p[0] == '-';
    size_t magnitude = 0;
    (void)number_of(skip(t, negative ? 1 : 0), (size_t)INT32_MAX + 1, &magnitude);
    return negative ? -(int64_t)magnitude : (int64_t)magnitude;
}

static bool is_fraction(struct text number)
{
    return memchr(number.p, '.', number.n) || memchr(number.p, 'e', number.n) ||
           memchr(number.p, 'E', number.n);
}

static bool is_guid(struct text t)
{
    for (size_t i = 0; i < t.n; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? t.p[i] != '-' : hex(t.p[i]) < 0)
            return false;
    }
    return t.n == 36;
}

static bool is_identifier(struct text t)
{
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        if (!letter && c != '_' && c < 0x80 && (i == 0 || c < '0' || c > '9'))
            return false;
    }
    return t.n > 0 && t.n <= PROPERTY_NAME_BYTES;
}

/* Settles the type of a property and checks its value against it. */
static const struct fault *property_check(struct property *p)
{
    if (!is_identifier(p->name))
        return &BAD_PROPERTY_NAME;
    if (p->scalar == ABSENT)
        return &MISSING_VALUE;
    if (p->scalar == NOTHING)
        return NULL;
    if (p->type == UNTYPED && p->scalar == NUMBER)
        p->type = is_fraction(p->value) ? DOUBLE : INT32;
    else if (p->type == UNTYPED)
        p->type = p->scalar == TEXT ? STRING : BOOLEAN;

    enum scalar wanted = p->type == BOOLEAN ? TRUTH : EDM[p->type].quoted ? TEXT : NUMBER;
    if (p->scalar != wanted)
        return &BAD_TYPE;
    switch (p->type) {
    case STRING:
        return utf16_units(p->value) * 2 > PROPERTY_VALUE_BYTES ? &VALUE_TOO_LARGE : NULL;
    case BINARY:
        return p->value.n / 4 * 3 > PROPERTY_VALUE_BYTES + 2 ? &VALUE_TOO_LARGE
               : is_base64(p->value)                         ? NULL
                                                             : &BAD_TYPE;
    case INT32:
        return is_integer(p->value, INT32_MAX) ? NULL : &BAD_TYPE;
    case INT64:
        return is_integer(p->value, INT64_MAX) ? NULL : &BAD_TYPE;
    case DATETIME:
        return is_time(p->value) ? NULL : &BAD_TYPE;
    case GUID:
        return is_guid(p->value) ? NULL : &BAD_TYPE;
    case BOOLEAN:
    case DOUBLE:
    case UNTYPED:
        return NULL;
    }
    return NULL;
}

/* Size that the service accounts for an entity. */
static size_t stored_bytes(const struct entity *e)
{
    static const size_t fixed[] = {[STRING] = 4,   [BOOLEAN] = 1, [INT32] = 4,  [DOUBLE] = 8, [INT64] = 8,
                                   [DATETIME] = 8, [GUID] = 16,   [BINARY] = 4, [UNTYPED] = 0};
    size_t bytes = 4 + 2 * (utf16_units(e->key.partition) + utf16_units(e->key.row));
    for (size_t i = 0; i < e->count; i++) {
        const struct property *p = &e->properties[i];
        bytes += 8 + 2 * utf16_units(p->name) + fixed[p->type];
        if (p->type == STRING)
            bytes += 2 * utf16_units(p->value);
        if (p->type == BINARY)
            bytes += p->value.n / 4 * 3;
    }
    return bytes;
}

static bool is_key(struct text t)
{
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        unsigned char before = i ? (unsigned char)t.p[i - 1] : 0;
        if (c < 0x20 || c == 0x7F || strchr("/\\#?", c) || (before == 0xC2 && c >= 0x80 && c <= 0x9F))
            return false;
    }
    return utf16_units(t) <= KEY_UTF16;
}

/* Reading: yajl's events of one flat object. */

struct reading {
    struct entity *entity;
    struct out *room; /* decoded bytes; reserved beforehand, so that they do not move */
    struct property *current;
    bool at_type; /* the value to come is the type of current */
    const struct fault *fault;
    int depth;
};

static struct text keep(struct reading *r, const unsigned char *p, size_t n)
{
    struct text kept = {r->room->p + r->room->n, n};
    out_add(r->room, (struct text){(const char *)p, n});
    return kept;
}

static int refuse(struct reading *r, const struct fault *fault)
{
    r->fault = fault;
    return 0;
}

static struct property *property_named(struct entity *e, struct text name)
{
    for (size_t i = 0; i < e->count; i++) {
        if (same(e->properties[i].name, name))
            return &e->properties[i];
    }
    return NULL;
}

static int on_map(void *context)
{
    struct reading *r = context;
    return r->depth++ == 0 ? 1 : refuse(r, &BAD_INPUT);
}

static int on_array(void *context)
{
    return refuse(context, &BAD_INPUT);
}

static int on_name(void *context, const unsigned char *p, size_t n)
{
    static const struct text suffix = {"@odata.type", 11};
    struct reading *r = context;
    struct text name = {(const char *)p, n};
    r->current = NULL;
    r->at_type = n > suffix.n && same(skip(name, n - suffix.n), suffix);
    if (starts(name, LIT("odata.")))
        return 1;
    if (r->at_type)
        name.n -= suffix.n;
    r->current = property_named(r->entity, name);
    if (!r->current) {
        if (r->entity->count == PROPERTY_COUNT + 3)
            return refuse(r, &TOO_MANY_PROPERTIES);
        r->current = &r->entity->properties[r->entity->count++];
        *r->current = (struct property){.name = keep(r, p, name.n), .type = UNTYPED};
    } else if (!r->at_type && r->current->scalar != ABSENT) {
        return refuse(r, &DUPLICATE_PROPERTY);
    }
    return 1;
}

static int on_scalar(struct reading *r, enum scalar scalar, const char *p, size_t n)
{
    if (r->depth != 1)
        return refuse(r, &BAD_INPUT);
    if (!r->current)
        return 1;
    if (r->at_type) {
        for (enum edm type = STRING; type < UNTYPED; type++) {
            if (scalar == TEXT && same(EDM[type].name, (struct text){p, n}))
                r->current->type = type;
        }
        return r->current->type != UNTYPED ? 1 : refuse(r, &BAD_TYPE);
    }
    r->current->scalar = scalar;
    r->current->value = keep(r, (const unsigned char *)p, n);
    return 1;
}

static int on_string(void *context, const unsigned char *p, size_t n)
{
    return on_scalar(context, TEXT, (const char *)p, n);
}

static int on_number(void *context, const char *p, size_t n)
{
    return on_scalar(context, NUMBER, p, n);
}

static int on_truth(void *context, int truth)
{
    return truth ? on_scalar(context, TRUTH, "true", 4) : on_scalar(context, TRUTH, "false", 5);
}

static int on_nothing(void *context)
{
    return on_scalar(context, NOTHING, "", 0);
}

/* Takes the property out of e; false unless it is a string. */
static bool take_text(struct entity *e, const char *name, struct text *value)
{
    struct property *p = property_named(e, text_of(name));
    if (!p || p->scalar != TEXT)
        return false;
    *value = p->value;
    *p = e->properties[--e->count];
    return true;
}

/* Reads one flat object; its texts live in *room until that is reset. */
static const struct fault *object_read(struct text json, struct out *room, struct entity *e)
{
    static const yajl_callbacks callbacks = {.yajl_null = on_nothing,
                                             .yajl_boolean = on_truth,
                                             .yajl_number = on_number,
                                             .yajl_string = on_string,
                                             .yajl_start_map = on_map,
                                             .yajl_map_key = on_name,
                                             .yajl_start_array = on_array};
    struct reading r = {.entity = e, .room = room, .depth = 0};
    e->count = 0;
    if (!out_reserve(room, json.n)) /* decoded text is no longer than its JSON */
        return &BODY_TOO_LARGE;
    yajl_handle parser = yajl_alloc(&callbacks, NULL, &r);
    if (!parser)
        die("memory");
    bool good = yajl_parse(parser, (const unsigned char *)json.p, json.n) == yajl_status_ok &&
                yajl_complete_parse(parser) == yajl_status_ok && r.depth == 1;
    yajl_free(parser);
    return good ? NULL : r.fault ? r.fault : &BAD_INPUT;
}

/* The same for an entity: keys apart, system columns and nulls left out, every value checked. */
static const struct fault *entity_read(struct text json, struct out *room, struct entity *e)
{
    const struct fault *fault = object_read(json, room, e);
    if (fault)
        return fault;
    if (!take_text(e, "PartitionKey", &e->key.partition) || !take_text(e, "RowKey", &e->key.row))
        return &MISSING_VALUE;
    if (!is_key(e->key.partition) || !is_key(e->key.row))
        return &BAD_KEY;
    for (size_t i = 0; i < e->count;) {
        struct property *p = &e->properties[i];
        fault = property_check(p);
        if (fault)
            return fault;
        if (p->scalar == NOTHING || same(p->name, LIT("Timestamp")))
            *p = e->properties[--e->count];
        else
            i++;
    }
    return NULL;
}

#endif
