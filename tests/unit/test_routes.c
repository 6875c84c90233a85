/* Mail routes: every form of a rule, every mistake and its words, which rule a lead matches, the limits, and routes
 * that are replaced while leads are looked at.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/mail/routes.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static struct routes *routes;
static struct buf mistakes;

static int tear_down(void **state)
{
    (void)state;
    routes_free(routes);
    routes = NULL;
    buf_release(&mistakes);
    return 0;
}

static enum status parse(struct span text, struct fail *why)
{
    routes_free(routes);
    routes = NULL;
    buf_release(&mistakes);
    mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    return routes_parse(text, "F", &routes, &mistakes, why);
}

static void expect_ok(const char *name, struct span text)
{
    struct fail why = {0};
    if (parse(text, &why) != ST_OK)
        fail_msg("%s: %s", name, why.text);
    assert_int_equal(mistakes.len, 0);
}

static void expect_mistakes(const char *name, struct span text, const char *want)
{
    struct fail why = {0};
    enum status status = parse(text, &why);
    if (status != ST_INVALID || routes)
        fail_msg("%s: taken, or %s", name, status_name(status));
    if (strcmp(mistakes.data, want) != 0)
        fail_msg("%s: got:\n%swant:\n%s", name, mistakes.data, want);
    /* The first of them is why. */
    struct span rest = span_of(want), first;
    assert_true(span_next(&rest, '\n', &first));
    if (!span_eq(span_of(why.text), first))
        fail_msg("%s: why is '%s'", name, why.text);
}

/* --- mistakes ------------------------------------------------------------------------------------------------ */

#define NO_RULE "not of the form 'CONDITIONS -> ADDRESSES' or 'CONDITIONS -> off'\n"
#define NAMES   "there are offer, action, country, campaign and test\n"
#define UNSEEN  ", which cannot be seen or looks like a blank: remove it, or write it in double quotes\n"
#define ADDRESS "not a mail address: one of the form name@example.com is needed\n"

