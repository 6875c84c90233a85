/* routes.h - mail routes: who is told of which lead.
 *
 * The file has one rule per line; lines that begin with `#` are comments.
 *
 *     offer=contoso.* action=DNC   -> off
 *     country=DE,AT,CH             -> dach@contoso.example, lead@contoso.example
 *     campaign="Spring sale *"     -> spring@contoso.example
 *     default                      -> sales@contoso.example
 *
 * Before the arrow stand conditions, separated by blanks, which all have to
 * hold, or the word `default`, which every lead fulfils and nothing may stand
 * behind.  A condition is NAME=VALUE,VALUE...; one of its values has to match:
 *
 *     offer       the key of the offer's rows ("publisher.offer"), or its title
 *     action, country, campaign   as the lead has them
 *     test        yes or no
 *
 * In a value `*` stands for any characters, also none; "" for nothing said; case
 * of ASCII letters and blanks at the ends do not count.  A value with a blank,
 * a comma, '=' or '->' stands in double quotes; a double quote cannot be written.
 * Of a lead's text the first LIMIT_ROUTE_VALUE_BYTES bytes are compared.
 * Behind the arrow stand addresses, as in mail_to, or `off`: nobody is told.
 *
 * The first rule that matches a lead counts, and no other.  A lead is looked at
 * as it is stored: what was withheld matches as what was not said.
 *
 * A struct routes does not change after it was read; threads may share it.  A
 * struct route_book holds the routes of now, which may be replaced meanwhile.
 */
#ifndef LEAD_ROUTES_H
#define LEAD_ROUTES_H

#include "lib/base/buf.h"
#include "lib/lead/lead.h"

struct routes;

/* One rule. */
struct route {
    const struct route *next;      /* in the file; NULL: the last */
    size_t line;                   /* where it stands, from 1 */
    struct span conditions;        /* as they stand there */
    const struct span *recipients; /* bare addresses; no two are equal */
    size_t recipient_count;        /* 0: off */
};

/* Reads the file, which others must not be able to change; path NULL: there is
 * none, and no rule.  On ST_INVALID each mistake is a line "FILE:LINE: what is
 * wrong" in *mistakes; *why has the first one, or what kept the file from being
 * read.  Neither holds an address. */
MUST_CHECK enum status routes_read(const char *path, struct routes **routes, struct buf *mistakes,
                                   struct fail *why);

/* As routes_read, with the content that the file at path has or shall have. */
MUST_CHECK enum status routes_parse(struct span text, const char *path, struct routes **routes,
                                    struct buf *mistakes, struct fail *why);

void routes_free(struct routes *routes); /* NULL is allowed */

const struct route *routes_first(const struct routes *routes); /* NULL: there is no rule */
size_t routes_count(const struct routes *routes);
/* The rule `default`; NULL: there is none, and a lead may match no rule. */
const struct route *routes_default(const struct routes *routes);

/* The first rule that matches the lead; NULL: none.  Nothing is allocated. */
const struct route *routes_find(const struct routes *routes, const struct lead *lead);

/* --- routes that are replaced ----------------------------------------------------------------------------- */

struct route_book;

/* Takes the routes over, also when it fails. */
MUST_CHECK enum status route_book_new(struct routes *routes, struct route_book **book, struct fail *why);
void route_book_free(struct route_book *book); /* nobody uses it any more; NULL is allowed */

/* The routes of now; they and all that was found in them stay until they are given back. */
struct routes *route_book_hold(struct route_book *book);
void route_book_let_go(struct route_book *book, struct routes *routes);

/* From here on these are the routes.  Takes them over. */
void route_book_replace(struct route_book *book, struct routes *routes);

#endif
