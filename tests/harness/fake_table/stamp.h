/* stamp.h - ticks of 100 ns, each given out once, so that an ETag is never reused. */
#ifndef FAKE_TABLE_STAMP_H
#define FAKE_TABLE_STAMP_H

/* System */
#include <stdint.h>
#include <stdio.h>
#include <time.h>

/* Parts below this one */
#include "tests/harness/fake_table/bytes.h"

static uint64_t next_ticks(void)
{
    static uint64_t last;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t ticks = (uint64_t)now.tv_sec * 10000000 + (uint64_t)now.tv_nsec / 100;
    last = ticks > last ? ticks : last + 1;
    return last;
}

struct stamp {
    char text[64];
};

/* colon is ":" in a Timestamp and "%3A" in an ETag. */
static struct stamp stamp_of(uint64_t ticks, const char *colon)
{
    time_t seconds = (time_t)(ticks / 10000000);
    struct tm tm;
    gmtime_r(&seconds, &tm);
    struct stamp s;
    snprintf(s.text, sizeof s.text, "%04d-%02d-%02dT%02d%s%02d%s%02d.%07uZ", tm.tm_year + 1900, tm.tm_mon + 1,
             tm.tm_mday, tm.tm_hour, colon, tm.tm_min, colon, tm.tm_sec, (unsigned int)(ticks % 10000000));
    return s;
}

static struct stamp etag_of(uint64_t ticks)
{
    struct stamp etag;
    struct stamp time = stamp_of(ticks, "%3A");
    snprintf(etag.text, sizeof etag.text, "W/\"datetime'%.34s'\"", time.text);
    return etag;
}

#endif
