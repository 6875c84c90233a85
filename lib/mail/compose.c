/* The text and the HTML say the same, in the order in which a sales person needs
 * it: who, what they did, their own words, then the rest.  Both are made from
 * one list of lines, so they cannot differ.
 */
#include "lib/mail/compose.h"

/* System */
#include <stdio.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/json_read.h"
#include "lib/base/text.h"

/* L5 */
#include "lib/mail/mime.h"

enum { PARAMETERS_MAX = 32, EARLIER_WORDS_BYTES = 120 };

/* One body in the making, text or HTML. */
struct body {
    struct buf *out;
    bool html;
};

/* --- values -------------------------------------------------------------------------------------------------- */

static void add_escaped(struct body *b, uint32_t code)
{
    const char *entity = NULL;
    if (b->html) {
        entity = code == '&'    ? "&amp;"
                 : code == '<'  ? "&lt;"
                 : code == '>'  ? "&gt;"
                 : code == '"'  ? "&quot;"
                 : code == '\'' ? "&#39;"
                                : NULL;
    }
    if (entity)
        buf_add_text(b->out, entity);
    else
        utf8_add(b->out, code);
}

/* A value from outside: line ends stay line ends, what cannot be seen is shown
 * by its number.  The limit counts what is written, because one character may
 * become many. */
static void add_value_up_to(struct body *b, struct span value, size_t limit)
{
    size_t end = b->out->len + limit;
    while (value.len && b->out->len < end) {
        uint32_t code;
        size_t len = utf8_decode(value, &code);
        if (len == 0) { /* rows hold UTF-8; a damaged one shall still be told of */
            len = 1;
            code = 0xFFFD;
        }
        bool crlf = code == '\r' && value.len > 1 && value.ptr[1] == '\n';
        value = span_from(value, len);
        if (crlf)
            continue;
        if (code == '\n' || code == '\r' || code == 0x2028 || code == 0x2029 || code == 0x85)
            buf_add_text(b->out, b->html ? "<br>\n" : "\n");
        else if (code == '\t')
            buf_add_char(b->out, ' ');
        else if (is_control_code(code) || is_invisible_code(code))
            buf_addf(b->out, b->html ? "&lt;U+%04X&gt;" : "<U+%04X>", (unsigned int)code);
        else
            add_escaped(b, code);
    }
    if (value.len)
        buf_add_text(b->out, " [...] (cut here; the whole is in the store)");
}

static void add_value(struct body *b, struct span value)
{
    add_value_up_to(b, value, LIMIT_MAIL_FIELD_BYTES);
}

static void add_own(struct body *b, const char *text)
{
    struct span rest = span_of(text);
    while (rest.len) {
        uint32_t code;
        size_t len = utf8_decode(rest, &code);
        if (len == 0)
            break;
        add_escaped(b, code);
        rest = span_from(rest, len);
    }
}

/* --- layout -------------------------------------------------------------------------------------------------- */

static void begin_section(struct body *b, const char *title)
{
    if (b->html) {
        buf_add_text(b->out, "<h2 style=\"font-size:16px;margin:20px 0 6px\">");
        add_own(b, title);
        buf_add_text(b->out, "</h2>\n");
    } else {
        buf_addf(b->out, "\n%s\n", title);
    }
}

static void paragraph(struct body *b, const char *text)
{
    buf_add_text(b->out, b->html ? "<p style=\"margin:6px 0\">" : "");
    add_own(b, text);
    buf_add_text(b->out, b->html ? "</p>\n" : "\n\n");
}

static void begin_rows(struct body *b)
{
    if (b->html)
        buf_add_text(b->out, "<table role=\"presentation\" style=\"border-collapse:collapse\">\n");
}

static void end_rows(struct body *b)
{
    if (b->html)
        buf_add_text(b->out, "</table>\n");
}

