/* status.h - how functions report success and failure.
 *
 * One result type, named after what the caller can do, and one record that
 * carries the reason.  A function that can fail returns enum status and takes
 * struct fail *why last; it writes its outputs only on success and *why only
 * on failure.  The text is lower case, says what failed first, is complete
 * enough to be printed as it is and never holds a secret or personal data.
 * Memory: fixed size, no allocation.  Threads: no shared state.
 */
#ifndef LEAD_STATUS_H
#define LEAD_STATUS_H

#define MUST_CHECK        __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

enum status {
    ST_OK = 0,
    ST_INVALID,    /* this input can never succeed */
    ST_DENIED,     /* not authenticated or not allowed: a person has to act */
    ST_TOO_LARGE,  /* over one of our limits */
    ST_EXISTS,     /* already there */
    ST_NOT_FOUND,  /* not there */
    ST_CHANGED,    /* someone else changed it since it was read: read again */
    ST_AGAIN,      /* failed and certainly had no effect: retry later */
    ST_UNKNOWN,    /* may or may not have taken effect: retry only what is idempotent */
    ST_REFUSED,    /* the peer said no for good: do not retry, tell a person */
    ST_NOMEM,      /* out of memory */
    ST_IO,         /* a local resource failed */
    ST_DAMAGED,    /* a local file does not hold what was written to it */
    ST_OVER_QUOTA, /* somebody has used up a share: not before tomorrow */
    ST_BUG         /* a broken invariant of ours */
};

struct fail {
    enum status code;
    int sys;           /* errno, or 0 */
    int peer;          /* HTTP or SMTP reply code, or 0 */
    int retry_after_s; /* what the peer asked for, or 0 */
    char text[256];
};

/* Fills *why (may be NULL) and returns code, so that a failure is one line:
 * return fail_set(why, ST_IO, errno, "cannot open '%s'", path);
 * With sys > 0 its description is appended after ": ". */
enum status fail_set(struct fail *why, enum status code, int sys, const char *format, ...) PRINTF_LIKE(4, 5);
#ifdef __clang_analyzer__
/* It sees one file at a time, and so not that a failure is never ST_OK. */
#define fail_set(why, code, ...) (fail_set(why, code, __VA_ARGS__), (code))
#endif

/* Puts "prefix: " before the text that is already there. */
void fail_prefix(struct fail *why, const char *format, ...) PRINTF_LIKE(2, 3);

/* The name of a status for logs: "invalid", "again", ... */
const char *status_name(enum status code);

#endif
