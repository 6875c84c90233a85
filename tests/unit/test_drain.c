/* The drain, with a SQLite store in the place of the table, behind a front that
 * fails as the Table service can: before or behind the write, for one member, for a
 * partition, for all.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "lib/relay/drain.h"
#include "lib/store/quarantine.h"
#include "tests/unit/spooled.h"

enum { TRANSACTIONS_MAX = 2000 };

/* What happens to a transaction on the leads that the rule is about. */
struct rule {
    const char *partition; /* NULL: all */
    const char *id;        /* NULL, or a DeliveryId that one of its operations must have */
    enum status status;
    bool has_effect;
    bool says_which; /* *failed is the operation with the id */
    int retry_after_s;
    int times; /* 0: always */
};

struct fixture {
    struct store front; /* what the drain takes for the table */
    struct store *inner;
    struct place place;
    struct spool *spool; /* of the processes that put leads there */
    struct drain *drain;
    struct rule rules[4];
    size_t rule_count;
    enum status probe;                                    /* other than ST_OK: the table takes nothing */
    void (*between)(struct fixture *f);                   /* before each transaction on leads */
    size_t transactions, largest;                         /* on leads */
    char order[TRANSACTIONS_MAX][LEAD_DELIVERY_TEXT + 1]; /* of the leads inserted with effect */
    size_t order_count;
    uint64_t drained, lost;
    _Atomic bool stop;
    int opened, closed; /* the breaker, by the drain */
};

static struct span recipients[] = {{"sales@example.com", 17}, {"boss@example.com", 16}};
static const struct lead_rules lead_rules = {
    .repeat_window_ms = HOUR_MS, .recipients = recipients, .recipient_count = 2};

/* --- the front ----------------------------------------------------------------------------------------------- */

static size_t operation_with(const struct operation *operations, size_t count, const char *id)
{
    for (size_t i = 0; i < count; i++) {
        if (span_eq(entity_text(&operations[i].entity, COLUMN_DELIVERY_ID), span_of(id)) ||
            span_eq(entity_text(&operations[i].entity, COLUMN_LAST_DELIVERY_ID), span_of(id)))
            return i;
    }
    return NO_INDEX;
}

static struct rule *rule_for(struct fixture *f, const struct operation *operations, size_t count)
{
    for (size_t i = 0; i < f->rule_count; i++) {
        struct rule *rule = &f->rules[i];
        if (rule->times < 0 ||
            (rule->partition && !span_eq(operations[0].entity.partition_key, span_of(rule->partition))) ||
            (rule->id && operation_with(operations, count, rule->id) == NO_INDEX))
            continue;
        if (rule->times > 0 && --rule->times == 0)
            rule->times = -1;
        return rule;
    }
    return NULL;
}

static void note_order(struct fixture *f, const struct operation *operations, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct span id = entity_text(&operations[i].entity, COLUMN_DELIVERY_ID);
        if (operations[i].kind == OPERATION_INSERT && id.len && f->order_count < TRANSACTIONS_MAX)
            (void)snprintf(f->order[f->order_count++], sizeof f->order[0], "%.*s", SPAN_FMT(id));
    }
}

static enum status front_transact(struct store *store, enum table_id table,
                                  const struct operation *operations, size_t count, int64_t deadline_ms,
                                  size_t *failed, struct fail *why)
{
    struct fixture *f = (struct fixture *)store;
    bool is_probe = span_eq(operations[0].entity.partition_key, SPAN_LIT("probe"));
    if (f->probe != ST_OK)
        return fail_set(why, f->probe, 0, "the table takes nothing");
    if (table != TABLE_LEADS || is_probe)
        return store_transact(f->inner, table, operations, count, deadline_ms, failed, why);
    assert_true(count <= LIMIT_BATCH_OPERATIONS);
    for (size_t i = 1; i < count; i++)
        assert_true(span_eq(operations[i].entity.partition_key, operations[0].entity.partition_key));
    f->transactions++;
    f->largest = count > f->largest ? count : f->largest;
    if (f->between)
        f->between(f);
    struct rule *rule = rule_for(f, operations, count);
    if (!rule || rule->has_effect) {
        enum status status = store_transact(f->inner, table, operations, count, deadline_ms, failed, why);
        if (status == ST_OK)
            note_order(f, operations, count);
        if (!rule || status != ST_OK)
            return status;
    }
    if (rule->says_which)
        *failed = operation_with(operations, count, rule->id);
    (void)fail_set(why, rule->status, 0, "a fault of the test");
    if (why)
        why->retry_after_s = rule->retry_after_s;
    return rule->status;
}

