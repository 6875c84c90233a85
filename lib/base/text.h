/* text.h - strict UTF-8 and what is needed to cut and clean it.
 *
 * Strict means RFC 3629: no overlong forms, no surrogates, nothing above
 * U+10FFFF.  Pure functions.
 */
#ifndef LEAD_TEXT_H
#define LEAD_TEXT_H

#include "lib/base/buf.h"

/* Decodes the code point at s.ptr.  Gives its length in bytes (1 to 4), or 0
 * when s is empty or does not begin with a well-formed character. */
size_t utf8_decode(struct span s, uint32_t *code);

/* Whether all of s is well-formed; if not, *offset (may be NULL) is where. */
bool utf8_is_valid(struct span s, size_t *offset);

/* Appends the code point, which must be a Unicode scalar value. */
void utf8_add(struct buf *out, uint32_t code);

/* Length of s in UTF-16 units, the unit of the Table service's limits.  s is valid UTF-8. */
size_t utf16_units(struct span s);

/* The longest prefix of s that ends at a character and has at most so many
 * UTF-16 units or bytes.  s is valid UTF-8. */
struct span utf8_cut_units(struct span s, size_t units);
struct span utf8_cut_bytes(struct span s, size_t bytes);

/* C0, DEL, C1 and the separators U+2028 and U+2029: never wanted in one line of text. */
bool is_control_code(uint32_t code);

/* Characters that are not seen, or change how others are shown: directional
 * marks, embeddings and isolates, zero-width characters, fillers, variation
 * selectors, tags, the byte order mark. */
bool is_invisible_code(uint32_t code);

/* FNV-1a of the text, going on from TEXT_HASH_BEGIN or from a hash before it; nothing for secrets. */
#define TEXT_HASH_BEGIN 0xCBF29CE484222325u
uint64_t text_hash(uint64_t hash, const char *text);

/* Appends s as one safe line for a terminal or a log: control and invisible
 * characters become U+FFFD, or a space for line breaks and tabs; invalid bytes
 * become U+FFFD. */
void text_add_line(struct buf *out, struct span s);

#endif
