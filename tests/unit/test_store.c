/* The stores, the rules for leads on top of them, and group commit: one suite,
 * run on SQLite and, when TABLE_CONNECTION names a Table service, on that too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "lib/net/http.h"
#include "lib/store/committer.h"
#include "lib/store/offers.h"
#include "lib/store/store_internal.h"
#include "tests/unit/stored.h"
#include "tests/unit/syncs.h"

#include "tests/unit/clocked.h"

#define START_MS 1763700000000LL

static char partition[40]; /* a fresh one for every test, so that a shared table does no harm */

static struct span recipients[] = {{"sales@example.com", 17}, {"boss@example.com", 16}};
static const struct lead_rules rules = {
    .repeat_window_ms = HOUR_MS, .recipients = recipients, .recipient_count = 2};

static int set_up(void **state)
{
    struct stored *s = calloc(1, sizeof *s);
    memcpy(partition, "contoso.", 8);
    random_hex(partition + 8, 16);
    *state = s;
    return s && stored_open(s, "UnitTest") ? 0 : -1;
}

static int tear_down(void **state)
{
    watch_syncs(NULL, 0); /* also after a failure */
    int rc = stored_close(*state);
    free(*state);
    return rc;
}

/* A lead of the person `contact` with the body `content` (one hex digit each, repeated). */
static struct lead_write *new_lead(struct stored *s, char contact, char content, int64_t received_ms)
{
    struct lead *lead = lead_of_somebody(&s->arena, partition);
    memset(lead->contact, contact, LEAD_HASH_TEXT);
    memset(lead->content, content, LEAD_HASH_TEXT);
    return make_write(&s->arena, lead, received_ms);
}

static void commit(struct stored *s, struct lead_write **leads, size_t count)
{
    leads_commit(s->store, &rules, leads, count, soon(), &s->arena);
}

static void commit_one(struct stored *s, struct lead_write *lead)
{
    commit(s, &lead, 1);
    if (lead->status != ST_OK)
        print_error("%s\n", lead->why.text);
    assert_int_equal(lead->status, ST_OK);
}

static struct page leads_between(struct stored *s, const char *from, const char *to)
{
    return rows_between(s->store, &s->arena, TABLE_LEADS, partition, from, to);
}

static size_t lead_count(struct stored *s)
{
    return leads_between(s, "0", "~").count;
}

static size_t mail_count(struct stored *s)
{
    return leads_between(s, MAIL_KEY_FIRST, MAIL_KEY_END).count;
}

static const struct entity *only_lead(struct stored *s)
{
    struct page page = leads_between(s, "0", "~");
    assert_int_equal(page.count, 1);
    return &page.rows[0];
}

static void test_new_lead(void **state)
{
    struct stored *s = *state;
    struct lead_write *lead = new_lead(s, 'a', '1', START_MS);
    commit_one(s, lead);
    assert_false(lead->is_repeat);
    assert_true(lead->has_mail);
    const struct entity *row = only_lead(s);
    struct deliveries d = row_deliveries(row);
    assert_int_equal(d.count, 1);
    assert_int_equal(d.first_ms, START_MS);
    assert_int_equal(d.last_ms, START_MS);
    assert_true(span_eq(d.first_id, span_of(lead->delivery.id)));
    assert_true(span_eq(entity_text(row, "FirstName"), SPAN_LIT("J\xC3\xB6rg \"J\" <b>")));
    assert_true(span_eq(entity_text(row, "Payload"), lead->delivery.lead->payload));
    assert_true(span_eq(entity_text(row, "KeyName"), SPAN_LIT("marketplace")));
    assert_int_equal(entity_number(row, "IsTest", -1), 0);
    assert_int_equal(mail_count(s), 2);

    struct page mails = leads_between(s, MAIL_KEY_FIRST, MAIL_KEY_END);
    struct mail_row mail;
    assert_int_equal(mail_of_row(&mails.rows[1], &mail, NULL), ST_OK);
    assert_true(span_eq(mail.recipient, recipients[1]));
    assert_true(span_eq(mail.recipient_number, SPAN_LIT("2")));
    assert_true(span_eq(mail.delivery_id, span_of(lead->delivery.id)));
    assert_true(span_eq(mail.lead_row_key, row->row_key));
    assert_int_equal(mail.state, MAIL_STATE_WAITING);
    assert_int_equal(mail.received_ms, START_MS);
    assert_false(mail.came_back);
}

/* The distance of two receipts decides about mail, whichever came first. */
static void test_repeats(void **state)
{
    static const struct {
        const char *name;
        int64_t at_ms;
        size_t mails;
        int64_t first_ms;
        int64_t last_ms;
    } steps[] = {
        {"first", START_MS, 2, START_MS, START_MS},
        {"at once", START_MS, 2, START_MS, START_MS},
        {"at the window", START_MS + HOUR_MS, 2, START_MS, START_MS + HOUR_MS},
        {"just behind the window", START_MS + 2 * HOUR_MS + 1, 4, START_MS, START_MS + 2 * HOUR_MS + 1},
        {"drained late, received early", START_MS - HOUR_MS, 6, START_MS - HOUR_MS,
         START_MS + 2 * HOUR_MS + 1},
    };
    struct stored *s = *state;
    for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
        struct lead_write *lead = new_lead(s, 'a', '1', steps[i].at_ms);
        size_t before = i ? mail_count(s) : 0;
        commit_one(s, lead);
        struct deliveries d = row_deliveries(only_lead(s));
        size_t mails = mail_count(s);
        if (d.count != (int32_t)i + 1 || mails != steps[i].mails || d.first_ms != steps[i].first_ms ||
            d.last_ms != steps[i].last_ms || lead->is_repeat != (i > 0) || lead->has_mail != (mails > before))
            fail_msg("%s: got count %d mails %zu repeat %d has_mail %d, want count %zu mails %zu",
                     steps[i].name, d.count, mails, lead->is_repeat, lead->has_mail, i + 1, steps[i].mails);
        assert_true(span_eq(d.last_id, span_of(lead->delivery.id)));
    }
}

/* The sender's name for it says that it is the same one, however late it comes: nobody came back. */
static void test_named_repeats(void **state)
{
    static const int64_t times[] = {START_MS, START_MS, START_MS + 100 * HOUR_MS, START_MS - 100 * HOUR_MS};
    struct stored *s = *state;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        struct lead_write *lead = new_lead(s, 'a', '1', times[i]);
        lead->delivery.webhook_id = SPAN_LIT("msg_1");
        commit_one(s, lead);
        assert_int_equal(lead->is_repeat, i > 0);
        assert_int_equal(lead->has_mail, i == 0);
        assert_int_equal(mail_count(s), 2);
    }
    const struct entity *row = only_lead(s);
    assert_int_equal(row_deliveries(row).count, 4);
    assert_true(span_eq(entity_text(row, "WebhookId"), SPAN_LIT("msg_1")));
}

