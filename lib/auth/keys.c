#include "lib/auth/keys.h"

/* System */
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/encode.h"
#include "lib/base/file.h"
#include "lib/base/live.h"

struct key {
    char name[LIMIT_KEY_NAME_BYTES + 1];
    int64_t retire_ms;
    /* Of a key its SHA-256.  Of a signing secret its bytes and zeros behind them: HMAC does the same to a key that
     * is shorter than a block of its hash, so two secrets are one for HMAC when these are equal. */
    unsigned char bytes[LIMIT_SIGNING_SECRET_BYTES];
    size_t byte_count;
};

struct keys {
    struct live_part part; /* the first */
    size_t count;
    struct key list[LIMIT_KEYS];
    size_t secret_count;
    struct key secrets[LIMIT_SIGNING_SECRETS];
};

/* --- one line ------------------------------------------------------------------------------------------------ */

#define HASH_MARK   SPAN_LIT("sha256:")
#define SECRET_MARK SPAN_LIT("whsec_")

/* Takes the first word off the rest of a line, which has no blanks before it. */
static struct span next_word(struct span *rest)
{
    size_t end = 0;
    while (end < rest->len && rest->ptr[end] != ' ' && rest->ptr[end] != '\t')
        end++;
    struct span word = span_cut(*rest, 0, end);
    *rest = span_trim(span_from(*rest, end));
    return word;
}

static enum status wrong(struct fail *why, const char *mistake)
{
    return fail_set(why, ST_INVALID, 0, "%s", mistake);
}

static enum status read_plain(struct key_line *l, struct fail *why)
{
    l->kind = KEY_PLAIN;
    if (l->key.len < LIMIT_KEY_MIN_BYTES || l->key.len > LIMIT_KEY_BYTES || !span_has_only(l->key, "-_.~"))
        return wrong(why, "the key must be 16 to 128 letters, digits, '-', '_', '.' or '~'");
    l->byte_count = SHA256_BYTES;
    return crypto_sha256(l->key, l->bytes, why);
}

static enum status read_hashed(struct key_line *l, struct span digits, struct fail *why)
{
    l->kind = KEY_HASHED;
    l->byte_count = SHA256_BYTES;
    if (!hex_read(digits, l->bytes, SHA256_BYTES))
        return wrong(why, "after 'sha256:' there must be 64 lower-case hexadecimal digits");
    return ST_OK;
}

static enum status read_secret(struct key_line *l, struct span text, struct fail *why)
{
    struct buf bytes = BUF_INIT(LIMIT_SIGNING_SECRET_BYTES + 2); /* as much as base64_decode asks for */
    l->kind = KEY_SIGNING;
    enum status status = base64_decode(&bytes, text, why);
    if (status == ST_OK && bytes.len >= LIMIT_SIGNING_SECRET_MIN_BYTES &&
        bytes.len <= LIMIT_SIGNING_SECRET_BYTES) {
        memcpy(l->bytes, bytes.data, bytes.len);
        l->byte_count = bytes.len;
    } else if (status != ST_NOMEM) {
        status = wrong(why, "after 'whsec_' there must be 24 to 64 bytes in base64");
    }
    buf_release_secret(&bytes);
    return status;
}

static enum status read_key(struct key_line *l, struct fail *why)
{
    if (span_starts(l->key, HASH_MARK))
        return read_hashed(l, span_from(l->key, HASH_MARK.len), why);
    if (span_starts(l->key, SECRET_MARK))
        return read_secret(l, span_from(l->key, SECRET_MARK.len), why);
    return read_plain(l, why);
}

/* What may stand behind the key. */
static enum status read_times(struct key_line *l, struct span rest, struct fail *why)
{
    bool is_created = false, is_retired = false;
    while (rest.len) {
        struct span word = next_word(&rest);
        struct span created = SPAN_LIT("created="), retire = SPAN_LIT("retire=");
        bool good;
        if (span_starts(word, created) && !is_created) {
            is_created = true;
            l->created = span_from(word, created.len);
            good = clock_parse_iso_time(l->created, &l->created_ms);
        } else if (span_starts(word, retire) && !is_retired) {
            is_retired = true;
            good = clock_parse_iso_time(span_from(word, retire.len), &l->retire_ms);
        } else {
            return wrong(why, "behind the key only created=TIME and retire=TIME may stand, each once");
        }
        if (!good)
            return wrong(why, "a time must be like 2026-11-21T10:00:00Z");
    }
    return ST_OK;
}