/* "Label: value".  link is NULL or the scheme of a link whose target is the value itself, already validated. */
static void row_link(struct body *b, const char *label, struct span value, const char *link,
                     struct span target)
{
    if (span_trim(value).len == 0)
        return;
    if (b->html) {
        buf_add_text(b->out, "<tr><td style=\"padding:2px 16px 2px 0;vertical-align:top;opacity:.7\">");
        add_own(b, label);
        buf_add_text(b->out, "</td><td style=\"padding:2px 0;vertical-align:top;word-break:break-word\">");
        if (link) {
            buf_addf(b->out, "<a href=\"%s", link);
            add_value(b, target);
            buf_add_text(b->out, "\">");
        }
        add_value(b, value);
        buf_add_text(b->out, link ? "</a></td></tr>\n" : "</td></tr>\n");
    } else {
        buf_addf(b->out, "  %-10s ", label);
        add_value(b, value);
        buf_add_char(b->out, '\n');
    }
}

static void row(struct body *b, const char *label, struct span value)
{
    row_link(b, label, value, NULL, value);
}

static void row_time(struct body *b, const char *label, int64_t wall_ms)
{
    char iso[CLOCK_TEXT_BYTES], text[CLOCK_TEXT_BYTES];
    clock_iso_time(wall_ms, iso);
    (void)snprintf(text, sizeof text, "%.10s %.5s UTC", iso, iso + 11);
    row(b, label, span_of(text));
}

/* --- content ------------------------------------------------------------------------------------------------- */

/* What the person did, in words; codes are an open list. */
static struct span action_words(const struct lead *lead)
{
    static const struct {
        const char *code;
        const char *words;
    } words[] = {
        {"INS", "Get it now"},
        {"PLT", "Contact me"},
        {"DNC", "Asked another partner"},
        {"Create", "Created in the Azure portal"},
        {"StartTestDrive", "Test drive started"},
    };
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        if (span_eq(lead->action, span_of(words[i].code)))
            return span_of(words[i].words);
    }
    return lead->action.len ? lead->action : SPAN_LIT("Lead");
}

static struct span offer_name(const struct lead *lead)
{
    return span_trim(lead->offer_title).len ? lead->offer_title : span_of(lead->partition);
}

static void add_name(struct buf *out, const struct customer *c)
{
    buf_add(out, span_trim(c->first_name));
    if (span_trim(c->first_name).len && span_trim(c->last_name).len)
        buf_add_char(out, ' ');
    buf_add(out, span_trim(c->last_name));
}

static void add_subject(struct buf *out, const struct notification *n)
{
    const struct lead *lead = n->lead;
    struct buf text = BUF_INIT(LIMIT_MAIL_BYTES);
    if (lead->is_test)
        buf_add_text(&text, "[TEST] ");
    if (lead->do_not_contact)
        buf_add_text(&text, "[DO NOT CONTACT] ");
    if (n->reason == MAIL_CAME_BACK)
        buf_add_text(&text, "[CAME BACK] ");
    buf_add(&text, utf8_cut_bytes(action_words(lead), 40));
    buf_add_text(&text, ": ");
    buf_add(&text, utf8_cut_bytes(offer_name(lead), 120));
    if (n->detail == MAIL_FULL) {
        struct buf name = BUF_INIT(LIMIT_MAIL_BYTES);
        add_name(&name, &lead->customer);
        struct span who = span_trim(lead->customer.company);
        if (who.len == 0)
            who = name.len ? buf_span(&name) : span_trim(lead->customer.email);
        if (who.len) {
            buf_add_text(&text, ", ");
            buf_add(&text, utf8_cut_bytes(who, 120));
        }
        buf_release(&name);
    }
    if (text.error != ST_OK)
        out->error = out->error ? out->error : text.error;
    else
        mime_add_header_text(out, "Subject", buf_span(&text));
    buf_release(&text);
}

/* Digits, blanks, '+', '-', '.', '(' and ')' only: what a telephone can dial. */
static bool is_dialable(struct span phone)
{
    struct span allowed = SPAN_LIT("+0123456789 -.()");
    for (size_t i = 0; i < phone.len; i++) {
        if (span_find(allowed, phone.ptr[i]) == SPAN_NONE)
            return false;
    }
    return phone.len >= 3 && phone.len <= 40;
}

