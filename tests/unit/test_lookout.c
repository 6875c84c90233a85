/* What a host sees of troubles that last: with a store of record whose clock the test moves, a spool, a key file, and
 * a mail server in this process.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <sys/stat.h>

#include "lib/relay/lookout.h"
#include "lib/relay/watch.h"
#include "tests/unit/smtp_server.h"
#include "tests/unit/stored.h"

#include "tests/unit/clocked.h"

#define DAY       (24 * HOUR_MS)
#define MINUTE_MS (60 * 1000LL)
#define US        "11111111111111111111111111111111"
#define KEY1      "Test-key_0123456789.abcdef~1"
#define KEY2      "Test-key_0123456789.abcdef~2"

struct fixture {
    struct stored db, spool_db;
    struct clocked store;
    struct lookout_options options;
    struct lookout *lookout;
    char keys_file[96];
    char url[64];
    size_t lasting[TROUBLE_KINDS];
    int64_t used_s;
};

static int64_t used(void *context, const char *name)
{
    const struct fixture *f = context;
    return strcmp(name, "market") == 0 ? f->used_s : 0;
}

static void note(void *context, enum trouble_kind kind, size_t lasting)
{
    ((struct fixture *)context)->lasting[kind] = lasting;
}

/* A new process, which looks at once. */
static void restart(struct fixture *f)
{
    struct fail why;
    lookout_free(f->lookout);
    f->lookout = NULL;
    if (lookout_new(&f->options, &f->lookout, &why) != ST_OK)
        fail_msg("%s", why.text);
}

static void write_keys(struct fixture *f, const char *text)
{
    FILE *file = fopen(f->keys_file, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(f->keys_file, 0600), 0);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct fail why;
    if (!f || !stored_open(&f->db, NULL) || !stored_open(&f->spool_db, NULL) ||
        mail_memory_new(&f->options.memory, &why) != ST_OK)
        return -1;
    *state = f;
    f->store = clocked_of(f->db.store);
    (void)snprintf(f->keys_file, sizeof f->keys_file, "%s/keys", f->db.directory);
    f->options.silence_days = 14;
    f->options.before_days = 14;
    f->options.keys_file = f->keys_file;
    f->options.tells = true;
    f->options.host = SPAN_LIT(US);
    f->options.key_last_use_s = used;
    f->options.on_troubles = note;
    f->options.context = f;
    write_keys(f, "market " KEY1 "\n");
    restart(f);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    lookout_free(f->lookout);
    mail_memory_free(f->options.memory);
    int rc = stored_close(&f->db) + stored_close(&f->spool_db);
    free(f);
    return rc;
}

static enum status try_look(struct fixture *f, bool with_spool, struct fail *why)
{
    restart(f);
    return lookout_look(f->lookout, &f->store.base, with_spool ? f->spool_db.store : NULL, why);
}

static void look(struct fixture *f)
{
    struct fail why;
    if (try_look(f, true, &why) != ST_OK)
        fail_msg("%s", why.text);
}

static void add_offer(struct fixture *f, const char *partition, int64_t last_ms)
{
    struct offer offer = {.partition = span_of(partition), .title = SPAN_LIT("An offer"), .last_ms = last_ms};
    struct operation insert = {.kind = OPERATION_INSERT};
    struct fail why;
    size_t failed;
    assert_true(row_of_offer(&insert.entity, &offer, &f->db.arena));
    if (store_transact(f->db.store, TABLE_OPS, &insert, 1, soon(), &failed, &why) != ST_OK)
        fail_msg("%s", why.text);
}

static void change_spooled(struct fixture *f, enum operation_kind kind, char digit, int64_t received_ms)
{
    struct operation operation = {.kind = kind};
    struct fail why;
    size_t failed;
    char id[LEAD_DELIVERY_TEXT + 1];
    memset(id, digit, sizeof id - 1);
    id[sizeof id - 1] = '\0';
    assert_true(entity_init(&operation.entity, SPAN_LIT(SPOOL_PARTITION),
                            row_key_of_time(received_ms, id, &f->spool_db.arena), &f->spool_db.arena));
    operation.entity.etag = SPAN_LIT("*");
    if (store_transact(f->spool_db.store, TABLE_LEADS, &operation, 1, soon(), &failed, &why) != ST_OK)
        fail_msg("%s", why.text);
}