static const struct {
    const char *name;
    struct span text;
    const char *want;
} wrong[] = {
    {"no arrow", SPAN_LIT("offer=a\n"), "F:1: " NO_RULE},
    {"half an arrow", SPAN_LIT("offer=a - > a@b\n"), "F:1: " NO_RULE},
    {"an arrow in quotes only", SPAN_LIT("offer=\"a -> off\"\n"), "F:1: " NO_RULE},
    {"a word", SPAN_LIT("x\n"), "F:1: " NO_RULE},
    {"an open quote", SPAN_LIT("offer=\"a -> off\n"), "F:1: a double quote is not closed\n"},
    {"no condition", SPAN_LIT("-> a@b\n"),
     "F:1: no condition stands before '->'; 'default' is for all other leads\n"},
    {"a name alone", SPAN_LIT("offer -> a@b\n"),
     "F:1: 'offer' is no condition: these are of the form NAME=VALUE\n"},
    {"a name alone behind another", SPAN_LIT("offer=a DNC -> a@b\n"),
     "F:1: 'DNC' is no condition: these are of the form NAME=VALUE\n"},
    {"another name", SPAN_LIT("offre=a -> a@b\n"), "F:1: 'offre' is no condition: " NAMES},
    {"no name", SPAN_LIT("=a -> a@b\n"), "F:1: '' is no condition: " NAMES},
    {"a long name is cut at a character",
     SPAN_LIT("0123456789012345678901234567890123456\xED\x95\x9C\xED\x95\x9C=a -> a@b\n"),
     "F:1: '0123456789012345678901234567890123456\xED\x95\x9C' is no condition: " NAMES},
    {"default and a condition", SPAN_LIT("default offer=a -> a@b\n"),
     "F:1: 'default' is no condition: these are of the form NAME=VALUE\n"},
    {"a name alone before another", SPAN_LIT("offer contoso.app country=DE -> a@b\n"),
     "F:1: 'offer' is no condition: these are of the form NAME=VALUE\n"},
    {"a tab is not shown", SPAN_LIT("of\tfer=\"a\tb\" -> a@b\noffer=\"a\tb\" = c -> a@b\n"),
     "F:1: 'of' is no condition: " NAMES
     "F:2: 'a=': conditions are separated by blanks, and a value with '=' needs double quotes\n"},
    {"a blank that is none", SPAN_LIT("country=DE\xC2\xA0-> a@b\n"), "F:1: holds U+00A0" UNSEEN},
    {"what nobody sees",
     SPAN_LIT("\xEF\xBB\xBF"
              "default -> off\ncountry=D\xE2\x80\x8B"
              "E -> a@b\ncountry=DE -> a@b\xE3\x80\x80\n"),
     "F:1: holds U+FEFF" UNSEEN "F:2: holds U+200B" UNSEEN "F:3: holds U+3000" UNSEEN},
    {"the wrong way round",
     SPAN_LIT("sales@contoso.example -> DE\ncountry=DE lead@b -> a@b\ncampaign=a@b=c -> a@b\n"),
     "F:1: 'sales' is no condition: these are of the form NAME=VALUE\n"
     "F:2: 'lead' is no condition: these are of the form NAME=VALUE\n"
     "F:3: 'a=': conditions are separated by blanks, and a value with '=' needs double quotes\n"},
    {"a name twice", SPAN_LIT("country=DE action=DNC country=AT -> a@b\n"),
     "F:1: 'country' stands there twice: all its values belong behind one '='\n"},
    {"no value", SPAN_LIT("offer= -> a@b\n"),
     "F:1: a value of 'offer' is missing; \"\" stands for nothing said\n"},
    {"no value at the end", SPAN_LIT("country=DE, -> a@b\n"),
     "F:1: a value of 'country' is missing; \"\" stands for nothing said\n"},
    {"no value between", SPAN_LIT("country=DE,,AT -> a@b\n"),
     "F:1: a value of 'country' is missing; \"\" stands for nothing said\n"},
    {"a comma between conditions", SPAN_LIT("country=DE,action=DNC -> a@b\n"),
     "F:1: 'action=': conditions are separated by blanks, and a value with '=' needs double quotes\n"},
    {"'=' in a value", SPAN_LIT("campaign=a=b -> a@b\n"),
     "F:1: 'a=': conditions are separated by blanks, and a value with '=' needs double quotes\n"},
    {"'=' behind quotes", SPAN_LIT("campaign=\"a\" = b -> a@b\n"),
     "F:1: 'a=': conditions are separated by blanks, and a value with '=' needs double quotes\n"},
    {"quotes within a value", SPAN_LIT("campaign=a\"b\" -> a@b\n"),
     "F:1: '\"b\"' is no condition: these are of the form NAME=VALUE\n"},
    {"a test that is neither", SPAN_LIT("test=maybe -> off\n"), "F:1: 'test' is yes or no\n"},
    {"a pattern of a test", SPAN_LIT("test=* -> off\n"), "F:1: 'test' is yes or no\n"},
    {"nobody", SPAN_LIT("offer=a ->\n"), "F:1: nobody stands behind '->'; 'off' is for no mail\n"},
    {"no address", SPAN_LIT("offer=a -> sales\n"), "F:1: " ADDRESS},
    {"off and an address", SPAN_LIT("offer=a -> off, a@b\n"), "F:1: " ADDRESS},
    {"a second arrow", SPAN_LIT("offer=a -> a@b -> c@d\n"), "F:1: " ADDRESS},
    {"a comment behind", SPAN_LIT("offer=a -> off # no mail\n"), "F:1: " ADDRESS},
    {"a comma at the end", SPAN_LIT("offer=a -> a@b,\n"), "F:1: " ADDRESS},
    {"twice the same", SPAN_LIT("offer=a -> a@b, c@d, Name <A@B>\n"), "F:1: an address stands there twice\n"},
    {"a control character", SPAN_LIT("offer=a\x1B[0m -> off\n"),
     "F:1: holds a control character, or what is not UTF-8\n"},
    {"U+0000", SPAN_LIT("offer=a\0 -> off\n"), "F:1: holds a control character, or what is not UTF-8\n"},
    {"U+007F", SPAN_LIT("offer=a\x7F -> off\n"), "F:1: holds a control character, or what is not UTF-8\n"},
    {"another encoding", SPAN_LIT("offer=B\xFCro -> off\n"),
     "F:1: holds a control character, or what is not UTF-8\n"},
    {"behind default", SPAN_LIT("default -> a@b\n\n# all\noffer=a -> off\ndefault -> off\n"),
     "F:4: stands behind 'default', which leaves no lead for it\n"
     "F:5: stands behind 'default', which leaves no lead for it\n"},
    {"several", SPAN_LIT("\nx\noffer=a -> off\n=\n"), "F:2: " NO_RULE "F:4: " NO_RULE},
};

