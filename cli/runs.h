#ifndef RUNS_H
#define RUNS_H
/* Runs side by side: what the commands that compare them share. */

#include "cli.h"
#include "statistics.h"

extern const char *const amount_name[BUDGETS]; /* "tokens", "FLOPs", "seconds", "steps" */
/* "1.28 M", "3 min 20 s": into b, which is returned. */
const char *amount_text(char b[CLI_NUMBER], amount a, double v);
double amount_of(const strata_progress *row, amount a); /* a < AMOUNTS */

/* The validation losses among the rows of a run's metrics; best: the least one so far instead of each. false: out of
 * memory. */
bool loss_curve_of(const strata_progress *row, int64_t rows, bool best, loss_curve *out);
void loss_curve_free(loss_curve *c);

/* Keys that change no number of a run. */
bool is_bookkeeping(const char *key);

#endif
