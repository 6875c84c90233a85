/* fake_table - the part of the Azure Table service that leadhook uses, in memory and fast.
 *
 * For measuring speed and for tests with faults.  It judges what the client
 * sends, so it shares no code with leadhook: signatures, headers, keys, types,
 * sizes and transactions are checked here as the service's documentation
 * describes them, and where Azurite is laxer this is not.
 *
 *   fake_table [--port N] [--latency-ms N] [--scan-rows N] [--account NAME --key BASE64]
 *
 * Prints "listening PORT" (port 0, the default: the kernel's choice) and serves
 * http://127.0.0.1:PORT/ACCOUNT/ until SIGTERM.  Every answer is held back for
 * the latency, which blocks no other request; the effect is at once.  A query
 * looks at scan-rows rows at most and then answers with a continuation, also
 * when it found nothing: the service does that, and clients get it wrong.
 *
 * Not signed, for tests:
 *   GET /_count?table=T[&prefix=P]   rows of T whose RowKey begins with P: {"count":N}
 *   GET /_stats                      {"requests":N,"batches":N,"operations":N,"refused":N}
 *
 * Missing: queries inside a batch, listing and deleting tables, SAS, ranges of
 * OData beyond comparisons joined by "and", "or" and parentheses.
 */

/* System */
#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

/* Libraries */
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <yajl/yajl_parse.h>

enum {
    HEAD_BYTES = 64 * 1024,
    BODY_BYTES = 4 * 1024 * 1024, /* the service's limit for a batch */
    ANSWER_BYTES = 8 * 1024 * 1024,
    PAGE_BYTES = 4 * 1024 * 1024,
    PAGE_ROWS = 1000,
    BATCH_OPERATIONS = 100,
    KEY_UTF16 = 512,
    KEY_BYTES = 3 * KEY_UTF16, /* no UTF-16 unit needs more than three bytes of UTF-8 */
    PROPERTY_COUNT = 252,
    PROPERTY_NAME_BYTES = 255,
    PROPERTY_VALUE_BYTES = 64 * 1024, /* of UTF-16, or of binary */
    ENTITY_BYTES = 1024 * 1024,
    TABLE_NAME_BYTES = 63,
    TABLES = 16,
    CONNECTIONS = 1024,
    FILTER_NODES = 64,
    FILTER_COMPARISONS = 15,
    CLOCK_SKEW_S = 15 * 60,
    LEVELS = 20
};
static const size_t STORE_BYTES = (size_t)4 * 1024 * 1024 * 1024; /* all rows; then 503 */

/* The key is the published one of Microsoft's storage emulator. */
static const char *account = "devstoreaccount1";
static const char *account_key =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
static unsigned char secret[256];
static size_t secret_bytes;
static int64_t latency_ns;
static size_t scan_rows = 100000;
static struct {
    uint64_t requests, batches, operations, refused;
} stats;

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "fake_table: %s: %s\n", what, strerror(errno));
    exit(1);
}

/* ---- Bytes: borrowed ones, and growing bounded ones ---- */

struct text {
    const char *p;
    size_t n;
};
#define LIT(s)                                                                                               \
    (struct text)                                                                                            \
    {                                                                                                        \
        s, sizeof s - 1                                                                                      \
    }

static bool same(struct text a, struct text b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static bool starts(struct text t, struct text prefix)
{
    return t.n >= prefix.n && memcmp(t.p, prefix.p, prefix.n) == 0;
}

static int compare(struct text a, struct text b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int order = n ? memcmp(a.p, b.p, n) : 0;
    return order ? order : (a.n > b.n) - (a.n < b.n);
}

static struct text skip(struct text t, size_t n)
{
    return (struct text){t.p + n, t.n - n};
}

/* Where needle begins in t, or t.n. */
static size_t find(struct text t, struct text needle)
{
    const char *at = t.n ? memmem(t.p, t.n, needle.p, needle.n) : NULL;
    return at ? (size_t)(at - t.p) : t.n;
}

static struct text trim(struct text t)
{
    while (t.n && (t.p[0] == ' ' || t.p[0] == '\t'))
        t = skip(t, 1);
    while (t.n && (t.p[t.n - 1] == ' ' || t.p[t.n - 1] == '\t'))
        t.n--;
    return t;
}

/* Cuts off what is before the separator; the whole rest where there is none. */
static struct text cut(struct text *rest, struct text separator)
{
    size_t n = find(*rest, separator);
    struct text first = {rest->p, n};
    *rest = skip(*rest, n < rest->n ? n + separator.n : n);
    return first;
}

static bool number_of(struct text t, size_t max, size_t *number)
{
    size_t n = 0;
    for (size_t i = 0; i < t.n; i++) {
        if (t.p[i] < '0' || t.p[i] > '9' || n > max)
            return false;
        n = n * 10 + (size_t)(t.p[i] - '0');
    }
    *number = n;
    return t.n > 0 && n <= max;
}

/* What does not fit is dropped and full set; the answer then is an error. */
struct out {
    char *p;
    size_t n, room, limit;
    bool full;
};

static char *out_reserve(struct out *o, size_t n)
{
    if (o->full || n > o->limit - o->n) {
        o->full = true;
        return NULL;
    }
    if (n > o->room - o->n) {
        size_t room = o->room ? o->room : 4096;
        while (room < o->n + n)
            room *= 2;
        o->p = realloc(o->p, room);
        if (!o->p)
            die("memory");
        o->room = room;
    }
    return o->p + o->n;
}

static void out_add(struct out *o, struct text t)
{
    char *to = out_reserve(o, t.n);
    if (to && t.n) {
        memcpy(to, t.p, t.n);
        o->n += t.n;
    }
}

static __attribute__((format(printf, 2, 3))) void outf(struct out *o, const char *format, ...)
{
    char line[2048];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    if (n < 0 || (size_t)n >= sizeof line)
        o->full = true;
    else
        out_add(o, (struct text){line, (size_t)n});
}

static void out_json(struct out *o, struct text t)
{
    out_add(o, LIT("\""));
    size_t plain = 0;
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        out_add(o, (struct text){t.p + plain, i - plain});
        outf(o, "\\u%04x", c);
        plain = i + 1;
    }
    out_add(o, skip(t, plain));
    out_add(o, LIT("\""));
}

static int hex(char c)
{
    const char *digits = "0123456789abcdef";
    const char *at = c ? strchr(digits, c | 0x20) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Percent decoding into room bytes; false: broken or too long. */
static bool url_decode(struct text t, bool plus_is_space, char *to, size_t room, struct text *decoded)
{
    size_t n = 0;
    for (size_t i = 0; i < t.n; i++, n++) {
        if (n == room)
            return false;
        to[n] = t.p[i];
        if (t.p[i] == '+' && plus_is_space)
            to[n] = ' ';
        if (t.p[i] != '%')
            continue;
        if (t.n - i < 3 || hex(t.p[i + 1]) < 0 || hex(t.p[i + 2]) < 0)
            return false;
        to[n] = (char)(hex(t.p[i + 1]) * 16 + hex(t.p[i + 2]));
        i += 2;
    }
    *decoded = (struct text){to, n};
    return true;
}

/* ---- Faults: what the service answers when it refuses ---- */

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
FAULT(BAD_RESOURCE, 400, "InvalidResourceName", "The specifed resource name contains invalid characters.");
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
    default:
        return status < 500 ? "Bad Request" : "Service Unavailable";
    }
}

/* ---- Time: ticks of 100 ns, each given out once, so that an ETag is never reused ---- */

static uint64_t next_ticks(void)
{
    static uint64_t last;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ticks = (uint64_t)now.tv_sec * 10000000 + (uint64_t)now.tv_nsec / 100;
    last = ticks > last ? ticks : last + 1;
    return last;
}

struct stamp {
    char text[64];
};

