/* file.h - reading small files whole, secrets with a check of who may see them.
 */
#ifndef LEAD_FILE_H
#define LEAD_FILE_H

#include <stdint.h>

#include "lib/base/buf.h"

enum file_privacy {
    FILE_PUBLIC,
    FILE_GUARDED, /* others may read it, and neither write it nor replace it */
    FILE_PRIVATE
};

/* Appends the content of a regular file; out's limit bounds it.
 * FILE_PRIVATE refuses what file_check_private refuses, FILE_GUARDED the same
 * but that others may read it.  Also: ST_NOT_FOUND, ST_IO, ST_TOO_LARGE, ST_NOMEM.  The messages name the path, never the content. */
MUST_CHECK enum status file_read(const char *path, enum file_privacy privacy, struct buf *out,
                                 struct fail *why);

/* Refuses, with ST_DENIED and what to do, a file that others may read, write or
 * execute or its group may write, and one that others or a group may replace:
 * they may write to the folder in which it lies, or in which the symbolic link
 * to it does, and that folder has no sticky bit.  fd: the file, opened. */
MUST_CHECK enum status file_check_private(int fd, const char *path, struct fail *why);

/* The name of the folder in which path lies, for free(); NULL: no memory. */
MUST_CHECK char *file_folder(const char *path);

/* Makes sure that what was made in the folder in which path lies outlives a power cut.  ST_IO, ST_NOMEM. */
MUST_CHECK enum status file_sync_folder(const char *path, struct fail *why);

/* Takes a lock of flock(2), LOCK_SH or LOCK_EX, or waits for it until deadline_ms (monotonic).  false: errno is
 * EWOULDBLOCK if others still hold it. */
MUST_CHECK bool file_lock(int fd, int operation, int64_t deadline_ms);

/* Whether the open file is the one of that name, which is no symbolic link; folder: what a relative name begins at. */
bool file_is_at(int fd, int folder, const char *name);

/* Appends what the open file holds from its present offset on; the statuses are those of file_read. */
MUST_CHECK enum status file_read_open(int fd, const char *path, struct buf *out, struct fail *why);

#endif
