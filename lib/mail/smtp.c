/* Submission through libcurl 7.88.1, with what that version leaves open closed
 * here:
 *
 * - It frees the server's name twice when it has no memory to remember a TLS
 *   session.  So it remembers none.
 * - Without AUTH on offer it sends the mail without logging in and reports
 *   success.  So with a user configured, no byte of the body leaves before a
 *   reply 235 was seen.
 * - It hands addresses to the server unchecked; transport.c has checked them.
 * - It waits 120 s for the reply to the final dot, where RFC 5321 4.5.3.2.6 asks
 *   for 600 s; a spurious time-out there means a second copy.  Its total time-out
 *   runs from the beginning, and the answer to QUIT has none but the 600 s.  So
 *   each phase has an end of its own (end_by_ms): a slow start must not shorten
 *   the wait at the end, and nobody waits long for a farewell.
 * - It takes only 250 for success at the end, and gives the code of the last
 *   reply before QUIT; smtp_classify knows what each combination means.
 *
 * One message per connection: after a time-out of an idle connection nothing is
 * left to be confused about, and the mailer sends few mails.
 */
#include "lib/mail/transport_internal.h"

/* System */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Libraries */
#include <curl/curl.h>

/* L0 */
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/encode.h"

/* L3 */
#include "lib/net/certificate.h"
#include "lib/net/loopback.h"

enum {
    SECOND_MS = 1000,
    QUIT_WAIT_MS = 2000, /* politeness only; the outcome is known */
    WORDS_BYTES = 160,   /* of the server's words in a reason */
    URL_BYTES = 1024
};

struct smtp {
    CURL *curl;
    const struct mail_settings *settings;
    struct buf url;             /* with the EHLO name as its path, where libcurl looks for it */
    int64_t certificate_end_ms; /* of the server, as the last probe has seen it */
};

struct dialogue {
    struct smtp *smtp;
    const char *from; /* NULL: a probe, which ends after the login */
    struct curl_slist *recipient;
    struct span message;
    bool again; /* an earlier attempt may have been accepted */
    mail_fence *fence;
    void *context;

    int64_t end_by_ms; /* monotonic; of the present phase: handing out, waiting for the reply, QUIT */
    size_t handed_out;
    bool logged_in;
    bool login_missing;
    const char *broken_off; /* why we ended it ourselves, or NULL; all bytes were not handed out */
    struct buf replies;     /* the server's lines */
    char error[CURL_ERROR_SIZE];
};

static bool is_handed_out(const struct dialogue *d)
{
    return d->message.len > 0 && d->handed_out == d->message.len;
}

/* --- classification ------------------------------------------------------------------------------------- */

/* The enhanced status code (RFC 3463) behind the reply code: "550 5.7.30 Basic ..." gives "5.7.30". */
static struct span enhanced_code(struct span words)
{
    struct span code = span_from(words, 4);
    size_t len = 0;
    while (len < code.len && ((code.ptr[len] >= '0' && code.ptr[len] <= '9') || code.ptr[len] == '.'))
        len++;
    return span_cut(code, 0, len);
}

static bool is_configuration_reply(long reply, struct span words)
{
    /* 530, 538: login or TLS required; 534, 535: login refused.  Exchange says it with other codes, too. */
    struct span enhanced = enhanced_code(words);
    return reply == 530 || reply == 534 || reply == 535 || reply == 538 ||
           span_eq(enhanced, SPAN_LIT("5.7.3")) || span_eq(enhanced, SPAN_LIT("5.7.30")) ||
           span_has_nocase(words, SPAN_LIT("SendAsDenied"));
}

enum mail_outcome smtp_classify(int curl_code, long reply, bool all, bool again, struct span words)
{
    if (curl_code == CURLE_OK || (all && reply / 100 == 2))
        return MAIL_ACCEPTED; /* 251 and its like: only libcurl thinks that it failed */
    /* 354, or 0 after the beginning of a reply: what became of a complete message is not known. */
    if (all && reply / 100 != 4 && reply / 100 != 5)
        return MAIL_AMBIGUOUS;
    if (reply == 354)
        return MAIL_TRANSIENT; /* without the final dot nothing was accepted */
    if (all && again && span_has_nocase(words, SPAN_LIT("MapiExceptionDuplicateDelivery")))
        return MAIL_ACCEPTED; /* Exchange has this Message-ID already, from the attempt without an answer */
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
    /* libcurl calls a refusal of MAIL, RCPT or DATA a send error; one of the message follows all its bytes.
     * A 5xx greeting or EHLO speaks of the server's state and not of this message.
     * RFC 5321 4.5.3.1.10: 552 before the message (too many recipients) is to be taken for 452. */
    if (reply / 100 == 5 && is_configuration_reply(reply, words))
        return MAIL_CONFIGURATION;
    if (reply / 100 == 5 && (curl_code == CURLE_SEND_ERROR || all))
        return reply == 552 && !all ? MAIL_TRANSIENT : MAIL_PERMANENT;
    return MAIL_TRANSIENT;
}

