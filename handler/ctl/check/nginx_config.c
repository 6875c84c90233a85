/* nginx's own reader (ngx_conf_file.c) knows words, quotes, backslashes, comments to the end of a line, ';' and braces,
 * where "${" is part of a word.  So does this one.  Open blocks and files lie on stacks: there is no recursion over the
 * text.
 */
#include "handler/ctl/check/nginx_config.h"

/* System */
#include <fnmatch.h>
#include <string.h>

/* L0 */
#include "lib/base/buf.h"
#include "lib/base/limits.h"

#define FILE_MARK "# configuration file "

struct file {
    struct span path;
    struct span text;
};

/* Where directives go. */
struct place {
    struct nginx_directive *block;
    struct nginx_directive *last; /* in it */
};

/* A file that is being read. */
struct source {
    struct span rest;
    size_t floor;        /* blocks that were open when it began */
    struct span pattern; /* of an include in it, of which files are left; blank: none */
    size_t next_file;    /* the first of these */
};

struct reader {
    struct arena *arena;
    struct file *files;
    size_t file_count;
    size_t directives;
    struct place blocks[LIMIT_NGINX_DEPTH + 1]; /* open ones, the innermost last */
    size_t depth;
    struct source sources[LIMIT_NGINX_DEPTH + 1];
    size_t open_files;
    struct fail *why;
};

/* --- files of the dump --------------------------------------------------------------------------------------- */

/* "# configuration file PATH:"; false: another line. */
static bool is_mark(struct span line, struct span *path)
{
    line = span_trim(line);
    if (!span_starts(line, SPAN_LIT(FILE_MARK)) || line.ptr[line.len - 1] != ':')
        return false;
    *path = span_cut(line, sizeof FILE_MARK - 1, line.len - sizeof FILE_MARK);
    return path->len > 0;
}

/* Counts the files, or, with room for them, notes where they are. */
static size_t find_files(struct span text, struct file *files)
{
    size_t count = 0;
    struct span rest = text, line, path;
    while (span_next(&rest, '\n', &line)) {
        if (is_mark(line, &path)) {
            if (files)
                files[count] = (struct file){path, {line.ptr + line.len, 0}};
            count++;
        } else if (files && count) {
            struct file *file = &files[count - 1];
            file->text.len = (size_t)(line.ptr + line.len - file->text.ptr);
        }
    }
    return count;
}

/* --- words --------------------------------------------------------------------------------------------------- */

enum token { TOKEN_WORD, TOKEN_END, TOKEN_OPEN, TOKEN_CLOSE, TOKEN_FILE_END, TOKEN_BROKEN };

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static void skip_blanks(struct span *rest)
{
    while (rest->len && (is_blank(rest->ptr[0]) || rest->ptr[0] == '#')) {
        size_t len = 1;
        if (rest->ptr[0] == '#') {
            size_t end = span_find(*rest, '\n');
            len = end == SPAN_NONE ? rest->len : end;
        }
        *rest = span_from(*rest, len);
    }
}

/* How long the word is that begins here, quotes included; 0: it does not end. */
static size_t word_length(struct span s)
{
    char quote = s.ptr[0] == '"' || s.ptr[0] == '\'' ? s.ptr[0] : 0;
    for (size_t i = quote ? 1 : 0; i < s.len; i++) {
        char c = s.ptr[i];
        if (c == '\\')
            i++;
        else if (quote && c == quote)
            return i + 1;
        else if (!quote && (is_blank(c) || c == ';' || (c == '{' && (i == 0 || s.ptr[i - 1] != '$'))))
            return i;
    }
    return quote ? 0 : s.len;
}

