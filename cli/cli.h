#ifndef CLI_H
#define CLI_H
/* The strata program: what its files share. Data goes to stdout, everything else to stderr. */

#include <stdbool.h>
#include <stdio.h>

#include <strata/strata.h>

/* Exit codes: the contract with scripts. */
enum {
    CLI_OK = 0,
    CLI_FAILED = 1,      /* also: output cannot be written */
    CLI_USAGE = 2,       /* also: a spec that is wrong in itself */
    CLI_INPUT = 3,       /* bad or corrupt input; a spec that does not fit the input */
    CLI_UNAVAILABLE = 4, /* device or feature */
    CLI_NUMERIC = 5,
    CLI_INTERRUPTED = 130
};

/* ---- commands and options: one table gives parsing, --help and the docs ---------------------------------------- */
typedef enum cli_type { CLI_FLAG, CLI_INT, CLI_NUM, CLI_TEXT, CLI_WORD } cli_type;

typedef struct cli_option {
    const char *name; /* without the dashes */
    char letter;      /* 0: no short form */
    cli_type type;
    const char *value; /* placeholder in help, "N"; for CLI_WORD the words, "a|b" */
    const char *help;
    const char *def; /* NULL: none */
    double min, max; /* of INT and NUM, both 0: any */
} cli_option;

typedef struct cli cli;

typedef struct cli_command {
    const char *name, *args, *summary;
    const char *text;         /* paragraphs for --help and the docs */
    const char *example;      /* command lines, one per line; NULL: none */
    int min_args, max_args;   /* max_args -1: any number */
    const cli_option *option; /* ends with a NULL name; NULL: only the global ones */
    int (*run)(cli *c);       /* returns an exit code */
} cli_command;

enum { CLI_MAX_GIVEN = 256 };
struct cli {
    const cli_command *command;
    const char **arg; /* positional arguments */
    int nargs;
    struct {
        const cli_option *option;
        const char *value;
    } given[CLI_MAX_GIVEN];
    int ngiven;
};

extern const cli_command *const cli_commands[]; /* NULL-terminated */
extern const cli_option cli_global_options[];   /* ends with a NULL name */

const cli_command *cli_find_command(const char *name);
/* Parse argv after the command's name. @return exit code */
int cli_parse(cli *c, int argc, char **argv);
void cli_print_help(FILE *f, const cli_command *cmd);
void cli_print_overview(FILE *f);
/* The nearest of n names, or NULL. */
const char *cli_nearest(const char *word, const char *const *names, int n);

/* Values: the last one given, else the table's default. Types were checked by cli_parse. */
bool cli_given(const cli *c, const char *name);
bool cli_flag(const cli *c, const char *name);
const char *cli_text(const cli *c, const char *name); /* NULL: neither given nor defaulted */
int64_t cli_int(const cli *c, const char *name);
double cli_num(const cli *c, const char *name);
/* Option k (0, 1, …) of those given under a repeatable name, NULL past the end. */
const char *cli_repeated(const cli *c, const char *name, int k);

/* ---- errors ---------------------------------------------------------------------------------------------------- */
/* Print "strata: …" on stderr and return `code`. */
int cli_fail(int code, const char *fmt, ...) STRATA_PRINTF(2, 3);
void cli_note(const char *fmt, ...) STRATA_PRINTF(1, 2);
/* What the failing call was about: decides how E_IO and E_INVALID are read. */
typedef enum cli_role { CLI_ON_INPUT, CLI_ON_OUTPUT } cli_role;
int cli_code(strata_status s, cli_role role);
/* Print the library's last error, after "subject: " when subject is not NULL; returns cli_code. */
int cli_status(strata_status s, cli_role role, const char *subject);

/* ---- context --------------------------------------------------------------------------------------------------- */
/* Context from the global options; isa NULL: the user's choice. @return exit code; *out NULL on failure */
int cli_context(const cli *c, const char *isa, strata_context **out);
/* The same with a value for --math. */
int cli_context_with(const cli *c, const char *isa, const char *math, strata_context **out);

/* Configuration of a task from --config, the model (NULL: none was given) and --set. @return exit code; *out NULL on
 * failure */
int cli_configure(const cli *c, const strata_context *ctx, const char *task, const char *model, strata_config **out);

/* ---- training: what the commands that train share -------------------------------------------------------------- */
/* The files behind the task on the command line, or of task text those of STRATA_DATA or ./data. */
typedef struct cli_data {
    const char *const *path;
    int32_t count;
    char *found; /* owned (free): the file that nobody named; path may point here, so do not copy the struct */
} cli_data;
int cli_find_data(const cli *c, const strata_task_info *about, cli_data *d);

typedef struct cli_progress {
    bool tty, line_open;
    const char *label; /* borrowed: stands before the step */
    double last;       /* when a line was written */
    double last_val, best_val;
    strata_progress final;
} cli_progress;
void cli_progress_begin(cli_progress *r, const char *label);
int cli_progress_on(void *user, const strata_progress *p); /* a strata_progress_fn; stops on an interrupt */
void cli_progress_end(cli_progress *r);

/* ---- output ---------------------------------------------------------------------------------------------------- */
/* One JSON object on a line: json_begin, fields, json_end. NaN and infinity become null. */
typedef struct json {
    FILE *f;
    int fields;
} json;
json json_begin(FILE *f);
void json_text(json *j, const char *key, const char *value);
void json_num(json *j, const char *key, double value);
void json_int(json *j, const char *key, int64_t value);
void json_ints(json *j, const char *key, const int64_t *v, int n);
void json_nums(json *j, const char *key, const double *v, int64_t n);
void json_end(json *j);

/* "12.3 M", "4.5 KiB", "1 h 02 min", "128 x 64": into buf, which is returned. */
enum { CLI_NUMBER = 48 };
const char *cli_si(char buf[CLI_NUMBER], double value);
const char *cli_bytes(char buf[CLI_NUMBER], double value);
const char *cli_duration(char buf[CLI_NUMBER], double seconds);
const char *cli_shape(char *buf, size_t cap, const int64_t *shape, int ndim);

/* A text file that appears whole or not at all ("-": stdout). A path that is no regular file is written directly. */
typedef struct cli_file {
    FILE *f;
    char *temp; /* NULL: written directly */
    const char *path;
} cli_file;
int cli_file_open(cli_file *o, const char *path);
int cli_file_close(cli_file *o, bool keep); /* keep = false: discard. @return exit code */
/* "a/b" as a heap string (free), NULL when out of memory. */
char *cli_join(const char *dir, const char *name);

double cli_now(void); /* monotonic seconds */

/* Ctrl-C: after cli_catch_interrupts, cli_interrupted() tells of SIGINT or SIGTERM; a second one ends the program. */
void cli_catch_interrupts(void);
bool cli_interrupted(void);
/* A closed pipe becomes a write error instead of the end of the program. */
void cli_ignore_broken_pipe(void);

/* ---- the commands ---------------------------------------------------------------------------------------------- */
extern const cli_command cmd_train, cmd_eval, cmd_generate, cmd_forecast, cmd_report, cmd_apply, cmd_cost, cmd_inspect,
    cmd_compare, cmd_bench, cmd_doctor, cmd_config, cmd_help, cmd_tokenizer, cmd_import, cmd_export, cmd_version;

#endif
