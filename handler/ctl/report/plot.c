#include "handler/ctl/report/plot.h"

/* System */
#include <inttypes.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"

/* The page */
#include "handler/ctl/report/html.h"

enum {
    COLUMNS_HEIGHT = 200, /* of the highest column, in pixels */
    COLUMNS_TOP = 18,     /* above them, for its number */
    TICK_BELOW = 18,      /* the base line of the dates below the axis */
    TICKS_MAX = 8,        /* dates along the axis; every other one is left out where it is narrow */
    NUMBERS_DAYS_MAX = 31,
    NUMBERS_MAX = 999, /* larger ones do not fit above a column */
    DAY_STEPS = 5,
    BAR_STEPS = 4
};

struct plot_scale plot_scale_of(uint64_t most, unsigned int steps)
{
    static const unsigned int factors[] = {1, 2, 5};
    uint64_t power = 1, step = 1;
    for (size_t i = 0; most / steps + (most % steps != 0) > step && power < UINT64_MAX / 100; i++) {
        if (i > 0 && i % 3 == 0)
            power *= 10;
        step = power * factors[i % 3];
    }
    uint64_t count = most / step + (most % step != 0);
    return (struct plot_scale){step, step * (count ? count : 1)};
}

static double part_of(uint64_t value, uint64_t of)
{
    return (double)value / (double)of;
}

/* --- leads per day ------------------------------------------------------------------------------------------- */

enum { CLASSES = 3 };
static const struct {
    const char *class;
    const char *legend;
    const char *words; /* for one day */
} PARTS[CLASSES] = {
    {"a", "first lead of a customer", "first of their customers"},
    {"b", "further leads of customers", "of customers known by then"},
    {"c", "customer not named", "name nobody"},
};

static void parts_of(const struct tally_day *day, uint64_t parts[CLASSES])
{
    parts[0] = day->first;
    parts[1] = day->further;
    parts[2] = day->nobody;
}

static uint64_t leads_of(const struct tally_day *day)
{
    return day->first + day->further + day->nobody;
}

static int64_t time_of_day(const struct tally_result *r, size_t day)
{
    return r->options.since_ms + (int64_t)day * CLOCK_DAY_MS;
}

static size_t busiest_day(const struct tally_result *r)
{
    size_t most = 0;
    for (size_t i = 1; i < r->options.days; i++) {
        if (leads_of(&r->days[i]) > leads_of(&r->days[most]))
            most = i;
    }
    return most;
}

static void add_legend(struct buf *out, const struct tally_result *r)
{
    uint64_t sums[CLASSES] = {0}, parts[CLASSES];
    for (size_t i = 0; i < r->options.days; i++) {
        parts_of(&r->days[i], parts);
        for (size_t k = 0; k < CLASSES; k++)
            sums[k] += parts[k];
    }
    buf_add_text(out, "<ul class=\"legend\">\n");
    for (size_t k = 0; k < CLASSES; k++) {
        if (sums[k] == 0)
            continue;
        buf_addf(out,
                 "<li><svg width=\"12\" height=\"12\" aria-hidden=\"true\" focusable=\"false\">"
                 "<rect class=\"%s\" width=\"12\" height=\"12\"/></svg> %s: ",
                 PARTS[k].class, PARTS[k].legend);
        html_add_count(out, sums[k]);
        buf_add_text(out, "</li>\n");
    }
    buf_add_text(out, "</ul>\n");
}

static void add_grid(struct buf *out, const struct plot_scale *scale)
{
    for (uint64_t value = 0; value <= scale->top; value += scale->step) {
        double y = COLUMNS_TOP + COLUMNS_HEIGHT * (1 - part_of(value, scale->top));
        buf_addf(out,
                 "<line class=\"%s\" x1=\"0\" x2=\"100%%\" y1=\"%.1f\" y2=\"%.1f\"/>"
                 "<text class=\"tick\" x=\"-8\" y=\"%.1f\" text-anchor=\"end\">",
                 value == 0 ? "axis" : "grid", y, y, y + 4);
        html_add_count(out, value);
        buf_add_text(out, "</text>\n");
    }
}

