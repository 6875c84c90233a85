/* What it prints goes into memory files: nobody has to read while it runs, and so it cannot hang on us. */
#include "handler/ctl/run.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

/* L0 */
#include "lib/base/file.h"
#include "lib/base/limits.h"

enum { ARGUMENT_BYTES = 64 };

#define SYSTEM_FOLDERS "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Looked for as a shell would, and then where a user's $PATH may not lead to. */
static bool find_program(const char *name, struct buf *path)
{
    const char *own = getenv("PATH");
    struct buf folders = BUF_INIT(LIMIT_PATH_BYTES);
    buf_addf(&folders, "%s:" SYSTEM_FOLDERS, own ? own : "");
    struct span rest = buf_span(&folders), folder;
    bool is_found = false;
    while (!is_found && span_next(&rest, ':', &folder)) {
        buf_reset(path);
        buf_addf(path, "%.*s/%s", SPAN_FMT(folder), name);
        is_found =
            folder.len && folder.ptr[0] == '/' && path->error == ST_OK && access(path->data, X_OK) == 0;
    }
    buf_release(&folders);
    return is_found;
}

/* Its signals and files as any program expects them; the rest of ours is closed when it begins. */
static int spawn(struct buf *path, const char *argument, int out, int err, pid_t *pid)
{
    char word[ARGUMENT_BYTES];
    char *const argv[] = {path->data, word, NULL};
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t defaults, none;
    char environment[] = "PATH=" SYSTEM_FOLDERS;
    char *const environments[] = {environment, NULL};
    (void)snprintf(word, sizeof word, "%s", argument);
    int failed = posix_spawn_file_actions_init(&files);
    if (failed)
        return failed;
    failed = posix_spawnattr_init(&attributes);
    if (!failed) {
        (void)sigemptyset(&none);
        (void)sigemptyset(&defaults);
        (void)sigaddset(&defaults, SIGPIPE);
        failed = posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
        failed = failed ? failed : posix_spawn_file_actions_adddup2(&files, out, STDOUT_FILENO);
        failed = failed ? failed : posix_spawn_file_actions_adddup2(&files, err, STDERR_FILENO);
        failed = failed ? failed : posix_spawnattr_setsigmask(&attributes, &none);
        failed = failed ? failed : posix_spawnattr_setsigdefault(&attributes, &defaults);
        failed = failed
                     ? failed
                     : posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
        mode_t ours =
            umask(022); /* ours keeps files to ourselves, which is not what other programs count on */
        failed = failed ? failed : posix_spawn(pid, path->data, &files, &attributes, argv, environments);
        (void)umask(ours);
        (void)posix_spawnattr_destroy(&attributes);
    }
    (void)posix_spawn_file_actions_destroy(&files);
    return failed;
}

/* Ends it when it has not ended in time. */
static enum status wait_for(pid_t pid, int64_t wait_ms, int *exit_status, struct fail *why)
{
    int state = 0;
    int fd = pidfd_open(pid, 0);
    struct pollfd end = {.fd = fd, .events = POLLIN};
    bool has_ended = fd >= 0 && poll(&end, 1, (int)wait_ms) == 1;
    if (fd >= 0)
        (void)close(fd);
    if (!has_ended)
        (void)kill(pid, SIGKILL);
    while (waitpid(pid, &state, 0) < 0) {
        if (errno != EINTR)
            return fail_set(why, ST_IO, errno, "cannot wait for a program");
    }
    *exit_status = WIFEXITED(state) ? WEXITSTATUS(state) : 128 + WTERMSIG(state);
    return has_ended ? ST_OK
                     : fail_set(why, ST_AGAIN, 0, "it did not end in %lld s", (long long)wait_ms / 1000);
}

static enum status take_output(int fd, const char *name, struct buf *out, struct fail *why)
{
    if (lseek(fd, 0, SEEK_SET) != 0)
        return fail_set(why, ST_IO, errno, "cannot read what '%s' printed", name);
    return file_read_open(fd, name, out, why);
}

enum status ctl_run(const char *program, const char *argument, int64_t wait_ms, struct buf *out,
                    struct buf *err, int *exit_status, struct fail *why)
{
    struct buf path = BUF_INIT(LIMIT_PATH_BYTES);
    enum status status = ST_OK;
    pid_t pid = -1;
    int out_fd = memfd_create("out", MFD_CLOEXEC), err_fd = memfd_create("err", MFD_CLOEXEC);
    if (out_fd < 0 || err_fd < 0) {
        status = fail_set(why, ST_IO, errno, "no memory file for what '%s' prints", program);
    } else if (!find_program(program, &path) || !path.data) {
        status = fail_set(why, ST_NOT_FOUND, 0, "there is no program '%s'", program);
    } else {
        int failed = spawn(&path, argument, out_fd, err_fd, &pid);
        if (failed)
            status = fail_set(why, ST_IO, failed, "cannot run '%s'", path.data);
    }
    if (status == ST_OK)
        status = wait_for(pid, wait_ms, exit_status, why);
    if (status == ST_OK)
        status = take_output(out_fd, program, out, why);
    if (status == ST_OK)
        status = take_output(err_fd, program, err, why);
    if (out_fd >= 0)
        (void)close(out_fd);
    if (err_fd >= 0)
        (void)close(err_fd);
    buf_release(&path);
    return status;
}
