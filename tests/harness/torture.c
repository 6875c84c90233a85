/* torture - makes one allocation or one system call of a program fail: a library for LD_PRELOAD.
 *
 *   LH_TORTURE=FILE         a struct control, mapped; whoever writes there while the program runs is heard at once
 *   LH_TORTURE_CALLS=1      system calls are watched too
 *   LH_TORTURE_TRACE=1      whatever is made to fail is told on standard error, allocations with their callers
 *
 * Allocations are all that reach malloc and its kin: ours, SQLite's, libcurl's, yajl's, OpenSSL's and libc's own.
 * System calls are stopped by a seccomp filter at the kernel's door and judged by a thread of this library
 * (seccomp(2), SECCOMP_RET_USER_NOTIF), so that those are met too which libc makes for itself.  All threads count
 * together.  Counting begins with main and ends when main returns: neither the loader nor what libraries do before
 * and after is ours.
 *
 * A library that cannot do its work ends the program with status 99: a test with a fault that never happens would
 * pass for nothing.
 */

/* System */
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))

enum { BROKEN_STATUS = 99, NAME_BYTES = 24, ENTRIES = 128, FRAMES = 40, TRACES = 2 };

/* Not here: close and munmap, which do their work even when they fail; futex and the clocks, which do not fail. */
#define CALL(name)                                                                                           \
    {                                                                                                        \
#name, SYS_##name                                                                                    \
    }
static const struct {
    char name[NAME_BYTES];
    long number;
} CALLS[] = {
    {"allocation", -1}, /* of anybody */
    {"allocation-openssl", -1},
    {"allocation-other", -1},
    CALL(read),
    CALL(pread64),
    CALL(readv),
    CALL(recvfrom),
    CALL(recvmsg),
    CALL(write),
    CALL(pwrite64),
    CALL(writev),
    CALL(sendto),
    CALL(sendmsg),
    CALL(sendmmsg),
    CALL(openat),
    CALL(newfstatat),
    CALL(fstat),
    CALL(statx),
    CALL(lseek),
    CALL(faccessat),
    CALL(fcntl),
    CALL(flock),
    CALL(fsync),
    CALL(fdatasync),
    CALL(ftruncate),
    CALL(fallocate),
    CALL(renameat),
    CALL(renameat2),
    CALL(linkat),
    CALL(unlinkat),
    CALL(mkdirat),
    CALL(fchmod),
    CALL(fchmodat),
    CALL(fchown),
    CALL(fchownat),
    CALL(getdents64),
    CALL(socket),
    CALL(socketpair),
    CALL(bind),
    CALL(listen),
    CALL(accept),
    CALL(accept4),
    CALL(connect),
    CALL(getsockname),
    CALL(getpeername),
    CALL(getsockopt),
    CALL(setsockopt),
    CALL(shutdown),
    CALL(ppoll),
    CALL(pselect6),
    CALL(epoll_create1),
    CALL(epoll_ctl),
    CALL(epoll_pwait),
    CALL(eventfd2),
    CALL(pipe2),
    CALL(timerfd_create),
    CALL(mmap),
    CALL(mremap),
    CALL(clone),
    CALL(clone3),
    CALL(getrandom),
    CALL(rt_sigtimedwait),
    CALL(clock_nanosleep),
    CALL(ioctl),
    CALL(prlimit64),
#ifdef SYS_open /* calls that newer machines do not have */
    CALL(open),
    CALL(stat),
    CALL(lstat),
    CALL(access),
    CALL(rename),
    CALL(link),
    CALL(unlink),
    CALL(mkdir),
    CALL(chmod),
    CALL(chown),
    CALL(poll),
    CALL(select),
    CALL(epoll_wait),
    CALL(pipe),
    CALL(readlink),
#endif
};
#define CALL_COUNT (sizeof CALLS / sizeof *CALLS)
enum { WHAT_ALLOCATION, WHAT_OPENSSL, WHAT_OTHER, WHAT_FIRST_CALL };
_Static_assert(CALL_COUNT <= ENTRIES, "the control file has room for every call");

/* tests/torture/control.js knows it as well. */
struct control {
    _Atomic int64_t calls;  /* of the kind `what` so far */
    _Atomic int64_t from;   /* the first that fails; 0: none */
    _Atomic int64_t to;     /* the last one */
    _Atomic int64_t failed; /* how many were made to fail */
    _Atomic int64_t what;   /* index in entries */
    _Atomic int64_t error;  /* errno; an allocation has ENOMEM */
    int64_t reserved[2];
    struct {
        char name[NAME_BYTES];
        _Atomic int64_t seen; /* how many there were */
    } entries[ENTRIES];
};

static struct control *control;
static _Atomic bool is_armed;
static bool is_traced;
static int (*real_main)(int argc, char **argv, char **environment);

static void say(const char *text)
{
    (void)syscall(SYS_write, 2, text, strlen(text));
}

static _Noreturn void give_up(const char *what)
{
    say("torture: ");
    say(what);
    say(" does not work\n");
    _exit(BROKEN_STATUS);
}

