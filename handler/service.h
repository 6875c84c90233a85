/* service.h - the parts that leadhook and leadctl make of a configuration. */
#ifndef LEAD_SERVICE_H
#define LEAD_SERVICE_H

#include "handler/config.h"
#include "handler/metrics.h"
#include "lib/relay/relay.h"
#include "lib/store/committer.h"

struct service {
    struct config config;
    struct metrics *metrics;
};

/* Reads the configuration; prints every mistake on standard error after the
 * program's name.  Gives 0, or the exit status (EX_CONFIG). */
int service_read(struct service *service, const char *program, int argc, char **argv, int *next_argument);
void service_release(struct service *service);

/* Opens one connection to the store; context is the service. */
MUST_CHECK enum status service_open_store(void *context, struct store **store, struct fail *why);

struct committer_options service_committer(struct service *service);
struct relay_options service_relay(struct service *service);

/* Whether there is anything for a relay to do. */
bool service_has_relay(const struct service *service);

/* Tells this host's relay that the partition has mail.  Only a hint: without a relay nothing happens. */
void service_hint(const struct service *service, const char *partition);

#endif
