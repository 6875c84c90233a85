/* limits.h - every bound on what comes from outside and on what it may take, with its reason.
 *
 * Sizes are in bytes unless the name says otherwise.
 */
#ifndef LEAD_LIMITS_H
#define LEAD_LIMITS_H

/* A request.  The body's own limit is the setting body_max_bytes; this is the
 * greatest value it may have, so that a lead with its raw body and the columns
 * made from it stays below the service's 1 MiB for an entity. */
#define LIMIT_BODY_BYTES    (256u * 1024)
#define LIMIT_REQUEST_ARENA (4u * 1024 * 1024) /* parse results and decoded text of one request */
#define LIMIT_COMMIT_ARENA                                                                                   \
    (64u * 1024 * 1024) /* a full transaction of the largest leads, tried several times */
#define LIMIT_PARAMETERS_BYTES (128u * 1024) /* all that the web server says of a request but its body */
#define LIMIT_REPLY_BYTES      (4u * 1024)   /* the head of an answer */
#define LIMIT_REPLY_BODY_BYTES (112u * 1024) /* /metrics with all keys and offers, their names long */
#define LIMIT_REPLY_JSON_BYTES                                                                               \
    (2u * 1024) /* a short answer: 255 bytes of detail, all escaped, and the rest */
#define LIMIT_QUERY_BYTES        (8u * 1024) /* nginx's default for a request line */
#define LIMIT_REQUEST_ID_BYTES   64u         /* nginx sends 32 hexadecimal digits */
#define LIMIT_CONTENT_TYPE_BYTES 256u
#define LIMIT_METHOD_BYTES       32u /* the longest registered method has 17 */
#define LIMIT_LOCATION_BYTES     64u /* of nginx, where a wrong key is answered: its name */
#define LIMIT_CONTROL_BYTES      512u /* of FCGI_GET_VALUES with many names; what other such records hold has 8 */
#define LIMIT_BACKLOG            1024 /* requests that wait while we have as many as we take; the kernel caps it */
#define LIMIT_OPEN_FILES         4096u /* of the process: 2 * LIMIT_THREADS connections, and those to the store */

/* A signed request (Standard Webhooks). */
#define LIMIT_WEBHOOK_ID_BYTES        255u  /* senders in the field: up to 40 */
#define LIMIT_WEBHOOK_TIMESTAMP_BYTES 20u   /* ten digits until the year 2286 */
#define LIMIT_WEBHOOK_SIGNATURE_BYTES 2048u /* forty signatures; a sender that changes its secret sends two */

/* What a process may take at most, so that README.md can say it: RssAnon <= 24 MiB + 2 * threads * (1 MiB + 12 *
 * body_max_bytes).  At the same time there are 2 * threads requests, each with its parameters and answer, five times
 * LIMIT_JSON_VALUES of 112 bytes (the lead and LIMIT_LEAD_CUSTOMERS), and its body: as it came, without escapes, once
 * more without those of a text in it, its buffers growing, and as columns, row and batch.  24 MiB are the program, the
 * database's cache and LIMIT_STORE_CONNECTIONS with their buffers and TLS.  Mails are sent and spools drained one after
 * the other, with a page of rows each.  tests/system/attack.test.js measures a quarter of it. */

/* JSON.  Leads are two levels deep and have a dozen members. */
#define LIMIT_JSON_DEPTH         16u
#define LIMIT_JSON_VALUES        2048u   /* in a lead */
#define LIMIT_JSON_ANSWER_VALUES 300000u /* 1,000 rows of up to 255 properties, with annotations */
#define LIMIT_FORM_FIELDS        256u
#define LIMIT_PAGE_DEPTH         2u  /* of a Description that is the parameters of a page's address, */
#define LIMIT_PAGE_VALUES        64u /* which the customer's browser has sent */
#define LIMIT_LEAD_CUSTOMERS     4u  /* texts of a lead that may be read as JSON of their own; one is usual */
#define LIMIT_LEAD_ADDRESSES     16u /* in an e-mail field; each is compared with all withhold_domains */