static void add_spooled(struct fixture *f, char digit, int64_t received_ms)
{
    change_spooled(f, OPERATION_INSERT, digit, received_ms);
}

static void remove_spooled(struct fixture *f, char digit, int64_t received_ms)
{
    change_spooled(f, OPERATION_DELETE, digit, received_ms);
}

/* The titles of the troubles in a store, in the order of their keys, each on a line. */
static void assert_troubles(struct stored *db, const char *want)
{
    struct page page =
        rows_between(db->store, &db->arena, TABLE_OPS, ALARMS_PARTITION, TROUBLE_KEY_FIRST, TROUBLE_KEY_END);
    struct buf got = BUF_INIT(64 * 1024);
    for (size_t i = 0; i < page.count; i++) {
        struct trouble_row trouble;
        assert_int_equal(trouble_of_row(&page.rows[i], &trouble, NULL), ST_OK);
        buf_addf(&got, "%.*s\n", SPAN_FMT(trouble.title));
    }
    if (!span_eq(buf_span(&got), span_of(want)))
        fail_msg("got\n%swant\n%s", got.data ? got.data : "", want);
    buf_release(&got);
}

/* What the only alarm of that event says. */
static struct span alarm_text(struct stored *db, const char *event)
{
    struct page page = rows_between(db->store, &db->arena, TABLE_OPS, ALARMS_PARTITION, "", "~");
    struct alarm_row alarm, found = {0};
    for (size_t i = 0; i < page.count; i++) {
        assert_int_equal(alarm_of_row(&page.rows[i], &alarm, NULL), ST_OK);
        if (span_eq(alarm.event, span_of(event)))
            found = alarm;
    }
    if (!found.event.len)
        fail_msg("there is no alarm '%s'", event);
    return found.text;
}

static const char *host_name(void)
{
    static char host[256];
    (void)gethostname(host, sizeof host - 1);
    return host;
}

/* --- offers -------------------------------------------------------------------------------------------------- */

static void test_silence(void **state)
{
    struct fixture *f = *state;
    add_offer(f, "fresh", NOON_MS - 14 * DAY + 1);
    add_offer(f, "silent", NOON_MS - 14 * DAY);
    add_offer(f, "still-silent", NOON_MS - 74 * DAY + 1);
    add_offer(f, "ended", NOON_MS - 74 * DAY);
    add_offer(f, "never", 0);
    look(f);
    assert_int_equal(f->lasting[TROUBLE_SILENCE], 2);
    assert_true(span_has_nocase(alarm_text(&f->db, "silence"),
                                SPAN_LIT("- No lead for silent since 2026-11-07 12:00 UTC\n")));
    assert_true(span_has_nocase(alarm_text(&f->db, "silence"), SPAN_LIT("- No lead for still-silent since")));

    f->store.now_ms += 2; /* one ends, one begins */
    look(f);
    assert_int_equal(f->lasting[TROUBLE_SILENCE], 2);
    f->options.silence_days = 0;
    look(f);
    assert_int_equal(f->lasting[TROUBLE_SILENCE], 0);
}

static void set_clock_right(void *context)
{
    ((struct fixture *)context)->store.now_ms = NOON_MS;
}

/* A host whose clock is a month ahead learns the store's time with the first answer. */
static void test_silence_by_the_clock_of_the_store(void **state)
{
    struct fixture *f = *state;
    add_offer(f, "fresh", NOON_MS - DAY);
    f->store.now_ms = NOON_MS + 30 * DAY;
    f->store.hook_at = f->store.count;
    f->store.hook = set_clock_right;
    f->store.context = f;
    look(f);
    assert_null(f->store.hook);
    assert_int_equal(f->lasting[TROUBLE_SILENCE], 0);
}

/* What they say of the one thing does not hide the other. */
static void test_a_thousand_silent_offers(void **state)
{
    struct fixture *f = *state;
    char name[32];
    for (unsigned int i = 0; i < 1000; i++) {
        (void)snprintf(name, sizeof name, "contoso.%04u", i);
        add_offer(f, name, NOON_MS - 20 * DAY - i);
    }
    write_keys(f, "market " KEY1 " retire=2026-11-25T00:00:00Z\n");
    for (int i = 0; i < 2; i++) {
        look(f);
        assert_int_equal(f->lasting[TROUBLE_SILENCE], LIMIT_TROUBLES);
        assert_int_equal(f->lasting[TROUBLE_KEY_RETIRING], 1);
    }
    assert_true(span_has_nocase(alarm_text(&f->db, "silence"), SPAN_LIT("- and 40 more: 'leadctl")));
}

