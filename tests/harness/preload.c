/* preload - makes chosen calls of a program fail: a library for LD_PRELOAD.
 *
 *   LH_FAULT=CALLS:ACTION:WHEN[:PATH][,...]   what happens
 *   LH_FAULT_ARM=FILE                         calls count only while FILE exists (default: always)
 *   LH_FAULT_COUNT=FILE                       the counters live in this file
 *
 * CALLS: names joined by '|': see CALL_NAMES below.  pwrite and pwrite64 are one call, as are
 * the other names with and without 64.
 * ACTION: kill (SIGKILL instead of the call), tear (half of the bytes are written, then SIGKILL),
 * stop (SIGSTOP, then the call), delay=MS (then the call), or an error as in errno(3): the call
 * is not made.
 * WHEN: k (the k-th call, from 1), k+ (from the k-th on), k-m, or 0 (none: only counted).
 * PATH: only calls on files or sockets whose name contains it count; /proc/self/fd says the name
 * of a descriptor ("socket:[123]"), for calls with paths it is the (last) path.
 *
 * One counter per rule, shared by all threads and, with LH_FAULT_COUNT, by all processes that
 * have the same file, so that a restarted process does not meet the k-th call again.  The file
 * holds one signed 64-bit number per rule in the machine's byte order; whoever writes 1-k there
 * makes the k-th call from then on the first.
 *
 * What libc calls inside itself (stdio) is not seen.  A rule that cannot be read ends the program
 * with status 99: a test with a fault that never happens would pass for nothing.
 */

/* System */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Own names: libc's declare more than one prototype can say (nonnull, throw). */
#define EXPORT __attribute__((visibility("default")))

enum { RULES = 8, TEXT_BYTES = 1024, BAD_RULE_STATUS = 99 };

enum call {
    CALL_WRITE,
    CALL_PWRITE,
    CALL_WRITEV,
    CALL_FSYNC,
    CALL_FDATASYNC,
    CALL_FTRUNCATE,
    CALL_FALLOCATE,
    CALL_OPEN,
    CALL_OPENAT,
    CALL_RENAME,
    CALL_LINK,
    CALL_UNLINK,
    CALL_READ,
    CALL_PREAD,
    CALL_SEND,
    CALL_SENDTO,
    CALL_SENDMSG,
    CALL_RECV,
    CALLS
};

/* Names that mean the same call lie side by side. */
static const struct {
    const char *name;
    enum call call;
} CALL_NAMES[] = {
    {"write", CALL_WRITE},         {"pwrite", CALL_PWRITE},
    {"pwrite64", CALL_PWRITE},     {"writev", CALL_WRITEV},
    {"fsync", CALL_FSYNC},         {"fdatasync", CALL_FDATASYNC},
    {"ftruncate", CALL_FTRUNCATE}, {"ftruncate64", CALL_FTRUNCATE},
    {"fallocate", CALL_FALLOCATE}, {"posix_fallocate", CALL_FALLOCATE},
    {"open", CALL_OPEN},           {"open64", CALL_OPEN},
    {"openat", CALL_OPENAT},       {"openat64", CALL_OPENAT},
    {"rename", CALL_RENAME},       {"renameat", CALL_RENAME},
    {"renameat2", CALL_RENAME},    {"linkat", CALL_LINK},
    {"unlink", CALL_UNLINK},       {"unlinkat", CALL_UNLINK},
    {"read", CALL_READ},           {"pread", CALL_PREAD},
    {"pread64", CALL_PREAD},       {"send", CALL_SEND},
    {"sendto", CALL_SENDTO},       {"sendmsg", CALL_SENDMSG},
    {"recv", CALL_RECV},           {"recvfrom", CALL_RECV},
};

static const struct {
    const char *name;
    int code;
} ERRORS[] = {
    {"EIO", EIO},       {"ENOSPC", ENOSPC}, {"EROFS", EROFS},           {"EDQUOT", EDQUOT},
    {"EINTR", EINTR},   {"EAGAIN", EAGAIN}, {"EMFILE", EMFILE},         {"ENFILE", ENFILE},
    {"EACCES", EACCES}, {"EPIPE", EPIPE},   {"ECONNRESET", ECONNRESET}, {"ENOMEM", ENOMEM},
};

enum action { ACTION_ERROR, ACTION_KILL, ACTION_TEAR, ACTION_STOP, ACTION_DELAY };

