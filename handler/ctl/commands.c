#include "handler/ctl/commands.h"

/* System */
#include <string.h>
#include <sysexits.h>

/* L0 */
#include "lib/base/span.h"

/* The commands */
#include "handler/ctl/ctl.h"
#include "handler/ctl/find.h"

#define HELP_OF_ID "  ID                  at least the first 8 digits of a delivery's id\n"

static const struct command COMMANDS[] = {
    {
        .name = "check",
        .run = ctl_check,
        .purpose = "try everything for real; say what to do about failures",
        .usage = "check [--json] [--nginx FILE] [--send-test-mail]\n"
                 "check --send-test-lead [--url URL] [--key-file FILE] [OPTION...]",
        .options = "  --json              one JSON object per line: result, subject, text, means, do\n"
                   "  --nginx FILE        what `nginx -T` printed; -: standard input; off: nothing.\n"
                   "                      Without it nginx is asked, which only root may\n"
                   "  --send-test-mail    sends a mail to everybody in mail_to and alarm_to\n"
                   "  --send-test-lead    posts a test lead as a sender does; waits for row and mail\n"
                   "  --url URL           posts it there; else where nginx's configuration says\n"
                   "  --key-file FILE     holds the key, or the path that `leadctl key new` showed;\n"
                   "                      -: standard input; else $LEADHOOK_TEST_KEY, or it is asked\n"
                   "  --tls-ca FILE       authorities to trust at that URL, not the system's\n"
                   "  --wait SECONDS      for row and mail; 90 if not given\n",
        .examples = "check\n"
                    "check --send-test-lead --url https://leads.example.com\n",
        .keeps_user = true, /* until nginx was asked */
    },
    {
        .name = "export",
        .run = ctl_export,
        .purpose = "write leads whole, to be kept or imported elsewhere",
        .usage = "export [--output FILE [--resume]] [FILTER...]",
        .options = "  --output FILE       into this file, which must not be there yet\n"
                   "  --resume            go on with FILE, with the filters of before, where an\n"
                   "                      export was cut off\n" FIND_HELP,
        .examples = "export --output leads.jsonl\n"
                    "export --since 30d | gzip >month.jsonl.gz\n",
        .keeps_user = true, /* until the file is open */
    },
    {
        .name = "follow",
        .run = ctl_follow,
        .purpose = "show leads as they come, until Ctrl-C",
        .usage = "follow [--json] [FILTER...]",
        .options = "  --json              one JSON object per line\n" FIND_HELP,
        .examples = "follow --no-test\n",
    },
    {
        .name = "import",
        .run = ctl_import,
        .purpose = "put exported leads into the store; what is there stays",
        .usage = "import FILE [--mail]",
        .options = "  FILE                what `leadctl export` has written; -: standard input\n"
                   "  --mail              mail about those that nobody was told of; without it\n"
                   "                      no mail is sent\n",
        .examples = "import leads.jsonl\n",
        .keeps_user = true, /* until the file is open */
    },
    {
        .name = "key",
        .run = ctl_key,
        .purpose = "who may send leads: new keys, their last use, their end",
        .usage = "key new NAME [--signing]\n"
                 "key list\n"
                 "key retire NAME [--signing] [--at TIME]",
        .options = "  NAME                of who sends; a name can have two keys while one replaces\n"
                   "                      the other\n"
                   "  --signing           a signing secret (Standard Webhooks), not a key in the URL\n"
                   "  --at TIME           it ends then, not now: 2026-12-31, 2026-12-31T10:30 (UTC)\n",
        .examples = "key new marketplace\n"
                    "key retire marketplace --at 2026-12-31\n",
        .keeps_user = true,
    },
    {
        .name = "list",
        .run = ctl_list,
        .purpose = "show the newest leads",
        .usage = "list [-n COUNT] [--json | --csv [--bom]] [FILTER...]\n"
                 "list --all --json | --csv [--bom] [FILTER...]",
        .options = "  -n COUNT            so many of the newest; 20 if not given, at most 1000\n"
                   "  --all               all, as they lie in the store: in no order of time\n"
                   "  --json              one JSON object per line\n"
                   "  --csv               for a spreadsheet; a text that it would take for a\n"
                   "                      formula gets an apostrophe before it; times are UTC\n"
                   "  --bom               with a byte order mark, which Excel needs for UTF-8\n" FIND_HELP,
        .examples = "list --since 7d --no-test\n"
                    "list --all --csv --bom --since 2026-05-01 >leads.csv\n",
    },
    {
        .name = "offers",
        .run = ctl_offers,
        .purpose = "show the offers that leads came for",
        .usage = "offers [--json]",
        .options = "  --json              one JSON object per line\n",
        .examples = "offers\n",
    },
    {
        .name = "person",
        .run = ctl_person,
        .purpose = "hand over or erase what is kept of one person",
        .usage = "person export ADDRESS [--thorough]\n"
                 "person erase ADDRESS [--thorough] [--yes]",
        .options = "  ADDRESS             an e-mail address; -: standard input, because all users of\n"
                   "                      this host can see the arguments\n"
                   "  --thorough          also leads that have it only in their text; slow\n"
                   "  --yes               erase; without it only counted\n",
        .examples = "person export ana@example.com >ana.json\n"
                    "person erase - --yes\n",
    },
    {
        .name = "purge",
        .run = ctl_purge,
        .purpose = "remove leads, mails and quarantine of before a time",
        .usage = "purge --older-than AGE [--yes]",
        .options = "  --older-than AGE    hours, days, weeks (12h, 180d, 26w) or a day (2026-05-01)\n"
                   "  --yes               remove; without it only counted\n",
        .examples = "purge --older-than 180d --yes\n",
    },
    {
        .name = "quarantine",
        .run = ctl_quarantine,
        .purpose = "what was kept because it could not be taken",
        .usage = "quarantine list | show ID | resubmit ID [--file FILE] | drop ID",
        .options = "  show ID             its payload, as it came; what is known of it goes to\n"
                   "                      standard error\n"
                   "  resubmit ID         take it as a lead after all\n"
                   "  drop ID             remove it\n" HELP_OF_ID
                   "  --file FILE         take this corrected payload, not the one that is kept;\n"
                   "                      -: standard input\n",
        .examples = "quarantine show 0123abcd >payload.json\n"
                    "quarantine resubmit 0123abcd --file payload.json\n",
    },
    {
        .name = "reconcile",
        .run = ctl_reconcile,
        .purpose = "compare with Partner Center's lead export: missing, extra",
        .usage = "reconcile FILE.csv [OPTION...]",
        .options = "  FILE.csv            of Referrals > Leads, Download; -: standard input\n"
                   "  --import            add what is missing, marked by Origin 'import'; not mailed\n"
                   "  --mail              with --import: mail about it as about any lead\n"
                   "  --map THEIRS=OURS   the column THEIRS is our Email, Created, ReferralId,\n"
                   "                      FirstName, LastName, FullName, Phone, Country, Company,\n"
                   "                      Title, OfferId, Offer, Source, Action, Type, Description\n"
                   "  --dates ORDER       03/04/2026 is dmy or mdy; iso: year first, or words\n"
                   "  --within AGE        times of one lead may be so far apart: 2h, 3d; else 24h\n"
                   "  --since WHEN        created at or after: 12h, 180d, 2026-05-01T10:30 (UTC)\n"
                   "  --until WHEN        created before\n"
                   "  --all               all differences, not the first 40\n"
                   "  --json              one JSON object per difference, and a summary at the end\n",
        .examples = "reconcile leads.csv\n"
                    "reconcile - --import <leads.csv\n",
    },
    {
        .name = "relay",
        .run = ctl_relay,
        .purpose = "send what waits, drain the spool, then end",
        .usage = "relay --once",
        .options = "  --once              must be given: leadhook itself goes on doing it\n",
        .examples = "relay --once\n",
    },
    {
        .name = "report",
        .run = ctl_report,
        .purpose = "a page about the leads of some days, for the sales people",
        .usage = "report [--since WHEN] [--until WHEN] [--output FILE] [OPTION...]\n"
                 "report --week [OPTION...]",
        .options = "  --since WHEN        received from that day on (UTC): 7d, 2026-05-01; else 30d\n"
                   "  --until WHEN        received before; else up to now\n"
                   "  --output FILE       into this file, for you alone; else to standard output\n"
                   "  --week              the last whole week, Monday to Sunday (UTC)\n"
                   "  --mail [ADDRESS]    mails it, to more with commas between them; none named: to\n"
                   "                      whom `default` of mail_routes names, without it mail_to\n"
                   "  --no-personal-data  the table of the newest leads names nobody\n",
        .examples = "report --output leads.html\n"
                    "report --week --mail\n"
                    "report --since 7d --no-personal-data --output week.html\n",
    },
    {
        .name = "retry",
        .run = ctl_retry,
        .purpose = "make parked mails due now",
        .usage = "retry [ID | --all]",
        .options = HELP_OF_ID "  --all               also the mails that are to be tried again later\n",
        .examples = "retry\n"
                    "retry 0123abcd\n",
    },
    {
        .name = "routes",
        .run = ctl_routes,
        .purpose = "who is told of which leads",
        .usage = "routes [--for OFFER [OPTION...]]",
        .options = "  --for OFFER         which rule a lead of that offer would match, and who would\n"
                   "                      be told of it; publisher.offer or the offer's title\n"
                   "  --action ACTION     which the lead would have, else none\n"
                   "  --country COUNTRY   as the sender writes it: US, DE ...\n"
                   "  --campaign NAME     of the page's URL (mktcmpid)\n"
                   "  --test              it would be a test lead\n",
        .examples = "routes --for contoso.mail --country DE\n",
    },
    {
        .name = "show",
        .run = ctl_show,
        .purpose = "all that is known of one lead, and the state of its mails",
        .usage = "show ID [--json]",
        .options = HELP_OF_ID "  --json              one JSON object\n",
        .examples = "show 0123abcd\n",
    },
    {
        .name = "spool",
        .run = ctl_spool,
        .purpose = "leads that wait on this host for the table to answer",
        .usage = "spool [list | acknowledge]",
        .options = "  list                the leads that wait; without a word only how many\n"
                   "  acknowledge         you have dealt with what damage destroyed: forget it\n",
        .examples = "spool list\n",
    },
    {
        .name = "stats",
        .run = ctl_stats,
        .purpose = "count leads by time, offer, action, source and country",
        .usage = "stats [--json] [FILTER...]",
        .options = "  --json              one JSON object\n" FIND_HELP,
        .examples = "stats --no-test\n",
    },
    {
        .name = "status",
        .run = ctl_status,
        .purpose = "one screen; the exit status is a Nagios plugin's",
        .usage = "status [--json]",
        .options = "  --json              one JSON object\n"
                   "  exit status         0: all is well, 1: warning, 2: critical, 3: unknown\n",
        .examples = "status\n",
        .is_plugin = true,
    },
};
enum { COMMAND_COUNT = sizeof COMMANDS / sizeof COMMANDS[0], NAME_COLUMNS = 12 };

