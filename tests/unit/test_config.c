/* Settings: what is taken, every mistake and its words, and the table in README.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handler/config.h"
#include "lib/base/file.h"

/* In every secret of these tests; must never be seen in a message. */
#define SECRET     "s3cr3t"
#define CONNECTION "AccountName=acme;AccountKey=c2VjcmV0"
#define MAIL       "mail_url = smtp://example.com:587\nmail_from = a@example.com\nmail_to = b@example.com\n"

struct fixture {
    char directory[64];
    char path[96];
    char secret[96];
    mode_t mode; /* of the configuration */
    struct buf mistakes;
    struct config config;
};

static void variable_of(const char *name, char text[64])
{
    (void)snprintf(text, 64, "LEADHOOK_%s", name);
    for (char *p = text; *p; p++)
        *p = *p >= 'a' && *p <= 'z' ? (char)(*p - 'a' + 'A') : *p;
}

static void clear_environment(void)
{
    struct setting_info info;
    char name[64];
    for (size_t i = 0; config_describe(i, &info); i++) {
        variable_of(info.name, name);
        (void)unsetenv(name);
    }
    (void)unsetenv("CREDENTIALS_DIRECTORY");
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    const char *base = getenv("TMPDIR");
    (void)snprintf(f->directory, sizeof f->directory, "%s/config-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(f->directory))
        return -1;
    (void)snprintf(f->path, sizeof f->path, "%s/conf", f->directory);
    (void)snprintf(f->secret, sizeof f->secret, "%s/secret", f->directory);
    f->mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    f->mode = 0600;
    clear_environment();
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    config_release(&f->config);
    buf_release(&f->mistakes);
    (void)unlink(f->path);
    (void)unlink(f->secret);
    (void)rmdir(f->directory);
    clear_environment();
    free(f);
    return 0;
}

static void write_file(const char *path, struct span content, mode_t mode)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content.ptr, 1, content.len, file), content.len);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

/* Reads the configuration anew; in the mistakes the file is called F, so that tables can hold them. */
static enum status read_config(struct fixture *f, struct span content)
{
    struct buf all = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    config_release(&f->config);
    write_file(f->path, content, f->mode);
    enum status status = config_read(f->path, &f->config, &all);
    struct span rest = buf_span(&all), line;
    buf_reset(&f->mistakes);
    while (span_next(&rest, '\n', &line) && line.len) {
        bool names_file = span_starts(line, span_of(f->path));
        buf_add_text(&f->mistakes, names_file ? "F" : "");
        buf_add(&f->mistakes, span_from(line, names_file ? strlen(f->path) : 0));
        buf_add_char(&f->mistakes, '\n');
    }
    buf_release(&all);
    return status;
}

static void expect_secret(struct secret *secret, const char *want)
{
    struct buf text = BUF_INIT(1024);
    unsigned int version;
    struct fail why;
    assert_non_null(secret);
    assert_int_equal(secret_copy(secret, &text, &version, &why), ST_OK);
    assert_string_equal(text.data, want);
    buf_release(&text);
}

static void expect_ok(struct fixture *f, const char *content)
{
    if (read_config(f, span_of(content)) != ST_OK)
        fail_msg("'%s': got mistakes:\n%s", content, f->mistakes.data);
}

static void expect_mistakes(struct fixture *f, const char *name, struct span content, const char *want)
{
    enum status status = read_config(f, content);
    const char *got = f->mistakes.len ? f->mistakes.data : "";
    if (status != (*want ? ST_INVALID : ST_OK) || strcmp(got, want) != 0)
        fail_msg("%s: got %s:\n%swant:\n%s", name, status_name(status), got, want);
    if (strstr(got, SECRET))
        fail_msg("%s: a secret is shown:\n%s", name, got);
}

/* What is said of a value, behind the place. */
#define WRONG_THREADS    "setting 'threads': must be a number from 1 to 512\n"
#define WRONG_BODY_MAX   "setting 'body_max_bytes': must be a number from 1024 to 262144\n"
#define WRONG_MODE       "setting 'listen_mode': must be an octal mode such as 0660\n"
#define WRONG_TABLE_NAME "setting 'table_name': must be 3 to 60 letters and digits and begin with a letter\n"
#define WRONG_MAIL_URL   "setting 'mail_url': must be smtps://host:465, smtp://host:587, maildir:PATH or off\n"
#define WRONG_DOMAINS                                                                                        \
    "setting 'withhold_domains': must be domains such as example.org or .edu, separated by commas\n"
#define WRONG_STORE      "setting 'store': must be 'sqlite:PATH' or 'table'\n"
#define WRONG_STORE_PATH "setting 'store': sqlite: must be followed by an absolute path\n"

