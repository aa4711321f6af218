// The worker of moons.html that trains.
//
// It takes messages {do, id, …} and answers with {id, …}:
//   data    new data, {shape, points}, and a network with fresh weights; tells {data: some points of it}
//   watch   from now on tells {training: {step, steps, losses since, seconds}} and, a few times a second, {network}
//   go, halt, once   train, pause, make a single step

import { makeData, Training } from "./moons-model.js";

const SLICE = 30, SHOWN = 800; // milliseconds of training between two looks at the messages; points to show
const OFTEN = 150; // milliseconds between two networks that are told

let training = null, going = false, turn = 0, watcher = null, seconds = 0, losses = [], told = 0;

const TASKS = {
  data({ id, shape, points, steps, n, seed }) {
    const data = makeData(shape, points);
    training = new Training({ data, seed, steps, n });
    [seconds, losses, told] = [0, [], 0];
    tell();
    postMessage({ id, data: data({ seed, step: 0, sample: 0 }, SHOWN) });
  },

  watch({ id }) {
    watcher = id;
  },

  async go() {
    if (going) return;
    going = true;
    const mine = ++turn;
    while (going && mine === turn && training.step < training.steps) {
      train(SLICE);
      await new Promise((resolve) => setTimeout(resolve));
    }
    if (mine !== turn) return; // another one has begun
    going = false;
    tell();
  },

  halt() {
    going = false;
  },

  once() {
    going = false;
    train(0);
    tell();
  },
};

// Train for some milliseconds, one step at least, if there are any left.
function train(milliseconds) {
  const start = performance.now();
  if (training.step >= training.steps) return;
  do losses.push(training.advance());
  while (training.step < training.steps && performance.now() - start < milliseconds);
  seconds += (performance.now() - start) / 1000;
  const { step, steps } = training;
  postMessage({ id: watcher, training: { step, steps, losses, seconds, going } });
  losses = [];
  if (performance.now() - told > OFTEN) tell();
}

function tell() {
  told = performance.now();
  const { step, steps, network } = training;
  postMessage({ id: watcher, training: { step, steps, losses: [], seconds, going }, network });
}

addEventListener("message", async ({ data }) => {
  try {
    await TASKS[data.do](data);
  } catch (error) {
    postMessage({ id: data.id, error: error.message });
  }
});
