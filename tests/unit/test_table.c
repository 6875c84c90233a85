/* The pure parts of lib/table: connection strings, signatures, entities,
 * transactions as text, and the meaning of errors.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/clock.h"
#include "lib/base/encode.h"
#include "lib/base/text.h"
#include "lib/table/account.h"
#include "lib/table/batch.h"
#include "lib/table/error.h"
#include "lib/table/sign.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* Published with the emulator; protects nothing. */
#define DEV_KEY "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="

static size_t failures;

/* Counts, so that one run shows every row of a table that is wrong. */
static void same_text(const char *name, struct span got, const char *want)
{
    if (span_eq(got, span_of(want)))
        return;
    print_error("%s:\n  got  \"%.*s\"\n  want \"%s\"\n", name, SPAN_FMT(got), want);
    failures++;
}

static void same_number(const char *name, long long got, long long want)
{
    if (got == want)
        return;
    print_error("%s: got %lld, want %lld\n", name, got, want);
    failures++;
}

static void same_status(const char *name, enum status got, enum status want, const struct fail *why)
{
    if (got == want)
        return;
    print_error("%s: got %s, want %s (%s)\n", name, status_name(got), status_name(want),
                got == ST_OK ? "" : why->text);
    failures++;
}

static void settle(void)
{
    size_t count = failures;
    failures = 0;
    assert_int_equal(count, 0);
}

/* --- connection strings --------------------------------------------------------------------------------- */

static void test_accounts(void **state)
{
    static const struct {
        const char *text, *name, *key, *sas, *endpoint;
        bool is_plain, is_cosmos;
    } cases[] = {
        {"DefaultEndpointsProtocol=https;AccountName=contoso;AccountKey=Zm9vYmFyCg==;"
         "EndpointSuffix=core.windows.net",
         "contoso", "foobar\n", "", "https://contoso.table.core.windows.net", false, false},
        /* everything optional left out; order, case and blanks do not matter */
        {"AccountKey=Zm9vYmFyCg==;AccountName=contoso", "contoso", "foobar\n", "",
         "https://contoso.table.core.windows.net", false, false},
        {" accountname = contoso ;; ACCOUNTKEY=Zm9vYmFyCg== ; ", "contoso", "foobar\n", "",
         "https://contoso.table.core.windows.net", false, false},
        {"AccountName=contoso;AccountKey=Zm9vYmFyCg==;\n", "contoso", "foobar\n", "",
         "https://contoso.table.core.windows.net", false, false},
        /* a key is base64 with or without its padding */
        {"AccountName=contoso;AccountKey=YmFy", "contoso", "bar", "",
         "https://contoso.table.core.windows.net", false, false},
        {"AccountName=contoso;AccountKey=Zm9vYmFyCg", "contoso", "foobar\n", "",
         "https://contoso.table.core.windows.net", false, false},
        /* other clouds */
        {"AccountName=contoso;AccountKey=YmFy;EndpointSuffix=core.usgovcloudapi.net", "contoso", "bar", "",
         "https://contoso.table.core.usgovcloudapi.net", false, false},
        {"AccountName=contoso;AccountKey=YmFy;EndpointSuffix=core.chinacloudapi.cn", "contoso", "bar", "",
         "https://contoso.table.core.chinacloudapi.cn", false, false},
        {"AccountName=contoso;AccountKey=YmFy;EndpointSuffix=core.cloudapi.de;DefaultEndpointsProtocol=HTTPS",
         "contoso", "bar", "", "https://contoso.table.core.cloudapi.de", false, false},
        {"AccountName=contoso;AccountKey=YmFy;EndpointSuffix=west.stack.example", "contoso", "bar", "",
         "https://contoso.table.west.stack.example", false, false},
        /* an endpoint of its own wins; other services' are passed over */
        {"AccountName=contoso;AccountKey=YmFy;EndpointSuffix=core.windows.net;"
         "TableEndpoint=https://contoso.z27.table.storage.azure.net/;BlobEndpoint=https://x.y/;Unheard=of",
         "contoso", "bar", "", "https://contoso.z27.table.storage.azure.net", false, false},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://proxy.example:8443/az/tables//",
         "contoso", "bar", "", "https://proxy.example:8443/az/tables", false, false},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=HTTPS://contoso.table.core.windows.net",
         "contoso", "bar", "", "https://contoso.table.core.windows.net", false, false},
        {"BlobEndpoint=https://contoso.blob.core.windows.net/;"
         "QueueEndpoint=https://contoso.queue.core.windows.net/;"
         "FileEndpoint=https://contoso.file.core.windows.net/;"
         "TableEndpoint=https://contoso.table.core.windows.net/;"
         "SharedAccessSignature=sv=2022-11-02&ss=t&srt=o&sp=raud&se=2030-01-01T00:00:00Z&sig=a%2Fb%3D",
         "", "", "sv=2022-11-02&ss=t&srt=o&sp=raud&se=2030-01-01T00:00:00Z&sig=a%2Fb%3D",
         "https://contoso.table.core.windows.net", false, false},
        {"SharedAccessSignature=?sig=a%3D&sv=1;TableEndpoint=https://contoso.table.core.windows.net", "", "",
         "sig=a%3D&sv=1", "https://contoso.table.core.windows.net", false, false},
        {"AccountName=contoso;SharedAccessSignature=sv=1&sig=a%3D", "contoso", "", "sv=1&sig=a%3D",
         "https://contoso.table.core.windows.net", false, false},
        {"AccountName=contoso;SharedAccessSignature=sv=1&sig=a%3D;EndpointSuffix=core.chinacloudapi.cn",
         "contoso", "", "sv=1&sig=a%3D", "https://contoso.table.core.chinacloudapi.cn", false, false},
        /* both: the key */
        {"AccountName=contoso;SharedAccessSignature=sv=1&sig=a;AccountKey=YmFy", "contoso", "bar", "",
         "https://contoso.table.core.windows.net", false, false},
        /* this machine */
        {"UseDevelopmentStorage=true", "devstoreaccount1", NULL, "",
         "http://127.0.0.1:10002/devstoreaccount1", true, false},
        {"usedevelopmentstorage=TRUE;", "devstoreaccount1", NULL, "",
         "http://127.0.0.1:10002/devstoreaccount1", true, false},
        {"UseDevelopmentStorage=false;AccountName=contoso;AccountKey=YmFy", "contoso", "bar", "",
         "https://contoso.table.core.windows.net", false, false},
        {"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=" DEV_KEY
         ";TableEndpoint=http://127.0.0.1:10002/devstoreaccount1;",
         "devstoreaccount1", NULL, "", "http://127.0.0.1:10002/devstoreaccount1", true, false},
        {"AccountName=acct;AccountKey=YmFy;TableEndpoint=http://localhost:1/acct", "acct", "bar", "",
         "http://localhost:1/acct", true, false},
        {"AccountName=acct;AccountKey=YmFy;TableEndpoint=http://acct.table.localhost:10002", "acct", "bar",
         "", "http://acct.table.localhost:10002", true, false},
        {"AccountName=acct;AccountKey=YmFy;TableEndpoint=http://127.8.9.1/acct", "acct", "bar", "",
         "http://127.8.9.1/acct", true, false},
        {"AccountName=acct;AccountKey=YmFy;TableEndpoint=http://[::1]:10002/acct", "acct", "bar", "",
         "http://[::1]:10002/acct", true, false},
        {"AccountName=acct;AccountKey=YmFy;TableEndpoint=https://[2001:db8::1]/acct", "acct", "bar", "",
         "https://[2001:db8::1]/acct", false, false},
        {"AccountName=acct;AccountKey=YmFy;DefaultEndpointsProtocol=http;EndpointSuffix=localhost:10002",
         "acct", "bar", "", "http://acct.table.localhost:10002", true, false},
        /* Cosmos DB */
        {"DefaultEndpointsProtocol=https;AccountName=contoso-leads;AccountKey=YmFy;"
         "TableEndpoint=https://contoso-leads.table.cosmos.azure.com:443/;",
         "contoso-leads", "bar", "", "https://contoso-leads.table.cosmos.azure.com:443", false, true},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://contoso.table.cosmosdb.azure.com:443/",
         "contoso", "bar", "", "https://contoso.table.cosmosdb.azure.com:443", false, true},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct table_account account = {0};
        struct fail why = {0};
        enum status status = table_account_parse(span_of(cases[i].text), &account, &why);
        same_status(cases[i].text, status, ST_OK, &why);
        if (status != ST_OK)
            continue;
        same_text(cases[i].text, buf_span(&account.name), cases[i].name);
        if (cases[i].key)
            same_text(cases[i].text, buf_span(&account.key), cases[i].key);
        else
            same_number(cases[i].text, (long long)account.key.len, 64);
        same_text(cases[i].text, buf_span(&account.sas), cases[i].sas);
        same_text(cases[i].text, buf_span(&account.endpoint), cases[i].endpoint);
        same_number(cases[i].text, account.is_plain, cases[i].is_plain);
        same_number(cases[i].text, account.is_cosmos, cases[i].is_cosmos);
        table_account_release(&account);
    }
    settle();
}

