"use strict";
// One step from inside: what guidance did, where each word is looked up, and the formulas with their numbers.
//
//     const inside = new Inside(root, { width: 32, height: 32 });  // root: an element of class "inside", with inside.html in it
//     inside.image({ caption: "a dog", words: ["a", "dog"], negative: "", guidance: 3 });
//     inside.show(step, frame, frames);
//
// step and frame are those of page.py's step_content. frames has one place for each step of the run, in order; frame is in
// it, and a place whose step is not known yet, or was drawn with other words, is undefined. So a run can be shown while it
// is drawn: curves end where the steps end. A section that no step has anything for is hidden. Everything is looked up
// inside root, so that a page can have several; and a page may forbid inline scripts and style attributes, as whatever
// depends on the run is set by script.
// Of a latent model, the height and width of its latents are given as well: numbers are those of a place of the latents.
// Left out: choosing the step, and its x_t, x0_hat and x_prev. The page shows those.

class Inside {
  static #made = 0;
  #about = null;
  #height = null; // of the word maps that are shown: a key of frame.attention
  #shown = null;
  #name;

  constructor(root, { width, height, latent = null }) {
    this.root = root;
    this.size = { width, height };
    this.latent = latent;
    this.#name = `inside-${++Inside.#made}`; // ids and radio buttons' names hold in the whole page
    for (const section of ["guidance", "words", "numbers"]) {
      const title = this.#find(section).querySelector("h2");
      title.id = `${this.#name}-${section}`;
      this.#find(section).setAttribute("aria-labelledby", title.id);
    }
    this.#find("ramp").firstElementChild.id = `${this.#name}-ramp`;
    root.style.setProperty("--inside-ramp", `url(#${this.#name}-ramp)`);
    for (const input of this.#find("view").querySelectorAll("input")) {
      input.name = `${this.#name}-view`;
      input.onchange = () => this.#find("words").classList.toggle("inside-heat", input.value === "heat");
    }
    if (latent) {
      this.#find("where").textContent = "All of it is linear, number by number: here is the place in the middle of the latents, in their channel 0.";
      this.#find("range").hidden = true;
    }
    Inside.mark(root, latent ? { height: latent[0], width: latent[1] } : this.size);
    this.clear();
  }

  // Another image: its caption, the words of it, the negative prompt ("" without) and the guidance scale.
  image(about) {
    this.#about = about;
    const w = Inside.number(about.guidance), without = about.negative ? "n" : "∅";
    this.#find("guidance-text").textContent = `The network is evaluated twice: with the prompt (c), and ${about.negative ? "with the negative prompt (n)" : "without a prompt (∅)"}. ` +
      `Their difference is what the prompt adds; guidance takes it ${w} times.${this.latent ? " The pictures are previews of the latents." : ""}`;
    this.#find("cond-name").textContent = about.caption ? `“${about.caption}”` : "what is asked for";
    this.#find("uncond-symbol").textContent = `x̂₀(${without})`;
    this.#find("uncond-name").textContent = about.negative ? `“${about.negative}”` : "without";
    this.#find("guided-symbol").textContent = `x̂₀(${without}) + ${w} Δ`;
    this.#find("maps").replaceChildren();
    this.clear();
  }

  // Show a step of the image.
  show(step, frame, frames) {
    this.#shown = [step, frame, frames];
    this.#showGuidance(frame, frames);
    this.#showWords(frame, frames);
    this.#showNumbers(step, frame);
  }

  // Hide all until the next show.
  clear() {
    this.#shown = null;
    for (const section of ["guidance", "words", "numbers"]) this.#find(section).hidden = true;
  }

