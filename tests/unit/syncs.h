/* syncs.h - the calls of fsync and fdatasync on one file, also SQLite's: they are counted, fail, or are a
 * moment at which something else happens.
 *
 * The program's own definitions come before libc's, for the libraries too.
 */
#ifndef LEAD_TEST_SYNCS_H
#define LEAD_TEST_SYNCS_H

#include <errno.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static const char *sync_suffix; /* of the file's path; NULL: no file is looked at */
static int sync_error;          /* with which they fail; 0: they do not */
static void (*sync_hook)(void); /* called before the next one, once; NULL: nothing is */
static _Atomic int sync_count;

/* From now on, until the next call. */
static void watch_syncs(const char *suffix, int error)
{
    sync_suffix = suffix;
    sync_error = error;
    sync_hook = NULL;
    atomic_store(&sync_count, 0);
}

static bool is_watched(int fd)
{
    char link[64], path[4096];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path);
    size_t wanted = sync_suffix ? strlen(sync_suffix) : 0;
    return wanted > 0 && length >= (ssize_t)wanted &&
           memcmp(path + (size_t)length - wanted, sync_suffix, wanted) == 0;
}

static int sync_file(long call, int fd)
{
    if (is_watched(fd)) {
        void (*hook)(void) = sync_hook;
        sync_hook = NULL;
        atomic_fetch_add(&sync_count, 1);
        if (hook)
            hook();
        if (sync_error) {
            errno = sync_error;
            return -1;
        }
    }
    return (int)syscall(call, fd);
}

__attribute__((visibility("default"))) int fsync(int fd)
{
    return sync_file(SYS_fsync, fd);
}

__attribute__((visibility("default"))) int fdatasync(int fd)
{
    return sync_file(SYS_fdatasync, fd);
}

#endif
