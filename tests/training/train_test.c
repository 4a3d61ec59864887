/* Whole runs through the public calls: learning, resuming, being killed, refusing. */

#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>

#include <strata/file.h>

#include "training/training.h"

static strata_status train(const char *const *pair, const char *data, const char *out, strata_progress_fn fn,
                           void *user)
{
    strata_context *ctx = test_context();
    strata_config *c = test_config(ctx, pair);
    strata_status st = strata_train(ctx, c, &data, 1, test_path(out), fn, user);
    strata_config_destroy(c);
    strata_context_destroy(ctx);
    return st;
}

/* All tensors of two checkpoints have the same bits. */
static void same_checkpoint(const char *a, const char *b)
{
    strata_context *ctx = test_context();
    strata_file *x = NULL, *y = NULL;
    CHECK_OK(strata_file_open(ctx, test_path(a), &x));
    CHECK_OK(strata_file_open(ctx, test_path(b), &y));
    CHECK_INT(strata_file_count(x), strata_file_count(y));
    for (int32_t i = 0; i < strata_file_count(x); i++) {
        const char *name = NULL;
        strata_tensor s, t;
        CHECK_OK(strata_file_at(x, i, &name, &s));
        CHECK_OK(strata_file_get(y, name, &t));
        CHECK_INT(strata_tensor_count(&s), strata_tensor_count(&t));
        if (memcmp(s.data, t.data, (size_t)strata_tensor_count(&s) * strata_dtype_size(s.dtype)) != 0)
            FAIL("%s and %s differ in %s", a, b, name);
    }
    strata_file_close(x);
    strata_file_close(y);
    strata_context_destroy(ctx);
}

/* All rows agree in every number that is not a time. */
static void same_metrics(const char *a, const char *b)
{
    strata_metrics *x = NULL, *y = NULL;
    CHECK_OK(strata_metrics_open(test_path(a), &x));
    CHECK_OK(strata_metrics_open(test_path(b), &y));
    CHECK(strata_metrics_count(x) > 0);
    CHECK_INT(strata_metrics_count(x), strata_metrics_count(y));
    for (int64_t i = 0; i < strata_metrics_count(x); i++) {
        strata_progress p, q;
        CHECK_OK(strata_metrics_at(x, i, &p));
        CHECK_OK(strata_metrics_at(y, i, &q));
        CHECK_INT(p.step, q.step);
        CHECK_INT(p.tokens, q.tokens);
        const double u[] = { p.flops, p.loss, p.val_loss, p.lr, p.grad_norm },
                     v[] = { q.flops, q.loss, q.val_loss, q.lr, q.grad_norm };
        for (size_t k = 0; k < sizeof u / sizeof *u; k++)
            if (!(u[k] >= v[k] && u[k] <= v[k]) && !(isnan(u[k]) && isnan(v[k])))
                FAIL("%s and %s differ at step %lld: field %zu is %.17g and %.17g", a, b, (long long)p.step, k, u[k],
                     v[k]);
    }
    strata_metrics_close(x);
    strata_metrics_close(y);
}

static int count_checkpoints(const char *run)
{
    int n = 0;
    DIR *d = opendir(test_path(run));
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d)) n += strncmp(e->d_name, "step-", 5) == 0;
    if (d) closedir(d);
    return n;
}

/* Files that no finished run has: temporaries of the atomic writer. */
static int count_strangers(const char *run)
{
    int n = 0;
    DIR *d = opendir(test_path(run));
    for (struct dirent *e = d ? readdir(d) : NULL; e; e = readdir(d))
        n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0 && strcmp(e->d_name, ".lock") != 0 &&
             strncmp(e->d_name, "step-", 5) != 0 && strcmp(e->d_name, "best.safetensors") != 0 &&
             strcmp(e->d_name, "metrics.jsonl") != 0 && strcmp(e->d_name, "config.conf") != 0;
    if (d) closedir(d);
    return n;
}

static double unigram_entropy(const char *path)
{
    size_t n = 0;
    char *s = test_get(path, &n);
    double count[256] = { 0 }, h = 0;
    for (size_t i = 0; i < n; i++) count[(unsigned char)s[i]]++;
    for (int i = 0; i < 256; i++)
        if (count[i] > 0) h -= count[i] / (double)n * log(count[i] / (double)n);
    free(s);
    return h;
}

