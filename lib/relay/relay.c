/* The mailer's role looks into the offers that had a lead in the last days at every
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
#include <sys/resource.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/condition.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"
#include "lib/base/file.h"
#include "lib/base/log.h"
#include "lib/base/thread.h"

/* L6 */
#include "lib/store/offers.h"

/* L7 */
#include "lib/relay/relay_socket.h"
#include "lib/relay/tries.h"

enum {
    OWNER_TEXT = 32,
    LOCK_RETRY_MS = 2000,   /* how soon another process takes over from a dead relay */
    STORE_RETRY_MS = 5000,  /* after the store failed */
    DRAIN_LOOK_MS = 1000,   /* between looks into the spool: a read of a local file */
    WATCH_LOOK_MS = 10000,  /* between looks for alarms */
    CENSUS_LOOK_MS = 10000, /* between looks for metrics, */
    CENSUS_SHARE = 10, /* or so many times as long as the last one took: with many offers it takes a while */
    HINTS_AT_ONCE = 64,
    HINTS_SUSPICIOUS = 8, /* the kernel queues about ten datagrams: with so many, some may have been lost */
    OFFERS_WAIT_MS = 30000,
    SETTLE_MS = 5000,               /* at the stop, to record what was sent */
    MAILER_NICE = 10,               /* a tenth of a request thread's share where both want the processor */
    RELAY_STACK_BYTES = 1024 * 1024 /* libcurl and OpenSSL run on it */
};
#define RECENT_MS (6 * CLOCK_DAY_MS)

enum role_name { ROLE_MAILER, ROLE_DRAIN, ROLE_WATCH, ROLE_CENSUS, ROLE_COUNT };

struct role {
    struct relay *relay;
    const char *name;
    enum status (*serve)(struct relay *relay, struct fail *why); /* until the stop or a failure */
    pthread_t thread;
    bool started;
    struct log_repeat logged;
};

struct relay {
    struct relay_options options;
    pthread_t thread;
    struct role roles[ROLE_COUNT];
    struct relay_socket socket;
    struct tries tries;         /* of the watch's role */
    struct mail_memory *memory; /* of all mailers of this process */
    int wake_fd;                /* readable for good once the relay shall stop */
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
    struct query q = offers_times_query(since_ms);
    enum status status = ST_OK;
    for (bool more = true; status == ST_OK && more && !(stop && atomic_load(stop));) {
        struct page page;
        status = store_query(store, &q, clock_monotonic_ms() + OFFERS_WAIT_MS, &arena, &page, why);
        for (size_t i = 0; status == ST_OK && i < page.count && !(stop && atomic_load(stop)); i++)
            status = mailer_pass(mailer, page.rows[i].row_key, why);
        if (status == ST_OK)
            status = store_turn_page(&q, &page, &arena, &more, why);
    }
    arena_release(&arena);
    return status;
}

/* Waits for the time or the stop. */
static void wait_for_stop(const struct relay *r, int64_t wait_ms)
{
    struct pollfd wake = {.fd = r->wake_fd, .events = POLLIN};
    if (!atomic_load(&r->stop))
        (void)poll(&wake, 1, (int)wait_ms); /* an error is like a time-out: look around */
}

static void log_role_failure(struct role *role, const struct fail *why)
{
    if (!log_is_repeat(&role->logged, why))
        log_failure(LOG_LEVEL_ERROR, "relay-failed", why, "role=%s", role->name);
}

static int64_t pass_interval_ms(void)
{
    return clock_long_wait_ms(WAIT_RELAY_PASS_MS);
}

/* --- mails --------------------------------------------------------------------------------------------------- */

/* Waits for a hint, the stop or the time. */
static void wait_for_hint(const struct relay *r, int64_t wait_ms)
{
    struct pollfd fds[2] = {{.fd = r->wake_fd, .events = POLLIN}, {.fd = r->socket.fd, .events = POLLIN}};
    if (wait_ms > pass_interval_ms())
        wait_ms = pass_interval_ms();
    (void)poll(fds, 2, (int)wait_ms); /* an error is like a time-out: look around */
}

/* What hints have asked for beyond the partitions that they name. */
struct asked {
    bool recent; /* so many came that some may be missing */
    bool all;    /* a blank one: a person has put something right */
};

