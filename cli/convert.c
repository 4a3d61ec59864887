/* strata import, strata export: weights of other programs. */
#include "cli.h"

#include <string.h>

static int check_format(const cli *c)
{
    if (!strcmp(c->arg[0], "gpt2")) return CLI_OK;
    return cli_fail(CLI_USAGE, "%s: no format is called '%s'; there is gpt2", c->command->name, c->arg[0]);
}

static int run_import(cli *c)
{
    const char *out = cli_text(c, "out");
    strata_context *ctx = NULL;
    const strata_gpt2_config cfg = { .size = STRATA_INIT(strata_gpt2_config),
                                     .heads = cli_int(c, "heads"),
                                     .tokenizer = cli_text(c, "tokenizer"),
                                     .vocab = cli_text(c, "vocab") };
    int rc = check_format(c);
    if (!rc && !out) rc = cli_fail(CLI_USAGE, "import: -o CHECKPOINT is needed");
    if (!rc && !cfg.vocab && !strcmp(cfg.tokenizer, "bpe"))
        rc = cli_fail(CLI_USAGE, "import: --vocab MERGES[,IDS.json] is needed: the model's own vocabulary");
    if (!rc) rc = cli_context(c, NULL, &ctx);
    if (!rc) { /* what cannot be read is said before anything is written */
        strata_file *f = NULL;
        rc = cli_status(strata_file_open(ctx, c->arg[1], &f), CLI_ON_INPUT, NULL);
        strata_file_close(f);
    }
    if (!rc) rc = cli_status(strata_gpt2_import(ctx, c->arg[1], &cfg, out), CLI_ON_OUTPUT, NULL);
    strata_context_destroy(ctx);
    return rc;
}

static int run_export(cli *c)
{
    const char *out = cli_text(c, "out");
    strata_context *ctx = NULL;
    strata_model *m = NULL;
    int rc = check_format(c);
    if (!rc && !out) rc = cli_fail(CLI_USAGE, "export: -o FILE is needed");
    if (!rc) rc = cli_context(c, NULL, &ctx);
    if (!rc) rc = cli_status(strata_model_load(ctx, c->arg[1], cli_flag(c, "best"), &m), CLI_ON_INPUT, NULL);
    if (!rc) rc = cli_status(strata_gpt2_export(m, out), CLI_ON_OUTPUT, NULL);
    strata_model_destroy(m);
    strata_context_destroy(ctx);
    return rc;
}

static const cli_option import_options[] = {
    { "out", 'o', CLI_TEXT, "CHECKPOINT", "the model, for eval, generate, inspect, export", NULL, 0, 0 },
    { "vocab", 0, CLI_TEXT, "FILES", "its vocabulary: MERGES[,IDS.json], plain, .gz or .zst", NULL, 0, 0 },
    { "tokenizer", 0, CLI_TEXT, "KIND", "bpe, or what else the model was trained with", "bpe", 0, 0 },
    { "heads", 0, CLI_INT, "N", "attention heads; 0: width/64, as in every published GPT-2", "0", 0, 1e6 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};
static const cli_option export_options[] = {
    { "out", 'o', CLI_TEXT, "FILE", "the weights", NULL, 0, 0 },
    { "best", 0, CLI_FLAG, NULL, "of a run, the checkpoint with the least validation loss, not the newest", NULL, 0,
      0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_import = {
    "import",
    "gpt2 WEIGHTS -o CHECKPOINT --vocab MERGES,IDS.json",
    "Make a checkpoint of another program's weights",
    "gpt2: a safetensors file in Hugging Face's layout (model.safetensors of a GPT-2 model), all tensors F32. The "
    "checkpoint\n"
    "holds the vocabulary too, and no optimiser state.",
    "strata import gpt2 gpt2/model.safetensors --vocab gpt2/merges.txt,gpt2/vocab.json -o gpt2.safetensors\n"
    "strata generate gpt2.safetensors --prompt \"Hello, my name is\" --tokens 40",
    2,
    2,
    import_options,
    run_import,
};

const cli_command cmd_export = {
    "export",
    "gpt2 RUN|CHECKPOINT -o WEIGHTS",
    "Write a model's weights for other programs",
    "gpt2: Hugging Face's layout, for models of GPT-2's form: decoder mixers=softmax(heads=H) mlp=mlp(act=gelu_tanh)\n"
    "norm=layernorm pos=learned tied=1 bias=1, trained with train.base_width equal to the width. What was imported "
    "comes\n"
    "out bit for bit.",
    "strata export gpt2 gpt2.safetensors -o model.safetensors",
    2,
    2,
    export_options,
    run_export,
};
