#include "lib/table/sign.h"

/* L0 */
#include "lib/base/crypto.h"
#include "lib/base/encode.h"

/* "/account/path", and of the query nothing but comp.  The path stays encoded as it is sent; with the
 * emulator the account's name is in it as well and so stands there twice. */
static void add_resource(struct buf *text, struct span account_name, struct span target)
{
    size_t mark = span_find(target, '?');
    struct span query = span_from(span_from(target, mark), 1), part;
    buf_add_char(text, '/');
    buf_add(text, account_name);
    buf_add(text, span_cut(target, 0, mark));
    while (span_next(&query, '&', &part)) {
        if (span_starts(part, SPAN_LIT("comp="))) {
            buf_add_char(text, '?');
            buf_add(text, part);
        }
    }
}

void sign_text(struct buf *text, enum sign_scheme scheme, struct span account_name,
               const struct sign_request *request)
{
    if (scheme == SIGN_SHARED_KEY) {
        buf_add(text, request->method);
        buf_add_text(text, "\n\n"); /* no Content-MD5 is sent */
        buf_add(text, request->content_type);
        buf_add_char(text, '\n');
    }
    buf_add(text, request->date);
    buf_add_char(text, '\n');
    add_resource(text, account_name, request->target);
}

enum status sign_header(struct buf *header, enum sign_scheme scheme, const struct table_account *account,
                        struct span text, struct fail *why)
{
    unsigned char mac[SHA256_BYTES];
    enum status status = crypto_hmac_sha256(buf_span(&account->key), text, mac, why);
    if (status != ST_OK)
        return status;
    buf_add_text(header, scheme == SIGN_SHARED_KEY ? "SharedKey " : "SharedKeyLite ");
    buf_add(header, buf_span(&account->name));
    buf_add_char(header, ':');
    base64_add(header, (struct span){(const char *)mac, sizeof mac});
    return buf_status(header, "the authorization", why);
}
