// Random numbers from keys, and what diffusion does with them: each thread computes one block of four words.
//
// Philox has no state, so any thread can compute any number: thread b of image i maps the counter
// (b, sample[i], step, stream) to four words, and these to up to four numbers.
// Integers and uniforms are those of every other backend, to the bit. Normals are computed in float64 and rounded once.

typedef unsigned int u32;

struct Key {
    u32 seed_low, seed_high, stream, step;
};

__device__ __forceinline__ void philox(u32 c[4], u32 k0, u32 k1) {
#pragma unroll
    for (int round = 0; round < 10; round++) {
        u32 high0 = __umulhi(0xD2511F53u, c[0]), low0 = 0xD2511F53u * c[0];
        u32 high1 = __umulhi(0xCD9E8D57u, c[2]), low1 = 0xCD9E8D57u * c[2];
        c[0] = high1 ^ c[1] ^ k0;
        c[1] = low1;
        c[2] = high0 ^ c[3] ^ k1;
        c[3] = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
}

__device__ __forceinline__ void words(u32 c[4], Key key, u32 block, u32 sample) {
    c[0] = block;
    c[1] = sample;
    c[2] = key.step;
    c[3] = key.stream;
    philox(c, key.seed_low, key.seed_high);
}

// r (cos theta, sin theta), with r = sqrt(-2 ln((w0 + 1/2) 2^-32)), theta = 2 pi w1 2^-32, for both pairs of words.
__device__ __forceinline__ void normals(float z[4], Key key, u32 block, u32 sample) {
    u32 c[4];
    words(c, key, block, sample);
#pragma unroll
    for (int pair = 0; pair < 4; pair += 2) {
        double r = sqrt(-2 * log((c[pair] + 0.5) * 0x1p-32)), sine, cosine;
        sincospi(c[pair + 1] * 0x1p-31, &sine, &cosine);  // of pi times a number: no table for large angles is needed
        z[pair] = (float)(r * cosine);
        z[pair + 1] = (float)(r * sine);
    }
}

// The grid of every kernel: for each of N samples, in turn, as many blocks as its numbers take. sample (N,) as uint32.

constexpr int THREADS = 128;

struct Place {  // of a thread: its sample, its block of four words among that sample's, and where its numbers lie
    int i, some;  // how many numbers are its own: 4, or fewer at a sample's end, or none
    long block, at;
    __device__ Place(long n) {
        int blocks = (n + 4 * THREADS - 1) / (4 * THREADS);
        i = blockIdx.x / blocks;
        block = (long)(blockIdx.x % blocks) * THREADS + threadIdx.x;
        at = i * n + 4 * block;
        some = n > 4 * block ? (int)min(4l, n - 4 * block) : 0;
    }
};

extern "C" __global__ void __launch_bounds__(THREADS) fill_bits(Key key, const u32* sample, u32* bits, long n) {
    Place place(n);
    u32 c[4];
    words(c, key, place.block, sample[place.i]);
    for (int j = 0; j < 4; j++)
        if (j < place.some) bits[place.at + j] = c[j];
}

extern "C" __global__ void __launch_bounds__(THREADS) fill_normals(Key key, const u32* sample, float* z, long n) {
    Place place(n);
    float four[4];
    normals(four, key, place.block, sample[place.i]);
    for (int j = 0; j < 4; j++)
        if (j < place.some) z[place.at + j] = four[j];
}

// x_t = a x0 + s eps, with one a and one s for each image.
extern "C" __global__ void __launch_bounds__(THREADS)
fill_noised(Key key, const u32* sample, const float* x0, const float* a, const float* s, float* x_t, float* eps, long n) {
    Place place(n);
    float four[4];
    normals(four, key, place.block, sample[place.i]);
    for (int j = 0; j < 4; j++) {
        if (j >= place.some) return;
        long at = place.at + j;
        eps[at] = four[j];
        x_t[at] = a[place.i] * x0[at] + s[place.i] * four[j];
    }
}

// x' = c0 x + c1 x0_hat + c2 x0_hat_last + c3 z; x0_hat_last may be null, and z is drawn only if c3 is not 0.
extern "C" __global__ void __launch_bounds__(THREADS)
fill_updated(Key key, const u32* sample, const float* x, const float* x0_hat, const float* x0_hat_last,
               float c0, float c1, float c2, float c3, float* y, long n) {
    Place place(n);
    float four[4] = {0, 0, 0, 0};
    if (c3 != 0) normals(four, key, place.block, sample[place.i]);
    for (int j = 0; j < 4; j++) {
        if (j >= place.some) return;
        long at = place.at + j;
        float sum = c0 * x[at] + c1 * x0_hat[at];
        if (x0_hat_last) sum += c2 * x0_hat_last[at];
        y[at] = c3 != 0 ? sum + c3 * four[j] : sum;
    }
}