/* colon is ":" in a Timestamp and "%3A" in an ETag. */
static struct stamp stamp_of(uint64_t ticks, const char *colon)
{
    time_t seconds = (time_t)(ticks / 10000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    struct stamp s;
    snprintf(s.text, sizeof s.text, "%04d-%02d-%02dT%02d%s%02d%s%02d.%07uZ", tm.tm_year + 1900, tm.tm_mon + 1,
             tm.tm_mday, tm.tm_hour, colon, tm.tm_min, colon, tm.tm_sec, (unsigned int)(ticks % 10000000));
    return s;
}

static struct stamp etag_of(uint64_t ticks)
{
    struct stamp etag;
    struct stamp time = stamp_of(ticks, "%3A");
    snprintf(etag.text, sizeof etag.text, "W/\"datetime'%.34s'\"", time.text);
    return etag;
}

static void write_date(struct out *o)
{
    static time_t last;
    static char text[64];
    time_t now = time(NULL);
    if (now != last) {
        struct tm tm;
        gmtime_r(&now, &tm);
        strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        last = now;
    }
    outf(o, "Date: %s\r\n", text);
}

/* ---- Properties and their types ---- */

enum edm { STRING, BOOLEAN, INT32, DOUBLE, INT64, DATETIME, GUID, BINARY, UNTYPED };
static const struct {
    struct text name;
    bool quoted;    /* a string in JSON */
    bool annotated; /* its type is told beside it */
} EDM[] = {
    [STRING] = {LIT("Edm.String"), true, false},
    [BOOLEAN] = {LIT("Edm.Boolean"), false, false},
    [INT32] = {LIT("Edm.Int32"), false, false},
    [DOUBLE] = {LIT("Edm.Double"), false, false},
    [INT64] = {LIT("Edm.Int64"), true, true},
    [DATETIME] = {LIT("Edm.DateTime"), true, true},
    [GUID] = {LIT("Edm.Guid"), true, true},
    [BINARY] = {LIT("Edm.Binary"), true, true},
    [UNTYPED] = {LIT("(by the value)"), false, false},
};

/* JSON's kinds of scalars. */
enum scalar { ABSENT, NOTHING, TEXT, NUMBER, TRUTH };

struct property {
    struct text name;
    struct text value; /* decoded */
    enum edm type;
    enum scalar scalar;
};

struct key {
    struct text partition;
    struct text row;
};

struct entity {
    struct key key;
    size_t count;
    struct property properties[PROPERTY_COUNT + 3]; /* with the system's own */
};

/* Length in UTF-16 of text that yajl has checked to be UTF-8. */
static size_t utf16_units(struct text t)
{
    size_t units = 0;
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        units += (c & 0xC0) != 0x80;
        units += c >= 0xF0;
    }
    return units;
}

/* YYYY-MM-DDThh:mm:ss[.1 to 7 digits]Z, not before 1601. */
static bool is_time(struct text t)
{
    static const char shape[] = "dddd-dd-ddTdd:dd:dd";
    size_t shape_n = sizeof shape - 1;
    if (t.n < shape_n + 1 || t.n > shape_n + 9 || t.p[t.n - 1] != 'Z' || memcmp(t.p, "1601", 4) < 0)
        return false;
    for (size_t i = 0; i < t.n - 1; i++) {
        bool digit = t.p[i] >= '0' && t.p[i] <= '9';
        bool wanted = i >= shape_n ? i > shape_n : shape[i] == 'd';
        if (digit != wanted || (!wanted && t.p[i] != (i == shape_n ? '.' : shape[i])))
            return false;
    }
    return t.n != shape_n + 2;
}

static bool is_base64(struct text t)
{
    size_t n = t.n;
    while (n && t.n - n < 2 && t.p[n - 1] == '=')
        n--;
    for (size_t i = 0; i < n; i++) {
        char c = t.p[i];
        if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' ||
              c == '/'))
            return false;
    }
    return t.n % 4 == 0;
}

static bool is_integer(struct text t, uint64_t max)
{
    bool negative = t.n && t.p[0] == '-';
    size_t magnitude;
    return number_of(skip(t, negative ? 1 : 0), (size_t)max + (negative ? 1 : 0), &magnitude);
}

static int64_t int32_of(struct text t)
{
    bool negative = t.p[0] == '-';
    size_t magnitude = 0;
    (void)number_of(skip(t, negative ? 1 : 0), (size_t)INT32_MAX + 1, &magnitude);
    return negative ? -(int64_t)magnitude : (int64_t)magnitude;
}

static bool is_fraction(struct text number)
{
    return memchr(number.p, '.', number.n) || memchr(number.p, 'e', number.n) ||
           memchr(number.p, 'E', number.n);
}

static bool is_guid(struct text t)
{
    for (size_t i = 0; i < t.n; i++) {
        bool dash = i == 8 || i == 13 || i == 18 || i == 23;
        if (dash ? t.p[i] != '-' : hex(t.p[i]) < 0)
            return false;
    }
    return t.n == 36;
}

static bool is_identifier(struct text t)
{
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        bool letter = (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
        if (!letter && c != '_' && c < 0x80 && (i == 0 || c < '0' || c > '9'))
            return false;
    }
    return t.n > 0 && t.n <= PROPERTY_NAME_BYTES;
}

/* Settles the type of a property and checks its value against it. */
static const struct fault *property_check(struct property *p)
{
    if (!is_identifier(p->name))
        return &BAD_PROPERTY_NAME;
    if (p->scalar == ABSENT)
        return &MISSING_VALUE;
    if (p->scalar == NOTHING)
        return NULL;
    if (p->type == UNTYPED && p->scalar == NUMBER)
        p->type = is_fraction(p->value) ? DOUBLE : INT32;
    else if (p->type == UNTYPED)
        p->type = p->scalar == TEXT ? STRING : BOOLEAN;

    enum scalar wanted = p->type == BOOLEAN ? TRUTH : EDM[p->type].quoted ? TEXT : NUMBER;
    if (p->scalar != wanted)
        return &BAD_TYPE;
    switch (p->type) {
    case STRING:
        return utf16_units(p->value) * 2 > PROPERTY_VALUE_BYTES ? &VALUE_TOO_LARGE : NULL;
    case BINARY:
        return p->value.n / 4 * 3 > PROPERTY_VALUE_BYTES + 2 ? &VALUE_TOO_LARGE
               : is_base64(p->value)                         ? NULL
                                                             : &BAD_TYPE;
    case INT32:
        return is_integer(p->value, INT32_MAX) ? NULL : &BAD_TYPE;
    case INT64:
        return is_integer(p->value, INT64_MAX) ? NULL : &BAD_TYPE;
    case DATETIME:
        return is_time(p->value) ? NULL : &BAD_TYPE;
    case GUID:
        return is_guid(p->value) ? NULL : &BAD_TYPE;
    case BOOLEAN:
    case DOUBLE:
    case UNTYPED:
        return NULL;
    }
    return NULL;
}

/* Size that the service accounts for an entity. */
static size_t stored_bytes(const struct entity *e)
{
    static const size_t fixed[] = {[STRING] = 4,   [BOOLEAN] = 1, [INT32] = 4,  [DOUBLE] = 8, [INT64] = 8,
                                   [DATETIME] = 8, [GUID] = 16,   [BINARY] = 4, [UNTYPED] = 0};
    size_t bytes = 4 + 2 * (utf16_units(e->key.partition) + utf16_units(e->key.row));
    for (size_t i = 0; i < e->count; i++) {
        const struct property *p = &e->properties[i];
        bytes += 8 + 2 * utf16_units(p->name) + fixed[p->type];
        if (p->type == STRING)
            bytes += 2 * utf16_units(p->value);
        if (p->type == BINARY)
            bytes += p->value.n / 4 * 3;
    }
    return bytes;
}

static bool is_key(struct text t)
{
    for (size_t i = 0; i < t.n; i++) {
        unsigned char c = (unsigned char)t.p[i];
        unsigned char before = i ? (unsigned char)t.p[i - 1] : 0;
        if (c < 0x20 || c == 0x7F || strchr("/\\#?", c) || (before == 0xC2 && c >= 0x80 && c <= 0x9F))
            return false;
    }
    return utf16_units(t) <= KEY_UTF16;
}

/* ---- An entity out of JSON: yajl's events, one flat object ---- */

struct reading {
    struct entity *entity;
    struct out *room; /* decoded bytes; reserved beforehand, so that they do not move */
    struct property *current;
    bool at_type; /* the value to come is the type of current */
    const struct fault *fault;
    int depth;
};

static struct text keep(struct reading *r, const unsigned char *p, size_t n)
{
    struct text kept = {r->room->p + r->room->n, n};
    out_add(r->room, (struct text){(const char *)p, n});
    return kept;
}

static int refuse(struct reading *r, const struct fault *fault)
{
    r->fault = fault;
    return 0;
}

static struct property *property_named(struct entity *e, struct text name)
{
    for (size_t i = 0; i < e->count; i++) {
        if (same(e->properties[i].name, name))
            return &e->properties[i];
    }
    return NULL;
}

static int on_map(void *context)
{
    struct reading *r = context;
    return r->depth++ == 0 ? 1 : refuse(r, &BAD_INPUT);
}

static int on_array(void *context)
{
    return refuse(context, &BAD_INPUT);
}

static int on_name(void *context, const unsigned char *p, size_t n)
{
    static const struct text suffix = {"@odata.type", 11};
    struct reading *r = context;
    struct text name = {(const char *)p, n};
    r->current = NULL;
    r->at_type = n > suffix.n && same(skip(name, n - suffix.n), suffix);
    if (starts(name, LIT("odata.")))
        return 1;
    if (r->at_type)
        name.n -= suffix.n;
    r->current = property_named(r->entity, name);
    if (!r->current) {
        if (r->entity->count == PROPERTY_COUNT + 3)
            return refuse(r, &TOO_MANY_PROPERTIES);
        r->current = &r->entity->properties[r->entity->count++];
        *r->current = (struct property){.name = keep(r, p, name.n), .type = UNTYPED};
    } else if (!r->at_type && r->current->scalar != ABSENT) {
        return refuse(r, &DUPLICATE_PROPERTY);
    }
    return 1;
}

