// The time machine's controls: pause and go on, one step, scrub to any step, and branch from there.

import { drawingPath, post } from "./api.js";
import * as controls from "./controls.js";
import * as inputs from "./inputs.js";
import { $, duration, element, nameOf, number, shape, valueOf, oncePerFrame } from "./dom.js";
import { answered, drawing, emit, go, level, node, on, select, store, view } from "./store.js";

const REPLAY = "M10 3 V0 L5 4.5 L10 9 V6 A5 5 0 1 1 5 11 H2 A8 8 0 1 0 10 3 Z";
const PAUSE = "M4 2 H8 V18 H4 Z M12 2 H16 V18 H12 Z", PLAY = "M5 2 L18 10 L5 18 Z";

export async function act(name, body = {}) {
  const of = drawing();
  if (!of) return;
  try {
    await answered(post(drawingPath(of.id, name), body));
  } catch (error) {
    emit("error", error);
  }
}

const unfinished = (of, at) => of && ["paused", "cancelled", "done", "failed"].includes(of.state) && at.done < at.of;

const complete = (of, at) => of && !["running", "queued"].includes(of.state) && at.done > 1 && at.done === at.of;

// Shows the steps of a finished drawing in turn, for a few seconds; going to another step stops it.
let playing = null;
function play() {
  if (playing) {
    clearTimeout(playing.timer);
    playing = null;
    emit("form");
    return;
  }
  const whose = `${view.drawing}/${view.node}`, all = node().done, pause = Math.min(150, Math.max(40, 5000 / all));
  const mine = { step: 0, timer: null };
  const tick = () => {
    if (playing !== mine || whose !== `${view.drawing}/${view.node}` || (mine.step > 0 && view.step !== mine.step - 1)) mine.step = all;
    else go(mine.step++);
    if (mine.step < all) mine.timer = setTimeout(tick, pause);
    else if (playing === mine) {
      playing = null;
      emit("form");
    }
  };
  playing = mine;
  tick();
}

export function toggle() {
  const of = drawing();
  if (["running", "queued"].includes(of?.state)) act("pause");
  else if (complete(of, node())) play();
  else if (unfinished(of, node())) {
    select({ step: node().done - 1, follow: true });
    act("resume", { node: view.node });
  }
}

export function once() {
  const of = drawing();
  if (!of) return;
  if (of.state === "running") {
    act("pause"); // at its next step
    return;
  }
  select({ step: node().done - 1, follow: true });
  act("step", { node: view.node });
}

const GOING = ["queued", "running", "paused"];

export function cancel() {
  if (store.ordering) {
    store.ordering.cancelled = true; // as soon as the server has taken it
    emit("form");
  } else if (GOING.includes(drawing()?.state)) act("cancel");
}

// The step at which a branch would leave: the one that is shown, which is drawn anew.  So many steps stay.
const leaving = () => Math.max(0, view.step);

export async function branch() {
  const of = drawing();
  if (!of) return;
  try {
    await inputs.settle();
    const from = node(), step = leaving();
    const made = await answered(post(drawingPath(of.id, "branches"), { node: from.id, step, settings: controls.changes(from.settings), paused: false }));
    select({ node: made.active, step: made.nodes[made.active].done - 1, follow: true });
  } catch (error) {
    emit("error", error);
  }
}

const PICTURES = ["init", "mask", "control", "reference"];
const gone = (key, to) => PICTURES.includes(key) && !to;

function describe(key, from, to) {
  const named = PICTURES.includes(key);
  const text = named ? (from ? "another" : "new") : valueOf(key, to);
  if (gone(key, to)) return element("span", { className: "change" }, "without the ", element("b", { textContent: nameOf(key) }));
  return element("span", { className: "change" }, `${nameOf(key)} `, element("b", { textContent: text }));
}

function showChanges() {
  const of = drawing(), at = node();
  const possible = of && at.done > 0 && !controls.current()?.loaded === false && of.model === $("model").value;
  $("branch").textContent = !possible ? "Branch here" : leaving() ? `Branch here, after step ${leaving()}` : "Branch from the start";
  const found = possible ? controls.changes(at.settings) : {}, keys = Object.keys(found);
  const last = possible && at.done === at.of && view.step === at.of - 1, same = possible && at.done === at.of && !keys.length;
  $("branch").disabled = !possible || same;
  $("branch").title = same ? "Change something first" : "";
  $("branching").classList.toggle("ready", keys.length > 0 && !last);
  $("branching").hidden = !of;
  if (keys.length) {
    const back = element("button", { type: "button", className: "word", textContent: "put back", onclick: () => controls.fill(at.settings).then(() => emit("form")) });
    const begin = last ? "Go back to a step, to go on from there " : "From here on ", others = keys.filter((key) => !gone(key, found[key]));
    keys.sort((a, b) => gone(a, found[a]) - gone(b, found[b]));
    $("changes").replaceChildren(begin, others.length ? "with " : "", ...keys.flatMap((key, i) => [i ? ", " : "", describe(key, at.settings[key], found[key])]), " ", back);
  } else {
    $("changes").textContent = same ? "Change something first: the prompt, guidance, sampler or drawing. From the step shown another picture grows then."
      : "Go back to a step, change the prompt, guidance, sampler or drawing, and another picture grows from there.";
  }
}

