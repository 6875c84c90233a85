/* The life of a mail row, on SQLite and a Maildir: what is sent, what is not, and what is left behind. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/stat.h>

#include "lib/base/file.h"
#include "lib/relay/relay.h"
#include "lib/relay/relay_socket.h"
#include "lib/relay/retry.h"
#include "lib/store/offers.h"
#include "tests/unit/stored.h"

#define US   "0123456789abcdef0123456789abcdef"
#define THEM "fedcba9876543210fedcba9876543210"

struct fixture {
    struct stored db;
    char maildir[96];
    char url[112];
    char socket[96];
    struct mailer *mailer;
    struct lead lead;
};

static struct span recipients[] = {{"sales@example.com", 17}, {"boss@example.com", 16}};

static struct mailer_options options_of(struct fixture *f)
{
    return (struct mailer_options){
        .transport = {.url = span_of(f->url)},
        .from = {.name = SPAN_LIT("Leads"), .address = SPAN_LIT("leads@example.com")},
        .per_minute = 6000,
        .owner = SPAN_LIT(US),
    };
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct fail why;
    if (!f)
        return -1;
    *state = f;
    if (!stored_open(&f->db, NULL))
        return -1;
    (void)snprintf(f->maildir, sizeof f->maildir, "%s/Maildir", f->db.directory);
    (void)snprintf(f->url, sizeof f->url, "maildir:%s", f->maildir);
    (void)snprintf(f->socket, sizeof f->socket, "%s/relay", f->db.directory);
    struct mailer_options options = options_of(f);
    if (mailer_new(&options, f->db.store, &f->mailer, &why) != ST_OK) {
        print_error("%s\n", why.text);
        return -1;
    }
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    mailer_free(f->mailer);
    int rc = stored_close(&f->db);
    free(f);
    return rc;
}

/* Stores a lead with mails to so many recipients; the digit makes it another lead. */
static void store_lead(struct fixture *f, char digit, size_t recipient_count)
{
    struct lead_rules rules = {
        .repeat_window_ms = 3600000, .recipients = recipients, .recipient_count = recipient_count};
    struct lead *lead = &f->lead;
    *lead = (struct lead){.customer = {.first_name = SPAN_LIT("Ana"), .email = SPAN_LIT("ana@example.org")},
                          .action = SPAN_LIT("INS"),
                          .description = SPAN_LIT("hello"),
                          .partition = "contoso.app"};
    memset(lead->contact, 'a', LEAD_HASH_TEXT);
    memset(lead->content, digit, LEAD_HASH_TEXT);
    struct lead_write write = {
        .delivery = {.lead = lead, .received_ms = clock_wall_ms(), .key_name = SPAN_LIT("k")}};
    struct lead_write *writes[] = {&write};
    memset(write.delivery.id, digit, LEAD_DELIVERY_TEXT);
    leads_commit(f->db.store, &rules, writes, 1, soon(), &f->db.arena);
    assert_int_equal(write.status, ST_OK);
    struct offers *offers;
    struct fail why;
    assert_int_equal(offers_new(&offers, &why), ST_OK);
    assert_int_equal(offers_ensure(offers, f->db.store, NULL, &write.delivery, soon(), &why), ST_OK);
    offers_free(offers);
}

static void pass(struct fixture *f)
{
    struct fail why = {0};
    if (mailer_pass(f->mailer, SPAN_LIT("contoso.app"), &why) != ST_OK)
        fail_msg("%s", why.text);
}

static size_t delivered(const struct fixture *f)
{
    return mails_in_maildir(f->maildir);
}

static struct page rows(struct fixture *f, const char *from, const char *to)
{
    return rows_between(f->db.store, &f->db.arena, TABLE_LEADS, "contoso.app", from, to);
}

static struct page mails(struct fixture *f)
{
    return rows(f, MAIL_KEY_FIRST, MAIL_KEY_END);
}

static bool is_notified(struct fixture *f)
{
    struct page page = rows(f, "0", "~");
    return page.count == 1 && entity_number(&page.rows[0], COLUMN_NOTIFIED_TIME, 0) != 0;
}

/* Sets the first mail's state by hand, as another relay would have left it. */
static void leave_as(struct fixture *f, enum mail_state state, const char *owner, int32_t tries,
                     int32_t ambiguous)
{
    struct page page = mails(f);
    struct mail_row mail;
    struct operation operation = {.kind = OPERATION_MERGE};
    size_t failed;
    struct fail why;
    assert_true(page.count > 0);
    assert_int_equal(mail_of_row(&page.rows[0], &mail, &why), ST_OK);
    mail.state = state;
    mail.owner = span_of(owner);
    mail.tries = tries;
    mail.ambiguous = ambiguous;
    assert_true(row_of_mail_state(&operation.entity, &page.rows[0], &mail, (struct span){0}, &f->db.arena));
    operation.entity.etag = SPAN_LIT("*");
    assert_int_equal(store_transact(f->db.store, TABLE_LEADS, &operation, 1, soon(), &failed, &why), ST_OK);
}

