/* escape - tries, from inside a running program, what its sandbox forbids: a library for LD_PRELOAD.
 *
 *   LH_ESCAPE=FILE     when this file is there as a connection is accepted, its words are tried, once each, and it is
 *                      removed; see ATTEMPTS below
 *   LH_ESCAPE_REPORT=FILE   gets a line "WORD RESULT" for each: "done", or the name of the error
 *   LH_ESCAPE_OUTSIDE=FOLDER   where nothing may be made
 *   LH_ESCAPE_PORT=PORT        a TCP port of this machine to which nothing may be sent
 *   LH_ESCAPE_KERNEL=landlock|seccomp   the kernel seems to be without it
 *
 * Everything is asked of the kernel in the thread that accepts connections.
 */

/* System */
#include <errno.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Own names: libc's declare more than one prototype can say (nonnull, throw). */
#define EXPORT __attribute__((visibility("default")))

enum { TEXT_BYTES = 1024, PAGE_BYTES = 4096 };

/* The kernel's own answer, past the functions that this library replaces. */
static long ask(long number, long a, long b, long c, long d, long e, long f)
{
    long result;
#if defined(__x86_64__)
    register long r10 __asm__("r10") = d;
    register long r8 __asm__("r8") = e;
    register long r9 __asm__("r9") = f;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long x8 __asm__("x8") = number;
    register long x0 __asm__("x0") = a;
    register long x1 __asm__("x1") = b;
    register long x2 __asm__("x2") = c;
    register long x3 __asm__("x3") = d;
    register long x4 __asm__("x4") = e;
    register long x5 __asm__("x5") = f;
    __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
    result = x0;
#else
#error "this architecture's system calls are not known here"
#endif
    if (result < 0 && result > -PAGE_BYTES) {
        errno = (int)-result;
        return -1;
    }
    return result;
}

/* --- attempts: 0, or an error as in errno(3) ----------------------------------------------------------------- */

static int result_of(long result)
{
    return result < 0 ? errno : 0;
}

/* Of what gives a descriptor. */
static int close_of(long fd)
{
    int error = result_of(fd);
    if (fd >= 0)
        (void)close((int)fd);
    return error;
}

static int read_passwd(void)
{
    return close_of(open("/etc/passwd", O_RDONLY | O_CLOEXEC));
}

static int read_own_memory(void)
{
    return close_of(open("/proc/self/maps", O_RDONLY | O_CLOEXEC));
}