static enum status front_get_many(struct store *store, enum table_id table, struct span partition_key,
                                  const struct span *row_keys, size_t count, const char *select,
                                  int64_t deadline_ms, struct arena *arena, struct entity **rows,
                                  struct fail *why)
{
    struct fixture *f = (struct fixture *)store;
    if (f->probe != ST_OK)
        return fail_set(why, f->probe, 0, "the table answers nothing");
    return store_get_many(f->inner, table, partition_key, row_keys, count, select, deadline_ms, arena, rows,
                          why);
}

static enum status front_query(struct store *store, const struct query *query, int64_t deadline_ms,
                               struct arena *arena, struct page *page, struct fail *why)
{
    return store_query(((struct fixture *)store)->inner, query, deadline_ms, arena, page, why);
}

static int64_t front_now_ms(const struct store *store)
{
    (void)store;
    return clock_wall_ms();
}

static void front_close(struct store *store)
{
    (void)store;
}

static const struct store_functions FRONT = {
    .joins_partitions = false,
    .close = front_close,
    .transact = front_transact,
    .get_many = front_get_many,
    .query = front_query,
    .now_ms = front_now_ms,
};

/* --- the fixture --------------------------------------------------------------------------------------------- */

static void on_drained(void *context, size_t rows)
{
    ((struct fixture *)context)->drained += rows;
}

static void on_breaker(void *context, bool is_open, const struct fail *why)
{
    (void)why;
    *(is_open ? &((struct fixture *)context)->opened : &((struct fixture *)context)->closed) += 1;
}

static void on_lost(void *context, uint64_t rows)
{
    ((struct fixture *)context)->lost += rows;
}

static void begin_drain(struct fixture *f)
{
    const struct drain_options options = {
        .spool = {.path = f->place.spool, .max_bytes = f->place.max_bytes},
        .rules = lead_rules,
        .raises_alarms = true,
        .stop = &f->stop,
        .on_breaker = on_breaker,
        .on_drained = on_drained,
        .on_lost = on_lost,
        .context = f,
    };
    struct fail why = {0};
    drain_free(f->drain);
    f->drain = NULL;
    if (drain_new(&options, &f->front, &f->drain, &why) != ST_OK)
        print_error("%s\n", why.text);
    assert_non_null(f->drain);
}

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    char path[128];
    if (!f)
        return -1;
    f->front.functions = &FRONT;
    place_make(&f->place);
    (void)snprintf(path, sizeof path, "%s/table.db", f->place.directory);
    if (store_open_sqlite(path, &f->inner, NULL) != ST_OK)
        return -1;
    f->spool = open_spool(&f->place);
    begin_drain(f);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    drain_free(f->drain);
    spool_close(f->spool);
    store_close(f->inner);
    int rc = place_remove(&f->place);
    free(f);
    return rc;
}

static uint64_t pass(struct fixture *f)
{
    uint64_t left;
    struct fail why = {0};
    enum status status = drain_pass(f->drain, &left, &why);
    if (status != ST_OK)
        print_error("%s\n", why.text);
    assert_int_equal(status, ST_OK);
    return left;
}

static struct lead_write *lead(struct fixture *f, const char *partition, int64_t received_ms)
{
    return make_lead(&f->place.arena, partition, received_ms);
}

static struct lead *content_of(const struct lead_write *write)
{
    return (struct lead *)(uintptr_t)write->delivery.lead;
}

static void spool(struct fixture *f, struct lead_write *write)
{
    assert_int_equal(put_leads(f->spool, &write, 1), ST_OK);
}

static struct page stored(struct fixture *f, const char *partition)
{
    return rows_of(f->inner, &f->place.arena, TABLE_LEADS, partition);
}

static size_t mails(struct fixture *f, const char *partition)
{
    return rows_between(f->inner, &f->place.arena, TABLE_LEADS, partition, MAIL_KEY_FIRST, MAIL_KEY_END)
        .count;
}

static struct page in_ops(struct fixture *f, const char *partition)
{
    return rows_of(f->inner, &f->place.arena, TABLE_OPS, partition);
}

static bool has_alarm(struct fixture *f, const char *event)
{
    struct page page = in_ops(f, ALARMS_PARTITION);
    for (size_t i = 0; i < page.count; i++) {
        if (span_eq(entity_text(&page.rows[i], "Event"), span_of(event)))
            return true;
    }
    return false;
}

static const struct entity *row_with(const struct page *page, const struct lead_write *write)
{
    for (size_t i = 0; i < page->count; i++) {
        if (span_eq(entity_text(&page->rows[i], COLUMN_DELIVERY_ID), span_of(write->delivery.id)))
            return &page->rows[i];
    }
    return NULL;
}

