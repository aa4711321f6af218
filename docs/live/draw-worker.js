// The worker of draw.html: all computing happens here, so that the page answers at once.
//
// It takes messages {do, id, …} and answers with {id, …}:
//   load   fetches a model; tells {progress} and then {model}, what the page needs to know of it
//   adapt  fetches its ControlNet; tells {progress} and then {adapted}
//   draw   draws an image; tells {step} after every step and {finished} at the end, null if it was stopped; pause,
//          resume, once (a single step) and stop act on it
//   ask    computes one part of the model by itself, for tests; tells {answer}
// Whatever goes wrong is told as {error}.
//
// A step with guidance takes two evaluations of the network.  Where there is a second core, a second worker makes one of them.

import { Assistant } from "./dom.js";
import { Features } from "./layers.js";
import { Model, toBytes } from "./model.js";
import { download, read } from "./safetensors.js";

let model = null;
let second = navigator.hardwareConcurrency > 1 && globalThis.Worker ? new Assistant(new URL("second-worker.js", import.meta.url)) : null;
let drawing = null; // the number of the drawing that is under way
let paused = false, single = false, wake = () => {};

const TASKS = {
  async load({ id, url }) {
    TASKS.stop();
    const file = await fetched(id, url), loaded = ask({ do: "load", file }).catch(() => { second = null; }); // then without it
    model = new Model(read(file));
    await loaded;
    const { shape, noiseShape, tokenizer: { words, maxTokens }, schedule } = model;
    postMessage({ id, model: { shape, noiseShape, words, maxTokens, T: schedule.length } });
  },

  async adapt({ id, url }) {
    const file = await fetched(id, url), adapted = ask({ do: "adapt", file });
    model.addControl(read(file));
    await adapted;
    postMessage({ id, adapted: true });
  },

  async draw({ id, settings }) {
    TASKS.stop();
    drawing = id;
    try {
      await steps(id, settings);
    } catch (error) {
      if (drawing === id) throw error; // else the model may have been changed meanwhile
    }
    if (drawing === id) drawing = null;
    else postMessage({ id, finished: null });
  },

  pause() {
    paused = true;
    single = false;
  },

  resume() {
    paused = single = false;
  },

  once() {
    paused = false;
    single = true;
  },

  stop() {
    drawing = null;
    TASKS.resume();
  },

  ask({ id, what, given }) {
    postMessage({ id, answer: QUESTIONS[what](given) });
  },
};

const QUESTIONS = {
  tokens: ({ prompt }) => model.tokenizer.encode(prompt),
  text({ prompt }) {
    const { tokens, embedding } = model.unet.condition(model.tokenizer.encode(prompt));
    return { tokens: [...tokens.data], embedding: [...embedding.data] };
  },
  // One evaluation of the network, without guidance.
  predict({ prompt, x, t, lines = null, controlScale = 1 }) {
    const hint = model.hint(lines && Uint8Array.from(lines));
    return [...model.evaluator(model.tokenizer.encode(prompt), hint, controlScale)(Float32Array.from(x), t)];
  },
  // The image of latents.
  decode: ({ x }) => [...model.space.decode(new Features(...model.noiseShape, Float32Array.from(x))).data],
};

// Draw, and tell every step, until the image is finished or the drawing has been stopped.
async function steps(id, settings) {
  let seconds = 0, start = performance.now();
  if (settings.guidance !== 1) await ask({ do: "begin", drawing: settings.drawing, controlScale: settings.controlScale });
  const elsewhere = second && ((x, t) => ask({ do: "evaluate", x, t }));
  for await (const { index, steps, level, xT, x0Hat, xPrev } of model.draw(settings, elsewhere)) {
    if (drawing !== id) return;
    const last = index + 1 === steps, image = last ? model.picture(xPrev, true) : model.picture(x0Hat);
    seconds += (performance.now() - start) / 1000;
    postMessage({ id, step: { index, steps, level, seconds, xT: toBytes(model.picture(xT)), x0Hat: toBytes(image) } });
    if (last) {
      postMessage({ id, finished: { x0: xPrev, image: image.data, seconds } });
      return;
    }
    if (single) TASKS.pause();
    do await message(); while (paused && drawing === id);
    if (drawing !== id) return;
    start = performance.now();
  }
}

// Ask the second worker, where there is one.
async function ask(message) {
  return second?.ask(message, "done");
}

function fetched(id, url) {
  return download(url, (done, all) => postMessage({ id, progress: { done, all } }));
}

// Wait for a message while paused; else only let those be heard that have arrived.
function message() {
  return new Promise((resolve) => {
    wake = resolve;
    if (!paused) setTimeout(resolve);
  });
}

addEventListener("message", async ({ data }) => {
  wake();
  try {
    await TASKS[data.do](data);
  } catch (error) {
    postMessage({ id: data.id, error: error.message });
  }
});
