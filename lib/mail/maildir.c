/* A Maildir as the place of delivery, for people without an SMTP account.
 *
 * Written to tmp, synced, linked to new under a name made from the Message-ID,
 * and the directory synced: a file that is in new is whole and durable, and the
 * same message again is recognised, also after a reader has moved it to cur.
 * Line ends are those of local files (LF), as Maildir readers expect.
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

static void release(struct maildir *m)
{
    if (m->tmp_fd >= 0)
        (void)close(m->tmp_fd);
    if (m->new_fd >= 0)
        (void)close(m->new_fd);
    if (m->cur_fd >= 0)
        (void)close(m->cur_fd);
}

static int open_directory(int at, const char *name)
{
    if (mkdirat(at, name, 0700) != 0 && errno != EEXIST)
        return -1;
    return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static enum status open_maildir(const char *path, struct maildir *m, struct fail *why)
{
    *m = (struct maildir){-1, -1, -1};
    int top = open_directory(AT_FDCWD, path);
    if (top >= 0) {
        m->tmp_fd = open_directory(top, "tmp");
        m->new_fd = open_directory(top, "new");
        m->cur_fd = open_directory(top, "cur");
        int error = errno;
        (void)fsync(top); /* for directories just made; an error shows at the sync of new */
        (void)close(top);
        errno = error;
    }
    if (m->tmp_fd < 0 || m->new_fd < 0 || m->cur_fd < 0) {
        (void)fail_set(why, ST_IO, errno, "cannot open the Maildir '%s'", path);
        release(m);
        return ST_IO;
    }
    return ST_OK;
}

/* A name from the whole message: the same bytes have the same name. */
static enum status name_of(struct span message, char name[NAME_DIGITS + 1], struct fail *why)
{
    unsigned char digest[SHA256_BYTES];
    enum status status = crypto_sha256(message, digest, why);
    if (status == ST_OK)
        hex_write(digest, NAME_DIGITS / 2, name);
    return status;
}

/* Readers move files to cur and put ":2," and flags behind the name. */
static bool is_in_cur(const struct maildir *m, const char *name)
{
    bool found = false;
    int fd = dup(m->cur_fd);
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    if (!directory) {
        if (fd >= 0)
            (void)close(fd);
        return false;
    }
    rewinddir(directory);
    for (const struct dirent *entry = readdir(directory); entry && !found; entry = readdir(directory))
        found = strncmp(entry->d_name, name, NAME_DIGITS) == 0;
    (void)closedir(directory);
    return found;
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
    struct buf local = BUF_INIT(message.len + 1);
    for (size_t i = 0; i < message.len; i++) {
        if (message.ptr[i] != '\r')
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

enum mail_outcome maildir_send(const char *path, struct span message, mail_fence *fence, void *context,
                               struct fail *why)
{
    struct maildir m;
    char name[NAME_DIGITS + 1];
    enum mail_outcome outcome = MAIL_TRANSIENT;
    if (name_of(message, name, why) != ST_OK || open_maildir(path, &m, why) != ST_OK)
        return MAIL_TRANSIENT;
    bool delivered = is_in_cur(&m, name);
    if (!delivered && write_file(&m, name, message, why) != ST_OK)
        goto out;
    if (fence && !fence(context)) {
        (void)fail_set(why, ST_AGAIN, 0, "broken off before the mail was delivered");
        goto out;
    }
    /* link and not rename: it does not replace what is there already. */
    if (!delivered && linkat(m.tmp_fd, name, m.new_fd, name, 0) != 0 && errno != EEXIST) {
        (void)fail_set(why, ST_IO, errno, "cannot deliver a mail into the Maildir '%s'", path);
        goto out;
    }
    if (fsync(m.new_fd) != 0) {
        /* The next attempt finds the file there and syncs again. */
        (void)fail_set(why, ST_IO, errno, "cannot sync the Maildir '%s'", path);
        goto out;
    }
    outcome = MAIL_ACCEPTED;
out:
    (void)unlinkat(m.tmp_fd, name, 0);
    release(&m);
    return outcome;
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
