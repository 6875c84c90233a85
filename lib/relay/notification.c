#include "lib/relay/notification.h"

/* System */
#include <string.h>

enum {
    PAGE_ROWS = 100,
    HISTORY_PAGES = 10 /* a person with more than a thousand leads is shown some of them */
};
#define COLUMNS_OF_HISTORY                                                                                   \
    "PartitionKey,RowKey,Timestamp,ReceivedTime,LastReceivedTime,Action,Description,DeliveryId"

/* Keeps the newest LIMIT_MAIL_HISTORY, newest first. */
static void add_earlier(struct earlier_lead *list, size_t *count, struct earlier_lead lead)
{
    size_t at = *count;
    while (at > 0 && list[at - 1].received_ms < lead.received_ms)
        at--;
    if (at == LIMIT_MAIL_HISTORY)
        return;
    if (*count < LIMIT_MAIL_HISTORY)
        (*count)++;
    memmove(&list[at + 1], &list[at], (*count - 1 - at) * sizeof list[0]);
    list[at] = lead;
}

/* The person's other leads in this offer: their keys begin with the same contact.  Where they are too many or
 * too large for the arena some of them have to do: no mail waits for its history. */
static enum status read_history(struct store *store, const struct entity *lead_row, int64_t deadline_ms,
                                struct arena *arena, struct earlier_lead *list, size_t *count,
                                struct fail *why)
{
    struct span contact = span_cut(lead_row->row_key, 0, LEAD_HASH_TEXT + 1); /* with its '-' */
    struct query q = {
        .table = TABLE_LEADS,
        .partition_key = lead_row->partition_key,
        .from = contact,
        .to = key_after_prefix(contact, arena),
        .select = COLUMNS_OF_HISTORY,
        .limit = PAGE_ROWS,
    };
    *count = 0;
    for (size_t pages = 0; pages < HISTORY_PAGES; pages++) {
        struct page page;
        enum status status = store_query(store, &q, deadline_ms, arena, &page, why);
        if (status == ST_NOMEM || status == ST_TOO_LARGE)
            return ST_OK;
        if (status != ST_OK)
            return status;
        for (size_t i = 0; i < page.count; i++) {
            const struct entity *row = &page.rows[i];
            if (span_eq(row->row_key, lead_row->row_key))
                continue;
            add_earlier(list, count,
                        (struct earlier_lead){
                            .received_ms = entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms),
                            .action = entity_text(row, "Action"),
                            .description = entity_text(row, "Description"),
                            .delivery_id = entity_text(row, COLUMN_DELIVERY_ID),
                        });
        }
        if (!page.next.len)
            break;
        q.next = page.next;
    }
    return ST_OK;
}

enum status notification_write(struct buf *out, struct store *store, const struct entity *lead_row,
                               const struct mail_row *mail, const struct mail_address *from,
                               enum mail_detail detail, int64_t deadline_ms, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct lead lead;
    struct earlier_lead earlier[LIMIT_MAIL_HISTORY];
    struct deliveries d = row_deliveries(lead_row);
    uint64_t number = 0;
    struct notification n = {
        .lead = &lead,
        .reason = mail->came_back ? MAIL_CAME_BACK : MAIL_NEW_LEAD,
        .detail = detail,
        .delivery_id = mail->delivery_id,
        .received_ms = mail->received_ms,
        .first_received_ms = d.first_ms,
        .deliveries = d.count,
        .from = from,
        .to = mail->recipient,
        .earlier = earlier,
    };
    lead_of_row(lead_row, &lead);
    if (!span_to_u64(mail->recipient_number, LIMIT_RECIPIENTS, &number))
        return fail_set(why, ST_INVALID, 0, "a mail's row has no recipient number");
    n.recipient_number = (unsigned int)number;
    enum status status = read_history(store, lead_row, deadline_ms, &arena, earlier, &n.earlier_count, why);
    if (status == ST_OK)
        status = mail_compose(out, &n, why);
    arena_release(&arena);
    return status;
}
