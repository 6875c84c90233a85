/* The list was made by watching the system tests under a filter that names what it denies, and they go on watching:
 * a test fails when leadhook logs a denied call.
 *
 * Denied calls are trapped, not just refused, so that they can be named: the handler of SIGSYS puts EPERM where the
 * result is expected.  It may not log itself (a signal handler cannot, and the log may be what made the call), so it
 * makes a mark and wakes the thread that waits for signals.
 *
 * Some calls are refused without a word, because libraries try them and know what to do without: clone3, whose
 * arguments lie in memory where no filter sees them (glibc goes on with clone); netlink sockets, from which
 * getaddrinfo would learn which addresses this machine has (it goes on as if it had both kinds).
 */
#include "handler/callfilter.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

/* Libraries */
#include <seccomp.h>

/* L0 */
#include "lib/base/log.h"

/* The register in which the result of a call is given; where it is not known here, denied calls are not named. */
#if defined(__x86_64__)
#define RESULT_OF(context) ((context)->uc_mcontext.gregs[REG_RAX])
#define ACTION_DENY        SCMP_ACT_TRAP
#elif defined(__aarch64__)
#define RESULT_OF(context) ((context)->uc_mcontext.regs[0])
#define ACTION_DENY        SCMP_ACT_TRAP
#else
#define ACTION_DENY SCMP_ACT_ERRNO(EPERM)
#endif

enum { CALLS_MAX = 1024 }; /* numbers of system calls end below 500 */

static atomic_bool denied[CALLS_MAX];
static pid_t own_process, own_thread;

/* Without conditions, in the order of their groups. */
static const int ALLOWED[] = {
    /* bytes */
    SCMP_SYS(read), SCMP_SYS(write), SCMP_SYS(readv), SCMP_SYS(writev), SCMP_SYS(pread64), SCMP_SYS(pwrite64),
    SCMP_SYS(lseek), SCMP_SYS(close), SCMP_SYS(dup),
    /* files; which ones is Landlock's to say */
    SCMP_SYS(stat), SCMP_SYS(lstat), SCMP_SYS(fstat), SCMP_SYS(newfstatat), SCMP_SYS(statx), SCMP_SYS(statfs),
    SCMP_SYS(fstatfs), SCMP_SYS(access), SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(getdents64),
    SCMP_SYS(readlink), SCMP_SYS(readlinkat), SCMP_SYS(getcwd), SCMP_SYS(ftruncate), SCMP_SYS(fallocate),
    SCMP_SYS(fsync), SCMP_SYS(fdatasync), SCMP_SYS(flock), SCMP_SYS(mkdir), SCMP_SYS(mkdirat),
    SCMP_SYS(linkat), SCMP_SYS(unlink), SCMP_SYS(unlinkat), SCMP_SYS(fchown),
    /* sockets */
    SCMP_SYS(connect), SCMP_SYS(bind), SCMP_SYS(accept4), SCMP_SYS(shutdown), SCMP_SYS(getsockname),
    SCMP_SYS(getpeername), SCMP_SYS(getsockopt), SCMP_SYS(setsockopt), SCMP_SYS(sendto), SCMP_SYS(sendmsg),
    SCMP_SYS(sendmmsg), SCMP_SYS(recvfrom), SCMP_SYS(recvmsg), SCMP_SYS(recvmmsg),
    /* waiting */
    SCMP_SYS(poll), SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(pselect6), SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait), SCMP_SYS(epoll_pwait), SCMP_SYS(eventfd2), SCMP_SYS(pipe2),
    SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(restart_syscall),
    /* memory that is not to be executed */
    SCMP_SYS(brk), SCMP_SYS(munmap), SCMP_SYS(mremap), SCMP_SYS(madvise),
    /* threads and signals */
    SCMP_SYS(futex), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(gettid), SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn), SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(sigaltstack), SCMP_SYS(exit), SCMP_SYS(exit_group),
    /* who and when */
    SCMP_SYS(getpid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
    SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday), SCMP_SYS(time), SCMP_SYS(getrandom)};

/* Nothing that came with us makes these. */
static const int DEADLY[] = {
    /* other processes */
    SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(process_madvise),
    SCMP_SYS(pidfd_getfd), SCMP_SYS(kcmp),
    /* the kernel and what is seen of it */
    SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd), SCMP_SYS(io_uring_setup),
    SCMP_SYS(io_uring_enter), SCMP_SYS(io_uring_register), SCMP_SYS(init_module), SCMP_SYS(finit_module),
    SCMP_SYS(delete_module), SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(reboot),
    SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(keyctl),
    /* another view of the machine */
    SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(move_mount), SCMP_SYS(open_tree), SCMP_SYS(fsopen),
    SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(unshare), SCMP_SYS(setns), SCMP_SYS(personality),
    /* another user */
    SCMP_SYS(setuid), SCMP_SYS(setgid), SCMP_SYS(setreuid), SCMP_SYS(setregid), SCMP_SYS(setresuid),
    SCMP_SYS(setresgid), SCMP_SYS(setgroups), SCMP_SYS(capset)};