function show() {
  const of = drawing(), at = node();
  const running = of?.state === "running", more = unfinished(of, at);
  const whole = complete(of, at);
  const [name, sign] = whole ? (playing ? ["Stop the film", PAUSE] : ["Play the film", REPLAY]) : running || !more ? ["Pause", PAUSE] : ["Go on", PLAY];
  $("pause").disabled = !running && !more && !whole;
  $("pause").setAttribute("aria-label", name);
  $("pause").title = `${name} (Space)`;
  $("pause-sign").setAttribute("d", sign);
  $("step-once").disabled = !(running || more);
  $("cancel").disabled = store.ordering ? store.ordering.cancelled : !GOING.includes(of?.state);
  $("scrub").disabled = !of;
  $("branching").hidden = !of;
  const scrub = $("scrub");
  if (!of) {
    scrub.value = 0;
    for (const name of ["--part", "--drawn"]) scrub.style.setProperty(name, "0%");
    $("curve").replaceChildren();
    $("now").replaceChildren(element("span", { className: "faint", textContent: "The steps from noise to picture will be here." }));
    return;
  }
  scrub.disabled = at.done === 0;
  scrub.max = Math.max(1, at.of - 1);
  scrub.value = Math.max(0, view.step);
  scrub.setAttribute("aria-valuetext", `step ${view.step + 1} of ${at.of}`);
  scrub.style.setProperty("--part", `${(100 * Math.max(0, view.step)) / Math.max(1, at.of - 1)}%`);
  scrub.style.setProperty("--drawn", `${(100 * Math.max(0, at.done - 1)) / Math.max(1, at.of - 1)}%`);
  showNow(of, at);
  showCurve(at);
  showChanges();
}

function showNow(of, at) {
  const here = level(view.step), live = store.live.get(of.id), parts = [];
  if (view.step < 0) parts.push(element("span", { className: "faint", textContent: of.state === "queued" ? "waiting" : "no step yet" }));
  else parts.push(element("span", {}, element("b", { textContent: `step ${view.step + 1}` }), ` of ${at.of}`));
  if (here) parts.push(element("span", { textContent: `σ = ${number(here.sigma)}` }), element("span", { className: "faint", textContent: `t = ${number(here.t)}` }));
  if (of.state === "running" && live) {
    if (live.rate) parts.push(element("span", { className: "faint", textContent: `${live.rate < 10 ? live.rate.toFixed(1) : Math.round(live.rate)} steps/s` }));
    if (live.left) parts.push(element("span", { className: "faint", textContent: `${duration(live.left)} left` }));
  }
  if (!view.follow && view.step < at.done - 1 && of.state === "running") {
    parts.push(element("button", { type: "button", className: "word", textContent: "to the newest step", onclick: () => go(at.done - 1) }));
  }
  $("now").replaceChildren(...parts);
}

// σ over the steps that were seen, on a logarithmic scale; it lies over the slider's track.
function showCurve(at) {
  const ends = [Math.log(0.01), Math.log(100)], points = [];
  for (let k = 0; k < at.done; k++) {
    const known = level(k);
    if (!known) continue;
    const log = known.sigma === null ? ends[1] : Math.log(Math.max(known.sigma, 1e-9));
    points.push([(1000 * k) / Math.max(1, at.of - 1), Math.min(ends[1], Math.max(ends[0], log))]);
  }
  const down = (log) => 6 + (88 * (ends[1] - log)) / (ends[1] - ends[0]);
  const path = points.length > 1 ? "M" + points.map(([x, log]) => `${x.toFixed(1)} ${down(log).toFixed(1)}`).join("L") : "";
  const curve = $("curve").firstChild ?? $("curve").appendChild(shape("path"));
  curve.setAttribute("d", path);
}

$("pause").addEventListener("click", toggle);
$("step-once").addEventListener("click", once);
$("cancel").addEventListener("click", cancel);
$("branch").addEventListener("click", branch);
$("scrub").addEventListener("input", () => go(Number($("scrub").value)));

on("view drawing preview form model", oncePerFrame(show));
$("branching").hidden = true;
