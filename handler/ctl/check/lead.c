/* A test lead, the whole way: posted with a key as a sender does, then looked for in the store until its mails are done.
 *
 * It names a person of the reserved domain .invalid and is marked MSFT_TEST, as Partner Center's own are, so that it is
 * stored and mailed as a test.  Its row's key follows from its bytes (lib/lead), which is where it is looked for.
 */
#include "handler/ctl/check/check.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"
#include "lib/base/file.h"
#include "lib/base/json_read.h"
#include "lib/base/json_write.h"

/* L3 */
#include "lib/net/http.h"
#include "lib/net/loopback.h"

#define PERSON    "test@leadctl-check.invalid"
#define KEY_NAME  "LEADHOOK_TEST_KEY"
#define KEY_PARAM "key="

enum {
    LOOK_EVERY_MS = 250,
    ANSWER_BYTES = 64 * 1024,
    PAGE_ROWS = 32,
    DETAIL_BYTES = 300,
};

/* --- the key ----------------------------------------------------------------------------------------------------- */

/* Typed without being shown. */
static enum status ask_for_key(struct buf *text, struct fail *why)
{
    struct termios shown, hidden;
    char line[LIMIT_KEY_BYTES + 64] = "";
    if (!isatty(STDIN_FILENO) || tcgetattr(STDIN_FILENO, &shown) != 0)
        return fail_set(why, ST_NOT_FOUND, 0, "--send-test-lead needs a key: --key-file FILE, or $" KEY_NAME);
    hidden = shown;
    hidden.c_lflag &= ~(tcflag_t)ECHO;
    (void)fprintf(stderr, "Key of a sender (it is not shown): ");
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
    bool is_read = fgets(line, sizeof line, stdin) != NULL;
    (void)tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
    (void)fprintf(stderr, "\n");
    buf_add_text(text, is_read ? line : "");
    crypto_wipe(line, sizeof line);
    return buf_status(text, "the key", why);
}

/* The key itself, or what `leadctl key new` shows: a path with it. */
static bool cut_key(struct span text, struct buf *key)
{
    struct span line, rest = text, found = {0};
    while (found.len == 0 && span_next(&rest, '\n', &line))
        found = span_trim(line);
    size_t question = span_find(found, '?');
    if (question != SPAN_NONE && span_starts(span_from(found, question + 1), SPAN_LIT(KEY_PARAM)))
        found = span_from(found, question + 1 + sizeof KEY_PARAM - 1);
    (void)buf_reserve(key, LIMIT_KEY_BYTES); /* a buffer that grew would leave copies behind */
    buf_add(key, found);
    return key->error == ST_OK && found.len >= LIMIT_KEY_MIN_BYTES && span_has_only(found, "-_.~");
}

enum status check_take_key(struct check *c, struct fail *why)
{
    struct buf text = BUF_INIT(LIMIT_KEY_FILE_BYTES);
    const char *environment = getenv(KEY_NAME);
    enum status status = ST_OK;
    (void)buf_reserve(&text, LIMIT_KEY_FILE_BYTES);
    if (c->key_file && strcmp(c->key_file, "-") == 0)
        status = file_read_open(STDIN_FILENO, "standard input", &text, why);
    else if (c->key_file)
        status = file_read(c->key_file, FILE_PRIVATE, &text, why);
    else if (environment)
        buf_add_text(&text, environment);
    else
        status = ask_for_key(&text, why);
    if (status == ST_OK && !cut_key(buf_span(&text), &c->key))
        status =
            fail_set(why, ST_INVALID, 0, "what was given as key is none: %u to %u of A-Z a-z 0-9 - _ . ~",
                     LIMIT_KEY_MIN_BYTES, LIMIT_KEY_BYTES);
    buf_release_secret(&text);
    return status;
}

/* --- the URL ----------------------------------------------------------------------------------------------------- */

/* The host, with the brackets of an IPv6 address. */
static bool is_loopback(struct span rest)
{
    struct span authority = span_cut(rest, 0, span_find(rest, '/'));
    size_t end = span_find(authority, ']');
    if (authority.len && authority.ptr[0] == '[')
        return end != SPAN_NONE && host_is_loopback(span_cut(authority, 1, end - 1), true);
    return host_is_loopback(span_cut(authority, 0, span_find(authority, ':')), false);
}

