/* store_internal.h - what an implementation of store.h provides; for lib/store only. */
#ifndef LEAD_STORE_INTERNAL_H
#define LEAD_STORE_INTERNAL_H

#include "lib/store/store.h"

struct store_functions {
    bool joins_partitions;
    void (*close)(struct store *store);
    enum status (*transact)(struct store *store, enum table_id table, const struct operation *operations,
                            size_t count, int64_t deadline_ms, size_t *failed, struct fail *why);
    enum status (*get_many)(struct store *store, enum table_id table, struct span partition_key,
                            const struct span *row_keys, size_t count, const char *select,
                            int64_t deadline_ms, struct arena *arena, struct entity **rows, struct fail *why);
    enum status (*query)(struct store *store, const struct query *query, int64_t deadline_ms,
                         struct arena *arena, struct page *page, struct fail *why);
    enum status (*wipe)(struct store *store, int64_t deadline_ms, struct fail *why); /* NULL: nothing to do */
    int64_t (*now_ms)(const struct store *store);
    struct table_ends (*ends)(struct store *store); /* NULL: nothing ends */
};

/* store_each, with a store_query of the caller's own, which is told how long it may wait. */
typedef enum status store_ask_page(struct store *store, const struct query *query, int64_t wait_ms,
                                   struct arena *arena, struct page *page, struct fail *why);
MUST_CHECK enum status store_walk(struct store *store, struct query *query, int64_t page_wait_ms,
                                  store_ask_page *ask, store_visit *visit, void *context, struct fail *why);

/* --- of the sqlite store only, for the spool ------------------------------------------------------------------ */

/* How many rows a partition has below the key "~", and the first one's key (blank when none). */
MUST_CHECK enum status sqlite_store_tally(struct store *store, enum table_id table, struct span partition_key,
                                          struct arena *arena, uint64_t *rows, struct span *first,
                                          struct fail *why);

/* Bytes of the database, its log carried over, and how many of them hold nothing and will be used again. */
MUST_CHECK enum status sqlite_store_size(struct store *store, uint64_t *bytes, uint64_t *unused,
                                         struct fail *why);

/* Whether there is such a row; its content is not read. */
MUST_CHECK enum status sqlite_store_has(struct store *store, enum table_id table, struct span partition_key,
                                        struct span row_key, bool *has, struct fail *why);

/* A way through the rows of a partition as they lie in the file, without its index. */
struct scan {
    enum table_id table;
    struct span partition_key;
    size_t limit;   /* rows of a page, at least 1 */
    bool backwards; /* from the youngest one on */
    /* Where it is; zero at first. */
    bool has_begun, more;
    int64_t at;
};

/* The next page of it; scan->more: it is not the last one.  A row that cannot be read is passed over; when it fails,
 * *page has what was read until then. */
MUST_CHECK enum status sqlite_store_scan(struct store *store, struct scan *scan, struct arena *arena,
                                         struct page *page, struct fail *why);

/* Reads all of the database and sees whether it leads to every row: where one bad byte has sent a search astray, SQLite
 * does not notice it otherwise.  Takes as long as it takes to read the file.  ST_DAMAGED. */
MUST_CHECK enum status sqlite_store_check(struct store *store, struct fail *why);

/* Whether the file was removed, or another one put in its place, since it was opened. */
bool sqlite_store_has_moved(struct store *store);

/* Has every transaction of the connection ask admit, while no other process can write, until that is NULL again.
 * What it says instead of ST_OK becomes the transaction's status. */
void sqlite_store_guard(struct store *store, enum status (*admit)(void *context, struct fail *why),
                        void *context);

/* Keeps the log from growing far over so many bytes while it can be emptied. */
MUST_CHECK enum status sqlite_store_limit_log(struct store *store, uint64_t bytes, struct fail *why);

/* Empties the log and, with vacuum, gives free pages back to the file system, as far as nobody is in the way. */
void sqlite_store_shrink(struct store *store, bool vacuum, int64_t deadline_ms);

/* The first member of each implementation's own struct. */
struct store {
    const struct store_functions *functions;
};

#endif
