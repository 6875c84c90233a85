/* Alarms from the raising to the mail: two hosts with a spool each on one store, and a mail server, all in this
 * process.
 *
 * Every store is behind one that can fail at a chosen operation, call the test
 * before it and show another time.  The mail server counts what it is sent,
 * because a Maildir would hide a message that comes twice.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/relay/retry.h"
#include "lib/relay/tries.h"
#include "lib/relay/watch.h"
#include "lib/store/alarms.h"
#include "lib/store/store_internal.h"
#include "tests/unit/connections.h"
#include "tests/unit/stored.h"

#define MINUTE_MS (60 * 1000LL)
#define DAY_MS    (24 * 60 * MINUTE_MS)

enum { MAILS_MAX = 256, NEVER = 1000000 };

/* --- a mail server ------------------------------------------------------------------------------------------- */

struct mail {
    char to[64];
    struct buf text;
};

static struct {
    struct connections connections;
    pthread_mutex_t mutex; /* of everything below */
    const char *refuses;   /* answers a recipient that contains this with 450 */
    bool drops_at_dot;     /* takes the message and says nothing */
    bool has_it_already;   /* refuses the message as Exchange refuses a Message-ID that it knows */
    _Atomic bool *stops;   /* set when a recipient is refused */
    struct mail mails[MAILS_MAX];
    size_t mail_count;
} server;

static bool say(FILE *to, const char *reply)
{
    return fputs(reply, to) >= 0 && fflush(to) == 0;
}

/* Takes one message; false: the connection is to be closed. */
static bool take_message(FILE *from, FILE *to, const char *recipient)
{
    char line[2048];
    struct mail mail = {.text = BUF_INIT(LIMIT_MAIL_BYTES)};
    (void)snprintf(mail.to, sizeof mail.to, "%s", recipient);
    if (!say(to, "354 go on\r\n"))
        return false;
    while (fgets(line, sizeof line, from) && strcmp(line, ".\r\n") != 0)
        buf_add_text(&mail.text, line);
    (void)pthread_mutex_lock(&server.mutex);
    bool drops = server.drops_at_dot, refuses = server.has_it_already;
    assert_true(server.mail_count < MAILS_MAX);
    server.mails[server.mail_count++] = mail;
    (void)pthread_mutex_unlock(&server.mutex);
    return !drops && say(to, refuses ? "554 5.2.0 STOREDRV.Submission.Exception:"
                                       "StoragePermanentException.MapiExceptionDuplicateDelivery\r\n"
                                     : "250 taken\r\n");
}

static bool takes(const char *recipient)
{
    (void)pthread_mutex_lock(&server.mutex);
    bool refused = server.refuses && strstr(recipient, server.refuses);
    if (refused && server.stops)
        atomic_store(server.stops, true);
    (void)pthread_mutex_unlock(&server.mutex);
    return !refused;
}

static void *converse(void *argument)
{
    int fd = *(int *)argument;
    char line[2048], recipient[64] = "";
    FILE *from = fdopen(dup(fd), "r"), *to = fdopen(dup(fd), "w");
    bool open = from && to && say(to, "220 test\r\n");
    while (open && fgets(line, sizeof line, from)) {
        if (strncmp(line, "RCPT TO:<", 9) == 0) {
            (void)snprintf(recipient, sizeof recipient, "%.*s", (int)strcspn(line + 9, ">"), line + 9);
            open = say(to, takes(recipient) ? "250 ok\r\n" : "450 4.2.2 later\r\n");
        } else if (strncmp(line, "DATA", 4) == 0) {
            open = take_message(from, to, recipient);
        } else {
            open = say(to, "250 ok\r\n") && strncmp(line, "QUIT", 4) != 0;
        }
    }
    (void)shutdown(fd, SHUT_RDWR);
    if (from)
        (void)fclose(from);
    if (to)
        (void)fclose(to);
    return NULL;
}

static void forget_mails(void)
{
    (void)pthread_mutex_lock(&server.mutex);
    for (size_t i = 0; i < server.mail_count; i++)
        buf_release(&server.mails[i].text);
    server.mail_count = 0;
    (void)pthread_mutex_unlock(&server.mutex);
}

static bool start_server(void)
{
    memset(&server, 0, sizeof server);
    (void)pthread_mutex_init(&server.mutex, NULL);
    return connections_begin(&server.connections, converse);
}

static void stop_server(void)
{
    connections_end(&server.connections);
    forget_mails();
}

/* How many messages it was sent for the recipient; NULL: for all. */
static size_t mails_to(const char *recipient)
{
    size_t count = 0;
    (void)pthread_mutex_lock(&server.mutex);
    for (size_t i = 0; i < server.mail_count; i++)
        count += !recipient || strcmp(server.mails[i].to, recipient) == 0;
    (void)pthread_mutex_unlock(&server.mutex);
    return count;
}

static void set_server(const char *refuses, bool drops_at_dot)
{
    (void)pthread_mutex_lock(&server.mutex);
    server.refuses = refuses;
    server.drops_at_dot = drops_at_dot;
    (void)pthread_mutex_unlock(&server.mutex);
}

/* --- a store with faults ------------------------------------------------------------------------------------- */

enum fault {
    FAULT_REFUSED,    /* nothing is done */
    FAULT_ANSWER_LOST /* it is done, and nobody is told */
};

struct faulty {
    struct store base;
    struct store *inner;
    int64_t offset_ms; /* of its clock */
    enum fault fault;
    size_t from, to; /* numbers of the operations that fail: from <= n < to */
    size_t count;    /* operations so far */
    size_t hook_at;  /* before this one ... */
    void (*hook)(void *context);
    void *context; /* ... the hook is called once */
};

static struct faulty *faulty_of(struct store *store)
{
    return (struct faulty *)store;
}

/* Whether this operation fails before it does anything; *lost: it fails afterwards. */
static bool fails(struct faulty *f, bool *lost)
{
    size_t number = f->count++;
    bool hit = number >= f->from && number < f->to;
    if (f->hook && number == f->hook_at) {
        void (*hook)(void *) = f->hook;
        f->hook = NULL;
        hook(f->context);
    }
    *lost = hit && f->fault == FAULT_ANSWER_LOST;
    return hit && f->fault == FAULT_REFUSED;
}

static enum status faulty_transact(struct store *store, enum table_id table,
                                   const struct operation *operations, size_t count, int64_t deadline_ms,
                                   size_t *failed, struct fail *why)
{
    struct faulty *f = faulty_of(store);
    bool lost;
    if (fails(f, &lost))
        return fail_set(why, ST_AGAIN, 0, "the store is down");
    enum status status = store_transact(f->inner, table, operations, count, deadline_ms, failed, why);
    return lost ? fail_set(why, ST_UNKNOWN, 0, "the answer was lost") : status;
}

