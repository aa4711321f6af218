// Small helpers to build the page.  All text enters it as textContent or as a text node, never as markup.

export const $ = (id) => document.getElementById(id);

export function element(name, properties = {}, ...children) {
  const { data, aria, ...rest } = properties;
  const made = Object.assign(document.createElement(name), rest);
  Object.assign(made.dataset, data);
  for (const [key, value] of Object.entries(aria ?? {})) made.setAttribute(key === "role" ? key : `aria-${key}`, value);
  made.append(...children);
  return made;
}

export function shape(name, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export function number(x) {
  if (x === null || x === undefined) return "∞";
  const text = Math.abs(x) >= 100 || (x !== 0 && Math.abs(x) < 0.001) ? x.toPrecision(3) : x.toFixed(3);
  return (Number.isInteger(Number(text)) ? String(Number(text)) : text).replace("-", "−");
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined || !Number.isFinite(seconds)) return "";
  if (seconds < 60) return `${Math.ceil(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.round((seconds % 3600) / 60)} min`;
}

// Names of settings as people read them, in the order in which they are listed.
const NAMES = {
  prompt: "prompt", negative: "not in the picture", label: "label", model: "model", seed: "seed", count: "pictures",
  sampler: "sampler", steps: "steps", guidance_scale: "guidance", guidance_interval: "guidance for σ", spacing: "spacing",
  eta: "η", churn: "churn", variance: "variance", clip: "beyond the range", init: "picture", strength: "may change",
  mask: "mask", resample: "repeats", noise_level: "noise level", to: "second picture", vary: "variation",
  control: "drawing", control_kind: "kind of map", control_scale: "drawing’s strength", reference: "reference",
  reference_scale: "reference’s strength", branch: "branches",
};

export const nameOf = (key) => NAMES[key] ?? key;

export function valueOf(key, value) {
  if (value === null || value === undefined || value === "" || (Array.isArray(value) && !value.length)) return "none";
  if (key === "prompt") return value.map((each) => `“${each}”`).join(", ");
  if (key === "negative") return `“${value}”`;
  if (key === "branch") return value.map((each) => each.replace(/^step = (\d+),? ?/, (_, step) => (Number(step) ? `after step ${step}: ` : "from the start: "))).join("; ");
  if (["init", "mask", "to", "control", "reference"].includes(key)) return "yes";
  if (Array.isArray(value)) return value.map((each) => (typeof each === "number" ? number(each) : each === "inf" ? "∞" : each)).join(key === "guidance_interval" ? " to " : ", ");
  return typeof value === "number" ? number(value) : String(value);
}

// The settings of a picture that are worth listing: those that are given, in a fixed order.
export function listed(settings) {
  const dull = { eta: 0, churn: 0, resample: 1, count: 1, control_kind: "edges" };
  return Object.keys(NAMES).filter((key) => {
    const value = settings[key];
    if (value === null || value === undefined || (Array.isArray(value) && !value.length) || dull[key] === value) return false;
    if (key.startsWith("control_")) return Boolean(settings.control);
    return key !== "reference_scale" || Boolean(settings.reference);
  });
}

export function toast(text, ...actions) {
  const made = element("div", { className: "toast" }, element("p", { textContent: text }));
  for (const [name, act] of actions) {
    made.append(element("button", { type: "button", textContent: name, onclick: () => { made.remove(); act(); } }));
  }
  const close = element("button", { type: "button", className: "quiet round", textContent: "×", onclick: () => made.remove(), aria: { label: "Close the message" } });
  made.append(close);
  const box = document.getElementById("toasts");
  box.replaceChildren(made); // one at a time
  setTimeout(() => made.matches(":hover, :focus-within") || made.remove(), actions.length ? 20000 : 9000);
}

// Returns a function that calls `show` before the next frame is painted, once however often it is called.
export function oncePerFrame(show) {
  let planned = false;
  return () => {
    if (planned) return;
    planned = true;
    requestAnimationFrame(() => { planned = false; show(); });
  };
}
