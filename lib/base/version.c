#include "lib/base/version.h"

/* So that the file can be looked at by itself; the Makefile does not build without one. */
#ifndef LEADHOOK_VERSION
#define LEADHOOK_VERSION "unknown"
#endif

const char *version_text(void)
{
    return LEADHOOK_VERSION;
}
