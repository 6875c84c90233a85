/* listener.h - the socket on which nginx's requests arrive.
 *
 * Either file descriptor 0, handed over by spawn-fcgi, multiwatch, supervisor or
 * systemd and shared with other processes; or a unix socket of our own.
 */
#ifndef LEAD_LISTENER_H
#define LEAD_LISTENER_H

#include "lib/base/status.h"

#include <stdbool.h>

struct listener {
    int fd;
    bool is_own;
    const char *path; /* of our own socket; borrowed until listener_close */
    unsigned long inode;
    unsigned long device;
};

/* Whether file descriptor 0 is a listening socket. */
bool listener_is_inherited(void);

/* Takes over file descriptor 0 and makes it non-blocking, for the processes that
 * share it too.  ST_INVALID: it is no listening unix socket. */
MUST_CHECK enum status listener_adopt(struct listener *listener, struct fail *why);

/* To be called before connections are accepted: whoever shares an inherited socket
 * may have made it blocking again.  systemd does so whenever it starts another
 * instance or runs an ExecReload.  If that happens after this call, accept fails
 * with EAGAIN after WAIT_ACCEPT_MS. */
void listener_unblock(const struct listener *listener);

/* Makes a socket at path.  A dead process's socket is replaced; a live one, or
 * one of which that cannot be told, is refused (ST_EXISTS).  group may be NULL;
 * ST_INVALID: there is no such group, or the path is too long for a socket.
 * Not for two processes at the same moment with the same path. */
MUST_CHECK enum status listener_make(const char *path, unsigned int mode, const char *group,
                                     struct listener *listener, struct fail *why);

/* Our own socket takes no new connection from here on, but those that wait can
 * still be accepted; an inherited one stays open for others. */
void listener_stop(const struct listener *listener);

/* Closes it, and removes our own socket if it is still ours. */
void listener_close(struct listener *listener);

#endif
