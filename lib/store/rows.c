#include "lib/store/rows.h"

/* System */
#include <stdio.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"

enum { ALARM_DAY_TEXT = 10 /* "2026-11-21" */, ALARM_EVENT_TEXT = 40, ALARM_COUNT_MAX = 1000 };

static const char *const STATE_NAMES[] = {
    [MAIL_STATE_WAITING] = "waiting",
    [MAIL_STATE_CLAIMED] = "claimed",
    [MAIL_STATE_SENDING] = "sending",
    [MAIL_STATE_PARKED] = "parked",
};

static const char *const ALARM_STATE_NAMES[] = {
    [ALARM_STATE_WAITING] = "waiting",
    [ALARM_STATE_CLAIMED] = "claimed",
    [ALARM_STATE_SENT] = "sent",
    [ALARM_STATE_SETTLED] = "settled",
};

enum status delivery_id_given(struct span given, char digits[LEAD_DELIVERY_TEXT + 1], struct fail *why)
{
    bool good = given.len >= DELIVERY_ID_MIN && given.len <= LEAD_DELIVERY_TEXT;
    for (size_t i = 0; i < given.len && good; i++) {
        digits[i] = char_lower(given.ptr[i]);
        good = (digits[i] >= '0' && digits[i] <= '9') || (digits[i] >= 'a' && digits[i] <= 'f');
    }
    if (!good)
        return fail_set(why, ST_INVALID, 0,
                        "an id has %d hexadecimal digits, of which at least the first %d are needed",
                        LEAD_DELIVERY_TEXT, DELIVERY_ID_MIN);
    digits[given.len] = '\0';
    return ST_OK;
}

struct span row_key_of_lead(const struct lead *lead, struct arena *arena)
{
    const struct span parts[] = {span_of(lead->contact), SPAN_LIT("-"), span_of(lead->content)};
    return arena_join(arena, parts, 3);
}

bool is_lead_key(struct span row_key)
{
    return row_key.len == LEAD_ROW_KEY_TEXT && span_find(row_key, '-') == LEAD_HASH_TEXT;
}

struct span mail_prefix_of_lead(struct span lead_row_key, struct arena *arena)
{
    const struct span parts[] = {SPAN_LIT(MAIL_KEY_FIRST), lead_row_key, SPAN_LIT("-")};
    return arena_join(arena, parts, 3);
}

struct span key_after_prefix(struct span prefix, struct arena *arena)
{
    if (prefix.len == 0)
        return span_empty();
    /* Our prefixes end in '-' or another ASCII character below '~'. */
    const char last = (char)(prefix.ptr[prefix.len - 1] + 1);
    const struct span parts[] = {span_cut(prefix, 0, prefix.len - 1), {&last, 1}};
    return arena_join(arena, parts, 2);
}

static void add_deliveries(struct entity *row, const struct deliveries *d)
{
    entity_add_time(row, COLUMN_RECEIVED_TIME, d->first_ms);
    entity_add_time(row, COLUMN_LAST_RECEIVED_TIME, d->last_ms);
    entity_add_int(row, COLUMN_DELIVERIES, d->count);
    entity_add_text(row, COLUMN_LAST_DELIVERY_ID, d->last_id);
}

/* CustomerInfo as Microsoft's connector writes it; cut like any other column when it is too long. */
static bool add_customer_info(struct entity *row, const struct customer *customer, struct arena *arena)
{
    struct buf text = BUF_INIT(LIMIT_REQUEST_ARENA);
    struct span copy;
    bool ok = lead_customer_info(&text, customer, NULL) == ST_OK && arena_copy(arena, buf_span(&text), &copy);
    if (ok)
        entity_add_text(row, "CustomerInfo", copy);
    buf_release(&text);
    return ok;
}

bool row_of_lead(struct entity *row, const struct delivery *delivery, const struct deliveries *deliveries,
                 struct arena *arena)
{
    const struct lead *lead = delivery->lead;
    struct span key = row_key_of_lead(lead, arena);
    char created[CLOCK_TEXT_BYTES];
    struct span created_text;
    clock_iso_time(deliveries->first_ms, created);
    if (!key.len || !entity_init(row, span_of(lead->partition), key, arena) ||
        !arena_copy(arena, span_of(created), &created_text))
        return false;

