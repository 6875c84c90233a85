/* leadctl status: what is said and with which exit status, from facts alone; and that it fits a screen. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "handler/ctl/status/status.h"
#include "lib/base/json_read.h"
#include "lib/base/text.h"
#include "lib/relay/relay_socket.h"

#define NOW    1000000000000LL
#define SECOND 1000LL
#define MINUTE (60 * SECOND)

/* A host on which all is well: the table answers, the spool is there and empty. */
static struct status_facts healthy(void)
{
    struct status_facts f = {
        .local_ms = NOW,
        .now_ms = NOW,
        .store_name = "table 'MarketplaceLeads'",
        .store_is_table = true,
        .store_answers = true,
        .spool_use = SPOOL_KNOWN,
        .spool = {.bytes = 100 * 1024, .generations = 1},
        .spool_max_bytes = 1024 * 1024,
        .spool_is_writable = true,
        .relay = RELAY_PROCESS,
        .relay_pid = 1234,
        .mail_is_on = true,
        .mails_known = true,
        .quarantine_known = true,
        .quarantine_max_bytes = 1024 * 1024 * 1024,
        .alarms_are_on = true,
        .alarms_known = true,
        .troubles_known = true,
        .leads_known = true,
        .lead_last_ms = NOW - 5 * MINUTE,
        .leads_today = {.count = 37},
    };
    return f;
}

static void add_alarm(struct status_facts *f, enum alarm alarm, bool today)
{
    (void)snprintf(f->alarms[f->alarm_count].name, sizeof f->alarms[0].name, "%s", alarm_name(alarm));
    f->alarms[f->alarm_count++].is_today = today;
}

static void add_trouble(struct status_facts *f, enum trouble_kind kind, const char *title)
{
    f->troubles[kind].count++;
    f->listed[f->listed_count].kind = kind;
    (void)snprintf(f->listed[f->listed_count++].title, sizeof f->listed[0].title, "%s", title);
}

/* --- changes to a healthy host ------------------------------------------------------------------------------- */