/* Two who import the same file at the same time do not make two deliveries of one, nor mail it twice. */
static void test_imported_twice(void **state)
{
    struct stored *s = *state;
    struct lead_write *leads[3];
    for (size_t i = 0; i < 3; i++) {
        leads[i] = new_lead(s, 'a', '1', START_MS + 100 * HOUR_MS * (int64_t)i);
        leads[i]->delivery.origin = SPAN_LIT(ORIGIN_IMPORT);
    }
    commit(s, leads, 2); /* in one transaction */
    commit(s, &leads[2], 1);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(leads[i]->status, ST_OK);
        assert_int_equal(leads[i]->is_repeat, i > 0);
    }
    struct deliveries d = row_deliveries(only_lead(s));
    assert_int_equal(d.count, 1);
    assert_int_equal(d.last_ms, START_MS);
    assert_true(span_eq(d.last_id, span_of(leads[0]->delivery.id)));
    assert_int_equal(mail_count(s), 2);
}

/* Two at the same instant, in one transaction or in two. */
static void test_named_at_once(void **state)
{
    struct stored *s = *state;
    struct lead_write *leads[3];
    for (size_t i = 0; i < 3; i++) {
        leads[i] = new_lead(s, 'a', '1', START_MS + 2 * HOUR_MS * (int64_t)i);
        leads[i]->delivery.webhook_id = SPAN_LIT("msg_1");
    }
    commit(s, leads, 3);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(leads[i]->status, ST_OK);
        assert_int_equal(leads[i]->is_repeat, i > 0);
    }
    assert_int_equal(row_deliveries(only_lead(s)).count, 3);
    assert_int_equal(mail_count(s), 2);
}

/* The recipients of all mails of a lead, in order. */
static void expect_told(struct stored *s, const struct lead *lead, const char *want)
{
    struct buf got = BUF_INIT(4096);
    struct page mails = leads_between(s, MAIL_KEY_FIRST, MAIL_KEY_END);
    for (size_t i = 0; i < mails.count; i++) {
        struct mail_row mail;
        assert_int_equal(mail_of_row(&mails.rows[i], &mail, NULL), ST_OK);
        if (span_eq(mail.lead_row_key, row_key_of_lead(lead, &s->arena)))
            buf_addf(&got, "%.*s ", SPAN_FMT(mail.recipient));
    }
    buf_add_text(&got, "");
    if (strcmp(got.data ? got.data : "", want) != 0)
        fail_msg("told: %s, want: %s", got.data, want);
    buf_release(&got);
}

static struct route_book *book_of(const char *text)
{
    struct routes *routes = NULL;
    struct route_book *book = NULL;
    struct buf mistakes = BUF_INIT(4096);
    assert_int_equal(routes_parse(span_of(text), "routes", &routes, &mistakes, NULL), ST_OK);
    assert_int_equal(route_book_new(routes, &book, NULL), ST_OK);
    return book;
}

/* Each lead of a call goes its own way; what no rule matches goes to all. */
static void test_routes(void **state)
{
    static const struct {
        const char *action;
        const char *told;
    } cases[] = {
        {"INS", "sales@example.com boss@example.com "},
        {"PLT", "plt@example.com "},
        {"DNC", ""},
        {"Create", "a@example.com b@example.com c@example.com "},
    };
    struct stored *s = *state;
    struct lead_write *leads[4];
    struct lead_rules routed = rules;
    routed.routes = book_of("action=PLT -> plt@example.com\naction=DNC -> off\n"
                            "action=Create -> a@example.com, b@example.com, c@example.com\n");
    for (size_t i = 0; i < 4; i++) {
        struct lead *lead = lead_of_somebody(&s->arena, partition);
        lead->action = span_of(cases[i].action);
        leads[i] = make_write(&s->arena, lead, START_MS);
    }
    leads_commit(s->store, &routed, leads, 4, soon(), &s->arena);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(leads[i]->status, ST_OK);
        assert_int_equal(leads[i]->has_mail, cases[i].told[0] != '\0');
        expect_told(s, leads[i]->delivery.lead, cases[i].told);
    }
    route_book_free(routed.routes);
}

/* A lead that comes back goes by the routes of then; its first mails stay as they are. */
static void test_routes_of_then(void **state)
{
    struct stored *s = *state;
    struct lead_rules routed = rules;
    struct lead *lead = lead_of_somebody(&s->arena, partition);
    struct lead_write *first = make_write(&s->arena, lead, START_MS);
    struct lead_write *again = make_write(&s->arena, lead, START_MS + 3 * HOUR_MS);
    struct lead_write *last = make_write(&s->arena, lead, START_MS + 6 * HOUR_MS);
    memcpy(first->delivery.id, "00000000000000000000000000000001", LEAD_DELIVERY_TEXT);
    memcpy(again->delivery.id, "00000000000000000000000000000002", LEAD_DELIVERY_TEXT);
    routed.routes = book_of("default -> first@example.com\n");
    leads_commit(s->store, &routed, &first, 1, soon(), &s->arena);
    expect_told(s, lead, "first@example.com ");
    route_book_free(routed.routes);
    routed.routes = book_of("default -> again@example.com, more@example.com\n");
    leads_commit(s->store, &routed, &again, 1, soon(), &s->arena);
    assert_true(again->is_repeat);
    assert_true(again->has_mail);
    expect_told(s, lead, "first@example.com again@example.com more@example.com ");
    /* An attempt without an answer, made again after the routes have changed. */
    leads_commit(s->store, &routed, &first, 1, soon(), &s->arena);
    route_book_free(routed.routes);
    routed.routes = book_of("default -> off\n");
    leads_commit(s->store, &routed, &last, 1, soon(), &s->arena);
    assert_int_equal(last->status, ST_OK);
    assert_true(last->is_repeat);
    assert_false(last->has_mail);
    leads_commit(s->store, &routed, &again, 1, soon(), &s->arena);
    expect_told(s, lead, "first@example.com again@example.com more@example.com ");
    route_book_free(routed.routes);
}