struct rule {
    bool calls[CALLS];
    enum action action;
    int error;        /* ACTION_ERROR */
    long delay_ms;    /* ACTION_DELAY */
    int64_t from, to; /* which calls; 0: none */
    char path[TEXT_BYTES];
};

static struct rule rules[RULES];
static size_t rule_count;
static bool watched[CALLS]; /* whether any rule wants the call: the others cost nothing */
static const char *arm_path;
static _Atomic int64_t own_counters[RULES];
static _Atomic int64_t *counters = own_counters;

static _Noreturn void refuse(const char *what, const char *text)
{
    char line[TEXT_BYTES + 128];
    int n = snprintf(line, sizeof line, "preload: %s: '%s'\n", what, text);
    if (n > 0)
        (void)syscall(SYS_write, 2, line, (size_t)n < sizeof line ? (size_t)n : sizeof line - 1);
    _exit(BAD_RULE_STATUS);
}

/* Cuts the text at the separator and gives the rest, or NULL where there is none. */
static char *cut(char *text, char separator)
{
    char *end = text ? strchr(text, separator) : NULL;
    if (!end)
        return NULL;
    *end = '\0';
    return end + 1;
}

static void read_calls(struct rule *rule, char *text)
{
    while (text) {
        char *rest = cut(text, '|');
        size_t i = 0;
        for (; i < sizeof CALL_NAMES / sizeof *CALL_NAMES; i++) {
            if (strcmp(text, CALL_NAMES[i].name) == 0)
                break;
        }
        if (i == sizeof CALL_NAMES / sizeof *CALL_NAMES)
            refuse("no such call", text);
        rule->calls[CALL_NAMES[i].call] = watched[CALL_NAMES[i].call] = true;
        text = rest;
    }
}

static void read_action(struct rule *rule, const char *text)
{
    static const struct {
        const char *name;
        enum action action;
    } actions[] = {{"kill", ACTION_KILL}, {"tear", ACTION_TEAR}, {"stop", ACTION_STOP}};
    char *end;
    for (size_t i = 0; i < sizeof actions / sizeof *actions; i++) {
        if (strcmp(text, actions[i].name) == 0) {
            rule->action = actions[i].action;
            return;
        }
    }
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++) {
        if (strcmp(text, ERRORS[i].name) == 0) {
            rule->error = ERRORS[i].code;
            return;
        }
    }
    if (strncmp(text, "delay=", 6) != 0)
        refuse("no such action", text);
    rule->action = ACTION_DELAY;
    rule->delay_ms = strtol(text + 6, &end, 10);
    if (end == text + 6 || *end || rule->delay_ms < 0)
        refuse("no such delay", text);
}

static void read_when(struct rule *rule, const char *text)
{
    char *end;
    rule->from = rule->to = strtoll(text, &end, 10);
    if (end != text && strcmp(end, "+") == 0) {
        rule->to = INT64_MAX;
        return;
    }
    if (end != text && *end == '-') {
        const char *second = end + 1;
        rule->to = strtoll(second, &end, 10);
        if (end == second)
            refuse("no such number", text);
    }
    if (end == text || *end || rule->from < 0 || rule->to < rule->from)
        refuse("no such number", text);
}

static void read_rule(char *text)
{
    if (rule_count == RULES)
        refuse("too many rules", text);
    struct rule *rule = &rules[rule_count++];
    char *action = cut(text, ':');
    char *when = cut(action, ':');
    char *where = cut(when, ':');
    if (!when)
        refuse("a rule is CALLS:ACTION:WHEN[:PATH]", text);
    read_calls(rule, text);
    read_action(rule, action);
    read_when(rule, when);
    if (where)
        memcpy(rule->path, where, strlen(where) + 1); /* as long as the whole at most */
}

