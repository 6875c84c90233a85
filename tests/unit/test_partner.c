/* The lead export of Partner Center: its columns under their many names, the order of its dates, its rows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "handler/ctl/reconcile/partner_file.h"
#include "lib/base/clock.h"
#include "lib/base/limits.h"

#define COUNT(table) (sizeof(table) / sizeof(table)[0])

static char path[] = "/tmp/leadhook-test-XXXXXX";

static int make_file(void **state)
{
    (void)state;
    int fd = mkstemp(path);
    return fd < 0 ? -1 : close(fd);
}

static int remove_file(void **state)
{
    (void)state;
    return unlink(path);
}

static void write_file(const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, strlen(text), file), strlen(text));
    assert_int_equal(fclose(file), 0);
}

static enum status open_text(const char *text, struct partner_options options, struct partner_file **file,
                             struct fail *why)
{
    write_file(text);
    options.path = path;
    return partner_open(&options, file, why);
}

static struct partner_file *opened(const char *text, struct partner_options options)
{
    struct partner_file *file = NULL;
    struct fail why;
    if (open_text(text, options, &file, &why) != ST_OK)
        fail_msg("'%s': %s", text, why.text);
    return file;
}

/* --- columns -------------------------------------------------------------------------------------------------- */

/* The columns in which the first row of a file has a value, as "Email=..." one behind the other. */
static void first_row(const char *text, struct partner_options options, char got[512])
{
    struct partner_file *file = opened(text, options);
    struct partner_row row;
    struct fail why;
    assert_int_equal(partner_next(file, &row, &why), ST_OK);
    got[0] = '\0';
    for (enum partner_column c = 0; c < PARTNER_COLUMNS; c++) {
        size_t used = strlen(got);
        if (row.value[c].len)
            (void)snprintf(got + used, 512 - used, "%s%s=%.*s", used ? " " : "", partner_column_name(c),
                           SPAN_FMT(row.value[c]));
    }
    partner_close(file);
}

