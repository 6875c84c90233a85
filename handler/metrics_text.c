/* What Prometheus reads: its text format 0.0.4, in which all samples of a family stand together under its HELP and TYPE.
 *
 * The number of samples is bounded, whoever makes up names: labels are words from lists of ours, and the names of keys
 * and offers have so many places.
 */
#include "handler/metrics.h"

/* System */
#include <string.h>

/* L0 */
#include "lib/base/version.h"

/* Ours */
#include "handler/metrics_internal.h"

static const struct {
    const char *family;
    const char *labels;
    const char *help; /* with the first of a family */
    bool is_gauge;
    bool is_age; /* kept as a time, in seconds since 1970 */
} NAMES[METRIC_COUNT] = {
    [METRIC_REQUESTS_200] = {"leadhook_requests_total", "{code=\"200\"}",
                             "Requests by status code of the answer."},
    [METRIC_REQUESTS_202] = {"leadhook_requests_total", "{code=\"202\"}", NULL},
    [METRIC_REQUESTS_400] = {"leadhook_requests_total", "{code=\"400\"}", NULL},
    [METRIC_REQUESTS_401] = {"leadhook_requests_total", "{code=\"401\"}", NULL},
    [METRIC_REQUESTS_405] = {"leadhook_requests_total", "{code=\"405\"}", NULL},
    [METRIC_REQUESTS_413] = {"leadhook_requests_total", "{code=\"413\"}", NULL},
    [METRIC_REQUESTS_415] = {"leadhook_requests_total", "{code=\"415\"}", NULL},
    [METRIC_REQUESTS_422] = {"leadhook_requests_total", "{code=\"422\"}", NULL},
    [METRIC_REQUESTS_429] = {"leadhook_requests_total", "{code=\"429\"}", NULL},
    [METRIC_REQUESTS_503] = {"leadhook_requests_total", "{code=\"503\"}", NULL},
    [METRIC_REQUESTS_OTHER] = {"leadhook_requests_total", "{code=\"other\"}", NULL},
    [METRIC_REQUESTS_CUT_OFF] = {"leadhook_requests_cut_off_total", "",
                                 "Requests that ended before they were whole."},
    [METRIC_REPLIES_LOST] = {"leadhook_replies_lost_total", "", "Answers that could not be written."},
    [METRIC_LEADS_STORED] = {"leadhook_leads_total", "{outcome=\"stored\"}", "Leads by what became of them."},
    [METRIC_LEADS_REPEAT] = {"leadhook_leads_total", "{outcome=\"repeat\"}", NULL},
    [METRIC_LEADS_QUARANTINED] = {"leadhook_leads_total", "{outcome=\"quarantined\"}", NULL},
    [METRIC_LEADS_SPOOLED] = {"leadhook_leads_total", "{outcome=\"spooled\"}", NULL},
    [METRIC_SPOOL_DRAINED] = {"leadhook_spool_drained_total", "",
                              "Leads copied from the spool into the table."},
    [METRIC_SPOOL_LOST] = {"leadhook_spool_lost_total", "", "Leads in the spool that damage destroyed."},
    [METRIC_BREAKER_OPENED] = {"leadhook_breaker_openings_total", "", "Times that the table was found down."},
    [METRIC_ALARMS_RAISED] = {"leadhook_alarms_total", "{event=\"raised\"}", "Alarms for the operator."},
    [METRIC_ALARMS_MAILED] = {"leadhook_alarms_total", "{event=\"mailed\"}", NULL},
    [METRIC_COMMIT_FAILURES] = {"leadhook_commit_failures_total", "", "Commits that the store did not take."},
    [METRIC_MAILS_ACCEPTED] = {"leadhook_mails_total", "{outcome=\"accepted\"}",
                               "Attempts to send a mail by outcome."},
    [METRIC_MAILS_TRANSIENT] = {"leadhook_mails_total", "{outcome=\"transient\"}", NULL},
    [METRIC_MAILS_PERMANENT] = {"leadhook_mails_total", "{outcome=\"permanent\"}", NULL},
    [METRIC_MAILS_CONFIGURATION] = {"leadhook_mails_total", "{outcome=\"configuration\"}", NULL},
    [METRIC_MAILS_AMBIGUOUS] = {"leadhook_mails_total", "{outcome=\"ambiguous\"}", NULL},
    [METRIC_MAILS_PARKED] = {"leadhook_mails_parked_total", "",
                             "Mails that were given up and wait for a person."},
    [METRIC_KEYS_UNNAMED] = {"leadhook_key_requests_unnamed_total", "",
                             "Requests with a good key for whose name there was no room."},
    [METRIC_SPOOL_LEADS] = {"leadhook_spool_leads", "",
                            "Leads and quarantined payloads that wait in this host's spool.", true},
    [METRIC_SPOOL_BYTES] = {"leadhook_spool_bytes", "", "Bytes that the spool takes on the disk.", true},
    [METRIC_SPOOL_LIMIT_BYTES] = {"leadhook_spool_limit_bytes", "",
                                  "Bytes that it may take; 0 without a spool.", true},
    [METRIC_BREAKER_OPEN] = {"leadhook_breaker_open", "",
                             "1 while leads go into the spool because the table is down.", true},
    [METRIC_SPOOL_OLDEST_S] = {"leadhook_spool_oldest_age_seconds", "",
                               "Age of the oldest lead in the spool; 0 when it is empty.", true, true},
    [METRIC_MAILS_WAITING] = {"leadhook_mails_waiting", "", "Mails still to send, those in work included.",
                              true},
    [METRIC_MAILS_OLDEST_S] = {"leadhook_mails_oldest_age_seconds", "",
                               "Age of the oldest mail still to send; 0 when there is none.", true, true},
    [METRIC_RELAY_LOOKED_S] =
        {"leadhook_relay_look_age_seconds", "",
         "Since the relay has looked into the store: as old are the gauges about mails and offers.", true,
         true},
    [METRIC_TROUBLES_SILENCE] = {"leadhook_troubles", "{event=\"silence\"}",
                                 "Troubles that last, by the event of their alarm.", true},
    [METRIC_TROUBLES_SPOOL_STUCK] = {"leadhook_troubles", "{event=\"spool-stuck\"}", NULL, true},
    [METRIC_TROUBLES_TABLE_REFUSED] = {"leadhook_troubles", "{event=\"table-refused\"}", NULL, true},
    [METRIC_TROUBLES_MAIL_PAUSED] = {"leadhook_troubles", "{event=\"mail-paused\"}", NULL, true},
    [METRIC_TROUBLES_KEY_RETIRING] = {"leadhook_troubles", "{event=\"key-retiring\"}", NULL, true},
    [METRIC_TROUBLES_SAS_ENDING] = {"leadhook_troubles", "{event=\"sas-ending\"}", NULL, true},
    [METRIC_TROUBLES_CERTIFICATE_ENDING] = {"leadhook_troubles", "{event=\"certificate-ending\"}", NULL,
                                            true},
};

