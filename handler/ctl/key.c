/* The key file is edited with the rights of whoever runs the command: it lies in
 * a folder of root's, so that leadhook itself cannot give itself keys.
 *
 * Only a key's SHA-256 is written, so a key is shown this one time.  Last use and
 * count are those of a name, from the counters of this host; two keys of one name
 * are not told apart there.
 */
#include "handler/ctl/ctl.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/encode.h"
#include "lib/base/file.h"
#include "lib/base/file_edit.h"
#include "lib/base/when.h"

/* L2 */
#include "lib/auth/keys.h"

/* The commands' words */
#include "handler/ctl/commands.h"

enum {
    RANDOM_BYTES = 32,
    SECOND_BYTES = 20, /* of "2026-11-21T10:00:00" and what ends it */
    LINE_BYTES = 512   /* a line that is made here has half of that */
};

enum action { ACTION_NEW, ACTION_LIST, ACTION_RETIRE };

struct request {
    enum action action;
    const char *name;
    bool signing;
    int64_t at_ms; /* of retire; 0: now */
};

/* One line of the file that holds a key; wiped by who has read it. */
struct entry {
    struct key_line line;
    struct span text; /* the line, without blanks at its ends */
    size_t number;
};

static int failed(enum status status, const struct fail *why)
{
    (void)fprintf(stderr, "leadctl: %s\n", why->text);
    switch (status) {
    case ST_AGAIN:
    case ST_CHANGED:
        return EX_TEMPFAIL;
    case ST_NOT_FOUND:
        return EX_NOINPUT;
    case ST_INVALID:
    case ST_DENIED:
    case ST_TOO_LARGE:
        return EX_CONFIG;
    case ST_REFUSED:
        return EX_DATAERR;
    case ST_OK:
    case ST_EXISTS:
    case ST_UNKNOWN:
    case ST_NOMEM:
    case ST_IO:
    case ST_DAMAGED:
    case ST_OVER_QUOTA:
    case ST_BUG:
        return EX_IOERR;
    }
    return EX_IOERR;
}

/* "2026-11-21T10:00:00Z" */
static const char *second_of(int64_t ms, char text[CLOCK_TEXT_BYTES])
{
    clock_iso_time(ms, text);
    (void)snprintf(text + SECOND_BYTES - 1, CLOCK_TEXT_BYTES - SECOND_BYTES, "Z");
    return text;
}

/* --- the file ------------------------------------------------------------------------------------------------ */

/* The next line that holds a key; false: there is none, or *status says what is wrong. */
static bool next_entry(struct span *rest, size_t *number, struct entry *entry, enum status *status,
                       struct fail *why)
{
    struct span line;
    while (*status == ST_OK && span_next(rest, '\n', &line)) {
        *entry = (struct entry){.text = span_trim(line), .number = ++*number};
        *status = key_line_parse(line, &entry->line, why);
        if (*status == ST_OK && entry->line.kind != KEY_NOTHING)
            return true;
    }
    return false;
}

/* Whether leadhook would take the file with this content; says what is wrong with it. */
static enum status check_content(const char *path, struct span text, struct fail *why)
{
    struct buf mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct keys *keys = NULL;
    enum status status = keys_parse(text, path, clock_wall_ms(), &keys, &mistakes, why);
    struct span rest = buf_span(&mistakes), line;
    bool is_first = true; /* which *why has */
    while (status != ST_OK && span_next(&rest, '\n', &line)) {
        if (line.len && !is_first)
            (void)fprintf(stderr, "leadctl: %.*s\n", SPAN_FMT(line));
        is_first = false;
    }
    keys_free(keys);
    buf_release(&mistakes);
    return status;
}

static bool is_live(const struct entry *entry, int64_t now_ms)
{
    return now_ms < entry->line.retire_ms;
}

/* The live keys, or signing secrets, of a name: how many, and the oldest.  A key that does not say when it was
 * made is from before there were such dates. */
