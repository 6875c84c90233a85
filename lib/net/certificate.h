/* certificate.h - when the certificate of a server ends, as a transfer of libcurl has seen it. */
#ifndef LEAD_CERTIFICATE_H
#define LEAD_CERTIFICATE_H

#include "lib/base/span.h"

#include <stdint.h>

/* curl: an easy handle with CURLOPT_CERTINFO, behind its transfer.  Wall-clock milliseconds of the end of the
 * server's own certificate; 0: the transfer made no connection with TLS, or has not told.  (Those of the authorities
 * that came with it are not looked at: an old one among them is in nobody's way while another one vouches.) */
int64_t certificate_end_ms(void *curl);

/* A time as libcurl tells it of a certificate, with OpenSSL "Nov 21 10:00:00 2026 GMT"; 0: it cannot be read. */
int64_t certificate_time_ms(const char *text);

#endif
