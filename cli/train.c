/* strata train, and where data lies when the command line names none. */
#include "cli.h"

#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- data ------------------------------------------------------------------------------------------------------- */
static int is_text(const struct dirent *e)
{
    static const char *const suffix[] = { ".txt", ".txt.zst", ".txt.gz" };
    size_t n = strlen(e->d_name);
    for (int i = 0; i < 3; i++) {
        size_t m = strlen(suffix[i]);
        if (e->d_name[0] != '.' && n > m && !strcmp(e->d_name + n - m, suffix[i])) return 1;
    }
    return 0;
}

/* The text that TASK trains on by default: english.txt* of STRATA_DATA or ./data, in it or in its folder text, else
 * the first text file there. NULL: none; heap string. */
static char *default_data(void)
{
    const char *root = getenv("STRATA_DATA");
    if (!root || !*root) root = "data";
    char *found = NULL;
    for (int sub = 1; sub >= 0 && !found; sub--) {
        char *dir = sub ? cli_join(root, "text") : cli_join(root, "");
        struct dirent **list = NULL;
        int n = dir ? scandir(dir, &list, is_text, alphasort) : -1;
        int pick = 0;
        for (int i = n; i-- > 0;)
            if (!strncmp(list[i]->d_name, "english.txt", 11)) pick = i;
        if (n > 0) found = cli_join(dir, list[pick]->d_name);
        for (int i = 0; i < n; i++) free(list[i]);
        free(list);
        free(dir);
    }
    return found;
}

