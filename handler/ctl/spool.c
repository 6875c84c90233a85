/* What waits is drained by the relay; nothing here removes a lead. */
#include "handler/ctl/ctl.h"

/* System */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/text.h"

/* L6 */
#include "lib/store/spool.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/print.h"
#include "handler/ctl/status/status.h"

enum { PAGE_ROWS = 100, READ_WAIT_MS = 10000, LINE_BYTES = 4096, TIME_DIGITS = 13 };

struct listing {
    uint64_t shown;
    bool more;
    bool is_lost; /* lost ones have no row any more, only a key */
};

/* "<13 digits of milliseconds>-<id>": a row is told by its key, so a damaged one is listed too. */
static enum status visit_row(void *context, struct entity *row, struct fail *why)
{
    struct listing *l = context;
    char memory[LINE_BYTES];
    struct buf line = BUF_FIXED(memory);
    uint64_t ms = 0;
    if (l->shown == LIMIT_LIST_ROWS) {
        l->more = true;
        return fail_set(why, ST_OVER_QUOTA, 0, "enough");
    }
    (void)span_to_u64(span_cut(row->row_key, 0, TIME_DIGITS), INT64_MAX, &ms); /* 1970 is plain enough */
    text_add_line(&line, span_from(row->row_key, TIME_DIGITS + 1));
    buf_add_text(&line, "  ");
    ctl_add_time(&line, (int64_t)ms);
    buf_add_text(&line, "  ");
    if (l->is_lost) {
        buf_add_text(&line, entity_number(row, "IsLead", 1) ? "lead" : "quarantined payload");
    } else {
        buf_add_text(&line, entity_number(row, "MayBeWritten", 0) ? "perhaps  " : "no       ");
        text_add_line(&line, entity_text(row, "LeadPartition"));
    }
    (void)printf("%.*s\n", SPAN_FMT(buf_span(&line)));
    l->shown++;
    return ST_OK;
}

static enum status print_rows(const struct config *config, struct listing *listing, struct fail *why)
{
    const struct spool_options options = {.path = config->spool_path, .max_bytes = config->spool_max_bytes};
    struct query q = {
        .table = listing->is_lost ? TABLE_OPS : TABLE_LEADS,
        .partition_key = listing->is_lost ? SPAN_LIT(LOST_PARTITION) : SPAN_LIT(SPOOL_PARTITION),
        .limit = PAGE_ROWS,
    };
    struct spool *spool = NULL;
    struct store *store = NULL;
    unsigned int generation;
    enum status status = spool_open(&options, &spool, why);
    if (status == ST_OK)
        status = spool_open_current(spool, &store, &generation, why);
    if (status == ST_OK)
        status = store_each(store, &q, READ_WAIT_MS, visit_row, listing, why);
    if (listing->more)
        status = ST_OK;
    store_close(store);
    spool_close(spool);
    return status;
}

static void print_state(const struct config *config, const struct spool_state *state)
{
    char memory[LINE_BYTES];
    struct buf out = BUF_FIXED(memory);
    int64_t now = clock_wall_ms();
    buf_addf(&out, "path        %s, %u generation%s\n", config->spool_path, state->generations,
             state->generations == 1 ? "" : "s");
    buf_addf(&out, "size        %" PRIu64 " of %u bytes\n", state->bytes, config->spool_max_bytes);
    buf_addf(&out, "leads       %" PRIu64 " waiting", state->leads);
    if (state->oldest_ms) {
        buf_add_text(&out, ", the oldest received ");
        ctl_add_time(&out, state->oldest_ms);
        buf_add_text(&out, " UTC (");
        status_add_age(&out, now - state->oldest_ms);
        buf_add_text(&out, " ago)");
    }
    buf_addf(&out, "\nquarantine  %" PRIu64 " waiting\n", state->quarantined);
    if (state->table_is_down) {
        buf_add_text(&out, "breaker     open since ");
        ctl_add_time(&out, state->down_since_ms);
        buf_add_text(&out, " UTC, next try in ");
        status_add_age(&out, state->next_probe_ms - now);
        buf_add_text(&out, "\n            ");
        text_add_line(&out, span_of(state->reason));
    } else {
        buf_add_text(&out, "breaker     closed: leads go to the table");
    }
    buf_addf(&out, "\nlost        %" PRIu64 " by damage\n", state->lost);
    (void)printf("%.*s", SPAN_FMT(buf_span(&out)));
}