static void test_silence_in_words(void **state)
{
    struct fixture *f = *state;
    add_offer(f, "contoso.app", NOON_MS - 15 * DAY);
    look(f);
    assert_troubles(&f->db, "No lead for contoso.app since 2026-11-06 12:00 UTC\n");
    struct span text = alarm_text(&f->db, "silence");
    assert_true(
        span_eq(text, SPAN_LIT("The last lead for the offer contoso.app came 2026-11-06 12:00 UTC, 15 days "
                               "ago (alarm_silence_days is 14).")));
}

/* --- the way to the table ------------------------------------------------------------------------------------ */

static void test_spool_stuck(void **state)
{
    struct fixture *f = *state;
    char want[512], time[CLOCK_TEXT_BYTES];
    struct fail why;
    int64_t hour_ago = clock_wall_ms() - HOUR_MS;
    add_spooled(f, 'a', hour_ago + MINUTE_MS);
    look(f);
    assert_troubles(&f->spool_db, "");
    add_spooled(f, 'b', hour_ago);
    look(f);
    clock_iso_time(hour_ago, time);
    (void)snprintf(want, sizeof want, "2 leads wait in the spool of %s since %.10s %.5s UTC\n", host_name(),
                   time, time + 11);
    assert_troubles(&f->spool_db, want);
    assert_troubles(&f->db, "");
    assert_int_equal(f->lasting[TROUBLE_SPOOL_STUCK], 1);
    (void)alarm_text(&f->spool_db, "spool-stuck");

    f->store.fails_with = ST_AGAIN; /* the table is away: the spool is looked at all the same */
    assert_int_equal(try_look(f, true, &why), ST_AGAIN);
    assert_troubles(&f->spool_db, want);
    remove_spooled(f, 'b', hour_ago); /* that it is through is told by the drain */
    assert_int_equal(try_look(f, true, &why), ST_AGAIN);
    assert_troubles(&f->spool_db, "");
}

/* With the directory to read, and without. */
static void check_refusal(struct fixture *f)
{
    struct fail why;
    f->store.fails_with = ST_DENIED;
    assert_int_equal(try_look(f, true, &why), ST_DENIED);
    assert_int_equal(f->lasting[TROUBLE_TABLE_REFUSED], 1);
    assert_true(span_has_nocase(alarm_text(&f->spool_db, "table-refused"), SPAN_LIT("AuthenticationFailed")));
    f->store.fails_with = ST_AGAIN; /* cannot be reached: who knows */
    assert_int_equal(try_look(f, true, &why), ST_AGAIN);
    assert_int_equal(f->lasting[TROUBLE_TABLE_REFUSED], 1);
    f->store.fails_with = ST_OK;
    look(f);
    assert_int_equal(f->lasting[TROUBLE_TABLE_REFUSED], 0);
    (void)alarm_text(&f->spool_db, "table-refused-over");
    assert_int_equal(try_look(f, false, &why), ST_OK);
}

static void test_table_refuses(void **state)
{
    check_refusal(*state);
}

static void test_table_refuses_while_no_offers_are_looked_at(void **state)
{
    struct fixture *f = *state;
    f->options.silence_days = 0;
    check_refusal(f);
}

/* --- the mail server ----------------------------------------------------------------------------------------- */

static void begin_mail(struct fixture *f, const struct server *server)
{
    (void)snprintf(f->url, sizeof f->url, "smtp://127.0.0.1:%u", server->port);
    f->options.mails = f->options.probes = true;
    f->options.transport = (struct mail_settings){.url = span_of(f->url),
                                                  .user = SPAN_LIT("leads"),
                                                  .password = SPAN_LIT("s3cr3t"),
                                                  .hello = SPAN_LIT("leads.example.com"),
                                                  .tls_off = true};
}

static void forget_mail(struct fixture *f)
{
    mail_memory_free(f->options.memory);
    assert_int_equal(mail_memory_new(&f->options.memory, NULL), ST_OK);
}

