// The pictures of all steps: previews are kept as they come, missed ones are fetched when they are looked at.

import { blob, drawingPath } from "./api.js";
import { on, owner, store } from "./store.js";

const MOST = 96 * 2 ** 20; // bytes of PNG; the oldest go first
const kept = new Map(); // key: a blob, or the promise of one
const decoded = new Map(); // key: the promise of an ImageBitmap, the last few
let bytes = 0;

function add(key, file) {
  bytes += file.size - (kept.get(key)?.size ?? 0);
  kept.set(key, file);
  for (const [old, each] of kept) {
    if (bytes <= MOST) break;
    bytes -= each.size ?? 0;
    kept.delete(old);
  }
}

export function takePreview({ drawing, node, step, x_t, x0_hat }) {
  for (const [what, file] of [["x_t", x_t], ["x0_hat", x0_hat]]) {
    const key = `${drawing}/${node}/${step}/${what}`;
    decoded.delete(key);
    add(key, file);
  }
}

// Returns the promise of a sheet: the images of a step, one below another.
export function sheet(of, number, step, what) {
  const id = owner(of, number, step), key = `${of.id}/${id}/${step}/${what}`;
  if (!decoded.has(key)) {
    if (!kept.has(key)) {
      const wanted = blob(`${drawingPath(of.id, "nodes", id, "steps", step, what)}.png`);
      kept.set(key, wanted);
      wanted.then((file) => add(key, file), () => kept.delete(key));
    }
    const made = Promise.resolve(kept.get(key)).then((file) => createImageBitmap(file));
    decoded.set(key, made);
    made.catch(() => decoded.delete(key));
    while (decoded.size > 48) decoded.delete(decoded.keys().next().value);
  }
  return decoded.get(key);
}

export function draw(canvas, bitmap, of, image) {
  const width = bitmap.width, height = Math.round(bitmap.height / of.count);
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  canvas.getContext("2d").drawImage(bitmap, 0, image * height, width, height, 0, 0, width, height);
}

// Draws a step on a canvas, unless something else has been asked of it in the meantime; false where there is no such picture.
export async function paint(canvas, of, number, step, what, image) {
  const key = `${store.epoch}/${of.id}/${owner(of, number, step)}/${step}/${what}/${image}`;
  canvas.dataset.wants = key;
  if (canvas.dataset.shows === key) return true;
  try {
    const bitmap = await sheet(of, number, step, what);
    if (canvas.dataset.wants !== key) return true;
    draw(canvas, bitmap, of, image);
    canvas.dataset.shows = key;
    return true;
  } catch {
    return canvas.dataset.wants !== key;
  }
}

on("restart", () => {
  kept.clear();
  decoded.clear();
  bytes = 0;
});
