/* lib/mail without a network: addresses, MIME, whole messages, what a dialogue
 * means, and the Maildir.
 *
 * Whole messages are compared with tests/unit/mail/NAME.eml, which have LF line
 * ends; that the message has CRLF is checked apart.  The tests run in the top
 * folder of the tree.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <curl/curl.h>
#include <dirent.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/base/encode.h"
#include "lib/base/file.h"
#include "lib/base/text.h"
#include "lib/mail/compose.h"
#include "lib/mail/mime.h"
#include "lib/mail/transport_internal.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define ID           "7f3a9c0e5b1d4c627f3a9c0e5b1d4c62"
#define A16          "aaaaaaaaaaaaaaaa"
#define A63          A16 A16 A16 "aaaaaaaaaaaaaaa"
#define A64          A16 A16 A16 A16

enum { HEADER_LINE_MAX = 78, BODY_LINE_MAX = 76, HUGE = 128 * 1024, RECEIVED_S = 1795223429 };

static void assert_text(const char *name, struct span got, struct span want)
{
    if (!span_eq(got, want))
        fail_msg("%s:\ngot  '%.*s'\nwant '%.*s'", name, SPAN_FMT(got), SPAN_FMT(want));
}

/* --- addresses ------------------------------------------------------------------------------------------ */

static const struct {
    struct span text;
    bool valid; /* for an envelope, from the configuration */
    bool safe;  /* for Reply-To */
} addresses[] = {
    {SPAN_LIT("jane@example.com"), true, true},
    {SPAN_LIT("jane.doe+leads@mail.example.co.uk"), true, true},
    {SPAN_LIT("o'hara=x_y-z/1#$&*?^`{|}~@example.com"), true, true},
    {SPAN_LIT("a@b.c"), true, true},
    {SPAN_LIT("a@xn--mller-kva.example"), true, false}, /* a program may show it as it likes */
    {SPAN_LIT("a@mail.XN--0117.example"), true, false},
    {SPAN_LIT("=?utf-8?q?b=40other.example=3E?=@example.com"), true, false}, /* some decode it even here */
    {SPAN_LIT("a=?utf-8?b?YQ==?=@example.com"), true, false},
    {SPAN_LIT("a=b?c@example.com"), true, true},
    {SPAN_LIT(A64 "@example.com"), true, true},
    {SPAN_LIT("a@" A63 ".com"), true, true},
    {SPAN_LIT("root@localhost"), true, false},
    {SPAN_LIT("user%other.example@example.com"), true, false},
    {SPAN_LIT("host!user@example.com"), true, false},
    {SPAN_LIT(A64 "a@example.com"), false, false},
    {SPAN_LIT("a@" A64 ".com"), false, false},
    {SPAN_LIT(A64 "@" A63 "." A63 "." A63 ".com"), false, false}, /* 261 bytes */
    {SPAN_LIT(""), false, false},
    {SPAN_LIT("@"), false, false},
    {SPAN_LIT("jane"), false, false},
    {SPAN_LIT("jane@"), false, false},
    {SPAN_LIT("@example.com"), false, false},
    {SPAN_LIT("a@b@example.com"), false, false},
    {SPAN_LIT(".a@example.com"), false, false},
    {SPAN_LIT("a.@example.com"), false, false},
    {SPAN_LIT("a..b@example.com"), false, false},
    {SPAN_LIT("a@.example.com"), false, false},
    {SPAN_LIT("a@example.com."), false, false},
    {SPAN_LIT("a@example..com"), false, false},
    {SPAN_LIT("a@-example.com"), false, false},
    {SPAN_LIT("a@example-.com"), false, false},
    {SPAN_LIT("a@exa_mple.com"), false, false},
    {SPAN_LIT("a@[127.0.0.1]"), false, false},
    {SPAN_LIT("\"a b\"@example.com"), false, false},
    {SPAN_LIT("a b@example.com"), false, false},
    {SPAN_LIT("a(comment)@example.com"), false, false},
    {SPAN_LIT("a,b@example.com"), false, false},
    {SPAN_LIT("a;b@example.com"), false, false},
    {SPAN_LIT("a:b@example.com"), false, false},
    {SPAN_LIT("a\\b@example.com"), false, false},
    {SPAN_LIT("a@example.com>"), false, false},
    {SPAN_LIT("a@example.com,b@example.com"), false, false},
    {SPAN_LIT("a@example.com\r\nRCPT TO:<b@example.com"), false, false},
    {SPAN_LIT("a@example.com\nb"), false, false},
    {SPAN_LIT("a\r@example.com"), false, false},
    {SPAN_LIT("a\0@example.com"), false, false},
    {SPAN_LIT("a@example.com\0"), false, false},
    {SPAN_LIT("a\t@example.com"), false, false},
    {SPAN_LIT("a\x7F@example.com"), false, false},
    {SPAN_LIT("j\xC3\xB6rg@example.com"), false, false},
    {SPAN_LIT("a@m\xC3\xBCller.example"), false, false},
    {SPAN_LIT("a\xE2\x80\xAE@example.com"), false, false},
    {SPAN_LIT("\xEF\xBC\xA1@example.com"), false, false},
};

static void test_addresses(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(addresses); i++) {
        struct mail_address parsed;
        struct fail why;
        bool valid = mail_address_parse(addresses[i].text, &parsed, &why) == ST_OK;
        bool safe = mail_address_is_safe(addresses[i].text);
        if (valid != addresses[i].valid || safe != addresses[i].safe)
            fail_msg("'%.*s': got valid %d safe %d, want %d %d", SPAN_FMT(addresses[i].text), valid, safe,
                     addresses[i].valid, addresses[i].safe);
        if (valid)
            assert_text("address", parsed.address, addresses[i].text);
    }
}

static const struct {
    struct span text, name, address; /* no address: refused */
} settings[] = {
    {SPAN_LIT("Website leads <leads@example.com>"), SPAN_LIT("Website leads"), SPAN_LIT("leads@example.com")},
    {SPAN_LIT("\"Leads, all\" <leads@example.com>"), SPAN_LIT("Leads, all"), SPAN_LIT("leads@example.com")},
    {SPAN_LIT(" J\xC3\xB6rg <leads@example.com> "), SPAN_LIT("J\xC3\xB6rg"), SPAN_LIT("leads@example.com")},
    {SPAN_LIT("<leads@example.com>"), SPAN_LIT(""), SPAN_LIT("leads@example.com")},
    {SPAN_LIT("  leads@example.com "), SPAN_LIT(""), SPAN_LIT("leads@example.com")},
    {SPAN_LIT("Leads <leads@example.com"), SPAN_LIT(""), SPAN_LIT("")},
    {SPAN_LIT("Leads <leads@example.com> x"), SPAN_LIT(""), SPAN_LIT("")},
    {SPAN_LIT("Leads leads@example.com"), SPAN_LIT(""), SPAN_LIT("")},
    {SPAN_LIT("a <b <leads@example.com>"), SPAN_LIT(""), SPAN_LIT("")},
    {SPAN_LIT("a\" <leads@example.com>"), SPAN_LIT(""), SPAN_LIT("")},
    {SPAN_LIT("a\\ <leads@example.com>"), SPAN_LIT(""), SPAN_LIT("")},
    {SPAN_LIT("a\nBcc: x <leads@example.com>"), SPAN_LIT(""), SPAN_LIT("")},
    {SPAN_LIT("<>"), SPAN_LIT(""), SPAN_LIT("")},
};

