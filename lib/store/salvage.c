/* What damage has left: copies rows out of generations that were left, and finds what is nowhere.
 *
 * Three ways to a row of a damaged file: through its rows from the first one on, as
 * far as they can be read, then from the last one on, and a look-up, by the index,
 * of each row that the ledger expects, which finds those between two damaged
 * pages.  The first two are gone once in the life of a file: rows that were copied
 * and have left the spool would come back a second time when the ledger no longer
 * knows them.
 *
 * The current file is believed only after all of it was checked: a damaged one may
 * deny rows that it has.
 */
#include "lib/store/spool.h"

/* System */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"

/* L6 */
#include "lib/store/generations.h"
#include "lib/store/quarantine.h"
#include "lib/store/spool_internal.h"

enum { SALVAGE_ROWS = LIMIT_BATCH_OPERATIONS, SALVAGE_WAIT_MS = 10000, SHRINK_WAIT_MS = 2000 };
#define SHRINK_OVER (1024u * 1024) /* free pages below this are kept for the next outage */

/* One piece of work. */
struct work {
    struct spool *spool;
    struct store *current;
    unsigned int generation; /* of current */
    struct generations found;
    struct store *older[LIMIT_GENERATIONS]; /* of found; opened when first asked for a row */
    bool is_hopeless[LIMIT_GENERATIONS];    /* damaged as a whole */
    struct ledger_rows ledger;
    bool is_last_try;
    struct salvage *result;
};

static int64_t soon(void)
{
    return clock_monotonic_ms() + SALVAGE_WAIT_MS;
}

/* --- places -------------------------------------------------------------------------------------------------- */

struct place {
    enum table_id table;
    const char *partition;
};

static const struct place LEADS = {TABLE_LEADS, SPOOL_PARTITION};
static const struct place QUARANTINE = {TABLE_OPS, QUARANTINE_PARTITION};
/* What cannot be looked up: the ledger does not have it. */
static const struct place ALARMS = {TABLE_OPS, ALARMS_PARTITION};
static const struct place LOST = {TABLE_OPS, LOST_PARTITION};

static const struct place *place_of(const struct ledger_row *row)
{
    return row->kind == LEDGER_LEAD ? &LEADS : &QUARANTINE;
}

static struct span key_of(const struct ledger_row *row)
{
    return (struct span){row->key, sizeof row->key};
}

/* Only what is exactly what was written, as far as that can be known. */
static bool is_whole(const struct place *place, const struct entity *row, struct arena *arena)
{
    struct lead lead;
    struct delivery delivery;
    struct alarm_row alarm;
    struct quarantined item;
    struct buf body = BUF_INIT(LIMIT_BODY_BYTES);
    bool whole = row->row_key.len == LEDGER_KEY_TEXT;
    if (place == &LEADS)
        whole = whole && spooled_of_row(row, &lead, &delivery, arena, NULL) == ST_OK;
    else if (place == &QUARANTINE)
        whole = spool_read_quarantined(row, &item, &body, NULL) == ST_OK;
    else if (place == &ALARMS)
        whole = alarm_of_row(row, &alarm, NULL) == ST_OK;
    buf_release(&body);
    return whole;
}

static enum status insert(struct work *w, const struct place *place, const struct operation *operations,
                          size_t count, struct fail *why)
{
    uint64_t inserted = 0;
    size_t failed;
    enum status status = count == 0 ? ST_OK
                                    : spool_insert(w->current, place->table, operations, count, soon(),
                                                   &inserted, &failed, why);
    if (status == ST_OK && (place == &LEADS || place == &QUARANTINE))
        w->result->rescued += inserted;
    return status;
}

/* Whether a failure to read an old generation says that there is nothing to be had, and not
 * that it may be had later. */
static bool is_damage(const struct work *w, enum status status, const struct fail *why)
{
    return status == ST_DAMAGED && (why->sys == 0 || w->is_last_try);
}

/* --- the walk ------------------------------------------------------------------------------------------------ */

/* Copies what can be read of a place, one way.  The status is that of the current generation; *read: that of the old
 * one. */
