#include "lib/table/error.h"

/* System */
#include <stdio.h>
#include <string.h>

/* A request may arrive 15 minutes early or late; reading the Date header is good to a second or so. */
#define CLOCK_LIMIT_MS (14 * 60 * 1000LL)

struct rule {
    const char *code; /* NULL: any code that is not named, with this HTTP status */
    int http_code;
    enum status status;
    const char *advice; /* NULL: the code says it */
};

#define NOT_OURS "refused as a whole: check the table endpoint and what stands before it"
#define RIGHTS   "the SAS lacks a right: read, add, update and delete on both tables, create unless they exist"

/* ST_INVALID and ST_TOO_LARGE stand for faults of the operation itself: another one may well be taken. */
static const struct rule RULES[] = {
    /* Credentials, rights and settings of the account: a person has to act. */
    {"AuthenticationFailed", 0, ST_DENIED, NULL},
    {"NoAuthenticationInformation", 0, ST_DENIED, "the account takes neither key nor SAS"},
    {"InvalidAuthenticationInfo", 0, ST_DENIED,
     "the authorization was not understood: check the connection string"},
    {"AuthorizationFailure", 0, ST_DENIED,
     "not allowed: the account's firewall refuses this address, or the key or SAS is not good for this"},
    {"AuthorizationPermissionMismatch", 0, ST_DENIED, RIGHTS},
    {"AuthorizationResourceTypeMismatch", 0, ST_DENIED, RIGHTS},
    {"AuthorizationServiceMismatch", 0, ST_DENIED, "the SAS is not for the Table service (ss=t)"},
    {"AuthorizationSourceIPMismatch", 0, ST_DENIED, "the SAS is not for this host's address"},
    {"AuthorizationProtocolMismatch", 0, ST_DENIED, "the SAS is not for this protocol"},
    {"KeyBasedAuthenticationNotPermitted", 0, ST_DENIED,
     "the account does not allow access by key: switch on \"Allow storage account key access\""},
    {"InsufficientAccountPermissions", 0, ST_DENIED, "the account or SAS may not do this"},
    {"AccountIsDisabled", 0, ST_DENIED, "the storage account is disabled"},

    /* The row is not as expected. */
    {"EntityAlreadyExists", 0, ST_EXISTS, "the row exists already"},
    {"TableAlreadyExists", 0, ST_EXISTS, "the table exists already"},
    {"EntityNotFound", 0, ST_NOT_FOUND, "the row is not there"},
    {"ResourceNotFound", 0, ST_NOT_FOUND, "the row is not there"},
    {"TableNotFound", 0, ST_NOT_FOUND, "the table is not there"},
    {"UpdateConditionNotSatisfied", 0, ST_CHANGED, "the row was changed by someone else"},
    {"ConditionNotMet", 0, ST_CHANGED, "the row was changed by someone else"},

    /* This operation can never succeed. */
    {"EntityTooLarge", 0, ST_TOO_LARGE, NULL},
    {"KeyValueTooLarge", 0, ST_TOO_LARGE, NULL},
    {"PropertyNameTooLong", 0, ST_TOO_LARGE, NULL},
    {"PropertyValueTooLarge", 0, ST_TOO_LARGE, NULL},
    {"TooManyProperties", 0, ST_TOO_LARGE, NULL},
    {"RequestBodyTooLarge", 0, ST_TOO_LARGE, NULL},
    {"DuplicatePropertiesSpecified", 0, ST_INVALID, NULL},
    {"InvalidDuplicateRow", 0, ST_INVALID, NULL},
    {"InvalidInput", 0, ST_INVALID, NULL},
    {"InvalidValueType", 0, ST_INVALID, NULL},
    {"OutOfRangeInput", 0, ST_INVALID, NULL},
    {"PropertiesNeedValue", 0, ST_INVALID, NULL},
    {"PropertyNameInvalid", 0, ST_INVALID, NULL},

    /* Nothing was written, later it may be. */
    {"ServerBusy", 0, ST_AGAIN, "the service is busy or throttles this account"},
    {"TableBeingDeleted", 0, ST_AGAIN, "the table is being deleted; it can be made anew in a minute"},
    {"AccountBeingCreated", 0, ST_AGAIN, "the storage account is being created"},

    /* It may have been written. */
    {"InternalError", 0, ST_UNKNOWN, "the service had an internal error"},
    {"OperationTimedOut", 0, ST_UNKNOWN, "the service did not finish in its time"},

    {NULL, 401, ST_DENIED, "not authenticated: check the connection string"},
    {NULL, 403, ST_DENIED, "not allowed: check the connection string and the account's firewall"},
    {NULL, 404, ST_NOT_FOUND, "not there"},
    {NULL, 408, ST_UNKNOWN, "the service did not finish in its time"},
    {NULL, 409, ST_AGAIN, "it conflicts with something that is under way"},
    {NULL, 412, ST_CHANGED, "the row was changed by someone else"},
    {NULL, 413, ST_TOO_LARGE, NULL},
    {NULL, 429, ST_AGAIN, "the service throttles this account"},
    {NULL, 501, ST_DENIED, NOT_OURS},
    {NULL, 505, ST_DENIED, NOT_OURS},
};

