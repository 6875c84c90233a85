/* rows.h - the rows that leadhook keeps, as entities: columns and keys.
 *
 * The one place that knows the names of columns.  Leads carry the columns that
 * Microsoft's own table connector writes, and ours.  What is longer than a
 * column may be is cut at a character; the whole stays in Payload.
 */
#ifndef LEAD_ROWS_H
#define LEAD_ROWS_H

#include "lib/lead/lead.h"
#include "lib/table/entity.h"

/* Columns that the rules read or change after the first write. */
#define COLUMN_DELIVERIES         "Deliveries"
#define COLUMN_DELIVERY_ID        "DeliveryId"
#define COLUMN_LAST_DELIVERY_ID   "LastDeliveryId"
#define COLUMN_RECEIVED_TIME      "ReceivedTime"
#define COLUMN_LAST_RECEIVED_TIME "LastReceivedTime"
#define COLUMN_NOTIFIED_TIME      "NotifiedTime"
#define COLUMN_WEBHOOK_ID         "WebhookId"
#define COLUMN_REQUEST_ID         "RequestId"
#define COLUMN_LAST_REQUEST_ID    "LastRequestId"
/* Of a lead that no sender has delivered: where it is from instead. */
#define COLUMN_ORIGIN "Origin"
#define ORIGIN_IMPORT "import" /* the export of Partner Center */
/* What a repeat has to know of the row it repeats, as a select list. */
#define COLUMNS_OF_REPEAT                                                                                    \
    "PartitionKey,RowKey,Timestamp,Deliveries,DeliveryId,LastDeliveryId,ReceivedTime,LastReceivedTime"

/* What lead_of_row and row_deliveries read: all but the raw body and what is made from the other columns. */
#define COLUMNS_OF_LEAD                                                                                      \
    COLUMNS_OF_REPEAT ",FirstName,LastName,Email,Phone,Country,Company,Title,LeadSource,ActionCode,"         \
                      "OfferDisplayName,Description,ProductId,Source,Action,PublisherId,OfferId,Campaign,"   \
                      "IsTest,DoNotContact,PersonalDataWithheld"

/* One request's lead on its way into the store. */
struct delivery {
    const struct lead *lead;
    char id[LEAD_DELIVERY_TEXT +
            1]; /* DeliveryId: 128 random bits, the public name in replies, logs and mail */
    int64_t received_ms;
    struct span key_name;
    struct span webhook_id; /* the sender's name for it, verified; blank: it has none */
    struct span request_id; /* the web server's name for the request, as in its log; blank: not known */
    struct span origin;     /* ORIGIN_IMPORT; blank: its sender */
    bool may_be_written;    /* an earlier attempt of this delivery got no answer from the store */
};

/* An id as a person may give it: the first DELIVERY_ID_MIN digits or more.
 * ST_INVALID: something else.  digits gets them in lower case. */
enum { DELIVERY_ID_MIN = 8 };
MUST_CHECK enum status delivery_id_given(struct span given, char digits[LEAD_DELIVERY_TEXT + 1],
                                         struct fail *why);

/* How often and when a row's lead was delivered. */
struct deliveries {
    int32_t count;
    int64_t first_ms;
    int64_t last_ms;
    struct span first_id;
    struct span last_id;
};

/* The row of a lead: all columns.  false: no memory. */
MUST_CHECK bool row_of_lead(struct entity *row, const struct delivery *delivery,
                            const struct deliveries *deliveries, struct arena *arena);
/* The columns of a row that another delivery changes. */
MUST_CHECK bool row_of_repeat(struct entity *row, const struct delivery *delivery,
                              const struct deliveries *deliveries, struct arena *arena);
struct deliveries row_deliveries(const struct entity *row);

/* Back from a row to the lead, for a mail or a list; spans point into the row. */
void lead_of_row(const struct entity *row, struct lead *lead);

/* "<contact>-<content>" of a lead; the arena's. Blank: no memory. */
struct span row_key_of_lead(const struct lead *lead, struct arena *arena);
/* Whether a key has the form of a lead's.  RowKeys of leads: LEAD_KEY_FIRST <= key <
 * LEAD_KEY_END; what others have put into the table may lie there too. */
bool is_lead_key(struct span row_key);
#define LEAD_KEY_FIRST "0"
#define LEAD_KEY_END   "~"

