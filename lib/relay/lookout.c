#include "lib/relay/lookout.h"

/* System */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/log.h"
#include "lib/base/text.h"

/* L2 */
#include "lib/auth/keys.h"

/* L6 */
#include "lib/store/offers.h"

enum { STORE_WAIT_MS = 10000, HOST_BYTES = 256 };
#define MINUTE_MS (60 * 1000LL)
#define LOOK_MS   (5 * MINUTE_MS)
#define STUCK_MS  (60 * MINUTE_MS) /* in the spool; "spooling" has been told at once */
#define REFUSED_PROBE_MS                                                                                     \
    (15 * MINUTE_MS) /* as the mailer's own longest pause: some servers lock who tries more often */
#define LOST_DAYS 60 /* beyond silence_days: an offer that has had no lead for so much longer has ended */

struct lookout {
    struct lookout_options options;
    bool tries_mail;                 /* there is a mail server to log in to */
    unsigned int password;           /* which one the last probe has used */
    bool mail_is_probed;             /* so that it is known when its certificate ends, */
    int64_t mail_certificate_end_ms; /* or that it shows none: 0 */
    int64_t looked_ms;               /* monotonic; 0: not yet */
    enum mail_login login;           /* as it was then */
    int64_t refused_since_ms;        /* by the table, this host's clock; 0: it is not */
    char host[HOST_BYTES];
    size_t lasting[TROUBLE_KINDS]; /* when that was logged */
    struct log_repeat logged;
};

/* One look.  What is of this host's way to the table is apart: its home is the spool. */
struct look {
    struct lookout *lookout;
    struct store *store;
    struct store *local;
    struct sighting ours; /* for the store of record */
    struct sighting spool;
    int64_t now_ms; /* by the clock of the store of record */
};

static void PRINTF_LIKE(3, 4) say(char *to, size_t room, const char *format, ...)
{
    char text[1024], memory[3 * sizeof text];
    struct buf clean = BUF_FIXED(memory);
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    text_add_line(&clean, span_of(text)); /* names come from leads, reasons from servers */
    struct span cut = utf8_cut_bytes(buf_span(&clean), room - 1);
    (void)snprintf(to, room, "%.*s", SPAN_FMT(cut));
}

static const char *time_text(int64_t wall_ms, char text[CLOCK_TEXT_BYTES])
{
    clock_minute_words(wall_ms, text);
    return text;
}

/* --- leads --------------------------------------------------------------------------------------------------- */

static enum status visit_offer(void *context, struct entity *row, struct fail *why)
{
    struct look *look = context;
    const struct lookout_options *o = &look->lookout->options;
    struct offer offer = offer_of_row(row);
    /* By the clock that has come with this page: before the first answer it is this host's. */
    int64_t days = (store_now_ms(look->store) - offer.last_ms) / CLOCK_DAY_MS;
    char time[CLOCK_TEXT_BYTES];
    (void)why;
    if (offer.last_ms <= 0 || days < o->silence_days || days >= o->silence_days + 2 * LOST_DAYS)
        return ST_OK;
    struct trouble *t = sighting_add(&look->ours, TROUBLE_SILENCE);
    if (!t)
        return ST_OK;
    t->is_forgotten = days >= o->silence_days + LOST_DAYS;
    t->since_ms = offer.last_ms;
    say(t->subject, sizeof t->subject, "%.*s", SPAN_FMT(offer.partition));
    say(t->title, sizeof t->title, "No lead for %s", t->subject);
    say(t->detail, sizeof t->detail,
        "The last lead for the offer %s came %s, %" PRId64 " days ago (alarm_silence_days is %u).",
        t->subject, time_text(offer.last_ms, time), days, o->silence_days);
    return ST_OK;
}

static enum status look_at_offers(struct look *look, struct fail *why)
{
    struct query q = offers_times_query(0);
    if (look->lookout->options.silence_days == 0) {
        look->ours.looked[TROUBLE_SILENCE] = LOOK_OFF;
        return ST_OK;
    }
    enum status status = store_each(look->store, &q, STORE_WAIT_MS, visit_offer, look, why);
    if (status == ST_OK)
        look->ours.looked[TROUBLE_SILENCE] = LOOK_DONE;
    return status;
}

/* --- the way to the table ------------------------------------------------------------------------------------ */

