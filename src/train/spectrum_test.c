/* Ranks of matrices whose singular values are known. */

#include "train/spectrum.h"

#include "core/philox.h"
#include "support/test.h"

enum { N = 48 };
static double a[N * N], work[N * N + 6 * N];

static void near(double got, double want, double bound, const char *what)
{
    if (!(fabs(got - want) <= bound)) FAIL("%s: %.15g, not %.15g", what, got, want);
    if (fabs(got + 100 * bound - want) <= bound) FAIL("%s: the bound %g says nothing", what, bound);
}

/* a = U diag(sigma) V^T with orthogonal U, V, each a product of reflections. */
static void known(const double *sigma)
{
    memset(a, 0, sizeof a);
    for (int i = 0; i < N; i++) a[i * N + i] = sigma[i];
    for (uint64_t r = 0; r < 2 * N; r++) {
        double v[N], length = 0;
        for (int i = 0; i < N; i++) {
            v[i] = sti_normal(3, r, (uint64_t)i);
            length += v[i] * v[i];
        }
        for (int i = 0; i < N; i++) {
            double dot = 0;
            for (int j = 0; j < N; j++) dot += v[j] * a[r % 2 ? i * N + j : j * N + i];
            for (int j = 0; j < N; j++) a[r % 2 ? i * N + j : j * N + i] -= 2 * dot / length * v[j];
        }
    }
}

static void flat_spectrum(void)
{
    for (int rank = 1; rank <= N; rank += 7) {
        double sigma[N] = { 0 };
        for (int i = 0; i < rank; i++) sigma[i] = 2.5;
        known(sigma);
        const sti_ranks r = sti_ranks_of(N, a, work);
        CHECK(r.energy == ceil(0.99 * rank));
        near(r.entropy, rank, 1e-9 * N, "entropy rank of a flat spectrum");
    }
}

/* Falling singular values: both ranks from their definitions. */
static void falling_spectrum(void)
{
    for (double rate = 0.4; rate < 0.99; rate += 0.1) {
        double sigma[N], sum = 0, part = 0, entropy = 0;
        int rank = 0;
        for (int i = 0; i < N; i++) sum += pow(sigma[i] = pow(rate, (i * 5) % N), 2); /* in any order */
        for (int i = 0; i < N; i++) entropy -= pow(sigma[i], 2) / sum * log(pow(sigma[i], 2) / sum);
        while (part < 0.99 * sum) part += pow(rate, 2.0 * rank++);
        known(sigma);
        const sti_ranks r = sti_ranks_of(N, a, work);
        CHECK(r.energy == rank);
        near(r.entropy, exp(entropy), 1e-8 * N, "entropy rank");
    }
}

static void odd_cases(void)
{
    memset(a, 0, sizeof a);
    CHECK(isnan(sti_ranks_of(N, a, work).energy) && isnan(sti_ranks_of(N, a, work).entropy));
    a[0] = -3;
    sti_ranks r = sti_ranks_of(1, a, work);
    CHECK(r.energy == 1 && r.entropy == 1);
    for (int i = 0; i < N * N; i++) a[i] = 1e-9 * (1 + i % N); /* one direction, small numbers */
    r = sti_ranks_of(N, a, work);
    CHECK(r.energy == 1);
    near(r.entropy, 1, 1e-10, "one direction");
    CHECK_INT(sti_ranks_work(N), sizeof work / sizeof *work);
}

TESTS(T(flat_spectrum), T(falling_spectrum), T(odd_cases))
