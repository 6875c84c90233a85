#include "lib/store/alarms.h"

/* System */
#include <stdio.h>
#include <unistd.h>

/* L0 */
#include "lib/base/clock.h"
#include "lib/base/text.h"

enum { RAISE_ARENA_BYTES = 64 * 1024, HOST_BYTES = 256 };

static const char *const NAMES[ALARM_COUNT] = {
    [ALARM_SPOOLING] = "spooling",
    [ALARM_SPOOL_DRAINED] = "spool-drained",
    [ALARM_SPOOL_FULL] = "spool-full",
    [ALARM_SPOOL_DAMAGED] = "spool-damaged",
    [ALARM_LEADS_LOST] = "leads-lost",
    [ALARM_MAIL_PARKED] = "mail-parked",
    [ALARM_MAIL_PAUSED] = "mail-paused",
    [ALARM_QUARANTINED] = "quarantined",
    [ALARM_QUARANTINE_FULL] = "quarantine-full",
};

/* For somebody who was woken up: is anything lost, is it getting worse, what is the next step. */
static const struct alarm_words WORDS[ALARM_COUNT] = {
    [ALARM_SPOOLING] =
        {
            .title = "Leads are being spooled: the table does not answer",
            .meaning =
                "No lead is lost. Leads are still accepted; each is kept safely on this host's disk (the "
                "spool) and goes into the table by itself when the table answers again.\n"
                "Until then these leads cannot be seen in the table, and nobody is notified of them.\n"
                "This goes on well until the spool is full (spool_max_bytes) or its disk is; then leads "
                "are refused, and another alarm says so.",
            .action =
                "1. Run 'leadctl check' on the host: it tries the table with the configured credentials "
                "and says what is wrong and what to do.\n"
                "2. Look at https://status.azure.com for an outage. Otherwise it is mostly a key or SAS that "
                "was rotated or has expired, a firewall rule of the storage account, or the host's "
                "network or clock.\n"
                "3. Run 'leadctl status': how many leads wait, and how much room is left.\n"
                "Do not move, change or delete the spool's files: leads are in them.",
        },
    [ALARM_SPOOL_DRAINED] =
        {
            .title = "The spool is empty again: leads go into the table",
            .meaning =
                "The table answers again. All leads that this host had kept meanwhile are in the table "
                "or, where the table refused one for good, in quarantine, of which another alarm tells. "
                "Their notifications are being sent.",
            .action = "Nothing has to be done.",
        },
    [ALARM_SPOOL_FULL] =
        {
            .title = "LEADS ARE BEING REFUSED: neither the table nor the spool takes them",
            .meaning =
                "Senders are answered 503 (try again later), and nothing of their leads is kept. It is "
                "not known whether the marketplace sends a lead again: count every refused lead as "
                "lost until this is repaired.\n"
                "The leads that were accepted before are safe.",
            .action =
                "1. Run 'leadctl status' on the host: is the spool full (spool_max_bytes), or its disk, or "
                "can the disk not be written?\n"
                "2. Make room on the disk, or raise spool_max_bytes and restart leadhook: leads are then "
                "accepted again at once.\n"
                "3. Run 'leadctl check' and repair what it says of the table: the spool then empties by "
                "itself.\n"
                "4. Afterwards compare with Partner Center (Referrals, Leads; it exports CSV) for the time "
                "in question: each refusal is in nginx's access log with status 503.\n"
                "Do not delete the spool's files to make room: accepted leads are in them.",
        },
    [ALARM_SPOOL_DAMAGED] =
        {
            .title = "The spool is damaged; a new one has begun beside it",
            .meaning =
                "A file of this host's spool does not hold what was written to it. New leads go into a "
                "new file and are safe. Everything that can still be read from the damaged one is "
                "copied into the table; if leads are lost, another alarm tells their number.\n"
                "This does not happen by itself: mostly a disk is failing, or somebody or another "
                "program (a backup being restored, a cleaning script) changed the file.",
            .action =
                "1. Look for disk errors ('dmesg', 'smartctl -a') and at what else writes to the spool's "
                "folder.\n"
                "2. Leave the damaged files where they are until 'leadctl spool' shows that nothing waits "
                "in them.\n"
                "3. If the disk is failing, set 'spool' to a path on another one then, and not before: what "
                "waits in a spool that is no longer configured is not copied.",
        },
    [ALARM_LEADS_LOST] =
        {
            .title = "LEADS ARE LOST: damage to the spool has destroyed them",
            .meaning =
                "These leads were accepted, so their senders do not send them again; then the file that "
                "held them was damaged before they could be copied into the table. leadhook cannot "
                "get them back.",
            .action =
                "1. 'leadctl spool' on the host lists the ids of the lost leads and when they came; save "
                "that list.\n"
                "2. Compare with Partner Center (Referrals, Leads; it exports CSV) for that time, and enter "
                "what is missing by hand.\n"
                "3. Keep the damaged files, and any backup or snapshot of that disk: an older copy of the "
                "spool may hold the leads.\n"
                "4. Find out why the file was damaged (see the alarm about the damaged spool).",
        },
    [ALARM_MAIL_PARKED] =
        {
            .title = "A notification could not be delivered and was given up",
            .meaning =
                "The lead itself is safe in the store; only the mail about it did not reach a recipient. It "
                "stays parked and is not sent again by itself. Other notifications still go out.",
            .action =
                "1. The host's log has the server's reason in its lines event=mail-parked; 'leadctl status' "
                "counts the parked mails. Mostly an address in mail_to is wrong, or a mailbox is full or "
                "refuses.\n"
                "2. Repair that.\n"
                "3. Run 'leadctl retry': the parked mails are sent again.\n"
                "4. Meanwhile tell the sales team to look at the lead ('leadctl list').",
        },
    [ALARM_MAIL_PAUSED] =
        {
            .title = "Notifications are not going out: the mail server refuses our settings",
            .meaning =
                "Leads are accepted and stored as always. All mails about them wait, are tried again every "
                "few minutes, and lose none of their time by this.\n"
                "This alarm goes over the same mail server, so it may come late: read the time above.",
            .action =
                "1. Run 'leadctl check': it logs in to the mail server and says what is wrong. Mostly the "
                "password was changed, or a certificate has expired or is not trusted.\n"
                "2. Correct mail_user, mail_password, mail_url or mail_tls_ca, and reload or restart "
                "leadhook.\n"
                "3. The waiting mails then go out by themselves; 'leadctl status' shows them.",
        },
    [ALARM_QUARANTINED] =
        {
            .title = "Something is in quarantine: a person has to look at it",
            .meaning =
                "A payload that came with a valid key could not be read as a lead, or the table refused a "
                "lead for good. It is kept as it came. It is not among the leads, and nobody is notified "
                "of it: if it is a lead, it waits for you.",
            .action =
                "1. 'leadctl quarantine list' shows what is there and why, 'leadctl quarantine show ID' one "
                "of them.\n"
                "2. If it is a lead: repair the cause, then 'leadctl quarantine resubmit ID'.\n"
                "3. If it is rubbish: 'leadctl quarantine drop ID'. If much of it comes, find the sender by "
                "the key's name.",
        },
    [ALARM_QUARANTINE_FULL] =
        {
            .title = "Payloads are being refused: a key has used up its quarantine for today",
            .meaning =
                "So many unreadable payloads came with one key that no more of them are kept today (UTC): "
                "they are answered 429 and are gone. Leads that can be read are still accepted, also with "
                "this key.",
            .action =
                "1. 'leadctl quarantine list' shows what came, with which key and why it was not taken.\n"
                "2. If it is nothing of yours, the key has become known to somebody: give the real sender a "
                "new key and remove this one from keys_file.\n"
                "3. If these are leads in a form that leadhook does not know, raise quarantine_per_day now, "
                "so that all of them are kept.",
        },
};

