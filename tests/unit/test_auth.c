/* The key file, the comparison of keys, and keys that are replaced. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/auth/keys.h"
#include "lib/base/encode.h"
#include "lib/base/limits.h"
#include "tests/unit/no_memory.h"

#define KEY16  "0123456789abcdef"
#define KEY128 KEY16 KEY16 KEY16 KEY16 KEY16 KEY16 KEY16 KEY16
#define NAME64                                                                                               \
    "name-of-16_chars"                                                                                       \
    "name-of-16_chars"                                                                                       \
    "name-of-16_chars"                                                                                       \
    "name-of-16_chars"

/* 2026-11-21T10:00:00Z */
#define NOW 1795255200000

struct fixture {
    char directory[64];
    char path[96];
    struct buf mistakes;
    struct keys *keys;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    const char *base = getenv("TMPDIR");
    (void)snprintf(f->directory, sizeof f->directory, "%s/auth-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(f->directory))
        return -1;
    (void)snprintf(f->path, sizeof f->path, "%s/keys", f->directory);
    f->mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    keys_free(f->keys);
    buf_release(&f->mistakes);
    (void)unlink(f->path);
    (void)rmdir(f->directory);
    free(f);
    return 0;
}

static void write_file(const struct fixture *f, struct span content, mode_t mode)
{
    FILE *file = fopen(f->path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(content.ptr, 1, content.len, file), content.len);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(f->path, mode), 0);
}

/* Reads the file anew; mistakes are left without the path, so that tables can hold them. */
static enum status read_keys(struct fixture *f, struct span content, struct fail *why)
{
    struct buf all = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    keys_free(f->keys);
    f->keys = NULL;
    write_file(f, content, 0600);
    enum status status = keys_read(f->path, NOW, &f->keys, &all, why);
    struct span rest = buf_span(&all), line;
    buf_reset(&f->mistakes);
    while (span_next(&rest, '\n', &line)) {
        if (span_starts(line, span_of(f->path))) {
            buf_add(&f->mistakes, span_from(line, strlen(f->path)));
            buf_add_char(&f->mistakes, '\n');
        } else {
            buf_add(&f->mistakes, line);
        }
    }
    buf_release(&all);
    return status;
}

#define WRONG_NAME   "the name must be 1 to 64 letters, digits, '.', '_' or '-'"
#define WRONG_KEY    "the key must be 16 to 128 letters, digits, '-', '_', '.' or '~'"
#define WRONG_HASH   "after 'sha256:' there must be 64 lower-case hexadecimal digits"
#define WRONG_SECRET "after 'whsec_' there must be 24 to 64 bytes in base64"
#define WRONG_WORD   "behind the key only created=TIME and retire=TIME may stand, each once"
#define WRONG_TIME   "a time must be like 2026-11-21T10:00:00Z"
#define TWO_LIVE     "this name has two live keys of this kind already: remove or retire the oldest"
#define SAME_KEY     "this key stands in the file already"
#define PAST         " retire=2026-11-21T10:00:00Z"
#define FUTURE       " retire=2026-11-21T10:00:00.001Z"

/* SHA-256 of KEY16 "A", and of "abc" (FIPS 180-4). */
#define HASH_A   "sha256:70f6808725fed62eb89a9f41790f92236c2b89973a80a2fb15813b1211cad4bc"
#define HASH_ABC "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define SECRET24 "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define SECRET23 "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRY="
#define SECRET64                                                                                             \
    "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QA=="
#define SECRET65                                                                                             \
    "whsec_AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyAhIiMkJSYnKCkqKywtLi8wMTIzNDU2Nzg5Ojs8PT4/QEE="
/* 24 bytes, and the same with a zero behind them: one key for HMAC. */
#define SECRET24_0 "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwAA=="

