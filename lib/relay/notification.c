#include "lib/relay/notification.h"

/* System */
#include <string.h>

enum {
    PAGE_ROWS = 100,
    HISTORY_PAGES = 10 /* a person with more than a thousand leads is shown some of them */
};
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

/* What the store has of a person in one offer. */
struct person {
    struct entity *lead_row; /* the lead that the mail is about; NULL: not there */
    struct earlier_lead earlier[LIMIT_MAIL_HISTORY];
    size_t earlier_count;
};

static void add_row(struct person *p, struct entity *row, struct span lead_key)
{
    if (span_eq(row->row_key, lead_key)) {
        p->lead_row = row;
        return;
    }
    add_earlier(p->earlier, &p->earlier_count,
                (struct earlier_lead){
                    .received_ms = entity_number(row, COLUMN_RECEIVED_TIME, row->timestamp_ms),
                    .action = entity_text(row, "Action"),
                    .description = entity_text(row, "Description"),
                    .delivery_id = entity_text(row, COLUMN_DELIVERY_ID),
                });
}

/* All rows whose keys begin with the lead's contact.  Where they are too many or too large for the arena some of them
 * have to do, no mail waits for its history; then the lead itself is read alone if it is not among them. */
static enum status read_person(struct store *store, struct span partition_key, struct span lead_key,
                               int64_t deadline_ms, struct arena *arena, struct person *p, struct fail *why)
{
    struct span contact = span_cut(lead_key, 0, LEAD_HASH_TEXT + 1); /* with its '-' */
    struct query q = {
        .table = TABLE_LEADS,
        .partition_key = partition_key,
        .from = contact,
        .to = key_after_prefix(contact, arena),
        .select = COLUMNS_OF_LEAD,
        .limit = PAGE_ROWS,
    };
    bool is_whole = false;
    for (size_t pages = 0; pages < HISTORY_PAGES && !is_whole; pages++) {
        struct page page;
        enum status status = store_query(store, &q, deadline_ms, arena, &page, why);
        if (status == ST_NOMEM || status == ST_TOO_LARGE)
            break;
        if (status != ST_OK)
            return status;
        for (size_t i = 0; i < page.count; i++)
            add_row(p, &page.rows[i], lead_key);
        q.next = page.next;
        is_whole = page.next.len == 0;
    }
    if (p->lead_row || is_whole)
        return ST_OK;
    return store_get_many(store, TABLE_LEADS, partition_key, &lead_key, 1, COLUMNS_OF_LEAD, deadline_ms,
                          arena, &p->lead_row, why);
}

static enum status compose(struct buf *out, const struct person *p, const struct mail_row *mail,
                           const struct mail_address *from, enum mail_detail detail, struct fail *why)
{
    struct lead lead;
    struct deliveries d = row_deliveries(p->lead_row);
    uint64_t number = 0;
    struct notification n = {
        .lead = &lead,
        .reason = mail->came_back ? MAIL_CAME_BACK : MAIL_NEW_LEAD,
        .detail = detail,
        .delivery_id = mail->delivery_id,
        .request_id = mail->request_id,
        .received_ms = mail->received_ms,
        .first_received_ms = d.first_ms,
        .deliveries = d.count,
        .from = from,
        .to = mail->recipient,
        .earlier = p->earlier,
        .earlier_count = p->earlier_count,
    };
    lead_of_row(p->lead_row, &lead);
    if (!span_to_u64(mail->recipient_number, LIMIT_RECIPIENTS, &number))
        return fail_set(why, ST_INVALID, 0, "a mail's row has no recipient number");
    n.recipient_number = (unsigned int)number;
    return mail_compose(out, &n, why);
}

/* The lead's keys are the caller's already. */
static bool copy_row(const struct entity *row, struct span partition_key, struct span lead_key,
                     struct arena *arena, struct entity **copy)
{
    struct span id;
    struct entity *e = arena_alloc(arena, sizeof *e);
    if (!e || !entity_init(e, partition_key, lead_key, arena) || !arena_copy(arena, row->etag, &e->etag) ||
        !arena_copy(arena, entity_text(row, COLUMN_DELIVERY_ID), &id))
        return false;
    entity_add_text(e, COLUMN_DELIVERY_ID, id);
    *copy = e;
    return true;
}

enum status notification_write(struct buf *out, struct store *store, struct span partition_key,
                               const struct mail_row *mail, const struct mail_address *from,
                               enum mail_detail detail, int64_t deadline_ms, struct arena *arena,
                               struct entity **lead_row, struct fail *why)
{
    struct arena rows = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct person p = {0};
    enum status status = read_person(store, partition_key, mail->lead_row_key, deadline_ms, &rows, &p, why);
    *lead_row = NULL;
    if (status == ST_OK && p.lead_row)
        status = compose(out, &p, mail, from, detail, why);
    if (status == ST_OK && p.lead_row &&
        !copy_row(p.lead_row, partition_key, mail->lead_row_key, arena, lead_row))
        status = fail_set(why, ST_NOMEM, 0, "no memory for a lead's row");
    arena_release(&rows);
    return status;
}