static void share_counters(const char *path)
{
    int fd = (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd < 0 || syscall(SYS_ftruncate, fd, sizeof own_counters) != 0)
        refuse("cannot make the counters", path);
    void *shared = mmap(NULL, sizeof own_counters, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (shared == MAP_FAILED)
        refuse("cannot map the counters", path);
    (void)syscall(SYS_close, fd);
    counters = shared;
}

__attribute__((constructor)) static void begin(void)
{
    static char text[TEXT_BYTES];
    const char *given = getenv("LH_FAULT");
    const char *count_path = getenv("LH_FAULT_COUNT");
    if (!given)
        return;
    if (strlen(given) >= sizeof text)
        refuse("too long", given);
    memcpy(text, given, strlen(given) + 1);
    arm_path = getenv("LH_FAULT_ARM");
    if (count_path)
        share_counters(count_path);
    for (char *rule = text; rule;) {
        char *rest = cut(rule, ',');
        read_rule(rule);
        rule = rest;
    }
}

static bool is_armed(void)
{
    return !arm_path || syscall(SYS_faccessat, AT_FDCWD, arm_path, F_OK) == 0;
}

static bool is_about(const struct rule *rule, int fd, const char *path)
{
    char link[64], name[PATH_MAX];
    if (!rule->path[0])
        return true;
    if (path)
        return strstr(path, rule->path) != NULL;
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    long n = syscall(SYS_readlinkat, AT_FDCWD, link, name, sizeof name - 1);
    if (n < 0)
        return false;
    name[n] = '\0';
    return strstr(name, rule->path) != NULL;
}

static void wait_ms(long ms)
{
    struct timespec left = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
    while (nanosleep(&left, &left) != 0 && errno == EINTR)
        ;
}

static _Noreturn void die(void)
{
    (void)syscall(SYS_kill, getpid(), SIGKILL);
    for (;;)
        (void)pause();
}

/* What happens to this call: 0, it is made; else it fails with that errno.  -1: half of it is
 * made, and the program ends. */
static int meet(enum call call, int fd, const char *path)
{
    int result = 0, saved = errno;
    if (!watched[call] || !is_armed()) {
        errno = saved;
        return 0;
    }
    for (size_t i = 0; i < rule_count && result == 0; i++) {
        const struct rule *rule = &rules[i];
        if (!rule->calls[call] || !is_about(rule, fd, path))
            continue;
        int64_t number = atomic_fetch_add(&counters[i], 1) + 1;
        if (rule->from == 0 || number < rule->from || number > rule->to)
            continue;
        switch (rule->action) {
        case ACTION_ERROR:
            result = rule->error;
            break;
        case ACTION_KILL:
            die();
        case ACTION_TEAR:
            result = -1;
            break;
        case ACTION_STOP:
            (void)syscall(SYS_kill, getpid(), SIGSTOP);
            break;
        case ACTION_DELAY:
            wait_ms(rule->delay_ms);
            break;
        }
    }
    errno = saved;
    return result;
}

/* The next definition of the name, found once. */
#define NEXT(name)                                                                                           \
    static __typeof__(name) *volatile next;                                                                  \
    if (!next) {                                                                                             \
        void *found = dlsym(RTLD_NEXT, #name);                                                               \
        if (!found)                                                                                          \
            refuse("libc has no such function", #name);                                                      \
        memcpy((void *)(uintptr_t)&next, &found, sizeof found);                                              \
    }

/* A call that gives -1 and errno when it fails.  half: the same call with half of its bytes, or 0. */
#define PASS(name, call, fd, path, arguments, half)                                                          \
    do {                                                                                                     \
        NEXT(name)                                                                                           \
        int fate = meet(call, fd, path);                                                                     \
        if (fate < 0) {                                                                                      \
            (void)(half);                                                                                    \
            die();                                                                                           \
        }                                                                                                    \
        if (fate > 0) {                                                                                      \
            errno = fate;                                                                                    \
            return -1;                                                                                       \
        }                                                                                                    \
        return next arguments;                                                                               \
    } while (0)

EXPORT ssize_t write(int fd, const void *data, size_t size)
{
    PASS(write, CALL_WRITE, fd, NULL, (fd, data, size), next(fd, data, size / 2));
}

EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t at)
{
    PASS(pwrite, CALL_PWRITE, fd, NULL, (fd, data, size, at), next(fd, data, size / 2, at));
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t size, off64_t at)
{
    PASS(pwrite64, CALL_PWRITE, fd, NULL, (fd, data, size, at), next(fd, data, size / 2, at));
}

EXPORT ssize_t writev(int fd, const struct iovec *parts, int count)
{
    PASS(writev, CALL_WRITEV, fd, NULL, (fd, parts, count), count > 1 ? next(fd, parts, count / 2) : 0);
}

EXPORT int fsync(int fd)
{
    PASS(fsync, CALL_FSYNC, fd, NULL, (fd), 0);
}

EXPORT int fdatasync(int fd)
{
    PASS(fdatasync, CALL_FDATASYNC, fd, NULL, (fd), 0);
}

EXPORT int ftruncate(int fd, off_t size)
{
    PASS(ftruncate, CALL_FTRUNCATE, fd, NULL, (fd, size), 0);
}

EXPORT int ftruncate64(int fd, off64_t size)
{
    PASS(ftruncate64, CALL_FTRUNCATE, fd, NULL, (fd, size), 0);
}

/* Gives its error itself. */
EXPORT int posix_fallocate(int fd, off_t from, off_t size)
{
    NEXT(posix_fallocate)
    int fate = meet(CALL_FALLOCATE, fd, NULL);
    if (fate < 0)
        die();
    return fate > 0 ? fate : next(fd, from, size);
}

EXPORT int fallocate(int fd, int mode, off_t from, off_t size)
{
    PASS(fallocate, CALL_FALLOCATE, fd, NULL, (fd, mode, from, size), 0);
}

/* The mode, given only with flags that make a file. */
#define MODE(flags)                                                                                          \
    mode_t mode = 0;                                                                                         \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                   \
        va_list rest;                                                                                        \
        va_start(rest, flags);                                                                               \
        mode = va_arg(rest, mode_t);                                                                         \
        va_end(rest);                                                                                        \
    }

EXPORT int open(const char *path, int flags, ...)
{
    MODE(flags)
    PASS(open, CALL_OPEN, -1, path, (path, flags, mode), 0);
}

EXPORT int open64(const char *path, int flags, ...)
{
    MODE(flags)
    PASS(open64, CALL_OPEN, -1, path, (path, flags, mode), 0);
}

EXPORT int openat(int directory, const char *path, int flags, ...)
{
    MODE(flags)
    PASS(openat, CALL_OPENAT, directory, path, (directory, path, flags, mode), 0);
}

EXPORT int openat64(int directory, const char *path, int flags, ...)
{
    MODE(flags)
    PASS(openat64, CALL_OPENAT, directory, path, (directory, path, flags, mode), 0);
}

EXPORT int rename(const char *from, const char *to)
{
    PASS(rename, CALL_RENAME, -1, to, (from, to), 0);
}

EXPORT int renameat(int from_directory, const char *from, int to_directory, const char *to)
{
    PASS(renameat, CALL_RENAME, -1, to, (from_directory, from, to_directory, to), 0);
}

EXPORT int renameat2(int from_directory, const char *from, int to_directory, const char *to,
                     unsigned int flags)
{
    PASS(renameat2, CALL_RENAME, -1, to, (from_directory, from, to_directory, to, flags), 0);
}

EXPORT int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags)
{
    PASS(linkat, CALL_LINK, -1, to, (from_directory, from, to_directory, to, flags), 0);
}

