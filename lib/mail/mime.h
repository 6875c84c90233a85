/* mime.h - headers and bodies in the 7-bit form that every server takes.
 *
 * RFC 2047 encoded words for headers, RFC 2045 quoted-printable for bodies.
 * Appends to the caller's buffer, which carries the error.  All lines end in
 * CRLF; header lines have at most 76 characters, body lines too; no body line
 * begins with a dot or with "From ", so nothing on the way has a reason to
 * change it.
 */
#ifndef LEAD_MIME_H
#define LEAD_MIME_H

#include "lib/base/buf.h"

/* "Name: text\r\n".  text may be any bytes: what breaks lines becomes a space,
 * control and invisible characters are dropped, bad UTF-8 becomes U+FFFD; what
 * is not plain ASCII or looks like an encoded word is encoded. */
void mime_add_header_text(struct buf *out, const char *name, struct span text);

/* A display name as the phrase of an address header, cleaned in the same way,
 * quoted or encoded.  column: characters already on the line. */
void mime_add_phrase(struct buf *out, struct span text, size_t column);

/* Text whose lines end in \n as quoted-printable. */
void mime_add_quoted_printable(struct buf *out, struct span text);

#endif
