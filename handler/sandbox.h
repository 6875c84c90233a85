/* sandbox.h - after its start the process keeps only what it needs.
 *
 * Files: it may read the folders of its configuration, keys, secrets and
 * certificate authorities and what the resolver reads, and write in the folders
 * of its store, spool, Maildir, sockets and counters; in a folder that is
 * everybody's (/etc, say) it may read only the file that is named.  TCP: only the
 * ports of the table, the mail server and name servers; datagrams and unix
 * sockets are not bounded.  System calls: see callfilter.h.
 *
 * What lies below the libraries is the kernel's: seccomp is needed for the
 * calls, Landlock for files (Linux 5.19) and ports (6.7).  Where one is missing
 * a log line says so and the rest is in force; ports alone may be missing also
 * where the sandbox is required.
 */
#ifndef LEAD_SANDBOX_H
#define LEAD_SANDBOX_H

#include "handler/service.h"

/* Puts the sandbox in force as the setting `sandbox` says.  To be called once, by the only thread, when sockets to
 * listen on have been made.  CALLFILTER_SIGNAL is blocked afterwards.
 * ST_REFUSED: the setting is `required`, and *why says what the kernel does not do. */
MUST_CHECK enum status sandbox_enter(const struct service *service, struct fail *why);

/* One line on what is in force; nothing when that is nothing (sandbox_enter has said so). */
void sandbox_log_state(void);

/* The path of a file that the system's resolver reads and that another was put in the place of (or that was not there):
 * the process cannot open it and has to be started again.  NULL: none. */
const char *sandbox_outdated(void);

#endif
