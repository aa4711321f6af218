// The diffusion model of docs/chapter1/two_moons.py: its data, network, gradients, training and sampling.
//
// Arrays are flat Float64Arrays: row i of n points is at 2 i and 2 i + 1.  A label is 0, 1, or 2, which says "none".

import { put } from "./layers.js";
import { integers, normal, STREAM, uniform } from "./random.js";
import { CLEAN, linspace, Sampler } from "./sampling.js";

export const T = 1000; // noise levels: t = 0 is almost clean, t = T - 1 is noise alone
export const NONE = 2;
const INPUTS = 13, PHASES = [0.5, 1, 2, 4];
const SCHEDULE = linspace(-8, 7, T).map((u, t) => {
  const alphaBar = 1 / (1 + Math.exp(u)); // the clean point's share of the variance at t
  return { t, a: Math.sqrt(alphaBar), s: Math.sqrt(1 - alphaBar) };
});

// ---- data ---------------------------------------------------------------------------------------------------------------

// Where on a shape a point lies: u is uniform in [0, 1).  Each has two parts, the labels 0 and 1.
const SHAPES = {
  moons(u, label) {
    const x = 2 * Math.cos(Math.PI * u) - 1, y = 0.5 - 2 * Math.sin(Math.PI * u);
    return label === 0 ? [x, y] : [-x, -y];
  },
  rings(u, label) {
    const radius = label === 0 ? 2.5 : 1.1;
    return [radius * Math.cos(2 * Math.PI * u), radius * Math.sin(2 * Math.PI * u)];
  },
  spirals(u, label) {
    const radius = 0.4 + 2.3 * u, angle = 1.6 * Math.PI * u + Math.PI * label;
    return [radius * Math.cos(angle), radius * Math.sin(angle)];
  },
};

// A function (key, n) to n clean points and their labels.
// shape: moons, rings, spirals; or "own", for points [x, y, label] drawn by hand, of which some are chosen at random.
export function makeData(shape, points = []) {
  return (key, n) => {
    const u = uniform({ ...key, stream: STREAM.SCENE }, 2 * n), z = normal({ ...key, stream: STREAM.START }, 2 * n);
    const x0 = new Float64Array(2 * n), label = new Uint8Array(n), width = shape === "own" ? 0.05 : 0.08;
    for (let i = 0; i < n; i++) {
      const half = u[2 * i] < 0.5 ? 0 : 1, own = points[Math.floor(u[2 * i] * points.length)];
      const [x, y] = shape === "own" ? own : SHAPES[shape](u[2 * i + 1], half);
      label[i] = shape === "own" ? own[2] : half;
      x0[2 * i] = x + width * z[2 * i];
      x0[2 * i + 1] = y + width * z[2 * i + 1];
    }
    return { x0, label };
  };
}

// ---- the network --------------------------------------------------------------------------------------------------------

// The product c = a b of matrices (m, depth) and (depth, n).
//
// Element (i, j) of a is at i aRow + j aColumn, that of b likewise: to transpose a matrix, exchange the two.
// Two rows of a and four columns of b are multiplied at once, so that each number that is read is used more than once.
// The four columns are copied first, so that what is read lies side by side.
export function product(m, n, depth, a, aRow, aColumn, b, bRow, bColumn) {
  const c = new Float64Array(m * n), columns = new Float64Array(4 * depth);
  for (let j = 0; j < n; j += 4) {
    const count = Math.min(4, n - j);
    for (let k = 0; k < depth; k++) {
      for (let column = 0; column < count; column++) columns[4 * k + column] = b[k * bRow + (j + column) * bColumn];
    }
    for (let i = 0; i < m; i += 2) {
      const other = Math.min(i + 1, m - 1); // of an odd number, the last row is computed twice
      let p0 = 0, p1 = 0, p2 = 0, p3 = 0, q0 = 0, q1 = 0, q2 = 0, q3 = 0;
      for (let k = 0, p = i * aRow, q = other * aRow; k < 4 * depth; k += 4, p += aColumn, q += aColumn) {
        const left = a[p], right = a[q], w0 = columns[k], w1 = columns[k + 1], w2 = columns[k + 2], w3 = columns[k + 3];
        p0 += left * w0;
        p1 += left * w1;
        p2 += left * w2;
        p3 += left * w3;
        q0 += right * w0;
        q1 += right * w1;
        q2 += right * w2;
        q3 += right * w3;
      }
      put(c, i * n + j, count, p0, p1, p2, p3);
      put(c, other * n + j, count, q0, q1, q2, q3);
    }
  }
  return c;
}

