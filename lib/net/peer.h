/* peer.h - who answers at a host and port, and with which certificates; for checks.
 *
 * Connects, shakes hands (with smtp:// through STARTTLS) and leaves: no request,
 * no login, no mail is sent.  TLS is that of every other connection of ours: 1.2 or later,
 * certificate and name verified.  Where they are refused, a second connection
 * that believes anything fetches the certificates, so that a person can be told
 * what is wrong with them; nothing is sent over that either.
 */
#ifndef LEAD_PEER_H
#define LEAD_PEER_H

#include <stdint.h>

#include "lib/base/buf.h"

struct peer_target {
    const char *url;     /* http, https, smtp or smtps, a host, a port; http: no TLS */
    const char *ca_file; /* certificates to trust instead of the system's, or NULL */
    bool is_plain;       /* smtp without STARTTLS; for loopback hosts, which the caller has checked */
    int64_t wait_ms;     /* for each of the two connections, name resolution included */
};

/* How far it came. */
enum peer_stage {
    PEER_UNRESOLVED,  /* the name has no address */
    PEER_UNREACHABLE, /* nobody takes the connection, or not in time */
    PEER_NOT_SERVED,  /* somebody does, but no TLS or no dialogue came of it */
    PEER_UNTRUSTED,   /* the certificate is refused */
    PEER_READY
};

enum { PEER_CERTIFICATES = 10, PEER_ADDRESS_BYTES = 64, PEER_NAME_BYTES = 200 };

struct peer_certificate {
    char subject[PEER_NAME_BYTES]; /* one clean line: "CN = leads.example.com"; may be blank, and is cut */
    char issuer[PEER_NAME_BYTES];
    int64_t from_ms; /* 0: not understood */
    int64_t until_ms;
};

struct peer {
    enum peer_stage stage;
    struct fail why;                  /* unless PEER_READY; the words are libcurl's and OpenSSL's */
    char address[PEER_ADDRESS_BYTES]; /* that the connection went to; blank: none */
    size_t certificate_count; /* the server's own first; those beyond PEER_CERTIFICATES are left out */
    struct peer_certificate certificates[PEER_CERTIFICATES];
};

/* Fills *peer, whatever happens. */
void peer_probe(const struct peer_target *target, struct peer *peer);

/* The certificate that ends first, or NULL. */
const struct peer_certificate *peer_first_to_end(const struct peer *peer);

/* Appends what connections are made with: "libcurl/7.88.1 OpenSSL/3.0.17". */
void peer_add_library(struct buf *text);

#endif