static void test_mistakes(void **state)
{
    (void)state;
    for (size_t i = 0; i < COUNT(wrong); i++)
        expect_mistakes(wrong[i].name, wrong[i].text, wrong[i].want);
}

/* --- rules --------------------------------------------------------------------------------------------------- */

/* As `leadctl routes` shows them. */
static void expect_rules(const char *name, struct span text, const char *want)
{
    struct buf got = BUF_INIT(4096);
    expect_ok(name, text);
    size_t count = 0;
    for (const struct route *r = routes_first(routes); r; r = r->next, count++) {
        buf_addf(&got, "%zu:%.*s->", r->line, SPAN_FMT(r->conditions));
        for (size_t i = 0; i < r->recipient_count; i++)
            buf_addf(&got, "%.*s;", SPAN_FMT(r->recipients[i]));
        buf_add_char(&got, '\n');
    }
    buf_add_char(&got, '\n');
    if (strcmp(got.data, want) != 0)
        fail_msg("%s: got:\n%swant:\n%s", name, got.data, want);
    assert_int_equal(routes_count(routes), count);
    buf_release(&got);
}

static void test_rules(void **state)
{
    (void)state;
    expect_rules("nothing", span_empty(), "\n");
    expect_rules("comments", SPAN_LIT("# a\n\n \t\r\n  #x -> y\n"), "\n");
    expect_rules("no end of the last line", SPAN_LIT("offer=a -> off"), "1:offer=a->\n\n");
    expect_rules("blanks anywhere", SPAN_LIT("\t country =  DE ,AT\taction=DNC->a@b ,\tN <c@d>\r\n"),
                 "1:country =  DE ,AT\taction=DNC->a@b;c@d;\n\n");
    expect_rules("any case", SPAN_LIT("OFFER=a -> OFF\nTest=YES -> Off\nDEFAULT -> a@b\n"),
                 "1:OFFER=a->\n2:Test=YES->\n3:DEFAULT->a@b;\n\n");
    expect_rules("a blank that is none, and meant",
                 SPAN_LIT("campaign=\"a\xC2\xA0"
                          "b\" -> off\n"),
                 "1:campaign=\"a\xC2\xA0"
                 "b\"->\n\n");
    expect_rules("quotes", SPAN_LIT("offer=\"a, -> b=c\",d campaign=\"\" -> off\n"),
                 "1:offer=\"a, -> b=c\",d campaign=\"\"->\n\n");
    expect_rules("quotes behind the arrow", SPAN_LIT("offer=a -> \"Bob\" <b@c>\n"), "1:offer=a->b@c;\n\n");
    expect_rules("all conditions", SPAN_LIT("offer=a action=b country=c campaign=d test=no -> off\n"),
                 "1:offer=a action=b country=c campaign=d test=no->\n\n");
    assert_null(routes_default(routes));
    expect_rules("default", SPAN_LIT("default -> off\n"), "1:default->\n\n");
    assert_non_null(routes_default(routes));
    expect_rules("default as a value", SPAN_LIT("offer=default -> off\noffer=a -> off\n"),
                 "1:offer=default->\n2:offer=a->\n\n");
    assert_null(routes_default(routes));
}

