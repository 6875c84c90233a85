/* message.h - a strict reader of the messages that lib/mail/compose.c writes, for the fuzz targets.
 *
 * Knows nothing of the composer's code.  Takes exactly one kind of message: the
 * headers that are ours, once and in their order, and either two parts, text and
 * HTML, or one of text.  Anything else ends the process.  Specifications: RFC
 * 5322, 2045, 2046, 2047.
 */
#ifndef LEAD_FUZZ_MESSAGE_H
#define LEAD_FUZZ_MESSAGE_H

#include "lib/base/buf.h"
#include "lib/base/encode.h"
#include "lib/base/limits.h"
#include "lib/base/text.h"
#include "tests/fuzz/fuzz.h"

enum {
    MESSAGE_HEADERS = 12,
    MESSAGE_HEADER_LINE = 78, /* RFC 5322 2.1.1 */
    MESSAGE_BODY_LINE = 76,   /* RFC 2045 6.7 */
    MESSAGE_WORD = 75,        /* RFC 2047 2 */
    MESSAGE_TAGS = 16         /* HTML elements open at once */
};

struct message_header {
    struct span name;
    struct span value; /* as it stands there, folds included, without the final line end */
};

/* Spans point into the message or the two buffers. */
struct message {
    struct message_header headers[MESSAGE_HEADERS];
    size_t count;
    struct span body;
    struct buf text; /* decoded */
    struct buf html; /* decoded; blank in an alarm */
};

CHECKS_BEGIN

static inline struct span message_line(struct span *rest)
{
    size_t at = span_find(*rest, '\r');
    CHECK(at != SPAN_NONE && at + 1 < rest->len &&
          rest->ptr[at + 1] == '\n'); /* no bare CR, no line without an end */
    struct span line = span_cut(*rest, 0, at);
    CHECK(span_find(line, '\n') == SPAN_NONE); /* no bare LF */
    *rest = span_from(*rest, at + 2);
    return line;
}

/* Printable ASCII in lines that end in CRLF, short, none of which a server would change or end the mail at. */
static inline void message_check_wire(struct span message)
{
    struct span rest = message;
    bool is_header = true;
    while (rest.len) {
        struct span line = message_line(&rest);
        bool is_good = true;
        for (size_t i = 0; i < line.len; i++)
            is_good &= line.ptr[i] >= ' ' && line.ptr[i] <= '~';
        CHECK(is_good);
        if (line.len == 0)
            is_header = false;
        /* An address has no place for a fold, nor has a Message-ID, which begins on a line of its own. */
        bool is_address = is_header && line.len && line.ptr[line.len - 1] == '>' &&
                          span_find(line, '<') != SPAN_NONE &&
                          span_find(span_from(line, span_find(line, '<')), ' ') == SPAN_NONE;
        CHECK(line.len <= (is_header ? MESSAGE_HEADER_LINE : MESSAGE_BODY_LINE) ||
              (is_address &&
               line.len <= LIMIT_MAIL_ADDRESS_BYTES +
                               (line.ptr[0] == ' ' ? MESSAGE_HEADER_LINE : sizeof "Reply-To: <>")));
        CHECK(line.len == 0 || line.ptr[0] != '.');
        CHECK(is_header || !span_starts(line, SPAN_LIT("From ")));
    }
}

static inline void message_split(struct message *m, struct span message)
{
    struct span rest = message;
    for (;;) {
        struct span line = message_line(&rest);
        if (line.len == 0)
            break;
        CHECK(span_trim(line).len > 0); /* a line of blanks in a fold is obsolete syntax */
        if (line.ptr[0] == ' ') {
            CHECK(m->count > 0);
            struct message_header *h = &m->headers[m->count - 1];
            h->value.len = (size_t)(line.ptr + line.len - h->value.ptr);
            continue;
        }
        size_t colon = span_find(line, ':');
        CHECK(m->count < MESSAGE_HEADERS && colon != SPAN_NONE && colon > 0);
        struct message_header *h = &m->headers[m->count++];
        h->name = span_cut(line, 0, colon);
        for (size_t i = 0; i < colon; i++)
            CHECK((h->name.ptr[i] >= 'A' && h->name.ptr[i] <= 'Z') ||
                  (h->name.ptr[i] >= 'a' && h->name.ptr[i] <= 'z') || h->name.ptr[i] == '-');
        h->value = span_from(line, colon + 1);
        CHECK(h->value.len == 0 || h->value.ptr[0] == ' ');
        h->value = span_from(h->value, 1);
    }
    m->body = rest;
}

