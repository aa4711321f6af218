"use strict";
// Everything on the page is a function of two choices: which image, and which step. inside.js shows a step from inside.
const run = JSON.parse(document.getElementById("data").textContent);
const choice = { image: 0, step: 0 };
const last = run.steps.length - 1;
const $ = (id) => document.getElementById(id);
const { element, shape, number } = Inside;
const inside = new Inside(document.querySelector("main"), run);
const image = () => run.images[choice.image];

// The chart lies over the slider's track: step i is at the same place in both.
const across = (i) => Inside.across(i, run.steps.length);
const ends = [0.01, 100].map(Math.log); // beyond, an image looks like nothing but itself, or nothing but noise
const logs = run.steps.map((step) => Math.max(ends[0], Math.min(ends[1], step.sigma === null ? ends[1] : Math.log(step.sigma))));
const [low, high] = [Math.min(...logs), Math.max(...logs)];
const down = (i) => (high > low ? 4 + (92 * (high - logs[i])) / (high - low) : 50);

function drawChart() {
  const chart = $("chart");
  const guided = image().frames.map((each) => "cond" in each);
  if (guided.includes(true) && guided.includes(false)) { // an interval: it is shaded
    const width = last ? 1000 / last : 1000;
    guided.forEach((yes, i) => yes && chart.append(shape("rect", { class: "guided", x: across(i) - width / 2, y: 0, width, height: 100 })));
  }
  const points = run.steps.map((_, i) => `${across(i)} ${down(i)}`);
  chart.append(shape("path", { class: "curve", d: "M" + points.join("L") }));
}

function drawPicker() {
  $("picker").hidden = run.images.length < 2;
  run.images.forEach((each, k) => {
    const image = element("img", { src: each.result, alt: "" });
    const button = element("button", { type: "button", onclick: () => choose(k) }, image);
    button.setAttribute("aria-label", `Image ${k + 1}: ${each.caption || "no prompt"}`);
    $("picker").append(button);
  });
}

function choose(k) {
  choice.image = k;
  [...$("picker").children].forEach((button, i) => button.setAttribute("aria-pressed", String(i === k)));
  $("title").textContent = image().caption ? `“${image().caption}”` : "An image, from noise";
  $("instead").textContent = image().negative ? `and not “${image().negative}”` : "";
  $("instead").hidden = !image().negative;
  inside.image({ ...image(), guidance: run.guidance });
  show();
}

function show() {
  const step = run.steps[choice.step], frames = image().frames, now = frames[choice.step];
  $("slider").value = choice.step;
  $("slider").setAttribute("aria-valuetext", `step ${step.index + 1} of ${step.of}`);
  $("dot").style.left = `calc(8px + (100% - 16px) * ${across(choice.step) / 1000})`;
  $("dot").style.top = `${down(choice.step)}%`;
  const place = step.t_prev < 0 || step.s_prev === 0 ? "the image" : `t = ${number(step.t_prev)}`;
  $("now").replaceChildren(
    element("span", {}, element("b", { textContent: `step ${step.index + 1}` }), ` of ${step.of}`),
    element("span", { textContent: `t = ${number(step.t)}` }),
    element("span", { textContent: `σ = ${number(step.sigma)}` }),
    element("span", { className: "faint", textContent: `goes to ${place}` }));

  $("x_t").src = now.x_t;
  $("x0").src = now.x0;
  $("x_prev").src = now.x_prev ?? frames[choice.step + 1].x_t;
  $("x_t-note").textContent = `t = ${number(step.t)}, noise σ = ${number(step.sigma)}`;
  $("x_prev-note").textContent = place === "the image" ? "the image" : `${place}, noise σ = ${number(step.sigma_prev)}`;
  inside.show(step, now, frames);
}

function go(step) {
  choice.step = Math.max(0, Math.min(last, step));
  show();
}

let timer = null;
function play(on) {
  clearInterval(timer);
  timer = null;
  if (on) {
    if (choice.step === last) go(0);
    timer = setInterval(() => (choice.step < last ? go(choice.step + 1) : play(false)), Math.max(60, Math.min(400, 8000 / run.steps.length)));
  }
  $("play").setAttribute("aria-label", on ? "Pause" : "Play");
  $("sign").setAttribute("d", on ? "M4 2 H8 V18 H4 Z M12 2 H16 V18 H12 Z" : "M5 2 L18 10 L5 18 Z");
}

$("slider").max = last;
$("slider").oninput = () => { play(false); go(Number($("slider").value)); };
$("play").onclick = () => play(timer === null);
$("chart").onclick = (event) => {
  const box = $("chart").getBoundingClientRect();
  play(false);
  go(Math.round((last * (event.clientX - box.left)) / box.width));
};
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.type === "radio") return;
  const to = { ArrowLeft: choice.step - 1, ArrowRight: choice.step + 1, Home: 0, End: last }[event.key];
  if (to !== undefined) {
    event.preventDefault();
    play(false);
    go(to);
  } else if (event.key === " " && event.target.tagName !== "BUTTON") {
    event.preventDefault();
    play(timer === null);
  }
});

$("facts").replaceChildren(...run.facts.map(([name, value]) => element("span", { textContent: `${name} ${value}` })));
if (run.latent) {
  $("previews").hidden = false;
  $("previews").textContent = `This model works with latents of ${run.latent.join("×")} places. The pictures of its steps are previews, made of the latents by a linear map; the last x̂₀ and the image are decoded.`;
}
drawPicker();
drawChart();
choose(0);
