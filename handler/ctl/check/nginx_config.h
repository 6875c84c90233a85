/* nginx_config.h - nginx's configuration, as `nginx -T` prints it, as a tree.
 *
 * That command prints every file behind a line "# configuration file PATH:"; an
 * include directive stands in the text as it is written.  Here it is replaced by
 * what the files hold that its pattern names, so that the tree is what nginx sees.
 * Names of variables and the meaning of directives are the caller's.
 * Memory: all of it in the caller's arena; words point into it or into the text.
 */
#ifndef LEAD_CTL_NGINX_CONFIG_H
#define LEAD_CTL_NGINX_CONFIG_H

#include "lib/base/arena.h"
#include "lib/base/status.h"

enum { NGINX_WORDS = 64 }; /* of a directive; those beyond are left out */

struct nginx_directive {
    struct span *words; /* the first is its name; without quotes and escapes */
    size_t word_count;
    const struct nginx_directive
        *parent;                   /* the block around it; that of the top has no words and no parent */
    struct nginx_directive *first; /* of the block it opens, or NULL */
    struct nginx_directive *next;  /* in the same block */
};

/* *top: a block with everything in it.  ST_INVALID: no output of `nginx -T`, or
 * braces and quotes do not match; ST_TOO_LARGE: over LIMIT_NGINX_DIRECTIVES, or
 * includes or blocks deeper than LIMIT_NGINX_DEPTH; ST_NOMEM. */
MUST_CHECK enum status nginx_config_read(struct span text, struct arena *arena,
                                         const struct nginx_directive **top, struct fail *why);

/* The i-th word behind the name; blank: there is none. */
struct span nginx_word(const struct nginx_directive *d, size_t i);

/* Whether one of the words behind the name is this. */
bool nginx_has_word(const struct nginx_directive *d, const char *word);

/* The first directive of that name in the block itself, from `after` on (NULL: from the beginning); NULL: none. */
const struct nginx_directive *nginx_find(const struct nginx_directive *block, const char *name,
                                         const struct nginx_directive *after);

/* The one that is in force in the block: its own, else that of the block around it, and so on; NULL: the default is. */
const struct nginx_directive *nginx_in_force(const struct nginx_directive *block, const char *name);

#endif
