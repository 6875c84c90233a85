/* Sockets: made, handed over, refused, and removed only by their owner. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "handler/listener.h"
#include "lib/base/clock.h"
#include "lib/base/limits.h"

struct fixture {
    char directory[64];
    char path[96];
    int saved_stdin;
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    if (!f)
        return -1;
    const char *base = getenv("TMPDIR");
    (void)snprintf(f->directory, sizeof f->directory, "%s/listen-XXXXXX", base ? base : "/tmp");
    if (!mkdtemp(f->directory))
        return -1;
    (void)snprintf(f->path, sizeof f->path, "%s/s", f->directory);
    f->saved_stdin = dup(STDIN_FILENO);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    if (f->saved_stdin >= 0) {
        (void)dup2(f->saved_stdin, STDIN_FILENO);
        (void)close(f->saved_stdin);
    }
    (void)unlink(f->path);
    (void)rmdir(f->directory);
    free(f);
    return 0;
}

static bool exists(const char *path)
{
    struct stat info;
    return lstat(path, &info) == 0;
}

static bool can_connect(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool connected = connect(fd, (const struct sockaddr *)&address, sizeof address) == 0;
    (void)close(fd);
    return connected;
}

static struct listener make(const struct fixture *f)
{
    struct listener listener;
    struct fail why;
    if (listener_make(f->path, 0660, NULL, &listener, &why) != ST_OK)
        fail_msg("make: %s", why.text);
    return listener;
}

/* The mode is the one asked for, whatever the umask. */
static void test_mode(void **state)
{
    struct fixture *f = *state;
    static const struct {
        mode_t mask;
        unsigned int mode;
    } cases[] = {{0, 0660}, {0, 0600}, {077, 0660}, {0777, 0660}, {022, 0666}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct listener listener;
        struct stat info;
        struct fail why = {0};
        mode_t old = umask(cases[i].mask);
        enum status status = listener_make(f->path, cases[i].mode, NULL, &listener, &why);
        mode_t left = umask(old);
        if (status != ST_OK)
            fail_msg("umask %03o: %s", cases[i].mask, why.text);
        assert_int_equal(left, cases[i].mask);
        assert_int_equal(lstat(f->path, &info), 0);
        assert_true(S_ISSOCK(info.st_mode));
        if ((info.st_mode & 07777) != cases[i].mode)
            fail_msg("umask %03o: got mode %04o, want %04o", cases[i].mask, info.st_mode & 07777,
                     cases[i].mode);
        assert_true(fcntl(listener.fd, F_GETFD) & FD_CLOEXEC);
        assert_true(fcntl(listener.fd, F_GETFL) & O_NONBLOCK);
        assert_true(can_connect(f->path));
        listener_close(&listener);
        assert_false(exists(f->path));
    }
}

static void test_group(void **state)
{
    struct fixture *f = *state;
    struct listener listener;
    struct stat info;
    struct fail why;
    const struct group *own = getgrgid(getegid());
    assert_non_null(own);
    assert_int_equal(listener_make(f->path, 0660, own->gr_name, &listener, &why), ST_OK);
    assert_int_equal(lstat(f->path, &info), 0);
    assert_int_equal(info.st_gid, getegid());
    assert_int_equal(info.st_mode & 07777, 0660);
    listener_close(&listener);
    /* A failure behind the bind leaves nothing. */
    assert_int_equal(listener_make(f->path, 0660, "no-such-group", &listener, &why), ST_INVALID);
    assert_non_null(strstr(why.text, "no-such-group"));
    assert_false(exists(f->path));
}

static void test_what_is_there(void **state)
{
    struct fixture *f = *state;
    struct listener listener, second;
    struct fail why;

    /* A live one is refused and goes on, also with its queue full. */
    listener = make(f);
    assert_int_equal(listener_make(f->path, 0660, NULL, &second, &why), ST_EXISTS);
    assert_true(can_connect(f->path));
    assert_int_equal(listen(listener.fd, 0), 0);
    int waiting[8];
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, f->path, strlen(f->path) + 1);
    for (size_t i = 0; i < 8; i++) {
        waiting[i] = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(waiting[i], (const struct sockaddr *)&address, sizeof address);
    }
    assert_int_equal(listener_make(f->path, 0660, NULL, &second, &why), ST_EXISTS);
    for (size_t i = 0; i < 8; i++)
        (void)close(waiting[i]);

    /* A dead process's one is replaced. */
    (void)close(listener.fd);
    assert_true(exists(f->path));
    listener = make(f);
    assert_true(can_connect(f->path));
    listener_close(&listener);

    /* One whose owner cannot be asked like this is not taken for dead. */
    int datagram = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(datagram, (const struct sockaddr *)&address, sizeof address), 0);
    assert_int_equal(listener_make(f->path, 0660, NULL, &listener, &why), ST_EXISTS);
    assert_true(exists(f->path));
    (void)close(datagram);
    assert_int_equal(unlink(f->path), 0);

    /* Anything but a socket stays. */
    int file = open(f->path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(file >= 0);
    (void)close(file);
    assert_int_equal(listener_make(f->path, 0660, NULL, &listener, &why), ST_IO);
    assert_true(exists(f->path));
}

