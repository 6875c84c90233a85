/* Which lead of a file is which lead of the table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#include "handler/ctl/reconcile/match.h"
#include "lib/base/clock.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])
#define HOUR_MS      (60 * 60 * 1000LL)

enum { LEADS_MAX = 16 };

static uint64_t hash(const char *text)
{
    return text && text[0] ? (uint64_t)text[0] * 256 + (uint64_t)text[1] : 0;
}

/* A lead of one side, in words: hours since the beginning, and one-letter names. */
struct word {
    const char *person, *title, *offer;
    double hour, last_hour; /* 0: the same */
    int deliveries;         /* 0: 1 */
    bool is_day, is_imported;
    const char *content;
    unsigned char name; /* a value of MATCH_NAME; 0: blank */
};

#define AT(who, what, which, when, ...)                                                                      \
    {                                                                                                        \
        .person = (who), .title = (what), .offer = (which), .hour = (when), __VA_ARGS__                      \
    }

static int64_t ms_of(double hours)
{
    return 1700000000000 + (int64_t)(hours * (double)HOUR_MS);
}

static struct match_file_lead file_lead(const struct word *w, uint32_t number)
{
    struct match_file_lead lead = {
        .number = number,
        .line = number + 2,
        .key = {MATCH_BY_EMAIL, hash(w->person)},
        .traits = {.title = hash(w->title), .offer = hash(w->offer)},
        .ms = ms_of(w->hour),
        .width_ms = w->is_day ? CLOCK_DAY_MS : 0,
    };
    lead.traits.fields[MATCH_NAME] = w->name;
    (void)snprintf((char *)lead.content, sizeof lead.content, "f%s%u", w->content ? w->content : "",
                   w->content ? 0 : number);
    return lead;
}

static struct match_table_lead table_lead(const struct word *w, uint32_t number)
{
    struct match_table_lead lead = {
        .key = {MATCH_BY_EMAIL, hash(w->person)},
        .traits = {.title = hash(w->title), .offer = hash(w->offer)},
        .first_ms = ms_of(w->hour),
        .last_ms = ms_of(w->last_hour > 0 ? w->last_hour : w->hour),
        .deliveries = w->deliveries ? (uint32_t)w->deliveries : 1,
        .is_imported = w->is_imported,
        .offer = number, /* so that it is known again behind the sorting */
    };
    lead.traits.fields[MATCH_NAME] = w->name;
    (void)snprintf((char *)lead.content, sizeof lead.content, "%s%s%u", w->is_imported ? "f" : "t",
                   w->content ? w->content : "", w->content ? 0 : number);
    return lead;
}

/* What became of each of the file's leads, in its order: the number of its partner ("2"), with "!" where a field
 * differs; "nobody", "offer", "time" or "taken" for why it is missing; "again" for a duplicate. */
static void outcome(const struct word *file, size_t file_count, const struct word *table, size_t table_count,
                    double tolerance_hours, char text[256])
{
    static const char *const near[] = {
        [MATCH_NOBODY] = "nobody",
        [MATCH_OTHER_OFFER] = "offer",
        [MATCH_OTHER_TIME] = "time",
        [MATCH_TAKEN] = "taken",
    };
    struct match_file_lead f[LEADS_MAX];
    struct match_table_lead t[LEADS_MAX];
    struct fail why;
    char words[LEADS_MAX][16];
    for (size_t i = 0; i < file_count; i++)
        f[i] = file_lead(&file[i], (uint32_t)i);
    for (size_t i = 0; i < table_count; i++)
        t[i] = table_lead(&table[i], (uint32_t)i);
    assert_int_equal(
        match_run(f, file_count, t, table_count, (int64_t)(tolerance_hours * (double)HOUR_MS), &why), ST_OK);
    for (size_t i = 0; i < file_count; i++) {
        const struct match_file_lead *lead = &f[i];
        char *word = words[lead->number];
        assert_int_equal(lead->partner == MATCH_NO_PARTNER, lead->state != MATCH_AGREES);
        if (lead->state == MATCH_AGREES)
            (void)snprintf(word, sizeof words[0], "%u%s", t[lead->partner].offer, lead->differs ? "!" : "");
        else
            (void)snprintf(word, sizeof words[0], "%s",
                           lead->state == MATCH_DUPLICATE ? "again"
                           : lead->state == MATCH_MISSING ? near[lead->near]
                                                          : "?");
    }
    text[0] = '\0';
    for (size_t i = 0; i < file_count; i++) {
        size_t used = strlen(text);
        (void)snprintf(text + used, 256 - used, "%s%s", i ? " " : "", words[i]);
    }
}

