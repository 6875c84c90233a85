#include "lib/table/entity.h"

/* System */
#include <stdio.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/encode.h"
#include "lib/base/json_write.h"
#include "lib/base/text.h"

static const char *const TYPE_NAMES[] = {
    [EDM_STRING] = "Edm.String",     [EDM_BOOLEAN] = "Edm.Boolean", [EDM_INT32] = "Edm.Int32",
    [EDM_DATETIME] = "Edm.DateTime", [EDM_BINARY] = "Edm.Binary",   [EDM_OTHER] = "",
};
#define ANNOTATION "@odata.type"

/* What Edm.DateTime can say. */
#define FIRST_TIME_MS (-11644473600000) /* 1601-01-01T00:00:00Z */
#define LAST_TIME_MS  253402300799999   /* 9999-12-31T23:59:59.999Z */

bool entity_init(struct entity *e, struct span partition_key, struct span row_key, struct arena *arena)
{
    struct property *properties = arena_array(arena, ENTITY_PROPERTIES, sizeof *properties);
    if (!properties)
        return false;
    *e = (struct entity){.partition_key = partition_key,
                         .row_key = row_key,
                         .properties = properties,
                         .room = ENTITY_PROPERTIES};
    return true;
}

/* A count over the room marks the entity as overfull, for entity_check. */
static void add(struct entity *e, struct property property)
{
    if (e->count < e->room)
        e->properties[e->count] = property;
    if (e->count <= e->room)
        e->count++;
}

void entity_add_text(struct entity *e, const char *name, struct span value)
{
    if (value.len)
        add(e, (struct property){span_of(name), EDM_STRING, utf8_cut_units(value, LIMIT_PROPERTY_UTF16), 0});
}

void entity_add_bool(struct entity *e, const char *name, bool value)
{
    add(e, (struct property){.name = span_of(name), .type = EDM_BOOLEAN, .number = value});
}

void entity_add_int(struct entity *e, const char *name, int32_t value)
{
    add(e, (struct property){.name = span_of(name), .type = EDM_INT32, .number = value});
}

void entity_add_time(struct entity *e, const char *name, int64_t wall_ms)
{
    add(e, (struct property){.name = span_of(name), .type = EDM_DATETIME, .number = wall_ms});
}

/* "name" for the first part, "name2" for the second, ... */
static bool part_name(struct span name, size_t number, struct arena *arena, struct span *part)
{
    char text[LIMIT_PROPERTY_NAME];
    int len = number == 1 ? snprintf(text, sizeof text, "%.*s", SPAN_FMT(name))
                          : snprintf(text, sizeof text, "%.*s%zu", SPAN_FMT(name), number);
    return len > 0 && (size_t)len < sizeof text && arena_copy(arena, (struct span){text, (size_t)len}, part);
}

static bool add_parts(struct entity *e, const char *name, enum edm_type type, struct span value,
                      struct arena *arena)
{
    for (size_t number = 1; value.len; number++) {
        struct span part = type == EDM_STRING ? utf8_cut_units(value, LIMIT_PROPERTY_UTF16)
                                              : span_cut(value, 0, LIMIT_PROPERTY_BINARY);
        struct span label;
        if (e->count >= e->room || !part_name(span_of(name), number, arena, &label))
            return false;
        add(e, (struct property){.name = label, .type = type, .text = part});
        value = span_from(value, part.len);
    }
    return true;
}

bool entity_add_long_text(struct entity *e, const char *name, struct span value, struct arena *arena)
{
    return add_parts(e, name, EDM_STRING, value, arena);
}

bool entity_add_long_binary(struct entity *e, const char *name, struct span value, struct arena *arena)
{
    return add_parts(e, name, EDM_BINARY, value, arena);
}

static const struct property *find(const struct entity *e, struct span name)
{
    for (size_t i = 0; i < e->count; i++) {
        struct span other = e->properties[i].name;
        if (other.len == name.len && span_eq(other, name)) /* mostly the length tells */
            return &e->properties[i];
    }
    return NULL;
}