static enum status show(const struct config *config, const struct spool_state *state, struct fail *why)
{
    struct listing lost = {.is_lost = true};
    print_state(config, state);
    if (state->lost == 0)
        return ST_OK;
    (void)printf("\n%-32s  %-19s  %s\n", "ID OF THE LOST", "RECEIVED (UTC)", "WHAT");
    enum status status = print_rows(config, &lost, why);
    if (lost.more)
        (void)printf("and %" PRIu64 " more\n", state->lost - lost.shown);
    return status;
}

static enum status list(const struct config *config, const struct spool_state *state, struct fail *why)
{
    struct listing waiting = {0};
    if (state->leads == 0) {
        (void)printf("no lead waits in the spool\n");
        return ST_OK;
    }
    (void)printf("%-32s  %-19s  %-7s  %s\n", "ID", "RECEIVED (UTC)", "WRITTEN", "OFFER");
    enum status status = print_rows(config, &waiting, why);
    if (waiting.more)
        (void)printf("and more: the first %u are shown\n", LIMIT_LIST_ROWS);
    return status;
}

/* A person has dealt with what was lost: the list begins anew. */
static enum status acknowledge(const struct config *config, const struct spool_state *state, struct fail *why)
{
    const struct spool_options options = {.path = config->spool_path, .max_bytes = config->spool_max_bytes};
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct operation operations[PAGE_ROWS];
    struct spool *spool = NULL;
    struct store *store = NULL;
    struct page page = {0};
    unsigned int generation;
    enum status status = state->lost ? spool_open(&options, &spool, why) : ST_OK;
    if (status == ST_OK && spool)
        status = spool_open_current(spool, &store, &generation, why);
    while (status == ST_OK && store) {
        struct query q = {.table = TABLE_OPS, .partition_key = SPAN_LIT(LOST_PARTITION), .limit = PAGE_ROWS};
        size_t failed;
        arena_reset(&arena);
        status = store_query(store, &q, clock_monotonic_ms() + READ_WAIT_MS, &arena, &page, why);
        if (status != ST_OK || page.count == 0)
            break;
        for (size_t i = 0; i < page.count; i++)
            operations[i] = (struct operation){.kind = OPERATION_DELETE, .entity = page.rows[i]};
        status = store_transact(store, TABLE_OPS, operations, page.count, clock_monotonic_ms() + READ_WAIT_MS,
                                &failed, why);
    }
    store_close(store);
    spool_close(spool);
    arena_release(&arena);
    if (status == ST_OK)
        (void)printf("%" PRIu64 " taken off the list of what was lost\n", state->lost);
    return status;
}

int ctl_spool(struct service *service, int argc, char **argv)
{
    const struct config *config = &service->config;
    struct spool_state state;
    struct fail why;
    enum status (*run)(const struct config *config, const struct spool_state *state, struct fail *why) = show;
    if (argc == 2 && strcmp(argv[1], "list") == 0) {
        run = list;
    } else if (argc == 2 && strcmp(argv[1], "acknowledge") == 0) {
        run = acknowledge;
    } else if (argc > 1) {
        return command_misused("spool", argc, argv, NULL);
    }
    if (!config->spool_path) {
        (void)fprintf(stderr, "leadctl: %s\n",
                      config->sqlite_path ? "a sqlite store needs no spool" : "the setting 'spool' is 'off'");
        return EX_CONFIG;
    }
    enum status status = spool_inspect(config->spool_path, &state, &why);
    if (status == ST_NOT_FOUND) {
        (void)printf("%s\n", why.text);
        return 0;
    }
    if (status == ST_OK)
        status = run(config, &state, &why);
    if (status == ST_OK && (fflush(stdout) != 0 || ferror(stdout)))
        status = fail_set(&why, ST_IO, errno, "cannot write to the standard output");
    if (status != ST_OK)
        (void)fprintf(stderr, "leadctl: %s\n", why.text);
    return status == ST_OK ? 0 : EX_UNAVAILABLE;
}