/* Each stands behind `keys_file = /k` in line 1. */
static const struct {
    const char *name;
    struct span content;
    const char *mistakes; /* "": none */
} FILES[] = {
    {"nothing more", SPAN_LIT(""), ""},
    {"comments, blanks, CR", SPAN_LIT("\r\n  # x = y\r\n\tthreads\t=\t3\t\r\n"), ""},
    {"unknown", SPAN_LIT("thread = 3\n"), "F:2: setting 'thread': there is no such setting\n"},
    {"twice", SPAN_LIT("threads = 3\n\nthreads = 3\n"), "F:4: setting 'threads': set already in line 2\n"},
    {"no equals sign", SPAN_LIT("threads 3\n"), "F:2: not of the form 'name = value'\n"},
    {"no name", SPAN_LIT("= 3\n"), "F:2: not of the form 'name = value'\n"},
    {"NUL", SPAN_LIT("listen = /a\0b\n"), "F:2: not of the form 'name = value'\n"},
    {"what is no name is not shown", SPAN_LIT(SECRET "Ab==\nAccountKey=" SECRET "\n"),
     "F:2: not of the form 'name = value'\nF:3: not of the form 'name = value'\n"},
    {"the second of two equals signs", SPAN_LIT("listen = /a=b\n"), ""},
    {"case of names", SPAN_LIT("Threads = 3\n"), "F:2: not of the form 'name = value'\n"},

    {"threads: least", SPAN_LIT("threads = 1\n"), ""},
    {"threads: below", SPAN_LIT("threads = 0\n"), "F:2: " WRONG_THREADS},
    {"threads: greatest", SPAN_LIT("threads = 512\n"), ""},
    {"threads: above", SPAN_LIT("threads = 513\n"), "F:2: " WRONG_THREADS},
    {"threads: blank", SPAN_LIT("threads =\n"), "F:2: " WRONG_THREADS},
    {"threads: sign", SPAN_LIT("threads = +3\n"), "F:2: " WRONG_THREADS},
    {"threads: unit", SPAN_LIT("threads = 3k\n"), "F:2: " WRONG_THREADS},
    {"threads: huge", SPAN_LIT("threads = 18446744073709551617\n"), "F:2: " WRONG_THREADS},
    {"body: least", SPAN_LIT("body_max_bytes = 1024\n"), ""},
    {"body: below", SPAN_LIT("body_max_bytes = 1023\n"), "F:2: " WRONG_BODY_MAX},
    {"body: greatest", SPAN_LIT("body_max_bytes = 262144\n"), ""},
    {"body: above", SPAN_LIT("body_max_bytes = 262145\n"), "F:2: " WRONG_BODY_MAX},

    {"mode: three digits", SPAN_LIT("listen_mode = 600\n"), ""},
    {"mode: greatest", SPAN_LIT("listen_mode = 0777\n"), ""},
    {"mode: above", SPAN_LIT("listen_mode = 1777\n"), "F:2: " WRONG_MODE},
    {"mode: decimal", SPAN_LIT("listen_mode = 0680\n"), "F:2: " WRONG_MODE},
    {"mode: letters", SPAN_LIT("listen_mode = rw-rw----\n"), "F:2: " WRONG_MODE},

    {"relative path", SPAN_LIT("listen = run/l\n"), "F:2: setting 'listen': must be an absolute path\n"},
    {"two relative paths", SPAN_LIT("table_tls_ca = a\nmail_tls_ca = b\n"),
     "F:2: setting 'table_tls_ca': must be an absolute path\n"
     "F:3: setting 'mail_tls_ca': must be an absolute path\n"},

    {"store: none of the two", SPAN_LIT("store = mysql\n"), "F:2: " WRONG_STORE},
    {"store: blank", SPAN_LIT("store =\n"), "F:2: " WRONG_STORE},
    {"store: no path", SPAN_LIT("store = sqlite:\n"), "F:2: " WRONG_STORE_PATH},
    {"store: relative path", SPAN_LIT("store = sqlite:leads.db\n"), "F:2: " WRONG_STORE_PATH},
    {"store: table", SPAN_LIT("store = table\ntable_connection = " CONNECTION "\n"), ""},
    {"store: table without a connection", SPAN_LIT("store = table\n"),
     "F: setting 'table_connection': is needed with store = table (or table_connection_file)\n"},
    {"store: connection without a key",
     SPAN_LIT("store = table\ntable_connection = AccountName=" SECRET "\n"),
     "F:3: setting 'table_connection': connection string: neither AccountKey nor SharedAccessSignature is "
     "there\n"},
    {"table name: shortest", SPAN_LIT("table_name = abc\n"), ""},
    {"table name: too short", SPAN_LIT("table_name = ab\n"), "F:2: " WRONG_TABLE_NAME},
    {"table name: longest",
     SPAN_LIT("table_name = a12345678901234567890123456789012345678901234567890123456789\n"), ""},
    {"table name: too long",
     SPAN_LIT("table_name = a123456789012345678901234567890123456789012345678901234567890\n"),
     "F:2: " WRONG_TABLE_NAME},
    {"table name: digit first", SPAN_LIT("table_name = 1abc\n"), "F:2: " WRONG_TABLE_NAME},
    {"table name: character", SPAN_LIT("table_name = my-leads\n"), "F:2: " WRONG_TABLE_NAME},
    {"spool: path", SPAN_LIT("spool = /s\n"), ""},
    {"spool: relative", SPAN_LIT("spool = s\n"), "F:2: setting 'spool': must be an absolute path or 'off'\n"},

    {"mail", SPAN_LIT(MAIL), ""},
    {"mail: without sender and recipient", SPAN_LIT("mail_url = smtps://mail.example.com:465\n"),
     "F: setting 'mail_to': is needed when mail_url is not 'off' (or mail_routes)\n"
     "F: setting 'mail_from': is needed when mail_url is not 'off'\n"},
    {"mail: maildir", SPAN_LIT("mail_url = maildir:/m\nmail_from = A B <a@b>\nmail_to = a@b, c@d\n"), ""},
    {"mail: maildir without a path",
     SPAN_LIT("mail_url = maildir:m\nmail_from = a@example.com\nmail_to = b@example.com\n"),
     "F:2: setting 'mail_url': maildir: must be followed by an absolute path\n"},
    {"mail: another scheme",
     SPAN_LIT("mail_url = http://example.com\nmail_from = a@example.com\nmail_to = b@example.com\n"),
     "F:2: " WRONG_MAIL_URL},
    {"mail: routes in place of recipients",
     SPAN_LIT("mail_url = maildir:/m\nmail_from = a@example.com\nmail_routes = /r\n"), ""},
    {"mail: routes in a relative path", SPAN_LIT("mail_routes = r\n"),
     "F:2: setting 'mail_routes': must be an absolute path\n"},
    {"mail: blank", SPAN_LIT("mail_url =\nmail_from = a@example.com\nmail_to = b@example.com\n"),
     "F:2: " WRONG_MAIL_URL},
    {"mail: user in the URL",
     SPAN_LIT("mail_url = smtp://me:" SECRET
              "@example.com\nmail_from = a@example.com\nmail_to = b@example.com\n"),
     "F:2: setting 'mail_url': must name a host and a port and nothing else (no user, no path)\n"},
    {"mail: bad addresses, also with mail off",
     SPAN_LIT("mail_from = nobody\nmail_to = a@example.com,b\nalarm_to = <c@d\n"),
     "F:2: setting 'mail_from': not a mail address: one of the form name@example.com is needed\n"
     "F:4: setting 'alarm_to': an address in '<' has no '>' at its end\n"
     "F:3: setting 'mail_to': not a mail address: one of the form name@example.com is needed\n"},
    {"mail: user without password", SPAN_LIT(MAIL "mail_user = u\n"),
     "F: setting 'mail_password': is needed with mail_user (or mail_password_file)\n"},
    {"mail: user and password", SPAN_LIT(MAIL "mail_user = u\nmail_password = " SECRET "\n"), ""},
    {"mail: TLS off, loopback",
     SPAN_LIT("mail_url = smtp://127.0.0.1:25\nmail_from = a@b\nmail_to = c@d\nmail_tls = off\n"), ""},
    {"mail: TLS off, elsewhere", SPAN_LIT(MAIL "mail_tls = off\n"),
     "F:2: setting 'mail_url': mail_tls = off is allowed for a server on this machine only\n"},
    {"mail: TLS off, a name that looks like loopback",
     SPAN_LIT("mail_url = smtp://127.example.org:25\nmail_from = a@b\nmail_to = c@d\nmail_tls = off\n"),
     "F:2: setting 'mail_url': mail_tls = off is allowed for a server on this machine only\n"},
    {"mail: TLS neither", SPAN_LIT("mail_tls = on\n"),
     "F:2: setting 'mail_tls': must be 'required' or 'off'\n"},
    {"mail: 16 recipients",
     SPAN_LIT("mail_to = a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b\n"), ""},
    {"mail: 17 recipients",
     SPAN_LIT("mail_to = a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b\n"),
     "F:2: setting 'mail_to': has more than 16 recipients\n"},
    {"alarms: two recipients", SPAN_LIT(MAIL "alarm_to = Ops <a@b>, c@d\n"), ""},
    {"alarms without mail", SPAN_LIT("alarm_to = a@b\n"),
     "F:2: setting 'alarm_to': needs a mail_url that is not 'off': alarms are mails\n"},
    {"alarms: a bad one among them", SPAN_LIT("alarm_to = a@b,c\n" MAIL),
     "F:2: setting 'alarm_to': not a mail address: one of the form name@example.com is needed\n"},
    {"alarms: 17 recipients",
     SPAN_LIT("alarm_to = a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b,a@b\n" MAIL),
     "F:2: setting 'alarm_to': has more than 16 recipients\n"},
    {"sandbox: required", SPAN_LIT("sandbox = required\n"), ""},
    {"sandbox: nothing", SPAN_LIT("sandbox =\n"),
     "F:2: setting 'sandbox': must be 'on', 'required' or 'off'\n"},
    {"sandbox: a word like it", SPAN_LIT("sandbox = yes\n"),
     "F:2: setting 'sandbox': must be 'on', 'required' or 'off'\n"},
    {"log", SPAN_LIT("log_format = xml\n"), "F:2: setting 'log_format': must be 'logfmt' or 'json'\n"},
    {"detail", SPAN_LIT("notify_detail = some\n"),
     "F:2: setting 'notify_detail': must be 'full' or 'summary'\n"},
    {"withhold", SPAN_LIT("withhold_domains = .edu, Example.org,a-b.c1\n"), ""},
    {"withhold: pattern", SPAN_LIT("withhold_domains = *.edu\n"), "F:2: " WRONG_DOMAINS},
    {"withhold: address", SPAN_LIT("withhold_domains = a.b,@example.org\n"), "F:2: " WRONG_DOMAINS},
    {"withhold: dots", SPAN_LIT("withhold_domains = a..b\n"), "F:2: " WRONG_DOMAINS},
    {"withhold: dot alone", SPAN_LIT("withhold_domains = .\n"), "F:2: " WRONG_DOMAINS},

    {"relay: nothing to put it beside", SPAN_LIT("store = table\ntable_connection = " CONNECTION "\n" MAIL),
     "F: setting 'relay_socket': is needed when there is no sqlite store, spool or listen to put it "
     "beside\n"},
    {"several at once", SPAN_LIT("threads = x\nfoo = 1\nlisten = y\nnonsense\nstore = z\n"),
     "F:2: " WRONG_THREADS "F:3: setting 'foo': there is no such setting\n"
     "F:4: setting 'listen': must be an absolute path\n"
     "F:5: not of the form 'name = value'\n"
     "F:6: " WRONG_STORE},
};