    /* Microsoft's columns */
    entity_add_text(row, "ActionCode", lead->action_code);
    entity_add_text(row, "CreatedTime", created_text);
    if (!add_customer_info(row, &lead->customer, arena))
        return false;
    entity_add_text(row, "Description", lead->description);
    entity_add_text(row, "LeadSource", lead->lead_source);
    entity_add_text(row, "OfferDisplayName", lead->offer_title);
    entity_add_text(row, "ProductId", lead->product_id);

    /* Ours */
    entity_add_text(row, "FirstName", lead->customer.first_name);
    entity_add_text(row, "LastName", lead->customer.last_name);
    entity_add_text(row, "Email", lead->customer.email);
    entity_add_text(row, "Phone", lead->customer.phone);
    entity_add_text(row, "Country", lead->customer.country);
    entity_add_text(row, "Company", lead->customer.company);
    entity_add_text(row, "Title", lead->customer.title);
    entity_add_text(row, "Source", lead->source);
    entity_add_text(row, "Action", lead->action);
    entity_add_text(row, "PublisherId", lead->publisher_id);
    entity_add_text(row, "OfferId", lead->offer_id);
    add_deliveries(row, deliveries);
    entity_add_text(row, COLUMN_DELIVERY_ID, deliveries->first_id);
    entity_add_bool(row, "IsTest", lead->is_test);
    entity_add_bool(row, "DoNotContact", lead->do_not_contact);
    entity_add_bool(row, "PersonalDataWithheld", lead->withheld);
    entity_add_text(row, "Campaign", lead->campaign);
    entity_add_text(row, "KeyName", delivery->key_name);
    entity_add_text(row, COLUMN_WEBHOOK_ID, delivery->webhook_id);
    entity_add_text(row, COLUMN_REQUEST_ID, delivery->request_id);
    entity_add_text(row, COLUMN_ORIGIN, delivery->origin);
    return entity_add_long_text(row, "Payload", lead->payload, arena);
}

bool row_of_repeat(struct entity *row, const struct delivery *delivery, const struct deliveries *deliveries,
                   struct arena *arena)
{
    struct span key = row_key_of_lead(delivery->lead, arena);
    if (!key.len || !entity_init(row, span_of(delivery->lead->partition), key, arena))
        return false;
    add_deliveries(row, deliveries);
    entity_add_text(row, COLUMN_LAST_REQUEST_ID, delivery->request_id);
    return true;
}

struct deliveries row_deliveries(const struct entity *row)
{
    struct deliveries d = {
        .count = (int32_t)entity_number(row, COLUMN_DELIVERIES, 1),
        .first_ms = entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms),
        .last_ms = entity_number(row, COLUMN_LAST_RECEIVED_TIME, row->timestamp_ms),
        .first_id = entity_text(row, COLUMN_DELIVERY_ID),
        .last_id = entity_text(row, COLUMN_LAST_DELIVERY_ID),
    };
    return d;
}

/* Copies a key part into a fixed array; what does not fit stays blank. */
static void copy_text(char *to, size_t room, struct span from)
{
    if (from.len >= room)
        from.len = 0;
    if (from.len)
        memcpy(to, from.ptr, from.len);
    to[from.len] = '\0';
}

void lead_of_row(const struct entity *row, struct lead *lead)
{
    *lead = (struct lead){
        .customer =
            {
                .first_name = entity_text(row, "FirstName"),
                .last_name = entity_text(row, "LastName"),
                .email = entity_text(row, "Email"),
                .phone = entity_text(row, "Phone"),
                .country = entity_text(row, "Country"),
                .company = entity_text(row, "Company"),
                .title = entity_text(row, "Title"),
            },
        .lead_source = entity_text(row, "LeadSource"),
        .action_code = entity_text(row, "ActionCode"),
        .offer_title = entity_text(row, "OfferDisplayName"),
        .description = entity_text(row, "Description"),
        .product_id = entity_text(row, "ProductId"),
        .source = entity_text(row, "Source"),
        .action = entity_text(row, "Action"),
        .publisher_id = entity_text(row, "PublisherId"),
        .offer_id = entity_text(row, "OfferId"),
        .campaign = entity_text(row, "Campaign"),
        .is_test = entity_number(row, "IsTest", 0) != 0,
        .do_not_contact = entity_number(row, "DoNotContact", 0) != 0,
        .withheld = entity_number(row, "PersonalDataWithheld", 0) != 0,
    };
    copy_text(lead->partition, sizeof lead->partition, row->partition_key);
    struct span key = row->row_key;
    size_t dash = span_find(key, '-');
    if (dash != SPAN_NONE) {
        copy_text(lead->contact, sizeof lead->contact, span_cut(key, 0, dash));
        copy_text(lead->content, sizeof lead->content, span_from(key, dash + 1));
    }
}

