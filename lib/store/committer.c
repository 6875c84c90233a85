#include "lib/store/committer.h"

/* System */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/condition.h"
#include "lib/base/thread.h"

/* L6 */
#include "lib/store/offers.h"

enum {
    CONNECTIONS_TABLE = LIMIT_STORE_CONNECTIONS, /* many transactions in flight hide the service's latency */
    COMMITTER_STACK_BYTES = 256 * 1024,
    ADD_US = 10000,      /* between two that are added: its handshake takes longer than a transaction */
    CALL_AGAIN_MS = 100, /* who was called has not come: glibc may lose a wake-up (its bug 25847) */
    FLUSH_MS = 2000, /* for the directory's times, which may be late: neither leads nor the end wait longer */
    SPOOL_RETRY_MS = 1000, /* between attempts to open a spool that cannot be opened */
    GATHER_US = 300,       /* beside many transactions that take long */
    SHORT_US = 4000,       /* a transaction that is worth waiting for */
    TOOK_SHARE = 8,        /* of the last one in the average */
    CROWDED = 2,           /* times the least time */
    CROWDED_US = 20000,    /* at most waited for others then */
    LEAST_SHARE = 1024,    /* of it by which the least time grows with every transaction */
    ALARM_WAIT_MS = 2000
};

/* When a request is no longer worth a try of the table: what is left of its time would only cut off the answer. */
#define LEAST_OF_DEADLINE 4

struct connection {
    struct committer *committer;
    struct store *store;
    pthread_t thread;
};

struct committer {
    struct committer_options options;
    struct offers *offers;
    pthread_mutex_t spool_mutex; /* of the three below */
    struct spool *spool;         /* NULL: there is none, or it cannot be opened now */
    int64_t spool_tried_ms;
    struct fail spool_why;
    struct alarm_days alarm_days;
    pthread_mutex_t mutex;
    pthread_cond_t work;
    struct job *first; /* waiting jobs in order of arrival */
    struct job **last;
    unsigned int idle;     /* connections that wait for work */
    unsigned int busy;     /* connections that are working */
    size_t jobs_under_way; /* those that they work on */
    int64_t took_us;       /* by a transaction, on average */
    int64_t least_us;      /* by the quickest of the store's own of late */
    bool is_one_called;    /* one of the idle was woken and has not come yet */
    bool is_one_gathering; /* one waits for leads to share its transaction */
    bool stopping;
    int64_t flushed_ms; /* when the offers directory was last brought up to date */
    struct connection connections[LIMIT_STORE_CONNECTIONS];
    size_t connection_count; /* those that are there */
    size_t connections_wanted;
    int64_t added_us; /* monotonic, the last of them */
};

/* --- the side that hands over -------------------------------------------------------------------------------- */

static void *run(void *connection);

/* Adds a connection, whose thread looks at the queue first.  Called with the mutex held. */
static enum status add_connection(struct committer *c, struct fail *why)
{
    struct connection *own = &c->connections[c->connection_count];
    own->committer = c;
    c->added_us = clock_monotonic_us(); /* also one that fails: the next attempt is paced as well */
    enum status status = c->options.open(c->options.context, &own->store, why);
    if (status != ST_OK)
        return status;
    status = thread_start(&own->thread, COMMITTER_STACK_BYTES, run, own, "a committer thread", why);
    if (status != ST_OK) {
        store_close(own->store);
        return status;
    }
    c->connection_count++;
    c->is_one_called = true;
    return ST_OK;
}

/* Whether another one may be added now. */
static bool wants_connection(const struct committer *c)
{
    return c->connection_count < c->connections_wanted && !c->stopping &&
           clock_monotonic_us() - c->added_us >= ADD_US;
}

/* Calls a connection unless one will look at the queue anyway.  Most are only made when all others are busy: a quiet
 * process needs one, and a burst is sooner through those that are open.  Called with the mutex held. */
static void call_one(struct committer *c)
{
    if (c->is_one_called || c->is_one_gathering)
        return;
    if (c->idle > 0) {
        c->is_one_called = true;
        (void)pthread_cond_signal(&c->work);
    } else if (wants_connection(c)) {
        enum status status = add_connection(c, NULL);
        (void)status; /* else those that are there do it */
    }
}

