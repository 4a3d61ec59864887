#ifndef PLOT_H
#define PLOT_H
/* Line plots as inline SVG through gnuplot. Colours are CSS variables (--c0 … for the curves, --axis, --grid), so that
 * a page's style, light or dark, colours the picture. */

#include <stdbool.h>

enum { PLOT_MAX_SERIES = 8 };

typedef struct plot_series {
    const double *x, *y;
    int n;
    int colour;               /* --cN */
    bool thin;                /* a light line without points */
    const double *low, *high; /* a band about the line; NULL: none */
} plot_series;

typedef struct plot {
    const char *title; /* for screen readers */
    const char *xlabel, *ylabel;
    plot_series series[PLOT_MAX_SERIES];
    int nseries;
    double ymax;    /* cut above; 0: automatic */
    bool from_zero; /* the y axis starts at 0 */
    int width, height;
} plot;

/* @return the <svg> element (free), or NULL: no gnuplot, or nothing to draw */
char *plot_svg(const plot *p);
/* 1 when gnuplot runs here. */
bool plot_available(void);

#endif
