#include "lib/store/troubles.h"

/* System */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/text.h"

enum {
    ROWS_MAX = TROUBLE_KINDS * LIMIT_TROUBLES + ALARM_COUNT, /* with the alarms of today */
    LISTED_MAX = 10,                                         /* in a mail: it says how many more there are */
    HOSTS_BYTES = 8192,                                      /* a hundred hosts and more */
    NAME_BYTES = 128,
    ROUNDS_MAX = 3 /* when other hosts write the same rows: in each round one of them gets done */
};
#define HOUR_MS            (60 * 60 * 1000LL)
#define HOSTS_RENEWED_MS   (HOUR_MS / 2)
#define HOSTS_FORGOTTEN_MS (2 * HOUR_MS)
#define NO_ALARM           ALARM_COUNT
#define NO_HOSTS           "-" /* because merging cannot remove a column */

static const struct kind {
    enum alarm begins;
    enum alarm ends; /* NO_ALARM: another alarm tells it */
    bool is_urgent;  /* told again after a day */
    const char *many;
} KINDS[TROUBLE_KINDS] = {
    [TROUBLE_SILENCE] = {ALARM_SILENCE, ALARM_SILENCE_OVER, false, "offers have no leads any more"},
    [TROUBLE_SPOOL_STUCK] = {ALARM_SPOOL_STUCK, NO_ALARM, true, "hosts have leads waiting in their spools"},
    [TROUBLE_TABLE_REFUSED] = {ALARM_TABLE_REFUSED, ALARM_TABLE_REFUSED_OVER, true,
                               "hosts have no access to the table"},
    [TROUBLE_MAIL_PAUSED] = {ALARM_MAIL_PAUSED, ALARM_MAIL_PAUSED_OVER, true,
                             "hosts are refused by the mail server"},
    [TROUBLE_KEY_RETIRING] = {ALARM_KEY_RETIRING, ALARM_KEY_RETIRING_OVER, false, "keys end soon"},
    [TROUBLE_SAS_ENDING] = {ALARM_SAS_ENDING, ALARM_SAS_ENDING_OVER, false, "SAS for the table end soon"},
    [TROUBLE_CERTIFICATE_ENDING] = {ALARM_CERTIFICATE_ENDING, ALARM_CERTIFICATE_ENDING_OVER, false,
                                    "TLS certificates end soon"},
};

const char *trouble_name(enum trouble_kind kind)
{
    return alarm_name(KINDS[kind].begins);
}

struct trouble *sighting_add(struct sighting *sighting, enum trouble_kind kind)
{
    size_t of_kind = 0;
    for (size_t i = 0; i < sighting->count; i++)
        of_kind += sighting->seen[i].kind == kind ? 1 : 0;
    /* A thousand offers without leads must not hide that the mail server refuses us. */
    if (sighting->count == LIMIT_TROUBLES_SEEN || of_kind == LIMIT_TROUBLES_SEEN / 2) {
        sighting->more[kind] = true;
        return NULL;
    }
    struct trouble *trouble = &sighting->seen[sighting->count++];
    *trouble = (struct trouble){.kind = kind};
    return trouble;
}

/* After how many days somebody is told again who was told so often. */
static int64_t pause_ms(const struct kind *kind, int32_t told)
{
    static const int64_t days[] = {1, 6, 21, 28};
    size_t at = (size_t)(told - 1) + (kind->is_urgent ? 0 : 1);
    if (!kind->is_urgent && told == 1)
        return 7 * CLOCK_DAY_MS;
    return (at < 4 ? days[at] : days[3]) * CLOCK_DAY_MS;
}

/* --- rows ---------------------------------------------------------------------------------------------------- */

static struct span key_of(enum trouble_kind kind, const char *subject, struct arena *arena)
{
    char text[NAME_BYTES];
    struct span key;
    int len = snprintf(text, sizeof text, TROUBLE_KEY_FIRST "%s-%016" PRIx64, trouble_name(kind),
                       text_hash(TEXT_HASH_BEGIN, subject));
    return arena_copy(arena, (struct span){text, (size_t)len}, &key) ? key : span_empty();
}

