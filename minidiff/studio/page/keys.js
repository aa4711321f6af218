// The keyboard: what each key does, unless something is being typed.

import { $ } from "./dom.js";
import { go, node, view } from "./store.js";
import { part } from "./tabs.js";
import { cancel, toggle } from "./time.js";

const typing = (target) => target.closest?.("textarea, select, [contenteditable]") || (target.tagName === "INPUT" && !["checkbox", "radio", "file"].includes(target.type));

addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "Enter") {
    event.preventDefault();
    $("controls").requestSubmit();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") cancel();
  if (typing(event.target) && event.target.id !== "scrub") return;
  if (event.key === "?") $("keys").showModal();
  if (part !== "studio" || !node()) return;
  const to = { ArrowLeft: view.step - 1, ArrowRight: view.step + 1, Home: 0, End: node().done - 1 }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    go(to);
  } else if (event.key === " " && !event.target.closest?.("button, summary, a, label, input")) {
    event.preventDefault();
    toggle();
  }
});
$("help").addEventListener("click", () => $("keys").showModal());
$("keys-close").addEventListener("click", () => $("keys").close());
