/* journal.h - what was committed, in a file, so that a service that was killed has it still.
 *
 * One record for each transaction, written in one call before its answer.  The page cache outlives a process:
 * nothing is synced.  A record that is not whole or not sound ends the journal, as its write was cut off.
 */
#ifndef FAKE_TABLE_JOURNAL_H
#define FAKE_TABLE_JOURNAL_H

/* System */
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Parts below this one */
#include "tests/harness/fake_table/rows.h"

enum journal_act { JOURNAL_TABLE = 'T', JOURNAL_TABLE_GONE = 't', JOURNAL_ROW = 'R', JOURNAL_ROW_GONE = 'r' };

struct journal_record {
    uint32_t bytes;
    uint32_t check;
};

/* A change; behind it the table's name, the two keys and the packed properties. */
struct journal_change {
    uint64_t ticks;
    uint32_t packed;
    uint16_t partition;
    uint16_t row;
    uint8_t table;
    uint8_t act;
};

static int journal_fd = -1;
static struct out journal_room = {.limit = 64 * 1024 * 1024};

static uint32_t journal_check(struct text t)
{
    uint32_t check = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < t.n; i++)
        check = (check ^ (unsigned char)t.p[i]) * 16777619u;
    return check;
}

/* Notes a change of the transaction under way.  row: what is there from now on, or NULL. */
static void journal_note(enum journal_act act, const struct table *table, struct key key,
                         const struct row *row)
{
    if (journal_fd < 0)
        return;
    struct journal_change change = {.act = (uint8_t)act,
                                    .table = (uint8_t)strlen(table->name),
                                    .partition = (uint16_t)key.partition.n,
                                    .row = (uint16_t)key.row.n};
    if (row) {
        change.ticks = row->ticks;
        change.packed = (uint32_t)row->packed.n;
    }
    if (journal_room.n == 0)
        out_add(&journal_room,
                (struct text){(const char *)&(struct journal_record){0, 0}, sizeof(struct journal_record)});
    out_add(&journal_room, (struct text){(const char *)&change, sizeof change});
    out_add(&journal_room, text_of(table->name));
    out_add(&journal_room, key.partition);
    out_add(&journal_room, key.row);
    if (row)
        out_add(&journal_room, row->packed);
}

/* The transaction is over: from here on a new process knows it. */
static void journal_commit(void)
{
    if (journal_room.n == 0)
        return;
    struct text changes = skip((struct text){journal_room.p, journal_room.n}, sizeof(struct journal_record));
    struct journal_record record = {(uint32_t)changes.n, journal_check(changes)};
    memcpy(journal_room.p, &record, sizeof record);
    ssize_t n = write(journal_fd, journal_room.p, journal_room.n);
    if (n != (ssize_t)journal_room.n || journal_room.full)
        die("journal");
    journal_room.n = 0;
}

static bool journal_take(struct text *from, void *to, size_t n)
{
    if (from->n < n)
        return false;
    memcpy(to, from->p, n);
    *from = skip(*from, n);
    return true;
}

static struct text journal_take_text(struct text *from, size_t n)
{
    struct text t = {from->p, n < from->n ? n : from->n};
    *from = skip(*from, t.n);
    return t;
}

static void journal_replay(struct text changes)
{
    struct journal_change change;
    while (journal_take(&changes, &change, sizeof change)) {
        struct text name = journal_take_text(&changes, change.table);
        struct key key = {.partition = journal_take_text(&changes, change.partition)};
        key.row = journal_take_text(&changes, change.row);
        struct text packed = journal_take_text(&changes, change.packed);
        struct table *table = table_named(name);
        if (change.act == JOURNAL_TABLE) {
            (void)table_add(name);
        } else if (table && change.act == JOURNAL_TABLE_GONE) {
            table_remove(table);
        } else if (table) {
            struct row *row = change.act == JOURNAL_ROW ? row_new(key, packed.n, change.ticks) : NULL;
            if (change.act == JOURNAL_ROW && !row)
                die("journal: memory");
            if (row)
                (void)put((char *)(uintptr_t)row->packed.p, packed);
            struct row *old = row_find(table, key);
            if (old || row)
                row_change(table, old, row);
        }
    }
}

/* Reads the journal, if there is one, and writes on behind what is sound in it. */
static void journal_open(const char *path)
{
    struct stat file;
    int fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0 || fstat(fd, &file) != 0)
        die(path);
    size_t bytes = (size_t)file.st_size;
    char *all = malloc(bytes + 1);
    if (!all)
        die(path);
    for (size_t n = 0; n < bytes;) {
        ssize_t got = pread(fd, all + n, bytes - n, (off_t)n);
        if (got <= 0)
            die(path);
        n += (size_t)got;
    }
    struct text rest = {all, bytes};
    struct journal_record record;
    size_t sound = 0;
    while (journal_take(&rest, &record, sizeof record) && record.bytes <= rest.n) {
        struct text changes = journal_take_text(&rest, record.bytes);
        if (journal_check(changes) != record.check)
            break;
        journal_replay(changes);
        sound = bytes - rest.n;
    }
    free(all);
    if (ftruncate(fd, (off_t)sound) != 0)
        die(path);
    journal_fd = fd;
}

#endif
