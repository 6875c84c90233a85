/* SQLite as a store: the embedded default.
 *
 * One table holds the entities of both kinds, each as the JSON that the Table
 * service would be sent; a view shows the leads' columns to people with the
 * sqlite3 program.
 *
 * Commit instant: the return of COMMIT.  With journal_mode=WAL and
 * synchronous=FULL SQLite has then fsynced the log; WAL with NORMAL and the
 * default DELETE journal with FULL were both measured to lose a committed row
 * at a power cut.  SQLite ignores a failed fsync of the directory after it made
 * the log, so we make the log and sync the directory before the first commit,
 * and keep the log when the last connection closes.
 *
 * A row's version is a random number drawn at every write, which serves as its
 * ETag: unlike a counter it does not come back when a row is deleted and made
 * again.
 */
#include "lib/store/store.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Libraries */
#include <sqlite3.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/file.h"

/* L6 */
#include "lib/store/store_internal.h"

enum { OPEN_STEP_MS = 5, JSON_KEPT_BYTES = 64 * 1024 };

enum statement {
    SQL_BEGIN,
    SQL_COMMIT,
    SQL_ROLLBACK,
    SQL_INSERT,
    SQL_MERGE,
    SQL_DELETE,
    SQL_GET,
    SQL_QUERY,
    SQL_TALLY,
    SQL_HAS,
    SQL_SCAN,
    SQL_SCAN_BACK,
    SQL_SIZE,
    SQL_CHECK,
    SQL_COUNT
};

/* Parameters: ?1 table, ?2 partition, ?3 row key, ?4 time, ?5 properties, ?6 version or NULL for any. */
static const char *const SQL[SQL_COUNT] = {
    [SQL_BEGIN] = "BEGIN IMMEDIATE",
    [SQL_COMMIT] = "COMMIT",
    [SQL_ROLLBACK] = "ROLLBACK",
    [SQL_INSERT] = "INSERT INTO entity(kind, partition_key, row_key, version, written_ms, properties)"
                   " VALUES(?1, ?2, ?3, random(), ?4, ?5)",
    [SQL_MERGE] = "UPDATE entity SET version = random(), written_ms = ?4,"
                  " properties = json_patch(properties, ?5)"
                  " WHERE kind = ?1 AND partition_key = ?2 AND row_key = ?3 AND (?6 IS NULL OR version = ?6)",
    [SQL_DELETE] =
        "DELETE FROM entity"
        " WHERE kind = ?1 AND partition_key = ?2 AND row_key = ?3 AND (?6 IS NULL OR version = ?6)",
    [SQL_GET] = "SELECT row_key, version, written_ms, properties FROM entity"
                " WHERE kind = ?1 AND partition_key = ?2 AND row_key = ?3",
    /* ?3 from, ?4 to or NULL, ?5 since or NULL, ?6 path of the since column, ?7 last row key seen or NULL, ?8 rows,
     * ?9 until or NULL, ?10 written since or NULL, ?11 a text or NULL, ?12 path of the column that begins with it */
    [SQL_QUERY] = "SELECT row_key, version, written_ms, properties FROM entity"
                  " WHERE kind = ?1 AND partition_key = ?2 AND row_key >= ?3 AND (?4 IS NULL OR row_key < ?4)"
                  " AND (?5 IS NULL OR json_extract(properties, ?6) >= ?5)"
                  " AND (?9 IS NULL OR json_extract(properties, ?6) < ?9)"
                  " AND (?10 IS NULL OR written_ms >= ?10)"
                  " AND (?11 IS NULL OR substr(json_extract(properties, ?12), 1, length(?11)) = ?11)"
                  " AND (?7 IS NULL OR row_key > ?7)"
                  " ORDER BY row_key LIMIT ?8",
    [SQL_TALLY] = "SELECT count(*), coalesce(min(row_key), '') FROM entity"
                  " WHERE kind = ?1 AND partition_key = ?2 AND row_key < '~'",
    [SQL_HAS] = "SELECT 1 FROM entity WHERE kind = ?1 AND partition_key = ?2 AND row_key = ?3",
    [SQL_SCAN] = "SELECT row_key, version, written_ms, properties, rowid FROM entity NOT INDEXED"
                 " WHERE kind = ?1 AND partition_key = ?2 AND rowid > ?3 ORDER BY rowid",
    [SQL_SCAN_BACK] = "SELECT row_key, version, written_ms, properties, rowid FROM entity NOT INDEXED"
                      " WHERE kind = ?1 AND partition_key = ?2 AND rowid < ?3 ORDER BY rowid DESC",
    [SQL_SIZE] = "SELECT c.page_count * s.page_size, f.freelist_count * s.page_size"
                 " FROM pragma_page_count AS c, pragma_freelist_count AS f, pragma_page_size AS s",
    [SQL_CHECK] = "PRAGMA integrity_check(1)",
};

