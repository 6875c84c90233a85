/* The lists are made from the configuration, so a setting that names a file needs nothing here (config_next_file).
 *
 * Landlock knows files by their inodes.  Those of ours are replaced by rename, so their folders are allowed; of a
 * folder that many share only the file itself is.  The resolver's files lie in such a one, /etc: when one of them is
 * replaced (DHCP does that with resolv.conf), no name could be resolved any more, without a word from libc.  That is
 * what sandbox_outdated is for: the process ends, and whoever restarts it makes a new one.
 *
 * Libraries that are loaded late need files that are not allowed and memory to be executed, so they are loaded before.
 * These are the modules that nsswitch.conf names for hosts; OpenSSL loads its own when libcurl is initialized.
 *
 * RLIMIT_NPROC stays as it is: it counts the threads of all processes of the user, and libcurl starts one for each
 * name it looks up; new processes are the filter's to refuse.  RLIMIT_FSIZE too: a SQLite store may grow for years.
 */
#include "handler/sandbox.h"

/* System */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

/* L0 */
#include "lib/base/file.h"
#include "lib/base/log.h"

/* L4 */
#include "lib/table/account.h"

/* Ours */
#include "handler/callfilter.h"
#include "handler/landlock.h"

enum { PORT_DNS = 53, PORT_HTTP = 80, PORT_HTTPS = 443, PORT_SMTPS = 465, PORT_SUBMISSION = 587 };
enum { NSSWITCH_BYTES = 16 * 1024, NSS_NAME_BYTES = 128 };

/* Folders of many programs, beside those right below the root and people's own below /home. */
static const char *const SHARED[] = {"/etc/ssl",         "/usr/lib",   "/usr/local", "/usr/local/etc",
                                     "/usr/local/share", "/usr/share", "/var/lib",   "/var/tmp"};

/* The authorities that everybody trusts, with Debian, Red Hat and SUSE; by what the relay names itself; what libc looks
 * at for a time and before it gives memory back; what SQLite's random numbers begin with. */
static const char *const READ[] = {"/etc/ssl/certs",
                                   "/usr/share/ca-certificates",
                                   "/usr/local/share/ca-certificates",
                                   "/etc/pki/tls/certs",
                                   "/etc/pki/ca-trust/extracted",
                                   "/var/lib/ca-certificates",
                                   "/etc/machine-id",
                                   "/etc/localtime",
                                   "/proc/sys/vm/overcommit_memory",
                                   "/dev/urandom"};

/* What libc reads for a name. */
enum { RESOLVER_FILES = 6 };
static const char *const RESOLVER[RESOLVER_FILES] = {"/etc/resolv.conf",   "/etc/hosts",
                                                     "/etc/nsswitch.conf", "/etc/host.conf",
                                                     "/etc/gai.conf",      "/etc/services"};

static struct {
    bool looks_up; /* names of other hosts */
    int landlock;  /* its version; 0: not in force */
    bool has_ports;
    bool has_filter;
    char wide[PATH_MAX];             /* the folder of many that was told of last */
    bool was_closed[RESOLVER_FILES]; /* cannot be opened from the start, whoever forbids it */
} state;

/* --- files and ports ---------------------------------------------------------------------------------------- */

static bool is_shared(const char *folder)
{
    if (!strchr(folder + 1, '/'))
        return true;
    for (size_t i = 0; i < sizeof SHARED / sizeof *SHARED; i++) {
        if (strcmp(folder, SHARED[i]) == 0)
            return true;
    }
    return strncmp(folder, "/home/", 6) == 0 && !strchr(folder + 6, '/');
}

/* The folder in which the path lies, without symbolic links; false: there is none. */
static bool folder_of(const char *path, char folder[PATH_MAX])
{
    char *name = file_folder(path);
    bool is_there = name && realpath(name, folder);
    free(name);
    return is_there;
}

/* The folder of a file, so that what is put in its place is allowed, too; to read in a shared one only the file. */
static enum status allow_folder(const struct landlock *list, const char *path, enum landlock_use use,
                                struct fail *why)
{
    char folder[PATH_MAX];
    if (!folder_of(path, folder))
        return ST_OK; /* nobody can open it: that is told where it is tried */
    if (!is_shared(folder))
        return landlock_allow(list, folder, use, why);
    if (use == LANDLOCK_READ)
        return landlock_allow(list, path, use, why);
    /* Files come and go beside it: there is no less to be allowed. */
    if (strcmp(folder, state.wide) != 0) {
        memcpy(state.wide, folder, sizeof state.wide);
        log_event(LOG_LEVEL_WARNING, "sandbox-wide",
                  "folder=%s note=give-what-lies-in-it-a-folder-of-its-own", folder);
    }
    return landlock_allow(list, folder, use, why);
}

/* A symbolic link lies in one folder, and what it names in another. */
static enum status allow_file(const struct landlock *list, const char *path, enum landlock_use use,
                              struct fail *why)
{
    char target[PATH_MAX];
    enum status status = path ? allow_folder(list, path, use, why) : ST_OK;
    if (status == ST_OK && path && realpath(path, target) && strcmp(path, target) != 0)
        status = allow_folder(list, target, use, why);
    return status;
}

