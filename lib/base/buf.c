#include "lib/base/buf.h"

/* System */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/crypto.h"

enum { BUF_FIRST_ROOM = 256 };

void buf_release(struct buf *b)
{
    free(b->data);
    *b = BUF_INIT(b->limit);
}

void buf_release_secret(struct buf *b)
{
    if (b->data)
        crypto_wipe(b->data, b->room);
    buf_release(b);
}

void buf_reset(struct buf *b)
{
    b->len = 0;
    b->error = ST_OK;
    if (b->data)
        b->data[0] = '\0';
}

void buf_recycle(struct buf *b, size_t keep_bytes)
{
    if (b->room > keep_bytes)
        buf_release(b);
    else
        buf_reset(b);
}

char *buf_reserve(struct buf *b, size_t len)
{
    if (b->error != ST_OK)
        return NULL;
    if (b->limit < b->len || len > b->limit - b->len) {
        b->error = ST_TOO_LARGE;
        return NULL;
    }
    size_t need = b->len + len + 1; /* limit is far below SIZE_MAX, so this cannot wrap */
    if (need > b->room) {
        size_t room = b->room ? b->room : BUF_FIRST_ROOM;
        while (room < need)
            room = room > SIZE_MAX / 2 ? need : room * 2;
        if (room > b->limit + 1)
            room = b->limit + 1;
        char *data = realloc(b->data, room);
        if (!data) {
            b->error = ST_NOMEM;
            return NULL;
        }
        b->data = data;
        b->room = room;
    }
    return b->data + b->len;
}

void buf_advance(struct buf *b, size_t len)
{
    b->len += len;
    b->data[b->len] = '\0';
}

void buf_add(struct buf *b, struct span s)
{
    char *at = buf_reserve(b, s.len);
    if (!at)
        return;
    if (s.len)
        memcpy(at, s.ptr, s.len);
    buf_advance(b, s.len);
}

void buf_add_text(struct buf *b, const char *text)
{
    buf_add(b, span_of(text));
}

void buf_add_char(struct buf *b, char c)
{
    buf_add(b, (struct span){&c, 1});
}

void buf_addf(struct buf *b, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    /* Mostly it fits into the room that is there. */
    char *here = buf_reserve(b, 0);
    size_t room = here ? b->room - b->len : 0;
    int need = vsnprintf(here, room, format, args);
    va_end(args);
    if (here && need >= 0 && (size_t)need < room && (size_t)need <= b->limit - b->len) {
        b->len += (size_t)need;
    } else if (need >= 0) {
        if (here)
            here[0] = '\0'; /* again, or not at all */
        char *at = buf_reserve(b, (size_t)need);
        if (at) {
            (void)vsnprintf(at, (size_t)need + 1, format, again);
            buf_advance(b, (size_t)need);
        }
    } else if (b->error == ST_OK) {
        b->error = ST_TOO_LARGE; /* only a result over INT_MAX bytes gets here */
    }
    va_end(again);
}

enum status buf_status(const struct buf *b, const char *what, struct fail *why)
{
    if (b->error == ST_TOO_LARGE)
        return fail_set(why, ST_TOO_LARGE, 0, "%s is longer than %zu bytes", what, b->limit);
    if (b->error == ST_NOMEM)
        return fail_set(why, ST_NOMEM, 0, "no memory for %s", what);
    return ST_OK;
}