/* --- which one a lead matches -------------------------------------------------------------------------------- */

struct said {
    const char *partition, *title, *action, *country, *campaign;
    bool is_test;
};

/* The line of the rule, or 0. */
static size_t line_for(const struct said *said)
{
    struct lead lead = {
        .offer_title = span_of(said->title),
        .action = span_of(said->action),
        .customer = {.country = span_of(said->country)},
        .campaign = span_of(said->campaign),
        .is_test = said->is_test,
    };
    (void)snprintf(lead.partition, sizeof lead.partition, "%s",
                   said->partition ? said->partition : "unknown");
    const struct route *route = routes_find(routes, &lead);
    return route ? route->line : 0;
}

static const char FILE_OF_ALL[] = "test=yes campaign=qa -> qa@contoso.example\n"                  /* 1 */
                                  "offer=contoso.* action=DNC -> off\n"                           /* 2 */
                                  "offer=\"Büro, groß\" -> office@contoso.example\n"              /* 3 */
                                  "country=DE,AT,\"United States\" -> dach@contoso.example\n"     /* 4 */
                                  "campaign=*sale* action=INS,PLT -> spring@contoso.example\n"    /* 5 */
                                  "country=\"\" offer=fabrikam.app -> nowhere@contoso.example\n"; /* 6 */

static void test_first_match(void **state)
{
    static const struct {
        const char *name;
        struct said said;
        size_t want;
    } cases[] = {
        {"nothing said", {0}, 0},
        {"both conditions", {.partition = "contoso.app", .action = "DNC"}, 2},
        {"the first of two that match", {.partition = "contoso.app", .action = "DNC", .country = "DE"}, 2},
        {"one condition of two", {.partition = "contoso.app", .action = "INS"}, 0},
        {"the other one", {.partition = "fabrikam.app", .action = "DNC", .country = "US"}, 0},
        {"in another case", {.partition = "CONTOSO.App", .action = "dnc"}, 2},
        {"by title", {.partition = "x.y", .title = "Büro, groß"}, 3},
        {"by title, with blanks at its ends", {.partition = "x.y", .title = " \tbüro, groß\r\n"}, 3},
        {"other letters have case", {.partition = "x.y", .title = "BÜRO, groß"}, 0},
        {"part of a title", {.partition = "x.y", .title = "Büro, groß und klein"}, 0},
        {"any value", {.country = "at"}, 4},
        {"a value with a blank", {.country = " united states "}, 4},
        {"no value", {.country = "CH"}, 0},
        {"part of a value", {.country = "D"}, 0},
        {"more than a value", {.country = "DEU"}, 0},
        {"a pattern", {.campaign = "Spring Sale 7", .action = "PLT"}, 5},
        {"a pattern for the whole", {.campaign = "SALE", .action = "INS"}, 5},
        {"no pattern", {.campaign = "sal", .action = "INS"}, 0},
        {"nothing said where that is asked", {.partition = "fabrikam.app"}, 6},
        {"blanks are nothing", {.partition = "fabrikam.app", .country = " "}, 6},
        {"something said", {.partition = "fabrikam.app", .country = "US"}, 0},
        {"a test", {.campaign = "QA", .is_test = true}, 1},
        {"no test", {.campaign = "QA"}, 0},
        {"a test as any other", {.country = "DE", .is_test = true}, 4},
    };
    (void)state;
    expect_ok("the file", span_of(FILE_OF_ALL));
    for (size_t i = 0; i < COUNT(cases); i++) {
        size_t got = line_for(&cases[i].said);
        if (got != cases[i].want)
            fail_msg("%s: got line %zu, want %zu", cases[i].name, got, cases[i].want);
    }
    expect_ok("no tests", SPAN_LIT("test=no -> off\ntest=yes,no -> off\n"));
    assert_int_equal(line_for(&(struct said){.is_test = false}), 1);
    assert_int_equal(line_for(&(struct said){.is_test = true}), 2);
    expect_ok("default", SPAN_LIT("offer=a -> off\ndefault -> off\n"));
    assert_int_equal(line_for(&(struct said){.partition = "a"}), 1);
    assert_int_equal(line_for(&(struct said){.partition = "b"}), 2);
    expect_ok("no rule", span_empty());
    assert_int_equal(line_for(&(struct said){.partition = "a"}), 0);
}

