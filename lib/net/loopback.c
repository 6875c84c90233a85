#include "lib/net/loopback.h"

/* System */
#include <arpa/inet.h>
#include <string.h>

bool host_is_loopback(struct span host, bool is_ip6)
{
    char text[INET6_ADDRSTRLEN];
    struct span below = SPAN_LIT(".localhost");
    struct in_addr ip4;
    struct in6_addr ip6;
    if (!is_ip6 && (span_eq_nocase(host, SPAN_LIT("localhost")) ||
                    (host.len > below.len && span_ends_nocase(host, below))))
        return true;
    if (host.len >= sizeof text || span_find(host, '\0') != SPAN_NONE)
        return false;
    if (host.len)
        memcpy(text, host.ptr, host.len);
    text[host.len] = '\0';
    if (is_ip6)
        return inet_pton(AF_INET6, text, &ip6) == 1 && IN6_IS_ADDR_LOOPBACK(&ip6);
    return inet_pton(AF_INET, text, &ip4) == 1 && ntohl(ip4.s_addr) >> 24 == IN_LOOPBACKNET;
}
