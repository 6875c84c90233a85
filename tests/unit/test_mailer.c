/* Mail rows under attack: a store that fails or is changed by others between any two operations, two hosts,
 * clocks that jump, a mail server that says what it likes.
 *
 * The first host sends to a mail server in this process, the second to a Maildir; both work on one SQLite
 * database, each through a store of its own that the test can make fail.  What each of the first host's
 * operations may meet is tried for every one of them: its number is counted up until a pass has fewer.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/relay/mailer.h"
#include "lib/relay/retry.h"
#include "lib/store/person.h"
#include "lib/store/store_internal.h"
#include "tests/unit/smtp_server.h"
#include "tests/unit/stored.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define MINUTE_MS    (60 * 1000LL)
#define DAY_MS       (24 * 60 * MINUTE_MS)
#define NEVER        SIZE_MAX

enum { OPERATIONS_MAX = 40, PASSES_MAX = 12, LONG_MAILS = 80 };

static const char PARTITION[] = "contoso.app";

/* --- a store that fails when it is told to -------------------------------------------------------------- */

struct world;

struct faulty_store {
    struct store base;
    struct store *real;
    int64_t offset_ms; /* of its clock */
    size_t calls;      /* since they were last set to 0 */
    size_t fail_at;    /* this call fails ... */
    bool fails_on;     /* ... and every later one */
    bool takes_effect; /* although it fails */
    enum status fails_with;
    size_t hook_at; /* before this call the hook runs, once */
    void (*hook)(struct world *world);
    struct world *world;
    bool refuses_deletes;
    enum status ops_fail_with; /* writes into the table of operations */
    size_t ops_writes;
};

static enum status begin(struct faulty_store *s, bool *goes_on, struct fail *why)
{
    size_t call = s->calls++;
    if (call == s->hook_at) {
        void (*hook)(struct world *) = s->hook;
        s->hook_at = NEVER;
        hook(s->world);
    }
    bool fails = call == s->fail_at || (s->fails_on && call > s->fail_at);
    *goes_on = !fails || (call == s->fail_at && s->takes_effect);
    return fails ? fail_set(why, s->fails_with, 0, "made to fail at %zu", call) : ST_OK;
}

static enum status faulty_transact(struct store *store, enum table_id table,
                                   const struct operation *operations, size_t count, int64_t deadline_ms,
                                   size_t *failed, struct fail *why)
{
    struct faulty_store *s = (struct faulty_store *)store;
    struct fail ignored;
    bool goes_on;
    if (table == TABLE_OPS) {
        s->ops_writes++;
        if (s->ops_fail_with != ST_OK)
            return fail_set(why, s->ops_fail_with, 0, "made to fail");
    }
    enum status status = begin(s, &goes_on, why);
    if (s->refuses_deletes && operations[0].kind == OPERATION_DELETE)
        return fail_set(why, ST_REFUSED, 0, "made to refuse");
    enum status real = goes_on ? store_transact(s->real, table, operations, count, deadline_ms, failed,
                                                status ? &ignored : why)
                               : ST_OK;
    return status ? status : real;
}

static enum status faulty_get_many(struct store *store, enum table_id table, struct span partition_key,
                                   const struct span *row_keys, size_t count, const char *select,
                                   int64_t deadline_ms, struct arena *arena, struct entity **rows,
                                   struct fail *why)
{
    struct faulty_store *s = (struct faulty_store *)store;
    bool goes_on;
    enum status status = begin(s, &goes_on, why);
    return status ? status
                  : store_get_many(s->real, table, partition_key, row_keys, count, select, deadline_ms, arena,
                                   rows, why);
}

static enum status faulty_query(struct store *store, const struct query *query, int64_t deadline_ms,
                                struct arena *arena, struct page *page, struct fail *why)
{
    struct faulty_store *s = (struct faulty_store *)store;
    bool goes_on;
    enum status status = begin(s, &goes_on, why);
    return status ? status : store_query(s->real, query, deadline_ms, arena, page, why);
}

static int64_t faulty_now_ms(const struct store *store)
{
    const struct faulty_store *s = (const struct faulty_store *)store;
    return store_now_ms(s->real) + s->offset_ms;
}

static const struct store_functions FAULTY = {.joins_partitions = true,
                                              .transact = faulty_transact,
                                              .get_many = faulty_get_many,
                                              .query = faulty_query,
                                              .now_ms = faulty_now_ms};

/* --- two hosts ------------------------------------------------------------------------------------------ */

struct host {
    struct faulty_store store;
    struct mail_memory *memory;
    struct mailer *mailer;
    char owner[33];
    char url[112];
};

struct world {
    struct stored db; /* with the test's own look at it */
    char maildir[96];
    struct server server;
    bool server_runs;
    struct host us, them;
    struct lead lead;
    _Atomic bool stop; /* of us */
    enum mail_outcome outcomes[32];
    size_t outcome_count;
};

static void note_outcome(void *context, enum mail_outcome outcome)
{
    struct world *w = context;
    if (w->outcome_count < COUNT(w->outcomes))
        w->outcomes[w->outcome_count++] = outcome;
}

static void free_mailer(struct host *h)
{
    mailer_free(h->mailer);
    h->mailer = NULL;
}

static void make_mailer(struct world *w, struct host *h)
{
    struct mailer_options options = {
        .transport = {.url = span_of(h->url), .tls_off = h == &w->us, .reply_wait_ms = 3000},
        .from = {.name = SPAN_LIT("Leads"), .address = SPAN_LIT("leads@example.com")},
        .per_minute = MAILS_PER_MINUTE_MAX,
        .owner = span_of(h->owner),
        .memory = h->memory,
        .stop = h == &w->us ? &w->stop : NULL,
        .on_outcome = h == &w->us ? note_outcome : NULL,
        .context = w,
    };
    struct fail why;
    if (mailer_new(&options, &h->store.base, &h->mailer, &why) != ST_OK)
        fail_msg("no mailer: %s", why.text);
}

static void make_host(struct world *w, struct host *h, char digit)
{
    struct fail why;
    memset(h->owner, digit, sizeof h->owner - 1);
    h->store =
        (struct faulty_store){.base.functions = &FAULTY, .world = w, .fail_at = NEVER, .hook_at = NEVER};
    if (open_store(&w->db, &h->store.real, &why) != ST_OK)
        fail_msg("no store: %s", why.text);
    assert_int_equal(mail_memory_new(&h->memory, NULL), ST_OK);
    make_mailer(w, h);
}