static void test_sas_end(void **state)
{
    static const struct {
        const char *sas;
        int64_t end_ms; /* 0: it has none that is understood */
    } cases[] = {
        {"sv=1&se=2026-12-31T00%3A00%3A00Z&sig=x", 1798675200000},
        {"se=2026-12-31T00:00:00Z&sig=x", 1798675200000},
        {"?se=2026-12-31T00%3a00Z&sig=x", 1798675200000},
        {"sig=x&se=2026-12-31", 1798675200000},
        {"sv=1&se=2026-12-31T10:30:59.1234567Z&sig=x", 1798713059123},
        {"sv=1&sse=2026-12-31&se=2026-12-30&sig=x", 1798588800000},
        {"sv=1&si=policy&sig=x", 0},
        {"sv=1&se=&sig=x", 0},
        {"sv=1&se=Z&sig=x", 0},
        {"sv=1&se=tomorrow&sig=x", 0},
        {"sv=1&se=2026-12-31T00:00:00Z2026-12-31T00:00:00Z2026-12-31T00:00:00Z&sig=x", 0},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct table_account account = {0};
        struct fail why = {0};
        char text[256];
        (void)snprintf(text, sizeof text, "AccountName=contoso;SharedAccessSignature=%s", cases[i].sas);
        same_status(text, table_account_parse(span_of(text), &account, &why), ST_OK, &why);
        same_number(text, table_account_sas_end_ms(&account), cases[i].end_ms);
        table_account_release(&account);
    }
    settle();
}

