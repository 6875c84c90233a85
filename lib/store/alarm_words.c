/* What a person is told about each event; the program is in alarms.c. */
#include "lib/store/alarms.h"

#define NOTHING "Nothing has to be done."

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
    [ALARM_WRONG_KEYS] = "wrong-keys",
    [ALARM_SILENCE] = "silence",
    [ALARM_SILENCE_OVER] = "silence-over",
    [ALARM_SPOOL_STUCK] = "spool-stuck",
    [ALARM_TABLE_REFUSED] = "table-refused",
    [ALARM_TABLE_REFUSED_OVER] = "table-refused-over",
    [ALARM_MAIL_PAUSED_OVER] = "mail-paused-over",
    [ALARM_KEY_RETIRING] = "key-retiring",
    [ALARM_KEY_RETIRING_OVER] = "key-retiring-over",
    [ALARM_SAS_ENDING] = "sas-ending",
    [ALARM_SAS_ENDING_OVER] = "sas-ending-over",
    [ALARM_CERTIFICATE_ENDING] = "certificate-ending",
    [ALARM_CERTIFICATE_ENDING_OVER] = "certificate-ending-over",
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
            .action = NOTHING,
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
                "4. Afterwards download Partner Center's leads (Referrals, Leads) and run 'leadctl reconcile' on the "
                "file: it says what is missing and can add it. Each refusal is in leadhook's log with code=503.\n"
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
                "counts the parked mails. Mostly an address in mail_to or mail_routes is wrong, or a mailbox is full or "
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
                "1. Run 'leadctl check' on the host: it logs in to the mail server and says what is wrong. Mostly "
                "the password was changed or has expired, or a certificate has expired or is not trusted.\n"
                "2. Correct mail_user, mail_password, mail_url or mail_tls_ca, and reload or restart "
                "leadhook.\n"
                "3. The waiting mails then go out by themselves; 'leadctl status' shows them.",
            .lasts = true,
        },
    [ALARM_MAIL_PAUSED_OVER] =
        {
            .title = "Over: the mail server takes our settings again",
            .meaning = "The login to the mail server works. Mails that waited are being sent.",
            .action = NOTHING,
            .lasts = true,
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
            .title = "Payloads are being refused: quarantine is full",
            .meaning =
                "So many unreadable payloads came with one key that no more of them are kept today (UTC), or all "
                "of them together take as much as they may: they are answered 429 and are gone. Leads that can "
                "be read are still accepted, also with this key.",
            .action =
                "1. 'leadctl quarantine list' shows what came, with which key and why it was not taken.\n"
                "2. If it is nothing of yours, the key has become known to somebody: give the real sender a "
                "new key and remove this one from keys_file.\n"
                "3. Make room with 'leadctl quarantine drop ID' or 'resubmit ID'. If these are leads in a form "
                "that leadhook does not know, raise quarantine_per_day or quarantine_max_bytes now, so that all "
                "of them are kept.",
        },
    [ALARM_WRONG_KEYS] =
        {
            .title = "Many requests come with a wrong key",
            .meaning =
                "They are answered 401, and nothing of them is kept. Mostly a stranger tries keys, which is "
                "no danger as long as yours are random ('leadctl key new' makes such), and nginx slows them "
                "down. Requests with a good key go on as always.\n"
                "But a sender of yours whose key was retired or mistyped looks the same: then its leads are "
                "being refused.",
            .action =
                "1. Run 'leadctl key list': does a key that should be in use show no recent use, or was one "
                "retired whose sender has not got the new one?\n"
                "2. If so, enter the good key there, and compare with Partner Center (Referrals, Leads) for "
                "that time.\n"
                "3. If not, nothing has to be done. To keep strangers out altogether, let nginx admit only "
                "the senders that you know: nginx/leadhook-restricted.conf.example.",
        },
    [ALARM_SILENCE] =
        {
            .title = "No leads come for an offer",
            .meaning =
                "An offer that had leads has had none for alarm_silence_days. Perhaps nobody was interested. But "
                "when a sender loses its way here (an offer published again without the key's address, a changed "
                "certificate, a firewall), it looks just like that, and nobody else tells you.",
            .action =
                "1. Compare with Partner Center (Referrals, Leads): has it leads of this time that 'leadctl list' has not? "
                "If it has none either, nobody was interested, and nothing has to be done.\n"
                "2. If it has, they did not arrive here. Open the offer in Partner Center, look at Customer leads, and "
                "press Validate: it sends a test lead. If that is not in 'leadctl list' a minute later, look into "
                "leadhook's log for what it was answered (code=401: the key is wrong), and into that of nginx's site (404: "
                "the path is wrong; nothing at all: the name, the certificate or a firewall). If it is, publish the offer again.\n"
                "3. Add what is missing: 'leadctl reconcile FILE.csv --import'.\n"
                "4. If an offer has ended, nothing has to be done: after some weeks it is forgotten. If an offer "
                "of yours has few leads, raise alarm_silence_days.",
            .lasts = true,
        },
    [ALARM_SILENCE_OVER] =
        {
            .title = "Over: leads come again",
            .meaning = "A lead has come for what is named above, or alarm_silence_days was raised.",
            .action =
                "If leads are missing for the time between, compare with Partner Center (Referrals, Leads).",
            .lasts = true,
        },
    [ALARM_SPOOL_STUCK] =
        {
            .title = "Leads have waited in the spool for over an hour",
            .meaning =
                "No lead is lost. They are safe on this host's disk, but nobody sees them in the table and nobody "
                "is notified of them. It does not end by itself while the table refuses them or nobody can reach "
                "it.",
            .action =
                "1. Run 'leadctl status' and 'leadctl check' on the host: they say what the table answers and what "
                "to do about it.\n"
                "2. Run 'leadctl spool list': it shows the leads that wait. If it is a few of one offer only while "
                "others go through, the log says why (event=not-drained).\n"
                "3. Look at the other hosts too: they are told of in one mail a day.\n"
                "Do not move, change or delete the spool's files: leads are in them.",
            .lasts = true,
        },
    [ALARM_TABLE_REFUSED] =
        {
            .title = "No access to the table",
            .meaning =
                "The table is there, but there is no way in. Every lead that comes now goes into this host's spool, if "
                "there is one; without a spool senders are answered 503.",
            .action =
                "1. Run 'leadctl check' on the host: it says what Azure means. Mostly the account key was rotated, "
                "a SAS has expired, the account's firewall was changed, key access was switched off, a certificate is "
                "not trusted, or this host's clock is wrong.\n"
                "2. Copy the connection string anew (Azure portal: the storage account, Access keys) into "
                "table_connection_file, on every host, and reload leadhook.\n"
                "3. 'leadctl status' shows that the table answers; what is in the spool is then copied by itself.",
            .lasts = true,
        },
    [ALARM_TABLE_REFUSED_OVER] =
        {
            .title = "Over: the table lets us in again",
            .meaning = "The table lets this host in again. What was kept in its spool is being copied.",
            .action = NOTHING,
            .lasts = true,
        },
    [ALARM_KEY_RETIRING] =
        {
            .title = "A key for senders is about to end",
            .meaning =
                "The key file says retire= for it. From that time on requests with this key are answered 401 and "
                "their leads are not kept. If its sender has the new key already, all is as it should be.",
            .action =
                "1. Run 'leadctl key list' on every host: is the name still in use, and is there a live key that "
                "takes its place?\n"
                "2. If the sender still uses it: make a new key ('leadctl key new NAME'), enter it in Partner "
                "Center and publish the offer, in time before that day.\n"
                "3. If you need longer, move the day: 'leadctl key retire NAME --at DAY', then reload leadhook.",
            .lasts = true,
        },
    [ALARM_KEY_RETIRING_OVER] =
        {
            .title = "Over: no key is about to end",
            .meaning = "The key has ended by now, its line was removed, or its day was moved.",
            .action =
                "If it has ended: an alarm 'wrong-keys' in the next days would mean that a sender still uses it.",
            .lasts = true,
        },
    [ALARM_SAS_ENDING] =
        {
            .title = "The SAS for the table is about to end",
            .meaning =
                "The connection string holds a shared access signature with an end (se=). From then on Azure "
                "refuses us: leads go into the spool, or are answered 503 where there is none.",
            .action =
                "1. Make a new SAS (Azure portal: the storage account, Shared access signature; rights raud for "
                "table and entity) with a later end.\n"
                "2. Put it into table_connection_file on every host, and reload leadhook: it tries the new one and "
                "keeps the old one if that is refused.\n"
                "3. 'leadctl check' shows that it works.",
            .lasts = true,
        },
    [ALARM_SAS_ENDING_OVER] =
        {
            .title = "Over: the SAS for the table does not end soon",
            .meaning = "The hosts use a connection string whose end is not near.",
            .action = NOTHING,
            .lasts = true,
        },
    [ALARM_CERTIFICATE_ENDING] =
        {
            .title = "A server's TLS certificate is about to end",
            .meaning =
                "leadhook speaks with no server whose certificate has ended. Of the mail server: mails then wait. "
                "Of the table: leads then go into the spool, or are answered 503 where there is none. Mostly such "
                "a certificate is renewed by itself in time; this one has not been.",
            .action =
                "1. If the server is yours (or a gateway of yours stands before it), renew its certificate and "
                "have the server read it: many renew the file and go on with the old one until a restart.\n"
                "2. If not, tell those who run it, and keep this day in mind.\n"
                "3. leadhook looks once a day; 'leadctl check' tries the connection at once.",
            .lasts = true,
        },
    [ALARM_CERTIFICATE_ENDING_OVER] =
        {
            .title = "Over: the certificate has been renewed",
            .meaning = "The server shows a certificate that does not end soon.",
            .action = NOTHING,
            .lasts = true,
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