/* Keys go over TLS, or stay on this machine. */
static enum status complete_url(struct span given, struct buf *url, bool *is_plain, struct fail *why)
{
    struct span http = SPAN_LIT("http://"), https = SPAN_LIT("https://");
    *is_plain = span_starts(given, http);
    struct span rest = span_from(given, *is_plain ? http.len : https.len);
    if (given.len == 0)
        return fail_set(
            why, ST_INVALID, 0,
            "nginx's configuration does not tell where to send a lead: give --url https://HOST/leads");
    if (span_find(given, '?') != SPAN_NONE || span_find(given, '@') != SPAN_NONE ||
        span_find(given, '#') != SPAN_NONE)
        return fail_set(why, ST_INVALID, 0, "the URL must end with its path: a key is given with --key-file");
    if (!*is_plain && !span_starts(given, https))
        return fail_set(why, ST_INVALID, 0, "the URL must begin with https://");
    if (*is_plain && !is_loopback(rest))
        return fail_set(why, ST_INVALID, 0,
                        "a key is sent over https:// only, but for a server on this machine");
    buf_add(url, given);
    if (span_find(rest, '/') == SPAN_NONE)
        buf_add_text(url, "/leads");
    return buf_status(url, "the URL", why);
}

/* --- sending ----------------------------------------------------------------------------------------------------- */

struct test_lead {
    struct check *check;
    struct arena arena;
    struct span body;
    struct lead lead;
    char row_key[LEAD_ROW_KEY_TEXT + 1];
    char id[LEAD_DELIVERY_TEXT + 1]; /* as the answer names it */
    int64_t sent_ms;                 /* monotonic */
};

static enum status make_lead(struct test_lead *t, struct fail *why)
{
    unsigned char random[LEAD_RANDOM_BYTES];
    char mark[2 * LEAD_RANDOM_BYTES + 1], time[CLOCK_TEXT_BYTES], text[256];
    struct buf body = BUF_INIT(LIMIT_REPLY_BODY_BYTES);
    struct json_writer w;
    size_t offset;
    enum status status = crypto_random(random, sizeof random, why);
    if (status != ST_OK)
        return status;
    hex_write(random, sizeof random, mark);
    clock_iso_time(clock_wall_ms(), time);
    (void)snprintf(text, sizeof text, "MSFT_TEST of leadctl check at %s (%s)", time, mark);
    json_begin(&w, &body);
    json_open(&w, SPAN_LIT("UserDetails"));
    json_add_text(&w, SPAN_LIT("FirstName"), SPAN_LIT("MSFT_TEST"));
    json_add_text(&w, SPAN_LIT("LastName"), SPAN_LIT("leadctl check"));
    json_add_text(&w, SPAN_LIT("Email"), SPAN_LIT(PERSON));
    json_add_text(&w, SPAN_LIT("Country"), SPAN_LIT("US"));
    json_add_text(&w, SPAN_LIT("Company"), SPAN_LIT("leadctl check"));
    json_close(&w);
    json_add_text(&w, SPAN_LIT("LeadSource"), SPAN_LIT("AzureMarketplace-INS|leadctl.check"));
    json_add_text(&w, SPAN_LIT("ActionCode"), SPAN_LIT("INS"));
    json_add_text(&w, SPAN_LIT("OfferTitle"), SPAN_LIT("leadctl check"));
    json_add_text(&w, SPAN_LIT("Description"), span_of(text));
    status = json_end(&w, "the test lead", why);
    if (status == ST_OK && !arena_copy(&t->arena, buf_span(&body), &t->body))
        status = fail_set(why, ST_NOMEM, 0, "no memory for the test lead");
    buf_release(&body);
    if (status == ST_OK)
        status = lead_understand(t->body, SPAN_LIT("application/json"),
                                 span_of(t->check->service->config.withhold_domains), LEAD_BY_BODY, random,
                                 &t->arena, &t->lead, &offset, why);
    if (status == ST_OK)
        (void)snprintf(t->row_key, sizeof t->row_key, "%s-%s", t->lead.contact, t->lead.content);
    return status;
}