static void test_patterns(void **state)
{
    static const struct {
        const char *pattern, *text;
        bool matches;
    } cases[] = {
        {"*", "", true},
        {"*", "a", true},
        {"**", "ab", true},
        {"a*", "a", true},
        {"a*", "abc", true},
        {"a*", "ba", false},
        {"*a", "a", true},
        {"*a", "cba", true},
        {"*a", "ab", false},
        {"a*c", "ac", true},
        {"a*c", "abcbc", true},
        {"a*c", "abcb", false},
        {"*b*", "abc", true},
        {"*b*", "ac", false},
        {"a*b*c", "axxbyyc", true},
        {"a*b*c", "axxcyyb", false},
        {"*ab*ab", "abab", true},
        {"*ab*ab", "ab", false},
        {"*aab", "aaab", true},
        {"a?c", "abc", false},
        {"a.c", "abc", false},
        {"[a]", "a", false},
        {"a*", "A", true},
        {"*.APP", "contoso.app", true},
        {"a**b", "ab", true},
        {"a*", "", false},
        {"\"\"", "", true},
        {"\"*\"", "", true},
        {"\\*", "\\x", true},
        {"a\\b", "a\\b", true},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct buf text = BUF_INIT(256);
        buf_addf(&text, "campaign=%s -> off\n", cases[i].pattern);
        expect_ok(cases[i].pattern, buf_span(&text));
        bool got = line_for(&(struct said){.campaign = cases[i].text}) == 1;
        if (got != cases[i].matches)
            fail_msg("'%s' and '%s'", cases[i].pattern, cases[i].text);
        buf_release(&text);
    }
}

/* --- limits -------------------------------------------------------------------------------------------------- */

static void add_times(struct buf *text, const char *part, size_t times)
{
    for (size_t i = 0; i < times; i++)
        buf_add_text(text, part);
}

enum { ROOM = 256 * 1024 };

static void test_limits(void **state)
{
    struct buf text = BUF_INIT(ROOM);
    (void)state;
    add_times(&text, "offer=a -> off\n", LIMIT_ROUTES);
    expect_ok("as many rules as may be", buf_span(&text));
    assert_int_equal(routes_count(routes), LIMIT_ROUTES);
    buf_add_text(&text, "offer=b -> off\n");
    expect_mistakes("a rule more", buf_span(&text), "F:257: more than 256 rules\n");

    buf_reset(&text);
    add_times(&text, "country=a", 1);
    add_times(&text, ",b", LIMIT_ROUTE_VALUES - 1);
    buf_add_text(&text, " -> off\n");
    expect_ok("as many values as may be", buf_span(&text));
    assert_int_equal(line_for(&(struct said){.country = "b"}), 1);
    buf_reset(&text);
    add_times(&text, "country=a", 1);
    add_times(&text, ",b", LIMIT_ROUTE_VALUES);
    buf_add_text(&text, " -> off\n");
    expect_mistakes("a value more", buf_span(&text), "F:1: 'country' has more than 64 values\n");

    for (size_t more = 0; more < 2; more++) {
        buf_reset(&text);
        buf_add_text(&text, "campaign=");
        add_times(&text, "c", LIMIT_ROUTE_VALUE_BYTES + more);
        buf_add_text(&text, " -> off\n");
        if (more)
            expect_mistakes("a byte more", buf_span(&text), "F:1: a value has more than 255 bytes\n");
        else
            expect_ok("as long as may be", buf_span(&text));
    }

    buf_reset(&text);
    buf_add_text(&text, "default -> x@b");
    for (int i = 1; i < (int)LIMIT_RECIPIENTS; i++)
        buf_addf(&text, ",a%d@b", i);
    expect_ok("as many recipients as may be", buf_span(&text));
    assert_int_equal(routes_first(routes)->recipient_count, LIMIT_RECIPIENTS);
    buf_add_text(&text, ",y@b");
    expect_mistakes("a recipient more", buf_span(&text), "F:1: more than 16 recipients\n");
    buf_release(&text);
}

