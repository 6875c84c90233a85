/* A machine of four states over characters, none of which is looked at twice.  RFC 4180, section 2. */
#include "lib/base/csv_read.h"

/* System */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/buf.h"
#include "lib/base/limits.h"
#include "lib/base/text.h"

enum {
    INPUT_BYTES = 64 * 1024,
    CHARACTER_BYTES = 4, /* at most, in each encoding */
};

static const char SEPARATORS[] = {',', ';', '\t', '|'};
enum { SEPARATOR_COUNT = sizeof SEPARATORS };

enum encoding { UTF_8, UTF_16_LE, UTF_16_BE };

struct csv_reader {
    struct csv_options options; /* with all limits filled in */
    bool has_begun;
    bool at_end; /* of the file: input holds the rest */
    char input[INPUT_BYTES];
    size_t from, to; /* what is in it and was not taken */
    uint64_t taken_from_file;
    enum encoding encoding;
    struct csv_place place; /* of the next character */
    struct csv_place failed_at;
    bool after_cr; /* the last character was a CR, which ends a line as well as CR LF does */
    struct buf text;
    size_t field; /* where the one in work begins in text */
    size_t *ends; /* of the fields in text */
    struct span *fields;
    size_t count;
    enum status status;
    struct fail why;
};

/* --- failures ------------------------------------------------------------------------------------------------ */

static enum status keep(struct csv_reader *r, enum status status)
{
    r->status = status;
    return status;
}

static enum status fail_at(struct csv_reader *r, struct csv_place place, enum status status, const char *what)
{
    r->failed_at = place;
    return keep(r, fail_set(&r->why, status, 0, "line %" PRIu64 ", column %" PRIu64 ": %s", place.line,
                            place.column, what));
}

/* --- bytes and characters ------------------------------------------------------------------------------------ */

/* Fills the buffer as far as the file reaches: what a reader sees does not depend on the sizes of its reads. */
static enum status fill(struct csv_reader *r)
{
    memmove(r->input, r->input + r->from, r->to - r->from);
    r->to -= r->from;
    r->from = 0;
    while (!r->at_end && r->to < INPUT_BYTES) {
        size_t got = 0;
        enum status status =
            r->options.read(r->options.context, r->input + r->to, INPUT_BYTES - r->to, &got, &r->why);
        if (status != ST_OK)
            return keep(r, status);
        r->at_end = got == 0;
        r->to += got;
        r->taken_from_file += got;
        if (r->taken_from_file > r->options.file_bytes)
            return fail_at(r, r->place, ST_TOO_LARGE, "the file is too large");
    }
    return ST_OK;
}

static uint32_t unit_at(const struct csv_reader *r, size_t at)
{
    uint32_t first = (unsigned char)r->input[at], second = (unsigned char)r->input[at + 1];
    return r->encoding == UTF_16_LE ? first | second << 8 : first << 8 | second;
}

static size_t decode_utf16(const struct csv_reader *r, size_t at, uint32_t *code)
{
    if (r->to - at < 2)
        return 0;
    uint32_t high = unit_at(r, at);
    if (high < 0xD800 || high > 0xDFFF) {
        *code = high;
        return 2;
    }
    uint32_t low = r->to - at < 4 ? 0 : unit_at(r, at + 2);
    if (high > 0xDBFF || low < 0xDC00 || low > 0xDFFF)
        return 0;
    *code = 0x10000 + ((high - 0xD800) << 10 | (low - 0xDC00));
    return 4;
}

/* The character there; gives its length, or 0 where there is none. */
static size_t decode(const struct csv_reader *r, size_t at, uint32_t *code)
{
    if (r->encoding != UTF_8)
        return decode_utf16(r, at, code);
    return utf8_decode((struct span){r->input + at, r->to - at}, code);
}

static void move_on(struct csv_reader *r, uint32_t code)
{
    if (code == '\r' || (code == '\n' && !r->after_cr))
        r->place = (struct csv_place){r->place.line + 1, 1};
    else if (code != '\n')
        r->place.column++;
    r->after_cr = code == '\r';
}

