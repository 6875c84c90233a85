#include "handler/ctl/print.h"

/* System */
#include <stdio.h>
#include <sysexits.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/text.h"

int ctl_exit_of(enum status status)
{
    switch (status) {
    case ST_OK:
        return 0;
    case ST_INVALID: /* an id that is none, or too short to be only one item's */
    case ST_EXISTS:
        return EX_USAGE;
    case ST_NOT_FOUND:
        return EX_NOINPUT;
    case ST_AGAIN:
    case ST_UNKNOWN:
        return EX_TEMPFAIL;
    default:
        return EX_UNAVAILABLE;
    }
}

int ctl_failed(enum status status, const struct fail *why)
{
    (void)fprintf(stderr, "leadctl: %s\n", why->text);
    if (status == ST_DENIED || status == ST_AGAIN || status == ST_UNKNOWN || status == ST_REFUSED)
        (void)fprintf(stderr, "leadctl: `leadctl check` tries all parts and says what to do\n");
    return ctl_exit_of(status);
}

struct span ctl_read_address(struct span given, char line[CTL_ADDRESS_LINE])
{
    if (!span_eq(given, SPAN_LIT("-")))
        return given;
    if (!fgets(line, CTL_ADDRESS_LINE, stdin))
        line[0] = '\0';
    return span_of(line);
}

void ctl_add_time(struct buf *line, int64_t wall_ms)
{
    char time[CLOCK_TEXT_BYTES];
    clock_iso_time(wall_ms, time);
    time[10] = ' ';
    buf_add(line, span_cut(span_of(time), 0, 19));
}

void ctl_add_property(struct json_writer *w, const struct property *p)
{
    char time[CLOCK_TEXT_BYTES];
    switch (p->type) {
    case EDM_BOOLEAN:
        json_add_bool(w, p->name, p->number != 0);
        break;
    case EDM_INT32:
        json_add_number(w, p->name, p->number);
        break;
    case EDM_DATETIME:
        clock_iso_time(p->number, time);
        json_add_text(w, p->name, span_of(time));
        break;
    case EDM_STRING:
    case EDM_OTHER:
        json_add_text(w, p->name, p->text);
        break;
    case EDM_BINARY:
        break;
    }
}

void ctl_add_row(struct json_writer *w, const struct entity *row)
{
    json_add_text(w, SPAN_LIT("Offer"), row->partition_key);
    json_add_text(w, SPAN_LIT("RowKey"), row->row_key);
    for (size_t i = 0; i < row->count; i++)
        ctl_add_property(w, &row->properties[i]);
}

static void print_escape(uint32_t code)
{
    if (code > 0xFFFF) {
        (void)printf("\\u%04X", (unsigned int)(0xD800 + ((code - 0x10000) >> 10)));
        code = 0xDC00 + (code & 0x3FF);
    }
    (void)printf("\\u%04X", (unsigned int)code);
}

/* Most is ASCII, and is written at once. */
void ctl_print_json(struct span json)
{
    size_t from = 0;
    for (size_t at = 0, len; at < json.len; at += len) {
        uint32_t code = (unsigned char)json.ptr[at];
        len = code < 0x7F ? 1 : utf8_decode(span_from(json, at), &code);
        len = len ? len : 1;
        if (code < 0x7F || !(is_control_code(code) || is_invisible_code(code)))
            continue;
        (void)fwrite(json.ptr + from, 1, at - from, stdout);
        print_escape(code);
        from = at + len;
    }
    (void)fwrite(json.ptr + from, 1, json.len - from, stdout);
}

void ctl_print_text(struct span body)
{
    while (body.len) {
        uint32_t code;
        size_t len = utf8_decode(body, &code);
        bool is_shown =
            len > 0 && ((!is_control_code(code) && !is_invisible_code(code)) || code == '\n' || code == '\t');
        len = len ? len : 1;
        for (size_t i = 0; i < len; i++) {
            if (is_shown)
                (void)putchar(body.ptr[i]);
            else
                (void)printf("\\x%02X", (unsigned int)(unsigned char)body.ptr[i]);
        }
        body = span_from(body, len);
    }
}