static void nothing(struct status_facts *f)
{
    (void)f;
}
static void no_lead_yet(struct status_facts *f)
{
    f->lead_last_ms = 0;
}
static void many_today(struct status_facts *f)
{
    f->leads_today = (struct tally){.count = 1000, .more = true};
}
static void silent(struct status_facts *f)
{
    f->store_answers = f->mails_known = f->quarantine_known = f->alarms_known = f->leads_known = false;
}
static void silent_database(struct status_facts *f)
{
    silent(f);
    f->store_is_table = false;
    f->spool_use = SPOOL_OFF;
}
static void silent_without_spool(struct status_facts *f)
{
    silent(f);
    f->spool_use = SPOOL_OFF;
}
static void silent_and_full(struct status_facts *f)
{
    silent(f);
    f->spool.bytes = f->spool_max_bytes;
    f->spool_is_writable = false;
}
static void silent_and_read_only(struct status_facts *f)
{
    silent(f);
    f->spool_is_writable = false;
}
static void silent_and_unreadable(struct status_facts *f)
{
    silent(f);
    f->spool_use = SPOOL_UNREADABLE;
}
static void silent_and_not_made(struct status_facts *f)
{
    silent(f);
    f->spool_use = SPOOL_NOT_MADE;
}
static void silent_and_damaged(struct status_facts *f)
{
    silent(f);
    f->spool_use = SPOOL_DAMAGED;
}
static void lost_one(struct status_facts *f)
{
    f->spool.lost = 1;
}
static void ninety_percent(struct status_facts *f)
{
    f->spool.bytes = 900;
    f->spool_max_bytes = 1000;
}
static void over_ninety_percent(struct status_facts *f)
{
    f->spool.bytes = 901;
    f->spool_max_bytes = 1000;
}
static void bytes_beyond_all_measure(struct status_facts *f)
{
    f->spool.bytes = UINT64_MAX;
}
static void down(struct status_facts *f)
{
    silent(f);
    f->spool.table_is_down = true;
    f->spool.down_since_ms = NOW - 4 * MINUTE;
    f->spool.next_probe_ms = NOW + 12 * SECOND;
}
static void spooling(struct status_facts *f)
{
    down(f);
    f->spool.leads = 12;
    f->spool.oldest_ms = NOW - 3 * MINUTE - 59 * SECOND;
}
static void spooling_and_parked(struct status_facts *f)
{
    spooling(f);
    f->store_answers = f->mails_known = f->quarantine_known = f->alarms_known = f->leads_known = true;
    f->mails[MAIL_STATE_PARKED].count = 1;
}
static void draining(struct status_facts *f)
{
    f->spool.leads = 1;
    f->spool.oldest_ms = NOW - 10 * MINUTE;
}
static void not_draining(struct status_facts *f)
{
    f->spool.leads = 1;
    f->spool.oldest_ms = NOW - 10 * MINUTE - 1;
}
static void other_clock(struct status_facts *f)
{
    draining(f);
    f->now_ms = NOW + 60 * MINUTE; /* the store's clock says nothing about the spool's times */
    f->lead_last_ms = f->now_ms;
}
static void broken_spool(struct status_facts *f)
{
    f->spool_is_writable = false;
}
static void damaged_spool(struct status_facts *f)
{
    f->spool_use = SPOOL_DAMAGED;
    f->spool.lost = 9; /* of no meaning then */
}
static void parked_many(struct status_facts *f)
{
    f->mails[MAIL_STATE_PARKED] = (struct tally){.count = 1000, .more = true};
}
static void paused(struct status_facts *f)
{
    add_trouble(f, TROUBLE_MAIL_PAUSED, "The mail server refuses the settings of web1");
    f->mails[MAIL_STATE_WAITING].count = 2;
    f->mails_due_ms = NOW - 1;
}
static void refused_without_mail(struct status_facts *f)
{
    add_trouble(f, TROUBLE_MAIL_PAUSED, "The mail server refuses the settings of web1");
}
static void paused_and_late(struct status_facts *f)
{
    paused(f);
    f->mails_due_ms = NOW - 60 * MINUTE;
}
static void was_paused(struct status_facts *f)
{
    add_alarm(f, ALARM_MAIL_PAUSED, true); /* and it takes us again */
}
static void silent_offer(struct status_facts *f)
{
    add_trouble(f, TROUBLE_SILENCE, "No lead for contoso.app since 2026-11-06 10:02 UTC");
}
static void many_silent_offers(struct status_facts *f)
{
    silent_offer(f);
    f->troubles[TROUBLE_SILENCE] = (struct tally){.count = 1000, .more = true};
}
static void everything_ends(struct status_facts *f)
{
    silent_offer(f);
    add_trouble(f, TROUBLE_KEY_RETIRING, "The key 'market' ends 2026-12-31 00:00 UTC");
    add_trouble(f, TROUBLE_SAS_ENDING, "The SAS for the table ends 2026-12-01 00:00 UTC");
    add_trouble(f, TROUBLE_CERTIFICATE_ENDING,
                "The certificate of the mail server ends 2026-12-02 00:00 UTC");
}
static void refused_by_the_table(struct status_facts *f)
{
    silent_and_not_made(f);
    add_trouble(f, TROUBLE_TABLE_REFUSED, "web1 has no access to the table");
}
static void troubles_not_known(struct status_facts *f)
{
    f->troubles_known = false;
}
static void deferred(struct status_facts *f)
{
    f->mails[MAIL_STATE_WAITING].count = 1;
    f->mails_due_ms = NOW + 60 * MINUTE;
}
static void in_time(struct status_facts *f)
{
    deferred(f);
    f->mails_due_ms = NOW - 30 * MINUTE;
}
static void late(struct status_facts *f)
{
    deferred(f);
    f->mails_due_ms = NOW - 30 * MINUTE - 1;
}
static void quarantined(struct status_facts *f)
{
    f->quarantined.count = 2;
}
static void quarantined_near_bound(struct status_facts *f)
{
    f->quarantined.count = 9000;
    f->quarantine_bytes = f->quarantine_max_bytes / 10 * 9 + 1;
}
static void quarantined_at_bound(struct status_facts *f)
{
    f->quarantined.count = 9000;
    f->quarantine_bytes = f->quarantine_max_bytes;
}
static void quarantined_in_spool(struct status_facts *f)
{
    f->spool.quarantined = 1;
}
static void nobody(struct status_facts *f)
{
    f->relay = RELAY_NOBODY;
}
static void not_needed(struct status_facts *f)
{
    f->relay = RELAY_NOT_NEEDED;
}
static void unseen(struct status_facts *f)
{
    f->relay = RELAY_UNSEEN;
}
static void lock_unreadable(struct status_facts *f)
{
    f->relay = RELAY_UNKNOWN;
}
static void half_known(struct status_facts *f)
{
    f->leads_known = false;
}
static void half_known_and_parked(struct status_facts *f)
{
    f->leads_known = false;
    f->mails[MAIL_STATE_PARKED].count = 1;
}
static void everything(struct status_facts *f)
{
    over_ninety_percent(f);
    f->spool.lost = 3;
    f->spool.leads = 123456789;
    f->spool.oldest_ms = NOW - 90 * 24 * 60 * MINUTE;
    f->mails[MAIL_STATE_PARKED].count = 1000;
    f->mails[MAIL_STATE_PARKED].more = true;
    f->mails_due_ms = 1;
    f->quarantined.count = 1000;
    f->quarantined.more = true;
    f->relay = RELAY_NOBODY;
    f->alarms_known = false;
}