static enum status find_live(const char *path, struct span text, const struct request *request,
                             struct entry *oldest, size_t *count, struct fail *why)
{
    struct entry entry;
    size_t number = 0;
    enum status status = ST_OK;
    int64_t now_ms = clock_wall_ms();
    *count = 0;
    while (next_entry(&text, &number, &entry, &status, why)) {
        bool is_it = (entry.line.kind == KEY_SIGNING) == request->signing &&
                     span_eq(entry.line.name, span_of(request->name)) && is_live(&entry, now_ms);
        crypto_wipe(entry.line.bytes, sizeof entry.line.bytes);
        if (is_it && ((*count)++ == 0 || entry.line.created_ms < oldest->line.created_ms))
            *oldest = entry;
    }
    if (status == ST_INVALID)
        fail_prefix(why, "%s:%zu", path, number);
    return status;
}

static const char *kind_of(const struct request *request)
{
    return request->signing ? "signing secret" : "key";
}

/* "made 2026-11-21T10:00:00Z, line 3" */
static void describe(const struct entry *entry, char text[LINE_BYTES])
{
    (void)snprintf(text, LINE_BYTES, "%s%.*s, line %zu", entry->line.created.len ? "made " : "of unknown age",
                   SPAN_FMT(entry->line.created), entry->number);
}

static void tell_reload(void)
{
    (void)fprintf(stderr, "Every leadhook process has to read the file anew for that: send it SIGHUP\n"
                          "('pkill -HUP -x leadhook', 'systemctl kill -s HUP leadhook@*' or\n"
                          "'supervisorctl signal HUP leadhook:*'); its log then says event=reloaded.\n");
}

/* --- new ----------------------------------------------------------------------------------------------------- */

/* Makes the secret and the line that stands for it. */
static enum status make_key(const struct request *request, struct buf *shown, struct buf *line,
                            struct fail *why)
{
    unsigned char random[RANDOM_BYTES], digest[SHA256_BYTES];
    char hex[2 * SHA256_BYTES + 1], created[CLOCK_TEXT_BYTES];
    enum status status = crypto_random(random, sizeof random, why);
    if (status != ST_OK)
        return status;
    if (request->signing) {
        buf_add_text(shown, "whsec_");
        base64_add(shown, (struct span){(const char *)random, sizeof random});
        buf_addf(line, "%s %.*s", request->name, SPAN_FMT(buf_span(shown)));
    } else {
        hex_write(random, sizeof random, hex);
        buf_add_text(shown, hex);
        status = crypto_sha256(buf_span(shown), digest, why);
        hex_write(digest, sizeof digest, hex);
        buf_addf(line, "%s sha256:%s", request->name, hex);
    }
    buf_addf(line, " created=%s\n", second_of(clock_wall_ms(), created));
    crypto_wipe(random, sizeof random);
    if (status == ST_OK)
        status = buf_status(shown, "a key", why);
    if (status == ST_OK)
        status = buf_status(line, "a line of the key file", why);
    return status;
}

static enum status add_key(const char *path, const struct request *request, struct file_edit *edit,
                           struct buf *text, struct buf *shown, struct fail *why)
{
    struct buf line = BUF_INIT(LINE_BYTES);
    struct entry oldest = {0};
    size_t live = 0;
    enum status status = make_key(request, shown, &line, why);
    if (status == ST_OK)
        status = find_live(path, buf_span(text), request, &oldest, &live, why);
    if (status == ST_OK && live >= LIMIT_LIVE_KEYS_PER_NAME) {
        char which[LINE_BYTES];
        describe(&oldest, which);
        (void)fprintf(stderr,
                      "leadctl: The older one is %s. When it is no longer used: 'leadctl key retire %s%s'.\n",
                      which, request->name, request->signing ? " --signing" : "");
        status = fail_set(why, ST_REFUSED, 0, "'%s' has two live %ss already, nothing was added",
                          request->name, kind_of(request));
    }
    if (text->len && text->data[text->len - 1] != '\n')
        buf_add_char(text, '\n');
    buf_add(text, buf_span(&line));
    if (status == ST_OK)
        status = buf_status(text, path, why);
    if (status == ST_OK)
        status = check_content(path, buf_span(text), why);
    if (status == ST_OK)
        status = file_edit_commit(edit, buf_span(text), why);
    buf_release_secret(&line);
    return status;
}

