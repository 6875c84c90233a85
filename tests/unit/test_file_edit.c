/* Files that are changed whole: what is kept, what is noticed, and what is there when it fails at any moment. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/base/file_edit.h"
#include "tests/unit/syncs.h"

enum { LIMIT = 64 * 1024, PROCESSES = 4, EDITS = 10, OWNER = 4321, GROUP = 1234 };

/* The calls that an edit makes: the one before which this many others are left fails.  0: none does. */
static int fails_in;
static bool has_failed;

static bool is_to_fail(void)
{
    bool fails = fails_in > 0 && --fails_in == 0;
    has_failed = has_failed || fails;
    if (fails)
        errno = EIO;
    return fails;
}

#define OURS __attribute__((visibility("default")))

OURS int openat(int folder, const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return is_to_fail() ? -1 : (int)syscall(SYS_openat, folder, name, flags, mode);
}

OURS int open(const char *name, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return is_to_fail() ? -1 : (int)syscall(SYS_openat, AT_FDCWD, name, flags, mode);
}

OURS int fstat(int fd, struct stat *info)
{
    return is_to_fail() ? -1 : fstatat(fd, "", info, AT_EMPTY_PATH);
}

OURS int stat(const char *name, struct stat *info)
{
    return is_to_fail() ? -1 : fstatat(AT_FDCWD, name, info, 0);
}

OURS ssize_t write(int fd, const void *bytes, size_t count)
{
    return is_to_fail() ? -1 : (ssize_t)syscall(SYS_write, fd, bytes, count);
}

OURS int fchown(int fd, uid_t owner, gid_t group)
{
    return is_to_fail() ? -1 : (int)syscall(SYS_fchown, fd, owner, group);
}

