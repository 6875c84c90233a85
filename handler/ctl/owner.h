/* owner.h - root's leadctl becomes the user that leadhook runs as. */
#ifndef LEAD_CTL_OWNER_H
#define LEAD_CTL_OWNER_H

#include "handler/config.h"

/* Run by root: becomes the owner of the folder of the store or the spool, where that
 * is not root.  Whatever is made from then on (a database, its log, the relay's lock)
 * is leadhook's, and what is tried is tried with its rights.  ST_IO. */
MUST_CHECK enum status owner_become(const struct config *config, struct fail *why);

#endif