static inline struct span message_value(const struct message *m, size_t index, const char *name)
{
    CHECK(index < m->count && span_eq(m->headers[index].name, span_of(name)));
    return m->headers[index].value;
}

/* Appends a header's text: unfolded, encoded words decoded (RFC 2047 6.2).  Each word is of whole characters. */
static inline void message_add_text(struct buf *out, struct span value)
{
    struct span begin = SPAN_LIT("=?UTF-8?B?"), rest = value;
    bool is_behind_word = false;
    while (rest.len) {
        if (span_starts(rest, SPAN_LIT("\r\n "))) {
            rest = span_from(rest, 2);
        } else if (span_starts(rest, begin)) {
            size_t end = span_find(span_from(rest, begin.len), '?');
            CHECK(end != SPAN_NONE && begin.len + end + 2 <= MESSAGE_WORD &&
                  rest.ptr[begin.len + end + 1] == '=');
            size_t at = out->len;
            CHECK(base64_decode(out, span_cut(rest, begin.len, end), NULL) == ST_OK);
            CHECK(out->len > at && utf8_is_valid(span_from(buf_span(out), at), NULL));
            rest = span_from(rest, begin.len + end + 2);
            is_behind_word = true;
        } else {
            CHECK(!span_starts(rest, SPAN_LIT("=?")));
            struct span blank = {0};
            if (rest.ptr[0] == ' ') { /* between two encoded words it counts for nothing */
                blank = span_cut(rest, 0, 1);
                rest = span_from(rest, 1);
                if (is_behind_word && span_starts(rest, begin))
                    continue;
            }
            buf_add(out, blank);
            if (blank.len == 0) {
                buf_add_char(out, rest.ptr[0]);
                rest = span_from(rest, 1);
            }
            is_behind_word = false;
        }
    }
}

/* What people are to see: UTF-8 in which nothing is invisible or moves the cursor, but line ends where allowed. */
static inline void message_check_shown(struct span text, bool lines)
{
    while (text.len) {
        uint32_t code;
        size_t len = 0;
        while (len < text.len && text.ptr[len] >= ' ' && text.ptr[len] <= '~')
            len++;
        text = span_from(text, len);
        if (text.len == 0)
            break;
        len = utf8_decode(text, &code);
        CHECK(len > 0);
        CHECK((lines && code == '\n') || (!is_control_code(code) && !is_invisible_code(code)));
        text = span_from(text, len);
    }
}