static void test_sent_once_and_marked(void **state)
{
    struct fixture *f = *state;
    store_lead(f, '1', 2);
    assert_false(is_notified(f));
    pass(f);
    pass(f);
    assert_int_equal(delivered(f), 2);
    assert_int_equal(mails(f).count, 0);
    assert_true(is_notified(f));
    assert_true(mailer_due_in_ms(f->mailer) == INT64_MAX);
}

/* What a relay leaves behind decides whether its successor sends, waits or asks for help. */
static void test_states_found(void **state)
{
    static const struct {
        const char *name;
        enum mail_state state;
        const char *owner;
        int32_t ambiguous;
        size_t delivered;
        enum mail_state after;
        bool gone;
    } cases[] = {
        {"claimed by our dead predecessor", MAIL_STATE_CLAIMED, US, 0, 1, MAIL_STATE_WAITING, true},
        {"claimed by another host just now", MAIL_STATE_CLAIMED, THEM, 0, 0, MAIL_STATE_CLAIMED, false},
        {"being sent by another host", MAIL_STATE_SENDING, THEM, 0, 0, MAIL_STATE_SENDING, false},
        {"sent or not by our dead predecessor", MAIL_STATE_SENDING, US, 0, 0, MAIL_STATE_WAITING, false},
        {"ambiguous for the third time", MAIL_STATE_SENDING, US, RETRY_AMBIGUOUS_MAX, 0, MAIL_STATE_PARKED,
         false},
        {"parked", MAIL_STATE_PARKED, US, 0, 0, MAIL_STATE_PARKED, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        void *inner;
        assert_int_equal(set_up(&inner), 0);
        struct fixture *f = inner;
        store_lead(f, '1', 1);
        leave_as(f, cases[i].state, cases[i].owner, 0, cases[i].ambiguous);
        pass(f);
        struct page page = mails(f);
        struct mail_row mail = {0};
        struct fail why;
        if (page.count)
            assert_int_equal(mail_of_row(&page.rows[0], &mail, &why), ST_OK);
        size_t got = delivered(f);
        if (got != cases[i].delivered || (page.count == 0) != cases[i].gone ||
            (page.count && mail.state != cases[i].after))
            fail_msg("%s: delivered %zu, rows %zu, state %d; want %zu, %d, %d", cases[i].name, got,
                     page.count, (int)mail.state, cases[i].delivered, cases[i].gone ? 0 : 1,
                     (int)cases[i].after);
        assert_int_equal(tear_down(&inner), 0);
    }
    (void)state;
}

/* An ambiguous mail waits half an hour before it is repeated. */
static void test_ambiguous_waits(void **state)
{
    struct fixture *f = *state;
    store_lead(f, '1', 1);
    leave_as(f, MAIL_STATE_SENDING, US, 0, 0);
    pass(f);
    struct mail_row mail;
    assert_int_equal(mail_of_row(&mails(f).rows[0], &mail, NULL), ST_OK);
    assert_int_equal(mail.ambiguous, 1);
    assert_in_range((unsigned long long)(mail.next_ms - clock_wall_ms()), 29 * 60 * 1000, 30 * 60 * 1000);
    pass(f);
    assert_int_equal(delivered(f), 0);
    int64_t due_ms = mailer_due_in_ms(f->mailer);
    assert_true(due_ms > 29 * 60 * 1000 && due_ms <= 30 * 60 * 1000);
}

/* The bytes of a repeat are those of the first attempt, although the lead has changed since. */
static void test_same_bytes_again(void **state)
{
    struct fixture *f = *state;
    store_lead(f, '1', 1);
    assert_int_equal(chmod(f->db.directory, 0700), 0);
    /* A file where the Maildir should be: the attempt fails after the message was stored. */
    FILE *file = fopen(f->maildir, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    pass(f);
    struct page page = mails(f);
    assert_int_equal(page.count, 1);
    struct buf first = BUF_INIT(LIMIT_MAIL_BYTES), second = BUF_INIT(LIMIT_MAIL_BYTES);
    assert_int_equal(entity_long_value(&page.rows[0], "Message", &first, NULL), ST_OK);
    assert_true(first.len > 0);
    struct mail_row mail;
    assert_int_equal(mail_of_row(&page.rows[0], &mail, NULL), ST_OK);
    assert_int_equal(mail.state, MAIL_STATE_WAITING);
    assert_int_equal(mail.tries, 1);
    assert_int_equal(unlink(f->maildir), 0);

    store_lead(f, '2', 0); /* now the person has an earlier lead, which a new message would tell */
    leave_as(f, MAIL_STATE_CLAIMED, US, 1, 0);
    struct operation due = {.kind = OPERATION_MERGE};
    size_t failed;
    assert_true(entity_init(&due.entity, SPAN_LIT("contoso.app"), page.rows[0].row_key, &f->db.arena));
    entity_add_time(&due.entity, "NextTime", 0);
    due.entity.etag = SPAN_LIT("*");
    assert_int_equal(store_transact(f->db.store, TABLE_LEADS, &due, 1, soon(), &failed, NULL), ST_OK);
    pass(f);
    assert_int_equal(delivered(f), 1);
    char command[256];
    (void)snprintf(command, sizeof command, "cat %s/new/* > %s/got", f->maildir, f->db.directory);
    assert_int_equal(system(command), 0);
    (void)snprintf(command, sizeof command, "%s/got", f->db.directory);
    assert_int_equal(file_read(command, FILE_PUBLIC, &second, NULL), ST_OK);
    struct buf local = BUF_INIT(LIMIT_MAIL_BYTES);
    for (size_t i = 0; i < first.len; i++) {
        if (first.data[i] != '\r')
            buf_add_char(&local, first.data[i]);
    }
    assert_string_equal(local.data, second.data);
    buf_release(&local);
    buf_release(&first);
    buf_release(&second);
}

static void test_erased_lead_is_not_mailed(void **state)
{
    struct fixture *f = *state;
    store_lead(f, '1', 2);
    struct operation erase = {.kind = OPERATION_DELETE, .entity = rows(f, "0", "~").rows[0]};
    size_t failed;
    assert_int_equal(store_transact(f->db.store, TABLE_LEADS, &erase, 1, soon(), &failed, NULL), ST_OK);
    pass(f);
    assert_int_equal(delivered(f), 0);
    assert_int_equal(mails(f).count, 0);
}

/* A row that nobody understands does not stop the others. */
static void test_strange_row(void **state)
{
    struct fixture *f = *state;
    struct operation strange = {.kind = OPERATION_INSERT};
    size_t failed;
    assert_true(entity_init(&strange.entity, SPAN_LIT("contoso.app"), SPAN_LIT("~mail-0"), &f->db.arena));
    assert_int_equal(store_transact(f->db.store, TABLE_LEADS, &strange, 1, soon(), &failed, NULL), ST_OK);
    store_lead(f, '1', 1);
    pass(f);
    assert_int_equal(delivered(f), 1);
    assert_int_equal(mails(f).count, 1);
}

static struct mail_row seen_at_outcome; /* copied numbers only; its spans die with the page */

static void look_at_row(void *context, enum mail_outcome outcome)
{
    struct page page = mails(context);
    assert_int_equal(outcome, MAIL_ACCEPTED);
    assert_int_equal(page.count, 1);
    assert_int_equal(mail_of_row(&page.rows[0], &seen_at_outcome, NULL), ST_OK);
}

/* When the final bytes are out the row says so: a death from here on is told as ambiguous. */
static void test_fence_marks_the_row(void **state)
{
    struct fixture *f = *state;
    struct mailer_options options = options_of(f);
    options.on_outcome = look_at_row;
    options.context = f;
    mailer_free(f->mailer);
    f->mailer = NULL;
    assert_int_equal(mailer_new(&options, f->db.store, &f->mailer, NULL), ST_OK);
    store_lead(f, '1', 1);
    seen_at_outcome.state = MAIL_STATE_PARKED;
    pass(f);
    assert_int_equal(delivered(f), 1);
    assert_int_equal(seen_at_outcome.state, MAIL_STATE_SENDING);
}

static void test_rate_limit(void **state)
{
    struct fixture *f = *state;
    struct mailer_options options = options_of(f);
    options.per_minute = 3;
    mailer_free(f->mailer);
    f->mailer = NULL;
    assert_int_equal(mailer_new(&options, f->db.store, &f->mailer, NULL), ST_OK);
    for (char digit = '1'; digit <= '5'; digit++)
        store_lead(f, digit, 1);
    pass(f);
    assert_int_equal(delivered(f), 3);
    int64_t due_ms = mailer_due_in_ms(f->mailer);
    assert_true(due_ms > 50000 && due_ms <= 60100);
}

static void test_stop_leaves_the_rows(void **state)
{
    static _Atomic bool stop = true;
    struct fixture *f = *state;
    struct mailer_options options = options_of(f);
    options.stop = &stop;
    mailer_free(f->mailer);
    f->mailer = NULL;
    assert_int_equal(mailer_new(&options, f->db.store, &f->mailer, NULL), ST_OK);
    store_lead(f, '1', 2);
    pass(f);
    assert_int_equal(delivered(f), 0);
    assert_int_equal(mails(f).count, 2);
}

static void test_one_relay_per_host(void **state)
{
    struct fixture *f = *state;
    struct relay_options options = {.open = open_store,
                                    .context = &f->db,
                                    .mails_leads = true,
                                    .mailer = options_of(f),
                                    .socket_path = f->socket};
    struct relay_socket held;
    struct fail why;
    bool waiting = true;
    store_lead(f, '1', 1);
    assert_int_equal(relay_socket_claim(f->socket, &held, &why), ST_OK);
    assert_int_equal(relay_once(&options, &waiting, &why), ST_EXISTS);
    assert_int_equal(delivered(f), 0);
    relay_socket_release(&held);
    assert_int_equal(relay_once(&options, &waiting, &why), ST_OK);
    assert_false(waiting);
    assert_int_equal(delivered(f), 1);
}

static void test_hints(void **state)
{
    struct fixture *f = *state;
    struct relay_socket listener;
    char partition[LIMIT_PARTITION_KEY_BYTES + 1];
    int fd;
    assert_int_equal(relay_hint_open(&fd, NULL), ST_OK);
    relay_hint(fd, f->socket, "nobody.listens");
    assert_int_equal(relay_socket_claim(f->socket, &listener, NULL), ST_OK);
    relay_hint(fd, f->socket, "contoso.app");
    assert_true(relay_socket_take(&listener, partition));
    assert_string_equal(partition, "contoso.app");
    assert_false(relay_socket_take(&listener, partition));
    for (int i = 0; i < 100; i++)
        relay_hint(fd, f->socket, "contoso.app"); /* the same again, while the first waits */
    assert_true(relay_socket_take(&listener, partition));
    assert_false(relay_socket_take(&listener, partition));
    for (int i = 0; i < 100; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "many.%d", i);
        relay_hint(fd, f->socket, name); /* a full queue does not block */
    }
    while (relay_socket_take(&listener, partition))
        ;
    relay_hint(fd, f->socket, "many.99"); /* the one that was lost is not taken for one that waits */
    assert_true(relay_socket_take(&listener, partition));
    assert_string_equal(partition, "many.99");
    relay_socket_release(&listener);
    assert_int_equal(close(fd), 0);
}

static void test_retry_schedule(void **state)
{
    static const int64_t minutes[] = {1, 5, 15, 30, 60, 120, 240, 240};
    (void)state;
    for (int32_t i = 0; i < 8; i++) {
        int64_t wait_ms = minutes[i] * 60000;
        for (uint32_t jitter = 0; jitter < 3; jitter++) {
            int64_t got = retry_wait_ms(i + 1, jitter * 0x55555555u);
            if (got < wait_ms * 4 / 5 || got > wait_ms * 6 / 5)
                fail_msg("failure %d: waits %lld ms, want about %lld", i + 1, (long long)got,
                         (long long)wait_ms);
        }
    }
    /* 3 h 51 min for the first six, then 4 h each: five days are over at the 37th. */
    assert_false(retry_is_over(1));
    assert_false(retry_is_over(36));
    assert_true(retry_is_over(37));
    assert_true(retry_is_over(INT32_MAX));
    /* What a row says may be anything. */
    assert_false(retry_is_over(INT32_MIN));
    assert_in_range((unsigned long long)retry_wait_ms(INT32_MIN, 0), 48000, 72000);
    assert_int_equal(retry_pause_ms(1), 60000);
    assert_int_equal(retry_pause_ms(4), 8 * 60000);
    assert_int_equal(retry_pause_ms(5), 15 * 60000);
    assert_int_equal(retry_pause_ms(1000), 15 * 60000);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_sent_once_and_marked, set_up, tear_down),
        cmocka_unit_test(test_states_found),
        cmocka_unit_test_setup_teardown(test_ambiguous_waits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_same_bytes_again, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_erased_lead_is_not_mailed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_strange_row, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_fence_marks_the_row, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_rate_limit, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_stop_leaves_the_rows, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_one_relay_per_host, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hints, set_up, tear_down),
        cmocka_unit_test(test_retry_schedule),
    };
    return cmocka_run_group_tests_name("relay", tests, NULL, NULL);
}
