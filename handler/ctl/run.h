/* run.h - another program's words: runs it and takes what it prints. */
#ifndef LEAD_CTL_RUN_H
#define LEAD_CTL_RUN_H

#include <stdint.h>

#include "lib/base/buf.h"

/* Runs a program, found in $PATH or in the system's folders, with one argument,
 * nothing on its standard input and an environment of a $PATH alone.  out and err
 * get what it prints.  It is killed after wait_ms.  *exit_status: what it ended
 * with, or 128 and the signal.  ST_NOT_FOUND: there is no such program; ST_AGAIN: it
 * did not end in time; ST_TOO_LARGE: it printed more than they may hold; ST_IO, ST_NOMEM. */
MUST_CHECK enum status ctl_run(const char *program, const char *argument, int64_t wait_ms, struct buf *out,
                               struct buf *err, int *exit_status, struct fail *why);

#endif
