#include "lib/store/alarms.h"

/* System */
#include <stdio.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/text.h"

enum { RAISE_ARENA_BYTES = 64 * 1024, HOST_BYTES = 256 };

/* The text with visible characters only, each line by itself. */
static bool clean(struct span text, struct arena *arena, struct span *cleaned)
{
    struct buf lines = BUF_INIT(3 * text.len + 1); /* a bad byte becomes three */
    struct span rest = text, line;
    while (rest.len && span_next(&rest, '\n', &line)) {
        if (lines.len)
            buf_add_char(&lines, '\n');
        text_add_line(&lines, line);
    }
    bool ok = lines.error == ST_OK &&
              arena_copy(arena, utf8_cut_bytes(buf_span(&lines), LIMIT_ALARM_TEXT_BYTES), cleaned);
    buf_release(&lines);
    return ok;
}

bool alarm_row_to_raise(struct entity *row, enum alarm alarm, struct span title, struct span text,
                        int64_t now_ms, struct arena *arena)
{
    char host[HOST_BYTES] = {0};
    (void)gethostname(host, sizeof host - 1); /* without a name the alarm is still one */
    struct alarm_row raised = {
        .day = alarm_day(now_ms, arena),
        .event = span_of(alarm_name(alarm)),
        .received_ms = now_ms,
        .state = ALARM_STATE_WAITING,
    };
    return raised.day.len && clean(title, arena, &raised.title) && clean(text, arena, &raised.text) &&
           clean(span_of(host), arena, &raised.host) && row_of_alarm(row, &raised, arena);
}

enum status alarm_raise(struct store *store, enum alarm alarm, const char *text, int64_t deadline_ms,
                        struct fail *why)
{
    struct arena arena = ARENA_INIT(RAISE_ARENA_BYTES);
    struct operation insert = {.kind = OPERATION_INSERT};
    size_t failed;
    enum status status = ST_OK;
    if (!alarm_row_to_raise(&insert.entity, alarm, span_empty(), span_of(text), store_now_ms(store), &arena))
        status = fail_set(why, ST_NOMEM, 0, "no memory for an alarm");
    else
        status = store_transact(store, TABLE_OPS, &insert, 1, deadline_ms, &failed, why);
    arena_release(&arena);
    return status;
}

bool alarm_day_take(struct alarm_days *days, enum alarm alarm, int64_t now_ms)
{
    int64_t today = now_ms / CLOCK_DAY_MS + 1; /* 0 is none */
    return atomic_exchange(&days->day[alarm], today) != today;
}

void alarm_day_give_back(struct alarm_days *days, enum alarm alarm)
{
    atomic_store(&days->day[alarm], 0);
}

void alarm_text_of_outage(const struct fail *why, char text[LIMIT_ALARM_TEXT_BYTES])
{
    (void)snprintf(text, LIMIT_ALARM_TEXT_BYTES,
                   "The table does not take leads: %s. They are kept in this host's spool and copied when it "
                   "does; their mails wait until then.",
                   why->text);
}
