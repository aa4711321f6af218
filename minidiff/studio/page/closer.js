// Looking closer: the steps of a latent model are previews, and the step at which one stays is decoded.
//
// One picture is asked for at a time, and the next one is that of the step which is looked at by then: moving over the steps
// asks for nothing.

import { blob, drawingPath } from "./api.js";
import { emit, on, owner, store, view } from "./store.js";

const STAY = 200; // milliseconds at a step; a film that is played shows each for at most 150
const MOST = 64; // pictures that are kept
const kept = new Map(); // by key: an ImageBitmap
let asked = "", timer = null, wanted = null, busy = false;

// Returns the decoded pictures of the step shown that are there, by name, and asks for the others of `names`.
export function closer(of, at, names) {
  const live = view.follow && ["queued", "running"].includes(of.state);
  if (!of.latent || view.step < 0) return {};
  const { node: number, step, image } = view, id = owner(of, number, step), found = {}, missing = [];
  for (const name of names) {
    const key = `${store.epoch}/${of.id}/${id}/${step}/${image}/${name}`;
    if (kept.has(key)) found[name] = kept.get(key);
    else missing.push([key, `${drawingPath(of.id, "nodes", id, "steps", step, "decoded", name)}.png?image=${image}`]);
  }
  wish(live || step >= at.done ? [] : missing);
  return found;
}

function wish(missing) {
  const now = missing.map(([key]) => key).join(" ");
  if (now === asked) return;
  asked = now;
  wanted = null;
  clearTimeout(timer);
  if (missing.length) timer = setTimeout(() => { wanted = missing; fetchAll(); }, STAY);
}

async function fetchAll() {
  if (busy || !wanted) return;
  const mine = wanted;
  wanted = null;
  busy = true;
  try {
    for (const [key, path] of mine) {
      kept.set(key, await createImageBitmap(await blob(path)));
      if (kept.size > MOST) kept.delete(kept.keys().next().value);
      if (wanted) break;
    }
  } catch (error) {
    if ([409, 429].includes(error.status)) asked = ""; // others look at other steps: it is asked for again
  }
  busy = false;
  emit("closer");
  fetchAll();
}

on("restart", () => { kept.clear(); wish([]); });
