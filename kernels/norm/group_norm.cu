// Group normalisation and SiLU: a block a group of a picture.
//
// The block's threads walk over the group's numbers three times: for the mean, for the mean square of what remains
// (subtracting the squared mean instead would lose every digit where the mean is large), and to normalise. Only the
// first walk comes from memory where a group fits the cache. Sums of a thread are float32 over 64 numbers at a time and
// float64 beyond, so that the error does not grow with the picture.
//
// A group's channels lie side by side and its pixels C numbers apart: number i of a group of `width` channels is channel
// i % width of pixel i / width, so neighbouring threads read neighbouring channels.

constexpr int THREADS = 256, STRIP = 64;

__device__ __forceinline__ float sigmoid(float z) { return 1 / (1 + expf(-z)); }

// The sum of a value over the block's threads, in the same order every time; all threads get it.
__device__ double sum_of_block(double value) {
    __shared__ double of_warp[THREADS / 32];
    __syncthreads();  // nobody reads the sums of the call before any more
    for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(~0u, value, apart);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    double total = 0;
    for (int warp = 0; warp < THREADS / 32; warp++) total += of_warp[warp];
    return total;
}

struct Sum {  // float32 for STRIP numbers, then float64
    double total = 0;
    float strip = 0;
    int count = 0;
    __device__ __forceinline__ void add(float number) {
        strip += number;
        if (++count == STRIP) total += strip, strip = 0, count = 0;
    }
    __device__ double of_block() { return sum_of_block(total + strip); }
};

// x, y (N, pixels, C); scale, shift (rows, C) with rows 1 or N; mean, rstd (N, groups). grid: N groups.
extern "C" __global__ void __launch_bounds__(THREADS)
norm_forward(const float* x, const float* scale, const float* shift, float* y, float* mean, float* rstd,
           int pixels, int C, int groups, int scale_rows, int shift_rows, float eps, int silu) {
    int g = blockIdx.x % groups, n = blockIdx.x / groups, width = C / groups, count = pixels * width;
    const float* from = x + (long)n * pixels * C + g * width;
    Sum sum, squares;
    for (int i = threadIdx.x; i < count; i += THREADS) sum.add(from[(long)(i / width) * C + i % width]);
    float center = sum.of_block() / count;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        float centered = from[(long)(i / width) * C + i % width] - center;
        squares.add(centered * centered);
    }
    float factor = 1 / sqrt(squares.of_block() / count + eps);
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = center;
        rstd[blockIdx.x] = factor;
    }
    float* to = y + (from - x);
    scale += (scale_rows > 1 ? (long)n * C : 0) + g * width;
    shift += (shift_rows > 1 ? (long)n * C : 0) + g * width;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        int c = i % width;
        long at = (long)(i / width) * C + c;
        float z = (from[at] - center) * factor * scale[c];
        z += shift[c];
        to[at] = silu ? z * sigmoid(z) : z;
    }
}

// y from a mean and a deviation that are known: what the forward pass made, made again for the way back. grid: N groups.
extern "C" __global__ void __launch_bounds__(THREADS)
norm_again(const float* x, const float* scale, const float* shift, const float* mean, const float* rstd, float* y,
                 int pixels, int C, int groups, int scale_rows, int shift_rows, int silu) {
    int g = blockIdx.x % groups, n = blockIdx.x / groups, width = C / groups;
    float center = mean[blockIdx.x], factor = rstd[blockIdx.x];
    for (int i = threadIdx.x; i < pixels * width; i += THREADS) {
        int c = g * width + i % width;
        long at = ((long)n * pixels + i / width) * C + c;
        float z = (x[at] - center) * factor * scale[(scale_rows > 1 ? (long)n : 0) * C + c];
        z += shift[(shift_rows > 1 ? (long)n : 0) * C + c];
        y[at] = silu ? z * sigmoid(z) : z;
    }
}

// gz, the gradient of what SiLU got: gy itself without SiLU.
__device__ __forceinline__ float before_silu(float gy, float z, int silu) {
    float s = sigmoid(z);
    return silu ? gy * s * (1 + z * (1 - s)) : gy;
}

// gscale, gshift (N, C). grid: N C, a block a channel.
extern "C" __global__ void __launch_bounds__(THREADS)
norm_grad_channels(const float* gy, const float* x, const float* scale, const float* shift, const float* mean,
                         const float* rstd, float* gscale, float* gshift,
                         int pixels, int C, int groups, int scale_rows, int shift_rows, int silu) {
    int c = blockIdx.x % C, n = blockIdx.x / C, g = c / (C / groups);
    float center = mean[n * groups + g], factor = rstd[n * groups + g];
    float slope = scale[(scale_rows > 1 ? (long)n : 0) * C + c], rise = shift[(shift_rows > 1 ? (long)n : 0) * C + c];
    Sum for_shift, for_scale;
    for (int i = threadIdx.x; i < pixels; i += THREADS) {
        long at = ((long)n * pixels + i) * C + c;
        float x_hat = (x[at] - center) * factor, gz = before_silu(gy[at], x_hat * slope + rise, silu);
        for_shift.add(gz);
        for_scale.add(gz * x_hat);
    }
    double sum_shift = for_shift.of_block(), sum_scale = for_scale.of_block();
    if (threadIdx.x == 0) {
        gshift[blockIdx.x] = sum_shift;
        gscale[blockIdx.x] = sum_scale;
    }
}

// gx = rstd (gz scale - average(gz scale) - x_hat average(gz scale x_hat)) + add; both averages from gscale and gshift.
extern "C" __global__ void __launch_bounds__(THREADS)
norm_grad_x(const float* gy, const float* x, const float* scale, const float* shift, const float* mean,
                  const float* rstd, const float* gscale, const float* gshift, const float* add, float* gx,
                  int pixels, int C, int groups, int scale_rows, int shift_rows, int silu) {
    int g = blockIdx.x % groups, n = blockIdx.x / groups, width = C / groups, count = pixels * width;
    float center = mean[blockIdx.x], factor = rstd[blockIdx.x];
    double average = 0, average_x_hat = 0;
    for (int c = g * width; c < (g + 1) * width; c++) {
        float slope = scale[(scale_rows > 1 ? (long)n : 0) * C + c];
        average += slope * gshift[(long)n * C + c];
        average_x_hat += slope * gscale[(long)n * C + c];
    }
    float from_mean = average / count, from_deviation = average_x_hat / count;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        int c = g * width + i % width;
        long at = ((long)n * pixels + i / width) * C + c;
        float slope = scale[(scale_rows > 1 ? (long)n : 0) * C + c], rise = shift[(shift_rows > 1 ? (long)n : 0) * C + c];
        float x_hat = (x[at] - center) * factor, gz = before_silu(gy[at], x_hat * slope + rise, silu);
        float value = factor * (gz * slope - from_mean - x_hat * from_deviation);
        gx[at] = add ? value + add[at] : value;
    }
}
