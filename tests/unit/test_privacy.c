/* Retention, and everything about one person: counted, erased, and searched for
 * byte by byte in the files.  On SQLite and, when TABLE_CONNECTION names a Table
 * service, on that too; behind a front in which others come between.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>

#include "lib/lead/mention.h"
#include "lib/net/http.h"
#include "lib/relay/drain.h"
#include "lib/store/ledger.h"
#include "lib/store/offers.h"
#include "lib/store/person.h"
#include "lib/store/purge.h"
#include "lib/store/quarantine.h"
#include "tests/unit/front.h"
#include "tests/unit/spooled.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define DAY          CLOCK_DAY_MS
#define OLD_MS       (START_MS - 200 * DAY)
#define BEFORE_MS    (START_MS - 180 * DAY)
#define ADDRESS      "Ana.Marked@example.com"
/* As it lies in rows: what no file may hold any more. */
#define MARK "na.Marked@example.co"

enum { TRANSACTIONS_MAX = 64, WAIT_STEP_US = 1000 };

struct fixture {
    struct front front;
    struct stored db;
    struct place place; /* of a spool */
    struct spool *spool;
    struct person ana;

    enum status fails_with[TRANSACTIONS_MAX]; /* the transactions, by number */
    bool takes_effect;                        /* although they fail */
    int retry_after_s;
    size_t transactions;
    void (*between)(struct fixture *f); /* before each */
    struct lead_write *again;           /* for it: comes back */

    pthread_t eraser;
    _Atomic bool has_erased;
    bool is_eraser_begun;
    struct person_tally erased;
};

/* --- the front ----------------------------------------------------------------------------------------------- */

static enum status meddling_transact(struct store *store, enum table_id table,
                                     const struct operation *operations, size_t count, int64_t deadline_ms,
                                     size_t *failed, struct fail *why)
{
    struct fixture *f = (struct fixture *)store;
    size_t number = f->transactions++;
    enum status fails_with = number < TRANSACTIONS_MAX ? f->fails_with[number] : ST_OK;
    enum status status = ST_OK;
    if (f->between)
        f->between(f);
    for (size_t i = 1; i < count; i++) /* as the Table service demands */
        assert_true(span_eq(operations[i].entity.partition_key, operations[0].entity.partition_key));
    if (fails_with == ST_OK || f->takes_effect)
        status = store_transact(f->db.store, table, operations, count, deadline_ms, failed, why);
    if (fails_with == ST_OK)
        return status;
    (void)fail_set(why, fails_with, 0, "a fault of the test");
    why->retry_after_s = f->retry_after_s;
    return fails_with;
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char table[40] = "P";
    random_hex(table + 1, 16);
    if (!f || !stored_open(&f->db, table))
        return -1;
    front_place(&f->front, f->db.store);
    f->front.functions.transact = meddling_transact;
    place_make(&f->place);
    *state = f;
    return person_of(SPAN_LIT(ADDRESS), &f->ana, NULL) == ST_OK ? 0 : -1;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    spool_close(f->spool);
    int rc = stored_close(&f->db) | place_remove(&f->place);
    free(f);
    return rc;
}

/* --- what tests do ------------------------------------------------------------------------------------------- */

static void assert_ok(enum status status, const struct fail *why)
{
    if (status != ST_OK)
        print_error("%s\n", why->text);
    assert_int_equal(status, ST_OK);
}

static const struct span sales = {"sales@example.net", 17};

/* A lead of that address, whose text says more; through the three steps, as it would come. */
static struct lead_write *lead_from(struct fixture *f, const char *email, const char *words,
                                    const char *offer, int64_t received_ms)
{
    unsigned char random[LEAD_RANDOM_BYTES];
    struct buf body = BUF_INIT(LIMIT_BODY_BYTES);
    struct lead *lead = arena_alloc(&f->db.arena, sizeof *lead);
    struct span copy;
    size_t offset;
    struct fail why = {0};
    assert_non_null(lead);
    buf_addf(&body, "{\"UserDetails\":{\"FirstName\":\"Ana\",\"Email\":\"%s\"},\"LeadSource\":\"X-INS|%s\",",
             email, offer);
    buf_addf(&body, "\"Description\":\"%s\"}", words);
    assert_true(arena_copy(&f->db.arena, buf_span(&body), &copy));
    buf_release(&body);
    assert_ok(crypto_random(random, sizeof random, &why), &why);
    assert_ok(lead_understand(copy, span_empty(), span_empty(), LEAD_BY_BODY, random, &f->db.arena, lead,
                              &offset, &why),
              &why);
    return make_write(&f->db.arena, lead, received_ms);
}

