// The noise schedule, the timesteps that a sampler visits, and the samplers, as in minidiff/diffusion/.
//
// A level {t, a, s} says how noisy x_t = a x0 + s eps is.  Each sampler is one formula: x_prev as a combination of x_t, x0_hat,
// the x0_hat of the step before, eps_hat and fresh noise z.

export const CLEAN = { t: -1, a: 1, s: 0 }; // where every sampler ends
const SIGMA_DATA = 0.5;

// ---- the schedule -----------------------------------------------------------------------------------------------------

// n numbers from first to last, evenly, as NumPy's linspace makes them.
export function linspace(first, last, n) {
  const step = (last - first) / (n - 1);
  return Array.from({ length: n }, (_, i) => (i === n - 1 ? last : first + i * step));
}

// The levels of all timesteps 0 … T - 1.  settings: those of minidiff.checkpoint.config.DiffusionConfig.
export function makeSchedule({ schedule: kind, num_timesteps: T, shift = 1, zero_snr: zeroSnr = false }) {
  if (kind === "flow") {
    const s = Array.from({ length: T }, (_, t) => (t + 1) / T).map((even) => (shift * even) / (1 + (shift - 1) * even));
    return s.map((s, t) => ({ t, a: 1 - s, s }));
  }
  let a = SIGMAS[kind] ? SIGMAS[kind](T).map((sigma) => Math.cos(Math.atan(sigma))) : rootsOf(alphaBar(kind, T));
  const first = a[0], last = a[T - 1];
  if (zeroSnr) a = a.map((each) => ((each - last) * first) / (first - last));
  return a.map((a, t) => ({ t, a, s: Math.sqrt(1 - a * a) }));
}

const SIGMAS = { // the schedules that are given by sigma, from 0.002 to 80: Karras et al. 2022, arXiv:2206.00364, eq. 5
  karras: (T) => linspace(0.002 ** (1 / 7), 80 ** (1 / 7), T).map((root) => root ** 7),
  exponential: (T) => linspace(Math.log(0.002), Math.log(80), T).map(Math.exp),
};

const rootsOf = (values) => values.map(Math.sqrt);

// The products of all 1 - beta so far.
function alphaBar(kind, T) {
  let product = 1;
  return betas(kind, T).map((beta) => (product *= 1 - Math.min(beta, 0.999)));
}

// beta, the share of the variance that each timestep replaces by noise; see minidiff/diffusion/schedule.py.
function betas(kind, T) {
  const [start, end] = [1e-4, 0.02], between = (share) => ((start + (end - start) * share) * 1000) / T;
  if (kind === "cosine") {
    const f = Array.from({ length: T + 1 }, (_, t) => Math.cos((((t / T + 0.008) / 1.008) * Math.PI) / 2) ** 2);
    return f.slice(1).map((value, t) => 1 - value / f[t]);
  }
  if (kind === "linear") return linspace(0, 1, T).map(between);
  if (kind === "sigmoid") return linspace(-6, 6, T).map((x) => between(1 / (1 + Math.exp(-x))));
  if (kind === "scaled_linear") return linspace(Math.sqrt(start), Math.sqrt(end), T).map((root) => (root * root * 1000) / T);
  throw new Error(`this page knows no schedule ${kind}`);
}

// The levels that a sampler visits, from the noisiest on, and the clean image: every (T / steps)-th from T - 1 downwards.
// Source: Lin et al. 2023, arXiv:2305.08891, table 2 (trailing).
export function levels(schedule, steps) {
  const T = schedule.length, step = T - T / steps - T; // as NumPy's arange rounds it
  return [...Array.from({ length: steps }, (_, i) => schedule[roundHalfToEven(T + i * step) - 1]), CLEAN];
}

function roundHalfToEven(x) {
  const below = Math.floor(x);
  return x - below === 0.5 ? below + (below % 2) : Math.round(x);
}

export const sigma = ({ a, s }) => s / a;
const logSnr = ({ a, s }) => Math.log(a / s);

// ---- what the network predicts ------------------------------------------------------------------------------------------

// g and h of the prediction target g x0 + h eps.
function mixture(target, { a, s }) {
  if (target === "edm") {
    const spread = Math.hypot(s, a * SIGMA_DATA);
    return [s / (SIGMA_DATA * spread), (-a * SIGMA_DATA) / spread];
  }
  return { eps: [0, 1], x0: [1, 0], v: [-s, a], flow: [-1, 1] }[target];
}

// x0_hat from the network's output: (h x_t - s output) / (a h - s g).
export function toX0(target, output, xT, level) {
  const [g, h] = mixture(target, level), { a, s } = level, determinant = a * h - s * g;
  return combine([xT, output], [h / determinant, -s / determinant]);
}