/* What the answer says of itself: "status" of a good one, else "detail". */
static void read_answer(struct test_lead *t, const struct http_exchange *http, char said[DETAIL_BYTES])
{
    static const struct json_limits limits = {.depth = 4, .values = 64};
    const struct json *top = NULL;
    said[0] = '\0';
    if (json_read(span_trim(buf_span(&http->answer)), &limits, &t->arena, &top, NULL, NULL) != ST_OK)
        return;
    struct span text = json_text(top, "status"), id = json_text(top, "id"), detail = json_text(top, "detail");
    if (detail.len)
        text = detail;
    (void)snprintf(said, DETAIL_BYTES, "%.*s", SPAN_FMT(span_cut(text, 0, DETAIL_BYTES - 1)));
    if (id.len == LEAD_DELIVERY_TEXT && span_has_only(id, ""))
        memcpy(t->id, id.ptr, LEAD_DELIVERY_TEXT);
}

struct code_advice {
    int code;
    const char *means;
    const char *cure;
};

static const struct code_advice *advice_for_code(int code)
{
    static const struct code_advice list[] = {
        {401, "the leadhook that answers there does not know this key, or not any more",
         "leadctl key list on that host; after a change of its key file reload leadhook"},
        {403, "something before leadhook lets only some addresses or certificates in",
         "look at allow, deny and ssl_verify_client of nginx"},
        {404, "a server answers there that has no /leads: another server block, or another path",
         "compare the URL with server_name and location of nginx's configuration (nginx -T)"},
        {405, "something before leadhook does not let POST through",
         "look at what stands between: limit_except, a firewall for web applications"},
        {413, "something before leadhook takes only small bodies",
         "client_max_body_size 257k; in nginx, and the same in what stands before it"},
        {429, "too many requests from this address, or quarantine is full",
         "wait a minute; leadctl quarantine list"},
        {502, "nginx is there and does not reach leadhook",
         "leadctl status; "
         "the socket of nginx's upstream and `listen` must be the same"},
        {503, "leadhook does not run, or cannot store leads now",
         "leadctl status; systemctl status 'leadhook@*'"},
        {504, "leadhook does not answer in time", "leadctl status"},
        {0, "it is not leadhook that answers there, or something in between changes answers",
         "curl -v that URL"},
    };
    size_t i = 0;
    while (list[i].code && list[i].code != code)
        i++;
    return &list[i];
}

/* Whether the lead was taken. */
static bool tell_answer(struct test_lead *t, const struct http_exchange *http, const char *url)
{
    char said[DETAIL_BYTES];
    long long ms = (long long)(clock_monotonic_ms() - t->sent_ms);
    read_answer(t, http, said);
    if (http->code == 200 && *t->id) {
        check_say(t->check, CHECK_OK, "test-lead", NULL, NULL, "%s answers 200 %s in %lld ms; id %s", url,
                  said, ms, t->id);
        return true;
    }
    if (http->code == 202 && *t->id) {
        check_say(t->check, CHECK_WARN, "test-lead",
                  "the table does not take leads now; it is on that host's disk until it does",
                  "look at what this says of the table, and at leadctl status", "%s answers 202 %s; id %s",
                  url, said, t->id);
        return true;
    }
    const struct code_advice *advice = advice_for_code(http->code);
    if (http->code / 100 == 3)
        check_say(t->check, CHECK_FAIL, "test-lead", "senders may not follow a redirection",
                  "enter the URL that it leads to in Partner Center", "%s answers %d", url, http->code);
    else
        check_say(t->check, CHECK_FAIL, "test-lead", advice->means, advice->cure, "%s answers %d%s%s", url,
                  http->code, *said ? ": " : "", said);
    return false;
}

