#ifndef DEVICE_H
#define DEVICE_H
/* Device results against the CPU's f64 oracle. Numbers stand in double arrays on the host, already rounded to the type
 * that the device computes in, so that both sides start from the same. */

#include "core/device.h"
#include "core/graph.h"
#include "support/near.h"

typedef struct device {
    strata_context *gpu, *cpu; /* cpu: isa=ref, one thread */
} device;

/* Skips the test (counted) when there is no GPU. */
device device_open(void);
void device_close(device *d);

#define DEVICE_TYPES                                                                                                   \
    {                                                                                                                  \
        STRATA_F32, STRATA_F64, STRATA_BF16                                                                            \
    }

/* Round n numbers to dtype. */
void device_round(int32_t dtype, double *x, int64_t n);
/* Random numbers of type dtype: normal with deviation `scale`. */
double *device_normal(int32_t dtype, int64_t n, double scale, uint64_t stream);
/* A device array of `pad` + n numbers of type dtype behind 16-byte alignment: NaN, then, unless x is NULL, x at `pad`.
 * Returns the address of x's first element; free with device_drop. */
void *device_put(const device *d, int32_t dtype, const double *x, int64_t n, int64_t pad);
int32_t *device_put_i32(const device *d, const int32_t *x, int64_t n);
void device_drop(const device *d, void *p, int32_t dtype, int64_t pad);
/* n numbers from the device into a new host array. */
double *device_get(const device *d, int32_t dtype, const void *p, int64_t n);

/* |x - ref| <= c eps(dtype) sqrt(k) scale, elementwise; a planted error of 100 times the bound is seen. */
void device_near(const char *what, int32_t dtype, double *x, const double *ref, const double *scale, int64_t n,
                 double c, double k);
/* ||x - ref|| <= c eps(dtype) sqrt(k) ||ref||, the same way. */
void device_near_norm(const char *what, int32_t dtype, double *x, const double *ref, int64_t n, double c, double k);

/* One component as a graph, run on both sides: output, input gradient, parameter gradients (which start at 1). */
typedef struct device_graph {
    const char *name;
    int32_t (*build)(sti_graph *g, int32_t in); /* returns the output buffer */
    int64_t batch, time, width;                 /* width: of the input; tokens have 1 */
    int64_t vocab;                              /* above 0: the input is token ids below it */
    const int32_t *token;                       /* NULL: random */
    int residual;                               /* out + in, so that the input's gradient has two writers */
    int loss;                                   /* nobody reads the output: it starts the gradient itself */
    int64_t terms;                              /* of the longest sum; 0: 1 */
    int chain;                                  /* several stages: what lies between them is rounded to the type too */
} device_graph;

/* Every type; compares values and repeats the run to compare bits. */
void device_check(const device *d, const device_graph *q);

#endif
