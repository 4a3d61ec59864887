/* The device's heads and the loss behind them against the CPU in f64; with a bias, the linear stage's too. */
#include "core/spec.h"
#include "layer/layer.h"
#include "operator/operator.h"
#include "support/device.h"

enum { WIDTH = 32 };
static int64_t vocab;

static sti_spec *dense(void)
{
    sti_spec *s;
    CHECK_OK(sti_spec_parse("dense", &s));
    return s;
}

static int32_t tied(sti_graph *g, int32_t in)
{
    sti_spec *s = dense();
    const int32_t out = sti_graph_head(g, "head", s, vocab, sti_graph_embedding(g, "embed", vocab, WIDTH, in), 1, 0.5);
    sti_spec_free(s);
    return out;
}

static int32_t scaled(sti_graph *g, int32_t in)
{
    sti_spec *s = dense();
    const int32_t out = sti_graph_head(g, "head", s, vocab, in, 0, 0.25);
    sti_spec_free(s);
    return out;
}

static int32_t loss(sti_graph *g, int32_t in)
{
    sti_spec *s = dense();
    const int32_t x = sti_graph_embedding(g, "embed", vocab, WIDTH, in);
    const int32_t out = sti_graph_cross_entropy(g, "loss", sti_graph_head(g, "head", s, vocab, x, 1, 4), in);
    sti_spec_free(s);
    return out;
}

static int32_t biased(sti_graph *g, int32_t in)
{
    sti_spec *s = dense();
    const int32_t out = sti_graph_linear(g, "linear", s, vocab, in, true, false);
    sti_spec_free(s);
    return out;
}

/* Sums over WIDTH or `vocab` products; in bf16 the logits are rounded before the next stage reads them. */
static void all(void)
{
    static const int64_t sizes[] = { 7, 96, 129, 1025 };
    device d = device_open();
    for (size_t i = 0; i < STI_COUNT(sizes); i++) {
        vocab = sizes[i];
        device_check(&d, &(device_graph){ .name = "tied head",
                                          .build = tied,
                                          .batch = 3,
                                          .time = 37,
                                          .width = 1,
                                          .vocab = vocab,
                                          .terms = WIDTH,
                                          .chain = 1 });
        device_check(&d, &(device_graph){ .name = "scaled head",
                                          .build = scaled,
                                          .batch = 3,
                                          .time = 37,
                                          .width = WIDTH,
                                          .terms = WIDTH,
                                          .chain = 1 });
        device_check(&d, &(device_graph){ .name = "loss",
                                          .build = loss,
                                          .batch = 3,
                                          .time = 37,
                                          .width = 1,
                                          .vocab = vocab,
                                          .loss = 1,
                                          .terms = WIDTH,
                                          .chain = 1 });
        device_check(
            &d,
            &(device_graph){
                .name = "bias", .build = biased, .batch = 3, .time = 129, .width = WIDTH, .terms = WIDTH, .chain = 1 });
    }
    device_close(&d);
}

TESTS(T(all))
