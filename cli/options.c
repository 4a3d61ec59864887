/* Command lines: parsing, values, help. All of it driven by the option tables. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

const cli_option cli_global_options[] = {
    { "threads", 0, CLI_INT, "N", "threads; 0: OMP_NUM_THREADS, else all cores", "0", 0, 4096 },
    { "deterministic", 0, CLI_FLAG, NULL, "same bits for every number of threads", NULL, 0, 0 },
    { "isa", 0, CLI_WORD, "native|amx|avx512bf16|avx512|avx2|c|ref", "instruction set, at most what the machine has",
      NULL, 0, 0 },
    { "math", 0, CLI_WORD, "f32|bf16", "products of f32 arrays: of f32 numbers, or of numbers rounded to bf16", "f32",
      0, 0 },
    { "device", 0, CLI_TEXT, "NAME", "where to compute", "cpu", 0, 0 },
    { "log", 0, CLI_WORD, "error|warn|info|debug", "what the library may say on stderr", "warn", 0, 0 },
    { "help", 'h', CLI_FLAG, NULL, "print this help", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

/* ---- names ------------------------------------------------------------------------------------------------------ */
static int edit_distance(const char *a, const char *b)
{
    enum { MAX = 40 };
    int row[MAX + 1];
    int n = (int)strlen(b);
    if (n > MAX || strlen(a) > MAX) return MAX;
    for (int j = 0; j <= n; j++) row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= n; j++) {
            int replace = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            int edge = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = edge < replace ? edge : replace;
        }
    }
    return row[n];
}

const char *cli_nearest(const char *word, const char *const *names, int n)
{
    const char *best = NULL;
    int least = (int)strlen(word) / 3 + 2;
    for (int i = 0; i < n; i++) {
        int d = edit_distance(word, names[i]);
        if (d < least) {
            least = d;
            best = names[i];
        }
    }
    return best;
}

const cli_command *cli_find_command(const char *name)
{
    for (int i = 0; cli_commands[i]; i++)
        if (!strcmp(cli_commands[i]->name, name)) return cli_commands[i];
    return NULL;
}

/* Visit the command's options, then the global ones. */
static const cli_option *option_at(const cli_command *cmd, int i)
{
    for (const cli_option *o = cmd ? cmd->option : NULL; o && o->name; o++)
        if (i-- == 0) return o;
    for (const cli_option *o = cli_global_options; o->name; o++)
        if (i-- == 0) return o;
    return NULL;
}

static const cli_option *find_option(const cli_command *cmd, const char *name, size_t len, char letter)
{
    const cli_option *o;
    for (int i = 0; (o = option_at(cmd, i)); i++) {
        if (letter ? o->letter == letter : strlen(o->name) == len && !strncmp(o->name, name, len)) return o;
    }
    return NULL;
}

static int unknown_option(const cli_command *cmd, const char *name, size_t len)
{
    const char *names[64];
    int n = 0;
    char word[48];
    const cli_option *o;
    while (n < 64 && (o = option_at(cmd, n))) names[n++] = o->name;
    (void)snprintf(word, sizeof word, "%.*s", (int)(len < 47 ? len : 47), name);
    const char *near = cli_nearest(word, names, n);
    const char *in = cmd ? cmd->name : "strata";
    if (near) return cli_fail(CLI_USAGE, "%s: unknown option --%s; did you mean --%s?", in, word, near);
    return cli_fail(CLI_USAGE, "%s: unknown option --%s; see strata %s --help", in, word, cmd ? cmd->name : "");
}

/* ---- values ----------------------------------------------------------------------------------------------------- */
static bool parse_number(const char *s, bool whole, double *out)
{
    char *end;
    errno = 0;
    double v = whole ? (double)strtoll(s, &end, 10) : strtod(s, &end);
    *out = v;
    return *s && !*end && !errno && isfinite(v);
}

static bool is_word(const char *words, const char *s)
{
    size_t n = strlen(s);
    for (const char *w = words; n; w = strchr(w, '|') + 1) {
        size_t len = strcspn(w, "|");
        if (len == n && !strncmp(w, s, n)) return true;
        if (!w[len]) break;
    }
    return false;
}

static int check_value(const cli_option *o, const char *s)
{
    double v;
    switch (o->type) {
    case CLI_FLAG:
    case CLI_TEXT: return CLI_OK;
    case CLI_WORD:
        if (is_word(o->value, s)) return CLI_OK;
        return cli_fail(CLI_USAGE, "--%s: '%s' is none of %s", o->name, s, o->value);
    case CLI_INT:
    case CLI_NUM: break;
    }
    if (!parse_number(s, o->type == CLI_INT, &v))
        return cli_fail(CLI_USAGE, "--%s: '%s' is not %s", o->name, s, o->type == CLI_INT ? "an integer" : "a number");
    if ((o->min < 0 || o->max > 0) && (v < o->min || v > o->max))
        return cli_fail(CLI_USAGE, "--%s: %s is not between %g and %g", o->name, s, o->min, o->max);
    return CLI_OK;
}

static int take(cli *c, const cli_option *o, const char *value)
{
    if (c->ngiven == CLI_MAX_GIVEN) return cli_fail(CLI_USAGE, "more than %d options", CLI_MAX_GIVEN);
    int rc = value ? check_value(o, value) : CLI_OK;
    if (rc) return rc;
    c->given[c->ngiven].option = o;
    c->given[c->ngiven++].value = value;
    return CLI_OK;
}