static void test_files(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        struct buf content = BUF_INIT(4096);
        buf_add_text(&content, "keys_file = /k\n");
        buf_add(&content, FILES[i].content);
        expect_mistakes(f, FILES[i].name, buf_span(&content), FILES[i].mistakes);
        buf_release(&content);
    }
}

static void test_no_keys_file(void **state)
{
    struct fixture *f = *state;
    expect_mistakes(f, "no keys_file", SPAN_LIT("threads = 2\n"), "F: setting 'keys_file': is needed\n");
}

static void test_defaults(void **state)
{
    struct fixture *f = *state;
    const struct config *c = &f->config;
    expect_ok(f, "keys_file = /k\n");
    assert_null(c->listen);
    assert_int_equal(c->listen_mode, 0660);
    assert_null(c->listen_group);
    assert_int_equal(c->threads, 8);
    assert_string_equal(c->keys_file, "/k");
    assert_string_equal(c->sqlite_path, "/var/lib/leadhook/leads.db");
    assert_string_equal(c->table_name, "MarketplaceLeads");
    assert_string_equal(c->relay_socket, "/var/lib/leadhook/leads.db.relay");
    assert_false(c->mail_on);
    assert_int_equal(c->mail_per_minute, 20);
    assert_int_equal(c->detail, MAIL_FULL);
    assert_int_equal(c->repeat_window_s, 3600);
    assert_int_equal(c->request_deadline_ms, 3000);
    assert_int_equal(c->body_max_bytes, 131072);
    assert_int_equal(c->recipient_count, 0);
}

