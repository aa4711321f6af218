// Drawing on a canvas with a mouse, a finger, a pen or the keyboard.
//
// On the keyboard, the arrow keys move a mark, further with Shift, and the space bar or Enter sets the pen down and lifts it.

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

// begin(x, y), move(x, y), end(): what a stroke does.  x, y: from 0 to 1, of the canvas' width and height.
// active(): whether strokes are heard.
export function attachPen(canvas, { begin, move, end, active = () => true, step = 1 / 64 }) {
  let pointer = null, down = false, place = [0.5, 0.5];
  const mark = document.createElement("span");
  mark.className = "pen-mark";
  mark.setAttribute("aria-hidden", "true");
  canvas.after(mark);

  const at = (event) => {
    const box = canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  };
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button > 0 || pointer !== null || !active()) return;
    event.preventDefault();
    canvas.focus({ preventScroll: true, focusVisible: false });
    canvas.setPointerCapture(event.pointerId);
    lift();
    pointer = event.pointerId;
    begin(...at(event));
  });
  canvas.addEventListener("pointermove", (event) => {
    if (event.pointerId !== pointer) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const each of events.length ? events : [event]) move(...at(each));
  });
  for (const name of ["pointerup", "pointercancel", "lostpointercapture"]) {
    canvas.addEventListener(name, (event) => {
      if (event.pointerId !== pointer) return;
      pointer = null;
      end();
    });
  }

  const lift = () => {
    if (down) end();
    down = false;
    mark.classList.remove("down");
  };
  const show = () => Object.assign(mark.style, { left: `${100 * place[0]}%`, top: `${100 * place[1]}%` });
  canvas.addEventListener("keydown", (event) => {
    if (!active()) return;
    if (event.key in STEPS) {
      const far = step * (event.shiftKey ? 4 : 1);
      place = place.map((value, axis) => Math.min(1, Math.max(0, value + far * STEPS[event.key][axis])));
      if (down) move(...place);
    } else if (event.key === " " || event.key === "Enter") {
      if (down) lift();
      else {
        down = true;
        mark.classList.add("down");
        begin(...place);
      }
    } else return;
    event.preventDefault();
    event.stopPropagation();
    show();
  });
  canvas.addEventListener("blur", lift);
  show();
}
