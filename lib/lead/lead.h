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

/* The values of a webhook body or form post, exactly as they came; blank (empty)
 * where they were absent, null, "" or nothing but white space. */
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
    struct span action_code; /* as it came; where blank the one inside lead_source */
    struct span offer_title; /* as it came; where blank the one inside lead_source */
    struct span description; /* blank when it says nothing ("Campaigns: ", spaces) */
    struct span product_id;

    /* Read out of the above, without blanks at the ends. */
    struct span source; /* AzureMarketplace, AzurePortal, TestDrive, AppSource, or as it came */
    struct span action; /* the action_code, in the spelling of the documentation where known */
    struct span publisher_id;
    struct span offer_id; /* without the publisher */
    struct span campaign; /* mktcmpid of the description's URL parameters */
    bool is_test;
    bool do_not_contact;
    bool withheld; /* withhold_domains: of customer only the country is left, no description, no payload */

    struct span payload; /* the raw body */

    char partition[LIMIT_PARTITION_KEY_BYTES + 1];
    char contact[LEAD_HASH_TEXT + 1];
    char content[LEAD_HASH_TEXT + 1];
};

/* Reads a JSON object or a form post (Salesforce Web-to-Lead names).  The bytes
 * decide, content_type is only a hint: what begins with '{', '[' or '"' (after
 * white space or a byte order mark) is JSON; pairs with a name of ours are a
 * form; anything else is what the type says.  Names match without regard to
 * ASCII case; of several values of a name the first that is not blank counts.
 * Numbers, true and false become their text; an object or array in place of a
 * text is blank, but UserDetails may be a string that holds an object.
 * ST_INVALID: malformed (a top level other than an object too); *offset is the
 * byte of the body as in json_read.h, or where the field of a form begins; or
 * empty.  ST_TOO_LARGE: a limit of limits.h (depth, values, fields), with offset.
 * ST_REFUSED: neither JSON nor a form.  ST_NOT_FOUND: no field of a lead has a
 * value.  ST_NOMEM.  Where not said otherwise *offset is 0. */
MUST_CHECK enum status lead_read(struct span body, struct span content_type, struct arena *arena,
                                 struct payload *payload, size_t *offset, struct fail *why);

/* withhold_domains: comma-separated, as in the setting of that name (".edu"
 * matches every domain with that ending, "example.org" that domain and those
 * below it); blank: none.  Nothing is refused: what does not fit the grammar of
 * a field is kept as it came.  ST_NOMEM only. */
MUST_CHECK enum status lead_normalize(const struct payload *payload, struct span body,
                                      struct span withhold_domains, struct arena *arena, struct lead *lead,
                                      struct fail *why);

enum { LEAD_RANDOM_BYTES = 32 };
/* Fills partition, contact and content.  random stands in for the hashes of
 * what must never be merged: contact where there is no e-mail address and no
 * name, company or phone; both for withheld leads; content for a lead without
 * any customer field, and where body is blank.  ST_NOMEM only. */
MUST_CHECK enum status lead_identify(struct lead *lead, struct span body,
                                     const unsigned char random[LEAD_RANDOM_BYTES], struct fail *why);

/* What tells a delivery from others. */
enum lead_identity {
    LEAD_BY_BODY, /* its person and its bytes; where these must not be merged, random does */
    LEAD_BY_NAME  /* the sender's name for it: random is what lead_bytes_of_name made */
};

/* What stands in for random bytes where the sender has named the delivery (a
 * verified webhook-id): the same for the same name from the same holder of a key,
 * so that the row of a delivery has one key however often it comes.  Neither may
 * hold U+0000.  ST_NOMEM. */
MUST_CHECK enum status lead_bytes_of_name(struct span key_name, struct span name,
                                          unsigned char bytes[LEAD_RANDOM_BYTES], struct fail *why);

/* The contact of everybody who gives this as the e-mail address, blanks at its ends and the case of ASCII letters
 * aside.  ST_NOMEM only. */
MUST_CHECK enum status lead_contact_of_email(struct span email, char contact[LEAD_HASH_TEXT + 1],
                                             struct fail *why);

/* All three steps.  Statuses and *offset are those of lead_read. */
MUST_CHECK enum status lead_understand(struct span body, struct span content_type,
                                       struct span withhold_domains, enum lead_identity identity,
                                       const unsigned char random[LEAD_RANDOM_BYTES], struct arena *arena,
                                       struct lead *lead, size_t *offset, struct fail *why);

/* Which of the documented sources or actions it is, or "none" or "other": for who counts leads by them, since a sender
 * may make up any number of others.  An index is below LEAD_SOURCE_LABELS or LEAD_ACTION_LABELS; a label is a word of
 * letters. */
enum { LEAD_SOURCE_LABELS = 6, LEAD_ACTION_LABELS = 7 };
size_t lead_source_index(struct span source);
size_t lead_action_index(struct span action);
const char *lead_source_label(size_t index);
const char *lead_action_label(size_t index);

/* What the customer did, in words, for an action as normalized; blank: codes are an open list. */
struct span lead_action_words(struct span action);

/* Appends the customer as Microsoft's CustomerInfo column holds it: a JSON object of
 * the seven fields in order. */
MUST_CHECK enum status lead_customer_info(struct buf *out, const struct customer *customer, struct fail *why);

#endif
