/* The key file: what it says is good opens until it retires, nothing else does, and no message quotes a key.
 *
 * The file as a whole and its lines one by one are two readers of one grammar; they must agree.
 */
#include "tests/fuzz/fuzz.h"

#include "lib/auth/keys.h"

CHECKS_BEGIN

enum { MISTAKES_BYTES = 64 * 1024 };

#define FILE_PATH "/etc/leadhook/keys"
#define NOW_MS    1795255200000 /* 2026-11-21T10:00:00Z */

static struct buf mistakes = BUF_INIT(MISTAKES_BYTES);

static bool has_only(struct span s, const char *also)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c && strchr(also, c))))
            return false;
    }
    return true;
}

static void check_plain(const struct keys *keys, const struct key_line *line)
{
    const char *owner = NULL;
    struct fail why;
    bool is_live = line->retire_ms > NOW_MS;
    CHECK(line->key.len >= LIMIT_KEY_MIN_BYTES && line->key.len <= LIMIT_KEY_BYTES);
    CHECK(has_only(line->key, "-_.~"));
    CHECK(keys_match(keys, line->key, NOW_MS, &owner, &why) == (is_live ? ST_OK : ST_DENIED));
    CHECK(!is_live || span_eq(span_of(owner), line->name));
    if (line->retire_ms != KEY_NEVER)
        CHECK(keys_match(keys, line->key, line->retire_ms, &owner, &why) == ST_DENIED);
    struct span less = span_cut(line->key, 0, line->key.len - 1);
    if (less.len < LIMIT_KEY_MIN_BYTES)
        CHECK(keys_match(keys, less, NOW_MS, &owner, &why) == ST_DENIED);
}

static void check_line(const struct keys *keys, const struct key_line *line)
{
    CHECK(line->name.len > 0 && line->name.len <= LIMIT_KEY_NAME_BYTES && has_only(line->name, "._-"));
    if (line->kind == KEY_PLAIN)
        check_plain(keys, line);
    else if (line->kind == KEY_HASHED)
        CHECK(line->byte_count == SHA256_BYTES && line->key.len == 7 + 2 * SHA256_BYTES);
    else
        CHECK(line->byte_count >= 24 && line->byte_count <= LIMIT_SIGNING_SECRET_BYTES);
}

static void check_good(struct span file, const struct keys *keys)
{
    struct span rest = file, text, nobodys = SPAN_LIT("~~~~~~~~~~~~~~~~nobodys");
    const char *owner = NULL;
    struct fail why;
    size_t live = 0;
    while (span_next(&rest, '\n', &text)) {
        struct key_line line;
        CHECK(key_line_parse(text, &line, &why) == ST_OK);
        if (line.kind == KEY_NOTHING)
            continue;
        live += line.retire_ms > NOW_MS ? 1 : 0;
        check_line(keys, &line);
    }
    CHECK(keys_count(keys, NOW_MS) == live);
    CHECK(keys_match(keys, span_empty(), NOW_MS, &owner, &why) == ST_DENIED);
    if (!fuzz_has(file, nobodys) && !fuzz_has(file, SPAN_LIT("sha256:")))
        CHECK(keys_match(keys, nobodys, NOW_MS, &owner, &why) == ST_DENIED);
}

/* A second word that could be a key, or a secret. */
static struct span second_word(struct span line)
{
    line = span_trim(line);
    size_t at = 0;
    while (at < line.len && !strchr(" \t\r", line.ptr[at]))
        at++;
    struct span word = span_trim(span_from(line, at));
    for (at = 0; at < word.len && !strchr(" \t\r", word.ptr[at]);)
        at++;
    return span_cut(word, 0, at);
}

/* Each line names the file; none has anything in it that may be a key. */
static void check_mistakes(struct span file, const struct fail *why)
{
    struct span said = buf_span(&mistakes), rest = said, line;
    CHECK(said.len > 0 && said.ptr[said.len - 1] == '\n');
    rest.len--;
    while (span_next(&rest, '\n', &line))
        CHECK(span_starts(line, SPAN_LIT(FILE_PATH ":")) && !fuzz_has_control(line));
    rest = file;
    while (span_next(&rest, '\n', &line)) {
        struct span key = second_word(line);
        bool has_capital_or_digit = false;
        for (size_t i = 0; i < key.len; i++)
            has_capital_or_digit = has_capital_or_digit || (key.ptr[i] >= 'A' && key.ptr[i] <= 'Z') ||
                                   (key.ptr[i] >= '0' && key.ptr[i] <= '9');
        /* Words of our own messages are not keys. */
        if (key.len >= LIMIT_KEY_MIN_BYTES && has_capital_or_digit) {
            CHECK(!fuzz_has(said, key));
            CHECK(!fuzz_has(span_of(why->text), key));
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span file = {(const char *)data, size};
    struct keys *keys = NULL;
    struct fail why;
    buf_reset(&mistakes);
    enum status status = keys_parse(file, FILE_PATH, NOW_MS, &keys, &mistakes, &why);
    CHECK(status == ST_OK || status == ST_INVALID);
    if (status == ST_OK) {
        CHECK(mistakes.len == 0);
        check_good(file, keys);
        keys_free(keys);
    } else {
        fuzz_check_fail(&why, status);
        CHECK(!keys);
        check_mistakes(file, &why);
    }
    return 0;
}

CHECKS_END
