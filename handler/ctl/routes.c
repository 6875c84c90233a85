/* What a lead would be is made by the same steps as a real one (lib/lead), so that the answer is that of the service.
 * An offer has a key and a title, and rules may name either; whoever asks gives one of them.  The other is in the
 * directory of offers as soon as a lead of the offer has come.
 */
#include "handler/ctl/ctl.h"

/* System */
#include <stdio.h>
#include <string.h>

/* L0 */
#include "lib/base/text.h"

/* L6 */
#include "lib/store/offers.h"

/* The commands */
#include "handler/ctl/commands.h"
#include "handler/ctl/print.h"

enum { DIRECTORY_WAIT_MS = 10000 };

/* What is asked for; a text that is NULL was not given. */
struct question {
    const char *offer; /* NULL: the list */
    const char *action;
    const char *country;
    const char *campaign;
    bool is_test;
};

/* --- printing ------------------------------------------------------------------------------------------------ */

static void add_recipients(struct buf *line, const struct span *recipients, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        buf_add_text(line, i > 0 ? ", " : "");
        text_add_line(line, recipients[i]);
    }
}

/* nobody: what stands for no recipients. */
static void add_route(struct buf *line, const struct route *route, const char *nobody)
{
    add_recipients(line, route->recipients, route->recipient_count);
    if (route->recipient_count == 0)
        buf_add_text(line, nobody);
}

static void add_others(struct buf *line, const struct config *config)
{
    add_recipients(line, config->recipients, config->recipient_count);
    buf_add_text(line, config->recipient_count > 0 ? " (mail_to)" : "nobody: mail_to is not set");
}

/* Prints what was put together, and forgets it. */
static enum status print_text(struct buf *text, struct fail *why)
{
    enum status status = buf_status(text, "the routes", why);
    if (status == ST_OK && (fwrite(text->data, 1, text->len, stdout) != text->len || fflush(stdout) != 0))
        status = fail_set(why, ST_IO, 0, "cannot write the routes");
    buf_release(text);
    return status;
}

static enum status print_list(const struct config *config, const struct routes *routes, struct fail *why)
{
    struct buf text = BUF_INIT(4 * LIMIT_ROUTES_FILE_BYTES);
    for (const struct route *r = routes_first(routes); r; r = r->next) {
        buf_addf(&text, "%6zu  ", r->line);
        text_add_line(&text, r->conditions);
        buf_add_text(&text, " -> ");
        add_route(&text, r, "off");
        buf_add_char(&text, '\n');
    }
    if (!routes_default(routes)) {
        buf_add_text(&text, routes_first(routes) ? "     -  all others -> " : "     -  all leads -> ");
        add_others(&text, config);
        buf_add_char(&text, '\n');
    }
    return print_text(&text, why);
}

static void add_word(struct buf *text, const char *name, struct span value)
{
    value = span_trim(value);
    buf_addf(text, "%s ", name);
    text_add_line(text, value.len ? value : SPAN_LIT("-"));
}

static enum status print_answer(const struct config *config, const struct lead *lead,
                                const struct route *route, struct fail *why)
{
    struct buf text = BUF_INIT(4 * LIMIT_ROUTES_FILE_BYTES);
    add_word(&text, "lead  offer", span_of(lead->partition));
    add_word(&text, ", title", lead->offer_title);
    add_word(&text, ", action", lead->action);
    add_word(&text, ", country", lead->customer.country);
    add_word(&text, ", campaign", lead->campaign);
    buf_addf(&text, ", test %s\n", lead->is_test ? "yes" : "no");
    if (route) {
        buf_addf(&text, "rule  %s:%zu: ", config->mail_routes, route->line);
        text_add_line(&text, route->conditions);
        buf_add_text(&text, "\ntold  ");
        add_route(&text, route, "nobody");
    } else {
        buf_addf(&text, "rule  %s\ntold  ", config->mail_routes ? "none matches" : "mail_routes is not set");
        add_others(&text, config);
    }
    buf_add_char(&text, '\n');
    return print_text(&text, why);
}

/* --- the lead that is asked for ------------------------------------------------------------------------------ */

static enum status make_lead(const struct question *q, struct arena *arena, struct lead *lead,
                             struct fail *why)
{
    static const unsigned char nobody[LEAD_RANDOM_BYTES];
    const struct span source[] = {SPAN_LIT("leadctl|"), span_of(q->offer)};
    struct payload payload = {
        .customer = {.country = span_of(q->country)},
        .lead_source = arena_join(arena, source, 2),
        .action_code = span_of(q->action),
    };
    if (!payload.lead_source.len)
        return fail_set(why, ST_NOMEM, 0, "no memory for a lead");
    enum status status = lead_normalize(&payload, span_empty(), span_empty(), arena, lead, why);
    if (status == ST_OK)
        status = lead_identify(lead, span_empty(), nobody, why);
    lead->campaign = span_of(q->campaign);
    lead->is_test = lead->is_test || q->is_test;
    return status;
}

