/* mime.h - headers and bodies in the 7-bit form that every server takes.
 *
 * RFC 2047 encoded words for headers, RFC 2045 quoted-printable for bodies.
 * Appends to the caller's buffer.  All lines end in CRLF; no body line begins
 * with a dot or with "From ", so nothing on the way has a reason to change it.
 */
#ifndef LEAD_MIME_H
#define LEAD_MIME_H

#include "lib/base/buf.h"

/* "Name: text\r\n".  text is UTF-8 from anywhere: control and invisible
 * characters are replaced or dropped, what is not plain ASCII or looks like an
 * encoded word is encoded, lines are folded below 77 characters. */
void mime_add_header_text(struct buf *out, const char *name, struct span text);

/* A display name as phrase of an address header: encoded or quoted where needed; nothing else is added. */
void mime_add_phrase(struct buf *out, struct span text, size_t column);

/* UTF-8 text with \n line ends as quoted-printable. */
void mime_add_quoted_printable(struct buf *out, struct span text);

#endif