static const struct {
    const char *name;
    struct span content;
    const char *mistakes; /* NULL: none */
    size_t count;
} FILES[] = {
    {"one key", SPAN_LIT("ms " KEY16 "\n"), NULL, 1},
    {"no line end at the end", SPAN_LIT("ms " KEY16), NULL, 1},
    {"comments, blank lines, tabs, CR", SPAN_LIT("# keys\r\n\r\n  # more\n\tms \t " KEY16 "  \r\n"), NULL, 1},
    {"every allowed character", SPAN_LIT("A.z_0-9 AZaz09-_.~AZaz09\n"), NULL, 1},
    {"longest key and name", SPAN_LIT(NAME64 " " KEY128 "\n"), NULL, 1},
    {"two live keys of a name", SPAN_LIT("ms " KEY16 "A\nms " KEY16 "B\nother " KEY16 "C\n"), NULL, 3},
    {"empty file", SPAN_LIT(""), ": holds no key\n", 0},
    {"comments alone", SPAN_LIT("# ms " KEY16 "\n\n"), ": holds no key\n", 0},
    {"key too short", SPAN_LIT("ms 0123456789abcde\n"), ":1: " WRONG_KEY "\n", 0},
    {"key too long", SPAN_LIT("ms " KEY128 "x\n"), ":1: " WRONG_KEY "\n", 0},
    {"no key", SPAN_LIT("# x\nms\n"), ":2: " WRONG_KEY "\n", 0},
    {"character in key", SPAN_LIT("ms " KEY16 "+\n"), ":1: " WRONG_KEY "\n", 0},
    {"comment behind the key", SPAN_LIT("ms " KEY16 " # mine\n"), ":1: " WRONG_WORD "\n", 0},
    {"NUL in key", SPAN_LIT("ms " KEY16 "\0" KEY16 "\n"), ":1: " WRONG_KEY "\n", 0},
    {"name too long", SPAN_LIT(NAME64 "x " KEY16 "\n"), ":1: " WRONG_NAME "\n", 0},
    {"character in name", SPAN_LIT("m/s " KEY16 "\n"), ":1: " WRONG_NAME "\n", 0},
    {"same key again", SPAN_LIT("a " KEY16 "\nb " KEY16 "\n"), ":2: this key stands in the file already\n",
     0},
    {"third key of a name", SPAN_LIT("a " KEY16 "1\na " KEY16 "2\na " KEY16 "3\n"), ":3: " TWO_LIVE "\n", 0},
    {"the three forms with both words",
     SPAN_LIT("a " KEY16 " created=2026-01-01T00:00:00Z" FUTURE "\nb\t" HASH_ABC
              " created=2026-01-01T00:00:00Z" FUTURE "\nc " SECRET24 FUTURE
              "  created=2026-01-01T00:00:00Z\r\n"),
     NULL, 3},
    {"retired at this instant, and a millisecond before it",
     SPAN_LIT("a " KEY16 PAST "\nb " KEY16 "B" FUTURE "\n"), NULL, 1},
    {"all retired", SPAN_LIT("a " KEY16 PAST "\n"), NULL, 0},
    {"retired ones do not count",
     SPAN_LIT("a " KEY16 "1" PAST "\na " KEY16 "2" PAST "\na " KEY16 "3\na " KEY16 "4\n"), NULL, 2},
    {"a retired one behind two live ones", SPAN_LIT("a " KEY16 "1\na " KEY16 "2\na " KEY16 "3" PAST "\n"),
     NULL, 2},
    {"one that retires later counts", SPAN_LIT("a " KEY16 "1\na " KEY16 "2\na " KEY16 "3" FUTURE "\n"),
     ":3: " TWO_LIVE "\n", 0},
    {"a plain and a hashed key count together", SPAN_LIT("a " KEY16 "1\na " KEY16 "2\na " HASH_ABC "\n"),
     ":3: " TWO_LIVE "\n", 0},
    {"two keys and two secrets of a name",
     SPAN_LIT("a " KEY16 "1\na " KEY16 "2\na " SECRET24 "\na " SECRET64 "\n"), NULL, 4},
    {"third secret of a name", SPAN_LIT("a " SECRET24 "\na " SECRET64 "\na " SECRET24 "qqqq\n"),
     ":3: " TWO_LIVE "\n", 0},
    {"a key plain and hashed", SPAN_LIT("a " KEY16 "A\nb " HASH_A "\n"), ":2: " SAME_KEY "\n", 0},
    {"a retired key under another name", SPAN_LIT("a " KEY16 PAST "\nb " KEY16 "\n"), ":2: " SAME_KEY "\n",
     0},
    {"same secret again", SPAN_LIT("a " SECRET24 "\nb " SECRET24 "\n"), ":2: " SAME_KEY "\n", 0},
    {"same secret for HMAC", SPAN_LIT("a " SECRET24 "\nb " SECRET24_0 "\n"), ":2: " SAME_KEY "\n", 0},
    {"smallest and largest secret", SPAN_LIT("a " SECRET24 "\nb " SECRET64 "\n"), NULL, 2},
    {"secret too short", SPAN_LIT("a " SECRET23 "\n"), ":1: " WRONG_SECRET "\n", 0},
    {"secret too long", SPAN_LIT("a " SECRET65 "\n"), ":1: " WRONG_SECRET "\n", 0},
    {"no secret", SPAN_LIT("a whsec_\n"), ":1: " WRONG_SECRET "\n", 0},
    {"secret that is not base64", SPAN_LIT("a " SECRET24 "-_-_\n"), ":1: " WRONG_SECRET "\n", 0},
    {"secret with NUL", SPAN_LIT("a " SECRET24 "\0AAA\n"), ":1: " WRONG_SECRET "\n", 0},
    {"no hash", SPAN_LIT("a sha256:\n"), ":1: " WRONG_HASH "\n", 0},
    {"hash in upper case",
     SPAN_LIT("a sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD\n"),
     ":1: " WRONG_HASH "\n", 0},
    {"hash too short", SPAN_LIT("a sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015\n"),
     ":1: " WRONG_HASH "\n", 0},
    {"hash with an odd digit", SPAN_LIT("a " HASH_ABC "0\n"), ":1: " WRONG_HASH "\n", 0},
    {"hash too long", SPAN_LIT("a " HASH_ABC "00\n"), ":1: " WRONG_HASH "\n", 0},
    {"another hash", SPAN_LIT("a sha512:" KEY16 "\n"), ":1: " WRONG_KEY "\n", 0},
    {"not a time", SPAN_LIT("a " KEY16 " retire=tomorrow\n"), ":1: " WRONG_TIME "\n", 0},
    {"no time", SPAN_LIT("a " KEY16 " retire=\n"), ":1: " WRONG_TIME "\n", 0},
    {"a time without its zone", SPAN_LIT("a " KEY16 " created=2026-11-21T10:00:00\n"), ":1: " WRONG_TIME "\n",
     0},
    {"retires twice", SPAN_LIT("a " KEY16 PAST FUTURE "\n"), ":1: " WRONG_WORD "\n", 0},
    {"another word", SPAN_LIT("a " KEY16 " Retire=2026-11-21T10:00:00Z\n"), ":1: " WRONG_WORD "\n", 0},
    {"all mistakes at once", SPAN_LIT("a b\n\nm/s " KEY16 "\nok " KEY16 "\nok2 " KEY16 "\n"),
     ":1: " WRONG_KEY "\n:3: " WRONG_NAME "\n:5: this key stands in the file already\n", 0},
};

