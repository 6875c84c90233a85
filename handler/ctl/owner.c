#include "handler/ctl/owner.h"

/* System */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* L0 */
#include "lib/base/file.h"

enum status owner_become(const struct config *config, struct fail *why)
{
    const char *path = config->sqlite_path ? config->sqlite_path : config->spool_path;
    struct stat folder = {0};
    char *name = path && geteuid() == 0 ? file_folder(path) : NULL;
    bool is_others = name && stat(name, &folder) == 0 && folder.st_uid != 0;
    free(name);
    if (!is_others)
        return ST_OK; /* one that is not there is the command's to report */
    const struct passwd *user = getpwuid(folder.st_uid);
    gid_t group = user ? user->pw_gid : folder.st_gid;
    int failed = user ? initgroups(user->pw_name, group) : setgroups(0, NULL);
    if (failed != 0 || setgid(group) != 0 || setuid(folder.st_uid) != 0)
        return fail_set(why, ST_IO, errno, "cannot become the user whose folder '%s' is in", path);
    return ST_OK;
}
