/* What an SMTP server said, and what became of the mail: a mail is never lost by
 * it, never called sent when it cannot have been, and no address gets into a log.
 *
 * With the source of the SMTP client: its reader of replies gets the lines as
 * libcurl hands them over.
 */
#include "tests/fuzz/fuzz.h"

#include "lib/mail/smtp.c"

CHECKS_BEGIN

enum { LINE_BYTES = 2048 };

/* What the first byte of an input chooses. */
enum { ALL = 1, AGAIN = 2, LOGIN = 4, BROKEN_OFF = 8, PROBE = 16, CODE_OF_ITS_OWN = 32 };

/* The code of the last whole reply, as libcurl has it. */
static long last_code(struct span said)
{
    long code = 0;
    struct span line;
    while (said.len && span_next(&said, '\n', &line)) {
        uint64_t number;
        if (line.len >= 3 && span_to_u64(span_cut(line, 0, 3), 999, &number) &&
            (line.len == 3 || line.ptr[3] != '-'))
            code = (long)number;
    }
    return code;
}

static void check(const struct dialogue *d, CURLcode code, long reply, enum mail_outcome outcome)
{
    struct fail why = {0};
    bool all = is_handed_out(d);
    CHECK(outcome >= MAIL_ACCEPTED && outcome <= MAIL_AMBIGUOUS);
    CHECK(outcome != MAIL_AMBIGUOUS || all);
    CHECK(outcome != MAIL_ACCEPTED || code == CURLE_OK || all);
    CHECK(!(all && reply / 100 == 2 && !d->login_missing && !d->broken_off) || outcome == MAIL_ACCEPTED);
    CHECK(outcome != MAIL_PERMANENT || reply / 100 == 5);
    CHECK(!d->login_missing || outcome == MAIL_CONFIGURATION);
    /* A mail that may have been taken is not called unsent, unless the server said so. */
    if (all && reply / 100 != 4 && reply / 100 != 5 && !d->login_missing && !d->broken_off)
        CHECK(outcome == MAIL_ACCEPTED || outcome == MAIL_AMBIGUOUS);
    if (outcome == MAIL_ACCEPTED)
        return;
    explain(d, code, reply, outcome, &why);
    fuzz_check_fail(&why, mail_outcome_status(outcome));
    CHECK(why.peer == (int)reply);
    for (size_t i = 0; why.text[i]; i++)
        CHECK(why.text[i] >= ' ' && why.text[i] <= '~' && why.text[i] != '@');
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct buf replies = BUF_INIT(LIMIT_SMTP_REPLY_BYTES);
    struct span rest = {(const char *)data, size < LINE_BYTES ? size : LINE_BYTES}, said, line;
    unsigned int flags = fuzz_byte(&rest);
    CURLcode code = (CURLcode)(fuzz_byte(&rest) % CURL_LAST);
    const struct mail_settings settings = {.user = flags & LOGIN ? SPAN_LIT("user") : span_empty()};
    struct smtp smtp = {.settings = &settings};
    struct dialogue d = {.smtp = &smtp, .message = SPAN_LIT("m\r\n"), .from = flags & PROBE ? NULL : "<a@b>"};
    d.again = flags & AGAIN;
    d.handed_out = flags & ALL ? d.message.len : 1;
    d.broken_off = flags & BROKEN_OFF && !(flags & ALL) ? "it was broken off" : NULL;
    buf_reset(&replies);
    d.replies = replies;
    said = rest;
    while (rest.len) { /* line by line, the ends with them */
        size_t end = span_find(rest, '\n');
        line = span_cut(rest, 0, end == SPAN_NONE ? rest.len : end + 1);
        rest = span_from(rest, line.len);
        char copy[LINE_BYTES];
        memcpy(copy, line.ptr, line.len);
        CHECK(on_reply(copy, 1, line.len, &d) == line.len);
    }
    long reply = flags & CODE_OF_ITS_OWN ? (long)size % 600 : last_code(said);
    CHECK(d.logged_in == (span_starts(said, SPAN_LIT("235")) || fuzz_has(said, SPAN_LIT("\n235"))));
    struct span lines = reply_lines(&d, reply);
    CHECK(lines.len == 0 ||
          (lines.ptr >= d.replies.data && lines.ptr + lines.len <= d.replies.data + d.replies.len));
    check(&d, code, reply, decide(&d, code, reply));
    replies = d.replies;
    return 0;
}

CHECKS_END
