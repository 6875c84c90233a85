#include "handler/ctl/reconcile/import.h"

/* System */
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"

enum { WRITE_WAIT_MS = 60000, BATCH_BYTES = 8 * 1024 * 1024 };

/* What stands in for the random bytes of a delivery: the lead's id in Partner Center, else all that is read of it. */
static enum status name_lead(const struct partner_row *row, struct span body,
                             unsigned char bytes[LEAD_RANDOM_BYTES], struct fail *why)
{
    unsigned char digest[SHA256_BYTES];
    char text[2 * SHA256_BYTES + 1];
    struct span id = row->value[PARTNER_ID];
    enum status status = crypto_sha256(id.len ? id : body, digest, why);
    if (status != ST_OK)
        return status;
    hex_write(digest, sizeof digest, text);
    return lead_bytes_of_name(SPAN_LIT(ORIGIN_IMPORT), span_of(text), bytes, why);
}

enum status import_understand(const struct partner_row *row, struct span withhold_domains,
                              struct arena *arena, struct lead *lead, struct fail *why)
{
    struct buf text = BUF_INIT(LIMIT_BODY_BYTES);
    unsigned char name[LEAD_RANDOM_BYTES];
    struct span body;
    size_t offset;
    enum status status = partner_body(row, &text, why);
    if (status == ST_OK && !arena_copy(arena, buf_span(&text), &body))
        status = fail_set(why, ST_NOMEM, 0, "no memory for a lead");
    buf_release(&text);
    if (status == ST_OK)
        status = name_lead(row, body, name, why);
    if (status == ST_OK)
        status = lead_understand(body, SPAN_LIT("application/json"), withhold_domains, LEAD_BY_NAME, name,
                                 arena, lead, &offset, why);
    return status;
}

/* --- writing -------------------------------------------------------------------------------------------------- */

enum status import_begin(struct import *import, struct store *store, const struct lead_rules *rules,
                         struct span withhold_domains, struct fail *why)
{
    *import = (struct import){.store = store, .rules = *rules, .withhold_domains = withhold_domains};
    import->arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    import->leads = calloc(IMPORT_AT_ONCE, sizeof *import->leads);
    import->writes = calloc(IMPORT_AT_ONCE, sizeof *import->writes);
    enum status status = offers_new(&import->offers, why);
    if (status == ST_OK && (!import->leads || !import->writes))
        status = fail_set(why, ST_NOMEM, 0, "no memory to import leads");
    if (status != ST_OK)
        import_end(import);
    return status;
}

void import_end(struct import *import)
{
    offers_free(import->offers);
    free(import->leads);
    free(import->writes);
    arena_release(&import->arena);
    *import = (struct import){0};
}

bool import_mails(const struct import *import)
{
    return import->rules.routes || import->rules.recipient_count > 0;
}

static enum status settle(struct import *import, struct lead_write *const *writes, size_t count,
                          struct fail *why)
{
    enum status status = ST_OK;
    for (size_t i = 0; i < count; i++) {
        const struct lead_write *w = writes[i];
        import->added += w->status == ST_OK && !w->is_repeat;
        import->present += w->status == ST_OK && w->is_repeat;
        import->refused += w->status == ST_REFUSED;
        if (w->status != ST_OK && w->status != ST_REFUSED && status == ST_OK) {
            status = w->status;
            *why = w->why;
        }
    }
    return status;
}

/* Takes those that may be in one transaction with the first that is left; its offer and theirs are in the directory. */
static enum status take_some(struct import *import, struct lead_write **writes, size_t *count,
                             struct fail *why)
{
    bool joins = store_joins_partitions(import->store);
    enum status status = ST_OK;
    *count = 0;
    for (size_t i = 0; i < import->count && status == ST_OK; i++) {
        struct lead_write *write = &import->writes[i];
        if (import->is_taken[i] ||
            (*count > 0 && !joins &&
             strcmp(write->delivery.lead->partition, writes[0]->delivery.lead->partition) != 0))
            continue;
        if (*count == 0 || joins)
            status = offers_ensure(import->offers, import->store, NULL, &write->delivery,
                                   clock_monotonic_ms() + WRITE_WAIT_MS, why);
        writes[(*count)++] = write;
        import->is_taken[i] = true;
    }
    return status;
}

enum status import_flush(struct import *import, struct fail *why)
{
    struct lead_write **writes = calloc(IMPORT_AT_ONCE, sizeof(struct lead_write *));
    enum status status = writes ? ST_OK : fail_set(why, ST_NOMEM, 0, "no memory to import leads");
    size_t count = 1;
    while (status == ST_OK && count > 0) {
        struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
        status = take_some(import, writes, &count, why);
        if (status == ST_OK && count > 0) {
            leads_commit(import->store, &import->rules, writes, count, clock_monotonic_ms() + WRITE_WAIT_MS,
                         &arena);
            status = settle(import, writes, count, why);
        }
        arena_release(&arena);
    }
    free(writes);
    import->count = 0;
    arena_reset(&import->arena);
    return status;
}

enum status import_add(struct import *import, const struct partner_row *row, int64_t received_ms,
                       struct fail *why)
{
    unsigned char id[LEAD_DELIVERY_TEXT / 2];
    struct lead *lead = &import->leads[import->count];
    struct lead_write *write = &import->writes[import->count];
    enum status status = import_understand(row, import->withhold_domains, &import->arena, lead, why);
    if (status == ST_OK)
        status = crypto_random(id, sizeof id, why);
    if (status != ST_OK)
        return status;
    *write = (struct lead_write){
        .delivery = {.lead = lead, .received_ms = received_ms, .origin = SPAN_LIT(ORIGIN_IMPORT)}};
    import->is_taken[import->count] = false;
    hex_write(id, sizeof id, write->delivery.id);
    import->count++;
    return import->count == IMPORT_AT_ONCE || import->arena.used > BATCH_BYTES ? import_flush(import, why)
                                                                               : ST_OK;
}
