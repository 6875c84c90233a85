/* listen.h - how a test server begins. */
#ifndef HARNESS_LISTEN_H
#define HARNESS_LISTEN_H

/* System */
#include <arpa/inet.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

/* A listening socket, not blocking, at this port of 127.0.0.1 (0: the kernel's choice), of which it prints
 * "listening PORT".  Ends the program when there is none. */
static int listen_on(uint16_t port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    socklen_t size = sizeof address;
    int on = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
        bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0) {
        perror("listening socket");
        exit(1);
    }
    printf("listening %u\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

#endif