/* Works through the partitions that hints name; while no mail may go out only the queue is emptied, and the pass
 * that is due then finds what they speak of. */
static enum status pass_hints(struct mailer *mailer, const struct relay_socket *socket, struct asked *asked,
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
    *asked = (struct asked){0};
    for (size_t i = 0; i < count; i++)
        asked->all = asked->all || names[i][0] == '\0';
    if (asked->all)
        mailer_resume(mailer);
    if (count == 0 || mailer_rests(mailer))
        return ST_OK;
    asked->recent = taken >= HINTS_SUSPICIOUS;
    enum status status = ST_OK;
    for (size_t i = 0; i < count && status == ST_OK; i++) {
        if (names[i][0] != '\0')
            status = mailer_pass(mailer, span_of(names[i]), why);
    }
    return status;
}

static enum status mail(struct relay *r, struct store *store, struct mailer *mailer, struct fail *why)
{
    int64_t passed_ms = 0, all_passed_ms = 0; /* monotonic; 0: not yet */
    while (!atomic_load(&r->stop)) {
        int64_t now = clock_monotonic_ms();
        struct asked asked;
        enum status status = pass_hints(mailer, &r->socket, &asked, why);
        bool all = asked.all || all_passed_ms == 0 || now - all_passed_ms >= CLOCK_DAY_MS;
        if (status == ST_OK &&
            (all || asked.recent || now - passed_ms >= pass_interval_ms() || mailer_due_in_ms(mailer) == 0)) {
            mailer_forget_due(mailer);
            status = pass_offers(mailer, store, all ? 0 : store_now_ms(store) - RECENT_MS, &r->stop, why);
            if (status == ST_OK) {
                passed_ms = now;
                all_passed_ms = all ? now : all_passed_ms;
            }
        }
        if (status != ST_OK)
            return status;
        wait_for_hint(r, mailer_due_in_ms(mailer));
    }
    return ST_OK;
}

/* The sender waits for an answer and nobody for a mail: on Linux a thread has a priority of its own. */
static void yield_to_requests(void)
{
    (void)setpriority(PRIO_PROCESS, 0, MAILER_NICE); /* where it may not be changed, all are alike */
}

static enum status serve_mails(struct relay *r, struct fail *why)
{
    struct store *store = NULL;
    yield_to_requests();
    struct mailer *mailer = NULL;
    enum status status = r->options.open(r->options.context, &store, why);
    if (status == ST_OK)
        status = mailer_new(&r->options.mailer, store, &mailer, why);
    if (status == ST_OK)
        status = mail(r, store, mailer, why);
    if (mailer && atomic_load(&r->stop)) {
        struct fail unsettled;
        if (mailer_settle(mailer, clock_monotonic_ms() + SETTLE_MS, &unsettled) != ST_OK)
            log_failure(LOG_LEVEL_ERROR, "mail-not-recorded", &unsettled, NULL);
    }
    mailer_free(mailer);
    store_close(store);
    return status;
}

/* --- the spool ----------------------------------------------------------------------------------------------- */

static enum status serve_drain(struct relay *r, struct fail *why)
{
    struct store *store = NULL;
    struct drain *drain = NULL;
    uint64_t left;
    enum status status = r->options.open(r->options.context, &store, why);
    if (status == ST_OK)
        status = drain_new(&r->options.drain, store, &drain, why);
    while (status == ST_OK && !atomic_load(&r->stop)) {
        status = drain_pass(drain, &left, why);
        if (status == ST_OK)
            wait_for_stop(r, DRAIN_LOOK_MS);
    }
    drain_free(drain);
    store_close(store);
    return status;
}

/* --- alarms -------------------------------------------------------------------------------------------------- */

/* A connection to the spool's current generation, where the alarms are that the table could not take. */
struct local {
    struct spool *spool;
    struct store *store; /* NULL: there is none now; the drain's role says what is wrong with it */
    unsigned int generation;
};

static void local_close(struct local *l)
{
    store_close(l->store);
    spool_close(l->spool);
    *l = (struct local){0};
}

