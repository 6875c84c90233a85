/* The order: what this host alone can tell, then the store, then mail, then all of it together with a test lead. */
#include "handler/ctl/check/check.h"

/* System */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

/* The command */
#include "handler/ctl/commands.h"
#include "handler/ctl/ctl.h"
#include "handler/ctl/owner.h"

enum { LEAD_WAIT_S = 90, LEAD_WAIT_S_MAX = 3600 };

static bool is_stdin(const char *file)
{
    return file && strcmp(file, "-") == 0;
}

static bool read_arguments(int argc, char **argv, struct check *c)
{
    const char *wait = NULL;
    uint64_t wait_s = LEAD_WAIT_S;
    const struct {
        const char *name;
        bool *flag;
        const char **value;
    } options[] = {{"--json", &c->as_json, NULL},
                   {"--send-test-mail", &c->sends_mail, NULL},
                   {"--send-test-lead", &c->sends_lead, NULL},
                   {"--nginx", NULL, &c->nginx_file},
                   {"--url", NULL, &c->url},
                   {"--key-file", NULL, &c->key_file},
                   {"--tls-ca", NULL, &c->ca_file},
                   {"--wait", NULL, &wait}};
    const size_t count = sizeof options / sizeof options[0];
    for (int i = 1; i < argc; i++) {
        size_t at = 0;
        while (at < count && strcmp(argv[i], options[at].name) != 0)
            at++;
        if (at == count || (options[at].value && i + 1 == argc))
            return false;
        if (options[at].flag)
            *options[at].flag = true;
        else
            *options[at].value = argv[++i];
    }
    bool is_about_lead = c->url || c->key_file || c->ca_file || wait;
    bool is_read_twice = is_stdin(c->nginx_file) && is_stdin(c->key_file);
    if (wait && !span_to_u64(span_of(wait), LEAD_WAIT_S_MAX, &wait_s))
        return false;
    c->lead_wait_ms = (int64_t)wait_s * 1000;
    return (c->sends_lead || !is_about_lead) && !is_read_twice;
}

static void print_summary(const struct check *c)
{
    unsigned int all = c->counts[CHECK_OK] + c->counts[CHECK_WARN] + c->counts[CHECK_FAIL];
    if (!c->as_json)
        (void)printf("\n%u checks: %u failed, %u to look at\n", all, c->counts[CHECK_FAIL],
                     c->counts[CHECK_WARN]);
}

static void check_all(struct check *c)
{
    check_keys(c);
    check_store(c);
    check_spool(c);
    check_disks(c);
    check_mail(c);
    check_routes(c);
    check_alarms(c);
    if (c->sends_lead)
        check_test_lead(c);
    check_files(c);
    print_summary(c);
}

int ctl_check(struct service *service, int argc, char **argv)
{
    struct check c = {
        .service = service, .lead_url = BUF_INIT(LIMIT_URL_BYTES), .key = BUF_INIT(LIMIT_KEY_BYTES)};
    struct fail why;
    int code = EX_OK;
    if (!read_arguments(argc, argv, &c))
        return command_misused("check", argc, argv, NULL);
    if (c.sends_lead && check_take_key(&c, &why) != ST_OK)
        code = EX_USAGE;
    if (code == EX_OK) {
        check_versions(&c);
        check_nginx(&c);
        if (owner_become(&service->config, &why) != ST_OK)
            code = EX_OSERR;
    }
    if (code == EX_OK)
        check_all(&c);
    else
        (void)fprintf(stderr, "leadctl: %s\n", why.text);
    if (code == EX_OK && (fflush(stdout) != 0 || ferror(stdout))) {
        (void)fprintf(stderr, "leadctl: cannot write what was found\n");
        code = EX_IOERR;
    }
    buf_release_secret(&c.key);
    buf_release(&c.lead_url);
    return code != EX_OK ? code : c.counts[CHECK_FAIL] ? 1 : 0;
}