// The initial weights: for each layer {inputs, outputs, w, b}.
export function makeNetwork(seed, sizes = [INPUTS, 128, 128, 128, 2]) {
  return sizes.slice(1).map((outputs, i) => {
    const inputs = sizes[i], z = normal({ seed, stream: STREAM.INIT, step: 0, sample: i }, inputs * outputs);
    return { inputs, outputs, w: Float64Array.from(z, (each) => each * Math.sqrt(2 / inputs)), b: new Float64Array(outputs) };
  });
}

// The network's input: the noisy point, how noisy it is, and a label.  (n, 13)
export function networkInput(x, t, label) {
  const n = label.length, h = new Float64Array(n * INPUTS);
  for (let i = 0, at = 0; i < n; i++, at += INPUTS) {
    h[at] = x[2 * i];
    h[at + 1] = x[2 * i + 1];
    PHASES.forEach((each, k) => {
      const phase = (Math.PI * t[i] * each) / T;
      h[at + 2 + k] = Math.cos(phase);
      h[at + 6 + k] = Math.sin(phase);
    });
    h[at + 10 + label[i]] = 1;
  }
  return h;
}

// epsHat, the network's estimate of the noise in its input, and all that `backward` will need.
export function forward(network, h, n) {
  const saved = [];
  network.forEach(({ inputs, outputs, w, b }, layer) => {
    const u = product(n, outputs, inputs, h, inputs, 1, w, outputs, 1), last = layer === network.length - 1;
    const gate = new Float64Array(u.length), y = new Float64Array(u.length);
    for (let at = 0; at < u.length; ) {
      for (let j = 0; j < outputs; j++, at++) {
        u[at] += b[j];
        gate[at] = last ? 1 : 1 / (1 + Math.exp(-u[at]));
        y[at] = u[at] * gate[at]; // SiLU, u sigmoid(u); the last layer is left as it is
      }
    }
    saved.push({ h, u, gate });
    h = y;
  });
  return { epsHat: h, saved };
}

// The chain rule, from the last layer to the first: each layer's gradients of w and of b.
export function backward(network, saved, gy, n) {
  const gradients = [];
  for (let layer = network.length - 1; layer >= 0; layer--) {
    const { inputs, outputs, w } = network[layer], { h, u, gate } = saved[layer];
    const gu = new Float64Array(u.length), gb = new Float64Array(outputs);
    for (let at = 0; at < u.length; ) {
      for (let j = 0; j < outputs; j++, at++) {
        gu[at] = gy[at] * gate[at] * (1 + u[at] * (1 - gate[at])); // the derivative of u sigmoid(u), or 1 where gate is 1
        gb[j] += gu[at];
      }
    }
    gradients.unshift({ w: product(inputs, outputs, n, h, 1, inputs, gu, outputs, 1), b: gb });
    if (layer) gy = product(n, inputs, outputs, gu, outputs, 1, w, 1, outputs);
  }
  return gradients;
}

// ---- training -----------------------------------------------------------------------------------------------------------