/* At the end the socket is removed only while it is still this one. */
static void test_close(void **state)
{
    struct fixture *f = *state;
    struct listener first = make(f), second;
    assert_int_equal(unlink(f->path), 0);
    second = make(f);
    listener_close(&first);
    assert_int_equal(first.fd, -1);
    assert_true(can_connect(f->path));
    listener_close(&second);
    assert_false(exists(f->path));
}

static void test_path_length(void **state)
{
    (void)state;
    char path[120];
    struct listener listener;
    struct fail why;
    memset(path, 'x', sizeof path);
    memcpy(path, "/nowhere/", 9);
    path[107] = '\0'; /* goes to bind, which has no such directory */
    assert_int_equal(listener_make(path, 0660, NULL, &listener, &why), ST_IO);
    path[107] = 'x';
    path[108] = '\0';
    assert_int_equal(listener_make(path, 0660, NULL, &listener, &why), ST_INVALID);
}

/* After the stop: no new connection, and accept gives what was waiting, then ends. */
static void test_stop(void **state)
{
    struct fixture *f = *state;
    struct listener listener = make(f);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    memcpy(address.sun_path, f->path, strlen(f->path) + 1);
    int waiting = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(connect(waiting, (const struct sockaddr *)&address, sizeof address), 0);
    listener_stop(&listener);
    assert_false(can_connect(f->path));
    int accepted = accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC);
    assert_true(accepted >= 0);
    assert_int_equal(accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC), -1);
    (void)close(accepted);
    (void)close(waiting);
    listener_close(&listener);
}

static void put_on_stdin(int fd)
{
    assert_int_equal(dup2(fd, STDIN_FILENO), STDIN_FILENO);
    (void)close(fd);
}

static void test_adopt(void **state)
{
    struct fixture *f = *state;
    struct listener made = make(f), listener = {.fd = -1};
    struct fail why;
    assert_int_equal(fcntl(made.fd, F_SETFL, 0), 0); /* as most supervisors do */
    assert_int_equal(dup2(made.fd, STDIN_FILENO), STDIN_FILENO);
    assert_true(listener_is_inherited());
    assert_int_equal(listener_adopt(&listener, &why), ST_OK);
    assert_int_equal(listener.fd, STDIN_FILENO);
    assert_false(listener.is_own);
    assert_true(fcntl(STDIN_FILENO, F_GETFL) & O_NONBLOCK);

    /* Another process makes it blocking: accept comes back all the same, and then it is as before. */
    assert_int_equal(fcntl(made.fd, F_SETFL, 0), 0);
    assert_int_equal(accept4(listener.fd, NULL, NULL, SOCK_CLOEXEC), -1);
    assert_int_equal(errno, EAGAIN);
    listener_unblock(&listener);
    assert_true(fcntl(STDIN_FILENO, F_GETFL) & O_NONBLOCK);

    /* Stopping and closing do nothing to the socket of the others. */
    listener_stop(&listener);
    assert_true(can_connect(f->path));
    listener_close(&listener);
    assert_true(can_connect(f->path));
    listener_close(&made);
}

static void test_adopt_refuses(void **state)
{
    (void)state;
    struct listener listener;
    struct fail why;
    int pair[2];

    put_on_stdin(open("/dev/null", O_RDONLY | O_CLOEXEC));
    assert_false(listener_is_inherited());
    assert_int_equal(listener_adopt(&listener, &why), ST_INVALID);

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    put_on_stdin(pair[0]);
    assert_false(listener_is_inherited());
    assert_int_equal(listener_adopt(&listener, &why), ST_INVALID);
    (void)close(pair[1]);

    struct sockaddr_in loopback = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int tcp = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(tcp, (const struct sockaddr *)&loopback, sizeof loopback), 0);
    assert_int_equal(listen(tcp, 1), 0);
    put_on_stdin(tcp);
    assert_true(listener_is_inherited());
    assert_int_equal(listener_adopt(&listener, &why), ST_INVALID);
    assert_non_null(strstr(why.text, "unix socket"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_mode, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_group, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_close, set_up, tear_down),
        cmocka_unit_test(test_path_length),
        cmocka_unit_test_setup_teardown(test_stop, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_adopt, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_adopt_refuses, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("listener", tests, NULL, NULL);
}