static void learns(void)
{
    const char *data = test_text("text", 20000);
    CHECK_OK(train(PAIRS("train.steps", "150", "train.eval_every", "50", "train.save_every", "25"), data, "run", NULL,
                   NULL));
    CHECK_INT(count_checkpoints("run"), 2); /* train.keep */
    CHECK(test_exists(test_path("run/step-150.safetensors")));
    CHECK(test_exists(test_path("run/best.safetensors")));

    strata_metrics *m = NULL;
    strata_progress row;
    CHECK_OK(strata_metrics_open(test_path("run"), &m));
    CHECK_INT(strata_metrics_count(m), 15); /* log_every=10 */
    CHECK_OK(strata_metrics_at(m, 14, &row));
    CHECK_INT(row.step, 150);
    CHECK_INT(row.tokens, 150 * 4 * 16);
    const double val = row.val_loss;
    if (!(val < 0.5 * unigram_entropy(data)))
        FAIL("validation loss %g, but the unigram entropy is %g", val, unigram_entropy(data));
    CHECK_OK(strata_metrics_at(m, 0, &row));
    CHECK_INT(row.step, 10);
    CHECK(isnan(row.val_loss));
    CHECK(row.loss > val);
    strata_metrics_close(m);

    /* evaluation of the run on its own data gives the same number again, and scores all tokens but one */
    strata_context *ctx = test_context();
    strata_eval_result e = { .size = STRATA_INIT(strata_eval_result) };
    CHECK_OK(strata_evaluate(ctx, test_path("run"), 0, NULL, 0, &e));
    CHECK_INT(e.tokens, 999);
    CHECK(e.nats >= val && e.nats <= val);
    CHECK(fabs(e.bits - val / log(2.0)) < 1e-15);
    CHECK_OK(strata_evaluate(ctx, test_path("run"), 1, &data, 1, &e));
    CHECK_INT(e.tokens, 19999);
    CHECK_STATUS(strata_evaluate(ctx, test_path("nothing"), 0, NULL, 0, &e), STRATA_E_IO);

    /* the written configuration is a configuration */
    strata_config *c = NULL;
    CHECK_OK(strata_config_create(ctx, "text", &c));
    CHECK_OK(strata_config_load(c, test_path("run/config.conf")));
    CHECK_STR(strata_config_get(c, "train.steps"), "150");
    CHECK_STR(strata_config_get(c, "model.spec"), TINY);
    strata_config_destroy(c);
    strata_context_destroy(ctx);
    test_clean();
}

#define SHORT "train.eval_every", "10", "train.save_every", "5", "train.keep", "9", "train.log_every", "3"

static void resume_has_the_same_bits(void)
{
    const char *data = test_text("text", 3000);
    CHECK_OK(train(PAIRS(SHORT, "train.steps", "30", "train.accum", "2"), data, "whole", NULL, NULL));
    CHECK_OK(train(PAIRS(SHORT, "train.steps", "20", "train.accum", "2"), data, "parts", NULL, NULL));
    CHECK_OK(
        train(PAIRS(SHORT, "train.steps", "30", "train.accum", "2", "train.resume", "1"), data, "parts", NULL, NULL));
    same_checkpoint("whole/step-30.safetensors", "parts/step-30.safetensors");
    same_checkpoint("whole/best.safetensors", "parts/best.safetensors");

    /* a run that has come to its end stays as it is */
    CHECK_OK(
        train(PAIRS(SHORT, "train.steps", "30", "train.accum", "2", "train.resume", "1"), data, "parts", NULL, NULL));
    same_checkpoint("whole/step-30.safetensors", "parts/step-30.safetensors");
    test_clean();
}

typedef struct stop {
    int32_t event;
    int64_t step;
    bool dead; /* kill the process; else ask for the end */
} stop;

static int stop_at(void *user, const strata_progress *p)
{
    const stop *s = user;
    if (p->event != s->event || p->step < s->step) return 0;
    if (s->dead) (void)kill(getpid(), SIGKILL);
    return 1;
}

static void interrupts_keep_everything(void)
{
    const char *data = test_text("text", 3000);
    const char *const *last = PAIRS(SHORT, "train.steps", "20", "train.accum", "2", "train.resume", "1");
    CHECK_OK(train(PAIRS(SHORT, "train.steps", "20", "train.accum", "2"), data, "whole", NULL, NULL));
    const stop stops[] = { { STRATA_EVENT_STEP, 7, false },
                           { STRATA_EVENT_TICK, 8, false },
                           { STRATA_EVENT_EVAL, 10, false },
                           { STRATA_EVENT_CHECKPOINT, 15, false },
                           { STRATA_EVENT_STEP, 17, false } };
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        stop s = stops[i];
        CHECK_STATUS(train(last, data, "parts", stop_at, &s), STRATA_E_INTERRUPTED);
        CHECK_ERROR_TEXT("interrupted");
    }
    CHECK_OK(train(last, data, "parts", NULL, NULL));
    same_checkpoint("whole/step-20.safetensors", "parts/step-20.safetensors");
    same_metrics("whole", "parts");
    test_clean();
}

