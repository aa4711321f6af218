// The page moons.html: the plane with its points and arrows, the fields, the loss; moons-trainer.js and moons-sampler.js compute.

import { $, Assistant, oncePerFrame, showValues, slideTo } from "./dom.js";
import { NONE } from "./moons-model.js";
import { attachPen } from "./pen.js";

const STEPS = 1200, BATCH = 64; // of the training; chapter 1 has more of both
const POINTS = 400, ARROWS = 19; // points that flow; arrows along each side
const HALF = 4; // the plane shows coordinates from -4 to 4, y downwards, as the figure of chapter 1 does
const DURATION = 3500, REST = 900; // milliseconds of a run, and between two of them
const COLOURS = ["#ffb054", "#5ecdff", "#e2e4f0"]; // of the labels 0, 1 and none, as in chapter 1's figure

const trainer = new Assistant(new URL("moons-trainer.js", import.meta.url));
const sampler = new Assistant(new URL("moons-sampler.js", import.meta.url));
const still = matchMedia("(prefers-reduced-motion: reduce)").matches;

let data = null; // points to show: {x0, label}
let own = []; // points drawn by hand: [x, y, label]
let training = null; // what the trainer told last
let losses = [];
let run = null; // the run that is shown: {id, label, frames, steps, flowed}
let position = 0; // of the run, in steps; between two of them, points are between their places
let playing = !still, follow = true; // follow: a run begins with every new network, as long as it is trained
let seed = 0, ended = null; // ended: when the run has come to its end

const grid = Float64Array.from({ length: 2 * ARROWS * ARROWS }, (_, i) => {
  const cell = i % 2 ? Math.floor(i / 2 / ARROWS) : (i / 2 | 0) % ARROWS;
  return ((cell + 0.5) / ARROWS) * 2 * HALF - HALF;
});

// ---- training -----------------------------------------------------------------------------------------------------------

// Begin with fresh weights, and with what the field says as data.
async function restartTraining() {
  try {
    data = await trainer.ask({ do: "data", shape: $("shape").value, points: own, steps: STEPS, n: BATCH, seed: 0 }, "data");
  } catch (error) {
    showError(error.message);
    return;
  }
  losses = [];
  train();
  setPlaying(!still);
  restart();
}

function train() {
  follow = true;
  trainer.send({ do: "go" }, ({ error }) => error && showError(error));
}

function heard({ training: told, network, error }) {
  if (error !== undefined) {
    showError(error);
    return;
  }
  training = told;
  losses.push(...told.losses);
  if (network) sampler.send({ do: "network", weights: network });
  if (network && still && !told.going) restart();
  showTraining();
}

function showTraining() {
  const { step, steps, seconds, going } = training, done = step >= steps;
  $("train").textContent = going ? "Pause" : "Go on";
  $("train").disabled = $("train-once").disabled = done;
  const recent = losses.slice(-100), loss = recent.reduce((sum, each) => sum + each, 0) / recent.length;
  $("progress-text").textContent = step ? `step ${step} of ${steps} · loss ${loss.toFixed(3)} · ${seconds.toFixed(1)} s` : "";
  paintLoss();
}

// ---- sampling -----------------------------------------------------------------------------------------------------------

function settings() {
  const number = (id) => Number($(id).value), chosen = $("label").value;
  const label = Uint8Array.from({ length: POINTS }, (_, i) => (chosen === "both" ? i % 2 : Number(chosen)));
  return { label, guidance: number("guidance"), sampler: $("sampler").value, steps: number("steps"), eta: $("sampler").value === "ddim" ? number("eta") : 0, seed };
}

// Begin a run; resolves with the points at its end, flat. 
function flow(given) {
  const mine = { label: given.label, frames: [], steps: given.steps, flowed: null };
  const arrowLabel = given.label.every((each) => each === given.label[0]) ? given.label[0] : NONE;
  run = mine;
  position = 0;
  ended = null;
  slideTo($("position"), 0, given.steps);
  return sampler.ask({ do: "flow", settings: given, grid, arrowLabel }, "flowed", ({ frame }) => {
    if (run !== mine) return;
    mine.frames.push(frame);
    if (still && !playing) position = mine.frames.length - 1; // no movement: the end is shown
    paint();
  }).then((end) => (mine.flowed = end)); // null if another run has replaced it
}

function restart() {
  flow(settings()).catch((error) => showError(error.message));
}

const restartSoon = oncePerFrame(restart);

