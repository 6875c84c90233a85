/* when.h - a point in time as a person gives it. */
#ifndef LEAD_WHEN_H
#define LEAD_WHEN_H

#include <stdint.h>

#include "lib/base/span.h"
#include "lib/base/status.h"

/* What may be given, for messages and usage texts. */
#define WHEN_WORDS "12h, 180d, 26w, 2026-05-01 or 2026-05-01T10:30 (UTC)"

/* An age, counted back from now_ms: hours, days or weeks ("12h", "180d", "26w"); or
 * a time in UTC: a day ("2026-05-01", its beginning), a minute ("2026-05-01T10:30")
 * or finer, with or without "Z" at the end and with a blank in the place of "T".
 * It may lie in the future.  Minutes have no letter of their own: "12m" may be
 * months as well.  ST_INVALID. */
MUST_CHECK enum status when_given(struct span given, int64_t now_ms, int64_t *ms, struct fail *why);

#endif
