#include "lib/base/json_write.h"

/* Libraries */
#include <yajl/yajl_gen.h>

static void print(void *ctx, const char *text, size_t len)
{
    buf_add(ctx, (struct span){text, len});
}

static void note(struct json_writer *w, yajl_gen_status status)
{
    if (w->error == ST_OK && status != yajl_gen_status_ok && status != yajl_gen_generation_complete)
        w->error = status == yajl_gen_invalid_string ? ST_INVALID : ST_BUG;
}

static void add_string(struct json_writer *w, struct span text)
{
    if (w->error == ST_OK)
        note(w, yajl_gen_string(w->generator, (const unsigned char *)(text.ptr ? text.ptr : ""), text.len));
}

void json_begin(struct json_writer *w, struct buf *out)
{
    *w = (struct json_writer){.out = out, .generator = yajl_gen_alloc(NULL)};
    if (!w->generator) {
        w->error = ST_NOMEM;
        return;
    }
    if (!yajl_gen_config(w->generator, yajl_gen_validate_utf8, 1) ||
        !yajl_gen_config(w->generator, yajl_gen_print_callback, print, out))
        w->error = ST_BUG;
    if (w->error == ST_OK)
        note(w, yajl_gen_map_open(w->generator));
}

void json_add_text(struct json_writer *w, struct span name, struct span value)
{
    add_string(w, name);
    add_string(w, value);
}

void json_add_number(struct json_writer *w, struct span name, int64_t value)
{
    add_string(w, name);
    if (w->error == ST_OK)
        note(w, yajl_gen_integer(w->generator, value));
}

void json_add_bool(struct json_writer *w, struct span name, bool value)
{
    add_string(w, name);
    if (w->error == ST_OK)
        note(w, yajl_gen_bool(w->generator, value));
}

void json_open(struct json_writer *w, struct span name)
{
    add_string(w, name);
    if (w->error == ST_OK)
        note(w, yajl_gen_map_open(w->generator));
}

void json_close(struct json_writer *w)
{
    if (w->error == ST_OK)
        note(w, yajl_gen_map_close(w->generator));
}

enum status json_end(struct json_writer *w, const char *what, struct fail *why)
{
    if (w->error == ST_OK)
        note(w, yajl_gen_map_close(w->generator));
    if (w->generator)
        yajl_gen_free(w->generator);
    w->generator = NULL;
    enum status status = buf_status(w->out, what, why);
    if (status != ST_OK)
        return status;
    switch (w->error) {
    case ST_OK:
        return ST_OK;
    case ST_INVALID:
        return fail_set(why, ST_INVALID, 0, "%s holds text that is not UTF-8", what);
    case ST_NOMEM:
        return fail_set(why, ST_NOMEM, 0, "no memory to write %s", what);
    default:
        return fail_set(why, ST_BUG, 0, "%s: JSON written out of order", what);
    }
}
