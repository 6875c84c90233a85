/* entity.h - an entity of the Table service, and what can be done with entities.
 *
 * The vocabulary shared by both stores.  The Table service keeps entities as
 * such; the sqlite store keeps the same JSON that the service would be sent, so
 * that every rule above this layer is written once.
 * Specification: "Payload format for Table service operations (REST API)" and
 * "Understanding the Table service data model".
 * Memory: spans are borrowed; entity_read puts everything into the arena.
 */
#ifndef LEAD_ENTITY_H
#define LEAD_ENTITY_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/json_read.h"
#include "lib/base/limits.h"
#include "lib/base/status.h"

enum edm_type { EDM_STRING, EDM_BOOLEAN, EDM_INT32, EDM_DATETIME, EDM_BINARY, EDM_OTHER };

struct property {
    struct span name;
    enum edm_type type;
    struct span
        text; /* EDM_STRING: text; EDM_BINARY: the bytes; EDM_OTHER: as it came (only read, never written) */
    int64_t number; /* EDM_BOOLEAN: 0 or 1; EDM_INT32; EDM_DATETIME: wall-clock milliseconds */
};

enum { ENTITY_PROPERTIES = 64 }; /* own properties that we write at most */

struct entity {
    struct span partition_key;
    struct span row_key;
    struct span etag;     /* as the store gave it; blank on an entity of our own */
    int64_t timestamp_ms; /* the store's time of the last write; 0 on an entity of our own */
    size_t count;
    struct property *properties;
    size_t room;
};

/* Appends a property; properties and room were set by the caller (or by
 * entity_init from an arena).  A blank text is not stored: absent = blank.
 * Returns without effect when full: entity_check then reports it. */
MUST_CHECK bool entity_init(struct entity *e, struct span partition_key, struct span row_key,
                            struct arena *arena);
void entity_add_text(struct entity *e, const char *name,
                     struct span value); /* cut at LIMIT_PROPERTY_UTF16 units */
void entity_add_bool(struct entity *e, const char *name, bool value);
void entity_add_int(struct entity *e, const char *name, int32_t value);
void entity_add_time(struct entity *e, const char *name, int64_t wall_ms);
/* A value that may be longer than one property: goes on in name2, name3, ...; names live in the arena.
 * false: no memory or too many properties. */
MUST_CHECK bool entity_add_long_text(struct entity *e, const char *name, struct span value,
                                     struct arena *arena);
MUST_CHECK bool entity_add_long_binary(struct entity *e, const char *name, struct span value,
                                       struct arena *arena);

/* A copy whose memory is the arena's; the etag stays behind.  false: no memory. */
MUST_CHECK bool entity_copy(const struct entity *from, struct arena *arena, struct entity *to);

/* The property, or NULL. */
const struct property *entity_find(const struct entity *e, const char *name);
struct span entity_text(const struct entity *e, const char *name);                  /* blank when absent */
int64_t entity_number(const struct entity *e, const char *name, int64_t otherwise); /* bool, int32, time */
/* Joins name, name2, name3, ... again (text or binary). ST_TOO_LARGE, ST_NOMEM of the buffer. */
MUST_CHECK enum status entity_long_value(const struct entity *e, const char *name, struct buf *out,
                                         struct fail *why);

/* Whether the service would take it: key lengths and characters, property
 * names, number and lengths, stored size.  ST_INVALID or ST_TOO_LARGE. */
MUST_CHECK enum status entity_check(const struct entity *e, struct fail *why);

/* Appends the entity as one line of JSON with PartitionKey, RowKey and type annotations. */
MUST_CHECK enum status entity_write(struct buf *out, const struct entity *e, struct fail *why);

/* Reads what entity_write wrote or the service answered (odata=minimalmetadata). */
MUST_CHECK enum status entity_read(const struct json *object, struct arena *arena, struct entity *e,
                                   struct fail *why);

/* Appends text as a literal of a URL: between quotes, quotes doubled, then percent-encoded. */
void entity_add_literal(struct buf *url, struct span text);

/* Appends "(PartitionKey='...',RowKey='...')", which follows the table in a row's URL. */
void entity_add_address(struct buf *url, struct span partition_key, struct span row_key);

enum table_id { TABLE_LEADS, TABLE_OPS };

enum operation_kind {
    OPERATION_INSERT, /* ST_EXISTS when the row is there */
    OPERATION_MERGE,  /* properties named replace, others stay; entity.etag is required ("*" for any) */
    OPERATION_DELETE  /* entity.etag is required */
};

struct operation {
    enum operation_kind kind;
    struct entity entity;
};

#define NO_INDEX SIZE_MAX

/* Rows whose RowKey is >= from and < to (blank: no bound), in key order. */
struct query {
    enum table_id table;
    struct span partition_key;
    struct span from;
    struct span to;
    const char *since_column; /* NULL, or a DateTime column (or "Timestamp") that must be ... */
    int64_t since_ms;         /* ... at or after this ... */
    int64_t until_ms;         /* ... and before this; 0: no bound */
    const char *text_column;  /* NULL, or a String column that must begin with ... */
    struct span text;         /* ... this, whose last character is a letter or digit */
    const char *select;       /* NULL for all, or a comma-separated list of columns (keys always come) */
    size_t limit;             /* rows per page, 1 to 1000 */
    struct span next;         /* where the page before ended (page.next), blank at first */
};

struct page {
    struct entity *rows;
    size_t count;
    struct span next; /* opaque; blank when there is nothing more; count may be 0 although there is more */
};

#endif