static void test_pairs(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        struct word file[4], table[4];
        double tolerance_hours;
        const char *want;
    } rows[] = {
        {"the same", {AT("a", "T", "o", 1)}, {AT("a", "T", "o", 1)}, 1, "0"},
        {"nobody", {AT("a", "T", "o", 1)}, {AT("b", "T", "o", 1)}, 1, "nobody"},
        {"an empty table", {AT("a", "T", "o", 1)}, {{.person = NULL}}, 1, "nobody"},
        {"another offer", {AT("a", "T", "o", 1)}, {AT("a", "U", "p", 1)}, 1, "offer"},
        {"the id is the same", {AT("a", "T", "o", 1)}, {AT("a", "U", "o", 1)}, 1, "0"},
        {"the title is the same", {AT("a", "T", "o", 1)}, {AT("a", "T", "p", 1)}, 1, "0"},
        {"one knows the id only", {AT("a", NULL, "o", 1)}, {AT("a", "T", NULL, 1)}, 1, "0"},
        {"titles differ, ids are not there", {AT("a", "T", NULL, 1)}, {AT("a", "U", NULL, 1)}, 1, "offer"},
        {"no offer in the file", {AT("a", NULL, NULL, 1)}, {AT("a", "T", "o", 1)}, 1, "0"},
        {"as far as the tolerance", {AT("a", "T", "o", 5)}, {AT("a", "T", "o", 6)}, 1, "0"},
        {"further than the tolerance", {AT("a", "T", "o", 5)}, {AT("a", "T", "o", 6.01)}, 1, "time"},
        {"later by the tolerance", {AT("a", "T", "o", 6)}, {AT("a", "T", "o", 5)}, 1, "0"},
        {"later than the tolerance", {AT("a", "T", "o", 6.01)}, {AT("a", "T", "o", 5)}, 1, "time"},
        {"between first and last", {AT("a", "T", "o", 50)}, {AT("a", "T", "o", 1, .last_hour = 99)}, 1, "0"},
        {"a day reaches to its end",
         {AT("a", "T", "o", 0, .is_day = true)},
         {AT("a", "T", "o", 24.9)},
         1,
         "0"},
        {"and no further", {AT("a", "T", "o", 0, .is_day = true)}, {AT("a", "T", "o", 25.1)}, 1, "time"},
        {"two for one", {AT("a", "T", "o", 1), AT("a", "T", "o", 1.1)}, {AT("a", "T", "o", 1)}, 1, "0 taken"},
        {"a repeated row has room for two",
         {AT("a", "T", "o", 1), AT("a", "T", "o", 9), AT("a", "T", "o", 9)},
         {AT("a", "T", "o", 1, .last_hour = 9, .deliveries = 2)},
         1,
         "0 0 taken"},
        {"in order of time, whatever the order in the table",
         {AT("a", "T", "o", 10), AT("a", "T", "o", 11)},
         {AT("a", "T", "o", 11), AT("a", "T", "o", 10)},
         24,
         "1 0"},
        {"as many as can be: the nearest is not always right",
         {AT("a", "T", "o", 10), AT("a", "T", "o", 20)},
         {AT("a", "T", "o", 25), AT("a", "T", "o", 15)},
         6,
         "1 0"},
        {"the other offer does not take its place",
         {AT("a", "T", "o", 10), AT("a", "U", "p", 10)},
         {AT("a", "U", "p", 10), AT("a", "T", "o", 10)},
         1,
         "1 0"},
        {"twice in the file",
         {AT("a", "T", "o", 1, .content = "x"), AT("a", "T", "o", 1, .content = "x")},
         {AT("a", "T", "o", 1)},
         1,
         "0 again"},
        {"what was imported is known again, also at another time",
         {AT("a", "T", "o", 1, .content = "x")},
         {AT("a", "U", "p", 99, .is_imported = true, .content = "x")},
         1,
         "0"},
        {"and is nobody else's",
         {AT("a", "T", "o", 1), AT("a", "T", "o", 1, .content = "x")},
         {AT("a", "T", "o", 1, .is_imported = true, .content = "x")},
         1,
         "taken 0"},
        {"a field differs", {AT("a", "T", "o", 1, .name = 1)}, {AT("a", "T", "o", 1, .name = 2)}, 1, "0!"},
        {"a blank does not", {AT("a", "T", "o", 1, .name = 1)}, {AT("a", "T", "o", 1)}, 1, "0"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char got[256];
        size_t file_count = 0, table_count = 0;
        while (file_count < 4 && rows[i].file[file_count].person)
            file_count++;
        while (table_count < 4 && rows[i].table[table_count].person)
            table_count++;
        outcome(rows[i].file, file_count, rows[i].table, table_count, rows[i].tolerance_hours, got);
        if (strcmp(got, rows[i].want) != 0)
            fail_msg("%s: got '%s', want '%s'", rows[i].name, got, rows[i].want);
    }
}

