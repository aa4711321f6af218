// The pictures that a drawing starts from: a picture with a mask, a drawing of lines, a reference.
//
// Each is uploaded once and known by its id from then on.  `settle` waits until all that was drawn is uploaded.

import { picturePath, send } from "./api.js";
import { Pad, tools } from "./canvas.js";
import { $, element, toast } from "./dom.js";
import { emit, model, on } from "./store.js";

const current = () => model($("model").value);
const changed = () => emit("form");

async function decode(url) {
  const picture = new Image();
  picture.src = url;
  await picture.decode();
  return picture;
}

async function upload(file, say = true) {
  try {
    return await send("/api/pictures", file);
  } catch (error) {
    if (say) toast(error.message);
    return null;
  }
}

// A place for one picture, given by a file.
class Slot {
  constructor(name) {
    this.name = name;
    this.box = $(`${name}-box`);
    this.id = null;
    this.file = $(name);
    this.box.querySelector(".drop").addEventListener("click", () => this.file.click());
    this.file.addEventListener("change", () => {
      if (this.file.files[0]) this.set(this.file.files[0]);
      this.file.value = "";
    });
  }

  async set(file) {
    this.box.open = true;
    this.box.classList.add("busy");
    const made = await upload(file);
    this.box.classList.remove("busy");
    if (made) this.use(made.id);
    return made !== null;
  }

  use(id) {
    this.id = id;
    this.show();
    changed();
  }

  clear() {
    this.use(null);
  }

  show() {
    this.box.querySelector(".given").hidden = !this.id;
    this.box.querySelector(".drop").hidden = Boolean(this.id);
    if (this.id) {
      this.box.open = true;
      const picture = $(`${this.name}-picture`), url = picturePath(this.id, this.name, $("model").value);
      if (picture.getAttribute("src") !== url) picture.src = url;
    }
    this.box.classList.toggle("used", Boolean(this.id));
  }
}

const away = (what, act) => element("button", { type: "button", className: "away", textContent: "Remove", onclick: act, aria: { label: `Remove the ${what}` } });

// What is painted on a pad is uploaded a moment after the last stroke, or when it is needed.
class Painted {
  constructor(pad, done) {
    Object.assign(this, { pad, done, id: null, timer: null, version: 0, under: null });
  }

  touch() {
    this.version++;
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.settle(), 350);
    if (this.pad.blank) this.id = null;
    changed();
  }

  // The uploads run one after another, so that the newest is the last.
  settle() {
    clearTimeout(this.timer);
    if (this.timer === null) return this.under ?? Promise.resolve();
    this.timer = null;
    this.under = (this.under ?? Promise.resolve()).then(async () => {
      const version = this.version;
      if (this.pad.blank) this.id = null;
      else {
        const made = await upload(await this.pad.file());
        if (version === this.version) this.id = made?.id ?? null;
      }
      this.done();
      changed();
    });
    return this.under;
  }

  use(id) {
    clearTimeout(this.timer);
    this.timer = null;
    this.version++;
    this.id = id;
    this.done();
    changed();
  }
}

export const init = new Slot("init");
export const reference = new Slot("reference");

const maskPad = new Pad($("mask-canvas"), { colour: "#ff8d5c", ground: null, width: 48, changed: () => mask.touch() });
export const mask = new Painted(maskPad, () => {});
tools(maskPad, $("mask-tools"), "mask", away("picture", () => { maskPad.load(null); mask.use(null); init.clear(); }));
$("reference-tools").append(away("reference", () => reference.clear()));

const controlPad = new Pad($("control-canvas"), { colour: "#000", ground: "#fff", width: 14, changed: () => control.touch() });
export const control = new Painted(controlPad, showSeen);
const photo = element("input", { type: "file", id: "control-file", accept: "image/*", hidden: true, aria: { label: "A drawing or a photo" } });
photo.onchange = () => { if (photo.files[0]) setControl(photo.files[0]); photo.value = ""; };
tools(controlPad, $("control-tools"), "drawing", photo, element("button", { type: "button", className: "away", textContent: "Load", title: "Load a drawing or a photo", onclick: () => photo.click(), aria: { label: "Load a drawing or a photo" } }));

function showSeen() {
  const figure = $("control-box").querySelector(".seen");
  figure.hidden = !control.id;
  $("control-box").classList.toggle("used", Boolean(control.id));
  if (!control.id) return;
  $("control-box").open = true;
  const url = picturePath(control.id, "control", $("model").value, $("control-kind").value || "edges");
  if ($("control-seen").getAttribute("src") !== url) $("control-seen").src = url;
}

export async function setControl(file) {
  $("control-box").open = true;
  const made = await upload(file);
  if (!made) return;
  controlPad.load(await decode(picturePath(made.id)));
  control.use(made.id);
}

// A mask from elsewhere may be white on black, or painted on a clear ground: it becomes paint on the pad.
async function loadMask(id) {
  const picture = await decode(picturePath(id, "mask", $("model").value));
  const canvas = element("canvas", { width: picture.width, height: picture.height }), context = canvas.getContext("2d");
  context.drawImage(picture, 0, 0);
  const image = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < image.data.length; i += 4) image.data.set([255, 141, 92, image.data[i] > 127 ? 255 : 0], i);
  context.putImageData(image, 0, 0);
  maskPad.load(canvas);
}

export const settle = () => Promise.all([mask.settle(), control.settle()]);

// The inputs in the settings: only those that the model can use.
export function collect() {
  const adapters = current()?.adapters ?? [], found = {};
  if (init.id) found.init = init.id;
  if (init.id && mask.id) found.mask = mask.id;
  if (control.id && adapters.some((each) => each !== "reference")) found.control = control.id;
  if (reference.id && adapters.includes("reference")) found.reference = reference.id;
  return found;
}

export async function fill(settings) {
  init.use(settings.init ?? null);
  reference.use(settings.reference ?? null);
  const jobs = [];
  if ((settings.mask ?? null) !== mask.id || !settings.mask) {
    mask.use(settings.mask ?? null);
    maskPad.load(null);
    if (settings.mask) jobs.push(loadMask(settings.mask));
  }
  if ((settings.control ?? null) !== control.id || !settings.control) {
    control.use(settings.control ?? null);
    controlPad.load(null);
    if (settings.control) jobs.push(decode(picturePath(settings.control)).then((picture) => controlPad.load(picture)));
  }
  await Promise.allSettled(jobs);
}

export function useFile(slot, file) {
  if (slot === "control") return setControl(file);
  return slot === "init" ? init.set(file) : reference.set(file);
}

// The model has changed: its size and its eyes are others.
export function refresh() {
  const { width = 1, height = 1 } = current() ?? {};
  const long = 512 / Math.max(width, height);
  for (const pad of [maskPad, controlPad]) if (pad.empty) pad.resize(Math.round(width * long), Math.round(height * long));
  for (const slot of [init, reference]) slot.show();
  showSeen();
}

$("control-kind").addEventListener("change", showSeen);
on("model", refresh);