static uint64_t age_of(uint64_t since_s, int64_t now_s)
{
    return since_s > 0 && now_s > 0 && since_s < (uint64_t)now_s ? (uint64_t)now_s - since_s : 0;
}

static void begin_family(struct buf *out, const char *family, const char *help, const char *type)
{
    buf_addf(out, "# HELP %s %s\n# TYPE %s %s\n", family, help, family, type);
}

/* A relay that has never looked has nothing to say of its age: there may be none. */
static bool is_left_out(const struct metrics *metrics, size_t i)
{
    return i == METRIC_RELAY_LOOKED_S && metrics_get(metrics, METRIC_RELAY_LOOKED_S) == 0;
}

static void write_values(struct buf *out, const struct metrics *metrics, int64_t now_s)
{
    for (size_t i = 0; i < METRIC_COUNT; i++) {
        if (is_left_out(metrics, i))
            continue;
        if (NAMES[i].help)
            begin_family(out, NAMES[i].family, NAMES[i].help, NAMES[i].is_gauge ? "gauge" : "counter");
        uint64_t value = metrics_get(metrics, (enum metric)i);
        buf_addf(out, "%s%s %llu\n", NAMES[i].family, NAMES[i].labels,
                 (unsigned long long)(NAMES[i].is_age ? age_of(value, now_s) : value));
    }
}

static void write_leads(struct buf *out, const struct metrics *metrics)
{
    static const char FAMILY[] = "leadhook_leads_taken_total";
    begin_family(out, FAMILY, "Leads that were stored, spooled or repeated, by source and action.",
                 "counter");
    for (size_t source = 0; source < LEAD_SOURCE_LABELS; source++) {
        for (size_t action = 0; action < LEAD_ACTION_LABELS; action++) {
            uint64_t value = atomic_load_explicit(&metrics->leads[source][action], memory_order_relaxed);
            buf_addf(out, "%s{source=\"%s\",action=\"%s\"} %llu\n", FAMILY, lead_source_label(source),
                     lead_action_label(action), (unsigned long long)value);
        }
    }
}

/* --- histograms ---------------------------------------------------------------------------------------------- */

#define US_PER_S 1000000u

static const struct {
    const char *family;
    const char *help;
    bool is_time;
} HISTOGRAMS[HISTOGRAM_COUNT] = {
    [HISTOGRAM_LEAD_US] = {"leadhook_lead_seconds", "From a lead's arrival to its answer.", true},
    [HISTOGRAM_COMMIT_US] = {"leadhook_commit_seconds",
                             "What it took to commit leads to the store, also in vain.", true},
    [HISTOGRAM_TABLE_US] = {"leadhook_table_seconds",
                            "From a request to the Table service to its answer or failure.", true},
    [HISTOGRAM_BATCH_LEADS] = {"leadhook_batch_leads", "Leads that were committed together.", false},
};