/* A password that expires is told although there is no mail; and that it works again, by the next process. */
static void test_mail_refused_without_mail(void **state)
{
    static const struct rule closed[RULES_MAX] = {{"AUTH", "535 5.7.3 Authentication unsuccessful\r\n"}};
    static const struct rule busy[RULES_MAX] = {{"CONNECT", "421 later\r\n"}};
    static const struct rule *const scripts[] = {closed, busy};
    struct fixture *f = *state;
    struct server server;
    char want[512];
    server_start_scripts(&server, scripts, 2, NULL);
    begin_mail(f, &server);
    look(f);
    (void)snprintf(want, sizeof want,
                   "The mail server refuses the settings of %s since 2026-11-21 12:00 UTC\n", host_name());
    assert_troubles(&f->db, want);
    assert_int_equal(f->lasting[TROUBLE_MAIL_PAUSED], 1);
    assert_true(span_has_nocase(alarm_text(&f->db, "mail-paused"), SPAN_LIT("535 5.7.3")));
    look(f); /* not tried again so soon */
    assert_troubles(&f->db, want);
    forget_mail(f); /* a new process: first the server is busy, which says nothing, then it takes us */
    look(f);
    assert_troubles(&f->db, want);
    look(f);
    assert_troubles(&f->db, "");
    (void)alarm_text(&f->db, "mail-paused-over");
    server_stop(&server);
    server_release(&server);
}

/* What the mailer finds out is told without another try, and before the five minutes are over. */
static void test_mailer_is_refused(void **state)
{
    struct fixture *f = *state;
    struct fail why, reason;
    f->options.mails = true;
    look(f);
    assert_troubles(&f->db, "");
    (void)fail_set(&reason, ST_DENIED, 0, "530 5.7.0 Authentication required");
    mail_memory_note_login(f->options.memory, MAIL_TRANSIENT, &reason);
    assert_int_equal(lookout_look(f->lookout, &f->store.base, NULL, &why), ST_OK);
    assert_int_equal(f->lasting[TROUBLE_MAIL_PAUSED], 0);
    mail_memory_note_login(f->options.memory, MAIL_CONFIGURATION, &reason);
    assert_int_equal(lookout_look(f->lookout, &f->store.base, NULL, &why), ST_OK);
    assert_int_equal(f->lasting[TROUBLE_MAIL_PAUSED], 1);
    assert_true(span_has_nocase(alarm_text(&f->db, "mail-paused"), SPAN_LIT("530 5.7.0")));
    mail_memory_note_login(f->options.memory, MAIL_PERMANENT, &reason);
    assert_int_equal(lookout_look(f->lookout, &f->store.base, NULL, &why), ST_OK);
    assert_int_equal(f->lasting[TROUBLE_MAIL_PAUSED], 0);

    size_t count = f->store.count;
    assert_int_equal(lookout_look(f->lookout, &f->store.base, NULL, &why), ST_OK);
    assert_int_equal(f->store.count, count); /* otherwise it looks every five minutes */
}

/* --- what comes to its end ----------------------------------------------------------------------------------- */

static void test_key_retires(void **state)
{
    struct fixture *f = *state;
    f->used_s = (NOON_MS - DAY) / 1000;
    write_keys(f, "market " KEY1 " retire=2026-12-05T12:00:01Z\n");
    look(f);
    assert_troubles(&f->db, "");
    f->store.now_ms += 2000;
    look(f);
    assert_troubles(&f->db, "The key 'market' ends 2026-12-05 12:00 UTC\n");
    assert_true(span_eq(
        alarm_text(&f->db, "key-retiring"),
        SPAN_LIT("The key file ends the key 'market' at 2026-12-05 12:00 UTC: what comes with it from "
                 "then on is refused. There is no other one of this name that stays. On this host the "
                 "name was last used 2026-11-20 12:00 UTC.")));
    write_keys(f, "market " KEY1 " retire=x\n"); /* a mistake in the file says nothing */
    look(f);
    assert_troubles(&f->db, "The key 'market' ends 2026-12-05 12:00 UTC\n");
    f->store.now_ms += 15 * DAY; /* it has ended */
    write_keys(f, "market " KEY1 " retire=2026-12-05T12:00:01Z\nnext " KEY2 "\n");
    look(f);
    assert_troubles(&f->db, "");
    (void)alarm_text(&f->db, "key-retiring-over");
}