static void test_address_settings(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(settings); i++) {
        struct mail_address parsed = {0};
        struct fail why;
        enum status status = mail_address_parse(settings[i].text, &parsed, &why);
        if ((status == ST_OK) != (settings[i].address.len > 0))
            fail_msg("'%.*s': got %s", SPAN_FMT(settings[i].text), status_name(status));
        assert_text("name", parsed.name, settings[i].name);
        assert_text("address", parsed.address, settings[i].address);
    }
    assert_text("domain", mail_address_domain(SPAN_LIT("a@example.com")), SPAN_LIT("example.com"));
    assert_int_equal(mail_address_domain(SPAN_LIT("example.com")).len, 0);
}

/* --- MIME ----------------------------------------------------------------------------------------------- */

static const struct {
    const char *name;
    struct span text;
    const char *want;
} subjects[] = {
    {"plain", SPAN_LIT("Get it now: Contoso"), "Subject: Get it now: Contoso\r\n"},
    {"blank", SPAN_LIT(""), "Subject: \r\n"},
    {"blanks at the ends", SPAN_LIT("  a   b  "), "Subject: a b\r\n"},
    {"one letter outside ASCII", SPAN_LIT("J\xC3\xB6rg"), "Subject: =?UTF-8?B?SsO2cmc=?=\r\n"},
    {"what looks encoded", SPAN_LIT("=?utf-8?q?x?="), "Subject: =?UTF-8?B?PT91dGYtOD9xP3g/PQ==?=\r\n"},
    {"an equals sign alone", SPAN_LIT("a=b ?="), "Subject: a=b ?=\r\n"},
    {"line breaks", SPAN_LIT("a\r\nBcc: b\rc\nd"), "Subject: a Bcc: b c d\r\n"},
    {"NUL", SPAN_LIT("a\0b"), "Subject: a b\r\n"},
    {"vertical tab, form feed, delete",
     SPAN_LIT("a\vb\fc\x7F"
              "d"),
     "Subject: a b c d\r\n"},
    {"NEL",
     SPAN_LIT("a\xC2\x85"
              "b"),
     "Subject: a b\r\n"},
    {"line and paragraph separator",
     SPAN_LIT("a\xE2\x80\xA8"
              "b\xE2\x80\xA9"
              "c"),
     "Subject: a b c\r\n"},
    {"bidi and zero width",
     SPAN_LIT("a\xE2\x80\xAE"
              "b\xE2\x81\xA6"
              "c\xE2\x80\x8B"
              "d\xEF\xBB\xBF"
              "e\xD8\x9C"
              "f"),
     "Subject: abcdef\r\n"},
    {"overlong line feed",
     SPAN_LIT("a\xC0\x8A"
              "b"),
     "Subject: =?UTF-8?B?Ye+/ve+/vWI=?=\r\n"},
    {"U+010A is no line feed", SPAN_LIT("\xC4\x8A"), "Subject: =?UTF-8?B?xIo=?=\r\n"},
    {"folded at a blank",
     SPAN_LIT("aaaaaaaaa aaaaaaaaa aaaaaaaaa aaaaaaaaa aaaaaaaaa aaaaaaaaa aaaaaaaaa aaaaaaaaa"),
     "Subject: aaaaaaaaa aaaaaaaaa aaaaaaaaa aaaaaaaaa aaaaaaaaa aaaaaaaaa\r\n aaaaaaaaa aaaaaaaaa\r\n"},
    {"exactly 76 columns", SPAN_LIT(A16 A16 A16 A16 "aaa"), "Subject: " A16 A16 A16 A16 "aaa\r\n"},
    {"one too many", SPAN_LIT(A16 A16 A16 A16 "aaaa"),
     "Subject: =?UTF-8?B?YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFh?=\r\n"
     " =?UTF-8?B?YWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWFhYWE=?=\r\n"},
};

static void test_header_text(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(subjects); i++) {
        struct buf out = BUF_INIT(64 * 1024);
        mime_add_header_text(&out, "Subject", subjects[i].text);
        assert_text(subjects[i].name, buf_span(&out), span_of(subjects[i].want));
        buf_release(&out);
    }
}

/* Appends what the encoded words of a header say; checks each word alone. */
static void decode_words(struct span header, struct buf *out)
{
    struct span rest = header, line, begin = SPAN_LIT("=?UTF-8?B?");
    while (span_next(&rest, '\n', &line) && line.len) {
        assert_true(line.len - 1 <= 76); /* its CR */
        line = span_trim(line);
        size_t at = span_find(line, '=');
        assert_true(at != SPAN_NONE);
        struct span word = span_from(line, at);
        assert_true(span_starts(word, begin) && span_ends_nocase(word, SPAN_LIT("?=")) && word.len <= 75);
        size_t before = out->len;
        assert_int_equal(base64_decode(out, span_cut(word, begin.len, word.len - begin.len - 2), NULL),
                         ST_OK);
        assert_true(utf8_is_valid(span_from(buf_span(out), before), NULL)); /* no character is split */
    }
}

static void test_encoded_words_keep_characters(void **state)
{
    (void)state;
    static const char *const characters[] = {"\xC3\xB6", "\xEA\xB0\x80", "\xF0\x9F\x8E\x89"};
    for (size_t c = 0; c < COUNT(characters); c++) {
        for (size_t shift = 0; shift < 4; shift++) {
            struct buf text = BUF_INIT(4096), out = BUF_INIT(16384), back = BUF_INIT(4096);
            buf_add(&text, span_cut(SPAN_LIT("abc"), 0, shift));
            for (size_t i = 0; i < 200; i++)
                buf_add_text(&text, characters[c]);
            mime_add_header_text(&out, "Subject", buf_span(&text));
            decode_words(buf_span(&out), &back);
            assert_text("round trip", buf_span(&back), buf_span(&text));
            buf_release(&text);
            buf_release(&out);
            buf_release(&back);
        }
    }
}

