/* A report is counted and drawn in memory and only then written, so that a file is
 * there whole or not at all, and an older one of its name is kept until then.
 */
#include "handler/ctl/ctl.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/when.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/find.h"
#include "handler/ctl/print.h"
#include "handler/ctl/report/mail.h"
#include "handler/ctl/report/page.h"
#include "handler/ctl/report/tally.h"

enum { DAYS_DEFAULT = 30 };

struct request {
    int64_t since_ms;   /* 0: not given */
    int64_t until_ms;   /* the same */
    bool is_week;       /* instead of the two */
    const char *output; /* NULL: standard output */
    bool is_mailed;
    const char *mail_to; /* NULL: to whom the configuration says */
    enum tally_details details;
};

/* --- options ------------------------------------------------------------------------------------------------- */

/* Whether the option at argv[*at] is this one.  *value: what is behind it, as a word of its own, to which *at moves,
 * or behind '='; NULL: nothing. */
static bool is_option(const char *name, int argc, char **argv, int *at, const char **value)
{
    size_t len = strlen(name);
    if (strncmp(argv[*at], name, len) != 0 || (argv[*at][len] != '\0' && argv[*at][len] != '='))
        return false;
    if (argv[*at][len] == '=')
        *value = argv[*at] + len + 1;
    else
        *value = *at + 1 < argc ? argv[++*at] : NULL;
    return true;
}

static enum status read_time(const char *name, const char *value, int64_t *ms, struct fail *why)
{
    enum status status = when_given(span_of(value), clock_true_ms(), ms, why);
    if (status != ST_OK)
        fail_prefix(why, "%s", name);
    return status;
}

static enum status take_option(struct request *request, int argc, char **argv, int *at, struct fail *why)
{
    const char *value;
    if (strcmp(argv[*at], "--no-personal-data") == 0) {
        request->details = TALLY_NOT_PERSONAL;
        return ST_OK;
    }
    if (strcmp(argv[*at], "--week") == 0) {
        request->is_week = true;
        return ST_OK;
    }
    /* What is behind it may be another option: no address begins so. */
    if (strcmp(argv[*at], "--mail") == 0 && (*at + 1 == argc || argv[*at + 1][0] == '-')) {
        request->is_mailed = true;
        request->mail_to = NULL;
        return ST_OK;
    }
    if (is_option("--mail", argc, argv, at, &value)) {
        request->is_mailed = true;
        request->mail_to = value;
        return ST_OK;
    }
    if (is_option("--since", argc, argv, at, &value))
        return read_time("--since", value, &request->since_ms, why);
    if (is_option("--until", argc, argv, at, &value))
        return read_time("--until", value, &request->until_ms, why);
    if (!is_option("--output", argc, argv, at, &value))
        return fail_set(why, ST_INVALID, 0, "there is no option '%.64s'", argv[*at]);
    if (!value || !value[0])
        return fail_set(why, ST_INVALID, 0, "--output needs the name of a file");
    request->output = value;
    return ST_OK;
}

static int64_t day_of(int64_t wall_ms)
{
    return wall_ms - wall_ms % CLOCK_DAY_MS;
}

/* Whole days: from the one in which --since lies to the one in which the last instant before --until does. */
static enum status choose_days(const struct request *request, struct tally_options *options, struct fail *why)
{
    if (request->is_week && (request->since_ms || request->until_ms))
        return fail_set(why, ST_INVALID, 0, "--week says which days: give no --since or --until besides");
    if (request->is_week) {
        tally_choose_week(options, clock_true_ms());
        return ST_OK;
    }
    int64_t last_ms = request->until_ms ? request->until_ms - 1 : clock_true_ms();
    int64_t end_ms = last_ms < 0 ? 0 : day_of(last_ms) + CLOCK_DAY_MS;
    int64_t since_ms = request->since_ms ? day_of(request->since_ms) : end_ms - DAYS_DEFAULT * CLOCK_DAY_MS;
    if (since_ms < 0 || since_ms >= end_ms)
        return fail_set(why, ST_INVALID, 0,
                        "there is no day between --since and --until, which is today where it is not given");
    if (end_ms - since_ms > LIMIT_REPORT_DAYS * CLOCK_DAY_MS)
        return fail_set(why, ST_INVALID, 0, "a report is about at most %u days: give a later --since",
                        LIMIT_REPORT_DAYS);
    options->since_ms = since_ms;
    options->days = (size_t)((end_ms - since_ms) / CLOCK_DAY_MS);
    return ST_OK;
}

static enum status read_options(int argc, char **argv, struct request *request, struct tally_options *options,
                                struct fail *why)
{
    enum status status = ST_OK;
    for (int i = 1; i < argc && status == ST_OK; i++)
        status = take_option(request, argc, argv, &i, why);
    if (status == ST_OK)
        status = choose_days(request, options, why);
    if (status == ST_OK && !request->output && !request->is_mailed && isatty(STDOUT_FILENO))
        status = fail_set(why, ST_INVALID, 0, "a page of HTML is nothing for a terminal: give --output FILE");
    options->details = request->details;
    return status;
}

/* --- counting ------------------------------------------------------------------------------------------------ */

static enum status visit_lead(void *context, struct entity *row, struct fail *why)
{
    struct tally *tally = context;
    return tally_add(tally, row, why);
}

