/* status.h - what `leadctl status` knows, and what follows from it.
 *
 * Gathering (gather.c), judging (rules.c) and printing for people
 * (screen.c) and machines (json.c) are apart: all but the first see
 * only this struct.  No personal data is in it.
 */
#ifndef LEAD_CTL_STATUS_H
#define LEAD_CTL_STATUS_H

#include "handler/service.h"
#include "lib/store/spool.h"
#include "lib/store/troubles.h"

/* A count that may have been broken off, by its cap or for lack of time. */
struct tally {
    uint64_t count;
    bool more;
};

enum spool_use {
    SPOOL_OFF,      /* the store is sqlite, or `spool` is off */
    SPOOL_NOT_MADE, /* no lead has needed it yet */
    SPOOL_KNOWN,
    SPOOL_DAMAGED, /* the next lead begins a new generation */
    SPOOL_UNREADABLE
};

enum relay_holder {
    RELAY_NOT_NEEDED, /* no mail, no spool, no alarms */
    RELAY_NOBODY,
    RELAY_PROCESS,
    RELAY_UNSEEN, /* held by a process that is not in sight, in another container for instance */
    RELAY_UNKNOWN
};

enum { STATUS_OFFERS = 10, STATUS_ALARMS = 2 * ALARM_COUNT, STATUS_TROUBLES = 100, STATUS_WHY_BYTES = 256 };

struct offer_today {
    char name[LIMIT_PARTITION_KEY_BYTES + 1];
    struct tally leads;
    int64_t last_ms;
};

struct status_facts {
    int64_t local_ms; /* now by this host's clock, which the spool's times are of */
    int64_t now_ms;   /* now by the store's clock, where it answers */

    char store_name[STATUS_WHY_BYTES]; /* "table 'MarketplaceLeads'" */
    bool store_is_table;
    bool store_answers;
    char store_why[STATUS_WHY_BYTES]; /* why it does not */

    enum spool_use spool_use;
    struct spool_state spool;
    uint64_t spool_max_bytes;
    bool spool_is_writable;           /* a lead could be written now: there is room, and the disk takes it */
    char spool_why[STATUS_WHY_BYTES]; /* why not, or why it is unreadable */

    enum relay_holder relay;
    long relay_pid;
    char relay_why[STATUS_WHY_BYTES];

    /* From here on only what the store said; each part with whether it did. */
    bool mail_is_on;
    bool mails_known;
    struct tally mails[MAIL_STATE_PARKED + 1]; /* by enum mail_state */
    int64_t mails_due_ms;                      /* when the first waiting one is due; 0: none waits */

    bool quarantine_known;
    struct tally quarantined;
    int64_t quarantined_last_ms; /* of those counted; 0: none */
    uint64_t quarantine_bytes;   /* what all of them take */
    uint64_t quarantine_max_bytes;

    bool alarms_are_on; /* somebody is mailed about them */
    bool alarms_known;
    size_t alarm_count; /* of yesterday and today */
    struct {
        char name[32];
        bool is_today;
    } alarms[STATUS_ALARMS];

    bool troubles_known;
    struct tally troubles[TROUBLE_KINDS]; /* those that last, also of other hosts */
    size_t listed_count;
    struct {
        enum trouble_kind kind;
        char title[STATUS_WHY_BYTES];
    } listed[STATUS_TROUBLES];

    bool leads_known;
    int64_t
        lead_last_ms; /* of a customer, which a sender has brought, as in lib/store/offers.h; 0: never one */
    struct tally leads_today;
    struct tally offers_today;
    struct offer_today offers[STATUS_OFFERS]; /* the newest first */
    char unknown_why[STATUS_WHY_BYTES];       /* why something of this is not known; "" */
};

/* Finds out all that can be found out within a few seconds. */
void status_gather(struct service *service, struct status_facts *facts);

/* The exit status of a plugin for Nagios and its kin. */
enum verdict { VERDICT_OK, VERDICT_WARNING, VERDICT_CRITICAL, VERDICT_UNKNOWN };

enum { STATUS_COLUMNS = 80, STATUS_LINES = 24 };

/* The rules: the worst that applies, and one line that says what applies, the worst first. */
enum verdict status_judge(const struct status_facts *facts, struct buf *line);
const char *verdict_name(enum verdict verdict);

/* The screen below the first line; at most STATUS_LINES - 1 lines of at most STATUS_COLUMNS characters. */
void status_screen(const struct status_facts *facts, struct buf *out);
/* Everything as one JSON object in one line, the summary and the exit status with it. */
MUST_CHECK enum status status_json(const struct status_facts *facts, struct buf *out, struct fail *why);

/* "12 s", "3 min", "5 h", "2 days": a length of time for people, rounded down. */
void status_add_age(struct buf *out, int64_t ms);
/* Appends text as one line that fits a screen's width, cut with "..." where it does not. */
void status_add_line(struct buf *out, struct span text);

#endif
