/* landlock.h - which files a process may open and which ports it may connect to, from now on, by Linux's Landlock.
 *
 * A list of what is allowed is put together and then enforced; everything that
 * is not on it is refused with EACCES, for good, for the calling thread and the
 * threads it starts later.  What is open already stays open.
 * Files are known by their inodes: one that is put in the place of another by
 * rename is a new one, and only allowed when its folder is.
 * Needs no_new_privs.  Threads: a list belongs to one.
 */
#ifndef LEAD_LANDLOCK_H
#define LEAD_LANDLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "lib/base/status.h"

/* What may be done with a file, or with all that lies below a folder. */
enum landlock_use {
    LANDLOCK_READ,   /* read files, list folders */
    LANDLOCK_WRITE,  /* also make, write, shorten and remove files and sockets */
    LANDLOCK_FOLDERS /* also make folders, and move and link files between them */
};

struct landlock {
    int fd;         /* -1: none */
    int version;    /* of the kernel's interface */
    bool has_ports; /* whether it knows ports */
};

/* ST_NOT_FOUND: the kernel has no Landlock, or one too old to allow links between folders (before version 2, Linux 5.19). */
MUST_CHECK enum status landlock_open(struct landlock *list, struct fail *why);
void landlock_close(struct landlock *list);

/* A path that does not exist, or that we cannot reach anyway, is passed over.  Other failures: ST_IO. */
MUST_CHECK enum status landlock_allow(const struct landlock *list, const char *path, enum landlock_use use,
                                      struct fail *why);

/* TCP connections to this port.  Does nothing where has_ports is false: then all ports are allowed. */
MUST_CHECK enum status landlock_allow_port(const struct landlock *list, unsigned int port, struct fail *why);

/* From here on; closes the list. */
MUST_CHECK enum status landlock_enforce(struct landlock *list, struct fail *why);

#endif
