/* The two stages in bf16 on tensor cores. Each stage is one pass over the rows of x, and neither permutation costs a
 * pass of its own: between the stages the numbers stand as tiles (tile, index, 32 rows), so that a number of 32 rows is
 * 64 contiguous bytes and any index map is free; x and y are turned into this form, and back, on their way through
 * shared memory (stmatrix and ldmatrix with .trans).
 *
 * A block of threads takes a group of the stage's blocks, keeps their weights in shared memory and walks over tiles of
 * rows, one warp for each (block, 32 rows): the warp reads its inputs into registers once, while the next ones are
 * under way. On the side of stage 1 a warp has its own numbers of every row and never waits for the others; on the
 * outer side of stage 2 neighbouring blocks are contiguous and go through shared memory together.
 *
 *   into:  x (or dy) -> tiles        stage 1, or stage 2 transposed
 *   out:   tiles -> y (or dx)        stage 2, or stage 1 transposed
 *   weights: dW of a stage from its two ends; partial sums of slices of rows are added in a fixed order
 *
 * Order of rows in a tile: the product leaves row 8 n + 2 q + e of its input at place 8 q + 2 n + e (a lane's results
 * are then 16 contiguous bytes). Doing it twice is the identity, so x and y have rows in order, tiles have not. */
#include "kernel/twostage/twostage_sm90.h"

#include "backend/cuda/cuda.cuh"

namespace
{
enum { ROWS = 32, LINE = ROWS * 2 /* bytes of a number of all rows of a tile */ };
constexpr int MAX_SLICES = 32;

/* One stage: `blocks` products out (m) = W in (k). An index map gives the place of number k of block b: in x or y
 * (outer) and in a tile (inner); see outer_index and inner_index. */
struct args {
    const sti_bf16 *w;
    int64_t count;     /* rows */
    int64_t ld, width; /* of the outer array */
    sti_bf16 *outer;   /* x, y, dx or dy */
    sti_bf16 *tiles;   /* (tile, middle, ROWS) */
    int64_t middle;
    int blocks, k, m;
    int n2, run_log;      /* index maps: blocks of stage 2, its group S as a power of two */
    int w_step, w_line;   /* elements from block to block (0: tied) and from line to line of W */
    int w_turned;         /* lines of W run along m, not along k */
    int group, group_log; /* blocks of a thread block, a power of two */
    int subs, subs_log;   /* its row tiles, a power of two */
    int w_bytes, pitch;   /* shared memory: a block's weights; lines of a (block, row tile) */
    float alpha, beta;
};

template <int STAGE> __device__ __forceinline__ int inner_index(const args &a, int b, int k, int each)
{
    if (STAGE == 1) return b * each + k;
    return (((k >> a.run_log) * a.n2 + b) << a.run_log) + (k & ((1 << a.run_log) - 1));
}

__device__ __forceinline__ uint32_t shared_address(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

/* Line k of unit (sub, b), 16-byte chunk c, as a byte offset. Chunks are exchanged so that the eight addresses of a
 * matrix lie in different banks, whether they run along k or along b. */
__device__ __forceinline__ int line_at(const args &a, int unit, int b, int k, int c)
{
    const int key = (k >> 1) ^ (k >> 3) ^ ((b & 1) << 1) ^ ((b >> 3) & 1);
    return (unit * a.pitch + k) * LINE + ((c ^ (key & 3)) << 4);
}

#define LDMATRIX(name, trans)                                                                                          \
    __device__ __forceinline__ void name(uint32_t r[4], uint32_t at)                                                   \
    {                                                                                                                  \
        asm volatile("ldmatrix.sync.aligned.m8n8.x4" trans ".shared.b16 {%0,%1,%2,%3}, [%4];"                          \
                     : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])                                                  \
                     : "r"(at)                                                                                         \
                     : "memory");                                                                                      \
    }
LDMATRIX(load_matrices, "")
LDMATRIX(load_turned, ".trans")

__device__ __forceinline__ void store_turned(uint32_t at, uint4 v)
{
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};" ::"r"(at), "r"(v.x), "r"(v.y),
                 "r"(v.z), "r"(v.w)
                 : "memory");
}

