// The view inside: guidance, attention and formulas of the step that is shown, for as long as the switch is on.

import { drawingPath, get, post } from "./api.js";
import { $ } from "./dom.js";
import { drawing, emit, keep, node, on, view } from "./store.js";

let panel = null, size = "", wanted = "", shown = "", timer = null;
export let looking = false;

// The panel is shared with the page that --explain writes; it is fetched when it is first wanted.
async function prepare(width, height) {
  if (panel && size === `${width}×${height}`) return;
  if (!document.querySelector("link[data-inside]")) {
    const style = document.createElement("link");
    Object.assign(style, { rel: "stylesheet", href: "/explain/inside.css" });
    style.dataset.inside = "";
    document.head.prepend(style);
  }
  const { Inside } = await import("/explain/inside.js");
  const markup = await (await fetch("/explain/inside.html")).text();
  const parsed = new DOMParser().parseFromString(markup, "text/html");
  $("inside-panel").replaceChildren(...parsed.body.childNodes);
  panel = new Inside($("inside-panel"), { width, height });
  size = `${width}×${height}`;
  shown = "";
}

function note(text) {
  $("inside-note").textContent = text;
  $("inside-note").hidden = !text;
}

async function show() {
  const of = drawing();
  if (!looking || !of || view.step < 0) return;
  const step = view.step, key = `${of.id}/${view.node}/${step}/${view.image}`;
  if (key === wanted) return;
  wanted = key;
  try {
    const found = await get(`${drawingPath(of.id, "nodes", view.node, "steps", step, "inside")}?image=${view.image}`);
    await prepare(found.width, found.height);
    if (wanted !== key) return;
    const { caption, words, negative, guidance } = found, run = `${of.id}/${view.node}/${view.image}/${JSON.stringify([caption, words, negative, guidance])}`;
    if (shown !== run) panel.image({ caption, words, negative, guidance });
    shown = run;
    panel.show(found.step, found.frame, [found.frame]);
    $("inside-panel").hidden = false;
    note("");
  } catch (error) {
    if (wanted !== key) return;
    wanted = "";
    note(error.status === 404 ? "This step has not been recorded yet." : error.message);
    $("inside-panel").hidden = true;
    if (error.status === 404 && of.state === "running") plan(700);
  }
}

function plan(wait = 120) {
  if (!looking || timer) return;
  timer = setTimeout(() => { timer = null; show(); }, wait);
}

async function toggle() {
  looking = !looking;
  $("inside").setAttribute("aria-checked", String(looking));
  wanted = "";
  $("inside-panel").hidden = !looking || !panel;
  note("");
  if (!drawing()) return;
  try {
    keep(await post(drawingPath(drawing().id, "inside"), { on: looking }));
    plan(0);
  } catch (error) {
    emit("error", error);
  }
}

// A drawing that was begun before the switch was on does not record yet.
function record() {
  const of = drawing();
  if (looking && of && !of.inside && node() && of.state !== "queued") {
    of.inside = true;
    post(drawingPath(of.id, "inside"), { on: true }).then(keep, () => {});
  }
  plan();
}

$("inside").addEventListener("click", toggle);
on("view preview", () => plan());
on("drawing", (of) => { if (of.id === view.drawing) { wanted = ""; plan(); } });
on("view", (before) => before.drawing !== view.drawing && record());
