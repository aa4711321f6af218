// The arithmetic of the networks: convolution, linear layer, group normalisation, SiLU, attention.
//
// Everything works on one image, channels last, as the definitions in kernels/*/reference.py do.  Nearly all of the time
// goes into `multiply`, a matrix product; everything else prepares its inputs.

// An image of features, (height, width, channels).  The vectors of a caption are an image one pixel wide.
export class Features {
  constructor(height, width, channels, data = new Float32Array(height * width * channels)) {
    Object.assign(this, { height, width, channels, data });
  }
}

export const vector = (data) => new Features(1, 1, data.length, data);

const AT_ONCE = 4; // outputs that `multiply` computes at once

// The weights of a convolution or a linear layer, in the order in which `multiply` reads them: four outputs at a time,
// and for these all weights of the window, row by row.
export class Filter {
  // w: {shape, data}, (KH, KW, inputs, outputs) or (inputs, outputs).  b: {data}, (outputs,).
  constructor(w, b) {
    const [inputs, outputs] = w.shape.slice(-2), kernel = w.shape.length === 4 ? w.shape[0] : 1;
    const length = kernel * kernel * inputs, blocks = Math.ceil(outputs / AT_ONCE);
    Object.assign(this, { kernel, inputs, outputs });
    this.weights = new Float32Array(blocks * length * AT_ONCE); // zeros where there is no such output
    this.bias = new Float32Array(blocks * AT_ONCE);
    this.bias.set(b.data);
    for (let k = 0; k < length; k++) {
      for (let o = 0; o < outputs; o++) {
        this.weights[(Math.floor(o / AT_ONCE) * length + k) * AT_ONCE + (o % AT_ONCE)] = w.data[k * outputs + o];
      }
    }
  }
}

// The sum over a window of x times the filter, for each pixel of an output (height, width).
//
//     y[i, j] = b + sum over kh, kw of x[i stride + kh, j stride + kw] w[kh, kw]
//
// x: Features with a border of zeros, kernel / 2 pixels wide, see `padded`.
// A row of the window lies in one piece, in x as in the weights.  Two pixels and four outputs are computed at once, so
// that each number that is read is used two or four times; the eight sums stay in the processor's registers.
export function multiply(x, filter, height, width, stride = 1) {
  const { weights, bias, kernel, inputs, outputs } = filter, y = new Features(height, width, outputs);
  const from = x.data, to = y.data, pixels = height * width, line = x.width * inputs, run = kernel * inputs;
  const start = (pixel) => Math.floor(pixel / width) * stride * line + (pixel % width) * stride * inputs;
  for (let o = 0; o < outputs; o += AT_ONCE) {
    const b0 = bias[o], b1 = bias[o + 1], b2 = bias[o + 2], b3 = bias[o + 3];
    for (let pixel = 0; pixel < pixels; pixel += 2) {
      const other = Math.min(pixel + 1, pixels - 1); // of an odd number, the last pixel is computed twice
      const left = start(pixel), right = start(other);
      let p0 = b0, p1 = b1, p2 = b2, p3 = b3, q0 = b0, q1 = b1, q2 = b2, q3 = b3;
      for (let row = 0, k = o * kernel * run; row < kernel; row++) {
        const end = left + row * line + run;
        for (let i = left + row * line, j = right + row * line; i < end; i++, j++, k += AT_ONCE) {
          const p = from[i], q = from[j], w0 = weights[k], w1 = weights[k + 1], w2 = weights[k + 2], w3 = weights[k + 3];
          p0 += p * w0;
          p1 += p * w1;
          p2 += p * w2;
          p3 += p * w3;
          q0 += q * w0;
          q1 += q * w1;
          q2 += q * w2;
          q3 += q * w3;
        }
      }
      put(to, pixel * outputs + o, Math.min(AT_ONCE, outputs - o), p0, p1, p2, p3);
      put(to, other * outputs + o, Math.min(AT_ONCE, outputs - o), q0, q1, q2, q3);
    }
  }
  return y;
}

