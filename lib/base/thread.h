/* thread.h - threads with a small stack of their own: the default of 8 MiB is too much for many of them. */
#ifndef LEAD_THREAD_H
#define LEAD_THREAD_H

#include <pthread.h>
#include <stddef.h>

#include "lib/base/status.h"

/* Starts run(context).  ST_IO: it cannot be started, and *why names it as `what` ("the mailer's thread"). */
MUST_CHECK enum status thread_start(pthread_t *thread, size_t stack_bytes, void *(*run)(void *),
                                    void *context, const char *what, struct fail *why);

#endif