const struct command *command_find(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        if (strcmp(name, COMMANDS[i].name) == 0)
            return &COMMANDS[i];
    }
    return NULL;
}

const struct command *command_at(size_t index)
{
    return index < COMMAND_COUNT ? &COMMANDS[index] : NULL;
}

void commands_print(FILE *out)
{
    (void)fprintf(out, "usage: leadctl [--config FILE] COMMAND | --version\n\n");
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        (void)fprintf(out, "  %-*s %s\n", NAME_COLUMNS, COMMANDS[i].name, COMMANDS[i].purpose);
    (void)fprintf(out,
                  "\n`leadctl COMMAND --help` shows one of them, `leadctl help --all` all.\n"
                  "Without --config the file is $LEADHOOK_CONFIG, else %s.\n",
                  CONFIG_DEFAULT_PATH);
}

/* Each line behind a beginning of its own. */
static void print_lines(FILE *out, const char *text, const char *first, const char *others)
{
    struct span rest = span_of(text), line;
    const char *before = first;
    while (span_next(&rest, '\n', &line)) {
        if (line.len)
            (void)fprintf(out, "%s%.*s\n", before, SPAN_FMT(line));
        before = others;
    }
}

static void print_usage(FILE *out, const struct command *command)
{
    print_lines(out, command->usage, "usage: leadctl ", "       leadctl ");
}

