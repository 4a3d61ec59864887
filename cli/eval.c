/* strata eval */
#include "cli.h"

#include <math.h>
#include <string.h>

enum { MAX_CURVES = 16, MAX_ROWS = 32 };

static void print_json(const cli *c, const strata_eval_result *r)
{
    json j = json_begin(stdout);
    json_text(&j, "checkpoint", c->arg[0]);
    if (isnan(r->bits)) {
        json_num(&j, "squared_error", r->nats);
    } else {
        json_num(&j, "nats", r->nats);
        json_num(&j, "bits", r->bits);
    }
    json_text(&j, "unit", r->unit);
    json_int(&j, "tokens", r->tokens);
    json_num(&j, "seconds", r->seconds);
    for (int32_t i = 0; i < strata_measures_count(r->measures); i++) {
        strata_measure m;
        if (strata_measures_at(r->measures, i, &m) != STRATA_OK) continue;
        if (m.count == 1)
            json_num(&j, m.name, m.value[0]);
        else
            json_nums(&j, m.name, m.value, m.count);
    }
    json_end(&j);
}

/* Single numbers one a line, curves of one length as the columns of a table. */
static void print_measures(const strata_measures *m)
{
    strata_measure curve[MAX_CURVES];
    int curves = 0;
    for (int32_t i = 0; i < strata_measures_count(m); i++) {
        strata_measure x;
        if (strata_measures_at(m, i, &x) != STRATA_OK) continue;
        if (x.count == 1)
            (void)printf("%-19s %.6f   %s\n", x.name, x.value[0], x.help);
        else if (curves < MAX_CURVES && (curves == 0 || x.count == curve[0].count))
            curve[curves++] = x;
    }
    if (!curves) return;
    (void)putchar('\n');
    for (int i = 0; i < curves; i++) (void)printf("# %s: %s\n", curve[i].name, curve[i].help);
    (void)printf("%5s", "");
    for (int i = 0; i < curves; i++) (void)printf(" %*s", (int)strlen(curve[i].name) > 9 ? 0 : 9, curve[i].name);
    (void)putchar('\n');
    const int64_t stride = curve[0].count > 2 * MAX_ROWS ? (curve[0].count + MAX_ROWS - 1) / MAX_ROWS : 1;
    if (stride > 1) (void)printf("# every %lldth position; --json has all\n", (long long)stride);
    for (int64_t k = 0; k < curve[0].count; k += stride) {
        bool any = false;
        for (int i = 0; i < curves; i++) any = any || !isnan(curve[i].value[k]);
        if (!any) continue;
        (void)printf("%5lld", (long long)k);
        for (int i = 0; i < curves; i++) {
            const int width = (int)strlen(curve[i].name) > 9 ? (int)strlen(curve[i].name) : 9;
            if (isnan(curve[i].value[k]))
                (void)printf(" %*s", width, "-");
            else
                (void)printf(" %*.5f", width, curve[i].value[k]);
        }
        (void)putchar('\n');
    }
}

static void print_text(const strata_eval_result *r)
{
    char b[CLI_NUMBER];
    if (isnan(r->bits)) {
        (void)printf("squared error       %.6f\n", r->nats);
    } else {
        (void)printf("nats per %-10s %.6f\n", r->unit, r->nats);
        (void)printf("bits per %-10s %.6f\n", r->unit, r->bits);
    }
    (void)printf("scored              %lld %ss in %s\n", (long long)r->tokens, r->unit, cli_duration(b, r->seconds));
    print_measures(r->measures);
}

static int run_eval(cli *c)
{
    strata_context *ctx = NULL;
    strata_eval_result r = { .size = STRATA_INIT(strata_eval_result) };
    int rc = cli_context(c, NULL, &ctx);
    if (!rc)
        rc = cli_status(strata_evaluate(ctx, c->arg[0], cli_flag(c, "best"), c->arg + 1, c->nargs - 1, &r),
                        CLI_ON_INPUT, NULL);
    if (!rc && cli_flag(c, "json"))
        print_json(c, &r);
    else if (!rc)
        print_text(&r);
    strata_measures_destroy(r.measures);
    strata_context_destroy(ctx);
    return rc;
}

static const cli_option options[] = {
    { "best", 0, CLI_FLAG, NULL, "of a run, the checkpoint with the least validation loss, not the newest", NULL, 0,
      0 },
    { "json", 0, CLI_FLAG, NULL, "print a JSON object", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_eval = {
    "eval",
    "RUN|CHECKPOINT [DATA…]",
    "Measure a model's loss, and what else its task measures",
    "Of text every character is scored once, in windows of the model's context. Without DATA the run's own validation\n"
    "data; tasks that make their data have a fixed set for it. A task may add numbers (accuracy) and curves over the\n"
    "positions of a sequence (errors beside their baselines).",
    "strata eval runs/a --best\n"
    "strata eval runs/a other.txt --json",
    1,
    -1,
    options,
    run_eval,
};