/* What the spool's first row tells: keys begin with the time of receipt. */
static enum status look_at_spool(struct look *look, struct fail *why)
{
    struct lookout *l = look->lookout;
    struct arena arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    char time[CLOCK_TEXT_BYTES];
    uint64_t leads, oldest_ms = 0;
    struct span first;
    enum status status = spool_waiting(look->local, &leads, &arena, &first, why);
    bool waits = status == ST_OK && leads > 0 &&
                 span_to_u64(span_cut(first, 0, span_find(first, '-')), INT64_MAX, &oldest_ms) &&
                 store_now_ms(look->local) - (int64_t)oldest_ms >= clock_long_wait_ms(STUCK_MS);
    struct trouble *t = waits ? sighting_add(&look->spool, TROUBLE_SPOOL_STUCK) : NULL;
    if (status == ST_OK)
        look->spool.looked[TROUBLE_SPOOL_STUCK] = LOOK_DONE;
    if (t) {
        t->since_ms = (int64_t)oldest_ms;
        say(t->subject, sizeof t->subject, "spool");
        say(t->title, sizeof t->title, "%" PRIu64 " lead%s the spool of %s", leads,
            leads == 1 ? " waits in" : "s wait in", l->host);
        say(t->detail, sizeof t->detail,
            "%" PRIu64 " lead%s in the spool of the host %s, the oldest since %s.", leads,
            leads == 1 ? " waits" : "s wait", l->host, time_text((int64_t)oldest_ms, time));
    }
    arena_release(&arena);
    return status;
}

/* status and why: what the store of record has answered to everything so far. */
static void look_at_refusal(struct look *look, enum status status, const struct fail *why)
{
    struct lookout *l = look->lookout;
    if (status != ST_OK && status != ST_DENIED)
        return; /* whether it would let us in cannot be told */
    look->spool.looked[TROUBLE_TABLE_REFUSED] = LOOK_DONE;
    if (status == ST_OK) {
        l->refused_since_ms = 0;
        return;
    }
    if (l->refused_since_ms == 0)
        l->refused_since_ms = clock_wall_ms();
    struct trouble *t = sighting_add(&look->spool, TROUBLE_TABLE_REFUSED);
    if (!t)
        return;
    t->since_ms = l->refused_since_ms;
    say(t->subject, sizeof t->subject, "table");
    say(t->title, sizeof t->title, "%s has no access to the table", l->host);
    say(t->detail, sizeof t->detail, "%s", why->text);
}

/* --- the mail server ----------------------------------------------------------------------------------------- */

/* A number that changes with it. */
static unsigned int password_of_now(const struct lookout *l)
{
    return l->options.transport.live ? secret_version(l->options.transport.live) : 0;
}

static bool is_probe_due(const struct lookout *l, const struct mail_login_state *state)
{
    int64_t age_ms = clock_monotonic_ms() - state->noted_ms;
    if (password_of_now(l) != l->password)
        return true;
    switch (state->login) {
    case MAIL_LOGIN_UNKNOWN:
        return true;
    case MAIL_LOGIN_WORKS:
        return age_ms >= clock_long_wait_ms(CLOCK_DAY_MS) || !l->mail_is_probed; /* for its certificate */
    case MAIL_LOGIN_REFUSED:
        return age_ms >= clock_long_wait_ms(REFUSED_PROBE_MS);
    }
    return false;
}

/* The transport lives for the probe only: nobody holds the password for a login a day. */
static void probe_mail(struct lookout *l)
{
    struct mail_transport *transport;
    struct fail reason;
    l->password = password_of_now(l);
    if (mail_transport_new(&l->options.transport, &transport, &reason) != ST_OK)
        return; /* no memory: the settings were checked at the start */
    enum mail_outcome outcome = mail_probe(transport, &reason);
    int64_t end_ms = mail_certificate_end_ms(transport);
    mail_transport_free(transport);
    mail_memory_note_login(l->options.memory, outcome, &reason);
    if (outcome == MAIL_ACCEPTED)
        log_event(LOG_LEVEL_INFO, "mail-server-tried", NULL);
    else
        log_failure(LOG_LEVEL_WARNING, "mail-server-tried", &reason, NULL);
    if (outcome == MAIL_ACCEPTED || end_ms) {
        l->mail_is_probed = true;
        l->mail_certificate_end_ms = end_ms;
    }
}

static void look_at_mail(struct look *look)
{
    struct lookout *l = look->lookout;
    if (!l->options.mails || !l->options.memory) {
        look->ours.looked[TROUBLE_MAIL_PAUSED] = LOOK_OFF;
        return;
    }
    struct mail_login_state state = mail_memory_login(l->options.memory);
    if (l->tries_mail && is_probe_due(l, &state)) {
        probe_mail(l);
        state = mail_memory_login(l->options.memory);
    }
    l->login = state.login;
    if (state.login == MAIL_LOGIN_UNKNOWN)
        return;
    look->ours.looked[TROUBLE_MAIL_PAUSED] = LOOK_DONE;
    struct trouble *t =
        state.login == MAIL_LOGIN_REFUSED ? sighting_add(&look->ours, TROUBLE_MAIL_PAUSED) : NULL;
    if (!t)
        return;
    t->since_ms = look->now_ms;
    /* Each host by itself: their settings may differ. */
    say(t->subject, sizeof t->subject, "%s", l->host);
    say(t->title, sizeof t->title, "The mail server refuses the settings of %s", l->host);
    say(t->detail, sizeof t->detail, "Notifications are not going out from the host %s: %s", l->host,
        state.reason);
}

