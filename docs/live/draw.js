// The page draw.html: fields, the drawing pad, and the steps of the image; draw-worker.js computes.

import { $, Assistant, showValues, slideTo } from "./dom.js";
import { Lines } from "./lines.js";
import { attachPen } from "./pen.js";

const WEIGHTS = new URL("weights/", import.meta.url);
const MOST_SEED = 2n ** 64n - 1n;

const worker = new Assistant(new URL("draw-worker.js", import.meta.url));
const lines = new Lines();
let models = []; // what weights/models.json lists
let about = null; // of the loaded model: shape, words, …
let adapter = null; // a promise, as soon as the ControlNet is wanted
let run = null; // the drawing that is shown: {steps: what the worker told of each, of, paused, done}
let shown = 0; // the step that is shown
let film = null; // a timer, while the steps of a finished drawing are shown in turn

// ---- the model --------------------------------------------------------------------------------------------------------

async function start() {
  const answer = await fetch(new URL("models.json", WEIGHTS));
  if (!answer.ok) throw new Error(`there are no weights here: weights/models.json, ${answer.status}`);
  models = await answer.json();
  $("model").replaceChildren(...models.map(({ name }, i) => new Option(name, i)));
  $("model-field").hidden = models.length < 2;
  await load(models[0]);
}

// Load a model as weights/models.json describes it: {name, file, edges: the file of its ControlNet or null}.
async function load(model) {
  stop();
  $("draw").disabled = true;
  adapter = null;
  about = await worker.ask({ do: "load", url: new URL(model.file, WEIGHTS).href }, "model", showProgress("the weights"));
  Object.assign(about, model);
  $("loading").hidden = true;
  $("words").textContent = about.words.join(" ");
  $("drawing").hidden = !model.edges;
  $("steps").max = Math.min(100, about.T);
  for (const id of ["x_t", "x0_hat", "pad"]) Object.assign($(id), { height: about.shape[0], width: about.shape[1] });
  document.body.style.setProperty("--ratio", about.shape[1] / about.shape[0]);
  showLines();
  $("draw").disabled = false;
}

// A function that shows how much of a file has been loaded.
function showProgress(what) {
  $("loading").hidden = false;
  return ({ progress: { done, all } }) => {
    const megabytes = (bytes) => (bytes / 1e6).toFixed(1);
    $("loading-text").textContent = `Loading ${what}: ${megabytes(done)}${all ? ` of ${megabytes(all)}` : ""} MB`;
    Object.assign($("progress"), all ? { max: all, value: done } : {});
  };
}

// Load the ControlNet of the model, the first time it is wanted.
function adapt() {
  const url = new URL(about.edges, WEIGHTS).href;
  adapter ??= worker.ask({ do: "adapt", url }, "adapted", showProgress("the ControlNet")).finally(() => { $("loading").hidden = true; });
  return adapter;
}

// ---- drawing ------------------------------------------------------------------------------------------------------------

// The settings in the fields.  Throws an Error for a seed that is none.
function settings() {
  const seed = $("seed").value.trim();
  if (!/^\d+$/.test(seed) || BigInt(seed) > MOST_SEED) throw new Error(`seed must be a whole number from 0 to ${MOST_SEED}, got ${seed || "nothing"}`);
  const sampler = $("sampler").value, number = (id) => Number($(id).value);
  return {
    prompt: $("prompt").value, seed: BigInt(seed), sampler, steps: number("steps"), guidance: number("guidance"),
    eta: sampler === "ddim" ? number("eta") : 0,
    drawing: lines.empty || $("drawing").hidden ? null : lines.map(...about.shape), controlScale: number("control-scale"),
  };
}

