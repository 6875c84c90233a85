/* loopback.h - whether a host in a URL is this machine, where a connection needs no TLS. */
#ifndef LEAD_LOOPBACK_H
#define LEAD_LOOPBACK_H

#include "lib/base/span.h"

/* True for localhost and names that end in .localhost (RFC 6761 6.3; libcurl
 * takes both for this machine without asking anyone), for addresses in
 * 127.0.0.0/8 written in full, and for ::1 in any spelling.  False for anything
 * else, also for what some resolvers read as one of these: 127.1, 2130706433,
 * 127.0.0.1 with a dot behind it, ::ffff:127.0.0.1.
 * is_ip6: the host stood in brackets, which are not part of it. */
bool host_is_loopback(struct span host, bool is_ip6);

#endif
