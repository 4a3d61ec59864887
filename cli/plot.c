/* Plots: a gnuplot script in a temporary folder, its SVG read back and made fit for a page. */
#include "plot.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

enum { GRID = 31, MAX_PATH = 512 };

/* ---- running gnuplot -------------------------------------------------------------------------------------------- */
/* Run gnuplot with one argument, silently. @return its exit status, -1 when it did not run */
static int gnuplot(const char *arg)
{
    char program[] = "gnuplot", value[MAX_PATH];
    char *argv[] = { program, value, NULL };
    posix_spawn_file_actions_t fa;
    pid_t pid;
    int status, rc = -1;
    (void)snprintf(value, sizeof value, "%s", arg);
    if (posix_spawn_file_actions_init(&fa) != 0) return -1;
    (void)posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    (void)posix_spawn_file_actions_addopen(&fa, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    (void)posix_spawn_file_actions_addopen(&fa, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (posix_spawnp(&pid, program, &fa, NULL, argv, environ) == 0) {
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
        if (WIFEXITED(status)) rc = WEXITSTATUS(status);
    }
    (void)posix_spawn_file_actions_destroy(&fa);
    return rc == 127 ? -1 : rc;
}

bool plot_available(void)
{
    static int known = -1;
    if (known < 0) known = gnuplot("--version") == 0;
    return known == 1;
}

/* ---- the script ------------------------------------------------------------------------------------------------- */
static const char *const dashes[PLOT_DASHES] = { "", "2 4", "9 5", "9 4 2 4", "18 6" };

const char *plot_dash(int pattern)
{
    return dashes[pattern];
}

/* "(9,5)" for gnuplot. */
static void put_dash(FILE *f, int pattern)
{
    if (!pattern) return;
    (void)fputs(" dt (", f);
    for (const char *s = dashes[pattern]; *s; s++) (void)fputc(*s == ' ' ? ',' : *s, f);
    (void)fputc(')', f);
}

typedef struct extent {
    double low, high;
} extent;

static void stretch(extent *e, double v)
{
    e->low = fmin(e->low, v);
    e->high = fmax(e->high, v);
}

/* Can point i be drawn? */
static bool usable(const plot *p, const plot_series *s, int i)
{
    return isfinite(s->x[i]) && isfinite(s->y[i]) && (!p->logx || s->x[i] > 0) && (!p->logy || s->y[i] > 0);
}

/* The data as blocks $d0, $d1, …, with the range that they take. @return the number of points */
static int write_data(FILE *f, const plot *p, extent *x, extent *y)
{
    int drawn = 0;
    for (int k = 0; k < p->nseries; k++) {
        const plot_series *s = &p->series[k];
        bool gap = false;
        (void)fprintf(f, "$d%d << EOD\n", k);
        for (int i = 0; i < s->n; i++) {
            if (!usable(p, s, i)) {
                gap = true;
                continue;
            }
            const double least = s->low ? s->low[i] : s->y[i], largest = s->high ? s->high[i] : s->y[i];
            (void)fprintf(f, "%s%.9g %.9g %.9g %.9g\n", gap ? "\n" : "", s->x[i], s->y[i], least, largest);
            gap = false;
            stretch(x, s->x[i]);
            stretch(y, least);
            stretch(y, largest);
            drawn++;
        }
        (void)fputs("EOD\n", f);
    }
    return drawn;
}

/* "200 k", so that a number of five and more digits is readable. */
static void put_tic(FILE *f, double v)
{
    static const char *const prefix[] = { "", "k", "M", "G", "T", "P", "E" };
    int k = 0;
    if (v >= 1e4)
        for (; k < 6 && v >= 999.5; k++) v /= 1000;
    (void)fprintf(f, "'%.4g%s%s' ", v, k ? " " : "", prefix[k]);
}

/* Tics of a logarithmic axis: 1, 2, 5, 10 … over more than a decade, else equal steps. */
static void put_log_tics(FILE *f, char axis, const extent *e)
{
    const double range = e->high / e->low;
    bool first = true;
    (void)fprintf(f, "set logscale %c\nset %ctics (", axis, axis);
    if (range < 8) {
        const double raw = (e->high - e->low) / 4, unit = pow(10, floor(log10(raw)));
        const double step = unit * (raw / unit < 1.5 ? 1 : raw / unit < 3.5 ? 2 : raw / unit < 7.5 ? 5 : 10);
        for (double v = ceil(e->low / step) * step; v <= e->high; v += step, first = false) {
            (void)fputs(first ? "" : ", ", f);
            put_tic(f, v);
            (void)fprintf(f, "%.9g", v);
        }
    } else {
        static const double digit[] = { 1, 2, 5 };
        const int each = range < 300 ? 3 : 1, stride = range > 1e7 ? 2 : 1;
        for (int d = (int)floor(log10(e->low)); d <= (int)ceil(log10(e->high)); d += stride)
            for (int k = 0; k < each; k++) {
                const double v = digit[k] * pow(10, d);
                if (v < e->low || v > e->high) continue;
                (void)fputs(first ? "" : ", ", f);
                put_tic(f, v);
                (void)fprintf(f, "%.9g", v);
                first = false;
            }
    }
    (void)fputs(")\n", f);
}

static void widen(extent *e, double margin)
{
    e->low /= margin;
    e->high *= margin;
}

static void put_axes(FILE *f, const plot *p, extent x, extent y)
{
    if (p->logx) {
        widen(&x, pow(x.high / x.low, 0.04) * 1.01);
        put_log_tics(f, 'x', &x);
    } else {
        x.low = fmin(x.low, 0);
        x.high = x.high > 0 ? x.high + 0.02 * (x.high - x.low) : 1;
        if (p->xtics)
            (void)fprintf(f, "set xtics (%s)\n", p->xtics);
        else
            (void)fputs("set xtics autofreq\n", f);
    }
    if (p->ymax > 0) y.high = fmin(y.high, p->ymax);
    if (p->logy) {
        widen(&y, pow(y.high / y.low, 0.06) * 1.005);
        put_log_tics(f, 'y', &y);
    } else {
        const double margin = y.high > y.low ? 0.05 * (y.high - y.low) : 0.1 * fabs(y.high) + 1e-9;
        y.low = p->from_zero ? 0 : y.low - margin;
        y.high += margin;
    }
    (void)fprintf(f, "set xrange [%.9g:%.9g]\nset yrange [%.9g:%.9g]\n", x.low, x.high, y.low, y.high);
}

static const char *line_style(const plot_series *s)
{
    return s->style == PLOT_POINTS                         ? "points pt 7 ps 0.8"
           : s->style != PLOT_LINE || s->dash || s->n > 60 ? "lines"
                                                           : "linespoints pt 7 ps 0.45";
}

static bool write_script(FILE *f, const plot *p, const char *svg)
{
    extent x = { HUGE_VAL, -HUGE_VAL }, y = x;
    if (write_data(f, p, &x, &y) == 0) return false;
    (void)fprintf(f,
                  "set terminal svg size %d,%d dynamic font 'inherit,15'\nset output '%s'\n"
                  "set border 3 lc rgb '#01021e'\nset tics nomirror out scale 0.5 textcolor rgb '#01021e'\n"
                  "set grid ytics lc rgb '#01021f' lw 1 dt 1\nset xlabel '%s' textcolor rgb '#01021e'\n"
                  "set ylabel '%s' textcolor rgb '#01021e'\nset rmargin 2\nset tmargin 0.6\nset format '%%g'\n"
                  "unset key\n",
                  p->width, p->height, svg, p->xlabel, p->ylabel);
    put_axes(f, p, x, y);
    (void)fputs("plot ", f);
    bool first = true;
    for (int k = 0; k < p->nseries; k++) { /* bands lie below all lines */
        const plot_series *s = &p->series[k];
        if (!s->low || !s->high) continue;
        (void)fprintf(f, "%s$d%d using %s lc rgb '#0102%02x'", first ? "" : ", ", k,
                      s->style == PLOT_POINTS ? "1:2:3:4 with yerrorbars pt 7 ps 0.1 lw 1.4"
                                              : "1:3:4 with filledcurves fs transparent solid 0.2 noborder",
                      (unsigned)s->colour);
        first = false;
    }
    for (int pass = 0; pass < 2; pass++) { /* thin lines lie below */
        for (int k = 0; k < p->nseries; k++) {
            const plot_series *s = &p->series[k];
            if ((s->style == PLOT_THIN) == (pass > 0)) continue;
            (void)fprintf(f, "%s$d%d using 1:2 with %s lc rgb '#0102%02x' lw %s", first ? "" : ", ", k, line_style(s),
                          (unsigned)s->colour,
                          s->style == PLOT_THIN ? "0.8"
                          : s->dash             ? "1.8"
                                                : "2.4");
            put_dash(f, s->style == PLOT_POINTS ? 0 : s->dash);
            first = false;
        }
    }
    (void)fputc('\n', f);
    return true;
}

/* ---- the picture ------------------------------------------------------------------------------------------------ */
typedef struct text {
    char *s;
    size_t len, cap;
} text;

static void append(text *t, const char *s, size_t n)
{
    if (t->len + n + 1 > t->cap) {
        size_t cap = 2 * t->cap + n + 4096;
        char *grown = realloc(t->s, cap);
        if (!grown) return;
        t->s = grown;
        t->cap = cap;
    }
    memcpy(t->s + t->len, s, n);
    t->len += n;
    t->s[t->len] = 0;
}

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    if (!f) return NULL;
    text t = { NULL, 0, 0 };
    char buf[8192];
    for (size_t n; (n = fread(buf, 1, sizeof buf, f)) > 0;) append(&t, buf, n);
    (void)fclose(f);
    return t.s;
}

/* Drop the prolog, name the picture, turn the marked colours #0102NN into CSS variables, and make ids unique on a page
 * with several pictures. */
static char *adapt(const char *svg, const char *title)
{
    static int pictures;
    char prefix[24], name[200];
    (void)snprintf(prefix, sizeof prefix, "p%d-", ++pictures);
    const char *s = strstr(svg, "<svg");
    const char *body = s ? strstr(s, "<g id=") : NULL;
    const char *tag_end = s ? strchr(s, '>') : NULL;
    text t = { NULL, 0, 0 };
    if (!body || !tag_end) return NULL;
    append(&t, s, (size_t)(tag_end - s));
    int n = snprintf(name, sizeof name, " role=\"img\" aria-label=\"%s\">\n", title);
    append(&t, name, (size_t)n);
    for (s = body; *s;) {
        int r, g, b, used = 0;
        if (!strncmp(s, "rgb(", 4) && sscanf(s, "rgb( %d , %d , %d )%n", &r, &g, &b, &used) == 3 && used && r == 1 &&
            g == 2) {
            char var[32];
            n = b == PLOT_GREY   ? snprintf(var, sizeof var, "var(--axis)")
                : b == PLOT_INK  ? snprintf(var, sizeof var, "var(--fg)")
                : b == GRID      ? snprintf(var, sizeof var, "var(--grid)")
                : b >= PLOT_RAMP ? snprintf(var, sizeof var, "var(--l%d)", b - PLOT_RAMP)
                                 : snprintf(var, sizeof var, "var(--c%d)", b);
            append(&t, var, (size_t)n);
            s += used;
        } else if (!strncmp(s, " id=", 4) && (s[4] == '\'' || s[4] == '"')) {
            append(&t, s, 5);
            append(&t, prefix, strlen(prefix));
            s += 5;
        } else if (!strncmp(s, "href='#", 7)) {
            append(&t, s, 7);
            append(&t, prefix, strlen(prefix));
            s += 7;
        } else {
            size_t run = 1 + strcspn(s + 1, "rh ");
            append(&t, s, run);
            s += run;
        }
    }
    return t.s;
}

char *plot_svg(const plot *p)
{
    const char *tmp = getenv("TMPDIR");
    char dir[MAX_PATH / 2], script[MAX_PATH], svg[MAX_PATH];
    int n = snprintf(dir, sizeof dir, "%s/strata-plot-XXXXXX", tmp && *tmp && !strchr(tmp, '\'') ? tmp : "/tmp");
    if (n < 0 || (size_t)n >= sizeof dir || !mkdtemp(dir)) return NULL;
    (void)snprintf(script, sizeof script, "%s/plot.gp", dir);
    (void)snprintf(svg, sizeof svg, "%s/plot.svg", dir);
    char *out = NULL;
    FILE *f = fopen(script, "w");
    if (f) {
        bool ok = write_script(f, p, svg);
        ok &= fclose(f) == 0;
        if (ok && gnuplot(script) == 0) {
            char *raw = read_file(svg);
            if (raw) out = adapt(raw, p->title);
            free(raw);
        }
    }
    (void)unlink(svg);
    (void)unlink(script);
    (void)rmdir(dir);
    return out;
}
