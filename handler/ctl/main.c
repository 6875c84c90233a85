/* leadctl - the operator's program.
 *
 *   leadctl [--config FILE] COMMAND [OPTIONS]
 *
 * Run by root it becomes the owner of the folder in which leadhook keeps its
 * files: one that were root's would be in leadhook's way.
 *
 * Exit status: 0, 1 when a check failed, and those of sysexits.h: 64 usage, 65 a
 * payload that cannot be taken, 66 nothing of that id or name, 78 configuration,
 * 69 the store cannot be used, 75 try again later.  `status` ends as a plugin
 * for monitoring: 0, 1, 2 or 3, also when it cannot begin.
 */
#include "handler/ctl/ctl.h"

/* System */
#include <errno.h>
#include <grp.h>
#include <libgen.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* L3 */
#include "lib/net/http.h"

static const struct command {
    const char *name;
    int (*run)(struct service *service, int argc, char **argv);
    const char *usage;
    const char *purpose;
} COMMANDS[] = {
    {"check", ctl_check, "check", "try keys, store and mail for real; say what to do about failures"},
    {"list", ctl_list, "list [-n COUNT] [--json]", "show the newest leads"},
    {"quarantine", ctl_quarantine, "quarantine list|show|resubmit|drop",
     "what was kept because it could not be taken"},
    {"retry", ctl_retry, "retry [ID | --all]", "parked mails are due now"},
    {"relay", ctl_relay, "relay --once", "send what waits, drain the spool, then end"},
    {"spool", ctl_spool, "spool [list | acknowledge]",
     "leads that wait on this host for the table to answer"},
    {"status", ctl_status, "status [--json]", "one screen; the exit status is a Nagios plugin's"},
};
enum { COMMAND_COUNT = sizeof COMMANDS / sizeof COMMANDS[0] };

static void print_usage(FILE *out)
{
    (void)fprintf(out, "usage: leadctl [--config FILE] COMMAND\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)fprintf(out, "  %-36s %s\n", COMMANDS[i].usage, COMMANDS[i].purpose);
    (void)fprintf(out, "\nWithout --config the file is $LEADHOOK_CONFIG, else %s.\n", CONFIG_DEFAULT_PATH);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(name, COMMANDS[i].name) == 0)
            return &COMMANDS[i];
    }
    return NULL;
}

/* The command's word, behind the options that come first; NULL: none or help. */
static const char *command_word(int argc, char **argv)
{
    int i = 1;
    if (i + 1 < argc && strcmp(argv[i], "--config") == 0)
        i += 2;
    else if (i < argc && strncmp(argv[i], "--config=", 9) == 0)
        i++;
    return i < argc ? argv[i] : NULL;
}

/* Whatever is made from here on (a database, its log, the relay's lock) is leadhook's, and what is tried is tried
 * with its rights. */
static enum status become_owner(const struct config *config, struct fail *why)
{
    const char *path = config->sqlite_path ? config->sqlite_path : config->spool_path;
    struct stat folder = {0};
    char *copy = path && geteuid() == 0 ? strdup(path) : NULL; /* dirname changes its argument */
    bool is_others = copy && stat(dirname(copy), &folder) == 0 && folder.st_uid != 0;
    free(copy);
    if (!is_others)
        return ST_OK; /* one that is not there is the command's to report */
    const struct passwd *user = getpwuid(folder.st_uid);
    gid_t group = user ? user->pw_gid : folder.st_gid;
    int failed = user ? initgroups(user->pw_name, group) : setgroups(0, NULL);
    if (failed != 0 || setgid(group) != 0 || setuid(folder.st_uid) != 0)
        return fail_set(why, ST_IO, errno, "cannot become the user whose folder '%s' is in", path);
    return ST_OK;
}

int main(int argc, char **argv)
{
    struct service service;
    struct fail why;
    int next;
    (void)umask(077);
    (void)prctl(PR_SET_DUMPABLE, 0);
    (void)signal(SIGPIPE, SIG_IGN);
    const char *word = command_word(argc, argv);
    if (word && (strcmp(word, "--help") == 0 || strcmp(word, "help") == 0)) {
        print_usage(stdout);
        return 0;
    }
    const struct command *command = word ? find_command(word) : NULL;
    if (!command) {
        if (word)
            (void)fprintf(stderr, "leadctl: there is no command '%s'\n\n", word);
        print_usage(stderr);
        return EX_USAGE;
    }
    int code = service_read(&service, "leadctl", argc, argv, &next);
    if (code != 0 && command->run == ctl_status)
        code = ctl_status_unknown("the configuration cannot be used");
    if (code == 0 && (become_owner(&service.config, &why) != ST_OK || http_global_init(&why) != ST_OK)) {
        (void)fprintf(stderr, "leadctl: %s\n", why.text);
        code = command->run == ctl_status ? ctl_status_unknown("leadctl cannot begin") : EX_OSERR;
    }
    if (code == 0) {
        enum status shared = metrics_open(NULL, &service.metrics, NULL);
        (void)shared; /* leadctl counts for itself alone */
        code = command->run(&service, argc - next, argv + next);
    }
    service_release(&service);
    return code;
}
