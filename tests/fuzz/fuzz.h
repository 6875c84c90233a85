/* fuzz.h - what every fuzz target needs: checks, and a way to cut an input into parts.
 *
 * A target is one function from bytes to nothing.  libFuzzer calls it with inputs
 * of its own making (make fuzz), tests/fuzz/replay.c with those kept in the tree
 * (sh tests/run).  It must do the same for the same bytes, and no file or network
 * work.  What does not hold ends the process, so that the input is kept.
 */
#ifndef LEAD_FUZZ_H
#define LEAD_FUZZ_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/arena.h"
#include "lib/base/span.h"
#include "lib/base/status.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Around all of a target but what it includes: what it looks at tells libFuzzer nothing of the product, and takes
 * time. */
#ifdef __clang__
#define CHECKS_BEGIN                                                                                         \
    _Pragma("clang attribute push(__attribute__((no_sanitize(\"coverage\"))), apply_to = function)")
#define CHECKS_END _Pragma("clang attribute pop")
#else
#define CHECKS_BEGIN
#define CHECKS_END
#endif

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define CHECK(holds) ((holds) ? (void)0 : fuzz_fail(__FILE__, __LINE__, #holds))

CHECKS_BEGIN

static inline _Noreturn void fuzz_fail(const char *file, int line, const char *what)
{
    (void)fprintf(stderr, "%s:%d: does not hold: %s\n", file, line, what);
    abort();
}

/* Parts of an input end at this byte, which no UTF-8 text has. */
#define PART_END '\xFF'

/* The part before the next PART_END, or all that is left; blank at the end. */
static inline struct span fuzz_part(struct span *rest)
{
    struct span part = {0};
    (void)span_next(rest, PART_END, &part);
    return part;
}

/* The first byte; 0 at the end. */
static inline unsigned int fuzz_byte(struct span *rest)
{
    unsigned int byte = rest->len ? (unsigned char)rest->ptr[0] : 0;
    *rest = span_from(*rest, 1);
    return byte;
}

/* The text so often that it has up to so many bytes, in the arena: inputs are short, limits are not. */
static inline struct span fuzz_repeat(struct span text, size_t times, size_t bytes, struct arena *arena)
{
    if (text.len == 0 || times < 2 || text.len > bytes)
        return text;
    if (times > bytes / text.len)
        times = bytes / text.len;
    char *copy = arena_alloc(arena, text.len * times);
    CHECK(copy);
    for (size_t i = 0; i < times; i++)
        memcpy(copy + i * text.len, text.ptr, text.len);
    return (struct span){copy, text.len * times};
}

static inline bool fuzz_has_control(struct span s)
{
    for (size_t i = 0; i < s.len; i++) {
        if ((unsigned char)s.ptr[i] < 0x20 || s.ptr[i] == 0x7F)
            return true;
    }
    return false;
}

static inline bool fuzz_has(struct span s, struct span needle)
{
    return needle.len && s.len && memmem(s.ptr, s.len, needle.ptr, needle.len) != NULL;
}

/* A failure's record: its code, and a text in one line. */
static inline void fuzz_check_fail(const struct fail *why, enum status status)
{
    CHECK(status != ST_OK && why->code == status);
    size_t len = strnlen(why->text, sizeof why->text);
    CHECK(len > 0 && len < sizeof why->text);
    CHECK(!fuzz_has_control((struct span){why->text, len}));
}

CHECKS_END

#endif