static const struct alarm_words OTHER = {
    .title = "An event that this version of leadhook does not know",
    .meaning = "It was raised by another version, which runs on another host or was installed here before.",
    .action = "Run 'leadctl status' on the host with the version that knows it.",
};

const char *alarm_name(enum alarm alarm)
{
    return NAMES[alarm];
}

struct alarm_words alarm_words(struct span name)
{
    for (size_t i = 0; i < ALARM_COUNT; i++) {
        if (span_eq(name, span_of(NAMES[i])))
            return WORDS[i];
    }
    return OTHER;
}

/* The text with visible characters only, each line by itself. */
static bool clean(struct span text, struct arena *arena, struct span *cleaned)
{
    struct buf lines = BUF_INIT(3 * text.len + 1); /* a bad byte becomes three */
    struct span rest = text, line;
    while (rest.len && span_next(&rest, '\n', &line)) {
        if (lines.len)
            buf_add_char(&lines, '\n');
        text_add_line(&lines, line);
    }
    bool ok = lines.error == ST_OK &&
              arena_copy(arena, utf8_cut_bytes(buf_span(&lines), LIMIT_ALARM_TEXT_BYTES), cleaned);
    buf_release(&lines);
    return ok;
}

enum status alarm_raise(struct store *store, enum alarm alarm, const char *text, int64_t deadline_ms,
                        struct fail *why)
{
    struct arena arena = ARENA_INIT(RAISE_ARENA_BYTES);
    struct operation insert = {.kind = OPERATION_INSERT};
    size_t failed;
    char host[HOST_BYTES] = {0};
    (void)gethostname(host, sizeof host - 1); /* without a name the alarm is still one */
    int64_t now = store_now_ms(store);
    struct alarm_row row = {
        .day = alarm_day(now, &arena),
        .event = span_of(alarm_name(alarm)),
        .received_ms = now,
        .state = ALARM_STATE_WAITING,
    };
    enum status status = ST_OK;
    if (!row.day.len || !clean(span_of(text), &arena, &row.text) ||
        !clean(span_of(host), &arena, &row.host) || !row_of_alarm(&insert.entity, &row, &arena))
        status = fail_set(why, ST_NOMEM, 0, "no memory for an alarm");
    else
        status = store_transact(store, TABLE_OPS, &insert, 1, deadline_ms, &failed, why);
    arena_release(&arena);
    return status;
}

bool alarm_day_take(struct alarm_days *days, enum alarm alarm, int64_t now_ms)
{
    int64_t today = now_ms / CLOCK_DAY_MS + 1; /* 0 is none */
    return atomic_exchange(&days->day[alarm], today) != today;
}

void alarm_day_give_back(struct alarm_days *days, enum alarm alarm)
{
    atomic_store(&days->day[alarm], 0);
}

void alarm_text_of_outage(const struct fail *why, char text[LIMIT_ALARM_TEXT_BYTES])
{
    (void)snprintf(text, LIMIT_ALARM_TEXT_BYTES,
                   "The table does not take leads: %s. They are kept in this host's spool and copied when it "
                   "does; their mails wait until then.",
                   why->text);
}
