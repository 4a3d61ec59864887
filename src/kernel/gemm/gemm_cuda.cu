/* Dense products on a device: cuBLASLt, with one plan per problem kept; a plain kernel for what it does not take. */
#include <cublasLt.h>
#include <mutex>
#include <new>
#include <string.h>

#include "backend/cuda/cuda.cuh"
#include "kernel/gemm/gemm_cuda.h"

namespace
{
enum { PLANS = 1024, WORKSPACE = 32 << 20, TILE = 16 };

/* What a plan depends on. C is row-major (m, n); cuBLASLt sees its transpose. Zeroed before it is filled: compared as
 * bytes. */
struct key {
    int64_t m, n, k, lda, ldb, ldc, sa, sb, sc, count;
    int32_t type, ctype, ta, tb, align_a, align_b, align_c, zero_beta;
};

struct plan {
    key id;
    bool used, works;
    cublasLtMatmulDescOpaque_t desc;
    cublasLtMatrixLayoutOpaque_t a, b, c;
    cublasLtMatmulAlgo_t algo;
};

struct state {
    std::mutex lock;
    cublasLtHandle_t lt;
    void *work;
    plan table[PLANS];
};

void free_state(void *p)
{
    state *s = (state *)p;
    if (s->lt) (void)cublasLtDestroy(s->lt);
    (void)cudaFree(s->work);
    delete s;
}

std::mutex creation;

state *state_of(sti_cuda *c)
{
    std::lock_guard<std::mutex> hold(creation);
    if (c->gemm) return (state *)c->gemm;
    state *s = new (std::nothrow) state();
    if (!s) return nullptr;
    if (cublasLtCreate(&s->lt) != CUBLAS_STATUS_SUCCESS || cudaMalloc(&s->work, WORKSPACE) != cudaSuccess) {
        free_state(s);
        return nullptr;
    }
    c->gemm = s;
    c->gemm_free = free_state;
    return s;
}

cudaDataType_t data_type(int32_t t)
{
    return t == STRATA_F64 ? CUDA_R_64F : t == STRATA_BF16 ? CUDA_R_16BF : CUDA_R_32F;
}

int32_t alignment(const void *p)
{
    const uintptr_t a = (uintptr_t)p;
    int32_t n = 256;
    while (a % (uintptr_t)n) n /= 2;
    return n;
}

bool layout(cublasLtMatrixLayoutOpaque_t *l, int32_t type, int64_t rows, int64_t cols, int64_t ld, int64_t stride,
            int64_t count)
{
    const int32_t batch = (int32_t)count;
    if (cublasLtMatrixLayoutInit(l, data_type(type), (uint64_t)rows, (uint64_t)cols, ld) != CUBLAS_STATUS_SUCCESS)
        return false;
    return count == 1 || (cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &batch,
                                                           sizeof batch) == CUBLAS_STATUS_SUCCESS &&
                          cublasLtMatrixLayoutSetAttribute(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride,
                                                           sizeof stride) == CUBLAS_STATUS_SUCCESS);
}

/* Operands of cuBLASLt: its A is our B and the other way round, so that all is column-major. */
bool make(state *s, plan *p)
{
    const key *q = &p->id;
    const bool f64 = q->type == STRATA_F64;
    const cublasOperation_t opa = q->tb ? CUBLAS_OP_T : CUBLAS_OP_N, opb = q->ta ? CUBLAS_OP_T : CUBLAS_OP_N;
    if (cublasLtMatmulDescInit(&p->desc, f64 ? CUBLAS_COMPUTE_64F : CUBLAS_COMPUTE_32F,
                               f64 ? CUDA_R_64F : CUDA_R_32F) != CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_TRANSA, &opa, sizeof opa) !=
            CUBLAS_STATUS_SUCCESS ||
        cublasLtMatmulDescSetAttribute(&p->desc, CUBLASLT_MATMUL_DESC_TRANSB, &opb, sizeof opb) !=
            CUBLAS_STATUS_SUCCESS)
        return false;
    const bool made = (q->tb ? layout(&p->a, q->type, q->k, q->n, q->ldb, q->sb, q->count)
                             : layout(&p->a, q->type, q->n, q->k, q->ldb, q->sb, q->count)) &&
                      (q->ta ? layout(&p->b, q->type, q->m, q->k, q->lda, q->sa, q->count)
                             : layout(&p->b, q->type, q->k, q->m, q->lda, q->sa, q->count)) &&
                      layout(&p->c, q->ctype, q->n, q->m, q->ldc, q->sc, q->count);
    cublasLtMatmulPreference_t pref = nullptr;
    if (!made || cublasLtMatmulPreferenceCreate(&pref) != CUBLAS_STATUS_SUCCESS) return false;
    const size_t work = WORKSPACE;
    const uint32_t a = (uint32_t)q->align_b, b = (uint32_t)q->align_a, c = (uint32_t)q->align_c;
    cublasLtMatmulHeuristicResult_t found;
    int n = 0;
    (void)cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &work, sizeof work);
    (void)cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, &a, sizeof a);
    (void)cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &b, sizeof b);
    (void)cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &c, sizeof c);
    (void)cublasLtMatmulPreferenceSetAttribute(pref, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &c, sizeof c);
    const cublasStatus_t st =
        cublasLtMatmulAlgoGetHeuristic(s->lt, &p->desc, &p->a, &p->b, &p->c, &p->c, pref, 1, &found, &n);
    (void)cublasLtMatmulPreferenceDestroy(pref);
    if (st != CUBLAS_STATUS_SUCCESS || n < 1 || found.state != CUBLAS_STATUS_SUCCESS) return false;
    p->algo = found.algo;
    return true;
}