static void test_files(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof FILES / sizeof FILES[0]; i++) {
        struct fail why = {0};
        enum status status = read_keys(f, FILES[i].content, &why);
        enum status want = FILES[i].mistakes ? ST_INVALID : ST_OK;
        const char *got = f->mistakes.len ? f->mistakes.data : "";
        const char *want_text = FILES[i].mistakes ? FILES[i].mistakes : "";
        size_t count = status == ST_OK ? keys_count(f->keys, NOW) : 0;
        if (status != want || strcmp(got, want_text) != 0 || count != FILES[i].count)
            fail_msg("%s: got %s, %zu keys, mistakes '%s'; want %s, %zu keys, '%s'", FILES[i].name,
                     status_name(status), count, got, status_name(want), FILES[i].count, want_text);
        /* Neither the whole key nor a part of it is told. */
        if (strstr(got, "0123") || strstr(why.text, "0123") || strstr(got, "MfKQ") ||
            strstr(why.text, "MfKQ"))
            fail_msg("%s: a key is shown: '%s' '%s'", FILES[i].name, got, why.text);
    }
}

static void test_number_of_keys(void **state)
{
    struct fixture *f = *state;
    struct buf content = BUF_INIT(LIMIT_KEY_FILE_BYTES);
    struct fail why;
    for (unsigned int i = 0; i < LIMIT_KEYS; i++)
        buf_addf(&content, "n%u " KEY16 "%u\n", i, i);
    assert_int_equal(read_keys(f, buf_span(&content), &why), ST_OK);
    assert_int_equal(keys_count(f->keys, NOW), LIMIT_KEYS);
    const char *name;
    assert_int_equal(keys_match(f->keys, SPAN_LIT(KEY16 "0"), NOW, &name, &why), ST_OK);
    assert_string_equal(name, "n0");
    assert_int_equal(keys_match(f->keys, SPAN_LIT(KEY16 "255"), NOW, &name, &why), ST_OK);
    assert_string_equal(name, "n255");
    buf_add_text(&content, "more " KEY16 "x\n");
    assert_int_equal(read_keys(f, buf_span(&content), &why), ST_INVALID);
    assert_string_equal(f->mistakes.data, ":257: too many of this kind in the file\n");
    buf_release(&content);
}

