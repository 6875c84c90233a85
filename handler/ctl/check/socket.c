/* The socket between nginx and leadhook: whether somebody listens there, and nginx may connect to it. */
#include "handler/ctl/check/check.h"

/* System */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

/* L0 */
#include "lib/base/file.h"

enum { GROUPS_MAX = 256 };

/* Whether a user may use a file: bit is that of others, S_IWOTH or S_IXOTH. */
static bool may_use(const struct passwd *user, const struct stat *file, mode_t bit)
{
    gid_t groups[GROUPS_MAX];
    int count = GROUPS_MAX;
    if (user->pw_uid == 0)
        return true;
    if (user->pw_uid == file->st_uid)
        return (file->st_mode & (bit << 6)) != 0;
    if (getgrouplist(user->pw_name, user->pw_gid, groups, &count) < 0)
        return true; /* nobody can tell */
    for (int i = 0; i < count; i++) {
        if (groups[i] == file->st_gid)
            return (file->st_mode & (bit << 3)) != 0;
    }
    return (file->st_mode & bit) != 0;
}

static void check_socket_rights(struct check *c, const char *user_name, const char *path)
{
    struct stat file = {0}, folder = {0};
    char *name = file_folder(path);
    const struct passwd *user = *user_name ? getpwnam(user_name) : NULL;
    if (user && name && stat(path, &file) == 0 && stat(name, &folder) == 0 &&
        !(may_use(user, &folder, S_IXOTH) && may_use(user, &file, S_IWOTH)))
        check_say(
            c, CHECK_FAIL, "socket",
            "senders get 503: nginx may not open the socket (Permission denied in its log)",
            "set listen_group, or SocketGroup= of leadhook.socket, to nginx's group, mode 0660, and let that group into the folder",
            "user '%s', as whom nginx works, may not connect to '%s' (mode %04o in a folder of mode %04o)",
            user_name, path, (unsigned int)(file.st_mode & 07777), (unsigned int)(folder.st_mode & 07777));
    free(name);
}

static int try_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return ENAMETOOLONG;
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error = fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 ? errno : 0;
    if (fd >= 0)
        (void)close(fd);
    return error;
}

void check_socket(struct check *c, const char *path, const char *nginx_user)
{
    int error = try_connect(path);
    if (error == 0 || error == EAGAIN) {
        check_say(c, CHECK_OK, "socket", NULL, NULL, "'%s' takes connections", path);
        check_socket_rights(c, nginx_user, path);
    } else {
        check_say(
            c, error == EACCES ? CHECK_FAIL : CHECK_WARN, "socket",
            error == EACCES ? "this user may not open it" : "leadhook does not run: senders get 503",
            "systemctl enable --now leadhook.socket leadhook@1, or whatever starts it here; look at its log",
            "'%s': %s", path, strerrordesc_np(error));
    }
}
