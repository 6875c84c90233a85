/* Rows: whatever is in one that somebody else may have written, all readers of rows
 * stay within it, and what they take can be written and read again.  A row of the
 * spool is believed only with its checksum.
 *
 * With the source of the rows, for the checksum.
 */
#include "tests/fuzz/fuzz.h"

#include "lib/store/rows.c"

CHECKS_BEGIN

static struct arena arena = {.limit = LIMIT_REQUEST_ARENA};
static struct buf text = BUF_INIT(LIMIT_ENTITY_JSON_BYTES), body = BUF_INIT(LIMIT_BODY_BYTES);

static bool is_same(const struct entity *a, const struct entity *b)
{
    bool same = a->count == b->count && span_eq(a->partition_key, b->partition_key) &&
                span_eq(a->row_key, b->row_key);
    for (size_t i = 0; same && i < a->count; i++) {
        const struct property *p = &a->properties[i], *q = &b->properties[i];
        same = p->type == q->type && p->number == q->number && span_eq(p->name, q->name) &&
               span_eq(p->text, q->text);
    }
    return same;
}

/* Not with a type that we do not write, or two properties of one name: annotations would be taken for one another's. */
static bool is_writable(const struct entity *row)
{
    for (size_t i = 0; i < row->count; i++) {
        const struct property *p = &row->properties[i];
        if (p->type == EDM_OTHER || p->name.len > LIMIT_PROPERTY_NAME)
            return false;
        for (size_t k = 0; k < i; k++) {
            if (span_eq(row->properties[k].name, p->name))
                return false;
        }
    }
    return true;
}

static void check_entity(const struct entity *row)
{
    static const struct json_limits limits = {.depth = 4, .values = LIMIT_JSON_VALUES};
    const struct json *top;
    struct entity again;
    struct fail why;
    if (!is_writable(row))
        return;
    buf_reset(&text);
    CHECK(entity_write(&text, row, &why) == ST_OK);
    CHECK(json_read(buf_span(&text), &limits, &arena, &top, NULL, &why) == ST_OK);
    CHECK(entity_read(top, &arena, &again, &why) == ST_OK);
    CHECK(is_same(row, &again));
}

/* --- the readers ----------------------------------------------------------------------------------------- */

static void check_lead(const struct entity *row)
{
    struct lead lead;
    lead_of_row(row, &lead);
    CHECK(strlen(lead.partition) <= LIMIT_PARTITION_KEY_BYTES && strlen(lead.contact) <= LEAD_HASH_TEXT);
    CHECK(strlen(lead.content) <= LEAD_HASH_TEXT);
    struct deliveries d = row_deliveries(row);
    CHECK(d.count >= INT32_MIN && span_eq(d.first_id, entity_text(row, COLUMN_DELIVERY_ID)));
}

static void check_mail(const struct entity *row)
{
    struct mail_row mail, again;
    struct entity changed;
    struct fail why;
    enum status status = mail_of_row(row, &mail, &why);
    if (status != ST_OK) {
        CHECK(status == ST_INVALID);
        fuzz_check_fail(&why, status);
        return;
    }
    CHECK(mail.delivery_id.len == LEAD_DELIVERY_TEXT && mail.lead_row_key.len == LEAD_ROW_KEY_TEXT);
    CHECK(mail.state <= MAIL_STATE_PARKED && mail.recipient_number.len > 0);
    CHECK(row_of_mail_state(&changed, row, &mail, span_empty(), &arena));
    CHECK(mail_of_row(&changed, &again, &why) == ST_OK);
    CHECK(again.state == mail.state && again.tries == mail.tries && again.ambiguous == mail.ambiguous);
    CHECK(again.next_ms == mail.next_ms && span_eq(again.delivery_id, mail.delivery_id));
}