static struct page spooled(struct fixture *f)
{
    unsigned int generation;
    struct store *store = open_current(f->spool, &generation);
    struct page page = rows_of(store, &f->place.arena, TABLE_LEADS, SPOOL_PARTITION);
    store_close(store);
    return page;
}

/* --- what comes out is what went in -------------------------------------------------------------------------- */

static struct span repeated(struct fixture *f, const char *unit, size_t bytes)
{
    size_t len = strlen(unit), count = bytes / len;
    char *text = arena_alloc(&f->place.arena, count * len + 1);
    assert_non_null(text);
    for (size_t i = 0; i < count; i++)
        memcpy(text + i * len, unit, len);
    return (struct span){text, count * len};
}

/* Every character that text may have, as far as one string goes. */
static struct span every_character(struct fixture *f)
{
    char *text = arena_alloc(&f->place.arena, 4 * 70000);
    size_t len = 0;
    assert_non_null(text);
    for (uint32_t c = 1; c < 0x3000; c++) {
        if (c < 0x80) {
            text[len++] = (char)c;
        } else if (c < 0x800) {
            text[len++] = (char)(0xC0 | c >> 6);
            text[len++] = (char)(0x80 | (c & 0x3F));
        } else {
            text[len++] = (char)(0xE0 | c >> 12);
            text[len++] = (char)(0x80 | (c >> 6 & 0x3F));
            text[len++] = (char)(0x80 | (c & 0x3F));
        }
    }
    const char *rest =
        "\xEF\xBB\xBF\xEF\xBF\xBE\xEF\xBF\xBF\xED\x9F\xBF\xEE\x80\x80\xF0\x9F\x98\x80\xF4\x8F\xBF\xBF";
    memcpy(text + len, rest, strlen(rest));
    return (struct span){text, len + strlen(rest)};
}

static void blank(struct lead *l)
{
    struct lead keys = *l;
    *l = (struct lead){0};
    memcpy(l->partition, keys.partition, sizeof l->partition);
    memcpy(l->contact, keys.contact, sizeof l->contact);
    memcpy(l->content, keys.content, sizeof l->content);
}

enum { SHAPES = 12 };

static void shape(struct fixture *f, struct lead_write *write, int which)
{
    struct lead *l = content_of(write);
    switch (which) {
    case 0:
        break;
    case 1: /* withheld */
        blank(l);
        l->customer.country = SPAN_LIT("DE");
        l->withheld = true;
        break;
    case 2:
        l->payload = repeated(f, "0123456789abcdef", LIMIT_BODY_BYTES);
        break;
    case 3:
        l->payload = repeated(f, "\xED\x95\x9C\xEA\xB5\xAD\xEC\x96\xB4", LIMIT_BODY_BYTES);
        l->customer.last_name = SPAN_LIT("\xEA\xB9\x80");
        l->offer_title = SPAN_LIT("\xED\x95\x9C\xEA\xB5\xAD");
        break;
    case 4:
        l->payload = every_character(f);
        l->description = every_character(f);
        break;
    case 5: /* nothing but what is needed */
        blank(l);
        write->delivery.key_name = span_empty();
        break;
    case 6:
        l->payload = span_empty();
        break;
    case 7:
        l->is_test = l->do_not_contact = true;
        l->campaign = SPAN_LIT("cmp");
        l->product_id = SPAN_LIT("p");
        l->publisher_id = SPAN_LIT("contoso");
        l->offer_id = SPAN_LIT("a");
        l->source = SPAN_LIT("AzureMarketplace");
        l->lead_source = SPAN_LIT("AzureMarketplace-INS|contoso.a");
        break;
    case 8: /* longer than a column may be */
        l->description = repeated(f, "\xF0\x9F\x98\x80", 100000);
        l->customer.first_name = repeated(f, "x", 40000);
        l->customer.company = repeated(f, "\"", 33000);
        break;
    case 9:
        l->payload = repeated(f, "\"\\", 100000);
        break;
    case 10:
        l->payload = repeated(f, "\x01\x1F\x7F", 100000);
        break;
    default:
        l->customer.email = SPAN_LIT(" ");
        l->description = SPAN_LIT("\r\n\t");
        break;
    }
}

