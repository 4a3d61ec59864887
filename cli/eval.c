/* strata eval */
#include "cli.h"

static int run_eval(cli *c)
{
    strata_context *ctx = NULL;
    strata_eval_result r = { .size = STRATA_INIT(strata_eval_result) };
    int rc = cli_context(c, NULL, &ctx);
    if (!rc)
        rc = cli_status(strata_evaluate(ctx, c->arg[0], cli_flag(c, "best"), c->arg + 1, c->nargs - 1, &r),
                        CLI_ON_INPUT, NULL);
    if (!rc && cli_flag(c, "json")) {
        json j = json_begin(stdout);
        json_text(&j, "checkpoint", c->arg[0]);
        json_num(&j, "nats", r.nats);
        json_num(&j, "bits", r.bits);
        json_int(&j, "tokens", r.tokens);
        json_num(&j, "seconds", r.seconds);
        json_end(&j);
    } else if (!rc) {
        char b[CLI_NUMBER];
        (void)printf("nats per character  %.6f\nbits per character  %.6f\n", r.nats, r.bits);
        (void)printf("scored              %lld characters in %s\n", (long long)r.tokens, cli_duration(b, r.seconds));
    }
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
    "Measure a model's loss on text",
    "Every character is scored once, in windows of the model's context. Without DATA the run's own validation text.",
    "strata eval runs/a --best\n"
    "strata eval runs/a other.txt --json",
    1,
    -1,
    options,
    run_eval,
};