bool entity_copy(const struct entity *from, struct arena *arena, struct entity *to)
{
    *to = (struct entity){.timestamp_ms = from->timestamp_ms, .room = from->count, .count = from->count};
    to->properties = arena_array(arena, from->count, sizeof *to->properties);
    if (!to->properties || !arena_copy(arena, from->partition_key, &to->partition_key) ||
        !arena_copy(arena, from->row_key, &to->row_key))
        return false;
    for (size_t i = 0; i < from->count; i++) {
        to->properties[i] = from->properties[i];
        if (!arena_copy(arena, from->properties[i].name, &to->properties[i].name) ||
            !arena_copy(arena, from->properties[i].text, &to->properties[i].text))
            return false;
    }
    return true;
}

const struct property *entity_find(const struct entity *e, const char *name)
{
    return find(e, span_of(name));
}

struct span entity_text(const struct entity *e, const char *name)
{
    const struct property *p = entity_find(e, name);
    return p ? p->text : span_empty();
}

int64_t entity_number(const struct entity *e, const char *name, int64_t otherwise)
{
    const struct property *p = entity_find(e, name);
    bool is_number = p && (p->type == EDM_BOOLEAN || p->type == EDM_INT32 || p->type == EDM_DATETIME);
    return is_number ? p->number : otherwise;
}

enum status entity_long_value(const struct entity *e, const char *name, struct buf *out, struct fail *why)
{
    const struct property *p = entity_find(e, name);
    for (size_t number = 2; p; number++) {
        char part[LIMIT_PROPERTY_NAME];
        buf_add(out, p->text);
        (void)snprintf(part, sizeof part, "%s%zu", name, number);
        p = entity_find(e, part);
    }
    return buf_status(out, name, why);
}

/* --- limits --------------------------------------------------------------------------------------------- */

/* Besides what the service forbids, '%': it decodes paths twice, so such a key may be stored as another. */
static enum status check_key(struct span key, size_t limit, const char *which, struct fail *why)
{
    if (key.len == 0 || key.len > limit)
        return fail_set(why, key.len ? ST_TOO_LARGE : ST_INVALID, 0,
                        "a %s of %zu bytes (1 to %zu are allowed)", which, key.len, limit);
    for (size_t i = 0; i < key.len; i++) {
        unsigned char c = (unsigned char)key.ptr[i];
        if (c < 0x20 || c >= 0x7F || c == '/' || c == '\\' || c == '#' || c == '?' || c == '%')
            return fail_set(why, ST_INVALID, 0, "a %s holds a character that keys must not have", which);
    }
    return ST_OK;
}

static bool is_name(struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_';
        if (!letter && !(i > 0 && c >= '0' && c <= '9'))
            return false;
    }
    return name.len > 0 && name.len <= LIMIT_PROPERTY_NAME;
}

static bool is_system_name(struct span name)
{
    return span_eq(name, SPAN_LIT("PartitionKey")) || span_eq(name, SPAN_LIT("RowKey")) ||
           span_eq(name, SPAN_LIT("Timestamp"));
}

/* The formula by which the service bills: lengths in UTF-16 units. */
static size_t stored_size(const struct property *p)
{
    size_t size = 8 + 2 * p->name.len;
    switch (p->type) {
    case EDM_STRING:
    case EDM_OTHER:
        return size + 4 + 2 * utf16_units(p->text);
    case EDM_BINARY:
        return size + 4 + p->text.len;
    case EDM_BOOLEAN:
        return size + 1;
    case EDM_INT32:
        return size + 4;
    case EDM_DATETIME:
        return size + 8;
    }
    return size;
}