static void assert_same_rows(struct fixture *f, struct page a, struct page b)
{
    assert_int_equal(a.count, b.count);
    for (size_t i = 0; i < a.count; i++) {
        struct buf x = BUF_INIT(LIMIT_ENTITY_JSON_BYTES), y = BUF_INIT(LIMIT_ENTITY_JSON_BYTES);
        assert_int_equal(entity_write(&x, &a.rows[i], NULL), ST_OK);
        assert_int_equal(entity_write(&y, &b.rows[i], NULL), ST_OK);
        assert_true(span_eq(buf_span(&x), buf_span(&y)));
        buf_release(&x);
        buf_release(&y);
    }
    (void)f;
}

static struct page with_mails(struct store *store, struct arena *arena, const char *partition)
{
    return rows_between(store, arena, TABLE_LEADS, partition, "", "");
}

static void test_same_as_direct(void **state)
{
    struct fixture *f = *state;
    char path[128];
    struct store *direct;
    (void)snprintf(path, sizeof path, "%s/direct.db", f->place.directory);
    assert_int_equal(store_open_sqlite(path, &direct, NULL), ST_OK);
    for (int i = 0; i < SHAPES; i++) {
        struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
        char partition[32];
        (void)snprintf(partition, sizeof partition, "contoso.shape-%d", i);
        struct lead_write *write = lead(f, partition, START_MS + i);
        shape(f, write, i);
        leads_commit(direct, &lead_rules, &write, 1, soon(), &arena);
        assert_int_equal(write->status, ST_OK);
        write->status = ST_AGAIN;
        spool(f, write);
        assert_int_equal(pass(f), 0);
        struct page page = with_mails(f->inner, &f->place.arena, partition);
        assert_int_equal(page.count, 3);
        assert_same_rows(f, page, with_mails(direct, &f->place.arena, partition));
        arena_release(&arena);
    }
    assert_int_equal(f->drained, SHAPES);
    assert_int_equal(f->lost, 0);
    store_close(direct);
}

/* In order of receipt within each offer, a hundred operations at most, and few transactions. */
static void test_order(void **state)
{
    struct fixture *f = *state;
    enum { LEADS = 300 };
    struct lead_write *writes[LEADS];
    for (int i = 0; i < LEADS; i++) {
        int k = i * 7 % LEADS; /* they come in another order */
        writes[i] = lead(f, k % 3 ? "contoso.a" : "contoso.b", START_MS + 1000 * k);
    }
    for (int i = 0; i < LEADS; i += 20)
        assert_int_equal(put_leads(f->spool, &writes[i], 20), ST_OK);
    assert_int_equal(pass(f), 0);
    assert_int_equal(f->order_count, LEADS);
    assert_true(f->largest > 90 && f->largest <= LIMIT_BATCH_OPERATIONS);
    assert_true(f->transactions <= 12); /* 33 leads with two mails each fill one; a page has 67 and 33 */
    int64_t last[2] = {0, 0};
    for (size_t i = 0; i < f->order_count; i++) {
        for (size_t k = 0; k < LEADS; k++) {
            if (strcmp(f->order[i], writes[k]->delivery.id) == 0) {
                bool is_b = strcmp(writes[k]->delivery.lead->partition, "contoso.b") == 0;
                assert_true(writes[k]->delivery.received_ms > last[is_b]);
                last[is_b] = writes[k]->delivery.received_ms;
            }
        }
    }
    assert_int_equal(stored(f, "contoso.a").count, 200);
    assert_int_equal(mails(f, "contoso.b"), 200);
    assert_true(has_alarm(f, "spool-drained"));
}

/* A lead that the table has already is a repeat, with the times of receipt. */
static void test_repeat(void **state)
{
    struct fixture *f = *state;
    struct lead_write *first = lead(f, "contoso.a", START_MS), *again = lead(f, "contoso.a", START_MS + 1000);
    memcpy(content_of(again)->contact, first->delivery.lead->contact, LEAD_HASH_TEXT);
    memcpy(content_of(again)->content, first->delivery.lead->content, LEAD_HASH_TEXT);
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    leads_commit(f->inner, &lead_rules, &first, 1, soon(), &arena);
    arena_release(&arena);
    spool(f, again);
    assert_int_equal(pass(f), 0);
    struct page page = stored(f, "contoso.a");
    assert_int_equal(page.count, 1);
    struct deliveries d = row_deliveries(&page.rows[0]);
    assert_int_equal(d.count, 2);
    assert_int_equal(d.last_ms, START_MS + 1000);
    assert_int_equal(mails(f, "contoso.a"), 2);
}

