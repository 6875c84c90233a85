/* The signature is compared as base64 text, as the reference libraries do: so
 * there is one spelling of it, and nothing from outside has to be decoded.
 * Text and MAC are made for a request before anybody knows whose it is; the
 * right signature of what a stranger sent is a secret, so it is wiped.
 */
#include "lib/auth/signature.h"

/* L0 */
#include "lib/base/crypto.h"
#include "lib/base/encode.h"
#include "lib/base/limits.h"

enum { MAC_TEXT_BYTES = 44 }; /* 32 bytes in base64 */

#define VERSION SPAN_LIT("v1,")

/* Takes the next signature of version v1 that may be one off the list; false: there is no more. */
static bool next_signature(struct span *rest, struct span *text)
{
    struct span entry;
    while (span_next(rest, ' ', &entry)) {
        *text = span_from(entry, VERSION.len);
        if (span_starts(entry, VERSION) && text->len == MAC_TEXT_BYTES)
            return true;
    }
    return false;
}

static bool is_id(struct span id)
{
    bool good = id.len > 0 && id.len <= LIMIT_WEBHOOK_ID_BYTES;
    for (size_t i = 0; i < id.len && good; i++)
        good = id.ptr[i] > ' ' && id.ptr[i] <= '~' && id.ptr[i] != '.';
    return good;
}

enum status signature_check_form(const struct signed_request *request, int64_t now_ms, struct fail *why)
{
    uint64_t sent_s;
    struct span rest = request->signature, text;
    if (!is_id(request->id))
        return fail_set(why, ST_DENIED, 0,
                        "the webhook-id must be 1 to 255 visible ASCII characters without '.'");
    if (request->timestamp.len > LIMIT_WEBHOOK_TIMESTAMP_BYTES ||
        !span_to_u64(request->timestamp, INT64_MAX / 2, &sent_s))
        return fail_set(why, ST_DENIED, 0, "the webhook-timestamp must be seconds since 1970, digits only");
    if (request->signature.len > LIMIT_WEBHOOK_SIGNATURE_BYTES || !next_signature(&rest, &text))
        return fail_set(why, ST_DENIED, 0, "the webhook-signature holds no signature of version v1");
    int64_t distance_s = now_ms / 1000 - (int64_t)sent_s;
    if (distance_s > SIGNATURE_TOLERANCE_S || distance_s < -SIGNATURE_TOLERANCE_S)
        return fail_set(why, ST_DENIED, 0, "the webhook-timestamp is more than 5 minutes %s",
                        distance_s > 0 ? "old" : "ahead");
    return ST_OK;
}

struct span signature_text(const struct signed_request *request, struct arena *arena)
{
    const struct span parts[] = {request->id, SPAN_LIT("."), request->timestamp, SPAN_LIT("."),
                                 request->body};
    return arena_join(arena, parts, sizeof parts / sizeof parts[0]);
}

enum status signature_compare(struct span signatures, struct span text, struct span secret, bool *matches,
                              struct fail *why)
{
    unsigned char mac[SHA256_BYTES];
    char right[MAC_TEXT_BYTES + 1];
    unsigned int equal = 0;
    struct span rest = signatures, given;
    enum status status = crypto_hmac_sha256(secret, text, mac, why);
    if (status != ST_OK)
        return status;
    base64_write(mac, sizeof mac, right);
    while (next_signature(&rest, &given)) /* all of them: no early end */
        equal |= (unsigned int)crypto_equal((const unsigned char *)given.ptr, (const unsigned char *)right,
                                            MAC_TEXT_BYTES);
    crypto_wipe(mac, sizeof mac);
    crypto_wipe(right, sizeof right);
    *matches = equal != 0;
    return ST_OK;
}