void committer_submit(struct committer *committer, struct job *job)
{
    struct committer *c = committer;
    job->next = NULL;
    job->since_us = clock_monotonic_us();
    job->deadline_ms = job->since_us / 1000 + c->options.deadline_ms;
    (void)pthread_mutex_lock(&c->mutex);
    *c->last = job;
    c->last = &job->next;
    call_one(c);
    (void)pthread_mutex_unlock(&c->mutex);
}

/* Takes the jobs that are too late out of the queue; the oldest are in front, and all have the same time. */
static struct job *take_late(struct committer *c, int64_t now_ms)
{
    struct job *late = NULL, **end = &late;
    (void)pthread_mutex_lock(&c->mutex);
    /* With a spool the time of the store is not yet the end. */
    int64_t more_ms = c->options.spool.path ? WAIT_SPOOL_MS : 0;
    while (c->first && c->first->deadline_ms + more_ms <= now_ms) {
        *end = c->first;
        end = &c->first->next;
        c->first = c->first->next;
        *end = NULL;
    }
    if (!c->first) {
        c->last = &c->first;
    } else {
        if (now_ms - c->first->since_us / 1000 >= CALL_AGAIN_MS)
            c->is_one_called = false;
        call_one(c); /* also for who came when it was too early for another connection */
    }
    (void)pthread_mutex_unlock(&c->mutex);
    return late;
}

void committer_expire(struct committer *committer)
{
    for (struct job *job = take_late(committer, clock_monotonic_ms()), *next; job; job = next) {
        next = job->next;
        job->status =
            fail_set(&job->why, ST_AGAIN, 0, "the store is too busy: not written within the deadline");
        if (job->kind == JOB_LEAD) {
            job->lead->status = job->status;
            job->lead->why = job->why;
        }
        job->on_settled(job->context); /* from here on the job is gone */
    }
}

/* --- the queue ----------------------------------------------------------------------------------------------- */

/* Whether a job may share the transaction that begins with first. */
static bool joins(const struct store *store, const struct job *first, const struct job *job)
{
    return job->kind == JOB_LEAD &&
           (store_joins_partitions(store) ||
            strcmp(job->lead->delivery.lead->partition, first->lead->delivery.lead->partition) == 0);
}

/* Takes the oldest job and, when it is a lead, the leads that may share its
 * transaction.  The queue is not empty. */
static size_t take(struct committer *c, const struct store *store, struct job **taken)
{
    size_t count = 0;
    struct job **at = &c->first;
    const struct job *first = c->first;
    while (*at && count < LIMIT_BATCH_OPERATIONS) {
        struct job *job = *at;
        if (job == first || (first->kind == JOB_LEAD && joins(store, first, job))) {
            taken[count++] = job;
            *at = job->next;
        } else {
            at = &job->next;
        }
    }
    if (!*at)
        c->last = at;
    return count;
}

/* --- the spool and the alarms -------------------------------------------------------------------------------- */

/* The host's spool; opened again now and then when that failed.  NULL: none, and *why says so. */
static struct spool *spool_of(struct committer *c, struct fail *why)
{
    (void)pthread_mutex_lock(&c->spool_mutex);
    int64_t now = clock_monotonic_ms();
    if (!c->spool && c->options.spool.path && now - c->spool_tried_ms >= SPOOL_RETRY_MS) {
        c->spool_tried_ms = now;
        if (spool_open(&c->options.spool, &c->spool, &c->spool_why) != ST_OK)
            c->spool = NULL;
    }
    struct spool *spool = c->spool;
    if (!spool && why)
        *why = c->spool_why;
    (void)pthread_mutex_unlock(&c->spool_mutex);
    return spool;
}

/* Raises an alarm, once a day from this process; in the store or, with spool, there.  A failure is tried again with
 * the next event. */
