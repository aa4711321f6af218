// Small helpers for the pages.

export const $ = (id) => document.getElementById(id);

// Show the value of each slider beside it, and its share of the track as --part.
export function showValues(form) {
  for (const slider of form.querySelectorAll("input[type=range]")) {
    const output = form.querySelector(`output[for="${slider.id}"]`);
    const show = () => {
      if (output) output.value = slider.value;
      slider.style.setProperty("--part", `${(100 * (slider.value - slider.min)) / (slider.max - slider.min)}%`);
    };
    slider.addEventListener("input", show);
    show();
  }
}

// Set a slider from the program, with what it shows.
export function slideTo(slider, value, max = slider.max) {
  slider.max = max;
  slider.value = value;
  slider.style.setProperty("--part", `${max > slider.min ? (100 * (value - slider.min)) / (max - slider.min) : 0}%`);
}

// Return a function that calls `show` before the next frame is painted, once however often it is called.
export function oncePerFrame(show) {
  let planned = false;
  return () => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => {
      planned = false;
      show();
    });
  };
}

// A worker whose answers {id, …} go to who asked.  hear(told): is called with every answer.
export class Assistant {
  constructor(url) {
    this.worker = new Worker(url, { type: "module" });
    this.asked = new Map();
    this.number = 0;
    this.worker.addEventListener("message", ({ data }) => this.asked.get(data.id)?.(data));
    this.worker.addEventListener("error", (event) => {
      for (const hear of this.asked.values()) hear({ error: event.message ?? "the worker did not start" });
    });
  }

  // Send a message; returns its id.
  send(message, hear = null) {
    this.number += 1;
    if (hear) this.asked.set(this.number, hear);
    this.worker.postMessage({ ...message, id: this.number });
    return this.number;
  }

  // Send a message and wait for an answer that has `name`; other answers go to `hear`.  Rejects with what went wrong.
  ask(message, name, hear = () => {}) {
    return new Promise((resolve, reject) => {
      const id = this.send(message, (told) => {
        if (told.error !== undefined) reject(new Error(told.error));
        else if (name in told) resolve(told[name]);
        else {
          hear(told);
          return;
        }
        this.asked.delete(id);
      });
    });
  }
}
