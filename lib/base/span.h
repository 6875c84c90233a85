/* span.h - borrowed bytes: a pointer and a length, not NUL-terminated.
 *
 * A span never owns.  An empty span may have a NULL pointer; "blank" in this
 * code base means empty.  Functions are pure; none reads beyond len.
 */
#ifndef LEAD_SPAN_H
#define LEAD_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
    const char *ptr;
    size_t len;
};

#define SPAN_LIT(text) ((struct span){(text), sizeof(text) - 1})
#define SPAN_FMT(s)    (int)(s).len, (s).ptr ? (s).ptr : "" /* for "%.*s"; only for short, printable spans */

static inline struct span span_empty(void)
{
    return (struct span){0};
}

struct span span_of(const char *text); /* NULL becomes the empty span */
bool span_eq(struct span a, struct span b);
char char_lower(char c); /* ASCII letters only, whatever the locale */
/* Only ASCII letters, digits and these others; also when blank. */
bool span_has_only(struct span s, const char *others);
bool char_is_alnum(char c);                        /* ASCII letters and digits, whatever the locale */
bool span_eq_nocase(struct span a, struct span b); /* ASCII letters only */
bool span_starts(struct span s, struct span prefix);
bool span_starts_nocase(struct span s, struct span prefix);
bool span_ends_nocase(struct span s, struct span suffix);
bool span_has_nocase(struct span s, struct span needle);

/* Byte order of memcmp, a shorter prefix first: < 0, 0, > 0. */
int span_compare(struct span a, struct span b);

#define SPAN_NONE SIZE_MAX
/* Index of the first or last c, or SPAN_NONE. */
size_t span_find(struct span s, char c);
size_t span_find_last(struct span s, char c);

struct span span_cut(struct span s, size_t from, size_t len); /* clamps to s */
struct span span_from(struct span s, size_t from);            /* clamps to s */
struct span span_trim(struct span s);                         /* ASCII space, tab, CR, LF at both ends */

/* Splits *rest at the first c: gives what is before it and moves *rest behind
 * it.  false when *rest was already used up (its ptr is NULL). */
bool span_next(struct span *rest, char c, struct span *part);

/* Decimal digits only, no sign, no blanks, at most max.  false otherwise. */
bool span_to_u64(struct span s, uint64_t max, uint64_t *value);

#endif
