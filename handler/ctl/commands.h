/* commands.h - the one table of leadctl's commands, from which help is printed; manuals and completion are compared
 * with it (`leadctl help --all`).
 *
 * What is printed of a command fits a screen: 24 lines of 80 columns.
 */
#ifndef LEAD_CTL_COMMANDS_H
#define LEAD_CTL_COMMANDS_H

#include <stdio.h>

#include "handler/service.h"

struct command {
    const char *name;
    int (*run)(struct service *service, int argc, char **argv);
    const char *purpose; /* what follows "leadctl X: " in a sentence without a full stop */
    const char *usage;   /* its forms, a line each, without "leadctl" */
    const char
        *options; /* a line each, with its end: two blanks, the option, two or more blanks, what it does */
    const char *examples; /* a line each, with its end, without "leadctl" */
    bool is_plugin;       /* its exit status is a Nagios plugin's, also where it cannot begin */
    bool keeps_user;      /* does not become the owner of leadhook's files */
};

/* NULL: there is none of that name, or none behind the last. */
const struct command *command_find(const char *name);
const struct command *command_at(size_t index);

/* All commands with their purposes: the answer to `leadctl help`. */
void commands_print(FILE *out);
/* All that is known of one. */
void command_print(FILE *out, const struct command *command);

/* Says what is wrong with the arguments and how they go; gives the exit status.  why: NULL or {0} where that is not
 * known; then an option that there is not is named, if there is one. */
int command_misused(const char *name, int argc, char **argv, const struct fail *why);

#endif