static void test_wrong_accounts(void **state)
{
    static const struct {
        const char *text, *named; /* what the message must name */
    } cases[] = {
        {"", "AccountKey"},
        {";;;", "AccountKey"},
        {"AccountName=contoso", "neither AccountKey nor SharedAccessSignature"},
        {"AccountName=contoso;AccountKey=", "neither AccountKey nor SharedAccessSignature"},
        {"AccountKey=c2VjcmV0", "AccountName is missing"},
        {"AccountKey=c2VjcmV0;TableEndpoint=https://contoso.table.core.windows.net",
         "AccountName is missing"},
        {"SharedAccessSignature=sv=1&sig=secret", "AccountName or TableEndpoint is missing"},
        {"AccountName=contoso;AccountKey=secret key", "AccountKey is not base64"},
        {"AccountName=contoso;AccountKey=secre", "AccountKey is not base64"},
        {"AccountName=contoso;AccountKey=====", "AccountKey is not base64"},
        {"AccountName=contoso;c2VjcmV0secret", "element 2 has no '='"},
        {"AccountName=Contoso;AccountKey=YmFy", "AccountName"},
        {"AccountName=co;AccountKey=YmFy", "AccountName"},
        {"AccountName=con.toso;AccountKey=YmFy", "AccountName"},
        {"AccountName=con/toso;AccountKey=YmFy", "AccountName"},
        {"AccountName=a;AccountName=b;AccountKey=YmFy", "AccountName is there twice"},
        {"AccountName=contoso;AccountKey=secret;accountkey=secret", "AccountKey is there twice"},
        {"AccountName=contoso;AccountKey=YmFy;EndpointSuffix=evil.example/", "EndpointSuffix"},
        {"AccountName=contoso;AccountKey=YmFy;EndpointSuffix=evil.example:0", "EndpointSuffix"},
        {"AccountName=contoso;AccountKey=YmFy;EndpointSuffix=u@evil", "EndpointSuffix"},
        {"AccountName=contoso;AccountKey=YmFy;DefaultEndpointsProtocol=ftp", "DefaultEndpointsProtocol"},
        {"AccountName=contoso;AccountKey=YmFy;DefaultEndpointsProtocol=http", "use https"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=http://contoso.table.core.windows.net",
         "use https"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=http://127.0.0.1.example/", "use https"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=http://127.example/", "use https"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=http://notlocalhost/", "use https"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=http://localhost.example/", "use https"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=http://[::2]/", "use https"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=http://10.0.0.1/", "use https"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=file:///etc/passwd", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=gopher://localhost/", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=contoso.table.core.windows.net", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://:443/", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://host:/", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://host:65536/", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://host:44x/", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://[::1/", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://[::1]x/", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://secret@host/", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://host/?sig=secret", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://host/#x", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://host/a b", "TableEndpoint"},
        {"AccountName=contoso;AccountKey=YmFy;TableEndpoint=https://host/a\r\nX: y", "TableEndpoint"},
        {"AccountName=contoso;SharedAccessSignature=secret", "SharedAccessSignature"},
        {"AccountName=contoso;SharedAccessSignature=?", "SharedAccessSignature"},
        {"AccountName=contoso;SharedAccessSignature=sv=1&sig=se cret", "SharedAccessSignature"},
        {"AccountName=contoso;SharedAccessSignature=sv=1&sig=secret#", "SharedAccessSignature"},
        {"UseDevelopmentStorage=yes", "UseDevelopmentStorage"},
        {"UseDevelopmentStorage=true;DevelopmentStorageProxyUri=http://proxy", "DevelopmentStorageProxyUri"},
        {"UseDevelopmentStorage=true;AccountName=contoso", "AccountName cannot stand beside"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct table_account account = {0};
        struct fail why = {0};
        enum status status = table_account_parse(span_of(cases[i].text), &account, &why);
        same_status(cases[i].text, status, ST_INVALID, &why);
        if (!strstr(why.text, cases[i].named) || strstr(why.text, "secret") || strstr(why.text, "c2VjcmV0")) {
            print_error("%s: got \"%s\", want it to name \"%s\" and no secret\n", cases[i].text, why.text,
                        cases[i].named);
            failures++;
        }
        if (status == ST_OK)
            table_account_release(&account);
    }
    settle();
}

static void test_long_account(void **state)
{
    struct buf text = BUF_INIT(100000);
    struct table_account account;
    struct fail why;
    (void)state;
    buf_add_text(&text, "AccountName=contoso;AccountKey=");
    for (size_t i = 0; i < 8192; i++)
        buf_add_char(&text, 'A');
    assert_int_equal(table_account_parse(buf_span(&text), &account, &why), ST_TOO_LARGE);
    buf_release(&text);
}

/* --- signatures ----------------------------------------------------------------------------------------- */

static void check_signature(const char *label, const char *key, const char *account_name,
                            enum sign_scheme scheme, const struct sign_request *request,
                            const char *want_text, const char *want_signature)
{
    struct table_account account = {.name = BUF_INIT(100), .key = BUF_INIT(100)};
    struct buf text = BUF_INIT(1000), header = BUF_INIT(1000);
    char want[200];
    struct fail why = {0};
    buf_add_text(&account.name, account_name);
    assert_int_equal(base64_decode(&account.key, span_of(key), &why), ST_OK);
    sign_text(&text, scheme, span_of(account_name), request);
    if (want_text)
        same_text(label, buf_span(&text), want_text);
    same_status(label, sign_header(&header, scheme, &account, buf_span(&text), &why), ST_OK, &why);
    (void)snprintf(want, sizeof want, "%s %s:%s", scheme == SIGN_SHARED_KEY ? "SharedKey" : "SharedKeyLite",
                   account_name, want_signature);
    same_text(label, buf_span(&header), want);
    buf_release(&text);
    buf_release(&header);
    table_account_release(&account);
}

static void test_published_signatures(void **state)
{
    static const struct {
        const char *label, *key, *account, *method, *type, *date, *target;
        enum sign_scheme scheme;
        const char *text, *signature;
    } cases[] = {
        {"go-autorest SharedKeyForTable", "YmFy", "golangrocksonazure", "GET", "application/json",
         "Wed, 23 Sep 2015 16:40:05 GMT", "/tquery()", SIGN_SHARED_KEY,
         "GET\n\napplication/json\nWed, 23 Sep 2015 16:40:05 GMT\n/golangrocksonazure/tquery()",
         "73oeIBA2dulLhOBdAlM3U0+DKIWS0UW6InBWCHpOY50="},
        {"go-autorest SharedKeyLiteForTable", "YmFy", "golangrocksonazure", "GET", "application/json",
         "Wed, 23 Sep 2015 16:40:05 GMT", "/tquery()", SIGN_SHARED_KEY_LITE,
         "Wed, 23 Sep 2015 16:40:05 GMT\n/golangrocksonazure/tquery()",
         "NusXSFXAvHqr6EQNXnZZ50CvU1sX0iP/FFDHehnixLc="},
        {"azure-sdk-for-js", "accountKey==", "accountName", "GET", "", "Thu, 03 Sep 2020 18:50:45 GMT",
         "/tablename(PartitionKey=%27p1%27,RowKey=%27r1%27)", SIGN_SHARED_KEY_LITE,
         "Thu, 03 Sep 2020 18:50:45 GMT\n/accountName/tablename(PartitionKey=%27p1%27,RowKey=%27r1%27)",
         "16/0SHs6v8s1QttELYnXerVacaJwSkejQsVh+coIzpo="},
        {"C# 1", "c29tZSBhY2NvdW50IGtleQ==", "AccountName", "GET", "", "Wed, 03 Jul 2024 14:41:12 GMT",
         "/DataverseUsers", SIGN_SHARED_KEY_LITE,
         "Wed, 03 Jul 2024 14:41:12 GMT\n/AccountName/DataverseUsers",
         "88gZ/q3ms6VWsIaZvpgzYIXrt3lg9D7rfcGsThQoul4="},
        {"C# 2", "c29tZSBhY2NvdW50IGtleQ==", "AccountName", "GET", "", "Wed, 03 Jul 2024 14:41:12 GMT",
         "/DataverseUsers(PartitionKey='b76e756f-7f6e-4df0-b470-8f0c0a04d18c',"
         "RowKey='b76e756f-7f6e-4df0-b470-8f0c0a04d18c')",
         SIGN_SHARED_KEY_LITE,
         "Wed, 03 Jul 2024 14:41:12 GMT\n/AccountName/DataverseUsers(PartitionKey='b76e756f-7f6e-4df0-b470-"
         "8f0c0a04d18c',RowKey='b76e756f-7f6e-4df0-b470-8f0c0a04d18c')",
         "uOIQZAiwwjm0b4GsDZBV0kxDGbliMMNIz8pJFoXS5K4="},
        {"Azurite 791", DEV_KEY, "devstoreaccount1", "GET", "", "Sat, 22 May 2021 22:49:50 GMT",
         "/devstoreaccount1/test", SIGN_SHARED_KEY_LITE,
         "Sat, 22 May 2021 22:49:50 GMT\n/devstoreaccount1/devstoreaccount1/test",
         "jiUVQ7VyIq74T0M3pPlqNZ7+cb8wTTamlhqH+jt6rzU="},
        {"azure-sdk-for-rust 297", DEV_KEY, "devstoreaccount1", "POST",
         "multipart/mixed; boundary=batch_93e29533-82b3-4ed8-9439-fc40dd3242c9",
         "Mon, 14 Jun 2021 21:57:52 GMT", "/devstoreaccount1/$batch", SIGN_SHARED_KEY,
         "POST\n\nmultipart/mixed; boundary=batch_93e29533-82b3-4ed8-9439-fc40dd3242c9\n"
         "Mon, 14 Jun 2021 21:57:52 GMT\n/devstoreaccount1/devstoreaccount1/$batch",
         "kCYIWFkLqKCC2w2NeQXoWjDAIfHaQ3wKWGjEQjyuYxc="},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sign_request request = {span_of(cases[i].method), span_of(cases[i].type),
                                       span_of(cases[i].date), span_of(cases[i].target)};
        check_signature(cases[i].label, cases[i].key, cases[i].account, cases[i].scheme, &request,
                        cases[i].text, cases[i].signature);
    }
    settle();
}

/* A plain HMAC, published by giovanni: the header's part behind the text. */
static void test_plain_hmac(void **state)
{
    struct table_account account = {.name = BUF_INIT(10), .key = BUF_INIT(10)};
    struct buf header = BUF_INIT(100);
    struct fail why = {0};
    (void)state;
    buf_add_text(&account.name, "a");
    buf_add_text(&account.key, "bar");
    assert_int_equal(sign_header(&header, SIGN_SHARED_KEY_LITE, &account, SPAN_LIT("foobarzoo"), &why),
                     ST_OK);
    same_text("giovanni", buf_span(&header), "SharedKeyLite a:h5U0ATVX6SpbFX1H6GNuxIMeXXCILLoIvhflPtuQZ30=");
    buf_release(&header);
    table_account_release(&account);
    settle();
}

/* Accepted by Azurite 3.35.0 and 3.37.0. */
static void test_accepted_signatures(void **state)
{
    static const char json[] = "application/json";
    static const struct {
        const char *method, *type, *target, *shared_key, *lite;
    } cases[] = {
        {"POST", json, "/devstoreaccount1/Tables",
         "tGh19lYdEivMf2DOyUXB1wqFW10zPeIdtA7QlLcL/0Q=", "WRN6nOrne13nPse4EBO5ULIQ1KAssaa6ujBtCrgHTls="},
        {"POST", json, "/devstoreaccount1/vectest",
         "ikerpOdZ5dvFDuhJD1M35MdR8EL2yt2mJuV2SHzMfsk=", "q+RC9G1TwKX1j9QcVX3QMJIoOwbjtahjQFCU4aioc70="},
        {"MERGE", json,
         "/devstoreaccount1/vectest(PartitionKey='p',RowKey='it%27%27s%20a%20b%2Bc%25d%C3%A9')",
         "FFrO5E1aQ4+PYsX8WoO1Ie6du4ySaja0XULNbGmphak=", "aTFJMd2NJTG+XJXhNv23Q2IVhD59gAbe6xuxp841LqM="},
        {"GET", "", "/devstoreaccount1/vectest()?$top=1&$filter=PartitionKey%20eq%20'p'",
         "Ln0V/rCC+AKdHUpMNtArM99OINBxg7z7bWZJD/q0DAE=", "9SReA2LTkC8m4qGV7hReoGqiR4DYCJ+RmghBygQqqys="},
        {"POST", "multipart/mixed; boundary=batch_00000000-0000-0000-0000-000000000001",
         "/devstoreaccount1/$batch",
         "ILJOC/hgv/LCgK66aP5HA65imrrOhPFyxWJLm3Y42R4=", "hghtMX8PGsg78/bf3nxxeWTeZvtiyid3/dYLMihtO8s="},
        {"GET", "", "/devstoreaccount1/vectest?comp=acl",
         "B7g3mwjIx1qRdCrtFHlWmvUK+/rly0/+xMXnBhGBu5s=", "14Nxeht35OW78weTWw7e+Nt2f+9xFFhwoBFNeyXPJis="},
        {"DELETE", "", "/devstoreaccount1/Tables('vectest')",
         "z/cFE1mVm2CIs15T/1NMAcI3WrfVD3ZRPyvLlx1nmKI=", "iQlGFEvjMi9Jm/XMysNOtP+EtNOAI3uYkwoY8RrpF68="},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct sign_request request = {span_of(cases[i].method), span_of(cases[i].type),
                                       SPAN_LIT("Thu, 01 Jan 2026 00:00:00 GMT"), span_of(cases[i].target)};
        check_signature(cases[i].target, DEV_KEY, "devstoreaccount1", SIGN_SHARED_KEY, &request, NULL,
                        cases[i].shared_key);
        check_signature(cases[i].target, DEV_KEY, "devstoreaccount1", SIGN_SHARED_KEY_LITE, &request, NULL,
                        cases[i].lite);
    }
    settle();
}

/* --- entities ------------------------------------------------------------------------------------------- */

static struct entity new_entity(struct arena *arena, const char *partition_key, const char *row_key)
{
    struct entity e;
    assert_true(entity_init(&e, span_of(partition_key), span_of(row_key), arena));
    return e;
}

static struct span repeated(struct arena *arena, const char *unit, size_t count)
{
    size_t len = strlen(unit);
    char *text = arena_alloc(arena, len * count + 1);
    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * len, unit, len);
    return (struct span){text, len * count};
}

static void test_entity_text(void **state)
{
    struct arena arena = ARENA_INIT(1 << 20);
    struct buf json = BUF_INIT(10000);
    struct fail why = {0};
    struct entity e = new_entity(&arena, "contoso.saas", "1-2");
    (void)state;
    entity_add_text(&e, "Company", span_of("Nordwind \"AG\"\r\n\xC3\xA9\xF0\x9F\x98\x80"));
    entity_add_text(&e, "Blank", span_of(""));
    entity_add_bool(&e, "IsTest", true);
    entity_add_bool(&e, "DoNotContact", false);
    entity_add_int(&e, "Deliveries", INT32_MIN);
    entity_add_time(&e, "ReceivedTime", 1255290759123);
    assert_true(entity_add_long_binary(&e, "Body", (struct span){"\0\xFF\n", 3}, &arena));
    assert_int_equal(entity_check(&e, &why), ST_OK);
    assert_int_equal(entity_write(&json, &e, &why), ST_OK);
    same_text("written", buf_span(&json),
              "{\"PartitionKey\":\"contoso.saas\",\"RowKey\":\"1-2\","
              "\"Company\":\"Nordwind \\\"AG\\\"\\r\\n\xC3\xA9\xF0\x9F\x98\x80\",\"IsTest\":true,"
              "\"DoNotContact\":false,\"Deliveries\":-2147483648,"
              "\"ReceivedTime@odata.type\":\"Edm.DateTime\",\"ReceivedTime\":\"2009-10-11T19:52:39.123Z\","
              "\"Body@odata.type\":\"Edm.Binary\",\"Body\":\"AP8K\"}");

    const struct json_limits limits = {4, 2 * LIMIT_ENTITY_MEMBERS};
    const struct json *top;
    struct entity r;
    struct buf body = BUF_INIT(100);
    assert_int_equal(json_read(buf_span(&json), &limits, &arena, &top, NULL, &why), ST_OK);
    assert_int_equal(entity_read(top, &arena, &r, &why), ST_OK);
    same_text("partition key", r.partition_key, "contoso.saas");
    same_text("row key", r.row_key, "1-2");
    same_text("text", entity_text(&r, "Company"), "Nordwind \"AG\"\r\n\xC3\xA9\xF0\x9F\x98\x80");
    same_number("bool", entity_number(&r, "IsTest", 7), 1);
    same_number("false", entity_number(&r, "DoNotContact", 7), 0);
    same_number("absent", entity_number(&r, "Blank", 7), 7);
    same_number("int", entity_number(&r, "Deliveries", 7), INT32_MIN);
    same_number("time", entity_number(&r, "ReceivedTime", 7), 1255290759123);
    assert_int_equal(entity_long_value(&r, "Body", &body, &why), ST_OK);
    same_number("binary", (long long)body.len, 3);
    same_number("binary", body.len == 3 && memcmp(body.data, "\0\xFF\n", 3) == 0, 1);
    buf_release(&body);
    buf_release(&json);
    arena_release(&arena);
    settle();
}

/* As the service answers: metadata, types of others, null, a Double, an Int64. */
static void test_entity_of_service(void **state)
{
    static const char text[] =
        "{\"odata.metadata\":\"https://contoso.table.core.windows.net/$metadata#T/@Element\","
        "\"odata.etag\":\"W/\\\"datetime'2021-08-02T18%3A01%3A40.1925388Z'\\\"\",\"PartitionKey\":\"p\","
        "\"RowKey\":\"r\",\"Timestamp@odata.type\":\"Edm.DateTime\","
        "\"Timestamp\":\"2021-08-02T18:01:40.1925388Z\",\"Gone\":null,"
        "\"Big@odata.type\":\"Edm.Int64\",\"Big\":\"9007199254740993\","
        "\"Ratio\":1.5,\"Int\":-7,\"Yes\":true}";
    const struct json_limits limits = {4, 2 * LIMIT_ENTITY_MEMBERS};
    struct arena arena = ARENA_INIT(1 << 20);
    const struct json *top;
    struct entity e;
    struct fail why = {0};
    (void)state;
    assert_int_equal(json_read(SPAN_LIT(text), &limits, &arena, &top, NULL, &why), ST_OK);
    assert_int_equal(entity_read(top, &arena, &e, &why), ST_OK);
    same_text("etag", e.etag, "W/\"datetime'2021-08-02T18%3A01%3A40.1925388Z'\"");
    same_number("timestamp", e.timestamp_ms, 1627927300192);
    same_number("properties", (long long)e.count, 4);
    same_number("null", entity_find(&e, "Gone") != NULL, 0);
    same_number("Int64", entity_find(&e, "Big")->type, EDM_OTHER);
    same_text("Int64", entity_text(&e, "Big"), "9007199254740993");
    same_number("Double", entity_find(&e, "Ratio")->type, EDM_OTHER);
    same_number("Int32", entity_number(&e, "Int", 0), -7);
    same_number("Boolean", entity_number(&e, "Yes", 0), 1);
    arena_release(&arena);

    static const char *const malformed[] = {
        "{\"Timestamp\":\"yesterday\"}",
        "{\"T@odata.type\":\"Edm.DateTime\",\"T\":\"2021-13-02T18:01:40Z\"}",
        "{\"B@odata.type\":\"Edm.Binary\",\"B\":\"no base64!\"}",
    };
    for (size_t i = 0; i < COUNT(malformed); i++) {
        assert_int_equal(json_read(span_of(malformed[i]), &limits, &arena, &top, NULL, &why), ST_OK);
        same_status(malformed[i], entity_read(top, &arena, &e, &why), ST_INVALID, &why);
        arena_release(&arena);
    }

    /* The annotation of each is looked for among all. */
    for (size_t members = LIMIT_ENTITY_MEMBERS - 1; members <= LIMIT_ENTITY_MEMBERS + 1; members++) {
        struct buf many = BUF_INIT(LIMIT_ENTITY_JSON_BYTES);
        for (size_t i = 0; i < members; i++)
            buf_addf(&many, "%c\"P%zu\":1", i == 0 ? '{' : ',', i);
        buf_add_char(&many, '}');
        assert_int_equal(json_read(buf_span(&many), &limits, &arena, &top, NULL, &why), ST_OK);
        same_status("many members", entity_read(top, &arena, &e, &why),
                    members > LIMIT_ENTITY_MEMBERS ? ST_TOO_LARGE : ST_OK, &why);
        arena_release(&arena);
        buf_release(&many);
    }
    settle();
}

/* A value is cut where a property ends, between characters and never within a pair of surrogates. */
static void test_long_values(void **state)
{
    static const struct {
        const char *label, *unit;
        size_t count;
        size_t parts[4]; /* bytes of each */
    } cases[] = {
        {"one unit under", "x", LIMIT_PROPERTY_UTF16 - 1, {LIMIT_PROPERTY_UTF16 - 1}},
        {"exactly", "x", LIMIT_PROPERTY_UTF16, {LIMIT_PROPERTY_UTF16}},
        {"one over", "x", LIMIT_PROPERTY_UTF16 + 1, {LIMIT_PROPERTY_UTF16, 1}},
        {"two bytes a unit", "\xC3\xA9", LIMIT_PROPERTY_UTF16 + 1, {2 * LIMIT_PROPERTY_UTF16, 2}},
        {"pairs", "\xF0\x9F\x98\x80", LIMIT_PROPERTY_UTF16 / 2 + 1, {2 * LIMIT_PROPERTY_UTF16, 4}},
        {"a pair across the end", "x\xF0\x9F\x98\x80", 10923, {54612, 3}},
        {"three", "xy", LIMIT_PROPERTY_UTF16 + 1, {LIMIT_PROPERTY_UTF16, LIMIT_PROPERTY_UTF16, 2}},
    };
    struct arena arena = ARENA_INIT(4 << 20);
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct entity e = new_entity(&arena, "p", "r"), cut = new_entity(&arena, "p", "r");
        struct span value = repeated(&arena, cases[i].unit, cases[i].count);
        struct buf joined = BUF_INIT(1 << 20);
        struct fail why = {0};
        bool is_odd = strcmp(cases[i].label, "a pair across the end") == 0;
        assert_true(entity_add_long_text(&e, "Payload", value, &arena));
        for (size_t k = 0; k < e.count; k++) {
            struct span part = e.properties[k].text;
            same_number(cases[i].label, utf8_is_valid(part, NULL), 1);
            same_number(cases[i].label, utf16_units(part) <= LIMIT_PROPERTY_UTF16, 1);
            if (!is_odd)
                same_number(cases[i].label, (long long)part.len, (long long)cases[i].parts[k]);
        }
        assert_int_equal(entity_long_value(&e, "Payload", &joined, &why), ST_OK);
        same_number(cases[i].label, span_eq(buf_span(&joined), value), 1);
        same_status(cases[i].label, entity_check(&e, &why), ST_OK, &why);
        entity_add_text(&cut, "Payload", value);
        same_number(cases[i].label, span_eq(cut.properties[0].text, e.properties[0].text), 1);
        buf_release(&joined);
        arena_reset(&arena);
    }
    struct entity e = new_entity(&arena, "p", "r");
    assert_true(
        entity_add_long_binary(&e, "Body", repeated(&arena, "\xFF", LIMIT_PROPERTY_BINARY + 1), &arena));
    same_number("binary", (long long)e.count, 2);
    same_text("binary", e.properties[1].name, "Body2");
    same_number("binary", (long long)e.properties[1].text.len, 1);
    arena_release(&arena);
    settle();
}