/* Without the quotes around it, and without the backslashes that nginx takes out. */
static bool copy_word(struct arena *arena, struct span from, struct span *word)
{
    bool is_quoted = from.len >= 2 && (from.ptr[0] == '"' || from.ptr[0] == '\'');
    struct span inner = is_quoted ? span_cut(from, 1, from.len - 2) : from;
    char *to = arena_alloc(arena, inner.len + 1);
    size_t len = 0;
    if (!to)
        return false;
    for (size_t i = 0; i < inner.len; i++) {
        if (inner.ptr[i] == '\\' && i + 1 < inner.len && strchr("\"'\\ ", inner.ptr[i + 1]))
            i++;
        to[len++] = inner.ptr[i];
    }
    *word = (struct span){to, len};
    return true;
}

static enum token next_token(struct span *rest, struct span *raw)
{
    skip_blanks(rest);
    if (rest->len == 0)
        return TOKEN_FILE_END;
    char c = rest->ptr[0];
    size_t len = c == ';' || c == '{' || c == '}' ? 1 : word_length(*rest);
    *raw = span_cut(*rest, 0, len);
    *rest = span_from(*rest, len);
    if (len == 0)
        return TOKEN_BROKEN;
    return c == ';' ? TOKEN_END : c == '{' ? TOKEN_OPEN : c == '}' ? TOKEN_CLOSE : TOKEN_WORD;
}

/* --- the tree ------------------------------------------------------------------------------------------------ */

static enum status no_memory(struct reader *r)
{
    return fail_set(r->why, ST_NOMEM, 0, "no memory for nginx's configuration");
}

static enum status add_directive(struct reader *r, const struct span *words, size_t count)
{
    struct place *place = &r->blocks[r->depth];
    struct nginx_directive *d = arena_alloc(r->arena, sizeof *d);
    if (++r->directives > LIMIT_NGINX_DIRECTIVES)
        return fail_set(r->why, ST_TOO_LARGE, 0, "nginx's configuration has more than %u directives",
                        LIMIT_NGINX_DIRECTIVES);
    if (!d || !(d->words = arena_array(r->arena, count, sizeof *words)))
        return no_memory(r);
    memcpy(d->words, words, count * sizeof *words);
    d->word_count = count;
    d->parent = place->block;
    if (place->last)
        place->last->next = d;
    else
        place->block->first = d;
    place->last = d;
    return ST_OK;
}

/* The words up to ';' or a brace. */
static enum status read_words(struct reader *r, struct span *rest, struct span words[NGINX_WORDS],
                              size_t *count, enum token *end)
{
    struct span raw;
    *count = 0;
    while ((*end = next_token(rest, &raw)) == TOKEN_WORD) {
        if (*count < NGINX_WORDS && !copy_word(r->arena, raw, &words[(*count)++]))
            return no_memory(r);
    }
    bool is_whole = *end != TOKEN_BROKEN && (*count == 0 || *end == TOKEN_END || *end == TOKEN_OPEN);
    return is_whole ? ST_OK
                    : fail_set(r->why, ST_INVALID, 0,
                               "a quote or directive of nginx's configuration does not end");
}

/* An include's pattern, as nginx completes it: beside the file that is the first. */
static enum status complete_pattern(struct reader *r, struct span pattern, struct span *path)
{
    struct span main_path = r->files[0].path;
    size_t slash = span_find_last(main_path, '/');
    bool is_whole = (pattern.len && pattern.ptr[0] == '/') || slash == SPAN_NONE;
    const struct span parts[] = {is_whole ? span_empty() : span_cut(main_path, 0, slash + 1), pattern};
    *path = arena_join(r->arena, parts, 2);
    return path->ptr ? ST_OK : no_memory(r);
}

static enum status begin_file(struct reader *r, const struct file *file)
{
    if (r->open_files > LIMIT_NGINX_DEPTH)
        return fail_set(r->why, ST_TOO_LARGE, 0, "nginx's configuration includes files more than %u deep",
                        LIMIT_NGINX_DEPTH);
    r->sources[r->open_files++] = (struct source){.rest = file->text, .floor = r->depth};
    return ST_OK;
}

