/* strata help: commands, spec keys, and the same as Markdown pages. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* ---- keys ------------------------------------------------------------------------------------------------------- */
/* "integer, 1 to 64", "sp|mup", "spec of operator" */
static void describe_type(char *buf, size_t cap, const strata_key_info *k)
{
    if (!strcmp(k->type, "word") && k->choices)
        (void)snprintf(buf, cap, "%s", k->choices);
    else if (k->choices && *k->choices)
        (void)snprintf(buf, cap, "%s of %s", k->type, k->choices);
    else if (k->max >= 1e9 && k->min != 0)
        (void)snprintf(buf, cap, "%s, at least %g", k->type, k->min);
    else if ((k->min < 0 || k->max > 0) && k->max < 1e9)
        (void)snprintf(buf, cap, "%s, %g to %g", k->type, k->min, k->max);
    else
        (void)snprintf(buf, cap, "%s", k->type);
}

static const char *describe_default(const strata_key_info *k)
{
    return !k->def ? "required" : !*k->def ? "derived" : k->def;
}

static void print_keys(const char *family, const char *kind)
{
    for (int32_t i = 0; i < strata_key_count(family, kind); i++) {
        strata_key_info k;
        char type[160];
        if (strata_key_at(family, kind, i, &k) != STRATA_OK) continue;
        describe_type(type, sizeof type, &k);
        (void)printf("    %-14s %s\n    %-14s %s; %s%s\n", k.name, k.help, "", type, k.def && *k.def ? "default " : "",
                     describe_default(&k));
    }
}

static void print_kind(const char *family, int32_t i)
{
    const char *kind = strata_kind_name(family, i), *example;
    (void)printf("%s %s: %s\n", family, kind, strata_kind_summary(family, i));
    print_keys(family, kind);
    for (int32_t e = 0; e < 3 && (example = strata_kind_example(family, kind, e)); e++)
        (void)printf("  %s %s\n", e ? "        " : "example:", example);
}

static int unknown(const char *what, const char *word, const char *const *names, int n)
{
    const char *near = cli_nearest(word, names, n);
    return cli_fail(CLI_USAGE, "unknown %s '%s'%s%s%s", what, word, near ? "; did you mean '" : "", near ? near : "",
                    near ? "'?" : "");
}

static int help_keys(const char *family, const char *kind)
{
    const char *names[256];
    int n = 0;
    bool found = false;
    for (int32_t f = 0; f < strata_family_count() && n < 256; f++) {
        const char *name = strata_family_name(f);
        names[n++] = name;
        if (family && strcmp(family, name) != 0) continue;
        found = true;
        if (!family) (void)printf("%s\n", name);
        for (int32_t i = 0; !family && i < strata_kind_count(name); i++)
            (void)printf("  %-16s %s\n", strata_kind_name(name, i), strata_kind_summary(name, i));
    }
    if (!found) return unknown("family", family, names, n);
    if (!family) {
        (void)puts("\nstrata help keys FAMILY [KIND] lists the keys.");
        return CLI_OK;
    }
    found = false;
    n = 0;
    for (int32_t i = 0; i < strata_kind_count(family) && n < 256; i++) {
        names[n++] = strata_kind_name(family, i);
        if (kind && strcmp(kind, names[n - 1]) != 0) continue;
        if (found) (void)putchar('\n');
        found = true;
        print_kind(family, i);
    }
    return found || !kind ? CLI_OK : unknown(family, kind, names, n);
}

/* ---- Markdown --------------------------------------------------------------------------------------------------- */
static void cell(FILE *f, const char *s)
{
    for (; s && *s; s++) {
        if (*s == '|') (void)fputc('\\', f);
        (void)fputc(*s == '\n' ? ' ' : *s, f);
    }
}

static void option_rows(FILE *f, const cli_option *o)
{
    for (; o && o->name; o++) {
        (void)fprintf(f, "| `--%s", o->name);
        if (o->type == CLI_WORD)
            (void)fputs(" WORD", f);
        else if (o->type != CLI_FLAG)
            (void)fprintf(f, " %s", o->value);
        (void)fputs("`", f);
        if (o->letter) (void)fprintf(f, ", `-%c`", o->letter);
        (void)fputs(" | ", f);
        cell(f, o->help);
        if (o->type == CLI_WORD) {
            (void)fputs(": ", f);
            cell(f, o->value);
        }
        (void)fprintf(f, " | %s |\n", !o->def ? "" : strcmp(o->def, "\n") ? o->def : "a newline");
    }
}

static void command_page(FILE *f, const cli_command *cmd)
{
    (void)fprintf(f, "# strata %s\n\n%s.\n\n```\nstrata %s %s\n```\n", cmd->name, cmd->summary, cmd->name, cmd->args);
    if (cmd->text) (void)fprintf(f, "\n```\n%s\n```\n", cmd->text);
    (void)fputs("\n| option | meaning | default |\n|---|---|---|\n", f);
    option_rows(f, cmd->option);
    option_rows(f, cli_global_options);
    if (cmd->example) (void)fprintf(f, "\n## Examples\n\n```\n%s\n```\n", cmd->example);
}

