/* Everything goes through one curl_multi handle per client, a single exchange
 * too, because connections are kept by the multi handle: a read of many rows
 * then finds the connection that the write before it has used.
 *
 * Whether a failed request may have taken effect is decided by what libcurl
 * counted as sent (CURLINFO_REQUEST_SIZE), not by its error code: the same
 * timeout code stands for a connection that was never made and for an answer
 * that never came.
 */
#include "lib/net/http.h"

/* System */
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* Libraries */
#include <curl/curl.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/limits.h"

/* L3 */
#include "lib/net/certificate.h"

enum { POLL_MS_MAX = 1000, CONNECTION_S_MAX = 24 * 60 * 60 };

struct slot {
    CURL *easy; /* kept, as it is dear to make */
    struct curl_slist *lines;
    struct http_exchange *exchange; /* NULL when free */
    bool has_header;                /* the answer's header has come, up to the blank line at its end */
    char error[CURL_ERROR_SIZE];
};

struct http_client {
    CURLM *multi;
    char *ca_file;
    bool is_plain;
    int64_t certificate_end_ms; /* of the last connection that was made; 0: none yet */
    struct slot slots[HTTP_PARALLEL];
};

/* --- memory of libcurl --------------------------------------------------------------------------------------- */

/* libcurl copies passwords and signed URLs wherever it goes, and frees the copies as they are. */

static void free_wiped(void *memory)
{
    if (memory)
        crypto_wipe(memory, malloc_usable_size(memory));
    free(memory);
}

static void *realloc_wiped(void *memory, size_t bytes)
{
    size_t before = memory ? malloc_usable_size(memory) : 0;
    void *grown = malloc(bytes);
    if (!grown)
        return NULL;
    if (memory)
        (void)memcpy(grown, memory, before < bytes ? before : bytes);
    free_wiped(memory);
    return grown;
}

enum status http_global_init(struct fail *why)
{
    enum status status = crypto_init(why); /* libcurl would use OpenSSL unseen */
    if (status != ST_OK)
        return status;
    if (curl_global_init_mem(CURL_GLOBAL_DEFAULT, malloc, free_wiped, realloc_wiped, strdup, calloc) !=
        CURLE_OK)
        return fail_set(why, ST_NOMEM, 0, "libcurl cannot be initialized");
    return ST_OK;
}

enum status http_client_new(const struct http_options *options, struct http_client **client, struct fail *why)
{
    struct http_client *c = calloc(1, sizeof *c);
    if (c) {
        c->is_plain = options->is_plain;
        c->ca_file = options->ca_file ? strdup(options->ca_file) : NULL;
        c->multi = curl_multi_init();
    }
    if (!c || !c->multi || (options->ca_file && !c->ca_file) ||
        curl_multi_setopt(c->multi, CURLMOPT_MAXCONNECTS, (long)HTTP_PARALLEL) != CURLM_OK) {
        http_client_free(c);
        return fail_set(why, ST_NOMEM, 0, "no memory for an HTTP client");
    }
    *client = c;
    return ST_OK;
}

void http_client_free(struct http_client *client)
{
    if (!client)
        return;
    for (size_t i = 0; i < HTTP_PARALLEL; i++)
        curl_easy_cleanup(client->slots[i].easy);
    if (client->multi)
        (void)curl_multi_cleanup(client->multi);
    free(client->ca_file);
    free(client);
}

void http_exchange_release(struct http_exchange *exchange)
{
    buf_release(&exchange->answer);
    buf_release(&exchange->answer_lines);
}

/* --- one transfer --------------------------------------------------------------------------------------- */

static size_t on_body(char *bytes, size_t size, size_t count, void *user)
{
    const struct slot *slot = user;
    struct buf *answer = &slot->exchange->answer;
    buf_add(answer, (struct span){bytes, size * count});
    return answer->error == ST_OK ? size * count : 0; /* fewer than given: libcurl gives up */
}

static size_t on_header(char *bytes, size_t size, size_t count, void *user)
{
    struct slot *slot = user;
    struct buf *lines = &slot->exchange->answer_lines;
    struct span line = {bytes, size * count};
    if (span_starts(line, SPAN_LIT("HTTP/"))) { /* also after a 100 Continue */
        buf_reset(lines);
        slot->has_header = false;
    }
    if (slot->has_header)
        return line.len; /* a trailer of a chunked body */
    buf_add(lines, line);
    slot->has_header = span_trim(line).len == 0;
    return lines->error == ST_OK ? line.len : 0;
}

