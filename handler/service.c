#include "handler/service.h"

/* System */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/log.h"

/* L4 */
#include "lib/table/account.h"

/* L7 */
#include "lib/relay/relay_socket.h"

void service_protect_process(void)
{
    const struct rlimit none = {0};
    (void)umask(077);
    (void)setrlimit(RLIMIT_CORE, &none);
    (void)prctl(PR_SET_DUMPABLE, 0);
}

int service_first_argument(int argc, char **argv)
{
    if (argc > 2 && strcmp(argv[1], "--config") == 0)
        return 3;
    return argc > 1 && strncmp(argv[1], "--config=", 9) == 0 ? 2 : 1;
}

/* Where the configuration is: --config FILE, else the environment, else the usual place. */
static const char *config_path(int argc, char **argv)
{
    int first = service_first_argument(argc, argv);
    const char *path = first == 3 ? argv[2] : first == 2 ? argv[1] + 9 : getenv("LEADHOOK_CONFIG");
    return path ? path : CONFIG_DEFAULT_PATH;
}

/* The mistakes that were noted, one per line; why when there is none, or no memory to note it. */
static struct span mistakes_of(const struct buf *mistakes, const struct fail *why)
{
    return mistakes->len ? buf_span(mistakes) : span_of(why->text);
}

static void print_mistakes(const char *program, const struct buf *mistakes, const struct fail *why)
{
    struct span rest = mistakes_of(mistakes, why), line;
    while (span_next(&rest, '\n', &line)) {
        if (line.len)
            (void)fprintf(stderr, "%s: %.*s\n", program, SPAN_FMT(line));
    }
}

static enum status read_config(const char *path, struct config *config, struct buf *mistakes,
                               struct fail *why)
{
    enum status status = config_read(path, config, mistakes);
    return status != ST_OK && mistakes->error != ST_OK ? buf_status(mistakes, path, why) : status;
}

int service_read(struct service *service, const char *program, int argc, char **argv)
{
    struct buf mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct fail why = {0};
    *service = (struct service){.config_path = config_path(argc, argv)};
    enum status status = read_config(service->config_path, &service->config, &mistakes, &why);
    if (status == ST_OK)
        log_set_format(service->config.log);
    else
        print_mistakes(program, &mistakes, &why);
    buf_release(&mistakes);
    return status == ST_OK ? 0 : EX_CONFIG;
}

void service_release(struct service *service)
{
    metrics_close(service->metrics);
    route_book_free(service->routes);
    config_release(&service->config);
}

int service_read_keys(const struct service *service, const char *program, struct key_ring **ring)
{
    struct buf mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct keys *keys;
    struct fail why;
    enum status status = keys_read(service->config.keys_file, clock_true_ms(), &keys, &mistakes, &why);
    if (status == ST_OK)
        status = key_ring_new(keys, ring, &why);
    if (status != ST_OK)
        print_mistakes(program, &mistakes, &why);
    buf_release(&mistakes);
    return status == ST_OK ? 0 : EX_CONFIG;
}

enum status service_try_routes(const char *path, const struct config *in_force, struct routes **routes,
                               struct buf *mistakes, struct fail *why)
{
    struct routes *read = NULL;
    enum status status = routes_read(path, &read, mistakes, why);
    if (status != ST_OK)
        return status;
    if (in_force->mail_on && in_force->recipient_count == 0 && !routes_default(read)) {
        routes_free(read);
        status =
            fail_set(why, ST_INVALID, 0,
                     "%s: who is told of leads that no rule matches? mail_to is not set, so the last line "
                     "must be 'default -> ADDRESSES' or 'default -> off'",
                     path ? path : "mail_routes");
        buf_addf(mistakes, "%s\n", why->text);
        return status;
    }
    *routes = read;
    return ST_OK;
}

int service_read_routes(struct service *service, const char *program)
{
    struct buf mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct routes *routes = NULL;
    struct fail why;
    enum status status =
        service_try_routes(service->config.mail_routes, &service->config, &routes, &mistakes, &why);
    if (status == ST_OK)
        status = route_book_new(routes, &service->routes, &why);
    if (status != ST_OK)
        print_mistakes(program, &mistakes, &why);
    buf_release(&mistakes);
    return status == ST_OK ? 0 : EX_CONFIG;
}

void service_metrics_path(const struct config *config, struct buf *path)
{
    if (config->relay_socket)
        buf_addf(path, "%s.metrics%d", config->relay_socket, METRICS_LAYOUT);
}

static void count_exchange(void *context, int64_t took_us)
{
    metrics_observe(((struct service *)context)->metrics, HISTOGRAM_TABLE_US, (uint64_t)took_us);
}

/* Of every exchange with the Table service the metrics are told; NULL: of none. */
static enum status open_store(const struct config *config, struct service *counts, struct store **store,
                              struct fail *why)
{
    if (config->sqlite_path)
        return store_open_sqlite(config->sqlite_path, store, why);
    struct table_options options = {
        .live = config->connection,
        .table_name = span_of(config->table_name),
        .ca_file = config->table_tls_ca,
        .on_exchange = counts ? count_exchange : NULL,
        .context = counts,
    };
    return store_open_table(&options, store, why);
}

