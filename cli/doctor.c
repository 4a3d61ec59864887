/* strata doctor: the first thing a bug report needs. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

typedef struct tally {
    bool json;
    int passed, failed;
} tally;

static void on_selftest(void *user, const char *kernel, const char *variant, int32_t ok, const char *detail)
{
    tally *t = user;
    if (ok)
        t->passed++;
    else
        t->failed++;
    if (t->json) {
        json j = json_begin(stdout);
        json_text(&j, "kernel", kernel);
        json_text(&j, "variant", variant);
        json_text(&j, "result", ok ? "ok" : "failed");
        json_text(&j, "detail", detail ? detail : "");
        json_end(&j);
    } else {
        (void)printf("  %-20s %-14s %s%s%s\n", kernel, variant, ok ? "ok" : "FAILED", detail && *detail ? "  " : "",
                     detail ? detail : "");
    }
}

static void cpu_name(char *buf, size_t cap)
{
    char line[512];
    FILE *f = fopen("/proc/cpuinfo", "r");
    (void)snprintf(buf, cap, "unknown");
    while (f && fgets(line, sizeof line, f)) {
        const char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) != 0 || !colon) continue;
        (void)snprintf(buf, cap, "%.*s", (int)strcspn(colon + 2, "\n"), colon + 2);
        break;
    }
    if (f) (void)fclose(f);
}

/* The levels that this machine and build can run: a context that may only lower answers with what it got. */
static void available(char *buf, size_t cap)
{
    static const char *const isa[] = { "amx", "avx512bf16", "avx512", "avx2", "c", "ref" };
    size_t len = 0;
    *buf = 0;
    for (int i = 0; i < 6 && len < cap; i++) {
        char spec[32];
        strata_context *ctx = NULL;
        (void)snprintf(spec, sizeof spec, "isa=%s", isa[i]);
        if (strata_context_create(spec, NULL, &ctx) == STRATA_OK && !strcmp(strata_context_isa(ctx), isa[i]))
            len += (size_t)snprintf(buf + len, cap - len, "%s%s", len ? " " : "", isa[i]);
        strata_context_destroy(ctx);
    }
}

/* What math=bf16 and train.dtype=bf16 get on this processor. */
static const char *bf16_products(void)
{
    strata_context *ctx = NULL;
    const char *text = "no instructions: math=bf16 computes in f32";
    if (strata_context_create("math=bf16", NULL, &ctx) == STRATA_OK && !strcmp(strata_context_math(ctx), "bf16"))
        text = !strcmp(strata_context_isa(ctx), "amx") ? "amx" : "avx512bf16";
    strata_context_destroy(ctx);
    return text;
}

static bool in_path(const char *program)
{
    const char *path = getenv("PATH");
    while (path && *path) {
        char file[1024];
        size_t n = strcspn(path, ":");
        int len = snprintf(file, sizeof file, "%.*s/%s", (int)n, path, program);
        if (len > 0 && (size_t)len < sizeof file && access(file, X_OK) == 0) return true;
        path += n + (path[n] == ':');
    }
    return false;
}

static void line(bool as_json, json *j, const char *key, const char *value)
{
    if (as_json)
        json_text(j, key, value);
    else
        (void)printf("%-20s %s\n", key, value);
}

/* The kernel that attention of a type and head width runs on. */
static void attention_kernel(const strata_context *gpu, const char *what, int32_t dtype, int64_t d, char *text,
                             size_t size)
{
    strata_attention_problem p = {
        STRATA_INIT(strata_attention_problem), .batch = 1, .heads = 1, .q_time = 256, .d_qk = d, .dtype = dtype
    };
    strata_attention *a = NULL;
    const bool ok = strata_attention_create(gpu, "score=standard", &p, &a) == STRATA_OK;
    const size_t n = strlen(text);
    (void)snprintf(text + n, size - n, "%s%s d=%lld: %s", n ? ", " : "", what, (long long)d,
                   ok ? strata_attention_variant(a) : strata_last_error());
    strata_attention_destroy(a);
}