static void add_secret(struct buf *content, unsigned int number)
{
    unsigned char bytes[LIMIT_SIGNING_SECRET_MIN_BYTES];
    char text[LIMIT_SIGNING_SECRET_MIN_BYTES * 2];
    memset(bytes, (int)number + 1, sizeof bytes);
    base64_write(bytes, sizeof bytes, text);
    buf_addf(content, "n%u whsec_%s\n", number, text);
}

/* They have a bound of their own, because each is tried on every signed body. */
static void test_number_of_secrets(void **state)
{
    struct fixture *f = *state;
    struct buf content = BUF_INIT(LIMIT_KEY_FILE_BYTES);
    struct fail why;
    buf_add_text(&content, "ms " KEY16 "\n");
    for (unsigned int i = 0; i < LIMIT_SIGNING_SECRETS; i++)
        add_secret(&content, i);
    assert_int_equal(read_keys(f, buf_span(&content), &why), ST_OK);
    assert_int_equal(keys_count(f->keys, NOW), LIMIT_SIGNING_SECRETS + 1);
    add_secret(&content, LIMIT_SIGNING_SECRETS);
    assert_int_equal(read_keys(f, buf_span(&content), &why), ST_INVALID);
    assert_string_equal(f->mistakes.data, ":34: too many of this kind in the file\n");
    buf_release(&content);
}

static void test_size_of_file(void **state)
{
    struct fixture *f = *state;
    struct buf content = BUF_INIT(LIMIT_KEY_FILE_BYTES + 1);
    struct fail why;
    buf_add_text(&content, "ms " KEY16 "\n");
    while (content.len < LIMIT_KEY_FILE_BYTES)
        buf_add_char(&content, '#');
    assert_int_equal(read_keys(f, buf_span(&content), &why), ST_OK);
    buf_add_char(&content, '#');
    assert_int_equal(read_keys(f, buf_span(&content), &why), ST_TOO_LARGE);
    buf_release(&content);
}

static const struct {
    mode_t mode;
    enum status want;
} MODES[] = {
    {0600, ST_OK},     {0400, ST_OK},     {0640, ST_OK},     {0440, ST_OK},     {0644, ST_DENIED},
    {0604, ST_DENIED}, {0660, ST_DENIED}, {0620, ST_DENIED}, {0601, ST_DENIED}, {0602, ST_DENIED},
};

static void test_privacy(void **state)
{
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof MODES / sizeof MODES[0]; i++) {
        struct fail why = {0};
        struct keys *keys = NULL;
        write_file(f, SPAN_LIT("ms " KEY16 "\n"), MODES[i].mode);
        enum status status = keys_read(f->path, NOW, &keys, &f->mistakes, &why);
        keys_free(keys);
        if (status != MODES[i].want)
            fail_msg("mode %04o: got %s, want %s", MODES[i].mode, status_name(status),
                     status_name(MODES[i].want));
        assert_int_equal(unlink(f->path), 0);
    }
}