/* Hours later too nobody came back: what the sender named it went through the spool with it. */
static void test_named_repeat(void **state)
{
    struct fixture *f = *state;
    struct lead_write *first = lead(f, "contoso.a", START_MS),
                      *again = lead(f, "contoso.a", START_MS + 5 * HOUR_MS);
    memcpy(content_of(again)->contact, first->delivery.lead->contact, LEAD_HASH_TEXT);
    memcpy(content_of(again)->content, first->delivery.lead->content, LEAD_HASH_TEXT);
    first->delivery.webhook_id = again->delivery.webhook_id = SPAN_LIT("msg_1");
    spool(f, first);
    assert_int_equal(pass(f), 0);
    spool(f, again);
    assert_int_equal(pass(f), 0);
    struct page page = stored(f, "contoso.a");
    assert_int_equal(page.count, 1);
    assert_int_equal(row_deliveries(&page.rows[0]).count, 2);
    assert_true(span_eq(entity_text(&page.rows[0], "WebhookId"), SPAN_LIT("msg_1")));
    assert_int_equal(mails(f, "contoso.a"), 2);
}

/* What the other processes will read. */
static bool is_open(struct fixture *f)
{
    return read_breaker(f->spool, &f->place.arena).failures > 0;
}

/* --- faults of the table ------------------------------------------------------------------------------------- */

/* Written, and nobody was told: recognised by its DeliveryId, in the same pass or in the next. */
static void test_ambiguous_write(void **state)
{
    struct fixture *f = *state;
    static const int times[] = {1, 3}; /* three: the call gives up */
    for (size_t i = 0; i < 2; i++) {
        struct lead_write *write = lead(f, i ? "contoso.b" : "contoso.a", START_MS);
        spool(f, write);
        f->rules[0] = (struct rule){.status = ST_UNKNOWN, .has_effect = true, .times = times[i]};
        f->rule_count = 1;
        while (pass(f) > 0)
            (void)usleep(1000);
        struct page page = stored(f, write->delivery.lead->partition);
        assert_int_equal(page.count, 1);
        assert_int_equal(row_deliveries(&page.rows[0]).count, 1);
        assert_int_equal(mails(f, write->delivery.lead->partition), 2);
    }
}

/* Nobody knows whether it was written: the row says so, for the case that others write before the next attempt. */
static void test_ambiguous_is_marked(void **state)
{
    struct fixture *f = *state;
    struct lead_write *write = lead(f, "contoso.a", START_MS);
    struct lead found;
    struct delivery delivery;
    spool(f, write);
    f->rules[0] = (struct rule){.status = ST_UNKNOWN};
    f->rule_count = 1;
    assert_int_equal(pass(f), 1);
    struct page page = spooled(f);
    assert_int_equal(spooled_of_row(&page.rows[0], &found, &delivery, &f->place.arena, NULL), ST_OK);
    assert_true(delivery.may_be_written);
    assert_string_equal(delivery.id, write->delivery.id);
    assert_true(span_eq(found.payload, write->delivery.lead->payload));
    f->rule_count = 0;
    while (pass(f) > 0)
        (void)usleep(1000);
    assert_int_equal(stored(f, "contoso.a").count, 1);
}

static struct store *between_store;

static void change_spooled_row(struct fixture *f)
{
    struct page page = rows_of(between_store, &f->place.arena, TABLE_LEADS, SPOOL_PARTITION);
    struct operation change = {.kind = OPERATION_MERGE};
    struct lead found;
    struct delivery delivery;
    size_t failed;
    f->between = NULL;
    assert_int_equal(spooled_of_row(&page.rows[0], &found, &delivery, &f->place.arena, NULL), ST_OK);
    delivery.may_be_written = true;
    assert_true(row_of_spooled(&change.entity, &delivery, &f->place.arena));
    change.entity.etag = SPAN_LIT("*");
    assert_int_equal(store_transact(between_store, TABLE_LEADS, &change, 1, soon(), &failed, NULL), ST_OK);
}

/* A row that was changed after it was read stays until it was read as it is. */
static void test_changed_row(void **state)
{
    struct fixture *f = *state;
    unsigned int generation;
    spool(f, lead(f, "contoso.a", START_MS));
    spool(f, lead(f, "contoso.a", START_MS + 1));
    between_store = open_current(f->spool, &generation);
    f->between = change_spooled_row;
    assert_int_equal(pass(f), 1);
    assert_int_equal(stored(f, "contoso.a").count, 2);
    assert_int_equal(pass(f), 0);
    store_close(between_store);
    assert_int_equal(stored(f, "contoso.a").count, 2);
    assert_int_equal(mails(f, "contoso.a"), 4);
}

/* Refused for good: into quarantine with the reason, whether the service says which one it is or not; the others go
 * on. */