static const struct {
    struct span name;
    const char *want;
} phrases[] = {
    {SPAN_LIT("Website leads"), "\"Website leads\""},
    {SPAN_LIT("Leads, all; of: us."), "\"Leads, all; of: us.\""},
    {SPAN_LIT("a\"b"), "=?UTF-8?B?YSJi?="},
    {SPAN_LIT("a\\"), "=?UTF-8?B?YVw=?="},
    {SPAN_LIT("J\xC3\xB6rg"), "=?UTF-8?B?SsO2cmc=?="},
    {SPAN_LIT("=?utf-8?q?x?="), "=?UTF-8?B?PT91dGYtOD9xP3g/PQ==?="},
    {SPAN_LIT("a\r\nBcc: b"), "\"a Bcc: b\""},
};

static void test_phrase(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(phrases); i++) {
        struct buf out = BUF_INIT(4096);
        mime_add_phrase(&out, phrases[i].name, 6);
        assert_text("phrase", buf_span(&out), span_of(phrases[i].want));
        buf_release(&out);
    }
}

static const struct {
    const char *name;
    struct span text;
    const char *want;
} bodies[] = {
    {"plain", SPAN_LIT("Hello\n"), "Hello\r\n"},
    {"no line end", SPAN_LIT("Hello"), "Hello\r\n"},
    {"nothing", SPAN_LIT(""), ""},
    {"blank line", SPAN_LIT("a\n\nb\n"), "a\r\n\r\nb\r\n"},
    {"a dot", SPAN_LIT(".\n..a\n a.\n"), "=2E\r\n=2E.a\r\n a.\r\n"},
    {"From", SPAN_LIT("From me\nfrom\n"), "=46rom me\r\nfrom\r\n"},
    {"blanks at the end", SPAN_LIT("a \nb\t\n \nc d\n"), "a=20\r\nb=09\r\n=20\r\nc d\r\n"},
    {"equals", SPAN_LIT("a=b\n"), "a=3Db\r\n"},
    {"outside ASCII", SPAN_LIT("\xC3\xB6\n"), "=C3=B6\r\n"},
    {"controls", SPAN_LIT("a\rb\0c\x7F\n"), "a=0Db=00c=7F\r\n"},
    {"a boundary", SPAN_LIT("--=_7f\n"), "--=3D_7f\r\n"},
    {"75 columns", SPAN_LIT(A16 A16 A16 A16 "aaaaaaaaaaa\n"), A16 A16 A16 A16 "aaaaaaaaaaa\r\n"},
    {"76 columns", SPAN_LIT(A16 A16 A16 A16 "aaaaaaaaaaab\n"), A16 A16 A16 A16 "aaaaaaaaaaa=\r\nb\r\n"},
    {"a dot after a soft break", SPAN_LIT(A16 A16 A16 A16 "aaaaaaaaaaa.\n"),
     A16 A16 A16 A16 "aaaaaaaaaaa=\r\n=2E\r\n"},
    {"From after a soft break", SPAN_LIT(A16 A16 A16 A16 "aaaaaaaaaaaFrom x\n"),
     A16 A16 A16 A16 "aaaaaaaaaaa=\r\n=46rom x\r\n"},
    {"an escape is not split", SPAN_LIT(A16 A16 A16 A16 "aaaaaaaaaa\xC3\xB6\n"),
     A16 A16 A16 A16 "aaaaaaaaaa=\r\n=C3=B6\r\n"},
};

static void test_quoted_printable(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(bodies); i++) {
        struct buf out = BUF_INIT(4096);
        mime_add_quoted_printable(&out, bodies[i].text);
        assert_text(bodies[i].name, buf_span(&out), span_of(bodies[i].want));
        buf_release(&out);
    }
}

/* --- whole messages ------------------------------------------------------------------------------------- */

static const struct mail_address sender = {.name = {"Website leads", 13},
                                           .address = {"leads@example.com", 17}};

static const struct lead full_lead = {
    .customer = {.first_name = SPAN_LIT("J\xC3\xB6rg"),
                 .last_name = SPAN_LIT("M\xC3\xBCller"),
                 .email = SPAN_LIT("joerg@customer.example"),
                 .phone = SPAN_LIT("+49 (30) 123-45"),
                 .country = SPAN_LIT("DE"),
                 .company = SPAN_LIT("M\xC3\xBCller & S\xC3\xB6hne \"GmbH\" <Berlin>"),
                 .title = SPAN_LIT("CTO")},
    .offer_title = SPAN_LIT("Contoso Backup"),
    .description = SPAN_LIT(
        "Hello,\r\nplease call me.\r\n.\r\nFrom Monday on; a < b && c > 'd'\n\nJ\xC3\xB6rg \xF0\x9F\x8E\x89"),
    .source = SPAN_LIT("AppSource"),
    .action = SPAN_LIT("PLT"),
    .campaign = SPAN_LIT("spring-2026"),
    .partition = "contoso.backup",
};

static const struct earlier_lead history[] = {
    {.received_ms = 1794000000000LL,
     .action = SPAN_LIT("INS"),
     .description = SPAN_LIT("We look for a backup of 200 servers.\nSecond line")},
    {.received_ms = 1793000000000LL, .action = SPAN_LIT("StartTestDrive")},
    {.received_ms = 1792000000000LL,
     .action = SPAN_LIT("Something"),
     .description =
         SPAN_LIT("01234567890123456789012345678901234567890123456789012345678901234567890123456789"
                  "012345678901234567890123456789012345678901234567890")},
};

static struct notification notification_of(const struct lead *lead)
{
    return (struct notification){
        .lead = lead,
        .delivery_id = SPAN_LIT(ID),
        .received_ms = RECEIVED_S * 1000LL,
        .first_received_ms = RECEIVED_S * 1000LL,
        .deliveries = 1,
        .recipient_number = 1,
        .from = &sender,
        .to = SPAN_LIT("sales@example.com"),
    };
}

/* Reads the next line without its CRLF; fails on any other line end and on what is not visible ASCII. */
static bool next_line(struct span *rest, struct span *line)
{
    if (rest->len == 0)
        return false;
    bool found = span_next(rest, '\n', line);
    assert_true(found && line->len > 0 && line->ptr[line->len - 1] == '\r');
    line->len--;
    for (size_t i = 0; i < line->len; i++)
        assert_in_range((unsigned char)line->ptr[i], 0x20, 0x7E);
    return true;
}