static bool add_line(struct curl_slist **lines, const char *line)
{
    struct curl_slist *longer = curl_slist_append(*lines, line);
    if (!longer)
        return false;
    *lines = longer;
    return true;
}

static bool add_lines(struct slot *slot)
{
    bool added = add_line(&slot->lines, "Expect:"); /* none: it would cost a round trip */
    for (const char *const *line = slot->exchange->headers; added && *line; line++)
        added = add_line(&slot->lines, *line);
    return added;
}

/* What is the same for every transfer of a slot: libcurl copies texts and compiles lists each time it is told.  Gives 0
 * when all were taken. */
static unsigned int set_options(const struct http_client *client, struct slot *slot)
{
    CURL *easy = slot->easy;
    const char *protocol = client->is_plain ? "http" : "https";
    unsigned int bad = 0;

    bad |= curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, protocol);
    bad |= curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, protocol);
    bad |= curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    bad |= curl_easy_setopt(easy, CURLOPT_PROXY, "");
    bad |= curl_easy_setopt(easy, CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    bad |= curl_easy_setopt(easy, CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    bad |= curl_easy_setopt(easy, CURLOPT_PATH_AS_IS, 1L);
    bad |= curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    bad |= curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    bad |= curl_easy_setopt(easy, CURLOPT_USERAGENT, "leadhook");

    bad |= curl_easy_setopt(easy, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    bad |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 1L);
    bad |= curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 2L);
    /* libcurl 7.88.1 frees the host's name twice when it has no memory to remember a TLS session.  Connections are kept,
     * so that sessions are hardly ever taken up again.  Held by the torture of SMTP, where it is the same. */
    bad |= curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
    if (client->ca_file) {
        bad |= curl_easy_setopt(easy, CURLOPT_CAINFO, client->ca_file);
        bad |= curl_easy_setopt(easy, CURLOPT_CAPATH, NULL); /* instead of the system's, not besides */
    }

    /* When it ends is known of connections that are made; so none lives on while the server has long had a new one. */
    bad |= curl_easy_setopt(easy, CURLOPT_CERTINFO, 1L);
    bad |= curl_easy_setopt(easy, CURLOPT_MAXLIFETIME_CONN, (long)CONNECTION_S_MAX);

    bad |= curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    /* libcurl 7.88.1 waits for a hung resolver thread when a transfer times out unless told to leave it. */
    bad |= curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);

    bad |= curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, slot->error);
    bad |= curl_easy_setopt(easy, CURLOPT_PRIVATE, slot);
    bad |= curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    bad |= curl_easy_setopt(easy, CURLOPT_WRITEDATA, slot);
    bad |= curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    bad |= curl_easy_setopt(easy, CURLOPT_HEADERDATA, slot);
    return bad;
}

/* What differs, all of it each time: nothing is inherited from the transfer before. */
static unsigned int set_transfer(struct slot *slot, int64_t left_ms)
{
    CURL *easy = slot->easy;
    const struct http_exchange *exchange = slot->exchange;
    long connect_ms = (long)(left_ms < WAIT_CONNECT_MS ? left_ms : WAIT_CONNECT_MS);
    unsigned int bad = 0;
    bad |= curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, connect_ms);
    bad |= curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)left_ms);
    bad |= curl_easy_setopt(easy, CURLOPT_URL, exchange->url);
    bad |= curl_easy_setopt(easy, CURLOPT_HTTPHEADER, slot->lines);
    if (exchange->body.ptr) {
        bad |= curl_easy_setopt(easy, CURLOPT_POST, 1L);
        bad |= curl_easy_setopt(easy, CURLOPT_POSTFIELDS, exchange->body.ptr);
        bad |= curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)exchange->body.len);
    } else {
        bad |= curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    }
    return bad;
}

/* false: no memory for the handle. */
static bool make_handle(const struct http_client *client, struct slot *slot)
{
    if (slot->easy)
        return true;
    slot->easy = curl_easy_init();
    if (slot->easy && set_options(client, slot) == 0)
        return true;
    curl_easy_cleanup(slot->easy);
    slot->easy = NULL;
    return false;
}

