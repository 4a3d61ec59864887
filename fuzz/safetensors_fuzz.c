/* safetensors: any bytes; every tensor that is accepted has its bytes, the first and the last of which are read. */
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"

#define MUST(e) ((e) ? (void)0 : abort())

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static strata_context *ctx;
    if (!ctx) MUST(strata_context_create("threads=1", NULL, &ctx) == STRATA_OK);
    strata_file *f = NULL;
    if (sti_file_parse(ctx, data, size, &f) != STRATA_OK) {
        MUST(!f && *strata_last_error());
        return 0;
    }
    for (int32_t i = 0; i < strata_file_count(f); i++) {
        const char *name = NULL;
        strata_tensor t, same;
        if (strata_file_at(f, i, &name, &t) != STRATA_OK) { /* a type we do not have, data off its alignment */
            MUST(*strata_last_error());
            continue;
        }
        MUST(name && strata_file_get(f, name, &same) == STRATA_OK && same.data == t.data);
        const size_t bytes = (size_t)strata_tensor_count(&t) * strata_dtype_size(t.dtype);
        MUST(bytes <= size);
        if (bytes == 0) continue;
        const volatile uint8_t *p = t.data;
        (void)p[0];
        (void)p[bytes - 1];
    }
    (void)strata_file_meta(f, "format");
    strata_file_close(f);
    return 0;
}