static int check_readable(const char *path)
{
    struct stat st;
    if (stat(path, &st) != 0 || access(path, R_OK) != 0) return cli_fail(CLI_INPUT, "%s: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode)) return cli_fail(CLI_INPUT, "%s: is a directory; name its files", path);
    return CLI_OK;
}

/* ---- progress --------------------------------------------------------------------------------------------------- */
typedef struct reporter {
    bool tty, json;
    double last, started; /* seconds, of the last line and of the start */
    double last_val;
    bool line_open;
    strata_progress final;
    double best_val;
} reporter;

static void clear_line(reporter *r)
{
    if (r->line_open) (void)fputs("\r\033[K", stderr);
    r->line_open = false;
}

static void print_line(reporter *r, const strata_progress *p)
{
    char eta[CLI_NUMBER], rate[CLI_NUMBER], val[CLI_NUMBER] = "";
    double left = p->tokens_per_s > 0 && p->step > 0
                      ? (double)p->tokens / (double)p->step * (double)(p->steps - p->step) / p->tokens_per_s
                      : (double)NAN;
    if (r->last_val > 0) (void)snprintf(val, sizeof val, "  val %.4f", r->last_val);
    (void)fprintf(stderr, "%sstep %lld/%lld  loss %.4f%s  %s tokens/s  ETA %s%s", r->tty ? "\r" : "",
                  (long long)p->step, (long long)p->steps, p->loss, val, cli_si(rate, p->tokens_per_s),
                  cli_duration(eta, left), r->tty ? "\033[K" : "\n");
    (void)fflush(stderr);
    r->line_open = r->tty;
}

static int on_progress(void *user, const strata_progress *p)
{
    reporter *r = user;
    double now = cli_now();
    if (p->event == STRATA_EVENT_NOTE && p->text) {
        clear_line(r);
        cli_note("%s", p->text);
    }
    if (p->event != STRATA_EVENT_STEP && p->event != STRATA_EVENT_EVAL) return cli_interrupted();
    double old_val = r->final.val_loss;
    r->final = *p;
    r->final.text = NULL;
    if (isfinite(p->val_loss)) {
        r->last_val = p->val_loss;
        if (!(r->best_val <= p->val_loss)) r->best_val = p->val_loss;
    } else {
        r->final.val_loss = old_val;
    }
    bool eval = p->event == STRATA_EVENT_EVAL;
    if (eval || now - r->last >= (r->tty ? 0.2 : 10)) {
        r->last = now;
        print_line(r, p);
        if (eval && r->tty) {
            (void)fputc('\n', stderr);
            r->line_open = false;
        }
    }
    return cli_interrupted();
}

static void print_summary(const reporter *r, const strata_task_info *about, const char *out, bool as_json)
{
    const strata_progress *p = &r->final;
    char a[CLI_NUMBER], b[CLI_NUMBER];
    if (as_json) {
        json j = json_begin(stdout);
        json_text(&j, "run", out);
        json_int(&j, "step", p->step);
        json_int(&j, "tokens", p->tokens);
        json_num(&j, "flops", p->flops);
        json_num(&j, "seconds", p->seconds);
        json_num(&j, "loss", p->loss);
        json_num(&j, "val_loss", r->last_val > 0 ? r->last_val : (double)NAN);
        json_num(&j, "best_val_loss", r->best_val);
        json_num(&j, "tokens_per_s", p->seconds > 0 ? (double)p->tokens / p->seconds : (double)NAN);
        json_end(&j);
        return;
    }
    (void)printf("run         %s\nsteps       %lld\n", out, (long long)p->step);
    (void)printf("tokens      %s\n", cli_si(a, (double)p->tokens));
    (void)printf("FLOPs       %s\n", cli_si(a, p->flops));
    (void)printf("time        %s", cli_duration(a, p->seconds));
    if (p->seconds > 0)
        (void)printf(", %s tokens/s, %sFLOP/s", cli_si(a, (double)p->tokens / p->seconds),
                     cli_si(b, p->flops / p->seconds));
    if (about->numbers) {
        (void)printf("\nloss        %.4f squared error\n", p->loss);
        if (r->last_val > 0) (void)printf("validation  %.4f, best %.4f\n", r->last_val, r->best_val);
        return;
    }
    (void)printf("\nloss        %.4f nats per token\n", p->loss);
    if (r->last_val > 0)
        (void)printf("validation  %.4f nats (%.4f bits), best %.4f nats\n", r->last_val, r->last_val / log(2),
                     r->best_val);
}

/* ---- command ---------------------------------------------------------------------------------------------------- */
static int run_train(cli *c)
{
    const char *task = c->arg[0], *out = cli_text(c, "out");
    const char *const *data = c->arg + 1;
    int32_t ndata = c->nargs - 1;
    char *fallback = NULL;
    strata_task_info about = { .size = STRATA_INIT(strata_task_info) };
    strata_context *ctx = NULL;
    strata_config *cfg = NULL;
    if (!out) return cli_fail(CLI_USAGE, "train: --out DIR is needed");
    int rc = cli_context(c, NULL, &ctx);
    if (!rc) rc = cli_configure(c, ctx, task, &cfg);
    if (!rc) rc = cli_status(strata_task_describe(task, &about), CLI_ON_INPUT, NULL);
    if (!rc && about.reads_files) /* a wrong model is said before the data are looked at */
        rc = cli_status(strata_train_check(ctx, cfg), CLI_ON_INPUT, NULL);
    if (!rc && !ndata && about.reads_files && strcmp(task, "text"))
        rc = cli_fail(CLI_INPUT, "train: the task %s reads a file: name it after the task", task);
    if (!rc && !ndata && about.reads_files) {
        fallback = default_data();
        if (!fallback)
            rc = cli_fail(CLI_INPUT, "train: no data: name text files, or set STRATA_DATA to a folder with .txt, "
                                     ".txt.gz or .txt.zst files (./data is looked at too)");
        else
            cli_note("data: %s", fallback);
        data = (const char *const *)&fallback;
        ndata = 1;
    }
    for (int32_t i = 0; !rc && i < ndata; i++) rc = check_readable(data[i]);
    if (!rc) {
        reporter r = { .tty = isatty(STDERR_FILENO) != 0,
                       .best_val = (double)NAN,
                       .final = { .val_loss = (double)NAN } };
        r.started = r.last = cli_now();
        cli_catch_interrupts();
        cli_ignore_broken_pipe();
        strata_status s = strata_train(ctx, cfg, data, ndata, out, on_progress, &r);
        clear_line(&r);
        rc = s == STRATA_E_INTERRUPTED
                 ? cli_fail(CLI_INTERRUPTED,
                            "interrupted at step %lld; the checkpoint is in %s, continue with the same "
                            "command and --set train.resume=1",
                            (long long)r.final.step, out)
                 : cli_status(s, CLI_ON_OUTPUT, NULL);
        if (!rc) print_summary(&r, &about, out, cli_flag(c, "json"));
    }
    free(fallback);
    strata_config_destroy(cfg);
    strata_context_destroy(ctx);
    return rc;
}

static const cli_option options[] = {
    { "model", 'm', CLI_TEXT, "SPEC", "the model", NULL, 0, 0 },
    { "out", 'o', CLI_TEXT, "DIR", "folder of the run: configuration, metrics, checkpoints", NULL, 0, 0 },
    { "config", 'c', CLI_TEXT, "FILE", "read 'section.key = value' lines", NULL, 0, 0 },
    { "set", 's', CLI_TEXT, "KEY=VALUE", "set one value; repeatable", NULL, 0, 0 },
    { "json", 0, CLI_FLAG, NULL, "print the summary as a JSON object", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_train = {
    "train",
    "TASK [DATA…] --model SPEC --out DIR",
    "Train a model",
    "Data are files, plain, .gz or .zst: texts, or for the task forecast one table (CSV) or .tsf file. Without DATA "
    "the\n"
    "task text uses that of STRATA_DATA, else of ./data. Tasks that make their own data (strata help keys task) take\n"
    "none.\n"
    "Ctrl-C writes a checkpoint and exits with 130; --set train.resume=1 continues from the newest checkpoint with "
    "the\n"
    "same bits as an uninterrupted run. All keys: strata config --show.",
    "strata train text book.txt --model \"decoder layers=4 width=128\" --out runs/a\n"
    "strata train text book.txt --model \"decoder layers=4 width=128 mixers=softmax(heads=4 score=mlr levels=3)\" "
    "--out runs/b --set train.steps=2000\n"
    "strata train regression --model \"decoder layers=6 width=64 mixers=softmax(heads=8)\" --out runs/c --set "
    "train.lr=3e-4\n"
    "strata train forecast table.csv --model \"dlinear\" --out runs/d --set forecast.horizon=24",
    1,
    -1,
    options,
    run_train,
};