static void raise_alarm(struct connection *own, struct spool *spool, enum alarm alarm, const char *text)
{
    struct committer *c = own->committer;
    if (!c->options.raises_alarms || !alarm_day_take(&c->alarm_days, alarm, clock_wall_ms()))
        return;
    int64_t deadline_ms = clock_monotonic_ms() + ALARM_WAIT_MS;
    enum status status = spool ? spool_raise(spool, alarm, text, deadline_ms, NULL)
                               : alarm_raise(own->store, alarm, text, deadline_ms, NULL);
    if (status != ST_OK && status != ST_EXISTS)
        alarm_day_give_back(&c->alarm_days, alarm);
    if (status == ST_OK && c->options.on_alarm)
        c->options.on_alarm(c->options.context, alarm);
}

/* --- the working side ---------------------------------------------------------------------------------------- */

/* The earliest deadline of the jobs.  Without a spool it leaves enough for a few round trips also when they have
 * waited long: there is nowhere else to go. */
static int64_t deadline_of(const struct committer *c, struct job *const *jobs, size_t count)
{
    int64_t least = clock_monotonic_ms() + c->options.deadline_ms / 2;
    int64_t deadline = jobs[0]->deadline_ms;
    for (size_t i = 1; i < count; i++) {
        if (jobs[i]->deadline_ms < deadline)
            deadline = jobs[i]->deadline_ms;
    }
    return deadline > least || c->options.spool.path ? deadline : least;
}

static bool has_time(const struct committer *c, int64_t deadline_ms)
{
    return deadline_ms - clock_monotonic_ms() >= c->options.deadline_ms / LEAST_OF_DEADLINE;
}

/* How to go about a job: whether to ask the store at all. */
static enum breaker_way way_of(const struct committer *c, struct spool *spool, int64_t deadline_ms)
{
    if (!spool)
        return BREAKER_CLOSED;
    return has_time(c, deadline_ms) ? breaker_way(spool) : BREAKER_OPEN;
}

static int64_t spool_deadline(void)
{
    return clock_monotonic_ms() + WAIT_SPOOL_MS;
}

/* What an attempt has taught about the store; without a spool nobody has to know. */
static void note_failed(struct connection *own, struct spool *spool, enum breaker_way way,
                        const struct fail *why)
{
    const struct committer_options *options = &own->committer->options;
    if (!spool || !breaker_failed(spool, way, why))
        return;
    char text[LIMIT_ALARM_TEXT_BYTES];
    alarm_text_of_outage(why, text);
    raise_alarm(own, spool, ALARM_SPOOLING, text);
    if (options->on_breaker)
        options->on_breaker(options->context, true, why);
}

static void note_worked(struct connection *own, struct spool *spool)
{
    const struct committer_options *options = &own->committer->options;
    if (spool && breaker_worked(spool) && options->on_breaker)
        options->on_breaker(options->context, false, NULL);
}

/* The first lead that is neither stored nor refused for good; NULL: all are settled. */
static const struct lead_write *first_open(struct lead_write *const *leads, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (leads[i]->status != ST_OK && leads[i]->status != ST_REFUSED)
            return leads[i];
    }
    return NULL;
}

/* Neither has taken them: both reasons count, the spool's first. */
static void add_reason_of_spool(struct lead_write *const *leads, size_t count, const struct fail *why)
{
    for (size_t i = 0; i < count; i++) {
        if (leads[i]->status != ST_OK && leads[i]->status != ST_REFUSED)
            fail_prefix(&leads[i]->why, "%s, and the store failed", why->text);
    }
}

/* Through the store; what the attempt has taught about it goes to the breaker. */
static void try_store(struct connection *own, struct spool *spool, enum breaker_way way,
                      struct lead_write **leads, size_t count, int64_t deadline_ms)
{
    struct committer *c = own->committer;
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct lead_write *known[LIMIT_BATCH_OPERATIONS];
    size_t known_count = 0;
    int64_t begun_us = clock_monotonic_us();
    for (size_t i = 0; i < count; i++) {
        struct lead_write *lead = leads[i];
        lead->status = offers_ensure(c->offers, own->store, spool, &lead->delivery, deadline_ms, &lead->why);
        if (lead->status == ST_OK)
            known[known_count++] = lead;
    }
    if (known_count > 0)
        leads_commit(own->store, &c->options.rules, known, known_count, deadline_ms, &arena);
    arena_release(&arena);
    const struct lead_write *failed = first_open(leads, count);
    if (failed)
        note_failed(own, spool, way, &failed->why);
    else
        note_worked(own, spool);
    if (c->options.on_commit)
        c->options.on_commit(c->options.context, count, clock_monotonic_us() - begun_us, leads[0]->status);
}

