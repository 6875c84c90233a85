/* request.h - a request: its head, what it addresses, and whether it is signed. */
#ifndef FAKE_TABLE_REQUEST_H
#define FAKE_TABLE_REQUEST_H

/* System */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* Libraries */
#include <openssl/evp.h>
#include <openssl/hmac.h>

/* Parts below this one */
#include "tests/harness/fake_table/rows.h"

enum { HEAD_BYTES = 64 * 1024, CLOCK_SKEW_S = 15 * 60 };

struct account {
    const char *name;
    unsigned char key[256];
    size_t key_bytes;
};
static struct account account;

struct request {
    struct text method;
    struct text path;  /* still percent-encoded */
    struct text query; /* the same, without "?" */
    struct text head;  /* header lines, each with CRLF */
    struct text body;
};

/* The header's value; p is NULL when it is not there. */
static struct text header(const struct request *q, const char *name)
{
    size_t n = strlen(name);
    struct text rest = q->head;
    while (rest.n) {
        struct text line = cut(&rest, LIT("\r\n"));
        if (line.n > n && line.p[n] == ':' && strncasecmp(line.p, name, n) == 0)
            return trim(skip(line, n + 1));
    }
    return (struct text){NULL, 0};
}

static bool header_has(const struct request *q, const char *name, const char *word)
{
    struct text value = header(q, name);
    return find(value, text_of(word)) < value.n;
}

/* "METHOD TARGET HTTP/1.1", the target absolute or a path. */
static bool request_line(struct text line, struct request *q)
{
    q->method = cut(&line, LIT(" "));
    struct text target = cut(&line, LIT(" "));
    if (!same(line, LIT("HTTP/1.1")))
        return false;
    size_t scheme = find(target, LIT("://"));
    if (scheme < target.n) {
        target = skip(target, scheme + 3);
        target = skip(target, find(target, LIT("/")));
    }
    q->path = cut(&target, LIT("?"));
    q->query = target;
    return q->method.n && q->path.n && q->path.p[0] == '/';
}

/* The decoded value of a query parameter; false: absent, broken or longer than room. */
static bool parameter(const struct request *q, const char *name, char *room, size_t room_bytes,
                      struct text *value)
{
    struct text rest = q->query;
    while (rest.n) {
        struct text pair = cut(&rest, LIT("&"));
        char decoded[64];
        struct text key = cut(&pair, LIT("="));
        if (url_decode(key, true, decoded, sizeof decoded, &key) && same(key, text_of(name)))
            return url_decode(pair, true, room, room_bytes, value);
    }
    return false;
}

/* What a path names below the account. */
struct address {
    struct text name; /* a table, "Tables" or "$batch" */
    bool keyed;
    struct key key;
    char room[2 * KEY_BYTES + 2 * TABLE_NAME_BYTES];
};

/* 'text' with quotes doubled, undoubled in place. */
static bool take_quoted(struct text *rest, struct text *value)
{
    if (rest->n == 0 || rest->p[0] != '\'')
        return false;
    char *to = (char *)(uintptr_t)rest->p; /* the caller's own buffer: a decoded copy */
    *value = (struct text){to, 0};
    for (size_t i = 1; i < rest->n; i++) {
        if (rest->p[i] == '\'' && (i + 1 == rest->n || rest->p[i + 1] != '\'')) {
            *rest = skip(*rest, i + 1);
            return true;
        }
        i += rest->p[i] == '\'';
        to[value->n++] = rest->p[i];
    }
    return false;
}

static bool take(struct text *rest, struct text token)
{
    if (!starts(*rest, token))
        return false;
    *rest = skip(*rest, token.n);
    return true;
}

