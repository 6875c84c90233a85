/* An id is no key: the store is asked for the rows that have it, and gives no others. */
#include "handler/ctl/ctl.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/text.h"

/* L6 */
#include "lib/store/spool.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/find.h"
#include "handler/ctl/print.h"
#include "handler/ctl/screen.h"

enum { PAGE_WAIT_MS = 60000, PAGE_ROWS = 32, LINE_BYTES = 64 * 1024, LABEL_COLUMNS = 14 };
/* Without the finished message of a mail. */
#define MAIL_COLUMNS                                                                                         \
    "PartitionKey,RowKey,Timestamp,Recipient,State,CameBack,ReceivedTime,Tries,Ambiguous,NextTime,Error"

struct finding {
    struct arena arena;
    struct entity row;
    bool is_found;
};

static enum status take_lead(void *context, struct entity *row, struct fail *why)
{
    struct finding *f = context;
    if (f->is_found)
        return fail_set(why, ST_EXISTS, 0,
                        "several leads have an id that begins so: give more of its digits");
    f->is_found = true;
    return entity_copy(row, &f->arena, &f->row) ? ST_OK : fail_set(why, ST_NOMEM, 0, "no memory for a lead");
}

static enum status find_lead(struct store *store, const char *id, struct finding *f, struct fail *why)
{
    struct find_filter filter = {0};
    struct find find = {.store = store, .filter = &filter};
    (void)snprintf(filter.id, sizeof filter.id, "%s", id);
    enum status status = find_each(&find, take_lead, f, why);
    if (status == ST_OK && !f->is_found)
        status = fail_set(
            why, ST_NOT_FOUND, 0,
            "no lead has an id that begins so; `leadctl quarantine list` and `leadctl spool list` show "
            "what is not among the leads");
    return status;
}

/* Calls visit with the rows of the lead's mails that are not sent; *count is how many there are. */
static enum status each_mail(struct store *store, const struct entity *lead, store_visit *visit,
                             void *context, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_SECRET_FILE_BYTES);
    struct span prefix = mail_prefix_of_lead(lead->row_key, &arena);
    struct query q = {.table = TABLE_LEADS,
                      .partition_key = lead->partition_key,
                      .from = prefix,
                      .to = key_after_prefix(prefix, &arena),
                      .select = MAIL_COLUMNS,
                      .limit = PAGE_ROWS};
    enum status status = q.to.len ? store_each(store, &q, PAGE_WAIT_MS, visit, context, why)
                                  : fail_set(why, ST_NOMEM, 0, "no memory to look for mails");
    arena_release(&arena);
    return status;
}

/* --- for people ---------------------------------------------------------------------------------------------- */

struct showing {
    struct screen screen;
    int64_t now_ms; /* by the store's clock */
    size_t mails;
};

/* Nothing where there is no value. */
static void print_text(const struct showing *s, const char *label, struct span text)
{
    struct buf line = BUF_INIT(3 * LIMIT_ENTITY_STORED_BYTES);
    text_add_line(&line, span_trim(text));
    if (line.len)
        (void)printf("%s%-*s%s%.*s\n", screen_style(&s->screen, STYLE_FAINT), LABEL_COLUMNS, label,
                     screen_style(&s->screen, STYLE_NORMAL), SPAN_FMT(buf_span(&line)));
    buf_release(&line);
}

static void print_time(const struct showing *s, const char *label, int64_t ms)
{
    char memory[CLOCK_TEXT_BYTES];
    struct buf text = BUF_FIXED(memory);
    if (ms == 0)
        return;
    ctl_add_time(&text, ms);
    buf_add_text(&text, " UTC");
    print_text(s, label, buf_span(&text));
}

static void print_head(const struct showing *s, const char *text)
{
    (void)printf("\n%s%s%s\n", screen_style(&s->screen, STYLE_HEAD), text,
                 screen_style(&s->screen, STYLE_NORMAL));
}

