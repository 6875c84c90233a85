/* Gathering: a few seconds in all, and at most LIMIT_STATUS_COUNT rows of anything.
 *
 * What is on this machine is looked at first; a store that does not answer its
 * first question is asked nothing else.  No file is made that was not there.
 */
#include "handler/ctl/status/status.h"

/* System */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/text.h"

/* L6 */
#include "lib/store/offers.h"
#include "lib/store/quarantine.h"

/* L7 */
#include "lib/relay/relay_socket.h"

enum {
    ANSWER_WAIT_MS = 2500, /* for the store's first answer */
    SPOOL_WAIT_MS = 1000,  /* for its write lock */
    MAILS_UNTIL_MS = 4500, /* since the start: mails are looked for */
    ALL_UNTIL_MS = 6000,   /* since the start: leads are counted */
    PAGE_ROWS = 50,        /* sqlite gives whole rows, also the largest */
    SPOOL_ROOM_BYTES = 1024 * 1024
};

struct gathering {
    struct status_facts *facts;
    const struct config *config;
    struct store *store;
    int64_t begun_ms; /* monotonic */
    struct arena arena;
    struct seen_offer {
        char name[LIMIT_PARTITION_KEY_BYTES + 1];
        int64_t last_ms;
    } * offers; /* the newest first */
    size_t offer_count;
    bool more_offers;
};

/* A reason for the screen: one clean line of UTF-8. */
static void keep_span(char to[STATUS_WHY_BYTES], struct span from)
{
    char memory[4 * STATUS_WHY_BYTES]; /* a character becomes four bytes at most */
    struct buf clean = BUF_FIXED(memory);
    text_add_line(&clean, from);
    struct span text = utf8_cut_bytes(buf_span(&clean), STATUS_WHY_BYTES - 1);
    (void)snprintf(to, STATUS_WHY_BYTES, "%.*s", SPAN_FMT(text));
}

static void keep_text(char to[STATUS_WHY_BYTES], const char *from)
{
    keep_span(to, span_of(from));
}

static void keep_name(char *to, size_t room, struct span from)
{
    (void)snprintf(to, room, "%.*s", SPAN_FMT(from));
}

/* --- this machine -------------------------------------------------------------------------------------------- */

/* Whether files can grow beside path. */
static bool has_room(const char *path, char why[STATUS_WHY_BYTES])
{
    struct statvfs disk;
    char *folder = file_folder(path);
    bool room = false;
    if (!folder)
        (void)snprintf(why, STATUS_WHY_BYTES, "no memory to look");
    else if (access(folder, W_OK) != 0 || (access(path, W_OK) != 0 && errno != ENOENT))
        (void)snprintf(why, STATUS_WHY_BYTES, "not writable: %s", strerrordesc_np(errno));
    else if (statvfs(folder, &disk) == 0 && (uint64_t)disk.f_bavail * disk.f_frsize < SPOOL_ROOM_BYTES)
        (void)snprintf(why, STATUS_WHY_BYTES, "the disk is full");
    else
        room = true;
    free(folder);
    return room;
}

static void look_at_spool(struct gathering *g)
{
    struct status_facts *f = g->facts;
    struct fail why;
    if (!g->config->spool_path)
        return;
    f->spool_max_bytes = g->config->spool_max_bytes;
    f->spool_is_writable = has_room(g->config->spool_path, f->spool_why);
    enum status status = spool_inspect(g->config->spool_path, &f->spool, &why);
    f->spool_use = status == ST_OK          ? SPOOL_KNOWN
                   : status == ST_NOT_FOUND ? SPOOL_NOT_MADE
                   : status == ST_DAMAGED   ? SPOOL_DAMAGED
                                            : SPOOL_UNREADABLE;
    if (f->spool_use == SPOOL_DAMAGED || f->spool_use == SPOOL_UNREADABLE)
        keep_text(f->spool_why, why.text);
}

