#include "handler/ctl/report/mail.h"

/* System */
#include <stdio.h>
#include <sysexits.h>

/* L0 */
#include "lib/base/clock.h"

/* L5 */
#include "lib/mail/compose.h"
#include "lib/mail/transport.h"

/* The commands' words */
#include "handler/ctl/print.h"

/* --- to whom ------------------------------------------------------------------------------------------------- */

enum status report_recipients_given(struct report_recipients *recipients, const char *addresses,
                                    struct fail *why)
{
    enum status status =
        mail_recipients_parse(span_of(addresses), recipients->given, &recipients->count, why);
    if (status == ST_OK)
        recipients->list = recipients->given;
    else
        fail_prefix(why, "--mail");
    return status;
}

/* Whom the configuration names. */
static int find_configured(struct report_recipients *recipients, struct service *service)
{
    const struct config *config = &service->config;
    int code = service_read_routes(service, "leadctl");
    if (code != 0)
        return code;
    recipients->routes = route_book_hold(service->routes);
    const struct route *route = routes_default(recipients->routes);
    recipients->list = route ? route->recipients : config->recipients;
    recipients->count = route ? route->recipient_count : config->recipient_count;
    if (recipients->count > 0)
        return 0;
    (void)fprintf(stderr,
                  "leadctl: who shall get the report? 'default' of mail_routes is off; name them: --mail "
                  "ADDRESS\n");
    report_recipients_release(recipients, service);
    return EX_CONFIG;
}

int report_recipients_find(struct report_recipients *recipients, struct service *service)
{
    if (!service->config.mail_on) {
        (void)fprintf(stderr,
                      "leadctl: --mail needs mail_url and mail_from in the configuration, and mail_to "
                      "or mail_routes\n");
        return EX_CONFIG;
    }
    return recipients->list ? 0 : find_configured(recipients, service);
}

void report_recipients_release(struct report_recipients *recipients, struct service *service)
{
    if (recipients->routes)
        route_book_let_go(service->routes, recipients->routes);
    *recipients = (struct report_recipients){0};
}

/* --- sending ------------------------------------------------------------------------------------------------- */

static enum status mail_to(struct mail_transport *transport, const struct report_notice *notice,
                           struct fail *why)
{
    struct buf message = BUF_INIT(LIMIT_REPORT_MAIL_BYTES);
    struct mail_address to;
    enum status status = mail_address_parse(notice->to, &to, why);
    if (status == ST_OK)
        status = mail_compose_report(&message, notice, why);
    if (status == ST_OK)
        status = mail_outcome_status(
            mail_send(transport, notice->from->address, to.address, buf_span(&message), NULL, NULL, why));
    buf_release(&message);
    return status;
}

/* Of the same days the same each time: a mail program that gets it twice can see that. */
static void name_it(const struct report *report, char id[], size_t size)
{
    char first[CLOCK_TEXT_BYTES], last[CLOCK_TEXT_BYTES];
    clock_iso_time(report->since_ms, first);
    clock_iso_time(report->since_ms + ((int64_t)report->days - 1) * CLOCK_DAY_MS, last);
    (void)snprintf(id, size, "leads-%.10s-%.10s", first, last);
}

/* Gives how many got it.  *worst: what the first failure of the others is. */
static size_t mail_each(struct mail_transport *transport, const struct config *config,
                        const struct report_recipients *recipients, const struct report *report,
                        enum status *worst)
{
    size_t reached = 0;
    char id[32];
    name_it(report, id, sizeof id);
    for (size_t i = 0; i < recipients->count; i++) {
        struct report_notice notice = {.id = span_of(id),
                                       .made_ms = report->made_ms,
                                       .subject = buf_span(&report->title),
                                       .text = buf_span(&report->words),
                                       .page = buf_span(&report->page),
                                       .recipient_number = (unsigned int)i + 1,
                                       .from = &config->from,
                                       .to = recipients->list[i]};
        struct fail why;
        enum status status = mail_to(transport, &notice, &why);
        if (status == ST_OK) {
            reached++;
            continue;
        }
        fail_prefix(&why, "the report was not mailed to recipient number %zu", i + 1);
        (void)ctl_failed(status, &why);
        if (*worst == ST_OK || ctl_exit_of(status) == EX_UNAVAILABLE)
            *worst = status;
    }
    return reached;
}

int report_mail(const struct config *config, const struct report_recipients *recipients,
                const struct report *report)
{
    struct mail_settings settings = config_mail(config);
    struct mail_transport *transport = NULL;
    struct fail why;
    enum status status = mail_transport_new(&settings, &transport, &why);
    if (status != ST_OK)
        return ctl_failed(status, &why);
    size_t reached = mail_each(transport, config, recipients, report, &status);
    mail_transport_free(transport);
    if (reached == recipients->count)
        return 0;
    (void)fprintf(stderr, "leadctl: %zu of %zu recipients have the report%s\n", reached, recipients->count,
                  reached > 0 ? "; `--mail ADDRESS` sends it to the others alone" : "");
    return reached > 0 ? EX_UNAVAILABLE : ctl_exit_of(status);
}
