/* freed.h - looks at memory that a thread gives back for a secret that should have been wiped from it.
 *
 * For unit tests only; include it in one file of a test.  What libcrypto gives back is seen too where no_memory.h
 * is in use.  The sanitizers and memcheck have a free of their own: there nothing is looked at.
 */
#ifndef LEAD_TEST_FREED_H
#define LEAD_TEST_FREED_H

#include <malloc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local struct {
    const void *bytes; /* NULL: nothing is looked for */
    size_t len;
    size_t blocks; /* looked at */
    size_t found;  /* with the bytes in them */
} freed;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_OWN_FREE 0
#else
#define HAS_OWN_FREE 1

void __libc_free(void *memory);

/* For the libraries too, which do not see what is hidden. */
__attribute__((visibility("default"))) void free(void *memory)
{
    if (memory && freed.bytes) {
        freed.blocks++;
        freed.found += memmem(memory, malloc_usable_size(memory), freed.bytes, freed.len) ? 1 : 0;
    }
    __libc_free(memory);
}
#endif

/* Whether anything is looked at; memcheck is preloaded. */
static inline bool freed_is_watched(void)
{
    const char *preloaded = getenv("LD_PRELOAD");
    return HAS_OWN_FREE && !(preloaded && strstr(preloaded, "vgpreload_memcheck"));
}

/* From here on it is looked for in what this thread gives back; NULL: no more. */
static void watch_freed(const void *bytes, size_t len)
{
    freed.bytes = bytes;
    freed.len = len;
    freed.blocks = freed.found = 0;
}

#endif