static int on_scalar(struct reading *r, enum scalar scalar, const char *p, size_t n)
{
    if (r->depth != 1)
        return refuse(r, &BAD_INPUT);
    if (!r->current)
        return 1;
    if (r->at_type) {
        for (enum edm type = STRING; type < UNTYPED; type++) {
            if (scalar == TEXT && same(EDM[type].name, (struct text){p, n}))
                r->current->type = type;
        }
        return r->current->type != UNTYPED ? 1 : refuse(r, &BAD_TYPE);
    }
    r->current->scalar = scalar;
    r->current->value = keep(r, (const unsigned char *)p, n);
    return 1;
}

static int on_string(void *context, const unsigned char *p, size_t n)
{
    return on_scalar(context, TEXT, (const char *)p, n);
}

static int on_number(void *context, const char *p, size_t n)
{
    return on_scalar(context, NUMBER, p, n);
}

static int on_truth(void *context, int truth)
{
    return truth ? on_scalar(context, TRUTH, "true", 4) : on_scalar(context, TRUTH, "false", 5);
}

static int on_nothing(void *context)
{
    return on_scalar(context, NOTHING, "", 0);
}

/* Takes the property out of e; false unless it is a string. */
static bool take_text(struct entity *e, const char *name, struct text *value)
{
    struct property *p = property_named(e, (struct text){name, strlen(name)});
    if (!p || p->scalar != TEXT)
        return false;
    *value = p->value;
    *p = e->properties[--e->count];
    return true;
}

/* Reads one flat object; its texts live in *room until that is reset. */
static const struct fault *object_read(struct text json, struct out *room, struct entity *e)
{
    static const yajl_callbacks callbacks = {.yajl_null = on_nothing,
                                             .yajl_boolean = on_truth,
                                             .yajl_number = on_number,
                                             .yajl_string = on_string,
                                             .yajl_start_map = on_map,
                                             .yajl_map_key = on_name,
                                             .yajl_start_array = on_array};
    struct reading r = {.entity = e, .room = room, .depth = 0};
    e->count = 0;
    if (!out_reserve(room, json.n)) /* decoded text is no longer than its JSON */
        return &BODY_TOO_LARGE;
    yajl_handle parser = yajl_alloc(&callbacks, NULL, &r);
    if (!parser)
        die("memory");
    bool good = yajl_parse(parser, (const unsigned char *)json.p, json.n) == yajl_status_ok &&
                yajl_complete_parse(parser) == yajl_status_ok && r.depth == 1;
    yajl_free(parser);
    return good ? NULL : r.fault ? r.fault : &BAD_INPUT;
}

/* The same for an entity: keys apart, system columns and nulls left out, every value checked. */
static const struct fault *entity_read(struct text json, struct out *room, struct entity *e)
{
    const struct fault *fault = object_read(json, room, e);
    if (fault)
        return fault;
    if (!take_text(e, "PartitionKey", &e->key.partition) || !take_text(e, "RowKey", &e->key.row))
        return &MISSING_VALUE;
    if (!is_key(e->key.partition) || !is_key(e->key.row))
        return &BAD_KEY;
    for (size_t i = 0; i < e->count;) {
        struct property *p = &e->properties[i];
        fault = property_check(p);
        if (fault)
            return fault;
        if (p->scalar == NOTHING || same(p->name, LIT("Timestamp")))
            *p = e->properties[--e->count];
        else
            i++;
    }
    return NULL;
}

/* ---- Rows: a skip list per table, in the order of the keys ---- */

struct row {
    uint64_t ticks;
    struct key key;
    struct text packed; /* the properties, see row_make */
    size_t bytes;
    int height;
    struct row *next[];
};

struct table {
    char name[TABLE_NAME_BYTES + 1];
    size_t count;
    struct row *first[LEVELS];
};
static struct table tables[TABLES];
static size_t table_count;
static size_t store_bytes;

/* Names of tables are not case-sensitive. */
static struct table *table_named(struct text name)
{
    for (size_t i = 0; i < table_count; i++) {
        if (strlen(tables[i].name) == name.n && strncasecmp(tables[i].name, name.p, name.n) == 0)
            return &tables[i];
    }
    return NULL;
}

static int key_compare(struct key a, struct key b)
{
    int order = compare(a.partition, b.partition);
    return order ? order : compare(a.row, b.row);
}

/* The first row at or behind the key; links, unless NULL, gets the pointers that lead there. */
static struct row *row_seek(struct table *t, struct key key, struct row ***links)
{
    struct row **next = t->first;
    for (int level = LEVELS - 1; level >= 0; level--) {
        while (next[level] && key_compare(next[level]->key, key) < 0)
            next = next[level]->next;
        if (links)
            links[level] = &next[level];
    }
    return next[0];
}

static struct row *row_find(struct table *t, struct key key)
{
    struct row *row = row_seek(t, key, NULL);
    return row && key_compare(row->key, key) == 0 ? row : NULL;
}

static void row_free(struct row *row)
{
    if (row)
        store_bytes -= row->bytes;
    free(row);
}

/* Takes `old` out of the table and frees it, puts `made` in; either may be NULL. */
static void row_change(struct table *t, struct row *old, struct row *made)
{
    struct row **links[LEVELS];
    row_seek(t, old ? old->key : made->key, links);
    if (old) {
        for (int level = 0; level < old->height; level++)
            *links[level] = old->next[level];
        t->count--;
    }
    if (made) {
        for (int level = 0; level < made->height; level++) {
            made->next[level] = *links[level];
            *links[level] = made;
        }
        t->count++;
    }
    row_free(old);
}

static int random_height(void)
{
    static uint64_t state = 0x9E3779B97F4A7C15u;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    int height =
        1 + __builtin_ctzll(state | 1ull << 38) / 2; /* a quarter of the rows of each level goes up */
    return height < LEVELS ? height : LEVELS;
}

struct packed_head {
    uint32_t value_bytes;
    uint8_t name_bytes;
    uint8_t type;
};

static char *put(char *to, struct text t)
{
    if (t.n)
        memcpy(to, t.p, t.n);
    return to + t.n;
}

/* A row with its keys and properties in one block; NULL: the store is full. */
static struct row *row_make(const struct entity *e)
{
    int height = random_height();
    size_t packed = 0;
    for (size_t i = 0; i < e->count; i++)
        packed += sizeof(struct packed_head) + e->properties[i].name.n + e->properties[i].value.n;
    size_t head = sizeof(struct row) + (size_t)height * sizeof(struct row *);
    size_t bytes = head + e->key.partition.n + e->key.row.n + packed;
    if (bytes > STORE_BYTES - store_bytes)
        return NULL;
    struct row *row = malloc(bytes);
    if (!row)
        return NULL;
    store_bytes += bytes;
    char *p = (char *)row + head;
    *row = (struct row){.ticks = next_ticks(), .bytes = bytes, .height = height};
    row->key.partition = (struct text){p, e->key.partition.n};
    p = put(p, e->key.partition);
    row->key.row = (struct text){p, e->key.row.n};
    p = put(p, e->key.row);
    row->packed = (struct text){p, packed};
    for (size_t i = 0; i < e->count; i++) {
        const struct property *property = &e->properties[i];
        struct packed_head h = {(uint32_t)property->value.n, (uint8_t)property->name.n,
                                (uint8_t)property->type};
        p = put(p, (struct text){(const char *)&h, sizeof h});
        p = put(put(p, property->name), property->value);
    }
    return row;
}

/* Cuts the next property off a row's packed ones. */
static bool take_property(struct text *packed, struct property *p)
{
    struct packed_head h;
    if (packed->n == 0)
        return false;
    memcpy(&h, packed->p, sizeof h);
    *packed = skip(*packed, sizeof h);
    p->name = (struct text){packed->p, h.name_bytes};
    p->value = (struct text){packed->p + h.name_bytes, h.value_bytes};
    p->type = (enum edm)h.type;
    *packed = skip(*packed, (size_t)h.name_bytes + h.value_bytes);
    return true;
}

/* Adds to e the properties of the row that e does not name. */
static const struct fault *entity_merge(struct entity *e, const struct row *row)
{
    struct text packed = row->packed;
    struct property p;
    while (take_property(&packed, &p)) {
        if (property_named(e, p.name))
            continue;
        if (e->count == PROPERTY_COUNT)
            return &TOO_MANY_PROPERTIES;
        e->properties[e->count++] = p;
    }
    return NULL;
}

/* ---- Requests: the head, the address ---- */

struct request {
    struct text method;
    struct text path;  /* still percent-encoded */
    struct text query; /* the same, without "?" */
    struct text head;  /* header lines, each with CRLF */
    struct text body;
};

/* The header's value; p is NULL when it is not there. */
static struct text header(const struct request *q, const char *name)
{
    size_t n = strlen(name);
    struct text rest = q->head;
    while (rest.n) {
        struct text line = cut(&rest, LIT("\r\n"));
        if (line.n > n && line.p[n] == ':' && strncasecmp(line.p, name, n) == 0)
            return trim(skip(line, n + 1));
    }
    return (struct text){NULL, 0};
}

