/* file_edit.h - changing a small file whole, so that at every moment the old or the new one is there.
 *
 * The new content goes into a file of its own in the same folder, with the
 * owner, group and mode of the old one, is synced and takes the old one's name;
 * then the folder is synced.  A lock on the file keeps two such edits apart.  An
 * editor takes no lock: what it changed meanwhile is noticed and kept, and the
 * edit fails.  A symbolic link stays, and the file that it leads to is replaced;
 * out of a folder that is neither root's nor our user's none is followed.
 * Access lists beyond the mode are not taken over.
 * Threads: one at a time.
 */
#ifndef LEAD_FILE_EDIT_H
#define LEAD_FILE_EDIT_H

#include <sys/stat.h>

#include "lib/base/buf.h"

struct file_edit {
    char *path; /* without symbolic links */
    int folder;
    int file; /* the old one, locked */
    struct stat info;
};

#define FILE_EDIT_INIT ((struct file_edit){.folder = -1, .file = -1})

/* Opens and locks the file, which must be private (file_check_private), and
 * appends its content.  Where there is none an empty one is made with mode 0640
 * and the folder's owner and group or, if that is not allowed, with mode 0600.
 * ST_AGAIN: another edit holds the lock; ST_DENIED, ST_IO, ST_TOO_LARGE, ST_NOMEM. */
MUST_CHECK enum status file_edit_begin(const char *path, struct file_edit *edit, struct buf *content,
                                       struct fail *why);

/* Makes content that of the file, durably.  ST_CHANGED: somebody else has
 * changed it; ST_UNKNOWN: it is replaced, but may not outlast a power cut. */
MUST_CHECK enum status file_edit_commit(struct file_edit *edit, struct span content, struct fail *why);

/* Unlocks and closes; also after a begin that failed. */
void file_edit_end(struct file_edit *edit);

#endif