static enum status faulty_get_many(struct store *store, enum table_id table, struct span partition_key,
                                   const struct span *row_keys, size_t count, const char *select,
                                   int64_t deadline_ms, struct arena *arena, struct entity **rows,
                                   struct fail *why)
{
    struct faulty *f = faulty_of(store);
    bool lost;
    if (fails(f, &lost) || lost)
        return fail_set(why, ST_AGAIN, 0, "the store is down");
    return store_get_many(f->inner, table, partition_key, row_keys, count, select, deadline_ms, arena, rows,
                          why);
}

static enum status faulty_query(struct store *store, const struct query *query, int64_t deadline_ms,
                                struct arena *arena, struct page *page, struct fail *why)
{
    struct faulty *f = faulty_of(store);
    bool lost;
    if (fails(f, &lost) || lost)
        return fail_set(why, ST_AGAIN, 0, "the store is down");
    return store_query(f->inner, query, deadline_ms, arena, page, why);
}

static int64_t faulty_now_ms(const struct store *store)
{
    const struct faulty *f = (const struct faulty *)store;
    return store_now_ms(f->inner) + f->offset_ms;
}

static const struct store_functions FAULTY = {
    .transact = faulty_transact,
    .get_many = faulty_get_many,
    .query = faulty_query,
    .now_ms = faulty_now_ms,
};

static void set_faults(struct faulty *f, enum fault fault, size_t from, size_t to)
{
    f->fault = fault;
    f->from = from;
    f->to = to;
    f->count = 0;
}

static void heal(struct faulty *f)
{
    set_faults(f, FAULT_REFUSED, NEVER, NEVER);
}

/* --- two hosts ----------------------------------------------------------------------------------------------- */

struct host {
    struct faulty store; /* its connection to the store of record */
    struct faulty spool;
    struct watch *watch;
    const char *owner;
    _Atomic bool stop;
};

struct fixture {
    char directory[64];
    char url[64];
    struct host hosts[2];
    struct arena arena;
    struct span recipients[2];
    size_t recipient_count;
};

static void open_faulty(struct faulty *f, const char *directory, const char *name)
{
    char path[96];
    struct fail why;
    (void)snprintf(path, sizeof path, "%s/%s", directory, name);
    *f = (struct faulty){.base.functions = &FAULTY};
    heal(f);
    if (store_open_sqlite(path, &f->inner, &why) != ST_OK)
        fail_msg("%s", why.text);
}

/* A new process on the host, which knows nothing of the one before. */
static void start_watch(struct fixture *f, struct host *host)
{
    struct watch_options options = {
        .transport = {.url = span_of(f->url), .hello = SPAN_LIT("leads.example.com"), .tls_off = true},
        .from = {.name = SPAN_LIT("Leads"), .address = SPAN_LIT("leads@example.com")},
        .recipients = f->recipients,
        .recipient_count = f->recipient_count,
        .owner = span_of(host->owner),
        .stop = &host->stop,
    };
    struct fail why;
    watch_free(host->watch);
    host->watch = NULL;
    if (watch_new(&options, &host->watch, &why) != ST_OK)
        fail_msg("%s", why.text);
}

static struct fixture *begin(size_t recipient_count)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    f->recipients[0] = SPAN_LIT("ops@example.com");
    f->recipients[1] = SPAN_LIT("night@example.com");
    f->recipient_count = recipient_count;
    (void)snprintf(f->directory, sizeof f->directory, "/tmp/leadhook-alarms-XXXXXX");
    assert_non_null(mkdtemp(f->directory));
    assert_true(start_server());
    (void)snprintf(f->url, sizeof f->url, "smtp://127.0.0.1:%u", server.connections.port);
    for (size_t i = 0; i < 2; i++) {
        struct host *host = &f->hosts[i];
        host->owner = i ? "22222222222222222222222222222222" : "11111111111111111111111111111111";
        open_faulty(&host->store, f->directory, "leads.db");
        open_faulty(&host->spool, f->directory, i ? "spool-b.db" : "spool-a.db");
        start_watch(f, host);
    }
    return f;
}

static void end(struct fixture *f)
{
    for (size_t i = 0; i < 2; i++) {
        watch_free(f->hosts[i].watch);
        store_close(f->hosts[i].store.inner);
        store_close(f->hosts[i].spool.inner);
    }
    stop_server();
    arena_release(&f->arena);
    assert_int_equal(remove_folder(f->directory), 0);
    free(f);
}

static enum status raise_in(struct faulty *store, enum alarm alarm, const char *text)
{
    struct fail why = {0};
    enum status status = alarm_raise(&store->base, alarm, text, soon(), &why);
    if (status != ST_OK && status != ST_EXISTS)
        fail_msg("%s", why.text);
    return status;
}

static enum status try_pass(struct host *host, bool with_spool)
{
    struct fail why = {0};
    return watch_pass(host->watch, &host->store.base, with_spool ? &host->spool.base : NULL, &why);
}

static void pass(struct host *host)
{
    assert_int_equal(try_pass(host, true), ST_OK);
}

static struct page rows(struct fixture *f, const struct faulty *store)
{
    return rows_between(store->inner, &f->arena, TABLE_OPS, ALARMS_PARTITION, "", "");
}

/* The only alarm there. */
static struct alarm_row row(struct fixture *f, const struct faulty *store)
{
    struct page page = rows(f, store);
    struct alarm_row alarm;
    assert_int_equal(page.count, 1);
    assert_int_equal(alarm_of_row(&page.rows[0], &alarm, NULL), ST_OK);
    return alarm;
}

/* Changes the only alarm there by hand, as another process would have left it. */
static void leave_as(struct fixture *f, const struct faulty *store, const struct alarm_row *alarm)
{
    struct page page = rows(f, store);
    struct operation merge = {.kind = OPERATION_MERGE};
    size_t failed;
    assert_int_equal(page.count, 1);
    assert_true(row_of_alarm_state(&merge.entity, &page.rows[0], alarm, &f->arena));
    merge.entity.etag = SPAN_LIT("*");
    assert_int_equal(store_transact(store->inner, TABLE_OPS, &merge, 1, soon(), &failed, NULL), ST_OK);
}

static void move_clocks(struct host *host, int64_t offset_ms)
{
    host->store.offset_ms = offset_ms;
    host->spool.offset_ms = offset_ms;
}

static void assert_text(struct span got, const char *want)
{
    if (!span_eq(got, span_of(want)))
        fail_msg("got '%.*s', want '%s'", SPAN_FMT(got), want);
}

/* --- raising ------------------------------------------------------------------------------------------------- */