/* What the store did not take goes into the spool.  When that fails while the breaker had the store passed over,
 * asking it all the same is better than refusing; what neither takes says so in each lead. */
static void spool_rest(struct connection *own, struct spool *spool, enum breaker_way way,
                       struct lead_write **leads, size_t count, int64_t deadline_ms)
{
    struct lead_write *rest[LIMIT_BATCH_OPERATIONS];
    size_t rest_count = 0;
    for (size_t i = 0; i < count; i++) {
        if (leads[i]->status != ST_OK && leads[i]->status != ST_REFUSED)
            rest[rest_count++] = leads[i];
    }
    if (rest_count == 0)
        return;
    spool_put_leads(spool, rest, rest_count, spool_deadline());
    const struct lead_write *failed = first_open(rest, rest_count);
    if (failed && way == BREAKER_OPEN && has_time(own->committer, deadline_ms)) {
        const struct fail why = failed->why;
        try_store(own, spool, way, rest, rest_count, deadline_ms);
        add_reason_of_spool(rest, rest_count, &why);
        failed = first_open(rest, rest_count);
    }
    if (failed)
        raise_alarm(own, spool, ALARM_SPOOL_FULL, failed->why.text); /* the quota leaves room for it */
}

static void store_leads(struct connection *own, struct job **jobs, size_t count, int64_t deadline_ms)
{
    struct committer *c = own->committer;
    struct lead_write *leads[LIMIT_BATCH_OPERATIONS];
    struct fail no_spool = {0};
    struct spool *spool = spool_of(c, &no_spool);
    enum breaker_way way = way_of(c, spool, deadline_ms);
    for (size_t i = 0; i < count; i++) {
        leads[i] = jobs[i]->lead;
        leads[i]->status = ST_AGAIN; /* not tried */
    }
    if (way != BREAKER_OPEN)
        try_store(own, spool, way, leads, count, deadline_ms);
    if (spool)
        spool_rest(own, spool, way, leads, count, deadline_ms);
    else if (c->options.spool.path)
        add_reason_of_spool(leads, count, &no_spool);
}

static void store_quarantined(struct connection *own, struct job *job, int64_t deadline_ms)
{
    struct committer *c = own->committer;
    char text[LIMIT_ALARM_TEXT_BYTES];
    struct spool *spool = spool_of(c, NULL);
    enum breaker_way way = way_of(c, spool, deadline_ms);
    bool spooled = false;
    job->status = ST_AGAIN;
    if (way != BREAKER_OPEN) {
        job->status = quarantine_put(own->store, job->item, &c->options.quarantine, deadline_ms, &job->why);
        if (job->status == ST_OK)
            note_worked(own, spool);
        else if (job->status != ST_OVER_QUOTA && job->status != ST_CHANGED)
            note_failed(own, spool, way, &job->why);
    }
    if (spool && job->status != ST_OK && job->status != ST_OVER_QUOTA) {
        job->status = spool_put_quarantined(spool, job->item, c->options.quarantine.per_day, spool_deadline(),
                                            &job->why);
        spooled = true;
    }
    if (job->status == ST_OK) {
        (void)snprintf(text, sizeof text,
                       "A request with the key '%.*s' could not be taken as a lead (%.*s) and is kept. "
                       "`leadctl quarantine list` shows it%s.",
                       SPAN_FMT(job->item->key_name), SPAN_FMT(job->item->reason),
                       spooled ? " when the table answers again; until then it is in this host's spool" : "");
        raise_alarm(own, spooled ? spool : NULL, ALARM_QUARANTINED, text);
    } else if (job->status == ST_OVER_QUOTA) {
        (void)snprintf(
            text, sizeof text,
            "What the key '%.*s' sends and cannot be understood is refused with 429 and not kept: %s.",
            SPAN_FMT(job->item->key_name), job->why.text);
        raise_alarm(own, spooled ? spool : NULL, ALARM_QUARANTINE_FULL, text);
    }
}

