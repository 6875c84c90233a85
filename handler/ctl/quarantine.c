#include "handler/ctl/ctl.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/file.h"
#include "lib/base/text.h"

/* L6 */
#include "lib/store/offers.h"
#include "lib/store/quarantine.h"
#include "lib/store/spool.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/print.h"

enum { COMMIT_WAIT_MS = 30000, WIPE_WAIT_MS = 5000, LINE_BYTES = 64 * 1024 };

/* A cell of at least so many bytes: keys and types have no characters beyond ASCII. */
static void add_cell(struct buf *line, struct span text, size_t width)
{
    size_t begin = line->len;
    if (text.len)
        text_add_line(line, text);
    else
        buf_add_char(line, '-');
    while (line->len < begin + width && line->error == ST_OK)
        buf_add_char(line, ' ');
    buf_add_text(line, "  ");
}

/* id, time, key, content type, bytes, reason */
static void print_entry(FILE *out, const struct quarantine_entry *entry)
{
    char memory[LINE_BYTES];
    struct buf line = BUF_FIXED(memory);
    const struct quarantined *item = &entry->item;
    add_cell(&line, span_of(item->id), LEAD_DELIVERY_TEXT);
    ctl_add_time(&line, item->received_ms);
    buf_add_text(&line, "  ");
    add_cell(&line, item->key_name, 12);
    add_cell(&line, item->content_type, 33);
    buf_addf(&line, "%7zu  ", entry->body_bytes);
    text_add_line(&line, item->reason);
    (void)fprintf(out, "%.*s\n", SPAN_FMT(buf_span(&line)));
}

/* --- list ---------------------------------------------------------------------------------------------------- */

static enum status list_entry(void *context, const struct quarantine_entry *entry, struct fail *why)
{
    size_t *count = context;
    if ((*count)++ == 0)
        (void)printf("%-32s  %-19s  %-12s  %-33s  %7s  %s\n", "ID", "RECEIVED (UTC)", "KEY", "CONTENT TYPE",
                     "BYTES", "REASON");
    print_entry(stdout, entry);
    return ferror(stdout) ? fail_set(why, ST_IO, 0, "cannot write the list") : ST_OK;
}

/* The list is the store's: an empty one, or none, must not hide what waits elsewhere. */
static void tell_of_spool(const struct config *config)
{
    struct spool_state state;
    if (config->spool_path && spool_inspect(config->spool_path, &state, NULL) == ST_OK &&
        state.quarantined > 0)
        (void)fprintf(stderr, "leadctl: %" PRIu64 " more in this host's spool until the table answers\n",
                      state.quarantined);
}

static int list(struct store *store)
{
    struct fail why;
    size_t count = 0;
    enum status status = quarantine_list(store, list_entry, &count, &why);
    if (status == ST_OK && count == 0)
        (void)printf("nothing is in quarantine\n");
    if (status == ST_OK && fflush(stdout) != 0)
        status = fail_set(&why, ST_IO, 0, "cannot write the list");
    return status == ST_OK ? 0 : ctl_failed(status, &why);
}

/* --- show ---------------------------------------------------------------------------------------------------- */

/* The body goes to standard output, byte for byte, so that it can be kept in a
 * file, corrected and resubmitted; what is known of it goes to standard error. */
static int show(const struct quarantine_entry *entry)
{
    struct fail why;
    struct span body = entry->item.body;
    print_entry(stderr, entry);
    if (isatty(STDOUT_FILENO)) {
        ctl_print_text(body);
        (void)putchar('\n');
    } else if (body.len) {
        (void)fwrite(body.ptr, 1, body.len, stdout);
    }
    if (fflush(stdout) != 0 || ferror(stdout))
        return ctl_failed(fail_set(&why, ST_IO, 0, "cannot write the payload"), &why);
    return 0;
}

/* --- out of quarantine --------------------------------------------------------------------------------------- */

