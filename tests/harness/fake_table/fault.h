/* fault.h - what the service answers when it refuses, and what this one has counted. */
#ifndef FAKE_TABLE_FAULT_H
#define FAKE_TABLE_FAULT_H

/* System */
#include <stdint.h>

struct stats {
    uint64_t requests, batches, operations, refused;
};
static struct stats stats;

struct fault {
    int status;
    const char *code;
    const char *message;
};
#define FAULT(name, status, code, message) static const struct fault name = {status, code, message}

FAULT(BAD_AUTHORIZATION, 403, "AuthenticationFailed",
      "Server failed to authenticate the request. Make sure the value of Authorization header is formed "
      "correctly including the signature.");
FAULT(BAD_INPUT, 400, "InvalidInput", "One of the request inputs is not valid.");
FAULT(BAD_HEADER, 400, "InvalidHeaderValue",
      "The value for one of the HTTP headers is not in the correct format.");
FAULT(BAD_TYPE, 400, "InvalidValueType", "The value specified is invalid.");
FAULT(BAD_KEY, 400, "OutOfRangeInput", "One of the request inputs is out of range.");
FAULT(BAD_RESOURCE, 400, "InvalidResourceName", "The specified resource name contains invalid characters.");
FAULT(BAD_PROPERTY_NAME, 400, "PropertyNameInvalid", "The property name is invalid.");
FAULT(MISSING_HEADER, 400, "MissingRequiredHeader",
      "An HTTP header that's mandatory for this request is not specified.");
FAULT(MISSING_VALUE, 400, "PropertiesNeedValue",
      "The values are not specified for all properties in the entity.");
FAULT(DUPLICATE_PROPERTY, 400, "DuplicatePropertiesSpecified", "A property is specified more than one time.");
FAULT(DUPLICATE_ROW, 400, "InvalidDuplicateRow",
      "The batch request contains multiple changes with same row key. An entity can appear only once in a "
      "batch request.");
FAULT(DIFFERENT_PARTITIONS, 400, "CommandsInBatchActOnDifferentPartitions",
      "All commands in a batch must operate on same entity group.");
FAULT(TOO_MANY_OPERATIONS, 400, "InvalidInput",
      "The batch request operation exceeds the maximum 100 changes per change set.");
FAULT(TOO_MANY_PROPERTIES, 400, "TooManyProperties", "The entity contains more properties than allowed.");
FAULT(VALUE_TOO_LARGE, 400, "PropertyValueTooLarge",
      "The property value exceeds the maximum allowed size (64KB).");
FAULT(ENTITY_TOO_LARGE, 400, "EntityTooLarge", "The entity is larger than the maximum allowed size (1MB).");
FAULT(BODY_TOO_LARGE, 413, "RequestBodyTooLarge",
      "The request body is too large and exceeds the maximum permissible limit.");
FAULT(NO_LENGTH, 411, "MissingContentLengthHeader", "Content-Length HTTP header was not specified.");
FAULT(NO_METHOD, 405, "UnsupportedHttpVerb", "The resource doesn't support the specified HTTP verb.");
FAULT(NOT_ATOM, 415, "AtomFormatNotSupported", "Atom format is not supported.");
FAULT(NOT_JSON, 415, "JsonFormatNotSupported", "JSON format is not supported.");
FAULT(NO_TABLE, 404, "TableNotFound", "The table specified does not exist.");
FAULT(NO_ENTITY, 404, "ResourceNotFound", "The specified resource does not exist.");
FAULT(TABLE_EXISTS, 409, "TableAlreadyExists", "The table specified already exists.");
FAULT(ENTITY_EXISTS, 409, "EntityAlreadyExists", "The specified entity already exists.");
FAULT(ENTITY_CHANGED, 412, "UpdateConditionNotSatisfied",
      "The update condition specified in the request was not satisfied.");
FAULT(STORE_FULL, 503, "ServerBusy", "The server is currently unable to receive requests.");

static const char *reason_of(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 201:
        return "Created";
    case 202:
        return "Accepted";
    case 204:
        return "No Content";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 409:
        return "Conflict";
    case 412:
        return "Precondition Failed";
    case 429:
        return "Too Many Requests";
    case 500:
        return "Internal Server Error";
    default:
        return status < 500 ? "Bad Request" : "Service Unavailable";
    }
}

#endif
