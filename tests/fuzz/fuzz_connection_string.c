/* The connection string: libcurl reads the endpoint as we do, plain http stays on
 * this machine, and what was read can be written and read again.
 */
#include "tests/fuzz/fuzz.h"

#include <curl/curl.h>

#include "lib/base/encode.h"
#include "lib/table/account.h"

CHECKS_BEGIN

enum { STRING_BYTES = 16 * 1024 };

static bool is_loopback(const char *host)
{
    struct span s = span_of(host);
    return span_eq_nocase(s, SPAN_LIT("localhost")) || span_ends_nocase(s, SPAN_LIT(".localhost")) ||
           span_eq(s, SPAN_LIT("[::1]")) ||
           (span_starts(s, SPAN_LIT("127.")) && strspn(host, "0123456789.") == s.len);
}

/* Whoever sends requests must mean the same host that was checked. */
static void check_endpoint(const struct table_account *a)
{
    struct span endpoint = buf_span(&a->endpoint);
    CHECK(span_starts(endpoint, a->is_plain ? SPAN_LIT("http://") : SPAN_LIT("https://")));
    CHECK(endpoint.ptr[endpoint.len - 1] != '/' && !fuzz_has_control(endpoint) &&
          !fuzz_has(endpoint, SPAN_LIT(" ")));
    CURLU *url = curl_url();
    char *host = NULL, *scheme = NULL, *part = NULL;
    CHECK(url && curl_url_set(url, CURLUPART_URL, a->endpoint.data, 0) == CURLUE_OK);
    CHECK(curl_url_get(url, CURLUPART_HOST, &host, 0) == CURLUE_OK);
    CHECK(curl_url_get(url, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK);
    CHECK(strcmp(scheme, a->is_plain ? "http" : "https") == 0);
    CHECK(!a->is_plain || is_loopback(host));
    CHECK(!a->is_plain || host[0] == '[' || fuzz_has(endpoint, span_of(host)));
    CHECK(curl_url_get(url, CURLUPART_USER, &part, 0) == CURLUE_NO_USER);
    CHECK(curl_url_get(url, CURLUPART_QUERY, &part, 0) == CURLUE_NO_QUERY);
    CHECK(curl_url_get(url, CURLUPART_FRAGMENT, &part, 0) == CURLUE_NO_FRAGMENT);
    curl_free(host);
    curl_free(scheme);
    curl_url_cleanup(url);
}

static bool is_same(const struct buf *a, const struct buf *b)
{
    return span_eq(buf_span(a), buf_span(b));
}

static void check_again(const struct table_account *a)
{
    static struct buf text = BUF_INIT(STRING_BYTES);
    struct table_account again;
    struct fail why;
    buf_reset(&text);
    buf_addf(&text, "tableendpoint=%s;AccountName = %s; ", a->endpoint.data,
             a->name.data ? a->name.data : "");
    buf_addf(&text, a->key.len ? "AccountKey=" : "SharedAccessSignature=?");
    if (a->key.len)
        base64_add(&text, buf_span(&a->key));
    buf_add(&text, buf_span(&a->sas));
    CHECK(text.error == ST_OK);
    CHECK(table_account_parse(buf_span(&text), &again, &why) == ST_OK);
    CHECK(is_same(&a->endpoint, &again.endpoint) && is_same(&a->name, &again.name) &&
          is_same(&a->key, &again.key));
    CHECK(is_same(&a->sas, &again.sas) && a->is_plain == again.is_plain && a->is_cosmos == again.is_cosmos);
    CHECK(table_account_is_same(a, &again));
    table_account_release(&again);
}

/* Values are not quoted. */
static void check_silence(const struct fail *why, struct span text)
{
    struct span part;
    while (span_next(&text, ';', &part)) {
        size_t equals = span_find(part, '=');
        if (equals == SPAN_NONE)
            continue;
        struct span value = span_trim(span_from(part, equals + 1));
        if (value.len >= 40) /* longer than any words of ours that an input may happen to hold */
            CHECK(!fuzz_has(span_of(why->text), value));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span text = {(const char *)data, size};
    struct table_account account;
    struct fail why;
    enum status status = table_account_parse(text, &account, &why);
    CHECK(status == ST_OK || status == ST_INVALID || status == ST_TOO_LARGE);
    if (status != ST_OK) {
        fuzz_check_fail(&why, status);
        check_silence(&why, text);
        return 0;
    }
    CHECK((account.key.len > 0) != (account.sas.len > 0));
    CHECK(account.name.len > 0 || account.sas.len > 0);
    for (size_t i = 0; i < account.sas.len; i++)
        CHECK(account.sas.data[i] > ' ' && account.sas.data[i] <= '~');
    check_endpoint(&account);
    check_again(&account);
    table_account_release(&account);
    return 0;
}

CHECKS_END
