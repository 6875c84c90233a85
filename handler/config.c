#include "handler/config.h"

/* System */
#include <limits.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

/* L0 */
#include "lib/base/crypto.h"
#include "lib/base/file.h"
#include "lib/base/limits.h"

/* L4 */
#include "lib/table/account.h"
#include "lib/table/client.h"

/* L7 */
#include "lib/relay/memory.h"

enum kind { KIND_TEXT, KIND_PATH, KIND_SECRET, KIND_NUMBER, KIND_MODE };

struct setting {
    const char *name;
    size_t offset; /* of its field */
    enum kind kind;
    const char *otherwise; /* the default, "" for none */
    const char *meaning;
    unsigned int min; /* of numbers and modes */
    unsigned int max;
    bool is_live; /* may change while the program runs */
    bool is_file; /* names one that is read while the program runs */
};

#define AT(field) .name = #field, .offset = offsetof(struct config, field)

static const struct setting SETTINGS[] = {
    {AT(listen), KIND_PATH, "",
     "path of the unix socket to make; absent: the listening socket is file descriptor 0"},
    {AT(listen_mode), KIND_MODE, "0660", "mode of that socket", 0, 0777},
    {AT(listen_group), KIND_TEXT, "", "group of that socket, the one nginx runs in"},
    {AT(threads), KIND_NUMBER, "8",
     "requests served at the same time, and as many again while nginx keeps no idle connections; more wait in the socket's queue",
     1, LIMIT_THREADS},
    {AT(keys_file), KIND_PATH, "", "file of the keys and signing secrets of the senders, one per line",
     .is_live = true, .is_file = true},
    {AT(store), KIND_TEXT, "sqlite:/var/lib/leadhook/leads.db",
     "where leads are kept: `sqlite:PATH` or `table`"},
    {AT(table_connection), KIND_SECRET, "", "connection string of the storage account", .is_live = true},
    {AT(table_connection_file), KIND_TEXT, "", "file that holds the connection string", .is_live = true,
     .is_file = true},
    {AT(table_name), KIND_TEXT, "MarketplaceLeads",
     "table of the leads; a second one has this name and `Ops`"},
    {AT(table_tls_ca), KIND_PATH, "", "file of the certificate authorities to trust instead of the system's",
     .is_file = true},
    {AT(spool), KIND_TEXT, "off", "path of the spool database, or `off`"},
    {AT(spool_max_bytes), KIND_NUMBER, "1073741824",
     "bytes that the spool may take on the disk, its log included", 1048576, UINT_MAX},
    {AT(relay_socket), KIND_PATH, "",
     "socket through which processes tell the relay of new mail; absent: the path of the "
     "sqlite database, spool or `listen` with `.relay` at its end"},
    {AT(mail_url), KIND_TEXT, "off", "`smtps://host:465`, `smtp://host:587`, `maildir:PATH` or `off`"},
    {AT(mail_user), KIND_TEXT, "", "user name for SMTP; absent: no login"},
    {AT(mail_password), KIND_SECRET, "", "password for SMTP", .is_live = true},
    {AT(mail_password_file), KIND_TEXT, "", "file that holds the password", .is_live = true, .is_file = true},
    {AT(mail_from), KIND_TEXT, "", "sender of the mails: `leads@example.com` or `Name <leads@example.com>`"},
    {AT(mail_to), KIND_TEXT, "", "recipients, separated by commas; each gets a mail of its own"},
    {AT(mail_routes), KIND_PATH, "",
     "file that says who is told of which leads; `mail_to` is for those that no rule in it matches",
     .is_live = true, .is_file = true},
    {AT(mail_tls_ca), KIND_PATH, "", "file of the certificate authorities to trust instead of the system's",
     .is_file = true},
    {AT(mail_tls), KIND_TEXT, "required", "`required`, or `off` for a server on this machine"},
    {AT(mail_hello), KIND_TEXT, "", "name to greet the SMTP server with; absent: the domain of `mail_from`"},
    {AT(mail_per_minute), KIND_NUMBER, "20", "mails sent in a minute at most", 1, MAILS_PER_MINUTE_MAX},
    {AT(notify_detail), KIND_TEXT, "full", "`full`, or `summary` for mails without personal data"},
    {AT(repeat_window_s), KIND_NUMBER, "3600", "seconds in which the same lead again is not mailed again", 0,
     31536000},
    {AT(request_deadline_ms), KIND_NUMBER, "3000",
     "milliseconds to store a lead before it goes into the spool or, without one, the answer is 503", 100,
     20000},
    {AT(body_max_bytes), KIND_NUMBER, "131072", "size of the largest request body", 1024, LIMIT_BODY_BYTES},
    {AT(withhold_domains), KIND_TEXT, "",
     "e-mail domains whose leads are kept without personal data, such as `.edu`"},
    {AT(quarantine_per_day), KIND_NUMBER, "500",
     "payloads kept in quarantine for a key in a day; what comes over it is refused with 429", 1, 1000000},
    {AT(quarantine_max_bytes), KIND_NUMBER, "1073741824",
     "bytes that all of quarantine may take; what comes over it is refused with 429", 1048576, UINT_MAX},
    {AT(alarm_to), KIND_TEXT, "", "addresses for the operator's alarms, separated by commas"},
    {AT(alarm_silence_days), KIND_NUMBER, "14",
     "days without a lead after which an offer that had leads is silent, and an alarm says so; 0: never", 0,
     365},
    {AT(alarm_before_days), KIND_NUMBER, "14",
     "days before the end of a key, a SAS or a server's certificate at which an alarm says so; 0: never", 0,
     365},
    {AT(log_format), KIND_TEXT, "logfmt", "how lines of the log are written: `logfmt` or `json`"},
    {AT(sandbox), KIND_TEXT, "on",
     "`on`; `required`: do not start without seccomp or Landlock; `off`: for a machine where it is in the way"},
};
enum { SETTING_COUNT = sizeof SETTINGS / sizeof SETTINGS[0] };