static void add_person(struct body *b, const struct lead *lead)
{
    const struct customer *c = &lead->customer;
    struct buf name = BUF_INIT(2 * LIMIT_MAIL_BYTES);
    add_name(&name, c);
    begin_rows(b);
    row(b, "Name", buf_span(&name));
    row(b, "Title", c->title);
    row(b, "Company", c->company);
    struct span email = span_trim(c->email);
    bool may_write = mail_address_is_safe(email) && !lead->do_not_contact;
    row_link(b, "E-mail", c->email, may_write ? "mailto:" : NULL, email);
    struct span phone = span_trim(c->phone);
    bool may_call = is_dialable(phone) && !lead->do_not_contact;
    if (may_call) {
        struct buf digits = BUF_INIT(64);
        for (size_t i = 0; i < phone.len; i++) {
            if (phone.ptr[i] == '+' || (phone.ptr[i] >= '0' && phone.ptr[i] <= '9'))
                buf_add_char(&digits, phone.ptr[i]);
        }
        row_link(b, "Phone", c->phone, "tel:", buf_span(&digits));
        buf_release(&digits);
    } else {
        row(b, "Phone", c->phone);
    }
    row(b, "Country", c->country);
    end_rows(b);
    buf_release(&name);
}

/* The person's words, or the parameters of the page's address when that is what came. */
static void add_description(struct body *b, struct span description)
{
    static const struct json_limits limits = {.depth = 1, .values = PARAMETERS_MAX};
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    const struct json *top;
    struct span trimmed = span_trim(description);
    if (trimmed.len == 0)
        return;
    bool parameters = trimmed.ptr[0] == '{' && json_read(trimmed, &limits, &arena, &top, NULL, NULL) == ST_OK;
    begin_section(b, parameters ? "How they came to the page" : "Their message");
    if (parameters) {
        begin_rows(b);
        for (const struct json *m = top->first; m; m = m->next) {
            struct buf label = BUF_INIT(256);
            text_add_line(&label, utf8_cut_bytes(m->name, 60));
            row(b, label.error == ST_OK && label.data ? label.data : "?", m->text);
            buf_release(&label);
        }
        end_rows(b);
    } else {
        buf_add_text(b->out, b->html ? "<p style=\"margin:6px 0\">" : "");
        add_value_up_to(b, trimmed, LIMIT_MAIL_TEXT_BYTES);
        buf_add_text(b->out, b->html ? "</p>\n" : "\n");
    }
    arena_release(&arena);
}

static void add_earlier(struct body *b, const struct notification *n)
{
    if (n->earlier_count == 0)
        return;
    begin_section(b, "Earlier leads of this person in this offer");
    begin_rows(b);
    for (size_t i = 0; i < n->earlier_count; i++) {
        const struct earlier_lead *e = &n->earlier[i];
        struct lead shown = {.action = e->action};
        struct buf line = BUF_INIT(LIMIT_MAIL_FIELD_BYTES);
        char day[CLOCK_TEXT_BYTES];
        clock_iso_time(e->received_ms, day);
        day[10] = '\0';
        buf_add(&line, utf8_cut_bytes(action_words(&shown), 60));
        if (span_trim(e->description).len) {
            buf_add_text(&line, ": ");
            text_add_line(&line, utf8_cut_bytes(span_trim(e->description), EARLIER_WORDS_BYTES));
        }
        row(b, day, buf_span(&line));
        buf_release(&line);
    }
    end_rows(b);
}

static void add_notices(struct body *b, const struct notification *n)
{
    if (n->lead->is_test)
        paragraph(b, "This is a test lead sent by Microsoft's marketplace or by yourself, not a customer.");
    if (n->lead->do_not_contact)
        paragraph(
            b, "Do not contact this customer. They asked another partner; this lead is for your information "
               "only.");
    if (n->reason == MAIL_CAME_BACK) {
        char text[120];
        (void)snprintf(text, sizeof text,
                       "This customer came back: the same lead has now been received %d times.",
                       (int)n->deliveries);
        paragraph(b, text);
    }
    if (n->lead->withheld)
        paragraph(b, "The personal data of this lead is withheld for the domain of its e-mail address.");
}

