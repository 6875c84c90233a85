/* The text and the HTML say the same, in the order in which a sales person needs
 * it: what happened, who it was, their own words, then the rest.  Both come from
 * the same calls, so they cannot differ.
 *
 * Everything that came from outside passes add_value_up_to: bounded, escaped,
 * with what cannot be seen made visible, and in the text indented, so that no
 * value can look like a line of ours.  The HTML has no colours of its own for
 * text and background, so that mail programs can show it light or dark, and no
 * remote content.
 */
#include "lib/mail/compose.h"

/* System */
#include <stdio.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/encode.h"
#include "lib/base/json_read.h"
#include "lib/base/text.h"

/* L5 */
#include "lib/mail/mime.h"

enum {
    PARAMETERS_MAX = 64, /* of a page's address */
    PARAMETER_NAME_BYTES = 60,
    EARLIER_WORDS_BYTES = 120, /* of what was said in an earlier lead */
    SUBJECT_ACTION_BYTES = 40, /* an unknown code may have any length */
    SUBJECT_PART_BYTES = 120,
    ALARM_ID_BYTES = 64, /* an alarm's name and day */
    REPORT_ID_BYTES = 64,
    BASE64_LINE_BYTES = 57, /* make the 76 characters of a line: RFC 2045 6.8 */
    PHONE_MIN_BYTES = 3,
    PHONE_MAX_BYTES = 40
};

/* One body in the making, text or HTML. */
struct body {
    struct buf *out;
    bool html;
};

#define LABEL_INDENT "  "            /* of the text's lines that begin with a label of ours */
#define VALUE_INDENT "             " /* the same with the width of a label */
#define PROSE_INDENT "    "          /* deeper than a label: none can be faked in a text of several lines */

/* --- values --------------------------------------------------------------------------------------------- */

static void add_escaped(struct body *b, uint32_t code)
{
    const char *entity = b->html ? html_entity(code) : NULL;
    if (entity)
        buf_add_text(b->out, entity);
    else
        utf8_add(b->out, code);
}

static bool is_plain(char c)
{
    return c >= ' ' && c <= '~' && c != '&' && c != '<' && c != '>' && c != '"' && c != '\'';
}

/* How many bytes at the beginning stand for themselves in every body: nearly all of a text. */
static size_t plain_bytes(struct span s)
{
    size_t len = 0;
    while (len < s.len && is_plain(s.ptr[len]))
        len++;
    return len;
}

/* A value from outside: line ends stay line ends, the text's next line begins
 * with indent, what cannot be seen is shown by its number.  The limit counts
 * what is written, because one character may become many. */