enum status trouble_of_row(const struct entity *row, struct trouble_row *trouble, struct fail *why)
{
    struct span event = entity_text(row, "Event");
    *trouble = (struct trouble_row){
        .kind = TROUBLE_KINDS,
        .subject = entity_text(row, "Subject"),
        .title = entity_text(row, "Title"),
        .since_ms = entity_number(row, "SinceTime", 0),
        .seen_ms = entity_number(row, "SeenTime", row->timestamp_ms),
        .told = (int32_t)entity_number(row, "Told", 0),
        .tell_ms = entity_number(row, "TellTime", 0),
        .hosts = entity_text(row, "Hosts"),
    };
    trouble->is_over = span_eq(trouble->hosts, SPAN_LIT(NO_HOSTS));
    for (size_t i = 0; i < TROUBLE_KINDS; i++) {
        if (span_eq(event, span_of(trouble_name((enum trouble_kind)i))))
            trouble->kind = (enum trouble_kind)i;
    }
    if (trouble->told < 0 || trouble->told > INT16_MAX) /* people may edit rows */
        trouble->told = 0;
    return trouble->kind == TROUBLE_KINDS || !span_starts(row->row_key, SPAN_LIT(TROUBLE_KEY_FIRST))
               ? fail_set(why, ST_INVALID, 0, "a row is not that of a trouble")
               : ST_OK;
}

/* One call of troubles_settle. */
struct settling {
    struct store *store;
    const struct sighting *sighting;
    int64_t deadline_ms;
    int64_t now_ms;
    struct arena arena;
    bool raised_today[ALARM_COUNT];
    struct lasting {
        struct trouble_row row;
        const struct entity *entity;
        const struct trouble *seen; /* by us, now; NULL: not */
    } rows[TROUBLE_KINDS * LIMIT_TROUBLES];
    size_t count;
    size_t *lasting; /* of each kind, as the caller gets it */
    bool is_behind;  /* another host was faster: the rows are not as they were read */
};

static void note_alarm(struct settling *s, const struct entity *entity)
{
    struct alarm_row alarm;
    if (alarm_of_row(entity, &alarm, NULL) != ST_OK)
        return;
    for (size_t i = 0; i < ALARM_COUNT; i++) {
        if (span_eq(alarm.event, span_of(alarm_name((enum alarm)i))))
            s->raised_today[i] = true;
    }
}

/* The alarms of today, and behind them the troubles. */
static enum status read_rows(struct settling *s, struct fail *why)
{
    struct query q = {
        .table = TABLE_OPS,
        .partition_key = SPAN_LIT(ALARMS_PARTITION),
        .from = alarm_day(s->now_ms, &s->arena),
        .to = SPAN_LIT(TROUBLE_KEY_END),
        .limit = ROWS_MAX,
    };
    if (!q.from.len)
        return fail_set(why, ST_NOMEM, 0, "no memory to read troubles");
    do {
        struct page page;
        enum status status = store_query(s->store, &q, s->deadline_ms, &s->arena, &page, why);
        if (status != ST_OK)
            return status;
        for (size_t i = 0; i < page.count; i++) {
            struct lasting lasting = {.entity = &page.rows[i]};
            if (trouble_of_row(lasting.entity, &lasting.row, NULL) != ST_OK)
                note_alarm(s, lasting.entity);
            else if (s->count < sizeof s->rows / sizeof s->rows[0])
                s->rows[s->count++] = lasting;
        }
        q.next = page.next;
    } while (q.next.len);
    return ST_OK;
}

static struct lasting *find(struct settling *s, const struct trouble *trouble)
{
    for (size_t i = 0; i < s->count; i++) {
        if (s->rows[i].row.kind == trouble->kind &&
            span_eq(s->rows[i].row.subject, span_of(trouble->subject)))
            return &s->rows[i];
    }
    return NULL;
}

static size_t count_of(const struct settling *s, enum trouble_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++)
        count += s->rows[i].row.kind == kind ? 1 : 0;
    return count;
}

static size_t count_lasting(const struct settling *s, enum trouble_kind kind)
{
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++)
        count += s->rows[i].row.kind == kind && !s->rows[i].row.is_over ? 1 : 0;
    return count;
}

/* --- who sees it --------------------------------------------------------------------------------------------- */

struct hosts {
    struct span text; /* for the row */
    bool has_others;  /* besides this one */
    bool has_changed; /* the row should be written */
};

