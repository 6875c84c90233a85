/* rules.h - what the service is told to do wrong, for tests.
 *
 *   POST /_fault    rules, one per line, instead of those before; none: it works
 *   GET /_fault     {"hits":[N,...]}, how often each of them was applied
 *
 * A rule is name=value pairs joined by "&", percent-encoded.  The first that
 * matches a request counts:
 *
 *   on=any|batch|read|write  which requests (any); a write is every request but GET, batches included
 *   contains=TEXT            only those with this text in their body
 *   skip=N                   not the first N that match so far
 *   times=N                  and then N of them; absent: all
 *   pass=N                   of those, every Nth passes
 *
 *   do=answer  a refusal with status, code and retry_after (seconds)
 *      inner   a batch's 202 with a refusal (status, code) of the operation at index inside; only
 *              for batches that have one there
 *      drop    the connection is closed instead of the answer
 *      hang    no answer, until the client leaves or the rules are replaced
 *      garbage an answer that means nothing, with the status that the right one would have; not HTTP with raw=1
 *      cut     the answer ends after `bytes` of its body, by closing; with length=1 its head agrees to that
 *      slow    the answer comes `ms` later
 *      late    request and answer are held back for `ms`: it takes effect, whether or not the client is still there
 *   done=1     answer, inner, drop, hang, garbage: the request has its effect all the same
 */
#ifndef FAKE_TABLE_RULES_H
#define FAKE_TABLE_RULES_H

/* System */
#include <inttypes.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

/* Parts below this one */
#include "tests/harness/fake_table/answer.h"
#include "tests/harness/fake_table/request.h"

enum { RULES = 16, RULE_TEXT_BYTES = 128 };

enum rule_on { ON_ANY, ON_BATCH, ON_READ, ON_WRITE };
enum rule_act { ACT_ANSWER, ACT_INNER, ACT_DROP, ACT_HANG, ACT_GARBAGE, ACT_CUT, ACT_SLOW, ACT_LATE };

struct rule {
    enum rule_on on;
    enum rule_act act;
    bool done, raw, length;
    size_t skip, times, pass;
    size_t status, retry_after, index, bytes, ms;
    char contains[RULE_TEXT_BYTES];
    char code[RULE_TEXT_BYTES];
    size_t seen, hits;
};
static struct rule rules[RULES];
static size_t rule_count;

static bool rule_word(const char *const *words, size_t count, struct text value, size_t *index)
{
    for (size_t i = 0; i < count; i++) {
        if (same(text_of(words[i]), value)) {
            *index = i;
            return true;
        }
    }
    return false;
}

/* Reads one line; false: a name or value that means nothing. */
static bool rule_read(struct text line, struct rule *rule)
{
    static const char *const ons[] = {"any", "batch", "read", "write"};
    static const char *const acts[] = {"answer", "inner", "drop", "hang", "garbage", "cut", "slow", "late"};
    *rule = (struct rule){.times = SIZE_MAX, .status = 500, .code = "InternalError"};
    const struct {
        const char *name;
        size_t *number;
        bool *flag;
        char *text;
    } fields[] = {{"skip", &rule->skip, NULL, NULL},       {"times", &rule->times, NULL, NULL},
                  {"pass", &rule->pass, NULL, NULL},       {"status", &rule->status, NULL, NULL},
                  {"index", &rule->index, NULL, NULL},     {"bytes", &rule->bytes, NULL, NULL},
                  {"ms", &rule->ms, NULL, NULL},           {"retry_after", &rule->retry_after, NULL, NULL},
                  {"done", NULL, &rule->done, NULL},       {"raw", NULL, &rule->raw, NULL},
                  {"length", NULL, &rule->length, NULL},   {"code", NULL, NULL, rule->code},
                  {"contains", NULL, NULL, rule->contains}};
    bool has_act = false;
    while (line.n) {
        char room[RULE_TEXT_BYTES - 1];
        struct text pair = cut(&line, LIT("&"));
        struct text name = cut(&pair, LIT("="));
        struct text value;
        size_t number;
        if (!url_decode(pair, false, room, sizeof room, &value))
            return false;
        if (same(name, LIT("on"))) {
            if (!rule_word(ons, sizeof ons / sizeof *ons, value, &number))
                return false;
            rule->on = (enum rule_on)number;
            continue;
        }
        if (same(name, LIT("do"))) {
            has_act = rule_word(acts, sizeof acts / sizeof *acts, value, &number);
            if (!has_act)
                return false;
            rule->act = (enum rule_act)number;
            continue;
        }
        size_t i = 0;
        size_t count = sizeof fields / sizeof *fields;
        while (i < count && !same(text_of(fields[i].name), name))
            i++;
        if (i == count || (!fields[i].text && !number_of(value, SIZE_MAX / 16, &number)))
            return false;
        if (fields[i].text) {
            memcpy(fields[i].text, value.p, value.n);
            fields[i].text[value.n] = '\0';
        } else if (fields[i].flag) {
            *fields[i].flag = number != 0;
        } else {
            *fields[i].number = number;
        }
    }
    return has_act;
}

/* Replaces the rules; false: one of them was not understood, and none is in force. */
static bool rules_read(struct text lines)
{
    rule_count = 0;
    while (lines.n) {
        struct text line = trim(cut(&lines, LIT("\n")));
        if (line.n == 0)
            continue;
        if (rule_count == RULES || !rule_read(line, &rules[rule_count])) {
            rule_count = 0;
            return false;
        }
        rule_count++;
    }
    return true;
}

static void rules_hits(struct out *o)
{
    out_add(o, LIT("{\"hits\":["));
    for (size_t i = 0; i < rule_count; i++)
        outf(o, "%s%zu", i ? "," : "", rules[i].hits);
    out_add(o, LIT("]}\n"));
}

static bool is_batch(const struct request *q)
{
    return find(q->path, LIT("/$batch")) < q->path.n || find(q->path, LIT("/%24batch")) < q->path.n;
}

/* Whether the batch has an operation at this index. */
static bool has_member(struct text body, size_t index)
{
    static const struct text part = LIT("application/http");
    for (size_t i = 0; i <= index; i++) {
        size_t n = find(body, part);
        if (n == body.n)
            return false;
        body = skip(body, n + part.n);
    }
    return true;
}

/* The rule to apply to this request, counted; or NULL. */
static const struct rule *rule_for(const struct request *q)
{
    bool reads = same(q->method, LIT("GET"));
    for (size_t i = 0; i < rule_count; i++) {
        struct rule *r = &rules[i];
        if ((r->on == ON_BATCH && !is_batch(q)) || (r->on == ON_READ && !reads) ||
            (r->on == ON_WRITE && reads) || (r->act == ACT_INNER && !has_member(q->body, r->index)) ||
            (r->contains[0] && find(q->body, text_of(r->contains)) == q->body.n))
            continue;
        r->seen++;
        if (r->seen <= r->skip || r->hits >= r->times || (r->pass && (r->seen - r->skip) % r->pass == 0))
            continue;
        r->hits++;
        return r;
    }
    return NULL;
}

#endif
