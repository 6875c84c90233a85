/* ctl.h - the commands of leadctl.  Each gives the exit status. */
#ifndef LEAD_CTL_H
#define LEAD_CTL_H

#include "handler/service.h"

/* Tries keys, store and mail for real and prints a line for each, with what to
 * do about a failure.  0: all fine, 1: something is not. */
int ctl_check(struct service *service, int argc, char **argv);

/* Prints the newest leads, as a table or (--json) as one JSON object per line. */
int ctl_list(struct service *service, int argc, char **argv);

/* list | show ID | resubmit ID [--file FILE] | drop ID: what was kept because it
 * could not be taken.  A resubmitted payload becomes the lead that it would have
 * been, under the id and time of its receipt; a run that was cut off may be run
 * again.  65: it still cannot be taken and stays; 66: there is no such item. */
int ctl_quarantine(struct service *service, int argc, char **argv);

/* [ID | --all]: mails that are parked, or with an argument also those that wait
 * for later, become due now and begin anew.  66: no mail of that delivery. */
int ctl_retry(struct service *service, int argc, char **argv);

/* --once: sends the mails that wait, in this process. */
int ctl_relay(struct service *service, int argc, char **argv);

/* What is in the spool and the breaker, and which leads damage destroyed; or the
 * leads that wait (list); or empties the list of the destroyed ones, which a
 * person has dealt with (acknowledge).  No personal data. */
int ctl_spool(struct service *service, int argc, char **argv);

/* One screen about everything, or (--json) one object for machines.  The exit
 * status is a Nagios plugin's: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN. */
int ctl_status(struct service *service, int argc, char **argv);
/* The answer when it cannot be found out; gives the exit status. */
int ctl_status_unknown(const char *reason);

#endif
