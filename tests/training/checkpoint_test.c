/* Checkpoints: what is written comes back, and everything else is refused with the name of what is wrong. */

#include "model/checkpoint.h"

#include "training/training.h"

typedef struct blocks {
    strata_context *ctx;
    sti_model_plan *plan;
    float *p, *m, *v;
} blocks;

static blocks make(const char *spec)
{
    blocks b = { .ctx = test_context() };
    const sti_model_size size = { .base_width = 512 };
    CHECK_OK(sti_model_plan_create(b.ctx, spec, 96, &size, &b.plan));
    const sti_params *table = &b.plan->graph->params;
    float **const all[] = { &b.p, &b.m, &b.v };
    for (size_t i = 0; i < 3; i++) {
        void *x = NULL;
        CHECK_OK(sti_calloc(b.ctx, table->elements, sizeof(float), &x));
        *all[i] = x;
        sti_params_init(table, x, STRATA_F32, 7 + i, 1);
    }
    return b;
}

static void drop(blocks *b)
{
    strata_free(b->ctx, b->p);
    strata_free(b->ctx, b->m);
    strata_free(b->ctx, b->v);
    sti_model_plan_destroy(b->plan);
    strata_context_destroy(b->ctx);
    test_clean();
}

static sti_checkpoint_head head_of(const blocks *b)
{
    return (sti_checkpoint_head){ .spec = b->plan->spec,
                                  .task = "text",
                                  .vocab = 96,
                                  .base_width = 512,
                                  .step = 12,
                                  .tokens = 3456,
                                  .more = "\"config\":{}" };
}

static const char *write_one(const blocks *b, const char *name, bool moments)
{
    const sti_checkpoint_head head = head_of(b);
    const char *path = test_path(name);
    CHECK_OK(sti_checkpoint_write(b->ctx, path, &b->plan->graph->params, &head, b->p, moments ? b->m : NULL,
                                  moments ? b->v : NULL));
    return path;
}

static void round_trip(const char *spec)
{
    blocks b = make(spec);
    const char *path = write_one(&b, "step-12.safetensors", true);
    sti_checkpoint *c = NULL;
    CHECK_OK(sti_checkpoint_open(b.ctx, path, &c));
    CHECK_STR(c->spec, b.plan->spec);
    CHECK_STR(c->plan->spec, b.plan->spec); /* the canonical text parses back to itself */
    CHECK_INT(c->step, 12);
    CHECK_INT(c->tokens, 3456);
    CHECK(c->base_width == 512 && c->moments);
    const size_t bytes = (size_t)b.plan->graph->params.elements * sizeof(float);
    float *x = malloc(bytes);
    const char *const prefix[] = { "", "adam.m.", "adam.v." };
    const float *const want[] = { b.p, b.m, b.v };
    for (int i = 0; i < 3; i++) {
        memset(x, 0x7f, bytes);
        CHECK_OK(sti_checkpoint_read(c, prefix[i], x));
        CHECK(memcmp(x, want[i], bytes) == 0);
    }
    free(x);
    sti_checkpoint_close(c);

    /* a directory: the newest, or the best; and what a model says about itself */
    strata_model *m = NULL;
    CHECK_STATUS(strata_model_load(b.ctx, test_path("."), 1, &m), STRATA_E_IO);
    CHECK(m == NULL);
    (void)write_one(&b, "best.safetensors", false);
    (void)write_one(&b, "step-9.safetensors", false);
    test_put(test_path("step-99"), "x", 1);
    CHECK_OK(strata_model_load(b.ctx, test_path("."), 0, &m));
    CHECK(strstr(strata_model_path(m), "step-12.safetensors"));
    CHECK_STR(strata_model_spec(m), b.plan->spec);
    CHECK_STR(strata_model_task(m), "text");
    CHECK_INT(strata_model_step(m), 12);
    CHECK_INT(strata_model_tokens(m), 3456);
    CHECK_INT(strata_model_context(m), 16);
    CHECK(memcmp(strata_model_params(m), b.p, bytes) == 0);
    strata_param_info info;
    CHECK_OK(strata_model_param(m, 0, &info));
    CHECK_STR(info.name, "embed.weight");
    CHECK_INT(info.shape[0], 96);
    CHECK_STATUS(strata_model_param(m, strata_model_param_count(m), &info), STRATA_E_INVALID);
    strata_cost cost = { .size = STRATA_INIT(strata_cost) };
    CHECK_OK(strata_model_cost(m, 0, &cost));
    CHECK_INT(cost.params, sti_params_numel(&b.plan->graph->params));
    strata_model_destroy(m);
    CHECK_OK(strata_model_load(b.ctx, test_path("."), 1, &m));
    CHECK(strstr(strata_model_path(m), "best.safetensors"));
    strata_model_destroy(m);
    drop(&b);
}