static void test_raised_once_a_day(void **state)
{
    struct fixture *f = begin(1);
    struct faulty *store = &f->hosts[0].store;
    char host[256] = {0}, today[CLOCK_TEXT_BYTES];
    (void)state;
    (void)gethostname(host, sizeof host - 1);
    clock_iso_time(store_now_ms(&store->base), today);
    today[10] = '\0';
    assert_int_equal(raise_in(store, ALARM_SPOOLING, "the table answers 503"), ST_OK);
    assert_int_equal(raise_in(&f->hosts[1].store, ALARM_SPOOLING, "something else"), ST_EXISTS);
    struct alarm_row alarm = row(f, store);
    assert_text(alarm.event, "spooling");
    assert_text(alarm.day, today);
    assert_text(alarm.text, "the table answers 503");
    assert_text(alarm.host, host);
    assert_int_equal(alarm.state, ALARM_STATE_WAITING);
    assert_true(store_now_ms(&store->base) - alarm.received_ms < MINUTE_MS);

    assert_int_equal(raise_in(store, ALARM_SPOOL_FULL, ""), ST_OK);
    store->offset_ms = DAY_MS;
    assert_int_equal(raise_in(store, ALARM_SPOOLING, "the next day"), ST_OK);
    assert_int_equal(rows(f, store).count, 3);
    end(f);
}

static void test_raised_with_any_text(void **state)
{
    struct fixture *f = begin(1);
    struct faulty *store = &f->hosts[0].store;
    struct buf text = BUF_INIT(8 * LIMIT_ALARM_TEXT_BYTES);
    (void)state;
    buf_add_text(&text, "one\r\n\ttwo\x1b[31m\n\xff");
    while (text.len < 4 * LIMIT_ALARM_TEXT_BYTES)
        buf_add_text(&text, "\xe2\x82\xac");
    assert_int_equal(raise_in(store, ALARM_LEADS_LOST, text.data), ST_OK);
    struct alarm_row alarm = row(f, store);
    assert_true(span_starts(alarm.text, SPAN_LIT("one \n two\xef\xbf\xbd[31m\n\xef\xbf\xbd\xe2\x82\xac")));
    assert_true(alarm.text.len <= LIMIT_ALARM_TEXT_BYTES && alarm.text.len > LIMIT_ALARM_TEXT_BYTES - 3);
    assert_true(utf8_is_valid(alarm.text, NULL));
    buf_release(&text);
    end(f);
}

/* --- wrong keys ---------------------------------------------------------------------------------------------- */

static enum status look(struct tries *tries, uint64_t total, int64_t at_ms, struct faulty *store)
{
    struct fail why;
    return tries_look(tries, total, at_ms, &store->base, &why);
}

/* Many within an hour are told once a day, with one write; what came before the first look is not counted. */
static void test_wrong_keys(void **state)
{
    struct fixture *f = begin(1);
    struct faulty *store = &f->hosts[0].store;
    struct tries tries = {0};
    const int64_t begun = 1000;
    (void)state;
    assert_int_equal(look(&tries, 5000, begun, store), ST_OK);
    assert_int_equal(look(&tries, 5000 + TRIES_MANY - 1, begun + 30 * MINUTE_MS, store), ST_OK);
    assert_int_equal(rows(f, store).count, 0);
    assert_int_equal(look(&tries, 5000 + TRIES_MANY, begun + 50 * MINUTE_MS, store), ST_OK);
    struct alarm_row alarm = row(f, store);
    assert_text(alarm.event, "wrong-keys");
    char text[200], since[CLOCK_TEXT_BYTES];
    clock_iso_time(alarm.received_ms - 50 * MINUTE_MS, since);
    since[16] = '\0'; /* a second may have passed between the two looks at the clock */
    (void)snprintf(text, sizeof text,
                   "100 requests with a wrong key, or none, have come to this host since %s", since);
    assert_true(span_starts(alarm.text, span_of(text)));
    size_t operations = store->count;
    for (int i = 0; i < 60; i++)
        assert_int_equal(look(&tries, 6000 + 100 * (uint64_t)i, begun + (51 + i) * MINUTE_MS, store), ST_OK);
    assert_int_equal(store->count, operations);

    /* A new process of the same day finds that it is told; another day is another alarm. */
    struct tries other = {0};
    assert_int_equal(look(&other, 0, begun, store), ST_OK);
    assert_int_equal(look(&other, TRIES_MANY, begun + 1, store), ST_OK);
    assert_int_equal(rows(f, store).count, 1);
    store->offset_ms = DAY_MS;
    assert_int_equal(look(&other, 2 * TRIES_MANY, begun + 2, store), ST_OK);
    assert_int_equal(rows(f, store).count, 2);
    end(f);
}

/* Looks once a minute for ten hours at a counter that grows by so many at every such look; whether it is told. */
static bool tells_of(struct fixture *f, struct faulty *store, int per_look, int looks_between)
{
    struct tries tries = {0};
    uint64_t total = 0;
    for (int minute = 0; minute < 600; minute++) {
        total += minute % looks_between == 0 ? (uint64_t)per_look : 0;
        assert_int_equal(look(&tries, total, minute * MINUTE_MS, store), ST_OK);
    }
    return rows(f, store).count > 0;
}

static void test_wrong_keys_over_time(void **state)
{
    struct fixture *f = begin(1);
    struct faulty *store = &f->hosts[0].store;
    struct tries tries = {0};
    (void)state;
    /* Strays that never end: 80 an hour, one by one or all at once. */
    assert_false(tells_of(f, store, 4, 3));
    assert_false(tells_of(f, store, TRIES_MANY - 1, 120));
    /* The counters begin anew, with another file. */
    assert_int_equal(look(&tries, 1000000, 0, store), ST_OK);
    assert_int_equal(look(&tries, TRIES_MANY, MINUTE_MS, store), ST_OK);
    /* Nobody has looked for three hours: what came meanwhile came at some time in them. */
    assert_int_equal(look(&tries, 5 * TRIES_MANY / 2, 181 * MINUTE_MS, store), ST_OK);
    assert_int_equal(rows(f, store).count, 0);
    /* The store does not take it now. */
    set_faults(store, FAULT_REFUSED, 0, NEVER);
    assert_int_equal(look(&tries, 5 * TRIES_MANY, 182 * MINUTE_MS, store), ST_AGAIN);
    heal(store);
    assert_int_equal(look(&tries, 5 * TRIES_MANY, 183 * MINUTE_MS, store), ST_OK);
    assert_int_equal(rows(f, store).count, 1);
    end(f);

    /* Two halves within an hour are many, whenever that began. */
    f = begin(1);
    tries = (struct tries){0};
    for (int minute = 0; minute < 115; minute++) {
        uint64_t total = TRIES_MANY / 2 * ((minute >= 60 ? 1u : 0u) + (minute >= 110 ? 1u : 0u));
        assert_int_equal(look(&tries, total, minute * MINUTE_MS, &f->hosts[0].store), ST_OK);
    }
    assert_int_equal(rows(f, &f->hosts[0].store).count, 1);
    end(f);
}

/* --- the message --------------------------------------------------------------------------------------------- */

