#include "handler/listener.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

/* L0 */
#include "lib/base/limits.h"

bool listener_is_inherited(void)
{
    int listening = 0;
    socklen_t len = sizeof listening;
    return getsockopt(STDIN_FILENO, SOL_SOCKET, SO_ACCEPTCONN, &listening, &len) == 0 && listening != 0;
}

enum status listener_adopt(struct listener *listener, struct fail *why)
{
    /* The socket may become blocking between listener_unblock and accept. */
    struct timeval wait = {.tv_usec = WAIT_ACCEPT_MS * 1000};
    struct sockaddr_storage address = {0};
    socklen_t len = sizeof address;
    if (!listener_is_inherited())
        return fail_set(
            why, ST_INVALID, 0,
            "file descriptor 0 is no listening socket: set 'listen', or start this under spawn-fcgi, "
            "multiwatch, supervisor or systemd");
    if (getsockname(STDIN_FILENO, (struct sockaddr *)&address, &len) != 0 || address.ss_family != AF_UNIX)
        return fail_set(
            why, ST_INVALID, 0,
            "file descriptor 0 is no unix socket: FastCGI is trusted, so only nginx may reach it");
    if (setsockopt(STDIN_FILENO, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) != 0)
        return fail_set(why, ST_IO, errno, "cannot set up the inherited socket");
    *listener = (struct listener){.fd = STDIN_FILENO};
    listener_unblock(listener);
    return ST_OK;
}

void listener_unblock(const struct listener *listener)
{
    if (!listener->is_own)
        (void)fcntl(listener->fd, F_SETFL, O_NONBLOCK); /* does not fail on a socket */
}

/* Whether nobody listens there any more: the only answer on which a socket may be removed. */
static bool is_dead(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return false;
    bool dead = connect(fd, (const struct sockaddr *)address, sizeof *address) != 0 && errno == ECONNREFUSED;
    (void)close(fd);
    return dead;
}

static enum status bind_path(int fd, const struct sockaddr_un *address, struct fail *why)
{
    struct stat info;
    if (lstat(address->sun_path, &info) == 0) {
        if (!S_ISSOCK(info.st_mode))
            return fail_set(why, ST_IO, 0, "'%s' exists and is no socket", address->sun_path);
        if (!is_dead(address))
            return fail_set(why, ST_EXISTS, 0, "another process listens on '%s'", address->sun_path);
        if (unlink(address->sun_path) != 0 && errno != ENOENT)
            return fail_set(why, ST_IO, errno, "cannot remove the old socket '%s'", address->sun_path);
    }
    if (bind(fd, (const struct sockaddr *)address, sizeof *address) != 0)
        return fail_set(why, ST_IO, errno, "cannot make the socket '%s'", address->sun_path);
    return ST_OK;
}

static enum status give_to_group(const char *path, const char *group, struct fail *why)
{
    if (!group)
        return ST_OK;
    const struct group *entry = getgrnam(group); /* before any thread */
    if (!entry)
        return fail_set(why, ST_INVALID, 0, "there is no group '%s'", group);
    if (chown(path, (uid_t)-1, entry->gr_gid) != 0)
        return fail_set(why, ST_IO, errno, "cannot give '%s' to group '%s'", path, group);
    return ST_OK;
}

/* Of a socket that is bound: nobody can connect before listen, so whatever mode the umask has left it with
 * until here does no harm. */
static enum status open_path(struct listener *listener, unsigned int mode, const char *group,
                             struct fail *why)
{
    struct stat info;
    if (lstat(listener->path, &info) != 0)
        return fail_set(why, ST_IO, errno, "cannot examine '%s'", listener->path);
    listener->inode = info.st_ino;
    listener->device = info.st_dev;
    enum status status = give_to_group(listener->path, group, why);
    if (status == ST_OK && chmod(listener->path, (mode_t)mode) != 0)
        status = fail_set(why, ST_IO, errno, "cannot set the mode of '%s'", listener->path);
    if (status == ST_OK && listen(listener->fd, LIMIT_BACKLOG) != 0)
        status = fail_set(why, ST_IO, errno, "cannot listen on '%s'", listener->path);
    return status;
}

enum status listener_make(const char *path, unsigned int mode, const char *group, struct listener *listener,
                          struct fail *why)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return fail_set(why, ST_INVALID, 0, "the socket's path is too long");
    memcpy(address.sun_path, path, strlen(path) + 1);
    struct listener made = {.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0),
                            .path = path};
    if (made.fd < 0)
        return fail_set(why, ST_IO, errno, "cannot make a socket");
    enum status status = bind_path(made.fd, &address, why);
    if (status == ST_OK) {
        made.is_own = true; /* from here on it is removed again */
        status = open_path(&made, mode, group, why);
    }
    if (status != ST_OK)
        listener_close(&made);
    else
        *listener = made;
    return status;
}

void listener_stop(const struct listener *listener)
{
    if (listener->is_own)
        (void)shutdown(listener->fd, SHUT_RD);
}

void listener_close(struct listener *listener)
{
    struct stat info;
    if (listener->is_own && lstat(listener->path, &info) == 0 && info.st_ino == listener->inode &&
        info.st_dev == listener->device)
        (void)unlink(listener->path);
    if (listener->fd >= 0)
        (void)close(listener->fd);
    listener->fd = -1;
}