static void comes_back(void)
{
    round_trip(TINY);
    round_trip(TINY " tied=1 pos=rotary norm=rmsnorm bias=1");
}

/* Every cut of a file is refused; so is every one of many changed bytes of its header, unless the text means the same.
 */
static void cut_and_changed(void)
{
    blocks b = make(TINY);
    const char *path = write_one(&b, "file", false), *bad = test_path("bad");
    size_t n = 0;
    char *bytes = test_get(path, &n);
    sti_checkpoint *c = NULL;
    const size_t cuts[] = { 0, 1, 7, 8, 9, 100, n / 2, n - 4, n - 1 };
    for (size_t i = 0; i < sizeof cuts / sizeof *cuts; i++) {
        test_put(bad, bytes, cuts[i]);
        CHECK_STATUS(sti_checkpoint_open(b.ctx, bad, &c), STRATA_E_FORMAT);
        CHECK(c == NULL);
        CHECK_ERROR_TEXT("bad");
    }
    for (size_t at = 0; at < 3000 && at < n; at += 13) {
        const char keep = bytes[at];
        bytes[at] = (char)(keep ^ 1);
        test_put(bad, bytes, n);
        strata_status st = sti_checkpoint_open(b.ctx, bad, &c);
        if (st != STRATA_OK && st != STRATA_E_FORMAT && st != STRATA_E_UNSUPPORTED)
            FAIL("byte %zu: %s (%s)", at, strata_status_name(st), strata_last_error());
        sti_checkpoint_close(c);
        c = NULL;
        bytes[at] = keep;
    }
    free(bytes);
    drop(&b);
}

/* The tensors of a good file, one of them changed by `how`. */
typedef enum change { NONE, MISSING, EXTRA, SHAPE, TYPE } change;

static strata_status rewritten(const blocks *b, change how, const char *meta)
{
    strata_file *f = NULL;
    strata_file_entry entry[64];
    CHECK_OK(strata_file_open(b->ctx, write_one(b, "file", false), &f));
    int32_t n = 0;
    for (int32_t i = 0; i < strata_file_count(f); i++, n++) {
        CHECK_OK(strata_file_at(f, i, &entry[n].name, &entry[n].tensor));
        if (strcmp(entry[n].name, "blocks.0.mlp.up.weight") != 0) continue;
        if (how == SHAPE)
            entry[n].tensor =
                strata_view2(entry[n].tensor.data, STRATA_F32, entry[n].tensor.shape[1], entry[n].tensor.shape[0]);
        if (how == TYPE) entry[n].tensor.dtype = STRATA_I32;
        if (how == MISSING) n--;
    }
    if (how == EXTRA) {
        entry[n] = entry[0];
        entry[n++].name = "blocks.0.mlp.up.bias";
    }
    const strata_file_pair pair = { "strata", meta ? meta : strata_file_meta(f, "strata") };
    const char *bad = test_path("bad");
    CHECK_OK(strata_file_write(b->ctx, bad, entry, n, &pair, 1));
    strata_file_close(f);
    sti_checkpoint *c = NULL;
    strata_status st = sti_checkpoint_open(b->ctx, bad, &c);
    sti_checkpoint_close(c);
    return st;
}