/* Begins the next file that the include names; without one it is done. */
static enum status go_on_including(struct reader *r, struct source *s)
{
    while (s->next_file < r->file_count) {
        const struct file *file = &r->files[s->next_file++];
        struct span name;
        if (!arena_copy(r->arena, file->path, &name))
            return no_memory(r);
        if (fnmatch(s->pattern.ptr, name.ptr, FNM_PATHNAME | FNM_PERIOD) == 0)
            return begin_file(r, file);
    }
    s->pattern = span_empty();
    return ST_OK;
}

static enum status open_block(struct reader *r, size_t words)
{
    if (words == 0)
        return fail_set(r->why, ST_INVALID, 0, "a block of nginx's configuration has no name");
    if (r->depth == LIMIT_NGINX_DEPTH)
        return fail_set(r->why, ST_TOO_LARGE, 0, "nginx's configuration has blocks more than %u deep",
                        LIMIT_NGINX_DEPTH);
    struct nginx_directive *block = r->blocks[r->depth].last;
    r->blocks[++r->depth] = (struct place){.block = block};
    return ST_OK;
}

/* One directive of the file in work, or its end. */
static enum status read_directive(struct reader *r, struct source *s)
{
    struct span words[NGINX_WORDS];
    size_t count;
    enum token end;
    enum status status = read_words(r, &s->rest, words, &count, &end);
    if (status == ST_OK && count == 2 && end == TOKEN_END && span_eq(words[0], SPAN_LIT("include"))) {
        s->next_file = 0;
        return complete_pattern(r, words[1], &s->pattern);
    }
    if (status == ST_OK && count)
        status = add_directive(r, words, count);
    if (status != ST_OK)
        return status;
    if (end == TOKEN_OPEN)
        return open_block(r, count);
    if (end == TOKEN_CLOSE && r->depth-- == s->floor)
        return fail_set(r->why, ST_INVALID, 0, "a brace too many in nginx's configuration");
    if (end == TOKEN_FILE_END && r->depth != s->floor)
        return fail_set(r->why, ST_INVALID, 0, "a block of nginx's configuration does not end");
    if (end == TOKEN_FILE_END)
        r->open_files--;
    return ST_OK;
}

enum status nginx_config_read(struct span text, struct arena *arena, const struct nginx_directive **top,
                              struct fail *why)
{
    struct reader r = {.arena = arena, .why = why};
    struct nginx_directive *all = arena_alloc(arena, sizeof *all);
    r.file_count = find_files(text, NULL);
    if (r.file_count == 0)
        return fail_set(why, ST_INVALID, 0,
                        "this is not what `nginx -T` prints: it names no configuration file");
    r.files = arena_array(arena, r.file_count, sizeof *r.files);
    if (!all || !r.files)
        return no_memory(&r);
    (void)find_files(text, r.files);
    r.blocks[0].block = all;
    enum status status = begin_file(&r, &r.files[0]);
    while (status == ST_OK && r.open_files > 0) {
        struct source *s = &r.sources[r.open_files - 1];
        status = s->pattern.len ? go_on_including(&r, s) : read_directive(&r, s);
    }
    if (status == ST_OK)
        *top = all;
    return status;
}

/* --- looking things up --------------------------------------------------------------------------------------- */

struct span nginx_word(const struct nginx_directive *d, size_t i)
{
    return d && i + 1 < d->word_count ? d->words[i + 1] : span_empty();
}

bool nginx_has_word(const struct nginx_directive *d, const char *word)
{
    for (size_t i = 1; d && i < d->word_count; i++) {
        if (span_eq(d->words[i], span_of(word)))
            return true;
    }
    return false;
}

const struct nginx_directive *nginx_find(const struct nginx_directive *block, const char *name,
                                         const struct nginx_directive *after)
{
    const struct nginx_directive *d = after ? after->next : block ? block->first : NULL;
    while (d && !span_eq(d->words[0], span_of(name)))
        d = d->next;
    return d;
}

const struct nginx_directive *nginx_in_force(const struct nginx_directive *block, const char *name)
{
    const struct nginx_directive *d = NULL;
    for (; block && !d; block = block->parent)
        d = nginx_find(block, name, NULL);
    return d;
}
