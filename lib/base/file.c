#include "lib/base/file.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_CHUNK = 4096 };

static enum status read_all(int fd, const char *path, struct buf *out, struct fail *why)
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
    explicit_bzero(chunk, sizeof chunk);
    return buf_status(out, path, why);
}

enum status file_read(const char *path, enum file_privacy privacy, struct buf *out, struct fail *why)
{
    /* O_NONBLOCK: a FIFO in place of the file must not hang us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return fail_set(why, errno == ENOENT ? ST_NOT_FOUND : ST_IO, errno, "cannot open '%s'", path);
    struct stat info;
    enum status status = ST_OK;
    if (fstat(fd, &info) != 0)
        status = fail_set(why, ST_IO, errno, "cannot examine '%s'", path);
    else if (!S_ISREG(info.st_mode))
        status = fail_set(why, ST_IO, 0, "'%s' is not a regular file", path);
    else if (privacy == FILE_PRIVATE && (info.st_mode & (S_IRWXO | S_IWGRP)) != 0)
        status = fail_set(why, ST_DENIED, 0,
                          "'%s' holds secrets but has mode %04o: run chmod 0640 (or 0600) on it", path,
                          (unsigned int)(info.st_mode & 07777));
    if (status == ST_OK)
        status = read_all(fd, path, out, why);
    (void)close(fd); /* only read from */
    return status;
}