static void check_alarm(const struct entity *row)
{
    struct alarm_row alarm, again;
    struct entity whole;
    struct fail why;
    enum status status = alarm_of_row(row, &alarm, &why);
    if (status != ST_OK) {
        CHECK(status == ST_INVALID);
        fuzz_check_fail(&why, status);
        return;
    }
    CHECK(alarm.day.len == 10 && alarm.event.len > 0 && alarm.event.len <= 40);
    CHECK(alarm.tries >= 0 && alarm.tries <= 1000 && alarm.ambiguous >= 0 && alarm.ambiguous <= 1000);
    CHECK(row_of_alarm(&whole, &alarm, &arena));
    CHECK(alarm_of_row(&whole, &again, &why) == ST_OK);
    CHECK(again.state == alarm.state && again.tries == alarm.tries && span_eq(again.event, alarm.event));
    CHECK(span_eq(again.day, alarm.day) && span_eq(again.text, alarm.text) &&
          span_eq(again.sent_to, alarm.sent_to));
}

static void check_quarantined(const struct entity *row)
{
    struct quarantined item, again;
    struct entity whole;
    size_t bytes, bytes_again;
    struct fail why;
    enum status status = quarantined_of_row(row, &item, &bytes, &why);
    CHECK(status == ST_OK || status == ST_INVALID);
    if (status != ST_OK)
        return;
    buf_reset(&body);
    if (quarantined_body(row, &body, &why) != ST_OK || item.received_ms < 0)
        return; /* nothing is received before 1970 */
    item.body = buf_span(&body);
    CHECK(row_of_quarantined(&whole, &item, &arena));
    CHECK(quarantined_of_row(&whole, &again, &bytes_again, &why) == ST_OK);
    CHECK(strcmp(item.id, again.id) == 0 && bytes_again == item.body.len &&
          again.received_ms == item.received_ms);
    CHECK(span_eq(item.reason, again.reason) && span_eq(item.content_type, again.content_type));
}

/* --- the spool ------------------------------------------------------------------------------------------- */

static void check_spooled(struct entity *row)
{
    char checksum[2 * SHA256_BYTES + 1];
    struct lead lead;
    struct delivery delivery;
    struct fail why;
    enum status status = spooled_of_row(row, &lead, &delivery, &arena, &why);
    CHECK(status == ST_OK || status == ST_DAMAGED); /* never a want of memory: the drain would try for ever */
    if (status != ST_OK)
        fuzz_check_fail(&why, status);
    if (!is_writable(row) || row->count == 0)
        return;
    /* With a good checksum in the place of the last property. */
    struct property *last = &row->properties[row->count - 1];
    bool was_good = status == ST_OK;
    row->count--;
    if (entity_find(row, "Checksum") || checksum_of(row, checksum) != ST_OK) {
        CHECK(!was_good);
        return;
    }
    row->count++;
    CHECK(!was_good || span_eq(last->text, span_of(checksum)));
    *last = (struct property){.name = SPAN_LIT("Checksum"), .type = EDM_STRING, .text = span_of(checksum)};
    CHECK(spooled_of_row(row, &lead, &delivery, &arena, &why) == ST_OK);
    CHECK(delivery.lead == &lead && strlen(delivery.id) <= LEAD_DELIVERY_TEXT);
    checksum[0] = checksum[0] == '0' ? '1' : '0';
    CHECK(spooled_of_row(row, &lead, &delivery, &arena, &why) == ST_DAMAGED);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const struct json_limits limits = {.depth = 4, .values = LIMIT_JSON_VALUES};
    const struct json *top;
    struct entity row;
    struct fail why;
    arena_reset(&arena);
    if (json_read((struct span){(const char *)data, size}, &limits, &arena, &top, NULL, NULL) != ST_OK)
        return 0;
    enum status status = entity_read(top, &arena, &row, &why);
    CHECK(status == ST_OK || status == ST_INVALID || status == ST_TOO_LARGE || status == ST_NOMEM);
    if (status != ST_OK) {
        fuzz_check_fail(&why, status);
        return 0;
    }
    CHECK(row.count <= row.room);
    (void)(entity_check(&row, &why) == ST_OK);
    check_entity(&row);
    check_lead(&row);
    check_mail(&row);
    check_alarm(&row);
    check_quarantined(&row);
    CHECK(span_eq(offer_of_row(&row).partition, row.row_key));
    CHECK(breaker_of_row(&row).failures >= INT32_MIN && quota_used(&row) >= INT32_MIN);
    check_spooled(&row);
    return 0;
}

CHECKS_END