static void slot_clear(struct slot *slot)
{
    curl_slist_free_all(slot->lines);
    slot->lines = NULL;
    slot->exchange = NULL;
}

/* false: the exchange is over already, its status says why. */
static bool start(struct http_client *client, struct slot *slot, struct http_exchange *exchange,
                  int64_t deadline_ms)
{
    exchange->code = 0;
    exchange->took_us = 0;
    exchange->answer = BUF_INIT(exchange->answer_max_bytes);
    exchange->answer_lines = BUF_INIT(LIMIT_HEADER_BYTES);
    int64_t left_ms = deadline_ms - clock_monotonic_ms();
    if (left_ms <= 0) {
        exchange->status = fail_set(&exchange->why, ST_AGAIN, 0, "not sent: the deadline is over");
        return false;
    }
    slot->exchange = exchange;
    slot->error[0] = '\0';
    slot->has_header = false;
    if (make_handle(client, slot) && add_lines(slot) && set_transfer(slot, left_ms) == 0 &&
        curl_multi_add_handle(client->multi, slot->easy) == CURLM_OK)
        return true;
    exchange->status = fail_set(&exchange->why, ST_NOMEM, 0, "no memory to send a request");
    slot_clear(slot);
    return false;
}

static bool is_certificate_problem(CURLcode code)
{
    switch ((int)code) { /* the enumeration has a hundred others */
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_INVALIDCERTSTATUS:
        return true;
    default:
        return false;
    }
}

/* The caller's mistake: no later attempt would go better. */
static bool is_url_problem(CURLcode code)
{
    return code == CURLE_URL_MALFORMAT || code == CURLE_UNSUPPORTED_PROTOCOL;
}

static enum status transport_failure(const struct slot *slot, CURLcode code, struct fail *why)
{
    const struct http_exchange *exchange = slot->exchange;
    /* libcurl's own words name the host and the cause; they should never quote a URL, and are not
     * trusted with it.  The buffer may have stayed empty. */
    const char *words = slot->error[0] && !strchr(slot->error, '?') ? slot->error : curl_easy_strerror(code);
    long sent = 0;
    if (curl_easy_getinfo(slot->easy, CURLINFO_REQUEST_SIZE, &sent) != CURLE_OK)
        sent = 1;
    if (exchange->answer.error != ST_OK)
        return fail_set(why, ST_UNKNOWN, 0, "the answer is longer than %zu bytes", exchange->answer.limit);
    if (exchange->answer_lines.error != ST_OK)
        return fail_set(why, ST_UNKNOWN, 0, "the answer's header is too long");
    if (is_certificate_problem(code))
        return fail_set(why, ST_DENIED, 0, "the server's certificate is not trusted: %s", words);
    if (sent == 0 && is_url_problem(code)) /* the same code stands for an answer that is not HTTP */
        return fail_set(why, ST_BUG, 0, "a URL that cannot be used");
    if (code == CURLE_OUT_OF_MEMORY && sent == 0)
        return fail_set(why, ST_NOMEM, 0, "no memory to send a request");
    if (sent == 0)
        return fail_set(why, ST_AGAIN, 0, "no connection: %s", words);
    return fail_set(why, ST_UNKNOWN, 0, "no answer to a request that was sent: %s", words);
}

static void finish(struct slot *slot, CURLcode result)
{
    struct http_exchange *exchange = slot->exchange;
    long code = 0;
    if (result == CURLE_OK)
        result = curl_easy_getinfo(slot->easy, CURLINFO_RESPONSE_CODE, &code);
    /* libcurl 7.88.1 takes a connection that ends within the header for a whole answer without a body. */
    if (result == CURLE_OK && !slot->has_header)
        result = CURLE_PARTIAL_FILE;
    exchange->code = (int)code;
    curl_off_t took_us = 0;
    if (curl_easy_getinfo(slot->easy, CURLINFO_TOTAL_TIME_T, &took_us) == CURLE_OK)
        exchange->took_us = (int64_t)took_us;
    exchange->status = result == CURLE_OK ? ST_OK : transport_failure(slot, result, &exchange->why);
    slot_clear(slot);
}

/* --- several -------------------------------------------------------------------------------------------- */