static enum status walk_one_way(struct work *w, struct store *old, const struct place *place, bool backwards,
                                enum status *read, struct fail *unread, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct operation operations[SALVAGE_ROWS];
    struct scan scan = {.table = place->table,
                        .partition_key = span_of(place->partition),
                        .limit = SALVAGE_ROWS,
                        .backwards = backwards};
    enum status status = ST_OK;
    do {
        struct page page;
        size_t count = 0;
        *read = sqlite_store_scan(old, &scan, &arena, &page, unread);
        for (size_t i = 0; i < page.count; i++) {
            if (is_whole(place, &page.rows[i], &arena))
                operations[count++] = (struct operation){.kind = OPERATION_INSERT, .entity = page.rows[i]};
        }
        status = insert(w, place, operations, count, why);
        arena_reset(&arena);
    } while (status == ST_OK && *read == ST_OK && scan.more);
    arena_release(&arena);
    return status;
}

/* *later: the old one cannot be read just now. */
static enum status walk_place(struct work *w, struct store *old, const struct place *place, bool *later,
                              struct fail *why)
{
    enum status read;
    struct fail unread;
    enum status status = walk_one_way(w, old, place, false, &read, &unread, why);
    *later = read != ST_OK && !is_damage(w, read, &unread);
    if (status == ST_OK && read != ST_OK) { /* to the other side of what is damaged */
        status = walk_one_way(w, old, place, true, &read, &unread, why);
        *later = read != ST_OK && (*later || !is_damage(w, read, &unread));
    }
    return status;
}

/* The generation's connection; NULL: it is damaged as a whole, or *later. */
static struct store *older(struct work *w, size_t index, bool *later)
{
    *later = false;
    if (!w->older[index] && !w->is_hopeless[index]) {
        struct fail why;
        enum status status = spool_open_generation(w->spool, w->found.numbers[index], &w->older[index], &why);
        w->is_hopeless[index] = status != ST_OK && is_damage(w, status, &why);
        *later = status != ST_OK && !w->is_hopeless[index];
    }
    return w->older[index];
}

static enum status walk(struct work *w, size_t index, struct fail *why)
{
    static const struct place *const places[] = {&LEADS, &QUARANTINE, &ALARMS, &LOST};
    bool later, any_later;
    struct store *old = older(w, index, &any_later);
    enum status status = ST_OK;
    for (size_t i = 0; old && i < sizeof places / sizeof places[0] && status == ST_OK; i++) {
        status = walk_place(w, old, places[i], &later, why);
        any_later = any_later || later;
    }
    if (status == ST_OK && !any_later)
        status = generation_mark_salvaged(w->spool->path, w->found.numbers[index], why);
    w->result->complete = w->result->complete && (!any_later || w->is_last_try);
    return status;
}

/* --- the comparison with the ledger -------------------------------------------------------------------------- */

/* What was found out about a row that has arrived; in place of the ledger's word. */
enum { IS_NOWHERE = '?' };

/* Copies a row that is missing out of the youngest generation that has it.  The status is
 * that of the current generation. */
static enum status look_up(struct work *w, struct ledger_row *row, struct fail *why)
{
    const struct place *place = place_of(row);
    const struct span key = key_of(row);
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct operation operation = {.kind = OPERATION_INSERT};
    bool any_later = false, found = false;
    enum status status = ST_OK;
    for (size_t i = w->found.count; i-- > 0 && !found;) {
        struct entity *there = NULL;
        bool later;
        if (w->found.numbers[i] >= w->generation)
            continue;
        struct fail unread;
        struct store *old = older(w, i, &later);
        enum status read = old ? store_get_many(old, place->table, span_of(place->partition), &key, 1, NULL,
                                                soon(), &arena, &there, &unread)
                               : ST_OK;
        /* What a damaged index leads to may be another row. */
        found = read == ST_OK && there && is_whole(place, there, &arena) && span_eq(there->row_key, key);
        if (found)
            operation.entity = *there;
        any_later = any_later || later || (read != ST_OK && !is_damage(w, read, &unread));
    }
    if (found)
        status = insert(w, place, &operation, 1, why);
    else if (any_later && !w->is_last_try)
        w->result->complete = false;
    else
        row->event = IS_NOWHERE;
    arena_release(&arena);
    return status;
}

/* A row that has left the spool and is there again, as damage may bring back an older
 * state of the file, or a process was killed before it could delete it. */