/* Takes the next character; *code is END_OF_FILE behind the last. */
#define END_OF_FILE UINT32_MAX
static enum status take(struct csv_reader *r, uint32_t *code)
{
    if (r->to - r->from < CHARACTER_BYTES && !r->at_end) {
        enum status status = fill(r);
        if (status != ST_OK)
            return status;
    }
    if (r->from == r->to) {
        *code = END_OF_FILE;
        return ST_OK;
    }
    size_t len = decode(r, r->from, code);
    if (len == 0)
        return fail_at(r, r->place, ST_INVALID,
                       r->encoding == UTF_8 ? "not UTF-8 (in Excel: save as 'CSV UTF-8')" : "not UTF-16");
    if (*code == 0)
        return fail_at(r, r->place, ST_INVALID, "a character U+0000: this is no text file");
    r->from += len;
    move_on(r, *code);
    return ST_OK;
}

/* --- what the first bytes say -------------------------------------------------------------------------------- */

static void find_encoding(struct csv_reader *r)
{
    static const struct {
        struct span mark;
        enum encoding encoding;
    } marks[] = {{{"\xEF\xBB\xBF", 3}, UTF_8}, {{"\xFF\xFE", 2}, UTF_16_LE}, {{"\xFE\xFF", 2}, UTF_16_BE}};
    struct span input = {r->input, r->to};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        if (span_starts(input, marks[i].mark)) {
            r->encoding = marks[i].encoding;
            r->from = marks[i].mark.len;
            return;
        }
    }
}

static bool is_separator(uint32_t code)
{
    return code < 0x80 && memchr(SEPARATORS, (int)code, SEPARATOR_COUNT) != NULL;
}

/* Excel's own note of the separator, a line of its own; 0: there is none. */
static char take_note(struct csv_reader *r)
{
    static const char note[] = "sep=";
    uint32_t code = 0;
    size_t at = r->from, len;
    for (size_t i = 0; i < sizeof note - 1; i++, at += len) {
        len = decode(r, at, &code);
        if (len == 0 || code >= 0x80 || char_lower((char)code) != note[i])
            return 0;
    }
    len = decode(r, at, &code);
    if (len == 0 || !is_separator(code))
        return 0;
    char separator = (char)code;
    at += len;
    len = decode(r, at, &code);
    if (len == 0 || (code != '\r' && code != '\n'))
        return 0;
    r->from = at + len;
    move_on(r, code);
    return separator;
}

/* The one that stands most often in the first line, as far as it has been read. */
static char guess_separator(const struct csv_reader *r)
{
    size_t counts[SEPARATOR_COUNT] = {0}, best = 0, len;
    bool is_quoted = false;
    uint32_t code;
    for (size_t at = r->from; (len = decode(r, at, &code)) > 0 && code != 0; at += len) {
        if (code == '"')
            is_quoted = !is_quoted;
        else if (!is_quoted && (code == '\r' || code == '\n'))
            break;
        else if (!is_quoted && is_separator(code))
            counts[(const char *)memchr(SEPARATORS, (int)code, SEPARATOR_COUNT) - SEPARATORS]++;
    }
    for (size_t i = 1; i < SEPARATOR_COUNT; i++) {
        if (counts[i] > counts[best])
            best = i;
    }
    return SEPARATORS[best];
}

static enum status begin(struct csv_reader *r)
{
    enum status status = fill(r);
    if (status != ST_OK)
        return status;
    r->has_begun = true;
    find_encoding(r);
    if (!r->options.separator)
        r->options.separator = take_note(r);
    if (!r->options.separator)
        r->options.separator = guess_separator(r);
    return ST_OK;
}

/* --- rows ---------------------------------------------------------------------------------------------------- */

enum state {
    FIELD_BEGINS,
    PLAIN,
    QUOTED,
    QUOTE_WITHIN, /* which ends the field, unless another one follows */
};

static enum status add(struct csv_reader *r, uint32_t code, struct csv_place place)
{
    size_t bytes = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    if (r->text.len - r->field + bytes > r->options.field_bytes)
        return fail_at(r, place, ST_TOO_LARGE, "the field is too long");
    if (r->text.len + bytes > r->options.row_bytes)
        return fail_at(r, place, ST_TOO_LARGE, "the row is too long");
    if (code < 0x80)
        buf_add_char(&r->text, (char)code);
    else
        utf8_add(&r->text, code);
    return r->text.error == ST_OK ? ST_OK : keep(r, buf_status(&r->text, "a row", &r->why));
}

static enum status end_field(struct csv_reader *r, struct csv_place place)
{
    if (r->count == r->options.columns)
        return fail_at(r, place, ST_TOO_LARGE, "the row has too many fields");
    r->ends[r->count++] = r->text.len;
    r->field = r->text.len;
    return ST_OK;
}