static void add_about(struct body *b, const struct notification *n)
{
    const struct lead *lead = n->lead;
    begin_section(b, "About this lead");
    begin_rows(b);
    row(b, "Offer", offer_name(lead));
    row(b, "Offer key", span_of(lead->partition));
    row(b, "Action", action_words(lead));
    row(b, "Source", lead->source);
    if (n->detail == MAIL_FULL)
        row(b, "Campaign", lead->campaign);
    row_time(b, "Received", n->received_ms);
    if (n->first_received_ms != n->received_ms)
        row_time(b, "First seen", n->first_received_ms);
    row(b, "Lead id", n->delivery_id);
    end_rows(b);
}

static void add_body(struct buf *out, bool html, const struct notification *n)
{
    struct body b = {.out = out, .html = html};
    if (html)
        buf_add_text(out,
                     "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                     "<meta name=\"color-scheme\" content=\"light dark\">"
                     "<meta name=\"viewport\" content=\"width=device-width\"><title>Lead</title></head>\n"
                     "<body style=\"font:15px/1.45 system-ui,-apple-system,'Segoe UI',sans-serif;"
                     "margin:16px;max-width:640px\">\n");
    add_notices(&b, n);
    if (n->detail == MAIL_FULL) {
        add_person(&b, n->lead);
        add_description(&b, n->lead->description);
    } else {
        paragraph(&b, "A lead has arrived. This mail holds no personal data; look the lead up by its id.");
    }
    add_about(&b, n);
    if (n->detail == MAIL_FULL)
        add_earlier(&b, n);
    if (html)
        buf_add_text(out, "</body></html>\n");
}

/* --- the message --------------------------------------------------------------------------------------------- */

static void add_part(struct buf *out, const char *type, const char *boundary, bool html,
                     const struct notification *n)
{
    struct buf body = BUF_INIT(LIMIT_MAIL_BYTES);
    add_body(&body, html, n);
    buf_addf(out,
             "--%s\r\nContent-Type: %s; charset=utf-8\r\n"
             "Content-Transfer-Encoding: quoted-printable\r\n\r\n",
             boundary, type);
    if (body.error != ST_OK)
        out->error = out->error ? out->error : body.error;
    else
        mime_add_quoted_printable(out,
                                  (struct span){body.data, body.len - 1}); /* its last line end is added */
    buf_release(&body);
}

enum status mail_compose(struct buf *out, const struct notification *n, struct fail *why)
{
    char date[CLOCK_TEXT_BYTES], boundary[80];
    struct span domain = mail_address_domain(n->from->address);
    struct span email = span_trim(n->lead->customer.email);
    struct mail_address to;
    enum status status = mail_address_parse(n->to, &to, why);
    if (status != ST_OK)
        return status;
    clock_mail_date(n->received_ms, date);
    /* "=_" occurs neither in quoted-printable nor in base64. */
    (void)snprintf(boundary, sizeof boundary, "=_%.*s",
                   SPAN_FMT(span_cut(n->delivery_id, 0, LEAD_DELIVERY_TEXT)));

    buf_addf(out, "Date: %s\r\nFrom: ", date);
    if (n->from->name.len) {
        mime_add_phrase(out, n->from->name, sizeof "From: " - 1);
        buf_add_text(out, "\r\n ");
    }
    buf_addf(out, "<%.*s>\r\nTo: <%.*s>\r\n", SPAN_FMT(n->from->address), SPAN_FMT(to.address));
    if (n->detail == MAIL_FULL && !n->lead->do_not_contact && mail_address_is_safe(email))
        buf_addf(out, "Reply-To:\r\n <%.*s>\r\n", SPAN_FMT(email));
    buf_addf(out, "Message-ID:\r\n <lead.%.*s.%u@%.*s>\r\n", SPAN_FMT(n->delivery_id), n->recipient_number,
             SPAN_FMT(domain));
    add_subject(out, n);
    buf_addf(out, "Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All\r\nX-Lead-ID: %.*s\r\n",
             SPAN_FMT(n->delivery_id));
    buf_addf(out, "MIME-Version: 1.0\r\nContent-Type: multipart/alternative;\r\n boundary=\"%s\"\r\n\r\n",
             boundary);
    add_part(out, "text/plain", boundary, false, n);
    add_part(out, "text/html", boundary, true, n);
    buf_addf(out, "--%s--\r\n", boundary);
    return buf_status(out, "the mail", why);
}