bool row_of_mail(struct entity *row, const struct delivery *delivery, struct span recipient,
                 unsigned int number, bool came_back, struct arena *arena)
{
    char digits[12];
    (void)snprintf(digits, sizeof digits, "%u", number);
    struct span lead_key = row_key_of_lead(delivery->lead, arena);
    if (!lead_key.len)
        return false;
    const struct span parts[] = {SPAN_LIT(MAIL_KEY_FIRST), lead_key,      SPAN_LIT("-"),
                                 span_of(delivery->id),    SPAN_LIT("-"), span_of(digits)};
    struct span key = arena_join(arena, parts, sizeof parts / sizeof parts[0]);
    if (!key.len || !entity_init(row, span_of(delivery->lead->partition), key, arena))
        return false;
    entity_add_text(row, "Recipient", recipient);
    entity_add_text(row, "State", span_of(STATE_NAMES[MAIL_STATE_WAITING]));
    entity_add_bool(row, "CameBack", came_back);
    entity_add_time(row, COLUMN_RECEIVED_TIME, delivery->received_ms);
    entity_add_text(row, COLUMN_REQUEST_ID, delivery->request_id);
    return true;
}

bool row_of_mail_state(struct entity *row, const struct entity *old, const struct mail_row *mail,
                       struct span message, struct arena *arena)
{
    if (!entity_init(row, old->partition_key, old->row_key, arena))
        return false;
    row->etag = old->etag;
    entity_add_text(row, "State", span_of(STATE_NAMES[mail->state]));
    /* Merging cannot remove a column; a dash stands for "nobody" and "nothing". */
    entity_add_text(row, "Owner", mail->owner.len ? mail->owner : SPAN_LIT("-"));
    entity_add_int(row, "Tries", mail->tries);
    entity_add_int(row, "Ambiguous", mail->ambiguous);
    entity_add_time(row, "NextTime", mail->next_ms);
    entity_add_text(row, "Error", mail->error.len ? mail->error : SPAN_LIT("-"));
    return message.len == 0 || entity_add_long_text(row, "Message", message, arena);
}

/* It goes into logs and a header, and others may write rows as well: blank where it is none. */
static struct span request_id_of_row(const struct entity *row)
{
    struct span id = entity_text(row, COLUMN_REQUEST_ID);
    return id.len <= LIMIT_REQUEST_ID_BYTES && span_has_only(id, "-") ? id : span_empty();
}

struct query mails_query(struct span partition_key, const char *select, size_t limit)
{
    return (struct query){
        .table = TABLE_LEADS,
        .partition_key = partition_key,
        .from = SPAN_LIT(MAIL_KEY_FIRST),
        .to = SPAN_LIT(MAIL_KEY_END),
        .select = select,
        .limit = limit,
    };
}