/* Deletes the item, and its bytes in the database's log. */
static enum status take_out(struct store *store, const struct quarantine_entry *entry, struct fail *why)
{
    struct fail left;
    enum status status = quarantine_drop(store, entry, why);
    if (status == ST_OK && store_wipe(store, clock_monotonic_ms() + WIPE_WAIT_MS, &left) != ST_OK)
        (void)fprintf(stderr, "leadctl: %s stays in the database's log until that begins anew: %s\n",
                      entry->item.id, left.text);
    return status;
}

/* --- resubmit ------------------------------------------------------------------------------------------------ */

/* Stands in for the hashes of a lead that has nothing to tell it by.  Made of
 * the id, so that the same resubmission, begun again, finds its own row; or of the
 * sender's name for it, so that the same delivery, sent again, does. */
static enum status random_of(const struct quarantined *item, unsigned char random[LEAD_RANDOM_BYTES],
                             struct fail *why)
{
    _Static_assert((int)LEAD_RANDOM_BYTES == (int)SHA256_BYTES, "a digest stands in for random bytes");
    if (item->webhook_id.len)
        return lead_bytes_of_name(item->key_name, item->webhook_id, random, why);
    struct buf text = BUF_INIT(128);
    buf_addf(&text, "leadhook resubmits %s", item->id);
    enum status status = buf_status(&text, "an id", why);
    if (status == ST_OK)
        status = crypto_sha256(buf_span(&text), random, why);
    buf_release(&text);
    return status;
}

/* Writes the lead as the service would have at its receipt. */
static enum status commit(struct service *service, struct store *store, struct lead_write *write,
                          struct arena *arena, struct fail *why)
{
    struct committer_options options = service_committer(service);
    int64_t deadline_ms = clock_monotonic_ms() + COMMIT_WAIT_MS;
    struct offers *offers = NULL;
    enum status status = offers_new(&offers, why);
    if (status == ST_OK)
        status = offers_ensure(offers, store, NULL, &write->delivery, deadline_ms, why);
    if (status == ST_OK) {
        leads_commit(store, &options.rules, &write, 1, deadline_ms, arena);
        status = write->status;
        *why = write->why;
    }
    offers_free(offers);
    return status;
}

static int stays(const char *id, const struct fail *why, size_t offset, bool has_offset)
{
    (void)fprintf(stderr, "leadctl: %s stays in quarantine: %s", id, why->text);
    if (has_offset)
        (void)fprintf(stderr, ", at byte %zu", offset);
    (void)fprintf(stderr, "\n");
    return EX_DATAERR;
}

/* body: the item's own, or a corrected one. */
static int resubmit(struct service *service, struct store *store, const struct quarantine_entry *entry,
                    struct span body)
{
    const struct quarantined *item = &entry->item;
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    unsigned char random[LEAD_RANDOM_BYTES];
    struct lead lead = {0};
    struct lead_write write = {.delivery = {.lead = &lead,
                                            .received_ms = item->received_ms,
                                            .key_name = item->key_name,
                                            .webhook_id = item->webhook_id,
                                            .request_id = item->request_id}};
    struct fail why;
    size_t offset = 0;
    int code = 0;
    memcpy(write.delivery.id, item->id, sizeof write.delivery.id);
    enum status status = random_of(item, random, &why);
    if (status != ST_OK) {
        code = ctl_failed(status, &why);
        goto out;
    }
    status = lead_understand(body, item->content_type, span_of(service->config.withhold_domains),
                             item->webhook_id.len ? LEAD_BY_NAME : LEAD_BY_BODY, random, &arena, &lead,
                             &offset, &why);
    if (status != ST_OK) {
        bool has_offset = body.len > 0 && (status == ST_INVALID || status == ST_TOO_LARGE);
        code = status == ST_NOMEM ? ctl_failed(status, &why) : stays(item->id, &why, offset, has_offset);
        goto out;
    }
    status = commit(service, store, &write, &arena, &why);
    if (status != ST_OK) {
        code = status == ST_REFUSED ? stays(item->id, &why, 0, false) : ctl_failed(status, &why);
        goto out;
    }
    if (write.has_mail)
        service_hint(service, lead.partition);
    (void)printf("%s %s in %s\n", write.is_repeat ? "counted as a repeat:" : "stored:", item->id,
                 lead.partition);
    status = take_out(store, entry, &why);
    if (status != ST_OK && status != ST_NOT_FOUND) {
        (void)fprintf(
            stderr,
            "leadctl: %s is stored, but still in quarantine as well (%s): run the same command again\n",
            item->id, why.text);
        code = EX_TEMPFAIL;
    }
out:
    arena_release(&arena);
    return code;
}