/* Holds for every message: the headers are ours and only ours, and the lines as compose.h promises. */
static void check_message(struct span message, bool may_reply)
{
    static const char *const names[] = {"Date: ",
                                        "From: ",
                                        "To: ",
                                        "Reply-To: ",
                                        "Message-ID:",
                                        "Subject: ",
                                        "Auto-Submitted: auto-generated",
                                        "X-Auto-Response-Suppress: All",
                                        "X-Lead-ID: " ID,
                                        "MIME-Version: 1.0",
                                        "Content-Type: multipart/alternative;"};
    struct span rest = message, line;
    size_t name = 0, boundaries = 0;
    assert_true(message.len > 0 && message.ptr[message.len - 1] == '\n');
    while (next_line(&rest, &line) && line.len) {
        assert_true(line.len <= HEADER_LINE_MAX);
        if (line.ptr[0] == ' ') {
            assert_true(span_trim(line).len > 0);
            continue;
        }
        if (name == 3 && !may_reply)
            name++;
        if (name >= COUNT(names) || !span_starts(line, span_of(names[name])))
            fail_msg("header line '%.*s' is not one of ours in its place", SPAN_FMT(line));
        name++;
    }
    assert_int_equal(name, COUNT(names));
    while (next_line(&rest, &line)) {
        assert_true(line.len <= BODY_LINE_MAX);
        assert_false(span_starts(line, SPAN_LIT(".")));
        assert_false(span_starts(line, SPAN_LIT("From ")));
        boundaries += span_starts(line, SPAN_LIT("--=_"));
    }
    assert_int_equal(boundaries, 3);
}

/* The bodies with their quoted-printable decoded, one behind the other. */
static void decode(struct span message, struct buf *out)
{
    struct span soft = SPAN_LIT("=\r\n");
    const char *body = memmem(message.ptr, message.len, "\r\n\r\n", 4);
    assert_non_null(body);
    message = span_from(message, (size_t)(body - message.ptr));
    while (message.len) {
        size_t len = 1;
        if (span_starts(message, soft)) {
            len = soft.len;
        } else if (message.ptr[0] == '=' && message.len >= 3) {
            char escape[3] = {'%', message.ptr[1], message.ptr[2]};
            len = 3;
            percent_decode(out, (struct span){escape, len}, PLUS_STAYS);
        } else {
            buf_add_char(out, message.ptr[0]);
        }
        message = span_from(message, len);
    }
}

static struct span html_of(const struct buf *decoded)
{
    const char *html = memmem(decoded->data, decoded->len, "<!DOCTYPE", 9);
    assert_non_null(html);
    return span_from(buf_span(decoded), (size_t)(html - decoded->data));
}

static bool has(struct span text, const char *needle)
{
    return memmem(text.ptr, text.len, needle, strlen(needle)) != NULL;
}

static void compose(const struct notification *n, struct buf *out)
{
    struct fail why = {0};
    *out = BUF_INIT(LIMIT_MAIL_BYTES);
    if (mail_compose(out, n, &why) != ST_OK)
        fail_msg("not composed: %s", why.text);
}

static void check_golden(const char *name, const struct notification *n, bool may_reply)
{
    char path[128];
    struct buf message, local = BUF_INIT(LIMIT_MAIL_BYTES), want = BUF_INIT(LIMIT_MAIL_BYTES);
    struct fail why = {0};
    compose(n, &message);
    check_message(buf_span(&message), may_reply);
    for (size_t i = 0; i < message.len; i++) {
        if (message.data[i] != '\r')
            buf_add_char(&local, message.data[i]);
    }
    (void)snprintf(path, sizeof path, "tests/unit/mail/%s.eml", name);
    if (file_read(path, FILE_PUBLIC, &want, &why) != ST_OK)
        fail_msg("%s", why.text);
    assert_text(name, buf_span(&local), buf_span(&want));
    buf_release(&message);
    buf_release(&local);
    buf_release(&want);
}

static void test_full(void **state)
{
    (void)state;
    struct notification n = notification_of(&full_lead);
    n.earlier = history;
    n.earlier_count = COUNT(history);
    check_golden("full", &n, true);
}

static void test_summary(void **state)
{
    (void)state;
    struct notification n = notification_of(&full_lead);
    struct buf message, text = BUF_INIT(LIMIT_MAIL_BYTES);
    n.detail = MAIL_SUMMARY;
    n.earlier = history;
    n.earlier_count = COUNT(history);
    check_golden("summary", &n, false);
    compose(&n, &message);
    decode(buf_span(&message), &text);
    static const char *const personal[] = {"ller", "joerg", "49 (30)", "CTO", "call me", "spring", "200"};
    for (size_t i = 0; i < COUNT(personal); i++) {
        if (has(buf_span(&text), personal[i]))
            fail_msg("the summary holds '%s'", personal[i]);
    }
    buf_release(&message);
    buf_release(&text);
}

/* A test lead that must not be contacted, came back, and has the page's parameters for a description. */
static void test_marked(void **state)
{
    (void)state;
    struct lead lead = full_lead;
    lead.is_test = true;
    lead.do_not_contact = true;
    lead.action = SPAN_LIT("DNC");
    lead.customer.company = SPAN_LIT("");
    lead.description = SPAN_LIT(
        "{\"mktcmpid\":\"spring\\u002d2026\",\"src\":\"a\\nb<c>\",\"n\":7,\"yes\":true,\"none\":null}");
    struct notification n = notification_of(&lead);
    n.reason = MAIL_CAME_BACK;
    n.deliveries = 3;
    n.first_received_ms -= 86400000;
    n.recipient_number = 2;
    check_golden("marked", &n, false);
}

/* Nothing is known but where it belongs. */
static void test_bare(void **state)
{
    (void)state;
    struct lead lead = {.partition = "unknown", .withheld = true};
    struct notification n = notification_of(&lead);
    check_golden("bare", &n, false);
}

static void test_reply_to(void **state)
{
    (void)state;
    static const struct {
        struct span email;
        enum mail_detail detail;
        bool do_not_contact, withheld, want;
    } cases[] = {
        {SPAN_LIT("a@example.org"), MAIL_FULL, false, false, true},
        {SPAN_LIT(" a@example.org\n"), MAIL_FULL, false, false, true},
        {SPAN_LIT("a@example.org"), MAIL_SUMMARY, false, false, false},
        {SPAN_LIT("a@example.org"), MAIL_FULL, true, false, false},
        {SPAN_LIT("a@example.org"), MAIL_FULL, false, true, false},
        {SPAN_LIT("a@example.org>\r\nBcc: <b@example.org"), MAIL_FULL, false, false, false},
        {SPAN_LIT("a@localhost"), MAIL_FULL, false, false, false},
        {SPAN_LIT("a%b@example.org"), MAIL_FULL, false, false, false},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct lead lead = full_lead;
        struct buf message;
        lead.customer.email = cases[i].email;
        lead.do_not_contact = cases[i].do_not_contact;
        lead.withheld = cases[i].withheld;
        struct notification n = notification_of(&lead);
        n.detail = cases[i].detail;
        compose(&n, &message);
        check_message(buf_span(&message), cases[i].want);
        if (has(buf_span(&message), "Reply-To: <a@example.org>\r\n") != cases[i].want)
            fail_msg("case %zu: Reply-To, want %d", i, cases[i].want);
        buf_release(&message);
    }
}

