/* By system calls, as libc has no functions for them.  Debian 12's headers know version 2 of the interface, kernels go
 * further: what is newer is defined here (from the kernel's documentation, userspace-api/landlock).  A kernel refuses
 * rights that are newer than itself, so each version gets what it knows.
 */
#include "handler/landlock.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { VERSION_LINKS = 2, VERSION_TRUNCATE = 3, VERSION_PORTS = 4, VERSION_DEVICES = 5, VERSION_SCOPES = 6 };

/* Newer than version 2. */
#define FS_TRUNCATE           (1ULL << 14)
#define FS_IOCTL_DEVICES      (1ULL << 15)
#define NET_BIND_TCP          (1ULL << 0)
#define NET_CONNECT_TCP       (1ULL << 1)
#define SCOPE_ABSTRACT_SOCKET (1ULL << 0)
#define SCOPE_SIGNAL          (1ULL << 1)
enum { RULE_NET_PORT = 2 };

struct ruleset_attributes {
    uint64_t files;
    uint64_t net;
    uint64_t scoped;
};

struct port_attributes {
    uint64_t allowed;
    uint64_t port;
};

#define READ_FILES  ((uint64_t)LANDLOCK_ACCESS_FS_READ_FILE)
#define READ_ALL    (READ_FILES | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITE_FILES (READ_FILES | LANDLOCK_ACCESS_FS_WRITE_FILE | FS_TRUNCATE)
#define WRITE_ALL                                                                                            \
    (READ_ALL | WRITE_FILES | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG |                 \
     LANDLOCK_ACCESS_FS_MAKE_SOCK)
#define FOLDERS_ALL (WRITE_ALL | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_REFER)
#define EVERY_FILE_RIGHT                                                                                     \
    (FOLDERS_ALL | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_REMOVE_DIR |                              \
     LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |           \
     LANDLOCK_ACCESS_FS_MAKE_SYM | FS_IOCTL_DEVICES)

/* Those file rights that the kernel knows. */
static uint64_t known(const struct landlock *list, uint64_t rights)
{
    if (list->version < VERSION_TRUNCATE)
        rights &= ~FS_TRUNCATE;
    if (list->version < VERSION_DEVICES)
        rights &= ~FS_IOCTL_DEVICES;
    return rights;
}

enum status landlock_open(struct landlock *list, struct fail *why)
{
    *list = (struct landlock){.fd = -1};
    list->version =
        (int)syscall(SYS_landlock_create_ruleset, NULL, (size_t)0, LANDLOCK_CREATE_RULESET_VERSION);
    if (list->version < 0)
        return fail_set(why, ST_NOT_FOUND, errno, "this kernel has no Landlock, or it is switched off");
    if (list->version < VERSION_LINKS)
        return fail_set(why, ST_NOT_FOUND, 0, "this kernel's Landlock is of version %d, too old",
                        list->version);
    struct ruleset_attributes all = {.files = known(list, EVERY_FILE_RIGHT)};
    size_t size = offsetof(struct ruleset_attributes, net);
    if (list->version >= VERSION_PORTS) {
        all.net = NET_BIND_TCP | NET_CONNECT_TCP;
        size = offsetof(struct ruleset_attributes, scoped);
        list->has_ports = true;
    }
    if (list->version >= VERSION_SCOPES) {
        all.scoped = SCOPE_ABSTRACT_SOCKET | SCOPE_SIGNAL;
        size = sizeof all;
    }
    list->fd = (int)syscall(SYS_landlock_create_ruleset, &all, size, 0u);
    return list->fd >= 0 ? ST_OK : fail_set(why, ST_IO, errno, "cannot make a list for Landlock");
}

void landlock_close(struct landlock *list)
{
    if (list->fd >= 0)
        (void)close(list->fd);
    list->fd = -1;
}

/* What each use means for a folder, and for what is none: the kernel refuses rights that such a thing cannot have. */
static uint64_t rights_of(enum landlock_use use, bool is_folder)
{
    switch (use) {
    case LANDLOCK_READ:
        return is_folder ? READ_ALL : READ_FILES;
    case LANDLOCK_WRITE:
        return is_folder ? WRITE_ALL : WRITE_FILES;
    case LANDLOCK_FOLDERS:
        return is_folder ? FOLDERS_ALL : WRITE_FILES;
    }
    return 0;
}

enum status landlock_allow(const struct landlock *list, const char *path, enum landlock_use use,
                           struct fail *why)
{
    struct stat info;
    struct landlock_path_beneath_attr rule = {.parent_fd = open(path, O_PATH | O_CLOEXEC)};
    if (rule.parent_fd < 0)
        return errno == ENOENT || errno == ENOTDIR || errno == EACCES
                   ? ST_OK
                   : fail_set(why, ST_IO, errno, "cannot look at '%s' for Landlock", path);
    enum status status = ST_OK;
    if (fstat(rule.parent_fd, &info) == 0)
        rule.allowed_access = known(list, rights_of(use, S_ISDIR(info.st_mode)));
    if (rule.allowed_access == 0 ||
        syscall(SYS_landlock_add_rule, list->fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0u) != 0)
        status = fail_set(why, ST_IO, errno, "cannot allow '%s' with Landlock", path);
    (void)close(rule.parent_fd); /* only pointed at the file */
    return status;
}

enum status landlock_allow_port(const struct landlock *list, unsigned int port, struct fail *why)
{
    struct port_attributes rule = {.allowed = NET_CONNECT_TCP, .port = port};
    if (!list->has_ports || syscall(SYS_landlock_add_rule, list->fd, RULE_NET_PORT, &rule, 0u) == 0)
        return ST_OK;
    return fail_set(why, ST_IO, errno, "cannot allow port %u with Landlock", port);
}

enum status landlock_enforce(struct landlock *list, struct fail *why)
{
    enum status status = ST_OK;
    if (syscall(SYS_landlock_restrict_self, list->fd, 0u) != 0)
        status = fail_set(why, ST_IO, errno, "cannot put Landlock in force");
    landlock_close(list);
    return status;
}