static const char SCHEMA[] =
    "CREATE TABLE IF NOT EXISTS entity("
    " kind INTEGER NOT NULL," /* enum table_id */
    " partition_key TEXT NOT NULL,"
    " row_key TEXT NOT NULL,"
    " version INTEGER NOT NULL,"    /* random, new at every write */
    " written_ms INTEGER NOT NULL," /* wall clock, milliseconds */
    " properties TEXT NOT NULL,"    /* JSON as the Table service takes it */
    " PRIMARY KEY(kind, partition_key, row_key));"
    "CREATE VIEW IF NOT EXISTS leads AS SELECT"
    " json_extract(properties, '$.ReceivedTime') AS ReceivedTime, partition_key AS Offer,"
    " json_extract(properties, '$.Action') AS Action, json_extract(properties, '$.FirstName') AS FirstName,"
    " json_extract(properties, '$.LastName') AS LastName, json_extract(properties, '$.Email') AS Email,"
    " json_extract(properties, '$.Phone') AS Phone, json_extract(properties, '$.Company') AS Company,"
    " json_extract(properties, '$.Title') AS Title, json_extract(properties, '$.Country') AS Country,"
    " json_extract(properties, '$.OfferDisplayName') AS OfferDisplayName,"
    " json_extract(properties, '$.Description') AS Description,"
    " json_extract(properties, '$.Source') AS Source, json_extract(properties, '$.Campaign') AS Campaign,"
    " json_extract(properties, '$.IsTest') AS IsTest, json_extract(properties, '$.DoNotContact') AS DoNotContact,"
    " json_extract(properties, '$.Deliveries') AS Deliveries,"
    " json_extract(properties, '$.LastReceivedTime') AS LastReceivedTime,"
    " json_extract(properties, '$.NotifiedTime') AS NotifiedTime,"
    " json_extract(properties, '$.DeliveryId') AS DeliveryId, row_key AS RowKey"
    " FROM entity WHERE kind = 0 AND row_key NOT LIKE '~%';";

/* secure_delete: what is erased is overwritten.  cell_size_check finds damage early.  Without a journal_size_limit a log
 * that has grown beside a long reader would stay as long for ever. */
static const char PRAGMAS[] = "PRAGMA journal_mode = WAL;"
                              "PRAGMA synchronous = FULL;"
                              "PRAGMA secure_delete = ON;"
                              "PRAGMA trusted_schema = OFF;"
                              "PRAGMA temp_store = MEMORY;" /* no lead in a file of /tmp */
                              "PRAGMA cell_size_check = ON;"
                              "PRAGMA journal_size_limit = " LIMIT_SQLITE_LOG_TEXT ";";

struct sqlite_store {
    struct store base;
    sqlite3 *db;
    sqlite3_stmt *statements[SQL_COUNT];
    struct buf json; /* the properties being written; kept between operations */
    enum status (*admit)(void *context, struct fail *why);
    void *admit_context;
};

static struct sqlite_store *sqlite_of(struct store *store)
{
    return (struct sqlite_store *)store;
}