static void test_entity_limits(void **state)
{
    struct arena arena = ARENA_INIT(16 << 20);
    struct fail why = {0};
    (void)state;
    static const struct {
        const char *label, *key;
        size_t count;
        enum status want;
    } keys[] = {
        {"blank", "", 0, ST_INVALID},          {"longest", "k", 255, ST_OK},
        {"too long", "k", 256, ST_TOO_LARGE},  {"tilde", "~mail-0", 1, ST_OK},
        {"slash", "a/b", 1, ST_INVALID},       {"backslash", "a\\b", 1, ST_INVALID},
        {"hash", "a#b", 1, ST_INVALID},        {"question mark", "a?b", 1, ST_INVALID},
        {"percent", "a%41", 1, ST_INVALID},    {"line feed", "a\nb", 1, ST_INVALID},
        {"DEL", "a\x7F", 1, ST_INVALID},       {"C1", "a\xC2\x85", 1, ST_INVALID},
        {"not UTF-8", "a\xFF", 1, ST_INVALID}, {"quote", "it's", 1, ST_OK},
        {"blank inside", "a b", 1, ST_OK},
    };
    for (size_t i = 0; i < COUNT(keys); i++) {
        struct span key = repeated(&arena, keys[i].key, keys[i].count);
        struct entity e = new_entity(&arena, "p", "r");
        e.row_key = key;
        same_status(keys[i].label, entity_check(&e, &why), keys[i].want, &why);
        e = new_entity(&arena, "p", "r");
        e.partition_key = key;
        same_status(keys[i].label, entity_check(&e, &why), keys[i].want, &why);
    }

    static const struct {
        const char *name;
        enum status want;
    } names[] = {{"A", ST_OK},
                 {"_a9", ST_OK},
                 {"9a", ST_INVALID},
                 {"a-b", ST_INVALID},
                 {"a b", ST_INVALID},
                 {"", ST_INVALID},
                 {"\xC3\xA9", ST_INVALID},
                 {"a@odata.type", ST_INVALID},
                 {"RowKey", ST_INVALID},
                 {"PartitionKey", ST_INVALID},
                 {"Timestamp", ST_INVALID}};
    for (size_t i = 0; i < COUNT(names); i++) {
        struct entity e = new_entity(&arena, "p", "r");
        entity_add_bool(&e, names[i].name, true);
        same_status(names[i].name, entity_check(&e, &why), names[i].want, &why);
    }
    for (size_t len = 255; len <= 256; len++) {
        struct entity e = new_entity(&arena, "p", "r");
        entity_add_bool(&e, repeated(&arena, "n", len).ptr, true);
        same_status("long name", entity_check(&e, &why), len == 255 ? ST_OK : ST_INVALID, &why);
    }

    struct entity twice = new_entity(&arena, "p", "r");
    entity_add_bool(&twice, "A", true);
    entity_add_int(&twice, "A", 1);
    same_status("a name twice", entity_check(&twice, &why), ST_INVALID, &why);

    static const struct {
        const char *label;
        int64_t ms;
        enum status want;
    } times[] = {{"1600", -11644473600001, ST_INVALID},
                 {"1601", -11644473600000, ST_OK},
                 {"9999", 253402300799999, ST_OK},
                 {"10000", 253402300800000, ST_INVALID}};
    for (size_t i = 0; i < COUNT(times); i++) {
        struct entity e = new_entity(&arena, "p", "r");
        entity_add_time(&e, "Time", times[i].ms);
        same_status(times[i].label, entity_check(&e, &why), times[i].want, &why);
    }

    for (size_t count = ENTITY_PROPERTIES - 1; count <= ENTITY_PROPERTIES + 1; count++) {
        struct entity e = new_entity(&arena, "p", "r");
        for (size_t i = 0; i < count; i++) {
            char *name = arena_alloc(&arena, 16);
            (void)snprintf(name, 16, "P%zu", i);
            entity_add_int(&e, name, 1);
        }
        same_status("number of properties", entity_check(&e, &why),
                    count <= ENTITY_PROPERTIES ? ST_OK : ST_TOO_LARGE, &why);
    }

    struct property over = {.name = SPAN_LIT("Text"), .type = EDM_STRING};
    struct entity one = {
        .partition_key = SPAN_LIT("p"), .row_key = SPAN_LIT("r"), .properties = &over, .count = 1, .room = 1};
    over.text = repeated(&arena, "x", LIMIT_PROPERTY_UTF16 + 1);
    same_status("long text", entity_check(&one, &why), ST_TOO_LARGE, &why);
    over.type = EDM_BINARY;
    over.text = repeated(&arena, "x", LIMIT_PROPERTY_BINARY + 1);
    same_status("long binary", entity_check(&one, &why), ST_TOO_LARGE, &why);
    over.text.len--;
    same_status("longest binary", entity_check(&one, &why), ST_OK, &why);

    /* 4 + 2 * (1 + 1), and 8 + 2 * 2 + 4 + size for each of 16: 1,000,000 bytes are reached exactly. */
    for (size_t more = 0; more <= 1; more++) {
        struct entity e = new_entity(&arena, "p", "r");
        size_t left = LIMIT_ENTITY_STORED_BYTES - 8 + more;
        for (size_t i = 0; i < 16; i++) {
            char *name = arena_alloc(&arena, 4);
            size_t size = i == 15 ? left - 16 : 62000;
            (void)snprintf(name, 4, "%c%c", (int)('A' + i), 'x');
            e.properties[e.count++] =
                (struct property){.name = span_of(name),
                                  .type = EDM_BINARY,
                                  .text = repeated(&arena, "x", size > 65536 ? 65536 : size)};
            if (size > 65536)
                e.properties[e.count++] = (struct property){.name = SPAN_LIT("Rest"),
                                                            .type = EDM_BINARY,
                                                            .text = repeated(&arena, "x", size - 65536 - 20)};
            left -= size + 16;
        }
        same_status("stored size", entity_check(&e, &why), more ? ST_TOO_LARGE : ST_OK, &why);
    }
    arena_release(&arena);
    settle();
}