/* One set of conditions under which a call is taken; all of them must hold. */
enum { CONDITIONS = 3 };
struct conditional {
    int call;
    unsigned int count;
    struct scmp_arg_cmp conditions[CONDITIONS];
};

#define CONDITION(index, ...)                                                                                \
    {                                                                                                        \
        .arg = (index), __VA_ARGS__                                                                          \
    }
#define IS(index, value)    CONDITION(index, .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)(value))
#define BELOW(index, value) CONDITION(index, .op = SCMP_CMP_LT, .datum_a = (scmp_datum_t)(value))
#define BITS(index, mask, value)                                                                             \
    CONDITION(index, .op = SCMP_CMP_MASKED_EQ, .datum_a = (mask), .datum_b = (value))

#define SOCKET(family, type, protocol)                                                                       \
    {                                                                                                        \
        SCMP_SYS(socket), 3,                                                                                 \
        {                                                                                                    \
            IS(0, family), BITS(1, SOCKET_TYPE, type), IS(2, protocol)                                       \
        }                                                                                                    \
    }
#define FCNTL(command)                                                                                       \
    {                                                                                                        \
        SCMP_SYS(fcntl), 1,                                                                                  \
        {                                                                                                    \
            IS(1, command)                                                                                   \
        }                                                                                                    \
    }
#define SOCKET_TYPE 0xFULL /* of socket's second argument; the rest are flags */

/* A thread of this process, and nothing that is less of it. */
#define THREAD_MASK                                                                                          \
    ((scmp_datum_t)(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM |       \
                    CLONE_PTRACE | CLONE_VFORK | CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS |              \
                    CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET))
#define THREAD_FLAGS                                                                                         \
    ((scmp_datum_t)(CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM))

/* Signals of which libc sets the handlers itself, for its threads. */
enum { LIBC_CANCEL = 32, LIBC_SETXID = 33 };

static const struct conditional CONDITIONAL[] = {
    /* Memory that cannot be executed, and threads. */
    {SCMP_SYS(mmap), 1, {BITS(2, PROT_EXEC, 0)}},
    {SCMP_SYS(mprotect), 1, {BITS(2, PROT_EXEC, 0)}},
    {SCMP_SYS(clone), 1, {BITS(0, THREAD_MASK, THREAD_FLAGS)}},
    /* The resolver uses datagrams, also to find out which of several addresses is the best. */
    SOCKET(AF_UNIX, SOCK_STREAM, 0),
    SOCKET(AF_UNIX, SOCK_DGRAM, 0),
    SOCKET(AF_INET, SOCK_STREAM, 0),
    SOCKET(AF_INET, SOCK_STREAM, IPPROTO_TCP),
    SOCKET(AF_INET, SOCK_DGRAM, 0),
    SOCKET(AF_INET, SOCK_DGRAM, IPPROTO_UDP),
    SOCKET(AF_INET6, SOCK_STREAM, 0),
    SOCKET(AF_INET6, SOCK_STREAM, IPPROTO_TCP),
    SOCKET(AF_INET6, SOCK_DGRAM, 0),
    SOCKET(AF_INET6, SOCK_DGRAM, IPPROTO_UDP),
    {SCMP_SYS(socketpair), 1, {IS(0, AF_UNIX)}},
    /* How long an answer of a name server is; whether a stream of stdio is a terminal. */
    {SCMP_SYS(ioctl), 1, {IS(1, FIONREAD)}},
    {SCMP_SYS(ioctl), 1, {IS(1, TCGETS)}},
    /* Flags and locks.  Not F_SETOWN with F_SETSIG: by these the kernel signals whatever process they name. */
    FCNTL(F_DUPFD),
    FCNTL(F_DUPFD_CLOEXEC),
    FCNTL(F_GETFD),
    FCNTL(F_SETFD),
    FCNTL(F_GETFL),
    FCNTL(F_SETFL),
    FCNTL(F_GETLK),
    FCNTL(F_SETLK),
    FCNTL(F_SETLKW),
    FCNTL(F_OFD_GETLK),
    FCNTL(F_OFD_SETLK),
    FCNTL(F_OFD_SETLKW),
    /* Files, SQLite's log with the mode of its database; none by which others get our rights. */
    {SCMP_SYS(open), 1, {BITS(2, S_ISUID | S_ISGID, 0)}},
    {SCMP_SYS(openat), 1, {BITS(3, S_ISUID | S_ISGID, 0)}},
    {SCMP_SYS(fchmod), 1, {BITS(1, S_ISUID | S_ISGID, 0)}},
    /* The relay's threads stand back; threads may have names; limits are only asked for. */
    {SCMP_SYS(setpriority), 2, {IS(0, PRIO_PROCESS), IS(1, 0)}},
    {SCMP_SYS(prctl), 1, {IS(0, PR_SET_NAME)}},
    {SCMP_SYS(prlimit64), 1, {IS(2, 0)}},
    /* All but SIGSYS, whose handler stays ours.  Said as what is smaller: the kernel looks at half of the bits only, so
     * that another number could be SIGSYS, too. */
    {SCMP_SYS(rt_sigaction), 1, {BELOW(0, SIGSYS)}},
    {SCMP_SYS(rt_sigaction), 1, {IS(0, LIBC_CANCEL)}},
    {SCMP_SYS(rt_sigaction), 1, {IS(0, LIBC_SETXID)}},
};

