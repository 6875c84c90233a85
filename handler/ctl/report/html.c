#include "handler/ctl/report/html.h"

/* System */
#include <inttypes.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/encode.h"
#include "lib/base/text.h"

enum { BYTES_OF_REPLACEMENT = 3 }; /* a byte may become U+FFFD */

void html_add_text(struct buf *out, struct span text)
{
    char memory[BYTES_OF_REPLACEMENT * HTML_TEXT_BYTES + 1];
    struct buf line = BUF_FIXED(memory);
    text_add_line(&line, utf8_cut_bytes(text, HTML_TEXT_BYTES));
    html_add(out, buf_span(&line));
}

void html_add_outside(struct buf *out, struct span text)
{
    buf_add_text(out, "<bdi>");
    html_add_text(out, text);
    buf_add_text(out, "</bdi>");
}

void html_add_count(struct buf *out, uint64_t count)
{
    uint64_t thousand = 1;
    while (count / thousand >= 1000)
        thousand *= 1000;
    buf_addf(out, "%" PRIu64, count / thousand);
    for (; thousand > 1; thousand /= 1000)
        buf_addf(out, ",%03" PRIu64, count % thousand / (thousand / 1000));
}

void html_add_counted(struct buf *out, uint64_t count, const char *what)
{
    html_add_count(out, count);
    buf_addf(out, " %s%s", what, count == 1 ? "" : "s");
}

void html_add_share(struct buf *out, uint64_t part, uint64_t of)
{
    if (part > 0 && part < of / 100 + (of % 100 != 0))
        buf_add_text(out, "&lt;1&nbsp;%");
    else
        buf_addf(out, "%" PRIu64 "&nbsp;%%", (200 * part + of) / (2 * of));
}

void html_add_day(struct buf *out, int64_t wall_ms, enum html_day how)
{
    /* "Sat, 21 Nov 2026 09:30:00 GMT" */
    static const struct {
        size_t from, len;
    } parts[] = {
        [DAY_SHORT] = {5, 6}, [DAY_WHOLE] = {5, 11}, [DAY_OF_WEEK] = {0, 16}, [DAY_AND_MINUTE] = {5, 17}};
    char text[CLOCK_TEXT_BYTES];
    clock_http_date(wall_ms, text);
    buf_add(out, span_cut(span_of(text), parts[how].from, parts[how].len));
}

void html_add_duration(struct buf *out, int64_t ms)
{
    if (ms < 0)
        ms = 0;
    int64_t tenths = (ms + 50) / 100, seconds = (ms + 500) / 1000;
    int64_t minutes = (ms + 30 * 1000) / (60 * 1000), hours = (ms + 30 * 60 * 1000) / (60 * 60 * 1000);
    if (tenths < 600)
        buf_addf(out, "%" PRId64 ".%" PRId64 "&nbsp;s", tenths / 10, tenths % 10);
    else if (seconds < 3600)
        buf_addf(out, "%" PRId64 "&nbsp;min %" PRId64 "&nbsp;s", seconds / 60, seconds % 60);
    else if (minutes < 24 * 60)
        buf_addf(out, "%" PRId64 "&nbsp;h %" PRId64 "&nbsp;min", minutes / 60, minutes % 60);
    else
        buf_addf(out, "%" PRId64 "&nbsp;d %" PRId64 "&nbsp;h", hours / 24, hours % 24);
}
