/* lookout.h - what a host sees of troubles that last (lib/store/troubles.h): it looks every five minutes.
 *
 *   an offer     that had leads, and has had none for silence_days: by the directory of
 *                offers, in which test leads and imported ones do not count
 *   the spool    in which a lead has waited for over an hour
 *   the table    that refuses the credentials
 *   the mail     server that refuses our settings: as the mailer has found out, or
 *                else by logging in, at the start, once a day, and more often
 *                while it is refused
 *   a key        that the key file ends within before_days; so also the SAS of the
 *                table, and the TLS certificates of the table and the mail server
 *
 * What concerns the way to the table is kept in the spool, the rest in the store
 * of record.  A lookout that could not find something out says nothing of it.
 *
 * Threads: a lookout belongs to one thread, in the process that holds the relay
 * lock.
 */
#ifndef LEAD_LOOKOUT_H
#define LEAD_LOOKOUT_H

#include "lib/mail/transport.h"
#include "lib/relay/memory.h"
#include "lib/store/spool.h"
#include "lib/store/troubles.h"

struct lookout_options {
    unsigned int silence_days; /* 0: offers are not looked at */
    unsigned int before_days;  /* 0: ends are not looked at */
    const char *keys_file;     /* NULL: keys are not looked at */
    bool mails;                /* whether there is mail, and transport is looked at */
    struct mail_settings transport;
    bool probes;                /* whether it logs in to the mail server by itself */
    bool tells;                 /* alarms are raised; else the rows are kept for status and metrics */
    struct span host;           /* names this host's relay */
    struct mail_memory *memory; /* of the mailer; NULL: none is told of */
    /* When a key of the name was last used on this host, in seconds since 1970; 0: not known.  May be NULL. */
    int64_t (*key_last_use_s)(void *context, const char *name);
    /* How many of a kind there are now, by whomever they are seen; may be NULL. */
    void (*on_troubles)(void *context, enum trouble_kind kind, size_t lasting);
    void *context;
};

struct lookout;

/* Keeps what the options point to until lookout_free. */
MUST_CHECK enum status lookout_new(const struct lookout_options *options, struct lookout **lookout,
                                   struct fail *why);
void lookout_free(struct lookout *lookout);

/* Looks if it is time to, and settles what it has seen.  store: the store of
 * record; local: the spool's current generation, or NULL.  The status is that of
 * the stores; a mail server that is slow takes as long as mail_probe does. */
MUST_CHECK enum status lookout_look(struct lookout *lookout, struct store *store, struct store *local,
                                    struct fail *why);

#endif