static void look_at_relay(struct gathering *g, const struct service *service)
{
    struct status_facts *f = g->facts;
    struct fail why;
    f->mail_is_on = g->config->mail_on;
    f->alarms_are_on = g->config->alarm_recipient_count > 0;
    if (!g->config->relay_socket || !service_has_relay(service))
        return;
    enum status status = relay_socket_holder(g->config->relay_socket, &f->relay_pid, &why);
    if (status == ST_OK)
        f->relay = f->relay_pid ? RELAY_PROCESS : RELAY_UNSEEN;
    else
        f->relay = status == ST_NOT_FOUND ? RELAY_NOBODY : RELAY_UNKNOWN;
    if (f->relay == RELAY_UNKNOWN)
        keep_text(f->relay_why, why.text);
}

/* --- the store ----------------------------------------------------------------------------------------------- */

/* Opening would make it; an empty database of another user's would then be in leadhook's way. */
static enum status open_store(struct gathering *g, struct service *service, struct fail *why)
{
    const char *path = g->config->sqlite_path;
    if (path && access(path, R_OK | W_OK) != 0)
        return errno == ENOENT
                   ? fail_set(why, ST_NOT_FOUND, 0, "there is no '%s' yet: leadhook makes it", path)
                   : fail_set(why, ST_IO, errno, "cannot open '%s'", path);
    return service_open_store(service, &g->store, why);
}

static bool ask_store(struct gathering *g, struct service *service)
{
    struct status_facts *f = g->facts;
    struct fail why;
    f->store_is_table = !g->config->sqlite_path;
    (void)snprintf(f->store_name, sizeof f->store_name, "%s '%s'", f->store_is_table ? "table" : "database",
                   f->store_is_table ? g->config->table_name : g->config->sqlite_path);
    enum status status = open_store(g, service, &why);
    if (status == ST_OK)
        status = store_probe(g->store, clock_monotonic_ms() + ANSWER_WAIT_MS, &why);
    f->store_answers = status == ST_OK;
    if (status == ST_OK)
        f->now_ms = store_now_ms(g->store);
    else
        keep_text(f->store_why, why.text);
    return f->store_answers;
}

/* Calls visit with the rows of a range until it says enough, the range or the
 * time ends.  *more: whether something was left, which is no failure. */
static enum status walk(struct gathering *g, struct store *store, struct query *q, int64_t until_ms,
                        bool (*visit)(void *context, const struct entity *row), void *context, bool *more,
                        struct fail *why)
{
    bool further = true;
    arena_reset(&g->arena);
    *more = false;
    while (further) {
        struct page page;
        if (clock_monotonic_ms() >= g->begun_ms + until_ms) {
            *more = true;
            return ST_OK;
        }
        enum status status = store_query(store, q, g->begun_ms + until_ms, &g->arena, &page, why);
        if (status != ST_OK) {
            *more = clock_monotonic_ms() >= g->begun_ms + until_ms;
            return *more ? ST_OK : status;
        }
        for (size_t i = 0; i < page.count; i++) {
            if (!visit(context, &page.rows[i])) {
                *more = true;
                return ST_OK;
            }
        }
        status = store_turn_page(q, &page, &g->arena, &further, why);
        if (status != ST_OK)
            return status;
    }
    return ST_OK;
}

/* --- alarms and quarantine ----------------------------------------------------------------------------------- */

/* "2026-11-21-mail-parked"; the store and the spool may both have it. */
static bool visit_alarm(void *context, const struct entity *row)
{
    struct status_facts *f = context;
    char today[CLOCK_TEXT_BYTES], name[sizeof f->alarms[0].name];
    const size_t day = sizeof "2026-11-21" - 1;
    clock_iso_time(f->now_ms, today);
    bool is_today = span_starts(row->row_key, span_cut(span_of(today), 0, day));
    keep_name(name, sizeof name, span_from(row->row_key, day + 1));
    for (size_t i = 0; i < f->alarm_count; i++) {
        if (f->alarms[i].is_today == is_today && strcmp(f->alarms[i].name, name) == 0)
            return true;
    }
    if (f->alarm_count == STATUS_ALARMS)
        return false;
    f->alarms[f->alarm_count].is_today = is_today;
    memcpy(f->alarms[f->alarm_count++].name, name, sizeof name);
    return true;
}