enum status mail_of_row(const struct entity *row, struct mail_row *mail, struct fail *why)
{
    const size_t lead_key_len = LEAD_ROW_KEY_TEXT;
    struct span prefix = SPAN_LIT(MAIL_KEY_FIRST);
    struct span rest = span_from(row->row_key, prefix.len);
    /* <contact>-<content> "-" <delivery> "-" <number> */
    if (!span_starts(row->row_key, prefix) || rest.len < lead_key_len + LEAD_DELIVERY_TEXT + 3 ||
        rest.ptr[lead_key_len] != '-' || rest.ptr[lead_key_len + 1 + LEAD_DELIVERY_TEXT] != '-')
        return fail_set(why, ST_INVALID, 0, "a row among the mails has a key of another form");
    *mail = (struct mail_row){
        .recipient = entity_text(row, "Recipient"),
        .recipient_number = span_from(rest, lead_key_len + LEAD_DELIVERY_TEXT + 2),
        .delivery_id = span_cut(rest, lead_key_len + 1, LEAD_DELIVERY_TEXT),
        .lead_row_key = span_cut(rest, 0, lead_key_len),
        .request_id = request_id_of_row(row),
        .came_back = entity_number(row, "CameBack", 0) != 0,
        .received_ms = entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms),
        .owner = entity_text(row, "Owner"),
        .tries = (int32_t)entity_number(row, "Tries", 0),
        .ambiguous = (int32_t)entity_number(row, "Ambiguous", 0),
        .next_ms = entity_number(row, "NextTime", 0),
        .error = entity_text(row, "Error"),
    };
    struct span state = entity_text(row, "State");
    for (enum mail_state s = MAIL_STATE_WAITING; s <= MAIL_STATE_PARKED; s++) {
        if (span_eq(state, span_of(STATE_NAMES[s]))) {
            mail->state = s;
            return ST_OK;
        }
    }
    return fail_set(why, ST_INVALID, 0, "a mail's row has an unknown state");
}

struct span row_key_of_time(int64_t received_ms, const char *id, struct arena *arena)
{
    char time[24];
    /* Thirteen digits of milliseconds: keys sort by time until the year 2286. */
    (void)snprintf(time, sizeof time, "%013lld-", (long long)received_ms);
    const struct span parts[] = {span_of(time), span_of(id)};
    return arena_join(arena, parts, 2);
}

/* Over everything the row says so far. */
static enum status checksum_of(const struct entity *row, char text[2 * SHA256_BYTES + 1])
{
    struct buf json = BUF_INIT(LIMIT_ENTITY_JSON_BYTES);
    unsigned char digest[SHA256_BYTES];
    enum status status = entity_write(&json, row, NULL);
    if (status == ST_OK)
        status = crypto_sha256(buf_span(&json), digest, NULL);
    if (status == ST_OK)
        hex_write(digest, sizeof digest, text);
    buf_release(&json);
    return status;
}

bool row_of_spooled(struct entity *row, const struct delivery *delivery, struct arena *arena)
{
    struct span id = span_of(delivery->id), copy;
    const struct deliveries once = {1, delivery->received_ms, delivery->received_ms, id, id};
    char checksum[2 * SHA256_BYTES + 1];
    if (!row_of_lead(row, delivery, &once, arena))
        return false;
    entity_add_text(row, "LeadPartition", row->partition_key);
    entity_add_text(row, "LeadRowKey", row->row_key);
    entity_add_bool(row, "MayBeWritten", delivery->may_be_written);
    row->partition_key = SPAN_LIT(SPOOL_PARTITION);
    row->row_key = row_key_of_time(delivery->received_ms, delivery->id, arena);
    if (!row->row_key.len || checksum_of(row, checksum) != ST_OK ||
        !arena_copy(arena, span_of(checksum), &copy))
        return false;
    entity_add_text(row, "Checksum", copy);
    return true;
}

/* The checksum is the row's last property; what is before it must give the same again. */
static enum status check_row(const struct entity *row, struct fail *why)
{
    char checksum[2 * SHA256_BYTES + 1];
    struct entity before = *row;
    struct span expected = entity_text(row, "Checksum");
    if (before.count > 0)
        before.count--;
    /* One that cannot even be written is none that was. */
    enum status status = checksum_of(&before, checksum);
    if (status == ST_NOMEM)
        return fail_set(why, ST_NOMEM, 0, "no memory for a spooled row");
    if (status != ST_OK || expected.len != sizeof checksum - 1 || !span_eq(expected, span_of(checksum)))
        return fail_set(why, ST_DAMAGED, 0, "a spooled row does not match its checksum");
    return ST_OK;
}

