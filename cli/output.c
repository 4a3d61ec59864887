/* Errors, exit codes, JSON, numbers for people, files that appear whole, interrupts. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- errors ----------------------------------------------------------------------------------------------------- */
int cli_fail(int code, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)fflush(stdout);
    (void)fputs("strata: ", stderr);
    (void)vfprintf(stderr, fmt, ap);
    (void)fputc('\n', stderr);
    va_end(ap);
    return code;
}

void cli_note(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    (void)vfprintf(stderr, fmt, ap);
    (void)fputc('\n', stderr);
    va_end(ap);
}

int cli_code(strata_status s, cli_role role)
{
    switch (s) {
    case STRATA_OK: return CLI_OK;
    case STRATA_E_SPEC: return CLI_USAGE;
    case STRATA_E_SHAPE:
    case STRATA_E_DTYPE:
    case STRATA_E_FORMAT:
    case STRATA_E_NOTFOUND: return CLI_INPUT;
    case STRATA_E_IO:
    case STRATA_E_INVALID: return role == CLI_ON_INPUT ? CLI_INPUT : CLI_FAILED;
    case STRATA_E_DEVICE:
    case STRATA_E_UNSUPPORTED: return CLI_UNAVAILABLE;
    case STRATA_E_NUMERIC: return CLI_NUMERIC;
    case STRATA_E_INTERRUPTED: return CLI_INTERRUPTED;
    default: return CLI_FAILED; /* E_MEMORY, E_SPACE */
    }
}

int cli_status(strata_status s, cli_role role, const char *subject)
{
    if (s == STRATA_OK) return CLI_OK;
    const char *detail = strata_last_error();
    if (!*detail) detail = strata_status_text(s);
    if (subject && !strstr(detail, subject)) return cli_fail(cli_code(s, role), "%s: %s", subject, detail);
    return cli_fail(cli_code(s, role), "%s", detail);
}

/* ---- context ---------------------------------------------------------------------------------------------------- */
static int32_t log_level = STRATA_LOG_WARN;

static void log_line(void *user, int32_t level, const char *text)
{
    (void)user;
    if (level <= log_level) cli_note("strata: %s%s", level <= STRATA_LOG_WARN ? "warning: " : "", text);
}

int cli_context(const cli *c, const char *isa, strata_context **out)
{
    return cli_context_with(c, isa, cli_text(c, "math"), out);
}

int cli_context_with(const cli *c, const char *isa, const char *math, strata_context **out)
{
    static const char *const levels[] = { "error", "warn", "info", "debug" };
    const char *level = cli_text(c, "log");
    for (int32_t i = 0; i < 4; i++)
        if (!strcmp(level, levels[i])) log_level = i;
    char spec[256];
    if (!isa) isa = cli_text(c, "isa");
    int n = snprintf(spec, sizeof spec, "device=%s threads=%s deterministic=%d math=%s%s%s", cli_text(c, "device"),
                     cli_text(c, "threads"), cli_flag(c, "deterministic"), math, isa ? " isa=" : "", isa ? isa : "");
    *out = NULL;
    if (n < 0 || (size_t)n >= sizeof spec) return cli_fail(CLI_USAGE, "--device: name too long");
    strata_context_config cfg = { STRATA_INIT(strata_context_config), NULL, log_line, NULL };
    return cli_status(strata_context_create(spec, &cfg, out), CLI_ON_OUTPUT, NULL);
}

/* ---- JSON ------------------------------------------------------------------------------------------------------- */
static void json_quoted(FILE *f, const char *s)
{
    (void)fputc('"', f);
    for (; *s; s++) {
        unsigned char ch = (unsigned char)*s;
        if (ch == '"' || ch == '\\')
            (void)fprintf(f, "\\%c", ch);
        else if (ch == '\n')
            (void)fputs("\\n", f);
        else if (ch < 0x20 || ch == 0x7f)
            (void)fprintf(f, "\\u%04x", ch);
        else
            (void)fputc(ch, f);
    }
    (void)fputc('"', f);
}

json json_begin(FILE *f)
{
    (void)fputc('{', f);
    return (json){ f, 0 };
}

static void json_key(json *j, const char *key)
{
    if (j->fields++) (void)fputs(", ", j->f);
    json_quoted(j->f, key);
    (void)fputs(": ", j->f);
}

void json_text(json *j, const char *key, const char *value)
{
    json_key(j, key);
    if (value)
        json_quoted(j->f, value);
    else
        (void)fputs("null", j->f);
}

static void put_num(FILE *f, double value)
{
    if (isfinite(value))
        (void)fprintf(f, "%.10g", value);
    else
        (void)fputs("null", f);
}

void json_num(json *j, const char *key, double value)
{
    json_key(j, key);
    put_num(j->f, value);
}

void json_nums(json *j, const char *key, const double *v, int64_t n)
{
    json_key(j, key);
    (void)fputc('[', j->f);
    for (int64_t i = 0; i < n; i++) {
        if (i) (void)fputs(", ", j->f);
        put_num(j->f, v[i]);
    }
    (void)fputc(']', j->f);
}

void json_int(json *j, const char *key, int64_t value)
{
    json_key(j, key);
    (void)fprintf(j->f, "%lld", (long long)value);
}

void json_ints(json *j, const char *key, const int64_t *v, int n)
{
    json_key(j, key);
    (void)fputc('[', j->f);
    for (int i = 0; i < n; i++) (void)fprintf(j->f, "%s%lld", i ? ", " : "", (long long)v[i]);
    (void)fputc(']', j->f);
}

