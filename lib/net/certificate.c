#include "lib/net/certificate.h"

/* Libraries */
#include <curl/curl.h>

int64_t certificate_time_ms(const char *text)
{
    time_t s = curl_getdate(text, NULL); /* libcurl writes them in other ways with other TLS libraries */
    return s > 0 ? (int64_t)s * 1000 : 0;
}

int64_t certificate_end_ms(void *curl)
{
    const struct curl_certinfo *seen = NULL;
    const struct span name = SPAN_LIT("Expire date:");
    if (curl_easy_getinfo(curl, CURLINFO_CERTINFO, &seen) != CURLE_OK || !seen || seen->num_of_certs < 1)
        return 0;
    for (const struct curl_slist *line = seen->certinfo[0]; line; line = line->next) { /* the server's own */
        if (line->data && span_starts(span_of(line->data), name))
            return certificate_time_ms(line->data + name.len);
    }
    return 0;
}
