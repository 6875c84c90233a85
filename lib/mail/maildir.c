/* A Maildir as the place of delivery, for people without an SMTP account.
 *
 * Written to tmp, synced, linked to new under a name made from the Message-ID,
 * and the directory synced: a file that is in new is whole and durable, and the
 * same message again is recognised, also after a reader has moved it to cur.
 * Line ends are those of local files (LF), as Maildir readers expect.
 * A failed sync is never repeated on the same file: the kernel reports it once.
 */
#include "lib/mail/transport_internal.h"

/* System */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* L0 */
#include "lib/base/buf.h"
#include "lib/base/crypto.h"
#include "lib/base/encode.h"

enum { NAME_DIGITS = 40 };

struct maildir {
    int tmp_fd;
    int new_fd;
    int cur_fd;
};

static void close_fd(int fd)
{
    if (fd >= 0)
        (void)close(fd);
}

static void release(struct maildir *m)
{
    close_fd(m->tmp_fd);
    close_fd(m->new_fd);
    close_fd(m->cur_fd);
}

/* Opens the directory; one that had to be made survives a power cut only when its parent is synced, too. */
static int open_directory(int at, const char *name)
{
    bool made = mkdirat(at, name, 0700) == 0;
    if (!made && errno != EEXIST)
        return -1;
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int parent = made && fd >= 0 ? openat(fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (made && fd >= 0 && (parent < 0 || fsync(parent) != 0)) {
        int error = errno;
        close_fd(fd);
        fd = -1;
        errno = error;
    }
    close_fd(parent);
    return fd;
}

static enum status open_maildir(const char *path, struct maildir *m, struct fail *why)
{
    *m = (struct maildir){-1, -1, -1};
    enum status status = ST_OK;
    int top = open_directory(AT_FDCWD, path);
    if (top < 0 || (m->tmp_fd = open_directory(top, "tmp")) < 0 ||
        (m->new_fd = open_directory(top, "new")) < 0 || (m->cur_fd = open_directory(top, "cur")) < 0) {
        status = fail_set(why, ST_IO, errno, "cannot open the Maildir '%s'", path);
        release(m);
    }
    close_fd(top);
    return status;
}

/* The header's value, or the whole message when it has none. */
static struct span identity(struct span message)
{
    struct span name = SPAN_LIT("Message-ID:"), rest = message, line;
    while (span_next(&rest, '\n', &line) && span_trim(line).len) {
        if (!span_starts_nocase(line, name))
            continue;
        struct span value = span_trim(span_from(line, name.len));
        bool folded = value.len == 0 && span_next(&rest, '\n', &line);
        return folded ? span_trim(line) : value;
    }
    return message;
}

static enum status name_of(struct span message, char name[NAME_DIGITS + 1], struct fail *why)
{
    unsigned char digest[SHA256_BYTES];
    enum status status = crypto_sha256(identity(message), digest, why);
    if (status == ST_OK)
        hex_write(digest, NAME_DIGITS / 2, name);
    return status;
}

/* Whether the directory has a file of that name; readers put ":2," and flags behind it. */
static enum status has_file(int fd, const char *name, bool *found, struct fail *why)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *directory = copy >= 0 ? fdopendir(copy) : NULL;
    *found = false;
    if (!directory) {
        enum status status = fail_set(why, ST_IO, errno, "cannot read the Maildir");
        close_fd(copy);
        return status;
    }
    errno = 0;
    for (const struct dirent *entry = readdir(directory); entry && !*found; entry = readdir(directory))
        *found = strncmp(entry->d_name, name, NAME_DIGITS) == 0;
    int error = errno;
    (void)closedir(directory);
    return *found || !error ? ST_OK : fail_set(why, ST_IO, error, "cannot read the Maildir");
}

/* First new and then cur: files move in this direction only, so none is missed on its way. */
static enum status is_delivered(const struct maildir *m, const char *name, bool *delivered, struct fail *why)
{
    enum status status = has_file(m->new_fd, name, delivered, why);
    if (status == ST_OK && !*delivered)
        status = has_file(m->cur_fd, name, delivered, why);
    return status;
}

static bool write_all(int fd, struct span text)
{
    while (text.len) {
        ssize_t put = write(fd, text.ptr, text.len);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return false;
        text = span_from(text, (size_t)put);
    }
    return true;
}

static enum status write_file(const struct maildir *m, const char *name, struct span message,
                              struct fail *why)
{
    struct buf local = BUF_INIT(message.len);
    for (size_t i = 0; i < message.len; i++) {
        if (message.ptr[i] != '\r') /* transport.c has seen to it that each stands before a line feed */
            buf_add_char(&local, message.ptr[i]);
    }
    enum status status = buf_status(&local, "the mail", why);
    if (status == ST_OK) {
        (void)unlinkat(m->tmp_fd, name, 0); /* left by an attempt that was cut off */
        int fd = openat(m->tmp_fd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
        bool written = fd >= 0 && write_all(fd, buf_span(&local)) && fsync(fd) == 0;
        int error = errno;
        if (fd >= 0 && close(fd) != 0 && written) {
            written = false;
            error = errno;
        }
        if (!written)
            status = fail_set(why, ST_IO, error, "cannot write a mail into the Maildir");
    }
    buf_release(&local);
    return status;
}

/* link and not rename: it does not replace what is there already. */
static enum status publish(const struct maildir *m, const char *name, struct fail *why)
{
    if (linkat(m->tmp_fd, name, m->new_fd, name, 0) != 0 && errno != EEXIST)
        return fail_set(why, ST_IO, errno, "cannot deliver a mail into the Maildir");
    return ST_OK;
}

enum mail_outcome maildir_send(const char *path, struct span message, mail_fence *fence, void *context,
                               struct fail *why)
{
    struct maildir m;
    char name[NAME_DIGITS + 1];
    bool delivered = false;
    if (name_of(message, name, why) != ST_OK || open_maildir(path, &m, why) != ST_OK)
        return MAIL_TRANSIENT;
    enum status status = is_delivered(&m, name, &delivered, why);
    if (status == ST_OK && !delivered)
        status = write_file(&m, name, message, why);
    if (status == ST_OK && fence && !fence(context))
        status = fail_set(why, ST_AGAIN, 0, "broken off before the mail was delivered");
    if (status == ST_OK && !delivered)
        status = publish(&m, name, why);
    /* After a failure here the next attempt finds the file, and syncs again. */
    if (status == ST_OK && fsync(m.new_fd) != 0)
        status = fail_set(why, ST_IO, errno, "cannot sync the Maildir '%s'", path);
    (void)unlinkat(m.tmp_fd, name, 0);
    release(&m);
    return status == ST_OK ? MAIL_ACCEPTED : MAIL_TRANSIENT;
}

enum mail_outcome maildir_probe(const char *path, struct fail *why)
{
    static const char name[] = "leadhook-probe";
    struct maildir m;
    if (open_maildir(path, &m, why) != ST_OK)
        return MAIL_CONFIGURATION;
    enum status status = write_file(&m, name, SPAN_LIT("probe\r\n"), why);
    (void)unlinkat(m.tmp_fd, name, 0);
    release(&m);
    return status == ST_OK ? MAIL_ACCEPTED : MAIL_CONFIGURATION;
}