export function put(to, at, count, y0, y1, y2, y3) {
  to[at] = y0;
  if (count > 1) to[at + 1] = y1;
  if (count > 2) to[at + 2] = y2;
  if (count > 3) to[at + 3] = y3;
}

// x w + b for each pixel.
export function linear(x, filter) {
  if (x.channels !== filter.inputs) throw new Error(`linear: x has ${x.channels} channels, w expects ${filter.inputs}`);
  return multiply(x, filter, x.height, x.width);
}

// A convolution with zero padding.  upsample: each pixel becomes 2 × 2 equal pixels first.
export function convolve(x, filter, { stride = 1, upsample = false } = {}) {
  if (x.channels !== filter.inputs) throw new Error(`convolve: x has ${x.channels} channels, w expects ${filter.inputs}`);
  const ready = padded(upsample ? upsampled(x) : x, filter.kernel >> 1), scale = upsample ? 2 : 1;
  return multiply(ready, filter, Math.ceil((scale * x.height) / stride), Math.ceil((scale * x.width) / stride), stride);
}

// x with a border of zeros.
export function padded(x, border) {
  if (!border) return x;
  const { height, width, channels } = x, y = new Features(height + 2 * border, width + 2 * border, channels);
  for (let i = 0; i < height; i++) {
    const line = x.data.subarray(i * width * channels, (i + 1) * width * channels);
    y.data.set(line, ((i + border) * y.width + border) * channels);
  }
  return y;
}

export function upsampled(x) {
  const { height, width, channels } = x, y = new Features(2 * height, 2 * width, channels);
  for (let i = 0; i < y.height; i++) {
    for (let j = 0; j < y.width; j++) {
      const from = ((i >> 1) * width + (j >> 1)) * channels;
      y.data.set(x.data.subarray(from, from + channels), (i * y.width + j) * channels);
    }
  }
  return y;
}

// Normalise each group of channels to mean 0 and variance 1, then multiply by a gain and add a bias; SiLU follows if `silu`.
//
// gain, bias: (channels,).  With scale and shift, (channels,) from the embedding of timestep and prompt, the gain becomes
// gain (1 + scale), and the bias bias (1 + scale) + shift.  groups: their greatest common divisor with the channels is taken.
// border: of zeros around the result, for a convolution that follows.
// Source: Wu and He 2018, arXiv:1803.08494, eq. 1 to 3.
export function groupNorm(x, { gain, bias }, groups, { scale, shift, silu = false, border = 0 } = {}) {
  const { height, width, channels } = x, pixels = height * width, size = channels / commonDivisor(groups, channels);
  const factor = new Float64Array(channels), offset = new Float64Array(channels);
  for (let first = 0; first < channels; first += size) {
    const { mean, variance } = moments(x.data, pixels, channels, first, size), rstd = 1 / Math.sqrt(variance + 1e-5);
    for (let c = first; c < first + size; c++) {
      const more = scale ? 1 + scale[c] : 1;
      factor[c] = rstd * gain[c] * more;
      offset[c] = bias[c] * more + (shift ? shift[c] : 0) - mean * factor[c];
    }
  }
  const y = new Features(height + 2 * border, width + 2 * border, channels);
  for (let i = 0, from = 0; i < height; i++) {
    for (let j = 0, to = ((i + border) * y.width + border) * channels; j < width; j++) {
      for (let c = 0; c < channels; c++, from++, to++) {
        const z = x.data[from] * factor[c] + offset[c];
        y.data[to] = silu ? z / (1 + Math.exp(-z)) : z;
      }
    }
  }
  return y;
}

// The mean and the variance of channels first … first + size - 1 over all pixels.
function moments(data, pixels, channels, first, size) {
  const count = pixels * size;
  let sum = 0, squares = 0;
  for (let pixel = 0; pixel < pixels; pixel++) {
    for (let c = 0, at = pixel * channels + first; c < size; c++, at++) sum += data[at];
  }
  const mean = sum / count;
  for (let pixel = 0; pixel < pixels; pixel++) {
    for (let c = 0, at = pixel * channels + first; c < size; c++, at++) squares += (data[at] - mean) ** 2;
  }
  return { mean, variance: squares / count };
}