/* "name@milliseconds,...": without those that have said nothing for long, with this host when it sees it. */
static bool list_hosts(struct settling *s, struct span before, bool sees, struct hosts *hosts)
{
    struct buf text = BUF_INIT(HOSTS_BYTES);
    struct span rest = before, part;
    bool is_fresh = false, was_there = false;
    *hosts = (struct hosts){0};
    while (span_next(&rest, ',', &part)) {
        uint64_t at_ms;
        size_t at = span_find(part, '@');
        if (at == SPAN_NONE || !span_to_u64(span_from(part, at + 1), INT64_MAX, &at_ms))
            continue;
        if (span_eq(span_cut(part, 0, at), s->sighting->host)) {
            was_there = true;
            is_fresh = s->now_ms - (int64_t)at_ms < HOSTS_RENEWED_MS;
        } else if (s->now_ms - (int64_t)at_ms < HOSTS_FORGOTTEN_MS) {
            hosts->has_others = true;
            buf_addf(&text, "%s%.*s", text.len ? "," : "", SPAN_FMT(part));
        }
    }
    hosts->has_changed = sees ? !is_fresh : was_there;
    if (sees)
        buf_addf(&text, "%s%.*s@%" PRId64, text.len ? "," : "", SPAN_FMT(s->sighting->host), s->now_ms);
    if (text.len == 0)
        buf_add_text(&text, NO_HOSTS);
    bool ok = text.error == ST_OK && arena_copy(&s->arena, buf_span(&text), &hosts->text);
    buf_release(&text);
    return ok;
}

/* --- what people read ---------------------------------------------------------------------------------------- */

/* What one alarm is about. */
struct told {
    struct span titles[LIMIT_TROUBLES];
    struct span detail; /* of the last one */
    size_t count;
    size_t again; /* of which it was told before */
};

static void add_time(struct buf *out, int64_t wall_ms)
{
    char text[CLOCK_TEXT_BYTES];
    clock_minute_words(wall_ms, text);
    buf_add_text(out, text);
}

static bool title_of(struct settling *s, const struct trouble *trouble, int64_t since_ms, struct span *title)
{
    char memory[TROUBLE_TITLE_BYTES + CLOCK_TEXT_BYTES];
    struct buf text = BUF_FIXED(memory);
    buf_add_text(&text, trouble->title);
    if (since_ms) {
        buf_add_text(&text, " since ");
        add_time(&text, since_ms);
    }
    return text.error == ST_OK && arena_copy(&s->arena, buf_span(&text), title);
}

static void add_list(struct buf *out, const char *head, const struct span *titles, size_t count)
{
    if (count == 0)
        return;
    buf_add_text(out, head);
    for (size_t i = 0; i < count && i < LISTED_MAX; i++) {
        /* Ten of the longest names would be cut off behind the end of the text. */
        buf_addf(out, "\n- %.*s",
                 SPAN_FMT(utf8_cut_bytes(titles[i], LIMIT_ALARM_TEXT_BYTES / 2 / LISTED_MAX)));
    }
    if (count > LISTED_MAX)
        buf_addf(out, "\n- and %zu more: 'leadctl status --json' has all of them", count - LISTED_MAX);
    buf_add_char(out, '\n');
}

/* Those of the kind that are not told of now: also when one is over, others may last. */
static void add_others(struct settling *s, struct buf *out, enum trouble_kind kind, const struct told *told)
{
    struct span titles[LIMIT_TROUBLES];
    size_t count = 0;
    for (size_t i = 0; i < s->count; i++) {
        bool is_told = false;
        for (size_t j = 0; j < told->count; j++)
            is_told = is_told || span_eq(told->titles[j], s->rows[i].row.title);
        if (s->rows[i].row.kind == kind && !s->rows[i].row.is_over && !is_told && count < LIMIT_TROUBLES)
            titles[count++] = s->rows[i].row.title;
    }
    add_list(out, "\nOf this kind there still is:", titles, count);
}

/* The row of the alarm that tells of these. */
static enum status add_alarm(struct settling *s, enum trouble_kind kind, const struct told *told,
                             bool is_over, struct operation *operation, struct fail *why)
{
    const struct kind *k = &KINDS[kind];
    struct buf title = BUF_INIT(LIMIT_ALARM_TEXT_BYTES), text = BUF_INIT(4 * LIMIT_ALARM_TEXT_BYTES);
    buf_add_text(&title, is_over ? "Over: " : told->again == told->count ? "Still: " : "");
    if (told->count == 1) {
        buf_add(&title, told->titles[0]);
        buf_add(&text, told->detail);
    } else {
        buf_addf(&title, "%zu %s", told->count, k->many);
        add_list(&text, is_over ? "These are over:" : "These are:", told->titles, told->count);
    }
    if (text.len && text.data[text.len - 1] != '\n')
        buf_add_char(&text, '\n');
    add_others(s, &text, kind, told);
    *operation = (struct operation){.kind = OPERATION_INSERT};
    bool ok = title.error == ST_OK && text.error == ST_OK &&
              alarm_row_to_raise(&operation->entity, is_over ? k->ends : k->begins, buf_span(&title),
                                 buf_span(&text), s->now_ms, &s->arena);
    buf_release(&title);
    buf_release(&text);
    return ok ? ST_OK : fail_set(why, ST_NOMEM, 0, "no memory for an alarm");
}