__device__ __forceinline__ void multiply(float c[4], const uint32_t a[4], uint32_t b0, uint32_t b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ uint32_t pack(float lo, float hi)
{
    const __nv_bfloat162 v = __floats2bfloat162_rn(lo, hi);
    return *(const uint32_t *)&v;
}

__device__ __forceinline__ uint4 zero4()
{
    return make_uint4(0, 0, 0, 0);
}

/* Whole stores: the compiler splits those of a uint4 that it has taken apart, and each part is a request of its own. */
__device__ __forceinline__ void store_global(void *to, uint4 v)
{
    asm volatile("st.global.v4.b32 [%0], {%1,%2,%3,%4};" ::"l"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}
__device__ __forceinline__ void store_shared(uint32_t to, uint4 v)
{
    asm volatile("st.shared.v4.b32 [%0], {%1,%2,%3,%4};" ::"r"(to), "r"(v.x), "r"(v.y), "r"(v.z), "r"(v.w) : "memory");
}

/* A launch may begin while the one before ends; it waits before it touches what that one writes or reads. */
__device__ __forceinline__ void let_next_begin()
{
    asm volatile("griddepcontrol.launch_dependents;");
}
__device__ __forceinline__ void await_last()
{
    asm volatile("griddepcontrol.wait;" ::: "memory");
}

__device__ void clear(char *memory, int bytes)
{
    for (int i = threadIdx.x * 16; i < bytes; i += 16 * blockDim.x) *(uint4 *)(memory + i) = zero4();
    __syncthreads();
}

/* ---- the outer array ---------------------------------------------------------------------------------------------
 * Its numbers of a group of blocks, `each` per block, are counted e = 0, 1, …: along the row for stage 1, for stage 2
 * first over the blocks, then over k. A warp moves 8 rows x 32 numbers: lane (t, q) has numbers 8 q … 8 q + 7 of row t,
 * and its register r holds 8 q + 2 r and the next, which is the transposed form of the 8 x 8 matrix r whose lines are
 * the numbers 8 (i / 2) + 2 r + i % 2. */

/* A lane's part in the moves of 32 numbers: where its 8 numbers stand in a row (-1: past the end), and the byte offset
 * in shared memory of the line that it names for its matrix. */
struct span {
    int at, line, next_sub;
};

template <int STAGE>
__device__ __forceinline__ span span_of(const args &a, int first, int each, int index, int lane, int spare)
{
    span s;
    const int i = lane % 8, g = index * 32 + 8 * (lane % 4), e = index * 32 + 8 * (i / 2) + 2 * (lane / 8) + i % 2;
    int b, k;
    if (STAGE == 1) {
        b = e / each;
        k = e - b * each;
        s.at = first * each + g;
        if (g >= each << a.group_log) s.at = -1;
    } else {
        b = e & (a.group - 1);
        k = e >> a.group_log;
        const int block = first + (g & (a.group - 1));
        s.at = (g >> a.group_log) * a.n2 + block;
        if (g >> a.group_log >= each || block >= a.blocks) s.at = -1;
    }
    if (s.at >= a.width) s.at = -1;
    const bool real = b < a.group && k < each;
    s.line = real ? line_at(a, b, b, k, 0) : spare;
    s.next_sub = real ? (a.pitch << a.group_log) * LINE : 0;
    return s;
}

/* `LOADS` moves of a warp, 8 rows each: moves go through the rows of the tiles, then on to the next 32 numbers. */
template <int STAGE, int LOADS>
__device__ __forceinline__ void fetch_outer(const args &a, int first, int each, int warp, int lane, int64_t row0,
                                            uint4 (&next)[LOADS])
{
    const sti_bf16 *base = a.outer + row0 * a.ld;
    const int ld = (int)a.ld, left = (int)(a.count - row0 < 4096 ? a.count - row0 : 4096), rows_log = a.subs_log + 2;
    span s;
#pragma unroll
    for (int l = 0; l < LOADS; l++) {
        const int it = warp * LOADS + l, rows = it & ((1 << rows_log) - 1), row = rows * 8 + lane / 4;
        if (l == 0 || rows == 0) s = span_of<STAGE>(a, first, each, it >> rows_log, lane, 0);
        next[l] = s.at >= 0 && row < left ? __ldcs((const uint4 *)(base + (row * ld + s.at))) : zero4();
    }
}

template <int STAGE, int LOADS>
__device__ __forceinline__ void keep_outer(const args &a, int first, int each, int warp, int lane, uint32_t to,
                                           int spare, const uint4 (&next)[LOADS])
{
    const int rows_log = a.subs_log + 2;
    span s;
#pragma unroll
    for (int l = 0; l < LOADS; l++) {
        const int it = warp * LOADS + l, rows = it & ((1 << rows_log) - 1);
        if (l == 0 || rows == 0) s = span_of<STAGE>(a, first, each, it >> rows_log, lane, spare);
        store_turned(to + (uint32_t)((s.line ^ ((rows & 3) << 4)) + (rows >> 2) * s.next_sub), next[l]);
    }
}

__device__ __forceinline__ uint4 add_scaled(uint4 x, float beta, uint4 y)
{
    uint32_t r[4] = { x.x, x.y, x.z, x.w };
    const uint32_t o[4] = { y.x, y.y, y.z, y.w };
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const float2 u = __bfloat1622float2(*(const __nv_bfloat162 *)&r[i]),
                     v = __bfloat1622float2(*(const __nv_bfloat162 *)&o[i]);
        r[i] = pack(u.x + beta * v.x, u.y + beta * v.y);
    }
    return make_uint4(r[0], r[1], r[2], r[3]);
}

/* ---- a tile's numbers ---- */

/* Piece `it`: 16 bytes (8 rows) of a number. */
struct piece {
    int sub, b, k, c;
    int at; /* element from the first tile's beginning, or -1 */
};
template <int STAGE> __device__ __forceinline__ piece piece_of(const args &a, int first, int each, int lines, int it)
{ /* `lines` for each block, the last ones past its numbers */
    piece p;
    p.c = it & 3;
    const int line = it >> 2;
    if (STAGE == 1) {
        const int unit = line / lines;
        p.k = line - unit * lines;
        p.b = unit & (a.group - 1);
        p.sub = unit >> a.group_log;
    } else {
        const int all = lines << a.group_log, t = line & ((1 << a.run_log) - 1);
        p.sub = line / all;
        const int jg = (line - p.sub * all) >> a.run_log;
        p.b = jg & (a.group - 1);
        p.k = (jg >> a.group_log << a.run_log) + t;
    }
    p.at = p.k < each && first + p.b < a.blocks
               ? (p.sub * (int)a.middle + inner_index<STAGE>(a, first + p.b, p.k, each)) * ROWS + p.c * 8
               : -1;
    return p;
}

__device__ __forceinline__ void copy16(uint32_t to, const void *from)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to), "l"(from) : "memory");
}

/* ---- one stage ---- */

/* Queue the copy of the group's weights: line by line, 8 or 16 lanes each. */
__device__ __forceinline__ void load_weights(const args &a, int first, uint32_t w)
{
    const int lines = a.w_turned ? a.k : a.m, chunks = (a.w_turned ? a.m : a.k) / 8;
    const int pitch = ((chunks + 1) / 2 * 2 + 1) * 16, all = (a.w_step ? a.group : 1) * lines;
    const int lanes_log = chunks <= 8 ? 3 : 4, c = threadIdx.x & ((1 << lanes_log) - 1);
    if (c >= chunks) return;
    for (int i = (int)threadIdx.x >> lanes_log; i < all; i += (int)blockDim.x >> lanes_log) {
        const int b = i / lines, l = i - b * lines;
        if (first + b < a.blocks)
            copy16(w + (uint32_t)(b * a.w_bytes + l * pitch + c * 16),
                   a.w + ((int64_t)(first + b) * a.w_step + l * a.w_line + c * 8));
    }
}

/* The warp's unit: out = W in, 16 outputs at a time. `put(m0, h, v)` receives outputs m0 + 8 h + lane / 4, four packed
 * pairs of rows each. */
template <int KT, bool TURNED, typename put_fn>
__device__ __forceinline__ void product(const args &a, uint32_t w, const uint32_t (&in)[KT][4][2], float alpha,
                                        put_fn put)
{
    const int lane = threadIdx.x % 32, l8 = lane % 8, mat = lane / 8;
    const int chunks = (TURNED ? a.m : a.k) / 8, pitch = ((chunks + 1) / 2 * 2 + 1) * 16;
    /* matrices: (m, k), (m + 8, k), (m, k + 8), (m + 8, k + 8) */
    uint32_t at = TURNED ? w + (uint32_t)(((mat >> 1) * 8 + l8) * pitch + (mat & 1) * 16)
                         : w + (uint32_t)(((mat & 1) * 8 + l8) * pitch + (mat >> 1) * 16);
    const uint32_t down = (uint32_t)(16 * pitch);
    for (int m0 = 0; m0 < a.m; m0 += 16, at += TURNED ? 32 : down) {
        float c[4][4] = {};
        uint32_t from = at;
#pragma unroll
        for (int kt = 0; kt < KT; kt++, from += TURNED ? down : 32) {
            uint32_t f[4];
            if (TURNED)
                load_turned(f, from);
            else
                load_matrices(f, from);
#pragma unroll
            for (int n = 0; n < 4; n++) multiply(c[n], f, in[kt][n][0], in[kt][n][1]);
        }
#pragma unroll
        for (int h = 0; h < 2; h++)
            put(m0, h,
                make_uint4(pack(alpha * c[0][2 * h], alpha * c[0][2 * h + 1]),
                           pack(alpha * c[1][2 * h], alpha * c[1][2 * h + 1]),
                           pack(alpha * c[2][2 * h], alpha * c[2][2 * h + 1]),
                           pack(alpha * c[3][2 * h], alpha * c[3][2 * h + 1])));
    }
}