static void end_host(struct host *h)
{
    free_mailer(h);
    mail_memory_free(h->memory);
    store_close(h->store.real);
}

/* The host's process is killed and another begins. */
static void restart(struct world *w, struct host *h)
{
    free_mailer(h);
    mail_memory_free(h->memory);
    assert_int_equal(mail_memory_new(&h->memory, NULL), ST_OK);
    make_mailer(w, h);
}

static struct world *begin_world(const struct rule *const *scripts, size_t script_count,
                                 const struct rule *rules)
{
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    assert_true(stored_open(&w->db, NULL));
    (void)snprintf(w->maildir, sizeof w->maildir, "%s/Maildir", w->db.directory);
    server_start_scripts(&w->server, scripts, script_count, rules);
    w->server_runs = true;
    (void)snprintf(w->us.url, sizeof w->us.url, "smtp://127.0.0.1:%u", w->server.port);
    (void)snprintf(w->them.url, sizeof w->them.url, "maildir:%s", w->maildir);
    make_host(w, &w->us, 'a');
    make_host(w, &w->them, 'b');
    return w;
}

static void stop_server(struct world *w)
{
    if (w->server_runs)
        server_stop(&w->server);
    w->server_runs = false;
}

static void end_world(struct world *w)
{
    end_host(&w->us);
    end_host(&w->them);
    stop_server(w);
    server_release(&w->server);
    assert_int_equal(stored_close(&w->db), 0);
    free(w);
}

/* --- what there is -------------------------------------------------------------------------------------- */

/* A delivery of a lead of the one person; the digits name the lead's content and the delivery. */
static void deliver_content(struct world *w, char content, char digit, int64_t received_ms,
                            size_t recipient_count)
{
    static struct span recipients[] = {SPAN_LIT("sales@example.com"), SPAN_LIT("boss@example.com")};
    struct lead_rules rules = {
        .repeat_window_ms = 3600000, .recipients = recipients, .recipient_count = recipient_count};
    struct lead *lead = &w->lead;
    *lead = (struct lead){.customer = {.first_name = SPAN_LIT("Ana"), .email = SPAN_LIT("ana@example.org")},
                          .action = SPAN_LIT("INS"),
                          .description = SPAN_LIT("hello")};
    memcpy(lead->partition, PARTITION, sizeof PARTITION);
    memset(lead->contact, 'c', LEAD_HASH_TEXT);
    memset(lead->content, content, LEAD_HASH_TEXT);
    struct lead_write write = {
        .delivery = {.lead = lead, .received_ms = received_ms, .key_name = SPAN_LIT("k")}};
    struct lead_write *writes[] = {&write};
    memset(write.delivery.id, digit, LEAD_DELIVERY_TEXT);
    leads_commit(w->db.store, &rules, writes, 1, soon(), &w->db.arena);
    assert_int_equal(write.status, ST_OK);
}

static void deliver(struct world *w, char digit, int64_t received_ms, size_t recipient_count)
{
    deliver_content(w, 'd', digit, received_ms, recipient_count);
}

static struct page rows(struct world *w, enum table_id table, const char *partition, const char *from,
                        const char *to)
{
    return rows_between(w->db.store, &w->db.arena, table, partition, from, to);
}

static struct page mails(struct world *w)
{
    return rows(w, TABLE_LEADS, PARTITION, MAIL_KEY_FIRST, MAIL_KEY_END);
}

static struct mail_row mail(struct world *w)
{
    struct page page = mails(w);
    struct mail_row row;
    assert_int_equal(page.count, 1);
    assert_int_equal(mail_of_row(&page.rows[0], &row, NULL), ST_OK);
    return row;
}

static size_t leads(struct world *w)
{
    return rows(w, TABLE_LEADS, PARTITION, "0", "~").count;
}

static bool is_notified(struct world *w)
{
    struct page page = rows(w, TABLE_LEADS, PARTITION, "0", "~");
    return page.count == 1 && entity_number(&page.rows[0], COLUMN_NOTIFIED_TIME, 0) != 0;
}

static size_t alarms(struct world *w)
{
    return rows(w, TABLE_OPS, ALARMS_PARTITION, "", "").count;
}

static size_t sent_by_us(const struct world *w)
{
    return atomic_load(&w->server.mails);
}

static size_t sent_by_them(const struct world *w)
{
    return mails_in_maildir(w->maildir);
}

static enum status pass(struct host *h)
{
    struct fail why;
    return mailer_pass(h->mailer, span_of(PARTITION), &why);
}

/* Everything works again: passes until nothing is left to do now. */
static void recover(struct host *h)
{
    h->store.fail_at = h->store.hook_at = NEVER;
    h->store.fails_on = false;
    for (int i = 0; i < PASSES_MAX; i++) {
        struct fail why;
        if (mailer_pass(h->mailer, span_of(PARTITION), &why) != ST_OK)
            fail_msg("no recovery: %s", why.text);
    }
}

/* Sets the first mail's state by hand, as another process would have left it. */
static void leave_as(struct world *w, enum mail_state state, const char *owner, int32_t tries,
                     int32_t ambiguous, int64_t next_ms)
{
    struct page page = mails(w);
    struct mail_row row;
    struct operation operation = {.kind = OPERATION_MERGE};
    size_t failed;
    assert_true(page.count > 0);
    assert_int_equal(mail_of_row(&page.rows[0], &row, NULL), ST_OK);
    row.state = state;
    row.owner = span_of(owner);
    row.tries = tries;
    row.ambiguous = ambiguous;
    row.next_ms = next_ms;
    assert_true(row_of_mail_state(&operation.entity, &page.rows[0], &row, span_empty(), &w->db.arena));
    operation.entity.etag = SPAN_LIT("*");
    assert_int_equal(store_transact(w->db.store, TABLE_LEADS, &operation, 1, soon(), &failed, NULL), ST_OK);
}

