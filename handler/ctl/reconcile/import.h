/* import.h - leads of Partner Center's export that are missing in the table become rows of it.
 *
 * A row made so is one that the marketplace's delivery would have made, at the
 * time at which the lead was created, and is marked: Origin is "import".  Its keys
 * come from the file alone, so that the same lead, imported again, is the same row.
 * Leads are written a transaction full at a time, under the rules of lib/store/leads.h.
 */
#ifndef LEAD_CTL_RECONCILE_IMPORT_H
#define LEAD_CTL_RECONCILE_IMPORT_H

#include "handler/ctl/reconcile/partner_file.h"
#include "lib/store/leads.h"
#include "lib/store/offers.h"

/* The lead of a row, as it would be stored; all of it in the arena.  ST_NOT_FOUND:
 * no field of a lead has a value.  ST_TOO_LARGE, ST_INVALID: it is none that the marketplace
 * could have sent.  ST_NOMEM. */
MUST_CHECK enum status import_understand(const struct partner_row *row, struct span withhold_domains,
                                         struct arena *arena, struct lead *lead, struct fail *why);

/* So many that with many offers there are still some of each. */
enum { IMPORT_AT_ONCE = 400 };

struct import {
    struct store *store;
    struct lead_rules rules; /* no routes and no recipients: no mail */
    struct span withhold_domains;
    struct offers *offers;
    uint64_t added;
    uint64_t present; /* somebody else has added them meanwhile */
    uint64_t refused; /* the store never takes them */
    /* The next transaction: */
    struct arena arena;
    struct lead *leads;
    struct lead_write *writes;
    bool is_taken[IMPORT_AT_ONCE]; /* into a transaction before */
    size_t count;
};

/* ST_NOMEM. */
MUST_CHECK enum status import_begin(struct import *import, struct store *store,
                                    const struct lead_rules *rules, struct span withhold_domains,
                                    struct fail *why);
void import_end(struct import *import);
/* Whether its leads are mailed. */
bool import_mails(const struct import *import);

/* Adds the row's lead, and writes when enough have come together.  received_ms: when it was created.
 * ST_AGAIN and others of the store: what was written stays; run it again. */
MUST_CHECK enum status import_add(struct import *import, const struct partner_row *row, int64_t received_ms,
                                  struct fail *why);
/* Writes what was added and is not written yet. */
MUST_CHECK enum status import_flush(struct import *import, struct fail *why);

#endif