static void test_values(void **state)
{
    struct fixture *f = *state;
    const struct config *c = &f->config;
    expect_ok(f, "keys_file=/k\nlisten = /run/l\nlisten_mode = 0600\nlisten_group = www-data\nthreads=3\n"
                 "store = table\ntable_connection = " CONNECTION "\ntable_name = Leads2\n" MAIL
                 "mail_user = me\nmail_password = pass word # no comment\nnotify_detail = summary\n"
                 "alarm_to = ops@example.com, Night Watch <night@example.com>\n");
    assert_string_equal(c->listen, "/run/l");
    assert_int_equal(c->listen_mode, 0600);
    assert_string_equal(c->listen_group, "www-data");
    assert_int_equal(c->threads, 3);
    assert_null(c->sqlite_path);
    expect_secret(c->connection, CONNECTION);
    assert_string_equal(c->table_name, "Leads2");
    assert_string_equal(c->relay_socket, "/run/l.relay");
    assert_true(c->mail_on);
    assert_int_equal(c->detail, MAIL_SUMMARY);
    assert_int_equal(c->recipient_count, 1);
    assert_true(span_eq(c->recipients[0], SPAN_LIT("b@example.com")));
    assert_true(span_eq(c->from.address, SPAN_LIT("a@example.com")));
    assert_int_equal(c->alarm_recipient_count, 2);
    assert_true(span_eq(c->alarm_recipients[0], SPAN_LIT("ops@example.com")));
    assert_true(span_eq(c->alarm_recipients[1], SPAN_LIT("night@example.com")));

    struct mail_settings mail = config_mail(c);
    assert_true(span_eq(mail.url, SPAN_LIT("smtp://example.com:587")));
    assert_true(span_eq(mail.user, SPAN_LIT("me")));
    expect_secret(mail.live, "pass word # no comment");
    assert_true(span_eq(mail.hello, SPAN_LIT("example.com")));
    assert_false(mail.tls_off);
}

