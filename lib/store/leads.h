/* leads.h - the rules by which leads become rows: one delivery, one row; one row, one mail.
 *
 * A lead is inserted.  If its row exists already it is read: when one of the
 * row's two delivery ids is ours, an earlier attempt of ours was written after
 * all; otherwise the delivery is a repeat, which is counted under the row's
 * ETag, and which adds mails ("came back") only when it was received further
 * from the last one than the repeat window.  One that its sender has named
 * (webhook_id) adds none, however late it comes.
 *
 * Who is mailed is settled when the rows of the mails are made, by the routes of
 * that moment; a lead that comes out of a spool hours later goes by those of then.
 *
 * Leads of one call share transactions; equal rows are coalesced before
 * sending.  A fault of one lead never fails the others.
 */
#ifndef LEAD_LEADS_H
#define LEAD_LEADS_H

#include "lib/mail/routes.h"
#include "lib/store/rows.h"
#include "lib/store/store.h"

struct lead_rules {
    int64_t repeat_window_ms;
    struct route_book *routes;     /* say who is told of a lead; NULL: there are none */
    const struct span *recipients; /* of leads that no route matches; none: no mail rows */
    size_t recipient_count;
};

/* Whom to mail about the lead: the recipients and how many.  routes: those of the rules, held (route_book_hold) as long
 * as the recipients are used; NULL: there are none. */
size_t lead_recipients(const struct lead_rules *rules, const struct routes *routes, const struct lead *lead,
                       const struct span **recipients);

/* One lead and what became of it. */
struct lead_write {
    struct delivery delivery;
    /* Set by leads_commit: */
    enum status status; /* ST_OK: durable; ST_REFUSED: never to be stored (quarantine it); others: not stored,
                           or with ST_UNKNOWN perhaps */
    bool is_repeat;
    bool has_mail;   /* mail rows were written for it */
    bool is_spooled; /* ST_OK, but in the spool (lib/store/spool.h) and not yet in the store of record */
    struct fail why;
};

/* Writes the leads and sets each one's result; returns when all are settled or
 * the deadline has passed.  All of one partition unless store_joins_partitions.
 * arena: for the time of the call. */
void leads_commit(struct store *store, const struct lead_rules *rules, struct lead_write *const *leads,
                  size_t count, int64_t deadline_ms, struct arena *arena);

#endif