enum status spooled_of_row(const struct entity *row, struct lead *lead, struct delivery *delivery,
                           struct arena *arena, struct fail *why)
{
    enum status status = check_row(row, why);
    if (status != ST_OK)
        return status;
    struct entity as_stored = *row;
    struct buf payload = BUF_INIT(LIMIT_BODY_BYTES);
    as_stored.partition_key = entity_text(row, "LeadPartition");
    as_stored.row_key = entity_text(row, "LeadRowKey");
    lead_of_row(&as_stored, lead);
    *delivery = (struct delivery){
        .lead = lead,
        .received_ms = entity_number(row, COLUMN_RECEIVED_TIME, 0),
        .key_name = entity_text(row, "KeyName"),
        .webhook_id = entity_text(row, COLUMN_WEBHOOK_ID),
        .request_id = request_id_of_row(row),
        .may_be_written = entity_number(row, "MayBeWritten", 0) != 0,
    };
    copy_text(delivery->id, sizeof delivery->id, entity_text(row, COLUMN_DELIVERY_ID));
    if (entity_find(row, "Payload")) {
        status = entity_long_value(row, "Payload", &payload, why);
        if (status == ST_OK && !arena_copy(arena, buf_span(&payload), &lead->payload))
            status = fail_set(why, ST_NOMEM, 0, "no memory for a spooled row");
    }
    buf_release(&payload);
    return status;
}

bool row_of_breaker(struct entity *row, const struct breaker *breaker, struct arena *arena)
{
    if (!entity_init(row, SPAN_LIT(BREAKER_PARTITION), SPAN_LIT(BREAKER_KEY), arena))
        return false;
    entity_add_int(row, "Failures", breaker->failures);
    entity_add_time(row, "SinceTime", breaker->since_ms);
    entity_add_time(row, "ProbeTime", breaker->probe_ms);
    entity_add_text(row, "Reason", breaker->reason.len ? breaker->reason : SPAN_LIT("-"));
    return true;
}

struct breaker breaker_of_row(const struct entity *row)
{
    return (struct breaker){
        .failures = (int32_t)entity_number(row, "Failures", 0),
        .since_ms = entity_number(row, "SinceTime", 0),
        .probe_ms = entity_number(row, "ProbeTime", 0),
        .reason = entity_text(row, "Reason"),
    };
}

bool row_of_lost(struct entity *row, struct span key, bool is_lead, struct arena *arena)
{
    if (!entity_init(row, SPAN_LIT(LOST_PARTITION), key, arena))
        return false;
    entity_add_bool(row, "IsLead", is_lead);
    return true;
}

bool row_of_quarantined(struct entity *row, const struct quarantined *item, struct arena *arena)
{
    struct span key = row_key_of_time(item->received_ms, item->id, arena);
    if (!key.len || !entity_init(row, SPAN_LIT(QUARANTINE_PARTITION), key, arena))
        return false;
    entity_add_text(row, COLUMN_DELIVERY_ID, span_of(item->id));
    entity_add_time(row, COLUMN_RECEIVED_TIME, item->received_ms);
    entity_add_text(row, "KeyName", item->key_name);
    entity_add_text(row, COLUMN_WEBHOOK_ID, item->webhook_id);
    entity_add_text(row, COLUMN_REQUEST_ID, item->request_id);
    entity_add_text(row, "ContentType", item->content_type);
    entity_add_text(row, "Reason", item->reason);
    entity_add_int(row, "BodyBytes", (int32_t)item->body.len);
    return entity_add_long_binary(row, "Body", item->body, arena);
}

enum status quarantined_of_row(const struct entity *row, struct quarantined *item, size_t *body_bytes,
                               struct fail *why)
{
    /* <time> "-" <id> */
    size_t dash = span_find(row->row_key, '-');
    struct span id = dash == SPAN_NONE ? span_empty() : span_from(row->row_key, dash + 1);
    int64_t bytes = entity_number(row, "BodyBytes", 0);
    if (id.len != LEAD_DELIVERY_TEXT)
        return fail_set(why, ST_INVALID, 0, "a row in quarantine has a key of another form");
    *item = (struct quarantined){
        .received_ms = entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms),
        .key_name = entity_text(row, "KeyName"),
        .webhook_id = entity_text(row, COLUMN_WEBHOOK_ID),
        .request_id = request_id_of_row(row),
        .content_type = entity_text(row, "ContentType"),
        .reason = entity_text(row, "Reason"),
    };
    copy_text(item->id, sizeof item->id, id);
    *body_bytes = bytes > 0 ? (size_t)bytes : 0;
    return ST_OK;
}