/* Train in a child process that dies by itself. */
static int child(const char *const *pair, const char *data, const char *out, stop *s, long alarm_us)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        if (alarm_us > 0) {
            const struct itimerval t = { .it_value = { .tv_usec = alarm_us } };
            setitimer(ITIMER_REAL, &t, NULL); /* its signal ends the process on the spot, as SIGKILL does */
        }
        strata_context *ctx = NULL;
        strata_config *c = NULL;
        strata_status st = strata_context_create("threads=1", NULL, &ctx);
        if (st == STRATA_OK) c = test_config(ctx, pair);
        if (st == STRATA_OK) st = strata_train(ctx, c, &data, 1, test_path(out), s ? stop_at : NULL, s);
        if (st != STRATA_OK) fprintf(stderr, "child: %s\n", strata_last_error());
        _exit(st == STRATA_OK ? 0 : 1);
    }
    int status = 0;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    return status;
}

static void killed_runs_continue(void)
{
    const char *data = test_text("text", 3000);
    const char *const *pair = PAIRS(SHORT, "train.steps", "30", "train.resume", "1");
    CHECK_OK(train(pair, data, "whole", NULL, NULL));
    const stop stops[] = { { STRATA_EVENT_STEP, 3, true },
                           { STRATA_EVENT_STEP, 8, true },
                           { STRATA_EVENT_EVAL, 10, true },
                           { STRATA_EVENT_CHECKPOINT, 15, true },
                           { STRATA_EVENT_STEP, 19, true } };
    for (size_t i = 0; i < sizeof stops / sizeof *stops; i++) {
        stop s = stops[i];
        int status = child(pair, data, "parts", &s, 0);
        CHECK(WIFSIGNALED(status));
    }
    CHECK_OK(train(pair, data, "parts", NULL, NULL));
    same_checkpoint("whole/step-30.safetensors", "parts/step-30.safetensors");
    same_metrics("whole", "parts");
    test_clean();
}

/* A checkpoint after every step, and death at moments that nobody chose. */
static void killed_at_any_moment(void)
{
    const char *data = test_text("text", 3000);
    const char *const *pair = PAIRS("train.steps", "12", "train.resume", "1", "train.save_every", "1",
                                    "train.eval_every", "2", "train.log_every", "1");
    CHECK_OK(train(pair, data, "whole", NULL, NULL));
    int deaths = 0, status = 1;
    for (long i = 0; i < 40 && status != 0; i++) {
        status = child(pair, data, "parts", NULL, 9000 + 1700 * i);
        CHECK(WIFSIGNALED(status) || (WIFEXITED(status) && WEXITSTATUS(status) == 0));
        deaths += WIFSIGNALED(status) != 0;
    }
    test_put(test_path("parts/.strata-1-2-3.tmp"), "half", 4);
    CHECK_OK(train(pair, data, "parts", NULL, NULL)); /* the rest, if any */
    CHECK(deaths > 0);
    CHECK_INT(count_strangers("parts"), 0); /* what the killed ones left was swept away */
    same_checkpoint("whole/step-12.safetensors", "parts/step-12.safetensors");
    same_metrics("whole", "parts");
    test_clean();
}

static void what_resume_refuses(void)
{
    const char *data = test_text("text", 3000), *other = test_text("other", 3000);
    char *copy = test_get(other, NULL);
    copy[1500] = '#';
    test_put(other, copy, 3000);
    free(copy);
    CHECK_OK(train(PAIRS("train.steps", "4"), data, "run", NULL, NULL));
    CHECK_STATUS(train(PAIRS("train.steps", "8"), data, "run", NULL, NULL), STRATA_E_INVALID);
    CHECK_ERROR_TEXT("step 4");
    CHECK_STATUS(train(PAIRS("train.steps", "8", "train.resume", "1", "model.spec", TINY " pos=rotary"), data, "run",
                       NULL, NULL),
                 STRATA_E_SPEC);
    CHECK_ERROR_TEXT("pos=rotary");
    CHECK_STATUS(train(PAIRS("train.steps", "8", "train.resume", "1"), other, "run", NULL, NULL), STRATA_E_FORMAT);
    CHECK_ERROR_TEXT("other contents");
    CHECK_STATUS(
        train(PAIRS("train.steps", "8", "train.resume", "1", "text.val_fraction", "0.2"), data, "run", NULL, NULL),
        STRATA_E_SPEC);
    CHECK_ERROR_TEXT("text.val_fraction");
    CHECK_STATUS(
        train(PAIRS("train.steps", "8", "train.resume", "1", "text.tokenizer", "byte"), data, "run", NULL, NULL),
        STRATA_E_SPEC);
    CHECK(!test_exists(test_path("run/step-8.safetensors")));
    CHECK_OK(train(PAIRS("train.steps", "8", "train.resume", "1", "train.accept_data", "1"), other, "run", NULL, NULL));
    CHECK(test_exists(test_path("run/step-8.safetensors")));

    /* evaluating on data that changed under the run */
    test_put(other, "short text, but long enough to score", 36);
    strata_context *ctx = test_context();
    strata_eval_result e = { .size = STRATA_INIT(strata_eval_result) };
    strata_status st = strata_evaluate(ctx, test_path("run"), 0, NULL, 0, &e);
    CHECK(st == STRATA_E_FORMAT || st == STRATA_E_SHAPE);
    strata_context_destroy(ctx);
    test_clean();
}

