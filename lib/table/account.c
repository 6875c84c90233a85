#include "lib/table/account.h"

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/encode.h"
#include "lib/base/limits.h"

/* L3 */
#include "lib/net/loopback.h"

/* The emulator's account; its key is published with it and protects nothing. */
#define EMULATOR_NAME "devstoreaccount1"
#define EMULATOR_KEY                                                                                         \
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
#define EMULATOR_URL "http://127.0.0.1:10002/devstoreaccount1"

enum { SAS_TIME_BYTES = 40 }; /* "2026-12-31T00:00:00.0000000Z" is the longest */

#define DEFAULT_PROTOCOL "https"
#define DEFAULT_SUFFIX   "core.windows.net"

enum element {
    ACCOUNT_NAME,
    ACCOUNT_KEY,
    SHARED_ACCESS_SIGNATURE,
    TABLE_ENDPOINT,
    DEFAULT_ENDPOINTS_PROTOCOL,
    ENDPOINT_SUFFIX,
    USE_DEVELOPMENT_STORAGE,
    DEVELOPMENT_STORAGE_PROXY_URI,
    ELEMENT_COUNT
};

static const char *const NAMES[ELEMENT_COUNT] = {
    [ACCOUNT_NAME] = "AccountName",
    [ACCOUNT_KEY] = "AccountKey",
    [SHARED_ACCESS_SIGNATURE] = "SharedAccessSignature",
    [TABLE_ENDPOINT] = "TableEndpoint",
    [DEFAULT_ENDPOINTS_PROTOCOL] = "DefaultEndpointsProtocol",
    [ENDPOINT_SUFFIX] = "EndpointSuffix",
    [USE_DEVELOPMENT_STORAGE] = "UseDevelopmentStorage",
    [DEVELOPMENT_STORAGE_PROXY_URI] = "DevelopmentStorageProxyUri",
};

static enum status wrong(struct fail *why, enum element element, const char *what)
{
    return fail_set(why, ST_INVALID, 0, "connection string: %s %s", NAMES[element], what);
}

/* Blank elements are as good as absent ones. */
static enum status split(struct span text, struct span values[ELEMENT_COUNT], struct fail *why)
{
    struct span element;
    for (size_t number = 1; span_next(&text, ';', &element); number++) {
        element = span_trim(element);
        size_t equals = span_find(element, '='); /* the first: keys end in '=' */
        if (element.len == 0)
            continue;
        if (equals == SPAN_NONE)
            return fail_set(why, ST_INVALID, 0, "connection string: element %zu has no '='", number);
        struct span name = span_trim(span_cut(element, 0, equals));
        for (size_t i = 0; i < ELEMENT_COUNT; i++) {
            if (!span_eq_nocase(name, span_of(NAMES[i])))
                continue;
            if (values[i].len)
                return wrong(why, (enum element)i, "is there twice");
            values[i] = span_trim(span_from(element, equals + 1));
        }
    }
    return ST_OK;
}

/* --- endpoint ------------------------------------------------------------------------------------------- */

struct address {
    struct span scheme;
    struct span host; /* without the brackets of an IPv6 address */
    struct span port; /* blank when absent */
    struct span path; /* begins with '/', or blank */
    bool is_ip6;
};

static bool split_address(struct span url, struct address *a)
{
    size_t colon = span_find(url, ':');
    if (colon == SPAN_NONE || !span_starts(span_from(url, colon), SPAN_LIT("://")))
        return false;
    a->scheme = span_cut(url, 0, colon);
    struct span rest = span_from(url, colon + 3);
    size_t slash = span_find(rest, '/');
    struct span authority = span_cut(rest, 0, slash);
    a->path = span_from(rest, slash); /* blank without a slash */
    a->is_ip6 = authority.len && authority.ptr[0] == '[';
    size_t host_end = span_find(authority, a->is_ip6 ? ']' : ':');
    a->host = span_from(span_cut(authority, 0, host_end), a->is_ip6);
    rest = span_from(span_from(authority, host_end), a->is_ip6);
    if (rest.len && rest.ptr[0] != ':')
        return false;
    a->port = span_from(rest, 1);
    return rest.len != 1 && !(a->is_ip6 && host_end == SPAN_NONE);
}

static bool is_address_good(const struct address *a)
{
    uint64_t port;
    bool port_good = a->port.len == 0 || (span_to_u64(a->port, 65535, &port) && port > 0);
    return a->host.len > 0 && a->host.len < 256 && span_has_only(a->host, a->is_ip6 ? ":." : "-._") &&
           a->host.ptr[0] != '.' && port_good && span_has_only(a->path, "/-._~%");
}