static const struct judged {
    void (*change)(struct status_facts *f);
    enum verdict verdict;
    const char *line;
} CASES[] = {
    {nothing, VERDICT_OK, "LEADHOOK OK: last lead 5 min ago, 37 today"},
    {no_lead_yet, VERDICT_OK, "LEADHOOK OK: no lead yet"},
    {many_today, VERDICT_OK, "LEADHOOK OK: last lead 5 min ago, 1000+ today"},

    {silent_database, VERDICT_CRITICAL, "LEADHOOK CRITICAL: leads are refused: the database does not answer"},
    {silent_without_spool, VERDICT_CRITICAL,
     "LEADHOOK CRITICAL: leads are refused: the table does not answer"},
    {silent_and_full, VERDICT_CRITICAL,
     "LEADHOOK CRITICAL: leads are refused: neither table nor spool works; +1 more"},
    {silent_and_read_only, VERDICT_CRITICAL,
     "LEADHOOK CRITICAL: leads are refused: neither table nor spool works"},
    {silent_and_unreadable, VERDICT_CRITICAL,
     "LEADHOOK CRITICAL: leads are refused: neither table nor spool works"},
    {lost_one, VERDICT_CRITICAL, "LEADHOOK CRITICAL: 1 lead lost by damage"},
    {ninety_percent, VERDICT_OK, "LEADHOOK OK: last lead 5 min ago, 37 today"},
    {over_ninety_percent, VERDICT_CRITICAL, "LEADHOOK CRITICAL: the spool is 90 % full"},
    {bytes_beyond_all_measure, VERDICT_CRITICAL, "LEADHOOK CRITICAL: the spool is 100 % full"},

    {silent, VERDICT_WARNING, "LEADHOOK WARNING: the table does not answer"},
    {silent_and_not_made, VERDICT_WARNING, "LEADHOOK WARNING: the table does not answer"},
    {silent_and_damaged, VERDICT_WARNING,
     "LEADHOOK WARNING: the table does not answer; the spool is damaged"},
    {down, VERDICT_WARNING, "LEADHOOK WARNING: the table is down since 4 min"},
    {spooling, VERDICT_WARNING, "LEADHOOK WARNING: 12 leads wait in the spool, oldest 3 min"},
    {spooling_and_parked, VERDICT_WARNING,
     "LEADHOOK WARNING: 12 leads wait in the spool, oldest 3 min; 1 mail parked"},
    {draining, VERDICT_OK, "LEADHOOK OK: last lead 5 min ago, 37 today"},
    {not_draining, VERDICT_WARNING, "LEADHOOK WARNING: 1 lead waits in the spool, oldest 10 min"},
    {other_clock, VERDICT_OK, "LEADHOOK OK: last lead 0 s ago, 37 today"},
    {broken_spool, VERDICT_WARNING, "LEADHOOK WARNING: the spool cannot take leads"},
    {damaged_spool, VERDICT_WARNING, "LEADHOOK WARNING: the spool is damaged"},
    {parked_many, VERDICT_WARNING, "LEADHOOK WARNING: 1000+ mails parked"},
    {paused, VERDICT_WARNING, "LEADHOOK WARNING: 2 mails paused"},
    {paused_and_late, VERDICT_WARNING, "LEADHOOK WARNING: 2 mails paused"},
    {was_paused, VERDICT_OK, "LEADHOOK OK: last lead 5 min ago, 37 today"},
    {refused_without_mail, VERDICT_WARNING, "LEADHOOK WARNING: the mail server refuses us"},
    {deferred, VERDICT_OK, "LEADHOOK OK: last lead 5 min ago, 37 today"},
    {in_time, VERDICT_OK, "LEADHOOK OK: last lead 5 min ago, 37 today"},
    {late, VERDICT_WARNING, "LEADHOOK WARNING: mail is late by 30 min"},
    {quarantined, VERDICT_WARNING, "LEADHOOK WARNING: 2 in quarantine"},
    {quarantined_near_bound, VERDICT_WARNING, "LEADHOOK WARNING: 9000 in quarantine"},
    {quarantined_at_bound, VERDICT_WARNING, "LEADHOOK WARNING: 9000 in quarantine, which is 100 % full"},
    {quarantined_in_spool, VERDICT_WARNING, "LEADHOOK WARNING: 1 in quarantine"},
    {nobody, VERDICT_WARNING, "LEADHOOK WARNING: no relay runs"},
    {silent_offer, VERDICT_WARNING, "LEADHOOK WARNING: no leads for 1 offer"},
    {many_silent_offers, VERDICT_WARNING, "LEADHOOK WARNING: no leads for 1000+ offers"},
    {everything_ends, VERDICT_WARNING,
     "LEADHOOK WARNING: the SAS ends soon; 1 certificate ends soon; +2 more"},
    {refused_by_the_table, VERDICT_WARNING, "LEADHOOK WARNING: no access to the table"},
    {troubles_not_known, VERDICT_UNKNOWN, "LEADHOOK UNKNOWN: not everything could be read"},
    {not_needed, VERDICT_OK, "LEADHOOK OK: last lead 5 min ago, 37 today"},
    {unseen, VERDICT_OK, "LEADHOOK OK: last lead 5 min ago, 37 today"},
    {half_known_and_parked, VERDICT_WARNING, "LEADHOOK WARNING: 1 mail parked; not everything could be read"},

    {lock_unreadable, VERDICT_UNKNOWN, "LEADHOOK UNKNOWN: the relay lock cannot be read"},
    {half_known, VERDICT_UNKNOWN, "LEADHOOK UNKNOWN: not everything could be read"},
    {everything, VERDICT_CRITICAL,
     "LEADHOOK CRITICAL: 3 leads lost by damage; the spool is 90 % full; +6 more"},
};