/* The plan of a problem, made on first use; a full table serves from `spare`. */
plan *find(state *s, const key *q, plan *spare)
{
    uint64_t h = 1469598103934665603u;
    for (size_t i = 0; i < sizeof *q; i++) h = (h ^ ((const unsigned char *)q)[i]) * 1099511628211u;
    std::lock_guard<std::mutex> hold(s->lock);
    plan *p = nullptr;
    for (int i = 0; i < 16; i++) {
        plan *at = &s->table[(h + (uint64_t)i) % PLANS];
        if (at->used && memcmp(&at->id, q, sizeof *q) == 0) return at;
        if (!at->used) {
            p = at;
            break;
        }
    }
    if (!p) p = spare;
    p->id = *q;
    p->works = make(s, p);
    p->used = true;
    return p;
}

template <typename T, typename C>
__global__ void product(bool ta, bool tb, int64_t m, int64_t n, int64_t k, double alpha, const T *a, int64_t lda,
                        int64_t sa, const T *b, int64_t ldb, int64_t sb, double beta, C *c, int64_t ldc, int64_t sc,
                        int64_t tiles_n)
{
    typedef sti_sum_t<T> S;
    __shared__ S as[TILE][TILE + 1], bs[TILE][TILE + 1];
    const int x = threadIdx.x, y = threadIdx.y;
    const int64_t i0 = (blockIdx.x / tiles_n) * TILE, j0 = (blockIdx.x % tiles_n) * TILE;
    a += blockIdx.y * sa;
    b += blockIdx.y * sb;
    c += blockIdx.y * sc;
    S sum = 0;
    for (int64_t k0 = 0; k0 < k; k0 += TILE) {
        const int64_t i = i0 + y, j = j0 + x;
        as[y][x] = i < m && k0 + x < k ? (S)sti_get(ta ? a[(k0 + x) * lda + i] : a[i * lda + k0 + x]) : S(0);
        bs[y][x] = j < n && k0 + y < k ? (S)sti_get(tb ? b[j * ldb + k0 + y] : b[(k0 + y) * ldb + j]) : S(0);
        __syncthreads();
        for (int t = 0; t < TILE; t++) sum += as[y][t] * bs[t][x];
        __syncthreads();
    }
    if (i0 + y >= m || j0 + x >= n) return;
    C *to = &c[(i0 + y) * ldc + j0 + x];
    *to = sti_put<C>((S)alpha * sum + (beta == 0 ? S(0) : (S)beta * (S)sti_get(*to)));
}

template <typename T, typename C>
void plain(const strata_context *ctx, const key *q, double alpha, const void *a, const void *b, double beta, void *c)
{
    const int64_t tm = (q->m + TILE - 1) / TILE, tn = (q->n + TILE - 1) / TILE;
    for (int64_t first = 0; first < q->count; first += 65535) { /* the grid's second dimension ends there */
        const int64_t n = q->count - first < 65535 ? q->count - first : 65535;
        product<T, C><<<dim3((unsigned)(tm * tn), (unsigned)n), dim3(TILE, TILE), 0, sti_stream(ctx)>>>(
            q->ta, q->tb, q->m, q->n, q->k, alpha, (const T *)a + first * q->sa, q->lda, q->sa,
            (const T *)b + first * q->sb, q->ldb, q->sb, beta, (C *)c + first * q->sc, q->ldc, q->sc, tn);
        sti_launched(ctx, "gemm");
    }
}
} // namespace

extern "C" void sti_gemm_cuda(const strata_context *ctx, int32_t type, int32_t ctype, int ta, int tb, int64_t m,
                              int64_t n, int64_t k, double alpha, const void *a, int64_t lda, int64_t sa, const void *b,
                              int64_t ldb, int64_t sb, double beta, void *c, int64_t ldc, int64_t sc, int64_t count)
{
    sti_cuda *d = sti_cuda_of(ctx);
    key q;
    memset(&q, 0, sizeof q);
    q.m = m, q.n = n, q.k = k, q.lda = lda, q.ldb = ldb, q.ldc = ldc, q.sa = sa, q.sb = sb, q.sc = sc, q.count = count;
    q.type = type, q.ctype = ctype, q.ta = ta, q.tb = tb, q.zero_beta = beta == 0;
    q.align_a = alignment(a), q.align_b = alignment(b), q.align_c = alignment(c);
    state *s = k > 0 && count <= INT32_MAX ? state_of(d) : nullptr;
    plan spare;
    plan *p = s ? find(s, &q, &spare) : nullptr;
    if (p && p->works) {
        const float fa = (float)alpha, fb = (float)beta;
        const bool f64 = type == STRATA_F64;
        const cublasStatus_t st = cublasLtMatmul(s->lt, &p->desc, f64 ? (const void *)&alpha : &fa, b, &p->a, a, &p->b,
                                                 f64 ? (const void *)&beta : &fb, c, &p->c, c, &p->c, &p->algo, s->work,
                                                 WORKSPACE, d->stream);
        if (st == CUBLAS_STATUS_SUCCESS) return;
    }
    if (type == STRATA_F64)
        plain<double, double>(ctx, &q, alpha, a, b, beta, c);
    else if (type == STRATA_F32)
        plain<float, float>(ctx, &q, alpha, a, b, beta, c);
    else if (ctype == STRATA_BF16)
        plain<sti_bf16, sti_bf16>(ctx, &q, alpha, a, b, beta, c);
    else
        plain<sti_bf16, float>(ctx, &q, alpha, a, b, beta, c);
}
