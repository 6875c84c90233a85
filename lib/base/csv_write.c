/* Where a formula begins: OWASP, "CSV Injection" (2023), which names the wide forms of the four signs as well.
 *
 * A spreadsheet in whose country lists are separated by semicolons knows nothing of our commas, and so nothing of the
 * quotes behind them: to it a cell of ours goes on, or begins, wherever a text holds a semicolon, a tab or a line end.
 */
#include "lib/base/csv_write.h"

/* System */
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/text.h"

static bool is_formula_sign(uint32_t code)
{
    switch (code) {
    case '=':
    case '+':
    case '-':
    case '@':
    case 0xFF1D: /* the wide ones: = + - @ */
    case 0xFF0B:
    case 0xFF0D:
    case 0xFF20:
        return true;
    default:
        return false;
    }
}

static bool is_break(uint32_t code)
{
    return code == '\t' || code == '\r' || code == '\n';
}

static bool needs_quotes(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        if (strchr(",;\t\"\r\n", text.ptr[i]) && text.ptr[i])
            return true;
    }
    return text.len && (text.ptr[0] == ' ' || text.ptr[text.len - 1] == ' ');
}

static void begin_cell(struct csv_writer *w)
{
    if (!w->is_first)
        buf_add_char(w->out, ',');
    w->is_first = false;
}

void csv_begin_row(struct csv_writer *w, struct buf *out)
{
    *w = (struct csv_writer){.out = out, .is_first = true};
}

void csv_add_text(struct csv_writer *w, struct span text)
{
    bool quotes = needs_quotes(text), is_begin = true;
    begin_cell(w);
    if (quotes)
        buf_add_char(w->out, '"');
    if (text.len && is_break((unsigned char)text.ptr[0]))
        buf_add_char(w->out, '\'');
    while (text.len) {
        uint32_t code = 0xFFFD;
        size_t len = utf8_decode(text, &code);
        if (is_begin && is_formula_sign(code))
            buf_add_char(w->out, '\'');
        utf8_add(w->out, is_control_code(code) && !is_break(code) ? 0xFFFD : code);
        if (code == '"')
            buf_add_char(w->out, '"');
        is_begin = is_break(code) || code == ';' || (is_begin && code == '"');
        text = span_from(text, len ? len : 1);
    }
    if (quotes)
        buf_add_char(w->out, '"');
}

void csv_add_number(struct csv_writer *w, int64_t value)
{
    begin_cell(w);
    buf_addf(w->out, "%lld", (long long)value);
}

void csv_add_time(struct csv_writer *w, int64_t wall_ms)
{
    char time[CLOCK_TEXT_BYTES];
    begin_cell(w);
    if (wall_ms == 0)
        return;
    clock_iso_time(wall_ms, time);
    time[10] = ' ';
    buf_add(w->out, span_cut(span_of(time), 0, 19));
}

void csv_add_bool(struct csv_writer *w, bool value)
{
    begin_cell(w);
    buf_add_text(w->out, value ? "true" : "false");
}

enum status csv_end_row(struct csv_writer *w, const char *what, struct fail *why)
{
    buf_add_text(w->out, "\r\n");
    return buf_status(w->out, what, why);
}
