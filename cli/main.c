/* strata: the program. Dispatch, and the promise that lost output is an error. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

const cli_command *const cli_commands[] = {
    &cmd_train,  &cmd_compare, &cmd_eval,   &cmd_generate, &cmd_forecast, &cmd_tokenizer,
    &cmd_import, &cmd_export,  &cmd_report, &cmd_apply,    &cmd_cost,     &cmd_inspect,
    &cmd_bench,  &cmd_config,  &cmd_doctor, &cmd_help,     &cmd_version,  NULL,
};

static int run(int argc, char **argv)
{
    cli c = { 0 };
    int rc = CLI_OK;
    if (argc < 2) {
        cli_print_overview(stderr);
        return CLI_USAGE;
    }
    const char *name = argv[1];
    if (!strcmp(name, "--help") || !strcmp(name, "-h")) name = "help";
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) name = "version";
    c.command = cli_find_command(name);
    if (!c.command) {
        if (name[0] == '-')
            return cli_fail(CLI_USAGE, "options follow the command: strata COMMAND %s; see strata help", name);
        const char *names[32];
        int n = 0;
        for (; n < 32 && cli_commands[n]; n++) names[n] = cli_commands[n]->name;
        const char *near = cli_nearest(name, names, n);
        if (near) return cli_fail(CLI_USAGE, "unknown command '%s'; did you mean '%s'?", name, near);
        return cli_fail(CLI_USAGE, "unknown command '%s'; see strata help", name);
    }
    c.arg = calloc((size_t)argc + 1, sizeof *c.arg);
    if (!c.arg) return cli_fail(CLI_FAILED, "out of memory");
    rc = cli_parse(&c, argc - 2, argv + 2);
    if (rc == CLI_OK && cli_flag(&c, "help"))
        cli_print_help(stdout, c.command);
    else if (rc == CLI_OK)
        rc = c.command->run(&c);
    free(c.arg);
    return rc;
}

int main(int argc, char **argv)
{
    int rc = run(argc, argv);
    errno = 0;
    bool lost = fflush(stdout) != 0;
    lost |= ferror(stdout) != 0;
    int reason = errno;
    lost |= fclose(stdout) != 0;
    if (lost && rc == CLI_OK)
        rc = cli_fail(CLI_FAILED, "standard output: %s", reason ? strerror(reason) : "write error");
    return rc;
}
