#include "handler/ctl/ctl.h"

/* System */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"

/* L2 */
#include "lib/auth/keys.h"

enum { CHECK_WAIT_MS = 15000, SKEW_WARN_MS = 60 * 1000 };

#define PROBE_PARTITION "leadctl-check"

static bool report(const char *what, const char *result, const char *text)
{
    (void)printf("%-5s %-6s %s\n", result, what, text);
    return strcmp(result, "FAIL") != 0;
}

static bool check_keys(const struct config *config)
{
    struct keys *keys = NULL;
    struct buf mistakes = BUF_INIT(LIMIT_KEY_FILE_BYTES);
    struct fail why;
    char text[512];
    bool good = keys_read(config->keys_file, &keys, &mistakes, &why) == ST_OK;
    if (good) {
        (void)snprintf(text, sizeof text, "%zu in '%s'", keys_count(keys), config->keys_file);
        (void)report("keys", "ok", text);
    } else if (mistakes.len == 0) {
        (void)report("keys", "FAIL", why.text);
    } else {
        struct span rest = buf_span(&mistakes), line;
        while (span_next(&rest, '\n', &line)) {
            (void)snprintf(text, sizeof text, "%.*s", SPAN_FMT(line));
            if (line.len)
                (void)report("keys", "FAIL", text);
        }
    }
    keys_free(keys);
    buf_release(&mistakes);
    return good;
}

/* Writes a row, reads it and deletes it again. */
static enum status try_rows(struct store *store, enum table_id table, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct operation operation = {.kind = OPERATION_INSERT};
    unsigned char random[16];
    char key[2 * sizeof random + 1];
    size_t failed;
    struct entity *row = NULL;
    struct span row_key;
    int64_t deadline = clock_monotonic_ms() + CHECK_WAIT_MS;
    enum status status = crypto_random(random, sizeof random, why);
    if (status != ST_OK)
        return status;
    hex_write(random, sizeof random, key);
    row_key = span_of(key);
    if (!entity_init(&operation.entity, SPAN_LIT(PROBE_PARTITION), row_key, &arena))
        return fail_set(why, ST_NOMEM, 0, "no memory");
    entity_add_time(&operation.entity, "CheckedTime", clock_wall_ms());
    status = store_transact(store, table, &operation, 1, deadline, &failed, why);
    if (status != ST_OK)
        fail_prefix(why, "writing a row");
    if (status == ST_OK) {
        status = store_get_many(store, table, SPAN_LIT(PROBE_PARTITION), &row_key, 1, NULL, deadline, &arena,
                                &row, why);
        if (status == ST_OK && !row)
            status = fail_set(why, ST_BUG, 0, "a row that was written is not there");
        if (status != ST_OK)
            fail_prefix(why, "reading a row");
    }
    if (status == ST_OK) {
        operation.kind = OPERATION_DELETE;
        operation.entity.etag = row->etag;
        status = store_transact(store, table, &operation, 1, deadline, &failed, why);
        if (status != ST_OK)
            fail_prefix(why, "deleting a row");
    }
    arena_release(&arena);
    return status;
}

static bool check_clock(const struct store *store)
{
    char text[256];
    int64_t skew_ms = store_now_ms(store) - clock_wall_ms();
    int64_t off_ms = skew_ms < 0 ? -skew_ms : skew_ms;
    if (off_ms < SKEW_WARN_MS)
        return report("clock", "ok", "this machine's clock agrees with the store's");
    (void)snprintf(
        text, sizeof text,
        "this machine's clock is %lld seconds %s: requests are refused from 900 on; set the clock (chrony, "
        "systemd-timesyncd)",
        (long long)(off_ms / 1000), skew_ms > 0 ? "slow" : "fast");
    return report("clock", "FAIL", text);
}

static bool check_store(struct service *service)
{
    const struct config *config = &service->config;
    struct store *store = NULL;
    struct fail why;
    char text[512];
    enum status status = service_open_store(service, &store, &why);
    if (status != ST_OK)
        return report("store", "FAIL", why.text);
    status = try_rows(store, TABLE_LEADS, &why);
    if (status == ST_OK)
        status = try_rows(store, TABLE_OPS, &why);
    bool good = status == ST_OK;
    if (!good)
        (void)snprintf(text, sizeof text, "%s", why.text);
    else if (config->sqlite_path)
        (void)snprintf(text, sizeof text, "rows written, read and deleted in '%s'", config->sqlite_path);
    else
        (void)snprintf(text, sizeof text, "rows written, read and deleted in tables '%s' and '%sOps'",
                       config->table_name, config->table_name);
    (void)report("store", good ? "ok" : "FAIL", text);
    if (good && !config->sqlite_path)
        good = check_clock(store);
    store_close(store);
    return good;
}

static bool check_spool(struct service *service)
{
    const struct config *config = &service->config;
    const struct spool_options options = service_committer(service).spool;
    struct spool *spool = NULL;
    struct fail why;
    char text[512];
    if (config->sqlite_path)
        return true; /* the store itself is on this machine */
    if (!options.path)
        return report("spool", "off", "spool is 'off': while the table does not take leads, senders get 503");
    enum status status = spool_open(&options, &spool, &why);
    if (status == ST_OK)
        status = spool_probe(spool, clock_monotonic_ms() + CHECK_WAIT_MS, &why);
    spool_close(spool);
    if (status != ST_OK)
        return report("spool", "FAIL", why.text);
    (void)snprintf(text, sizeof text, "'%s' can be written", options.path);
    return report("spool", "ok", text);
}

static bool check_alarms(const struct config *config)
{
    char text[128];
    if (config->alarm_recipient_count == 0)
        return report("alarms", "off",
                      "alarm_to is not set: nobody is told when leads are spooled or mail stops");
    (void)snprintf(text, sizeof text, "mailed to %zu address%s", config->alarm_recipient_count,
                   config->alarm_recipient_count == 1 ? "" : "es");
    return report("alarms", "ok", text);
}

static bool check_mail(const struct config *config)
{
    struct mail_settings settings = config_mail(config);
    struct mail_transport *transport = NULL;
    struct fail why;
    char text[512];
    if (!config->mail_on)
        return report("mail", "off", "mail_url is 'off': leads are stored and nobody is told");
    if (mail_transport_new(&settings, &transport, &why) != ST_OK)
        return report("mail", "FAIL", why.text);
    enum mail_outcome outcome = mail_probe(transport, &why);
    mail_transport_free(transport);
    if (outcome != MAIL_ACCEPTED) {
        (void)snprintf(text, sizeof text, "%s: %s", config->mail_url, why.text);
        return report("mail", "FAIL", text);
    }
    (void)snprintf(text, sizeof text, "%s is ready; %zu recipient%s", config->mail_url,
                   config->recipient_count, config->recipient_count == 1 ? "" : "s");
    return report("mail", "ok", text);
}

int ctl_check(struct service *service, int argc, char **argv)
{
    (void)argv;
    if (argc > 1) {
        (void)fprintf(stderr, "usage: leadctl check\n");
        return EX_USAGE;
    }
    bool good = check_keys(&service->config);
    good = check_store(service) && good;
    good = check_spool(service) && good;
    good = check_mail(&service->config) && good;
    good = check_alarms(&service->config) && good;
    return good ? 0 : 1;
}
