/* nginx's configuration in force.
 *
 * What is asked of it is what nginx/leadhook.conf does; an operator may have
 * written his own, so that directives count and not files.  A finding is a FAIL
 * when that nginx runs, or was named with --nginx, and a warning when it does not
 * run: the one that is in force is then another one, or none.
 */
#include "handler/ctl/check/check.h"

/* System */
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/file.h"

/* L3 */
#include "lib/net/loopback.h"

/* The command */
#include "handler/ctl/check/nginx_config.h"
#include "handler/ctl/run.h"

enum {
    NGINX_WAIT_MS = 20000, /* -T looks up the names of all upstreams */
    KEPT_MS_MAX = 5000,    /* leadhook gives an idle connection up after 10 s */
    BODY_DEFAULT = 1024 * 1024,
    PID_BYTES = 32
};

#define OURS "include nginx/leadhook.conf in the server, as the README shows (Set it up, nginx)"

struct nginx {
    struct check *check;
    struct arena arena;
    struct buf text;    /* what -T printed */
    struct buf details; /* what -V printed */
    const struct nginx_directive *top;
    const struct nginx_directive *http;
    bool is_in_force;    /* as far as can be told */
    char user[64];       /* its workers'; "": not known */
    struct span socket;  /* where it passes requests; blank: not known */
    unsigned int server; /* how many have been looked at */
};

/* A finding about one server. */
static void complain(struct nginx *n, bool is_grave, const char *means, const char *cure, const char *format,
                     ...) PRINTF_LIKE(5, 6);
static void complain(struct nginx *n, bool is_grave, const char *means, const char *cure, const char *format,
                     ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    check_say(n->check, is_grave && n->is_in_force ? CHECK_FAIL : CHECK_WARN, "nginx", means, cure, "%s",
              text);
}

/* --- words of nginx ---------------------------------------------------------------------------------------------- */

/* "257k", "1m", "0" (no limit); in: bytes of a unit-less number.  UINT64_MAX: no limit. */
static uint64_t size_of(const struct nginx_directive *d, uint64_t otherwise)
{
    struct span text = nginx_word(d, 0);
    uint64_t factor = 1, number;
    char last = text.len ? char_lower(text.ptr[text.len - 1]) : '0';
    if (last == 'k' || last == 'm' || last == 'g') {
        factor = last == 'k' ? 1024 : last == 'm' ? 1024 * 1024 : 1024 * 1024 * 1024;
        text.len--;
    }
    if (!span_to_u64(text, UINT32_MAX, &number))
        return otherwise;
    return number ? number * factor : UINT64_MAX;
}

/* "500ms", "60s", "1m", "2"; -1: another form. */
static int64_t time_of(struct span text)
{
    uint64_t number, factor = 1000;
    if (span_ends_nocase(text, SPAN_LIT("ms"))) {
        text.len -= 2;
        factor = 1;
    } else if (text.len && (text.ptr[text.len - 1] == 's' || text.ptr[text.len - 1] == 'm')) {
        factor = text.ptr[text.len - 1] == 's' ? 1000 : 60 * 1000;
        text.len--;
    }
    return span_to_u64(text, UINT32_MAX, &number) ? (int64_t)(number * factor) : -1;
}

static const char *name_of(const struct nginx *n, const struct nginx_directive *server, char name[128])
{
    struct span word = nginx_word(nginx_find(server, "server_name", NULL), 0);
    if (word.len == 0)
        (void)snprintf(name, 128, "server %u", n->server);
    else
        (void)snprintf(name, 128, "server '%.*s'", SPAN_FMT(span_cut(word, 0, 100)));
    return name;
}

/* --- logs -------------------------------------------------------------------------------------------------------- */

