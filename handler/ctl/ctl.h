/* ctl.h - the commands of leadctl.  Each gives the exit status. */
#ifndef LEAD_CTL_H
#define LEAD_CTL_H

#include "handler/service.h"

/* Tries keys, store and mail for real and prints a line for each, with what to
 * do about a failure.  0: all fine, 1: something is not. */
int ctl_check(struct service *service, int argc, char **argv);

/* Prints the newest leads, as a table or (--json) as one JSON object per line. */
int ctl_list(struct service *service, int argc, char **argv);

/* --once: sends the mails that wait, in this process. */
int ctl_relay(struct service *service, int argc, char **argv);

#endif