/* Beside what the relay's socket is put: the sqlite store, the spool, the listening socket. */
static void test_relay_socket(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *content;
        const char *want;
    } cases[] = {
        {"keys_file=/k\nstore=sqlite:/d/l.db\nspool=/s\nlisten=/l\n", "/d/l.db.relay"},
        {"keys_file=/k\nstore=table\ntable_connection=" CONNECTION "\nspool=/s\nlisten=/l\n", "/s.relay"},
        {"keys_file=/k\nstore=table\ntable_connection=" CONNECTION "\nlisten=/l\n", "/l.relay"},
        {"keys_file=/k\nstore=table\ntable_connection=" CONNECTION "\n", NULL},
        {"keys_file=/k\nrelay_socket=/r\nlisten=/l\n", "/r"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_ok(f, cases[i].content);
        const char *got = f->config.relay_socket;
        if (!span_eq(span_of(got), span_of(cases[i].want)))
            fail_msg("'%s': got %s, want %s", cases[i].content, got ? got : "none",
                     cases[i].want ? cases[i].want : "none");
    }
}

/* A socket's path has at most 107 bytes, the one that is made from another too. */
static void test_socket_paths(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *setting;
        const char *before;
        size_t len; /* of the path */
        const char *mistakes;
    } cases[] = {
        {"listen", "", 107, ""},
        {"listen", "", 108, "F:2: setting 'listen': a socket's path has at most 107 bytes\n"},
        {"relay_socket", "", 107, ""},
        {"relay_socket", "", 108, "F:2: setting 'relay_socket': a socket's path has at most 107 bytes\n"},
        {"store", "sqlite:", 101, ""},
        {"store", "sqlite:", 102, "F: setting 'relay_socket': a socket's path has at most 107 bytes\n"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf content = BUF_INIT(4096);
        buf_addf(&content, "keys_file = /k\n%s = %s/", cases[i].setting, cases[i].before);
        for (size_t n = 1; n < cases[i].len; n++)
            buf_add_char(&content, 'x');
        buf_add_char(&content, '\n');
        expect_mistakes(f, cases[i].setting, buf_span(&content), cases[i].mistakes);
        buf_release(&content);
    }
}