// Draw an image and show every step; resolves with {x0, image, seconds}, or with null if the drawing was stopped.
async function draw(given) {
  stop();
  const before = run?.done ? run : null, mine = { settings: given, steps: [], of: given.steps, paused: false, done: null };
  run = mine;
  showError("");
  showState();
  try {
    if (given.drawing) await adapt();
    if (run !== mine || mine.stopped) return null;
    const finished = await worker.ask({ do: "draw", settings: given }, "finished", ({ step }) => {
      if (run !== mine) return;
      mine.steps.push(step);
      if (shown >= mine.steps.length - 2) go(mine.steps.length - 1);
      showState();
    });
    if (finished) mine.done = finished;
    return finished;
  } catch (error) {
    if (run === mine) run = before;
    showError(error.message);
    throw error;
  } finally {
    showState();
  }
}

function stop() {
  endFilm();
  if (!run || run.done || run.stopped) return;
  worker.send({ do: "stop" });
  run.stopped = true;
  showState();
}

function pause() {
  if (run.done || run.stopped) {
    if (film) endFilm();
    else playFilm();
  } else {
    run.paused = !run.paused;
    worker.send({ do: run.paused ? "pause" : "resume" });
  }
  showState();
}

function once() {
  run.paused = true;
  shown = run.steps.length - 1;
  worker.send({ do: "once" });
  showState();
}

function playFilm() {
  let next = 0;
  film = setInterval(() => {
    if (next < run.steps.length) go(next++);
    if (next >= run.steps.length) endFilm();
  }, Math.min(250, 4000 / run.steps.length));
  go(next++);
}

function endFilm() {
  clearInterval(film);
  film = null;
  showState();
}

// ---- what is shown --------------------------------------------------------------------------------------------------------

function go(step) {
  shown = Math.min(Math.max(0, step), (run?.steps.length ?? 0) - 1);
  const { xT, x0Hat, level, index, steps } = run.steps[shown], [height, width] = about.shape;
  paint($("x_t"), xT, width, height);
  paint($("x0_hat"), x0Hat, width, height);
  const sigma = level.s / level.a, number = (x) => (x >= 100 ? x.toFixed(0) : x.toPrecision(3));
  $("now").textContent = `step ${index + 1} of ${steps} · t = ${Number(level.t.toFixed(1))} · σ = ${Number.isFinite(sigma) ? number(sigma) : "∞"}`;
  $("estimate").textContent = index + 1 === steps ? "the finished image" : "its estimate of the image";
  slideTo($("scrub"), shown, Math.max(1, run.of - 1));
  showFilm();
}

function paint(canvas, bytes, width, height) {
  canvas.getContext("2d").putImageData(new ImageData(bytes, width, height), 0, 0);
}

// The estimates in a row, to click on: as many as there is room for.
function showFilm() {
  const cells = Math.min(Math.floor($("transport").clientWidth / 36), 20, run.of), box = $("film"), [height, width] = about.shape;
  box.hidden = run.of < 2;
  box.style.setProperty("--cells", cells);
  if (box.run !== run) {
    box.run = run;
    box.replaceChildren(...Array.from({ length: cells }, (_, cell) => {
      const button = document.createElement("button"), step = Math.round((cell * (run.of - 1)) / Math.max(1, cells - 1));
      Object.assign(button, { type: "button", step, disabled: true, onclick: () => { endFilm(); go(step); } });
      button.setAttribute("aria-label", `Step ${step + 1}`);
      button.append(Object.assign(document.createElement("canvas"), { width, height }));
      return button;
    }));
  }
  for (const button of box.children) {
    const known = run.steps[button.step];
    if (known && button.disabled) {
      button.disabled = false;
      paint(button.firstChild, known.x0Hat, width, height);
    }
    if (button.step === shown) button.setAttribute("aria-current", "true");
    else button.removeAttribute("aria-current");
  }
}

function showState() {
  const going = Boolean(run && !run.done && !run.stopped), some = Boolean(run?.steps.length);
  $("pause").disabled = !run || (!going && run.steps.length < 2);
  $("pause").textContent = going ? (run.paused ? "Go on" : "Pause") : film ? "Stop the film" : some ? "Replay" : "Pause";
  $("once").disabled = !going;
  $("stop").disabled = !going;
  $("scrub").disabled = !some;
  $("save").disabled = !run?.done;
  $("time").textContent = run?.done ? `${run.of} ${run.of === 1 ? "step" : "steps"} in ${run.done.seconds.toFixed(1)} s on this device` : "";
  $("eta").disabled = $("sampler").value !== "ddim";
  $("undo").disabled = $("clear").disabled = lines.empty;
  showCommand();
}