/* Bytes of the group's weights; what follows them is aligned to a line. */
static __host__ __device__ inline int weight_bytes(const args &a)
{
    return ((a.w_step ? a.group : 1) * a.w_bytes + LINE - 1) / LINE * LINE;
}

template <int STAGE, int KT> struct team {
    enum { WARPS = STAGE == 2 && KT <= 4 ? 16 : 8, BLOCKS = STAGE == 1 && KT <= 4 ? 2 : 1 };
};

/* A thread block's share: blocks from `first` on, every `slices`-th step of rows. */
struct lot {
    int first, slice, slices;
};

__device__ __forceinline__ void copy16_or_zero(uint32_t to, const void *from, bool real, uint64_t policy)
{
    asm volatile("cp.async.cg.shared.global.L2::cache_hint [%0], [%1], 16, %2, %3;" ::"r"(to), "l"(from),
                 "r"(real ? 16 : 0), "l"(policy)
                 : "memory");
}
__device__ __forceinline__ uint64_t read_once()
{
    uint64_t p;
    asm volatile("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(p));
    return p;
}
#define COMMIT() asm volatile("cp.async.commit_group;" ::: "memory")
#define WAIT(left) asm volatile("cp.async.wait_group %0;" ::"n"(left) : "memory")

/* Offset of number k + 8 l in lines, less that of k < 8: the same for all blocks. */
template <int STAGE> __device__ __forceinline__ int eight_on(const args &a, int l)
{
    return STAGE == 1 ? 8 * l : inner_index<STAGE>(a, 0, 8 * l, 0);
}

/* The warp's inputs, from its lines (index, 32 rows). `at`: this lane's address for kt = 0 and chunk 0; `turn`: how the
 * swizzle goes on with kt. */
template <int KT, int TURN> __device__ __forceinline__ void inputs_of_lines(uint32_t at, uint32_t (&in)[KT][4][2])
{
#pragma unroll
    for (int kt = 0; kt < KT; kt++)
#pragma unroll
        for (int n = 0; n < 4; n += 2) {
            uint32_t r[4];
            load_turned(r, (at ^ (uint32_t)((n ^ (TURN * kt & 1) << 1) << 4)) + kt * 16 * LINE);
            in[kt][n][0] = r[0], in[kt][n][1] = r[1], in[kt][n + 1][0] = r[2], in[kt][n + 1][1] = r[3];
        }
}

template <int KT> struct rows_buffer { /* stage 1's inputs: 32 rows of a block, of an odd number of chunks */
    enum {
        LANES = KT <= 1   ? 2
                : KT <= 2 ? 4
                : KT <= 4 ? 8
                          : 16,
        PITCH = (2 * KT + 1) * 16,
        BYTES = ROWS * PITCH,
        COUNT = KT <= 4 ? 2 : 1
    };
};

/* Stage 1, x -> tiles: every warp for itself. */
template <int KT>
__device__ __forceinline__ void rows_to_tiles(const args &a, const lot &at, uint32_t w_at, uint32_t data)
{
    typedef rows_buffer<KT> buffer;
    constexpr int EACH = 32 / buffer::LANES;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, b = warp & (a.group - 1), sub = warp >> a.group_log;
    const int tiles = (int)((a.count + ROWS - 1) / ROWS), steps = (tiles + a.subs - 1) >> a.subs_log;
    const bool real = at.first + b < a.blocks;
    const int chunk = lane % buffer::LANES, col = (at.first + b) * a.k + chunk * 8;
    const bool ok = real && chunk * 8 < a.k && col < a.width;
    const sti_bf16 *from = a.outer + (ok ? col : 0) + (lane / buffer::LANES) * a.ld;
    const uint32_t mine = data + (uint32_t)(warp * buffer::COUNT * buffer::BYTES);
    const uint32_t to = mine + (uint32_t)(lane / buffer::LANES * buffer::PITCH + chunk * 16);
    const uint32_t in_at = mine + (uint32_t)((lane / 16 * 8 + lane % 8) * buffer::PITCH + (lane / 8 & 1) * 16);
    const uint64_t policy = read_once();
    auto fetch = [&](int step, int half) {
        const int64_t row0 = (int64_t)((step << a.subs_log) + sub) * ROWS;
        const sti_bf16 *p = from + row0 * a.ld;
        const int64_t left = a.count - row0, line = EACH * a.ld;
        const int limit = (int)(left < ROWS ? left : ROWS) - lane / buffer::LANES;
        if (chunk < 2 * KT) {
#pragma unroll
            for (int l = 0; l < buffer::LANES; l++, p += line)
                copy16_or_zero(to + (uint32_t)(half * buffer::BYTES + l * EACH * buffer::PITCH), p,
                               ok && l * EACH < limit, policy);
        }
        COMMIT();
    };
    int half = 0;
    if (at.slice < steps) fetch(at.slice, 0);
    for (int step = at.slice; step < steps; step += at.slices) {
        if (buffer::COUNT == 2) {
            if (step + at.slices < steps)
                fetch(step + at.slices, half ^ 1);
            else
                COMMIT();
            WAIT(1);
        } else
            WAIT(0);
        __syncwarp();
        uint32_t in[KT][4][2];
#pragma unroll
        for (int kt = 0; kt < KT; kt++)
#pragma unroll
            for (int n = 0; n < 4; n += 2) {
                uint32_t r[4];
                load_matrices(r, in_at + (uint32_t)(half * buffer::BYTES + n * 8 * buffer::PITCH + kt * 32));
                in[kt][n][0] = r[0], in[kt][n][1] = r[1], in[kt][n + 1][0] = r[2], in[kt][n + 1][1] = r[3];
            }
        __syncwarp();
        if (buffer::COUNT == 2)
            half ^= 1;
        else if (step + at.slices < steps)
            fetch(step + at.slices, 0);
        const int tile = (step << a.subs_log) + sub;
        const bool stored = real && tile < tiles;
        sti_bf16 *out = a.tiles + ((int64_t)tile * a.middle + (at.first + b) * a.m + lane / 4) * ROWS + lane % 4 * 8;
        auto put = [&](int m0, int h, uint4 v) {
            if (stored && m0 + 8 * h < a.m) store_global(out + (m0 + 8 * h) * ROWS, v);
        };
        const uint32_t w = w_at + (uint32_t)(a.w_step ? b * a.w_bytes : 0);
        if (a.w_turned)
            product<KT, true>(a, w, in, 1, put);
        else
            product<KT, false>(a, w, in, 1, put);
    }
}

/* Tiles in: a lane's part of the warp's unit, 16 bytes of every eighth number. */
template <int STAGE, int KT> struct tile_reader {
    const sti_bf16 *from;
    bool real;
    __device__ __forceinline__ tile_reader(const args &a, int block, int lane)
    {
        real = block < a.blocks;
        from = a.tiles + (real ? inner_index<STAGE>(a, block, lane / 4, a.k) : 0) * ROWS + lane % 4 * 8;
    }
    __device__ __forceinline__ void fetch(const args &a, int tile, int tiles, uint4 (&next)[2 * KT])
    {
        if (!real || tile >= tiles) return;
        const sti_bf16 *p = from + (int64_t)tile * a.middle * ROWS;
#pragma unroll
        for (int l = 0; l < 2 * KT; l++)
            if (8 * l < a.k) next[l] = __ldcg((const uint4 *)(p + eight_on<STAGE>(a, l) * ROWS));
    }
};

/* Stage 1 transposed, tiles -> dx: every warp for itself, in its own lines. */
template <int KT>
__device__ __forceinline__ void tiles_to_rows(const args &a, const lot &at, uint32_t w_at, uint32_t data)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, b = warp & (a.group - 1), sub = warp >> a.group_log;
    const int tiles = (int)((a.count + ROWS - 1) / ROWS), steps = (tiles + a.subs - 1) >> a.subs_log;
    const int l8 = lane % 8, mat = lane / 8;
    const uint32_t mine = data + (uint32_t)(warp * a.pitch * LINE);
    /* chunk c of line k lies at c ^ (k >> 1) ^ (k >> 3) */
    const uint32_t line = mine + (uint32_t)(lane / 4 * LINE + ((lane ^ lane >> 3) & 3) * 16);
    const uint32_t in_at = mine + (uint32_t)(((mat & 1) * 8 + l8) * LINE + ((mat >> 1 ^ l8 >> 1 ^ (mat & 1)) & 3) * 16);
    const int place = 8 * (l8 / 2) + 2 * mat + l8 % 2;
    const uint32_t back = mine + (uint32_t)(place * LINE + ((mat ^ l8 / 2) & 3) * 16);
    const int number = lane % 4 * 8, col = (at.first + b) * a.m + number;
    tile_reader<1, KT> reader(a, at.first + b, lane);
    uint4 next[2 * KT];
#pragma unroll
    for (int l = 0; l < 2 * KT; l++) next[l] = zero4();
    reader.fetch(a, (at.slice << a.subs_log) + sub, tiles, next);
    for (int step = at.slice; step < steps; step += at.slices) {
        const int tile = (step << a.subs_log) + sub;
#pragma unroll
        for (int l = 0; l < 2 * KT; l++) store_shared((line ^ (uint32_t)((l & 3) << 4)) + l * 8 * LINE, next[l]);
        __syncwarp();
        reader.fetch(a, ((step + at.slices) << a.subs_log) + sub, tiles, next);
        uint32_t in[KT][4][2];
        inputs_of_lines<KT, 1>(in_at, in);
        __syncwarp();
        auto put = [&](int m0, int h, uint4 v) {
            store_shared((line ^ (uint32_t)((h | (m0 >> 4 & 1) << 1) << 4)) + (m0 + 8 * h) * LINE, v);
        };
        const uint32_t w = w_at + (uint32_t)(a.w_step ? b * a.w_bytes : 0);
        if (a.w_turned)
            product<KT, true>(a, w, in, a.alpha, put);
        else
            product<KT, false>(a, w, in, a.alpha, put);
        __syncwarp();
        const int64_t row0 = (int64_t)tile * ROWS, left = reader.real ? a.count - row0 : 0;
        sti_bf16 *out = a.outer + (row0 + lane / 4) * a.ld + col;
        for (int i = 0; i * 32 < a.m; i++) {
            const bool inside = i * 32 + number < a.m && col + i * 32 < a.width;
#pragma unroll
            for (int c = 0; c < 4; c++) {
                uint32_t r[4];
                load_turned(r, (back ^ (uint32_t)(c << 4)) + i * 32 * LINE);
                if (!inside || c * 8 + lane / 4 >= left) continue;
                uint4 *to = (uint4 *)(out + (int64_t)(c * 8) * a.ld + i * 32), v = make_uint4(r[0], r[1], r[2], r[3]);
                if (a.beta != 0) v = add_scaled(v, a.beta, *to);
                __stcs(to, v);
            }
        }
        __syncwarp();
    }
}