/* What the caller has set aside stays so, and takes nobody's place. */
static void test_set_aside(void **state)
{
    (void)state;
    static const struct word same = AT("a", "T", "o", 1);
    struct match_file_lead file[] = {file_lead(&same, 0), file_lead(&same, 1), file_lead(&same, 2),
                                     file_lead(&same, 3)};
    struct match_table_lead table[] = {table_lead(&same, 0)};
    struct fail why;
    file[0].state = MATCH_UNREADABLE;
    file[1].state = MATCH_WITHHELD;
    file[2].state = MATCH_OTHER_KIND;
    match_sort_file(file, COUNT(file));
    assert_true(match_has_key(file, COUNT(file), file[0].key));
    assert_int_equal(match_run(file, COUNT(file), table, 1, HOUR_MS, &why), ST_OK);
    for (size_t i = 0; i < COUNT(file); i++)
        assert_int_equal(file[i].state == MATCH_AGREES, file[i].number == 3);
    assert_int_equal(table[0].partners, 1);
    assert_int_equal(match_run(file, 0, table, 0, HOUR_MS, &why), ST_OK);
}

static void test_has_key(void **state)
{
    (void)state;
    struct match_file_lead leads[7];
    for (uint32_t i = 0; i < COUNT(leads); i++) {
        const struct word w = AT("a", "T", "o", 1);
        leads[i] = file_lead(&w, i);
        leads[i].key = (struct match_key){i % 2 ? MATCH_BY_COMPANY : MATCH_BY_EMAIL, 100 - i};
    }
    leads[6].state = MATCH_UNREADABLE;
    match_sort_file(leads, COUNT(leads));
    for (uint32_t i = 0; i < COUNT(leads); i++) {
        enum match_person kind = i % 2 ? MATCH_BY_COMPANY : MATCH_BY_EMAIL;
        enum match_person other = i % 2 ? MATCH_BY_EMAIL : MATCH_BY_COMPANY;
        assert_int_equal(match_has_key(leads, COUNT(leads), (struct match_key){kind, 100 - i}), i != 6);
        assert_false(match_has_key(leads, COUNT(leads), (struct match_key){other, 100 - i}));
    }
    assert_false(match_has_key(leads, COUNT(leads), (struct match_key){MATCH_BY_EMAIL, 1}));
    assert_false(match_has_key(leads, COUNT(leads), (struct match_key){MATCH_BY_NOTHING, 0}));
    assert_false(match_has_key(leads, 0, (struct match_key){MATCH_BY_EMAIL, 100}));
}

/* --- what is compared ----------------------------------------------------------------------------------------- */

#define LEAD(...)                                                                                            \
    ((struct lead){.partition = "c.w", .contact = "00112233445566778899aabbccddeeff", __VA_ARGS__})

/* Which fields differ, as match_run sees it. */
static unsigned int differences(const struct lead *a, const struct lead *b)
{
    struct match_traits x, y;
    unsigned int differs = 0;
    match_traits_of(a, &x);
    match_traits_of(b, &y);
    for (unsigned int i = 0; i < MATCH_FIELDS; i++)
        differs |= x.fields[i] && y.fields[i] && x.fields[i] != y.fields[i] ? 1u << i : 0;
    return differs;
}

