/* strata generate: stream text from a trained model. */
#include "cli.h"

#include <string.h>

static int run_generate(cli *c)
{
    strata_context *ctx = NULL;
    strata_model *m = NULL;
    strata_session *s = NULL;
    const char *prompt = cli_text(c, "prompt"), *stop = cli_text(c, "stop");
    const int64_t tokens = cli_int(c, "tokens");
    size_t bytes = strlen(prompt);
    if (!bytes) return cli_fail(CLI_USAGE, "generate: the prompt is empty");
    int rc = cli_context(c, NULL, &ctx);
    if (!rc) rc = cli_status(strata_model_load(ctx, c->arg[0], cli_flag(c, "best"), &m), CLI_ON_INPUT, NULL);
    strata_session_config cfg = { STRATA_INIT(strata_session_config),
                                  .seed = (uint64_t)cli_int(c, "seed"),
                                  .temperature = cli_num(c, "temperature"),
                                  .top_k = (int32_t)cli_int(c, "top-k"),
                                  .top_p = cli_num(c, "top-p"),
                                  .max_tokens = (int64_t)bytes + tokens, /* of the prompt at most one per byte */
                                  .new_tokens = tokens,
                                  .stop = stop };
    if (cfg.temperature == 0) { /* as everywhere else: no randomness */
        cfg.temperature = 1;
        cfg.top_k = 1;
    }
    if (!rc) rc = cli_status(strata_session_create(m, &cfg, &s), CLI_ON_INPUT, NULL);
    if (!rc) {
        strata_status st = strata_session_prompt(s, prompt, bytes);
        rc = st == STRATA_E_SPACE ? cli_fail(CLI_INPUT, "%s", strata_last_error()) : cli_status(st, CLI_ON_INPUT, NULL);
    }
    if (!rc) {
        bool ended = false;
        cli_catch_interrupts();
        if (!cli_flag(c, "only-new")) (void)fwrite(prompt, 1, bytes, stdout);
        while (!rc) {
            char text[256];
            size_t n = 0;
            strata_status st = strata_session_next(s, text, sizeof text, &n);
            if (st != STRATA_OK) { /* the end of the context is an error where it was to be passed */
                (void)putchar('\n');
                rc = cli_status(st, CLI_ON_OUTPUT, NULL);
                if (st == STRATA_E_SPACE && !cli_given(c, "tokens")) rc = CLI_OK;
                ended = true;
                break;
            }
            if (!n) break; /* the stop text, or the last token */
            (void)fwrite(text, 1, n, stdout);
            if (fflush(stdout) != 0) break; /* main reports it */
            if (cli_interrupted()) rc = CLI_INTERRUPTED;
        }
        if (!ended) (void)putchar('\n');
    }
    strata_session_destroy(s);
    strata_model_destroy(m);
    strata_context_destroy(ctx);
    return rc;
}

static const cli_option options[] = {
    { "prompt", 'p', CLI_TEXT, "TEXT", "text to continue", "\n", 0, 0 },
    { "tokens", 'n', CLI_INT, "N", "most tokens to generate", "256", 1, 1e9 },
    { "temperature", 't', CLI_NUM, "X", "divides the logits; 0: always the likeliest token", "1", 0, 1e6 },
    { "top-k", 0, CLI_INT, "N", "sample from the N likeliest tokens; 0: all", "0", 0, 1e9 },
    { "top-p", 0, CLI_NUM, "X", "sample from the likeliest tokens of this total probability", "1", 0, 1 },
    { "seed", 0, CLI_INT, "N", "the same seed gives the same text", "0", 0, 9e15 },
    { "stop", 0, CLI_TEXT, "TEXT", "end before this text", NULL, 0, 0 },
    { "only-new", 0, CLI_FLAG, NULL, "do not print the prompt", NULL, 0, 0 },
    { "best", 0, CLI_FLAG, NULL, "of a run, the checkpoint with the least validation loss, not the newest", NULL, 0,
      0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_generate = {
    "generate",
    "RUN|CHECKPOINT --prompt TEXT",
    "Continue a text",
    "The prompt is fed at once, then tokens are drawn one by one from the caches and printed as they come. A model\n"
    "with learned positions ends at its context; the other kinds go on.",
    "strata generate runs/a --prompt \"The \" --tokens 400 --temperature 0.8 --seed 7",
    1,
    1,
    options,
    run_generate,
};