static void erase_lead(struct world *w)
{
    struct page page = rows(w, TABLE_LEADS, PARTITION, "0", "~");
    struct operation erase = {.kind = OPERATION_DELETE};
    size_t failed;
    assert_int_equal(page.count, 1);
    erase.entity = page.rows[0];
    erase.entity.etag = SPAN_LIT("*");
    assert_int_equal(store_transact(w->db.store, TABLE_LEADS, &erase, 1, soon(), &failed, NULL), ST_OK);
}

/* --- the cost ------------------------------------------------------------------------------------------- */

/* List, lead and history, claim, look, mark, record. */
static void test_six_operations(void **state)
{
    (void)state;
    struct world *w = begin_world(NULL, 0, NULL);
    deliver(w, '1', clock_wall_ms(), 1);
    assert_int_equal(pass(&w->us), ST_OK);
    assert_int_equal(w->us.store.calls, 6);
    assert_int_equal(sent_by_us(w), 1);
    assert_true(is_notified(w));
    end_world(w);
}

/* --- the store fails ------------------------------------------------------------------------------------ */

static const struct {
    const char *name;
    enum status status;
    bool takes_effect, fails_on;
} FAILURES[] = {
    {"not done", ST_AGAIN, false, false},
    {"done, but not answered", ST_UNKNOWN, true, false},
    {"not done, not answered", ST_UNKNOWN, false, false},
    {"down from then on", ST_AGAIN, false, true},
    {"down after it was done", ST_UNKNOWN, true, true},
    {"denied from then on", ST_DENIED, false, true},
};

/* A process that lives knows what it sent: whatever fails, each mail goes out once, at once. */
static void test_store_fails_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(FAILURES); i++) {
        bool more = true;
        for (size_t at = 0; more; at++) {
            struct world *w = begin_world(NULL, 0, NULL);
            deliver(w, '1', clock_wall_ms(), 2);
            w->us.store.fail_at = at;
            w->us.store.fails_with = FAILURES[i].status;
            w->us.store.takes_effect = FAILURES[i].takes_effect;
            w->us.store.fails_on = FAILURES[i].fails_on;
            (void)pass(&w->us);
            (void)pass(&w->us);
            more = w->us.store.calls > at;
            recover(&w->us);
            w->us.store.offset_ms = 2 * MINUTE_MS; /* a mark that failed is tried again after a minute */
            recover(&w->us);
            if (sent_by_us(w) != 2 || mails(w).count != 0 || !is_notified(w))
                fail_msg("%s at %zu: %zu sent, %zu rows left", FAILURES[i].name, at, sent_by_us(w),
                         mails(w).count);
            end_world(w);
            assert_true(at < OPERATIONS_MAX);
        }
    }
}

/* The process is killed: nothing is lost; a mail that may be out waits half an hour. */
static void test_killed_anywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(FAILURES); i++) {
        bool more = true, was_ambiguous = false;
        for (size_t at = 0; more; at++) {
            struct world *w = begin_world(NULL, 0, NULL);
            deliver(w, '1', clock_wall_ms(), 1);
            w->us.store.fail_at = at;
            w->us.store.fails_with = FAILURES[i].status;
            w->us.store.takes_effect = FAILURES[i].takes_effect;
            w->us.store.fails_on = true;
            (void)pass(&w->us);
            more = w->us.store.calls > at;
            restart(w, &w->us);
            recover(&w->us);
            size_t left = mails(w).count;
            if (sent_by_us(w) > 1 || (left == 0 && sent_by_us(w) != 1))
                fail_msg("%s at %zu: %zu sent, %zu rows left", FAILURES[i].name, at, sent_by_us(w), left);
            if (left) {
                was_ambiguous = true;
                assert_int_equal(mail(w).ambiguous, 1);
                w->us.store.offset_ms = 31 * MINUTE_MS;
                recover(&w->us);
                assert_in_range(sent_by_us(w), 1, 2);
            }
            assert_int_equal(mails(w).count, 0);
            assert_true(is_notified(w));
            end_world(w);
            assert_true(at < OPERATIONS_MAX);
        }
        assert_true(was_ambiguous);
    }
}

/* What could not be recorded is recorded at the end of the process. */
static void test_recorded_at_the_stop(void **state)
{
    (void)state;
    struct world *w = begin_world(NULL, 0, NULL);
    struct fail why;
    deliver(w, '1', clock_wall_ms(), 1);
    w->us.store.fail_at = 5; /* the record */
    w->us.store.fails_with = ST_AGAIN;
    w->us.store.fails_on = true;
    assert_int_equal(pass(&w->us), ST_AGAIN);
    assert_int_equal(sent_by_us(w), 1);
    atomic_store(&w->stop, true);
    assert_int_equal(mailer_settle(w->us.mailer, 0, &why), ST_AGAIN);
    w->us.store.calls = 0;
    w->us.store.fail_at = 0; /* once more it fails, then the store is back */
    w->us.store.fails_on = false;
    assert_int_equal(mailer_settle(w->us.mailer, soon(), &why), ST_OK);
    assert_int_equal(mails(w).count, 0);
    assert_true(is_notified(w));
    end_world(w);
}

/* The memory outlives the mailer: a relay makes a new one after each failure. */
static void test_memory_outlives_the_mailer(void **state)
{
    (void)state;
    struct world *w = begin_world(NULL, 0, NULL);
    deliver(w, '1', clock_wall_ms(), 1);
    w->us.store.fail_at = 5;
    w->us.store.fails_with = ST_UNKNOWN;
    assert_int_equal(pass(&w->us), ST_UNKNOWN);
    assert_int_equal(mail(w).state, MAIL_STATE_SENDING);
    free_mailer(&w->us);
    make_mailer(w, &w->us);
    recover(&w->us);
    assert_int_equal(sent_by_us(w), 1);
    assert_int_equal(mails(w).count, 0);
    end_world(w);
}

/* A store that refuses the record and nothing else: the mail is not sent again, and others still go out. */
static void test_record_refused_for_good(void **state)
{
    (void)state;
    struct world *w = begin_world(NULL, 0, NULL);
    deliver(w, '1', clock_wall_ms(), 2);
    w->us.store.fail_at = 5;
    w->us.store.fails_with = ST_REFUSED;
    w->us.store.fails_on = false;
    assert_int_equal(pass(&w->us), ST_OK); /* the lead's part is left out */
    assert_int_equal(sent_by_us(w), 2);
    assert_int_equal(mails(w).count, 0);

    deliver(w, '2', clock_wall_ms() + 2 * 3600000, 2);
    w->us.store.fail_at = NEVER;
    w->us.store.refuses_deletes = true;
    recover(&w->us);
    assert_int_equal(sent_by_us(w), 4);
    assert_int_equal(mails(w).count, 2);
    w->us.store.offset_ms = DAY_MS;
    recover(&w->us);
    assert_int_equal(mails(w).count, 2);
    w->us.store.refuses_deletes = false;
    recover(&w->us);
    assert_int_equal(sent_by_us(w), 4);
    assert_int_equal(mails(w).count, 0);
    end_world(w);
}