/* A mail still to send. */
enum mail_state {
    MAIL_STATE_WAITING,
    MAIL_STATE_CLAIMED, /* someone is about to send it; nothing was sent */
    MAIL_STATE_SENDING, /* the final bytes were about to go out */
    MAIL_STATE_PARKED   /* given up; a person has to look */
};

struct mail_row {
    struct span recipient;
    struct span recipient_number;
    struct span delivery_id;
    struct span lead_row_key;
    struct span request_id; /* of the delivery it tells of; blank: not known */
    bool came_back;
    int64_t received_ms; /* of the delivery it tells of */
    enum mail_state state;
    struct span owner; /* who claimed it */
    int32_t tries;     /* definite failures so far */
    int32_t ambiguous; /* attempts whose outcome is not known */
    int64_t next_ms;   /* not before, by the store's clock */
    struct span error; /* why the last attempt failed */
};

/* RowKeys of mails: MAIL_KEY_FIRST <= key < MAIL_KEY_END. */
#define MAIL_KEY_FIRST "~mail-"
#define MAIL_KEY_END   "~mail."

/* The query for all mails of an offer; limit: rows per page. */
struct query mails_query(struct span partition_key, const char *select, size_t limit);

/* One mail to recipient number `number` about this delivery. */
MUST_CHECK bool row_of_mail(struct entity *row, const struct delivery *delivery, struct span recipient,
                            unsigned int number, bool came_back, struct arena *arena);
/* Changes of a mail's life: state, owner, counters, time, error and, with a message, the message. */
MUST_CHECK bool row_of_mail_state(struct entity *row, const struct entity *old, const struct mail_row *mail,
                                  struct span message, struct arena *arena);
/* ST_INVALID: the key is not that of a mail. */
MUST_CHECK enum status mail_of_row(const struct entity *row, struct mail_row *mail, struct fail *why);

/* "~mail-<contact>-<content>-": where the mails of a lead begin. */
struct span mail_prefix_of_lead(struct span lead_row_key, struct arena *arena);
/* The first key behind all keys that begin with prefix; blank: no memory. */
struct span key_after_prefix(struct span prefix, struct arena *arena);

/* Quarantine: what came with a good key and could not be taken. */
#define QUARANTINE_PARTITION "quarantine"

struct quarantined {
    char id[LEAD_DELIVERY_TEXT + 1];
    int64_t received_ms;
    struct span key_name;
    struct span webhook_id; /* these two as of a delivery */
    struct span request_id;
    struct span content_type;
    struct span reason; /* from a struct fail: no personal data */
    struct span body;
};
MUST_CHECK bool row_of_quarantined(struct entity *row, const struct quarantined *item, struct arena *arena);
/* Back from a row; spans point into it.  The body, which may lie in several
 * columns, is left blank; *body_bytes is its length.  ST_INVALID: not an item's key. */
MUST_CHECK enum status quarantined_of_row(const struct entity *row, struct quarantined *item,
                                          size_t *body_bytes, struct fail *why);
/* Appends the body. */
MUST_CHECK enum status quarantined_body(const struct entity *row, struct buf *body, struct fail *why);

/* RowKeys of items: QUARANTINE_KEY_FIRST <= key < QUARANTINE_KEY_END, in order of
 * time.  Behind them lie counters: how many a key has put there in a day (UTC,
 * days since 1970), and how much room all items take. */
#define QUARANTINE_KEY_FIRST "0"
#define QUARANTINE_KEY_END   "~"
#define QUOTA_KEY_FIRST      "~quota-"

/* Where the counters of a day begin; "~quota-<day>-".  Blank: no memory. */
struct span quota_prefix_of_day(int64_t day, struct arena *arena);
/* "~quota-<day>-<key name>"; what a key name has besides letters, digits, '.', '_' and '-' is encoded. */
MUST_CHECK bool row_of_quota(struct entity *row, struct span key_name, int64_t day, int32_t used,
                             struct arena *arena);
int32_t quota_used(const struct entity *row);

/* What an item's row takes, in KiB and rounded up: the body in base64, as sqlite keeps it, and 1 KiB for the rest. */
int32_t quarantined_kib(size_t body_bytes);
/* "~total": the KiB of all items. */
#define QUARANTINE_TOTAL_KEY "~total"
MUST_CHECK bool row_of_total(struct entity *row, int32_t used_kib, struct arena *arena);
int32_t total_used_kib(const struct entity *row);

