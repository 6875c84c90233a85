/* One line for each lead: the row as JSON with the types of its columns, as the Table service itself is sent it, so
 * that nothing is lost on the way back.
 *
 * Leads come offer by offer and by their keys, so the last whole line of a file says where an export that was cut off
 * ended.  Keys begin with a hash, whose first digits tell how much of an offer is behind us.
 */
#include "handler/ctl/ctl.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* L0 */
#include "lib/base/file.h"

/* L6 */
#include "lib/store/offers.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/find.h"
#include "handler/ctl/owner.h"
#include "handler/ctl/print.h"
#include "handler/ctl/progress.h"

enum {
    OFFERS_WAIT_MS = 60000,
    TAIL_BYTES = 64 * 1024,
    KEPT_BYTES = 64 * 1024, /* of the memory for a line */
    HASH_DIGITS_USED = 8    /* of a key, to tell how far an offer is done */
};

static const char LINE_BEGINS[] = "{\"PartitionKey\":\""; /* entity_write */

struct request {
    struct find_filter filter;
    const char *path; /* NULL: the standard output */
    bool resumes;
};

struct export
{
    FILE *out;
    bool is_terminal; /* out */
    struct find find;
    struct arena arena; /* of where to begin */
    struct buf line;
    struct progress progress;
    uint64_t leads;
    uint64_t left_out; /* values */
    /* For the progress: */
    uint64_t offers;        /* that there are */
    uint64_t offers_before; /* the one in work */
    char offer[LIMIT_PARTITION_KEY_BYTES + 1];
};

/* --- where to go on ------------------------------------------------------------------------------------------ */

/* The offset behind the last end of a line; 0: there is none. */
static enum status end_of_lines(int fd, off_t size, off_t *end, struct fail *why)
{
    char tail[TAIL_BYTES];
    while (size > 0) {
        off_t from = size > TAIL_BYTES ? size - TAIL_BYTES : 0;
        ssize_t got = pread(fd, tail, (size_t)(size - from), from);
        if (got != (ssize_t)(size - from))
            return fail_set(why, ST_IO, got < 0 ? errno : 0, "cannot read the export that was cut off");
        size_t at = span_find_last((struct span){tail, (size_t)got}, '\n');
        if (at != SPAN_NONE) {
            *end = from + (off_t)at + 1;
            return ST_OK;
        }
        size = from;
    }
    *end = 0;
    return ST_OK;
}

/* Takes the keys out of the file's last whole line, which begins at from. */
static enum status take_keys(struct export *e, int fd, off_t from, off_t end, struct fail *why)
{
    static const struct json_limits limits = {.depth = 1, .values = LIMIT_ENTITY_MEMBERS};
    struct arena arena = ARENA_INIT(4 * LIMIT_ENTITY_JSON_BYTES);
    const size_t len = (size_t)(end - from);
    const struct json *object;
    struct entity row;
    char *text = len <= LIMIT_ENTITY_JSON_BYTES ? arena_alloc(&arena, len) : NULL;
    enum status status = ST_INVALID;
    if (text && pread(fd, text, len, from) == (ssize_t)len)
        status = json_read((struct span){text, len}, &limits, &arena, &object, NULL, NULL);
    if (status == ST_OK)
        status = entity_read(object, &arena, &row, NULL);
    if (status != ST_OK || !is_lead_key(row.row_key))
        status = fail_set(why, ST_INVALID, 0, "the last line of the file is no lead: it is not of an export");
    else if (!arena_copy(&e->arena, row.partition_key, &e->find.after_offer) ||
             !arena_copy(&e->arena, row.row_key, &e->find.after_key))
        status = fail_set(why, ST_NOMEM, 0, "no memory to go on with the export");
    arena_release(&arena);
    return status;
}

/* Whether a file of one line, which has no end, is one that an export was cut off in: it is about to be emptied. */
static bool begins_like_export(int fd, off_t size)
{
    char begin[sizeof LINE_BEGINS - 1];
    size_t len = size < (off_t)sizeof begin ? (size_t)size : sizeof begin;
    return pread(fd, begin, len, 0) == (ssize_t)len && memcmp(begin, LINE_BEGINS, len) == 0;
}