struct search {
    struct span given; /* the offer's key or title */
    struct lead *lead; /* gets both */
    struct arena *arena;
    bool is_found;
};

static enum status visit_offer(void *context, struct entity *row, struct fail *why)
{
    struct search *s = context;
    struct offer offer = offer_of_row(row);
    bool has_key = span_eq(offer.partition, span_of(s->lead->partition));
    bool has_title = !s->is_found && span_eq_nocase(span_trim(offer.title), s->given);
    if ((!has_key && !has_title) || offer.partition.len >= sizeof s->lead->partition)
        return ST_OK;
    s->is_found = true;
    memcpy(s->lead->partition, offer.partition.ptr, offer.partition.len);
    s->lead->partition[offer.partition.len] = '\0';
    if (!arena_copy(s->arena, offer.title, &s->lead->offer_title))
        return fail_set(why, ST_NOMEM, 0, "no memory for an offer");
    return has_key ? fail_set(why, ST_EXISTS, 0, "found") : ST_OK;
}

/* Completes the offer out of the directory. */
static enum status look_up(struct service *service, struct search *search, struct fail *why)
{
    struct store *store = NULL;
    struct query q = offers_query();
    enum status status = service_open_store(service, &store, why);
    if (status != ST_OK)
        return status;
    status = store_each(store, &q, DIRECTORY_WAIT_MS, visit_offer, search, why);
    store_close(store);
    return status == ST_EXISTS || status == ST_NOT_FOUND ? ST_OK : status; /* no table yet: no offer either */
}

static int answer(struct service *service, const struct routes *routes, const struct question *question)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct lead lead = {0};
    struct search search = {.given = span_trim(span_of(question->offer)), .lead = &lead, .arena = &arena};
    struct fail why = {0};
    int code = 0;
    enum status status = make_lead(question, &arena, &lead, &why);
    enum status known = status == ST_OK ? look_up(service, &search, &why) : status;
    if (status == ST_OK && known != ST_OK) {
        (void)fprintf(stderr, "leadctl: the offer is taken as it was given, without its %s: %s\n",
                      lead.offer_title.len ? "key" : "title", why.text);
        code = ctl_exit_of(known);
    } else if (status == ST_OK && !search.is_found) {
        (void)fprintf(stderr, "leadctl: no lead of '%s' has come yet: only its %s is known\n",
                      question->offer, lead.offer_title.len ? "title" : "key");
    }
    if (status == ST_OK)
        status = print_answer(&service->config, &lead, routes_find(routes, &lead), &why);
    arena_release(&arena);
    return status == ST_OK ? code : ctl_failed(status, &why);
}

/* --- the command --------------------------------------------------------------------------------------------- */

static bool read_arguments(int argc, char **argv, struct question *q)
{
    const struct {
        const char *name;
        const char **value;
    } options[] = {{"--for", &q->offer},
                   {"--action", &q->action},
                   {"--country", &q->country},
                   {"--campaign", &q->campaign}};
    for (int i = 1; i < argc; i++) {
        size_t o = 0;
        while (o < sizeof options / sizeof *options && strcmp(argv[i], options[o].name) != 0)
            o++;
        if (strcmp(argv[i], "--test") == 0)
            q->is_test = true;
        else if (o < sizeof options / sizeof *options && i + 1 < argc)
            *options[o].value = argv[++i];
        else
            return false;
    }
    bool is_list = argc == 1;
    return is_list || (q->offer && span_trim(span_of(q->offer)).len > 0);
}

int ctl_routes(struct service *service, int argc, char **argv)
{
    struct question question = {0};
    struct fail why;
    if (!read_arguments(argc, argv, &question))
        return command_misused("routes", argc, argv, NULL);
    int code = service_read_routes(service, "leadctl");
    if (code != 0)
        return code;
    struct routes *routes = route_book_hold(service->routes);
    if (question.offer) {
        code = answer(service, routes, &question);
    } else {
        enum status status = print_list(&service->config, routes, &why);
        code = status == ST_OK ? 0 : ctl_failed(status, &why);
    }
    route_book_let_go(service->routes, routes);
    if (!service->config.mail_on)
        (void)fprintf(stderr, "leadctl: mail_url is 'off': nobody is told now, and mails wait\n");
    return code;
}