static enum status delete_again(struct work *w, const struct ledger_row *row, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_SECRET_FILE_BYTES);
    struct operation operation = {.kind = OPERATION_DELETE};
    size_t failed;
    enum status status = ST_NOMEM;
    if (entity_init(&operation.entity, span_of(place_of(row)->partition), key_of(row), &arena)) {
        operation.entity.etag = SPAN_LIT("*");
        status = store_transact(w->current, place_of(row)->table, &operation, 1, soon(), &failed, why);
    } else {
        (void)fail_set(why, ST_NOMEM, 0, "no memory to salvage the spool");
    }
    arena_release(&arena);
    return status == ST_NOT_FOUND ? ST_OK : status;
}

static enum status compare(struct work *w, struct fail *why)
{
    enum status status = ST_OK;
    for (size_t i = 0; i < w->ledger.count && status == ST_OK; i++) {
        struct ledger_row *row = &w->ledger.all[i];
        bool has;
        status = sqlite_store_has(w->current, place_of(row)->table, span_of(place_of(row)->partition),
                                  key_of(row), &has, why);
        if (status == ST_OK && row->event == LEDGER_ARRIVED && !has)
            status = look_up(w, row, why);
        else if (status == ST_OK && row->event == LEDGER_DEPARTED && has)
            status = delete_again(w, row, why);
    }
    return status;
}

/* --- what is lost -------------------------------------------------------------------------------------------- */

/* Notes rows where `leadctl spool` finds them. */
static enum status list_lost(struct work *w, const struct ledger_row *const *rows, size_t count,
                             struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct operation operations[SALVAGE_ROWS];
    enum status status = ST_OK;
    for (size_t i = 0; i < count && status == ST_OK; i++) {
        operations[i].kind = OPERATION_INSERT;
        if (!row_of_lost(&operations[i].entity, key_of(rows[i]), rows[i]->kind == LEDGER_LEAD, &arena))
            status = fail_set(why, ST_NOMEM, 0, "no memory to list what is lost");
    }
    if (status == ST_OK)
        status = insert(w, &LOST, operations, count, why);
    arena_release(&arena);
    return status;
}

/* Notes that they are no longer expected. */
static enum status give_up(struct work *w, const struct ledger_row *const *rows, size_t count,
                           struct fail *why)
{
    static const enum ledger_kind kinds[] = {LEDGER_LEAD, LEDGER_QUARANTINED};
    enum status status = ST_OK;
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0] && status == ST_OK; k++) {
        struct span keys[SALVAGE_ROWS];
        size_t of_kind = 0;
        for (size_t i = 0; i < count; i++) {
            if (rows[i]->kind == (char)kinds[k])
                keys[of_kind++] = key_of(rows[i]);
        }
        status = ledger_note(w->spool->ledger, LEDGER_LOST, kinds[k], keys, of_kind, why);
    }
    return status;
}

static enum status each_lost(struct work *w,
                             enum status (*visit)(struct work *w, const struct ledger_row *const *rows,
                                                  size_t count, struct fail *why),
                             struct fail *why)
{
    const struct ledger_row *some[SALVAGE_ROWS];
    size_t count = 0;
    enum status status = ST_OK;
    for (size_t i = 0; i < w->ledger.count && status == ST_OK; i++) {
        if (w->ledger.all[i].event == IS_NOWHERE)
            some[count++] = &w->ledger.all[i];
        if (count == SALVAGE_ROWS) {
            status = visit(w, some, count, why);
            count = 0;
        }
    }
    return status == ST_OK && count > 0 ? visit(w, some, count, why) : status;
}

/* Tells first, and then no longer expects them: killed in between, it is told again. */
static enum status report_lost(struct work *w, struct fail *why)
{
    char text[LIMIT_ALARM_TEXT_BYTES];
    uint64_t lost = 0;
    for (size_t i = 0; i < w->ledger.count; i++)
        lost += w->ledger.all[i].event == IS_NOWHERE;
    if (lost == 0)
        return ST_OK;
    (void)snprintf(
        text, sizeof text,
        "Damage to the spool has destroyed %llu leads that were answered 202. `leadctl spool` lists them "
        "by time and id; their senders have to be asked.",
        (unsigned long long)lost);
    enum status status = each_lost(w, list_lost, why);
    if (status == ST_OK)
        status = alarm_raise(w->current, ALARM_LEADS_LOST, text, soon(), why);
    if (status == ST_OK || status == ST_EXISTS)
        status = each_lost(w, give_up, why);
    if (status == ST_OK)
        w->result->lost = lost;
    return status;
}