// The x and the t that the network was trained with: all targets but EDM's take x_t and t.
export function networkInput(target, xT, level) {
  if (target !== "edm") return [xT, level.t];
  return [combine([xT], [1 / Math.hypot(level.s, level.a * SIGMA_DATA)]), 250 * Math.log(sigma(level))];
}

// The sum of arrays times their coefficients; an array with coefficient 0 may be missing.
export function combine(arrays, coefficients) {
  const y = new arrays[0].constructor(arrays[0].length), used = arrays.map((_, k) => k).filter((k) => coefficients[k] !== 0);
  for (let i = 0; i < y.length; i++) {
    let sum = 0;
    for (const k of used) sum += coefficients[k] * arrays[k][i];
    y[i] = sum;
  }
  return y;
}

// ---- the samplers -------------------------------------------------------------------------------------------------------

// Each formula returns the coefficients of x_t, x0_hat, x0_hat of the step before, eps_hat and z in x_prev.
// last: the level of the step before, undefined at the first.  level, prev: from where the step leads, and to where.
export const SAMPLERS = {
  // Song et al. 2020, arXiv:2010.02502, eq. 12 and 16.
  ddim(last, level, prev, eta) {
    const beta = Math.max(0, level.s ** 2 - (level.a / prev.a) ** 2 * prev.s ** 2);
    const fresh = ((eta * prev.s) / level.s) * Math.sqrt(beta);
    return [0, prev.a, 0, Math.sqrt(Math.max(0, prev.s ** 2 - fresh ** 2)), fresh];
  },

  // DPM-Solver++ (2M): Lu et al. 2022, arXiv:2211.01095, algorithm 2.
  "dpm-solver"(last, level, prev) {
    const onD = -prev.a * Math.expm1(-(logSnr(prev) - logSnr(level))), more = extrapolation(last, level, prev);
    return [prev.s / level.s, onD * (1 + more), -onD * more, 0, 0];
  },

  // SDE-DPM-Solver++ (2M): the same with fresh noise; appendix B.4 there.
  "dpm-solver-sde"(last, level, prev) {
    const h = logSnr(prev) - logSnr(level), fresh = -Math.expm1(-2 * h), more = extrapolation(last, level, prev);
    const onD = prev.a * fresh;
    return [(prev.s / level.s) * Math.exp(-h), onD * (1 + more), -onD * more, 0, prev.s * Math.sqrt(fresh)];
  },

  // Euler's step to less noise than is wanted, and fresh noise on top: Song et al. 2020, arXiv:2011.13456, appendix F.
  "euler-ancestral"(last, level, prev) {
    const ratio = (prev.s * level.a) / (prev.a * level.s);
    return [0, prev.a, 0, prev.s * ratio, prev.s * Math.sqrt(1 - ratio ** 2)];
  },
};

// How far x0_hat is extrapolated: D = x0_hat + more (x0_hat - x0_hat_last); not where ln(a / s) is infinite.
function extrapolation(last, level, prev) {
  if (!last || !last.a || !prev.s) return 0;
  return (logSnr(prev) - logSnr(level)) / (2 * (logSnr(level) - logSnr(last)));
}

// A sampler's way from noise to an image, one step at a time: whoever uses it computes x0_hat from `xT` and `level`, and
// gives it to `step`, until it is `finished`.
export class Sampler {
  // x: the noise to start from, an array of any float type.  noise(index): fresh noise for a step, an array like x.
  // eta: of ddim.
  constructor(name, { levels, x, noise, eta = 0 }) {
    Object.assign(this, { formula: SAMPLERS[name], levels, noise, eta, index: 0, xT: x, x0HatLast: null });
  }

  get level() {
    return this.levels[this.index];
  }

  get finished() {
    return this.index === this.levels.length - 1;
  }

  // Take the step that x0Hat, an array like x, leads to; returns {index, steps, level, prev, xT, x0Hat, xPrev}.
  step(x0Hat) {
    const { levels, level, index, xT } = this, prev = levels[index + 1];
    let [onX, onX0, onLast, onEps, onZ] = this.formula(levels[index - 1], level, prev, this.eta);
    onX += onEps / level.s; // eps_hat = (x_t - a x0_hat) / s
    onX0 -= (level.a * onEps) / level.s;
    const xPrev = combine([xT, x0Hat, this.x0HatLast, onZ ? this.noise(index) : null], [onX, onX0, onLast, onZ]);
    Object.assign(this, { index: index + 1, xT: xPrev, x0HatLast: x0Hat });
    return { index, steps: levels.length - 1, level, prev, xT, x0Hat, xPrev };
  }
}