static void test_key_with_a_successor(void **state)
{
    struct fixture *f = *state;
    write_keys(f, "market " KEY1 " retire=2026-11-30T00:00:00Z\nmarket " KEY2 " retire=2027-11-30T00:00:00Z\n"
                  "signer whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz retire=2026-11-29T00:00:00Z\n");
    look(f);
    assert_int_equal(f->lasting[TROUBLE_KEY_RETIRING], 2);
    struct span text = alarm_text(&f->db, "key-retiring");
    assert_true(span_has_nocase(text, SPAN_LIT("- The key 'market' ends 2026-11-30 00:00 UTC\n")));
    assert_true(span_has_nocase(text, SPAN_LIT("- The signing secret 'signer' ends 2026-11-29 00:00 UTC")));
    assert_false(span_has_nocase(text, SPAN_LIT(KEY1)));
    write_keys(f,
               "market " KEY1 " retire=2026-11-30T00:00:00Z\nmarket " KEY2 " retire=2027-11-30T00:00:00Z\n");
    f->store.now_ms += 8 * DAY;
    look(f);
    assert_true(
        span_has_nocase(alarm_text(&f->db, "key-retiring"),
                        SPAN_LIT("Another one of this name stays, which the sender must use by then.")));
}

static void test_ends(void **state)
{
    struct fixture *f = *state;
    f->store.ends = (struct table_ends){.sas_ms = NOON_MS + 14 * DAY, .certificate_ms = NOON_MS + 14 * DAY};
    look(f);
    assert_troubles(&f->db, "");
    f->store.now_ms++;
    look(f);
    assert_troubles(&f->db, "The certificate of the table's server ends 2026-12-05 12:00 UTC\n"
                            "The SAS for the table ends 2026-12-05 12:00 UTC\n");
    f->store.ends = (struct table_ends){.sas_ms = NOON_MS + 365 * DAY, .certificate_ms = NOON_MS + 90 * DAY};
    look(f);
    assert_troubles(&f->db, "");
    (void)alarm_text(&f->db, "sas-ending-over");
    (void)alarm_text(&f->db, "certificate-ending-over");
    f->options.before_days = 0;
    f->store.ends = (struct table_ends){.sas_ms = 1, .certificate_ms = 1};
    look(f);
    assert_troubles(&f->db, "");
}

/* --- and the mail -------------------------------------------------------------------------------------------- */

/* From what is seen to a person's mailbox: the row of a trouble is taken for no alarm. */
static void test_mailed(void **state)
{
    static const struct span recipients[] = {{"ops@example.com", 15}};
    struct fixture *f = *state;
    struct server server;
    struct watch *watch;
    struct fail why;
    server_start(&server, NULL);
    begin_mail(f, &server);
    f->options.mails = false;
    add_offer(f, "contoso.app", NOON_MS - 15 * DAY);
    look(f);
    struct watch_options options = {
        .transport = f->options.transport,
        .from = {.name = SPAN_LIT("Leads"), .address = SPAN_LIT("leads@example.com")},
        .recipients = recipients,
        .recipient_count = 1,
        .owner = SPAN_LIT(US),
    };
    assert_int_equal(watch_new(&options, &watch, &why), ST_OK);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(watch_pass(watch, &f->store.base, f->spool_db.store, &why), ST_OK);
    watch_free(watch);
    server_stop(&server);
    assert_int_equal(server.mails, 1);
    assert_non_null(strstr(server.body.data,
                           "Subject: [leadhook] No lead for contoso.app since 2026-11-06 12:00 UTC\r\n"));
    assert_non_null(strstr(server.body.data, "  Noticed    2026-11-21 12:00 UTC\r\n"));
    server_release(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        TEST(test_silence),
        TEST(test_silence_by_the_clock_of_the_store),
        TEST(test_a_thousand_silent_offers),
        TEST(test_silence_in_words),
        TEST(test_spool_stuck),
        TEST(test_table_refuses),
        TEST(test_table_refuses_while_no_offers_are_looked_at),
        TEST(test_mail_refused_without_mail),
        TEST(test_mailer_is_refused),
        TEST(test_key_retires),
        TEST(test_key_with_a_successor),
        TEST(test_ends),
        TEST(test_mailed),
    };
    return cmocka_run_group_tests_name("lookout", tests, NULL, NULL);
}
