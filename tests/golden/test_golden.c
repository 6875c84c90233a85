/* Golden cases: one folder per case, one expected file per stage.
 *
 *   body      the raw bytes of a request
 *   type      its Content-Type (optional)
 *   withhold  the setting withhold_domains (optional)
 *   1-payload, 2-lead, ...   what each stage makes of it, up to the last one
 *   error     instead of the first stage that refuses, and of those after it
 *
 * The folder is GOLDEN_DIR, or tests/golden.  With UPDATE_GOLDEN=1 the expected
 * files are written instead of compared: read every change before keeping it.
 * A new stage is one function and one line in STAGES.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/lead/lead.h"

enum { TEXT_MAX = 1024 * 1024, PATH_BYTES = 4096 };

/* One case on its way through the stages. */
struct run {
    const char *name; /* of the folder */
    struct buf body;
    struct buf type;
    struct buf withhold;
    struct arena arena;
    size_t offset; /* where lead_read found a fault */
    struct payload payload;
    struct lead lead;
};

/* --- text of a stage ----------------------------------------------------------------------------------------- */

/* Characters that a reader of the file would not see are shown as their code, blanks at the ends too. */
static void add_visible(struct buf *out, struct span value)
{
    size_t end = span_trim(value).len ? (size_t)(span_trim(value).ptr - value.ptr) + span_trim(value).len : 0;
    for (size_t at = 0, len; at < value.len; at += len) {
        uint32_t code;
        len = utf8_decode(span_from(value, at), &code);
        if (len == 0) {
            len = 1;
            buf_addf(out, "\\x{%02X}", (unsigned int)(unsigned char)value.ptr[at]);
        } else if (code == '\\') {
            buf_add_text(out, "\\\\");
        } else if (is_control_code(code) || is_invisible_code(code) ||
                   (code == ' ' && (at == 0 || at >= end))) {
            buf_addf(out, "\\u{%04X}", (unsigned int)code);
        } else {
            buf_add(out, span_cut(value, at, len));
        }
    }
}

static void line(struct buf *out, const char *name, struct span value)
{
    buf_addf(out, "%s =%s", name, value.len ? " " : "");
    add_visible(out, value);
    buf_add_char(out, '\n');
}

static void line_of_flag(struct buf *out, const char *name, bool value)
{
    line(out, name, value ? SPAN_LIT("yes") : SPAN_LIT("no"));
}

static void lines_of_customer(struct buf *out, const struct customer *c)
{
    line(out, "first_name", c->first_name);
    line(out, "last_name", c->last_name);
    line(out, "email", c->email);
    line(out, "phone", c->phone);
    line(out, "country", c->country);
    line(out, "company", c->company);
    line(out, "title", c->title);
}

/* --- stages -------------------------------------------------------------------------------------------------- */

static enum status show_payload(struct run *r, struct buf *out, struct fail *why)
{
    const struct payload *p = &r->payload;
    enum status status =
        lead_read(buf_span(&r->body), span_trim(buf_span(&r->type)), &r->arena, &r->payload, &r->offset, why);
    if (status != ST_OK)
        return status;
    lines_of_customer(out, &p->customer);
    line(out, "lead_source", p->lead_source);
    line(out, "action_code", p->action_code);
    line(out, "offer_title", p->offer_title);
    line(out, "description", p->description);
    line(out, "product_id", p->product_id);
    return ST_OK;
}

static enum status show_lead(struct run *r, struct buf *out, struct fail *why)
{
    const struct lead *l = &r->lead;
    enum status status = lead_normalize(&r->payload, buf_span(&r->body), span_trim(buf_span(&r->withhold)),
                                        &r->arena, &r->lead, why);
    if (status != ST_OK)
        return status;
    lines_of_customer(out, &l->customer);
    line(out, "lead_source", l->lead_source);
    line(out, "action_code", l->action_code);
    line(out, "offer_title", l->offer_title);
    line(out, "description", l->description);
    line(out, "product_id", l->product_id);
    line(out, "source", l->source);
    line(out, "action", l->action);
    line(out, "publisher_id", l->publisher_id);
    line(out, "offer_id", l->offer_id);
    line(out, "campaign", l->campaign);
    line_of_flag(out, "is_test", l->is_test);
    line_of_flag(out, "do_not_contact", l->do_not_contact);
    line_of_flag(out, "withheld", l->withheld);
    line(out, "payload", span_eq(l->payload, buf_span(&r->body)) ? SPAN_LIT("(the body)") : l->payload);
    return ST_OK;
}

static enum status show_keys(struct run *r, struct buf *out, struct fail *why)
{
    unsigned char random[LEAD_RANDOM_BYTES]; /* 00 01 02 ...: recognised at sight in a key */
    for (size_t i = 0; i < sizeof random; i++)
        random[i] = (unsigned char)i;
    enum status status = lead_identify(&r->lead, buf_span(&r->body), random, why);
    if (status != ST_OK)
        return status;
    line(out, "partition", span_of(r->lead.partition));
    line(out, "contact", span_of(r->lead.contact));
    line(out, "content", span_of(r->lead.content));
    return ST_OK;
}

/* In order; each may use what those before it left in the run. */
static const struct stage {
    const char *file;
    enum status (*show)(struct run *run, struct buf *out, struct fail *why);
} STAGES[] = {
    {"1-payload", show_payload},
    {"2-lead", show_lead},
    {"3-keys", show_keys},
};
enum { STAGE_COUNT = sizeof STAGES / sizeof STAGES[0] };