/* Where each value came from, for messages. */
struct reader {
    struct config *config;
    struct buf *mistakes;
    const char *path;
    struct fail exposed;        /* why the file may hold no secret; code ST_OK: it may */
    size_t line[SETTING_COUNT]; /* 0: not from the file */
    bool from_environment[SETTING_COUNT];
};

bool config_describe(size_t index, struct setting_info *info)
{
    if (index >= SETTING_COUNT)
        return false;
    *info = (struct setting_info){SETTINGS[index].name, SETTINGS[index].otherwise, SETTINGS[index].meaning};
    return true;
}

static char **text_of(struct config *config, const struct setting *s)
{
    return (char **)(void *)((char *)config + s->offset);
}

static unsigned int *number_of(struct config *config, const struct setting *s)
{
    return (unsigned int *)(void *)((char *)config + s->offset);
}

static bool is_text(const struct setting *s)
{
    return s->kind == KIND_TEXT || s->kind == KIND_PATH || s->kind == KIND_SECRET;
}

static size_t index_of(struct span name)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        if (span_eq(name, span_of(SETTINGS[i].name)))
            return i;
    }
    return SPAN_NONE;
}

static void add_environment_name(struct buf *out, const char *name)
{
    buf_add_text(out, "LEADHOOK_");
    for (const char *p = name; *p; p++)
        buf_add_char(out, *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p);
}

static void add_place(struct reader *r, size_t index)
{
    if (index != SPAN_NONE && r->from_environment[index]) {
        buf_add_text(r->mistakes, "environment ");
        add_environment_name(r->mistakes, SETTINGS[index].name);
    } else if (index != SPAN_NONE && r->line[index]) {
        buf_addf(r->mistakes, "%s:%zu", r->path, r->line[index]);
    } else {
        buf_add_text(r->mistakes, r->path);
    }
}

/* One mistake of one setting. */
static void mistake(struct reader *r, const char *name, const char *format, ...) PRINTF_LIKE(3, 4);
static void mistake(struct reader *r, const char *name, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    add_place(r, index_of(span_of(name)));
    buf_addf(r->mistakes, ": setting '%s': %s\n", name, text);
}

static void free_text(char *text)
{
    if (text)
        crypto_wipe(text, strlen(text));
    free(text);
}

static void set_text(struct reader *r, const struct setting *s, struct span value)
{
    char **place = text_of(r->config, s);
    free_text(*place);
    *place = value.len ? strndup(value.ptr, value.len) : NULL;
    if (value.len && !*place)
        mistake(r, s->name, "no memory");
    else if (s->kind == KIND_PATH && value.len && value.ptr[0] != '/')
        mistake(r, s->name, "must be an absolute path");
}

