#include "lib/mail/mime.h"

/* System */
#include <string.h>

/* L0 */
#include "lib/base/encode.h"
#include "lib/base/limits.h"
#include "lib/base/text.h"

enum {
    HEADER_LINE = 76,                         /* RFC 2047 2: lines with encoded words */
    ENCODED_WORD = 75,                        /* RFC 2047 2: one encoded word */
    BODY_LINE = 76,                           /* RFC 2045 6.7 */
    CLEAN_BYTES = 3 * LIMIT_MAIL_HEADER_BYTES /* a bad byte becomes the three of U+FFFD */
};
#define WORD_BEGIN "=?UTF-8?B?"
#define WORD_END   "?="

/* One line of visible text, each run of blanks and line breaks one space. */
static void add_clean(struct buf *out, struct span text)
{
    bool gap = false;
    while (text.len) {
        uint32_t code;
        size_t len = utf8_decode(text, &code);
        if (len == 0) {
            len = 1;
            code = 0xFFFD;
        }
        text = span_from(text, len);
        if (code == ' ' || is_control_code(code)) {
            gap = out->len > 0; /* none at the beginning, and none at the end */
        } else if (!is_invisible_code(code)) {
            if (gap)
                buf_add_char(out, ' ');
            gap = false;
            utf8_add(out, code);
        }
    }
}

static bool is_plain(struct span text)
{
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        if (c < 0x20 || c > 0x7E || (c == '=' && i + 1 < text.len && text.ptr[i + 1] == '?'))
            return false;
    }
    return true;
}

/* Encoded words, each of whole characters, on as many lines as needed. */
static void add_encoded(struct buf *out, struct span text, size_t column)
{
    while (text.len) {
        size_t room = column + ENCODED_WORD <= HEADER_LINE ? ENCODED_WORD : HEADER_LINE - column;
        size_t frame = sizeof WORD_BEGIN - 1 + sizeof WORD_END - 1;
        size_t bytes = room > frame ? (room - frame) / 4 * 3 : 0;
        struct span part = utf8_cut_bytes(text, bytes);
        if (part.len == 0) { /* no room for a character on this line */
            buf_add_text(out, "\r\n ");
            column = 1;
            continue;
        }
        buf_add_text(out, WORD_BEGIN);
        base64_add(out, part);
        buf_add_text(out, WORD_END);
        text = span_from(text, part.len);
        if (text.len) {
            buf_add_text(out, "\r\n ");
            column = 1;
        }
    }
}

/* Whether the text fits on lines that are broken at its blanks only. */
static bool fits_folded(struct span text, size_t column)
{
    struct span rest = text, word;
    while (span_next(&rest, ' ', &word)) {
        if (column + word.len > HEADER_LINE)
            return false;
        column = 1; /* where a word stands that begins a further line */
    }
    return true;
}

static void add_folded(struct buf *out, struct span text, size_t column)
{
    struct span rest = text, word;
    bool first = true;
    while (span_next(&rest, ' ', &word)) {
        if (!first && column + 1 + word.len > HEADER_LINE) {
            buf_add_text(out, "\r\n");
            column = 0;
        }
        if (!first) {
            buf_add_char(out, ' ');
            column++;
        }
        buf_add(out, word);
        column += word.len;
        first = false;
    }
}

/* Cleans text into clean; false: the error is in out now. */
static bool clean_text(struct buf *clean, struct span text, struct buf *out)
{
    add_clean(clean, utf8_cut_bytes(text, LIMIT_MAIL_HEADER_BYTES));
    if (clean->error != ST_OK && out->error == ST_OK)
        out->error = clean->error;
    return clean->error == ST_OK;
}

void mime_add_header_text(struct buf *out, const char *name, struct span text)
{
    struct buf clean = BUF_INIT(CLEAN_BYTES);
    size_t column = strlen(name) + 2;
    buf_addf(out, "%s: ", name);
    if (clean_text(&clean, text, out)) {
        if (is_plain(buf_span(&clean)) && fits_folded(buf_span(&clean), column))
            add_folded(out, buf_span(&clean), column);
        else
            add_encoded(out, buf_span(&clean), column);
    }
    buf_add_text(out, "\r\n");
    buf_release(&clean);
}

void mime_add_phrase(struct buf *out, struct span text, size_t column)
{
    struct buf clean = BUF_INIT(CLEAN_BYTES);
    if (clean_text(&clean, text, out)) {
        struct span name = buf_span(&clean);
        bool quotable = is_plain(name) && span_find(name, '"') == SPAN_NONE &&
                        span_find(name, '\\') == SPAN_NONE && column + name.len + 2 <= HEADER_LINE;
        if (quotable)
            buf_addf(out, "\"%.*s\"", SPAN_FMT(name));
        else
            add_encoded(out, name, column);
    }
    buf_release(&clean);
}

/* Whether the byte may stand for itself. */
static bool is_literal(struct span line, size_t at)
{
    unsigned char c = (unsigned char)line.ptr[at];
    if (c == ' ' || c == '\t')
        return at + 1 < line.len; /* not at the end of a line */
    return c >= 33 && c <= 126 && c != '=';
}

/* One line of text, broken softly where it is too long. */
static void add_qp_line(struct buf *out, struct span line)
{
    static const char digits[] = "0123456789ABCDEF";
    char text[BODY_LINE];
    size_t column = 0;
    for (size_t i = 0; i < line.len; i++) {
        bool literal = is_literal(line, i);
        if (column + (literal ? 1 : 3) > BODY_LINE - 1) { /* the last column is for the '=' of a soft break */
            buf_add(out, (struct span){text, column});
            buf_add_text(out, "=\r\n");
            column = 0;
        }
        /* At the beginning of a line a dot would be doubled on the way, and "From " turned into ">From ". */
        if (column == 0 && (line.ptr[i] == '.' || line.ptr[i] == 'F'))
            literal = false;
        unsigned char c = (unsigned char)line.ptr[i];
        text[column++] = literal ? (char)c : '=';
        if (!literal) {
            text[column++] = digits[c >> 4];
            text[column++] = digits[c & 15];
        }
    }
    buf_add(out, (struct span){text, column});
    buf_add_text(out, "\r\n");
}

void mime_add_quoted_printable(struct buf *out, struct span text)
{
    struct span rest = text, line;
    while (rest.len && span_next(&rest, '\n', &line))
        add_qp_line(out, line);
}