static void commit(struct fixture *f, struct lead_write *write, bool has_mail)
{
    const struct lead_rules rules = {
        .repeat_window_ms = HOUR_MS, .recipients = &sales, .recipient_count = has_mail ? 1 : 0};
    struct offers *offers;
    struct fail why = {0};
    assert_ok(offers_new(&offers, &why), &why);
    assert_ok(offers_ensure(offers, f->db.store, NULL, &write->delivery, soon(), &why), &why);
    offers_free(offers);
    leads_commit(f->db.store, &rules, &write, 1, soon(), &f->db.arena);
    assert_ok(write->status, &write->why);
}

static void keep(struct fixture *f, struct span body, int64_t received_ms)
{
    struct quarantined item = {.received_ms = received_ms,
                               .key_name = SPAN_LIT("market"),
                               .reason = SPAN_LIT("broken"),
                               .body = body};
    struct fail why = {0};
    random_hex(item.id, LEAD_DELIVERY_TEXT);
    assert_ok(quarantine_put(f->db.store, &item, &QUARANTINE_IN_ANY_CASE, soon(), &why), &why);
}

/* The mail of the offer's only mail row is given up, its finished message in the row. */
static void park(struct fixture *f, const char *offer)
{
    struct page page =
        rows_between(f->db.store, &f->db.arena, TABLE_LEADS, offer, MAIL_KEY_FIRST, MAIL_KEY_END);
    struct operation operation = {.kind = OPERATION_MERGE};
    struct mail_row mail;
    struct fail why = {0};
    size_t failed;
    assert_int_equal(page.count, 1);
    assert_ok(mail_of_row(&page.rows[0], &mail, &why), &why);
    mail.state = MAIL_STATE_PARKED;
    assert_true(row_of_mail_state(&operation.entity, &page.rows[0], &mail,
                                  SPAN_LIT("Reply-To: <" ADDRESS ">\r\n"), &f->db.arena));
    assert_ok(store_transact(f->db.store, TABLE_LEADS, &operation, 1, soon(), &failed, &why), &why);
}

static size_t leads_of(struct fixture *f, const char *offer)
{
    return rows_between(f->db.store, &f->db.arena, TABLE_LEADS, offer, "0", "~").count;
}

static size_t mails_of(struct fixture *f, const char *offer)
{
    return rows_between(f->db.store, &f->db.arena, TABLE_LEADS, offer, MAIL_KEY_FIRST, MAIL_KEY_END).count;
}

static size_t items(struct fixture *f)
{
    return rows_between(f->db.store, &f->db.arena, TABLE_OPS, QUARANTINE_PARTITION, "0", "~").count;
}

/* How often the bytes are in the files of a folder. */
static int times_in_files(const char *folder)
{
    char command[200], answer[32] = "";
    (void)snprintf(command, sizeof command, "cat %s/* | grep -aoi '%s' | wc -l", folder, MARK);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    assert_non_null(fgets(answer, sizeof answer, pipe));
    assert_int_equal(pclose(pipe), 0);
    return (int)strtol(answer, NULL, 10);
}

static bool is_sqlite(const struct fixture *f)
{
    return f->db.table[0] == '\0';
}

/* --- mentions ------------------------------------------------------------------------------------------------ */

