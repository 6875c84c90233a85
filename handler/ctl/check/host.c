/* What is on this host: versions, keys, the spool, disks, and who may read our files. */
#include "handler/ctl/check/check.h"

/* System */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/file.h"
#include "lib/base/version.h"

/* Ours */
#include "handler/modes.h"

#define GIB (1024.0 * 1024 * 1024)

static const uint64_t ROOM_FAIL_BYTES = 16 * 1024 * 1024;   /* a database's log takes as much at times */
static const uint64_t ROOM_WARN_BYTES = 1024 * 1024 * 1024; /* half a million leads */

void check_versions(struct check *c)
{
    struct utsname kernel;
    char memory[256];
    struct buf text = BUF_FIXED(memory);
    buf_addf(&text, "leadhook/%s ", version_text());
    peer_add_library(&text);
    buf_addf(&text, " SQLite/%s", store_sqlite_version());
    if (uname(&kernel) == 0)
        buf_addf(&text, " %s/%s", kernel.sysname, kernel.release);
    check_say(c, CHECK_OK, "versions", NULL, NULL, "%.*s", SPAN_FMT(buf_span(&text)));
}

/* --- keys -------------------------------------------------------------------------------------------------------- */

static void tell_keys(struct check *c, const struct keys *keys, int64_t now_ms)
{
    size_t live = keys_count(keys, now_ms);
    if (live)
        check_say(c, CHECK_OK, "keys", NULL, NULL, "%zu in '%s' open%s", live, c->service->config.keys_file,
                  live == 1 ? "s" : "");
    else
        check_say(c, CHECK_FAIL, "keys", "every request is answered 401",
                  "leadctl key new NAME, then reload leadhook",
                  "0 of those in '%s' are good: all have retired", c->service->config.keys_file);
}

/* One finding for each line; why: when there is none, or no memory to note it. */
static void tell_mistakes(struct check *c, const char *subject, const char *cure, const struct buf *mistakes,
                          const struct fail *why)
{
    static const char means[] =
        "leadhook does not start with this file, and does not take it over when it reloads";
    struct span rest = mistakes->len ? buf_span(mistakes) : span_of(why->text), line;
    while (span_next(&rest, '\n', &line)) {
        if (line.len)
            check_say(c, CHECK_FAIL, subject, means, cure, "%.*s", SPAN_FMT(line));
    }
}

void check_keys(struct check *c)
{
    struct keys *keys = NULL;
    struct buf mistakes = BUF_INIT(LIMIT_KEY_FILE_BYTES);
    struct fail why = {0};
    int64_t now_ms = clock_true_ms();
    if (keys_read(c->service->config.keys_file, now_ms, &keys, &mistakes, &why) == ST_OK) {
        tell_keys(c, keys, now_ms);
    } else {
        tell_mistakes(c, "keys", "correct it; leadctl key new NAME makes a key and its line", &mistakes,
                      &why);
    }
    keys_free(keys);
    buf_release(&mistakes);
}

void check_routes(struct check *c)
{
    const struct config *config = &c->service->config;
    struct routes *routes = NULL;
    struct buf mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct fail why = {0};
    if (!config->mail_routes)
        return;
    if (service_try_routes(config->mail_routes, config, &routes, &mistakes, &why) == ST_OK)
        check_say(c, CHECK_OK, "routes", NULL, NULL, "%zu in '%s'; leadctl routes shows them",
                  routes_count(routes), config->mail_routes);
    else
        tell_mistakes(c, "routes", "correct it; the README says how rules are written (Mail routes)",
                      &mistakes, &why);
    routes_free(routes);
    buf_release(&mistakes);
}

/* --- spool and disks --------------------------------------------------------------------------------------------- */

void check_spool(struct check *c)
{
    const struct config *config = &c->service->config;
    const struct spool_options options = {.path = config->spool_path, .max_bytes = config->spool_max_bytes};
    struct spool *spool = NULL;
    struct fail why;
    if (config->sqlite_path)
        return; /* the store itself is on this machine */
    if (!options.path) {
        check_say(c, CHECK_WARN, "spool",
                  "while the table does not take leads, senders get 503 and leads may be lost",
                  "set spool, say to /var/lib/leadhook/spool.db", "spool is 'off'");
        return;
    }
    enum status status = spool_open(&options, &spool, &why);
    if (status == ST_OK)
        status = spool_probe(spool, clock_monotonic_ms() + CHECK_WAIT_MS, &why);
    spool_close(spool);
    if (status == ST_OK)
        check_say(c, CHECK_OK, "spool", NULL, NULL, "'%s' can be written", options.path);
    else
        check_failed(c, "spool", CHECK_AREA_SQLITE, &why);
}