static void test_environment(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *name;
        const char *value;
        const char *mistakes;
    } cases[] = {
        {"LEADHOOK_THREADS", "5", ""},
        {"LEADHOOK_THREADS", " 5 ", ""},
        {"LEADHOOK_THREADS", "x", "environment LEADHOOK_THREADS: " WRONG_THREADS},
        {"LEADHOOK_THREADS", "", "environment LEADHOOK_THREADS: " WRONG_THREADS},
        {"LEADHOOK_LISTEN", "l", "environment LEADHOOK_LISTEN: setting 'listen': must be an absolute path\n"},
        {"LEADHOOK_STORE", "x", "environment LEADHOOK_STORE: " WRONG_STORE},
        {"LEADHOOK_MAIL_FROM", "a\n@b",
         "environment LEADHOOK_MAIL_FROM: setting 'mail_from': holds a control character\n"},
        {"LEADHOOK_TABLE_CONNECTION", SECRET,
         "environment LEADHOOK_TABLE_CONNECTION: setting 'table_connection': connection string: "
         "element 1 has no '='\n"},
        /* What container platforms set for a service of this name is none of ours. */
        {"LEADHOOK_SERVICE_HOST", "10.0.0.1", ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bool table = strcmp(cases[i].name, "LEADHOOK_TABLE_CONNECTION") == 0;
        assert_int_equal(setenv(cases[i].name, cases[i].value, 1), 0);
        expect_mistakes(f, cases[i].name,
                        table ? SPAN_LIT("keys_file=/k\nstore=table\n")
                              : SPAN_LIT("keys_file=/k\nthreads=4\n"),
                        cases[i].mistakes);
        if (strcmp(cases[i].name, "LEADHOOK_THREADS") == 0 && !*cases[i].mistakes)
            assert_int_equal(f->config.threads, 5);
        assert_int_equal(unsetenv(cases[i].name), 0);
    }
    /* A blank variable takes a setting of the file away. */
    assert_int_equal(setenv("LEADHOOK_LISTEN", "", 1), 0);
    expect_ok(f, "keys_file=/k\nlisten=/l\n");
    assert_null(f->config.listen);
    assert_int_equal(unsetenv("LEADHOOK_LISTEN"), 0);
}

/* Every setting can be given in the environment under its name in capitals. */
static void test_every_variable(void **state)
{
    struct fixture *f = *state;
    struct setting_info info;
    for (size_t i = 0; config_describe(i, &info); i++) {
        char name[64];
        variable_of(info.name, name);
        assert_int_equal(setenv(name, "\x01", 1), 0);
        assert_int_equal(read_config(f, SPAN_LIT("keys_file = /k\n")), ST_INVALID);
        struct buf want = BUF_INIT(256);
        buf_addf(&want, "environment %s: setting '%s': holds a control character\n", name, info.name);
        if (!strstr(f->mistakes.data, want.data))
            fail_msg("got:\n%swant:\n%s", f->mistakes.data, want.data);
        buf_release(&want);
        assert_int_equal(unsetenv(name), 0);
    }
}

static void test_secret_files(void **state)
{
    struct fixture *f = *state;
    struct buf content = BUF_INIT(4096), want = BUF_INIT(4096);

    /* Absolute, with a line end. */
    write_file(f->secret, SPAN_LIT(CONNECTION "\n"), 0600);
    buf_addf(&content, "keys_file = /k\nstore = table\ntable_connection_file = %s\n", f->secret);
    expect_ok(f, content.data);
    expect_secret(f->config.connection, CONNECTION);

    /* Others may not read it. */
    write_file(f->secret, SPAN_LIT(CONNECTION), 0644);
    buf_addf(&want,
             "F:3: setting 'table_connection_file': '%s' holds secrets but has mode 0644: run chmod 0640 (or "
             "0600) on it\n",
             f->secret);
    expect_mistakes(f, "readable by others", buf_span(&content), want.data);

    /* A bad value is one of the file. */
    write_file(f->secret, SPAN_LIT("AccountName=" SECRET), 0600);
    expect_mistakes(f, "bad connection string", buf_span(&content),
                    "F:3: setting 'table_connection_file': connection string: neither AccountKey nor "
                    "SharedAccessSignature is there\n");

    static const struct span bad[] = {SPAN_LIT(""), SPAN_LIT(" \n"), SPAN_LIT(SECRET "\n" SECRET "\n"),
                                      SPAN_LIT(SECRET "\0")};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        write_file(f->secret, bad[i], 0600);
        buf_reset(&want);
        buf_addf(&want, "F:3: setting 'table_connection_file': '%s' must hold one line\n", f->secret);
        expect_mistakes(f, "not one line", buf_span(&content), want.data);
    }

    /* Both. */
    write_file(f->secret, SPAN_LIT(SECRET), 0600);
    buf_addf(&content, "mail_password = " SECRET "\nmail_password_file = %s\n", f->secret);
    write_file(f->secret, SPAN_LIT(CONNECTION), 0600);
    expect_mistakes(
        f, "both", buf_span(&content),
        "F:5: setting 'mail_password_file': 'mail_password' is set too; only one of the two may be\n");

    /* Relative: among systemd's credentials. */
    write_file(f->secret, SPAN_LIT(SECRET "\n"), 0400);
    assert_int_equal(setenv("CREDENTIALS_DIRECTORY", f->directory, 1), 0);
    expect_ok(f, "keys_file = /k\n" MAIL "mail_user = u\nmail_password_file = secret\n");
    expect_secret(f->config.password, SECRET);

    /* One mistake for one missing file; its name may be the secret itself. */
    expect_mistakes(f, "missing",
                    SPAN_LIT("keys_file = /k\n" MAIL "mail_password_file = " SECRET "\nmail_user = u\n"),
                    "F:5: setting 'mail_password_file': cannot read the file that it names: No such file or "
                    "directory\n");
    buf_release(&content);
    buf_release(&want);
}