static void show_error(const struct run *r, const struct fail *why, struct buf *out)
{
    line(out, "status", span_of(status_name(why->code)));
    buf_addf(out, "offset = %zu\n", r->offset);
    line(out, "text", span_of(why->text));
}

/* --- files --------------------------------------------------------------------------------------------------- */

static const char *golden_dir(void)
{
    const char *dir = getenv("GOLDEN_DIR");
    return dir ? dir : "tests/golden";
}

static void path_of(const struct run *r, const char *file, char path[PATH_BYTES])
{
    int len = snprintf(path, PATH_BYTES, "%s/%s/%s", golden_dir(), r->name, file);
    assert_in_range(len, 1, PATH_BYTES - 1);
}

/* Gives whether the file exists; anything else that goes wrong fails the test. */
static bool read_file(const struct run *r, const char *file, struct buf *content)
{
    char path[PATH_BYTES];
    struct fail why = {0};
    path_of(r, file, path);
    enum status status = file_read(path, FILE_PUBLIC, content, &why);
    if (status != ST_OK && status != ST_NOT_FOUND)
        fail_msg("%s", why.text);
    return status == ST_OK;
}

static void write_file(const struct run *r, const char *file, const struct buf *content)
{
    char path[PATH_BYTES];
    path_of(r, file, path);
    FILE *out = fopen(path, "w");
    if (!out)
        fail_msg("cannot write %s: %s", path, strerror(errno));
    bool is_written = fwrite(content->data, 1, content->len, out) == content->len;
    if (fclose(out) != 0 || !is_written)
        fail_msg("cannot write %s", path);
}

/* Compares with the expected file, or writes it.  got is NULL when there must be no such file.
 * Gives whether it was right. */
static bool check_file(const struct run *r, const char *file, const struct buf *got)
{
    char path[PATH_BYTES];
    struct buf want = BUF_INIT(TEXT_MAX);
    path_of(r, file, path);
    bool is_update = getenv("UPDATE_GOLDEN") != NULL;
    if (is_update && got)
        write_file(r, file, got);
    else if (is_update && unlink(path) != 0 && errno != ENOENT)
        fail_msg("cannot remove %s", path);
    bool is_wanted = read_file(r, file, &want);
    bool is_right = is_wanted == (got != NULL) && (!got || span_eq(buf_span(got), buf_span(&want)));
    if (!is_right)
        print_error("%s/%s\n--- got\n%s--- want\n%s---\n", r->name, file,
                    got ? got->data : "(no such stage)\n", is_wanted ? want.data : "(no such file)\n");
    buf_release(&want);
    return is_right;
}

/* --- cases --------------------------------------------------------------------------------------------------- */

static void test_case(void **state)
{
    struct run *r = *state;
    struct buf got = BUF_INIT(TEXT_MAX);
    struct fail why = {0};
    bool is_right = true, is_going = true;
    if (!read_file(r, "body", &r->body))
        fail_msg("%s has no file 'body'", r->name);
    (void)read_file(r, "type", &r->type); /* these two may be missing */
    (void)read_file(r, "withhold", &r->withhold);
    for (size_t i = 0; i < STAGE_COUNT; i++) {
        buf_reset(&got);
        if (is_going && STAGES[i].show(r, &got, &why) != ST_OK) {
            is_going = false;
            buf_reset(&got);
            show_error(r, &why, &got);
            is_right &= check_file(r, "error", &got);
        }
        assert_int_equal(got.error, ST_OK);
        is_right &= check_file(r, STAGES[i].file, is_going ? &got : NULL);
    }
    if (is_going)
        is_right &= check_file(r, "error", NULL);
    buf_release(&got);
    assert_true(is_right);
}

static int set_up(void **state)
{
    struct run *r = *state;
    r->body = r->type = r->withhold = BUF_INIT(TEXT_MAX);
    r->arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    return 0;
}

static int tear_down(void **state)
{
    struct run *r = *state;
    buf_release(&r->body);
    buf_release(&r->type);
    buf_release(&r->withhold);
    arena_release(&r->arena);
    return 0;
}

static int is_case(const struct dirent *entry)
{
    char path[PATH_BYTES];
    struct stat info;
    int len = snprintf(path, sizeof path, "%s/%s", golden_dir(), entry->d_name);
    return entry->d_name[0] != '.' && len > 0 && len < PATH_BYTES && stat(path, &info) == 0 &&
           S_ISDIR(info.st_mode);
}

int main(void)
{
    struct dirent **folders;
    int count = scandir(golden_dir(), &folders, is_case, alphasort);
    if (count <= 0) {
        (void)fprintf(stderr, "no golden cases in '%s'\n", golden_dir());
        return EXIT_FAILURE;
    }
    struct CMUnitTest *tests = calloc((size_t)count, sizeof *tests);
    struct run *runs = calloc((size_t)count, sizeof *runs);
    int failed = EXIT_FAILURE;
    if (tests && runs) {
        for (int i = 0; i < count; i++) {
            runs[i].name = folders[i]->d_name;
            tests[i] = (struct CMUnitTest){.name = runs[i].name,
                                           .test_func = test_case,
                                           .setup_func = set_up,
                                           .teardown_func = tear_down,
                                           .initial_state = &runs[i]};
        }
        failed = _cmocka_run_group_tests("golden", tests, (size_t)count, NULL, NULL);
    }
    for (int i = 0; i < count; i++)
        free(folders[i]);
    free(folders);
    free(tests);
    free(runs);
    return failed;
}