/* A lead in the spool: its row with the keys of the spool, and what the drain
 * has to know.  Rows sort by receipt. */
#define SPOOL_PARTITION "spool"

MUST_CHECK bool row_of_spooled(struct entity *row, const struct delivery *delivery, struct arena *arena);
/* Back to the lead and its delivery, which points to *lead.  ST_DAMAGED: the
 * row is not what was written.  ST_NOMEM. */
MUST_CHECK enum status spooled_of_row(const struct entity *row, struct lead *lead, struct delivery *delivery,
                                      struct arena *arena, struct fail *why);

/* "<13 digits of milliseconds>-<id>", the key of spooled and quarantined rows; blank: no memory. */
struct span row_key_of_time(int64_t received_ms, const char *id, struct arena *arena);

/* The breaker between a host and the Table service, kept in the spool. */
#define BREAKER_PARTITION "breaker"
#define BREAKER_KEY       "table"

struct breaker {
    int32_t failures; /* in a row; 0: closed */
    int64_t since_ms; /* when it opened */
    int64_t probe_ms; /* when the service may be asked again */
    struct span reason;
};
MUST_CHECK bool row_of_breaker(struct entity *row, const struct breaker *breaker, struct arena *arena);
struct breaker breaker_of_row(const struct entity *row);

/* A spooled row that damage has destroyed; its key is the one of the spooled row. */
#define LOST_PARTITION "lost"
MUST_CHECK bool row_of_lost(struct entity *row, struct span key, bool is_lead, struct arena *arena);

/* Alarms: one row per event and day, "<YYYY-MM-DD>-<event>".  lib/store/alarms.h raises them. */
#define ALARMS_PARTITION "alarms"
#define ALARM_KEY_END    "~" /* behind all of them; there the troubles lie (lib/store/troubles.h) */

enum alarm_state {
    ALARM_STATE_WAITING,
    ALARM_STATE_CLAIMED, /* someone is mailing it */
    ALARM_STATE_SENT,
    ALARM_STATE_SETTLED /* in a spool only: mailed, and the store of record knows it */
};

struct alarm_row {
    struct span day;   /* UTC, of the store's clock */
    struct span event; /* a word of lower-case letters, digits and '-' */
    struct span title; /* what and since when, in a line; blank: what alarm_words says of the event */
    struct span text;  /* what happened */
    struct span host;  /* where */
    int64_t received_ms;
    enum alarm_state state;
    struct span owner;   /* who claimed it */
    int32_t tries;       /* definite failures so far */
    int32_t ambiguous;   /* attempts whose outcome is not known */
    int64_t next_ms;     /* not before, by the store's clock */
    struct span sent_to; /* whom it has reached: addresses separated by commas */
    struct span error;   /* why the last attempt failed */
};

/* The whole row of an alarm. */
MUST_CHECK bool row_of_alarm(struct entity *row, const struct alarm_row *alarm, struct arena *arena);
/* Changes of an alarm's life: state, owner, counters, time, reached addresses and error. */
MUST_CHECK bool row_of_alarm_state(struct entity *row, const struct entity *old,
                                   const struct alarm_row *alarm, struct arena *arena);
/* ST_INVALID: the key is not that of an alarm, or the state is unknown. */
MUST_CHECK enum status alarm_of_row(const struct entity *row, struct alarm_row *alarm, struct fail *why);
/* "<YYYY-MM-DD>", with which the keys of that day's alarms begin; blank: no memory. */
struct span alarm_day(int64_t wall_ms, struct arena *arena);

/* The offers directory: where leads are, so that nobody has to scan the table. */
#define OFFERS_PARTITION "offers"

struct offer {
    struct span partition;
    struct span title;
    int64_t first_ms;  /* when a customer's lead came first */
    int64_t last_ms;   /* and last; 0: none has */
    int64_t active_ms; /* when something was last written there that a mailer or reader has to find */
};
#define OFFER_ACTIVE_TIME "ActiveTime"
/* A time that is 0 is left out, and so is a blank title. */
MUST_CHECK bool row_of_offer(struct entity *row, const struct offer *offer, struct arena *arena);
struct offer offer_of_row(const struct entity *row);

#endif
