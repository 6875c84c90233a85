/* service.h - the parts that leadhook and leadctl make of a configuration. */
#ifndef LEAD_SERVICE_H
#define LEAD_SERVICE_H

#include "handler/config.h"
#include "handler/metrics.h"
#include "lib/auth/keys.h"
#include "lib/relay/relay.h"
#include "lib/store/committer.h"

struct service {
    const char *config_path;
    struct config config;
    struct metrics *metrics;
};

/* Reads the configuration; prints every mistake on standard error after the
 * program's name.  Gives 0, or the exit status (EX_CONFIG). */
int service_read(struct service *service, const char *program, int argc, char **argv, int *next_argument);
void service_release(struct service *service);

/* Reads the key file; mistakes are lines behind the program's name on standard error. */
MUST_CHECK int service_read_keys(const struct service *service, const char *program, struct key_ring **ring);

/* Reads the configuration, the keys and the secrets anew and, when all of them
 * are good, puts keys and secrets in the place of the old ones.  A mistake
 * changes nothing.  Logs what came of it. */
void service_reload(struct service *service, struct key_ring *ring);

/* Opens one connection to the store; context is the service. */
MUST_CHECK enum status service_open_store(void *context, struct store **store, struct fail *why);

struct committer_options service_committer(struct service *service);
struct relay_options service_relay(struct service *service);

/* Whether there is anything for a relay to do. */
bool service_has_relay(const struct service *service);

/* Tells this host's relay that the partition has mail.  Only a hint: without a relay nothing happens. */
void service_hint(const struct service *service, const char *partition);

#endif
