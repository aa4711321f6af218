// Group normalisation and SiLU: one block for each group of an image.
//
// The block's threads walk over the group's numbers three times: for the mean, for the variance (the mean square of
// what remains; subtracting the squared mean instead would lose every digit where the mean is large), and to normalise.
// Where a group fits the cache, only the first walk reads memory. A thread adds up 64 numbers in float32 and these sums
// in float64, so that the error does not grow with the image.
//
// The gradients take two kernels: `norm_grad_channels` has one block for each channel of an image and computes gscale
// and gshift; `norm_grad_x` has one for each group, and gets the two averages that it needs from gscale and gshift.
//
// A group's channels lie side by side and its pixels C numbers apart: number i of a group of `width` channels is
// channel i % width of pixel i / width, so neighbouring threads read neighbouring channels.

constexpr int THREADS = 256, STRIP = 64;

__device__ __forceinline__ float sigmoid(float z) { return 1 / (1 + expf(-z)); }

// The sum of a value over the block's threads, in the same order every time; all threads get it.
__device__ double sum_of_block(double value) {
    __shared__ double of_warp[THREADS / 32];
    __syncthreads();  // no thread still reads the sums of the previous call
    for (int apart = 16; apart > 0; apart /= 2) value += __shfl_xor_sync(~0u, value, apart);
    if (threadIdx.x % 32 == 0) of_warp[threadIdx.x / 32] = value;
    __syncthreads();
    double total = 0;
    for (int warp = 0; warp < THREADS / 32; warp++) total += of_warp[warp];
    return total;
}

struct Sizes {  // of x (N, pixels, C), and the rows of scale and of shift: 1 or N
    int pixels, C, groups, scale_rows, shift_rows, silu;
    float eps;
};

struct Sum {  // float32 over STRIP numbers, then float64
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
norm_forward(const float* x, const float* scale, const float* shift, float* y, float* mean, float* rstd, Sizes s) {
    int g = blockIdx.x % s.groups, n = blockIdx.x / s.groups, width = s.C / s.groups, count = s.pixels * width;
    const float* from = x + (long)n * s.pixels * s.C + g * width;
    Sum sum, squares;
    for (int i = threadIdx.x; i < count; i += THREADS) sum.add(from[(long)(i / width) * s.C + i % width]);
    float center = sum.of_block() / count;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        float centered = from[(long)(i / width) * s.C + i % width] - center;
        squares.add(centered * centered);
    }
    float factor = 1 / sqrt(squares.of_block() / count + s.eps);
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = center;
        rstd[blockIdx.x] = factor;
    }
    float* to = y + (from - x);
    scale += (s.scale_rows > 1 ? (long)n * s.C : 0) + g * width;
    shift += (s.shift_rows > 1 ? (long)n * s.C : 0) + g * width;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        int c = i % width;
        long at = (long)(i / width) * s.C + c;
        float z = (from[at] - center) * factor * scale[c];
        z += shift[c];
        to[at] = s.silu ? z * sigmoid(z) : z;
    }
}

// y from a mean and a deviation that are known: the forward pass once more, for the backward pass. grid: N groups.
extern "C" __global__ void __launch_bounds__(THREADS)
norm_again(const float* x, const float* scale, const float* shift, const float* mean, const float* rstd, float* y,
           Sizes s) {
    int g = blockIdx.x % s.groups, n = blockIdx.x / s.groups, width = s.C / s.groups;
    float center = mean[blockIdx.x], factor = rstd[blockIdx.x];
    for (int i = threadIdx.x; i < s.pixels * width; i += THREADS) {
        int c = g * width + i % width;
        long at = ((long)n * s.pixels + i / width) * s.C + c;
        float z = (x[at] - center) * factor * scale[(s.scale_rows > 1 ? (long)n : 0) * s.C + c];
        z += shift[(s.shift_rows > 1 ? (long)n : 0) * s.C + c];
        y[at] = s.silu ? z * sigmoid(z) : z;
    }
}

// gz, the gradient of SiLU's input; gy itself without SiLU.
__device__ __forceinline__ float before_silu(float gy, float z, int silu) {
    float sig = sigmoid(z);
    return silu ? gy * sig * (1 + z * (1 - sig)) : gy;
}

// gscale, gshift (N, C). grid: N C, one block for each channel.
extern "C" __global__ void __launch_bounds__(THREADS)
norm_grad_channels(const float* gy, const float* x, const float* scale, const float* shift, const float* mean,
                   const float* rstd, float* gscale, float* gshift, Sizes s) {
    int c = blockIdx.x % s.C, n = blockIdx.x / s.C, g = c / (s.C / s.groups);
    float center = mean[n * s.groups + g], factor = rstd[n * s.groups + g];
    float slope = scale[(s.scale_rows > 1 ? (long)n : 0) * s.C + c], rise = shift[(s.shift_rows > 1 ? (long)n : 0) * s.C + c];
    Sum for_shift, for_scale;
    for (int i = threadIdx.x; i < s.pixels; i += THREADS) {
        long at = ((long)n * s.pixels + i) * s.C + c;
        float x_hat = (x[at] - center) * factor, gz = before_silu(gy[at], x_hat * slope + rise, s.silu);
        for_shift.add(gz);
        for_scale.add(gz * x_hat);
    }
    double sum_shift = for_shift.of_block(), sum_scale = for_scale.of_block();
    if (threadIdx.x == 0) {
        gshift[blockIdx.x] = sum_shift;
        gscale[blockIdx.x] = sum_scale;
    }
}

// gx = rstd (gz scale - average(gz scale) - x_hat average(gz scale x_hat)) + gx_so_far
// Both averages come from gscale and gshift. grid: N groups.
extern "C" __global__ void __launch_bounds__(THREADS)
norm_grad_x(const float* gy, const float* x, const float* scale, const float* shift, const float* mean,
            const float* rstd, const float* gscale, const float* gshift, const float* gx_so_far, float* gx, Sizes s) {
    int g = blockIdx.x % s.groups, n = blockIdx.x / s.groups, width = s.C / s.groups, count = s.pixels * width;
    float center = mean[blockIdx.x], factor = rstd[blockIdx.x];
    double average = 0, average_x_hat = 0;
    for (int c = g * width; c < (g + 1) * width; c++) {
        float slope = scale[(s.scale_rows > 1 ? (long)n : 0) * s.C + c];
        average += slope * gshift[(long)n * s.C + c];
        average_x_hat += slope * gscale[(long)n * s.C + c];
    }
    float from_mean = average / count, from_deviation = average_x_hat / count;
    for (int i = threadIdx.x; i < count; i += THREADS) {
        int c = g * width + i % width;
        long at = ((long)n * s.pixels + i / width) * s.C + c;
        float slope = scale[(s.scale_rows > 1 ? (long)n : 0) * s.C + c], rise = shift[(s.shift_rows > 1 ? (long)n : 0) * s.C + c];
        float x_hat = (x[at] - center) * factor, gz = before_silu(gy[at], x_hat * slope + rise, s.silu);
        float value = factor * (gz * slope - from_mean - x_hat * from_deviation);
        gx[at] = gx_so_far ? value + gx_so_far[at] : value;
    }
}
