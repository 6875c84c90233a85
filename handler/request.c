#include "handler/request.h"

static struct span bounded(request_variable *variable, const void *from, const char *name, size_t limit)
{
    struct span value = variable(from, name);
    return value.len <= limit ? value : span_empty();
}

/* It becomes part of a header line. */
static struct span named_location(struct span value)
{
    bool good =
        span_starts(value, SPAN_LIT("@")) && value.len > 1 && span_has_only(span_from(value, 1), "_-");
    return good ? value : span_empty();
}

void request_fill(struct request *request, request_variable *variable, const void *from)
{
    *request = (struct request){
        .method = bounded(variable, from, "REQUEST_METHOD", LIMIT_METHOD_BYTES),
        .path = bounded(variable, from, "SCRIPT_NAME", LIMIT_QUERY_BYTES),
        .query = bounded(variable, from, "QUERY_STRING", LIMIT_QUERY_BYTES),
        .content_type = bounded(variable, from, "CONTENT_TYPE", LIMIT_CONTENT_TYPE_BYTES),
        .lead_key = bounded(variable, from, "HTTP_X_LEAD_KEY", LIMIT_QUERY_BYTES),
        .authorization = bounded(variable, from, "HTTP_AUTHORIZATION", LIMIT_QUERY_BYTES),
        .webhook_id = variable(from, "HTTP_WEBHOOK_ID"),
        .webhook_timestamp = variable(from, "HTTP_WEBHOOK_TIMESTAMP"),
        .webhook_signature = variable(from, "HTTP_WEBHOOK_SIGNATURE"),
        .request_id = bounded(variable, from, "REQUEST_ID", LIMIT_REQUEST_ID_BYTES),
        .denied = named_location(bounded(variable, from, "DENIED_LOCATION", LIMIT_LOCATION_BYTES)),
    };
}

enum body_state request_body_length(struct span content_length, size_t max, size_t *len)
{
    uint64_t number = 0;
    *len = 0;
    /* Digits only: more of them than a number can hold are still a length, and too large a one. */
    for (size_t i = 0; i < content_length.len; i++) {
        if (content_length.ptr[i] < '0' || content_length.ptr[i] > '9')
            return BODY_BAD_LENGTH;
    }
    if (content_length.len && !span_to_u64(content_length, max, &number))
        return BODY_TOO_LARGE;
    *len = (size_t)number;
    return BODY_COMPLETE;
}