static void give_row(struct csv_reader *r, uint64_t line, struct csv_row *row)
{
    size_t from = 0;
    for (size_t i = 0; i < r->count; i++) {
        r->fields[i] = span_cut(buf_span(&r->text), from, r->ends[i] - from);
        from = r->ends[i];
    }
    *row = (struct csv_row){.fields = r->fields, .count = r->count, .line = line};
}

/* Takes one character of a field, at its place.  Line ends and separators outside of quotes are the caller's. */
static enum status take_into_field(struct csv_reader *r, enum state *state, uint32_t code,
                                   struct csv_place place)
{
    if (code == '"') {
        switch (*state) {
        case FIELD_BEGINS:
            *state = QUOTED;
            return ST_OK;
        case PLAIN:
            return fail_at(r, place, ST_INVALID, "a quote within a field that does not begin with one");
        case QUOTED:
            *state = QUOTE_WITHIN;
            return ST_OK;
        case QUOTE_WITHIN:
            *state = QUOTED;
            break;
        }
    } else if (*state == QUOTE_WITHIN) {
        return fail_at(r, place, ST_INVALID,
                       "something between the quote that ends a field and the separator");
    } else if (*state == FIELD_BEGINS) {
        *state = PLAIN;
    }
    return add(r, code, place);
}

static enum status read_row(struct csv_reader *r, struct csv_row *row)
{
    enum state state = FIELD_BEGINS;
    struct csv_place quote = {0}, first = r->place;
    buf_reset(&r->text);
    r->count = 0;
    r->field = 0;
    for (;;) {
        struct csv_place place = r->place;
        uint32_t code;
        enum status status = take(r, &code);
        if (status != ST_OK)
            return status;
        bool is_open = state == QUOTED;
        bool is_row_end = code == END_OF_FILE || (!is_open && (code == '\r' || code == '\n'));
        if (code == END_OF_FILE && is_open)
            return fail_at(r, quote, ST_INVALID, "this quote is never closed");
        if (is_row_end && state == FIELD_BEGINS && r->count == 0) {
            if (code == END_OF_FILE)
                return keep(r, fail_set(&r->why, ST_NOT_FOUND, 0, "no more rows"));
            first = r->place; /* nothing stands in this line, or this is the LF of a CR LF */
            continue;
        }
        if (is_row_end || (!is_open && code == (unsigned char)r->options.separator)) {
            status = end_field(r, place);
            state = FIELD_BEGINS;
        } else {
            if (state == FIELD_BEGINS)
                quote = place;
            status = take_into_field(r, &state, code, place);
        }
        if (status != ST_OK)
            return status;
        if (is_row_end) {
            give_row(r, first.line, row);
            return ST_OK;
        }
    }
}

enum status csv_next(struct csv_reader *reader, struct csv_row *row, struct fail *why)
{
    if (reader->status == ST_OK && !reader->has_begun)
        (void)keep(reader, begin(reader));
    if (reader->status == ST_OK)
        (void)read_row(reader, row);
    if (reader->status != ST_OK && why)
        *why = reader->why;
    return reader->status;
}

struct csv_place csv_place(const struct csv_reader *reader)
{
    return reader->failed_at;
}

char csv_separator(const struct csv_reader *reader)
{
    return reader->options.separator;
}

/* --- life ---------------------------------------------------------------------------------------------------- */

enum status csv_new(const struct csv_options *options, struct csv_reader **reader, struct fail *why)
{
    struct csv_reader *r = calloc(1, sizeof *r);
    if (r) {
        r->options = *options;
        if (!r->options.columns)
            r->options.columns = LIMIT_CSV_COLUMNS;
        if (!r->options.field_bytes)
            r->options.field_bytes = LIMIT_CSV_FIELD_BYTES;
        if (!r->options.row_bytes)
            r->options.row_bytes = LIMIT_CSV_ROW_BYTES;
        if (!r->options.file_bytes)
            r->options.file_bytes = LIMIT_CSV_BYTES;
        r->text = BUF_INIT(r->options.row_bytes);
        r->place = (struct csv_place){1, 1};
        r->ends = calloc(r->options.columns, sizeof *r->ends);
        r->fields = calloc(r->options.columns, sizeof *r->fields);
    }
    if (!r || !r->ends || !r->fields) {
        csv_free(r);
        return fail_set(why, ST_NOMEM, 0, "no memory to read CSV");
    }
    *reader = r;
    return ST_OK;
}

void csv_free(struct csv_reader *reader)
{
    if (!reader)
        return;
    buf_release(&reader->text);
    free(reader->ends);
    free(reader->fields);
    free(reader);
}
