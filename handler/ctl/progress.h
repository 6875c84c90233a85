/* progress.h - how far long work is: a bar with rate and time left, on a terminal only. */
#ifndef LEAD_CTL_PROGRESS_H
#define LEAD_CTL_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

#define PROGRESS_UNKNOWN (-1.0)

struct progress {
    bool is_shown; /* the standard error is a terminal */
    int64_t begin_ms;
    int64_t shown_ms; /* last; 0: not yet */
    double begin;     /* the part that was done before */
    bool has_begun;
};

void progress_begin(struct progress *progress);
/* So many are done now; done is which part of the whole that and all before is (0 to 1), or PROGRESS_UNKNOWN. */
void progress_show(struct progress *progress, uint64_t count, double done);
/* Takes it from the screen; to be called before anything else is written there. */
void progress_end(struct progress *progress);

#endif