/* A person with more leads than fit into memory is told of, with fewer of them. */
static void test_history_too_large(void **state)
{
    static const enum status statuses[] = {ST_NOMEM, ST_TOO_LARGE};
    (void)state;
    for (size_t i = 0; i < COUNT(statuses); i++) {
        struct world *w = begin_world(NULL, 0, NULL);
        deliver(w, '1', clock_wall_ms(), 1);
        w->us.store.fail_at = 1; /* the lead and the history */
        w->us.store.fails_with = statuses[i];
        assert_int_equal(pass(&w->us), ST_OK);
        assert_int_equal(sent_by_us(w), 1);
        assert_int_equal(mails(w).count, 0);
        end_world(w);
    }
}

/* Many mails that wait with the longest messages do not stand in each other's way. */
static void test_many_long_messages(void **state)
{
    (void)state;
    struct world *w = begin_world(NULL, 0, NULL);
    struct buf text = BUF_INIT(LIMIT_MAIL_BYTES);
    while (text.len + 2 < LIMIT_MAIL_BYTES)
        buf_add_text(&text, "\r\n");
    deliver(w, '1', clock_wall_ms(), 1);
    struct entity first = mails(w).rows[0];
    struct mail_row row;
    assert_int_equal(mail_of_row(&first, &row, NULL), ST_OK);
    /* Other mails of this lead, which come before the first one, in few transactions. */
    for (unsigned int i = 0; i < LONG_MAILS; i += LONG_MAILS / 4) {
        struct operation inserts[LONG_MAILS / 4];
        char keys[LONG_MAILS / 4][LIMIT_ROW_KEY_BYTES];
        size_t failed;
        struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
        for (unsigned int k = 0; k < LONG_MAILS / 4; k++) {
            (void)snprintf(keys[k], sizeof keys[k], "%.*s%032x-0",
                           (int)(first.row_key.len - LEAD_DELIVERY_TEXT - 2), first.row_key.ptr, i + k);
            row.next_ms = clock_wall_ms() + 60 * MINUTE_MS;
            inserts[k].kind = OPERATION_INSERT;
            assert_true(row_of_mail_state(&inserts[k].entity, &first, &row, buf_span(&text), &arena));
            inserts[k].entity.row_key = span_of(keys[k]);
        }
        assert_int_equal(
            store_transact(w->db.store, TABLE_LEADS, inserts, LONG_MAILS / 4, soon(), &failed, NULL), ST_OK);
        arena_release(&arena);
    }
    buf_release(&text);
    struct fail why;
    if (mailer_pass(w->us.mailer, span_of(PARTITION), &why) != ST_OK)
        fail_msg("%s", why.text);
    assert_int_equal(sent_by_us(w), 1);
    end_world(w);
}

/* --- others do something in between --------------------------------------------------------------------- */

/* Runs the hook before each operation of our pass in turn, and then check. */
static void at_every_operation_with(const struct rule *rules, void (*hook)(struct world *w),
                                    size_t recipient_count, void (*check)(struct world *w, size_t at))
{
    bool more = true;
    for (size_t at = 0; more; at++) {
        struct world *w = begin_world(NULL, 0, rules);
        deliver(w, '1', clock_wall_ms(), recipient_count);
        w->us.store.hook_at = at;
        w->us.store.hook = hook;
        if (pass(&w->us) != ST_OK)
            fail_msg("the pass fails at %zu", at);
        more = w->us.store.calls > at;
        check(w, at);
        end_world(w);
        assert_true(at < OPERATIONS_MAX);
    }
}

static void at_every_operation(void (*hook)(struct world *w), size_t recipient_count,
                               void (*check)(struct world *w, size_t at))
{
    at_every_operation_with(NULL, hook, recipient_count, check);
}

static void they_pass(struct world *w)
{
    assert_int_equal(pass(&w->them), ST_OK);
}

static void all_told_once(struct world *w, size_t at)
{
    recover(&w->us);
    recover(&w->them);
    size_t sent = sent_by_us(w) + sent_by_them(w);
    if (sent != 1 || mails(w).count != 0 || !is_notified(w))
        fail_msg("at %zu: %zu sent by us, %zu by them, %zu rows, notified %d", at, sent_by_us(w),
                 sent_by_them(w), mails(w).count, is_notified(w));
}

static void both_told_once(struct world *w, size_t at)
{
    recover(&w->us);
    recover(&w->them);
    size_t sent = sent_by_us(w) + sent_by_them(w);
    if (sent != 2 || mails(w).count != 0 || !is_notified(w))
        fail_msg("at %zu: %zu sent by us, %zu by them, %zu rows, notified %d", at, sent_by_us(w),
                 sent_by_them(w), mails(w).count, is_notified(w));
}

static void test_two_hosts(void **state)
{
    (void)state;
    at_every_operation(they_pass, 1, all_told_once);
    at_every_operation(they_pass, 2, both_told_once);
}

/* To them our claim looks expired, because we are slow or the service's clock has jumped. */
static void they_pass_later(struct world *w)
{
    w->them.store.offset_ms = 21 * MINUTE_MS;
    assert_int_equal(pass(&w->them), ST_OK);
    w->them.store.offset_ms = 0;
}

static void told_once_at_last(struct world *w, size_t at)
{
    recover(&w->us);
    w->us.store.offset_ms = w->them.store.offset_ms = 60 * MINUTE_MS;
    recover(&w->them);
    all_told_once(w, at);
}

static void both_told_once_at_last(struct world *w, size_t at)
{
    recover(&w->us);
    w->us.store.offset_ms = w->them.store.offset_ms = 60 * MINUTE_MS;
    recover(&w->them);
    both_told_once(w, at);
}