/* The count is that of the buckets as they were read, so that it is the last of them whatever is counted meanwhile. */
static void write_histogram(struct buf *out, const struct metrics *metrics, enum histogram which)
{
    const struct histogram_counts *h = &metrics->histograms[which];
    const struct bound *bounds = metrics_bounds(which);
    const char *family = HISTOGRAMS[which].family;
    unsigned long long count = 0;
    begin_family(out, family, HISTOGRAMS[which].help, "histogram");
    for (size_t i = 0;; i++) {
        count += atomic_load_explicit(&h->buckets[i], memory_order_relaxed);
        buf_addf(out, "%s_bucket{le=\"%s\"} %llu\n", family, bounds[i].label ? bounds[i].label : "+Inf",
                 count);
        if (!bounds[i].label)
            break;
    }
    unsigned long long sum = atomic_load_explicit(&h->sum, memory_order_relaxed);
    if (HISTOGRAMS[which].is_time)
        buf_addf(out, "%s_sum %llu.%06llu\n", family, sum / US_PER_S, sum % US_PER_S);
    else
        buf_addf(out, "%s_sum %llu\n", family, sum);
    buf_addf(out, "%s_count %llu\n", family, count);
}

/* --- by key and by offer ------------------------------------------------------------------------------------- */

/* Who can write to the file can make a hash that fits: a name must not end its label. */
static bool read_key(const struct key_slot *slot, uint64_t words[KEY_WORDS + 1])
{
    return metrics_read_name(&slot->hash, slot->name, KEY_WORDS, words) &&
           !strpbrk((const char *)words, "\"\\\n");
}

static bool read_offer(const struct offer_slot *slot, uint64_t words[OFFER_WORDS + 1])
{
    return metrics_read_name(&slot->hash, slot->name, OFFER_WORDS, words) &&
           span_has_only(span_of((const char *)words), "._-");
}

static void write_key_requests(struct buf *out, const struct metrics *metrics)
{
    static const char FAMILY[] = "leadhook_key_requests_total";
    bool has_begun = false;
    for (size_t i = 0; i < LIMIT_KEYS; i++) {
        const struct key_slot *slot = &metrics->keys[i];
        uint64_t name[KEY_WORDS + 1];
        if (!read_key(slot, name))
            continue;
        if (!has_begun)
            begin_family(out, FAMILY, "Requests with a good key, by the name of the key.", "counter");
        has_begun = true;
        buf_addf(out, "%s{key=\"%s\"} %llu\n", FAMILY, (const char *)name,
                 (unsigned long long)atomic_load_explicit(&slot->requests, memory_order_relaxed));
    }
}

static void write_key_times(struct buf *out, const struct metrics *metrics)
{
    static const char FAMILY[] = "leadhook_key_last_use_timestamp_seconds";
    bool has_begun = false;
    for (size_t i = 0; i < LIMIT_KEYS; i++) {
        uint64_t name[KEY_WORDS + 1];
        if (!read_key(&metrics->keys[i], name))
            continue;
        if (!has_begun)
            begin_family(out, FAMILY, "When a key of that name was last used.", "gauge");
        has_begun = true;
        buf_addf(out, "%s{key=\"%s\"} %lld\n", FAMILY, (const char *)name,
                 (long long)metrics_read_time(&metrics->keys[i].last_s));
    }
}

static void write_offers(struct buf *out, const struct metrics *metrics)
{
    static const char FAMILY[] = "leadhook_offer_last_lead_timestamp_seconds";
    bool has_begun = false;
    for (size_t i = 0; i < LIMIT_OFFERS_SHOWN; i++) {
        const struct offer_slot *slot = &metrics->offers[i];
        uint64_t name[OFFER_WORDS + 1];
        int64_t last_s = metrics_read_time(&slot->last_s); /* before the name: see set_offer */
        if (!read_offer(slot, name))
            continue;
        if (!has_begun)
            begin_family(out, FAMILY, "When an offer had its last lead, on any host; those with the newest.",
                         "gauge");
        has_begun = true;
        buf_addf(out, "%s{offer=\"%s\"} %lld\n", FAMILY, (const char *)name, (long long)last_s);
    }
}

/* After an upgrade: until all processes are of the new version, the one that answers. */
static void write_version(struct buf *out)
{
    static const char FAMILY[] = "leadhook_build_info";
    begin_family(out, FAMILY, "1, with the version of the process that answers.", "gauge");
    buf_addf(out, "%s{version=\"%s\"} 1\n", FAMILY, version_text());
}

void metrics_write(struct buf *out, const struct metrics *metrics, int64_t now_s)
{
    write_version(out);
    write_values(out, metrics, now_s);
    write_leads(out, metrics);
    for (size_t i = 0; i < HISTOGRAM_COUNT; i++)
        write_histogram(out, metrics, (enum histogram)i);
    write_key_requests(out, metrics);
    write_key_times(out, metrics);
    write_offers(out, metrics);
}
