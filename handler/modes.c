#include "handler/modes.h"

/* System */
#include <stdlib.h>
#include <sys/stat.h>

/* L0 */
#include "lib/base/file.h"

struct check {
    void (*found)(void *context, const struct fail *why);
    void *context;
    size_t count;
    struct stat folder; /* told last: most files lie in the same one */
};

static void tell(struct check *c, const char *path, mode_t mode, const char *harm, const char *cure)
{
    struct fail why;
    enum status status = fail_set(&why, ST_DENIED, 0, "'%s' has mode %04o, %s: run chmod %s on it", path,
                                  (unsigned int)(mode & 07777), harm, cure);
    (void)status;
    c->found(c->context, &why);
    c->count++;
}

/* A file of ours, or a folder with nothing but files of ours. */
static void check_own(struct check *c, const char *path)
{
    struct stat info;
    if (path && stat(path, &info) == 0 && (info.st_mode & (S_IRWXO | S_IWGRP)) != 0)
        tell(c, path, info.st_mode, "so that others may read or change what customers have sent",
             S_ISDIR(info.st_mode) ? "0700" : "0600");
}

/* The folder of a file; in one like /tmp (sticky) others cannot take the place of what is there. */
static void check_folder(struct check *c, const char *path)
{
    struct stat info;
    char *folder = path ? file_folder(path) : NULL;
    bool is_open =
        folder && stat(folder, &info) == 0 && (info.st_mode & S_IWOTH) != 0 && (info.st_mode & S_ISVTX) == 0;
    if (is_open && (info.st_ino != c->folder.st_ino || info.st_dev != c->folder.st_dev)) {
        c->folder = info;
        tell(c, folder, info.st_mode, "so that others may put files in the place of ours", "o-w");
    }
    free(folder);
}

static void check_database(struct check *c, const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    check_folder(c, path);
    for (size_t i = 0; path && i < sizeof suffixes / sizeof *suffixes; i++) {
        struct buf name = BUF_INIT(LIMIT_PATH_BYTES);
        buf_addf(&name, "%s%s", path, suffixes[i]);
        check_own(c, name.data);
        buf_release(&name);
    }
}

size_t modes_check(const struct config *config, void (*found)(void *context, const struct fail *why),
                   void *context)
{
    struct check c = {.found = found, .context = context};
    struct span maildir = SPAN_LIT("maildir:");
    check_database(&c, config->sqlite_path);
    check_database(&c, config->spool_path);
    if (span_starts(span_of(config->mail_url), maildir)) {
        check_folder(&c, config->mail_url + maildir.len);
        check_own(&c, config->mail_url + maildir.len);
    }
    check_folder(&c, config->relay_socket);
    struct buf path = BUF_INIT(LIMIT_PATH_BYTES);
    for (size_t index = 0; config_next_file(config, &index, &path);) {
        check_folder(&c, path.data);
        buf_reset(&path);
    }
    buf_release(&path);
    return c.count;
}