/* --- what comes to its end ----------------------------------------------------------------------------------- */

static bool ends_soon(const struct look *look, int64_t end_ms)
{
    return end_ms > 0 && end_ms - look->now_ms < (int64_t)look->lookout->options.before_days * CLOCK_DAY_MS;
}

static void see_key(struct look *look, const struct key_end *end)
{
    const struct lookout_options *o = &look->lookout->options;
    struct trouble *t = sighting_add(&look->ours, TROUBLE_KEY_RETIRING);
    char end_text[CLOCK_TEXT_BYTES], used_text[CLOCK_TEXT_BYTES];
    const char *what = end->is_signing ? "signing secret" : "key";
    int64_t used_s = o->key_last_use_s ? o->key_last_use_s(o->context, end->name) : 0;
    if (!t)
        return;
    (void)time_text(end->retire_ms, end_text);
    say(t->subject, sizeof t->subject, "%s %s %s", what, end->name, end_text);
    say(t->title, sizeof t->title, "The %s '%s' ends %s", what, end->name, end_text);
    say(t->detail, sizeof t->detail,
        "The key file ends the %s '%s' at %s: what comes with it from then on is refused. %s%s%s%s", what,
        end->name, end_text,
        end->has_other ? "Another one of this name stays, which the sender must use by then."
                       : "There is no other one of this name that stays.",
        used_s ? " On this host the name was last used " : "",
        used_s ? time_text(used_s * 1000, used_text) : "", used_s ? "." : "");
}

static void look_at_keys(struct look *look)
{
    struct lookout *l = look->lookout;
    struct buf mistakes = BUF_INIT(LIMIT_CONFIG_FILE_BYTES);
    struct keys *keys;
    struct key_end end;
    struct fail why;
    size_t index = 0;
    if (l->options.before_days == 0 || !l->options.keys_file) {
        look->ours.looked[TROUBLE_KEY_RETIRING] = LOOK_OFF;
        return;
    }
    /* The file and not the keys in use: who has moved the day has dealt with it, and reloads. */
    enum status status = keys_read(l->options.keys_file, look->now_ms, &keys, &mistakes, &why);
    buf_release(&mistakes);
    if (status != ST_OK) {
        if (!log_is_repeat(&l->logged, &why))
            log_failure(LOG_LEVEL_WARNING, "keys-not-looked-at", &why, NULL);
        return;
    }
    look->ours.looked[TROUBLE_KEY_RETIRING] = LOOK_DONE;
    while (keys_next_end(keys, look->now_ms, &index, &end)) {
        if (ends_soon(look, end.retire_ms))
            see_key(look, &end);
    }
    keys_free(keys);
}

static void see_end(struct look *look, enum trouble_kind kind, const char *what, int64_t end_ms)
{
    char time[CLOCK_TEXT_BYTES];
    struct trouble *t = ends_soon(look, end_ms) ? sighting_add(&look->ours, kind) : NULL;
    if (!t)
        return;
    (void)time_text(end_ms, time);
    say(t->subject, sizeof t->subject, "%s %s", what, time);
    say(t->title, sizeof t->title, "The %s ends %s", what, time);
    say(t->detail, sizeof t->detail, "The %s, as the host %s sees it, %s %s.", what, look->lookout->host,
        end_ms > look->now_ms ? "ends" : "has ended", time);
}

static void look_at_ends(struct look *look)
{
    const struct lookout *l = look->lookout;
    struct table_ends ends = store_ends(look->store);
    enum trouble_look looked = l->options.before_days ? LOOK_DONE : LOOK_OFF;
    look->ours.looked[TROUBLE_SAS_ENDING] = looked;
    /* Until the mail server was seen, what is known of its certificate is left as it is. */
    look->ours.looked[TROUBLE_CERTIFICATE_ENDING] = l->tries_mail && !l->mail_is_probed ? LOOK_NONE : looked;
    if (looked == LOOK_OFF)
        return;
    see_end(look, TROUBLE_SAS_ENDING, "SAS for the table", ends.sas_ms);
    see_end(look, TROUBLE_CERTIFICATE_ENDING, "certificate of the table's server", ends.certificate_ms);
    see_end(look, TROUBLE_CERTIFICATE_ENDING, "certificate of the mail server", l->mail_certificate_end_ms);
}