static void add_value_up_to(struct body *b, struct span value, const char *indent, size_t limit)
{
    size_t begin = b->out->len;
    while (value.len && b->out->error == ST_OK && b->out->len - begin < limit) {
        uint32_t code;
        size_t room = limit - (b->out->len - begin);
        struct span plain = span_cut(value, 0, plain_bytes(span_cut(value, 0, room)));
        if (plain.len) {
            buf_add(b->out, plain);
            value = span_from(value, plain.len);
            continue;
        }
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
            buf_addf(b->out, "%s\n%s", b->html ? "<br>" : "", b->html ? "" : indent);
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

/* Text of our own, or a span that is one safe line already. */
static void add_line(struct body *b, struct span rest)
{
    while (rest.len) {
        uint32_t code;
        struct span plain = span_cut(rest, 0, plain_bytes(rest));
        buf_add(b->out, plain);
        rest = span_from(rest, plain.len);
        size_t len = utf8_decode(rest, &code);
        if (len == 0)
            break;
        add_escaped(b, code);
        rest = span_from(rest, len);
    }
}

/* --- layout --------------------------------------------------------------------------------------------- */

/* In the text every block begins with a blank line. */
static void begin_block(struct body *b, const char *html)
{
    buf_add_text(b->out, b->html ? html : b->out->len ? "\n" : "");
}

static void tagged(struct body *b, const char *begin, struct span content, const char *end)
{
    begin_block(b, begin);
    add_line(b, content);
    buf_addf(b->out, "%s\n", b->html ? end : "");
}

static void section(struct body *b, const char *title)
{
    tagged(b, "<h2 style=\"font-size:16px;margin:20px 0 6px\">", span_of(title), "</h2>");
}

static void notice(struct body *b, const char *text)
{
    tagged(b, "<p style=\"margin:8px 0;padding:6px 12px;border-left:4px solid #d13438\"><strong>",
           span_of(text), "</strong></p>");
}

static void paragraph(struct body *b, const char *text)
{
    tagged(b, "<p style=\"margin:16px 0 6px\">", span_of(text), "</p>");
}

/* Text of several lines, indented where there is no other way to set it apart. */
static void prose(struct body *b, struct span text, size_t limit)
{
    begin_block(b, "<p dir=\"auto\" style=\"margin:6px 0;word-break:break-word\">");
    buf_add_text(b->out, b->html ? "" : PROSE_INDENT);
    add_value_up_to(b, text, PROSE_INDENT, limit);
    buf_add_text(b->out, b->html ? "</p>\n" : "\n");
}

static void begin_rows(struct body *b)
{
    begin_block(b, "<table role=\"presentation\" style=\"border-collapse:collapse;margin:6px 0\">\n");
}

static void end_rows(struct body *b)
{
    if (b->html)
        buf_add_text(b->out, "</table>\n");
}

/* A label and a value.  link: blank, or what the value links to, made of harmless characters only. */
static void row_up_to(struct body *b, struct span label, struct span value, struct span link, size_t limit)
{
    value = span_trim(value);
    if (value.len == 0)
        return;
    if (!b->html) {
        buf_addf(b->out, LABEL_INDENT "%-10.*s ", SPAN_FMT(label));
        add_value_up_to(b, value, VALUE_INDENT, limit);
        buf_add_char(b->out, '\n');
        return;
    }
    buf_add_text(b->out,
                 "<tr><td style=\"padding:2px 16px 2px 0;min-width:90px;vertical-align:top;opacity:.7\">");
    add_line(b, label);
    buf_add_text(b->out,
                 "</td><td dir=\"auto\" style=\"padding:2px 0;vertical-align:top;word-break:break-word\">");
    if (link.len) {
        buf_add_text(b->out, "<a href=\"");
        add_line(b, link);
        buf_add_text(b->out, "\">");
    }
    add_value_up_to(b, value, "", limit);
    buf_addf(b->out, "%s</td></tr>\n", link.len ? "</a>" : "");
}

static void row(struct body *b, const char *label, struct span value)
{
    row_up_to(b, span_of(label), value, (struct span){0}, LIMIT_MAIL_FIELD_BYTES);
}

static void row_time(struct body *b, const char *label, int64_t wall_ms)
{
    char text[CLOCK_TEXT_BYTES];
    clock_minute_words(wall_ms, text);
    row(b, label, span_of(text));
}

/* --- content -------------------------------------------------------------------------------------------- */

/* A part that could not be built makes the whole fail. */
static void pass_error(struct buf *out, const struct buf *part)
{
    if (out->error == ST_OK)
        out->error = part->error;
}

/* What the person did, in words; codes are an open list. */
static struct span action_words(struct span action)
{
    struct span words = lead_action_words(action);
    if (words.len == 0)
        words = span_trim(action);
    return words.len ? words : SPAN_LIT("Lead");
}

static struct span offer_name(const struct lead *lead)
{
    return span_trim(lead->offer_title).len ? span_trim(lead->offer_title) : span_of(lead->partition);
}

static void add_name(struct buf *out, const struct customer *c)
{
    buf_add(out, span_trim(c->first_name));
    if (span_trim(c->first_name).len && span_trim(c->last_name).len)
        buf_add_char(out, ' ');
    buf_add(out, span_trim(c->last_name));
}

/* The company or, without one, the person. */
static void add_who(struct buf *out, const struct customer *c)
{
    struct buf who = BUF_INIT(LIMIT_MAIL_BYTES);
    buf_add(&who, span_trim(c->company));
    if (who.len == 0)
        add_name(&who, c);
    if (who.len == 0)
        buf_add(&who, span_trim(c->email));
    if (who.len) {
        buf_add_text(out, ", ");
        buf_add(out, utf8_cut_bytes(buf_span(&who), SUBJECT_PART_BYTES));
    }
    if (who.error != ST_OK)
        pass_error(out, &who);
    buf_release(&who);
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
    buf_add(&text, utf8_cut_bytes(action_words(lead->action), SUBJECT_ACTION_BYTES));
    buf_add_text(&text, ": ");
    buf_add(&text, utf8_cut_bytes(offer_name(lead), SUBJECT_PART_BYTES));
    if (n->detail == MAIL_FULL)
        add_who(&text, &lead->customer);
    else
        buf_addf(&text, ", lead %.*s", SPAN_FMT(n->delivery_id));
    if (text.error == ST_OK)
        mime_add_header_text(out, "Subject", buf_span(&text));
    else
        pass_error(out, &text);
    buf_release(&text);
}

/* Appends "tel:" and the number, or nothing when the text is more than a number. */
static void add_phone_link(struct buf *out, struct span phone)
{
    struct span allowed = SPAN_LIT("+0123456789 -.()");
    for (size_t i = 0; i < phone.len; i++) {
        if (span_find(allowed, phone.ptr[i]) == SPAN_NONE)
            return;
    }
    if (phone.len < PHONE_MIN_BYTES || phone.len > PHONE_MAX_BYTES)
        return;
    buf_add_text(out, "tel:");
    for (size_t i = 0; i < phone.len; i++) {
        if ((phone.ptr[i] == '+' && i == 0) || (phone.ptr[i] >= '0' && phone.ptr[i] <= '9'))
            buf_add_char(out, phone.ptr[i]);
    }
}

/* Appends "mailto:" and the address, or nothing when it is not a safe one. */
static void add_mail_link(struct buf *out, struct span address)
{
    size_t at = span_find_last(address, '@');
    if (!mail_address_is_safe(address))
        return;
    buf_add_text(out, "mailto:");
    percent_add(out, span_cut(address, 0, at)); /* RFC 6068: '?' and '&' would begin something else */
    buf_add(out, span_from(address, at));
}

static void add_person(struct body *b, const struct lead *lead)
{
    const struct customer *c = &lead->customer;
    struct buf name = BUF_INIT(LIMIT_MAIL_BYTES), mail_link = BUF_INIT(LIMIT_MAIL_FIELD_BYTES),
               phone_link = BUF_INIT(LIMIT_MAIL_FIELD_BYTES);
    add_name(&name, c);
    if (!lead->do_not_contact) { /* whoever must not be contacted is not one click away */
        add_mail_link(&mail_link, span_trim(c->email));
        add_phone_link(&phone_link, span_trim(c->phone));
    }
    begin_rows(b);
    row(b, "Name", buf_span(&name));
    row(b, "Title", c->title);
    row(b, "Company", c->company);
    row_up_to(b, SPAN_LIT("E-mail"), c->email, buf_span(&mail_link), LIMIT_MAIL_FIELD_BYTES);
    row_up_to(b, SPAN_LIT("Phone"), c->phone, buf_span(&phone_link), LIMIT_MAIL_FIELD_BYTES);
    row(b, "Country", c->country);
    end_rows(b);
    if (name.error != ST_OK)
        pass_error(b->out, &name);
    buf_release(&name);
    buf_release(&mail_link);
    buf_release(&phone_link);
}

static struct span parameter_value(const struct json *m)
{
    if (m->kind == JSON_TRUE)
        return SPAN_LIT("true");
    return m->kind == JSON_FALSE ? SPAN_LIT("false") : m->text;
}

static void add_parameters(struct body *b, const struct json *top)
{
    size_t left = LIMIT_MAIL_TEXT_BYTES;
    begin_rows(b);
    for (const struct json *m = top->first; m; m = m->next) {
        struct buf name = BUF_INIT(4 * PARAMETER_NAME_BYTES);
        size_t begin = b->out->len;
        text_add_line(&name, utf8_cut_bytes(m->name, PARAMETER_NAME_BYTES));
        row_up_to(b, buf_span(&name), parameter_value(m), (struct span){0}, left);
        buf_release(&name);
        size_t used = b->out->len - begin;
        left = used < left ? left - used : 0;
    }
    end_rows(b);
}

/* The person's words, or the parameters of the page's address when that is what came. */
static void add_description(struct body *b, struct span description)
{
    static const struct json_limits limits = {.depth = 1, .values = PARAMETERS_MAX};
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    const struct json *top = NULL;
    struct span words = span_trim(description);
    if (words.len == 0)
        return;
    if (words.ptr[0] == '{' && json_read(words, &limits, &arena, &top, NULL, NULL) == ST_OK && top->first) {
        section(b, "The page they came from");
        add_parameters(b, top);
    } else {
        section(b, "Their message");
        prose(b, words, LIMIT_MAIL_TEXT_BYTES);
    }
    arena_release(&arena);
}

static void add_earlier(struct body *b, const struct notification *n)
{
    if (n->earlier_count == 0)
        return;
    section(b, "Earlier leads of this person in this offer");
    begin_rows(b);
    for (size_t i = 0; i < n->earlier_count && i < LIMIT_MAIL_HISTORY; i++) {
        const struct earlier_lead *e = &n->earlier[i];
        struct span words = span_trim(e->description);
        struct buf line = BUF_INIT(LIMIT_MAIL_FIELD_BYTES);
        char day[CLOCK_TEXT_BYTES];
        clock_iso_time(e->received_ms, day);
        day[10] = '\0';
        text_add_line(&line, utf8_cut_bytes(action_words(e->action), SUBJECT_ACTION_BYTES));
        if (words.len) {
            buf_add_text(&line, ": ");
            text_add_line(&line, utf8_cut_bytes(words, EARLIER_WORDS_BYTES));
            buf_add_text(&line, words.len > EARLIER_WORDS_BYTES ? " [...]" : "");
        }
        row(b, day, buf_span(&line));
        buf_release(&line);
    }
    end_rows(b);
}

/* What happened, in one line: "Get it now: Contoso App". */
static void add_headline(struct body *b, const struct lead *lead)
{
    struct buf line = BUF_INIT(LIMIT_MAIL_FIELD_BYTES);
    text_add_line(&line, utf8_cut_bytes(action_words(lead->action), SUBJECT_ACTION_BYTES));
    buf_add_text(&line, ": ");
    text_add_line(&line, utf8_cut_bytes(offer_name(lead), SUBJECT_PART_BYTES));
    tagged(b, "<h1 style=\"font-size:20px;margin:0 0 12px;word-break:break-word\">", buf_span(&line),
           "</h1>");
    buf_release(&line);
}

static void add_notices(struct body *b, const struct notification *n)
{
    if (n->lead->is_test)
        notice(b, "This is a test lead from Partner Center or from yourselves, not a customer.");
    if (n->lead->do_not_contact)
        notice(
            b,
            "Do not contact this customer: they asked another partner. This lead is for information only.");
    if (n->reason == MAIL_CAME_BACK) {
        char text[120];
        (void)snprintf(text, sizeof text,
                       "This customer came back: the same lead has now been received %d times.",
                       (int)n->deliveries);
        notice(b, text);
    }
    if (n->lead->withheld)
        notice(b, "The personal data of this lead is withheld because of the domain of its e-mail address.");
}

static void add_about(struct body *b, const struct notification *n)
{
    const struct lead *lead = n->lead;
    section(b, "About this lead");
    begin_rows(b);
    row(b, "Offer", offer_name(lead));
    row(b, "Offer key", span_of(lead->partition));
    row(b, "Action", action_words(lead->action));
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
    add_headline(&b, n->lead);
    add_notices(&b, n);
    if (n->detail == MAIL_FULL) {
        add_person(&b, n->lead);
        add_description(&b, n->lead->description);
    } else {
        paragraph(&b, "A lead has arrived. This mail holds no personal data.");
    }
    if (n->detail == MAIL_FULL)
        add_earlier(&b, n);
    add_about(&b, n);
    paragraph(&b, "Everything stored about it: run 'leadctl show' with the lead id on the server.");
    if (html)
        buf_add_text(out, "</body></html>\n");
}

/* --- the message ---------------------------------------------------------------------------------------- */

static void add_part(struct buf *out, const char *type, const char *boundary, bool html,
                     const struct notification *n)
{
    struct buf body = BUF_INIT(LIMIT_MAIL_BYTES);
    add_body(&body, html, n);
    buf_addf(out,
             "--%s\r\nContent-Type: %s; charset=utf-8\r\n"
             "Content-Transfer-Encoding: quoted-printable\r\n\r\n",
             boundary, type);
    if (body.error == ST_OK)
        mime_add_quoted_printable(out, buf_span(&body));
    else
        pass_error(out, &body);
    buf_release(&body);
}

/* Whether text consists of these characters only, and of at least one. */
static bool is_made_of(struct span text, struct span characters)
{
    for (size_t i = 0; i < text.len; i++) {
        if (span_find(characters, text.ptr[i]) == SPAN_NONE)
            return false;
    }
    return text.len > 0;
}

/* The headers with which every message begins. */
static void add_origin(struct buf *out, int64_t date_ms, struct span name, struct span from, struct span to)
{
    char date[CLOCK_TEXT_BYTES];
    clock_mail_date(date_ms, date);
    buf_addf(out, "Date: %s\r\nFrom: ", date);
    if (name.len) {
        mime_add_phrase(out, name, sizeof "From: " - 1);
        buf_add_text(out, "\r\n ");
    }
    buf_addf(out, "<%.*s>\r\nTo: <%.*s>\r\n", SPAN_FMT(from), SPAN_FMT(to));
}

/* RFC 3834, and what Exchange looks at: nobody's vacation shall answer. */
static void add_automatic(struct buf *out)
{
    buf_add_text(out, "Auto-Submitted: auto-generated\r\nX-Auto-Response-Suppress: All\r\n");
}

/* What goes into headers as it is.  It comes from the configuration and from rows, which others may write. */
static enum status check_addresses(const struct mail_address *sender, struct span recipient,
                                   struct mail_address *from, struct mail_address *to, struct fail *why)
{
    enum status status = mail_address_parse(sender->address, from, why);
    if (status == ST_OK)
        status = mail_address_parse(recipient, to, why);
    return status;
}

enum status mail_compose(struct buf *out, const struct notification *n, struct fail *why)
{
    char boundary[LEAD_DELIVERY_TEXT + 3];
    const struct lead *lead = n->lead;
    struct span email = span_trim(lead->customer.email);
    /* Nobody shall answer by reflex a customer who must not be contacted. */
    bool may_reply = n->detail == MAIL_FULL && !lead->withheld && !lead->do_not_contact;
    struct mail_address from, to;
    if (n->delivery_id.len != LEAD_DELIVERY_TEXT || !is_made_of(n->delivery_id, SPAN_LIT("0123456789abcdef")))
        return fail_set(why, ST_INVALID, 0, "the delivery's id is not %d hexadecimal digits",
                        LEAD_DELIVERY_TEXT);
    enum status status = check_addresses(n->from, n->to, &from, &to, why);
    if (status != ST_OK)
        return status;
    /* "=_" occurs neither in quoted-printable nor in base64. */
    (void)snprintf(boundary, sizeof boundary, "=_%.*s", SPAN_FMT(n->delivery_id));

    add_origin(out, n->received_ms, n->from->name, from.address, to.address);
    if (may_reply && mail_address_is_safe(email))
        buf_addf(out, "Reply-To: <%.*s>\r\n", SPAN_FMT(email));
    buf_addf(out, "Message-ID:\r\n <lead.%.*s.%u@%.*s>\r\n", SPAN_FMT(n->delivery_id), n->recipient_number,
             SPAN_FMT(mail_address_domain(from.address)));
    add_subject(out, n);
    add_automatic(out);
    buf_addf(out, "X-Lead-ID: %.*s\r\n", SPAN_FMT(n->delivery_id));
    if (n->request_id.len && n->request_id.len <= LIMIT_REQUEST_ID_BYTES && span_has_only(n->request_id, "-"))
        buf_addf(out, "X-Request-ID: %.*s\r\n", SPAN_FMT(n->request_id));
    buf_addf(out, "MIME-Version: 1.0\r\nContent-Type: multipart/alternative;\r\n boundary=\"%s\"\r\n\r\n",
             boundary);
    add_part(out, "text/plain", boundary, false, n);
    add_part(out, "text/html", boundary, true, n);
    buf_addf(out, "--%s--\r\n", boundary);
    return buf_status(out, "the mail", why);
}

/* --- the alarm ------------------------------------------------------------------------------------------ */

static void add_alarm_body(struct buf *out, const struct alarm_notice *n)
{
    struct body b = {.out = out};
    section(&b, "What happened");
    prose(&b, n->happened.len ? n->happened : n->title, LIMIT_ALARM_TEXT_BYTES);
    begin_rows(&b);
    row_time(&b, n->lasts ? "Noticed" : "Since", n->received_ms);
    row(&b, "Host", n->host);
    row(&b, "Alarm", n->event);
    end_rows(&b);
    section(&b, "What it means");
    prose(&b, n->meaning, LIMIT_MAIL_FIELD_BYTES);
    section(&b, "What to do");
    prose(&b, n->action, LIMIT_MAIL_FIELD_BYTES);
    if (n->is_trial)
        return;
    paragraph(&b,
              n->lasts
                  ? "You are told of such a thing once for all hosts together, rarely again while it lasts, "
                    "and when it is over; 'leadctl status' always shows it."
                  : "This alarm is mailed once a day (UTC) for all hosts together, however often it is "
                    "raised. Other hosts may be concerned as well.");
}

/* " (2026-11-21 09:30 UTC)" */
static void add_subject_time(struct buf *out, int64_t wall_ms)
{
    char text[CLOCK_TEXT_BYTES];
    clock_minute_words(wall_ms, text);
    buf_addf(out, " (%s)", text);
}

enum status mail_compose_alarm(struct buf *out, const struct alarm_notice *n, struct fail *why)
{
    struct mail_address from, to;
    if (!is_made_of(n->event, SPAN_LIT("abcdefghijklmnopqrstuvwxyz0123456789-")) ||
        !is_made_of(n->day, SPAN_LIT("0123456789-")) || n->event.len + n->day.len > ALARM_ID_BYTES)
        return fail_set(why, ST_INVALID, 0, "the alarm's name or day must not be in a header");
    enum status status = check_addresses(n->from, n->to, &from, &to, why);
    if (status != ST_OK)
        return status;
    struct buf text = BUF_INIT(LIMIT_MAIL_BYTES);
    add_origin(out, n->received_ms, n->from->name, from.address, to.address);
    buf_addf(out, "Message-ID:\r\n <alarm.%.*s.%.*s.%u@%.*s>\r\n", SPAN_FMT(n->day), SPAN_FMT(n->event),
             n->recipient_number, SPAN_FMT(mail_address_domain(from.address)));
    buf_addf(&text, "[leadhook] %.*s", SPAN_FMT(n->title));
    if (!n->lasts)
        add_subject_time(&text, n->received_ms);
    mime_add_header_text(out, "Subject", buf_span(&text));
    add_automatic(out);
    buf_addf(out,
             "X-Lead-Alarm: %.*s\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n"
             "Content-Transfer-Encoding: quoted-printable\r\n\r\n",
             SPAN_FMT(n->event));
    if (text.error != ST_OK)
        pass_error(out, &text);
    buf_reset(&text);
    add_alarm_body(&text, n);
    if (text.error == ST_OK)
        mime_add_quoted_printable(out, buf_span(&text));
    else
        pass_error(out, &text);
    buf_release(&text);
    return buf_status(out, "the alarm's mail", why);
}

/* --- the report ----------------------------------------------------------------------------------------- */

/* Neither quoted-printable nor base64 has "=_" in it. */
#define REPORT_BOUNDARY "=_leadhook-report"

static void add_base64_lines(struct buf *out, struct span bytes)
{
    for (size_t at = 0; at < bytes.len; at += BASE64_LINE_BYTES) {
        base64_add(out, span_cut(bytes, at, BASE64_LINE_BYTES));
        buf_add_text(out, "\r\n");
    }
}

enum status mail_compose_report(struct buf *out, const struct report_notice *n, struct fail *why)
{
    struct mail_address from, to;
    if (n->id.len == 0 || n->id.len > REPORT_ID_BYTES || !span_has_only(n->id, "-"))
        return fail_set(why, ST_INVALID, 0, "the report's id must not be in a header");
    enum status status = check_addresses(n->from, n->to, &from, &to, why);
    if (status != ST_OK)
        return status;
    add_origin(out, n->made_ms, n->from->name, from.address, to.address);
    buf_addf(out, "Message-ID:\r\n <report.%.*s.%u@%.*s>\r\n", SPAN_FMT(n->id), n->recipient_number,
             SPAN_FMT(mail_address_domain(from.address)));
    mime_add_header_text(out, "Subject", n->subject);
    add_automatic(out);
    buf_add_text(out, "MIME-Version: 1.0\r\nContent-Type: multipart/mixed;\r\n boundary=\"" REPORT_BOUNDARY
                      "\"\r\n\r\n--" REPORT_BOUNDARY "\r\nContent-Type: text/plain; charset=utf-8\r\n"
                      "Content-Transfer-Encoding: quoted-printable\r\n\r\n");
    mime_add_quoted_printable(out, n->text);
    buf_addf(out,
             "--" REPORT_BOUNDARY "\r\nContent-Type: text/html; charset=utf-8\r\n"
             "Content-Transfer-Encoding: base64\r\n"
             "Content-Disposition: attachment;\r\n filename=\"%.*s.html\"\r\n\r\n",
             SPAN_FMT(n->id));
    add_base64_lines(out, n->page);
    buf_add_text(out, "--" REPORT_BOUNDARY "--\r\n");
    return buf_status(out, "the report's mail", why);
}