/* source is the element to be named in a message. */
static enum status take_endpoint(struct table_account *account, struct span url, enum element source,
                                 struct fail *why)
{
    struct address a = {0};
    while (url.len && url.ptr[url.len - 1] == '/')
        url.len--;
    if (!split_address(url, &a) || !is_address_good(&a))
        return wrong(why, source, "does not give a URL like https://account.table.core.windows.net");
    account->is_plain = span_eq_nocase(a.scheme, SPAN_LIT("http"));
    if (!account->is_plain && !span_eq_nocase(a.scheme, SPAN_LIT("https")))
        return wrong(why, source, "is neither https nor http");
    if (account->is_plain && !host_is_loopback(a.host, a.is_ip6))
        return wrong(why, source, "asks for http, which is possible only on this machine itself; use https");
    account->is_cosmos = span_has_nocase(a.host, SPAN_LIT(".table.cosmos.")) ||
                         span_has_nocase(a.host, SPAN_LIT(".table.cosmosdb."));
    buf_add_text(&account->endpoint, account->is_plain ? "http" : "https");
    buf_add(&account->endpoint, span_from(url, a.scheme.len));
    return buf_status(&account->endpoint, "the table endpoint", why);
}

static enum status make_endpoint(struct table_account *account, const struct span values[ELEMENT_COUNT],
                                 struct fail *why)
{
    if (values[TABLE_ENDPOINT].len)
        return take_endpoint(account, values[TABLE_ENDPOINT], TABLE_ENDPOINT, why);
    if (!account->name.len)
        return fail_set(why, ST_INVALID, 0, "connection string: AccountName or TableEndpoint is missing");
    struct span protocol = values[DEFAULT_ENDPOINTS_PROTOCOL], suffix = values[ENDPOINT_SUFFIX];
    if (suffix.len && !span_has_only(suffix, "-.:"))
        return wrong(why, ENDPOINT_SUFFIX, "is not a host name such as core.windows.net");
    struct buf url = BUF_INIT(LIMIT_ENDPOINT_BYTES);
    buf_add(&url, protocol.len ? protocol : SPAN_LIT(DEFAULT_PROTOCOL));
    buf_add_text(&url, "://");
    buf_add(&url, buf_span(&account->name));
    buf_add_text(&url, ".table.");
    buf_add(&url, suffix.len ? suffix : SPAN_LIT(DEFAULT_SUFFIX));
    enum status status = buf_status(&url, "the table endpoint", why);
    if (status == ST_OK)
        status = take_endpoint(account, buf_span(&url),
                               protocol.len ? DEFAULT_ENDPOINTS_PROTOCOL : ENDPOINT_SUFFIX, why);
    buf_release(&url);
    return status;
}

/* --- credentials ---------------------------------------------------------------------------------------- */

static enum status take_name(struct table_account *account, struct span name, struct fail *why)
{
    bool lower = true;
    for (size_t i = 0; i < name.len; i++)
        lower = lower && !(name.ptr[i] >= 'A' && name.ptr[i] <= 'Z');
    if (name.len && (name.len < LIMIT_ACCOUNT_NAME_MIN_BYTES || name.len > LIMIT_ACCOUNT_NAME_BYTES ||
                     !lower || !span_has_only(name, "-")))
        return wrong(why, ACCOUNT_NAME, "is not 3 or more lower-case letters and digits");
    buf_add(&account->name, name);
    return buf_status(&account->name, "the account name", why);
}

static enum status take_key(struct table_account *account, struct span key, struct fail *why)
{
    if (!account->name.len)
        return fail_set(why, ST_INVALID, 0, "connection string: AccountName is missing");
    enum status status = base64_decode(&account->key, key, why);
    if (status == ST_INVALID || (status == ST_OK && account->key.len == 0))
        return wrong(why, ACCOUNT_KEY, "is not base64: copy it again, with the '=' at its end");
    return status;
}

/* Percent-encoded parameters, one of which is the signature. */
static enum status take_sas(struct table_account *account, struct span sas, struct fail *why)
{
    if (sas.len && sas.ptr[0] == '?')
        sas = span_from(sas, 1);
    bool has_signature = span_starts(sas, SPAN_LIT("sig=")) || span_has_nocase(sas, SPAN_LIT("&sig="));
    if (!has_signature || !span_has_only(sas, "-._~%=&:/,+@!$'()*"))
        return wrong(why, SHARED_ACCESS_SIGNATURE,
                     "is not a SAS token: copy it again, from \"sv=\" (or '?') to the end of \"sig=...\"");
    buf_add(&account->sas, sas);
    return buf_status(&account->sas, NAMES[SHARED_ACCESS_SIGNATURE], why);
}

