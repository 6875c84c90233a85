/* memory.h - what the host's mailer has to know for longer than a connection to the store lives.
 *
 * How attempts ended that could not be recorded, so that they are recorded
 * later and not repeated; the times of the last sends, for the rate limit; the
 * pause after configuration errors; whether the mail server takes our settings;
 * which alarms were raised today.  A mailer
 * that is made anew, after a failed store or with other settings, goes on with
 * the memory of the one before.
 * Threads: belongs to the mailer's thread, but for what is said otherwise.  Memory: of fixed size.
 */
#ifndef LEAD_MEMORY_H
#define LEAD_MEMORY_H

#include "lib/mail/transport.h"
#include "lib/store/alarms.h"
#include "lib/store/rows.h"

enum { MAILS_PER_MINUTE_MAX = 60000 };

struct mail_memory;

MUST_CHECK enum status mail_memory_new(struct mail_memory **memory, struct fail *why);
void mail_memory_free(struct mail_memory *memory);

/* --- what may be sent now */

/* Milliseconds until the rate limit (at most MAILS_PER_MINUTE_MAX) and a pause allow the next mail. */
int64_t mail_memory_wait_ms(const struct mail_memory *memory, unsigned int per_minute);
void mail_memory_note_send(struct mail_memory *memory);
/* One more configuration error in a row; gives how long the queue rests now. */
int64_t mail_memory_pause(struct mail_memory *memory);
/* The series of configuration errors is over, and with it a pause. */
void mail_memory_resume(struct mail_memory *memory);

/* --- what could not be recorded */

/* What an attempt came to. */
struct mail_verdict {
    bool sent;             /* the server has it: the row goes */
    enum mail_state state; /* else what the row becomes, with ... */
    int32_t tries;
    int32_t ambiguous;
    int64_t wait_ms; /* until it may be tried again, from when it is recorded */
    char error[sizeof((struct fail){0}.text)];
};

struct unrecorded {
    char partition[LIMIT_PARTITION_KEY_BYTES + 1];
    char row_key[LIMIT_ROW_KEY_BYTES + 1];
    struct mail_verdict verdict;
};

/* Whether one more can be kept.  It must be so before a mail is sent. */
bool mail_memory_has_room(const struct mail_memory *memory);
/* Keeps the verdict on a row; a later one replaces it. */
void mail_memory_keep(struct mail_memory *memory, const struct entity *row,
                      const struct mail_verdict *verdict);
bool mail_memory_has(const struct mail_memory *memory, const struct entity *row);
/* The i-th, or NULL behind the last one; valid until the next change. */
const struct unrecorded *mail_memory_at(const struct mail_memory *memory, size_t i);
/* Forgets the i-th; the last one takes its place. */
void mail_memory_forget(struct mail_memory *memory, size_t i);

/* --- whether the mail server takes our settings.  Threads: safe. */

enum mail_login { MAIL_LOGIN_UNKNOWN, MAIL_LOGIN_WORKS, MAIL_LOGIN_REFUSED };

struct mail_login_state {
    enum mail_login login;
    int64_t noted_ms;                           /* monotonic: when that was seen last; 0: never */
    char reason[sizeof((struct fail){0}.text)]; /* why it is refused */
};

/* What the end of an attempt, or of a probe, says about that: nothing when it was transient. */
void mail_memory_note_login(struct mail_memory *memory, enum mail_outcome outcome, const struct fail *reason);
struct mail_login_state mail_memory_login(struct mail_memory *memory);

/* --- alarms */

struct alarm_days *mail_memory_alarm_days(struct mail_memory *memory);

#endif
