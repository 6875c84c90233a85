/* The mail server: its host, its certificate, a login, and a mail when one is asked for. */
#include "handler/ctl/check/check.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"

/* Long enough for a server that thinks about a message, and not the ten minutes that a mailer gives it. */
enum { REPLY_WAIT_MS = 60000, DAY_TEXT = 10 };

static bool is_maildir(const struct config *config)
{
    return span_starts(span_of(config->mail_url), SPAN_LIT("maildir:"));
}

/* Whether it is worth while to log in. */
static bool check_server(struct check *c, const struct mail_settings *settings)
{
    struct buf url = BUF_INIT(LIMIT_URL_BYTES);
    struct fail why;
    bool is_ready = false;
    buf_addf(&url, "%.*s/%.*s", SPAN_FMT(settings->url), SPAN_FMT(settings->hello));
    if (buf_status(&url, "mail_url", &why) == ST_OK)
        is_ready = check_peer(c, "mail",
                              &(struct peer_target){.url = url.data,
                                                    .ca_file = c->service->config.mail_tls_ca,
                                                    .is_plain = settings->tls_off,
                                                    .wait_ms = CHECK_WAIT_MS});
    else
        check_failed(c, "mail", CHECK_AREA_MAIL, &why);
    buf_release(&url);
    return is_ready;
}

/* --- a mail ------------------------------------------------------------------------------------------------------ */

/* In the shape of an alarm, so that a filter that eats alarms eats this one, too. */
static enum status compose(const struct config *config, struct span to, unsigned int number,
                           struct buf *message, struct fail *why)
{
    char id[48], day[CLOCK_TEXT_BYTES], host[256] = "this host";
    int64_t now_ms = clock_wall_ms();
    clock_iso_time(now_ms, day);
    /* A second one today must have another Message-ID: many servers drop what they take for a duplicate. */
    (void)snprintf(id, sizeof id, "%.*s-%" PRId64, DAY_TEXT, day, now_ms);
    if (gethostname(host, sizeof host) != 0)
        (void)memcpy(host, "this host", sizeof "this host");
    host[sizeof host - 1] = '\0';
    const struct alarm_notice notice = {
        .event = SPAN_LIT("test-mail"),
        .day = span_of(id),
        .received_ms = now_ms,
        .is_trial = true,
        .title = SPAN_LIT("a test mail: nothing has happened"),
        .happened = SPAN_LIT("Somebody has run 'leadctl check --send-test-mail'."),
        .meaning = SPAN_LIT("Mails of leadhook reach this address."),
        .action = SPAN_LIT("Nothing. If it lay among junk, tell the mail program that it is none."),
        .host = span_of(host),
        .recipient_number = number,
        .from = &config->from,
        .to = to,
    };
    return mail_compose_alarm(message, &notice, why);
}

static void send_one(struct check *c, struct mail_transport *transport, struct span to, unsigned int number)
{
    const struct config *config = &c->service->config;
    struct buf message = BUF_INIT(LIMIT_MAIL_BYTES);
    struct fail why = {0};
    enum mail_outcome outcome = MAIL_PERMANENT;
    if (compose(config, to, number, &message, &why) == ST_OK)
        outcome = mail_send(transport, config->from.address, to, buf_span(&message), NULL, NULL, &why);
    buf_release(&message);
    if (outcome == MAIL_ACCEPTED) {
        check_say(c, CHECK_OK, "test-mail", NULL, NULL,
                  "the server took it for recipient %u; look whether it arrives", number);
    } else {
        fail_prefix(&why, "recipient %u", number);
        check_failed(c, "test-mail", CHECK_AREA_MAIL, &why);
    }
}

static void send_to_all(struct check *c, struct mail_transport *transport)
{
    const struct config *config = &c->service->config;
    unsigned int number = 1;
    for (size_t i = 0; i < config->recipient_count; i++)
        send_one(c, transport, config->recipients[i], number++);
    for (size_t i = 0; i < config->alarm_recipient_count; i++)
        send_one(c, transport, config->alarm_recipients[i], number++);
    if (number == 1)
        check_say(c, CHECK_WARN, "test-mail", "nobody is told of leads or alarms", "set mail_to",
                  "there is no recipient");
}

/* --- the part ---------------------------------------------------------------------------------------------------- */

static void log_in(struct check *c, struct mail_transport *transport)
{
    const struct config *config = &c->service->config;
    struct fail why = {0};
    if (mail_probe(transport, &why) != MAIL_ACCEPTED) {
        fail_prefix(&why, "%s", config->mail_url);
        check_failed(c, "mail", CHECK_AREA_MAIL, &why);
        return;
    }
    const char *state = is_maildir(config)  ? "can be written"
                        : config->mail_user ? "accepts the login"
                                            : "is ready";
    if (config->recipient_count == 0 && config->mail_routes)
        check_say(c, CHECK_OK, "mail", NULL, NULL, "%s %s; mail_routes name the recipients", config->mail_url,
                  state);
    else if (config->recipient_count == 0)
        check_say(c, CHECK_WARN, "mail", "leads are stored and nobody is told", "set mail_to",
                  "%s is ready, and mail_to names nobody", config->mail_url);
    else
        check_say(c, CHECK_OK, "mail", NULL, NULL, "%s %s; %zu recipient%s", config->mail_url, state,
                  config->recipient_count, config->recipient_count == 1 ? "" : "s");
    if (c->sends_mail)
        send_to_all(c, transport);
}

void check_mail(struct check *c)
{
    const struct config *config = &c->service->config;
    struct mail_settings settings = config_mail(config);
    struct mail_transport *transport = NULL;
    struct fail why;
    settings.reply_wait_ms = REPLY_WAIT_MS;
    if (!config->mail_on) {
        check_say(c, CHECK_WARN, "mail", "leads are stored and nobody is told",
                  "set mail_url, mail_from and mail_to", "mail_url is 'off'");
        return;
    }
    if (!is_maildir(config) && !check_server(c, &settings))
        return;
    if (mail_transport_new(&settings, &transport, &why) != ST_OK) {
        check_failed(c, "mail", CHECK_AREA_MAIL, &why);
        return;
    }
    log_in(c, transport);
    mail_transport_free(transport);
}