static void local_open(struct local *l, const struct spool_options *options)
{
    if (l->store && spool_is_current(l->spool, l->store, l->generation))
        return;
    local_close(l);
    if (options->path && spool_open(options, &l->spool, NULL) == ST_OK &&
        spool_open_current(l->spool, &l->store, &l->generation, NULL) != ST_OK)
        local_close(l);
}

static enum status pass_watch(const struct relay_options *options, struct watch *watch, struct store *store,
                              struct local *local, struct fail *why)
{
    local_open(local, &options->drain.spool);
    return watch_pass(watch, store, local->store, why);
}

static enum status look_at_tries(struct relay *r, struct store *store, struct fail *why)
{
    if (!r->options.wrong_keys || r->options.watch.recipient_count == 0)
        return ST_OK;
    return tries_look(&r->tries, r->options.wrong_keys(r->options.context), clock_monotonic_ms(), store, why);
}

/* What has no alarms to look for looks for troubles all the same: status and metrics tell of them. */
static void look_around(struct relay *r, struct lookout *lookout, struct watch *watch, struct store *store,
                        struct local *local)
{
    struct role *role = &r->roles[ROLE_WATCH];
    struct fail failed;
    if (look_at_tries(r, store, &failed) != ST_OK)
        log_role_failure(role, &failed);
    local_open(local, &r->options.drain.spool);
    if (lookout_look(lookout, store, local->store, &failed) != ST_OK)
        log_role_failure(role, &failed);
    /* The same watch goes on after a failure: it knows what it has sent and could not record. */
    if (pass_watch(&r->options, watch, store, local, &failed) != ST_OK)
        log_role_failure(role, &failed);
}

static enum status serve_watch(struct relay *r, struct fail *why)
{
    struct store *store = NULL;
    struct local local = {0};
    struct watch *watch = NULL;
    struct lookout *lookout = NULL;
    enum status status = r->options.open(r->options.context, &store, why);
    if (status == ST_OK)
        status = watch_new(&r->options.watch, &watch, why);
    if (status == ST_OK)
        status = lookout_new(&r->options.lookout, &lookout, why);
    while (status == ST_OK && !atomic_load(&r->stop)) {
        int64_t look_ms = clock_long_wait_ms(WATCH_LOOK_MS);
        look_around(r, lookout, watch, store, &local);
        int64_t due_ms = watch_due_in_ms(watch);
        wait_for_stop(r, due_ms < look_ms ? due_ms : look_ms);
    }
    lookout_free(lookout);
    watch_free(watch);
    local_close(&local);
    store_close(store);
    return status;
}

/* --- metrics -------------------------------------------------------------------------------------------------- */

static enum status serve_census(struct relay *r, struct fail *why)
{
    const struct census_options options = {.counts_mails = r->options.mails_leads, .stop = &r->stop};
    struct store *store = NULL;
    struct census *census = NULL;
    enum status status = r->options.open(r->options.context, &store, why);
    if (status == ST_OK)
        status = census_new(&options, &census, why);
    while (status == ST_OK && !atomic_load(&r->stop)) {
        struct census_result result;
        int64_t begun_ms = clock_monotonic_ms();
        status = census_look(census, store, &result, why);
        if (status != ST_OK || atomic_load(&r->stop))
            break;
        r->options.on_census(r->options.context, &result);
        int64_t rest_ms = CENSUS_SHARE * (clock_monotonic_ms() - begun_ms);
        wait_for_stop(r, rest_ms > CENSUS_LOOK_MS ? rest_ms : CENSUS_LOOK_MS);
    }
    census_free(census);
    store_close(store);
    return status;
}

/* --- threads ------------------------------------------------------------------------------------------------- */

static void *run_role(void *context)
{
    struct role *role = context;
    while (!atomic_load(&role->relay->stop)) {
        struct fail why;
        if (role->serve(role->relay, &why) != ST_OK)
            log_role_failure(role, &why);
        wait_for_stop(role->relay, STORE_RETRY_MS);
    }
    return NULL;
}