  #find(name) {
    return this.root.querySelector(`.inside-${name}`);
  }

  #showGuidance(frame, frames) {
    this.#find("guidance").hidden = !frames.some((each) => each && "cond" in each);
    const guided = "cond" in frame; // not outside of an interval
    this.#find("guided-row").hidden = !guided;
    if (!guided) return;
    for (const name of ["cond", "uncond", "difference", "guided"]) this.#find(name).src = frame[name];
    this.#find("scale").textContent = `grey 0, black −${Inside.number(frame.scale)}, white +${Inside.number(frame.scale)}`;
  }

  #showWords(frame, frames) {
    const heights = Object.keys(frames.find((each) => each?.attention)?.attention ?? {});
    this.#find("words").hidden = heights.length === 0;
    if (heights.length === 0) return;
    if (!heights.includes(this.#height)) this.#height = heights.at(-1);
    this.#makeHeights(heights);
    if (!this.#find("maps").hasChildNodes()) this.#makeMaps();

    const looks = frame.attention?.[this.#height], now = Inside.across(frames.indexOf(frame), frames.length);
    [...this.#find("maps").children].forEach((tile, i) => {
      tile.hidden = !looks;
      if (!looks) return;
      tile.querySelector(".inside-under").src = frame.x0;
      tile.querySelector(".inside-map").src = looks[i].map;
      tile.querySelector("small").textContent = `${Inside.percent(looks[i].share)}, at most ${Inside.percent(looks[i].most)}`;
      const shares = Array.from(frames, (each) => each?.attention?.[this.#height]?.[i]?.share);
      tile.querySelector("path").setAttribute("d", Inside.curve(shares));
      tile.querySelector("line").setAttribute("x1", now);
      tile.querySelector("line").setAttribute("x2", now);
    });
    this.#find("padding").hidden = !looks;
    if (looks) {
      this.#find("padding").textContent = `${Inside.percent(looks.at(-1).share)} of the attention goes to places of the caption that have no word: ` +
        "whatever the network has learnt to find there.";
    }
  }

  // The choice among maps of different sizes, made anew only where it changes: a button may have the focus.
  #makeHeights(heights) {
    const made = [...this.#find("heights").querySelectorAll("input")];
    if (made.map((input) => input.value).join() !== heights.join()) {
      this.#find("heights").replaceChildren(...heights.map((height) => {
        const input = Inside.element("input", { type: "radio", name: `${this.#name}-height`, value: height });
        input.onchange = () => {
          this.#height = height;
          this.show(...this.#shown);
        };
        return Inside.element("label", {}, input, `${height}×${(height * this.size.width) / this.size.height} places`);
      }));
    }
    for (const input of this.#find("heights").querySelectorAll("input")) input.checked = input.value === this.#height;
    this.#find("heights").hidden = heights.length < 2;
  }

  // One tile for each word, and one for the places of the caption that no word has.
  #makeMaps() {
    const { element, shape } = Inside;
    this.#find("maps").replaceChildren(...[...this.#about.words, "no word"].map((name, i, names) => {
      const spark = shape("svg", { class: "inside-spark", viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" });
      spark.append(shape("path", {}), shape("line", { y1: 0, y2: 100 }));
      return element("figure", { className: i < names.length - 1 ? "inside-tile" : "inside-none" },
        element("div", { className: "inside-look" },
          element("img", { className: "inside-under", alt: "" }),
          element("img", { className: "inside-map", alt: `Where ${name} is looked up` })),
        element("figcaption", {}, element("span", { className: "inside-word", textContent: name }), element("small"), spark));
    }));
  }

  #showNumbers(step, frame) {
    const { element, number } = Inside;
    this.#find("numbers").hidden = false;
    this.#find("levels").replaceChildren(...[["a", step.a], ["s", step.s], ["σ = s/a", step.sigma], ["a′", step.a_prev], ["s′", step.s_prev], ["σ′", step.sigma_prev]]
      .map(([name, value]) => element("span", { textContent: `${name} = ${number(value)}` })));
    const classes = { what: "inside-what", formula: "inside-formula", numbers: "inside-values", note: "inside-note" };
    this.#find("lines").replaceChildren(...frame.lines.map((line) => element("div", {},
      ...Object.keys(classes).filter((part) => line[part]).map((part) => element("div", { className: classes[part], textContent: line[part] })))));
  }

  // Have images of class "inside-pixel" within an element mark the pixel, or the place of latents, that the numbers are of.
  static mark(element, { width, height }) {
    const share = (pixels, of) => `${(100 * pixels) / of}%`;
    element.style.setProperty("--px", share(Math.floor(width / 2), width));
    element.style.setProperty("--py", share(Math.floor(height / 2), height));
    element.style.setProperty("--pw", share(1, width));
    element.style.setProperty("--ph", share(1, height));
  }

  // Where step i of n stands, from left 0 to right 1000.
  static across(i, n) {
    return n > 1 ? (1000 * i) / (n - 1) : 0;
  }

  // The path through the shares, with a gap where one is undefined.
  static curve(shares) {
    const known = shares.filter((share) => share !== undefined);
    const top = Math.max(...known) || 1;
    const point = (share, i) => `${Inside.across(i, shares.length)} ${100 - (95 * share) / top}`;
    return shares.map((share, i) => share === undefined ? "" : (shares[i - 1] === undefined ? "M" : "L") + point(share, i)).join("");
  }

  static element(name, properties = {}, ...children) {
    const made = Object.assign(document.createElement(name), properties);
    made.append(...children);
    return made;
  }

  static shape(name, attributes) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  }

  static number(x) {
    if (x === null) return "∞";
    const text = Math.abs(x) >= 100 || (x !== 0 && Math.abs(x) < 0.001) ? x.toPrecision(3) : x.toFixed(3);
    return (Number.isInteger(Number(text)) ? String(Number(text)) : text).replace("-", "−");
  }

  static percent(x) {
    return (100 * x).toFixed(100 * x < 10 ? 1 : 0) + "%";
  }
}