static void test_rules(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct status_facts f = healthy();
        struct buf line = BUF_INIT(1024);
        CASES[i].change(&f);
        enum verdict verdict = status_judge(&f, &line);
        if (verdict != CASES[i].verdict || !span_eq(buf_span(&line), span_of(CASES[i].line)))
            fail_msg("case %zu: got %d '%s', want %d '%s'", i, (int)verdict, line.data, (int)CASES[i].verdict,
                     CASES[i].line);
        assert_in_range(line.len, 1, STATUS_COLUMNS);
        buf_release(&line);
    }
}

/* --- the screen ---------------------------------------------------------------------------------------------- */

static size_t columns_of(struct span line)
{
    size_t columns = 0;
    uint32_t code;
    assert_true(utf8_is_valid(line, NULL));
    for (; line.len; columns++)
        line = span_from(line, utf8_decode(line, &code));
    return columns;
}

static void assert_fits(struct span screen, size_t most_lines)
{
    struct span rest = screen, line;
    size_t lines = 0;
    while (span_next(&rest, '\n', &line) && (line.len || rest.len)) {
        lines++;
        if (columns_of(line) > STATUS_COLUMNS)
            fail_msg("%zu columns: '%.*s'", columns_of(line), SPAN_FMT(line));
    }
    if (lines > most_lines)
        fail_msg("%zu lines:\n%.*s", lines, SPAN_FMT(screen));
}

/* The longest of everything, with characters that take several bytes. */
static struct status_facts longest(void)
{
    struct status_facts f = healthy();
    everything(&f);
    f.spool.table_is_down = true;
    f.spool.reason[0] = '\0';
    memset(f.store_name, 'n', sizeof f.store_name - 1);
    f.store_answers = false;
    for (size_t i = 0; i + 3 < sizeof f.store_why; i += 2)
        memcpy(f.store_why + i, "\xC3\xA9", 3);
    for (size_t i = 0; i + 5 < sizeof f.spool.reason; i += 4)
        memcpy(f.spool.reason + i, "abc ", 5);
    memset(f.unknown_why, 'u', sizeof f.unknown_why - 1);
    f.alarms_known = true;
    for (int a = 0; a < ALARM_COUNT; a++)
        add_alarm(&f, (enum alarm)a, a % 2 == 0);
    for (int i = 0; i < STATUS_TROUBLES; i++)
        add_trouble(&f, (enum trouble_kind)(i % TROUBLE_KINDS), "t");
    memset(f.listed[0].title, 't', sizeof f.listed[0].title - 1);
    f.offers_today = (struct tally){.count = 1000, .more = true};
    for (size_t i = 0; i < STATUS_OFFERS; i++) {
        memset(f.offers[i].name, 'o', sizeof f.offers[i].name - 1);
        f.offers[i].leads = (struct tally){.count = 1000, .more = true};
    }
    return f;
}