// Move the points on with time.
let before = performance.now();
function tick(now) {
  const passed = Math.min(now - before, 100);
  before = now;
  if (run?.frames.length && playing) {
    const last = run.frames.length - 1, whole = last === run.steps;
    position = Math.min(last, position + (passed * run.steps) / DURATION);
    if (whole && position === last) {
      ended ??= now;
      if (follow && now - ended > REST) {
        follow = Boolean(training?.going);
        seed += 1;
        restart();
      } else if (!follow) setPlaying(false);
    }
    paint();
  }
  requestAnimationFrame(tick);
}

function setPlaying(to) {
  playing = to;
  $("play").textContent = playing ? "Pause" : "Play";
}

function play() {
  if (!playing && run && position >= run.steps) [position, ended] = [0, null];
  setPlaying(!playing);
  if (!playing) follow = false;
}

function once() {
  setPlaying(false);
  follow = false;
  position = Math.min(Math.floor(position + 1), Math.max(0, (run?.frames.length ?? 1) - 1));
  paint();
}

// ---- painting -----------------------------------------------------------------------------------------------------------

const paint = oncePerFrame(() => {
  const context = ready($("plane")), size = $("plane").width, at = (x) => ((x + HALF) / (2 * HALF)) * size;
  context.clearRect(0, 0, size, size);
  if ($("show-data").checked && data) dots(context, data.x0, data.label, at, size * 0.0022, 0.35);
  if ($("shape").value === "own") dots(context, own.flatMap(([x, y]) => [x, y]), own.map((each) => each[2]), at, size * 0.003, 0.6);
  if (!run?.frames.length) return;
  const index = Math.min(Math.floor(position), run.frames.length - 1), frame = run.frames[index], next = run.frames[index + 1];
  const part = next ? position - index : 0;
  if ($("show-arrows").checked) arrows(context, frame.arrows, at, size);
  if ($("show-paths").checked) paths(context, index, at);
  const points = next ? frame.points.map((x, i) => x + part * (next.points[i] - x)) : frame.points;
  dots(context, points, run.label, at, size * 0.0045, 0.9);
  slideTo($("position"), position, run.steps);
  const { t, a, s } = frame.level;
  $("now").textContent = `step ${index} of ${run.steps} · t = ${Math.max(0, t)} · ${t < 0 ? "the end" : `${Math.round(100 * a * a)}% of the variance is the clean point’s, ${Math.round(100 * s * s)}% is noise`}`;
});

// The context of a canvas, whose pixels are those of the screen.
function ready(canvas) {
  const box = canvas.getBoundingClientRect(), scale = devicePixelRatio;
  const [width, height] = [Math.max(1, Math.round(box.width * scale)), Math.max(1, Math.round(box.height * scale))];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  return canvas.getContext("2d");
}

function dots(context, points, labels, at, radius, alpha) {
  context.globalAlpha = alpha;
  for (const [label, colour] of COLOURS.entries()) {
    context.fillStyle = colour;
    context.beginPath();
    for (let i = 0; i < labels.length; i++) {
      if (labels[i] !== label) continue;
      const x = at(points[2 * i]), y = at(points[2 * i + 1]);
      context.moveTo(x + radius, y);
      context.arc(x, y, radius, 0, 2 * Math.PI);
    }
    context.fill();
  }
  context.globalAlpha = 1;
}

function arrows(context, field, at, size) {
  const lengths = Array.from({ length: field.length / 2 }, (_, i) => Math.hypot(field[2 * i], field[2 * i + 1]));
  const longest = [...lengths].sort((a, b) => a - b)[Math.floor(0.95 * lengths.length)], cell = size / ARROWS;
  context.strokeStyle = "#9aa3c7";
  context.globalAlpha = 0.75;
  context.lineWidth = Math.max(1, size / 800);
  context.beginPath();
  lengths.forEach((length, i) => {
    const share = Math.min(1, length / longest) * 0.8 * cell, dx = (field[2 * i] / length) * share, dy = (field[2 * i + 1] / length) * share;
    const x = at(grid[2 * i]) - dx / 2, y = at(grid[2 * i + 1]) - dy / 2;
    context.moveTo(x, y);
    context.lineTo(x + dx, y + dy);
    context.lineTo(x + 0.7 * dx - 0.16 * dy, y + 0.7 * dy + 0.16 * dx);
    context.moveTo(x + dx, y + dy);
    context.lineTo(x + 0.7 * dx + 0.16 * dy, y + 0.7 * dy - 0.16 * dx);
  });
  context.stroke();
  context.globalAlpha = 1;
}

