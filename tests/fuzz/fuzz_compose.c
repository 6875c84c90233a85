/* The composer: whatever a lead, a row or an alarm holds, what comes out is one
 * well-formed message with our headers and nobody else's, in which text stays
 * text and shows all that it is.  tests/fuzz/message.h reads it back.
 */
#include "tests/fuzz/message.h"

#include "lib/mail/compose.h"

CHECKS_BEGIN

#define ID "7f3a9c0e5b1d4c627f3a9c0e5b1d4c62"

/* What the first bytes of an input choose. */
enum {
    IS_TEST = 1,
    DO_NOT_CONTACT = 2,
    WITHHELD = 4,
    CAME_BACK = 8,
    SUMMARY = 16,
    ALARM = 32,
    ODD_ADDRESSES = 64 /* sender and recipient come from the input */
};

enum { TIME_BYTES = 8 };

static struct arena arena = {.limit = LIMIT_REQUEST_ARENA};
static struct buf first = BUF_INIT(LIMIT_MAIL_BYTES), second = BUF_INIT(LIMIT_MAIL_BYTES),
                  shown = BUF_INIT(LIMIT_MAIL_BYTES), subject = BUF_INIT(LIMIT_MAIL_BYTES);
static struct message message = {.text = BUF_INIT(LIMIT_MAIL_BYTES), .html = BUF_INIT(LIMIT_MAIL_BYTES)};

/* --- the body -------------------------------------------------------------------------------------------- */

/* All lines of the text that are not indented; a value cannot look like one of them. */
static const char *const OUR_LINES[] = {
    "This is a test lead from Partner Center or from yourselves, not a customer.",
    "Do not contact this customer: they asked another partner. This lead is for information only.",
    "The personal data of this lead is withheld because of the domain of its e-mail address.",
    "A lead has arrived. This mail holds no personal data.",
    "The page they came from",
    "Their message",
    "Earlier leads of this person in this offer",
    "About this lead",
    "Everything stored about it: run 'leadctl show' with the lead id on the server.",
    "What happened",
    "What it means",
    "What to do",
    "This alarm is mailed once a day (UTC) for all hosts together, however often it is raised. Other hosts may be concerned as well.",
    "You are told of such a thing once for all hosts together, rarely again while it lasts, and when it is over; 'leadctl status' always shows it.",
};

static bool is_our_line(struct span line)
{
    for (size_t i = 0; i < COUNT(OUR_LINES); i++) {
        if (span_eq(line, span_of(OUR_LINES[i])))
            return true;
    }
    return span_starts(line, SPAN_LIT("This customer came back: the same lead has now been received "));
}

static void check_text(struct span text, bool has_headline)
{
    struct span rest = text, line;
    for (size_t i = 0; rest.len && span_next(&rest, '\n', &line); i++)
        CHECK(line.len == 0 || span_starts(line, SPAN_LIT("  ")) || (i == 0 && has_headline) ||
              is_our_line(line));
}

/* The HTML says what the text says; only white space differs. */
static void check_html(struct span text, struct span html)
{
    buf_reset(&shown);
    message_add_shown(&shown, html);
    if (fuzz_has(text, SPAN_LIT("(cut here;")) || fuzz_has(html, SPAN_LIT("(cut here;")))
        return; /* with its entities HTML gets to its limit earlier */
    struct span other = buf_span(&shown);
    size_t a = 0, b = 0;
    for (;;) {
        while (a < text.len && (text.ptr[a] == ' ' || text.ptr[a] == '\n'))
            a++;
        while (b < other.len && (other.ptr[b] == ' ' || other.ptr[b] == '\n'))
            b++;
        if (a == text.len || b == other.len)
            break;
        CHECK(text.ptr[a++] == other.ptr[b++]);
    }
    CHECK(a == text.len && b == other.len);
}

/* --- headers --------------------------------------------------------------------------------------------- */

static void check_exact(size_t index, const char *name, const char *value)
{
    CHECK(span_eq(message_value(&message, index, name), span_of(value)));
}

/* "<address>" and nothing else. */
static void check_address(struct span value, struct span address)
{
    CHECK(value.len == address.len + 2 && value.ptr[0] == '<' && value.ptr[value.len - 1] == '>');
    CHECK(span_eq(span_cut(value, 1, address.len), address));
}

