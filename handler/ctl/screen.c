#include "handler/ctl/screen.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* L0 */
#include "lib/base/text.h"

enum {
    COLUMNS_USUAL = 80,
    COLUMNS_MOST = 1000,
    CELL_BYTES = 1024, /* four bytes for each character of the widest cell */
    LINE_BYTES = 8192
};

/* --- the terminal -------------------------------------------------------------------------------------------- */

static size_t terminal_columns(void)
{
    struct winsize size = {0};
    uint64_t number = 0;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
        return size.ws_col;
    return span_to_u64(span_of(getenv("COLUMNS")), COLUMNS_MOST, &number) && number > 0 ? (size_t)number
                                                                                        : COLUMNS_USUAL;
}

static bool terminal_has_colours(void)
{
    const char *no = getenv("NO_COLOR"), *terminal = getenv("TERM");
    return !(no && no[0]) && terminal && strcmp(terminal, "dumb") != 0;
}

/* The pager reads what is written to the pipe's end.  0: it cannot be run. */
static pid_t spawn_pager(const int pipe_ends[2])
{
    const char *wanted = getenv("PAGER");
    char shell[] = "sh", shell_option[] = "-c", less[] = "less", less_options[] = "-FRX";
    char *command = wanted ? strdup(wanted) : NULL;
    char *with_shell[] = {shell, shell_option, command, NULL};
    char *usual[] = {less, less_options, NULL};
    char **arguments = wanted ? with_shell : usual;
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t broken_pipe;
    pid_t pid = 0;
    if (wanted && !command)
        return 0;
    if (posix_spawn_file_actions_init(&actions) != 0)
        goto out_command;
    if (posix_spawnattr_init(&attributes) != 0)
        goto out_actions;
    (void)sigemptyset(&broken_pipe);
    (void)sigaddset(&broken_pipe, SIGPIPE); /* which leadctl ignores, and the pager may need */
    if (posix_spawnattr_setsigdefault(&attributes, &broken_pipe) != 0 ||
        posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF) != 0 ||
        posix_spawn_file_actions_adddup2(&actions, pipe_ends[0], STDIN_FILENO) != 0 ||
        posix_spawnp(&pid, arguments[0], &actions, &attributes, arguments, environ) != 0)
        pid = 0;
    (void)posix_spawnattr_destroy(&attributes);
out_actions:
    (void)posix_spawn_file_actions_destroy(&actions);
out_command:
    free(command);
    return pid;
}

static bool wants_pager(void)
{
    const char *pager = getenv("PAGER");
    return !pager || (pager[0] && strcmp(pager, "cat") != 0);
}

static void start_pager(struct screen *screen)
{
    int ends[2];
    if (!wants_pager() || pipe2(ends, O_CLOEXEC) != 0)
        return;
    /* For a `less` that is $PAGER as well; and no words of customers in a file of searches. */
    (void)setenv("LESS", "FRX", 0);
    (void)setenv("LESSCHARSET", "utf-8", 0);
    (void)setenv("LESSHISTFILE", "-", 0);
    screen->pager = spawn_pager(ends);
    if (screen->pager > 0 && dup2(ends[1], STDOUT_FILENO) < 0)
        (void)fprintf(stderr, "leadctl: the pager cannot be used: %s\n", strerror(errno));
    (void)close(ends[0]);
    (void)close(ends[1]);
    if (screen->pager > 0)
        (void)signal(SIGINT, SIG_IGN); /* is the pager's, which has the terminal until it ends */
}

void screen_open(struct screen *screen, enum screen_use use)
{
    *screen = (struct screen){.is_terminal = isatty(STDOUT_FILENO) != 0};
    if (!screen->is_terminal)
        return;
    screen->has_colours = terminal_has_colours();
    screen->columns = terminal_columns();
    if (use == SCREEN_PAGED)
        start_pager(screen);
}

bool screen_is_read(void)
{
    return !ferror(stdout);
}

enum status screen_close(struct screen *screen, const char *what, struct fail *why)
{
    errno = 0;
    bool failed = fflush(stdout) != 0 || ferror(stdout);
    int error = errno;
    if (screen->pager > 0) {
        int ended;
        int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        if (null >= 0) {
            (void)dup2(null, STDOUT_FILENO); /* the pager sees the end of its input */
            (void)close(null);
        }
        while (waitpid(screen->pager, &ended, 0) < 0 && errno == EINTR)
            ;
        (void)signal(SIGINT, SIG_DFL);
        screen->pager = 0;
    }
    return failed && error != EPIPE ? fail_set(why, ST_IO, error, "cannot write %s", what) : ST_OK;
}

const char *screen_style(const struct screen *screen, enum screen_style style)
{
    static const char *const sequences[] = {
        [STYLE_NORMAL] = "\033[0m",   [STYLE_HEAD] = "\033[1m",  [STYLE_FAINT] = "\033[2m",
        [STYLE_WARNING] = "\033[31m", [STYLE_GOOD] = "\033[32m",
    };
    return screen->has_colours ? sequences[style] : "";
}

