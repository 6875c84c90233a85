#include "lib/relay/memory.h"

/* System */
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"

/* L7 */
#include "lib/relay/retry.h"

enum { UNRECORDED_MAX = 64 }; /* each is a mail of which the store refuses the record and nothing else */
#define MINUTE_MS (60 * 1000LL)

struct mail_memory {
    int64_t sent_ms[MAILS_PER_MINUTE_MAX]; /* monotonic times of the last sends, a ring; 0: none */
    size_t sent_next;
    int32_t configuration_errors; /* in a row */
    int64_t paused_until_ms;      /* monotonic */
    struct alarm_days alarm_days;
    size_t unrecorded_count;
    struct unrecorded unrecorded[UNRECORDED_MAX];
};

enum status mail_memory_new(struct mail_memory **memory, struct fail *why)
{
    *memory = calloc(1, sizeof **memory);
    return *memory ? ST_OK : fail_set(why, ST_NOMEM, 0, "no memory for the mailer");
}

void mail_memory_free(struct mail_memory *memory)
{
    free(memory);
}

int64_t mail_memory_wait_ms(const struct mail_memory *memory, unsigned int per_minute)
{
    int64_t now = clock_monotonic_ms();
    size_t first = (memory->sent_next + MAILS_PER_MINUTE_MAX - per_minute) % MAILS_PER_MINUTE_MAX;
    int64_t first_ms = memory->sent_ms[first];
    int64_t wait = first_ms ? first_ms + clock_long_wait_ms(MINUTE_MS) - now : 0;
    if (memory->paused_until_ms - now > wait)
        wait = memory->paused_until_ms - now;
    return wait > 0 ? wait : 0;
}

void mail_memory_note_send(struct mail_memory *memory)
{
    memory->sent_ms[memory->sent_next] = clock_monotonic_ms();
    memory->sent_next = (memory->sent_next + 1) % MAILS_PER_MINUTE_MAX;
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
    return memory->unrecorded_count < UNRECORDED_MAX;
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
    if (i == UNRECORDED_MAX)
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