// The command that draws the same image in Python.  A prompt of known words needs no more than quotes.
function showCommand() {
  $("same").hidden = !run?.done || Boolean(run.settings.drawing) || models[0]?.file !== about.file;
  if ($("same").hidden) return;
  const { prompt, seed, steps, sampler, guidance, eta } = run.settings;
  const words = prompt.toLowerCase().match(/[\p{L}\p{N}\p{M}]+/gu).join(" ");
  const fresh = eta ? ` --eta ${eta}` : "";
  $("command").textContent = `python -m minidiff.sample "${words}" --seed ${seed} --sampler ${sampler} --steps ${steps} --guidance-scale ${guidance}${fresh}`;
}

function showError(text) {
  $("error").hidden = !text;
  $("error").textContent = text;
  $("prompt").setAttribute("aria-invalid", String(Boolean(text)));
}

function showLines() {
  const [height, width] = about.shape, bytes = new Uint8ClampedArray(4 * height * width).fill(255);
  lines.map(height, width).forEach((value, i) => bytes.fill(value, 4 * i, 4 * i + 3));
  paint($("pad"), bytes, width, height);
  showState();
}

// Save the image, each pixel enlarged to a square, so that it is not tiny.
function save() {
  const [height, width] = about.shape, zoom = Math.max(1, Math.floor(512 / Math.max(height, width)));
  const large = Object.assign(document.createElement("canvas"), { height: height * zoom, width: width * zoom });
  const context = large.getContext("2d"), small = Object.assign(document.createElement("canvas"), { height, width });
  paint(small, run.steps.at(-1).x0Hat, width, height);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, large.width, large.height);
  large.toBlob((blob) => {
    const link = Object.assign(document.createElement("a"), { href: URL.createObjectURL(blob), download: `minidiff-${run.settings.seed}.png` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

// ---- what a person does -----------------------------------------------------------------------------------------------------

function drawFromFields() {
  try {
    draw(settings()).catch(() => {}); // it is shown
  } catch (error) {
    showError(error.message);
  }
}

$("settings").addEventListener("submit", (event) => {
  event.preventDefault();
  if (!$("draw").disabled) drawFromFields();
});
$("stop").addEventListener("click", stop);
$("pause").addEventListener("click", pause);
$("once").addEventListener("click", once);
$("save").addEventListener("click", save);
$("scrub").addEventListener("input", () => { endFilm(); go(Number($("scrub").value)); });
$("sampler").addEventListener("change", showState);
$("dice").addEventListener("click", () => {
  $("seed").value = crypto.getRandomValues(new Uint16Array(1))[0];
  if (!$("draw").disabled) drawFromFields();
});
$("undo").addEventListener("click", () => { lines.undo(); showLines(); });
$("clear").addEventListener("click", () => { lines.clear(); showLines(); });
$("model").addEventListener("change", () => load(models[$("model").value]).then(drawFromFields, (error) => showError(error.message)));
attachPen($("pad"), {
  begin(x, y) { lines.begin(x, y); showLines(); },
  move(x, y) { lines.move(x, y); showLines(); },
  end: () => adapt().catch((error) => showError(error.message)), // it is loaded while the rest is drawn
  step: 1 / 32,
});
showValues(document.body);

const ready = start().then(() => { drawFromFields(); }, (error) => {
  $("loading-text").textContent = error.message;
  $("progress").hidden = true;
  throw error;
});
ready.catch(() => {}); // it is shown

// For tests: what they ask is in draw-worker.js; view is the drawing that is shown.
window.minidiff = {
  ready, load, draw, adapt, settings, lines, view: () => run,
  ask: (what, given) => worker.ask({ do: "ask", what, given }, "answer"),
};