/* --- all of it ----------------------------------------------------------------------------------------------- */

static enum status begin(struct work *w, struct fail *why)
{
    *w->result = (struct salvage){.complete = true};
    enum status status = generations_find(w->spool->path, &w->found, why);
    if (status == ST_OK)
        status = ledger_read(w->spool->ledger, &w->ledger, why);
    /* What has arrived by now is in a generation that there is by now: in the current one or before it. */
    if (status == ST_OK && !spool_is_current(w->spool, w->current, w->generation))
        status = fail_set(why, ST_AGAIN, 0, "the spool's generation was left");
    if (status == ST_OK)
        status = sqlite_store_check(w->current, why);
    return status;
}

static void end(struct work *w)
{
    for (size_t i = 0; i < w->found.count; i++)
        store_close(w->older[i]);
    ledger_rows_release(&w->ledger);
    free(w);
}

static struct work *new_work(struct spool *spool, struct store *current, unsigned int generation,
                             bool is_last_try, struct salvage *result, struct fail *why)
{
    struct work *w = calloc(1, sizeof *w);
    if (!w)
        (void)fail_set(why, ST_NOMEM, 0, "no memory to salvage the spool");
    else
        *w = (struct work){.spool = spool,
                           .current = current,
                           .generation = generation,
                           .is_last_try = is_last_try,
                           .result = result};
    return w;
}

enum status spool_salvage(struct spool *spool, struct store *current, unsigned int generation,
                          bool is_last_try, struct salvage *result, struct fail *why)
{
    struct work *w = new_work(spool, current, generation, is_last_try, result, why);
    if (!w)
        return ST_NOMEM;
    enum status status = begin(w, why);
    for (size_t i = 0; status == ST_OK && i < w->found.count && w->found.numbers[i] < generation; i++) {
        if (!generation_is_salvaged(spool->path, w->found.numbers[i]))
            status = walk(w, i, why);
    }
    if (status == ST_OK)
        status = compare(w, why);
    if (status == ST_OK)
        status = report_lost(w, why);
    end(w);
    return status;
}

static bool is_settled(void *context)
{
    const struct work *w = context;
    uint64_t rows;
    int64_t oldest_ms;
    return spool_is_current(w->spool, w->current, w->generation) &&
           spool_count(w->current, &rows, &oldest_ms, NULL) == ST_OK && rows == 0;
}

/* Nothing is left to be had of them, and they hold personal data and room. */
static enum status remove_older(struct work *w, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_SECRET_FILE_BYTES);
    struct span first;
    uint64_t listed = 0;
    enum status status =
        sqlite_store_tally(w->current, LOST.table, span_of(LOST.partition), &arena, &listed, &first, why);
    for (size_t i = 0; status == ST_OK && listed == 0 && i < w->found.count; i++) {
        if (w->found.numbers[i] < w->generation &&
            generation_is_salvaged(w->spool->path, w->found.numbers[i]))
            status = generation_remove(w->spool->path, w->found.numbers[i], why);
    }
    arena_release(&arena);
    return status;
}

enum status spool_audit(struct spool *spool, struct store *current, unsigned int generation, bool is_last_try,
                        struct salvage *result, struct fail *why)
{
    struct work *w = new_work(spool, current, generation, is_last_try, result, why);
    uint64_t bytes, unused;
    if (!w)
        return ST_NOMEM;
    enum status status = begin(w, why);
    if (status == ST_OK)
        status = compare(w, why);
    if (status == ST_OK)
        status = report_lost(w, why);
    if (status == ST_OK)
        status = sqlite_store_size(current, &bytes, &unused, why);
    if (status == ST_OK) {
        result->complete = result->complete && ledger_clear(spool->ledger, is_settled, w);
        sqlite_store_shrink(current, unused > SHRINK_OVER, clock_monotonic_ms() + SHRINK_WAIT_MS);
        if (result->complete)
            status = remove_older(w, why);
    }
    end(w);
    return status;
}