static enum status allow_reading(const struct landlock *list, const struct service *service, struct fail *why)
{
    enum status status = allow_file(list, service->config_path, LANDLOCK_READ, why);
    for (size_t i = 0; i < sizeof READ / sizeof *READ && status == ST_OK; i++)
        status = landlock_allow(list, READ[i], LANDLOCK_READ, why);
    for (size_t i = 0; i < RESOLVER_FILES && status == ST_OK && state.looks_up; i++)
        status = allow_file(list, RESOLVER[i], LANDLOCK_READ, why);
    struct buf path = BUF_INIT(LIMIT_PATH_BYTES);
    for (size_t index = 0; status == ST_OK && config_next_file(&service->config, &index, &path);) {
        if (path.error == ST_OK)
            status = allow_file(list, path.data, LANDLOCK_READ, why);
        buf_reset(&path);
    }
    buf_release(&path);
    return status;
}

/* A Maildir is made before the first mail: its parent, which has to be synced then, is not allowed afterwards. */
static enum status allow_maildir(const struct landlock *list, const struct config *config, struct fail *why)
{
    struct span scheme = SPAN_LIT("maildir:");
    if (!span_starts(span_of(config->mail_url), scheme))
        return ST_OK;
    const char *path = config->mail_url + scheme.len;
    struct mail_settings settings = config_mail(config);
    struct mail_transport *transport;
    struct fail not_made; /* comes again with the first mail */
    if (access(path, F_OK) != 0 && mail_transport_new(&settings, &transport, &not_made) == ST_OK) {
        enum mail_outcome outcome = mail_probe(transport, &not_made);
        (void)outcome;
        mail_transport_free(transport);
    }
    return landlock_allow(list, path, LANDLOCK_FOLDERS, why);
}

static enum status allow_writing(const struct landlock *list, const struct config *config, struct fail *why)
{
    const char *const paths[] = {config->sqlite_path, config->spool_path, config->relay_socket,
                                 config->listen};
    enum status status = allow_maildir(list, config, why);
    for (size_t i = 0; i < sizeof paths / sizeof *paths && status == ST_OK; i++)
        status = allow_file(list, paths[i], LANDLOCK_WRITE, why);
    return status;
}

/* Of a URL that was checked when it was read. */
static unsigned int port_of(struct span url, unsigned int otherwise)
{
    uint64_t port = otherwise;
    size_t authority = span_find(url, '/');
    url = authority == SPAN_NONE ? url : span_from(url, authority + 2);
    url = span_cut(url, 0, span_find(url, '/'));
    size_t colon = span_find_last(url, ':');
    bool is_given = colon != SPAN_NONE && span_to_u64(span_from(url, colon + 1), UINT16_MAX, &port);
    return is_given ? (unsigned int)port : otherwise; /* not given: also the end of [::1] */
}

static enum status allow_table_port(const struct landlock *list, const struct config *config,
                                    struct fail *why)
{
    struct buf text = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct table_account account = {0};
    unsigned int version;
    enum status status = secret_copy(config->connection, &text, &version, why);
    if (status == ST_OK)
        status = table_account_parse(buf_span(&text), &account, why);
    if (status == ST_OK)
        status = landlock_allow_port(
            list, port_of(buf_span(&account.endpoint), account.is_plain ? PORT_HTTP : PORT_HTTPS), why);
    table_account_release(&account);
    buf_release_secret(&text);
    return status;
}

static enum status allow_ports(const struct landlock *list, const struct config *config, struct fail *why)
{
    struct span mail = span_of(config->mail_url);
    unsigned int usual = span_starts(mail, SPAN_LIT("smtps:")) ? PORT_SMTPS : PORT_SUBMISSION;
    enum status status = landlock_allow_port(list, PORT_DNS, why); /* for answers that UDP has no room for */
    if (status == ST_OK && span_starts(mail, SPAN_LIT("smtp")))
        status = landlock_allow_port(list, port_of(mail, usual), why);
    if (status == ST_OK && !config->sqlite_path)
        status = allow_table_port(list, config, why);
    return status;
}

static enum status restrict_files(const struct service *service, struct fail *why)
{
    struct landlock list;
    enum status status = landlock_open(&list, why);
    if (status == ST_OK)
        status = allow_reading(&list, service, why);
    if (status == ST_OK)
        status = allow_writing(&list, &service->config, why);
    if (status == ST_OK)
        status = allow_ports(&list, &service->config, why);
    if (status == ST_OK)
        status = landlock_enforce(&list, why);
    landlock_close(&list);
    if (status == ST_OK) {
        state.landlock = list.version;
        state.has_ports = list.has_ports;
    }
    return status;
}

/* Whether the process may not open what it could by the file's mode. */
static bool is_closed(const char *path)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd >= 0)
        (void)close(fd);
    return fd < 0 && errno == EACCES && access(path, R_OK) == 0;
}