/* Whether a text with variables holds one that holds the key. */
static bool shows_key(struct span format)
{
    static const char *const tellers[] = {
        "request",         "request_uri",        "args",        "query_string", "arg_key",
        "http_x_lead_key", "http_authorization", "http_referer"};
    size_t at;
    while ((at = span_find(format, '$')) != SPAN_NONE) {
        format = span_from(format, at + 1);
        if (format.len && format.ptr[0] == '{')
            format = span_from(format, 1);
        size_t len = 0;
        while (len < format.len && (char_is_alnum(format.ptr[len]) || format.ptr[len] == '_'))
            len++;
        for (size_t i = 0; i < sizeof tellers / sizeof tellers[0]; i++) {
            if (span_eq(span_cut(format, 0, len), span_of(tellers[i])))
                return true;
        }
    }
    return false;
}

/* The named format; "combined" is nginx's own, with the request line. */
static bool format_shows_key(const struct nginx *n, struct span name)
{
    const struct nginx_directive *d = NULL;
    while ((d = nginx_find(n->http, "log_format", d)) != NULL) {
        if (!span_eq(nginx_word(d, 0), name))
            continue;
        for (size_t i = 1; i + 1 < d->word_count; i++) {
            if (shows_key(nginx_word(d, i)))
                return true;
        }
        return false;
    }
    return true;
}

static bool access_log_shows_key(const struct nginx *n, const struct nginx_directive *block)
{
    const struct nginx_directive *d = nginx_in_force(block, "access_log");
    if (!d)
        return true;
    for (; d; d = nginx_find(NULL, "access_log", d)) {
        struct span format = nginx_word(d, 1);
        bool has_format = format.len && span_find(format, '=') == SPAN_NONE;
        if (!span_eq(nginx_word(d, 0), SPAN_LIT("off")) &&
            !span_eq(nginx_word(d, 0), SPAN_LIT("/dev/null")) &&
            format_shows_key(n, has_format ? format : SPAN_LIT("combined")))
            return true;
    }
    return false;
}

/* At any level but "emerg" it prints the request line: "crit" does when the socket is missing. */
static bool error_log_shows_key(const struct nginx_directive *block)
{
    const struct nginx_directive *d = nginx_in_force(block, "error_log");
    if (!d)
        return true;
    for (; d; d = nginx_find(NULL, "error_log", d)) {
        if (!span_eq(nginx_word(d, 0), SPAN_LIT("/dev/null")) &&
            !span_eq(nginx_word(d, 1), SPAN_LIT("emerg")))
            return true;
    }
    return false;
}

static void check_logs(struct nginx *n, const struct nginx_directive *location, const char *name)
{
    static const char means[] = "keys, which stand in the URL, are written into that log";
    if (access_log_shows_key(n, location))
        complain(n, true, means, "access_log off; or one in the format leadhook of nginx/leadhook-http.conf",
                 "%s: the access_log of /leads prints the query", name);
    if (error_log_shows_key(location))
        complain(n, true, means, "error_log /dev/null emerg; in the location of /leads",
                 "%s: the error_log of /leads is not at level emerg", name);
    if (access_log_shows_key(n, location->parent))
        complain(n, false, "a URL that was entered with a mistake in its path is written there, key included",
                 "access_log /var/log/nginx/leads.log leadhook; in the server",
                 "%s: its access_log prints the query", name);
}

/* --- limits ------------------------------------------------------------------------------------------------------ */

static const struct nginx_directive *find_location(const struct nginx_directive *server, struct span path)
{
    const struct nginx_directive *d = NULL;
    while ((d = nginx_find(server, "location", d)) != NULL) {
        if (d->word_count > 1 && span_eq(d->words[d->word_count - 1], path))
            return d;
    }
    return NULL;
}

static void check_body(struct nginx *n, const struct nginx_directive *location, const char *name)
{
    unsigned int wanted = n->check->service->config.body_max_bytes;
    uint64_t body = size_of(nginx_in_force(location, "client_max_body_size"), BODY_DEFAULT);
    uint64_t buffer = size_of(nginx_in_force(location, "client_body_buffer_size"), 0);
    if (body < wanted)
        complain(n, true, "larger leads are answered 413 by nginx and are lost", "client_max_body_size 257k;",
                 "%s: client_max_body_size is %llu bytes, below leadhook's body_max_bytes of %u", name,
                 (unsigned long long)body, wanted);
    if (buffer < wanted)
        complain(n, false, "nginx writes larger leads, which are personal data, into files",
                 "client_body_buffer_size 257k;",
                 "%s: client_body_buffer_size is below leadhook's body_max_bytes of %u", name, wanted);
}