static void probe(struct connection *own, struct job *job, int64_t deadline_ms)
{
    struct spool *spool = spool_of(own->committer, NULL);
    job->status = ST_AGAIN;
    /* Not a way of the breaker's: who asks whether we are ready shall not use up the one probe. */
    if (!spool || !breaker_is_open(spool))
        job->status = store_probe(own->store, deadline_ms, &job->why);
    if (job->status != ST_OK && spool)
        job->status = spool_probe(spool, spool_deadline(), &job->why);
}

static void work_on(struct connection *own, struct job **jobs, size_t count)
{
    int64_t deadline_ms = deadline_of(own->committer, jobs, count);
    switch (jobs[0]->kind) {
    case JOB_LEAD:
        store_leads(own, jobs, count, deadline_ms);
        break;
    case JOB_QUARANTINE:
        store_quarantined(own, jobs[0], deadline_ms);
        break;
    case JOB_PROBE:
        probe(own, jobs[0], deadline_ms);
        break;
    }
}

/* Called with the mutex held; gives it up for the time of the writes. */
static void flush_offers(struct connection *own)
{
    struct committer *c = own->committer;
    c->flushed_ms = clock_monotonic_ms();
    if (c->first)
        call_one(c); /* what waits shall not wait for this */
    (void)pthread_mutex_unlock(&c->mutex);
    /* Only the directory's times are late then; the next flush tries again. */
    enum status status = offers_flush(c->offers, own->store, clock_monotonic_ms() + FLUSH_MS, NULL);
    (void)status;
    (void)pthread_mutex_lock(&c->mutex);
}

/* How long a lead waits for others while a transaction is under way: a transaction costs the processors far more than
 * one more lead in it.  One that is over soon is waited for, also when it takes twice its usual time.  Beside longer
 * ones others begin: at once, until twice as many leads are under way as there may be connections; but not where
 * transactions take long because there are so many of them. */
static int64_t gather_us(const struct committer *c)
{
    if (c->took_us < SHORT_US)
        return 2 * c->took_us;
    if (c->took_us > CROWDED * c->least_us)
        return c->took_us < CROWDED_US ? c->took_us : CROWDED_US;
    return c->jobs_under_way > 2 * c->connections_wanted ? GATHER_US : 0;
}

/* Whether the oldest job is to be worked on now.  A lone lead waits for nobody. */
static bool is_time(const struct committer *c)
{
    return c->busy == 0 || c->stopping || c->first->kind != JOB_LEAD ||
           clock_monotonic_us() - c->first->since_us >= gather_us(c);
}

/* Whether the store itself has taken it: the spool, and an attempt that failed at once, do not tell what is quick
 * there. */
static bool is_stored(const struct job *job)
{
    return job->kind == JOB_LEAD && job->lead->status == ST_OK && !job->lead->is_spooled;
}

static void note_time(struct committer *c, int64_t took_us, bool is_of_store)
{
    c->took_us += (took_us - c->took_us) / TOOK_SHARE;
    if (!is_of_store)
        return;
    if (c->least_us == 0 || took_us < c->least_us)
        c->least_us = took_us;
    else
        c->least_us += c->least_us / LEAST_SHARE + 1; /* a short time grows too */
}

/* Called with the mutex held; gives it up for the time of the work. */
static void take_and_work(struct connection *own)
{
    struct committer *c = own->committer;
    struct job *jobs[LIMIT_BATCH_OPERATIONS] = {0};
    size_t count = take(c, own->store, jobs);
    if (c->first)
        call_one(c); /* the rest is for another connection */
    c->busy++;
    c->jobs_under_way += count;
    int64_t begun_us = clock_monotonic_us();
    (void)pthread_mutex_unlock(&c->mutex);
    work_on(own, jobs, count);
    (void)pthread_mutex_lock(&c->mutex);
    c->busy--;
    c->jobs_under_way -= count;
    note_time(c, clock_monotonic_us() - begun_us, is_stored(jobs[0]));
    /* What has gathered shall not wait for the answers, unless somebody sees to it already. */
    if (c->first)
        call_one(c);
    (void)pthread_mutex_unlock(&c->mutex);
    for (size_t i = 0; i < count; i++)
        jobs[i]->on_settled(jobs[i]->context); /* from here on the job is gone */
    (void)pthread_mutex_lock(&c->mutex);
}