static struct alarm_notice notice_of(const char *event, const char *happened)
{
    static const struct mail_address from = {.name = {"Leads", 5}, .address = {"leads@example.com", 17}};
    struct alarm_words words = alarm_words(span_of(event));
    return (struct alarm_notice){
        .event = span_of(event),
        .day = SPAN_LIT("2026-11-21"),
        .received_ms = 1795223429000,
        .title = span_of(words.title),
        .happened = span_of(happened),
        .meaning = span_of(words.meaning),
        .action = span_of(words.action),
        .lasts = words.lasts,
        .host = SPAN_LIT("web1"),
        .from = &from,
        .to = SPAN_LIT("ops@example.com"),
    };
}

static void compose(const struct alarm_notice *n, struct buf *out)
{
    struct fail why;
    *out = BUF_INIT(LIMIT_MAIL_BYTES);
    if (mail_compose_alarm(out, n, &why) != ST_OK)
        fail_msg("not composed: %s", why.text);
}

/* 7 bits, CRLF, our headers in their order and no other, short lines, no dot in front. */
static void check_message(struct span message)
{
    static const char *const names[] = {"Date: ",
                                        "From: ",
                                        "To: ",
                                        "Message-ID:",
                                        "Subject: ",
                                        "Auto-Submitted: auto-generated",
                                        "X-Auto-Response-",
                                        "X-Lead-Alarm: ",
                                        "MIME-Version: ",
                                        "Content-Type: text/plain; charset=utf-8",
                                        "Content-Transfer-Encoding: quoted-printable"};
    struct span rest = message, line;
    size_t name = 0;
    bool in_headers = true;
    assert_true(message.len > 2 && message.ptr[message.len - 1] == '\n');
    while (rest.len && span_next(&rest, '\n', &line)) {
        assert_true(line.len > 0 && line.ptr[line.len - 1] == '\r');
        line.len--;
        for (size_t i = 0; i < line.len; i++)
            assert_in_range((unsigned char)line.ptr[i], 0x20, 0x7E);
        assert_true(line.len <= (in_headers ? 78 : 76));
        assert_false(span_starts(line, SPAN_LIT(".")));
        if (in_headers && line.len == 0) {
            in_headers = false;
        } else if (in_headers && line.ptr[0] != ' ') {
            if (name >= sizeof names / sizeof names[0] || !span_starts(line, span_of(names[name])))
                fail_msg("header line '%.*s' is not one of ours in its place", SPAN_FMT(line));
            name++;
        }
    }
    assert_false(in_headers);
    assert_int_equal(name, sizeof names / sizeof names[0]);
}

/* The body with its quoted-printable decoded. */
static void decode(struct span message, struct buf *out)
{
    const char *body = memmem(message.ptr, message.len, "\r\n\r\n", 4);
    assert_non_null(body);
    message = span_from(message, (size_t)(body - message.ptr) + 4);
    *out = BUF_INIT(LIMIT_MAIL_BYTES);
    while (message.len) {
        size_t len = 1;
        if (span_starts(message, SPAN_LIT("=\r\n"))) {
            len = 3;
        } else if (message.ptr[0] == '=' && message.len >= 3) {
            char escape[3] = {'%', message.ptr[1], message.ptr[2]};
            len = 3;
            percent_decode(out, (struct span){escape, 3}, PLUS_STAYS);
        } else if (message.ptr[0] != '\r') {
            buf_add_char(out, message.ptr[0]);
        }
        message = span_from(message, len);
    }
}

/* The header's text with its lines joined; in the arena. */
static struct span header(struct fixture *f, struct span message, const char *name)
{
    struct buf text = BUF_INIT(LIMIT_MAIL_BYTES);
    struct span rest = message, line, copy;
    bool inside = false;
    while (span_next(&rest, '\n', &line) && line.len > 1) {
        inside = line.ptr[0] == ' ' ? inside : span_starts(line, span_of(name));
        if (inside)
            buf_add(&text, span_cut(line, 0, line.len - 1));
    }
    assert_true(text.len > 0 && arena_copy(&f->arena, buf_span(&text), &copy));
    buf_release(&text);
    return copy;
}

static bool has(const struct buf *text, const char *needle)
{
    return memmem(text->data, text->len, needle, strlen(needle)) != NULL;
}

static void test_every_event_has_its_message(void **state)
{
    static const char happened[] = "the spool at /var/lib/leadhook/spool.db\n.\nFrom here on: \xe2\x82\xac 5";
    struct fixture *f = begin(1);
    (void)state;
    for (size_t i = 0; i < ALARM_COUNT; i++) {
        const char *name = alarm_name((enum alarm)i);
        struct alarm_words words = alarm_words(span_of(name));
        struct alarm_notice n = notice_of(name, happened);
        struct buf message, again, body, id = BUF_INIT(256), subject = BUF_INIT(256);
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(alarm_words(span_of(alarm_name((enum alarm)j))).title, words.title);
        compose(&n, &message);
        compose(&n, &again);
        assert_string_equal(message.data, again.data);
        check_message(buf_span(&message));
        buf_addf(&subject, "Subject: [leadhook] %s%s", words.title,
                 words.lasts ? "" : " (2026-11-21 01:10 UTC)");
        assert_text(header(f, buf_span(&message), "Subject:"), subject.data);
        buf_addf(&id, "Message-ID: <alarm.2026-11-21.%s.0@example.com>", name);
        assert_text(header(f, buf_span(&message), "Message-ID:"), id.data);
        decode(buf_span(&message), &body);
        assert_true(has(
            &body, "    the spool at /var/lib/leadhook/spool.db\n    .\n    From here on: \xe2\x82\xac 5\n"));
        assert_true(has(&body, words.lasts ? "  Noticed    2026-11-21 01:10 UTC\n"
                                           : "  Since      2026-11-21 01:10 UTC\n"));
        assert_true(has(&body, "web1"));
        for (const char *part = words.meaning; part; part = strchr(part + 1, '\n')) {
            const char *first = part[0] == '\n' ? part + 1 : part;
            char line[600];
            (void)snprintf(line, sizeof line, "    %.*s\n", (int)strcspn(first, "\n"), first);
            assert_true(has(&body, line));
        }
        assert_true(has(&body, "What to do\n\n    "));
        assert_false(has(&body, "[...]")); /* nothing of it was cut */
        buf_release(&message);
        buf_release(&again);
        buf_release(&body);
        buf_release(&id);
        buf_release(&subject);
    }
    assert_string_equal(alarm_words(SPAN_LIT("from-the-future")).title,
                        "An event that this version of leadhook does not know");
    end(f);
}

static void test_message_as_a_whole(void **state)
{
    struct buf message, local = BUF_INIT(LIMIT_MAIL_BYTES), want = BUF_INIT(LIMIT_MAIL_BYTES);
    struct alarm_notice n = notice_of("quarantined", "1 payload with the key 'marketplace'");
    (void)state;
    compose(&n, &message);
    for (size_t i = 0; i < message.len; i++) {
        if (message.data[i] != '\r')
            buf_add_char(&local, message.data[i]);
    }
    assert_int_equal(file_read("tests/unit/mail/alarm.eml", FILE_PUBLIC, &want, NULL), ST_OK);
    assert_string_equal(local.data, want.data);
    buf_release(&message);
    buf_release(&local);
    buf_release(&want);
}

