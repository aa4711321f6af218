// Pictures that are dropped on the page or pasted: one that minidiff drew brings back its settings, any other becomes the
// input on which it fell.

import { send } from "./api.js";
import * as controls from "./controls.js";
import { $, nameOf, toast } from "./dom.js";
import * as inputs from "./inputs.js";
import { emit } from "./store.js";
import { open, part } from "./tabs.js";

const WHERE = { init: "the picture to start from", control: "the drawing", reference: "the reference" };
let depth = 0, pointed = null;

const slotAt = (target) => target?.closest?.("[data-slot]")?.dataset.slot ?? null;
const fits = (slot) => slot && !$(`${slot}-box`).hidden;

export async function restore(file, slot = null) {
  const { settings, branches = [], missing = [] } = await send("/api/settings", file);
  if (part !== "studio") open("studio");
  await controls.fill(settings);
  emit("form");
  const lacking = missing.length ? ` Not here: ${missing.map(nameOf).join(", ")}.` : "";
  const ways = branches.length ? ` It has ${branches.length === 1 ? "a branch" : `${branches.length} branches`}.` : "";
  const again = branches.length && !missing.length ? [["Draw it with its branches", () => emit("again", { settings: controls.collect(), branches })]] : [];
  const instead = fits(slot) ? [[`Use it as ${WHERE[slot]} instead`, () => inputs.useFile(slot, file)]] : [];
  toast(`The settings of this picture are back.${lacking}${ways}`, ...again, ...instead);
}

// Whether a PNG has a text chunk of ours; what is in it, the server reads.
async function isOurs(file) {
  return new TextDecoder("latin1").decode(await file.slice(0, 1 << 20).arrayBuffer()).includes("tEXtminidiff\0");
}

export async function take(file, slot) {
  if (!file) return;
  if (!file.type.startsWith("image/")) {
    toast(`${file.name || "This file"} is not a picture.`);
    return;
  }
  try {
    if (file.type === "image/png" && (await isOurs(file))) {
      await restore(file, slot);
      return;
    }
  } catch (error) {
    if (error.status !== 400) {
      toast(error.message);
      return;
    }
  }
  if (fits(slot)) await inputs.useFile(slot, file);
  else offer(file);
}

function offer(file) {
  const places = Object.keys(WHERE).filter(fits).map((slot) => [`Use as ${WHERE[slot].replace("the ", "")}`, () => { open("studio"); inputs.useFile(slot, file); }]);
  toast("This picture holds no settings of minidiff.", ...places);
}

const files = (event) => event.dataTransfer?.types?.includes("Files");

addEventListener("dragenter", (event) => {
  if (!files(event)) return;
  event.preventDefault();
  depth++;
  $("dropping").hidden = false;
});
addEventListener("dragover", (event) => {
  if (!files(event)) return;
  event.preventDefault();
  const over = event.target.closest?.("[data-slot]") ?? null;
  if (over !== pointed) {
    pointed?.classList.remove("pointed");
    over?.classList.add("pointed");
    pointed = over;
  }
});
function leave() {
  depth = 0;
  $("dropping").hidden = true;
  pointed?.classList.remove("pointed");
  pointed = null;
}
addEventListener("dragleave", (event) => files(event) && --depth <= 0 && leave());
addEventListener("drop", (event) => {
  if (!files(event)) return;
  event.preventDefault();
  leave();
  take(event.dataTransfer.files[0], slotAt(event.target));
});
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])].find((each) => each.type.startsWith("image/"));
  if (!file) return;
  event.preventDefault();
  const opened = [...document.querySelectorAll("[data-slot][open]")].map((each) => each.dataset.slot);
  take(file, slotAt(document.activeElement) ?? (opened.length === 1 ? opened[0] : null));
});