/* Who may write to the folder may put another file there; also where only a link leads to the file. */
static void test_privacy_of_folder(void **state)
{
    struct fixture *f = *state;
    static const struct {
        mode_t mode;
        enum status want;
    } modes[] = {
        {0700, ST_OK},     {0750, ST_OK},     {0755, ST_OK},     {0500, ST_OK},     {01777, ST_OK},
        {0770, ST_DENIED}, {0775, ST_DENIED}, {0702, ST_DENIED}, {0777, ST_DENIED}, {02775, ST_DENIED},
    };
    char base[80], link[128];
    (void)snprintf(base, sizeof base, "%s-link", f->directory);
    (void)snprintf(link, sizeof link, "%s/keys", base);
    assert_int_equal(mkdir(base, 0700), 0);
    assert_int_equal(symlink(f->path, link), 0);
    write_file(f, SPAN_LIT("ms " KEY16 "\n"), 0600);
    const struct {
        const char *path;
        const char *folder; /* whose mode is tried */
    } ways[] = {{f->path, f->directory}, {link, f->directory}, {link, base}};
    for (size_t way = 0; way < sizeof ways / sizeof ways[0]; way++) {
        for (size_t i = 0; i < sizeof modes / sizeof modes[0]; i++) {
            struct fail why = {0};
            struct keys *keys = NULL;
            assert_int_equal(chmod(ways[way].folder, modes[i].mode), 0);
            enum status status = keys_read(ways[way].path, NOW, &keys, &f->mistakes, &why);
            keys_free(keys);
            if (status != modes[i].want)
                fail_msg("way %zu, folder %04o: got %s, want %s", way, modes[i].mode, status_name(status),
                         status_name(modes[i].want));
            if (status != ST_OK)
                assert_non_null(strstr(why.text, "chmod go-w"));
        }
        assert_int_equal(chmod(ways[way].folder, 0700), 0);
    }
    assert_int_equal(unlink(link), 0);
    assert_int_equal(rmdir(base), 0);
}

static void test_no_file(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    assert_int_equal(keys_read(f->path, NOW, &f->keys, &f->mistakes, &why), ST_NOT_FOUND);
    assert_non_null(strstr(why.text, f->path));
    assert_int_equal(f->mistakes.len, 0);
}

static const struct {
    struct span presented;
    const char *want; /* NULL: nobody's */
} MATCHES[] = {
    {SPAN_LIT(KEY16 "A"), "ms"},
    {SPAN_LIT(KEY16 "B"), "ms"},
    {SPAN_LIT(KEY128), "form"},
    {SPAN_LIT(""), NULL},
    {{NULL, 0}, NULL},
    {SPAN_LIT(KEY16), NULL},
    {SPAN_LIT(KEY16 "AB"), NULL},
    {SPAN_LIT(KEY16 "a"), NULL},
    {SPAN_LIT(KEY16 "A\0"), NULL},
    {SPAN_LIT(KEY16 "A "), NULL},
    {SPAN_LIT(KEY128 KEY128), NULL},
    {SPAN_LIT(KEY128 "x"), NULL},
    {SPAN_LIT("ms " KEY16 "A"), NULL},
    {SPAN_LIT("ms"), NULL},
};

static void test_match(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    assert_int_equal(read_keys(f, SPAN_LIT("ms " KEY16 "A\nform " KEY128 "\nms " KEY16 "B\n"), &why), ST_OK);
    for (size_t i = 0; i < sizeof MATCHES / sizeof MATCHES[0]; i++) {
        const char *got = NULL;
        const char *want = MATCHES[i].want;
        enum status status = keys_match(f->keys, MATCHES[i].presented, NOW, &got, &why);
        if (status != (want ? ST_OK : ST_DENIED) || !span_eq(span_of(got), span_of(want)))
            fail_msg("match %zu: got %s %s, want %s", i, status_name(status), got ? got : "nobody",
                     want ? want : "nobody");
    }
}

/* Hashed keys, and keys that retire while nobody reads the file again. */
static void test_match_in_time(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    const char *name = NULL;
    assert_int_equal(read_keys(f, SPAN_LIT("ms " HASH_A FUTURE "\nsigner " SECRET24 "\n"), &why), ST_OK);
    assert_int_equal(keys_match(f->keys, SPAN_LIT(KEY16 "A"), NOW, &name, &why), ST_OK);
    assert_string_equal(name, "ms");
    assert_int_equal(keys_count(f->keys, NOW), 2);
    assert_int_equal(keys_match(f->keys, SPAN_LIT(KEY16 "A"), NOW + 1, &name, &why), ST_DENIED);
    assert_int_equal(keys_count(f->keys, NOW + 1), 1);
    /* What stands in the file is no key: neither the hash nor the secret. */
    assert_int_equal(keys_match(f->keys, SPAN_LIT(HASH_A), NOW, &name, &why), ST_DENIED);
    assert_int_equal(keys_match(f->keys, SPAN_LIT(SECRET24), NOW, &name, &why), ST_DENIED);
}

