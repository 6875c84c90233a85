/* Submission through libcurl 7.88.1, with what that version leaves open closed
 * here:
 *
 * - Without AUTH on offer it sends the mail without logging in and reports
 *   success.  So with a user configured, no byte of the body leaves before a
 *   reply 235 was seen.
 * - It hands addresses to the server unchecked; transport.c has checked them.
 * - It waits 120 s for the reply to the final dot, where RFC 5321 4.5.3.2.6 asks
 *   for 600 s; a spurious time-out there means a second copy.
 * - It takes only 250 for success at the end, and gives the reply code of the
 *   last reply; smtp_classify knows what each combination means.
 *
 * One message per connection: after a time-out of an idle connection nothing is
 * left to be confused about, and the mailer sends few mails.
 */
#include "lib/mail/transport_internal.h"

/* System */
#include <stdlib.h>
#include <string.h>

/* Libraries */
#include <curl/curl.h>

/* L0 */
#include "lib/base/buf.h"

#define SECOND_MS 1000L

struct smtp {
    CURL *curl;
    const struct mail_settings *settings;
    struct buf url; /* with the EHLO name as its path, where libcurl looks for it */
    bool implicit_tls;
};

struct dialogue {
    const struct smtp *smtp;
    struct span message;
    size_t handed_out;
    mail_fence *fence;
    void *context;
    bool fence_refused;
    bool logged_in;
    bool login_missing;
    struct buf replies; /* the server's lines */
};

/* --- classification ------------------------------------------------------------------------------------------ */

static bool is_configuration_reply(long reply, struct span words)
{
    /* 530 and 538: login or TLS required; 534, 535: login refused.  Exchange says the same with other codes. */
    return reply == 530 || reply == 534 || reply == 535 || reply == 538 ||
           span_has_nocase(words, SPAN_LIT("5.7.30")) || span_has_nocase(words, SPAN_LIT("5.7.139")) ||
           span_has_nocase(words, SPAN_LIT("SendAsDenied"));
}

enum mail_outcome smtp_classify(int curl_code, long reply, bool all, struct span words)
{
    if (curl_code == CURLE_OK || (all && reply / 100 == 2))
        return MAIL_ACCEPTED; /* 251 and its like: only libcurl thinks that it failed */
    if (reply == 354)
        return all ? MAIL_AMBIGUOUS : MAIL_TRANSIENT; /* without the final dot nothing was accepted */
    if (all && span_has_nocase(words, SPAN_LIT("MapiExceptionDuplicateDelivery")))
        return MAIL_ACCEPTED; /* Exchange has this Message-ID already, from an attempt without an answer */
    switch (curl_code) {
    case CURLE_LOGIN_DENIED:
        return reply / 100 == 4 ? MAIL_TRANSIENT : MAIL_CONFIGURATION;
    case CURLE_USE_SSL_FAILED:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
        return MAIL_CONFIGURATION;
    default:
        break;
    }
    /* A refusal of MAIL, RCPT or DATA is a send error to libcurl, one of the message comes after all its bytes.
     * A 5xx greeting or EHLO speaks of the server's state, not of this message. */
    if (reply / 100 == 5 && is_configuration_reply(reply, words))
        return MAIL_CONFIGURATION;
    if (reply / 100 == 5 && (curl_code == CURLE_SEND_ERROR || all))
        return reply == 552 && !all ? MAIL_TRANSIENT
                                    : MAIL_PERMANENT; /* RFC 5321 4.5.3.1.10: 552 at RCPT is 452 */
    return MAIL_TRANSIENT;
}

/* --- the server's words -------------------------------------------------------------------------------------- */

/* The last reply line without what looks like an address: replies quote recipients. */
static void add_words(struct buf *out, const struct buf *replies)
{
    struct span text = span_trim(buf_span(replies));
    size_t line = span_find_last(text, '\n');
    struct span rest = span_cut(line == SPAN_NONE ? text : span_from(text, line + 1), 0, 160), word;
    bool first = true;
    while (span_next(&rest, ' ', &word)) {
        if (!first)
            buf_add_char(out, ' ');
        first = false;
        if (span_find(word, '@') != SPAN_NONE)
            buf_add_text(out, "<...>");
        else
            for (size_t i = 0; i < word.len; i++)
                buf_add_char(out, word.ptr[i] >= 0x20 && word.ptr[i] < 0x7F ? word.ptr[i] : '?');
    }
}