/* Where leadhook sends nginx for the answer to a wrong key. */
static const struct nginx_directive *denied_param(const struct nginx_directive *location)
{
    const struct nginx_directive *d = nginx_in_force(location, "fastcgi_param");
    while (d && !span_eq(nginx_word(d, 0), SPAN_LIT("DENIED_LOCATION")))
        d = nginx_find(NULL, "fastcgi_param", d);
    return d;
}

static void check_strangers(struct nginx *n, const struct nginx_directive *location, const char *name)
{
    const struct nginx_directive *param = denied_param(location);
    const struct nginx_directive *denied =
        param ? find_location(location->parent, nginx_word(param, 1)) : NULL;
    if (nginx_in_force(location, "limit_req"))
        complain(
            n, false,
            "good leads are delayed or refused with 429 when many come at once, and wrong keys are not slowed down",
            "keep limit_req out of /leads and of the server around it; nginx/leadhook.conf has one for wrong keys",
            "%s: limit_req holds for /leads itself", name);
    if (param && !denied)
        complain(n, true, "requests with a wrong key are answered 500", OURS,
                 "%s: its DENIED_LOCATION '%.*s' is not there", name, SPAN_FMT(nginx_word(param, 1)));
    else if (!denied || !nginx_find(denied, "limit_req", NULL))
        complain(n, false, "who tries keys is not slowed down", OURS, "%s: no limit_req for wrong keys",
                 name);
}

/* --- how it passes requests on ----------------------------------------------------------------------------------- */

static void check_params(struct nginx *n, const struct nginx_directive *location, const char *name)
{
    static const char *const needed[] = {"REQUEST_METHOD", "SCRIPT_NAME", "QUERY_STRING", "CONTENT_TYPE",
                                         "CONTENT_LENGTH"};
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++) {
        const struct nginx_directive *d = nginx_in_force(location, "fastcgi_param");
        while (d && !span_eq(nginx_word(d, 0), span_of(needed[i])))
            d = nginx_find(NULL, "fastcgi_param", d);
        if (!d)
            complain(n, true, "leadhook does not understand the requests: they are answered 4xx", OURS,
                     "%s: fastcgi_param %s is missing", name, needed[i]);
    }
    const struct nginx_directive *next = nginx_in_force(location, "fastcgi_next_upstream");
    if (nginx_has_word(next, "non_idempotent"))
        complain(n, true, "nginx may send one lead to several processes at once",
                 "fastcgi_next_upstream off;", "%s: fastcgi_next_upstream has non_idempotent", name);
}

static void check_kept(struct nginx *n, const struct nginx_directive *upstream, const char *name)
{
    const struct nginx_directive *timeout = nginx_find(upstream, "keepalive_timeout", NULL);
    int64_t kept_ms = timeout ? time_of(nginx_word(timeout, 0)) : 60000;
    if (nginx_find(upstream, "keepalive", NULL) && (kept_ms < 0 || kept_ms > KEPT_MS_MAX))
        complain(
            n, true,
            "nginx loses requests that it sends at the moment in which leadhook closes an idle connection, after 10 s",
            "keepalive_timeout 500ms; in the upstream",
            "%s: connections to leadhook are kept idle for %lld ms", name, (long long)kept_ms);
}

static const struct nginx_directive *find_upstream(const struct nginx *n, struct span name)
{
    const struct nginx_directive *d = NULL;
    while ((d = nginx_find(n->http, "upstream", d)) != NULL && !span_eq(nginx_word(d, 0), name))
        ;
    return d;
}

/* "unix:PATH" and "unix:PATH:" give PATH; blank: something else. */
static struct span socket_path(struct span address)
{
    struct span prefix = SPAN_LIT("unix:");
    struct span path = span_starts(address, prefix) ? span_from(address, prefix.len) : span_empty();
    if (path.len && path.ptr[path.len - 1] == ':') /* what follows would be a path within the service */
        path.len--;
    return path;
}