static void set_number(struct reader *r, const struct setting *s, struct span value)
{
    uint64_t number;
    if (!span_to_u64(value, s->max, &number) || number < s->min)
        mistake(r, s->name, "must be a number from %u to %u", s->min, s->max);
    else
        *number_of(r->config, s) = (unsigned int)number;
}

static void set_mode(struct reader *r, const struct setting *s, struct span value)
{
    unsigned int mode = 0;
    bool octal = value.len >= 3 && value.len <= 4;
    for (size_t i = 0; i < value.len && octal; i++) {
        octal = value.ptr[i] >= '0' && value.ptr[i] <= '7';
        mode = mode * 8 + (unsigned int)(value.ptr[i] - '0');
    }
    if (!octal || mode > s->max)
        mistake(r, s->name, "must be an octal mode such as 0660");
    else
        *number_of(r->config, s) = mode;
}

static void set(struct reader *r, size_t index, struct span value)
{
    const struct setting *s = &SETTINGS[index];
    if (is_text(s))
        set_text(r, s, value);
    else if (s->kind == KIND_NUMBER)
        set_number(r, s, value);
    else
        set_mode(r, s, value);
}

enum { NAME_BYTES_SHOWN = 40 }; /* of a setting that does not exist */

static bool has_control(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.ptr[i] < 0x20 && s.ptr[i] != '\t')
            return true;
    }
    return false;
}

/* Only what looks like a name is shown: the end of a secret that was broken over two lines does not. */
static bool looks_like_a_name(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if (!(s.ptr[i] >= 'a' && s.ptr[i] <= 'z') && s.ptr[i] != '_')
            return false;
    }
    return s.len > 0 && s.len <= NAME_BYTES_SHOWN;
}

static void read_line(struct reader *r, struct span line, size_t number)
{
    line = span_trim(line);
    if (line.len == 0 || line.ptr[0] == '#')
        return;
    size_t equals = span_find(line, '=');
    struct span name = span_trim(span_cut(line, 0, equals));
    size_t index = index_of(name);
    if (equals == SPAN_NONE || has_control(line) || (index == SPAN_NONE && !looks_like_a_name(name))) {
        buf_addf(r->mistakes, "%s:%zu: not of the form 'name = value'\n", r->path, number);
    } else if (index == SPAN_NONE) {
        buf_addf(r->mistakes, "%s:%zu: setting '%.*s': there is no such setting\n", r->path, number,
                 SPAN_FMT(name));
    } else if (r->line[index]) {
        buf_addf(r->mistakes, "%s:%zu: setting '%s': set already in line %zu\n", r->path, number,
                 SETTINGS[index].name, r->line[index]);
    } else {
        r->line[index] = number;
        set(r, index, span_trim(span_from(line, equals + 1)));
        if (SETTINGS[index].kind == KIND_SECRET && *text_of(r->config, &SETTINGS[index]) &&
            r->exposed.code != ST_OK)
            mistake(r, SETTINGS[index].name, "%s", r->exposed.text);
    }
}

/* false: not even looked at. */
static bool read_file(struct reader *r)
{
    struct buf text = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct fail why;
    /* All the room at once: a buffer that grew would leave copies of secrets behind.  Without memory the
     * buffer says so when it is read into. */
    (void)buf_reserve(&text, LIMIT_CONFIG_FILE_BYTES);
    enum status status = file_read(r->path, FILE_PRIVATE, &text, &why);
    if (status ==
        ST_DENIED) { /* others may read it: no harm as long as it holds no secret and they do not write */
        r->exposed = why;
        status = file_read(r->path, FILE_GUARDED, &text, &why);
    }
    if (status != ST_OK) {
        buf_addf(r->mistakes, "%s\n", why.text);
    } else {
        struct span rest = buf_span(&text), line;
        for (size_t number = 1; span_next(&rest, '\n', &line); number++)
            read_line(r, line, number);
    }
    buf_release_secret(&text);
    return status == ST_OK;
}

static void read_environment(struct reader *r)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        struct buf name = BUF_INIT(128);
        add_environment_name(&name, SETTINGS[i].name);
        const char *value = name.data ? getenv(name.data) : NULL;
        if (value) {
            r->from_environment[i] = true;
            if (has_control(span_of(value)))
                mistake(r, SETTINGS[i].name, "holds a control character");
            else
                set(r, i, span_trim(span_of(value)));
        }
        buf_release(&name);
    }
}