/* How many days lie between two dates along the axis. */
static size_t days_per_tick(size_t days)
{
    static const size_t choice[] = {1, 2, 7, 14, 28};
    size_t i = 0;
    while (i + 1 < sizeof choice / sizeof choice[0] && (days + choice[i] - 1) / choice[i] > TICKS_MAX)
        i++;
    size_t step = choice[i];
    while ((days + step - 1) / step > TICKS_MAX)
        step += choice[i];
    return step;
}

static void add_ticks(struct buf *out, const struct tally_result *r)
{
    size_t step = days_per_tick(r->options.days);
    double width = 100 / (double)r->options.days;
    for (size_t i = 0; i < r->options.days; i += step) {
        buf_addf(out, "<text class=\"tick%s\" x=\"%.3f%%\" y=\"%d\" text-anchor=\"middle\">",
                 i / step % 2 ? " wide" : "", ((double)i + 0.5) * width,
                 COLUMNS_TOP + COLUMNS_HEIGHT + TICK_BELOW);
        html_add_day(out, time_of_day(r, i), DAY_SHORT);
        buf_add_text(out, "</text>\n");
    }
}

static void add_column(struct buf *out, const struct tally_result *r, size_t i, uint64_t top, bool has_number)
{
    uint64_t parts[CLASSES], below = 0, all = leads_of(&r->days[i]);
    double slot = 100 / (double)r->options.days;
    if (all == 0)
        return;
    parts_of(&r->days[i], parts);
    buf_add_text(out, "<g><title>");
    html_add_day(out, time_of_day(r, i), DAY_OF_WEEK);
    buf_add_text(out, ": ");
    html_add_counted(out, all, "lead");
    for (size_t k = 0; k < CLASSES; k++) {
        if (parts[k]) {
            buf_add_text(out, ", ");
            html_add_count(out, parts[k]);
            buf_addf(out, " %s", PARTS[k].words);
        }
    }
    buf_add_text(out, "</title>");
    for (size_t k = 0; k < CLASSES; k++) {
        if (parts[k] == 0)
            continue;
        below += parts[k];
        buf_addf(out, "<rect class=\"%s\" x=\"%.3f%%\" width=\"%.3f%%\" y=\"%.2f\" height=\"%.2f\"/>",
                 PARTS[k].class, ((double)i + 0.12) * slot, 0.76 * slot,
                 COLUMNS_TOP + COLUMNS_HEIGHT * (1 - part_of(below, top)),
                 COLUMNS_HEIGHT * part_of(parts[k], top));
    }
    if (has_number) {
        buf_addf(out, "<text class=\"number wide\" x=\"%.3f%%\" y=\"%.1f\" text-anchor=\"middle\">",
                 ((double)i + 0.5) * slot, COLUMNS_TOP + COLUMNS_HEIGHT * (1 - part_of(all, top)) - 4);
        html_add_count(out, all);
        buf_add_text(out, "</text>");
    }
    buf_add_text(out, "</g>\n");
}

