/* relay_socket.h - which process of this host is the relay, and how it is told of new mail.
 *
 * The relay holds a lock on PATH.lock, which the kernel frees at any death, and
 * listens for datagrams at PATH.  A datagram is only a hint: the name of a
 * partition that has mail.  Hints may be lost; the relay's passes find the rows.
 */
#ifndef LEAD_RELAY_SOCKET_H
#define LEAD_RELAY_SOCKET_H

#include <stdint.h>

#include "lib/base/limits.h"
#include "lib/base/span.h"
#include "lib/base/status.h"

struct relay_socket {
    int lock_fd;
    int fd;
    uint64_t path_hash; /* 0: closed */
};

#define RELAY_SOCKET_CLOSED ((struct relay_socket){-1, -1, 0})

/* Becomes the relay.  ST_EXISTS: another process is.  ST_IO: the files cannot be made. */
MUST_CHECK enum status relay_socket_claim(const char *path, struct relay_socket *socket, struct fail *why);
void relay_socket_release(struct relay_socket *socket);

/* Who is the relay of this path, without disturbing anybody.  ST_OK: *pid is the
 * process, or 0 when it is out of sight (another container's).  ST_NOT_FOUND: nobody. */
MUST_CHECK enum status relay_socket_holder(const char *path, long *pid, struct fail *why);

/* Takes one hint without waiting.  false when there is none. */
bool relay_socket_take(const struct relay_socket *socket, char partition[LIMIT_PARTITION_KEY_BYTES + 1]);

/* Where hints are sent from; one per thread or shared. */
MUST_CHECK enum status relay_hint_open(int *fd, struct fail *why);

/* Sends a hint and never waits; without a listener or with a full queue nothing
 * happens, nor where the relay is this process and has the same hint yet to take. */
void relay_hint(int fd, const char *path, const char *partition);

#endif