/* --- waits ---------------------------------------------------------------------------------------------- */

/* For the reply to the message, the longest wait by far. */
static int64_t reply_wait_ms(const struct mail_settings *s)
{
    return s->reply_wait_ms ? s->reply_wait_ms : clock_long_wait_ms(WAIT_SMTP_REPLY_MS);
}

/* From there on libcurl keeps to reply_wait_ms; this is for the case that it does not. */
static int64_t final_wait_ms(const struct mail_settings *s)
{
    return reply_wait_ms(s) + reply_wait_ms(s) / 10;
}

static int64_t connect_wait_ms(const struct mail_settings *s)
{
    int64_t connect_ms = WAIT_SMTP_CONNECT_MS;
    return connect_ms < reply_wait_ms(s) ? connect_ms : reply_wait_ms(s);
}

/* From the beginning until all bytes are handed out: half of the final wait, which RFC 5321 4.5.3.2 asks for
 * at each step, for all of them. */
static int64_t hand_out_wait_ms(const struct mail_settings *s)
{
    return connect_wait_ms(s) + reply_wait_ms(s) / 2;
}

/* --- the server's words --------------------------------------------------------------------------------- */

/* The lines of the last reply with that code.  The answer to QUIT may stand behind it. */
static struct span reply_lines(const struct dialogue *d, long code)
{
    char digits[16];
    struct span found = {0}, rest = buf_span(&d->replies), line;
    bool goes_on = false;
    (void)snprintf(digits, sizeof digits, "%03ld", code);
    while (rest.len && span_next(&rest, '\n', &line)) {
        bool same = span_starts(line, span_of(digits));
        if (same && goes_on)
            found.len = (size_t)(line.ptr + line.len - found.ptr);
        else if (same)
            found = line;
        goes_on = same && line.len > 3 && line.ptr[3] == '-';
    }
    return span_trim(found);
}

static bool is_printable(char c)
{
    return c > ' ' && c < 0x7F;
}

static bool may_be_address(struct span word)
{
    return span_find(word, '@') != SPAN_NONE || span_has_nocase(word, SPAN_LIT("%40"));
}

/* What the server said without what may be an address: replies quote recipients. */
static void add_words(struct buf *out, struct span said)
{
    while (said.len && out->len < WORDS_BYTES) {
        size_t end = said.ptr[0] == '<' ? span_find(said, '>') : SPAN_NONE, len = 1;
        if (end != SPAN_NONE) {
            buf_add_text(out, "<...>");
            len = end + 1;
        } else if (is_printable(said.ptr[0])) {
            while (len < said.len && is_printable(said.ptr[len]) && said.ptr[len] != '<')
                len++;
            struct span word = span_cut(said, 0, len);
            if (may_be_address(word))
                word = SPAN_LIT("<...>");
            buf_add(out, word);
        } else if (out->len && out->data[out->len - 1] != ' ') {
            buf_add_char(out, ' ');
        }
        said = span_from(said, len);
    }
}

/* Whether it is said as it is or in base64; also when there is no memory to find out. */
static bool is_said(struct span said, struct span secret)
{
    struct buf coded = BUF_INIT(2 * LIMIT_CONFIG_FILE_BYTES);
    base64_add(&coded, secret);
    bool found =
        coded.error != ST_OK || span_has_nocase(said, secret) || span_has_nocase(said, buf_span(&coded));
    buf_release_secret(&coded);
    return found;
}

/* Whether the server repeats the password: some quote the command that they do not take, or what it held. */
static bool has_password(const struct mail_settings *s, struct span said)
{
    struct buf login = BUF_INIT(LIMIT_CONFIG_FILE_BYTES); /* what AUTH PLAIN sends (RFC 4616) */
    if (s->password.len == 0)
        return false;
    (void)buf_reserve(&login,
                      s->user.len + s->password.len + 2); /* all at once: growing would leave copies */
    buf_add(&login, SPAN_LIT("\0"));
    buf_add(&login, s->user);
    buf_add(&login, SPAN_LIT("\0"));
    buf_add(&login, s->password);
    bool found = login.error != ST_OK || is_said(said, s->password) || is_said(said, buf_span(&login));
    buf_release_secret(&login);
    return found;
}

