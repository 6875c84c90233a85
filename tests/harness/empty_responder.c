/* empty_responder - the least a threaded FastCGI program can do: what leadhook is measured against.
 *
 *   empty_responder SOCKET THREADS [TABLE_URL]
 *
 * Reads each request's body and answers 200 with a few bytes of JSON, with
 * libfcgi and a thread for each connection, until SIGTERM.  With
 * TABLE_URL (http://host:port/devstoreaccount1/TABLE) it first inserts the body
 * as a row of its own: one signed POST per request over a connection that each
 * thread keeps.  What is not inserted is answered 503.
 */

/* System */
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* Libraries */
#include <curl/curl.h>
#include <fcgiapp.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

enum { THREADS_MAX = 512, QUEUE = 1024, STACK_BYTES = 256 * 1024, BODY_BYTES = 16 * 1024 };

/* The published account of Microsoft's storage emulator. */
static const char ACCOUNT[] = "devstoreaccount1";
static const char ACCOUNT_KEY[] =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

static int listener;
static const char *table_url;     /* NULL: nothing is stored */
static const char *resource_path; /* the path of table_url */
static unsigned char key[EVP_MAX_KEY_LENGTH * 2];
static int key_bytes;
static atomic_uint_fast64_t row_number;

/* What a thread inserts rows with. */
struct inserter {
    CURL *curl;
    struct curl_slist *fixed_headers;
    char body[BODY_BYTES];
    char entity[2 * BODY_BYTES + 256];
};

static size_t discard(char *data, size_t size, size_t count, void *context)
{
    (void)data;
    (void)context;
    return size * count;
}

