// The studio: asks the server for its state, follows what it tells, and draws.

import { blob, drawingPath, get, post, watch } from "./api.js";
import * as controls from "./controls.js";
import { $, toast } from "./dom.js";
import { takePreview } from "./frames.js";
import * as inputs from "./inputs.js";
import { looking } from "./inside-live.js";
import { answered, drawing, emit, hear, loaded, node, on, select, store, take, told, view } from "./store.js";
import { open } from "./tabs.js";
import { cancel } from "./time.js";
import "./dropping.js";
import "./film.js";
import "./gallery.js";
import "./keys.js";
import "./live.js";
import "./recent.js";
import "./training.js";
import "./tree.js";

let begun = false, busy = null, error = null;

function complain(found) {
  error = found ? found.message ?? String(found) : null;
  // The server's line on unknown words names all the known ones; the page has them elsewhere, and better words to offer.
  const words = found?.status === 400 && error.includes("unknown word") ? Object.values(controls.spelling).flatMap((each) => each.offers()) : [];
  $("error").replaceChildren(...(words.length ? words : [error ?? ""]));
  $("error").hidden = !error;
}

const PATIENCE = 400; // milliseconds, after which a drawing that the server has not taken yet is shown as one that waits

// The server answers at the end of what it is doing: it may have kernels to compile.  A person may cancel before.
async function drawNow(settings, branches = []) {
  const mine = { cancelled: false }, before = { ...view };
  store.ordering = mine;
  const timer = setTimeout(() => select({ drawing: null, node: 0, step: -1, image: 0, follow: true }), PATIENCE);
  try {
    const made = await answered(post("/api/drawings", { settings, branches, inside: looking, paused: false }));
    store.ordering = null;
    select({ drawing: made.id, node: made.active, step: made.nodes[made.active].done - 1, image: 0, follow: true });
    if (mine.cancelled) cancel();
  } catch (found) {
    store.ordering = null;
    if (view.drawing === null && store.drawings.has(before.drawing)) select(before);
    throw found;
  } finally {
    clearTimeout(timer);
    emit("form");
  }
}

async function draw() {
  complain(null);
  $("draw").disabled = true;
  try {
    await inputs.settle();
    await drawNow(controls.collect());
    if (matchMedia("(max-width: 899px)").matches) $("stage").scrollIntoView();
  } catch (found) {
    complain(found);
  } finally {
    $("draw").disabled = false;
    if (document.activeElement === $("draw")) $("draw").blur(); // so that Space pauses what has just begun
  }
}

// The state in a few words; it is read aloud, so it changes with the state and not with every step.
function showStatus() {
  const of = drawing(), at = node(), status = $("status");
  const texts = { queued: of?.place > 0 ? `Waiting, ${of.place} before it` : "Waiting", running: "Drawing", paused: `Paused after step ${at?.done}`, done: "Done", failed: "Failed", cancelled: "Cancelled" };
  const text = busy ?? (of ? texts[of.state] : store.ordering ? "Waiting" : "");
  if (status.textContent !== text) status.textContent = text;
  status.dataset.state = busy ? "running" : of?.state ?? "";
  if (of?.state === "failed" && of.error) complain(of.error);
}

function showCompiling(line) {
  store.compiling = line;
  $("compiling").textContent = line ? line[0].toUpperCase() + line.slice(1) : "";
  $("compiling").hidden = !line;
  emit("compiling");
}

// After the first start, and after each time that the connection was lost.
async function load() {
  await loaded(get("/api/state"));
  showCompiling(store.compiling);
  if (!begun) {
    begun = true;
    await controls.begin();
    const newest = store.state.drawings.find((each) => ["running", "paused", "queued"].includes(each.state)) ?? store.state.drawings[0];
    if (newest) {
      select({ drawing: newest.id, node: newest.active, step: newest.nodes[newest.active].done - 1, follow: true });
      await controls.fill(newest.nodes[newest.active].settings);
    }
  } else emit("models");
  emit("form");
}

function lost(yes) {
  $("lost").textContent = yes ? "The connection to the studio is lost. Trying again …" : "";
  $("lost").hidden = !yes;
}

// A drawing that another program has ordered is shown if there is nothing else to look at.
on("drawing", (made) => {
  if (view.drawing === null && begun && !store.ordering) select({ drawing: made.id, node: made.active, step: made.nodes[made.active].done - 1, follow: true });
});
on("drawing view preview", showStatus);
on("busy", (text) => { busy = text; showStatus(); });
on("error", complain);
on("form", () => error && complain(null));

$("controls").addEventListener("submit", (event) => { event.preventDefault(); draw(); });

on("again", ({ settings, branches }) => drawNow(settings, branches).catch(complain));
on("try", async ({ model, prompt }) => {
  open("studio");
  try {
    await controls.choose(model);
    const settings = controls.collect();
    for (const name of ["init", "strength", "mask", "resample", "control", "control_scale", "control_kind", "reference", "reference_scale"]) delete settings[name];
    if (!settings.label?.length) settings.guidance_scale = prompt ? settings.guidance_scale : null;
    if (prompt && "prompt" in settings) { settings.prompt = [prompt]; $("prompt").value = prompt; emit("form"); }
    await drawNow(settings);
  } catch (found) {
    complain(found);
  }
});

async function reuse(slot) {
  const id = node()?.pictures?.[view.image];
  if (!id) return;
  try {
    await inputs.useFile(slot, await blob(`/api/gallery/${encodeURIComponent(id)}.png`));
    $(`${slot}-box`).scrollIntoView({ block: "nearest" });
  } catch (found) {
    toast(found.message);
  }
}
$("again-init").addEventListener("click", () => reuse("init"));
$("again-reference").addEventListener("click", () => reuse("reference"));
on("model view", () => { $("again-reference").hidden = $("reference-box").hidden; });

// For tests: what the page knows, to be read only.
window.studio = Object.freeze({
  get state() { return store.state; },
  drawing: () => drawing(),
  get previews() { return store.previews; },
  get view() { return { ...view }; },
  settings: () => controls.collect(),
  path: drawingPath,
});

const reload = () => load().then(() => { complain(null); return true; }, (found) => complain(found));

$("draw").disabled = true;
await reload(); // at once, whether or not the WebSocket comes about
$("draw").disabled = !begun;

watch({
  open: () => reload().then((yes) => { lost(!yes); $("draw").disabled = !begun; }),
  lost: () => lost(true),
  preview: (preview) => { takePreview(preview); take(preview); },
  event: (said) => {
    if (said.event === "drawing") told(said.drawing);
    else if (said.event === "compiling") { hear("compiling"); showCompiling(said.line); }
    else if (said.event === "gallery") emit("gallery", said.picture);
    else if (said.event === "models" && store.state) { hear("models"); store.state.models = said.models; emit("models"); }
  },
});
