/* supervise - several processes on one listening socket, started again when they end.
 *
 * For tests that kill them: unlike multiwatch it never gives up, and says who runs.
 *
 *   supervise SOCKET COUNT COMMAND [ARGUMENT...]
 *
 * Makes the unix SOCKET (mode 0666), starts COUNT processes of COMMAND with it as
 * file descriptor 0, and one more for each that ends, after PAUSE_MS.  Prints
 * "started INDEX PID" and "ended INDEX PID exit STATUS" (or "signal NUMBER").
 * SIGTERM is passed on, and ends it when all have ended: status 0, or 1 when one
 * of them ended otherwise than with 0.
 */

/* System */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { PROCESSES = 64, PAUSE_MS = 20 };

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "supervise: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int listen_on(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        die(path);
    }
    memcpy(address.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) != 0 || chmod(path, 0666) != 0 ||
        listen(fd, 1024) != 0)
        die(path);
    return fd;
}

static pid_t start(int socket, size_t index, char **command)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid > 0) {
        printf("started %zu %ld\n", index, (long)pid);
        return pid;
    }
    sigset_t none;
    sigemptyset(&none);
    /* None stays behind when the supervisor itself is killed. */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent || dup2(socket, 0) != 0 ||
        sigprocmask(SIG_SETMASK, &none, NULL) != 0)
        _exit(127);
    execvp(command[0], command);
    _exit(127);
}

int main(int argc, char **argv)
{
    pid_t pids[PROCESSES];
    size_t count = argc > 3 ? strtoul(argv[2], NULL, 10) : 0;
    if (count == 0 || count > PROCESSES) {
        fputs("usage: supervise SOCKET COUNT COMMAND [ARGUMENT...]\n", stderr);
        return 64;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) != 0) /* a test run that is broken off leaves nothing behind */
        die("prctl");

    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGCHLD);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    int socket = listen_on(argv[1]);
    for (size_t i = 0; i < count; i++)
        pids[i] = start(socket, i, argv + 3);

    bool stopping = false;
    bool clean = true;
    size_t running = count;
    while (running > 0) {
        int signal = sigwaitinfo(&signals, NULL);
        if (signal == SIGTERM && !stopping) {
            stopping = true;
            for (size_t i = 0; i < count; i++) {
                if (pids[i])
                    kill(pids[i], SIGTERM);
            }
        }
        int status;
        pid_t pid;
        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
            size_t i = 0;
            while (i < count && pids[i] != pid)
                i++;
            if (i == count)
                continue;
            printf("ended %zu %ld %s %d\n", i, (long)pid, WIFEXITED(status) ? "exit" : "signal",
                   WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
            pids[i] = 0;
            if (stopping) {
                clean = clean && WIFEXITED(status) && WEXITSTATUS(status) == 0;
                running--;
                continue;
            }
            nanosleep(&(struct timespec){.tv_nsec = PAUSE_MS * 1000000L}, NULL);
            pids[i] = start(socket, i, argv + 3);
        }
    }
    return clean ? 0 : 1;
}