static void test_links(void **state)
{
    (void)state;
    static const struct {
        struct span email, phone;
        bool do_not_contact;
        const char *mail_link, *phone_link;
    } cases[] = {
        {SPAN_LIT("a@example.org"), SPAN_LIT("+1 (617) 555-0100"), false, "\"mailto:a@example.org\"",
         "\"tel:+16175550100\""},
        {SPAN_LIT("a?cc=b&c@example.org"), SPAN_LIT("12+34"), false, "\"mailto:a%3Fcc%3Db%26c@example.org\"",
         "\"tel:1234\""},
        {SPAN_LIT("a@example.org"), SPAN_LIT("5550100"), true, NULL, NULL},
        {SPAN_LIT("javascript:alert(1)"), SPAN_LIT("0900;ext=1"), false, NULL, NULL},
        {SPAN_LIT("a\"b@example.org"), SPAN_LIT("1\" onclick=\"x"), false, NULL, NULL},
        {SPAN_LIT("a@example.org?x"), SPAN_LIT("12345678901234567890123456789012345678901"), false, NULL,
         NULL},
        {SPAN_LIT(""), SPAN_LIT("12"), false, NULL, NULL},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct lead lead = full_lead;
        struct buf message, text = BUF_INIT(LIMIT_MAIL_BYTES);
        lead.customer.email = cases[i].email;
        lead.customer.phone = cases[i].phone;
        lead.do_not_contact = cases[i].do_not_contact;
        struct notification n = notification_of(&lead);
        compose(&n, &message);
        decode(buf_span(&message), &text);
        struct span html = html_of(&text);
        if (has(html, "mailto:") != (cases[i].mail_link != NULL) ||
            has(html, "tel:") != (cases[i].phone_link != NULL) ||
            (cases[i].mail_link && !has(html, cases[i].mail_link)) ||
            (cases[i].phone_link && !has(html, cases[i].phone_link)) || has(html, "<a href=\"java") ||
            has(html, "onclick=\""))
            fail_msg("case %zu: wrong links in\n%.*s", i, SPAN_FMT(html));
        buf_release(&message);
        buf_release(&text);
    }
}

/* The row that it comes from is others' to write as well: what is not an id makes no header. */
static void test_request_id(void **state)
{
    (void)state;
    static const char too_long[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    static const char *const bad[] = {"",         "a b",   "a\r\nBcc: x@example.com", "a:b", "a@b",
                                      "\xC3\xBC", too_long};
    struct notification n = notification_of(&full_lead);
    struct buf without, with, want = BUF_INIT(LIMIT_MAIL_BYTES);
    assert_int_equal(sizeof too_long - 1, LIMIT_REQUEST_ID_BYTES + 1);
    compose(&n, &without);
    for (size_t i = 0; i < COUNT(bad); i++) {
        n.request_id = span_of(bad[i]);
        compose(&n, &with);
        if (!span_eq(buf_span(&with), buf_span(&without)))
            fail_msg("'%s' is in the mail", bad[i]);
        buf_release(&with);
    }
    const char *after = strstr(without.data, "MIME-Version:");
    assert_non_null(after);
    n.request_id = span_of(too_long + 1);
    buf_add(&want, (struct span){without.data, (size_t)(after - without.data)});
    buf_addf(&want, "X-Request-ID: %s\r\n%s", too_long + 1, after);
    compose(&n, &with);
    assert_string_equal(with.data, want.data);
    buf_release(&with);
    buf_release(&without);
    buf_release(&want);
}

static void test_refuses_header_values(void **state)
{
    (void)state;
    static const struct {
        struct span id, from, to;
    } cases[] = {
        {SPAN_LIT(ID "\r\nBcc: a@b"), SPAN_LIT("a@example.com"), SPAN_LIT("b@example.com")},
        {SPAN_LIT("short"), SPAN_LIT("a@example.com"), SPAN_LIT("b@example.com")},
        {SPAN_LIT("7F3A9C0E5B1D4C627F3A9C0E5B1D4C62"), SPAN_LIT("a@example.com"), SPAN_LIT("b@example.com")},
        {SPAN_LIT(ID), SPAN_LIT("a@example.com\r\nBcc: x"), SPAN_LIT("b@example.com")},
        {SPAN_LIT(ID), SPAN_LIT(""), SPAN_LIT("b@example.com")},
        {SPAN_LIT(ID), SPAN_LIT("a@example.com"), SPAN_LIT("b@example.com\nBcc: x")},
        {SPAN_LIT(ID), SPAN_LIT("a@example.com"), SPAN_LIT("")},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct mail_address from = {.address = cases[i].from};
        struct notification n = notification_of(&full_lead);
        struct buf out = BUF_INIT(LIMIT_MAIL_BYTES);
        struct fail why;
        n.delivery_id = cases[i].id;
        n.from = &from;
        n.to = cases[i].to;
        assert_int_equal(mail_compose(&out, &n, &why), ST_INVALID);
        assert_int_equal(out.len, 0);
        buf_release(&out);
    }
}

/* --- what strangers send -------------------------------------------------------------------------------- */

static const struct span hostile[] = {
    SPAN_LIT("x\r\nBcc: evil@example.org"),
    SPAN_LIT("x\nBcc: evil@example.org"),
    SPAN_LIT("x\rBcc: evil@example.org"),
    SPAN_LIT("x\r\n\r\nbody"),
    SPAN_LIT("\r\n.\r\nMAIL FROM:<a@b>"),
    SPAN_LIT("\n.\n"),
    SPAN_LIT("."),
    SPAN_LIT("a\0b"),
    SPAN_LIT("a\x01\v\f\x1B[31m\x7F"),
    SPAN_LIT("a\xC2\x85"
             "Bcc: b"),
    SPAN_LIT("a\xE2\x80\xA8"
             "Bcc: b\xE2\x80\xA9"
             "c"),
    SPAN_LIT("\xC4\x8A\xC4\x8D"),
    SPAN_LIT("\xE2\x80\xAA\xE2\x80\xAB\xE2\x80\xAD\xE2\x80\xAE\xE2\x80\xAC\xE2\x81\xA6\xE2\x81\xA9"),
    SPAN_LIT("\xE2\x80\x8B\xE2\x80\x8C\xE2\x80\x8D\xE2\x80\x8E\xE2\x80\x8F\xE2\x81\xA0\xEF\xBB\xBF\xD8\x9C"),
    SPAN_LIT("=?utf-8?B?QmNjOiBi?="),
    SPAN_LIT("=?us-ascii?q?=0D=0ABcc:_b?="),
    SPAN_LIT("--=_" ID "--"),
    SPAN_LIT("From me"),
    SPAN_LIT("<script>alert(\"x\")</script><img src='http://x'>"),
    SPAN_LIT("\"><a href=\"http://x\">"),
    SPAN_LIT("&lt;script&gt;"),
    SPAN_LIT("\xC0\x8A\xC0\x8D\xED\xA0\x80\xF8\x88\xFF\xFE"),
    SPAN_LIT("\xEA\xB0"),
    SPAN_LIT("=HYPERLINK(\"http://x\")"),
    SPAN_LIT("'; DROP TABLE leads;--"),
    SPAN_LIT("{\"a\r\nBcc\":\"b\"}"),
    SPAN_LIT("{\"<b>\":\"<i>\",\".\":\".\"}"),
    SPAN_LIT(" "),
};

/* Every field of a lead set to the same value. */
static struct lead lead_of(struct span value)
{
    return (struct lead){
        .customer = {value, value, value, value, value, value, value},
        .lead_source = value,
        .action_code = value,
        .offer_title = value,
        .description = value,
        .product_id = value,
        .source = value,
        .action = value,
        .publisher_id = value,
        .offer_id = value,
        .campaign = value,
        .partition = "contoso.backup",
    };
}

static void check_hostile(struct span value)
{
    struct lead lead = lead_of(value);
    struct earlier_lead earlier[LIMIT_MAIL_HISTORY];
    struct notification n = notification_of(&lead);
    for (size_t i = 0; i < COUNT(earlier); i++)
        earlier[i] = (struct earlier_lead){.action = value, .description = value};
    n.earlier = earlier;
    n.earlier_count = COUNT(earlier);
    n.reason = MAIL_CAME_BACK;
    for (enum mail_detail detail = MAIL_FULL; detail <= MAIL_SUMMARY; detail++) {
        struct buf message, text = BUF_INIT(LIMIT_MAIL_BYTES);
        n.detail = detail;
        compose(&n, &message);
        check_message(buf_span(&message), false);
        decode(buf_span(&message), &text);
        struct span html = html_of(&text);
        assert_false(has(html, "<script") || has(html, "<img") || has(html, "<a ") || has(html, "<b>"));
        /* Nothing invisible, nothing that breaks a line but the line feeds that compose made. */
        for (struct span rest = buf_span(&text); rest.len;) {
            uint32_t code;
            size_t len = utf8_decode(rest, &code);
            assert_true(len > 0);
            assert_false((is_control_code(code) && code != '\n' && code != '\r') || is_invisible_code(code));
            rest = span_from(rest, len);
        }
        buf_release(&message);
        buf_release(&text);
    }
}

static void test_hostile_values(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(hostile); i++)
        check_hostile(hostile[i]);
}

