// What the page knows: the server's state, its drawings, and which step of which drawing is looked at.

const bus = new EventTarget();
export const on = (names, act) => names.split(" ").forEach((name) => bus.addEventListener(name, (event) => act(event.detail)));
export const emit = (name, detail) => bus.dispatchEvent(new CustomEvent(name, { detail }));

export const store = {
  state: null, // the answer of /api/state
  drawings: new Map(), // by id, in the order in which they came
  live: new Map(), // by drawing: the newest preview's {step, of, left, rate}
  levels: new Map(), // "drawing/node/step": {t, sigma}, of the steps seen
  previews: {}, // by drawing: how many were received
  compiling: null, // the server's line
  ordering: null, // a drawing that the server has not answered for yet: {cancelled}
  epoch: 0, // counts the starts of the server that were noticed: it gives its ids anew
};

// step: the index that is shown, −1 before the first; follow: the newest step is shown as it comes.
export const view = { drawing: null, node: 0, step: -1, image: 0, follow: true };

export const drawing = (id = view.drawing) => store.drawings.get(id) ?? null;
export const node = (number = view.node) => drawing()?.nodes[number] ?? null;
export const models = () => store.state?.models ?? [];
export const model = (id) => models().find((each) => each.id === id) ?? null;

// Steps before a branch leaves its parent are its parent's: the node that drew a step itself.
export function owner(of, number, step) {
  let at = of.nodes[number];
  while (at.parent !== null && step < at.start) at = of.nodes[at.parent];
  return at.id;
}

export function level(step, number = view.node) {
  const of = drawing(), told = of?.nodes[number]?.levels?.[step];
  if (told) return { t: told[0], sigma: told[1] };
  return of ? store.levels.get(`${of.id}/${owner(of, number, step)}/${step}`) ?? null : null; // seen, but not told yet
}

export function keep(made) {
  const before = store.drawings.get(made.id);
  before?.nodes.forEach((each, i) => { // a preview may have been faster than the event
    for (const what of ["done", "recorded"]) if (made.nodes[i]) made.nodes[i][what] = Math.max(made.nodes[i][what], each[what]);
  });
  store.drawings.set(made.id, made);
  emit("drawing", made);
  if (made.id === view.drawing) {
    if (!made.nodes[view.node]) select({ node: made.active });
    else if (view.follow) select({ step: node().done - 1 });
  }
}

// An answer to a request may come later than the events that followed it: those are newer.
let events = 0;
const newest = new Map(); // by a drawing's id, or "models" or "compiling": the number of the last event about it
const since = (before) => (what) => (newest.get(what) ?? 0) > before;

export const hear = (what) => newest.set(what, ++events);

export function told(made) {
  hear(made.id);
  keep(made);
}

export async function answered(asked) {
  const before = events, made = await asked, known = store.drawings.get(made.id);
  if (!known || !since(before)(made.id) || known.nodes.length < made.nodes.length) told(made);
  return store.drawings.get(made.id);
}

export async function loaded(asked) {
  const before = events, state = await asked, isNewer = since(before);
  if (store.state && isNewer("models")) state.models = store.state.models;
  if (!isNewer("compiling")) store.compiling = state.compiling;
  store.state = state;
  compare(state.drawings, isNewer);
  for (const made of [...state.drawings].reverse()) if (!store.drawings.has(made.id) || !isNewer(made.id)) keep(made);
}

export function select(changes) {
  const before = { ...view };
  Object.assign(view, changes);
  const of = drawing();
  if (of) {
    view.node = Math.min(view.node, of.nodes.length - 1);
    view.image = Math.min(view.image, of.count - 1);
    const last = node().done - 1;
    if (changes.node !== undefined && changes.node !== before.node && changes.step === undefined) view.step = last;
    view.step = Math.max(Math.min(0, last), Math.min(last, view.step));
    if (changes.follow === undefined && changes.step !== undefined) view.follow = view.follow && changes.step >= last;
  }
  emit("view", before);
}

// A person goes to a step; at the last one the picture goes on live.
export function go(step) {
  if (!node()) return;
  const last = node().done - 1;
  select({ step, follow: step >= last });
}

// After a loss of the connection: drop what the server no longer has, or all, if it is another start of the server.
// What was told since the server was asked stays.
function compare(made, isNewer) {
  const now = new Map(made.map((each) => [each.id, each])), all = [...store.drawings.values()], old = all.filter((each) => !isNewer(each.id));
  const same = (each) => JSON.stringify(now.get(each.id)?.nodes[0].settings) === JSON.stringify(each.nodes[0].settings);
  const there = old.filter((each) => now.has(each.id));
  if (old.length && (!there.length || !there.every((each) => same(each) && now.get(each.id).nodes.length >= each.nodes.length))) {
    for (const map of [store.drawings, store.live, store.levels]) map.clear();
    for (const each of all.filter((made) => isNewer(made.id))) store.drawings.set(each.id, each);
    store.previews = {};
    store.epoch++;
    emit("restart");
  } else for (const each of old) if (!now.has(each.id)) store.drawings.delete(each.id);
  if (view.drawing !== null && !store.drawings.has(view.drawing)) select({ drawing: null, node: 0, step: -1, image: 0, follow: true });
}

export function take(preview) {
  const { drawing: id, node: number, step, of: all, left, rate, t, sigma, recorded } = preview;
  store.previews[id] = (store.previews[id] ?? 0) + 1;
  store.live.set(id, { node: number, step, of: all, left, rate });
  store.levels.set(`${id}/${number}/${step}`, { t, sigma });
  const of = store.drawings.get(id), made = of?.nodes[number];
  if (of?.state === "queued") of.state = "running";
  if (made) Object.assign(made, { done: Math.max(made.done, step + 1), of: all, recorded: Math.max(made.recorded, recorded) });
  emit("preview", preview);
  if (id === view.drawing && number === view.node && view.follow && made) select({ step: made.done - 1, follow: true });
}