/* A transaction ends where the mails of the next lead would not fit, however many each has. */
static void test_routes_fill_transactions(void **state)
{
    struct stored *s = *state;
    struct lead_write *leads[60];
    struct lead_rules routed = rules;
    routed.routes = book_of("action=many -> a@b,b@b,c@b,d@b,e@b,f@b,g@b,h@b,i@b,j@b,k@b,l@b,m@b,n@b,o@b,p@b\n"
                            "action=none -> off\n");
    size_t want = 0;
    for (size_t i = 0; i < 60; i++) {
        struct lead *lead = lead_of_somebody(&s->arena, partition);
        lead->action = i % 3 == 0 ? SPAN_LIT("many") : i % 3 == 1 ? SPAN_LIT("none") : SPAN_LIT("other");
        want += i % 3 == 0 ? LIMIT_RECIPIENTS : i % 3 == 1 ? 0 : 2;
        leads[i] = make_write(&s->arena, lead, START_MS);
    }
    leads_commit(s->store, &routed, leads, 60, soon(), &s->arena);
    for (size_t i = 0; i < 60; i++)
        assert_int_equal(leads[i]->status, ST_OK);
    assert_int_equal(lead_count(s), 60);
    assert_int_equal(mail_count(s), want);
    route_book_free(routed.routes);
}

/* What an attempt without an answer has written is recognised, and nothing is counted or mailed again. */
static void test_own_write_again(void **state)
{
    struct stored *s = *state;
    struct lead_write *lead = new_lead(s, 'a', '1', START_MS);
    commit_one(s, lead);
    lead->has_mail = false;
    commit_one(s, lead);
    assert_false(lead->is_repeat);
    assert_true(lead->has_mail); /* the mailer has not been told of it yet */
    assert_int_equal(row_deliveries(only_lead(s)).count, 1);
    assert_int_equal(mail_count(s), 2);

    struct lead_write *repeat = new_lead(s, 'a', '1', START_MS + 3 * HOUR_MS);
    commit_one(s, repeat);
    commit_one(s, repeat);
    assert_true(repeat->is_repeat);
    assert_int_equal(row_deliveries(only_lead(s)).count, 2);
    assert_int_equal(mail_count(s), 4);
}

/* What an earlier attempt wrote is not counted again when it comes in one call with deliveries that the row does not
 * know, in any order. */
static void test_own_write_among_others(void **state)
{
    struct stored *s = *state;
    for (size_t own = 0; own < 3; own++) {
        struct lead_write *leads[3];
        for (size_t i = 0; i < 3; i++)
            leads[i] = new_lead(s, (char)('a' + own), '1', START_MS + (int64_t)i);
        commit_one(s, leads[own]);
        leads[own]->delivery.may_be_written = true;
        commit(s, leads, 3);
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(leads[i]->status, ST_OK);
            assert_int_equal(leads[i]->is_repeat, i != own);
            assert_int_equal(leads[i]->has_mail, i == own);
        }
    }
    struct page page = leads_between(s, "0", "~");
    assert_int_equal(page.count, 3);
    for (size_t i = 0; i < 3; i++) {
        struct deliveries d = row_deliveries(&page.rows[i]);
        assert_int_equal(d.count, 3);
        assert_int_equal(d.first_ms, START_MS);
        assert_int_equal(d.last_ms, START_MS + 2);
    }
    assert_int_equal(mail_count(s), 6);
}

/* A repeat whose mark was replaced by another one's: its mails exist, so they are not written twice. */
static void test_own_mails_again(void **state)
{
    struct stored *s = *state;
    commit_one(s, new_lead(s, 'a', '1', START_MS));
    struct lead_write *back = new_lead(s, 'a', '1', START_MS + 9 * HOUR_MS);
    commit_one(s, back);
    assert_int_equal(mail_count(s), 4);
    commit_one(s, new_lead(s, 'a', '1', START_MS + 5 * HOUR_MS));
    assert_int_equal(mail_count(s), 6);
    back->delivery.received_ms = START_MS + 20 * HOUR_MS; /* so that the rule would send mail */
    commit_one(s, back);
    assert_int_equal(mail_count(s), 6);
}

/* Mails of one delivery that an attempt without an answer wrote are not those of the next delivery in the call. */
static void test_own_mails_before_another(void **state)
{
    struct stored *s = *state;
    struct lead_write *written[3], *leads[2];
    for (size_t i = 0; i < 3; i++) {
        written[i] = new_lead(s, 'a', '1', START_MS + (int64_t)i * 3 * HOUR_MS);
        commit_one(s, written[i]);
    }
    leads[0] = written[1];
    leads[1] = new_lead(s, 'a', '1', START_MS + 20 * HOUR_MS);
    assert_int_equal(mail_count(s), 6);
    commit(s, leads, 2);
    assert_int_equal(leads[0]->status, ST_OK);
    assert_int_equal(leads[1]->status, ST_OK);
    assert_true(leads[0]->has_mail);
    assert_true(leads[1]->has_mail);
    assert_int_equal(mail_count(s), 8);
}

static void test_equal_leads_in_one_call(void **state)
{
    struct stored *s = *state;
    struct lead_write *leads[] = {
        new_lead(s, 'a', '1', START_MS), new_lead(s, 'b', '2', START_MS), new_lead(s, 'a', '1', START_MS + 1),
        new_lead(s, 'a', '1', START_MS + 5 * HOUR_MS), new_lead(s, 'a', '1', START_MS + 9 * HOUR_MS)};
    commit(s, leads, 5);
    for (size_t i = 0; i < 5; i++)
        assert_int_equal(leads[i]->status, ST_OK);
    assert_false(leads[0]->is_repeat);
    assert_false(leads[1]->is_repeat);
    assert_true(leads[2]->is_repeat);
    assert_false(leads[2]->has_mail);
    assert_true(leads[3]->has_mail);
    assert_true(leads[4]->has_mail);
    assert_int_equal(lead_count(s), 2);
    assert_int_equal(mail_count(s), 8);
    struct page page = leads_between(s, "a", "b");
    struct deliveries d = row_deliveries(&page.rows[0]);
    assert_int_equal(d.count, 4);
    assert_true(span_eq(d.last_id, span_of(leads[4]->delivery.id)));
}

/* A hundred leads of which half are there already. */
static void test_half_repeats(void **state)
{
    static const char digits[] = "0123456789abcdef";
    struct stored *s = *state;
    struct lead_write *leads[100];
    for (size_t i = 0; i < 100; i++) {
        leads[i] = new_lead(s, digits[i / 16], digits[i % 16], START_MS);
    }
    struct lead_write *half[50];
    for (size_t i = 0; i < 50; i++) {
        half[i] = new_lead(s, digits[2 * i / 16], digits[2 * i % 16], START_MS);
    }
    commit(s, half, 50);
    commit(s, leads, 100);
    for (size_t i = 0; i < 100; i++) {
        if (leads[i]->status != ST_OK || leads[i]->is_repeat != (i % 2 == 0))
            fail_msg("lead %zu: status %d (%s) repeat %d", i, leads[i]->status, leads[i]->why.text,
                     leads[i]->is_repeat);
    }
    assert_int_equal(lead_count(s), 100);
    assert_int_equal(mail_count(s), 200);
}