/* --- one kind ------------------------------------------------------------------------------------------------ */

/* What is written at once for a kind; the first place is the alarm's. */
struct change {
    struct operation operations[1 + LIMIT_TROUBLES];
    size_t count;      /* without the alarm */
    size_t begin, end; /* so many last by it that did not, and the other way round */
    struct told told;
};

static void tell(struct told *told, struct span title, struct span detail, bool again)
{
    told->titles[told->count++] = title;
    told->detail = detail;
    told->again += again ? 1 : 0;
}

static enum status write(struct settling *s, enum trouble_kind kind, struct change *c, bool is_over,
                         struct fail *why)
{
    bool tells = c->told.count > 0;
    size_t failed;
    enum status status = ST_OK;
    if (tells)
        status = add_alarm(s, kind, &c->told, is_over, &c->operations[0], why);
    if (status == ST_OK && c->count > 0)
        status = store_transact(s->store, TABLE_OPS, tells ? c->operations : c->operations + 1,
                                tells ? c->count + 1 : c->count, s->deadline_ms, &failed, why);
    if (status == ST_OK)
        s->lasting[kind] += c->begin - c->end;
    if (status != ST_EXISTS && status != ST_CHANGED && status != ST_NOT_FOUND)
        return status;
    s->is_behind = true;
    return ST_OK;
}

/* The row of a trouble that is seen: a new one, or the changes of the old one. */
static bool row_to_write(struct settling *s, const struct trouble *t, const struct lasting *old,
                         const struct hosts *hosts, int32_t told, struct span title,
                         struct operation *operation)
{
    const struct kind *kind = &KINDS[t->kind];
    struct span key = old ? old->entity->row_key : key_of(t->kind, t->subject, &s->arena);
    *operation = (struct operation){.kind = old ? OPERATION_MERGE : OPERATION_INSERT};
    struct entity *row = &operation->entity;
    if (!key.len || !entity_init(row, SPAN_LIT(ALARMS_PARTITION), key, &s->arena))
        return false;
    if (old) {
        row->etag = old->entity->etag;
    } else {
        entity_add_text(row, "Event", span_of(trouble_name(t->kind)));
        entity_add_text(row, "Subject", span_of(t->subject));
        if (t->since_ms)
            entity_add_time(row, "SinceTime", t->since_ms);
        entity_add_time(row, "SeenTime", s->now_ms);
    }
    entity_add_text(row, "Title", title);
    entity_add_text(row, "Hosts", hosts->text);
    entity_add_int(row, "Told", told);
    if (told > (old ? old->row.told : 0))
        entity_add_time(row, "TellTime", s->now_ms + pause_ms(kind, told));
    return true;
}

static bool add_seen(struct settling *s, const struct trouble *t, struct lasting *old, struct change *c)
{
    const struct kind *kind = &KINDS[t->kind];
    int64_t since_ms = old ? old->row.since_ms : t->since_ms;
    int32_t told = old ? old->row.told : 0;
    bool tells =
        s->sighting->tells && !s->raised_today[kind->begins] && (told == 0 || s->now_ms >= old->row.tell_ms);
    struct hosts hosts;
    struct span title;
    if (!list_hosts(s, old ? old->row.hosts : span_empty(), true, &hosts) ||
        !title_of(s, t, since_ms, &title))
        return false;
    if (old && !tells && !hosts.has_changed)
        return true;
    if (tells)
        tell(&c->told, title, span_of(t->detail), told > 0);
    c->begin += !old || old->row.is_over ? 1 : 0;
    return row_to_write(s, t, old, &hosts, told + (tells ? 1 : 0), title, &c->operations[1 + c->count++]);
}

/* Those that this host sees: what is new, and whom it has to be told. */
static enum status settle_seen(struct settling *s, enum trouble_kind kind, struct fail *why)
{
    const struct sighting *sighting = s->sighting;
    struct change *c = arena_alloc(&s->arena, sizeof *c);
    size_t rows = count_of(s, kind);
    bool ok = c != NULL;
    for (size_t i = 0; ok && i < sighting->count && c->count < LIMIT_TROUBLES; i++) {
        const struct trouble *t = &sighting->seen[i];
        if (t->kind != kind || t->is_forgotten)
            continue;
        struct lasting *old = find(s, t);
        if (old)
            old->seen = t;
        else if (rows++ >= LIMIT_TROUBLES)
            continue;
        ok = add_seen(s, t, old, c);
    }
    return ok ? write(s, kind, c, false, why) : fail_set(why, ST_NOMEM, 0, "no memory for troubles");
}

