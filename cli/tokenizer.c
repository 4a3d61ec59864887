/* strata tokenizer: learn a byte-pair vocabulary, text to token numbers, and back. */
#include "cli.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- train ------------------------------------------------------------------------------------------------------ */
static int train(const cli *c, const strata_context *ctx)
{
    const char *out = cli_text(c, "out");
    strata_tokenizer_training how = { .size = STRATA_INIT(strata_tokenizer_training),
                                      .vocab = (int32_t)cli_int(c, "vocab") };
    if (!out) return cli_fail(CLI_USAGE, "tokenizer train: -o FILE is needed");
    if (c->nargs < 2) return cli_fail(CLI_USAGE, "tokenizer train: name the text files to learn from");
    for (int i = 1; i < c->nargs; i++) {
        FILE *f = fopen(c->arg[i], "rb");
        if (!f) return cli_fail(CLI_INPUT, "%s: %s", c->arg[i], strerror(errno));
        (void)fclose(f);
    }
    const int32_t wanted = how.vocab;
    strata_status s = strata_tokenizer_train(ctx, c->arg + 1, c->nargs - 1, &how, out);
    if (s != STRATA_OK) return cli_status(s, CLI_ON_OUTPUT, NULL);
    if (how.vocab < wanted)
        cli_note("%d tokens instead of %d: no pair of tokens occurs twice any more", (int)how.vocab, (int)wanted);
    if (cli_flag(c, "json")) {
        json j = json_begin(stdout);
        json_text(&j, "file", out);
        json_int(&j, "vocab", how.vocab);
        json_int(&j, "bytes", how.bytes);
        json_int(&j, "words", how.words);
        json_num(&j, "seconds", how.seconds);
        json_end(&j);
    } else {
        char b[CLI_NUMBER], t[CLI_NUMBER];
        (void)printf("%s: %d tokens", out, (int)how.vocab);
        (void)printf(" from %s of text, %lld different words, in %s\n", cli_bytes(b, (double)how.bytes),
                     (long long)how.words, cli_duration(t, how.seconds));
    }
    return CLI_OK;
}

/* ---- encode, decode --------------------------------------------------------------------------------------------- */
/* All of a file, or of standard input (NULL). heap */
static int read_all(const char *path, char **data, size_t *bytes)
{
    FILE *f = path ? fopen(path, "rb") : stdin;
    size_t cap = 1 << 16, n = 0;
    int rc = CLI_OK;
    if (!f) return cli_fail(CLI_INPUT, "%s: %s", path, strerror(errno));
    char *p = malloc(cap);
    while (p) {
        n += fread(p + n, 1, cap - n, f);
        if (n < cap) break;
        char *q = realloc(p, cap *= 2);
        if (!q) free(p);
        p = q;
    }
    if (!p)
        rc = cli_fail(CLI_FAILED, "out of memory");
    else if (ferror(f))
        rc = cli_fail(CLI_INPUT, "%s: %s", path ? path : "standard input", strerror(errno));
    if (path) (void)fclose(f);
    if (rc) {
        free(p);
        return rc;
    }
    *data = p;
    *bytes = n;
    return CLI_OK;
}

static double cpu_seconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int encode(const cli *c, const strata_context *ctx, const strata_tokenizer *tok, const char *text, size_t bytes)
{
    int32_t *ids = NULL;
    int64_t n = 0;
    const double start = cpu_seconds();
    strata_status s = strata_tokenizer_encode(tok, text, bytes, &ids, &n);
    const double seconds = cpu_seconds() - start;
    if (s != STRATA_OK) return cli_status(s, CLI_ON_INPUT, NULL);
    if (cli_flag(c, "stats")) {
        (void)printf("%zu bytes, %lld tokens, %.4g bytes per token, %.4g MB per CPU second\n", bytes, (long long)n,
                     n > 0 ? (double)bytes / (double)n : 0, seconds > 0 ? 1e-6 * (double)bytes / seconds : 0);
    } else {
        for (int64_t i = 0; i < n; i++) (void)printf("%s%d", i ? " " : "", (int)ids[i]);
        (void)putchar('\n');
    }
    strata_free(ctx, ids);
    return CLI_OK;
}

/* Numbers separated by white space. */
static int parse_ids(char *text, int32_t **ids, int64_t *count)
{
    size_t cap = 1024;
    int64_t n = 0, line = 1;
    int32_t *p = malloc(cap * sizeof *p);
    for (char *s = text; p;) {
        for (; *s && strchr(" \t\r\n", *s); s++) line += *s == '\n';
        if (!*s) break;
        char *end;
        errno = 0;
        long x = strtol(s, &end, 10);
        if (errno || x < 0 || x > INT32_MAX || end == s || (*end && !strchr(" \t\r\n", *end))) {
            free(p);
            return cli_fail(CLI_INPUT, "line %lld: \"%.*s\" is not a token number", (long long)line,
                            (int)strcspn(s, " \t\r\n"), s);
        }
        if ((size_t)n == cap) {
            int32_t *q = realloc(p, (cap *= 2) * sizeof *p);
            if (!q) free(p);
            p = q;
        }
        if (p) p[n++] = (int32_t)x;
        s = end;
    }
    if (!p) return cli_fail(CLI_FAILED, "out of memory");
    *ids = p;
    *count = n;
    return CLI_OK;
}

