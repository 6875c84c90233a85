#include "lib/store/ledger.h"

/* System */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* L0 */
#include "lib/base/buf.h"
#include "lib/base/clock.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"
#include "lib/base/file.h"

/* A line: "A l <key> <check>\n", and before it another line end, so that one
 * that was cut off by a crash spoils no other. */
enum {
    CHECK_TEXT = 16,
    SIGNED_TEXT = 4 + LEDGER_KEY_TEXT,
    LINE_TEXT = SIGNED_TEXT + 1 + CHECK_TEXT,
    READ_BYTES = 64 * 1024,
    LOCK_WAIT_MS = 500,
    LOCK_STEP_MS = 2
};

enum status ledger_open(const char *spool_path, int *fd, struct fail *why)
{
    struct buf path = BUF_INIT(LIMIT_PATH_BYTES);
    buf_addf(&path, "%s.ledger", spool_path);
    enum status status = buf_status(&path, "the ledger's path", why);
    if (status == ST_OK) {
        *fd = open(path.data, O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (*fd < 0)
            status = fail_set(why, ST_IO, errno, "cannot open the spool's ledger '%s'", path.data);
    }
    buf_release(&path);
    return status;
}

bool ledger_is_gone(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 && info.st_nlink == 0;
}

static enum status check_of(struct span text, char check[CHECK_TEXT + 1], struct fail *why)
{
    unsigned char digest[SHA256_BYTES];
    enum status status = crypto_sha256(text, digest, why);
    if (status == ST_OK)
        hex_write(digest, CHECK_TEXT / 2, check);
    return status;
}

static enum status add_line(struct buf *lines, enum ledger_event event, enum ledger_kind kind,
                            struct span key, struct fail *why)
{
    char check[CHECK_TEXT + 1];
    if (key.len != LEDGER_KEY_TEXT)
        return fail_set(why, ST_BUG, 0, "a spooled row's key has another length");
    buf_add_char(lines, '\n');
    size_t begin = lines->len;
    buf_addf(lines, "%c %c %.*s", (char)event, (char)kind, SPAN_FMT(key));
    enum status status = check_of(span_from(buf_span(lines), begin), check, why);
    if (status == ST_OK)
        buf_addf(lines, " %s\n", check);
    return status;
}

bool ledger_hold(int fd, int64_t deadline_ms)
{
    int64_t end = clock_monotonic_ms() + LOCK_WAIT_MS;
    if (deadline_ms < end)
        end = deadline_ms;
    return file_lock(fd, LOCK_SH, end);
}

void ledger_release(int fd)
{
    (void)flock(fd, LOCK_UN);
}

/* Two locks on single bytes, which need not exist.  A turn is the room's; who waits for it stands in the door, so
 * that who leaves the room cannot be back before.  They belong to the open file and go with it. */
enum { TURN_ROOM, TURN_DOOR };

static bool lock_byte(int fd, off_t byte, int64_t deadline_ms)
{
    struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    while (fcntl(fd, F_OFD_SETLK, &lock) != 0) {
        if ((errno != EAGAIN && errno != EACCES && errno != EINTR) || clock_monotonic_ms() >= deadline_ms)
            return false;
        (void)poll(NULL, 0, LOCK_STEP_MS);
    }
    return true;
}

static void unlock_byte(int fd, off_t byte)
{
    struct flock lock = {.l_type = F_UNLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
    (void)fcntl(fd, F_OFD_SETLK, &lock);
}

bool ledger_take_turn(int fd, int64_t deadline_ms)
{
    if (!lock_byte(fd, TURN_DOOR, deadline_ms))
        return false;
    bool taken = lock_byte(fd, TURN_ROOM, deadline_ms);
    unlock_byte(fd, TURN_DOOR);
    return taken;
}

void ledger_end_turn(int fd)
{
    unlock_byte(fd, TURN_ROOM);
}

static enum status append(int fd, struct span lines, struct fail *why)
{
    ssize_t written;
    do {
        written = write(fd, lines.ptr, lines.len);
    } while (written < 0 && errno == EINTR);
    if (written < 0)
        return fail_set(why, ST_IO, errno, "cannot write the spool's ledger");
    if ((size_t)written < lines.len)
        return fail_set(why, ST_IO, 0, "cannot write the spool's ledger: the disk is full");
    /* Never again after a failure: the kernel would say yes and have written nothing. */
    if (fdatasync(fd) != 0)
        return fail_set(why, ST_IO, errno, "cannot sync the spool's ledger");
    return ST_OK;
}

enum status ledger_note(int fd, enum ledger_event event, enum ledger_kind kind, const struct span *keys,
                        size_t count, struct fail *why)
{
    struct buf lines = BUF_INIT((LINE_TEXT + 2) * count);
    enum status status = ST_OK;
    for (size_t i = 0; i < count && status == ST_OK; i++)
        status = add_line(&lines, event, kind, keys[i], why);
    if (status == ST_OK)
        status = buf_status(&lines, "the ledger's lines", why);
    if (status == ST_OK && count > 0)
        status = append(fd, buf_span(&lines), why);
    buf_release(&lines);
    return status;
}

/* --- reading ------------------------------------------------------------------------------------------------- */

struct notes {
    struct ledger_rows rows;
    size_t room;
};

static enum status add_note(struct notes *notes, struct span line, struct fail *why)
{
    struct ledger_rows *rows = &notes->rows;
    char check[CHECK_TEXT + 1];
    if (line.len != LINE_TEXT)
        return ST_OK; /* blank, or cut off */
    enum status status = check_of(span_cut(line, 0, SIGNED_TEXT), check, why);
    if (status != ST_OK || memcmp(check, line.ptr + SIGNED_TEXT + 1, CHECK_TEXT) != 0)
        return status;
    if (rows->count == notes->room) {
        size_t room = notes->room ? 2 * notes->room : 1024;
        struct ledger_row *all = reallocarray(rows->all, room, sizeof *all);
        if (!all)
            return fail_set(why, ST_NOMEM, 0, "no memory to read the spool's ledger");
        rows->all = all;
        notes->room = room;
    }
    struct ledger_row *row = &rows->all[rows->count++];
    row->event = line.ptr[0];
    row->kind = line.ptr[2];
    memcpy(row->key, line.ptr + 4, LEDGER_KEY_TEXT);
    return ST_OK;
}

static enum status read_notes(int fd, struct notes *notes, struct fail *why)
{
    char bytes[READ_BYTES];
    size_t have = 0;
    off_t at = 0;
    for (;;) {
        ssize_t got = pread(fd, bytes + have, sizeof bytes - have, at);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return fail_set(why, ST_IO, errno, "cannot read the spool's ledger");
        if (got == 0)
            return ST_OK;
        at += got;
        struct span rest = {bytes, have + (size_t)got};
        for (size_t end = span_find(rest, '\n'); end != SPAN_NONE; end = span_find(rest, '\n')) {
            enum status status = add_note(notes, span_cut(rest, 0, end), why);
            if (status != ST_OK)
                return status;
            rest = span_from(rest, end + 1);
        }
        have = rest.len < sizeof bytes ? rest.len : 0; /* no line is that long: damaged */
        memmove(bytes, rest.ptr, have);
    }
}

static int by_key(const void *a, const void *b)
{
    return memcmp(((const struct ledger_row *)a)->key, ((const struct ledger_row *)b)->key, LEDGER_KEY_TEXT);
}

/* Arrived, lost, departed: the later of two events of a row, in whatever order they were noted. */
static int rank_of(char event)
{
    return event == LEDGER_ARRIVED ? 0 : event == LEDGER_LOST ? 1 : 2;
}

/* Leaves one row per key. */
static void settle_notes(struct ledger_rows *rows)
{
    size_t kept = 0;
    qsort(rows->all, rows->count, sizeof rows->all[0], by_key);
    for (size_t i = 0; i < rows->count; i++) {
        struct ledger_row *last = kept > 0 ? &rows->all[kept - 1] : NULL;
        if (!last || by_key(last, &rows->all[i]) != 0)
            rows->all[kept++] = rows->all[i];
        else if (rank_of(rows->all[i].event) > rank_of(last->event))
            last->event = rows->all[i].event;
    }
    rows->count = kept;
}

enum status ledger_read(int fd, struct ledger_rows *rows, struct fail *why)
{
    struct notes notes = {0};
    enum status status = read_notes(fd, &notes, why);
    if (status == ST_OK && notes.rows.count > 0)
        settle_notes(&notes.rows);
    *rows = notes.rows;
    return status;
}

void ledger_rows_release(struct ledger_rows *rows)
{
    free(rows->all);
    *rows = (struct ledger_rows){0};
}

bool ledger_clear(int fd, bool (*is_settled)(void *context), void *context)
{
    if (flock(fd, LOCK_EX | LOCK_NB) != 0)
        return false;
    bool cleared = is_settled(context) && ftruncate(fd, 0) == 0;
    /* Should it be there again after a crash, the ledger is only longer than needed. */
    if (cleared)
        (void)fdatasync(fd);
    (void)flock(fd, LOCK_UN);
    return cleared;
}