/* A phrase and an address. */
static void check_from(struct span value, const struct mail_address *from)
{
    size_t open = span_find_last(value, '<');
    CHECK(open != SPAN_NONE);
    check_address(span_from(value, open), from->address);
    struct span phrase = span_trim(span_cut(value, 0, open));
    CHECK((phrase.len > 0) == (from->name.len > 0));
    if (phrase.len && phrase.ptr[0] == '"') {
        CHECK(phrase.len >= 2 && phrase.ptr[phrase.len - 1] == '"');
        phrase = span_cut(phrase, 1, phrase.len - 2);
        CHECK(span_find(phrase, '"') == SPAN_NONE && span_find(phrase, '\\') == SPAN_NONE);
        CHECK(span_find(phrase, '\r') == SPAN_NONE && !fuzz_has(phrase, SPAN_LIT("=?")));
    } else {
        buf_reset(&shown);
        message_add_text(&shown, phrase);
        CHECK(shown.error == ST_OK);
        message_check_shown(buf_span(&shown), false);
        CHECK(phrase.len == 0 || span_starts(phrase, SPAN_LIT("=?UTF-8?B?")));
    }
}

static void check_date(struct span value)
{
    /* "Sat, 21 Nov 2026 01:10:29 +0000" */
    static const char form[] = "Aaa, 00 Aaa 0000 00:00:00 +0000";
    CHECK(value.len == sizeof form - 1);
    for (size_t i = 0; i < value.len; i++) {
        char c = value.ptr[i];
        bool is_letter = (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z');
        CHECK(form[i] == '0'                     ? c >= '0' && c <= '9'
              : form[i] == 'A' || form[i] == 'a' ? is_letter
                                                 : c == form[i]);
    }
}

/* Subject: safe when decoded, and beginning with what the reader must see. */
static void check_subject(struct span value, const char *begin)
{
    buf_reset(&subject);
    message_add_text(&subject, value);
    CHECK(subject.error == ST_OK && span_starts(buf_span(&subject), span_of(begin)));
    message_check_shown(buf_span(&subject), false);
}

static size_t check_origin(const struct mail_address *from, struct span to)
{
    check_date(message_value(&message, 0, "Date"));
    check_from(message_value(&message, 1, "From"), from);
    check_address(message_value(&message, 2, "To"), to);
    return 3;
}

#define ID_CHARACTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-"

static bool is_made_of(struct span text, const char *characters)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!text.ptr[i] || !strchr(characters, text.ptr[i]))
            return false;
    }
    return text.len > 0;
}

static void check_lead_headers(const struct notification *n, const struct mail_address *from, struct span to)
{
    char begin[64];
    const struct lead *lead = n->lead;
    struct span email = span_trim(lead->customer.email);
    bool may_reply = n->detail == MAIL_FULL && !lead->withheld && !lead->do_not_contact;
    size_t i = check_origin(from, to);
    if (may_reply && mail_address_is_safe(email))
        check_address(message_value(&message, i++, "Reply-To"), email);
    struct span id = message_value(&message, i++, "Message-ID"), fold = SPAN_LIT("\r\n <lead." ID ".");
    CHECK(span_starts(id, fold) && id.ptr[id.len - 1] == '>');
    CHECK(span_ends_nocase(span_cut(id, 0, id.len - 1), mail_address_domain(from->address)));
    (void)snprintf(begin, sizeof begin, "%s%s%s", lead->is_test ? "[TEST] " : "",
                   lead->do_not_contact ? "[DO NOT CONTACT] " : "",
                   n->reason == MAIL_CAME_BACK ? "[CAME BACK] " : "");
    check_subject(message_value(&message, i++, "Subject"), begin);
    check_exact(i++, "Auto-Submitted", "auto-generated");
    check_exact(i++, "X-Auto-Response-Suppress", "All");
    check_exact(i++, "X-Lead-ID", ID);
    if (n->request_id.len > 0 && n->request_id.len <= 64 && is_made_of(n->request_id, ID_CHARACTERS))
        CHECK(span_eq(message_value(&message, i++, "X-Request-ID"), n->request_id));
    check_exact(i++, "MIME-Version", "1.0");
    check_exact(i++, "Content-Type", "multipart/alternative;\r\n boundary=\"=_" ID "\"");
    CHECK(i == message.count);
}

