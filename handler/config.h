/* config.h - the settings: one file, environment variables over it, one table of names.
 *
 * `name = value` per line; lines that begin with `#` are comments.  LEADHOOK_NAME
 * overrides a setting, every secret also exists as NAME_file.  All mistakes of a
 * configuration are reported together, one line each, naming file, line and
 * setting; values of secrets are never shown.  Other variables that begin with
 * LEADHOOK_ are passed over: container platforms make such for a service.
 */
#ifndef LEAD_CONFIG_H
#define LEAD_CONFIG_H

#include "lib/base/buf.h"
#include "lib/base/log.h"
#include "lib/mail/address.h"
#include "lib/mail/compose.h"
#include "lib/mail/transport.h"

#define CONFIG_DEFAULT_PATH "/etc/leadhook/leadhook.conf"

enum sandbox { SANDBOX_ON, SANDBOX_REQUIRED, SANDBOX_OFF };

/* Texts are NUL-terminated and owned by the config; NULL where not set.  The
 * secrets are moved from their texts, which are NULL afterwards. */
struct config {
    char *listen;
    unsigned int listen_mode;
    char *listen_group;
    unsigned int threads;
    char *keys_file;
    char *store;
    char *table_connection;
    char *table_connection_file;
    char *table_name;
    char *table_tls_ca;
    char *spool;
    unsigned int spool_max_bytes;
    char *relay_socket;
    char *mail_url;
    char *mail_user;
    char *mail_password;
    char *mail_password_file;
    char *mail_from;
    char *mail_to;
    char *mail_routes;
    char *mail_tls_ca;
    char *mail_tls;
    char *mail_hello;
    unsigned int mail_per_minute;
    char *notify_detail;
    unsigned int repeat_window_s;
    unsigned int request_deadline_ms;
    unsigned int body_max_bytes;
    char *withhold_domains;
    unsigned int quarantine_per_day;
    unsigned int quarantine_max_bytes;
    char *alarm_to;
    unsigned int alarm_silence_days;
    unsigned int alarm_before_days;
    char *log_format;
    char *sandbox;

    /* Made from the above. */
    struct secret *connection; /* of the table; NULL where not set */
    struct secret *password;   /* of the mail; NULL where not set */
    const char *sqlite_path;   /* NULL: the Table service */
    const char *spool_path;    /* NULL: none */
    bool table_is_plain;       /* http, to a loopback host */
    bool mail_on;
    struct mail_address from;
    struct span recipients[LIMIT_RECIPIENTS];
    size_t recipient_count;
    struct span alarm_recipients[LIMIT_RECIPIENTS];
    size_t alarm_recipient_count;
    enum mail_detail detail;
    enum sandbox sandbox_mode;
    enum log_format log; /* made from log_format */
};

/* Reads and checks everything, but opens nothing but files of secrets.
 * ST_INVALID: *mistakes, empty before, has a line for each mistake, to be
 * printed behind the program's name; *config is released. */
MUST_CHECK enum status config_read(const char *path, struct config *config, struct buf *mistakes);
void config_release(struct config *config); /* wipes secrets */

/* The name of the first setting from *index on that differs and can not be
 * changed while the program runs; *index becomes the next.  NULL: no more. */
const char *config_difference(const struct config *a, const struct config *b, size_t *index);

/* The path of the next file, from setting *index on, that is read while the program runs (keys, secrets, certificate
 * authorities); *index becomes the one behind it.  false: no more. */
bool config_next_file(const struct config *config, size_t *index, struct buf *path);

/* The transport's settings out of the configuration; borrows from it. */
struct mail_settings config_mail(const struct config *config);

/* Whether a connection to the table or to the mail server uses TLS. */
bool config_uses_tls(const struct config *config);

/* One row of the table of settings, for documentation that is checked; false behind the last. */
struct setting_info {
    const char *name;
    const char *otherwise; /* the default as text; "" when there is none */
    const char *meaning;
};
bool config_describe(size_t index, struct setting_info *info);

#endif
