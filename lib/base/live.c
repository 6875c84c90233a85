#include "lib/base/live.h"

/* System */
#include <stdbool.h>

void live_init(struct live *live, struct live_part *first, void (*free)(struct live_part *part))
{
    (void)pthread_mutex_init(&live->lock, NULL);
    live->free = free;
    live->now = first;
    first->holders = 1;
}

void live_release(struct live *live)
{
    live->free(live->now);
    (void)pthread_mutex_destroy(&live->lock);
}

struct live_part *live_hold(struct live *live)
{
    (void)pthread_mutex_lock(&live->lock);
    struct live_part *part = live->now;
    part->holders++;
    (void)pthread_mutex_unlock(&live->lock);
    return part;
}

void live_let_go(struct live *live, struct live_part *part)
{
    (void)pthread_mutex_lock(&live->lock);
    bool was_last = --part->holders == 0;
    (void)pthread_mutex_unlock(&live->lock);
    if (was_last)
        live->free(part);
}

void live_replace(struct live *live, struct live_part *part)
{
    part->holders = 1;
    (void)pthread_mutex_lock(&live->lock);
    struct live_part *old = live->now;
    live->now = part;
    (void)pthread_mutex_unlock(&live->lock);
    live_let_go(live, old);
}
