/* leadctl - the operator's program.
 *
 *   leadctl [--config FILE] COMMAND [OPTIONS]
 *   leadctl --version
 *
 * Run by root it becomes the owner of the folder in which leadhook keeps its
 * files: one that were root's would be in leadhook's way.  `key` stays root: the
 * key file is one that leadhook may read and not change.  `export` and `import`
 * open their file first, with the rights of whoever runs them.
 *
 * Exit status: 0, 1 when a check failed, and those of sysexits.h: 64 usage, 65 a
 * payload or line that cannot be taken, 66 nothing of that id, name or address, or
 * no such file, 69 the store cannot be used, 71 the system refuses something, 73 a
 * file cannot be made, 74 or written, 75 try again later, 78 configuration.
 * `status` ends as a plugin for monitoring: 0, 1, 2 or 3, also when it cannot begin.
 */
#include "handler/ctl/commands.h"

/* System */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* L0 */
#include "lib/base/version.h"

/* L3 */
#include "lib/net/http.h"

/* The commands */
#include "handler/ctl/ctl.h"
#include "handler/ctl/owner.h"

static bool is_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int no_such_command(const char *word)
{
    if (strcmp(word, "--config") == 0)
        (void)fprintf(stderr, "leadctl: --config needs a file, and then comes the command\n\n");
    else
        (void)fprintf(stderr, "leadctl: there is no %s '%s'\n\n", word[0] == '-' ? "option" : "command",
                      word);
    commands_print(stderr);
    return EX_USAGE;
}

static int print_version(void)
{
    return printf("leadctl %s\n", version_text()) > 0 && fflush(stdout) == 0 ? 0 : EX_IOERR;
}

/* help [COMMAND | --all] */
static int print_help(int argc, char **argv)
{
    if (argc < 2)
        commands_print(stdout);
    else if (strcmp(argv[1], "--all") == 0)
        for (size_t i = 0; command_at(i); i++) {
            (void)fprintf(stdout, "%s", i > 0 ? "\n" : "");
            command_print(stdout, command_at(i));
        }
    else if (command_find(argv[1]))
        command_print(stdout, command_find(argv[1]));
    else
        return no_such_command(argv[1]);
    return fflush(stdout) == 0 ? 0 : EX_IOERR;
}

/* NULL: what was asked is answered, without a configuration, and *code is the exit status. */
static const struct command *command_to_run(int argc, char **argv, int index, int *code)
{
    char *word = index < argc ? argv[index] : NULL;
    if (!word) {
        commands_print(stderr);
        *code = EX_USAGE;
        return NULL;
    }
    if (is_help(word) || strcmp(word, "help") == 0) {
        *code = print_help(argc - index, argv + index);
        return NULL;
    }
    if (strcmp(word, "--version") == 0) {
        *code = print_version();
        return NULL;
    }
    const struct command *command = command_find(word);
    if (!command)
        *code = no_such_command(word);
    for (int i = index + 1; i < argc && command; i++) {
        if (is_help(argv[i])) {
            char *words[] = {argv[i], word};
            *code = print_help(2, words);
            command = NULL;
        }
    }
    return command;
}

int main(int argc, char **argv)
{
    struct service service;
    struct fail why;
    int code, first = service_first_argument(argc, argv);
    service_protect_process();
    (void)signal(SIGPIPE, SIG_IGN);
    const struct command *command = command_to_run(argc, argv, first, &code);
    if (!command)
        return code;
    code = service_read(&service, "leadctl", argc, argv);
    if (code != 0 && command->is_plugin)
        code = ctl_status_unknown("the configuration cannot be used");
    if (code == 0 && ((!command->keeps_user && owner_become(&service.config, &why) != ST_OK) ||
                      http_global_init(&why) != ST_OK)) {
        (void)fprintf(stderr, "leadctl: %s\n", why.text);
        code = command->is_plugin ? ctl_status_unknown("leadctl cannot begin") : EX_OSERR;
    }
    if (code == 0) {
        enum status shared = metrics_open(NULL, &service.metrics, NULL);
        (void)shared; /* leadctl counts for itself alone */
        code = command->run(&service, argc - first, argv + first);
    }
    service_release(&service);
    return code;
}