/* Codes that are not in the list.  A member's unknown 400 is taken for its own fault, so that it does not
 * keep the others out.  What refuses whole requests (a gateway, a wrong endpoint) says nothing about the leads
 * in them, which may well be taken when a person has acted. */
static struct rule rule_for_class(const struct table_error *error)
{
    switch (error->http_code / 100) {
    case 3:
        return (struct rule){.status = ST_DENIED, .advice = "redirected elsewhere: check the table endpoint"};
    case 4:
        if (error->is_member && error->http_code == 400)
            return (struct rule){.status = ST_INVALID};
        return (struct rule){.status = ST_DENIED, .advice = NOT_OURS};
    default:
        return (struct rule){.status = ST_UNKNOWN, .advice = "the service or something before it failed"};
    }
}

static struct rule find_rule(const struct table_error *error)
{
    for (size_t i = 0; i < sizeof RULES / sizeof RULES[0]; i++) {
        if (RULES[i].code ? table_error_is(error, RULES[i].code) : RULES[i].http_code == error->http_code)
            return RULES[i];
    }
    return rule_for_class(error);
}

bool table_error_is(const struct table_error *error, const char *code)
{
    return strcmp(error->code, code) == 0;
}

/* The service gives one code for all that can be wrong with a signature; what we know tells them apart. */
static void advise_on_signature(const struct table_error *error, char *text, size_t size)
{
    int64_t off_ms = error->clock_ahead_ms < 0 ? -error->clock_ahead_ms : error->clock_ahead_ms;
    if (off_ms > CLOCK_LIMIT_MS)
        (void)snprintf(text, size, "this host's clock is %lld minutes %s: set it right",
                       (long long)off_ms / 60000, error->clock_ahead_ms > 0 ? "fast" : "slow");
    else if (error->has_sas)
        (void)snprintf(text, size, "the SAS is wrong, expired or withdrawn (its key was regenerated)");
    else
        (void)snprintf(text, size, "the account key is wrong or was regenerated");
}

enum status table_error_status(const struct table_error *error, struct fail *why)
{
    struct rule rule = find_rule(error);
    char advice[128] = "";
    bool is_signature = table_error_is(error, "AuthenticationFailed");
    if (is_signature)
        advise_on_signature(error, advice, sizeof advice);
    (void)fail_set(why, rule.status, 0, "Azure Table (%d %s): %s%s%s", error->http_code,
                   error->code[0] ? error->code : "no error code",
                   is_signature  ? advice
                   : rule.advice ? rule.advice
                                 : "the request was refused",
                   error->request_id[0] ? "; request " : "", error->request_id);
    if (why)
        why->peer = error->http_code;
    return rule.status;
}

/* --- reading -------------------------------------------------------------------------------------------- */

void table_error_take_request_id(struct table_error *error, struct span id)
{
    size_t i = 0;
    for (; i < id.len && i + 1 < sizeof error->request_id; i++)
        error->request_id[i] = char_is_alnum(id.ptr[i]) || id.ptr[i] == '-' ? id.ptr[i] : '?';
    error->request_id[i] = '\0';
}

/* Codes are words; anything else is not taken over. */
void table_error_take_code(struct table_error *error, struct span code)
{
    if (code.len == 0 || code.len >= sizeof error->code)
        return;
    for (size_t i = 0; i < code.len; i++) {
        if (!char_is_alnum(code.ptr[i]) && code.ptr[i] != '_')
            return;
    }
    memcpy(error->code, code.ptr, code.len);
    error->code[code.len] = '\0';
}

/* The text of the first <Code>, <code> or <m:code> element. */
static struct span xml_code(struct span body)
{
    while (body.len) {
        size_t open = span_find(body, '<');
        body = span_from(body, open == SPAN_NONE ? body.len : open + 1);
        struct span tag = span_starts(body, SPAN_LIT("m:")) ? span_from(body, 2) : body;
        if (span_starts_nocase(tag, SPAN_LIT("code>"))) {
            struct span text = span_from(tag, sizeof "code>" - 1);
            return span_cut(text, 0, span_find(text, '<'));
        }
    }
    return (struct span){0};
}

/* "2:The specified entity already exists." */
static size_t index_in(struct span message)
{
    uint64_t index;
    size_t colon = span_find(message, ':');
    bool is_index =
        colon != SPAN_NONE && span_to_u64(span_cut(message, 0, colon), LIMIT_BATCH_OPERATIONS, &index);
    return is_index ? (size_t)index : NO_INDEX;
}

void table_error_read(struct table_error *error, struct span body)
{
    static const struct json_limits limits = {.depth = 8, .values = LIMIT_ERROR_VALUES};
    struct arena arena = ARENA_INIT(LIMIT_ERROR_ARENA);
    const struct json *top;
    body = span_trim(body);
    if (body.len && body.ptr[0] == '<') {
        table_error_take_code(error, xml_code(body));
    } else if (json_read(body, &limits, &arena, &top, NULL, NULL) == ST_OK) {
        const struct json *inner = json_member(top, "odata.error");
        table_error_take_code(error, json_text(inner, "code"));
        error->index = index_in(json_text(json_member(inner, "message"), "value"));
    }
    arena_release(&arena);
}
