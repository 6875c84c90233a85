/* match.h - which lead of a file is which lead of the table.
 *
 * Neither side has an id of the other's, so leads are told by what both know:
 *
 *   person  the e-mail address, as in the keys of leads; a lead of the file that
 *           has none, by its company, else by its name: that is less sure
 *   offer   the same id or the same title, in any case of their letters.  Where
 *           the two know different things about it (one only an id, the other
 *           only a title) it tells nothing apart
 *   time    no further apart than the tolerance.  In the table a lead lies between
 *           its first and its last receipt; a date without a time is its whole day
 *
 * Pairs are formed so that as many as possible find one, in the order of time:
 * of several leads of one person in one offer within the tolerance, it is sure
 * how many are missing, not which.  A row of the table that stands for n
 * deliveries is as many leads, so it may have up to n partners.  Before all this
 * a lead that was imported is known again by its content hash, and a lead that
 * is in the file twice (the same id; without ids, the same in all that is read)
 * counts once.
 *
 * A pair differs where both have a value of a field and the values are not the
 * same, blanks and the case of ASCII letters aside; of phone numbers the last
 * nine digits count, of countries codes of two letters, and the action Create is
 * the same as INS, because the export shows both as "Get it now".
 *
 * All texts are kept as hashes, a hundred-odd bytes per lead: the memory is that of
 * the file's leads and of those leads of the table that may be theirs.
 */
#ifndef LEAD_CTL_MATCH_H
#define LEAD_CTL_MATCH_H

#include "lib/base/date_read.h"
#include "lib/lead/lead.h"

enum match_field {
    MATCH_NAME,
    MATCH_PHONE,
    MATCH_COUNTRY,
    MATCH_COMPANY,
    MATCH_TITLE,
    MATCH_SOURCE,
    MATCH_ACTION,
    MATCH_FIELDS
};
const char *match_field_name(enum match_field field);

enum match_person { MATCH_BY_EMAIL, MATCH_BY_COMPANY, MATCH_BY_NAME, MATCH_BY_NOTHING };

struct match_key {
    enum match_person kind;
    uint64_t hash;
};

struct match_traits {
    uint64_t partition, title, offer; /* 0: not known */
    uint32_t fields[MATCH_FIELDS];    /* 0: blank, or not to be compared */
};

enum match_state {
    MATCH_OPEN,    /* before match_run */
    MATCH_AGREES,  /* has a partner, also where some fields differ */
    MATCH_MISSING, /* is not in the table */
    /* Set by the caller, and left alone: */
    MATCH_UNREADABLE, /* no date, one to come, or nothing by which it could be told */
    MATCH_WITHHELD,   /* the table has nothing of its person */
    MATCH_OTHER_KIND, /* did not come through the marketplace */
    /* Set by match_run: */
    MATCH_DUPLICATE /* of another line */
};

/* Why a lead is missing. */
enum match_near {
    MATCH_NOBODY,      /* there is no lead of the person */
    MATCH_OTHER_OFFER, /* there are, of other offers */
    MATCH_OTHER_TIME,  /* of this offer too, at other times */
    MATCH_TAKEN        /* and at this time, but other lines have taken them */
};

#define MATCH_NO_PARTNER UINT32_MAX

struct match_file_lead {
    enum match_state state;
    uint32_t number; /* of the row in the file, from 0 */
    uint64_t line;
    struct match_key key;
    struct match_traits traits;
    unsigned char content[LEAD_HASH_TEXT / 2]; /* what the content of its row would be */
    int64_t ms;
    int64_t width_ms; /* 0, or a day */
    enum match_near near;
    unsigned int differs; /* 1 << enum match_field, summed */
    uint32_t partner;     /* index of the table's lead */
};

struct match_table_lead {
    struct match_key key;
    struct match_traits traits;
    unsigned char content[LEAD_HASH_TEXT / 2];
    int64_t first_ms, last_ms;
    uint32_t deliveries;
    uint32_t partners;                        /* set by match_run */
    uint32_t offer;                           /* the caller's */
    unsigned char id[LEAD_DELIVERY_TEXT / 2]; /* DeliveryId */
    bool is_test;
    bool is_imported; /* came out of such a file */
};

/* What is compared.  Of a withheld lead only the offer, source and action. */
void match_traits_of(const struct lead *lead, struct match_traits *traits);

/* The key by which a lead of the file is looked for. */
struct match_key match_key_of(const struct lead *lead);

/* The keys by which a lead of the table may be found: one of each kind, or of
 * MATCH_BY_NOTHING. */
void match_keys_of(const struct lead *lead, struct match_key keys[MATCH_BY_NOTHING]);

/* To be called before a search, and again before match_run if keys have changed. */
void match_sort_file(struct match_file_lead *leads, size_t count);

/* Whether any open lead of the file has the key; they are sorted. */
bool match_has_key(const struct match_file_lead *leads, size_t count, struct match_key key);

/* Finds duplicates and partners; sorts both.  ST_NOMEM. */
MUST_CHECK enum status match_run(struct match_file_lead *file, size_t file_count,
                                 struct match_table_lead *table, size_t table_count, int64_t tolerance_ms,
                                 struct fail *why);

#endif