static const struct fault *address_read(struct text path, struct address *a)
{
    struct text rest;
    a->keyed = false;
    if (!url_decode(path, false, a->room, sizeof a->room, &rest) || !take(&rest, LIT("/")) ||
        !take(&rest, text_of(account.name)) || !take(&rest, LIT("/")))
        return &BAD_RESOURCE;
    size_t n = find(rest, LIT("("));
    a->name = (struct text){rest.p, n};
    rest = skip(rest, n);
    if (rest.n == 0 || same(rest, LIT("()")))
        return NULL;
    a->keyed = true;
    bool good = take(&rest, LIT("(PartitionKey=")) && take_quoted(&rest, &a->key.partition) &&
                take(&rest, LIT(",RowKey=")) && take_quoted(&rest, &a->key.row) && same(rest, LIT(")"));
    if (!good)
        return &BAD_RESOURCE;
    return is_key(a->key.partition) && is_key(a->key.row) ? NULL : &BAD_KEY;
}

/* The signature, and the headers that every request needs. */

/* SharedKeyLite signs the date and the resource, SharedKey also the verb and two headers. */
static const struct fault *check_signature(const struct request *q)
{
    struct text authorization = header(q, "Authorization");
    struct text date = header(q, "x-ms-date");
    struct text scheme = cut(&authorization, LIT(" "));
    struct text name = cut(&authorization, LIT(":"));
    if (!date.p)
        date = header(q, "Date");

    struct tm tm = {0};
    char date_text[64];
    snprintf(date_text, sizeof date_text, "%.*s", (int)(date.n < 60 ? date.n : 60), date.n ? date.p : "");
    const char *end = strptime(date_text, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    if (!end || *end || llabs((long long)(timegm(&tm) - time(NULL))) > CLOCK_SKEW_S)
        return &BAD_AUTHORIZATION;

    struct out text = {.limit = HEAD_BYTES};
    bool full = same(scheme, LIT("SharedKey"));
    if (full) {
        out_add(&text, q->method);
        out_add(&text, LIT("\n"));
        out_add(&text, header(q, "Content-MD5"));
        out_add(&text, LIT("\n"));
        out_add(&text, header(q, "Content-Type"));
        out_add(&text, LIT("\n"));
    }
    out_add(&text, date);
    outf(&text, "\n/%s", account.name);
    out_add(&text, q->path);
    char comp[64];
    struct text comp_value;
    if (parameter(q, "comp", comp, sizeof comp, &comp_value)) {
        out_add(&text, LIT("?comp="));
        out_add(&text, comp_value);
    }
    unsigned char mac[EVP_MAX_MD_SIZE];
    unsigned int mac_bytes = 0;
    unsigned char wanted[64];
    HMAC(EVP_sha256(), account.key, (int)account.key_bytes, (const unsigned char *)text.p, text.n, mac,
         &mac_bytes);
    int n = EVP_EncodeBlock(wanted, mac, (int)mac_bytes);
    free(text.p);
    bool good = (full || same(scheme, LIT("SharedKeyLite"))) && same(name, text_of(account.name)) &&
                same(authorization, (struct text){(const char *)wanted, (size_t)n});
    return good ? NULL : &BAD_AUTHORIZATION;
}

/* JSON needs version 2013-08-15 and OData 3; without Accept (or with any) the service would speak Atom. */
static const struct fault *check_headers(const struct request *q)
{
    struct text version = header(q, "x-ms-version");
    if (!version.p)
        return &MISSING_HEADER;
    if (version.n != 10 || compare(version, LIT("2013-08-15")) < 0 || compare(version, LIT("2030-")) > 0)
        return &BAD_HEADER;
    if (same(q->method, LIT("DELETE")) && find(q->path, LIT("/Tables(")) < q->path.n)
        return NULL; /* nothing is said in JSON: the official client names no version of OData */
    if (!header_has(q, "Accept", "application/json") && !header_has(q, "Accept", "multipart/mixed"))
        return &NOT_ATOM;
    if (!starts(header(q, "DataServiceVersion"), LIT("3.0")) &&
        !starts(header(q, "MaxDataServiceVersion"), LIT("3.0")))
        return &NOT_JSON;
    return NULL;
}

#endif
