#include "handler/ctl/ctl.h"

/* System */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

/* Ours */
#include "handler/callfilter.h"
#include "handler/sandbox.h"

/* The commands' words */
#include "handler/ctl/commands.h"

int ctl_relay(struct service *service, int argc, char **argv)
{
    struct fail why;
    bool waiting = false;
    if (argc != 2 || strcmp(argv[1], "--once") != 0)
        return command_misused("relay", argc, argv, NULL);
    if (!service_has_relay(service)) {
        (void)fprintf(stderr, "leadctl: no mails, no spool and no alarms are configured: nothing to do\n");
        return EX_CONFIG;
    }
    int code = service_read_routes(service, "leadctl");
    if (code != 0)
        return code;
    if (sandbox_enter(service, &why) != ST_OK) {
        (void)fprintf(stderr, "leadctl: %s\n", why.text);
        return EX_OSERR;
    }
    struct relay_options options = service_relay(service);
    enum status status = relay_once(&options, &waiting, &why);
    callfilter_log_denied();
    if (status == ST_EXISTS) {
        (void)fprintf(stderr, "leadctl: a running leadhook is this host's relay; nothing to do here\n");
        return 0;
    }
    if (status != ST_OK) {
        (void)fprintf(stderr, "leadctl: %s\n", why.text);
        return EX_UNAVAILABLE;
    }
    if (waiting)
        (void)fprintf(stderr, "leadctl: something is left for a later time\n");
    return waiting ? EX_TEMPFAIL : 0;
}