/* A lead that no store would take leaves the transaction; the others stay. */
static void test_refused_member(void **state)
{
    struct stored *s = *state;
    struct lead_write *leads[5];
    for (size_t i = 0; i < 5; i++)
        leads[i] = new_lead(s, 'a', (char)('1' + i), START_MS);
    size_t len = 1024 * 1024;
    char *huge = arena_alloc(&s->arena, len);
    assert_non_null(huge);
    memset(huge, 'x', len);
    struct lead big = *leads[2]->delivery.lead;
    big.payload = (struct span){huge, len};
    leads[2]->delivery.lead = &big;
    commit(s, leads, 5);
    for (size_t i = 0; i < 5; i++) {
        enum status want = i == 2 ? ST_REFUSED : ST_OK;
        if (leads[i]->status != want)
            fail_msg("lead %zu: got %s (%s), want %s", i, status_name(leads[i]->status), leads[i]->why.text,
                     status_name(want));
    }
    assert_int_equal(lead_count(s), 4);
    assert_int_equal(mail_count(s), 8);
}

/* A lead that was erased and comes again is a new lead. */
static void test_erased_lead(void **state)
{
    struct stored *s = *state;
    commit_one(s, new_lead(s, 'a', '1', START_MS));
    struct operation erase = {.kind = OPERATION_DELETE, .entity = *only_lead(s)};
    size_t failed;
    struct fail why;
    assert_int_equal(store_transact(s->store, TABLE_LEADS, &erase, 1, soon(), &failed, &why), ST_OK);
    struct lead_write *again = new_lead(s, 'a', '1', START_MS + 1);
    commit_one(s, again);
    assert_false(again->is_repeat);
    assert_int_equal(row_deliveries(only_lead(s)).count, 1);
}

static void test_transaction_is_atomic(void **state)
{
    struct stored *s = *state;
    struct operation operations[3] = {
        {.kind = OPERATION_INSERT}, {.kind = OPERATION_INSERT}, {.kind = OPERATION_INSERT}};
    static const char *const keys[] = {"k1", "k2", "k3"};
    size_t failed = NO_INDEX;
    struct fail why;
    for (size_t i = 0; i < 3; i++) {
        assert_true(entity_init(&operations[i].entity, span_of(partition), span_of(keys[i]), &s->arena));
        entity_add_int(&operations[i].entity, "Number", (int32_t)i);
    }
    assert_int_equal(store_transact(s->store, TABLE_OPS, &operations[2], 1, soon(), &failed, &why), ST_OK);
    assert_int_equal(store_transact(s->store, TABLE_OPS, operations, 3, soon(), &failed, &why), ST_EXISTS);
    assert_int_equal(failed, 2);
    struct span wanted[] = {span_of("k1"), span_of("k3"), span_of("k9")};
    struct entity *rows[3];
    assert_int_equal(store_get_many(s->store, TABLE_OPS, span_of(partition), wanted, 3, NULL, soon(),
                                    &s->arena, rows, &why),
                     ST_OK);
    assert_null(rows[0]);
    assert_non_null(rows[1]);
    assert_null(rows[2]);
    assert_int_equal(entity_number(rows[1], "Number", -1), 2);
}

static void test_etags(void **state)
{
    struct stored *s = *state;
    struct operation operation = {.kind = OPERATION_INSERT};
    struct span key = SPAN_LIT("k");
    struct entity *row;
    size_t failed = NO_INDEX;
    struct fail why;
    assert_true(entity_init(&operation.entity, span_of(partition), key, &s->arena));
    entity_add_text(&operation.entity, "A", SPAN_LIT("1"));
    entity_add_text(&operation.entity, "B", SPAN_LIT("stays"));
    assert_int_equal(store_transact(s->store, TABLE_OPS, &operation, 1, soon(), &failed, &why), ST_OK);
    assert_int_equal(
        store_get_many(s->store, TABLE_OPS, span_of(partition), &key, 1, NULL, soon(), &s->arena, &row, &why),
        ST_OK);
    assert_in_range((unsigned long long)row->timestamp_ms, (unsigned long long)clock_wall_ms() - 60000,
                    (unsigned long long)clock_wall_ms() + 60000);

    struct operation merge = {.kind = OPERATION_MERGE};
    assert_true(entity_init(&merge.entity, span_of(partition), key, &s->arena));
    entity_add_text(&merge.entity, "A", SPAN_LIT("2"));
    merge.entity.etag = row->etag;
    assert_int_equal(store_transact(s->store, TABLE_OPS, &merge, 1, soon(), &failed, &why), ST_OK);
    assert_int_equal(store_transact(s->store, TABLE_OPS, &merge, 1, soon(), &failed, &why), ST_CHANGED);
    assert_int_equal(failed, 0);
    struct operation erase = {.kind = OPERATION_DELETE, .entity = merge.entity};
    assert_int_equal(store_transact(s->store, TABLE_OPS, &erase, 1, soon(), &failed, &why), ST_CHANGED);
    assert_int_equal(
        store_get_many(s->store, TABLE_OPS, span_of(partition), &key, 1, NULL, soon(), &s->arena, &row, &why),
        ST_OK);
    assert_true(span_eq(entity_text(row, "A"), SPAN_LIT("2")));
    assert_true(span_eq(entity_text(row, "B"), SPAN_LIT("stays")));
    erase.entity.etag = row->etag;
    assert_int_equal(store_transact(s->store, TABLE_OPS, &erase, 1, soon(), &failed, &why), ST_OK);
    merge.entity.etag = SPAN_LIT("*");
    assert_int_equal(store_transact(s->store, TABLE_OPS, &merge, 1, soon(), &failed, &why), ST_NOT_FOUND);
    assert_int_equal(store_transact(s->store, TABLE_OPS, &erase, 1, soon(), &failed, &why), ST_NOT_FOUND);
}