/* What is too short to be a key is none, also where its hash stands in the file: above all that of nothing. */
static void test_hash_of_no_key(void **state)
{
    struct fixture *f = *state;
    static const char *const texts[] = {"", "a", "fifteen-letters"};
    struct fail why;
    const char *name = NULL;
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        unsigned char digest[SHA256_BYTES];
        char hex[2 * SHA256_BYTES + 1];
        struct buf line = BUF_INIT(256);
        assert_int_equal(crypto_sha256(span_of(texts[i]), digest, &why), ST_OK);
        hex_write(digest, sizeof digest, hex);
        buf_addf(&line, "ms sha256:%s\n", hex);
        assert_int_equal(read_keys(f, buf_span(&line), &why), ST_OK);
        assert_int_equal(keys_match(f->keys, span_of(texts[i]), NOW, &name, &why), ST_DENIED);
        keys_free(f->keys);
        f->keys = NULL;
        buf_release(&line);
    }
}

static void test_line(void **state)
{
    (void)state;
    struct key_line l = {.kind = KEY_SIGNING};
    struct fail why;
    assert_int_equal(key_line_parse(SPAN_LIT("  # a " KEY16), &l, &why), ST_OK);
    assert_int_equal(l.kind, KEY_NOTHING);
    assert_int_equal(key_line_parse(SPAN_LIT(""), &l, &why), ST_OK);
    assert_int_equal(l.kind, KEY_NOTHING);
    assert_int_equal(key_line_parse(SPAN_LIT("\tms  " KEY16 "A \r"), &l, &why), ST_OK);
    assert_int_equal(l.kind, KEY_PLAIN);
    assert_true(span_eq(l.name, SPAN_LIT("ms")) && span_eq(l.key, SPAN_LIT(KEY16 "A")));
    assert_true(l.created_ms == 0 && l.created.len == 0 && l.retire_ms == KEY_NEVER);
    unsigned char digest[SHA256_BYTES];
    assert_true(hex_read(span_from(SPAN_LIT(HASH_A), 7), digest, sizeof digest));
    assert_int_equal(l.byte_count, sizeof digest);
    assert_memory_equal(l.bytes, digest, sizeof digest);
    assert_int_equal(key_line_parse(SPAN_LIT("ms " HASH_A " created=2026-11-21T10:00:00Z" FUTURE), &l, &why),
                     ST_OK);
    assert_int_equal(l.kind, KEY_HASHED);
    assert_true(span_eq(l.key, SPAN_LIT(HASH_A)) && span_eq(l.created, SPAN_LIT("2026-11-21T10:00:00Z")));
    assert_true(l.created_ms == NOW && l.retire_ms == NOW + 1);
    assert_memory_equal(l.bytes, digest, sizeof digest);
    assert_int_equal(key_line_parse(SPAN_LIT("ms " SECRET64), &l, &why), ST_OK);
    assert_int_equal(l.kind, KEY_SIGNING);
    assert_int_equal(l.byte_count, 64);
    assert_true(l.bytes[0] == 1 && l.bytes[63] == 64);
    assert_int_equal(key_line_parse(SPAN_LIT("ms"), &l, &why), ST_INVALID);
    assert_string_equal(why.text, WRONG_KEY);
}

/* Not to know whether a key is good is not the same as a wrong key. */
static void test_match_without_memory(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    const char *name = NULL;
    assert_int_equal(read_keys(f, SPAN_LIT("ms " KEY16 "A\n"), &why), ST_OK);
    out_of_memory = true;
    enum status status = keys_match(f->keys, SPAN_LIT(KEY16 "A"), NOW, &name, &why);
    out_of_memory = false;
    assert_int_equal(status, ST_NOMEM);
    assert_null(name);
    assert_int_equal(keys_match(f->keys, SPAN_LIT(KEY16 "A"), NOW, &name, &why), ST_OK);
}

