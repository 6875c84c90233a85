/* Our writer of JSON against yajl's: spooled rows carry a checksum of its text, so it must not change by a byte. */
#include "tests/fuzz/fuzz.h"

#include <yajl/yajl_gen.h>

#include "lib/base/json_write.h"
#include "lib/base/text.h"

CHECKS_BEGIN

enum { OUT_BYTES = 64 * 1024, DEPTH = 8 };

static struct buf out = BUF_INIT(OUT_BYTES);

static void add_name(yajl_gen gen, struct span name)
{
    CHECK(yajl_gen_string(gen, (const unsigned char *)name.ptr, name.len) == yajl_gen_status_ok);
}

/* Each part of the input is a member: what kind, and its bytes, which are name and value. */
static bool add_members(struct json_writer *w, yajl_gen gen, struct span rest)
{
    struct span part;
    size_t depth = 0;
    bool is_good = true; /* yajl stops at the first text that is not UTF-8, and so do we */
    while (is_good && span_next(&rest, PART_END, &part)) {
        unsigned int kind = fuzz_byte(&part);
        struct span name = span_cut(part, 0, kind >> 3), value = span_from(part, kind >> 3);
        int64_t number = 0;
        if (!name.ptr)
            name = value = SPAN_LIT("");
        memcpy(&number, value.ptr, value.len < sizeof number ? value.len : sizeof number);
        if ((kind & 7) == 7 && depth > 0) {
            json_close(w);
            CHECK(yajl_gen_map_close(gen) == yajl_gen_status_ok);
            depth--;
        }
        if ((kind & 7) == 7 || ((kind & 7) == 6 && depth == DEPTH))
            continue;
        is_good = utf8_is_valid(name, NULL) && ((kind & 7) > 2 || utf8_is_valid(value, NULL));
        if (is_good)
            add_name(gen, name);
        if ((kind & 7) < 3) {
            json_add_text(w, name, value);
            CHECK(!is_good ||
                  yajl_gen_string(gen, (const unsigned char *)value.ptr, value.len) == yajl_gen_status_ok);
        } else if ((kind & 7) == 3) {
            json_add_number(w, name, number);
            CHECK(!is_good || yajl_gen_integer(gen, number) == yajl_gen_status_ok);
        } else if ((kind & 7) < 6) {
            json_add_bool(w, name, kind & 1);
            CHECK(!is_good || yajl_gen_bool(gen, kind & 1) == yajl_gen_status_ok);
        } else {
            json_open(w, name);
            CHECK(!is_good || yajl_gen_map_open(gen) == yajl_gen_status_ok);
            depth++;
        }
    }
    for (; depth > 0; depth--) {
        json_close(w);
        (void)yajl_gen_map_close(gen);
    }
    return is_good;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct json_writer w;
    struct fail why;
    const unsigned char *theirs;
    size_t len;
    yajl_gen gen = yajl_gen_alloc(NULL);
    CHECK(gen && yajl_gen_config(gen, yajl_gen_validate_utf8, 1) &&
          yajl_gen_map_open(gen) == yajl_gen_status_ok);
    buf_reset(&out);
    json_begin(&w, &out);
    bool is_good = add_members(&w, gen, (struct span){(const char *)data, size});
    enum status status = json_end(&w, "a text", &why);
    CHECK(status == (is_good ? ST_OK : ST_INVALID));
    if (is_good) {
        CHECK(yajl_gen_map_close(gen) == yajl_gen_status_ok);
        CHECK(yajl_gen_get_buf(gen, &theirs, &len) == yajl_gen_status_ok);
        CHECK(span_eq(buf_span(&out), (struct span){(const char *)theirs, len}));
    } else {
        fuzz_check_fail(&why, status);
    }
    yajl_gen_free(gen);
    return 0;
}

CHECKS_END
