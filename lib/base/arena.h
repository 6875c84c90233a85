/* arena.h - memory that is freed all at once.
 *
 * For what belongs to one request or one answer: parse results, decoded text.
 * The limit bounds the sum of what is handed out.  Allocation returns NULL on
 * the limit or without memory; callers turn that into ST_NOMEM.
 * Threads: one owner at a time.
 */
#ifndef LEAD_ARENA_H
#define LEAD_ARENA_H

#include "lib/base/span.h"

struct arena_block;

struct arena {
    struct arena_block *blocks;
    size_t used; /* bytes handed out since the last reset */
    size_t limit;
};

#define ARENA_INIT(limit_bytes) ((struct arena){.limit = (limit_bytes)})

/* Zeroed, aligned for any type; lives until arena_reset or arena_release. */
void *arena_alloc(struct arena *a, size_t size);

/* Room for count objects of size bytes each; checks the product. */
void *arena_array(struct arena *a, size_t count, size_t size);

/* A copy of the bytes, NUL-terminated behind its end.  false: no memory. */
bool arena_copy(struct arena *a, struct span s, struct span *copy);

/* The parts one behind the other, NUL-terminated behind their end; ptr is NULL without memory. */
struct span arena_join(struct arena *a, const struct span *parts, size_t count);

void arena_reset(struct arena *a); /* frees what was handed out, keeps the first block for the next use */
void arena_release(struct arena *a);

#endif