static int list_root(void)
{
    return close_of(open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static const char *outside(const char *name, char path[TEXT_BYTES])
{
    const char *folder = getenv("LH_ESCAPE_OUTSIDE");
    (void)snprintf(path, TEXT_BYTES, "%s/%s", folder ? folder : "", name);
    return path;
}

static int make_file(void)
{
    char path[TEXT_BYTES];
    return close_of(open(outside("made", path), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
}

static int write_file(void)
{
    char path[TEXT_BYTES];
    return close_of(open(outside("victim", path), O_WRONLY | O_CLOEXEC));
}

static int remove_file(void)
{
    char path[TEXT_BYTES];
    return result_of(unlink(outside("victim", path)));
}

static int fork_process(void)
{
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    if (pid < 0)
        return errno;
    (void)waitpid(pid, NULL, 0);
    return 0;
}

/* In a process of its own where there can be one: it would take our place. */
static int run_program(void)
{
    static char program[] = "/bin/true";
    static char *const arguments[] = {program, NULL}, *const none[] = {NULL};
    int status = 0;
    pid_t pid = fork();
    if (pid < 0)
        return result_of(execve(arguments[0], arguments, none));
    if (pid == 0) {
        (void)execve(arguments[0], arguments, none);
        _exit(errno);
    }
    (void)waitpid(pid, &status, 0);
    return WEXITSTATUS(status);
}

static int raw_socket(void)
{
    return close_of(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_ICMP));
}

/* Its protocol is one that is allowed, its kind is not. */
static int raw_tcp_socket(void)
{
    return close_of(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, IPPROTO_TCP));
}

static int packet_socket(void)
{
    return close_of(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
}

static int netlink_socket(void)
{
    return close_of(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 0));
}

/* A port of this machine that is neither the table's nor the mail server's. */
static int connect_elsewhere(void)
{
    const char *port = getenv("LH_ESCAPE_PORT");
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    address.sin_port = htons((uint16_t)strtol(port ? port : "", NULL, 10));
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? errno : result_of(connect(fd, (const struct sockaddr *)&address, sizeof address));
    (void)close_of(fd);
    return error;
}

static int bind_port(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? errno : result_of(bind(fd, (const struct sockaddr *)&address, sizeof address));
    (void)close_of(fd);
    return error;
}

static int map_code(void)
{
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    int error = page == MAP_FAILED ? errno : 0;
    if (page != MAP_FAILED)
        (void)munmap(page, PAGE_BYTES);
    return error;
}

static int make_executable(void)
{
    void *page = mmap(NULL, PAGE_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return errno;
    int error = result_of(mprotect(page, PAGE_BYTES, PROT_READ | PROT_EXEC));
    (void)munmap(page, PAGE_BYTES);
    return error;
}

static int memory_file(void)
{
    return close_of(ask(SYS_memfd_create, (long)"code", 0, 0, 0, 0, 0));
}

static int signal_parent(void)
{
    return result_of(kill(getppid(), 0));
}

/* The kernel would send it, with a signal of our choice, when the socket has something to read. */
static int signal_by_socket(void)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int error = fd < 0 ? errno : result_of(fcntl(fd, F_SETOWN, getppid()));
    (void)close_of(fd);
    return error;
}

static int slow_parent(void)
{
    int now = getpriority(PRIO_PROCESS, 0);
    return result_of(setpriority(PRIO_PROCESS, (id_t)getppid(), now));
}

static int make_setuid_file(void)
{
    char path[TEXT_BYTES];
    return close_of(open(outside("setuid", path), O_WRONLY | O_CREAT | O_CLOEXEC, 04700));
}

static int change_limit(void)
{
    struct rlimit files;
    return getrlimit(RLIMIT_NOFILE, &files) != 0 ? errno : result_of(setrlimit(RLIMIT_NOFILE, &files));
}

static int silence_filter(void)
{
    struct sigaction now;
    return sigaction(SIGSYS, NULL, &now) != 0 ? errno : result_of(sigaction(SIGSYS, &now, NULL));
}

/* A child to look into where there can be one. */
static int trace(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        for (;;)
            (void)pause();
    }
    int error = result_of(ptrace(PTRACE_SEIZE, pid > 0 ? pid : getppid(), NULL, NULL));
    if (pid > 0) {
        (void)kill(pid, SIGKILL);
        (void)waitpid(pid, NULL, 0);
    }
    return error;
}

static const struct {
    const char *name;
    int (*try)(void);
} ATTEMPTS[] = {
    {"read-passwd", read_passwd},
    {"read-own-memory", read_own_memory},
    {"list-root", list_root},
    {"make-file", make_file},
    {"write-file", write_file},
    {"remove-file", remove_file},
    {"fork", fork_process},
    {"exec", run_program},
    {"raw-socket", raw_socket},
    {"raw-tcp-socket", raw_tcp_socket},
    {"packet-socket", packet_socket},
    {"netlink-socket", netlink_socket},
    {"connect-elsewhere", connect_elsewhere},
    {"bind-port", bind_port},
    {"map-code", map_code},
    {"make-executable", make_executable},
    {"memory-file", memory_file},
    {"signal-parent", signal_parent},
    {"signal-by-socket", signal_by_socket},
    {"slow-parent", slow_parent},
    {"make-setuid-file", make_setuid_file},
    {"change-limit", change_limit},
    {"silence-filter", silence_filter},
    {"trace", trace},
};

/* --- when ---------------------------------------------------------------------------------------------------- */

static void report(const char *name, int error)
{
    char line[TEXT_BYTES];
    const char *path = getenv("LH_ESCAPE_REPORT");
    int n = snprintf(line, sizeof line, "%s %s\n", name, error == 0 ? "done" : strerrorname_np(error));
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
    ssize_t written = n > 0 && fd >= 0 ? write(fd, line, (size_t)n) : 0;
    (void)written; /* without its line the attempt counts as not made */
    (void)close_of(fd);
}

static void try_all(const char *wanted_path)
{
    char wanted[TEXT_BYTES];
    int fd = open(wanted_path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t n = read(fd, wanted, sizeof wanted - 1);
    (void)close(fd);
    (void)unlink(wanted_path);
    wanted[n > 0 ? n : 0] = '\0';
    char *rest = wanted;
    for (char *word = strsep(&rest, " "); word; word = strsep(&rest, " ")) {
        for (size_t i = 0; i < sizeof ATTEMPTS / sizeof *ATTEMPTS; i++) {
            if (strcmp(word, ATTEMPTS[i].name) == 0)
                report(word, ATTEMPTS[i].try());
        }
    }
    report("end", 0);
}

EXPORT int accept4(int fd, struct sockaddr *address, socklen_t *size, int flags)
{
    const char *wanted = getenv("LH_ESCAPE");
    long accepted = ask(SYS_accept4, fd, (long)address, (long)size, flags, 0, 0);
    int saved = errno;
    if (accepted >= 0 && wanted)
        try_all(wanted);
    errno = saved;
    return (int)accepted;
}

/* --- kernels without ------------------------------------------------------------------------------------------ */

static bool lacks(const char *what)
{
    const char *without = getenv("LH_ESCAPE_KERNEL");
    return without && strcmp(without, what) == 0;
}

EXPORT long syscall(long number, ...)
{
    long a[6];
    va_list rest;
    va_start(rest, number);
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    if ((number == SYS_landlock_create_ruleset && lacks("landlock")) ||
        (number == SYS_seccomp && lacks("seccomp"))) {
        errno = ENOSYS;
        return -1;
    }
    return ask(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

EXPORT int prctl(int option, ...)
{
    unsigned long a[4];
    va_list rest;
    va_start(rest, option);
    for (size_t i = 0; i < sizeof a / sizeof *a; i++)
        a[i] = va_arg(rest, unsigned long);
    va_end(rest);
    if (option == PR_SET_SECCOMP && lacks("seccomp")) {
        errno = EINVAL;
        return -1;
    }
    return (int)ask(SYS_prctl, option, (long)a[0], (long)a[1], (long)a[2], (long)a[3], 0);
}
