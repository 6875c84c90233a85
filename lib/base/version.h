/* version.h - which version of leadhook this is.
 *
 * It is the newest of deploy/debian/changelog; the Makefile hands it over.
 */
#ifndef LEAD_VERSION_H
#define LEAD_VERSION_H

/* "1.0.0": a few visible characters without blanks, quotes or backslashes. */
const char *version_text(void);

#endif
