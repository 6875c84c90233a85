/* What the failures mean that operators meet, and what to do.  The words on the left are the ones that servers say and
 * people search for; what is more particular stands before what is more general.
 *
 * Sources: the Table service's error code pages; Exchange Online's and RFC 3463's codes; libcurl's and OpenSSL's words.
 */
#include "handler/ctl/check/check.h"

/* L0 */
#include "lib/base/span.h"

#define NEW_SAS                                                                                              \
    "make one with all it needs and put it into table_connection_file: az storage account generate-sas "     \
    "--account-name ACCOUNT --services t --resource-types co --permissions rcaud --https-only --expiry "     \
    "YYYY-MM-DDT00:00Z"

static const struct check_advice TABLE[] = {
    {"KeyBasedAuthenticationNotPermitted",
     "the storage account has \"Allow storage account key access\" switched off, mostly by a policy of the "
     "organisation; a SAS that was signed with the key is refused as well",
     "az storage account update --name ACCOUNT --allow-shared-key-access true; where a policy sets it back, "
     "have this account exempted from it"},
    {"set it right", "a signature holds for 15 minutes, and this host's clock is further off than that",
     "set the clock: timedatectl set-ntp true (systemd-timesyncd or chrony), then run this again"},
    {"the SAS is wrong, expired",
     "the service does not accept the SAS: cut short when it was copied, over, or its key was regenerated",
     NEW_SAS},
    {"AuthenticationFailed",
     "the service does not accept the signature: the key is another account's, was cut short when "
     "it was copied, or was regenerated",
     "copy the connection string anew into table_connection_file: az storage account "
     "show-connection-string --name ACCOUNT (Azure portal: the account, Access keys)"},
    {"AuthorizationFailure",
     "mostly the storage account's firewall does not let this host's address in; Azurite says so of a wrong key, too",
     "look: az storage account show --name ACCOUNT --query \"[publicNetworkAccess,networkRuleSet]\"; let it in: az "
     "storage account network-rule add --account-name ACCOUNT --ip-address ADDRESS (from inside the same Azure region: a rule for the "
     "virtual network, or a private endpoint, instead)"},
    {"AuthorizationPermissionMismatch", "the SAS does not have the right for this step", NEW_SAS},
    {"AuthorizationResourceTypeMismatch", "the SAS is not for tables and their rows (srt=co)", NEW_SAS},
    {"AuthorizationServiceMismatch", "the SAS is for another service than the tables (ss=t)", NEW_SAS},
    {"AuthorizationSourceIPMismatch", "the SAS is for other addresses than this host's (sip=)", NEW_SAS},
    {"AuthorizationProtocolMismatch", "the SAS is for another protocol (spr=)", NEW_SAS},
    {"InsufficientAccountPermissions",
     "the account takes no writes here: the endpoint of the read-only copy (-secondary), say",
     "put the primary endpoint into the connection string"},
    {"InvalidAuthenticationInfo", "the service did not understand the authorization",
     "copy the connection string anew, whole and in one line, into table_connection_file"},
    {"NoAuthenticationInformation", "the service wants another kind of authorization than key or SAS",
     "allow key access: az storage account update --name ACCOUNT --allow-shared-key-access true"},
    {"AccountIsDisabled",
     "the storage account is disabled, mostly because its subscription is (a bill, an end of trial)",
     "look at the subscription in the Azure portal"},
    {"TableNotFound", "the table is not there, and could not be made",
     "make both: az storage table create --account-name ACCOUNT --name NAME (and the same name with Ops)"},
    {"TableBeingDeleted", "the table was deleted less than a minute ago, and cannot be made anew yet",
     "wait a minute and run this again"},
    {"no such account", "the endpoint answers, and knows neither the account nor the path",
     "compare AccountName and TableEndpoint of the connection string with the portal's"},
    {"ServerBusy",
     "the service throttles the account or moves its data; leads go through the spool meanwhile",
     "run this again later; if it stays, look at the account's metrics (Transactions by response type)"},
    {"OperationTimedOut", "the service did not finish in its time", "run this again later"},
    {"InternalError", "the service is in trouble; leads go through the spool meanwhile",
     "run this again later; if it stays, give Microsoft's support the request's id"},
    {"check the table endpoint",
     "something answers there that is not a Table service: a proxy, a gateway, a wrong host",
     "compare the endpoint of the connection string with the portal's; curl -v it from this host"},
    {"no answer to a request",
     "the service took the request and said nothing: an outage, or a proxy in between",
     "look at Azure's status page; run this again; if it stays, curl -v the endpoint from this host"},
    {"", NULL, "run this again; if it stays, compare the connection string with the Azure portal's"},
};

