/* tally.h - what a report counts over the leads of some days (UTC).
 *
 * Every lead of the store is added, in any order: the ones from before these days
 * say which customers are known already.  Test leads and those that must not be
 * contacted are counted by themselves and nowhere else.
 *
 * Memory does not grow with the leads.  A group has LIMIT_REPORT_KEYS keys; the
 * leads of further ones are counted together.  LIMIT_REPORT_CUSTOMERS are told
 * apart; the leads of further ones count as those of nobody known.
 * Threads: one owner at a time.
 */
#ifndef LEAD_CTL_TALLY_H
#define LEAD_CTL_TALLY_H

#include "handler/ctl/find.h"
#include "handler/ctl/quantile.h"

/* The columns that tally_add reads. */
#define TALLY_COLUMNS                                                                                        \
    FIND_COLUMNS                                                                                             \
    ",LastReceivedTime,NotifiedTime,DeliveryId,Source,FirstName,LastName,Email,Phone,Company,Title,"         \
    "OfferDisplayName,Campaign,DoNotContact,PersonalDataWithheld"

enum tally_details { TALLY_WHOLE, TALLY_NOT_PERSONAL /* nothing of a person is kept of the newest leads */ };

struct tally_options {
    int64_t since_ms; /* where the first day begins */
    size_t days;      /* 1 to LIMIT_REPORT_DAYS */
    /* The setting: what comes again later than this is mailed again. */
    int64_t repeat_window_ms;
    size_t newest; /* how many leads are kept with their columns */
    enum tally_details details;
};

/* The last week that is over, from a Monday to its Sunday. */
void tally_choose_week(struct tally_options *options, int64_t now_ms);

struct tally_day {
    uint64_t first;   /* the first lead of a customer */
    uint64_t further; /* leads of customers known by then */
    uint64_t nobody;  /* without a name, address, company and telephone number */
};

struct tally_count {
    struct span key;   /* as it came, at most TALLY_KEY_BYTES; blank: the leads that do not say */
    struct span title; /* of an offer, as in the newest lead that has one */
    uint64_t leads;
    int64_t title_ms; /* when that was received */
    char *title_room;
};

enum { TALLY_KEY_BYTES = LIMIT_PARTITION_KEY_BYTES, TALLY_TEXT_BYTES = 160 };

struct tally_group {
    struct tally_count *counts; /* most leads first; among equals by key */
    size_t count;
    uint64_t others; /* leads whose keys found no room */
};

enum tally_by { TALLY_OFFER, TALLY_ACTION, TALLY_COUNTRY, TALLY_SOURCE, TALLY_CAMPAIGN, TALLY_GROUPS };

/* How many leads were mailed so quickly: within the first of TALLY_SPEED_MS, else
 * the second, ...; the last one is for all others. */
enum { TALLY_SPEEDS = 6 };
extern const int64_t TALLY_SPEED_MS[TALLY_SPEEDS - 1];

struct tally_mail {
    struct quantiles times; /* from receipt to the last mail accepted */
    uint64_t within[TALLY_SPEEDS];
    uint64_t again;   /* mailed, but what is noted is the time of a later mail: the customer came back */
    uint64_t waiting; /* not mailed, or not yet */
};

enum tally_field {
    FIELD_OFFER,
    FIELD_TITLE,
    FIELD_ACTION,
    FIELD_CAMPAIGN,
    FIELD_SOURCE,
    FIELD_COUNTRY,
    FIELD_DELIVERY_ID,
    FIELD_FIRST_NAME, /* from here on personal */
    FIELD_LAST_NAME,
    FIELD_POSITION,
    FIELD_COMPANY,
    FIELD_EMAIL,
    FIELD_PHONE,
    TALLY_FIELDS
};

struct tally_lead {
    int64_t received_ms;
    int64_t mailed_ms; /* 0: not mailed, or not yet */
    bool came_again;   /* so that mailed_ms says nothing of the first mail */
    bool withheld;
    struct span fields[TALLY_FIELDS]; /* each cut to TALLY_TEXT_BYTES */
    char text[TALLY_FIELDS * TALLY_TEXT_BYTES];
};

struct tally_result {
    struct tally_options options;
    uint64_t leads; /* in these days, but for the next two */
    uint64_t test;
    uint64_t do_not_contact;      /* but for test leads */
    struct tally_day *days;       /* options.days of them */
    uint64_t new_customers;       /* whose first lead is of these days */
    uint64_t returning_customers; /* with leads in these days and before */
    bool has_more_customers;      /* than can be told apart */
    struct tally_group groups[TALLY_GROUPS];
    struct tally_mail mail;
    struct tally_lead **newest; /* newest first */
    size_t newest_count;
};

struct tally;

/* ST_NOMEM. */
MUST_CHECK enum status tally_new(const struct tally_options *options, struct tally **tally, struct fail *why);
void tally_free(struct tally *tally);

/* Takes a lead into account; the row is not needed afterwards.  ST_NOMEM. */
MUST_CHECK enum status tally_add(struct tally *tally, const struct entity *row, struct fail *why);

/* The result, which lives as long as the tally; nothing may be added any more. */
const struct tally_result *tally_finish(struct tally *tally);

#endif