static enum status failed_with(int code, const char *what, struct fail *why)
{
    if (code == SQLITE_IOERR_SHORT_READ) /* shorter than its own header says */
        code = SQLITE_CORRUPT;
    /* Blocks that cannot be read: the next attempt may succeed, but nothing can be built on that. */
    if (code == SQLITE_IOERR_READ || code == SQLITE_IOERR_CORRUPTFS)
        return fail_set(why, ST_DAMAGED, EIO, "cannot %s: the database file cannot be read", what);
    switch (code & 0xFF) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
    case SQLITE_INTERRUPT:
        return fail_set(why, ST_AGAIN, 0, "cannot %s: the database is locked by another process", what);
    case SQLITE_FULL:
        return fail_set(why, ST_IO, 0, "cannot %s: the disk is full", what);
    case SQLITE_NOMEM:
        return fail_set(why, ST_NOMEM, 0, "cannot %s: out of memory", what);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_FORMAT:
    case SQLITE_ERROR: /* our SQL is right: what it works on, a table's definition or a row's JSON, is not */
        return fail_set(why, ST_DAMAGED, 0,
                        "cannot %s: the database file is damaged (or is none of leadhook's)", what);
    case SQLITE_READONLY:
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return fail_set(why, ST_IO, 0, "cannot %s: the database or its directory is not writable", what);
    default:
        return fail_set(why, ST_IO, 0, "cannot %s: SQLite says %s (%d)", what, sqlite3_errstr(code), code);
    }
}

static void sqlite_store_close(struct store *store)
{
    struct sqlite_store *s = sqlite_of(store);
    for (size_t i = 0; i < SQL_COUNT; i++)
        sqlite3_finalize(s->statements[i]);
    sqlite3_close(s->db);
    buf_release(&s->json);
    free(s);
}

static int bind_span(sqlite3_stmt *statement, int index, struct span text)
{
    /* A NULL pointer would bind SQL's NULL. */
    return sqlite3_bind_text(statement, index, text.ptr ? text.ptr : "", (int)text.len, SQLITE_STATIC);
}

/* Waits for other processes' transactions no longer than the caller's deadline. */
static void set_wait(struct sqlite_store *s, int64_t deadline_ms)
{
    int64_t left = deadline_ms - clock_monotonic_ms();
    if (left > WAIT_SQLITE_BUSY_MS)
        left = WAIT_SQLITE_BUSY_MS;
    (void)sqlite3_busy_timeout(s->db, left > 0 ? (int)left : 0);
}

static int run(struct sqlite_store *s, enum statement which)
{
    sqlite3_stmt *statement = s->statements[which];
    int code = sqlite3_step(statement);
    int reset = sqlite3_reset(statement);
    return code == SQLITE_DONE || code == SQLITE_ROW ? reset : code;
}

static bool bind_version(sqlite3_stmt *statement, struct span etag)
{
    if (span_eq(etag, SPAN_LIT("*")))
        return sqlite3_bind_null(statement, 6) == SQLITE_OK;
    char text[24];
    if (etag.len == 0 || etag.len >= sizeof text)
        return false;
    memcpy(text, etag.ptr, etag.len);
    text[etag.len] = '\0';
    return sqlite3_bind_int64(statement, 6, strtoll(text, NULL, 10)) == SQLITE_OK;
}

static enum status row_status(struct sqlite_store *s, enum table_id table, const struct entity *e,
                              struct fail *why)
{
    sqlite3_stmt *get = s->statements[SQL_GET];
    int code = sqlite3_bind_int(get, 1, (int)table);
    if (code == SQLITE_OK)
        code = bind_span(get, 2, e->partition_key);
    if (code == SQLITE_OK)
        code = bind_span(get, 3, e->row_key);
    if (code == SQLITE_OK)
        code = sqlite3_step(get);
    (void)sqlite3_reset(get);
    if (code == SQLITE_ROW)
        return fail_set(why, ST_CHANGED, 0, "the row was changed by someone else");
    if (code == SQLITE_DONE)
        return fail_set(why, ST_NOT_FOUND, 0, "the row is not there");
    return failed_with(code, "read", why);
}

static enum status apply(struct sqlite_store *s, enum table_id table, const struct operation *operation,
                         struct fail *why)
{
    static const enum statement statements[] = {
        [OPERATION_INSERT] = SQL_INSERT, [OPERATION_MERGE] = SQL_MERGE, [OPERATION_DELETE] = SQL_DELETE};
    const struct entity *e = &operation->entity;
    sqlite3_stmt *statement = s->statements[statements[operation->kind]];

