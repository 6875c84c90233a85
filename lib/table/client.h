/* client.h - the Azure Table service, as one connection owned by one thread.
 *
 * Every call is bounded by deadline_ms (monotonic clock): it gives up then.
 * Requests are signed anew for every attempt.  Nothing is retried here but what
 * libcurl repeats by itself on a dead kept connection; the rules above decide.
 *
 * Statuses: ST_AGAIN when certainly nothing was written (no connection, 429,
 * 503 ServerBusy), ST_UNKNOWN when it may have been (timeout or loss after
 * sending, 500, 502, 504, 408, an answer that cannot be understood), ST_DENIED
 * for credentials, rights, firewalls, clocks, certificates, wrong endpoints and
 * whatever else refuses requests as a whole (the text says which and what to
 * do), ST_INVALID or ST_TOO_LARGE with *failed for a fault of one member, ST_BUG
 * for operations that break the rules below.
 * why->peer is the HTTP status, why->retry_after_s what the service asked for.
 */
#ifndef LEAD_TABLE_CLIENT_H
#define LEAD_TABLE_CLIENT_H

#include "lib/base/secret.h"
#include "lib/table/entity.h"

struct table_client;

/* Whether the leads table may have this name: letters and digits, a letter
 * first, 3 to 60 of them, so that the other table's name fits too. */
bool table_name_is_valid(struct span name);

struct table_options {
    struct span connection; /* the connection string; copied, a secret */
    struct secret
        *live; /* NULL, or where it comes from instead; borrowed, and followed when it is replaced */
    struct span table_name; /* the leads table; the other is this + "Ops" */
    const char *ca_file;    /* NULL: the system's certificates */
    /* For metrics; may be NULL: told of every exchange with the service and how long it took. */
    void (*on_exchange)(void *context, int64_t took_us);
    void *context;
};

/* ST_INVALID names the part of the connection string that is wrong. */
MUST_CHECK enum status table_client_new(const struct table_options *options, struct table_client **client,
                                        struct fail *why);
void table_client_free(struct table_client *client);

/* Takes over a connection string that has been replaced, if it is one of the same
 * endpoint; to be called before a piece of work.  Without memory, or with another
 * endpoint, the credentials stay as they are. */
void table_client_renew(struct table_client *client);

/* One entity group transaction: all operations are of one table and partition,
 * have different RowKeys, are at most LIMIT_BATCH_OPERATIONS and pass
 * entity_check; all of them take effect or none.  On ST_EXISTS, ST_CHANGED,
 * ST_NOT_FOUND, ST_INVALID, ST_TOO_LARGE *failed is the operation's index, or
 * NO_INDEX when the service did not say.  A missing table is created once and
 * the transaction sent again. */
MUST_CHECK enum status table_transact(struct table_client *client, enum table_id table,
                                      const struct operation *operations, size_t count, int64_t deadline_ms,
                                      size_t *failed, struct fail *why);

/* Reads the rows of these keys at once, over several connections in parallel:
 * a filter of "or"s would make the service scan the partition.  rows[i] is NULL
 * where there is no such row.  A missing table has no rows. */
MUST_CHECK enum status table_get_many(struct table_client *client, enum table_id table,
                                      struct span partition_key, const struct span *row_keys, size_t count,
                                      const char *select, int64_t deadline_ms, struct arena *arena,
                                      struct entity **rows, struct fail *why);

/* One page of rows, of fewer than query->limit where they are large.  A missing
 * table is an empty one.  ST_TOO_LARGE: a single row over LIMIT_ANSWER_BYTES. */
MUST_CHECK enum status table_query(struct table_client *client, const struct query *query,
                                   int64_t deadline_ms, struct arena *arena, struct page *page,
                                   struct fail *why);

/* Creates the table if it is not there.  ST_DENIED: the credentials may not. */
MUST_CHECK enum status table_create(struct table_client *client, enum table_id table, int64_t deadline_ms,
                                    struct fail *why);

/* When what the client goes in with, and what the service shows, come to their end; 0: never, or not known (yet). */
struct table_ends {
    int64_t sas_ms;
    int64_t certificate_ms; /* of the last connection that was made */
};
struct table_ends table_ends(const struct table_client *client);

/* The service's clock as its last answer gave it, moved on by the time since
 * then; the local clock before any answer. */
int64_t table_now_ms(const struct table_client *client);

#endif