/* The device of the context, the GPU that is there, and which kernels it would run. */
static void describe_device(bool as_json, json *j, const strata_context *ctx)
{
    char text[512] = "";
    strata_context *gpu = NULL;
    line(as_json, j, "device", strata_context_device(ctx) == STRATA_CUDA ? "cuda" : "cpu");
    if (strata_context_create("device=cuda", NULL, &gpu) != STRATA_OK) {
        line(as_json, j, "gpu", strata_last_error());
        return;
    }
    line(as_json, j, "gpu", strata_context_device_name(gpu));
    attention_kernel(gpu, "bf16", STRATA_BF16, 64, text, sizeof text);
    attention_kernel(gpu, "bf16", STRATA_BF16, 128, text, sizeof text);
    attention_kernel(gpu, "bf16", STRATA_BF16, 80, text, sizeof text);
    attention_kernel(gpu, "f32", STRATA_F32, 64, text, sizeof text);
    line(as_json, j, "gpu attention", text);
    strata_context_destroy(gpu);
}

static int run_doctor(cli *c)
{
    strata_context *ctx = NULL;
    bool as_json = cli_flag(c, "json");
    char text[512], number[CLI_NUMBER];
    int rc = cli_context(c, NULL, &ctx);
    if (rc) return rc;

    json j = { stdout, 0 };
    if (as_json) j = json_begin(stdout);
    line(as_json, &j, "version", strata_version());
    if (strcmp(strata_version(), STRATA_VERSION_STRING) != 0)
        line(as_json, &j, "program", STRATA_VERSION_STRING " (differs from the library)");
#if defined(__clang__)
    line(as_json, &j, "compiler", "clang " __clang_version__);
#else
    line(as_json, &j, "compiler", "gcc " __VERSION__);
#endif
    size_t len = 0;
    const char *feature;
    *text = 0;
    for (int32_t i = 0; (feature = strata_feature(i)) && len < sizeof text; i++)
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%s", i ? ", " : "", feature);
    line(as_json, &j, "features", *text ? text : "none");
    struct utsname os;
    if (uname(&os) == 0) {
        (void)snprintf(text, sizeof text, "%s %s %s", os.sysname, os.release, os.machine);
        line(as_json, &j, "system", text);
    }
    cpu_name(text, sizeof text);
    line(as_json, &j, "processor", text);
    line(as_json, &j, "memory", cli_bytes(number, (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE)));
    (void)snprintf(text, sizeof text, "%d of %ld", strata_context_threads(ctx), sysconf(_SC_NPROCESSORS_ONLN));
    line(as_json, &j, "threads", text);
    describe_device(as_json, &j, ctx);
    line(as_json, &j, "instruction set", strata_context_isa(ctx));
    available(text, sizeof text);
    line(as_json, &j, "available", text);
    line(as_json, &j, "bf16 products", bf16_products());
    line(as_json, &j, "gnuplot", in_path("gnuplot") ? "found" : "missing: reports have no pictures");
    static const char *const env[] = { "STRATA_ISA", "STRATA_DATA", "OMP_NUM_THREADS" };
    for (int i = 0; i < 3; i++) {
        const char *value = getenv(env[i]);
        line(as_json, &j, env[i], value ? value : "not set");
    }
    if (as_json)
        json_end(&j);
    else
        (void)puts("\nself-tests");
    (void)fflush(stdout);

    tally t = { as_json, 0, 0 };
    strata_context *cpu = NULL; /* the self-tests are those of the CPU's variants */
    strata_status s = strata_context_create("device=cpu", NULL, &cpu);
    if (s == STRATA_OK) s = strata_selftest(strata_context_device(ctx) == STRATA_CUDA ? cpu : ctx, on_selftest, &t);
    strata_context_destroy(cpu);
    if (!as_json) (void)printf("%d passed, %d failed\n", t.passed, t.failed);
    if (s != STRATA_OK) rc = cli_status(s, CLI_ON_OUTPUT, NULL);
    strata_context_destroy(ctx);
    return rc;
}

static const cli_option options[] = {
    { "json", 0, CLI_FLAG, NULL, "one JSON object for the installation, then one per self-test", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_doctor = {
    "doctor", "",         "Check the installation: build, machine, one self-test per kernel variant", NULL, NULL, 0, 0,
    options,  run_doctor,
};
