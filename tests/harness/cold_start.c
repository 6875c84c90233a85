/* cold_start - how long a program takes from exec to its first answer.
 *
 *   cold_start fastcgi|cgi URL_QUERY COMMAND [ARGUMENT...] <BODY
 *
 * Starts COMMAND with POST /leads?URL_QUERY waiting for it: as a FastCGI request
 * in the queue of its listening socket (file descriptor 0), or as a CGI program.
 * Prints the milliseconds from just before the fork to the answer's end (CGI: to
 * the program's end).  Ends with 1 when the answer is not that a lead is stored.
 */

/* System */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ROOM = 60 * 1024, HEAD = 8, BEGIN = 1, END = 3, PARAMS = 4, STDIN = 5, STDOUT = 6 };

/* Bytes to send or received; all messages here fit. */
struct bytes {
    size_t n;
    char p[ROOM + 4 * 1024];
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "cold_start: %s: %s\n", what, strerror(errno));
    exit(70);
}

static void add(struct bytes *to, const void *p, size_t n)
{
    if (n > sizeof to->p - to->n)
        die("too long");
    memcpy(to->p + to->n, p, n);
    to->n += n;
}

/* To the end, or until the room is full but for a NUL. */
static void read_all(int fd, struct bytes *to)
{
    ssize_t n;
    while ((n = read(fd, to->p + to->n, sizeof to->p - 1 - to->n)) > 0)
        to->n += (size_t)n;
    if (n < 0)
        die("read");
}

static void add_record(struct bytes *to, unsigned char type, const void *content, size_t n)
{
    const unsigned char head[HEAD] = {1, type, 0, 1, (unsigned char)(n >> 8), (unsigned char)n, 0, 0};
    add(to, head, HEAD);
    add(to, content, n);
}

/* Names and values here are shorter than 128 bytes, but for the query. */
static void add_parameter(struct bytes *to, const char *name, const char *value)
{
    size_t n = strlen(value);
    const unsigned char lengths[5] = {(unsigned char)strlen(name), 0x80, 0, (unsigned char)(n >> 8),
                                      (unsigned char)n};
    add(to, lengths, 5);
    add(to, name, strlen(name));
    add(to, value, n);
}

/* What both kinds of request say of themselves. */
struct parameter {
    const char *name;
    const char *value;
};
enum { PARAMETERS = 5 };

static void write_request(struct bytes *to, const struct parameter *all, const struct bytes *body)
{
    static struct bytes parameters;
    for (size_t i = 0; i < PARAMETERS; i++)
        add_parameter(&parameters, all[i].name, all[i].value);
    add_record(to, BEGIN, "\0\1\0\0\0\0\0", 8); /* a responder; the connection ends with the request */
    add_record(to, PARAMS, parameters.p, parameters.n);
    add_record(to, PARAMS, "", 0);
    add_record(to, STDIN, body->p, body->n);
    add_record(to, STDIN, "", 0);
}

static bool send_all(int fd, const struct bytes *what)
{
    for (size_t sent = 0; sent < what->n;) {
        ssize_t n = write(fd, what->p + sent, what->n - sent);
        if (n <= 0)
            return false;
        sent += (size_t)n;
    }
    return true;
}

/* The listening socket and a connection to it; the socket's name is the kernel's choice. */
static int queue_connection(int *client)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t size = sizeof address;
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    *client = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || *client < 0 ||
        bind(listener, (struct sockaddr *)&address, sizeof(sa_family_t)) != 0 ||
        getsockname(listener, (struct sockaddr *)&address, &size) != 0 || listen(listener, 16) != 0 ||
        connect(*client, (struct sockaddr *)&address, size) != 0)
        die("socket");
    return listener;
}

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

/* in and out become the program's standard input and output, both closed here. */
static pid_t start(int in, int out, char **command)
{
    pid_t pid = fork();
    if (pid == 0) {
        dup2(in, 0);
        dup2(out, 1);
        execv(command[0], command);
        die(command[0]);
    }
    if (pid < 0)
        die("fork");
    close(in);
    close(out);
    return pid;
}

/* Joins the contents of the STDOUT records. */
static void unpack(const struct bytes *records, struct bytes *answer)
{
    for (size_t at = 0; at + HEAD <= records->n;) {
        const unsigned char *head = (const unsigned char *)records->p + at;
        size_t n = (size_t)head[4] << 8 | head[5];
        if (head[1] == STDOUT && at + HEAD + n <= records->n)
            add(answer, records->p + at + HEAD, n);
        at += HEAD + n + head[6];
    }
}

static double serve_fastcgi(const struct bytes *request, struct bytes *answer, char **command)
{
    static struct bytes records;
    int client;
    int listener = queue_connection(&client);
    if (!send_all(client, request))
        die("cannot send the request");
    double began = now_ms();
    pid_t pid = start(listener, dup(2), command);
    read_all(client, &records);
    double ms = now_ms() - began;
    kill(pid, SIGTERM);
    waitpid(pid, NULL, 0);
    unpack(&records, answer);
    return ms;
}

static double serve_cgi(const struct bytes *body, struct bytes *answer, char **command)
{
    int in[2], out[2];
    if (pipe(in) != 0 || pipe(out) != 0)
        die("pipe");
    if (!send_all(in[1], body)) /* a pipe takes 64 KiB before anybody reads */
        die("cannot send the body");
    close(in[1]);
    double began = now_ms();
    pid_t pid = start(in[0], out[1], command);
    read_all(out[0], answer);
    waitpid(pid, NULL, 0);
    return now_ms() - began;
}

int main(int argc, char **argv)
{
    static struct bytes body, request, answer;
    if (argc < 4 || (strcmp(argv[1], "fastcgi") != 0 && strcmp(argv[1], "cgi") != 0)) {
        fputs("usage: cold_start fastcgi|cgi URL_QUERY COMMAND [ARGUMENT...] <BODY\n", stderr);
        return 64;
    }
    signal(SIGPIPE, SIG_IGN);
    read_all(0, &body);
    if (body.n > ROOM)
        die("the body is too long");
    char length[32];
    snprintf(length, sizeof length, "%zu", body.n);
    const struct parameter parameters[PARAMETERS] = {{"REQUEST_METHOD", "POST"},
                                                     {"SCRIPT_NAME", "/leads"},
                                                     {"QUERY_STRING", argv[2]},
                                                     {"CONTENT_TYPE", "application/json"},
                                                     {"CONTENT_LENGTH", length}};
    double ms;
    if (strcmp(argv[1], "fastcgi") == 0) {
        write_request(&request, parameters, &body);
        ms = serve_fastcgi(&request, &answer, argv + 3);
    } else {
        for (size_t i = 0; i < PARAMETERS; i++)
            setenv(parameters[i].name, parameters[i].value, 1);
        setenv("GATEWAY_INTERFACE", "CGI/1.1", 1);
        ms = serve_cgi(&body, &answer, argv + 3);
    }
    printf("%.3f\n", ms);
    return strstr(answer.p, "\"stored\"") ? 0 : 1;
}
