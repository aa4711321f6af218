// Attention and its gradients: one block for each query of a head; for gk and gv, one block for each key.
//
// A query's block sees all keys. Its threads share out the keys for the scores and the softmax, and the head's channels
// for the weighted sum of the values. Scores stay in shared memory, which bounds how many keys there may be; p is kept
// for the backward pass. There, `attend_grad_queries` computes gq in the same way, and keeps gs, the gradient of the
// scores. `attend_grad_keys` then sums over the queries for gk and gv.
// Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1.

constexpr int THREADS = 128, MOST_KEYS = 4096;
constexpr float LOWEST = -3.402823466e38f;

// The sum, or the largest, of a value over the block's threads, in the same order every time; all threads get it.
__device__ float over_block(float value, bool largest) {
    __shared__ float of_warp[THREADS / 32];
    for (int apart = 16; apart > 0; apart /= 2) {
        float other = __shfl_xor_sync(~0u, value, apart);
        value = largest ? fmaxf(value, other) : value + other;
    }
    __syncthreads();  // no thread still reads the result of the previous call
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    float all = of_warp[0];
    for (int warp = 1; warp < THREADS / 32; warp++) all = largest ? fmaxf(all, of_warp[warp]) : all + of_warp[warp];
    return all;
}

__device__ __forceinline__ float dot(const float* a, const float* b, int d) {
    float sum = 0;
    for (int c = 0; c < d; c++) sum += a[c] * b[c];
    return sum;
}

// sum (d,) = the weighted sum of the rows, which are D numbers apart; each thread has a channel.
__device__ __forceinline__ void weigh(const float* weight, const float* rows, float* sum, int M, int D, int d) {
    for (int c = threadIdx.x; c < d; c += THREADS) {
        float total = 0;
        for (int m = 0; m < M; m++) total += weight[m] * rows[(long)m * D + c];
        sum[c] = total;
    }
}

// q, y (N, L, D), k, v (N, M, D), p (N, heads, L, M). grid: N heads L, in this order.
extern "C" __global__ void __launch_bounds__(THREADS)
attend(const float* q, const float* k, const float* v, float* y, float* p, int L, int M, int D, int heads) {
    __shared__ float weight[MOST_KEYS];
    int l = blockIdx.x % L, head = blockIdx.x / L % heads, n = blockIdx.x / L / heads, d = D / heads;
    const float* query = q + ((long)n * L + l) * D + head * d;
    long keys = (long)n * M * D + head * d;  // where this head's first key and value lie
    float largest = LOWEST;
    for (int m = threadIdx.x; m < M; m += THREADS) {
        weight[m] = dot(query, k + keys + (long)m * D, d) / sqrtf(d);
        largest = fmaxf(largest, weight[m]);
    }
    largest = over_block(largest, true);
    float sum = 0;
    for (int m = threadIdx.x; m < M; m += THREADS) sum += weight[m] = expf(weight[m] - largest);
    sum = over_block(sum, false);
    float* row = p + (((long)n * heads + head) * L + l) * M;
    for (int m = threadIdx.x; m < M; m += THREADS) row[m] = weight[m] /= sum;
    __syncthreads();  // every weight is there
    weigh(weight, v + keys, y + ((long)n * L + l) * D + head * d, M, D, d);
}

// gs = p (gp - sum gp p) / sqrt(d), gp = gy v', and gq = gs k. grid: N heads L, one block for each query.
extern "C" __global__ void __launch_bounds__(THREADS)
attend_grad_queries(const float* gy, const float* k, const float* v, const float* p, float* gs, float* gq,
                       int L, int M, int D, int heads) {
    __shared__ float slope[MOST_KEYS];
    int l = blockIdx.x % L, head = blockIdx.x / L % heads, n = blockIdx.x / L / heads, d = D / heads;
    const float* gradient = gy + ((long)n * L + l) * D + head * d;
    long keys = (long)n * M * D + head * d, row = (((long)n * heads + head) * L + l) * M;
    float sum = 0;
    for (int m = threadIdx.x; m < M; m += THREADS) {
        slope[m] = dot(gradient, v + keys + (long)m * D, d);
        sum += slope[m] * p[row + m];
    }
    sum = over_block(sum, false);
    for (int m = threadIdx.x; m < M; m += THREADS) gs[row + m] = slope[m] = p[row + m] * (slope[m] - sum) / sqrtf(d);
    __syncthreads();
    weigh(slope, k + keys, gq + ((long)n * L + l) * D + head * d, M, D, d);
}

// gk = gs' q and gv = p' gy. grid: N heads M, one block for each key, whose threads have its channels.
extern "C" __global__ void __launch_bounds__(THREADS)
attend_grad_keys(const float* gy, const float* q, const float* p, const float* gs, float* gk, float* gv,
                    int L, int M, int D, int heads) {
    int m = blockIdx.x % M, head = blockIdx.x / M % heads, n = blockIdx.x / M / heads, d = D / heads;
    long queries = (long)n * L * D + head * d, column = ((long)n * heads + head) * L * M + m;
    for (int c = threadIdx.x; c < d; c += THREADS) {
        float for_key = 0, for_value = 0;
        for (int l = 0; l < L; l++) {
            for_key += gs[column + (long)l * M] * q[queries + (long)l * D + c];
            for_value += p[column + (long)l * M] * gy[queries + (long)l * D + c];
        }
        gk[((long)n * M + m) * D + head * d + c] = for_key;
        gv[((long)n * M + m) * D + head * d + c] = for_value;
    }
}