/* wanted: bytes that our files may still grow by before somebody should think of it.  Of a folder that is not there, or
 * that this user may not look into, those tell who write to it. */
static void check_disk(struct check *c, const char *path, uint64_t wanted)
{
    static const char full[] = "soon nothing can be written: leads are refused with 503";
    static const char cure[] = "make room (df -h, df -i, du), or move it to a larger disk";
    struct statvfs disk;
    char *folder = file_folder(path);
    if (folder && statvfs(folder, &disk) == 0) {
        uint64_t room = (uint64_t)disk.f_bavail * disk.f_frsize;
        bool has_names = disk.f_files == 0 || disk.f_favail > 0; /* some file systems do not count them */
        if (room < ROOM_FAIL_BYTES || !has_names)
            check_say(c, CHECK_FAIL, "disk", full, cure, "%.2f GiB%s are free for '%s'", (double)room / GIB,
                      has_names ? "" : " and no file more", folder);
        else if (room < wanted)
            check_say(c, CHECK_WARN, "disk", "there is less room than leads may come to need", cure,
                      "%.2f GiB are free for '%s', which may grow by %.2f GiB", (double)room / GIB, folder,
                      (double)wanted / GIB);
        else
            check_say(c, CHECK_OK, "disk", NULL, NULL, "%.2f GiB are free for '%s'", (double)room / GIB,
                      folder);
    }
    free(folder);
}

/* What the spool may still grow by. */
static uint64_t spool_growth(const struct config *config)
{
    struct spool_state state = {0};
    if (spool_inspect(config->spool_path, &state, NULL) != ST_OK)
        state.bytes = 0; /* there is none yet, or check_spool has told why */
    return state.bytes < config->spool_max_bytes ? config->spool_max_bytes - state.bytes : 0;
}

void check_disks(struct check *c)
{
    const struct config *config = &c->service->config;
    struct span maildir = SPAN_LIT("maildir:");
    if (config->sqlite_path)
        check_disk(c, config->sqlite_path, ROOM_WARN_BYTES);
    else if (config->spool_path)
        check_disk(c, config->spool_path, spool_growth(config));
    else if (span_starts(span_of(config->mail_url), maildir))
        check_disk(c, config->mail_url + maildir.len, 0);
}

/* --- files ------------------------------------------------------------------------------------------------------- */

static void on_open_file(void *context, const struct fail *why)
{
    check_say(context, CHECK_FAIL, "files",
              "what customers have sent, or secrets, lie open to other users of this host", NULL, "%s",
              why->text);
}

/* Read by root at the start of leadctl, they say nothing of leadhook's rights.  Gives how many it may not read. */
static size_t check_readable(struct check *c)
{
    const struct config *config = &c->service->config;
    struct buf path = BUF_INIT(LIMIT_PATH_BYTES);
    size_t count = 0;
    buf_add_text(&path, c->service->config_path);
    for (size_t index = 0; path.data;) {
        /* check_keys tells of that one. */
        if (access(path.data, R_OK) != 0 && strcmp(path.data, config->keys_file) != 0) {
            check_say(
                c, CHECK_FAIL, "files", "leadhook does not start without it, or fails later",
                "chgrp leadhook on it and chmod 0640; where it may not pass a folder above: chmod o+x on that",
                "'%s': %s", path.data, strerrordesc_np(errno));
            count++;
        }
        buf_reset(&path);
        if (!config_next_file(config, &index, &path))
            break;
    }
    buf_release(&path);
    return count;
}

void check_files(struct check *c)
{
    size_t count = check_readable(c);
    if (modes_check(&c->service->config, on_open_file, c) + count == 0)
        check_say(c, CHECK_OK, "files", NULL, NULL,
                  "leadhook may read what it needs, and nobody else may read or replace ours");
}

void check_alarms(struct check *c)
{
    size_t count = c->service->config.alarm_recipient_count;
    if (count == 0)
        check_say(c, CHECK_WARN, "alarms", "nobody is told when leads are spooled or mail stops",
                  "set alarm_to to the address of whoever shall repair it", "alarm_to is not set");
    else
        check_say(c, CHECK_OK, "alarms", NULL, NULL, "mailed to %zu address%s", count,
                  count == 1 ? "" : "es");
}
