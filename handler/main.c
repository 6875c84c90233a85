/* leadhook - takes leads from nginx over FastCGI, stores them and mails about them.
 *
 *   leadhook [--config FILE]
 *   leadhook --version
 *
 * Serves FastCGI on the socket `listen`, or on file descriptor 0 when a
 * supervisor handed one over; answers one request when started as a CGI program.
 *
 * After its start it keeps only what it needs (sandbox.h).
 *
 * Signals: SIGTERM and SIGINT finish what was accepted and end with 0; a second
 * one is not waited for: SIGKILL loses nothing that was answered.  SIGHUP reads
 * keys and secrets anew.
 * Exit status: 0, or those of sysexits.h: 64 usage, 78 configuration, 69 the
 * store or the keys cannot be used, 71 the system refuses something (also the sandbox, if it is required).
 */
#include "handler/callfilter.h"
#include "handler/cgi.h"
#include "handler/fastcgi.h"
#include "handler/intake.h"
#include "handler/modes.h"
#include "handler/sandbox.h"
#include "handler/service.h"

/* System */
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sysexits.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/log.h"
#include "lib/base/version.h"

/* L3 */
#include "lib/net/http.h"

/* L7 */
#include "lib/relay/relay_socket.h"

enum { HEAPS = 4, WATCH_S = 5 };

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

/* 2 * LIMIT_THREADS connections would use up the usual 1024 descriptors, and then the spool could not be opened.  More
 * than this nobody needs. */
static void bound_files(void)
{
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) != 0)
        return;
    if (files.rlim_max > LIMIT_OPEN_FILES)
        files.rlim_max = LIMIT_OPEN_FILES;
    files.rlim_cur = files.rlim_max;
    (void)setrlimit(RLIMIT_NOFILE, &files); /* else it is as before */
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
    (void)sigaddset(&awaited, CALLFILTER_SIGNAL);
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

/* Until a signal says to end, which is given, or we have to be started again. */
static int wait_for_end(struct service *service, struct key_ring *keys, const sigset_t *awaited)
{
    const struct timespec watch = {.tv_sec = WATCH_S};
    const char *outdated = NULL;
    while (!(outdated = sandbox_outdated())) {
        int signal = sigtimedwait(awaited, NULL, &watch);
        if (signal == CALLFILTER_SIGNAL)
            callfilter_log_denied();
        else if (signal == SIGHUP)
            service_reload(service, keys);
        else if (signal > 0) /* not interrupted, and not the time to look */
            return signal;
    }
    log_event(LOG_LEVEL_WARNING, "sandbox-outdated",
              "file=%s note=replaced-and-only-readable-after-a-restart", outdated);
    return SIGTERM;
}