// Add noise to clean points, estimate the noise, improve the network a little (Adam), repeat.
export class Training {
  // data: from `makeData`.  steps: how many there will be; the rate falls to 0 over them.  n: points of a step.
  constructor({ data, seed, steps, n }) {
    Object.assign(this, { data, seed, steps, n, step: 0, network: makeNetwork(seed) });
    this.moments = this.network.map((layer) => ["w", "b"].map((name) => {
      const { length } = layer[name];
      return { name, m: new Float64Array(length), v: new Float64Array(length) };
    }));
  }

  // Make one step; returns its loss, the mean squared error of the estimated noise.
  advance() {
    const { network, n, seed } = this, key = { seed, step: ++this.step, sample: 0 };
    const { x0, label } = this.data(key, n), eps = normal({ ...key, stream: STREAM.NOISE }, 2 * n);
    const t = integers({ ...key, stream: STREAM.T }, n, T), hidden = uniform({ ...key, stream: STREAM.LABEL_DROP }, n);
    const xT = x0.map((x, i) => SCHEDULE[t[i >> 1]].a * x + SCHEDULE[t[i >> 1]].s * eps[i]); // a clean point plus noise
    const shown = label.map((each, i) => (hidden[i] < 0.5 ? NONE : each)); // half of them without, so that it learns both
    const { epsHat, saved } = forward(network, networkInput(xT, t, shown), n), error = epsHat.map((each, i) => each - eps[i]);
    this.adam(backward(network, saved, error.map((each) => (2 * each) / error.length), n));
    return error.reduce((sum, each) => sum + each * each, 0) / error.length;
  }

  // Kingma and Ba 2015, arXiv:1412.6980, algorithm 1.
  adam(gradients) {
    const { step, steps } = this, rate = (3e-3 * (1 - step / steps) * Math.sqrt(1 - 0.999 ** step)) / (1 - 0.9 ** step);
    this.moments.forEach((moments, layer) => {
      for (const { name, m, v } of moments) {
        const p = this.network[layer][name], g = gradients[layer][name];
        for (let i = 0; i < p.length; i++) {
          m[i] += 0.1 * (g[i] - m[i]);
          v[i] += 0.001 * (g[i] * g[i] - v[i]);
          p[i] -= (rate * m[i]) / (Math.sqrt(v[i]) + 1e-8);
        }
      }
    });
  }
}

// ---- sampling -----------------------------------------------------------------------------------------------------------

// The noise in points x at a level, with guidance: epsHat = none + guidance (with the label - none).
export function estimate(network, x, level, label, guidance) {
  const n = label.length, t = new Float64Array(n).fill(level.t);
  const evaluate = (labels) => forward(network, networkInput(x, t, labels), n).epsHat;
  const withLabel = evaluate(label);
  if (guidance === 1 || label.every((each) => each === NONE)) return withLabel;
  const none = evaluate(new Uint8Array(n).fill(NONE));
  return none.map((each, i) => each + guidance * (withLabel[i] - each));
}

// The levels that a sampler visits, from noise to the clean point.
export function levels(steps) {
  const times = steps === 1 ? [T - 1] : linspace(T - 1, 0, steps);
  return [...times.map((t) => SCHEDULE[Math.trunc(t)]), CLEAN];
}

// Points on their way from noise to data, as a generator of steps; see `Sampler` in sampling.js.
export function* flow(network, { label, guidance, sampler, steps, eta, seed }) {
  const draw = (stream, step) => Float64Array.from(normal({ seed, stream, step, sample: 0 }, 2 * label.length));
  const noise = (index) => draw(STREAM.SAMPLER, index);
  const run = new Sampler(sampler, { levels: levels(steps), x: draw(STREAM.START, 0), noise, eta });
  while (!run.finished) {
    const { xT, level } = run, epsHat = estimate(network, xT, level, label, guidance);
    yield run.step(xT.map((x, i) => (x - level.s * epsHat[i]) / level.a)); // the estimate of the clean point
  }
}

// The score of the distribution of x_t, the direction in which points become likelier: -epsHat / s.
export function score(network, x, level, label, guidance) {
  return estimate(network, x, level, label, guidance).map((each) => -each / level.s);
}