static void test_fields(void **state)
{
    (void)state;
#define SAME(field, one, other)                                                                              \
    {                                                                                                        \
#field, LEAD(.field = {one, sizeof one - 1}), LEAD(.field = {other, sizeof other - 1}), 0            \
    }
#define DIFFERENT(number, field, one, other)                                                                 \
    {                                                                                                        \
#field, LEAD(.field = {one, sizeof one - 1}), LEAD(.field = {other, sizeof other - 1}),              \
            1u << (number)                                                                                   \
    }
    const struct {
        const char *name;
        struct lead a, b;
        unsigned int want;
    } rows[] = {
        SAME(customer.company, "Contoso  Ltd ", " contoso\tLTD"),
        SAME(customer.company, "Contoso", ""),
        DIFFERENT(MATCH_COMPANY, customer.company, "Contoso", "Con toso"),
        DIFFERENT(MATCH_COMPANY, customer.company, "\xC3\x84rzte", "\xC3\xA4rzte"),
        SAME(customer.phone, "+49 (30) 123-45 67", "030 1234567"),
        SAME(customer.phone, "n/a", "123"),
        DIFFERENT(MATCH_PHONE, customer.phone, "030 1234567", "030 1234568"),
        SAME(customer.country, "US", "us"),
        SAME(customer.country, "US", "United States"),
        DIFFERENT(MATCH_COUNTRY, customer.country, "US", "DE"),
        DIFFERENT(MATCH_TITLE, customer.title, "CTO", "CEO"),
        SAME(action, "Create", "INS"),
        DIFFERENT(MATCH_ACTION, action, "PLT", "INS"),
        DIFFERENT(MATCH_SOURCE, source, "AppSource", "AzurePortal"),
        DIFFERENT(MATCH_NAME, customer.last_name, "Alba", "Berg"),
        SAME(description, "one", "another"),
        SAME(customer.email, "a@example.com", "b@example.com"),
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        unsigned int got = differences(&rows[i].a, &rows[i].b);
        if (got != rows[i].want)
            fail_msg("%zu, %s: got %u, want %u", i, rows[i].name, got, rows[i].want);
    }
    struct lead split =
        LEAD(.customer.first_name = SPAN_LIT("Ana Maria"), .customer.last_name = SPAN_LIT("Alba"));
    struct lead other =
        LEAD(.customer.first_name = SPAN_LIT("Ana"), .customer.last_name = SPAN_LIT("Maria Alba"));
    assert_int_equal(differences(&split, &other), 0);
    for (enum match_field field = 0; field < MATCH_FIELDS; field++)
        assert_true(match_field_name(field)[0]);
}

static void test_keys(void **state)
{
    (void)state;
    const struct span email = SPAN_LIT("a@example.com"), company = SPAN_LIT("Contoso");
    struct lead full = LEAD(.customer = {.email = email, .company = company, .last_name = SPAN_LIT("Alba")});
    struct lead nameless = LEAD(.customer = {.company = company});
    struct lead person = LEAD(.customer = {.last_name = SPAN_LIT("ALBA ")});
    struct lead nobody = LEAD(.customer = {.country = SPAN_LIT("US")});
    struct match_key keys[MATCH_BY_NOTHING], found = match_key_of(&full);
    match_keys_of(&full, keys);
    assert_true(found.kind == MATCH_BY_EMAIL && found.hash == keys[MATCH_BY_EMAIL].hash && found.hash);
    found = match_key_of(&nameless);
    assert_true(found.kind == MATCH_BY_COMPANY && found.hash == keys[MATCH_BY_COMPANY].hash);
    found = match_key_of(&person);
    assert_true(found.kind == MATCH_BY_NAME && found.hash == keys[MATCH_BY_NAME].hash);
    assert_int_equal(match_key_of(&nobody).kind, MATCH_BY_NOTHING);
}

static void test_offers(void **state)
{
    (void)state;
    struct match_traits a, b;
    struct lead by_id = LEAD(.offer_id = SPAN_LIT("Widget"), .offer_title = SPAN_LIT("The Widget"));
    struct lead by_product = LEAD(.product_id = SPAN_LIT("widget"), .offer_title = SPAN_LIT("the  widget"));
    struct lead unknown = {.partition = "unknown"};
    match_traits_of(&by_id, &a);
    match_traits_of(&by_product, &b);
    assert_true(a.offer && a.offer == b.offer && a.title && a.title == b.title);
    assert_true(a.partition && a.partition == b.partition);
    match_traits_of(&unknown, &a);
    assert_true(!a.partition && !a.offer && !a.title);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pairs),  cmocka_unit_test(test_set_aside), cmocka_unit_test(test_has_key),
        cmocka_unit_test(test_fields), cmocka_unit_test(test_keys),      cmocka_unit_test(test_offers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
