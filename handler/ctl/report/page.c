/* The page reads from top to bottom: how many, when, of what kind, how quickly, who.  Everything has its number in
 * text, and plots are drawn beside it, so that it can be read aloud, copied and printed.
 *
 * The policy in it is for the day on which an escape is forgotten: no script, no request, no style but ours.
 */
#include "handler/ctl/report/page.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"
#include "lib/base/text.h"

/* L1 */
#include "lib/lead/lead.h"

/* The page */
#include "handler/ctl/report/html.h"
#include "handler/ctl/report/plot.h"

enum {
    ROWS_MAX = 20,   /* of a group, the rest in one row */
    LABEL_BYTES = 80 /* of a bar, and of an offer in the tables; what is longer ends in "..." */
};

/* --- the beginning ------------------------------------------------------------------------------------------- */

static int64_t last_day_ms(const struct tally_result *r)
{
    return r->options.since_ms + ((int64_t)r->options.days - 1) * CLOCK_DAY_MS;
}

static void add_period(struct buf *out, const struct tally_result *r)
{
    html_add_day(out, r->options.since_ms, DAY_WHOLE);
    if (r->options.days > 1) {
        buf_add_text(out, " to ");
        html_add_day(out, last_day_ms(r), DAY_WHOLE);
    }
}

void report_title(struct buf *out, const struct tally_result *r)
{
    buf_add_text(out, "Customer leads, ");
    add_period(out, r);
}

static enum status add_head(struct buf *out, const struct tally_result *r, struct fail *why)
{
    unsigned char digest[SHA256_BYTES];
    enum status status = crypto_sha256(span_of(REPORT_STYLE), digest, why);
    if (status != ST_OK)
        return status;
    buf_add_text(
        out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
             "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'sha256-");
    base64_add(out, (struct span){(const char *)digest, sizeof digest});
    buf_add_text(out, "'; base-uri 'none'; form-action 'none'\">\n"
                      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
                      "<meta name=\"color-scheme\" content=\"light dark\">\n"
                      "<meta name=\"referrer\" content=\"no-referrer\">\n"
                      "<meta name=\"robots\" content=\"noindex\">\n<title>");
    report_title(out, r);
    buf_addf(out, "</title>\n<style>%s</style>\n</head>\n<body>\n<main>\n", REPORT_STYLE);
    return ST_OK;
}

static void begin_tile(struct buf *out, const char *name)
{
    buf_addf(out, "<div><dt>%s</dt><dd>", name);
}

/* more: a line below the number; blank: none. */
static void end_tile(struct buf *out, struct span more)
{
    buf_add_text(out, "</dd>");
    if (more.len) {
        buf_add_text(out, "<dd class=\"more\">");
        buf_add(out, more);
        buf_add_text(out, "</dd>");
    }
    buf_add_text(out, "</div>\n");
}

static void add_tile(struct buf *out, const char *name, uint64_t count, const char *more)
{
    begin_tile(out, name);
    html_add_count(out, count);
    end_tile(out, span_of(more));
}

static void add_left_out(struct buf *out, const struct tally_result *r)
{
    char memory[96];
    struct buf more = BUF_FIXED(memory);
    html_add_count(&more, r->test);
    buf_add_text(&more, " test, ");
    html_add_count(&more, r->do_not_contact);
    buf_add_text(&more, " do not contact");
    begin_tile(out, "Left out here");
    html_add_count(out, r->test + r->do_not_contact);
    end_tile(out, buf_span(&more));
}

static void add_per_day(struct buf *out, const struct tally_result *r)
{
    char memory[64];
    struct buf more = BUF_FIXED(memory);
    uint64_t days = r->options.days, tenths = (10 * r->leads + days / 2) / days;
    if (r->leads > 0 && 2 * r->leads < days) { /* not "0.0 a day" */
        buf_addf(&more, "one in %" PRIu64 " days", (days + r->leads / 2) / r->leads);
    } else {
        html_add_count(&more, tenths / 10);
        buf_addf(&more, ".%u a day", (unsigned int)(tenths % 10));
    }
    begin_tile(out, "Leads");
    html_add_count(out, r->leads);
    end_tile(out, buf_span(&more));
}