const char *sandbox_outdated(void)
{
    for (size_t i = 0; i < RESOLVER_FILES && state.landlock > 0; i++) {
        if (!state.was_closed[i] && is_closed(RESOLVER[i]))
            return RESOLVER[i];
    }
    return NULL;
}

/* --- libraries ---------------------------------------------------------------------------------------------- */

static void load_module(struct span name)
{
    char file[NSS_NAME_BYTES];
    int len = snprintf(file, sizeof file, "libnss_%.*s.so.2", SPAN_FMT(name));
    if (len > 0 && (size_t)len < sizeof file)
        (void)dlopen(file, RTLD_NOW | RTLD_NODELETE); /* one that is not there libc passes over as well */
}

/* "hosts: files mdns4_minimal [NOTFOUND=return] dns": what is in libc itself needs no file. */
static void load_resolver(void)
{
    struct buf text = BUF_INIT(NSSWITCH_BYTES);
    struct fail why;
    struct span rest, line, word, database = SPAN_LIT("hosts:");
    enum status status = file_read("/etc/nsswitch.conf", FILE_PUBLIC, &text, &why);
    rest = status == ST_OK ? buf_span(&text) : span_empty(); /* without it libc takes what it has itself */
    while (span_next(&rest, '\n', &line)) {
        line = span_trim(line);
        if (!span_starts(line, database))
            continue;
        line = span_from(line, database.len);
        while (span_next(&line, ' ', &word)) {
            word = span_trim(word);
            if (word.len && word.ptr[0] != '[' && !span_eq(word, SPAN_LIT("files")) &&
                !span_eq(word, SPAN_LIT("dns")))
                load_module(word);
        }
    }
    buf_release(&text);
}

/* Those of the table and the mail server; who has neither needs nothing of the resolver. */
static bool looks_up_names(const struct config *config)
{
    return !config->sqlite_path || span_starts(span_of(config->mail_url), SPAN_LIT("smtp"));
}

/* --- all together ------------------------------------------------------------------------------------------- */

/* The signal that a denied call traps with must arrive; that by which we are told of it must wait for us. */
static void set_signals(void)
{
    sigset_t trap, told;
    (void)sigemptyset(&trap);
    (void)sigaddset(&trap, SIGSYS);
    (void)pthread_sigmask(SIG_UNBLOCK, &trap, NULL);
    (void)sigemptyset(&told);
    (void)sigaddset(&told, CALLFILTER_SIGNAL);
    (void)pthread_sigmask(SIG_BLOCK, &told, NULL);
}

static void warn(enum sandbox mode, const struct fail *why)
{
    if (mode != SANDBOX_REQUIRED) /* else it is the reason why we end */
        log_failure(LOG_LEVEL_WARNING, "sandbox-incomplete", why, NULL);
}

#ifdef LEADHOOK_NO_SANDBOX
static enum status enter(const struct service *service, struct fail *why)
{
    /* Sanitizers make calls of their own, whenever they like. */
    (void)set_signals, (void)load_resolver, (void)restrict_files, (void)looks_up_names;
    enum status status = fail_set(why, ST_REFUSED, 0, "this program was built without its sandbox");
    warn(service->config.sandbox_mode, why);
    return status;
}
#else
static enum status enter(const struct service *service, struct fail *why)
{
    enum sandbox mode = service->config.sandbox_mode;
    enum status status = ST_OK;
    state.looks_up = looks_up_names(&service->config);
    if (state.looks_up)
        load_resolver();
    set_signals();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        status = fail_set(why, ST_REFUSED, errno, "the kernel has no no_new_privs");
    if (status == ST_OK && (status = restrict_files(service, why)) != ST_OK)
        warn(mode, why);
    for (size_t i = 0; i < RESOLVER_FILES && state.landlock > 0; i++)
        state.was_closed[i] = is_closed(RESOLVER[i]);
    if (status != ST_OK && mode == SANDBOX_REQUIRED)
        return status;
    status = callfilter_enforce(why);
    state.has_filter = status == ST_OK;
    if (status != ST_OK)
        warn(mode, why);
    return status;
}
#endif

enum status sandbox_enter(const struct service *service, struct fail *why)
{
    if (service->config.sandbox_mode == SANDBOX_OFF) {
        log_event(LOG_LEVEL_WARNING, "sandbox-off", "note=the-setting-says-so");
        return ST_OK;
    }
    enum status status = enter(service, why);
    if (status == ST_OK || service->config.sandbox_mode != SANDBOX_REQUIRED)
        return ST_OK;
    why->code = ST_REFUSED;
    fail_prefix(why, "sandbox = required");
    return ST_REFUSED;
}

void sandbox_log_state(void)
{
    if (state.landlock > 0 || state.has_filter)
        log_event(LOG_LEVEL_INFO, "sandbox", "calls=%s landlock=%d ports=%s",
                  state.has_filter ? "filtered" : "all", state.landlock, state.has_ports ? "listed" : "all");
}
