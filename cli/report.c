/* strata report: one self-contained HTML page about one or several runs. */
#include "report.h"

#include <string.h>
#include <time.h>

static void write_page(const report *p)
{
    const char *title = cli_text(p->c, "title"), *note;
    char date[64] = "";
    time_t now = time(NULL);
    struct tm tm;
    if (gmtime_r(&now, &tm)) (void)strftime(date, sizeof date, "%e %B %Y, %H:%M UTC", &tm);
    (void)fputs("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
                "<meta name=\"color-scheme\" content=\"light dark\">\n<title>",
                p->f);
    report_text(p->f, title);
    (void)fputs("</title>\n", p->f);
    report_style(p->f);
    (void)fputs("</head>\n<body>\n<main>\n<h1>", p->f);
    report_text(p->f, title);
    (void)fprintf(p->f, "</h1>\n<p class=\"soft\">%d %s", p->runs, p->runs == 1 ? "run" : "runs");
    if (p->seeds) (void)fprintf(p->f, " of %d %s", p->models, p->models == 1 ? "model" : "models");
    (void)fprintf(p->f, " · Strata %s · %s</p>\n", strata_version(), date + (date[0] == ' '));
    report_lead(p);
    for (int i = 0; (note = cli_repeated(p->c, "note", i)); i++) {
        (void)fputs("<p>", p->f);
        report_text(p->f, note);
        (void)fputs("</p>\n", p->f);
    }
    report_table(p);
    report_equal(p);
    report_curves(p);
    report_scaling(p);
    report_measures(p);
    report_context_errors(p);
    report_forecasts(p);
    report_attention(p);
    report_samples(p);
    report_models(p);
    report_configuration(p);
    (void)fputs("<footer class=\"small soft\">Made by <code>strata report", p->f);
    for (int i = 0; i < p->runs; i++) {
        (void)fputc(' ', p->f);
        report_text(p->f, p->run[i].path);
    }
    (void)fputs(!p->one_task ? "</code>."
                : p->numbers ? "</code>. Losses are mean squared errors."
                             : "</code>. Losses are natural logarithms per token; bits are nats / ln 2.",
                p->f);
    (void)fputs("</footer>\n</main>\n</body>\n</html>\n", p->f);
}

/* ---- command ---------------------------------------------------------------------------------------------------- */
static int run_report(cli *c)
{
    strata_context *ctx = NULL;
    const char *out = cli_text(c, "output");
    report p = { .c = c };
    if (!out) return cli_fail(CLI_USAGE, "report: -o FILE.html is needed");
    const char *family;
    for (int i = 0; (family = cli_repeated(c, "family", i)); i++)
        if (!strchr(family, '=') || *family == '=')
            return cli_fail(CLI_USAGE, "--family: '%s' is no NAME=PATTERN", family);
    int rc = cli_context(c, NULL, &ctx);
    p.ctx = ctx;
    if (!rc) rc = report_read(&p);
    cli_file file = { NULL, NULL, NULL };
    if (!rc) rc = cli_file_open(&file, out);
    if (!rc) {
        p.f = file.f;
        write_page(&p);
        rc = cli_file_close(&file, true);
    }
    report_free(&p);
    strata_context_destroy(ctx);
    return rc;
}

static const cli_option options[] = {
    { "output", 'o', CLI_TEXT, "FILE", "the page; - for stdout", NULL, 0, 0 },
    { "title", 0, CLI_TEXT, "TEXT", "heading", "Training report", 0, 0 },
    { "note", 0, CLI_TEXT, "TEXT", "a paragraph below the heading; repeatable", NULL, 0, 0 },
    { "family", 0, CLI_TEXT, "NAME=PATTERN",
      "the runs whose paths match (mlr=*/mlr-*) are sizes of one family; repeatable", NULL, 0, 0 },
    { "attention", 0, CLI_INT, "N", "windows of held-out data on which attention is looked at; 0: none", "4", 0, 1e6 },
    { "data", 'd', CLI_TEXT, "FILE", "look at attention on this data, not on what the runs keep apart", NULL, 0, 0 },
    { "prompt", 'p', CLI_TEXT, "TEXT", "text that the samples continue", "\n", 0, 0 },
    { "temperature", 't', CLI_NUM, "X", "of the samples", "0.8", 1e-3, 1e3 },
    { "seed", 0, CLI_INT, "N", "of the samples", "1", 0, 9e15 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_report = {
    "report",
    "RUN… -o FILE.html",
    "Write a page about runs: curves, costs, samples, configuration",
    "The page is one HTML file without outside references: losses against tokens, compute and time for all models "
    "side\n"
    "by side and at equal amounts of each, throughput, a sample of each, and what differs between their\n"
    "configurations. Runs that differ only in train.seed are one model: its curve is their mean, with a band from the\n"
    "least to the largest. Models that differ only in width, layers and learning rate are sizes of one family: power\n"
    "laws are fitted through three sizes and more. Attention is looked at on held-out data; runs of the task\n"
    "regression show the error in context beside its closed forms, runs of forecast what came. Pictures need gnuplot.\n"
    "docs/report.md has the definitions.",
    "strata report runs/standard runs/mlr -o report.html --title \"Standard and MLR attention\"\n"
    "strata report study/*/* -o study.html --family 'mlr=*mlr*' --attention 0",
    1,
    -1,
    options,
    run_report,
};
