// The controls: from what a person has set to settings as the server knows them, and back.

import { post } from "./api.js";
import { $, element, nameOf, valueOf } from "./dom.js";
import * as inputs from "./inputs.js";
import { emit, model, models, on, store } from "./store.js";
import { Spelling } from "./words.js";

const SAMPLER_SETTINGS = { ddpm: ["variance"], ddim: ["eta"], euler: ["churn"], heun: ["churn"] };
const BRANCHABLE = ["prompt", "negative", "label", "guidance_scale", "guidance_interval", "sampler", "eta", "churn", "variance", "clip", "control", "control_kind", "control_scale", "reference", "reference_scale"];
const CLIPS = { clip: "cut off", dynamic: "scale into it", none: "leave" };
const EXAMPLES = ["a dog in a winter forest", "a red house by the sea at sunset", "a cat in a meadow", "a sailboat at night", "a white rabbit in the desert"];
const CARRIED = ["noise_level", "to", "vary"]; // settings without a control of their own, kept as they came

const value = (id) => ($(id).value.trim() === "" ? null : Number($(id).value));
const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);
const finite = (end) => (end === undefined || end === "inf" ? "" : end); // JSON has no number for "no end"
// Without words, labels or a reference there is nothing to guide by, and the model draws anything.
const unguided = ({ prompt, label, reference }) => !prompt?.length && !label?.length && !(reference && current()?.prompts);
let carried = {};

export const current = () => model($("model").value);
export const spelling = {
  prompt: new Spelling($("prompt"), $("prompt-advice"), current, true),
  negative: new Spelling($("negative"), $("negative-advice"), current, false),
};

export function collect() {
  const has = current() ?? {}, found = { model: $("model").value, count: value("count") ?? 1, seed: value("seed") ?? 0, sampler: $("sampler").value };
  if (value("steps") !== null) found.steps = value("steps");
  if (has.prompts) {
    found.prompt = lines($("prompt").value);
    if ($("negative").value.trim()) found.negative = $("negative").value.trim().replace(/\s+/g, " ");
  } else if (has.classes?.length) {
    found.label = [...$("label").querySelectorAll("input:checked")].map((each) => each.value);
  }
  if (value("guidance") !== null) found.guidance_scale = value("guidance");
  if (value("guidance-low") !== null || value("guidance-high") !== null) found.guidance_interval = [value("guidance-low") ?? 0, value("guidance-high") ?? "inf"];
  Object.assign(found, { spacing: $("spacing").value, clip: $("clip").value || has.clip });
  for (const name of SAMPLER_SETTINGS[found.sampler] ?? []) found[name] = name === "variance" ? $(name).value : value(name) ?? 0;
  Object.assign(found, inputs.collect());
  if (found.init && value("strength") !== null) found.strength = value("strength");
  if (found.mask) found.resample = value("resample") ?? 1;
  if (found.control) Object.assign(found, { control_scale: value("control-scale") ?? 1, control_kind: $("control-kind").value || "edges" });
  if (found.reference) found.reference_scale = value("reference-scale") ?? has.reference_scale;
  if (unguided(found)) found.guidance_scale = null;
  return { ...found, ...carried };
}

// What a setting is when it is not given.
function defaults() {
  const has = current() ?? {};
  return { prompt: [], negative: null, label: [], guidance_scale: has.guidance_scale ?? 1, guidance_interval: null, sampler: has.sampler ?? "ddim", eta: 0, churn: 0, variance: "small", clip: has.clip ?? "clip", control: null, control_kind: "edges", control_scale: 1, reference: null, reference_scale: has.reference_scale ?? 1 };
}

// What differs between the controls and a node's settings, of that which may change in a branch.
export function changes(settings) {
  const mine = collect(), otherwise = defaults(), found = {};
  if (unguided(mine)) mine.guidance_scale = 1;
  for (const key of BRANCHABLE) {
    if ((key === "control_kind" || key === "control_scale") && !mine.control) continue;
    if (key === "reference_scale" && !mine.reference) continue;
    const now = mine[key] ?? otherwise[key], then = settings[key] ?? otherwise[key];
    if (JSON.stringify(now) !== JSON.stringify(then)) found[key] = now;
  }
  return found;
}

