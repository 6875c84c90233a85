#include "lib/base/thread.h"

enum status thread_start(pthread_t *thread, size_t stack_bytes, void *(*run)(void *), void *context,
                         const char *what, struct fail *why)
{
    pthread_attr_t attributes;
    (void)pthread_attr_init(&attributes);
    (void)pthread_attr_setstacksize(&attributes, stack_bytes);
    int error = pthread_create(thread, &attributes, run, context);
    (void)pthread_attr_destroy(&attributes);
    return error == 0 ? ST_OK : fail_set(why, ST_IO, error, "cannot start %s", what);
}
