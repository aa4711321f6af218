// Convolution and its two gradients as matrix products A B in tiles; A is never written to memory ("implicit GEMM").
//
// A block computes 128 x 64 numbers of the product. It brings 16 columns of A and 16 rows of B at a time into shared
// memory, where many threads use each number. A thread takes 8 numbers of A and 4 of B from there into registers, and
// makes 32 multiply-adds with them. So a number of A that was loaded from memory is used 64 times, one of B 128 times,
// and one that was loaded from shared memory 4 or 8 times. While one step is multiplied, the numbers of the next are
// loaded: `fetch` starts the loads, `put` stores the numbers in the other half of shared memory afterwards.
//
// Three products are three pairs of matrices, each a struct with `fetch` and `put`:
//
//          product                   A                                                              B
//     y  (pixels of y, C_out)    = what each pixel sees of x (pixels, KH KW C_in)          times w  (KH KW C_in, C_out)
//     gx (pixels of x, C_in)     = the gy of each output that saw it (pixels, KH KW C_out) times w' (KH KW C_out, C_in)
//     gw (KH KW C_in, C_out)     = what each weight saw of x (KH KW C_in, pixels)          times gy (pixels, C_out)
//
// w' is w with C_in and C_out swapped. The pixels of gw's product are many: they are cut into slices, one for a block,
// and `add_parts` adds up the slices' products, always in the same order.

constexpr int BM = 128, BN = 64, BK = 16, THREADS = 256;
constexpr int PAD = 4;  // numbers behind each row of A in shared memory: columns then fall on different banks

struct Shape {  // of a convolution, as all three products need it
    int N, H, W, C_in, KH, KW, C_out, stride, Hy, Wy;
    int up;  // 1: each pixel of x stands for 2 x 2, so x is (N, H / 2, W / 2, C_in) in memory
};

// ---- where the matrices come from ------------------------------------------------------------------------------------

__device__ __forceinline__ float4 four(const float* from, int some) {  // the first `some` numbers from there on, and zeros
    return make_float4(some > 0 ? from[0] : 0, some > 1 ? from[1] : 0, some > 2 ? from[2] : 0, some > 3 ? from[3] : 0);
}

__device__ __forceinline__ float4 four_whole(const float* from) { return *reinterpret_cast<const float4*>(from); }

// Whether four numbers may be loaded at once from a matrix with rows of this width: they must begin at a multiple of 16
// bytes. The width alone does not decide that: weights are views of one array.
__device__ __forceinline__ bool in_fours(const float* from, int width) {
    return width % 4 == 0 && reinterpret_cast<unsigned long>(from) % 16 == 0;
}

// Rows are pixels, columns what they see through the filter: (kh, kw, c). Fetched by two threads a row, 8 columns each.
template <bool BACK>
struct Seen {
    const float* from;
    Shape s;
    int n, row, column, C;  // of this thread's pixel; C: channels of `from`
    bool whole;
    float4 fetched[2];

    __device__ Seen(const float* from, const Shape& s, long first) : from(from), s(s), C(BACK ? s.C_out : s.C_in) {
        whole = in_fours(from, C);
        long pixel = first + threadIdx.x / 2;
        int h = BACK ? s.H : s.Hy, w = BACK ? s.W : s.Wy;
        column = pixel % w;
        row = pixel / w % h;
        n = pixel / w / h;  // N or more: not a pixel, sees zeros
    }
    // Where pixel (row, column) looks at filter position (kh, kw), or null if that is outside.
    __device__ const float* at(int kh, int kw) const {
        if (BACK) {
            int h = row - kh + s.KH / 2, w = column - kw + s.KW / 2;
            if (n >= s.N || h < 0 || w < 0 || h % s.stride || w % s.stride) return nullptr;
            h /= s.stride;
            w /= s.stride;
            return h < s.Hy && w < s.Wy ? from + (((long)n * s.Hy + h) * s.Wy + w) * C : nullptr;
        }
        int h = row * s.stride + kh - s.KH / 2, w = column * s.stride + kw - s.KW / 2;
        if (n >= s.N || h < 0 || h >= s.H || w < 0 || w >= s.W) return nullptr;
        return from + (((long)n * (s.H >> s.up) + (h >> s.up)) * (s.W >> s.up) + (w >> s.up)) * C;
    }
    __device__ void fetch(int k) {
        k += threadIdx.x % 2 * 8;
        for (int half = 0; half < 2; half++, k += 4) {
            float number[4] = {0, 0, 0, 0};
            if (whole) {  // four columns are four channels of one pixel
                int tap = k / C;
                const float* pixel = tap < s.KH * s.KW ? at(tap / s.KW, tap % s.KW) : nullptr;
                fetched[half] = pixel ? four_whole(pixel + k % C) : make_float4(0, 0, 0, 0);
                continue;
            }
            for (int i = 0; i < 4; i++) {
                int tap = (k + i) / C;
                const float* pixel = tap < s.KH * s.KW ? at(tap / s.KW, tap % s.KW) : nullptr;
                if (pixel) number[i] = pixel[(k + i) % C];
            }
            fetched[half] = make_float4(number[0], number[1], number[2], number[3]);
        }
    }
    __device__ void put(float (*to)[BM + PAD]) const {
        int r = threadIdx.x / 2, k = threadIdx.x % 2 * 8;
        for (int half = 0; half < 2; half++, k += 4) {
            to[k][r] = fetched[half].x;
            to[k + 1][r] = fetched[half].y;
            to[k + 2][r] = fetched[half].z;
            to[k + 3][r] = fetched[half].w;
        }
    }
};