static struct keys *new_keys(struct fixture *f, const char *content)
{
    struct fail why;
    assert_int_equal(read_keys(f, span_of(content), &why), ST_OK);
    struct keys *keys = f->keys;
    f->keys = NULL;
    return keys;
}

/* By the key alone. */
static enum status ring_match(struct key_ring *ring, struct span key, char name[LIMIT_KEY_NAME_BYTES + 1],
                              struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct holder holder;
    const struct credentials c = {.key = key};
    enum status status = key_ring_authorize(ring, &c, NOW, &arena, &holder, why);
    if (status == ST_OK) {
        assert_false(holder.is_signed);
        memcpy(name, holder.name, sizeof holder.name);
    }
    arena_release(&arena);
    return status;
}

static void test_ring(void **state)
{
    struct fixture *f = *state;
    struct key_ring *ring;
    struct fail why;
    char name[LIMIT_KEY_NAME_BYTES + 1];
    assert_int_equal(key_ring_new(new_keys(f, "old " KEY16 "A\nboth " KEY16 "B\n"), &ring, &why), ST_OK);
    assert_int_equal(ring_match(ring, SPAN_LIT(KEY16 "A"), name, &why), ST_OK);
    assert_string_equal(name, "old");
    assert_int_equal(ring_match(ring, SPAN_LIT(KEY16 "C"), name, &why), ST_DENIED);
    key_ring_replace(ring, new_keys(f, "new " KEY16 "C\nboth " KEY16 "B\n"));
    assert_int_equal(ring_match(ring, SPAN_LIT(KEY16 "A"), name, &why), ST_DENIED);
    assert_int_equal(ring_match(ring, SPAN_LIT(KEY16 "C"), name, &why), ST_OK);
    assert_string_equal(name, "new");
    assert_int_equal(ring_match(ring, SPAN_LIT(KEY16 "B"), name, &why), ST_OK);
    assert_string_equal(name, "both");
    out_of_memory = true;
    enum status status = ring_match(ring, SPAN_LIT(KEY16 "B"), name, &why);
    out_of_memory = false;
    assert_int_equal(status, ST_NOMEM);
    key_ring_free(ring);
}

enum { MATCHERS = 4, REPLACEMENTS = 200 };

struct matching {
    struct key_ring *ring;
    _Atomic bool over;
    _Atomic size_t wrong;
};

static void *match_on(void *context)
{
    struct matching *m = context;
    while (!atomic_load(&m->over)) {
        char name[LIMIT_KEY_NAME_BYTES + 1];
        struct fail why;
        if (ring_match(m->ring, SPAN_LIT(KEY16 "B"), name, &why) != ST_OK || strcmp(name, "both") != 0)
            atomic_fetch_add(&m->wrong, 1);
    }
    return NULL;
}

/* A key that stands in the old and in the new file is good at every moment. */
static void test_ring_under_load(void **state)
{
    struct fixture *f = *state;
    struct matching m = {0};
    struct fail why;
    pthread_t threads[MATCHERS];
    assert_int_equal(key_ring_new(new_keys(f, "both " KEY16 "B\n"), &m.ring, &why), ST_OK);
    for (size_t i = 0; i < MATCHERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, match_on, &m), 0);
    for (size_t i = 0; i < REPLACEMENTS; i++)
        key_ring_replace(m.ring,
                         new_keys(f, i % 2 ? "both " KEY16 "B\n" : "x " KEY16 "C\nboth " KEY16 "B\n"));
    atomic_store(&m.over, true);
    for (size_t i = 0; i < MATCHERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    key_ring_free(m.ring);
    assert_int_equal(m.wrong, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_number_of_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_number_of_secrets, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_size_of_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_privacy, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_privacy_of_folder, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_file, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_match, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_match_in_time, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_hash_of_no_key, set_up, tear_down),
        cmocka_unit_test(test_line),
        cmocka_unit_test_setup_teardown(test_match_without_memory, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ring, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ring_under_load, set_up, tear_down),
    };
    if (!watch_memory())
        return 1;
    return cmocka_run_group_tests_name("auth", tests, NULL, NULL);
}