static void test_mention(void **state)
{
    static const struct {
        struct span bytes;
        bool found;
    } rows[] = {
        {SPAN_LIT("ana+x@example.com"), true},
        {SPAN_LIT("{\"Email\":\"ANA+X@Example.COM\""), true},
        {SPAN_LIT("<ana+x@example.com>, other@example.com"), true},
        {SPAN_LIT("write to ana+x@example.com."), true},
        {SPAN_LIT("thanks...ana+x@example.com"), true},
        {SPAN_LIT("{\"Email\":\"ana\\u002Bx\\u0040example\\u002ecom\"}"), true},
        {SPAN_LIT("{\"Note\":\"\\nana+x@example.com\"}"), true},
        {SPAN_LIT("{\"Details\":\"{\\\"Email\\\":\\\"ana\\\\u002bx@example.com\\\"}\"}"), true},
        {SPAN_LIT("email=ana%2Bx%40example.com&x=1"), true},
        {SPAN_LIT("email=ana%2bx%40example%2Ecom"), true},
        {SPAN_LIT("body=%7B%22e%22%3A%22ana%5Cu002bx%5Cu0040example.com%22"), true},
        {SPAN_LIT("note=mail+ana%252Bx%2540example.com"), true},
        {SPAN_LIT("a\0n\0a\0+\0x\0@\0e\0x\0a\0m\0p\0l\0e\0.\0c\0o\0m\0"), true},
        {SPAN_LIT("\xFF\xFE ana+x@example.com \xFF"), true},
        {SPAN_LIT("note=mail+ana+x@example.com"), true}, /* the price is the next */
        {SPAN_LIT("joe+ana+x@example.com"), true},
        {SPAN_LIT("joana+x@example.com"), false},
        {SPAN_LIT("jo.ana+x@example.com"), false},
        {SPAN_LIT("ana+x@example.com.au"), false},
        {SPAN_LIT("ana+x@example.community"), false},
        {SPAN_LIT("ana+x@example.com-mail.net"), false},
        {SPAN_LIT("\xC3\xB6"
                  "ana+x@example.com"),
         false},
        {SPAN_LIT("ana@example.com"), false},
        {SPAN_LIT("ana+x@example.co"), false},
        {SPAN_LIT("%u0040 \\u00 \\ %"), false},
        {SPAN_LIT("\\"), false},
        {SPAN_LIT("%4"), false},
        {SPAN_LIT(""), false},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(rows); i++) {
        bool found = !rows[i].found;
        struct fail why = {0};
        assert_ok(mention_find(rows[i].bytes, SPAN_LIT("Ana+x@Example.com"), &found, &why), &why);
        if (found != rows[i].found)
            print_error("%.*s\n", SPAN_FMT(rows[i].bytes));
        assert_int_equal(found, rows[i].found);
    }
}

/* --- retention ----------------------------------------------------------------------------------------------- */

struct parts {
    struct purge_tally offers, quarantine;
    size_t count;
};

static void add_part(void *context, struct span offer, const struct purge_tally *t)
{
    struct parts *p = context;
    struct purge_tally *sum = offer.len ? &p->offers : &p->quarantine;
    sum->leads += t->leads;
    sum->mails += t->mails;
    sum->quarantined += t->quarantined;
    sum->changed += t->changed;
    sum->oldest_ms = t->oldest_ms;
    sum->newest_ms = t->newest_ms;
    p->count++;
}

static struct parts purge(struct fixture *f, enum purge_action action)
{
    struct parts parts = {0};
    struct fail why = {0};
    assert_ok(purge_run(&f->front.base, BEFORE_MS, action, add_part, &parts, &why), &why);
    return parts;
}

static void test_time_given(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *text;
        int64_t age_ms; /* 0: refused */
    } rows[] = {
        {"180d", 180 * DAY},
        {"1d", DAY},
        {"12h", DAY / 2},
        {"26w", 182 * DAY},
        {"0d", 0},
        {"d", 0},
        {"", 0},
        {"180", 0},
        {"1.5d", 0},
        {"-1d", 0},
        {"1 d", 0},
        {"180D", 0},
        {"999999999999d", 0},
        {"12m", 0},
        {"2999-01-01", 0},
        {"2026-02-30", 0},
        {"today", 0},
        {"2026-5-1", 0},
    };
    struct fail why = {0};
    int64_t before_ms = 0, day_ms = 0;
    for (size_t i = 0; i < COUNT(rows); i++) {
        int64_t now_ms = store_now_ms(f->db.store);
        enum status status = purge_time_given(f->db.store, span_of(rows[i].text), &before_ms, &why);
        if (status != (rows[i].age_ms ? ST_OK : ST_INVALID))
            print_error("%s\n", rows[i].text);
        assert_int_equal(status, rows[i].age_ms ? ST_OK : ST_INVALID);
        if (rows[i].age_ms)
            assert_true(llabs(now_ms - rows[i].age_ms - before_ms) < HOUR_MS);
    }
    assert_ok(purge_time_given(f->db.store, SPAN_LIT("2024-05-01"), &before_ms, &why), &why);
    assert_true(clock_parse_iso_time(SPAN_LIT("2024-05-01T00:00:00Z"), &day_ms));
    assert_int_equal(before_ms, day_ms);
}