/* Stage 2's outer side: the thread block's 8 or 16 neighbouring blocks are contiguous in a row. Chunk c of line k of
 * block b lies at c ^ (k >> 1) ^ 2 b ^ (b >> 3). A move is 8 rows x 32 numbers, a quad the four moves of a tile. */
struct columns {
    uint32_t line, sub_step;
    int col, col_step, line_step, key_step, quads;
    bool real;
    __device__ __forceinline__ columns(const args &a, int first, int each, int lane, uint32_t data)
    {
        const int i = lane % 8, e = 8 * (i / 2) + 2 * (lane / 8) + i % 2, b = e & (a.group - 1), k = e >> a.group_log;
        line = data + (uint32_t)((b * a.pitch + k) * LINE + ((k >> 1 ^ b << 1 ^ b >> 3) & 3) * 16);
        sub_step = (uint32_t)((a.pitch << a.group_log) * LINE);
        const int g = lane % 4 * 8, block = first + (g & (a.group - 1));
        real = block < a.blocks;
        col = (g >> a.group_log) * a.n2 + block;
        col_step = (32 >> a.group_log) * a.n2;
        line_step = (32 >> a.group_log) * LINE;
        key_step = 16 >> a.group_log;
        quads = each << a.group_log >> 5 << a.subs_log;
    }
    /* Of the lane's line for the first move; the others' is this ^ 16 c. */
    __device__ __forceinline__ uint32_t at(int span, int sub) const
    {
        return (line ^ (uint32_t)((span * key_step & 3) << 4)) + (uint32_t)(span * line_step) +
               (uint32_t)sub * sub_step;
    }
};

/* Stage 2, tiles -> y. */
template <int KT, int WARPS>
__device__ __forceinline__ void tiles_to_columns(const args &a, const lot &at, uint32_t w_at, uint32_t data)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, b = warp & (a.group - 1), sub = warp >> a.group_log;
    const int tiles = (int)((a.count + ROWS - 1) / ROWS), steps = (tiles + a.subs - 1) >> a.subs_log;
    const int l8 = lane % 8, mat = lane / 8, key = b << 1 ^ b >> 3;
    const uint32_t mine = data + (uint32_t)(warp * a.pitch * LINE);
    const uint32_t line = mine + (uint32_t)(lane / 4 * LINE + ((lane ^ lane >> 3 ^ key) & 3) * 16);
    const uint32_t in_at = mine + (uint32_t)(((mat & 1) * 8 + l8) * LINE + ((mat >> 1 ^ l8 >> 1 ^ key) & 3) * 16);
    const columns y(a, at.first, a.m, lane, data);
    tile_reader<2, KT> reader(a, at.first + b, lane);
    uint4 next[2 * KT];