// Columns are pixels of y, rows the weights' (kh, kw, c) that saw them: A of the filter's gradient.
struct SeenByWeights {
    const float* x;
    Shape s;
    int kh, kw, c, some, end;  // of this thread's four rows: the first, and how many there are; where columns end
    float4 fetched[2];

    __device__ SeenByWeights(const float* x, const Shape& s, int first, int end) : x(x), s(s), end(end) {
        int m = first + threadIdx.x % 32 * 4;
        c = m % s.C_in;
        kw = m / s.C_in % s.KW;
        kh = m / s.C_in / s.KW;
        some = min(4, s.KH * s.KW * s.C_in - m);
    }
    __device__ float number(int n, int row, int column, int kh, int kw, int c) const {
        int h = row * s.stride + kh - s.KH / 2, w = column * s.stride + kw - s.KW / 2;
        if (h < 0 || h >= s.H || w < 0 || w >= s.W) return 0;
        return x[(((long)n * (s.H >> s.up) + (h >> s.up)) * (s.W >> s.up) + (w >> s.up)) * s.C_in + c];
    }
    __device__ void fetch(int k) {
        for (int half = 0; half < 2; half++) {
            int pixel = k + threadIdx.x / 32 + 8 * half;
            int column = pixel % s.Wy, row = pixel / s.Wy % s.Hy, n = pixel / s.Wy / s.Hy;
            float number_of[4] = {0, 0, 0, 0};
            int at_h = kh, at_w = kw, at_c = c;
            for (int i = 0; i < 4; i++) {
                if (i < some && pixel < end) number_of[i] = number(n, row, column, at_h, at_w, at_c);
                if (++at_c == s.C_in) at_c = 0, at_w++;
                if (at_w == s.KW) at_w = 0, at_h++;
            }
            fetched[half] = make_float4(number_of[0], number_of[1], number_of[2], number_of[3]);
        }
    }
    __device__ void put(float (*to)[BM + PAD]) const {
        for (int half = 0; half < 2; half++)
            *reinterpret_cast<float4*>(&to[threadIdx.x / 32 + 8 * half][threadIdx.x % 32 * 4]) = fetched[half];
    }
};

// A matrix (rows, N) as it lies in memory: w for y, gy for gw.
struct Rows {
    const float* from;
    int N, column, end;
    bool whole;
    float4 fetched;

    __device__ Rows(const float* from, int N, int first, int end) : from(from), N(N), end(end) {
        whole = in_fours(from, N);
        column = first + threadIdx.x % (BN / 4) * 4;
    }
    __device__ void fetch(int k) {
        k += threadIdx.x / (BN / 4);
        const float* row = from + (long)k * N + column;
        int some = k < end ? N - column : 0;
        fetched = whole && some > 0 ? four_whole(row) : four(row, some);
    }
    __device__ void put(float (*to)[BN]) const {
        *reinterpret_cast<float4*>(&to[threadIdx.x / (BN / 4)][threadIdx.x % (BN / 4) * 4]) = fetched;
    }
};

// w' (KH KW C_out, C_in): row (kh, kw, o) and column c hold w[kh, kw, c, o].
struct Transposed {
    const float* w;
    Shape s;
    int column;  // four threads a column, four rows a thread
    float fetched[4];

    __device__ Transposed(const float* w, const Shape& s, int first) : w(w), s(s), column(first + threadIdx.x / 4) {}
    __device__ void fetch(int k) {
        k += threadIdx.x % 4 * 4;
        for (int i = 0; i < 4; i++, k++) {
            int tap = k / s.C_out;
            bool inside = tap < s.KH * s.KW && column < s.C_in;
            fetched[i] = inside ? w[((long)tap * s.C_in + column) * s.C_out + k % s.C_out] : 0;
        }
    }
    __device__ void put(float (*to)[BN]) const {
        for (int i = 0; i < 4; i++) to[threadIdx.x % 4 * 4 + i][threadIdx.x / 4] = fetched[i];
    }
};