static void test_pages(void **state)
{
    struct stored *s = *state;
    size_t failed;
    struct fail why;
    for (int i = 0; i < 25; i++) {
        char key[8];
        (void)snprintf(key, sizeof key, "k%02d", i);
        struct operation operation = {.kind = OPERATION_INSERT};
        assert_true(entity_init(&operation.entity, span_of(partition), span_of(key), &s->arena));
        entity_add_time(&operation.entity, "When", START_MS + i * 1000);
        assert_int_equal(store_transact(s->store, TABLE_OPS, &operation, 1, soon(), &failed, &why), ST_OK);
    }
    struct query q = {.table = TABLE_OPS,
                      .partition_key = span_of(partition),
                      .from = SPAN_LIT("k03"),
                      .to = SPAN_LIT("k23"),
                      .since_column = "When",
                      .since_ms = START_MS + 5000,
                      .limit = 7};
    int next = 5, pages = 0;
    do {
        struct page page;
        assert_int_equal(store_query(s->store, &q, soon(), &s->arena, &page, &why), ST_OK);
        for (size_t i = 0; i < page.count; i++, next++)
            assert_int_equal(entity_number(&page.rows[i], "When", 0), START_MS + next * 1000);
        q.next = page.next;
        pages++;
    } while (q.next.len && pages < 20);
    assert_int_equal(next, 23);

    struct page page;
    q.until_ms = START_MS + 8000;
    q.next = span_empty();
    assert_int_equal(store_query(s->store, &q, soon(), &s->arena, &page, &why), ST_OK);
    assert_int_equal(page.count, 3); /* 5, 6 and 7: until is not included */

    /* By the time of writing, which is now. */
    q.since_column = "Timestamp";
    q.until_ms = 0;
    q.limit = 100;
    for (int ahead = 0; ahead <= 1; ahead++) {
        q.since_ms = clock_wall_ms() + (ahead ? HOUR_MS : -HOUR_MS);
        assert_int_equal(store_query(s->store, &q, soon(), &s->arena, &page, &why), ST_OK);
        assert_int_equal(page.count, ahead ? 0 : 20);
    }
}

static void post(void *settled)
{
    (void)sem_post(settled);
}

/* Waits until the job is settled. */
static void commit_job(struct committer *committer, struct job *job)
{
    sem_t settled;
    (void)sem_init(&settled, 0, 0);
    job->on_settled = post;
    job->context = &settled;
    committer_submit(committer, job);
    while (sem_wait(&settled) != 0)
        ;
    (void)sem_destroy(&settled);
}

static void test_quarantine_keeps_raw_bytes(void **state)
{
    struct stored *s = *state;
    struct committer_options options = {
        .open = open_store, .context = s, .rules = rules, .deadline_ms = 5000};
    struct committer *committer;
    struct fail why;
    static char body[200 * 1024];
    for (size_t i = 0; i < sizeof body; i++)
        body[i] = (char)(i * 7 + i / 256);
    struct quarantined item = {.received_ms = clock_wall_ms(),
                               .key_name = SPAN_LIT("k"),
                               .reason = SPAN_LIT("broken"),
                               .body = {body, sizeof body}};
    random_hex(item.id, LEAD_DELIVERY_TEXT);
    assert_int_equal(committer_new(&options, &committer, &why), ST_OK);
    struct job keep = {.kind = JOB_QUARANTINE, .item = &item}, probe = {.kind = JOB_PROBE};
    commit_job(committer, &keep);
    assert_int_equal(keep.status, ST_OK);
    commit_job(committer, &probe);
    assert_int_equal(probe.status, ST_OK);
    committer_free(committer);

    char key[64];
    (void)snprintf(key, sizeof key, "%013lld-%s", (long long)item.received_ms, item.id);
    struct span row_key = span_of(key);
    struct entity *row;
    assert_int_equal(store_get_many(s->store, TABLE_OPS, SPAN_LIT(QUARANTINE_PARTITION), &row_key, 1, NULL,
                                    soon(), &s->arena, &row, &why),
                     ST_OK);
    assert_non_null(row);
    struct buf got = BUF_INIT(sizeof body);
    assert_int_equal(entity_long_value(row, "Body", &got, &why), ST_OK);
    assert_int_equal(got.len, sizeof body);
    assert_memory_equal(got.data, body, sizeof body);
    buf_release(&got);
}

/* A probe is a write that lasts: each one is seen in the row, and none among the leads. */
static void test_probe(void **state)
{
    struct stored *s = *state;
    struct span key = SPAN_LIT("probe");
    struct span etag = {0};
    struct entity *row;
    struct fail why;
    for (int i = 0; i < 3; i++) {
        if (store_probe(s->store, soon(), &why) != ST_OK)
            fail_msg("probe %d: %s", i, why.text);
        assert_int_equal(
            store_get_many(s->store, TABLE_OPS, key, &key, 1, NULL, soon(), &s->arena, &row, &why), ST_OK);
        assert_non_null(row);
        assert_false(span_eq(row->etag, etag));
        etag = row->etag;
    }
    assert_int_equal(store_get_many(s->store, TABLE_LEADS, key, &key, 1, NULL, soon(), &s->arena, &row, &why),
                     ST_OK);
    assert_null(row);
}

/* A disk that takes no more bytes (a limit on the size of files acts the same way on the log). */
static void test_probe_on_full_disk(void **state)
{
    struct stored *s = *state;
    struct rlimit usual, full;
    struct fail why;
    struct sigaction ignore = {.sa_handler = SIG_IGN}, normal;
    assert_int_equal(sigaction(SIGXFSZ, &ignore, &normal), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &usual), 0);
    full = usual;
    full.rlim_cur = 1;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    enum status on_full = store_probe(s->store, soon(), &why);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &usual), 0);
    enum status afterwards = store_probe(s->store, soon(), &why);
    assert_int_equal(sigaction(SIGXFSZ, &normal, NULL), 0);
    assert_int_equal(on_full, ST_IO);
    assert_int_equal(afterwards, ST_OK);
}

/* What is acknowledged was synced, and what cannot be synced is not acknowledged. */
static void test_synced(void **state)
{
    struct stored *s = *state;
    struct store *second;
    struct fail why;
    struct lead_write *lead = new_lead(s, '1', '2', START_MS);
    watch_syncs("leads.db-wal", 0);
    commit_one(s, new_lead(s, '1', '1', START_MS));
    assert_true(sync_count > 0);
    watch_syncs("leads.db-wal", EIO);
    commit(s, &lead, 1);
    enum status status = lead->status;
    watch_syncs(s->directory, EIO);
    enum status opened = open_store(s, &second, &why);
    watch_syncs(NULL, 0);
    assert_int_equal(status, ST_IO);
    assert_int_equal(opened, ST_IO);
    assert_int_equal(lead_count(s), 1);
}

