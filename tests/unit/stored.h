/* stored.h - what the tests of the stores and of what works on them share: a time limit, random ids, a folder of
 * their own, a store in it, leads and rows.
 *
 * Include behind <cmocka.h>.
 */
#ifndef LEAD_TEST_STORED_H
#define LEAD_TEST_STORED_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"
#include "lib/store/leads.h"

#define HOUR_MS (60 * 60 * 1000LL)

static inline int64_t soon(void)
{
    return clock_monotonic_ms() + 10000;
}

/* Also for threads and processes of their own, where an assertion has no way back. */
static inline void random_hex(char *text, size_t digits)
{
    unsigned char bytes[32];
    if (crypto_random(bytes, digits / 2, NULL) != ST_OK)
        abort();
    hex_write(bytes, digits / 2, text);
}

/* 0: it is gone. */
static inline int remove_folder(const char *path)
{
    char command[160];
    (void)snprintf(command, sizeof command, "rm -rf %s", path);
    return system(command);
}

/* --- a store ------------------------------------------------------------------------------------------------- */

struct stored {
    struct store *store;
    struct arena arena;
    char directory[64];
    char path[96];  /* of the SQLite database */
    char table[40]; /* of the Table service; blank: the store is the database */
};

/* One more connection; for a committer too, whose context is the stored. */
static inline enum status open_store(void *context, struct store **store, struct fail *why)
{
    const struct stored *s = context;
    if (!s->table[0])
        return store_open_sqlite(s->path, store, why);
    struct table_options options = {.connection = span_of(getenv("TABLE_CONNECTION")),
                                    .table_name = span_of(s->table)};
    return store_open_table(&options, store, why);
}

/* On the Table service that TABLE_CONNECTION names, if it does and there is a name for the table; otherwise on
 * SQLite. */
static inline bool stored_open(struct stored *s, const char *table)
{
    struct fail why;
    s->arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    (void)snprintf(s->directory, sizeof s->directory, "/tmp/leadhook-test-XXXXXX");
    if (!mkdtemp(s->directory))
        return false;
    (void)snprintf(s->path, sizeof s->path, "%s/leads.db", s->directory);
    if (table && getenv("TABLE_CONNECTION"))
        (void)snprintf(s->table, sizeof s->table, "%s", table);
    if (open_store(s, &s->store, &why) == ST_OK)
        return true;
    print_error("%s\n", why.text);
    return false;
}

/* 0: its folder is gone too. */
static inline int stored_close(struct stored *s)
{
    store_close(s->store);
    arena_release(&s->arena);
    return remove_folder(s->directory);
}

/* --- leads --------------------------------------------------------------------------------------------------- */

static inline struct lead *lead_of_somebody(struct arena *arena, const char *partition)
{
    struct lead *lead = arena_alloc(arena, sizeof *lead);
    if (!lead)
        abort();
    lead->customer.first_name = SPAN_LIT("J\xC3\xB6rg \"J\" <b>");
    lead->customer.email = SPAN_LIT("joerg@example.com");
    lead->action = SPAN_LIT("INS");
    lead->offer_title = SPAN_LIT("Example Offer");
    lead->payload = SPAN_LIT("{\"UserDetails\":{\"FirstName\":\"J\xC3\xB6rg\"}}");
    (void)snprintf(lead->partition, sizeof lead->partition, "%s", partition);
    random_hex(lead->contact, LEAD_HASH_TEXT);
    random_hex(lead->content, LEAD_HASH_TEXT);
    return lead;
}

/* A delivery of the lead, to be stored. */
static inline struct lead_write *make_write(struct arena *arena, const struct lead *lead, int64_t received_ms)
{
    struct lead_write *write = arena_alloc(arena, sizeof *write);
    if (!write)
        abort();
    write->delivery.lead = lead;
    write->delivery.received_ms = received_ms;
    write->delivery.key_name = SPAN_LIT("marketplace");
    random_hex(write->delivery.id, LEAD_DELIVERY_TEXT);
    write->status = ST_AGAIN; /* not tried */
    return write;
}

/* A lead of a person of its own, received at that time. */
static inline struct lead_write *make_lead(struct arena *arena, const char *partition, int64_t received_ms)
{
    return make_write(arena, lead_of_somebody(arena, partition), received_ms);
}

/* --- what there is ------------------------------------------------------------------------------------------- */

/* The rows of a partition with from <= key < to, in key order; at most 1000. */
static inline struct page rows_between(struct store *store, struct arena *arena, enum table_id table,
                                       const char *partition, const char *from, const char *to)
{
    struct query q = {.table = table,
                      .partition_key = span_of(partition),
                      .from = span_of(from),
                      .to = span_of(to),
                      .limit = 1000};
    struct page page;
    struct fail why;
    if (store_query(store, &q, soon(), arena, &page, &why) != ST_OK)
        fail_msg("cannot look: %s", why.text);
    return page;
}

static inline size_t mails_in_maildir(const char *maildir)
{
    char path[128];
    size_t count = 0;
    (void)snprintf(path, sizeof path, "%s/new", maildir);
    DIR *directory = opendir(path);
    if (!directory)
        return 0;
    for (const struct dirent *entry = readdir(directory); entry; entry = readdir(directory))
        count += entry->d_name[0] != '.' ? 1 : 0;
    (void)closedir(directory);
    return count;
}

#endif
