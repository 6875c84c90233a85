/* check.h - what the parts of `leadctl check` share: findings, and how they are told.
 *
 * A part tries something for real and tells of it with check_say or check_failed,
 * one finding each.  A finding names its subject in one word that scripts may
 * rely on, says what was tried and came of it, and unless all is well what that
 * means and what to do.  Texts may hold what others said; they are cleaned here.
 */
#ifndef LEAD_CTL_CHECK_H
#define LEAD_CTL_CHECK_H

#include "handler/service.h"
#include "lib/net/peer.h"

enum check_level { CHECK_OK, CHECK_WARN, CHECK_FAIL };
enum {
    CHECK_LEVELS = CHECK_FAIL + 1,
    CHECK_WAIT_MS = 15000 /* for each step that somebody else has to answer */
};

struct check {
    struct service *service;
    bool as_json;
    unsigned int counts[CHECK_LEVELS];

    /* The arguments. */
    const char *nginx_file; /* what `nginx -T` printed, "-" for standard input, NULL: ask nginx */
    bool sends_mail;
    bool sends_lead;
    const char *url;      /* of the test lead; NULL: as nginx's configuration says */
    const char *key_file; /* for it; "-" for standard input */
    const char *ca_file;  /* for it */
    int64_t lead_wait_ms;

    struct buf key;      /* for the test lead; a secret */
    struct buf lead_url; /* what nginx's configuration says; blank: not known */
};

/* What a failure means and what to do. */
struct check_advice {
    const char *words; /* found in the failure's text, in any case of letters */
    const char *means;
    const char *cure;
};

enum check_area { CHECK_AREA_TABLE, CHECK_AREA_SQLITE, CHECK_AREA_MAIL, CHECK_AREA_NETWORK };

/* The advice for what such a text says; never NULL, its texts may be. */
const struct check_advice *check_advice_for(enum check_area area, const char *text);

/* Prints one finding, and counts it.  means and cure may be NULL. */
void check_say(struct check *c, enum check_level level, const char *subject, const char *means,
               const char *cure, const char *format, ...) PRINTF_LIKE(6, 7);

/* A failure of that area, with the advice for its words. */
void check_failed(struct check *c, const char *subject, enum check_area area, const struct fail *why);

/* Connects to the host of a URL and tells of its name and connection, "<prefix>-host", and, where there is TLS, of its
 * certificates, "<prefix>-tls".  Whether it is worth asking for more. */
bool check_peer(struct check *c, const char *prefix, const struct peer_target *target);

/* Tells whether leadhook takes connections at the socket, and nginx's worker of that user ("": not known) may make them. */
void check_socket(struct check *c, const char *path, const char *nginx_user);

/* Takes the key for the test lead from where the arguments say, asks for it otherwise.  Before root's rights are given up.
 * ST_NOT_FOUND, ST_INVALID: there is none; those of file.h. */
MUST_CHECK enum status check_take_key(struct check *c, struct fail *why);

/* --- the parts, in the order in which they are told ------------------------------------------------------- */

void check_versions(struct check *c);
void check_keys(struct check *c);
void check_nginx(struct check *c);
void check_store(struct check *c);
void check_spool(struct check *c);
void check_disks(struct check *c);
void check_mail(struct check *c);
void check_routes(struct check *c);
void check_alarms(struct check *c);
void check_files(struct check *c); /* last, so that it sees what the others have made */
void check_test_lead(struct check *c);

#endif