static enum status look_at_alarms(struct gathering *g, struct store *store, struct fail *why)
{
    char yesterday[CLOCK_TEXT_BYTES];
    bool more;
    clock_iso_time(g->facts->now_ms - CLOCK_DAY_MS, yesterday);
    struct query q = {
        .table = TABLE_OPS,
        .partition_key = SPAN_LIT(ALARMS_PARTITION),
        .from = span_cut(span_of(yesterday), 0, sizeof "2026-11-21" - 1),
        .to = SPAN_LIT("~"),
        .select = "PartitionKey,RowKey,Timestamp",
        .limit = PAGE_ROWS,
    };
    enum status status = walk(g, store, &q, MAILS_UNTIL_MS, visit_alarm, g->facts, &more, why);
    if (status == ST_OK && (!more || g->facts->alarm_count))
        g->facts->alarms_known = true;
    return status;
}

static bool visit_trouble(void *context, const struct entity *row)
{
    struct status_facts *f = context;
    struct trouble_row trouble;
    if (trouble_of_row(row, &trouble, NULL) != ST_OK || trouble.is_over)
        return true;
    f->troubles[trouble.kind].count++;
    if (f->listed_count == STATUS_TROUBLES)
        return true;
    f->listed[f->listed_count].kind = trouble.kind;
    keep_span(f->listed[f->listed_count++].title, trouble.title);
    return true;
}

static enum status look_at_troubles(struct gathering *g, struct store *store, struct fail *why)
{
    bool more;
    struct query q = {
        .table = TABLE_OPS,
        .partition_key = SPAN_LIT(ALARMS_PARTITION),
        .from = SPAN_LIT(TROUBLE_KEY_FIRST),
        .to = SPAN_LIT(TROUBLE_KEY_END),
        .limit = PAGE_ROWS,
    };
    enum status status = walk(g, store, &q, MAILS_UNTIL_MS, visit_trouble, g->facts, &more, why);
    for (size_t i = 0; i < TROUBLE_KINDS && more; i++)
        g->facts->troubles[i].more = true;
    g->facts->troubles_known = status == ST_OK;
    return status;
}

/* What only the spool itself can say: whether it takes a lead now, and the alarms
 * that this host raised while the store did not answer. */
static void look_into_spool(struct gathering *g)
{
    const struct spool_options options = {.path = g->config->spool_path,
                                          .max_bytes = g->config->spool_max_bytes};
    struct status_facts *f = g->facts;
    struct spool *spool = NULL;
    struct store *store = NULL;
    unsigned int generation;
    struct fail why;
    if (f->spool_use != SPOOL_KNOWN || !f->spool_is_writable)
        return;
    enum status status = spool_open(&options, &spool, &why);
    if (status == ST_OK)
        status = spool_probe(spool, clock_monotonic_ms() + SPOOL_WAIT_MS, &why);
    if (status != ST_OK) {
        f->spool_is_writable = false;
        keep_text(f->spool_why, why.text);
    }
    /* The rest of a list that is not known would look like all of it. */
    if (spool && (f->alarms_known || !f->store_answers)) {
        status = spool_open_current(spool, &store, &generation, &why);
        if (status == ST_OK)
            status = look_at_alarms(g, store, &why);
        if (status == ST_OK)
            status = look_at_troubles(g, store, &why);
        if (status != ST_OK)
            keep_text(f->unknown_why, why.text);
    }
    store_close(store);
    spool_close(spool);
}

static bool visit_quarantined(void *context, const struct entity *row)
{
    struct status_facts *f = context;
    if (f->quarantined.count == LIMIT_STATUS_COUNT)
        return false;
    f->quarantined.count++;
    f->quarantined_last_ms = entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms);
    return true;
}

