/* The answer is read line by line.  A line is a boundary, a status line or
 * something else; nothing is read into "something else", so stray text, blank
 * lines, either line end and a missing epilogue do no harm.  Azurite's reader
 * of the body is a set of regular expressions: boundaries without quotes,
 * absolute URLs, JSON on one line.
 */
#include "lib/table/batch.h"

#define DELIMITER "--"

/* --- writing -------------------------------------------------------------------------------------------- */

/* An etag goes into a header line. */
static bool is_etag_good(struct span etag)
{
    for (size_t i = 0; i < etag.len; i++) {
        if (etag.ptr[i] <= ' ' || etag.ptr[i] > '~')
            return false;
    }
    return etag.len > 0;
}

static void add_request_line(struct buf *body, const struct batch *batch, const struct operation *operation)
{
    static const char *const methods[] = {
        [OPERATION_INSERT] = "POST", [OPERATION_MERGE] = "MERGE", [OPERATION_DELETE] = "DELETE"};
    bool posts = operation->kind == OPERATION_MERGE && batch->posts_merge;
    buf_addf(body, "%s ", posts ? "POST" : methods[operation->kind]);
    buf_add(body, batch->table_url);
    if (operation->kind != OPERATION_INSERT)
        entity_add_address(body, operation->entity.partition_key, operation->entity.row_key);
    buf_add_text(body, " HTTP/1.1\r\n");
    if (posts)
        buf_add_text(body, "X-HTTP-Method: MERGE\r\n");
}

static enum status write_operation(struct buf *body, const struct batch *batch,
                                   const struct operation *operation, struct fail *why)
{
    const struct entity *e = &operation->entity;
    buf_addf(body, DELIMITER "changeset_%s\r\n", batch->id);
    buf_add_text(body, "Content-Type: application/http\r\n"
                       "Content-Transfer-Encoding: binary\r\n"
                       "\r\n");
    add_request_line(body, batch, operation);
    if (operation->kind == OPERATION_INSERT) {
        buf_add_text(body, "Prefer: return-no-content\r\n");
    } else {
        if (!is_etag_good(e->etag))
            return fail_set(why, ST_BUG, 0, "an operation came without a usable etag");
        buf_add_text(body, "If-Match: ");
        buf_add(body, e->etag);
        buf_add_text(body, "\r\n");
    }
    buf_add_text(body, "Accept: application/json;odata=minimalmetadata\r\n"
                       "DataServiceVersion: 3.0;\r\n");
    if (operation->kind == OPERATION_DELETE) {
        buf_add_text(body, "\r\n\r\n");
        return buf_status(body, "a transaction", why);
    }
    buf_add_text(body, "Content-Type: application/json\r\n\r\n");
    enum status status = entity_write(body, e, why);
    buf_add_text(body, "\r\n");
    /* What does not fit is the transaction, not this entity. */
    return status == ST_OK || status == ST_TOO_LARGE ? buf_status(body, "a transaction", why) : status;
}

enum status batch_write(struct buf *body, const struct batch *batch, size_t *failed, struct fail *why)
{
    buf_addf(body, DELIMITER "batch_%s\r\n", batch->id);
    buf_addf(body, "Content-Type: multipart/mixed; boundary=changeset_%s\r\n\r\n", batch->id);
    for (size_t i = 0; i < batch->count; i++) {
        enum status status = write_operation(body, batch, &batch->operations[i], why);
        if (status != ST_OK) {
            *failed = status == ST_TOO_LARGE && batch->count > 1 ? NO_INDEX : i;
            return status;
        }
    }
    buf_addf(body, DELIMITER "changeset_%s" DELIMITER "\r\n", batch->id);
    buf_addf(body, DELIMITER "batch_%s" DELIMITER "\r\n", batch->id);
    enum status status = buf_status(body, "a transaction", why);
    if (status != ST_OK)
        *failed = batch->count > 1 ? NO_INDEX : 0;
    return status;
}

/* --- reading -------------------------------------------------------------------------------------------- */

/* A line without its end, and whether it had one: the last line of a truncated answer has none. */
static bool next_line(struct span *rest, struct span *line, bool *is_whole)
{
    if (!rest->len)
        return false;
    size_t end = span_find(*rest, '\n');
    *is_whole = end != SPAN_NONE;
    *line = span_cut(*rest, 0, end);
    *rest = span_from(*rest, *is_whole ? end + 1 : rest->len);
    if (line->len && line->ptr[line->len - 1] == '\r')
        line->len--;
    return true;
}