void plot_days(struct buf *out, const struct tally_result *r)
{
    size_t busiest = busiest_day(r);
    uint64_t most = leads_of(&r->days[busiest]);
    struct plot_scale scale = plot_scale_of(most, DAY_STEPS);
    bool has_numbers = r->options.days <= NUMBERS_DAYS_MAX && most <= NUMBERS_MAX;
    add_legend(out, r);
    buf_addf(out,
             "<svg class=\"columns\" role=\"img\" aria-labelledby=\"days-title days-text\" height=\"%d\">\n"
             "<title id=\"days-title\">Leads per day</title>\n<desc id=\"days-text\">Columns for ",
             COLUMNS_TOP + COLUMNS_HEIGHT + TICK_BELOW + 8);
    html_add_counted(out, r->options.days, "day");
    buf_add_text(out, " (UTC) from ");
    html_add_day(out, time_of_day(r, 0), DAY_WHOLE);
    buf_add_text(out, "; the most on ");
    html_add_day(out, time_of_day(r, busiest), DAY_WHOLE);
    buf_add_text(out, ": ");
    html_add_counted(out, most, "lead");
    buf_add_text(out, ". The numbers are in the table below.</desc>\n");
    buf_add_text(out, "<text class=\"tick\" x=\"-8\" y=\"7\" text-anchor=\"end\">leads</text>\n");
    add_grid(out, &scale);
    for (size_t i = 0; i < r->options.days; i++)
        add_column(out, r, i, scale.top, has_numbers);
    add_ticks(out, r);
    buf_add_text(out, "</svg>\n");
}

/* --- bars ---------------------------------------------------------------------------------------------------- */

void plot_bars_begin(struct plot_bars *bars, const char *caption, const char *heading, const char *what,
                     uint64_t most)
{
    bars->scale = plot_scale_of(most, BAR_STEPS);
    buf_addf(
        bars->out,
        "<table class=\"bars\"><caption class=\"unseen\">%s</caption>\n<thead><tr><th scope=\"col\">%s</th>"
        "<th scope=\"col\" colspan=\"2\">%s</th><th scope=\"col\" class=\"wide\">Share</th></tr></thead>\n<tbody>\n",
        caption, heading, what);
}

void plot_bar_begin(struct plot_bars *bars)
{
    buf_add_text(bars->out, "<tr><th scope=\"row\">");
}

/* The marks of the axis, along a bar or above their numbers. */
static void add_marks(struct plot_bars *bars, const char *class, unsigned int height)
{
    const struct plot_scale *scale = &bars->scale;
    for (uint64_t value = 0; value <= scale->top; value += scale->step) {
        double x = 100 * part_of(value, scale->top);
        buf_addf(bars->out, "<line class=\"%s\" x1=\"%.3f%%\" x2=\"%.3f%%\" y1=\"0\" y2=\"%u\"/>",
                 value ? class : "axis", x, x, height);
    }
}

void plot_bar_end(struct plot_bars *bars, uint64_t value, enum plot_bar how)
{
    struct buf *out = bars->out;
    buf_add_text(out, "</th><td class=\"bar\">");
    if (how == PLOT_BAR) {
        buf_add_text(out, "<svg height=\"22\" aria-hidden=\"true\" focusable=\"false\">");
        add_marks(bars, "grid", 22);
        buf_addf(out, "<rect class=\"a\" y=\"4\" height=\"14\" width=\"%.3f%%\"/></svg>",
                 100 * part_of(value, bars->scale.top));
    }
    buf_add_text(out, "</td><td>");
    html_add_count(out, value);
    buf_add_text(out, "</td><td class=\"wide\">");
    html_add_share(out, value, bars->total);
    buf_add_text(out, "</td></tr>\n");
}

void plot_bars_end(struct plot_bars *bars)
{
    struct buf *out = bars->out;
    buf_add_text(out, "</tbody>\n<tfoot><tr aria-hidden=\"true\"><td></td><td class=\"bar\">"
                      "<svg height=\"22\" focusable=\"false\">");
    add_marks(bars, "axis", 5);
    buf_add_text(out, "<line class=\"axis\" x1=\"0\" x2=\"100%\" y1=\"0\" y2=\"0\"/>"
                      "<text class=\"tick\" x=\"0\" y=\"18\">0</text>"
                      "<text class=\"tick\" x=\"100%\" y=\"18\" text-anchor=\"end\">");
    html_add_count(out, bars->scale.top);
    buf_add_text(out, "</text></svg></td><td></td><td class=\"wide\"></td></tr></tfoot></table>\n");
}
