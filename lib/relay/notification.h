/* notification.h - the message of a mail row, made from what the store has of the lead and the person. */
#ifndef LEAD_NOTIFICATION_H
#define LEAD_NOTIFICATION_H

#include "lib/mail/compose.h"
#include "lib/store/rows.h"
#include "lib/store/store.h"

/* Appends the message for the recipient of `mail`.  lead_row has all columns.
 * Statuses: the store's for reading the person's other leads in this offer; else
 * those of mail_compose, and ST_INVALID for a row without a recipient number. */
MUST_CHECK enum status notification_write(struct buf *out, struct store *store, const struct entity *lead_row,
                                          const struct mail_row *mail, const struct mail_address *from,
                                          enum mail_detail detail, int64_t deadline_ms, struct fail *why);

#endif