static void other_tensors(void)
{
    blocks b = make(TINY);
    CHECK_OK(rewritten(&b, NONE, NULL));
    CHECK_STATUS(rewritten(&b, MISSING, NULL), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("\"blocks.0.mlp.up.weight\" of the model is missing");
    CHECK_STATUS(rewritten(&b, EXTRA, NULL), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("\"blocks.0.mlp.up.bias\" is not part of the model");
    CHECK_STATUS(rewritten(&b, SHAPE, NULL), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("is (16,32) but the model says (32,16)");
    CHECK_STATUS(rewritten(&b, TYPE, NULL), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("i32, not f32");
    drop(&b);
}

static void other_metadata(void)
{
    blocks b = make(TINY);
    const struct {
        const char *meta, *text;
    } bad[] = {
        { "", "" },
        { "[]", "format" },
        { "{\"format\":2}", "version 2" },
        { "{\"format\":1}", "\"model\"" },
        { "{\"format\":1,\"model\":7}", "\"model\"" },
        { "{\"format\":1,\"model\":\"decoder\",\"task\":\"text\",\"vocab\":-1}", "\"vocab\"" },
        { "{\"format\":1,\"model\":\"decoder\",\"task\":\"text\",\"vocab\":96,\"step\":-1}", "\"step\"" },
        { "{\"format\":1,\"model\":\"encoder\",\"task\":\"text\",\"vocab\":96,\"step\":1,\"tokens\":1,"
          "\"base_width\":768,\"moments\":false}",
          "encoder" },
        { "{\"format\":1,\"model\":\"decoder layers=(\",\"task\":\"text\",\"vocab\":96,\"step\":1,\"tokens\":1,"
          "\"base_width\":768,\"moments\":false}",
          "model spec" },
        { "{\"format\":1,\"model\":\"" TINY "\",\"task\":\"text\",\"vocab\":0,\"step\":1,\"tokens\":1,"
          "\"base_width\":768,\"moments\":false}",
          "vocabulary 0" },
        { "{\"format\":1,\"model\":\"" TINY "\",\"task\":\"text\",\"vocab\":97,\"step\":1,\"tokens\":1,"
          "\"base_width\":768,\"moments\":false}",
          "(96,16) but the model says (97,16)" },
        { "{\"format\":1,\"model\":\"" TINY "\",\"task\":\"text\",\"vocab\":96,\"step\":1,\"tokens\":1,"
          "\"base_width\":768,\"moments\":true}",
          "adam.m.embed.weight" },
        { "{\"format\":1,\"model\":\"" TINY "\",\"task\":\"text\",\"vocab\":96,\"step\":1,\"tokens\":1,"
          "\"base_width\":0,\"moments\":false}",
          "base_width" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK_STATUS(rewritten(&b, NONE, bad[i].meta), STRATA_E_FORMAT);
        CHECK_ERROR_TEXT(bad[i].text);
    }
    /* a safetensors file of somebody else */
    const strata_file_entry entry = { "x", strata_view1(b.p, STRATA_F32, 4) };
    CHECK_OK(strata_file_write(b.ctx, test_path("foreign"), &entry, 1, NULL, 0));
    strata_model *m = NULL;
    CHECK_STATUS(strata_model_load(b.ctx, test_path("foreign"), 0, &m), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("not a checkpoint");
    CHECK_STATUS(strata_model_load(b.ctx, test_path("missing"), 0, &m), STRATA_E_IO);
    drop(&b);
}

static void names(void)
{
    CHECK_INT(sti_checkpoint_step_of("step-0.safetensors"), 0);
    CHECK_INT(sti_checkpoint_step_of("step-1234567.safetensors"), 1234567);
    const char *const none[] = { "step-.safetensors",
                                 "step--1.safetensors",
                                 "step-1.safetensors.tmp",
                                 "best.safetensors",
                                 "xstep-1.safetensors",
                                 "step-1.safetensor",
                                 "step-+1.safetensors",
                                 "",
                                 "step-99999999999999999999.safetensors" };
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) CHECK_INT(sti_checkpoint_step_of(none[i]), -1);
}

static void specs_that_do_not_fit(void)
{
    strata_context *ctx = test_context();
    strata_cost cost = { .size = STRATA_INIT(strata_cost) };
    const struct {
        const char *spec, *text;
    } bad[] = {
        { "decodr", "decoder" },
        { "decoder layer=2", "layers" },
        { "decoder layers=0", "layers" },
        { "decoder width=8 mixers=softmax(heads=3)", "heads" },
        { "decoder layers=1 mixers=softmax|softmax", "mixers lists 2" },
        { "decoder mlp=layernorm", "layernorm" },
        { "decoder norm=mlp", "mlp" },
        { "decoder mixers=hardmax", "hardmax" },
        { "decoder linear=dens", "dens" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        strata_status st = strata_cost_of(ctx, bad[i].spec, 0, 0, 1, 16, &cost, NULL);
        if (st != STRATA_E_SPEC && st != STRATA_E_SHAPE)
            FAIL("%s gave %s (%s)", bad[i].spec, strata_status_name(st), strata_last_error());
        CHECK_ERROR_TEXT(bad[i].text);
    }
    strata_context_destroy(ctx);
}

TESTS(T(comes_back), T(cut_and_changed), T(other_tensors), T(other_metadata), T(names), T(specs_that_do_not_fit))