/* Long values of what grows most on its way: each field is cut, so the message always fits its limit. */
static void test_huge_values(void **state)
{
    (void)state;
    static const char *const units[] = {"a",
                                        ".",
                                        "=",
                                        " ",
                                        "<",
                                        "\"",
                                        "\n",
                                        "\r\n",
                                        "\xC3\xB6",
                                        "\xEA\xB0\x80",
                                        "\xE2\x80\xAE",
                                        "\x01",
                                        "\xFF",
                                        "\xF0\x9F\x8E\x89",
                                        "a b "};
    static const size_t lengths[] = {997, 998, 999, LIMIT_MAIL_FIELD_BYTES, LIMIT_MAIL_FIELD_BYTES + 1, HUGE};
    for (size_t u = 0; u < COUNT(units); u++) {
        for (size_t l = 0; l < COUNT(lengths); l++) {
            struct buf value = BUF_INIT(HUGE + 8);
            while (value.len < lengths[l])
                buf_add_text(&value, units[u]);
            check_hostile(buf_span(&value));
            buf_release(&value);
        }
    }
}

static void test_huge_parameters(void **state)
{
    (void)state;
    struct buf text = BUF_INIT(HUGE + 4096), message;
    struct lead lead = full_lead;
    struct notification n = notification_of(&lead);
    for (size_t i = 0; i < 60; i++) {
        buf_addf(&text, "%s\"p%zu\":\"", i ? "," : "{", i);
        for (size_t k = 0; k < 2000; k++)
            buf_add_char(&text, '<');
        buf_add_text(&text, "\"");
    }
    buf_add_text(&text, "}");
    lead.description = buf_span(&text);
    compose(&n, &message);
    check_message(buf_span(&message), true);
    assert_true(message.len < 64 * 1024);
    assert_true(has(buf_span(&message), "The page they came from"));
    assert_true(has(buf_span(&message), "the whole is"));
    buf_release(&text);
    buf_release(&message);
}

/* A value of several lines cannot pass for lines of ours in the text. */
static void test_lines_are_indented(void **state)
{
    (void)state;
    struct lead lead = full_lead;
    struct notification n = notification_of(&lead);
    struct buf message;
    lead.customer.company = SPAN_LIT("X\nAbout this lead\n\n  Lead id    fake");
    lead.description = SPAN_LIT("a\nAbout this lead\n  Lead id    fake\nLead id    fake");
    compose(&n, &message);
    size_t titles = 0;
    struct span rest = buf_span(&message), line;
    while (next_line(&rest, &line) && !span_starts(line, SPAN_LIT("<!DOCTYPE"))) {
        titles += span_eq(line, SPAN_LIT("About this lead"));
        if (span_starts(line, SPAN_LIT("  Lead id")))
            assert_text("id", line, SPAN_LIT("  Lead id    " ID));
    }
    assert_int_equal(titles, 1);
    buf_release(&message);
}

/* --- what a dialogue means ------------------------------------------------------------------------------ */

#define DUPLICATE                                                                                            \
    "554 5.2.0 STOREDRV.Submission.Exception:StoragePermanentException.MapiExceptionDuplicateDelivery; x"

