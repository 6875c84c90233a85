/* The command: gathers, judges, prints. */
#include "handler/ctl/status/status.h"

/* System */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* The command */
#include "handler/ctl/ctl.h"

enum { LAST_RESORT_S = 9 }; /* the usual plugin is given 10 */

/* A disk or a name server that hangs in a call of its own must not hang the monitoring. */
static void give_up(int signal)
{
    static const char text[] = "LEADHOOK UNKNOWN: the status could not be found out in time\n";
    (void)signal;
    ssize_t written = write(STDOUT_FILENO, text, sizeof text - 1);
    (void)written;
    _exit(VERDICT_UNKNOWN);
}

static enum status report(const struct status_facts *facts, bool json, struct buf *out, struct fail *why)
{
    if (json) {
        enum status status = status_json(facts, out, why);
        buf_add_char(out, '\n');
        return status;
    }
    char memory[STATUS_WHY_BYTES + 1];
    struct buf line = BUF_FIXED(memory);
    (void)status_judge(facts, &line);
    status_add_line(out, buf_span(&line));
    status_screen(facts, out);
    return buf_status(out, "the status", why);
}

int ctl_status_unknown(const char *reason)
{
    (void)printf("LEADHOOK %s: %s\n", verdict_name(VERDICT_UNKNOWN), reason);
    return VERDICT_UNKNOWN;
}

int ctl_status(struct service *service, int argc, char **argv)
{
    struct status_facts facts;
    char memory[STATUS_WHY_BYTES + 1];
    struct buf out = BUF_INIT(64 * 1024), line = BUF_FIXED(memory);
    struct fail why;
    bool json = argc == 2 && strcmp(argv[1], "--json") == 0;
    if (argc > 1 && !json)
        return ctl_status_unknown("usage: leadctl status [--json]");
    (void)signal(SIGALRM, give_up);
    (void)alarm(LAST_RESORT_S);
    status_gather(service, &facts);
    (void)alarm(0);
    enum verdict verdict = status_judge(&facts, &line);
    enum status status = report(&facts, json, &out, &why);
    if (status == ST_OK && (fwrite(out.data, 1, out.len, stdout) != out.len || fflush(stdout) != 0))
        status = fail_set(&why, ST_IO, errno, "cannot write the status");
    buf_release(&out);
    return status == ST_OK ? (int)verdict : ctl_status_unknown(why.text);
}