static uint64_t quarantine_bytes(struct fixture *f)
{
    struct fail why = {0};
    uint64_t bytes;
    assert_ok(quarantine_used(f->db.store, soon(), &bytes, &why), &why);
    return bytes;
}

static void test_purge(void **state)
{
    struct fixture *f = *state;
    struct lead_write *back = lead_from(f, "back@example.com", "", "contoso.back", OLD_MS);
    commit(f, lead_from(f, "old@example.com", "", "contoso.a", OLD_MS - DAY), true);
    park(f, "contoso.a");
    commit(f, lead_from(f, "older@example.com", "", "contoso.a", OLD_MS - 2 * DAY), false);
    commit(f, lead_from(f, "edge@example.com", "", "contoso.a", BEFORE_MS), true); /* not before it */
    commit(f, lead_from(f, "new@example.com", "", "contoso.a", START_MS), false);
    commit(f, back, true);
    park(f, "contoso.back");
    commit(f, make_write(&f->db.arena, back->delivery.lead, START_MS), false); /* the customer came back */
    keep(f, SPAN_LIT("{"), OLD_MS);
    keep(f, SPAN_LIT("{"), BEFORE_MS);
    size_t quotas = rows_between(f->db.store, &f->db.arena, TABLE_OPS, QUARANTINE_PARTITION, "~", "").count;
    uint64_t both = quarantine_bytes(f);
    f->transactions = 0;

    struct parts parts = purge(f, PURGE_COUNT);
    assert_int_equal(f->transactions, 0);
    assert_int_equal(parts.count, 2);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(parts.offers.leads, 2);
        assert_int_equal(parts.offers.mails, 1);
        assert_int_equal(parts.offers.oldest_ms, OLD_MS - 2 * DAY);
        assert_int_equal(parts.offers.newest_ms, OLD_MS - DAY);
        assert_int_equal(parts.quarantine.quarantined, 1);
        assert_int_equal(parts.offers.changed, 0);
        if (round == 0)
            parts = purge(f, PURGE_DELETE);
    }
    assert_int_equal(leads_of(f, "contoso.a"), 2);
    assert_int_equal(mails_of(f, "contoso.a"), 1);
    assert_int_equal(leads_of(f, "contoso.back"), 1);
    assert_int_equal(mails_of(f, "contoso.back"), 1); /* parked: its lead is not old */
    assert_int_equal(items(f), 1);
    assert_int_equal(quarantine_bytes(f), both / 2); /* they are alike */
    assert_int_equal(rows_between(f->db.store, &f->db.arena, TABLE_OPS, QUARANTINE_PARTITION, "~", "").count,
                     quotas);
    assert_int_equal(purge(f, PURGE_DELETE).count, 0);
}

static void come_back(struct fixture *f)
{
    f->between = NULL;
    commit(f, f->again, false);
}

/* Between being read and being deleted. */
static void test_purge_leaves_who_comes_back(void **state)
{
    struct fixture *f = *state;
    struct lead_write *back = lead_from(f, "back@example.com", "", "contoso.a", OLD_MS);
    commit(f, back, false);
    commit(f, lead_from(f, "old@example.com", "", "contoso.a", OLD_MS), false);
    f->again = make_write(&f->db.arena, back->delivery.lead, START_MS);
    f->between = come_back;
    struct parts parts = purge(f, PURGE_DELETE);
    assert_int_equal(parts.offers.leads, 1);
    assert_int_equal(parts.offers.changed, 1);
    struct page page = rows_between(f->db.store, &f->db.arena, TABLE_LEADS, "contoso.a", "0", "~");
    assert_int_equal(page.count, 1);
    assert_int_equal(row_deliveries(&page.rows[0]).count, 2);
}

/* Rows of others in the same table, as of Microsoft's own connector, are not leads of ours. */
static void test_purge_leaves_what_is_not_ours(void **state)
{
    struct fixture *f = *state;
    struct operation operation = {.kind = OPERATION_INSERT};
    struct fail why = {0};
    size_t failed;
    commit(f, lead_from(f, "old@example.com", "", "contoso.a", OLD_MS), false);
    assert_true(entity_init(&operation.entity, SPAN_LIT("contoso.a"),
                            SPAN_LIT("0f8fad5b-d9cb-469f-a165-70867728950e"), &f->db.arena));
    entity_add_time(&operation.entity, COLUMN_RECEIVED_TIME, OLD_MS);
    assert_ok(store_transact(f->db.store, TABLE_LEADS, &operation, 1, soon(), &failed, &why), &why);
    assert_int_equal(purge(f, PURGE_DELETE).offers.leads, 1);
    assert_int_equal(leads_of(f, "contoso.a"), 1);
}

