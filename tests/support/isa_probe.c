/* Prints the instruction set of a context made in this environment: what STRATA_ISA asks for, if the CPU has it. */
#include <stdio.h>

#include <strata/context.h>

int main(void)
{
    strata_context *ctx = NULL;
    if (strata_context_create(NULL, NULL, &ctx) != STRATA_OK) {
        fprintf(stderr, "%s\n", strata_last_error());
        return 1;
    }
    puts(strata_context_isa(ctx));
    strata_context_destroy(ctx);
    return 0;
}