static void add_summary(struct buf *out, const struct tally_result *r, int64_t made_ms)
{
    buf_add_text(out, "<header>\n<h1>Customer leads</h1>\n<p class=\"soft\">");
    add_period(out, r);
    buf_add_text(out, ", ");
    html_add_counted(out, r->options.days, "day");
    buf_add_text(out, "; a day is a UTC day. Counted ");
    html_add_day(out, made_ms, DAY_AND_MINUTE);
    buf_add_text(out, " UTC.</p>\n</header>\n<dl class=\"tiles\">\n");
    add_per_day(out, r);
    add_tile(out, "New customers", r->new_customers, "their first lead");
    add_tile(out, "Returning customers", r->returning_customers, "had a lead before these days");
    add_left_out(out, r);
    buf_add_text(out, "</dl>\n");
}

/* --- by day -------------------------------------------------------------------------------------------------- */

static void add_day_row(struct buf *out, const struct tally_result *r, size_t i)
{
    const struct tally_day *day = &r->days[i];
    const uint64_t numbers[] = {day->first + day->further + day->nobody, day->first, day->further,
                                day->nobody};
    buf_add_text(out, "<tr><th scope=\"row\">");
    html_add_day(out, r->options.since_ms + (int64_t)i * CLOCK_DAY_MS, DAY_OF_WEEK);
    buf_add_text(out, "</th>");
    for (size_t k = 0; k < sizeof numbers / sizeof numbers[0]; k++) {
        buf_add_text(out, "<td>");
        html_add_count(out, numbers[k]);
        buf_add_text(out, "</td>");
    }
    buf_add_text(out, "</tr>\n");
}

static void add_days(struct buf *out, const struct tally_result *r)
{
    buf_add_text(out, "<section aria-labelledby=\"days\">\n<h2 id=\"days\">Leads per day</h2>\n");
    plot_days(out, r);
    buf_add_text(out,
                 "<details><summary>The numbers of each day</summary>\n"
                 "<table class=\"days\"><caption>Leads per day (UTC)</caption>\n<thead><tr>"
                 "<th scope=\"col\">Day</th><th scope=\"col\">Leads</th><th scope=\"col\">First</th>"
                 "<th scope=\"col\">Further</th><th scope=\"col\">Not named</th></tr></thead>\n<tbody>\n");
    for (size_t i = 0; i < r->options.days; i++)
        add_day_row(out, r, i);
    buf_add_text(out, "</tbody></table></details>\n</section>\n");
}

/* --- by kind ------------------------------------------------------------------------------------------------- */

static const struct {
    const char *id;
    const char *title;
    const char *caption;
    const char *heading;
    const char *one_more;
    const char *more;
    const char *none; /* when no lead says */
} KINDS[TALLY_GROUPS] = {
    [TALLY_OFFER] = {"offers", "By offer", "Leads by offer", "Offer", "1 more offer", "more offers", ""},
    [TALLY_ACTION] = {"actions", "By action", "Leads by action", "Action", "1 more action", "more actions",
                      "None of these leads says what was asked for."},
    [TALLY_COUNTRY] = {"countries", "By country", "Leads by country", "Country", "1 more country",
                       "more countries", "None of these leads names a country."},
    [TALLY_SOURCE] = {"sources", "By source", "Leads by source", "Source", "1 more source", "more sources",
                      "None of these leads names a source."},
    [TALLY_CAMPAIGN] = {"campaigns", "By campaign", "Leads by campaign", "Campaign", "1 more campaign",
                        "more campaigns",
                        "None of these leads names a campaign (mktcmpid in the address of a page)."},
};

static void add_short(struct buf *out, struct span text)
{
    html_add_outside(out, utf8_cut_bytes(text, LABEL_BYTES));
    buf_add_text(out, text.len > LABEL_BYTES ? "..." : "");
}

/* What a person calls it, with the key below; or the key alone. */
static void add_label(struct buf *out, enum tally_by by, const struct tally_count *count)
{
    struct span words = by == TALLY_ACTION ? lead_action_words(count->key) : count->title;
    if (words.len) {
        add_short(out, words);
        buf_add_text(out, " <small>");
    }
    add_short(out, count->key);
    buf_add_text(out, words.len ? "</small>" : "");
}

static void add_rest(struct plot_bars *bars, uint64_t leads, const char *label)
{
    plot_bar_begin(bars);
    buf_addf(bars->out, "<span class=\"soft\">%s</span>", label);
    plot_bar_end(bars, leads, PLOT_NUMBER_ONLY);
}