/* The log.  What came with a key has its lines, however many. */
#define LIMIT_LOG_LINE_BYTES 2048u /* a pipe takes 4 KiB at once, so lines do not mix */
#define LIMIT_STRANGER_LINES                                                                                 \
    10u /* in a second about requests without a good key: 200 MB a day; more are counted */

/* Keys and settings. */
#define LIMIT_CONFIG_FILE_BYTES        (64u * 1024)
#define LIMIT_KEY_FILE_BYTES           (64u * 1024)
#define LIMIT_SECRET_FILE_BYTES        (8u * 1024)
#define LIMIT_KEYS                     256u
#define LIMIT_LIVE_KEYS_PER_NAME       2u /* the one in use and the one that replaces it */
#define LIMIT_KEY_BYTES                128u
#define LIMIT_KEY_MIN_BYTES            16u
#define LIMIT_KEY_NAME_BYTES           64u
#define LIMIT_SIGNING_SECRETS          32u /* each is tried on every signed body, also on a stranger's */
#define LIMIT_SIGNING_SECRET_MIN_BYTES 24u /* Standard Webhooks: 192 to 512 bits */
#define LIMIT_SIGNING_SECRET_BYTES     64u
#define LIMIT_RECIPIENTS               16u /* of a lead: their mails go into its transaction */
#define LIMIT_THREADS                  512u

/* Mail routes.  Every lead is compared with all of them: 50 take a microsecond, a file made to be slow takes 20 ms. */
#define LIMIT_ROUTES_FILE_BYTES (64u * 1024)
#define LIMIT_ROUTES            256u
#define LIMIT_ROUTE_VALUES      64u  /* of a condition: the countries of a continent */
#define LIMIT_ROUTE_VALUE_BYTES 255u /* as an offer's key may have; of longer texts the beginning counts */
#define LIMIT_ROUTES_ARENA      (1024u * 1024) /* all of it at these limits: 700 KiB; twice during a reload */

#define LIMIT_PATH_BYTES      4096u          /* PATH_MAX */
#define LIMIT_LOCK_LIST_BYTES (1024u * 1024) /* /proc/locks, which is read for the name of a process only */

/* What piles up: memory of things that others can make any number of, and rows that nobody deletes by hand. */
#define LIMIT_STORE_CONNECTIONS 32u    /* of a process; each may hold a batch */
#define LIMIT_OFFERS_KNOWN      1536u  /* then all are forgotten: each only costs one more write of its row */
#define LIMIT_OFFERS_SHOWN      100u   /* in /metrics: those with the newest leads */
#define LIMIT_MAILS_COUNTED     10000u /* that wait: then it does not matter how many more */
#define LIMIT_MAILS_UNRECORDED  64u /* each is a mail of which the store refuses the record and nothing else */
#define LIMIT_POSTPONED                                                                                      \
    64u /* spooled rows that the table refuses for now; with more, some are tried too early */
#define LIMIT_GENERATIONS 64u /* of a spool side by side; more damage than that needs a person */
#define LIMIT_ALARM_DAYS  30  /* then an alarm's row goes */
#define LIMIT_TROUBLES    50u /* of a kind with a row each: written at once, and more than a person reads */
#define LIMIT_TROUBLES_SEEN                                                                                  \
    512u /* by a host in one look, half of them of one kind; of a kind with more, none is taken for over */
#define LIMIT_QUOTA_DAYS 2 /* the same of a key's counter: clocks may be a day apart */

/* What leadctl holds and shows. */
#define LIMIT_LIST_ROWS    1000u               /* more is no list for a person */
#define LIMIT_LIST_BYTES   (64u * 1024 * 1024) /* the rows of a list, payloads included with sqlite */
#define LIMIT_FOUND_BYTES  (8u * 1024 * 1024)  /* one item of quarantine, as it was read and put together */
#define LIMIT_STATUS_COUNT 1000u               /* counted no further: it has to answer within seconds */