int cli_parse(cli *c, int argc, char **argv)
{
    const cli_command *cmd = c->command;
    bool only_args = false;
    for (int i = 0; i < argc; i++) {
        const char *a = argv[i];
        if (only_args || a[0] != '-' || !a[1]) {
            if (cmd && cmd->max_args >= 0 && c->nargs == cmd->max_args)
                return cli_fail(CLI_USAGE, "%s: unexpected argument '%s'; usage: strata %s%s%s", cmd->name, a,
                                cmd->name, *cmd->args ? " " : "", cmd->args);
            c->arg[c->nargs++] = a;
            continue;
        }
        if (!strcmp(a, "--")) {
            only_args = true;
            continue;
        }
        bool is_long = a[1] == '-';
        const char *name = a + (is_long ? 2 : 1);
        size_t len = is_long ? strcspn(name, "=") : 1;
        const cli_option *o = find_option(cmd, name, len, is_long ? 0 : *name);
        if (!o) {
            if (is_long) return unknown_option(cmd, name, len);
            return cli_fail(CLI_USAGE, "%s: unknown option -%c; see strata %s --help", cmd ? cmd->name : "strata",
                            *name, cmd ? cmd->name : "");
        }
        const char *value = NULL;
        if (name[len]) value = name + len + (is_long ? 1 : 0); /* --x=V, -xV */
        if (o->type == CLI_FLAG && value) return cli_fail(CLI_USAGE, "--%s takes no value", o->name);
        if (o->type != CLI_FLAG && !value) {
            if (i + 1 == argc) return cli_fail(CLI_USAGE, "--%s needs a value (%s)", o->name, o->value);
            value = argv[++i];
        }
        int rc = take(c, o, value);
        if (rc) return rc;
    }
    if (cmd && c->nargs < cmd->min_args && !cli_flag(c, "help"))
        return cli_fail(CLI_USAGE, "%s: too few arguments; usage: strata %s %s", cmd->name, cmd->name, cmd->args);
    return CLI_OK;
}

const char *cli_text(const cli *c, const char *name)
{
    for (int i = c->ngiven; i-- > 0;)
        if (!strcmp(c->given[i].option->name, name)) return c->given[i].value;
    const cli_option *o = find_option(c->command, name, strlen(name), 0);
    return o ? o->def : NULL;
}

const char *cli_repeated(const cli *c, const char *name, int k)
{
    for (int i = 0; i < c->ngiven; i++)
        if (!strcmp(c->given[i].option->name, name) && k-- == 0) return c->given[i].value;
    return NULL;
}

bool cli_given(const cli *c, const char *name)
{
    for (int i = 0; i < c->ngiven; i++)
        if (!strcmp(c->given[i].option->name, name)) return true;
    return false;
}

bool cli_flag(const cli *c, const char *name)
{
    return cli_given(c, name);
}

int64_t cli_int(const cli *c, const char *name)
{
    const char *s = cli_text(c, name);
    return s ? strtoll(s, NULL, 10) : 0;
}

double cli_num(const cli *c, const char *name)
{
    const char *s = cli_text(c, name);
    return s ? strtod(s, NULL) : 0;
}

/* ---- help ------------------------------------------------------------------------------------------------------- */
static void print_option(FILE *f, const cli_option *o)
{
    char left[64];
    int n = snprintf(left, sizeof left, "  %s--%s", "", o->name);
    if (o->type != CLI_FLAG && n > 0 && (size_t)n < sizeof left)
        n += snprintf(left + n, sizeof left - (size_t)n, " %s", o->type == CLI_WORD ? "WORD" : o->value);
    if (o->letter && n > 0 && (size_t)n < sizeof left)
        (void)snprintf(left + n, sizeof left - (size_t)n, ", -%c", o->letter);
    (void)fprintf(f, "%-24s %s", left, o->help);
    if (o->type == CLI_WORD) (void)fprintf(f, ": %s", o->value);
    if (o->def && *o->def) (void)fprintf(f, " (default %s)", o->def);
    (void)fputc('\n', f);
}

void cli_print_help(FILE *f, const cli_command *cmd)
{
    (void)fprintf(f, "usage: strata %s %s\n\n%s.\n", cmd->name, cmd->args, cmd->summary);
    if (cmd->text) (void)fprintf(f, "\n%s\n", cmd->text);
    if (cmd->option && cmd->option->name) {
        (void)fputs("\noptions:\n", f);
        for (const cli_option *o = cmd->option; o->name; o++) print_option(f, o);
    }
    (void)fputs("\noptions of every command:\n", f);
    for (const cli_option *o = cli_global_options; o->name; o++) print_option(f, o);
    if (cmd->example) {
        (void)fputs("\nexamples:\n", f);
        for (const char *s = cmd->example; *s;) {
            size_t len = strcspn(s, "\n");
            (void)fprintf(f, "  %.*s\n", (int)len, s);
            s += len + (s[len] == '\n');
        }
    }
}

void cli_print_overview(FILE *f)
{
    (void)fputs("strata: sequence models and linear algebra from structured matrices\n\n"
                "usage: strata COMMAND [ARGUMENTS] [OPTIONS]\n\ncommands:\n",
                f);
    for (int i = 0; cli_commands[i]; i++)
        (void)fprintf(f, "  %-10s %s\n", cli_commands[i]->name, cli_commands[i]->summary);
    (void)fputs("\nstrata COMMAND --help explains a command, strata help keys lists every spec key,\n"
                "strata doctor checks the installation.\n",
                f);
}