/* All limits at once: there is memory for that. */
static void test_full_file(void **state)
{
    struct buf text = BUF_INIT(LIMIT_ROUTES_FILE_BYTES);
    (void)state;
    for (size_t rule = 0; rule < LIMIT_ROUTES; rule++) {
        buf_add_text(&text, "country=a");
        add_times(&text, ",b", LIMIT_ROUTE_VALUES - 1);
        buf_add_text(&text, "->");
        for (char c = 'a'; c < 'a' + (int)LIMIT_RECIPIENTS; c++)
            buf_addf(&text, "%c@b%s", c, c - 'a' == (int)LIMIT_RECIPIENTS - 1 ? "\n" : ",");
    }
    assert_int_equal(text.error, ST_OK);
    buf_add_char(&text, '#');
    add_times(&text, "#", LIMIT_ROUTES_FILE_BYTES - text.len);
    expect_ok("a full file", buf_span(&text));
    assert_int_equal(routes_count(routes), LIMIT_ROUTES);
    assert_int_equal(line_for(&(struct said){.country = "b"}), 1);
    assert_int_equal(line_for(&(struct said){.country = "c"}), 0);
    buf_release(&text);
}

/* Of a long text the beginning is compared. */
static void test_long_text(void **state)
{
    char campaign[2 * LIMIT_ROUTE_VALUE_BYTES];
    (void)state;
    memset(campaign, 'c', sizeof campaign - 1);
    campaign[sizeof campaign - 1] = '\0';
    expect_ok("a pattern", SPAN_LIT("campaign=c*d -> off\ncampaign=c*c -> off\n"));
    campaign[LIMIT_ROUTE_VALUE_BYTES] = 'd';
    assert_int_equal(line_for(&(struct said){.campaign = campaign}), 2);
    campaign[LIMIT_ROUTE_VALUE_BYTES - 1] = 'd';
    assert_int_equal(line_for(&(struct said){.campaign = campaign}), 1);
}

/* --- the file ------------------------------------------------------------------------------------------------ */

static void write_file(const char *path, size_t bytes, mode_t mode)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs("default -> a@b\n#", file) >= 0);
    for (size_t i = 16; i < bytes; i++)
        assert_int_equal(fputc('x', file), 'x');
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void test_file(void **state)
{
    char folder[] = "/tmp/leadhook-routes-XXXXXX", path[64];
    struct fail why = {0};
    (void)state;
    assert_non_null(mkdtemp(folder));
    (void)snprintf(path, sizeof path, "%s/routes", folder);
    assert_int_equal(routes_read(path, &routes, &mistakes, &why), ST_NOT_FOUND);
    static const struct {
        size_t bytes;
        mode_t mode;
        enum status want;
        const char *says;
    } cases[] = {
        {16, 0600, ST_OK, NULL},
        {16, 0644, ST_OK, NULL},
        {16, 0664, ST_DENIED, "is not safe, others may write to it: it has mode 0664; run chmod go-w on it"},
        {16, 0646, ST_DENIED, "is not safe, others may write to it: it has mode 0646; run chmod go-w on it"},
        {LIMIT_ROUTES_FILE_BYTES, 0640, ST_OK, NULL},
        {LIMIT_ROUTES_FILE_BYTES + 1, 0640, ST_TOO_LARGE, "routes"},
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        routes_free(routes);
        routes = NULL;
        write_file(path, cases[i].bytes, cases[i].mode);
        assert_int_equal(routes_read(path, &routes, &mistakes, &why), cases[i].want);
        if (cases[i].says)
            assert_non_null(strstr(why.text, cases[i].says));
        else
            assert_non_null(routes_default(routes));
    }
    write_file(path, 16, 0644);
    assert_int_equal(chmod(folder, 0777), 0);
    assert_int_equal(routes_read(path, &routes, &mistakes, &why), ST_DENIED);
    assert_non_null(strstr(why.text, "is not safe, others may replace it: its folder"));
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(folder), 0);

    routes_free(routes);
    assert_int_equal(routes_read(NULL, &routes, &mistakes, &why), ST_OK);
    assert_null(routes_first(routes));
}