static struct inserter *inserter_new(void)
{
    struct inserter *i = calloc(1, sizeof *i);
    if (!i || !(i->curl = curl_easy_init()))
        abort();
    i->fixed_headers = curl_slist_append(i->fixed_headers, "x-ms-version: 2019-02-02");
    i->fixed_headers = curl_slist_append(i->fixed_headers, "Accept: application/json;odata=nometadata");
    i->fixed_headers = curl_slist_append(i->fixed_headers, "Content-Type: application/json");
    i->fixed_headers = curl_slist_append(i->fixed_headers, "DataServiceVersion: 3.0;");
    i->fixed_headers = curl_slist_append(i->fixed_headers, "Prefer: return-no-content");
    curl_easy_setopt(i->curl, CURLOPT_URL, table_url);
    curl_easy_setopt(i->curl, CURLOPT_WRITEFUNCTION, discard);
    curl_easy_setopt(i->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(i->curl, CURLOPT_POST, 1L);
    curl_easy_setopt(i->curl, CURLOPT_TIMEOUT_MS, 5000L);
    return i;
}

/* "Date" and "SharedKeyLite ACCOUNT:SIGNATURE" header lines, in front of the fixed ones. */
static void sign(struct curl_slist *date, char date_line[64], struct curl_slist *authorization,
                 char authorization_line[192], struct curl_slist *fixed)
{
    char text[256];
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned char signature[EVP_MAX_MD_SIZE * 2];
    unsigned int mac_bytes = 0;
    struct tm tm;
    time_t now = time(NULL);
    strftime(date_line, 64, "x-ms-date: %a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &tm));
    int n =
        snprintf(text, sizeof text, "%s\n/%s%s", date_line + strlen("x-ms-date: "), ACCOUNT, resource_path);
    HMAC(EVP_sha256(), key, key_bytes, (const unsigned char *)text, (size_t)n, mac, &mac_bytes);
    EVP_EncodeBlock(signature, mac, (int)mac_bytes);
    snprintf(authorization_line, 192, "Authorization: SharedKeyLite %s:%s", ACCOUNT, (const char *)signature);
    *date = (struct curl_slist){date_line, authorization};
    *authorization = (struct curl_slist){authorization_line, fixed};
}

/* The row's JSON; its keys are a number and the body is text in one column. */
static size_t write_entity(struct inserter *i, size_t body_bytes)
{
    size_t n =
        (size_t)sprintf(i->entity, "{\"PartitionKey\":\"leads\",\"RowKey\":\"%016" PRIx64 "\",\"Payload\":\"",
                        (uint64_t)atomic_fetch_add(&row_number, 1));
    for (size_t at = 0; at < body_bytes; at++) {
        if (i->body[at] == '"' || i->body[at] == '\\')
            i->entity[n++] = '\\';
        i->entity[n++] = i->body[at];
    }
    n += (size_t)sprintf(i->entity + n, "\"}");
    return n;
}

static bool insert(struct inserter *i, size_t body_bytes)
{
    char date_line[64], authorization_line[192];
    struct curl_slist date, authorization;
    long code = 0;
    sign(&date, date_line, &authorization, authorization_line, i->fixed_headers);
    curl_easy_setopt(i->curl, CURLOPT_HTTPHEADER, &date);
    curl_easy_setopt(i->curl, CURLOPT_POSTFIELDSIZE, (long)write_entity(i, body_bytes));
    curl_easy_setopt(i->curl, CURLOPT_POSTFIELDS, i->entity);
    return curl_easy_perform(i->curl) == CURLE_OK &&
           curl_easy_getinfo(i->curl, CURLINFO_RESPONSE_CODE, &code) == CURLE_OK && code == 204;
}

static _Noreturn void *serve(void *unused)
{
    static const char answer[] = "Content-Type: application/json\r\n\r\n{\"status\":\"stored\"}\n";
    static const char refusal[] = "Status: 503 Service Unavailable\r\n\r\n";
    (void)unused;
    struct inserter *inserter = table_url ? inserter_new() : NULL;
    FCGX_Request request;
    if (FCGX_InitRequest(&request, listener, 0) != 0)
        abort();
    for (;;) {
        char chunk[BODY_BYTES];
        size_t n = 0;
        int got;
        if (FCGX_Accept_r(&request) != 0)
            continue;
        while ((got = FCGX_GetStr(chunk, sizeof chunk, request.in)) > 0) {
            if (inserter && (size_t)got <= sizeof inserter->body - n) {
                memcpy(inserter->body + n, chunk, (size_t)got);
                n += (size_t)got;
            }
        }
        if (!inserter || insert(inserter, n))
            (void)FCGX_PutStr(answer, sizeof answer - 1, request.out);
        else
            (void)FCGX_PutStr(refusal, sizeof refusal - 1, request.out);
        FCGX_Finish_r(&request);
    }
}

static void prepare_inserts(const char *url)
{
    const char *host = strstr(url, "://");
    table_url = url;
    resource_path = host ? strchr(host + 3, '/') : NULL;
    key_bytes = EVP_DecodeBlock(key, (const unsigned char *)ACCOUNT_KEY, (int)strlen(ACCOUNT_KEY)) - 2;
    row_number = (uint_fast64_t)time(NULL) << 32;
    if (!resource_path || curl_global_init(CURL_GLOBAL_DEFAULT) != 0) {
        fputs("empty_responder: cannot use the table\n", stderr);
        exit(64);
    }
}

int main(int argc, char **argv)
{
    char *end = NULL;
    unsigned long threads = argc == 3 || argc == 4 ? strtoul(argv[2], &end, 10) : 0;
    if (threads == 0 || threads > THREADS_MAX || *end) {
        fputs("usage: empty_responder SOCKET THREADS [TABLE_URL]\n", stderr);
        return 64;
    }
    if (argc == 4)
        prepare_inserts(argv[3]);
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGUSR1); /* the library would take it */
    listener = FCGX_Init() == 0 ? FCGX_OpenSocket(argv[1], QUEUE) : -1;
    pthread_attr_t attributes;
    if (listener < 0 || chmod(argv[1], 0660) != 0 || pthread_sigmask(SIG_BLOCK, &stop, NULL) != 0 ||
        pthread_attr_init(&attributes) != 0 || pthread_attr_setstacksize(&attributes, STACK_BYTES) != 0) {
        perror("empty_responder");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    for (unsigned long i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, serve, NULL) != 0) {
            fputs("empty_responder: cannot start a thread\n", stderr);
            return 1;
        }
    }
    int signal_number;
    while (sigwait(&stop, &signal_number) != 0 || signal_number == SIGUSR1)
        ;
    unlink(argv[1]);
    _exit(0); /* the threads are in accept for good */
}
