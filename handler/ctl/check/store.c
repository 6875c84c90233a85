/* The store: its host, its clock, and each right in each of its tables, tried for real with a row that is deleted again. */
#include "handler/ctl/check/check.h"

/* System */
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"

/* L4 */
#include "lib/table/account.h"

#define PROBE_PARTITION "leadctl-check"

enum {
    TABLE_NAME_BYTES = 64,
    SKEW_WARN_MS = 60 * 1000,
    SKEW_FAIL_MS = 5 * 60 * 1000, /* signed requests are refused from here on */
};

/* --- rows -------------------------------------------------------------------------------------------------------- */

enum right { RIGHT_ADD, RIGHT_READ, RIGHT_DELETE };

static const char *const RIGHTS[] = {"writing a row", "reading a row", "deleting a row"};

struct rights {
    struct store *store;
    enum table_id table;
    struct arena *arena;
    struct span row_key;
    enum right right; /* the one that is being tried */
    bool has_left_row;
    struct fail why;
};

static bool make_row(struct rights *r, struct entity *row)
{
    unsigned char random[16];
    char key[2 * sizeof random + 1];
    if (crypto_random(random, sizeof random, &r->why) != ST_OK)
        return false;
    hex_write(random, sizeof random, key);
    if (!arena_copy(r->arena, span_of(key), &r->row_key) ||
        !entity_init(row, SPAN_LIT(PROBE_PARTITION), r->row_key, r->arena)) {
        (void)fail_set(&r->why, ST_NOMEM, 0, "no memory for a row");
        return false;
    }
    entity_add_time(row, "CheckedTime", clock_wall_ms());
    return true;
}

/* Each right in its turn; the first that is missing ends it, and why says so. */
static enum status try_rights(struct rights *r)
{
    struct operation operation = {.kind = OPERATION_INSERT};
    struct entity *row = NULL;
    size_t failed;
    int64_t deadline_ms = clock_monotonic_ms() + CHECK_WAIT_MS;
    if (!make_row(r, &operation.entity))
        return r->why.code;
    r->right = RIGHT_ADD;
    enum status status = store_transact(r->store, r->table, &operation, 1, deadline_ms, &failed, &r->why);
    if (status != ST_OK)
        return status;
    r->has_left_row = true;
    r->right = RIGHT_READ;
    status = store_get_many(r->store, r->table, SPAN_LIT(PROBE_PARTITION), &r->row_key, 1, NULL, deadline_ms,
                            r->arena, &row, &r->why);
    if (status == ST_OK && !row)
        status = fail_set(&r->why, ST_BUG, 0, "a row that was written is not there");
    if (status != ST_OK)
        return status;
    r->right = RIGHT_DELETE;
    operation.kind = OPERATION_DELETE;
    operation.entity.etag = row->etag;
    status = store_transact(r->store, r->table, &operation, 1, deadline_ms, &failed, &r->why);
    r->has_left_row = status != ST_OK;
    return status;
}

/* Whether anything has answered. */
static bool check_rows(struct check *c, struct store *store, enum table_id table, const char *subject,
                       const char *name)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct rights r = {.store = store, .table = table, .arena = &arena};
    bool is_table = !c->service->config.sqlite_path;
    enum status status = try_rights(&r);
    if (status == ST_OK) {
        check_say(c, CHECK_OK, subject, NULL, NULL, "wrote, read and deleted a row in '%s'", name);
    } else {
        fail_prefix(&r.why, "%s in '%s'", RIGHTS[r.right], name);
        check_failed(c, subject, is_table ? CHECK_AREA_TABLE : CHECK_AREA_SQLITE, &r.why);
    }
    if (r.has_left_row)
        check_say(c, CHECK_WARN, subject, "it does no harm", "delete it by hand when you like",
                  "row '%.*s' of partition '%s' was left behind", SPAN_FMT(r.row_key), PROBE_PARTITION);
    arena_release(&arena);
    return status == ST_OK || r.why.peer != 0;
}

/* --- the Table service ------------------------------------------------------------------------------------------- */

static void check_clock(struct check *c, const struct store *store)
{
    static const char means[] =
        "signed requests are refused from 300 seconds on, and Azure refuses the first request after "
        "a start from 900 on";
    static const char cure[] = "set the clock: timedatectl set-ntp true (systemd-timesyncd or chrony)";
    int64_t skew_ms = store_now_ms(store) - clock_wall_ms();
    int64_t off_ms = skew_ms < 0 ? -skew_ms : skew_ms;
    if (off_ms < SKEW_WARN_MS)
        check_say(c, CHECK_OK, "clock", NULL, NULL, "agrees with the Date of the Table service's answers");
    else
        check_say(c, off_ms < SKEW_FAIL_MS ? CHECK_WARN : CHECK_FAIL, "clock", means, cure,
                  "%lld seconds %s by the Date of the Table service's answers", (long long)(off_ms / 1000),
                  skew_ms > 0 ? "slow" : "fast");
}

/* Whether its host can be reached. */
static bool check_endpoint(struct check *c)
{
    const struct config *config = &c->service->config;
    struct buf text = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct table_account account = {0};
    struct fail why;
    unsigned int version;
    bool is_ready = false;
    enum status status = secret_copy(config->connection, &text, &version, &why);
    if (status == ST_OK)
        status = table_account_parse(buf_span(&text), &account, &why);
    if (status == ST_OK)
        is_ready = check_peer(c, "table",
                              &(struct peer_target){.url = account.endpoint.data,
                                                    .ca_file = config->table_tls_ca,
                                                    .wait_ms = CHECK_WAIT_MS});
    else
        check_failed(c, "table-host", CHECK_AREA_TABLE, &why);
    table_account_release(&account);
    buf_release_secret(&text);
    return is_ready;
}

static void check_tables(struct check *c, struct store *store)
{
    static const struct {
        const char *subject, *suffix;
    } tables[] = {[TABLE_LEADS] = {"table-leads", ""}, [TABLE_OPS] = {"table-ops", "Ops"}};
    bool has_answered = false;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++) {
        char name[TABLE_NAME_BYTES];
        (void)snprintf(name, sizeof name, "%s%s", c->service->config.table_name, tables[i].suffix);
        has_answered = check_rows(c, store, (enum table_id)i, tables[i].subject, name) || has_answered;
    }
    if (has_answered)
        check_clock(c, store);
}

/* --- the part ---------------------------------------------------------------------------------------------------- */

void check_store(struct check *c)
{
    struct store *store = NULL;
    struct fail why;
    const char *path = c->service->config.sqlite_path;
    if (!path && !check_endpoint(c))
        return;
    if (service_open_store(c->service, &store, &why) != ST_OK)
        check_failed(c, path ? "store" : "table-host", path ? CHECK_AREA_SQLITE : CHECK_AREA_TABLE, &why);
    else if (path)
        (void)check_rows(c, store, TABLE_LEADS, "store", path);
    else
        check_tables(c, store);
    store_close(store);
}
