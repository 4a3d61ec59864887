/* strata forecast: predictions of new data as CSV, and a picture of them. */
#include "cli.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { DATE = 64, PANELS = 8 };

/* ---- CSV -------------------------------------------------------------------------------------------------------- */
static void put_cell(FILE *f, const char *s)
{
    if (!strpbrk(s, ",\"\n")) {
        (void)fputs(s, f);
        return;
    }
    (void)fputc('"', f);
    for (; *s; s++) (void)fprintf(f, *s == '"' ? "\"\"" : "%c", *s);
    (void)fputc('"', f);
}

static strata_forecast_series series_of(const strata_forecast *p, int32_t k)
{
    strata_forecast_series s = { 0 };
    (void)strata_forecast_at(p, k, &s);
    return s;
}

/* One row per time and one column per series; or, where their dates differ, one row per value. */
static void write_csv(FILE *f, const strata_forecast *p)
{
    char date[DATE];
    const int32_t n = strata_forecast_count(p);
    const int64_t horizon = strata_forecast_horizon(p);
    const bool wide = strata_forecast_aligned(p) != 0;
    if (!wide) (void)fputs("series,", f);
    put_cell(f, strata_forecast_date_name(p));
    for (int32_t k = 0; wide && k < n; k++) {
        (void)fputc(',', f);
        put_cell(f, series_of(p, k).name);
    }
    (void)fputs(wide ? "\n" : ",value\n", f);
    if (wide) {
        const int64_t rows = series_of(p, 0).rows;
        for (int64_t h = 0; h < horizon; h++) {
            put_cell(f, strata_forecast_date(p, 0, rows + h, date, sizeof date));
            for (int32_t k = 0; k < n; k++) (void)fprintf(f, ",%.7g", series_of(p, k).value[h]);
            (void)fputc('\n', f);
        }
        return;
    }
    for (int32_t k = 0; k < n; k++) {
        const strata_forecast_series s = series_of(p, k);
        for (int64_t h = 0; h < horizon; h++) {
            put_cell(f, s.name);
            (void)fputc(',', f);
            put_cell(f, strata_forecast_date(p, k, s.rows + h, date, sizeof date));
            (void)fprintf(f, ",%.7g\n", s.value[h]);
        }
    }
}

static void write_json(const strata_forecast *p)
{
    for (int32_t k = 0; k < strata_forecast_count(p); k++) {
        const strata_forecast_series s = series_of(p, k);
        const int64_t horizon = strata_forecast_horizon(p);
        char date[DATE];
        json j = json_begin(stdout);
        json_text(&j, "series", s.name);
        json_int(&j, "rows", s.rows);
        json_text(&j, "first", strata_forecast_date(p, k, s.rows, date, sizeof date));
        json_text(&j, "last", strata_forecast_date(p, k, s.rows + horizon - 1, date, sizeof date));
        json_nums(&j, "forecast", s.value, horizon);
        json_end(&j);
    }
}

/* ---- picture ---------------------------------------------------------------------------------------------------- */
typedef struct frame { /* of one panel: numbers to points */
    double left, right, top, bottom;
    int64_t first, last; /* rows shown */
    double low, high;    /* values shown */
} frame;

static double at_x(const frame *r, int64_t row)
{
    return r->left + (r->right - r->left) * (double)(row - r->first) / (double)(r->last - r->first);
}

static double at_y(const frame *r, double v)
{
    return r->bottom - (r->bottom - r->top) * (v - r->low) / (r->high - r->low);
}

static void put_xml(FILE *f, const char *s)
{
    for (; *s; s++) {
        if (*s == '<')
            (void)fputs("&lt;", f);
        else if (*s == '>')
            (void)fputs("&gt;", f);
        else if (*s == '&')
            (void)fputs("&amp;", f);
        else
            (void)fputc(*s, f);
    }
}

/* Rows [from, from + n) as a line, broken where values are missing; `before` is the value before them, or NaN. */
static void put_line(FILE *f, const frame *r, const char *cls, int64_t from, const double *v, int64_t n, double before)
{
    bool pen = !isnan(before);
    (void)fprintf(f, "<path class=\"%s\" d=\"", cls);
    if (pen) (void)fprintf(f, "M%.1f %.1f", at_x(r, from - 1), at_y(r, before));
    for (int64_t i = 0; i < n; i++) {
        if (from + i < r->first || isnan(v[i])) {
            pen = false;
            continue;
        }
        (void)fprintf(f, "%c%.1f %.1f", pen ? 'L' : 'M', at_x(r, from + i), at_y(r, v[i]));
        pen = true;
    }
    (void)fputs("\"/>\n", f);
}

static void stretch(frame *r, const double *v, int64_t n)
{
    for (int64_t i = 0; i < n; i++) {
        if (isnan(v[i])) continue;
        r->low = fmin(r->low, v[i]);
        r->high = fmax(r->high, v[i]);
    }
}