EXPORT int unlink(const char *path)
{
    PASS(unlink, CALL_UNLINK, -1, path, (path), 0);
}

EXPORT int unlinkat(int directory, const char *path, int flags)
{
    PASS(unlinkat, CALL_UNLINK, -1, path, (directory, path, flags), 0);
}

EXPORT ssize_t read(int fd, void *data, size_t size)
{
    PASS(read, CALL_READ, fd, NULL, (fd, data, size), 0);
}

EXPORT ssize_t pread(int fd, void *data, size_t size, off_t at)
{
    PASS(pread, CALL_PREAD, fd, NULL, (fd, data, size, at), 0);
}

EXPORT ssize_t pread64(int fd, void *data, size_t size, off64_t at)
{
    PASS(pread64, CALL_PREAD, fd, NULL, (fd, data, size, at), 0);
}

EXPORT ssize_t send(int fd, const void *data, size_t size, int flags)
{
    PASS(send, CALL_SEND, fd, NULL, (fd, data, size, flags), next(fd, data, size / 2, flags));
}

EXPORT ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to,
                      socklen_t to_size)
{
    PASS(sendto, CALL_SENDTO, fd, NULL, (fd, data, size, flags, to, to_size),
         next(fd, data, size / 2, flags, to, to_size));
}

EXPORT ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
    PASS(sendmsg, CALL_SENDMSG, fd, NULL, (fd, message, flags), 0);
}

EXPORT ssize_t recv(int fd, void *data, size_t size, int flags)
{
    PASS(recv, CALL_RECV, fd, NULL, (fd, data, size, flags), 0);
}

EXPORT ssize_t recvfrom(int fd, void *data, size_t size, int flags, struct sockaddr *from,
                        socklen_t *from_size)
{
    PASS(recvfrom, CALL_RECV, fd, NULL, (fd, data, size, flags, from, from_size), 0);
}
