#include "lib/base/status.h"

/* System */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* In brackets, because it is a macro for the analyzer (status.h). */
enum status(fail_set)(struct fail *why, enum status code, int sys, const char *format, ...)
{
    if (!why)
        return code;
    *why = (struct fail){.code = code, .sys = sys};
    va_list args;
    va_start(args, format);
    int used = vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    if (sys > 0 && used >= 0 && (size_t)used < sizeof why->text) {
        char text[96];
        (void)snprintf(why->text + used, sizeof why->text - (size_t)used, ": %s",
                       strerror_r(sys, text, sizeof text));
    }
    return code;
}

void fail_prefix(struct fail *why, const char *format, ...)
{
    if (!why)
        return;
    char old[sizeof why->text];
    memcpy(old, why->text, sizeof old);
    va_list args;
    va_start(args, format);
    int used = vsnprintf(why->text, sizeof why->text, format, args);
    va_end(args);
    if (used >= 0 && (size_t)used + 2 < sizeof why->text) {
        int room = (int)(sizeof why->text - (size_t)used - 3); /* a text that is too long loses its end */
        (void)snprintf(why->text + used, sizeof why->text - (size_t)used, ": %.*s", room, old);
    }
}

const char *status_name(enum status code)
{
    switch (code) {
    case ST_OK:
        return "ok";
    case ST_INVALID:
        return "invalid";
    case ST_DENIED:
        return "denied";
    case ST_TOO_LARGE:
        return "too-large";
    case ST_EXISTS:
        return "exists";
    case ST_NOT_FOUND:
        return "not-found";
    case ST_CHANGED:
        return "changed";
    case ST_AGAIN:
        return "again";
    case ST_UNKNOWN:
        return "unknown";
    case ST_REFUSED:
        return "refused";
    case ST_NOMEM:
        return "no-memory";
    case ST_IO:
        return "io";
    case ST_DAMAGED:
        return "damaged";
    case ST_OVER_QUOTA:
        return "over-quota";
    case ST_BUG:
        return "bug";
    }
    return "?";
}
