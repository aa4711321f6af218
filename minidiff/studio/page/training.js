// Trainings as they go: the loss on a logarithmic axis, the pictures that they have drawn, and a prompt to try the newest
// checkpoint.

import { get } from "./api.js";
import { current } from "./controls.js";
import { $, duration, element, shape, toast } from "./dom.js";
import { emit, on } from "./store.js";

const PERIOD = 2000; // milliseconds from one look to the next
let chosen = null, timer = null, shown = null;
const metrics = new Map(); // by run: {step: […], loss: […]}

const path = (id, ...rest) => ["/api/runs", ...[id, ...rest].map((each) => encodeURIComponent(String(each)))].join("/");
const thousands = (x) => x.toLocaleString("en").replaceAll(",", "\u202f");

function item(run) {
  const part = run.of ? Math.min(1, run.step / run.of) : 0;
  const bar = element("span", { className: "bar" }, element("span"));
  bar.firstChild.style.width = `${100 * part}%`;
  const about = [`${thousands(run.step)} of ${run.of ? thousands(run.of) : "?"}`, Number.isFinite(run.loss) ? `loss ${run.loss.toPrecision(3)}` : ""].filter(Boolean).join(" · ");
  return element("li", {}, element("button", { type: "button", data: { run: run.id }, onclick: () => choose(run.id), aria: { current: String(run.id === chosen) } },
    element("span", { className: run.training ? "name live" : "name", textContent: run.name }), element("small", { textContent: about }), bar));
}

async function look() {
  clearTimeout(timer);
  if ($("panel-training").hidden) return;
  try {
    const { runs } = await get("/api/runs");
    $("runs-empty").hidden = runs.length > 0;
    if (!runs.some((each) => each.id === chosen)) chosen = (runs.find((each) => each.training) ?? runs[0])?.id ?? null;
    const focus = document.activeElement?.dataset?.run;
    $("runs").replaceChildren(...runs.map(item));
    if (focus) $("runs").querySelector(`[data-run="${CSS.escape(focus)}"]`)?.focus();
    $("run").hidden = chosen === null;
    if (chosen) await follow(chosen);
  } catch (error) {
    if (error.status) toast(error.message);
  }
  timer = setTimeout(look, PERIOD);
}

function choose(id) {
  chosen = id;
  look();
}

async function follow(id) {
  const run = await get(`${path(id)}?points=400`);
  if (id !== chosen) return;
  metrics.set(id, run.metrics ?? {});
  if (shown !== id) build(run);
  shown = id;
  const facts = [["step", `${thousands(run.step)} of ${run.of ? thousands(run.of) : "?"}`], ["speed", run.rate ? `${run.rate.toPrecision(3)} steps/s` : ""],
    ["left", run.training ? duration(run.left) : ""], ["", run.training ? "training now" : run.of && run.step >= run.of ? "finished" : "not running"]].filter(([, text]) => text);
  $("run-facts").replaceChildren(...facts.flatMap(([name, text]) => [element("span", {}, name ? `${name} ` : "", element("b", { textContent: text }))]));
  redraw();
  previews(run);
  $("run-draw").disabled = !run.model;
  $("run-draw").dataset.model = run.model ?? "";
  const field = $("run-prompt");
  field.hidden = run.prompts === false;
  if (!field.dataset.typed && document.activeElement !== field) field.value = current()?.prompts ? $("prompt").value.split("\n")[0] : "";
}

function redraw() {
  const { step = [], loss = [] } = metrics.get(shown) ?? {};
  if ($("run-curve")) curve($("run-curve"), step, loss);
}

