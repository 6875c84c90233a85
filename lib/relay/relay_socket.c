#include "lib/relay/relay_socket.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <unistd.h>

/* L0 */
#include "lib/base/buf.h"
#include "lib/base/file.h"
#include "lib/base/text.h"

enum { LOCK_LINE_BYTES = 256, MARKS = 64 };

/* Where this process is the relay itself: which hints have been sent and not yet taken, each at the place that its
 * hash gives it.  0: none.  Where two fall into one place, the later one stands there and the earlier one's partition
 * may be sent again. */
static _Atomic uint64_t marks[MARKS];
static _Atomic uint64_t own_path; /* the hash of the path that this process listens at; 0: at none */

static uint64_t hash_of_path(const char *path)
{
    return text_hash(TEXT_HASH_BEGIN, path);
}

static bool address_of(const char *path, struct sockaddr_un *address)
{
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len >= sizeof address->sun_path)
        return false;
    memcpy(address->sun_path, path, len + 1);
    return true;
}

static enum status lock(const char *path, int *fd, struct fail *why)
{
    struct buf name = BUF_INIT(LIMIT_PATH_BYTES);
    buf_addf(&name, "%s.lock", path);
    enum status status = buf_status(&name, "the relay lock's path", why);
    if (status != ST_OK)
        return status;
    *fd = open(name.data, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (*fd < 0)
        status = fail_set(why, ST_IO, errno, "cannot open the relay lock '%s'", name.data);
    else if (flock(*fd, LOCK_EX | LOCK_NB) != 0)
        status = errno == EWOULDBLOCK ? fail_set(why, ST_EXISTS, 0, "another process is this host's relay")
                                      : fail_set(why, ST_IO, errno, "cannot lock '%s'", name.data);
    buf_release(&name);
    return status;
}

enum status relay_socket_claim(const char *path, struct relay_socket *socket_out, struct fail *why)
{
    struct relay_socket s = RELAY_SOCKET_CLOSED;
    struct sockaddr_un address;
    if (!address_of(path, &address))
        return fail_set(why, ST_INVALID, 0, "the path of the relay socket is longer than %zu bytes",
                        sizeof address.sun_path - 1);
    enum status status = lock(path, &s.lock_fd, why);
    if (status != ST_OK) {
        relay_socket_release(&s);
        return status;
    }
    /* We hold the lock, so a socket that is there belongs to nobody. */
    (void)unlink(path);
    s.fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (s.fd < 0 || bind(s.fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        status = fail_set(why, ST_IO, errno, "cannot make the relay socket '%s'", path);
        relay_socket_release(&s);
        return status;
    }
    for (size_t i = 0; i < MARKS; i++)
        atomic_store(&marks[i], 0);
    s.path_hash = hash_of_path(path);
    atomic_store(&own_path, s.path_hash);
    *socket_out = s;
    return ST_OK;
}

void relay_socket_release(struct relay_socket *socket_out)
{
    if (socket_out->path_hash && socket_out->path_hash == atomic_load(&own_path))
        atomic_store(&own_path, 0);
    /* The file stays: the next holder of the lock replaces it, and a hint to nobody is not an error. */
    if (socket_out->fd >= 0)
        (void)close(socket_out->fd);
    if (socket_out->lock_fd >= 0)
        (void)close(socket_out->lock_fd);
    *socket_out = RELAY_SOCKET_CLOSED;
}

/* The process that the kernel's list of locks names for this file; 0: none. */
static long locker_of(const struct stat *file)
{
    struct buf list = BUF_INIT(LIMIT_LOCK_LIST_BYTES);
    struct span rest, line;
    long pid = 0;
    if (file_read("/proc/locks", FILE_PUBLIC, &list, NULL) != ST_OK)
        buf_reset(&list); /* longer than we look at, or not there: it is only for the name */
    rest = buf_span(&list);
    while (pid == 0 && span_next(&rest, '\n', &line)) {
        /* "7: FLOCK  ADVISORY  WRITE 1234 fe:00:10952712 0 EOF"; "7: -> FLOCK ..." waits for it. */
        char text[LOCK_LINE_BYTES];
        long locker;
        unsigned int major_number, minor_number;
        unsigned long long inode;
        (void)snprintf(text, sizeof text, "%.*s", SPAN_FMT(line));
        /* NOLINTNEXTLINE(cert-err34-c): the kernel wrote the numbers, and all four must be there */
        if (sscanf(text, "%*u: FLOCK %*s WRITE %ld %x:%x:%llu", &locker, &major_number, &minor_number,
                   &inode) == 4 &&
            major_number == major(file->st_dev) && minor_number == minor(file->st_dev) &&
            inode == file->st_ino)
            pid = locker;
    }
    buf_release(&list);
    return pid > 0 ? pid : 0;
}

enum status relay_socket_holder(const char *path, long *pid, struct fail *why)
{
    struct buf name = BUF_INIT(LIMIT_PATH_BYTES);
    struct stat info;
    buf_addf(&name, "%s.lock", path);
    enum status status = buf_status(&name, "the relay lock's path", why);
    if (status != ST_OK)
        return status;
    int fd = open(name.data, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0 || fstat(fd, &info) != 0) {
        status = errno == ENOENT
                     ? fail_set(why, ST_NOT_FOUND, 0, "nobody has been this host's relay yet")
                     : fail_set(why, ST_IO, errno, "cannot look at the relay lock '%s'", name.data);
    } else {
        *pid = locker_of(&info);
        /* Only a lock that nobody is seen to hold is tried, so that no relay finds it taken by us. */
        if (*pid == 0 && flock(fd, LOCK_SH | LOCK_NB) == 0)
            status = fail_set(why, ST_NOT_FOUND, 0, "nobody is this host's relay");
        else if (*pid == 0 && errno != EWOULDBLOCK)
            status = fail_set(why, ST_IO, errno, "cannot look at the relay lock '%s'", name.data);
    }
    if (fd >= 0)
        (void)close(fd);
    buf_release(&name);
    return status;
}

bool relay_socket_take(const struct relay_socket *socket_out, char partition[LIMIT_PARTITION_KEY_BYTES + 1])
{
    ssize_t got = recv(socket_out->fd, partition, LIMIT_PARTITION_KEY_BYTES, MSG_DONTWAIT);
    if (got < 0)
        return false;
    partition[got] = '\0';
    /* Before the caller looks: what is stored from here on is a reason for another hint. */
    uint64_t mark = text_hash(socket_out->path_hash, partition);
    (void)atomic_compare_exchange_strong(&marks[mark % MARKS], &mark, 0);
    return true;
}

enum status relay_hint_open(int *fd, struct fail *why)
{
    *fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    return *fd >= 0 ? ST_OK : fail_set(why, ST_IO, errno, "cannot make a socket for hints");
}

static bool send_hint(int fd, const char *path, const char *partition)
{
    struct sockaddr_un address;
    return address_of(path, &address) && sendto(fd, partition, strlen(partition), MSG_DONTWAIT | MSG_NOSIGNAL,
                                                (const struct sockaddr *)&address, sizeof address) >= 0;
}

void relay_hint(int fd, const char *path, const char *partition)
{
    uint64_t path_hash = hash_of_path(path);
    _Atomic uint64_t *place = NULL;
    if (path_hash == atomic_load(&own_path)) {
        uint64_t mark = text_hash(path_hash, partition);
        place = &marks[mark % MARKS];
        if (atomic_exchange(place, mark) == mark)
            return;
    }
    /* A lost hint only delays the mail until the next pass. */
    if (!send_hint(fd, path, partition) && place) {
        atomic_store(place, 0);
        (void)send_hint(fd, path, partition); /* for those that have found the mark meanwhile */
    }
}
