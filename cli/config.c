/* strata config: every value of a task's configuration with its source. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

int cli_configure(const cli *c, const strata_context *ctx, const char *task, const char *model, strata_config **out)
{
    int rc = cli_status(strata_config_create(ctx, task, out), CLI_ON_INPUT, NULL);
    const char *path = cli_text(c, "config"), *pair;
    if (!rc && path) rc = cli_status(strata_config_load(*out, path), CLI_ON_INPUT, NULL);
    if (!rc && model) rc = cli_status(strata_config_set(*out, "model.spec", model, "--model"), CLI_ON_INPUT, NULL);
    for (int i = 0; !rc && (pair = cli_repeated(c, "set", i)); i++) {
        const char *eq = strchr(pair, '=');
        char key[128];
        if (!eq || (size_t)(eq - pair) >= sizeof key) {
            rc = cli_fail(CLI_USAGE, "--set %s: expected key=value", pair);
            break;
        }
        (void)snprintf(key, sizeof key, "%.*s", (int)(eq - pair), pair);
        rc = cli_status(strata_config_set(*out, key, eq + 1, "--set"), CLI_ON_INPUT, NULL);
    }
    if (rc) {
        strata_config_destroy(*out);
        *out = NULL;
    }
    return rc;
}

static int run_config(cli *c)
{
    strata_context *ctx = NULL;
    strata_config *cfg = NULL;
    int rc = cli_context(c, NULL, &ctx);
    if (!rc) rc = cli_configure(c, ctx, cli_text(c, "task"), cli_text(c, "model"), &cfg);
    for (int32_t i = 0; !rc && i < strata_config_count(cfg); i++) {
        strata_config_item it;
        if ((rc = cli_status(strata_config_at(cfg, i, &it), CLI_ON_INPUT, NULL))) break;
        if (cli_flag(c, "json")) {
            json j = json_begin(stdout);
            json_text(&j, "key", it.key);
            json_text(&j, "value", it.value);
            json_text(&j, "source", it.source);
            json_text(&j, "type", it.type);
            json_text(&j, "default", it.def);
            json_text(&j, "help", it.help);
            json_end(&j);
        } else if (cli_flag(c, "show")) {
            (void)printf("%-24s = %-24s # %s\n", it.key, it.value, it.source);
        } else { /* a file that --config reads back */
            (void)printf("# %s\n%s = %s\n", it.help, it.key, it.value);
        }
    }
    strata_config_destroy(cfg);
    strata_context_destroy(ctx);
    return rc;
}

static const cli_option options[] = {
    { "show", 0, CLI_FLAG, NULL, "a line per value, with its source", NULL, 0, 0 },
    { "task", 0, CLI_TEXT, "TASK", "whose keys", "text", 0, 0 },
    { "config", 'c', CLI_TEXT, "FILE", "read 'section.key = value' lines", NULL, 0, 0 },
    { "set", 's', CLI_TEXT, "KEY=VALUE", "set one value; repeatable", NULL, 0, 0 },
    { "model", 'm', CLI_TEXT, "SPEC", "the model", NULL, 0, 0 },
    { "json", 0, CLI_FLAG, NULL, "one JSON object per value", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_config = {
    "config",
    "[--show]",
    "Print the configuration of a training run",
    "Values come from the defaults, then --config, then --model and --set; the last one wins. Without --show the\n"
    "output is a configuration file with one comment per key.",
    "strata config --show --set train.lr=0.01\n"
    "strata config > run.conf",
    0,
    0,
    options,
    run_config,
};