/* --- routes that are replaced -------------------------------------------------------------------------------- */

enum { READERS = 4, REPLACEMENTS = 2000 };

static struct routes *numbered(int number)
{
    struct buf text = BUF_INIT(256);
    struct routes *made = NULL;
    buf_addf(&text, "offer=other -> off\ndefault -> a%d@b, b%d@b\n", number, number);
    if (routes_parse(buf_span(&text), "F", &made, &mistakes, NULL) != ST_OK)
        abort();
    buf_release(&text);
    return made;
}

struct readers {
    struct route_book *book;
    _Atomic bool stop;
    _Atomic size_t wrong;
    _Atomic size_t found;
};

/* What was found stays as it is until it is given back. */
static void *read_all_the_time(void *context)
{
    struct readers *r = context;
    const struct lead lead = {.partition = "contoso.app"};
    while (!atomic_load(&r->stop)) {
        struct routes *held = route_book_hold(r->book);
        const struct route *route = routes_find(held, &lead);
        bool good = route && route->recipient_count == 2 &&
                    span_eq(span_from(route->recipients[0], 1), span_from(route->recipients[1], 1));
        atomic_fetch_add(&r->wrong, good ? 0 : 1);
        atomic_fetch_add(&r->found, 1);
        route_book_let_go(r->book, held);
    }
    return NULL;
}

static void test_replaced_under_load(void **state)
{
    struct readers readers = {0};
    pthread_t threads[READERS];
    (void)state;
    assert_int_equal(route_book_new(numbered(0), &readers.book, NULL), ST_OK);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, read_all_the_time, &readers), 0);
    for (int i = 1; i <= REPLACEMENTS; i++)
        route_book_replace(readers.book, numbered(i));
    while (atomic_load(&readers.found) < REPLACEMENTS)
        (void)sched_yield();
    atomic_store(&readers.stop, true);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_join(threads[i], NULL), 0);
    assert_int_equal(readers.wrong, 0);
    route_book_free(readers.book);
    route_book_free(NULL);
}

/* Who holds the old ones goes on with them. */
static void test_held_while_replaced(void **state)
{
    struct route_book *book = NULL;
    const struct lead lead = {.partition = "contoso.app"};
    (void)state;
    assert_int_equal(route_book_new(numbered(1), &book, NULL), ST_OK);
    struct routes *held = route_book_hold(book);
    route_book_replace(book, numbered(2));
    struct routes *fresh = route_book_hold(book);
    assert_true(span_eq(routes_find(held, &lead)->recipients[0], SPAN_LIT("a1@b")));
    assert_true(span_eq(routes_find(fresh, &lead)->recipients[0], SPAN_LIT("a2@b")));
    route_book_let_go(book, held);
    route_book_let_go(book, fresh);
    route_book_free(book);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_mistakes, tear_down),
        cmocka_unit_test_teardown(test_rules, tear_down),
        cmocka_unit_test_teardown(test_first_match, tear_down),
        cmocka_unit_test_teardown(test_patterns, tear_down),
        cmocka_unit_test_teardown(test_limits, tear_down),
        cmocka_unit_test_teardown(test_full_file, tear_down),
        cmocka_unit_test_teardown(test_long_text, tear_down),
        cmocka_unit_test_teardown(test_file, tear_down),
        cmocka_unit_test_teardown(test_replaced_under_load, tear_down),
        cmocka_unit_test_teardown(test_held_while_replaced, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