static int tell_new(const struct request *request, const struct buf *shown)
{
    bool told = printf("%s%.*s\n", request->signing ? "" : "/leads?key=", SPAN_FMT(buf_span(shown))) > 0 &&
                fflush(stdout) == 0;
    if (!told) {
        (void)fprintf(stderr,
                      "leadctl: the new %s could not be shown, and nobody knows it: run 'leadctl key retire' "
                      "when the older one is gone, or delete its line\n",
                      kind_of(request));
        return EX_IOERR;
    }
    (void)fprintf(
        stderr, "%s\n",
        request->signing
            ? "This is the signing secret; it stands in the key file as it is. Give it to the sender."
            : "This is the path for Partner Center, behind https:// and your host's name; what stands\n"
              "behind key= is the key. It is not kept anywhere and not shown again.");
    tell_reload();
    return 0;
}

/* --- retire -------------------------------------------------------------------------------------------------- */

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

/* The line with this retire= in the place of one that it has. */
static void write_retired(struct buf *out, struct span line, const char *retire)
{
    while (line.len) {
        size_t blanks = 0, end;
        while (blanks < line.len && is_blank(line.ptr[blanks]))
            blanks++;
        for (end = blanks; end < line.len && !is_blank(line.ptr[end]);)
            end++;
        if (!span_starts(span_from(line, blanks), SPAN_LIT("retire=")))
            buf_add(out, span_cut(line, 0, end));
        line = span_from(line, end);
    }
    buf_addf(out, " retire=%s", retire);
}

static enum status retire_key(const char *path, const struct request *request, struct file_edit *edit,
                              struct buf *text, struct entry *retired, size_t *live, struct fail *why)
{
    struct buf changed = BUF_INIT(LIMIT_KEY_FILE_BYTES);
    char retire[CLOCK_TEXT_BYTES];
    enum status status = find_live(path, buf_span(text), request, retired, live, why);
    if (status == ST_OK && *live == 0)
        status = fail_set(why, ST_NOT_FOUND, 0, "'%s' has no live %s in '%s'", request->name,
                          kind_of(request), path);
    if (status == ST_OK &&
        !buf_reserve(&changed, LIMIT_KEY_FILE_BYTES)) /* it would leave copies as it grows */
        status = buf_status(&changed, path, why);
    if (status == ST_OK) {
        size_t from = (size_t)(retired->text.ptr - text->data);
        buf_add(&changed, span_cut(buf_span(text), 0, from));
        write_retired(&changed, retired->text,
                      second_of(request->at_ms ? request->at_ms : clock_wall_ms(), retire));
        buf_add(&changed, span_from(buf_span(text), from + retired->text.len));
        status = buf_status(&changed, path, why);
    }
    if (status == ST_OK)
        status = check_content(path, buf_span(&changed), why);
    if (status == ST_OK)
        status = file_edit_commit(edit, buf_span(&changed), why);
    buf_release_secret(&changed);
    return status;
}

static int tell_retired(const struct request *request, const struct entry *entry, size_t live)
{
    char which[LINE_BYTES], at[CLOCK_TEXT_BYTES];
    describe(entry, which);
    if (request->at_ms)
        (void)printf("The %s of '%s' (%s) is good until %s.\n", kind_of(request), request->name, which,
                     second_of(request->at_ms, at));
    else
        (void)printf("The %s of '%s' (%s) is retired.\n", kind_of(request), request->name, which);
    if (live == 1)
        (void)printf("'%s' has no other %s: %s requests with it are refused.\n", request->name,
                     kind_of(request), request->at_ms ? "then" : "from now on");
    bool told = fflush(stdout) == 0;
    tell_reload();
    return told ? 0 : EX_IOERR;
}