enum status entity_check(const struct entity *e, struct fail *why)
{
    enum status status = check_key(e->partition_key, LIMIT_PARTITION_KEY_BYTES, "partition key", why);
    if (status == ST_OK)
        status = check_key(e->row_key, LIMIT_ROW_KEY_BYTES, "row key", why);
    if (status != ST_OK)
        return status;
    if (e->count > e->room || e->count > LIMIT_PROPERTIES)
        return fail_set(why, ST_TOO_LARGE, 0, "an entity has too many properties");
    size_t size = 4 + 2 * (e->partition_key.len + e->row_key.len);
    for (size_t i = 0; i < e->count; i++) {
        const struct property *p = &e->properties[i];
        if (!is_name(p->name) || is_system_name(p->name))
            return fail_set(why, ST_INVALID, 0, "a property's name is not allowed");
        if (find(e, p->name) != p)
            return fail_set(why, ST_INVALID, 0, "property '%.*s' is there twice", SPAN_FMT(p->name));
        if (p->type == EDM_DATETIME && (p->number < FIRST_TIME_MS || p->number > LAST_TIME_MS))
            return fail_set(why, ST_INVALID, 0, "property '%.*s' is not in the years 1601 to 9999",
                            SPAN_FMT(p->name));
        if ((p->type == EDM_STRING && utf16_units(p->text) > LIMIT_PROPERTY_UTF16) ||
            (p->type == EDM_BINARY && p->text.len > LIMIT_PROPERTY_BINARY))
            return fail_set(why, ST_TOO_LARGE, 0, "the value of property '%.*s' is too long",
                            SPAN_FMT(p->name));
        size += stored_size(p);
    }
    if (size > LIMIT_ENTITY_STORED_BYTES)
        return fail_set(why, ST_TOO_LARGE, 0, "an entity of %zu bytes is larger than a table takes", size);
    return ST_OK;
}

/* --- JSON ----------------------------------------------------------------------------------------------- */

static void annotate(struct json_writer *w, struct span name, enum edm_type type)
{
    char label[LIMIT_PROPERTY_NAME + sizeof ANNOTATION];
    int len = snprintf(label, sizeof label, "%.*s" ANNOTATION, SPAN_FMT(name));
    json_add_text(w, (struct span){label, (size_t)len}, span_of(TYPE_NAMES[type]));
}

static void write_property(struct json_writer *w, const struct property *p, struct buf *scratch)
{
    char time[CLOCK_TEXT_BYTES];
    switch (p->type) {
    case EDM_STRING:
        json_add_text(w, p->name, p->text);
        break;
    case EDM_BOOLEAN:
        json_add_bool(w, p->name, p->number != 0);
        break;
    case EDM_INT32:
        json_add_number(w, p->name, p->number);
        break;
    case EDM_DATETIME:
        annotate(w, p->name, p->type);
        clock_iso_time(p->number, time);
        json_add_text(w, p->name, span_of(time));
        break;
    case EDM_BINARY:
        annotate(w, p->name, p->type);
        buf_reset(scratch);
        base64_add(scratch, p->text);
        if (scratch->error != ST_OK)
            w->error = scratch->error;
        else
            json_add_text(w, p->name, buf_span(scratch));
        break;
    case EDM_OTHER:
        w->error = ST_BUG;
        break;
    }
}

enum status entity_write(struct buf *out, const struct entity *e, struct fail *why)
{
    struct buf scratch = BUF_INIT(LIMIT_PROPERTY_BINARY * 2);
    struct json_writer w;
    json_begin(&w, out);
    json_add_text(&w, SPAN_LIT("PartitionKey"), e->partition_key);
    json_add_text(&w, SPAN_LIT("RowKey"), e->row_key);
    for (size_t i = 0; i < e->count; i++)
        write_property(&w, &e->properties[i], &scratch);
    buf_release(&scratch);
    return json_end(&w, "an entity", why);
}

void entity_add_literal(struct buf *url, struct span text)
{
    struct span part;
    buf_add_char(url, '\'');
    for (bool first = true; span_next(&text, '\'', &part); first = false) {
        if (!first)
            buf_add_text(url, "%27%27");
        percent_add(url, part);
    }
    buf_add_char(url, '\'');
}

void entity_add_address(struct buf *url, struct span partition_key, struct span row_key)
{
    buf_add_text(url, "(PartitionKey=");
    entity_add_literal(url, partition_key);
    buf_add_text(url, ",RowKey=");
    entity_add_literal(url, row_key);
    buf_add_char(url, ')');
}

