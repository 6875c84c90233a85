/* The relay looks into the offers that had a lead in the last days at every
 * pass, and into all of them when it begins and once a day; a hint makes it look
 * into one partition at once.  Mails wait at most five days, so "the last days"
 * are six.
 */
#include "lib/relay/relay.h"

/* System */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"
#include "lib/base/file.h"
#include "lib/base/log.h"

/* L7 */
#include "lib/relay/relay_socket.h"

enum {
    OFFERS_PER_PAGE = 500,
    OWNER_TEXT = 32,
    LOCK_RETRY_MS = 2000,  /* how soon another process takes over from a dead relay */
    STORE_RETRY_MS = 5000, /* after the store failed */
    HINTS_AT_ONCE = 64,
    HINTS_SUSPICIOUS = 8, /* the kernel queues about ten datagrams: with so many, some may have been lost */
    OFFERS_WAIT_MS = 30000,
    RELAY_STACK_BYTES = 1024 * 1024 /* libcurl and OpenSSL run on it */
};
#define RECENT_MS (6 * 24 * 60 * 60 * 1000LL)
#define DAILY_MS  (24 * 60 * 60 * 1000LL)

struct relay {
    struct relay_options options;
    pthread_t thread;
    int wake_fd;
    _Atomic bool stop;
    pthread_mutex_t lock; /* of has_ended */
    pthread_cond_t ended;
    bool has_ended;
    char owner[OWNER_TEXT + 1];
};

/* Names this host's relay in claims: the machine and the lock that is held. */
static enum status name_owner(const char *socket_path, char owner[OWNER_TEXT + 1], struct fail *why)
{
    struct buf text = BUF_INIT(LIMIT_SECRET_FILE_BYTES);
    unsigned char digest[SHA256_BYTES];
    /* Without a machine id the path alone has to do; hosts then differ by host name. */
    if (file_read("/etc/machine-id", FILE_PUBLIC, &text, NULL) != ST_OK)
        buf_reset(&text);
    char host[256] = {0};
    (void)gethostname(host, sizeof host - 1);
    buf_addf(&text, "\n%s\n%s", host, socket_path);
    enum status status = buf_status(&text, "the relay's name", why);
    if (status == ST_OK)
        status = crypto_sha256(buf_span(&text), digest, why);
    if (status == ST_OK)
        hex_write(digest, OWNER_TEXT / 2, owner);
    buf_release(&text);
    return status;
}

/* Works through the offers with a lead since since_ms. */
static enum status pass_offers(struct mailer *mailer, struct store *store, int64_t since_ms,
                               const _Atomic bool *stop, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct query q = {
        .table = TABLE_OPS,
        .partition_key = SPAN_LIT(OFFERS_PARTITION),
        .since_column = since_ms ? "LastLeadTime" : NULL,
        .since_ms = since_ms,
        .select = "PartitionKey,RowKey,Timestamp,LastLeadTime",
        .limit = OFFERS_PER_PAGE,
    };
    enum status status = ST_OK;
    do {
        struct page page;
        status = store_query(store, &q, clock_monotonic_ms() + OFFERS_WAIT_MS, &arena, &page, why);
        for (size_t i = 0; status == ST_OK && i < page.count && !(stop && atomic_load(stop)); i++)
            status = mailer_pass(mailer, page.rows[i].row_key, why);
        q.next = status == ST_OK ? page.next : span_empty();
    } while (status == ST_OK && q.next.len && !(stop && atomic_load(stop)));
    arena_release(&arena);
    return status;
}

/* Waits for a hint, the stop or the time. */
static void wait_for_event(const struct relay *r, const struct relay_socket *socket, int64_t wait_ms)
{
    struct pollfd fds[2] = {{.fd = r->wake_fd, .events = POLLIN}, {.fd = socket->fd, .events = POLLIN}};
    if (wait_ms > (int64_t)WAIT_RELAY_PASS_MS)
        wait_ms = WAIT_RELAY_PASS_MS;
    (void)poll(fds, 2, (int)wait_ms); /* an error is like a time-out: look around */
}

/* Works through the partitions that hints name. *all: so many came that some may be missing. */
static enum status pass_hints(struct mailer *mailer, const struct relay_socket *socket, bool *all,
                              struct fail *why)
{
    char names[HINTS_AT_ONCE][LIMIT_PARTITION_KEY_BYTES + 1];
    size_t count = 0, taken = 0;
    while (taken < HINTS_AT_ONCE && relay_socket_take(socket, names[count])) {
        size_t same = 0;
        while (same < count && strcmp(names[same], names[count]) != 0)
            same++;
        count += same == count ? 1 : 0;
        taken++;
    }
    *all = taken >= HINTS_SUSPICIOUS;
    enum status status = ST_OK;
    for (size_t i = 0; i < count && status == ST_OK; i++)
        status = mailer_pass(mailer, span_of(names[i]), why);
    return status;
}

/* While the lock is ours. */
static enum status work(struct relay *r, const struct relay_socket *socket, struct store *store,
                        struct mailer *mailer, struct fail *why)
{
    int64_t passed_ms = 0, all_passed_ms = 0; /* monotonic; 0: not yet */
    while (!atomic_load(&r->stop)) {
        int64_t now = clock_monotonic_ms();
        bool many = false;
        enum status status = pass_hints(mailer, socket, &many, why);
        if (status == ST_OK && (many || passed_ms == 0 || now - passed_ms >= WAIT_RELAY_PASS_MS ||
                                mailer_due_in_ms(mailer) == 0)) {
            bool all = all_passed_ms == 0 || now - all_passed_ms >= DAILY_MS;
            mailer_forget_due(mailer);
            status = pass_offers(mailer, store, all ? 0 : store_now_ms(store) - RECENT_MS, &r->stop, why);
            if (status == ST_OK) {
                passed_ms = now;
                all_passed_ms = all ? now : all_passed_ms;
            }
        }
        if (status != ST_OK)
            return status;
        wait_for_event(r, socket, mailer_due_in_ms(mailer));
    }
    return ST_OK;
}