struct crowd {
    struct stored *stored;
    struct committer *committer;
    struct lead_write *leads[200];
    _Atomic size_t next;
};

static void *store_some(void *context)
{
    struct crowd *crowd = context;
    for (;;) {
        size_t i = crowd->next++;
        if (i >= 200)
            return NULL;
        struct job job = {.kind = JOB_LEAD, .lead = crowd->leads[i]};
        commit_job(crowd->committer, &job);
    }
}

static void *transactions; /* counts through on_commit */

static void count_commit(void *context, size_t leads, int64_t took_us, enum status status)
{
    (void)context;
    (void)leads;
    (void)took_us;
    if (status == ST_OK)
        __atomic_add_fetch((size_t *)transactions, 1, __ATOMIC_RELAXED);
}

/* Many threads, a few connections: every lead is there once, in fewer transactions than leads. */
static void test_group_commit(void **state)
{
    static struct crowd crowd;
    struct stored *s = *state;
    size_t count = 0;
    transactions = &count;
    struct committer_options options = {
        .open = open_store, .context = s, .rules = rules, .deadline_ms = 10000, .on_commit = count_commit};
    struct fail why;
    crowd.stored = s;
    crowd.next = 0;
    for (size_t i = 0; i < 200; i++) {
        crowd.leads[i] = new_lead(s, 'c', 'd', START_MS);
        struct lead *lead = arena_alloc(&s->arena, sizeof *lead);
        assert_non_null(lead);
        *lead = *crowd.leads[i]->delivery.lead;
        (void)snprintf(lead->content, sizeof lead->content, "%032zx", i / 2); /* each twice */
        crowd.leads[i]->delivery.lead = lead;
    }
    assert_int_equal(committer_new(&options, &crowd.committer, &why), ST_OK);
    pthread_t threads[16];
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, store_some, &crowd), 0);
    for (size_t i = 0; i < 16; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    committer_free(crowd.committer);
    size_t stored = 0, repeats = 0;
    for (size_t i = 0; i < 200; i++) {
        if (crowd.leads[i]->status != ST_OK)
            fail_msg("lead %zu: %s", i, crowd.leads[i]->why.text);
        *(crowd.leads[i]->is_repeat ? &repeats : &stored) += 1;
    }
    assert_int_equal(stored, 100);
    assert_int_equal(repeats, 100);
    assert_int_equal(lead_count(s), 100);
    assert_int_equal(mail_count(s), 200);
    assert_true(count < 200);

    struct span key = span_of(partition);
    struct entity *row;
    assert_int_equal(store_get_many(s->store, TABLE_OPS, SPAN_LIT(OFFERS_PARTITION), &key, 1, NULL, soon(),
                                    &s->arena, &row, &why),
                     ST_OK);
    assert_non_null(row);
    struct offer offer = offer_of_row(row);
    assert_true(span_eq(offer.title, SPAN_LIT("Example Offer")));
    assert_int_equal(offer.first_ms, START_MS);
}

struct stuck {
    struct stored *stored;
    sem_t begun, go;
    _Atomic unsigned int opened;
};

/* A commit that takes as long as the test wants. */
static void hold_commit(void *context, size_t leads, int64_t took_us, enum status status)
{
    struct stuck *stuck = context;
    (void)leads;
    (void)took_us;
    (void)status;
    (void)sem_post(&stuck->begun);
    while (sem_wait(&stuck->go) != 0)
        ;
}

static enum status open_stuck(void *context, struct store **store, struct fail *why)
{
    struct stuck *stuck = context;
    stuck->opened++;
    return open_store(stuck->stored, store, why);
}

static void wait_on(sem_t *semaphore)
{
    while (sem_wait(semaphore) != 0)
        ;
}

/* Connections are made when there is work and all others are busy, and no more than are wanted. */
static void test_connections_as_needed(void **state)
{
    struct stored *s = *state;
    enum { CONNECTIONS = 3, LEADS = 5 };
    struct stuck stuck = {.stored = s};
    struct committer_options options = {.open = open_stuck,
                                        .context = &stuck,
                                        .rules = rules,
                                        .connections = CONNECTIONS,
                                        .deadline_ms = 60000,
                                        .on_commit = hold_commit};
    struct committer *committer;
    struct fail why;
    sem_t settled;
    struct job jobs[LEADS];
    (void)sem_init(&settled, 0, 0);
    (void)sem_init(&stuck.begun, 0, 0);
    (void)sem_init(&stuck.go, 0, 0);
    assert_int_equal(committer_new(&options, &committer, &why), ST_OK);
    for (size_t i = 0; i < LEADS; i++) {
        jobs[i] = (struct job){.kind = JOB_LEAD,
                               .lead = new_lead(s, (char)('1' + i), '1', START_MS),
                               .on_settled = post,
                               .context = &settled};
        committer_submit(committer, &jobs[i]);
        while (i < CONNECTIONS && sem_trywait(&stuck.begun) != 0) {
            if (stuck.opened <= i) /* a new one that is slow would be helped by one more */
                committer_expire(committer);
            (void)usleep(1000);
        }
        assert_int_equal(stuck.opened, i < CONNECTIONS ? i + 1 : CONNECTIONS);
    }
    for (size_t i = 0; i < LEADS; i++) /* the last two may share a transaction */
        (void)sem_post(&stuck.go);
    for (size_t i = 0; i < LEADS; i++)
        wait_on(&settled);
    committer_free(committer);
    assert_int_equal(stuck.opened, CONNECTIONS);
    assert_int_equal(lead_count(s), LEADS);
}

/* What nobody takes in time is given back by committer_expire, not before, and untried. */
static void test_expiry(void **state)
{
    struct stored *s = *state;
    enum { DEADLINE_MS = 300 };
    struct stuck stuck = {.stored = s};
    struct committer_options options = {.open = open_stuck,
                                        .context = &stuck,
                                        .rules = rules,
                                        .connections = 1,
                                        .deadline_ms = DEADLINE_MS,
                                        .on_commit = hold_commit};
    struct committer *committer;
    struct fail why;
    sem_t settled[3];
    struct job jobs[3];
    (void)sem_init(&stuck.begun, 0, 0);
    (void)sem_init(&stuck.go, 0, 0);
    assert_int_equal(committer_new(&options, &committer, &why), ST_OK);
    int64_t begun_ms = clock_monotonic_ms();
    for (size_t i = 0; i < 3; i++) {
        (void)sem_init(&settled[i], 0, 0);
        jobs[i] = (struct job){.kind = JOB_LEAD,
                               .lead = new_lead(s, (char)('1' + i), '1', START_MS),
                               .on_settled = post,
                               .context = &settled[i]};
        committer_submit(committer, &jobs[i]);
        if (i == 0)
            wait_on(&stuck.begun);
    }
    committer_expire(committer);
    int too_early = sem_trywait(&settled[1]);
    while (sem_trywait(&settled[2]) != 0) {
        committer_expire(committer);
        (void)usleep(1000);
    }
    int64_t took_ms = clock_monotonic_ms() - begun_ms;
    int first = sem_trywait(&settled[1]), taken = sem_trywait(&settled[0]);
    (void)sem_post(&stuck.go);
    committer_free(committer);
    assert_int_equal(too_early, -1);
    assert_int_equal(taken, -1);
    assert_int_equal(first, 0);
    assert_in_range(took_ms, DEADLINE_MS, 100 * DEADLINE_MS);
    assert_int_equal(jobs[0].lead->status, ST_OK);
    assert_int_equal(jobs[1].lead->status, ST_AGAIN);
    assert_int_equal(jobs[2].lead->status, ST_AGAIN);
    assert_int_equal(lead_count(s), 1);
}