void command_print(FILE *out, const struct command *command)
{
    (void)fprintf(out, "leadctl %s: %s\n\n", command->name, command->purpose);
    print_usage(out, command);
    if (command->options)
        (void)fprintf(out, "\n%s", command->options);
    (void)fprintf(out, "\n");
    print_lines(out, command->examples, "for example: leadctl ", "             leadctl ");
}

/* Whether its help has the option. */
static bool has_option(const struct command *command, const char *option)
{
    size_t len = strlen(option);
    for (const char *at = command->options; at && (at = strstr(at, option)); at++) {
        bool is_whole = !strchr("-abcdefghijklmnopqrstuvwxyz", at[len]) || at[len] == '\0';
        if (at > command->options && at[-1] == ' ' && is_whole)
            return true;
    }
    return false;
}

int command_misused(const char *name, int argc, char **argv, const struct fail *why)
{
    const struct command *command = command_find(name);
    bool is_explained = why && why->text[0];
    if (is_explained)
        (void)fprintf(stderr, "leadctl: %s\n", why->text);
    for (int i = 1; i < argc && command && !is_explained; i++) {
        if (argv[i][0] == '-' && argv[i][1] && !has_option(command, argv[i])) {
            (void)fprintf(stderr, "leadctl: there is no option '%s'\n", argv[i]);
            break;
        }
    }
    if (command)
        print_usage(stderr, command);
    (void)fprintf(stderr, "`leadctl %s --help` says what they mean\n", name);
    return EX_USAGE;
}