/* --- checks of several settings ------------------------------------------------------------------------- */

/* The path of a secret's file: a relative one lies among systemd's credentials. */
static void add_secret_path(struct buf *path, const char *file)
{
    const char *credentials = getenv("CREDENTIALS_DIRECTORY");
    if (file[0] != '/' && credentials)
        buf_addf(path, "%s/", credentials);
    buf_add_text(path, file);
}

static void read_secret(struct reader *r, const char *name, char **value, const char *file_name,
                        const char *file)
{
    struct buf text = BUF_INIT(LIMIT_SECRET_FILE_BYTES);
    struct buf path = BUF_INIT(LIMIT_PATH_BYTES);
    struct fail why;
    if (!file)
        return;
    if (*value) {
        mistake(r, file_name, "'%s' is set too; only one of the two may be", name);
        return;
    }
    add_secret_path(&path, file);
    (void)buf_reserve(&text, LIMIT_SECRET_FILE_BYTES); /* for the same reason as in read_file */
    enum status status = buf_status(&path, "the path", &why);
    if (status == ST_OK)
        status = file_read(path.data, FILE_PRIVATE, &text, &why);
    /* The path is not shown when it leads nowhere: then it may be the secret itself, put into the wrong setting. */
    if (status != ST_OK && why.sys != 0)
        (void)fail_set(&why, status, why.sys, "cannot read the file that it names");
    if (status != ST_OK) {
        mistake(r, file_name, "%s", why.text);
    } else {
        struct span secret = span_trim(buf_span(&text));
        if (secret.len == 0 || has_control(secret))
            mistake(r, file_name, "'%s' must hold one line", file);
        else if (!(*value = strndup(secret.ptr, secret.len)))
            mistake(r, file_name, "no memory");
    }
    buf_release(&path);
    buf_release_secret(&text);
}

static void check_socket_path(struct reader *r, const char *name, const char *path)
{
    size_t room = sizeof((struct sockaddr_un *)NULL)->sun_path - 1;
    if (path && strlen(path) > room)
        mistake(r, name, "a socket's path has at most %zu bytes", room);
}

static void check_connection(struct reader *r)
{
    struct config *c = r->config;
    struct table_account account;
    struct fail why;
    if (!c->table_connection && !c->table_connection_file) {
        mistake(r, "table_connection", "is needed with store = table (or table_connection_file)");
    } else if (c->table_connection) {
        if (table_account_parse(span_of(c->table_connection), &account, &why) == ST_OK) {
            c->table_is_plain = account.is_plain;
            table_account_release(&account);
        } else {
            mistake(r, c->table_connection_file ? "table_connection_file" : "table_connection", "%s",
                    why.text);
        }
    }
}

static void check_store(struct reader *r)
{
    struct config *c = r->config;
    struct span store = span_of(c->store);
    struct span scheme = SPAN_LIT("sqlite:");
    if (span_starts(store, scheme)) {
        c->sqlite_path = c->store + scheme.len;
        if (c->sqlite_path[0] != '/')
            mistake(r, "store", "sqlite: must be followed by an absolute path");
    } else if (!span_eq(store, SPAN_LIT("table"))) {
        mistake(r, "store", "must be 'sqlite:PATH' or 'table'");
    } else {
        check_connection(r);
    }
    if (!table_name_is_valid(span_of(c->table_name)))
        mistake(r, "table_name", "must be 3 to 60 letters and digits and begin with a letter");
    if (!c->spool || (strcmp(c->spool, "off") != 0 && c->spool[0] != '/'))
        mistake(r, "spool", "must be an absolute path or 'off'");
    else if (c->spool[0] == '/' && !c->sqlite_path)
        c->spool_path = c->spool;
}