static void explain(const struct dialogue *d, CURLcode code, long reply, enum mail_outcome outcome,
                    const char *details, struct fail *why)
{
    struct buf words = BUF_INIT(1024);
    add_words(&words, &d->replies);
    const char *said = words.data ? words.data : "";
    enum status status = outcome == MAIL_AMBIGUOUS       ? ST_UNKNOWN
                         : outcome == MAIL_TRANSIENT     ? ST_AGAIN
                         : outcome == MAIL_CONFIGURATION ? ST_DENIED
                                                         : ST_REFUSED;
    if (d->login_missing)
        (void)fail_set(why, status, 0,
                       "the SMTP server offers no login, so nothing was sent: check host and port");
    else if (d->fence_refused)
        (void)fail_set(why, status, 0, "broken off before the message was complete");
    else if (code == CURLE_USE_SSL_FAILED)
        (void)fail_set(why, status, 0,
                       "the SMTP server offers no STARTTLS, so nothing was sent: check host and port");
    else if (code == CURLE_LOGIN_DENIED)
        (void)fail_set(why, status, 0,
                       "the SMTP server refuses the login (check mail_user and mail_password): %s", said);
    else if (code == CURLE_PEER_FAILED_VERIFICATION)
        (void)fail_set(why, status, 0, "the SMTP server's certificate is not trusted: %s", details);
    else if (outcome == MAIL_AMBIGUOUS)
        (void)fail_set(why, status, 0,
                       "no answer after the whole message was sent; it may have been accepted");
    else if (reply >= 400)
        (void)fail_set(why, status, 0, "the SMTP server answered: %s", said);
    else
        (void)fail_set(why, status, 0, "%s%s%s", curl_easy_strerror(code), details[0] ? ": " : "", details);
    if (why)
        why->peer = (int)reply;
    buf_release(&words);
}

/* --- libcurl's callbacks ------------------------------------------------------------------------------------- */

/* Every reply line of the server. */
static size_t on_reply(char *line, size_t size, size_t count, void *context)
{
    struct dialogue *d = context;
    size_t len = size * count;
    if (len >= 3 && memcmp(line, "235", 3) == 0)
        d->logged_in = true;
    buf_add(&d->replies, (struct span){line, len});
    return d->replies.error == ST_OK ? len : 0; /* a server that never stops talking */
}

/* Hands out the message; the last piece only when the fence lets it. */
static size_t on_read(char *to, size_t size, size_t count, void *context)
{
    struct dialogue *d = context;
    size_t room = size * count;
    struct span rest = span_from(d->message, d->handed_out);
    if (d->smtp->settings->user.len && !d->logged_in) {
        d->login_missing = true;
        return CURL_READFUNC_ABORT;
    }
    bool last = rest.len <= room;
    if (rest.len > 0 && last && d->fence && !d->fence(d->context)) {
        d->fence_refused = true;
        return CURL_READFUNC_ABORT;
    }
    size_t len = last ? rest.len : room;
    if (len)
        memcpy(to, rest.ptr, len);
    d->handed_out += len;
    return len;
}

/* Ends the dialogue at shutdown, unless the final bytes are out: then the reply is worth waiting for. */
static int on_progress(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t e)
{
    const struct dialogue *d = context;
    (void)a, (void)b, (void)c, (void)e;
    const _Atomic bool *stop = d->smtp->settings->stop;
    return stop && atomic_load(stop) && d->handed_out < d->message.len;
}

/* A server may not send a body of its own. */
static size_t on_body(char *text, size_t size, size_t count, void *context)
{
    (void)text;
    (void)context;
    return size * count;
}

/* --- transfer ------------------------------------------------------------------------------------------------ */

