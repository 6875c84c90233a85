/* limits.h - every bound on what comes from outside, with its reason.
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
#define LIMIT_PARAMETERS_BYTES   (128u * 1024) /* all that the web server says of a request but its body */
#define LIMIT_REPLY_BYTES        (4u * 1024)   /* the head of an answer */
#define LIMIT_REPLY_BODY_BYTES   (32u * 1024)  /* the largest is /metrics, a few KiB */
#define LIMIT_QUERY_BYTES        (8u * 1024)   /* nginx's default for a request line */
#define LIMIT_REQUEST_ID_BYTES   64u           /* nginx sends 32 hexadecimal digits */
#define LIMIT_CONTENT_TYPE_BYTES 256u

/* JSON.  Leads are two levels deep and have a dozen members. */
#define LIMIT_JSON_DEPTH         16u
#define LIMIT_JSON_VALUES        2048u   /* in a lead */
#define LIMIT_JSON_ANSWER_VALUES 300000u /* 1,000 rows of up to 255 properties, with annotations */
#define LIMIT_FORM_FIELDS        256u

/* Keys and settings. */
#define LIMIT_CONFIG_FILE_BYTES (64u * 1024)
#define LIMIT_KEY_FILE_BYTES    (64u * 1024)
#define LIMIT_SECRET_FILE_BYTES (8u * 1024)
#define LIMIT_KEYS              256u
#define LIMIT_KEY_BYTES         128u
#define LIMIT_KEY_MIN_BYTES     16u
#define LIMIT_KEY_NAME_BYTES    64u
#define LIMIT_RECIPIENTS        16u
#define LIMIT_THREADS           512u

/* Azure Table (service limits: facts of the REST documentation, "Understanding the Table service data model"). */
#define LIMIT_PARTITION_KEY_BYTES 255u /* Cosmos DB's bound on keys, below Azure's 1 KiB */
#define LIMIT_ROW_KEY_BYTES       255u
#define LIMIT_PROPERTY_UTF16      32768u   /* UTF-16 units in a string property */
#define LIMIT_PROPERTY_BINARY     65536u   /* bytes in a binary property */
#define LIMIT_PROPERTY_NAME       255u     /* characters */
#define LIMIT_PROPERTIES          252u     /* own properties of an entity */
#define LIMIT_ENTITY_STORED_BYTES 1000000u /* billing formula; the service refuses slightly below 1 MiB */
#define LIMIT_ENTITY_JSON_BYTES   (3u * 1024 * 1024) /* one entity on the wire, escapes counted */
#define LIMIT_BATCH_OPERATIONS    100u
#define LIMIT_BATCH_BYTES         (3900u * 1024) /* the service refuses 4 MiB and more */
#define LIMIT_ANSWER_BYTES                                                                                   \
    (16u * 1024 * 1024) /* 1,000 rows of 16 KiB each; larger pages are asked for with $top */
#define LIMIT_PAGE_BYTES         (4u * 1024 * 1024) /* rows of a SQLite database read at once */
#define LIMIT_HEADER_BYTES       (32u * 1024)       /* all header lines of one answer */
#define LIMIT_CONTINUATION_BYTES 4096u

/* Mail.  A finished message is kept in its row, where a character counts two
 * bytes; the limits on fields make sure that it always fits. */
#define LIMIT_MAIL_BYTES         (460u * 1024) /* a finished message */
#define LIMIT_MAIL_FIELD_BYTES   (3u * 1024)   /* of a field as shown in a mail; the rest is in the store */
#define LIMIT_MAIL_TEXT_BYTES    (10u * 1024)  /* of the customer's own words */
#define LIMIT_MAIL_HISTORY       10u           /* earlier leads of the person listed */
#define LIMIT_MAIL_ADDRESS_BYTES 254u          /* RFC 5321 4.5.3.1.3 less the brackets */
#define LIMIT_ALARM_TEXT_BYTES   (2u * 1024)   /* what an alarm says */
#define LIMIT_SMTP_REPLY_BYTES   (16u * 1024)  /* all reply lines of one dialogue */

/* Waits, in milliseconds. */
#define WAIT_CONNECT_MS      2000u  /* TCP and TLS to the Table service */
#define WAIT_SQLITE_BUSY_MS  2000u  /* for another process's transaction */
#define WAIT_SPOOL_MS        4000u  /* for the local spool, after the time for the store */
#define WAIT_STOP_MS         20000u /* from SIGTERM to exit */
#define WAIT_PEER_MS         10000u /* for the next bytes of a request; nginx has it whole before it connects */
#define WAIT_FAREWELL_MS     1000u  /* for a peer to close its connection, once it was told to */
#define WAIT_LAST_BYTES_MS   3000u  /* for a whole request, once we are to stop */
#define WAIT_ACCEPT_MS       1u     /* for a connection that another process has taken */
#define WAIT_OFFERS_MS       60000u /* between updates of the offers directory's last lead times */
#define WAIT_RELAY_PASS_MS   30000u /* between looks into the store without a hint */
#define WAIT_SMTP_CONNECT_MS 30000u
#define WAIT_SMTP_REPLY_MS   600000u /* RFC 5321 4.5.3.2.6: ten minutes after the final dot */

#endif