static void test_screen(void **state)
{
    (void)state;
    struct status_facts all = longest();
    struct buf out = BUF_INIT(64 * 1024), line = BUF_INIT(1024);
    (void)status_judge(&all, &line);
    status_add_line(&out, buf_span(&line));
    status_screen(&all, &out);
    assert_int_equal(out.error, ST_OK);
    assert_fits(buf_span(&out), STATUS_LINES);
    /* What an offer's name pushes behind the edge are not the numbers. */
    assert_non_null(strstr(out.data, "...  1000+, last "));
    for (size_t i = 0; i < sizeof CASES / sizeof CASES[0]; i++) {
        struct status_facts f = healthy();
        CASES[i].change(&f);
        buf_reset(&out);
        status_screen(&f, &out);
        assert_fits(buf_span(&out), STATUS_LINES - 1);
    }
    buf_release(&line);
    buf_release(&out);
}

static void assert_shows(const struct status_facts *f, const char *text)
{
    struct buf out = BUF_INIT(64 * 1024);
    status_screen(f, &out);
    if (!strstr(out.data, text))
        fail_msg("no '%s' in\n%s", text, out.data);
    buf_release(&out);
}

static void test_rows(void **state)
{
    (void)state;
    struct status_facts f = healthy();
    assert_shows(&f, "store       table 'MarketplaceLeads' answers\n");
    assert_shows(&f, "spool       0 leads wait; 100 KiB of 1 MiB; 1 generation\n");
    assert_shows(&f, "breaker     closed: leads go to the table\n");
    assert_shows(&f, "damage      no lead lost\n");
    assert_shows(&f, "relay       process 1234 holds the lock\n");
    assert_shows(&f, "mails       0 wait; 0 claimed, 0 sending; 0 parked\n");
    assert_shows(&f, "quarantine  empty\n");
    assert_shows(&f, "alarms      today: none; yesterday: none\n");
    assert_shows(&f, "leads       last 5 min ago; 37 today (UTC)\n");

    spooling(&f);
    (void)snprintf(f.store_why, sizeof f.store_why,
                   "Azure Table: no connection to 127.0.0.1 port 9 after 0 ms: %s",
                   "Couldn't connect to server");
    (void)snprintf(f.spool.reason, sizeof f.spool.reason, "the service is busy");
    assert_shows(&f, "store       table 'MarketplaceLeads' does not answer:\n"
                     "            Azure Table: no connection to 127.0.0.1 port 9 after 0 ms: Couldn't\n"
                     "            connect to server\n");
    assert_shows(&f, "spool       12 leads wait, oldest 3 min; ");
    assert_shows(&f, "breaker     open for 4 min, next try in 12 s:\n            the service is busy\n");
    assert_shows(&f, "mails       not known\n");

    f = healthy();
    f.alarms_are_on = false;
    assert_shows(&f, "alarms      off: nobody is told of trouble (alarm_to)\n");

    f = healthy();
    f.mails[MAIL_STATE_WAITING].count = 1;
    f.mails[MAIL_STATE_SENDING].count = 1;
    f.mails_due_ms = NOW + 5 * MINUTE;
    f.quarantined.count = 2;
    f.quarantined_last_ms = NOW - 72 * 60 * MINUTE;
    f.quarantine_bytes = 4096;
    add_alarm(&f, ALARM_SPOOLING, false);
    add_alarm(&f, ALARM_MAIL_PARKED, true);
    add_alarm(&f, ALARM_QUARANTINED, true);
    f.offers_today.count = 1;
    f.offers[0] =
        (struct offer_today){.name = "contoso.app", .leads = {.count = 37}, .last_ms = NOW - MINUTE};
    assert_shows(&f, "mails       1 waits, next due in 5 min; 0 claimed, 1 sending; 0 parked\n");
    assert_shows(&f, "quarantine  2 items wait, newest 3 days ago; 4 KiB of 1 GiB\n");
    assert_shows(&f, "alarms      today: mail-parked, quarantined; yesterday: spooling\n");
    assert_shows(&f, "            contoso.app  37, last 1 min ago\n");

    f = healthy();
    assert_shows(&f, "troubles    none that last\n");
    everything_ends(&f);
    assert_shows(&f, "troubles    No lead for contoso.app since 2026-11-06 10:02 UTC\n"
                     "            The key 'market' ends 2026-12-31 00:00 UTC\n"
                     "            The SAS for the table ends 2026-12-01 00:00 UTC\n"
                     "            The certificate of the mail server ends 2026-12-02 00:00 UTC\n"
                     "leads       ");
    for (int i = 0; i < 5; i++)
        silent_offer(&f);
    assert_shows(&f, "            5 more: `leadctl status --json` has all of them\nleads       ");
    troubles_not_known(&f);
    memset(f.troubles, 0, sizeof f.troubles);
    assert_shows(&f, "troubles    not known\n");
}

