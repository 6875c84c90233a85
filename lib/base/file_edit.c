#include "lib/base/file_edit.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/file.h"

enum { LOCK_WAIT_MS = 5000, REPLACE_TRIES = 100, NAME_BYTES = 256 };

static const char *name_in(const struct file_edit *edit)
{
    return strrchr(edit->path, '/') + 1;
}

/* --- opening ------------------------------------------------------------------------------------------------- */

/* Makes an empty file at path if nothing is there, so that one way leads to all files. */
static enum status make_if_missing(const char *path, struct fail *why)
{
    struct stat info;
    char *folder = file_folder(path);
    if (!folder)
        return fail_set(why, ST_NOMEM, 0, "no memory to make '%s'", path);
    bool has_folder = stat(folder, &info) == 0;
    free(folder);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return ST_OK;
    if (fd < 0)
        return fail_set(why, ST_IO, errno, "cannot make '%s'", path);
    /* leadhook's group is that of the folder, in which it shall read. */
    enum status status = ST_OK;
    if (has_folder && fchown(fd, info.st_uid, info.st_gid) == 0 && fchmod(fd, 0640) != 0)
        status = fail_set(why, ST_IO, errno, "cannot set the mode of '%s'", path);
    (void)close(fd); /* nothing was written */
    return status;
}

static enum status lock(int fd, const char *path, struct fail *why)
{
    if (file_lock(fd, LOCK_EX, clock_monotonic_ms() + LOCK_WAIT_MS))
        return ST_OK;
    if (errno != EWOULDBLOCK)
        return fail_set(why, ST_IO, errno, "cannot lock '%s'", path);
    return fail_set(why, ST_AGAIN, 0, "another program is changing '%s' and does not end: try again later",
                    path);
}

static void close_file(struct file_edit *edit)
{
    if (edit->file >= 0)
        (void)close(edit->file); /* which unlocks it */
    edit->file = -1;
}

/* Another edit may put a new file there before we have the old one's lock. */
static enum status open_locked(struct file_edit *edit, struct fail *why)
{
    for (int tries = 0; tries < REPLACE_TRIES; tries++) {
        close_file(edit);
        edit->file = openat(edit->folder, name_in(edit), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
        if (edit->file < 0)
            return fail_set(why, ST_IO, errno, "cannot open '%s'", edit->path);
        enum status status = lock(edit->file, edit->path, why);
        if (status != ST_OK)
            return status;
        if (fstat(edit->file, &edit->info) != 0)
            return fail_set(why, ST_IO, errno, "cannot examine '%s'", edit->path);
        if (!S_ISREG(edit->info.st_mode))
            return fail_set(why, ST_IO, 0, "'%s' is not a regular file", edit->path);
        if (file_is_at(edit->file, edit->folder, name_in(edit)))
            return ST_OK;
    }
    return fail_set(why, ST_AGAIN, 0, "'%s' is replaced all the time: try again later", edit->path);
}

static enum status open_folder(struct file_edit *edit, struct fail *why)
{
    char *folder = file_folder(edit->path);
    if (!folder)
        return fail_set(why, ST_NOMEM, 0, "no memory to open the folder of '%s'", edit->path);
    edit->folder = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    enum status status =
        edit->folder >= 0 ? ST_OK : fail_set(why, ST_IO, errno, "cannot open the folder '%s'", folder);
    free(folder);
    return status;
}

/* In a folder of somebody else's a link is theirs, too: it could lead root to any file of root's. */
static enum status check_link(const struct file_edit *edit, const char *path, struct fail *why)
{
    struct stat named, real;
    char *folder = file_folder(path);
    if (!folder)
        return fail_set(why, ST_NOMEM, 0, "no memory to look at the folder of '%s'", path);
    enum status status = ST_OK;
    if (stat(folder, &named) != 0 || fstat(edit->folder, &real) != 0)
        status = fail_set(why, ST_IO, errno, "cannot examine the folder of '%s'", path);
    else if (named.st_uid != 0 && named.st_uid != geteuid() &&
             (named.st_dev != real.st_dev || named.st_ino != real.st_ino))
        status = fail_set(why, ST_DENIED, 0,
                          "'%s' is a symbolic link to another folder, '%s', and lies in one that belongs to "
                          "somebody else: put the file itself there, or give '%s' to root",
                          path, edit->path, folder);
    free(folder);
    return status;
}

enum status file_edit_begin(const char *path, struct file_edit *edit, struct buf *content, struct fail *why)
{
    *edit = FILE_EDIT_INIT;
    enum status status = make_if_missing(path, why);
    if (status != ST_OK)
        return status;
    edit->path = realpath(path, NULL);
    if (!edit->path)
        return fail_set(why, ST_IO, errno, "cannot find where '%s' lies", path);
    status = open_folder(edit, why);
    if (status == ST_OK)
        status = check_link(edit, path, why);
    if (status == ST_OK)
        status = open_locked(edit, why);
    if (status == ST_OK)
        status = file_check_private(edit->file, path, why);
    if (status == ST_OK)
        status = file_read_open(edit->file, path, content, why);
    return status;
}

void file_edit_end(struct file_edit *edit)
{
    close_file(edit);
    if (edit->folder >= 0)
        (void)close(edit->folder);
    free(edit->path);
    *edit = FILE_EDIT_INIT;
}

/* --- replacing ----------------------------------------------------------------------------------------------- */

static enum status write_all(int fd, struct span content, const char *path, struct fail *why)
{
    while (content.len) {
        ssize_t written = write(fd, content.ptr, content.len);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0)
            return fail_set(why, ST_IO, errno, "cannot write what shall replace '%s'", path);
        content = span_from(content, (size_t)written);
    }
    return ST_OK;
}

