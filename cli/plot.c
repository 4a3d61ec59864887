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

enum { AXIS = 30, GRID = 31, MAX_PATH = 512 };

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
    return gnuplot("--version") == 0;
}

/* ---- the script ------------------------------------------------------------------------------------------------- */
static int usable(const plot_series *s, int i)
{
    return isfinite(s->x[i]) && isfinite(s->y[i]);
}

static bool write_script(FILE *f, const plot *p, const char *svg)
{
    int drawn = 0;
    double low = INFINITY, high = -INFINITY, right = 0;
    for (int k = 0; k < p->nseries; k++) {
        const plot_series *s = &p->series[k];
        (void)fprintf(f, "$d%d << EOD\n", k);
        for (int i = 0; i < s->n; i++) {
            if (!usable(s, i)) continue;
            const double least = s->low ? s->low[i] : s->y[i], largest = s->high ? s->high[i] : s->y[i];
            (void)fprintf(f, "%.9g %.9g %.9g %.9g\n", s->x[i], s->y[i], least, largest);
            low = fmin(low, least);
            high = fmax(high, largest);
            right = fmax(right, s->x[i]);
            drawn++;
        }
        (void)fputs("EOD\n", f);
    }
    if (!drawn) return false;
    if (p->ymax > 0) high = fmin(high, p->ymax);
    double margin = high > low ? 0.05 * (high - low) : 0.1 * fabs(high) + 1e-9;
    (void)fprintf(f,
                  "set terminal svg size %d,%d dynamic font 'inherit,15'\nset output '%s'\n"
                  "set border 3 lc rgb '#01021e'\nset tics nomirror out scale 0.5 textcolor rgb '#01021e'\n"
                  "set grid ytics lc rgb '#01021f' lw 1 dt 1\nset xlabel '%s' textcolor rgb '#01021e'\n"
                  "set ylabel '%s' textcolor rgb '#01021e'\nset yrange [%.9g:%.9g]\nset xrange [0:%.9g]\n"
                  "set rmargin 2\nset tmargin 0.6\nset xtics autofreq\nset format '%%g'\nunset key\nplot ",
                  p->width, p->height, svg, p->xlabel, p->ylabel, p->from_zero ? 0 : low - margin, high + margin,
                  right > 0 ? 1.02 * right : 1);
    bool first = true;
    for (int k = 0; k < p->nseries; k++) { /* bands lie below all lines */
        if (!p->series[k].low || !p->series[k].high) continue;
        (void)fprintf(f, "%s$d%d using 1:3:4 with filledcurves fs transparent solid 0.2 noborder lc rgb '#0102%02x'",
                      first ? "" : ", ", k, p->series[k].colour);
        first = false;
    }
    for (int pass = 0; pass < 2; pass++) { /* thin lines lie below */
        for (int k = 0; k < p->nseries; k++) {
            const plot_series *s = &p->series[k];
            if (s->thin == (pass > 0)) continue;
            (void)fprintf(f, "%s$d%d using 1:2 with %s lc rgb '#0102%02x' lw %s", first ? "" : ", ", k,
                          s->thin || s->n > 60 ? "lines" : "linespoints pt 7 ps 0.45", s->colour,
                          s->thin ? "0.6" : "2.4");
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
            n = b == AXIS   ? snprintf(var, sizeof var, "var(--axis)")
                : b == GRID ? snprintf(var, sizeof var, "var(--grid)")
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