enum { SERVICE_CLOCK_MS = 1000 }; /* the service tells its time in seconds */

static struct offer directory_entry(struct stored *s)
{
    struct span key = span_of(partition);
    struct entity *row;
    assert_int_equal(store_get_many(s->store, TABLE_OPS, SPAN_LIT(OFFERS_PARTITION), &key, 1, NULL, soon(),
                                    &s->arena, &row, NULL),
                     ST_OK);
    return row ? offer_of_row(row) : (struct offer){0};
}

static void ensure(struct offers *offers, struct stored *s, const struct delivery *delivery)
{
    struct fail why;
    if (offers_ensure(offers, s->store, NULL, delivery, soon(), &why) != ST_OK)
        fail_msg("%s", why.text);
}

/* Leads count by their receipt; beside that there is when something was written, so that the mailer looks for the
 * mail of a lead that has lain in a spool for a week. */
static void test_offers_directory(void **state)
{
    struct stored *s = *state;
    struct offers *offers;
    struct fail why;
    const int64_t week_ago_ms = clock_wall_ms() - 7 * 24 * HOUR_MS;
    const int64_t begun_ms = store_now_ms(s->store) - SERVICE_CLOCK_MS;
    assert_int_equal(offers_new(&offers, &why), ST_OK);
    for (int i = 0; i < 3; i++)
        ensure(offers, s, &new_lead(s, 'a', '1', week_ago_ms + i * HOUR_MS)->delivery);
    assert_int_equal(offers_flush(offers, s->store, soon(), &why), ST_OK);
    offers_free(offers);
    assert_int_equal(directory_entry(s).first_ms, week_ago_ms);
    assert_int_equal(directory_entry(s).last_ms, week_ago_ms + 2 * HOUR_MS);
    assert_true(directory_entry(s).active_ms >= begun_ms);
    assert_int_equal(offers_new(&offers, &why), ST_OK); /* another process */
    ensure(offers, s, &new_lead(s, 'a', '1', week_ago_ms - HOUR_MS)->delivery);
    assert_int_equal(offers_flush(offers, s->store, soon(), &why), ST_OK);
    offers_free(offers);
    assert_int_equal(directory_entry(s).first_ms, week_ago_ms - HOUR_MS);
    assert_int_equal(directory_entry(s).last_ms, week_ago_ms + 2 * HOUR_MS);
}

/* Neither a test nor what was imported is a lead that came; mailers look for both.  Also not by a flush, and not when
 * a customer's lead follows in the same process. */
static void test_offers_directory_counts(void **state)
{
    struct stored *s = *state;
    struct offers *offers;
    struct fail why;
    const int64_t now_ms = store_now_ms(s->store), begun_ms = now_ms - SERVICE_CLOCK_MS;
    struct lead_write *test = new_lead(s, 'a', '1', now_ms), *imported = new_lead(s, 'a', '2', now_ms);
    struct lead test_lead = *test->delivery.lead;
    test_lead.is_test = true;
    test->delivery.lead = &test_lead;
    imported->delivery.origin = SPAN_LIT(ORIGIN_IMPORT);
    const struct delivery *const no_leads[] = {&test->delivery, &imported->delivery};
    assert_int_equal(offers_new(&offers, &why), ST_OK);
    for (size_t i = 0; i < 4; i++) {
        ensure(offers, s, no_leads[i % 2]);
        assert_int_equal(offers_flush(offers, s->store, soon(), &why), ST_OK);
    }
    assert_int_equal(directory_entry(s).first_ms, 0);
    assert_int_equal(directory_entry(s).last_ms, 0);
    assert_true(directory_entry(s).active_ms >= begun_ms);
    ensure(offers, s, &new_lead(s, 'a', '3', now_ms - HOUR_MS)->delivery);
    ensure(offers, s, no_leads[0]);
    assert_int_equal(offers_flush(offers, s->store, soon(), &why), ST_OK);
    assert_int_equal(directory_entry(s).last_ms, now_ms - HOUR_MS);
    offers_free(offers);
}

/* A host whose clock is ahead: nobody would see silence for as long. */
static void test_offers_directory_from_the_future(void **state)
{
    struct stored *s = *state;
    struct offers *offers;
    struct fail why;
    assert_int_equal(offers_new(&offers, &why), ST_OK);
    ensure(offers, s, &new_lead(s, 'a', '1', clock_wall_ms() + 90 * CLOCK_DAY_MS)->delivery);
    offers_free(offers);
    assert_in_range(directory_entry(s).last_ms, 1, store_now_ms(s->store) + SERVICE_CLOCK_MS);
}

struct faster {
    struct stored *stored;
    int64_t last_ms;
};

static void include_later(void *context)
{
    const struct faster *other = context;
    const struct offer offer = {.partition = span_of(partition), .last_ms = other->last_ms};
    struct fail why;
    if (offers_include(other->stored->store, &offer, &why) != ST_OK)
        fail_msg("%s", why.text);
}

/* Between our look and our write another process writes a later time, of an offer that is new, and of one that is
 * there: it stays. */
static void test_offers_directory_at_once(void **state)
{
    struct stored *s = *state;
    struct clocked ours = clocked_of(s->store);
    struct fail why;
    for (int64_t round = 0; round < 2; round++) {
        struct faster other = {s, START_MS + (2 * round + 1) * HOUR_MS};
        const struct offer offer = {.partition = span_of(partition),
                                    .last_ms = START_MS + 2 * round * HOUR_MS};
        ours.hook_at = ours.count + 1;
        ours.hook = include_later;
        ours.context = &other;
        if (offers_include(&ours.base, &offer, &why) != ST_OK)
            fail_msg("%s", why.text);
        assert_null(ours.hook);
        assert_int_equal(directory_entry(s).last_ms, other.last_ms);
    }
}