/* Whether this one of the kind fails. */
static bool fails(size_t what)
{
    if (!atomic_load_explicit(&is_armed, memory_order_relaxed))
        return false;
    (void)atomic_fetch_add(&control->entries[what].seen, 1);
    if (atomic_load(&control->what) != (int64_t)what)
        return false;
    int64_t number = atomic_fetch_add(&control->calls, 1) + 1;
    int64_t from = atomic_load(&control->from);
    if (from == 0 || number < from || number > atomic_load(&control->to))
        return false;
    (void)atomic_fetch_add(&control->failed, 1);
    return true;
}

/* --- allocations --------------------------------------------------------------------------------------------- */

/* Those that are behind this library: libc's, or a sanitizer's. */
static struct {
    void *(*malloc)(size_t bytes);
    void *(*calloc)(size_t count, size_t bytes);
    void *(*realloc)(void *memory, size_t bytes);
    void *(*memalign)(size_t alignment, size_t bytes);
} next;

static void find(void *function, size_t bytes, const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (!found)
        give_up(name);
    memcpy(function, &found, bytes);
}

/* At the first allocation, which comes before main and so before other threads; dlsym itself needs no memory. */
static void find_next(void)
{
    if (next.malloc)
        return;
    find(&next.calloc, sizeof next.calloc, "calloc");
    find(&next.realloc, sizeof next.realloc, "realloc");
    find(&next.memalign, sizeof next.memalign, "memalign");
    find(&next.malloc, sizeof next.malloc, "malloc");
}

static void trace(void)
{
    void *frames[FRAMES];
    if (atomic_load(&control->failed) > TRACES)
        return; /* the others are alike */
    atomic_store(&is_armed, false);
    say("torture: no memory for\n");
    backtrace_symbols_fd(frames, backtrace(frames, FRAMES), 2);
    atomic_store(&is_armed, true);
}

/* OpenSSL makes thousands of allocations before the first lead comes, all of them alike. */
enum { LIBRARIES = 2 };
static struct {
    uintptr_t from, to;
} openssl[LIBRARIES];

static int find_openssl(struct dl_phdr_info *library, size_t size, void *count)
{
    size_t *n = count;
    (void)size;
    if (*n == LIBRARIES ||
        (!strstr(library->dlpi_name, "/libcrypto.so") && !strstr(library->dlpi_name, "/libssl.so")))
        return 0;
    for (size_t i = 0; i < library->dlpi_phnum; i++) {
        const ElfW(Phdr) *part = &library->dlpi_phdr[i];
        if (part->p_type == PT_LOAD && (part->p_flags & PF_X)) {
            openssl[*n].from = library->dlpi_addr + part->p_vaddr;
            openssl[*n].to = openssl[*n].from + part->p_memsz;
        }
    }
    (*n)++;
    return 0;
}

static bool is_openssl(const void *caller)
{
    uintptr_t at = (uintptr_t)caller;
    for (size_t i = 0; i < LIBRARIES; i++) {
        if (at >= openssl[i].from && at < openssl[i].to)
            return true;
    }
    return false;
}

/* Where signals are not blocked. */
static void tell_crash(int signal)
{
    void *frames[FRAMES];
    atomic_store(&is_armed, false);
    say("torture: the program crashes in\n");
    backtrace_symbols_fd(frames, backtrace(frames, FRAMES), 2);
    (void)sigaction(signal, &(struct sigaction){.sa_handler = SIG_DFL}, NULL);
    (void)raise(signal);
}

static bool is_refused(const void *caller)
{
    find_next();
    bool of_all = fails(WHAT_ALLOCATION);
    bool of_these = fails(is_openssl(caller) ? WHAT_OPENSSL : WHAT_OTHER);
    if (!of_all && !of_these)
        return false;
    if (is_traced)
        trace();
    errno = ENOMEM;
    return true;
}

EXPORT void *malloc(size_t bytes)
{
    return is_refused(__builtin_return_address(0)) ? NULL : next.malloc(bytes);
}

EXPORT void *calloc(size_t count, size_t bytes)
{
    return is_refused(__builtin_return_address(0)) ? NULL : next.calloc(count, bytes);
}

EXPORT void *realloc(void *memory, size_t bytes)
{
    return is_refused(__builtin_return_address(0)) ? NULL : next.realloc(memory, bytes);
}

EXPORT void *reallocarray(void *memory, size_t count, size_t bytes)
{
    size_t all;
    if (__builtin_mul_overflow(count, bytes, &all)) {
        errno = ENOMEM;
        return NULL;
    }
    return is_refused(__builtin_return_address(0)) ? NULL : next.realloc(memory, all);
}

EXPORT void *memalign(size_t alignment, size_t bytes)
{
    return is_refused(__builtin_return_address(0)) ? NULL : next.memalign(alignment, bytes);
}

EXPORT void *aligned_alloc(size_t alignment, size_t bytes)
{
    return is_refused(__builtin_return_address(0)) ? NULL : next.memalign(alignment, bytes);
}

