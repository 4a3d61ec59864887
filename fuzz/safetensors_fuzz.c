/* Tensor files: whatever opens has tensors that lie inside the file, aligned, and can be read byte by byte. */
#include "io/safetensors.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static strata_context *ctx;
    strata_file *f = NULL;
    if (!ctx && strata_context_create("threads=1", NULL, &ctx) != STRATA_OK) return 0;
    if (sti_file_parse(ctx, data, size, &f) != STRATA_OK) {
        MUST(!f && *strata_last_error());
        return 0;
    }
    for (int32_t i = 0; i < strata_file_count(f); i++) {
        const char *name;
        strata_tensor t, again;
        if (strata_file_at(f, i, &name, &t) != STRATA_OK) continue;
        MUST(strata_file_get(f, name, &again) == STRATA_OK && again.data == t.data);
        size_t n = (size_t)strata_tensor_count(&t) * strata_dtype_size(t.dtype);
        MUST(n <= size && (uintptr_t)t.data % strata_dtype_size(t.dtype) == 0);
        const volatile uint8_t *p = t.data;
        for (size_t k = 0; k < n; k++) (void)p[k];
    }
    const char *v = strata_file_meta(f, "a");
    MUST(!v || strlen(v) <= size);
    strata_file_close(f);
    return 0;
}