static void test_columns(void **state)
{
    (void)state;
    static const char *const email_is_c[] = {"c=Email"}, *const equals_in_name[] = {"a=b=E-Mail"},
                             *const over_known[] = {"Work address = email"},
                             *const two[] = {"x=Email", "y=Created"};
    static const struct {
        const char *text;
        const char *const *maps;
        size_t map_count;
        const char *want;
    } rows[] = {
        {"Created,Email\n2026-11-21,a@b\n", NULL, 0, "Created=2026-11-21 Email=a@b"},
        /* the documents' names */
        {"Referral ID,Creation Date,Customer Country,Customer Name,Lead Type,Lead Source,Call to action,Offer "
         "ID,Offer name,Status\nr,2026-11-21,US,Contoso,Offer lead,Appsource,Contact me,c.w,Widget,New\n",
         NULL, 0,
         "ReferralId=r Created=2026-11-21 Country=US Company=Contoso OfferId=c.w Offer=Widget Source=Appsource "
         "Action=Contact me Type=Offer lead"},
        {"Engagement ID,Referral ID,Customer Contact First Name,Customer Contact Last Name,Customer Contact "
         "Phone number,Customer Contact Email Address,Created Date,Notes\ne,r,Ana,Alba,123,a@b,2026-11-21,n\n",
         NULL, 0,
         "ReferralId=r Created=2026-11-21 Email=a@b FirstName=Ana LastName=Alba Phone=123 Description=n"},
        /* the webhook's and the table's */
        {"CreatedTime,FirstName,OfferDisplayName,OfferTitle,LeadSource,ActionCode,Company\n2026-11-21,A,,T,S,I,C\n",
         NULL, 0, "Created=2026-11-21 FirstName=A Company=C Offer=T Source=S Action=I"},
        /* case, blanks, punctuation */
        {" created_date ;e-MAIL;customer country/region\n2026-11-21;a@b;US\n", NULL, 0,
         "Created=2026-11-21 Email=a@b Country=US"},
        /* the likelier one of two */
        {"Created,Customer Email,Email\n2026-11-21,x,y\n", NULL, 0, "Created=2026-11-21 Email=y"},
        {"Created,Email,Customer Email\n2026-11-21,x,y\n", NULL, 0, "Created=2026-11-21 Email=x"},
        /* as the operator says */
        {"Created,b,c\n2026-11-21,x,y\n", email_is_c, 1, "Created=2026-11-21 Email=y"},
        {"Created,a=b\n2026-11-21,x\n", equals_in_name, 1, "Created=2026-11-21 Email=x"},
        {"Created,Email,work-address\n2026-11-21,x,y\n", over_known, 1, "Created=2026-11-21 Email=y"},
        {"x,y\na,2026-11-21\n", two, 2, "Created=2026-11-21 Email=a"},
        /* short rows, and long ones with nothing in them */
        {"Created,Email,Phone\n2026-11-21,x\n", NULL, 0, "Created=2026-11-21 Email=x"},
        {"Created,Email\n2026-11-21, x ,, \n", NULL, 0, "Created=2026-11-21 Email=x"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        char got[512];
        const struct partner_options options = {.maps = rows[i].maps, .map_count = rows[i].map_count};
        first_row(rows[i].text, options, got);
        if (strcmp(got, rows[i].want) != 0)
            fail_msg("'%s': got '%s', want '%s'", rows[i].text, got, rows[i].want);
    }
}

static void test_their_names(void **state)
{
    (void)state;
    struct partner_file *file = opened("Creation Date,E-mail\n2026-11-21,x\n", (struct partner_options){0});
    assert_true(span_eq(partner_their_name(file, PARTNER_CREATED), SPAN_LIT("Creation Date")));
    assert_true(span_eq(partner_their_name(file, PARTNER_EMAIL), SPAN_LIT("E-mail")));
    assert_int_equal(partner_their_name(file, PARTNER_PHONE).len, 0);
    assert_int_equal(partner_rows(file), 1);
    partner_close(file);
    partner_close(NULL);
}

static void test_files_refused(void **state)
{
    (void)state;
    static const char *const unknown_column[] = {"nothing=Email"}, *const unknown_field[] = {"Email=Mail"},
                             *const no_equals[] = {"Email"};
    static const struct {
        const char *text, *says;
        const char *const *maps;
    } rows[] = {
        {"", "it is empty", NULL},
        {"\n\n", "it is empty", NULL},
        {"ana@example.com,Ana\nbob@example.com,Bob\n", "none of the 2 names in its first line", NULL},
        {"Email,Phone\na@b,1\n", "no column says when a lead was created", NULL},
        {"Created,Phone\n2026-11-21,1\n", "no column has e-mail addresses", NULL},
        {"Created,Email,E-Mail\n2026-11-21,1,2\n", "two columns, number 2 and 3", NULL},
        {"Created,Email\n2026-11-21,a,b\n", "line 2: 3 fields where the first line has 2 names", NULL},
        {"Created,Email\n2026-11-21,\"a\n", "line 2, column 12: this quote is never closed", NULL},
        {"Created,Email\n2026-11-21,J\xFC\n", "line 2, column 13: not UTF-8", NULL},
        {"Created,Email\n2026-11-21,a\n", "the file has no column of the name given for 'Email'",
         unknown_column},
        {"Created,Email\n2026-11-21,a\n", "--map is 'Their name=Ours'", unknown_field},
        {"Created,Email\n2026-11-21,a\n", "--map is 'Their name=Ours'", no_equals},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct partner_file *file = NULL;
        struct fail why;
        const struct partner_options options = {.maps = rows[i].maps, .map_count = rows[i].maps ? 1 : 0};
        enum status status = open_text(rows[i].text, options, &file, &why);
        if (status != ST_INVALID || !strstr(why.text, rows[i].says) || strstr(why.text, "example.com"))
            fail_msg("'%s': got %s, '%s'", rows[i].text, status_name(status), why.text);
    }
    struct partner_file *file;
    struct fail why;
    assert_int_equal(
        partner_open(&(struct partner_options){.path = "/tmp/leadhook-test-no-such-file"}, &file, &why),
        ST_NOT_FOUND);
    assert_int_equal(partner_open(&(struct partner_options){.path = "/tmp"}, &file, &why), ST_INVALID);
}

/* --- dates ---------------------------------------------------------------------------------------------------- */

static void test_order_of_dates(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        enum date_order order;
        uint64_t line;
        const char *last; /* the last row's date */
    } rows[] = {
        {"Created,Email\n2026-11-21,a\n2026-03-04,b\n", DATE_ISO, 0, "2026-03-04"},
        {"Created,Email\n13/04/2026,a\n03/04/2026,b\n", DATE_DMY, 2, "2026-04-03"},
        {"Created,Email\n3/4/2026,a\n1/30/2026,b\n3/4/2026,c\n", DATE_MDY, 3, "2026-03-04"},
        {"Created,Email\n21.11.2026,a\n3.4.2026,b\n", DATE_ISO, 0, "2026-04-03"},
        {"Created,Email\n21.11.2026,a\n13/4/2026,b\n", DATE_DMY, 3, "2026-04-13"},
        {"Created,Email\nsoon,a\n1/30/2026,b\n", DATE_MDY, 3, "2026-01-30"},
        {"Created,Email\n", DATE_ISO, 0, NULL},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct partner_file *file = opened(rows[i].text, (struct partner_options){0});
        struct partner_row row = {0};
        struct fail why;
        uint64_t line;
        char date[CLOCK_TEXT_BYTES];
        assert_int_equal(partner_order(file, &line), rows[i].order);
        assert_int_equal(line, rows[i].line);
        while (partner_next(file, &row, &why) == ST_OK)
            ;
        assert_int_equal(why.code, ST_NOT_FOUND);
        if (rows[i].last) {
            clock_iso_time(row.created.ms, date);
            assert_true(row.has_date && span_starts(span_of(date), span_of(rows[i].last)));
        }
        partner_close(file);
    }
}

