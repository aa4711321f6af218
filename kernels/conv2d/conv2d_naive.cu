// Convolution and its two gradients as they are defined, one thread for each output number: the lowest rung.
//
// In `conv2d_naive`, neighbouring threads have neighbouring output channels, so what a warp reads of the filter, and
// what it writes, is contiguous in memory; all of its threads read the same number of x. Every number of x is loaded
// again for each of the KH KW pixels that see it and for each warp of output channels, and each load serves one
// multiply-add: the arithmetic waits for memory. In the gradients, too, a thread gathers all terms of its number, so no
// two threads write to the same one.

struct Shape {
    int N, H, W, C_in, KH, KW, C_out, stride, Hy, Wy;
    int up;  // not used here
};

// y (N, ceil(H / stride), ceil(W / stride), C_out) of x (N, H, W, C_in), w (KH, KW, C_in, C_out), b (C_out,) or null.
extern "C" __global__ void __launch_bounds__(256)
conv2d_naive(const float* x, const float* w, const float* b, float* y, Shape s) {
    long i = blockIdx.x * 256l + threadIdx.x;
    if (i >= (long)s.N * s.Hy * s.Wy * s.C_out) return;
    int o = i % s.C_out, column = i / s.C_out % s.Wy, row = i / s.C_out / s.Wy % s.Hy, n = i / s.C_out / s.Wy / s.Hy;
    float sum = 0;
    for (int kh = 0; kh < s.KH; kh++)
        for (int kw = 0; kw < s.KW; kw++) {
            int h = row * s.stride + kh - s.KH / 2, v = column * s.stride + kw - s.KW / 2;
            if (h < 0 || h >= s.H || v < 0 || v >= s.W) continue;
            const float* pixel = x + (((long)n * s.H + h) * s.W + v) * s.C_in;
            const float* filter = w + (long)(kh * s.KW + kw) * s.C_in * s.C_out + o;
            for (int c = 0; c < s.C_in; c++) sum += pixel[c] * filter[(long)c * s.C_out];
        }
    y[i] = b ? sum + b[o] : sum;
}

// gx (N, H, W, C_in): each thread gathers from every output that saw its number.
extern "C" __global__ void __launch_bounds__(256)
conv2d_grad_x_naive(const float* gy, const float* w, float* gx, Shape s) {
    long i = blockIdx.x * 256l + threadIdx.x;
    if (i >= (long)s.N * s.H * s.W * s.C_in) return;
    int c = i % s.C_in, column = i / s.C_in % s.W, row = i / s.C_in / s.W % s.H, n = i / s.C_in / s.W / s.H;
    float sum = 0;
    for (int kh = 0; kh < s.KH; kh++)
        for (int kw = 0; kw < s.KW; kw++) {
            int h = row - kh + s.KH / 2, v = column - kw + s.KW / 2;  // stride times the output's position
            if (h < 0 || v < 0 || h % s.stride || v % s.stride || h / s.stride >= s.Hy || v / s.stride >= s.Wy) continue;
            const float* pixel = gy + (((long)n * s.Hy + h / s.stride) * s.Wy + v / s.stride) * s.C_out;
            const float* filter = w + ((long)(kh * s.KW + kw) * s.C_in + c) * s.C_out;
            for (int o = 0; o < s.C_out; o++) sum += pixel[o] * filter[o];
        }
    gx[i] = sum;
}

// gw (KH, KW, C_in, C_out): each thread adds up over all pixels, line by line, so that the error grows less with them.
extern "C" __global__ void __launch_bounds__(256)
conv2d_grad_w_naive(const float* gy, const float* x, float* gw, Shape s) {
    int i = blockIdx.x * 256 + threadIdx.x;
    if (i >= s.KH * s.KW * s.C_in * s.C_out) return;
    int o = i % s.C_out, c = i / s.C_out % s.C_in, kw = i / s.C_out / s.C_in % s.KW, kh = i / s.C_out / s.C_in / s.KW;
    float sum = 0;
    for (int n = 0; n < s.N; n++)
        for (int row = 0; row < s.Hy; row++) {
            int h = row * s.stride + kh - s.KH / 2;
            if (h < 0 || h >= s.H) continue;
            float strip = 0;
            for (int column = 0; column < s.Wy; column++) {
                int v = column * s.stride + kw - s.KW / 2;
                if (v < 0 || v >= s.W) continue;
                strip += x[(((long)n * s.H + h) * s.W + v) * s.C_in + c] * gy[(((long)n * s.Hy + row) * s.Wy + column) * s.C_out + o];
            }
            sum += strip;
        }
    gw[i] = sum;
}