/* More than fits into a transaction, and one of them fails for good. */
static void test_purge_is_cut_off_and_run_again(void **state)
{
    struct fixture *f = *state;
    struct parts parts = {0};
    struct fail why;
    for (int i = 0; i < 130; i++) {
        char email[32];
        (void)snprintf(email, sizeof email, "old%d@example.com", i);
        commit(f, lead_from(f, email, "", "contoso.a", OLD_MS), true);
    }
    f->fails_with[2] = ST_DENIED; /* when the leads are gone: their mails */
    assert_int_equal(purge_run(&f->front.base, BEFORE_MS, PURGE_DELETE, add_part, &parts, &why), ST_DENIED);
    assert_int_equal(parts.offers.leads, 130); /* what was done is told */
    assert_int_equal(leads_of(f, "contoso.a"), 0);
    assert_int_equal(mails_of(f, "contoso.a"), 130);
    parts = purge(f, PURGE_DELETE);
    assert_int_equal(parts.offers.leads, 0);
    assert_int_equal(parts.offers.mails, 130);
    assert_int_equal(mails_of(f, "contoso.a"), 0);
}

/* 503 with Retry-After is waited for; what was done without an answer is counted. */
static void test_purge_is_patient(void **state)
{
    struct fixture *f = *state;
    commit(f, lead_from(f, "a@example.com", "", "contoso.a", OLD_MS), false);
    commit(f, lead_from(f, "b@example.com", "", "contoso.b", OLD_MS), false);
    f->fails_with[0] = ST_AGAIN;
    f->retry_after_s = 2;
    int64_t begun_ms = clock_monotonic_ms();
    assert_int_equal(purge(f, PURGE_DELETE).offers.leads, 2);
    assert_true(clock_monotonic_ms() - begun_ms >= 2000);

    commit(f, lead_from(f, "c@example.com", "", "contoso.a", OLD_MS), false);
    commit(f, lead_from(f, "d@example.com", "", "contoso.a", OLD_MS), false);
    f->transactions = 0;
    f->fails_with[0] = ST_UNKNOWN;
    f->takes_effect = true;
    f->retry_after_s = 0;
    struct parts parts = purge(f, PURGE_DELETE);
    assert_int_equal(parts.offers.leads, 2);
    assert_int_equal(parts.offers.changed, 0);
    assert_int_equal(leads_of(f, "contoso.a"), 0);
}

/* --- a person ------------------------------------------------------------------------------------------------ */

static void test_person_of(void **state)
{
    static const char *const bad[] = {
        "", "ana", "@example.com", "ana@", "ana b@example.com", "a\x01@example.com"};
    struct person one, other;
    struct fail why = {0};
    (void)state;
    for (size_t i = 0; i < COUNT(bad); i++)
        assert_int_equal(person_of(span_of(bad[i]), &one, &why), ST_INVALID);
    assert_ok(person_of(SPAN_LIT(" Ana@Example.com\n"), &one, &why), &why);
    assert_ok(person_of(SPAN_LIT("ana@example.COM"), &other, &why), &why);
    assert_string_equal(one.contact, other.contact);
}

/* Leads in two offers, a parked mail, two payloads; and others beside them. */
static void fill(struct fixture *f)
{
    commit(f, lead_from(f, ADDRESS, "one", "contoso.a", START_MS), true);
    park(f, "contoso.a");
    commit(f, lead_from(f, " ana.marked@EXAMPLE.com ", "two", "contoso.a", START_MS), false);
    commit(f, lead_from(f, ADDRESS, "three", "contoso.b", OLD_MS), false);
    keep(f, SPAN_LIT("{\"Email\":\"ana.marked\\u0040example.com\""), START_MS);
    keep(f, SPAN_LIT("email=Ana.Marked%40example.com&x=%"), START_MS);
    commit(f, lead_from(f, "joana.marked@example.org", "", "contoso.a", START_MS), true);
    commit(f, lead_from(f, "other@example.org", "", "contoso.b", START_MS), false);
    keep(f, SPAN_LIT("{\"Email\":\"other@example.org\""), START_MS);
}