static void explain(const struct dialogue *d, CURLcode code, long reply, enum mail_outcome outcome,
                    struct fail *why)
{
    struct buf words = BUF_INIT(LIMIT_SMTP_REPLY_BYTES);
    enum status status = mail_outcome_status(outcome);
    struct span lines = reply_lines(d, reply);
    if (has_password(d->smtp->settings, lines))
        buf_addf(&words, "%ld, in words that hold the password", reply);
    else
        add_words(&words, lines);
    const char *said = words.data ? words.data : "";
    if (d->login_missing)
        (void)fail_set(why, status, 0,
                       "the SMTP server offers no login, so nothing was sent: check host and port");
    else if (d->broken_off)
        (void)fail_set(why, status, 0, "broken off before the message was complete: %s", d->broken_off);
    else if (code == CURLE_USE_SSL_FAILED)
        (void)fail_set(why, status, 0,
                       "the SMTP server offers no STARTTLS, so nothing was sent: check host and port");
    else if (code == CURLE_LOGIN_DENIED && reply < 300)
        (void)fail_set(why, status, 0, "the SMTP server offers neither PLAIN nor LOGIN for the login");
    else if (code == CURLE_LOGIN_DENIED)
        (void)fail_set(why, status, 0,
                       "the SMTP server refuses the login (check mail_user and mail_password): %s", said);
    else if (code == CURLE_PEER_FAILED_VERIFICATION)
        (void)fail_set(why, status, 0, "the SMTP server's certificate is not trusted: %s", d->error);
    else if (outcome == MAIL_AMBIGUOUS)
        (void)fail_set(why, status, 0,
                       "no answer after the whole message was sent; it may have been accepted");
    else if (reply >= 400)
        (void)fail_set(why, status, 0, "the SMTP server answered: %s", said);
    else
        (void)fail_set(why, status, 0, "%s%s%s", curl_easy_strerror(code), d->error[0] ? ": " : "", d->error);
    if (why)
        why->peer = (int)reply;
    buf_release(&words);
}

/* --- libcurl's callbacks -------------------------------------------------------------------------------- */

/* Every reply line of the server. */
static size_t on_reply(char *line, size_t size, size_t count, void *context)
{
    struct dialogue *d = context;
    struct span text = {line, size * count};
    bool last_line = text.len < 4 || text.ptr[3] != '-';
    if (span_starts(text, SPAN_LIT("235")))
        d->logged_in = true;
    if (last_line && is_handed_out(d))
        d->end_by_ms = clock_monotonic_ms() + QUIT_WAIT_MS;
    buf_add(&d->replies, text);
    return d->replies.error == ST_OK ? text.len : 0; /* a server that never stops talking */
}

/* Hands out the message; the last piece only when the fence lets it. */
static size_t on_read(char *to, size_t size, size_t count, void *context)
{
    struct dialogue *d = context;
    struct span piece = span_cut(span_from(d->message, d->handed_out), 0, size * count);
    bool last = piece.len > 0 && d->handed_out + piece.len == d->message.len;
    if (d->smtp->settings->user.len && !d->logged_in) {
        d->login_missing = true;
        return CURL_READFUNC_ABORT;
    }
    if (last && d->fence && !d->fence(d->context)) {
        d->broken_off = "the mail is no longer ours to send";
        return CURL_READFUNC_ABORT;
    }
    if (piece.len)
        memcpy(to, piece.ptr, piece.len);
    d->handed_out += piece.len;
    if (last)
        d->end_by_ms = clock_monotonic_ms() + final_wait_ms(d->smtp->settings);
    return piece.len;
}

/* Called at least once a second; non-zero ends the dialogue.  Once the final bytes are out the reply is worth
 * waiting for, whatever happens. */
static int on_progress(void *context, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t e)
{
    struct dialogue *d = context;
    const _Atomic bool *stop = d->smtp->settings->stop;
    (void)a, (void)b, (void)c, (void)e;
    bool late = clock_monotonic_ms() > d->end_by_ms;
    if (is_handed_out(d))
        return late;
    if (stop && atomic_load(stop))
        d->broken_off = "this program is ending";
    else if (late)
        d->broken_off = "the SMTP server is too slow";
    return d->broken_off != NULL;
}

/* A server may not send a body of its own. */
static size_t on_body(char *text, size_t size, size_t count, void *context)
{
    (void)text;
    (void)context;
    return size * count;
}

/* --- transfer ------------------------------------------------------------------------------------------- */