static const struct {
    const char *name;
    int code;
    long reply;
    bool all;
    const char *words;
    enum mail_outcome want;
} dialogues[] = {
    {"accepted", CURLE_OK, 250, true, "250 ok", MAIL_ACCEPTED},
    {"251 at the end", CURLE_WEIRD_SERVER_REPLY, 251, true, "251 forwarded", MAIL_ACCEPTED},
    {"250, then the QUIT failed", CURLE_RECV_ERROR, 250, true, "250 ok", MAIL_ACCEPTED},
    {"250, then broken off", CURLE_ABORTED_BY_CALLBACK, 250, true, "250 ok", MAIL_ACCEPTED},
    {"refused for now at the end", CURLE_WEIRD_SERVER_REPLY, 451, true, "451 later", MAIL_TRANSIENT},
    {"refused at the end", CURLE_WEIRD_SERVER_REPLY, 554, true, "554 5.7.1 no", MAIL_PERMANENT},
    {"too large at the end", CURLE_WEIRD_SERVER_REPLY, 552, true, "552 5.3.4 too large", MAIL_PERMANENT},
    {"lost after the body", CURLE_RECV_ERROR, 354, true, "354 go", MAIL_AMBIGUOUS},
    {"time-out after the body", CURLE_OPERATION_TIMEDOUT, 354, true, "354 go", MAIL_AMBIGUOUS},
    {"nothing after the body", CURLE_GOT_NOTHING, 354, true, "354 go", MAIL_AMBIGUOUS},
    {"send error after the body", CURLE_SEND_ERROR, 354, true, "354 go", MAIL_AMBIGUOUS},
    {"part of a reply after the body", CURLE_RECV_ERROR, 0, true, "", MAIL_AMBIGUOUS},
    {"a continuation after the body", CURLE_RECV_ERROR, 1, true, "250-ok", MAIL_AMBIGUOUS},
    {"lost in the body", CURLE_SEND_ERROR, 354, false, "354 go", MAIL_TRANSIENT},
    {"broken off in the body", CURLE_ABORTED_BY_CALLBACK, 354, false, "354 go", MAIL_TRANSIENT},
    {"sender refused", CURLE_SEND_ERROR, 550, false, "550 5.1.8 no", MAIL_PERMANENT},
    {"sender refused for now", CURLE_SEND_ERROR, 451, false, "451 4.3.0 later", MAIL_TRANSIENT},
    {"recipient refused", CURLE_SEND_ERROR, 550, false, "550 5.1.1 who?", MAIL_PERMANENT},
    {"too many recipients", CURLE_SEND_ERROR, 552, false, "552 too many", MAIL_TRANSIENT},
    {"service ends", CURLE_SEND_ERROR, 421, false, "421 bye", MAIL_TRANSIENT},
    {"login needed", CURLE_SEND_ERROR, 530, false, "530 5.7.57 client not authenticated", MAIL_CONFIGURATION},
    {"login refused", CURLE_LOGIN_DENIED, 535, false, "535 5.7.8 no", MAIL_CONFIGURATION},
    {"login challenged again", CURLE_LOGIN_DENIED, 334, false, "334 e30=", MAIL_CONFIGURATION},
    {"login not possible now", CURLE_LOGIN_DENIED, 454, false, "454 4.7.0 later", MAIL_TRANSIENT},
    {"login ended", CURLE_LOGIN_DENIED, 421, false, "421 bye", MAIL_TRANSIENT},
    {"no such way to log in", CURLE_LOGIN_DENIED, 250, false, "250 AUTH XOAUTH2", MAIL_CONFIGURATION},
    {"mechanism too weak", CURLE_SEND_ERROR, 534, false, "534 5.7.9 no", MAIL_CONFIGURATION},
    {"encryption needed", CURLE_SEND_ERROR, 538, false, "538 5.7.11 no", MAIL_CONFIGURATION},
    {"535 at MAIL", CURLE_SEND_ERROR, 535, false, "535 5.7.3 no", MAIL_CONFIGURATION},
    {"basic login retired", CURLE_SEND_ERROR, 550, false, "550 5.7.30 Basic authentication is not supported",
     MAIL_CONFIGURATION},
    {"basic login retired, at the end", CURLE_WEIRD_SERVER_REPLY, 550, true, "550 5.7.30 Basic",
     MAIL_CONFIGURATION},
    {"Exchange's 5.7.3", CURLE_SEND_ERROR, 550, false, "550 5.7.3 no", MAIL_CONFIGURATION},
    {"5.7.350 is spam", CURLE_WEIRD_SERVER_REPLY, 550, true, "550 5.7.350 spam", MAIL_PERMANENT},
    {"may not send as", CURLE_WEIRD_SERVER_REPLY, 554, true, "554 5.2.0 STOREDRV; SendAsDenied; x",
     MAIL_CONFIGURATION},
    {"Exchange says that it has the first attempt already", CURLE_WEIRD_SERVER_REPLY, 554, true, DUPLICATE,
     MAIL_PERMANENT},
    {"no STARTTLS", CURLE_USE_SSL_FAILED, 250, false, "250 SIZE", MAIL_CONFIGURATION},
    {"STARTTLS refused", CURLE_USE_SSL_FAILED, 454, false, "454 no TLS", MAIL_CONFIGURATION},
    {"certificate", CURLE_PEER_FAILED_VERIFICATION, 220, false, "220 hello", MAIL_CONFIGURATION},
    {"CA file", CURLE_SSL_CACERT_BADFILE, 0, false, "", MAIL_CONFIGURATION},
    {"greeting 554", CURLE_WEIRD_SERVER_REPLY, 554, false, "554 no service here", MAIL_TRANSIENT},
    {"greeting 421", CURLE_WEIRD_SERVER_REPLY, 421, false, "421 busy", MAIL_TRANSIENT},
    {"no such host", CURLE_COULDNT_RESOLVE_HOST, 0, false, "", MAIL_TRANSIENT},
    {"refused connection", CURLE_COULDNT_CONNECT, 0, false, "", MAIL_TRANSIENT},
    {"connect time-out", CURLE_OPERATION_TIMEDOUT, 0, false, "", MAIL_TRANSIENT},
    {"lost before DATA", CURLE_RECV_ERROR, 250, false, "250 ok", MAIL_TRANSIENT},
};

static void test_classification(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(dialogues); i++) {
        enum mail_outcome got = smtp_classify(dialogues[i].code, dialogues[i].reply, dialogues[i].all, false,
                                              span_of(dialogues[i].words));
        if (got != dialogues[i].want)
            fail_msg("%s: got outcome %d, want %d", dialogues[i].name, (int)got, (int)dialogues[i].want);
    }
    struct span duplicate = SPAN_LIT(DUPLICATE);
    assert_int_equal(smtp_classify(CURLE_WEIRD_SERVER_REPLY, 554, true, true, duplicate), MAIL_ACCEPTED);
    assert_int_equal(smtp_classify(CURLE_SEND_ERROR, 554, false, true, duplicate), MAIL_PERMANENT);
    assert_int_equal(smtp_classify(CURLE_RECV_ERROR, 354, true, true, span_empty()), MAIL_AMBIGUOUS);
}

/* --- Maildir -------------------------------------------------------------------------------------------- */

#define MESSAGE(id, text)                                                                                    \
    SPAN_LIT("Subject: x\r\nMessage-ID:\r\n <" id "@example.com>\r\n\r\n" text "\r\nline 2\r\n")

struct place {
    char top[64];
    char path[80];
    struct mail_transport *transport;
};