static CURLcode set_options(struct dialogue *d, char error[CURL_ERROR_SIZE])
{
    const struct smtp *smtp = d->smtp;
    const struct mail_settings *s = smtp->settings;
    long wait_ms = s->reply_wait_ms ? (long)s->reply_wait_ms : (long)WAIT_SMTP_REPLY_MS;
    long wait_s = wait_ms >= SECOND_MS ? wait_ms / SECOND_MS : 1;
    CURL *curl = smtp->curl;
    CURLcode code = CURLE_OK;
    curl_easy_reset(curl);
#define SET(option, value) (code = code == CURLE_OK ? curl_easy_setopt(curl, option, value) : code)
    SET(CURLOPT_ERRORBUFFER, error);
    SET(CURLOPT_URL, smtp->url.data);
    SET(CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_FORBID_REUSE, 1L);
    SET(CURLOPT_USE_SSL, s->tls_off ? (long)CURLUSESSL_NONE : (long)CURLUSESSL_ALL);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    if (s->ca_file.len)
        SET(CURLOPT_CAINFO, s->ca_file.ptr);
    if (s->user.len) {
        SET(CURLOPT_USERNAME, s->user.ptr);
        SET(CURLOPT_PASSWORD, s->password.ptr);
        SET(CURLOPT_LOGIN_OPTIONS, "AUTH=PLAIN;AUTH=LOGIN");
    }
    SET(CURLOPT_CONNECTTIMEOUT_MS,
        wait_ms < (long)WAIT_SMTP_CONNECT_MS ? wait_ms : (long)WAIT_SMTP_CONNECT_MS);
    SET(CURLOPT_SERVER_RESPONSE_TIMEOUT, wait_s);
    SET(CURLOPT_TIMEOUT_MS, (long)WAIT_SMTP_CONNECT_MS + wait_ms + wait_ms / 4);
    SET(CURLOPT_HEADERFUNCTION, on_reply);
    SET(CURLOPT_HEADERDATA, d);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, d);
    SET(CURLOPT_NOPROGRESS, 0L);
#undef SET
    return code;
}

static enum mail_outcome perform(struct dialogue *d, CURLcode code, const char *error, struct fail *why)
{
    CURL *curl = d->smtp->curl;
    long reply = 0;
    if (code == CURLE_OK)
        code = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply);
    bool all = d->message.len > 0 && d->handed_out == d->message.len;
    enum mail_outcome outcome = d->login_missing ? MAIL_CONFIGURATION
                                : d->fence_refused
                                    ? MAIL_TRANSIENT
                                    : smtp_classify((int)code, reply, all, buf_span(&d->replies));
    if (outcome != MAIL_ACCEPTED)
        explain(d, code, reply, outcome, error, why);
    curl_easy_reset(curl); /* forgets pointers to what is about to go */
    return outcome;
}

enum mail_outcome smtp_send(struct smtp *smtp, const char *from, const char *to, struct span message,
                            mail_fence *fence, void *context, struct fail *why)
{
    char error[CURL_ERROR_SIZE] = "";
    struct dialogue d = {.smtp = smtp,
                         .message = message,
                         .fence = fence,
                         .context = context,
                         .replies = BUF_INIT(LIMIT_SMTP_REPLY_BYTES)};
    CURL *curl = smtp->curl;
    struct curl_slist *recipients = curl_slist_append(NULL, to);
    CURLcode code = recipients ? set_options(&d, error) : CURLE_OUT_OF_MEMORY;
#define SET(option, value) (code = code == CURLE_OK ? curl_easy_setopt(curl, option, value) : code)
    SET(CURLOPT_MAIL_FROM, from);
    SET(CURLOPT_MAIL_RCPT, recipients);
    SET(CURLOPT_UPLOAD, 1L);
    SET(CURLOPT_READFUNCTION, on_read);
    SET(CURLOPT_READDATA, &d);
    SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)message.len);
#undef SET
    enum mail_outcome outcome = perform(&d, code, error, why);
    curl_slist_free_all(recipients);
    buf_release(&d.replies);
    return outcome;
}