/* Gives how many are over. */
static size_t collect(struct http_client *client)
{
    size_t over = 0;
    int queued;
    for (CURLMsg *message; (message = curl_multi_info_read(client->multi, &queued));) {
        CURL *easy = message->easy_handle;
        CURLcode result = message->data.result; /* the message dies with the removal */
        char *slot = NULL;
        if (message->msg != CURLMSG_DONE || curl_easy_getinfo(easy, CURLINFO_PRIVATE, &slot) != CURLE_OK)
            continue;
        (void)curl_multi_remove_handle(client->multi, easy);
        int64_t end_ms = certificate_end_ms(easy);
        if (end_ms)
            client->certificate_end_ms = end_ms;
        finish((struct slot *)(void *)slot, result);
        over++;
    }
    return over;
}

/* The multi handle itself failed, which only a lack of memory brings about. */
static void give_up(struct http_client *client, CURLMcode code)
{
    for (size_t i = 0; i < HTTP_PARALLEL; i++) {
        struct slot *slot = &client->slots[i];
        if (!slot->exchange)
            continue;
        (void)curl_multi_remove_handle(client->multi, slot->easy);
        slot->exchange->status =
            fail_set(&slot->exchange->why, ST_UNKNOWN, 0, "libcurl gave up: %s", curl_multi_strerror(code));
        slot_clear(slot);
    }
}

static struct slot *free_slot(struct http_client *client)
{
    for (size_t i = 0; i < HTTP_PARALLEL; i++) {
        if (!client->slots[i].exchange)
            return &client->slots[i];
    }
    return NULL;
}

void http_run(struct http_client *client, struct http_exchange *const *exchanges, size_t count,
              int64_t deadline_ms)
{
    size_t next = 0, running = 0;
    while (next < count || running > 0) {
        for (struct slot *slot; next < count && (slot = free_slot(client)); next++) {
            if (start(client, slot, exchanges[next], deadline_ms))
                running++;
        }
        /* Every transfer has its own time limit, so this loop ends. */
        int active;
        CURLMcode code = curl_multi_perform(client->multi, &active);
        size_t over = collect(client);
        running -= over;
        if (code == CURLM_OK && over == 0 && running > 0)
            code = curl_multi_poll(client->multi, NULL, 0, POLL_MS_MAX, NULL);
        if (code != CURLM_OK) {
            give_up(client, code);
            running = 0;
        }
    }
}

int64_t http_certificate_end_ms(const struct http_client *client)
{
    return client->certificate_end_ms;
}

/* --- headers -------------------------------------------------------------------------------------------- */

struct span http_header(const struct http_exchange *exchange, const char *name)
{
    struct span rest = buf_span(&exchange->answer_lines), line;
    while (span_next(&rest, '\n', &line)) {
        size_t colon = span_find(line, ':');
        if (colon != SPAN_NONE && span_eq_nocase(span_cut(line, 0, colon), span_of(name)))
            return span_trim(span_from(line, colon + 1));
    }
    return (struct span){0};
}

int64_t http_date_ms(const struct http_exchange *exchange)
{
    int64_t date_ms;
    return clock_parse_http_date(http_header(exchange, "Date"), &date_ms) ? date_ms : 0;
}

/* A longer wait than a day is no answer to "when"; it is cut to one. */
static int wait_of_ms(int64_t ms)
{
    if (ms <= 0)
        return 0;
    int64_t seconds = ms / 1000 + (ms % 1000 != 0);
    return seconds < LIMIT_RETRY_AFTER_S ? (int)seconds : LIMIT_RETRY_AFTER_S;
}

int http_retry_after_s(const struct http_exchange *exchange)
{
    static const char *const in_ms[] = {"x-ms-retry-after-ms", "retry-after-ms"};
    uint64_t number;
    for (size_t i = 0; i < sizeof in_ms / sizeof in_ms[0]; i++) {
        if (span_to_u64(http_header(exchange, in_ms[i]), INT64_MAX, &number))
            return wait_of_ms((int64_t)number);
    }
    struct span value = http_header(exchange, "Retry-After");
    if (span_to_u64(value, INT64_MAX / 1000, &number))
        return wait_of_ms((int64_t)number * 1000);
    int64_t until_ms;
    if (clock_parse_http_date(value, &until_ms)) {
        /* Against the server's own clock where it told it. */
        int64_t now_ms = http_date_ms(exchange);
        return wait_of_ms(until_ms - (now_ms ? now_ms : clock_wall_ms()));
    }
    return 0;
}