static void test_addresses(void **state)
{
    struct buf url = BUF_INIT(1000);
    (void)state;
    entity_add_address(&url, SPAN_LIT("p"), SPAN_LIT("it's a b+c\xC3\xA9"));
    same_text("address", buf_span(&url), "(PartitionKey='p',RowKey='it%27%27s%20a%20b%2Bc%C3%A9')");
    buf_reset(&url);
    entity_add_address(&url, SPAN_LIT("'"), SPAN_LIT(""));
    same_text("address", buf_span(&url), "(PartitionKey='%27%27',RowKey='')");
    buf_release(&url);
    settle();
}

/* --- transactions --------------------------------------------------------------------------------------- */

#define ID "00000000-0000-4000-8000-000000000001"

static const char WRITTEN[] =
    "--batch_" ID "\r\n"
    "Content-Type: multipart/mixed; boundary=changeset_" ID "\r\n"
    "\r\n"
    "--changeset_" ID "\r\n"
    "Content-Type: application/http\r\n"
    "Content-Transfer-Encoding: binary\r\n"
    "\r\n"
    "POST https://acct.table.core.windows.net/T HTTP/1.1\r\n"
    "Prefer: return-no-content\r\n"
    "Accept: application/json;odata=minimalmetadata\r\n"
    "DataServiceVersion: 3.0;\r\n"
    "Content-Type: application/json\r\n"
    "\r\n"
    "{\"PartitionKey\":\"p\",\"RowKey\":\"1\",\"A\":1}\r\n"
    "--changeset_" ID "\r\n"
    "Content-Type: application/http\r\n"
    "Content-Transfer-Encoding: binary\r\n"
    "\r\n"
    "%s"
    "If-Match: W/\"datetime'2021-08-02T18%%3A01%%3A40.1925388Z'\"\r\n"
    "Accept: application/json;odata=minimalmetadata\r\n"
    "DataServiceVersion: 3.0;\r\n"
    "Content-Type: application/json\r\n"
    "\r\n"
    "{\"PartitionKey\":\"p\",\"RowKey\":\"it's\",\"A\":2}\r\n"
    "--changeset_" ID "\r\n"
    "Content-Type: application/http\r\n"
    "Content-Transfer-Encoding: binary\r\n"
    "\r\n"
    "DELETE https://acct.table.core.windows.net/T(PartitionKey='p',RowKey='3') HTTP/1.1\r\n"
    "If-Match: *\r\n"
    "Accept: application/json;odata=minimalmetadata\r\n"
    "DataServiceVersion: 3.0;\r\n"
    "\r\n"
    "\r\n"
    "--changeset_" ID "--\r\n"
    "--batch_" ID "--\r\n";