static void check_alarm_headers(const struct alarm_notice *n, const struct mail_address *from, struct span to)
{
    size_t i = check_origin(from, to);
    struct span id = message_value(&message, i++, "Message-ID");
    CHECK(span_starts(id, SPAN_LIT("\r\n <alarm.")) && id.ptr[id.len - 1] == '>');
    check_subject(message_value(&message, i++, "Subject"), "[leadhook]");
    check_exact(i++, "Auto-Submitted", "auto-generated");
    check_exact(i++, "X-Auto-Response-Suppress", "All");
    CHECK(span_eq(message_value(&message, i++, "X-Lead-Alarm"), n->event));
    check_exact(i++, "MIME-Version", "1.0");
    check_exact(i++, "Content-Type", "text/plain; charset=utf-8");
    check_exact(i++, "Content-Transfer-Encoding", "quoted-printable");
    CHECK(i == message.count);
}

/* A summary has nothing of what the customer typed. */
static void check_summary(const struct notification *n)
{
    const struct customer *c = &n->lead->customer;
    const struct span fields[] = {c->email, c->phone, n->lead->description};
    const struct span others[] = {n->lead->action,
                                  n->lead->offer_title,
                                  n->lead->source,
                                  span_of(n->lead->partition),
                                  n->from->name,
                                  n->from->address,
                                  n->to};
    for (size_t i = 0; i < COUNT(fields); i++) {
        bool is_elsewhere = fields[i].len < 16;
        for (size_t k = 0; k < COUNT(others); k++)
            is_elsewhere = is_elsewhere || fuzz_has(others[k], fields[i]);
        for (size_t k = 0; k < COUNT(OUR_LINES); k++)
            is_elsewhere = is_elsewhere || fuzz_has(span_of(OUR_LINES[k]), fields[i]);
        CHECK(is_elsewhere || fields[i].ptr[0] != '!' || !fuzz_has(buf_span(&message.text), fields[i]));
    }
}

/* --- what is composed ------------------------------------------------------------------------------------ */

/* A time that a row may hold: of the years 1601 to 9999. */
static int64_t time_of(struct span rest)
{
    const int64_t first_ms = -11644473600000, last_ms = 253402300799999;
    uint64_t value = 0;
    for (size_t i = 0; i < rest.len && i < sizeof value; i++)
        value = value << 8 | (unsigned char)rest.ptr[i];
    return first_ms + (int64_t)(value % (uint64_t)(last_ms - first_ms + 1));
}

static struct span part_or(struct span *rest, unsigned int flags, struct span otherwise)
{
    struct span part = fuzz_part(rest);
    return flags & ODD_ADDRESSES ? part : otherwise;
}

