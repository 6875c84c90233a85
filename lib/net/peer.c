/* CURLOPT_CONNECT_ONLY ends a transfer when the connection is ready for a request: behind the TLS handshake, with SMTP
 * behind EHLO, STARTTLS and the EHLO after it (no user is set, so there is no login).  CURLOPT_CERTINFO keeps the
 * certificates as texts, of which three are read.
 */
#include "lib/net/peer.h"

/* System */
#include <stdio.h>
#include <string.h>

/* Libraries */
#include <curl/curl.h>

/* L0 */
#include "lib/base/limits.h"
#include "lib/base/text.h"

/* L3 */
#include "lib/net/certificate.h"

enum { LINE_BYTES = 4 * PEER_NAME_BYTES };

static void keep_line(char *to, size_t room, struct span from)
{
    char memory[LINE_BYTES];
    struct buf clean = BUF_FIXED(memory);
    text_add_line(&clean,
                  utf8_is_valid(from, NULL) ? utf8_cut_bytes(from, PEER_NAME_BYTES - 1) : span_empty());
    (void)snprintf(to, room, "%.*s", SPAN_FMT(utf8_cut_bytes(buf_span(&clean), room - 1)));
}

/* data: one of libcurl's lines. */
static void read_field(struct peer_certificate *certificate, const char *data)
{
    static const struct span names[] = {SPAN_LIT("Subject:"), SPAN_LIT("Issuer:"), SPAN_LIT("Start date:"),
                                        SPAN_LIT("Expire date:")};
    const struct span line = span_of(data);
    if (span_starts(line, names[0]))
        keep_line(certificate->subject, sizeof certificate->subject, span_from(line, names[0].len));
    else if (span_starts(line, names[1]))
        keep_line(certificate->issuer, sizeof certificate->issuer, span_from(line, names[1].len));
    else if (span_starts(line, names[2]))
        certificate->from_ms = certificate_time_ms(data + names[2].len);
    else if (span_starts(line, names[3]))
        certificate->until_ms = certificate_time_ms(data + names[3].len);
}

static void take_certificates(CURL *curl, struct peer *peer)
{
    struct curl_certinfo *info = NULL;
    if (curl_easy_getinfo(curl, CURLINFO_CERTINFO, &info) != CURLE_OK || !info)
        return;
    for (int i = 0; i < info->num_of_certs && peer->certificate_count < PEER_CERTIFICATES; i++) {
        struct peer_certificate *certificate = &peer->certificates[peer->certificate_count++];
        for (const struct curl_slist *line = info->certinfo[i]; line; line = line->next)
            read_field(certificate, line->data);
    }
}

static CURLcode set_options(CURL *curl, const struct peer_target *target, bool believes, char *error)
{
    CURLcode code = CURLE_OK;
    long wait_ms = (long)target->wait_ms;
#define SET(option, value) (code = code == CURLE_OK ? curl_easy_setopt(curl, option, value) : code)
    SET(CURLOPT_ERRORBUFFER, error);
    SET(CURLOPT_URL, target->url);
    SET(CURLOPT_PROTOCOLS_STR, "http,https,smtp,smtps");
    SET(CURLOPT_CONNECT_ONLY, 1L);
    SET(CURLOPT_CERTINFO, 1L);
    SET(CURLOPT_NOSIGNAL, 1L);
    SET(CURLOPT_QUICK_EXIT, 1L); /* see http.c */
    SET(CURLOPT_PROXY, "");
    SET(CURLOPT_NETRC, (long)CURL_NETRC_IGNORED);
    SET(CURLOPT_DISALLOW_USERNAME_IN_URL, 1L);
    SET(CURLOPT_USE_SSL, target->is_plain ? (long)CURLUSESSL_NONE : (long)CURLUSESSL_ALL);
    SET(CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    SET(CURLOPT_SSL_VERIFYPEER, believes ? 0L : 1L);
    SET(CURLOPT_SSL_VERIFYHOST, believes ? 0L : 2L);
    SET(CURLOPT_SSL_SESSIONID_CACHE, 0L); /* see http.c */
    SET(CURLOPT_CONNECTTIMEOUT_MS, wait_ms);
    SET(CURLOPT_TIMEOUT_MS, wait_ms);
    SET(CURLOPT_SERVER_RESPONSE_TIMEOUT, (wait_ms + 999) / 1000);
    if (target->ca_file) {
        SET(CURLOPT_CAINFO, target->ca_file);
        SET(CURLOPT_CAPATH, NULL);
    }
#undef SET
    return code;
}

static enum peer_stage stage_of(CURLcode code, const struct peer *peer)
{
    switch ((int)code) {
    case CURLE_OK:
        return PEER_READY;
    case CURLE_COULDNT_RESOLVE_HOST:
        return PEER_UNRESOLVED;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
        return PEER_UNTRUSTED;
    default:
        /* It has an address as soon as the connection stands. */
        return peer->address[0] ? PEER_NOT_SERVED : PEER_UNREACHABLE;
    }
}

static void explain(struct peer *peer, CURLcode code, const char *words)
{
    static const char *const begins[] = {[PEER_UNRESOLVED] = "",
                                         [PEER_UNREACHABLE] = "no connection: ",
                                         [PEER_NOT_SERVED] = "connected, and then: ",
                                         [PEER_UNTRUSTED] = "the server's certificate is not trusted: ",
                                         [PEER_READY] = ""};
    peer->stage = stage_of(code, peer);
    if (code == CURLE_USE_SSL_FAILED)
        words = "the server offers no STARTTLS";
    (void)fail_set(&peer->why, ST_AGAIN, 0, "%s%s", begins[peer->stage],
                   words[0] ? words : curl_easy_strerror(code));
}

static CURLcode connect_once(const struct peer_target *target, bool believes, struct peer *peer)
{
    char error[CURL_ERROR_SIZE] = "";
    char *address = NULL;
    CURL *curl = curl_easy_init();
    CURLcode code = curl ? set_options(curl, target, believes, error) : CURLE_OUT_OF_MEMORY;
    if (code == CURLE_OK)
        code = curl_easy_perform(curl);
    if (curl && curl_easy_getinfo(curl, CURLINFO_PRIMARY_IP, &address) == CURLE_OK && address && *address)
        keep_line(peer->address, sizeof peer->address, span_of(address));
    if (code == CURLE_OK)
        take_certificates(curl, peer);
    if (code != CURLE_OK && !believes)
        explain(peer, code, error);
    curl_easy_cleanup(curl);
    return code;
}

void peer_probe(const struct peer_target *target, struct peer *peer)
{
    *peer = (struct peer){.stage = PEER_READY};
    if (connect_once(target, false, peer) != CURLE_OK && peer->stage == PEER_UNTRUSTED &&
        connect_once(target, true, peer) != CURLE_OK)
        peer->certificate_count = 0;
}

const struct peer_certificate *peer_first_to_end(const struct peer *peer)
{
    const struct peer_certificate *first = NULL;
    for (size_t i = 0; i < peer->certificate_count; i++) {
        const struct peer_certificate *c = &peer->certificates[i];
        if (c->until_ms && (!first || c->until_ms < first->until_ms))
            first = c;
    }
    return first;
}

void peer_add_library(struct buf *text)
{
    const curl_version_info_data *version = curl_version_info(CURLVERSION_NOW);
    buf_addf(text, "libcurl/%s %s", version->version,
             version->ssl_version ? version->ssl_version : "without TLS");
}
