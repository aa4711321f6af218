// The film strip: up to 16 steps, spread over all of them, so that the way from noise to picture is seen at a glance.  The
// slider and the arrow keys reach the steps between; the cell that is nearest to the step shown is marked.

import { $, element, oncePerFrame } from "./dom.js";
import { paint } from "./frames.js";
import { drawing, go, node, on, store, view } from "./store.js";

const film = $("film");
const NARROW = 560; // pixels, below which fewer cells have room
let shown = "", lit = null;

function spread(all) {
  const cells = Math.min(all, innerWidth < NARROW ? 10 : 16);
  return Array.from({ length: cells }, (_, i) => (cells > 1 ? Math.round((i * (all - 1)) / (cells - 1)) : 0));
}

function build(of, at) {
  const steps = spread(at.of), key = `${store.epoch}/${of.id}/${at.of}/${steps.length}`;
  if (shown === key) return;
  shown = key;
  lit = null;
  film.style.setProperty("--cells", steps.length);
  film.style.setProperty("--ratio", `${of.width} / ${of.height}`);
  film.replaceChildren(...steps.map((k) => element("button", { type: "button", tabIndex: -1, disabled: true, data: { step: k }, onclick: () => go(k), aria: { label: `Step ${k + 1}` } }, element("canvas", { width: of.width, height: of.height }))));
}

function show() {
  const of = drawing(), at = node();
  film.hidden = !of;
  if (!of) return;
  build(of, at);
  const cells = [...film.children], first = cells.find((each) => Number(each.dataset.step) >= at.start);
  let now = null;
  const away = (each) => Math.abs(each.dataset.step - view.step);
  for (const each of cells) {
    const k = Number(each.dataset.step), drawn = k < at.done;
    if (each.disabled === drawn) each.disabled = !drawn;
    const begins = at.parent !== null && each === first;
    if (each.classList.contains("begins") !== begins) each.classList.toggle("begins", begins);
    if (drawn && view.step >= 0 && (!now || away(each) < away(now))) now = each;
    if (drawn) paint(each.firstChild, of, view.node, k, "x0_hat", view.image);
  }
  if (lit !== now) {
    lit?.removeAttribute("aria-current");
    if (lit) lit.tabIndex = -1;
    lit = now;
  }
  if (lit) {
    lit.setAttribute("aria-current", "step");
    lit.tabIndex = 0;
  }
}

const plan = oncePerFrame(show);
on("view drawing preview", plan);
addEventListener("resize", plan);
