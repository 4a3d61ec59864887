/* Runs side by side. */
#include "runs.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

const char *const amount_name[BUDGETS] = { "tokens", "FLOPs", "seconds", "steps" };

const char *amount_text(char b[CLI_NUMBER], amount a, double v)
{
    if (!isfinite(v)) return "-";
    if (a == BY_SECONDS && v < 10)
        (void)snprintf(b, CLI_NUMBER, "%.3g s", v);
    else
        (void)(a == BY_SECONDS ? cli_duration(b, v) : cli_si(b, v));
    return b;
}

double amount_of(const strata_progress *row, amount a)
{
    return a == BY_TOKENS ? (double)row->tokens : a == BY_FLOPS ? row->flops : row->seconds;
}

bool loss_curve_of(const strata_progress *row, int64_t rows, bool best, loss_curve *out)
{
    const size_t n = (size_t)rows + 1;
    double *block = calloc(n * (AMOUNTS + 1), sizeof *block);
    *out = (loss_curve){ .loss = block };
    if (!block) return false;
    for (int a = 0; a < AMOUNTS; a++) out->x[a] = block + (size_t)(a + 1) * n;
    for (int64_t i = 0; i < rows; i++) {
        double loss = row[i].val_loss;
        if (!isfinite(loss)) continue;
        if (best && out->n) loss = fmin(loss, out->loss[out->n - 1]);
        for (int a = 0; a < AMOUNTS; a++) out->x[a][out->n] = amount_of(&row[i], (amount)a);
        out->loss[out->n++] = loss;
    }
    return true;
}

void loss_curve_free(loss_curve *c)
{
    free(c->loss);
    *c = (loss_curve){ .n = 0 };
}

bool is_bookkeeping(const char *key)
{
    static const char *const keys[] = { "train.resume",     "train.keep",       "train.log_every",
                                        "train.eval_every", "train.save_every", "train.accept_data" };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        if (!strcmp(keys[i], key)) return true;
    return false;
}
