/* cgi.h - one request as a plain CGI program (RFC 3875): environment, standard input, standard output. */
#ifndef LEAD_CGI_H
#define LEAD_CGI_H

#include "handler/metrics.h"
#include "handler/request.h"
#include "lib/base/status.h"

/* Whether the process was started as a CGI program. */
bool cgi_is_request(void);

/* Serves the request.  ST_IO: the request was cut off or the answer could not be written. */
MUST_CHECK enum status cgi_serve(const struct request_handler *handler, struct metrics *metrics,
                                 size_t body_max_bytes, struct fail *why);

#endif
