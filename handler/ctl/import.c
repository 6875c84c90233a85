/* Reads what `export` has written, line by line.  A line that cannot be taken is told and passed over; the rest goes
 * on, and the exit status says that there was one.
 */
#include "handler/ctl/ctl.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* L0 */
#include "lib/base/lines.h"

/* L6 */
#include "lib/store/restore.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/owner.h"
#include "handler/ctl/print.h"
#include "handler/ctl/progress.h"

enum { BAD_LINES_SHOWN = 10 };

struct request {
    const char *path; /* "-": the standard input */
    bool mails;
};

struct import {
    struct restore restore;
    struct lines lines;
    struct arena arena; /* of a line */
    struct progress progress;
    off_t size; /* of the input; 0: not known */
    uint64_t bad;
};

static void tell_bad(struct import *m, const struct fail *why)
{
    m->bad++;
    progress_end(&m->progress);
    if (m->bad <= BAD_LINES_SHOWN)
        (void)fprintf(stderr, "leadctl: line %" PRIu64 ": %s\n", m->lines.number, why->text);
    if (m->bad == BAD_LINES_SHOWN)
        (void)fprintf(stderr, "leadctl: more such lines are only counted\n");
}

/* The line as a row.  ST_INVALID, ST_TOO_LARGE: it is none that can be taken. */
static enum status read_row(struct import *m, struct span line, struct entity *row, struct fail *why)
{
    static const struct json_limits limits = {.depth = 1, .values = LIMIT_ENTITY_MEMBERS};
    const struct json *object;
    struct span copy; /* which is read in its place */
    if (!arena_copy(&m->arena, line, &copy))
        return fail_set(why, ST_NOMEM, 0, "no memory for a line");
    enum status status = json_read(copy, &limits, &m->arena, &object, NULL, why);
    if (status == ST_OK)
        status = entity_read(object, &m->arena, row, why);
    return status == ST_OK ? restore_check(row, why) : status;
}

static enum status take_line(struct import *m, struct span line, struct fail *why)
{
    struct entity row;
    struct fail bad;
    if (span_trim(line).len == 0)
        return ST_OK;
    arena_reset(&m->arena);
    enum status status = read_row(m, line, &row, &bad);
    if (status == ST_INVALID || status == ST_TOO_LARGE) {
        tell_bad(m, &bad);
        return ST_OK;
    }
    if (status != ST_OK) {
        *why = bad;
        return status;
    }
    return restore_add(&m->restore, &row, why);
}

/* The last line may have no end; one that is too long is blank. */
static enum status next_line(struct import *m, struct span *line, bool *is_last, struct fail *why)
{
    enum status status = lines_next(&m->lines, line, why);
    if (status == ST_TOO_LARGE) {
        tell_bad(m, why);
        *line = span_empty();
        return ST_OK;
    }
    *is_last = status == ST_INVALID || status == ST_NOT_FOUND;
    if (status == ST_NOT_FOUND)
        *line = span_empty();
    return *is_last ? ST_OK : status;
}

static enum status take_all(struct import *m, struct fail *why)
{
    enum status status = ST_OK;
    for (bool is_last = false; status == ST_OK && !is_last;) {
        struct span line;
        status = next_line(m, &line, &is_last, why);
        if (status == ST_OK)
            status = take_line(m, line, why);
        progress_show(&m->progress, m->lines.number,
                      m->size > 0 ? (double)m->lines.bytes / (double)m->size : PROGRESS_UNKNOWN);
    }
    return status == ST_OK ? restore_flush(&m->restore, why) : status;
}

static void print_result(const struct import *m)
{
    const struct restore *r = &m->restore;
    (void)printf("%" PRIu64 " lead%s added, %" PRIu64 " there already", r->added, r->added == 1 ? "" : "s",
                 r->present);
    if (r->mails)
        (void)printf(", %" PRIu64 " mail%s to be sent", r->mailed, r->mailed == 1 ? "" : "s");
    if (m->bad)
        (void)printf(", %" PRIu64 " line%s not taken", m->bad, m->bad == 1 ? "" : "s");
    (void)printf("\n");
}

static enum status run(struct service *service, const struct lead_rules *mails, struct import *m,
                       struct fail *why)
{
    struct store *store = NULL;
    enum status status = service_open_store(service, &store, why);
    if (status != ST_OK)
        return status;
    restore_begin(&m->restore, store, mails);
    progress_begin(&m->progress);
    status = take_all(m, why);
    progress_end(&m->progress);
    restore_end(&m->restore);
    store_close(store);
    if (m->restore.mailed > 0)
        service_hint(service, ""); /* all offers */
    return status;
}

/* --- the command --------------------------------------------------------------------------------------------- */

static bool read_arguments(int argc, char **argv, struct request *request)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--mail") == 0)
            request->mails = true;
        else if ((argv[i][0] != '-' || !argv[i][1]) && !request->path)
            request->path = argv[i];
        else
            return false;
    }
    return request->path != NULL;
}

/* With the rights of whoever runs the command. */
static enum status open_input(const char *path, int *fd, off_t *size, struct fail *why)
{
    struct stat info;
    *fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (*fd < 0 || fstat(*fd, &info) != 0)
        return fail_set(why, ST_NOT_FOUND, errno, "cannot read '%s'", path);
    *size = S_ISREG(info.st_mode) ? info.st_size : 0;
    return ST_OK;
}

static int end_with(const struct import *m, enum status status, const struct fail *why)
{
    int code = m->bad ? EX_DATAERR : 0;
    if (status != ST_OK) {
        code = ctl_failed(status, why);
        (void)fprintf(stderr,
                      "leadctl: cut off at line %" PRIu64
                      ": the same command goes on, what is there already is not written again\n",
                      m->lines.number);
    }
    print_result(m);
    return fflush(stdout) == 0 ? code : EX_IOERR;
}

int ctl_import(struct service *service, int argc, char **argv)
{
    struct request request = {0};
    struct import m = {.arena = ARENA_INIT(4 * LIMIT_ENTITY_JSON_BYTES)};
    struct fail why;
    int fd = -1, code;
    if (!read_arguments(argc, argv, &request))
        return command_misused("import", argc, argv, NULL);
    if (request.mails && !service->config.mail_on) {
        (void)fprintf(stderr, "leadctl: mail_url is 'off': without --mail the leads are taken\n");
        return EX_CONFIG;
    }
    code = request.mails ? service_read_routes(service, "leadctl") : 0;
    if (code != 0)
        return code;
    struct lead_rules rules = {0};
    if (request.mails)
        rules = service_rules(service);
    enum status status = open_input(request.path, &fd, &m.size, &why);
    if (status == ST_OK)
        status = owner_become(&service->config, &why);
    if (status != ST_OK) {
        code = ctl_failed(status, &why);
        goto out;
    }
    lines_begin(&m.lines, fd, LIMIT_ENTITY_JSON_BYTES);
    status = run(service, request.mails ? &rules : NULL, &m, &why);
    code = end_with(&m, status, &why);
    lines_release(&m.lines);
out:
    if (fd > STDIN_FILENO)
        (void)close(fd);
    arena_release(&m.arena);
    return code;
}
