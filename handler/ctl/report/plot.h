/* plot.h - the plots of a report: inline SVG that follows the width of its place.
 *
 * Along the width everything is in percent, so text keeps its size on a telephone
 * and in print.  Colours are classes of the page's style sheet.
 */
#ifndef LEAD_CTL_PLOT_H
#define LEAD_CTL_PLOT_H

#include "handler/ctl/report/tally.h"
#include "lib/base/buf.h"

/* An axis from 0 to top with a mark at every step; top is a multiple of step and not 0. */
struct plot_scale {
    uint64_t step;
    uint64_t top;
};

/* The least scale for values up to most with at most so many steps of 1, 2 or 5 times a power of ten. */
struct plot_scale plot_scale_of(uint64_t most, unsigned int steps);

/* Leads per day as columns, with a legend. */
void plot_days(struct buf *out, const struct tally_result *r);

/* Bars as a table with a row for each: label, bar, number and share of all. */
struct plot_bars {
    struct buf *out;
    struct plot_scale scale;
    uint64_t total; /* that the shares are of; not 0 */
};
/* heading: of the labels; what: of the numbers.  most: the greatest of the values. */
void plot_bars_begin(struct plot_bars *bars, const char *caption, const char *heading, const char *what,
                     uint64_t most);
/* A row begins; the caller appends the label. */
void plot_bar_begin(struct plot_bars *bars);
enum plot_bar { PLOT_BAR, PLOT_NUMBER_ONLY };
void plot_bar_end(struct plot_bars *bars, uint64_t value, enum plot_bar how);
void plot_bars_end(struct plot_bars *bars);

#endif