/* A CSV file that leadctl reads.  A cell of Excel holds 32,767 characters, each of which may take three bytes. */
#define LIMIT_CSV_BYTES       (1024u * 1024 * 1024) /* of the file: reading it takes a minute then */
#define LIMIT_CSV_COLUMNS     1024u
#define LIMIT_CSV_FIELD_BYTES (128u * 1024)
#define LIMIT_CSV_ROW_BYTES   (512u * 1024)

/* What leadctl reconcile compares; a download of Partner Center has 5,000 rows at most. */
#define LIMIT_RECONCILE_ROWS  500000u  /* of the file, of 100 bytes each */
#define LIMIT_RECONCILE_LEADS 1000000u /* of the table, in the time of the file, of 120 bytes each */
#define LIMIT_RECONCILE_OFFERS                                                                               \
    (64u * 1024 * 1024) /* bytes of the names of their offers, each of which may be somebody's invention */

/* What leadctl check reads of nginx's configuration. */
#define LIMIT_NGINX_TEXT_BYTES                                                                               \
    (16u * 1024 * 1024) /* all files of it; a host of a thousand sites has a few MiB */
#define LIMIT_NGINX_ARENA      (64u * 1024 * 1024) /* the same as a tree */
#define LIMIT_NGINX_DIRECTIVES 200000u
#define LIMIT_NGINX_DEPTH      32u /* of blocks, and of includes; nginx's own blocks are five deep */

/* A report: takes at most 64 MiB. */
#define LIMIT_REPORT_DAYS       366u               /* a year; more columns are no plot for a person */
#define LIMIT_REPORT_KEYS       4096u              /* of each kind told apart; the text may be any sender's */
#define LIMIT_REPORT_CUSTOMERS  (1024u * 1024)     /* told apart, 16 bytes each in a table half full */
#define LIMIT_REPORT_NEWEST     50u                /* leads shown one by one; more are for leadctl list */
#define LIMIT_REPORT_ARENA      (8u * 1024 * 1024) /* keys of 5 kinds, 255 bytes each, and 4096 titles */
#define LIMIT_REPORT_MAIL_BYTES (6u * 1024 * 1024) /* with the page in base64 */
#define LIMIT_REPORT_BYTES      (4u * 1024 * 1024) /* the page: all of it at its longest is 1 MiB */

/* Azure Table (service limits: facts of the REST documentation, "Understanding the Table service data model"). */
#define LIMIT_PARTITION_KEY_BYTES    255u /* Cosmos DB's bound on keys, below Azure's 1 KiB */
#define LIMIT_ROW_KEY_BYTES          255u
#define LIMIT_PROPERTY_UTF16         32768u                        /* UTF-16 units in a string property */
#define LIMIT_PROPERTY_BINARY        65536u                        /* bytes in a binary property */
#define LIMIT_PROPERTY_NAME          255u                          /* characters */
#define LIMIT_PROPERTIES             252u                          /* own properties of an entity */
#define LIMIT_ENTITY_MEMBERS         (2u * LIMIT_PROPERTIES + 16u) /* of its JSON: each annotated, keys and odata.* */
#define LIMIT_ENTITY_STORED_BYTES    1000000u /* billing formula; the service refuses slightly below 1 MiB */
#define LIMIT_ENTITY_JSON_BYTES      (3u * 1024 * 1024) /* one entity on the wire, escapes counted */
#define LIMIT_BATCH_OPERATIONS       100u
#define LIMIT_RESTORE_OFFERS         64u /* few publishers have as many: their leads come in any order */
#define LIMIT_BATCH_BYTES            (3900u * 1024) /* the service refuses 4 MiB and more */
#define LIMIT_COSMOS_BATCH_BYTES     (2000u * 1000) /* Cosmos DB refuses 2 MiB and more */
#define LIMIT_ACCOUNT_NAME_MIN_BYTES 3u
#define LIMIT_ACCOUNT_NAME_BYTES                                                                             \
    63u /* 24 at Azure, 44 at Cosmos DB; Azurite's are free: one label of a host name */