/* Serves until a signal says to end. */
static int serve_fastcgi(struct service *service, struct key_ring *keys,
                         const struct request_handler *handler, struct listener *listener,
                         const sigset_t *awaited)
{
    struct relay *relay = NULL;
    struct fastcgi *fastcgi = NULL;
    struct fail why;
    int64_t end_by_ms = 0; /* monotonic */
    int code = 0;
    struct relay_options relay_options = service_relay(service);
    struct fastcgi_options options = {
        .listener = listener,
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
        sandbox_log_state();
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
    listener_close(listener);
    if (!relay_ended)
        _exit(code); /* all leads are settled; the mail's row says how far it came */
    return code;
}

/* listener: NULL for a CGI request. */
static int serve(struct service *service, struct key_ring *keys, struct listener *listener,
                 const sigset_t *awaited)
{
    struct log_budget strangers = {0};
    struct intake_shared shared = {.config = &service->config,
                                   .keys = keys,
                                   .metrics = service->metrics,
                                   .strangers = &strangers,
                                   .hint_fd = -1};
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
    if (listener)
        code = serve_fastcgi(service, keys, &handler, listener, awaited);
    else if (cgi_serve(&handler, service->metrics, service->config.body_max_bytes, &why) != ST_OK)
        code = report("cgi-failed", &why, EX_IOERR);
    if (strangers.left_out > 0)
        log_event(LOG_LEVEL_WARNING, "refused-more", "count=%llu", strangers.left_out);
    committer_free(shared.committer);
    if (shared.hint_fd >= 0)
        (void)close(shared.hint_fd);
    callfilter_log_denied();
    return code;
}

/* The socket is made before the sandbox: that needs rights which are not needed any more afterwards.  Threads are
 * started after it, as they inherit it. */
static int begin(struct service *service, struct key_ring *keys, const sigset_t *awaited)
{
    struct listener listener = {.fd = -1};
    struct fail why;
    bool is_cgi = cgi_is_request();
    int code = is_cgi ? 0 : make_listener(&service->config, &listener);
    if (code == 0 && sandbox_enter(service, &why) != ST_OK)
        code = report("no-sandbox", &why, EX_OSERR);
    if (code == 0)
        code = serve(service, keys, is_cgi ? NULL : &listener, awaited);
    listener_close(&listener);
    return code;
}

/* What the configuration says.  A spool or a relay that there is no more has left what it said last. */
static void tell_metrics(const struct service *service)
{
    static const enum metric of_spool[] = {METRIC_SPOOL_LEADS, METRIC_SPOOL_BYTES, METRIC_SPOOL_OLDEST_S,
                                           METRIC_BREAKER_OPEN};
    bool has_spool = service->config.spool_path != NULL;
    metrics_set(service->metrics, METRIC_SPOOL_LIMIT_BYTES, has_spool ? service->config.spool_max_bytes : 0);
    for (size_t i = 0; i < sizeof of_spool / sizeof of_spool[0] && !has_spool; i++)
        metrics_set(service->metrics, of_spool[i], 0);
    if (!service_has_relay(service))
        metrics_set(service->metrics, METRIC_RELAY_LOOKED_S, 0);
}

static void open_metrics(struct service *service)
{
    struct buf path = BUF_INIT(LIMIT_PATH_BYTES);
    struct fail why;
    service_metrics_path(&service->config, &path);
    if (metrics_open(path.data, &service->metrics, &why) != ST_OK)
        log_failure(LOG_LEVEL_WARNING, "metrics-not-shared", &why, NULL);
    tell_metrics(service);
    buf_release(&path);
}

static void on_open_file(void *context, const struct fail *why)
{
    (void)context;
    log_failure(LOG_LEVEL_WARNING, "too-open", why, NULL);
}

/* What is asked of the program itself, or that it does not know: gives the exit status. */
static int answer(const char *argument)
{
    static const char usage[] =
        "usage: leadhook [--config FILE]\n"
        "       leadhook --version\n"
        "Without --config the file is $LEADHOOK_CONFIG, else " CONFIG_DEFAULT_PATH ".\n";
    bool is_version = strcmp(argument, "--version") == 0;
    bool is_help = strcmp(argument, "--help") == 0 || strcmp(argument, "-h") == 0;
    if (!is_version && !is_help) {
        (void)fputs(usage, stderr);
        return EX_USAGE;
    }
    int written = is_version ? printf("leadhook %s\n", version_text()) : printf("%s", usage);
    return written > 0 && fflush(stdout) == 0 ? 0 : EX_IOERR;
}

int main(int argc, char **argv)
{
    struct service service;
    struct key_ring *keys = NULL;
    struct fail why;
    int first = service_first_argument(argc, argv);
    if (first < argc)
        return answer(argv[first]);
    service_protect_process();
    save_memory();
    bound_files();
    int code = service_read(&service, "leadhook", argc, argv);
    if (code == 0)
        code = service_read_keys(&service, "leadhook", &keys);
    if (code == 0)
        code = service_read_routes(&service, "leadhook");
    if (code == 0 && http_global_init(&why) != ST_OK)
        code = report("no-libcurl", &why, EX_OSERR);
    if (code == 0 && !cgi_is_request() && config_uses_tls(&service.config) && crypto_init_tls(&why) != ST_OK)
        code = report("no-tls", &why, EX_OSERR);
    if (code == 0) {
        sigset_t awaited = block_signals();
        open_metrics(&service);
        (void)modes_check(&service.config, on_open_file, NULL); /* each is told */
        if (!service.config.sqlite_path && !service.config.spool_path)
            log_event(LOG_LEVEL_WARNING, "no-spool", "note=while-the-table-is-down-leads-are-answered-503");
        code = begin(&service, keys, &awaited);
    }
    key_ring_free(keys);
    service_release(&service);
    return code;
}
