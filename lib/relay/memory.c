#include "lib/relay/memory.h"

/* System */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"

/* L7 */
#include "lib/relay/retry.h"

#define MINUTE_MS (60 * 1000LL)
/* Sends are counted by steps: a time for each of the most that a minute may have would be half a megabyte. */
enum { STEP_MS = 100, STEPS = (int)(MINUTE_MS / STEP_MS) + 1 };

struct mail_memory {
    uint16_t sent[STEPS]; /* in each step, a ring: that of monotonic time t is at t / STEP_MS % STEPS */
    int64_t last_step;    /* the last one with a send; 0: none */
    int32_t configuration_errors; /* in a row */
    int64_t paused_until_ms;      /* monotonic */
    struct alarm_days alarm_days;
    pthread_mutex_t login_mutex;
    struct mail_login_state login;
    size_t unrecorded_count;
    struct unrecorded unrecorded[LIMIT_MAILS_UNRECORDED];
};

enum status mail_memory_new(struct mail_memory **memory, struct fail *why)
{
    struct mail_memory *m = calloc(1, sizeof *m);
    if (!m)
        return fail_set(why, ST_NOMEM, 0, "no memory for the mailer");
    (void)pthread_mutex_init(&m->login_mutex, NULL);
    *memory = m;
    return ST_OK;
}

void mail_memory_free(struct mail_memory *memory)
{
    if (memory)
        (void)pthread_mutex_destroy(&memory->login_mutex);
    free(memory);
}

/* The end of the step with the per_minute-th send, counted back from the last one; 0: there is none. */
static int64_t first_of_minute_ms(const struct mail_memory *memory, unsigned int per_minute)
{
    unsigned int sent = 0;
    for (int64_t step = memory->last_step; step > 0 && step > memory->last_step - STEPS; step--) {
        sent += memory->sent[step % STEPS];
        if (sent >= per_minute)
            return (step + 1) * STEP_MS;
    }
    return 0;
}

int64_t mail_memory_wait_ms(const struct mail_memory *memory, unsigned int per_minute)
{
    int64_t now = clock_monotonic_ms();
    int64_t first_ms = first_of_minute_ms(memory, per_minute);
    int64_t wait = first_ms ? first_ms + clock_long_wait_ms(MINUTE_MS) - now : 0;
    if (memory->paused_until_ms - now > wait)
        wait = memory->paused_until_ms - now;
    return wait > 0 ? wait : 0;
}

void mail_memory_note_send(struct mail_memory *memory)
{
    int64_t step = clock_monotonic_ms() / STEP_MS;
    int64_t from = memory->last_step > step - STEPS ? memory->last_step : step - STEPS;
    for (int64_t i = from + 1; i <= step; i++)
        memory->sent[i % STEPS] = 0;
    memory->sent[step % STEPS]++;
    memory->last_step = step;
}

int64_t mail_memory_pause(struct mail_memory *memory)
{
    if (memory->configuration_errors < INT32_MAX)
        memory->configuration_errors++;
    int64_t rest_ms = clock_long_wait_ms(retry_pause_ms(memory->configuration_errors));
    memory->paused_until_ms = clock_monotonic_ms() + rest_ms;
    return rest_ms;
}

void mail_memory_resume(struct mail_memory *memory)
{
    memory->configuration_errors = 0;
    memory->paused_until_ms = 0;
}

static bool is_of(const struct unrecorded *item, const struct entity *row)
{
    return span_eq(span_of(item->partition), row->partition_key) &&
           span_eq(span_of(item->row_key), row->row_key);
}

static size_t find(const struct mail_memory *memory, const struct entity *row)
{
    size_t i = 0;
    while (i < memory->unrecorded_count && !is_of(&memory->unrecorded[i], row))
        i++;
    return i;
}

bool mail_memory_has_room(const struct mail_memory *memory)
{
    return memory->unrecorded_count < LIMIT_MAILS_UNRECORDED;
}

static void copy_key(char *to, size_t room, struct span key)
{
    size_t len = key.len < room ? key.len : room - 1; /* the store takes no longer keys */
    memcpy(to, key.ptr, len);
    to[len] = '\0';
}

void mail_memory_keep(struct mail_memory *memory, const struct entity *row,
                      const struct mail_verdict *verdict)
{
    size_t i = find(memory, row);
    if (i == LIMIT_MAILS_UNRECORDED)
        return; /* callers have looked whether there is room */
    struct unrecorded *item = &memory->unrecorded[i];
    if (i == memory->unrecorded_count)
        memory->unrecorded_count++;
    copy_key(item->partition, sizeof item->partition, row->partition_key);
    copy_key(item->row_key, sizeof item->row_key, row->row_key);
    item->verdict = *verdict;
}

bool mail_memory_has(const struct mail_memory *memory, const struct entity *row)
{
    return find(memory, row) < memory->unrecorded_count;
}

const struct unrecorded *mail_memory_at(const struct mail_memory *memory, size_t i)
{
    return i < memory->unrecorded_count ? &memory->unrecorded[i] : NULL;
}

void mail_memory_forget(struct mail_memory *memory, size_t i)
{
    memory->unrecorded[i] = memory->unrecorded[--memory->unrecorded_count];
}

struct alarm_days *mail_memory_alarm_days(struct mail_memory *memory)
{
    return &memory->alarm_days;
}

void mail_memory_note_login(struct mail_memory *memory, enum mail_outcome outcome, const struct fail *reason)
{
    struct mail_login_state state = {.noted_ms = clock_monotonic_ms(), .login = MAIL_LOGIN_WORKS};
    switch (outcome) {
    case MAIL_TRANSIENT: /* perhaps it was not even reached */
        return;
    case MAIL_CONFIGURATION:
        state.login = MAIL_LOGIN_REFUSED;
        (void)snprintf(state.reason, sizeof state.reason, "%s", reason->text);
        break;
    case MAIL_ACCEPTED:
    case MAIL_PERMANENT:
    case MAIL_AMBIGUOUS:
        break;
    }
    (void)pthread_mutex_lock(&memory->login_mutex);
    memory->login = state;
    (void)pthread_mutex_unlock(&memory->login_mutex);
}

struct mail_login_state mail_memory_login(struct mail_memory *memory)
{
    (void)pthread_mutex_lock(&memory->login_mutex);
    struct mail_login_state state = memory->login;
    (void)pthread_mutex_unlock(&memory->login_mutex);
    return state;
}