/* --- the look ------------------------------------------------------------------------------------------------ */

static bool begin_sighting(const struct lookout *l, struct sighting *sighting)
{
    *sighting = (struct sighting){
        .host = l->options.host,
        .tells = l->options.tells,
        .seen = calloc(LIMIT_TROUBLES_SEEN, sizeof *sighting->seen),
    };
    return sighting->seen != NULL;
}

/* What is kept in the spool: it keeps this host from the store of record. */
static bool is_local(enum trouble_kind kind)
{
    return kind == TROUBLE_SPOOL_STUCK || kind == TROUBLE_TABLE_REFUSED;
}

static void note_lasting(struct lookout *l, enum trouble_kind kind, size_t lasting)
{
    if (lasting != l->lasting[kind])
        log_event(lasting > l->lasting[kind] ? LOG_LEVEL_WARNING : LOG_LEVEL_INFO, "troubles",
                  "kind=%s count=%zu", trouble_name(kind), lasting);
    l->lasting[kind] = lasting;
    if (l->options.on_troubles)
        l->options.on_troubles(l->options.context, kind, lasting);
}

static enum status settle(const struct look *look, struct store *home, const struct sighting *sighting,
                          struct fail *why)
{
    size_t lasting[TROUBLE_KINDS];
    enum status status = troubles_settle(home, sighting, clock_monotonic_ms() + STORE_WAIT_MS, lasting, why);
    for (size_t i = 0; i < TROUBLE_KINDS && status == ST_OK; i++) {
        if (is_local((enum trouble_kind)i) == (home == look->local))
            note_lasting(look->lookout, (enum trouble_kind)i, lasting[i]);
    }
    return status;
}

static enum status look_around(struct look *look, struct fail *why)
{
    struct fail spool_why;
    enum status status = look_at_offers(look, why);
    if (status == ST_OK && look->lookout->options.silence_days == 0)
        status = store_probe(look->store, clock_monotonic_ms() + STORE_WAIT_MS, why);
    look->now_ms = store_now_ms(look->store); /* now that it has answered */
    look_at_refusal(look, status, why);
    look_at_mail(look);
    look_at_keys(look);
    look_at_ends(look);
    if (status == ST_OK)
        status = settle(look, look->store, &look->ours, why);
    if (!look->local)
        return status;
    enum status spool = look_at_spool(look, &spool_why);
    if (spool == ST_OK)
        spool = settle(look, look->local, &look->spool, &spool_why);
    if (status == ST_OK && spool != ST_OK)
        *why = spool_why;
    return status == ST_OK ? spool : status;
}

/* What the mailer has found out is told at once, and a new password tried. */
static bool is_due(const struct lookout *l, int64_t now_ms)
{
    if (l->looked_ms == 0 || now_ms - l->looked_ms >= clock_long_wait_ms(LOOK_MS))
        return true;
    if (l->tries_mail && password_of_now(l) != l->password)
        return true;
    return l->options.memory && mail_memory_login(l->options.memory).login != l->login;
}

enum status lookout_look(struct lookout *lookout, struct store *store, struct store *local, struct fail *why)
{
    struct lookout *l = lookout;
    struct look look = {.lookout = l, .store = store, .local = local};
    int64_t now_ms = clock_monotonic_ms();
    if (!is_due(l, now_ms))
        return ST_OK;
    bool ok = begin_sighting(l, &look.ours) && begin_sighting(l, &look.spool);
    enum status status =
        ok ? look_around(&look, why) : fail_set(why, ST_NOMEM, 0, "no memory to look for troubles");
    l->looked_ms = now_ms;
    free(look.ours.seen);
    free(look.spool.seen);
    return status;
}

enum status lookout_new(const struct lookout_options *options, struct lookout **lookout, struct fail *why)
{
    struct lookout *l = calloc(1, sizeof *l);
    if (!l)
        return fail_set(why, ST_NOMEM, 0, "no memory for the lookout");
    l->options = *options;
    (void)gethostname(l->host, sizeof l->host - 1); /* without a name it is still a host */
    if (l->host[0] == '\0')
        (void)snprintf(l->host, sizeof l->host, "this host");
    /* A Maildir has no login, and tells with the mail itself whether it takes it. */
    l->tries_mail =
        options->mails && options->probes && span_starts(options->transport.url, SPAN_LIT("smtp"));
    if (l->tries_mail)
        l->password = password_of_now(l);
    *lookout = l;
    return ST_OK;
}

void lookout_free(struct lookout *lookout)
{
    free(lookout);
}