static void test_message_refuses_header_values(void **state)
{
    static const struct {
        const char *event, *day, *to;
    } cases[] = {
        {"spooling\r\nBcc: x@example.com", "2026-11-21", "ops@example.com"},
        {"", "2026-11-21", "ops@example.com"},
        {"Spooling", "2026-11-21", "ops@example.com"},
        {"a-name-of-more-than-sixty-characters-which-no-event-of-ours-has-at-all", "2026-11-21",
         "ops@example.com"},
        {"spooling", "2026-11-21>", "ops@example.com"},
        {"spooling", "", "ops@example.com"},
        {"spooling", "2026-11-21", "ops@example.com>\r\nBcc: <x@example.com"},
        {"spooling", "2026-11-21", ""},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct alarm_notice n = notice_of("spooling", "x");
        struct buf out = BUF_INIT(LIMIT_MAIL_BYTES);
        struct fail why;
        n.event = span_of(cases[i].event);
        n.day = span_of(cases[i].day);
        n.to = span_of(cases[i].to);
        if (mail_compose_alarm(&out, &n, &why) != ST_INVALID)
            fail_msg("case %zu is taken", i);
        assert_int_equal(out.len, 0);
        buf_release(&out);
    }
}

/* --- one mail for all hosts ---------------------------------------------------------------------------------- */

static void test_two_hosts_one_mail(void **state)
{
    struct fixture *f = begin(2);
    (void)state;
    assert_int_equal(raise_in(&f->hosts[0].store, ALARM_MAIL_PARKED, "one"), ST_OK);
    assert_int_equal(raise_in(&f->hosts[1].store, ALARM_MAIL_PARKED, "one"), ST_EXISTS);
    for (size_t i = 0; i < 4; i++)
        pass(&f->hosts[i % 2]);
    assert_int_equal(mails_to("ops@example.com"), 1);
    assert_int_equal(mails_to("night@example.com"), 1);
    assert_int_equal(row(f, &f->hosts[0].store).state, ALARM_STATE_SENT);
    assert_true(watch_due_in_ms(f->hosts[0].watch) == INT64_MAX);
    check_message(buf_span(&server.mails[0].text));
    end(f);
}

static void pass_other_host(void *context)
{
    pass(context);
}

/* Whatever the other host does between two operations of ours: before the claim it wins, afterwards we do. */
static void test_two_hosts_in_every_order(void **state)
{
    size_t at = 0;
    (void)state;
    for (bool called = true; called; at++) {
        struct fixture *f = begin(2);
        struct host *ours = &f->hosts[0];
        assert_int_equal(raise_in(&ours->store, ALARM_QUARANTINED, "one"), ST_OK);
        ours->store.count = 0;
        ours->store.hook_at = at;
        ours->store.hook = pass_other_host;
        ours->store.context = &f->hosts[1];
        pass(ours);
        called = !ours->store.hook;
        pass(&f->hosts[1]);
        if (mails_to("ops@example.com") != 1 || mails_to("night@example.com") != 1)
            fail_msg("the other host before operation %zu: %zu and %zu mails", at,
                     mails_to("ops@example.com"), mails_to("night@example.com"));
        assert_int_equal(row(f, &ours->store).state, ALARM_STATE_SENT);
        end(f);
    }
    assert_true(at > 6); /* query, claim, read, claim, read, record */
}

struct takeover {
    struct fixture *fixture;
    struct host *host;
};

/* Another host claims the alarm and is about to send it. */
static void take_over(void *context)
{
    struct takeover *t = context;
    struct alarm_row alarm = row(t->fixture, &t->host->store);
    alarm.state = ALARM_STATE_CLAIMED;
    alarm.owner = SPAN_LIT("somebody else");
    leave_as(t->fixture, &t->host->store, &alarm);
}

static void test_taken_over_in_the_middle(void **state)
{
    static const struct {
        const char *name;
        size_t recipients, operation;
        const char *refuses;
        size_t mails;
        enum alarm_state after;
    } cases[] = {
        {"before the claim", 2, 1, NULL, 0, ALARM_STATE_CLAIMED},
        {"before the claim is renewed for the second recipient", 2, 3, NULL, 1, ALARM_STATE_CLAIMED},
        {"before a failure is recorded", 1, 3, "ops", 0, ALARM_STATE_CLAIMED},
        {"before the mail is recorded: the other one need not send it", 1, 3, NULL, 1, ALARM_STATE_SENT},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct fixture *f = begin(cases[i].recipients);
        struct host *host = &f->hosts[0];
        struct takeover takeover = {f, host};
        assert_int_equal(raise_in(&host->store, ALARM_QUARANTINED, "one"), ST_OK);
        set_server(cases[i].refuses, false);
        host->store.count = 0;
        host->store.hook_at = cases[i].operation;
        host->store.hook = take_over;
        host->store.context = &takeover;
        pass(host);
        assert_null(host->store.hook);
        struct alarm_row alarm = row(f, &host->store);
        if (mails_to(NULL) != cases[i].mails || alarm.state != cases[i].after)
            fail_msg("%s: %zu mails, state %d", cases[i].name, mails_to(NULL), (int)alarm.state);
        if (alarm.state == ALARM_STATE_CLAIMED)
            assert_text(alarm.owner, "somebody else");
        end(f);
    }
}

/* Both have it in their spools, because the table did not answer when it was raised. */
static void test_spools_are_brought_together(void **state)
{
    struct fixture *f = begin(1);
    (void)state;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(raise_in(&f->hosts[i].spool, ALARM_SPOOLING, "no answer"), ST_OK);
    for (size_t i = 0; i < 4; i++)
        pass(&f->hosts[i % 2]);
    assert_int_equal(mails_to(NULL), 1);
    struct alarm_row alarm = row(f, &f->hosts[0].store);
    assert_int_equal(alarm.state, ALARM_STATE_SENT);
    assert_text(alarm.text, "no answer");
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(row(f, &f->hosts[i].spool).state, ALARM_STATE_SETTLED);
        /* The same again in the afternoon is no news. */
        assert_int_equal(raise_in(&f->hosts[i].spool, ALARM_SPOOLING, "no answer"), ST_EXISTS);
        set_faults(&f->hosts[i].store, FAULT_REFUSED, 0, NEVER);
        assert_int_equal(try_pass(&f->hosts[i], true), ST_AGAIN);
    }
    assert_int_equal(mails_to(NULL), 1);
    end(f);
}

/* --- the table does not answer ------------------------------------------------------------------------------- */