enum status key_line_parse(struct span line, struct key_line *parsed, struct fail *why)
{
    struct key_line l = {.retire_ms = KEY_NEVER};
    enum status status = ST_OK;
    struct span rest = span_trim(line);
    if (rest.len && rest.ptr[0] != '#') {
        l.name = next_word(&rest);
        l.key = next_word(&rest);
        if (l.name.len > LIMIT_KEY_NAME_BYTES || !span_has_only(l.name, "._-"))
            status = wrong(why, "the name must be 1 to 64 letters, digits, '.', '_' or '-'");
        if (status == ST_OK)
            status = read_key(&l, why);
        if (status == ST_OK)
            status = read_times(&l, rest, why);
    }
    if (status == ST_OK)
        *parsed = l;
    crypto_wipe(&l, sizeof l);
    return status;
}

/* --- a file -------------------------------------------------------------------------------------------------- */

static bool is_live(const struct key *key, int64_t now_ms)
{
    return now_ms < key->retire_ms;
}

/* What is wrong with one more of its kind, or NULL. */
static const char *mistake_in(const struct key *list, size_t count, size_t limit, const struct key *entry,
                              int64_t now_ms)
{
    size_t live = 0;
    if (count == limit)
        return "too many of this kind in the file";
    for (size_t i = 0; i < count; i++) {
        if (crypto_equal(list[i].bytes, entry->bytes, sizeof entry->bytes))
            return "this key stands in the file already";
        live += is_live(&list[i], now_ms) && strcmp(list[i].name, entry->name) == 0 ? 1 : 0;
    }
    return live >= LIMIT_LIVE_KEYS_PER_NAME && is_live(entry, now_ms)
               ? "this name has two live keys of this kind already: remove or retire the oldest"
               : NULL;
}

static enum status add_line(struct keys *keys, struct span line, int64_t now_ms, struct fail *why)
{
    struct key_line parsed;
    enum status status = key_line_parse(line, &parsed, why);
    if (status != ST_OK || parsed.kind == KEY_NOTHING)
        return status;
    bool is_secret = parsed.kind == KEY_SIGNING;
    struct key *list = is_secret ? keys->secrets : keys->list;
    size_t *count = is_secret ? &keys->secret_count : &keys->count;
    struct key entry = {.retire_ms = parsed.retire_ms, .byte_count = parsed.byte_count};
    memcpy(entry.name, parsed.name.ptr, parsed.name.len);
    memcpy(entry.bytes, parsed.bytes, sizeof entry.bytes);
    const char *mistake =
        mistake_in(list, *count, is_secret ? LIMIT_SIGNING_SECRETS : LIMIT_KEYS, &entry, now_ms);
    if (!mistake)
        list[(*count)++] = entry;
    crypto_wipe(&entry, sizeof entry);
    crypto_wipe(&parsed, sizeof parsed);
    return mistake ? wrong(why, mistake) : ST_OK;
}

static enum status add_lines(struct keys *keys, struct span text, const char *path, int64_t now_ms,
                             struct buf *mistakes, struct fail *why)
{
    struct span rest = text, line;
    enum status result = ST_OK;
    for (size_t number = 1; span_next(&rest, '\n', &line); number++) {
        struct fail mistake;
        enum status status = add_line(keys, line, now_ms, &mistake);
        if (status == ST_OK)
            continue;
        if (status != ST_INVALID) {
            *why = mistake;
            return status;
        }
        buf_addf(mistakes, "%s:%zu: %s\n", path, number, mistake.text);
        if (result == ST_OK)
            result = fail_set(why, ST_INVALID, 0, "%s:%zu: %s", path, number, mistake.text);
    }
    if (result == ST_OK && keys->count + keys->secret_count == 0) {
        buf_addf(mistakes, "%s: holds no key\n", path);
        result = fail_set(why, ST_INVALID, 0, "%s: holds no key", path);
    }
    return result;
}

