#include "handler/ctl/check/check.h"

/* System */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/json_write.h"
#include "lib/base/text.h"

enum {
    TEXT_BYTES = 2048,
    LINE_BYTES = 4 * TEXT_BYTES, /* a character becomes three bytes at most */
    SUBJECT_WIDTH = 14,
    DAYS_WARN = 21, /* of a certificate: those who renew it automatically do so 30 days before its end */
};

static const char *const LEVELS[CHECK_LEVELS] = {"ok", "warn", "FAIL"};

/* --- findings -------------------------------------------------------------------------------------------------- */

static void print_line(const char *begin, const char *text)
{
    char memory[LINE_BYTES];
    struct buf line = BUF_FIXED(memory);
    text_add_line(&line, span_of(text));
    (void)printf("%s%.*s\n", begin, SPAN_FMT(buf_span(&line)));
}

/* Under the line that it belongs to. */
static void print_part(const char *name, const char *text)
{
    char begin[64];
    (void)snprintf(begin, sizeof begin, "%*s %s: ", SUBJECT_WIDTH + 6, "", name);
    if (text)
        print_line(begin, text);
}

static void print_lines(enum check_level level, const char *subject, const char *text, const char *means,
                        const char *cure)
{
    char begin[64];
    (void)snprintf(begin, sizeof begin, "%-5s %-*s ", LEVELS[level], SUBJECT_WIDTH, subject);
    print_line(begin, text);
    print_part("this means", means);
    print_part("to do", cure);
}

static void add_member(struct json_writer *w, const char *name, const char *text)
{
    char memory[LINE_BYTES];
    struct buf line = BUF_FIXED(memory);
    if (!text)
        return;
    text_add_line(&line, span_of(text));
    json_add_text(w, span_of(name), buf_span(&line));
}

static void print_json(enum check_level level, const char *subject, const char *text, const char *means,
                       const char *cure)
{
    struct buf out = BUF_INIT(8 * LINE_BYTES);
    struct json_writer w;
    struct fail why;
    json_begin(&w, &out);
    add_member(&w, "result", LEVELS[level]);
    add_member(&w, "subject", subject);
    add_member(&w, "text", text);
    add_member(&w, "means", means);
    add_member(&w, "do", cure);
    if (json_end(&w, "a finding", &why) == ST_OK)
        (void)printf("%.*s\n", SPAN_FMT(buf_span(&out)));
    else
        (void)fprintf(stderr, "leadctl: %s\n", why.text);
    buf_release(&out);
}

void check_say(struct check *c, enum check_level level, const char *subject, const char *means,
               const char *cure, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    (c->as_json ? print_json : print_lines)(level, subject, text, means, cure);
    (void)fflush(stdout); /* the next step may take a while */
    c->counts[level]++;
}

void check_failed(struct check *c, const char *subject, enum check_area area, const struct fail *why)
{
    const struct check_advice *advice = check_advice_for(area, why->text);
    check_say(c, CHECK_FAIL, subject, advice->means, advice->cure, "%s", why->text);
}

/* --- a server ---------------------------------------------------------------------------------------------------- */

/* Without the scheme and what stands behind the host and port. */
static struct span host_of(const char *url)
{
    struct span host = span_of(url);
    host = span_from(host, span_find(host, ':') + sizeof "://" - 1);
    return span_cut(host, 0, span_find(host, '/'));
}

static void add_day(struct buf *text, int64_t time_ms)
{
    char time[CLOCK_TEXT_BYTES];
    clock_iso_time(time_ms, time);
    buf_add(text, span_cut(span_of(time), 0, 10));
}

/* Who vouches for whom, and until when. */
static void add_chain(struct buf *text, const struct peer *peer)
{
    int64_t now_ms = clock_wall_ms();
    for (size_t i = 0; i < peer->certificate_count; i++) {
        const struct peer_certificate *certificate = &peer->certificates[i];
        buf_addf(text, "%s[%s]", i ? " signed by " : "", certificate->subject);
        if (certificate->until_ms) {
            int64_t days = (certificate->until_ms - now_ms) / CLOCK_DAY_MS;
            buf_add_text(text, certificate->until_ms < now_ms ? " ended " : " until ");
            add_day(text, certificate->until_ms);
            days = days < 0 ? -days : days;
            buf_addf(text, " (%lld day%s %s)", (long long)days, days == 1 ? "" : "s",
                     certificate->until_ms < now_ms ? "ago" : "left");
        }
    }
    if (peer->certificate_count)
        buf_addf(text, ", signed by [%s]", peer->certificates[peer->certificate_count - 1].issuer);
}

static void tell_certificates(struct check *c, const char *subject, const struct peer *peer)
{
    char memory[TEXT_BYTES] = "";
    struct buf chain = BUF_FIXED(memory);
    const struct peer_certificate *first = peer_first_to_end(peer);
    add_chain(&chain, peer);
    if (peer->stage == PEER_UNTRUSTED) {
        const struct check_advice *advice = check_advice_for(CHECK_AREA_NETWORK, peer->why.text);
        check_say(c, CHECK_FAIL, subject, advice->means, advice->cure, "%s; it shows %s", peer->why.text,
                  peer->certificate_count ? memory : "no certificate");
    } else if (first && first->until_ms - clock_wall_ms() < DAYS_WARN * CLOCK_DAY_MS) {
        check_say(c, CHECK_WARN, subject, "when it ends nothing goes there any more",
                  "have it renewed by who runs that server", "trusted, but not for long: %s", memory);
    } else {
        check_say(c, CHECK_OK, subject, NULL, NULL, "trusted: %s", memory);
    }
}

bool check_peer(struct check *c, const char *prefix, const struct peer_target *target)
{
    struct peer peer;
    char subject[32];
    struct span host = host_of(target->url);
    peer_probe(target, &peer);
    const struct check_advice *advice = check_advice_for(CHECK_AREA_NETWORK, peer.why.text);
    bool is_there = peer.stage != PEER_UNRESOLVED && peer.stage != PEER_UNREACHABLE;
    (void)snprintf(subject, sizeof subject, "%s-host", prefix);
    if (is_there)
        check_say(c, CHECK_OK, subject, NULL, NULL, "%.*s is at %s and takes connections", SPAN_FMT(host),
                  peer.address);
    else
        check_say(c, CHECK_FAIL, subject, advice->means, advice->cure, "%.*s: %s", SPAN_FMT(host),
                  peer.why.text);
    (void)snprintf(subject, sizeof subject, "%s-tls", prefix);
    if (peer.stage == PEER_NOT_SERVED)
        check_say(c, CHECK_FAIL, subject, advice->means, advice->cure, "%.*s: %s", SPAN_FMT(host),
                  peer.why.text);
    else if (peer.stage == PEER_UNTRUSTED || peer.certificate_count)
        tell_certificates(c, subject, &peer);
    return peer.stage == PEER_READY;
}