/* The boundary in "multipart/mixed; boundary=x", quoted or not; blank when there is none. */
static struct span boundary_of(struct span content_type)
{
    struct span part;
    if (!span_starts_nocase(content_type, SPAN_LIT("multipart/mixed")))
        return (struct span){0};
    while (span_next(&content_type, ';', &part)) {
        part = span_trim(part);
        if (!span_starts_nocase(part, SPAN_LIT("boundary=")))
            continue;
        part = span_from(part, sizeof "boundary=" - 1);
        if (part.len >= 2 && part.ptr[0] == '"' && part.ptr[part.len - 1] == '"')
            part = span_cut(part, 1, part.len - 2);
        return part;
    }
    return (struct span){0};
}

enum line_kind { LINE_OTHER, LINE_BOUNDARY, LINE_END };

static enum line_kind line_kind(struct span line, struct span boundary)
{
    if (!boundary.len || !span_starts(line, SPAN_LIT(DELIMITER)))
        return LINE_OTHER;
    struct span name = span_from(line, sizeof DELIMITER - 1);
    if (!span_starts(name, boundary))
        return LINE_OTHER;
    struct span rest = span_trim(span_from(name, boundary.len));
    return rest.len == 0 ? LINE_BOUNDARY : span_eq(rest, SPAN_LIT(DELIMITER)) ? LINE_END : LINE_OTHER;
}

/* The code of "HTTP/1.1 204 No Content", or 0. */
static int status_code(struct span line)
{
    uint64_t code;
    if (!span_starts(line, SPAN_LIT("HTTP/1.")) || line.len < 12 || line.ptr[8] != ' ' ||
        (line.len > 12 && line.ptr[12] != ' ') || !span_to_u64(span_cut(line, 9, 3), 599, &code) ||
        code < 100)
        return 0;
    return (int)code;
}

/* The boundary of the changeset, from the header of the part that holds it. */
static struct span find_changeset(struct span *rest)
{
    struct span line, boundary;
    bool is_whole;
    while (next_line(rest, &line, &is_whole)) {
        size_t colon = span_find(line, ':');
        if (!is_whole || !span_eq_nocase(span_cut(line, 0, colon), SPAN_LIT("Content-Type")))
            continue;
        boundary = boundary_of(span_trim(span_from(line, colon + 1)));
        if (boundary.len)
            return boundary;
    }
    return (struct span){0};
}

/* Moves *rest behind the next boundary and gives what came before it.  The end of the text is one as well. */
static enum line_kind next_boundary(struct span *rest, struct span changeset, struct span outer,
                                    struct span *before)
{
    struct span text = *rest, line;
    bool is_whole;
    while (next_line(rest, &line, &is_whole)) {
        enum line_kind kind = line_kind(line, changeset);
        if (kind == LINE_BOUNDARY && !is_whole)
            kind = LINE_OTHER; /* perhaps the beginning of the last boundary */
        if (kind == LINE_OTHER && line_kind(line, outer) != LINE_OTHER)
            kind = LINE_END;
        if (kind != LINE_OTHER) {
            *before = span_cut(text, 0, (size_t)(line.ptr - text.ptr));
            return kind;
        }
    }
    *before = text;
    return LINE_END;
}

/* The status of a part, and what follows its header.  0: it has no status line. */
static int read_part(struct span part, struct span *body)
{
    struct span line;
    bool is_whole;
    int code = 0;
    *body = (struct span){0};
    while (next_line(&part, &line, &is_whole)) {
        if (code && line.len == 0) {
            *body = span_trim(part);
            break;
        }
        if (!code && is_whole)
            code = status_code(line);
    }
    return code;
}

void batch_read(struct span content_type, struct span body, size_t count, struct batch_answer *answer)
{
    struct span outer = boundary_of(span_trim(content_type)), part;
    struct span changeset = find_changeset(&body);
    size_t parts = 0, succeeded = 0;
    *answer = (struct batch_answer){.outcome = BATCH_UNCLEAR};
    if (!outer.len || !changeset.len)
        return;
    enum line_kind kind = next_boundary(&body, changeset, outer, &part);
    while (kind == LINE_BOUNDARY) {
        kind = next_boundary(&body, changeset, outer, &part);
        answer->code = read_part(part, &answer->error);
        if (!answer->code)
            return;
        parts++;
        succeeded += answer->code / 100 == 2;
    }
    if (parts == count && succeeded == count)
        answer->outcome = BATCH_DONE;
    else if (parts == 1 && answer->code >= 400)
        answer->outcome = BATCH_FAILED;
}