enum status keys_parse(struct span text, const char *path, int64_t now_ms, struct keys **keys,
                       struct buf *mistakes, struct fail *why)
{
    struct keys *k = calloc(1, sizeof *k);
    if (!k)
        return fail_set(why, ST_NOMEM, 0, "no memory for keys");
    enum status status = add_lines(k, text, path, now_ms, mistakes, why);
    if (status == ST_OK)
        *keys = k;
    else
        keys_free(k);
    return status;
}

enum status keys_read(const char *path, int64_t now_ms, struct keys **keys, struct buf *mistakes,
                      struct fail *why)
{
    struct buf text = BUF_INIT(LIMIT_KEY_FILE_BYTES);
    /* All the room at once: a buffer that grew would leave copies of the keys behind. */
    if (!buf_reserve(&text, LIMIT_KEY_FILE_BYTES))
        return fail_set(why, ST_NOMEM, 0, "no memory for keys");
    enum status status = file_read(path, FILE_PRIVATE, &text, why);
    if (status == ST_OK)
        status = keys_parse(buf_span(&text), path, now_ms, keys, mistakes, why);
    buf_release_secret(&text);
    return status;
}

void keys_free(struct keys *keys)
{
    if (keys)
        crypto_wipe(keys, sizeof *keys);
    free(keys);
}

static size_t count_live(const struct key *list, size_t count, int64_t now_ms)
{
    size_t live = 0;
    for (size_t i = 0; i < count; i++)
        live += is_live(&list[i], now_ms) ? 1 : 0;
    return live;
}

size_t keys_count(const struct keys *keys, int64_t now_ms)
{
    return count_live(keys->list, keys->count, now_ms) +
           count_live(keys->secrets, keys->secret_count, now_ms);
}

static bool outlives(const struct key *other, const struct key *key, int64_t now_ms)
{
    return is_live(other, now_ms) && other->retire_ms > key->retire_ms && strcmp(other->name, key->name) == 0;
}

bool keys_next_end(const struct keys *keys, int64_t now_ms, size_t *index, struct key_end *end)
{
    while (*index < keys->count + keys->secret_count) {
        size_t at = (*index)++;
        bool is_signing = at >= keys->count;
        const struct key *list = is_signing ? keys->secrets : keys->list;
        const struct key *key = &list[is_signing ? at - keys->count : at];
        if (key->retire_ms == KEY_NEVER || !is_live(key, now_ms))
            continue;
        *end = (struct key_end){.name = key->name, .is_signing = is_signing, .retire_ms = key->retire_ms};
        for (size_t i = 0; i < (is_signing ? keys->secret_count : keys->count); i++)
            end->has_other = end->has_other || outlives(&list[i], key, now_ms);
        return true;
    }
    return false;
}

enum status keys_match(const struct keys *keys, struct span presented, int64_t now_ms, const char **name,
                       struct fail *why)
{
    unsigned char digest[SHA256_BYTES];
    size_t match = 0; /* its number, from 1: no two keys are equal, so at most one adds */
    /* A hash in the file may be that of anything: of no key at all, where somebody hashed a variable that was not set.
     * Hashing what is too long to be a key would only give strangers work to hand out. */
    bool may_be_key = presented.len >= LIMIT_KEY_MIN_BYTES && presented.len <= LIMIT_KEY_BYTES;
    if (!may_be_key)
        presented.len = 0;
    enum status status = crypto_sha256(presented, digest, why);
    if (status != ST_OK)
        return status;
    for (size_t i = 0; i < keys->count; i++) /* no early end, no branch */
        match += (i + 1) * (size_t)crypto_equal(keys->list[i].bytes, digest, SHA256_BYTES);
    if (!may_be_key || match == 0 || !is_live(&keys->list[match - 1], now_ms))
        return fail_set(why, ST_DENIED, 0, "the key is missing or wrong");
    *name = keys->list[match - 1].name;
    return ST_OK;
}