static CURLcode set_options(struct dialogue *d)
{
    const struct mail_settings *s = d->smtp->settings;
    CURL *curl = d->smtp->curl;
    CURLcode code = CURLE_OK;
    curl_easy_reset(curl);
#define SET(option, value) (code = code == CURLE_OK ? curl_easy_setopt(curl, option, value) : code)
    SET(CURLOPT_ERRORBUFFER, d->error);
    SET(CURLOPT_URL, d->smtp->url.data);
    SET(CURLOPT_PROTOCOLS_STR, "smtp,smtps");
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_FORBID_REUSE, 1L);
    SET(CURLOPT_USE_SSL, s->tls_off ? (long)CURLUSESSL_NONE : (long)CURLUSESSL_ALL);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_VERIFYPEER, 1L);
    SET(CURLOPT_SSL_VERIFYHOST, 2L);
    SET(CURLOPT_SSL_SESSIONID_CACHE, 0L);
    if (s->ca_file.len)
        SET(CURLOPT_CAINFO, s->ca_file.ptr);
    if (s->user.len) {
        SET(CURLOPT_USERNAME, s->user.ptr);
        SET(CURLOPT_PASSWORD, s->password.ptr);
        SET(CURLOPT_LOGIN_OPTIONS, "AUTH=PLAIN;AUTH=LOGIN");
    }
    SET(CURLOPT_CONNECTTIMEOUT_MS, (long)connect_wait_ms(s));
    SET(CURLOPT_SERVER_RESPONSE_TIMEOUT, (long)((reply_wait_ms(s) + SECOND_MS - 1) / SECOND_MS));
    SET(CURLOPT_TIMEOUT_MS, (long)(hand_out_wait_ms(s) + final_wait_ms(s)));
    SET(CURLOPT_HEADERFUNCTION, on_reply);
    SET(CURLOPT_HEADERDATA, d);
    SET(CURLOPT_WRITEFUNCTION, on_body);
    SET(CURLOPT_XFERINFOFUNCTION, on_progress);
    SET(CURLOPT_XFERINFODATA, d);
    SET(CURLOPT_NOPROGRESS, 0L);
    if (d->from) {
        SET(CURLOPT_MAIL_FROM, d->from);
        SET(CURLOPT_MAIL_RCPT, d->recipient);
        SET(CURLOPT_UPLOAD, 1L);
        SET(CURLOPT_READFUNCTION, on_read);
        SET(CURLOPT_READDATA, d);
        SET(CURLOPT_INFILESIZE_LARGE, (curl_off_t)d->message.len);
    } else {
        SET(CURLOPT_CUSTOMREQUEST, "NOOP"); /* what libcurl sends after the login */
        SET(CURLOPT_CERTINFO, 1L);
    }
#undef SET
    return code;
}

static enum mail_outcome decide(struct dialogue *d, CURLcode code, long reply)
{
    if (code == CURLE_OK && !d->from && d->smtp->settings->user.len && !d->logged_in)
        d->login_missing = true; /* a probe has no body for on_read to hold back */
    if (d->login_missing)
        return MAIL_CONFIGURATION;
    if (d->broken_off)
        return MAIL_TRANSIENT;
    return smtp_classify((int)code, reply, is_handed_out(d), d->again, reply_lines(d, reply));
}

static enum mail_outcome perform(struct dialogue *d, struct fail *why)
{
    struct smtp *smtp = d->smtp;
    long reply = 0;
    if (!smtp->curl && !(smtp->curl = curl_easy_init())) {
        (void)fail_set(why, ST_NOMEM, 0, "no memory to send a mail");
        return MAIL_TRANSIENT;
    }
    CURL *curl = smtp->curl;
    d->replies = BUF_INIT(LIMIT_SMTP_REPLY_BYTES);
    d->end_by_ms = clock_monotonic_ms() + hand_out_wait_ms(d->smtp->settings);
    CURLcode code = set_options(d);
    if (code == CURLE_OK)
        code = curl_easy_perform(curl);
    (void)curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply);
    if (!d->from)
        smtp->certificate_end_ms = certificate_end_ms(curl);
    if (code != CURLE_ABORTED_BY_CALLBACK)
        d->broken_off = NULL; /* it was only the wait for the answer to QUIT, after a refusal */
    enum mail_outcome outcome = decide(d, code, reply);
    if (outcome != MAIL_ACCEPTED)
        explain(d, code, reply, outcome, why);
    curl_easy_reset(curl); /* forgets pointers to what is about to go */
    buf_release(&d->replies);
    return outcome;
}

int64_t smtp_certificate_end_ms(const struct smtp *smtp)
{
    return smtp->certificate_end_ms;
}

