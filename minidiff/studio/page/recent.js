// The drawings of this session: the newest first, each with its state; also those that other programs have ordered.

import * as controls from "./controls.js";
import { $, element, valueOf, oncePerFrame } from "./dom.js";
import { paint } from "./frames.js";
import { emit, on, select, store, view } from "./store.js";

const STATES = { queued: "waiting", running: "drawing", paused: "paused", done: "", failed: "failed", cancelled: "cancelled" };
const items = new Map();

async function choose(id) {
  const of = store.drawings.get(id);
  select({ drawing: id, node: of.active, step: of.nodes[of.active].done - 1, image: 0, follow: true });
  await controls.fill(of.nodes[of.active].settings);
  emit("form");
}

function item(of) {
  const canvas = element("canvas", { width: of.width, height: of.height });
  const name = element("span", { className: "name" }), state = element("small");
  const button = element("button", { type: "button", onclick: () => choose(of.id) }, canvas, element("span", {}, name, state));
  return { li: element("li", {}, button), button, canvas, name, state };
}

function show() {
  const all = [...store.drawings.values()].reverse();
  $("recent-box").hidden = all.length < 2;
  for (const of of all) {
    if (!items.has(of.id)) items.set(of.id, item(of));
    const { button, canvas, name, state } = items.get(of.id), at = of.nodes[of.active];
    const prompt = at.settings.prompt ?? [];
    name.textContent = prompt.length ? prompt.join(" / ") : at.settings.label?.join(", ") || "without a prompt";
    state.textContent = [STATES[of.state], of.state === "queued" && of.place ? `${of.place} before it` : "", of.count > 1 ? `${of.count} pictures` : "", of.nodes.length > 1 ? `${of.nodes.length - 1} branch${of.nodes.length > 2 ? "es" : ""}` : ""].filter(Boolean).join(" · ");
    button.setAttribute("aria-current", String(of.id === view.drawing));
    button.title = valueOf("prompt", prompt);
    if (at.done > 0 && (of.state !== "running" || at.done % 5 === 0)) paint(canvas, of, of.active, at.done - 1, "x0_hat", 0);
  }
  const wanted = all.map((of) => items.get(of.id).li), list = $("recent");
  if (wanted.length !== list.children.length || wanted[0] !== list.firstChild) list.replaceChildren(...wanted);
}

on("restart", () => items.clear());

on("view drawing preview", oncePerFrame(show));
