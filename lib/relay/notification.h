/* notification.h - the message of a mail row, made from what the store has of the lead and the person. */
#ifndef LEAD_NOTIFICATION_H
#define LEAD_NOTIFICATION_H

#include "lib/mail/compose.h"
#include "lib/store/rows.h"
#include "lib/store/store.h"

/* Appends the message for the recipient of `mail`, a mail of the partition.  Its
 * lead and the person's other leads in this offer are read at once, as they have
 * neighbouring keys.  *lead_row gets the lead's keys, etag and DeliveryId, in the
 * arena; NULL when the lead was erased, and then nothing is appended.
 * Statuses: the store's for reading; else those of mail_compose, and ST_INVALID
 * for a row without a recipient number. */
MUST_CHECK enum status notification_write(struct buf *out, struct store *store, struct span partition_key,
                                          const struct mail_row *mail, const struct mail_address *from,
                                          enum mail_detail detail, int64_t deadline_ms, struct arena *arena,
                                          struct entity **lead_row, struct fail *why);

#endif
