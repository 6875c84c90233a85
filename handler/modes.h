/* modes.h - whether files of ours lie open to others.
 *
 * leadhook makes its files so that nobody else may read them (umask 077).  One
 * that was copied or put there by hand may lie open all the same, with personal
 * data in it: that is told, not refused, as the leads that come would be lost for
 * it.  (Files with secrets are refused, see file.h: those are read at the start.)
 */
#ifndef LEAD_MODES_H
#define LEAD_MODES_H

#include "handler/config.h"

/* Calls found with ST_DENIED and what to do for each file, of the store, spool, Maildir and relay, that others may read
 * or write or the group may write, and for each folder with such a file, or one of keys and secrets, in which others may
 * put one in its place.  What does not exist is passed over.  Gives how many there are. */
size_t modes_check(const struct config *config, void (*found)(void *context, const struct fail *why),
                   void *context);

#endif