/* While the lock is ours: starts the roles that there are and waits for their end. */
static void work(struct relay *r)
{
    for (size_t i = 0; i < ROLE_COUNT; i++) {
        struct role *role = &r->roles[i];
        if (!role->serve)
            continue;
        struct fail why;
        role->started =
            thread_start(&role->thread, RELAY_STACK_BYTES, run_role, role, "a relay thread", &why) == ST_OK;
        if (!role->started)
            log_role_failure(role, &why);
    }
    while (!atomic_load(&r->stop))
        wait_for_stop(r, -1);
    for (size_t i = 0; i < ROLE_COUNT; i++) {
        if (r->roles[i].started)
            (void)pthread_join(r->roles[i].thread, NULL);
    }
}

static void *run(void *context)
{
    struct relay *r = context;
    struct role lock = {.relay = r, .name = "lock"};
    r->socket = RELAY_SOCKET_CLOSED;
    while (!atomic_load(&r->stop)) {
        struct fail why;
        enum status status = relay_socket_claim(r->options.socket_path, &r->socket, &why);
        if (status == ST_OK)
            work(r);
        else if (status != ST_EXISTS)
            log_role_failure(&lock, &why);
        wait_for_stop(r, LOCK_RETRY_MS);
    }
    relay_socket_release(&r->socket);
    (void)pthread_mutex_lock(&r->lock);
    r->has_ended = true;
    (void)pthread_cond_signal(&r->ended);
    (void)pthread_mutex_unlock(&r->lock);
    return NULL;
}

static void relay_free(struct relay *r)
{
    if (r->wake_fd >= 0)
        (void)close(r->wake_fd);
    (void)pthread_cond_destroy(&r->ended);
    (void)pthread_mutex_destroy(&r->lock);
    mail_memory_free(r->memory);
    free(r);
}

/* Fills in what the relay knows itself. */
static void complete(struct relay_options *options, const char *owner, struct mail_memory *memory,
                     const _Atomic bool *stop)
{
    options->mailer.memory = memory;
    options->lookout.memory = options->mails_leads ? memory : NULL;
    options->lookout.host = span_of(owner);
    options->lookout.transport.stop = stop;
    options->mailer.owner = span_of(owner);
    options->mailer.stop = stop;
    options->mailer.transport.stop = stop;
    options->drain.stop = stop;
    options->drain.relay_socket = options->mails_leads ? options->socket_path : NULL;
    options->watch.owner = span_of(owner);
    options->watch.stop = stop;
    options->watch.transport.stop = stop;
}

