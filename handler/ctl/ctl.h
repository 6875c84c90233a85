/* ctl.h - the commands of leadctl.  Each gives the exit status. */
#ifndef LEAD_CTL_H
#define LEAD_CTL_H

#include "handler/service.h"

/* Tries everything for real and tells of each thing whether it is well, what a
 * failure means and what to do; mails and a test lead on request.  See its --help.
 * 0: no failure, 1: one at least; 74: what was found could not be written. */
int ctl_check(struct service *service, int argc, char **argv);

/* Prints the newest leads that the filters leave, or all of them, as a table, JSON or CSV. */
int ctl_list(struct service *service, int argc, char **argv);

/* ID: all that is known of one lead, and its mails.  66: there is none. */
int ctl_show(struct service *service, int argc, char **argv);

/* Prints leads as they come until it is ended by SIGINT or SIGTERM, with status 0. */
int ctl_follow(struct service *service, int argc, char **argv);

/* Counts of leads by time, offer, action, source and country. */
int ctl_stats(struct service *service, int argc, char **argv);

/* The directory of offers. */
int ctl_offers(struct service *service, int argc, char **argv);

/* [--output FILE [--resume]]: the rows of leads, whole, a line of JSON each.  73: the file cannot be made. */
int ctl_export(struct service *service, int argc, char **argv);

/* FILE [--mail]: puts such rows into the store; one that is there stays as it is.  65: a
 * line could not be taken, the others are. */
int ctl_import(struct service *service, int argc, char **argv);

/* new NAME [--signing] | list | retire NAME [--signing] [--at TIME]: makes a key
 * and shows it this once, lists the keys with their last use on this host, or
 * says when the oldest live key of a name ends.  leadhook takes that up when it is
 * told to reload.  65: a third live key of the name; 66: it has no live key; 74:
 * the file cannot be written; 75: another program is changing it. */
int ctl_key(struct service *service, int argc, char **argv);

/* list | show ID | resubmit ID [--file FILE] | drop ID: what was kept because it
 * could not be taken.  A resubmitted payload becomes the lead that it would have
 * been, under the id and time of its receipt; a run that was cut off may be run
 * again.  65: it still cannot be taken and stays; 66: there is no such item. */
int ctl_quarantine(struct service *service, int argc, char **argv);

/* --older-than AGE [--yes]: what was last received before goes from the store;
 * without --yes it is only counted.  75: the store does not answer; what is gone
 * is gone, the same command goes on. */
int ctl_purge(struct service *service, int argc, char **argv);

/* export ADDRESS | erase ADDRESS [--yes]: what is kept of one person, in the store and in this host's spool.
 * 66: nothing; 75: not all of it, run it again. */
int ctl_person(struct service *service, int argc, char **argv);

/* FILE.csv [OPTIONS]: compares Partner Center's lead export with the store, and with
 * --import adds what is missing.  How a lead is known again: handler/ctl/match.h.
 * 0: all agree; 1: not all; 65: the file cannot be used; 66: there is none. */
int ctl_reconcile(struct service *service, int argc, char **argv);

/* [ID | --all]: mails that are parked, or with an argument also those that wait
 * for later, become due now and begin anew.  66: no mail of that delivery. */
int ctl_retry(struct service *service, int argc, char **argv);

/* --once: sends the mails that wait, in this process. */
int ctl_relay(struct service *service, int argc, char **argv);

/* Lists the mail routes; or --for OFFER and what else a lead may say: which of
 * them would match, and who would be told.  78: the file has mistakes, which are
 * printed; 69, 75: the offer's title could not be looked up. */
int ctl_routes(struct service *service, int argc, char **argv);

/* [--since WHEN] [--until WHEN] [--output FILE] [--mail] [--no-personal-data]: a page of HTML about the leads of some days,
 * for the sales people.  The file has mode 0600 and is there whole or not at all.  74: it cannot be written. */
int ctl_report(struct service *service, int argc, char **argv);

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