static void kind_page(FILE *f, const char *family, int32_t i)
{
    const char *kind = strata_kind_name(family, i), *example;
    (void)fprintf(f, "# %s `%s`\n\n%s.\n", family, kind, strata_kind_summary(family, i));
    if (strata_key_count(family, kind) > 0) {
        (void)fputs("\n| key | values | default | meaning |\n|---|---|---|---|\n", f);
        for (int32_t k = 0; k < strata_key_count(family, kind); k++) {
            strata_key_info info;
            char type[160];
            if (strata_key_at(family, kind, k, &info) != STRATA_OK) continue;
            describe_type(type, sizeof type, &info);
            (void)fprintf(f, "| `%s` | ", info.name);
            cell(f, type);
            (void)fputs(" | ", f);
            cell(f, describe_default(&info));
            (void)fputs(" | ", f);
            cell(f, info.help);
            (void)fputs(" |\n", f);
        }
    } else {
        (void)fputs("\nIt has no keys.\n", f);
    }
    for (int32_t e = 0; (example = strata_kind_example(family, kind, e)); e++)
        (void)fprintf(f, "%s%s\n%s", e ? "" : "\n## Examples\n\n```\n", example,
                      strata_kind_example(family, kind, e + 1) ? "" : "```\n");
}

static int make_dir(const char *path)
{
    if (mkdir(path, 0777) == 0 || errno == EEXIST) return CLI_OK;
    return cli_fail(CLI_FAILED, "%s: %s", path, strerror(errno));
}

/* Open DIR/SUB/NAME.md. */
static int open_page(cli_file *o, const char *dir, const char *name, char *path, size_t cap)
{
    int n = snprintf(path, cap, "%s/%s.md", dir, name);
    if (n < 0 || (size_t)n >= cap) return cli_fail(CLI_FAILED, "%s: path too long", dir);
    return cli_file_open(o, path);
}

static int write_markdown(const char *dir)
{
    char path[1024], sub[900], name[200];
    cli_file index, page;
    int rc = make_dir(dir);
    static const char *const subs[] = { "commands", "keys" };
    for (int i = 0; i < 2 && !rc; i++) {
        int n = snprintf(sub, sizeof sub, "%s/%s", dir, subs[i]);
        rc = n < 0 || (size_t)n >= sizeof sub ? cli_fail(CLI_FAILED, "%s: path too long", dir) : make_dir(sub);
    }
    if (rc || (rc = open_page(&index, dir, "index", path, sizeof path))) return rc;
    char index_path[1024];
    (void)snprintf(index_path, sizeof index_path, "%s", path);
    index.path = index_path;
    (void)fputs("# Strata reference\n\nPrinted by `strata help --markdown`.\n\n## Commands\n\n", index.f);
    (void)snprintf(sub, sizeof sub, "%s/commands", dir);
    for (int i = 0; cli_commands[i] && !rc; i++) {
        if ((rc = open_page(&page, sub, cli_commands[i]->name, path, sizeof path))) break;
        command_page(page.f, cli_commands[i]);
        rc = cli_file_close(&page, true);
        (void)fprintf(index.f, "- [%s](commands/%s.md): %s\n", cli_commands[i]->name, cli_commands[i]->name,
                      cli_commands[i]->summary);
    }
    (void)snprintf(sub, sizeof sub, "%s/keys", dir);
    for (int32_t f = 0; f < strata_family_count() && !rc; f++) {
        const char *family = strata_family_name(f);
        (void)fprintf(index.f, "\n## Keys: %s\n\n", family);
        for (int32_t i = 0; i < strata_kind_count(family) && !rc; i++) {
            const char *kind = strata_kind_name(family, i);
            (void)snprintf(name, sizeof name, "%s-%s", family, kind);
            if ((rc = open_page(&page, sub, name, path, sizeof path))) break;
            kind_page(page.f, family, i);
            rc = cli_file_close(&page, true);
            (void)fprintf(index.f, "- [%s](keys/%s.md): %s\n", kind, name, strata_kind_summary(family, i));
        }
    }
    int closed = cli_file_close(&index, rc == CLI_OK);
    return rc ? rc : closed;
}

/* ---- command ---------------------------------------------------------------------------------------------------- */
static int run_help(cli *c)
{
    const char *dir = cli_text(c, "markdown");
    if (dir) return write_markdown(dir);
    if (!c->nargs) {
        cli_print_overview(stdout);
        return CLI_OK;
    }
    if (!strcmp(c->arg[0], "keys")) return help_keys(c->nargs > 1 ? c->arg[1] : NULL, c->nargs > 2 ? c->arg[2] : NULL);
    const cli_command *cmd = cli_find_command(c->arg[0]);
    const char *names[32];
    int n = 0;
    for (; cli_commands[n] && n < 31; n++) names[n] = cli_commands[n]->name;
    names[n++] = "keys";
    if (!cmd) return unknown("command", c->arg[0], names, n);
    cli_print_help(stdout, cmd);
    return CLI_OK;
}

static const cli_option options[] = {
    { "markdown", 0, CLI_TEXT, "DIR", "write the reference as Markdown pages: DIR/commands, DIR/keys", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_help = {
    "help",
    "[COMMAND | keys [FAMILY [KIND]]]",
    "Explain a command, or list spec keys",
    NULL,
    "strata help train\n"
    "strata help keys operator btt\n"
    "strata help --markdown build/docs",
    0,
    3,
    options,
    run_help,
};