static void test_batch_text(void **state)
{
    static const char *const merges[] = {
        "MERGE https://acct.table.core.windows.net/T(PartitionKey='p',RowKey='it%27%27s') HTTP/1.1\r\n",
        "POST https://acct.table.core.windows.net/T(PartitionKey='p',RowKey='it%27%27s') HTTP/1.1\r\n"
        "X-HTTP-Method: MERGE\r\n"};
    struct arena arena = ARENA_INIT(1 << 20);
    struct operation operations[3] = {{OPERATION_INSERT, new_entity(&arena, "p", "1")},
                                      {OPERATION_MERGE, new_entity(&arena, "p", "it's")},
                                      {OPERATION_DELETE, new_entity(&arena, "p", "3")}};
    struct fail why = {0};
    (void)state;
    entity_add_int(&operations[0].entity, "A", 1);
    entity_add_int(&operations[1].entity, "A", 2);
    operations[1].entity.etag = span_of("W/\"datetime'2021-08-02T18%3A01%3A40.1925388Z'\"");
    operations[2].entity.etag = SPAN_LIT("*");
    for (size_t cosmos = 0; cosmos < 2; cosmos++) {
        struct batch batch = {.id = ID,
                              .table_url = SPAN_LIT("https://acct.table.core.windows.net/T"),
                              .posts_merge = cosmos == 1,
                              .operations = operations,
                              .count = 3};
        struct buf body = BUF_INIT(10000);
        char want[sizeof WRITTEN + 300];
        size_t failed = 77;
        (void)snprintf(want, sizeof want, WRITTEN, merges[cosmos]);
        same_status("write", batch_write(&body, &batch, &failed, &why), ST_OK, &why);
        same_text("written", buf_span(&body), want);
        same_number("failed is left alone", (long long)failed, 77);

        /* One byte too few: it is not said who is to blame, unless there is only one. */
        struct buf tight = BUF_INIT(body.len - 1);
        same_status("tight", batch_write(&tight, &batch, &failed, &why), ST_TOO_LARGE, &why);
        same_number("tight", failed == NO_INDEX, 1);
        buf_reset(&tight);
        tight.limit = 100;
        batch.count = 1;
        same_status("alone", batch_write(&tight, &batch, &failed, &why), ST_TOO_LARGE, &why);
        same_number("alone", (long long)failed, 0);
        buf_release(&tight);
        buf_release(&body);
    }

    static const char *const etags[] = {"", "a b", "x\r\nIf-None-Match: *", "\x7F"};
    for (size_t i = 0; i < COUNT(etags); i++) {
        struct batch batch = {
            .id = ID, .table_url = SPAN_LIT("https://h/T"), .operations = operations, .count = 3};
        struct buf body = BUF_INIT(10000);
        size_t failed = 77;
        operations[2].entity.etag = span_of(etags[i]);
        same_status(etags[i], batch_write(&body, &batch, &failed, &why), ST_BUG, &why);
        same_number(etags[i], (long long)failed, 2);
        buf_release(&body);
    }
    struct batch batch = {
        .id = ID, .table_url = SPAN_LIT("https://h/T"), .operations = operations, .count = 3};
    struct buf body = BUF_INIT(10000);
    size_t failed = 77;
    operations[2].entity.etag = SPAN_LIT("*");
    entity_add_text(&operations[1].entity, "Bad", SPAN_LIT("\xFF"));
    same_status("not UTF-8", batch_write(&body, &batch, &failed, &why), ST_INVALID, &why);
    same_number("not UTF-8", (long long)failed, 1);
    buf_release(&body);
    arena_release(&arena);
    settle();
}

#define BATCH_TYPE "multipart/mixed; boundary=batchresponse_c5bb"
#define HEAD                                                                                                 \
    "--batchresponse_c5bb\r\n"                                                                               \
    "Content-Type: multipart/mixed; boundary=changesetresponse_aef1\r\n"                                     \
    "\r\n"
#define PART                                                                                                 \
    "--changesetresponse_aef1\r\n"                                                                           \
    "Content-Type: application/http\r\n"                                                                     \
    "Content-Transfer-Encoding: binary\r\n"                                                                  \
    "\r\n"
#define TAIL       "--changesetresponse_aef1--\r\n--batchresponse_c5bb--\r\n"
#define NO_CONTENT PART "HTTP/1.1 204 No Content\r\nDataServiceVersion: 3.0;\r\n\r\n\r\n"
/* As recorded from the service, the ids shortened. */
#define ERROR_JSON                                                                                           \
    "{\"odata.error\":{\"code\":\"EntityAlreadyExists\",\"message\":{\"lang\":\"en-US\",\"value\":"          \
    "\"2:The specified entity already exists.\\nRequestId:a05b4e53\\nTime:2021-08-02T18:01:40.3296350Z\"}}}"
#define CONFLICT                                                                                             \
    HEAD PART "HTTP/1.1 409 Conflict\r\n"                                                                    \
              "X-Content-Type-Options: nosniff\r\n"                                                          \
              "Cache-Control: no-cache\r\n"                                                                  \
              "Preference-Applied: return-no-content\r\n"                                                    \
              "DataServiceVersion: 3.0;\r\n"                                                                 \
              "Content-Type: application/json;odata=minimalmetadata;streaming=true;charset=utf-8\r\n"        \
              "\r\n" ERROR_JSON "\r\n" TAIL

static struct batch_answer read_batch(const char *type, struct span body, size_t count)
{
    struct batch_answer answer;
    memset(&answer, 0x55, sizeof answer);
    batch_read(span_of(type), body, count, &answer);
    return answer;
}