static const struct check_advice SQLITE[] = {
    {"locked", "another program keeps a transaction on the database open",
     "end it: fuser -v on the file shows who has it open"},
    {"No such file", "the folder is not there",
     "make it, owned by leadhook, mode 0700: see the setting's path"},
    {"Permission denied", "this user may not open the file or make one in its folder",
     "run this as the user that leadhook runs as (sudo -u leadhook leadctl check), and give it the folder: chown leadhook"},
    {"unable to open", "this user may not open the file or make one in its folder",
     "run this as the user that leadhook runs as (sudo -u leadhook leadctl check), and give it the folder: chown leadhook"},
    {"readonly", "the file or its disk is read-only for this user",
     "look at its owner and mode, and at mount's options"},
    {"full", "the disk, or what a quota leaves of it, is used up",
     "make room: df -h, du; leadctl purge removes old leads"},
    {"damaged", "the file is damaged, or it is something else",
     "look whether the setting names the right file; stop leadhook, keep a copy of it, and restore it from a backup"},
    {"", NULL, NULL},
};

static const struct check_advice MAIL[] = {
    {"5.7.30",
     "Microsoft 365 has switched off logins by password for sending (basic authentication for SMTP AUTH)",
     "an administrator can allow it again for as long as Microsoft lets them; else another provider with a password of its own: "
     "Azure Communication Services, Amazon SES, SendGrid, Mailgun (the README lists their hosts)"},
    {"SmtpClientAuthentication", "SMTP AUTH is switched off for the organisation or this mailbox",
     "Exchange PowerShell: Set-CASMailbox -Identity MAILBOX -SmtpClientAuthenticationDisabled $false"},
    {"5.7.3",
     "Microsoft 365 does not accept the login: the password is wrong, SMTP AUTH is off for the mailbox, or security "
     "defaults or a conditional access policy forbid it",
     "try the password at outlook.office.com; then Set-CASMailbox -Identity MAILBOX -SmtpClientAuthenticationDisabled $false"},
    {"5.7.57", "the server wants a login and was given none", "set mail_user and mail_password_file"},
    {"SendAsDenied", "the mailbox that logs in may not send as mail_from",
     "make mail_from the mailbox's own address, or give it \"Send as\" for that one"},
    {"5.2.2", "the mailbox is full", "empty it, its Sent Items too"},
    {"not verified",
     "Amazon SES knows the sender not, or is still in its sandbox (then the recipients must be verified, too)",
     "verify the domain of mail_from in SES, in this region, and ask for production access"},
    {"Concurrent connections", "others use the same mailbox to send at the same moment",
     "run this again; give leadhook a mailbox of its own"},
    {"neither PLAIN nor LOGIN", "the server takes no passwords, only such logins as OAuth (XOAUTH2)",
     "use another provider or relay with a password of its own for SMTP"},
    {"offers no login", "the server lets nobody log in here, as it does on port 25 or without TLS",
     "use the submission port: smtps://host:465 or smtp://host:587; a relay that wants no login: leave mail_user out"},
    {"5.7.8",
     "the server does not accept user and password; Gmail wants an app password, SendGrid the user \"apikey\"",
     "compare mail_user and mail_password_file with what the provider shows (the README has a table)"},
    {"refuses the login (check mail_user and mail_password): 4",
     "the server cannot check logins at this moment, or throttles them", "run this again in some minutes"},
    {"refuses the login", "the server does not accept user and password",
     "compare mail_user and mail_password_file with what the provider shows (the README has a table)"},
    {"5.1.1", "the recipient's server knows no such address", "correct mail_to"},
    {"5.7.1", "the server does not relay from this sender, or to this recipient",
     "make mail_from an address of a domain that this provider signs for"},
    {"550", "the server refuses sender or recipient", "look at mail_from and mail_to"},
    {"maildir", "the Maildir cannot be written",
     "make its folder, owned by the user leadhook runs as, mode 0700"},
    {"Permission denied", "the Maildir cannot be written by this user",
     "run this as the user that leadhook runs as, and give it the folder: chown leadhook"},
    {"No such file", "the Maildir's folder is not there",
     "make it, owned by the user leadhook runs as, mode 0700"},
    {"answered: 4", "the server does not take mail at this moment", "run this again in some minutes"},
    {"", NULL, "run this again; if it stays, show these words to who runs the mail server"},
};