static void assert_tally(const struct person_tally *t, uint64_t leads, uint64_t mails, uint64_t quarantined)
{
    assert_int_equal(t->rows[PERSON_LEADS], leads);
    assert_int_equal(t->rows[PERSON_MAILS], mails);
    assert_int_equal(t->rows[PERSON_QUARANTINED], quarantined);
    assert_int_equal(t->unread, 0);
}

static void test_person_is_erased(void **state)
{
    struct fixture *f = *state;
    struct person_tally t;
    struct fail why = {0};
    fill(f);
    if (is_sqlite(f))
        assert_true(times_in_files(f->db.directory) > 0);
    assert_ok(person_count(&f->front.base, &f->ana, &t, &why), &why);
    assert_tally(&t, 3, 1, 2);
    uint64_t all_three = quarantine_bytes(f);
    assert_ok(person_erase(&f->front.base, &f->ana, &t, &why), &why);
    assert_tally(&t, 3, 1, 2);
    assert_int_equal(quarantine_bytes(f), all_three / 3);
    assert_int_equal(leads_of(f, "contoso.a"), 1);
    assert_int_equal(mails_of(f, "contoso.a"), 1);
    assert_int_equal(leads_of(f, "contoso.b"), 1);
    assert_int_equal(items(f), 1);
    if (is_sqlite(f))
        assert_int_equal(times_in_files(f->db.directory), 0);
    assert_ok(person_erase(&f->front.base, &f->ana, &t, &why), &why);
    assert_tally(&t, 0, 0, 0);
}

/* Also among so many rows that the database's pages were divided and joined. */
static void test_nothing_is_left_among_many(void **state)
{
    struct fixture *f = *state;
    struct person_tally t;
    struct fail why = {0};
    for (int i = 0; i < 150; i++) {
        char words[900], email[32];
        random_hex(words, 32);
        memset(words + 32, 'x', (size_t)(i * 5));
        words[32 + i * 5] = '\0';
        (void)snprintf(email, sizeof email, "other%d@example.org", i);
        commit(f, lead_from(f, i % 3 ? email : ADDRESS, words, "contoso.a", START_MS), i % 2);
    }
    assert_ok(person_erase(&f->front.base, &f->ana, &t, &why), &why);
    assert_tally(&t, 50, 25, 0);
    assert_int_equal(leads_of(f, "contoso.a"), 100);
    if (is_sqlite(f))
        assert_int_equal(times_in_files(f->db.directory), 0);
}

static void come_again(struct fixture *f)
{
    if (f->transactions == 4) /* the last, on what is in quarantine */
        commit(f, lead_from(f, ADDRESS, "again", "contoso.new", START_MS), false);
}

/* Also those that come in while it is erased, and in an offer that was not there. */
static void test_person_is_erased_until_none_is_left(void **state)
{
    struct fixture *f = *state;
    struct person_tally t;
    struct fail why = {0};
    fill(f);
    f->between = come_again;
    assert_ok(person_erase(&f->front.base, &f->ana, &t, &why), &why);
    assert_tally(&t, 4, 1, 2);
    f->between = NULL;
    assert_ok(person_count(&f->front.base, &f->ana, &t, &why), &why);
    assert_tally(&t, 0, 0, 0);
}

static void test_thorough_search(void **state)
{
    struct fixture *f = *state;
    struct person_tally t;
    struct fail why = {0};
    commit(f, lead_from(f, "", "call me, ana.marked\\u0040example.com", "contoso.a", START_MS), true);
    commit(f, lead_from(f, "Ana <" ADDRESS ">", "", "contoso.a", START_MS), false);
    commit(f, lead_from(f, "other@example.org", "", "contoso.a", START_MS), true);
    assert_ok(person_count(&f->front.base, &f->ana, &t, &why), &why);
    assert_tally(&t, 0, 0, 0);
    f->ana.is_thorough = true;
    assert_ok(person_count(&f->front.base, &f->ana, &t, &why), &why);
    assert_tally(&t, 2, 1, 0);
    assert_ok(person_erase(&f->front.base, &f->ana, &t, &why), &why);
    assert_tally(&t, 2, 1, 0);
    assert_int_equal(leads_of(f, "contoso.a"), 1);
    assert_int_equal(mails_of(f, "contoso.a"), 1);
}

/* --- the spool ----------------------------------------------------------------------------------------------- */