static bool is_forgotten(const struct sighting *sighting, const struct trouble_row *row)
{
    for (size_t i = 0; i < sighting->count; i++) {
        const struct trouble *t = &sighting->seen[i];
        if (t->is_forgotten && t->kind == row->kind && span_eq(row->subject, span_of(t->subject)))
            return true;
    }
    return false;
}

/* The row of one that this host does not see: it goes when nobody else does either. */
static bool add_unseen(struct settling *s, const struct lasting *l, struct change *c)
{
    const struct sighting *sighting = s->sighting;
    const struct kind *kind = &KINDS[l->row.kind];
    struct operation *operation = &c->operations[1 + c->count];
    struct hosts hosts;
    if (!list_hosts(s, l->row.hosts, false, &hosts))
        return false;
    bool quietly = sighting->looked[l->row.kind] == LOOK_OFF || is_forgotten(sighting, &l->row);
    bool tells = l->row.told > 0 && kind->ends != NO_ALARM && sighting->tells && !quietly;
    bool stays = hosts.has_others || (tells && s->raised_today[kind->ends]); /* not over, or told tomorrow */
    if (stays && !hosts.has_changed && (hosts.has_others || l->row.is_over))
        return true;
    c->end += !hosts.has_others && !l->row.is_over ? 1 : 0;
    *operation = (struct operation){.kind = stays ? OPERATION_MERGE : OPERATION_DELETE};
    if (!entity_init(&operation->entity, l->entity->partition_key, l->entity->row_key, &s->arena))
        return false;
    operation->entity.etag = l->entity->etag;
    if (stays)
        entity_add_text(&operation->entity, "Hosts", hosts.text);
    else if (tells) {
        char memory[CLOCK_TEXT_BYTES + NAME_BYTES];
        struct buf text = BUF_FIXED(memory);
        struct span detail;
        buf_add_text(&text, "This was first seen ");
        add_time(&text, l->row.seen_ms);
        buf_add_text(&text, " and is over now.");
        if (!arena_copy(&s->arena, buf_span(&text), &detail))
            return false;
        tell(&c->told, l->row.title, detail, false);
    }
    c->count++;
    return true;
}

static enum status settle_unseen(struct settling *s, enum trouble_kind kind, struct fail *why)
{
    struct change *c = arena_alloc(&s->arena, sizeof *c);
    bool ok = c != NULL;
    for (size_t i = 0; ok && i < s->count && c->count < LIMIT_TROUBLES; i++) {
        if (s->rows[i].row.kind == kind && !s->rows[i].seen)
            ok = add_unseen(s, &s->rows[i], c);
    }
    return ok ? write(s, kind, c, true, why) : fail_set(why, ST_NOMEM, 0, "no memory for troubles");
}

/* All of it, with the rows as they are now. */
static enum status settle(struct settling *s, struct fail *why)
{
    const struct sighting *sighting = s->sighting;
    s->count = 0;
    s->is_behind = false;
    memset(s->raised_today, 0, sizeof s->raised_today);
    arena_reset(&s->arena);
    enum status status = read_rows(s, why);
    for (size_t i = 0; i < TROUBLE_KINDS; i++)
        s->lasting[i] = count_lasting(s, (enum trouble_kind)i);
    for (size_t i = 0; i < TROUBLE_KINDS && status == ST_OK; i++) {
        enum trouble_kind kind = (enum trouble_kind)i;
        if (sighting->looked[kind] == LOOK_NONE)
            continue;
        status = settle_seen(s, kind, why);
        if (status == ST_OK && !sighting->more[kind])
            status = settle_unseen(s, kind, why);
    }
    return status;
}

enum status troubles_settle(struct store *store, const struct sighting *sighting, int64_t deadline_ms,
                            size_t lasting[TROUBLE_KINDS], struct fail *why)
{
    struct settling *s = calloc(1, sizeof *s);
    if (!s)
        return fail_set(why, ST_NOMEM, 0, "no memory for troubles");
    s->store = store;
    s->sighting = sighting;
    s->deadline_ms = deadline_ms;
    s->now_ms = store_now_ms(store);
    s->arena = ARENA_INIT(LIMIT_COMMIT_ARENA);
    s->lasting = lasting;
    enum status status;
    size_t rounds = 0;
    do { /* what is left to do after that is found by the next look */
        status = settle(s, why);
    } while (status == ST_OK && s->is_behind && ++rounds < ROUNDS_MAX);
    arena_release(&s->arena);
    free(s);
    return status;
}
