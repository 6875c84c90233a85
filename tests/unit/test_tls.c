/* After a moment without memory in its first TLS connection a process connects again. */

/* Here before cmocka.h, which needs them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* System */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

/* Libraries */
#include <openssl/ssl.h>

#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/net/http.h"
#include "tests/unit/no_memory.h"
#include "tests/unit/stored.h"

enum {
    POINTS = 40,             /* that are tried */
    ALLOCATIONS_MAX = 10000, /* of a first connection, at most */
};

/* How a life ends.  libcurl 7.88.1 crashes where it lists the server's certificates without memory (CURLOPT_CERTINFO);
 * the process that follows is a new one. */
enum end { CRASHES, CONNECTS_AGAIN, HAD_MEMORY, NEVER_CONNECTS, CANNOT_BEGIN };
static volatile enum end *told; /* by the process that lived */

static struct {
    char folder[64], certificate[96], key[96];
    unsigned int port;
    pid_t pid;
} server;

/* Answers every connection. */
static int serve(int listening)
{
    static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());
    if (!context || SSL_CTX_use_certificate_file(context, server.certificate, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_use_PrivateKey_file(context, server.key, SSL_FILETYPE_PEM) != 1)
        return 2;
    for (;;) {
        char request[2000];
        SSL *tls = SSL_new(context);
        int fd = accept(listening, NULL, NULL);
        if (fd < 0 || !tls || SSL_set_fd(tls, fd) != 1)
            return 3;
        if (SSL_accept(tls) == 1 && SSL_read(tls, request, sizeof request) > 0 &&
            SSL_write(tls, answer, sizeof answer - 1) > 0)
            (void)SSL_shutdown(tls);
        SSL_free(tls);
        (void)close(fd);
    }
}

static int start_server(void **state)
{
    char command[512];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    (void)state;
    told = mmap(NULL, sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(told != MAP_FAILED);
    (void)snprintf(server.folder, sizeof server.folder, "/tmp/leadhook-tls-XXXXXX");
    assert_non_null(mkdtemp(server.folder));
    (void)snprintf(server.certificate, sizeof server.certificate, "%s/certificate.pem", server.folder);
    (void)snprintf(server.key, sizeof server.key, "%s/key.pem", server.folder);
    (void)snprintf(command, sizeof command,
                   "openssl req -x509 -newkey rsa:2048 -nodes -days 3 -subj /CN=localhost"
                   " -addext subjectAltName=DNS:localhost -keyout %s -out %s 2>%s/said",
                   server.key, server.certificate, server.folder);
    assert_int_equal(system(command), 0);
    int listening = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(listening, (struct sockaddr *)&address, length), 0);
    assert_int_equal(listen(listening, 16), 0);
    assert_int_equal(getsockname(listening, (struct sockaddr *)&address, &length), 0);
    server.port = ntohs(address.sin_port);
    server.pid = fork();
    if (server.pid == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(serve(listening));
    }
    (void)close(listening);
    return server.pid > 0 ? 0 : -1;
}

static int stop_server(void **state)
{
    (void)state;
    (void)kill(server.pid, SIGKILL);
    (void)waitpid(server.pid, NULL, 0);
    return remove_folder(server.folder);
}

static enum status ask(struct http_client *client)
{
    static const char *const no_headers[] = {NULL};
    char url[64];
    (void)snprintf(url, sizeof url, "https://localhost:%u/", server.port);
    struct http_exchange e = {.url = url, .headers = no_headers, .answer_max_bytes = 1000};
    struct http_exchange *all[] = {&e};
    http_run(client, all, 1, clock_monotonic_ms() + 10000);
    enum status status = e.status;
    http_exchange_release(&e);
    return status;
}

/* A process whose memory runs out after so many allocations of OpenSSL's in the first connection, and is there again in
 * the second one. */
static enum end live(unsigned int allocations)
{
    const struct http_options options = {.ca_file = server.certificate};
    struct http_client *client;
    struct fail why;
    if (!watch_memory() || http_global_init(&why) != ST_OK || crypto_init_tls(&why) != ST_OK ||
        http_client_new(&options, &client, &why) != ST_OK)
        return CANNOT_BEGIN;
    runs_out_at = allocations + 1;
    enum status first = ask(client);
    bool ran_out = out_of_memory;
    runs_out_at = 0;
    out_of_memory = false;
    if (!ran_out)
        return first == ST_OK ? HAD_MEMORY : CANNOT_BEGIN;
    return ask(client) == ST_OK ? CONNECTS_AGAIN : NEVER_CONNECTS;
}

/* Not told by the process's status, which is memcheck's where OpenSSL loses memory that it could not use. */
static enum end end_of_life(unsigned int allocations)
{
    *told = CRASHES;
    pid_t pid = fork();
    if (pid == 0) {
        (void)signal(SIGSEGV, SIG_DFL); /* not into cmocka, which would go on with the test in this process */
        *told = live(allocations);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    return *told;
}

static void test_connects_again(void **state)
{
    unsigned int low = 0, high = ALLOCATIONS_MAX, again = 0;
    (void)state;
    assert_int_equal(end_of_life(ALLOCATIONS_MAX), HAD_MEMORY);
    while (high - low > 1) {
        unsigned int middle = low + (high - low) / 2;
        *(end_of_life(middle) == HAD_MEMORY ? &high : &low) = middle;
    }
    for (unsigned int i = 0; i < POINTS; i++) {
        unsigned int allocations = (unsigned int)((unsigned long)high * i / POINTS);
        enum end end = end_of_life(allocations);
        if (end == NEVER_CONNECTS || end == CANNOT_BEGIN)
            fail_msg("memory for %u of %u allocations: ends with %d", allocations, high, (int)end);
        again += end == CONNECTS_AGAIN;
    }
    assert_in_range(again, POINTS * 3 / 4, POINTS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_connects_again, start_server, stop_server),
    };
    (void)signal(SIGPIPE, SIG_IGN);
    return cmocka_run_group_tests_name("tls", tests, NULL, NULL);
}
