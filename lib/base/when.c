#include "lib/base/when.h"

/* L0 */
#include "lib/base/buf.h"
#include "lib/base/clock.h"

enum { DAY_TEXT = 10 /* "2026-05-01" */, MINUTE_TEXT = 16 /* "2026-05-01T10:30" */ };

static bool is_age(struct span given, int64_t now_ms, int64_t *ms)
{
    static const int64_t hour_ms = 60 * 60 * 1000LL;
    char unit = given.len ? given.ptr[given.len - 1] : '\0';
    int64_t unit_ms = unit == 'h' ? hour_ms : unit == 'd' ? CLOCK_DAY_MS : unit == 'w' ? 7 * CLOCK_DAY_MS : 0;
    uint64_t number;
    if (!unit_ms || !span_to_u64(span_cut(given, 0, given.len - 1), (uint64_t)(now_ms / unit_ms), &number))
        return false;
    *ms = now_ms - (int64_t)number * unit_ms;
    return true;
}

/* Completes what is left out and reads that. */
static bool is_time(struct span given, int64_t *ms)
{
    char memory[CLOCK_TEXT_BYTES] = ""; /* of what is too long the buffer takes nothing */
    struct buf text = BUF_FIXED(memory);
    bool has_zone = given.len > DAY_TEXT && given.ptr[given.len - 1] == 'Z';
    struct span time = has_zone ? span_cut(given, 0, given.len - 1) : given;
    if (time.len < DAY_TEXT)
        return false;
    buf_add(&text, time);
    if (time.len > DAY_TEXT && memory[DAY_TEXT] == ' ')
        memory[DAY_TEXT] = 'T';
    buf_add_text(&text, time.len == DAY_TEXT ? "T00:00:00" : time.len == MINUTE_TEXT ? ":00" : "");
    buf_add_char(&text, 'Z');
    return text.error == ST_OK && clock_parse_iso_time(buf_span(&text), ms);
}

enum status when_given(struct span given, int64_t now_ms, int64_t *ms, struct fail *why)
{
    int64_t result;
    if (!is_age(given, now_ms, &result) && !is_time(given, &result))
        return fail_set(why, ST_INVALID, 0, "a time is given as " WHEN_WORDS);
    *ms = result;
    return ST_OK;
}
