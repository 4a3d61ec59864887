/* Tables and .tsf files: what is read, and which line an error names. */

#include "io/series.h"

#include <time.h>

#include "io/io_test.h"

static sti_panel parse(const char *text, const sti_series_how *how)
{
    sti_panel p;
    CHECK_OK(sti_panel_parse(text, strlen(text), how, &p));
    return p;
}

static void refuse(const char *text, const sti_series_how *how, const char *words)
{
    sti_panel p;
    CHECK_STATUS(sti_panel_parse(text, strlen(text), how, &p), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT(words);
    CHECK(p.count == 0 && !p.series && !p.time);
}

static void values(const sti_panel *p, int32_t series, const char *name, int64_t n, const double *want)
{
    const sti_series *s = &p->series[series];
    CHECK_STR(s->name, name);
    CHECK_INT(s->n, n);
    for (int64_t i = 0; i < n; i++)
        if (isnan(want[i]) ? !isnan(s->value[i]) : !(fabs(s->value[i] - want[i]) <= 0))
            FAIL("%s[%lld] is %g, not %g", name, (long long)i, s->value[i], want[i]);
}
#define VALUES(...) ((const double[]){ __VA_ARGS__ })

static const char *date_at(const sti_panel *p, int32_t series, int64_t i)
{
    static char text[STI_DATE_TEXT];
    return sti_date_write(sti_panel_time(p, series, i), &p->form, text);
}

/* ---- tables ------------------------------------------------------------------------------------------------- */
static void plain_table(void)
{
    sti_panel p = parse("date,a,\"b, in \"\"K\"\"\"\r\n2016-07-01 00:00:00,1,2.5\r\n2016-07-01 01:00:00,-3e2,.5\r\n\r\n"
                        "2016-07-01 02:00:00,\"4\",?\r\n",
                        NULL);
    CHECK_INT(p.count, 2);
    values(&p, 0, "a", 3, VALUES(1, -300, 4));
    values(&p, 1, "b, in \"K\"", 3, VALUES(2.5, 0.5, (double)NAN));
    CHECK(p.aligned && p.time);
    CHECK_STR(p.time_name, "date");
    CHECK_INT(p.missing, 1);
    CHECK_INT(p.step.unit, STI_STEP_SECONDS);
    CHECK_INT(p.step.n, 3600);
    CHECK_INT(sti_panel_season(&p), 24);
    CHECK_STR(date_at(&p, 0, 0), "2016-07-01 00:00:00");
    CHECK_STR(date_at(&p, 0, 26), "2016-07-02 02:00:00");
    sti_panel_free(&p);
}

static void separators_and_headers(void)
{
    sti_panel p = parse("\xef\xbb\xbf"
                        "t;x\n1;2\n2;3\n",
                        NULL); /* two running columns: no name tells the time */
    CHECK_INT(p.count, 2);
    values(&p, 0, "t", 2, VALUES(1, 2));
    CHECK(!p.time && p.step.unit == STI_STEP_NONE);
    sti_panel_free(&p);

    p = parse("1\t\t3\n\t5\t6", NULL); /* no header, empty cells at both ends */
    CHECK_INT(p.count, 3);
    values(&p, 0, "1", 2, VALUES(1, (double)NAN));
    values(&p, 1, "2", 2, VALUES((double)NAN, 5));
    values(&p, 2, "3", 2, VALUES(3, 6));
    sti_panel_free(&p);

    p = parse("773869,767541\n1,2\n", &(sti_series_how){ .header = true });
    values(&p, 0, "773869", 1, VALUES(1));
    sti_panel_free(&p);

    p = parse("2016-01-01,1\n2016-01-02,2\n", NULL); /* dates without a header */
    CHECK_INT(p.count, 1);
    values(&p, 0, "2", 2, VALUES(1, 2));
    CHECK_INT(sti_panel_season(&p), 7);
    sti_panel_free(&p);

    p = parse("y,year\n7,1990\n8,1991\n", NULL); /* the dates need not come first */
    values(&p, 0, "y", 2, VALUES(7, 8));
    CHECK_INT(p.step.unit, STI_STEP_COUNT);
    CHECK_STR(date_at(&p, 0, 4), "1994");
    sti_panel_free(&p);
}

static void columns(void)
{
    const char *text = "station,when,x,note,y\n1,2016-01-01,1,dry,10\n1,2016-01-02,2,wet,20\n";
    sti_panel p = parse(text, &(sti_series_how){ .columns = "y,x" });
    CHECK_INT(p.count, 2);
    values(&p, 0, "y", 2, VALUES(10, 20));
    values(&p, 1, "x", 2, VALUES(1, 2));
    sti_panel_free(&p);
    refuse(text, NULL, "line 2: \"dry\" in column \"note\" is no number");
    refuse(text, &(sti_series_how){ .columns = "z" }, "no column is called \"z\"");
    refuse(text, &(sti_series_how){ .columns = "x,x" }, "asked for twice");
    refuse(text, &(sti_series_how){ .columns = "when" }, "is the column with the dates");
    refuse(text, &(sti_series_how){ .time = "note", .columns = "x" }, "line 2: \"dry\" in column \"note\" is no date");
}

/* Each form is read and continued as it was written. */
static void dates(void)
{
    static const struct {
        const char *first, *second, *third, *fourth;
        int unit;
        long long step;
    } forms[] = {
        { "2016-07-01", "2016-07-08", "2016-07-15", "2016-07-22", STI_STEP_SECONDS, 7 * 86400 },
        { "1990/1/1 0:00", "1990/1/2 0:00", "1990/1/3 0:00", "1990/01/04 00:00", STI_STEP_SECONDS, 86400 },
        { "30.01.2020 23:45", "31.01.2020 00:00", "31.01.2020 00:15", "31.01.2020 00:30", STI_STEP_SECONDS, 900 },
        { "2/27/2020", "2/28/2020", "2/29/2020", "03/01/2020", STI_STEP_SECONDS, 86400 },
        { "28/2/2021", "1/3/2021", "2/3/2021", "03/03/2021", STI_STEP_SECONDS, 86400 },
        { "2020-01-01T00:00:00Z", "2020-01-01T00:00:01Z", "2020-01-01T00:00:02Z", "2020-01-01T00:00:03Z",
          STI_STEP_SECONDS, 1 },
        { "2020-01-01T01:00:00+01:00", "2020-01-01T00:00:01-00:00", "2020-01-01T02:00:02+02:00", "2020-01-01T00:00:03Z",
          STI_STEP_SECONDS, 1 },
        { "1949-11", "1949-12", "1950-01", "1950-02", STI_STEP_MONTHS, 1 },
        { "2019-11-30", "2019-12-31", "2020-01-31", "2020-02-29", STI_STEP_MONTHS, 1 },
        { "2019-05-15", "2019-08-15", "2019-11-15", "2020-02-15", STI_STEP_MONTHS, 3 },
        { "1957-02-01", "1958-02-01", "1959-02-01", "1960-02-01", STI_STEP_MONTHS, 12 },
        { "19571230", "19571231", "19580101", "19580102", STI_STEP_SECONDS, 86400 },
    };
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        char text[200];
        snprintf(text, sizeof text, "date,x\n%s,1\n%s,2\n%s,3\n", forms[i].first, forms[i].second, forms[i].third);
        sti_panel p = parse(text, NULL);
        CHECK_INT(p.step.unit, forms[i].unit);
        CHECK_INT(p.step.n, forms[i].step);
        CHECK_STR(date_at(&p, 0, 3), forms[i].fourth);
        sti_panel_free(&p);
    }
}

