/* strata report: text, style and marks of the page. */
#include "report.h"

/* Bytes of the well-formed UTF-8 character at s, 0 if there is none. */
static int utf8(const char *s)
{
    unsigned char a = (unsigned char)s[0];
    int n = a < 0x80 ? 1 : a >= 0xc2 && a < 0xe0 ? 2 : a >= 0xe0 && a < 0xf0 ? 3 : a >= 0xf0 && a < 0xf5 ? 4 : 0;
    for (int i = 1; i < n; i++)
        if (((unsigned char)s[i] & 0xc0) != 0x80) return 0;
    return n;
}

void report_text(FILE *f, const char *s)
{
    while (s && *s) {
        int n = utf8(s);
        const char *entity = *s == '&'   ? "&amp;"
                             : *s == '<' ? "&lt;"
                             : *s == '>' ? "&gt;"
                             : *s == '"' ? "&quot;"
                                         : NULL;
        if (entity)
            (void)fputs(entity, f);
        else if (!n || (n == 1 && ((unsigned char)*s < 0x20 || *s == 0x7f) && *s != '\n' && *s != '\t'))
            (void)fputs("\xef\xbf\xbd", f);
        else
            (void)fwrite(s, 1, (size_t)n, f);
        s += n ? n : 1;
    }
}

static const char style[] = /* colours, text, tables, figures */
    ":root{--bg:#fdfcfa;--fg:#1c1b1a;--soft:#66625c;--rule:#e2ded7;--panel:#f5f2ec;--axis:#77726b;--grid:#e6e2db;"
    "--c0:#1f5fa8;--c1:#c8501e;--c2:#2b7d4f;--c3:#7b4bb3;--c4:#a37a00;--c5:#b0306a;--c6:#2a8a94;--c7:#6b6b6b;"
    "--l0:#9cc9a4;--l1:#6fb69c;--l2:#479f98;--l3:#2e8793;--l4:#286d8a;--l5:#31537c;--l6:#3b3968;--l7:#3a2150}\n"
    "@media screen and "
    "(prefers-color-scheme:dark){:root{--bg:#171614;--fg:#e9e6e0;--soft:#a29d94;--rule:#35322d;--panel:#211f1c;"
    "--axis:#a29d94;--grid:#2f2c28;--c0:#6fa8e8;--c1:#f08a58;--c2:#6cc08f;--c3:#b493e0;--c4:#d9b03c;--c5:#e57faf;"
    "--c6:#66c3cd;--c7:#a8a8a8;"
    "--l0:#54688c;--l1:#5580a0;--l2:#5a99ad;--l3:#68b1b4;--l4:#83c6b5;--l5:#a8d8b7;--l6:#cfe7bf;--l7:#f3f4cf}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0;background:var(--bg);color:var(--fg);font:17px/1.55 system-ui,-apple-system,'Segoe UI',sans-serif;"
    "-webkit-text-size-adjust:100%}\n"
    "main{max-width:66rem;margin:0 auto;padding:3rem 1.25rem 4rem}\n"
    "h1{font-size:2.1rem;line-height:1.15;letter-spacing:-.02em;margin:0 0 .4rem;font-weight:650}\n"
    "h2{font-size:1.2rem;margin:3rem 0 .6rem;font-weight:650;letter-spacing:-.01em}\n"
    "h3{font-size:1rem;margin:1.8rem 0 .3rem;font-weight:600}\n"
    "p{margin:.4rem 0}.soft{color:var(--soft)}.lead{font-size:1.2rem;line-height:1.45;max-width:44rem;margin:1.4rem "
    "0}\n"
    ".small{font-size:.86rem}code,pre,.mono{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',"
    "monospace;font-size:.84em}\n"
    ".dot{display:inline-block;width:.72em;height:.72em;border-radius:50%;margin-right:.5em;vertical-align:-.03em;"
    "background:currentColor}.ring{background:none;border:.18em solid}\n"
    ".legend{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;margin:.2rem 0 .6rem;font-size:.92rem}\n"
    /* shadows at the edges that a table can be scrolled to: the page's colour scrolls along and covers them at the end
     */
    ".scroll{overflow-x:auto;-webkit-overflow-scrolling:touch;--s:rgba(0,0,0,.16);background:"
    "linear-gradient(90deg,var(--bg) 40%,transparent) 0/2.4rem 100%,"
    "linear-gradient(270deg,var(--bg) 40%,transparent) 100%/2.4rem 100%,"
    "linear-gradient(90deg,var(--s),transparent) 0/.8rem 100%,"
    "linear-gradient(270deg,var(--s),transparent) 100%/.8rem 100%;"
    "background-repeat:no-repeat;background-attachment:local,local,scroll,scroll}\n"
    "table{border-collapse:separate;border-spacing:0;width:100%;font-variant-numeric:tabular-nums;font-size:.9rem}\n"
    "th{font-weight:500;color:var(--soft);font-size:.82rem;text-align:right;vertical-align:bottom;white-space:nowrap}\n"
    "td{text-align:right;white-space:nowrap}th,td{padding:.45rem 0 .45rem .85rem;border-bottom:1px solid var(--rule)}\n"
    "th:first-child,td:first-child{text-align:left;padding-left:0}td.best{font-weight:650}td "
    "small{color:var(--soft);font-weight:400}\n"
    ".grid{display:grid;grid-template-columns:repeat(2,minmax(0,1fr));gap:1.6rem "
    "2rem}.wide{grid-column:1/-1}.narrow{display:none}\n"
    "figure{margin:0}figcaption{font-weight:600;font-size:.95rem;margin-bottom:.2rem}\n"
    "svg{display:block;width:100%;height:auto;font-family:inherit}.key{display:inline-block;width:2.6em;height:.5em;"
    "margin-right:.6em;vertical-align:.1em;fill:none;stroke:var(--axis);stroke-width:1.8}\n"
    ".spec{margin:.3rem 0 1rem}.spec code{overflow-wrap:anywhere;color:var(--soft)}\n"
    ".sample{background:var(--panel);border-left:3px solid var(--rule);padding:1rem "
    "1.2rem;margin:0;white-space:pre-wrap;"
    "overflow-wrap:anywhere;line-height:1.5;border-radius:0 6px 6px 0}\n"
    "details{border-bottom:1px solid var(--rule)}summary{cursor:pointer;padding:.6rem 0;font-weight:500}\n"
    ".conf td,.conf th{text-align:left;white-space:normal;overflow-wrap:anywhere;vertical-align:top;padding:.3rem "
    "1.2rem "
    ".3rem 0}.conf td:first-child{white-space:nowrap}\n"
    "footer{margin-top:3.5rem;border-top:1px solid var(--rule);padding-top:1rem}\n";

