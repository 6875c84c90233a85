/* connections.h - what the tests' own servers have in common: a socket of this machine that listens, and a thread
 * for each connection.
 *
 * For unit tests only.
 */
#ifndef LEAD_TEST_CONNECTIONS_H
#define LEAD_TEST_CONNECTIONS_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* On a port of the kernel's choice. */
static inline bool listen_here(int *listener, unsigned int *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof address;
    *listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (*listener < 0 || bind(*listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(*listener, 64) != 0 || getsockname(*listener, (struct sockaddr *)&address, &len) != 0)
        return false;
    *port = ntohs(address.sin_port);
    return true;
}

enum { CONNECTIONS_MAX = 256 };

struct connections {
    int listener;
    unsigned int port;
    void *(*serve)(void *fd); /* gets a pointer to the descriptor, which it may shut down but not close */
    pthread_t acceptor;
    pthread_t threads[CONNECTIONS_MAX];
    int sockets[CONNECTIONS_MAX];
    _Atomic size_t count; /* that were ever made */
};

static inline void *accept_connections(void *context)
{
    struct connections *c = context;
    for (;;) {
        int fd = accept(c->listener, NULL, NULL);
        if (fd < 0)
            return NULL;
        size_t n = c->count++;
        if (n >= CONNECTIONS_MAX)
            abort();
        c->sockets[n] = fd;
        if (pthread_create(&c->threads[n], NULL, c->serve, &c->sockets[n]) != 0)
            abort();
    }
}

static inline bool connections_begin(struct connections *c, void *(*serve)(void *fd))
{
    c->serve = serve;
    c->count = 0;
    return listen_here(&c->listener, &c->port) &&
           pthread_create(&c->acceptor, NULL, accept_connections, c) == 0;
}

static inline void connections_end(struct connections *c)
{
    (void)shutdown(c->listener, SHUT_RDWR);
    (void)pthread_join(c->acceptor, NULL); /* from here on no connection is added */
    for (size_t i = 0; i < c->count; i++) {
        (void)shutdown(c->sockets[i], SHUT_RDWR);
        (void)pthread_join(c->threads[i], NULL);
        (void)close(c->sockets[i]);
    }
    (void)close(c->listener);
}

#endif