static inline int message_hex(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Quoted-printable up to the line that is or begins with end; moves *rest behind that line. */
static inline void message_decode(struct buf *out, struct span *rest, struct span end)
{
    for (;;) {
        if (rest->len == 0) {
            CHECK(end.len == 0);
            return;
        }
        struct span line = message_line(rest);
        if (end.len && span_starts(line, end)) {
            CHECK(line.len == end.len);
            return;
        }
        bool is_soft = line.len && line.ptr[line.len - 1] == '=';
        if (is_soft)
            line.len--;
        CHECK(line.len == 0 || is_soft || (line.ptr[line.len - 1] != ' ' && line.ptr[line.len - 1] != '\t'));
        for (size_t at; (at = span_find(line, '=')) != SPAN_NONE; line = span_from(line, at + 3)) {
            CHECK(at + 2 < line.len && message_hex(line.ptr[at + 1]) >= 0 &&
                  message_hex(line.ptr[at + 2]) >= 0);
            buf_add(out, span_cut(line, 0, at));
            buf_add_char(out, (char)(message_hex(line.ptr[at + 1]) << 4 | message_hex(line.ptr[at + 2])));
        }
        buf_add(out, line);
        if (!is_soft)
            buf_add_char(out, '\n');
    }
}

/* --- HTML ------------------------------------------------------------------------------------------------ */

/* The only elements there are, with their attributes; those of a link follow. */
static const struct {
    struct span begin;
    struct span end; /* blank: has no content */
} MESSAGE_ELEMENTS[] = {
    {SPAN_LIT("<!DOCTYPE html>"), {0}},
    {SPAN_LIT("<html lang=\"en\">"), SPAN_LIT("</html>")},
    {SPAN_LIT("<head>"), SPAN_LIT("</head>")},
    {SPAN_LIT("<meta charset=\"utf-8\">"), {0}},
    {SPAN_LIT("<meta name=\"color-scheme\" content=\"light dark\">"), {0}},
    {SPAN_LIT("<meta name=\"viewport\" content=\"width=device-width\">"), {0}},
    {SPAN_LIT("<title>"), SPAN_LIT("</title>")},
    {SPAN_LIT(
         "<body style=\"font:15px/1.45 system-ui,-apple-system,'Segoe UI',sans-serif;margin:16px;max-width:640px\">"),
     SPAN_LIT("</body>")},
    {SPAN_LIT("<h1 style=\"font-size:20px;margin:0 0 12px;word-break:break-word\">"), SPAN_LIT("</h1>")},
    {SPAN_LIT("<h2 style=\"font-size:16px;margin:20px 0 6px\">"), SPAN_LIT("</h2>")},
    {SPAN_LIT("<p style=\"margin:8px 0;padding:6px 12px;border-left:4px solid #d13438\">"), SPAN_LIT("</p>")},
    {SPAN_LIT("<p style=\"margin:16px 0 6px\">"), SPAN_LIT("</p>")},
    {SPAN_LIT("<p dir=\"auto\" style=\"margin:6px 0;word-break:break-word\">"), SPAN_LIT("</p>")},
    {SPAN_LIT("<strong>"), SPAN_LIT("</strong>")},
    {SPAN_LIT("<table role=\"presentation\" style=\"border-collapse:collapse;margin:6px 0\">"),
     SPAN_LIT("</table>")},
    {SPAN_LIT("<tr>"), SPAN_LIT("</tr>")},
    {SPAN_LIT("<td style=\"padding:2px 16px 2px 0;min-width:90px;vertical-align:top;opacity:.7\">"),
     SPAN_LIT("</td>")},
    {SPAN_LIT("<td dir=\"auto\" style=\"padding:2px 0;vertical-align:top;word-break:break-word\">"),
     SPAN_LIT("</td>")},
    {SPAN_LIT("<br>"), {0}},
};

static const struct {
    struct span name;
    char character;
} MESSAGE_ENTITIES[] = {{SPAN_LIT("&amp;"), '&'},
                        {SPAN_LIT("&lt;"), '<'},
                        {SPAN_LIT("&gt;"), '>'},
                        {SPAN_LIT("&quot;"), '"'},
                        {SPAN_LIT("&#39;"), '\''}};

/* "<a href=...>": to an address or a telephone number, and nowhere else. */
static inline size_t message_link(struct span html)
{
    size_t close = span_find(html, '>');
    struct span begin = SPAN_LIT("<a href=\""), end = SPAN_LIT("\">");
    CHECK(span_starts(html, begin) && close != SPAN_NONE);
    struct span target = span_cut(html, begin.len, close + 1 - begin.len);
    CHECK(target.len > end.len && span_ends_nocase(target, end));
    target.len -= end.len;
    bool is_phone = span_starts(target, SPAN_LIT("tel:"));
    CHECK(is_phone || span_starts(target, SPAN_LIT("mailto:")));
    for (size_t i = is_phone ? 4 : 7; i < target.len; i++) {
        char c = target.ptr[i];
        bool is_digit = c >= '0' && c <= '9';
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        CHECK(is_phone ? is_digit || (c == '+' && i == 4) : is_digit || is_letter || strchr("-._~%@", c));
    }
    return close + 1;
}

/* An element that begins here: its index, or COUNT(MESSAGE_ELEMENTS). */
static inline size_t message_element(struct span tag)
{
    size_t i = 0;
    while (i < COUNT(MESSAGE_ELEMENTS) &&
           (MESSAGE_ELEMENTS[i].begin.len != tag.len || !span_eq(tag, MESSAGE_ELEMENTS[i].begin)))
        i++;
    return i;
}

/* Appends what the HTML shows, white space as it stands there, after checking that it is made of nothing but our
 * elements, well nested, and text. */
static inline void message_add_shown(struct buf *out, struct span html)
{
    struct span open[MESSAGE_TAGS];
    size_t depth = 0;
    while (html.len) {
        size_t len = 0, i = 0;
        if (html.ptr[0] == '<') {
            struct span tag = span_cut(html, 0, span_find(html, '>') + 1);
            CHECK(tag.len > 0);
            i = tag.ptr[1] == '/' ? COUNT(MESSAGE_ELEMENTS) : message_element(tag);
            if (tag.ptr[1] == '/') {
                CHECK(depth > 0 && span_eq(tag, open[--depth]));
            } else if (i == COUNT(MESSAGE_ELEMENTS) || MESSAGE_ELEMENTS[i].end.len) {
                CHECK(depth < MESSAGE_TAGS);
                open[depth++] = i < COUNT(MESSAGE_ELEMENTS) ? MESSAGE_ELEMENTS[i].end : SPAN_LIT("</a>");
                CHECK(i < COUNT(MESSAGE_ELEMENTS) || message_link(html) == tag.len);
            }
            len = tag.len;
        } else if (html.ptr[0] == '&') {
            while (i < COUNT(MESSAGE_ENTITIES) && !span_starts(html, MESSAGE_ENTITIES[i].name))
                i++;
            CHECK(i < COUNT(MESSAGE_ENTITIES));
            buf_add_char(out, MESSAGE_ENTITIES[i].character);
            len = MESSAGE_ENTITIES[i].name.len;
        } else {
            while (len < html.len && html.ptr[len] != '<' && html.ptr[len] != '&') {
                CHECK(html.ptr[len] != '>' && html.ptr[len] != '"' && html.ptr[len] != '\'');
                len++;
            }
            if (!(depth > 0 && span_eq(open[depth - 1], SPAN_LIT("</title>"))))
                buf_add(out, span_cut(html, 0, len));
        }
        html = span_from(html, len);
    }
    CHECK(depth == 0 && out->error == ST_OK);
}

/* --- the whole ------------------------------------------------------------------------------------------- */

static inline void message_release(struct message *m)
{
    buf_release(&m->text);
    buf_release(&m->html);
}

/* Reads a message, which must be one. */
static inline void message_read(struct message *m, struct span message)
{
    struct span encoding = SPAN_LIT("quoted-printable"), plain = SPAN_LIT("text/plain; charset=utf-8");
    m->count = 0;
    buf_reset(&m->text);
    buf_reset(&m->html);
    message_check_wire(message);
    message_split(m, message);
    CHECK(m->count >= 2);
    struct span last = m->headers[m->count - 1].value, rest = m->body, line;
    struct span multipart = SPAN_LIT("multipart/alternative;\r\n boundary=\"");
    if (span_starts(last, multipart)) {
        char end[MESSAGE_BODY_LINE];
        struct span boundary = span_from(last, multipart.len);
        CHECK(boundary.len > 3 && boundary.ptr[boundary.len - 1] == '"' &&
              span_starts(boundary, SPAN_LIT("=_")));
        boundary.len--;
        (void)snprintf(end, sizeof end, "--%.*s", SPAN_FMT(boundary));
        line = message_line(&rest);
        CHECK(span_eq(line, span_of(end)));
        for (size_t part = 0; part < 2; part++) {
            line = message_line(&rest);
            CHECK(span_eq(line, part ? SPAN_LIT("Content-Type: text/html; charset=utf-8")
                                     : SPAN_LIT("Content-Type: text/plain; charset=utf-8")));
            line = message_line(&rest);
            CHECK(span_eq(line, SPAN_LIT("Content-Transfer-Encoding: quoted-printable")));
            line = message_line(&rest);
            CHECK(line.len == 0);
            if (part)
                (void)snprintf(end, sizeof end, "--%.*s--", SPAN_FMT(boundary));
            message_decode(part ? &m->html : &m->text, &rest, span_of(end));
        }
    } else {
        CHECK(span_eq(last, encoding));
        CHECK(span_eq(message_value(m, m->count - 2, "Content-Type"), plain));
        message_decode(&m->text, &rest, span_empty());
    }
    CHECK(rest.len == 0); /* exactly one message */
    CHECK(m->text.error == ST_OK && m->html.error == ST_OK && m->text.len > 0);
    message_check_shown(buf_span(&m->text), true);
    message_check_shown(buf_span(&m->html), true);
}

CHECKS_END

#endif