static void test_batch_answers(void **state)
{
    static const struct {
        const char *label, *type, *body;
        size_t count;
        enum batch_outcome want;
        int code;
    } cases[] = {
        {"recorded conflict", BATCH_TYPE, CONFLICT, 3, BATCH_FAILED, 409},
        {"conflict of one", BATCH_TYPE, CONFLICT, 1, BATCH_FAILED, 409},
        {"done", BATCH_TYPE, HEAD NO_CONTENT NO_CONTENT TAIL, 2, BATCH_DONE, 0},
        {"one done", BATCH_TYPE, HEAD NO_CONTENT TAIL, 1, BATCH_DONE, 0},
        {"no epilogue", BATCH_TYPE, HEAD NO_CONTENT NO_CONTENT, 2, BATCH_DONE, 0},
        {"quoted boundary", "Multipart/Mixed; charset=x; boundary=\"batchresponse_c5bb\"",
         HEAD NO_CONTENT TAIL, 1, BATCH_DONE, 0},
        {"quoted inner boundary", BATCH_TYPE,
         "--batchresponse_c5bb\r\ncontent-type: multipart/mixed; "
         "boundary=\"changesetresponse_aef1\"\r\n\r\n" NO_CONTENT TAIL,
         1, BATCH_DONE, 0},
        {"line feeds", BATCH_TYPE,
         "--batchresponse_c5bb\nContent-Type: multipart/mixed; boundary=x_1\n\n--x_1\nContent-Type: "
         "application/http\n\nHTTP/1.1 204 No Content\n\n\n--x_1\n\nHTTP/1.1 204 No Content\n\n--x_1--\n",
         2, BATCH_DONE, 0},
        {"blank lines and stray text", BATCH_TYPE,
         "\r\nhello\r\n" HEAD "\r\n\r\n" PART "\r\nstray text\r\nHTTP/1.1 400 Bad Request\r\n\r\n{}\r\n" TAIL,
         101, BATCH_FAILED, 400},
        {"status without words", BATCH_TYPE, HEAD PART "HTTP/1.1 204\r\n\r\n" TAIL, 1, BATCH_DONE, 0},
        {"a status line in a body does not count", BATCH_TYPE,
         HEAD PART "HTTP/1.1 404 Not Found\r\n\r\nHTTP/1.1 204 No Content\r\n" TAIL, 1, BATCH_FAILED, 404},
        {"an error after successes", BATCH_TYPE, HEAD NO_CONTENT PART "HTTP/1.1 409 Conflict\r\n\r\n" TAIL, 2,
         BATCH_UNCLEAR, 0},
        {"an error after enough successes", BATCH_TYPE,
         HEAD NO_CONTENT PART "HTTP/1.1 409 Conflict\r\n\r\n" TAIL, 1, BATCH_UNCLEAR, 0},
        {"too few", BATCH_TYPE, HEAD NO_CONTENT TAIL, 2, BATCH_UNCLEAR, 0},
        {"too many", BATCH_TYPE, HEAD NO_CONTENT NO_CONTENT TAIL, 1, BATCH_UNCLEAR, 0},
        {"none", BATCH_TYPE, HEAD TAIL, 1, BATCH_UNCLEAR, 0},
        {"a part without a status", BATCH_TYPE, HEAD NO_CONTENT PART "\r\n" TAIL, 1, BATCH_UNCLEAR, 0},
        {"no success and no error", BATCH_TYPE, HEAD PART "HTTP/1.1 302 Found\r\n\r\n" TAIL, 1, BATCH_UNCLEAR,
         0},
        {"four digits", BATCH_TYPE, HEAD PART "HTTP/1.1 2044 No\r\n\r\n" TAIL, 1, BATCH_UNCLEAR, 0},
        {"no number", BATCH_TYPE, HEAD PART "HTTP/1.1 2xx No\r\n\r\n" TAIL, 1, BATCH_UNCLEAR, 0},
        {"another boundary", "multipart/mixed; boundary=other", "no boundary\r\n", 1, BATCH_UNCLEAR, 0},
        {"no boundary", "multipart/mixed", HEAD NO_CONTENT TAIL, 1, BATCH_UNCLEAR, 0},
        {"blank boundary", "multipart/mixed; boundary=", HEAD NO_CONTENT TAIL, 1, BATCH_UNCLEAR, 0},
        {"JSON", "application/json", ERROR_JSON, 1, BATCH_UNCLEAR, 0},
        {"HTML", "text/html", "<html>HTTP/1.1 204 No Content\r\n</html>", 1, BATCH_UNCLEAR, 0},
        {"nothing", BATCH_TYPE, "", 1, BATCH_UNCLEAR, 0},
        {"no type", "", HEAD NO_CONTENT TAIL, 1, BATCH_UNCLEAR, 0},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct batch_answer answer = read_batch(cases[i].type, span_of(cases[i].body), cases[i].count);
        same_number(cases[i].label, answer.outcome, cases[i].want);
        if (cases[i].want == BATCH_FAILED)
            same_number(cases[i].label, answer.code, cases[i].code);
    }
    struct batch_answer answer = read_batch(BATCH_TYPE, SPAN_LIT(CONFLICT), 3);
    same_text("error", answer.error, ERROR_JSON);
    settle();
}

/* However an answer is cut, a failure never becomes a success, and a success is believed only when every
 * operation has said so. */
static void test_truncated_answers(void **state)
{
    static const char done[] = HEAD NO_CONTENT NO_CONTENT NO_CONTENT TAIL;
    static const char conflict[] = CONFLICT;
    const char *third = strstr(strstr(strstr(done, "HTTP/1.1") + 1, "HTTP/1.1") + 1, "HTTP/1.1");
    size_t enough = (size_t)(third - done) + sizeof "HTTP/1.1 204 No Content\r\n" - 1;
    (void)state;
    for (size_t len = 0; len < sizeof done; len++) {
        struct batch_answer answer = read_batch(BATCH_TYPE, (struct span){done, len}, 3);
        same_number("truncated success", answer.outcome, len >= enough ? BATCH_DONE : BATCH_UNCLEAR);
    }
    for (size_t count = 1; count <= 3; count++) {
        for (size_t len = 0; len < sizeof conflict; len++) {
            struct batch_answer answer = read_batch(BATCH_TYPE, (struct span){conflict, len}, count);
            same_number("truncated failure", answer.outcome == BATCH_DONE, 0);
            if (answer.outcome == BATCH_FAILED) {
                struct table_error error = {.http_code = answer.code, .index = NO_INDEX, .is_member = true};
                struct fail why;
                table_error_read(&error, answer.error);
                enum status status = table_error_status(&error, &why);
                /* A 409 that does not say which is no proof that the row is there. */
                same_number("truncated failure", status == (error.code[0] ? ST_EXISTS : ST_AGAIN), 1);
            }
        }
    }
    settle();
}

/* One byte changed anywhere: a failure stays one or becomes unclear. */
static void test_garbled_answers(void **state)
{
    static const char conflict[] = CONFLICT;
    static const char bytes[] = {'\0', '\n', '-', '2', '{', '\xFF'};
    char text[sizeof conflict];
    (void)state;
    for (size_t at = 0; at < sizeof conflict - 1; at++) {
        for (size_t k = 0; k < sizeof bytes; k++) {
            memcpy(text, conflict, sizeof text);
            text[at] = bytes[k];
            /* "409" made "209" is the one change that nobody can see. */
            if (memcmp(text, conflict, at) == 0 && strstr(text, "HTTP/1.1 209"))
                continue;
            struct batch_answer answer = read_batch(BATCH_TYPE, (struct span){text, sizeof text - 1}, 1);
            same_number("garbled failure", answer.outcome == BATCH_DONE, 0);
        }
    }
    settle();
}

/* --- errors --------------------------------------------------------------------------------------------- */

static void test_error_bodies(void **state)
{
    static const struct {
        const char *body, *code;
        size_t index;
    } cases[] = {
        {ERROR_JSON, "EntityAlreadyExists", 2},
        {"{\"odata.error\":{\"code\":\"ResourceNotFound\",\"message\":{\"lang\":\"en-US\","
         "\"value\":\"The specified "
         "resource does not exist.\\nRequestId:1\\nTime:2021\"}}}",
         "ResourceNotFound", NO_INDEX},
        {"{\"odata.error\":{\"code\":\"InvalidInput\",\"message\":{\"value\":\"99:x\"}}}", "InvalidInput",
         99},
        {"{\"odata.error\":{\"code\":\"InvalidInput\",\"message\":{\"value\":\"101:x\"}}}", "InvalidInput",
         NO_INDEX},
        {"{\"odata.error\":{\"code\":\"InvalidInput\",\"message\":{\"value\":\"-1:x\"}}}", "InvalidInput",
         NO_INDEX},
        {"{\"odata.error\":{\"code\":\"InvalidInput\",\"message\":{\"value\":\":x\"}}}", "InvalidInput",
         NO_INDEX},
        {"{\"odata.error\":{\"code\":\"InvalidInput\"}}", "InvalidInput", NO_INDEX},
        {"{\"odata.error\":{\"code\":\"\",\"message\":{\"value\":\"0:x\"}}}", "", 0},
        {"{\"odata.error\":{\"code\":\"Two words\"}}", "", NO_INDEX},
        {"{\"odata.error\":{\"code\":7}}", "7", NO_INDEX},
        {"{\"odata.error\":\"x\"}", "", NO_INDEX},
        {"<?xml version=\"1.0\" encoding=\"utf-8\"?><Error><Code>AuthorizationFailure</Code>"
         "<Message>Server failed "
         "to authenticate</Message></Error>",
         "AuthorizationFailure", NO_INDEX},
        {"<?xml version=\"1.0\"?>\r\n"
         "<error xmlns=\"http://schemas.microsoft.com/ado/2007/08/dataservices/metadata\">\r\n"
         "  <code>OutOfRangeInput</code>\r\n<message>1:x</message></error>",
         "OutOfRangeInput", NO_INDEX},
        {"<m:error><m:code>TableNotFound</m:code></m:error>", "TableNotFound", NO_INDEX},
        {"<html><body>502 Bad Gateway</body></html>", "", NO_INDEX},
        {"<Code>", "", NO_INDEX},
        {"<Code>Unended", "Unended", NO_INDEX},
        {"", "", NO_INDEX},
        {"{\"odata.error\":{\"code\":\"Entity", "", NO_INDEX},
        {"upstream connect error", "", NO_INDEX},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct table_error error = {.index = NO_INDEX};
        table_error_read(&error, span_of(cases[i].body));
        same_text(cases[i].body, span_of(error.code), cases[i].code);
        same_number(cases[i].body, (long long)error.index, (long long)cases[i].index);
    }
    settle();
}

