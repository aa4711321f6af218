// AdamW and the moving average of the weights, in one pass over memory: one thread for each weight.
//
// Five numbers are read and four are written for a dozen operations: memory limits the speed.

struct Hyper {
    float beta1, one_minus_beta1, beta2, one_minus_beta2;
    float decay, rate, correction2, eps;  // lr weight_decay; lr / (1 - beta1^t); 1 / (1 - beta2^t)
    float grad_scale, follow;             // 1 - ema_decay
};

extern "C" __global__ void __launch_bounds__(256)
update(float* w, const float* g, float* m, float* v, float* ema, int n, int n_decay, Hyper h) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= n) return;
    float gradient = h.grad_scale * g[i], weight = w[i];
    m[i] = h.beta1 * m[i] + h.one_minus_beta1 * gradient;
    v[i] = h.beta2 * v[i] + h.one_minus_beta2 * gradient * gradient;
    if (i < n_decay) weight -= h.decay * weight;
    weight -= h.rate * m[i] / (sqrtf(v[i] * h.correction2) + h.eps);
    w[i] = weight;
    ema[i] += h.follow * (weight - ema[i]);
}

// The sum of squares in float64: first one sum a block, always of the same numbers in the same order, then their sum.
__device__ double sum_of_block(double value) {
    __shared__ double of_warp[8];
    for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(~0u, value, apart);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    double total = 0;
    for (int warp = 0; warp < 8; warp++) total += of_warp[warp];
    return total;
}

extern "C" __global__ void __launch_bounds__(256) square_sums(const float* x, double* sums, int n) {
    double sum = 0;
    for (int i = blockIdx.x * 256 + threadIdx.x; i < n; i += gridDim.x * 256) sum += (double)x[i] * x[i];
    sum = sum_of_block(sum);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(256) add_sums(const double* sums, double* total, int count) {
    double sum = 0;
    for (int i = threadIdx.x; i < count; i += 256) sum += sums[i];
    sum = sum_of_block(sum);
    if (threadIdx.x == 0) total[0] = sum;
}