/* A run that starts from another's parameters and does not move has its loss. */
static void starts_from_another_run(void)
{
    const char *data = test_text("text", 3000), *from = test_path("run");
    strata_context *ctx = test_context();
    strata_eval_result a = { .size = STRATA_INIT(strata_eval_result) }, b = a;
    CHECK_OK(train(PAIRS("train.steps", "4"), data, "run", NULL, NULL));
    CHECK_OK(train(PAIRS("train.steps", "1", "train.lr", "0", "train.init", from), data, "next", NULL, NULL));
    CHECK_OK(strata_evaluate(ctx, from, 0, NULL, 0, &a));
    CHECK_OK(strata_evaluate(ctx, test_path("next"), 0, NULL, 0, &b));
    CHECK(memcmp(&a.nats, &b.nats, sizeof a.nats) == 0);
    CHECK_STATUS(train(PAIRS("train.init", from, "model.spec", TINY " pos=rotary"), data, "x", NULL, NULL),
                 STRATA_E_SPEC);
    CHECK_ERROR_TEXT("pos=rotary");
    CHECK_STATUS(train(PAIRS("train.init", from, "train.base_width", "16"), data, "x", NULL, NULL), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("train.base_width is 768");
    CHECK_STATUS(train(PAIRS("train.init", from, "text.tokenizer", "byte"), data, "x", NULL, NULL), STRATA_E_SPEC);
    CHECK_ERROR_TEXT("96 tokens, but this run's 256");
    CHECK_STATUS(train(PAIRS("train.init", "/none"), data, "x", NULL, NULL), STRATA_E_IO);
    CHECK_ERROR_TEXT("train.init");
    strata_context_destroy(ctx);
    test_clean();
}

/* Replace a parameter of a checkpoint by NaN: the next step must stop there and leave the files alone. */
static void a_loss_that_is_not_finite(void)
{
    const char *data = test_text("text", 3000);
    CHECK_OK(train(PAIRS("train.steps", "4"), data, "run", NULL, NULL));
    const char *path = test_path("run/step-4.safetensors");
    strata_context *ctx = test_context();
    strata_file *f = NULL;
    strata_tensor t;
    CHECK_OK(strata_file_open(ctx, path, &f));
    CHECK_OK(strata_file_get(f, "norm.weight", &t));
    size_t n = 0;
    char *bytes = test_get(path, &n);
    const float bad = NAN;
    size_t at = 0;
    while (at + 16 * sizeof(float) <= n && memcmp(bytes + at, t.data, 16 * sizeof(float)) != 0) at++;
    CHECK(at + 16 * sizeof(float) <= n);
    memcpy(bytes + at, &bad, sizeof bad);
    strata_file_close(f);
    test_put(path, bytes, n);
    free(bytes);
    strata_context_destroy(ctx);
    CHECK_STATUS(train(PAIRS("train.steps", "8", "train.resume", "1"), data, "run", NULL, NULL), STRATA_E_NUMERIC);
    CHECK_ERROR_TEXT("step 5");
    CHECK_INT(count_checkpoints("run"), 1);
    test_clean();
}

static strata_status inner_status;
static const char *inner_data;

static int train_inside(void *user, const strata_progress *p)
{
    (void)user;
    if (p->event == STRATA_EVENT_STEP && p->step == 1)
        inner_status = train(PAIRS("train.steps", "2", "train.resume", "1"), inner_data, "run", NULL, NULL);
    return 0;
}

static void one_trainer_at_a_time(void)
{
    inner_data = test_text("text", 3000);
    inner_status = STRATA_OK;
    CHECK_OK(train(PAIRS("train.steps", "2"), inner_data, "run", train_inside, NULL));
    CHECK_STATUS(inner_status, STRATA_E_IO);
    test_clean();
}

static void places_that_cannot_be_written(void)
{
    const char *data = test_text("text", 3000);
    CHECK_STATUS(train(PAIRS("train.steps", "2"), data, "text/run", NULL, NULL), STRATA_E_IO);
    CHECK_ERROR_TEXT("text");
    CHECK_STATUS(train(PAIRS("train.steps", "2"), "/nonexistent", "run", NULL, NULL), STRATA_E_IO);
    CHECK(!test_exists(test_path("run")));
    CHECK_STATUS(train(PAIRS("train.steps", "2", "model.spec", "decoderr"), "/nonexistent", "run", NULL, NULL),
                 STRATA_E_SPEC); /* the spec is checked before files are opened */
    CHECK_ERROR_TEXT("decoder");
    CHECK_STATUS(train(PAIRS("train.steps", "0"), data, "run", NULL, NULL), STRATA_E_SPEC);

    /* a disk that is full after 20 kB: E_IO, and no half a checkpoint */
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        const struct rlimit limit = { 20000, 20000 };
        (void)signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        _exit(train(PAIRS("train.steps", "2"), data, "full", NULL, NULL) == STRATA_E_IO ? 0 : 1);
    }
    int status = 0;
    CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    CHECK(test_exists(test_path("full/config.conf")));
    CHECK_INT(count_checkpoints("full"), 0);
    CHECK_INT(count_strangers("full"), 0);
    CHECK(!test_exists(test_path("full/best.safetensors")));
    test_clean();
}

