#include "handler/ctl/ctl.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/text.h"

/* L6 */
#include "lib/store/purge.h"
#include "lib/store/spool.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/print.h"

enum { LINE_BYTES = 4096, OFFER_COLUMN = 40, WIPE_WAIT_MS = 30000 };

struct printing {
    struct purge_tally all;
    bool any;
};

static void print_part(void *context, struct span offer, const struct purge_tally *t)
{
    struct printing *p = context;
    char memory[LINE_BYTES];
    struct buf line = BUF_FIXED(memory);
    if (!p->any)
        (void)printf("%-*s  %9s  %9s  %-19s  %s\n", OFFER_COLUMN, "OFFER", "LEADS", "MAILS", "OLDEST (UTC)",
                     "NEWEST (UTC)");
    p->any = true;
    text_add_line(&line, offer.len ? offer : SPAN_LIT("(quarantine)"));
    while (line.len < OFFER_COLUMN && line.error == ST_OK)
        buf_add_char(&line, ' ');
    buf_addf(&line, "  %9" PRIu64 "  %9" PRIu64 "  ", offer.len ? t->leads : t->quarantined, t->mails);
    if (t->newest_ms) {
        ctl_add_time(&line, t->oldest_ms);
        buf_add_text(&line, "  ");
        ctl_add_time(&line, t->newest_ms);
    }
    (void)printf("%.*s\n", SPAN_FMT(buf_span(&line)));
    (void)fflush(stdout); /* before the next part, which may take long */
    p->all.leads += t->leads;
    p->all.mails += t->mails;
    p->all.quarantined += t->quarantined;
    p->all.changed += t->changed;
}

static void print_result(const struct purge_tally *all, enum purge_action action, int64_t before_ms)
{
    char memory[LINE_BYTES];
    struct buf before = BUF_FIXED(memory);
    ctl_add_time(&before, before_ms);
    (void)printf("%s before %.*s UTC: %" PRIu64 " lead%s, %" PRIu64 " mail%s, %" PRIu64 " in quarantine\n",
                 action == PURGE_DELETE ? "removed, as last received" : "last received",
                 SPAN_FMT(buf_span(&before)), all->leads, all->leads == 1 ? "" : "s", all->mails,
                 all->mails == 1 ? "" : "s", all->quarantined);
    if (all->changed > 0)
        (void)printf("%" PRIu64 " row%s changed meanwhile and stayed, as of a customer who came back\n",
                     all->changed, all->changed == 1 ? " was" : "s were");
    if (action == PURGE_COUNT)
        (void)printf("nothing was removed; to remove them: the same with --yes\n");
}

/* What waits for its delivery is not old, whenever it was received. */
static void tell_of_spool(const struct config *config)
{
    struct spool_state state;
    if (config->spool_path && spool_inspect(config->spool_path, &state, NULL) == ST_OK &&
        state.leads + state.quarantined > 0)
        (void)fprintf(stderr, "leadctl: %" PRIu64 " more wait in this host's spool and were not looked at\n",
                      state.leads + state.quarantined);
}

static bool read_arguments(int argc, char **argv, const char **age, enum purge_action *action)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--yes") == 0)
            *action = PURGE_DELETE;
        else if (strcmp(argv[i], "--older-than") == 0 && i + 1 < argc && !*age)
            *age = argv[++i];
        else
            return false;
    }
    return *age != NULL;
}

int ctl_purge(struct service *service, int argc, char **argv)
{
    const char *age = NULL;
    enum purge_action action = PURGE_COUNT;
    struct printing printing = {0};
    struct store *store = NULL;
    struct fail why;
    int64_t before_ms = 0;
    if (!read_arguments(argc, argv, &age, &action))
        return command_misused("purge", argc, argv, NULL);
    enum status status = service_open_store(service, &store, &why);
    if (status == ST_OK)
        status = purge_time_given(store, span_of(age), &before_ms, &why);
    if (status == ST_OK)
        status = purge_run(store, before_ms, action, print_part, &printing, &why);
    if (status == ST_OK)
        print_result(&printing.all, action, before_ms);
    if (status == ST_OK && action == PURGE_DELETE)
        status = store_wipe(store, clock_monotonic_ms() + WIPE_WAIT_MS, &why);
    if (status == ST_OK && (fflush(stdout) != 0 || ferror(stdout)))
        status = fail_set(&why, ST_IO, 0, "cannot write to the standard output");
    store_close(store);
    tell_of_spool(&service->config);
    if (status == ST_AGAIN && action == PURGE_DELETE)
        fail_prefix(&why, "not all was removed, run the same command again");
    return status == ST_OK ? 0 : ctl_failed(status, &why);
}
