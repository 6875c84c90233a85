/* Within the leads of one person, the file's are taken in the order of time and each gets, of the table's leads that
 * are near enough, the one whose time ends first: for points and intervals that finds as many pairs as there can be
 * (Glover 1967), and needs no search.
 */
#include "handler/ctl/reconcile/match.h"

/* System */
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/encode.h"
#include "lib/base/text.h"

enum { TEXT_BYTES = 512, PHONE_DIGITS = 9 };

const char *match_field_name(enum match_field field)
{
    static const char *const names[MATCH_FIELDS] = {"name",  "phone",  "country", "company",
                                                    "title", "source", "action"};
    return names[field];
}

/* --- hashes --------------------------------------------------------------------------------------------------- */

/* Appends a text without what makes no difference: the case of ASCII letters, blanks at its ends and in a row. */
static void add_plain(struct buf *out, struct span text)
{
    text = span_trim(text);
    bool was_blank = false;
    for (size_t i = 0; i < text.len; i++) {
        char c = char_lower(text.ptr[i]);
        bool is_blank = c == ' ' || c == '\t' || c == '\r' || c == '\n';
        if (!is_blank || !was_blank)
            buf_add_char(out, is_blank ? ' ' : c);
        was_blank = is_blank;
    }
}

/* 0: blank. */
static uint64_t hash_of(const char *plain)
{
    return plain[0] ? text_hash(TEXT_HASH_BEGIN, plain) | 1 : 0;
}

/* Of a longer text the beginning counts. */
static uint64_t hash_text(struct span text)
{
    char memory[TEXT_BYTES] = "";
    struct buf plain = BUF_FIXED(memory);
    add_plain(&plain, span_cut(text, 0, TEXT_BYTES - 1));
    return hash_of(memory);
}

static uint64_t hash_name(const struct customer *c)
{
    char memory[TEXT_BYTES] = "";
    struct buf plain = BUF_FIXED(memory);
    add_plain(&plain, span_cut(c->first_name, 0, TEXT_BYTES / 2 - 1));
    if (plain.len && span_trim(c->last_name).len)
        buf_add_char(&plain, ' ');
    add_plain(&plain, span_cut(c->last_name, 0, TEXT_BYTES / 2 - 1));
    return hash_of(memory);
}

static uint64_t hash_phone(struct span phone)
{
    char digits[PHONE_DIGITS + 1] = "";
    size_t count = 0;
    for (size_t i = phone.len; i > 0 && count < PHONE_DIGITS; i--) {
        if (phone.ptr[i - 1] >= '0' && phone.ptr[i - 1] <= '9')
            digits[count++] = phone.ptr[i - 1];
    }
    return hash_of(digits);
}

static uint64_t hash_country(struct span country)
{
    country = span_trim(country);
    return country.len == 2 ? hash_text(country) : 0;
}

static uint64_t hash_action(struct span action)
{
    return hash_text(span_eq_nocase(action, SPAN_LIT("Create")) ? SPAN_LIT("INS") : action);
}

static uint32_t folded(uint64_t hash)
{
    return (uint32_t)(hash >> 32) | (uint32_t)(hash & 1);
}

void match_traits_of(const struct lead *lead, struct match_traits *traits)
{
    const struct customer *c = &lead->customer;
    bool has_offer = strcmp(lead->partition, "unknown") != 0;
    struct span offer = lead->offer_id.len ? lead->offer_id : span_trim(lead->product_id);
    *traits = (struct match_traits){
        .partition = has_offer ? hash_text(span_of(lead->partition)) : 0,
        .title = hash_text(lead->offer_title),
        .offer = hash_text(offer),
        .fields =
            {
                [MATCH_NAME] = folded(hash_name(c)),
                [MATCH_PHONE] = folded(hash_phone(c->phone)),
                [MATCH_COUNTRY] = folded(hash_country(c->country)),
                [MATCH_COMPANY] = folded(hash_text(c->company)),
                [MATCH_TITLE] = folded(hash_text(c->title)),
                [MATCH_SOURCE] = folded(hash_text(lead->source)),
                [MATCH_ACTION] = folded(hash_action(lead->action)),
            },
    };
}

/* --- persons -------------------------------------------------------------------------------------------------- */