#pragma unroll
    for (int l = 0; l < 2 * KT; l++) next[l] = zero4();
    reader.fetch(a, (at.slice << a.subs_log) + sub, tiles, next);
    for (int step = at.slice; step < steps; step += at.slices) {
#pragma unroll
        for (int l = 0; l < 2 * KT; l++) store_shared(line + l * 8 * LINE, next[l]);
        __syncwarp();
        uint32_t in[KT][4][2];
        inputs_of_lines<KT, 0>(in_at, in);
        __syncwarp();
        reader.fetch(a, ((step + at.slices) << a.subs_log) + sub, tiles, next);
        auto put = [&](int m0, int h, uint4 v) { store_shared(line + (m0 + 8 * h) * LINE, v); };
        const uint32_t w = w_at + (uint32_t)(a.w_step ? b * a.w_bytes : 0);
        if (a.w_turned)
            product<KT, true>(a, w, in, a.alpha, put);
        else
            product<KT, false>(a, w, in, a.alpha, put);
        __syncthreads();
        for (int quad = warp; quad < y.quads; quad += WARPS) {
            const int span = quad >> a.subs_log, of = quad & (a.subs - 1), col = y.col + span * y.col_step;
            const int64_t row0 = (int64_t)((step << a.subs_log) + of) * ROWS + lane / 4;
            const int left = y.real && col < a.width ? (int)(a.count - row0 < ROWS ? a.count - row0 : ROWS) : 0;
            const uint32_t from = y.at(span, of);
            sti_bf16 *to = a.outer + (row0 * a.ld + col);
#pragma unroll
            for (int c = 0; c < 4; c++, to += 8 * a.ld) {
                uint32_t r[4];
                load_turned(r, from ^ (uint32_t)(c << 4));
                if (c * 8 >= left) continue;
                uint4 v = make_uint4(r[0], r[1], r[2], r[3]);
                if (a.beta != 0) v = add_scaled(v, a.beta, *(const uint4 *)to);
                __stcs((uint4 *)to, v);
            }
        }
        __syncthreads();
    }
}

/* Stage 2 transposed, dy -> tiles. */
template <int KT, int WARPS>
__device__ __forceinline__ void columns_to_tiles(const args &a, const lot &at, uint32_t w_at, uint32_t data)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32, b = warp & (a.group - 1), sub = warp >> a.group_log;
    const int tiles = (int)((a.count + ROWS - 1) / ROWS), steps = (tiles + a.subs - 1) >> a.subs_log;
    const int l8 = lane % 8, mat = lane / 8, key = b << 1 ^ b >> 3, block = at.first + b;
    const uint32_t mine = data + (uint32_t)(warp * a.pitch * LINE);
    const uint32_t in_at = mine + (uint32_t)(((mat & 1) * 8 + l8) * LINE + ((mat >> 1 ^ l8 >> 1 ^ key) & 3) * 16);
    const columns dy(a, at.first, a.k, lane, data);
    const bool real = block < a.blocks;
    constexpr int QUADS = (KT + 1) / 2; /* of a warp */
    uint4 next[QUADS][4];
    auto fetch = [&](int step) {
#pragma unroll
        for (int k = 0; k < QUADS; k++) {
            const int quad = warp + k * WARPS, span = quad >> a.subs_log, of = quad & (a.subs - 1);
            const int col = dy.col + span * dy.col_step;
            const int64_t row0 = (int64_t)((step << a.subs_log) + of) * ROWS + lane / 4;
            const bool inside = dy.real && quad < dy.quads && col < a.width;
            const int left = inside ? (int)(a.count - row0 < ROWS ? a.count - row0 : ROWS) : 0;
            const sti_bf16 *p = a.outer + (row0 * a.ld + col);
#pragma unroll
            for (int c = 0; c < 4; c++, p += 8 * a.ld) next[k][c] = c * 8 < left ? __ldcs((const uint4 *)p) : zero4();
        }
    };
    if (at.slice < steps) fetch(at.slice);
    for (int step = at.slice; step < steps; step += at.slices) {
#pragma unroll
        for (int k = 0; k < QUADS; k++) {
            const int quad = warp + k * WARPS;
            if (quad >= dy.quads) break;
            const uint32_t to = dy.at(quad >> a.subs_log, quad & (a.subs - 1));
#pragma unroll
            for (int c = 0; c < 4; c++) store_turned(to ^ (uint32_t)(c << 4), next[k][c]);
        }
        __syncthreads();
        if (step + at.slices < steps) fetch(step + at.slices);
        uint32_t in[KT][4][2];
        inputs_of_lines<KT, 0>(in_at, in);
        const int tile = (step << a.subs_log) + sub;
        sti_bf16 *out =
            a.tiles + ((int64_t)tile * a.middle + inner_index<2>(a, block, lane / 4, a.m)) * ROWS + lane % 4 * 8;
        const bool stored = real && tile < tiles;
        auto put = [&](int m0, int h, uint4 v) {
            if (stored && m0 + 8 * h < a.m) store_global(out + inner_index<2>(a, 0, m0 + 8 * h, a.m) * ROWS, v);
        };
        const uint32_t w = w_at + (uint32_t)(a.w_step ? b * a.w_bytes : 0);
        if (a.w_turned)
            product<KT, true>(a, w, in, 1, put);
        else
            product<KT, false>(a, w, in, 1, put);
        __syncthreads();
    }
}

/* Bytes that the warps' inputs and outputs take. */
static __host__ __device__ inline int data_bytes(const args &a, int stage, bool into, int kt, int warps)
{
    if (stage == 1 && into) return warps * ROWS * (2 * kt + 1) * 16 * (kt <= 4 ? 2 : 1); /* rows_buffer */
    return (warps * a.pitch + ROWS) * LINE; /* a span of 32 numbers may end past the last unit */
}

