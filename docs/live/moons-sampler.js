// The worker of moons.html that draws samples, with the newest network that it was given.
//
// It takes messages {do, id, …} and answers with {id, …}:
//   network   the weights from now on
//   flow      a run of a sampler; tells {frame: {index, steps, level, points, arrows}} for every x_t, and {flowed: the last
//             points, or null if another run or `halt` has ended it}
//   halt      ends the run

import { flow, NONE, score } from "./moons-model.js";

let network = null, running = null;

const TASKS = {
  network({ weights }) {
    network = weights;
  },

  // grid: the points at which arrows begin, flat.  arrowLabel: of the data whose score they show.
  async flow({ id, settings, grid, arrowLabel = NONE }) {
    running = id;
    const labels = new Uint8Array(grid.length / 2).fill(arrowLabel), weights = network;
    for (const { index, steps, level, prev, xT, xPrev } of flow(weights, settings)) {
      const arrows = score(weights, grid, level, labels, settings.guidance);
      postMessage({ id, frame: { index, steps, level, points: xT, arrows } });
      if (index + 1 === steps) {
        postMessage({ id, frame: { index: steps, steps, level: prev, points: xPrev, arrows } });
        postMessage({ id, flowed: xPrev });
        return;
      }
      await new Promise((resolve) => setTimeout(resolve));
      if (running !== id) {
        postMessage({ id, flowed: null });
        return;
      }
    }
  },

  halt() {
    running = null;
  },
};

addEventListener("message", async ({ data }) => {
  try {
    await TASKS[data.do](data);
  } catch (error) {
    postMessage({ id: data.id, error: error.message });
  }
});