static void test_table_down_mails_from_the_spool(void **state)
{
    struct fixture *f = begin(2);
    struct host *host = &f->hosts[0], *other = &f->hosts[1];
    (void)state;
    set_faults(&host->store, FAULT_REFUSED, 0, NEVER);
    assert_int_equal(raise_in(&host->spool, ALARM_SPOOLING, "no answer"), ST_OK);
    assert_int_equal(raise_in(&host->spool, ALARM_SPOOL_FULL, ""), ST_OK);
    assert_int_equal(try_pass(host, true), ST_AGAIN);
    assert_int_equal(mails_to("ops@example.com"), 2);
    assert_int_equal(mails_to("night@example.com"), 2);
    assert_int_equal(host->store.count, 1); /* it is asked once in a pass, however many alarms wait */
    assert_int_equal(try_pass(host, true), ST_AGAIN);
    start_watch(f, host); /* and a new process does not send them again */
    assert_int_equal(try_pass(host, true), ST_AGAIN);
    assert_int_equal(mails_to(NULL), 4);

    /* When the table answers it learns of the mails, before another host brings the same alarm. */
    heal(&host->store);
    pass(host);
    assert_int_equal(rows(f, &host->store).count, 2);
    assert_int_equal(raise_in(&other->spool, ALARM_SPOOLING, "no answer"), ST_OK);
    pass(other);
    pass(other);
    assert_int_equal(mails_to(NULL), 4);
    assert_int_equal(row(f, &other->spool).state, ALARM_STATE_SETTLED);
    end(f);
}

/* The host's clock says nothing by the table's: what waited in the spool begins anew. */
static void test_clocks_an_hour_apart(void **state)
{
    struct fixture *f = begin(1);
    struct host *host = &f->hosts[0];
    (void)state;
    host->spool.offset_ms = 60 * MINUTE_MS;
    assert_int_equal(raise_in(&host->spool, ALARM_SPOOLING, "no answer"), ST_OK);
    set_faults(&host->store, FAULT_REFUSED, 0, NEVER);
    set_server("ops", false);
    assert_int_equal(try_pass(host, true), ST_AGAIN);
    assert_int_equal(row(f, &host->spool).tries, 1);
    heal(&host->store);
    set_server(NULL, false);
    pass(host);
    assert_int_equal(mails_to(NULL), 1);
    end(f);
}

/* Told from the spool, while the table has a copy that waits: another host does not mail it after us. */
static void test_table_learns_of_the_mail(void **state)
{
    struct fixture *f = begin(1);
    struct host *host = &f->hosts[0];
    (void)state;
    assert_int_equal(raise_in(&host->spool, ALARM_SPOOLING, "no answer"), ST_OK);
    set_faults(&host->store, FAULT_ANSWER_LOST, 0, NEVER);
    assert_int_equal(try_pass(host, true), ST_UNKNOWN);
    assert_int_equal(mails_to(NULL), 1);
    assert_int_equal(row(f, &host->store).state, ALARM_STATE_WAITING);
    heal(&host->store);
    start_watch(f, host);
    pass(host);
    pass(&f->hosts[1]);
    assert_int_equal(mails_to(NULL), 1);
    assert_int_equal(row(f, &host->store).state, ALARM_STATE_SENT);
    assert_int_equal(row(f, &host->spool).state, ALARM_STATE_SETTLED);
    end(f);
}

/* The spool's disk has failed: the store's alarms are mailed all the same. */
static void test_broken_spool_does_not_stop_the_table(void **state)
{
    struct fixture *f = begin(1);
    struct host *host = &f->hosts[0];
    (void)state;
    set_faults(&host->spool, FAULT_REFUSED, 0, NEVER);
    assert_int_equal(raise_in(&host->store, ALARM_SPOOL_DAMAGED, ""), ST_OK);
    assert_int_equal(try_pass(host, true), ST_AGAIN);
    assert_int_equal(mails_to(NULL), 1);
    end(f);
}

static void test_without_a_spool(void **state)
{
    struct fixture *f = begin(1);
    (void)state;
    assert_int_equal(raise_in(&f->hosts[0].store, ALARM_MAIL_PAUSED, ""), ST_OK);
    assert_int_equal(try_pass(&f->hosts[0], false), ST_OK);
    assert_int_equal(mails_to(NULL), 1);
    end(f);
}

/* --- failures of the store ----------------------------------------------------------------------------------- */

/* false: there is no such operation. */
static bool fail_at(struct faulty *(*which)(struct host *host), enum fault fault, size_t at)
{
    struct fixture *f = begin(2);
    struct host *host = &f->hosts[0];
    struct faulty *failing = which(host);
    assert_int_equal(raise_in(&host->spool, ALARM_QUARANTINED, "one"), ST_OK);
    set_faults(failing, fault, at, at + 1);
    (void)try_pass(host, true);
    (void)try_pass(host, true);
    bool failed = failing->count > at;
    heal(failing);
    pass(host);
    pass(host);
    pass(&f->hosts[1]);
    if (mails_to("ops@example.com") != 1 || mails_to("night@example.com") != 1)
        fail_msg("fault %d at operation %zu: %zu and %zu mails", (int)fault, at, mails_to("ops@example.com"),
                 mails_to("night@example.com"));
    assert_int_equal(row(f, &host->store).state, ALARM_STATE_SENT);
    assert_int_equal(row(f, &host->spool).state, ALARM_STATE_SETTLED);
    end(f);
    return failed;
}

static struct faulty *table_of(struct host *host)
{
    return &host->store;
}

static struct faulty *spool_of(struct host *host)
{
    return &host->spool;
}

/* One operation fails, or its answer is lost, whichever it is: one mail, as long as the process lives. */
static void test_any_operation_fails(void **state)
{
    (void)state;
    for (enum fault fault = FAULT_REFUSED; fault <= FAULT_ANSWER_LOST; fault++) {
        size_t table = 0, spool = 0;
        while (fail_at(table_of, fault, table))
            table++;
        while (fail_at(spool_of, fault, spool))
            spool++;
        assert_true(table > 8 && spool > 3);
    }
}

/* The process dies before this operation of its: its successor, here or elsewhere, tells the operator; twice
 * only when the mail was out and not recorded, and then with the same bytes.  false: there is no such operation. */
static bool kill_at(size_t at, size_t successor, size_t *repeated)
{
    struct fixture *f = begin(1);
    struct host *host = &f->hosts[0];
    assert_int_equal(raise_in(&host->store, ALARM_QUARANTINED, "one"), ST_OK);
    set_faults(&host->store, FAULT_REFUSED, at, NEVER);
    (void)try_pass(host, false);
    bool killed = host->store.count > at;
    size_t sent = mails_to(NULL);
    bool recorded = row(f, &host->store).state == ALARM_STATE_SENT;
    heal(&host->store);
    start_watch(f, host);
    if (successor != 0)
        move_clocks(&f->hosts[successor], RETRY_CLAIM_EXPIRES_MS + MINUTE_MS);
    assert_int_equal(try_pass(&f->hosts[successor], false), ST_OK);
    assert_int_equal(mails_to(NULL), recorded ? 1 : sent + 1);
    assert_int_equal(row(f, &host->store).state, ALARM_STATE_SENT);
    if (mails_to(NULL) == 2) {
        assert_string_equal(server.mails[0].text.data, server.mails[1].text.data);
        ++*repeated;
    }
    end(f);
    return killed;
}