enum status quarantined_body(const struct entity *row, struct buf *body, struct fail *why)
{
    return entity_long_value(row, "Body", body, why);
}

struct span quota_prefix_of_day(int64_t day, struct arena *arena)
{
    char date[CLOCK_TEXT_BYTES];
    clock_iso_time(day * CLOCK_DAY_MS, date);
    const struct span parts[] = {SPAN_LIT(QUOTA_KEY_FIRST), span_cut(span_of(date), 0, 10), SPAN_LIT("-")};
    return arena_join(arena, parts, 3);
}

/* Appends a name so that it may be part of a key, and different names stay different. */
static void add_key_part(struct buf *key, struct span name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.ptr[i];
        bool plain = char_is_alnum(c) || c == '.' || c == '_' || c == '-';
        if (plain)
            buf_add_char(key, c);
        else
            buf_addf(key, "=%02X", (unsigned int)(unsigned char)c);
    }
}

bool row_of_quota(struct entity *row, struct span key_name, int64_t day, int32_t used, struct arena *arena)
{
    struct buf text = BUF_INIT(LIMIT_ROW_KEY_BYTES);
    struct span key;
    buf_add(&text, quota_prefix_of_day(day, arena));
    add_key_part(&text, key_name);
    bool ok = text.error == ST_OK && arena_copy(arena, buf_span(&text), &key) &&
              entity_init(row, SPAN_LIT(QUARANTINE_PARTITION), key, arena);
    buf_release(&text);
    if (ok)
        entity_add_int(row, "Used", used);
    return ok;
}

int32_t quota_used(const struct entity *row)
{
    return (int32_t)entity_number(row, "Used", 0);
}

int32_t quarantined_kib(size_t body_bytes)
{
    size_t encoded = (body_bytes + 2) / 3 * 4;
    return 1 + (int32_t)((encoded + 1023) / 1024);
}

bool row_of_total(struct entity *row, int32_t used_kib, struct arena *arena)
{
    if (!entity_init(row, SPAN_LIT(QUARANTINE_PARTITION), SPAN_LIT(QUARANTINE_TOTAL_KEY), arena))
        return false;
    entity_add_int(row, "UsedKiB", used_kib);
    return true;
}

int32_t total_used_kib(const struct entity *row)
{
    int64_t used = entity_number(row, "UsedKiB", 0);
    return used < 0 ? 0 : used > INT32_MAX ? INT32_MAX : (int32_t)used; /* people may edit rows */
}

struct span alarm_day(int64_t wall_ms, struct arena *arena)
{
    char time[CLOCK_TEXT_BYTES];
    struct span day;
    clock_iso_time(wall_ms, time);
    return arena_copy(arena, (struct span){time, ALARM_DAY_TEXT}, &day) ? day : span_empty();
}

static void add_alarm_state(struct entity *row, const struct alarm_row *alarm)
{
    entity_add_text(row, "State", span_of(ALARM_STATE_NAMES[alarm->state]));
    /* A dash, because merging cannot remove a column. */
    entity_add_text(row, "Owner", alarm->owner.len ? alarm->owner : SPAN_LIT("-"));
    entity_add_int(row, "Tries", alarm->tries);
    entity_add_int(row, "Ambiguous", alarm->ambiguous);
    entity_add_time(row, "NextTime", alarm->next_ms);
    entity_add_text(row, "SentTo", alarm->sent_to);
    entity_add_text(row, "Error", alarm->error.len ? alarm->error : SPAN_LIT("-"));
}

bool row_of_alarm(struct entity *row, const struct alarm_row *alarm, struct arena *arena)
{
    const struct span parts[] = {alarm->day, SPAN_LIT("-"), alarm->event};
    struct span key = arena_join(arena, parts, 3);
    if (!key.len || !entity_init(row, SPAN_LIT(ALARMS_PARTITION), key, arena))
        return false;
    entity_add_text(row, "Event", alarm->event);
    entity_add_text(row, "Title", alarm->title);
    entity_add_text(row, "Text", alarm->text);
    entity_add_text(row, "Host", alarm->host);
    entity_add_time(row, COLUMN_RECEIVED_TIME, alarm->received_ms);
    add_alarm_state(row, alarm);
    return true;
}

