#include "lib/base/lines.h"

/* System */
#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024 };

void lines_begin(struct lines *lines, int fd, size_t most)
{
    *lines = (struct lines){.fd = fd, .most = most, .memory = BUF_INIT(most + 1 + READ_BYTES)};
}

void lines_release(struct lines *lines)
{
    buf_release(&lines->memory);
}

/* Moves what is not used to the beginning, and reads on. */
static enum status read_on(struct lines *l, struct fail *why)
{
    struct buf *m = &l->memory;
    if (l->used > 0) {
        memmove(m->data, m->data + l->used, m->len - l->used);
        m->len -= l->used;
        l->used = 0;
    }
    char *at = buf_reserve(m, READ_BYTES);
    if (!at)
        return buf_status(m, "a line", why);
    ssize_t got;
    do {
        got = read(l->fd, at, READ_BYTES);
    } while (got < 0 && errno == EINTR);
    if (got < 0)
        return fail_set(why, ST_IO, errno, "cannot read the input");
    buf_advance(m, (size_t)got);
    l->is_ended = got == 0;
    return ST_OK;
}

static struct span give(struct lines *l, struct span line, size_t taken)
{
    l->used += taken;
    l->bytes += taken;
    l->number++;
    return line;
}

/* Takes the line, of which more than can be kept has been read, off the input. */
static enum status pass_over(struct lines *l, struct fail *why)
{
    for (bool is_end = false; !is_end;) {
        struct span rest = span_from(buf_span(&l->memory), l->used);
        size_t end = span_find(rest, '\n'), taken = end == SPAN_NONE ? rest.len : end + 1;
        l->used += taken;
        l->bytes += taken;
        is_end = end != SPAN_NONE || l->is_ended;
        enum status status = is_end ? ST_OK : read_on(l, why);
        if (status != ST_OK)
            return status;
    }
    l->number++;
    return fail_set(why, ST_TOO_LARGE, 0, "longer than %zu bytes", l->most);
}

enum status lines_next(struct lines *lines, struct span *line, struct fail *why)
{
    struct lines *l = lines;
    for (size_t searched = 0;;) {
        struct span rest = span_from(buf_span(&l->memory), l->used);
        size_t end = span_find(span_from(rest, searched), '\n');
        if (end != SPAN_NONE && searched + end <= l->most) {
            end += searched;
            *line = give(l, span_cut(rest, 0, end), end + 1);
            return ST_OK;
        }
        if (end != SPAN_NONE || rest.len > l->most)
            return pass_over(l, why);
        if (l->is_ended && rest.len == 0)
            return fail_set(why, ST_NOT_FOUND, 0, "there are no more lines");
        if (l->is_ended) {
            *line = give(l, rest, rest.len);
            return fail_set(why, ST_INVALID, 0, "the input ends within line %llu",
                            (unsigned long long)l->number);
        }
        searched = rest.len;
        enum status status = read_on(l, why);
        if (status != ST_OK)
            return status;
    }
}
