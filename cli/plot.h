#ifndef PLOT_H
#define PLOT_H
/* Line plots as inline SVG through gnuplot. Colours are CSS variables (--c0 … for the curves, --axis, --grid), so that
 * a page's style, light or dark, colours the picture. */

#include <stdbool.h>

enum { PLOT_MAX_SERIES = 96, PLOT_COLOURS = 8, PLOT_RAMP = 8, PLOT_INK = 29, PLOT_GREY = 30, PLOT_DASHES = 5 };

typedef enum plot_style {
    PLOT_LINE,  /* with points where they are few */
    PLOT_PLAIN, /* without */
    PLOT_THIN,  /* a light line below the others */
    PLOT_POINTS /* points alone */
} plot_style;

typedef struct plot_series {
    const double *x, *y; /* numbers that are not finite break the line */
    int n;
    int colour; /* --cN; PLOT_RAMP + N: --lN, of an order; PLOT_INK: that of text, PLOT_GREY: that of the axes */
    plot_style style;
    int dash;                 /* 0: none, 1 … PLOT_DASHES - 1: a pattern */
    const double *low, *high; /* a band about a line, bars of points; NULL: none */
} plot_series;

typedef struct plot {
    const char *title; /* for screen readers */
    const char *xlabel, *ylabel;
    plot_series series[PLOT_MAX_SERIES];
    int nseries;
    const char *xtics; /* "'name' x, …"; NULL: automatic */
    double ymax;       /* cut above; 0: automatic */
    bool from_zero;    /* the y axis starts at 0 */
    bool logx, logy;
    int width, height;
} plot;

/* Lengths of a pattern's strokes and gaps, "8 4", for style attributes that match the lines. */
const char *plot_dash(int pattern);
/* @return the <svg> element (free), or NULL: no gnuplot, or nothing to draw */
char *plot_svg(const plot *p);
/* 1 when gnuplot runs here. */
bool plot_available(void);

#endif