static void test_doubtful_dates(void **state)
{
    (void)state;
    static const char doubtful[] = "Created,Email\n03/04/2026,a\n12/11/2026,b\n",
                      both[] = "Created,Email\n13/04/2026,a\n04/13/2026,b\n";
    struct partner_file *file = NULL;
    struct partner_row row;
    struct fail why;
    assert_int_equal(open_text(doubtful, (struct partner_options){0}, &file, &why), ST_INVALID);
    assert_non_null(strstr(why.text, "line 2"));
    assert_non_null(strstr(why.text, "--dates mdy"));
    assert_int_equal(open_text(both, (struct partner_options){0}, &file, &why), ST_INVALID);
    assert_non_null(strstr(why.text, "that of line 2 begins with the day, that of line 3 with the month"));
    file = opened(doubtful, (struct partner_options){.has_order = true, .order = DATE_DMY});
    assert_int_equal(partner_next(file, &row, &why), ST_OK);
    char date[CLOCK_TEXT_BYTES];
    clock_iso_time(row.created.ms, date);
    assert_string_equal(date, "2026-04-03T00:00:00.000Z");
    assert_false(row.created.has_time);
    partner_close(file);
    file = opened(both, (struct partner_options){.has_order = true, .order = DATE_MDY});
    assert_int_equal(partner_next(file, &row, &why), ST_OK);
    assert_false(row.has_date); /* of this row alone */
    assert_int_equal(partner_next(file, &row, &why), ST_OK);
    assert_true(row.has_date);
    partner_close(file);
}

/* --- rows ----------------------------------------------------------------------------------------------------- */

