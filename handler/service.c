#include "handler/service.h"

/* System */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/log.h"

/* L4 */
#include "lib/table/account.h"

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
    *service = (struct service){.config_path = config_path(argc, argv, next_argument)};
    enum status status = config_read(service->config_path, &service->config, &mistakes);
    print_mistakes(program, &mistakes);
    buf_release(&mistakes);
    return status == ST_OK ? 0 : EX_CONFIG;
}

void service_release(struct service *service)
{
    metrics_close(service->metrics);
    config_release(&service->config);
}

int service_read_keys(const struct service *service, const char *program, struct key_ring **ring)
{
    struct buf mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct keys *keys;
    struct fail why;
    enum status status = keys_read(service->config.keys_file, &keys, &mistakes, &why);
    if (status == ST_OK)
        status = key_ring_new(keys, ring, &why);
    if (status != ST_OK && mistakes.len == 0)
        buf_addf(&mistakes, "%s\n", why.text);
    print_mistakes(program, &mistakes);
    buf_release(&mistakes);
    return status == ST_OK ? 0 : EX_CONFIG;
}

static enum status open_store(const struct config *config, struct store **store, struct fail *why)
{
    if (config->sqlite_path)
        return store_open_sqlite(config->sqlite_path, store, why);
    struct table_options options = {
        .live = config->connection,
        .table_name = span_of(config->table_name),
        .ca_file = config->table_tls_ca,
    };
    return store_open_table(&options, store, why);
}

enum status service_open_store(void *context, struct store **store, struct fail *why)
{
    return open_store(&((const struct service *)context)->config, store, why);
}

/* --- reload ------------------------------------------------------------------------------------------------- */

/* Another account is another store: mails that wait and offers that are known are of the old one. */
static enum status check_same_account(struct span now, struct span fresh, struct fail *why)
{
    struct table_account a = {0}, b = {0};
    enum status status = table_account_parse(now, &a, why);
    if (status == ST_OK)
        status = table_account_parse(fresh, &b, why);
    if (status == ST_OK && !table_account_is_same(&a, &b))
        status = fail_set(why, ST_INVALID, 0, "table_connection has another endpoint: restart for that");
    table_account_release(&a);
    table_account_release(&b);
    return status;
}

/* Credentials that the service refuses would stop every lead; when it does not answer, nobody can tell. */
static enum status try_connection(const struct config *fresh, struct fail *why)
{
    struct store *store;
    enum status status = open_store(fresh, &store, why);
    if (status != ST_OK)
        return status;
    status = store_probe(store, clock_monotonic_ms() + fresh->request_deadline_ms, why);
    store_close(store);
    return status == ST_DENIED ? status : ST_OK;
}

/* A connection string that has not changed is not judged: it may be the service that is in trouble. */
static enum status check_connection(const struct config *now, const struct config *fresh, struct fail *why)
{
    struct buf now_text = BUF_INIT(LIMIT_CONFIG_FILE_BYTES), fresh_text = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    unsigned int version;
    enum status status = secret_copy(now->connection, &now_text, &version, why);
    if (status == ST_OK)
        status = secret_copy(fresh->connection, &fresh_text, &version, why);
    if (status == ST_OK && !span_eq(buf_span(&now_text), buf_span(&fresh_text))) {
        status = check_same_account(buf_span(&now_text), buf_span(&fresh_text), why);
        if (status == ST_OK)
            status = try_connection(fresh, why);
    }
    buf_release_secret(&now_text);
    buf_release_secret(&fresh_text);
    return status;
}

/* What was not there at the start has nobody who follows it. */
static enum status check_presence(const char *name, const struct secret *now, const struct secret *fresh,
                                  struct fail *why)
{
    if (!now == !fresh)
        return ST_OK;
    return fail_set(why, ST_INVALID, 0, "%s %s: restart for that", name,
                    fresh ? "was not set at the start" : "is not set any more");
}

static enum status check_secrets(const struct config *now, const struct config *fresh, struct fail *why)
{
    enum status status = check_presence("table_connection", now->connection, fresh->connection, why);
    if (status == ST_OK)
        status = check_presence("mail_password", now->password, fresh->password, why);
    if (status == ST_OK && !span_eq(span_of(now->mail_user), span_of(fresh->mail_user)))
        status = fail_set(why, ST_INVALID, 0, "mail_user has changed with the password: restart for that");
    if (status == ST_OK && !now->sqlite_path && !fresh->sqlite_path)
        status = check_connection(now, fresh, why);
    return status;
}

static void log_differences(const struct config *now, const struct config *fresh)
{
    size_t index = 0;
    const char *name;
    while ((name = config_difference(now, fresh, &index)) != NULL)
        log_event(LOG_LEVEL_WARNING, "setting-not-reloaded", "setting=%s note=restart-for-that", name);
}

