/* strata cost: FLOPs, parameters and memory from a spec alone. */
#include "cli.h"

static int run_cost(cli *c)
{
    strata_context *ctx = NULL;
    int rc = cli_context(c, NULL, &ctx);
    int64_t length = cli_int(c, "length");
    for (int i = 0; i < c->nargs && !rc; i++) {
        strata_cost k = { .size = STRATA_INIT(strata_cost) };
        char *canonical = NULL;
        rc = cli_status(strata_cost_of(ctx, c->arg[i], cli_int(c, "vocab"), cli_int(c, "width"), cli_int(c, "batch"),
                                       length, &k, &canonical),
                        CLI_ON_INPUT, NULL);
        if (rc) break;
        if (cli_flag(c, "json")) {
            json j = json_begin(stdout);
            json_text(&j, "spec", canonical);
            json_int(&j, "params", k.params);
            json_num(&j, "flops_fwd_per_token", k.flops_fwd);
            json_num(&j, "flops_bwd_per_token", k.flops_bwd);
            json_num(&j, "exps_per_token", k.exps);
            json_num(&j, "cache_bytes", k.cache_bytes);
            json_num(&j, "cache_bytes_per_token", k.cache_bytes_per_token);
            json_int(&j, "cache_alloc_bytes", (int64_t)k.cache_alloc);
            json_int(&j, "activation_bytes", (int64_t)k.activation_bytes);
            json_end(&j);
        } else {
            char b[CLI_NUMBER];
            if (i) (void)putchar('\n');
            (void)printf("%s\n", canonical);
            (void)printf("  parameters          %lld\n", (long long)k.params);
            (void)printf("  FLOPs per token     %s forward", cli_si(b, k.flops_fwd));
            (void)printf(", %s backward\n", cli_si(b, k.flops_bwd));
            if (k.exps > 0) (void)printf("  exponentials        %s per token\n", cli_si(b, k.exps));
            if (k.cache_bytes > 0) {
                (void)printf("  cache               %s per token", cli_bytes(b, k.cache_bytes_per_token));
                (void)printf(", %s per sequence", cli_bytes(b, k.cache_bytes));
                (void)printf(" (%s with padding)\n", cli_bytes(b, (double)k.cache_alloc));
            }
            if (k.activation_bytes)
                (void)printf("  training memory     %s of activations and gradients\n",
                             cli_bytes(b, (double)k.activation_bytes));
        }
        strata_free_text(canonical);
    }
    strata_context_destroy(ctx);
    return rc;
}

static const cli_option options[] = {
    { "length", 0, CLI_INT, "N", "tokens per sequence; 0: the model's context, else 1024", "0", 0, 1e9 },
    { "batch", 0, CLI_INT, "N", "sequences per batch, for the training memory", "1", 1, 1e6 },
    { "vocab", 0, CLI_INT, "N", "vocabulary of a model; 0: 96", "0", 0, 1e8 },
    { "width", 0, CLI_INT, "N", "width of a mixer; 0: 256", "0", 0, 1e7 },
    { "json", 0, CLI_FLAG, NULL, "one JSON object per spec", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_cost = {
    "cost",
    "SPEC…",
    "Print FLOPs, parameters, cache and memory of a model, mixer or operator",
    "FLOPs count 2 per multiply-add in matrix products, of attention exactly the visible pairs. Embedding, norms and\n"
    "exponentials count 0. The cache is the payload of one sequence at the given length.",
    "strata cost \"decoder layers=6 width=256 mixers=softmax(heads=8 score=mlr levels=4)\" --length 1024\n"
    "strata cost \"btt rows=1024 cols=1024 rank=2\" \"dense rows=1024 cols=1024\"",
    1,
    -1,
    options,
    run_cost,
};