static void print_lead(const struct showing *s, const struct entity *row)
{
    struct deliveries d = row_deliveries(row);
    char count[32];
    print_text(s, "id", d.first_id);
    print_text(s, "offer", row->partition_key);
    print_text(s, "", entity_text(row, "OfferDisplayName"));
    print_text(s, "action", entity_text(row, "Action"));
    print_text(s, "source", entity_text(row, "Source"));
    print_text(s, "campaign", entity_text(row, "Campaign"));
    print_time(s, "received", d.first_ms);
    if (d.count > 1) {
        (void)snprintf(count, sizeof count, "%" PRId32 " times", d.count);
        print_text(s, "delivered", span_of(count));
        print_time(s, "last", d.last_ms);
        print_text(s, "last id", d.last_id);
    }
    print_text(s, "key", entity_text(row, "KeyName"));
    print_text(s, "webhook-id", entity_text(row, COLUMN_WEBHOOK_ID));
    print_text(s, "request", entity_text(row, COLUMN_REQUEST_ID));
    print_text(s, "last", entity_text(row, COLUMN_LAST_REQUEST_ID));
    print_text(s, "origin", entity_text(row, COLUMN_ORIGIN));
    if (entity_number(row, "IsTest", 0))
        print_text(s, "note", SPAN_LIT("a test lead"));
    if (entity_number(row, "DoNotContact", 0))
        print_text(s, "note", SPAN_LIT("the customer does not want to be contacted"));
    if (entity_number(row, "PersonalDataWithheld", 0))
        print_text(s, "note", SPAN_LIT("personal data was withheld (withhold_domains)"));
}

static void print_customer(const struct showing *s, const struct entity *row)
{
    static const char *const columns[][2] = {
        {"first name", "FirstName"}, {"last name", "LastName"}, {"e-mail", "Email"},   {"phone", "Phone"},
        {"company", "Company"},      {"title", "Title"},        {"country", "Country"}};
    struct span description = entity_text(row, "Description");
    print_head(s, "Customer");
    for (size_t i = 0; i < sizeof columns / sizeof columns[0]; i++)
        print_text(s, columns[i][0], entity_text(row, columns[i][1]));
    if (description.len) {
        print_head(s, "Description");
        ctl_print_text(description);
        (void)printf("\n");
    }
}

/* "waiting", and what there is to say of it. */
static void add_state(struct buf *line, const struct mail_row *mail, int64_t now_ms)
{
    static const char *const states[] = {
        [MAIL_STATE_WAITING] = "waits",
        [MAIL_STATE_CLAIMED] = "is about to be sent",
        [MAIL_STATE_SENDING] = "is being sent",
        [MAIL_STATE_PARKED] = "parked: nobody tries any more until `leadctl retry`",
    };
    buf_add_text(line, states[mail->state]);
    if (mail->state == MAIL_STATE_WAITING && mail->next_ms > now_ms) {
        buf_add_text(line, " until ");
        ctl_add_time(line, mail->next_ms);
        buf_add_text(line, " UTC");
    }
    if (mail->tries + mail->ambiguous > 0)
        buf_addf(line, ", %" PRId32 " tries failed", mail->tries + mail->ambiguous);
}

static enum status print_mail(void *context, struct entity *row, struct fail *why)
{
    struct showing *s = context;
    char memory[LINE_BYTES];
    struct buf line = BUF_FIXED(memory);
    struct mail_row mail;
    (void)why;
    if (mail_of_row(row, &mail, NULL) != ST_OK)
        return ST_OK; /* somebody else's */
    s->mails++;
    text_add_line(&line, mail.recipient);
    buf_add_char(&line, ' ');
    add_state(&line, &mail, s->now_ms);
    (void)printf("%s%.*s%s\n",
                 screen_style(&s->screen, mail.state == MAIL_STATE_PARKED ? STYLE_WARNING : STYLE_NORMAL),
                 SPAN_FMT(buf_span(&line)), screen_style(&s->screen, STYLE_NORMAL));
    if (mail.error.len > 1) /* "-" is none */
        print_text(s, "", mail.error);
    return ST_OK;
}