static void test_two_hosts_and_an_expired_claim(void **state)
{
    (void)state;
    at_every_operation(they_pass_later, 1, told_once_at_last);
    at_every_operation(they_pass_later, 2, both_told_once_at_last);
}

/* Our claim has expired, they have taken the mail over and fail in their turn: their verdict stands. */
static void they_defer(struct world *w)
{
    if (mails(w).count == 1)
        leave_as(w, MAIL_STATE_CLAIMED, w->them.owner, 3, 0, 0);
}

static void theirs_is_left_alone(struct world *w, size_t at)
{
    struct page page = mails(w);
    struct mail_row row;
    if (at > 4) /* the mark was made: it is sent, and recorded whatever they do */
        return;
    assert_int_equal(page.count, 1);
    assert_int_equal(mail_of_row(&page.rows[0], &row, NULL), ST_OK);
    if (!span_eq(row.owner, span_of(w->them.owner)) || row.tries != 3 || row.state != MAIL_STATE_CLAIMED ||
        sent_by_us(w) != 0)
        fail_msg("at %zu: owner %.*s, tries %d, state %d, %zu sent", at, SPAN_FMT(row.owner), (int)row.tries,
                 (int)row.state, sent_by_us(w));
}

static void test_taken_over(void **state)
{
    (void)state;
    at_every_operation(they_defer, 1, theirs_is_left_alone);
}

/* Also when our own attempt has failed, and we know why. */
static void theirs_outlives_our_failure(struct world *w, size_t at)
{
    struct mail_row row = mail(w);
    bool hook_ran = w->us.store.hook_at == NEVER;
    if (hook_ran && (!span_eq(row.owner, span_of(w->them.owner)) || row.tries != 3))
        fail_msg("at %zu: owner %.*s, tries %d", at, SPAN_FMT(row.owner), (int)row.tries);
    assert_true(hook_ran || row.tries == 1);
}

static void test_taken_over_from_a_failure(void **state)
{
    static const struct rule busy[RULES_MAX] = {{".", "451 4.3.0 later\r\n"}};
    (void)state;
    at_every_operation_with(busy, they_defer, 1, theirs_outlives_our_failure);
}

/* The same for a mail that had been claimed before, whose row is read anew. */
static void test_taken_over_at_a_repeat(void **state)
{
    (void)state;
    bool more = true;
    for (size_t at = 0; more; at++) {
        struct world *w = begin_world(NULL, 0, NULL);
        deliver(w, '1', clock_wall_ms(), 1);
        leave_as(w, MAIL_STATE_WAITING, "-", 1, 0, 0);
        w->us.store.hook_at = at;
        w->us.store.hook = they_defer;
        assert_int_equal(pass(&w->us), ST_OK);
        more = w->us.store.calls > at;
        theirs_is_left_alone(w, at);
        end_world(w);
    }
}

/* A third host has found the expired mark before us. */
static void test_ambiguous_once(void **state)
{
    (void)state;
    struct world *w = begin_world(NULL, 0, NULL);
    deliver(w, '1', clock_wall_ms(), 1);
    leave_as(w, MAIL_STATE_SENDING, "somebody else", 0, 0, 0);
    w->us.store.offset_ms = 21 * MINUTE_MS;
    w->us.store.hook_at = 1;
    w->us.store.hook = they_defer;
    assert_int_equal(pass(&w->us), ST_OK);
    theirs_is_left_alone(w, 1);
    end_world(w);
}

/* Erased is erased: no row of the lead comes back, and no mail waits any more. */
static void nothing_is_left(struct world *w, size_t at)
{
    recover(&w->us);
    if (leads(w) != 0 && at < 6)
        fail_msg("at %zu: the lead is back", at);
    assert_int_equal(mails(w).count, 0);
    assert_true(sent_by_us(w) <= 1);
    if (at <= 1) /* the lead was gone before it was read */
        assert_int_equal(sent_by_us(w), 0);
}

static void test_erased_at_any_time(void **state)
{
    (void)state;
    at_every_operation(erase_lead, 1, nothing_is_left);
}

/* With its mails, as `leadctl person erase` does it: neither claim nor fence nor record makes a row again. */
static void erase_person(struct world *w)
{
    struct person person = {.address = SPAN_LIT("ana@example.org")};
    const struct offer offer = {.partition = SPAN_LIT(PARTITION)};
    struct operation directory = {.kind = OPERATION_INSERT};
    struct person_tally erased;
    size_t failed;
    memset(person.contact, 'c', LEAD_HASH_TEXT);
    assert_true(row_of_offer(&directory.entity, &offer, &w->db.arena));
    assert_int_equal(store_transact(w->db.store, TABLE_OPS, &directory, 1, soon(), &failed, NULL), ST_OK);
    assert_int_equal(person_erase(w->db.store, &person, &erased, NULL), ST_OK);
    assert_int_equal(erased.rows[PERSON_LEADS], 1);
}

static void nobody_is_left(struct world *w, size_t at)
{
    bool hook_ran = w->us.store.hook_at == NEVER;
    recover(&w->us);
    if (hook_ran && leads(w) + mails(w).count != 0)
        fail_msg("at %zu: %zu leads and %zu mails are there", at, leads(w), mails(w).count);
    if (at <= 4) /* claimed, and the mark that goes before the final bytes was not made */
        assert_int_equal(sent_by_us(w), 0);
}

static void test_person_erased_at_any_time(void **state)
{
    (void)state;
    at_every_operation(erase_person, 1, nobody_is_left);
}

/* A lead erased after the first attempt is not mailed by the next, although the message is there. */
static void test_erased_between_attempts(void **state)
{
    (void)state;
    static const struct rule busy[RULES_MAX] = {{"RCPT", "451 4.3.0 later\r\n"}};
    static const struct rule *const scripts[] = {busy};
    struct world *w = begin_world(scripts, 1, NULL);
    deliver(w, '1', clock_wall_ms(), 1);
    assert_int_equal(pass(&w->us), ST_OK);
    assert_int_equal(mail(w).tries, 1);
    erase_lead(w);
    w->us.store.offset_ms = 5 * MINUTE_MS;
    recover(&w->us);
    assert_int_equal(sent_by_us(w), 0);
    assert_int_equal(mails(w).count, 0);
    end_world(w);
}