/* INTO: outer -> tiles; else tiles -> outer. */
template <int STAGE, bool INTO, int KT>
__global__ void __launch_bounds__(32 * team<STAGE, KT>::WARPS, team<STAGE, KT>::BLOCKS) stage(const args a)
{
    extern __shared__ __align__(128) char memory[];
    constexpr int WARPS = team<STAGE, KT>::WARPS;
    const int groups = (a.blocks + a.group - 1) / a.group;
    const lot at = { (int)(blockIdx.x % groups) * a.group, (int)(blockIdx.x / groups), (int)(gridDim.x / groups) };
    const int w_all = weight_bytes(a);
    const uint32_t w_at = shared_address(memory), data = w_at + (uint32_t)w_all;
    let_next_begin();
    if ((a.k | a.m) % 16) clear(memory, w_all + data_bytes(a, STAGE, INTO, KT, WARPS)); /* numbers that no one writes */
    load_weights(a, at.first, w_at);
    COMMIT();
    WAIT(0);
    __syncthreads();
    await_last(); /* the tiles come from the launch before; weights do not */
    if constexpr (STAGE == 1 && INTO)
        rows_to_tiles<KT>(a, at, w_at, data);
    else if constexpr (STAGE == 1)
        tiles_to_rows<KT>(a, at, w_at, data);
    else if constexpr (INTO)
        columns_to_tiles<KT, WARPS>(a, at, w_at, data);
    else
        tiles_to_columns<KT, WARPS>(a, at, w_at, data);
}

/* ---- gradients of the weights ------------------------------------------------------------------------------------
 * dW (outer number, inner number) = sum over rows of outer * inner, for all blocks of a group: a warp holds the sums of
 * a tile of 32 x 8 NT, the thread block walks over its slice of the rows. Lane (t, q) reads 16 bytes of an outer line,
 * whose r-th word is rows 8 q + 2 r: those that ldmatrix gives for chunk r of an inner line. */

struct grad_args {
    args a;                     /* outer: k per block, inner: m per block */
    float *part;                /* (slice, blocks, weights of a block) */
    int64_t part_step;          /* numbers of a slice */
    int block_step;             /* of a block */
    int outer_step, inner_step; /* of W along each */
    bool add;                   /* `part` is the gradient itself: one slice */
    int parts;                  /* thread blocks that share the tiles of a group */
    int inner_pitch;
};

template <int STAGE, int NT> __global__ void __launch_bounds__(512, 1) weights(const grad_args g)
{
    extern __shared__ __align__(128) char memory[];
    constexpr int WARPS = 16;
    const args &a = g.a;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int groups = (a.blocks + a.group - 1) / a.group, first = blockIdx.x % groups * a.group;
    const int part = blockIdx.x / groups % g.parts, slice = blockIdx.x / (groups * g.parts),
              slices = gridDim.x / (groups * g.parts);
    const int outer_bytes = a.group * a.pitch * LINE, inner_bytes = a.group * g.inner_pitch * LINE;
    char *outer = memory, *inner = memory + outer_bytes + LINE;
    const uint32_t outer_at = shared_address(outer), inner_at = shared_address(inner);
    const int64_t tiles = (a.count + ROWS - 1) / ROWS;
    const int pieces = a.group * g.inner_pitch * 4;
    args in = a; /* the inner side: its lines */
    in.pitch = g.inner_pitch;

    /* the warp's tile */
    const int across = (a.m + 8 * NT - 1) / (8 * NT), down = (a.k + 31) / 32, mine = part * WARPS + warp;
    const int b = mine / (down * across), o0 = mine / across % down * 32, i0 = mine % across * 8 * NT;
    const bool works = b < a.group && first + b < a.blocks;

    let_next_begin();
    if ((a.k | a.m) % 16) clear(memory, outer_bytes + 2 * inner_bytes + 3 * LINE);
    await_last();

    uint4 next[4]; /* a span of 32 numbers for each warp */
    auto fetch = [&](int64_t tile) { fetch_outer<STAGE>(a, first, a.k, warp, lane, tile * ROWS, next); };
    auto copy = [&](int64_t tile, int half) {
        const sti_bf16 *base = a.tiles + tile * a.middle * ROWS;
        for (int it = (int)threadIdx.x; it < pieces; it += 32 * WARPS) {
            const piece p = piece_of<STAGE>(in, first, a.m, g.inner_pitch, it);
            if (p.at < 0) continue;
            copy16(inner_at + (uint32_t)(half * (inner_bytes + LINE) + line_at(in, p.b, p.b, p.k, p.c)), base + p.at);
        }
        asm volatile("cp.async.commit_group;" ::: "memory");
    };

    float sum[2][NT][4] = {};
    int half = 0;
    if (slice < tiles) {
        fetch(slice);
        copy(slice, 0);
    }
    for (int64_t tile = slice; tile < tiles; tile += slices, half ^= 1) {
        keep_outer<STAGE>(a, first, a.k, warp, lane, outer_at, outer_bytes, next);
        asm volatile("cp.async.wait_group 0;" ::: "memory");
        __syncthreads();
        if (tile + slices < tiles) {
            fetch(tile + slices);
            copy(tile + slices, half ^ 1);
        }
        if (works) {
            uint32_t f[2][2][4]; /* [16 outer numbers][16 rows] */
#pragma unroll
            for (int mt = 0; mt < 2; mt++)
#pragma unroll
                for (int h = 0; h < 2; h++) {
                    const int k = o0 + 16 * mt + 8 * h + lane / 4;
                    const uint4 v = k < a.pitch ? *(const uint4 *)(outer + line_at(a, b, b, k, lane % 4)) : zero4();
                    f[mt][0][h] = v.x, f[mt][0][2 + h] = v.y, f[mt][1][h] = v.z, f[mt][1][2 + h] = v.w;
                }
#pragma unroll
            for (int n = 0; n < NT; n++) {
                const int k = i0 + 8 * n;
                if (k >= a.m) break;
                uint32_t r[4];
                load_matrices(
                    r, inner_at + (uint32_t)(half * (inner_bytes + LINE) + line_at(in, b, b, k + lane % 8, lane / 8)));
#pragma unroll
                for (int mt = 0; mt < 2; mt++) {
                    multiply(sum[mt][n], f[mt][0], r[0], r[1]);
                    multiply(sum[mt][n], f[mt][1], r[2], r[3]);
                }
            }
        }
        __syncthreads();
    }
    if (!works) return;
    float *to = g.part + slice * g.part_step + (int64_t)(first + b) * g.block_step;
#pragma unroll
    for (int mt = 0; mt < 2; mt++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int o = o0 + 16 * mt + i / 2 * 8 + lane / 4, at = i0 + 8 * n + lane % 4 * 2 + i % 2;
                if (o >= a.k || at >= a.m) continue;
                float *w = to + (o * g.outer_step + at * g.inner_step);
                *w = g.add ? *w + sum[mt][n][i] : sum[mt][n][i];
            }
}

/* dw (n) += the sum of `parts` arrays, one after the other */
__global__ void add_parts(int64_t n, int parts, const float *part, float *dw)
{
    let_next_begin();
    await_last();
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < n; i += (int64_t)gridDim.x * blockDim.x) {
        float sum = 0;
        for (int p = 0; p < parts; p++) sum += part[p * n + i];
        dw[i] += sum;
    }
}