/* Also what came before these days: whose leads are not their first ones. */
static enum status make(struct service *service, const struct tally_options *options, struct report *report,
                        struct fail *why)
{
    struct find_filter filter = {.until_ms = options->since_ms + (int64_t)options->days * CLOCK_DAY_MS};
    struct find find = {.filter = &filter, .select = TALLY_COLUMNS, .is_patient = true};
    const struct tally_result *result;
    struct tally *tally = NULL;
    report->made_ms = clock_true_ms();
    enum status status = service_open_store(service, &find.store, why);
    if (status == ST_OK)
        status = tally_new(options, &tally, why);
    if (status == ST_OK)
        status = find_each(&find, visit_lead, tally, why);
    if (status == ST_OK) {
        result = tally_finish(tally);
        report_title(&report->title, result);
        report_words(&report->words, result);
        status = report_page(&report->page, result, report->made_ms, why);
    }
    if (status == ST_OK)
        status = buf_status(&report->title, "the report's title", why);
    if (status == ST_OK)
        status = buf_status(&report->words, "the report's words", why);
    tally_free(tally);
    store_close(find.store);
    return status;
}

/* --- writing ------------------------------------------------------------------------------------------------- */

static bool write_page(FILE *out, struct span page)
{
    return fwrite(page.ptr, 1, page.len, out) == page.len && fflush(out) == 0;
}

/* The new file has taken the name when this succeeds; otherwise nothing is left of it. */
static enum status write_beside(const char *path, char *beside, struct span page, struct fail *why)
{
    int fd = mkostemp(beside, O_CLOEXEC); /* of mode 0600 */
    FILE *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (!out) {
        int reason = errno;
        if (fd >= 0) {
            (void)close(fd);
            (void)unlink(beside);
        }
        return fail_set(why, ST_IO, reason, "cannot make a file beside '%s'%s", path,
                        reason == EACCES ? " (run by root, leadctl writes as the user of the store; "
                                           "`leadctl report >FILE` writes as you)"
                                         : "");
    }
    enum status status = ST_OK;
    if (!write_page(out, page) || fsync(fd) != 0)
        status = fail_set(why, ST_IO, errno, "cannot write '%s'", path);
    if (fclose(out) != 0 && status == ST_OK)
        status = fail_set(why, ST_IO, errno, "cannot write '%s'", path);
    if (status == ST_OK && rename(beside, path) != 0)
        status = fail_set(why, ST_IO, errno, "cannot give a file the name '%s'", path);
    if (status != ST_OK)
        (void)unlink(beside);
    return status;
}

static enum status write_file(const char *path, struct span page, struct fail *why)
{
    struct stat info;
    struct buf beside = BUF_INIT(LIMIT_PATH_BYTES);
    if (lstat(path, &info) == 0 && !S_ISREG(info.st_mode))
        return fail_set(why, ST_INVALID, 0, "'%s' is there and is no file", path);
    buf_addf(&beside, "%s.XXXXXX", path);
    enum status status = buf_status(&beside, "the name of the file", why);
    if (status == ST_OK)
        status = write_beside(path, beside.data, page, why);
    buf_release(&beside);
    return status;
}

/* path: NULL for the standard output. */
static enum status write_out(const char *path, struct span page, struct fail *why)
{
    if (path)
        return write_file(path, page, why);
    return write_page(stdout, page) ? ST_OK
                                    : fail_set(why, ST_IO, errno, "cannot write to the standard output");
}

/* --- the command --------------------------------------------------------------------------------------------- */

static int deliver(const struct config *config, const struct request *request,
                   const struct report_recipients *recipients, const struct report *report)
{
    struct fail why;
    enum status status = ST_OK;
    if (request->output || !request->is_mailed)
        status = write_out(request->output, buf_span(&report->page), &why);
    if (status != ST_OK)
        return ctl_failed(status, &why) == EX_USAGE ? EX_USAGE : EX_IOERR;
    return request->is_mailed ? report_mail(config, recipients, report) : 0;
}

int ctl_report(struct service *service, int argc, char **argv)
{
    const struct config *config = &service->config;
    struct request request = {0};
    struct tally_options options = {.repeat_window_ms = config->repeat_window_s * 1000LL,
                                    .newest = LIMIT_REPORT_NEWEST};
    struct report report = {.page = BUF_INIT(LIMIT_REPORT_BYTES),
                            .title = BUF_INIT(LIMIT_MAIL_HEADER_BYTES),
                            .words = BUF_INIT(LIMIT_MAIL_TEXT_BYTES)};
    struct report_recipients recipients = {0};
    struct fail why;
    int code = 0;
    enum status status = read_options(argc, argv, &request, &options, &why);
    if (status == ST_OK && request.mail_to)
        status = report_recipients_given(&recipients, request.mail_to, &why);
    if (status != ST_OK)
        return command_misused("report", argc, argv, &why);
    if (request.is_mailed)
        code = report_recipients_find(&recipients, service);
    if (code != 0)
        return code;
    if (request.is_mailed && config->detail == MAIL_SUMMARY)
        options.details = TALLY_NOT_PERSONAL; /* notify_detail: no personal data in mails */
    report.since_ms = options.since_ms;
    report.days = options.days;
    status = make(service, &options, &report, &why);
    code = status == ST_OK ? deliver(config, &request, &recipients, &report) : ctl_failed(status, &why);
    report_recipients_release(&recipients, service);
    buf_release(&report.page);
    buf_release(&report.title);
    buf_release(&report.words);
    return code;
}