function commonDivisor(a, b) {
  return b ? commonDivisor(b, a % b) : a;
}

// Multi-head attention: for each head softmax(q k^T / sqrt(d)) v, with d channels a head.
//
// q: Features of L pixels.  k, v: of M pixels.  Returns Features like q.
// Source: Vaswani et al. 2017, arXiv:1706.03762, eq. 1 and section 3.2.2.
export function attention(q, k, v, heads) {
  const { height, width, channels } = q, queries = height * width, keys = k.height * k.width, d = channels / heads;
  const y = new Features(height, width, channels), p = new Float64Array(keys), scale = 1 / Math.sqrt(d);
  for (let first = 0; first < channels; first += d) {
    for (let i = 0; i < queries; i++) {
      const at = i * channels + first;
      softmax(p, scores(p, q.data, at, k.data, first, channels, d, scale));
      for (let m = 0; m < keys; m++) {
        for (let c = 0, from = m * channels + first; c < d; c++) y.data[at + c] += p[m] * v.data[from + c];
      }
    }
  }
  return y;
}

// Write the products of a query with all keys into p; return the largest.
function scores(p, q, at, k, first, channels, d, scale) {
  let most = -Infinity;
  for (let m = 0; m < p.length; m++) {
    let sum = 0;
    for (let c = 0, from = m * channels + first; c < d; c++) sum += q[at + c] * k[from + c];
    p[m] = sum * scale;
    most = Math.max(most, p[m]);
  }
  return most;
}

function softmax(p, most) {
  let sum = 0;
  for (let m = 0; m < p.length; m++) sum += p[m] = Math.exp(p[m] - most);
  for (let m = 0; m < p.length; m++) p[m] /= sum;
}

// ---- small ones -------------------------------------------------------------------------------------------------------

export function silu(x) {
  return new Features(x.height, x.width, x.channels, x.data.map((z) => z / (1 + Math.exp(-z))));
}

// x + y; y changes and is returned.
export function add(x, y) {
  for (let i = 0; i < y.data.length; i++) y.data[i] += x.data[i];
  return y;
}

// The channels of x followed by those of y.
export function concat(x, y) {
  const z = new Features(x.height, x.width, x.channels + y.channels);
  for (let pixel = 0; pixel < x.height * x.width; pixel++) {
    z.data.set(x.data.subarray(pixel * x.channels, (pixel + 1) * x.channels), pixel * z.channels);
    z.data.set(y.data.subarray(pixel * y.channels, (pixel + 1) * y.channels), pixel * z.channels + x.channels);
  }
  return z;
}

// Move the pixels of each p × p patch into channels: (H, W, C) to (H / p, W / p, p p C).
export function spaceToDepth(x, p) {
  return moved(x, new Features(x.height / p, x.width / p, x.channels * p * p), p, (to, from, at, by) => (to[by] = from[at]));
}

// The inverse of `spaceToDepth`.
export function depthToSpace(x, p) {
  const y = new Features(x.height * p, x.width * p, x.channels / (p * p));
  return moved(y, y, p, (to, from, at, by) => (to[at] = x.data[by]));
}

// Go through an image, and through the same numbers as patches: at is a number's place in the image, by in the patches.
function moved(image, y, p, move) {
  const { height, width, channels } = image, patches = width / p, depth = p * p * channels;
  for (let i = 0, at = 0; i < height; i++) {
    for (let j = 0; j < width; j++) {
      const patch = Math.floor(i / p) * patches + Math.floor(j / p), inside = (i % p) * p + (j % p);
      for (let c = 0; c < channels; c++, at++) move(y.data, image.data, at, patch * depth + inside * channels + c);
    }
  }
  return y;
}