/* ---- host ---------------------------------------------------------------------------------------------------------
 */

int round16(int64_t n)
{
    return (int)((n + 15) / 16 * 16);
}
int lines_pitch(int64_t contiguous) /* bytes; an odd number of chunks */
{
    return (int)(((contiguous / 8 + 1) / 2 * 2 + 1) * 16);
}

/* A stage in one direction, without its arrays: k inputs and m outputs. */
args stage_args(const sti_twostage *t, int stage, bool into)
{
    args a = {};
    a.blocks = (int)(stage == 1 ? t->n1 : t->n2);
    const int64_t outer = stage == 1 ? t->p : t->s, inner = stage == 1 ? t->q : t->r;
    a.k = (int)(into ? outer : inner);
    a.m = (int)(into ? inner : outer);
    a.width = stage == 1 ? t->cols : t->rows;
    a.middle = t->n1 * t->q;
    a.n2 = (int)t->n2;
    for (a.run_log = 0; 1 << a.run_log < t->group;) a.run_log++;
    a.w_step = t->tied ? 0 : (int)(outer * inner);
    /* lines of W run along: w1 out_major (q, p) p, else (p, q) q; w2 (s, r) r */
    const bool along_outer = stage == 1 && t->out_major;
    a.w_line = (int)(along_outer ? outer : inner);
    a.w_turned = along_outer != into;
    a.w_bytes = round16(a.w_turned ? a.k : a.m) * lines_pitch(a.w_line);
    a.alpha = 1;
    return a;
}

int tiles_of_k(const args *a)
{
    const int kt = round16(a->k) / 16;
    return kt <= 4 || kt == 6 || kt == 8 ? kt : 0;
}

void set_group(args *a, int group)
{
    a->group = group;
    for (a->group_log = 0; 1 << a->group_log < group;) a->group_log++;
}

typedef void (*stage_fn)(const args);
template <int STAGE, bool INTO> stage_fn stage_kernel(int kt)
{
    switch (kt) {
    case 1: return stage<STAGE, INTO, 1>;
    case 2: return stage<STAGE, INTO, 2>;
    case 3: return stage<STAGE, INTO, 3>;
    case 4: return stage<STAGE, INTO, 4>;
    case 6: return stage<STAGE, INTO, 6>;
    default: return stage<STAGE, INTO, 8>;
    }
}

enum { SHARED_MOST = 227 * 1024 };

/* Choose group and row tiles for `warps` warps. Stage 2 takes 16 neighbouring blocks where it can (their outputs are
 * then whole 32-byte sectors of y), stage 1 few: its weights then leave room for two thread blocks.
 * @return bytes of shared memory, 0: does not fit */
int plan_group(args *a, int stage, bool into, int warps, int most, int least)
{
    const int kt = tiles_of_k(a);
    if (!kt || a->m > 128) return 0;
    a->pitch = into || round16(a->m) < 16 * kt ? 16 * kt : round16(a->m);
    for (int group = most; group >= least; group /= 2) {
        set_group(a, group);
        a->subs = warps / group;
        for (a->subs_log = 0; 1 << a->subs_log < a->subs;) a->subs_log++;
        const int bytes = weight_bytes(*a) + data_bytes(*a, stage, into, kt, warps);
        if (bytes <= SHARED_MOST) return bytes;
    }
    return 0;
}
int plan_stage(args *a, int stage, bool into, int *warps)
{
    *warps = stage == 2 && tiles_of_k(a) <= 4 ? 16 : 8;
    return stage == 2 ? plan_group(a, stage, into, *warps, *warps, 8)
                      : plan_group(a, stage, into, *warps, a->k * a->m >= 8192 ? 2 : 4, 2);
}

/* follows: the launch before is one of this file, which this one may begin beside: see await_last. */
template <typename... P, typename... A>
void launch(const strata_context *ctx, const char *what, bool follows, int64_t blocks, int threads, int bytes,
            void (*fn)(P...), A... args)
{
    sti_cuda *c = sti_cuda_of(ctx);
    cudaLaunchAttribute early = {};
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization;
    early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t l = {};
    l.gridDim = dim3((unsigned)blocks);
    l.blockDim = dim3((unsigned)threads);
    l.dynamicSmemBytes = (size_t)bytes;
    l.stream = c->stream;
    l.attrs = &early;
    l.numAttrs = follows ? 1 : 0;
    if (bytes)
        sti_cuda_note(c, cudaFuncSetAttribute((const void *)fn, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes),
                      what);
    sti_cuda_note(c, cudaLaunchKernelEx(&l, fn, P(args)...), what);
}

void run_stage(const strata_context *ctx, args a, int stage, bool into, bool follows)
{
    int warps;
    const int bytes = plan_stage(&a, stage, into, &warps), kt = tiles_of_k(&a);
    const stage_fn fn = stage == 1 ? into ? stage_kernel<1, true>(kt) : stage_kernel<1, false>(kt)
                        : into ? stage_kernel<2, true>(kt)
                                   : stage_kernel<2, false>(kt);
    const int sms = sti_cuda_of(ctx)->sms, per_sm = warps == 8 && bytes <= SHARED_MOST / 2 && kt <= 4 ? 2 : 1;
    const int64_t groups = (a.blocks + a.group - 1) / a.group,
                  steps = (a.count + (int64_t)ROWS * a.subs - 1) / ((int64_t)ROWS * a.subs);
    int64_t slices = sms * per_sm / groups;
    slices = slices < 1 ? 1 : slices > steps ? steps : slices;
    const int64_t rounds = (steps + slices - 1) / slices; /* no more slices than that many rounds need */
    slices = (steps + rounds - 1) / rounds;
    launch(ctx, "twostage stage", follows, groups * slices, 32 * warps, bytes, fn, a);
}

/* Shape of a weight gradient's launch; `a` is the stage with its outer side as inputs. @return bytes, 0: no */
int plan_weights(const strata_context *ctx, grad_args *g, int stage, int *nt, int *slices)
{
    args *a = &g->a;
    *nt = a->m <= 32 ? 4 : 8;
    const int each = (a->k + 31) / 32 * ((a->m + 8 * *nt - 1) / (8 * *nt));
    a->pitch = round16(a->k);
    g->inner_pitch = round16(a->m);
    int group = stage == 2 ? 16 : 8;
    while (group > (stage == 2 ? 8 : 1) && (each * group > 16 || group * a->k > 512)) group /= 2;
    set_group(a, group);
    a->subs = 1;
    a->subs_log = 0;
    if (a->group * a->k > 512) return 0; /* more than the four spans of a warp */
    g->parts = (each * a->group + 15) / 16;
    const int bytes = a->group * (a->pitch + 2 * g->inner_pitch) * LINE + 3 * LINE;
    const int groups = (a->blocks + a->group - 1) / a->group, sms = ctx ? sti_cuda_of(ctx)->sms : (int)MAX_SLICES;
    const int64_t tiles = (a->count + ROWS - 1) / ROWS;
    int64_t n = sms / (groups * g->parts);
    n = n < 1 ? 1 : n > MAX_SLICES ? MAX_SLICES : n;
    *slices = (int)(n > tiles ? tiles : n);
    return bytes <= SHARED_MOST ? bytes : 0;
}