static void limits(void)
{
    const char *data = test_text("text", 3000);
    strata_context *ctx = test_context();
    strata_cost cost = { .size = STRATA_INIT(strata_cost) };
    char *canonical = NULL;
    CHECK_OK(strata_cost_of(ctx, TINY, 96, 0, 1, 0, &cost, &canonical));
    CHECK(cost.flops_fwd > 0 && cost.flops_bwd > 0 && cost.params > 0 && cost.cache_bytes > 0);
    strata_free_text(canonical);
    strata_config *c = test_config(ctx, PAIRS("train.batch", "2"));
    strata_cost same = { .size = STRATA_INIT(strata_cost) };
    CHECK_OK(strata_train_cost(ctx, c, &same));
    CHECK(same.params == cost.params && same.flops_fwd == cost.flops_fwd && same.flops_bwd == cost.flops_bwd);
    CHECK_STATUS(strata_train_cost(ctx, c, &(strata_cost){ 0 }), STRATA_E_INVALID);
    strata_config_destroy(c);
    c = test_config(ctx, PAIRS("model.spec", "decoder layers=1 width=32 mixers=softmax(heads=5)"));
    CHECK_STATUS(strata_train_cost(ctx, c, &same), STRATA_E_SPEC);
    strata_config_destroy(c);
    strata_context_destroy(ctx);
    /* 5.5 steps' worth of FLOPs end after 6 */
    char flops[64];
    snprintf(flops, sizeof flops, "%.17g", 5.5 * 4 * 16 * (cost.flops_fwd + cost.flops_bwd));
    CHECK_OK(train(PAIRS("train.steps", "0", "train.flops", flops), data, "flops", NULL, NULL));
    CHECK(test_exists(test_path("flops/step-6.safetensors")));
    CHECK_OK(train(PAIRS("train.steps", "0", "train.seconds", "1e-6"), data, "seconds", NULL, NULL));
    CHECK(test_exists(test_path("seconds/step-1.safetensors")));
    CHECK_OK(train(PAIRS("train.steps", "0", "train.tokens", "129"), data, "tokens", NULL, NULL)); /* 64 a step */
    CHECK(test_exists(test_path("tokens/step-3.safetensors")));
    /* both: whichever comes first; part of the validation text */
    CHECK_OK(
        train(PAIRS("train.steps", "3", "train.flops", flops, "train.eval_tokens", "40"), data, "both", NULL, NULL));
    CHECK(test_exists(test_path("both/step-3.safetensors")));
    test_clean();
}

TESTS(T(learns), T(resume_has_the_same_bits), T(interrupts_keep_everything), T(killed_runs_continue),
      T(killed_at_any_moment), T(what_resume_refuses), T(starts_from_another_run), T(a_loss_that_is_not_finite),
      T(one_trainer_at_a_time), T(places_that_cannot_be_written), T(limits))
