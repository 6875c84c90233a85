/* callfilter.h - which system calls the process may make from now on, by seccomp.
 *
 * A list of what leadhook and its libraries call, with conditions on arguments
 * where the same call can do harm: no new program, no new process, no memory
 * that can be executed, no sockets but those of unix, TCP and UDP.
 *
 * A call that is not on the list fails with EPERM, is noted, and the process
 * goes on: a library that begins to make a new call with an update must not stop
 * the leads.  Calls that take over other processes or the kernel, and calls of
 * another architecture, end the process at once (SIGSYS): nothing of ours makes
 * them by mistake.
 * Threads: the filter is the calling thread's and that of threads it starts later.
 */
#ifndef LEAD_CALLFILTER_H
#define LEAD_CALLFILTER_H

#include <signal.h>

#include "lib/base/status.h"

/* Sent to the thread that has put the filter in force when a call was noted; it must have this blocked, and look with
 * callfilter_log_denied. */
#define CALLFILTER_SIGNAL SIGUSR2

/* SIGSYS must not be blocked in any thread.  ST_REFUSED: the kernel does not take the filter. */
MUST_CHECK enum status callfilter_enforce(struct fail *why);

/* Logs the names of the calls that were noted since the last time, each once in the process's life. */
void callfilter_log_denied(void);

#endif
