#include "lib/base/log.h"

/* System */
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* L0 */
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/text.h"

enum { LOG_LINE_BYTES = 2048, REPEAT_MS = 10 * 60 * 1000, WAIT_READER_MS = 1000 };

static void begin(struct buf *line, enum log_level level, const char *event)
{
    static const char *const names[] = {"info", "warning", "error"};
    char now[CLOCK_TEXT_BYTES];
    clock_iso_time(clock_wall_ms(), now);
    buf_addf(line, "t=%s level=%s event=%s", now, names[level], event);
}

static void add_pairs(struct buf *line, const char *format, va_list args)
{
    char text[1024];
    if (!format || vsnprintf(text, sizeof text, format, args) <= 0)
        return;
    buf_add_char(line, ' ');
    text_add_line(line, span_of(text));
}

static void add_quoted(struct buf *line, const char *name, const char *value)
{
    struct buf clean = BUF_INIT(LOG_LINE_BYTES);
    text_add_line(&clean, span_of(value));
    buf_addf(line, " %s=\"", name);
    for (size_t i = 0; i < clean.len; i++) {
        if (clean.data[i] == '"' || clean.data[i] == '\\')
            buf_add_char(line, '\\');
        buf_add_char(line, clean.data[i]);
    }
    buf_add_char(line, '"');
    buf_release(&clean);
}

/* Whether standard error takes a line within wait_ms: a pipe has room for PIPE_BUF bytes then, which are more. */
static bool has_room(int wait_ms)
{
    struct pollfd out = {.fd = STDERR_FILENO, .events = POLLOUT};
    return poll(&out, 1, wait_ms) > 0;
}

/* One line at a time, so that the room that was found is still there.  false: there is none. */
static bool write_line(struct span line)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    (void)pthread_mutex_lock(&lock);
    bool fits = has_room(0);
    if (fits) {
        ssize_t written = write(STDERR_FILENO, line.ptr, line.len);
        (void)written; /* there is nowhere left to report it */
    }
    (void)pthread_mutex_unlock(&lock);
    return fits;
}

/* A reader that stands still must not make requests stand still: it is waited for once, and then lines are lost until it
 * goes on. */
static void end(struct buf *line)
{
    static _Atomic bool is_stuck;
    if (line->error == ST_OK) {
        line->data[line->len] = '\n'; /* in place of the NUL: the line needs none */
        struct span whole = {line->data, line->len + 1};
        bool is_written = write_line(whole);
        if (!is_written && !atomic_load(&is_stuck))
            is_written = has_room(WAIT_READER_MS) && write_line(whole);
        atomic_store(&is_stuck, !is_written);
    }
    buf_release(line);
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    struct buf line = BUF_INIT(LOG_LINE_BYTES);
    begin(&line, level, event);
    va_list args;
    va_start(args, format);
    add_pairs(&line, format, args);
    va_end(args);
    end(&line);
}

void log_failure(enum log_level level, const char *event, const struct fail *why, const char *format, ...)
{
    struct buf line = BUF_INIT(LOG_LINE_BYTES);
    begin(&line, level, event);
    va_list args;
    va_start(args, format);
    add_pairs(&line, format, args);
    va_end(args);
    buf_addf(&line, " status=%s", status_name(why->code));
    if (why->peer)
        buf_addf(&line, " peer=%d", why->peer);
    add_quoted(&line, "reason", why->text);
    end(&line);
}

bool log_is_repeat(struct log_repeat *last, const struct fail *why)
{
    int64_t now = clock_monotonic_ms();
    if (last->logged_ms && now - last->logged_ms < clock_long_wait_ms(REPEAT_MS) &&
        last->why.code == why->code && strcmp(last->why.text, why->text) == 0)
        return true;
    *last = (struct log_repeat){.logged_ms = now, .why = *why};
    return false;
}