static void test_refused_for_good(void **state)
{
    static const struct rule rules[] = {
        {.status = ST_INVALID, .says_which = true},
        {.status = ST_TOO_LARGE, .says_which = true},
        {.status = ST_INVALID},
        {.status = ST_REFUSED},
    };
    struct fixture *f = *state;
    for (size_t i = 0; i < sizeof rules / sizeof rules[0]; i++) {
        char partition[32];
        struct lead_write *writes[40];
        (void)snprintf(partition, sizeof partition, "contoso.%zu", i);
        for (int k = 0; k < 40; k++)
            writes[k] = lead(f, partition, START_MS + 100 * (int64_t)i + k);
        writes[17]->delivery.webhook_id = SPAN_LIT("msg_17");
        assert_int_equal(put_leads(f->spool, writes, 40), ST_OK);
        f->rules[0] = rules[i];
        f->rules[0].id = writes[17]->delivery.id;
        f->rule_count = 1;
        assert_int_equal(pass(f), 0);
        struct page page = stored(f, partition), kept = in_ops(f, QUARANTINE_PARTITION);
        assert_int_equal(page.count, 39);
        assert_null(row_with(&page, writes[17]));
        assert_int_equal(kept.count, i + 1);
        const struct entity *row = row_with(&kept, writes[17]);
        assert_non_null(row);
        assert_int_equal(entity_number(row, COLUMN_RECEIVED_TIME, 0), writes[17]->delivery.received_ms);
        assert_true(entity_text(row, "Reason").len > 0);
        assert_true(span_eq(entity_text(row, "WebhookId"), SPAN_LIT("msg_17")));
        struct buf body = BUF_INIT(LIMIT_BODY_BYTES);
        assert_int_equal(quarantined_body(row, &body, NULL), ST_OK);
        assert_true(span_eq(buf_span(&body), writes[17]->delivery.lead->payload));
        buf_release(&body);
    }
    assert_true(has_alarm(f, "quarantined"));
}

/* A table that refuses everything is no reason to put all leads into quarantine. */
static void test_table_refuses_all(void **state)
{
    static const enum status statuses[] = {ST_REFUSED, ST_DENIED, ST_AGAIN, ST_UNKNOWN, ST_INVALID};
    struct fixture *f = *state;
    for (int i = 0; i < 5; i++)
        spool(f, lead(f, "contoso.a", START_MS + i));
    for (size_t i = 0; i < sizeof statuses / sizeof statuses[0]; i++) {
        f->probe = statuses[i];
        assert_int_equal(pass(f), 5);
        assert_true(is_open(f));
        f->probe = ST_OK;
        assert_int_equal(in_ops(f, QUARANTINE_PARTITION).count, 0);
        write_breaker(f->spool, &f->place.arena, &(struct breaker){0});
        begin_drain(f); /* another process, which has read nothing yet */
    }
    assert_int_equal(pass(f), 0);
    assert_int_equal(stored(f, "contoso.a").count, 5);
}

/* Who finds the outage first tells of it, also when it is the drain. */
static void test_outage_in_the_middle(void **state)
{
    struct fixture *f = *state;
    unsigned int generation;
    bool raised = false;
    spool(f, lead(f, "contoso.a", START_MS));
    f->probe = ST_AGAIN;
    assert_int_equal(pass(f), 1);
    assert_int_equal(f->opened, 1);
    struct store *current = open_current(f->spool, &generation);
    struct page page = rows_of(current, &f->place.arena, TABLE_OPS, ALARMS_PARTITION);
    for (size_t i = 0; i < page.count; i++)
        raised = raised || span_ends_nocase(page.rows[i].row_key, SPAN_LIT("-spooling"));
    store_close(current);
    assert_true(raised);
    f->probe = ST_OK;
    make_probe_due(f->spool);
    assert_int_equal(pass(f), 0);
    assert_int_equal(f->opened, 1);
    assert_int_equal(f->closed, 1);
}

/* A lead at which the table never answers holds up nobody, and is not tried at every pass. */
static void test_poison(void **state)
{
    struct fixture *f = *state;
    struct lead_write *writes[150];
    for (int k = 0; k < 150; k++)
        writes[k] = lead(f, "contoso.a", START_MS + k);
    assert_int_equal(put_leads(f->spool, writes, 100), ST_OK);
    assert_int_equal(put_leads(f->spool, writes + 100, 50), ST_OK);
    f->rules[0] = (struct rule){.status = ST_UNKNOWN, .id = writes[42]->delivery.id};
    f->rule_count = 1;
    assert_int_equal(pass(f), 1);
    assert_int_equal(stored(f, "contoso.a").count, 149);
    assert_false(is_open(f));
    size_t before = f->transactions;
    assert_int_equal(pass(f), 1);
    assert_int_equal(f->transactions, before);
    spool(f, lead(f, "contoso.a", START_MS + 1000)); /* behind it */
    assert_int_equal(pass(f), 1);
    assert_int_equal(stored(f, "contoso.a").count, 150);
    assert_int_equal(f->transactions, before + 1);
    f->rule_count = 0;
    while (pass(f) > 0)
        (void)usleep(10000);
    assert_int_equal(stored(f, "contoso.a").count, 151);
}