static bool header_has(const struct request *q, const char *name, const char *word)
{
    struct text value = header(q, name);
    return find(value, (struct text){word, strlen(word)}) < value.n;
}

/* "METHOD TARGET HTTP/1.1", the target absolute or a path. */
static bool request_line(struct text line, struct request *q)
{
    q->method = cut(&line, LIT(" "));
    struct text target = cut(&line, LIT(" "));
    if (!same(line, LIT("HTTP/1.1")))
        return false;
    size_t scheme = find(target, LIT("://"));
    if (scheme < target.n) {
        target = skip(target, scheme + 3);
        target = skip(target, find(target, LIT("/")));
    }
    q->path = cut(&target, LIT("?"));
    q->query = target;
    return q->method.n && q->path.n && q->path.p[0] == '/';
}

/* The decoded value of a query parameter; false: absent, broken or longer than room. */
static bool parameter(const struct request *q, const char *name, char *room, size_t room_bytes,
                      struct text *value)
{
    struct text rest = q->query;
    while (rest.n) {
        struct text pair = cut(&rest, LIT("&"));
        char decoded[64];
        struct text key = cut(&pair, LIT("="));
        if (url_decode(key, true, decoded, sizeof decoded, &key) &&
            same(key, (struct text){name, strlen(name)}))
            return url_decode(pair, true, room, room_bytes, value);
    }
    return false;
}

/* What a path names below the account. */
struct address {
    struct text name; /* a table, "Tables" or "$batch" */
    bool keyed;
    struct key key;
    char room[2 * KEY_BYTES + 2 * TABLE_NAME_BYTES];
};

/* 'text' with quotes doubled, undoubled in place. */
static bool take_quoted(struct text *rest, struct text *value)
{
    if (rest->n == 0 || rest->p[0] != '\'')
        return false;
    char *to = (char *)(uintptr_t)rest->p; /* the caller's own buffer: a decoded copy */
    *value = (struct text){to, 0};
    for (size_t i = 1; i < rest->n; i++) {
        if (rest->p[i] == '\'' && (i + 1 == rest->n || rest->p[i + 1] != '\'')) {
            *rest = skip(*rest, i + 1);
            return true;
        }
        i += rest->p[i] == '\'';
        to[value->n++] = rest->p[i];
    }
    return false;
}

static bool take(struct text *rest, struct text token)
{
    if (!starts(*rest, token))
        return false;
    *rest = skip(*rest, token.n);
    return true;
}

static const struct fault *address_read(struct text path, struct address *a)
{
    struct text rest;
    a->keyed = false;
    if (!url_decode(path, false, a->room, sizeof a->room, &rest) || !take(&rest, LIT("/")) ||
        !take(&rest, (struct text){account, strlen(account)}) || !take(&rest, LIT("/")))
        return &BAD_RESOURCE;
    size_t n = find(rest, LIT("("));
    a->name = (struct text){rest.p, n};
    rest = skip(rest, n);
    if (rest.n == 0 || same(rest, LIT("()")))
        return NULL;
    a->keyed = true;
    bool good = take(&rest, LIT("(PartitionKey=")) && take_quoted(&rest, &a->key.partition) &&
                take(&rest, LIT(",RowKey=")) && take_quoted(&rest, &a->key.row) && same(rest, LIT(")"));
    if (!good)
        return &BAD_RESOURCE;
    return is_key(a->key.partition) && is_key(a->key.row) ? NULL : &BAD_KEY;
}

/* ---- The signature and the headers that every request needs ---- */