static void test_killed_at_any_operation(void **state)
{
    (void)state;
    for (size_t successor = 0; successor < 2; successor++) {
        size_t at = 0, repeated = 0;
        while (kill_at(at, successor, &repeated))
            at++;
        assert_true(at > 3);
        assert_int_equal(repeated, 1); /* between the mail and its record is one operation */
    }
}

/* --- claims, retries, time ----------------------------------------------------------------------------------- */

/* Claimed by this owner, in this moment. */
static struct fixture *begin_claimed(const char *owner)
{
    struct fixture *f = begin(1);
    struct faulty *store = &f->hosts[0].store;
    assert_int_equal(raise_in(store, ALARM_MAIL_PARKED, "one"), ST_OK);
    struct alarm_row alarm = row(f, store);
    alarm.state = ALARM_STATE_CLAIMED;
    alarm.owner = span_of(owner);
    leave_as(f, store, &alarm);
    return f;
}

static void test_claim_of_another_host_expires(void **state)
{
    struct fixture *f = begin_claimed("somebody else");
    struct host *host = &f->hosts[0];
    (void)state;
    pass(host);
    assert_int_equal(mails_to(NULL), 0);
    int64_t due_ms = watch_due_in_ms(host->watch);
    assert_true(due_ms > RETRY_CLAIM_EXPIRES_MS - MINUTE_MS && due_ms <= RETRY_CLAIM_EXPIRES_MS);
    move_clocks(host, RETRY_CLAIM_EXPIRES_MS - MINUTE_MS);
    pass(host);
    assert_int_equal(mails_to(NULL), 0);
    move_clocks(host, RETRY_CLAIM_EXPIRES_MS);
    pass(host);
    assert_int_equal(mails_to(NULL), 1);
    end(f);
}

static void test_claim_of_our_predecessor_is_ours(void **state)
{
    struct fixture *f = begin_claimed("11111111111111111111111111111111");
    (void)state;
    pass(&f->hosts[0]);
    assert_int_equal(mails_to(NULL), 1);
    end(f);
}

static void test_retries(void **state)
{
    struct fixture *f = begin(2);
    struct host *host = &f->hosts[0];
    (void)state;
    assert_int_equal(raise_in(&host->store, ALARM_MAIL_PARKED, "one"), ST_OK);
    set_server("night", false);
    pass(host);
    pass(host);
    struct alarm_row alarm = row(f, &host->store);
    assert_int_equal(alarm.state, ALARM_STATE_WAITING);
    assert_int_equal(alarm.tries, 1);
    assert_text(alarm.sent_to, "ops@example.com");
    assert_non_null(memmem(alarm.error.ptr, alarm.error.len, "450", 3));
    int64_t due_ms = watch_due_in_ms(host->watch);
    assert_true(due_ms > MINUTE_MS / 2 && due_ms <= 2 * MINUTE_MS);

    move_clocks(host, 2 * MINUTE_MS); /* the second wait is of five minutes */
    pass(host);
    assert_int_equal(row(f, &host->store).tries, 2);
    move_clocks(host, 4 * MINUTE_MS);
    pass(host);
    assert_int_equal(row(f, &host->store).tries, 2);
    assert_int_equal(mails_to("night@example.com"), 0);

    set_server(NULL, false);
    start_watch(f, host);
    move_clocks(host, 9 * MINUTE_MS);
    pass(host);
    assert_int_equal(mails_to("ops@example.com"), 1);
    assert_int_equal(mails_to("night@example.com"), 1);
    alarm = row(f, &host->store);
    assert_int_equal(alarm.state, ALARM_STATE_SENT);
    assert_text(alarm.sent_to, "ops@example.com,night@example.com");
    end(f);
}

/* Two days, then it is no news any more. */
static void test_given_up_after_two_days(void **state)
{
    struct fixture *f = begin(1);
    struct host *host = &f->hosts[0];
    int64_t offset_ms = 0;
    (void)state;
    assert_int_equal(raise_in(&host->store, ALARM_MAIL_PARKED, "one"), ST_OK);
    set_server("ops", false);
    while (offset_ms < 3 * DAY_MS) {
        move_clocks(host, offset_ms);
        pass(host);
        offset_ms += 5 * 60 * MINUTE_MS; /* more than the longest wait */
    }
    int32_t tries = row(f, &host->store).tries;
    assert_int_equal(tries, 10);
    assert_true(watch_due_in_ms(host->watch) == INT64_MAX);
    set_server(NULL, false);
    pass(host);
    assert_int_equal(mails_to(NULL), 0);
    end(f);
}

/* All bytes were out and no answer came: repeated twice at most, half an hour apart. */
static void test_ambiguous(void **state)
{
    struct fixture *f = begin(1);
    struct host *host = &f->hosts[0];
    (void)state;
    assert_int_equal(raise_in(&host->store, ALARM_MAIL_PARKED, "one"), ST_OK);
    set_server(NULL, true);
    for (int64_t i = 0; i < 6; i++) {
        move_clocks(host, i * 31 * MINUTE_MS);
        pass(host);
        pass(host); /* it waits */
        size_t want = i < RETRY_AMBIGUOUS_MAX ? (size_t)i + 1 : RETRY_AMBIGUOUS_MAX + 1;
        assert_int_equal(mails_to(NULL), want);
        struct alarm_row alarm = row(f, &host->store);
        assert_int_equal(alarm.ambiguous, want);
        assert_int_equal(alarm.tries, 0);
        assert_int_equal(alarm.state, i < RETRY_AMBIGUOUS_MAX ? ALARM_STATE_WAITING : ALARM_STATE_SENT);
    }
    assert_string_equal(server.mails[0].text.data, server.mails[RETRY_AMBIGUOUS_MAX].text.data);
    end(f);
}

/* Another host, of whose mail we cannot know, was faster: the operator has it. */
static void test_refused_as_a_duplicate(void **state)
{
    struct fixture *f = begin(1);
    (void)state;
    assert_int_equal(raise_in(&f->hosts[0].store, ALARM_MAIL_PARKED, "one"), ST_OK);
    server.has_it_already = true;
    pass(&f->hosts[0]);
    assert_int_equal(row(f, &f->hosts[0].store).state, ALARM_STATE_SENT);
    end(f);
}