grad_args weight_args(const sti_twostage *t, int stage)
{
    grad_args g = {};
    g.a = stage_args(t, stage, true);
    g.block_step = g.a.k * g.a.m;
    g.part_step = (int64_t)g.a.blocks * g.block_step;
    const bool along_outer = stage == 1 && t->out_major;
    g.outer_step = along_outer ? 1 : g.a.m;
    g.inner_step = along_outer ? g.a.k : 1;
    return g;
}

void run_weights(const strata_context *ctx, grad_args g, int stage, bool follows, float *dw)
{
    int nt, slices;
    const int bytes = plan_weights(ctx, &g, stage, &nt, &slices);
    const int groups = (g.a.blocks + g.a.group - 1) / g.a.group;
    void (*fn)(const grad_args) = stage == 1 ? nt == 4 ? weights<1, 4> : weights<1, 8>
                                  : nt == 4 ? weights<2, 4>
                                             : weights<2, 8>;
    const int64_t n = g.a.w_step ? g.part_step : g.block_step;
    const int parts = g.a.w_step ? slices : slices * g.a.blocks; /* tied blocks share their weights */
    g.add = parts == 1;
    if (g.add) g.part = dw;
    launch(ctx, "twostage weights", follows, (int64_t)groups * g.parts * slices, 512, bytes, fn, g);
    if (!g.add)
        launch(ctx, "twostage sum of weights", follows, sti_blocks(ctx, n, 256, 16), 256, 0, add_parts, n, parts,
               g.part, dw);
}

int64_t tiles_bytes(const sti_twostage *t, int64_t count)
{
    return (count + ROWS - 1) / ROWS * ROWS * t->n1 * t->q * 2;
}

bool aligned(const strata_tensor *x)
{
    return (uintptr_t)x->data % 16 == 0 && x->stride[0] % 8 == 0 && x->stride[0] < 1 << 22;
}

void outer_array(args *a, const strata_tensor *x)
{
    a->outer = (sti_bf16 *)x->data;
    a->ld = x->stride[0];
    a->count = x->shape[0];
}

/* One direction through both stages. */
void through(const sti_twostage *t, const void *w1, const void *w2, bool transposed, double alpha,
             const strata_tensor *x, double beta, const strata_tensor *y, void *work)
{
    const int from = transposed ? 2 : 1;
    args a = stage_args(t, from, true), b = stage_args(t, 3 - from, false);
    a.w = (const sti_bf16 *)(from == 1 ? w1 : w2);
    b.w = (const sti_bf16 *)(from == 1 ? w2 : w1);
    outer_array(&a, x);
    outer_array(&b, y);
    a.tiles = b.tiles = (sti_bf16 *)work;
    b.alpha = (float)alpha;
    b.beta = (float)beta;
    run_stage(t->ctx, a, from, true, false);
    run_stage(t->ctx, b, 3 - from, false, true);
}
} // namespace

extern "C" int64_t sti_twostage_sm90_work(const sti_twostage *t, int64_t max_count)
{
    const bool eights = !((t->p | t->q | t->r | t->s | t->n2 | t->rows | t->cols) & 7);
    const bool power = t->group <= 16 && !(t->group & (t->group - 1));
    const bool small = t->n1 * t->q < 1 << 22 && t->rows < 1 << 22 && t->cols < 1 << 22; /* offsets are 32 bits */
    if (t->dtype != STRATA_BF16 || !eights || !power || !small) return 0;
    int64_t part = 0;
    for (int stage = 1; stage <= 2; stage++) {
        args a = stage_args(t, stage, true), b = stage_args(t, stage, false);
        int warps;
        if (!plan_stage(&a, stage, true, &warps) || !plan_stage(&b, stage, false, &warps)) return 0;
        grad_args g = weight_args(t, stage);
        int nt, slices;
        g.a.count = max_count;
        if (!plan_weights(NULL, &g, stage, &nt, &slices)) return 0;
        const int64_t bytes = MAX_SLICES * g.part_step * (int64_t)sizeof(float);
        part = bytes > part ? bytes : part;
    }
    return tiles_bytes(t, max_count) + part;
}

extern "C" int sti_twostage_sm90_apply(const sti_twostage *t, const void *w1, const void *w2, int transposed,
                                       double alpha, const strata_tensor *x, double beta, const strata_tensor *y,
                                       void *work)
{
    if (!aligned(x) || !aligned(y) || (uintptr_t)w1 % 16 || (uintptr_t)w2 % 16) return 0;
    through(t, w1, w2, transposed, alpha, x, beta, y, work);
    return 1;
}

extern "C" int sti_twostage_sm90_grad(const sti_twostage *t, const void *w1, const void *w2, const strata_tensor *x,
                                      const strata_tensor *dy, void *dw1, void *dw2, double alpha, double beta,
                                      const strata_tensor *dx, void *work)
{
    if (!aligned(x) || !aligned(dy) || (dx && !aligned(dx)) || (uintptr_t)w1 % 16 || (uintptr_t)w2 % 16) return 0;
    sti_bf16 *tiles = (sti_bf16 *)work;
    float *part = (float *)((char *)work + tiles_bytes(t, x->shape[0]));
    args u = stage_args(t, 1, true), du = stage_args(t, 2, true);
    grad_args g1 = weight_args(t, 1), g2 = weight_args(t, 2);
    u.w = (const sti_bf16 *)w1;
    du.w = (const sti_bf16 *)w2;
    u.tiles = du.tiles = g1.a.tiles = g2.a.tiles = tiles;
    outer_array(&u, x);
    outer_array(&g1.a, x);
    outer_array(&du, dy);
    outer_array(&g2.a, dy);
    g1.part = g2.part = part;
    const bool few = x->shape[0] <= 2048; /* launches count */
    run_stage(t->ctx, u, 1, true, false);
    run_weights(t->ctx, g2, 2, few, (float *)dw2);
    run_stage(t->ctx, du, 2, true, few); /* the middle's gradient takes its place */
    run_weights(t->ctx, g1, 1, few, (float *)dw1);
    if (!dx) return 1;
    args b = stage_args(t, 1, false);
    b.w = (const sti_bf16 *)w1;
    b.tiles = tiles;
    b.alpha = (float)alpha;
    b.beta = (float)beta;
    outer_array(&b, dx);
    run_stage(t->ctx, b, 1, false, few);
    return 1;
}