static const struct check_advice NETWORK[] = {
    {"has expired", "the certificate is over (or this host's clock is fast)",
     "compare its last day with `date`; have it renewed by who runs that server"},
    {"not yet valid", "the certificate is not valid yet: this host's clock is slow",
     "set the clock: timedatectl set-ntp true, then run this again"},
    {"does not match",
     "the server is another one than the name says, or the name is not the one it is known by",
     "use the name that the certificate is for; for a private endpoint the account's ordinary one, not that with privatelink"},
    {"subject name",
     "the server is another one than the name says, or the name is not the one it is known by",
     "use the name that the certificate is for; for a private endpoint the account's ordinary one, not that with privatelink"},
    {"self-signed",
     "who signed the certificate is not among the authorities that this host trusts: a server with a certificate "
     "of its own, or a firewall that looks into TLS",
     "name the file with that authority in table_tls_ca or mail_tls_ca; senders of leads want a certificate of a public "
     "authority (to try without one: --tls-ca)"},
    {"local issuer",
     "who signed the certificate is not among the authorities that this host trusts, or the server does not "
     "show the certificates in between",
     "apt-get install ca-certificates; an authority of your own: table_tls_ca or mail_tls_ca (for a test lead: --tls-ca)"},
    {"CAfile", "the file of authorities cannot be read",
     "look at table_tls_ca and mail_tls_ca: PEM, readable for leadhook"},
    {"certificate file", "the file of authorities cannot be read",
     "look at table_tls_ca and mail_tls_ca: PEM, readable for leadhook"},
    {"no STARTTLS",
     "the server has no TLS on this port, or something in between hides it; nothing is sent without",
     "use the provider's port for submission: smtp://host:587 or smtps://host:465; for a server on this machine: mail_tls = off"},
    {"wrong version number", "the server does not speak TLS at once on this port",
     "for mail on port 587 write smtp://, for 465 smtps://"},
    {"SSL", "no common way of speaking TLS 1.2 or later was found",
     "look at what stands between: a proxy, an old server"},
    {"resolve",
     "the name is not known: misspelt, an account that is not there (or not any more), or name servers that do not answer",
     "getent hosts NAME; look at /etc/resolv.conf; compare the name with the provider's"},
    {"refused", "the host is there, and nobody listens on that port",
     "compare host and port with the provider's; is it running?"},
    {"Couldn't connect", "the host is there, and nobody listens on that port, or a firewall refuses it",
     "compare host and port with the provider's; is it running?"},
    {"timed out",
     "nothing comes back: a firewall drops it, or the address is wrong; many clouds close ports 25 and 587",
     "try from this host: curl -v telnet://HOST:PORT; have outgoing connections to that port allowed"},
    {"timeout",
     "nothing comes back: a firewall drops it, or the address is wrong; many clouds close ports 25 and 587",
     "try from this host: curl -v telnet://HOST:PORT; have outgoing connections to that port allowed"},
    {"unreachable", "this host has no way there",
     "look at ip route, and at whether a name has only IPv6 addresses"},
    {"", NULL, "try from this host: curl -v telnet://HOST:PORT"},
};

/* The last one of each list fits everything. */
static const struct check_advice *first_in(const struct check_advice *list, const char *text)
{
    while (list->words[0] && !span_has_nocase(span_of(text), span_of(list->words)))
        list++;
    return list;
}

const struct check_advice *check_advice_for(enum check_area area, const char *text)
{
    switch (area) {
    case CHECK_AREA_TABLE:
        return first_in(TABLE, text);
    case CHECK_AREA_SQLITE:
        return first_in(SQLITE, text);
    case CHECK_AREA_MAIL:
        return first_in(MAIL, text);
    case CHECK_AREA_NETWORK:
        break;
    }
    return first_in(NETWORK, text);
}
