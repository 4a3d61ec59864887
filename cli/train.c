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

int cli_find_data(const cli *c, const strata_task_info *about, cli_data *d)
{
    const char *command = c->command->name, *task = c->arg[0];
    *d = (cli_data){ .path = c->arg + 1, .count = c->nargs - 1 };
    if (!d->count && about->reads_files) {
        if (strcmp(task, "text") != 0)
            return cli_fail(CLI_INPUT, "%s: the task %s reads a file: name it after the task", command, task);
        d->found = default_data();
        if (!d->found)
            return cli_fail(CLI_INPUT,
                            "%s: no data: name text files, or set STRATA_DATA to a folder with .txt, .txt.gz or "
                            ".txt.zst files (./data is looked at too)",
                            command);
        cli_note("data: %s", d->found);
        d->path = (const char *const *)&d->found;
        d->count = 1;
    }
    int rc = CLI_OK;
    for (int32_t i = 0; !rc && i < d->count; i++) rc = check_readable(d->path[i]);
    return rc;
}

/* ---- summary ---------------------------------------------------------------------------------------------------- */
static void print_summary(const cli_progress *r, const strata_task_info *about, const char *out, bool as_json)
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
    cli_data data = { 0 };
    strata_task_info about = { .size = STRATA_INIT(strata_task_info) };
    strata_context *ctx = NULL;
    strata_config *cfg = NULL;
    if (!out) return cli_fail(CLI_USAGE, "train: --out DIR is needed");
    int rc = cli_context(c, NULL, &ctx);
    if (!rc) rc = cli_configure(c, ctx, task, cli_text(c, "model"), &cfg);
    if (!rc) rc = cli_status(strata_task_describe(task, &about), CLI_ON_INPUT, NULL);
    if (!rc && about.reads_files) /* a wrong model is said before the data are looked at */
        rc = cli_status(strata_train_check(ctx, cfg), CLI_ON_INPUT, NULL);
    if (!rc) rc = cli_find_data(c, &about, &data);
    if (!rc) {
        cli_progress r;
        cli_progress_begin(&r, "");
        cli_catch_interrupts();
        cli_ignore_broken_pipe();
        strata_status s = strata_train(ctx, cfg, data.path, data.count, out, cli_progress_on, &r);
        cli_progress_end(&r);
        rc = s == STRATA_E_INTERRUPTED
                 ? cli_fail(CLI_INTERRUPTED,
                            "interrupted at step %lld; the checkpoint is in %s, continue with the same "
                            "command and --set train.resume=1",
                            (long long)r.final.step, out)
                 : cli_status(s, CLI_ON_OUTPUT, NULL);
        if (!rc) print_summary(&r, &about, out, cli_flag(c, "json"));
    }
    free(data.found);
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