/* SharedKeyLite signs the date and the resource, SharedKey also the verb and two headers. */
static const struct fault *check_signature(const struct request *q)
{
    struct text authorization = header(q, "Authorization");
    struct text date = header(q, "x-ms-date");
    struct text scheme = cut(&authorization, LIT(" "));
    struct text name = cut(&authorization, LIT(":"));
    if (!date.p)
        date = header(q, "Date");

    struct tm tm = {0};
    char date_text[64];
    snprintf(date_text, sizeof date_text, "%.*s", (int)(date.n < 60 ? date.n : 60), date.n ? date.p : "");
    const char *end = strptime(date_text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    if (!end || *end || llabs((long long)(timegm(&tm) - time(NULL))) > CLOCK_SKEW_S)
        return &BAD_AUTHORIZATION;

    struct out text = {.limit = HEAD_BYTES};
    bool full = same(scheme, LIT("SharedKey"));
    if (full) {
        out_add(&text, q->method);
        out_add(&text, LIT("\n"));
        out_add(&text, header(q, "Content-MD5"));
        out_add(&text, LIT("\n"));
        out_add(&text, header(q, "Content-Type"));
        out_add(&text, LIT("\n"));
    }
    out_add(&text, date);
    outf(&text, "\n/%s", account);
    out_add(&text, q->path);
    char comp[64];
    struct text comp_value;
    if (parameter(q, "comp", comp, sizeof comp, &comp_value)) {
        out_add(&text, LIT("?comp="));
        out_add(&text, comp_value);
    }
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned int mac_bytes = 0;
    unsigned char wanted[64];
    HMAC(EVP_sha256(), secret, (int)secret_bytes, (const unsigned char *)text.p, text.n, mac, &mac_bytes);
    int n = EVP_EncodeBlock(wanted, mac, (int)mac_bytes);
    free(text.p);
    bool good = (full || same(scheme, LIT("SharedKeyLite"))) &&
                same(name, (struct text){account, strlen(account)}) &&
                same(authorization, (struct text){(const char *)wanted, (size_t)n});
    return good ? NULL : &BAD_AUTHORIZATION;
}

/* JSON needs version 2013-08-15 and OData 3; without Accept (or with any) the service would speak Atom. */
static const struct fault *check_headers(const struct request *q)
{
    struct text version = header(q, "x-ms-version");
    if (!version.p)
        return &MISSING_HEADER;
    if (version.n != 10 || compare(version, LIT("2013-08-15")) < 0 || compare(version, LIT("2030-")) > 0)
        return &BAD_HEADER;
    if (!header_has(q, "Accept", "application/json") && !header_has(q, "Accept", "multipart/mixed"))
        return &NOT_ATOM;
    if (!starts(header(q, "DataServiceVersion"), LIT("3.0")) &&
        !starts(header(q, "MaxDataServiceVersion"), LIT("3.0")))
        return &NOT_JSON;
    return NULL;
}

/* ---- Answers ---- */

static void write_request_id(struct out *o)
{
    outf(o, "00000000-0000-4000-8000-%012" PRIx64, stats.requests);
}

static void write_head(struct out *o, int status)
{
    outf(o, "HTTP/1.1 %d %s\r\n", status, reason_of(status));
    write_date(o);
    out_add(o, LIT("Server: fake_table\r\nx-ms-version: 2019-02-02\r\nx-ms-request-id: "));
    write_request_id(o);
    out_add(o, LIT("\r\n"));
}

static void write_body(struct out *o, const char *type, const struct out *body)
{
    outf(o, "Content-Type: %s\r\nContent-Length: %zu\r\n\r\n", type, body->n);
    out_add(o, (struct text){body->p, body->n});
    o->full = o->full || body->full;
}

#define JSON_TYPE "application/json;odata=minimalmetadata;streaming=true;charset=utf-8"

/* index: the operation of a batch, or -1. */
static void fault_json(struct out *o, const struct fault *fault, int index)
{
    outf(o, "{\"odata.error\":{\"code\":\"%s\",\"message\":{\"lang\":\"en-US\",\"value\":\"", fault->code);
    if (index >= 0)
        outf(o, "%d:", index);
    outf(o, "%s\\nRequestId:", fault->message);
    write_request_id(o);
    outf(o, "\\nTime:%s\"}}}", stamp_of(next_ticks(), ":").text);
}

static void answer_fault(struct out *o, const struct fault *fault)
{
    struct out body = {.limit = ANSWER_BYTES};
    stats.refused++;
    fault_json(&body, fault, -1);
    write_head(o, fault->status);
    write_body(o, JSON_TYPE, &body);
    free(body.p);
}

/* select: "" for all, else the wanted names with commas around each. */
static bool selected(const char *select, struct text name)
{
    char word[PROPERTY_NAME_BYTES + 3];
    snprintf(word, sizeof word, ",%.*s,", (int)name.n, name.p);
    return !select[0] || strstr(select, word);
}

static void member(struct out *o, bool *first, struct text name)
{
    out_add(o, *first ? LIT("{") : LIT(","));
    *first = false;
    out_json(o, name);
    out_add(o, LIT(":"));
}

static void row_json(struct out *o, const struct row *row, const char *select, bool metadata)
{
    bool first = true;
    if (metadata) {
        struct stamp etag = etag_of(row->ticks);
        member(o, &first, LIT("odata.etag"));
        out_json(o, (struct text){etag.text, strlen(etag.text)});
    }
    struct stamp time = stamp_of(row->ticks, ":");
    const struct property system[] = {{LIT("PartitionKey"), row->key.partition, STRING, TEXT},
                                      {LIT("RowKey"), row->key.row, STRING, TEXT},
                                      {LIT("Timestamp"), {time.text, strlen(time.text)}, STRING, TEXT}};
    for (size_t i = 0; i < 3; i++) {
        if (selected(select, system[i].name)) {
            member(o, &first, system[i].name);
            out_json(o, system[i].value);
        }
    }
    struct text packed = row->packed;
    struct property p;
    while (take_property(&packed, &p)) {
        if (!selected(select, p.name))
            continue;
        if (metadata && EDM[p.type].annotated) {
            char name[PROPERTY_NAME_BYTES + 16];
            int n = snprintf(name, sizeof name, "%.*s@odata.type", (int)p.name.n, p.name.p);
            member(o, &first, (struct text){name, (size_t)n});
            out_json(o, EDM[p.type].name);
        }
        member(o, &first, p.name);
        if (EDM[p.type].quoted)
            out_json(o, p.value);
        else
            out_add(o, p.value);
    }
    out_add(o, first ? LIT("{}") : LIT("}"));
}

/* ---- Operations: planned first, made when all of a batch are possible ---- */

enum verb { INSERT, MERGE, REPLACE, DELETE };

struct operation {
    enum verb verb;
    struct address address;
    struct key key;
    struct text if_match; /* p is NULL when it is not there */
    bool echo;            /* the answer to an insert is the entity */
    bool metadata;
    struct table *table;
    struct row *old;
    struct row *made;
};

static const struct fault *operation_read(const struct request *q, struct operation *op)
{
    struct text method = q->method;
    if (same(method, LIT("POST")) && header(q, "X-HTTP-Method").p)
        method = header(q, "X-HTTP-Method");
    op->old = NULL;
    op->made = NULL;
    op->if_match = header(q, "If-Match");
    op->echo = !header_has(q, "Prefer", "return-no-content");
    op->metadata = !header_has(q, "Accept", "nometadata");
    if (same(method, LIT("POST")))
        op->verb = INSERT;
    else if (same(method, LIT("MERGE")) || same(method, LIT("PATCH")))
        op->verb = MERGE;
    else if (same(method, LIT("PUT")))
        op->verb = REPLACE;
    else if (same(method, LIT("DELETE")))
        op->verb = DELETE;
    else
        return &NO_METHOD;
    const struct fault *fault = address_read(q->path, &op->address);
    if (fault)
        return fault;
    if (op->address.keyed == (op->verb == INSERT))
        return &NO_METHOD;
    if (op->verb != DELETE && !header_has(q, "Content-Type", "application/json"))
        return &MISSING_VALUE;
    return NULL;
}

/* The condition under which a row may be changed. */
static const struct fault *check_match(const struct operation *op)
{
    if (op->verb == INSERT)
        return op->if_match.p ? &BAD_INPUT : op->old ? &ENTITY_EXISTS : NULL;
    if (!op->if_match.p)
        return op->verb == DELETE ? &MISSING_HEADER : NULL;
    if (!op->old)
        return &NO_ENTITY;
    struct stamp etag = etag_of(op->old->ticks);
    bool matches =
        same(op->if_match, LIT("*")) || same(op->if_match, (struct text){etag.text, strlen(etag.text)});
    if (!matches && !starts(op->if_match, LIT("W/\"datetime'")))
        return &BAD_INPUT;
    return matches ? NULL : &ENTITY_CHANGED;
}

/* Finds out whether the operation is possible and makes its row; changes nothing. */
static const struct fault *operation_plan(struct operation *op, struct text body)
{
    static struct entity entity;
    static struct out room = {.limit = 2 * BODY_BYTES};
    const struct fault *fault = NULL;
    op->table = table_named(op->address.name);
    op->key = op->address.key;
    if (!op->table)
        return &NO_TABLE;
    if (op->verb != DELETE) {
        room.n = 0;
        room.full = false;
        fault = entity_read(body, &room, &entity);
        if (fault)
            return fault;
        if (op->verb == INSERT)
            op->key = entity.key;
        else if (key_compare(op->key, entity.key) != 0)
            return &BAD_INPUT;
    }
    op->old = row_find(op->table, op->key);
    fault = check_match(op);
    if (fault || op->verb == DELETE)
        return fault;
    if (op->verb == MERGE && op->old)
        fault = entity_merge(&entity, op->old);
    if (fault)
        return fault;
    if (entity.count > PROPERTY_COUNT)
        return &TOO_MANY_PROPERTIES;
    if (stored_bytes(&entity) > ENTITY_BYTES)
        return &ENTITY_TOO_LARGE;
    op->made = row_make(&entity);
    if (!op->made)
        return &STORE_FULL;
    op->key = op->made->key;
    return NULL;
}

static void operation_do(const struct operation *op)
{
    row_change(op->table, op->old, op->made);
    stats.operations++;
}

/* The answer of one operation behind the status line. */
static void write_result(struct out *o, const struct operation *op, bool in_batch)
{
    bool echo = op->verb == INSERT && op->echo;
    struct out body = {.limit = ANSWER_BYTES};
    if (in_batch)
        outf(o, "HTTP/1.1 %d %s\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n",
             echo ? 201 : 204, reason_of(echo ? 201 : 204));
    else
        write_head(o, echo ? 201 : 204);
    if (op->verb == INSERT && !echo)
        out_add(o, LIT("Preference-Applied: return-no-content\r\n"));
    out_add(o, LIT("DataServiceVersion: 3.0;\r\n"));
    if (op->made)
        outf(o, "ETag: %s\r\n", etag_of(op->made->ticks).text);
    if (echo) {
        row_json(&body, op->made, "", op->metadata);
        write_body(o, JSON_TYPE, &body);
    } else {
        out_add(o, in_batch ? LIT("\r\n") : LIT("Content-Length: 0\r\n\r\n"));
    }
    free(body.p);
}

static void answer_operation(struct out *o, const struct request *q)
{
    static struct operation op;
    const struct fault *fault = operation_read(q, &op);
    if (!fault)
        fault = operation_plan(&op, q->body);
    if (fault) {
        answer_fault(o, fault);
        return;
    }
    operation_do(&op);
    write_result(o, &op, false);
}

/* ---- Batches: multipart/mixed with one change set of application/http parts ---- */

/* Cuts off header lines and the empty line behind them. */
static bool take_head(struct text *rest, struct text *head)
{
    *head = (struct text){rest->p, 0};
    if (take(rest, LIT("\r\n")))
        return true;
    size_t n = find(*rest, LIT("\r\n\r\n"));
    if (n == rest->n)
        return false;
    head->n = n + 2;
    *rest = skip(*rest, n + 4);
    return true;
}

static bool boundary_of(struct text type, char *delimiter, size_t room, struct text *text)
{
    size_t at = find(type, LIT("boundary="));
    if (!starts(type, LIT("multipart/mixed")) || at == type.n)
        return false;
    struct text value = skip(type, at + strlen("boundary="));
    value = cut(&value, LIT(";"));
    if (value.n >= 2 && value.p[0] == '"' && value.p[value.n - 1] == '"')
        value = (struct text){value.p + 1, value.n - 2};
    int n = snprintf(delimiter, room, "\r\n--%.*s", (int)value.n, value.p);
    *text = (struct text){delimiter, (size_t)n};
    return value.n > 0 && value.n <= 70 && (size_t)n < room; /* RFC 2046 5.1.1 */
}

/* Cuts the next part off a multipart body. 1: *part is it; 0: that was the last; -1: broken. */
static int take_part(struct text *rest, struct text delimiter, struct text *part)
{
    struct text line = skip(delimiter, 2);
    while (take(rest, LIT("\r\n"))) /* empty lines before a delimiter are harmless */
        ;
    if (!take(rest, line))
        return -1;
    if (take(rest, LIT("--")))
        return 0;
    if (!take(rest, LIT("\r\n")))
        return -1;
    size_t n = find(*rest, delimiter);
    if (n == rest->n)
        return -1;
    *part = (struct text){rest->p, n};
    *rest = skip(*rest, n + 2);
    return 1;
}

/* The request inside a part of a change set. */
static bool part_request(struct text part, struct request *q)
{
    struct request mime = {0};
    *q = (struct request){0};
    if (!take_head(&part, &mime.head) || !header_has(&mime, "Content-Type", "application/http") ||
        !header_has(&mime, "Content-Transfer-Encoding", "binary"))
        return false;
    struct text line = cut(&part, LIT("\r\n"));
    if (find(line, LIT(" http")) == line.n || !request_line(line, q) || !take_head(&part, &q->head))
        return false;
    q->body = part;
    return true;
}

static bool same_table(const struct operation *a, const struct operation *b)
{
    return a->table == b->table;
}

/* Plans the operation at this index and holds it against those before it. */
static const struct fault *plan_member(const struct request *q, struct operation *ops, size_t index)
{
    struct operation *op = &ops[index];
    const struct fault *fault = operation_read(q, op);
    if (!fault)
        fault = operation_plan(op, q->body);
    if (fault)
        return fault;
    if (!same_table(op, &ops[0]))
        return &BAD_INPUT;
    if (!same(op->key.partition, ops[0].key.partition))
        return &DIFFERENT_PARTITIONS;
    for (size_t i = 0; i < index; i++) {
        if (same(op->key.row, ops[i].key.row))
            return &DUPLICATE_ROW;
    }
    return NULL;
}

static void write_part_start(struct out *body)
{
    out_add(body, LIT("--changesetresponse_fake\r\nContent-Type: application/http\r\n"
                      "Content-Transfer-Encoding: binary\r\n\r\n"));
}

/* All or nothing: the rows of a batch differ, so each one's success depends on nothing but the state before
 * it, and the plans hold until the last of them is made. */
static void answer_batch(struct out *o, const struct request *q)
{
    static struct operation ops[BATCH_OPERATIONS];
    char outer_room[128], inner_room[128];
    struct text outer, inner, change_set, part, rest = q->body;
    struct request set = {0};
    if (!boundary_of(header(q, "Content-Type"), outer_room, sizeof outer_room, &outer) ||
        take_part(&rest, outer, &change_set) != 1 || take_part(&rest, outer, &part) != 0 ||
        !take_head(&change_set, &set.head) ||
        !boundary_of(header(&set, "Content-Type"), inner_room, sizeof inner_room, &inner)) {
        answer_fault(o, &BAD_INPUT);
        return;
    }

    size_t count = 0;
    size_t failed = 0;
    const struct fault *fault = NULL;
    int more;
    while ((more = take_part(&change_set, inner, &part)) == 1) {
        struct request member_request;
        if (count == BATCH_OPERATIONS) {
            fault = &TOO_MANY_OPERATIONS;
            failed = 0;
            break;
        }
        failed = count;
        ops[count].made = NULL;
        fault = part_request(part, &member_request) ? plan_member(&member_request, ops, count) : &BAD_INPUT;
        count++;
        if (fault)
            break;
    }
    if (!fault && (more != 0 || count == 0)) {
        for (size_t i = 0; i < count; i++)
            row_free(ops[i].made);
        answer_fault(o, &BAD_INPUT);
        return;
    }

    struct out body = {.limit = ANSWER_BYTES};
    out_add(&body, LIT("--batchresponse_fake\r\n"
                       "Content-Type: multipart/mixed; boundary=changesetresponse_fake\r\n\r\n"));
    stats.batches++;
    stats.refused += fault != NULL;
    if (fault) {
        write_part_start(&body);
        outf(&body, "HTTP/1.1 %d %s\r\nX-Content-Type-Options: nosniff\r\nCache-Control: no-cache\r\n",
             fault->status, reason_of(fault->status));
        out_add(&body, LIT("DataServiceVersion: 3.0;\r\nContent-Type: " JSON_TYPE "\r\n\r\n"));
        fault_json(&body, fault, (int)failed);
        out_add(&body, LIT("\r\n"));
    }
    for (size_t i = 0; i < count; i++) {
        if (fault) {
            row_free(ops[i].made);
            continue;
        }
        operation_do(&ops[i]);
        write_part_start(&body);
        write_result(&body, &ops[i], true);
        out_add(&body, LIT("\r\n"));
    }
    out_add(&body, LIT("--changesetresponse_fake--\r\n--batchresponse_fake--\r\n"));
    write_head(o, 202);
    write_body(o, "multipart/mixed; boundary=batchresponse_fake", &body);
    free(body.p);
}

/* ---- Queries ---- */

enum relation { EQ, NE, GT, GE, LT, LE };

/* A comparison, or two nodes joined. */
struct node {
    enum { COMPARE, AND, OR } kind;
    struct node *left, *right;
    struct text column;
    enum relation relation;
    enum edm type;
    struct text value;
};

struct filter {
    struct node nodes[FILTER_NODES];
    size_t used;
    size_t comparisons;
    int depth;
    struct text rest;
    struct node *root; /* NULL: every row */
};

static struct node *new_node(struct filter *f, struct node node)
{
    if (f->used == FILTER_NODES)
        return NULL;
    f->nodes[f->used] = node;
    return &f->nodes[f->used++];
}

static void skip_spaces(struct filter *f)
{
    while (take(&f->rest, LIT(" ")))
        ;
}

static struct text take_word(struct filter *f)
{
    size_t n = 0;
    skip_spaces(f);
    while (n < f->rest.n && f->rest.p[n] != ' ' && f->rest.p[n] != '(' && f->rest.p[n] != ')' &&
           f->rest.p[n] != '\'')
        n++;
    struct text word = {f->rest.p, n};
    f->rest = skip(f->rest, n);
    return word;
}

static bool take_keyword(struct filter *f, struct text word)
{
    struct filter ahead = {.rest = f->rest};
    if (!same(take_word(&ahead), word))
        return false;
    f->rest = ahead.rest;
    return true;
}

static struct node *parse_comparison(struct filter *f)
{
    static const struct text relations[] = {[EQ] = LIT("eq"), [NE] = LIT("ne"), [GT] = LIT("gt"),
                                            [GE] = LIT("ge"), [LT] = LIT("lt"), [LE] = LIT("le")};
    struct node node = {.kind = COMPARE, .column = take_word(f)};
    struct text relation = take_word(f);
    while (node.relation <= LE && !same(relations[node.relation], relation))
        node.relation++;
    struct text word = take_word(f);
    bool quoted = f->rest.n && f->rest.p[0] == '\'';
    if (node.relation > LE || !is_identifier(node.column) || ++f->comparisons > FILTER_COMPARISONS ||
        (quoted && !take_quoted(&f->rest, &node.value)))
        return NULL;
    if (quoted) {
        node.type = same(word, LIT("datetime")) ? DATETIME : same(word, LIT("guid")) ? GUID : STRING;
        bool good = node.type != STRING || word.n == 0;
        return good && (node.type != DATETIME || is_time(node.value)) ? new_node(f, node) : NULL;
    }
    node.value = word;
    node.type = same(word, LIT("true")) || same(word, LIT("false")) ? BOOLEAN
                : is_integer(word, INT32_MAX)                       ? INT32
                                                                    : UNTYPED;
    return node.type != UNTYPED ? new_node(f, node) : NULL;
}

static struct node *parse_or(struct filter *f);

static struct node *parse_term(struct filter *f)
{
    skip_spaces(f);
    if (!take(&f->rest, LIT("(")))
        return parse_comparison(f);
    if (++f->depth > FILTER_NODES)
        return NULL;
    struct node *inner = parse_or(f);
    skip_spaces(f);
    return take(&f->rest, LIT(")")) ? inner : NULL;
}

static struct node *parse_and(struct filter *f)
{
    struct node *left = parse_term(f);
    while (left && take_keyword(f, LIT("and"))) {
        struct node *right = parse_term(f);
        left = right ? new_node(f, (struct node){.kind = AND, .left = left, .right = right}) : NULL;
    }
    return left;
}

static struct node *parse_or(struct filter *f)
{
    struct node *left = parse_and(f);
    while (left && take_keyword(f, LIT("or"))) {
        struct node *right = parse_and(f);
        left = right ? new_node(f, (struct node){.kind = OR, .left = left, .right = right}) : NULL;
    }
    return left;
}

/* Times may have different numbers of digits behind the second. */
static int time_compare(struct text a, struct text b)
{
    int order = memcmp(a.p, b.p, 19);
    for (size_t i = 20; order == 0 && i < 27; i++) {
        char digit_a = i < a.n - 1 ? a.p[i] : '0';
        char digit_b = i < b.n - 1 ? b.p[i] : '0';
        order = digit_a - digit_b;
    }
    return order;
}

/* A row without the column, or with another type in it, matches nothing. */
static bool compare_matches(const struct node *node, const struct row *row)
{
    struct property p = {.type = STRING};
    struct stamp time;
    if (same(node->column, LIT("PartitionKey"))) {
        p.value = row->key.partition;
    } else if (same(node->column, LIT("RowKey"))) {
        p.value = row->key.row;
    } else if (same(node->column, LIT("Timestamp"))) {
        time = stamp_of(row->ticks, ":");
        p = (struct property){.type = DATETIME, .value = {time.text, strlen(time.text)}};
    } else {
        struct text packed = row->packed;
        bool found = false;
        while (!found && take_property(&packed, &p))
            found = same(p.name, node->column);
        if (!found)
            return false;
    }
    if (p.type != node->type)
        return false;
    int order;
    if (p.type == DATETIME) {
        order = time_compare(p.value, node->value);
    } else if (p.type == INT32) {
        int64_t a = int32_of(p.value);
        int64_t b = int32_of(node->value);
        order = (a > b) - (a < b);
    } else {
        order = compare(p.value, node->value);
    }
    switch (node->relation) {
    case EQ:
        return order == 0;
    case NE:
        return order != 0;
    case GT:
        return order > 0;
    case GE:
        return order >= 0;
    case LT:
        return order < 0;
    case LE:
        return order <= 0;
    }
    return false;
}

static bool node_matches(const struct node *node, const struct row *row)
{
    switch (node->kind) {
    case AND:
        return node_matches(node->left, row) && node_matches(node->right, row);
    case OR:
        return node_matches(node->left, row) || node_matches(node->right, row);
    case COMPARE:
        return compare_matches(node, row);
    }
    return false;
}

/* Which keys the comparisons that all rows must meet leave to look at. */
struct range {
    bool one_partition;
    struct key from;
    struct text to; /* the last RowKey in one partition; p is NULL when open */
};

static void narrow(struct range *range, const struct node *node)
{
    if (node->kind == AND) {
        narrow(range, node->left);
        narrow(range, node->right);
    }
    if (node->kind != COMPARE || node->type != STRING)
        return;
    if (node->relation == EQ && same(node->column, LIT("PartitionKey"))) {
        range->one_partition = true;
        range->from.partition = node->value;
    }
    if (!same(node->column, LIT("RowKey")))
        return;
    if (node->relation == EQ || node->relation == GE || node->relation == GT)
        range->from.row = node->value;
    if (node->relation == EQ || node->relation == LE || node->relation == LT)
        range->to = node->value;
}

/* Continuation tokens are opaque: "1!" and the key in hexadecimal. */
static void write_token(struct out *o, const char *name, struct text key)
{
    outf(o, "x-ms-continuation-%s: 1!", name);
    for (size_t i = 0; i < key.n; i++)
        outf(o, "%02x", (unsigned char)key.p[i]);
    out_add(o, LIT("\r\n"));
}

/* 1: *key is its key; 0: not there; -1: broken. */
static int read_token(const struct request *q, const char *name, char *room, struct text *key)
{
    char raw[2 * KEY_BYTES + 2];
    struct text value;
    if (!parameter(q, name, raw, sizeof raw, &value))
        return 0;
    if (!take(&value, LIT("1!")) || value.n % 2)
        return -1;
    for (size_t i = 0; i < value.n; i += 2) {
        if (hex(value.p[i]) < 0 || hex(value.p[i + 1]) < 0)
            return -1;
        room[i / 2] = (char)(hex(value.p[i]) * 16 + hex(value.p[i + 1]));
    }
    *key = (struct text){room, value.n / 2};
    return 1;
}

static bool read_select(const struct request *q, char *select, size_t room)
{
    struct text value;
    char raw[4096];
    select[0] = '\0';
    if (!parameter(q, "$select", raw, sizeof raw, &value) || value.n == 0)
        return true;
    return (size_t)snprintf(select, room, ",%.*s,", (int)value.n, value.p) < room;
}

static void answer_query(struct out *o, const struct request *q, const struct address *address)
{
    static char filter_room[16 * 1024];
    char select[4096 + 8], top_room[16], partition_room[KEY_BYTES], row_room[KEY_BYTES];
    struct table *table = table_named(address->name);
    struct filter filter = {.root = NULL};
    struct range range = {0};
    struct text top;
    size_t limit = PAGE_ROWS;
    bool good = read_select(q, select, sizeof select);
    if (parameter(q, "$top", top_room, sizeof top_room, &top))
        good = good && number_of(top, PAGE_ROWS, &limit) && limit > 0;
    if (parameter(q, "$filter", filter_room, sizeof filter_room, &filter.rest)) {
        filter.root = parse_or(&filter);
        skip_spaces(&filter);
        good = good && filter.root && filter.rest.n == 0;
    }
    if (good && filter.root)
        narrow(&range, filter.root);
    int next_partition = read_token(q, "NextPartitionKey", partition_room, &range.from.partition);
    int next_row = next_partition == 1 ? read_token(q, "NextRowKey", row_room, &range.from.row) : 0;
    if (next_partition == 1 ? next_row == 0 : !range.one_partition)
        range.from.row = LIT(""); /* a bound on RowKey is one inside every partition */
    if (!good || next_partition < 0 || next_row < 0 || !table) {
        answer_fault(o, good && !table ? &NO_TABLE : &BAD_INPUT);
        return;
    }

    bool metadata = !header_has(q, "Accept", "nometadata");
    struct out body = {.limit = ANSWER_BYTES};
    out_add(&body, LIT("{"));
    if (metadata)
        outf(&body, "\"odata.metadata\":\"http://127.0.0.1/%s/$metadata#%s\",", account, table->name);
    out_add(&body, LIT("\"value\":["));
    size_t seen = 0;
    size_t found = 0;
    struct text partition = range.from.partition;
    struct row *row = row_seek(table, range.from, NULL);
    while (row && seen < scan_rows && found < limit && body.n < PAGE_BYTES) {
        if (range.one_partition &&
            (!same(row->key.partition, partition) || (range.to.p && compare(row->key.row, range.to) > 0))) {
            row = NULL;
            break;
        }
        if (!filter.root || node_matches(filter.root, row)) {
            if (found++)
                out_add(&body, LIT(","));
            row_json(&body, row, select, metadata);
        }
        seen++;
        row = row->next[0];
    }
    out_add(&body, LIT("]}"));
    write_head(o, 200);
    if (row) {
        write_token(o, "NextPartitionKey", row->key.partition);
        write_token(o, "NextRowKey", row->key.row);
    }
    write_body(o, metadata ? JSON_TYPE : "application/json;odata=nometadata;charset=utf-8", &body);
    free(body.p);
}

static void answer_get(struct out *o, const struct request *q)
{
    struct address address;
    char select[4096 + 8];
    const struct fault *fault = address_read(q->path, &address);
    if (!fault && !address.keyed) {
        answer_query(o, q, &address);
        return;
    }
    struct table *table = fault ? NULL : table_named(address.name);
    struct row *row = table ? row_find(table, address.key) : NULL;
    if (!fault)
        fault = !table                                   ? &NO_TABLE
                : !row                                   ? &NO_ENTITY
                : !read_select(q, select, sizeof select) ? &BAD_INPUT
                                                         : NULL;
    if (fault) {
        answer_fault(o, fault);
        return;
    }
    struct out body = {.limit = ANSWER_BYTES};
    row_json(&body, row, select, !header_has(q, "Accept", "nometadata"));
    write_head(o, 200);
    outf(o, "ETag: %s\r\n", etag_of(row->ticks).text);
    write_body(o, JSON_TYPE, &body);
    free(body.p);
}

/* ---- Tables and the tests' own questions ---- */

static const struct fault *create_table(struct text json, struct text *name)
{
    static struct entity object;
    static struct out room = {.limit = 2 * BODY_BYTES};
    room.n = 0;
    const struct fault *fault = object_read(json, &room, &object);
    if (fault)
        return fault;
    if (!take_text(&object, "TableName", name))
        return &MISSING_VALUE;
    if (name->n < 3 || name->n > TABLE_NAME_BYTES || !is_identifier(*name) || memchr(name->p, '_', name->n) ||
        utf16_units(*name) != name->n || (name->n == 6 && strncasecmp(name->p, "tables", 6) == 0))
        return &BAD_RESOURCE;
    if (table_named(*name))
        return &TABLE_EXISTS;
    if (table_count == TABLES)
        return &STORE_FULL;
    struct table *table = &tables[table_count++];
    memcpy(table->name, name->p, name->n);
    table->name[name->n] = '\0';
    return NULL;
}

static void answer_tables(struct out *o, const struct request *q)
{
    struct text name;
    const struct fault *fault = !same(q->method, LIT("POST")) ? &NO_METHOD
                                : !header_has(q, "Content-Type", "application/json")
                                    ? &MISSING_VALUE
                                    : create_table(q->body, &name);
    if (fault) {
        answer_fault(o, fault);
    } else if (header_has(q, "Prefer", "return-no-content")) {
        write_head(o, 204);
        out_add(o, LIT("Preference-Applied: return-no-content\r\nContent-Length: 0\r\n\r\n"));
    } else {
        struct out body = {.limit = ANSWER_BYTES};
        out_add(&body, LIT("{\"TableName\":"));
        out_json(&body, name);
        out_add(&body, LIT("}"));
        write_head(o, 201);
        write_body(o, JSON_TYPE, &body);
        free(body.p);
    }
}

static void answer_control(struct out *o, const struct request *q)
{
    struct out body = {.limit = ANSWER_BYTES};
    if (same(q->path, LIT("/_count"))) {
        char name_room[TABLE_NAME_BYTES], prefix_room[KEY_BYTES];
        struct text name = {"", 0};
        struct text prefix = {"", 0};
        (void)parameter(q, "table", name_room, sizeof name_room, &name);
        (void)parameter(q, "prefix", prefix_room, sizeof prefix_room, &prefix);
        struct table *table = table_named(name);
        size_t count = 0;
        for (struct row *row = table ? table->first[0] : NULL; row; row = row->next[0])
            count += starts(row->key.row, prefix);
        outf(&body, "{\"count\":%zu}\n", count);
    } else {
        outf(&body,
             "{\"requests\":%" PRIu64 ",\"batches\":%" PRIu64 ",\"operations\":%" PRIu64
             ",\"refused\":%" PRIu64 "}\n",
             stats.requests, stats.batches, stats.operations, stats.refused);
    }
    write_head(o, 200);
    write_body(o, "application/json", &body);
    free(body.p);
}

static void answer(struct out *o, const struct request *q)
{
    if (starts(q->path, LIT("/_"))) {
        answer_control(o, q);
        return;
    }
    stats.requests++;
    const struct fault *fault = check_signature(q);
    if (!fault)
        fault = check_headers(q);
    if (fault) {
        answer_fault(o, fault);
        return;
    }
    struct text name = q->path;
    if (take(&name, LIT("/")))
        (void)cut(&name, LIT("/"));
    if (same(name, LIT("Tables")))
        answer_tables(o, q);
    else if (same(name, LIT("$batch")) || same(name, LIT("%24batch")))
        answer_batch(o, q);
    else if (same(q->method, LIT("GET")))
        answer_get(o, q);
    else
        answer_operation(o, q);
}

/* ---- Connections: one thread, answers held back in a queue ---- */

struct connection {
    int fd;       /* 0: this place is free */
    bool closing; /* after this answer */
    bool queued;
    int64_t due_ns;
    struct out in;
    struct out out;
    size_t sent;
    struct connection *before, *behind; /* in the queue: the latency is the same for all, so it is in order */
};
static int poller;
static struct connection connections[CONNECTIONS];
static struct {
    struct connection *first, *last;
} queue;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void queue_remove(struct connection *c)
{
    if (!c->queued)
        return;
    *(c->before ? &c->before->behind : &queue.first) = c->behind;
    *(c->behind ? &c->behind->before : &queue.last) = c->before;
    c->before = c->behind = NULL;
    c->queued = false;
}

static void queue_add(struct connection *c)
{
    c->due_ns = now_ns() + latency_ns;
    c->queued = true;
    c->before = queue.last;
    *(queue.last ? &queue.last->behind : &queue.first) = c;
    queue.last = c;
}

static void connection_close(struct connection *c)
{
    queue_remove(c);
    close(c->fd);
    free(c->in.p);
    free(c->out.p);
    *c = (struct connection){0};
}

static void wait_for(struct connection *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};
    if (epoll_ctl(poller, EPOLL_CTL_MOD, c->fd, &event) != 0)
        die("epoll_ctl");
}

