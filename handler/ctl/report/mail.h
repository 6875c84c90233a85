/* mail.h - a report goes to the sales people as a file, a mail to each of them. */
#ifndef LEAD_CTL_REPORT_MAIL_H
#define LEAD_CTL_REPORT_MAIL_H

#include "handler/service.h"

/* A report, made. */
struct report {
    int64_t since_ms; /* the days that it is about, as in struct tally_options */
    size_t days;
    int64_t made_ms;
    struct buf page;
    struct buf title;
    struct buf words;
};

/* Who gets it; zero before the first use. */
struct report_recipients {
    struct span given[LIMIT_RECIPIENTS]; /* if the user names them */
    const struct span *list;
    size_t count;
    struct routes *routes; /* that the list is a part of; NULL: of none */
};

/* These, and not those of the configuration: addresses with commas between them, which stay the caller's.  ST_INVALID. */
MUST_CHECK enum status report_recipients_given(struct report_recipients *recipients, const char *addresses,
                                               struct fail *why);

/* Otherwise those who are told of the leads that are nobody else's: whom the rule `default` of mail_routes names, and
 * without one mail_to.  A rule about some leads tells nobody of the others, which a report shows as well.  Gives 0; or
 * says on standard error what is missing and gives EX_CONFIG, also where mail is off. */
MUST_CHECK int report_recipients_find(struct report_recipients *recipients, struct service *service);
void report_recipients_release(struct report_recipients *recipients, struct service *service);

/* Each recipient gets its chance.  The message of one recipient and of the same days has the same Message-ID each time.
 * Says on standard error who did not get it, by number, and gives the exit status: EX_TEMPFAIL when nobody got it
 * and a later try may do, which then sends nothing twice; EX_UNAVAILABLE when some did, or none ever will. */
MUST_CHECK int report_mail(const struct config *config, const struct report_recipients *recipients,
                           const struct report *report);

#endif