static enum status look_at_quarantine(struct gathering *g, struct fail *why)
{
    struct status_facts *f = g->facts;
    struct query q = {
        .table = TABLE_OPS,
        .partition_key = SPAN_LIT(QUARANTINE_PARTITION),
        .from = SPAN_LIT(QUARANTINE_KEY_FIRST),
        .to = SPAN_LIT(QUARANTINE_KEY_END),
        .select = "PartitionKey,RowKey,Timestamp,ReceivedTime",
        .limit = PAGE_ROWS,
    };
    enum status status =
        walk(g, g->store, &q, MAILS_UNTIL_MS, visit_quarantined, f, &f->quarantined.more, why);
    f->quarantine_known = status == ST_OK && (!f->quarantined.more || f->quarantined.count);
    f->quarantine_max_bytes = g->config->quarantine_max_bytes;
    if (status == ST_OK)
        status = quarantine_used(g->store, g->begun_ms + MAILS_UNTIL_MS, &f->quarantine_bytes, why);
    if (f->quarantined.more)
        f->quarantined_last_ms = 0; /* it lies behind those that were counted */
    return status;
}

/* --- offers, mails, leads ------------------------------------------------------------------------------------ */

static bool visit_offer(void *context, const struct entity *row)
{
    struct gathering *g = context;
    struct offer offer = offer_of_row(row);
    if (g->offer_count == LIMIT_STATUS_COUNT)
        return false;
    keep_name(g->offers[g->offer_count].name, sizeof g->offers[0].name, offer.partition);
    g->offers[g->offer_count].last_ms = offer.last_ms;
    g->offer_count++;
    return true;
}

static int newest_first(const void *a, const void *b)
{
    const struct seen_offer *x = a, *y = b;
    return x->last_ms == y->last_ms ? strcmp(x->name, y->name) : x->last_ms < y->last_ms ? 1 : -1;
}

static enum status read_directory(struct gathering *g, struct fail *why)
{
    struct query q = offers_times_query(0);
    q.limit = LIMIT_STATUS_COUNT;
    g->offers = calloc(LIMIT_STATUS_COUNT, sizeof *g->offers);
    if (!g->offers)
        return fail_set(why, ST_NOMEM, 0, "no memory for the offers");
    enum status status = walk(g, g->store, &q, MAILS_UNTIL_MS, visit_offer, g, &g->more_offers, why);
    qsort(g->offers, g->offer_count, sizeof *g->offers, newest_first);
    return status;
}

static uint64_t mails_counted(const struct status_facts *f)
{
    uint64_t count = 0;
    for (size_t i = 0; i <= MAIL_STATE_PARKED; i++)
        count += f->mails[i].count;
    return count;
}

static bool visit_mail(void *context, const struct entity *row)
{
    struct status_facts *f = context;
    struct mail_row mail;
    if (mail_of_row(row, &mail, NULL) != ST_OK)
        return true; /* the mailer logs such */
    int64_t due_ms = mail.next_ms ? mail.next_ms : mail.received_ms;
    if (mail.state == MAIL_STATE_WAITING && (f->mails_due_ms == 0 || due_ms < f->mails_due_ms))
        f->mails_due_ms = due_ms;
    f->mails[mail.state].count++;
    return mails_counted(f) < LIMIT_STATUS_COUNT;
}

