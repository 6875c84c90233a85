/* The store is asked again and again for rows written since the newest that was seen, less a while, because
 * transactions do not become visible in the order of their times; what was shown in that while is remembered.  By
 * the time of writing, not of receipt: what comes out of a spool is new here as well.
 */
#include "handler/ctl/ctl.h"

/* System */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/text.h"

/* The commands' words */
#include "handler/ctl/commands.h"
#include "handler/ctl/lead_text.h"
#include "handler/ctl/print.h"

enum {
    PAUSE_MS = 1000,  /* between two looks, if these are short ... */
    PAUSE_TIMES = 10, /* ... and so many times as long as the last one took if not */
    PAUSE_MOST_MS = 60000,
    PAUSE_DOWN_MS = 5000,   /* while the store does not answer */
    OVERLAP_MS = 30 * 1000, /* longer than a transaction may take */
    SEEN_COUNT = 16384      /* leads shown within that time; with more of them one may be shown again */
};

struct follower {
    struct find_filter filter;
    struct find find;
    enum lead_format format;
    struct screen screen;
    struct column columns[LEAD_TABLE_COLUMNS];
    int64_t asked_ms; /* what was written before this and OVERLAP_MS is seen */
    bool is_quiet;    /* what is there already is only noted */
    bool is_down;
    bool is_read; /* somebody reads what is printed */
    size_t next;  /* of seen */
    uint64_t seen[SEEN_COUNT];
};

/* Nothing is to be put in order: what was printed is out, and the store was only read. */
static void end_at_once(int signal_number)
{
    (void)signal_number;
    _exit(0);
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = end_at_once};
    (void)sigaction(SIGINT, &action, NULL);
    (void)sigaction(SIGTERM, &action, NULL);
}

/* Whether they wait: while a line is being printed, which shall be whole. */
static void hold_signals(bool hold)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGINT);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigprocmask(hold ? SIG_BLOCK : SIG_UNBLOCK, &signals, NULL);
}

/* A lead, and how often it was delivered: a customer who comes back is shown again, a mail that was sent is nothing
 * new.  0 is no lead. */
static uint64_t mark_of(const struct entity *row)
{
    char text[LIMIT_PARTITION_KEY_BYTES + LEAD_ROW_KEY_TEXT + 32];
    (void)snprintf(text, sizeof text, "%.*s/%.*s/%lld", SPAN_FMT(row->partition_key), SPAN_FMT(row->row_key),
                   (long long)entity_number(row, COLUMN_DELIVERIES, 1));
    uint64_t mark = text_hash(TEXT_HASH_BEGIN, text);
    return mark ? mark : 1;
}

static bool is_new(struct follower *f, const struct entity *row)
{
    uint64_t mark = mark_of(row);
    for (size_t i = 0; i < SEEN_COUNT; i++) {
        if (f->seen[i] == mark)
            return false;
    }
    f->seen[f->next] = mark;
    f->next = (f->next + 1) % SEEN_COUNT;
    return true;
}

static enum status print_lead(struct follower *f, const struct entity *row, struct fail *why)
{
    enum status status = ST_OK;
    if (f->format == LEAD_AS_TABLE)
        lead_table_print(&f->screen, f->columns, row);
    else
        status = lead_print(&f->screen, f->format, row, why);
    if (fflush(stdout) == 0)
        return status;
    f->is_read = errno != EPIPE;
    return fail_set(why, ST_IO, errno, "cannot write the leads");
}

static enum status visit(void *context, struct entity *row, struct fail *why)
{
    struct follower *f = context;
    if (!is_new(f, row) || f->is_quiet)
        return ST_OK;
    hold_signals(true);
    enum status status = print_lead(f, row, why);
    hold_signals(false);
    return status;
}

/* Says once that the store does not answer, and that it does again. */
static void tell_of_store(struct follower *f, enum status status, const struct fail *why)
{
    bool is_down = status != ST_OK;
    if (is_down && !f->is_down)
        (void)fprintf(stderr, "leadctl: %s; it is asked again until it answers\n", why->text);
    if (!is_down && f->is_down)
        (void)fprintf(stderr, "leadctl: the store answers again\n");
    f->is_down = is_down;
}

static bool may_pass(enum status status)
{
    return status == ST_OK || status == ST_AGAIN || status == ST_UNKNOWN;
}

static enum status look(struct follower *f, struct fail *why)
{
    int64_t begin_ms = clock_monotonic_ms();
    f->filter.written_ms = f->asked_ms - OVERLAP_MS;
    enum status status = find_each(&f->find, visit, f, why);
    if (status == ST_OK) { /* now the store's clock is known */
        f->asked_ms = store_now_ms(f->find.store) - (clock_monotonic_ms() - begin_ms);
        f->is_quiet = false;
    }
    if (!may_pass(status))
        return status;
    tell_of_store(f, status, why);
    return ST_OK;
}

/* Ends early when nobody reads any more. */
static void wait_ms(struct follower *f, int64_t ms)
{
    struct pollfd reader = {.fd = STDOUT_FILENO};
    if (poll(&reader, 1, (int)ms) > 0 && (reader.revents & (POLLERR | POLLHUP | POLLNVAL)))
        f->is_read = false;
}

static enum status follow(struct follower *f, struct fail *why)
{
    enum status status = ST_OK;
    while (status == ST_OK && f->is_read) {
        int64_t begin_ms = clock_monotonic_ms();
        status = look(f, why);
        int64_t pause_ms = (clock_monotonic_ms() - begin_ms) * PAUSE_TIMES;
        pause_ms = pause_ms < PAUSE_MS ? PAUSE_MS : pause_ms > PAUSE_MOST_MS ? PAUSE_MOST_MS : pause_ms;
        if (status == ST_OK)
            wait_ms(f, f->is_down ? PAUSE_DOWN_MS : pause_ms);
    }
    return status;
}

static void begin(struct follower *f)
{
    screen_open(&f->screen, SCREEN_PLAIN);
    if (f->format != LEAD_AS_TABLE)
        return;
    lead_table_assume(f->columns);
    columns_fit(f->columns, LEAD_TABLE_COLUMNS, &f->screen);
    columns_print_head(&f->screen, f->columns, LEAD_TABLE_COLUMNS);
    (void)fflush(stdout);
}

static enum status read_options(int argc, char **argv, struct follower *f, struct fail *why)
{
    enum status status = ST_OK;
    for (int i = 1; i < argc && status == ST_OK; i++) {
        if (strcmp(argv[i], "--json") == 0)
            f->format = LEAD_AS_JSON;
        else
            status = find_take_option(&f->filter, argc, argv, &i, why);
    }
    return status == ST_OK ? find_check(&f->filter, why) : status;
}

int ctl_follow(struct service *service, int argc, char **argv)
{
    static struct follower f; /* too large for the stack of a small machine; zero at first */
    struct fail why;
    f.find = (struct find){.filter = &f.filter, .select = LEAD_COLUMNS};
    if (read_options(argc, argv, &f, &why) != ST_OK)
        return command_misused("follow", argc, argv, &why);
    f.is_read = true;
    f.is_quiet = f.filter.since_ms == 0; /* with --since: those from then on as well */
    f.asked_ms = f.is_quiet ? clock_true_ms() : f.filter.since_ms;
    catch_signals();
    enum status status = service_open_store(service, &f.find.store, &why);
    if (status == ST_OK) {
        begin(&f);
        status = follow(&f, &why);
    }
    store_close(f.find.store);
    return status == ST_OK || !f.is_read ? 0 : ctl_failed(status, &why);
}