static int resubmit_file(struct service *service, struct store *store, const struct quarantine_entry *entry,
                         const char *path)
{
    struct buf body = BUF_INIT(service->config.body_max_bytes);
    struct fail why;
    enum status status = strcmp(path, "-") == 0 ? file_read_open(STDIN_FILENO, "standard input", &body, &why)
                                                : file_read(path, FILE_PUBLIC, &body, &why);
    int code;
    if (status == ST_OK) {
        code = resubmit(service, store, entry, buf_span(&body));
    } else {
        (void)fprintf(stderr, "leadctl: %s\n", why.text);
        code = status == ST_TOO_LARGE ? EX_DATAERR : EX_NOINPUT;
    }
    buf_release(&body);
    return code;
}

/* --- drop ---------------------------------------------------------------------------------------------------- */

static int drop(struct store *store, const struct quarantine_entry *entry)
{
    struct fail why;
    enum status status = take_out(store, entry, &why);
    if (status != ST_OK)
        return ctl_failed(status, &why);
    (void)printf("dropped: ");
    print_entry(stdout, entry);
    return 0;
}

/* --- the command --------------------------------------------------------------------------------------------- */

enum action { ACTION_LIST, ACTION_SHOW, ACTION_RESUBMIT, ACTION_DROP };

struct request {
    enum action action;
    const char *id;
    const char *file; /* of ACTION_RESUBMIT, or NULL */
};

static bool read_arguments(int argc, char **argv, struct request *request)
{
    static const char *const words[] = {"list", "show", "resubmit", "drop"};
    for (size_t i = 0; argc > 1 && i < sizeof words / sizeof words[0]; i++) {
        if (strcmp(argv[1], words[i]) != 0)
            continue;
        *request = (struct request){.action = (enum action)i, .id = argc > 2 ? argv[2] : NULL};
        if (request->action == ACTION_RESUBMIT && argc == 5 && strcmp(argv[3], "--file") == 0) {
            request->file = argv[4];
            return true;
        }
        return argc == (request->action == ACTION_LIST ? 2 : 3);
    }
    return false;
}

static int act_on_item(struct service *service, struct store *store, const struct request *request)
{
    struct arena arena = ARENA_INIT(LIMIT_FOUND_BYTES);
    struct quarantine_entry entry;
    struct fail why;
    enum status status = quarantine_find(store, span_of(request->id), &arena, &entry, &why);
    int code;
    if (status != ST_OK)
        code = ctl_failed(status, &why);
    else if (request->action == ACTION_SHOW)
        code = show(&entry);
    else if (request->action == ACTION_DROP)
        code = drop(store, &entry);
    else if (request->file)
        code = resubmit_file(service, store, &entry, request->file);
    else
        code = resubmit(service, store, &entry, entry.item.body);
    arena_release(&arena);
    return code;
}

int ctl_quarantine(struct service *service, int argc, char **argv)
{
    struct request request;
    struct store *store = NULL;
    struct fail why;
    if (!read_arguments(argc, argv, &request))
        return command_misused("quarantine", argc, argv, NULL);
    int code = request.action == ACTION_RESUBMIT ? service_read_routes(service, "leadctl") : 0;
    if (code != 0)
        return code;
    enum status status = service_open_store(service, &store, &why);
    if (status != ST_OK)
        return ctl_failed(status, &why);
    code = request.action == ACTION_LIST ? list(store) : act_on_item(service, store, &request);
    if (request.action == ACTION_LIST)
        tell_of_spool(&service->config);
    store_close(store);
    return code;
}