static void spool_lead(struct fixture *f, struct lead_write *write)
{
    assert_int_equal(put_leads(f->spool, &write, 1), ST_OK);
}

static void spool_item(struct fixture *f, struct span body)
{
    struct quarantined item = {
        .received_ms = START_MS, .key_name = SPAN_LIT("market"), .reason = SPAN_LIT("broken"), .body = body};
    struct fail why = {0};
    random_hex(item.id, LEAD_DELIVERY_TEXT);
    assert_ok(spool_put_quarantined(f->spool, &item, 1000, soon(), &why), &why);
}

/* In a generation that was left and in the one after it. */
static void fill_spool(struct fixture *f)
{
    struct fail why = {0};
    f->spool = open_spool(&f->place);
    spool_lead(f, lead_from(f, ADDRESS, "one", "contoso.a", START_MS));
    spool_lead(f, lead_from(f, "other@example.org", "", "contoso.a", START_MS + 1));
    spool_item(f, SPAN_LIT("{\"Email\":\"" ADDRESS "\""));
    assert_ok(spool_leave_generation(f->spool, 1, &why), &why);
    spool_lead(f, lead_from(f, ADDRESS, "two", "contoso.b", START_MS + 2));
    spool_lead(f, lead_from(f, "other2@example.org", "", "contoso.a", START_MS + 3));
}

static void test_spooled_person_is_erased(void **state)
{
    struct fixture *f = *state;
    struct person_tally t;
    struct salvage salvage;
    struct fail why = {0};
    unsigned int generation;
    fill_spool(f);
    assert_true(times_in_files(f->place.directory) > 0);
    assert_ok(person_count_spooled(f->spool, &f->ana, &t, &why), &why);
    assert_tally(&t, 2, 0, 1);
    assert_ok(person_erase_spooled(f->spool, &f->ana, &t, &why), &why);
    assert_tally(&t, 2, 0, 1);
    assert_int_equal(times_in_files(f->place.directory), 0);
    assert_ok(person_count_spooled(f->spool, &f->ana, &t, &why), &why);
    assert_tally(&t, 0, 0, 0);
    /* Nobody looks for them as for something that was destroyed, and the others are still there. */
    struct store *store = open_current(f->spool, &generation);
    assert_ok(spool_salvage(f->spool, store, generation, false, &salvage, &why), &why);
    store_close(store);
    assert_int_equal(salvage.lost, 0);
    assert_int_equal(salvage.rescued, 1);
    assert_int_equal(spooled_count(f->spool), 2);
}

/* A generation that cannot be read is counted and not passed over in silence. */
static void test_damaged_generation_is_told(void **state)
{
    struct fixture *f = *state;
    struct person_tally t;
    struct fail why = {0};
    char command[400];
    fill_spool(f);
    (void)snprintf(command, sizeof command,
                   "head -c 4096 /dev/zero | tr '\\0' 'x' >%s && rm -f %s-wal %s-shm", f->place.spool,
                   f->place.spool, f->place.spool);
    assert_int_equal(system(command), 0);
    assert_ok(person_erase_spooled(f->spool, &f->ana, &t, &why), &why);
    assert_int_equal(t.unread, 1);
    assert_int_equal(t.rows[PERSON_LEADS], 1);
}

/* --- the spool while the drain works ------------------------------------------------------------------------- */

static void *erase_all(void *context)
{
    struct fixture *f = context;
    struct fail why;
    struct store *store = NULL;
    struct person_tally spooled, stored;
    if (open_store(&f->db, &store, &why) != ST_OK ||
        person_erase_spooled(f->spool, &f->ana, &spooled, &why) != ST_OK ||
        person_erase(store, &f->ana, &stored, &why) != ST_OK)
        abort();
    f->erased = stored;
    store_close(store);
    atomic_store(&f->has_erased, true);
    return NULL;
}

/* The drain has read the leads and is about to write them: whoever erases now has to wait. */
static void erase_meanwhile(struct fixture *f)
{
    if (f->is_eraser_begun)
        return;
    f->is_eraser_begun = true;
    assert_int_equal(pthread_create(&f->eraser, NULL, erase_all, f), 0);
    for (int i = 0; i < 300 && !atomic_load(&f->has_erased); i++)
        (void)usleep(WAIT_STEP_US);
    assert_false(atomic_load(&f->has_erased));
}