void json_end(json *j)
{
    (void)fputs("}\n", j->f);
}

/* ---- numbers for people ----------------------------------------------------------------------------------------- */
static const char *scaled(char *buf, double v, double base, const char *const *unit, int units)
{
    int k = 0;
    while (fabs(v) >= base && k + 1 < units) {
        v /= base;
        k++;
    }
    int digits = k == 0 && v == floor(v) ? 0 : fabs(v) < 9.995 ? 2 : fabs(v) < 99.95 ? 1 : 0;
    (void)snprintf(buf, CLI_NUMBER, "%.*f%s%s", digits, v, *unit[k] ? " " : "", unit[k]);
    return buf;
}

const char *cli_si(char buf[CLI_NUMBER], double value)
{
    static const char *const unit[] = { "", "k", "M", "G", "T", "P", "E" };
    return scaled(buf, value, 1000, unit, 7);
}

const char *cli_bytes(char buf[CLI_NUMBER], double value)
{
    static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    return scaled(buf, value, 1024, unit, 5);
}

const char *cli_duration(char buf[CLI_NUMBER], double seconds)
{
    if (!(seconds >= 0) || seconds > 1e9)
        (void)snprintf(buf, CLI_NUMBER, "?");
    else if (seconds < 60)
        (void)snprintf(buf, CLI_NUMBER, "%.*f s", seconds < 10 ? 1 : 0, seconds);
    else if (seconds < 3600)
        (void)snprintf(buf, CLI_NUMBER, "%d min %02d s", (int)(seconds / 60), (int)fmod(seconds, 60));
    else
        (void)snprintf(buf, CLI_NUMBER, "%d h %02d min", (int)(seconds / 3600), (int)fmod(seconds / 60, 60));
    return buf;
}

const char *cli_shape(char *buf, size_t cap, const int64_t *shape, int ndim)
{
    size_t len = 0;
    (void)snprintf(buf, cap, "scalar");
    for (int i = 0; i < ndim && len < cap; i++) {
        int n = snprintf(buf + len, cap - len, "%s%lld", i ? " x " : "", (long long)shape[i]);
        if (n > 0) len += (size_t)n;
    }
    return buf;
}

/* ---- files ------------------------------------------------------------------------------------------------------ */
char *cli_join(const char *dir, const char *name)
{
    size_t a = strlen(dir), b = strlen(name);
    char *s = malloc(a + b + 2);
    if (!s) return NULL;
    bool slash = a && dir[a - 1] == '/';
    memcpy(s, dir, a);
    if (!slash) s[a++] = '/';
    memcpy(s + a, name, b + 1);
    return s;
}

int cli_file_open(cli_file *o, const char *path)
{
    struct stat st;
    *o = (cli_file){ NULL, NULL, path };
    if (!strcmp(path, "-")) {
        o->f = stdout;
        return CLI_OK;
    }
    if (stat(path, &st) == 0 && !S_ISREG(st.st_mode)) {
        o->f = fopen(path, "w");
    } else {
        size_t n = strlen(path);
        o->temp = malloc(n + 8);
        if (!o->temp) return cli_fail(CLI_FAILED, "out of memory");
        memcpy(o->temp, path, n);
        memcpy(o->temp + n, ".XXXXXX", 8);
        int fd = mkstemp(o->temp);
        if (fd >= 0) {
            mode_t mask = umask(0);
            (void)umask(mask);
            (void)fchmod(fd, 0666 & ~mask);
            o->f = fdopen(fd, "w");
            if (!o->f) (void)close(fd);
        }
    }
    if (o->f) return CLI_OK;
    int rc = cli_fail(CLI_FAILED, "%s: %s", path, strerror(errno));
    free(o->temp);
    o->temp = NULL;
    return rc;
}

int cli_file_close(cli_file *o, bool keep)
{
    int rc = CLI_OK;
    if (!o->f) return CLI_OK;
    if (o->f == stdout) return CLI_OK; /* main checks stdout */
    bool bad = fflush(o->f) != 0 || ferror(o->f);
    if (keep && !bad && o->temp) bad = fsync(fileno(o->f)) != 0;
    int reason = errno;
    if (fclose(o->f) != 0 && !bad) {
        bad = true;
        reason = errno;
    }
    if (keep && !bad && o->temp && rename(o->temp, o->path) != 0) {
        bad = true;
        reason = errno;
    }
    if (o->temp && (bad || !keep)) (void)unlink(o->temp);
    if (keep && bad) rc = cli_fail(CLI_FAILED, "%s: %s", o->path, strerror(reason));
    free(o->temp);
    *o = (cli_file){ NULL, NULL, NULL };
    return rc;
}

/* ---- time and interrupts ---------------------------------------------------------------------------------------- */
double cli_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static volatile sig_atomic_t interrupted;

static void on_signal(int sig)
{
    (void)sig;
    interrupted = 1;
}

void cli_catch_interrupts(void)
{
    struct sigaction sa;
    memset(&sa, 0, sizeof sa);
    sa.sa_handler = on_signal;
    sa.sa_flags = (int)SA_RESETHAND | SA_RESTART; /* a second signal ends the program */
    (void)sigaction(SIGINT, &sa, NULL);
    (void)sigaction(SIGTERM, &sa, NULL);
}

bool cli_interrupted(void)
{
    return interrupted;
}

void cli_ignore_broken_pipe(void)
{
    (void)signal(SIGPIPE, SIG_IGN);
}