/* --- tables -------------------------------------------------------------------------------------------------- */

/* Unicode's East Asian Width "W" and "F" as terminals draw it, by blocks. */
static size_t columns_of(uint32_t code)
{
    static const struct {
        uint32_t first, last;
    } wide[] = {
        {0x1100, 0x115F},   {0x2E80, 0x303E},   {0x3041, 0xA4CF},   {0xAC00, 0xD7A3},
        {0xF900, 0xFAFF},   {0xFE30, 0xFE6F},   {0xFF00, 0xFF60},   {0xFFE0, 0xFFE6},
        {0x1F300, 0x1F64F}, {0x1F900, 0x1F9FF}, {0x20000, 0x3FFFD},
    };
    if ((code >= 0x0300 && code <= 0x036F) || (code >= 0x20D0 && code <= 0x20FF))
        return 0; /* drawn over the one before */
    for (size_t i = 0; i < sizeof wide / sizeof wide[0]; i++) {
        if (code >= wide[i].first && code <= wide[i].last)
            return 2;
    }
    return 1;
}

/* The longest prefix that takes no more than so many columns; *used is how many it takes. */
static struct span cut_columns(struct span text, size_t columns, size_t *used)
{
    size_t at = 0;
    *used = 0;
    while (at < text.len) {
        uint32_t code = 0xFFFD;
        size_t len = utf8_decode(span_from(text, at), &code);
        size_t takes = columns_of(code);
        if (*used + takes > columns)
            break;
        *used += takes;
        at += len ? len : 1;
    }
    return span_cut(text, 0, at);
}

/* Columns on the screen that a text takes. */
static size_t width_of(struct span text)
{
    size_t used;
    (void)cut_columns(text, SIZE_MAX, &used);
    return used;
}

/* As it will be shown, with one column more than `most` where it is to be cut. */
static void clean(struct buf *out, struct span text, size_t most)
{
    text_add_line(out, utf8_cut_bytes(span_trim(text), 4 * (most + 1)));
}

void column_measure(struct column *column, struct span text)
{
    char memory[CELL_BYTES];
    struct buf shown = BUF_FIXED(memory);
    clean(&shown, text, column->most);
    size_t width = width_of(buf_span(&shown)), title = width_of(span_of(column->title));
    width = width > column->most ? column->most : width;
    column->width = column->width > width ? column->width : width;
    column->width = column->width > title ? column->width : title;
}

void columns_fit(struct column *columns, size_t count, const struct screen *screen)
{
    while (screen->columns) {
        struct column *widest = NULL;
        size_t all = 0;
        for (size_t i = 0; i < count; i++) {
            struct column *c = &columns[i];
            all += c->width + (i > 0 ? 2 : 0);
            if (c->width > c->least && (!widest || c->width > widest->width))
                widest = c;
        }
        if (all <= screen->columns || !widest)
            return;
        widest->width--;
    }
}

static void add_blanks(struct buf *line, size_t count)
{
    for (size_t i = 0; i < count; i++)
        buf_add_char(line, ' ');
}

void column_add(struct buf *line, const struct column *column, struct span text)
{
    char memory[CELL_BYTES];
    struct buf shown = BUF_FIXED(memory);
    size_t used;
    const size_t dots = column->width > 3 ? 3 : column->width;
    clean(&shown, text, column->most);
    struct span part = cut_columns(buf_span(&shown), column->width, &used);
    bool is_cut = part.len < shown.len;
    if (is_cut)
        part = cut_columns(buf_span(&shown), column->width - dots, &used);
    size_t left = column->width - used - (is_cut ? dots : 0);
    if (column->is_number)
        add_blanks(line, left);
    buf_add(line, part);
    buf_add(line, span_cut(SPAN_LIT("..."), 0, is_cut ? dots : 0));
    if (!column->is_number)
        add_blanks(line, left);
    buf_add_text(line, "  ");
}

void screen_print_line(const struct screen *screen, enum screen_style style, struct span line)
{
    while (line.len && line.ptr[line.len - 1] == ' ')
        line.len--;
    if (style == STYLE_NORMAL)
        (void)printf("%.*s\n", SPAN_FMT(line));
    else
        (void)printf("%s%.*s%s\n", screen_style(screen, style), SPAN_FMT(line),
                     screen_style(screen, STYLE_NORMAL));
}

void columns_print_head(const struct screen *screen, const struct column *columns, size_t count)
{
    char memory[LINE_BYTES];
    struct buf line = BUF_FIXED(memory);
    for (size_t i = 0; i < count; i++)
        column_add(&line, &columns[i], span_of(columns[i].title));
    screen_print_line(screen, STYLE_HEAD, buf_span(&line));
}