enum status service_open_store(void *context, struct store **store, struct fail *why)
{
    struct service *service = context;
    return open_store(&service->config, service->metrics ? service : NULL, store, why);
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
    enum status status = open_store(fresh, NULL, &store, why);
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
    struct routes *routes = NULL;
    struct fail why = {0};
    enum status status = read_config(service->config_path, &fresh, &mistakes, &why);
    if (status == ST_OK)
        status = keys_read(fresh.keys_file, clock_true_ms(), &keys, &mistakes, &why);
    if (status == ST_OK)
        status = service_try_routes(fresh.mail_routes, &service->config, &routes, &mistakes, &why);
    if (status == ST_OK)
        status = check_secrets(&service->config, &fresh, &why);
    if (status == ST_OK) {
        size_t count = keys_count(keys, clock_true_ms());
        log_differences(&service->config, &fresh);
        replace(service->config.connection, &fresh.connection);
        replace(service->config.password, &fresh.password);
        size_t rules = routes_count(routes);
        key_ring_replace(ring, keys);
        route_book_replace(service->routes, routes);
        log_event(LOG_LEVEL_INFO, "reloaded", "pid=%d keys=%zu routes=%zu", (int)getpid(), count, rules);
    } else {
        struct span rest = mistakes_of(&mistakes, &why), line;
        keys_free(keys);
        routes_free(routes);
        while (span_next(&rest, '\n', &line)) {
            if (line.len) {
                struct fail one;
                (void)fail_set(&one, status, 0, "%.*s", SPAN_FMT(line));
                log_failure(LOG_LEVEL_ERROR, "reload-refused", &one, "pid=%d", (int)getpid());
            }
        }
    }
    config_release(&fresh);
    buf_release(&mistakes);
}

/* --- parts -------------------------------------------------------------------------------------------------- */

static void count_commit(void *context, size_t leads, int64_t took_us, enum status status)
{
    struct metrics *metrics = ((struct service *)context)->metrics;
    metrics_observe(metrics, HISTOGRAM_COMMIT_US, (uint64_t)took_us);
    metrics_observe(metrics, HISTOGRAM_BATCH_LEADS, leads);
    if (status != ST_OK)
        metrics_add(metrics, METRIC_COMMIT_FAILURES, 1);
}

static void count_mail(void *context, enum mail_outcome outcome)
{
    metrics_add(((struct service *)context)->metrics, metric_of_outcome(outcome), 1);
}

static void count_parked(void *context)
{
    metrics_add(((struct service *)context)->metrics, METRIC_MAILS_PARKED, 1);
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

static uint64_t wrong_keys(void *context)
{
    return metrics_get(((struct service *)context)->metrics, METRIC_REQUESTS_401);
}

static void count_breaker(void *context, bool is_open, const struct fail *why)
{
    metrics_set(((struct service *)context)->metrics, METRIC_BREAKER_OPEN, is_open);
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

static uint64_t seconds_of(int64_t ms)
{
    return ms > 0 ? (uint64_t)ms / 1000 : 0;
}

static void note_spool(void *context, const struct drain_state *state)
{
    struct metrics *metrics = ((struct service *)context)->metrics;
    metrics_set(metrics, METRIC_SPOOL_LEADS, state->rows);
    metrics_set(metrics, METRIC_SPOOL_BYTES, state->bytes);
    metrics_set(metrics, METRIC_SPOOL_OLDEST_S, seconds_of(state->oldest_ms));
    metrics_set(metrics, METRIC_BREAKER_OPEN, state->is_open);
}

static void note_census(void *context, const struct census_result *result)
{
    struct metrics *metrics = ((struct service *)context)->metrics;
    struct offer_time offers[LIMIT_OFFERS_SHOWN];
    for (size_t i = 0; i < result->offer_count; i++)
        offers[i] =
            (struct offer_time){span_of(result->offers[i].partition), result->offers[i].last_ms / 1000};
    metrics_set_offers(metrics, offers, result->offer_count);
    metrics_set(metrics, METRIC_MAILS_WAITING, result->mails);
    metrics_set(metrics, METRIC_MAILS_OLDEST_S, seconds_of(result->mails_oldest_ms));
    metrics_set(metrics, METRIC_RELAY_LOOKED_S, seconds_of(clock_wall_ms()));
}

static int64_t key_last_use_s(void *context, const char *name)
{
    struct key_use use;
    return metrics_key_use(((struct service *)context)->metrics, span_of(name), &use) ? use.last_s : 0;
}

_Static_assert(METRIC_TROUBLES_CERTIFICATE_ENDING - METRIC_TROUBLES_SILENCE + 1 == (int)TROUBLE_KINDS,
               "a gauge for each kind");

static void note_troubles(void *context, enum trouble_kind kind, size_t lasting)
{
    enum metric gauge = (enum metric)(METRIC_TROUBLES_SILENCE + (int)kind);
    metrics_set(((struct service *)context)->metrics, gauge, lasting);
}

static struct spool_options spool_of(const struct config *config)
{
    return (struct spool_options){.path = config->spool_path, .max_bytes = config->spool_max_bytes};
}

struct lead_rules service_rules(const struct service *service)
{
    const struct config *config = &service->config;
    assert(service->routes); /* without them leads would be mailed to others than was said */
    return (struct lead_rules){
        .routes = service->routes,
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
        .rules = service_rules(service),
        .deadline_ms = config->request_deadline_ms,
        .quarantine = {.per_day = config->quarantine_per_day, .max_bytes = config->quarantine_max_bytes},
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
        .wrong_keys = wrong_keys,
        .context = service,
        .mailer =
            {
                .transport = config_mail(config),
                .from = config->from,
                .detail = config->detail,
                .per_minute = config->mail_per_minute,
                .on_outcome = count_mail,
                .on_parked = count_parked,
                .context = service,
            },
        .drain =
            {
                .spool = spool_of(config),
                .rules = service_rules(service),
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
        .on_census = note_census,
        .lookout =
            {
                .silence_days = config->alarm_silence_days,
                .before_days = config->alarm_before_days,
                .keys_file = config->keys_file,
                .mails = config->mail_on,
                .transport = config_mail(config),
                .tells = config->alarm_recipient_count > 0,
                .key_last_use_s = key_last_use_s,
                .on_troubles = note_troubles,
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
