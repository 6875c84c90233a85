/* A line takes no memory but the stack's: that there is none is worth a line. */
#include "lib/base/log.h"

/* System */
#include <errno.h>
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
#include "lib/base/json_write.h"
#include "lib/base/limits.h"
#include "lib/base/text.h"

enum { REPEAT_MS = 10 * 60 * 1000, WAIT_READER_MS = 1000, SECOND_MS = 1000, PAIRS_BYTES = 1024 };

static enum log_format chosen; /* set before there are threads */

void log_set_format(enum log_format format)
{
    chosen = format;
}

/* --- logfmt -------------------------------------------------------------------------------------------------- */

static void add_pairs(struct buf *line, struct span pairs)
{
    if (pairs.len == 0)
        return;
    buf_add_char(line, ' ');
    text_add_line(line, pairs);
}

static void add_quoted(struct buf *line, const char *name, const char *value)
{
    char memory[LIMIT_LOG_LINE_BYTES];
    struct buf clean = BUF_FIXED(memory);
    text_add_line(&clean, span_of(value));
    buf_addf(line, " %s=\"", name);
    for (size_t i = 0; i < clean.len; i++) {
        if (clean.data[i] == '"' || clean.data[i] == '\\')
            buf_add_char(line, '\\');
        buf_add_char(line, clean.data[i]);
    }
    buf_add_char(line, '"');
}

static void add_reason(struct buf *line, const struct fail *why)
{
    buf_addf(line, " status=%s", status_name(why->code));
    if (why->peer)
        buf_addf(line, " peer=%d", why->peer);
    add_quoted(line, "reason", why->text);
}

/* --- JSON ---------------------------------------------------------------------------------------------------- */

static void add_clean_text(struct json_writer *w, struct span name, struct span value)
{
    char memory[LIMIT_LOG_LINE_BYTES];
    struct buf clean = BUF_FIXED(memory);
    text_add_line(&clean, value);
    json_add_text(w, name, buf_span(&clean));
}

/* Where the pair that begins with name begins, behind a blank; the end where there is none. */
static size_t next_pair(struct span pairs, struct span name)
{
    size_t i = 0;
    while (name.len && i < pairs.len && !(pairs.ptr[i] == ' ' && span_starts(span_from(pairs, i + 1), name)))
        i++;
    return name.len ? i : pairs.len;
}

/* A pair as the format has it, "ms=%d": cut into its name with the '=', and whether its value is a number. */
static struct span name_of(struct span pair, bool *is_number)
{
    size_t equals = span_find(pair, '=');
    *is_number = span_find(pair, '%') != SPAN_NONE && pair.ptr[pair.len - 1] != 's';
    return equals == SPAN_NONE ? pair : span_cut(pair, 0, equals + 1);
}

/* The format knows the names, so a value may hold whatever it likes. */
static void add_members(struct json_writer *w, const char *format, struct span pairs)
{
    struct span rest = span_of(format), pair;
    while (pairs.len && span_next(&rest, ' ', &pair)) {
        bool is_number, ignored;
        uint64_t number;
        struct span name = name_of(pair, &is_number);
        struct span following = rest, next = {0};
        if (span_next(&following, ' ', &next))
            next = name_of(next, &ignored);
        size_t len = next_pair(pairs, next);
        struct span value = span_from(span_cut(pairs, 0, len), name.len);
        name = span_cut(name, 0, name.len - 1);
        if (is_number && span_to_u64(value, INT64_MAX, &number))
            json_add_number(w, name, (int64_t)number);
        else
            add_clean_text(w, name, value);
        pairs = span_from(pairs, len + 1);
    }
}

static void write_object(struct buf *line, const char *time, const char *level, const char *event,
                         const char *format, struct span pairs, const struct fail *why)
{
    struct json_writer w;
    json_begin(&w, line);
    json_add_text(&w, SPAN_LIT("t"), span_of(time));
    json_add_text(&w, SPAN_LIT("level"), span_of(level));
    json_add_text(&w, SPAN_LIT("event"), span_of(event));
    add_members(&w, format, pairs);
    if (why) {
        json_add_text(&w, SPAN_LIT("status"), span_of(status_name(why->code)));
        if (why->peer)
            json_add_number(&w, SPAN_LIT("peer"), why->peer);
        add_clean_text(&w, SPAN_LIT("reason"), span_of(why->text));
    }
    enum status status = json_end(&w, "a line", NULL);
    (void)status; /* what does not fit into a line is not written: end looks */
}

/* --- writing ------------------------------------------------------------------------------------------------- */

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
        ssize_t written;
        do
            written = write(STDERR_FILENO, line.ptr, line.len);
        while (written < 0 && errno == EINTR); /* any other failure: there is nowhere left to report it */
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
}

static void write_event(enum log_level level, const char *event, const char *format, va_list args,
                        const struct fail *why)
{
    static const char *const levels[] = {"info", "warning", "error"};
    char memory[LIMIT_LOG_LINE_BYTES], pairs[PAIRS_BYTES], now[CLOCK_TEXT_BYTES];
    struct buf line = BUF_FIXED(memory);
    if (!format || vsnprintf(pairs, sizeof pairs, format, args) <= 0)
        pairs[0] = '\0';
    clock_iso_time(clock_wall_ms(), now);
    if (chosen == LOG_JSON) {
        write_object(&line, now, levels[level], event, format, span_of(pairs), why);
    } else {
        buf_addf(&line, "t=%s level=%s event=%s", now, levels[level], event);
        add_pairs(&line, span_of(pairs));
        if (why)
            add_reason(&line, why);
    }
    end(&line);
}

void log_event(enum log_level level, const char *event, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    write_event(level, event, format, args, NULL);
    va_end(args);
}

void log_failure(enum log_level level, const char *event, const struct fail *why, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    write_event(level, event, format, args, why);
    va_end(args);
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

bool log_budget_take(struct log_budget *budget, unsigned int per_second, int64_t now_ms)
{
    if (budget->since_ms == 0 || now_ms - budget->since_ms >= SECOND_MS) {
        budget->since_ms = now_ms;
        budget->used = 0;
    }
    bool may = budget->used < per_second;
    if (may)
        budget->used++;
    else
        budget->left_out++;
    return may;
}

unsigned long long log_budget_left_out(struct log_budget *budget, int64_t now_ms)
{
    unsigned long long count = budget->left_out;
    if (now_ms - budget->since_ms < SECOND_MS)
        return 0;
    budget->left_out = 0;
    return count;
}