static void test_body(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } rows[] = {
        {"Created,Email,Lead Source,Call to action,Offer ID,Offer Name,Referral ID,Notes\n"
         "1/30/2026,a@b,Azure Marketplace,Get it now,c.w,Widget,r1,\"say \"\"hi\"\"\"\n",
         "{\"UserDetails\":{\"FirstName\":\"\",\"LastName\":\"\",\"Email\":\"a@b\",\"Phone\":\"\",\"Country\":\"\","
         "\"Company\":\"\",\"Title\":\"\"},\"LeadSource\":\"AzureMarketplace\",\"ActionCode\":\"INS\","
         "\"OfferTitle\":\"Widget\",\"Description\":\"say \\\"hi\\\"\",\"ProductId\":\"c.w\",\"CreatedTime\":\"1/30/"
         "2026\",\"ReferralId\":\"r1\"}"},
        {"Created,Contact Name,Source,CTA\n1/30/2026,Ana Maria Alba,SPZA-PLT|c.w,Test Drive\n",
         "{\"UserDetails\":{\"FirstName\":\"Ana Maria\",\"LastName\":\"Alba\",\"Email\":\"\",\"Phone\":\"\","
         "\"Country\":\"\",\"Company\":\"\",\"Title\":\"\"},\"LeadSource\":\"SPZA-PLT|c.w\",\"ActionCode\":"
         "\"StartTestDrive\",\"OfferTitle\":\"\",\"Description\":\"\",\"ProductId\":\"\",\"CreatedTime\":\"1/30/2026\","
         "\"ReferralId\":\"\"}"},
    };
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct partner_file *file = opened(rows[i].text, (struct partner_options){0});
        struct buf body = BUF_INIT(LIMIT_BODY_BYTES);
        struct partner_row row;
        struct fail why;
        assert_int_equal(partner_next(file, &row, &why), ST_OK);
        assert_int_equal(partner_body(&row, &body, &why), ST_OK);
        assert_string_equal(body.data, rows[i].want);
        buf_release(&body);
        partner_close(file);
    }
}

static void test_kinds(void **state)
{
    (void)state;
    struct partner_file *file = opened(
        "Created,Email,Lead Type\n2026-11-21,a,Offer lead\n2026-11-21,a,Qualified lead\n2026-11-21,a,\n"
        "2026-11-21,a,PROFILE lead\n2026-11-21,a,Marketplace\n",
        (struct partner_options){0});
    static const bool want[] = {true, false, true, false, true};
    for (size_t i = 0; i < COUNT(want); i++) {
        struct partner_row row;
        struct fail why;
        assert_int_equal(partner_next(file, &row, &why), ST_OK);
        assert_int_equal(row.is_of_marketplace, want[i]);
        assert_int_equal(row.line, i + 2);
    }
    partner_close(file);
}

static void test_rewind(void **state)
{
    (void)state;
    struct partner_file *file =
        opened("Created,Email\n2026-11-21,a\n2026-11-22,b\n", (struct partner_options){0});
    struct partner_row row;
    struct fail why;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(partner_next(file, &row, &why), ST_OK);
        assert_true(span_eq(row.value[PARTNER_EMAIL], SPAN_LIT("a")));
        assert_int_equal(partner_rewind(file, &why), ST_OK);
    }
    write_file("Created,Email\n2026-11-21,a\n");
    assert_int_equal(partner_rewind(file, &why), ST_CHANGED);
    partner_close(file);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_columns),        cmocka_unit_test(test_their_names),
        cmocka_unit_test(test_files_refused),  cmocka_unit_test(test_order_of_dates),
        cmocka_unit_test(test_doubtful_dates), cmocka_unit_test(test_body),
        cmocka_unit_test(test_kinds),          cmocka_unit_test(test_rewind),
    };
    return cmocka_run_group_tests(tests, make_file, remove_file);
}