/* One mistake, not one for everything that the file would have said. */
static void test_no_file(void **state)
{
    struct fixture *f = *state;
    struct buf want = BUF_INIT(256);
    buf_addf(&want, "cannot open '%s': No such file or directory\n", f->path);
    assert_int_equal(config_read(f->path, &f->config, &f->mistakes), ST_INVALID);
    assert_string_equal(f->mistakes.data, want.data);
    buf_release(&want);
}

static void test_size_of_file(void **state)
{
    struct fixture *f = *state;
    struct buf content = BUF_INIT(LIMIT_CONFIG_FILE_BYTES + 1);
    buf_add_text(&content, "keys_file = /k\n");
    while (content.len < LIMIT_CONFIG_FILE_BYTES)
        buf_add_char(&content, '#');
    assert_int_equal(read_config(f, buf_span(&content)), ST_OK);
    buf_add_char(&content, '#');
    assert_int_equal(read_config(f, buf_span(&content)), ST_INVALID);
    buf_release(&content);
}

/* --- documentation -------------------------------------------------------------------------------------- */

static struct span without_quotes(struct span cell)
{
    cell = span_trim(cell);
    if (cell.len >= 2 && cell.ptr[0] == '`' && span_find(span_from(cell, 1), '`') == cell.len - 2)
        cell = span_cut(cell, 1, cell.len - 2);
    return cell;
}

/* A file of the source tree. */
static void read_source(const char *name, struct buf *text)
{
    const char *directory = getenv("SOURCE_DIR");
    char path[512];
    struct fail why;
    (void)snprintf(path, sizeof path, "%s/%s", directory ? directory : ".", name);
    if (file_read(path, FILE_PUBLIC, text, &why) != ST_OK)
        fail_msg("%s", why.text);
}

/* README.md has one table with a row `| `name` | default | meaning |` for each setting, in our order. */
static void test_readme(void **state)
{
    (void)state;
    struct buf text = BUF_INIT(1024 * 1024);
    struct setting_info info;
    size_t index = 0;
    read_source("README.md", &text);
    struct span rest = buf_span(&text), line;
    bool inside = false;
    while (span_next(&rest, '\n', &line)) {
        inside = inside || span_starts(line, SPAN_LIT("| `listen` |"));
        if (!inside)
            continue;
        if (!span_starts(line, SPAN_LIT("|")))
            break; /* behind the table */
        struct span name, otherwise, meaning;
        line = span_from(line, 1);
        assert_true(span_next(&line, '|', &name) && span_next(&line, '|', &otherwise) &&
                    span_next(&line, '|', &meaning));
        if (!config_describe(index++, &info))
            fail_msg("README.md has a row for '%.*s', which is no setting", SPAN_FMT(without_quotes(name)));
        if (!span_eq(without_quotes(name), span_of(info.name)) ||
            !span_eq(without_quotes(otherwise), span_of(info.otherwise)) ||
            !span_eq(span_trim(meaning), span_of(info.meaning)))
            fail_msg("README.md: got\n|%.*s|%.*s|%.*s|\nwant\n| `%s` | %s | %s |", SPAN_FMT(name),
                     SPAN_FMT(otherwise), SPAN_FMT(meaning), info.name, info.otherwise, info.meaning);
    }
    if (config_describe(index, &info))
        fail_msg("README.md has no row for '%s'", info.name);
    buf_release(&text);
}

/* The example has every setting once, `name = value`; one behind a # that has a default shows it. */
static void test_example(void **state)
{
    (void)state;
    struct buf text = BUF_INIT(1024 * 1024);
    struct setting_info info;
    read_source("deploy/leadhook.conf.example", &text);
    for (size_t index = 0; config_describe(index, &info); index++) {
        size_t found = 0;
        struct span rest = buf_span(&text), line;
        while (span_next(&rest, '\n', &line)) {
            bool is_shown = span_starts(line, SPAN_LIT("#"));
            struct span setting = span_from(line, is_shown ? 1 : 0);
            size_t equals = span_find(setting, '=');
            if (equals == SPAN_NONE || !span_eq(span_trim(span_cut(setting, 0, equals)), span_of(info.name)))
                continue;
            struct span value = span_trim(span_from(setting, equals + 1));
            found++;
            if (is_shown && info.otherwise[0] && !span_eq(value, span_of(info.otherwise)))
                fail_msg("the example: %s: got %.*s, want %s", info.name, SPAN_FMT(value), info.otherwise);
        }
        if (found != 1)
            fail_msg("the example has %zu lines for '%s'", found, info.name);
    }
    buf_release(&text);
}

