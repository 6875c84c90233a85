/* lead.h - what a lead is, and the three steps from a request's body to it.
 *
 * read       bytes -> struct payload: named values as they came
 * normalize  struct payload -> struct lead: what they mean
 * identify   struct lead -> the keys under which it is stored
 *
 * Each step is a pure function of its input (identify also takes random bytes
 * from the caller), so that tests can compare every stage.  Spans point into
 * the body or the arena and live as long as both.  Threads: no shared state.
 */
#ifndef LEAD_LEAD_H
#define LEAD_LEAD_H

#include "lib/base/arena.h"
#include "lib/base/buf.h"
#include "lib/base/limits.h"
#include "lib/base/status.h"

enum { LEAD_HASH_TEXT = 32 };                        /* hexadecimal digits of a contact or content hash */
enum { LEAD_ROW_KEY_TEXT = 2 * LEAD_HASH_TEXT + 1 }; /* "<contact>-<content>" */
enum { LEAD_DELIVERY_TEXT = 32 };                    /* hexadecimal digits of a DeliveryId */

/* The seven fields about a customer that were ever published. */
struct customer {
    struct span first_name;
    struct span last_name;
    struct span email;
    struct span phone;
    struct span country;
    struct span company;
    struct span title;
};

/* The values of a webhook body or form post, blank where absent, null or "". */
struct payload {
    struct customer customer;
    struct span lead_source;
    struct span action_code;
    struct span offer_title;
    struct span description;
    struct span product_id; /* only Microsoft's own table writer has it; kept when someone sends it */
};

struct lead {
    struct customer customer;
    struct span lead_source; /* as it came */
    struct span action_code; /* as it came, or the one inside lead_source */
    struct span offer_title;
    struct span description; /* blank when it says nothing ("Campaigns: ", spaces) */
    struct span product_id;

    struct span source; /* AzureMarketplace, AzurePortal, TestDrive, AppSource, or as it came */
    struct span action; /* the same as action_code, in the spelling of the documentation where known */
    struct span publisher_id;
    struct span offer_id; /* without the publisher */
    struct span campaign; /* mktcmpid of the description's URL parameters */
    bool is_test;
    bool do_not_contact;
    bool withheld; /* the person's data was removed (withhold_domains) */

    struct span payload; /* the raw body; blank when withheld */

    char partition[LIMIT_PARTITION_KEY_BYTES + 1];
    char contact[LEAD_HASH_TEXT + 1];
    char content[LEAD_HASH_TEXT + 1];
};

/* Reads a JSON object or a form post; content_type is only a hint: a body that
 * reads as JSON is read as JSON under any type or none.
 * ST_INVALID: malformed, *offset is the byte where that was noticed (0 when not
 * known); an empty body too.  ST_TOO_LARGE: a limit of limits.h (depth,
 * members).  ST_REFUSED: neither JSON nor a form by its content.  ST_NOT_FOUND:
 * an object or form in which no field of a lead has a value.  ST_NOMEM. */
MUST_CHECK enum status lead_read(struct span body, struct span content_type, struct arena *arena,
                                 struct payload *payload, size_t *offset, struct fail *why);

/* withhold_domains: comma-separated, as in the setting of that name (".edu"
 * matches every domain with that ending, "example.org" that domain and those
 * below it); blank: none.  ST_NOMEM only. */
MUST_CHECK enum status lead_normalize(const struct payload *payload, struct span body,
                                      struct span withhold_domains, struct arena *arena, struct lead *lead,
                                      struct fail *why);

enum { LEAD_RANDOM_BYTES = 32 };
/* Fills partition, contact and content.  random stands in for the hashes of
 * what must never be merged: contact where there is no e-mail address and no
 * name, company or phone; both for withheld leads; content for a lead without
 * any customer field.  ST_NOMEM only. */
MUST_CHECK enum status lead_identify(struct lead *lead, struct span body,
                                     const unsigned char random[LEAD_RANDOM_BYTES], struct fail *why);

/* Appends the customer as Microsoft's CustomerInfo column holds it: a JSON object of the seven fields in order. */
MUST_CHECK enum status lead_customer_info(struct buf *out, const struct customer *customer, struct fail *why);

#endif