OURS int fchmod(int fd, mode_t mode)
{
    return is_to_fail() ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

OURS int flock(int fd, int operation)
{
    return is_to_fail() ? -1 : (int)syscall(SYS_flock, fd, operation);
}

OURS int renameat(int from, const char *old, int to, const char *name)
{
    return is_to_fail() ? -1 : (int)syscall(SYS_renameat2, from, old, to, name, 0);
}

OURS int unlinkat(int folder, const char *name, int flags)
{
    return is_to_fail() ? -1 : (int)syscall(SYS_unlinkat, folder, name, flags);
}

struct fixture {
    char directory[64];
    char path[96];
    char link[96];
    struct file_edit edit;
    struct buf text;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    const char *base = getenv("TMPDIR");
    if (!f)
        return -1;
    (void)snprintf(f->directory, sizeof f->directory, "%s/edit-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(f->directory))
        return -1;
    (void)snprintf(f->path, sizeof f->path, "%s/keys", f->directory);
    (void)snprintf(f->link, sizeof f->link, "%s/link", f->directory);
    f->edit = FILE_EDIT_INIT;
    f->text = BUF_INIT(LIMIT);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    watch_syncs(NULL, 0);
    file_edit_end(&f->edit);
    buf_release(&f->text);
    (void)unlink(f->path);
    (void)unlink(f->link);
    int left = rmdir(f->directory); /* nothing else is in it */
    free(f);
    return left;
}

static void write_file(const char *path, const char *text, mode_t mode)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_true(fputs(text, file) >= 0);
    assert_int_equal(fclose(file), 0);
    assert_int_equal(chmod(path, mode), 0);
}

static void assert_content(const char *path, const char *want)
{
    char got[4096] = {0};
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t len = fread(got, 1, sizeof got - 1, file);
    assert_int_equal(fclose(file), 0);
    got[len] = '\0';
    assert_string_equal(got, want);
}

static void begin(struct fixture *f, const char *path)
{
    struct fail why = {0};
    buf_reset(&f->text);
    if (file_edit_begin(path, &f->edit, &f->text, &why) != ST_OK)
        fail_msg("begin: %s", why.text);
}

static enum status commit(struct fixture *f, const char *text)
{
    struct fail why = {0};
    enum status status = file_edit_commit(&f->edit, (struct span){text, strlen(text)}, &why);
    file_edit_end(&f->edit);
    return status;
}

static void test_replaced(void **state)
{
    struct fixture *f = *state;
    struct stat before, after;
    write_file(f->path, "old\n", 0440);
    if (geteuid() == 0)
        assert_int_equal(chown(f->path, OWNER, GROUP), 0);
    assert_int_equal(stat(f->path, &before), 0);
    begin(f, f->path);
    assert_true(span_eq(buf_span(&f->text), SPAN_LIT("old\n")));
    assert_int_equal(commit(f, "new\n"), ST_OK);
    assert_content(f->path, "new\n");
    assert_int_equal(stat(f->path, &after), 0);
    assert_int_not_equal(before.st_ino, after.st_ino);
    assert_int_equal(after.st_mode, before.st_mode);
    assert_int_equal(after.st_uid, before.st_uid);
    assert_int_equal(after.st_gid, before.st_gid);
    begin(f, f->path); /* the lock is gone with the edit */
}

static void test_link_stays(void **state)
{
    struct fixture *f = *state;
    struct stat info;
    write_file(f->path, "old\n", 0600);
    assert_int_equal(symlink("keys", f->link), 0);
    begin(f, f->link);
    assert_int_equal(commit(f, "new\n"), ST_OK);
    assert_int_equal(lstat(f->link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
    assert_content(f->path, "new\n");
}

/* A link out of a folder of somebody else's could lead anywhere; within the folder it harms nobody. */
static void test_link_of_others(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    char target[] = "/tmp/edit-target-XXXXXX";
    if (geteuid() != 0)
        return; /* nobody else can have two users */
    int fd = mkstemp(target);
    assert_true(fd >= 0);
    assert_int_equal(close(fd), 0);
    assert_int_equal(symlink(target, f->link), 0);
    begin(f, f->link); /* in root's folder */
    file_edit_end(&f->edit);
    assert_int_equal(chown(f->directory, OWNER, GROUP), 0);
    enum status status = file_edit_begin(f->link, &f->edit, &f->text, &why);
    file_edit_end(&f->edit);
    assert_int_equal(unlink(target), 0);
    assert_int_equal(status, ST_DENIED);
    assert_non_null(strstr(why.text, target));
    assert_int_equal(unlink(f->link), 0);
    write_file(f->path, "old\n", 0600);
    assert_int_equal(symlink("keys", f->link), 0);
    begin(f, f->link);
}

static void test_made(void **state)
{
    struct fixture *f = *state;
    struct stat info;
    bool is_root = geteuid() == 0;
    if (is_root)
        assert_int_equal(chown(f->directory, 0, GROUP), 0);
    begin(f, f->path);
    assert_int_equal(f->text.len, 0);
    assert_int_equal(commit(f, "first\n"), ST_OK);
    assert_content(f->path, "first\n");
    assert_int_equal(stat(f->path, &info), 0);
    assert_int_equal(info.st_mode & 07777, 0640);
    assert_int_equal(info.st_gid, is_root ? GROUP : getegid());
    /* A link that leads nowhere is no file, and none is made where it leads. */
    struct fail why;
    assert_int_equal(symlink("nowhere", f->link), 0);
    assert_int_equal(file_edit_begin(f->link, &f->edit, &f->text, &why), ST_IO);
}

static void test_refused(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    write_file(f->path, "old\n", 0644);
    assert_int_equal(file_edit_begin(f->path, &f->edit, &f->text, &why), ST_DENIED);
    file_edit_end(&f->edit);
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(mkfifo(f->path, 0600), 0);
    assert_int_equal(file_edit_begin(f->path, &f->edit, &f->text, &why), ST_IO);
    file_edit_end(&f->edit);
    assert_int_equal(unlink(f->path), 0);
    write_file(f->path, "old\n", 0600);
    struct buf small = BUF_INIT(3);
    assert_int_equal(file_edit_begin(f->path, &f->edit, &small, &why), ST_TOO_LARGE);
    buf_release(&small);
}

/* Another edit is waited for, and not for ever. */
static void test_locked(void **state)
{
    struct fixture *f = *state;
    struct fail why;
    write_file(f->path, "old\n", 0600);
    int fd = open(f->path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(flock(fd, LOCK_EX | LOCK_NB), 0);
    assert_int_equal(file_edit_begin(f->path, &f->edit, &f->text, &why), ST_AGAIN);
    assert_non_null(strstr(why.text, "try again"));
    (void)close(fd);
}

/* Many processes each add lines, and every line is there. */
static void test_at_once(void **state)
{
    struct fixture *f = *state;
    pid_t children[PROCESSES];
    write_file(f->path, "", 0600);
    for (int i = 0; i < PROCESSES; i++) {
        children[i] = fork();
        assert_true(children[i] >= 0);
        for (int edit = 0; children[i] == 0 && edit < EDITS; edit++) {
            struct fail why;
            buf_reset(&f->text);
            enum status status = file_edit_begin(f->path, &f->edit, &f->text, &why);
            buf_addf(&f->text, "%d-%d\n", i, edit);
            if (status == ST_OK)
                status = file_edit_commit(&f->edit, buf_span(&f->text), &why);
            file_edit_end(&f->edit);
            if (status == ST_AGAIN)
                edit--; /* a busy machine */
            else if (status != ST_OK)
                _exit(1);
        }
        if (children[i] == 0)
            _exit(0);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int end;
        assert_int_equal(waitpid(children[i], &end, 0), children[i]);
        assert_true(WIFEXITED(end) && WEXITSTATUS(end) == 0);
    }
    begin(f, f->path);
    for (int i = 0; i < PROCESSES * EDITS; i++) {
        char line[32];
        (void)snprintf(line, sizeof line, "%d-%d\n", i / EDITS, i % EDITS);
        if (!strstr(f->text.data, line))
            fail_msg("'%s' is lost", line);
    }
}

/* What an editor does meanwhile, which takes no lock, stays. */
static void test_changed_meanwhile(void **state)
{
    struct fixture *f = *state;
    write_file(f->path, "old\n", 0600);
    begin(f, f->path);
    write_file(f->path, "longer\n", 0600);
    assert_int_equal(commit(f, "ours\n"), ST_CHANGED);
    assert_content(f->path, "longer\n");

    const struct timespec long_ago[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
    assert_int_equal(utimensat(AT_FDCWD, f->path, long_ago, 0), 0);
    begin(f, f->path);
    write_file(f->path, "LONGER\n", 0600); /* of the same length */
    assert_int_equal(commit(f, "ours\n"), ST_CHANGED);
    assert_content(f->path, "LONGER\n");

    begin(f, f->path);
    write_file(f->link, "theirs\n", 0600);
    assert_int_equal(rename(f->link, f->path), 0);
    assert_int_equal(commit(f, "ours\n"), ST_CHANGED);
    assert_content(f->path, "theirs\n");

    begin(f, f->path);
    assert_int_equal(unlink(f->path), 0);
    assert_int_equal(commit(f, "ours\n"), ST_CHANGED);
    assert_int_equal(access(f->path, F_OK), -1);
}

/* Without a sync nothing is replaced; and after the sync of the file the folder's follows. */
static void test_syncs(void **state)
{
    struct fixture *f = *state;
    write_file(f->path, "old\n", 0600);
    begin(f, f->path);
    watch_syncs("/.keys.new", EIO);
    assert_int_equal(commit(f, "new\n"), ST_IO);
    assert_int_equal(atomic_load(&sync_count), 1);
    assert_content(f->path, "old\n");
    begin(f, f->path);
    watch_syncs(strrchr(f->directory, '/'), EIO);
    assert_int_equal(commit(f, "new\n"), ST_UNKNOWN);
    assert_int_equal(atomic_load(&sync_count), 1);
    assert_content(f->path, "new\n");
}

static void die(void)
{
    (void)raise(SIGKILL);
}

/* Killed with half of it written: the old one is there, and the next edit tidies up. */
static void test_killed(void **state)
{
    struct fixture *f = *state;
    char left[128];
    int end;
    write_file(f->path, "old\n", 0600);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct fail why;
        watch_syncs("/.keys.new", 0);
        sync_hook = die;
        if (file_edit_begin(f->path, &f->edit, &f->text, &why) == ST_OK)
            _exit(file_edit_commit(&f->edit, SPAN_LIT("half"), &why) == ST_OK ? 1 : 2);
        _exit(3);
    }
    assert_int_equal(waitpid(child, &end, 0), child);
    assert_true(WIFSIGNALED(end) && WTERMSIG(end) == SIGKILL);
    assert_content(f->path, "old\n");
    (void)snprintf(left, sizeof left, "%s/.keys.new", f->directory);
    assert_int_equal(access(left, F_OK), 0);
    begin(f, f->path);
    assert_int_equal(commit(f, "new\n"), ST_OK);
    assert_content(f->path, "new\n");
}

static int files_in(const char *directory)
{
    int count = 0;
    DIR *folder = opendir(directory);
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder)) != NULL;)
        count += entry->d_name[0] != '.' ? 1 : 0;
    (void)closedir(folder);
    return count;
}

/* Whichever call fails, the file is the old one or the new one, as the status says, and nothing is left beside it. */
static void test_error_at_each_call(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *old, *new; /* old: NULL where there is no file */
    } rows[] = {{"old\n", "new and longer\n"}, {NULL, "new\n"}};
    for (size_t row = 0; row < sizeof rows / sizeof rows[0]; row++) {
        has_failed = true;
        for (int k = 1; has_failed; k++) {
            struct fail why = {0};
            (void)unlink(f->path);
            if (rows[row].old)
                write_file(f->path, rows[row].old, 0640);
            buf_reset(&f->text);
            has_failed = false;
            fails_in = k;
            enum status status = file_edit_begin(f->path, &f->edit, &f->text, &why);
            if (status == ST_OK)
                status = file_edit_commit(&f->edit, span_of(rows[row].new), &why);
            file_edit_end(&f->edit);
            fails_in = 0;
            f->edit = FILE_EDIT_INIT;
            assert_true(status == ST_OK || has_failed);
            assert_true(status == ST_OK || why.text[0]);
            if (status == ST_OK || status == ST_UNKNOWN)
                assert_content(f->path, rows[row].new);
            else if (rows[row].old || access(f->path, F_OK) == 0)
                assert_content(f->path, rows[row].old ? rows[row].old : "");
            assert_true(files_in(f->directory) <= 1);
            assert_true(has_failed || k > 10);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_replaced, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_link_of_others, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_made, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_locked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_changed_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_syncs, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_killed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_error_at_each_call, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("file_edit", tests, NULL, NULL);
}