/* Days against the C library's calendar. */
static void calendar(void)
{
    for (int64_t day = -200000; day < 200000; day += 13) {
        int64_t year;
        int32_t month, dom;
        sti_date_civil(day, &year, &month, &dom);
        CHECK_INT(sti_date_days(year, month, dom), day);
        const time_t t = (time_t)(day * 86400);
        const struct tm *utc = gmtime(&t);
        CHECK(utc && utc->tm_year + 1900 == year && utc->tm_mon + 1 == month && utc->tm_mday == dom);
    }
    int64_t time;
    sti_date_form f;
    const char *wrong[] = { "2019-02-29",
                            "2019-13-01",
                            "2019-00-10",
                            "2019-1-32",
                            "0000-01-01",
                            "2019-01-01 24:00",
                            "2019-01-01 12",
                            "2019-01-01x",
                            "12",
                            "1.5",
                            "1-2",
                            "-5",
                            "",
                            "2019-01-01 1:2",
                            "20191301" };
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        if (sti_date_read(wrong[i], strlen(wrong[i]), STI_DATE_NONE, &time, &f)) FAIL("\"%s\" is a date", wrong[i]);
}

static void gaps(void)
{
    const char *text = "date,x\n2020-01-01,1\n2020-01-02,2\n2020-01-05,5\n2020-01-06,6\n2020-01-06,7\n2020-01-07,8\n";
    sti_panel p = parse(text, NULL);
    CHECK_INT(p.series[0].n, 6);
    CHECK_INT(p.gaps, 1);
    CHECK_INT(p.gap_line, 4);
    CHECK_INT(p.repeated, 1);
    CHECK_INT(p.repeated_line, 6);
    CHECK_STR(date_at(&p, 0, 6), "2020-01-08");
    sti_panel_free(&p);
    refuse(text, &(sti_series_how){ .fill = true }, "line 6: \"2020-01-06\" is no whole number of steps after line 5");

    p = parse("date,x\n2020-01-01,1\n2020-01-02,2\n2020-01-05,5\n", &(sti_series_how){ .fill = true });
    values(&p, 0, "x", 5, VALUES(1, 2, (double)NAN, (double)NAN, 5));
    CHECK_INT(p.filled, 2);
    CHECK_INT(p.missing, 2);
    CHECK_STR(date_at(&p, 0, 3), "2020-01-04");
    sti_panel_free(&p);
}