static int edit_file(const char *path, const struct request *request)
{
    struct file_edit edit = FILE_EDIT_INIT;
    struct buf text = BUF_INIT(LIMIT_KEY_FILE_BYTES), shown = BUF_INIT(LINE_BYTES);
    struct entry retired = {0};
    struct fail why = {0};
    size_t live = 0;
    enum status status = ST_OK;
    /* All the room at once: buffers that grow leave copies behind. */
    if (!buf_reserve(&text, LIMIT_KEY_FILE_BYTES) || !buf_reserve(&shown, LINE_BYTES))
        status = fail_set(&why, ST_NOMEM, 0, "no memory for the key file");
    if (status == ST_OK)
        status = file_edit_begin(path, &edit, &text, &why);
    if (status == ST_OK && request->action == ACTION_NEW)
        status = add_key(path, request, &edit, &text, &shown, &why);
    else if (status == ST_OK)
        status = retire_key(path, request, &edit, &text, &retired, &live, &why);
    file_edit_end(&edit);
    int code;
    if (status == ST_UNKNOWN && request->action == ACTION_NEW) { /* the key is in the file */
        code = failed(status, &why);
        (void)tell_new(request, &shown);
    } else if (status != ST_OK)
        code = failed(status, &why);
    else if (request->action == ACTION_NEW)
        code = tell_new(request, &shown);
    else
        code = tell_retired(request, &retired, live);
    buf_release_secret(&text);
    buf_release_secret(&shown);
    return code;
}

/* --- list ---------------------------------------------------------------------------------------------------- */

static const char *kind_in_list(enum key_kind kind)
{
    return kind == KEY_SIGNING ? "signing" : kind == KEY_PLAIN ? "PLAIN TEXT" : "key";
}

static void show_entry(const struct entry *entry, const struct metrics *metrics)
{
    const struct key_line *l = &entry->line;
    char retire[CLOCK_TEXT_BYTES] = "", last[CLOCK_TEXT_BYTES] = "never", requests[CLOCK_TEXT_BYTES] = "-";
    struct key_use use = {0};
    char memory[LINE_BYTES];
    struct buf state = BUF_FIXED(memory);
    if (l->retire_ms == KEY_NEVER)
        buf_add_text(&state, "live");
    else
        buf_addf(&state, "%s %s", is_live(entry, clock_wall_ms()) ? "live until" : "retired",
                 second_of(l->retire_ms, retire));
    if (!metrics)
        (void)snprintf(last, sizeof last, "-");
    else if (metrics_key_use(metrics, l->name, &use))
        (void)second_of(use.last_s * 1000, last);
    if (metrics)
        (void)snprintf(requests, sizeof requests, "%" PRIu64, use.requests);
    (void)printf("%-24.*s  %-10s  %-20.*s  %-31.*s  %-20s  %s\n", SPAN_FMT(l->name), kind_in_list(l->kind),
                 (int)(l->created.len ? l->created.len : 1), l->created.len ? l->created.ptr : "-",
                 SPAN_FMT(buf_span(&state)), last, requests);
}

/* What a person should do about what the list shows. */
static void advise(const struct entry *entry, const struct metrics *metrics)
{
    struct key_use use;
    if (!is_live(entry, clock_wall_ms()))
        return;
    if (entry->line.kind == KEY_PLAIN)
        (void)printf(
            "\n'%.*s', line %zu: the file shows this key to all who can read it. Replace it: 'leadctl key "
            "new %.*s', enter the new one in Partner Center, then 'leadctl key retire %.*s'.\n",
            SPAN_FMT(entry->line.name), entry->number, SPAN_FMT(entry->line.name),
            SPAN_FMT(entry->line.name));
    if (metrics && !metrics_key_use(metrics, entry->line.name, &use))
        (void)printf(
            "\n'%.*s', line %zu: not used on this host since its counters began. What nobody uses on any "
            "host is better retired.\n",
            SPAN_FMT(entry->line.name), entry->number);
}

static enum status for_each(struct span text, void (*show)(const struct entry *, const struct metrics *),
                            const struct metrics *metrics, struct fail *why)
{
    struct entry entry;
    size_t number = 0;
    enum status status = ST_OK;
    while (next_entry(&text, &number, &entry, &status, why)) {
        crypto_wipe(entry.line.bytes, sizeof entry.line.bytes);
        show(&entry, metrics);
    }
    return status;
}

/* The counters of this host; NULL, and why on the screen: there are none. */
static struct metrics *look_at_metrics(const struct service *service)
{
    struct buf path = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct metrics *metrics = NULL;
    struct fail why;
    service_metrics_path(&service->config, &path);
    enum status status = buf_status(&path, "the path of the counters", &why);
    if (status == ST_OK)
        status = path.len ? metrics_view(path.data, &metrics, &why)
                          : fail_set(&why, ST_NOT_FOUND, 0, "without relay_socket nothing is counted");
    if (status != ST_OK)
        (void)fprintf(stderr, "leadctl: when keys were last used is not known: %s\n", why.text);
    buf_release(&path);
    return metrics;
}

