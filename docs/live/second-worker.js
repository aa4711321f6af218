// The second worker of draw.html: it evaluates the network without the prompt, while draw-worker.js does so with it.
//
// It takes messages {do, id, …} and answers with {id, done}, or with {id, error}:
//   load       file: of a model, an ArrayBuffer
//   adapt      file: of its ControlNet
//   begin      drawing, controlScale: of the evaluations that follow
//   evaluate   x, t; done is the output

import { Model } from "./model.js";
import { read } from "./safetensors.js";

let model = null, network = null;

const TASKS = {
  load({ file }) {
    model = new Model(read(file));
    network = null;
  },

  adapt({ file }) {
    model.addControl(read(file));
  },

  begin({ drawing, controlScale }) {
    network = model.evaluator(model.tokenizer.empty(), model.hint(drawing), controlScale);
  },

  evaluate({ x, t }) {
    return network(x, t);
  },
};

addEventListener("message", ({ data }) => {
  try {
    postMessage({ id: data.id, done: TASKS[data.do](data) ?? null });
  } catch (error) {
    postMessage({ id: data.id, error: error.message });
  }
});