static void compose_lead(unsigned int flags, struct span rest)
{
    struct mail_address sender = {.name = fuzz_part(&rest)}, from, to;
    sender.address = part_or(&rest, flags, SPAN_LIT("leads@example.com"));
    struct span recipient = part_or(&rest, flags, SPAN_LIT("sales@example.com"));
    struct lead lead = {
        .is_test = flags & IS_TEST, .do_not_contact = flags & DO_NOT_CONTACT, .withheld = flags & WITHHELD};
    struct span *const fields[] = {
        &lead.customer.first_name, &lead.customer.last_name, &lead.customer.company, &lead.customer.email,
        &lead.customer.phone,      &lead.customer.title,     &lead.customer.country, &lead.action,
        &lead.offer_title,         &lead.description,        &lead.source,           &lead.campaign,
    };
    for (size_t i = 0; i < COUNT(fields); i++)
        *fields[i] = fuzz_part(&rest);
    struct span partition = span_cut(fuzz_part(&rest), 0, LIMIT_PARTITION_KEY_BYTES);
    if (partition.len)
        memcpy(lead.partition, partition.ptr, partition.len);
    struct earlier_lead earlier[2] = {{.action = fuzz_part(&rest)}, {0}};
    earlier[0].description = fuzz_part(&rest);
    earlier[1].description = earlier[0].action;
    struct span time = span_cut(rest, 0, TIME_BYTES);
    rest = span_from(rest, TIME_BYTES);
    unsigned int often = fuzz_byte(&rest);
    struct span *longer = often & 1 ? &lead.description : &lead.customer.company;
    *longer = fuzz_repeat(*longer, often,
                          often & 1 ? LIMIT_MAIL_TEXT_BYTES + 200 : LIMIT_MAIL_FIELD_BYTES + 200, &arena);
    struct notification n = {
        .lead = &lead,
        .reason = flags & CAME_BACK ? MAIL_CAME_BACK : MAIL_NEW_LEAD,
        .detail = flags & SUMMARY ? MAIL_SUMMARY : MAIL_FULL,
        .delivery_id = SPAN_LIT(ID),
        .request_id = lead.campaign,
        .received_ms = time_of(time),
        .first_received_ms = 0,
        .deliveries = (int32_t)time.len,
        .recipient_number = (unsigned int)time.len,
        .from = &sender,
        .to = recipient,
        .earlier = earlier,
        .earlier_count = flags & CAME_BACK ? COUNT(earlier) : 0,
    };
    struct fail why;
    bool good = mail_address_parse(sender.address, &from, NULL) == ST_OK &&
                mail_address_parse(recipient, &to, NULL) == ST_OK;
    enum status status = mail_compose(&first, &n, &why);
    CHECK(status == (good ? ST_OK : ST_INVALID));
    if (!good) {
        fuzz_check_fail(&why, status);
        CHECK(first.len == 0);
        return;
    }
    from.name = sender.name;
    message_read(&message, buf_span(&first));
    check_lead_headers(&n, &from, to.address);
    check_text(buf_span(&message.text), true);
    check_html(buf_span(&message.text), buf_span(&message.html));
    if (flags & SUMMARY)
        check_summary(&n);
    if (first.len % 4 == 0) { /* the same again; not always, for speed */
        CHECK(mail_compose(&second, &n, &why) == ST_OK);
        CHECK(span_eq(buf_span(&first), buf_span(&second)));
    }
}

static void compose_alarm(unsigned int flags, struct span rest)
{
    struct mail_address sender = {.name = fuzz_part(&rest)}, from, to;
    sender.address = part_or(&rest, flags, SPAN_LIT("leads@example.com"));
    struct span recipient = part_or(&rest, flags, SPAN_LIT("ops@example.com"));
    struct alarm_notice n = {.from = &sender, .to = recipient};
    struct span *const fields[] = {&n.event, &n.day, &n.title, &n.happened, &n.meaning, &n.action, &n.host};
    for (size_t i = 0; i < COUNT(fields); i++)
        *fields[i] = fuzz_part(&rest);
    n.received_ms = time_of(rest);
    n.lasts = rest.len % 2 == 1;
    struct fail why;
    bool good = is_made_of(n.event, "abcdefghijklmnopqrstuvwxyz0123456789-") &&
                is_made_of(n.day, "0123456789-") && n.event.len + n.day.len <= 64 &&
                mail_address_parse(sender.address, &from, NULL) == ST_OK &&
                mail_address_parse(recipient, &to, NULL) == ST_OK;
    enum status status = mail_compose_alarm(&first, &n, &why);
    CHECK(status == (good ? ST_OK : ST_INVALID));
    if (!good) {
        fuzz_check_fail(&why, status);
        CHECK(first.len == 0);
        return;
    }
    from.name = sender.name;
    message_read(&message, buf_span(&first));
    CHECK(message.html.len == 0);
    check_alarm_headers(&n, &from, to.address);
    check_text(buf_span(&message.text), false);
    if (first.len % 4 == 0) { /* the same again; not always, for speed */
        CHECK(mail_compose_alarm(&second, &n, &why) == ST_OK);
        CHECK(span_eq(buf_span(&first), buf_span(&second)));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct span rest = {(const char *)data, size};
    unsigned int flags = fuzz_byte(&rest);
    arena_reset(&arena);
    buf_reset(&first);
    buf_reset(&second);
    if (flags & ALARM)
        compose_alarm(flags, rest);
    else
        compose_lead(flags, rest);
    return 0;
}

CHECKS_END