bool row_of_alarm_state(struct entity *row, const struct entity *old, const struct alarm_row *alarm,
                        struct arena *arena)
{
    if (!entity_init(row, old->partition_key, old->row_key, arena))
        return false;
    row->etag = old->etag;
    add_alarm_state(row, alarm);
    return true;
}

/* Whether the key is "<day>-<event>" with nothing in it that could not stand in a header. */
static bool is_alarm_key(struct span key)
{
    struct span digits = SPAN_LIT("0123456789"), letters = SPAN_LIT("abcdefghijklmnopqrstuvwxyz0123456789-");
    const size_t event_at = ALARM_DAY_TEXT + 1;
    if (key.len <= event_at || key.len > event_at + ALARM_EVENT_TEXT || key.ptr[ALARM_DAY_TEXT] != '-')
        return false;
    for (size_t i = 0; i < key.len; i++) {
        bool dash = i == 4 || i == 7;
        if (i < ALARM_DAY_TEXT && (dash ? key.ptr[i] != '-' : span_find(digits, key.ptr[i]) == SPAN_NONE))
            return false;
        if (i >= event_at && span_find(letters, key.ptr[i]) == SPAN_NONE)
            return false;
    }
    return true;
}

/* People may edit rows: what is counted on from here is no negative and no huge number. */
static int32_t small_count(const struct entity *row, const char *name)
{
    int64_t count = entity_number(row, name, 0);
    return count < 0 ? 0 : count > ALARM_COUNT_MAX ? ALARM_COUNT_MAX : (int32_t)count;
}

enum status alarm_of_row(const struct entity *row, struct alarm_row *alarm, struct fail *why)
{
    if (!is_alarm_key(row->row_key))
        return fail_set(why, ST_INVALID, 0, "a row among the alarms has a key of another form");
    *alarm = (struct alarm_row){
        .day = span_cut(row->row_key, 0, ALARM_DAY_TEXT),
        .event = span_from(row->row_key, ALARM_DAY_TEXT + 1),
        .title = entity_text(row, "Title"),
        .text = entity_text(row, "Text"),
        .host = entity_text(row, "Host"),
        .received_ms = entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms),
        .owner = entity_text(row, "Owner"),
        .tries = small_count(row, "Tries"),
        .ambiguous = small_count(row, "Ambiguous"),
        .next_ms = entity_number(row, "NextTime", 0),
        .sent_to = entity_text(row, "SentTo"),
        .error = entity_text(row, "Error"),
    };
    struct span state = entity_text(row, "State");
    for (enum alarm_state s = ALARM_STATE_WAITING; s <= ALARM_STATE_SETTLED; s++) {
        if (span_eq(state, span_of(ALARM_STATE_NAMES[s]))) {
            alarm->state = s;
            return ST_OK;
        }
    }
    return fail_set(why, ST_INVALID, 0, "an alarm's row has an unknown state");
}

bool row_of_offer(struct entity *row, const struct offer *offer, struct arena *arena)
{
    if (!entity_init(row, SPAN_LIT(OFFERS_PARTITION), offer->partition, arena))
        return false;
    entity_add_text(row, "Title", offer->title);
    if (offer->first_ms)
        entity_add_time(row, "FirstLeadTime", offer->first_ms);
    if (offer->last_ms)
        entity_add_time(row, "LastLeadTime", offer->last_ms);
    if (offer->active_ms)
        entity_add_time(row, OFFER_ACTIVE_TIME, offer->active_ms);
    return true;
}

struct offer offer_of_row(const struct entity *row)
{
    return (struct offer){
        .partition = row->row_key,
        .title = entity_text(row, "Title"),
        .first_ms = entity_number(row, "FirstLeadTime", 0),
        .last_ms = entity_number(row, "LastLeadTime", 0),
        .active_ms = entity_number(row, OFFER_ACTIVE_TIME, 0),
    };
}