/* A partition that is throttled holds up no other one, and is left alone as long as the service asks. */
static void test_throttled_partition(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 30; i++)
        spool(f, lead(f, i % 2 ? "contoso.busy" : "contoso.free", START_MS + i));
    f->rules[0] = (struct rule){.status = ST_AGAIN, .partition = "contoso.busy", .retry_after_s = 300};
    f->rule_count = 1;
    assert_int_equal(pass(f), 15);
    assert_int_equal(stored(f, "contoso.free").count, 15);
    assert_int_equal(stored(f, "contoso.busy").count, 0);
    assert_int_equal(f->transactions, 2); /* who was told when to come back does not ask again at once */
    assert_false(is_open(f));
    size_t before = f->transactions;
    f->rule_count = 0;
    assert_int_equal(pass(f), 15);
    assert_int_equal(f->transactions, before);
    begin_drain(f); /* another process does not know, and is told */
    assert_int_equal(pass(f), 0);
    assert_int_equal(stored(f, "contoso.busy").count, 15);
}

/* What the service asks for is longer than the pauses that we make ourselves. */
static void test_throttled_for_long(void **state)
{
    struct fixture *f = *state;
    spool(f, lead(f, "contoso.busy", START_MS));
    spool(f, lead(f, "contoso.slow", START_MS));
    f->rules[0] =
        (struct rule){.status = ST_AGAIN, .partition = "contoso.busy", .retry_after_s = 300, .times = 1};
    f->rules[1] = (struct rule){.status = ST_AGAIN, .partition = "contoso.slow", .times = 6};
    f->rule_count = 2;
    /* Refused in two passes, three times in each: its second pause is longer than any first one. */
    while (pass(f) > 1)
        (void)usleep(10000);
    assert_int_equal(stored(f, "contoso.slow").count, 1);
    assert_int_equal(stored(f, "contoso.busy").count, 0);
}

/* Throttled while the one that makes the others fail is being looked for: the search ends there. */
static void test_throttled_while_halving(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 30; i++)
        spool(f, lead(f, "contoso.a", START_MS + i));
    f->rules[0] = (struct rule){.status = ST_UNKNOWN, .times = 3};
    f->rules[1] = (struct rule){.status = ST_AGAIN, .retry_after_s = 300};
    f->rule_count = 2;
    assert_int_equal(pass(f), 30);
    assert_int_equal(f->transactions, 4);
}

/* While the breaker is open the table is not asked; who probes closes it and goes on. */
static void test_open_breaker(void **state)
{
    struct fixture *f = *state;
    struct fail why = {.code = ST_AGAIN, .text = "down", .retry_after_s = 300};
    spool(f, lead(f, "contoso.a", START_MS));
    assert_true(breaker_failed(f->spool, BREAKER_CLOSED, &why));
    assert_int_equal(pass(f), 1);
    assert_int_equal(f->transactions, 0);
    make_probe_due(f->spool);
    assert_int_equal(pass(f), 0);
    assert_false(is_open(f));
    assert_int_equal(stored(f, "contoso.a").count, 1);
}

/* The same with nothing to send. */
static void test_open_breaker_of_empty_spool(void **state)
{
    struct fixture *f = *state;
    struct fail why = {.code = ST_AGAIN, .text = "down", .retry_after_s = 300};
    assert_true(breaker_failed(f->spool, BREAKER_CLOSED, &why));
    make_probe_due(f->spool);
    f->probe = ST_AGAIN;
    assert_int_equal(pass(f), 0);
    assert_true(is_open(f));
    f->probe = ST_OK;
    make_probe_due(f->spool);
    assert_int_equal(pass(f), 0);
    assert_false(is_open(f));
}

/* --- quarantine and damage ----------------------------------------------------------------------------------- */