static int decode(const strata_context *ctx, const strata_tokenizer *tok, char *text)
{
    int32_t *ids = NULL;
    int64_t n = 0;
    void *out = NULL;
    size_t bytes = 0;
    int rc = parse_ids(text, &ids, &n);
    if (!rc) rc = cli_status(strata_tokenizer_decode(tok, ids, n, &out, &bytes), CLI_ON_INPUT, NULL);
    if (!rc) (void)fwrite(out, 1, bytes, stdout);
    strata_free(ctx, out);
    free(ids);
    return rc;
}

static int use(const cli *c, const strata_context *ctx, bool back)
{
    const char *given = cli_text(c, "text");
    char *text = NULL;
    size_t bytes = 0;
    strata_tokenizer *tok = NULL;
    if (c->nargs < 2) return cli_fail(CLI_USAGE, "tokenizer %s: name the vocabulary, MERGES[,IDS.json]", c->arg[0]);
    if (c->nargs > 3 || (given && c->nargs > 2))
        return cli_fail(CLI_USAGE, "tokenizer %s: one text at a time", c->arg[0]);
    int rc = cli_status(strata_tokenizer_open(ctx, "bpe", c->arg[1], &tok), CLI_ON_INPUT, NULL);
    if (!rc && given) {
        text = malloc(strlen(given) + 1);
        if (!text) rc = cli_fail(CLI_FAILED, "out of memory");
        if (text) memcpy(text, given, (bytes = strlen(given)));
    } else if (!rc) {
        rc = read_all(c->nargs > 2 ? c->arg[2] : NULL, &text, &bytes);
    }
    if (!rc && back) {
        char *ended = realloc(text, bytes + 1);
        if (ended) {
            text = ended;
            text[bytes] = '\0';
            rc = decode(ctx, tok, text);
        } else {
            rc = cli_fail(CLI_FAILED, "out of memory");
        }
    } else if (!rc) {
        rc = encode(c, ctx, tok, text, bytes);
    }
    free(text);
    strata_tokenizer_close(tok);
    return rc;
}

static int run_tokenizer(cli *c)
{
    const char *const actions[] = { "train", "encode", "decode" };
    const char *action = c->arg[0];
    strata_context *ctx = NULL;
    int k = 0;
    while (k < 3 && strcmp(action, actions[k]) != 0) k++;
    if (k == 3) {
        const char *near = cli_nearest(action, actions, 3);
        return cli_fail(CLI_USAGE, "tokenizer: '%s' is none of train, encode, decode%s%s%s", action,
                        near ? "; did you mean " : "", near ? near : "", near ? "?" : "");
    }
    int rc = cli_context(c, NULL, &ctx);
    if (!rc) rc = k == 0 ? train(c, ctx) : use(c, ctx, k == 2);
    strata_context_destroy(ctx);
    return rc;
}

static const cli_option options[] = {
    { "vocab", 0, CLI_INT, "N", "train: tokens to learn, the 256 bytes included", "4096", 256, 1 << 24 },
    { "out", 'o', CLI_TEXT, "FILE", "train: the vocabulary", NULL, 0, 0 },
    { "text", 0, CLI_TEXT, "TEXT", "encode, decode: this text (numbers) instead of a file", NULL, 0, 0 },
    { "stats", 0, CLI_FLAG, NULL, "encode: print counts and speed, not the numbers", NULL, 0, 0 },
    { "json", 0, CLI_FLAG, NULL, "train: print the summary as a JSON object", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_tokenizer = {
    "tokenizer",
    "train DATA… -o FILE | encode VOCAB [FILE] | decode VOCAB [FILE]",
    "Learn a byte-pair vocabulary; text to token numbers and back",
    "train learns from text files, plain, .gz or .zst, and writes a list of merges in GPT-2's format, the same for the "
    "same\n"
    "texts. To use it: strata train text … --set text.tokenizer=bpe --set text.vocab=FILE; the run keeps a copy.\n"
    "VOCAB is such a FILE, or GPT-2's own \"merges.txt,vocab.json\". encode prints numbers separated by blanks, "
    "decode\n"
    "reads them; both read standard input without FILE.",
    "strata tokenizer train book.txt --vocab 4096 -o book.bpe\n"
    "strata tokenizer encode book.bpe --text \"Hello world\"\n"
    "strata tokenizer encode book.bpe book.txt | strata tokenizer decode book.bpe | cmp - book.txt",
    1,
    -1,
    options,
    run_tokenizer,
};