/* 1, 2 or 5 times a power of ten, so that about `want` of them fill the range. */
static double nice_step(double range, int want)
{
    const double raw = range / want, unit = pow(10, floor(log10(raw)));
    return unit * (raw / unit < 1.5 ? 1 : raw / unit < 3.5 ? 2 : raw / unit < 7.5 ? 5 : 10);
}

static void put_axes(FILE *f, const frame *r, const strata_forecast *p, int32_t k, bool dates)
{
    enum { TICKS = 3 };
    const double step = nice_step(r->high - r->low, 3);
    for (double v = ceil(r->low / step) * step; v <= r->high; v += step)
        (void)fprintf(
            f, "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/><text x=\"%.1f\" y=\"%.1f\" class=\"y\">%.6g</text>\n",
            r->left, at_y(r, v), r->right, r->left - 6, at_y(r, v) + 4, fabs(v) < step / 2 ? 0 : v);
    for (int i = 0; dates && i <= TICKS; i++) {
        char date[DATE];
        const int64_t row = r->first + (r->last - r->first) * i / TICKS;
        (void)fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" class=\"%s\">", at_x(r, row), r->bottom + 18,
                      i == 0       ? "start"
                      : i == TICKS ? "end"
                                   : "mid");
        put_xml(f, strata_forecast_date(p, k, row, date, sizeof date));
        (void)fputs("</text>\n", f);
    }
}

static void put_panel(FILE *f, const strata_forecast *p, int32_t k, double top, double height, bool dates)
{
    const strata_forecast_series s = series_of(p, k);
    const int64_t h = strata_forecast_horizon(p), past = s.rows < 2 * h + 24 ? s.rows : 2 * h + 24;
    frame r = { 70, 880, top + 24, top + height - 8, s.rows - past, s.rows + h - 1, HUGE_VAL, -HUGE_VAL };
    if (r.last <= r.first) r.last = r.first + 1;
    stretch(&r, s.history + r.first, past);
    stretch(&r, s.value, h);
    stretch(&r, s.truth, h);
    const double margin = r.high > r.low ? 0.05 * (r.high - r.low) : fmax(fabs(r.high), 1) * 0.1;
    r.low -= margin;
    r.high += margin;
    const double from = at_x(&r, s.rows > 0 ? s.rows - 1 : 0);
    (void)fprintf(f, "<text x=\"%.1f\" y=\"%.1f\" class=\"name\">", r.left, top + 16);
    put_xml(f, s.name);
    (void)fputs("</text>\n", f);
    (void)fprintf(f, "<rect class=\"future\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>\n", from, r.top,
                  r.right - from, r.bottom - r.top);
    put_axes(f, &r, p, k, dates);
    const double last = past > 0 ? s.history[s.rows - 1] : (double)NAN;
    put_line(f, &r, "past", r.first, s.history + r.first, past, (double)NAN);
    put_line(f, &r, "past", s.rows, s.truth, h, isnan(s.truth[0]) ? (double)NAN : last);
    put_line(f, &r, "forecast", s.rows, s.value, h, last);
}

/* Each series a panel with the end of what is known, and what is forecast. */
static void write_svg(FILE *f, const strata_forecast *p)
{
    const int32_t all = strata_forecast_count(p), n = all < PANELS ? all : PANELS;
    const double height = n == 1 ? 320 : n <= 3 ? 200 : 140, top = 44, total = top + n * height + 30;
    const bool own_dates = !strata_forecast_aligned(p); /* else those below the last panel are everybody's */
    bool known = false;
    for (int32_t k = 0; k < n; k++)
        for (int64_t h = 0; h < strata_forecast_horizon(p); h++) known = known || !isnan(series_of(p, k).truth[h]);
    (void)fprintf(f,
                  "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 900 %.0f\" width=\"900\" height=\"%.0f\" "
                  "role=\"img\" aria-label=\"Forecasts\">\n"
                  "<style>\n"
                  "svg{background:#fff;font:12px system-ui,sans-serif;fill:#555}\n"
                  "path{fill:none;stroke-linejoin:round}\n"
                  ".past{stroke:#333;stroke-width:1.2}.forecast{stroke:#0b6bcb;stroke-width:2}\n"
                  ".grid{stroke:#ddd;stroke-width:.7}.future{fill:#0b6bcb;fill-opacity:.07}\n"
                  ".name{font-weight:600;fill:#222}.y{text-anchor:end}.mid{text-anchor:middle}.end{text-anchor:end}\n"
                  "@media (prefers-color-scheme:dark){svg{background:#16181c;fill:#aaa}.past{stroke:#ddd}"
                  ".forecast{stroke:#5aa9ff}.grid{stroke:#333}.future{fill:#5aa9ff;fill-opacity:.12}.name{fill:#eee}}\n"
                  "</style>\n",
                  total, total);
    (void)fprintf(f,
                  "<path class=\"past\" d=\"M70 22h26\"/><text x=\"102\" y=\"26\">%s</text>"
                  "<path class=\"forecast\" d=\"M240 22h26\"/><text x=\"272\" y=\"26\">forecast</text>",
                  known ? "measured" : "known");
    if (n < all) (void)fprintf(f, "<text x=\"880\" y=\"26\" class=\"end\">%d of %d series</text>", (int)n, (int)all);
    (void)fputc('\n', f);
    for (int32_t k = 0; k < n; k++)
        put_panel(f, p, k, top + k * height, height - (own_dates ? 20 : 0), own_dates || k == n - 1);
    (void)fputs("</svg>\n", f);
}