static void bad_tables(void)
{
    refuse("", NULL, "line 1: the file is empty");
    refuse("\n \n", NULL, "the file is empty");
    refuse("x\n1\n2\n", NULL, "line 1: only one column");
    refuse("date x\n2020-01-01 1\n", NULL, "line 1: only one column");
    refuse("date,x\n", NULL, "line 1: names, but no rows follow");
    refuse("date,x\n2020-01-01,1\n2020-01-02\n", NULL, "line 3: 1 cells, but the lines before have 2");
    refuse("date,x\n2020-01-01,1,4\n", NULL, "line 2: 3 cells, but line 1 has 2");
    refuse("date,x\n2020-01-01,1\n\n2020-01-02,1,2\n", NULL, "line 4: 3 cells");
    refuse("date,x\n2020-01-01,1\n2020-01-02,abc\n", NULL, "line 3: \"abc\" in column \"x\" is no number");
    refuse("date,x\n2020-01-01,1\n2020-01-02,0x10\n", NULL, "line 3: \"0x10\"");
    refuse("date,x\n2020-01-01,1\n2020-01-02,inf\n", NULL, "line 3: \"inf\"");
    refuse("date,x\n2020-01-01,1\n2020-01-02,1e999\n", NULL, "line 3: \"1e999\"");
    refuse("date,x\n2020-01-02,1\n2020-01-01,2\n", NULL, "line 3: \"2020-01-01\" comes after \"2020-01-02\" of line 2");
    refuse("date,x\n1/5/2020,1\n1/4/2020,2\n13/1/2020,2\n", NULL, "line 3: \"1/4/2020\" comes after");
    refuse("date,x\n2020-01-01,1\n,2\n", NULL, "line 3: \"\" is no date");
    refuse("date,x\n2020-01-01,1\n2020-02-30,2\n", NULL, "line 3: \"2020-02-30\" is no date");
    refuse("year,x\n1990,1\n1989,2\n", NULL, "line 3: \"1989\" comes after \"1990\" of line 2");
    refuse("date,x\n2020-01-01,\"1\n", NULL, "line 2: a quote is not closed");
    refuse("date,x\n2020-01-01,\"1\"2\n", NULL, "line 2: text after a closing quote");
    refuse("date\n2020-01-01\n", NULL, "line 1: only one column");
}

