#include "handler/ctl/status/words.h"

/* System */
#include <inttypes.h>

/* L0 */
#include "lib/base/text.h"

void status_add_age(struct buf *out, int64_t ms)
{
    int64_t seconds = ms > 0 ? ms / 1000 : 0;
    if (seconds < 60)
        buf_addf(out, "%" PRId64 " s", seconds);
    else if (seconds < 60 * 60)
        buf_addf(out, "%" PRId64 " min", seconds / 60);
    else if (seconds < 48 * 60 * 60)
        buf_addf(out, "%" PRId64 " h", seconds / (60 * 60));
    else
        buf_addf(out, "%" PRId64 " days", seconds / (24 * 60 * 60));
}

void status_add_bytes(struct buf *out, uint64_t bytes)
{
    static const char *const units[] = {"bytes", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    uint64_t tenths = bytes * 10;
    for (; tenths >= 10240 && unit + 1 < sizeof units / sizeof units[0]; unit++)
        tenths /= 1024;
    if (unit == 0 || tenths % 10 == 0)
        buf_addf(out, "%" PRIu64 " %s", tenths / 10, units[unit]);
    else
        buf_addf(out, "%" PRIu64 ".%" PRIu64 " %s", tenths / 10, tenths % 10, units[unit]);
}

void status_add_count(struct buf *out, struct tally t)
{
    buf_addf(out, "%" PRIu64 "%s", t.count, t.more ? "+" : "");
}

void status_add_counted(struct buf *out, struct tally t, const char *one, const char *many)
{
    status_add_count(out, t);
    buf_addf(out, " %s", t.count == 1 && !t.more ? one : many);
}

void status_add_line(struct buf *out, struct span text)
{
    char memory[4 * STATUS_DETAIL_BYTES + 1];
    struct buf clean = BUF_FIXED(memory);
    text_add_line(&clean, text);
    struct span rest = buf_span(&clean);
    size_t columns = 0, keep = 0; /* bytes of the first characters, as many as fit with "..." behind them */
    for (size_t at = 0; at < rest.len; columns++) {
        uint32_t code;
        size_t len = utf8_decode(span_from(rest, at), &code);
        at += len ? len : 1;
        if (columns + 1 == STATUS_COLUMNS - 3)
            keep = at;
    }
    if (columns <= STATUS_COLUMNS) {
        buf_add(out, rest);
    } else {
        buf_add(out, span_cut(rest, 0, keep));
        buf_add_text(out, "...");
    }
    buf_add_char(out, '\n');
}

struct tally status_waiting_in_spool(const struct status_facts *f)
{
    return (struct tally){.count = f->spool.leads};
}

bool status_spool_takes_leads(const struct status_facts *f)
{
    switch (f->spool_use) {
    case SPOOL_KNOWN:
    case SPOOL_NOT_MADE:
    case SPOOL_DAMAGED:
        return f->spool_is_writable;
    case SPOOL_OFF:
    case SPOOL_UNREADABLE:
        break;
    }
    return false;
}

struct tally status_in_quarantine(const struct status_facts *f)
{
    struct tally t = f->quarantined;
    t.count += f->spool_use == SPOOL_KNOWN ? f->spool.quarantined : 0;
    return t;
}
