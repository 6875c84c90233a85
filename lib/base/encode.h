/* encode.h - hexadecimal, base64 (RFC 4648), percent encoding (RFC 3986) and text in HTML.
 *
 * Appending functions carry the buffer's sticky error.  Pure, no shared state.
 */
#ifndef LEAD_ENCODE_H
#define LEAD_ENCODE_H

#include "lib/base/buf.h"

/* Lower-case hexadecimal; text has room for 2 * len + 1 bytes. */
void hex_write(const unsigned char *bytes, size_t len, char *text);

/* The reverse: exactly count bytes from lower-case digits; false where text is anything else. */
bool hex_read(struct span text, unsigned char *bytes, size_t count);

/* The number that s begins with, of so many hexadecimal digits of either case (7 at most); -1: it begins otherwise. */
long hex_number(struct span s, size_t digits);

/* Text has room for (len + 2) / 3 * 4 + 1 bytes. */
void base64_write(const unsigned char *bytes, size_t len, char *text);
void base64_add(struct buf *out, struct span bytes);

/* Appends the decoded bytes.  ST_INVALID on any character outside the alphabet,
 * wrong padding or length; the text is not quoted in the message.  With
 * missing padding the last group is still read. */
MUST_CHECK enum status base64_decode(struct buf *out, struct span text, struct fail *why);

/* Encodes every byte but the unreserved A-Z a-z 0-9 - . _ ~ */
void percent_add(struct buf *out, struct span s);

/* The entity that stands in HTML for one of the five characters that mean something there, in text and in quoted
 * attributes; NULL for all others. */
const char *html_entity(uint32_t code);

/* Appends s, valid UTF-8, so that it is text wherever HTML has text or a quoted attribute. */
void html_add(struct buf *out, struct span s);

enum percent_plus { PLUS_STAYS, PLUS_IS_SPACE };

/* Appends the decoded text; a '%' that is not followed by two hexadecimal
 * digits stays as it is (what browsers and Salesforce do). */
void percent_decode(struct buf *out, struct span s, enum percent_plus plus);

#endif
