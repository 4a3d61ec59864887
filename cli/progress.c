/* The progress of a training run on stderr: one line that is written over on a terminal, else a line now and then. */
#include "cli.h"

#include <math.h>
#include <unistd.h>

void cli_progress_begin(cli_progress *r, const char *label)
{
    *r = (cli_progress){ .tty = isatty(STDERR_FILENO) != 0,
                         .label = label,
                         .last = cli_now(),
                         .best_val = (double)NAN,
                         .final = { .val_loss = (double)NAN } };
}

void cli_progress_end(cli_progress *r)
{
    if (r->line_open) (void)fputs("\r\033[K", stderr);
    r->line_open = false;
}

static void print_line(cli_progress *r, const strata_progress *p)
{
    char eta[CLI_NUMBER], rate[CLI_NUMBER], val[CLI_NUMBER] = "";
    double left = p->tokens_per_s > 0 && p->step > 0
                      ? (double)p->tokens / (double)p->step * (double)(p->steps - p->step) / p->tokens_per_s
                      : (double)NAN;
    if (r->last_val > 0) (void)snprintf(val, sizeof val, "  val %.4f", r->last_val);
    (void)fprintf(stderr, "%s%sstep %lld/%lld  loss %.4f%s  %s tokens/s  ETA %s%s", r->tty ? "\r" : "", r->label,
                  (long long)p->step, (long long)p->steps, p->loss, val, cli_si(rate, p->tokens_per_s),
                  cli_duration(eta, left), r->tty ? "\033[K" : "\n");
    (void)fflush(stderr);
    r->line_open = r->tty;
}

int cli_progress_on(void *user, const strata_progress *p)
{
    cli_progress *r = user;
    double now = cli_now();
    if (p->event == STRATA_EVENT_NOTE && p->text) {
        cli_progress_end(r);
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