static void check_socket_name(struct nginx *n, const struct nginx_directive *location, const char *name)
{
    const char *listen = n->check->service->config.listen;
    struct span to = nginx_word(nginx_find(location, "fastcgi_pass", NULL), 0);
    const struct nginx_directive *upstream = find_upstream(n, to);
    struct span path = socket_path(upstream ? nginx_word(nginx_find(upstream, "server", NULL), 0) : to);
    if (upstream)
        check_kept(n, upstream, name);
    if (path.len == 0)
        complain(n, true, "requests do not reach leadhook, which listens at a unix socket",
                 "fastcgi_pass leadhook; with the upstream of the README", "%s: /leads is passed to '%.*s'",
                 name, SPAN_FMT(to));
    else if (listen && !span_eq(path, span_of(listen)))
        complain(n, true, "senders get 503: nobody listens where nginx connects to",
                 "make the upstream's server and `listen` the same",
                 "%s: /leads is passed to '%.*s', and leadhook listens at '%s'", name, SPAN_FMT(path),
                 listen);
    n->socket = path;
}

/* --- the server -------------------------------------------------------------------------------------------------- */

static struct span port_of(struct span address)
{
    size_t colon = span_find_last(address, ':');
    bool is_port = colon != SPAN_NONE && address.ptr[address.len - 1] != ']';
    struct span port = is_port ? span_from(address, colon + 1) : address;
    uint64_t number;
    return span_to_u64(port, UINT16_MAX, &number) ? port : SPAN_LIT("80");
}

static bool is_here(struct span address)
{
    size_t colon = span_find_last(address, ':');
    return span_starts(address, SPAN_LIT("unix:")) || host_is_loopback(span_cut(address, 0, colon), false) ||
           span_starts(address, SPAN_LIT("[::1]"));
}

/* The URL under which a test lead would be sent from here. */
static void note_url(struct nginx *n, const struct nginx_directive *listen, bool has_tls,
                     struct span server_name)
{
    struct buf *url = &n->check->lead_url;
    struct span port = port_of(nginx_word(listen, 0));
    bool is_usual = span_eq(port, has_tls ? SPAN_LIT("443") : SPAN_LIT("80"));
    bool is_plain_name =
        server_name.len && span_has_only(server_name, ".-") && span_find(server_name, '.') != SPAN_NONE;
    if (url->len || !(has_tls ? is_plain_name : is_here(nginx_word(listen, 0))))
        return;
    buf_addf(url, "%s://%.*s%s%.*s/leads", has_tls ? "https" : "http",
             SPAN_FMT(has_tls ? server_name : SPAN_LIT("127.0.0.1")), is_usual ? "" : ":",
             SPAN_FMT(is_usual ? span_empty() : port));
}

static void check_tls(struct nginx *n, const struct nginx_directive *server, const char *name)
{
    const struct nginx_directive *listen = NULL;
    struct span server_name = nginx_word(nginx_find(server, "server_name", NULL), 0);
    bool has_tls = false,
         is_open = !nginx_find(server, "listen", NULL); /* without one nginx listens at port 80 */
    while ((listen = nginx_find(server, "listen", listen)) != NULL) {
        bool is_secure = nginx_has_word(listen, "ssl");
        has_tls = has_tls || is_secure;
        is_open = is_open || (!is_secure && !is_here(nginx_word(listen, 0)));
        note_url(n, listen, is_secure, server_name);
    }
    if (is_open)
        complain(
            n, false,
            "keys and leads can be read on the way, and Microsoft sends to https:// only; harmless where TLS ends before this nginx",
            "listen 443 ssl; and no other listen in this server", "%s: /leads can be reached without TLS",
            name);
}

