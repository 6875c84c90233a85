/* banned.h - functions that this code base does not use; naming one does not compile.
 *
 * Force-included for our own files by the Makefile.  Each has a bounded or
 * thread-safe counterpart: struct buf, fmt_* of clock.h, span_* of span.h.
 */
#ifndef LEAD_BANNED_H
#define LEAD_BANNED_H

/* The system headers that declare or use the names come first. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#pragma GCC poison strcpy strcat strncpy strncat sprintf vsprintf strtok strtok_r
#pragma GCC poison gets atoi atol atoll atof gmtime localtime ctime asctime
#pragma GCC poison drand48 tmpnam mktemp

#endif