/* The customer comes back while the mail goes out: the lead is not marked as told before the second mail. */
static void comes_back(struct world *w)
{
    deliver(w, '2', clock_wall_ms() + 2 * 3600000, 1);
}

static void marked_with_the_last(struct world *w, size_t at)
{
    size_t waiting = mails(w).count;
    if (waiting > 0 && at < 6 && is_notified(w))
        fail_msg("at %zu: marked although %zu mails wait", at, waiting);
    recover(&w->us);
    assert_int_equal(mails(w).count, 0);
    assert_true(is_notified(w));
    assert_true(at >= 6 || sent_by_us(w) == 2);
}

static void test_comes_back_meanwhile(void **state)
{
    (void)state;
    at_every_operation(comes_back, 1, marked_with_the_last);
}

/* A stop at any point: broken off before the mark or finished, never half; the next process goes on. */
static void stop_us(struct world *w)
{
    atomic_store(&w->stop, true);
}

static void next_process_goes_on(struct world *w, size_t at)
{
    size_t sent = sent_by_us(w);
    if (mails(w).count != (sent ? 0 : 1))
        fail_msg("at %zu: %zu sent, %zu rows left", at, sent, mails(w).count);
    if (!sent) {
        assert_int_equal(mail(w).tries, 0);
        assert_int_equal(mail(w).ambiguous, 0);
    }
    atomic_store(&w->stop, false);
    restart(w, &w->us);
    all_told_once(w, at);
}

static void test_stop_at_any_time(void **state)
{
    (void)state;
    at_every_operation(stop_us, 1, next_process_goes_on);
}

/* What the stop breaks off is no failure of the mail's. */
static void test_stop_breaks_off(void **state)
{
    static const struct rule hangs[RULES_MAX] = {{"RCPT", HANG}};
    static const struct rule *const scripts[] = {hangs};
    (void)state;
    struct world *w = begin_world(scripts, 1, NULL);
    w->server.stop_at_hang = &w->stop;
    deliver(w, '1', clock_wall_ms(), 1);
    assert_int_equal(pass(&w->us), ST_OK);
    assert_int_equal(w->outcomes[0], MAIL_TRANSIENT);
    assert_int_equal(mail(w).state, MAIL_STATE_WAITING);
    next_process_goes_on(w, 0);
    end_world(w);
}

/* --- clocks --------------------------------------------------------------------------------------------- */

/* A time written while a clock was wrong holds up a mail no longer than the longest wait. */
static void test_time_far_ahead(void **state)
{
    (void)state;
    struct world *w = begin_world(NULL, 0, NULL);
    deliver(w, '1', clock_wall_ms(), 1);
    leave_as(w, MAIL_STATE_WAITING, "-", 1, 0, clock_wall_ms() + RETRY_LONGEST_WAIT_MS - MINUTE_MS);
    assert_int_equal(pass(&w->us), ST_OK);
    assert_int_equal(sent_by_us(w), 0);
    leave_as(w, MAIL_STATE_WAITING, "-", 1, 0, clock_wall_ms() + 400 * DAY_MS);
    assert_int_equal(pass(&w->us), ST_OK);
    assert_int_equal(sent_by_us(w), 1);
    end_world(w);
}

/* Whether a claim has expired is the store's clock's business: ours may be a day off. */
static void test_claims_expire_by_the_stores_clock(void **state)
{
    static const struct {
        enum mail_state state;
        int64_t offset_ms;
        size_t sent;
        int32_t ambiguous; /* -1: no row */
    } cases[] = {
        {MAIL_STATE_CLAIMED, 0, 0, 0},
        {MAIL_STATE_CLAIMED, 19 * MINUTE_MS, 0, 0},
        {MAIL_STATE_CLAIMED, 21 * MINUTE_MS, 1, -1},
        {MAIL_STATE_CLAIMED, -DAY_MS, 0, 0},
        {MAIL_STATE_SENDING, 19 * MINUTE_MS, 0, 0},
        {MAIL_STATE_SENDING, 21 * MINUTE_MS, 0, 1},
        {MAIL_STATE_SENDING, -DAY_MS, 0, 0},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct world *w = begin_world(NULL, 0, NULL);
        deliver(w, '1', clock_wall_ms(), 1);
        leave_as(w, cases[i].state, w->them.owner, 0, 0, 0);
        w->us.store.offset_ms = cases[i].offset_ms;
        assert_int_equal(pass(&w->us), ST_OK);
        size_t count = mails(w).count;
        if (sent_by_us(w) != cases[i].sent || (count == 0) != (cases[i].ambiguous < 0) ||
            (count && mail(w).ambiguous != cases[i].ambiguous))
            fail_msg("case %zu: %zu sent, %zu rows", i, sent_by_us(w), count);
        end_world(w);
    }
}

/* Counters that somebody has edited do no harm. */
static void test_strange_counters(void **state)
{
    static const int32_t numbers[] = {INT32_MIN, -1, INT32_MAX - 1, INT32_MAX};
    static const struct rule busy[RULES_MAX] = {{"RCPT", "451 4.3.0 later\r\n"}};
    (void)state;
    for (size_t i = 0; i < COUNT(numbers); i++) {
        struct world *w = begin_world(NULL, 0, busy);
        deliver(w, '1', clock_wall_ms(), 1);
        leave_as(w, MAIL_STATE_WAITING, "-", numbers[i], numbers[i], 0);
        assert_int_equal(pass(&w->us), ST_OK);
        assert_int_equal(w->outcomes[0], MAIL_TRANSIENT);
        assert_in_range(mail(w).tries, 1, INT32_MAX);
        end_world(w);
    }
}

/* --- what the server says ------------------------------------------------------------------------------- */

static void assert_next_in(struct world *w, int64_t minutes)
{
    int64_t wait_ms = mail(w).next_ms - clock_wall_ms() - w->us.store.offset_ms;
    if (wait_ms < minutes * MINUTE_MS * 4 / 5 - 5000 || wait_ms > minutes * MINUTE_MS * 6 / 5)
        fail_msg("waits %lld ms, want about %lld min", (long long)wait_ms, (long long)minutes);
}

