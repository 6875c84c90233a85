/* error.h - what the Table service's errors mean and what to do about them.
 *
 * One table from error code and HTTP status to enum status and advice.  Codes:
 * "Table service error codes", "Status and error codes", "SAS error codes"; an
 * unknown code is decided by the HTTP status.  Pure functions.
 */
#ifndef LEAD_ERROR_H
#define LEAD_ERROR_H

#include "lib/table/entity.h"

enum { ERROR_CODE_BYTES = 64 };

struct table_error {
    int http_code;
    char code[ERROR_CODE_BYTES];       /* "EntityAlreadyExists"; blank when the answer has none */
    char request_id[ERROR_CODE_BYTES]; /* for Microsoft's support; may be blank */
    size_t index;                      /* of the operation in a transaction, or NO_INDEX */
    bool is_member;                    /* it is one operation of a transaction that failed */
    int64_t clock_ahead_ms;            /* our clock less the service's; 0 when not known */
    bool has_sas;                      /* the request carried a SAS and not a signature */
};

/* Reads code and index from the body of an error: JSON, or XML as storage and Azurite also send it.  A body
 * that cannot be read leaves them as they are. */
void table_error_read(struct table_error *error, struct span body);

/* The id of the request from a header, for people: it goes into logs and alarms, so what no id has becomes '?'. */
void table_error_take_request_id(struct table_error *error, struct span id);

/* The code from a header; ignored unless it is a word. */
void table_error_take_code(struct table_error *error, struct span code);

bool table_error_is(const struct table_error *error, const char *code);

/* Never ST_OK.  The text names code and request id and says what to do. */
enum status table_error_status(const struct table_error *error, struct fail *why);

#endif