static const char media[] = /* phones and paper */
    "@media(max-width:44rem){main{padding:1.6rem 1rem "
    "3rem}.grid{grid-template-columns:minmax(0,1fr)}"
    ".broad{display:none}.narrow{display:block}h1{font-size:1.7rem}svg text{font-size:18px}"
    "th:first-child,td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:6.2rem;max-width:8.5rem;"
    "position:sticky;left:0;background:linear-gradient(var(--bg),var(--bg)) 0 1px no-repeat padding-box;"
    "padding-right:.4rem}" /* not the first pixel: heights are fractions, and a line may lie there */
    ".lead{font-size:1.08rem}}\n"
    "@media print{:root{--bg:#fff;--fg:#000;--soft:#444;--rule:#ccc;--panel:#fff;--axis:#444;--grid:#ddd}"
    "body{font-size:10pt}main{max-width:none;padding:0}h1{font-size:18pt}h2{margin-top:1.4rem}.grid{gap:.8rem 1.4rem}"
    "table{font-size:8.2pt}th{font-size:7.4pt;white-space:normal}th,td{padding:.22rem 0 .22rem .5rem}"
    "figure,.sample,tr,.scroll,.legend{break-inside:avoid}h2,h3,h2+p,summary,.legend{break-after:avoid}p{orphans:3;"
    "widows:3}"
    ".scroll{overflow:visible;background:none}details:not([open]){display:none}}\n";

void report_style(FILE *f)
{
    (void)fprintf(f, "<style>\n%s%s</style>\n", style, media);
}

void report_dot(FILE *f, int colour, bool ring)
{
    (void)fprintf(f, "<span class=\"dot%s\" style=\"color:var(--c%d)\"></span>", ring ? " ring" : "", colour);
}

void report_name(const report *p, int k)
{
    const report_model *g = &p->model[k];
    report_dot(p->f, g->colour, g->ring);
    report_text(p->f, g->name);
}
