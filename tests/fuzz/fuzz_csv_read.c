/* CSV: a second reader, which has all of the file before it, finds the same rows, and the same failure at the same
 * place, in whatever pieces the file comes; rows that are written again are read again.
 *
 * The first three bytes of an input choose the size of the pieces, the separator and the limits.
 */
#include "tests/fuzz/fuzz.h"

#include "lib/base/buf.h"
#include "lib/base/csv_read.h"
#include "lib/base/limits.h"
#include "lib/base/text.h"

CHECKS_BEGIN

enum { FILE_BYTES = 4096, FEW_COLUMNS = 3, FEW_FIELD_BYTES = 8, FEW_ROW_BYTES = 16 };
enum { COLUMNS_FEW = 1, FIELD_SHORT = 2, ROW_SHORT = 4, FILE_SHORT = 8 };

static const char CHOICES[] = {0, ',', ';', '\t', '|'};

/* --- the file as pieces -------------------------------------------------------------------------------------- */

struct source {
    struct span rest;
    size_t piece;
};

static enum status read_source(void *context, char *to, size_t room, size_t *got, struct fail *why)
{
    struct source *s = context;
    struct span piece = span_cut(s->rest, 0, s->piece && s->piece < room ? s->piece : room);
    (void)why;
    if (piece.len)
        memcpy(to, piece.ptr, piece.len);
    s->rest = span_from(s->rest, piece.len);
    *got = piece.len;
    return ST_OK;
}

/* --- the second reader: all characters with their places, and then the grammar of RFC 4180 -------------------- */

struct character {
    uint32_t code;
    struct csv_place place;
};

static struct character text[FILE_BYTES + 1]; /* one more: the end, with its place */
static size_t text_len;
static bool text_is_broken; /* the end is a byte that is no character */

static uint32_t unit(struct span s, size_t at, bool big)
{
    unsigned int a = (unsigned char)s.ptr[at], b = (unsigned char)s.ptr[at + 1];
    return big ? a * 256 + b : b * 256 + a;
}

/* Takes one character off; false: there is none. */
static bool take_character(struct span *s, int width, bool big, uint32_t *code)
{
    size_t len = 0;
    if (width == 1) {
        len = utf8_decode(*s, code);
    } else if (s->len >= 2) {
        *code = unit(*s, 0, big);
        len = 2;
        if (*code >= 0xD800 && *code < 0xE000) {
            uint32_t low = *code < 0xDC00 && s->len >= 4 ? unit(*s, 2, big) : 0;
            len = low >= 0xDC00 && low < 0xE000 ? 4 : 0;
            *code = (*code - 0xD800) * 0x400 + (low - 0xDC00) + 0x10000;
        }
    }
    *s = span_from(*s, len);
    return len > 0 && *code != 0;
}

static void read_text(struct span file)
{
    bool big = span_starts(file, SPAN_LIT("\xFE\xFF"));
    int width = big || span_starts(file, SPAN_LIT("\xFF\xFE")) ? 2 : 1;
    if (width == 2)
        file = span_from(file, 2);
    else if (span_starts(file, SPAN_LIT("\xEF\xBB\xBF")))
        file = span_from(file, 3);
    struct csv_place place = {1, 1};
    uint32_t before = 0;
    text_len = 0;
    text_is_broken = false;
    while (file.len && !text_is_broken) {
        struct character *c = &text[text_len];
        c->place = place;
        text_is_broken = !take_character(&file, width, big, &c->code);
        if (text_is_broken)
            return;
        text_len++;
        if (c->code == '\r' || (c->code == '\n' && before != '\r')) {
            place.line++;
            place.column = 1;
        } else if (c->code != '\n') {
            place.column++;
        }
        before = c->code;
    }
    text[text_len].place = place;
}

static bool is_line_end(size_t at)
{
    return text[at].code == '\n' || text[at].code == '\r';
}

/* Whether text begins with "sep=?" and a line end. */
static bool has_note(void)
{
    static const char lower[] = "sep=", upper[] = "SEP=";
    for (size_t i = 0; i < 4; i++) {
        if (i >= text_len || (text[i].code != (uint32_t)lower[i] && text[i].code != (uint32_t)upper[i]))
            return false;
    }
    return text_len > 5 && text[4].code < 0x80 && text[4].code && strchr(",;\t|", (int)text[4].code) &&
           is_line_end(5);
}

