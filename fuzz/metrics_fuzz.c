/* metrics.jsonl: what is accepted has steps that never go backwards. */
#include "io/metrics.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    strata_metrics *m = NULL;
    if (sti_metrics_parse((const char *)data, size, &m) != STRATA_OK) {
        MUST(!m && *strata_last_error());
        return 0;
    }
    strata_progress row, last = { 0 };
    for (int64_t i = 0; i < strata_metrics_count(m); i++) {
        MUST(strata_metrics_at(m, i, &row) == STRATA_OK && row.step >= last.step && row.tokens >= 0);
        last = row;
    }
    strata_metrics_close(m);
    return 0;
}