EXPORT int posix_memalign(void **memory, size_t alignment, size_t bytes)
{
    void *found = is_refused(__builtin_return_address(0)) ? NULL : next.memalign(alignment, bytes);
    if (!found)
        return ENOMEM;
    *memory = found;
    return 0;
}

/* --- system calls -------------------------------------------------------------------------------------------- */

static int notifier = -1;
static pthread_t watcher;
static pthread_barrier_t ready;

static void tell_failure(const struct seccomp_notif *call, size_t what)
{
    char line[128];
    int n = snprintf(line, sizeof line, "torture: thread %u: %s fails with %s\n", call->pid, CALLS[what].name,
                     strerrorname_np((int)atomic_load(&control->error)));
    if (n > 0)
        (void)syscall(SYS_write, 2, line, (size_t)n);
}

/* Whether the kernel may refuse it: of fcntl's commands only the taking of a lock.  The call's memory is ours too. */
static bool may_fail(const struct seccomp_data *call)
{
    if (call->nr != SYS_fcntl)
        return true;
    const struct flock *lock = (const struct flock *)(uintptr_t)call->args[2];
    return (call->args[1] == F_SETLK || call->args[1] == F_SETLKW) && lock->l_type != F_UNLCK;
}

static void *watch(void *unused)
{
    (void)unused;
    (void)pthread_barrier_wait(&ready); /* for the filter */
    for (;;) {
        struct seccomp_notif call = {0};
        if (ioctl(notifier, SECCOMP_IOCTL_NOTIF_RECV, &call) != 0) {
            if (errno == EINTR || errno == ENOENT)
                continue; /* a signal came in between: it is made again */
            give_up("receiving a system call");
        }
        size_t what = WHAT_FIRST_CALL;
        while (what < CALL_COUNT && CALLS[what].number != call.data.nr)
            what++;
        struct seccomp_notif_resp answer = {.id = call.id, .flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        if (what < CALL_COUNT && may_fail(&call.data) && fails(what)) {
            if (is_traced)
                tell_failure(&call, what);
            answer.flags = 0;
            answer.error = -(int)atomic_load(&control->error);
        }
        if (ioctl(notifier, SECCOMP_IOCTL_NOTIF_SEND, &answer) != 0 && errno != ENOENT && errno != EINTR)
            give_up("answering a system call");
    }
    return NULL;
}

/* The thread first: it must not be under the filter, which all threads made from here on inherit. */
static void watch_calls(void)
{
    struct sock_filter filter[CALL_COUNT + 2];
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    if (pthread_barrier_init(&ready, NULL, 2) != 0 || pthread_create(&watcher, NULL, watch, NULL) != 0)
        give_up("starting a thread");
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);

    size_t n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = WHAT_FIRST_CALL; i < CALL_COUNT; i++)
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)CALLS[i].number,
                                                   (uint8_t)(CALL_COUNT - i), 0);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        give_up("PR_SET_NO_NEW_PRIVS");
    notifier = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
    if (notifier < 0)
        give_up("seccomp");
    (void)pthread_barrier_wait(&ready);
}

/* --- the beginning ------------------------------------------------------------------------------------------- */

static void open_control(const char *path)
{
    void *frame;
    size_t libraries = 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        give_up(path);
    void *mapped = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (mapped == MAP_FAILED)
        give_up("mmap");
    (void)close(fd);
    control = mapped;
    for (size_t i = 0; i < CALL_COUNT; i++)
        memcpy(control->entries[i].name, CALLS[i].name, NAME_BYTES);
    is_traced = getenv("LH_TORTURE_TRACE") != NULL;
    (void)dl_iterate_phdr(find_openssl, &libraries);
    (void)backtrace(&frame, 1); /* the first time it needs memory */
}

static int begin(int argc, char **argv, char **environment)
{
    const char *path = getenv("LH_TORTURE");
    if (!path)
        return real_main(argc, argv, environment);
    open_control(path);
    if (getenv("LH_TORTURE_CALLS"))
        watch_calls();
    if (is_traced) {
        const struct sigaction tell = {.sa_handler = tell_crash, .sa_flags = SA_NODEFER};
        (void)sigaction(SIGSEGV, &tell, NULL);
        (void)sigaction(SIGABRT, &tell, NULL);
    }
    atomic_store(&is_armed, true);
    int status = real_main(argc, argv, environment);
    atomic_store(&is_armed, false);
    return status;
}

typedef int start_main(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
                       void (*)(void), void *);

EXPORT int __libc_start_main(int (*run)(int, char **, char **), int argc, char **argv, void (*init)(void),
                             void (*fini)(void), void (*rtld_fini)(void), void *stack_end);
EXPORT int __libc_start_main(int (*run)(int, char **, char **), int argc, char **argv, void (*init)(void),
                             void (*fini)(void), void (*rtld_fini)(void), void *stack_end)
{
    start_main *start;
    void *found = dlsym(RTLD_NEXT, "__libc_start_main");
    memcpy((void *)&start, &found, sizeof start);
    real_main = run;
    return start(begin, argc, argv, init, fini, rtld_fini, stack_end);
}