static char find_separator(size_t *from)
{
    size_t best = 0, most = 0;
    *from = 0;
    if (has_note()) {
        *from = 6;
        return (char)text[4].code;
    }
    for (size_t k = 1; k < COUNT(CHOICES); k++) {
        size_t count = 0, quotes = 0;
        for (size_t i = 0; i < text_len && !(quotes % 2 == 0 && is_line_end(i)); i++) {
            quotes += text[i].code == '"';
            count += quotes % 2 == 0 && text[i].code == (uint32_t)CHOICES[k];
        }
        if (count > most) {
            most = count;
            best = k;
        }
    }
    return best ? CHOICES[best] : ',';
}

struct oracle {
    struct csv_options limits; /* with all of them, and the separator */
    size_t at;
    struct buf row; /* the fields, each with a byte that is in no text behind it */
    size_t row_bytes, field_bytes, count;
    uint64_t line;
    enum status status;
    struct csv_place place; /* of the failure */
};

static bool refuse(struct oracle *o, enum status status, size_t at)
{
    o->status = status;
    o->place = text[at].place;
    return false;
}

/* At the end of the text: of what it can be, or because the next bytes are no character. */
static bool ends(struct oracle *o, bool *is_end)
{
    *is_end = o->at == text_len;
    return !*is_end || !text_is_broken || refuse(o, ST_INVALID, o->at);
}

static bool put(struct oracle *o, size_t at)
{
    char memory[8];
    struct buf one = BUF_FIXED(memory);
    utf8_add(&one, text[at].code);
    o->field_bytes += one.len;
    o->row_bytes += one.len;
    if (o->field_bytes > o->limits.field_bytes || o->row_bytes > o->limits.row_bytes)
        return refuse(o, ST_TOO_LARGE, at);
    buf_add(&o->row, buf_span(&one));
    return true;
}

static bool ends_field(const struct oracle *o)
{
    return o->at == text_len || is_line_end(o->at) || text[o->at].code == (unsigned char)o->limits.separator;
}

/* escaped = DQUOTE *(TEXTDATA / COMMA / CR / LF / 2DQUOTE) DQUOTE */
static bool read_escaped(struct oracle *o)
{
    size_t quote = o->at++;
    bool is_end;
    for (;; o->at++) {
        if (!ends(o, &is_end))
            return false;
        if (is_end)
            return refuse(o, ST_INVALID, quote);
        if (text[o->at].code == '"') {
            o->at++;
            if (!ends(o, &is_end))
                return false;
            if (is_end || text[o->at].code != '"')
                return ends_field(o) || refuse(o, ST_INVALID, o->at);
        }
        if (!put(o, o->at))
            return false;
    }
}

/* non-escaped = *TEXTDATA */
static bool read_non_escaped(struct oracle *o)
{
    bool is_end;
    for (;; o->at++) {
        if (!ends(o, &is_end))
            return false;
        if (is_end || ends_field(o))
            return true;
        if (text[o->at].code == '"')
            return refuse(o, ST_INVALID, o->at);
        if (!put(o, o->at))
            return false;
    }
}

/* record = field *(COMMA field) */
static bool read_record(struct oracle *o)
{
    bool is_end;
    buf_reset(&o->row);
    o->row_bytes = 0;
    o->count = 0;
    while (o->at < text_len && is_line_end(o->at))
        o->at++;
    if (!ends(o, &is_end))
        return false;
    if (is_end)
        return refuse(o, ST_NOT_FOUND, o->at);
    o->line = text[o->at].place.line;
    for (;; o->at++) {
        o->field_bytes = 0;
        bool is_quoted = o->at < text_len && text[o->at].code == '"';
        if (!(is_quoted ? read_escaped(o) : read_non_escaped(o)))
            return false;
        if (o->count++ == o->limits.columns)
            return refuse(o, ST_TOO_LARGE, o->at);
        buf_add_char(&o->row, '\xFF');
        if (o->at == text_len || is_line_end(o->at))
            return true;
    }
}

/* --- comparing ------------------------------------------------------------------------------------------------ */

static void check_row(const struct csv_row *row, struct span fields, size_t count)
{
    struct span field;
    CHECK(row->count == count && count > 0);
    for (size_t i = 0; i < count; i++) {
        CHECK(span_next(&fields, '\xFF', &field));
        CHECK(span_eq(row->fields[i], field));
        CHECK(utf8_is_valid(row->fields[i], NULL) && span_find(row->fields[i], '\0') == SPAN_NONE);
    }
}

