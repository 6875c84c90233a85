/* leadhook - takes leads from nginx over FastCGI, stores them and mails about them.
 *
 *   leadhook [--config FILE]
 *
 * Serves FastCGI on the socket `listen`, or on file descriptor 0 when a
 * supervisor handed one over; answers one request when started as a CGI program.
 *
 * Signals: SIGTERM and SIGINT finish what was accepted and end with 0; a second
 * one is not waited for: SIGKILL loses nothing that was answered.  SIGHUP reads
 * keys and secrets anew.
 * Exit status: 0, or those of sysexits.h: 64 usage, 78 configuration, 69 the
 * store or the keys cannot be used, 71 the system refuses something.
 */
#include "handler/cgi.h"
#include "handler/fastcgi.h"
#include "handler/intake.h"
#include "handler/service.h"

/* System */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/log.h"

/* L3 */
#include "lib/net/http.h"

/* L7 */
#include "lib/relay/relay_socket.h"

enum { HEAPS = 4, FILES = 4096 };

static int report(const char *event, const struct fail *why, int code)
{
    log_failure(LOG_LEVEL_ERROR, event, why, NULL);
    return code;
}

/* glibc would give nearly every thread a heap of its own, each with room that it keeps: several megabytes.  Threads
 * rarely meet in four, since small pieces come from each one's own cache. */
static void save_memory(void)
{
    (void)mallopt(M_ARENA_MAX, HEAPS); /* does not fail for this option */
}

/* 2 * LIMIT_THREADS connections would use up the usual 1024 descriptors, and then the spool could not be opened. */
static void allow_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0 || files.rlim_cur >= FILES)
        return;
    files.rlim_cur = files.rlim_max < FILES ? files.rlim_max : FILES;
    (void)setrlimit(RLIMIT_NOFILE, &files); /* else it is as before */
}

/* Nothing of ours is for others, and a core would hold keys and personal data. */
static void protect_process(void)
{
    (void)umask(077);
    (void)prctl(PR_SET_DUMPABLE, 0);
}

/* Every thread inherits this; main takes the signals with sigwait. */
static sigset_t block_signals(void)
{
    sigset_t all, awaited;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, NULL);
    (void)sigemptyset(&awaited);
    (void)sigaddset(&awaited, SIGTERM);
    (void)sigaddset(&awaited, SIGINT);
    (void)sigaddset(&awaited, SIGUSR1); /* multiwatch ends its children with it */
    (void)sigaddset(&awaited, SIGHUP);
    return awaited;
}

static int make_listener(const struct config *config, struct listener *listener)
{
    struct fail why;
    enum status status = config->listen ? listener_make(config->listen, config->listen_mode,
                                                        config->listen_group, listener, &why)
                                        : listener_adopt(listener, &why);
    return status == ST_OK ? 0 : report("no-socket", &why, status == ST_INVALID ? EX_CONFIG : EX_OSERR);
}

/* Until a signal says to end; gives that signal. */
static int wait_for_end(struct service *service, struct key_ring *keys, const sigset_t *awaited)
{
    for (;;) {
        int signal = 0;
        if (sigwait(awaited, &signal) != 0)
            continue; /* interrupted */
        if (signal != SIGHUP)
            return signal;
        service_reload(service, keys);
    }
}

