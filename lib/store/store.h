/* store.h - where leads are kept: the Table service or a SQLite database.
 *
 * Both stores keep entities (lib/table/entity.h) and know the same five
 * operations; every rule about leads, mails and quarantine is written once, on
 * top of them.  A struct store is one connection and belongs to one thread;
 * any number of connections, processes and (with the Table service) hosts may
 * work on the same data.
 *
 * Every call is bounded by deadline_ms (monotonic clock).  Statuses are those of
 * lib/table/client.h; sqlite adds ST_AGAIN when another process keeps the
 * database locked and ST_IO for a disk that is full, read-only or broken.
 */
#ifndef LEAD_STORE_H
#define LEAD_STORE_H

#include "lib/table/client.h"

struct store;

/* Opens the database at path, and makes it (mode 0600) with its tables when it
 * is not there.  Nothing is accepted before the files are durably in their
 * directory. */
MUST_CHECK enum status store_open_sqlite(const char *path, struct store **store, struct fail *why);

/* Makes no connection yet: that happens with the first operation. */
MUST_CHECK enum status store_open_table(const struct table_options *options, struct store **store,
                                        struct fail *why);

void store_close(struct store *store);

/* Whether one transaction may hold rows of different partitions (sqlite). */
bool store_joins_partitions(const struct store *store);

/* All operations take effect, or none.  Durable when this returns ST_OK.  At
 * most LIMIT_BATCH_OPERATIONS, of one partition unless store_joins_partitions,
 * each with a key of its own.  On ST_EXISTS, ST_CHANGED, ST_NOT_FOUND,
 * ST_INVALID and ST_TOO_LARGE *failed is the operation's index or NO_INDEX. */
MUST_CHECK enum status store_transact(struct store *store, enum table_id table,
                                      const struct operation *operations, size_t count, int64_t deadline_ms,
                                      size_t *failed, struct fail *why);

/* rows[i] becomes the entity of row_keys[i], or NULL where there is none.
 * select is a hint: a comma-separated list of the columns needed, or NULL. */
MUST_CHECK enum status store_get_many(struct store *store, enum table_id table, struct span partition_key,
                                      const struct span *row_keys, size_t count, const char *select,
                                      int64_t deadline_ms, struct arena *arena, struct entity **rows,
                                      struct fail *why);

/* One page in key order.  Results live in the arena. */
MUST_CHECK enum status store_query(struct store *store, const struct query *query, int64_t deadline_ms,
                                   struct arena *arena, struct page *page, struct fail *why);

/* Moves the query behind a page and empties the arena that holds it.  *more: whether
 * there is a page behind it.  ST_TOO_LARGE, ST_NOMEM. */
MUST_CHECK enum status store_turn_page(struct query *query, const struct page *page, struct arena *arena,
                                       bool *more, struct fail *why);

/* Calls visit with every row of the query's range, page by page, each page read
 * within page_wait_ms; the row lives until visit returns.  Ends with the first
 * status of visit that is not ST_OK.  query->next is used for the pages. */
typedef enum status store_visit(void *context, struct entity *row, struct fail *why);
MUST_CHECK enum status store_each(struct store *store, struct query *query, int64_t page_wait_ms,
                                  store_visit *visit, void *context, struct fail *why);

/* Whether a lead could be written durably now: writes a row of its own into the
 * operations table, and makes sure that rows of the leads table may be written. */
MUST_CHECK enum status store_probe(struct store *store, int64_t deadline_ms, struct fail *why);

/* Sees to it that what was deleted is in no file of this host any more: sqlite's log is emptied.  Nothing to do
 * where the rows are a service's.  ST_AGAIN: others kept it from that until the deadline. */
MUST_CHECK enum status store_wipe(struct store *store, int64_t deadline_ms, struct fail *why);

/* What of the way to the store comes to an end of which somebody should know before; all 0 where there is no such. */
struct table_ends store_ends(struct store *store);

/* The clock that entities' timestamps come from. */
int64_t store_now_ms(const struct store *store);

/* "3.40.1": the SQLite in use; static. */
const char *store_sqlite_version(void);

#endif