    enum status status = entity_check(e, why);
    if (status != ST_OK)
        return status;
    int code = sqlite3_bind_int(statement, 1, (int)table);
    if (code == SQLITE_OK)
        code = bind_span(statement, 2, e->partition_key);
    if (code == SQLITE_OK)
        code = bind_span(statement, 3, e->row_key);
    if (code == SQLITE_OK && operation->kind != OPERATION_DELETE) {
        buf_reset(&s->json);
        status = entity_write(&s->json, e, why);
        if (status != ST_OK)
            return status;
        code = sqlite3_bind_int64(statement, 4, clock_wall_ms());
        if (code == SQLITE_OK)
            code = bind_span(statement, 5, buf_span(&s->json));
    }
    if (code == SQLITE_OK && operation->kind != OPERATION_INSERT && !bind_version(statement, e->etag))
        return fail_set(why, ST_BUG, 0, "an operation came without a usable etag");
    if (code == SQLITE_OK)
        code = run(s, statements[operation->kind]);
    buf_recycle(&s->json, JSON_KEPT_BYTES); /* the statement is bound anew before it runs again */
    if ((code & 0xFF) == SQLITE_CONSTRAINT)
        return fail_set(why, ST_EXISTS, 0, "the row exists already");
    if (code != SQLITE_OK)
        return failed_with(code, "write", why);
    if (sqlite3_changes(s->db) == 0)
        return row_status(s, table, e, why);
    return ST_OK;
}

static enum status transact(struct store *store, enum table_id table, const struct operation *operations,
                            size_t count, int64_t deadline_ms, size_t *failed, struct fail *why)
{
    struct sqlite_store *s = sqlite_of(store);
    set_wait(s, deadline_ms);
    int code = run(s, SQL_BEGIN);
    if (code != SQLITE_OK)
        return failed_with(code, "begin a transaction", why);
    enum status status = s->admit ? s->admit(s->admit_context, why) : ST_OK;
    for (size_t i = 0; i < count && status == ST_OK; i++) {
        status = apply(s, table, &operations[i], why);
        if (status != ST_OK)
            *failed = i;
    }
    if (status == ST_OK) {
        code = run(s, SQL_COMMIT);
        if (code != SQLITE_OK)
            status = failed_with(code, "commit", why);
    }
    /* Some errors have already rolled back by themselves. */
    if (status != ST_OK && !sqlite3_get_autocommit(s->db))
        (void)run(s, SQL_ROLLBACK);
    return status;
}

/* Copies the statement's current row. */
static enum status read_row(sqlite3_stmt *statement, struct span partition_key, struct arena *arena,
                            struct entity *row, struct fail *why)
{
    static const struct json_limits limits = {.depth = 1, .values = 2 * LIMIT_PROPERTIES + 8};
    struct span json = {(const char *)sqlite3_column_text(statement, 3),
                        (size_t)sqlite3_column_bytes(statement, 3)};
    struct span key = {(const char *)sqlite3_column_text(statement, 0),
                       (size_t)sqlite3_column_bytes(statement, 0)};
    struct span version = {(const char *)sqlite3_column_text(statement, 1),
                           (size_t)sqlite3_column_bytes(statement, 1)};
    struct span copy;
    const struct json *object;
    if (!arena_copy(arena, json, &copy))
        return fail_set(why, ST_NOMEM, 0, "no memory for a row");
    enum status status = json_read(copy, &limits, arena, &object, NULL, why);
    if (status == ST_OK)
        status = entity_read(object, arena, row, why);
    if (status == ST_INVALID || status == ST_TOO_LARGE) /* we wrote it, so it was different then */
        return fail_set(why, ST_DAMAGED, 0, "a row of the database is damaged");
    if (status != ST_OK)
        return status;
    if (!arena_copy(arena, key, &row->row_key) || !arena_copy(arena, version, &row->etag) ||
        !arena_copy(arena, partition_key, &row->partition_key))
        return fail_set(why, ST_NOMEM, 0, "no memory for a row");
    row->timestamp_ms = sqlite3_column_int64(statement, 2);
    return ST_OK;
}