static int list_keys(const struct service *service)
{
    const char *path = service->config.keys_file;
    struct buf text = BUF_INIT(LIMIT_KEY_FILE_BYTES);
    struct fail why = {0};
    enum status status = ST_OK;
    if (!buf_reserve(&text, LIMIT_KEY_FILE_BYTES))
        status = fail_set(&why, ST_NOMEM, 0, "no memory for the key file");
    if (status == ST_OK)
        status = file_read(path, FILE_PRIVATE, &text, &why);
    if (status == ST_OK)
        status = check_content(path, buf_span(&text), &why);
    if (status == ST_OK) {
        struct metrics *metrics = look_at_metrics(service);
        (void)printf("%-24s  %-10s  %-20s  %-31s  %-20s  %s\n", "NAME", "KIND", "CREATED", "STATE",
                     "NAME LAST USED HERE", "REQUESTS");
        status = for_each(buf_span(&text), show_entry, metrics, &why);
        if (status == ST_OK)
            status = for_each(buf_span(&text), advise, metrics, &why);
        metrics_close(metrics);
    }
    buf_release_secret(&text);
    if (status != ST_OK)
        return failed(status, &why);
    return fflush(stdout) == 0 ? 0 : EX_IOERR;
}

/* --- arguments ----------------------------------------------------------------------------------------------- */

/* When a key is to end, which is still to come. */
static enum status read_end(const char *text, int64_t *ms, struct fail *why)
{
    int64_t now_ms = clock_wall_ms();
    if (when_given(span_of(text), now_ms, ms, NULL) != ST_OK || *ms <= now_ms)
        return fail_set(why, ST_INVALID, 0,
                        "--at takes a time that is still to come: 2026-12-31 or 2026-12-31T10:30 (UTC)");
    return ST_OK;
}

/* why: {0} where the usage says all there is to say. */
static bool read_arguments(int argc, char **argv, struct request *request, struct fail *why)
{
    static const char *const words[] = {"new", "list", "retire"};
    size_t action = 0;
    *request = (struct request){0};
    while (argc > 1 && action < sizeof words / sizeof words[0] && strcmp(argv[1], words[action]) != 0)
        action++;
    if (argc < 2 || action == sizeof words / sizeof words[0])
        return false;
    request->action = (enum action)action;
    for (int i = 2; i < argc; i++) {
        if (strcmp(argv[i], "--signing") == 0)
            request->signing = true;
        else if (strcmp(argv[i], "--at") == 0 && request->action == ACTION_RETIRE && i + 1 < argc) {
            if (read_end(argv[++i], &request->at_ms, why) != ST_OK)
                return false;
        } else if (argv[i][0] != '-' && !request->name)
            request->name = argv[i];
        else
            return false;
    }
    return request->action == ACTION_LIST ? argc == 2 : request->name != NULL;
}

/* Blanks and the like would make another line of it.  ST_INVALID: it is no name. */
static enum status check_name(const char *name, struct fail *why)
{
    char memory[LINE_BYTES];
    struct buf line = BUF_FIXED(memory);
    struct key_line parsed;
    buf_addf(&line, "%s 0123456789abcdef", name);
    enum status status = line.error == ST_OK ? key_line_parse(buf_span(&line), &parsed, why) : ST_INVALID;
    if (status == ST_OK && (parsed.kind == KEY_NOTHING || !span_eq(parsed.name, span_of(name))))
        status = ST_INVALID;
    if (status == ST_INVALID)
        status = fail_set(why, status, 0, "a name has 1 to 64 letters, digits, '.', '_' or '-'");
    return status;
}

int ctl_key(struct service *service, int argc, char **argv)
{
    struct request request;
    struct fail why = {0};
    if (!read_arguments(argc, argv, &request, &why))
        return command_misused("key", argc, argv, &why);
    enum status status = request.name ? check_name(request.name, &why) : ST_OK;
    if (status != ST_OK) {
        int code = failed(status, &why);
        return status == ST_INVALID ? EX_USAGE : code;
    }
    return request.action == ACTION_LIST ? list_keys(service)
                                         : edit_file(service->config.keys_file, &request);
}
