#include "handler/ctl/progress.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"

/* The whole line is at most 72 columns wide. */
enum { BAR_CELLS = 24, SHOW_EVERY_MS = 200, RATE_AFTER_MS = 1000, TIME_TEXT = 32 };

void progress_begin(struct progress *progress)
{
    *progress = (struct progress){.is_shown = isatty(STDERR_FILENO) != 0, .begin_ms = clock_monotonic_ms()};
}

/* Words for a time: "3 min". */
static void write_time(int64_t seconds, char text[TIME_TEXT])
{
    int64_t minutes = (seconds + 30) / 60;
    if (seconds < 60)
        (void)snprintf(text, TIME_TEXT, "%" PRId64 " s", seconds);
    else if (minutes < 60)
        (void)snprintf(text, TIME_TEXT, "%" PRId64 " min", minutes);
    else if (minutes < 100 * 60)
        (void)snprintf(text, TIME_TEXT, "%" PRId64 " h %" PRId64 " min", minutes / 60, minutes % 60);
    else
        (void)snprintf(text, TIME_TEXT, "days");
}

static void show_bar(double done)
{
    int full = (int)(done * BAR_CELLS);
    (void)fputc('[', stderr);
    for (int i = 0; i < BAR_CELLS; i++)
        (void)fputc(i < full ? '#' : '.', stderr);
    (void)fprintf(stderr, "] %3d %%  ", (int)(done * 100));
}

void progress_show(struct progress *progress, uint64_t count, double done)
{
    struct progress *p = progress;
    char left[TIME_TEXT];
    if (!p->is_shown)
        return;
    int64_t now_ms = clock_monotonic_ms();
    if (done >= 0 && !p->has_begun)
        p->begin = done;
    p->has_begun = p->has_begun || done >= 0;
    if (p->shown_ms && now_ms - p->shown_ms < SHOW_EVERY_MS)
        return;
    p->shown_ms = now_ms;
    int64_t spent_ms = now_ms - p->begin_ms;
    (void)fprintf(stderr, "\r\033[K");
    if (done >= 0)
        show_bar(done > 1 ? 1 : done);
    (void)fprintf(stderr, "%" PRIu64, count);
    if (spent_ms >= RATE_AFTER_MS)
        (void)fprintf(stderr, "  %.0f/s", (double)count * 1000 / (double)spent_ms);
    if (spent_ms >= RATE_AFTER_MS && done > p->begin && done <= 1) {
        write_time((int64_t)((double)spent_ms / 1000 * (1 - done) / (done - p->begin)), left);
        (void)fprintf(stderr, "  about %s left", left);
    }
    (void)fflush(stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->shown_ms)
        (void)fprintf(stderr, "\r\033[K");
    progress->shown_ms = 0;
}
