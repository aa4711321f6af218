// The three parts of the studio as tabs; the arrow keys go from one to the next.

import { $ } from "./dom.js";
import { emit } from "./store.js";

const NAMES = ["studio", "gallery", "training"];
export let part = "studio";

export function open(name) {
  part = name;
  for (const each of NAMES) {
    const chosen = each === name;
    $(`tab-${each}`).setAttribute("aria-selected", String(chosen));
    $(`tab-${each}`).tabIndex = chosen ? 0 : -1;
    $(`panel-${each}`).hidden = !chosen;
  }
  document.body.dataset.part = name;
  emit("tab", name);
}

NAMES.forEach((name, i) => {
  $(`tab-${name}`).addEventListener("click", () => open(name));
  $(`tab-${name}`).addEventListener("keydown", (event) => {
    const to = { ArrowLeft: i - 1, ArrowRight: i + 1, Home: 0, End: NAMES.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    event.stopPropagation();
    const next = NAMES[(to + NAMES.length) % NAMES.length];
    open(next);
    $(`tab-${next}`).focus();
  });
});
document.body.dataset.part = part;
