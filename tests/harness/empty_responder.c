/* empty_responder - the least a threaded FastCGI program can do: what leadhook is measured against.
 *
 *   empty_responder SOCKET THREADS
 *
 * Reads each request's body and answers 200 with a few bytes of JSON, with the
 * same library and the same thread model as leadhook, until SIGTERM.
 */

/* System */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* Libraries */
#include <fcgiapp.h>

enum { THREADS_MAX = 512, QUEUE = 1024, STACK_BYTES = 256 * 1024 };

static _Noreturn void *serve(void *listener)
{
    static const char answer[] = "Content-Type: application/json\r\n\r\n{\"status\":\"stored\"}\n";
    FCGX_Request request;
    if (FCGX_InitRequest(&request, *(const int *)listener, 0) != 0)
        abort();
    for (;;) {
        char chunk[16 * 1024];
        if (FCGX_Accept_r(&request) != 0)
            continue;
        while (FCGX_GetStr(chunk, sizeof chunk, request.in) > 0)
            ;
        (void)FCGX_PutStr(answer, sizeof answer - 1, request.out);
        FCGX_Finish_r(&request);
    }
}

int main(int argc, char **argv)
{
    char *end = NULL;
    unsigned long threads = argc == 3 ? strtoul(argv[2], &end, 10) : 0;
    if (threads == 0 || threads > THREADS_MAX || *end) {
        fputs("usage: empty_responder SOCKET THREADS\n", stderr);
        return 64;
    }
    sigset_t stop;
    sigemptyset(&stop);
    sigaddset(&stop, SIGTERM);
    sigaddset(&stop, SIGINT);
    sigaddset(&stop, SIGUSR1); /* the library would take it */
    int listener = FCGX_Init() == 0 ? FCGX_OpenSocket(argv[1], QUEUE) : -1;
    pthread_attr_t attributes;
    if (listener < 0 || chmod(argv[1], 0660) != 0 || pthread_sigmask(SIG_BLOCK, &stop, NULL) != 0 ||
        pthread_attr_init(&attributes) != 0 || pthread_attr_setstacksize(&attributes, STACK_BYTES) != 0) {
        perror("empty_responder");
        return 1;
    }
    signal(SIGPIPE, SIG_IGN);
    for (unsigned long i = 0; i < threads; i++) {
        pthread_t thread;
        if (pthread_create(&thread, &attributes, serve, &listener) != 0) {
            fputs("empty_responder: cannot start a thread\n", stderr);
            return 1;
        }
    }
    int signal_number;
    while (sigwait(&stop, &signal_number) != 0 || signal_number == SIGUSR1)
        ;
    unlink(argv[1]);
    _exit(0); /* the threads are in accept for good */
}