static void test_stop(void **state)
{
    struct fixture *f = begin(2);
    struct host *host = &f->hosts[0];
    (void)state;
    assert_int_equal(raise_in(&host->store, ALARM_MAIL_PARKED, "one"), ST_OK);
    /* In the middle: what was broken off has not failed, and the other recipient is left to the successor. */
    set_server("ops", false);
    server.stops = &host->stop;
    pass(host);
    assert_int_equal(mails_to(NULL), 0);
    struct alarm_row alarm = row(f, &host->store);
    assert_int_equal(alarm.state, ALARM_STATE_WAITING);
    assert_int_equal(alarm.tries, 0);
    /* And before. */
    set_server(NULL, false);
    pass(host);
    assert_int_equal(mails_to(NULL), 0);
    atomic_store(&host->stop, false);
    pass(host);
    assert_int_equal(mails_to(NULL), 2);
    end(f);
}

/* --- what else may be found ---------------------------------------------------------------------------------- */

static void test_without_recipients(void **state)
{
    struct fixture *f = begin(0);
    struct host *host = &f->hosts[0];
    (void)state;
    assert_int_equal(raise_in(&host->spool, ALARM_SPOOLING, "no answer"), ST_OK);
    pass(host);
    pass(host);
    assert_int_equal(mails_to(NULL), 0);
    assert_int_equal(row(f, &host->store).state, ALARM_STATE_WAITING); /* for a host that has some */
    end(f);
}

static void insert_by_hand(struct fixture *f, const struct faulty *store, const char *key, const char *state,
                           int32_t tries)
{
    struct operation insert = {.kind = OPERATION_INSERT};
    struct span key_copy;
    size_t failed;
    assert_true(arena_copy(&f->arena, span_of(key), &key_copy));
    assert_true(entity_init(&insert.entity, SPAN_LIT(ALARMS_PARTITION), key_copy, &f->arena));
    entity_add_text(&insert.entity, "State", span_of(state));
    entity_add_int(&insert.entity, "Tries", tries);
    assert_int_equal(store_transact(store->inner, TABLE_OPS, &insert, 1, soon(), &failed, NULL), ST_OK);
}

/* Rows that nobody understands do not stop the others, and are not touched. */
static void test_strange_rows(void **state)
{
    struct fixture *f = begin(1);
    struct host *host = &f->hosts[0];
    (void)state;
    insert_by_hand(f, &host->store, "9999-12-31", "waiting", 0);
    insert_by_hand(f, &host->store, "9999-12-31-Bad Name", "waiting", 0);
    insert_by_hand(f, &host->store, "9999-12-31-odd", "asleep", 0);
    insert_by_hand(f, &host->store, "zzz", "waiting", 0);
    insert_by_hand(f, &host->spool, "zzz", "waiting", 0);
    pass(host);
    assert_int_equal(mails_to(NULL), 0);

    insert_by_hand(f, &host->store, "9999-12-31-from-the-future", "waiting", INT32_MIN);
    assert_int_equal(raise_in(&host->store, ALARM_MAIL_PARKED, "one"), ST_OK);
    set_server("ops", false);
    pass(host);
    set_server(NULL, false);
    move_clocks(host, 2 * MINUTE_MS);
    pass(host);
    assert_int_equal(mails_to(NULL), 2); /* that of another version is mailed with words that fit any */
    assert_int_equal(rows(f, &host->store).count, 6);
    end(f);
}

static void test_old_rows_are_deleted(void **state)
{
    enum { OLD = 450 }; /* more than a pass deletes */
    struct fixture *f = begin(1);
    struct host *host = &f->hosts[0];
    struct faulty *stores[] = {&host->store, &host->spool};
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        stores[i]->offset_ms = -31 * DAY_MS;
        assert_int_equal(raise_in(stores[i], ALARM_SPOOLING, "old"), ST_OK);
        stores[i]->offset_ms = -29 * DAY_MS;
        assert_int_equal(raise_in(stores[i], ALARM_SPOOLING, "not so old"), ST_OK);
        stores[i]->offset_ms = 0;
    }
    pass(host);
    for (size_t i = 0; i < 2; i++)
        assert_text(row(f, stores[i]).text, "not so old");
    assert_int_equal(mails_to(NULL), 0);

    for (int i = 0; i < OLD; i++) {
        char key[64];
        (void)snprintf(key, sizeof key, "2020-01-01-event-%d", i);
        insert_by_hand(f, &host->store, key, "sent", 0);
    }
    start_watch(f, host);
    pass(host);
    size_t left = rows(f, &host->store).count;
    assert_in_range(left, 2, OLD); /* some, not all at once */
    for (size_t i = 0; i < 5; i++)
        pass(host);
    assert_text(row(f, &host->store).text, "not so old");
    end(f);
}

static void test_too_many_recipients(void **state)
{
    struct span recipients[LIMIT_RECIPIENTS + 1] = {{0}};
    struct watch_options options = {.recipients = recipients, .recipient_count = LIMIT_RECIPIENTS + 1};
    struct watch *watch;
    struct fail why;
    (void)state;
    assert_int_equal(watch_new(&options, &watch, &why), ST_INVALID);
    options.recipient_count = 1; /* a transport without a URL */
    assert_int_equal(watch_new(&options, &watch, &why), ST_INVALID);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_raised_once_a_day),
        cmocka_unit_test(test_raised_with_any_text),
        cmocka_unit_test(test_wrong_keys),
        cmocka_unit_test(test_wrong_keys_over_time),
        cmocka_unit_test(test_every_event_has_its_message),
        cmocka_unit_test(test_message_as_a_whole),
        cmocka_unit_test(test_message_refuses_header_values),
        cmocka_unit_test(test_two_hosts_one_mail),
        cmocka_unit_test(test_two_hosts_in_every_order),
        cmocka_unit_test(test_taken_over_in_the_middle),
        cmocka_unit_test(test_spools_are_brought_together),
        cmocka_unit_test(test_table_down_mails_from_the_spool),
        cmocka_unit_test(test_clocks_an_hour_apart),
        cmocka_unit_test(test_table_learns_of_the_mail),
        cmocka_unit_test(test_broken_spool_does_not_stop_the_table),
        cmocka_unit_test(test_without_a_spool),
        cmocka_unit_test(test_any_operation_fails),
        cmocka_unit_test(test_killed_at_any_operation),
        cmocka_unit_test(test_claim_of_another_host_expires),
        cmocka_unit_test(test_claim_of_our_predecessor_is_ours),
        cmocka_unit_test(test_retries),
        cmocka_unit_test(test_given_up_after_two_days),
        cmocka_unit_test(test_ambiguous),
        cmocka_unit_test(test_refused_as_a_duplicate),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_without_recipients),
        cmocka_unit_test(test_strange_rows),
        cmocka_unit_test(test_old_rows_are_deleted),
        cmocka_unit_test(test_too_many_recipients),
    };
    return cmocka_run_group_tests_name("alarms", tests, NULL, NULL);
}