#define LIMIT_ENDPOINT_BYTES   512u
#define LIMIT_CREDENTIAL_BYTES 4096u        /* a SAS has about 200, a key 88 */
#define LIMIT_URL_BYTES        (16u * 1024) /* keys in a filter, a continuation and a SAS, all percent-encoded */
#define LIMIT_CALL_ANSWER_BYTES                                                                              \
    (1024u * 1024)                       /* of calls that answer little: a batch of 100, creating a table */
#define LIMIT_ERROR_ARENA   (64u * 1024) /* what is read of an error's body */
#define LIMIT_ERROR_VALUES  64u
#define LIMIT_RETRY_AFTER_S (24 * 60 * 60) /* what a service may ask us to wait: more is read as a day ... */
#define LIMIT_ASKED_WAIT_S  600 /* ... and waited for no longer than this: what if it asked by mistake? */
#define LIMIT_ANSWER_BYTES                                                                                   \
    (16u * 1024 * 1024) /* 1,000 rows of 16 KiB each; larger pages are asked for with $top */
#define LIMIT_PAGE_BYTES (4u * 1024 * 1024) /* rows of a SQLite database read at once */
#define LIMIT_SQLITE_LOG_TEXT                                                                                \
    "16777216" /* bytes of a database's log when no reader holds it; 4 MiB are usual */
#define LIMIT_HEADER_BYTES       (32u * 1024) /* all header lines of one answer */
#define LIMIT_CONTINUATION_BYTES 4096u

/* Mail.  A finished message is kept in its row, where a character counts two
 * bytes; the limits on fields make sure that it always fits. */
#define LIMIT_MAIL_BYTES         (460u * 1024) /* a finished message */
#define LIMIT_MAIL_FIELD_BYTES   (3u * 1024)   /* of a field as shown in a mail; the rest is in the store */
#define LIMIT_MAIL_TEXT_BYTES    (10u * 1024)  /* of the customer's own words */
#define LIMIT_MAIL_HISTORY       10u           /* earlier leads of the person listed */
#define LIMIT_MAIL_ADDRESS_BYTES 254u          /* RFC 5321 4.5.3.1.3 less the brackets */
#define LIMIT_MAIL_HEADER_BYTES                                                                              \
    4096u /* of a header's text before it is encoded: longer subjects help nobody */
#define LIMIT_ALARM_TEXT_BYTES (2u * 1024)  /* what an alarm says */
#define LIMIT_SMTP_REPLY_BYTES (16u * 1024) /* all reply lines of one dialogue */

/* Waits, in milliseconds. */
#define WAIT_CONNECT_MS      2000u  /* TCP and TLS to the Table service */
#define WAIT_SQLITE_BUSY_MS  2000u  /* for another process's transaction */
#define WAIT_SPOOL_MS        4000u  /* for the local spool, after the time for the store */
#define WAIT_STOP_MS         20000u /* from SIGTERM to exit */
#define WAIT_PEER_MS         10000u /* for the next bytes of a request; nginx has it whole before it connects */
#define WAIT_REQUEST_MS      15000u /* for a whole request, however steadily its bytes come */
#define WAIT_CROWDED_MS      1000u  /* the same while all places are taken: others wait behind it */
#define WAIT_ANSWER_MS       60000u /* for a request and its answer: nginx waits no longer */
#define WAIT_FAREWELL_MS     1000u  /* for a peer to close its connection, once it was told to */
#define WAIT_LAST_BYTES_MS   3000u  /* for a whole request, once we are to stop */
#define WAIT_ACCEPT_MS       1u     /* for a connection that another process has taken */
#define WAIT_CGI_BODY_MS     30000u /* for the whole body: the web server has it already */
#define WAIT_OFFERS_MS       60000u /* between updates of the offers directory's last lead times */
#define WAIT_RELAY_PASS_MS   30000u /* between looks into the store without a hint */
#define WAIT_SMTP_CONNECT_MS 30000u
#define WAIT_SMTP_REPLY_MS   600000u /* RFC 5321 4.5.3.2.6: ten minutes after the final dot */

#endif