/* Whether the lead was taken.  url: without the key. */
static bool send_lead(struct test_lead *t, const struct buf *url, bool is_plain)
{
    static const char *const headers[] = {"Content-Type: application/json", NULL};
    const struct http_options options = {.ca_file = t->check->ca_file, .is_plain = is_plain};
    struct http_client *client = NULL;
    struct buf with_key = BUF_INIT(LIMIT_URL_BYTES);
    struct fail why;
    bool is_taken = false;
    (void)buf_reserve(&with_key, url->len + 4 * LIMIT_KEY_BYTES);
    buf_addf(&with_key, "%s?" KEY_PARAM, url->data);
    percent_add(&with_key, buf_span(&t->check->key));
    enum status status = buf_status(&with_key, "the URL", &why);
    if (status == ST_OK)
        status = http_client_new(&options, &client, &why);
    if (status == ST_OK) {
        struct http_exchange http = {
            .url = with_key.data, .headers = headers, .body = t->body, .answer_max_bytes = ANSWER_BYTES};
        struct http_exchange *one = &http;
        t->sent_ms = clock_monotonic_ms();
        http_run(client, &one, 1, t->sent_ms + WAIT_ANSWER_MS);
        status = http.status;
        why = http.why;
        if (status == ST_OK)
            is_taken = tell_answer(t, &http, url->data);
        http_exchange_release(&http);
    }
    if (status != ST_OK)
        check_failed(t->check, "test-lead", CHECK_AREA_NETWORK, &why);
    http_client_free(client);
    buf_release_secret(&with_key);
    return is_taken;
}

/* --- waiting ----------------------------------------------------------------------------------------------------- */

static void pause_a_little(void)
{
    const struct timespec time = {.tv_nsec = LOOK_EVERY_MS * 1000000L};
    (void)nanosleep(&time, NULL);
}

/* Looks for the row until it is there, and with wants_mail until its mails are done; *row is NULL when it is not. */
static enum status wait_for_row(struct test_lead *t, struct store *store, bool wants_mail,
                                struct entity **row, struct fail *why)
{
    int64_t until_ms = t->sent_ms + t->check->lead_wait_ms;
    struct span key = span_of(t->row_key);
    enum status status;
    *row = NULL;
    for (;;) {
        arena_reset(&t->arena);
        status = store_get_many(store, TABLE_LEADS, span_of(t->lead.partition), &key, 1, COLUMN_NOTIFIED_TIME,
                                clock_monotonic_ms() + CHECK_WAIT_MS, &t->arena, row, why);
        bool is_done = status == ST_OK && *row && (!wants_mail || entity_find(*row, COLUMN_NOTIFIED_TIME));
        if (is_done || clock_monotonic_ms() >= until_ms)
            return status;
        pause_a_little();
    }
}

struct waiting_mails {
    struct check *check;
    size_t count;
};

static enum status tell_mail(void *context, struct entity *row, struct fail *why)
{
    struct waiting_mails *w = context;
    struct mail_row mail;
    (void)why;
    if (mail_of_row(row, &mail, NULL) != ST_OK)
        return ST_OK;
    w->count++;
    if (mail.error.len && !span_eq(mail.error, SPAN_LIT("-"))) { /* "-": none, after an earlier one */
        struct fail error;
        (void)fail_set(&error, ST_AGAIN, 0, "recipient %.*s: %.*s", SPAN_FMT(mail.recipient_number),
                       SPAN_FMT(span_cut(mail.error, 0, 200)));
        check_failed(w->check, "test-lead-mail", CHECK_AREA_MAIL, &error);
    } else {
        check_say(
            w->check, CHECK_FAIL, "test-lead-mail",
            "nobody has tried to send it: no relay runs, or many mails are before it",
            "leadctl status shows who holds the relay; with plain CGI run leadctl relay --once from a timer",
            "recipient %.*s: its mail still waits", SPAN_FMT(mail.recipient_number));
    }
    return ST_OK;
}

static void tell_mails(struct test_lead *t, struct store *store)
{
    struct waiting_mails w = {.check = t->check};
    struct fail why;
    char key[LEAD_ROW_KEY_TEXT + 1];
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    memcpy(key, t->row_key, sizeof key);
    struct span from = mail_prefix_of_lead(span_of(key), &arena);
    struct query query = {.table = TABLE_LEADS,
                          .partition_key = span_of(t->lead.partition),
                          .from = from,
                          .to = key_after_prefix(from, &arena),
                          .limit = PAGE_ROWS};
    enum status status = from.len && query.to.len
                             ? store_each(store, &query, CHECK_WAIT_MS, tell_mail, &w, &why)
                             : fail_set(&why, ST_NOMEM, 0, "no memory to look for mails");
    if (status != ST_OK)
        check_failed(t->check, "test-lead-mail", CHECK_AREA_TABLE, &why);
    else if (w.count == 0)
        check_say(t->check, CHECK_FAIL, "test-lead-mail",
                  "the leadhook that took the lead had nobody to tell", "restart it when mail_to has changed",
                  "no mail was written with the lead");
    arena_release(&arena);
}