static enum status take_emulator(struct table_account *account, const struct span values[ELEMENT_COUNT],
                                 struct fail *why)
{
    static const enum element others[] = {ACCOUNT_NAME, ACCOUNT_KEY, SHARED_ACCESS_SIGNATURE, TABLE_ENDPOINT};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) {
        if (values[others[i]].len)
            return wrong(why, others[i], "cannot stand beside UseDevelopmentStorage=true");
    }
    if (values[DEVELOPMENT_STORAGE_PROXY_URI].len)
        return wrong(why, DEVELOPMENT_STORAGE_PROXY_URI,
                     "is not supported: name the emulator with TableEndpoint, AccountName and AccountKey");
    enum status status = take_name(account, SPAN_LIT(EMULATOR_NAME), why);
    if (status == ST_OK)
        status = take_key(account, SPAN_LIT(EMULATOR_KEY), why);
    if (status == ST_OK)
        status = take_endpoint(account, SPAN_LIT(EMULATOR_URL), TABLE_ENDPOINT, why);
    return status;
}

static enum status take(struct table_account *account, const struct span values[ELEMENT_COUNT],
                        struct fail *why)
{
    struct span emulator = values[USE_DEVELOPMENT_STORAGE];
    if (span_eq_nocase(emulator, SPAN_LIT("true")))
        return take_emulator(account, values, why);
    if (emulator.len && !span_eq_nocase(emulator, SPAN_LIT("false")))
        return wrong(why, USE_DEVELOPMENT_STORAGE, "is neither true nor false");

    enum status status = take_name(account, values[ACCOUNT_NAME], why);
    if (status != ST_OK)
        return status;
    if (values[ACCOUNT_KEY].len)
        status = take_key(account, values[ACCOUNT_KEY], why);
    else if (values[SHARED_ACCESS_SIGNATURE].len)
        status = take_sas(account, values[SHARED_ACCESS_SIGNATURE], why);
    else
        status = fail_set(why, ST_INVALID, 0,
                          "connection string: neither AccountKey nor SharedAccessSignature is there");
    if (status != ST_OK)
        return status;
    return make_endpoint(account, values, why);
}

enum status table_account_parse(struct span connection, struct table_account *account, struct fail *why)
{
    struct span values[ELEMENT_COUNT] = {{0}};
    struct table_account a = {.name = BUF_INIT(LIMIT_ACCOUNT_NAME_BYTES),
                              .key = BUF_INIT(LIMIT_CREDENTIAL_BYTES),
                              .sas = BUF_INIT(LIMIT_CREDENTIAL_BYTES),
                              .endpoint = BUF_INIT(LIMIT_ENDPOINT_BYTES)};
    enum status status = split(connection, values, why);
    if (status == ST_OK)
        status = take(&a, values, why);
    if (status != ST_OK)
        table_account_release(&a);
    else
        *account = a;
    return status;
}

bool table_account_is_same(const struct table_account *a, const struct table_account *b)
{
    return span_eq_nocase(buf_span(&a->endpoint), buf_span(&b->endpoint));
}

/* The forms that the service takes: a day, or a time of it in UTC with or without its seconds. */
static bool read_sas_time(struct span text, int64_t *ms)
{
    static const char *const rests[] = {"", ":00Z", "T00:00:00Z"};
    for (size_t i = 0; i < sizeof rests / sizeof rests[0]; i++) {
        char memory[SAS_TIME_BYTES + sizeof "T00:00:00Z"];
        struct buf whole = BUF_FIXED(memory);
        bool minutes = i == 1 && text.len && text.ptr[text.len - 1] == 'Z';
        buf_add(&whole, minutes ? span_cut(text, 0, text.len - 1) : text);
        buf_add_text(&whole, rests[i]);
        if (whole.error == ST_OK && clock_parse_iso_time(buf_span(&whole), ms))
            return true;
    }
    return false;
}

int64_t table_account_sas_end_ms(const struct table_account *account)
{
    struct span rest = buf_span(&account->sas), parameter;
    while (span_next(&rest, '&', &parameter)) {
        char memory[SAS_TIME_BYTES];
        struct buf time = BUF_FIXED(memory);
        int64_t end_ms;
        if (!span_starts(parameter, SPAN_LIT("se=")))
            continue;
        percent_decode(&time, span_from(parameter, 3), PLUS_STAYS);
        return time.error == ST_OK && read_sas_time(buf_span(&time), &end_ms) ? end_ms : 0;
    }
    return 0;
}

void table_account_release(struct table_account *account)
{
    buf_release(&account->name);
    buf_release_secret(&account->key);
    buf_release_secret(&account->sas);
    buf_release(&account->endpoint);
}
