/* scripted_server.h - an HTTP server for tests, in the test's own process, that does as it is told.
 *
 * Each connection is a thread.  A request takes the next step of the script,
 * whichever connection it comes on; without a step left the connection hangs
 * until the client closes it.  For one test program at a time: its state is
 * static.  Include behind <cmocka.h>.
 */
#ifndef LEAD_SCRIPTED_SERVER_H
#define LEAD_SCRIPTED_SERVER_H

#include <string.h>

#include "lib/base/buf.h"
#include "tests/unit/connections.h"

enum { REQUEST_BYTES_MAX = 4 * 1024 * 1024 };

enum action { ANSWER, ANSWER_AND_CLOSE, DROP };

struct step {
    enum action action;
    struct span text;
};

struct server {
    struct connections connections;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    const struct step *steps;
    size_t step_count, next_step;
    size_t gate; /* no request is answered before so many have come */
    size_t requests, open, open_most;
    size_t busy; /* steps being carried out */
    struct buf last_request;
};

static struct server server;

static size_t content_length(struct span request)
{
    struct span line;
    uint64_t length = 0;
    while (span_next(&request, '\n', &line)) {
        if (span_starts_nocase(line, SPAN_LIT("Content-Length:")) &&
            !span_to_u64(span_trim(span_from(line, sizeof "Content-Length:" - 1)), REQUEST_BYTES_MAX,
                         &length))
            return 0;
    }
    return (size_t)length;
}

/* Reads one request, body included; false when the client has gone. */
static bool read_request(int fd, struct buf *request)
{
    buf_reset(request);
    for (;;) {
        const char *end = request->data ? strstr(request->data, "\r\n\r\n") : NULL;
        if (end) {
            size_t head = (size_t)(end - request->data) + 4;
            if (request->len >= head + content_length((struct span){request->data, head}))
                return true;
        }
        char *to = buf_reserve(request, 65536);
        ssize_t got = to ? recv(fd, to, 65536, 0) : 0;
        if (got <= 0)
            return false;
        buf_advance(request, (size_t)got);
    }
}

static void send_all(int fd, struct span text)
{
    while (text.len) {
        ssize_t sent = send(fd, text.ptr, text.len, MSG_NOSIGNAL);
        if (sent <= 0)
            return; /* the client gave up, as some tests want */
        text = span_from(text, (size_t)sent);
    }
}

/* The step for this request; NULL: there is none left. */
static const struct step *take_step(const struct buf *request)
{
    const struct step *step = NULL;
    (void)pthread_mutex_lock(&server.mutex);
    server.requests++;
    buf_reset(&server.last_request);
    buf_add(&server.last_request, buf_span(request));
    if (server.next_step < server.step_count)
        step = &server.steps[server.next_step++];
    if (step)
        server.busy++;
    (void)pthread_cond_broadcast(&server.changed);
    while (server.requests < server.gate)
        (void)pthread_cond_wait(&server.changed, &server.mutex);
    (void)pthread_mutex_unlock(&server.mutex);
    return step;
}

static void *serve(void *argument)
{
    int fd = *(int *)argument;
    struct buf request = BUF_INIT(REQUEST_BYTES_MAX);
    (void)pthread_mutex_lock(&server.mutex);
    server.open++;
    if (server.open > server.open_most)
        server.open_most = server.open;
    (void)pthread_mutex_unlock(&server.mutex);
    for (bool open = true; open && read_request(fd, &request);) {
        const struct step *step = take_step(&request);
        if (!step)
            continue; /* hangs in the next read */
        if (step->action != DROP)
            send_all(fd, step->text);
        open = step->action == ANSWER;
        (void)pthread_mutex_lock(&server.mutex);
        server.busy--;
        (void)pthread_cond_broadcast(&server.changed);
        (void)pthread_mutex_unlock(&server.mutex);
    }
    buf_release(&request);
    (void)pthread_mutex_lock(&server.mutex);
    server.open--;
    (void)pthread_cond_broadcast(&server.changed);
    (void)shutdown(fd, SHUT_RDWR);
    (void)pthread_mutex_unlock(&server.mutex);
    return NULL;
}

static int start_server(void **state)
{
    (void)state;
    memset(&server, 0, sizeof server);
    server.last_request = BUF_INIT(REQUEST_BYTES_MAX);
    (void)pthread_mutex_init(&server.mutex, NULL);
    (void)pthread_cond_init(&server.changed, NULL);
    return connections_begin(&server.connections, serve) ? 0 : -1;
}

static int stop_server(void **state)
{
    (void)state;
    connections_end(&server.connections);
    buf_release(&server.last_request);
    return 0;
}

static void play(const struct step *steps, size_t count)
{
    (void)pthread_mutex_lock(&server.mutex);
    server.steps = steps;
    server.step_count = count;
    server.next_step = 0;
    server.requests = 0;
    (void)pthread_mutex_unlock(&server.mutex);
}

/* Waits until the server has seen so many requests and finished what it began: its state can then be read. */
static void wait_for_server(size_t requests)
{
    (void)pthread_mutex_lock(&server.mutex);
    while (server.requests < requests || server.busy)
        (void)pthread_cond_wait(&server.changed, &server.mutex);
    (void)pthread_mutex_unlock(&server.mutex);
}

#endif
