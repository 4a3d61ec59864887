/* Tables and .tsf files: what is accepted has values that are finite or missing, dates that go forward, and a next
 * date that reads back as it was written. The first byte chooses the options. */
#include "io/series.h"

#include <math.h>

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    sti_panel p;
    if (size == 0) return 0;
    const sti_series_how how = { .fill = data[0] & 1, .header = data[0] & 2, .columns = data[0] & 4 ? "x,y" : "" };
    if (sti_panel_parse((const char *)data + 1, size - 1, &how, &p) != STRATA_OK) {
        MUST(*strata_last_error() && p.count == 0 && !p.series);
        return 0;
    }
    MUST(p.count > 0);
    for (int32_t k = 0; k < p.count; k++) {
        const sti_series *s = &p.series[k];
        MUST(s->name && s->value && s->n > 0 && (!p.aligned || s->n == p.series[0].n));
        for (int64_t i = 0; i < s->n; i++) MUST(isfinite(s->value[i]) || isnan(s->value[i]));
    }
    const sti_series *s = &p.series[0];
    for (int64_t i = 1; p.time && i < s->n; i++) MUST(p.time[i] >= p.time[i - 1]);
    if (p.form.order != STI_DATE_NONE && p.form.order != STI_DATE_NUMBER) {
        char text[STI_DATE_TEXT];
        int64_t time = sti_panel_time(&p, 0, s->n), again;
        sti_date_form f;
        sti_date_write(time, &p.form, text);
        if (sti_date_read(text, strlen(text), p.form.order, &again, &f)) { /* not beyond the year 9999 */
            sti_date_write(again, &p.form, text);
            MUST(f.order == p.form.order && (!p.form.clock || !p.form.seconds || again == time));
        }
    }
    MUST(sti_panel_season(&p) >= 1);
    sti_panel_free(&p);
    return 0;
}
