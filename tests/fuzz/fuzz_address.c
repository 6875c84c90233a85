/* Mail addresses: what the check takes the layers below take as well, and it is an
 * address by a second reading of RFC 5321; nothing in it begins a command or a header.
 *
 * With the source of the transport, for the form in which addresses go to libcurl.
 */
#include "tests/fuzz/message.h"

#include "lib/mail/compose.h"
#include "lib/mail/transport.c"

CHECKS_BEGIN

static struct buf out = BUF_INIT(LIMIT_MAIL_BYTES), text = BUF_INIT(LIMIT_MAIL_BYTES);
static struct message message = {.text = BUF_INIT(LIMIT_MAIL_BYTES), .html = BUF_INIT(LIMIT_MAIL_BYTES)};

static bool is_let_dig(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Dot-string "@" Domain of RFC 5321 4.1.2; *dots: of the domain. */
static bool is_mailbox(struct span s, size_t *dots)
{
    size_t i = 0, begin = 0;
    *dots = 0;
    for (; i < s.len && s.ptr[i] != '@'; i++) {
        bool is_dot = s.ptr[i] == '.';
        if (!is_let_dig(s.ptr[i]) && !(s.ptr[i] && strchr("!#$%&'*+/=?^_`{|}~-.", s.ptr[i])))
            return false;
        if (is_dot && (i == 0 || s.ptr[i - 1] == '.' || i + 1 == s.len || s.ptr[i + 1] == '@'))
            return false;
    }
    if (i == 0 || i > 64 || i == s.len || s.len > 254 || s.len - i - 1 > 253)
        return false;
    for (begin = ++i; i <= s.len; i++) {
        if (i < s.len && s.ptr[i] != '.') {
            if (!is_let_dig(s.ptr[i]) && s.ptr[i] != '-')
                return false;
            continue;
        }
        if (i == begin || i - begin > 63 || s.ptr[begin] == '-' || s.ptr[i - 1] == '-')
            return false;
        *dots += i < s.len ? 1 : 0;
        begin = i + 1;
    }
    return true;
}

/* A route, an encoded word, or a name of another script. */
static bool has_second_meaning(struct span address)
{
    return span_find(address, '%') != SPAN_NONE || span_find(address, '!') != SPAN_NONE ||
           span_has_nocase(address, SPAN_LIT("=?")) || span_has_nocase(address, SPAN_LIT("xn--"));
}

static void check_message(const struct mail_address *address)
{
    const struct alarm_notice n = {.event = SPAN_LIT("spooling"),
                                   .day = SPAN_LIT("2026-11-21"),
                                   .title = SPAN_LIT("t"),
                                   .happened = SPAN_LIT("h"),
                                   .meaning = SPAN_LIT("m"),
                                   .action = SPAN_LIT("a"),
                                   .host = SPAN_LIT("web1"),
                                   .from = address,
                                   .to = address->address};
    buf_reset(&out);
    CHECK(mail_compose_alarm(&out, &n, NULL) == ST_OK && is_wire_safe(buf_span(&out)));
    message_read(&message, buf_span(&out));
    struct span to = message_value(&message, 2, "To");
    CHECK(span_eq(span_cut(to, 1, to.len - 2), address->address));
}

static void check_good(const struct mail_address *address)
{
    char envelope[LIMIT_MAIL_ADDRESS_BYTES + 3];
    struct mail_address again;
    size_t dots;
    CHECK(is_mailbox(address->address, &dots));
    CHECK(mail_address_is_safe(address->address) == (dots > 0 && !has_second_meaning(address->address)));
    CHECK(!fuzz_has_control(address->name) && span_find(address->name, '"') == SPAN_NONE);
    CHECK(copy_address(address->address, envelope));
    CHECK(strlen(envelope) == address->address.len + 2 && strpbrk(envelope, " \r\n") == NULL);
    CHECK(mail_address_domain(address->address).len > 0);
    buf_reset(&text);
    buf_addf(&text, "\"%.*s\" <%.*s>", SPAN_FMT(address->name), SPAN_FMT(address->address));
    if (span_find(address->name, '<') == SPAN_NONE) {
        CHECK(mail_address_parse(buf_span(&text), &again, NULL) == ST_OK);
        CHECK(span_eq(again.address, address->address) && span_eq(again.name, address->name));
    }
    check_message(address);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span given = {(const char *)data, size};
    struct mail_address address;
    struct fail why;
    size_t dots;
    enum status status = mail_address_parse(given, &address, &why);
    CHECK(status == ST_OK || status == ST_INVALID);
    if (status == ST_OK)
        check_good(&address);
    else
        fuzz_check_fail(&why, status);
    CHECK(!mail_address_is_safe(given) || (is_mailbox(given, &dots) && dots > 0));
    if (is_mailbox(given, &dots))
        CHECK(status == ST_OK && span_eq(address.address, given) && address.name.len == 0);
    return 0;
}

CHECKS_END
