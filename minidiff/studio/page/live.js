// The pictures at the step that is looked at: x_t and x0_hat, large, and all pictures of the drawing as a grid.

import { $, element, oncePerFrame } from "./dom.js";
import { closer } from "./closer.js";
import { draw, paint, sheet } from "./frames.js";
import { drawing, node, on, select, store, view } from "./store.js";

// Previews may come faster than the screen shows them: only the newest is drawn.
const plan = oncePerFrame(show);

function show() {
  const of = drawing(), at = node();
  $("figure-x_t").classList.toggle("nothing", view.step < 0);
  $("figure-x0_hat").classList.toggle("nothing", view.step < 0);
  wait(of, at);
  finish(of, at);
  $("grid").hidden = !of || of.count < 2;
  if (view.step < 0 && $("x_t").dataset.wants) noise(); // nothing of the drawing before stays
  if (view.step < 0) caption(false);
  if (!of) return;
  $("pictures").style.setProperty("--ratio", `${of.width} / ${of.height}`);
  grid(of);
  if (view.step < 0) return;
  const final = at.done === at.of && view.step === at.of - 1 && of.state !== "cancelled";
  caption(final);
  const better = closer(of, at, final ? ["x_t"] : ["x_t", "x0_hat"]);
  look("x_t", of, better.x_t, "preview").paint("x_t");
  const guess = look("x0_hat", of, better.x0_hat, view.step === at.of - 1 ? "decoded" : "preview");
  guess.paint(final ? "x_prev" : "x0_hat").then((done) => !done && final && guess.paint("x0_hat"));
}

// Shows a picture of the step on a canvas, the decoded one if it is there, and says which of the two it is.
function look(id, of, bitmap, otherwise) {
  const canvas = $(id), key = `${store.epoch}/${of.id}/${view.node}/${view.step}/${view.image}/decoded`;
  $(`${id}-kind`).textContent = of.latent ? (bitmap ? "decoded" : otherwise) : "";
  if (!bitmap) return { paint: (what) => paint(canvas, of, view.node, view.step, what, view.image) };
  if (canvas.dataset.shows !== key) draw(canvas, bitmap, { count: 1 }, 0);
  canvas.dataset.wants = canvas.dataset.shows = key;
  return { paint: async () => true };
}

function caption(final) {
  if (view.step < 0) for (const id of ["x_t-kind", "x0_hat-kind"]) $(id).textContent = "";
  $("guess-symbol").textContent = final ? "x" : "x̂";
  $("guess-note").textContent = final ? "the picture" : "its guess of the picture";
}

function wait(of, at) {
  let text = "";
  const begins = of ? at.done === 0 && ["queued", "running"].includes(of.state) : store.ordering;
  const name = store.compiling?.match(/compiling (\S+),/)?.[1] ?? store.compiling;
  if (begins && name) text = "Compiling the kernels, once on this machine; your drawing begins then.";
  else if (!of && begins) text = begins.cancelled ? "Cancelling …" : "Waiting for its turn";
  else if (!of) text = "Say what you would like to see.";
  else if (of.state === "queued") text = of.place > 0 ? `Waiting: ${of.place} before it` : "Waiting for its turn";
  else if (of.state === "running" && at.done === 0) text = "Beginning …";
  else if (of.state === "failed" && at.done === 0) text = of.error ?? "It failed.";
  else if (of.state === "cancelled" && at.done === 0) text = "Cancelled";
  $("waiting").replaceChildren(text, ...(begins && name ? [element("small", { textContent: name })] : []));
  $("compiling").hidden = !store.compiling || Boolean(begins);
  $("waiting").hidden = !text || (view.step >= 0 && of?.state !== "queued");
}

// What can be done with a finished picture.
function finish(of, at) {
  const id = at?.pictures?.[view.image];
  $("finished").hidden = !id;
  if (id) $("save").href = `/api/gallery/${encodeURIComponent(id)}.png`;
}

function grid(of) {
  const box = $("grid");
  box.hidden = of.count < 2;
  if (box.hidden) return;
  const whose = `${store.epoch}/${of.id}`;
  if (box.children.length !== of.count || box.dataset.of !== whose) {
    box.dataset.of = whose;
    delete box.dataset.shows;
    box.style.setProperty("--ratio", `${of.width} / ${of.height}`);
    box.classList.toggle("many", of.count > 16);
    box.replaceChildren(...Array.from({ length: of.count }, (_, k) => {
      const button = element("button", { type: "button", onclick: () => select({ image: k }), aria: { label: `Picture ${k + 1} of ${of.count}` } }, element("canvas"));
      return button;
    }));
  }
  [...box.children].forEach((each, k) => each.setAttribute("aria-pressed", String(k === view.image)));
  const wanted = `${store.epoch}/${of.id}/${view.node}/${view.step}`;
  if (box.dataset.shows === wanted) return;
  box.dataset.wants = wanted;
  if (view.step < 0) return;
  sheet(of, view.node, view.step, "x0_hat").then((bitmap) => {
    if (box.dataset.wants !== wanted || box.dataset.of !== whose) return;
    [...box.children].forEach((each, k) => draw(each.firstChild, bitmap, of, k));
    box.dataset.shows = wanted;
  }, () => {});
}

// Before the first drawing there is nothing but noise to see.
function noise() {
  const canvas = $("x_t"), size = 32;
  for (const each of [canvas, $("x0_hat")]) for (const name of ["shows", "wants"]) delete each.dataset[name];
  Object.assign(canvas, { width: size, height: size });
  const context = canvas.getContext("2d"), image = context.createImageData(size, size);
  for (let i = 0; i < image.data.length; i += 4) {
    for (let c = 0; c < 3; c++) {
      const normal = Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
      image.data[i + c] = 128 + 64 * normal;
    }
    image.data[i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
  Object.assign($("x0_hat"), { width: size, height: size });
}

// The small picture of a phone changes places with the large one.
$("figure-x_t").addEventListener("click", () => $("pictures").classList.toggle("swapped"));

on("view drawing compiling form closer", plan);
on("preview", ({ drawing: id }) => id === view.drawing && plan());
noise();
plan();

export const rate = () => store.live.get(view.drawing) ?? null;
