/* file.h - reading small files whole, secrets with a check of who may see them.
 */
#ifndef LEAD_FILE_H
#define LEAD_FILE_H

#include "lib/base/buf.h"

enum file_privacy { FILE_PUBLIC, FILE_PRIVATE };

/* Appends the content of a regular file; out's limit bounds it.
 * FILE_PRIVATE refuses, with ST_DENIED and what to do, a file that others may
 * read, write or execute, or its group may write.  Also: ST_NOT_FOUND, ST_IO,
 * ST_TOO_LARGE, ST_NOMEM.  The messages name the path, never the content. */
MUST_CHECK enum status file_read(const char *path, enum file_privacy privacy, struct buf *out,
                                 struct fail *why);

#endif