/* ---- command ---------------------------------------------------------------------------------------------------- */
static int write_file(const char *path, const strata_forecast *p, void put(FILE *, const strata_forecast *))
{
    cli_file o;
    int rc = cli_file_open(&o, path);
    if (rc) return rc;
    put(o.f, p);
    return cli_file_close(&o, true);
}

/* "a/b.csv" to "a/b.svg": heap string */
static char *beside(const char *path)
{
    const char *slash = strrchr(path, '/'), *dot = strrchr(path, '.');
    const size_t n = dot && (!slash || dot > slash + 1) && dot != path ? (size_t)(dot - path) : strlen(path);
    char *s = malloc(n + 5);
    if (s) {
        memcpy(s, path, n);
        memcpy(s + n, ".svg", 5);
    }
    return s;
}

/* What the forecasts of rows that are known were off by. */
static void note_errors(const strata_forecast *p)
{
    for (int32_t k = 0; k < strata_forecast_count(p) && k < PANELS; k++) {
        const strata_forecast_series s = series_of(p, k);
        double sum = 0;
        long long n = 0;
        for (int64_t h = 0; h < strata_forecast_horizon(p); h++) {
            if (isnan(s.truth[h])) continue;
            sum += fabs(s.truth[h] - s.value[h]);
            n++;
        }
        if (n) cli_note("%s: mean absolute error %.6g over %lld known rows", s.name, sum / (double)n, n);
    }
}

static int run_forecast(cli *c)
{
    strata_context *ctx = NULL;
    strata_forecast *p = NULL;
    const char *out = cli_text(c, "out"), *plot = cli_text(c, "plot");
    const bool to_stdout = !strcmp(out, "-"), as_json = cli_flag(c, "json");
    char *picture = NULL;
    const strata_forecast_config how = { STRATA_INIT(strata_forecast_config), .best = cli_flag(c, "best"),
                                         .horizon = cli_int(c, "horizon"), .back = cli_int(c, "back") };
    int rc = cli_context(c, NULL, &ctx);
    if (!rc) rc = cli_status(strata_forecast_create(ctx, c->arg[0], c->arg[1], &how, &p), CLI_ON_INPUT, NULL);
    if (!rc && as_json) write_json(p);
    if (!rc && (!as_json || !to_stdout)) rc = write_file(out, p, write_csv);
    if (!rc && !plot && !to_stdout) plot = picture = beside(out);
    if (!rc && plot) rc = write_file(plot, p, write_svg);
    if (!rc) {
        if (how.back) note_errors(p);
        if (plot) cli_note("the picture is %s", plot);
    }
    free(picture);
    strata_forecast_destroy(p);
    strata_context_destroy(ctx);
    return rc;
}

static const cli_option options[] = {
    { "out", 'o', CLI_TEXT, "FILE", "write the predictions here; a picture goes beside it", "-", 0, 0 },
    { "plot", 'p', CLI_TEXT, "FILE.svg", "write the picture here", NULL, 0, 0 },
    { "horizon", 'n', CLI_INT, "N", "rows to forecast; 0: as many as the model was trained for", "0", 0, 1e7 },
    { "back", 0, CLI_INT, "N", "forecast the last N rows of DATA from those before them", "0", 0, 1e12 },
    { "best", 0, CLI_FLAG, NULL, "of a run, the checkpoint with the least validation loss, not the newest", NULL, 0,
      0 },
    { "json", 0, CLI_FLAG, NULL, "print a JSON object for each series", NULL, 0, 0 },
    { NULL, 0, CLI_FLAG, NULL, NULL, NULL, 0, 0 },
};

const cli_command cmd_forecast = {
    "forecast",
    "RUN|CHECKPOINT DATA",
    "Forecast time series",
    "DATA is a table (CSV) or .tsf file as the run was trained on; the rows after its end are forecast, in its units "
    "and\n"
    "with its dates continued: as CSV, and as an SVG picture of the first eight series. A horizon beyond that of the\n"
    "training is forecast from the forecasts. With --back the last rows are forecast and compared with what they are.",
    "strata forecast runs/a new.csv -o predictions.csv\n"
    "strata forecast runs/a ETTh1.csv.zst --back 96 -o last.csv --best",
    2,
    2,
    options,
    run_forecast,
};
