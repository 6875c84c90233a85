/* A person's address is personal data: it is printed nowhere but in the export. */
#include "handler/ctl/ctl.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

/* L0 */
#include "lib/base/encode.h"
#include "lib/base/text.h"

/* L6 */
#include "lib/store/person.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/print.h"

/* A row on paper: what it holds as bytes takes up to six times as much as text with escapes. */
#define ROW_JSON_BYTES (LIMIT_ENTITY_JSON_BYTES + 8u * LIMIT_BODY_BYTES)

struct request {
    bool erases;
    bool is_sure;
    bool is_thorough;
    const char *address; /* "-": from standard input */
};

/* --- where to look -------------------------------------------------------------------------------------------- */

struct places {
    struct store *store;
    struct spool *spool; /* NULL: there is none */
};

static enum status open_places(struct service *service, struct places *places, struct fail *why)
{
    const struct config *config = &service->config;
    const struct spool_options options = {.path = config->spool_path, .max_bytes = config->spool_max_bytes};
    struct spool_state state;
    enum status status = service_open_store(service, &places->store, why);
    if (status != ST_OK || !config->spool_path)
        return status;
    status = spool_inspect(config->spool_path, &state, why);
    if (status == ST_NOT_FOUND) /* none has been needed, and none shall be made */
        return ST_OK;
    return status == ST_OK || status == ST_DAMAGED ? spool_open(&options, &places->spool, why) : status;
}

static void close_places(struct places *places)
{
    spool_close(places->spool);
    store_close(places->store);
}

/* --- export --------------------------------------------------------------------------------------------------- */

struct printing {
    uint64_t rows;
    size_t lists;
    bool is_first; /* of its list */
};

/* As text where it is text. */
static void add_body(struct json_writer *w, struct span body)
{
    struct buf base64 = BUF_INIT(2 * LIMIT_BODY_BYTES);
    if (utf8_is_valid(body, NULL)) {
        json_add_text(w, SPAN_LIT("Body"), body);
    } else {
        base64_add(&base64, body);
        json_add_text(w, SPAN_LIT("BodyBase64"), buf_span(&base64));
    }
    buf_release(&base64);
}

static enum status print_row(void *context, struct entity *row, struct fail *why)
{
    struct printing *p = context;
    struct buf line = BUF_INIT(ROW_JSON_BYTES), body = BUF_INIT(LIMIT_BODY_BYTES);
    struct json_writer w;
    json_begin(&w, &line);
    ctl_add_row(&w, row);
    enum status status = entity_find(row, "Body") ? entity_long_value(row, "Body", &body, why) : ST_OK;
    if (status == ST_OK && body.len > 0)
        add_body(&w, buf_span(&body));
    if (status == ST_OK)
        status = json_end(&w, "a row", why);
    if (status == ST_OK) {
        (void)printf("%s\n    ", p->is_first ? "" : ",");
        ctl_print_json(buf_span(&line));
        p->is_first = false;
        p->rows++;
        if (ferror(stdout))
            status = fail_set(why, ST_IO, 0, "cannot write the export");
    }
    buf_release(&body);
    buf_release(&line);
    return status;
}

static void begin_list(struct printing *p, const char *name)
{
    (void)printf("%s\n  \"%s\": [", p->lists++ > 0 ? "," : "", name);
    p->is_first = true;
}

static void end_list(const struct printing *p)
{
    (void)printf("%s]", p->is_first ? "" : "\n  ");
}

static enum status export_store(struct printing *p, struct store *store, const struct person *person,
                                struct fail *why)
{
    static const char *const names[] = {"Leads", "Mails", "Quarantine"};
    enum status status = ST_OK;
    for (enum person_place place = PERSON_LEADS; place <= PERSON_QUARANTINED && status == ST_OK; place++) {
        begin_list(p, names[place]);
        status = person_each(store, person, place, print_row, p, why);
        end_list(p);
    }
    return status;
}

static enum status export_spool(struct printing *p, struct spool *spool, const struct person *person,
                                uint64_t *unread, struct fail *why)
{
    static const struct {
        enum person_place place;
        const char *name;
    } lists[] = {{PERSON_LEADS, "SpooledLeads"}, {PERSON_QUARANTINED, "SpooledQuarantine"}};
    enum status status = ST_OK;
    for (size_t i = 0; i < sizeof lists / sizeof lists[0] && status == ST_OK; i++) {
        *unread = 0;
        begin_list(p, lists[i].name);
        if (spool)
            status = person_each_spooled(spool, person, lists[i].place, print_row, p, unread, why);
        end_list(p);
    }
    return status;
}

/* --- what is said about it ------------------------------------------------------------------------------------ */

static uint64_t sum(const struct person_tally *t)
{
    return t->rows[PERSON_LEADS] + t->rows[PERSON_MAILS] + t->rows[PERSON_QUARANTINED];
}

static void print_tally(const char *verb, const struct person_tally *store, const struct person_tally *spool)
{
    (void)printf("%s in the store: leads %" PRIu64 ", mails %" PRIu64 ", in quarantine %" PRIu64 "\n", verb,
                 store->rows[PERSON_LEADS], store->rows[PERSON_MAILS], store->rows[PERSON_QUARANTINED]);
    if (spool)
        (void)printf("%s in this host's spool: leads %" PRIu64 ", in quarantine %" PRIu64 "\n", verb,
                     spool->rows[PERSON_LEADS], spool->rows[PERSON_QUARANTINED]);
}