/* A configuration that others may read holds no secret itself. */
static void test_exposed_secrets(void **state)
{
    struct fixture *f = *state;
    static const mode_t open_modes[] = {0644, 0604, 0601};
    static const mode_t closed_modes[] = {0600, 0400, 0640};
    static const struct span inline_secrets =
        SPAN_LIT("keys_file = /k\nstore = table\ntable_connection = " CONNECTION
                 "\nmail_user = u\nmail_password = " SECRET "\n");
    for (size_t i = 0; i < sizeof open_modes / sizeof open_modes[0]; i++) {
        char want[512];
        f->mode = open_modes[i];
        (void)snprintf(
            want, sizeof want,
            "F:3: setting 'table_connection': '%s' holds secrets but has mode %04o: run chmod 0640 (or "
            "0600) on it\n"
            "F:5: setting 'mail_password': '%s' holds secrets but has mode %04o: run chmod 0640 (or "
            "0600) on it\n",
            f->path, f->mode, f->path, f->mode);
        expect_mistakes(f, "exposed", inline_secrets, want);
        expect_ok(f, "keys_file = /k\nthreads = 3\nmail_password =\n");
    }
    for (size_t i = 0; i < sizeof closed_modes / sizeof closed_modes[0]; i++) {
        f->mode = closed_modes[i];
        (void)unlink(f->path);
        expect_mistakes(f, "closed", inline_secrets, "");
    }
    /* Overridden, it lies open all the same. */
    f->mode = 0644;
    (void)unlink(f->path);
    (void)setenv("LEADHOOK_MAIL_PASSWORD", SECRET, 1);
    assert_int_equal(read_config(f, SPAN_LIT("keys_file = /k\nmail_password = " SECRET "\n")), ST_INVALID);
    assert_int_equal(read_config(f, SPAN_LIT("keys_file = /k\n")), ST_OK);
}

/* Who may write to it could have leads mailed to himself. */
static void test_writable_by_others(void **state)
{
    struct fixture *f = *state;
    static const mode_t modes[] = {0660, 0602, 0666};
    for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
        char want[512];
        f->mode = modes[i];
        (void)unlink(f->path);
        (void)snprintf(want, sizeof want,
                       "'%s' is not safe, others may write to it: it has mode %04o; run chmod go-w on it\n",
                       f->path, f->mode);
        expect_mistakes(f, "writable", SPAN_LIT("keys_file = /k\n"), want);
    }
}

/* What the sandbox lets the process read: of every setting that names such a file, the path as it is opened. */
static void test_files_read(void **state)
{
    struct fixture *f = *state;
    struct buf path = BUF_INIT(4096), all = BUF_INIT(4096);
    write_file(f->secret, SPAN_LIT(SECRET "\n"), 0600);
    (void)setenv("CREDENTIALS_DIRECTORY", f->directory, 1);
    expect_ok(f, "keys_file = /k\nspool = /var/s\n" MAIL "mail_user = u\nmail_password_file = secret\n"
                 "table_tls_ca = /a\nmail_tls_ca = /b\nmail_routes = /r\n");
    for (size_t index = 0; config_next_file(&f->config, &index, &path);) {
        const char *name = strncmp(path.data, f->directory, strlen(f->directory)) == 0
                               ? path.data + strlen(f->directory)
                               : path.data;
        buf_addf(&all, "%s ", name);
        buf_reset(&path);
    }
    assert_string_equal(all.data, "/k /a /secret /r /b ");
    buf_release(&path);
    buf_release(&all);

    expect_ok(f, "keys_file = /k\n");
    assert_int_equal(f->config.sandbox_mode, SANDBOX_ON);
    expect_ok(f, "keys_file = /k\nsandbox = required\n");
    assert_int_equal(f->config.sandbox_mode, SANDBOX_REQUIRED);
    expect_ok(f, "keys_file = /k\nsandbox = off\n");
    assert_int_equal(f->config.sandbox_mode, SANDBOX_OFF);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_files_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_keys_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_defaults, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_values, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_relay_socket, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_socket_paths, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_environment, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_every_variable, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_secret_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_size_of_file, set_up, tear_down),
        cmocka_unit_test(test_readme),
        cmocka_unit_test(test_example),
        cmocka_unit_test_setup_teardown(test_exposed_secrets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_writable_by_others, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