static void check_server(struct nginx *n, const struct nginx_directive *server,
                         const struct nginx_directive *location)
{
    char name[128];
    const unsigned int *counts = n->check->counts;
    unsigned int before = counts[CHECK_WARN] + counts[CHECK_FAIL];
    n->server++;
    (void)name_of(n, server, name);
    check_socket_name(n, location, name);
    check_params(n, location, name);
    check_body(n, location, name);
    check_logs(n, location, name);
    check_strangers(n, location, name);
    check_tls(n, server, name);
    if (counts[CHECK_WARN] + counts[CHECK_FAIL] == before)
        check_say(n->check, CHECK_OK, "nginx", NULL, NULL,
                  "%s passes /leads to '%.*s', with the limits and logs it should have", name,
                  SPAN_FMT(n->socket));
}

static void check_servers(struct nginx *n)
{
    const struct nginx_directive *server = NULL;
    n->http = nginx_find(n->top, "http", NULL);
    while ((server = nginx_find(n->http, "server", server)) != NULL) {
        const struct nginx_directive *location = find_location(server, SPAN_LIT("/leads"));
        if (location && nginx_find(location, "fastcgi_pass", NULL))
            check_server(n, server, location);
    }
    if (n->server == 0)
        complain(
            n, true, "no lead gets as far as leadhook",
            "the package's site: ln -s ../sites-available/leadhook /etc/nginx/sites-enabled/leadhook; or include "
            "nginx/leadhook.conf in a server of your own (README, Set it up, nginx)",
            "no server has a location /leads with fastcgi_pass");
}

/* --- asking nginx ------------------------------------------------------------------------------------------------ */

/* The last line that it prints with [emerg], or the last at all. */
static struct span reason_in(const struct buf *err)
{
    struct span rest = buf_span(err), line, reason = {0};
    bool is_emerg = false;
    while (span_next(&rest, '\n', &line)) {
        bool has = span_has_nocase(line, SPAN_LIT("[emerg]"));
        if (line.len && (has || !is_emerg))
            reason = line;
        is_emerg = is_emerg || has;
    }
    return span_cut(reason, 0, 300);
}

/* false: told already. */
static bool ask_nginx(struct nginx *n)
{
    struct buf err = BUF_INIT(LIMIT_NGINX_TEXT_BYTES), none = BUF_INIT(LIMIT_NGINX_TEXT_BYTES);
    struct fail why;
    int exit_status = 0;
    enum status status = ctl_run("nginx", "-T", NGINX_WAIT_MS, &n->text, &err, &exit_status, &why);
    struct span reason = reason_in(&err);
    if (status == ST_NOT_FOUND)
        check_say(n->check, CHECK_WARN, "nginx", "its configuration was not looked at",
                  "where it runs elsewhere: nginx -T >FILE there, and leadctl check --nginx FILE here",
                  "%s on this host", why.text);
    else if (status != ST_OK)
        check_say(n->check, CHECK_WARN, "nginx", "its configuration was not looked at",
                  "run nginx -T by hand", "nginx -T: %s", why.text);
    else if (exit_status != 0 && span_has_nocase(reason, SPAN_LIT("Permission denied")))
        check_say(n->check, CHECK_WARN, "nginx", "its configuration was not looked at: only root may see it",
                  "sudo leadctl check; or sudo nginx -T | leadctl check --nginx -", "nginx -T: %.*s",
                  SPAN_FMT(reason));
    else if (exit_status != 0)
        check_say(n->check, CHECK_FAIL, "nginx",
                  "nginx does not start with this configuration, and does not take it over when it reloads",
                  "correct that line", "nginx -T: %.*s", SPAN_FMT(reason));
    bool is_told = status != ST_OK || exit_status != 0;
    if (!is_told && ctl_run("nginx", "-V", NGINX_WAIT_MS, &none, &n->details, &exit_status, NULL) != ST_OK)
        buf_reset(&n->details);
    buf_release(&none);
    buf_release(&err);
    return !is_told;
}

/* The value of "--name=value" in what -V printed. */
static struct span built_with(const struct nginx *n, const char *name)
{
    struct span rest = buf_span(&n->details), word;
    while (span_next(&rest, ' ', &word)) {
        if (span_starts(word, span_of(name)))
            return span_trim(span_from(word, strlen(name)));
    }
    return span_empty();
}