/* Writes the content into the new file, complete with its owner and mode, and syncs it. */
static enum status fill(int fd, const struct file_edit *edit, struct span content, struct fail *why)
{
    struct stat info;
    if (fstat(fd, &info) != 0)
        return fail_set(why, ST_IO, errno, "cannot examine what shall replace '%s'", edit->path);
    if ((info.st_uid != edit->info.st_uid || info.st_gid != edit->info.st_gid) &&
        fchown(fd, edit->info.st_uid, edit->info.st_gid) != 0)
        return fail_set(why, ST_IO, errno, "cannot keep the owner and group of '%s' (run it as root)",
                        edit->path);
    if (fchmod(fd, edit->info.st_mode & 07777) != 0)
        return fail_set(why, ST_IO, errno, "cannot keep the mode of '%s'", edit->path);
    enum status status = write_all(fd, content, edit->path, why);
    if (status == ST_OK && fsync(fd) != 0)
        status = fail_set(why, ST_IO, errno, "cannot sync what shall replace '%s'", edit->path);
    return status;
}

/* An editor may have written into it, or put a file of its own there. */
static enum status check_unchanged(const struct file_edit *edit, struct fail *why)
{
    struct stat now;
    if (file_is_at(edit->file, edit->folder, name_in(edit)) && fstat(edit->file, &now) == 0 &&
        now.st_size == edit->info.st_size && now.st_mtim.tv_sec == edit->info.st_mtim.tv_sec &&
        now.st_mtim.tv_nsec == edit->info.st_mtim.tv_nsec)
        return ST_OK;
    return fail_set(why, ST_CHANGED, 0, "'%s' was changed meanwhile: nothing was done, run it again",
                    edit->path);
}

enum status file_edit_commit(struct file_edit *edit, struct span content, struct fail *why)
{
    char name[NAME_BYTES];
    /* Always the same name, under the lock: one that was cut off leaves one file at most, for the next to remove. */
    int len = snprintf(name, sizeof name, ".%s.new", name_in(edit));
    if (len < 0 || (size_t)len >= sizeof name)
        return fail_set(why, ST_TOO_LARGE, 0, "the name of '%s' is too long", edit->path);
    if (unlinkat(edit->folder, name, 0) != 0 && errno != ENOENT)
        return fail_set(why, ST_IO, errno, "cannot remove '%s' beside '%s'", name, edit->path);
    int fd = openat(edit->folder, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail_set(why, ST_IO, errno, "cannot make a file beside '%s' (run it as root)", edit->path);
    enum status status = fill(fd, edit, content, why);
    if (close(fd) != 0 && status == ST_OK)
        status = fail_set(why, ST_IO, errno, "cannot write what shall replace '%s'", edit->path);
    if (status == ST_OK)
        status = check_unchanged(edit, why);
    if (status == ST_OK && renameat(edit->folder, name, edit->folder, name_in(edit)) != 0)
        status = fail_set(why, ST_IO, errno, "cannot replace '%s'", edit->path);
    if (status != ST_OK) {
        (void)unlinkat(edit->folder, name, 0);
        return status;
    }
    if (fsync(edit->folder) != 0)
        return fail_set(why, ST_UNKNOWN, errno, "'%s' is replaced, but its folder cannot be synced",
                        edit->path);
    return ST_OK;
}