/* 36 definite failures are five days; with the 37th the mail is parked, and kept. */
static void test_tried_for_five_days(void **state)
{
    static const int64_t minutes[] = {1, 5, 15, 30, 60, 120, 240};
    static const struct rule busy[RULES_MAX] = {{".", "451 4.3.0 later\r\n"}};
    (void)state;
    struct world *w = begin_world(NULL, 0, busy);
    deliver(w, '1', clock_wall_ms(), 1);
    for (int32_t tries = 1; tries <= 36; tries++) {
        int64_t wait_min = minutes[tries <= 7 ? tries - 1 : 6];
        assert_int_equal(pass(&w->us), ST_OK);
        assert_int_equal(mail(w).tries, tries);
        assert_int_equal(mail(w).state, MAIL_STATE_WAITING);
        assert_next_in(w, wait_min);
        assert_int_equal(pass(&w->us), ST_OK); /* not before */
        assert_int_equal(mail(w).tries, tries);
        w->us.store.offset_ms += wait_min * MINUTE_MS * 6 / 5 + 1000;
        if (tries == 9)
            w->us.store.offset_ms += 10 * DAY_MS; /* nobody could send: no time of the mail's */
    }
    assert_int_equal(alarms(w), 0);
    recover(&w->us);
    assert_int_equal(mail(w).state, MAIL_STATE_PARKED);
    assert_int_equal(sent_by_us(w), 37);
    assert_int_equal(alarms(w), 1);
    end_world(w);
}

/* A table that is down costs a mail none of its tries. */
static void test_store_down_uses_up_nothing(void **state)
{
    (void)state;
    for (size_t at = 0; at < 5; at++) { /* up to the mark */
        struct world *w = begin_world(NULL, 0, NULL);
        deliver(w, '1', clock_wall_ms(), 1);
        w->us.store.fails_with = ST_AGAIN;
        w->us.store.fails_on = true;
        for (int i = 0; i < 5; i++) {
            w->us.store.calls = 0;
            w->us.store.fail_at = at;
            (void)pass(&w->us);
        }
        assert_int_equal(mail(w).tries, 0);
        assert_int_equal(mail(w).ambiguous, 0);
        assert_int_equal(sent_by_us(w), 0);
        end_world(w);
    }
}

/* Sent at most three times, each time the same bytes, half an hour apart; then a person has to look. */
static void test_ambiguous(void **state)
{
    static const struct rule silent[RULES_MAX] = {{".", DROP}};
    (void)state;
    struct world *w = begin_world(NULL, 0, silent);
    deliver(w, '1', clock_wall_ms(), 1);
    for (int32_t i = 1; i <= 2; i++) {
        assert_int_equal(pass(&w->us), ST_OK);
        assert_int_equal(mail(w).ambiguous, i);
        assert_int_equal(mail(w).tries, 0);
        w->us.store.offset_ms += 29 * MINUTE_MS;
        recover(&w->us);
        assert_int_equal(sent_by_us(w), i);
        w->us.store.offset_ms += 2 * MINUTE_MS;
        deliver_content(w, (char)('1' + i), (char)('1' + i), clock_wall_ms(),
                        0); /* a new message would tell of it */
    }
    assert_int_equal(alarms(w), 0);
    recover(&w->us);
    w->us.store.offset_ms += DAY_MS;
    recover(&w->us);
    assert_int_equal(sent_by_us(w), 3);
    assert_int_equal(mail(w).state, MAIL_STATE_PARKED);
    assert_int_equal(alarms(w), 1);
    stop_server(w);
    assert_true(span_eq(server_mail(&w->server, 0), server_mail(&w->server, 1)));
    assert_true(span_eq(server_mail(&w->server, 0), server_mail(&w->server, 2)));
    end_world(w);
}

#define DUPLICATE "554 5.2.0 STOREDRV.Submission.Exception:MapiExceptionDuplicateDelivery; no\r\n"

/* "I have it already" is good news only after an attempt without an answer. */
static void test_duplicate(void **state)
{
    static const struct rule silent[RULES_MAX] = {{".", DROP}}, has_it[RULES_MAX] = {{".", DUPLICATE}};
    static const struct rule *const scripts[] = {silent};
    (void)state;
    struct world *w = begin_world(scripts, 1, has_it);
    deliver(w, '1', clock_wall_ms(), 1);
    recover(&w->us);
    assert_int_equal(mail(w).ambiguous, 1);
    w->us.store.offset_ms = 31 * MINUTE_MS;
    recover(&w->us);
    assert_int_equal(mails(w).count, 0);
    assert_true(is_notified(w));
    assert_int_equal(alarms(w), 0);
    deliver(w, '2', clock_wall_ms() + 2 * 3600000, 1);
    recover(&w->us);
    assert_int_equal(mail(w).state, MAIL_STATE_PARKED);
    assert_int_equal(alarms(w), 1);
    end_world(w);
}

/* The queue rests, uses up nothing, and goes on by itself; other mails do not try meanwhile. */
static void test_configuration_error(void **state)
{
    static const struct rule closed[RULES_MAX] = {{"MAIL", "530 5.7.0 Authentication required\r\n"}};
    static const struct rule *const scripts[] = {closed, closed};
    (void)state;
    struct world *w = begin_world(scripts, 2, NULL);
    deliver(w, '1', clock_wall_ms(), 2);
    recover(&w->us);
    assert_int_equal(w->outcome_count, 1);
    assert_int_equal(w->outcomes[0], MAIL_CONFIGURATION);
    assert_int_equal(mails(w).count, 2);
    assert_int_equal(alarms(w), 0); /* the lookout tells of it */
    assert_in_range(mailer_due_in_ms(w->us.mailer), MINUTE_MS - 10000, MINUTE_MS);
    mailer_resume(w->us.mailer); /* `leadctl retry` */
    recover(&w->us);
    assert_int_equal(w->outcome_count, 2);
    assert_in_range(mailer_due_in_ms(w->us.mailer), MINUTE_MS - 10000, MINUTE_MS); /* a new series */
    free_mailer(&w->us); /* a new mailer knows of the pause */
    make_mailer(w, &w->us);
    recover(&w->us);
    assert_int_equal(w->outcome_count, 2);
    struct mail_row row;
    assert_int_equal(mail_of_row(&mails(w).rows[0], &row, NULL), ST_OK);
    assert_int_equal(row.tries, 0);
    assert_true(span_has_nocase(row.error, SPAN_LIT("530 5.7.0")));
    mailer_resume(w->us.mailer);
    recover(&w->us);
    assert_int_equal(sent_by_us(w), 2);
    assert_true(is_notified(w));
    assert_int_equal(alarms(w), 0);
    end_world(w);
}