static void test_erasure_is_not_undone_by_the_drain(void **state)
{
    struct fixture *f = *state;
    struct fail why = {0};
    struct drain *drain;
    struct person_tally t;
    uint64_t left;
    f->spool = open_spool(&f->place);
    spool_lead(f, lead_from(f, ADDRESS, "one", "contoso.a", START_MS));
    spool_lead(f, lead_from(f, "other@example.org", "", "contoso.a", START_MS + 1));
    const struct drain_options options = {.spool = {.path = f->place.spool, .max_bytes = f->place.max_bytes},
                                          .rules = {.repeat_window_ms = HOUR_MS}};
    assert_ok(drain_new(&options, &f->front.base, &drain, &why), &why);
    f->between = erase_meanwhile;
    assert_ok(drain_pass(drain, &left, &why), &why);
    f->between = NULL;
    assert_true(f->is_eraser_begun);
    assert_int_equal(pthread_join(f->eraser, NULL), 0);
    assert_ok(drain_pass(drain, &left, &why), &why);
    assert_int_equal(left, 0);
    drain_free(drain);
    assert_int_equal(f->erased.rows[PERSON_LEADS], 1);
    assert_ok(person_count(&f->front.base, &f->ana, &t, &why), &why);
    assert_tally(&t, 0, 0, 0);
    assert_int_equal(leads_of(f, "contoso.a"), 1);
    assert_int_equal(times_in_files(f->place.directory), 0);
}

/* Who waits comes before who has just had them; and a turn ends with its process. */
static int take_and_die(void *context)
{
    struct spool *spool = try_to_open_spool(context, NULL);
    return spool && spool_take_rows(spool, soon()) ? 0 : 1;
}

struct waiting {
    struct fixture *f;
    _Atomic bool has_had_them;
};

static void *wait_for_rows(void *context)
{
    struct waiting *w = context;
    struct spool *other = open_spool(&w->f->place);
    atomic_store(&w->has_had_them, spool_take_rows(other, soon()));
    spool_close(other);
    return NULL;
}

/* Whether somebody waits for the rows: they stand in the door, the ledger's second byte. */
static bool is_awaited(int ledger)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 1, .l_len = 1};
    assert_int_equal(fcntl(ledger, F_OFD_GETLK, &lock), 0);
    return lock.l_type != F_UNLCK;
}

static void test_turns(void **state)
{
    struct fixture *f = *state;
    struct waiting w = {.f = f};
    struct fail why = {0};
    pthread_t thread;
    int ledger;
    f->spool = open_spool(&f->place);
    assert_ok(ledger_open(f->place.spool, &ledger, &why), &why);
    assert_int_equal(end_of_process(begin_process(take_and_die, &f->place)), 0);
    assert_true(spool_take_rows(f->spool, soon()));
    struct spool *other = open_spool(&f->place);
    assert_false(spool_take_rows(other, clock_monotonic_ms() + 50));
    spool_close(other);
    assert_int_equal(pthread_create(&thread, NULL, wait_for_rows, &w), 0);
    for (int64_t end = soon(); !is_awaited(ledger) && clock_monotonic_ms() < end;)
        (void)usleep(WAIT_STEP_US);
    /* Page after page, with nothing in between: the other one has its turn all the same. */
    spool_give_rows_back(f->spool);
    bool has_taken = spool_take_rows(f->spool, soon());
    bool had_them = atomic_load(&w.has_had_them);
    spool_give_rows_back(f->spool);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(close(ledger), 0);
    assert_true(has_taken && had_them);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_mention),
        cmocka_unit_test(test_person_of),
        TEST(test_time_given),
        TEST(test_purge),
        TEST(test_purge_leaves_who_comes_back),
        TEST(test_purge_leaves_what_is_not_ours),
        TEST(test_purge_is_cut_off_and_run_again),
        TEST(test_purge_is_patient),
        TEST(test_person_is_erased),
        TEST(test_nothing_is_left_among_many),
        TEST(test_person_is_erased_until_none_is_left),
        TEST(test_thorough_search),
        TEST(test_spooled_person_is_erased),
        TEST(test_damaged_generation_is_told),
        TEST(test_erasure_is_not_undone_by_the_drain),
        TEST(test_turns),
    };
    struct fail why;
    if (http_global_init(&why) != ST_OK)
        return 1;
    return cmocka_run_group_tests_name(getenv("TABLE_CONNECTION") ? "privacy: table" : "privacy: sqlite",
                                       tests, NULL, NULL);
}