static enum status get_one(struct sqlite_store *s, enum table_id table, struct span partition_key,
                           struct span row_key, struct arena *arena, struct entity **row, struct fail *why)
{
    sqlite3_stmt *get = s->statements[SQL_GET];
    int code = sqlite3_bind_int(get, 1, (int)table);
    if (code == SQLITE_OK)
        code = bind_span(get, 2, partition_key);
    if (code == SQLITE_OK)
        code = bind_span(get, 3, row_key);
    if (code == SQLITE_OK)
        code = sqlite3_step(get);
    enum status status = ST_OK;
    *row = NULL;
    if (code == SQLITE_ROW) {
        struct entity *found = arena_alloc(arena, sizeof *found);
        status = found ? read_row(get, partition_key, arena, found, why)
                       : fail_set(why, ST_NOMEM, 0, "no memory for a row");
        *row = found;
    } else if (code != SQLITE_DONE) {
        status = failed_with(code, "read", why);
    }
    (void)sqlite3_reset(get);
    return status;
}

static enum status get_many(struct store *store, enum table_id table, struct span partition_key,
                            const struct span *row_keys, size_t count, const char *select,
                            int64_t deadline_ms, struct arena *arena, struct entity **rows, struct fail *why)
{
    (void)select; /* the row is one value here */
    struct sqlite_store *s = sqlite_of(store);
    set_wait(s, deadline_ms);
    for (size_t i = 0; i < count; i++) {
        enum status status = get_one(s, table, partition_key, row_keys[i], arena, &rows[i], why);
        if (status != ST_OK)
            return status;
    }
    return ST_OK;
}

/* What the statement has of a query besides its keys; where there is none NULL is bound, which is SQL's NULL. */
struct conditions {
    char since[CLOCK_TEXT_BYTES];
    char until[CLOCK_TEXT_BYTES];
    char since_path[LIMIT_PROPERTY_NAME + 8];
    char text_path[LIMIT_PROPERTY_NAME + 8];
};

static void conditions_of(struct conditions *c, const struct query *q)
{
    clock_iso_time(q->since_ms, c->since);
    clock_iso_time(q->until_ms, c->until);
    (void)snprintf(c->since_path, sizeof c->since_path, "$.%s", q->since_column ? q->since_column : "");
    (void)snprintf(c->text_path, sizeof c->text_path, "$.%s", q->text_column ? q->text_column : "");
}

