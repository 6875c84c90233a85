/* http.h - HTTPS exchanges over kept connections; libcurl in one place.
 *
 * A client owns its connections and belongs to one thread.  An exchange is one
 * POST or GET and its answer.  Nothing is read from the environment: no proxy,
 * no netrc, no other protocol; redirects are answers like any other; TLS is 1.2
 * or later with the certificate and its name verified.
 *
 * An exchange ends by deadline_ms (monotonic clock), name resolution included.
 * Its status: ST_OK when there was an answer, whatever the code says; ST_AGAIN
 * when certainly nothing was sent (resolver, connection, TLS, deadline already
 * over); ST_UNKNOWN when something was sent and no whole answer came;
 * ST_DENIED for a certificate that cannot be trusted; ST_NOMEM; ST_BUG for a URL
 * of another protocol or none.
 * When a kept connection proves dead before any answer, libcurl sends the
 * request again on a new one, up to five times, and reports one success.  So
 * only what may take effect twice is sent here; the Table client's writes carry
 * keys and etags that make the second one fail.
 * Texts hold the host's name, never the URL's query, a header or a body.
 */
#ifndef LEAD_HTTP_H
#define LEAD_HTTP_H

#include "lib/base/buf.h"

/* Once, in main, before any thread.  From then on libcurl wipes what it frees: passwords, signed URLs, what customers
 * have sent.  ST_NOMEM. */
MUST_CHECK enum status http_global_init(struct fail *why);

enum { HTTP_PARALLEL = 16 }; /* exchanges in flight at a time */

struct http_client;

struct http_options {
    const char *ca_file; /* certificates to trust instead of the system's, or NULL; copied */
    bool is_plain;       /* http and not https: for loopback hosts, which the caller has checked */
};

MUST_CHECK enum status http_client_new(const struct http_options *options, struct http_client **client,
                                       struct fail *why);
void http_client_free(struct http_client *client);

/* The caller fills the first part and keeps what it points to until http_run
 * returns; http_run fills the second, which http_exchange_release frees. */
struct http_exchange {
    const char *url;            /* complete and percent-encoded */
    const char *const *headers; /* complete lines without line end; the last is NULL */
    struct span body;           /* a POST, also with an empty body; a GET when ptr is NULL */
    size_t answer_max_bytes;    /* a longer answer is ST_UNKNOWN, and answer.error is ST_TOO_LARGE */

    enum status status;
    struct fail why;         /* when status is not ST_OK */
    int code;                /* of the answer */
    struct buf answer;       /* its body */
    struct buf answer_lines; /* its header lines; read with http_header */
    int64_t took_us; /* from its turn to its end, name resolution and handshakes included; 0: not begun */
};

/* Carries them out, up to HTTP_PARALLEL at once, and returns when all are over. */
void http_run(struct http_client *client, struct http_exchange *const *exchanges, size_t count,
              int64_t deadline_ms);

/* When the certificate of the server ends to which a connection was made last; 0: none yet, or without TLS. */
int64_t http_certificate_end_ms(const struct http_client *client);

void http_exchange_release(struct http_exchange *exchange);

/* The value of the answer's first header of that name, whatever its case; blank when there is none. */
struct span http_header(const struct http_exchange *exchange, const char *name);

/* The time of the answer's Date header, or 0. */
int64_t http_date_ms(const struct http_exchange *exchange);

/* What the answer asks to wait, in seconds rounded up, at most a day; 0 when it does not.  Knows
 * x-ms-retry-after-ms, retry-after-ms and Retry-After in seconds or as a date. */
int http_retry_after_s(const struct http_exchange *exchange);

#endif