/* ---- .tsf --------------------------------------------------------------------------------------------------- */
static void plain_tsf(void)
{
    const char *text = "# a comment\n@relation r\n@attribute series_name string\n@attribute start_timestamp date\n"
                       "@frequency half_hourly\n@missing true\n@equallength false\n@data\n"
                       "T1:2002-01-01 00-00-00:1,2.5,?\n# between\nT2:2002-01-02 00-30-00:-1\n";
    sti_panel p = parse(text, NULL);
    CHECK_INT(p.count, 2);
    values(&p, 0, "T1", 3, VALUES(1, 2.5, (double)NAN));
    values(&p, 1, "T2", 1, VALUES(-1));
    CHECK(!p.aligned && p.missing == 1);
    CHECK_INT(sti_panel_season(&p), 48);
    CHECK_STR(date_at(&p, 1, 1), "2002-01-02 01:00:00");
    sti_panel_free(&p);
    p = parse(text, &(sti_series_how){ .columns = "T2" });
    CHECK_INT(p.count, 1);
    values(&p, 0, "T2", 1, VALUES(-1));
    sti_panel_free(&p);
    refuse(text, &(sti_series_how){ .columns = "T2,T3" }, "no series is called \"T3\"");

    p = parse("@attribute horizon numeric\n@attribute series_name string\n@data\n4:A: 1 , 2 \n", NULL);
    values(&p, 0, "A", 2, VALUES(1, 2));
    CHECK(p.aligned && p.step.unit == STI_STEP_NONE);
    CHECK_INT(sti_panel_season(&p), 1);
    sti_panel_free(&p);
}

static void bad_tsf(void)
{
    refuse("@attribute series_name string\nT1:1,2\n@data\n", NULL, "line 2: series before @data");
    refuse("@relation r\n", NULL, "line 1: the file ends before @data");
    refuse("@data\n", NULL, "line 1: no series follow @data");
    refuse("@attribute\n@data\n1\n", NULL, "line 1: an attribute without a name");
    refuse("@attribute a\n@data\n1\n", NULL, "line 1: an attribute without a type");
    refuse("@attribute a colour\n@data\n1\n", NULL, "line 1: no type is called \"colour\"");
    refuse("@frequency often\n@data\n1\n", NULL, "line 1: unknown frequency \"often\"");
    refuse("@attribute a string\n@data\n1,2\n", NULL, "line 3: 1 fields, but 1 attributes");
    refuse("@attribute a date\n@data\n2002-13-01:1,2\n", NULL, "line 3: no date: \"2002-13-01\"");
    refuse("@attribute series_name string\n@data\nA:1,x,3\n", NULL,
           "line 3: value 2 of series \"A\", \"x\", is no number");
    refuse("@attribute series_name string\n@data\nA:1,,3\n", NULL, "line 3: value 2");
    refuse("@attribute series_name string\n@data\nA:\n", NULL, "line 3: value 1");
}

/* ---- files -------------------------------------------------------------------------------------------------- */
static void files(void)
{
    const char *path = test_path("series.csv"), text[] = "date,x\n2020-01-01,1\n2020-01-02,zwei\n";
    sti_panel p;
    uint64_t bytes = 0;
    sti_hash hash = { 0 }, want = sti_hash_add(sti_hash_start(), text, 20);
    test_put(path, text, 20);
    CHECK_OK(sti_panel_load(path, NULL, &p, &hash, &bytes));
    CHECK_INT(bytes, 20);
    CHECK(hash.hi == want.hi && hash.lo == want.lo);
    sti_panel_free(&p);
    test_put(path, text, sizeof text - 1);
    CHECK_STATUS(sti_panel_load(path, NULL, &p, NULL, NULL), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("series.csv: line 3: \"zwei\"");
    CHECK_STATUS(sti_panel_load(test_path("none"), NULL, &p, NULL, NULL), STRATA_E_IO);
    test_rmdir();
}

TESTS(T(plain_table), T(separators_and_headers), T(columns), T(dates), T(calendar), T(gaps), T(bad_tables),
      T(plain_tsf), T(bad_tsf), T(files))