/* Cuts the next whole request off what was read. 1: answered into c->out; 0: more has to come. */
static int answer_next(struct connection *c)
{
    struct text rest = {c->in.p, c->in.n};
    struct request q = {0};
    size_t head = find(rest, LIT("\r\n\r\n"));
    if (head == rest.n)
        return 0;
    rest.n = head + 2;
    struct text line = cut(&rest, LIT("\r\n"));
    q.head = rest;
    const struct fault *fault = !request_line(line, &q) ? &BAD_INPUT : NULL;
    struct text length = header(&q, "Content-Length");
    size_t body = 0;
    if (!fault && header(&q, "Transfer-Encoding").p)
        fault = &NO_LENGTH;
    if (!fault && length.p && !number_of(length, BODY_BYTES, &body))
        fault = &BODY_TOO_LARGE;
    c->closing = fault || same(header(&q, "Connection"), LIT("close"));
    if (fault) {
        answer_fault(&c->out, fault);
        return 1;
    }
    size_t whole = head + 4 + body;
    if (c->in.n < whole)
        return 0;
    q.body = (struct text){c->in.p + head + 4, body};
    answer(&c->out, &q);
    if (c->out.full) {
        c->out.n = 0;
        c->out.full = false;
        answer_fault(&c->out, &STORE_FULL);
    }
    memmove(c->in.p, c->in.p + whole, c->in.n - whole);
    c->in.n -= whole;
    return 1;
}

