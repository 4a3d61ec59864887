/* strata inspect: what a checkpoint holds. */
#include "cli.h"

static int print_params(const cli *c, const strata_model *m, bool as_json)
{
    for (int32_t i = 0; i < strata_model_param_count(m); i++) {
        strata_param_info p;
        int rc = cli_status(strata_model_param(m, i, &p), CLI_ON_INPUT, c->arg[0]);
        if (rc) return rc;
        if (as_json) {
            json j = json_begin(stdout);
            json_text(&j, "tensor", p.name);
            json_ints(&j, "shape", p.shape, p.ndim);
            json_int(&j, "count", p.count);
            json_num(&j, "lr_mult", p.lr_mult);
            json_end(&j);
        } else {
            char shape[96];
            (void)printf("  %-40s %-20s %12lld  lr x %.4g\n", p.name, cli_shape(shape, sizeof shape, p.shape, p.ndim),
                         (long long)p.count, p.lr_mult);
        }
    }
    return CLI_OK;
}

static int run_inspect(cli *c)
{
    strata_context *ctx = NULL;
    strata_model *m = NULL;
    strata_cost k = { .size = STRATA_INIT(strata_cost) };
    int64_t length = cli_int(c, "length");
    bool as_json = cli_flag(c, "json");
    int rc = cli_context(c, NULL, &ctx);
    if (!rc) rc = cli_status(strata_model_load(ctx, c->arg[0], cli_flag(c, "best"), &m), CLI_ON_INPUT, NULL);
    if (!rc) rc = cli_status(strata_model_cost(m, length, &k), CLI_ON_INPUT, NULL);
    if (!rc && !length) length = strata_model_context(m);
    if (!rc && as_json) {
        json j = json_begin(stdout);
        json_text(&j, "checkpoint", strata_model_path(m));
        json_text(&j, "task", strata_model_task(m));
        json_text(&j, "spec", strata_model_spec(m));
        json_int(&j, "step", strata_model_step(m));
        json_int(&j, "tokens", strata_model_tokens(m));
        json_int(&j, "context", strata_model_context(m));
        json_int(&j, "params", k.params);
        json_num(&j, "flops_fwd_per_token", k.flops_fwd);
        json_num(&j, "flops_bwd_per_token", k.flops_bwd);
        json_num(&j, "cache_bytes_per_token", k.cache_bytes_per_token);
        json_num(&j, "cache_bytes", k.cache_bytes);
        json_int(&j, "length", length);
        json_end(&j);
    } else if (!rc) {
        char b[CLI_NUMBER];
        (void)printf("checkpoint          %s\nmodel               %s\n", strata_model_path(m), strata_model_spec(m));
        (void)printf("task                %s\n", strata_model_task(m));
        (void)printf("trained             %lld steps, %s tokens\n", (long long)strata_model_step(m),
                     cli_si(b, (double)strata_model_tokens(m)));
        (void)printf("context             %lld\n", (long long)strata_model_context(m));
        (void)printf("parameters          %lld\n", (long long)k.params);
        (void)printf("FLOPs per token     %s forward", cli_si(b, k.flops_fwd));
        (void)printf(", %s backward, at %lld tokens\n", cli_si(b, k.flops_bwd), (long long)length);
        (void)printf("cache per token     %s", cli_bytes(b, k.cache_bytes_per_token));
        (void)printf(" (%s for %lld tokens)\n\ntensors\n", cli_bytes(b, k.cache_bytes), (long long)length);
    }
    if (!rc) rc = print_params(c, m, as_json);
    strata_model_destroy(m);
    strata_context_destroy(ctx);
    return rc;
}

static const cli_option options[] = {
    { "length", 0, CLI_INT, "N", "tokens per sequence for FLOPs and cache; 0: the context", "0", 0, 1e9 },
    { "best", 0, CLI_FLAG, NULL, "of a run, the checkpoint with the least validation loss, not the newest", NULL, 0,
      0 },
    { "json", 0, CLI_FLAG, NULL, "one JSON object for the model, then one per tensor", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_inspect = {
    "inspect",
    "RUN|CHECKPOINT",
    "Print a checkpoint's tensors, parameters, FLOPs and cache bytes",
    NULL,
    "strata inspect runs/a\n"
    "strata inspect runs/a/step-2000.safetensors --json",
    1,
    1,
    options,
    run_inspect,
};
