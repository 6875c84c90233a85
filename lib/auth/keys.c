#include "lib/auth/keys.h"

/* System */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/crypto.h"
#include "lib/base/file.h"

enum { LIVE_PER_NAME = 2 };

struct key {
    char name[LIMIT_KEY_NAME_BYTES + 1];
    unsigned char digest[SHA256_BYTES];
};

struct keys {
    size_t holders; /* of a ring and of the matches in work; under the ring's lock */
    size_t count;
    struct key list[LIMIT_KEYS];
};

static bool has_only(struct span s, const char *also)
{
    for (size_t i = 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              (c && strchr(also, c))))
            return false;
    }
    return true;
}

/* What is wrong with a name and key, or NULL. */
static const char *mistake_in(const struct keys *keys, struct span name, struct span key,
                              const unsigned char digest[SHA256_BYTES])
{
    if (name.len == 0 || name.len > LIMIT_KEY_NAME_BYTES || !has_only(name, "._-"))
        return "the name must be 1 to 64 letters, digits, '.', '_' or '-'";
    if (key.len < LIMIT_KEY_MIN_BYTES || key.len > LIMIT_KEY_BYTES || !has_only(key, "-_.~"))
        return "the key must be 16 to 128 letters, digits, '-', '_', '.' or '~'";
    if (keys->count == LIMIT_KEYS)
        return "too many keys";
    size_t live = 0;
    for (size_t i = 0; i < keys->count; i++) {
        if (crypto_equal(keys->list[i].digest, digest, SHA256_BYTES))
            return "this key stands in the file already";
        live += span_eq(span_of(keys->list[i].name), name) ? 1 : 0;
    }
    return live == LIVE_PER_NAME ? "this name has two live keys already: remove the oldest" : NULL;
}

static enum status add_line(struct keys *keys, struct span line, const char **mistake, struct fail *why)
{
    size_t blank = 0;
    while (blank < line.len && line.ptr[blank] != ' ' && line.ptr[blank] != '\t')
        blank++;
    struct span name = span_cut(line, 0, blank);
    struct span key = span_trim(span_from(line, blank));
    struct key entry = {0};
    enum status status = crypto_sha256(key, entry.digest, why);
    if (status != ST_OK)
        return status;
    *mistake = mistake_in(keys, name, key, entry.digest);
    if (!*mistake) {
        memcpy(entry.name, name.ptr, name.len);
        keys->list[keys->count++] = entry;
    }
    return ST_OK;
}

static enum status parse(struct keys *keys, struct span text, const char *path, struct buf *mistakes,
                         struct fail *why)
{
    struct span rest = text, line;
    enum status result = ST_OK;
    for (size_t number = 1; span_next(&rest, '\n', &line); number++) {
        const char *mistake = NULL;
        line = span_trim(line);
        if (line.len == 0 || line.ptr[0] == '#')
            continue;
        enum status status = add_line(keys, line, &mistake, why);
        if (status != ST_OK)
            return status;
        if (mistake) {
            buf_addf(mistakes, "%s:%zu: %s\n", path, number, mistake);
            if (result == ST_OK)
                result = fail_set(why, ST_INVALID, 0, "%s:%zu: %s", path, number, mistake);
        }
    }
    if (result == ST_OK && keys->count == 0) {
        buf_addf(mistakes, "%s: holds no key\n", path);
        result = fail_set(why, ST_INVALID, 0, "%s: holds no key", path);
    }
    return result;
}

enum status keys_read(const char *path, struct keys **keys, struct buf *mistakes, struct fail *why)
{
    struct buf text = BUF_INIT(LIMIT_KEY_FILE_BYTES);
    struct keys *k = calloc(1, sizeof *k);
    /* All the room at once: a buffer that grew would leave copies of the keys behind. */
    if (!k || !buf_reserve(&text, LIMIT_KEY_FILE_BYTES)) {
        free(k);
        return fail_set(why, ST_NOMEM, 0, "no memory for keys");
    }
    enum status status = file_read(path, FILE_PRIVATE, &text, why);
    if (status == ST_OK)
        status = parse(k, buf_span(&text), path, mistakes, why);
    buf_release_secret(&text);
    if (status != ST_OK) {
        free(k);
        return status;
    }
    *keys = k;
    return ST_OK;
}

void keys_free(struct keys *keys)
{
    if (keys)
        crypto_wipe(keys, sizeof *keys);
    free(keys);
}

size_t keys_count(const struct keys *keys)
{
    return keys->count;
}

enum status keys_match(const struct keys *keys, struct span presented, const char **name, struct fail *why)
{
    unsigned char digest[SHA256_BYTES];
    size_t match = 0; /* its number, from 1: no two keys are equal, so at most one adds */
    /* Hashing what is too long to be a key would only give strangers work to hand out. */
    if (presented.len > LIMIT_KEY_BYTES)
        presented.len = 0;
    enum status status = crypto_sha256(presented, digest, why);
    if (status != ST_OK)
        return status;
    for (size_t i = 0; i < keys->count; i++) /* no early end, no branch */
        match += (i + 1) * (size_t)crypto_equal(keys->list[i].digest, digest, SHA256_BYTES);
    if (match == 0)
        return fail_set(why, ST_DENIED, 0, "the key is missing or wrong");
    *name = keys->list[match - 1].name;
    return ST_OK;
}

/* --- keys that are replaced ----------------------------------------------------------------------------- */

struct key_ring {
    pthread_mutex_t lock;
    struct keys *current;
};

enum status key_ring_new(struct keys *keys, struct key_ring **ring, struct fail *why)
{
    struct key_ring *r = calloc(1, sizeof *r);
    if (!r) {
        keys_free(keys);
        return fail_set(why, ST_NOMEM, 0, "no memory for keys");
    }
    (void)pthread_mutex_init(&r->lock, NULL);
    keys->holders = 1;
    r->current = keys;
    *ring = r;
    return ST_OK;
}

void key_ring_free(struct key_ring *ring)
{
    if (!ring)
        return;
    keys_free(ring->current);
    (void)pthread_mutex_destroy(&ring->lock);
    free(ring);
}

static struct keys *hold(struct key_ring *ring)
{
    (void)pthread_mutex_lock(&ring->lock);
    struct keys *keys = ring->current;
    keys->holders++;
    (void)pthread_mutex_unlock(&ring->lock);
    return keys;
}

static void let_go(struct key_ring *ring, struct keys *keys)
{
    (void)pthread_mutex_lock(&ring->lock);
    bool was_last = --keys->holders == 0;
    (void)pthread_mutex_unlock(&ring->lock);
    if (was_last)
        keys_free(keys);
}

void key_ring_replace(struct key_ring *ring, struct keys *keys)
{
    keys->holders = 1;
    (void)pthread_mutex_lock(&ring->lock);
    struct keys *old = ring->current;
    ring->current = keys;
    (void)pthread_mutex_unlock(&ring->lock);
    let_go(ring, old);
}

enum status key_ring_match(struct key_ring *ring, struct span presented, char name[LIMIT_KEY_NAME_BYTES + 1],
                           struct fail *why)
{
    const char *found;
    struct keys *keys = hold(ring);
    enum status status = keys_match(keys, presented, &found, why);
    if (status == ST_OK)
        memcpy(name, found, LIMIT_KEY_NAME_BYTES + 1);
    let_go(ring, keys);
    return status;
}
