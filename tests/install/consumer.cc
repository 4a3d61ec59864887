// The public headers from C++17: create, use, and read an error.
#include <cstdio>
#include <cstring>

#include <strata/strata.h>

int main()
{
    strata_context *ctx = nullptr;
    if (strata_context_create("threads=1", nullptr, &ctx) != STRATA_OK) return 1;
    float data[6] = {};
    const strata_tensor t = strata_view2(data, STRATA_F32, 2, 3);
    strata_op *op = nullptr;
    const bool refused = strata_op_create(ctx, "no-such-operator", 2, 3, 1, STRATA_F32, &op) == STRATA_E_SPEC && !op;
    const bool told = std::strstr(strata_last_error(), "no-such-operator") != nullptr;
    std::printf("strata %s: %s\n", strata_version(), strata_last_error());
    strata_context_destroy(ctx);
    return refused && told && strata_tensor_count(&t) == 6 ? 0 : 1;
}