static void tell_row(struct test_lead *t, struct store *store, bool wants_mail)
{
    struct entity *row;
    struct fail why;
    enum status status = wait_for_row(t, store, wants_mail, &row, &why);
    long long ms = (long long)(clock_monotonic_ms() - t->sent_ms);
    if (status != ST_OK) {
        check_failed(t->check, "test-lead-row",
                     t->check->service->config.sqlite_path ? CHECK_AREA_SQLITE : CHECK_AREA_TABLE, &why);
        return;
    }
    if (!row) {
        check_say(
            t->check, CHECK_FAIL, "test-lead-row",
            "the leadhook that answers there stores leads elsewhere than this configuration says, or still has it in its spool",
            "compare store and table_connection of the two; leadctl status and leadctl spool on that host",
            "not in this store after %lld ms", ms);
        return;
    }
    check_say(t->check, CHECK_OK, "test-lead-row", NULL, NULL,
              "it is in the store; leadctl person erase " PERSON " --yes removes it");
    if (!wants_mail)
        check_say(t->check, CHECK_WARN, "test-lead-mail", "leads are stored and nobody is told",
                  "set mail_url and mail_to", "there is nobody to mail to");
    else if (entity_find(row, COLUMN_NOTIFIED_TIME))
        check_say(t->check, CHECK_OK, "test-lead-mail", NULL, NULL,
                  "all its mails were accepted, at the latest after %lld ms; look whether they arrive", ms);
    else
        tell_mails(t, store);
}

/* By the routes that are in force after the next reload; check_routes tells of mistakes in them. */
static bool is_mailed(const struct test_lead *t)
{
    const struct config *config = &t->check->service->config;
    struct routes *routes = NULL;
    struct buf mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    enum status status = service_try_routes(config->mail_routes, config, &routes, &mistakes, NULL);
    const struct route *route = status == ST_OK ? routes_find(routes, &t->lead) : NULL;
    size_t count = route ? route->recipient_count : config->recipient_count;
    routes_free(routes);
    buf_release(&mistakes);
    return config->mail_on && count > 0;
}

static void look_for_it(struct test_lead *t)
{
    const struct config *config = &t->check->service->config;
    struct store *store = NULL;
    struct fail why;
    if (t->lead.withheld)
        check_say(t->check, CHECK_WARN, "test-lead-row", "its row cannot be told from others", "leadctl list",
                  "withhold_domains holds for test leads, too");
    else if (service_open_store(t->check->service, &store, &why) != ST_OK)
        check_failed(t->check, "test-lead-row", config->sqlite_path ? CHECK_AREA_SQLITE : CHECK_AREA_TABLE,
                     &why);
    else
        tell_row(t, store, is_mailed(t));
    store_close(store);
}

/* --- the part ---------------------------------------------------------------------------------------------------- */

void check_test_lead(struct check *c)
{
    struct test_lead t = {.check = c, .arena = ARENA_INIT(LIMIT_REQUEST_ARENA)};
    struct buf url = BUF_INIT(LIMIT_URL_BYTES);
    struct fail why;
    bool is_plain = false;
    enum status status =
        complete_url(c->url ? span_of(c->url) : buf_span(&c->lead_url), &url, &is_plain, &why);
    if (status == ST_OK)
        status = make_lead(&t, &why);
    if (status != ST_OK)
        check_say(c, CHECK_FAIL, "test-lead", "nothing was sent", NULL, "%s", why.text);
    else if (check_peer(
                 c, "url",
                 &(struct peer_target){.url = url.data, .ca_file = c->ca_file, .wait_ms = CHECK_WAIT_MS}) &&
             send_lead(&t, &url, is_plain))
        look_for_it(&t);
    buf_release(&url);
    arena_release(&t.arena);
}
