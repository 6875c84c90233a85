#include "handler/service.h"

/* System */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* L7 */
#include "lib/relay/relay_socket.h"

/* Where the configuration is: --config FILE, else the environment, else the usual place. */
static const char *config_path(int argc, char **argv, int *next_argument)
{
    const char *path = getenv("LEADHOOK_CONFIG");
    *next_argument = 1;
    if (argc > 2 && strcmp(argv[1], "--config") == 0) {
        path = argv[2];
        *next_argument = 3;
    } else if (argc > 1 && strncmp(argv[1], "--config=", 9) == 0) {
        path = argv[1] + 9;
        *next_argument = 2;
    }
    return path ? path : CONFIG_DEFAULT_PATH;
}

static void print_mistakes(const char *program, const struct buf *mistakes)
{
    struct span rest = buf_span(mistakes), line;
    while (span_next(&rest, '\n', &line)) {
        if (line.len)
            (void)fprintf(stderr, "%s: %.*s\n", program, SPAN_FMT(line));
    }
}

int service_read(struct service *service, const char *program, int argc, char **argv, int *next_argument)
{
    struct buf mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    *service = (struct service){0};
    enum status status = config_read(config_path(argc, argv, next_argument), &service->config, &mistakes);
    print_mistakes(program, &mistakes);
    buf_release(&mistakes);
    return status == ST_OK ? 0 : EX_CONFIG;
}

void service_release(struct service *service)
{
    metrics_close(service->metrics);
    config_release(&service->config);
}

enum status service_open_store(void *context, struct store **store, struct fail *why)
{
    const struct config *config = &((const struct service *)context)->config;
    if (config->sqlite_path)
        return store_open_sqlite(config->sqlite_path, store, why);
    struct table_options options = {
        .connection = span_of(config->table_connection),
        .table_name = span_of(config->table_name),
        .ca_file = config->table_tls_ca,
    };
    return store_open_table(&options, store, why);
}

static void count_commit(void *context, size_t leads, enum status status)
{
    struct metrics *metrics = ((struct service *)context)->metrics;
    metrics_add(metrics, status == ST_OK ? METRIC_COMMITS : METRIC_COMMIT_FAILURES, 1);
    if (status == ST_OK)
        metrics_add(metrics, METRIC_COMMIT_LEADS, leads);
}

static void count_mail(void *context, enum mail_outcome outcome)
{
    metrics_add(((struct service *)context)->metrics, metric_of_outcome(outcome), 1);
}

struct committer_options service_committer(struct service *service)
{
    const struct config *config = &service->config;
    return (struct committer_options){
        .open = service_open_store,
        .context = service,
        .rules =
            {
                .repeat_window_ms = (int64_t)config->repeat_window_s * 1000,
                .recipients = config->recipients,
                .recipient_count = config->recipient_count,
            },
        .deadline_ms = config->request_deadline_ms,
        .quarantine_per_day = config->quarantine_per_day,
        .on_commit = count_commit,
    };
}

struct relay_options service_relay(struct service *service)
{
    const struct config *config = &service->config;
    return (struct relay_options){
        .open = service_open_store,
        .context = service,
        .mailer =
            {
                .transport = config_mail(config),
                .from = config->from,
                .detail = config->detail,
                .per_minute = config->mail_per_minute,
                .on_outcome = count_mail,
                .context = service,
            },
        .socket_path = config->relay_socket,
    };
}

void service_hint(const struct service *service, const char *partition)
{
    int fd;
    if (!service->config.mail_on || relay_hint_open(&fd, NULL) != ST_OK)
        return;
    relay_hint(fd, service->config.relay_socket, partition);
    (void)close(fd);
}