static bool is_of(const struct key *secret, const char *name, int64_t now_ms)
{
    return is_live(secret, now_ms) && (!name || strcmp(secret->name, name) == 0);
}

enum status keys_verify(const struct keys *keys, const struct signed_request *request, const char *of,
                        int64_t now_ms, struct arena *arena, const char **name, struct fail *why)
{
    /* Its number, from 1.  A sender that changes its secret signs with both: then the first in the file. */
    size_t match = 0;
    enum status status = signature_check_form(request, now_ms, why);
    if (status != ST_OK)
        return status;
    struct span text = signature_text(request, arena);
    if (!text.ptr)
        return fail_set(why, ST_NOMEM, 0, "no memory to verify a signature");
    for (size_t i = 0; i < keys->secret_count; i++) { /* no early end: which one it is does not show */
        const struct key *secret = &keys->secrets[i];
        bool matches;
        if (!is_of(secret, of, now_ms))
            continue;
        status =
            signature_compare(request->signature, text,
                              (struct span){(const char *)secret->bytes, secret->byte_count}, &matches, why);
        if (status != ST_OK)
            return status;
        match += (i + 1) * (size_t)matches * (size_t)(match == 0);
    }
    if (match == 0)
        return fail_set(why, ST_DENIED, 0, "the signature is wrong");
    *name = keys->secrets[match - 1].name;
    return ST_OK;
}

static bool has_secret(const struct keys *keys, const char *name, int64_t now_ms)
{
    for (size_t i = 0; i < keys->secret_count; i++) {
        if (is_of(&keys->secrets[i], name, now_ms))
            return true;
    }
    return false;
}

/* Why a signature beside a key is not simply passed over: only a verified one binds the webhook-id to the body, and
 * a sender whose secret is wrong should hear of it while it is being set up.  Why it is where the key's name has no
 * secret: some senders sign everything, and nothing was agreed with them. */
static enum status authorize(const struct keys *keys, const struct credentials *c, int64_t now_ms,
                             struct arena *arena, const char **name, bool *is_signed, struct fail *why)
{
    enum status status = ST_OK;
    *name = NULL;
    *is_signed = c->signed_request.signature.len > 0;
    if (c->key.len || !*is_signed)
        status = keys_match(keys, c->key, now_ms, name, why);
    if (status == ST_OK && *name)
        *is_signed = *is_signed && has_secret(keys, *name, now_ms);
    if (status == ST_OK && *is_signed)
        status = keys_verify(keys, &c->signed_request, *name, now_ms, arena, name, why);
    return status;
}

/* --- keys that are replaced ----------------------------------------------------------------------------- */

struct key_ring {
    struct live keys;
};

static void free_part(struct live_part *part)
{
    keys_free((struct keys *)part);
}

enum status key_ring_new(struct keys *keys, struct key_ring **ring, struct fail *why)
{
    struct key_ring *r = calloc(1, sizeof *r);
    if (!r) {
        keys_free(keys);
        return fail_set(why, ST_NOMEM, 0, "no memory for keys");
    }
    live_init(&r->keys, &keys->part, free_part);
    *ring = r;
    return ST_OK;
}

void key_ring_free(struct key_ring *ring)
{
    if (!ring)
        return;
    live_release(&ring->keys);
    free(ring);
}

void key_ring_replace(struct key_ring *ring, struct keys *keys)
{
    live_replace(&ring->keys, &keys->part);
}

enum status key_ring_authorize(struct key_ring *ring, const struct credentials *credentials, int64_t now_ms,
                               struct arena *arena, struct holder *holder, struct fail *why)
{
    const char *name;
    bool is_signed;
    struct live_part *part = live_hold(&ring->keys);
    enum status status = authorize((struct keys *)part, credentials, now_ms, arena, &name, &is_signed, why);
    if (status == ST_OK) {
        memcpy(holder->name, name, sizeof holder->name);
        holder->is_signed = is_signed;
    }
    live_let_go(&ring->keys, part);
    return status;
}