/* The row for what is not shown.  others: leads whose keys nobody counted. */
static void add_more(struct plot_bars *bars, enum tally_by by, size_t left, uint64_t leads, uint64_t others)
{
    char memory[64];
    struct buf label = BUF_FIXED(memory);
    if (leads + others == 0)
        return;
    if (others) {
        buf_add_text(&label, "all others");
    } else if (left == 1) {
        buf_add_text(&label, KINDS[by].one_more);
    } else {
        html_add_count(&label, left);
        buf_addf(&label, " %s", KINDS[by].more);
    }
    add_rest(bars, leads + others, memory);
}

static void add_group(struct buf *out, const struct tally_result *r, enum tally_by by)
{
    const struct tally_group *g = &r->groups[by];
    struct plot_bars bars = {.out = out, .total = r->leads};
    size_t shown = 0, left = 0;
    uint64_t not_told = 0, more = 0;
    buf_addf(out, "<section aria-labelledby=\"%s\">\n<h3 id=\"%s\">%s</h3>\n", KINDS[by].id, KINDS[by].id,
             KINDS[by].title);
    for (size_t i = 0; i < g->count; i++) {
        const struct tally_count *count = &g->counts[i];
        if (count->key.len == 0) {
            not_told = count->leads;
        } else if (shown == ROWS_MAX) {
            left++;
            more += count->leads;
        } else {
            if (shown++ == 0)
                plot_bars_begin(&bars, KINDS[by].caption, KINDS[by].heading, "Leads", count->leads);
            plot_bar_begin(&bars);
            add_label(out, by, count);
            plot_bar_end(&bars, count->leads, PLOT_BAR);
        }
    }
    if (shown == 0) {
        buf_addf(out, "<p class=\"soft\">%s</p>\n", KINDS[by].none);
    } else {
        add_more(&bars, by, left, more, g->others);
        if (not_told)
            add_rest(&bars, not_told, "not told");
        plot_bars_end(&bars);
    }
    buf_add_text(out, "</section>\n");
}

static void add_groups(struct buf *out, const struct tally_result *r)
{
    buf_add_text(
        out, "<section aria-labelledby=\"kinds\">\n<h2 id=\"kinds\">What was asked for, and from where</h2>\n"
             "<div class=\"groups\">\n");
    for (size_t by = 0; by < TALLY_GROUPS; by++)
        add_group(out, r, (enum tally_by)by);
    buf_add_text(out, "</div>\n</section>\n");
}

/* --- mail ---------------------------------------------------------------------------------------------------- */

static void add_time_tile(struct buf *out, const char *name, int64_t ms, const char *more)
{
    begin_tile(out, name);
    html_add_duration(out, ms);
    end_tile(out, span_of(more));
}

static void add_speed(struct buf *out, const struct tally_result *r)
{
    static const char *const labels[TALLY_SPEEDS] = {"up to 10 s",   "up to 1 min", "up to 5 min",
                                                     "up to 1 hour", "up to 1 day", "longer"};
    const struct tally_mail *mail = &r->mail;
    struct plot_bars bars = {.out = out, .total = r->leads};
    uint64_t most = 0;
    for (size_t i = 0; i < TALLY_SPEEDS; i++)
        most = mail->within[i] > most ? mail->within[i] : most;
    plot_bars_begin(&bars, "Leads by the time until they were mailed", "Mailed after", "Leads", most);
    for (size_t i = 0; i < TALLY_SPEEDS; i++) {
        plot_bar_begin(&bars);
        buf_add_text(out, labels[i]);
        plot_bar_end(&bars, mail->within[i], PLOT_BAR);
    }
    if (mail->again)
        add_rest(&bars, mail->again, "not known: came again later");
    if (mail->waiting)
        add_rest(&bars, mail->waiting, "not mailed yet");
    plot_bars_end(&bars);
}

static void add_mail(struct buf *out, const struct tally_result *r)
{
    const struct tally_mail *mail = &r->mail;
    buf_add_text(out,
                 "<section aria-labelledby=\"mail\">\n<h2 id=\"mail\">How quickly they were mailed</h2>\n");
    if (mail->times.count == 0) {
        buf_add_text(out, mail->again ? "<p>Of none of these leads the time of the first mail is known.</p>\n"
                                      : "<p>None of these leads has been mailed.</p>\n");
    } else {
        buf_add_text(out,
                     "<p class=\"soft\">From a lead's receipt until the mail server had taken the last mail "
                     "about it.</p>\n");
        add_speed(out, r);
        buf_add_text(out, "<dl class=\"tiles\">\n");
        add_time_tile(out, "Median", quantile_of(&mail->times, 50), "half were mailed within that");
        add_time_tile(out, "90 %", quantile_of(&mail->times, 90), "nine of ten within that");
        add_time_tile(out, "Slowest", mail->times.most_ms, NULL);
        buf_add_text(out, "</dl>\n");
    }
    buf_add_text(out, "</section>\n");
}

