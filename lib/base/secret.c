#include "lib/base/secret.h"

/* System */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

struct secret {
    pthread_mutex_t lock; /* of text */
    struct buf text;
    _Atomic unsigned int version;
};

enum status secret_new(struct span text, struct secret **secret, struct fail *why)
{
    struct secret *s = calloc(1, sizeof *s);
    if (!s)
        return fail_set(why, ST_NOMEM, 0, "no memory for a secret");
    s->text = BUF_INIT(text.len + 1);
    buf_add(&s->text, text); /* in one piece: a buffer that grew would leave copies behind */
    enum status status = buf_status(&s->text, "a secret", why);
    if (status != ST_OK) {
        buf_release_secret(&s->text);
        free(s);
        return status;
    }
    (void)pthread_mutex_init(&s->lock, NULL);
    *secret = s;
    return ST_OK;
}

void secret_free(struct secret *secret)
{
    if (!secret)
        return;
    buf_release_secret(&secret->text);
    (void)pthread_mutex_destroy(&secret->lock);
    free(secret);
}

unsigned int secret_version(const struct secret *secret)
{
    return atomic_load(&secret->version);
}

enum status secret_copy(struct secret *secret, struct buf *out, unsigned int *version, struct fail *why)
{
    (void)pthread_mutex_lock(&secret->lock);
    char *to = buf_reserve(out, secret->text.len + 1);
    if (to) {
        buf_add(out, buf_span(&secret->text));
        *version = atomic_load(&secret->version);
    }
    (void)pthread_mutex_unlock(&secret->lock);
    return buf_status(out, "a secret", why);
}

void secret_replace(struct secret *secret, struct secret *from)
{
    (void)pthread_mutex_lock(&secret->lock);
    struct buf old = secret->text;
    secret->text = from->text;
    from->text = old;
    atomic_fetch_add(&secret->version, 1);
    (void)pthread_mutex_unlock(&secret->lock);
    secret_free(from);
}