/* The same: for the time of the wait. */
static void wait_for_others(struct committer *c)
{
    c->is_one_gathering = true;
    (void)condition_wait_us(&c->work, &c->mutex, c->first->since_us + gather_us(c));
    c->is_one_gathering = false;
}

static void wait_for_work(struct committer *c)
{
    c->idle++;
    (void)condition_wait(&c->work, &c->mutex, clock_monotonic_ms() + clock_long_wait_ms(WAIT_OFFERS_MS));
    c->idle--;
    c->is_one_called = false;
}

static void *run(void *connection)
{
    struct connection *own = connection;
    struct committer *c = own->committer;
    (void)pthread_mutex_lock(&c->mutex);
    c->is_one_called = false;
    while (c->first || !c->stopping) {
        if (clock_monotonic_ms() - c->flushed_ms >= clock_long_wait_ms(WAIT_OFFERS_MS))
            flush_offers(own);
        else if (c->first && is_time(c))
            take_and_work(own);
        else if (c->first && !c->is_one_gathering)
            wait_for_others(c);
        else
            wait_for_work(c);
    }
    (void)pthread_mutex_unlock(&c->mutex);
    return NULL;
}

enum status committer_new(const struct committer_options *options, struct committer **committer,
                          struct fail *why)
{
    if (options->connections > LIMIT_STORE_CONNECTIONS)
        return fail_set(why, ST_INVALID, 0, "more than %d connections to the store", LIMIT_STORE_CONNECTIONS);
    struct committer *c = calloc(1, sizeof *c);
    if (!c)
        return fail_set(why, ST_NOMEM, 0, "no memory for the committer");
    c->options = *options;
    c->last = &c->first;
    c->flushed_ms = clock_monotonic_ms();
    c->spool_tried_ms = c->flushed_ms - SPOOL_RETRY_MS;
    (void)pthread_mutex_init(&c->mutex, NULL);
    (void)pthread_mutex_init(&c->spool_mutex, NULL);
    condition_init(&c->work);
    enum status status = offers_new(&c->offers, why);
    (void)pthread_mutex_lock(&c->mutex);
    if (status == ST_OK)
        status = add_connection(c, why);
    if (status == ST_OK)
        c->connections_wanted = options->connections                              ? options->connections
                                : store_joins_partitions(c->connections[0].store) ? 1
                                                                                  : CONNECTIONS_TABLE;
    (void)pthread_mutex_unlock(&c->mutex);
    if (status != ST_OK) {
        committer_free(c);
        return status;
    }
    *committer = c;
    return ST_OK;
}

void committer_free(struct committer *committer)
{
    if (!committer)
        return;
    struct committer *c = committer;
    (void)pthread_mutex_lock(&c->mutex);
    c->stopping = true;
    (void)pthread_cond_broadcast(&c->work);
    (void)pthread_mutex_unlock(&c->mutex);
    for (size_t i = 0; i < c->connection_count; i++) /* no more are added */
        (void)pthread_join(c->connections[i].thread, NULL);
    if (c->connection_count > 0) {
        enum status status =
            offers_flush(c->offers, c->connections[0].store, clock_monotonic_ms() + FLUSH_MS, NULL);
        (void)status; /* the directory's times are late then, no more */
    }
    for (size_t i = 0; i < c->connection_count; i++)
        store_close(c->connections[i].store);
    offers_free(c->offers);
    spool_close(c->spool);
    (void)pthread_cond_destroy(&c->work);
    (void)pthread_mutex_destroy(&c->mutex);
    (void)pthread_mutex_destroy(&c->spool_mutex);
    free(c);
}
