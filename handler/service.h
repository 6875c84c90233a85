/* service.h - the parts that leadhook and leadctl make of a configuration. */
#ifndef LEAD_SERVICE_H
#define LEAD_SERVICE_H

#include "handler/config.h"
#include "handler/metrics.h"
#include "lib/auth/keys.h"
#include "lib/mail/routes.h"
#include "lib/relay/relay.h"
#include "lib/store/committer.h"

struct service {
    const char *config_path;
    struct config config;
    struct metrics *metrics;
    struct route_book *routes; /* NULL until service_read_routes */
};

/* The first that a program does: nothing it makes is for others, and it leaves no core dump, which would hold keys and
 * personal data. */
void service_protect_process(void);

/* Which argument is the first behind --config FILE, with which both programs may begin; argc: there is none. */
int service_first_argument(int argc, char **argv);
/* Reads the configuration; prints every mistake on standard error after the
 * program's name.  Gives 0, or the exit status (EX_CONFIG). */
int service_read(struct service *service, const char *program, int argc, char **argv);
void service_release(struct service *service);

/* Reads the key file; mistakes are lines behind the program's name on standard error. */
MUST_CHECK int service_read_keys(const struct service *service, const char *program, struct key_ring **ring);

/* Reads the mail routes into the service, as service_read_keys does the keys.
 * Whoever writes leads has to: service_rules, service_committer and service_relay need them. */
MUST_CHECK int service_read_routes(struct service *service, const char *program);

/* Reads the file at path (NULL: none) of the mail routes.  One more mistake is
 * that nobody is told of leads that no rule matches, because mail_to of the
 * configuration in force is not set either.  Otherwise as routes_read. */
MUST_CHECK enum status service_try_routes(const char *path, const struct config *in_force,
                                          struct routes **routes, struct buf *mistakes, struct fail *why);

/* Reads the configuration, the keys, the mail routes and the secrets anew and,
 * when all of them are good, puts them in the place of the old ones.  A mistake
 * changes nothing.  Logs what came of it. */
void service_reload(struct service *service, struct key_ring *ring);

/* Appends the path of the counters that the processes of this host share; nothing: they share none. */
void service_metrics_path(const struct config *config, struct buf *path);

/* Opens one connection to the store; context is the service. */
MUST_CHECK enum status service_open_store(void *context, struct store **store, struct fail *why);

/* By which leads become rows, wherever that is done. */
struct lead_rules service_rules(const struct service *service);

struct committer_options service_committer(struct service *service);
struct relay_options service_relay(struct service *service);

/* Whether there is anything for a relay to do. */
bool service_has_relay(const struct service *service);

/* Tells this host's relay that the partition has mail.  Only a hint: without a relay nothing happens. */
void service_hint(const struct service *service, const char *partition);

#endif