static int bind_conditions(sqlite3_stmt *statement, const struct query *q, const struct conditions *c)
{
    bool is_written = q->since_column && strcmp(q->since_column, "Timestamp") == 0;
    bool is_since = q->since_column && !is_written;
    int code = sqlite3_bind_text(statement, 5, is_since ? c->since : NULL, -1, SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = sqlite3_bind_text(statement, 6, c->since_path, -1, SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = sqlite3_bind_text(statement, 9, is_since && q->until_ms ? c->until : NULL, -1, SQLITE_STATIC);
    if (code == SQLITE_OK)
        code = is_written ? sqlite3_bind_int64(statement, 10, q->since_ms) : sqlite3_bind_null(statement, 10);
    if (code == SQLITE_OK)
        code = q->text_column ? bind_span(statement, 11, q->text) : sqlite3_bind_null(statement, 11);
    if (code == SQLITE_OK)
        code = sqlite3_bind_text(statement, 12, c->text_path, -1, SQLITE_STATIC);
    return code;
}

static int bind_query(sqlite3_stmt *statement, const struct query *q, const struct conditions *c)
{
    int code = sqlite3_bind_int(statement, 1, (int)q->table);
    if (code == SQLITE_OK)
        code = bind_span(statement, 2, q->partition_key);
    if (code == SQLITE_OK)
        code = bind_span(statement, 3, q->from);
    if (code == SQLITE_OK)
        code = q->to.len ? bind_span(statement, 4, q->to) : sqlite3_bind_null(statement, 4);
    if (code == SQLITE_OK)
        code = q->next.len ? bind_span(statement, 7, q->next) : sqlite3_bind_null(statement, 7);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(statement, 8, (sqlite3_int64)q->limit);
    return code == SQLITE_OK ? bind_conditions(statement, q, c) : code;
}

static enum status query(struct store *store, const struct query *q, int64_t deadline_ms, struct arena *arena,
                         struct page *page, struct fail *why)
{
    struct sqlite_store *s = sqlite_of(store);
    sqlite3_stmt *statement = s->statements[SQL_QUERY];
    struct conditions conditions;
    struct page result = {.rows = arena_array(arena, q->limit, sizeof *result.rows)};
    enum status status = ST_OK;
    if (!result.rows)
        return fail_set(why, ST_NOMEM, 0, "no memory for rows");
    conditions_of(&conditions, q);
    set_wait(s, deadline_ms);
    int code = bind_query(statement, q, &conditions);
    bool more = true;
    for (size_t bytes = 0; code == SQLITE_OK && status == ST_OK && more;) {
        int step = sqlite3_step(statement);
        if (step == SQLITE_DONE)
            break;
        if (step != SQLITE_ROW) {
            code = step;
            break;
        }
        bytes += (size_t)sqlite3_column_bytes(statement, 3);
        status = read_row(statement, q->partition_key, arena, &result.rows[result.count++], why);
        more = result.count < q->limit && bytes < LIMIT_PAGE_BYTES;
    }
    (void)sqlite3_reset(statement);
    if (code != SQLITE_OK)
        return failed_with(code, "read", why);
    if (status != ST_OK)
        return status;
    if (!more)
        result.next = result.rows[result.count - 1].row_key;
    *page = result;
    return ST_OK;
}

enum status sqlite_store_scan(struct store *store, struct scan *scan, struct arena *arena, struct page *page,
                              struct fail *why)
{
    sqlite3_stmt *statement = sqlite_of(store)->statements[scan->backwards ? SQL_SCAN_BACK : SQL_SCAN];
    enum status status = ST_OK;
    *page = (struct page){.rows = arena_array(arena, scan->limit, sizeof *page->rows)};
    scan->more = false;
    if (!page->rows)
        return fail_set(why, ST_NOMEM, 0, "no memory for rows");
    if (!scan->has_begun)
        scan->at = scan->backwards ? INT64_MAX : INT64_MIN;
    scan->has_begun = true;
    int code = sqlite3_bind_int(statement, 1, (int)scan->table);
    if (code == SQLITE_OK)
        code = bind_span(statement, 2, scan->partition_key);
    if (code == SQLITE_OK)
        code = sqlite3_bind_int64(statement, 3, scan->at);
    for (size_t bytes = 0; code == SQLITE_OK && status == ST_OK && !scan->more;) {
        int step = sqlite3_step(statement);
        if (step == SQLITE_DONE)
            break;
        int64_t at = step == SQLITE_ROW ? sqlite3_column_int64(statement, 4) : 0;
        if (step == SQLITE_ROW && (scan->backwards ? at >= scan->at : at <= scan->at))
            step = SQLITE_CORRUPT; /* and it would go round and round */
        if (step != SQLITE_ROW) {
            code = step;
            break;
        }
        scan->at = at;
        bytes += (size_t)sqlite3_column_bytes(statement, 3);
        status = read_row(statement, scan->partition_key, arena, &page->rows[page->count], why);
        page->count += status == ST_OK;
        if (status == ST_DAMAGED)
            status = ST_OK;
        scan->more = page->count == scan->limit || bytes >= LIMIT_PAGE_BYTES;
    }
    (void)sqlite3_reset(statement);
    return code == SQLITE_OK ? status : failed_with(code, "read", why);
}

static int64_t now_ms(const struct store *store)
{
    (void)store;
    return clock_wall_ms();
}

enum status sqlite_store_tally(struct store *store, enum table_id table, struct span partition_key,
                               struct arena *arena, uint64_t *rows, struct span *first, struct fail *why)
{
    sqlite3_stmt *tally = sqlite_of(store)->statements[SQL_TALLY];
    enum status status = ST_OK;
    int code = sqlite3_bind_int(tally, 1, (int)table);
    if (code == SQLITE_OK)
        code = bind_span(tally, 2, partition_key);
    if (code == SQLITE_OK)
        code = sqlite3_step(tally);
    if (code != SQLITE_ROW) {
        status = failed_with(code, "count rows", why);
    } else {
        struct span key = {(const char *)sqlite3_column_text(tally, 1),
                           (size_t)sqlite3_column_bytes(tally, 1)};
        *rows = (uint64_t)sqlite3_column_int64(tally, 0);
        if (!arena_copy(arena, key, first))
            status = fail_set(why, ST_NOMEM, 0, "no memory to count rows");
    }
    (void)sqlite3_reset(tally);
    return status;
}

enum status sqlite_store_size(struct store *store, uint64_t *bytes, uint64_t *unused, struct fail *why)
{
    sqlite3_stmt *size = sqlite_of(store)->statements[SQL_SIZE];
    int code = sqlite3_step(size);
    enum status status = ST_OK;
    if (code == SQLITE_ROW) {
        *bytes = (uint64_t)sqlite3_column_int64(size, 0);
        *unused = (uint64_t)sqlite3_column_int64(size, 1);
    } else {
        status = failed_with(code, "look at its size", why);
    }
    (void)sqlite3_reset(size);
    return status;
}

enum status sqlite_store_has(struct store *store, enum table_id table, struct span partition_key,
                             struct span row_key, bool *has, struct fail *why)
{
    sqlite3_stmt *statement = sqlite_of(store)->statements[SQL_HAS];
    int code = sqlite3_bind_int(statement, 1, (int)table);
    if (code == SQLITE_OK)
        code = bind_span(statement, 2, partition_key);
    if (code == SQLITE_OK)
        code = bind_span(statement, 3, row_key);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    (void)sqlite3_reset(statement);
    *has = code == SQLITE_ROW;
    return code == SQLITE_ROW || code == SQLITE_DONE ? ST_OK : failed_with(code, "read", why);
}

enum status sqlite_store_check(struct store *store, struct fail *why)
{
    sqlite3_stmt *check = sqlite_of(store)->statements[SQL_CHECK];
    int code = sqlite3_step(check);
    const char *said = code == SQLITE_ROW ? (const char *)sqlite3_column_text(check, 0) : NULL;
    enum status status = ST_OK;
    if (code != SQLITE_ROW || !said)
        status = failed_with(code == SQLITE_ROW ? SQLITE_NOMEM : code, "check it", why);
    else if (strcmp(said, "ok") != 0)
        status = failed_with(SQLITE_CORRUPT, "check it", why);
    (void)sqlite3_reset(check);
    return status;
}

bool sqlite_store_has_moved(struct store *store)
{
    int moved = 0;
    int code = sqlite3_file_control(sqlite_of(store)->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
    return code == SQLITE_OK && moved;
}

void sqlite_store_guard(struct store *store, enum status (*admit)(void *context, struct fail *why),
                        void *context)
{
    sqlite_of(store)->admit = admit;
    sqlite_of(store)->admit_context = context;
}

enum status sqlite_store_limit_log(struct store *store, uint64_t bytes, struct fail *why)
{
    char pragmas[128];
    unsigned long long pages = bytes / 4096 / 2; /* and one more transaction */
    (void)snprintf(pragmas, sizeof pragmas,
                   "PRAGMA wal_autocheckpoint = %llu; PRAGMA journal_size_limit = %llu",
                   pages > 0 && pages < 1000 ? pages : 1000, (unsigned long long)bytes);
    int code = sqlite3_exec(sqlite_of(store)->db, pragmas, NULL, NULL, NULL);
    return code == SQLITE_OK ? ST_OK : failed_with(code, "limit its log", why);
}

void sqlite_store_shrink(struct store *store, bool vacuum, int64_t deadline_ms)
{
    struct sqlite_store *s = sqlite_of(store);
    set_wait(s, deadline_ms);
    /* Both may find the database in use; then it is as large as before. */
    if (vacuum)
        (void)sqlite3_exec(s->db, "VACUUM", NULL, NULL, NULL);
    (void)sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
}

/* The database has it overwritten already (secure_delete); its log still has the pages as they were before. */
static enum status wipe(struct store *store, int64_t deadline_ms, struct fail *why)
{
    struct sqlite_store *s = sqlite_of(store);
    int code;
    do {
        set_wait(s, deadline_ms);
        code = sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL);
    } while ((code & 0xFF) == SQLITE_BUSY && clock_monotonic_ms() < deadline_ms);
    return code == SQLITE_OK ? ST_OK : failed_with(code, "empty its log", why);
}

static const struct store_functions FUNCTIONS = {
    .joins_partitions = true,
    .close = sqlite_store_close,
    .transact = transact,
    .get_many = get_many,
    .query = query,
    .wipe = wipe,
    .now_ms = now_ms,
};

/* The file is made by us so that nobody else may read it from the beginning;
 * SQLite gives its log the same mode.  An existing file is not opened: closing
 * any descriptor of it would drop the locks that other connections of this
 * process hold on it (POSIX locks belong to the process), and with those gone
 * another program could remove the log in use. */
static enum status make_file(const char *path, struct fail *why)
{
    struct stat info;
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd >= 0) {
        (void)close(fd); /* nobody had time to lock it */
        return ST_OK;
    }
    if (errno != EEXIST)
        return fail_set(why, ST_IO, errno, "cannot make the database '%s'", path);
    if (lstat(path, &info) != 0)
        return fail_set(why, ST_IO, errno, "cannot examine the database '%s'", path);
    if (!S_ISREG(info.st_mode))
        return fail_set(why, ST_IO, 0, "'%s' is not a regular file", path);
    return ST_OK;
}

/* When several processes make a database at once, SQLite refuses the second one's change to WAL, and its schema,
 * without having waited. */
static int run_patiently(sqlite3 *db, const char *sql)
{
    int64_t end = clock_monotonic_ms() + WAIT_SQLITE_BUSY_MS;
    int code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    while ((code & 0xFF) == SQLITE_BUSY && clock_monotonic_ms() < end) {
        (void)poll(NULL, 0, OPEN_STEP_MS);
        code = sqlite3_exec(db, sql, NULL, NULL, NULL);
    }
    return code;
}

static enum status open_database(struct sqlite_store *s, const char *path, struct fail *why)
{
    int keep_log = 1;
    int code = sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_extended_result_codes(s->db, 1);
    if (code == SQLITE_OK)
        code = sqlite3_busy_timeout(s->db, WAIT_SQLITE_BUSY_MS);
    if (code == SQLITE_OK)
        code = run_patiently(s->db, PRAGMAS);
    if (code == SQLITE_OK)
        code = sqlite3_file_control(s->db, "main", SQLITE_FCNTL_PERSIST_WAL, &keep_log);
    if (code == SQLITE_OK)
        code = run_patiently(s->db, SCHEMA);
    for (size_t i = 0; i < SQL_COUNT && code == SQLITE_OK; i++)
        code = sqlite3_prepare_v3(s->db, SQL[i], -1, SQLITE_PREPARE_PERSISTENT, &s->statements[i], NULL);
    /* A transaction makes sure that the log exists before the directory is synced. */
    if (code == SQLITE_OK)
        code = run(s, SQL_BEGIN);
    if (code == SQLITE_OK)
        code = run(s, SQL_ROLLBACK);
    if (code != SQLITE_OK) {
        enum status status = failed_with(code, "open it", why);
        fail_prefix(why, "database '%s'", path);
        return status;
    }
    return file_sync_folder(path, why);
}

enum status store_open_sqlite(const char *path, struct store **store, struct fail *why)
{
    enum status status = make_file(path, why);
    if (status != ST_OK)
        return status;
    struct sqlite_store *s = calloc(1, sizeof *s);
    if (!s)
        return fail_set(why, ST_NOMEM, 0, "no memory for a store");
    s->base.functions = &FUNCTIONS;
    s->json = BUF_INIT(LIMIT_ENTITY_JSON_BYTES);
    status = open_database(s, path, why);
    if (status != ST_OK) {
        sqlite_store_close(&s->base);
        return status;
    }
    *store = &s->base;
    return ST_OK;
}

const char *store_sqlite_version(void)
{
    return sqlite3_libversion();
}
