#include "lib/store/generations.h"

/* System */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* L0 */
#include "lib/base/file.h"

enum { NUMBER_MAX = 999999 };

#define SALVAGED_SUFFIX "-salvaged"

static bool ends_with(struct span *name, const char *suffix)
{
    struct span end = span_of(suffix);
    if (name->len < end.len || !span_eq(span_from(*name, name->len - end.len), end))
        return false;
    name->len -= end.len;
    return true;
}

/* The number of the generation that a file is (*is_database) or belongs to; 0: of none. */
static unsigned int number_of(struct span name, struct span base, bool *is_database)
{
    uint64_t number = 0;
    *is_database =
        !ends_with(&name, "-wal") && !ends_with(&name, "-shm") && !ends_with(&name, SALVAGED_SUFFIX);
    if (!span_starts(name, base))
        return 0;
    struct span rest = span_from(name, base.len);
    if (rest.len == 0)
        return 1;
    /* As we write them: no zero in front, no ".1". */
    if (rest.len < 2 || rest.ptr[0] != '.' || rest.ptr[1] == '0' ||
        !span_to_u64(span_from(rest, 1), NUMBER_MAX, &number) || number < 2)
        return 0;
    return (unsigned int)number;
}

static bool is_ledger(struct span name, struct span base)
{
    return span_starts(name, base) && span_eq(span_from(name, base.len), SPAN_LIT(".ledger"));
}

static void add_number(struct generations *found, unsigned int number)
{
    size_t at = found->count;
    while (at > 0 && found->numbers[at - 1] > number)
        at--;
    if (found->count == LIMIT_GENERATIONS) {
        if (at == 0)
            return;
        memmove(found->numbers, found->numbers + 1, --at * sizeof found->numbers[0]);
        found->numbers[at] = number;
        return;
    }
    memmove(found->numbers + at + 1, found->numbers + at, (found->count - at) * sizeof found->numbers[0]);
    found->numbers[at] = number;
    found->count++;
}

static void look_at(struct generations *found, int folder, const char *name, struct span base)
{
    struct stat info;
    bool is_database;
    unsigned int number = number_of(span_of(name), base, &is_database);
    bool ledger = is_ledger(span_of(name), base);
    if ((number == 0 && !ledger) || fstatat(folder, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
        return;
    found->bytes += (uint64_t)info.st_size;
    if (ledger)
        found->ledger_bytes = (uint64_t)info.st_size;
    if (number && is_database)
        add_number(found, number);
}

enum status generations_find(const char *path, struct generations *found, struct fail *why)
{
    char *for_folder = strdup(path), *for_base = strdup(path); /* dirname and basename change theirs */
    DIR *folder = for_folder && for_base ? opendir(dirname(for_folder)) : NULL;
    enum status status = ST_OK;
    *found = (struct generations){0};
    if (!for_folder || !for_base) {
        status = fail_set(why, ST_NOMEM, 0, "no memory for the spool");
    } else if (!folder) {
        status = fail_set(why, ST_IO, errno, "cannot look into the folder of the spool '%s'", path);
    } else {
        struct span base = span_of(basename(for_base));
        const struct dirent *entry;
        while (errno = 0, (entry = readdir(folder)) != NULL)
            look_at(found, dirfd(folder), entry->d_name, base);
        if (errno != 0)
            status = fail_set(why, ST_IO, errno, "cannot look into the folder of the spool '%s'", path);
        (void)closedir(folder);
    }
    free(for_folder);
    free(for_base);
    return status;
}

unsigned int generations_current(const struct generations *found)
{
    return found->count ? found->numbers[found->count - 1] : 0;
}

enum status generation_path(const char *path, unsigned int number, const char *suffix, struct buf *out,
                            struct fail *why)
{
    buf_reset(out);
    buf_add_text(out, path);
    if (number > 1)
        buf_addf(out, ".%u", number);
    buf_add_text(out, suffix);
    return buf_status(out, "the spool's path", why);
}

static bool look(const char *path, unsigned int number, const char *suffix, struct stat *info)
{
    struct buf name = BUF_INIT(LIMIT_PATH_BYTES);
    bool exists = generation_path(path, number, suffix, &name, NULL) == ST_OK && stat(name.data, info) == 0;
    buf_release(&name);
    return exists;
}

uint64_t generation_bytes(const char *path, unsigned int number, const char *suffix)
{
    struct stat info;
    return look(path, number, suffix, &info) ? (uint64_t)info.st_size : 0;
}

bool generation_is_salvaged(const char *path, unsigned int number)
{
    struct stat info;
    return look(path, number, SALVAGED_SUFFIX, &info);
}

enum status generation_mark_salvaged(const char *path, unsigned int number, struct fail *why)
{
    struct buf name = BUF_INIT(LIMIT_PATH_BYTES);
    enum status status = generation_path(path, number, SALVAGED_SUFFIX, &name, why);
    if (status == ST_OK) {
        int fd = open(name.data, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
            status = fail_set(why, ST_IO, errno, "cannot make the mark '%s'", name.data);
        else
            (void)close(fd);
    }
    if (status == ST_OK)
        status = file_sync_folder(name.data, why);
    buf_release(&name);
    return status;
}

void generation_unmark_salvaged(const char *path, unsigned int number)
{
    struct buf name = BUF_INIT(LIMIT_PATH_BYTES);
    if (generation_is_salvaged(path, number) &&
        generation_path(path, number, SALVAGED_SUFFIX, &name, NULL) == ST_OK)
        (void)unlink(name.data);
    buf_release(&name);
}

enum status generation_remove(const char *path, unsigned int number, struct fail *why)
{
    /* The mark last: what is left after a crash in between was gone through. */
    static const char *const suffixes[] = {"-wal", "-shm", "", SALVAGED_SUFFIX};
    struct buf name = BUF_INIT(LIMIT_PATH_BYTES);
    enum status status = ST_OK;
    for (size_t i = 0; i < sizeof suffixes / sizeof suffixes[0] && status == ST_OK; i++) {
        status = generation_path(path, number, suffixes[i], &name, why);
        if (status == ST_OK && unlink(name.data) != 0 && errno != ENOENT)
            status = fail_set(why, ST_IO, errno, "cannot remove '%s'", name.data);
    }
    buf_release(&name);
    return status;
}