static enum status print_mails(struct store *store, struct showing *s, const struct entity *row,
                               struct fail *why)
{
    int64_t sent_ms = entity_number(row, COLUMN_NOTIFIED_TIME, 0);
    print_head(s, "Mails");
    print_time(s, "last sent", sent_ms);
    enum status status = each_mail(store, row, print_mail, s, why);
    if (status == ST_OK && s->mails == 0)
        (void)printf("%s\n",
                     sent_ms ? "none waits" : "none was made, as mail was off or the lead was imported");
    return status;
}

static enum status print_payload(const struct showing *s, const struct entity *row, struct fail *why)
{
    struct buf payload = BUF_INIT(LIMIT_ENTITY_STORED_BYTES);
    enum status status =
        entity_find(row, "Payload") ? entity_long_value(row, "Payload", &payload, why) : ST_OK;
    if (status == ST_OK && payload.len) {
        print_head(s, "Payload, as it came");
        ctl_print_text(buf_span(&payload));
        (void)printf("\n");
    }
    buf_release(&payload);
    return status;
}

static enum status show_text(struct store *store, const struct entity *row, struct fail *why)
{
    struct showing s = {.now_ms = store_now_ms(store)};
    struct fail closing;
    screen_open(&s.screen, SCREEN_PAGED);
    print_lead(&s, row);
    print_customer(&s, row);
    enum status status = print_mails(store, &s, row, why);
    if (status == ST_OK)
        status = print_payload(&s, row, why);
    enum status closed = screen_close(&s.screen, "the lead", status == ST_OK ? why : &closing);
    return status == ST_OK ? closed : status;
}

/* --- for programs -------------------------------------------------------------------------------------------- */

static enum status add_mail(void *context, struct entity *row, struct fail *why)
{
    struct json_writer *w = context;
    (void)why;
    json_open(w, span_from(row->row_key, sizeof MAIL_KEY_FIRST - 1 + LEAD_ROW_KEY_TEXT + 1));
    for (size_t i = 0; i < row->count; i++) {
        if (!span_starts(row->properties[i].name, SPAN_LIT("Message")))
            ctl_add_property(w, &row->properties[i]);
    }
    json_close(w);
    return ST_OK;
}

static enum status show_json(struct store *store, const struct entity *row, struct fail *why)
{
    struct buf line = BUF_INIT(2 * LIMIT_ENTITY_JSON_BYTES);
    struct json_writer w;
    json_begin(&w, &line);
    ctl_add_row(&w, row);
    json_open(&w, SPAN_LIT("Mails"));
    enum status status = each_mail(store, row, add_mail, &w, why);
    json_close(&w);
    if (status == ST_OK)
        status = json_end(&w, "the lead", why);
    if (status == ST_OK) {
        buf_add_char(&line, '\n');
        ctl_print_json(buf_span(&line));
        struct screen screen;
        screen_open(&screen, SCREEN_PLAIN);
        status = screen_close(&screen, "the lead", why);
    }
    buf_release(&line);
    return status;
}

/* --- the command --------------------------------------------------------------------------------------------- */

static bool read_arguments(int argc, char **argv, const char **id, bool *json)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0)
            *json = true;
        else if (argv[i][0] != '-' && !*id)
            *id = argv[i];
        else
            return false;
    }
    return *id != NULL;
}

int ctl_show(struct service *service, int argc, char **argv)
{
    struct finding finding = {.arena = ARENA_INIT(LIMIT_FOUND_BYTES)};
    struct store *store = NULL;
    char digits[LEAD_DELIVERY_TEXT + 1];
    const char *id = NULL;
    bool json = false;
    struct fail why;
    if (!read_arguments(argc, argv, &id, &json))
        return command_misused("show", argc, argv, NULL);
    enum status status = delivery_id_given(span_of(id), digits, &why);
    if (status == ST_OK)
        status = service_open_store(service, &store, &why);
    if (status == ST_OK)
        status = find_lead(store, digits, &finding, &why);
    if (status == ST_OK)
        status = json ? show_json(store, &finding.row, &why) : show_text(store, &finding.row, &why);
    store_close(store);
    arena_release(&finding.arena);
    return status == ST_OK ? 0 : ctl_failed(status, &why);
}