// ---- the product -----------------------------------------------------------------------------------------------------

// Thread (i, j) of 16 x 16 has rows 4 i to 4 i + 3 and the same 64 rows on, columns 4 j to 4 j + 3: so a warp reads
// neighbouring numbers. Columns first_k to stop_k - 1 of A are multiplied; c (M, N) is written from (m, n) on.
template <class A, class B>
__device__ void multiply(A a, B b, int first_k, int stop_k, const float* bias, float* c, long M, int N, long m, int n) {
    __shared__ __align__(16) float as[2][BK][BM + PAD];
    __shared__ __align__(16) float bs[2][BK][BN];
    float sums[8][4] = {};
    int i = threadIdx.x / 16 * 4, j = threadIdx.x % 16 * 4;

    a.fetch(first_k);
    b.fetch(first_k);
    a.put(as[0]);
    b.put(bs[0]);
    __syncthreads();
    for (int k0 = first_k, now = 0; k0 < stop_k; k0 += BK, now ^= 1) {
        bool more = k0 + BK < stop_k;
        if (more) {
            a.fetch(k0 + BK);
            b.fetch(k0 + BK);
        }
#pragma unroll
        for (int k = 0; k < BK; k++) {
            float4 upper = four_whole(&as[now][k][i]), lower = four_whole(&as[now][k][i + 64]);
            float4 across = four_whole(&bs[now][k][j]);
            float left[8] = {upper.x, upper.y, upper.z, upper.w, lower.x, lower.y, lower.z, lower.w};
            float right[4] = {across.x, across.y, across.z, across.w};
#pragma unroll
            for (int r = 0; r < 8; r++)
#pragma unroll
                for (int q = 0; q < 4; q++) sums[r][q] += left[r] * right[q];
        }
        if (more) {
            a.put(as[now ^ 1]);
            b.put(bs[now ^ 1]);
        }
        __syncthreads();
    }

#pragma unroll
    for (int r = 0; r < 8; r++) {
        long row = m + i + r % 4 + r / 4 * 64;
        if (row >= M) continue;
#pragma unroll
        for (int q = 0; q < 4; q++)
            if (n + j + q < N) c[row * N + n + j + q] = bias ? sums[r][q] + bias[n + j + q] : sums[r][q];
    }
}

// ---- kernels ---------------------------------------------------------------------------------------------------------

// grid: (M / 128, N / 64) rounded up, and for gw a third number, of slices of the pixels, which fit 32 bits there.

extern "C" __global__ void __launch_bounds__(THREADS)
conv2d_tiled(const float* x, const float* w, const float* b, float* y, Shape s) {
    long m = (long)blockIdx.x * BM, M = (long)s.N * s.Hy * s.Wy;
    int n = blockIdx.y * BN, K = s.KH * s.KW * s.C_in;
    multiply(Seen<false>(x, s, m), Rows(w, s.C_out, n, K), 0, K, b, y, M, s.C_out, m, n);
}

extern "C" __global__ void __launch_bounds__(THREADS)
conv2d_grad_x_tiled(const float* gy, const float* w, float* gx, Shape s) {
    long m = (long)blockIdx.x * BM, M = (long)s.N * s.H * s.W;
    int n = blockIdx.y * BN, K = s.KH * s.KW * s.C_out;
    multiply(Seen<true>(gy, s, m), Transposed(w, s, n), 0, K, nullptr, gx, M, s.C_in, m, n);
}

extern "C" __global__ void __launch_bounds__(THREADS)
conv2d_grad_w_tiled(const float* gy, const float* x, float* parts, int slice, Shape s) {
    int m = blockIdx.x * BM, n = blockIdx.y * BN, M = s.KH * s.KW * s.C_in;
    int first = blockIdx.z * slice, stop = first + min(slice, s.N * s.Hy * s.Wy - first);
    multiply(SeenByWeights(x, s, m, stop), Rows(gy, s.C_out, n, stop), first, stop, nullptr,
             parts + (long)blockIdx.z * M * s.C_out, M, s.C_out, m, n);
}

// gw = sum of the slices' parts, always in the same order.
extern "C" __global__ void __launch_bounds__(256) add_parts(const float* parts, float* sum, int count, int slices) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= count) return;
    float total = 0;
    for (int slice = 0; slice < slices; slice++) total += parts[(long)slice * count + i];
    sum[i] = total;
}
