/* transport_internal.h - the two ways behind transport.h; for lib/mail only. */
#ifndef LEAD_TRANSPORT_INTERNAL_H
#define LEAD_TRANSPORT_INTERNAL_H

#include "lib/mail/transport.h"

struct smtp;

/* settings' texts are borrowed until smtp_free and end in a NUL. */
MUST_CHECK enum status smtp_new(const struct mail_settings *settings, struct smtp **smtp, struct fail *why);
void smtp_free(struct smtp *smtp);
MUST_CHECK enum mail_outcome smtp_send(struct smtp *smtp, const char *from, const char *to,
                                       struct span message, bool again, mail_fence *fence, void *context,
                                       struct fail *why);
MUST_CHECK enum mail_outcome smtp_probe(struct smtp *smtp, struct fail *why);

/* As mail_certificate_end_ms. */
int64_t smtp_certificate_end_ms(const struct smtp *smtp);

/* What a finished dialogue means: curl_code is libcurl's result, reply the last
 * reply's code (0: none), all whether every byte was handed out, again whether
 * an earlier attempt may have been accepted, words that reply's lines.  Public
 * for its table of tests. */
enum mail_outcome smtp_classify(int curl_code, long reply, bool all, bool again, struct span words);

/* As mail_send; path ends in a NUL. */
MUST_CHECK enum mail_outcome maildir_send(const char *path, struct span message, mail_fence *fence,
                                          void *context, struct fail *why);
MUST_CHECK enum mail_outcome maildir_probe(const char *path, struct fail *why);

#endif