/* Refused without a word. */
static enum status add_quiet(scmp_filter_ctx filter, struct fail *why)
{
    const struct scmp_arg_cmp netlink = IS(0, AF_NETLINK);
    int error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
    if (error == 0)
        error = seccomp_rule_add(filter, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1, netlink);
    return error == 0 ? ST_OK : fail_set(why, ST_REFUSED, -error, "cannot make the filter of system calls");
}

static enum status add_rules(scmp_filter_ctx filter, struct fail *why)
{
    /* Signals to this process alone: abort and raise. */
    const struct scmp_arg_cmp to_us = IS(0, own_process);
    int error = 0;
    for (size_t i = 0; i < sizeof ALLOWED / sizeof *ALLOWED && error == 0; i++)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, ALLOWED[i], 0);
    for (size_t i = 0; i < sizeof CONDITIONAL / sizeof *CONDITIONAL && error == 0; i++)
        error = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, CONDITIONAL[i].call, CONDITIONAL[i].count,
                                       CONDITIONAL[i].conditions);
    for (size_t i = 0; i < sizeof DEADLY / sizeof *DEADLY && error == 0; i++)
        error = seccomp_rule_add(filter, SCMP_ACT_KILL_PROCESS, DEADLY[i], 0);
    if (error == 0)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(kill), 1, to_us);
    if (error == 0)
        error = seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, to_us);
    return error == 0 ? add_quiet(filter, why)
                      : fail_set(why, ST_REFUSED, -error, "cannot make the filter of system calls");
}

#ifdef RESULT_OF
static void on_denied(int signal, siginfo_t *info, void *context)
{
    int saved = errno;
    (void)signal;
    if (info->si_syscall >= 0 && info->si_syscall < CALLS_MAX)
        atomic_store(&denied[info->si_syscall], true);
    (void)syscall(SYS_tgkill, own_process, own_thread, CALLFILTER_SIGNAL);
    RESULT_OF((ucontext_t *)context) = -EPERM;
    errno = saved;
}
#endif

enum status callfilter_enforce(struct fail *why)
{
    own_process = getpid();
    own_thread = gettid();
#ifdef RESULT_OF
    struct sigaction action = {.sa_sigaction = on_denied, .sa_flags = SA_SIGINFO | SA_RESTART | SA_NODEFER};
    (void)sigfillset(&action.sa_mask);
    (void)sigdelset(&action.sa_mask, SIGSYS); /* one that is blocked when it comes ends the process */
    if (sigaction(SIGSYS, &action, NULL) != 0)
        return fail_set(why, ST_REFUSED, errno, "cannot handle denied calls");
#endif
    scmp_filter_ctx filter = seccomp_init(ACTION_DENY);
    if (!filter)
        return fail_set(why, ST_NOMEM, 0, "no memory for the filter of system calls");
    enum status status = ST_OK;
    int error = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
    if (error == 0)
        error = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* search as in a tree, not in a row */
    if (error != 0)
        status = fail_set(why, ST_REFUSED, -error, "libseccomp is older than 2.5");
    if (status == ST_OK)
        status = add_rules(filter, why);
    if (status == ST_OK && (error = seccomp_load(filter)) != 0)
        status = fail_set(why, ST_REFUSED, -error, "the kernel does not take the filter of system calls");
    seccomp_release(filter);
    return status;
}

static bool is_new(int call)
{
    static bool logged[CALLS_MAX]; /* only the one thread looks */
    if (!atomic_load(&denied[call]) || logged[call])
        return false;
    logged[call] = true;
    return true;
}

void callfilter_log_denied(void)
{
    for (int call = 0; call < CALLS_MAX; call++) {
        if (!is_new(call))
            continue;
        char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call);
        log_event(LOG_LEVEL_ERROR, "call-denied", "call=%s number=%d note=outside-of-the-sandbox",
                  name ? name : "unknown", call);
        free(name);
    }
}
