// A canvas to draw on with mouse, finger or pen: strokes, an eraser, and undo.
//
// What is on it is a picture beneath (base), and the strokes since.  Undo takes back the last stroke, or a clearing.

import { element, shape } from "./dom.js";

const ICONS = {
  pen: "M3 17 L4 13 L13.5 3.5 a1.8 1.8 0 0 1 3 3 L7 16 Z",
  eraser: "M8 17 L3 12 a1.5 1.5 0 0 1 0 -2 L10 3 a1.5 1.5 0 0 1 2 0 L17 8 a1.5 1.5 0 0 1 0 2 L10 17 Z M6.5 6.5 L13.5 13.5",
  undo: "M7 4 L3 8 L7 12 M3 8 H12 a4.5 4.5 0 0 1 0 9 H8",
  clear: "M4 4 L16 16 M16 4 L4 16",
};

export function icon(name) {
  return shape("svg", { viewBox: "0 0 20 20", "aria-hidden": "true", class: "line" }, shape("path", { d: ICONS[name] }));
}

export class Pad {
  // colour: of the pen.  ground: a colour, or null for a clear one, which the eraser brings back.  changed(): after a stroke.
  constructor(canvas, { colour, ground, width, changed }) {
    Object.assign(this, { canvas, colour, ground, width, changed, base: null, strokes: [], erasing: false });
    this.context = canvas.getContext("2d", { willReadFrequently: true });
    this.resize(512, 512);
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) canvas.addEventListener(name, () => this.end());
  }

  get empty() {
    return !this.base && !this.strokes.some((each) => each !== "clear" && !each.erasing);
  }

  resize(width, height) {
    if (this.canvas.width !== width || this.canvas.height !== height || !this.sized) Object.assign(this.canvas, { width, height });
    this.sized = true;
    this.redraw();
  }

  // A point in the canvas's own pixels, with how wide the line is there: a pen presses, a finger does not.
  point(event) {
    const box = this.canvas.getBoundingClientRect();
    const press = event.pointerType === "pen" && event.pressure ? 0.4 + 1.2 * event.pressure : 1;
    return {
      x: ((event.clientX - box.left) * this.canvas.width) / box.width,
      y: ((event.clientY - box.top) * this.canvas.height) / box.height,
      width: this.width * press * (this.erasing ? 2.5 : 1),
    };
  }

  begin(event) {
    if (event.button > 0 || this.stroke) return;
    event.preventDefault();
    try { this.canvas.setPointerCapture(event.pointerId); } catch { /* a pointer that has gone already */ }
    this.stroke = { erasing: this.erasing || event.buttons === 32, pointer: event.pointerId, points: [this.point(event)] };
    this.strokes.push(this.stroke);
    this.line(this.stroke, 0);
  }

  move(event) {
    if (this.stroke?.pointer !== event.pointerId) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) {
      this.stroke.points.push(this.point(each));
      this.line(this.stroke, this.stroke.points.length - 1);
    }
  }

  end() {
    if (!this.stroke) return;
    this.stroke = null;
    this.changed();
  }

  // Draws the part of a stroke that ends at point i.
  line({ points, erasing }, i) {
    const to = points[i], from = points[Math.max(0, i - 1)], context = this.context;
    context.globalCompositeOperation = erasing && !this.ground ? "destination-out" : "source-over";
    context.strokeStyle = erasing ? this.ground ?? "#000" : this.colour;
    Object.assign(context, { lineWidth: to.width, lineCap: "round", lineJoin: "round" });
    context.beginPath();
    context.moveTo(from.x, from.y);
    context.lineTo(to.x + (i ? 0 : 0.01), to.y);
    context.stroke();
    context.globalCompositeOperation = "source-over";
  }

  fill() {
    const { width, height } = this.canvas;
    this.context.clearRect(0, 0, width, height);
    if (this.ground) {
      this.context.fillStyle = this.ground;
      this.context.fillRect(0, 0, width, height);
    }
  }

  redraw() {
    this.fill();
    if (this.base && !this.strokes.includes("clear")) {
      const { width, height } = this.canvas, scale = Math.max(width / this.base.width, height / this.base.height);
      const [w, h] = [this.base.width * scale, this.base.height * scale];
      this.context.drawImage(this.base, (width - w) / 2, (height - h) / 2, w, h); // its middle, as the model takes it
    }
    for (const stroke of this.strokes.slice(this.strokes.lastIndexOf("clear") + 1)) stroke.points.forEach((_, i) => this.line(stroke, i));
  }

  undo() {
    if (!this.strokes.pop()) return;
    this.redraw();
    this.changed();
  }

  clear() {
    if (!this.base && !this.strokes.length) return;
    this.strokes.push("clear");
    this.redraw();
    this.changed();
  }

  // Puts a picture beneath, and forgets the strokes.  null empties the pad.
  load(picture) {
    Object.assign(this, { base: picture, strokes: [] });
    this.redraw();
  }

  get blank() {
    const from = this.strokes.lastIndexOf("clear");
    return from >= 0 ? !this.strokes.slice(from + 1).some((each) => !each.erasing) : this.empty;
  }

  file() {
    return new Promise((resolve) => this.canvas.toBlob(resolve, "image/png"));
  }
}

// The pad's buttons: pen, eraser, undo, clear; name: what is drawn, for those who hear the page.
export function tools(pad, box, name, ...more) {
  const tool = (label, sign, act) => {
    const made = element("button", { type: "button", className: "tool", title: label, onclick: act, aria: { label: `${label} (${name})` } });
    made.append(icon(sign));
    return made;
  };
  const choose = (erasing) => {
    pad.erasing = erasing;
    pen.setAttribute("aria-pressed", String(!erasing));
    eraser.setAttribute("aria-pressed", String(erasing));
  };
  const pen = tool("Pen", "pen", () => choose(false));
  const eraser = tool("Eraser", "eraser", () => choose(true));
  const size = element("input", { type: "range", min: 2, max: 96, value: pad.width, aria: { label: `Width of the pen (${name})` } });
  size.oninput = () => { pad.width = Number(size.value); };
  box.append(pen, eraser, tool("Undo", "undo", () => pad.undo()), tool("Clear", "clear", () => pad.clear()), size, ...more);
  choose(false);
}
