/* words.h - what judging, screen and JSON of `leadctl status` say alike. */
#ifndef LEAD_CTL_STATUS_WORDS_H
#define LEAD_CTL_STATUS_WORDS_H

#include "handler/ctl/status/status.h"

enum { STATUS_DETAIL_BYTES = 4096 }; /* of a line before it is cut to the screen's width */

/* "1.2 MiB" */
void status_add_bytes(struct buf *out, uint64_t bytes);
/* "12", "1000+" */
void status_add_count(struct buf *out, struct tally t);
/* "1 lead waits", "12 leads wait", "1000+ leads wait" */
void status_add_counted(struct buf *out, struct tally t, const char *one, const char *many);

struct tally status_waiting_in_spool(const struct status_facts *f);
/* With what the spool still has. */
struct tally status_in_quarantine(const struct status_facts *f);
/* Whether the spool would take a lead now. */
bool status_spool_takes_leads(const struct status_facts *f);

#endif