/* Opens what the relay needs and works until the stop or a failure. */
static enum status serve(struct relay *r, const struct relay_socket *socket, struct fail *why)
{
    struct store *store = NULL;
    struct mailer *mailer = NULL;
    enum status status = r->options.open(r->options.context, &store, why);
    if (status == ST_OK)
        status = mailer_new(&r->options.mailer, store, &mailer, why);
    if (status == ST_OK)
        status = work(r, socket, store, mailer, why);
    mailer_free(mailer);
    store_close(store);
    return status;
}

static void *run(void *context)
{
    struct relay *r = context;
    struct relay_socket socket = RELAY_SOCKET_CLOSED;
    while (!atomic_load(&r->stop)) {
        struct fail why;
        int64_t wait_ms = LOCK_RETRY_MS;
        enum status status =
            socket.lock_fd < 0 ? relay_socket_claim(r->options.socket_path, &socket, &why) : ST_OK;
        if (status == ST_OK)
            status = serve(r, &socket, &why);
        if (status != ST_OK && status != ST_EXISTS) {
            log_failure(LOG_LEVEL_ERROR, "relay-failed", &why, NULL);
            wait_ms = STORE_RETRY_MS;
        }
        struct pollfd wake = {.fd = r->wake_fd, .events = POLLIN};
        if (!atomic_load(&r->stop))
            (void)poll(&wake, 1, (int)wait_ms);
    }
    relay_socket_release(&socket);
    (void)pthread_mutex_lock(&r->lock);
    r->has_ended = true;
    (void)pthread_cond_signal(&r->ended);
    (void)pthread_mutex_unlock(&r->lock);
    return NULL;
}

/* None of these calls fails on Linux with valid arguments. */
static void init_ended(struct relay *r)
{
    pthread_condattr_t monotonic;
    (void)pthread_condattr_init(&monotonic);
    (void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&r->ended, &monotonic);
    (void)pthread_condattr_destroy(&monotonic);
    (void)pthread_mutex_init(&r->lock, NULL);
}

static void relay_free(struct relay *r)
{
    if (r->wake_fd >= 0)
        (void)close(r->wake_fd);
    (void)pthread_cond_destroy(&r->ended);
    (void)pthread_mutex_destroy(&r->lock);
    free(r);
}

enum status relay_start(const struct relay_options *options, struct relay **relay, struct fail *why)
{
    struct relay *r = calloc(1, sizeof *r);
    if (!r)
        return fail_set(why, ST_NOMEM, 0, "no memory for the relay");
    init_ended(r);
    r->options = *options;
    r->options.mailer.stop = &r->stop;
    r->options.mailer.transport.stop = &r->stop;
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum status status = r->wake_fd >= 0 ? name_owner(options->socket_path, r->owner, why)
                                         : fail_set(why, ST_IO, errno, "cannot make an event descriptor");
    if (status == ST_OK) {
        pthread_attr_t attributes;
        r->options.mailer.owner = span_of(r->owner);
        (void)pthread_attr_init(&attributes);
        (void)pthread_attr_setstacksize(&attributes, RELAY_STACK_BYTES);
        int error = pthread_create(&r->thread, &attributes, run, r);
        (void)pthread_attr_destroy(&attributes);
        if (error != 0)
            status = fail_set(why, ST_IO, error, "cannot start the relay thread");
    }
    if (status != ST_OK) {
        relay_free(r);
        return status;
    }
    *relay = r;
    return ST_OK;
}

bool relay_stop(struct relay *relay, int64_t wait_ms)
{
    if (!relay)
        return true;
    atomic_store(&relay->stop, true);
    uint64_t one = 1;
    ssize_t written = write(relay->wake_fd, &one, sizeof one);
    (void)written; /* without the wake-up the thread sees the flag a little later */
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += (time_t)(wait_ms / 1000);
    int error = 0;
    (void)pthread_mutex_lock(&relay->lock);
    while (!relay->has_ended && error == 0)
        error = pthread_cond_timedwait(&relay->ended, &relay->lock, &until);
    bool has_ended = relay->has_ended;
    (void)pthread_mutex_unlock(&relay->lock);
    if (!has_ended) {
        log_event(LOG_LEVEL_WARNING, "relay-still-sending", NULL);
        return false; /* the thread still uses it */
    }
    (void)pthread_join(relay->thread, NULL);
    relay_free(relay);
    return true;
}

enum status relay_once(const struct relay_options *options, bool *waiting, struct fail *why)
{
    struct relay_socket socket = RELAY_SOCKET_CLOSED;
    struct store *store = NULL;
    struct mailer *mailer = NULL;
    struct mailer_options mailer_options = options->mailer;
    char owner[OWNER_TEXT + 1];
    enum status status = relay_socket_claim(options->socket_path, &socket, why);
    if (status == ST_OK)
        status = name_owner(options->socket_path, owner, why);
    if (status == ST_OK)
        status = options->open(options->context, &store, why);
    if (status == ST_OK) {
        mailer_options.owner = span_of(owner);
        status = mailer_new(&mailer_options, store, &mailer, why);
    }
    if (status == ST_OK)
        status = pass_offers(mailer, store, 0, mailer_options.stop, why);
    if (status == ST_OK)
        *waiting = mailer_due_in_ms(mailer) != INT64_MAX;
    mailer_free(mailer);
    store_close(store);
    relay_socket_release(&socket);
    return status;
}