/* --- the newest ---------------------------------------------------------------------------------------------- */

/* A line of its own with what there is of the two. */
static void add_line(struct buf *out, struct span one, struct span other)
{
    if (one.len + other.len == 0)
        return;
    buf_add_text(out, "<small>");
    if (one.len)
        html_add_outside(out, one);
    buf_add_text(out, one.len && other.len ? ", " : "");
    if (other.len)
        html_add_outside(out, other);
    buf_add_text(out, "</small>");
}

static void add_customer(struct buf *out, const struct tally_lead *lead)
{
    struct span first = lead->fields[FIELD_FIRST_NAME], last = lead->fields[FIELD_LAST_NAME];
    if (first.len || last.len) {
        buf_add_text(out, "<b><bdi>");
        html_add_text(out, first);
        buf_add_text(out, first.len && last.len ? " " : "");
        html_add_text(out, last);
        buf_add_text(out, "</bdi></b>");
    } else {
        buf_add_text(out, lead->withheld ? "<b>name withheld</b>" : "<b>no name</b>");
    }
    add_line(out, lead->fields[FIELD_POSITION], lead->fields[FIELD_COMPANY]);
    add_line(out, lead->fields[FIELD_EMAIL], lead->fields[FIELD_PHONE]);
}

static void add_what(struct buf *out, const struct tally_lead *lead)
{
    struct span title = lead->fields[FIELD_TITLE], action = lead->fields[FIELD_ACTION];
    /* Whole, in fifty rows, it would fill pages. */
    add_short(out, title.len ? title : lead->fields[FIELD_OFFER]);
    if (action.len) {
        buf_add_text(out, "<small>");
        if (lead_action_words(action).len)
            buf_add(out, lead_action_words(action));
        else
            html_add_outside(out, action);
        buf_add_text(out, "</small>");
    }
}

static void add_where(struct buf *out, const struct tally_lead *lead)
{
    html_add_outside(out, lead->fields[FIELD_COUNTRY]);
    add_line(out, lead->fields[FIELD_SOURCE], lead->fields[FIELD_CAMPAIGN]);
}

static void add_received(struct buf *out, const struct tally_lead *lead)
{
    html_add_day(out, lead->received_ms, DAY_AND_MINUTE);
}

static void add_id(struct buf *out, const struct tally_lead *lead)
{
    html_add_outside(out, lead->fields[FIELD_DELIVERY_ID]);
}

static void add_mailed(struct buf *out, const struct tally_lead *lead)
{
    if (lead->mailed_ms == 0) {
        buf_add_text(out, "not mailed yet");
    } else if (lead->came_again) {
        buf_add_text(out, "came again");
    } else {
        buf_add_text(out, "<span class=\"narrow\">mailed after </span>");
        html_add_duration(out, lead->mailed_ms - lead->received_ms);
    }
}

/* The columns of the two tables; class: of the style sheet, for their widths. */
enum { COLUMNS_MAX = 5 };
struct column {
    const char *heading;
    const char *class;
    void (*add)(struct buf *out, const struct tally_lead *lead);
};
static const struct column COLUMNS[][COLUMNS_MAX] = {
    [TALLY_WHOLE] = {{"Received (UTC)", "when", add_received},
                     {"Customer", "who", add_customer},
                     {"Offer and action", "what", add_what},
                     {"Country, source, campaign", "where", add_where},
                     {"Mailed after", "mail", add_mailed}},
    [TALLY_NOT_PERSONAL] = {{"Received (UTC)", "when", add_received},
                            {"Offer and action", "what", add_what},
                            {"Country, source, campaign", "where", add_where},
                            {"Mailed after", "mail", add_mailed},
                            {"Lead id", "id", add_id}},
};

