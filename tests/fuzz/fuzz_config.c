/* The configuration file: what is taken can be written down and read again as the
 * same, what is not is told of line by line, and no message shows a secret.
 *
 * With the source itself, for its table of settings.
 */
#include "tests/fuzz/in_memory_file.h"

#include "handler/config.c"

CHECKS_BEGIN

enum { MISTAKES_BYTES = 256 * 1024 };
#define CANARY "do-not-show-this-one"

static struct buf mistakes = BUF_INIT(MISTAKES_BYTES), text = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);

static void write_secret(const char *name, struct secret *secret)
{
    unsigned int version;
    if (!secret)
        return;
    buf_addf(&text, "%s = ", name);
    CHECK(secret_copy(secret, &text, &version, NULL) == ST_OK);
    buf_add_char(&text, '\n');
}

static void write_config(struct config *c)
{
    buf_reset(&text);
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct setting *s = &SETTINGS[i];
        if (s->kind == KIND_NUMBER)
            buf_addf(&text, "%s = %u\n", s->name, *number_of(c, s));
        else if (s->kind == KIND_MODE)
            buf_addf(&text, "%s = %04o\n", s->name, *number_of(c, s));
        else if (*text_of(c, s))
            buf_addf(&text, "%s = %s\n", s->name, *text_of(c, s));
    }
    write_secret("table_connection", c->connection);
    write_secret("mail_password", c->password);
    CHECK(text.error == ST_OK);
}

static bool is_same_secret(struct secret *a, struct secret *b)
{
    struct buf of_a = BUF_INIT(LIMIT_CONFIG_FILE_BYTES), of_b = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    unsigned int version;
    if (!a || !b)
        return a == b;
    CHECK(secret_copy(a, &of_a, &version, NULL) == ST_OK && secret_copy(b, &of_b, &version, NULL) == ST_OK);
    bool same = span_eq(buf_span(&of_a), buf_span(&of_b));
    buf_release(&of_a);
    buf_release(&of_b);
    return same;
}

static void check_addresses(const struct span *list, size_t count)
{
    struct mail_address address;
    CHECK(count <= LIMIT_RECIPIENTS);
    for (size_t i = 0; i < count; i++)
        CHECK(mail_address_parse(list[i], &address, NULL) == ST_OK && span_eq(address.address, list[i]));
}

static void check_values(struct config *c)
{
    for (size_t i = 0; i < SETTING_COUNT; i++) {
        const struct setting *s = &SETTINGS[i];
        if (!is_text(s)) {
            CHECK(*number_of(c, s) >= s->min && *number_of(c, s) <= s->max);
        } else if (*text_of(c, s)) {
            struct span value = span_of(*text_of(c, s));
            CHECK(value.len > 0 && span_eq(value, span_trim(value)) && !has_control(value));
            CHECK(s->kind != KIND_PATH || value.ptr[0] == '/');
            CHECK(s->kind != KIND_SECRET); /* they have moved */
        }
    }
    CHECK(c->keys_file && c->store && c->table_name && c->mail_url);
    CHECK(c->sqlite_path ? c->sqlite_path[0] == '/' : c->connection != NULL);
    CHECK(!c->spool_path || c->spool_path[0] == '/');
    CHECK(!c->mail_on || (c->recipient_count > 0 && c->from.address.len && c->relay_socket));
    check_addresses(c->recipients, c->recipient_count);
    check_addresses(c->alarm_recipients, c->alarm_recipient_count);
}

static void check_good(struct config *c)
{
    struct config again;
    size_t index = 0;
    CHECK(mistakes.len == 0);
    check_values(c);
    write_config(c);
    file_content = buf_span(&text);
    CHECK(config_read(FILE_PATH, &again, &mistakes) == ST_OK);
    CHECK(!config_difference(c, &again, &index));
    for (size_t i = 0; i < SETTING_COUNT; i++)
        CHECK(is_equal(c, &again, &SETTINGS[i]));
    CHECK(is_same_secret(c->connection, again.connection) && is_same_secret(c->password, again.password));
    CHECK(c->recipient_count == again.recipient_count && c->detail == again.detail &&
          c->mail_on == again.mail_on);
    config_release(&again);
}

static void check_mistakes(const struct config *c)
{
    static const struct config nothing;
    struct span said = buf_span(&mistakes), rest = said, line;
    CHECK(mistakes.error == ST_OK && said.len > 0 && said.ptr[said.len - 1] == '\n');
    CHECK(memcmp(c, &nothing, sizeof nothing) == 0);
    rest.len--;
    while (span_next(&rest, '\n', &line)) {
        CHECK(span_starts(line, SPAN_LIT(FILE_PATH)) && !fuzz_has_control(line));
        if (!fuzz_has(line, SPAN_LIT("such setting")) && !fuzz_has(line, SPAN_LIT("not of the form")))
            CHECK(fuzz_has(line, SPAN_LIT(": setting '")));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct buf with_secret = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct span rest = {(const char *)data, size};
    struct config config;
    unsigned int flags = fuzz_byte(&rest);
    static const char *const secrets[] = {"", "\nmail_password = " CANARY,
                                          "\ntable_connection = AccountName=abc;AccountKey=" CANARY,
                                          "\nmail_password = \"" CANARY "\"=\n"};
    bool knows_canary = fuzz_has(rest, SPAN_LIT(CANARY));
    buf_reset(&with_secret);
    buf_add(&with_secret, rest);
    buf_add_text(&with_secret, secrets[flags % COUNT(secrets)]);
    if (with_secret.error != ST_OK)
        return 0;
    file_content = buf_span(&with_secret);
    buf_reset(&mistakes);
    enum status status = config_read(FILE_PATH, &config, &mistakes);
    CHECK(status == ST_OK || status == ST_INVALID);
    if (status == ST_OK) {
        check_good(&config);
        config_release(&config);
    } else {
        check_mistakes(&config);
        CHECK(knows_canary || !fuzz_has(buf_span(&mistakes), SPAN_LIT(CANARY)));
    }
    return 0;
}

CHECKS_END