/* Sends what is due, answers what has come; false: the connection is over. */
static bool connection_go_on(struct connection *c)
{
    for (;;) {
        while (c->sent < c->out.n) {
            ssize_t n = send(c->fd, c->out.p + c->sent, c->out.n - c->sent, MSG_NOSIGNAL);
            if (n < 0 && errno == EAGAIN) {
                wait_for(c, EPOLLOUT);
                return true;
            }
            if (n <= 0)
                return false;
            c->sent += (size_t)n;
        }
        if (c->out.n && c->closing)
            return false;
        c->out.n = c->sent = 0;
        if (!answer_next(c))
            return true;
        if (latency_ns) {
            queue_add(c);
            wait_for(c, 0);
            return true;
        }
    }
}

static bool connection_read(struct connection *c)
{
    enum { CHUNK = 64 * 1024 };
    char *to = out_reserve(&c->in, CHUNK);
    if (!to)
        return false;
    ssize_t n = recv(c->fd, to, CHUNK, 0);
    if (n <= 0)
        return n < 0 && errno == EAGAIN;
    c->in.n += (size_t)n;
    return connection_go_on(c);
}

static void connection_ready(struct connection *c, uint32_t events)
{
    bool alive = !(events & (EPOLLHUP | EPOLLERR));
    if (alive && events & EPOLLIN) {
        alive = connection_read(c);
    } else if (alive && events & EPOLLOUT) {
        wait_for(c, EPOLLIN);
        alive = connection_go_on(c);
    }
    if (!alive)
        connection_close(c);
}