function build(run) {
  const field = element("input", { type: "text", id: "run-prompt", placeholder: "a dog in a winter forest", aria: { label: "Prompt for the newest checkpoint" } });
  const button = element("button", { type: "submit", id: "run-draw", className: "primary", textContent: "Draw with the newest checkpoint" });
  const form = element("form", { className: "try" }, field, button);
  field.addEventListener("input", () => { field.dataset.typed = "yes"; });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (button.dataset.model) emit("try", { model: button.dataset.model, prompt: field.hidden ? "" : field.value.trim() });
  });
  const parts = Object.values(run.settings ?? {}).filter((each) => each && typeof each === "object" && !Array.isArray(each));
  const wanted = [run.settings ?? {}, ...parts].flatMap(Object.entries).map(([key, value]) => [key, Array.isArray(value) ? value.join(key === "size" ? "×" : " ") : value])
    .filter(([, value]) => ["string", "number", "boolean"].includes(typeof value));
  const settings = element("dl", {}, ...wanted.flatMap(([key, value]) => [element("dt", { textContent: key.replaceAll("_", " ") }), element("dd", { textContent: String(value) })]));
  const more = element("details", { id: "run-settings" }, element("summary", {}, element("span", { textContent: "Settings of the training" })), settings);
  more.hidden = !wanted.length;
  const svg = shape("svg", { id: "run-curve", role: "img", "aria-label": "The loss over the steps, on a logarithmic scale" });
  $("run").replaceChildren(element("h2", { textContent: run.name }), element("p", { id: "run-facts" }), svg, form, element("h3", { textContent: "What it draws" }), element("div", { id: "run-previews" }), more);
}

function previews(run) {
  const box = $("run-previews"), have = new Set([...box.children].map((each) => each.dataset.step));
  for (const step of run.previews ?? []) {
    if (have.has(String(step))) continue;
    const image = element("img", { src: `${path(run.id, "previews", step)}.png`, alt: `Pictures after ${thousands(step)} steps`, loading: "lazy" });
    box.prepend(element("figure", { data: { step } }, image, element("figcaption", { textContent: `step ${thousands(step)}` })));
  }
  box.previousElementSibling.hidden = !box.children.length;
}

// Grid lines at 1, 2 and 5 times the powers of ten, or at more where these are too few.
function ticks(low, high, digits = [1, 2, 5]) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power++) {
    for (const digit of digits) {
      const value = digit * 10 ** power;
      if (value >= low && value <= high) found.push(value);
    }
  }
  return found.length > 2 || digits.length > 3 ? found : ticks(low, high, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

function curve(svg, steps, losses) {
  const width = svg.clientWidth || 800, height = svg.clientHeight || 260, left = 52, bottom = 26, top = 8, right = 8;
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const points = steps.map((step, i) => [step, losses[i]]).filter(([, loss]) => loss > 0 && Number.isFinite(loss));
  if (points.length < 2) {
    svg.replaceChildren(shape("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "No losses yet"));
    return;
  }
  const sorted = points.map(([, loss]) => loss).sort((a, b) => a - b);
  const low = sorted[0] * 0.92, high = sorted.at(-1) * 1.08, last = points.at(-1)[0];
  const x = (step) => left + ((width - left - right) * step) / last;
  const y = (loss) => top + ((height - top - bottom) * (Math.log(high) - Math.log(loss))) / (Math.log(high) - Math.log(low));
  const line = (each) => "M" + each.map(([step, loss]) => `${x(step).toFixed(1)} ${y(loss).toFixed(1)}`).join("L");
  let mean = Math.log(points[0][1]);
  const smooth = points.map(([step, loss]) => [step, Math.exp((mean += (Math.log(loss) - mean) * 0.12))]);
  const marks = ticks(low, high).flatMap((value) => [shape("line", { class: "mark", x1: left, x2: width - right, y1: y(value), y2: y(value) }), shape("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, String(Number(value.toPrecision(3))))]);
  const feet = [0.25, 0.5, 0.75, 1].map((part) => shape("text", { x: x(part * last), y: height - 6, "text-anchor": part === 1 ? "end" : "middle" }, thousands(Math.round(part * last))));
  svg.replaceChildren(...marks, ...feet, shape("path", { class: "raw", d: line(points) }), shape("path", { class: "smooth", d: line(smooth) }));
}

new ResizeObserver(redraw).observe($("run"));
on("tab", (name) => name === "training" && look());
