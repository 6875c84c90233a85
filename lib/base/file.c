#include "lib/base/file.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"

enum { READ_CHUNK = 4096, LOCK_STEP_MS = 2 };

char *file_folder(const char *path)
{
    char *copy = strdup(path); /* dirname changes its argument, and may give something else */
    char *folder = copy ? strdup(dirname(copy)) : NULL;
    free(copy);
    return folder;
}

enum status file_sync_folder(const char *path, struct fail *why)
{
    char *folder = file_folder(path);
    if (!folder)
        return fail_set(why, ST_NOMEM, 0, "no memory to sync the folder of '%s'", path);
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status = ST_OK;
    if (fd < 0 || fsync(fd) != 0)
        status = fail_set(why, ST_IO, errno, "cannot sync the folder of '%s'", path);
    if (fd >= 0)
        (void)close(fd);
    free(folder);
    return status;
}

bool file_lock(int fd, int operation, int64_t deadline_ms)
{
    while (flock(fd, operation | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK && errno != EINTR)
            return false;
        if (clock_monotonic_ms() >= deadline_ms) {
            errno = EWOULDBLOCK;
            return false;
        }
        (void)poll(NULL, 0, LOCK_STEP_MS);
    }
    return true;
}

bool file_is_at(int fd, int folder, const char *name)
{
    struct stat ours, there;
    return fstat(fd, &ours) == 0 && fstatat(folder, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

enum status file_read_open(int fd, const char *path, struct buf *out, struct fail *why)
{
    char chunk[READ_CHUNK];
    for (;;) {
        ssize_t got = read(fd, chunk, sizeof chunk);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_set(why, ST_IO, errno, "cannot read '%s'", path);
        if (got == 0)
            break;
        buf_add(out, (struct span){chunk, (size_t)got});
        if (out->error != ST_OK)
            break;
    }
    crypto_wipe(chunk, sizeof chunk);
    return buf_status(out, path, why);
}

/* Whoever may write to a folder may put another file in the place of this one; with the sticky bit only its owner. */
static enum status check_folder(const char *path, enum file_privacy privacy, struct fail *why)
{
    struct stat info;
    char *folder = file_folder(path);
    if (!folder)
        return fail_set(why, ST_NOMEM, 0, "no memory to look at the folder of '%s'", path);
    enum status status = ST_OK;
    if (stat(folder, &info) != 0)
        status = fail_set(why, ST_IO, errno, "cannot examine '%s'", folder);
    else if ((info.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (info.st_mode & S_ISVTX) == 0)
        status = fail_set(why, ST_DENIED, 0,
                          "'%s' %s others may replace it: its folder '%s' has mode %04o; run chmod go-w on "
                          "the folder",
                          path, privacy == FILE_PRIVATE ? "holds secrets, and" : "is not safe,", folder,
                          (unsigned int)(info.st_mode & 07777));
    free(folder);
    return status;
}

static enum status check_privacy(int fd, const char *path, enum file_privacy privacy, struct fail *why)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return fail_set(why, ST_IO, errno, "cannot examine '%s'", path);
    if (privacy == FILE_GUARDED && (info.st_mode & (S_IWOTH | S_IWGRP)) != 0)
        return fail_set(why, ST_DENIED, 0,
                        "'%s' is not safe, others may write to it: it has mode %04o; run chmod go-w on it",
                        path, (unsigned int)(info.st_mode & 07777));
    if (privacy == FILE_PRIVATE && (info.st_mode & (S_IRWXO | S_IWGRP)) != 0)
        return fail_set(why, ST_DENIED, 0,
                        "'%s' holds secrets but has mode %04o: run chmod 0640 (or 0600) on it", path,
                        (unsigned int)(info.st_mode & 07777));
    char *target = realpath(path, NULL);
    if (!target)
        return fail_set(why, ST_IO, errno, "cannot find where '%s' lies", path);
    enum status status = check_folder(path, privacy, why);
    if (status == ST_OK)
        status = check_folder(target, privacy, why);
    free(target);
    return status;
}

enum status file_check_private(int fd, const char *path, struct fail *why)
{
    return check_privacy(fd, path, FILE_PRIVATE, why);
}

/* A file whose mode allows it and that cannot be opened is kept from us by something else. */
static enum status cannot_open(const char *path, struct fail *why)
{
    int error = errno;
    if (error == EACCES && access(path, R_OK) == 0)
        return fail_set(why, ST_IO, 0,
                        "'%s' lies outside of what this process may read since its start: restart for that",
                        path);
    return fail_set(why, error == ENOENT ? ST_NOT_FOUND : ST_IO, error, "cannot open '%s'", path);
}

enum status file_read(const char *path, enum file_privacy privacy, struct buf *out, struct fail *why)
{
    /* O_NONBLOCK: a FIFO in place of the file must not hang us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return cannot_open(path, why);
    struct stat info;
    enum status status = ST_OK;
    if (fstat(fd, &info) != 0)
        status = fail_set(why, ST_IO, errno, "cannot examine '%s'", path);
    else if (!S_ISREG(info.st_mode))
        status = fail_set(why, ST_IO, 0, "'%s' is not a regular file", path);
    else if (privacy != FILE_PUBLIC)
        status = check_privacy(fd, path, privacy, why);
    if (status == ST_OK)
        status = file_read_open(fd, path, out, why);
    (void)close(fd); /* only read from */
    return status;
}