static void test_error_statuses(void **state)
{
    static const struct {
        const char *code;
        int http_code;
        bool is_member;
        enum status want;
        const char *words;
    } cases[] = {
        {"AuthenticationFailed", 403, false, ST_DENIED, "account key is wrong"},
        {"AuthorizationFailure", 403, false, ST_DENIED, "firewall"},
        {"AuthorizationPermissionMismatch", 403, false, ST_DENIED, "SAS lacks a right"},
        {"AuthorizationSourceIPMismatch", 403, false, ST_DENIED, "address"},
        {"AuthorizationProtocolMismatch", 403, false, ST_DENIED, "protocol"},
        {"AuthorizationServiceMismatch", 403, false, ST_DENIED, "ss=t"},
        {"AuthorizationResourceTypeMismatch", 403, false, ST_DENIED, "SAS lacks a right"},
        {"KeyBasedAuthenticationNotPermitted", 403, false, ST_DENIED, "access by key"},
        {"InsufficientAccountPermissions", 403, false, ST_DENIED, "may not"},
        {"AccountIsDisabled", 403, false, ST_DENIED, "disabled"},
        {"NoAuthenticationInformation", 401, false, ST_DENIED, "neither key nor SAS"},
        {"InvalidAuthenticationInfo", 400, false, ST_DENIED, "connection string"},
        {"EntityAlreadyExists", 409, true, ST_EXISTS, "exists already"},
        {"TableAlreadyExists", 409, false, ST_EXISTS, "exists already"},
        {"ResourceNotFound", 404, true, ST_NOT_FOUND, "not there"},
        {"EntityNotFound", 404, true, ST_NOT_FOUND, "not there"},
        {"TableNotFound", 404, true, ST_NOT_FOUND, "table"},
        {"UpdateConditionNotSatisfied", 412, true, ST_CHANGED, "changed"},
        {"ConditionNotMet", 412, true, ST_CHANGED, "changed"},
        {"EntityTooLarge", 400, true, ST_TOO_LARGE, "refused"},
        {"PropertyNameTooLong", 400, true, ST_TOO_LARGE, "refused"},
        {"PropertyValueTooLarge", 400, true, ST_TOO_LARGE, "refused"},
        {"TooManyProperties", 400, true, ST_TOO_LARGE, "refused"},
        {"RequestBodyTooLarge", 413, false, ST_TOO_LARGE, "refused"},
        {"DuplicatePropertiesSpecified", 400, true, ST_INVALID, "refused"},
        {"InvalidDuplicateRow", 400, true, ST_INVALID, "refused"},
        {"InvalidInput", 400, true, ST_INVALID, "refused"},
        {"InvalidValueType", 400, true, ST_INVALID, "refused"},
        {"OutOfRangeInput", 400, true, ST_INVALID, "refused"},
        {"PropertiesNeedValue", 400, true, ST_INVALID, "refused"},
        {"PropertyNameInvalid", 400, true, ST_INVALID, "refused"},
        {"ServerBusy", 503, false, ST_AGAIN, "busy"},
        {"TableBeingDeleted", 409, false, ST_AGAIN, "being deleted"},
        {"AccountBeingCreated", 409, false, ST_AGAIN, "being created"},
        {"InternalError", 500, false, ST_UNKNOWN, "internal error"},
        {"OperationTimedOut", 500, true, ST_UNKNOWN, "in its time"},
        /* known codes that concern the whole request */
        {"HostInformationNotPresent", 400, false, ST_DENIED, "endpoint"},
        {"JsonFormatNotSupported", 415, false, ST_DENIED, "endpoint"},
        {"AtomFormatNotSupported", 415, false, ST_DENIED, "endpoint"},
        {"MethodNotAllowed", 405, false, ST_DENIED, "endpoint"},
        {"NotImplemented", 501, false, ST_DENIED, "endpoint"},
        {"XMethodNotUsingPost", 400, false, ST_DENIED, "endpoint"},
        {"InvalidHeaderValue", 400, false, ST_DENIED, "endpoint"},
        {"MissingContentLengthHeader", 411, false, ST_DENIED, "endpoint"},
        {"MissingRequiredHeader", 400, false, ST_DENIED, "endpoint"},
        {"UnsupportedHttpVerb", 405, false, ST_DENIED, "endpoint"},
        /* codes of next year */
        {"SomethingNew", 400, true, ST_INVALID, "SomethingNew"},
        {"SomethingNew", 400, false, ST_DENIED, "SomethingNew"},
        {"SomethingNew", 500, false, ST_UNKNOWN, "SomethingNew"},
        {"SomethingNew", 409, true, ST_AGAIN, "SomethingNew"},
        /* by status alone, as from a gateway */
        {"", 302, false, ST_DENIED, "check the table endpoint"},
        {"", 400, false, ST_DENIED, "no error code"},
        {"", 401, false, ST_DENIED, "connection string"},
        {"", 403, false, ST_DENIED, "firewall"},
        {"", 404, true, ST_NOT_FOUND, "not there"},
        {"", 408, false, ST_UNKNOWN, "in its time"},
        {"", 412, true, ST_CHANGED, "changed"},
        {"", 413, false, ST_TOO_LARGE, "refused"},
        {"", 429, false, ST_AGAIN, "throttles"},
        {"", 451, false, ST_DENIED, "endpoint"},
        {"", 500, false, ST_UNKNOWN, "failed"},
        {"", 501, false, ST_DENIED, "endpoint"},
        {"", 502, false, ST_UNKNOWN, "failed"},
        {"", 503, false, ST_UNKNOWN, "failed"},
        {"", 504, false, ST_UNKNOWN, "failed"},
        {"", 505, false, ST_DENIED, "endpoint"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct table_error error = {
            .http_code = cases[i].http_code, .index = NO_INDEX, .is_member = cases[i].is_member};
        struct fail why = {0};
        char label[100];
        (void)snprintf(label, sizeof label, "%d %s", cases[i].http_code, cases[i].code);
        table_error_take_code(&error, span_of(cases[i].code));
        same_status(label, table_error_status(&error, &why), cases[i].want, &why);
        same_number(label, why.code, cases[i].want);
        same_number(label, why.peer, cases[i].http_code);
        if (!strstr(why.text, cases[i].words)) {
            print_error("%s: got \"%s\", want it to say \"%s\"\n", label, why.text, cases[i].words);
            failures++;
        }
    }
    settle();
}

static void test_clock_and_sas(void **state)
{
    static const struct {
        int64_t ahead_ms;
        bool has_sas;
        const char *words;
    } cases[] = {
        {0, false, "the account key is wrong"},
        {13 * 60000, false, "the account key is wrong"},
        {0, true, "the SAS is wrong, expired or withdrawn"},
        {20 * 60000, false, "this host's clock is 20 minutes fast"},
        {-90 * 60000, false, "this host's clock is 90 minutes slow"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct table_error error = {.http_code = 403,
                                    .code = "AuthenticationFailed",
                                    .clock_ahead_ms = cases[i].ahead_ms,
                                    .has_sas = cases[i].has_sas};
        struct fail why = {0};
        same_status(cases[i].words, table_error_status(&error, &why), ST_DENIED, &why);
        if (!strstr(why.text, cases[i].words)) {
            print_error("got \"%s\", want it to say \"%s\"\n", why.text, cases[i].words);
            failures++;
        }
    }
    struct table_error error = {.http_code = 500, .code = "InternalError", .request_id = "a05b4e53-1"};
    struct fail why = {0};
    (void)table_error_status(&error, &why);
    same_text("request id", span_of(why.text),
              "Azure Table (500 InternalError): the service had an internal error; request a05b4e53-1");
    /* It goes into logs and alarms. */
    table_error_take_request_id(&error, SPAN_LIT("1-a\r\n<b>=?x\xFF"));
    same_text("no request id", span_of(error.request_id), "1-a???b???x?");
    settle();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accounts),        cmocka_unit_test(test_wrong_accounts),
        cmocka_unit_test(test_long_account),    cmocka_unit_test(test_published_signatures),
        cmocka_unit_test(test_plain_hmac),      cmocka_unit_test(test_accepted_signatures),
        cmocka_unit_test(test_entity_text),     cmocka_unit_test(test_entity_of_service),
        cmocka_unit_test(test_long_values),     cmocka_unit_test(test_entity_limits),
        cmocka_unit_test(test_addresses),       cmocka_unit_test(test_batch_text),
        cmocka_unit_test(test_batch_answers),   cmocka_unit_test(test_truncated_answers),
        cmocka_unit_test(test_garbled_answers), cmocka_unit_test(test_error_bodies),
        cmocka_unit_test(test_error_statuses),  cmocka_unit_test(test_clock_and_sas),
        cmocka_unit_test(test_sas_end),
    };
    return cmocka_run_group_tests_name("table", tests, NULL, NULL);
}