/* Somebody has deleted the directory: whoever still sees leads of the offer writes it again. */
static void test_offers_directory_removed(void **state)
{
    struct stored *s = *state;
    struct offers *offers;
    struct fail why;
    struct operation operation = {.kind = OPERATION_DELETE};
    size_t failed;
    struct lead_write *lead = new_lead(s, 'a', '1', clock_wall_ms());
    assert_int_equal(offers_new(&offers, &why), ST_OK);
    assert_int_equal(offers_ensure(offers, s->store, NULL, &lead->delivery, soon(), &why), ST_OK);
    assert_true(entity_init(&operation.entity, SPAN_LIT(OFFERS_PARTITION), span_of(partition), &s->arena));
    operation.entity.etag = SPAN_LIT("*");
    assert_int_equal(store_transact(s->store, TABLE_OPS, &operation, 1, soon(), &failed, &why), ST_OK);
    int64_t before_ms = store_now_ms(s->store);
    while (store_now_ms(s->store) <= before_ms + SERVICE_CLOCK_MS) /* a later time is what is flushed */
        (void)usleep(1000);
    assert_int_equal(offers_ensure(offers, s->store, NULL, &lead->delivery, soon(), &why), ST_OK);
    assert_int_equal(directory_entry(s).active_ms, 0);
    assert_int_equal(offers_flush(offers, s->store, soon(), &why), ST_OK);
    assert_true(directory_entry(s).active_ms > 0);
    assert_true(directory_entry(s).last_ms > 0);
    offers_free(offers);
}

/* Opening a second connection must not cost the first one its locks: without them
 * another program's end removes the log, and what is written then is lost. */
static void test_locks_survive_a_second_connection(void **state)
{
    struct stored *s = *state;
    struct store *second;
    struct fail why;
    assert_int_equal(open_store(s, &second, &why), ST_OK);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) { /* locks are seen by other processes only */
        struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        int fd = open(s->path, O_RDWR | O_CLOEXEC);
        _exit(fd >= 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type != F_UNLCK ? 0 : 1);
    }
    int status = -1;
    assert_int_equal(waitpid(child, &status, 0), child);
    store_close(second);
    assert_int_equal(status, 0);
}

/* A store that takes everything and keeps nothing. */
static size_t rows_taken;

static enum status take_rows(struct store *store, enum table_id table, const struct operation *operations,
                             size_t count, int64_t deadline_ms, size_t *failed, struct fail *why)
{
    (void)store, (void)table, (void)operations, (void)deadline_ms, (void)failed, (void)why;
    rows_taken += count;
    return ST_OK;
}

static enum status have_none(struct store *store, enum table_id table, struct span partition_key,
                             const struct span *row_keys, size_t count, const char *select,
                             int64_t deadline_ms, struct arena *arena, struct entity **rows, struct fail *why)
{
    (void)store, (void)table, (void)partition_key, (void)row_keys, (void)select, (void)deadline_ms;
    (void)arena, (void)why;
    memset(rows, 0, count * sizeof(struct entity *));
    return ST_OK;
}

static int64_t fixed_now_ms(const struct store *store)
{
    (void)store;
    return 20000 * CLOCK_DAY_MS;
}

/* Whoever makes up offers makes a process remember so many at most; each is written once as long as it is remembered. */
static void test_offers_remembered(void **state)
{
    static const struct store_functions functions = {
        .transact = take_rows, .get_many = have_none, .now_ms = fixed_now_ms};
    struct store store = {.functions = &functions};
    struct offers *offers;
    struct fail why;
    struct lead lead = {0};
    const struct delivery delivery = {.lead = &lead, .received_ms = 20000 * CLOCK_DAY_MS};
    (void)state;
    assert_int_equal(offers_new(&offers, &why), ST_OK);
    for (size_t known = LIMIT_OFFERS_KNOWN - 1; known <= LIMIT_OFFERS_KNOWN + 1; known++) {
        offers_free(offers);
        assert_int_equal(offers_new(&offers, &why), ST_OK);
        for (size_t round = 0; round < 2; round++) {
            rows_taken = 0;
            for (size_t i = 0; i < (round ? 1 : known); i++) {
                (void)snprintf(lead.partition, sizeof lead.partition, "offer.%zu", i);
                assert_int_equal(offers_ensure(offers, &store, NULL, &delivery, soon(), &why), ST_OK);
            }
            bool is_forgotten = known > LIMIT_OFFERS_KNOWN;
            assert_int_equal(rows_taken, round == 0 ? known : is_forgotten);
        }
    }
    offers_free(offers);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
#define ON_BOTH                                                                                              \
    TEST(test_new_lead), TEST(test_repeats), TEST(test_routes), TEST(test_routes_of_then),                   \
        TEST(test_routes_fill_transactions), TEST(test_named_repeats), TEST(test_named_at_once),             \
        TEST(test_imported_twice), TEST(test_own_write_again), TEST(test_own_write_among_others),            \
        TEST(test_own_mails_again), TEST(test_own_mails_before_another), TEST(test_equal_leads_in_one_call), \
        TEST(test_half_repeats), TEST(test_refused_member), TEST(test_erased_lead),                          \
        TEST(test_transaction_is_atomic), TEST(test_etags), TEST(test_pages),                                \
        TEST(test_quarantine_keeps_raw_bytes), TEST(test_probe), TEST(test_group_commit),                    \
        TEST(test_connections_as_needed), TEST(test_expiry), TEST(test_offers_directory),                    \
        TEST(test_offers_directory_counts), TEST(test_offers_directory_from_the_future),                     \
        TEST(test_offers_directory_at_once), TEST(test_offers_directory_removed)

int main(void)
{
    static const struct CMUnitTest on_sqlite[] = {
        ON_BOTH,
        TEST(test_locks_survive_a_second_connection),
        TEST(test_probe_on_full_disk),
        cmocka_unit_test(test_offers_remembered),
        TEST(test_synced),
    };
    static const struct CMUnitTest on_table[] = {ON_BOTH};
    struct fail why;
    if (http_global_init(&why) != ST_OK)
        return 1;
    if (getenv("TABLE_CONNECTION"))
        return cmocka_run_group_tests_name("store: table", on_table, NULL, NULL);
    return cmocka_run_group_tests_name("store: sqlite", on_sqlite, NULL, NULL);
}
