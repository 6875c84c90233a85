#include "handler/ctl/ctl.h"

/* System */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

/* L0 */
#include "lib/base/clock.h"

/* L6 */
#include "lib/store/offers.h"

/* The commands' words */
#include "handler/ctl/commands.h"

enum {
    PAGE_ROWS = 32, /* sqlite gives the messages as well */
    STORE_WAIT_MS = 30000,
    ATTEMPTS_LOST = 3
};
#define COLUMNS_OF_STATE "PartitionKey,RowKey,Timestamp,State,Ambiguous,NextTime,Error"

struct retry {
    struct store *store;
    struct span id;      /* only mails about deliveries whose id begins so; blank: all */
    bool with_waiting;   /* also those that wait for later */
    size_t mails;        /* that are due now */
    size_t left;         /* that match and are in work, due anyway or were changed meanwhile */
    bool partition_done; /* of the partition in work: the directory names it as active */
};

static enum status make_due(struct retry *r, const struct entity *row, struct mail_row *mail,
                            struct fail *why)
{
    struct arena arena = ARENA_INIT(LIMIT_REQUEST_ARENA);
    struct operation operation = {.kind = OPERATION_MERGE};
    enum status status = ST_AGAIN;
    bool maybe_done = false;
    mail->state = MAIL_STATE_WAITING;
    mail->owner = span_empty();
    mail->tries = 0;
    mail->ambiguous = mail->ambiguous > 0 ? 1 : 0; /* the next attempt is still a repeat */
    mail->next_ms = 0;                             /* long ago by any clock */
    if (!row_of_mail_state(&operation.entity, row, mail, span_empty(), &arena))
        status = fail_set(why, ST_NOMEM, 0, "no memory for a mail's row");
    for (int lost = 0; lost < ATTEMPTS_LOST && (status == ST_AGAIN || status == ST_UNKNOWN); lost++) {
        size_t failed;
        status = store_transact(r->store, TABLE_LEADS, &operation, 1, clock_monotonic_ms() + STORE_WAIT_MS,
                                &failed, why);
        if (status == ST_CHANGED && maybe_done)
            status = ST_OK;
        maybe_done = maybe_done || status == ST_UNKNOWN;
    }
    arena_release(&arena);
    return status;
}

static enum status visit_mail(void *context, struct entity *row, struct fail *why)
{
    struct retry *r = context;
    struct mail_row mail;
    if (mail_of_row(row, &mail, NULL) != ST_OK || !span_starts(mail.delivery_id, r->id))
        return ST_OK;
    bool is_later = mail.state == MAIL_STATE_WAITING && mail.next_ms > store_now_ms(r->store);
    if (mail.state != MAIL_STATE_PARKED && !(r->with_waiting && is_later)) {
        r->left++;
        return ST_OK;
    }
    if (!r->partition_done) {
        /* First, so that every host's mailer looks here however this ends. */
        enum status touched =
            offers_touch(r->store, row->partition_key, clock_monotonic_ms() + STORE_WAIT_MS, why);
        if (touched != ST_OK)
            return touched;
        r->partition_done = true;
    }
    enum status status = make_due(r, row, &mail, why);
    if (status == ST_OK) {
        r->mails++;
    } else if (status == ST_CHANGED || status == ST_NOT_FOUND) {
        r->left++;
        status = ST_OK;
    }
    return status;
}

static enum status visit_offer(void *context, struct span partition, struct fail *why)
{
    struct retry *r = context;
    struct query q = mails_query(partition, COLUMNS_OF_STATE, PAGE_ROWS);
    r->partition_done = false;
    return store_each(r->store, &q, STORE_WAIT_MS, visit_mail, r, why);
}

/* why: {0} where the usage says all there is to say. */
static bool read_arguments(int argc, char **argv, struct retry *r, char id[LEAD_DELIVERY_TEXT + 1],
                           struct fail *why)
{
    if (argc > 2)
        return false;
    if (argc == 1)
        return true;
    r->with_waiting = true;
    if (strcmp(argv[1], "--all") == 0)
        return true;
    if (argv[1][0] == '-' || delivery_id_given(span_of(argv[1]), id, why) != ST_OK)
        return false;
    r->id = span_of(id);
    return true;
}

static int print_result(const struct retry *r)
{
    if (r->id.len && r->mails + r->left == 0) {
        (void)fprintf(stderr, "leadctl: no mail waits whose delivery's id begins with '%.*s'\n",
                      SPAN_FMT(r->id));
        return EX_NOINPUT;
    }
    (void)printf("%zu mail%s now due\n", r->mails, r->mails == 1 ? " is" : "s are");
    return 0;
}

int ctl_retry(struct service *service, int argc, char **argv)
{
    struct retry r = {0};
    char id[LEAD_DELIVERY_TEXT + 1] = {0};
    struct fail why = {0};
    if (!read_arguments(argc, argv, &r, id, &why))
        return command_misused("retry", argc, argv, &why);
    if (!service->config.mail_on) {
        (void)fprintf(stderr, "leadctl: mail_url is 'off': there is nothing to send\n");
        return EX_CONFIG;
    }
    enum status status = service_open_store(service, &r.store, &why);
    if (status == ST_OK)
        status = offers_each(r.store, STORE_WAIT_MS, visit_offer, &r, &why);
    store_close(r.store);
    if (r.mails > 0)
        service_hint(service, ""); /* all offers; it also ends a pause after configuration errors */
    if (status != ST_OK) {
        (void)fprintf(stderr, "leadctl: %s (%zu mails are due now; run the same command again)\n", why.text,
                      r.mails);
        return EX_UNAVAILABLE;
    }
    return print_result(&r);
}