static int set_up_maildir(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    char url[96];
    struct fail why;
    *state = p;
    (void)snprintf(p->top, sizeof p->top, "/tmp/test_mail.XXXXXX");
    if (!mkdtemp(p->top))
        return -1;
    (void)snprintf(p->path, sizeof p->path, "%s/Maildir", p->top);
    (void)snprintf(url, sizeof url, "maildir:%s", p->path);
    struct mail_settings s = {.url = span_of(url)};
    return mail_transport_new(&s, &p->transport, &why) == ST_OK ? 0 : -1;
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *walk)
{
    (void)info;
    (void)type;
    (void)walk;
    return remove(path);
}

static int tear_down_maildir(void **state)
{
    struct place *p = *state;
    mail_transport_free(p->transport);
    (void)nftw(p->top, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(p);
    return 0;
}

/* Counts the files; the last one's path is in found. */
static size_t files_in(const struct place *p, const char *folder, char found[512])
{
    char path[128];
    size_t count = 0;
    (void)snprintf(path, sizeof path, "%s/%s", p->path, folder);
    DIR *directory = opendir(path);
    for (const struct dirent *e = directory ? readdir(directory) : NULL; e; e = readdir(directory)) {
        if (e->d_name[0] == '.')
            continue;
        count++;
        if (found)
            (void)snprintf(found, 512, "%s/%s", path, e->d_name);
    }
    if (directory)
        (void)closedir(directory);
    return count;
}

struct fence {
    const struct place *place;
    bool answer;
    size_t calls, in_new;
};

static bool fence(void *context)
{
    struct fence *f = context;
    f->calls++;
    f->in_new = files_in(f->place, "new", NULL);
    return f->answer;
}

static enum mail_outcome send_to(struct place *p, struct span message, struct fence *f)
{
    struct fail why = {0};
    return mail_send(p->transport, SPAN_LIT("a@example.com"), SPAN_LIT("b@example.com"), message,
                     f ? fence : NULL, f, &why);
}

static void test_maildir_delivers_once(void **state)
{
    struct place *p = *state;
    struct fence f = {.place = p, .answer = true};
    struct buf text = BUF_INIT(4096);
    char path[512], moved[600];
    struct stat info;
    assert_int_equal(send_to(p, MESSAGE("lead.1", ".dot"), &f), MAIL_ACCEPTED);
    assert_int_equal(f.calls, 1);
    assert_int_equal(f.in_new, 0);
    assert_int_equal(files_in(p, "new", path), 1);
    assert_int_equal(files_in(p, "tmp", NULL), 0);
    assert_int_equal(file_read(path, FILE_PUBLIC, &text, NULL), ST_OK);
    assert_text("content", buf_span(&text),
                SPAN_LIT("Subject: x\nMessage-ID:\n <lead.1@example.com>\n\n.dot\nline 2\n"));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(stat(p->path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0700);

    /* The same identity again, read or not. */
    assert_int_equal(send_to(p, MESSAGE("lead.1", ".dot"), NULL), MAIL_ACCEPTED);
    assert_int_equal(files_in(p, "new", NULL), 1);
    (void)snprintf(moved, sizeof moved, "%s/cur/%s:2,RS", p->path, strrchr(path, '/') + 1);
    assert_int_equal(rename(path, moved), 0);
    assert_int_equal(send_to(p, MESSAGE("lead.1", "other text"), NULL), MAIL_ACCEPTED);
    assert_int_equal(files_in(p, "new", NULL), 0);
    assert_int_equal(files_in(p, "cur", NULL), 1);

    assert_int_equal(send_to(p, MESSAGE("lead.2", ".dot"), NULL), MAIL_ACCEPTED);
    assert_int_equal(files_in(p, "new", NULL), 1);
    buf_release(&text);
}

static void test_maildir_fence_refuses(void **state)
{
    struct place *p = *state;
    struct fence f = {.place = p, .answer = false};
    assert_int_equal(send_to(p, MESSAGE("lead.1", "x"), &f), MAIL_TRANSIENT);
    assert_int_equal(files_in(p, "new", NULL), 0);
    assert_int_equal(files_in(p, "tmp", NULL), 0);
}

/* What an attempt left that was cut off is no obstacle. */
static void test_maildir_litter(void **state)
{
    struct place *p = *state;
    char path[512], litter[600];
    assert_int_equal(send_to(p, MESSAGE("lead.1", "x"), NULL), MAIL_ACCEPTED);
    assert_int_equal(files_in(p, "new", path), 1);
    (void)snprintf(litter, sizeof litter, "%s/tmp/%s", p->path, strrchr(path, '/') + 1);
    assert_int_equal(rename(path, litter), 0);
    assert_int_equal(send_to(p, MESSAGE("lead.1", "x"), NULL), MAIL_ACCEPTED);
    assert_int_equal(files_in(p, "new", NULL), 1);
    assert_int_equal(files_in(p, "tmp", NULL), 0);
}

static void test_maildir_probe(void **state)
{
    struct place *p = *state;
    struct fail why = {0};
    struct stat info;
    assert_int_equal(mail_probe(p->transport, &why), MAIL_ACCEPTED);
    assert_int_equal(files_in(p, "new", NULL) + files_in(p, "tmp", NULL), 0);

    /* A file where the Maildir should be. */
    assert_int_equal(nftw(p->path, remove_entry, 8, FTW_DEPTH | FTW_PHYS), 0);
    FILE *file = fopen(p->path, "w");
    assert_non_null(file);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(mail_probe(p->transport, &why), MAIL_CONFIGURATION);
    assert_true(strstr(why.text, p->path) != NULL);
    assert_int_equal(send_to(p, MESSAGE("lead.1", "x"), NULL), MAIL_TRANSIENT);
    assert_int_equal(stat(p->path, &info), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_address_settings),
        cmocka_unit_test(test_header_text),
        cmocka_unit_test(test_encoded_words_keep_characters),
        cmocka_unit_test(test_phrase),
        cmocka_unit_test(test_quoted_printable),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_summary),
        cmocka_unit_test(test_marked),
        cmocka_unit_test(test_bare),
        cmocka_unit_test(test_reply_to),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_request_id),
        cmocka_unit_test(test_refuses_header_values),
        cmocka_unit_test(test_hostile_values),
        cmocka_unit_test(test_huge_values),
        cmocka_unit_test(test_huge_parameters),
        cmocka_unit_test(test_lines_are_indented),
        cmocka_unit_test(test_classification),
        cmocka_unit_test_setup_teardown(test_maildir_delivers_once, set_up_maildir, tear_down_maildir),
        cmocka_unit_test_setup_teardown(test_maildir_fence_refuses, set_up_maildir, tear_down_maildir),
        cmocka_unit_test_setup_teardown(test_maildir_litter, set_up_maildir, tear_down_maildir),
        cmocka_unit_test_setup_teardown(test_maildir_probe, set_up_maildir, tear_down_maildir),
    };
    return cmocka_run_group_tests_name("mail", tests, NULL, NULL);
}