/* What the answer does not cover. */
static int tell_of_unread(const struct config *config, uint64_t unread)
{
    if (unread == 0)
        return 0;
    (void)fprintf(
        stderr,
        "leadctl: %" PRIu64 " damaged file%s of the spool could not be searched ('%s.N'): `leadctl spool` "
        "shows what was lost with them, and once that is acknowledged the relay removes them; then run the "
        "same command again\n",
        unread, unread == 1 ? "" : "s", config->spool_path);
    return EX_TEMPFAIL;
}

static void tell_of_others(const struct config *config)
{
    if (config->spool_path)
        (void)fprintf(stderr, "leadctl: the spools of other hosts are theirs: run the same command there\n");
}

static int nothing(void)
{
    (void)fprintf(stderr,
                  "leadctl: nothing is kept of that address (leads without it, or with another one, are not "
                  "found by it; --thorough reads the text of every lead)\n");
    return EX_NOINPUT;
}

/* --- the actions ---------------------------------------------------------------------------------------------- */

static int export_person(const struct config *config, const struct places *places,
                         const struct person *person)
{
    struct printing p = {0};
    struct fail why;
    uint64_t unread = 0;
    (void)printf("{");
    enum status status = export_store(&p, places->store, person, &why);
    if (status == ST_OK)
        status = export_spool(&p, places->spool, person, &unread, &why);
    if (status == ST_OK)
        (void)printf("\n}\n");
    if (status == ST_OK && (fflush(stdout) != 0 || ferror(stdout)))
        status = fail_set(&why, ST_IO, 0, "cannot write the export");
    if (status != ST_OK)
        return ctl_failed(status, &why);
    tell_of_others(config);
    int code = tell_of_unread(config, unread);
    return code == 0 && p.rows == 0 ? nothing() : code;
}

static int count_person(const struct config *config, const struct places *places, const struct person *person)
{
    struct person_tally store, spool = {0};
    struct fail why;
    enum status status = person_count(places->store, person, &store, &why);
    if (status == ST_OK && places->spool)
        status = person_count_spooled(places->spool, person, &spool, &why);
    if (status != ST_OK)
        return ctl_failed(status, &why);
    print_tally("found", &store, places->spool ? &spool : NULL);
    if (sum(&store) + sum(&spool) > 0)
        (void)printf("nothing was erased; to erase it: the same with --yes\n");
    tell_of_others(config);
    int code = tell_of_unread(config, spool.unread);
    return code == 0 && sum(&store) + sum(&spool) == 0 ? nothing() : code;
}

static int erase_person(const struct config *config, const struct places *places, const struct person *person)
{
    struct person_tally store = {0}, spool = {0}, left = {0};
    struct fail why;
    enum status status = places->spool ? person_erase_spooled(places->spool, person, &spool, &why) : ST_OK;
    if (status == ST_OK)
        status = person_erase(places->store, person, &store, &why);
    if (status == ST_OK && places->spool) /* the store was read again already */
        status = person_count_spooled(places->spool, person, &left, &why);
    if (status == ST_OK && sum(&left) > 0)
        status = fail_set(&why, ST_AGAIN, 0, "more of this person came into the spool meanwhile");
    print_tally("erased", &store, places->spool ? &spool : NULL);
    if (status == ST_AGAIN)
        fail_prefix(&why, "run the same command again");
    if (status != ST_OK)
        return ctl_failed(status, &why);
    tell_of_others(config);
    int code = tell_of_unread(config, spool.unread);
    if (code != 0)
        return code;
    if (sum(&store) + sum(&spool) == 0)
        return nothing();
    (void)printf("read again: nothing is left\n");
    return 0;
}

/* --- the command ---------------------------------------------------------------------------------------------- */

static bool read_arguments(int argc, char **argv, struct request *r)
{
    if (argc < 3 || (strcmp(argv[1], "export") != 0 && strcmp(argv[1], "erase") != 0))
        return false;
    r->erases = strcmp(argv[1], "erase") == 0;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--yes") == 0 && r->erases)
            r->is_sure = true;
        else if (strcmp(argv[i], "--thorough") == 0)
            r->is_thorough = true;
        else if ((argv[i][0] != '-' || argv[i][1] == '\0') && !r->address)
            r->address = argv[i];
        else
            return false;
    }
    return r->address != NULL;
}

int ctl_person(struct service *service, int argc, char **argv)
{
    const struct config *config = &service->config;
    char line[CTL_ADDRESS_LINE];
    struct request request = {0};
    struct places places = {0};
    struct person person;
    struct fail why;
    if (!read_arguments(argc, argv, &request))
        return command_misused("person", argc, argv, NULL);
    enum status status = person_of(ctl_read_address(span_of(request.address), line), &person, &why);
    person.is_thorough = request.is_thorough;
    if (status == ST_OK)
        status = open_places(service, &places, &why);
    int code = status != ST_OK    ? ctl_failed(status, &why)
               : !request.erases  ? export_person(config, &places, &person)
               : !request.is_sure ? count_person(config, &places, &person)
                                  : erase_person(config, &places, &person);
    close_places(&places);
    return code;
}