void match_keys_of(const struct lead *lead, struct match_key keys[MATCH_BY_NOTHING])
{
    unsigned char contact[sizeof(uint64_t)];
    uint64_t email = 0;
    if (span_trim(lead->customer.email).len &&
        hex_read(span_cut(span_of(lead->contact), 0, 2 * sizeof contact), contact, sizeof contact))
        memcpy(&email, contact, sizeof email);
    const uint64_t hashes[MATCH_BY_NOTHING] = {
        [MATCH_BY_EMAIL] = email,
        [MATCH_BY_COMPANY] = hash_text(lead->customer.company),
        [MATCH_BY_NAME] = hash_name(&lead->customer),
    };
    for (enum match_person kind = 0; kind < MATCH_BY_NOTHING; kind++)
        keys[kind] = (struct match_key){hashes[kind] ? kind : MATCH_BY_NOTHING, hashes[kind]};
}

struct match_key match_key_of(const struct lead *lead)
{
    struct match_key keys[MATCH_BY_NOTHING];
    enum match_person kind = 0;
    match_keys_of(lead, keys);
    while (kind < MATCH_BY_NAME && keys[kind].kind == MATCH_BY_NOTHING)
        kind++;
    return keys[kind];
}

static int compare_numbers(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int compare_times(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int compare_keys(struct match_key a, struct match_key b)
{
    return a.kind != b.kind ? compare_numbers(a.kind, b.kind) : compare_numbers(a.hash, b.hash);
}

/* Those that are not compared come last. */
static bool is_out(const struct match_file_lead *lead)
{
    return lead->state != MATCH_OPEN;
}

static int compare_file_leads(const void *a, const void *b)
{
    const struct match_file_lead *x = a, *y = b;
    int order = (int)is_out(x) - (int)is_out(y);
    if (order == 0)
        order = compare_keys(x->key, y->key);
    if (order == 0)
        order = compare_times(x->ms, y->ms);
    return order ? order : compare_numbers(x->number, y->number);
}

static int compare_table_leads(const void *a, const void *b)
{
    const struct match_table_lead *x = a, *y = b;
    int order = compare_keys(x->key, y->key);
    if (order == 0)
        order = compare_times(x->last_ms, y->last_ms);
    return order ? order : memcmp(x->content, y->content, sizeof x->content);
}

void match_sort_file(struct match_file_lead *leads, size_t count)
{
    if (count)
        qsort(leads, count, sizeof *leads, compare_file_leads);
}

bool match_has_key(const struct match_file_lead *leads, size_t count, struct match_key key)
{
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (!is_out(&leads[middle]) && compare_keys(leads[middle].key, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low < count && !is_out(&leads[low]) && compare_keys(leads[low].key, key) == 0;
}

/* --- duplicates ----------------------------------------------------------------------------------------------- */

static int compare_contents(const void *a, const void *b)
{
    const struct match_file_lead *const *x = a, *const *y = b;
    int order = memcmp((*x)->content, (*y)->content, sizeof(*x)->content);
    return order ? order : compare_numbers((*x)->number, (*y)->number);
}

/* The first one in the file stays. */
static enum status mark_duplicates(struct match_file_lead *leads, size_t count, struct fail *why)
{
    const struct match_file_lead *before = NULL;
    struct match_file_lead **order = calloc(count ? count : 1, sizeof(struct match_file_lead *));
    if (!order)
        return fail_set(why, ST_NOMEM, 0, "no memory to compare so many leads");
    for (size_t i = 0; i < count; i++)
        order[i] = &leads[i];
    qsort(order, count, sizeof(struct match_file_lead *), compare_contents);
    for (size_t i = 0; i < count; i++) {
        if (is_out(order[i]))
            continue;
        if (before && memcmp(before->content, order[i]->content, sizeof before->content) == 0)
            order[i]->state = MATCH_DUPLICATE;
        else
            before = order[i];
    }
    free(order);
    return ST_OK;
}

/* --- pairs ---------------------------------------------------------------------------------------------------- */

/* The leads of one person on both sides. */
struct group {
    struct match_file_lead *file;
    size_t file_count;
    struct match_table_lead *table;
    size_t table_count;
    uint32_t table_begin; /* the index of table[0] */
    int64_t tolerance_ms;
};

static bool is_same_offer(const struct match_traits *a, const struct match_traits *b)
{
    bool both_id = a->offer && b->offer, both_title = a->title && b->title;
    if ((a->partition && a->partition == b->partition) || (both_id && a->offer == b->offer) ||
        (both_title && a->title == b->title))
        return true;
    return !both_id && !both_title;
}

static bool is_near(const struct group *g, const struct match_file_lead *f, const struct match_table_lead *t)
{
    return f->ms <= t->last_ms + g->tolerance_ms && f->ms + f->width_ms >= t->first_ms - g->tolerance_ms;
}

static bool is_taken(const struct match_table_lead *t)
{
    return t->partners >= t->deliveries;
}

static void pair(const struct group *g, struct match_file_lead *f, size_t at)
{
    struct match_table_lead *t = &g->table[at];
    f->state = MATCH_AGREES;
    f->partner = g->table_begin + (uint32_t)at;
    t->partners++;
    for (unsigned int i = 0; i < MATCH_FIELDS; i++) {
        uint32_t a = f->traits.fields[i], b = t->traits.fields[i];
        f->differs |= a && b && a != b ? 1u << i : 0;
    }
}

/* The row that an import made of it. */
static void find_imported(const struct group *g, struct match_file_lead *f)
{
    for (size_t i = 0; i < g->table_count && f->state == MATCH_OPEN; i++) {
        const struct match_table_lead *t = &g->table[i];
        if (t->is_imported && !is_taken(t) && memcmp(f->content, t->content, sizeof f->content) == 0)
            pair(g, f, i);
    }
}

static void find_partner(const struct group *g, struct match_file_lead *f, size_t *begin)
{
    /* Nothing later in the file can be near these, either. */
    while (*begin < g->table_count &&
           (is_taken(&g->table[*begin]) || g->table[*begin].last_ms + g->tolerance_ms < f->ms))
        (*begin)++;
    f->near = g->table_count ? MATCH_OTHER_OFFER : MATCH_NOBODY;
    for (size_t i = *begin; i < g->table_count; i++) {
        const struct match_table_lead *t = &g->table[i];
        if (!is_taken(t) && is_near(g, f, t) && is_same_offer(&f->traits, &t->traits)) {
            pair(g, f, i);
            return;
        }
    }
    f->state = MATCH_MISSING;
}

/* What of the person there is. */
static void explain(const struct group *g, struct match_file_lead *f)
{
    for (size_t i = 0; i < g->table_count && f->near != MATCH_TAKEN; i++) {
        const struct match_table_lead *t = &g->table[i];
        if (is_same_offer(&f->traits, &t->traits))
            f->near = is_near(g, f, t) ? MATCH_TAKEN : MATCH_OTHER_TIME;
    }
}

static void match_group(const struct group *g)
{
    size_t begin = 0;
    for (size_t i = 0; i < g->file_count; i++)
        find_imported(g, &g->file[i]);
    for (size_t i = 0; i < g->file_count; i++) {
        if (g->file[i].state == MATCH_OPEN)
            find_partner(g, &g->file[i], &begin);
    }
    for (size_t i = 0; i < g->file_count; i++) {
        if (g->file[i].state == MATCH_MISSING)
            explain(g, &g->file[i]);
    }
}

enum status match_run(struct match_file_lead *file, size_t file_count, struct match_table_lead *table,
                      size_t table_count, int64_t tolerance_ms, struct fail *why)
{
    enum status status = mark_duplicates(file, file_count, why);
    if (status != ST_OK)
        return status;
    match_sort_file(file, file_count);
    if (table_count)
        qsort(table, table_count, sizeof *table, compare_table_leads);
    size_t at = 0;
    for (size_t i = 0; i < file_count; i++)
        file[i].partner = MATCH_NO_PARTNER;
    for (size_t i = 0; i < table_count; i++)
        table[i].partners = 0;
    for (size_t i = 0; i < file_count && !is_out(&file[i]);) {
        struct match_key key = file[i].key;
        struct group g = {.file = &file[i], .tolerance_ms = tolerance_ms};
        while (i < file_count && !is_out(&file[i]) && compare_keys(file[i].key, key) == 0) {
            g.file_count++;
            i++;
        }
        while (at < table_count && compare_keys(table[at].key, key) < 0)
            at++;
        g.table = table + at;
        g.table_begin = (uint32_t)at;
        while (at < table_count && compare_keys(table[at].key, key) == 0) {
            g.table_count++;
            at++;
        }
        match_group(&g);
    }
    return ST_OK;
}