static void spool_item(struct fixture *f, int64_t received_ms)
{
    struct quarantined item = {.received_ms = received_ms,
                               .key_name = SPAN_LIT("marketplace"),
                               .reason = SPAN_LIT("malformed"),
                               .content_type = SPAN_LIT("application/json"),
                               .body = {"{\x00\xFF", 3}};
    struct fail why = {0};
    random_hex(item.id, LEAD_DELIVERY_TEXT);
    assert_int_equal(spool_put_quarantined(f->spool, &item, 100, soon(), &why), ST_OK);
}

static void test_quarantined(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 3; i++)
        spool_item(f, START_MS + i);
    assert_int_equal(pass(f), 0);
    struct page page = in_ops(f, QUARANTINE_PARTITION);
    assert_int_equal(page.count, 3);
    struct buf body = BUF_INIT(100);
    assert_int_equal(quarantined_body(&page.rows[0], &body, NULL), ST_OK);
    assert_true(span_eq(buf_span(&body), (struct span){"{\x00\xFF", 3}));
    buf_release(&body);
}

/* Changes a column of a spooled row, as a flipped bit would. */
static void alter(struct fixture *f, enum table_id table, const char *partition, size_t index,
                  const char *column)
{
    unsigned int generation;
    struct store *store = open_current(f->spool, &generation);
    struct page page = rows_of(store, &f->place.arena, table, partition);
    struct operation change = {.kind = OPERATION_MERGE};
    size_t failed;
    assert_true(entity_init(&change.entity, page.rows[index].partition_key, page.rows[index].row_key,
                            &f->place.arena));
    if (strcmp(column, "BodyBytes") == 0)
        entity_add_int(&change.entity, column, 2);
    else
        entity_add_text(&change.entity, column, SPAN_LIT("other"));
    change.entity.etag = SPAN_LIT("*");
    assert_int_equal(store_transact(store, table, &change, 1, soon(), &failed, NULL), ST_OK);
    store_close(store);
}

/* A row that is not what was written: a new generation, the others are copied, and it is reported. */
static void test_damaged_row(void **state)
{
    struct fixture *f = *state;
    uint64_t left;
    struct fail why;
    struct salvage result;
    unsigned int generation;
    for (int i = 0; i < 5; i++)
        spool(f, lead(f, "contoso.a", START_MS + i));
    spool_item(f, START_MS);
    spool_item(f, START_MS + 1);
    alter(f, TABLE_LEADS, SPOOL_PARTITION, 2, "Email");
    assert_int_equal(drain_pass(f->drain, &left, &why), ST_DAMAGED);
    assert_int_equal(pass(f), 0);
    assert_int_equal(f->lost, 1);
    assert_int_equal(stored(f, "contoso.a").count, 4);
    assert_int_equal(in_ops(f, QUARANTINE_PARTITION).count, 2);
    spool_item(f, START_MS + 2);
    alter(f, TABLE_OPS, QUARANTINE_PARTITION, 0, "BodyBytes");
    assert_int_equal(drain_pass(f->drain, &left, &why), ST_DAMAGED);
    assert_int_equal(pass(f), 0);
    assert_int_equal(f->lost, 2);
    struct store *store = open_current(f->spool, &generation);
    assert_int_equal(generation, 3);
    assert_int_equal(rows_of(store, &f->place.arena, TABLE_OPS, LOST_PARTITION).count, 2);
    assert_int_equal(spool_salvage(f->spool, store, generation, false, &result, &why), ST_OK);
    assert_int_equal(result.rescued, 0);
    store_close(store);
    begin_drain(f);
    assert_int_equal(pass(f), 0);
    assert_int_equal(f->lost, 2);
}

/* Nothing is begun once the drain shall stop. */
static void test_stop(void **state)
{
    struct fixture *f = *state;
    spool(f, lead(f, "contoso.a", START_MS));
    atomic_store(&f->stop, true);
    assert_int_equal(pass(f), 1);
    assert_int_equal(f->transactions, 0);
    atomic_store(&f->stop, false);
    assert_int_equal(pass(f), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_same_as_direct),
        TEST(test_order),
        TEST(test_repeat),
        TEST(test_named_repeat),
        TEST(test_ambiguous_write),
        TEST(test_ambiguous_is_marked),
        TEST(test_changed_row),
        TEST(test_refused_for_good),
        TEST(test_table_refuses_all),
        TEST(test_outage_in_the_middle),
        TEST(test_poison),
        TEST(test_throttled_partition),
        TEST(test_throttled_for_long),
        TEST(test_throttled_while_halving),
        TEST(test_open_breaker),
        TEST(test_open_breaker_of_empty_spool),
        TEST(test_quarantined),
        TEST(test_damaged_row),
        TEST(test_stop),
    };
    if (getenv("ONLY"))
        cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