// Puts settings into the controls; what they do not say becomes the default.
export async function fill(settings) {
  if (settings.model && model(settings.model) && settings.model !== $("model").value) await choose(settings.model);
  const has = current() ?? {};
  const text = { prompt: (settings.prompt ?? []).join("\n"), negative: settings.negative ?? "", count: settings.count ?? 1, seed: settings.seed ?? 0,
    sampler: settings.sampler ?? has.sampler, steps: settings.steps ?? has.steps, guidance: (unguided(settings) ? null : settings.guidance_scale) ?? has.guidance_scale,
    "guidance-low": settings.guidance_interval?.[0] ?? "", "guidance-high": finite(settings.guidance_interval?.[1]), spacing: settings.spacing ?? has.spacing,
    clip: settings.clip ?? has.clip, eta: settings.eta ?? 0, churn: settings.churn ?? 0, variance: settings.variance ?? "small", strength: settings.strength ?? "",
    resample: settings.resample ?? 1, "control-kind": settings.control_kind ?? "edges", "control-scale": settings.control_scale ?? 1, "reference-scale": settings.reference_scale ?? has.reference_scale };
  for (const [id, given] of Object.entries(text)) if (given !== undefined) $(id).value = given;
  if (!$("clip").value) $("clip").value = has.clip; // the picture's model is not here, and this one cannot do that
  const labels = (settings.label ?? []).map(String);
  $("label").querySelectorAll("input").forEach((each) => { each.checked = labels.includes(each.value); });
  carried = Object.fromEntries(CARRIED.filter((key) => settings[key] !== null && settings[key] !== undefined).map((key) => [key, settings[key]]));
  showCarried();
  await inputs.fill(settings);
  refresh();
}

function showCarried() {
  $("carried").hidden = !Object.keys(carried).length;
  $("carried").replaceChildren(...Object.entries(carried).map(([key, given]) => element("button", {
    type: "button", className: "word", textContent: `${nameOf(key)}: ${valueOf(key, given)} ×`,
    onclick: () => { delete carried[key]; showCarried(); emit("form"); }, aria: { label: `Leave out: ${nameOf(key)}` } })));
}

const options = (select, names) => {
  const before = select.value;
  select.replaceChildren(...names.map(([id, name]) => element("option", { value: id, textContent: name })));
  if (names.some(([id]) => id === before)) select.value = before;
};

// Chooses a model; one that is not loaded yet is loaded first.
export async function choose(id) {
  $("model").value = id;
  if (!current()?.loaded) {
    $("controls").classList.add("loading");
    emit("busy", "Loading the model …");
    try {
      const loaded = await post(`/api/models/${encodeURIComponent(id)}`);
      const at = models().findIndex((each) => each.id === id);
      if (at < 0) store.state.models.push(loaded);
      else store.state.models[at] = loaded;
      showModels();
      $("model").value = id;
    } finally {
      $("controls").classList.remove("loading");
      emit("busy", null);
    }
  }
  const has = current();
  options($("clip"), (has.clips ?? Object.keys(CLIPS)).map((each) => [each, CLIPS[each]]));
  $("clip").disabled = has.clips?.length === 1;
  for (const [field, name] of [["sampler", "sampler"], ["steps", "steps"], ["guidance", "guidance_scale"], ["reference-scale", "reference_scale"], ["spacing", "spacing"], ["clip", "clip"]]) {
    if (has[name] !== undefined && has[name] !== null) $(field).value = has[name];
  }
  fit();
}

