#include "task/regression/sampler.h"

#include <math.h>

#include "core/philox.h"

/* A problem is a table of rows of 32-bit words, four to a Philox block: row 0 the weights, row 1 which of them are not
 * zero, row 2 + i the input and the noise of point i. Nothing depends on how much of it is asked for. */
typedef struct table {
    uint64_t seed, stream, first; /* block of row 0 */
    uint64_t blocks;              /* of a row */
} table;

static void words(const table *t, uint64_t row, int64_t block, uint32_t w[4])
{
    sti_philox(t->seed, t->stream, t->first + row * t->blocks + (uint64_t)block, w);
}

/* Four normals of one block: two Box-Muller pairs of 32-bit uniforms, so none exceeds 6.8. */
static void four(const table *t, uint64_t row, int64_t block, float z[4])
{
    uint32_t w[4];
    words(t, row, block, w);
    for (int i = 0; i < 4; i += 2) {
        const float radius = sqrtf(-2 * logf(((float)w[i] + 0.5F) * 0x1p-32F));
        const float angle = 6.2831853F * ((float)w[i + 1] * 0x1p-32F);
        z[i] = radius * cosf(angle);
        z[i + 1] = radius * sinf(angle);
    }
}

static void normals(const table *t, uint64_t row, int64_t n, float *z)
{
    for (int64_t i = 0; i < n; i += 4) {
        float q[4];
        four(t, row, i / 4, q);
        for (int64_t k = 0; k < STI_MIN(4, n - i); k++) z[i + k] = q[k];
    }
}

/* Keep `keep` of n weights, every set of them equally likely, and their sum of squares in the mean. */
static void thin(const table *t, int64_t keep, int64_t n, float *weight)
{
    const float scale = sqrtf((float)n / (float)keep);
    uint32_t w[4] = { 0 };
    for (int64_t j = 0, kept = 0; j < n; j++) {
        if (j % 4 == 0) words(t, 1, j / 4, w);
        const bool take = (double)w[j % 4] * 0x1p-32 * (double)(n - j) < (double)(keep - kept);
        weight[j] *= take ? scale : 0;
        kept += take;
    }
}

void sti_regression_spectrum(const sti_regression *r, int64_t dims, double *variance)
{
    double sum = 0;
    for (int64_t j = 0; j < dims; j++) sum += variance[j] = pow((double)(j + 1), -r->decay);
    for (int64_t j = 0; j < dims; j++) variance[j] /= sum;
}

void sti_regression_draw(const sti_regression *r, uint64_t seed, sti_regression_use use, uint64_t problem, int64_t dims,
                         int64_t points, float *x, int64_t x_stride, float *y, int64_t y_stride)
{
    float weight[STI_REGRESSION_DIMS], scale[STI_REGRESSION_DIMS];
    double variance[STI_REGRESSION_DIMS];
    const uint64_t blocks = (uint64_t)r->dims / 4 + 1; /* dims inputs and the noise */
    const table t = { seed, (uint64_t)use, problem * (uint64_t)(r->points + 2) * blocks, blocks };
    sti_regression_spectrum(r, dims, variance);
    for (int64_t j = 0; j < dims; j++) scale[j] = (float)sqrt(variance[j]);
    normals(&t, 0, dims, weight);
    if (r->nonzero > 0 && r->nonzero < dims) thin(&t, r->nonzero, dims, weight);
    for (int64_t i = 0; i < points; i++) {
        float *row = x + i * x_stride;
        double sum = 0;
        normals(&t, (uint64_t)i + 2, dims, row);
        for (int64_t j = 0; j < dims; j++) {
            row[j] *= scale[j];
            sum += (double)weight[j] * (double)row[j];
        }
        if (r->noise > 0) {
            float z[4];
            four(&t, (uint64_t)i + 2, r->dims / 4, z);
            sum += r->noise * (double)z[r->dims % 4];
        }
        y[i * y_stride] = (float)sum;
    }
}
