/* buf.h - a growing byte buffer with a mandatory limit and a sticky error.
 *
 * The first append that would pass the limit, or that finds no memory, marks
 * the buffer; it and every later append change nothing.  So a text is built
 * with plain appends and checked once, with buf_status, before it is used.
 * data[len] is always NUL when data is not NULL.
 * Ownership: the buffer owns its memory; buf_release frees it and may be called
 * on a BUF_INIT or released buffer.  Threads: one owner at a time.
 */
#ifndef LEAD_BUF_H
#define LEAD_BUF_H

#include "lib/base/span.h"
#include "lib/base/status.h"

struct buf {
    char *data;
    size_t len;
    size_t room;  /* allocated bytes */
    size_t limit; /* greatest len allowed */
    enum status error;
};

#define BUF_INIT(limit_bytes) ((struct buf){.limit = (limit_bytes)})

/* In a char array of the caller's, for what must be said when there is no memory: holds sizeof array - 1 bytes, never
 * asks for more, and must not be released. */
#define BUF_FIXED(array) ((struct buf){.data = (array), .room = sizeof(array), .limit = sizeof(array) - 1})

void buf_release(struct buf *b);
void buf_release_secret(struct buf *b); /* wipes the memory first */
void buf_reset(struct buf *b);          /* empties it, clears the error, keeps the memory */
/* The same, but keeps no more than so many bytes: who works on for long shall not hold the largest of all times. */
void buf_recycle(struct buf *b, size_t keep_bytes);

void buf_add(struct buf *b, struct span s);
void buf_add_text(struct buf *b, const char *text);
void buf_add_char(struct buf *b, char c);
void buf_addf(struct buf *b, const char *format, ...) PRINTF_LIKE(2, 3);

/* Makes room for len more bytes and gives the place to write them, or NULL when
 * the buffer is in error.  buf_advance then makes len of them count. */
char *buf_reserve(struct buf *b, size_t len);
void buf_advance(struct buf *b, size_t len);

static inline struct span buf_span(const struct buf *b)
{
    return (struct span){b->data, b->len};
}

/* ST_OK, ST_TOO_LARGE or ST_NOMEM; what names the content in the message. */
MUST_CHECK enum status buf_status(const struct buf *b, const char *what, struct fail *why);

#endif
