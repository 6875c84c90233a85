/* reconcile.h - what the two halves of leadctl reconcile share: reconcile.c compares, report.c says what came
 * of it and has it imported.
 */
#ifndef LEAD_CTL_RECONCILE_H
#define LEAD_CTL_RECONCILE_H

#include "handler/ctl/find.h"
#include "handler/ctl/reconcile/import.h"
#include "handler/ctl/reconcile/match.h"
#include "handler/service.h"

enum { RECONCILE_MAPS = 64 };

struct reconcile_options {
    const char *maps[RECONCILE_MAPS];
    struct partner_options file;
    struct find_filter filter; /* since and until only */
    int64_t tolerance_ms;
    bool imports, mails, shows_all, is_json;
};

/* Leads: of the file, but for extra, test_extra and table_withheld, which are the table's, and outside, which are of
 * both; unsure is a part of agree and differ. */
struct reconcile_tally {
    uint64_t agree, unsure, differ, missing, extra, unreadable, duplicates, other_kind, withheld, outside;
    uint64_t test_extra, table_withheld;
};

struct reconcile {
    struct service *service;
    const struct reconcile_options *options;
    struct store *store;
    struct partner_file *file;
    struct match_file_lead *leads;
    size_t lead_count;
    uint32_t *place;        /* of the row of each number, in leads */
    int64_t from_ms, to_ms; /* of the file's leads; to_ms is past the end */
    struct match_table_lead *found;
    size_t found_count, found_room;
    struct arena names; /* of offers */
    struct span *offers;
    uint32_t offer_count, offer_room;
    struct reconcile_tally tally;
    uint64_t shown, shown_extra, hidden; /* lines */
    struct import *import;               /* NULL: nothing is imported */
};

/* Whether a lead received then is in the time that is compared: that of the file, and of --since and --until. */
bool reconcile_is_in_time(const struct reconcile *r, int64_t ms);

/* Counts; prints the counts and what there is to say of single leads; adds what is missing where r->import is set.
 * Nothing that is printed names a person: lines of the file and ids of leads, which `leadctl show` resolves. */
MUST_CHECK enum status reconcile_tell(struct reconcile *r, struct fail *why);

#endif
