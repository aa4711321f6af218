// The view inside: guidance, attention and formulas of the step that is shown, for as long as the switch is on.

import { drawingPath, get, post } from "./api.js";
import { $, element } from "./dom.js";
import { answered, drawing, emit, node, on, owner, view } from "./store.js";

const MOST = 12; // runs whose steps are kept
const frames = new Map(); // by run: one place for each of its steps, empty where the step has not been looked at
let panel = null, size = "", wanted = "", shown = "", timer = null;
export let looking = false;

const loaded = (tag) => new Promise((resolve, reject) => {
  tag.onload = resolve;
  tag.onerror = () => reject(new Error("The view inside cannot be loaded."));
  document.head.append(tag);
});

// The view is that of the page which --explain writes; it is fetched when it is first wanted, and made for a size.
// Two steps may want it at once: the second waits for the first.
let ready = Promise.resolve();
function prepare(of) {
  ready = ready.catch(() => {}).then(() => make(of));
  return ready;
}

async function make({ width, height, latent }) {
  const wished = [width, height, ...(latent ?? [])].join("×");
  if (size === wished) return;
  if (!panel) {
    await Promise.all([loaded(element("link", { rel: "stylesheet", href: "/explain/inside.css" })), loaded(element("script", { src: "/explain/inside.js" }))]);
  }
  const markup = await (await fetch("/explain/inside.html")).text();
  $("inside-panel").replaceChildren(...new DOMParser().parseFromString(markup, "text/html").body.childNodes);
  panel = new Inside($("inside-panel"), { width, height, latent });
  size = wished;
  shown = "";
}

function note(text) {
  if ($("inside-note").textContent !== text) $("inside-note").textContent = text;
  $("inside-note").hidden = !text;
}

// The run's steps that are known, in their places.  A branch with other words is another run.
function places(run, step, of, frame) {
  const found = frames.get(run) ?? new Array(of).fill(undefined);
  found[step] = frame;
  frames.delete(run);
  frames.set(run, found);
  if (frames.size > MOST) frames.delete(frames.keys().next().value);
  return found;
}

async function show() {
  const of = drawing();
  if (!looking || !of || view.step < 0) return;
  const step = view.step, number = view.node, key = `${of.id}/${number}/${step}`, steps = node().of;
  if (step >= node().recorded) {
    wanted = "";
    const { done, recorded } = node(), again = of.inside && ["running", "queued"].includes(of.state) && recorded < done;
    note(again ? `Drawing it again to record: step ${recorded} of ${done}` : "This step is being recorded …");
    if (!["running", "queued"].includes(of.state)) $("inside-panel").hidden = true;
    return;
  }
  if (key === wanted) return;
  wanted = key;
  try {
    const found = await get(drawingPath(of.id, "nodes", number, "steps", step, "inside"));
    await prepare(found);
    if (wanted !== key) return;
    const { caption, words, negative, guidance } = found, run = `${of.id}/${number}/${JSON.stringify([caption, words, negative, guidance])}`;
    if (shown !== run) panel.image({ caption, words, negative, guidance });
    shown = run;
    panel.show(found.step, found.frame, places(run, step, steps, found.frame));
    $("inside-panel").hidden = false;
    note(of.count > 1 ? "This is the first picture of the drawing." : "");
    complete(of, number, step, run);
  } catch (error) {
    if (wanted !== key) return;
    wanted = "";
    note(error.message);
    $("inside-panel").hidden = true;
  }
}

// The curves of the words go over all steps: those of a drawing at rest are fetched, one after another.
async function complete(of, number, shownStep, run) {
  const found = frames.get(run), here = owner(of, number, shownStep); // the steps with these words
  if (!found || found.fetching || found.length > 120) return;
  found.fetching = true;
  for (let step = 0; step < Math.min(of.nodes[number].done, of.nodes[number].recorded ?? Infinity); step++) {
    if (found[step] || owner(of, number, step) !== here) continue;
    await new Promise((resolve) => setTimeout(resolve, 30));
    if (!looking || shown !== run || ["running", "queued"].includes(drawing()?.state)) break;
    const each = await get(drawingPath(of.id, "nodes", number, "steps", step, "inside")).catch(() => null);
    if (each) found[step] = each.frame;
  }
  found.fetching = false;
  if (shown === run && wanted) {
    wanted = "";
    plan(0);
  }
}

function plan(wait = 100) {
  if (!looking || timer) return;
  timer = setTimeout(() => { timer = null; show(); }, wait);
}

// A drawing that was begun before the switch was on does not record yet.
async function record(yes) {
  const of = drawing();
  if (!of || of.inside === yes) return;
  of.inside = yes;
  try {
    await answered(post(drawingPath(of.id, "inside"), { on: yes }));
  } catch (error) {
    emit("error", error);
  }
}

$("inside").addEventListener("click", async () => {
  looking = !looking;
  $("inside").setAttribute("aria-checked", String(looking));
  wanted = "";
  $("inside-panel").hidden = !looking || !panel;
  note(looking && !drawing() ? "With the next drawing." : "");
  await record(looking);
  plan(0);
});
on("restart", () => {
  frames.clear();
  wanted = shown = "";
  $("inside-panel").hidden = true;
});
on("view", (before) => {
  if (looking && before.drawing !== view.drawing) record(true);
  plan();
});
on("drawing", (of) => of.id === view.drawing && plan());
on("preview", ({ drawing: id }) => id === view.drawing && plan());
