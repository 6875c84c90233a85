#include "lib/base/arena.h"

/* System */
#include <stdalign.h>
#include <stdlib.h>
#include <string.h>

/* One ordinary lead fits into the first block. */
enum { ARENA_BLOCK_BYTES = 16 * 1024 };

struct arena_block {
    struct arena_block *next;
    size_t used;
    size_t room;
    alignas(max_align_t) char bytes[];
};

void *arena_alloc(struct arena *a, size_t size)
{
    size_t need;
    if (__builtin_add_overflow(size, alignof(max_align_t) - 1, &need))
        return NULL;
    need &= ~(alignof(max_align_t) - 1);
    if (need > a->limit - a->used)
        return NULL;
    struct arena_block *block = a->blocks;
    if (!block || block->room - block->used < need) {
        size_t room = need > ARENA_BLOCK_BYTES ? need : ARENA_BLOCK_BYTES;
        block = malloc(sizeof *block + room);
        if (!block)
            return NULL;
        *block = (struct arena_block){.next = a->blocks, .room = room};
        a->blocks = block;
    }
    void *memory = block->bytes + block->used;
    block->used += need;
    a->used += need;
    memset(memory, 0, need);
    return memory;
}

void *arena_array(struct arena *a, size_t count, size_t size)
{
    size_t bytes;
    if (__builtin_mul_overflow(count, size, &bytes))
        return NULL;
    return arena_alloc(a, bytes);
}

bool arena_copy(struct arena *a, struct span s, struct span *copy)
{
    char *memory = arena_alloc(a, s.len + 1);
    if (!memory)
        return false;
    if (s.len)
        memcpy(memory, s.ptr, s.len);
    *copy = (struct span){memory, s.len};
    return true;
}

struct span arena_join(struct arena *a, const struct span *parts, size_t count)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++)
        len += parts[i].len;
    char *text = arena_alloc(a, len + 1);
    if (!text)
        return span_empty();
    char *at = text;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len)
            memcpy(at, parts[i].ptr, parts[i].len);
        at += parts[i].len;
    }
    return (struct span){text, len};
}

void arena_reset(struct arena *a)
{
    while (a->blocks && a->blocks->next) {
        struct arena_block *next = a->blocks->next;
        free(a->blocks);
        a->blocks = next;
    }
    /* The oldest block is the one that is left; it is kept if it is of ordinary size. */
    if (a->blocks && a->blocks->room > ARENA_BLOCK_BYTES) {
        free(a->blocks);
        a->blocks = NULL;
    }
    if (a->blocks)
        a->blocks->used = 0;
    a->used = 0;
}

void arena_release(struct arena *a)
{
    arena_reset(a);
    free(a->blocks);
    a->blocks = NULL;
}
