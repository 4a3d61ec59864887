/* strata version */
#include "cli.h"

static int run_version(cli *c)
{
    (void)c;
    (void)printf("strata %s\n", strata_version());
    return CLI_OK;
}

const cli_command cmd_version = {
    "version", "", "Print the version", NULL, NULL, 0, 0, NULL, run_version,
};