static struct csv_reader *open_reader(struct csv_options options, struct source *source)
{
    struct csv_reader *reader;
    options.read = read_source;
    options.context = source;
    CHECK(csv_new(&options, &reader, NULL) == ST_OK);
    return reader;
}

/* Appends the row as others write it: everything in quotes. */
static void write_row(struct buf *out, const struct csv_row *row)
{
    for (size_t i = 0; i < row->count; i++) {
        buf_add_text(out, i ? ";\"" : "\"");
        for (size_t k = 0; k < row->fields[i].len; k++) {
            if (row->fields[i].ptr[k] == '"')
                buf_add_char(out, '"');
            buf_add_char(out, row->fields[i].ptr[k]);
        }
        buf_add_char(out, '"');
    }
    buf_add_text(out, "\r\n");
}

/* What was written and what the rows were, so that both can be compared. */
static struct buf written = BUF_INIT(32 * FILE_BYTES), again = BUF_INIT(32 * FILE_BYTES);

static void check_again(void)
{
    struct source source = {.rest = buf_span(&written), .piece = 1};
    struct csv_reader *reader = open_reader((struct csv_options){.separator = ';'}, &source);
    struct csv_row row;
    struct fail why;
    buf_reset(&again);
    while (csv_next(reader, &row, &why) == ST_OK)
        write_row(&again, &row);
    CHECK(why.code == ST_NOT_FOUND && again.error == ST_OK);
    CHECK(span_eq(buf_span(&written), buf_span(&again)));
    csv_free(reader);
}

static void check_failure(struct csv_reader *reader, const struct oracle *o, const struct fail *why)
{
    struct csv_row row;
    struct fail same;
    struct csv_place place = csv_place(reader);
    fuzz_check_fail(why, o->status);
    CHECK(csv_next(reader, &row, &same) == o->status && strcmp(same.text, why->text) == 0);
    if (o->status == ST_NOT_FOUND)
        return;
    CHECK(o->status == ST_INVALID || o->status == ST_TOO_LARGE);
    CHECK(place.line == o->place.line && place.column == o->place.column);
    for (size_t i = 0; why->text[i]; i++)
        CHECK(why->text[i] >= ' ' && why->text[i] <= '~');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct buf row_text = BUF_INIT(4 * FILE_BYTES);
    struct span file = {(const char *)data, size < FILE_BYTES ? size : FILE_BYTES};
    size_t piece = fuzz_byte(&file);
    char separator = CHOICES[fuzz_byte(&file) % COUNT(CHOICES)];
    unsigned int few = fuzz_byte(&file);
    const struct csv_options options = {
        .separator = separator,
        .columns = few & COLUMNS_FEW ? FEW_COLUMNS : 0,
        .field_bytes = few & FIELD_SHORT ? FEW_FIELD_BYTES : 0,
        .row_bytes = few & ROW_SHORT ? FEW_ROW_BYTES : 0,
        .file_bytes = few & FILE_SHORT ? 64 : 0,
    };
    struct source source = {.rest = file, .piece = piece};
    struct csv_reader *reader = open_reader(options, &source);
    struct oracle o = {.limits = options, .row = row_text, .status = ST_OK, .place = {1, 1}};
    struct csv_row row;
    struct fail why = {0};
    read_text(file);
    o.limits.columns = options.columns ? options.columns : LIMIT_CSV_COLUMNS;
    o.limits.field_bytes = options.field_bytes ? options.field_bytes : LIMIT_CSV_FIELD_BYTES;
    o.limits.row_bytes = options.row_bytes ? options.row_bytes : LIMIT_CSV_ROW_BYTES;
    if (!separator)
        o.limits.separator = find_separator(&o.at);
    if (few & FILE_SHORT && file.len > 64)
        o.status = ST_TOO_LARGE;
    buf_reset(&written);
    while (o.status == ST_OK && read_record(&o)) {
        CHECK(csv_next(reader, &row, &why) == ST_OK);
        CHECK(row.line == o.line && o.row.error == ST_OK);
        CHECK(csv_separator(reader) == o.limits.separator);
        check_row(&row, buf_span(&o.row), o.count);
        write_row(&written, &row);
    }
    CHECK(csv_next(reader, &row, &why) == o.status);
    check_failure(reader, &o, &why);
    row_text = o.row;
    csv_free(reader);
    check_again();
    return 0;
}

CHECKS_END