enum mail_outcome smtp_send(struct smtp *smtp, const char *from, const char *to, struct span message,
                            bool again, mail_fence *fence, void *context, struct fail *why)
{
    struct dialogue d = {
        .smtp = smtp,
        .from = from,
        .recipient = curl_slist_append(NULL, to),
        .message = message,
        .again = again,
        .fence = fence,
        .context = context,
    };
    if (!d.recipient) {
        (void)fail_set(why, ST_NOMEM, 0, "no memory to send a mail");
        return MAIL_TRANSIENT;
    }
    enum mail_outcome outcome = perform(&d, why);
    curl_slist_free_all(d.recipient);
    return outcome;
}

enum mail_outcome smtp_probe(struct smtp *smtp, struct fail *why)
{
    struct dialogue d = {.smtp = smtp};
    smtp->certificate_end_ms = 0;
    return perform(&d, why);
}

/* --- settings ------------------------------------------------------------------------------------------- */

/* With the brackets of an IPv6 address. */
static bool is_on_this_machine(struct span host)
{
    bool is_ip6 = host.len > 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']';
    return host_is_loopback(is_ip6 ? span_cut(host, 1, host.len - 2) : host, is_ip6);
}

static bool is_host(struct span host)
{
    return host.len > 0 && span_has_only(host, ".-[]:");
}

struct endpoint {
    struct span host;
    uint64_t port;
    bool implicit_tls;
};

/* smtps://host[:port] or smtp://host[:port]; the ports of RFC 8314 where none is given. */
static enum status read_url(struct span url, struct endpoint *e, struct fail *why)
{
    static const struct {
        struct span prefix;
        struct endpoint endpoint;
    } kinds[] = {
        {SPAN_LIT("smtps://"), {.port = 465, .implicit_tls = true}},
        {SPAN_LIT("smtp://"), {.port = 587}},
    };
    size_t kind = span_starts(url, kinds[0].prefix) ? 0 : 1;
    if (!span_starts(url, kinds[kind].prefix))
        return fail_set(why, ST_INVALID, 0, "must be smtps://host:465, smtp://host:587, maildir:PATH or off");
    *e = kinds[kind].endpoint;
    e->host = span_from(url, kinds[kind].prefix.len);
    if (e->host.len && e->host.ptr[e->host.len - 1] == '/')
        e->host.len--;
    if (!is_host(e->host)) /* with its port */
        return fail_set(why, ST_INVALID, 0,
                        "must name a host and a port and nothing else (no user, no path)");
    size_t colon = span_find_last(e->host, ':');
    if (colon != SPAN_NONE && e->host.ptr[e->host.len - 1] != ']') { /* not inside of [::1] */
        if (!span_to_u64(span_from(e->host, colon + 1), UINT16_MAX, &e->port) || e->port == 0)
            return fail_set(why, ST_INVALID, 0, "the port must be a number from 1 to 65535");
        e->host.len = colon;
    }
    return e->host.len ? ST_OK : fail_set(why, ST_INVALID, 0, "must name a host");
}

static enum status check_settings(const struct mail_settings *s, struct endpoint *e, struct fail *why)
{
    enum status status = read_url(s->url, e, why);
    if (status != ST_OK)
        return status;
    if (s->tls_off && !is_on_this_machine(e->host))
        return fail_set(why, ST_INVALID, 0, "mail_tls = off is allowed for a server on this machine only");
    if (s->tls_off && e->implicit_tls)
        return fail_set(why, ST_INVALID, 0, "smtps:// always uses TLS; with mail_tls = off write smtp://");
    if (s->hello.len && !is_host(s->hello))
        return fail_set(why, ST_INVALID, 0, "mail_hello must be a host name");
    if (s->password.len && !s->user.len)
        return fail_set(why, ST_INVALID, 0, "mail_password needs mail_user");
    return ST_OK;
}

enum status smtp_new(const struct mail_settings *settings, struct smtp **smtp, struct fail *why)
{
    struct endpoint e;
    enum status status = check_settings(settings, &e, why);
    if (status != ST_OK)
        return status;
    struct smtp *s = calloc(1, sizeof *s);
    if (!s)
        return fail_set(why, ST_NOMEM, 0, "no memory for mail");
    s->settings = settings;
    s->url = BUF_INIT(URL_BYTES);
    buf_addf(&s->url, "%s://%.*s:%u/%.*s", e.implicit_tls ? "smtps" : "smtp", SPAN_FMT(e.host),
             (unsigned int)e.port, SPAN_FMT(settings->hello));
    status = buf_status(&s->url, "mail_url with mail_hello", why);
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
