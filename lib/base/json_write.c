/* Not yajl's generator: it calls back for every run of characters and every
 * byte of punctuation, which was a fifth of all the instructions a lead took.
 * Its spelling is kept to the byte, because spooled rows carry a checksum of it:
 * short escapes where there are any, else \u00 and capital digits; '/' and
 * U+007F as they are.
 */
#include "lib/base/json_write.h"

/* System */
#include <string.h>

/* L0 */
#include "lib/base/text.h"

/* What follows the backslash; 'u' begins the long form. */
static char letter_of(unsigned char c)
{
    static const char letters[] = "uuuuuuuubtnufruuuuuuuuuuuuuuuuuu";
    return c < 0x20 ? letters[c] : (char)c;
}

static bool is_escaped(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

static char *write_escape(char *at, unsigned char c)
{
    static const char digits[] = "0123456789ABCDEF";
    *at++ = '\\';
    *at++ = letter_of(c);
    if (at[-1] == 'u') {
        *at++ = '0';
        *at++ = '0';
        *at++ = digits[c >> 4];
        *at++ = digits[c & 0xF];
    }
    return at;
}

static void add_string(struct json_writer *w, struct span text)
{
    size_t len = text.len + 2, where; /* with the quotes */
    unsigned char seen = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned char c = (unsigned char)text.ptr[i];
        seen |= c;
        if (is_escaped(c))
            len += letter_of(c) == 'u' ? 5 : 1;
    }
    if (seen >= 0x80 && w->error == ST_OK && !utf8_is_valid(text, &where))
        w->error = ST_INVALID;
    char *at = buf_reserve(w->out, len);
    if (!at)
        return;
    *at++ = '"';
    if (len == text.len + 2 && text.len) { /* mostly */
        memcpy(at, text.ptr, text.len);
        at += text.len;
    } else {
        for (size_t i = 0; i < text.len; i++) {
            unsigned char c = (unsigned char)text.ptr[i];
            if (is_escaped(c))
                at = write_escape(at, c);
            else
                *at++ = (char)c;
        }
    }
    *at = '"';
    buf_advance(w->out, len);
}

static void add_name(struct json_writer *w, struct span name)
{
    if (!w->is_first)
        buf_add_char(w->out, ',');
    w->is_first = false;
    add_string(w, name);
    buf_add_char(w->out, ':');
}

void json_begin(struct json_writer *w, struct buf *out)
{
    *w = (struct json_writer){.out = out, .is_first = true};
    buf_add_char(out, '{');
}

void json_add_text(struct json_writer *w, struct span name, struct span value)
{
    add_name(w, name);
    add_string(w, value);
}

void json_add_number(struct json_writer *w, struct span name, int64_t value)
{
    add_name(w, name);
    buf_addf(w->out, "%lld", (long long)value);
}

void json_add_bool(struct json_writer *w, struct span name, bool value)
{
    add_name(w, name);
    buf_add_text(w->out, value ? "true" : "false");
}

void json_open(struct json_writer *w, struct span name)
{
    add_name(w, name);
    buf_add_char(w->out, '{');
    w->is_first = true;
    w->depth++;
}

void json_close(struct json_writer *w)
{
    if (w->depth == 0 && w->error == ST_OK)
        w->error = ST_BUG;
    w->depth--;
    w->is_first = false;
    buf_add_char(w->out, '}');
}

enum status json_end(struct json_writer *w, const char *what, struct fail *why)
{
    if (w->depth != 0 && w->error == ST_OK)
        w->error = ST_BUG;
    buf_add_char(w->out, '}');
    enum status status = buf_status(w->out, what, why);
    if (status != ST_OK)
        return status;
    if (w->error == ST_INVALID)
        return fail_set(why, ST_INVALID, 0, "%s holds text that is not UTF-8", what);
    if (w->error != ST_OK)
        return fail_set(why, w->error, 0, "%s: JSON written out of order", what);
    return ST_OK;
}