function paths(context, last, at) {
  context.globalAlpha = 0.16;
  for (const [label, colour] of COLOURS.entries()) {
    context.strokeStyle = colour;
    context.beginPath();
    for (let i = 0; i < run.label.length; i++) {
      if (run.label[i] !== label) continue;
      for (let k = 0; k <= last; k++) {
        const { points } = run.frames[k];
        context[k ? "lineTo" : "moveTo"](at(points[2 * i]), at(points[2 * i + 1]));
      }
    }
    context.stroke();
  }
  context.globalAlpha = 1;
}

// The loss over the steps: each, faint, and the mean of its neighbours.
const paintLoss = oncePerFrame(() => {
  const canvas = $("loss"), context = ready(canvas), { width, height } = canvas, style = getComputedStyle(canvas);
  const x = (step) => (step / STEPS) * width, y = (loss) => height * (1 - 0.9 * Math.min(loss, 1.1));
  context.clearRect(0, 0, width, height);
  context.lineWidth = devicePixelRatio;
  for (const [span, colour, alpha] of [[1, "--faint", 0.35], [25, "--accent", 1]]) {
    context.strokeStyle = style.getPropertyValue(colour);
    context.globalAlpha = alpha;
    context.beginPath();
    let sum = 0;
    losses.forEach((loss, i) => {
      sum += loss - (i >= span ? losses[i - span] : 0);
      context.lineTo(x(i + 1), y(sum / Math.min(span, i + 1)));
    });
    context.stroke();
  }
  context.globalAlpha = 1;
  context.fillStyle = style.getPropertyValue("--faint");
  context.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
  context.textAlign = "right";
  context.fillText("loss 1", width - 6 * devicePixelRatio, y(1) + 14 * devicePixelRatio);
  context.fillRect(0, y(1), width, devicePixelRatio / 2);
});

function showError(text) {
  $("progress-text").textContent = text;
}

// ---- what a person does ---------------------------------------------------------------------------------------------------

function chooseShape() {
  const drawn = $("shape").value === "own";
  $("own").hidden = !drawn;
  $("frame").classList.toggle("drawing", drawn);
  $("plane").tabIndex = drawn ? 0 : -1;
  if (!drawn || own.length) restartTraining();
  else {
    trainer.send({ do: "halt" });
    data = null;
    paint();
  }
}

// A few points around a place on the plane.
function scatter(x, y) {
  const label = Number(document.querySelector("[name=ink]:checked").value), spread = () => (Math.random() - 0.5) * 0.24;
  for (let k = 0; k < 3; k++) own.push([(2 * x - 1) * HALF + spread(), (2 * y - 1) * HALF + spread(), label]);
  paint();
}

$("train").addEventListener("click", () => (training?.going ? trainer.send({ do: "halt" }) : train()));
$("train-once").addEventListener("click", () => trainer.send({ do: "once" }));
$("train-again").addEventListener("click", () => {
  if ($("shape").value !== "own" || own.length) restartTraining();
});
$("shape").addEventListener("change", chooseShape);
$("clear").addEventListener("click", () => { own = []; chooseShape(); });
attachPen($("plane"), {
  begin: scatter, move: scatter, end: () => own.length && restartTraining(),
  active: () => $("shape").value === "own",
});
$("play").addEventListener("click", play);
$("step").addEventListener("click", once);
$("again").addEventListener("click", () => { seed += 1; setPlaying(!still); restart(); });
$("position").addEventListener("input", () => {
  setPlaying(false);
  follow = false;
  position = Math.min(Number($("position").value), Math.max(0, (run?.frames.length ?? 1) - 1));
  paint();
});
$("sampling").addEventListener("input", (event) => {
  $("eta").disabled = $("sampler").value !== "ddim";
  if (event.target.type === "range" || event.target.tagName === "SELECT") restartSoon();
});
$("sampling").addEventListener("submit", (event) => event.preventDefault());
for (const id of ["show-arrows", "show-data", "show-paths"]) $(id).addEventListener("input", paint);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => training && paintLoss());
new ResizeObserver(() => { paint(); if (training) paintLoss(); }).observe($("plane"));

showValues(document.body);
setPlaying(playing);
trainer.send({ do: "watch" }, heard);
restartTraining();
requestAnimationFrame(tick);

// For tests: state(); flow(settings); settings.
window.minidiff = {
  state: () => ({ ...training, losses, shape: $("shape").value, own: own.length, frames: run?.frames.length ?? 0, position, playing }),
  flow: (given) => flow({ ...settings(), ...given }),
  settings,
};