/* Int32 is written without an annotation; a number that is none (a Double) stays text. */
static void read_number(struct property *p)
{
    bool negative = p->text.len && p->text.ptr[0] == '-';
    uint64_t value;
    if (span_to_u64(span_from(p->text, negative), (uint64_t)INT32_MAX + negative, &value)) {
        p->type = EDM_INT32;
        p->number = negative ? -(int64_t)value : (int64_t)value;
        p->text = (struct span){0};
    } else {
        p->type = EDM_OTHER;
    }
}

static enum status read_annotated(struct property *p, struct span type, struct arena *arena, struct fail *why)
{
    if (span_eq(type, span_of(TYPE_NAMES[EDM_DATETIME]))) {
        p->type = EDM_DATETIME;
        if (!clock_parse_iso_time(p->text, &p->number))
            return fail_set(why, ST_INVALID, 0, "a row has a malformed time");
        p->text = (struct span){0};
    } else if (span_eq(type, span_of(TYPE_NAMES[EDM_BINARY]))) {
        struct buf bytes = BUF_INIT(LIMIT_PROPERTY_BINARY + 4);
        p->type = EDM_BINARY;
        enum status status = base64_decode(&bytes, p->text, why);
        if (status == ST_OK && !arena_copy(arena, buf_span(&bytes), &p->text))
            status = fail_set(why, ST_NOMEM, 0, "no memory for a row");
        buf_release(&bytes);
        return status;
    } else if (!span_eq(type, span_of(TYPE_NAMES[EDM_STRING]))) {
        p->type = EDM_OTHER;
    }
    return ST_OK;
}

/* The type of a member: its annotation stands before it, as written by the service, Azurite and us. */
static struct span annotation_of(const struct json *object, const struct json *member)
{
    struct span suffix = SPAN_LIT(ANNOTATION);
    for (const struct json *m = object->first; m != member; m = m->next) {
        if (m->name.len == member->name.len + suffix.len && span_starts(m->name, member->name) &&
            span_eq(span_from(m->name, member->name.len), suffix))
            return m->text;
    }
    return (struct span){0};
}

enum status entity_read(const struct json *object, struct arena *arena, struct entity *e, struct fail *why)
{
    size_t members = 0;
    for (const struct json *m = object->first; m; m = m->next)
        members++;
    if (members > LIMIT_ENTITY_MEMBERS)
        return fail_set(why, ST_TOO_LARGE, 0, "a row has more than %u members", LIMIT_ENTITY_MEMBERS);
    struct entity row = {.room = members, .properties = arena_array(arena, members, sizeof *row.properties)};
    if (!row.properties)
        return fail_set(why, ST_NOMEM, 0, "no memory for a row");
    for (const struct json *m = object->first; m; m = m->next) {
        if (span_eq(m->name, SPAN_LIT("PartitionKey"))) {
            row.partition_key = m->text;
        } else if (span_eq(m->name, SPAN_LIT("RowKey"))) {
            row.row_key = m->text;
        } else if (span_eq(m->name, SPAN_LIT("odata.etag"))) {
            row.etag = m->text;
        } else if (span_eq(m->name, SPAN_LIT("Timestamp"))) {
            if (!clock_parse_iso_time(m->text, &row.timestamp_ms))
                return fail_set(why, ST_INVALID, 0, "a row has a malformed timestamp");
        } else if (span_find(m->name, '@') == SPAN_NONE && span_find(m->name, '.') == SPAN_NONE &&
                   m->kind != JSON_NULL) {
            struct property *p = &row.properties[row.count++];
            *p = (struct property){.name = m->name, .type = EDM_STRING, .text = m->text};
            enum status status = ST_OK;
            struct span type = annotation_of(object, m);
            if (m->kind == JSON_TRUE || m->kind == JSON_FALSE)
                *p = (struct property){.name = m->name, .type = EDM_BOOLEAN, .number = m->kind == JSON_TRUE};
            else if (m->kind == JSON_NUMBER)
                read_number(p);
            else if (type.len)
                status = read_annotated(p, type, arena, why);
            if (status != ST_OK)
                return status;
        }
    }
    *e = row;
    return ST_OK;
}
