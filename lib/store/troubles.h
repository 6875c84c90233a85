/* troubles.h - troubles that last: what hosts see of them, and who is told when.
 *
 * A trouble is about something (an offer without leads, a key about to end) and
 * lasts until no host sees it any more.  As long as it does there is a row
 * "~trouble-<event>-<hash>" in the partition of the alarms, which names the
 * hosts that see it; one that has not said so for HOSTS_FORGOTTEN_MS is
 * taken for gone.
 *
 * People are told by an alarm (alarms.h): inserting its row, in one transaction
 * with the change of the troubles' rows, wins the right to mail.  There is one
 * row for a kind and day, for all that are to be told of then: when a trouble
 * begins; again after a day (where it is urgent), after a week, and then every
 * four weeks; and when it is over, if they were told of it.  What comes too
 * late for a day's alarm is told on the next day; what comes and goes in
 * between, never.  One whose end is told on the next day has its row until
 * then, and is not counted any more.
 *
 * A store may be the store of record, or a host's spool, for what keeps that
 * host from the store of record.  Threads: none of its own.
 */
#ifndef LEAD_TROUBLES_H
#define LEAD_TROUBLES_H

#include "lib/store/alarms.h"

enum trouble_kind {
    TROUBLE_SILENCE,
    TROUBLE_SPOOL_STUCK,
    TROUBLE_TABLE_REFUSED,
    TROUBLE_MAIL_PAUSED,
    TROUBLE_KEY_RETIRING,
    TROUBLE_SAS_ENDING,
    TROUBLE_CERTIFICATE_ENDING,
    TROUBLE_KINDS
};

/* The name of the kind's alarm: "silence", "spool-stuck", ... */
const char *trouble_name(enum trouble_kind kind);

enum { TROUBLE_TITLE_BYTES = 384, TROUBLE_DETAIL_BYTES = 640 };

/* One that this host sees now.  No secret, no personal data is in it. */
struct trouble {
    enum trouble_kind kind;
    bool is_forgotten; /* it lasts, but so long that nobody has to hear of it any more: its row goes */
    char subject[LIMIT_PARTITION_KEY_BYTES + 1]; /* what it is about, for as long as it lasts */
    char title[TROUBLE_TITLE_BYTES];             /* for a mail's subject: "No lead for contoso.app" */
    char detail[TROUBLE_DETAIL_BYTES];           /* sentences */
    int64_t since_ms; /* goes behind the title, as it was when the trouble was first seen; 0: nothing does */
};

/* Whether a host has looked for troubles of a kind. */
enum trouble_look {
    LOOK_NONE, /* it could not: what was seen before is left as it is */
    LOOK_DONE, /* what it does not see is not there */
    LOOK_OFF   /* it is told not to: it sees none, and nobody has to hear that any is over */
};

struct sighting {
    struct span host; /* names this host's relay: without '@' and ',' */
    bool tells;       /* alarms are raised; else only the rows are kept */
    enum trouble_look looked[TROUBLE_KINDS];
    bool more[TROUBLE_KINDS]; /* not all were kept: of this kind nothing is over */
    struct trouble *seen;     /* room for LIMIT_TROUBLES_SEEN */
    size_t count;
};

/* The next place in seen, cleared but for its kind; NULL: there is none for this kind any more, and `more` says so. */
struct trouble *sighting_add(struct sighting *sighting, enum trouble_kind kind);

/* Brings the store's rows in line with what this host sees.  At most
 * LIMIT_TROUBLES of a kind have rows.  lasting[kind]: how many last then,
 * by whomever they are seen.  When another host is at the same rows, what is left is done
 * by the next call.  Statuses: the store's; ST_NOMEM. */
MUST_CHECK enum status troubles_settle(struct store *store, const struct sighting *sighting,
                                       int64_t deadline_ms, size_t lasting[TROUBLE_KINDS], struct fail *why);

/* Keys of rows: TROUBLE_KEY_FIRST <= key < TROUBLE_KEY_END in the partition ALARMS_PARTITION. */
#define TROUBLE_KEY_FIRST "~trouble-"
#define TROUBLE_KEY_END   "~trouble."

struct trouble_row {
    enum trouble_kind kind;
    struct span subject;
    struct span title; /* with since when */
    int64_t since_ms;  /* 0: not said */
    int64_t seen_ms;   /* first */
    int32_t told;      /* how often */
    int64_t tell_ms;   /* not before */
    struct span hosts;
    bool is_over; /* nobody sees it any more, and somebody has yet to be told */
};

/* Spans point into the row.  ST_INVALID: it is none, or of another version. */
MUST_CHECK enum status trouble_of_row(const struct entity *row, struct trouble_row *trouble,
                                      struct fail *why);

#endif