enum mail_outcome smtp_probe(struct smtp *smtp, struct fail *why)
{
    char error[CURL_ERROR_SIZE] = "";
    struct dialogue d = {.smtp = smtp, .replies = BUF_INIT(LIMIT_SMTP_REPLY_BYTES)};
    CURLcode code = set_options(&d, error);
    /* Without a message libcurl logs in and sends this one command. */
    if (code == CURLE_OK)
        code = curl_easy_setopt(smtp->curl, CURLOPT_CUSTOMREQUEST, "NOOP");
    enum mail_outcome outcome = perform(&d, code, error, why);
    if (outcome == MAIL_ACCEPTED && smtp->settings->user.len && !d.logged_in) {
        d.login_missing = true;
        outcome = MAIL_CONFIGURATION;
        explain(&d, CURLE_OK, 0, outcome, error, why);
    }
    buf_release(&d.replies);
    return outcome;
}

/* --- settings ------------------------------------------------------------------------------------------------ */

static bool is_loopback(struct span host)
{
    return span_eq_nocase(host, SPAN_LIT("localhost")) || span_eq(host, SPAN_LIT("[::1]")) ||
           (span_starts(host, SPAN_LIT("127.")) && host.len >= 9 && host.len <= 15);
}

static bool is_host(struct span host)
{
    for (size_t i = 0; i < host.len; i++) {
        char c = host.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
              c == '-' || c == '[' || c == ']' || c == ':'))
            return false;
    }
    return host.len > 0;
}

/* smtps://host[:port] or smtp://host[:port]. */
static enum status check_url(struct smtp *smtp, struct span *host, struct fail *why)
{
    struct span url = smtp->settings->url, rest;
    if (span_starts(url, SPAN_LIT("smtps://"))) {
        smtp->implicit_tls = true;
        rest = span_from(url, 8);
    } else if (span_starts(url, SPAN_LIT("smtp://"))) {
        rest = span_from(url, 7);
    } else {
        return fail_set(why, ST_INVALID, 0, "must be smtps://host:465, smtp://host:587, maildir:PATH or off");
    }
    if (rest.len && rest.ptr[rest.len - 1] == '/')
        rest.len--;
    if (!is_host(rest))
        return fail_set(why, ST_INVALID, 0,
                        "must name a host and a port and nothing else (no user, no path)");
    size_t colon = span_find_last(rest, ':');
    bool has_port = colon != SPAN_NONE && rest.ptr[rest.len - 1] != ']';
    uint64_t port = 1;
    if (has_port && (!span_to_u64(span_from(rest, colon + 1), 65535, &port) || port == 0))
        return fail_set(why, ST_INVALID, 0, "the port must be a number from 1 to 65535");
    *host = has_port ? span_cut(rest, 0, colon) : rest;
    if (host->len == 0)
        return fail_set(why, ST_INVALID, 0, "must name a host");
    return ST_OK;
}

enum status smtp_new(const struct mail_settings *settings, struct smtp **smtp, struct fail *why)
{
    struct smtp *s = calloc(1, sizeof *s);
    struct span host = {0};
    if (!s)
        return fail_set(why, ST_NOMEM, 0, "no memory for mail");
    s->settings = settings;
    s->url = BUF_INIT(2048);
    enum status status = check_url(s, &host, why);
    if (status == ST_OK && settings->tls_off && !is_loopback(host))
        status = fail_set(why, ST_INVALID, 0, "mail_tls = off is allowed for a server on this machine only");
    else if (status == ST_OK && settings->tls_off && s->implicit_tls)
        status = fail_set(why, ST_INVALID, 0, "smtps:// always uses TLS; with mail_tls = off write smtp://");
    else if (status == ST_OK && settings->hello.len && !is_host(settings->hello))
        status = fail_set(why, ST_INVALID, 0, "mail_hello must be a host name");
    if (status == ST_OK) {
        struct span url = settings->url;
        if (url.ptr[url.len - 1] == '/')
            url.len--;
        buf_addf(&s->url, "%.*s/%.*s", SPAN_FMT(url), SPAN_FMT(settings->hello));
        status = buf_status(&s->url, "mail_url", why);
    }
    if (status == ST_OK && !(s->curl = curl_easy_init()))
        status = fail_set(why, ST_NOMEM, 0, "no memory for mail");
    if (status != ST_OK) {
        smtp_free(s);
        return status;
    }
    *smtp = s;
    return ST_OK;
}

void smtp_free(struct smtp *smtp)
{
    if (!smtp)
        return;
    if (smtp->curl)
        curl_easy_cleanup(smtp->curl);
    buf_release(&smtp->url);
    free(smtp);
}