// Only what the model can do is shown.
function fit() {
  const has = current() ?? {}, classes = has.classes ?? [], adapters = has.adapters ?? [];
  for (const name of ["prompt", "negative"]) $(name).closest(".field").hidden = !has.prompts;
  $("label").hidden = has.prompts || !classes.length;
  const checked = new Set([...$("label").querySelectorAll("input:checked")].map((each) => each.value));
  $("label").lastElementChild.replaceChildren(...classes.map((name) => element("label", {}, element("input", { type: "checkbox", value: String(name), checked: checked.has(String(name)) }), element("span", { textContent: name }))));
  const kinds = adapters.filter((each) => each !== "reference");
  $("control-box").hidden = !kinds.length;
  $("reference-box").hidden = !adapters.includes("reference");
  options($("control-kind"), kinds.map((each) => [each, each]));
  $("control-kind-field").hidden = kinds.length < 2;
  if (has.max_steps) $("steps").max = has.max_steps;
  $("model-size").textContent = has.width ? `${has.width} × ${has.height} pixels${has.latent ? `, in latents of ${has.latent[1]} × ${has.latent[0]}` : ""}` : "";
  const known = new Set(has.words ?? []);
  $("examples").replaceChildren(...EXAMPLES.filter((each) => each.split(" ").every((word) => known.has(word))).slice(0, 3)
    .map((each) => element("button", { type: "button", className: "word", textContent: each, onclick: () => { $("prompt").value = each; refresh(); emit("form"); } })));
  const words = has.prompts ? has.words ?? [] : [];
  $("known").hidden = !words.length;
  $("known").firstChild.textContent = `The ${words.length} words that it knows`;
  $("known").lastChild.textContent = [...words].sort().join(", ");
  for (const each of Object.values(spelling)) each.reset();
  emit("model");
  refresh();
}

// What depends on another control.
function refresh() {
  const mine = SAMPLER_SETTINGS[$("sampler").value] ?? [];
  for (const name of ["eta", "churn", "variance"]) $(name).closest(".field").hidden = !mine.includes(name);
  $("resample").closest(".field").hidden = !inputs.mask.id;
  $("strength").placeholder = inputs.mask.id ? "1" : "0.6";
  document.querySelectorAll("input[data-of]").forEach((slider) => {
    const field = $(slider.dataset.of);
    slider.value = field.value === "" ? field.placeholder : field.value;
    const part = (Number(slider.value) - slider.min) / (slider.max - slider.min);
    slider.style.setProperty("--part", `${100 * part}%`);
  });
  $("examples").hidden = $("prompt").value.trim() !== "";
  const line = $("prompt-line");
  line.hidden = !current()?.prompts;
  if (document.activeElement !== line) line.value = $("prompt").value.split("\n")[0];
  $("anything").hidden = $("prompt").value.trim() !== "" || Boolean(inputs.collect().reference);
  for (const each of Object.values(spelling)) each.check();
}

function showModels() {
  options($("model"), models().map((each) => [each.id, each.name]));
}

export async function begin() {
  const { samplers, spacings } = store.state;
  options($("sampler"), samplers.map((each) => [each, each]));
  options($("spacing"), spacings.map((each) => [each, each]));
  $("count").max = store.state.limits?.count ?? 64;
  showModels();
  await choose((models().find((each) => each.loaded) ?? models()[0]).id);
}

// On a phone the prompt is also a line above the button "Draw", for as long as its own field is out of sight.
$("prompt-line").addEventListener("input", () => {
  $("prompt").value = [$("prompt-line").value, ...$("prompt").value.split("\n").slice(1)].join("\n");
});
new IntersectionObserver(([entry]) => {
  if (document.activeElement !== $("prompt-line")) $("prompt-line").classList.toggle("double", entry.isIntersecting);
}, { rootMargin: "0px 0px -130px" }).observe($("prompt"));

$("controls").addEventListener("input", (event) => {
  const of = event.target.dataset?.of;
  if (of) $(of).value = event.target.value;
  refresh();
  emit("form");
});
$("model").addEventListener("change", () => choose($("model").value).then(() => emit("form"), (error) => emit("error", error)));
$("dice").addEventListener("click", () => {
  $("seed").value = crypto.getRandomValues(new Uint32Array(1))[0] >>> 1;
  emit("form");
});
on("models", () => { const before = $("model").value; showModels(); if (before !== $("model").value) choose($("model").value); });
on("form", refresh);
