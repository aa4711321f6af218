// The branches of a drawing as a tree over the steps: each node is a line from the step at which it leaves its parent to
// its newest step, on the scale of the slider above, with its last picture at the end.

import * as controls from "./controls.js";
import { $, element, nameOf, shape, valueOf, oncePerFrame } from "./dom.js";
import { paint } from "./frames.js";
import { drawing, emit, on, select, store, view } from "./store.js";

const tree = $("tree");
const ROW = 58, TOP = 30; // pixels: from one line to the next, and from the top to the first
let shown = "";

// The nodes in the order of their lines: each after its parent, the later branches of a parent nearer to it.
function order(nodes) {
  const found = [];
  const walk = (each) => {
    found.push(each);
    nodes.filter((other) => other.parent === each.id).reverse().forEach(walk);
  };
  nodes.filter((each) => each.parent === null).forEach(walk);
  return found;
}

function title(each) {
  if (each.parent === null) return each.settings.prompt?.length ? valueOf("prompt", each.settings.prompt) : "the first way";
  const what = Object.entries(each.changed).map(([key, value]) => (key === "prompt" ? valueOf(key, value) : `${nameOf(key)} ${valueOf(key, value)}`));
  return `${what.join(", ") || "the same again"} · ${each.start ? `after step ${each.start}` : "from the start"}`;
}

async function choose(each) {
  select({ node: each.id, step: each.done - 1, follow: true });
  await controls.fill(each.settings);
  emit("form");
}

function build(of, rows) {
  const key = `${store.epoch}/${of.id}/${of.nodes.length}`;
  if (shown === key) return;
  shown = key;
  const list = element("ul", { aria: { label: "Branches of this drawing" } });
  list.append(...rows.map((each) => element("li", {}, element("button", { type: "button", data: { node: each.id }, onclick: () => choose(drawing().nodes[each.id]) },
    element("span", { className: "name", textContent: title(each) }), element("canvas", { width: of.width, height: of.height })))));
  tree.replaceChildren(shape("svg", { "aria-hidden": "true" }), list);
  tree.style.setProperty("--ratio", `${of.width} / ${of.height}`);
}

function show() {
  const of = drawing();
  tree.hidden = !of;
  if (!of) return;
  const rows = order(of.nodes), most = Math.max(1, ...of.nodes.map((each) => each.of - 1));
  build(of, rows);
  const svg = tree.firstChild, width = svg.clientWidth, height = rows.length * ROW;
  tree.style.setProperty("--rows", rows.length);
  svg.setAttribute("viewBox", `0 0 ${Math.max(1, width)} ${height}`);
  const across = (step) => 8 + ((width - 16) * Math.max(0, step)) / most;
  const line = new Map(rows.map((each, i) => [each.id, i * ROW + TOP + 8]));
  const way = new Set(); // the nodes on the way to the one that is shown
  for (let at = of.nodes[view.node]; at; at = at.parent === null ? null : of.nodes[at.parent]) way.add(at.id);
  const shapes = [];
  if (view.step >= 0) shapes.push(shape("line", { class: "playhead", x1: across(view.step), x2: across(view.step), y1: 0, y2: height }));
  for (const each of [...rows].sort((a, b) => way.has(a.id) - way.has(b.id))) {
    const y = line.get(each.id), from = across(each.start), to = across(Math.max(each.start, each.done - 1)), lit = way.has(each.id);
    shapes.push(shape("path", { class: "rest", d: `M${from} ${y}H${across(each.of - 1)}` }));
    let d = `M${from} ${y}H${to}`;
    if (each.parent !== null) {
      const above = line.get(each.parent), back = Math.min(24, from - 2), r = Math.min(10, back);
      d = `M${from - back} ${above}Q${from - back + r} ${above} ${from - back + r} ${above + r}V${y - r}Q${from - back + r} ${y} ${Math.max(from, from - back + 2 * r)} ${y}H${to}`;
    }
    shapes.push(shape("path", { class: lit ? "way lit" : "way", d }));
    shapes.push(shape("circle", { class: lit ? "lit" : "", cx: to, cy: y, r: each.id === view.node ? 5 : 3.5 }));
  }
  svg.replaceChildren(...shapes);
  rows.forEach((each, i) => {
    const button = tree.lastChild.children[i].firstChild, late = each.start / most > 0.45;
    button.setAttribute("aria-pressed", String(each.id === view.node));
    button.classList.toggle("late", late);
    button.style.setProperty("--from", late ? "0px" : `${across(each.start)}px`);
    if (each.done > 0) paint(button.lastChild, of, each.id, each.done - 1, "x0_hat", view.image);
  });
}

const plan = oncePerFrame(show);
on("view drawing preview", plan);
new ResizeObserver(plan).observe(tree);
