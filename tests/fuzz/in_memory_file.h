/* in_memory_file.h - file_read for fuzz targets: one file, whose content is the input.
 *
 * Takes the place of lib/base/file.c when the target is linked, so that nothing
 * an input names is opened.
 */
#ifndef LEAD_FUZZ_IN_MEMORY_FILE_H
#define LEAD_FUZZ_IN_MEMORY_FILE_H

#include "lib/base/file.h"
#include "tests/fuzz/fuzz.h"

#define FILE_PATH "/file"

static struct span file_content;

enum status file_read(const char *path, enum file_privacy privacy, struct buf *out, struct fail *why)
{
    (void)privacy;
    if (strcmp(path, FILE_PATH) != 0)
        return fail_set(why, ST_NOT_FOUND, 0, "there is no such file");
    buf_add(out, file_content);
    return buf_status(out, path, why);
}

#endif