/* A line that was cut off is taken away; what is before it stays. */
static enum status go_on(struct export *e, int fd, const char *path, struct fail *why)
{
    struct stat info;
    off_t end = 0, from = 0;
    if (fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
        return fail_set(why, ST_INVALID, 0, "'%s' is no file with which one could go on", path);
    enum status status = end_of_lines(fd, info.st_size, &end, why);
    if (status == ST_OK && end > 0)
        status = end_of_lines(fd, end - 1, &from, why);
    if (status == ST_OK && end > 0)
        status = take_keys(e, fd, from, end - 1, why);
    else if (status == ST_OK && !begins_like_export(fd, info.st_size))
        status = fail_set(why, ST_INVALID, 0, "'%s' is not of an export: it is left as it is", path);
    if (status == ST_OK && (ftruncate(fd, end) != 0 || lseek(fd, end, SEEK_SET) < 0))
        status = fail_set(why, ST_IO, errno, "cannot go on with '%s'", path);
    return status;
}

/* With the rights of whoever runs the command. */
static enum status open_output(struct export *e, const struct request *request, struct fail *why)
{
    if (!request->path) {
        e->out = stdout;
        e->is_terminal = isatty(STDOUT_FILENO) == 1;
        return ST_OK;
    }
    int flags = request->resumes ? O_RDWR | O_CREAT : O_WRONLY | O_CREAT | O_EXCL;
    int fd = open(request->path, flags | O_CLOEXEC, 0600);
    if (fd < 0 && errno == EEXIST)
        return fail_set(why, ST_EXISTS, 0,
                        "'%s' is there already: --resume goes on with an export that was cut off",
                        request->path);
    if (fd < 0)
        return fail_set(why, ST_IO, errno, "cannot make '%s'", request->path);
    enum status status = request->resumes ? go_on(e, fd, request->path, why) : ST_OK;
    if (status == ST_OK)
        status = file_sync_folder(request->path, why);
    e->out = status == ST_OK ? fdopen(fd, "w") : NULL;
    if (status == ST_OK && !e->out)
        status = fail_set(why, ST_NOMEM, 0, "no memory to write '%s'", request->path);
    if (!e->out)
        (void)close(fd);
    return status;
}

static enum status close_output(struct export *e, const struct request *request, struct fail *why)
{
    errno = 0;
    bool failed = fflush(e->out) != 0 || ferror(e->out);
    if (!failed && request->path)
        failed = fsync(fileno(e->out)) != 0;
    return failed ? fail_set(why, ST_IO, errno, "cannot write the export") : ST_OK;
}

/* --- how far it is ------------------------------------------------------------------------------------------- */

static enum status count_offer(void *context, struct span partition, struct fail *why)
{
    struct export *e = context;
    (void)why;
    e->offers++;
    if (span_compare(partition, e->find.after_offer) < 0)
        e->offers_before++;
    return ST_OK;
}

static double part_done(const struct export *e, struct span key)
{
    char digits[HASH_DIGITS_USED + 1];
    (void)snprintf(digits, sizeof digits, "%.*s", SPAN_FMT(span_cut(key, 0, HASH_DIGITS_USED)));
    double in_offer = (double)strtoul(digits, NULL, 16) / 4294967296.0;
    return ((double)e->offers_before + in_offer) / (double)(e->offers ? e->offers : 1);
}

static void show_progress(struct export *e, const struct entity *row)
{
    if (!e->progress.is_shown)
        return;
    if (!span_eq(span_of(e->offer), row->partition_key)) {
        /* An offer without leads between the two is counted with the next. */
        e->offers_before += e->offer[0] && !e->find.filter->offer[0] ? 1 : 0;
        (void)snprintf(e->offer, sizeof e->offer, "%.*s", SPAN_FMT(row->partition_key));
    }
    progress_show(&e->progress, e->leads, part_done(e, row->row_key));
}

/* --- the leads ----------------------------------------------------------------------------------------------- */

/* Values of types that leadhook does not know (a Double, a Guid) are somebody else's and cannot be written again. */
static uint64_t drop_unknown(struct entity *row)
{
    size_t kept = 0, all = row->count;
    for (size_t i = 0; i < row->count; i++) {
        if (row->properties[i].type != EDM_OTHER)
            row->properties[kept++] = row->properties[i];
    }
    row->count = kept;
    return all - kept;
}

static enum status write_lead(void *context, struct entity *row, struct fail *why)
{
    struct export *e = context;
    buf_recycle(&e->line, KEPT_BYTES);
    e->left_out += drop_unknown(row);
    enum status status = entity_write(&e->line, row, why);
    if (status != ST_OK)
        return status;
    buf_add_char(&e->line, '\n');
    status = buf_status(&e->line, "a lead", why);
    if (status == ST_OK && e->is_terminal)
        ctl_print_json(buf_span(&e->line));
    else if (status == ST_OK && fwrite(e->line.data, 1, e->line.len, e->out) != e->line.len)
        status = fail_set(why, ST_IO, errno, "cannot write the export");
    if (status != ST_OK)
        return status;
    e->leads++;
    show_progress(e, row);
    return ST_OK;
}

static enum status run(struct service *service, struct export *e, struct fail *why)
{
    enum status status = service_open_store(service, &e->find.store, why);
    progress_begin(&e->progress);
    e->progress.is_shown = e->progress.is_shown && !e->is_terminal; /* where it would stand among the leads */
    if (status == ST_OK && e->find.filter->offer[0])
        e->offers = 1;
    else if (status == ST_OK && e->progress.is_shown)
        status = offers_each(e->find.store, OFFERS_WAIT_MS, count_offer, e, why);
    if (status == ST_OK)
        status = find_each(&e->find, write_lead, e, why);
    progress_end(&e->progress);
    store_close(e->find.store);
    return status;
}

/* --- the command --------------------------------------------------------------------------------------------- */

static enum status read_options(int argc, char **argv, struct request *request, struct fail *why)
{
    enum status status = ST_OK;
    for (int i = 1; i < argc && status == ST_OK; i++) {
        if (strcmp(argv[i], "--resume") == 0)
            request->resumes = true;
        else if (strcmp(argv[i], "--output") == 0 && i + 1 < argc)
            request->path = argv[++i];
        else
            status = find_take_option(&request->filter, argc, argv, &i, why);
    }
    if (status == ST_OK && request->resumes && !request->path)
        return fail_set(why, ST_INVALID, 0, "--resume needs the file to go on with: --output FILE");
    return status == ST_OK ? find_check(&request->filter, why) : status;
}

static void tell(const struct export *e)
{
    (void)fprintf(stderr, "leadctl: %" PRIu64 " lead%s exported%s\n", e->leads, e->leads == 1 ? "" : "s",
                  e->find.after_key.len ? " behind those of before" : "");
    if (e->left_out)
        (void)fprintf(stderr,
                      "leadctl: %" PRIu64 " values of types that leadhook does not know were left out\n",
                      e->left_out);
}

static int cut_off(const struct export *e, const struct request *request, enum status status,
                   struct fail *why)
{
    int code = ctl_failed(status, why);
    if (request->path && status != ST_NOT_FOUND)
        (void)fprintf(stderr,
                      "leadctl: cut off behind %" PRIu64 " leads: the same command with --resume goes on\n",
                      e->leads);
    return code;
}

int ctl_export(struct service *service, int argc, char **argv)
{
    struct request request = {0};
    struct export e = {.line = BUF_INIT(LIMIT_ENTITY_JSON_BYTES),
                       .arena = ARENA_INIT(LIMIT_SECRET_FILE_BYTES)};
    struct fail why;
    if (read_options(argc, argv, &request, &why) != ST_OK)
        return command_misused("export", argc, argv, &why);
    e.find.filter = &request.filter;
    e.find.is_patient = true;
    int code = 0;
    enum status status = open_output(&e, &request, &why);
    if (status == ST_OK)
        status = owner_become(&service->config, &why);
    if (status != ST_OK) {
        (void)ctl_failed(status, &why);
        code = EX_CANTCREAT;
        goto out;
    }
    status = run(service, &e, &why);
    if (status == ST_OK)
        status = close_output(&e, &request, &why);
    if (status == ST_OK)
        tell(&e);
    else
        code = cut_off(&e, &request, status, &why);
out:
    if (e.out && e.out != stdout)
        (void)fclose(e.out);
    buf_release(&e.line);
    arena_release(&e.arena);
    return code;
}
