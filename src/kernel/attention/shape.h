#ifndef STI_ATTENTION_SHAPE_H
#define STI_ATTENTION_SHAPE_H
/* What an attention kernel runs: plain structs, also for CUDA sources.
 *
 * A shape is one softmax, or two whose outputs add up. A softmax has levels, level 1 first; level l owns a slice of the
 * columns of q and k (and of v) and covers, for query position i, an interval I_l(i) of key positions, nested inside
 * I_(l-1)(i):
 *     S_ij = gain[depth] * sum over covering levels l of scale_l (q_l,i . k_l,j) + bias,   depth = number of them;
 *     o_i[slice l] = sum over j in I_l(i) of P_ij v_j[slice l].
 * I_1 is the mask. A dense score is one level; a window is one level whose interval is short. */

#include <stdint.h>

enum { STI_ATTENTION_LEVELS = 32, STI_ATTENTION_PARTS = 2 };
#define STI_ATTENTION_ALL INT64_MAX /* a reach without end */

typedef struct sti_attention_level {
    int32_t rank, vrank; /* columns of q and k, columns of v */
    int64_t reach;       /* tokens of a block, or the first distance not covered; STI_ATTENTION_ALL: everything */
    double scale;
} sti_attention_level;

typedef struct sti_attention_part { /* one softmax */
    int32_t levels;
    int32_t offset; /* first column of q and k */
    int32_t blocks; /* 1: levels from the second on are blocks; 0: distances. Level 1 is always a distance */
    sti_attention_level level[STI_ATTENTION_LEVELS];
    double gain[STI_ATTENTION_LEVELS + 1]; /* by depth, 1 .. levels */
} sti_attention_part;

typedef struct sti_attention_shape {
    int64_t heads, kv_heads, d_qk, d_v;
    int32_t causal;
    int32_t alibi; /* 1: bias -2^(-8 h / heads) |i - j|, h from 1 (set by the caller after resolve) */
    int32_t parts;
    sti_attention_part part[STI_ATTENTION_PARTS];
} sti_attention_shape;

/* (batch, head, time, dim) with dim contiguous; strides in elements. */
typedef struct sti_attention_array {
    void *data;
    int64_t batch, head, time;
} sti_attention_array;

typedef struct sti_attention_call { /* every size at most the planned one */
    int64_t batch, q_time, k_time;
    int64_t q_pos, k_pos; /* absolute positions of the first query and key */
    sti_attention_array q, k, v;
    sti_attention_array o;                /* forward: out; backward: in */
    sti_attention_array lse;              /* (part, batch, head, time); forward: out or NULL data; backward: in */
    int64_t lse_part;                     /* elements between parts of lse */
    sti_attention_array dout, dq, dk, dv; /* backward; the three gradients are set */
    void *work;                           /* sti_attention_work bytes, aligned to 64 */
} sti_attention_call;

#endif
