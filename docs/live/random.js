// Random numbers as a function of a key, as in minidiff/random.py: Philox 4x32-10.
//
// Idea: the same key gives the same numbers as in Python, so the same seed gives the same picture.  Words and uniform
// numbers are equal to the bit; normal numbers may differ by the rounding of a logarithm or a cosine.
// A key is {seed, stream, step, sample}: seed is a number or a BigInt from 0 to 2^64 - 1, the others are whole numbers
// from 0 to 2^32 - 1.
// Source: Salmon et al. 2011, doi:10.1145/2063384.2063405; Box and Muller 1958, doi:10.1214/aoms/1177706645.

export const STREAM = { INIT: 0, T: 3, NOISE: 4, LABEL_DROP: 5, START: 6, SAMPLER: 7, SCENE: 8 };

const MULTIPLIER_0 = 0xd2511f53, MULTIPLIER_1 = 0xcd9e8d57;
const INCREMENT_0 = 0x9e3779b9, INCREMENT_1 = 0xbb67ae85;

// The upper half of the 64-bit product of two 32-bit words.  A double holds 53 bits, so the words are multiplied in
// halves of 16 bits.
function high(a, b) {
  const a0 = a & 0xffff, a1 = a >>> 16, b0 = b & 0xffff, b1 = b >>> 16;
  const middle = a1 * b0 + Math.floor((a0 * b0) / 65536);
  const carry = (middle % 65536) + a0 * b1;
  return a1 * b1 + Math.floor(middle / 65536) + Math.floor(carry / 65536);
}

// Map four counters to four random words, which are written into `out` from `at` on.
function philox(c0, c1, c2, c3, k0, k1, out, at) {
  for (let round = 0; round < 10; round++) {
    const high0 = high(MULTIPLIER_0, c0), low0 = Math.imul(MULTIPLIER_0, c0);
    const high1 = high(MULTIPLIER_1, c2), low1 = Math.imul(MULTIPLIER_1, c2);
    c0 = high1 ^ c1 ^ k0;
    c1 = low1;
    c2 = high0 ^ c3 ^ k1;
    c3 = low0;
    k0 = (k0 + INCREMENT_0) | 0;
    k1 = (k1 + INCREMENT_1) | 0;
  }
  out[at] = c0;
  out[at + 1] = c1;
  out[at + 2] = c2;
  out[at + 3] = c3;
}

// n random words: Uint32Array.
export function bits({ seed, stream, step, sample }, n) {
  const key = BigInt(seed), k0 = Number(BigInt.asUintN(32, key)) | 0, k1 = Number(key >> 32n) | 0;
  const blocks = Math.ceil(n / 4), words = new Uint32Array(4 * blocks);
  for (let block = 0; block < blocks; block++) philox(block, sample, step, stream, k0, k1, words, 4 * block);
  return words.subarray(0, n);
}

// n uniform numbers in [0, 1), multiples of 2^-24: Float32Array.
export function uniform(key, n) {
  return Float32Array.from(bits(key, n), (word) => (word >>> 8) * 2 ** -24);
}

// n whole numbers from 0 to high - 1: an array.
export function integers(key, n, high) {
  return Array.from(bits(key, n), (word) => Math.floor((word * high) / 2 ** 32));
}

// n standard normal numbers: Float32Array.
//
//     r = sqrt(-2 ln((w0 + 1/2) 2^-32)),   theta = 2 pi w1 2^-32,   (z0, z1) = (r cos(theta), r sin(theta))
export function normal(key, n) {
  const words = bits(key, n + (n % 2)), z = new Float32Array(words.length);
  for (let i = 0; i < z.length; i += 2) {
    const r = Math.sqrt(-2 * Math.log((words[i] + 0.5) * 2 ** -32)), theta = words[i + 1] * (2 * Math.PI * 2 ** -32);
    z[i] = r * Math.cos(theta);
    z[i + 1] = r * Math.sin(theta);
  }
  return z.subarray(0, n);
}