static void accept_all(int listener)
{
    int fd;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct connection *c = connections;
        int on = 1;
        while (c < connections + CONNECTIONS && c->fd)
            c++;
        if (c == connections + CONNECTIONS) {
            close(fd);
            continue;
        }
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        c->fd = fd;
        c->in.limit = HEAD_BYTES + BODY_BYTES + HEAD_BYTES;
        c->out.limit = ANSWER_BYTES + HEAD_BYTES;
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) != 0)
            die("epoll_ctl");
    }
}

static void send_due(void)
{
    int64_t now = now_ns();
    while (queue.first && queue.first->due_ns <= now) {
        struct connection *c = queue.first;
        queue_remove(c);
        wait_for(c, EPOLLIN);
        if (!connection_go_on(c))
            connection_close(c);
    }
}

static _Noreturn void serve(int listener)
{
    static char listener_tag, stop_tag;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = &listener_tag};
    struct epoll_event events[64];
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigprocmask(SIG_BLOCK, &stop, NULL);
    int stop_fd = signalfd(-1, &stop, SFD_CLOEXEC);
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (stop_fd < 0 || poller < 0 || epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) != 0)
        die("epoll");
    event.data.ptr = &stop_tag;
    if (epoll_ctl(poller, EPOLL_CTL_ADD, stop_fd, &event) != 0)
        die("epoll");
    for (;;) {
        int64_t wait = queue.first ? queue.first->due_ns - now_ns() : 0;
        struct timespec timeout = {.tv_nsec = wait > 0 ? (long)(wait % 1000000000) : 0,
                                   .tv_sec = wait > 0 ? wait / 1000000000 : 0};
        int n = epoll_pwait2(poller, events, 64, queue.first ? &timeout : NULL, NULL);
        if (n < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < n; i++) {
            if (events[i].data.ptr == &stop_tag)
                exit(0);
            if (events[i].data.ptr == &listener_tag)
                accept_all(listener);
            else
                connection_ready(events[i].data.ptr, events[i].events);
        }
        send_due();
    }
}

static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof address;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0)
        die("listening socket");
    printf("listening %u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static _Noreturn void usage(void)
{
    fputs("usage: fake_table [--port N] [--latency-ms N] [--scan-rows N] [--account NAME --key BASE64]\n",
          stderr);
    exit(64);
}

static size_t option_number(const char *text, size_t max)
{
    size_t number;
    if (!number_of((struct text){text, strlen(text)}, max, &number))
        usage();
    return number;
}

int main(int argc, char **argv)
{
    static const struct option options[] = {
        {"port", required_argument, NULL, 'p'},      {"latency-ms", required_argument, NULL, 'l'},
        {"scan-rows", required_argument, NULL, 's'}, {"account", required_argument, NULL, 'a'},
        {"key", required_argument, NULL, 'k'},       {NULL, 0, NULL, 0}};
    uint16_t port = 0;
    for (int o; (o = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (o == 'p')
            port = (uint16_t)option_number(optarg, UINT16_MAX);
        else if (o == 'l')
            latency_ns = (int64_t)option_number(optarg, 60000) * 1000000;
        else if (o == 's')
            scan_rows = option_number(optarg, SIZE_MAX / 16);
        else if (o == 'a')
            account = optarg;
        else if (o == 'k')
            account_key = optarg;
        else
            usage();
    }
    struct text key = {account_key, strlen(account_key)};
    if (optind != argc || key.n == 0 || key.n > sizeof secret || !is_base64(key))
        usage();
    int n = EVP_DecodeBlock(secret, (const unsigned char *)key.p, (int)key.n);
    size_t padding = (size_t)(key.p[key.n - 1] == '=') + (size_t)(key.n > 1 && key.p[key.n - 2] == '=');
    secret_bytes = (size_t)n - padding;
    serve(listen_on(port));
}