/* The relay's socket lies beside what the processes of a host share. */
static void choose_relay_socket(struct reader *r)
{
    struct config *c = r->config;
    const char *beside = c->sqlite_path;
    if (!beside && c->spool && c->spool[0] == '/')
        beside = c->spool;
    if (!beside)
        beside = c->listen;
    if (!c->relay_socket && beside) {
        struct buf path = BUF_INIT(LIMIT_PATH_BYTES);
        buf_addf(&path, "%s.relay", beside);
        c->relay_socket = path.data ? strdup(path.data) : NULL;
        buf_release(&path);
    }
    if (!c->relay_socket && c->mail_on)
        mistake(r, "relay_socket",
                "is needed when there is no sqlite store, spool or listen to put it beside");
    check_socket_path(r, "relay_socket", c->relay_socket);
}

/* The addresses of a list, for envelopes. */
static void check_recipients(struct reader *r, const char *name, const char *list,
                             struct span recipients[LIMIT_RECIPIENTS], size_t *count)
{
    struct span rest = span_of(list), part;
    struct fail why;
    while (span_next(&rest, ',', &part)) {
        struct mail_address address;
        part = span_trim(part);
        if (*count == LIMIT_RECIPIENTS) {
            mistake(r, name, "has more than %u recipients", LIMIT_RECIPIENTS);
            return;
        }
        if (mail_address_parse(part, &address, &why) != ST_OK)
            mistake(r, name, "%s", why.text);
        else
            recipients[(*count)++] = address.address;
    }
}

static void check_mail(struct reader *r)
{
    struct config *c = r->config;
    struct fail why;
    c->mail_on = !span_eq(span_of(c->mail_url), SPAN_LIT("off"));
    if (span_eq(span_of(c->notify_detail), SPAN_LIT("summary")))
        c->detail = MAIL_SUMMARY;
    else if (!span_eq(span_of(c->notify_detail), SPAN_LIT("full")))
        mistake(r, "notify_detail", "must be 'full' or 'summary'");
    if (!span_eq(span_of(c->mail_tls), SPAN_LIT("required")) &&
        !span_eq(span_of(c->mail_tls), SPAN_LIT("off")))
        mistake(r, "mail_tls", "must be 'required' or 'off'");
    if (c->mail_from && mail_address_parse(span_of(c->mail_from), &c->from, &why) != ST_OK)
        mistake(r, "mail_from", "%s", why.text);
    check_recipients(r, "alarm_to", c->alarm_to, c->alarm_recipients, &c->alarm_recipient_count);
    check_recipients(r, "mail_to", c->mail_to, c->recipients, &c->recipient_count);
    if (c->mail_on && !c->mail_to && !c->mail_routes)
        mistake(r, "mail_to", "is needed when mail_url is not 'off' (or mail_routes)");
    if (c->alarm_recipient_count > 0 && !c->mail_on)
        mistake(r, "alarm_to", "needs a mail_url that is not 'off': alarms are mails");
    if (!c->mail_on)
        return;
    if (!c->mail_from)
        mistake(r, "mail_from", "is needed when mail_url is not 'off'");
    if (c->mail_user && !c->mail_password && !c->mail_password_file)
        mistake(r, "mail_password", "is needed with mail_user (or mail_password_file)");
    struct mail_settings settings = config_mail(c);
    struct mail_transport *transport;
    if (mail_transport_new(&settings, &transport, &why) != ST_OK)
        mistake(r, "mail_url", "%s", why.text);
    else
        mail_transport_free(transport);
}

/* A rule that matches nothing would keep what was to be withheld. */
static void check_withhold(struct reader *r)
{
    struct span rest = span_of(r->config->withhold_domains), rule;
    while (span_next(&rest, ',', &rule)) {
        rule = span_trim(rule);
        bool good = rule.len > 1 && rule.ptr[rule.len - 1] != '.';
        for (size_t i = 0; i < rule.len && good; i++) {
            char c = rule.ptr[i];
            good = char_is_alnum(c) || c == '-' || (c == '.' && rule.ptr[i + 1] != '.');
        }
        if (!good) {
            mistake(r, "withhold_domains",
                    "must be domains such as example.org or .edu, separated by commas");
            return;
        }
    }
}

static void check_log_format(struct reader *r)
{
    struct config *c = r->config;
    if (span_eq(span_of(c->log_format), SPAN_LIT("json")))
        c->log = LOG_JSON;
    else if (!span_eq(span_of(c->log_format), SPAN_LIT("logfmt")))
        mistake(r, "log_format", "must be 'logfmt' or 'json'");
}