/* --- for machines -------------------------------------------------------------------------------------------- */

static void test_json(void **state)
{
    (void)state;
    static const struct json_limits limits = {.depth = 5, .values = 1000};
    struct status_facts f = longest();
    struct arena arena = ARENA_INIT(1024 * 1024);
    struct buf out = BUF_INIT(64 * 1024);
    const struct json *top;
    struct fail why = {0};
    if (status_json(&f, &out, &why) != ST_OK)
        fail_msg("%s", why.text);
    assert_int_equal(json_read(buf_span(&out), &limits, &arena, &top, NULL, NULL), ST_OK);
    assert_true(span_eq(json_text(top, "state"), SPAN_LIT("CRITICAL")));
    assert_true(span_starts(json_text(top, "summary"), SPAN_LIT("LEADHOOK CRITICAL: ")));
    assert_int_equal(json_member(json_member(top, "store"), "answers")->kind, JSON_FALSE);
    assert_int_equal(json_member(json_member(top, "spool"), "table_is_down")->kind, JSON_TRUE);
    assert_int_equal(json_member(json_member(json_member(top, "mails"), "parked"), "more")->kind, JSON_TRUE);
    assert_non_null(json_member(json_member(json_member(top, "alarms"), "today"), "spooling"));
    assert_null(json_member(json_member(json_member(top, "alarms"), "yesterday"), "spooling"));
    const struct json *silent = json_member(json_member(top, "troubles"), "silence");
    assert_int_equal(json_member(json_member(top, "troubles"), "known")->kind, JSON_TRUE);
    assert_non_null(json_member(silent, "t"));
    buf_release(&out);
    arena_release(&arena);
}

/* --- who is the relay ---------------------------------------------------------------------------------------- */

static void test_holder(void **state)
{
    (void)state;
    char folder[] = "/tmp/status-XXXXXX", path[64], lock[80];
    struct relay_socket socket = RELAY_SOCKET_CLOSED;
    struct fail why = {0};
    long pid = -1;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/relay", folder);
    (void)snprintf(lock, sizeof lock, "%s.lock", path);
    assert_int_equal(relay_socket_holder(path, &pid, &why), ST_NOT_FOUND);
    assert_int_equal(access(lock, F_OK), -1); /* looking makes no file */

    assert_int_equal(relay_socket_claim(path, &socket, &why), ST_OK);
    pid_t child = fork(); /* another process looks, as leadctl would */
    assert_true(child >= 0);
    if (child == 0)
        _exit(relay_socket_holder(path, &pid, NULL) == ST_OK && pid == (long)getppid() ? 0 : 1);
    int end;
    assert_int_equal(waitpid(child, &end, 0), child);
    assert_int_equal(end, 0);

    relay_socket_release(&socket);
    assert_int_equal(relay_socket_holder(path, &pid, &why), ST_NOT_FOUND);
    assert_int_equal(relay_socket_claim(path, &socket, &why), ST_OK); /* and takes nothing */
    relay_socket_release(&socket);
    (void)unlink(path);
    (void)unlink(lock);
    (void)rmdir(folder);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rules), cmocka_unit_test(test_screen), cmocka_unit_test(test_rows),
        cmocka_unit_test(test_json),  cmocka_unit_test(test_holder),
    };
    return cmocka_run_group_tests_name("status", tests, NULL, NULL);
}