enum status relay_start(const struct relay_options *options, struct relay **relay, struct fail *why)
{
    struct relay *r = calloc(1, sizeof *r);
    if (!r)
        return fail_set(why, ST_NOMEM, 0, "no memory for the relay");
    condition_init(&r->ended);
    (void)pthread_mutex_init(&r->lock, NULL);
    r->options = *options;
    for (size_t i = 0; i < ROLE_COUNT; i++)
        r->roles[i].relay = r;
    if (options->mails_leads)
        r->roles[ROLE_MAILER] = (struct role){.relay = r, .name = "mailer", .serve = serve_mails};
    if (options->drain.spool.path)
        r->roles[ROLE_DRAIN] = (struct role){.relay = r, .name = "drain", .serve = serve_drain};
    r->roles[ROLE_WATCH] = (struct role){.relay = r, .name = "watch", .serve = serve_watch};
    if (options->on_census)
        r->roles[ROLE_CENSUS] = (struct role){.relay = r, .name = "census", .serve = serve_census};
    r->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    enum status status = r->wake_fd >= 0 ? name_owner(options->socket_path, r->owner, why)
                                         : fail_set(why, ST_IO, errno, "cannot make an event descriptor");
    if (status == ST_OK)
        status = mail_memory_new(&r->memory, why);
    if (status == ST_OK) {
        r->options.lookout.probes = true;
        complete(&r->options, r->owner, r->memory, &r->stop);
        status = thread_start(&r->thread, RELAY_STACK_BYTES, run, r, "the relay thread", why);
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
    int64_t until_ms = clock_monotonic_ms() + wait_ms;
    bool in_time = true;
    (void)pthread_mutex_lock(&relay->lock);
    while (!relay->has_ended && in_time)
        in_time = condition_wait(&relay->ended, &relay->lock, until_ms);
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

static enum status drain_once(const struct relay_options *options, struct store *store, bool *waiting,
                              struct fail *why)
{
    struct drain *drain = NULL;
    uint64_t left = 0;
    enum status status = drain_new(&options->drain, store, &drain, why);
    if (status == ST_OK)
        status = drain_pass(drain, &left, why);
    *waiting = *waiting || left > 0;
    drain_free(drain);
    return status;
}

static enum status mail_once(const struct relay_options *options, struct store *store, bool *waiting,
                             struct fail *why)
{
    struct mailer *mailer = NULL;
    enum status status = mailer_new(&options->mailer, store, &mailer, why);
    if (status == ST_OK) {
        status = pass_offers(mailer, store, 0, options->mailer.stop, why);
        /* Also when that has failed: what was sent and stays unrecorded here would be sent again. */
        enum status settled =
            mailer_settle(mailer, clock_monotonic_ms() + SETTLE_MS, status == ST_OK ? why : NULL);
        status = status == ST_OK ? settled : status;
    }
    *waiting = *waiting || (status == ST_OK && mailer_due_in_ms(mailer) != INT64_MAX);
    mailer_free(mailer);
    return status;
}

static enum status look_once(const struct relay_options *options, struct store *store, bool *waiting,
                             struct fail *why)
{
    struct lookout *lookout = NULL;
    struct local local = {0};
    (void)waiting;
    enum status status = lookout_new(&options->lookout, &lookout, why);
    local_open(&local, &options->drain.spool);
    if (status == ST_OK)
        status = lookout_look(lookout, store, local.store, why);
    lookout_free(lookout);
    local_close(&local);
    return status;
}

static enum status watch_once(const struct relay_options *options, struct store *store, bool *waiting,
                              struct fail *why)
{
    struct watch *watch = NULL;
    struct local local = {0};
    enum status status = watch_new(&options->watch, &watch, why);
    if (status == ST_OK)
        status = pass_watch(options, watch, store, &local, why);
    *waiting = *waiting || (status == ST_OK && watch_due_in_ms(watch) != INT64_MAX);
    watch_free(watch);
    local_close(&local);
    return status;
}

/* The turns of the roles in relay_once: whatever becomes of one, the others have theirs, and the first failure is told. */
struct turns {
    const struct relay_options *options;
    struct store *store;
    bool waiting;
    enum status status;
    struct fail why;
};

typedef enum status role_once(const struct relay_options *options, struct store *store, bool *waiting,
                              struct fail *why);

static void take_turn(struct turns *t, bool exists, role_once *once)
{
    struct fail why;
    enum status status = exists ? once(t->options, t->store, &t->waiting, &why) : ST_OK;
    if (status != ST_OK && t->status == ST_OK) {
        t->status = status;
        t->why = why;
    }
}

/* Alarms come first, so that no slow table or mail holds them up, and again at the end for what the others have
 * raised; that turn knows what waits. */
static void take_turns(struct turns *t)
{
    const struct relay_options *options = t->options;
    bool alarms = options->watch.recipient_count > 0;
    take_turn(t, alarms, watch_once);
    t->waiting = false;
    take_turn(t, options->drain.spool.path != NULL, drain_once);
    take_turn(t, options->mails_leads, mail_once);
    take_turn(t, true, look_once);
    take_turn(t, alarms, watch_once);
}

enum status relay_once(const struct relay_options *options, bool *waiting, struct fail *why)
{
    struct relay_socket socket = RELAY_SOCKET_CLOSED;
    struct relay_options completed = *options;
    struct store *store = NULL;
    struct mail_memory *memory = NULL;
    char owner[OWNER_TEXT + 1];
    *waiting = false;
    enum status status = relay_socket_claim(options->socket_path, &socket, why);
    if (status == ST_OK)
        status = name_owner(options->socket_path, owner, why);
    if (status == ST_OK)
        status = mail_memory_new(&memory, why);
    if (status == ST_OK)
        status = options->open(options->context, &store, why);
    if (status == ST_OK) {
        struct turns turns = {.options = &completed, .store = store};
        complete(&completed, owner, memory, options->mailer.stop);
        take_turns(&turns);
        *waiting = turns.waiting;
        status = turns.status;
        if (status != ST_OK)
            *why = turns.why;
    }
    store_close(store);
    mail_memory_free(memory);
    relay_socket_release(&socket);
    return status;
}