static void check_sandbox(struct reader *r)
{
    struct config *c = r->config;
    struct span mode = span_of(c->sandbox);
    if (span_eq(mode, SPAN_LIT("required")))
        c->sandbox_mode = SANDBOX_REQUIRED;
    else if (span_eq(mode, SPAN_LIT("off")))
        c->sandbox_mode = SANDBOX_OFF;
    else if (!span_eq(mode, SPAN_LIT("on")))
        mistake(r, "sandbox", "must be 'on', 'required' or 'off'");
}

static void check_all(struct reader *r)
{
    struct config *c = r->config;
    if (!c->keys_file)
        mistake(r, "keys_file", "is needed");
    check_socket_path(r, "listen", c->listen);
    read_secret(r, "table_connection", &c->table_connection, "table_connection_file",
                c->table_connection_file);
    read_secret(r, "mail_password", &c->mail_password, "mail_password_file", c->mail_password_file);
    check_store(r);
    check_mail(r);
    check_withhold(r);
    check_log_format(r);
    check_sandbox(r);
    choose_relay_socket(r);
}

/* What others may follow while it is replaced; nothing of it stays behind in the text. */
static void take_secret(struct reader *r, const char *name, char **text, struct secret **secret)
{
    struct fail why;
    if (*text && secret_new(span_of(*text), secret, &why) != ST_OK)
        mistake(r, name, "%s", why.text);
    free_text(*text);
    *text = NULL;
}

enum status config_read(const char *path, struct config *config, struct buf *mistakes)
{
    struct reader r = {.config = config, .mistakes = mistakes, .path = path};
    *config = (struct config){0};
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        if (SETTINGS[i].otherwise[0])
            set(&r, i, span_of(SETTINGS[i].otherwise));
    }
    bool was_read = read_file(&r);
    read_environment(&r);
    if (was_read) /* else everything would seem to be missing */
        check_all(&r);
    take_secret(&r, "table_connection", &config->table_connection, &config->connection);
    take_secret(&r, "mail_password", &config->mail_password, &config->password);
    if (mistakes->len == 0 && mistakes->error == ST_OK)
        return ST_OK;
    config_release(config);
    return ST_INVALID;
}

void config_release(struct config *config)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        if (is_text(&SETTINGS[i]))
            free_text(*text_of(config, &SETTINGS[i]));
    }
    secret_free(config->connection);
    secret_free(config->password);
    *config = (struct config){0};
}

static bool is_equal(const struct config *a, const struct config *b, const struct setting *s)
{
    const char *place_a = (const char *)a + s->offset, *place_b = (const char *)b + s->offset;
    if (!is_text(s))
        return memcmp(place_a, place_b, sizeof(unsigned int)) == 0;
    char *text_a, *text_b;
    memcpy(&text_a, place_a, sizeof text_a);
    memcpy(&text_b, place_b, sizeof text_b);
    return span_eq(span_of(text_a), span_of(text_b));
}

const char *config_difference(const struct config *a, const struct config *b, size_t *index)
{
    while (*index < SETTING_COUNT) {
        const struct setting *s = &SETTINGS[(*index)++];
        if (!s->is_live && !is_equal(a, b, s))
            return s->name;
    }
    return NULL;
}

bool config_next_file(const struct config *config, size_t *index, struct buf *path)
{
    while (*index < SETTING_COUNT) {
        const struct setting *s = &SETTINGS[(*index)++];
        char *file;
        memcpy(&file, (const char *)config + s->offset, sizeof file);
        if (s->is_file && file) {
            add_secret_path(path, file);
            return true;
        }
    }
    return false;
}

struct mail_settings config_mail(const struct config *config)
{
    return (struct mail_settings){
        .url = span_of(config->mail_url),
        .user = span_of(config->mail_user),
        .password = span_of(config->mail_password), /* while the configuration is read */
        .live = config->password,
        .hello = config->mail_hello ? span_of(config->mail_hello) : mail_address_domain(config->from.address),
        .ca_file = span_of(config->mail_tls_ca),
        .tls_off = span_eq(span_of(config->mail_tls), SPAN_LIT("off")),
    };
}

bool config_uses_tls(const struct config *config)
{
    bool to_table = !config->sqlite_path && !config->table_is_plain;
    bool to_mail = config->mail_on && span_starts(span_of(config->mail_url), SPAN_LIT("smtp")) &&
                   !config_mail(config).tls_off;
    return to_table || to_mail;
}