/* The pause grows from error to error, and a mail that goes through ends it. */
static void test_pause_doubles(void **state)
{
    static const int64_t minutes[] = {1, 2, 4, 8, 15, 15};
    struct mail_memory *memory;
    (void)state;
    assert_int_equal(mail_memory_new(&memory, NULL), ST_OK);
    assert_int_equal(mail_memory_wait_ms(memory, 20), 0);
    for (size_t i = 0; i < COUNT(minutes); i++) {
        assert_int_equal(mail_memory_pause(memory), minutes[i] * MINUTE_MS);
        assert_in_range(mail_memory_wait_ms(memory, 20), minutes[i] * MINUTE_MS - 10000,
                        minutes[i] * MINUTE_MS);
    }
    mail_memory_resume(memory);
    assert_int_equal(mail_memory_wait_ms(memory, 20), 0);
    assert_int_equal(mail_memory_pause(memory), MINUTE_MS);
    mail_memory_free(memory);
}

/* The rate limit holds for any number in any minute, which it makes a little longer, also when it is changed by a
 * reload. */
static void test_rate_limit(void **state)
{
    const int64_t longest_ms = MINUTE_MS + 100;
    static const unsigned int limits[] = {1, 2, 20, MAILS_PER_MINUTE_MAX};
    (void)state;
    for (size_t i = 0; i < COUNT(limits); i++) {
        struct mail_memory *memory;
        assert_int_equal(mail_memory_new(&memory, NULL), ST_OK);
        for (unsigned int sent = 0; sent < limits[i]; sent++) {
            assert_int_equal(mail_memory_wait_ms(memory, limits[i]), 0);
            mail_memory_note_send(memory);
        }
        assert_in_range(mail_memory_wait_ms(memory, limits[i]), MINUTE_MS - 10000, longest_ms);
        assert_in_range(mail_memory_wait_ms(memory, 1), MINUTE_MS - 10000, longest_ms);
        if (limits[i] < MAILS_PER_MINUTE_MAX)
            assert_int_equal(mail_memory_wait_ms(memory, limits[i] + 1), 0);
        mail_memory_free(memory);
    }
}

/* --- alarms --------------------------------------------------------------------------------------------- */

/* One call per event and day; one that fails harms no mail and is made again at the next event. */
static void test_alarms(void **state)
{
    static const struct rule refused[RULES_MAX] = {{"RCPT", "550 5.1.1 nobody here\r\n"}};
    (void)state;
    struct world *w = begin_world(NULL, 0, refused);
    int64_t now = clock_wall_ms();
    deliver(w, '1', now, 2);
    w->us.store.ops_fail_with = ST_DENIED;
    recover(&w->us);
    assert_int_equal(w->us.store.ops_writes, 2); /* one for each mail that was parked */
    assert_int_equal(alarms(w), 0);
    w->us.store.ops_fail_with = ST_OK;
    deliver(w, '2', now + 2 * 3600000, 2);
    recover(&w->us);
    assert_int_equal(w->us.store.ops_writes, 3);
    assert_int_equal(alarms(w), 1);
    restart(w, &w->us);
    deliver(w, '3', now + 4 * 3600000, 1);
    recover(&w->us);
    assert_int_equal(w->us.store.ops_writes, 4); /* another process finds it there */
    assert_int_equal(alarms(w), 1);
    w->us.store.offset_ms = DAY_MS;
    deliver(w, '4', now + 6 * 3600000, 1);
    recover(&w->us);
    assert_int_equal(w->us.store.ops_writes, 5);
    assert_int_equal(alarms(w), 2);
    struct page page = mails(w);
    assert_int_equal(page.count, 6);
    for (size_t i = 0; i < page.count; i++) {
        struct mail_row row;
        assert_int_equal(mail_of_row(&page.rows[i], &row, NULL), ST_OK);
        assert_int_equal(row.state, MAIL_STATE_PARKED);
    }
    struct span text = entity_text(&rows(w, TABLE_OPS, ALARMS_PARTITION, "", "").rows[0], "Text");
    assert_true(span_has_nocase(text, SPAN_LIT("550 5.1.1 nobody here")));
    assert_int_equal(span_find(text, '@'), SPAN_NONE);
    end_world(w);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_six_operations),
        cmocka_unit_test(test_store_fails_anywhere),
        cmocka_unit_test(test_killed_anywhere),
        cmocka_unit_test(test_recorded_at_the_stop),
        cmocka_unit_test(test_memory_outlives_the_mailer),
        cmocka_unit_test(test_record_refused_for_good),
        cmocka_unit_test(test_history_too_large),
        cmocka_unit_test(test_many_long_messages),
        cmocka_unit_test(test_two_hosts),
        cmocka_unit_test(test_two_hosts_and_an_expired_claim),
        cmocka_unit_test(test_taken_over),
        cmocka_unit_test(test_taken_over_from_a_failure),
        cmocka_unit_test(test_taken_over_at_a_repeat),
        cmocka_unit_test(test_ambiguous_once),
        cmocka_unit_test(test_erased_at_any_time),
        cmocka_unit_test(test_person_erased_at_any_time),
        cmocka_unit_test(test_erased_between_attempts),
        cmocka_unit_test(test_comes_back_meanwhile),
        cmocka_unit_test(test_stop_at_any_time),
        cmocka_unit_test(test_stop_breaks_off),
        cmocka_unit_test(test_time_far_ahead),
        cmocka_unit_test(test_claims_expire_by_the_stores_clock),
        cmocka_unit_test(test_strange_counters),
        cmocka_unit_test(test_tried_for_five_days),
        cmocka_unit_test(test_store_down_uses_up_nothing),
        cmocka_unit_test(test_ambiguous),
        cmocka_unit_test(test_duplicate),
        cmocka_unit_test(test_configuration_error),
        cmocka_unit_test(test_pause_doubles),
        cmocka_unit_test(test_rate_limit),
        cmocka_unit_test(test_alarms),
    };
    return cmocka_run_group_tests_name("mailer", tests, NULL, NULL);
}
