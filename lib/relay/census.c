#include "lib/relay/census.h"

/* System */
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"

/* L6 */
#include "lib/store/offers.h"
#include "lib/store/rows.h"

enum {
    MAILS_PER_PAGE = 50, /* sqlite gives whole rows, with their finished messages */
    STORE_WAIT_MS = 30000
};
#define RECENT_MS (6 * CLOCK_DAY_MS)

struct census {
    struct census_options options;
    int64_t all_seen_ms; /* monotonic: when all offers were looked into; 0: never */
    size_t offer_count;
    struct census_offer offers[LIMIT_OFFERS_SHOWN];
    struct census_result result; /* of the look in work */
};

static bool stopping(const struct census *c)
{
    return c->options.stop && atomic_load(c->options.stop);
}

/* The place of the offer, a free one, or that of the one whose last lead is the oldest, if it is older; else NULL. */
static struct census_offer *place_of(struct census *c, struct span partition, int64_t last_ms)
{
    struct census_offer *oldest = NULL;
    for (size_t i = 0; i < c->offer_count; i++) {
        struct census_offer *o = &c->offers[i];
        if (span_eq(span_of(o->partition), partition))
            return o;
        if (!oldest || o->last_ms < oldest->last_ms)
            oldest = o;
    }
    if (c->offer_count < LIMIT_OFFERS_SHOWN)
        return &c->offers[c->offer_count++];
    return last_ms > oldest->last_ms ? oldest : NULL;
}

static void note_offer(struct census *c, const struct offer *offer)
{
    if (offer->last_ms == 0 || offer->partition.len > LIMIT_PARTITION_KEY_BYTES)
        return;
    struct census_offer *place = place_of(c, offer->partition, offer->last_ms);
    if (!place)
        return;
    memcpy(place->partition, offer->partition.ptr, offer->partition.len);
    place->partition[offer->partition.len] = '\0';
    place->last_ms = offer->last_ms;
}

static void note_mail(struct census *c, const struct entity *row)
{
    struct mail_row mail;
    if (mail_of_row(row, &mail, NULL) != ST_OK || mail.state == MAIL_STATE_PARKED)
        return; /* the mailer logs what cannot be read */
    c->result.mails++;
    if (c->result.mails_oldest_ms == 0 || mail.received_ms < c->result.mails_oldest_ms)
        c->result.mails_oldest_ms = mail.received_ms;
}

static enum status count_mails(struct census *c, struct store *store, struct span partition, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct query q =
        mails_query(partition, "PartitionKey,RowKey,Timestamp,State,ReceivedTime", MAILS_PER_PAGE);
    enum status status = ST_OK;
    bool more = true;
    while (status == ST_OK && more && c->result.mails < LIMIT_MAILS_COUNTED && !stopping(c)) {
        struct page page;
        status = store_query(store, &q, clock_monotonic_ms() + STORE_WAIT_MS, &arena, &page, why);
        for (size_t i = 0; status == ST_OK && i < page.count; i++)
            note_mail(c, &page.rows[i]);
        if (status == ST_OK)
            status = store_turn_page(&q, &page, &arena, &more, why);
    }
    arena_release(&arena);
    return status;
}

static enum status look_into(struct census *c, struct store *store, int64_t since_ms, struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    struct query q = offers_times_query(since_ms);
    enum status status = ST_OK;
    bool more = true;
    while (status == ST_OK && more && !stopping(c)) {
        struct page page;
        status = store_query(store, &q, clock_monotonic_ms() + STORE_WAIT_MS, &arena, &page, why);
        for (size_t i = 0; status == ST_OK && i < page.count && !stopping(c); i++) {
            const struct offer offer = offer_of_row(&page.rows[i]);
            note_offer(c, &offer);
            if (c->options.counts_mails)
                status = count_mails(c, store, offer.partition, why);
        }
        if (status == ST_OK)
            status = store_turn_page(&q, &page, &arena, &more, why);
    }
    arena_release(&arena);
    return status;
}

enum status census_look(struct census *census, struct store *store, struct census_result *result,
                        struct fail *why)
{
    struct census *c = census;
    int64_t now_ms = clock_monotonic_ms();
    bool all = c->all_seen_ms == 0 || now_ms - c->all_seen_ms >= CLOCK_DAY_MS;
    c->result = (struct census_result){0};
    if (all)
        c->offer_count = 0; /* somebody may have removed some */
    enum status status = look_into(c, store, all ? 0 : store_now_ms(store) - RECENT_MS, why);
    if (status != ST_OK)
        return status;
    c->all_seen_ms = all && !stopping(c) ? now_ms : c->all_seen_ms;
    c->result.offers = c->offers;
    c->result.offer_count = c->offer_count;
    *result = c->result;
    return ST_OK;
}

enum status census_new(const struct census_options *options, struct census **census, struct fail *why)
{
    struct census *c = calloc(1, sizeof *c);
    if (!c)
        return fail_set(why, ST_NOMEM, 0, "no memory for the census");
    c->options = *options;
    *census = c;
    return ST_OK;
}

void census_free(struct census *census)
{
    free(census);
}