static enum status look_at_mails(struct gathering *g, struct fail *why)
{
    struct status_facts *f = g->facts;
    enum status status = ST_OK;
    bool more = false;
    size_t seen = 0;
    for (size_t i = 0; i < g->offer_count && status == ST_OK && !more; i++) {
        struct query q = mails_query(span_of(g->offers[i].name),
                                     "PartitionKey,RowKey,Timestamp,State,NextTime,ReceivedTime", PAGE_ROWS);
        status = walk(g, g->store, &q, MAILS_UNTIL_MS, visit_mail, f, &more, why);
        seen += status == ST_OK && !more ? 1 : 0;
    }
    more = more || g->more_offers;
    f->mails_known = status == ST_OK && (seen > 0 || mails_counted(f) > 0 || !more);
    for (size_t i = 0; i <= MAIL_STATE_PARKED; i++)
        f->mails[i].more = more;
    if (more)
        (void)snprintf(f->unknown_why, sizeof f->unknown_why, "mails: looked into %zu of %zu%s offers", seen,
                       g->offer_count, g->more_offers ? "+" : "");
    return status;
}

static bool visit_lead(void *context, const struct entity *row)
{
    struct tally *tally = context;
    struct lead lead;
    lead_of_row(row, &lead);
    if (!offers_counts(&lead, entity_text(row, COLUMN_ORIGIN)))
        return true;
    if (tally->count == LIMIT_STATUS_COUNT)
        return false;
    tally->count++;
    return true;
}

/* Only offers that the directory says had one today are looked into. */
static enum status count_leads(struct gathering *g, struct fail *why)
{
    struct status_facts *f = g->facts;
    int64_t midnight_ms = f->now_ms - f->now_ms % CLOCK_DAY_MS;
    enum status status = ST_OK;
    f->lead_last_ms = g->offer_count ? g->offers[0].last_ms : 0;
    f->offers_today.more = f->leads_today.more = g->more_offers;
    for (size_t i = 0; i < g->offer_count && g->offers[i].last_ms >= midnight_ms && status == ST_OK; i++) {
        struct offer_today today = {.last_ms = g->offers[i].last_ms};
        struct query q = {
            .table = TABLE_LEADS,
            .partition_key = span_of(g->offers[i].name),
            .from = SPAN_LIT("0"),
            .to = SPAN_LIT("~"),
            .since_column = COLUMN_RECEIVED_TIME,
            .since_ms = midnight_ms,
            .select = "PartitionKey,RowKey,Timestamp,IsTest," COLUMN_ORIGIN,
            .limit = PAGE_ROWS,
        };
        status = walk(g, g->store, &q, ALL_UNTIL_MS, visit_lead, &today.leads, &today.leads.more, why);
        memcpy(today.name, g->offers[i].name, sizeof today.name);
        if (f->offers_today.count < STATUS_OFFERS)
            f->offers[f->offers_today.count] = today;
        f->offers_today.count++;
        f->leads_today.count += today.leads.count;
        f->leads_today.more = f->leads_today.more || today.leads.more;
    }
    f->leads_known = status == ST_OK && (g->offer_count > 0 || !g->more_offers);
    return status;
}

/* --- all of it ----------------------------------------------------------------------------------------------- */

static void look_into_store(struct gathering *g)
{
    struct fail why;
    enum status status = look_at_alarms(g, g->store, &why);
    if (status == ST_OK)
        status = look_at_troubles(g, g->store, &why);
    if (status == ST_OK)
        status = look_at_quarantine(g, &why);
    if (status == ST_OK)
        status = read_directory(g, &why);
    if (status == ST_OK)
        status = look_at_mails(g, &why);
    if (status == ST_OK)
        status = count_leads(g, &why);
    if (status != ST_OK)
        keep_text(g->facts->unknown_why, why.text);
}

void status_gather(struct service *service, struct status_facts *facts)
{
    struct gathering g = {
        .facts = facts,
        .config = &service->config,
        .begun_ms = clock_monotonic_ms(),
        .arena = ARENA_INIT(LIMIT_COMMIT_ARENA),
    };
    *facts = (struct status_facts){.local_ms = clock_wall_ms()};
    facts->now_ms = facts->local_ms;
    look_at_spool(&g);
    look_at_relay(&g, service);
    if (ask_store(&g, service))
        look_into_store(&g);
    look_into_spool(&g);
    store_close(g.store);
    free(g.offers);
    arena_release(&g.arena);
}