static void replace(struct secret *now, struct secret **fresh)
{
    if (now)
        secret_replace(now, *fresh);
    *fresh = now ? NULL : *fresh;
}

void service_reload(struct service *service, struct key_ring *ring)
{
    struct buf mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct config fresh = {0};
    struct keys *keys = NULL;
    struct fail why = {0};
    enum status status = config_read(service->config_path, &fresh, &mistakes);
    if (status == ST_OK)
        status = keys_read(fresh.keys_file, &keys, &mistakes, &why);
    if (status == ST_OK)
        status = check_secrets(&service->config, &fresh, &why);
    if (status != ST_OK && mistakes.len == 0)
        buf_addf(&mistakes, "%s\n", why.text);
    if (status == ST_OK) {
        size_t count = keys_count(keys);
        log_differences(&service->config, &fresh);
        replace(service->config.connection, &fresh.connection);
        replace(service->config.password, &fresh.password);
        key_ring_replace(ring, keys);
        log_event(LOG_LEVEL_INFO, "reloaded", "pid=%d keys=%zu", (int)getpid(), count);
    } else {
        struct span rest = buf_span(&mistakes), line;
        keys_free(keys);
        while (span_next(&rest, '\n', &line)) {
            if (line.len) {
                (void)fail_set(&why, status, 0, "%.*s", SPAN_FMT(line));
                log_failure(LOG_LEVEL_ERROR, "reload-refused", &why, "pid=%d", (int)getpid());
            }
        }
    }
    config_release(&fresh);
    buf_release(&mistakes);
}

/* --- parts -------------------------------------------------------------------------------------------------- */

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

static void count_alarm(void *context, enum alarm alarm)
{
    log_event(LOG_LEVEL_WARNING, "alarm-raised", "alarm=%s", alarm_name(alarm));
    metrics_add(((struct service *)context)->metrics, METRIC_ALARMS_RAISED, 1);
}

static void count_alarm_mailed(void *context)
{
    metrics_add(((struct service *)context)->metrics, METRIC_ALARMS_MAILED, 1);
}

static void count_breaker(void *context, bool is_open, const struct fail *why)
{
    if (!is_open) {
        log_event(LOG_LEVEL_INFO, "table-works-again", NULL);
        return;
    }
    log_failure(LOG_LEVEL_ERROR, "spooling", why, NULL);
    metrics_add(((struct service *)context)->metrics, METRIC_BREAKER_OPENED, 1);
}

static void count_drained(void *context, size_t rows)
{
    metrics_add(((struct service *)context)->metrics, METRIC_SPOOL_DRAINED, rows);
}

static void count_lost(void *context, uint64_t rows)
{
    metrics_add(((struct service *)context)->metrics, METRIC_SPOOL_LOST, rows);
}

static void note_spool(void *context, uint64_t rows, uint64_t bytes)
{
    metrics_set(((struct service *)context)->metrics, METRIC_SPOOL_LEADS, rows);
    metrics_set(((struct service *)context)->metrics, METRIC_SPOOL_BYTES, bytes);
}

static struct spool_options spool_of(const struct config *config)
{
    return (struct spool_options){.path = config->spool_path, .max_bytes = config->spool_max_bytes};
}

/* By which leads become rows, at their arrival and in the drain. */
static struct lead_rules rules_of(const struct config *config)
{
    return (struct lead_rules){
        .repeat_window_ms = (int64_t)config->repeat_window_s * 1000,
        .recipients = config->recipients,
        .recipient_count = config->recipient_count,
    };
}

struct committer_options service_committer(struct service *service)
{
    const struct config *config = &service->config;
    return (struct committer_options){
        .open = service_open_store,
        .context = service,
        .rules = rules_of(config),
        .deadline_ms = config->request_deadline_ms,
        .quarantine_per_day = config->quarantine_per_day,
        .spool = spool_of(config),
        .raises_alarms = config->alarm_recipient_count > 0,
        .on_commit = count_commit,
        .on_alarm = count_alarm,
        .on_breaker = count_breaker,
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
        .drain =
            {
                .spool = spool_of(config),
                .rules = rules_of(config),
                .raises_alarms = config->alarm_recipient_count > 0,
                .on_breaker = count_breaker,
                .on_drained = count_drained,
                .on_lost = count_lost,
                .on_state = note_spool,
                .context = service,
            },
        .watch =
            {
                .transport = config_mail(config),
                .from = config->from,
                .recipients = config->alarm_recipients,
                .recipient_count = config->alarm_recipient_count,
                .on_mailed = count_alarm_mailed,
                .context = service,
            },
        .socket_path = config->relay_socket,
        .mails_leads = config->mail_on,
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

bool service_has_relay(const struct service *service)
{
    const struct config *config = &service->config;
    return config->mail_on || config->spool_path || config->alarm_recipient_count > 0;
}