/* The roles are those of the elements, which lose them where they are not laid out as a table. */
static void add_newest(struct buf *out, const struct tally_result *r)
{
    const struct column *columns = COLUMNS[r->options.details];
    buf_add_text(
        out, "<section class=\"leads\" aria-labelledby=\"newest\">\n<h2 id=\"newest\">The newest leads</h2>\n"
             "<table class=\"newest\" role=\"table\"><caption>");
    if (r->newest_count < r->leads) {
        buf_add_text(out, "The newest ");
        html_add_count(out, r->newest_count);
        buf_add_text(out, " of ");
        html_add_counted(out, r->leads, "lead");
    } else {
        buf_add_text(out, "All leads of these days");
    }
    buf_add_text(out, ", the last one first</caption>\n<thead role=\"rowgroup\"><tr role=\"row\">");
    for (size_t k = 0; k < COLUMNS_MAX; k++)
        buf_addf(out, "<th scope=\"col\" role=\"columnheader\" class=\"%s\">%s</th>", columns[k].class,
                 columns[k].heading);
    buf_add_text(out, "</tr></thead>\n<tbody role=\"rowgroup\">\n");
    for (size_t i = 0; i < r->newest_count; i++) {
        buf_add_text(out, "<tr role=\"row\">");
        for (size_t k = 0; k < COLUMNS_MAX; k++) {
            buf_addf(out, "<td role=\"cell\" class=\"%s\">", columns[k].class);
            columns[k].add(out, r->newest[i]);
            buf_add_text(out, "</td>");
        }
        buf_add_text(out, "</tr>\n");
    }
    buf_add_text(out, "</tbody></table>\n</section>\n");
}

/* --- the end ------------------------------------------------------------------------------------------------- */

static void add_notes(struct buf *out, const struct tally_result *r)
{
    buf_add_text(
        out,
        "<footer>\n<h2>How this is counted</h2>\n<ul>\n"
        "<li>A lead counts on the day on which it was received first, from 00:00 to 24:00 UTC. The same "
        "words of the same customer, sent again, are no further lead.</li>\n"
        "<li>Test leads, and leads of customers who asked another partner and must not be contacted, are "
        "left out of everything but their own numbers above.</li>\n"
        "<li>A customer is an e-mail address or, without one, a name with company and telephone number, "
        "over all offers. What is known of the time before these days is what is still kept.</li>\n"
        "<li>Countries, sources and campaigns are spelled as they came.</li>\n");
    if (r->mail.times.count)
        buf_add_text(out, "<li>Median and 90 % are right to a thousandth of their value.</li>\n");
    if (r->has_more_customers)
        buf_addf(
            out,
            "<li>There are more than %u customers; the leads of the others are counted as of customers not "
            "named.</li>\n",
            LIMIT_REPORT_CUSTOMERS);
    buf_add_text(out, "</ul>\n<p>");
    buf_add_text(
        out, r->options.details == TALLY_WHOLE && r->newest_count
                 ? "<strong>This file holds personal data of customers.</strong> Give it only to those who "
                   "need it, and delete it when it is no longer needed."
                 : "This file names no customers. What a customer wrote as country or campaign is in it.");
    buf_add_text(out, "</p>\n</footer>\n");
}

enum status report_page(struct buf *out, const struct tally_result *r, int64_t made_ms, struct fail *why)
{
    enum status status = add_head(out, r, why);
    if (status != ST_OK)
        return status;
    add_summary(out, r, made_ms);
    if (r->leads) {
        add_days(out, r);
        add_groups(out, r);
        add_mail(out, r);
        add_newest(out, r);
    } else {
        buf_add_text(
            out,
            "<section><h2>No leads</h2>\n<p>No lead was received in these days, or only such as are left "
            "out here.</p></section>\n");
    }
    add_notes(out, r);
    buf_add_text(out, "</main>\n</body>\n</html>\n");
    return buf_status(out, "the report", why);
}

void report_words(struct buf *out, const struct tally_result *r)
{
    const struct {
        const char *name;
        uint64_t count;
    } lines[] = {{"Leads", r->leads},
                 {"New customers", r->new_customers},
                 {"Returning customers", r->returning_customers},
                 {"Test leads, not counted above", r->test},
                 {"Not to be contacted, not counted above", r->do_not_contact}};
    report_title(out, r);
    buf_add_text(out, " (UTC)\n\n");
    for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++) {
        buf_addf(out, "  %-40s ", lines[i].name);
        html_add_count(out, lines[i].count);
        buf_add_char(out, '\n');
    }
    buf_add_text(out, "\nThe report is attached: open the file in a browser.\n");
    if (r->options.details == TALLY_WHOLE && r->newest_count)
        buf_add_text(out,
                     "It holds personal data of customers: delete this mail when it is no longer needed.\n");
}
