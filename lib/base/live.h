/* live.h - something that is replaced while threads use it.
 *
 * It begins with a struct live_part and does not change once others may see it.
 * Who uses it holds it for that time; what was replaced is freed when the last
 * one lets go of it.
 * Threads: live_hold, live_let_go and live_replace may be called from any.
 */
#ifndef LEAD_LIVE_H
#define LEAD_LIVE_H

#include <pthread.h>
#include <stddef.h>

struct live_part {
    size_t holders; /* the struct live and who uses it; under its lock */
};

struct live {
    pthread_mutex_t lock;
    struct live_part *now;
    void (*free)(struct live_part *part);
};

/* Takes the first one over. */
void live_init(struct live *live, struct live_part *first, void (*free)(struct live_part *part));
void live_release(struct live *live); /* nobody holds anything any more */

/* The one of now; it stays until it is given back with live_let_go. */
struct live_part *live_hold(struct live *live);
void live_let_go(struct live *live, struct live_part *part);

/* From here on this one is held and no other.  Takes it over. */
void live_replace(struct live *live, struct live_part *part);

#endif