/* Whether the process whose number is in nginx's pid file is an nginx. */
static bool runs(struct nginx *n)
{
    struct span path = nginx_word(nginx_find(n->top, "pid", NULL), 0);
    struct buf file = BUF_INIT(LIMIT_PATH_BYTES), text = BUF_INIT(PID_BYTES);
    uint64_t pid = 0;
    bool is_running = false;
    buf_add(&file, path.len ? path : built_with(n, "--pid-path="));
    if (file.len && file_read(file.data, FILE_PUBLIC, &text, NULL) == ST_OK &&
        span_to_u64(span_trim(buf_span(&text)), INT32_MAX, &pid)) {
        buf_reset(&file);
        buf_reset(&text);
        buf_addf(&file, "/proc/%llu/comm", (unsigned long long)pid);
        is_running = file_read(file.data, FILE_PUBLIC, &text, NULL) == ST_OK &&
                     span_starts(buf_span(&text), SPAN_LIT("nginx"));
    }
    buf_release(&text);
    buf_release(&file);
    return is_running;
}

static void tell_running(struct nginx *n)
{
    struct span version = buf_span(&n->details), line;
    (void)span_next(&version, '\n', &line);
    n->is_in_force = runs(n);
    if (n->is_in_force)
        check_say(n->check, CHECK_OK, "nginx", NULL, NULL, "runs; %.*s", SPAN_FMT(line));
    else
        check_say(
            n->check, CHECK_WARN, "nginx",
            "nobody takes requests, or another nginx does, with another configuration",
            "systemctl start nginx; or leadctl check --nginx FILE with what `nginx -T` prints for that other one",
            "does not run with the configuration that nginx -T prints");
}

/* --- the part ---------------------------------------------------------------------------------------------------- */

/* false: told already. */
static bool read_text(struct nginx *n)
{
    const char *file = n->check->nginx_file;
    struct fail why;
    enum status status;
    if (!file)
        return ask_nginx(n);
    if (strcmp(file, "-") == 0)
        status = file_read_open(STDIN_FILENO, "standard input", &n->text, &why);
    else
        status = file_read(file, FILE_PUBLIC, &n->text, &why);
    if (status != ST_OK)
        check_say(n->check, CHECK_FAIL, "nginx", NULL,
                  "give a file with what `nginx -T` printed, or - for standard input", "%s", why.text);
    return status == ST_OK;
}

static void look_at(struct nginx *n)
{
    struct fail why;
    if (nginx_config_read(buf_span(&n->text), &n->arena, &n->top, &why) != ST_OK) {
        check_say(n->check, CHECK_FAIL, "nginx", NULL, "run nginx -t", "%s", why.text);
        return;
    }
    struct span user = nginx_word(nginx_find(n->top, "user", NULL), 0);
    (void)snprintf(n->user, sizeof n->user, "%.*s", SPAN_FMT(span_cut(user, 0, sizeof n->user - 1)));
    n->is_in_force = true;
    if (!n->check->nginx_file)
        tell_running(n);
    check_servers(n);
}

void check_nginx(struct check *c)
{
    struct nginx n = {.check = c,
                      .arena = ARENA_INIT(LIMIT_NGINX_ARENA),
                      .text = BUF_INIT(LIMIT_NGINX_TEXT_BYTES),
                      .details = BUF_INIT(LIMIT_NGINX_TEXT_BYTES)};
    struct span path = span_of(c->service->config.listen);
    char name[LIMIT_PATH_BYTES];
    bool is_off = c->nginx_file && strcmp(c->nginx_file, "off") == 0;
    if (!is_off && read_text(&n))
        look_at(&n);
    if (path.len == 0)
        path = n.socket;
    if (path.len) {
        (void)snprintf(name, sizeof name, "%.*s", SPAN_FMT(span_cut(path, 0, sizeof name - 1)));
        check_socket(c, name, n.is_in_force ? n.user : "");
    }
    buf_release(&n.details);
    buf_release(&n.text);
    arena_release(&n.arena);
}