/* Serves until a signal says to end. */
static int serve_fastcgi(struct service *service, struct key_ring *keys,
                         const struct request_handler *handler, const sigset_t *awaited)
{
    struct listener listener = {.fd = -1};
    struct relay *relay = NULL;
    struct fastcgi *fastcgi = NULL;
    struct fail why;
    int64_t end_by_ms = 0; /* monotonic */
    int code = make_listener(&service->config, &listener);
    if (code != 0)
        return code;
    struct relay_options relay_options = service_relay(service);
    struct fastcgi_options options = {
        .listener = &listener,
        .handler = handler,
        .metrics = service->metrics,
        .connections = 2 * service->config.threads, /* half of them may be idle */
        .body_max_bytes = service->config.body_max_bytes,
    };
    if (service_has_relay(service) && relay_start(&relay_options, &relay, &why) != ST_OK) {
        code = report("no-relay", &why, EX_OSERR);
    } else if (fastcgi_start(&options, &fastcgi, &why) != ST_OK) {
        code = report("no-thread", &why, EX_OSERR);
    } else {
        log_event(LOG_LEVEL_INFO, "ready", "pid=%d threads=%u", (int)getpid(), service->config.threads);
        int signal = wait_for_end(service, keys, awaited);
        log_event(LOG_LEVEL_INFO, "stopping", "pid=%d signal=%d", (int)getpid(), signal);
        end_by_ms = clock_monotonic_ms() + WAIT_STOP_MS;
        if (!fastcgi_stop(fastcgi, WAIT_STOP_MS)) {
            log_event(LOG_LEVEL_WARNING, "stopped-late", "pid=%d", (int)getpid());
            _exit(0); /* a peer hangs, or the store does for longer than we may; nobody was told 2xx */
        }
    }
    int64_t left_ms = end_by_ms - clock_monotonic_ms();
    bool relay_ended = relay_stop(relay, left_ms > 0 ? left_ms : 0);
    listener_close(&listener);
    if (!relay_ended)
        _exit(code); /* all leads are settled; the mail's row says how far it came */
    return code;
}

static int serve(struct service *service, struct key_ring *keys, const sigset_t *awaited)
{
    struct intake_shared shared = {
        .config = &service->config, .keys = keys, .metrics = service->metrics, .hint_fd = -1};
    struct request_handler handler = {
        .begin = intake_begin,
        .handle = intake_handle,
        .after = intake_after,
        .tick = intake_tick,
        .end = intake_end,
        .shared = &shared,
    };
    struct committer_options options = service_committer(service);
    struct fail why;
    int code = 0;
    if (committer_new(&options, &shared.committer, &why) != ST_OK)
        return report("no-store", &why, EX_UNAVAILABLE);
    if (service->config.mail_on && relay_hint_open(&shared.hint_fd, NULL) != ST_OK)
        shared.hint_fd = -1; /* mails wait for the relay's next pass then */
    if (!cgi_is_request())
        code = serve_fastcgi(service, keys, &handler, awaited);
    else if (cgi_serve(&handler, service->metrics, service->config.body_max_bytes, &why) != ST_OK)
        code = report("cgi-failed", &why, EX_IOERR);
    committer_free(shared.committer);
    if (shared.hint_fd >= 0)
        (void)close(shared.hint_fd);
    return code;
}

/* The shared counters lie beside the relay's socket. */
static void open_metrics(struct service *service)
{
    struct buf path = BUF_INIT(4096);
    struct fail why;
    if (service->config.relay_socket)
        buf_addf(&path, "%s.metrics", service->config.relay_socket);
    if (metrics_open(path.data, &service->metrics, &why) != ST_OK)
        log_failure(LOG_LEVEL_WARNING, "metrics-not-shared", &why, NULL);
    buf_release(&path);
}

int main(int argc, char **argv)
{
    struct service service;
    struct key_ring *keys = NULL;
    struct fail why;
    int next;
    protect_process();
    save_memory();
    allow_files();
    int code = service_read(&service, "leadhook", argc, argv, &next);
    if (code == 0 && next < argc) {
        (void)fprintf(stderr, "usage: leadhook [--config FILE]\n");
        code = EX_USAGE;
    }
    if (code == 0)
        code = service_read_keys(&service, "leadhook", &keys);
    if (code == 0 && http_global_init(&why) != ST_OK)
        code = report("no-libcurl", &why, EX_OSERR);
    if (code == 0) {
        sigset_t awaited = block_signals();
        open_metrics(&service);
        if (!service.config.sqlite_path && !service.config.spool_path)
            log_event(LOG_LEVEL_WARNING, "no-spool", "note=while-the-table-is-down-leads-are-answered-503");
        code = serve(&service, keys, &awaited);
    }
    key_ring_free(keys);
    service_release(&service);
    return code;
}
