/* account.h - the storage account that a connection string stands for.
 *
 * Reads what the Azure portal, Cosmos DB and Azurite hand out: "Name=Value"
 * elements separated by ';', in any order, names in any case.  Specification:
 * "Configure Azure Storage connection strings".  Used are AccountName,
 * AccountKey, SharedAccessSignature, TableEndpoint, DefaultEndpointsProtocol,
 * EndpointSuffix and UseDevelopmentStorage; all others are passed over.  Where
 * there is both a key and a SAS, the key is used.
 * http is taken for loopback hosts only.
 * Memory: the account owns copies; secrets are wiped by table_account_release.
 */
#ifndef LEAD_ACCOUNT_H
#define LEAD_ACCOUNT_H

#include "lib/base/buf.h"

struct table_account {
    struct buf name;     /* blank is possible with a SAS */
    struct buf key;      /* decoded; blank with a SAS; a secret */
    struct buf sas;      /* without '?'; blank with a key; a secret */
    struct buf endpoint; /* "https://host[:port][/path]", no '/' at the end */
    bool is_plain;       /* http, to a loopback host */
    bool is_cosmos;      /* Cosmos DB's Table API, which has differences */
};

/* ST_INVALID: the text names the element that is missing or wrong, not its
 * value.  On failure there is nothing to release. */
MUST_CHECK enum status table_account_parse(struct span connection, struct table_account *account,
                                           struct fail *why);

/* Whether both are the same tables, with whatever credentials. */
bool table_account_is_same(const struct table_account *a, const struct table_account *b);

/* When the SAS ends (its parameter se), in milliseconds since 1970; 0: there is none, or it does not say. */
int64_t table_account_sas_end_ms(const struct table_account *account);

/* Wipes the secrets and frees; also on a zeroed account. */
void table_account_release(struct table_account *account);

#endif
