/* Operator specs all the way to a plan: any text is refused with a reason, or gives an operator whose canonical spec
 * gives the same operator. Memory is limited, so that large sizes end in E_MEMORY. */
#include <strata/operator.h>

#include "fuzz.h"

static void *limited(void *user, size_t bytes)
{
    (void)user;
    return bytes > ((size_t)1 << 22) ? NULL : aligned_alloc(64, (bytes + 64) / 64 * 64);
}
static void release(void *user, void *p)
{
    (void)user;
    free(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static strata_context *ctx;
    static const strata_allocator allocator = { limited, release, NULL };
    const strata_context_config config = { .size = STRATA_INIT(strata_context_config), .allocator = &allocator };
    if (!ctx) MUST(strata_context_create("threads=1", &config, &ctx) == STRATA_OK);
    char *text = malloc(size + 1);
    MUST(text);
    memcpy(text, data, size);
    text[size] = 0;
    strata_op *op = NULL, *same = NULL;
    if (strata_op_create(ctx, text, 0, 0, 3, STRATA_F64, &op) != STRATA_OK) {
        MUST(!op && *strata_last_error());
    } else {
        MUST(strata_op_rows(op) > 0 && strata_op_cols(op) > 0 && strata_op_flops(op) >= 0);
        MUST(strata_op_create(ctx, strata_op_spec(op), 0, 0, 3, STRATA_F64, &same) == STRATA_OK);
        MUST(strcmp(strata_op_spec(op), strata_op_spec(same)) == 0);
        MUST(strata_op_param_bytes(op) == strata_op_param_bytes(same));
    }
    strata_op_destroy(op);
    strata_op_destroy(same);
    free(text);
    return 0;
}
