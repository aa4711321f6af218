// The film strip: a small picture of every step.  Each is drawn when it is scrolled into view.

import { $, element } from "./dom.js";
import { paint } from "./frames.js";
import { drawing, go, node, on, store, view } from "./store.js";

const film = $("film");
const visible = new Set();
let shown = "", lit = null;

const observer = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) visible.delete(target);
    else {
      visible.add(target);
      fill(target);
    }
  }
}, { root: film, rootMargin: "0px 200px" });

function fill(button) {
  const of = drawing();
  if (of && button.dataset.step < node().done) paint(button.firstChild, of, view.node, Number(button.dataset.step), "x0_hat", view.image);
}

function build(of, at) {
  const key = `${store.epoch}/${of.id}/${at.of}`;
  if (shown === key) return;
  shown = key;
  lit = null;
  observer.disconnect();
  visible.clear();
  film.style.setProperty("--ratio", `${of.width} / ${of.height}`);
  film.replaceChildren(...Array.from({ length: at.of }, (_, k) => {
    const button = element("button", { type: "button", tabIndex: -1, disabled: true, data: { step: k }, onclick: () => go(k), aria: { label: `Step ${k + 1}` } }, element("canvas", { width: of.width, height: of.height }));
    observer.observe(button);
    return button;
  }));
  film.scrollLeft = 0;
}

function show() {
  const of = drawing(), at = node();
  film.hidden = !of;
  if (!of) return;
  build(of, at);
  [...film.children].forEach((each, k) => {
    const drawn = k < at.done;
    if (each.disabled === drawn) each.disabled = !drawn;
    const begins = at.parent !== null && k === at.start;
    if (each.classList.contains("begins") !== begins) each.classList.toggle("begins", begins);
  });
  const now = film.children[view.step] ?? null;
  if (lit !== now) {
    lit?.removeAttribute("aria-current");
    if (lit) lit.tabIndex = -1;
    lit = now;
  }
  if (lit) {
    lit.setAttribute("aria-current", "step");
    lit.tabIndex = 0;
    const from = lit.offsetLeft - film.clientWidth / 2 + lit.offsetWidth / 2;
    if (lit.offsetLeft < film.scrollLeft + 80 || lit.offsetLeft + lit.offsetWidth > film.scrollLeft + film.clientWidth - 80) film.scrollLeft = from;
  }
  visible.forEach(fill);
}

let planned = false;
on("view drawing preview", () => {
  if (planned) return;
  planned = true;
  requestAnimationFrame(() => { planned = false; show(); });
});
